//! What timers.rs lets others read of a P: its wake time, the dead entries, the pass under way.

use super::super::sweep::CONST;
use super::super::timer::MAX_WHEN;
use super::super::timers::NONE;
use super::super::{Arm, move_timers};
use super::{Op, World, with_world};

/// A quarter of the entries may be dead, and a few.
#[test]
fn the_bound_of_dead_entries() {
    with_world(100, |w| {
        let p = w.p();
        let bound = 100 / 4 + CONST;
        for n in 0..=bound {
            assert_eq!(p.deleted_timers(), n);
            assert!(!p.owes_sweep() && !p.owes_sweep_still(), "{n}");
            p.add_deleted();
        }
        assert!(p.owes_sweep() && p.owes_sweep_still());
        (0..=bound).for_each(|_| p.sub_deleted());
    });
}

/// Who has two Ps locked takes neither lock again to sweep: that would be the wrong order. (Debug
/// builds see it.) It is done when he has let both go.
#[test]
fn a_move_sweeps_when_it_has_no_lock() {
    const N: usize = 600;
    with_world(N, |w| {
        let p = w.p();
        p.fork_lock();
        (0..N * 3 / 4).for_each(|i| w.del(i));
        p.fork_unlock();
        assert!(p.owes_sweep());
        move_timers(w, &w.ps[1], p).unwrap();
        assert!(!p.owes_sweep() && !w.ps[1].owes_sweep());
        w.apply(&Op::Adopt);
    });
}

/// Read at the wrong moment, an entry is seen taken off that was not yet seen dead.
#[test]
fn the_count_of_dead_entries_does_not_wrap() {
    with_world(4, |w| {
        let p = w.p();
        p.note_taken_off();
        assert_eq!(p.deleted_timers(), 0);
        p.add_deleted();
        assert_eq!(p.deleted_timers(), 0);
    });
}

/// In a fork child it is made right, whatever a lost thread had counted or not yet.
#[test]
fn the_count_of_dead_entries_can_be_set() {
    with_world(4, |w| {
        let p = w.p();
        w.del(2);
        (0..3).for_each(|_| p.add_deleted());
        p.note_taken_off();
        p.set_deleted(1);
        assert_eq!(p.deleted_timers(), 1);
        w.apply(&Op::Trim);
        assert_eq!(p.deleted_timers(), 0);
    });
}

/// The time for which somebody is woken when the wake time gets as early as this; 0: nobody is.
fn woken(w: &World, when: i64) -> i64 {
    w.woken.set(0);
    w.p().note_lowered(w, when);
    w.woken.get()
}

/// Only who could have been told a later time is woken.
#[test]
fn who_is_woken() {
    with_world(4, |w| {
        let p = w.p();
        assert_eq!(p.wake_time(), 1037);
        assert_eq!(woken(w, 1037), 0);
        assert_eq!(woken(w, 1036), 1036);
        assert_eq!(woken(w, 1036), 0, "nobody has asked since");
        assert_eq!(woken(w, 1037), 0);
        assert_eq!(p.wake_time(), 1037);
        assert_eq!(woken(w, 1036), 1036);
        // As if the first had just been armed.
        w.woken.set(0);
        assert_eq!(p.wake_time(), 1037);
        p.note_lowered_to_first(w);
        assert_eq!(w.woken.get(), 0);
        assert_eq!(woken(w, 1100), 0);
        w.arm(0, 1200, 0);
        w.apply(&Op::Clean);
        assert_eq!(p.wake_time(), 1074);
        assert_eq!(woken(w, 1050), 1050);
        p.note_lowered_to_first(w);
        assert_eq!(w.woken.get(), 1050);
        assert_eq!(p.wake_time(), 1074);
    });
}

/// A P with no timers may be passed over unseen: whoever does that was told "never".
#[test]
fn an_empty_p_is_in_no_mask() {
    with_world(4, |w| {
        let p = w.p();
        assert_eq!(w.mask.get(), 1);
        w.apply(&Op::Check(500));
        assert_eq!((w.mask.get(), p.wake_time()), (0, 0));
        p.note_lowered_to_first(w);
        assert_eq!(woken(w, MAX_WHEN - 1), MAX_WHEN - 1);
        for when in [5000, 6000] {
            w.woken.set(0);
            w.arm(1, when, 0);
            assert_eq!(
                (w.mask.get(), w.woken.get(), p.wake_time()),
                (1, when, when)
            );
            // In a pass it may well be filled again at once.
            p.lock(w).begin_pass(4000);
            w.del(1);
            w.apply(&Op::Trim);
            assert_eq!((w.mask.get(), p.wake_time(), p.num_timers()), (1, 0, 0));
            p.lock(w).end_pass();
            assert_eq!(w.mask.get(), 0);
        }
    });
}

