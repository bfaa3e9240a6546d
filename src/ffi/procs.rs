//! gt_p_*, binding, adopting, sleeping.

use super::handle::{call, call_ptr, gt_p, gt_sched, live_p, sched};
use crate::engine::Procs;
use crate::error::Error;
use crate::host::{Inside, acquire, release};
use crate::procs::{self, P, forked};
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

/// Makes a P. It adopts the timers that no P owns.
///
/// Ownership: the caller's, until gt_p_free.
/// Threads: any. Callback: yes.
/// Returns: the P, or NULL, and gt_last_error says GT_EINVAL, GT_ENOMEM, GT_ENOSPC (4095
/// Ps live), GT_ESHUTDOWN or GT_EFORK.
/// Since: 0.1. Source: Go's procresize.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_new(s: *mut gt_sched) -> *mut gt_p {
    // SAFETY: the caller's promise.
    call_ptr(|| procs::p_new(unsafe { sched(s) }?).map(|p| p.handle().cast()))
}

/// Frees a P, bound or not. Its timers go to another live P of the sched, which is
/// woken, or wait for the next gt_p_new. A pass over it that is under way ends after its
/// callback. Waits for wake hooks under way for it on other threads.
///
/// Ownership: the handle is dead after success. Freed twice: the checked build says
/// GT_ESTALE; otherwise it is the caller's error.
/// Threads: any. Callback: yes, also of a timer of this P; not from a wake hook.
/// Returns: 0, GT_EINVAL, GT_EDEADLK (from a wake hook), GT_ENOMEM (the P lives on and
/// no timer is lost), GT_ESTALE, GT_EFORK.
/// Since: 0.1. Source: Go's p.destroy.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_free(p: *mut gt_p) -> c_int {
    // SAFETY: the caller's promise.
    call(|| procs::p_free(unsafe { live_p(p) }?))
}

/// Binds the calling thread to a P: what it arms goes there. A thread that ends releases
/// its P.
///
/// Threads: any. Callback: yes.
/// Returns: 0 (also if it is bound to this P already), GT_EBUSY (the P is bound to
/// another thread, or the thread to another P), GT_ESTALE (the P is being freed), GT_EINVAL
/// (also: the thread is ending, and a pthread key's destructor calls this after the library's
/// own), GT_ENOMEM (as the first call of a thread: its end could not be noted, so nobody would
/// release the P), GT_EFORK.
/// Since: 0.1. Source: Go's acquirep.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_acquirep(p: *mut gt_p) -> c_int {
    // SAFETY: the caller's promise.
    call(|| procs::acquirep(unsafe { live_p(p) }?))
}

/// Unbinds the calling thread from its P.
///
/// Threads: any. Callback: yes.
/// Returns: the P, or NULL if there was none or it has been freed.
/// Since: 0.1. Source: Go's releasep.
#[unsafe(no_mangle)]
pub extern "C" fn gt_releasep() -> *mut gt_p {
    let _in = Inside::enter();
    if forked() {
        return std::ptr::null_mut();
    }
    procs::releasep().map_or(std::ptr::null_mut(), |p| p.handle().cast())
}

/// The P that the calling thread is bound to.
///
/// Threads: any. Callback: yes; a green thread may have been moved.
/// Returns: the P, or NULL.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_current_p() -> *mut gt_p {
    let _in = Inside::enter();
    if forked() {
        return std::ptr::null_mut();
    }
    procs::current_p().map_or(std::ptr::null_mut(), |p| p.handle().cast())
}

/// Keeps a pointer of the embedder's with a P. It is not looked at.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_set_userdata(p: *mut gt_p, data: *mut c_void) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let kept = &unsafe { live_p(p) }?.userdata;
        release(kept);
        kept.store(data, Ordering::Release);
        Ok(())
    })
}

/// The pointer that was kept with a P; NULL at first, and for a NULL P.
///
/// Threads: any. Callback: yes. Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_userdata(p: *mut gt_p) -> *mut c_void {
    call_ptr(|| {
        // SAFETY: the caller's promise.
        let kept = &unsafe { live_p(p) }?.userdata;
        let data = kept.load(Ordering::Acquire);
        acquire(kept);
        Ok(data)
    })
}

