//! Counters: each thread adds to a block of its own with plain stores; who asks sums up.
//! At every quiescent point armed = fired + stopped + replaced + pending (rule S4),
//! where pending is counted independently, from the heaps.

use super::Undo;
use super::timer::TimerRef;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, compiler_fence};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    /// Armings that succeeded.
    Armed,
    /// One-shots taken for a call.
    Fired,
    /// Firings of periodic timers.
    Ticks,
    /// Armings ended by a stop, a shutdown or a free that returned 1.
    Stopped,
    /// Armings ended by a modtimer that returned 1.
    Replaced,
    /// Timers run by gt_check_others.
    Steals,
    /// Calls of the wake hook.
    Wakes,
    /// Scans of a whole heap by adjusttimers.
    Scans,
    /// Dead entries taken off by sweeps.
    Sweeps,
    /// Calls with a negative delay; 0 unless this library is broken.
    Early,
}

pub(crate) const COUNTERS: usize = 10;

/// One thread's counters, or with `shared` those of all threads that got no block.
#[repr(align(64))]
pub(crate) struct Block {
    counts: [AtomicU64; COUNTERS],
    /// How late callbacks began; stays empty unless `keep_lateness`.
    pub(crate) lateness: Histogram,
    keep_lateness: bool,
    /// The next block of the sched; under its block lock.
    pub(crate) next: *mut Block,
    /// Token of the thread that owns it; 0: nobody.
    pub(crate) owner: AtomicU64,
    shared: bool,
    /// The timer whose fields are being written, and what they were: for a fork child
    /// that loses this thread in the middle. Only the owner writes, under the timer's lock.
    undo_timer: AtomicPtr<super::Timer>,
    undo: UnsafeCell<Undo>,
}

// SAFETY: `undo` is written by the owning thread alone and read after a fork, when that
// thread is gone. Shared blocks keep none.
unsafe impl Sync for Block {}
// SAFETY: as above.
unsafe impl Send for Block {}

impl Block {
    pub(crate) fn new(owner: u64, shared: bool, lateness: bool) -> Self {
        Block {
            counts: Default::default(),
            lateness: Histogram::new(),
            keep_lateness: lateness,
            next: std::ptr::null_mut(),
            owner: AtomicU64::new(owner),
            shared,
            undo_timer: AtomicPtr::new(std::ptr::null_mut()),
            undo: UnsafeCell::new(Undo {
                period: 0,
                f: None,
                arg: std::ptr::null_mut(),
                seq: 0,
            }),
        }
    }

    /// modtimer is about to overwrite these fields. Compiler fences: the order in memory
    /// as one thread sees it is the order in which a fork freezes it.
    #[inline(always)]
    pub(crate) fn begin_undo(&self, t: TimerRef, was: &Undo) {
        if !self.shared {
            // SAFETY: this thread's block; see above.
            unsafe { *self.undo.get() = *was };
            compiler_fence(Ordering::SeqCst);
            self.undo_timer.store(t.as_ptr(), Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
        }
    }

    /// The fields are whole again.
    #[inline(always)]
    pub(crate) fn end_undo(&self) {
        compiler_fence(Ordering::SeqCst);
        self.undo_timer
            .store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// In a fork child: what a lost thread left half written.
    pub(crate) fn take_undo(&self) -> Option<(*mut super::Timer, Undo)> {
        let t = self
            .undo_timer
            .swap(std::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: the owner is gone, see above.
        (!t.is_null()).then(|| (t, unsafe { *self.undo.get() }))
    }

    #[inline(always)]
    pub(crate) fn add(&self, what: Counter, n: u64) {
        bump(&self.counts[what as usize], n, self.shared);
    }

    pub(crate) fn get(&self, what: Counter) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn note_lateness(&self, delay: i64) {
        if self.keep_lateness {
            self.lateness.add(delay, self.shared);
        }
    }
}

#[inline(always)]
fn bump(c: &AtomicU64, n: u64, shared: bool) {
    // Relaxed throughout: a count is not a message. A block of one thread needs no
    // read-modify-write; readers see each value whole.
    if shared {
        c.fetch_add(n, Ordering::Relaxed);
    } else {
        c.store(c.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// Eight buckets for each power of two: 12 % wide, from 0 to i64::MAX.
pub(crate) struct Histogram {
    buckets: [AtomicU32; Histogram::BUCKETS],
}

impl Histogram {
    pub(crate) const BUCKETS: usize = 61 * 8;

    fn new() -> Self {
        Histogram {
            buckets: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    fn add(&self, delay: i64, shared: bool) {
        let b = &self.buckets[Self::bucket(delay.max(0) as u64)];
        if shared {
            b.fetch_add(1, Ordering::Relaxed);
        } else {
            b.store(b.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, bucket: usize) -> u64 {
        self.buckets[bucket].load(Ordering::Relaxed) as u64
    }

    /// The bucket of a delay.
    pub(crate) fn bucket(ns: u64) -> usize {
        if ns < 8 {
            return ns as usize;
        }
        let e = 63 - ns.leading_zeros() as usize;
        (e - 2) * 8 + (ns >> (e - 3) & 7) as usize
    }

    /// The smallest delay that falls into a bucket.
    pub(crate) fn bound(bucket: usize) -> i64 {
        if bucket < 8 {
            return bucket as i64;
        }
        let e = bucket / 8 + 2;
        (8 + (bucket % 8) as i64) << (e - 3)
    }
}

#[cfg(all(test, not(gt_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_bound_opens_its_bucket() {
        for b in 0..Histogram::BUCKETS {
            let lo = Histogram::bound(b) as u64;
            assert_eq!(Histogram::bucket(lo), b);
            if lo > 0 {
                assert_eq!(Histogram::bucket(lo - 1), b - 1);
            }
        }
        assert_eq!(Histogram::bucket(i64::MAX as u64), Histogram::BUCKETS - 1);
    }
}
