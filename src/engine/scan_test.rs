//! adjusttimers lets others have the P's lock between two steps. Here one thread does what all
//! of them do, in random order: steps of a scan, and between them whatever changes a heap. After
//! each operation every entry that has an earlier time than its key is looked for: it stands
//! where the scan will come, or somebody has noted its time.

mod frees;
mod nested;
mod passes;
mod published;
mod repairs;
mod short;
mod verified;

use super::adjust::scan_step;
use super::modtimer::{Arm, deltimer, modtimer, set_slack};
use super::run::{check_timers, runtimer};
use super::sweep::{sweep, trim};
use super::timer::{Func, MAX_WHEN, State, Timer, TimerRef};
use super::{Block, Counter, Procs, Timers, cleantimers, move_timers, verify_timer_heap};
use crate::host::{Hooks, Host};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::{SystemTime, UNIX_EPOCH};

/// An operation; timers by number, modulo how many there are; times after now.
#[derive(Clone, Debug)]
enum Op {
    Arm(usize, i64),
    Tick(usize, i64),
    /// Many in one go, all by as much earlier or later.
    Shift(usize, usize, i64),
    Del(usize),
    DelMany(usize, usize),
    Slack(usize),
    /// Begins a scan if none is under way, and goes on with it by so many entries.
    Scan(usize),
    /// Time goes on so far, then a pass is made.
    Check(i64),
    Runtimer(i64),
    Clean,
    Sweep,
    Trim,
    /// All timers go to the other P, and come back.
    Adopt,
    /// What the callback of this timer does when it is called next.
    Act(usize, Box<Op>),
}

fn plain() -> impl Strategy<Value = Op> {
    let timer = || 0usize..128;
    let some = || 1usize..60;
    prop_oneof![
        6 => (timer(), -20i64..120).prop_map(|(i, d)| Op::Arm(i, d)),
        1 => (timer(), -20i64..120).prop_map(|(i, d)| Op::Tick(i, d)),
        4 => (timer(), some(), -100i64..40).prop_map(|(i, n, d)| Op::Shift(i, n, d)),
        2 => timer().prop_map(Op::Del),
        2 => (timer(), some()).prop_map(|(i, n)| Op::DelMany(i, n)),
        1 => timer().prop_map(Op::Slack),
        8 => (1usize..12).prop_map(Op::Scan),
        2 => Just(Op::Clean),
        3 => Just(Op::Sweep),
        1 => Just(Op::Trim),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => plain(),
        5 => (0i64..12).prop_map(Op::Check),
        1 => (0i64..30).prop_map(Op::Runtimer),
        1 => Just(Op::Adopt),
        4 => ((0usize..128), plain()).prop_map(|(i, op)| Op::Act(i, Box::new(op))),
    ]
}

/// What a timer calls is called with one of these.
struct Argument {
    world: Cell<*const World>,
    act: RefCell<Option<Op>>,
}

/// A sched as small as can be: two Ps, the second one only to move timers to and fro.
struct World {
    host: Host,
    ps: [Timers; 2],
    block: Block,
    timers: Vec<Timer>,
    args: Vec<Argument>,
    now: Cell<i64>,
    calls: Cell<u64>,
    /// Of all timers.
    generation: Cell<u32>,
    /// Nodes given back, and those among the thread's own.
    given: Cell<usize>,
    given_here: Cell<usize>,
    /// The time that the last wake was for.
    woken: Cell<i64>,
    /// The Ps that have timers.
    mask: Cell<u32>,
    /// Passes that hold a P now, and the most at once.
    held: Cell<usize>,
    most_held: Cell<usize>,
    passes_done: Cell<usize>,
}

// SAFETY: one thread only uses it.
unsafe impl Sync for World {}

