//! The mutex of this library and the one lock order.
//!
//! Order, from first to last; a thread that holds one may only take a later one:
//!
//! | rank | lock | guards |
//! |---|---|---|
//! | `RUNTIME` | the built-in runtime | whether it runs, its Ps and threads |
//! | `GLOBAL` | the list of live scheds | scheds, for fork and thread exit |
//! | `REGISTRY` | a sched's registry | which Ps exist, adopt, new and free of Ps |
//! | `WAITERS` | the waiters | who waits in deltimer_sync for what |
//! | `NETPOLL` | a part of the poll descriptors | who waits for which readiness, deadlines |
//! | `CHAN` | a part of the channels | a channel timer: its value, its time, who receives |
//! | `BUBBLE` | a sched's bubble | which of its threads are blocked, and, while they are, the clock |
//! | `FD` | a P's fd, and the runtime's poller | what the timerfd is set to |
//! | `SCANS` | the scans of a P | who scans its heap |
//! | `TIMERS` | a P's timers lock | its heap |
//! | `TIMERS2` | the second P's, in adopt only, by address | its heap |
//! | `TIMER` | a timer's status lock | the timer's fields |
//! | `SLAB` | the slab; the blocks of counters; the free slots of Ps | free nodes, chunks |
//! | `CHUNKS` | the checked build's list of chunks | who changes it |
//!
//! Debug builds check it at each lock. No callback and no drop function is called with one
//! of them held, nor the hooks that may call back: wake_netpoller, preempt_stop,
//! current_context. The other hooks may be: alloc, free, nanotime, and osyield, acquirem and
//! releasem around a timer's lock.
//!
//! Why not std's Mutex: it must be free of poisoning (a callback may throw), can be
//! released in a fork child by a thread that did not take it, and is visible to TSan.

/// The ranks of the table above.
#[allow(missing_docs)]
pub(crate) mod rank {
    pub(crate) const RUNTIME: u8 = 0;
    pub(crate) const GLOBAL: u8 = 1;
    pub(crate) const REGISTRY: u8 = 2;
    pub(crate) const WAITERS: u8 = 3;
    pub(crate) const NETPOLL: u8 = 4;
    pub(crate) const CHAN: u8 = 5;
    pub(crate) const BUBBLE: u8 = 6;
    pub(crate) const FD: u8 = 7;
    pub(crate) const SCANS: u8 = 8;
    pub(crate) const TIMERS: u8 = 9;
    pub(crate) const TIMERS2: u8 = 10;
    pub(crate) const TIMER: u8 = 11;
    pub(crate) const SLAB: u8 = 12;
    #[cfg(feature = "checked")]
    pub(crate) const CHUNKS: u8 = 13;

    #[cfg(all(debug_assertions, not(gt_model)))]
    thread_local! {
        static HELD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Notes that this thread takes a lock of rank `r`; panics when that breaks the order.
    #[inline(always)]
    pub(crate) fn enter(r: u8) {
        #[cfg(all(debug_assertions, not(gt_model)))]
        {
            let _ = HELD.try_with(|h| {
                assert!(
                    h.get() >> r == 0,
                    "lock order: rank {r} taken with {:#b} held",
                    h.get()
                );
            });
        }
        enter_late(r);
    }

    /// The same for one that was taken without waiting, which is allowed in any order.
    #[inline(always)]
    pub(crate) fn enter_late(r: u8) {
        #[cfg(all(debug_assertions, not(gt_model)))]
        {
            let _ = HELD.try_with(|h| h.set(h.get() | 1 << r));
        }
        let _ = r;
    }

    /// Notes that this thread lets a lock of rank `r` go.
    #[inline(always)]
    pub(crate) fn leave(r: u8) {
        #[cfg(all(debug_assertions, not(gt_model)))]
        {
            let _ = HELD.try_with(|h| h.set(h.get() & !(1 << r)));
        }
        let _ = r;
    }

    /// Panics in debug builds when this thread holds any lock: stands before callbacks and hooks.
    #[inline(always)]
    pub(crate) fn assert_none() {
        #[cfg(all(debug_assertions, not(gt_model)))]
        {
            let _ =
                HELD.try_with(|h| assert!(h.get() == 0, "held over a callback: {:#b}", h.get()));
        }
    }
}

/// The feature `holds`, for the benchmark: it is told when a P's lock has been taken, and
/// before it is let go.
#[cfg(all(feature = "holds", not(gt_model)))]
mod holds {
    use super::rank;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static TOLD: AtomicUsize = AtomicUsize::new(0);

    /// `f(1)`: taken; `f(0)`: about to be let go. Set it before there are threads.
    /// cbindgen:ignore
    #[unsafe(no_mangle)]
    extern "C" fn gt_bench_on_lock(f: extern "C" fn(i32)) {
        TOLD.store(f as usize, Ordering::Release);
    }

