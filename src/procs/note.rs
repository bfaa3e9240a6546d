//! The note of a P: the default way to sleep until the wake time and to be woken.
//! The runtime's `notetsleep`, `notewakeup`. A wake that comes before the sleep makes
//! the sleep return at once.

use super::p::P;
use crate::engine::{MAX_WHEN, Procs};
use crate::error::{Error, Result};
use crate::host::{Kind, acquire, release};
use std::sync::atomic::{AtomicU32, Ordering};

/// The word: bit 0, somebody woke; above it, how often the sleepers were asked to look
/// at the clock again.
pub(crate) struct Note {
    word: AtomicU32,
    sleepers: AtomicU32,
}

const WOKEN: u32 = 1;
const LOOK: u32 = 2;

impl Note {
    pub(crate) const fn new() -> Self {
        Note {
            word: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        }
    }

    pub(crate) fn clear(&self) {
        self.word.store(0, Ordering::Relaxed);
    }

    pub(crate) fn forget_sleepers(&self) {
        self.sleepers.store(0, Ordering::Relaxed);
    }

    /// Wakes the sleeper, or the next one before it sleeps.
    pub(crate) fn wakeup(&self) {
        release(self);
        // SeqCst with `sleepers`: either the sleeper's futex sees the new word, or we see him.
        if self.word.fetch_or(WOKEN, Ordering::SeqCst) & WOKEN == 0
            && self.sleepers.load(Ordering::SeqCst) > 0
        {
            futex_wake_all(&self.word);
        }
    }

    /// Makes the sleepers look at the clock and at their P again.
    pub(crate) fn look_again(&self) {
        self.word.fetch_add(LOOK, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            futex_wake_all(&self.word);
        }
    }
}

/// Sleeps until the sched's clock reaches `until` (0: for ever), or the P is woken.
/// `Ok(true)`: woken.
pub(crate) fn notetsleep(p: &P, until: i64) -> Result<bool> {
    let until = if until == 0 { MAX_WHEN } else { until };
    let note = &p.note;
    loop {
        let word = note.word.load(Ordering::Acquire);
        if p.is_dead() {
            return Err(Error::Stale);
        }
        if word & WOKEN != 0 {
            if note
                .word
                .compare_exchange(word, word & !WOKEN, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                acquire(note);
                return Ok(true);
            }
            continue;
        }
        let s = p.sched();
        let left = until - s.now().min(until);
        if left == 0 {
            return Ok(false);
        }
        // A clock that the kernel cannot wait on: look at it from time to time.
        let wait = match s.clock().kind() {
            _ if until == MAX_WHEN => None,
            Kind::Monotonic => Some(left),
            Kind::Virtual => None,
            Kind::Boottime | Kind::Wall => Some(left.min(1_000_000_000)),
            Kind::Host => Some(left.min(20_000_000)),
        };
        note.sleepers.fetch_add(1, Ordering::SeqCst);
        futex_wait(&note.word, word, wait);
        note.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) fn futex_wait(word: &AtomicU32, seen: u32, ns: Option<i64>) {
    let ts = ns.map(|ns| libc::timespec {
        tv_sec: ns / 1_000_000_000,
        tv_nsec: ns % 1_000_000_000,
    });
    let ts = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the caller's word and ts live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            seen,
            ts,
        );
    }
}

pub(super) fn futex_wake_all(word: &AtomicU32) {
    // SAFETY: waking on an address is harmless whoever waits there.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX,
        );
    }
}
