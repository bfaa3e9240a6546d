//! Go's `timeSleep`, `resetForSleep`, `goroutineReady`.

use super::when;
use crate::engine::{self, Arm, Procs, TimerRef, modtimer, timer_free};
use crate::error::{Error, Result};
use crate::host::{Inside, Kind, blocking};
use crate::procs::{Sched, Waited, Waiter, copied};
use std::cell::Cell;
use std::ffi::c_void;

/// Puts the caller to sleep. A green thread parks, and its timer is armed when it has left
/// its stack: a short sleep would else ready it before it sleeps (rule S16). A thread
/// sleeps in the kernel, which is exact and needs no timer; only for the virtual clock,
/// which the kernel does not know, it has a timer too.
pub(crate) fn sleep(s: &Sched, d: i64) -> Result<()> {
    if d <= 0 {
        return Ok(());
    }
    let _keep = s.keep();
    let until = when(s, d);
    let w = Waiter::new();
    let sleeper = Sleeper { s, w: &w };
    let timer: Cell<Option<TimerRef>> = Cell::new(None);
    let failed = Cell::new(None);
    let mut reset_for_sleep = || {
        let s: &Sched = copied(&s);
        let _keep = s.keep(); // the sleeper may be gone before modtimer returns
        let arg = std::ptr::from_ref(&sleeper).cast_mut().cast();
        let armed = s.timer_new(goroutine_ready, arg, None, 0).and_then(|t| {
            timer.set(Some(t));
            modtimer(s, t, None, None, &Arm::at(until, 0))
        });
        match armed {
            Ok(_) => true,
            Err(e) => {
                failed.set(Some(e));
                false
            }
        }
    };
    let waited = if s.clock().kind() == Kind::Virtual {
        w.wait(s, &mut reset_for_sleep)
    } else {
        if !w.park(s, &mut reset_for_sleep) {
            sleep_thread(s, until);
        }
        Waited::Woken
    };
    let mut stopped = false;
    if let Some(t) = timer.get() {
        stopped = timer_free(s, t, None) == Ok(true);
        if waited == Waited::Deadlock && !stopped {
            w.wait_woken(); // its timer was taken already, by somebody outside the bubble
        }
    }
    match failed.get() {
        Some(e) => Err(e),
        None if stopped => Err(Error::Deadlk),
        None => Ok(()),
    }
}

struct Sleeper<'a> {
    s: &'a Sched,
    w: &'a Waiter,
}

unsafe extern "C-unwind" fn goroutine_ready(arg: *mut c_void, _seq: usize, _delay: i64) {
    let _in = Inside::enter();
    // SAFETY: the sleeper sleeps until it is woken here, and is not touched after that;
    // its timer fires once.
    unsafe {
        let sleeper = &*arg.cast::<Sleeper<'_>>();
        Waiter::wake(sleeper.s, sleeper.w);
    }
}

/// In a fork child: sleepers that were threads are lost, and with them what their timers
/// would look for on their stacks.
pub(super) fn after_fork(s: &Sched) {
    s.slab.for_each(|t| {
        let Some(arg) = engine::arg_of_func(s, t, goroutine_ready) else {
            return;
        };
        // SAFETY: what the stack of a lost thread held is still there: the child has had no
        // time to make threads of its own.
        let sleeper = unsafe { &*arg.cast::<Sleeper<'_>>() };
        if sleeper.w.is_lost() {
            let _ = timer_free(s, t, None);
        }
    });
}

/// The kernel lets a thread sleep 50 us longer than it asked for, unless it says that it
/// would rather not. As it was before when this is dropped.
struct Precise(libc::c_int);

impl Precise {
    fn new() -> Self {
        // SAFETY: these calls take no memory of ours.
        unsafe {
            let was = libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0);
            if was > 1 {
                libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
            }
            Precise(was)
        }
    }
}

impl Drop for Precise {
    fn drop(&mut self) {
        if self.0 > 1 {
            // SAFETY: as above.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, self.0, 0, 0, 0) };
        }
    }
}

/// A clock that the kernel cannot wait on is looked at from time to time.
fn sleep_thread(s: &Sched, until: i64) {
    let _precise = Precise::new();
    let _blocking = blocking();
    loop {
        let left = until - s.now();
        if left <= 0 {
            return;
        }
        let (clock, flags, value) = match s.clock().kind() {
            Kind::Monotonic => (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, until),
            Kind::Boottime => (libc::CLOCK_BOOTTIME, libc::TIMER_ABSTIME, until),
            Kind::Wall => (libc::CLOCK_MONOTONIC, 0, left.min(1_000_000_000)),
            Kind::Host | Kind::Virtual => (libc::CLOCK_MONOTONIC, 0, left.min(20_000_000)),
        };
        let ts = libc::timespec {
            tv_sec: value / 1_000_000_000,
            tv_nsec: value % 1_000_000_000,
        };
        // SAFETY: ts lives through the call.
        unsafe { libc::clock_nanosleep(clock, flags, &ts, std::ptr::null_mut()) };
    }
}
