//! Where idle workers wait: one epoll for all of them. In it are a timerfd, set to the
//! earliest deadline of all Ps, an eventfd to stop them, and the descriptors of netpoll.
//! The runtime's `netpoll`, `netpollBreak`, `wakeNetPoller`, and what `sysmon` does for timers.
//!
//! Go lets one thread sleep until the deadline, parks the others, and breaks the sleep when an
//! earlier timer comes. Here the kernel holds the deadline: an earlier timer costs a
//! timerfd_settime and wakes nobody, and when it is due one of those who wait is woken, by
//! the edge of the timerfd.

use super::deadline::Deadline;
use crate::engine::{MAX_WHEN, Procs};
use crate::error::{Error, Result};
use crate::host::renew_fd;
use crate::procs::{Sched, time_sleep_until};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Events taken at a time.
const EVENTS: usize = 64;

// What an event says in its data: these, or the address of a poll descriptor.
const TIMER: u64 = 0;
const STOP: u64 = 1;

pub(super) struct Poller {
    epoll: AtomicI32,
    timer: AtomicI32,
    stop: AtomicI32,
    deadline: Deadline,
    /// In a fork child: the parent's was given up, and there is no other yet.
    disowned: AtomicBool,
}

impl Poller {
    pub(super) const fn new() -> Self {
        Poller {
            epoll: AtomicI32::new(-1),
            timer: AtomicI32::new(-1),
            stop: AtomicI32::new(-1),
            deadline: Deadline::new(),
            disowned: AtomicBool::new(false),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.epoll.load(Ordering::Acquire) >= 0
    }

    /// Opens it, unless it is open. The runtime's lock is held.
    pub(super) fn open(&self) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let [epoll, timer, stop] = CREATE.map(|create| create());
        if !watch(epoll, timer, stop) {
            for fd in [epoll, timer, stop] {
                if fd >= 0 {
                    // SAFETY: ours, and nobody knows it.
                    unsafe { libc::close(fd) };
                }
            }
            return Err(Error::MFile);
        }
        self.deadline.forget();
        self.timer.store(timer, Ordering::Relaxed);
        self.stop.store(stop, Ordering::Relaxed);
        self.epoll.store(epoll, Ordering::Release);
        Ok(())
    }

    /// In a fork child, before any timer is touched: what is shared with the parent is given
    /// up, for to set it would set the parent's, and replaced. True if there was something. If that
    /// fails it may be called again.
    pub(super) fn renew(&self) -> Result<bool> {
        if self.is_open() {
            self.disowned.store(true, Ordering::Relaxed);
            let fds = [&self.epoll, &self.timer, &self.stop];
            // Each keeps its number: others may be of ours too, which the program has closed.
            let renewed = fds.map(|fd| fd.load(Ordering::Relaxed));
            let renewed = std::array::from_fn(|i| match renew_fd(renewed[i], CREATE[i]) {
                true => renewed[i],
                false => -1,
            });
            let [epoll, timer, stop] = renewed;
            if watch(epoll, timer, stop) {
                self.deadline.forget();
            } else {
                for (fd, now) in fds.into_iter().zip(renewed) {
                    fd.store(-1, Ordering::Relaxed);
                    if now >= 0 {
                        // SAFETY: ours; the child has one thread.
                        unsafe { libc::close(now) };
                    }
                }
            }
        }
        let had_one = self.disowned.load(Ordering::Relaxed);
        if had_one {
            self.open()?;
            self.disowned.store(false, Ordering::Relaxed);
        }
        Ok(had_one)
    }

    pub(super) fn fork_lock(&self) {
        self.deadline.fork_lock();
    }

    pub(super) fn fork_unlock(&self) {
        self.deadline.fork_unlock();
    }

    /// Sets the timerfd to the earliest deadline of all Ps, and returns that.
    pub(super) fn arm(&self, s: &Sched) -> i64 {
        self.deadline
            .arm(|| time_sleep_until(s), || s.now(), |until| self.set(until))
    }

