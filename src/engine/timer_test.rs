//! The status word of timer.rs on one thread: what stands in it while the timer is locked, and
//! what a lock that a fork has cut off leaves.

use super::slab::Slab;
use super::timer::{
    CHAN, DETACHED, FREED, Func, HAS_DROP, RETIRED, SHUTDOWN, State, TimerRef, WATCHED,
};
use super::timers::Timers;
use crate::host::{Hooks, Host};
use crate::sync::rank;
use std::ffi::c_void;

/// State, and state before Locked.
const STATES: u32 = 0xf;

unsafe extern "C-unwind" fn nothing(_: *mut c_void, _: usize, _: i64) {}

/// Does this to a timer in each state that has nothing, everything or something else in its word.
fn for_each(f: impl Fn(TimerRef, &Host, State)) {
    let host = Host::new(Hooks::default());
    let mut slab = Slab::new();
    let home = Timers::new(std::ptr::null(), 0);
    let new: (Func, _, _) = (nothing, std::ptr::null_mut(), 0);
    let t = slab.alloc(&host, &home, new).unwrap();
    for state in [State::Removed, State::Waiting, State::Modified] {
        for (flags, stamp, slack) in [
            (0, 0, 1),
            (SHUTDOWN | DETACHED | WATCHED, 0xffff, i64::MAX),
            (HAS_DROP | CHAN, 5, 1 << 7),
        ] {
            let mut l = t.lock(&host);
            l.clear(l.flags());
            l.set(flags);
            l.set_stamp(stamp);
            l.set_slack(slack);
            l.unlock(state);
            f(t, &host, state);
        }
    }
    // SAFETY: nothing of it is used any more.
    unsafe { slab.destroy(&host) };
}

/// While it is locked the flags can be read as before; unlocked, the word is as before.
fn check_locked(t: TimerRef, was: u32) {
    assert_eq!(t.state(), State::Locked);
    assert_eq!(t.state_for_scan(), State::Locked);
    assert_eq!(t.flags() & !STATES, was & !STATES);
    assert!(t.try_lock_heaped(0).is_none());
    assert!(t.try_lock_removed(0).is_none());
}

#[test]
fn a_locked_timer_keeps_its_flags() {
    for_each(|t, host, state| {
        let was = t.flags();
        let l = t.lock(host);
        assert_eq!((l.state, l.flags()), (state, was & !STATES));
        check_locked(t, was);
        l.put_back();
        assert_eq!(t.flags(), was);
        let quick = match state {
            State::Removed => t.try_lock_removed(0),
            _ => t.try_lock_heaped(0),
        };
        let l = quick.unwrap();
        check_locked(t, was);
        l.put_back();
        assert_eq!(t.flags(), was);
        assert_eq!(t.state_for_scan(), state);
    });
}

/// The short paths leave what has any of these to the longer ones, and what is in the other
/// state.
#[test]
fn a_short_path_asks_for_the_uncommon() {
    for_each(|t, _, state| {
        let was = t.flags();
        let plain = t.try_lock_plain().map(|l| l.put_back());
        assert_eq!(plain.is_some(), was == State::Modified as u32);
        assert_eq!(t.flags(), was);
        for uncommon in [SHUTDOWN, HAS_DROP, CHAN | DETACHED, SHUTDOWN | HAS_DROP] {
            let free = was & uncommon == 0;
            let heaped = t.try_lock_heaped(uncommon).map(|l| l.put_back());
            assert_eq!(heaped.is_some(), free && state != State::Removed);
            let removed = t.try_lock_removed(uncommon).map(|l| l.put_back());
            assert_eq!(removed.is_some(), free && state == State::Removed);
            assert_eq!(t.flags(), was);
        }
    });
}

/// In a fork child, if a lost thread has it locked.
#[test]
fn a_lost_lock_is_released() {
    for_each(|t, host, state| {
        let was = t.flags();
        assert!(!t.release_lost());
        assert_eq!(t.flags(), was);
        let entry = match state {
            State::Removed => State::Removed,
            _ => State::Modified, // somebody must look at it
        };
        for quick in [false, true] {
            if !quick {
                let _ = t.lock(host);
            } else if state == State::Removed {
                let _ = t.try_lock_removed(0).unwrap();
            } else {
                let _ = t.try_lock_heaped(0).unwrap();
            }
            rank::leave(rank::TIMER);
            assert!(t.release_lost());
            assert_eq!(t.flags(), was & !STATES | entry as u32);
            let l = t.lock(host);
            assert_eq!((l.state, l.flags()), (entry, was & !STATES));
            l.unlock(state);
        }
    });
}

