//! The world of a model: a sched as small as can be. Two Ps, a few timers, no clock, perhaps
//! the runtime's poller; and what must hold at its end.

mod poller;

use super::ops::{Op, Out};
use crate::engine::{
    ArgRef, Arm, Block, Counter, DETACHED, DropFn, FREED, Func, HAS_DROP, MAX_WHEN, Procs,
    SHUTDOWN, State, Timer, TimerRef, Timers, check_timers, modtimer, move_timers, timer_free,
    trim, verify_timer_heap,
};
use crate::error::Result;
use crate::host::{Hooks, Host};
use crate::rt_deadline::Deadline;
use crate::sync::{AtomicI64, AtomicU32, Ordering, RawLock, os_yield, rank};
#[cfg(gt_loom)]
use loom as checker;
#[cfg(gt_shuttle)]
use shuttle as checker;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64 as Time, AtomicPtr, AtomicU32 as Count, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};

/// So many Ps.
pub(super) const PS: usize = 2;

/// What a timer calls is called with one of these. What they count, they count with std's
/// atomics, which the checker does not see.
struct Argument {
    mini: AtomicPtr<Mini>,
    calls: Count,
    drops: Count,
    /// Not 0: others run while it is called.
    slow: Count,
    /// What the next call does.
    act: Mutex<Option<Op>>,
    /// And after that.
    then: Mutex<Option<Then>>,
    /// Read by calls, written by the drop and by who has waited for the calls: loom looks for
    /// races.
    #[cfg(gt_loom)]
    data: loom::cell::UnsafeCell<u32>,
}

type Then = Box<dyn FnOnce(&Mini) + Send>;

// SAFETY: `data` is there to be checked for races.
unsafe impl Sync for Argument {}

impl Argument {
    fn new() -> Self {
        Argument {
            mini: AtomicPtr::new(std::ptr::null_mut()),
            calls: Count::new(0),
            drops: Count::new(0),
            slow: Count::new(0),
            act: Mutex::new(None),
            then: Mutex::new(None),
            #[cfg(gt_loom)]
            data: loom::cell::UnsafeCell::new(0),
        }
    }

    fn read(&self) {
        #[cfg(gt_loom)]
        self.data.with(|_| ());
    }

    fn write(&self) {
        #[cfg(gt_loom)]
        self.data.with_mut(|_| ());
    }
}

checker::thread_local! {
    /// Not null: the thread is a worker in a pass, or in a callback.
    static WORKER: Cell<*const Mini> = Cell::new(std::ptr::null());
    /// What the thread does when it next waits for another one.
    static WHEN_IT_WAITS: Cell<Option<Box<dyn FnOnce()>>> = Cell::new(None);
    /// Who is calling.
    static CONTEXT: Cell<usize> = Cell::new(1);
}

/// What the calling thread does when it next waits for another one, instead of giving way.
pub(super) fn when_it_waits(f: impl FnOnce() + 'static) {
    WHEN_IT_WAITS.with(|w| w.set(Some(Box::new(f))));
}

unsafe extern "C" fn osyield(_: *mut c_void) {
    match WHEN_IT_WAITS.with(Cell::take) {
        Some(f) => f(),
        None => os_yield(),
    }
}

/// From now on the calling thread is this context.
pub(super) fn set_context(context: usize) {
    CONTEXT.with(|c| c.set(context));
}

unsafe extern "C" fn current_context(_: *mut c_void) -> usize {
    CONTEXT.with(Cell::get)
}

pub(super) struct Mini {
    host: Host,
    ps: [Timers; PS],
    /// Of each P: is it in the list of live ones?
    alive: [AtomicU32; PS],
    block: Block,
    timers: Box<[Timer]>,
    args: Vec<Argument>,
    generations: Vec<Count>,
    /// How often each timer was given back.
    given_back: Vec<Count>,
    /// The timerp_mask.
    mask: [AtomicU32; PS],
    /// The runtime's poller, if the model has one: what it stands at, and its timerfd.
    poller: Option<(Deadline, AtomicI64)>,
    /// What is due may wait so long: a callback has handed it over, or has armed it. 0: nothing.
    put_off: Time,
    clock: Time,
    /// The latest time for which a pass was made.
    latest: Time,
    /// What stands for the registry's lock: two moves never cross.
    registry: RawLock,
    /// What the calls did.
    acts: Mutex<Vec<Out>>,
    /// Calls of the wake hook for each P. The checker sees them: who has been woken has
    /// synchronised with who woke him.
    wakes: [AtomicU32; PS],
}

