//! Package time: timers and tickers with channels, sleep. Corresponds to time/sleep.go,
//! time/tick.go, and what runtime/time.go does for channels.

mod chan;
mod recv;
mod sleep;
mod timer;

pub(crate) use chan::is_chan;
pub(crate) use recv::{recv, try_recv};
pub(crate) use sleep::sleep;
pub(crate) use timer::{
    chan_when, free, new_chan, pending_correction, reset, shutdown, shutdown_all, stop, timer_fd,
};

use crate::engine::Procs;
use crate::procs::Sched;

/// In a fork child.
pub(crate) fn after_fork(s: &Sched) {
    sleep::after_fork(s);
    timer::after_fork(s);
}

/// Go's `when`: now + d. Zero and negative mean at once; past the end of time means never.
pub(crate) fn when(s: &Sched, d: i64) -> i64 {
    match d {
        ..=0 => s.now(),
        d => s.now().saturating_add(d),
    }
}
