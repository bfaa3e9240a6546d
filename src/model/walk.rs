//! Who walks over the Ps (src/procs/live.rs): he sees whom he finds as it was when it was shown, and
//! leaves out nobody who was there all along.

use super::{explore, side_by_side};
use crate::procs::live::{Live, Mask, WORD};
use crate::sync::{AtomicI64, Ordering};
use loom::cell::UnsafeCell;
use std::sync::Arc;

/// The orphan set, two Ps, and one of the next word, as far as they are made.
const PS: [usize; 4] = [0, 1, 2, WORD];

struct World {
    live: Live,
    mask: Mask,
    /// Of each of PS: written before it can be found, read by who has found it.
    slots: [UnsafeCell<()>; PS.len()],
    /// The same for the P that is in it.
    ps: [UnsafeCell<()>; PS.len()],
    wake_time: AtomicI64,
}

// SAFETY: the cells are there to be checked for races; all else is Sync.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    fn at(&self, index: u32) -> usize {
        PS.iter().position(|&p| p == index as usize).unwrap()
    }

    /// As Registry::slot, for the n-th of PS, which is the last one.
    fn make_slot(&self, n: usize) {
        self.slots[n].with_mut(|_| ());
        while self.live.slots() <= PS[n] as u32 {
            self.live.add_slot();
        }
    }

    /// And as gt_p_new on it.
    fn make(&self, n: usize) {
        self.ps[n].with_mut(|_| ());
        self.live.set(PS[n] as u32, true);
    }

    /// Walks over those that live: which they are.
    fn walk(&self) -> Vec<usize> {
        let visited = self.live.each().map(|index| self.at(index));
        visited.inspect(|&n| self.ps[n].with(|_| ())).collect()
    }
}

/// The threads' parts in all interleavings. So many of PS are made before.
fn model<const N: usize>(made: usize, threads: [fn(&World); N], end: fn(&World)) {
    explore(N, 3, false, move || {
        let w = Arc::new(World {
            live: Live::new(),
            mask: Mask::new(),
            slots: std::array::from_fn(|_| UnsafeCell::new(())),
            ps: std::array::from_fn(|_| UnsafeCell::new(())),
            wake_time: AtomicI64::new(0),
        });
        w.make_slot(0);
        for n in 1..made {
            w.make_slot(n);
            w.make(n);
        }
        if made > 2 {
            // The others of the word have ended.
            (w.live.slots()..WORD as u32).for_each(|_| w.live.add_slot());
        }
        side_by_side(&w, threads);
        end(&w);
    });
}

#[test]
fn model_walk_against_a_new_p() {
    model(
        1,
        [
            |w| {
                w.make_slot(1);
                w.make(1);
            },
            |w| drop(w.walk()),
        ],
        |w| assert_eq!(w.walk(), [0, 1]),
    );
}

/// In the next word.
#[test]
fn model_walk_against_a_new_p_of_another_word() {
    model(
        3,
        [
            |w| {
                w.make_slot(3);
                w.make(3);
            },
            |w| assert_eq!(w.walk()[..3], [0, 1, 2]),
        ],
        |w| assert_eq!(w.walk(), [0, 1, 2, 3]),
    );
}

/// A P ends, and another one is there all along. Those who choose one find it, too.
#[test]
fn model_walk_against_one_that_ends() {
    model(
        3,
        [
            |w| w.live.set(1, false),
            |w| assert!(w.walk().contains(&2)),
            |w| assert_ne!(w.live.choose(), 0),
        ],
        |w| {
            assert_eq!(w.walk(), [0, 2]);
            assert_eq!((w.live.choose(), w.live.choose()), (2, 2));
        },
    );
}

/// All slots, of the dead ones too.
#[test]
fn model_all_slots_against_a_new_one() {
    model(
        1,
        [
            |w| w.make_slot(1),
            |w| {
                for index in 0..w.live.slots() {
                    w.slots[w.at(index)].with(|_| ());
                }
            },
        ],
        |w| assert_eq!(w.live.slots(), 2),
    );
}

/// One P gets timers, and another one of the same word; who sees the first one's bit sees its wake
/// time.
#[test]
fn model_mask_of_two_that_get_timers() {
    model(
        3,
        [
            |w| {
                w.wake_time.store(100, Ordering::Relaxed);
                w.mask.set(1, true);
            },
            |w| w.mask.set(2, true),
            |w| {
                if w.mask.has(1) {
                    assert_eq!(w.wake_time.load(Ordering::Relaxed), 100);
                }
            },
        ],
        |w| assert!(w.mask.has(1) && w.mask.has(2), "one is hidden"),
    );
}

/// The one has none any more.
#[test]
fn model_mask_of_one_that_is_emptied() {
    model(
        3,
        [
            |w| w.mask.set(1, true),
            |w| {
                w.mask.set(2, true);
                w.mask.set(2, false);
            },
        ],
        |w| assert!(w.mask.has(1) && !w.mask.has(2), "one is hidden"),
    );
}
