//! gt_timer_*, gt_addtimer and its kin, by handle.

use super::handle::{
    any_timer, call, call_ptr, fast_timer, func_timer, gt_p, gt_sched, gt_timer, live_p, pointer,
    sched, timer, timer_handle,
};
use crate::engine::{self, Arm, Func, State, TimerRef, Timers, fast};
use crate::error::{Error, Result};
use crate::host::Boundary;
use crate::procs::{self, P, Sched, forked};
use crate::time;
use libc::uintptr_t;
use std::ffi::{c_int, c_void};

/// What a timer calls: the argument, the sequence number of gt_modtimer, and how late the
/// call is: now - when, in nanoseconds, never below 0.
///
/// No lock is held: f may call any function of this library, its own timer included,
/// switch stacks and end on another thread, or leave by a C++ exception. It must return
/// or throw: longjmp over it is undefined.
#[allow(non_camel_case_types)]
pub type gt_func =
    Option<unsafe extern "C-unwind" fn(arg: *mut c_void, seq: uintptr_t, delay: i64)>;

/// Is called once when f can never be called with arg again, with no lock held. Must not
/// throw.
#[allow(non_camel_case_types)]
pub type gt_drop_func = Option<unsafe extern "C" fn(arg: *mut c_void)>;

/// Removed: in no heap, not armed.
pub const GT_TIMER_REMOVED: i32 = 0;
/// Waiting: in a heap, in its place.
pub const GT_TIMER_WAITING: i32 = 1;
/// Modified: in a heap, re-armed or stopped since; the heap's owner will see to it.
pub const GT_TIMER_MODIFIED: i32 = 2;
/// Locked: somebody is working on it at this moment.
pub const GT_TIMER_LOCKED: i32 = 3;

const _: () = {
    assert!(GT_TIMER_REMOVED == State::Removed as i32 && GT_TIMER_WAITING == State::Waiting as i32);
    assert!(GT_TIMER_MODIFIED == State::Modified as i32 && GT_TIMER_LOCKED == State::Locked as i32);
};

/// Checks the numbers of an arming.
#[inline(always)]
pub(super) fn arm(when: i64, period: i64, add: bool) -> Result<Arm> {
    if when <= 0 || period < 0 {
        Err(Error::Inval)
    } else {
        Ok(Arm {
            when,
            period,
            set: None,
            add,
        })
    }
}

#[inline(always)]
pub(super) fn arm_with(
    when: i64,
    period: i64,
    f: gt_func,
    arg: *mut c_void,
    seq: usize,
) -> Result<Arm> {
    let f: Func = f.ok_or(Error::Inval)?;
    Ok(Arm {
        set: Some((f, arg, seq)),
        ..arm(when, period, false)?
    })
}

/// The same for the short paths, which look at the numbers themselves.
#[inline(always)]
fn unchecked(when: i64, period: i64, f: gt_func, arg: *mut c_void, seq: usize) -> Option<Arm> {
    let set = Some((f?, arg, seq));
    Some(Arm {
        set,
        ..Arm::at(when, period)
    })
}

/// modtimer by handle, when fast::rearm has left it to us. Here and below: what a short path ends
/// in is `extern "C"`, which no panic leaves, so that it can be jumped to.
///
/// # Safety
/// As for `any_timer`.
#[cold]
#[inline(never)]
unsafe extern "C" fn modtimer_by(
    t: *mut gt_timer,
    when: i64,
    period: i64,
    f: gt_func,
    arg: *mut c_void,
    seq: uintptr_t,
) -> c_int {
    // SAFETY: the caller's promise.
    let fast = unsafe { fast_timer(t) }.zip(unchecked(when, period, f, arg, seq));
    if let Some(replaced) = fast.and_then(|(t, arm)| fast::rearm_any::<Sched>(t, &arm)) {
        return replaced as c_int;
    }
    call(|| {
        // SAFETY: as above.
        let (t, s) = unsafe { func_timer(t) }?;
        engine::modtimer(s, t, None, None, &arm_with(when, period, f, arg, seq)?)
    })
}

/// For calls that keep f, arg and seq, when fast::rearm has left it to us: most likely the
/// timer is in no heap.
///
/// # Safety
/// As for `any_timer`.
#[inline(never)]
unsafe extern "C" fn rearm_by(t: *mut gt_timer, when: i64, period: i64, add: bool) -> c_int {
    let arm = Arm {
        add,
        ..Arm::at(when, period)
    };
    // SAFETY: the caller's promise.
    let fast = unsafe { fast_timer(t) };
    match fast.and_then(|t| fast::insert::<Sched>(t, &arm)) {
        Some(replaced) => replaced as c_int,
        // SAFETY: as above.
        None => unsafe { rearm_slowly(t, when, period, add) },
    }
}

