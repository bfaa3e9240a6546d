//! A P's pollable fd, for event loops of others: readable when the P wants
//! gt_check_timers. A timerfd, or an eventfd with the virtual clock.
//!
//! It is set under its own lock, from a wake time that is read inside: two threads that
//! set it cannot leave the older time in it.

use super::sched::Sched;
use crate::engine::{MAX_WHEN, Procs};
use crate::error::{Error, Result};
use crate::host::Kind;
use crate::sync::{RawLock, rank};
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

pub(crate) struct PollFd {
    lock: RawLock,
    /// -1: none was asked for. Changed under `lock`.
    fd: AtomicI32,
    /// What it is set to; under `lock`. -1: not known.
    set: AtomicI64,
}

impl PollFd {
    pub(crate) fn new() -> Self {
        PollFd {
            lock: RawLock::new(rank::FD),
            fd: AtomicI32::new(-1),
            set: AtomicI64::new(-1),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.fd.load(Ordering::Acquire) >= 0
    }

    pub(crate) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::FD);
    }

    pub(crate) fn fork_unlock(&self) {
        self.lock.unlock();
    }

    /// The fd, made if there is none yet.
    pub(crate) fn open(&self, s: &Sched) -> Result<i32> {
        self.lock.lock();
        let mut fd = self.fd.load(Ordering::Relaxed);
        if fd < 0 {
            fd = create(s.clock().kind());
            self.set.store(-1, Ordering::Relaxed);
            self.fd.store(fd, Ordering::SeqCst);
        }
        self.lock.unlock();
        if fd < 0 { Err(Error::MFile) } else { Ok(fd) }
    }

    pub(crate) fn close(&self) {
        self.lock.lock();
        let fd = self.fd.swap(-1, Ordering::SeqCst);
        if fd >= 0 {
            // SAFETY: our fd, and nobody sets it any more.
            unsafe { libc::close(fd) };
        }
        self.lock.unlock();
    }

    /// In a fork child: the fd is shared with the parent. A new one takes its number.
    pub(crate) fn renew(&self, s: &Sched) {
        let old = self.fd.load(Ordering::Relaxed);
        if old < 0 {
            return;
        }
        let new = create(s.clock().kind());
        if new >= 0 {
            // SAFETY: both are ours.
            unsafe {
                libc::dup3(new, old, libc::O_CLOEXEC);
                libc::close(new);
            }
        }
        self.set.store(-1, Ordering::Relaxed);
    }

    /// Sets it to the wake time.
    pub(crate) fn update(&self, s: &Sched, wake_time: impl FnOnce() -> i64) {
        self.lock.lock();
        let fd = self.fd.load(Ordering::Relaxed);
        if fd >= 0 {
            let when = match wake_time() {
                0 => MAX_WHEN,
                w => w,
            };
            self.set_to(s, fd, when);
        }
        self.lock.unlock();
    }

    fn set_to(&self, s: &Sched, fd: i32, when: i64) {
        let kind = s.clock().kind();
        if kind == Kind::Virtual {
            let due = when <= s.now() && when != MAX_WHEN;
            if due != (self.set.load(Ordering::Relaxed) == 1) {
                let mut n = 1u64;
                // SAFETY: an eventfd of ours, non-blocking; n is 8 bytes.
                unsafe {
                    let n = std::ptr::from_mut(&mut n).cast();
                    if due {
                        libc::write(fd, n, 8)
                    } else {
                        libc::read(fd, n, 8)
                    };
                }
                self.set.store(due as i64, Ordering::Relaxed);
            }
            return;
        }
        // The host's clock is nobody's but his: wait for as long as is left on it.
        let (value, flags) = match kind {
            _ if when == MAX_WHEN => (0, 0),
            Kind::Host => ((when - s.now()).max(1), 0),
            Kind::Wall => (
                (when - s.clock().offset()).max(1),
                libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET,
            ),
            _ => (when, libc::TFD_TIMER_ABSTIME),
        };
        if kind != Kind::Host
            && kind != Kind::Wall
            && self.set.load(Ordering::Relaxed) == when
            && when > s.now()
        {
            return; // it stands there already, and has not gone off
        }
        self.set.store(when, Ordering::Relaxed);
        // SAFETY: all zero is a disarmed itimerspec.
        let mut its: libc::itimerspec = unsafe { std::mem::zeroed() };
        its.it_value.tv_sec = value / 1_000_000_000;
        its.it_value.tv_nsec = value % 1_000_000_000;
        // SAFETY: a timerfd of ours; its lives through the call.
        unsafe { libc::timerfd_settime(fd, flags, &its, std::ptr::null_mut()) };
    }
}

fn create(kind: Kind) -> i32 {
    // SAFETY: these calls take no memory of ours.
    unsafe {
        match kind {
            Kind::Virtual => libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK),
            Kind::Boottime => timerfd(libc::CLOCK_BOOTTIME),
            Kind::Wall => timerfd(libc::CLOCK_REALTIME),
            Kind::Monotonic | Kind::Host => timerfd(libc::CLOCK_MONOTONIC),
        }
    }
}

fn timerfd(clock: libc::clockid_t) -> i32 {
    // SAFETY: takes no memory of ours.
    unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) }
}
