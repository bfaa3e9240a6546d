//! What the poller's timerfd is set to. Apart from the poller, so that a model can run it.
//!
//! No wake is missed: whoever makes a deadline earlier does so first and then comes here
//! (the wake hook), and whoever goes to wait comes here first. Both set the timerfd under
//! the lock, to the deadline that they read inside (`arm`): whoever comes second sees what
//! the first one did.
//!
//! The watchdog costs nothing at rest. Once a deadline has come, somebody runs timers.
//! Before each callback he sees to it that the timerfd is set for what comes next, or, if
//! that is due already, for a little later (`hand_over`): if his callback takes long, another
//! worker is woken and takes over (golang/go#38860).

use crate::sync::{AtomicI64, AtomicU32, Ordering, RawLock, const_fn, rank};

/// So long may due timers wait for a callback to end before another worker takes them. (The models
/// have early timers.)
pub(crate) const HAND_OVER: i64 = if cfg!(gt_model) { 30 } else { 100_000 };
/// No deadline.
const NEVER: i64 = i64::MAX;

pub(crate) struct Deadline {
    lock: RawLock,
    /// What the timerfd is set to; it has gone off if that is in the past. Under `lock`;
    /// read without it by has_passed, who is asked again inside.
    armed: AtomicI64,
    /// 1: it was set by hand_over for timers that are due. Under `lock`, or taken.
    handed_over: AtomicU32,
}

impl Deadline {
    const_fn! {
        pub(crate) fn new() -> Self {
            Deadline {
                lock: RawLock::new(rank::FD),
                armed: AtomicI64::new(NEVER),
                handed_over: AtomicU32::new(0),
            }
        }
    }

    /// The timerfd is a new one.
    pub(crate) fn forget(&self) {
        self.armed.store(NEVER, Ordering::Relaxed);
    }

    pub(crate) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::FD);
    }

    pub(crate) fn fork_unlock(&self) {
        self.lock.unlock();
    }

    /// Sets the timerfd, by `set`, to the deadline that `until` reads. Returns it.
    pub(crate) fn arm(
        &self,
        until: impl FnOnce() -> i64,
        now: impl FnOnce() -> i64,
        set: impl FnOnce(i64),
    ) -> i64 {
        self.lock.lock();
        let read = until();
        self.handed_over.store(0, Ordering::Relaxed);
        self.set(read, now, set);
        self.lock.unlock();
        read
    }

    /// The same, when a worker has made a deadline earlier, in a callback: he looks for himself
    /// when that ends, and only if it takes long somebody else must. So a callback that arms
    /// timers for now does not have another worker take them away.
    pub(crate) fn arm_in_call(&self, now: i64, until: impl FnOnce() -> i64, set: impl FnOnce(i64)) {
        self.lock.lock();
        let (next, armed) = (until(), self.armed.load(Ordering::Relaxed));
        let soon = now.saturating_add(HAND_OVER);
        let at = next.max(soon);
        if armed <= now || armed > at {
            self.handed_over
                .store((next <= soon) as u32, Ordering::Relaxed);
            self.set(at, || now, set);
        }
        self.lock.unlock();
    }

    /// Has it gone off? A stale answer is one that was right before an `arm` that came
    /// meanwhile, or will be looked at again by hand_over.
    #[inline(always)]
    pub(crate) fn has_passed(&self, now: i64) -> bool {
        self.armed.load(Ordering::Relaxed) <= now
    }

    /// It has gone off, and a callback is about to begin in a pass of this `now`.
    #[cold]
    pub(crate) fn hand_over(&self, now: i64, until: impl FnOnce() -> i64, set: impl FnOnce(i64)) {
        self.lock.lock();
        if self.has_passed(now) {
            let next = until();
            let due = next <= now;
            self.handed_over.store(due as u32, Ordering::Relaxed);
            let until = if due {
                now.saturating_add(HAND_OVER)
            } else {
                next
            };
            self.set(until, || now, set);
        }
        self.lock.unlock();
    }

    /// The lock is held.
    fn set(&self, until: i64, now: impl FnOnce() -> i64, set: impl FnOnce(i64)) {
        let was = self.armed.load(Ordering::Relaxed);
        let gone_off = was != NEVER && was <= now();
        if until == was && !gone_off {
            return; // it stands there already
        }
        self.armed.store(until, Ordering::Relaxed);
        if until != NEVER || !gone_off {
            set(until); // one that has gone off need not be stopped
        }
    }

    /// The timerfd has gone off: was that for due timers that nobody served? What it was
    /// set to is forgotten; if that is what somebody has just set, he sets it once more.
    pub(crate) fn gone_off(&self) -> bool {
        self.armed.store(0, Ordering::Relaxed);
        self.handed_over.swap(0, Ordering::Relaxed) != 0
    }
}
