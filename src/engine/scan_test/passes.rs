//! What a pass does and what it leaves alone: the locks that it does not take, the entries that it
//! repairs in one hold, the runs that it counts.

use super::super::run::{check_timers, end_lost_runs, runtimer, take_lost_runs};
use super::super::timer::{FREED, MAX_WHEN, State};
use super::super::{Arm, Counter, Procs, detach, modtimer};
use super::repairs::Other;
use super::{Op, World, with_hooks, with_world};
use crate::error::Error;
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

/// What it is that the next call of `acts` does.
struct Act<'a>(Cell<Option<&'a dyn Fn()>>);

unsafe extern "C-unwind" fn acts(arg: *mut c_void, _seq: usize, _delay: i64) {
    // SAFETY: an Act, which outlives the timer's armings.
    if let Some(f) = unsafe { &*arg.cast::<Act>() }.0.get() {
        f();
    }
}

/// Arms the timer to do that, at this time and then with this period.
fn arm_act(w: &World, i: usize, act: &Act, when: i64, period: i64) {
    let arm = Arm {
        set: Some((acts, std::ptr::from_ref(act).cast_mut().cast(), 0)),
        ..Arm::at(when, period)
    };
    modtimer(w, w.t(i), None, None, &arm).unwrap();
}

/// Also if the pass of a thief lets in meanwhile what is for the next one.
#[test]
fn a_pass_is_bounded_with_others_under_way() {
    with_world(3, |w| {
        let calls = Cell::new(0);
        let again = || {
            calls.set(calls.get() + 1);
            assert!(calls.get() < 100, "for ever");
            w.arm(calls.get() % 3, 1150, 0);
            w.p().lock(w).begin_pass(1200);
            w.p().lock(w).end_pass();
        };
        let act = Act(Cell::new(Some(&again)));
        (0..3).for_each(|i| arm_act(w, i, &act, 1100, 0));
        assert_eq!(check(w, 1200).1, 3);
        assert_eq!(calls.get(), 3);
        act.0.set(None);
        check(w, 1200);
        assert_eq!(w.p().num_timers(), 0);
    });
}

/// A detached timer frees itself when the last of its runs has ended, not before: until then it
/// can be armed by its id.
#[test]
fn a_detached_timer_lives_as_long_as_it_runs() {
    with_world(2, |w| {
        let t = w.t(0);
        let id = Some(w.generation.get());
        let by_id = |arm| modtimer(w, t, id, None, &arm);
        let act = Act(Cell::new(None));
        let twice = || {
            act.0.set(None);
            assert_eq!(by_id(Arm::at(1300, 0)), Ok(true));
            assert_eq!(check(w, 1300).1, 2, "it, and the other one");
            assert_eq!((t.state(), w.given.get()), (State::Removed, 0));
            assert!(t.has_runs());
            assert_eq!(by_id(Arm::at(1500, 0)), Ok(false));
        };
        act.0.set(Some(&twice));
        arm_act(w, 0, &act, 1010, 10);
        detach(w, t, None).unwrap();
        w.arm(1, 1250, 0);
        assert_eq!(check(w, 1010), (1500, 1));
        assert_eq!((t.state(), w.given.get()), (State::Waiting, 0));
        assert_eq!(check(w, 1500), (0, 1));
        assert_eq!(w.given.get(), 1);
        assert_eq!(by_id(Arm::at(1600, 0)), Err(Error::Stale));
    });
}

/// In a fork child: of what this thread runs nothing is lost.
#[test]
fn a_fork_in_a_callback_loses_none_of_its_passes() {
    with_world(2, |w| {
        let (p, act) = (w.p(), Act(Cell::new(None)));
        let look = || {
            let mut h = p.lock(w);
            assert!(take_lost_runs(&mut h, |_| true).is_null());
            assert_eq!(h.passes, 2);
            drop(h);
            assert_eq!(p.stamp_for(1100), p.pass_seq());
        };
        let nested = || {
            act.0.set(Some(&look));
            assert_eq!(check(w, 1100).1, 1);
            let h = p.lock(w);
            assert_eq!((h.passes, h.runs.is_null()), (1, false));
        };
        act.0.set(Some(&nested));
        arm_act(w, 0, &act, 1010, 0);
        arm_act(w, 1, &act, 1020, 0);
        assert_eq!(check(w, 1010), (0, 1));
        let h = p.lock(w);
        assert_eq!((h.passes, h.runs.is_null()), (0, true));
        drop(h);
        assert_eq!(p.stamp_for(1), 0);
    });
}

/// Of what other threads ran, all is.
#[test]
fn a_fork_child_ends_the_runs_of_lost_threads() {
    with_world(2, |w| {
        let (p, act) = (w.p(), Act(Cell::new(None)));
        let look = || {
            let mut h = p.lock(w);
            let lost = take_lost_runs(&mut h, |_| false);
            assert_eq!((h.passes, h.runs.is_null()), (0, true));
            drop(h);
            assert_eq!(p.stamp_for(1), 0, "no pass is under way");
            for i in 0..2 {
                assert!(w.t(i).has_runs());
            }
            end_lost_runs(w, lost);
            assert!(!w.t(0).has_runs());
            // Only the one that was detached is free now.
            assert_eq!(w.t(0).flags() & FREED, 0);
            assert_eq!((w.t(1).flags() & FREED, w.given.get()), (FREED, 1));
            // The thread is not lost after all, and what it runs will end.
            for i in 0..2 {
                w.t(i).refs.fetch_add(1, Ordering::Relaxed);
            }
        };
        let nested = || {
            act.0.set(Some(&look));
            assert_eq!(check(w, 1100).1, 1);
        };
        act.0.set(Some(&nested));
        arm_act(w, 0, &act, 1010, 0);
        arm_act(w, 1, &act, 1020, 0);
        detach(w, w.t(1), None).unwrap();
        assert_eq!(check(w, 1010), (0, 1));
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
