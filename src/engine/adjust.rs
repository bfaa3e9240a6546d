//! `cleantimers` and `adjusttimers` of runtime/time.go: the owner repairs the heap that
//! others made stale. The P's lock is held, but for a scan's pauses.

use super::heap::Entry;
use super::sweep::drop_if_dead;
use super::timer::{FREED, Locked, State, TimerRef};
use super::timers::{Held, NONE};
use super::verify::{Rule, badtimer};
use super::{Counter, Procs, release_node_held, verify_timer_heap};

/// The entry of a dead timer has been taken off: the timer is Removed, and given back
/// if its handle is gone too.
pub(crate) fn finish_dead<S: Procs>(h: &Held<'_, S>, t: TimerRef, mut l: Locked<'_>) {
    h.tm.note_taken_off();
    l.key = 0;
    l.set_stamp(0);
    let freed = l.has(FREED);
    l.unlock(State::Removed);
    if freed {
        release_node_held(h.s, t);
    }
}

/// Was the timer re-armed in the pass under way, for a time already due? Then it waits
/// for the next pass (S10).
fn is_for_next_pass<S: Procs>(h: &Held<'_, S>, l: &Locked<'_>) -> bool {
    h.passes > 0 && l.stamp() != 0 && l.stamp() == h.tm.pass_seq()
}

