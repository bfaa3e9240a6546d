//! `moveTimers`: all timers of one P go to another. 64 at a time, so that neither P's
//! lock is held for long; between two batches each timer is in exactly one heap.

use super::p::P;
use super::sched::Sched;
use crate::engine::{Held, MAX_WHEN, Procs, State, finish_dead};
use crate::error::{Error, Result};

const BATCH: usize = 64;

/// Moves a batch. The caller holds the registry's lock, so that two moves never cross.
/// Returns how many timers moved and how early the earliest of them is.
pub(crate) fn move_timers(s: &Sched, to: &P, from: &P) -> Result<(usize, i64)> {
    // Two Ps' locks: by address.
    let (mut dst, mut src);
    if std::ptr::from_ref(to) < std::ptr::from_ref(from) {
        dst = to.lock(s);
        src = from.lock_second(s);
    } else {
        src = from.lock(s);
        dst = to.lock_second(s);
    }
    let batch = src.heap.total().min(BATCH);
    dst.heap.reserve(s.host(), batch)?;
    let mut moved = 0;
    let mut first = MAX_WHEN;
    for _ in 0..batch {
        let Some(e) = src.heap.pop_last() else { break };
        let mut l = e.t.lock(s.host());
        if l.when == 0 {
            finish_dead(&src, e.t, l);
            continue;
        }
        let key = l.due();
        l.key = key;
        l.set_p(to.index);
        l.set_stamp(0);
        first = first.min(key);
        dst.insert(key, e.t);
        moved += 1;
        l.unlock(State::Waiting);
    }
    // The destination's wake time goes down before the source's goes up: who reads the
    // one before and the other after sees the timers twice rather than never.
    dst.publish();
    release(src, dst);
    Ok((moved, first))
}

/// The source first: see above.
fn release(src: Held<'_, Sched>, dst: Held<'_, Sched>) {
    drop(src);
    drop(dst);
}

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
