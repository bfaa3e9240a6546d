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
//! | `BUBBLE` | a sched's bubble | which of its threads are blocked |
//! | `FD` | a P's fd, and the runtime's poller | what the timerfd is set to |
//! | `TIMERS` | a P's timers lock | its heap |
//! | `TIMERS2` | the second P's, in adopt only, by address | its heap |
//! | `TIMER` | a timer's status lock | the timer's fields |
//! | `SLAB` | the slab; the blocks of counters; the free slots of Ps | free nodes, chunks |
//! | `CHUNKS` | the checked build's set of chunks | which addresses are timers |
//!
//! Debug builds check it at each lock. No callback and no drop function is called with one
//! of them held, nor the hooks that may call back: wake_netpoller, preempt_stop,
//! current_context. The other hooks may be: alloc, free, nanotime, and osyield, acquirem and
//! releasem around a timer's lock.
//!
//! Why not std's Mutex: it must be free of poisoning (a callback may throw), can be
//! released in a fork child by a thread that did not take it, and is visible to TSan.

use crate::sync::os_yield;

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
    pub(crate) const TIMERS: u8 = 8;
    pub(crate) const TIMERS2: u8 = 9;
    pub(crate) const TIMER: u8 = 10;
    pub(crate) const SLAB: u8 = 11;
    #[cfg(feature = "checked")]
    pub(crate) const CHUNKS: u8 = 12;

    #[cfg(all(debug_assertions, not(gt_loom)))]
    thread_local! {
        static HELD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Notes that this thread takes a lock of rank `r`; panics when that breaks the order.
    #[inline(always)]
    pub(crate) fn enter(r: u8) {
        #[cfg(all(debug_assertions, not(gt_loom)))]
        {
            let _ = HELD.try_with(|h| {
                assert!(
                    h.get() >> r == 0,
                    "lock order: rank {r} taken with {:#b} held",
                    h.get()
                );
                h.set(h.get() | 1 << r);
            });
        }
        let _ = r;
    }

    /// Notes that this thread lets a lock of rank `r` go.
    #[inline(always)]
    pub(crate) fn leave(r: u8) {
        #[cfg(all(debug_assertions, not(gt_loom)))]
        {
            let _ = HELD.try_with(|h| h.set(h.get() & !(1 << r)));
        }
        let _ = r;
    }

    /// Panics in debug builds when this thread holds any lock: stands before callbacks and hooks.
    #[inline(always)]
    pub(crate) fn assert_none() {
        #[cfg(all(debug_assertions, not(gt_loom)))]
        {
            let _ =
                HELD.try_with(|h| assert!(h.get() == 0, "held over a callback: {:#b}", h.get()));
        }
    }
}

/// The feature `holds`, for the benchmark: it is told when a P's lock has been taken, and
/// before it is let go.
#[cfg(feature = "holds")]
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

#[cfg(not(gt_loom))]
mod imp {
    #[cfg(feature = "holds")]
    use super::holds;
    use super::{os_yield, rank};
    use std::sync::atomic::{AtomicU32, Ordering};

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    const WAITED: u32 = 2;
    const SPINS: u32 = 40;
    /// Yields until one who waited must have woken up.
    const PATIENCE: u32 = 200;

    /// A futex mutex: 0 free, 1 held, 2 held and somebody waits.
    pub(crate) struct RawLock {
        word: AtomicU32,
        rank: u8,
    }

    impl RawLock {
        pub(crate) const fn new(rank: u8) -> Self {
            RawLock {
                word: AtomicU32::new(FREE),
                rank,
            }
        }

        #[inline]
        pub(crate) fn lock(&self) {
            self.lock_as(self.rank);
        }

        /// Takes it under another rank than its own: the second P's lock of adopt.
        #[inline]
        pub(crate) fn lock_as(&self, r: u8) {
            rank::enter(r);
            // Acquire: what the last holder wrote is seen; it released.
            if self
                .word
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                self.lock_slow();
            }
            #[cfg(feature = "holds")]
            holds::note(r, true);
        }

        #[inline]
        pub(crate) fn try_lock(&self) -> bool {
            let ok = self
                .word
                .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
            if ok {
                rank::enter(self.rank);
                #[cfg(feature = "holds")]
                holds::note(self.rank, true);
            }
            ok
        }

        #[cold]
        fn lock_slow(&self) {
            for i in 0..SPINS {
                let w = self.word.load(Ordering::Relaxed);
                if w == FREE
                    && self
                        .word
                        .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                {
                    return;
                }
                if w == WAITED {
                    break;
                }
                if i < SPINS - 4 {
                    std::hint::spin_loop()
                } else {
                    os_yield()
                }
            }
            while self.word.swap(WAITED, Ordering::Acquire) != FREE {
                futex_wait(&self.word, WAITED);
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
            #[cfg(feature = "holds")]
            holds::note(r, false);
            rank::leave(r);
            // Release: the next holder sees what was written under the lock.
            let waited = self.word.swap(FREE, Ordering::Release) == WAITED;
            if waited {
                futex_wake(&self.word, 1);
            }
            waited
        }

        /// Lets it go and takes it again; who waits for it gets it first, if he wakes up in
        /// reasonable time.
        pub(crate) fn give_way(&self, r: u8) {
            if self.unlock_and_wake(r) {
                for _ in 0..PATIENCE {
                    if self.word.load(Ordering::Relaxed) != FREE {
                        break;
                    }
                    os_yield();
                }
            }
            self.lock_as(r);
        }
    }

    fn futex_wait(word: &AtomicU32, seen: u32) {
        // SAFETY: the word lives as long as `self`; the kernel only compares it.
        unsafe {
            let no_timeout = std::ptr::null::<libc::timespec>();
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                seen,
                no_timeout,
            );
        }
    }

    fn futex_wake(word: &AtomicU32, n: i32) {
        // SAFETY: waking on an address is harmless whoever waits there.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                n,
            );
        }
    }
}

#[cfg(gt_loom)]
mod imp {
    use std::cell::RefCell;

    /// loom's mutex behind the same interface; the guard waits in a cell for the unlock.
    pub(crate) struct RawLock {
        mutex: Box<loom::sync::Mutex<()>>,
        guard: RefCell<Option<loom::sync::MutexGuard<'static, ()>>>,
    }

    // SAFETY: `guard` is touched only by the thread that holds `mutex`.
    unsafe impl Sync for RawLock {}
    // SAFETY: as above.
    unsafe impl Send for RawLock {}

    impl RawLock {
        pub(crate) fn new(_rank: u8) -> Self {
            RawLock {
                mutex: Box::new(loom::sync::Mutex::new(())),
                guard: RefCell::new(None),
            }
        }

        fn keep(&self, g: loom::sync::MutexGuard<'_, ()>) {
            // SAFETY: the boxed mutex outlives the guard, which `unlock` drops.
            let g: loom::sync::MutexGuard<'static, ()> = unsafe { std::mem::transmute(g) };
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

        pub(crate) fn unlock(&self) {
            let g = self.guard.borrow_mut().take();
            drop(g);
        }

        pub(crate) fn unlock_as(&self, _r: u8) {
            self.unlock();
        }

        pub(crate) fn give_way(&self, _r: u8) {
            self.unlock();
            self.lock();
        }
    }

    #[allow(unused_imports)]
    use super::os_yield;
}

pub(crate) use imp::RawLock;
