//! How long a sched lives. Apart from the sched, so that a model can run it.
//!
//! It is destroyed when gt_sched_free was called and the last pass under way over one of its Ps,
//! the last timer handle, and the last call that keeps it are gone. Passes may make timers, so
//! timers are summed up when the last pass has ended (engine/cache.rs); from then on all timers
//! in use have one reference together. Whoever gives the last reference back destroys it.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

pub(crate) struct Lifetime {
    /// One until gt_sched_free; and one for each P's slot in use. While there is one, timers may
    /// be made.
    open: AtomicU64,
    /// One while `open` is not 0; then one for all timers in use; and one for each Keep.
    refs: AtomicU64,
    closed: AtomicBool,
}

impl Lifetime {
    pub(crate) fn new() -> Self {
        Lifetime {
            open: AtomicU64::new(1),
            refs: AtomicU64::new(1),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: gt_p_new asks under the registry's lock, under which it was said; to others
        // it is a hint, and the slab's pool has the last word.
        self.closed.load(Ordering::Relaxed)
    }

    /// gt_sched_free, under the registry's lock. True: it was closed before.
    pub(crate) fn close(&self) -> bool {
        self.closed.swap(true, Ordering::Relaxed)
    }

    /// A slot of a P is in use. The caller knows that `open` is not 0.
    pub(crate) fn add_open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// In a fork child, of a sched that was not given to gt_sched_free.
    pub(crate) fn set_open(&self, open: u64) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// The counterpart of add_open, and the last step of gt_sched_free. `sum_up` is called when
    /// nobody makes timers any more: if some are in use, it adds a reference for them. True: it
    /// is the caller's to destroy.
    #[must_use]
    pub(crate) fn leave_open(&self, sum_up: impl FnOnce()) -> bool {
        // AcqRel: the last one sees what the passes of the others counted.
        if self.open.fetch_sub(1, Ordering::AcqRel) != 1 {
            return false;
        }
        sum_up();
        self.unref()
    }

    /// One more reference, for one who knows that the sched lives.
    pub(crate) fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a reference back. True: it was the last one, and the sched is the caller's to
    /// destroy.
    #[must_use]
    pub(crate) fn unref(&self) -> bool {
        // AcqRel: who destroys it sees what all others did with it.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
