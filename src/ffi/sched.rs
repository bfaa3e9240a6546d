//! gt_sched_*, time and counters.

use super::handle::{AbortOnPanic, call, call_ptr, gt_sched, sched, sched_handle};
use super::host::{gt_config, read_config};
use crate::engine::{Counter, Histogram, Procs};
use crate::error::Error;
use crate::procs::{self, Sched, Stats};
use crate::time;
use libc::size_t;
use std::ffi::{c_char, c_int};
use std::io::Write;

/// Makes a sched.
///
/// `config` and the gt_host in it are copied; NULL stands for the defaults (monotonic
/// clock, Linux threads).
///
/// Ownership: the caller's, until gt_sched_free.
/// Threads: any.
/// Callback: yes.
/// Returns: the sched, or NULL, and gt_last_error says GT_EINVAL (a size, clock or flag that
/// is not known; a hook without its partner; GT_CLOCK_HOST without nanotime), GT_ENOMEM
/// (also: the process has no pthread key left, of which the library needs one) or GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `config` is NULL or points to a gt_config that begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_new(config: *const gt_config) -> *mut gt_sched {
    call_ptr(|| {
        // SAFETY: the caller's promise.
        let config = unsafe { read_config(config) }?;
        Sched::new(config).map(sched_handle)
    })
}

/// Stops all timers and drops their arguments. No P may live.
///
/// Ownership: the handle is dead after success. Handles of timers stay valid, for
/// gt_timer_free only; other calls give GT_ESHUTDOWN. Memory goes back with the last of
/// them.
/// Threads: any; nobody else may be using the sched.
/// Callback: yes, also from one of its own timers, whose P was freed.
/// Returns: 0, GT_EBUSY while Ps live, or if it is the built-in runtime's; GT_EINVAL,
/// GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_free(s: *mut gt_sched) -> c_int {
    // SAFETY: the caller's promise.
    call(|| unsafe { sched(s) }?.close(time::shutdown_all))
}

/// The sched's clock, in nanoseconds, above 0.
///
/// Threads: any. Callback: yes.
/// Returns: the time, or GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_nanotime(s: *mut gt_sched) -> i64 {
    // SAFETY: the caller's promise.
    call(|| Ok(unsafe { sched(s) }?.now()))
}

/// Moves the virtual clock to `now`. Runs nothing; wakes those who sleep in
/// gt_notetsleep so that they look at the clock, and sets the Ps' fds.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL (NULL, now <= 0, or back in time), GT_EOPNOTSUPP (another
/// clock), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_sched_set_time(s: *mut gt_sched, now: i64) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let s = unsafe { sched(s) }?;
        if now <= 0 {
            Err(Error::Inval)
        } else {
            s.set_time(now)
        }
    })
}

/// Moves the virtual clock on by `d` nanoseconds, deadline by deadline: at each it runs
/// what is due on all Ps, on the calling thread. A callback that arms a timer for now
/// for ever keeps it from ending; so do other threads that arm timers for now faster than
/// it runs them.
///
/// Threads: any. Callback: yes.
/// Returns: 1 if any timer ran, 0 if none, GT_EINVAL (NULL, d < 0), GT_EOPNOTSUPP
/// (another clock), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn gt_sched_advance(s: *mut gt_sched, d: i64) -> c_int {
    let _abort = AbortOnPanic::new();
    // SAFETY: the caller's promise.
    call(|| unsafe { sched(s) }?.advance(d))
}

/// Go's timeSleepUntil: when the first timer of all Ps, and of those that no P owns, is
/// due. Whoever arms an earlier one after this calls the wake hook of its P; if no P lives,
/// the timer waits for one, and no hook is called.
///
/// Threads: any. Callback: yes.
/// Returns: the time, GT_MAX_WHEN if there is none, GT_EINVAL, GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_time_sleep_until(s: *mut gt_sched) -> i64 {
    // SAFETY: the caller's promise.
    call(|| Ok(procs::time_sleep_until(unsafe { sched(s) }?)))
}

/// How overdue the earliest deadline of all Ps is, for watchdogs. A stopped timer that
/// has not been swept counts until it is looked at.
///
/// Threads: any. Callback: yes.
/// Returns: nanoseconds, 0 if nothing is overdue, GT_EINVAL (NULL, now < 0), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_overdue(s: *mut gt_sched, now: i64) -> i64 {
    call(|| {
        // SAFETY: the caller's promise.
        let s = unsafe { sched(s) }?;
        if now < 0 {
            return Err(Error::Inval);
        }
        let now = if now == 0 { s.now() } else { now };
        Ok((now - procs::time_sleep_until(s)).max(0))
    })
}

/// Counters of a sched, summed over all threads. At a quiescent point
/// armed = fired + stopped + replaced + pending.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct gt_stats {
    /// Set by the caller: sizeof(gt_stats).
    pub size: size_t,
    /// Armings that succeeded.
    pub armed: u64,
    /// One-shot timers that fired; of channel timers, those whose value was received.
    pub fired: u64,
    /// Armings ended by a stop, shutdown or free that returned 1, or by gt_sched_free.
    pub stopped: u64,
    /// Armings ended by a gt_modtimer or gt_resettimer that returned 1.
    pub replaced: u64,
    /// Timers armed now, counted in the heaps; of channel timers, also those whose value has
    /// not been received.
    pub pending: u64,
    /// Firings of periodic timers, and values received from tickers. Their arming stays
    /// pending.
    pub ticks: u64,
    /// Entries of stopped timers that are still in heaps.
    pub zombies: u64,
    /// Timers run by gt_check_others.
    pub steals: u64,
    /// Calls of the wake hook.
    pub wakes: u64,
    /// Scans of a whole heap.
    pub scans: u64,
    /// Entries of stopped timers taken off by sweeps.
    pub sweeps: u64,
    /// Firings before their time. Always 0.
    pub early: u64,
    /// Timers in use: not freed, or freed and still referred to by a heap or a run.
    pub timers: u64,
    /// Bytes taken from the alloc hook and not given back.
    pub bytes: u64,
    /// Built-in runtime: how often its watchdog found due timers that nobody served, since
    /// callbacks took long or were many, and woke another worker.
    pub overdue: u64,
}

