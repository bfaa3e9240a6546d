//! A bubble: the threads that join a virtual clock. When all of them are blocked, time
//! goes on to the next deadline, and not before. Go's testing/synctest.

use super::blocked::{Blocked, Waited};
use super::park::Waiter;
use super::sched::Sched;
use super::tls;
use crate::engine::{MAX_WHEN, Procs};
use crate::error::{Error, Result};
use crate::host::{Kind, acquire, release};
use crate::sync::{Backoff, rank};
use std::cell::Cell;

pub(crate) struct Bubble {
    /// Those that wait and have not been woken; and the lock, which guards the rest.
    blocked: Blocked,
    /// Threads that have joined.
    members: Cell<u32>,
    /// Who is in synctest_wait.
    waiting: Cell<*const Waiter>,
    /// The thread that is moving the clock (tls::here, for a thread may have no token); 0: nobody.
    driver: Cell<usize>,
}

// SAFETY: all is guarded by the lock.
unsafe impl Sync for Bubble {}
// SAFETY: as above.
unsafe impl Send for Bubble {}

impl Bubble {
    pub(super) fn new() -> Self {
        Bubble {
            blocked: Blocked::new(),
            members: Cell::new(0),
            waiting: Cell::new(std::ptr::null()),
            driver: Cell::new(0),
        }
    }

    pub(super) fn fork_lock(&self) {
        self.blocked.lock();
        rank::leave(rank::BUBBLE);
    }

    pub(super) fn fork_unlock(&self) {
        self.blocked.unlock();
    }

    /// In a fork child: only the calling thread is left. It may have forked in a callback that it
    /// runs as the driver: then it goes on as such, and what it waits for itself stays.
    pub(super) fn forget_others(&self, s: &Sched) {
        self.members.set((tls::hot().bubble.get() == s.uid) as u32);
        // SAFETY: one thread; a lost thread's stack is still mapped.
        unsafe {
            self.blocked.forget(tls::here());
            if self.waiting.get().as_ref().is_some_and(Waiter::is_lost) {
                self.waiting.set(std::ptr::null());
            }
        }
        if self.driver.get() != tls::here() {
            self.driver.set(0);
        }
    }

    /// The lock is held.
    fn all_blocked(&self) -> bool {
        // SAFETY: the lock is held.
        unsafe { self.blocked.count() == self.members.get() }
    }

    /// The calling thread, whose waiter others know by now, blocks. The last one to do so
    /// moves the clock. If nothing will ever wake anybody, all are told.
    pub(super) fn block(&self, s: &Sched, w: &Waiter) {
        release(self);
        self.blocked.lock();
        // SAFETY: the lock is held, and the caller waits next.
        if unsafe { self.blocked.add(&w.sleeper) } {
            if self.driver.get() == tls::here() {
                // In a callback that it runs itself: while it waits here, nobody moves the clock.
                // SAFETY: the lock is held.
                unsafe { self.blocked.give_up(&w.sleeper) };
            } else {
                self.drive(s);
            }
        }
        self.blocked.unlock();
    }

    /// Somebody wakes a waiter.
    pub(super) fn unblock(&self, w: &Waiter) {
        release(self);
        self.blocked.wake(&w.sleeper);
    }

    /// While all are blocked: wakes who waits for just that, or moves the clock to the next
    /// deadline. If there is none, all are deadlocked. The lock is held before and after.
    fn drive(&self, s: &Sched) {
        if self.driver.get() != 0 {
            return; // he looks again when his callback has ended
        }
        let mut backoff = Backoff::new();
        while self.members.get() > 0 && self.all_blocked() {
            acquire(self); // the callbacks come after all that the blocked ones did
            // What is due at this instant comes first, then who waits for quiet, then time.
            if self.run_as_driver(|| s.advance_to_next(s.now()).is_some()) {
                continue;
            }
            let waiting = self.waiting.replace(std::ptr::null());
            if !waiting.is_null() {
                // As the driver: until it is woken, it looks as if all were blocked.
                self.run_as_driver(|| {
                    // SAFETY: it waits, and was taken out of `waiting` under the lock.
                    unsafe { Waiter::wake(s, waiting) };
                    true
                });
                continue;
            }
            let quiet = self.run_as_driver(|| {
                // Before the clock is looked at: a pass that ends later wakes whom it does.
                let others = s.passes() > 0;
                let went_on = s.advance_to_next(MAX_WHEN).is_some();
                if !went_on && others {
                    backoff.snooze(s.host()); // somebody outside runs timers: he may wake one
                }
                !went_on && !others
            });
            if quiet && self.all_blocked() && self.waiting.get().is_null() {
                // No timer is left that could wake one of them: each wait ends.
                // SAFETY: the lock is held.
                return unsafe { self.blocked.give_all_up() };
            }
        }
    }

    /// Runs `f`, which calls callbacks, without the lock, and nobody else drives meanwhile.
    fn run_as_driver(&self, f: impl FnOnce() -> bool) -> bool {
        self.driver.set(tls::here());
        self.blocked.unlock();
        let result = f();
        self.blocked.lock();
        self.driver.set(0);
        result
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
        self.blocked.lock();
        self.members.set(self.members.get() + 1);
        self.blocked.unlock();
        Ok(())
    }

    /// gt_synctest_leave.
    pub(crate) fn leave(&self, s: &Sched) -> Result<()> {
        let mine = &tls::hot().bubble;
        if mine.get() != s.uid {
            return Err(Error::Inval);
        }
        mine.set(0);
        release(self);
        self.blocked.lock();
        self.members.set(self.members.get() - 1);
        self.drive(s);
        self.blocked.unlock();
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
        let waited = w.block(s, &mut || {
            self.blocked.lock();
            // The driver would wait in his own callback.
            busy = !self.waiting.get().is_null();
            if !busy && self.driver.get() != tls::here() {
                self.waiting.set(&w);
            }
            self.blocked.unlock();
            !busy
        });
        acquire(self);
        match waited {
            _ if busy => Err(Error::Busy),
            Waited::Woken => Ok(()),
            Waited::Deadlock => Err(Error::Deadlk),
        }
    }
}
