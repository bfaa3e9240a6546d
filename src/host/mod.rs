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

/// Has the environment this value for this name? std's own look at it asks for memory, and ends the
/// process when there is none.
pub(crate) fn environment_says(name: &CStr, value: &CStr) -> bool {
    // SAFETY: names that end with 0. Who changes the environment meanwhile breaks C's own rule.
    unsafe {
        let found = libc::getenv(name.as_ptr());
        !found.is_null() && CStr::from_ptr(found) == value
    }
}
