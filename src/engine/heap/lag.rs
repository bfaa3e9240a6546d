//! What takes the minimum's place in a large heap goes down to its own place in steps.
//!
//! A heap of a million entries has eleven levels, and the lower ones are in no near cache. Who
//! goes down in one go waits for memory at each of these. So the entry stops half-way, asks for
//! what it will be compared with, and goes on by a level each time that the minimum is replaced;
//! several are on their way at once. Until then it stands above earlier ones. But nobody sees
//! that: whoever replaces the minimum moves the lowest one first, so that each is compared only
//! with what is in its place; and all else that looks below the root lets them come to their
//! places first (`settle`), but for an insertion that meets none of them.

use super::{Entry, Heap, ROOT, child, parent, prefetch};

/// The tests and the models have small heaps.
const SMALL: bool = cfg!(any(debug_assertions, feature = "checked", gt_model));
/// From this size on a heap may have entries that lag: its lower levels are in no near cache.
pub(super) const LAG_FROM: usize = if SMALL { 8 } else { 1 << 16 };
/// So many levels down an entry goes at once: these are in the nearest.
const TOP: usize = if SMALL { 1 } else { 5 };
/// So many lag at most: one for each level below, of a heap with 2^29 entries.
pub(super) const LAG: usize = 16;

impl Heap {
    /// The minimum gets this key, or the last entry takes its place. In a large heap that entry
    /// does not go down to its place at once, but half-way, and then a level each time that the
    /// minimum is replaced: time enough for what it is compared with to come from memory. What
    /// is above it is in order.
    #[inline(never)]
    pub(super) fn replace_root(&mut self, when: Option<i64>) {
        // The lowest first: so none is compared with one that is not where it should be.
        for i in 0..std::mem::take(&mut self.lagging) {
            let slot = self.lag[i % LAG];
            self.siftdown_lagging(slot, self.at(slot), 1);
        }
        let e = match when {
            Some(when) => Entry {
                when,
                ..self.at(ROOT)
            },
            None => self.remove_end(),
        };
        self.siftdown_lagging(ROOT, e, TOP);
    }

    /// siftdown by so many levels. If that is not all, the entry lags from there, and its
    /// children and theirs are fetched.
    #[inline(always)]
    fn siftdown_lagging(&mut self, slot: usize, e: Entry, levels: usize) {
        if let (slot, false) = self.siftdown_by(slot, e, levels, false) {
            prefetch(self.base.wrapping_add(child(slot)));
            self.prefetch_children(child(slot));
            debug_assert!(self.lagging < LAG);
            self.lag[self.lagging % LAG] = slot;
            self.lagging += 1;
        }
    }

    /// Would an entry that comes to this slot, at the end, meet one that lags on its way up?
    pub(super) fn rises_past_lagging(&self, mut slot: usize, when: i64) -> bool {
        while slot > ROOT {
            slot = parent(slot);
            if self.lag[..self.lagging].contains(&slot) {
                return true;
            }
            if when >= self.at(slot).when {
                return false;
            }
        }
        false
    }

    #[cfg(test)]
    pub(crate) fn lagging(&self) -> usize {
        self.lagging
    }

    /// Moves all entries that lag to their places. Who goes by positions does this first. True if
    /// there were any.
    #[inline(always)]
    pub(crate) fn settle(&mut self) -> bool {
        let lagging = self.lagging > 0;
        if lagging {
            self.settle_all();
        }
        lagging
    }

    #[cold]
    #[inline(never)]
    fn settle_all(&mut self) {
        for i in 0..std::mem::take(&mut self.lagging) {
            let slot = self.lag[i];
            self.siftdown(slot, self.at(slot));
        }
    }
}
