//! A virtual clock that moves when all is quiet: gt_sched_run_until_idle, gt_synctest_*.

use super::handle::{AbortOnPanic, call, gt_sched, sched};
use std::ffi::c_int;

/// Moves the virtual clock from deadline to deadline, running what is due, until no timer is
/// armed or the next one is more than `limit` nanoseconds away from where the call began.
/// The clock stays at the last deadline. Channel timers that nobody waits for are no
/// deadlines. GT_MAX_WHEN as limit: no limit; then a periodic timer, or a callback that
/// always arms another one, keeps it from ending.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if any timer ran, 0 if none, GT_EINVAL (NULL, limit < 0), GT_EOPNOTSUPP
/// (another clock), GT_ESHUTDOWN, GT_EFORK.
/// Since: 0.2.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn gt_sched_run_until_idle(s: *mut gt_sched, limit: i64) -> c_int {
    let _abort = AbortOnPanic::new();
    // SAFETY: the caller's promise.
    call(|| unsafe { sched(s) }?.run_until_idle(limit))
}

/// The calling thread joins the bubble of a sched with a virtual clock. When all threads of
/// the bubble are blocked in gt_sched_sleep, gt_timer_recv or gt_synctest_wait on this sched,
/// the last one to block moves the clock to the next deadline and runs what is due, until
/// one of them can go on. So tests with many threads and long time-outs take no time, and
/// time passes only when everybody waits for it.
///
/// A thread that blocks on anything else counts as running. It must leave before it ends.
/// When all are blocked and no timer is left, each of these calls gives GT_EDEADLK. So does
/// one that is made in a callback which the clock runs on its own thread; such callbacks
/// must not throw. Threads outside of the bubble may run the sched's timers too.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL, GT_EOPNOTSUPP (another clock), GT_EBUSY (the thread is in a bubble
/// already), GT_ESHUTDOWN, GT_EFORK.
/// Since: 0.2. Source: Go's testing/synctest.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_synctest_join(s: *mut gt_sched) -> c_int {
    // SAFETY: the caller's promise.
    call(|| {
        let s = unsafe { sched(s) }?;
        s.synctest_join()
    })
}

/// The calling thread leaves the bubble. If all others are blocked, it moves the clock for
/// them before it returns, until one of them can go on.
///
/// Threads: one that has joined. Callback: no.
/// Returns: 0, GT_EINVAL (NULL, or not in this bubble), GT_ESHUTDOWN, GT_EFORK.
/// Since: 0.2.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_synctest_leave(s: *mut gt_sched) -> c_int {
    // SAFETY: the caller's promise.
    call(|| {
        let s = unsafe { sched(s) }?;
        s.synctest_leave()
    })
}

/// Waits until all other threads of the bubble are blocked. The clock does not move.
///
/// Threads: one that has joined. Callback: no.
/// Returns: 0, GT_EINVAL (NULL, or not in this bubble), GT_EBUSY (another thread is in this
/// call), GT_EDEADLK (in a callback that the clock runs), GT_ESHUTDOWN, GT_EFORK.
/// Since: 0.2. Source: Go's synctest.Wait.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_synctest_wait(s: *mut gt_sched) -> c_int {
    // SAFETY: the caller's promise.
    call(|| {
        let s = unsafe { sched(s) }?;
        s.synctest_wait()
    })
}
