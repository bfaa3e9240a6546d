//! What cleantimers, the scan and the sweep do to an entry, one by one: much of it comes to the
//! same later if it is not done now.

use super::super::adjust::{MOVES, adjusttimers, scan_step};
use super::super::sweep::{STEP, clean_tail, rounds, sweep, trim};
use super::super::timer::{State, TimerRef};
use super::super::{Arm, Counter, cleantimers, deltimer, modtimer};
use super::{Op, World, with_hooks, with_world};
use crate::host::Hooks;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

/// The timers in the heap, by position, and their keys.
fn heap(w: &World) -> Vec<(TimerRef, i64)> {
    let h = w.p().lock(w);
    let entries = (0..h.heap.len()).map(|i| h.heap.get(i));
    entries.map(|e| (e.t, e.when)).collect()
}

/// cleantimers takes dead heads off, moves those with a later time, and ends at the first head
/// that is as it should be.
#[test]
fn clean_repairs_the_head() {
    with_world(8, |w| {
        let t = heap(w);
        w.del(0);
        modtimer(w, t[1].0, None, None, &Arm::at(1390, 0)).unwrap();
        modtimer(w, t[5].0, None, None, &Arm::at(1380, 0)).unwrap();
        w.apply(&Op::Clean);
        assert_eq!(t[0].0.state(), State::Removed);
        assert_eq!(t[1].0.state(), State::Waiting);
        assert_eq!(t[5].0.state(), State::Modified);
        let now = heap(w);
        assert_eq!(now.len(), 7);
        assert_eq!(now[0], t[2]);
        assert!(now.contains(&(t[1].0, 1390)));
    });
}

/// Another thread has a timer locked, until somebody waits for it.
#[derive(Default)]
pub(super) struct Other {
    holds: AtomicBool,
    go: AtomicBool,
}

impl Other {
    pub(super) fn hooks(&self) -> Hooks {
        Hooks {
            ctx: std::ptr::from_ref(self).cast_mut().cast(),
            acquirem: Some(is_wanted),
            ..Hooks::default()
        }
    }

    pub(super) fn holds_while(&self, w: &World, i: usize, look: impl FnOnce()) {
        self.holds.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let t = w.t(i);
                let l = t.lock(&w.host);
                self.go.store(false, Ordering::SeqCst); // it was we who wanted it
                self.holds.store(true, Ordering::SeqCst);
                while !self.go.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                l.put_back();
            });
            while !self.holds.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            look();
            self.go.store(true, Ordering::SeqCst);
        });
    }
}

unsafe extern "C" fn is_wanted(ctx: *mut c_void) {
    // SAFETY: an Other, which outlives the World.
    let other = unsafe { &*ctx.cast::<Other>() };
    other.go.store(true, Ordering::SeqCst);
}

/// Who has it locked leaves it as it was, so that there is nothing to repair.
#[test]
fn a_locked_timer_may_be_as_it_should_be() {
    for scan in [false, true] {
        let other = Other::default();
        with_hooks(8, other.hooks(), |w| {
            let before = heap(w);
            other.holds_while(w, 0, || {
                let h = &mut w.p().lock(w);
                if scan {
                    h.begin_scan();
                    assert!(scan_step(h, 1));
                } else {
                    cleantimers(h);
                }
            });
            assert_eq!(heap(w), before);
            assert_eq!(w.t(0).state(), State::Waiting);
        });
    }
}

/// Two scans at once would each begin anew.
#[test]
fn a_scan_waits_for_the_end_of_another() {
    with_world(10, |w| {
        let p = w.p();
        let mut h = p.lock(w);
        h.lock_scans();
        h.begin_scan();
        drop(h);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                adjusttimers(&mut p.lock(w), 1000, true);
                done.store(true, Ordering::SeqCst);
            });
            let waits = || p.scanners() > 0;
            while !waits() && !done.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            assert!(waits());
            let mut h = p.lock(w);
            assert_eq!(h.scan, Some(0));
            while scan_step(&mut h, 1) {}
            h.unlock_scans(true);
        });
        assert_eq!((w.block.get(Counter::Scans), p.scanners()), (1, 0));
    });
}

/// A sweep in a scan moves a few entries out of its way, for all that it takes off in one hold
/// together, though it looks at more.
#[test]
fn a_sweep_moves_few_entries_in_one_hold() {
    const N: usize = 300;
    with_world(N, |w| {
        w.apply(&Op::Scan(N - 50));
        let timers = heap(w);
        for (t, _) in &timers[1..=DEAD] {
            deltimer(w, *t, None).unwrap();
        }
        let earlier = &timers[N - 100..];
        for (t, key) in earlier {
            modtimer(w, *t, None, None, &Arm::at(key - 1, 0)).unwrap();
        }
        let moved = || {
            earlier
                .iter()
                .filter(|(t, _)| t.state() == State::Waiting)
                .count()
        };
        let mut h = w.p().lock(w);
        h.cursor = DEAD + 1;
        let swept = sweep(&mut h);
        assert!(swept > 0);
        assert_eq!(w.block.get(Counter::Sweeps), swept as u64);
        assert!(moved() <= MOVES + 1, "{} at once", moved());
        // The rest, in the next holds.
        for _ in 0..rounds(N) {
            sweep(&mut h);
        }
        drop(h);
        assert!(
            timers[1..=DEAD]
                .iter()
                .all(|(t, _)| t.state() == State::Removed)
        );
    });
}

/// So many as the books allow, and none of them is the last of the heap: no sweep comes first.
const DEAD: usize = 80;

#[test]
fn trim_takes_all_that_is_dead() {
    with_world(300, |w| {
        let timers = heap(w);
        for (t, _) in &timers[1..=DEAD] {
            deltimer(w, *t, None).unwrap();
        }
        assert_eq!(heap(w).len(), 300);
        assert_eq!(trim(w, w.p()), DEAD);
        assert_eq!(heap(w).len(), 300 - DEAD);
        assert_eq!(w.block.get(Counter::Sweeps), DEAD as u64);
        assert_eq!(trim(w, w.p()), 0);
    });
}

/// Each entry is looked at, moved, taken off, and what comes into its place looked at; and a
/// whole sweep more, for where it begins.
#[test]
fn there_are_rounds_enough() {
    for n in [0, 1, 63, 64, 65, 1000, 1_000_000] {
        let looks = rounds(n) * STEP;
        assert!((4 * n + STEP..=4 * n + 2 * STEP).contains(&looks));
    }
}

#[test]
fn an_insertion_cleans_a_few_entries_at_the_end() {
    with_world(20, |w| {
        let timers = heap(w);
        let len = |w| heap(w).len();
        for i in [12, 14, 15, 16, 17, 18, 19] {
            deltimer(w, timers[i].0, None).unwrap();
        }
        clean_tail(&mut w.p().lock(w));
        assert_eq!(len(w), 16);
        clean_tail(&mut w.p().lock(w));
        assert_eq!(len(w), 14, "the next one is alive");
        w.apply(&Op::Check(500));
        assert_eq!(len(w), 0);
        clean_tail(&mut w.p().lock(w));
    });
}
