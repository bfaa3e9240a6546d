//! A word that threads wait at: the kernel's futex, or one for the models.

use super::AtomicU32;
use std::ops::Deref;

#[cfg(not(gt_model))]
#[repr(transparent)]
pub(crate) struct Futex(AtomicU32);

#[cfg(not(gt_model))]
impl Futex {
    pub(crate) const fn new(v: u32) -> Self {
        Futex(AtomicU32::new(v))
    }

    /// Waits if the word is `seen`, and no longer than so many ns; perhaps not so long.
    pub(crate) fn wait(&self, seen: u32, ns: Option<i64>) {
        let ts = ns.map(|ns| libc::timespec {
            tv_sec: ns / 1_000_000_000,
            tv_nsec: ns % 1_000_000_000,
        });
        let ts = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the word and ts live through the call; the kernel only compares it.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                seen,
                ts,
            );
        }
    }

    pub(crate) fn wake_one(&self) {
        Self::wake(self, 1);
    }

    pub(crate) fn wake_all(&self) {
        Self::wake(self, i32::MAX);
    }

    /// The same for a word that may be gone by now.
    pub(crate) fn wake_all_at(at: *const Futex) {
        Self::wake(at, i32::MAX);
    }

    fn wake(at: *const Futex, n: i32) {
        // SAFETY: the kernel does not look at the word; to wake on an address is harmless whoever
        // waits there.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                at,
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                n,
            );
        }
    }
}

#[cfg(not(gt_model))]
impl Deref for Futex {
    type Target = AtomicU32;
    #[inline(always)]
    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

#[cfg(gt_model)]
pub(crate) use checked::Futex;

/// Compares and waits in one step; a wake is a step of its own. Nobody waits for a time: if
/// nobody wakes him, he waits for ever, and the checker says so.
#[cfg(gt_model)]
mod checked {
    use super::{AtomicU32, Deref};
    use crate::sync::Ordering;
    #[cfg(gt_loom)]
    use loom::sync::{Condvar, Mutex};
    #[cfg(gt_shuttle)]
    use shuttle::sync::{Condvar, Mutex};

    pub(crate) struct Futex {
        word: AtomicU32,
        queue: Mutex<()>,
        woken: Condvar,
    }

    impl Futex {
        pub(crate) fn new(v: u32) -> Self {
            Futex {
                word: AtomicU32::new(v),
                queue: Mutex::new(()),
                woken: Condvar::new(),
            }
        }

        pub(crate) fn wait(&self, seen: u32, _ns: Option<i64>) {
            let guard = self.queue.lock().unwrap();
            if self.word.load(Ordering::Relaxed) == seen {
                drop(self.woken.wait(guard));
            }
        }

        pub(crate) fn wake_one(&self) {
            drop(self.queue.lock());
            self.woken.notify_one();
        }

        pub(crate) fn wake_all(&self) {
            drop(self.queue.lock());
            self.woken.notify_all();
        }

        /// The models keep the word until all threads have ended.
        pub(crate) fn wake_all_at(at: *const Futex) {
            // SAFETY: see above.
            unsafe { &*at }.wake_all();
        }
    }

    impl Deref for Futex {
        type Target = AtomicU32;
        fn deref(&self) -> &AtomicU32 {
            &self.word
        }
    }
}
