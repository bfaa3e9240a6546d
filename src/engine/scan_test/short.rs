//! The short paths of fast.rs: what they do, and what they leave alone. The longer ones do the same
//! with whatever is left to them, so that nobody else notices which of the two did it.

use super::super::fast::{free, free_removed, insert, rearm, rearm_any, stop};
use super::super::timer::{
    CHAN, DETACHED, FREED, Func, HAS_DROP, MAX_WHEN, SHUTDOWN, SLACK, State, TimerRef, WATCHED,
};
use super::super::{Arm, Counter, deltimer};
use super::{Op, World, called, with_world};
use crate::sync::Ordering;
use std::ffi::c_void;

const NONE: i64 = i64::MAX;

unsafe extern "C-unwind" fn another(_: *mut c_void, _: usize, _: i64) {
    unreachable!("no timer is armed with this");
}

fn at(when: i64) -> Arm {
    Arm::at(when, 0)
}

/// (armed, replaced, stopped) since `begin`.
fn counts(w: &World) -> (u64, u64, u64) {
    let get = |c| w.block.get(c);
    let first = w.timers.len() as u64;
    (
        get(Counter::Armed) - first,
        get(Counter::Replaced),
        get(Counter::Stopped),
    )
}

fn stamp(w: &World, t: TimerRef) -> u32 {
    let l = t.lock(&w.host);
    let stamp = l.stamp();
    l.put_back();
    stamp
}

/// All armings that change more than the time.
fn other_changes(w: &World, when: i64) -> Vec<Arm> {
    let arg = std::ptr::from_ref(&w.args[1]).cast_mut().cast();
    let (f, g): (Func, Func) = (called, another);
    let sets = [(g, arg, 0), (f, std::ptr::null_mut(), 0), (f, arg, 1)];
    let with = |set| Arm {
        set: Some(set),
        ..at(when)
    };
    let mut arms: Vec<Arm> = sets.into_iter().map(with).collect();
    arms.push(Arm::at(when, 5));
    arms.push(Arm::at(when, -5));
    arms
}

/// The one that only sets what is there.
fn no_other_change(w: &World, when: i64) -> Arm {
    let arg = std::ptr::from_ref(&w.args[1]).cast_mut().cast();
    Arm {
        set: Some((called, arg, 0)),
        ..at(when)
    }
}

#[test]
fn an_arming_in_place() {
    with_world(8, |w| {
        let t = w.t(1);
        let p = w.p();
        assert_eq!(rearm::<World>(t, &at(2000)), None, "it is Waiting");
        assert_eq!(rearm_any::<World>(t, &at(2000)), Some(1));
        assert_eq!((w.when(1), t.state()), (2000, State::Modified));
        assert_eq!(rearm::<World>(t, &at(2100)), Some(1));
        assert_eq!((w.when(1), t.state()), (2100, State::Modified));
        assert_eq!(counts(w), (2, 2, 0));
        for arm in other_changes(w, 2200) {
            assert_eq!(rearm::<World>(t, &arm), None);
            assert_eq!(rearm_any::<World>(t, &arm), None);
        }
        for when in [0, -1, i64::MIN] {
            assert_eq!(rearm::<World>(t, &at(when)), None);
            assert_eq!(rearm_any::<World>(t, &at(when)), None);
        }
        let add = Arm {
            add: true,
            ..at(2300)
        };
        assert_eq!(rearm_any::<World>(t, &add), None, "it is armed");
        assert_eq!((w.when(1), t.state()), (2100, State::Modified));
        assert_eq!(rearm::<World>(t, &no_other_change(w, 2150)), Some(1));
        w.del(1);
        assert_eq!(p.deleted_timers(), 1);
        assert_eq!(rearm::<World>(t, &at(2200)), Some(0));
        assert_eq!(p.deleted_timers(), 0);
        w.del(1);
        assert_eq!(rearm_any::<World>(t, &add), Some(0));
        assert_eq!((p.deleted_timers(), w.when(1)), (0, 2300));
        assert_eq!(counts(w), (5, 3, 2));
        assert_eq!(p.modified_earliest(), NONE);
    });
}

