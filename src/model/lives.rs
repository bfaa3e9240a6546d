//! How long Ps and scheds live (src/procs/slot.rs, lifetime.rs): no wake hook uses a P that is
//! freed, no slot is used again while somebody holds it, and a sched is destroyed once, by the last
//! one, who sees what all others did with it.

use super::{explore, side_by_side};
use crate::engine::{Pool, Timer, TimerRef};
use crate::host::{Hooks, Host};
use crate::procs::bound::Bound;
use crate::procs::lifetime::Lifetime;
use crate::procs::slot::{FreeSlots, Slot};
use crate::sync::{AtomicU64, Ordering, RawLock, rank};
use loom::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32 as Count, Ordering::SeqCst};

const PS: usize = 2;

/// A place in the table of Ps.
struct Place {
    slot: Slot,
    /// What a wake hook reads of a P, and gt_p_free writes when it has waited for the hooks.
    used_by_hooks: UnsafeCell<()>,
    bound: Bound,
    /// What the thread does that is bound to it.
    used_by_bound: UnsafeCell<()>,
    /// Owners that it has had.
    owners: Count,
}

/// What of a sched has to do with its life. What is only counted here is counted with std's
/// atomics, which the checker does not see.
struct World {
    host: Host,
    registry: RawLock,
    places: [Place; PS],
    free: FreeSlots,
    life: Lifetime,
    pool: Pool<usize>,
    timers: Vec<Timer>,
    /// Timers in use that the thread of a pass has counted for itself (engine/cache.rs).
    counted: AtomicU64,
    /// The sched's memory: read by whoever uses it, written by who destroys it.
    memory: UnsafeCell<()>,
    destroyed: Count,
    /// Wake hooks that were called.
    hooks: Count,
}

// SAFETY: the cells are there to be checked for races; all else is Sync.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

/// A sched with this many live Ps, and this many timers in use.
fn world(ps: usize, timers: usize) -> Arc<World> {
    let w = Arc::new(World {
        host: Host::new(Hooks::default()),
        registry: RawLock::new(rank::REGISTRY),
        places: std::array::from_fn(|_| Place {
            slot: Slot::new(),
            used_by_hooks: UnsafeCell::new(()),
            bound: Bound::new(),
            used_by_bound: UnsafeCell::new(()),
            owners: Count::new(0),
        }),
        free: FreeSlots::new(),
        life: Lifetime::new(),
        pool: Pool::new(0),
        timers: (0..timers + 1).map(|_| Timer::new()).collect(),
        counted: AtomicU64::new(0),
        memory: UnsafeCell::new(()),
        destroyed: Count::new(0),
        hooks: Count::new(0),
    });
    for place in &w.places[..ps] {
        w.open(place);
        place.slot.set_dead(false);
    }
    for t in &w.timers[..timers] {
        w.pool.take(|_| Ok(w.timer(t))).unwrap();
    }
    w
}

impl World {
    fn timer(&self, t: &Timer) -> TimerRef {
        // SAFETY: it lives as long as the World.
        unsafe { TimerRef::new(NonNull::from(t)) }
    }

    /// Whoever uses the sched's memory.
    fn touch(&self) {
        assert_eq!(
            self.destroyed.load(SeqCst),
            0,
            "used, though it is destroyed"
        );
        self.memory.with(|_| ());
    }

    fn open(&self, place: &Place) {
        self.life.add_open();
        place.owners.fetch_add(1, SeqCst);
        place.slot.begin();
        place.bound.clear();
    }

    /// As Sched::destroy_if.
    fn destroy_if(&self, last: bool) {
        if last {
            assert_eq!(self.destroyed.fetch_add(1, SeqCst), 0, "destroyed twice");
            self.memory.with_mut(|_| ());
        }
    }

