//! The naive model of the engine, and the real thing beside it: each operation is made on
//! both, and then all that can be seen is compared. Callbacks come through here too: the
//! model says whether the call was due, and does what the callback does.

mod check;
mod steps;

use super::{How, Op, PSel, Sel, Stop, When};
use gotimer::*;
use std::cell::{Cell, RefCell, RefMut};
use std::ffi::{CStr, c_char, c_void};
use std::rc::Rc;

const MAX: i64 = GT_MAX_WHEN;
/// Live timers and Ps at most.
const TIMERS: usize = 40;
const PS: usize = 3;
/// Calls of callbacks within each other at most.
const DEPTH: usize = 3;
/// The model's P 0: the timers that no P owns.
const ORPHANS: usize = 0;

type Func = unsafe extern "C-unwind" fn(*mut c_void, usize, i64);

#[derive(Clone)]
struct Timer {
    handle: *mut gt_timer,
    id: u64,
    /// Not freed.
    alive: bool,
    /// The handle may be used: neither freed nor detached.
    by_handle: bool,
    shut: bool,
    arg: usize,
    /// Which of the two functions.
    f: bool,
    seq: usize,
    /// 0: not armed.
    when: i64,
    period: i64,
    /// The P it is on, or was on last; none at first.
    p: Option<usize>,
    /// The state it was seen in last.
    status: i32,
    /// Serial numbers of its last arming, and of its last move to another P.
    armed: u64,
    moved: u64,
    /// Calls under way.
    runs: u32,
}

impl Timer {
    fn detached(&self) -> bool {
        self.alive && !self.by_handle
    }

    fn due(&self, now: i64) -> bool {
        self.when != 0 && self.when <= now && self.when != MAX
    }
}

#[derive(Clone, Default)]
struct Arg {
    /// The library was given it, with a drop function.
    given: bool,
    /// A timer can still be called with it.
    held: bool,
    runs: u32,
    dropped: u32,
}

struct P {
    handle: *mut gt_p,
    alive: bool,
    /// What somebody who asked for its wake time was told; MAX: never.
    told: i64,
}

/// A call of gt_check_timers, gt_runtimer or gt_check_others that is under way.
struct Call {
    now: i64,
    /// The P; none for gt_check_others.
    only: Option<usize>,
    /// The P that gt_check_others passes over.
    skip: Option<usize>,
    start: u64,
    ran: u64,
    /// The P whose pass is under way, since when, and those that have been visited.
    at: Option<usize>,
    at_start: u64,
    visited: Vec<usize>,
    /// Other passes began meanwhile: order and completeness are not judged.
    loose: bool,
}

#[derive(Default)]
struct Model {
    timers: Vec<Timer>,
    args: Vec<Arg>,
    acts: Vec<Rc<Vec<Op>>>,
    ps: Vec<P>,
    bound: Option<usize>,
    calls: Vec<Call>,
    clock: i64,
    serial: u64,
    stats: gt_stats,
    /// Wake hooks since the last look: which P (none: one that is being made), how early.
    woken: Vec<(Option<usize>, i64)>,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn live_ps(&self) -> Vec<usize> {
        (1..self.ps.len()).filter(|&p| self.ps[p].alive).collect()
    }

    fn pending_on(&self, p: usize) -> impl Iterator<Item = &Timer> {
        self.timers
            .iter()
            .filter(move |t| t.when != 0 && t.p == Some(p))
    }

    fn earliest(&self, p: usize) -> Option<i64> {
        self.pending_on(p).map(|t| t.when).min()
    }

    /// All timers that are armed on one P are on another one now.
    fn move_all(&mut self, from: usize, to: usize) {
        let serial = self.next();
        for t in &mut self.timers {
            if t.when != 0 && t.p == Some(from) {
                (t.p, t.moved) = (Some(to), serial);
            }
        }
    }

