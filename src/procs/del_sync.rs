//! `gt_deltimer_sync` for scheds. How it waits is in wait.rs, and for what in runs.rs.

use super::runs::Slots;
use super::sched::Sched;
use super::wait::Waiters;
use crate::engine::{TimerRef, Timers};
use crate::error::Result;
use crate::host::acquire;

pub(super) static WAITERS: Waiters<Sched> = Waiters::new();

impl Slots for Sched {
    fn for_each_timers(&self, mut f: impl FnMut(&Timers)) {
        self.registry.for_each_slot(|p| f(p));
    }
}

/// Stops the timer and waits for its runs. True: it stopped a pending arming.
pub(crate) fn deltimer_sync(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let stopped = WAITERS.deltimer_sync(s, t, id)?;
    acquire(t.runs());
    Ok(stopped)
}
