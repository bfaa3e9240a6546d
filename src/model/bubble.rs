//! Who moves a bubble's clock (src/procs/bubble.rs): somebody does whenever all are blocked, one at
//! a time, and nobody moves it before or gives up who would be woken.

use super::{Gate, explore};
use crate::engine::MAX_WHEN;
use crate::host::{Hooks, Host};
use crate::procs::blocked::{Sleeper, Waited};
use crate::procs::bubble::{Bubble, Clockwork};
use crate::sync::{Guarded, RawLock, os_yield, rank};
use loom::cell::UnsafeCell;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};

/// So many waits and timers there are in a model at most.
const WAITS: usize = 5;
const NEVER: i64 = 0;
const T0: i64 = 100;

type Call = fn(&World);

/// What a P's lock guards: when each timer is due, and passes under way.
struct Timers {
    when: [i64; WAITS],
    passes: u32,
}

/// A sched as small as can be. The checker does not see what is only there to be asked whether all is
/// right.
struct World {
    host: Host,
    bubble: Bubble,
    clock: AtomicI64,
    lock: RawLock,
    timers: Guarded<Timers>,
    /// Who waits for the n-th timer, or for somebody who wakes it.
    sleepers: [Sleeper; WAITS],
    /// Or what the n-th timer calls instead.
    calls: [Cell<Option<Call>>; WAITS],
    /// The n-th wait is under way.
    waits: [AtomicBool; WAITS],
    /// What threads wait for that others do.
    gates: [Gate; 2],
    /// What threads have come to, for others to look at.
    done: [AtomicBool; WAITS],
    /// Members that do not wait.
    at_work: AtomicI64,
    members: AtomicU32,
    /// Read by members at work, written by the one who moves the clock: loom looks for races.
    stands_still: UnsafeCell<()>,
    /// Somebody moves the clock.
    driven: AtomicBool,
}

// SAFETY: what is not atomic is guarded, or written before there are threads.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

loom::thread_local! {
    /// The thread; from OUTSIDER on: it is no member, and moves the clock as it likes.
    static ME: Cell<usize> = Cell::new(0);
}

const OUTSIDER: usize = 10;

impl Clockwork for World {
    fn host(&self) -> &Host {
        &self.host
    }

    fn me(&self) -> usize {
        ME.with(Cell::get)
    }

    fn now(&self) -> i64 {
        self.clock.load(SeqCst)
    }

    fn next(&self) -> i64 {
        self.with_timers(|t| {
            let armed = t.when.into_iter().filter(|&w| w != NEVER);
            armed.min().unwrap_or(MAX_WHEN)
        })
    }

    fn set_time(&self, now: i64) {
        if self.me() < OUTSIDER {
            self.stands_still.with_mut(|_| ());
            assert_eq!(self.at_work.load(SeqCst), 0, "a member is at work");
            assert!(self.members.load(SeqCst) > 0, "there is nobody");
        }
        self.clock.fetch_max(now, SeqCst);
    }

    fn run_due(&self) {
        assert!(!self.driven.swap(true, SeqCst), "two move the clock");
        self.pass(self.now());
        self.driven.store(false, SeqCst);
    }

    fn passes(&self) -> u32 {
        self.with_timers(|t| t.passes)
    }
}

impl World {
    fn with_timers<R>(&self, f: impl FnOnce(&mut Timers) -> R) -> R {
        self.lock.lock();
        // SAFETY: the lock is held.
        let r = f(unsafe { self.timers.get() });
        self.lock.unlock();
        r
    }

    /// As check_timers: what is due at this time is taken and called, with no lock held.
    fn pass(&self, now: i64) {
        let take = |t: &mut Timers| {
            let due = t.when.iter().position(|&w| w != NEVER && w <= now);
            due.inspect(|&n| t.when[n] = NEVER)
        };
        let mut next = self.with_timers(|t| {
            t.passes += 1;
            take(t)
        });
        while let Some(n) = next {
            if self.me() >= OUTSIDER {
                os_yield(); // it takes its time
            }
            match self.calls[n].take() {
                Some(f) => f(self),
                None => self.wake(n),
            }
            next = self.with_timers(take);
        }
        self.with_timers(|t| t.passes -= 1);
    }

    /// Somebody outside moves the clock.
    fn go_on(&self) {
        let next = self.next();
        if next != MAX_WHEN {
            self.set_time(next);
            self.pass(next);
        }
    }

    fn arm(&self, n: usize, when: i64) {
        self.with_timers(|t| t.when[n] = when);
    }

    /// Takes timer `n` off, if it is there.
    fn stop(&self, n: usize) -> bool {
        self.with_timers(|t| std::mem::replace(&mut t.when[n], NEVER) != NEVER)
    }