/// # Safety
/// As for `any_timer`.
#[cold]
#[inline(never)]
unsafe extern "C" fn rearm_slowly(t: *mut gt_timer, when: i64, period: i64, add: bool) -> c_int {
    let unchecked = Arm {
        add,
        ..Arm::at(when, period)
    };
    // SAFETY: the caller's promise.
    let fast = unsafe { fast_timer(t) };
    if let Some(replaced) = fast.and_then(|t| fast::rearm_any::<Sched>(t, &unchecked)) {
        return replaced as c_int;
    }
    call(|| {
        // SAFETY: as above.
        let (t, s) = unsafe { func_timer(t) }?;
        engine::modtimer(s, t, None, None, &arm(when, period, add)?)
    })
}

/// deltimer by handle, when fast::stop has left it to us.
///
/// # Safety
/// As for `any_timer`.
#[cold]
#[inline(never)]
unsafe extern "C" fn deltimer_by(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { func_timer(t) }?;
        engine::deltimer(s, t, None)
    })
}

/// The P that a call names, which must be of the timer's sched.
fn on<'a>(s: &Sched, p: &'a P) -> Result<&'a Timers> {
    if std::ptr::eq(s, p.sched()) {
        Ok(p)
    } else {
        Err(Error::Xdev)
    }
}

/// Makes a timer: not armed, calling f(arg, 0, delay) when it fires.
///
/// `drop` may be NULL. If not, drop(arg) is called exactly once, when f can never be
/// called with arg again: by gt_timer_free, gt_shutdown_timer, gt_sched_free, or a
/// gt_modtimer that gives another arg, in the calling thread; or, if a call of f is under
/// way then, when the last such call ends, in its thread.
///
/// Ownership: the caller's, until gt_timer_free or gt_timer_detach. On failure arg stays
/// the caller's, and is not dropped.
/// Threads: any. Callback: yes.
/// Returns: the timer, or NULL, and gt_last_error says GT_EINVAL (NULL s or f),
/// GT_ENOMEM, GT_ENOSPC, GT_ESHUTDOWN or GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched; `f` and `drop` may be called with `arg` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_new(
    s: *mut gt_sched,
    f: gt_func,
    arg: *mut c_void,
    drop: gt_drop_func,
) -> *mut gt_timer {
    // SAFETY: the caller's promise, in both ways.
    unsafe {
        if Boundary::is_usual() {
            pointer(new_timer(s, f, arg, drop))
        } else {
            new_timer_unusually(s, f, arg, drop)
        }
    }
}

/// # Safety
/// As for gt_timer_new.
#[inline(always)]
unsafe fn new_timer(
    s: *mut gt_sched,
    f: gt_func,
    arg: *mut c_void,
    drop: gt_drop_func,
) -> Result<*mut gt_timer> {
    // SAFETY: the caller's promise.
    let s = unsafe { sched(s) }?;
    let f = f.ok_or(Error::Inval)?;
    s.timer_new(f, arg, drop, 0).map(timer_handle)
}

/// Apart, so that the usual way needs not keep its arguments over a call.
///
/// # Safety
/// As for gt_timer_new.
#[cold]
#[inline(never)]
unsafe fn new_timer_unusually(
    s: *mut gt_sched,
    f: gt_func,
    arg: *mut c_void,
    drop: gt_drop_func,
) -> *mut gt_timer {
    // SAFETY: the caller's promise.
    call_ptr(|| unsafe { new_timer(s, f, arg, drop) })
}

/// Stops a timer and gives it back. Never blocks. A call of f that is under way goes on;
/// its argument is dropped when it ends. Who waits in gt_timer_recv for it gets GT_ESTALE.
///
/// Ownership: the handle and its id are dead after this. So is a descriptor of gt_timer_fd.
/// Threads: any. Callback: yes, the timer's own included; there a second call gives
/// GT_ESTALE.
/// Returns: 1 if it stopped a pending arming, else 0; GT_EINVAL, GT_ESTALE, GT_EFAULT
/// (checked build), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_free(t: *mut gt_timer) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { fast_timer(t) }.and_then(fast::free::<Sched>) {
        Some(stopped) => stopped as c_int,
        // SAFETY: as above.
        None => unsafe { free_by(t) },
    }
}

/// gt_timer_free, when fast::free has left it to us: most likely the timer is in no heap.
///
/// # Safety
/// As for `any_timer`.
#[inline(never)]
unsafe extern "C" fn free_by(t: *mut gt_timer) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { fast_timer(t) }.and_then(fast::free_removed::<Sched>) {
        Some(stopped) => stopped as c_int,
        // SAFETY: as above.
        None => unsafe { free_long(t) },
    }
}

