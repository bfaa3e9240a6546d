//! `adoptTimers`: all timers of one P go to another.

use super::p::P;
use super::sched::Sched;
use crate::engine::{BATCH, MAX_WHEN, Procs, move_timers};
use crate::error::{Error, Result};

/// gt_adopt_timers: moves what `from` has now. Returns how many timers moved.
pub(crate) fn adopt_timers(to: &P, from: &P) -> Result<usize> {
    let s = to.sched();
    if !std::ptr::eq(s, from.sched()) {
        return Err(Error::Xdev);
    }
    if std::ptr::eq(to, from) {
        return Err(Error::Inval);
    }
    s.registry.lock.lock();
    let mut first = MAX_WHEN;
    let result = adopt_locked(s, to, from, &mut first);
    s.registry.lock.unlock();
    if first != MAX_WHEN {
        to.note_lowered(s, first);
    }
    to.update_fd();
    from.update_fd();
    result
}

fn adopt_locked(s: &Sched, to: &P, from: &P, first: &mut i64) -> Result<usize> {
    if to.is_dead() || from.is_dead() {
        return Err(Error::Stale);
    }
    let all = from.num_timers() as usize;
    // Room for all before the first one moves: out of memory moves nothing.
    to.lock(s).heap.reserve(s.host(), all)?;
    let mut left = all;
    let mut moved = 0;
    while left > 0 && from.num_timers() > 0 {
        let (n, earliest) = match move_timers(s, to, from) {
            Ok(m) => m,
            Err(_) if moved > 0 => break, // others filled the room: what has moved has moved
            Err(e) => return Err(e),
        };
        moved += n;
        *first = (*first).min(earliest);
        left = left.saturating_sub(BATCH);
    }
    Ok(moved)
}
