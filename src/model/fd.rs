//! A P's descriptor (src/procs/timed_fd.rs): it never stands at a later time than the P's wake
//! time, whoever sets it or opens it, and nobody sets one that is closed.

use super::{explore, side_by_side};
use crate::procs::timed_fd::TimedFd;
use crate::sync::{AtomicI64, Ordering};
use loom::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32 as Count, Ordering::SeqCst};

const NEVER: i64 = i64::MAX;

struct World {
    fd: TimedFd,
    /// The P's wake time, which only gets earlier here.
    wake_time: AtomicI64,
    /// What the kernel has: written under the lock of the fd.
    kernel: UnsafeCell<i64>,
    made: Count,
    closed: Count,
}

// SAFETY: the cell is there to be checked for races; all else is atomic.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    fn set_kernel(&self, when: i64) {
        assert_eq!(self.closed.load(SeqCst), 0, "a closed fd is set");
        // SAFETY: the checker looks whether somebody else is at it.
        self.kernel.with_mut(|k| unsafe { *k = when });
    }

    /// As P::update_fd.
    fn update(&self) {
        if self.fd.is_open() {
            let when = || self.wake_time.load(Ordering::Relaxed);
            self.fd.update(when, |_, when, was| {
                if when != was {
                    self.set_kernel(when);
                }
                when
            });
        }
    }

    /// As gt_p_fd.
    fn open(&self) {
        let create = || {
            self.made.fetch_add(1, SeqCst);
            3
        };
        assert_eq!(self.fd.open(create).unwrap(), 3);
        self.update();
    }

    fn close(&self) {
        self.fd.close(|_| {
            self.set_kernel(NEVER);
            self.closed.fetch_add(1, SeqCst);
        });
    }

    /// A timer is armed, and wakes the P: P::update_fd_now.
    fn arm(&self, when: i64) {
        self.wake_time.fetch_min(when, Ordering::Relaxed);
        if self.fd.is_open_now() {
            self.update();
        }
    }
}

fn model<const N: usize>(open: bool, threads: [fn(&World); N], end: fn(&World, i64)) {
    explore(N, 3, false, move || {
        let w = Arc::new(World {
            fd: TimedFd::new(),
            wake_time: AtomicI64::new(NEVER),
            kernel: UnsafeCell::new(NEVER),
            made: Count::new(0),
            closed: Count::new(0),
        });
        if open {
            w.open();
        }
        side_by_side(&w, threads);
        // SAFETY: all threads have ended.
        end(&w, w.kernel.with(|k| unsafe { *k }));
    });
}

#[test]
fn model_fd_opened_against_arming() {
    model(false, [World::open, |w| w.arm(10)], |_, until| {
        assert_eq!(until, 10)
    });
}

#[test]
fn model_fd_set_by_two() {
    model(true, [|w| w.arm(20), |w| w.arm(10)], |_, until| {
        assert_eq!(until, 10)
    });
}

#[test]
fn model_fd_opened_by_two() {
    model(false, [World::open, World::open], |w, _| {
        assert_eq!(w.made.load(SeqCst), 1)
    });
}

#[test]
fn model_fd_closed_against_arming() {
    model(true, [World::close, |w| w.arm(10)], |w, _| {
        assert_eq!(w.closed.load(SeqCst), 1)
    });
}

#[test]
fn model_fd_closed_by_two() {
    model(true, [World::close, World::close], |w, _| {
        assert_eq!(w.closed.load(SeqCst), 1)
    });
}
