//! Package time: gt_after_func, gt_new_timer, gt_new_ticker, gt_sleep and their kin.

use super::handle::{call, call_often, call_ptr, gt_sched, gt_timer, sched, timer, timer_handle};
use super::ids::find;
use super::timers::{gt_drop_func, gt_func};
use crate::engine::{self, Arm, Func, TimerRef};
use crate::error::{Error, Result};
use crate::procs::{Sched, hot};
use crate::{rt, time};
use std::ffi::{c_int, c_void};

/// AfterFunc: a timer that is armed for now + d.
fn after_func(
    s: &Sched,
    d: i64,
    f: gt_func,
    arg: *mut c_void,
    drop: gt_drop_func,
) -> Result<*mut gt_timer> {
    let f: Func = f.ok_or(Error::Inval)?;
    let t = s.timer_new(f, arg, drop, 0)?;
    if let Err(e) = engine::modtimer(s, t, None, None, &Arm::at(time::when(s, d), 0)) {
        // The argument stays the caller's: it is not dropped.
        engine::disown_arg(s, t);
        let _ = engine::timer_free(s, t, None);
        return Err(e);
    }
    Ok(timer_handle(t))
}

fn stop(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    if time::is_chan(t) {
        time::stop(s, t, id)
    } else {
        engine::deltimer(s, t, id)
    }
}

fn reset(s: &Sched, t: TimerRef, id: Option<u32>, d: i64) -> Result<bool> {
    if time::is_chan(t) {
        time::reset(s, t, id, d)
    } else {
        engine::modtimer(s, t, id, None, &Arm::at(time::when(s, d), 0))
    }
}

/// Hands a received value to the caller.
///
/// # Safety
/// `sent` is NULL or points to a writable number.
unsafe fn give(value: i64, sent: *mut i64) {
    if value != 0 && !sent.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *sent = value };
    }
}

/// Calls f(arg, 0, late) once, when `d` nanoseconds have passed; at once if d <= 0; never if
/// that is past the end of time. On a worker of the built-in runtime: started or not yet,
/// the timer is kept. `drop` is as for gt_timer_new, and may be NULL.
///
/// Ownership: the caller's, until gt_timer_free or gt_timer_detach, which are both allowed at
/// once: gt_timer_detach makes it fire and forget. On failure arg stays the caller's.
/// Threads: any. Callback: yes.
/// Returns: the timer, or NULL, and gt_last_error says GT_EINVAL (NULL f), GT_ENOMEM,
/// GT_ENOSPC or GT_EFORK.
/// Since: 0.2. Source: Go's time.AfterFunc.
///
/// # Safety
/// `f` and `drop` may be called with `arg` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_after_func(
    d: i64,
    f: gt_func,
    arg: *mut c_void,
    drop: gt_drop_func,
) -> *mut gt_timer {
    call_ptr(|| after_func(rt::sched()?, d, f, arg, drop))
}

/// gt_after_func on a sched: f is called by whoever runs its timers.
///
/// Ownership, threads, callback: as gt_after_func.
/// Returns: as gt_after_func; GT_EINVAL (NULL s), GT_ESHUTDOWN.
/// Since: 0.2. Source: Go's time.AfterFunc.
///
/// # Safety
/// `s` is NULL or a live sched; `f` and `drop` may be called with `arg` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_after_func(
    s: *mut gt_sched,
    d: i64,
    f: gt_func,
    arg: *mut c_void,
    drop: gt_drop_func,
) -> *mut gt_timer {
    // SAFETY: the caller's promise.
    call_ptr(|| after_func(unsafe { sched(s) }?, d, f, arg, drop))
}

/// Makes a timer with a channel: after `d` nanoseconds (at once if d <= 0) a value can be
/// received from it, once. While nobody waits for the value, the timer is in no heap and
/// costs nothing; it is evaluated when somebody looks.
///
/// Such a timer takes gt_timer_stop, gt_timer_reset, gt_timer_recv, gt_timer_try_recv,
/// gt_timer_fd, gt_timer_when, gt_timer_status (0 while nobody waits), gt_timer_set_slack,
/// gt_timer_id, gt_shutdown_timer and gt_timer_free; the calls that arm and stop timers with an f give GT_EINVAL.
///
/// Ownership: the caller's, until gt_timer_free.
/// Threads: any. Callback: yes.
/// Returns: the timer, or NULL, and gt_last_error says GT_ENOMEM, GT_ENOSPC or GT_EFORK.
/// Since: 0.2. Source: Go's time.NewTimer, as of Go 1.23.
#[unsafe(no_mangle)]
pub extern "C" fn gt_new_timer(d: i64) -> *mut gt_timer {
    call_ptr(|| time::new_chan(rt::sched()?, d, false, false).map(timer_handle))
}

