//! The commonest cases of modtimer and deltimer, with as few instructions as can be: the
//! timer is in a heap, nothing of it changes but its time, and nobody else works on it.
//! They do what modtimer.rs does, in the same order; whatever is not such a case is left to
//! it, before anything was done. What is rare here too stands apart, so that the way
//! through saves no registers and calls nothing.

use super::modtimer::{Arm, changes};
use super::sweep::sweep_over_bound;
use super::timer::{CHAN, DETACHED, FREED, HAS_DROP, Locked, SHUTDOWN, State, TimerRef};
use super::timers::Timers;
use super::{Counter, Procs};

/// modtimer. `None`: not such a case.
#[inline(always)]
pub(crate) fn rearm<S: Procs>(s: &S, t: TimerRef, arm: &Arm) -> Option<bool> {
    let mut l = t.try_lock_heaped(s.host(), FREED | SHUTDOWN | DETACHED | HAS_DROP | CHAN)?;
    if arm.period != l.period
        || arm.set.is_some_and(|set| changes(&l, set))
        || arm.add && l.when != 0
    {
        l.put_back();
        return None;
    }
    let tm = s.timers(l.p());
    let block = s.leaf_block();
    let pending = l.when != 0;
    l.when = arm.when;
    if pending {
        block.add(Counter::Rearmed, 1);
    } else {
        block.add(Counter::Armed, 1);
        tm.sub_deleted();
    }
    let due = l.due();
    l.set_stamp(tm.stamp_for(due));
    // One branch for both: of the first alone nobody could tell which way it goes.
    if (due < l.key) & tm.is_earliest(due) {
        return Some(lowered(s, tm, l, due, pending));
    }
    l.unlock(State::Modified);
    Some(pending)
}

/// The wake time of the P gets earlier.
#[cold]
#[inline(never)]
fn lowered<S: Procs>(s: &S, tm: &Timers, l: Locked<'_>, due: i64, pending: bool) -> bool {
    let lowered = tm.update_timer_modified_earliest(due);
    l.unlock(State::Modified);
    if lowered {
        tm.note_lowered(s, due);
    }
    pending
}

/// deltimer. `None`: not such a case.
#[inline(always)]
pub(crate) fn stop<S: Procs>(s: &S, t: TimerRef) -> Option<bool> {
    let mut l = t.try_lock_heaped(s.host(), FREED | SHUTDOWN | DETACHED | CHAN)?;
    if l.when == 0 {
        l.put_back();
        return Some(false);
    }
    let tm = s.timers(l.p());
    l.when = 0;
    l.set_stamp(0);
    tm.add_deleted();
    s.leaf_block().add(Counter::Stopped, 1);
    l.unlock(State::Modified);
    if tm.owes_sweep() {
        sweep_over_bound(s, tm);
    }
    Some(true)
}
