//! Who waits for whom in gt_deltimer_sync (src/procs/wait.rs): nobody waits for ever, and nobody is
//! told GT_EDEADLK whose wait would end.

use super::world::{Mini, set_context, when_it_waits};
use super::{Gate, explore};
use crate::engine::check_timers;
use crate::error::Error;
use crate::procs::wait::Waiters;
use crate::sync::os_yield;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// So many timers, each of which may wait for another one when it is called.
const TIMERS: usize = 3;

/// What a wait returned.
const NOT_YET: i64 = 0;
const OVER: i64 = 1;
const NEVER_ENDS: i64 = -1;

struct World {
    mini: Arc<Mini>,
    waiters: Waiters<Mini>,
    /// What each timer's call was told; and at TIMERS who waits outside of calls.
    told: [AtomicI64; TIMERS + 1],
    /// Calls that have ended.
    ended: [AtomicI64; TIMERS],
}

fn new_world() -> Arc<World> {
    Arc::new(World {
        mini: Mini::new(TIMERS, false),
        waiters: Waiters::new(),
        told: std::array::from_fn(|_| AtomicI64::new(NOT_YET)),
        ended: std::array::from_fn(|_| AtomicI64::new(0)),
    })
}

impl World {
    /// Arms timer `i` on a P, for a call that does this.
    fn arm(self: &Arc<Self>, p: usize, i: usize, f: impl FnOnce(&World) + Send + 'static) {
        let w = Arc::downgrade(self);
        self.mini.then(i, move |_| {
            let w = w.upgrade().unwrap();
            f(&w);
            w.ended[i].fetch_add(1, SeqCst);
        });
        assert_eq!(self.mini.arm_on(p, i, 100), Ok(false));
    }

    /// A pass by this context.
    fn pass(&self, context: usize, p: usize) {
        set_context(context);
        check_timers(&*self.mini, self.mini.p_of(p), 100);
    }

    /// gt_deltimer_sync of timer `of`, by timer `me`'s call, or by who is no call. Who is told
    /// that it never ends is right: while he goes on, those whom he would have waited for do not.
    fn sync(&self, me: usize, of: usize) {
        let told = match self
            .waiters
            .deltimer_sync(&*self.mini, self.mini.t(of), None)
        {
            Ok(_) => OVER,
            Err(Error::Deadlk) => NEVER_ENDS,
            Err(e) => panic!("{e:?}"),
        };
        if told == NEVER_ENDS {
            let ended = self.ended[of].load(SeqCst);
            os_yield();
            assert_eq!(self.told[of].load(SeqCst), NOT_YET, "it would have ended");
            assert_eq!(self.ended[of].load(SeqCst), ended, "it would have ended");
        }
        self.told[me].store(told, SeqCst);
    }

    fn finish(&self) {
        assert_eq!(self.mini.check(), 0);
        self.mini.finish();
    }

    fn told(&self) -> Vec<i64> {
        self.told.iter().map(|t| t.load(SeqCst)).collect()
    }
}

type Thread = fn(&Arc<World>);

/// The threads' parts in all interleavings, then `end`.
fn model<const N: usize>(
    preemptions: usize,
    setup: fn(&Arc<World>),
    threads: [Thread; N],
    end: fn(&World),
) {
    explore(N, preemptions, false, move || {
        let w = new_world();
        setup(&w);
        let handles = threads.map(|f| {
            let w = w.clone();
            loom::thread::spawn(move || f(&w))
        });
        for h in handles {
            h.join().unwrap();
        }
        end(&w);
        w.finish();
    });
}

fn count(told: &[i64], what: i64) -> usize {
    told.iter().filter(|&&t| t == what).count()
}

/// Who waits, outside of calls.
const OUTSIDE: usize = TIMERS;
/// A context that is not known.
const UNKNOWN: usize = 0;

/// A call waits for its own timer.
#[test]
fn model_sync_of_oneself() {
    model(
        3,
        |w| w.arm(0, 0, |w| w.sync(0, 0)),
        [|w| w.pass(1, 0)],
        |w| assert_eq!(w.told()[0], NEVER_ENDS),
    );
}

