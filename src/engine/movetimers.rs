//! `moveTimers`: all timers of one P go to another. 64 at a time, so that neither P's
//! lock is held for long; between two batches each timer is in exactly one heap.

use super::sweep::sweep_over_bound;
use super::timer::{MAX_WHEN, State};
use super::timers::Timers;
use super::{Procs, finish_dead};
use crate::error::Result;

/// So many at a time. (The models have few timers.)
pub(crate) const BATCH: usize = if cfg!(gt_model) { 1 } else { 64 };

/// Moves a batch. The caller sees to it that two moves never cross: procs holds the
/// registry's lock. Returns how many timers moved and how early the earliest of them is.
pub(crate) fn move_timers<S: Procs>(s: &S, to: &Timers, from: &Timers) -> Result<(usize, i64)> {
    // Two Ps' locks: by address.
    let (mut dst, mut src);
    if std::ptr::from_ref(to) < std::ptr::from_ref(from) {
        dst = to.lock(s);
        src = from.lock_second(s);
    } else {
        src = from.lock(s);
        dst = to.lock_second(s);
    }
    (src.alone, dst.alone) = (false, false);
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
        l.set_home(to);
        l.set_stamp(0);
        first = first.min(key);
        dst.insert(key, e.t);
        moved += 1;
        l.unlock(State::Waiting);
    }
    // The destination's wake time goes down before the source's goes up: who reads the
    // one before and the other after sees the timers twice rather than never.
    dst.publish();
    drop(src);
    drop(dst);
    // Who stopped timers meanwhile found the locks held, and left the sweep to us.
    for tm in [to, from] {
        if tm.owes_sweep_still() {
            sweep_over_bound(s, tm);
        }
    }
    Ok((moved, first))
}