/// # Safety
/// As for `any_timer`.
#[cold]
#[inline(never)]
unsafe extern "C" fn free_long(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise. Legal after gt_sched_free too.
        let (t, s) = unsafe { any_timer(t) }?;
        free(s, t, None)
    })
}

/// Arms a timer that is not armed: f at `when`, then, if `period` is not 0, every
/// `period` nanoseconds. A `when` in the past is due at once; at GT_MAX_WHEN it never
/// fires. It goes to the P that the thread is bound to, else to the one that the timer
/// was on last, else to one that is chosen.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EALREADY (it is armed), GT_EINVAL (NULL, when <= 0, period < 0),
/// GT_ESHUTDOWN, GT_ENOMEM, GT_ESTALE, GT_EFAULT (checked build), GT_EFORK.
/// Since: 0.1. Source: Go's addtimer.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_addtimer(t: *mut gt_timer, when: i64, period: i64) -> c_int {
    let arm = Arm {
        add: true,
        ..Arm::at(when, period)
    };
    // SAFETY: the caller's promise.
    match unsafe { fast_timer(t) }.and_then(|t| fast::rearm_any::<Sched>(t, &arm)) {
        Some(replaced) => replaced as c_int,
        // SAFETY: as above.
        None => unsafe { rearm_by(t, when, period, true) },
    }
}

/// Arms a timer, armed or not, with new f, arg and seq. If it is in a heap it stays
/// there. Another arg than before drops the old one, see gt_timer_new.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if an arming was pending, which this replaces; else 0; GT_EINVAL (NULL t or
/// f, when <= 0, period < 0), GT_ESHUTDOWN, GT_ENOMEM, GT_ESTALE, GT_EFAULT (checked
/// build), GT_EFORK.
/// Since: 0.1. Source: Go's modtimer.
///
/// # Safety
/// `t` is NULL or a live timer; `f` may be called with `arg` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_modtimer(
    t: *mut gt_timer,
    when: i64,
    period: i64,
    f: gt_func,
    arg: *mut c_void,
    seq: uintptr_t,
) -> c_int {
    // SAFETY: the caller's promise.
    let fast = unsafe { fast_timer(t) }.zip(unchecked(when, period, f, arg, seq));
    match fast.and_then(|(t, arm)| fast::rearm::<Sched>(t, &arm)) {
        Some(replaced) => replaced as c_int,
        // SAFETY: as above.
        None => unsafe { modtimer_by(t, when, period, f, arg, seq) },
    }
}

/// Arms a timer, armed or not, keeping f, arg and seq.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if an arming was pending, which this replaces; else 0; GT_EINVAL (NULL,
/// when <= 0, period < 0), GT_ESHUTDOWN, GT_ENOMEM, GT_ESTALE, GT_EFAULT (checked build),
/// GT_EFORK.
/// Since: 0.1. Source: Go's resettimer.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_resettimer(t: *mut gt_timer, when: i64, period: i64) -> c_int {
    let arm = Arm::at(when, period);
    // SAFETY: the caller's promise.
    match unsafe { fast_timer(t) }.and_then(|t| fast::rearm::<Sched>(t, &arm)) {
        Some(replaced) => replaced as c_int,
        // SAFETY: as above.
        None => unsafe { rearm_by(t, when, period, false) },
    }
}

/// gt_addtimer, naming the P that the timer goes to. One that is still in a heap, as a
/// stopped timer may be, stays there.
/// If the P is freed meanwhile, another one is chosen.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_addtimer; GT_EXDEV (a P of another sched).
/// Since: 0.1.
///
/// # Safety
/// `p` is NULL or a live P, `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_addtimer_on(
    p: *mut gt_p,
    t: *mut gt_timer,
    when: i64,
    period: i64,
) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let ((t, s), p) = unsafe { (func_timer(t)?, live_p(p)?) };
        engine::modtimer(s, t, None, Some(on(s, p)?), &arm(when, period, true)?)
    })
}

/// gt_modtimer, naming the P that the timer goes to if it is in no heap.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_modtimer; GT_EXDEV as gt_addtimer_on.
/// Since: 0.1.
///
/// # Safety
/// As for gt_modtimer and gt_addtimer_on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_modtimer_on(
    p: *mut gt_p,
    t: *mut gt_timer,
    when: i64,
    period: i64,
    f: gt_func,
    arg: *mut c_void,
    seq: uintptr_t,
) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let ((t, s), p) = unsafe { (func_timer(t)?, live_p(p)?) };
        engine::modtimer(
            s,
            t,
            None,
            Some(on(s, p)?),
            &arm_with(when, period, f, arg, seq)?,
        )
    })
}