impl Procs for World {
    fn host(&self) -> &Host {
        &self.host
    }
    fn now(&self) -> i64 {
        self.now.get()
    }
    fn of(p: &Timers) -> &World {
        assert!(!p.owner.is_null(), "no short path is taken in random order");
        // SAFETY: with_hooks has set it.
        unsafe { &*p.owner.cast() }
    }
    fn quick_p(p: &Timers) -> Option<&Timers> {
        Some(&Self::of(p).ps[0])
    }
    fn pick(&self, _last: u32) -> &Timers {
        &self.ps[0]
    }
    fn wake(&self, _p: &Timers, when: i64) {
        self.woken.set(when);
    }
    fn set_mask(&self, p: u32, on: bool) {
        self.mask
            .set(self.mask.get() & !(1 << p) | (on as u32) << p);
    }
    fn hold(&self, _p: &Timers) {
        self.held.set(self.held.get() + 1);
        self.most_held
            .set(self.most_held.get().max(self.held.get()));
    }
    fn unhold(&self, _p: &Timers) {
        self.held.set(self.held.get() - 1);
    }
    fn pass_done(&self, _p: &Timers) {
        self.passes_done.set(self.passes_done.get() + 1);
    }
    fn block(&self) -> &Block {
        &self.block
    }
    fn verifying(&self) -> bool {
        false
    }
    fn generation(&self, _t: TimerRef) -> u32 {
        self.generation.get()
    }
    fn raise_generation(&self, _t: TimerRef) {
        self.generation.set(self.generation.get() + 1);
    }
    fn give_back(&self, _t: TimerRef) {
        self.given.set(self.given.get() + 1);
    }
    fn give_back_to(&self, _block: &Block, _t: TimerRef) {
        self.given_here.set(self.given_here.get() + 1);
    }
}

unsafe extern "C-unwind" fn called(arg: *mut c_void, _seq: usize, delay: i64) {
    assert!(delay >= 0, "called too early");
    // SAFETY: an Argument of the World, both of which outlive the calls.
    let (w, act) = unsafe {
        let a = &*arg.cast::<Argument>();
        (&*a.world.get(), a.act.take())
    };
    w.calls.set(w.calls.get() + 1);
    if let Some(op) = act {
        w.apply(&op);
    }
}

impl World {
    fn new(n: usize, hooks: Hooks) -> Self {
        let w = World {
            host: Host::new(hooks),
            ps: [0, 1].map(|p| Timers::new(std::ptr::null(), p)),
            block: Block::new(0, false, false),
            timers: (0..n).map(|_| Timer::new()).collect(),
            args: (0..n)
                .map(|_| Argument {
                    world: Cell::new(std::ptr::null()),
                    act: RefCell::new(None),
                })
                .collect(),
            now: Cell::new(1000),
            calls: Cell::new(0),
            generation: Cell::new(1),
            given: Cell::new(0),
            given_here: Cell::new(0),
            woken: Cell::new(0),
            mask: Cell::new(0),
            held: Cell::new(0),
            most_held: Cell::new(0),
            passes_done: Cell::new(0),
        };
        for tm in &w.ps {
            tm.lock(&w).dead = false;
        }
        w
    }

    /// Arms all.
    fn begin(&self) {
        for (i, a) in self.args.iter().enumerate() {
            a.world.set(self);
            let f: Func = called;
            let arg = std::ptr::from_ref(a).cast_mut().cast();
            self.t(i).init(&self.ps[0], f, arg, 0);
            self.arm(i, 1000 + 37 * (i as i64 + 1) % 401, 0);
        }
    }

    fn t(&self, i: usize) -> TimerRef {
        // SAFETY: it lives as long as the World.
        unsafe { TimerRef::new(NonNull::from(&self.timers[i % self.timers.len()])) }
    }

    fn arm(&self, i: usize, when: i64, period: i64) {
        let arm = Arm::at(when.max(1), period);
        modtimer(self, self.t(i), None, None, &arm).unwrap();
    }

    fn del(&self, i: usize) {
        deltimer(self, self.t(i), None).unwrap();
    }

    fn when(&self, i: usize) -> i64 {
        let t = self.t(i);
        let l = t.lock(&self.host);
        let when = l.when;
        l.put_back();
        when
    }

    fn p(&self) -> &Timers {
        &self.ps[0]
    }

    /// Goes on with the scan under way, if there is one.
    fn scan(&self, steps: usize) {
        scan_step(&mut self.p().lock(self), steps);
    }

    fn scan_to_end(&self) {
        while self.p().lock(self).scan.is_some() {
            self.scan(1);
        }
    }

