//! Which Ps of a sched live, and which have timers: a bit for each, changed by few and read by whoever
//! walks over them. Apart from the Ps, so that a model can run it.
//!
//! Index 0 is the orphan set's, which never counts as alive.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bits of a word.
pub(crate) const WORD: usize = 64;
pub(crate) const WORDS: usize = if cfg!(gt_model) { 2 } else { 64 };

pub(crate) struct Live {
    /// Bit i of word n: P 64n + i lives. Changed under the registry's lock.
    words: [AtomicU64; WORDS],
    /// Slots ever used; changed under the registry's lock.
    slots: AtomicU32,
    /// The P that was chosen last.
    turn: AtomicU32,
}

impl Live {
    pub(crate) fn new() -> Self {
        Live {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            slots: AtomicU32::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// How many slots were ever used.
    pub(crate) fn slots(&self) -> u32 {
        // Acquire: who sees a slot sees its segment.
        self.slots.load(Ordering::Acquire)
    }

    /// One more slot is used, whose segment is there. The registry's lock is held.
    pub(crate) fn add_slot(&self) {
        let slots = self.slots.load(Ordering::Relaxed);
        self.slots.store(slots + 1, Ordering::Release);
    }

    /// A P begins or ceases to live. The registry's lock is held.
    pub(crate) fn set(&self, index: u32, on: bool) {
        let word = &self.words[index as usize / WORD];
        let bit = 1u64 << (index as usize % WORD);
        // AcqRel: who sees the bit sees the P as it was when it began to live.
        if on {
            word.fetch_or(bit, Ordering::AcqRel);
        } else {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// The first live P whose index is `from` or above.
    pub(crate) fn first_from(&self, from: u32) -> Option<u32> {
        let (first, skip) = (from as usize / WORD, from as usize % WORD);
        let mut wanted = u64::MAX << skip;
        let used = self.slots() as usize;
        for n in first..used.div_ceil(WORD) {
            // Acquire: see `set`.
            let bits = self.words[n].load(Ordering::Acquire) & wanted;
            if bits != 0 {
                return Some((n * WORD) as u32 + bits.trailing_zeros());
            }
            wanted = u64::MAX;
        }
        None
    }

    /// Each live P in turn; the orphan set if there is none.
    pub(crate) fn choose(&self) -> u32 {
        // Relaxed: two who choose the same one do no harm.
        let last = self.turn.load(Ordering::Relaxed);
        let next = self.first_from(last + 1).or_else(|| self.first_from(1));
        let Some(index) = next else {
            return 0;
        };
        self.turn.store(index, Ordering::Relaxed);
        index
    }

    /// The orphan set and each live P, one after the other.
    pub(crate) fn each(&self) -> impl Iterator<Item = u32> {
        let mut from = None;
        std::iter::from_fn(move || {
            // Looked for when the one before has been visited, not earlier.
            let index = from.map_or(Some(0), |from| self.first_from(from))?;
            from = Some(index + 1);
            Some(index)
        })
    }
}

/// A word of the timerp_mask: of 64 Ps, which have timers. A P's bit is changed under that P's lock (an
/// owner who clears it from outside would hide what another thread inserted).
pub(crate) struct Mask(AtomicU64);

impl Mask {
    pub(crate) fn new() -> Self {
        Mask(AtomicU64::new(0))
    }

    #[inline(always)]
    pub(crate) fn has(&self, index: u32) -> bool {
        // Acquire: who sees the bit of a P that was just filled sees its wake time too.
        self.0.load(Ordering::Acquire) >> (index as usize % WORD) & 1 != 0
    }

    pub(crate) fn set(&self, index: u32, on: bool) {
        let bit = 1u64 << (index as usize % WORD);
        if on {
            self.0.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bit, Ordering::AcqRel);
        }
    }
}
