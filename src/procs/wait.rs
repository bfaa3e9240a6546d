//! `gt_deltimer_sync`: stops a timer and waits until no committed run of it is left.
//!
//! Waiting could never end when the caller is inside the very run that it waits for, or
//! when those who run it wait, directly or through others, for the caller. So everybody
//! who waits is in a list, with his context and his timer; each run names the context
//! that runs it. Before waiting, and again from time to time, the waiter follows these
//! two from himself; if that leads back to him, the answer is GT_EDEADLK.

use super::sched::Sched;
use crate::engine::{FREED, Procs, TimerRef, deltimer};
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

/// Contexts that run `t` now.
fn for_each_run(s: &Sched, t: TimerRef, mut f: impl FnMut(usize)) {
    s.registry.for_each_slot(|p| {
        let h = p.lock(s);
        let mut at = h.runs;
        // SAFETY: runs are linked and unlinked under this P's lock, and live while linked.
        while let Some(run) = unsafe { at.as_ref() } {
            if run.t == t {
                f(run.context);
            }
            at = run.next;
        }
    });
}

/// Is a committed run of the timer left?
fn is_running(s: &Sched, t: TimerRef, generation: u32) -> bool {
    // The references first: if the timer is alive after that, they were its handle's and its
    // runs', and no run of it has been hidden by a free in between.
    let runs = t.has_runs();
    if s.generation(t) == generation && t.flags() & FREED == 0 {
        return runs;
    }
    // Freed meanwhile, by another thread or its own callback.
    let mut any = false;
    for_each_run(s, t, |_| any = true);
    any
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
    if !is_running(s, t, generation) && !is_armed(s, t, generation) {
        acquire(t.runs());
        return Ok(stopped);
    }
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
    for round in 0u64.. {
        match deltimer(s, t, Some(generation)) {
            Ok(more) => stopped |= more,
            Err(Error::Stale) => {} // freed meanwhile, which stopped it
            Err(e) => return Err(e),
        }
        // Judged after a stop: no later run can have been committed unless somebody armed
        // the timer after it, and then it is not over.
        if !is_running(s, t, generation) && !is_armed(s, t, generation) {
            break;
        }
        if round % 8 == 0 && never_ends(&me) {
            return Err(Error::Deadlk);
        }
        backoff.snooze(s.host());
    }
    acquire(t.runs());
    Ok(stopped)
}

/// Is it armed again, or was it run again since? Under its lock.
fn is_armed(s: &Sched, t: TimerRef, generation: u32) -> bool {
    let l = t.lock(s.host());
    let alive = s.generation(t) == generation && !l.has(FREED);
    let armed = alive && (l.when != 0 || t.has_runs());
    l.put_back();
    armed
}
