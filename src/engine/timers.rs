//! The timers of one P: the heap and what may be read of it without its lock.
//! Corresponds to the timer fields of `p` in the seeds, and `timers` of Go 1.27;
//! `updateTimer0When`, `updateTimerModifiedEarliest`, `nobarrierWakeTime`.
//!
//! # The wake protocol
//!
//! Somebody asks for a P's wake time and sleeps until then; somebody else arms an
//! earlier timer and must wake him. Comparing the new time with `timer0_when` is not
//! enough: what the sleeper was told is the older of two values read one after the
//! other. So each P records in `told` the latest time that anyone could have been told:
//!
//! 1. `wake_time` reads `timer_modified_earliest`, then `timer0_when`, and takes the
//!    earlier. If that is later than `told` it raises `told` and looks again.
//! 2. Whoever lowers one of the two does so first, and then lowers `told` to his time
//!    with `note_lowered`; if it stood above, he calls the wake hook.
//!
//! Both are read-modify-writes of `told`, so one comes first: either the asker's second
//! look sees the earlier time, or the other one sees what the asker was told and wakes.
//! A P that becomes empty leaves the timerp_mask, and may then be passed over without
//! asking: that counts as having been told "never".
//!
//! `timer_modified_earliest` is read first: adjusttimers folds it into `timer0_when`
//! before it clears it, so one of the two always stands for a modified timer.

mod held;

pub(crate) use held::Held;

use super::heap::Heap;
use super::run::Run;
use super::timer::{LOCK, MAX_WHEN, SCAN};
use super::{Procs, sweep};
use crate::host::Host;
use crate::sync::{AtomicI64, AtomicU32, AtomicU64, Guarded, Ordering, RawLock, rank, sc_fence};
use std::ffi::c_void;
use std::ops::Deref;

/// Keeps what follows on cache lines of its own.
#[repr(align(64))]
pub(crate) struct Line<T>(T);

impl<T> Deref for Line<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The timers of a P.
pub(crate) struct Timers {
    lock: RawLock,
    /// Guarded by `lock`.
    inner: Guarded<Inner>,
    published: Line<Published>,
    rearm: Line<Rearm>,
    /// Held by who scans, while `lock` is let go. Taken before that.
    scans: RawLock,
    /// So many wait for that.
    scanners: AtomicU32,
    /// Whom the P belongs to, for Procs::of. Never changes.
    pub(crate) owner: *const c_void,
    /// The P's index. Never changes.
    pub(crate) index: u32,
}

/// What the lock guards.
pub(crate) struct Inner {
    pub(crate) heap: Heap,
    /// The P was freed: choose another one.
    pub(crate) dead: bool,
    /// Where the next sweep goes on; it goes down from here.
    pub(crate) cursor: usize,
    /// A scan of adjusttimers is under way: the position that it looks at next.
    pub(crate) scan: Option<usize>,
    /// So many entries more it moves to a later place, or takes off.
    pub(super) repairs: usize,
    /// What `timer_modified_earliest` was before the scan under way, or the earliest time
    /// that the last one has left where it was, for the next pass; NONE: nothing.
    pub(crate) folded: i64,
    /// What the scan under way leaves.
    pub(super) left: i64,
    /// Callbacks that were taken from this P and have not ended.
    pub(crate) runs: *mut Run,
    /// Passes under way.
    pub(crate) passes: u32,
}

/// One change in `Published::deleted_timers`.
const CHANGE: u64 = 1 << 32;

/// Written under the lock unless said otherwise; read by anybody.
struct Published {
    /// Key of the first entry, 0 when there is none. adjusttimers may lower it early.
    timer0_when: AtomicI64,
    /// See "The wake protocol". Raised and lowered without any lock.
    told: AtomicI64,
    /// Entries, dead ones included; changes at unlock only, so it never dips.
    num_timers: AtomicU32,
    /// Dead entries: Modified with `when` 0, and those that were taken off. Changed under the
    /// timer's lock. The upper half counts the changes, for verify_timer_heap.
    deleted_timers: AtomicU64,
    /// Dead entries taken off. Changed under both locks.
    taken_off: AtomicU32,
    /// What the timerp_mask says. Under the lock only.
    in_mask: AtomicU32,
}