// SAFETY: timers are Sync; all else is atomic or the checker's.
unsafe impl Send for Mini {}
// SAFETY: as above.
unsafe impl Sync for Mini {}

impl Procs for Mini {
    fn host(&self) -> &Host {
        &self.host
    }
    fn now(&self) -> i64 {
        self.clock.load(SeqCst).max(self.latest())
    }
    fn of(p: &Timers) -> &Mini {
        // SAFETY: Mini::build has put it there; it outlives its Ps.
        unsafe { &*p.owner.cast() }
    }
    fn pick(&self, last: u32) -> &Timers {
        // Relaxed: who sees a dead P in the list finds that out when he has its lock.
        match self.alive[last as usize].load(Ordering::Relaxed) {
            0 => &self.ps[1 - last as usize],
            _ => &self.ps[last as usize],
        }
    }
    fn wake(&self, p: &Timers, _when: i64) {
        self.wakes[p.index as usize].fetch_add(1, Ordering::AcqRel);
        match (self.has_poller(), WORKER.with(Cell::get).is_null()) {
            (false, _) => {}
            (_, true) => drop(self.arm_poller()),
            (_, false) => self.arm_poller_in_call(),
        }
    }
    fn set_mask(&self, p: u32, on: bool) {
        self.mask[p as usize].store(on as u32, Ordering::Release);
    }
    fn hold(&self, _p: &Timers) {}
    fn unhold(&self, _p: &Timers) {}
    fn pass_done(&self, _p: &Timers) {}
    fn block(&self) -> &Block {
        &self.block
    }
    fn quick_p(p: &Timers) -> Option<&Timers> {
        Some(&Self::of(p).ps[0])
    }
    fn verifying(&self) -> bool {
        false
    }
    fn generation(&self, t: TimerRef) -> u32 {
        self.generations[self.number(t)].load(SeqCst)
    }
    fn raise_generation(&self, t: TimerRef) {
        self.generations[self.number(t)].fetch_add(1, SeqCst);
    }
    fn give_back(&self, t: TimerRef) {
        let before = self.given_back[self.number(t)].fetch_add(1, SeqCst);
        assert!(before + 1 < self.generation(t), "given back twice");
        t.refs.store(0, Ordering::Relaxed);
        // SAFETY: nobody refers to it. If somebody does, loom sees the race.
        unsafe { *t.link() = 0 };
    }
}

/// What each timer of a model calls.
unsafe extern "C-unwind" fn called(arg: *mut c_void, _seq: usize, delay: i64) {
    assert!(delay >= 0, "called too early");
    // SAFETY: arg is an Argument of the Mini, which outlives its timers' calls.
    let a = unsafe { &*arg.cast::<Argument>() };
    a.read();
    if a.slow.load(SeqCst) > 0 {
        os_yield();
    }
    assert_eq!(a.drops.load(SeqCst), 0, "called after the drop");
    a.calls.fetch_add(1, SeqCst);
    // SAFETY: the Mini, which outlives its timers' calls.
    let mini = unsafe { &*a.mini.load(SeqCst) };
    let act = a.act.lock().unwrap().take();
    if let Some(op) = act {
        let out = op.run(mini);
        mini.acts.lock().unwrap().push(out);
        a.read(); // whatever was done, the call has not ended
    }
    let then = a.then.lock().unwrap().take();
    if let Some(f) = then {
        f(mini);
        a.read();
    }
}

unsafe extern "C" fn dropped(arg: *mut c_void) {
    // SAFETY: as above.
    let a = unsafe { &*arg.cast::<Argument>() };
    a.write();
    assert_eq!(a.drops.fetch_add(1, SeqCst), 0, "dropped twice");
}

/// Corruption fails the model: the panic cannot leave, but is seen on its way.
unsafe extern "C" fn throw(_: *mut c_void, text: *const c_char) {
    // SAFETY: a C string.
    panic!("{}", unsafe { CStr::from_ptr(text) }.to_string_lossy());
}

