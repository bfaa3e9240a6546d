//! Free nodes (engine/cache.rs): a timer is made by its thread alone, with no lock, though a
//! caller with a stale id may be at its node; and when the sched is closed, who sums up the
//! timers in use misses none that is made or taken back at that moment.

use super::explore;
use crate::engine::{
    Arm, Block, FREED, Pool, Procs, State, Timer, TimerRef, Timers, cache, check_timers, deltimer,
    fast, modtimer, stop_for_good, timer_free, trim, verify_timer_heap,
};
use crate::error::Error;
use crate::host::{Hooks, Host};
use crate::sync::{AtomicU32, Ordering};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32 as Count, Ordering::SeqCst};
use std::sync::{Arc, Weak};

const THREADS: usize = 2;

/// What of a sched has to do with nodes. One P.
struct World {
    host: Host,
    tm: Timers,
    /// 1: the short paths are open.
    quick: AtomicU32,
    blocks: [Block; THREADS],
    timers: Box<[Timer]>,
    generations: Vec<Count>,
    /// How many nodes were used.
    pool: Pool<usize>,
    /// How often the last timer in use was given back after the sched was closed.
    gone: Count,
    /// There was none when it was closed.
    none_left: Count,
}

// SAFETY: timers are Sync; all else is atomic or the checker's.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

loom::thread_local! {
    /// The number of the thread's block.
    static ME: Cell<usize> = Cell::new(0);
}

/// The world as a thread sees it.
struct View(Arc<World>);

impl Procs for World {
    fn host(&self) -> &Host {
        &self.host
    }
    fn now(&self) -> i64 {
        1
    }
    fn of(p: &Timers) -> &World {
        // SAFETY: `world` has put it there; it outlives its P.
        unsafe { &*p.owner.cast() }
    }
    fn pick(&self, _last: u32) -> &Timers {
        &self.tm
    }
    fn wake(&self, _p: &Timers, _when: i64) {}
    fn set_mask(&self, _p: u32, _on: bool) {}
    fn hold(&self, _p: &Timers) {}
    fn unhold(&self, _p: &Timers) {}
    fn pass_done(&self, _p: &Timers) {}
    fn block(&self) -> &Block {
        &self.blocks[ME.with(Cell::get)]
    }
    fn quick_block(p: &Timers) -> Option<&Block> {
        Self::of(p).quick_block_here()
    }
    fn quick_block_here(&self) -> Option<&Block> {
        let open = self.quick.load(Ordering::Relaxed) == 1;
        open.then(|| self.block())
    }
    fn quick_p(p: &Timers) -> Option<&Timers> {
        Some(p)
    }
    fn verifying(&self) -> bool {
        false
    }
    fn generation(&self, t: TimerRef) -> u32 {
        self.generations[self.number(t)].load(SeqCst)
    }
    fn raise_generation(&self, t: TimerRef) {
        self.generations[self.number(t)].fetch_add(1, SeqCst);
    }
    fn give_back(&self, t: TimerRef) {
        t.refs.store(0, Ordering::Relaxed);
        self.pool.give_back(t, false, || {
            self.gone.fetch_add(1, SeqCst);
        });
    }
    fn give_back_to(&self, block: &Block, t: TimerRef) {
        cache::take_back(block, &self.pool, t);
    }
}

unsafe extern "C-unwind" fn called(_: *mut c_void, _: usize, _: i64) {}

fn world(nodes: usize) -> Arc<World> {
    let w = Arc::new_cyclic(|w: &Weak<World>| World {
        host: Host::new(Hooks::default()),
        tm: Timers::new(w.as_ptr().cast(), 0),
        quick: AtomicU32::new(1),
        blocks: std::array::from_fn(|_| Block::new(1, false, false)),
        timers: (0..nodes).map(|_| Timer::new()).collect(),
        generations: (0..nodes).map(|_| Count::new(1)).collect(),
        pool: Pool::new(0),
        gone: Count::new(0),
        none_left: Count::new(0),
    });
    for t in &w.timers {
        t.set_free();
        t.set_first_home(&w.tm);
    }
    w.tm.lock(&*w).dead = false;
    w
}

impl World {
    fn number(&self, t: TimerRef) -> usize {
        let mut all = self.timers.iter();
        all.position(|x| std::ptr::eq(x, t.as_ptr())).unwrap()
    }
}

impl View {
    fn t(&self, i: usize) -> TimerRef {
        // SAFETY: it lives as long as the World.
        unsafe { TimerRef::new(NonNull::from(&self.0.timers[i])) }
    }

    fn number(&self, t: TimerRef) -> usize {
        self.0.number(t)
    }

