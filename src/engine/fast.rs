//! The commonest cases of modtimer and deltimer, with as few instructions as can be: the
//! timer is in a heap, nothing of it changes but its time, and nobody else works on it.
//! They do what modtimer.rs does, in the same order; whatever is not such a case is left to
//! it, before anything was done. What is rare here too stands apart, so that the way
//! through saves no registers and calls nothing.

use super::modtimer::Arm;
use super::sweep::sweep_over_bound;
use super::timer::{CHAN, DETACHED, FREED, Fields, HAS_DROP, Quick, SHUTDOWN, SLACK, TimerRef};
use super::timers::Timers;
use super::{Counter, Procs};

/// modtimer. `None`: not such a case.
#[inline(always)]
pub(crate) fn rearm<S: Procs>(s: &S, t: TimerRef, arm: &Arm) -> Option<bool> {
    let block = s.quick_block()?;
    let mut l = t.try_lock_heaped(FREED | SHUTDOWN | DETACHED | HAS_DROP | CHAN | SLACK)?;
    let pending = l.when != 0;
    if arm.period != l.period || arm.add && pending || arm.set.is_some_and(|set| differs(&l, set)) {
        l.put_back();
        return None;
    }
    let tm = s.timers(l.p());
    l.when = arm.when;
    if pending {
        block.count_own(Counter::Rearmed);
    } else {
        block.count_own(Counter::Armed);
        tm.sub_deleted();
    }
    // One branch: of each part alone nobody could tell which way it goes.
    if tm.is_for_later_pass(arm.when) | ((arm.when < l.key) & tm.is_earliest(arm.when)) {
        return Some(earlier(s, tm, l, pending));
    }
    l.unlock(0);
    Some(pending)
}

#[inline(always)]
fn differs(l: &Fields, (f, arg, seq): (super::Func, *mut std::ffi::c_void, usize)) -> bool {
    l.arg != arg || l.seq != seq || !l.f.is_some_and(|was| std::ptr::fn_addr_eq(was, f))
}

/// The new time is due already, or the P's wake time gets earlier.
#[cold]
#[inline(never)]
fn earlier<S: Procs>(s: &S, tm: &Timers, l: Quick<'_>, pending: bool) -> bool {
    let when = l.when;
    let lowered = when < l.key && tm.update_timer_modified_earliest(when);
    l.unlock(tm.stamp_for(when));
    if lowered {
        tm.note_lowered(s, when);
    }
    pending
}

/// deltimer. `None`: not such a case.
#[inline(always)]
pub(crate) fn stop<S: Procs>(s: &S, t: TimerRef) -> Option<bool> {
    let block = s.quick_block()?;
    let mut l = t.try_lock_heaped(FREED | SHUTDOWN | DETACHED | CHAN)?;
    if l.when == 0 {
        l.put_back();
        return Some(false);
    }
    let tm = s.timers(l.p());
    l.when = 0;
    block.count_own(Counter::Stopped);
    tm.add_deleted();
    l.unlock(0);
    if tm.owes_sweep() {
        sweep_over_bound(s, tm);
    }
    Some(true)
}
