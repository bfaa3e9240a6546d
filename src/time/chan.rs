//! The channel of a timer: Go's `timerchandrain`, `maybeRunChan`, `blockTimerChan`,
//! `unblockTimerChan`, `sendTime`.
//!
//! A channel holds one value: the time at which its timer should have fired. The timer is
//! evaluated when somebody looks (`settle`), and that is enough while nobody waits: then
//! it is in no heap. While somebody does, or a descriptor was asked for, the engine's timer
//! behind the handle is its alarm, armed for the channel's time. An alarm may come once too
//! often, never too late: it only makes the channel look at the clock.
//!
//! All is guarded by one lock, so that a stop or reset leaves no value behind, and
//! nothing that was sent before can come after. It comes before the Ps' locks in the
//! order, as Go's sendLock does; nobody is woken with it held.
//!
//! Conservation (rule S4): an arming is pending until its value was received. Fired means
//! received; a value that a stop or reset drains counts as stopped or replaced.

use crate::engine::{
    self, Arm, CHAN, Counter, MAX_WHEN, Procs, SHUTDOWN, TimerRef, Wake, deltimer,
    modtimer_quietly, next_tick,
};
use crate::error::{Error, Result};
use crate::host::{Inside, acquire, renew_fd, tsan};
use crate::procs::{Sched, Waiter};
use crate::sync::{AtomicU32, Guarded, Ordering};
use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::NonNull;

pub(crate) struct Chan {
    /// One of the timer, one of each call under way.
    refs: AtomicU32,
    s: *const Sched,
    /// Guarded by the sched's lock for this channel.
    pub(super) inner: Guarded<Inner>,
}

pub(super) struct Inner {
    /// The timer behind the handle.
    pub(super) t: Option<TimerRef>,
    /// When it fires next. 0: it is stopped, or has fired.
    pub(super) when: i64,
    /// 0: a timer; else a ticker.
    pub(super) period: i64,
    /// The value, not received yet. 0: none.
    value: i64,
    /// Who receives, first come first served. Linked by `next`.
    first: *const Waiter,
    last: *const Waiter,
    /// The receivers, and the descriptor: while there are any, the alarm is armed.
    pub(super) blocked: u32,
    /// The alarm could not be armed, for want of memory: whoever looks next tries again.
    unarmed: bool,
    /// The descriptor; -1: none. And whether it is readable.
    pub(super) fd: i32,
    readable: bool,
    /// Why it can no longer be used.
    gone: Option<Error>,
    /// gt_after: the timer frees itself when its value is received.
    pub(super) once: bool,
}

/// A reference to a channel.
pub(super) struct ChanRef(NonNull<Chan>);

impl Deref for ChanRef {
    type Target = Chan;
    fn deref(&self) -> &Chan {
        // SAFETY: a reference is held.
        unsafe { self.0.as_ref() }
    }
}

impl ChanRef {
    /// A reference that is held already, by somebody who will not give it back.
    ///
    /// # Safety
    /// That is so.
    pub(super) unsafe fn again(chan: &Chan) -> Self {
        ChanRef(NonNull::from(chan))
    }
}

impl Drop for ChanRef {
    fn drop(&mut self) {
        // SAFETY: the reference is given back once.
        unsafe { release(self.0.as_ptr().cast()) };
    }
}

/// Gives a reference back: of a call, or, as the drop function of the timer's argument,
/// that of the timer.
pub(super) unsafe extern "C" fn release(chan: *mut c_void) {
    let _in = Inside::enter();
    let chan = chan.cast::<Chan>();
    // SAFETY: a reference is held until here, and so is the sched.
    unsafe {
        if (*chan).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            let s = &*(*chan).s;
            s.host().free(
                NonNull::new_unchecked(chan).cast(),
                size_of::<Chan>(),
                align_of::<Chan>(),
            );
        }
    }
}

/// Whom to wake, when the lock is gone: those who were handed something.
#[derive(Default)]
#[must_use = "wake them"]
pub(super) struct Woken<'a> {
    first: Option<NonNull<Waiter>>,
    wake: Wake<'a>,
}

impl Woken<'_> {
    pub(super) fn call(self, s: &Sched) {
        self.wake.call(s);
        let mut at = self.first;
        while let Some(w) = at {
            // SAFETY: taken off its queue under the lock: it waits, and only we wake it.
            unsafe {
                at = NonNull::new(w.as_ref().next.get().cast_mut());
                Waiter::wake(s, w.as_ptr());
            }
        }
    }
}

/// What gt_timer_fd gives, or below 0.
pub(super) fn new_fd() -> i32 {
    // SAFETY: takes no memory of ours.
    unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }
}

/// What a waiter is handed instead of a value (which is above 0).
pub(super) fn handed(e: Error) -> i64 {
    e.code() as i64
}

