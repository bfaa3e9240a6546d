//! A worker: the timer half of Go's `schedule` and `findRunnable`.

use super::{RT, netpoll};
use crate::engine::{Counter, Procs, check_timers};
use crate::error::{Error, Result};
use crate::procs::{P, Sched, acquirep, check_others, p_free, p_new, releasep};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

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

/// Starts a worker with a P of its own.
pub(super) fn spawn(s: &'static Sched, i: usize) -> Result<(JoinHandle<()>, &'static P)> {
    let p = p_new(s)?;
    let thread = without_signals(|| {
        std::thread::Builder::new()
            .name(format!("gotimer-{i}"))
            .spawn(move || run(s, p))
    });
    match thread {
        Ok(thread) => Ok((thread, p)),
        Err(_) => {
            let _ = p_free(p);
            Err(Error::NoMem)
        }
    }
}

/// What `f` starts has all signals blocked: the program's handlers are for its own threads.
fn without_signals<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: sets of ours, filled before they are read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut was: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut was);
        let r = f();
        libc::pthread_sigmask(libc::SIG_SETMASK, &was, std::ptr::null_mut());
        r
    }
}

fn run(s: &'static Sched, p: &'static P) {
    BORN.with(|b| b.set(RT.forks.load(Ordering::Relaxed) + 1));
    let _ = acquirep(p);
    while !RT.stopping.load(Ordering::Acquire) {
        let own = check_timers(s, p, 0);
        let others = check_others(s, Some(p), own.now);
        if is_over() {
            return; // nothing here is ours
        }
        let busy = own.ran + others.ran > 0;
        // Publishes until when we sleep, from what is armed now. What is armed for an
        // earlier time after that comes to the same place.
        if !busy && RT.poller.arm(s) > own.now {
            if RT.poller.wait(true, netpoll::ready) {
                s.block().add(Counter::Overdue, 1);
            }
        } else if netpoll::any_open() {
            // There is more to do; but who waits for a descriptor is not left waiting.
            RT.poller.wait(false, netpoll::ready);
        }
    }
    let _ = releasep();
}
