//! What the holder of a P's lock may do: scans, passes, and what is published when the lock is
//! let go.

use super::super::timer::{MAX_WHEN, State, TimerRef};
use super::super::{Procs, sweep};
use super::{Inner, NO_PASS, NONE, Timers};
use crate::sync::{Ordering, rank};
use std::ops::{Deref, DerefMut};

/// Deferred entries that enter the heap in one hold.
const UNDEFER: usize = if cfg!(gt_model) { 1 } else { 64 };

/// A P's timers, locked.
pub(crate) struct Held<'a, S: Procs> {
    pub(crate) s: &'a S,
    pub(crate) tm: &'a Timers,
    pub(super) rank: u8,
    /// No other P's lock is held: who has let this one go may take it once more.
    pub(crate) alone: bool,
}

impl<S: Procs> Held<'_, S> {
    /// Nothing is to be done before an insertion: see cleantimers.
    #[inline(always)]
    pub(crate) fn is_clean(&self) -> bool {
        self.heap.len() == 0 || self.heap.get(0).t.state() == State::Waiting
    }

    /// Waits until nobody else scans. The P's lock is let go meanwhile.
    pub(crate) fn lock_scans(&mut self) {
        if !self.tm.scans.try_lock_late() {
            self.without_lock(|tm| {
                tm.scanners.fetch_add(1, Ordering::Relaxed);
                tm.scans.lock();
                tm.scanners.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// `scanned`: then who waits gets it before we may want it again.
    pub(crate) fn unlock_scans(&mut self, scanned: bool) {
        // Relaxed: it is about who is first.
        if scanned && self.tm.scanners.load(Ordering::Relaxed) > 0 {
            self.without_lock(|tm| tm.scans.unlock_to_next());
        } else {
            self.tm.scans.unlock();
        }
    }

    fn without_lock(&mut self, f: impl FnOnce(&Timers)) {
        self.publish();
        self.tm.lock.unlock_as(self.rank);
        f(self.tm);
        self.tm.lock.lock_as(self.rank);
    }

    /// A scan of adjusttimers begins.
    pub(crate) fn begin_scan(&mut self) {
        self.scan = Some(0);
        self.heap.settle();
        self.repairs = self.heap.total();
        let folded = self.tm.fold_modified_earliest();
        self.folded = self.folded.min(folded);
        self.left = NONE;
    }

    /// The scan leaves a timer of this time where it is.
    pub(crate) fn leave(&mut self, when: i64) {
        self.left = self.left.min(when);
    }

    pub(crate) fn end_scan(&mut self) {
        self.scan = None;
        self.folded = self.left;
    }

    /// The P's lock is let go for a moment, and who waits for it gets it first.
    pub(crate) fn let_others_in(&mut self) {
        self.publish();
        self.tm.lock.give_way(self.rank);
    }

    /// The earliest key, or time of a timer whose key is later (see `folded`); 0: none.
    fn min_when(&self) -> i64 {
        match self.heap.min_when() {
            0 => 0,
            first => first.min(self.folded),
        }
    }

    /// Go's updateTimer0When and the counts: what others may read of the heap.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let pub_ = &self.tm.published;
        let n = self.heap.total() as u32;
        if pub_.num_timers.load(Ordering::Relaxed) != n {
            pub_.num_timers.store(n, Ordering::Relaxed);
        }
        let t0 = self.min_when();
        if pub_.timer0_when.load(Ordering::Relaxed) != t0 {
            // Release is enough: note_lowered's read-modify-write orders it with askers.
            pub_.timer0_when.store(t0, Ordering::Release);
        }
        if (pub_.in_mask.load(Ordering::Relaxed) != 0) != (n > 0) {
            self.publish_empty(n > 0);
        }
    }

    /// Unlocks it after an entry at `when` was put into the place of another one, with `first` the
    /// first key until then, which was not touched. As drop does it, but there is less to publish,
    /// and who owes a sweep looks only once. The guard must be forgotten.
    #[inline(always)]
    pub(crate) fn unlock_replaced(&mut self, when: i64, first: i64) {
        if when < first {
            let timer0_when = &self.tm.published.timer0_when;
            timer0_when.store(when, Ordering::Release); // see publish
        }
        self.tm.lock.unlock_as(rank::TIMERS);
        if self.tm.owes_sweep_still() && self.tm.lock.try_lock() {
            self.sweep_and_unlock();
        }
    }

    /// The heap has become empty, or is no longer.
    #[cold]
    fn publish_empty(&mut self, filled: bool) {
        let pub_ = &self.tm.published;
        if filled {
            // First the mask, then `told`: whoever still found the bit clear was told
            // "never", also if a note from before the P was empty comes only now.
            self.s.set_mask(self.tm.index, true);
            pub_.told.fetch_max(MAX_WHEN, Ordering::AcqRel);
        } else {
            // golang/go#51654: left set on an empty heap, it makes pollers spin.
            let earliest = &self.tm.rearm.timer_modified_earliest;
            earliest.store(NONE, Ordering::Relaxed);
            (self.scan, self.folded, self.left) = (None, NONE, NONE);
            if self.passes > 0 {
                return; // the callback that runs now may well arm again; the pass's end looks
            }
            self.s.set_mask(self.tm.index, false);
            // Who passes over this P by its mask bit was told "never".
            pub_.told.fetch_max(MAX_WHEN, Ordering::AcqRel);
        }
        pub_.in_mask.store(filled as u32, Ordering::Relaxed);
    }

    /// A pass begins: what was armed for it in the last one is in now.
    pub(crate) fn begin_pass(&mut self, now: i64) {
        self.passes += 1;
        self.next_pass();
        let pass_now = &self.tm.rearm.pass_now;
        pass_now.store(now.max(pass_now.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Stamps made so far no longer count, and deferred entries enter the heap.
    pub(crate) fn next_pass(&mut self) {
        let seq = &self.tm.rearm.pass_seq;
        let last = seq.load(Ordering::Relaxed);
        seq.store(if last == 0xffff { 1 } else { last + 1 }, Ordering::Relaxed);
        let (mine, mut left) = (self.tm.pass_seq(), self.heap.deferred());
        // If it changes, another pass has moved them. Those deferred since are for the next one.
        while left > 0 && self.tm.pass_seq() == mine {
            let n = left.min(UNDEFER);
            self.heap.undefer(n);
            left -= n;
            if left > 0 {
                self.let_others_in();
            }
        }
    }

    pub(crate) fn end_pass(&mut self) {
        self.passes = self.passes.saturating_sub(1); // 0 already in a fork child
        if self.passes == 0 {
            self.tm.rearm.pass_now.store(NO_PASS, Ordering::Relaxed);
            self.next_pass();
        }
    }

    /// Puts a timer in: into the heap, or behind it when it is for the next pass.
    /// Room was reserved.
    #[inline]
    pub(crate) fn insert(&mut self, when: i64, t: TimerRef) {
        if self.tm.is_for_later_pass(when) {
            self.heap.defer(when, t);
        } else {
            self.heap.doaddtimer(when, t);
        }
    }

    /// In a fork child: of the passes, only those that this thread is in are left.
    pub(crate) fn set_passes_after_fork(&mut self, passes: u32) {
        self.passes = passes;
        if passes == 0 {
            self.tm.rearm.pass_now.store(NO_PASS, Ordering::Relaxed);
        }
        self.next_pass();
    }
}

impl<S: Procs> Deref for Held<'_, S> {
    type Target = Inner;
    #[inline(always)]
    fn deref(&self) -> &Inner {
        // SAFETY: this guard is the lock; the borrow ends before another is made.
        unsafe { self.tm.inner.get() }
    }
}

impl<S: Procs> DerefMut for Held<'_, S> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Inner {
        // SAFETY: as above.
        unsafe { self.tm.inner.get() }
    }
}

impl<S: Procs> Held<'_, S> {
    /// Unlocks a P that has too many dead entries.
    #[cold]
    #[inline(never)]
    fn sweep_and_unlock(&mut self) {
        for _ in 0..sweep::rounds(self.heap.total()) {
            if self.tm.owes_sweep() {
                sweep::sweep(self);
            }
            self.publish();
            self.tm.lock.unlock_as(self.rank);
            let again = self.alone && self.tm.owes_sweep_still();
            if !again || !self.tm.lock.try_lock() {
                return;
            }
        }
        self.publish();
        self.tm.lock.unlock_as(self.rank);
    }
}

impl<S: Procs> Drop for Held<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if self.tm.owes_sweep() {
            return self.sweep_and_unlock();
        }
        self.publish();
        self.tm.lock.unlock_as(self.rank);
        // Those who stopped timers meanwhile found the lock held and left the sweep to us: look
        // again. The lock was free in between.
        if self.alone && self.tm.owes_sweep_still() && self.tm.lock.try_lock() {
            self.sweep_and_unlock();
        }
    }
}