/// Entries in the P's heap, those of stopped timers included. Go's numTimers.
///
/// Threads: any. Callback: yes.
/// Returns: the number, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_num_timers(p: *mut gt_p) -> i64 {
    // SAFETY: the caller's promise.
    call(|| Ok(unsafe { live_p(p) }?.num_timers() as i64))
}

/// Entries of stopped timers in the P's heap. Go's deletedTimers.
///
/// Threads: any. Callback: yes.
/// Returns: the number, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_deleted_timers(p: *mut gt_p) -> i64 {
    // SAFETY: the caller's promise.
    call(|| Ok(unsafe { live_p(p) }?.deleted_timers() as i64))
}

/// Moves all timers that `from` has to `to`, and wakes `to` if one of them is earlier
/// than its own. Both Ps live on.
///
/// Threads: any. Callback: yes.
/// Returns: how many timers moved, GT_EINVAL (NULL, or the same P), GT_EXDEV (Ps of two
/// scheds), GT_ENOMEM (nothing moved), GT_ESTALE, GT_EFORK.
/// Since: 0.1. Source: Go's moveTimers.
///
/// # Safety
/// `to` and `from` are NULL or live Ps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_adopt_timers(to: *mut gt_p, from: *mut gt_p) -> c_int {
    // SAFETY: the caller's promise.
    call(|| procs::adopt_timers(unsafe { live_p(to) }?, unsafe { live_p(from) }?))
}

/// Go's nobarrierWakeTime: when the P must be looked at again, without its lock. Whoever
/// makes that earlier after this calls the wake hook.
///
/// Threads: any. Callback: yes.
/// Returns: the time, 0 if there is none, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_nobarrier_wake_time(p: *mut gt_p) -> i64 {
    // SAFETY: the caller's promise.
    call(|| Ok(unsafe { live_p(p) }?.wake_time()))
}

/// A file descriptor for poll, epoll and the like: readable when the P has a due timer.
/// Then call gt_check_timers, which makes it unreadable again; do not read it. A timerfd,
/// or an eventfd with the virtual clock. It may turn readable once for a timer that was
/// stopped meanwhile.
///
/// Ownership: the P's; closed by gt_p_free. The same at each call.
/// Threads: any. Callback: yes.
/// Returns: the descriptor, GT_EINVAL, GT_EMFILE, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_p_fd(p: *mut gt_p) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let p = unsafe { live_p(p) }?;
        let fd = p.fd.open(p.sched())?;
        p.update_fd();
        Ok(fd)
    })
}

/// Sleeps until the sched's clock reaches `until` (0 or GT_MAX_WHEN: for ever), or
/// somebody wakes the P. A wake before the sleep makes it return at once. Wall and boot
/// time are looked at every second, the host's clock every 20 ms, because the kernel
/// cannot wait on them; the virtual clock wakes when it is moved.
///
/// Threads: any; one sleeper per P is what it is for. Callback: yes, but it blocks.
/// Returns: 1 woken, 0 the time came, GT_EINVAL (NULL, until < 0), GT_ESTALE (the P was
/// freed meanwhile), GT_EFORK.
/// Since: 0.1. Source: Go's notetsleep.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_notetsleep(p: *mut gt_p, until: i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let p: &P = unsafe { live_p(p) }?;
        if until < 0 {
            return Err(Error::Inval);
        }
        p.hold();
        let woken = p.notetsleep(until);
        p.sched().unhold(p);
        woken
    })
}

/// Wakes who sleeps in gt_notetsleep for this P, or the next one. The default wake hook.
///
/// Threads: any. Callback: yes, and from hooks.
/// Returns: 0, GT_EINVAL, GT_EFORK.
/// Since: 0.1. Source: Go's notewakeup.
///
/// # Safety
/// `p` is NULL or a live P.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_notewakeup(p: *mut gt_p) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe { live_p(p) }?.note.wakeup();
        Ok(())
    })
}