    /// Who is in wait `n` goes on.
    fn wake(&self, n: usize) {
        assert!(self.waits[n].swap(false, SeqCst), "nobody is there");
        self.at_work.fetch_add(1, SeqCst);
        self.bubble.unblock(&self.sleepers[n]);
    }

    /// As Waiter::block, by a member.
    fn block(&self, n: usize, commit: impl FnOnce() -> bool) -> Waited {
        self.waits[n].store(true, SeqCst);
        if commit() {
            self.at_work.fetch_sub(1, SeqCst);
            self.bubble.block(self, &self.sleepers[n]);
            let waited = self.sleepers[n].wait();
            if self.waits[n].swap(false, SeqCst) {
                self.at_work.fetch_add(1, SeqCst); // the bubble has ended the wait
            }
            return waited;
        }
        self.waits[n].store(false, SeqCst);
        Waited::Woken
    }

    /// As gt_sched_sleep, until then: whatever happens, its timer will wake it.
    fn sleep(&self, n: usize, until: i64) {
        let waited = self.block(n, || {
            self.arm(n, until);
            true
        });
        assert_eq!(waited, Waited::Woken, "given up");
        assert!(self.now() >= until, "woken early");
        self.work();
    }

    /// A wait for somebody who wakes it. False: there is nobody who could.
    fn receive(&self, n: usize) -> bool {
        self.block(n, || true) == Waited::Woken
    }

    /// As gt_synctest_wait. None: it was refused.
    fn quiet(&self, n: usize) -> Option<bool> {
        let mut free = false;
        let waited = self.block(n, || {
            free = self.bubble.ask(self, &self.sleepers[n]);
            free
        });
        free.then_some(waited == Waited::Woken)
    }

    fn join(&self) {
        self.bubble.enter();
        self.members.fetch_add(1, SeqCst);
        self.at_work.fetch_add(1, SeqCst);
    }

    fn leave(&self) {
        self.members.fetch_sub(1, SeqCst);
        self.at_work.fetch_sub(1, SeqCst);
        self.bubble.exit(self);
    }

    /// A member does something: time stands still.
    fn work(&self) {
        self.stands_still.with(|_| ());
    }

    fn do_something(&self, n: usize) {
        self.done[n].store(true, SeqCst);
    }

    fn has_done(&self, n: usize) -> bool {
        self.done[n].load(SeqCst)
    }
}

fn world(members: usize) -> Arc<World> {
    let w = Arc::new(World {
        host: Host::new(Hooks::default()),
        bubble: Bubble::new(),
        clock: AtomicI64::new(T0),
        lock: RawLock::new(rank::TIMERS),
        timers: Guarded::new(Timers {
            when: [NEVER; WAITS],
            passes: 0,
        }),
        sleepers: std::array::from_fn(|_| Sleeper::new()),
        calls: [const { Cell::new(None) }; WAITS],
        waits: [const { AtomicBool::new(false) }; WAITS],
        gates: [Gate::new(), Gate::new()],
        done: [const { AtomicBool::new(false) }; WAITS],
        at_work: AtomicI64::new(0),
        members: AtomicU32::new(0),
        stands_still: UnsafeCell::new(()),
        driven: AtomicBool::new(false),
    });
    for _ in 0..members {
        w.join();
    }
    w
}

/// Members do their parts and leave; others only do theirs. Then `end`.
fn model<const M: usize, const N: usize>(
    preemptions: usize,
    setup: fn(&World),
    members: [fn(&World); M],
    others: [fn(&World); N],
    end: fn(&World),
) {
    explore(M + N, preemptions, false, move || {
        let w = world(M);
        setup(&w);
        let mut handles = Vec::new();
        for (i, f) in members.into_iter().enumerate() {
            let w = w.clone();
            handles.push(loom::thread::spawn(move || {
                ME.with(|me| me.set(1 + i));
                f(&w);
                w.leave();
            }));
        }
        for (i, f) in others.into_iter().enumerate() {
            let w = w.clone();
            handles.push(loom::thread::spawn(move || {
                ME.with(|me| me.set(OUTSIDER + i));
                f(&w);
            }));
        }
        for h in handles {
            h.join().unwrap();
        }
        end(&w);
    });
}

/// Time goes on when both sleep, and stands still while one does not.
#[test]
fn model_bubble_of_two_sleepers() {
    model(
        3,
        |_| (),
        [
            |w| {
                w.sleep(0, T0 + 10);
                assert_eq!(w.now(), T0 + 10);
            },
            |w| {
                w.sleep(1, T0 + 20);
                assert_eq!(w.now(), T0 + 20);
            },
        ],
        [],
        |w| assert_eq!(w.now(), T0 + 20),
    );
}