/// The P's wake time gets earlier only by a time before the entry's key, and before what is noted.
#[test]
fn an_arming_to_an_earlier_time() {
    with_world(8, |w| {
        let (p, t, key) = (w.p(), w.t(5), 1222);
        assert_eq!(w.when(5), key);
        assert_eq!(p.wake_time(), 1037);
        w.woken.set(0);
        assert_eq!(rearm_any::<World>(t, &at(2000)), Some(1));
        assert_eq!(rearm::<World>(t, &at(key)), Some(1));
        assert_eq!(p.modified_earliest(), NONE);
        assert_eq!(rearm::<World>(t, &at(key - 1)), None);
        assert_eq!((w.when(5), p.modified_earliest()), (key, NONE));
        assert_eq!(rearm_any::<World>(t, &at(key - 1)), Some(1));
        assert_eq!((w.when(5), p.modified_earliest()), (key - 1, key - 1));
        assert_eq!(w.woken.get(), 0, "others come first");
        assert_eq!(rearm_any::<World>(t, &at(1030)), Some(1));
        assert_eq!((p.modified_earliest(), w.woken.get()), (1030, 1030));
        assert_eq!(rearm::<World>(t, &at(1030)), Some(1));
        assert_eq!(rearm::<World>(t, &at(1100)), Some(1));
        assert_eq!(counts(w), (6, 6, 0));
        w.del(5);
        assert_eq!(rearm_any::<World>(t, &at(1020)), Some(0));
        assert_eq!((p.modified_earliest(), w.woken.get()), (1020, 1020));
        assert_eq!((counts(w), p.deleted_timers()), ((7, 6, 1), 0));
    });
}

/// For a time that is due already in the pass under way: it is for the next one.
#[test]
fn an_arming_in_a_pass() {
    with_world(8, |w| {
        let (p, t, key) = (w.p(), w.t(5), 1222);
        assert_eq!(rearm_any::<World>(t, &at(2000)), Some(1));
        p.lock(w).begin_pass(1300);
        for when in [key, 1250, 1300] {
            assert_eq!(rearm::<World>(t, &at(when)), None);
            assert_eq!(rearm_any::<World>(t, &at(when)), Some(1));
            assert_eq!(stamp(w, t), p.pass_seq());
        }
        assert_eq!(p.modified_earliest(), NONE, "its key is due");
        assert_eq!(rearm_any::<World>(t, &at(1301)), Some(1));
        assert_eq!(stamp(w, t), 0);
        p.lock(w).end_pass();
        assert_eq!(counts(w), (5, 5, 0));
    });
}

#[test]
fn a_stop() {
    with_world(100, |w| {
        let (p, t) = (w.p(), w.t(7));
        w.generation.set(u32::MAX - 1); // of no interest to it
        assert_eq!(stop::<World>(t), Some(true));
        assert_eq!((w.when(7), t.state()), (0, State::Modified));
        assert_eq!((counts(w), p.deleted_timers()), ((0, 0, 1), 1));
        assert_eq!(stop::<World>(t), Some(false));
        assert_eq!((counts(w), p.deleted_timers()), ((0, 0, 1), 1));
        assert_eq!(w.generation.get(), u32::MAX - 1);
        for i in 10..90 {
            assert_eq!(stop::<World>(w.t(i)), Some(true));
            assert!(!p.owes_sweep());
        }
        assert!(p.num_timers() < 80);
        w.apply(&Op::Check(500));
        assert_eq!(stop::<World>(t), None, "it is in no heap");
    });
}

