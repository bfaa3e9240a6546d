//! The built-in runtime: gt_runtime_*, and readiness on its poller: gt_netpoll_*.

use super::handle::{call, call_ptr, gt_sched, sched_handle};
use super::host::{gt_host, hooks, read_sized};
use crate::error::{Error, Result};
use crate::procs::Config;
use crate::rt::{self, Desc, RuntimeConfig};
use libc::size_t;
use std::ffi::c_int;
use std::ptr::NonNull;

/// How the built-in runtime is started. Zero the struct and set size to
/// sizeof(gt_runtime_config).
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct gt_runtime_config {
    /// sizeof(gt_runtime_config), as your compiler sees it.
    pub size: size_t,
    /// How many callbacks may run at a time, at most 1024. 0: one for each CPU that the
    /// process may use. One that waits in gt_sleep, gt_timer_recv, gt_netpoll_wait, gt_notetsleep or
    /// gt_deltimer_sync, of whatever sched, does not count while all do: then a spare thread runs
    /// the timers.
    pub workers: u32,
    /// As in gt_config.
    pub lateness: u32,
    /// As in gt_config.
    pub verify: u32,
    /// 0.
    pub reserved: u32,
    /// As in gt_config.
    pub slack: i64,
    /// Hooks, copied, or NULL. nanotime and wake_netpoller must be NULL: the clock is
    /// monotonic, and the runtime wakes its own workers. With current_context, park and ready,
    /// green threads that call gt_sleep, gt_timer_recv or gt_netpoll_wait are parked.
    pub host: *const gt_host,
}

const MAX_WORKERS: u32 = 1024;

/// # Safety
/// `config` is NULL or points to a gt_runtime_config as described there.
unsafe fn read_config(config: *const gt_runtime_config) -> Result<RuntimeConfig> {
    let mut out = RuntimeConfig {
        workers: 0,
        sched: Config::default(),
        how: Default::default(),
    };
    if config.is_null() {
        out.workers = rt::cpus();
        return Ok(out);
    }
    // SAFETY: the caller's promise.
    let c = unsafe { read_sized(config) }?;
    if c.reserved != 0 || c.verify > 1 || c.lateness > 1 || c.slack < 0 || c.workers > MAX_WORKERS {
        return Err(Error::Inval);
    }
    out.workers = match c.workers {
        0 => rt::cpus(),
        n => n as usize,
    };
    out.sched.verify = c.verify == 1;
    out.sched.lateness = c.lateness == 1;
    out.sched.slack = c.slack;
    out.how[0] = (c.verify | c.lateness << 1) as usize;
    out.how[1] = c.slack as usize;
    if !c.host.is_null() {
        // SAFETY: the caller's promise.
        let h = unsafe { read_sized(c.host) }?;
        if h.nanotime.is_some() || h.wake_netpoller.is_some() {
            return Err(Error::Inval);
        }
        out.sched.hooks = hooks(&h)?;
        const WORDS: usize = size_of::<gt_host>() / size_of::<usize>();
        const _: () = assert!(WORDS + 2 <= size_of::<rt::How>() / size_of::<usize>());
        // SAFETY: a gt_host is a number of words, each of them initialised.
        let words = unsafe { std::slice::from_raw_parts((&raw const h).cast::<usize>(), WORDS) };
        out.how[2..2 + WORDS].copy_from_slice(words);
    }
    Ok(out)
}

/// Starts the built-in runtime: threads that run the timers of its sched. There is one in a
/// process. Timers that were armed before, or are left from an earlier run, go on.
///
/// `config` NULL stands for the defaults. How the sched is made (all but `workers`) is
/// settled at its first use, by whatever call that is: so start the runtime before you
/// make timers, if you want it otherwise. Signals are blocked in the workers. A C++ exception
/// that leaves a callback on a worker ends the process. So does, in a child that a callback
/// has forked, the return of that callback: it is the child's only thread.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EBUSY (it runs, or is being started or stopped; or the sched has been
/// made, and config wants it otherwise), GT_EINVAL (a config that is not understood),
/// GT_ENOMEM (also: no more threads), GT_EMFILE, GT_ENOSPC, GT_EFORK.
/// Since: 0.2. Source: Go's schedinit, findRunnable.
///
/// # Safety
/// `config` is NULL or points to a gt_runtime_config that begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_runtime_start(config: *const gt_runtime_config) -> c_int {
    // SAFETY: the caller's promise.
    call(|| rt::start(unsafe { read_config(config) }?))
}

/// Stops the built-in runtime: waits for callbacks under way and ends its threads. While one
/// is under way, timers go on, since it may wait for them. So stop before those timers whose
/// callbacks follow one another without a gap and wait for timers in gt_timer_recv: it may have
/// no end as long as they do. Armed
/// timers stay armed; they fire when it is started again. Who waits in gt_timer_recv or
/// gt_netpoll_wait goes on waiting, for that.
///
/// Threads: any but its own. Callback: no.
/// Returns: 0, GT_EINVAL (it does not run), GT_EBUSY (being started or stopped), GT_EDEADLK
/// (called from a callback on one of its threads), GT_EFORK.
/// Since: 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn gt_runtime_stop() -> c_int {
    call(rt::stop)
}

