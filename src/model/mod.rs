//! Models: the engine's own code, run by a model checker.
//!
//! loom (`make model`) tries all interleavings of two or three threads within a bound of
//! preemptions, and all values that a weakly ordered load may see. `pairs` and `triples` are
//! made from the table of operations in `ops`; the others are written by hand. shuttle
//! (`storm`) runs random programs of more threads and timers in random schedules, where loads
//! see what was stored last.
//!
//! For each ordering and each recheck that matters there is a mutation, a small wrong change,
//! with which a model must fail: `docs/orderings.md` and `make mutants`. A model that no
//! mutation can break proves nothing.

#[cfg(gt_loom)]
mod bubble;
#[cfg(gt_loom)]
mod chunks;
#[cfg(gt_loom)]
mod clock;
#[cfg(gt_loom)]
mod del_sync;
#[cfg(gt_loom)]
mod fd;
#[cfg(gt_loom)]
mod fork;
#[cfg(gt_loom)]
mod lives;
#[cfg(gt_loom)]
mod mutex;
#[cfg(gt_loom)]
mod nodes;
mod ops;
#[cfg(gt_loom)]
mod ownership;
#[cfg(gt_loom)]
mod pairs;
#[cfg(gt_loom)]
mod poller;
#[cfg(gt_loom)]
mod scan;
#[cfg(gt_loom)]
mod sleep;
#[cfg(gt_loom)]
mod status;
#[cfg(gt_loom)]
mod stopping;
#[cfg(gt_shuttle)]
mod storm;
#[cfg(gt_loom)]
mod triples;
#[cfg(gt_loom)]
mod waits;
#[cfg(gt_loom)]
mod wake;
#[cfg(gt_loom)]
mod walk;
mod world;

#[cfg(gt_loom)]
use loom_run::{Gate, explore, model, model_bounded, model_fenced, side_by_side};
use world::Mini;

#[cfg(gt_loom)]
mod loom_run {
    use super::Mini;
    use crate::sync::{Futex, Ordering};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// What one waits for that another one does.
    pub(super) struct Gate(Futex);

    impl Gate {
        pub(super) fn new() -> Self {
            Gate(Futex::new(0))
        }

        pub(super) fn open(&self) {
            self.0.store(1, Ordering::Release);
            self.0.wake_all();
        }

        pub(super) fn wait(&self) {
            while self.0.load(Ordering::Acquire) == 0 {
                self.0.wait(0, None);
            }
        }
    }

    /// Runs `f`, which has so many threads, in all interleavings with at most so many
    /// preemptions. `fenced`: sc_fence stands for something (src/sync/mod.rs).
    /// GT_PREEMPTIONS: so many more, where that ends within hours: with two threads.
    pub(super) fn explore(
        threads: usize,
        preemptions: usize,
        fenced: bool,
        f: impl Fn() + Send + Sync + 'static,
    ) {
        crate::sync::FENCES.set(fenced);
        let more = match threads {
            ..=2 => std::env::var("GT_PREEMPTIONS").map_or(0, |n| n.parse().unwrap()),
            _ => 0,
        };
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions + more);
        builder.max_branches = 10_000;
        let executions = Arc::new(AtomicU64::new(0));
        let counted = executions.clone();
        builder.check(move || {
            counted.fetch_add(1, Relaxed);
            f();
        });
        // models/run.sh adds them up.
        println!("loom: {} executions", executions.load(Relaxed));
    }

    /// Each in a thread of its own; what they return.
    pub(super) fn side_by_side<W, R, const N: usize>(
        w: &Arc<W>,
        threads: [fn(&W) -> R; N],
    ) -> [R; N]
    where
        W: Send + Sync + 'static,
        R: Send + 'static,
    {
        let handles = threads.map(|f| {
            let w = w.clone();
            loom::thread::spawn(move || f(&w))
        });
        handles.map(|h| h.join().unwrap())
    }

    fn run<const N: usize>(
        preemptions: usize,
        fenced: bool,
        setup: fn() -> Arc<Mini>,
        threads: [fn(&Mini) -> i64; N],
        end: fn(&Mini, [i64; N]),
    ) {
        explore(N, preemptions, fenced, move || {
            let mini = setup();
            let results = side_by_side(&mini, threads);
            end(&mini, results);
            mini.finish();
        });
    }

    /// Two or three threads on a Mini, at most three preemptions, then `end`.
    pub(super) fn model<const N: usize>(
        setup: fn() -> Arc<Mini>,
        threads: [fn(&Mini) -> i64; N],
        end: fn(&Mini, [i64; N]),
    ) {
        run(3, false, setup, threads, end);
    }

    /// The same with another bound of preemptions.
    pub(super) fn model_bounded<const N: usize>(
        preemptions: usize,
        setup: fn() -> Arc<Mini>,
        threads: [fn(&Mini) -> i64; N],
        end: fn(&Mini, [i64; N]),
    ) {
        run(preemptions, false, setup, threads, end);
    }

    /// The same as `model` for what relies on SeqCst accesses.
    pub(super) fn model_fenced<const N: usize>(
        setup: fn() -> Arc<Mini>,
        threads: [fn(&Mini) -> i64; N],
        end: fn(&Mini, [i64; N]),
    ) {
        run(3, true, setup, threads, end);
    }
}
