//! Counters: each thread adds to a block of its own with plain stores; who asks sums up.
//! At every quiescent point armed = fired + stopped + replaced + pending (rule S4),
//! where pending is counted independently, from the heaps.

use super::cache::Cache;
#[cfg(not(gt_model))]
use super::writer::{Forking, Writer};
use crate::host::Host;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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
    /// Due timers found that nobody served (built-in runtime).
    Overdue,
    /// Armings that replaced a pending one, on the fast path: one of Armed, one of Replaced.
    Rearmed,
}

pub(crate) const COUNTERS: usize = 12;

/// One thread's counters and free nodes, or with `shared` those of all threads that got no
/// block, and the cache empty.
#[repr(C, align(64))]
pub(crate) struct Block {
    counts: [AtomicU64; COUNTERS],
    pub(crate) cache: Cache,
    /// How late callbacks began; stays empty unless `keep_lateness`.
    pub(crate) lateness: Histogram,
    keep_lateness: bool,
    /// The next block of the sched; under its block lock.
    pub(crate) next: *mut Block,
    /// Token of the thread that owns it; 0: nobody.
    pub(crate) owner: AtomicU64,
    shared: bool,
    /// fork waits for who changes several fields of a timer. (In the models nobody forks, but in
    /// those of the writer itself.)
    #[cfg(not(gt_model))]
    pub(crate) writer: Writer,
}

// SAFETY: the counts are atomic; `next` is set before the block is shared; the cache is its
// thread's, but for its count.
unsafe impl Sync for Block {}
// SAFETY: as above.
unsafe impl Send for Block {}

/// Says to all writers that a fork is being prepared.
#[cfg(not(gt_model))]
pub(crate) static FORKING: Forking = Forking::new();

impl Block {
    pub(crate) fn new(owner: u64, shared: bool, lateness: bool) -> Self {
        Block {
            counts: Default::default(),
            cache: Cache::new(),
            lateness: Histogram::new(),
            keep_lateness: lateness,
            next: std::ptr::null_mut(),
            owner: AtomicU64::new(owner),
            shared,
            #[cfg(not(gt_model))]
            writer: Writer::new(),
        }
    }

    /// Several fields of a timer, which is locked, are about to change: see writer.rs.
    #[inline(always)]
    pub(crate) fn begin_write(&self, host: &Host) {
        #[cfg(not(gt_model))]
        self.writer.begin(&FORKING, host);
        let _ = host;
    }

    /// The fields are whole again.
    #[inline(always)]
    pub(crate) fn end_write(&self) {
        #[cfg(not(gt_model))]
        self.writer.end();
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// One more, in a block that the calling thread owns.
    #[inline(always)]
    pub(crate) fn count_own(&self, what: Counter) {
        debug_assert!(!self.shared);
        bump(&self.counts[what as usize], 1, false);
    }

    #[inline(always)]
    pub(crate) fn add(&self, what: Counter, n: u64) {
        bump(&self.counts[what as usize], n, self.shared);
    }

    pub(crate) fn get(&self, what: Counter) -> u64 {
        let get = |c: Counter| self.counts[c as usize].load(Ordering::Relaxed);
        match what {
            Counter::Armed | Counter::Replaced => get(what).wrapping_add(get(Counter::Rearmed)),
            _ => get(what),
        }
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

#[cfg(all(test, not(gt_model)))]
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

    #[test]
    fn a_block_counts() {
        for shared in [false, true] {
            let b = Block::new(1, shared, true);
            assert_eq!(b.is_shared(), shared);
            b.add(Counter::Armed, 3);
            b.add(Counter::Ticks, 5);
            b.add(Counter::Ticks, 2);
            b.add(Counter::Rearmed, 4);
            let counts = [
                Counter::Armed,
                Counter::Replaced,
                Counter::Ticks,
                Counter::Rearmed,
            ];
            assert_eq!(counts.map(|c| b.get(c)), [7, 4, 7, 4]);
            for delay in [-1, 0, 9, 9] {
                b.note_lateness(delay);
            }
            assert_eq!([0, 8, 9].map(|i| b.lateness.get(i)), [2, 0, 2]);
        }
        let b = Block::new(1, false, false);
        b.count_own(Counter::Fired);
        b.count_own(Counter::Fired);
        b.note_lateness(9);
        assert_eq!((b.get(Counter::Fired), b.lateness.get(9)), (2, 0));
    }

    #[test]
    fn a_writer_is_seen() {
        let host = Host::new(crate::host::Hooks::default());
        let b = Block::new(1, false, false);
        assert!(!b.writer.is_writing());
        b.begin_write(&host);
        assert!(b.writer.is_writing());
        b.end_write();
        assert!(!b.writer.is_writing());
        b.begin_write(&host);
        b.writer.forget();
        assert!(!b.writer.is_writing());
    }
}