/// The stale head, locked: taken off if it is dead, else moved to where it belongs.
pub(crate) fn repair_head<S: Procs>(h: &mut Held<'_, S>, t: TimerRef, mut l: Locked<'_>) {
    let (when, lag) = (l.due(), h.scan.is_none());
    if when == 0 {
        h.heap.dodeltimer0(lag);
        finish_dead(h, t, l);
        return;
    }
    if is_for_next_pass(h, &l) {
        h.heap.dodeltimer0(lag);
        h.heap.defer(when, t);
    } else {
        h.heap.rekey0(when, lag);
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
    let mut moves = MOVES;
    for _ in 0..CLEAN {
        if !may_move(h, 0, &mut moves) || h.heap.len() == 0 {
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

/// Entries that the scan of adjusttimers looks at in one hold of the P's lock: up to 30 us when
/// each has to go to another place, through memory that is in no cache.
const STEP: usize = if cfg!(gt_model) { 1 } else { 64 };
/// So far ahead it asks for timers, which lie at random in memory.
const AHEAD: usize = 16;

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
///
/// Go scans in one hold of the lock: 25 ms for a million timers. Here the lock is let go
/// after 64 entries, and whoever takes it finds a heap in order and a scan under way.
/// From the first position to the last, it has looked at those before `Inner::scan`. Others
/// go on meanwhile, as long as nothing that it has not looked at comes from behind that
/// position to before it: an insertion only moves entries back; for the rest see `may_move`.
/// Who wants to scan meanwhile waits, and finds perhaps that there is no need any more.
pub(crate) fn adjusttimers<S: Procs>(h: &mut Held<'_, S>, now: i64, force: bool) {
    if !is_owed(h, now, force) {
        return;
    }
    h.lock_scans();
    // Another's has perhaps done it meanwhile. One that had begun before we came may have
    // passed by what was modified since.
    let owed = is_owed(h, now, force);
    if owed {
        h.begin_scan();
        h.s.block().add(Counter::Scans, 1);
        while scan_step(h, STEP) {
            h.let_others_in();
        }
    }
    h.unlock_scans(owed);
    if h.s.verifying() {
        let broken = verify_timer_heap(h);
        if let Some((rule, t)) = broken {
            badtimer(h.s, t, rule);
        }
    }
}

/// Is a timer due that a scan has to give its place?
fn is_owed<S: Procs>(h: &Held<'_, S>, now: i64, force: bool) -> bool {
    let earliest = h.tm.modified_earliest().min(h.folded);
    force || earliest <= now && earliest != NONE
}

/// So many entries `may_move` moves in one hold of the lock.
pub(super) const MOVES: usize = if cfg!(gt_model) { 1 } else { 32 };

/// May the entry of position i be taken off, or moved to a later place? Then the last entry
/// takes its place, or its children move up. If a scan is under way, one of these may get from
/// behind its position to before it; if its timer has an earlier time than its key, it is moved
/// to its place first. `moves`: how many more of them may be moved in this hold. False: not yet,
/// there were too many.
#[inline(always)]
pub(super) fn may_move<S: Procs>(h: &mut Held<'_, S>, i: usize, moves: &mut usize) -> bool {
    h.scan.is_none() || may_move_in_a_scan(h, i, moves)
}

#[cold]
fn may_move_in_a_scan<S: Procs>(h: &mut Held<'_, S>, i: usize, moves: &mut usize) -> bool {
    loop {
        let (len, line) = (h.heap.len(), h.scan.unwrap_or(0));
        if i >= len || line >= len {
            return true;
        }
        let last = len - 1;
        if last <= i || adjust_at(h, last, Which::Earlier) == Seen::Stays {
            match h.heap.crossing(i, line) {
                Some(p) if p > i && adjust_at(h, p, Which::Earlier) != Seen::Stays => (),
                _ => return true,
            }
        }
        if *moves == 0 {
            return false;
        }
        *moves -= 1;
    }
}

/// Goes on with the scan under way, by so many looks. False: it is at its end, or there is none.
pub(super) fn scan_step<S: Procs>(h: &mut Held<'_, S>, looks: usize) -> bool {
    let Some(mut i) = h.scan else { return false };
    for _ in 0..looks {
        if i >= h.heap.len() {
            h.end_scan();
            return false;
        }
        if i + AHEAD < h.heap.len() {
            h.heap.prefetch(i + AHEAD);
        }
        // Others may re-arm and stop timers as fast as we move and take off their entries. None
        // of that needs a scan: so it does no more of it than there can have been at its beginning.
        let which = match h.repairs {
            0 => Which::Earlier,
            _ => Which::All,
        };
        match adjust_at(h, i, which) {
            Seen::Again => h.repairs -= 1,
            _ => i += 1,
        }
    }
    h.scan = Some(i);
    true
}

/// What looking at a position has done to it.
#[derive(PartialEq)]
enum Seen {
    /// Nothing moved.
    Stays,
    /// The entry went up, and its parent has come here.
    Rose,
    /// Another one has come here from behind, or is about to.
    Again,
}

/// Which stale entries are given their place.
#[derive(PartialEq)]
enum Which {
    All,
    /// Those with an earlier time than their key, which only a scan finds.
    Earlier,
}

/// Gives the entry of a position its place.
fn adjust_at<S: Procs>(h: &mut Held<'_, S>, i: usize, which: Which) -> Seen {
    let Entry { when: key, t } = h.heap.get(i);
    // Without the lock: a modification that is not seen here lowers
    // timer_modified_earliest after we cleared it.
    if t.state_for_scan() == State::Waiting {
        return Seen::Stays;
    }
    let mut l = t.lock(h.s.host());
    match l.state {
        State::Waiting => {
            l.unlock(State::Waiting);
            Seen::Stays
        }
        State::Modified if which == Which::Earlier && (l.when == 0 || l.due() > key) => {
            l.put_back();
            Seen::Stays
        }
        State::Modified if l.when == 0 => {
            l.put_back();
            take_dead(h, i);
            Seen::Again
        }
        State::Modified if is_for_next_pass(h, &l) => {
            // It stays as it is. `timer0_when` goes on saying so: if it were noted again in
            // timer_modified_earliest, who has read that already would not hear of it.
            if l.due() < key {
                h.leave(l.due());
            }
            l.put_back();
            Seen::Stays
        }
        State::Modified => {
            let when = l.due();
            h.heap.rekey(i, when);
            l.key = when;
            l.set_stamp(0);
            l.unlock(State::Waiting);
            match when {
                _ if when < key => Seen::Rose,
                _ if when > key => Seen::Again,
                _ => Seen::Stays,
            }
        }
        _ => badtimer(h.s, t, Rule::State),
    }
}

/// Takes off the entry of a timer that was dead. The last entry fills the gap, and from there
/// goes where it belongs, which may be among those looked at: so it is looked at first. If
/// that moves anything, nothing else is done this time.
fn take_dead<S: Procs>(h: &mut Held<'_, S>, i: usize) {
    let last = h.heap.len() - 1;
    if i < last && adjust_at(h, last, Which::All) != Seen::Stays {
        return;
    }
    drop_if_dead(h, i);
}