/// How many threads the built-in runtime has.
///
/// Threads: any. Callback: yes.
/// Returns: the number; 0: it does not run; GT_EFORK.
/// Since: 0.2. Source: Go's GOMAXPROCS(0).
#[unsafe(no_mangle)]
pub extern "C" fn gt_runtime_workers() -> c_int {
    call(|| Ok(rt::workers()))
}

/// The sched of the built-in runtime, for all calls that want one: gt_timer_new,
/// gt_nanotime, gt_stats_get and so on. Its clock is monotonic.
///
/// Ownership: the library's; gt_sched_free gives GT_EBUSY.
/// Threads: any. Callback: yes.
/// Returns: the sched, or NULL, and gt_last_error says GT_ENOMEM or GT_EFORK.
/// Since: 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn gt_runtime_sched() -> *mut gt_sched {
    call_ptr(|| rt::sched().map(|s| sched_handle(NonNull::from(s))))
}

/// A descriptor that the built-in runtime's poller watches.
#[allow(non_camel_case_types)]
pub struct gt_netpoll {
    _opaque: [u8; 0],
}

/// Readiness for reading.
pub const GT_READ: i32 = 1;
/// Readiness for writing.
pub const GT_WRITE: i32 = 2;
const _: () = assert!(GT_READ == rt::READ && GT_WRITE == rt::WRITE);

/// # Safety
/// `pd` is NULL or a handle of gt_netpoll_open.
unsafe fn desc<'a>(pd: *mut gt_netpoll) -> Result<&'a Desc> {
    // SAFETY: the caller's promise; descriptors stay.
    unsafe { pd.cast::<Desc>().as_ref() }.ok_or(Error::Inval)
}

/// Has the runtime's poller watch a descriptor: a socket, a pipe, or anything else that
/// epoll takes. It should be non-blocking. The runtime must be running for waits to end.
///
/// Ownership: the handle is the caller's, until gt_netpoll_close. fd stays the caller's.
/// Threads: any. Callback: yes.
/// Returns: the handle, or NULL, and gt_last_error says GT_EBADF, GT_EOPNOTSUPP (epoll does
/// not take it: a file, a directory), GT_EALREADY (fd is open here already), GT_EMFILE,
/// GT_ENOSPC, GT_ENOMEM or GT_EFORK.
/// Since: 0.2. Source: Go's poll_runtime_pollOpen.
#[unsafe(no_mangle)]
pub extern "C" fn gt_netpoll_open(fd: c_int) -> *mut gt_netpoll {
    call_ptr(|| rt::open(fd).map(|d| d.as_ptr().cast()))
}

/// Waits until fd may be ready for reading (GT_READ) or writing (GT_WRITE), or its deadline
/// passes. Readiness is watched by edges: read or write until EAGAIN, then wait. It may
/// say "ready" once too often. One may wait for reading and another for writing at the same
/// time. A green thread is parked, see gt_runtime_config.host.
///
/// Threads: any. Callback: yes, but it blocks.
/// Returns: 0 (ready), GT_ETIMEDOUT (the deadline has passed, before or meanwhile),
/// GT_ECANCELED (gt_netpoll_close, meanwhile), GT_EBADF (fd was closed before, or has been
/// closed and its number opened here again; closing fd wakes nobody), GT_EBUSY
/// (somebody else waits for the same), GT_ESTALE (closed before, found out while the handle is
/// not in use again), GT_EINVAL, GT_EFORK.
/// Since: 0.2. Source: Go's poll_runtime_pollWait.
///
/// # Safety
/// `pd` is NULL or a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_netpoll_wait(pd: *mut gt_netpoll, mode: c_int) -> c_int {
    // SAFETY: the caller's promise.
    call(|| rt::wait(unsafe { desc(pd) }?, mode))
}

/// Sets the deadline for reading (GT_READ), writing (GT_WRITE) or both: an absolute time of
/// the runtime's clock (gt_nanotime of gt_runtime_sched). 0: none. It holds for waits under
/// way and to come; once it has passed, waits fail until another one is set. A deadline that
/// fires just as it is changed does nothing.
///
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL (NULL, another mode, when < 0), GT_ENOMEM (nothing has changed),
/// GT_ENOSPC, GT_ESTALE, GT_EFORK.
/// Since: 0.2. Source: Go's poll_runtime_pollSetDeadline.
///
/// # Safety
/// `pd` is NULL or a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_netpoll_set_deadline(
    pd: *mut gt_netpoll,
    mode: c_int,
    when: i64,
) -> c_int {
    // SAFETY: the caller's promise.
    call(|| rt::set_deadline(unsafe { desc(pd) }?, mode, when))
}

/// Ends the watch. Who waits gets GT_ECANCELED. Call it before close(fd).
///
/// Ownership: the handle is dead after this. fd stays open.
/// Threads: any. Callback: yes.
/// Returns: 0, GT_EINVAL, GT_ESTALE, GT_EFORK.
/// Since: 0.2. Source: Go's poll_runtime_pollUnblock, poll_runtime_pollClose.
///
/// # Safety
/// `pd` is NULL or a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gt_netpoll_close(pd: *mut gt_netpoll) -> c_int {
    // SAFETY: the caller's promise.
    call(|| rt::close(unsafe { desc(pd) }?))
}
