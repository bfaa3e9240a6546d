//! `cleantimers` and `adjusttimers` of runtime/time.go: the owner repairs the heap that
//! others made stale. The P's lock is held throughout.

use super::heap::Entry;
use super::timer::{FREED, Locked, State, TimerRef};
use super::timers::Held;
use super::verify::{Rule, badtimer};
use super::{Counter, Procs, release_node, verify_timer_heap};

/// The entry of a dead timer has been taken off: the timer is Removed, and given back
/// if its handle is gone too.
pub(crate) fn finish_dead<S: Procs>(h: &Held<'_, S>, t: TimerRef, mut l: Locked<'_>) {
    h.tm.sub_deleted();
    l.key = 0;
    l.set_stamp(0);
    let freed = l.has(FREED);
    l.unlock(State::Removed);
    if freed {
        release_node(h.s, t);
    }
}

/// Was the timer re-armed in the pass under way, for a time already due? Then it waits
/// for the next pass (S10).
fn is_for_next_pass<S: Procs>(h: &Held<'_, S>, l: &Locked<'_>) -> bool {
    h.passes > 0 && l.stamp() != 0 && l.stamp() == h.tm.pass_seq()
}

/// The stale head, locked: taken off if it is dead, else moved to where it belongs.
pub(crate) fn repair_head<S: Procs>(h: &mut Held<'_, S>, t: TimerRef, mut l: Locked<'_>) {
    let when = l.due();
    if when == 0 {
        h.heap.dodeltimer0();
        finish_dead(h, t, l);
        return;
    }
    if is_for_next_pass(h, &l) {
        h.heap.dodeltimer0();
        h.heap.defer(when, t);
    } else {
        h.heap.rekey0(when);
    }
    l.key = when;
    l.set_stamp(0);
    l.unlock(State::Waiting);
}

/// How many stale heads one call repairs at most: an insertion shall not pay for all.
const CLEAN: usize = 64;

/// Repairs stale timers at the head, so that adding and deleting much does not fill the
/// heap with dead ones.
pub(crate) fn cleantimers<S: Procs>(h: &mut Held<'_, S>) {
    for _ in 0..CLEAN {
        if h.heap.len() == 0 {
            return;
        }
        let Entry { t, .. } = h.heap.get(0);
        if t.state() == State::Waiting {
            return;
        }
        let l = t.lock(h.s.host());
        match l.state {
            State::Modified => repair_head(h, t, l),
            State::Waiting => return l.unlock(State::Waiting),
            _ => badtimer(h.s, t, Rule::State),
        }
    }
}

/// If a timer was re-armed to an earlier time that is due (or `force`), gives every
/// stale timer of the heap its place.
///
/// When to clear `timer_modified_earliest` is a dilemma. Cleared before the scan, a
/// sleeper who asks meanwhile does not hear of a modified timer that the scan has not
/// reached. Cleared after it, a modification made meanwhile behind the scan's back is
/// forgotten. So: (1) it is folded into `timer0_when`, which keeps the sleeper honest
/// during the scan; (2) cleared; (3) the scan; (4) `timer0_when` is computed again, at
/// unlock. A modification is visible in the timer's status before it lowers
/// `timer_modified_earliest`, so the scan sees it, or it comes after (2) and stays.
pub(crate) fn adjusttimers<S: Procs>(h: &mut Held<'_, S>, now: i64, force: bool) {
    let earliest = h.tm.modified_earliest();
    if !force && (earliest == 0 || earliest > now) {
        return;
    }
    h.tm.fold_modified_earliest();
    h.s.block().add(Counter::Scans, 1);
    let mut changed = false;
    let mut i = 0;
    while i < h.heap.len() {
        let Entry { t, .. } = h.heap.get(i);
        // Without the lock: a modification that is not seen here lowers
        // timer_modified_earliest after we cleared it.
        if t.state_for_scan() == State::Waiting {
            i += 1;
            continue;
        }
        let mut l = t.lock(h.s.host());
        match l.state {
            State::Waiting => {
                l.unlock(State::Waiting);
                i += 1;
            }
            State::Modified if l.when == 0 => {
                // The last entry comes to stand here: look at the place again.
                h.heap.swap_remove(i);
                finish_dead(h, t, l);
                changed = true;
            }
            State::Modified => {
                let when = l.due();
                if is_for_next_pass(h, &l) {
                    h.heap.swap_remove(i);
                    h.heap.defer(when, t);
                } else {
                    h.heap.set_when(i, when);
                    i += 1;
                }
                l.key = when;
                l.set_stamp(0);
                l.unlock(State::Waiting);
                changed = true;
            }
            _ => badtimer(h.s, t, Rule::State),
        }
    }
    if changed {
        h.heap.inittimerheap();
    }
    if h.s.verifying() {
        let broken = verify_timer_heap(h);
        if let Some((rule, t)) = broken {
            badtimer(h.s, t, rule);
        }
    }
}