    /// gt_timer_new.
    fn make(&self) -> Result<TimerRef, Error> {
        let new = |used: &mut usize| {
            *used += 1;
            self.0.timers.get(*used - 1).map(|t| {
                // SAFETY: as in `t`.
                unsafe { TimerRef::new(NonNull::from(t)) }
            })
        };
        let arg = std::ptr::null_mut();
        if let Some(t) = cache::make(&*self.0, &self.0.tm, called, arg, 0) {
            return Ok(t);
        }
        let new = |used: &mut usize| new(used).ok_or(Error::NoMem);
        if let Some(b) = self.0.quick_block_here() {
            // SAFETY: this thread's.
            unsafe { b.cache.fill(|| self.0.pool.take_some(new)) }?;
            if let Some(t) = cache::make(&*self.0, &self.0.tm, called, arg, 0) {
                return Ok(t);
            }
        }
        let t = self.0.pool.take(new)?;
        t.init(&self.0.tm, called, arg, 0);
        Ok(t)
    }

    fn free(&self, t: TimerRef) {
        timer_free(&*self.0, t, None).unwrap();
    }

    fn arm(&self, t: TimerRef, when: i64) -> Result<bool, Error> {
        modtimer(&*self.0, t, None, None, &Arm::at(when, 0))
    }

    /// The same by the short path, if it can be done so.
    fn add(&self, t: TimerRef, when: i64) {
        fast::insert::<World>(t, &Arm::at(when, 0));
    }

    /// gt_sched_free, as Sched::close, when no pass is under way.
    fn close(&self) {
        self.0.quick.store(0, Ordering::Relaxed);
        for i in 0..self.0.pool.with(|used| *used) {
            stop_for_good(&*self.0, self.t(i));
        }
        self.0.tm.pass_by();
        self.sum_up();
    }

    fn sum_up(&self) {
        let mut live = 0u64;
        for b in &self.0.blocks {
            live = live.wrapping_add(b.cache.live());
            b.cache.forget_live();
        }
        let mut left = 0;
        self.0.pool.close(live, || left = 1);
        self.0.none_left.store(1 - left, SeqCst);
    }

    /// Frees what is left, after the closing. The last one is told, once.
    fn wind_up(&self, left: &[usize]) {
        assert_eq!(self.0.none_left.load(SeqCst), 0);
        for &i in left {
            assert_eq!(
                self.0.gone.load(SeqCst),
                0,
                "gone, though timers are in use"
            );
            self.free(self.t(i));
            trim(&*self.0, &self.0.tm);
        }
        assert_eq!(self.0.gone.load(SeqCst), 1, "the sched is never destroyed");
        assert_eq!(self.0.pool.in_use(), 0);
    }
}

/// Two threads, each with its view, beginning from `before`, and the first one again at the end.
fn model(before: fn(&View), a: fn(&View), b: fn(&View), end: fn(&View)) {
    model_of((2, false), before, a, b, end);
}

/// With so many nodes. `fenced`: sc_fence stands for something.
fn model_of(
    (nodes, fenced): (usize, bool),
    before: fn(&View),
    a: fn(&View),
    b: fn(&View),
    end: fn(&View),
) {
    explore(2, 3, fenced, move || {
        let w = world(nodes);
        before(&View(w.clone()));
        let run = |f: fn(&View), me| {
            let w = w.clone();
            loom::thread::spawn(move || {
                ME.with(|m| m.set(me));
                f(&View(w))
            })
        };
        let threads = [run(a, 0), run(b, 1)];
        for t in threads {
            t.join().unwrap();
        }
        end(&View(w.clone()));
        w.tm.release_heap(&w.host);
    });
}

/// Node 0 was used, and is the first of the thread's own.
fn used_before(v: &View) {
    let t = v.make().unwrap();
    v.free(t);
}

fn make_node_0(v: &View) {
    let t = v.make().unwrap();
    assert_eq!(v.number(t), 0);
}

/// He may hold the node while it gets its new owner: whom that does not concern.
#[test]
fn model_new_against_a_stale_id() {
    model(
        used_before,
        |v| {
            make_node_0(v);
            v.arm(v.t(0), 100).unwrap();
        },
        |v| assert_eq!(deltimer(&*v.0, v.t(0), Some(1)), Err(Error::Stale)),
        |v| assert_eq!(deltimer(&*v.0, v.t(0), Some(2)), Ok(true), "it is armed"),
    );
}

/// A program may ask for any id: this one becomes right at that moment.
#[test]
fn model_new_against_a_guessed_id() {
    model(
        used_before,
        make_node_0,
        |v| {
            let stopped = deltimer(&*v.0, v.t(0), Some(2));
            assert!(matches!(stopped, Err(Error::Stale) | Ok(false)));
        },
        |v| v.free(v.t(0)),
    );
}

/// A freed timer's entry is taken off: again its status word is written without its lock.
#[test]
fn model_insertion_in_its_place_against_a_stale_id() {
    model(
        one_freed_in_heap,
        |v| {
            v.add(v.t(1), 200);
            let _ = v.make();
        },
        |v| assert_eq!(deltimer(&*v.0, v.t(0), Some(1)), Err(Error::Stale)),
        |v| {
            // Else the short path was not open: the other one held the timer.
            if v.0.tm.lock(&*v.0).heap.get(0).t == v.t(1) {
                assert_eq!(v.t(0).flags() & FREED, 0, "it has a new owner");
                assert_eq!(v.t(0).state(), State::Removed);
            }
        },
    );
}

