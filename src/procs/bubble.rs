//! A bubble: the threads that join a virtual clock. When all of them are blocked, time
//! goes on to the next deadline, and not before. Go's testing/synctest. Apart from the sched
//! (synctest.rs), so that a model can run it.

use super::blocked::{Blocked, Sleeper};
use crate::engine::MAX_WHEN;
use crate::host::{Host, acquire, release};
use crate::sync::{Backoff, rank};
use std::cell::Cell;

/// What a bubble asks its sched for.
pub(crate) trait Clockwork {
    fn host(&self) -> &Host;
    /// The calling thread (tls::here, for a thread may have no token), which is not 0.
    fn me(&self) -> usize;
    fn now(&self) -> i64;
    /// The next deadline; MAX_WHEN: there is none.
    fn next(&self) -> i64;
    /// Moves the clock on.
    fn set_time(&self, now: i64);
    /// Runs what is due.
    fn run_due(&self);
    /// Passes under way over all Ps.
    fn passes(&self) -> u32;
}

pub(crate) struct Bubble {
    /// Those that wait and have not been woken; and the lock, which guards the rest.
    blocked: Blocked,
    /// Threads that have joined.
    members: Cell<u32>,
    /// Who is in synctest_wait.
    waiting: Cell<*const Sleeper>,
    /// The thread that is moving the clock; 0: nobody.
    driver: Cell<usize>,
}

// SAFETY: all is guarded by the lock.
unsafe impl Sync for Bubble {}
// SAFETY: as above.
unsafe impl Send for Bubble {}

impl Bubble {
    pub(crate) fn new() -> Self {
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

    /// In a fork child: only the calling thread is left, a member or not. It may have forked in a callback
    /// that it runs as the driver: then it goes on as such, and what it waits for itself stays.
    pub(super) fn forget_others(&self, me: usize, member: bool) {
        self.members.set(member as u32);
        // SAFETY: one thread; a lost thread's stack is still mapped.
        unsafe {
            self.blocked.forget(me);
            let waiting = self.waiting.get().as_ref();
            if waiting.is_some_and(|w| w.thread.get() != me) {
                self.waiting.set(std::ptr::null());
            }
        }
        if self.driver.get() != me {
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
    pub(crate) fn block(&self, s: &impl Clockwork, w: &Sleeper) {
        release(self);
        self.blocked.lock();
        // SAFETY: the lock is held, and the caller waits next.
        if unsafe { self.blocked.add(w) } {
            if self.driver.get() == s.me() {
                // In a callback that it runs itself: while it waits here, nobody moves the clock.
                // SAFETY: the lock is held.
                unsafe { self.blocked.give_up(w) };
            } else {
                self.drive(s);
            }
        }
        self.blocked.unlock();
    }

    /// Somebody wakes a waiter.
    pub(crate) fn unblock(&self, w: &Sleeper) {
        release(self);
        self.blocked.wake(w);
    }

    /// While all are blocked: wakes who waits for just that, or moves the clock to the next
    /// deadline. If there is none, all are deadlocked. The lock is held before and after.
    ///
    /// What is seen, and that the clock moves, is under the lock: nobody is woken and nobody joins
    /// meanwhile.
    fn drive(&self, s: &impl Clockwork) {
        if self.driver.get() != 0 {
            return; // he looks again when his callback has ended
        }
        let mut backoff = Backoff::new();
        while self.members.get() > 0 && self.all_blocked() {
            acquire(self); // the callbacks come after all that the blocked ones did
            // What is due at this instant comes first, then who waits for quiet, then time.
            let next = s.next();
            if next <= s.now() {
                self.run_as_driver(s, || s.run_due());
                continue;
            }
            let waiting = self.waiting.replace(std::ptr::null());
            if !waiting.is_null() {
                // As the driver: until it is woken, it looks as if all were blocked.
                // SAFETY: it waits, and was taken out of `waiting` under the lock.
                self.run_as_driver(s, || self.unblock(unsafe { &*waiting }));
            } else if next != MAX_WHEN {
                s.set_time(next);
            } else if s.passes() > 0 {
                // Asked after the deadline: who has taken the last timer is found in his pass. He is
                // somebody outside, and may wake one of them.
                self.run_as_driver(s, || backoff.snooze(s.host()));
            } else {
                // No timer is left that could wake one of them: each wait ends.
                // SAFETY: the lock is held.
                return unsafe { self.blocked.give_all_up() };
            }
        }
    }

    /// Runs `f`, which calls callbacks, without the lock, and nobody else drives meanwhile.
    fn run_as_driver(&self, s: &impl Clockwork, f: impl FnOnce()) {
        self.driver.set(s.me());
        self.blocked.unlock();
        f();
        self.blocked.lock();
        self.driver.set(0);
    }

    /// Is this the thread that moves the clock?
    pub(super) fn is_driver(&self, me: usize) -> bool {
        self.blocked.lock();
        let driver = self.driver.get();
        self.blocked.unlock();
        driver == me
    }

    /// The calling thread becomes a member.
    pub(crate) fn enter(&self) {
        self.blocked.lock();
        self.members.set(self.members.get() + 1);
        self.blocked.unlock();
    }

    /// It is one no more.
    pub(crate) fn exit(&self, s: &impl Clockwork) {
        release(self);
        self.blocked.lock();
        self.members.set(self.members.get() - 1);
        self.drive(s);
        self.blocked.unlock();
    }

    /// The calling thread, a member that blocks next, wants to be woken when all others are blocked.
    /// False: another one wants that already.
    pub(crate) fn ask(&self, s: &impl Clockwork, w: &Sleeper) -> bool {
        self.blocked.lock();
        let free = self.waiting.get().is_null();
        // The driver would wait in his own callback.
        if free && self.driver.get() != s.me() {
            self.waiting.set(w);
        }
        self.blocked.unlock();
        free
    }
}
