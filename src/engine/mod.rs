//! runtime/time.go: timers, their heaps, and the five operations on them. Knows neither
//! threads nor I/O nor C; what it needs from above comes through `Procs`.

mod adjust;
mod argbox;
pub(crate) mod cache;
#[cfg(feature = "checked")]
pub(crate) mod checked;
mod counters;
pub(crate) mod fast;
mod heap;
#[cfg(all(test, not(gt_model)))]
mod heap_test;
mod lifetime;
mod modtimer;
mod movetimers;
mod pool;
#[cfg(all(test, not(gt_model)))]
mod pool_test;
mod run;
#[cfg(all(test, not(gt_model)))]
mod scan_test;
mod slab;
mod sweep;
mod tables;
mod timer;
#[cfg(all(test, not(gt_model)))]
mod timer_test;
mod timers;
mod verify;
mod writer;

pub(crate) use adjust::{adjusttimers, cleantimers, finish_dead};
pub(crate) use argbox::{ArgRef, DropFn};
#[cfg(not(gt_model))]
pub(crate) use counters::FORKING;
pub(crate) use counters::{Block, Counter, Histogram};
pub(crate) use lifetime::{
    arg_of_func, detach, disown_arg, release_node, release_node_held, shutdown_timer,
    stop_for_good, timer_free, timer_status, timer_when, with_arg,
};
pub(crate) use modtimer::{Arm, Wake, deltimer, modtimer, modtimer_quietly, set_slack};
pub(crate) use movetimers::{BATCH, move_timers};
pub(crate) use run::{
    Checked, Hold, check_timers, end_lost_runs, next_tick, runtimer, take_lost_runs,
};
#[cfg(all(test, not(gt_model)))]
pub(crate) use slab::set_generation;
pub(crate) use slab::{
    Slab, generation as slab_generation, id, owner, raise_generation as slab_raise_generation,
};
pub(crate) use sweep::trim;
pub(crate) use timer::{
    CHAN, FREED, Func, HAS_DROP, MAX_WHEN, SHUTDOWN, State, TimerRef, WATCHED, slack_flags,
};
pub(crate) use timers::Timers;
pub(crate) use verify::{Rule, count_deleted, verify_timer_heap};
#[cfg(gt_loom)]
pub(crate) use writer::{Forking, Writer};
#[cfg(gt_model)]
pub(crate) use {pool::Pool, sweep::sweep, tables::Tables, timer::DETACHED, timer::Timer};

use crate::host::Host;

/// What the engine needs from the layer above: the Ps, and where things are counted.
pub(crate) trait Procs: Sized + Sync + 'static {
    fn host(&self) -> &Host;
    /// The sched's clock.
    fn now(&self) -> i64;
    /// The one that a P belongs to.
    fn of(p: &Timers) -> &Self;
    /// The P for an arming that names none: the caller's own, else the one that the timer
    /// was on last (0: none), else one that is chosen. It may die before it is locked.
    fn pick(&self, last: u32) -> &Timers;
    /// Calls the wake hook for a P, unless it is dead. No lock is held.
    fn wake(&self, p: &Timers, when: i64);
    /// Says in the timerp_mask whether a P has timers. P's lock held.
    fn set_mask(&self, p: u32, on: bool);
    /// Keeps the P's slot from being used again.
    fn hold(&self, p: &Timers);
    /// The counterpart of hold. May be the last thing that happens to the sched.
    fn unhold(&self, p: &Timers);
    /// The P was looked at: its fd, if it has one, wants a look too.
    fn pass_done(&self, p: &Timers);
    /// This thread's counters. Asked for anew after each callback.
    fn block(&self) -> &Block;
    /// The same for a P's sched, for the short paths, which call no callback and no hook: a block
    /// of the thread's own. `None`: they are closed, see Sched::quick.
    fn quick_block(p: &Timers) -> Option<&Block> {
        Some(Self::of(p).block())
    }
    /// The same for one who has the sched, but no P of it at hand.
    fn quick_block_here(&self) -> Option<&Block> {
        Some(self.block())
    }
    /// The P that the thread is bound to, for one to whom quick_block has given a block.
    fn quick_p(_: &Timers) -> Option<&Timers> {
        None
    }
    /// Are heaps verified all the time?
    fn verifying(&self) -> bool;
    /// The generation of a node.
    fn generation(&self, t: TimerRef) -> u32;
    /// Makes all ids and handles of a node dead. Its lock is held.
    fn raise_generation(&self, t: TimerRef);
    /// The last reference is gone: the node may be used again.
    fn give_back(&self, t: TimerRef);
    /// The same, for the thread's own use: see cache::take_back.
    fn give_back_to(&self, _block: &Block, t: TimerRef) {
        self.give_back(t);
    }
}