    /// As Sched::leave_open.
    fn leave_open(&self) {
        let sum_up = || {
            self.touch();
            let more = self.counted.load(Ordering::Relaxed);
            self.pool.close(more, || self.life.add_ref());
        };
        self.destroy_if(self.life.leave_open(sum_up));
    }

    /// As Sched::unhold.
    fn unhold(&self, p: usize) {
        if self.free.unhold(p as u32, &self.places[p].slot) {
            self.leave_open();
        }
    }

    /// A wake hook is called for a P, by one who was there when it was alive.
    fn wake(&self, p: usize) {
        let place = &self.places[p];
        place.slot.call_hook(|| {
            place.used_by_hooks.with(|_| ());
            self.hooks.fetch_add(1, SeqCst);
        });
    }

    /// gt_p_new on a slot that was used before. Returns the P.
    fn p_new(&self) -> Option<usize> {
        self.registry.lock();
        let p = self.free.take(|i| &self.places[i as usize].slot);
        if let Some(p) = p {
            let place = &self.places[p as usize];
            self.open(place);
            place.slot.set_dead(false);
        }
        self.registry.unlock();
        p.map(|p| p as usize)
    }

    /// gt_p_new on a slot that was used before, when there is no memory for its heap.
    fn p_new_fails(&self) {
        self.registry.lock();
        if let Some(p) = self.free.take(|i| &self.places[i as usize].slot) {
            self.open(&self.places[p as usize]);
            self.unhold(p as usize);
        }
        self.registry.unlock();
    }

    fn p_free(&self, p: usize) {
        let place = &self.places[p];
        self.registry.lock();
        place.slot.set_dead(true);
        self.registry.unlock();
        place.slot.wait_for_hooks(&self.host);
        place.used_by_hooks.with_mut(|_| ());
        place.bound.clear();
        if self.free.give_up(p as u32, &place.slot) {
            self.leave_open();
        }
    }

    /// gt_sched_free; the timers of a closed sched stay in use until they are freed.
    fn close(&self) {
        self.registry.lock();
        assert!(!self.life.close(), "closed twice");
        self.registry.unlock();
        self.leave_open();
    }

    /// The holder of a P uses it, then gives it back.
    fn use_held(&self, p: usize) {
        let owners = self.places[p].owners.load(SeqCst);
        self.touch();
        loom::thread::yield_now();
        assert_eq!(
            self.places[p].owners.load(SeqCst),
            owners,
            "the slot was used again"
        );
        self.unhold(p);
    }

    /// The same; a callback makes the last timer of the World.
    fn make_held(&self, p: usize) {
        self.counted.store(1, Ordering::Relaxed);
        self.use_held(p);
    }

    /// A pass of one who has the handle.
    fn pass(&self, p: usize) {
        assert!(self.places[p].slot.hold());
        self.use_held(p);
    }

    /// A pass of one who found the P in a list of the live ones, perhaps an old one. He keeps
    /// the sched.
    fn steal(&self, p: usize) -> bool {
        let held = self.places[p].slot.try_hold();
        if held {
            self.use_held(p);
        }
        held
    }

    /// gt_timer_free of a timer that is in no heap.
    fn timer_free(&self, t: usize) {
        self.touch();
        let mut last = false;
        let t = self.timer(&self.timers[t]);
        self.pool.give_back(t, false, || last = true);
        if last {
            self.destroy_if(self.life.unref());
        }
    }

    /// A call that keeps the sched, whatever `f` frees.
    fn keeping(&self, f: impl FnOnce()) {
        self.life.add_ref();
        f();
        self.touch();
        self.destroy_if(self.life.unref());
    }

    fn is_destroyed(&self) -> bool {
        self.destroyed.load(SeqCst) == 1
    }

    /// All slots that are free, once each.
    fn free_slots(&self) -> Vec<usize> {
        std::iter::from_fn(|| self.p_new()).take(2 * PS).collect()
    }
}

