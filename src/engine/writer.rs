//! fork waits until nobody is in the middle of changing several fields of a timer: a fork child must
//! not see half of that. A timer's lock says nothing of it, for fork does not take timers' locks.

use crate::host::Host;
use crate::sync::{AtomicBool, AtomicU32, Backoff, Ordering, const_fn, sc_fence};

/// Who begins to write counts himself, then looks whether a fork is being prepared; fork says so,
/// then looks at the count. SeqCst, all four: one of the two sees the other.
const COUNT_WRITER: Ordering = Ordering::SeqCst;
const LOOK_FORKING: Ordering = Ordering::SeqCst;
const SAY_FORKING: Ordering = Ordering::SeqCst;
const LOOK_WRITER: Ordering = Ordering::SeqCst;

/// Is a fork being prepared?
pub(crate) struct Forking(AtomicBool);

impl Forking {
    const_fn! {
        pub(crate) fn new() -> Self {
            Forking(AtomicBool::new(false))
        }
    }

    /// From now on nobody begins to write.
    pub(crate) fn begin(&self) {
        self.0.store(true, SAY_FORKING);
        sc_fence(SAY_FORKING, LOOK_WRITER);
    }

    #[cold]
    fn wait(&self, host: &Host) {
        let mut backoff = Backoff::new();
        while self.0.load(Ordering::Relaxed) {
            backoff.snooze(host);
        }
    }

    pub(crate) fn end(&self) {
        // Release: what is written from now on comes after the fork.
        self.0.store(false, Ordering::Release);
    }
}

/// Above 0 while the owner of a block writes, or, of a block that is shared, some thread does.
pub(crate) struct Writer(AtomicU32);

impl Writer {
    pub(crate) fn new() -> Self {
        Writer(AtomicU32::new(0))
    }

    /// Several fields of a timer, which is locked, are about to change. Waits while a fork is
    /// under way.
    #[inline]
    pub(crate) fn begin(&self, forking: &Forking, host: &Host) {
        loop {
            self.0.fetch_add(1, COUNT_WRITER);
            sc_fence(COUNT_WRITER, LOOK_FORKING);
            if !forking.0.load(LOOK_FORKING) {
                return;
            }
            self.end();
            forking.wait(host); // not counted, so that fork gets on
        }
    }

    /// The fields are whole again.
    #[inline(always)]
    pub(crate) fn end(&self) {
        // Release: who forks sees them whole.
        self.0.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.0.load(LOOK_WRITER) > 0
    }

    /// A fork is being prepared: waits until nobody writes.
    pub(crate) fn wait(&self, host: &Host) {
        let mut backoff = Backoff::new();
        while self.is_writing() {
            backoff.snooze(host);
        }
    }

    /// In a fork child: whoever was waiting to write is gone.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
