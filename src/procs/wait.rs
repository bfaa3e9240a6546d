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
use crate::sync::{Backoff, Ordering, RawLock, rank};
use std::cell::Cell;

/// Somebody in deltimer_sync; on his stack, linked under the waiters' lock.
struct Waiter {
    context: usize,
    t: TimerRef,
    /// Of the search under way.
    reached: Cell<bool>,
    followed: Cell<bool>,
    next: Cell<*const Waiter>,
}

pub(crate) struct Waiters {
    pub(crate) lock: RawLock,
    first: Cell<*const Waiter>,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Waiters {
            lock: RawLock::new(rank::WAITERS),
            first: Cell::new(std::ptr::null()),
        }
    }

    /// In a fork child: the others are gone.
    pub(crate) fn forget(&self) {
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
struct Listed<'a> {
    s: &'a Sched,
    w: &'a Waiter,
}

impl<'a> Listed<'a> {
    fn enter(s: &'a Sched, w: &'a Waiter) -> Self {
        s.waiters.lock.lock();
        w.next.set(s.waiters.first.get());
        s.waiters.first.set(w);
        s.waiters.lock.unlock();
        Listed { s, w }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let waiters = &self.s.waiters;
        waiters.lock.lock();
        if std::ptr::eq(waiters.first.get(), self.w) {
            waiters.first.set(self.w.next.get());
        } else if let Some(prev) = waiters.each().find(|w| std::ptr::eq(w.next.get(), self.w)) {
            prev.next.set(self.w.next.get());
        }
        waiters.lock.unlock();
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
    if s.generation(t) == generation && t.flags() & FREED == 0 {
        // The handle is one reference, each run another. Acquire: what the runs did is seen.
        return t.refs.load(Ordering::Acquire) > 1;
    }
    // Freed meanwhile, by another thread or its own callback.
    let mut any = false;
    for_each_run(s, t, |_| any = true);
    any
}

/// Would `me` wait for himself?
fn never_ends(s: &Sched, me: &Waiter) -> bool {
    if me.context == 0 {
        return false;
    }
    s.waiters.lock.lock();
    for w in s.waiters.each() {
        w.reached.set(std::ptr::eq(w, me));
        w.followed.set(false);
    }
    let mut back = false;
    while !back {
        let Some(w) = s
            .waiters
            .each()
            .find(|w| w.reached.get() && !w.followed.get())
        else {
            break;
        };
        w.followed.set(true);
        for_each_run(s, w.t, |context| {
            back |= context == me.context;
            for other in s
                .waiters
                .each()
                .filter(|o| context != 0 && o.context == context)
            {
                other.reached.set(true);
            }
        });
    }
    s.waiters.lock.unlock();
    back
}

/// Stops the timer and waits for its runs; stops it again if one of them armed it.
/// True: it stopped a pending arming.
pub(crate) fn deltimer_sync(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let generation = id.unwrap_or_else(|| s.generation(t));
    let mut stopped = deltimer(s, t, id)?;
    if !is_running(s, t, generation) && !is_armed(s, t, generation) {
        return Ok(stopped);
    }
    let me = Waiter {
        context: s.host().current_context(),
        t,
        reached: Cell::new(false),
        followed: Cell::new(false),
        next: Cell::new(std::ptr::null()),
    };
    let _listed = Listed::enter(s, &me);
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
        if round % 8 == 0 && never_ends(s, &me) {
            return Err(Error::Deadlk);
        }
        backoff.snooze(s.host());
    }
    Ok(stopped)
}

/// Is it armed again, or was it run again since? Under its lock.
fn is_armed(s: &Sched, t: TimerRef, generation: u32) -> bool {
    let l = t.lock(s.host());
    let alive = s.generation(t) == generation && !l.has(FREED);
    let armed = alive && (l.when != 0 || t.refs.load(Ordering::Acquire) > 1);
    l.put_back();
    armed
}