/// The threads' parts in all interleavings, then `end`.
fn model<const N: usize>(
    fenced: bool,
    preemptions: usize,
    setup: fn() -> Arc<World>,
    threads: [fn(&World); N],
    end: fn(&World),
) {
    explore(N, preemptions, fenced, move || {
        let w = setup();
        side_by_side(&w, threads);
        end(&w);
    });
}

/// The hook is called for a P that lives until it has returned, or not at all.
#[test]
fn model_wake_hook_against_p_free() {
    model(
        true,
        3,
        || world(1, 0),
        [|w| w.wake(0), |w| w.p_free(0)],
        |w| assert!(w.places[0].slot.is_dead()),
    );
}

/// Two hooks: the one that ends first says nothing of the other.
#[test]
fn model_two_wake_hooks_against_p_free() {
    model(
        true,
        2,
        || world(1, 0),
        [|w| w.wake(0), |w| w.wake(0), |w| w.p_free(0)],
        |w| assert!(w.places[0].slot.is_dead()),
    );
}

/// The slot is another P's when the hook comes: it is called for that one.
#[test]
fn model_wake_hook_against_p_free_and_p_new() {
    model(
        true,
        3,
        || world(1, 0),
        [
            |w| w.wake(0),
            |w| {
                w.p_free(0);
                assert_eq!(w.p_new(), Some(0));
            },
        ],
        |w| assert!(!w.places[0].slot.is_dead()),
    );
}

/// Two threads are bound to a P, one after the other: the second one sees what the first one did.
#[test]
fn model_bound_one_after_the_other() {
    fn use_it(w: &World, token: u64) {
        let place = &w.places[0];
        if place.bound.bind(token) {
            place.used_by_bound.with_mut(|_| ());
            assert!(place.bound.is(token));
            place.bound.unbind(token);
        }
    }
    model(
        false,
        3,
        || world(1, 0),
        [|w| use_it(w, 1), |w| use_it(w, 2)],
        |w| assert!(w.places[0].bound.is(0)),
    );
}

/// A thread lets its P go, which was freed meanwhile, and whose slot has another P, to which another
/// thread is bound.
#[test]
fn model_unbinding_against_p_free_and_p_new() {
    model(
        true,
        3,
        || {
            let w = world(1, 0);
            assert!(w.places[0].bound.bind(1));
            w
        },
        [
            |w| w.places[0].bound.unbind(1),
            |w| {
                w.p_free(0);
                assert_eq!(w.p_new(), Some(0));
                assert!(w.places[0].bound.bind(2));
            },
        ],
        |w| assert!(w.places[0].bound.is(2)),
    );
}

/// Who saw that a P lives holds a P that is alive or is being freed, or the next one.
#[test]
fn model_thief_against_p_free_and_p_new() {
    model(
        true,
        3,
        || world(1, 0),
        [
            |w| {
                w.steal(0);
            },
            |w| {
                w.p_free(0);
                w.p_new();
            },
        ],
        |w| {
            let used_again = w.places[0].owners.load(SeqCst) == 2;
            assert_eq!(w.free_slots().len(), !used_again as usize);
        },
    );
}

/// A gt_p_new that fails gives back its own reference, not that of who saw the slot's P alive before.
#[test]
fn model_thief_against_a_p_new_that_fails() {
    model(
        false,
        3,
        || {
            let w = world(1, 0);
            w.p_free(0);
            w
        },
        [
            |w| {
                w.steal(0);
            },
            |w| {
                w.p_new_fails();
                w.p_new();
            },
        ],
        |w| {
            if w.places[0].slot.is_dead() {
                assert_eq!(w.free_slots(), [0]);
            } else {
                assert_eq!(w.free_slots(), [0; 0], "free, and somebody's");
            }
        },
    );
}

