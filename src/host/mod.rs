//! The layer below the engine: hooks to the embedder, with defaults that work on
//! Linux threads, and clocks. Mirrors what runtime/time.go takes from the rest of the
//! runtime: nanotime, osyield, acquirem, throw, wakeNetPoller.

mod blocking;
mod clock;
mod hooks;
pub(crate) mod tsan;
pub(crate) mod unusual;

pub(crate) use blocking::{blocking, tell_of_blocking};
pub(crate) use clock::{Clock, Kind, VIRTUAL_EPOCH};
pub(crate) use hooks::{HUGE, Hooks, Host};
pub(crate) use tsan::{Inside, Outside, acquire, on as watched, release};
pub(crate) use unusual::Boundary;

use std::ffi::CStr;

/// In a fork child: a new descriptor, made by `create`, takes the number of one that is shared with the
/// parent. False: there is none to be had, and the number is closed, for to use it would change the
/// parent's.
pub(crate) fn renew_fd(fd: i32, create: impl Fn() -> i32) -> bool {
    // SAFETY: descriptors of ours; these calls take no memory.
    unsafe {
        let mut new = create();
        if new < 0 {
            libc::close(fd); // which makes room for one
            new = create();
        }
        if new == fd {
            return true; // it was closed, by us or by the program
        }
        let renewed = new >= 0 && libc::dup3(new, fd, libc::O_CLOEXEC) == fd;
        if new >= 0 {
            libc::close(new);
        }
        if !renewed {
            libc::close(fd);
        }
        renewed
    }
}

/// Has the environment this value for this name? std's own look at it asks for memory, and ends the
/// process when there is none.
pub(crate) fn environment_says(name: &CStr, value: &CStr) -> bool {
    // SAFETY: names that end with 0. Who changes the environment meanwhile breaks C's own rule.
    unsafe {
        let found = libc::getenv(name.as_ptr());
        !found.is_null() && CStr::from_ptr(found) == value
    }
}
