//! The lock of src/sync/lock.rs, futex (src/sync/futex.rs) and all: one holder at a time, who sees what the last
//! one wrote, and nobody waits for ever. (Elsewhere the checker's own mutex stands for it.)

use super::explore;
use crate::sync::{FutexLock, Guarded, rank};
use std::sync::Arc;

struct Counted {
    lock: FutexLock,
    /// Guarded by `lock`.
    n: Guarded<u32>,
}

// SAFETY: `n` is guarded by `lock`, which is what the models are about.
unsafe impl Sync for Counted {}

/// So many threads take the lock so often each.
fn take_turns(preemptions: usize, threads: u32, times: u32, f: fn(&FutexLock) -> bool) {
    explore(threads as usize, preemptions, false, move || {
        let c = Arc::new(Counted {
            lock: FutexLock::new(rank::SLAB),
            n: Guarded::new(0),
        });
        let work = move |c: &Counted| {
            let mut taken = 0;
            for _ in 0..times {
                if f(&c.lock) {
                    // SAFETY: the lock is held.
                    unsafe { *c.n.get() += 1 };
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
        // SAFETY: the lock is held.
        assert_eq!(unsafe { *c.n.get() }, taken);
        c.lock.unlock();
    });
}

fn lock(l: &FutexLock) -> bool {
    l.lock();
    true
}

#[test]
fn two_threads_take_turns() {
    take_turns(4, 2, 2, lock);
}

#[test]
fn three_threads_take_turns() {
    take_turns(2, 3, 1, lock);
}

#[test]
fn who_tries_gets_it_or_not() {
    take_turns(3, 3, 1, FutexLock::try_lock);
}
