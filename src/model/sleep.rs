//! Sleeping and waking above the engine: the note of a P (src/procs/note.rs), and threads that
//! wait, in a bubble too (src/procs/blocked.rs). No wake is lost, each is taken once, and who was
//! woken sees what came before.

use super::explore;
use crate::error::{Error, Result};
use crate::procs::blocked::{Blocked, Sleeper, Waited};
use crate::procs::note::{Left, Note};
use crate::procs::slot::Slot;
use crate::sync::{AtomicBool, AtomicI64, Ordering, RawLock, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool as Flag, Ordering::SeqCst};

const SLEEPERS: usize = 2;

struct World {
    note: Note,
    slot: Slot,
    /// The virtual clock.
    clock: AtomicI64,
    blocked: Blocked,
    sleepers: [Sleeper; SLEEPERS],
    /// The queue in which they wait, and its lock.
    queue: RawLock,
    queued: [Flag; SLEEPERS],
    /// Who wakes the n-th time does this before; who was woken looks.
    done: [AtomicBool; SLEEPERS],
}

// SAFETY: what is not atomic is guarded.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

fn world() -> Arc<World> {
    let w = Arc::new(World {
        note: Note::new(),
        slot: Slot::new(),
        clock: AtomicI64::new(1),
        blocked: Blocked::new(),
        sleepers: std::array::from_fn(|_| Sleeper::new()),
        queue: RawLock::new(rank::CHAN),
        queued: std::array::from_fn(|_| Flag::new(true)),
        done: std::array::from_fn(|_| AtomicBool::new(false)),
    });
    w.slot.set_dead(false);
    w
}

impl World {
    fn do_something(&self, n: usize) {
        self.done[n].store(true, Ordering::Relaxed);
    }

    fn saw(&self, n: usize) -> bool {
        self.done[n].load(Ordering::Relaxed)
    }

    /// As P::notetsleep on the virtual clock, until so late.
    fn notetsleep(&self, until: i64) -> Result<bool> {
        let left = || match self.clock.load(Ordering::Relaxed) >= until {
            true => Left::Nothing,
            false => Left::Unknown,
        };
        self.note.sleep(|| self.slot.is_dead(), left)
    }

    fn wake_note(&self, n: usize) {
        self.do_something(n);
        self.note.wakeup();
    }

    /// As gt_p_free.
    fn p_free(&self) {
        self.slot.set_dead(true);
        self.note.look_again();
    }

    /// Takes it out of the queue, if it is there.
    fn unqueue(&self, n: usize) -> bool {
        self.queue.lock();
        let was = self.queued[n].swap(false, SeqCst);
        self.queue.unlock();
        was
    }

    /// As Waiter::block and its callers, and Bubble::block of one who does not drive; or the
    /// thread is in no bubble.
    fn wait(&self, n: usize, in_bubble: bool) -> Waited {
        let w = &self.sleepers[n];
        if in_bubble {
            self.blocked.lock();
            // SAFETY: the lock is held, and it waits next.
            unsafe { self.blocked.add(w) };
            self.blocked.unlock();
        }
        let waited = w.wait();
        let given_up = waited == Waited::Deadlock && self.unqueue(n);
        if waited == Waited::Deadlock && !given_up {
            w.wait_woken(); // somebody has taken it out of the queue
        }
        assert!(given_up || self.saw(n));
        // It returns, and what stood on its stack is something else's.
        // SAFETY: the checker looks whether somebody is still at it.
        unsafe { *w.linked.get() = None };
        waited
    }

    fn wake(&self, n: usize, in_bubble: bool) {
        self.do_something(n);
        if !self.unqueue(n) {
            return; // it has been given up
        }
        match in_bubble {
            true => self.blocked.wake(&self.sleepers[n]),
            false => self.sleepers[n].wake(),
        }
    }

    fn give_all_up(&self) {
        self.blocked.lock();
        // SAFETY: the lock is held.
        unsafe { self.blocked.give_all_up() };
        self.blocked.unlock();
    }

    fn nobody_is_blocked(&self) {
        self.blocked.lock();
        // SAFETY: the lock is held.
        assert_eq!(unsafe { self.blocked.count() }, 0);
        self.blocked.unlock();
    }
}

