//! `gt_deltimer_sync`: stops a timer and waits until no committed run of it is left.
//!
//! Waiting could never end when the caller is inside the very run that it waits for, or
//! when those who run it wait, directly or through others, for the caller. So everybody
//! who waits is in a list, with his context and his timer; each run names the context
//! that runs it. Before waiting, and again from time to time, the waiter follows these
//! two from himself; if that leads back to him, the answer is GT_EDEADLK.

use super::runs::{Slots, for_each_run, is_over, stop_until_over};
use super::sched::Sched;
use crate::engine::{Procs, TimerRef, Timers, deltimer};
use crate::error::{Error, Result};
use crate::host::acquire;
use crate::sync::{Backoff, RawLock, rank};
use std::cell::Cell;

/// Somebody in deltimer_sync; on his stack, linked under the waiters' lock.
struct Waiter {
    context: usize,
    t: TimerRef,
    /// Of the timer; alive as long as the waiter is in its call.
    s: *const Sched,
    /// Of the search under way.
    reached: Cell<bool>,
    followed: Cell<bool>,
    next: Cell<*const Waiter>,
}

/// All who wait, whatever their sched: contexts may wait for each other across scheds.
pub(super) struct Waiters {
    pub(super) lock: RawLock,
    first: Cell<*const Waiter>,
}

// SAFETY: `first`, and the waiters in the list, are guarded by `lock`.
unsafe impl Sync for Waiters {}

pub(super) static WAITERS: Waiters = Waiters {
    lock: RawLock::new(rank::WAITERS),
    first: Cell::new(std::ptr::null()),
};

impl Waiters {
    /// In a fork child: the others are gone.
    pub(super) fn forget(&self) {
        self.first.set(std::ptr::null());
    }

    /// All who wait. The lock is held.
    fn each(&self) -> impl Iterator<Item = &Waiter> {
        let mut at = self.first.get();
        std::iter::from_fn(move || {
            // SAFETY: linked waiters live on the stacks of threads that unlink them,
            // under the lock, before they return.
            let w = unsafe { at.as_ref() }?;
            at = w.next.get();
            Some(w)
        })
    }
}

/// Takes its waiter off the list, whatever way its function is left.
struct Listed<'a>(&'a Waiter);

impl<'a> Listed<'a> {
    fn enter(w: &'a Waiter) -> Self {
        WAITERS.lock.lock();
        w.next.set(WAITERS.first.get());
        WAITERS.first.set(w);
        WAITERS.lock.unlock();
        Listed(w)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        WAITERS.lock.lock();
        if std::ptr::eq(WAITERS.first.get(), self.0) {
            WAITERS.first.set(self.0.next.get());
        } else if let Some(prev) = WAITERS.each().find(|w| std::ptr::eq(w.next.get(), self.0)) {
            prev.next.set(self.0.next.get());
        }
        WAITERS.lock.unlock();
    }
}

impl Slots for Sched {
    fn for_each_timers(&self, mut f: impl FnMut(&Timers)) {
        self.registry.for_each_slot(|p| f(p));
    }
}

/// Would `me` wait for himself?
fn never_ends(me: &Waiter) -> bool {
    if me.context == 0 {
        return false;
    }
    WAITERS.lock.lock();
    for w in WAITERS.each() {
        w.reached.set(std::ptr::eq(w, me));
        w.followed.set(false);
    }
    let mut back = false;
    while !back {
        let Some(w) = WAITERS
            .each()
            .find(|w| w.reached.get() && !w.followed.get())
        else {
            break;
        };
        w.followed.set(true);
        // SAFETY: see Waiter.
        for_each_run(unsafe { &*w.s }, w.t, |context| {
            back |= context == me.context;
            for other in WAITERS
                .each()
                .filter(|o| context != 0 && o.context == context)
            {
                other.reached.set(true);
            }
        });
    }
    WAITERS.lock.unlock();
    back
}

/// Stops the timer and waits for its runs; stops it again if one of them armed it.
/// True: it stopped a pending arming.
pub(crate) fn deltimer_sync(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let generation = id.unwrap_or_else(|| s.generation(t));
    let mut stopped = deltimer(s, t, id)?;
    if !is_over(s, t, generation) {
        stopped |= stop_and_wait(s, t, generation)?;
    }
    acquire(t.runs());
    Ok(stopped)
}

fn stop_and_wait(s: &Sched, t: TimerRef, generation: u32) -> Result<bool> {
    let me = Waiter {
        context: s.host().current_context(),
        t,
        s,
        reached: Cell::new(false),
        followed: Cell::new(false),
        next: Cell::new(std::ptr::null()),
    };
    let _listed = Listed::enter(&me);
    let mut backoff = Backoff::new();
    stop_until_over(s, t, generation, |round| {
        if round % 8 == 0 && never_ends(&me) {
            return Err(Error::Deadlk);
        }
        backoff.snooze(s.host());
        Ok(())
    })
}
