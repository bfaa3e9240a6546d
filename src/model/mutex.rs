//! The locks of src/sync/lock.rs, futex (src/sync/futex.rs) and all: one holder at a time, who sees what
//! the last one wrote, and nobody waits for ever. (Elsewhere the checker's own mutex stands for them.)

use super::explore;
use crate::sync::{FutexLock, Guarded, TrueSpinLock, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

trait Lock: 'static {
    fn new() -> Self;
    fn lock(&self);
    fn unlock(&self);
}

impl Lock for FutexLock {
    fn new() -> Self {
        FutexLock::new(rank::SLAB)
    }
    fn lock(&self) {
        self.lock()
    }
    fn unlock(&self) {
        self.unlock()
    }
}

impl Lock for TrueSpinLock {
    fn new() -> Self {
        TrueSpinLock::new(rank::SLAB)
    }
    fn lock(&self) {
        self.lock()
    }
    fn unlock(&self) {
        self.unlock()
    }
}

struct Counted<L> {
    lock: L,
    /// Guarded by `lock`.
    n: Guarded<u32>,
}

// SAFETY: `n` is guarded by `lock`, which is what the models are about.
unsafe impl<L> Sync for Counted<L> {}
// SAFETY: as above.
unsafe impl<L> Send for Counted<L> {}

impl<L: Lock> Counted<L> {
    fn new() -> Arc<Self> {
        let (lock, n) = (L::new(), Guarded::new(0));
        Arc::new(Counted { lock, n })
    }

    /// How often it was taken; the caller has it.
    #[allow(clippy::mut_from_ref)]
    fn n(&self) -> &mut u32 {
        // SAFETY: the lock is held.
        unsafe { self.n.get() }
    }
}

/// So many threads take the lock so often each.
fn take_turns<L: Lock>(preemptions: usize, threads: u32, times: u32, f: fn(&L) -> bool) {
    explore(threads as usize, preemptions, false, move || {
        let c = Counted::<L>::new();
        let work = move |c: &Counted<L>| {
            let mut taken = 0;
            for _ in 0..times {
                if f(&c.lock) {
                    *c.n() += 1;
                    c.lock.unlock();
                    taken += 1;
                }
            }
            taken
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let c = c.clone();
                loom::thread::spawn(move || work(&c))
            })
            .collect();
        let mut taken = work(&c);
        taken += others.into_iter().map(|t| t.join().unwrap()).sum::<u32>();
        c.lock.lock();
        assert_eq!(*c.n(), taken);
        c.lock.unlock();
    });
}

fn lock<L: Lock>(l: &L) -> bool {
    l.lock();
    true
}

#[test]
fn two_threads_take_turns() {
    take_turns::<FutexLock>(4, 2, 2, lock);
}

#[test]
fn three_threads_take_turns() {
    take_turns::<FutexLock>(2, 3, 1, lock);
}

#[test]
fn who_tries_gets_it_or_not() {
    take_turns(3, 3, 1, FutexLock::try_lock);
}

#[test]
fn who_tries_late_gets_it_or_not() {
    take_turns(3, 3, 1, FutexLock::try_lock_late);
}

#[test]
fn two_spinners_take_turns() {
    take_turns::<TrueSpinLock>(4, 2, 2, lock);
}

/// Who gives way has let the other one in, in some of the interleavings; and has the lock again.
#[test]
fn who_gives_way_lets_another_in() {
    static LET_IN: AtomicU32 = AtomicU32::new(0);
    explore(2, 3, false, || {
        let c = Counted::<FutexLock>::new();
        c.lock.lock();
        let other = {
            let c = c.clone();
            loom::thread::spawn(move || {
                c.lock.lock();
                *c.n() += 1;
                c.lock.unlock();
            })
        };
        c.lock.give_way(rank::SLAB);
        LET_IN.fetch_add(*c.n(), SeqCst);
        c.lock.unlock();
        other.join().unwrap();
    });
    assert!(LET_IN.load(SeqCst) > 0, "nobody was let in");
}