/// It is not, for one whose context is not known.
#[test]
fn model_sync_of_a_call() {
    model(
        3,
        |w| w.arm(0, 0, |_| os_yield()),
        [
            |w| w.pass(UNKNOWN, 0),
            |w| {
                set_context(UNKNOWN);
                w.sync(OUTSIDE, 0);
                w.mini.use_argument(0);
            },
        ],
        |w| assert_eq!(w.told()[OUTSIDE], OVER),
    );
}

/// Two calls wait for each other.
#[test]
fn model_sync_of_each_other() {
    model(
        2,
        |w| {
            w.arm(0, 0, |w| w.sync(0, 1));
            w.arm(1, 1, |w| w.sync(1, 0));
        },
        [|w| w.pass(1, 0), |w| w.pass(2, 1)],
        |w| assert!(count(&w.told(), NEVER_ENDS) <= 1, "both were told"),
    );
}

/// Three do, in a ring.
#[test]
fn model_sync_in_a_ring() {
    model(
        1,
        |w| {
            w.arm(0, 0, |w| w.sync(0, 1));
            w.arm(1, 1, |w| w.sync(1, 2));
            w.arm(1, 2, |w| w.sync(2, 0));
        },
        [|w| w.pass(1, 0), |w| w.pass(2, 1), |w| w.pass(3, 1)],
        |w| assert!(count(&w.told(), NEVER_ENDS) <= 1, "more than one was told"),
    );
}

/// One waits for a call that waits for another one, which ends when the call has looked with the one
/// in the list. None of them would wait for ever. Whose contexts these are, in this order.
fn line(contexts: [usize; 3]) {
    explore(3, 1, false, move || {
        let w = new_world();
        let gate = || Arc::new(Gate::new());
        let (called, third_is_called, listed, looked, ended) =
            (gate(), gate(), gate(), gate(), gate());
        w.arm(0, 0, {
            let gates = (called.clone(), third_is_called.clone(), listed.clone());
            let (looked, ended) = (looked.clone(), ended.clone());
            move |w| {
                gates.0.open();
                gates.1.wait();
                gates.2.wait();
                when_it_waits(move || looked.open());
                w.sync(0, 1);
                ended.open();
            }
        });
        w.arm(1, 1, move |_| {
            third_is_called.open();
            looked.wait();
        });
        let [first, second, third] = contexts;
        let (one, two, three) = (w.clone(), w.clone(), w.clone());
        let threads = [
            loom::thread::spawn(move || {
                set_context(first);
                called.wait();
                when_it_waits(move || {
                    listed.open();
                    ended.wait();
                });
                one.sync(OUTSIDE, 0);
            }),
            loom::thread::spawn(move || two.pass(second, 0)),
            loom::thread::spawn(move || three.pass(third, 1)),
        ];
        for t in threads {
            t.join().unwrap();
        }
        assert_eq!(w.told(), [OVER, NOT_YET, NOT_YET, OVER]);
        w.finish();
    });
}

#[test]
fn model_sync_in_a_line() {
    line([3, 1, 2]);
}

/// The first one's context and the third one's are not known, and so are not the same.
#[test]
fn model_sync_in_a_line_of_unknown_contexts() {
    line([UNKNOWN, 1, UNKNOWN]);
}

/// The timer that a call waits for is armed again when that wait is over, and its next call waits
/// for the first one.
#[test]
fn model_sync_of_one_that_is_armed_again() {
    model(
        1,
        |w| {
            w.arm(0, 0, |w| w.sync(0, 1));
            w.arm(1, 1, |_| os_yield());
        },
        [
            |w| w.pass(1, 0),
            |w| {
                w.pass(2, 1);
                os_yield();
                w.arm(1, 1, |w| w.sync(1, 0));
                w.pass(2, 1);
            },
        ],
        |w| assert!(count(&w.told(), NEVER_ENDS) <= 1, "both were told"),
    );
}

/// A pass goes on under another name: a call of it has moved to another thread. The next call and one
/// of another pass wait for each other.
#[test]
fn model_sync_of_a_call_that_has_moved() {
    model(
        2,
        |w| {
            w.arm(0, 2, |_| set_context(3));
            w.arm(0, 0, |w| w.sync(0, 1));
            w.arm(1, 1, |w| w.sync(1, 0));
        },
        [|w| w.pass(1, 0), |w| w.pass(2, 1)],
        |w| assert!(count(&w.told(), NEVER_ENDS) <= 1, "both were told"),
    );
}
