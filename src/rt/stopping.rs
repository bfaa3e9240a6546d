//! How the runtime comes to its stop. While somebody's callback is under way, it may wait for what a
//! timer or a descriptor brings, so somebody must run timers until nobody is in a callback.

use crate::sync::{AtomicBool, AtomicU32, Ordering, const_fn};

pub(crate) struct Stopping {
    /// The runtime is being stopped.
    is: AtomicBool,
    /// Workers and spares that run timers now.
    passes: AtomicU32,
}

/// Whose turn it is to run timers meanwhile. Under the runtime's lock.
pub(crate) struct Turns {
    /// So many have begun.
    begun: u64,
    /// The last one of them is over.
    ended: bool,
    /// Somebody waits for his turn, for so many looks.
    awaited: bool,
    looks: u64,
    /// Nobody was in a pass, and nobody begins one.
    over: bool,
}

/// What a look has shown.
pub(crate) enum Turn {
    NotYet,
    /// The caller runs timers, and counts as being in a pass.
    Yours,
    /// Nobody is left in a callback: the caller ends.
    Over,
}

/// What a caller keeps between his looks: his last turn, and how often he has looked since he is the
/// next one.
#[derive(Default)]
pub(crate) struct Looks {
    last: u64,
    next: Option<u64>,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Turns {
            begun: 0,
            ended: true,
            awaited: false,
            looks: 1,
            over: false,
        }
    }

    /// Who looks again, or goes, has ended his last turn.
    pub(crate) fn leave(&mut self, mine: &Looks) {
        self.ended |= self.begun == mine.last;
    }
}

impl Stopping {
    const_fn! {
        pub(crate) fn new() -> Self {
            Stopping {
                is: AtomicBool::new(false),
                passes: AtomicU32::new(0),
            }
        }
    }

    /// The runtime is being stopped, from now on. Its turns are new ones.
    pub(crate) fn begin(&self) {
        self.is.store(true, Ordering::Relaxed);
    }

    /// It has stopped, and may be started again.
    pub(crate) fn end(&self) {
        self.is.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is(&self) -> bool {
        self.is.load(Ordering::Relaxed)
    }

    /// A pass begins, unless the runtime is being stopped.
    ///
    /// Who looks whether anybody is in a pass has been here, was told that there shall be none, and
    /// took his count back. Who counts himself before that is in the count that he sees. Who does so after it
    /// (Acquire, of that one's Release in end_pass) sees that the runtime is being stopped, as he did.
    #[inline]
    pub(crate) fn begin_pass(&self) -> bool {
        self.passes.fetch_add(1, Ordering::Acquire);
        if !self.is() {
            return true;
        }
        self.end_pass();
        false
    }

    #[inline]
    pub(crate) fn end_pass(&self) {
        // Release: as above; and who sees that nobody is in a pass has seen what it did.
        self.passes.fetch_sub(1, Ordering::Release);
    }

    /// In a fork child, which has none of the threads.
    pub(crate) fn forget(&self) {
        self.end();
        self.passes.store(0, Ordering::Relaxed);
    }

    /// The runtime is being stopped: those who have ended their passes take turns in running timers,
    /// one after the other. Where there is always something to run, there would always be somebody in a
    /// callback then: so whenever a turn begins while the last one is under way, the next ones are waited
    /// for longer. Twice as long when as many turns have begun so as callbacks are under way: these may
    /// all wait, and what each of them waits for takes a turn.
    pub(crate) fn look(&self, turns: &mut Turns, mine: &mut Looks) -> Turn {
        turns.leave(mine);
        // Once so is enough: who is told in begin_pass that there shall be none was counted for a moment.
        let passes = self.passes.load(Ordering::Acquire);
        turns.over |= passes == 0;
        if turns.over {
            return Turn::Over;
        }
        match &mut mine.next {
            None if turns.awaited => Turn::NotYet,
            None => {
                turns.awaited = true;
                mine.next = Some(0);
                Turn::NotYet
            }
            Some(n) if *n < turns.looks => {
                *n += 1;
                Turn::NotYet
            }
            Some(_) => {
                if !turns.ended {
                    let longer = (turns.looks / u64::from(passes)).max(1);
                    turns.looks = turns.looks.saturating_add(longer);
                }
                turns.awaited = false;
                turns.ended = false;
                turns.begun += 1;
                *mine = Looks {
                    last: turns.begun,
                    next: None,
                };
                // The lock is held: who looks next sees it.
                self.passes.fetch_add(1, Ordering::Relaxed);
                Turn::Yours
            }
        }
    }
}