    pub(super) fn note(r: u8, taken: bool) {
        let f = TOLD.load(Ordering::Acquire);
        if f != 0 && (r == rank::TIMERS || r == rank::TIMERS2) {
            // SAFETY: only such a function is ever stored.
            let f = unsafe { std::mem::transmute::<usize, extern "C" fn(i32)>(f) };
            f(taken as i32);
        }
    }
}

/// The futex mutex: 0 free, 1 held, 2 held and somebody waits.
mod futex {
    #[cfg(all(feature = "holds", not(gt_model)))]
    use super::holds;
    use super::rank;
    use crate::sync::{Futex, Ordering, os_yield};

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    const WAITED: u32 = 2;
    const SPINS: u32 = if cfg!(gt_model) { 2 } else { 40 };
    /// So often of these it gives the processor away.
    const YIELDS: u32 = if cfg!(gt_model) { 1 } else { 4 };
    /// Yields until one who waited must have woken up.
    const PATIENCE: u32 = if cfg!(gt_model) { 1 } else { 200 };

    pub(crate) struct RawLock {
        word: Futex,
        rank: u8,
    }

    macro_rules! new {
        ($rank:expr) => {
            RawLock {
                word: Futex::new(FREE),
                rank: $rank,
            }
        };
    }

    impl RawLock {
        #[cfg(not(gt_model))]
        pub(crate) const fn new(rank: u8) -> Self {
            new!(rank)
        }

        #[cfg(gt_model)]
        pub(crate) fn new(rank: u8) -> Self {
            new!(rank)
        }

        #[inline(always)]
        fn take(&self) -> bool {
            // Acquire: what the last holder wrote is seen; he released.
            self.word
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        }

        #[inline]
        pub(crate) fn lock(&self) {
            self.lock_as(self.rank);
        }

        /// Takes it under another rank than its own: the second P's lock of adopt.
        #[inline]
        pub(crate) fn lock_as(&self, r: u8) {
            rank::enter(r);
            if !self.take() {
                self.lock_slow();
            }
            #[cfg(all(feature = "holds", not(gt_model)))]
            holds::note(r, true);
        }

        /// SeqCst: see Timers::add_deleted (src/engine/timers.rs).
        #[inline]
        pub(crate) fn try_lock(&self) -> bool {
            let ok = self
                .word
                .compare_exchange(FREE, HELD, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
            if ok {
                rank::enter(self.rank);
                #[cfg(all(feature = "holds", not(gt_model)))]
                holds::note(self.rank, true);
            }
            ok
        }

        /// try_lock with a later lock held.
        pub(crate) fn try_lock_late(&self) -> bool {
            let ok = self.take();
            if ok {
                rank::enter_late(self.rank);
            }
            ok
        }

        #[cold]
        fn lock_slow(&self) {
            for i in 0..SPINS {
                let w = self.word.load(Ordering::Relaxed);
                if w == FREE && self.take() {
                    return;
                }
                if i < SPINS - YIELDS {
                    std::hint::spin_loop()
                } else {
                    os_yield()
                }
            }
            // WAITED from here on, also when there was nobody else: to wake in vain is harmless.
            while self.word.swap(WAITED, Ordering::Acquire) != FREE {
                self.word.wait(WAITED, None);
            }
        }

        #[inline]
        pub(crate) fn unlock(&self) {
            self.unlock_as(self.rank);
        }

        #[inline]
        pub(crate) fn unlock_as(&self, r: u8) {
            self.unlock_and_wake(r);
        }

        /// True: somebody waited, and is being woken.
        #[inline]
        fn unlock_and_wake(&self, r: u8) -> bool {
            #[cfg(all(feature = "holds", not(gt_model)))]
            holds::note(r, false);
            rank::leave(r);
            // Release: the next holder sees what was written under the lock. SeqCst: see
            // try_lock; on x86 it is the same instruction.
            let waited = self.word.swap(FREE, Ordering::SeqCst) == WAITED;
            if waited {
                self.word.wake_one();
            }
            waited
        }

        /// Lets it go; who waits for it gets it, if he wakes up in reasonable time, before this
        /// returns.
        pub(crate) fn unlock_to_next(&self) {
            self.unlock_to_next_as(self.rank);
        }

        fn unlock_to_next_as(&self, r: u8) {
            if self.unlock_and_wake(r) {
                for _ in 0..PATIENCE {
                    if self.word.load(Ordering::Relaxed) != FREE {
                        break;
                    }
                    os_yield();
                }
            }
        }

        /// Lets it go and takes it again; who waits for it gets it first.
        pub(crate) fn give_way(&self, r: u8) {
            self.unlock_to_next_as(r);
            self.lock_as(r);
        }
    }
}

/// For what takes a few instructions: to let it go is a plain store. Who finds it held spins,
/// then gives the processor away, then sleeps for a moment, so that a holder of lower priority
/// gets on.
#[cfg(not(gt_shuttle))]
mod spin {
    use super::rank;
    use crate::sync::{AtomicBool, Ordering, os_yield};

