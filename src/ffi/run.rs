//! gt_check_timers and what else runs or repairs a P's timers.

use super::handle::{AbortOnPanic, call, gt_p, gt_sched, live_p, sched};
use crate::engine::{self, Checked, Procs, Rule};
use crate::error::{Error, Result};
use crate::procs;
use std::ffi::c_int;

/// The numbers that a broken rule has, see gt_verify_timer_heap: a key is smaller than
/// its parent's.
pub const GT_RULE_ORDER: i32 = 1;
/// A timer in this heap belongs to another P.
pub const GT_RULE_OWNER: i32 = 2;
/// A timer's recorded key is not its entry's.
pub const GT_RULE_KEY: i32 = 3;
/// A timer in a heap is Removed.
pub const GT_RULE_STATE: i32 = 4;
/// The count of dead entries is wrong.
pub const GT_RULE_DELETED: i32 = 5;
/// A timer would have fired before its time.
pub const GT_RULE_EARLY: i32 = 6;

const _: () = {
    assert!(GT_RULE_ORDER == Rule::Order as i32 && GT_RULE_OWNER == Rule::Owner as i32);
    assert!(GT_RULE_KEY == Rule::Key as i32 && GT_RULE_STATE == Rule::State as i32);
    assert!(GT_RULE_DELETED == Rule::Deleted as i32 && GT_RULE_EARLY == Rule::Early as i32);
};

fn check_now(now: i64) -> Result<()> {
    if now < 0 { Err(Error::Inval) } else { Ok(()) }
}

/// # Safety
/// Each pointer is NULL or writable.
unsafe fn answer(c: &Checked, rnow: *mut i64, poll_until: *mut i64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if !rnow.is_null() {
            *rnow = c.now;
        }
        if !poll_until.is_null() {
            *poll_until = c.poll_until;
        }
    }
    c.ran > 0
}

/// Go's runtimer: runs the first timer of a P if it is due at `now` (0: the clock).
/// Stale heads are repaired first.
///
/// Threads: any; the callback runs on the calling one. Callback: yes, of the same P too.
/// Returns: 0 it ran one; -1 the heap is empty; above 0: nothing is due before that time;
/// GT_EINVAL (NULL, now < 0), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn gt_runtimer(p: *mut gt_p, now: i64) -> i64 {
    let _abort = AbortOnPanic::new();
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        check_now(now)?;
        let now = if now == 0 { p.sched().now() } else { now };
        Ok(match engine::runtimer(p.sched(), p, now) {
            (true, _) => 0,
            (false, 0) => -1,
            (false, when) => when,
        })
    })
}

/// Go's checkTimers: one pass over a P. Runs the timers due at `now` (0: the clock), in
/// order of their time, on the calling thread, but no more than the heap held at its
/// start. An arming that is made meanwhile for a time not after `now` waits for the next
/// pass. With nothing due and nothing to clean up it takes no lock.
///
/// `*rnow` is the `now` of the pass. `*poll_until` is when to call again: 0 not before the
/// wake hook says so; not after `*rnow` when there is more to do at once. Whoever makes it
/// earlier calls the wake hook. Either pointer may be NULL.
///
/// Threads: any; usually the P's own. Callback: yes, of the same P too.
/// Returns: 1 if any timer ran, else 0; GT_EINVAL (NULL P, now < 0), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P; `rnow` and `poll_until` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn gt_check_timers(
    p: *mut gt_p,
    now: i64,
    rnow: *mut i64,
    poll_until: *mut i64,
) -> c_int {
    let _abort = AbortOnPanic::new();
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        check_now(now)?;
        let c = engine::check_timers(p.sched(), p, now);
        // SAFETY: the caller's promise.
        Ok(unsafe { answer(&c, rnow, poll_until) })
    })
}

/// Steals: a pass over each other P of the sched that has a due timer, and over the
/// timers that no P owns. `self_p` is passed over; NULL: all are visited.
///
/// `*rnow` is the `now` that all were judged against; `*poll_until` the earliest time at
/// which one of them wants to be looked at again, 0 if none does. Either may be NULL.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if any timer ran, else 0; GT_EINVAL (NULL sched, now < 0), GT_EXDEV (self_p
/// is of another sched), GT_EFORK.
/// Since: 0.1. Source: Go's stealWork.
///
/// # Safety
/// `s` is NULL or a live sched, `self_p` NULL or a live P; `rnow` and `poll_until` are NULL
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn gt_check_others(
    s: *mut gt_sched,
    self_p: *mut gt_p,
    now: i64,
    rnow: *mut i64,
    poll_until: *mut i64,
) -> c_int {
    let _abort = AbortOnPanic::new();
    call(|| {
        // SAFETY: the caller's promise.
        let s = unsafe { sched(s) }?;
        check_now(now)?;
        let me = if self_p.is_null() {
            None
        } else {
            // SAFETY: the caller's promise.
            Some(unsafe { live_p(self_p) }?)
        };
        if me.is_some_and(|me| !std::ptr::eq(me.sched(), s)) {
            return Err(Error::Xdev);
        }
        let c = procs::check_others(s, me, now);
        // SAFETY: the caller's promise.
        Ok(unsafe { answer(&c, rnow, poll_until) })
    })
}

/// Go's adjusttimers: gives each re-armed timer its place in the heap, and takes stopped
/// ones off, if one of them is due at `now` (0: the clock), or `force` is not 0.
/// gt_check_timers does this itself.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL (NULL, now < 0), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_adjusttimers(p: *mut gt_p, now: i64, force: c_int) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        check_now(now)?;
        let s = p.sched();
        let now = if now == 0 { s.now() } else { now };
        engine::adjusttimers(&mut p.lock(s), now, force != 0);
        p.update_fd();
        Ok(())
    })
}

/// Go's cleantimers: repairs stale timers at the head of the heap, at most 64; fewer while a scan
/// of gt_adjusttimers or of a pass is under way, which repairs them too.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_cleantimers(p: *mut gt_p) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        engine::cleantimers(&mut p.lock(p.sched()));
        p.update_fd();
        Ok(())
    })
}

/// Takes the entries of all stopped timers off, 64 places per hold of the P's lock, and
/// gives memory back that the heap no longer needs.
///
/// Threads: any. Callback: yes.
/// Returns: how many entries it took off, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_trim(p: *mut gt_p) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        let swept = engine::trim(p.sched(), p);
        p.update_fd();
        Ok(swept)
    })
}

/// Go's verifyTimerHeap: looks at every entry of the P's heap.
///
/// Threads: any. Callback: yes.
/// Returns: 0, or above 0 the rule that is broken, GT_RULE_…, which gt_strerror names;
/// GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_verify_timer_heap(p: *mut gt_p) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        let broken = engine::verify_timer_heap(&mut p.lock(p.sched()));
        Ok(broken.map_or(0, |(rule, _)| rule as i32))
    })
}
