//! A P: the right to run timers, its heap, and who is bound to it. The runtime's `p`.
//!
//! Ps stand in a table of the sched that never moves or shrinks, so an index, as timers
//! keep one, always names a P; it may be dead. When a slot is used again: see slot.rs.

use super::bound::Bound;
use super::fd::PollFd;
use super::note::{Left, Note};
use super::sched::Sched;
use super::slot::Slot;
use crate::engine::{MAX_WHEN, Procs, Timers};
use crate::error::Result;
use crate::host::{Kind, blocking};
use std::ffi::c_void;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C, align(64))]
pub(crate) struct P {
    timers: Timers,
    pub(crate) slot: Slot,
    pub(crate) bound: Bound,
    pub(crate) note: Note,
    pub(crate) fd: PollFd,
    pub(crate) userdata: AtomicPtr<c_void>,
}

// SAFETY: the sched outlives its Ps; all else is atomic or has its own lock.
unsafe impl Sync for P {}
// SAFETY: as above.
unsafe impl Send for P {}

impl Deref for P {
    type Target = Timers;
    #[inline(always)]
    fn deref(&self) -> &Timers {
        &self.timers
    }
}

impl P {
    pub(crate) fn new(sched: *const Sched, index: u32) -> Self {
        P {
            timers: Timers::new(sched.cast(), index),
            slot: Slot::new(),
            bound: Bound::new(),
            note: Note::new(),
            fd: PollFd::new(),
            userdata: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    #[inline(always)]
    pub(crate) fn sched(&self) -> &Sched {
        Sched::of(&self.timers)
    }

    #[inline(always)]
    pub(crate) fn is_dead(&self) -> bool {
        self.slot.is_dead()
    }

    /// The slot gets a new owner. The P stays dead until it has adopted the orphans.
    pub(crate) fn revive(&self) {
        self.timers.set_quick(self.sched().quick());
        self.slot.begin();
        self.bound.clear();
        self.userdata.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.note.clear();
    }

    pub(crate) fn set_dead(&self, dead: bool) {
        let mut h = self.timers.lock(self.sched());
        h.dead = dead;
        self.slot.set_dead(dead);
    }

    /// What the embedder knows it by. In the checked build the low bits tell handles of
    /// one slot apart.
    pub(crate) fn handle(&self) -> *mut P {
        let p = std::ptr::from_ref(self).cast_mut();
        if cfg!(feature = "checked") {
            p.map_addr(|a| a | (self.slot.generation() as usize & 63))
        } else {
            p
        }
    }

    pub(crate) fn num_timers(&self) -> u32 {
        self.timers.num_timers()
    }

    /// Sets the fd to the wake time, if there is an fd.
    pub(crate) fn update_fd(&self) {
        if self.fd.is_open() {
            self.fd.update(self.sched(), || self.timers.wake_time());
        }
    }

    /// The same, if the P must be looked at earlier than was known, or the clock was moved.
    pub(crate) fn update_fd_now(&self) {
        if self.fd.is_open_now() {
            self.update_fd();
        }
    }

    pub(crate) fn hold(&self) {
        self.sched().hold(&self.timers);
    }

    /// Go's notetsleep: sleeps until the sched's clock reaches `until` (0: for ever), or the P is
    /// woken. `Ok(true)`: woken.
    pub(crate) fn notetsleep(&self, until: i64) -> Result<bool> {
        let until = if until == 0 { MAX_WHEN } else { until };
        let left = || {
            let s = self.sched();
            let left = until - s.now().min(until);
            // A clock that the kernel cannot wait on: look at it from time to time.
            match s.clock().kind() {
                _ if left == 0 => Left::Nothing,
                _ if until == MAX_WHEN => Left::Unknown,
                Kind::Monotonic => Left::Ns(left),
                Kind::Virtual => Left::Unknown,
                Kind::Boottime | Kind::Wall => Left::Ns(left.min(1_000_000_000)),
                Kind::Host => Left::Ns(left.min(20_000_000)),
            }
        };
        let _blocking = blocking();
        self.note.sleep(|| self.is_dead(), left)
    }
}