    const SPINS: u32 = if cfg!(gt_model) { 0 } else { 40 };
    const YIELDS: u32 = if cfg!(gt_model) { u32::MAX } else { 100 };

    pub(crate) struct SpinLock {
        held: AtomicBool,
        rank: u8,
    }

    impl SpinLock {
        #[cfg(not(gt_model))]
        pub(crate) const fn new(rank: u8) -> Self {
            let held = AtomicBool::new(false);
            SpinLock { held, rank }
        }

        #[cfg(gt_model)]
        pub(crate) fn new(rank: u8) -> Self {
            let held = AtomicBool::new(false);
            SpinLock { held, rank }
        }

        #[inline(always)]
        fn take(&self) -> bool {
            // Acquire: what the last holder wrote is seen; he released.
            self.held
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        }

        #[inline(always)]
        pub(crate) fn lock(&self) {
            rank::enter(self.rank);
            if !self.take() {
                self.lock_slow();
            }
        }

        #[cold]
        fn lock_slow(&self) {
            let mut round = 0;
            while self.held.load(Ordering::Relaxed) || !self.take() {
                round += 1;
                if round < SPINS {
                    std::hint::spin_loop();
                } else if round - SPINS < YIELDS {
                    os_yield();
                } else {
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
            }
        }

        #[inline(always)]
        pub(crate) fn unlock(&self) {
            rank::leave(self.rank);
            // Release: the next holder sees what was written under the lock.
            self.held.store(false, Ordering::Release);
        }
    }
}

/// In the models every lock is a checked one.
#[cfg(gt_model)]
pub(crate) use checked::RawLock as SpinLock;
#[cfg(not(gt_model))]
pub(crate) use spin::SpinLock;
/// For its own models.
#[cfg(gt_loom)]
pub(crate) use spin::SpinLock as TrueSpinLock;

/// In the models the checker's own mutex stands for it, which has fewer steps. The one above
/// has models of its own (src/model/mutex.rs).
#[cfg(gt_model)]
mod checked {
    #[cfg(gt_loom)]
    use loom::sync::{Mutex, MutexGuard};
    #[cfg(gt_shuttle)]
    use shuttle::sync::{Mutex, MutexGuard};
    use std::cell::RefCell;

    /// The guard waits in a cell for the unlock.
    pub(crate) struct RawLock {
        guard: RefCell<Option<MutexGuard<'static, ()>>>,
        mutex: Box<Mutex<()>>,
    }

    // SAFETY: `guard` is touched only by the thread that holds `mutex`.
    unsafe impl Sync for RawLock {}
    // SAFETY: as above.
    unsafe impl Send for RawLock {}

    impl RawLock {
        pub(crate) fn new(_rank: u8) -> Self {
            RawLock {
                guard: RefCell::new(None),
                mutex: Box::new(Mutex::new(())),
            }
        }

        fn keep(&self, g: MutexGuard<'_, ()>) {
            // SAFETY: the boxed mutex outlives the guard, which `unlock` drops.
            let g: MutexGuard<'static, ()> = unsafe { std::mem::transmute(g) };
            *self.guard.borrow_mut() = Some(g);
        }

        pub(crate) fn lock(&self) {
            let g = self.mutex.lock().unwrap();
            self.keep(g);
        }

        pub(crate) fn lock_as(&self, _r: u8) {
            self.lock();
        }

        pub(crate) fn try_lock(&self) -> bool {
            match self.mutex.try_lock() {
                Ok(g) => {
                    self.keep(g);
                    true
                }
                Err(_) => false,
            }
        }

        pub(crate) fn try_lock_late(&self) -> bool {
            self.try_lock()
        }

        pub(crate) fn unlock(&self) {
            let g = self.guard.borrow_mut().take();
            drop(g);
        }

        pub(crate) fn unlock_as(&self, _r: u8) {
            self.unlock();
        }

        pub(crate) fn unlock_to_next(&self) {
            self.unlock();
        }

        pub(crate) fn give_way(&self, _r: u8) {
            self.unlock();
            self.lock();
        }
    }
}

#[cfg(gt_model)]
pub(crate) use checked::RawLock;
#[cfg(not(gt_model))]
pub(crate) use futex::RawLock;
#[cfg(gt_loom)]
pub(crate) use futex::RawLock as FutexLock;
