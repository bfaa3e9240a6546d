//! The structs that configure a sched: gt_host, gt_config.

use super::handle::gt_p;
use crate::error::{Error, Result};
use crate::host::{Hooks, Kind};
use crate::procs::Config;
use libc::{size_t, uintptr_t};
use std::ffi::{c_char, c_int, c_void};

/// No deadline: the latest time there is. A timer set to it never fires.
pub const GT_MAX_WHEN: i64 = i64::MAX;
/// Where the virtual clock starts: 2000-01-01 00:00:00 UTC, as in Go's testing/synctest.
pub const GT_VIRTUAL_EPOCH: i64 = 946684800000000000;
const _: () = assert!(GT_VIRTUAL_EPOCH == crate::host::VIRTUAL_EPOCH);

/// CLOCK_MONOTONIC; the default.
pub const GT_CLOCK_MONOTONIC: u32 = 0;
/// CLOCK_BOOTTIME: goes on while the machine sleeps.
pub const GT_CLOCK_BOOTTIME: u32 = 1;
/// CLOCK_REALTIME. A step back is taken out: time goes on at once.
pub const GT_CLOCK_WALL: u32 = 2;
/// gt_host.nanotime, in nanoseconds, above 0. A step back is taken out as for the wall clock.
pub const GT_CLOCK_HOST: u32 = 3;
/// Stands still until gt_sched_set_time or gt_sched_advance moves it. For tests.
pub const GT_CLOCK_VIRTUAL: u32 = 4;

/// What the embedder may replace. Zero the struct, set size to sizeof(gt_host), fill in
/// what you need; NULL means the default. Every hook gets `ctx`, and may be called on any
/// thread that calls this library. Hooks must not throw.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct gt_host {
    /// sizeof(gt_host), as your compiler sees it.
    pub size: size_t,
    /// Given to each hook.
    pub ctx: *mut c_void,
    /// The clock of GT_CLOCK_HOST: nanoseconds above 0. Must not call this library.
    pub nanotime: Option<unsafe extern "C" fn(ctx: *mut c_void) -> i64>,
    /// The wake time of `p` got as early as `when`, earlier than anyone could have been
    /// told: wake who sleeps for p. A wake that comes before the sleep must make that
    /// sleep return at once. Called with no lock held, so any function may be called,
    /// except gt_p_free. It may come before gt_p_new has returned p. Default:
    /// gt_notewakeup(p).
    pub wake_netpoller: Option<unsafe extern "C" fn(ctx: *mut c_void, p: *mut gt_p, when: i64)>,
    /// Gives the processor away while a timer is locked by another thread. Locks may be held:
    /// must not call this library, and must not switch green threads. Default: sched_yield.
    pub osyield: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// Pins the green thread to its thread: it must not be preempted until releasem.
    /// Calls nest. Must not call this library, and must not switch. Default: none.
    pub acquirem: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// The counterpart of acquirem. Must not call this library, and must not switch.
    pub releasem: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// Who is calling: a number for the green thread; 0: nobody known. gt_deltimer_sync
    /// finds out by it that it would wait for itself. Default: a number for the thread.
    pub current_context: Option<unsafe extern "C" fn(ctx: *mut c_void) -> uintptr_t>,
    /// The data structures are corrupt; `msg` names the timer and the rule. Must not
    /// return: if it does, the process is aborted. Locks may be held: must not call this
    /// library. Default: prints msg and aborts.
    pub throw_: Option<unsafe extern "C" fn(ctx: *mut c_void, msg: *const c_char)>,
    /// Memory aligned to `align` (up to 65536), or NULL. Called with locks held: must not
    /// call this library. Default: posix_memalign. Set both alloc and free, or neither.
    pub alloc:
        Option<unsafe extern "C" fn(ctx: *mut c_void, size: size_t, align: size_t) -> *mut c_void>,
    /// Gives back what alloc returned, with the same size and align.
    pub free: Option<
        unsafe extern "C" fn(ctx: *mut c_void, ptr: *mut c_void, size: size_t, align: size_t),
    >,
    /// Asked after each callback of a pass: 1 ends the pass. Default: none.
    pub preempt_stop: Option<unsafe extern "C" fn(ctx: *mut c_void) -> c_int>,
    /// Green threads: parks the caller. When it has been switched away from, and its stack
    /// is no longer in use, call commit(arg) on the same thread, in a place that may call
    /// this library: 1, it stays parked until ready is called for it, which may be before
    /// commit returns, and on any thread; 0, it goes on at once. Return 1 when it runs
    /// again. Return 0, without having called commit, if the caller is not a green thread:
    /// then the thread is blocked. Needs ready and current_context.
    pub park: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            commit: unsafe extern "C" fn(arg: *mut c_void) -> c_int,
            arg: *mut c_void,
        ) -> c_int,
    >,
    /// Makes a parked green thread runnable; `context` is what current_context gave in it
    /// when it parked. Called on any thread, with no lock held.
    pub ready: Option<unsafe extern "C" fn(ctx: *mut c_void, context: uintptr_t)>,
}

