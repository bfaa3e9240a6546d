//! Timers with channels: Go's `newTimer`, `stopTimer`, `resetTimer`, and what a program can ask
//! of one but for receiving (recv.rs). The channel itself is in chan.rs.

use super::chan::{Chan, ChanRef, Woken, alarm, lookup, new_fd, release};
use super::when;
use crate::engine::{self, CHAN, Counter, FREED, Procs, SHUTDOWN, TimerRef, deltimer};
use crate::error::{Error, Result};
use crate::procs::Sched;
use crate::sync::Ordering;

/// A timer with a channel, armed; with a period a ticker.
pub(crate) fn new_chan(s: &Sched, d: i64, ticker: bool, once: bool) -> Result<TimerRef> {
    if ticker && d <= 0 {
        return Err(Error::Inval);
    }
    let host = s.host();
    let p = host
        .alloc(size_of::<Chan>(), align_of::<Chan>())
        .ok_or(Error::NoMem)?
        .cast::<Chan>();
    let period = if ticker { d } else { 0 };
    let chan = Chan::new(s, when(s, d), period, once);
    // SAFETY: fresh memory of a Chan's size and alignment.
    unsafe { p.write(chan) };
    match s.timer_new(alarm, p.as_ptr().cast(), Some(release), CHAN) {
        Ok(t) => {
            // SAFETY: nobody else knows it yet.
            let inner = unsafe { p.as_ref().inner.get() };
            inner.t = Some(t);
            inner.order_call(s);
            s.chans.fetch_add(1, Ordering::Relaxed);
            s.block().add(Counter::Armed, 1);
            Ok(t)
        }
        Err(e) => {
            // SAFETY: as allocated; nobody knows it.
            unsafe { host.free(p.cast(), size_of::<Chan>(), align_of::<Chan>()) };
            Err(e)
        }
    }
}

/// gt_timer_stop. True: the arming's value was not received, and never will be.
pub(crate) fn stop(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let stopped = lookup(s, t, id).and_then(|chan| {
        chan.with(s, |i| {
            i.alive()?;
            let stopped = i.end(s, Counter::Stopped);
            let _ = deltimer(s, t, None);
            Ok(stopped)
        })
    });
    match stopped {
        Err(Error::Shutdown) => Ok(false), // nothing was pending
        stopped => stopped,
    }
}

/// gt_timer_reset. True: it replaced an arming whose value was not received.
pub(crate) fn reset(s: &Sched, t: TimerRef, id: Option<u32>, d: i64) -> Result<bool> {
    let mut woken = Woken::default();
    let replaced = lookup(s, t, id)?.with(s, |i| {
        i.alive()?;
        if i.period != 0 && d <= 0 {
            return Err(Error::Inval);
        }
        let when = when(s, d);
        i.set_alarm(s, when, &mut woken)?;
        let replaced = i.end(s, Counter::Replaced);
        i.when = when;
        if i.period != 0 {
            i.period = d;
        }
        s.block().add(Counter::Armed, 1);
        Ok(replaced)
    });
    woken.call(s);
    replaced
}

/// gt_timer_fd: a descriptor that is readable while there is a value. Counts as a waiter.
pub(crate) fn timer_fd(s: &Sched, t: TimerRef) -> Result<i32> {
    let mut woken = Woken::default();
    let fd = lookup(s, t, None)?.with(s, |i| {
        i.alive()?;
        if i.fd >= 0 {
            return Ok(i.fd);
        }
        let fd = new_fd();
        if fd < 0 {
            return Err(Error::MFile);
        }
        i.blocked += 1;
        if let Err(e) = i.set_alarm(s, i.when, &mut woken) {
            i.blocked -= 1;
            // SAFETY: ours, and nobody knows it.
            unsafe { libc::close(fd) };
            return Err(e);
        }
        i.fd = fd;
        i.settle(s, &mut woken);
        Ok(fd)
    });
    woken.call(s);
    fd
}

/// When it fires next; 0: it is stopped, or has fired.
pub(crate) fn chan_when(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<i64> {
    let mut woken = Woken::default();
    let when = lookup(s, t, id).and_then(|chan| {
        chan.with(s, |i| {
            i.alive()?;
            i.settle(s, &mut woken);
            Ok(i.when)
        })
    });
    woken.call(s);
    match when {
        Err(Error::Shutdown) => Ok(0),
        when => when,
    }
}

/// gt_timer_free of a channel timer: those who receive get GT_ESTALE.
pub(crate) fn free(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let _keep = s.keep();
    let mut woken = Woken::default();
    let stopped = match lookup(s, t, id) {
        Err(Error::Shutdown) => return engine::timer_free(s, t, id),
        chan => chan?.with(s, |i| i.finish(s, Error::Stale, &mut woken)),
    };
    if stopped != Err(Error::Shutdown) {
        let stopped = stopped?;
        s.chans.fetch_sub(1, Ordering::Relaxed);
        let freed = engine::timer_free(s, t, id);
        woken.call(s);
        return freed.map(|_| stopped);
    }
    engine::timer_free(s, t, id)
}

/// gt_shutdown_timer of a channel timer: those who receive get GT_ESHUTDOWN.
pub(crate) fn shutdown(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let _keep = s.keep();
    let mut woken = Woken::default();
    let stopped = match lookup(s, t, id) {
        Err(Error::Shutdown) => return Ok(false),
        chan => chan?.with(s, |i| i.finish(s, Error::Shutdown, &mut woken)),
    };
    if stopped == Err(Error::Shutdown) {
        return Ok(false);
    }
    let stopped = stopped?;
    s.chans.fetch_sub(1, Ordering::Relaxed);
    let done = engine::shutdown_timer(s, t, id);
    woken.call(s);
    done.map(|_| stopped)
}

fn for_each_chan(s: &Sched, mut f: impl FnMut(TimerRef)) {
    if s.chans.load(Ordering::Relaxed) > 0 {
        s.slab.for_each(|t| {
            if t.flags() & (CHAN | FREED | SHUTDOWN) == CHAN {
                f(t);
            }
        });
    }
}

/// gt_sched_free: no channel of it can be used any more.
pub(crate) fn shutdown_all(s: &Sched) {
    for_each_chan(s, |t| {
        let _ = shutdown(s, t, None);
    });
}

/// What to add to the armings that the heaps hold, for those that are pending: channels
/// that are armed or hold a value count, their alarms do not.
pub(crate) fn pending_correction(s: &Sched) -> i64 {
    let mut sum = 0;
    for_each_chan(s, |t| {
        if let Ok(chan) = lookup(s, t, None) {
            sum += chan.with(s, |i| {
                let alarm = engine::timer_when(s, t, None).is_ok_and(|w| w != 0);
                i.pending() as i64 - alarm as i64
            });
        }
    });
    sum
}

/// In a fork child: receivers that were threads are gone, and descriptors that are shared
/// with the parent are replaced. Green threads are their owner's business.
pub(super) fn after_fork(s: &Sched) {
    for_each_chan(s, |t| {
        let Ok(chan) = lookup(s, t, None) else { return };
        let lost = chan.with(s, |i| {
            let lost = i.remove(|w| w.is_lost());
            i.renew_fd();
            if i.blocked == 0 {
                let _ = deltimer(s, t, None);
            }
            lost
        });
        for _ in 0..lost {
            // SAFETY: the reference of a receiver that is gone.
            drop(unsafe { ChanRef::again(&chan) });
        }
    });
}