/// Whoever frees it has been seen doing so, or its place is not taken.
#[test]
fn model_insertion_against_the_free() {
    model(
        |v| {
            v.make().unwrap();
            v.arm(v.t(0), 100).unwrap();
            v.make().unwrap();
        },
        |v| v.add(v.t(1), 200),
        |v| v.free(v.t(0)),
        |v| {
            trim(&*v.0, &v.0.tm);
            assert_eq!(v.t(0).refs.load(Ordering::Relaxed), 0, "it was given back");
        },
    );
}

/// Two have fired in a heap of 24, and what took the minimum's place lags: an entry at 100 above
/// those of 20 to 60, one of which came last, and stands above one at 70. Timer 24 is not armed.
fn one_lags(v: &View) {
    let mut keys = [600; 24];
    keys[..9].copy_from_slice(&[10, 15, 500, 500, 500, 60, 20, 30, 50]);
    keys[21..].copy_from_slice(&[70, 100, 40]);
    for key in keys {
        let t = v.make().unwrap();
        v.arm(t, key).unwrap();
    }
    v.make().unwrap();
    assert_eq!(check_timers(&*v.0, &v.0.tm, 15).ran, 2);
    assert_eq!(v.0.tm.lock(&*v.0).heap.lagging(), 1);
}

/// It is freed at any moment; who takes its place does not go past what lags.
#[test]
fn model_insertion_where_one_lags_against_the_free() {
    model_of(
        (25, false),
        one_lags,
        |v| v.add(v.t(24), 25),
        |v| v.free(v.t(23)),
        |v| {
            let mut h = v.0.tm.lock(&*v.0);
            assert_eq!(verify_timer_heap(&mut h), None);
        },
    );
}

/// Two are stopped while it is inserted: one too many, and who stops them perhaps finds the P
/// locked.
#[test]
fn model_insertion_in_its_place_against_two_stops() {
    model_of(
        (4, true),
        |v| {
            for when in [10, 20, 100] {
                let t = v.make().unwrap();
                v.arm(t, when).unwrap();
            }
            v.free(v.t(2));
            v.make().unwrap();
        },
        |v| v.add(v.t(3), 200),
        |v| {
            for i in 0..2 {
                deltimer(&*v.0, v.t(i), None).unwrap();
            }
        },
        |v| assert!(!v.0.tm.owes_sweep(), "nobody swept"),
    );
}

/// Timer 0 is freed, and its entry still there; timer 1 is not armed.
fn one_freed_in_heap(v: &View) {
    let t = v.make().unwrap();
    v.arm(t, 100).unwrap();
    v.free(t);
    v.make().unwrap();
}

/// Who sums up waits for whom holds the P's lock; who gets it later goes to the slab.
#[test]
fn model_close_against_an_insertion() {
    model(
        one_freed_in_heap,
        |v| v.add(v.t(1), 200),
        View::close,
        |v| {
            trim(&*v.0, &v.0.tm);
            v.wind_up(&[1]);
        },
    );
}

fn two_timers(v: &View) {
    v.make().unwrap();
    v.make().unwrap();
}

/// The same with the timer's lock, on the short path.
#[test]
fn model_close_against_a_short_free() {
    model(
        two_timers,
        |v| {
            if fast::free_removed::<World>(v.t(0)).is_none() {
                v.free(v.t(0)); // it was shut down before
            }
        },
        View::close,
        |v| v.wind_up(&[1]),
    );
}

/// The same with the timer's lock.
#[test]
fn model_close_against_a_free() {
    model(
        two_timers,
        |v| v.free(v.t(0)),
        View::close,
        |v| v.wind_up(&[1]),
    );
}

/// The last two are freed while it is summed up: one of them is the last.
#[test]
fn model_close_against_the_last_free() {
    model(
        make_node_0,
        |v| v.free(v.t(0)),
        View::close,
        |v| {
            // If it came before the sum, that says so; see Sched::sum_up_timers.
            let gone = v.0.gone.load(SeqCst) + v.0.none_left.load(SeqCst);
            assert_eq!(gone, 1, "the sched is destroyed once");
        },
    );
}

/// A thread ends, and another one has its nodes.
#[test]
fn model_nodes_of_a_thread_that_ends() {
    model(
        used_before,
        |v| {
            // SAFETY: this thread's.
            let nodes = unsafe { v.0.block().cache.take_all() };
            v.0.pool.give_all(nodes);
        },
        |v| match v.make() {
            Ok(t) => v.arm(t, 100).map(drop).unwrap(),
            Err(e) => assert_eq!(e, Error::NoMem, "the nodes are another thread's still"),
        },
        |_| (),
    );
}