/// How a sched is made. Zero the struct and set size to sizeof(gt_config).
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct gt_config {
    /// sizeof(gt_config), as your compiler sees it.
    pub size: size_t,
    /// Hooks, copied. NULL: the defaults.
    pub host: *const gt_host,
    /// GT_CLOCK_…
    pub clock: u32,
    /// 1: verify the heaps at each pass, and throw when one is broken. Slow.
    /// GOTIMER_VERIFY=1 in the environment does the same.
    pub verify: u32,
    /// 1: keep the histogram of lateness.
    pub lateness: u32,
    /// 0.
    pub reserved: u32,
    /// Slack of new timers in nanoseconds, see gt_timer_set_slack. 0: precise.
    pub slack: i64,
}

/// Reads a struct that begins with its size, which may be older than ours: what it lacks
/// is zero. A newer one is fine as long as what we do not know is zero.
///
/// # Safety
/// `p` points to `size` readable bytes, as the struct at its beginning says. T's all-zero
/// value is valid.
pub(super) unsafe fn read_sized<T>(p: *const T) -> Result<T> {
    // SAFETY: the struct begins with its size.
    let size = unsafe { p.cast::<usize>().read() };
    if size < size_of::<usize>() || size > 4096 {
        return Err(Error::Inval);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(p.cast::<u8>(), size) };
    if bytes.iter().skip(size_of::<T>()).any(|&b| b != 0) {
        return Err(Error::Inval);
    }
    let mut v = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: copies what both have; the rest is zero, which is valid for these structs.
    unsafe {
        std::ptr::copy_nonoverlapping(
            p.cast::<u8>(),
            v.as_mut_ptr().cast(),
            size.min(size_of::<T>()),
        );
        Ok(v.assume_init())
    }
}

/// # Safety
/// `config` is NULL or points to a gt_config as described there.
pub(super) unsafe fn read_config(config: *const gt_config) -> Result<Config> {
    let mut out = Config::default();
    if config.is_null() {
        return Ok(out);
    }
    // SAFETY: the caller's promise.
    let c = unsafe { read_sized(config) }?;
    if c.reserved != 0 || c.verify > 1 || c.lateness > 1 || c.slack < 0 {
        return Err(Error::Inval);
    }
    out.verify = c.verify == 1;
    out.lateness = c.lateness == 1;
    out.slack = c.slack;
    out.kind = match c.clock {
        GT_CLOCK_MONOTONIC => Kind::Monotonic,
        GT_CLOCK_BOOTTIME => Kind::Boottime,
        GT_CLOCK_WALL => Kind::Wall,
        GT_CLOCK_HOST => Kind::Host,
        GT_CLOCK_VIRTUAL => Kind::Virtual,
        _ => return Err(Error::Inval),
    };
    if !c.host.is_null() {
        // SAFETY: the caller's promise.
        let h = unsafe { read_sized(c.host) }?;
        out.hooks = hooks(&h)?;
    }
    if out.kind == Kind::Host && out.hooks.nanotime.is_none() {
        return Err(Error::Inval);
    }
    Ok(out)
}

/// The hooks of a gt_host, which must come in the pairs that it says.
pub(super) fn hooks(h: &gt_host) -> Result<Hooks> {
    let green = h.park.is_some();
    if h.alloc.is_some() != h.free.is_some()
        || h.acquirem.is_some() != h.releasem.is_some()
        || h.ready.is_some() != green
        || green && h.current_context.is_none()
    {
        return Err(Error::Inval);
    }
    Ok(Hooks {
        ctx: h.ctx,
        nanotime: h.nanotime,
        // SAFETY: gt_p is opaque: a pointer to it is passed as one to void.
        wake_netpoller: h.wake_netpoller.map(|f| unsafe {
            std::mem::transmute::<
                unsafe extern "C" fn(*mut c_void, *mut gt_p, i64),
                unsafe extern "C" fn(*mut c_void, *mut c_void, i64),
            >(f)
        }),
        osyield: h.osyield,
        acquirem: h.acquirem,
        releasem: h.releasem,
        current_context: h.current_context,
        throw_: h.throw_,
        alloc: h.alloc,
        free: h.free,
        preempt_stop: h.preempt_stop,
        park: h.park,
        ready: h.ready,
        before_call: None,
        is_over: None,
    })
}