/// One who is woken sleeps again before he who moves the clock comes back from waking him.
#[test]
fn model_bubble_of_one_who_sleeps_again() {
    model(
        3,
        |_| (),
        [
            |w| {
                w.sleep(0, T0 + 10);
                w.sleep(1, T0 + 20);
                assert_eq!(w.now(), T0 + 20);
            },
            |w| w.sleep(2, T0 + 30),
        ],
        [],
        |w| assert_eq!(w.now(), T0 + 30),
    );
}

/// Nobody will wake them: all are told at once, not one when the other one leaves.
#[test]
fn model_bubble_of_the_deadlocked() {
    model(
        3,
        |_| (),
        [
            |w| {
                assert!(!w.receive(0));
                w.gates[0].open();
                w.gates[1].wait();
            },
            |w| {
                assert!(!w.receive(1));
                w.gates[1].open();
                w.gates[0].wait();
            },
        ],
        [],
        |w| assert_eq!(w.now(), T0),
    );
}

/// The last one who does not wait leaves.
#[test]
fn model_bubble_that_one_leaves() {
    model(
        3,
        |_| (),
        [|w| w.sleep(0, T0 + 10), |_| ()],
        [],
        |w| assert_eq!(w.now(), T0 + 10),
    );
}

/// When all have left, the clock stays where it is.
#[test]
fn model_bubble_that_all_leave() {
    model(
        3,
        |w| {
            w.calls[0].set(Some(|_| ()));
            w.arm(0, T0 + 10);
        },
        [|_| (), |_| ()],
        [],
        |w| assert_eq!(w.now(), T0),
    );
}

/// Who waits for quiet gets it before time goes on; another one joins and leaves meanwhile.
#[test]
fn model_bubble_that_is_quiet() {
    model(
        2,
        |_| (),
        [
            |w| w.sleep(0, T0 + 10),
            |w| {
                assert_eq!(w.quiet(1), Some(true));
                assert_eq!(w.now(), T0);
            },
        ],
        [|w| {
            ME.with(|me| me.set(3));
            w.join();
            w.work();
            w.leave();
        }],
        |w| assert_eq!(w.now(), T0 + 10),
    );
}

/// But what is due comes first, and what that one does whom it wakes.
#[test]
fn model_bubble_that_is_quiet_when_nothing_is_due() {
    model(
        3,
        |_| (),
        [
            |w| {
                w.sleep(0, T0);
                w.do_something(0);
            },
            |w| {
                assert_eq!(w.quiet(1), Some(true));
                assert!(w.has_done(0), "it was due");
            },
        ],
        [],
        |w| assert_eq!(w.now(), T0),
    );
}

/// Two want quiet: one gets it, and so does the other, or is refused.
#[test]
fn model_bubble_in_which_two_want_quiet() {
    fn want(w: &World, n: usize) {
        match w.quiet(n) {
            Some(quiet) => {
                assert!(quiet, "given up");
                w.do_something(0);
            }
            None => (),
        }
    }
    model(
        3,
        |_| (),
        [|w| want(w, 0), |w| want(w, 1)],
        [],
        |w| assert!(w.has_done(0), "both were refused"),
    );
}

/// Who moves the clock waits in a callback that it has him run: then nobody does, and he is told.
#[test]
fn model_bubble_whose_driver_waits() {
    model(
        2,
        |w| {
            w.calls[1].set(Some(|w| {
                assert!(!w.receive(2));
                assert_eq!(w.quiet(3), Some(false));
            }));
            w.arm(1, T0 + 5);
        },
        [
            |w| {
                w.sleep(0, T0 + 10);
                assert_eq!(w.quiet(4), Some(true));
            },
            |_| (),
        ],
        [],
        |w| {
            assert_eq!(w.now(), T0 + 10);
            for n in [2, 3] {
                assert_eq!(
                    w.sleepers[n].wait(),
                    Waited::Deadlock,
                    "woken when it was gone"
                );
            }
        },
    );
}

/// Somebody outside moves the clock too, and takes the sleeper's timer.
#[test]
fn model_bubble_and_an_outsider() {
    model(
        3,
        |_| (),
        [|w| w.sleep(0, T0 + 10)],
        [World::go_on],
        |w| assert_eq!(w.now(), T0 + 10),
    );
}

/// The same, and the sleeper sleeps again. Another one waits until he has.
#[test]
fn model_bubble_and_an_outsider_who_wakes_one() {
    model(
        2,
        |_| (),
        [
            |w| {
                w.sleep(0, T0 + 10);
                w.sleep(1, T0 + 20);
                w.wake(2);
            },
            |w| {
                w.waits[2].store(true, SeqCst);
                assert!(w.receive(2), "given up");
            },
        ],
        [World::go_on],
        |w| assert_eq!(w.now(), T0 + 20),
    );
}