    /// The same from a worker's callback.
    pub(super) fn arm_in_call(&self, s: &Sched) {
        self.deadline
            .arm_in_call(s.now(), || time_sleep_until(s), |until| self.set(until));
    }

    /// A callback is about to begin, in a pass of this `now`: sees to it that what comes
    /// next is not left waiting for its end.
    #[inline]
    pub(super) fn hand_over(&self, s: &Sched, now: i64) {
        if self.deadline.has_passed(now) {
            self.deadline
                .hand_over(now, || time_sleep_until(s), |until| self.set(until));
        }
    }

    /// Called under the deadline's lock.
    fn set(&self, until: i64) {
        // SAFETY: all zero is a disarmed itimerspec.
        let mut its: libc::itimerspec = unsafe { std::mem::zeroed() };
        if until != MAX_WHEN {
            its.it_value.tv_sec = until / 1_000_000_000;
            its.it_value.tv_nsec = until % 1_000_000_000;
        }
        let fd = self.timer.load(Ordering::Relaxed);
        // SAFETY: a timerfd of ours; its lives through the call.
        unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &its, std::ptr::null_mut()) };
    }

    /// Waits for what comes first, or only looks what has come. Calls `ready` with the address and the event bits of
    /// each descriptor that is. True: it was woken by a deadline that hand_over had set.
    pub(super) fn wait(&self, block: bool, mut ready: impl FnMut(u64, u32)) -> bool {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        // SAFETY: the array is as long as is said.
        let n = unsafe {
            libc::epoll_wait(
                self.epoll.load(Ordering::Relaxed),
                events.as_mut_ptr(),
                EVENTS as i32,
                -(block as i32),
            )
        };
        let mut overdue = false;
        for e in events.iter().take(n.max(0) as usize) {
            match e.u64 {
                TIMER => overdue = self.deadline.gone_off(),
                STOP => {}
                address => ready(address, e.events),
            }
        }
        overdue
    }

    /// Wakes all who wait, until it is taken back.
    pub(super) fn stop(&self, on: bool) {
        let mut n = 1u64;
        let fd = self.stop.load(Ordering::Relaxed);
        // SAFETY: a non-blocking eventfd of ours; n is 8 bytes.
        unsafe {
            let n = std::ptr::from_mut(&mut n).cast();
            if on {
                libc::write(fd, n, 8)
            } else {
                libc::read(fd, n, 8)
            };
        }
    }

    /// Registers a descriptor for edges of readiness. An errno on failure.
    pub(super) fn add(&self, fd: i32, address: u64) -> std::result::Result<(), i32> {
        let bits = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        match add(self.epoll.load(Ordering::Relaxed), fd, bits, address) {
            0 => Ok(()),
            errno => Err(errno),
        }
    }

    pub(super) fn remove(&self, fd: i32) {
        let epoll = self.epoll.load(Ordering::Relaxed);
        // SAFETY: takes no memory of ours. It fails if fd was closed, and so removed, before.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }
}

/// They make the epoll, its timerfd, and its eventfd; or give what is below 0.
const CREATE: [fn() -> i32; 3] = [
    // SAFETY: these calls take no memory of ours.
    || unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
    || {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: as above.
        unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }
    },
    // SAFETY: as above.
    || unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) },
];

/// Are all three there, and does the epoll watch the others? The timer's edge wakes one worker; the
/// stop wakes all, as long as it is set.
fn watch(epoll: i32, timer: i32, stop: i32) -> bool {
    epoll >= 0
        && timer >= 0
        && stop >= 0
        && add(epoll, timer, libc::EPOLLIN | libc::EPOLLET, TIMER) == 0
        && add(epoll, stop, libc::EPOLLIN, STOP) == 0
}

/// 0, or an errno.
fn add(epoll: i32, fd: i32, events: i32, data: u64) -> i32 {
    let mut e = libc::epoll_event {
        events: events as u32,
        u64: data,
    };
    // SAFETY: e lives through the call.
    match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut e) } {
        0 => 0,
        _ => std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    }
}
