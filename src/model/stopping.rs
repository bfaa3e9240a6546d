//! How the runtime comes to its stop (src/rt/stopping.rs): when a worker has ended, for nobody is in a
//! callback, nobody begins one.

use super::{explore, side_by_side};
use crate::rt_stopping::{Looks, Stopping, Turn, Turns};
use crate::sync::{Guarded, RawLock, os_yield, rank};
use loom::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

struct World {
    stopping: Stopping,
    /// As the runtime's, with its state.
    lock: RawLock,
    turns: Guarded<Turns>,
    /// What is true at the moment, whatever the threads may see of it.
    in_callbacks: AtomicU32,
    somebody_has_ended: AtomicBool,
    /// What callbacks write, and who stops the runtime reads.
    data: [UnsafeCell<u32>; 3],
}

// SAFETY: `turns` is guarded by `lock`, and the cells are there to be checked for races.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    fn look(&self, mine: &mut Looks) -> Turn {
        self.lock.lock();
        // SAFETY: the lock is held; there is no other reference.
        let turn = self.stopping.look(unsafe { self.turns.get() }, mine);
        self.lock.unlock();
        turn
    }

    fn callback(&self, n: usize) {
        self.in_callbacks.fetch_add(1, SeqCst);
        assert!(
            !self.somebody_has_ended.load(SeqCst),
            "a callback begins, and who could serve it has ended"
        );
        // SAFETY: the checker looks whether somebody else uses it.
        self.data[n].with_mut(|d| unsafe { *d += 1 });
        self.in_callbacks.fetch_sub(1, SeqCst);
    }

    /// As rt/worker.rs, some rounds of it. It has ended when it says so.
    fn worker(&self, n: usize, rounds: u32) -> bool {
        let mut looks = Looks::default();
        for _ in 0..rounds {
            if !self.stopping.begin_pass() {
                loop {
                    match self.look(&mut looks) {
                        Turn::Yours => break,
                        Turn::NotYet => os_yield(),
                        Turn::Over => {
                            assert_eq!(self.in_callbacks.load(SeqCst), 0, "it ends too early");
                            self.somebody_has_ended.store(true, SeqCst);
                            // SAFETY: all callbacks have ended.
                            self.data
                                .iter()
                                .for_each(|d| d.with(|d| assert!(unsafe { *d } < 9)));
                            return true;
                        }
                    }
                }
            }
            self.callback(n);
            self.stopping.end_pass();
        }
        false
    }
}

fn model<const N: usize>(preemptions: usize, is: bool, threads: [fn(&World) -> bool; N]) {
    explore(N, preemptions, false, move || {
        let w = Arc::new(World {
            stopping: Stopping::new(),
            lock: RawLock::new(rank::RUNTIME),
            turns: Guarded::new(Turns::new()),
            in_callbacks: AtomicU32::new(0),
            somebody_has_ended: AtomicBool::new(false),
            data: Default::default(),
        });
        if is {
            w.stopping.begin();
        }
        side_by_side(&w, threads);
    });
}

/// The stop comes while both are at work; the one who is the last to see it ends nevertheless.
#[test]
fn model_stop_against_workers() {
    model(
        3,
        false,
        [
            |w| {
                w.stopping.begin();
                w.worker(0, 1)
            },
            |w| w.worker(1, 2),
        ],
    );
}

/// One has begun before, one comes late, and one has just counted himself.
#[test]
fn model_stop_with_three_workers() {
    model(
        2,
        true,
        [|w| w.worker(0, 1), |w| w.worker(1, 1), |w| w.worker(2, 1)],
    );
}

/// Nobody is left; then one is counted for a moment while another one looks, as often as it takes to
/// have a turn.
#[test]
fn model_stop_seen_once() {
    model(
        2,
        true,
        [
            |w| w.worker(0, 1),
            |w| w.stopping.begin_pass(),
            |w| {
                let mut looks = Looks::default();
                assert!(!w.stopping.begin_pass());
                for _ in 0..3 {
                    match w.look(&mut looks) {
                        Turn::Yours => {
                            w.callback(2);
                            w.stopping.end_pass();
                            break;
                        }
                        Turn::NotYet => {}
                        Turn::Over => break,
                    }
                }
                false
            },
        ],
    );
}

impl World {
    /// How often one looks until it is his turn.
    fn looks(&self, mine: &mut Looks) -> u32 {
        for n in 1.. {
            match self.look(mine) {
                Turn::Yours => return n,
                Turn::NotYet => {}
                Turn::Over => break,
            }
        }
        unreachable!("somebody is in a callback");
    }
}

/// One who goes after his turn has ended it: the next one's turn comes as soon. While he is in it, it comes
/// later, but no more so than there are turns under way.
#[test]
fn model_stop_turns_and_who_goes() {
    model(
        0,
        false,
        [|w| {
            assert!(w.stopping.begin_pass());
            w.stopping.begin();
            let mut spares: [Looks; 8] = Default::default();
            let first = w.looks(&mut spares[0]);
            w.stopping.end_pass();
            w.lock.lock();
            // SAFETY: the lock is held; there is no other reference.
            unsafe { w.turns.get() }.leave(&spares[0]);
            w.lock.unlock();
            assert_eq!(w.looks(&mut spares[1]), first);
            let mut last = first;
            for (i, spare) in (1..).zip(&mut spares[2..]) {
                let n = w.looks(spare);
                assert_eq!(n, last + (i > 1) as u32);
                last = n;
            }
            true
        }],
    );
}
