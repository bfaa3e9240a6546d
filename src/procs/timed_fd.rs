//! A descriptor that is set to a wake time. Apart from what it is for the kernel (fd.rs), so that a
//! model can run it.
//!
//! It is set under its own lock, from a wake time that is read inside: two threads that
//! set it cannot leave the older time in it. While there is none, nobody sets it; who opens it sets
//! it after that, and what came to be due before is in the wake time that he reads.

use crate::error::{Error, Result};
use crate::sync::{AtomicI32, AtomicI64, Ordering, RawLock, fence, rank};

/// What it is set to is not known.
pub(crate) const UNKNOWN: i64 = -1;

pub(crate) struct TimedFd {
    lock: RawLock,
    /// -1: there is none. Changed under `lock`.
    fd: AtomicI32,
    /// What it is set to; under `lock`.
    set: AtomicI64,
}

impl TimedFd {
    pub(crate) fn new() -> Self {
        TimedFd {
            lock: RawLock::new(rank::FD),
            fd: AtomicI32::new(-1),
            set: AtomicI64::new(UNKNOWN),
        }
    }

    /// For one who would only set it later.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.fd.load(Ordering::Relaxed) >= 0
    }

    /// For one who has made the wake time earlier, or moved the clock. Either he sees that it is
    /// open, or who opens it sees what he did: fences, both.
    pub(crate) fn is_open_now(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_open()
    }

    pub(crate) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::FD);
    }

    pub(crate) fn fork_unlock(&self) {
        self.lock.unlock();
    }

    /// The descriptor, made by `create` if there is none yet. Who opens it sets it next.
    pub(crate) fn open(&self, create: impl FnOnce() -> i32) -> Result<i32> {
        self.lock.lock();
        let mut fd = self.fd.load(Ordering::Relaxed);
        if fd < 0 {
            fd = create();
            self.set.store(UNKNOWN, Ordering::Relaxed);
            self.fd.store(fd, Ordering::Relaxed);
            fence(Ordering::SeqCst); // see is_open_now
        }
        self.lock.unlock();
        if fd < 0 { Err(Error::MFile) } else { Ok(fd) }
    }

    /// Nobody sets it any more when it is closed by `close`.
    pub(crate) fn close(&self, close: impl FnOnce(i32)) {
        self.lock.lock();
        let fd = self.fd.load(Ordering::Relaxed);
        if fd >= 0 {
            self.fd.store(-1, Ordering::Relaxed);
            close(fd);
        }
        self.lock.unlock();
    }

    /// In a fork child, which has one thread: what is behind the number is changed by `renew`. False: it is closed.
    pub(crate) fn renew(&self, renew: impl FnOnce(i32) -> bool) {
        let fd = self.fd.load(Ordering::Relaxed);
        if fd >= 0 {
            if !renew(fd) {
                self.fd.store(-1, Ordering::Relaxed);
            }
            self.set.store(UNKNOWN, Ordering::Relaxed);
        }
    }

    /// Sets it, by `set`, to the wake time that `when` reads. `set` gets what it was set to, and
    /// returns what it is set to now.
    pub(crate) fn update(
        &self,
        when: impl FnOnce() -> i64,
        set: impl FnOnce(i32, i64, i64) -> i64,
    ) {
        self.lock.lock();
        let fd = self.fd.load(Ordering::Relaxed);
        if fd >= 0 {
            let now_set = set(fd, when(), self.set.load(Ordering::Relaxed));
            self.set.store(now_set, Ordering::Relaxed);
        }
        self.lock.unlock();
    }
}
