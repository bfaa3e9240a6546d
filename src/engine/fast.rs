//! The commonest cases of modtimer, deltimer and free, with as few instructions as can be: a
//! timer of which nothing changes but its time, in a heap or bound for that of the thread's own
//! P, and nobody else works on it. They do what modtimer.rs and lifetime.rs do, in the same
//! order; whatever is not such a case is left to those, before anything was done. What is rare
//! here too stands apart, so that the way through saves no registers and calls nothing.

use super::lifetime::release_node_quick;
use super::modtimer::Arm;
use super::sweep::{clean_tail, sweep_over_bound};
use super::timer::{
    CHAN, DETACHED, FREED, Fields, Func, HAS_DROP, Quick, SHUTDOWN, SLACK, STAMP_SHIFT, State,
    Timer, TimerRef, WATCHED,
};
use super::timers::{Held, Timers};
use super::{Block, Counter, Procs};
use crate::sync::Ordering;
use std::ffi::c_void;

/// How many pending armings one replaces: 0 or 1. It is what C gets; a bool would have to be made
/// a number of, three instructions later.
type Replaced = u32;

/// What keeps a timer from being armed here.
const UNCOMMON: u32 = FREED | SHUTDOWN | DETACHED | HAS_DROP | CHAN | SLACK | WATCHED;

/// modtimer of a timer that is armed again and again, to a time that is neither due nor the P's
/// earliest. `None`: not such a case. What is no time or no period is not such a case either:
/// `arm` may be anything.
#[inline(always)]
pub(crate) fn rearm<S: Procs>(t: TimerRef, arm: &Arm) -> Option<Replaced> {
    let block = S::quick_block(t.home())?;
    let l = t.try_lock_plain()?;
    let tm = l.home();
    if changes(&l, arm) || is_earlier(tm, &l, arm.when) {
        l.put_back();
        return None;
    }
    Some(set_when(block, tm, l, arm.when))
}

/// modtimer of any timer in a heap. `None`: not such a case. `arm` may be anything.
#[inline(always)]
pub(crate) fn rearm_any<S: Procs>(t: TimerRef, arm: &Arm) -> Option<Replaced> {
    let block = S::quick_block(t.home())?;
    let l = t.try_lock_heaped(UNCOMMON)?;
    if changes(&l, arm) || arm.add && l.when != 0 || arm.when <= 0 {
        l.put_back();
        return None;
    }
    let tm = l.home();
    if is_earlier(tm, &l, arm.when) {
        return Some(set_earlier::<S>(l, arm.when, block));
    }
    Some(set_when(block, tm, l, arm.when))
}

/// Does more change than the time? A period below 0 is none that a timer has.
#[inline(always)]
fn changes(l: &Fields, arm: &Arm) -> bool {
    let differs = |(f, arg, seq): (Func, *mut c_void, usize)| {
        l.arg != arg || l.seq != seq || !l.f.is_some_and(|was| std::ptr::fn_addr_eq(was, f))
    };
    arm.period != l.period || arm.set.is_some_and(differs)
}

/// Is the new time due already, or does the P's wake time get earlier? Also if it is no time.
#[inline(always)]
fn is_earlier(tm: &Timers, l: &Fields, when: i64) -> bool {
    // In this order: of the last comparison alone nobody could tell which way it goes, but the
    // one before it hardly ever leads to it.
    tm.is_for_later_pass(when) || tm.is_earliest(when) && when < l.key
}

#[inline(always)]
fn set_when(block: &Block, tm: &Timers, mut l: Quick<'_>, when: i64) -> Replaced {
    let was = std::mem::replace(&mut l.when, when);
    if was == 0 {
        block.count_own(Counter::Armed);
        tm.sub_deleted();
        l.unlock_plain();
        return 0;
    }
    block.count_own(Counter::Rearmed);
    l.unlock_plain();
    1
}

/// The same, if is_earlier says so.
#[cold]
#[inline(never)]
fn set_earlier<S: Procs>(mut l: Quick<'_>, when: i64, block: &Block) -> Replaced {
    let (tm, pending) = (l.home(), l.when != 0);
    l.when = when;
    if pending {
        block.count_own(Counter::Rearmed);
    } else {
        block.count_own(Counter::Armed);
        tm.sub_deleted();
    }
    let lowered = when < l.key && tm.update_timer_modified_earliest(when);
    l.unlock(State::Modified, tm.stamp_for(when) << STAMP_SHIFT);
    if lowered {
        tm.note_lowered(S::of(tm), when);
    }
    pending as Replaced
}

