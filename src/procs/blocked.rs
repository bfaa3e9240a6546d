//! Threads that wait, and those of a bubble that are blocked. Apart from what they wait for, so that
//! a model can run it.
//!
//! | word of a Sleeper | who says so | what follows |
//! |---|---|---|
//! | 0 | | it waits, or will |
//! | WOKEN | who wakes it | it goes on; who woke it does not touch it any more |
//! | DEADLOCKED | the bubble, once nobody is left who could wake it | it goes on, and takes itself out of the queue where it waits. If it is not there any more somebody wakes it nevertheless, and it waits for that |
//!
//! A thread of a bubble is woken under the bubble's lock, and leaves the list of blocked ones there:
//! so DEADLOCKED is never said to one that is WOKEN.

use crate::sync::{Futex, Guarded, Ordering, RawLock, const_fn, rank};
use std::cell::Cell;

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

/// A thread that waits; lives on its stack. Whoever wakes it does not touch it after.
pub(crate) struct Sleeper {
    word: Futex,
    /// It is in the list of Blocked, and who is behind it there. That one's lock.
    pub(crate) linked: Guarded<Option<*const Sleeper>>,
    /// Whose it is (tls::here). Set before it can be found.
    pub(crate) thread: Cell<usize>,
}

impl Sleeper {
    const_fn! {
        pub(crate) fn new() -> Self {
            Sleeper {
                word: Futex::new(0),
                linked: Guarded::new(None),
                thread: Cell::new(0),
            }
        }
    }

    /// Waits until it is woken, or all are deadlocked.
    pub(crate) fn wait(&self) -> Waited {
        loop {
            // Acquire: what the waker did before is seen.
            match self.word.load(Ordering::Acquire) {
                0 => self.word.wait(0, None),
                WOKEN => return Waited::Woken,
                _ => return Waited::Deadlock,
            }
        }
    }

    /// After Deadlock: waits for a wake that is on its way nevertheless.
    pub(crate) fn wait_woken(&self) {
        while !self.is_woken() {
            self.word.wait(DEADLOCKED, None);
        }
    }

    fn is_woken(&self) -> bool {
        self.word.load(Ordering::Acquire) == WOKEN
    }

    /// Wakes it, once. It may be gone when this returns.
    pub(crate) fn wake(&self) {
        self.wake_with(|| self.say(WOKEN));
    }

    /// `say` is the last one to touch it.
    fn wake_with(&self, say: impl FnOnce()) {
        let word = std::ptr::from_ref(&self.word);
        say();
        Futex::wake_all_at(word);
    }

    fn say(&self, what: u32) {
        // Release: what the waker did before is seen by who was woken.
        self.word.store(what, Ordering::Release);
    }
}

/// The threads of a bubble that are blocked, and the bubble's lock.
pub(crate) struct Blocked {
    lock: RawLock,
    /// Guarded by `lock`: the first of them, and how many they are.
    list: Guarded<(*const Sleeper, u32)>,
}

impl Blocked {
    pub(crate) fn new() -> Self {
        Blocked {
            lock: RawLock::new(rank::BUBBLE),
            list: Guarded::new((std::ptr::null(), 0)),
        }
    }

    pub(crate) fn lock(&self) {
        self.lock.lock();
    }

    pub(crate) fn unlock(&self) {
        self.lock.unlock();
    }

    /// # Safety
    /// The lock is held.
    #[allow(clippy::mut_from_ref)]
    unsafe fn list(&self) -> &mut (*const Sleeper, u32) {
        // SAFETY: the caller's promise; each reference is used up in its function.
        unsafe { self.list.get() }
    }

    /// How many are blocked.
    ///
    /// # Safety
    /// The lock is held.
    pub(crate) unsafe fn count(&self) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { self.list() }.1
    }

    /// In a fork child: they are all gone, but for the calling thread. That one is blocked if it
    /// forked in a callback which it runs while it waits.
    ///
    /// # Safety
    /// The lock is held, or there is one thread; the stacks of the lost ones are still there.
    pub(crate) unsafe fn forget(&self, here: usize) {
        // SAFETY: the caller's promise; those in the list wait.
        unsafe {
            let (mut at, _) = std::mem::replace(self.list(), (std::ptr::null(), 0));
            while let Some(w) = at.as_ref() {
                at = w.linked.get().take().unwrap_or(std::ptr::null());
                if w.thread.get() == here {
                    self.add(w);
                }
            }
        }
    }

    /// This one is about to wait. False: it was woken already.
    ///
    /// # Safety
    /// The lock is held; and `w` waits before it goes.
    pub(crate) unsafe fn add(&self, w: &Sleeper) -> bool {
        if w.is_woken() {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let (first, n) = self.list();
            *w.linked.get() = Some(*first);
            (*first, *n) = (w, *n + 1);
        }
        true
    }

    /// # Safety
    /// The lock is held.
    unsafe fn remove(&self, w: &Sleeper) {
        // SAFETY: the caller's promise; those in the list wait, and leave it under the lock before
        // they go.
        unsafe {
            let Some(behind) = w.linked.get().take() else {
                return;
            };
            let (first, n) = self.list();
            *n -= 1;
            if std::ptr::eq(*first, w) {
                *first = behind;
                return;
            }
            let mut at = *first;
            while let Some(before) = at.as_ref() {
                let link = before.linked.get();
                if *link == Some(std::ptr::from_ref(w)) {
                    *link = Some(behind);
                    return;
                }
                at = link.unwrap_or(std::ptr::null());
            }
        }
    }

    /// Wakes a thread of the bubble.
    pub(crate) fn wake(&self, w: &Sleeper) {
        w.wake_with(|| {
            self.lock.lock();
            // SAFETY: the lock is held.
            unsafe { self.remove(w) };
            w.say(WOKEN);
            self.lock.unlock();
        });
    }

    /// Nobody will wake this one, which has not been woken yet.
    ///
    /// # Safety
    /// The lock is held.
    pub(crate) unsafe fn give_up(&self, w: &Sleeper) {
        w.wake_with(|| {
            // SAFETY: the lock is held.
            unsafe { self.remove(w) };
            w.say(DEADLOCKED);
        });
    }

    /// Nobody will wake any of them.
    ///
    /// # Safety
    /// The lock is held.
    pub(crate) unsafe fn give_all_up(&self) {
        // SAFETY: the caller's promise; those in the list wait.
        unsafe {
            while let Some(w) = self.list().0.as_ref() {
                self.give_up(w);
            }
        }
    }
}
