//! What a pass does and what it leaves alone: the locks that it does not take, the entries that it
//! repairs in one hold, the runs that it counts.

use super::super::run::{check_timers, runtimer};
use super::super::timer::{MAX_WHEN, State};
use super::super::{Counter, Procs};
use super::repairs::Other;
use super::{Op, World, with_hooks, with_world};
use crate::host::Hooks;
use crate::sync::Ordering;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;

/// (poll_until, ran)
fn check(w: &World, now: i64) -> (i64, usize) {
    let c = check_timers(w, w.p(), now);
    assert_eq!(c.now, now);
    (c.poll_until, c.ran)
}

fn run_one(w: &World, now: i64) -> (bool, i64) {
    runtimer(w, w.p(), now)
}

/// Each time when a timer is locked: how many entries others see.
#[derive(Default)]
struct Locks {
    world: Cell<*const World>,
    entries: RefCell<Vec<u32>>,
}

impl Locks {
    fn hooks(&self) -> Hooks {
        Hooks {
            ctx: std::ptr::from_ref(self).cast_mut().cast(),
            acquirem: Some(is_locked),
            ..Hooks::default()
        }
    }
}

unsafe extern "C" fn is_locked(ctx: *mut c_void) {
    // SAFETY: a Locks, which outlives the World.
    let locks = unsafe { &*ctx.cast::<Locks>() };
    // SAFETY: null or the World, which has this hook.
    if let Some(w) = unsafe { locks.world.get().as_ref() } {
        locks.entries.borrow_mut().push(w.p().num_timers());
    }
}

/// Debug builds see it if a P's lock is taken with another one held.
#[test]
fn what_is_not_due_takes_no_lock_of_the_p() {
    with_world(4, |w| {
        let held = w.p().lock(w);
        for now in [1000, 1036] {
            assert_eq!(check(w, now), (1037, 0));
        }
        drop(held);
        assert_eq!(check(w, 1037), (1074, 1));
        assert_eq!(check(w, 1200), (0, 3));
        let held = w.p().lock(w);
        assert_eq!(check(w, 1200), (0, 0));
        drop(held);
        assert_eq!(run_one(w, 1200), (false, 0));
        w.arm(0, 1300, 0);
        w.now.set(1250);
        let c = check_timers(w, w.p(), 0);
        assert_eq!((c.now, c.poll_until, c.ran), (1250, 1300, 0), "the clock's");
    });
}

#[test]
fn what_is_not_due_takes_no_lock_of_a_timer() {
    let locks = Locks::default();
    with_hooks(4, locks.hooks(), |w| {
        locks.world.set(w);
        assert_eq!(run_one(w, 1036), (false, 1037));
        assert!(locks.entries.borrow().is_empty());
        assert_eq!(run_one(w, 1037), (true, 0));
        locks.world.set(std::ptr::null());
    });
}

/// The end of time does not come.
#[test]
fn nothing_is_due_at_the_end_of_time() {
    let other = Other::default();
    with_hooks(1, other.hooks(), |w| {
        w.arm(0, MAX_WHEN, 0);
        w.apply(&Op::Clean);
        assert_eq!(w.t(0).state(), State::Waiting);
        for now in [MAX_WHEN - 1, MAX_WHEN] {
            assert_eq!(check(w, now), (0, 0));
            assert_eq!(run_one(w, now), (false, MAX_WHEN));
        }
        // The same if somebody has it locked at that moment.
        other.holds_while(w, 0, || assert_eq!(run_one(w, MAX_WHEN), (false, MAX_WHEN)));
        w.del(0);
        w.apply(&Op::Trim);
    });
}

/// Who has the head locked puts it back as it was.
#[test]
fn a_locked_head_may_be_due_or_not() {
    let other = Other::default();
    with_hooks(4, other.hooks(), |w| {
        other.holds_while(w, 0, || assert_eq!(run_one(w, 1036), (false, 1037)));
        other.holds_while(w, 0, || assert_eq!(run_one(w, 1037), (true, 0)));
    });
}

/// Who stopped timers while the lock was held has left them to the next one.
#[test]
fn a_pass_sweeps_what_is_owed() {
    with_world(300, |w| {
        w.p().fork_lock();
        for i in 100..220 {
            w.del(i);
        }
        w.p().fork_unlock();
        assert!(w.p().owes_sweep());
        assert_eq!(check(w, 1000).1, 0);
        assert!(!w.p().owes_sweep());
    });
}