/// All that a re-arm reads of a P and its sched; seldom written, so that all threads have it
/// in their caches.
struct Rearm {
    /// The sched's uid, while its short paths are open; else a number that no sched has.
    quick: AtomicU64,
    /// Not later than any `when` below its key of a Modified timer; NONE: there is none.
    /// Lowered by modtimer under the timer's lock only; cleared under the P's lock.
    timer_modified_earliest: AtomicI64,
    /// `now` of the pass under way; NO_PASS when there is none. Read without the lock: a
    /// stale reading means that the arming came before the pass, or after it.
    pass_now: AtomicI64,
    /// Its number, 1..=0xffff.
    pass_seq: AtomicU32,
}

/// Later than any time: so "is it earlier" needs no second question.
pub(super) const NONE: i64 = i64::MAX;
/// Earlier than any time. And whatever is no time is not later than this, so the short path asks
/// one question for both.
const NO_PASS: i64 = 0;

// SAFETY: `inner` is guarded by `lock`; the runs in it are linked and unlinked under it; the
// owner is Sync.
unsafe impl Sync for Timers {}
// SAFETY: as above.
unsafe impl Send for Timers {}

impl Timers {
    pub(crate) fn new(owner: *const c_void, index: u32) -> Self {
        Timers {
            lock: RawLock::new(rank::TIMERS),
            inner: Guarded::new(Inner {
                heap: Heap::new(),
                dead: true,
                cursor: 0,
                scan: None,
                repairs: 0,
                folded: NONE,
                left: NONE,
                runs: std::ptr::null_mut(),
                passes: 0,
            }),
            published: Line(Published {
                timer0_when: AtomicI64::new(0),
                told: AtomicI64::new(MAX_WHEN),
                num_timers: AtomicU32::new(0),
                deleted_timers: AtomicU64::new(0),
                taken_off: AtomicU32::new(0),
                in_mask: AtomicU32::new(0),
            }),
            rearm: Line(Rearm {
                quick: AtomicU64::new(u64::MAX),
                timer_modified_earliest: AtomicI64::new(NONE),
                pass_now: AtomicI64::new(NO_PASS),
                pass_seq: AtomicU32::new(1),
            }),
            scans: RawLock::new(rank::SCANS),
            scanners: AtomicU32::new(0),
            owner,
            index,
        }
    }

    /// See Sched::quick.
    #[inline(always)]
    pub(crate) fn quick(&self) -> u64 {
        // Relaxed: it changes in a fork child only, which has one thread, and before the P is
        // known.
        self.rearm.quick.load(Ordering::Relaxed)
    }