    /// The pending arming ends by a stop.
    fn stop(&mut self, k: usize) {
        if self.timers[k].when != 0 {
            self.stats.stopped += 1;
            self.timers[k].when = 0;
            self.timers[k].status = GT_TIMER_MODIFIED;
        }
    }

    fn free(&mut self, k: usize) {
        self.stop(k);
        let t = &mut self.timers[k];
        (t.alive, t.by_handle) = (false, false);
        self.args[t.arg].held = false;
    }
}

pub(crate) struct World {
    s: *mut gt_sched,
    m: RefCell<Model>,
    failed: RefCell<Option<String>>,
    steals: Cell<u64>,
    story: String,
}

thread_local! {
    static WORLD: Cell<*const World> = const { Cell::new(std::ptr::null()) };
}

fn world() -> Option<&'static World> {
    // SAFETY: `run` sets it to a world that it keeps while it uses the library.
    unsafe { WORLD.get().as_ref() }
}

unsafe extern "C-unwind" fn f0(arg: *mut c_void, seq: usize, delay: i64) {
    if let Some(w) = world() {
        w.fire(false, arg as usize, seq, delay);
    }
}

unsafe extern "C-unwind" fn f1(arg: *mut c_void, seq: usize, delay: i64) {
    if let Some(w) = world() {
        w.fire(true, arg as usize, seq, delay);
    }
}

fn func(f: bool) -> Option<Func> {
    Some(if f { f1 } else { f0 })
}

unsafe extern "C" fn on_drop(arg: *mut c_void) {
    let Some(w) = world() else { return };
    let arg = arg as usize;
    let (early, again) = {
        let mut m = w.m();
        let a = &mut m.args[arg];
        a.dropped += 1;
        (a.runs > 0, a.dropped > 1 || !a.given)
    };
    w.expect(!early, || {
        format!("arg {arg} dropped while a call with it is under way")
    });
    w.expect(!again, || {
        format!("arg {arg} dropped twice, or never given")
    });
}

unsafe extern "C" fn on_wake(_: *mut c_void, p: *mut gt_p, when: i64) {
    let Some(w) = world() else { return };
    let mut m = w.m();
    m.stats.wakes += 1;
    let p = m.ps.iter().position(|x| x.alive && x.handle == p);
    m.woken.push((p, when));
}

/// Corruption: there is no way back to proptest from here.
unsafe extern "C" fn on_throw(_: *mut c_void, msg: *const c_char) {
    // SAFETY: the library's promise: a text.
    let msg = unsafe { CStr::from_ptr(msg) }.to_string_lossy();
    let story = world().map_or("", |w| &w.story);
    eprintln!("the library threw: {msg}\n{story}");
}

impl World {
    /// Plays a sequence. What is wrong, if anything.
    pub(crate) fn run(ps: usize, timers: usize, ops: &[Op], seed: u64) -> Result<(), String> {
        // SAFETY: zero is a valid value of both structs, and says "default" throughout.
        let (mut host, mut config): (gt_host, gt_config) = unsafe { std::mem::zeroed() };
        host.size = size_of::<gt_host>();
        host.wake_netpoller = Some(on_wake);
        host.throw_ = Some(on_throw);
        config.size = size_of::<gt_config>();
        config.host = &host;
        config.clock = GT_CLOCK_VIRTUAL;
        let w = Box::new(World {
            // SAFETY: the structs live through the call.
            s: unsafe { gt_sched_new(&config) },
            m: RefCell::default(),
            failed: RefCell::default(),
            steals: Cell::new(0),
            story: format!("GOTIMER_SEED={seed}: {ps} Ps, {timers} timers, {ops:#?}"),
        });
        w.m().clock = GT_VIRTUAL_EPOCH;
        w.m().acts.push(Rc::default());
        w.m().ps.push(P {
            handle: std::ptr::null_mut(),
            alive: true,
            told: i64::MIN,
        });
        WORLD.set(&*w);
        (0..ps).for_each(|_| w.apply(&Op::PNew, None));
        (0..timers).for_each(|i| w.apply(&Op::New { drop: i % 2 == 0 }, None));
        for (i, op) in ops.iter().enumerate() {
            w.apply(op, None);
            w.check();
            if let Some(why) = w.failed.borrow_mut().as_mut() {
                *why = format!("operation {i}, {op:?}:\n{why}");
                break;
            }
        }
        if w.failed.borrow().is_none() {
            w.end();
        }
        gt_releasep();
        WORLD.set(std::ptr::null());
        let failed = w.failed.borrow_mut().take();
        match failed {
            None => Ok(()),
            Some(why) => Err(why), // the sched is lost: it may be in any state
        }
    }