/// modtimer of a timer in no heap. `None`: not such a case.
#[inline(always)]
pub(crate) fn insert<S: Procs>(t: TimerRef, arm: &Arm) -> Option<Replaced> {
    let block = S::quick_block(t.home())?;
    let tm = S::quick_p(t.home())?;
    if t.state() != State::Removed {
        return None;
    }
    let s = S::of(tm);
    let mut h = tm.try_lock(s)?;
    // What is no time is refused here too.
    if h.dead || tm.is_for_later_pass(arm.when) {
        return None;
    }
    if let Some((i, old, word)) = freed_place(&mut h) {
        let l = lock_to_insert(&h, block, &t, arm)?;
        h.heap.replace(i, arm.when, t);
        l.unlock(State::Waiting, 0);
        tm.note_taken_off();
        old.set_taken_off(word);
        release_node_quick(s, block, old);
        let first = tm.timer0_when();
        if i == 0 {
            drop(h);
        } else {
            h.unlock_replaced(arm.when, first);
            std::mem::forget(h);
        }
        if arm.when < first {
            tm.note_lowered(s, arm.when);
        }
        return Some(0);
    }
    if !h.heap.has_room() || !h.is_clean() {
        return None;
    }
    clean_tail(&mut h);
    let l = lock_to_insert(&h, block, &t, arm)?;
    h.heap.doaddtimer(arm.when, t);
    l.unlock(State::Waiting, 0);
    let first = tm.timer0_when();
    drop(h);
    if first == 0 || arm.when < first {
        tm.note_lowered(s, arm.when);
    }
    Some(0)
}

/// Locks the timer, and arms it for the heap.
#[inline(always)]
fn lock_to_insert<'a, S: Procs>(
    h: &Held<'_, S>,
    block: &Block,
    t: &'a Timer,
    arm: &Arm,
) -> Option<Quick<'a>> {
    let mut l = t.try_lock_removed(UNCOMMON)?;
    if changes(&l, arm) {
        l.put_back();
        return None;
    }
    l.when = arm.when;
    l.key = arm.when;
    l.set_home(h.tm);
    block.count_own(Counter::Armed);
    Some(l)
}

/// Where the last insertion ended, an entry whose timer is freed: the next one can have its
/// place. So a program that makes, arms, stops and frees one timer after the other leaves
/// nothing to be swept. Its position, timer and status word.
#[inline(always)]
fn freed_place<S: Procs>(h: &mut Held<'_, S>) -> Option<(usize, TimerRef, u32)> {
    let (mut i, mut t) = h.heap.last_added()?;
    let mut word = t.freed_in_heap()?;
    // Another entry would move forward, perhaps past the scan.
    if h.scan.is_some() {
        return None;
    }
    // It is freed with no lock of ours: only what is found after nothing lags may be used.
    if h.heap.settle() {
        (i, t) = h.heap.last_added()?;
        word = t.freed_in_heap()?;
    }
    Some((i, t, word))
}

/// deltimer. `None`: not such a case.
#[inline(always)]
pub(crate) fn stop<S: Procs>(t: TimerRef) -> Option<bool> {
    stop_with::<S>(t, FREED | SHUTDOWN | DETACHED | CHAN, 0)
}

/// gt_timer_free of a timer in a heap. `None`: not such a case.
#[inline(always)]
pub(crate) fn free<S: Procs>(t: TimerRef) -> Option<bool> {
    stop_with::<S>(t, FREED | SHUTDOWN | DETACHED | CHAN | HAS_DROP, FREED)
}

/// gt_timer_free of a timer in no heap, which no call uses. `None`: not such a case.
#[inline(always)]
pub(crate) fn free_removed<S: Procs>(t: TimerRef) -> Option<bool> {
    let block = S::quick_block(t.home())?;
    let s = S::of(t.home());
    let l = t.try_lock_removed(FREED | SHUTDOWN | DETACHED | CHAN | HAS_DROP)?;
    // Acquire: see release_node.
    if t.refs.load(Ordering::Acquire) != 1 || s.generation(t) >= u32::MAX - 1 {
        l.put_back();
        return None;
    }
    s.raise_generation(t);
    s.give_back_to(block, t); // while it is locked: see cache::take_back
    l.unlock(State::Removed, FREED);
    Some(false)
}

#[inline(always)]
fn stop_with<S: Procs>(t: TimerRef, uncommon: u32, also: u32) -> Option<bool> {
    let block = S::quick_block(t.home())?;
    let mut l = t.try_lock_heaped(uncommon)?;
    let tm = l.home();
    if also & FREED != 0 && S::of(tm).generation(t) >= u32::MAX - 1 {
        l.put_back();
        return None; // see RETIRED
    }
    if l.when == 0 {
        if also & FREED == 0 {
            l.put_back();
        } else {
            S::of(tm).raise_generation(t);
            l.unlock(State::Modified, also);
        }
        return Some(false);
    }
    l.when = 0;
    block.count_own(Counter::Stopped);
    tm.add_deleted();
    if also & FREED != 0 {
        S::of(tm).raise_generation(t);
    }
    l.unlock(State::Modified, also);
    if tm.owes_sweep() {
        sweep_over_bound(S::of(tm), tm);
    }
    Some(true)
}