/// gt_new_timer on a sched. While somebody waits for its value, whoever runs the sched's
/// timers sends it; it goes by the sched's clock.
///
/// Ownership, threads, callback: as gt_new_timer.
/// Returns: as gt_new_timer; GT_EINVAL (NULL s), GT_ESHUTDOWN.
/// Since: 0.2. Source: Go's time.NewTimer.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_new_timer(s: *mut gt_sched, d: i64) -> *mut gt_timer {
    // SAFETY: the caller's promise.
    call_ptr(|| time::new_chan(unsafe { sched(s) }?, d, false, false).map(timer_handle))
}

/// Makes a ticker: a value every `d` nanoseconds. Its channel holds one; ticks that find it
/// full are dropped, and missed ones are skipped: the phase is kept.
///
/// Ownership, threads, callback: as gt_new_timer.
/// Returns: as gt_new_timer; GT_EINVAL if d <= 0.
/// Since: 0.2. Source: Go's time.NewTicker.
#[unsafe(no_mangle)]
pub extern "C" fn gt_new_ticker(d: i64) -> *mut gt_timer {
    call_ptr(|| time::new_chan(rt::sched()?, d, true, false).map(timer_handle))
}

/// gt_new_ticker on a sched.
///
/// Ownership, threads, callback: as gt_new_timer.
/// Returns: as gt_sched_new_timer; GT_EINVAL if d <= 0.
/// Since: 0.2. Source: Go's time.NewTicker.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_new_ticker(s: *mut gt_sched, d: i64) -> *mut gt_timer {
    // SAFETY: the caller's promise.
    call_ptr(|| time::new_chan(unsafe { sched(s) }?, d, true, false).map(timer_handle))
}

/// gt_new_timer that frees itself when its value is received. In Go, the garbage collector
/// does that.
///
/// Ownership: the caller's, until the value was received: then the handle is dead. If it
/// shall not be received, gt_timer_free.
/// Threads: any. Callback: yes.
/// Returns: as gt_new_timer.
/// Since: 0.2. Source: Go's time.After.
#[unsafe(no_mangle)]
pub extern "C" fn gt_after(d: i64) -> *mut gt_timer {
    call_ptr(|| time::new_chan(rt::sched()?, d, false, true).map(timer_handle))
}

/// gt_new_ticker, for which d <= 0 is no error.
///
/// Ownership, threads, callback: as gt_new_timer.
/// Returns: as gt_new_ticker; NULL if d <= 0, and gt_last_error says 0.
/// Since: 0.2. Source: Go's time.Tick.
#[unsafe(no_mangle)]
pub extern "C" fn gt_tick(d: i64) -> *mut gt_timer {
    if d <= 0 {
        hot().last_error.set(0);
        return std::ptr::null_mut();
    }
    gt_new_ticker(d)
}

/// Puts the caller to sleep for `d` nanoseconds; d <= 0 returns at once. A thread sleeps in
/// the kernel, started runtime or not. A green thread, of a runtime that was given hooks
/// for that, is parked.
///
/// Threads: any. Callback: yes, but it blocks the worker.
/// Returns: 0, GT_ENOMEM, GT_EFORK.
/// Since: 0.2. Source: Go's time.Sleep.
#[unsafe(no_mangle)]
pub extern "C" fn gt_sleep(d: i64) -> c_int {
    call(|| time::sleep(rt::sched()?, d))
}

/// gt_sleep on a sched's clock. Green threads park (gt_host.park), and their timer is armed
/// when they have left their stack. On the virtual clock the caller sleeps until somebody
/// moves it.
///
/// Threads: any. Callback: yes, but it blocks.
/// Returns: 0, GT_EINVAL, GT_ENOMEM, GT_ESHUTDOWN, GT_EFORK; GT_EDEADLK (the thread has
/// joined a bubble, and nothing would ever wake it).
/// Since: 0.2. Source: Go's time.Sleep, resetForSleep.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_sleep(s: *mut gt_sched, d: i64) -> c_int {
    // SAFETY: the caller's promise.
    call(|| time::sleep(unsafe { sched(s) }?, d))
}

/// Stops any timer. Of a channel timer no value can be received afterwards, until it is
/// reset; who waits in gt_timer_recv goes on waiting.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if it stopped a pending arming, which for a channel timer means that its value
/// was not received, else 0; GT_EINVAL, GT_ESTALE, GT_ESHUTDOWN, GT_EFAULT (checked build),
/// GT_EFORK.
/// Since: 0.2. Source: Go's Timer.Stop, Ticker.Stop.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_stop(t: *mut gt_timer) -> c_int {
    call_often(move || {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        stop(s, t, None)
    })
}

