//! The runtime's poller in the world of a model: src/rt/deadline.rs with a timerfd that is a number.

use super::{Mini, WORKER};
use crate::engine::{MAX_WHEN, Procs};
use crate::rt_deadline::{Deadline, HAND_OVER};
use crate::sync::{AtomicI64, Ordering};
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

/// As the runtime's.
pub(super) fn before_call(now: i64) {
    // SAFETY: as_worker has put it there, and is under way.
    if let Some(mini) = unsafe { WORKER.with(Cell::get).as_ref() } {
        mini.hand_over(now);
    }
}

impl Mini {
    pub(in super::super) fn has_poller(&self) -> bool {
        self.poller.is_some()
    }

    fn poller(&self) -> &(Deadline, AtomicI64) {
        self.poller.as_ref().unwrap()
    }

    /// What a worker does before it waits, and the runtime's wake hook.
    pub(in super::super) fn arm_poller(&self) -> i64 {
        let (deadline, _) = self.poller();
        let until = || {
            self.put_off.store(0, SeqCst);
            self.sleep_until()
        };
        deadline.arm(until, || self.now(), |until| self.set_fd(until))
    }

    /// The runtime's wake hook in a callback: what is due soon may wait for that to end.
    pub(super) fn arm_poller_in_call(&self) {
        let (deadline, _) = self.poller();
        let now = self.now();
        let until = || {
            self.put_off.fetch_max(now + HAND_OVER, SeqCst);
            self.sleep_until()
        };
        deadline.arm_in_call(now, until, |until| self.set_fd(until));
    }

    /// The runtime's hook before a callback, in a worker's pass of this `now`: what is due then may
    /// wait for that to end.
    fn hand_over(&self, now: i64) {
        let (deadline, _) = self.poller();
        let until = || {
            let next = self.sleep_until();
            let until = if next <= now { now + HAND_OVER } else { 0 };
            self.put_off.store(until, SeqCst);
            next
        };
        if deadline.has_passed(now) {
            deadline.hand_over(now, until, |until| self.set_fd(until));
        }
    }

    /// So long may what is due be left waiting.
    pub(in super::super) fn put_off(&self) -> i64 {
        self.put_off.load(SeqCst)
    }

    /// What the worker does whom the timerfd has woken.
    pub(in super::super) fn gone_off(&self) -> bool {
        self.poller().0.gone_off()
    }

    /// The thread is a worker, in a pass or in a callback.
    pub(in super::super) fn as_worker<R>(&self, f: impl FnOnce() -> R) -> R {
        let was = WORKER.with(|w| w.replace(self));
        let r = f();
        WORKER.with(|w| w.set(was));
        r
    }

    /// The clock comes to this time. True: the timerfd has gone off, and one worker is being
    /// woken.
    pub(in super::super) fn comes_to(&self, now: i64) -> bool {
        self.clock.fetch_max(now, SeqCst);
        let fd = &self.poller().1;
        let at = fd.load(Ordering::Relaxed);
        // Whom it wakes has seen what he did who set it.
        let (order, failed) = (Ordering::Acquire, Ordering::Relaxed);
        at <= now && fd.compare_exchange(at, MAX_WHEN, order, failed).is_ok()
    }

    /// The timerfd goes off, whatever the clock says.
    pub(in super::super) fn fire_early(&self) {
        self.set_fd(MAX_WHEN);
    }

    /// timerfd_settime. A swap, for the kernel does one after the other.
    fn set_fd(&self, until: i64) {
        self.poller().1.swap(until, Ordering::Release);
    }

    /// What the timerfd is set to.
    pub(in super::super) fn fd(&self) -> i64 {
        self.poller().1.load(Ordering::Acquire)
    }
}
