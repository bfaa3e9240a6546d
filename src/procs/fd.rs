//! A P's pollable fd, for event loops of others: readable when the P wants
//! gt_check_timers. A timerfd, or an eventfd with the virtual clock. When it is set: timed_fd.rs.

use super::sched::Sched;
use super::timed_fd::TimedFd;
use crate::engine::{MAX_WHEN, Procs};
use crate::error::Result;
use crate::host::{Kind, renew_fd};

pub(crate) struct PollFd(TimedFd);

impl PollFd {
    pub(crate) fn new() -> Self {
        PollFd(TimedFd::new())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.is_open()
    }

    pub(crate) fn is_open_now(&self) -> bool {
        self.0.is_open_now()
    }

    pub(crate) fn fork_lock(&self) {
        self.0.fork_lock();
    }

    pub(crate) fn fork_unlock(&self) {
        self.0.fork_unlock();
    }

    /// The fd, made if there is none yet.
    pub(crate) fn open(&self, s: &Sched) -> Result<i32> {
        self.0.open(|| create(s.clock().kind()))
    }

    pub(crate) fn close(&self) {
        self.0.close(|fd| {
            // SAFETY: our fd, and nobody sets it any more.
            unsafe { libc::close(fd) };
        });
    }

    /// In a fork child: the fd is shared with the parent. A new one takes its number, if there is one.
    pub(crate) fn renew(&self, s: &Sched) {
        self.0
            .renew(|old| renew_fd(old, || create(s.clock().kind())));
    }

    /// Sets it to the wake time.
    pub(crate) fn update(&self, s: &Sched, wake_time: impl FnOnce() -> i64) {
        let when = || match wake_time() {
            0 => MAX_WHEN,
            w => w,
        };
        self.0.update(when, |fd, when, was| set(s, fd, when, was));
    }
}

/// Sets the fd, which is set to `was`. Returns what it is set to then.
fn set(s: &Sched, fd: i32, when: i64, was: i64) -> i64 {
    let kind = s.clock().kind();
    if kind == Kind::Virtual {
        let due = when <= s.now() && when != MAX_WHEN;
        if due != (was == 1) {
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
        }
        return due as i64;
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
    if kind != Kind::Host && kind != Kind::Wall && was == when && when > s.now() {
        return was; // it stands there already, and has not gone off
    }
    // SAFETY: all zero is a disarmed itimerspec.
    let mut its: libc::itimerspec = unsafe { std::mem::zeroed() };
    its.it_value.tv_sec = value / 1_000_000_000;
    its.it_value.tv_nsec = value % 1_000_000_000;
    // SAFETY: a timerfd of ours; its lives through the call.
    unsafe { libc::timerfd_settime(fd, flags, &its, std::ptr::null_mut()) };
    when
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
