//! Models for loom: the engine's own code, run in all interleavings of a few threads.
//!
//! `make model` runs them as the code stands, and once for each mutation: a small wrong
//! change behind `cfg(gt_mutant = "…")`, with which one of them must fail. A model that no
//! mutation can break proves nothing.

mod ownership;
mod poller;
mod status;
mod wake;

use crate::engine::{
    ArgRef, Arm, Block, DropFn, Func, HAS_DROP, MAX_WHEN, Procs, Timer, TimerRef, Timers, modtimer,
    verify_timer_heap,
};
use crate::host::{Hooks, Host};
use crate::rt_deadline::Deadline;
use loom::sync::Arc;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A sched as small as can be: a few Ps with fixed timers, no clock. What it counts, it
/// counts with std's atomics, which loom does not see.
pub(super) struct Mini {
    host: Host,
    ps: Vec<Timers>,
    block: Block,
    timers: Vec<NonNull<Timer>>,
    generations: Vec<AtomicU32>,
    /// The timerp_mask of the one P.
    mask: loom::sync::atomic::AtomicU32,
    /// The runtime's poller, if the model has one: what it stands at, and its timerfd.
    poller: Option<(Deadline, loom::sync::atomic::AtomicI64)>,
    /// Timers are armed by a worker, in a callback.
    in_call: bool,
    /// Calls of the wake hook.
    pub(super) wakes: loom::sync::atomic::AtomicUsize,
    /// How often each timer was given back.
    pub(super) given_back: Vec<AtomicUsize>,
    pub(super) calls: AtomicUsize,
    pub(super) drops: AtomicUsize,
}

// SAFETY: the timers are leaked to the model's end, and are Sync.
unsafe impl Send for Mini {}
// SAFETY: as above.
unsafe impl Sync for Mini {}

impl Procs for Mini {
    fn host(&self) -> &Host {
        &self.host
    }
    fn now(&self) -> i64 {
        1
    }
    fn timers(&self, p: u32) -> &Timers {
        &self.ps[p as usize]
    }
    fn pick(&self, _last: u32) -> &Timers {
        &self.ps[0]
    }
    fn wake(&self, _p: &Timers, _when: i64) {
        // Seen by loom: who has been woken has synchronised with who woke him.
        self.wakes.fetch_add(1, Ordering::AcqRel);
        if self.poller.is_some() {
            if self.in_call {
                self.arm_poller_in_call();
            } else {
                self.arm_poller();
            }
        }
    }
    fn set_mask(&self, _p: u32, on: bool) {
        self.mask
            .store(on as u32, loom::sync::atomic::Ordering::Release);
    }
    fn hold(&self, _p: &Timers) {}
    fn unhold(&self, _p: &Timers) {}
    fn pass_done(&self, _p: &Timers) {}
    fn block(&self) -> &Block {
        &self.block
    }
    fn verifying(&self) -> bool {
        false
    }
    fn generation(&self, t: TimerRef) -> u32 {
        self.generations[self.number(t)].load(Ordering::Relaxed)
    }
    fn raise_generation(&self, t: TimerRef) {
        self.generations[self.number(t)].fetch_add(1, Ordering::Relaxed);
    }
    fn give_back(&self, t: TimerRef) {
        let before = self.given_back[self.number(t)].fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "given back twice");
    }
}