/// Who has a freed timer locked, by a stale id, puts it back as it was; but if it has got a new owner
/// meanwhile, he touches nothing.
#[test]
fn a_freed_timer_may_get_a_new_owner_while_it_is_locked() {
    for_each(|t, host, state| {
        let mut l = t.lock(host);
        l.set(FREED);
        l.unlock(state);
        let was = t.flags();
        let l = t.lock(host);
        check_locked(t, was);
        l.put_back();
        assert_eq!(t.flags(), was);
        let l = t.lock(host);
        t.init(t.home(), nothing, std::ptr::null_mut(), CHAN);
        l.put_back();
        assert_eq!(t.flags(), CHAN);
    });
}

#[test]
fn a_retired_timer_is_known_by_its_slack() {
    for_each(|t, host, _| {
        let mut l = t.lock(host);
        assert!(!l.is_retired());
        l.set(RETIRED);
        assert!(l.is_retired());
        l.clear(RETIRED);
        l.set_slack(1);
        assert!(!l.is_retired());
        l.put_back();
    });
}

/// The key is the next multiple of the slack, which is a power of two.
#[test]
fn a_slack_rounds_up() {
    for_each(|t, host, _| {
        let mut l = t.lock(host);
        for (slack, when, due) in [
            (0, 1001, 1001),
            (1, 1001, 1001),
            (2, 1001, 1002),
            (64, 1001, 1024),
            (64, 1024, 1024),
            (127, 1025, 1088),
            (1 << 40, 5, 1 << 40),
            (i64::MAX, 5, 1 << 62),
            (i64::MAX, (1 << 62) + 1, (1 << 62) + 1), // no later multiple
            (64, i64::MAX, i64::MAX),
            (64, 0, 0),
        ] {
            let (flags, stamp) = (l.flags() & 0x1ff, l.stamp());
            l.set_slack(slack);
            l.when = when;
            assert_eq!(l.due(), due, "{slack} {when}");
            assert_eq!((l.flags() & 0x1ff, l.stamp()), (flags, stamp));
        }
        l.put_back();
    });
}

/// In a fork child, what is given back is free whatever a lost thread was doing to it.
#[test]
fn a_free_node_has_nothing_else_in_its_word() {
    for_each(|t, host, _| {
        let _ = t.lock(host);
        rank::leave(rank::TIMER);
        t.set_free();
        assert_eq!((t.state(), t.flags()), (State::Removed, FREED));
    });
}

/// A freed timer's entry may be taken by an insertion: if nobody has the timer locked, and the entry
/// is known to be stale.
#[test]
fn a_freed_timer_loses_its_entry() {
    for_each(|t, host, state| {
        assert_eq!(t.freed_in_heap(), None);
        let mut l = t.lock(host);
        l.set(FREED);
        l.unlock(state);
        let was = t.flags();
        let l = t.lock(host);
        assert_eq!(t.freed_in_heap(), None);
        l.put_back();
        let stale = (state == State::Modified).then_some(was);
        assert_eq!(t.freed_in_heap(), stale);
        if let Some(word) = stale {
            t.set_taken_off(word);
            assert_eq!((t.state(), t.freed_in_heap()), (State::Removed, None));
            let l = t.lock(host);
            assert_eq!((l.state, l.stamp()), (State::Removed, 0));
            assert_eq!(l.flags(), was & 0xfff0);
            l.put_back();
        }
    });
}

/// The list of free nodes loses none.
#[test]
fn a_link_leads_to_its_node() {
    for_each(|t, _, _| {
        for to in [Some(t), None] {
            // SAFETY: made by link_to.
            assert_eq!(unsafe { TimerRef::from_link(TimerRef::link_to(to)) }, to);
        }
    });
}
