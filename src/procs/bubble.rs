//! A bubble: the threads that join a virtual clock. When all of them are blocked, time
//! goes on to the next deadline, and not before. Go's testing/synctest.

use super::park::Waiter;
use super::sched::Sched;
use super::tls;
use crate::engine::MAX_WHEN;
use crate::error::{Error, Result};
use crate::host::Kind;
use crate::sync::{RawLock, rank};
use std::cell::Cell;

pub(crate) struct Bubble {
    lock: RawLock,
    /// Threads that have joined. All of these: under `lock`.
    members: Cell<u32>,
    /// Those of them that wait, and have not been woken.
    blocked: Cell<u32>,
    /// Who is in synctest_wait.
    waiting: Cell<*const Waiter>,
    /// A thread is moving the clock.
    driving: Cell<bool>,
}

// SAFETY: all is guarded by `lock`.
unsafe impl Sync for Bubble {}
// SAFETY: as above.
unsafe impl Send for Bubble {}

impl Bubble {
    pub(super) fn new() -> Self {
        Bubble {
            lock: RawLock::new(rank::BUBBLE),
            members: Cell::new(0),
            blocked: Cell::new(0),
            waiting: Cell::new(std::ptr::null()),
            driving: Cell::new(false),
        }
    }

    pub(super) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::BUBBLE);
    }

    pub(super) fn fork_unlock(&self) {
        self.lock.unlock();
    }

    /// In a fork child: only the calling thread is left.
    pub(super) fn forget_others(&self, s: &Sched) {
        self.members.set((tls::hot().bubble.get() == s.uid) as u32);
        self.blocked.set(0);
        self.waiting.set(std::ptr::null());
        self.driving.set(false);
    }

    fn all_blocked(&self) -> bool {
        self.blocked.get() == self.members.get()
    }

    /// The calling thread, whose waiter others know by now, blocks. The last one to do so
    /// moves the clock. False: nothing will ever wake it.
    pub(super) fn block(&self, s: &Sched, w: &Waiter) -> bool {
        self.lock.lock();
        if w.is_woken() {
            self.lock.unlock();
            return true;
        }
        w.counted.set(true);
        self.blocked.set(self.blocked.get() + 1);
        let alive = self.drive(s);
        if !alive && !w.is_woken() {
            w.counted.set(false);
            self.blocked.set(self.blocked.get() - 1);
            self.lock.unlock();
            return false;
        }
        self.lock.unlock();
        true
    }

    /// Somebody wakes a waiter.
    pub(super) fn unblock(&self, w: &Waiter) {
        self.lock.lock();
        if w.counted.replace(false) {
            self.blocked.set(self.blocked.get() - 1);
        }
        w.set_woken();
        self.lock.unlock();
    }

    /// While all are blocked: wakes who waits for just that, or moves the clock to the next
    /// deadline. False: there is none. The lock is held before and after.
    fn drive(&self, s: &Sched) -> bool {
        if self.driving.get() {
            return true; // a callback of the driver woke and blocked somebody: he looks again
        }
        while self.members.get() > 0 && self.all_blocked() {
            let waiting = self.waiting.replace(std::ptr::null());
            self.driving.set(waiting.is_null());
            self.lock.unlock();
            let mut went_on = true;
            if waiting.is_null() {
                went_on = s.advance_to_next(MAX_WHEN).is_some();
            } else {
                // SAFETY: it waits, and was taken out of `waiting` under the lock.
                unsafe { Waiter::wake(s, waiting) };
            }
            self.lock.lock();
            self.driving.set(false);
            if !went_on && self.all_blocked() && self.waiting.get().is_null() {
                return false;
            }
        }
        true
    }

    /// gt_synctest_join.
    pub(crate) fn join(&self, s: &Sched) -> Result<()> {
        if s.clock().kind() != Kind::Virtual {
            return Err(Error::OpNotSupp);
        }
        let mine = &tls::hot().bubble;
        if mine.get() != 0 {
            return Err(Error::Busy);
        }
        mine.set(s.uid);
        self.lock.lock();
        self.members.set(self.members.get() + 1);
        self.lock.unlock();
        Ok(())
    }

    /// gt_synctest_leave.
    pub(crate) fn leave(&self, s: &Sched) -> Result<()> {
        let mine = &tls::hot().bubble;
        if mine.get() != s.uid {
            return Err(Error::Inval);
        }
        mine.set(0);
        self.lock.lock();
        self.members.set(self.members.get() - 1);
        self.drive(s);
        self.lock.unlock();
        Ok(())
    }

    /// gt_synctest_wait.
    pub(crate) fn wait(&self, s: &Sched) -> Result<()> {
        if tls::hot().bubble.get() != s.uid {
            return Err(Error::Inval);
        }
        let w = Waiter::new();
        let mut busy = false;
        // A green thread is no member: the thread blocks.
        w.block(s, &mut || {
            self.lock.lock();
            busy = !self.waiting.get().is_null();
            if !busy {
                self.waiting.set(&w);
            }
            self.lock.unlock();
            !busy
        });
        if busy { Err(Error::Busy) } else { Ok(()) }
    }
}
