//! Blocking: of a green thread, by the host's park and ready, or of a thread, by a futex.
//! The runtime's `gopark`, `goready`, and `notesleep` for those who have no g.

use super::note::{futex_wait, futex_wake_all};
use super::sched::Sched;
use super::tls;
use crate::engine::Procs;
use crate::host::{Inside, acquire};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

/// Somebody who waits; lives on his stack. Whoever wakes him does not touch it after.
pub(crate) struct Waiter {
    /// Threads only: WOKEN, or DEADLOCKED and then perhaps still WOKEN.
    word: AtomicU32,
    /// The green thread; 0: a thread. Set before it can be found.
    context: Cell<usize>,
    /// A thread of the sched's bubble (see bubble.rs). Set before it can be found.
    member: Cell<bool>,
    /// It is in the bubble's list of those that are blocked, linked by this. The bubble's lock.
    pub(super) counted: Cell<bool>,
    pub(super) next_blocked: Cell<*const Waiter>,
    /// For whoever keeps waiters in a queue, under his lock: the next one, and what is
    /// handed over with the wake.
    pub(crate) next: Cell<*const Waiter>,
    pub(crate) value: Cell<i64>,
}

const WOKEN: u32 = 1;
const DEADLOCKED: u32 = 2;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Woken; or `commit` said that there is no need to wait.
    Woken,
    /// All threads of the bubble wait, and no timer will ever wake one. The waiter may
    /// still be in its queue.
    Deadlock,
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
            word: AtomicU32::new(0),
            context: Cell::new(0),
            member: Cell::new(false),
            counted: Cell::new(false),
            next_blocked: Cell::new(std::ptr::null()),
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
        self.member.set(tls::hot().bubble.get() == s.uid);
        if !commit() {
            return Waited::Woken;
        }
        if self.member.get() {
            s.bubble.block(s, self);
        }
        let _blocking = s.host().blocking();
        loop {
            match self.word.load(Ordering::Acquire) {
                0 => futex_wait(&self.word, 0, None),
                WOKEN => {
                    if self.member.get() {
                        acquire(&raw const s.bubble);
                    }
                    return Waited::Woken;
                }
                _ => return Waited::Deadlock,
            }
        }
    }

    /// After Deadlock: waits for a wake that is on its way nevertheless.
    pub(crate) fn wait_woken(&self) {
        while !self.is_woken() {
            futex_wait(&self.word, DEADLOCKED, None);
        }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.word.load(Ordering::Acquire) == WOKEN
    }

    /// The bubble's lock is held.
    pub(super) fn set_deadlocked(&self) {
        self.word.store(DEADLOCKED, Ordering::Release);
        futex_wake_all(&self.word);
    }

    pub(super) fn set_woken(&self) {
        // Release: what the waker did before is seen by who was woken.
        self.word.store(WOKEN, Ordering::Release);
    }

    /// Is it a thread that waits? Those are lost in a fork child.
    pub(crate) fn is_thread(&self) -> bool {
        self.context.get() == 0
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
        let word = std::ptr::from_ref(&waiter.word);
        if waiter.member.get() {
            s.bubble.unblock(waiter);
        } else {
            waiter.set_woken();
        }
        // SAFETY: it may be gone by now; a wake on any address is harmless, and the kernel
        // checks it.
        futex_wake_all(unsafe { &*word });
    }
}
