//! Receiving from a channel timer: Go's `chanrecv` on a timer's channel.

use super::chan::{Chan, Woken, handed, lookup};
use super::timer::free;
use crate::engine::{Procs, TimerRef};
use crate::error::{Error, Result};
use crate::host::watched;
use crate::procs::{Sched, Waited, Waiter, copied};
use std::cell::Cell;

/// gt_timer_recv: waits for a value. `id` none: the generation that the handle has now.
pub(crate) fn recv(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<i64> {
    let _keep = s.keep();
    let id = Some(id.unwrap_or_else(|| s.generation(t)));
    let chan = lookup(s, t, id)?;
    let chan: &Chan = &chan;
    let w = Waiter::new();
    let now_or_never: Cell<Option<Result<i64>>> = Cell::new(None);
    let once = Cell::new(false);
    let waited = w.wait(s, &mut || {
        // The receiver may be gone before we are.
        let (s, chan): (&Sched, &Chan) = (copied(&s), copied(&chan));
        let _keep = s.keep();
        let mut woken = Woken::default();
        let mut waits = false;
        chan.with(s, |i| {
            once.set(i.once);
            i.settle(s, &mut woken);
            let value = match i.alive() {
                Ok(()) => i.take(s),
                Err(e) => return now_or_never.set(Some(Err(e))),
            };
            if value != 0 {
                return now_or_never.set(Some(Ok(value)));
            }
            i.push(&w);
            if let Err(e) = i.arm_for_receiver(s, &mut woken) {
                i.remove(|x| std::ptr::eq(x, &w));
                return now_or_never.set(Some(Err(e)));
            }
            waits = true;
        });
        woken.call(s);
        waits
    });
    if waited == Waited::Deadlock {
        // Unless somebody came to our rescue from outside the bubble.
        let queued = chan.with(s, |i| {
            let queued = i.remove(|x| std::ptr::eq(x, &w)) > 0;
            if queued {
                let _ = i.set_alarm(s, 0, &mut Woken::default());
            }
            queued
        });
        if queued {
            return Err(Error::Deadlk);
        }
        w.wait_woken();
    }
    if watched() {
        chan.with(s, |i| i.order_receipt());
    }
    let value = match now_or_never.take() {
        Some(at_once) => at_once?,
        None => w.value.get(),
    };
    if value < 0 {
        return Err([Error::Stale, Error::Shutdown, Error::NoMem]
            .into_iter()
            .find(|&e| handed(e) == value)
            .unwrap_or(Error::Stale));
    }
    if once.get() {
        let _ = free(s, t, id);
    }
    Ok(value)
}

/// gt_timer_try_recv: the value, or 0 if there is none.
pub(crate) fn try_recv(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<i64> {
    let _keep = s.keep();
    let id = Some(id.unwrap_or_else(|| s.generation(t)));
    let mut woken = Woken::default();
    let taken = lookup(s, t, id)?.with(s, |i| {
        i.alive()?;
        i.settle(s, &mut woken);
        i.mend_alarm(s, &mut woken);
        let value = i.take(s);
        if value != 0 {
            i.order_receipt();
        }
        Ok((value, i.once))
    });
    woken.call(s);
    let (value, once) = taken?;
    if once && value != 0 {
        let _ = free(s, t, id);
    }
    Ok(value)
}