    /// Frees all, and looks for what is left.
    fn end(&self) {
        // SAFETY: handles of this world that live.
        unsafe {
            loop {
                let first = self.m().live_ps().first().copied();
                let Some(p) = first else { break };
                self.apply(&Op::PFree { p: PSel::N(0) }, None);
                self.expect(!self.m().ps[p].alive, || format!("P {p} lives on"));
                self.check();
            }
            self.same("gt_sched_free", gt_sched_free(self.s).into(), &[0]);
        }
        let n = self.m().timers.len();
        for k in 0..n {
            let t = self.t(k);
            if t.by_handle {
                // SAFETY: the handle stays valid for this.
                let (when, free) = unsafe { (gt_timer_when(t.handle), gt_timer_free(t.handle)) };
                self.same("gt_timer_when at the end", when, &[GT_ESHUTDOWN.into()]);
                self.same("gt_timer_free at the end", free.into(), &[0]);
            }
            self.m().free(k);
        }
        self.check_drops();
    }

    fn m(&self) -> RefMut<'_, Model> {
        self.m.borrow_mut()
    }

    fn t(&self, k: usize) -> Timer {
        self.m().timers[k].clone()
    }

    /// Panics may not cross the library: the first thing that is wrong is kept.
    fn expect(&self, ok: bool, why: impl FnOnce() -> String) {
        if !ok && self.failed.borrow().is_none() {
            *self.failed.borrow_mut() = Some(why());
        }
    }

    fn same(&self, what: &str, got: i64, want: &[i64]) {
        self.expect(want.contains(&got), || {
            format!("{what}: got {got}, want one of {want:?}")
        });
    }

    fn p_of(&self, p: PSel, me: Option<(usize, usize)>) -> Option<usize> {
        let m = self.m();
        let live = m.live_ps();
        match (p, me) {
            _ if live.is_empty() => None,
            (PSel::Mine, Some((_, p))) if m.ps[p].alive && p != ORPHANS => Some(p),
            (PSel::Mine, _) => live.first().copied(),
            (PSel::N(n), _) => Some(live[n as usize % live.len()]),
        }
    }

    fn handle(&self, p: usize) -> *mut gt_p {
        self.m().ps[p].handle
    }

    fn new_arg(&self) -> usize {
        let mut m = self.m();
        m.args.push(Arg::default());
        m.args.len() - 1
    }

    fn time(&self, when: When) -> i64 {
        match when {
            When::In(d) => self.m().clock + d,
            When::At(t) => t,
        }
    }

    fn stats(&self) -> gt_stats {
        let mut s = gt_stats {
            size: size_of::<gt_stats>(),
            ..gt_stats::default()
        };
        // SAFETY: the sched lives; s is writable.
        let got = unsafe { gt_stats_get(self.s, &mut s) };
        self.same("gt_stats_get", got.into(), &[0]);
        s
    }

    /// Armed timers on a P, as the library counts them.
    fn armed_on(&self, p: usize) -> i64 {
        let on = |p: usize| {
            let h = self.handle(p);
            // SAFETY: a live P.
            unsafe { gt_p_num_timers(h) - gt_p_deleted_timers(h) }
        };
        if p != ORPHANS {
            return on(p);
        }
        let live = self.m().live_ps();
        self.stats().pending as i64 - live.into_iter().map(on).sum::<i64>()
    }

    /// Does an operation on both sides. `me`: the timer that is being called, and its P.
    fn apply(&self, op: &Op, me: Option<(usize, usize)>) {
        if self.failed.borrow().is_some() {
            return;
        }
        let sel = |t: &Sel| match (t, me, self.m().timers.len()) {
            (_, _, 0) => None,
            (Sel::Me, Some((k, _)), _) => Some(k),
            (Sel::Me, None, _) => Some(0),
            (Sel::N(n), _, len) => Some(*n as usize % len),
        };
        let p_of = |p: &PSel| self.p_of(*p, me);
        let now = |now: &Option<When>| now.map_or(0, |w| self.time(w));
        match op {
            Op::New { drop } => self.new_timer(*drop),
            Op::Arm {
                t,
                how,
                when,
                period,
                on,
                by_id,
            } => {
                if let Some(k) = sel(t) {
                    let on = on.as_ref().and_then(p_of);
                    self.arm(k, how, self.time(*when), *period, on, *by_id);
                }
            }
            Op::Stop { t, how, by_id } => {
                if let Some(k) = sel(t) {
                    self.stop(k, *how, *by_id);
                }
            }
            Op::Check { p, now: n } => {
                if let Some(p) = p_of(p) {
                    self.check_timers(p, now(n));
                }
            }
            Op::RunTimer { p, now: n } => {
                if let Some(p) = p_of(p) {
                    self.runtimer(p, now(n));
                }
            }
            Op::Others { me: p, now: n } => {
                self.check_others(p.as_ref().and_then(p_of), now(n));
            }
            Op::Adjust { p, now: n, force } => {
                if let Some(p) = p_of(p) {
                    self.adjust(p, now(n), *force, me.is_none());
                }
            }
            Op::Clean { p } => {
                if let Some(p) = p_of(p) {
                    // SAFETY: a live P, here and below.
                    let got = unsafe { gt_cleantimers(self.handle(p)) };
                    self.same("gt_cleantimers", got.into(), &[0]);
                }
            }
            Op::Trim { p } => {
                if let Some(p) = p_of(p).filter(|_| me.is_none()) {
                    self.trim(p);
                }
            }
            Op::Adopt { to, from } => {
                if let (Some(to), Some(from)) = (p_of(to), p_of(from)) {
                    self.adopt(to, from);
                }
            }
            Op::PNew => self.p_new(),
            Op::PFree { p } => {
                if let Some(p) = p_of(p) {
                    self.p_free(p);
                }
            }
            Op::Bind { p } => {
                if let Some(p) = p_of(p) {
                    let want = match self.m().bound {
                        Some(b) if b != p => GT_EBUSY,
                        _ => 0,
                    };
                    // SAFETY: a live P.
                    let got = unsafe { gt_acquirep(self.handle(p)) };
                    self.same("gt_acquirep", got.into(), &[want.into()]);
                    if got == 0 {
                        self.m().bound = Some(p);
                    }
                }
            }
            Op::Unbind => {
                let bound = self.m().bound;
                let want = bound.map_or(std::ptr::null_mut(), |p| self.handle(p));
                let got = gt_releasep();
                self.expect(got == want, || {
                    format!("gt_releasep: {got:p}, not {want:p}")
                });
                self.m().bound = None;
            }
            Op::SetTime(d) => {
                if me.is_none() {
                    let to = self.m().clock + d;
                    let want = if *d < 0 { GT_EINVAL } else { 0 };
                    // SAFETY: the sched lives.
                    let got = unsafe { gt_sched_set_time(self.s, to) };
                    self.same("gt_sched_set_time", got.into(), &[want.into()]);
                    self.m().clock += (*d).max(0);
                }
            }
        }
    }
}