/// What each timer of a model calls: counts the call in its Mini.
unsafe extern "C-unwind" fn called(arg: *mut c_void, _seq: usize, delay: i64) {
    assert!(delay >= 0);
    // SAFETY: arg is the Mini, which outlives its timers' calls.
    let mini = unsafe { &*arg.cast::<Mini>() };
    assert_eq!(
        mini.drops.load(Ordering::SeqCst),
        0,
        "called after its argument was dropped"
    );
    mini.calls.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn dropped(arg: *mut c_void) {
    // SAFETY: as above.
    let before = unsafe { &*arg.cast::<Mini>() }
        .drops
        .fetch_add(1, Ordering::SeqCst);
    assert_eq!(before, 0, "dropped twice");
}

impl Mini {
    /// One P and `n` timers that call `called`; with drop functions if asked.
    pub(super) fn new(n: usize, with_drop: bool) -> Arc<Mini> {
        Self::build(n, with_drop, false, false)
    }

    /// One P, `n` timers, and the runtime's poller, whose timerfd is not set.
    pub(super) fn with_poller(n: usize, in_call: bool) -> Arc<Mini> {
        Self::build(n, false, true, in_call)
    }

    fn build(n: usize, with_drop: bool, poller: bool, in_call: bool) -> Arc<Mini> {
        let mini = Arc::new(Mini {
            host: Host::new(Hooks::default()),
            ps: vec![Timers::new(0)],
            block: Block::new(0, true, false),
            timers: (0..n)
                .map(|_| NonNull::from(Box::leak(Box::new(Timer::new()))))
                .collect(),
            generations: (0..n).map(|_| AtomicU32::new(1)).collect(),
            mask: loom::sync::atomic::AtomicU32::new(0),
            poller: poller.then(|| {
                (
                    Deadline::new(),
                    loom::sync::atomic::AtomicI64::new(MAX_WHEN),
                )
            }),
            in_call,
            wakes: loom::sync::atomic::AtomicUsize::new(0),
            given_back: (0..n).map(|_| AtomicUsize::new(0)).collect(),
            calls: AtomicUsize::new(0),
            drops: AtomicUsize::new(0),
        });
        mini.p().lock(&*mini).dead = false;
        let me: *mut c_void = std::ptr::from_ref(&*mini).cast_mut().cast();
        for i in 0..n {
            let f: Func = called;
            let d: DropFn = dropped;
            if with_drop {
                let b = ArgRef::new(&mini.host, me, d).unwrap();
                mini.t(i).init(&mini.host, f, b.as_field(), HAS_DROP);
            } else {
                mini.t(i).init(&mini.host, f, me, 0);
            }
        }
        mini
    }

    pub(super) fn p(&self) -> &Timers {
        &self.ps[0]
    }

    pub(super) fn t(&self, i: usize) -> TimerRef {
        // SAFETY: leaked until `finish`, which is the model's last step.
        unsafe { TimerRef::new(self.timers[i]) }
    }

    fn number(&self, t: TimerRef) -> usize {
        self.timers
            .iter()
            .position(|x| x.as_ptr() == t.as_ptr())
            .unwrap()
    }

    /// Arms timer `i`; by its first id, so that a freed one says so. True: was pending.
    pub(super) fn arm(&self, i: usize, when: i64) -> crate::error::Result<bool> {
        let arm = Arm {
            when,
            period: 0,
            set: None,
            add: false,
        };
        modtimer(self, self.t(i), Some(1), None, &arm)
    }

    /// The wake time for one who goes by the mask, as time_sleep_until does; 0: never.
    pub(super) fn ask_by_mask(&self) -> i64 {
        match self.mask.load(loom::sync::atomic::Ordering::Acquire) {
            0 => 0,
            _ => self.p().wake_time(),
        }
    }

    fn poller(&self) -> &(Deadline, loom::sync::atomic::AtomicI64) {
        self.poller.as_ref().unwrap()
    }

    fn sleep_until(&self) -> i64 {
        match self.ask_by_mask() {
            0 => MAX_WHEN,
            w => w,
        }
    }

    /// What a worker does before it waits, and the runtime's wake hook. The clock says 1.
    pub(super) fn arm_poller(&self) -> i64 {
        let (deadline, fd) = self.poller();
        deadline.arm(
            || self.sleep_until(),
            || 1,
            |until| fd.store(until, Ordering::Release),
        )
    }

    /// The runtime's wake hook, in a worker's callback.
    fn arm_poller_in_call(&self) {
        let (deadline, fd) = self.poller();
        deadline.arm_in_call(
            1,
            || self.sleep_until(),
            |until| fd.store(until, Ordering::Release),
        );
    }

    /// What a worker does before a callback, in a pass of this `now`.
    pub(super) fn hand_over(&self, now: i64) {
        let (deadline, fd) = self.poller();
        if deadline.has_passed(now) {
            deadline.hand_over(
                now,
                || self.sleep_until(),
                |until| fd.store(until, Ordering::Release),
            );
        }
    }

    /// What the timerfd is set to.
    pub(super) fn fd(&self) -> i64 {
        self.poller().1.load(Ordering::Acquire)
    }

    /// The quiescent end: the heap is in order, and what was promised to sleepers holds.
    /// Returns how many entries are alive.
    pub(super) fn check(&self) -> usize {
        let mut h = self.p().lock(self);
        assert_eq!(verify_timer_heap(&mut h), None);
        let mut alive = 0;
        for i in 0..h.heap.total() {
            let e = h.heap.get(i);
            let given_back = self.given_back[self.number(e.t)].load(Ordering::SeqCst);
            assert_eq!(given_back, 0, "given back with an entry in a heap");
            let l = e.t.lock(&self.host);
            let (when, key, state) = (l.when, l.key, l.state);
            l.unlock(state);
            alive += (when != 0) as usize;
            if when != 0 && when < key {
                let m = self.p().modified_earliest();
                assert!(
                    m != 0 && m <= when,
                    "an earlier time is forgotten: {when}, noted {m}"
                );
            }
        }
        let entries = h.heap.total();
        drop(h);
        assert_eq!(self.p().num_timers() as usize, entries);
        if entries == 0 {
            assert_eq!(self.p().wake_time(), 0, "an empty heap makes pollers spin");
        }
        alive
    }

    /// Frees the model's memory.
    pub(super) fn finish(&self) {
        let mut h = self.p().lock(self);
        h.heap.release(&self.host);
        drop(h);
        for t in &self.timers {
            // SAFETY: the model's threads have ended; nobody uses a timer any more.
            drop(unsafe { Box::from_raw(t.as_ptr()) });
        }
    }
}

/// Runs two or three threads on a Mini in all interleavings with at most three
/// preemptions, then `end`.
pub(super) fn model<const N: usize>(
    setup: fn() -> Arc<Mini>,
    threads: [fn(&Mini) -> i64; N],
    end: fn(&Mini, [i64; N]),
) {
    model_bounded(3, setup, threads, end);
}

/// The same with another bound of preemptions.
pub(super) fn model_bounded<const N: usize>(
    preemptions: usize,
    setup: fn() -> Arc<Mini>,
    threads: [fn(&Mini) -> i64; N],
    end: fn(&Mini, [i64; N]),
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let mini = setup();
        let handles = threads.map(|f| {
            let mini = mini.clone();
            loom::thread::spawn(move || f(&mini))
        });
        let results = handles.map(|h| h.join().unwrap());
        end(&mini, results);
        mini.finish();
    });
}
