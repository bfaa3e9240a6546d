//! The C ABI. One file per layer below; each function checks its handles, calls down, and
//! turns the result into a number. The header is generated from these files.

mod handle;
mod host;
mod ids;
mod misc;
mod procs;
mod run;
mod sched;
mod timers;

pub use handle::*;
pub use host::*;
pub use ids::*;
pub use misc::*;
pub use procs::*;
pub use run::*;
pub use sched::*;
pub use timers::*;
