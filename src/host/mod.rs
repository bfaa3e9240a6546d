//! The layer below the engine: hooks to the embedder, with defaults that work on
//! Linux threads, and clocks. Mirrors what runtime/time.go takes from the rest of the
//! runtime: nanotime, osyield, acquirem, throw, wakeNetPoller.

mod clock;
mod hooks;

pub(crate) use clock::{Clock, Kind, VIRTUAL_EPOCH};
pub(crate) use hooks::{HUGE, Hooks, Host};
