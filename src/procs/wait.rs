//! gt_deltimer_sync: stops a timer and waits until no committed run of it is left. Apart from the
//! scheds (del_sync.rs), so that a model can run it.
//!
//! Waiting could never end when the caller is inside the very run that it waits for, or
//! when those who run it wait, directly or through others, for the caller. So everybody
//! who waits is in a list, with his context and his timer; each run names the context
//! that runs it. Before waiting, and again from time to time, the waiter follows these
//! two from himself; if that leads back to him, the answer is GT_EDEADLK.
//!
//! Whoever sees that his wait is over, or that it never will be, leaves the list before he lets its
//! lock go. So all who are found there do wait, for each run of their timer that is committed by
//! then: what leads back is no mistake, and one of those who wait for each other is told, not all.

use super::runs::{Slots, for_each_run, is_over, stop_until_over};
use crate::engine::{TimerRef, deltimer};
use crate::error::{Error, Result};
use crate::host::blocking;
use crate::sync::{Backoff, Guarded, RawLock, const_fn, rank};
use std::cell::Cell;

/// Rounds of waiting between two searches.
const SEARCH_EVERY: u64 = if cfg!(gt_model) { 1 } else { 8 };

/// Somebody in deltimer_sync; on his stack, linked under the waiters' lock.
struct Waiter<S> {
    context: usize,
    t: TimerRef,
    generation: u32,
    /// Of the timer; alive as long as the waiter is in its call.
    s: *const S,
    /// Of the search under way.
    reached: Cell<bool>,
    followed: Cell<bool>,
    next: Cell<*const Waiter<S>>,
}

/// All who wait, whatever their sched: contexts may wait for each other across scheds.
pub(crate) struct Waiters<S> {
    pub(super) lock: RawLock,
    first: Guarded<*const Waiter<S>>,
}

// SAFETY: `first`, and the waiters in the list, are guarded by `lock`.
unsafe impl<S> Sync for Waiters<S> {}
// SAFETY: as above.
unsafe impl<S> Send for Waiters<S> {}

impl<S: Slots> Waiters<S> {
    const_fn! {
        pub(crate) fn new() -> Self {
            Waiters {
                lock: RawLock::new(rank::WAITERS),
                first: Guarded::new(std::ptr::null()),
            }
        }
    }

    /// In a fork child: the others are gone.
    pub(super) fn forget(&self) {
        // SAFETY: there is one thread.
        unsafe { *self.first.get() = std::ptr::null() };
    }

    /// All who wait. The lock is held.
    fn each(&self) -> impl Iterator<Item = &Waiter<S>> {
        // SAFETY: the lock is held.
        let mut at = unsafe { *self.first.get() };
        std::iter::from_fn(move || {
            // SAFETY: linked waiters live on the stacks of threads that unlink them,
            // under the lock, before they return.
            let w = unsafe { at.as_ref() }?;
            at = w.next.get();
            Some(w)
        })
    }

    /// The lock is held.
    fn link(&self, w: &Waiter<S>) {
        // SAFETY: the lock is held.
        let first = unsafe { self.first.get() };
        w.next.set(*first);
        *first = w;
    }

    /// Takes a waiter off the list, if he is in it. The lock is held.
    fn unlink(&self, w: &Waiter<S>) {
        // SAFETY: the lock is held.
        let first = unsafe { self.first.get() };
        if std::ptr::eq(*first, w) {
            *first = w.next.get();
        } else if let Some(prev) = self.each().find(|p| std::ptr::eq(p.next.get(), w)) {
            prev.next.set(w.next.get());
        }
    }

    /// Would `me` wait for himself? The lock is held.
    fn never_ends(&self, me: &Waiter<S>) -> bool {
        if me.context == 0 {
            return false;
        }
        for w in self.each() {
            w.reached.set(std::ptr::eq(w, me));
            w.followed.set(false);
        }
        let mut back = false;
        while !back {
            let mut all = self.each();
            let Some(w) = all.find(|w| w.reached.get() && !w.followed.get()) else {
                break;
            };
            w.followed.set(true);
            // SAFETY: see Waiter.
            for_each_run(unsafe { &*w.s }, w.t, w.generation, |context| {
                back |= context == me.context;
                for other in self.each() {
                    if context != 0 && other.context == context {
                        other.reached.set(true);
                    }
                }
            });
        }
        back
    }

    /// Is the wait over? An error: it never will be.
    fn look(&self, s: &S, me: &Waiter<S>, round: u64) -> Result<bool> {
        self.lock.lock();
        let looked = if is_over(s, me.t, me.generation) {
            Ok(true)
        } else if round.is_multiple_of(SEARCH_EVERY) && self.never_ends(me) {
            Err(Error::Deadlk)
        } else {
            Ok(false)
        };
        if looked != Ok(false) {
            self.unlink(me);
        }
        self.lock.unlock();
        looked
    }

    /// Stops the timer and waits for its runs; stops it again if one of them armed it.
    /// True: it stopped a pending arming.
    pub(crate) fn deltimer_sync(&self, s: &S, t: TimerRef, id: Option<u32>) -> Result<bool> {
        let generation = id.unwrap_or_else(|| s.generation(t));
        let mut stopped = deltimer(s, t, id)?;
        if !is_over(s, t, generation) {
            stopped |= self.stop_and_wait(s, t, generation)?;
        }
        Ok(stopped)
    }

    fn stop_and_wait(&self, s: &S, t: TimerRef, generation: u32) -> Result<bool> {
        let me = Waiter {
            context: s.host().current_context(),
            t,
            generation,
            s,
            reached: Cell::new(false),
            followed: Cell::new(false),
            next: Cell::new(std::ptr::null()),
        };
        let _listed = Listed::enter(self, &me);
        let mut backoff = Backoff::new();
        let mut waits = None;
        stop_until_over(s, t, generation, |round| {
            let over = self.look(s, &me, round)?;
            if !over {
                waits.get_or_insert_with(blocking);
                backoff.snooze(s.host());
            }
            Ok(over)
        })
    }
}

/// Takes its waiter off the list, whatever way its function is left.
struct Listed<'a, S: Slots>(&'a Waiters<S>, &'a Waiter<S>);

impl<'a, S: Slots> Listed<'a, S> {
    fn enter(all: &'a Waiters<S>, w: &'a Waiter<S>) -> Self {
        all.lock.lock();
        all.link(w);
        all.lock.unlock();
        Listed(all, w)
    }
}

impl<S: Slots> Drop for Listed<'_, S> {
    fn drop(&mut self) {
        self.0.lock.lock();
        self.0.unlink(self.1);
        self.0.lock.unlock();
    }
}
