//! Where idle workers wait: one epoll for all of them. In it are a timerfd, set to the
//! earliest deadline of all Ps, an eventfd to stop them, and the descriptors of netpoll.
//! The runtime's `netpoll`, `netpollBreak`, `wakeNetPoller`, and what `sysmon` does for timers.
//!
//! Go lets one thread sleep until the deadline, parks the others, and breaks the sleep when an
//! earlier timer comes. Here the kernel holds the deadline: an earlier timer costs a
//! timerfd_settime and wakes nobody, and when it is due one of those who wait is woken, by
//! the edge of the timerfd.
//!
//! No wake is missed: whoever makes a deadline earlier does so first and then comes here
//! (the wake hook), and whoever goes to wait comes here first. Both set the timerfd under
//! its lock, to the deadline that they read inside (`arm`): whoever comes second sees what
//! the first one did.
//!
//! The watchdog costs nothing at rest. Once a deadline has come, somebody runs timers.
//! Before each callback he sees to it that the timerfd is set for what comes next, or, if
//! that is due already, for a little later (`hand_over`): if his callback takes long, another
//! worker is woken and takes over (golang/go#38860).

use crate::engine::{MAX_WHEN, Procs};
use crate::error::{Error, Result};
use crate::procs::{Sched, time_sleep_until};
use crate::sync::{RawLock, rank};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};

/// So long may due timers wait for a callback to end before another worker takes them.
const HAND_OVER: i64 = 100_000;
/// Events taken at a time.
const EVENTS: usize = 64;

// What an event says in its data: these, or the address of a poll descriptor.
const TIMER: u64 = 0;
const STOP: u64 = 1;

pub(super) struct Poller {
    epoll: AtomicI32,
    timer: AtomicI32,
    stop: AtomicI32,
    lock: RawLock,
    /// What the timerfd is set to; it has gone off if that is in the past. MAX_WHEN:
    /// nothing. Under `lock`; read without it by hand_over, who then looks again.
    armed: AtomicI64,
    /// It was set by hand_over for timers that are due.
    handed_over: AtomicBool,
}

impl Poller {
    pub(super) const fn new() -> Self {
        Poller {
            epoll: AtomicI32::new(-1),
            timer: AtomicI32::new(-1),
            stop: AtomicI32::new(-1),
            lock: RawLock::new(rank::FD),
            armed: AtomicI64::new(MAX_WHEN),
            handed_over: AtomicBool::new(false),
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
        // SAFETY: these calls take no memory of ours.
        let (epoll, timer, stop) = unsafe {
            (
                libc::epoll_create1(libc::EPOLL_CLOEXEC),
                libc::timerfd_create(
                    libc::CLOCK_MONOTONIC,
                    libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
                ),
                libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK),
            )
        };
        // The timer's edge wakes one worker; the stop wakes all, as long as it is set.
        let good = epoll >= 0
            && timer >= 0
            && stop >= 0
            && add(epoll, timer, libc::EPOLLIN | libc::EPOLLET, TIMER) == 0
            && add(epoll, stop, libc::EPOLLIN, STOP) == 0;
        if !good {
            for fd in [epoll, timer, stop] {
                if fd >= 0 {
                    // SAFETY: ours, and nobody knows it.
                    unsafe { libc::close(fd) };
                }
            }
            return Err(Error::MFile);
        }
        self.armed.store(MAX_WHEN, Ordering::Relaxed);
        self.timer.store(timer, Ordering::Relaxed);
        self.stop.store(stop, Ordering::Relaxed);
        self.epoll.store(epoll, Ordering::Release);
        Ok(())
    }

    /// In a fork child: what is shared with the parent is given up, and opened anew.
    pub(super) fn after_fork(&self) -> Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        for fd in [&self.epoll, &self.timer, &self.stop] {
            // SAFETY: ours; the child has one thread.
            unsafe { libc::close(fd.swap(-1, Ordering::Relaxed)) };
        }
        self.open()
    }

    pub(super) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::FD);
    }

    pub(super) fn fork_unlock(&self) {
        self.lock.unlock();
    }

    /// Sets the timerfd to the earliest deadline of all Ps, and returns that.
    pub(super) fn arm(&self, s: &Sched) -> i64 {
        self.lock.lock();
        let until = time_sleep_until(s);
        self.handed_over.store(false, Ordering::Relaxed);
        self.set(until, || s.now());
        self.lock.unlock();
        until
    }

    /// A callback is about to begin, in a pass of this `now`: sees to it that what comes
    /// next is not left waiting for its end.
    #[inline]
    pub(super) fn hand_over(&self, s: &Sched, now: i64) {
        if self.armed.load(Ordering::Relaxed) <= now {
            self.hand_over_locked(s, now);
        }
    }

    #[cold]
    fn hand_over_locked(&self, s: &Sched, now: i64) {
        self.lock.lock();
        if self.armed.load(Ordering::Relaxed) <= now {
            let next = time_sleep_until(s);
            let due = next <= now;
            self.handed_over.store(due, Ordering::Relaxed);
            self.set(if due { now + HAND_OVER } else { next }, || now);
        }
        self.lock.unlock();
    }

    /// The lock is held.
    fn set(&self, until: i64, now: impl FnOnce() -> i64) {
        let was = self.armed.load(Ordering::Relaxed);
        if until == was && (was == MAX_WHEN || was > now()) {
            return; // it stands there already, and has not gone off
        }
        self.armed.store(until, Ordering::Relaxed);
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

    /// Waits for what comes first. Calls `ready` with the address and the event bits of
    /// each descriptor that is. True: it was woken by a deadline that hand_over had set.
    pub(super) fn wait(&self, mut ready: impl FnMut(u64, u32)) -> bool {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        // SAFETY: the array is as long as is said.
        let n = unsafe {
            libc::epoll_wait(
                self.epoll.load(Ordering::Relaxed),
                events.as_mut_ptr(),
                EVENTS as i32,
                -1,
            )
        };
        let mut overdue = false;
        for e in events.iter().take(n.max(0) as usize) {
            match e.u64 {
                TIMER => overdue = self.handed_over.swap(false, Ordering::Relaxed),
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