/// A time that is noted when the last entry goes is nobody's.
#[test]
fn an_empty_p_has_no_wake_time() {
    with_world(2, |w| {
        w.arm(1, 1020, 0);
        assert_eq!((w.p().wake_time(), w.p().modified_earliest()), (1020, 1020));
        w.del(0);
        w.del(1);
        w.apply(&Op::Trim);
        assert_eq!((w.p().wake_time(), w.p().modified_earliest()), (0, NONE));
    });
}

/// The earliest time of a timer whose key is later.
#[test]
fn a_noted_time() {
    with_world(4, |w| {
        let p = w.p();
        assert_eq!(p.modified_earliest(), NONE);
        for (when, noted) in [(1500, true), (1500, false), (1501, false), (1499, true)] {
            assert_eq!(p.is_earliest(when), noted);
            assert_eq!(p.update_timer_modified_earliest(when), noted);
        }
        assert_eq!((p.modified_earliest(), p.wake_time()), (1499, 1037));
        let scan = |first| {
            let mut h = p.lock(w);
            h.begin_scan();
            // Nobody who asks in between misses it.
            assert_eq!((p.modified_earliest(), p.timer0_when()), (NONE, first));
            assert_eq!(p.wake_time(), first);
            drop(h);
            assert_eq!((p.timer0_when(), p.wake_time()), (first, first));
            let mut h = p.lock(w);
            h.end_scan();
            drop(h);
            assert_eq!((p.timer0_when(), p.wake_time()), (1037, 1037));
        };
        scan(1037);
        assert!(p.update_timer_modified_earliest(1020));
        assert_eq!((p.timer0_when(), p.wake_time()), (1037, 1020));
        scan(1020);
        scan(1037);
    });
}

/// An arming for the time that is the entry's key already wants no scan.
#[test]
fn only_an_earlier_time_is_noted() {
    with_world(4, |w| {
        let p = w.p();
        assert_eq!((w.when(2), p.modified_earliest()), (1111, NONE));
        for when in [1500, 1111] {
            w.arm(2, when, 0);
            assert_eq!(p.modified_earliest(), NONE);
        }
        w.arm(2, 1110, 0);
        assert_eq!(p.modified_earliest(), 1110);
    });
}

/// What is due is judged against the latest of the passes under way, if there is one.
#[test]
fn an_arming_is_stamped_in_a_pass_only() {
    with_world(4, |w| {
        let p = w.p();
        let begin = |now| p.lock(w).begin_pass(now);
        let end = || p.lock(w).end_pass();
        assert_eq!(p.stamp_for(1), 0);
        begin(1010);
        let first = p.pass_seq();
        assert_eq!((p.stamp_for(1010), p.stamp_for(1011)), (first, 0));
        begin(1005);
        let second = p.pass_seq();
        assert_ne!(first, second);
        assert_eq!((p.stamp_for(1010), p.stamp_for(1011)), (second, 0));
        begin(1020);
        assert_eq!((p.stamp_for(1020), p.stamp_for(1021)), (p.pass_seq(), 0));
        end();
        end();
        assert_eq!((p.stamp_for(1020), p.stamp_for(1021)), (p.pass_seq(), 0));
        end();
        assert_eq!(p.stamp_for(1), 0);
        begin(1010);
        assert_eq!((p.stamp_for(1010), p.stamp_for(1011)), (p.pass_seq(), 0));
        end();
    });
}

/// 0 stands for "none", and no other pass of the last 65534 has the same number.
#[test]
fn the_numbers_of_passes() {
    with_world(1, |w| {
        let mut h = w.p().lock(w);
        let first = w.p().pass_seq();
        let mut last = first;
        for _ in 0..0xfffe {
            h.next_pass();
            let seq = w.p().pass_seq();
            assert_eq!(seq, if last == 0xffff { 1 } else { last + 1 });
            assert_ne!(seq, first);
            last = seq;
        }
        h.next_pass();
        assert_eq!(w.p().pass_seq(), first);
    });
}

/// A stop in a pass takes off no entry that is for the next one, and the pass's end lets all in.
#[test]
fn what_is_for_the_next_pass_comes_in_then() {
    const N: usize = 300;
    with_world(N, |w| {
        w.apply(&Op::Check(500));
        let p = w.p();
        p.lock(w).begin_pass(1500);
        for i in 0..N {
            w.arm(i, 1400, 0);
        }
        let count = || {
            let h = p.lock(w);
            (h.heap.len(), h.heap.deferred())
        };
        assert_eq!(count(), (0, N));
        p.lock(w).end_pass();
        assert_eq!(count(), (N, 0));
    });
}

/// The same arming by another way.
#[test]
fn an_insertion_in_a_pass() {
    with_world(2, |w| {
        w.apply(&Op::Check(500));
        w.p().lock(w).begin_pass(1500);
        for (i, when) in [(0, 1500), (1, 1501)] {
            super::super::modtimer(w, w.t(i), None, None, &Arm::at(when, 0)).unwrap();
        }
        let h = w.p().lock(w);
        assert_eq!((h.heap.len(), h.heap.deferred()), (1, 1));
        drop(h);
        w.p().lock(w).end_pass();
    });
}