    /// A pass that needs a scan of its own waits for the end of the one under way.
    fn wait_for_scan(&self) {
        let h = self.p().lock(self);
        let noted = self.p().modified_earliest().min(h.folded);
        drop(h);
        if noted <= self.now.get() {
            self.scan_to_end();
        }
    }

    fn apply(&self, op: &Op) {
        let now = self.now.get();
        match op {
            Op::Arm(i, d) => self.arm(*i, now + d, 0),
            Op::Tick(i, d) => self.arm(*i, now + d, 17),
            Op::Shift(from, n, d) => {
                for i in *from..from + n {
                    match self.when(i) {
                        0 => self.arm(i, now + 80, 0),
                        when => self.arm(i, when + d, 0),
                    }
                }
            }
            Op::Del(i) => self.del(*i),
            Op::DelMany(from, n) => (*from..from + n).for_each(|i| self.del(i)),
            Op::Slack(i) => set_slack(self, self.t(*i), None, 64).unwrap(),
            Op::Scan(steps) => {
                let mut h = self.p().lock(self);
                if h.scan.is_none() {
                    h.begin_scan();
                }
                drop(h);
                self.scan(*steps);
            }
            Op::Check(d) => {
                self.now.set(now + d);
                self.wait_for_scan();
                check_timers(self, self.p(), now + d);
            }
            Op::Runtimer(d) => {
                self.now.set(now + d);
                self.wait_for_scan();
                runtimer(self, self.p(), now + d);
            }
            Op::Clean => cleantimers(&mut self.p().lock(self)),
            Op::Sweep => drop(sweep(&mut self.p().lock(self))),
            Op::Trim => {
                trim(self, self.p());
            }
            Op::Adopt => {
                for (to, from) in [(1, 0), (0, 1)] {
                    while self.ps[from].num_timers() > 0 {
                        move_timers(self, &self.ps[to], &self.ps[from]).unwrap();
                    }
                }
            }
            Op::Act(i, op) => {
                let i = i % self.args.len();
                *self.args[i].act.borrow_mut() = Some((**op).clone());
            }
        }
    }

    /// What must hold after each operation. Returns how many timers are armed.
    fn check(&self) -> Result<i64, String> {
        let tm = self.p();
        let wake = tm.wake_time();
        let mut h = tm.lock(self);
        if let Some((rule, _)) = verify_timer_heap(&mut h) {
            return Err(format!("{rule:?} is broken"));
        }
        let mut armed = 0;
        for i in 0..h.heap.total() {
            let e = h.heap.get(i);
            let l = e.t.lock(&self.host);
            let (when, due, state) = (l.when, l.due(), l.state);
            l.put_back();
            armed += (when != 0) as i64;
            // What waits behind the heap for the next pass is not looked at by a scan, but is
            // due by its key too.
            if state == State::Waiting || when == 0 || due >= e.when || e.when <= self.now.get() {
                continue;
            }
            let noted = match h.scan {
                Some(line) if i < line => h.left,
                _ => h.folded,
            };
            let noted = noted.min(tm.modified_earliest());
            if noted > due {
                let scan = h.scan;
                return Err(format!(
                    "position {i}, key {}, due at {due}, is forgotten: the scan stands at {scan:?}, noted is {noted}",
                    e.when
                ));
            }
            if wake > due {
                return Err(format!("{due} is due, and the wake time is {wake}"));
            }
        }
        Ok(armed)
    }

    /// When the scan is over, all that is armed runs, and the books are right.
    fn end(&self) -> Result<(), String> {
        self.scan_to_end();
        let armed = self.check()?;
        self.args.iter().for_each(|a| drop(a.act.take()));
        let before = self.calls.get();
        check_timers(self, self.p(), MAX_WHEN - 1);
        let ran = (self.calls.get() - before) as i64;
        if ran != armed {
            return Err(format!("{armed} were armed, {ran} ran"));
        }
        let get = |c| self.block.get(c) as i64;
        let ended = get(Counter::Fired) + get(Counter::Stopped) + get(Counter::Replaced);
        let pending = self.check()?;
        if get(Counter::Armed) != ended + pending {
            return Err("the books are wrong".into());
        }
        Ok(())
    }
}

