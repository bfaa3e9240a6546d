//! Which thread is bound to a P. Apart from the P, so that a model can run it.

use crate::sync::{AtomicU64, Ordering};

/// Token of the thread; 0: none.
pub(crate) struct Bound(AtomicU64);

impl Bound {
    pub(crate) fn new() -> Self {
        Bound(AtomicU64::new(0))
    }

    /// Is this thread bound to it? For that thread itself: what others see changes under them.
    #[inline(always)]
    pub(crate) fn is(&self, token: u64) -> bool {
        self.0.load(Ordering::Relaxed) == token
    }

    /// gt_acquirep. False: another thread is bound to it.
    pub(crate) fn bind(&self, token: u64) -> bool {
        // Acquire: what the last one did before it let the P go is seen.
        self.0
            .compare_exchange(0, token, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// gt_releasep: only if the P is still this thread's. Freed meanwhile, it may be somebody else's
    /// by now.
    pub(crate) fn unbind(&self, token: u64) {
        // Release: see bind.
        let _ = self
            .0
            .compare_exchange(token, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// The P dies, or the slot gets a new one, or the thread is lost in a fork child.
    pub(crate) fn clear(&self) {
        // Relaxed: a P that dies is nobody's to bind; the new one is made known later. A store would
        // do, but for loom (see store_over).
        self.0.swap(0, Ordering::Relaxed);
    }
}
