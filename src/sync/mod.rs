//! The one place that chooses between std and a model checker.
//!
//! With `--cfg gt_loom` or `--cfg gt_shuttle` (build.rs turns either into `gt_model`) the
//! engine's code runs inside loom or shuttle, see `src/model/`; elsewhere `gt_model` only leaves
//! out what a model cannot have.

mod futex;
mod lock;

pub(crate) use futex::Futex;
#[cfg(gt_loom)]
pub(crate) use lock::{FutexLock, TrueSpinLock};
pub(crate) use lock::{RawLock, SpinLock, rank};

#[cfg(not(gt_model))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};

#[cfg(gt_loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};

#[cfg(gt_shuttle)]
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};

/// A function that is `const`, except in a model: what it makes is none there.
macro_rules! const_fn {
    ($(#[$doc:meta])* $vis:vis fn $name:ident() -> $t:ty $body:block) => {
        $(#[$doc])*
        #[cfg(not(gt_model))]
        $vis const fn $name() -> $t $body

        $(#[$doc])*
        #[cfg(gt_model)]
        $vis fn $name() -> $t $body
    };
}
pub(crate) use const_fn;

/// Memory that a lock guards. Under loom each access is checked for races.
#[cfg(not(gt_loom))]
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Guarded<T>(std::cell::UnsafeCell<T>);

#[cfg(not(gt_loom))]
impl<T> Guarded<T> {
    pub(crate) const fn new(v: T) -> Self {
        Guarded(std::cell::UnsafeCell::new(v))
    }

    /// The guarded value.
    ///
    /// # Safety
    /// The caller holds the lock that guards this value, and makes no second
    /// reference to it while the returned one lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's promise: the lock is held, no other reference lives.
        unsafe { &mut *self.0.get() }
    }
}

#[cfg(gt_loom)]
#[derive(Debug)]
pub(crate) struct Guarded<T>(loom::cell::UnsafeCell<T>);

#[cfg(gt_loom)]
impl<T> Guarded<T> {
    pub(crate) fn new(v: T) -> Self {
        Guarded(loom::cell::UnsafeCell::new(v))
    }

    /// # Safety
    /// As above.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn get(&self) -> &mut T {
        // Every access counts as a write for loom: stricter than needed, never laxer.
        self.0.with_mut(|p| {
            // SAFETY: the caller's promise, which loom checks at this very access.
            unsafe { &mut *p }
        })
    }
}

#[cfg(gt_loom)]
std::thread_local! {
    /// Does `sc_fence` stand for something in the model that this thread runs?
    pub(crate) static FENCES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Stands between two accesses of one thread whose order another thread relies on, and
/// names their orderings, both of which must be SeqCst for that.
///
/// Only for loom, which takes SeqCst accesses for AcqRel ones but knows the fence. It knows
/// it for stronger than it is, so it stands in those models only that cannot do without.
#[inline(always)]
pub(crate) fn sc_fence(before: Ordering, after: Ordering) {
    #[cfg(gt_loom)]
    if (before, after) == (Ordering::SeqCst, Ordering::SeqCst) && FENCES.get() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
    let _ = (before, after);
}

/// A plain store to a word that others may be changing by compare-and-exchange: theirs come before
/// it as a whole, or fail.
///
/// That is so since nothing comes between what a compare-and-exchange reads and what it writes.
/// loom does not draw this conclusion for a store, but for a swap.
#[inline(always)]
pub(crate) fn store_over(word: &AtomicU32, v: u32, order: Ordering) {
    #[cfg(not(gt_loom))]
    word.store(v, order);
    #[cfg(gt_loom)]
    word.swap(v, order);
}

/// Gives the processor away: the default of the `osyield` hook.
#[inline]
pub(crate) fn os_yield() {
    #[cfg(not(gt_model))]
    // SAFETY: sched_yield takes nothing and touches no memory of ours.
    unsafe {
        libc::sched_yield();
    }
    #[cfg(gt_loom)]
    loom::thread::yield_now();
    #[cfg(gt_shuttle)]
    shuttle::thread::yield_now();
}

/// One round of waiting for a lock that is held for a few instructions only:
/// some `pause` rounds, then the host's osyield, then, after a bound, short sleeps,
/// so that a spinner of high real-time priority cannot starve the holder for ever.
pub(crate) struct Backoff {
    round: u32,
}

impl Backoff {
    const PAUSES: u32 = 6;
    const YIELDS: u32 = 64;

    #[inline]
    pub(crate) fn new() -> Self {
        Backoff { round: 0 }
    }

    #[cold]
    pub(crate) fn snooze(&mut self, host: &crate::host::Host) {
        if cfg!(gt_model) {
            host.osyield();
        } else if self.round < Self::PAUSES {
            for _ in 0..1u32 << self.round {
                std::hint::spin_loop();
            }
        } else if self.round < Self::PAUSES + Self::YIELDS {
            host.osyield();
        } else {
            let us = (self.round - Self::PAUSES - Self::YIELDS).min(20) as u64 * 50 + 50;
            std::thread::sleep(std::time::Duration::from_micros(us));
        }
        self.round = self.round.saturating_add(1);
    }
}
