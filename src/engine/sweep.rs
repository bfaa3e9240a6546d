//! Getting rid of dead entries without scanning the whole heap: 64 slots at a time.
//! The counterpart of `clearDeletedTimers`.
//!
//! A P never carries more than 1/4 + 1/64 of its heap (and a constant) in dead entries,
//! even if its owner never looks: whoever stops a timer beyond 1/4 tries the lock and
//! sweeps, and whoever unlocks the P sweeps first.

use super::adjust::{MOVES, finish_dead, may_move};
use super::heap::Entry;
use super::timer::State;
use super::timers::{Held, Timers};
use super::{Counter, Procs};

// The models have few timers.
/// Slots looked at in one go.
pub(crate) const STEP: usize = if cfg!(gt_model) { 4 } else { 64 };
/// So many dead entries are always allowed.
pub(crate) const CONST: u32 = if cfg!(gt_model) { 1 } else { 16 };
/// Dead entries at the end of the array that one insertion takes off at most.
const TAIL: usize = 4;

/// What can be told without the timer's lock. A Locked one is perhaps being stopped, and
/// counted already: if it were passed over, and who stops it finds the P locked, nobody would
/// sweep.
fn is_perhaps_dead<S: Procs>(h: &Held<'_, S>, i: usize) -> bool {
    let Entry { t, .. } = h.heap.get_any(i);
    matches!(t.state(), State::Modified | State::Locked)
}

/// If the timer of this entry is dead, takes the entry off. True if it was.
pub(super) fn drop_if_dead<S: Procs>(h: &mut Held<'_, S>, i: usize) -> bool {
    if !is_perhaps_dead(h, i) {
        return false;
    }
    let Entry { t, .. } = h.heap.get(i);
    let l = t.lock(h.s.host());
    if l.state == State::Modified && l.when == 0 {
        h.heap.remove(i);
        finish_dead(h, t, l);
        return true;
    }
    l.put_back();
    false
}

/// Looks at 64 slots, going down from where the last sweep ended. Returns how many
/// entries it took off.
pub(crate) fn sweep<S: Procs>(h: &mut Held<'_, S>) -> usize {
    let (mut swept, mut moves) = (0, MOVES);
    h.heap.settle();
    for _ in 0..STEP {
        let len = h.heap.total();
        if len == 0 {
            break;
        }
        if h.cursor == 0 || h.cursor > len {
            h.cursor = len;
        }
        let i = h.cursor - 1;
        if h.scan.is_some() && is_perhaps_dead(h, i) {
            if !may_move(h, i, &mut moves) {
                break;
            }
            if i >= h.heap.total() {
                continue; // it was the scan that took some off
            }
        }
        if drop_if_dead(h, i) {
            // Another entry stands at i now; it is looked at next.
            swept += 1;
        } else {
            h.cursor = i;
        }
    }
    if swept > 0 {
        h.s.block().add(Counter::Sweeps, swept as u64);
    }
    swept
}

/// So many sweeps look at each of so many entries, and take it off, and do what a scan under
/// way wants done first.
pub(super) fn rounds(total: usize) -> usize {
    total * 4 / STEP + 2
}

/// Before an insertion: dead entries at the very end of the array cost nothing to take
/// off, and a program that starts and stops one timer leaves them just there.
pub(crate) fn clean_tail<S: Procs>(h: &mut Held<'_, S>) {
    for _ in 0..TAIL {
        let len = h.heap.len();
        if len == 0 || !is_perhaps_dead(h, len - 1) {
            return;
        }
        h.heap.settle(); // another may come to the end
        if !drop_if_dead(h, len - 1) {
            return;
        }
    }
}

/// A timer of this P was stopped and the bound may be passed: sweeps, if the lock is
/// free. Who holds it sweeps when he lets it go.
#[cold]
pub(crate) fn sweep_over_bound<S: Procs>(s: &S, tm: &Timers) {
    // Letting it go is what sweeps.
    drop(tm.try_lock(s));
}

/// gt_trim: takes all dead entries off, 64 slots per hold of the lock, and gives unused
/// memory back.
pub(crate) fn trim<S: Procs>(s: &S, tm: &Timers) -> usize {
    let mut swept = 0;
    let mut h = tm.lock(s);
    h.cursor = h.heap.total();
    let mut holds = rounds(h.heap.total());
    loop {
        swept += sweep(&mut h);
        holds -= 1;
        if h.cursor == 0 || h.heap.total() == 0 || holds == 0 {
            break;
        }
        drop(h);
        h = tm.lock(s);
        if h.cursor == 0 {
            break;
        }
    }
    while h.heap.shrink(s.host()) {
        drop(h);
        h = tm.lock(s);
    }
    drop(h);
    swept
}