impl Mini {
    /// Two Ps, of which the timers use the first unless a model says otherwise, and `n`
    /// timers; with drop functions if asked.
    pub(super) fn new(n: usize, with_drop: bool) -> Arc<Mini> {
        Self::build(n, with_drop, false)
    }

    /// The same with the runtime's poller, whose timerfd is not set.
    pub(super) fn with_poller(n: usize) -> Arc<Mini> {
        Self::build(n, false, true)
    }

    pub(super) fn build(n: usize, with_drop: bool, poller: bool) -> Arc<Mini> {
        let hooks = Hooks {
            throw_: Some(throw),
            current_context: Some(current_context),
            osyield: Some(osyield),
            before_call: poller.then_some(poller::before_call),
            ..Hooks::default()
        };
        let mini = Arc::new_cyclic(|mini: &Weak<Mini>| Mini {
            host: Host::new(hooks),
            ps: std::array::from_fn(|p| Timers::new(mini.as_ptr().cast(), p as u32)),
            alive: std::array::from_fn(|_| AtomicU32::new(1)),
            block: Block::new(0, false, false),
            timers: (0..n).map(|_| Timer::new()).collect(),
            args: (0..n).map(|_| Argument::new()).collect(),
            generations: (0..n).map(|_| Count::new(1)).collect(),
            given_back: (0..n).map(|_| Count::new(0)).collect(),
            mask: std::array::from_fn(|_| AtomicU32::new(0)),
            poller: poller.then(|| (Deadline::new(), AtomicI64::new(MAX_WHEN))),
            put_off: Time::new(0),
            clock: Time::new(1),
            latest: Time::new(0),
            registry: RawLock::new(rank::REGISTRY),
            acts: Mutex::new(Vec::new()),
            wakes: std::array::from_fn(|_| AtomicU32::new(0)),
        });
        for p in &mini.ps {
            p.lock(&*mini).dead = false;
        }
        for i in 0..n {
            mini.init(i, with_drop);
        }
        mini
    }

    /// Timer `i` gets a new owner.
    pub(super) fn init(&self, i: usize, with_drop: bool) {
        let f: Func = called;
        let d: DropFn = dropped;
        let a = &self.args[i];
        a.mini.store(std::ptr::from_ref(self).cast_mut(), SeqCst);
        let arg: *mut c_void = std::ptr::from_ref(a).cast_mut().cast();
        if with_drop {
            let b = ArgRef::new(&self.host, arg, d).unwrap();
            self.t(i).init(self.p(), f, b.as_field(), HAS_DROP);
        } else {
            self.t(i).init(self.p(), f, arg, 0);
        }
    }

    pub(super) fn p(&self) -> &Timers {
        &self.ps[0]
    }

    pub(super) fn p_of(&self, p: usize) -> &Timers {
        &self.ps[p]
    }

    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn t(&self, i: usize) -> TimerRef {
        // SAFETY: it lives as long as the Mini.
        unsafe { TimerRef::new(NonNull::from(&self.timers[i])) }
    }

    fn number(&self, t: TimerRef) -> usize {
        let mut all = self.timers.iter();
        all.position(|x| std::ptr::eq(x, t.as_ptr())).unwrap()
    }

    /// What the next call of timer `i` does.
    pub(super) fn act(&self, i: usize, op: Option<Op>) {
        *self.args[i].act.lock().unwrap() = op;
    }

    /// And after that.
    pub(super) fn then(&self, i: usize, f: impl FnOnce(&Mini) + Send + 'static) {
        *self.args[i].then.lock().unwrap() = Some(Box::new(f));
    }

    /// From now on each call of timer `i` lets others run.
    pub(super) fn slow(&self, i: usize) {
        self.args[i].slow.store(1, SeqCst);
    }

    /// What the calls did.
    pub(super) fn acts(&self) -> Vec<Out> {
        self.acts.lock().unwrap().clone()
    }

    /// Arms timer `i`; by its first id, so that a freed one says so. True: was pending.
    pub(super) fn arm(&self, i: usize, when: i64) -> Result<bool> {
        modtimer(self, self.t(i), Some(1), None, &Arm::at(when, 0))
    }

