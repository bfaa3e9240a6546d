//! The twins by id: the same calls for callers who cannot track lifetimes. A dead or
//! invented id gives GT_ESTALE, always. Written out, not made by a macro: the header's
//! generator reads this file as it stands.

use super::handle::{call, gt_sched, sched};
use super::timers::{arm, arm_with, free, gt_func, shutdown, status, when};
use crate::engine::{self, TimerRef};
use crate::error::{Error, Result};
use crate::procs::{self, Sched};
use crate::time;
use libc::uintptr_t;
use std::ffi::{c_int, c_void};

/// The timer of an id, and the generation to compare under its lock.
///
/// # Safety
/// `s` is NULL or a live sched.
#[inline(always)]
pub(super) unsafe fn find<'a>(
    s: *mut gt_sched,
    id: u64,
) -> Result<(&'a Sched, TimerRef, Option<u32>)> {
    // SAFETY: the caller's promise.
    let s = unsafe { sched(s) }?;
    let (t, generation) = s.find(id)?;
    Ok((s, t, Some(generation)))
}

/// The same for calls that a channel timer refuses.
///
/// # Safety
/// As for `find`.
#[inline(always)]
unsafe fn find_func<'a>(s: *mut gt_sched, id: u64) -> Result<(&'a Sched, TimerRef, Option<u32>)> {
    // SAFETY: the caller's promise.
    let (s, t, generation) = unsafe { find(s, id) }?;
    if !time::is_chan(t) {
        return Ok((s, t, generation));
    }
    engine::timer_status(s, t, generation)?; // dead ids are stale first
    Err(Error::Inval)
}

/// gt_addtimer by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_addtimer; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_addtimer_id(s: *mut gt_sched, id: u64, at: i64, period: i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find_func(s, id) }?;
        engine::modtimer(s, t, generation, None, &arm(at, period, true)?)
    })
}

/// gt_modtimer by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_modtimer; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched; f may be called with arg on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_modtimer_id(
    s: *mut gt_sched,
    id: u64,
    at: i64,
    period: i64,
    f: gt_func,
    arg: *mut c_void,
    seq: uintptr_t,
) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find_func(s, id) }?;
        engine::modtimer(s, t, generation, None, &arm_with(at, period, f, arg, seq)?)
    })
}

/// gt_resettimer by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_resettimer; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_resettimer_id(
    s: *mut gt_sched,
    id: u64,
    at: i64,
    period: i64,
) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find_func(s, id) }?;
        engine::modtimer(s, t, generation, None, &arm(at, period, false)?)
    })
}

/// gt_deltimer by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_deltimer; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_deltimer_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find_func(s, id) }?;
        engine::deltimer(s, t, generation)
    })
}

/// gt_deltimer_sync by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_deltimer_sync; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_deltimer_sync_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find_func(s, id) }?;
        procs::deltimer_sync(s, t, generation)
    })
}

/// gt_shutdown_timer by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_shutdown_timer; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_shutdown_timer_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find(s, id) }?;
        shutdown(s, t, generation)
    })
}

/// gt_timer_free by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_free; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_free_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find(s, id) }?;
        free(s, t, generation)
    })
}

/// gt_timer_detach by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_detach; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_detach_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find_func(s, id) }?;
        engine::detach(s, t, generation)
    })
}

/// gt_timer_status by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_status; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_status_id(s: *mut gt_sched, id: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find(s, id) }?;
        status(s, t, generation)
    })
}

/// gt_timer_when by id.
///
/// Threads: any. Callback: yes.
/// Returns: as gt_timer_when; GT_ESTALE for an id that is dead, or was never one of this sched.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_timer_when_id(s: *mut gt_sched, id: u64) -> i64 {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, t, generation) = unsafe { find(s, id) }?;
        when(s, t, generation)
    })
}