impl Chan {
    pub(super) fn new(s: *const Sched, when: i64, period: i64, once: bool) -> Self {
        Chan {
            refs: AtomicU32::new(1),
            s,
            inner: Guarded::new(Inner {
                t: None,
                when,
                period,
                value: 0,
                first: std::ptr::null(),
                last: std::ptr::null(),
                blocked: 0,
                unarmed: false,
                fd: -1,
                readable: false,
                gone: None,
                once,
            }),
        }
    }

    pub(super) fn with<R>(&self, s: &Sched, f: impl FnOnce(&mut Inner) -> R) -> R {
        let lock = s.chan_lock(std::ptr::from_ref(self).addr());
        lock.lock();
        // SAFETY: the lock is held; f gets the only reference.
        let r = f(unsafe { self.inner.get() });
        lock.unlock();
        r
    }
}

impl Inner {
    pub(super) fn alive(&self) -> Result<()> {
        self.gone.map_or(Ok(()), Err)
    }

    /// An arming that has not ended: no value was received since.
    pub(super) fn pending(&self) -> bool {
        self.when != 0 || self.value != 0
    }

    /// For the embedder's ThreadSanitizer: a call changes the channel.
    #[inline(always)]
    pub(super) fn order_call(&self, s: &Sched) {
        if s.host().is_watched() {
            tsan::tell_both((&raw const self.value).cast());
        }
    }

    /// For the embedder's ThreadSanitizer: what came before the calls that changed the
    /// channel comes before this, a value or an error that is received.
    pub(super) fn order_receipt(&self) {
        acquire(&raw const self.value);
    }

    fn t(&self) -> TimerRef {
        match self.t {
            Some(t) => t,
            None => unreachable!("set when the channel was made"),
        }
    }

    /// Arms the alarm for `when`, if anybody waits. On failure nothing has changed.
    pub(super) fn set_alarm<'a>(
        &mut self,
        s: &'a Sched,
        when: i64,
        woken: &mut Woken<'a>,
    ) -> Result<()> {
        if self.blocked > 0 && when != 0 {
            modtimer_quietly(s, self.t(), None, None, &Arm::at(when, 0), &mut woken.wake)?;
        } else if self.blocked == 0 {
            let _ = deltimer(s, self.t(), None);
        }
        self.unarmed = false;
        Ok(())
    }

    /// After a receiver has come: the first one arms the alarm.
    pub(super) fn arm_for_receiver<'a>(
        &mut self,
        s: &'a Sched,
        woken: &mut Woken<'a>,
    ) -> Result<()> {
        if self.blocked == 1 || self.unarmed {
            self.set_alarm(s, self.when, woken)
        } else {
            Ok(())
        }
    }

    /// If the alarm could not be armed, tries again.
    pub(super) fn mend_alarm<'a>(&mut self, s: &'a Sched, woken: &mut Woken<'a>) {
        if self.unarmed {
            let _ = self.set_alarm(s, self.when, woken);
        }
    }

    /// Go's maybeRunChan, sendTime and the receiver's side: if the time has come, there is
    /// a value; a value goes to the first who waits. The alarm is left as it is.
    pub(super) fn settle(&mut self, s: &Sched, woken: &mut Woken<'_>) {
        if self.when != 0 && self.when != MAX_WHEN {
            let now = s.now();
            if self.when <= now {
                let when = self.when;
                if self.value == 0 {
                    self.value = when; // a full channel drops the tick
                }
                self.when = match self.period {
                    0 => 0,
                    period => next_tick(when, period, now - when),
                };
            }
        }
        if self.value != 0
            && let Some(w) = self.pop()
        {
            let value = self.take(s);
            self.hand(w, value, woken);
        }
        self.update_fd();
    }

    /// Takes the value out: it is received. 0: there is none.
    pub(super) fn take(&mut self, s: &Sched) -> i64 {
        let value = std::mem::take(&mut self.value);
        if value != 0 {
            let what = if self.period == 0 {
                Counter::Fired
            } else {
                Counter::Ticks
            };
            s.block().add(what, 1);
            self.update_fd();
        }
        value
    }

    fn hand(&mut self, w: NonNull<Waiter>, value: i64, woken: &mut Woken<'_>) {
        // SAFETY: it waits in this channel's queue, whose lock is held.
        let waiter = unsafe { w.as_ref() };
        waiter.value.set(value);
        waiter.next.set(
            woken
                .first
                .map_or(std::ptr::null(), |n| n.as_ptr().cast_const()),
        );
        woken.first = Some(w);
    }

    /// A receiver queues up.
    pub(super) fn push(&mut self, w: &Waiter) {
        w.next.set(std::ptr::null());
        // SAFETY: waiters in the queue wait; the lock is held.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(w),
            None => self.first = w,
        }
        self.last = w;
        self.blocked += 1;
    }

    fn pop(&mut self) -> Option<NonNull<Waiter>> {
        let w = NonNull::new(self.first.cast_mut())?;
        // SAFETY: as above.
        self.first = unsafe { w.as_ref() }.next.get();
        if self.first.is_null() {
            self.last = std::ptr::null();
        }
        self.blocked -= 1;
        Some(w)
    }

    /// Takes waiters off the queue. Returns how many.
    pub(super) fn remove(&mut self, mut which: impl FnMut(&Waiter) -> bool) -> u32 {
        let mut removed = 0;
        let receivers = self.blocked - (self.fd >= 0) as u32;
        for _ in 0..receivers {
            let Some(w) = self.pop() else { break };
            // SAFETY: as above.
            let w = unsafe { w.as_ref() };
            if which(w) {
                removed += 1;
            } else {
                self.push(w); // all go round once, and keep their order
            }
        }
        removed
    }

    /// Nobody shall wait any more: all are handed an error.
    fn dismiss(&mut self, e: Error, woken: &mut Woken<'_>) {
        while let Some(w) = self.pop() {
            self.hand(w, handed(e), woken);
        }
    }

    /// Makes the descriptor readable if there is a value, else unreadable.
    fn update_fd(&mut self) {
        let readable = self.value != 0;
        if self.fd < 0 || readable == self.readable {
            return;
        }
        self.readable = readable;
        let mut n = 1u64;
        // SAFETY: a non-blocking eventfd of ours; n is 8 bytes.
        unsafe {
            let n = std::ptr::from_mut(&mut n).cast();
            if readable {
                libc::write(self.fd, n, 8)
            } else {
                libc::read(self.fd, n, 8)
            };
        }
    }

    /// In a fork child: a descriptor that is shared with the parent is replaced. If there is none to be
    /// had, nobody waits by one any more.
    pub(super) fn renew_fd(&mut self) {
        if self.fd < 0 {
            return;
        }
        self.readable = false;
        if !renew_fd(self.fd, new_fd) {
            self.fd = -1;
            self.blocked -= 1;
        }
        self.update_fd();
    }

    /// The arming ends unreceived, if one is pending: its value is drained.
    #[inline(always)]
    pub(super) fn end(&mut self, s: &Sched, how: Counter) -> bool {
        let pending = self.pending();
        self.order_call(s);
        self.when = 0;
        self.value = 0;
        self.update_fd();
        s.block().add(how, pending as u64);
        pending
    }

    /// The channel is of no more use: free, shutdown.
    pub(super) fn finish(&mut self, s: &Sched, why: Error, woken: &mut Woken<'_>) -> Result<bool> {
        self.alive()?;
        self.gone = Some(why);
        let stopped = self.end(s, Counter::Stopped);
        self.dismiss(why, woken);
        if self.fd >= 0 {
            // SAFETY: our descriptor; the field goes with it.
            unsafe { libc::close(self.fd) };
            self.fd = -1;
        }
        Ok(stopped)
    }
}