/// gt_resettimer, naming the P that the timer goes to if it is in no heap.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_resettimer; GT_EXDEV as gt_addtimer_on.
/// Since: 0.1.
///
/// # Safety
/// As for gt_addtimer_on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_resettimer_on(
    p: *mut gt_p,
    t: *mut gt_timer,
    when: i64,
    period: i64,
) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let ((t, s), p) = unsafe { (func_timer(t)?, live_p(p)?) };
        engine::modtimer(s, t, None, Some(on(s, p)?), &arm(when, period, false)?)
    })
}

/// Stops a timer. After 1, a one-shot's f is not called for that arming; a periodic
/// firing that was already taken may still begin. After 0, f may be running, or about to.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if it stopped a pending arming, 0 if none was pending, GT_EINVAL,
/// GT_ESTALE, GT_ESHUTDOWN (the sched was freed), GT_EFAULT (checked build), GT_EFORK.
/// Since: 0.1. Source: Go's deltimer.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_deltimer(t: *mut gt_timer) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { fast_timer(t) }.and_then(fast::stop::<Sched>) {
        Some(stopped) => stopped as c_int,
        // SAFETY: as above.
        None => unsafe { deltimer_by(t) },
    }
}

/// Stops a timer and waits until no call of f is under way; stops it again if f armed it
/// again. Afterwards f is not running, and will not, until somebody arms the timer.
///
/// Threads: any. Callback: yes, but of its own timer GT_EDEADLK.
/// Returns: as gt_deltimer; GT_EDEADLK if waiting could never end: called from f itself,
/// or by contexts that wait for each other, of which one is told. The timer is stopped then, too.
/// Since: 0.1. Source: Linux's timer_delete_sync.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_deltimer_sync(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { func_timer(t) }?;
        procs::deltimer_sync(s, t, None)
    })
}

/// Stops a timer for good: every later arming gives GT_ESHUTDOWN. Its argument is
/// dropped. The handle stays, for gt_timer_free; a detached timer, which has none, is freed.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_deltimer.
/// Since: 0.1. Source: Linux's timer_shutdown.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_shutdown_timer(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        shutdown(s, t, None)
    })
}

/// Gives up the handle without stopping the timer: fire and forget. It frees itself when
/// it has fired (and f did not arm it again, by id) or is stopped by id. One that is not
/// armed is freed at once; a periodic one goes on until it is stopped by id.
///
/// Ownership: the handle is dead after this; the id lives as long as the timer.
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL, GT_ESTALE, GT_ESHUTDOWN, GT_EFAULT (checked build), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_detach(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { func_timer(t) }?;
        engine::detach(s, t, None)
    })
}

/// The state of a timer at this moment: GT_TIMER_…
///
/// Threads: any. Callback: yes.
/// Returns: the state, GT_EINVAL, GT_ESTALE, GT_ESHUTDOWN, GT_EFAULT (checked build),
/// GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_status(t: *mut gt_timer) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        status(s, t, None)
    })
}

pub(super) fn status(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<i32> {
    engine::timer_status(s, t, id).map(|state| state as i32)
}

/// When a timer will fire: what was asked for.
///
/// Threads: any. Callback: yes; there, a one-shot is no longer armed.
/// Returns: the time, 0 if it is not armed, or an error as gt_timer_status.
/// Since: 0.1.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_when(t: *mut gt_timer) -> i64 {
    call(|| {
        // SAFETY: the caller's promise.
        let (t, s) = unsafe { timer(t) }?;
        when(s, t, None)
    })
}

pub(super) fn when(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<i64> {
    if time::is_chan(t) {
        time::chan_when(s, t, id)
    } else {
        engine::timer_when(s, t, id)
    }
}

pub(super) fn free(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    if time::is_chan(t) {
        time::free(s, t, id)
    } else {
        engine::timer_free(s, t, id)
    }
}

pub(super) fn shutdown(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    if time::is_chan(t) {
        time::shutdown(s, t, id)
    } else {
        engine::shutdown_timer(s, t, id)
    }
}

/// A number for the timer, for callers who cannot track lifetimes. It may be used at any
/// time: once the timer is freed, calls by it give GT_ESTALE.
///
/// Threads: any. Callback: yes.
/// Returns: the id, never 0 for a live timer; 0 on error, and gt_last_error says which.
/// Since: 0.1.
///
/// # Safety
/// `t` is NULL or a live timer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_id(t: *mut gt_timer) -> u64 {
    let id = if forked() {
        Err(Error::Fork)
    } else {
        // SAFETY: the caller's promise.
        unsafe { timer(t) }
            .and_then(|(t, s)| engine::timer_status(s, t, None).map(|_| engine::id(t)))
    };
    id.unwrap_or_else(|e| {
        procs::hot().last_error.set(e.code());
        0
    })
}
