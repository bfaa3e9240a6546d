//! A worker: the timer half of Go's `schedule` and `findRunnable`.

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
fn leaves() -> bool {
    RT.with(|_| {
        let spares = RT.spares.load(Ordering::Relaxed);
        let there = RT.workers.load(Ordering::Relaxed) + spares;
        let enough =
            there > RT.workers.load(Ordering::Relaxed) + RT.blocked.load(Ordering::Relaxed);
        if enough {
            RT.spares.store(spares - 1, Ordering::Relaxed);
        }
        enough
    })
}

pub(super) fn run(s: &'static Sched, p: Option<&'static P>) {
    let _in = Inside::enter();
    BORN.with(|b| b.set(RT.forks.load(Ordering::Relaxed) + 1));
    let mut bound = p.is_none();
    let mut turn = 0;
    loop {
        if let Some(p) = p
            && !bound
        {
            // It fails only while there is no memory. What callbacks arm goes to another P then.
            bound = acquirep(p).is_ok();
        }
        if p.is_none() && leaves() {
            RT.poller.arm(s); // the wake that brought us here was for somebody
            return;
        }
        // SeqCst, as in stop: who sees that nobody is busy while it stops has seen all who begin.
        RT.busy.fetch_add(1, Ordering::SeqCst);
        if RT.stopping.load(Ordering::SeqCst) {
            RT.busy.fetch_sub(1, Ordering::SeqCst);
            turn = match takes_turn(turn) {
                Some(turn) => turn,
                None => break,
            };
        }
        let (now, ran) = run_timers(s, p);
        if is_over() {
            return; // nothing here is ours
        }
        RT.busy.fetch_sub(1, Ordering::SeqCst);
        if ran == 0 && !RT.stopping.load(Ordering::Relaxed) && RT.poller.arm(s) > now {
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

/// How the runtime comes to its stop. Under the runtime's lock.
pub(super) struct Stopping {
    /// So many turns to run timers have begun.
    turns: u64,
    /// The last one of them is over.
    ended: bool,
    /// Somebody waits for his turn, for so many looks.
    awaited: bool,
    looks: u64,
    /// Nobody was in a pass, and nobody begins one.
    over: bool,
}

impl Stopping {
    pub(super) const fn new() -> Self {
        Stopping {
            turns: 0,
            ended: true,
            awaited: false,
            looks: 1,
            over: false,
        }
    }
}

/// The runtime is being stopped. While somebody's callback is under way, it may wait for what a timer
/// or a descriptor brings, so those who have ended theirs take turns in running timers, one after the
/// other. Where there is always something to run, there would always be somebody in a callback then:
/// so whenever a turn begins while the last one is under way, the next one is waited for twice as long.
/// `last`: the caller's last turn, which is over, or 0. None: there is nobody any more. Else it is his
/// turn, which has this number, and he counts as busy.
fn takes_turn(last: u64) -> Option<u64> {
    let mut looked = None;
    loop {
        let turn = RT.with(|state| {
            let stopping = &mut state.stopping;
            stopping.ended |= stopping.turns == last;
            stopping.over |= RT.busy.load(Ordering::SeqCst) == 0;
            if stopping.over {
                return Some(None);
            }
            match &mut looked {
                None if stopping.awaited => {}
                None => {
                    stopping.awaited = true;
                    looked = Some(0);
                }
                Some(n) if *n < stopping.looks => *n += 1,
                Some(_) => {
                    if !stopping.ended {
                        stopping.looks = stopping.looks.saturating_mul(2);
                    }
                    stopping.awaited = false;
                    stopping.ended = false;
                    stopping.turns += 1;
                    RT.busy.fetch_add(1, Ordering::SeqCst);
                    return Some(Some(stopping.turns));
                }
            }
            None
        });
        if let Some(turn) = turn {
            return turn;
        }
        // The poller is of no use for waiting any more.
        RT.poller.wait(false, netpoll::ready);
        std::thread::sleep(STOPPING);
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