    pub(crate) fn set_quick(&self, uid: u64) {
        self.rearm.quick.store(uid, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn lock<'a, S: Procs>(&'a self, s: &'a S) -> Held<'a, S> {
        self.lock.lock();
        Held {
            s,
            tm: self,
            rank: rank::TIMERS,
            alone: true,
        }
    }

    /// The second P's lock, of adopt: the caller holds one with a lower address.
    pub(crate) fn lock_second<'a, S: Procs>(&'a self, s: &'a S) -> Held<'a, S> {
        self.lock.lock_as(rank::TIMERS2);
        Held {
            s,
            tm: self,
            rank: rank::TIMERS2,
            alone: false,
        }
    }

    #[inline]
    pub(crate) fn try_lock<'a, S: Procs>(&'a self, s: &'a S) -> Option<Held<'a, S>> {
        self.lock.try_lock().then(|| Held {
            s,
            tm: self,
            rank: rank::TIMERS,
            alone: true,
        })
    }

    /// For fork only: takes the locks with no guard.
    pub(crate) fn fork_lock(&self) {
        self.scans.lock();
        self.lock.lock();
        // Fork takes those of all Ps.
        rank::leave(rank::SCANS);
        rank::leave(rank::TIMERS);
    }

    /// Waits until whoever has the lock lets it go.
    pub(crate) fn pass_by(&self) {
        self.lock.lock();
        self.lock.unlock();
    }

    /// For fork only.
    pub(crate) fn fork_unlock(&self) {
        self.lock.unlock();
        self.scans.unlock();
    }

    /// So many wait for the end of another's scan.
    #[cfg(test)]
    pub(crate) fn scanners(&self) -> u32 {
        self.scanners.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn num_timers(&self) -> u32 {
        self.published.num_timers.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn deleted_timers(&self) -> u32 {
        self.without_taken_off(self.deleted_and_changes())
    }

    /// `without_taken_off` makes a count of it: those taken off are counted too; and above them how often the count has changed.
    #[inline(always)]
    pub(crate) fn deleted_and_changes(&self) -> u64 {
        self.published.deleted_timers.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn without_taken_off(&self, deleted: u64) -> u32 {
        // Relaxed: read a moment too early, it makes the count too high; it wraps.
        let left = (deleted as u32).wrapping_sub(self.published.taken_off.load(Ordering::Relaxed));
        if left as i32 > 0 { left } else { 0 }
    }

    /// A dead entry is being taken off; under both locks.
    #[inline(always)]
    pub(crate) fn note_taken_off(&self) {
        let n = &self.published.taken_off;
        n.store(n.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// One dead entry more; under its timer's lock.
    ///
    /// SeqCst, as are the try_lock of sweep_over_bound, the unlock of a P and the look that
    /// follows it: who stops one timer too many gets the P's lock, or who has it sees the count.
    #[inline(always)]
    pub(crate) fn add_deleted(&self) {
        let order = Ordering::SeqCst;
        self.published.deleted_timers.fetch_add(CHANGE + 1, order);
        sc_fence(order, Ordering::SeqCst);
    }

    /// One dead entry less: it is armed again; under its timer's lock.
    #[inline(always)]
    pub(crate) fn sub_deleted(&self) {
        self.published
            .deleted_timers
            .fetch_add(CHANGE - 1, Ordering::Relaxed);
    }

    /// After a fork: sets the count that interrupted operations may have left wrong.
    pub(crate) fn set_deleted(&self, n: u32) {
        self.published.taken_off.store(0, Ordering::Relaxed);
        self.published
            .deleted_timers
            .store(n as u64, Ordering::Relaxed);
    }

    /// More dead entries than the bound of design allows: who stops one sweeps some.
    #[inline(always)]
    pub(crate) fn owes_sweep(&self) -> bool {
        let (dead, all) = (self.deleted_timers(), self.num_timers());
        dead > all / 4 + sweep::CONST
    }

    /// The same for one who has just unlocked the P: see add_deleted.
    #[inline(always)]
    pub(crate) fn owes_sweep_still(&self) -> bool {
        let order = Ordering::SeqCst;
        sc_fence(Ordering::SeqCst, order);
        let dead = self.without_taken_off(self.published.deleted_timers.load(order));
        dead > self.num_timers() / 4 + sweep::CONST
    }

    /// `now` and number of the pass under way, for an arming at `when`: its stamp if the
    /// arming belongs to a later pass (S10), else 0.
    #[inline(always)]
    pub(crate) fn stamp_for(&self, when: i64) -> u32 {
        if self.is_for_later_pass(when) {
            self.pass_seq()
        } else {
            0
        }
    }

    /// Is this time due already for the pass under way?
    #[inline(always)]
    pub(crate) fn is_for_later_pass(&self, when: i64) -> bool {
        // Relaxed: see Rearm.
        when <= self.rearm.pass_now.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn pass_seq(&self) -> u32 {
        self.rearm.pass_seq.load(Ordering::Relaxed)
    }

    /// Key of the first entry, without asking for a wake-up; 0: none.
    #[inline(always)]
    pub(crate) fn timer0_when(&self) -> i64 {
        self.published.timer0_when.load(Ordering::Relaxed)
    }

    /// Go's updateTimerModifiedEarliest; the caller holds the lock of a timer of this P,
    /// so that the modification is visible before this. True if it was lowered.
    ///
    /// Where the word is early enough already, it is only read; then adjusttimers must not
    /// have cleared it and still miss us. We lock the timer, then read the word; he clears
    /// the word, then reads the timer's status. All four are SeqCst: if we read what he had
    /// not cleared yet, he reads that the timer is Locked, or what came after.
    #[inline(always)]
    pub(crate) fn update_timer_modified_earliest(&self, when: i64) -> bool {
        self.is_earliest(when) && self.lower_modified_earliest(when)
    }

    /// Would update_timer_modified_earliest have something to do? The caller holds the lock of
    /// a timer of this P; a "no" is as good as its own.
    #[inline(always)]
    pub(crate) fn is_earliest(&self, when: i64) -> bool {
        let order = Ordering::SeqCst;
        sc_fence(LOCK, order);
        when < self.rearm.timer_modified_earliest.load(order)
    }

    fn lower_modified_earliest(&self, when: i64) -> bool {
        let earliest = &self.rearm.timer_modified_earliest;
        let mut old = earliest.load(Ordering::Relaxed);
        while when < old {
            match earliest.compare_exchange_weak(old, when, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(seen) => old = seen,
            }
        }
        false
    }

    /// The first half of adjusttimers: `timer_modified_earliest` goes into `timer0_when`,
    /// then is cleared. P's lock held. Returns what it was.
    fn fold_modified_earliest(&self) -> i64 {
        let (earliest, first) = (
            &self.rearm.timer_modified_earliest,
            &self.published.timer0_when,
        );
        loop {
            let m = earliest.load(Ordering::Relaxed);
            if m == NONE {
                return NONE;
            }
            let t0 = first.load(Ordering::Relaxed);
            if t0 == 0 || m < t0 {
                first.store(m, Ordering::Release);
            }
            // Release: who reads NONE sees the store above. SeqCst: who read or lowered this
            // word before us has his timer Locked or Modified in what we read next.
            let order = Ordering::SeqCst;
            if earliest
                .compare_exchange(m, NONE, order, Ordering::Relaxed)
                .is_ok()
            {
                sc_fence(order, SCAN);
                return m;
            }
        }
    }

    /// The time in `timer_modified_earliest`; i64::MAX: none.
    pub(crate) fn modified_earliest(&self) -> i64 {
        self.rearm.timer_modified_earliest.load(Ordering::Relaxed)
    }

    fn read_wake_time(&self) -> i64 {
        // Acquire on both: if the first is a NONE of fold_modified_earliest, the second is
        // the folded value or a newer one.
        let m = self.rearm.timer_modified_earliest.load(Ordering::Acquire);
        let t0 = self.published.timer0_when.load(Ordering::Acquire);
        match (m, t0) {
            (NONE, t) => t,
            (m, 0) => m,
            (m, t) => m.min(t),
        }
    }

    /// Entries have come in from another P: wakes as if the first had just been armed.
    pub(crate) fn note_lowered_to_first<S: Procs>(&self, s: &S) {
        match self.timer0_when() {
            0 => {}
            first => self.note_lowered(s, first),
        }
    }

    /// Gives the empty heap's memory back.
    pub(crate) fn release_heap(&self, host: &Host) {
        self.lock.lock();
        // SAFETY: the lock is held, and this is the only reference.
        let heap = &mut unsafe { self.inner.get() }.heap;
        let mut old = std::mem::replace(heap, Heap::new());
        self.lock.unlock();
        old.release(host); // a large one takes a while
    }

    /// Go's nobarrierWakeTime: when the P must be looked at again; 0: never. Whoever arms
    /// an earlier timer after this wakes the P.
    #[inline]
    pub(crate) fn wake_time(&self) -> i64 {
        loop {
            let told = self.published.told.load(Ordering::Acquire);
            let w = self.read_wake_time();
            let until = if w == 0 { MAX_WHEN } else { w };
            if until <= told {
                return w;
            }
            self.published.told.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// The wake time got as early as `when`, visibly: wakes if anyone could have been told
    /// a later one. No lock may be held (golang/go#38070).
    #[inline]
    pub(crate) fn note_lowered<S: Procs>(&self, s: &S, when: i64) {
        if self.published.told.fetch_min(when, Ordering::AcqRel) > when {
            s.wake(self, when);
        }
    }
}