/// Arms any timer anew, for now + d: a ticker with the period d, which must be above 0; the
/// others once, at once if d <= 0. No value from before can be received afterwards.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if it replaced a pending arming, which for a channel timer means that its value
/// was not received, else 0; GT_EINVAL (NULL, or a ticker and d <= 0), GT_ENOMEM, GT_ESTALE,
/// GT_ESHUTDOWN, GT_EFAULT (checked build), GT_EFORK.
/// Since: 0.2. Source: Go's Timer.Reset, Ticker.Reset.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_reset(t: *mut gt_timer, d: i64) -> c_int {
    call_often(move || {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        reset(s, t, None, d)
    })
}

/// Receives a value from a channel timer: waits until there is one. `*sent` becomes the time
/// at which the timer should have fired; `sent` may be NULL. Each value goes to one
/// receiver, the first that waited. On a stopped timer it waits until somebody resets it.
/// Green threads park (gt_host.park); threads block, and somebody else must run the
/// sched's timers meanwhile, as the built-in runtime does.
///
/// Threads: any. Callback: yes, but it blocks.
/// Returns: 0; GT_EINVAL (NULL, or a timer without a channel), GT_ESTALE (freed, also while
/// waiting), GT_ESHUTDOWN (also while waiting), GT_ENOMEM, GT_EDEADLK (the thread has
/// joined a bubble, and nothing would ever wake it), GT_EFAULT (checked build), GT_EFORK.
/// Since: 0.2. Source: receiving from a Go timer's channel.
///
/// # Safety
/// `t` is NULL or a live timer; `sent` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_recv(t: *mut gt_timer, sent: *mut i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let (t, s) = timer(t)?;
            time::recv(s, t, None).map(|v| give(v, sent))
        }
    })
}

/// Receives a value from a channel timer if there is one.
///
/// Threads: any. Callback: yes.
/// Returns: 1 and *sent (which may be NULL) as gt_timer_recv, or 0; errors as gt_timer_recv.
/// Since: 0.2. Source: a Go select with a default.
///
/// # Safety
/// `t` is NULL or a live timer; `sent` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_try_recv(t: *mut gt_timer, sent: *mut i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let (t, s) = timer(t)?;
            let value = time::try_recv(s, t, None)?;
            give(value, sent);
            Ok(value != 0)
        }
    })
}

/// A descriptor for poll, epoll and the like: readable while a value can be received. Do
/// not read it: gt_timer_try_recv, gt_timer_stop and gt_timer_reset make it unreadable
/// before they return. From now on the timer counts as waited for.
///
/// Ownership: the timer's; closed when it is freed or shut down. The same at each call.
/// Threads: any. Callback: yes.
/// Returns: the descriptor, GT_EINVAL (NULL, or a timer without a channel), GT_EMFILE,
/// GT_ENOMEM, GT_ESTALE, GT_ESHUTDOWN, GT_EFAULT (checked build), GT_EFORK.
/// Since: 0.2.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_fd(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        time::timer_fd(s, t)
    })
}

/// Allows a timer to fire up to `ns` nanoseconds late, never early, so that timers of about
/// the same time share one wake-up of the processor: its deadlines are rounded up to
/// multiples of the greatest power of two that is not above `ns`. 0: precise, the default
/// unless gt_config.slack says otherwise. Holds for a pending arming too.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL (NULL, ns < 0), GT_ESTALE, GT_ESHUTDOWN, GT_EFAULT (checked build),
/// GT_EFORK.
/// Since: 0.2. Source: Linux's timer slack.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_set_slack(t: *mut gt_timer, ns: i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        if ns < 0 {
            return Err(Error::Inval);
        }
        engine::set_slack(s, t, None, ns)
    })
}

/// gt_timer_stop by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_stop; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.2.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_stop_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find(s, id) }?;
        stop(s, t, generation)
    })
}

/// gt_timer_reset by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_reset; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.2.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_reset_id(s: *mut gt_sched, id: u64, d: i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find(s, id) }?;
        reset(s, t, generation, d)
    })
}

/// gt_timer_recv by id.
///
/// Threads: any. Callback: yes, but it blocks.
/// Returns: as gt_timer_recv; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.2.
///
/// # Safety
/// `s` is NULL or a live sched; `sent` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_recv_id(s: *mut gt_sched, id: u64, sent: *mut i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let (s, t, generation) = find(s, id)?;
            time::recv(s, t, generation).map(|v| give(v, sent))
        }
    })
}

/// gt_timer_try_recv by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_try_recv; GT_ESTALE for an id that is dead, or was never one of this
/// sched.
/// Since: 0.2.
///
/// # Safety
/// `s` is NULL or a live sched; `sent` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_try_recv_id(s: *mut gt_sched, id: u64, sent: *mut i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let (s, t, generation) = find(s, id)?;
            let value = time::try_recv(s, t, generation)?;
            give(value, sent);
            Ok(value != 0)
        }
    })
}