/// Heads of timers that were stopped or are due later, more of them than one hold takes.
#[test]
fn a_pass_lets_others_in_between_its_repairs() {
    const N: usize = 1000;
    const DEAD: usize = 200;
    let locks = Locks::default();
    with_hooks(N, locks.hooks(), |w| {
        for i in 0..N {
            w.arm(i, 2000 + i as i64, 0);
        }
        w.apply(&Op::Scan(N));
        w.scan_to_end();
        for i in 0..DEAD {
            w.del(i);
        }
        assert_eq!(w.p().num_timers() as usize, N);
        locks.world.set(w);
        assert_eq!(run_one(w, 2000 + DEAD as i64), (true, 0));
        locks.world.set(std::ptr::null());
        let seen = locks.entries.take();
        assert_eq!(seen.len(), DEAD + 1);
        for (done, entries) in seen.iter().enumerate() {
            let behind = done - (N - *entries as usize);
            assert!(behind <= 32, "{behind} in one hold");
        }
    });
}

/// A callback makes a pass of its own, in which its own timer is called again, and so on.
#[test]
fn a_timer_that_runs_may_run_again() {
    with_world(2, |w| {
        let t = w.t(0);
        w.arm(0, 1010, 10);
        let nested = Op::Act(0, Box::new(Op::Check(10)));
        w.apply(&nested);
        w.apply(&Op::Check(10));
        assert_eq!((w.now.get(), w.calls.get()), (1020, 2));
        assert_eq!(w.block.get(Counter::Ticks), 2);
        assert_eq!(t.refs.load(Ordering::Relaxed), 1);
        assert!(!t.has_runs());
        let h = w.p().lock(w);
        assert!(h.runs.is_null());
        assert_eq!(h.passes, 0);
        drop(h);
        assert_eq!(w.given.get(), 0);
        w.arm(0, 1500, 0);
    });
}

/// At most as many as were there at its beginning; what is armed meanwhile for now comes next.
#[test]
fn a_pass_is_bounded() {
    with_world(3, |w| {
        for i in 0..3 {
            w.apply(&Op::Act(i, Box::new(Op::Arm(i, -5))));
        }
        assert_eq!(check(w, 1200), (w.p().wake_time(), 3));
        assert_eq!(w.calls.get(), 3);
        assert_eq!(check(w, 1200), (0, 3));
        assert_eq!(w.calls.get(), 6);
    });
}

/// The P is kept as long as a pass is under way, and its fd is looked at after each.
#[test]
fn a_pass_holds_its_p() {
    with_world(4, |w| {
        let (held, done) = (w.held.get(), w.passes_done.get());
        assert_eq!(check(w, 1000), (1037, 0));
        assert_eq!((w.held.get(), w.passes_done.get()), (held, done + 1));
        assert_eq!(check(w, 1100), (1111, 2));
        assert_eq!((w.held.get(), w.passes_done.get()), (held, done + 2));
        assert_eq!(run_one(w, 1111), (true, 0));
        assert_eq!((w.held.get(), w.passes_done.get()), (held, done + 3));
        assert_eq!(w.most_held.get(), 1);
    });
}

/// Its P has died: the pass ends, and there is nothing to wait for.
#[test]
fn a_pass_over_a_p_that_dies() {
    with_world(4, |w| {
        w.p().lock(w).dead = true;
        assert_eq!(check(w, 1200), (0, 0));
        w.p().lock(w).dead = false;
        assert_eq!(check(w, 1200), (0, 4));
    });
}

unsafe extern "C" fn stops_at_two(ctx: *mut c_void) -> i32 {
    // SAFETY: a Cell that outlives the World.
    let left = unsafe { &*ctx.cast::<Cell<i32>>() };
    left.set(left.get() - 1);
    (left.get() == 0) as i32
}

#[test]
fn the_host_ends_a_pass() {
    let left = Cell::new(2);
    let hooks = Hooks {
        ctx: std::ptr::from_ref(&left).cast_mut().cast(),
        preempt_stop: Some(stops_at_two),
        ..Hooks::default()
    };
    with_hooks(4, hooks, |w| {
        assert_eq!(check(w, 1200), (1111, 2));
        assert_eq!(left.get(), 0);
        assert!(!w.host().is_over());
    });
}
