//! Errors, versions, fork.

use crate::engine::Rule;
use crate::error::Error;
use crate::host::Inside;
use crate::procs::hot;
use crate::rt;
use std::ffi::{c_char, c_int};

/// The alloc hook returned NULL.
pub const GT_ENOMEM: i32 = -12;
/// Netpoll: not an open descriptor.
pub const GT_EBADF: i32 = -9;
/// Checked build: not a handle of this library, or a copy of what it points to.
pub const GT_EFAULT: i32 = -14;
/// Ps live; the P is bound to another thread, or the thread to another P; the runtime runs
/// already; somebody else waits for that.
pub const GT_EBUSY: i32 = -16;
/// A P or timer of another sched.
pub const GT_EXDEV: i32 = -18;
/// NULL, when <= 0, period < 0, now < 0, no f, a config that is not understood, a timer of
/// the wrong kind.
pub const GT_EINVAL: i32 = -22;
/// The process is out of file descriptors.
pub const GT_EMFILE: i32 = -24;
/// Too many Ps or timers.
pub const GT_ENOSPC: i32 = -28;
/// Waiting could never end.
pub const GT_EDEADLK: i32 = -35;
/// Not with this clock, or not switched on in gt_config.
pub const GT_EOPNOTSUPP: i32 = -95;
/// The timer was shut down, or its sched freed.
pub const GT_ESHUTDOWN: i32 = -108;
/// gt_addtimer on a timer that is armed; gt_netpoll_open of a descriptor that is open there.
pub const GT_EALREADY: i32 = -114;
/// A dead id: always found out. A dead handle: in the checked build, and in the timer's
/// own callback.
pub const GT_ESTALE: i32 = -116;
/// Netpoll: the deadline has passed.
pub const GT_ETIMEDOUT: i32 = -110;
/// Netpoll: closed while waiting.
pub const GT_ECANCELED: i32 = -125;
/// In a fork child that has not called gt_after_fork.
pub const GT_EFORK: i32 = -1024;

const _: () = {
    assert!(GT_ENOMEM == Error::NoMem.code() && GT_EFAULT == Error::Fault.code());
    assert!(GT_EBUSY == Error::Busy.code() && GT_EXDEV == Error::Xdev.code());
    assert!(GT_EINVAL == Error::Inval.code() && GT_EMFILE == Error::MFile.code());
    assert!(GT_ENOSPC == Error::NoSpc.code() && GT_EDEADLK == Error::Deadlk.code());
    assert!(GT_EOPNOTSUPP == Error::OpNotSupp.code() && GT_ESHUTDOWN == Error::Shutdown.code());
    assert!(GT_EALREADY == Error::Already.code() && GT_ESTALE == Error::Stale.code());
    assert!(GT_EFORK == Error::Fork.code() && GT_EBADF == Error::BadF.code());
    assert!(GT_ETIMEDOUT == Error::TimedOut.code() && GT_ECANCELED == Error::Canceled.code());
};

/// Name and meaning of an error, or of a broken rule (above 0).
///
/// Ownership: static. Threads: any. Callback: yes.
/// Returns: never NULL.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_strerror(error: c_int) -> *const c_char {
    if error == 0 {
        return c"0: no error".as_ptr();
    }
    if let Some(e) = Error::ALL.iter().find(|e| e.code() == error) {
        return e.text().as_ptr();
    }
    let rule = Rule::ALL.iter().find(|&&r| r as i32 == error);
    rule.map_or(c"not an error of this library".as_ptr(), |r| {
        r.text().as_ptr()
    })
}

/// Why the last call on this thread that returned NULL (or the id 0) did so.
///
/// Threads: the caller's own value. Callback: yes.
/// Returns: GT_E…, or 0 if none did.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_last_error() -> c_int {
    hot().last_error.get()
}

/// In a fork child: makes the scheds usable again. Timers that lost threads held locked
/// are released, what they were doing counts as done or as not done; the Ps of lost
/// threads are unbound, their callbacks count as ended; all timers go on. Until then calls in
/// the child give GT_EFORK. What lost threads had in hand stays with them: memory of their
/// passes, an argument that one of them was about to drop, and a green thread that one of them
/// was about to wake: gt_host.ready is not called for it any more. The descriptors of gt_p_fd and
/// gt_timer_fd keep their numbers, but are the child's own; one for which there is none to be had is
/// closed, and may be asked for again. So a child that closes all that it inherited opens nothing
/// else before this call.
///
/// Threads: the child's only one. Callback: yes.
/// Returns: 0, also where there was no fork; GT_EMFILE (the built-in runtime was used, and there are no
/// descriptors for another poller): nothing has changed, call it again.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_after_fork() -> c_int {
    let _in = Inside::enter();
    match rt::after_fork() {
        Ok(()) => 0,
        Err(e) => e.code(),
    }
}

const MAJOR: u32 = number(env!("CARGO_PKG_VERSION_MAJOR"));
const MINOR: u32 = number(env!("CARGO_PKG_VERSION_MINOR"));
const PATCH: u32 = number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(s: &str) -> u32 {
    let (s, mut n, mut i) = (s.as_bytes(), 0, 0);
    while i < s.len() {
        n = n * 10 + (s[i] - b'0') as u32;
        i += 1;
    }
    n
}

/// The version of the library that is linked: major << 16 | minor << 8 | patch.
///
/// Threads: any. Callback: yes. Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_version() -> u32 {
    MAJOR << 16 | MINOR << 8 | PATCH
}

/// The version of the library that is linked, as text: "major.minor.patch".
///
/// Ownership: static. Threads: any. Callback: yes. Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn gt_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
