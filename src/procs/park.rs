//! Blocking: of a green thread, by the host's park and ready, or of a thread, by a futex.
//! The runtime's `gopark`, `goready`, and `notesleep` for those who have no g.

use super::blocked::{Sleeper, Waited};
use super::sched::Sched;
use super::tls;
use crate::engine::Procs;
use crate::host::{Inside, acquire, blocking};
use std::cell::Cell;
use std::ffi::c_void;

/// Somebody who waits; lives on his stack. Whoever wakes him does not touch it after.
pub(crate) struct Waiter {
    /// Threads only.
    pub(super) sleeper: Sleeper,
    /// The green thread; 0: a thread. Set before it can be found.
    context: Cell<usize>,
    /// A thread of the sched's bubble (see bubble.rs). Set before it can be found.
    member: Cell<bool>,
    /// For whoever keeps waiters in a queue, under his lock: the next one, and what is
    /// handed over with the wake.
    pub(crate) next: Cell<*const Waiter>,
    pub(crate) value: Cell<i64>,
}

/// `commit` on its way through the host's park hook.
struct Parking<'a> {
    commit: &'a mut dyn FnMut() -> bool,
}

unsafe extern "C" fn commit_parking(arg: *mut c_void) -> i32 {
    let _in = Inside::enter();
    // SAFETY: `wait` gave a Parking that lives until the green thread runs again, which is
    // after this took the reference out of it.
    let commit = unsafe { &mut *(*arg.cast::<Parking<'_>>()).commit };
    commit() as i32
}

/// A copy that is taken here and now. For a `commit`, whose caller may run, and be gone with
/// all that the closure borrowed, before it returns: what it needs after that it copies
/// first, and the compiler may not read it again.
pub(crate) fn copied<T: Copy>(v: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { std::ptr::read_volatile(v) }
}

impl Waiter {
    pub(crate) const fn new() -> Self {
        Waiter {
            sleeper: Sleeper::new(),
            context: Cell::new(0),
            member: Cell::new(false),
            next: Cell::new(std::ptr::null()),
            value: Cell::new(0),
        }
    }

    /// Blocks the caller until `wake`. `commit` is called when he is as good as blocked (a
    /// green thread has left its stack, rule S16): it makes the waiter known to whoever
    /// wakes it, and returns true; or false: no need to wait. After the former it touches
    /// nothing of its caller, who may run already.
    pub(crate) fn wait(&self, s: &Sched, commit: &mut dyn FnMut() -> bool) -> Waited {
        if self.park(s, commit) {
            Waited::Woken
        } else {
            self.block(s, commit)
        }
    }

    /// The same for green threads only. False: the caller is not one; nothing was done.
    pub(crate) fn park(&self, s: &Sched, commit: &mut dyn FnMut() -> bool) -> bool {
        let host = s.host();
        host.assert_unlocked();
        if host.hooks().park.is_none() {
            return false;
        }
        self.context.set(host.current_context());
        let mut parking = Parking { commit };
        let parked = self.context.get() != 0
            && host.park(commit_parking, std::ptr::from_mut(&mut parking).cast());
        if !parked {
            self.context.set(0);
        }
        parked
    }

    pub(super) fn block(&self, s: &Sched, commit: &mut dyn FnMut() -> bool) -> Waited {
        self.sleeper.thread.set(tls::here());
        self.member.set(s.is_member());
        if !commit() {
            return Waited::Woken;
        }
        if self.member.get() {
            s.bubble.block(s, &self.sleeper);
        }
        let _blocking = blocking();
        let waited = self.sleeper.wait();
        if waited == Waited::Woken && self.member.get() {
            acquire(&raw const s.bubble);
        }
        waited
    }

    /// After Deadlock: waits for a wake that is on its way nevertheless.
    pub(crate) fn wait_woken(&self) {
        self.sleeper.wait_woken();
    }

    /// In a fork child: was it a thread that waits, and not the one that forked? That one is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.context.get() == 0 && self.sleeper.thread.get() != tls::here()
    }

    /// Wakes a waiter, once. No lock is held.
    ///
    /// # Safety
    /// `w` is in a wait whose `commit` made it known, and nobody else wakes it.
    pub(crate) unsafe fn wake(s: &Sched, w: *const Waiter) {
        // SAFETY: the caller's promise: it waits, so it is there.
        let waiter = unsafe { &*w };
        let context = waiter.context.get();
        if context != 0 {
            s.host().ready(context);
            return;
        }
        if waiter.member.get() {
            s.bubble.unblock(&waiter.sleeper);
        } else {
            waiter.sleeper.wake();
        }
    }
}
