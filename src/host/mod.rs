//! The layer below the engine: hooks to the embedder, with defaults that work on
//! Linux threads, and clocks. Mirrors what runtime/time.go takes from the rest of the
//! runtime: nanotime, osyield, acquirem, throw, wakeNetPoller.

mod clock;
mod hooks;
pub(crate) mod tsan;
pub(crate) mod unusual;

pub(crate) use clock::{Clock, Kind, VIRTUAL_EPOCH};
pub(crate) use hooks::{HUGE, Hooks, Host};
pub(crate) use tsan::{Inside, Outside, acquire, on as watched, release};
pub(crate) use unusual::Boundary;