#[test]
fn a_free_in_a_heap() {
    with_world(8, |w| {
        assert_eq!(free::<World>(w.t(0)), Some(true));
        assert_eq!(w.t(0).flags() & FREED, FREED);
        assert_eq!((counts(w), w.generation.get()), ((0, 0, 1), 2));
        w.del(1);
        w.generation.set(u32::MAX - 2);
        assert_eq!(free::<World>(w.t(1)), Some(false));
        assert_eq!(w.t(1).flags() & FREED, FREED);
        assert_eq!((counts(w), w.generation.get()), ((0, 0, 2), u32::MAX - 1));
        assert_eq!(free::<World>(w.t(2)), None, "it would be retired");
        assert_eq!((w.t(2).flags() & FREED, w.when(2)), (0, 1111));
        assert_eq!(free_removed::<World>(w.t(2)), None, "it is in a heap");
        assert_eq!((w.given.get(), w.given_here.get()), (0, 0));
    });
}

#[test]
fn a_free_in_no_heap() {
    with_world(4, |w| {
        w.apply(&Op::Check(500));
        let given = || (w.given.get(), w.given_here.get(), w.generation.get());
        assert_eq!(free_removed::<World>(w.t(0)), Some(false));
        assert_eq!(w.t(0).flags() & FREED, FREED);
        assert_eq!(given(), (0, 1, 2));
        w.t(1).refs.store(2, Ordering::Relaxed);
        assert_eq!(free_removed::<World>(w.t(1)), None, "it runs");
        w.t(1).refs.store(1, Ordering::Relaxed);
        assert_eq!(given(), (0, 1, 2));
        w.generation.set(u32::MAX - 2);
        assert_eq!(free_removed::<World>(w.t(2)), Some(false));
        assert_eq!(given(), (0, 2, u32::MAX - 1));
        assert_eq!(free_removed::<World>(w.t(1)), None, "it would be retired");
        assert_eq!(given(), (0, 2, u32::MAX - 1));
        assert_eq!(free::<World>(w.t(1)), None);
    });
}

/// Which flags each of them leaves to the longer way.
#[test]
fn what_is_uncommon() {
    const ALL: [u32; 7] = [FREED, SHUTDOWN, DETACHED, HAS_DROP, CHAN, SLACK, WATCHED];
    let leaves = |flag: u32, which: u32, removed: bool, call: fn(TimerRef) -> bool| {
        with_world(2, |w| {
            if removed {
                w.apply(&Op::Check(500));
            }
            let t = w.t(1);
            let mut l = t.lock(&w.host);
            let (state, flags) = (l.state, l.flags());
            l.set(flag);
            l.unlock(state);
            let word = t.flags();
            assert_eq!(call(t), which & flag == 0, "{flag:#x}");
            if which & flag != 0 {
                assert_eq!(t.flags(), word);
            }
            let mut l = t.lock(&w.host);
            let state = l.state;
            l.clear(flag);
            assert!(which & flag == 0 || l.flags() == flags);
            l.unlock(state);
        });
    };
    let stops = FREED | SHUTDOWN | DETACHED | CHAN;
    for flag in ALL {
        leaves(flag, !0, false, |t| {
            rearm_any::<World>(t, &at(2000)).is_some()
        });
        leaves(flag, !0, true, |t| insert::<World>(t, &at(2000)).is_some());
        leaves(flag, stops, false, |t| stop::<World>(t).is_some());
        leaves(flag, stops | HAS_DROP, false, |t| {
            free::<World>(t).is_some()
        });
        leaves(flag, stops | HAS_DROP, true, |t| {
            free_removed::<World>(t).is_some()
        });
    }
}

/// (entries, first key that is published)
fn published(w: &World) -> (u32, i64) {
    (w.p().num_timers(), w.p().timer0_when())
}

