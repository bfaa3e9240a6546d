//! What of procs the models of src/model/ run; mod.rs has all of it.

pub(crate) mod lifetime;
pub(crate) mod slot;