/// Is this the timer of a channel? Asked before its lock is taken: a handle's timer does
/// not change its kind, and a dead id is found out later.
#[inline(always)]
pub(crate) fn is_chan(t: TimerRef) -> bool {
    t.flags() & CHAN != 0
}

/// The channel of a timer. Anything else is an error.
pub(super) fn lookup(s: &Sched, t: TimerRef, id: Option<u32>) -> Result<ChanRef> {
    engine::with_arg(s, t, id, |flags, arg| {
        if flags & CHAN == 0 {
            return Err(Error::Inval);
        }
        if flags & SHUTDOWN != 0 {
            return Err(Error::Shutdown);
        }
        let chan = NonNull::new(arg.cast::<Chan>()).ok_or(Error::Stale)?;
        // SAFETY: the timer is locked and has its argument: its reference is held.
        unsafe { chan.as_ref() }
            .refs
            .fetch_add(1, Ordering::Relaxed);
        Ok(ChanRef(chan))
    })
}

/// What the engine's timer calls: somebody waits, and the time may have come.
pub(super) unsafe extern "C-unwind" fn alarm(arg: *mut c_void, _seq: usize, _delay: i64) {
    let _in = Inside::enter();
    // SAFETY: the timer's argument is kept while its callback runs, and the channel's sched
    // with it: the run holds the P.
    let (chan, s) = unsafe {
        let chan = &*arg.cast::<Chan>();
        (chan, &*chan.s)
    };
    let mut woken = Woken::default();
    chan.with(s, |i| {
        i.settle(s, &mut woken);
        if i.set_alarm(s, i.when, &mut woken).is_err() {
            // Nothing would wake them any more: so they are told.
            i.unarmed = true;
            i.dismiss(Error::NoMem, &mut woken);
        }
    });
    woken.call(s);
}