/// Passes over two Ps that are freed end at the same time, and a P is made.
#[test]
fn model_ends_of_passes_against_p_new() {
    model(
        false,
        2,
        || {
            let w = world(2, 0);
            assert!(w.places.iter().all(|p| p.slot.hold()));
            w.p_free(0);
            w.p_free(1);
            w
        },
        [
            |w| w.use_held(0),
            |w| w.use_held(1),
            |w| {
                w.p_new();
            },
        ],
        |w| {
            let owners: u32 = w.places.iter().map(|p| p.owners.load(SeqCst)).sum();
            let mut left = w.free_slots();
            left.sort();
            left.dedup();
            assert_eq!(left.len() as u32, 4 - owners);
        },
    );
}

/// The P is freed, and then the sched, while a pass is under way.
#[test]
fn model_sched_free_against_a_pass() {
    model(
        true,
        3,
        || {
            let w = world(1, 0);
            assert!(w.places[0].slot.hold());
            w
        },
        [
            |w| w.use_held(0),
            |w| {
                w.p_free(0);
                w.close();
            },
        ],
        |w| assert!(w.is_destroyed()),
    );
}

/// The same, and a callback of the pass makes a timer.
#[test]
fn model_sched_free_against_a_pass_that_makes_a_timer() {
    model(
        true,
        3,
        || {
            let w = world(1, 0);
            assert!(w.places[0].slot.hold());
            w
        },
        [
            |w| w.make_held(0),
            |w| {
                w.p_free(0);
                w.close();
            },
        ],
        |w| {
            w.timer_free(0);
            assert!(w.is_destroyed());
        },
    );
}

/// Two passes, one of which ends before the P is given up.
#[test]
fn model_sched_free_against_two_passes() {
    model(
        true,
        2,
        || {
            let w = world(1, 0);
            assert!(w.places[0].slot.hold() && w.places[0].slot.hold());
            w
        },
        [
            |w| w.make_held(0),
            |w| w.use_held(0),
            |w| {
                w.p_free(0);
                w.close();
            },
        ],
        |w| {
            w.timer_free(0);
            assert!(w.is_destroyed());
        },
    );
}

/// The last timer is freed while the sched is.
#[test]
fn model_sched_free_against_the_last_timer_free() {
    model(
        false,
        3,
        || world(0, 1),
        [|w| w.timer_free(0), World::close],
        |w| assert!(w.is_destroyed()),
    );
}

/// The same with a pass under way, whose end sums the timers up.
#[test]
fn model_sched_free_against_a_pass_and_the_last_timer_free() {
    model(
        false,
        2,
        || {
            let w = world(1, 1);
            assert!(w.places[0].slot.hold());
            w.p_free(0);
            w
        },
        [|w| w.use_held(0), |w| w.timer_free(0), World::close],
        |w| assert!(w.is_destroyed()),
    );
}

/// Two timers are left.
#[test]
fn model_the_last_two_timer_frees() {
    model(
        false,
        3,
        || {
            let w = world(0, 2);
            w.close();
            assert!(!w.is_destroyed());
            w
        },
        [|w| w.timer_free(0), |w| w.timer_free(1)],
        |w| assert!(w.is_destroyed()),
    );
}

/// A call keeps the sched, though its own callback frees all of it, and another thread the last
/// timer.
#[test]
fn model_sched_free_in_a_call_that_keeps_it() {
    model(
        false,
        3,
        || world(1, 1),
        [
            |w| {
                w.keeping(|| {
                    w.p_free(0);
                    w.close();
                });
            },
            |w| w.timer_free(0),
        ],
        |w| assert!(w.is_destroyed()),
    );
}

/// A call that keeps it ends while another thread frees it.
#[test]
fn model_sched_free_against_a_call_that_keeps_it() {
    model(
        false,
        3,
        || {
            let w = world(0, 0);
            w.life.add_ref();
            w
        },
        [
            |w| {
                w.touch();
                w.destroy_if(w.life.unref());
            },
            World::close,
        ],
        |w| assert!(w.is_destroyed()),
    );
}
