//! Clocks. All are int64 nanoseconds and above 0.
//!
//! A clock that can step back (host, wall) never does so for the timers: the step is
//! added to an offset, and time goes on at once (rule S17). The virtual clock stands
//! still until it is moved; it starts where Go's does.

use super::Host;
use crate::sync::{AtomicI64, Ordering};

/// Where the virtual clock starts: 2000-01-01 00:00:00 UTC, as in Go's testing/synctest.
pub(crate) const VIRTUAL_EPOCH: i64 = 946_684_800_000_000_000;

/// Which clock a sched goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Monotonic,
    Boottime,
    Wall,
    Host,
    Virtual,
}

pub(crate) struct Clock {
    kind: Kind,
    /// Virtual: the time. Host, wall: the latest time that was given out.
    last: AtomicI64,
    /// Host, wall: what is added to the raw reading.
    offset: AtomicI64,
}

impl Clock {
    pub(crate) fn new(kind: Kind) -> Self {
        let start = if kind == Kind::Virtual {
            VIRTUAL_EPOCH
        } else {
            1
        };
        Clock {
            kind,
            last: AtomicI64::new(start),
            offset: AtomicI64::new(0),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What is added to the raw reading of a clock that stepped back.
    pub(crate) fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn now(&self, host: &Host) -> i64 {
        match self.kind {
            Kind::Monotonic => read(libc::CLOCK_MONOTONIC),
            Kind::Boottime => read(libc::CLOCK_BOOTTIME),
            Kind::Virtual => self.last.load(Ordering::Acquire),
            Kind::Wall | Kind::Host => self.stepless(host),
        }
    }

    fn raw(&self, host: &Host) -> i64 {
        match (self.kind, host.hooks().nanotime) {
            // SAFETY: the embedder's hook with its own ctx (gt_host's contract).
            (Kind::Host, Some(f)) => unsafe { f(host.hooks().ctx) },
            _ => read(libc::CLOCK_REALTIME),
        }
    }

    /// Reads a clock that may step back. `last` is read before the clock: then a reading
    /// below it is a step of the clock, and not another thread that was faster.
    fn stepless(&self, host: &Host) -> i64 {
        loop {
            let last = self.last.load(Ordering::Acquire);
            let offset = self.offset.load(Ordering::Acquire);
            let raw = self.raw(host);
            let now = raw.saturating_add(offset).max(1);
            if now >= last {
                self.last.fetch_max(now, Ordering::AcqRel);
                return now;
            }
            // One of the threads that saw the step mends it; the others read again.
            let mended = last.saturating_sub(raw);
            if self
                .offset
                .compare_exchange(offset, mended, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return last;
            }
        }
    }

    /// Virtual only: moves the clock on; never back.
    pub(crate) fn set_virtual(&self, now: i64) -> bool {
        debug_assert!(self.kind == Kind::Virtual);
        self.last.fetch_max(now, Ordering::AcqRel) <= now
    }
}

/// A kernel clock in nanoseconds.
#[inline]
pub(crate) fn read(id: libc::clockid_t) -> i64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: ts is a timespec of ours; these clocks exist on every Linux we run on.
    unsafe { libc::clock_gettime(id, &mut ts) };
    (ts.tv_sec * 1_000_000_000 + ts.tv_nsec).max(1)
}