fn play(n: usize, ops: &[Op]) -> Result<(), String> {
    let w = World::new(n, Hooks::default());
    w.begin();
    let mut result = Ok(());
    for (i, op) in ops.iter().enumerate() {
        w.apply(op);
        if let Err(why) = w.check() {
            result = Err(format!("operation {i}, {op:?}: {why}"));
            break;
        }
    }
    let result = result.and_then(|()| w.end());
    for tm in &w.ps {
        tm.release_heap(&w.host);
    }
    result
}

#[test]
fn a_scan_in_steps_misses_nothing() {
    let env = std::env::var("GOTIMER_SEED").ok();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = env
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| clock.map_or(1, |d| d.as_nanos() as u64));
    let cases = std::env::var("GOTIMER_CASES").ok();
    let config = Config {
        cases: cases.and_then(|s| s.parse().ok()).unwrap_or(3000),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let timers = prop_oneof![2 => 2usize..12, 2 => 12usize..40, 1 => 40usize..128];
    let result = TestRunner::new(config).run(&(timers, vec(op(), 1..60)), |(n, ops)| {
        play(n, &ops).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (n, ops))) => {
            panic!(
                "replay: GOTIMER_SEED={seed}\n{n} timers: {ops:?}\n{}",
                why.message()
            )
        }
        Err(e) => panic!("replay: GOTIMER_SEED={seed}\n{e}"),
    }
}

/// A World with so many timers; all that was armed in it comes, and the books are right.
fn with_world(n: usize, test: impl FnOnce(&World)) {
    with_hooks(n, Hooks::default(), test);
}

/// The same, with these hooks.
fn with_hooks(n: usize, hooks: Hooks, test: impl FnOnce(&World)) {
    let mut w = World::new(n, hooks);
    let at = &raw mut w;
    // SAFETY: nobody else uses it yet.
    for tm in unsafe { &mut (*at).ps } {
        tm.owner = at.cast();
    }
    // SAFETY: from here on it is only read.
    let w = unsafe { &*at };
    w.begin();
    test(w);
    w.end().unwrap();
    for tm in &w.ps {
        tm.release_heap(&w.host);
    }
}

/// Others re-arm all timers to later times again and again, quicker than the scan can move them.
#[test]
fn a_scan_comes_to_its_end() {
    const N: usize = 100;
    with_world(N, |w| {
        w.apply(&Op::Scan(1));
        let mut looks = 1;
        while w.p().lock(w).scan.is_some() {
            w.apply(&Op::Shift(0, N, 1));
            w.scan(1);
            looks += 1;
            assert!(looks <= 2 * N + 2, "it does not");
        }
    });
}

/// For `a_pass_comes_to_its_end`: the World, while others are to re-arm all its timers each time
/// when one is locked; and how often they have.
struct Hasty {
    world: Cell<*const World>,
    times: Cell<usize>,
}

unsafe extern "C" fn all_later(ctx: *mut c_void) {
    // SAFETY: a Hasty, which outlives the World.
    let hasty = unsafe { &*ctx.cast::<Hasty>() };
    // SAFETY: null or the World, which has this hook.
    if let Some(w) = unsafe { hasty.world.replace(std::ptr::null()).as_ref() } {
        w.apply(&Op::Shift(1, w.timers.len() - 1, 1));
        hasty.times.set(hasty.times.get() + 1);
        if hasty.times.get() < 10 * w.timers.len() {
            hasty.world.set(w);
        }
    }
}

/// The same for a pass that repairs stale heads.
#[test]
fn a_pass_comes_to_its_end() {
    const N: usize = 100;
    let hasty = Hasty {
        world: Cell::new(std::ptr::null()),
        times: Cell::new(0),
    };
    let w = World::new(
        N,
        Hooks {
            ctx: std::ptr::from_ref(&hasty).cast_mut().cast(),
            acquirem: Some(all_later),
            ..Hooks::default()
        },
    );
    w.begin();
    w.apply(&Op::Shift(1, N - 1, 1));
    w.arm(0, 1010, 0);
    hasty.world.set(&w);
    w.apply(&Op::Check(20));
    hasty.world.set(std::ptr::null());
    assert_eq!(w.calls.get(), 1);
    let times = hasty.times.get();
    assert!(times <= 4 * N, "it repaired heads {times} times");
    w.end().unwrap();
    for tm in &w.ps {
        tm.release_heap(&w.host);
    }
}
