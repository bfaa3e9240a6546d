//! What of procs the models of src/model/ run; mod.rs has all of it.

pub(crate) mod blocked;
pub(crate) mod blocks;
pub(crate) mod bound;
pub(crate) mod bubble;
pub(crate) mod lifetime;
pub(crate) mod live;
pub(crate) mod note;
pub(crate) mod runs;
pub(crate) mod slot;
pub(crate) mod timed_fd;
pub(crate) mod wait;
