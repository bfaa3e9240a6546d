//! The note of a P: the default way to sleep until the wake time and to be woken.
//! The runtime's `notetsleep`, `notewakeup`. A wake that comes before the sleep makes
//! the sleep return at once. Apart from the P, so that a model can run it.

use crate::error::{Error, Result};
use crate::host::{acquire, release};
use crate::sync::{AtomicU32, Futex, Ordering, const_fn, sc_fence};

/// Who sleeps counts himself before the kernel compares the word; who wakes changes the word before
/// he looks at the count. SeqCst, all four (the kernel's comparison is): one of the two sees the
/// other.
const COUNT_SLEEPER: Ordering = Ordering::SeqCst;
const COMPARE: Ordering = Ordering::SeqCst;
const CHANGE_WORD: Ordering = Ordering::SeqCst;
const LOOK_SLEEPERS: Ordering = Ordering::SeqCst;

pub(crate) struct Note {
    /// Bit 0: somebody woke; above it, how often the sleepers were asked to look at the clock
    /// again.
    word: Futex,
    sleepers: AtomicU32,
}

const WOKEN: u32 = 1;
const LOOK: u32 = 2;

/// How long a sleeper may sleep.
pub(crate) enum Left {
    /// The time has come.
    Nothing,
    Ns(i64),
    /// Until he is woken, or asked to look again.
    Unknown,
}

impl Note {
    const_fn! {
        pub(crate) fn new() -> Self {
            Note {
                word: Futex::new(0),
                sleepers: AtomicU32::new(0),
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.word.store(0, Ordering::Relaxed);
    }

    pub(crate) fn forget_sleepers(&self) {
        self.sleepers.store(0, Ordering::Relaxed);
    }

    /// Wakes the sleeper, or the next one before it sleeps.
    pub(crate) fn wakeup(&self) {
        release(self);
        // If it was woken already, who did that wakes the sleepers; who takes that wake sees what
        // we did before too, or leaves the bit to the next one.
        if self.word.fetch_or(WOKEN, CHANGE_WORD) & WOKEN == 0 {
            self.wake_sleepers();
        }
    }

    /// Makes the sleepers look at the clock and at their P again.
    pub(crate) fn look_again(&self) {
        self.word.fetch_add(LOOK, CHANGE_WORD);
        self.wake_sleepers();
    }

    fn wake_sleepers(&self) {
        sc_fence(CHANGE_WORD, LOOK_SLEEPERS);
        if self.sleepers.load(LOOK_SLEEPERS) > 0 {
            self.word.wake_all();
        }
    }

    /// Sleeps until it is woken (true), until nothing is left of its time (false), or until the P
    /// is dead.
    pub(crate) fn sleep(&self, dead: impl Fn() -> bool, left: impl Fn() -> Left) -> Result<bool> {
        loop {
            // Acquire: who was asked to look again sees why.
            let word = self.word.load(Ordering::Acquire);
            if dead() {
                return Err(Error::Stale);
            }
            if word & WOKEN != 0 {
                // Acquire: what all did whose wake this is. Another one may have come after the load.
                let taken = self.word.compare_exchange(
                    word,
                    word & !WOKEN,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if taken.is_ok() {
                    acquire(self);
                    return Ok(true);
                }
                continue;
            }
            let ns = match left() {
                Left::Nothing => return Ok(false),
                Left::Ns(ns) => Some(ns),
                Left::Unknown => None,
            };
            self.sleepers.fetch_add(1, COUNT_SLEEPER);
            sc_fence(COUNT_SLEEPER, COMPARE);
            self.word.wait(word, ns);
            // Relaxed: who sees him counted too long wakes in vain.
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