/// The threads' parts in all interleavings, then `end`, which gets what they returned.
fn model<const N: usize>(
    fenced: bool,
    preemptions: usize,
    threads: [fn(&World) -> i64; N],
    end: fn(&World, [i64; N]),
) {
    explore(N, preemptions, fenced, move || {
        let w = world();
        let handles = threads.map(|f| {
            let w = w.clone();
            loom::thread::spawn(move || f(&w))
        });
        let results = handles.map(|h| h.join().unwrap());
        end(&w, results);
    });
}

/// For a sleep that only a wake or the end of its P ends: 1 woken, -1 the P is dead.
fn sleep(w: &World) -> i64 {
    match w.notetsleep(100) {
        Ok(woken) => woken as i64,
        Err(e) => {
            assert_eq!(e, Error::Stale);
            -1
        }
    }
}

#[test]
fn model_wakeup_against_going_to_sleep() {
    model(
        true,
        3,
        [
            |w| {
                let woken = sleep(w);
                assert!(w.saw(0));
                woken
            },
            |w| {
                w.wake_note(0);
                0
            },
        ],
        |w, [woken, _]| {
            assert_eq!(woken, 1);
            w.clock.store(100, Ordering::Relaxed);
            assert_eq!(w.notetsleep(100), Ok(false), "one wake was taken twice");
        },
    );
}

/// Two wakes may be one: who takes them sees what both did, or the second one stays.
#[test]
fn model_two_wakeups_against_going_to_sleep() {
    model(
        true,
        3,
        [
            |w| {
                assert_eq!(sleep(w), 1);
                w.saw(0) as i64 + w.saw(1) as i64
            },
            |w| {
                w.wake_note(0);
                0
            },
            |w| {
                w.wake_note(1);
                0
            },
        ],
        |w, [seen, _, _]| {
            w.clock.store(100, Ordering::Relaxed);
            let more = w.notetsleep(100).unwrap();
            assert!(seen == 2 || more, "a wake was lost, or came too early");
        },
    );
}

/// One wake for two sleepers; the other one's sleep ends with its P.
#[test]
fn model_wakeup_of_one_of_two_sleepers() {
    model(
        true,
        2,
        [sleep, sleep, |w| {
            w.wake_note(0);
            w.p_free();
            0
        }],
        |w, [a, b, _]| {
            assert!(a + b <= 0, "one wake was taken twice");
            assert_eq!(sleep(w), -1);
        },
    );
}

#[test]
fn model_p_free_against_going_to_sleep() {
    model(
        true,
        3,
        [sleep, |w| {
            w.p_free();
            0
        }],
        |_, [ended, _]| assert_eq!(ended, -1),
    );
}

/// As Sched::set_time, which makes all look at the clock.
#[test]
fn model_set_time_against_going_to_sleep() {
    model(
        true,
        3,
        [sleep, |w| {
            w.clock.store(100, Ordering::Relaxed);
            w.note.look_again();
            0
        }],
        |_, [ended, _]| assert_eq!(ended, 0),
    );
}

/// A thread waits, and is woken.
#[test]
fn model_wake_against_waiting() {
    model(
        false,
        3,
        [
            |w| (w.wait(0, false) == Waited::Woken) as i64,
            |w| {
                w.wake(0, false);
                0
            },
        ],
        |_, [woken, _]| assert_eq!(woken, 1),
    );
}

/// The same for a thread of a bubble.
#[test]
fn model_wake_against_blocking_in_a_bubble() {
    model(
        false,
        3,
        [
            |w| (w.wait(0, true) == Waited::Woken) as i64,
            |w| {
                w.wake(0, true);
                0
            },
        ],
        |w, [woken, _]| {
            assert_eq!(woken, 1);
            w.nobody_is_blocked();
        },
    );
}

/// The bubble gives it up at the same time: it is told so, or woken, or both in this order.
#[test]
fn model_wake_against_giving_up() {
    model(
        false,
        3,
        [
            |w| {
                w.wait(0, true);
                0
            },
            |w| {
                w.wake(0, true);
                0
            },
            |w| {
                w.give_all_up();
                0
            },
        ],
        |w, _| w.nobody_is_blocked(),
    );
}

/// Two threads of a bubble block and are woken.
#[test]
fn model_two_blocking_in_a_bubble() {
    model(
        false,
        2,
        [
            |w| (w.wait(0, true) == Waited::Woken) as i64,
            |w| (w.wait(1, true) == Waited::Woken) as i64,
            |w| {
                w.wake(0, true);
                w.wake(1, true);
                0
            },
        ],
        |w, [a, b, _]| {
            assert_eq!((a, b), (1, 1));
            w.nobody_is_blocked();
        },
    );
}