    /// The same on this P, if it is in no heap.
    pub(super) fn arm_on(&self, p: usize, i: usize, when: i64) -> Result<bool> {
        let on = Some(&self.ps[p]);
        modtimer(self, self.t(i), Some(1), on, &Arm::at(when, 0))
    }

    pub(super) fn wakes_of(&self, ps: &[usize]) -> u32 {
        ps.iter()
            .map(|&p| self.wakes[p].load(Ordering::Acquire))
            .sum()
    }

    pub(super) fn wakes(&self) -> i64 {
        self.wakes_of(&[0, 1]) as i64
    }

    pub(super) fn forget_wakes(&self) {
        for w in &self.wakes {
            w.store(0, Ordering::Release);
        }
    }

    /// Calls of all timers.
    pub(super) fn calls(&self) -> i64 {
        self.args.iter().map(|a| a.calls.load(SeqCst) as i64).sum()
    }

    pub(super) fn given_back(&self, i: usize) -> u32 {
        self.given_back[i].load(SeqCst)
    }

    pub(super) fn drops(&self, i: usize) -> u32 {
        self.args[i].drops.load(SeqCst)
    }

    /// For one who knows that timer `i` is not being called: writes what the calls read.
    pub(super) fn use_argument(&self, i: usize) {
        self.args[i].write();
    }

    /// The wake time of one P for one who goes by the mask, as time_sleep_until does; 0: never.
    pub(super) fn ask_by_mask(&self, p: usize) -> i64 {
        match self.mask[p].load(Ordering::Acquire) {
            0 => 0,
            _ => self.ps[p].wake_time(),
        }
    }

    /// The earliest wake time, as time_sleep_until.
    pub(super) fn sleep_until(&self) -> i64 {
        let asked = (0..PS).map(|p| self.ask_by_mask(p));
        asked.filter(|&w| w != 0).min().unwrap_or(MAX_WHEN)
    }

    /// A pass for `now` is made.
    pub(super) fn note_pass(&self, now: i64) {
        self.latest.fetch_max(now, SeqCst);
    }

    pub(super) fn latest(&self) -> i64 {
        self.latest.load(SeqCst)
    }

    /// All timers of a P go to the other one. `free`: the P dies. As procs does it.
    pub(super) fn adopt(&self, to: usize, free: bool) {
        let (from, dst, src) = (1 - to, &self.ps[to], &self.ps[1 - to]);
        self.registry.lock();
        if self.alive.iter().any(|a| a.load(Ordering::Relaxed) == 0) {
            return self.registry.unlock();
        }
        if free {
            self.alive[from].store(0, Ordering::Release);
            src.lock(self).dead = true;
        }
        let mut first = MAX_WHEN;
        let mut left = if free { u32::MAX } else { src.num_timers() };
        while left > 0 && src.num_timers() > 0 {
            let (_, earliest) = move_timers(self, dst, src).unwrap();
            first = first.min(earliest);
            left -= 1;
        }
        self.registry.unlock();
        if free {
            dst.note_lowered_to_first(self);
        } else if first != MAX_WHEN {
            dst.note_lowered(self, first);
        }
    }

    /// The quiescent state of each pending timer: its P and its time.
    pub(super) fn pending(&self) -> Vec<(usize, i64)> {
        let mut all = Vec::new();
        for (p, tm) in self.ps.iter().enumerate() {
            let h = tm.lock(self);
            for i in 0..h.heap.total() {
                let t = h.heap.get(i).t;
                let l = t.lock(&self.host);
                if l.when != 0 {
                    all.push((p, l.due()));
                }
                l.put_back();
            }
        }
        all
    }

    /// What must hold when nobody is at work. Returns how many timers are armed.
    pub(super) fn check(&self) -> usize {
        let mut entries = vec![0; self.len()];
        let alive = (0..PS).map(|p| self.check_p(p, &mut entries)).sum();
        for (i, n) in entries.into_iter().enumerate() {
            let t = self.t(i);
            let l = t.lock(&self.host);
            let (state, when, shut) = (l.state, l.when, l.has(SHUTDOWN));
            let left = l.has(DETACHED) && !l.has(FREED);
            l.put_back();
            assert!(!left || when != 0, "timer {i} is detached and not armed");
            assert!(!shut || when == 0, "timer {i} was armed after its shutdown");
            assert_eq!(
                n,
                (state != State::Removed) as u32,
                "timer {i}: its entries"
            );
            assert!(n == 1 || when == 0, "timer {i} is armed and in no heap");
        }
        alive
    }

