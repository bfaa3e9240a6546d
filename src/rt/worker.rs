//! A worker: the timer half of Go's `schedule` and `findRunnable`.

use super::stopping::{Looks, Turn};
use super::thread::{self, Thread};
use super::{RT, netpoll, room};
use crate::engine::{Counter, Procs, check_timers};
use crate::error::Result;
use crate::host::Inside;
use crate::procs::{P, Sched, acquirep, check_others, p_free, p_new, releasep};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

thread_local! {
    /// On a worker: how often the process had become a fork's child when it began, plus 1.
    static BORN: Cell<usize> = const { Cell::new(0) };
}

/// Is the calling thread one of the runtime's?
#[inline(never)]
pub(super) fn is_worker() -> bool {
    BORN.with(Cell::get) == RT.forks.load(Ordering::Relaxed) + 1
}

/// Is it one whose callback has forked, in the child? There it calls nothing more: what was
/// due is the parent's to call.
#[inline(never)]
pub(super) fn is_over() -> bool {
    let born = BORN.with(Cell::get);
    born != 0 && born != RT.forks.load(Ordering::Relaxed) + 1
}

/// Is there nobody who could be woken?
pub(super) fn is_alone() -> bool {
    RT.workers.load(Ordering::Relaxed) + RT.spares.load(Ordering::Relaxed) <= 1
}

/// Starts a worker with a P of its own.
pub(super) fn spawn(s: &'static Sched) -> Result<(Thread, &'static P)> {
    let p = p_new(s)?;
    match thread::spawn(Some(p)) {
        Ok(thread) => Ok((thread, p)),
        Err(e) => {
            let _ = p_free(p);
            Err(e)
        }
    }
}

/// So many spares there may be.
pub(super) const SPARES: usize = 1024;

/// Go's entersyscall and handoffp, exitsyscall: a callback waits, in this library, or goes on.
/// When all who could run timers wait, what they wait for would never come: then a spare
/// thread does, without a P of its own, as long as that is so.
pub(super) fn syscall(enter: bool) {
    if !is_worker() {
        return;
    }
    let spare = RT.with(|state| {
        if !enter {
            RT.blocked.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let blocked = RT.blocked.fetch_add(1, Ordering::Relaxed) + 1;
        let spares = RT.spares.load(Ordering::Relaxed);
        let all = blocked >= RT.workers.load(Ordering::Relaxed) + spares;
        if !all || spares >= SPARES {
            return false;
        }
        state.threads.retain(|t| !t.try_join()); // spares of before
        let there_is_room = room(&mut state.threads, state.coming + 1).is_ok();
        if there_is_room {
            state.coming += 1;
            RT.spares.store(spares + 1, Ordering::Relaxed);
        }
        there_is_room
    });
    if !spare {
        return;
    }
    let started = thread::spawn(None);
    RT.with(|state| {
        state.coming -= 1;
        match started {
            Ok(t) => state.threads.push(t), // there is room
            Err(_) => {
                RT.spares.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
}

/// A spare leaves when there are enough without it.
fn leaves(looks: &Looks) -> bool {
    RT.with(|state| {
        let spares = RT.spares.load(Ordering::Relaxed);
        let there = RT.workers.load(Ordering::Relaxed) + spares;
        let enough =
            there > RT.workers.load(Ordering::Relaxed) + RT.blocked.load(Ordering::Relaxed);
        if enough {
            RT.spares.store(spares - 1, Ordering::Relaxed);
            state.turns.leave(looks);
        }
        enough
    })
}

pub(super) fn run(s: &'static Sched, p: Option<&'static P>) {
    let _in = Inside::enter();
    BORN.with(|b| b.set(RT.forks.load(Ordering::Relaxed) + 1));
    let mut bound = p.is_none();
    let mut looks = Looks::default();
    loop {
        if let Some(p) = p
            && !bound
        {
            // It fails only while there is no memory. What callbacks arm goes to another P then.
            bound = acquirep(p).is_ok();
        }
        if p.is_none() && leaves(&looks) {
            RT.poller.arm(s); // the wake that brought us here was for somebody
            return;
        }
        if !RT.stopping.begin_pass() && !takes_turn(&mut looks) {
            break;
        }
        let (now, ran) = run_timers(s, p);
        if is_over() {
            return; // nothing here is ours
        }
        RT.stopping.end_pass();
        if ran == 0 && !RT.stopping.is() && RT.poller.arm(s) > now {
            // Published until when we sleep, from what is armed now. What is armed for an
            // earlier time after that comes to the same place.
            if RT.poller.wait(true, netpoll::ready) {
                s.block().add(Counter::Overdue, 1);
            }
        } else if netpoll::any_open() {
            // There is more to do; but who waits for a descriptor is not left waiting.
            RT.poller.wait(false, netpoll::ready);
        }
    }
    if p.is_none() {
        RT.with(|_| RT.spares.fetch_sub(1, Ordering::Relaxed));
    }
    let _ = releasep();
}

/// The runtime is being stopped. True: it is the caller's turn to run timers.
fn takes_turn(mine: &mut Looks) -> bool {
    loop {
        match RT.with(|state| RT.stopping.look(&mut state.turns, mine)) {
            Turn::Yours => return true,
            Turn::Over => return false,
            Turn::NotYet => {
                // The poller is of no use for waiting any more.
                RT.poller.wait(false, netpoll::ready);
                std::thread::sleep(STOPPING);
            }
        }
    }
}

/// How often a worker that shall stop looks, while a callback is under way.
const STOPPING: Duration = Duration::from_micros(500);

/// Runs what is due, the worker's own first. Returns the time, and how many ran.
fn run_timers(s: &Sched, p: Option<&P>) -> (i64, usize) {
    let own = p.map(|p| check_timers(s, p, 0));
    let (now, ran) = own.map_or((0, 0), |c| (c.now, c.ran));
    let others = check_others(s, p, now);
    (others.now, ran + others.ran)
}