#[test]
fn an_insertion() {
    with_world(300, |w| {
        let (p, put) = (w.p(), |i, when| insert::<World>(w.t(i), &at(when)));
        assert_eq!(put(0, 2000), None, "it is in a heap");
        w.apply(&Op::Check(500));
        assert_eq!(p.wake_time(), 0);
        for arm in other_changes(w, 2000) {
            assert_eq!(insert::<World>(w.t(1), &arm), None);
        }
        for when in [0, -1, i64::MIN] {
            assert_eq!(put(1, when), None);
        }
        assert_eq!(published(w), (0, 0));
        assert_eq!(insert::<World>(w.t(1), &no_other_change(w, 2000)), Some(0));
        assert_eq!((w.t(1).state(), w.when(1)), (State::Waiting, 2000));
        assert_eq!((published(w), w.woken.get()), ((1, 2000), 2000));
        assert_eq!(put(2, 2100), Some(0));
        assert_eq!((published(w), w.woken.get()), ((2, 2000), 2000));
        assert_eq!(put(3, 1900), Some(0));
        assert_eq!((published(w), w.woken.get()), ((3, 1900), 1900));
        assert_eq!(counts(w).0, 3);
        // A pass under way, to which this time is due.
        p.lock(w).begin_pass(1600);
        assert_eq!(put(4, 1600), None);
        assert_eq!(put(4, 1601), Some(0));
        p.lock(w).end_pass();
        p.lock(w).dead = true;
        assert_eq!(put(5, 2000), None);
        p.lock(w).dead = false;
        // A stale head is for cleantimers.
        w.arm(4, 2500, 0);
        assert_eq!(put(5, 2000), None);
        w.apply(&Op::Clean);
        assert_eq!(put(5, 2000), Some(0));
        // A full heap is for Heap::reserve.
        w.apply(&Op::Trim);
        let mut i = 6;
        while p.lock(w).heap.has_room() {
            w.arm(i, 3000 + i as i64, 0);
            i += 1;
            assert!(i < 298, "it never is");
        }
        assert_eq!(put(i, 4000), None);
        w.arm(i, 4000, 0);
        assert_eq!(put(i + 1, 4001), Some(0));
        // What is dead at its end goes.
        deltimer(w, w.t(i + 1), None).unwrap();
        assert_eq!(put(i + 2, 4002), Some(0));
        assert_eq!(p.num_timers() as usize, i + 1);
    });
}

/// Into the place of a freed timer's entry, if that is where the last one was put.
#[test]
fn an_insertion_in_a_freed_timers_place() {
    with_world(12, |w| {
        let put = |i, when| assert_eq!(insert::<World>(w.t(i), &at(when)), Some(0));
        let free = |i| assert_eq!(free::<World>(w.t(i)), Some(true));
        let replaced = |i| {
            assert_eq!(
                (w.t(i).state(), w.t(i).flags() & FREED),
                (State::Removed, FREED)
            )
        };
        w.apply(&Op::Check(500));
        put(0, 2000);
        free(0);
        put(1, 2100);
        replaced(0);
        assert_eq!((published(w), w.given_here.get()), ((1, 2100), 1));
        assert_eq!(
            (w.t(1).state(), w.p().deleted_timers()),
            (State::Waiting, 0)
        );
        // Not the first one of the heap.
        put(2, 2200);
        free(2);
        put(3, 2300);
        replaced(2);
        assert_eq!((published(w), w.given_here.get()), ((2, 2100), 2));
        // Now it is.
        free(3);
        assert_eq!(w.p().wake_time(), 2100);
        put(4, 2050);
        replaced(3);
        assert_eq!((published(w), w.given_here.get()), ((2, 2050), 3));
        assert_eq!(w.woken.get(), 2050);
        // Not in a scan.
        put(5, 2500);
        free(5);
        w.p().lock(w).begin_scan();
        put(6, 2600);
        assert_eq!(w.t(5).state(), State::Removed);
        assert_eq!(published(w).0, 3);
        assert!(w.p().wake_time() < MAX_WHEN);
        // Nor where another one would move forward.
        put(7, 1900);
        free(7);
        assert_eq!(insert::<World>(w.t(8), &at(4000)), None);
    });
}