fn read_stats(sched: &Sched) -> gt_stats {
    let s: Stats = sched.stats();
    let correction = time::pending_correction(sched);
    gt_stats {
        size: size_of::<gt_stats>(),
        armed: s.get(Counter::Armed),
        fired: s.get(Counter::Fired),
        stopped: s.get(Counter::Stopped),
        replaced: s.get(Counter::Replaced),
        // Others may have armed channels, and received from them, since the heaps were counted.
        pending: s.pending.saturating_add_signed(correction),
        ticks: s.get(Counter::Ticks),
        zombies: s.zombies,
        steals: s.get(Counter::Steals),
        wakes: s.get(Counter::Wakes),
        scans: s.get(Counter::Scans),
        sweeps: s.get(Counter::Sweeps),
        early: s.get(Counter::Early),
        timers: s.timers,
        bytes: s.bytes,
        overdue: s.get(Counter::Overdue),
    }
}

/// Reads the counters into `out`, as far as out->size reaches.
///
/// Threads: any; exact when nobody uses the sched meanwhile. Callback: yes.
/// Returns: 0, GT_EINVAL (NULL, or out->size too small to hold itself), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched; `out` is NULL or points to out->size writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_stats_get(s: *mut gt_sched, out: *mut gt_stats) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let s = unsafe { sched(s) }?;
        if out.is_null() {
            return Err(Error::Inval);
        }
        // SAFETY: a gt_stats begins with its size.
        let size = unsafe { (*out).size };
        if size < size_of::<usize>() || size > 4096 {
            return Err(Error::Inval);
        }
        let mut stats = read_stats(s);
        stats.size = size;
        // SAFETY: the caller's promise: `size` bytes; no more than we have are written.
        unsafe {
            let from = std::ptr::from_ref(&stats).cast::<u8>();
            std::ptr::copy_nonoverlapping(from, out.cast::<u8>(), size.min(size_of::<gt_stats>()));
        }
        Ok(())
    })
}

/// The counters as one JSON object, like snprintf: at most `len` bytes with the NUL.
///
/// Threads: any. Callback: yes.
/// Returns: the length of the whole text without the NUL, GT_EINVAL (NULL sched, or NULL
/// buf with len > 0), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched; `buf` points to `len` writable bytes, or is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_stats_json(s: *mut gt_sched, buf: *mut c_char, len: size_t) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let s = unsafe { sched(s) }?;
        if buf.is_null() && len > 0 {
            return Err(Error::Inval);
        }
        let v = read_stats(s);
        let fields = [
            ("armed", v.armed),
            ("fired", v.fired),
            ("stopped", v.stopped),
            ("replaced", v.replaced),
            ("pending", v.pending),
            ("ticks", v.ticks),
            ("zombies", v.zombies),
            ("steals", v.steals),
            ("wakes", v.wakes),
            ("scans", v.scans),
            ("sweeps", v.sweeps),
            ("early", v.early),
            ("timers", v.timers),
            ("bytes", v.bytes),
            ("overdue", v.overdue),
        ];
        // In place: to ask for figures takes no memory.
        let mut text = [0u8; 1024];
        let mut rest = &mut text[..];
        for (i, (name, value)) in fields.iter().enumerate() {
            let _ = write!(
                rest,
                "{}\"{name}\": {value}",
                if i == 0 { "{" } else { ", " }
            );
        }
        let _ = write!(rest, "}}");
        let size = 1024 - rest.len();
        if len > 0 {
            let n = size.min(len - 1);
            // SAFETY: n + 1 <= len bytes are writable.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), n);
                *buf.add(n) = 0;
            }
        }
        Ok(size)
    })
}

/// The histogram of lateness (gt_config.lateness): how many callbacks began how late.
/// Copies up to `n` counts.
///
/// Threads: any. Callback: yes.
/// Returns: the number of buckets, GT_EINVAL (NULL sched, or NULL counts with n > 0),
/// GT_EOPNOTSUPP (the histogram is off), GT_EFORK.
/// Since: 0.1.
///
/// # Safety
/// `s` is NULL or a live sched; `counts` points to `n` writable numbers, or is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_lateness_get(s: *mut gt_sched, counts: *mut u64, n: size_t) -> c_int {
    call(|| {
        // SAFETY: the caller's promise.
        let s = unsafe { sched(s) }?;
        if counts.is_null() && n > 0 {
            return Err(Error::Inval);
        }
        if !s.keeps_lateness() {
            return Err(Error::OpNotSupp);
        }
        for i in 0..n.min(Histogram::BUCKETS) {
            // SAFETY: i < n.
            unsafe { *counts.add(i) = s.lateness(i) };
        }
        Ok(Histogram::BUCKETS)
    })
}

/// The smallest lateness in nanoseconds that falls into a bucket; it ends below that of
/// the next one.
///
/// Threads: any. Callback: yes.
/// Returns: nanoseconds, or GT_EINVAL (no such bucket).
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_lateness_bound(bucket: u32) -> i64 {
    let bucket = bucket as usize;
    if bucket < Histogram::BUCKETS {
        Histogram::bound(bucket)
    } else {
        Error::Inval.code() as i64
    }
}
