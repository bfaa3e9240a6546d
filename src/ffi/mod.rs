//! The C ABI. One file per layer below; each function checks its handles, calls down, and
//! turns the result into a number. The header is generated from these files.

mod handle;
mod host;
mod ids;
mod misc;
mod procs;
mod rt;
mod run;
mod sched;
mod synctest;
mod time;
mod timers;

pub use handle::*;
pub use host::*;
pub use ids::*;
pub use misc::*;
pub use procs::*;
pub use rt::*;
pub use run::*;
pub use sched::*;
pub use synctest::*;
pub use time::*;
pub use timers::*;