    fn check_p(&self, p: usize, entries: &mut [u32]) -> usize {
        let tm = &self.ps[p];
        let mut h = tm.lock(self);
        assert_eq!(verify_timer_heap(&mut h), None);
        let mut alive = 0;
        for i in 0..h.heap.total() {
            let t = h.heap.get(i).t;
            let n = self.number(t);
            entries[n] += 1;
            let l = t.lock(&self.host);
            let (when, key, freed) = (l.due(), l.key, l.has(FREED));
            l.put_back();
            assert!(!t.has_runs(), "timer {n}: a run is counted that is over");
            assert_eq!(
                self.given_back(n) + 1 + freed as u32,
                self.generation(t),
                "timer {n}: given back with an entry in a heap"
            );
            alive += (when != 0) as usize;
            // What waits behind the heap for the next pass is not looked at by a scan, but is
            // due by its key too.
            if when != 0 && when < key && key > self.latest() {
                let m = tm.modified_earliest().min(h.folded);
                assert!(m <= when, "an earlier time is forgotten: {when}, noted {m}");
            }
        }
        let total = h.heap.total();
        assert!(!h.dead || total == 0, "timers are left on a dead P");
        assert!(h.passes == 0 && h.runs.is_null());
        assert_eq!(tm.num_timers() as usize, total);
        assert_eq!(tm.deleted_timers() as usize, total - alive);
        drop(h); // which may sweep
        let in_mask = self.mask[p].load(Ordering::Acquire) != 0;
        assert_eq!(in_mask, tm.num_timers() > 0);
        if tm.num_timers() == 0 {
            assert_eq!(tm.wake_time(), 0, "an empty heap makes pollers spin");
        }
        alive
    }

    /// Who goes by the masks of all Ps hears of something, whatever moves between them.
    pub(super) fn hears_of_something(&self, first: usize) -> bool {
        self.ask_by_mask(first) != 0 || self.ask_by_mask(1 - first) != 0
    }

    /// No P may have more dead entries than it is allowed. Before `check`, whose unlocking
    /// sweeps.
    pub(super) fn check_swept(&self) {
        assert!(!self.ps.iter().any(Timers::owes_sweep), "nobody swept");
    }

    /// armed = fired + stopped + replaced + pending, by our own books and by the engine's.
    pub(super) fn check_counts(&self, armed: i64, stopped: i64, replaced: i64, pending: i64) {
        let get = |what| self.block.get(what) as i64;
        assert_eq!(get(Counter::Armed), armed, "armed");
        assert_eq!(get(Counter::Stopped), stopped, "stopped");
        assert_eq!(get(Counter::Replaced), replaced, "replaced");
        let fired = get(Counter::Fired);
        assert_eq!(fired + get(Counter::Ticks), self.calls(), "calls");
        assert_eq!(get(Counter::Early), 0);
        assert_eq!(armed, fired + stopped + replaced + pending, "armed");
    }

    /// Runs all that is pending, then frees all timers that are not freed. Whatever was armed
    /// has been called, each timer is given back once, and each argument is dropped once.
    pub(super) fn wind_up(&self, with_drop: bool) {
        let (before, pending) = (self.calls(), self.check() as i64);
        for tm in &self.ps {
            check_timers(self, tm, MAX_WHEN - 1);
        }
        assert_eq!(self.calls() - before, pending, "a timer was lost");
        for i in 0..self.len() {
            let _ = timer_free(self, self.t(i), Some(self.generation(self.t(i))));
        }
        for tm in &self.ps {
            trim(self, tm);
        }
        for i in 0..self.len() {
            assert_eq!(self.given_back(i) + 1, self.generation(self.t(i)));
            let refs = self.t(i).refs.load(Ordering::Relaxed);
            assert_eq!(refs, 0, "timer {i}: references, though it was given back");
            if with_drop {
                assert_eq!(self.drops(i), 1);
            }
        }
        assert_eq!(self.check(), 0);
    }

    /// Frees the model's memory.
    pub(super) fn finish(&self) {
        for tm in &self.ps {
            tm.release_heap(&self.host);
        }
    }
}
