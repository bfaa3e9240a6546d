//! Go's runtime timers as a C library. The core mirrors `runtime/time.go`; what users see
//! is the C ABI of `include/gotimer.h`, which is generated from `src/ffi/`.
//!
//! | layer | what |
//! |---|---|
//! | `ffi` | the C ABI: checks handles, turns results into numbers |
//! | `time` | timers and tickers with channels, sleep |
//! | `rt` | the built-in runtime: workers, poller |
//! | `procs` | sched, Ps, stealing, fork |
//! | `engine` | timers, heaps, running them |
//! | `host` | hooks and clocks |
//! | `sync` | the lock order, the lock, and the choice between std and a model checker |

// The models use only a part of what is here.
#![cfg_attr(gt_model, allow(dead_code, unused_imports))]

mod engine;
mod error;
#[cfg(not(gt_model))]
mod ffi;
mod host;
#[cfg(all(test, gt_model))]
mod model;
#[cfg(not(gt_model))]
mod procs;
#[cfg(all(test, gt_model))]
#[path = "procs/modelled.rs"]
mod procs;
#[cfg(not(gt_model))]
mod rt;
#[cfg(all(test, gt_model))]
#[path = "rt/deadline.rs"]
mod rt_deadline;
#[cfg(all(test, gt_model))]
#[path = "rt/stopping.rs"]
mod rt_stopping;
mod sync;
#[cfg(not(gt_model))]
mod time;

#[cfg(not(gt_model))]
pub use ffi::*;
