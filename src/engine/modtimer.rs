//! `addtimer`, `modtimer`, `resettimer`, `deltimer` of runtime/time.go.
//!
//! A timer that is in a heap is changed in place, under its own lock only: the heap's
//! owner repairs the heap later. A timer in no heap is inserted under the lock of a P,
//! which comes first in the order: so the timer is not locked when that is decided,
//! and everything is looked at again when it is (the window that the seeds left open).

use super::lifetime::free_locked;
use super::sweep::{clean_tail, sweep_over_bound};
use super::timer::{
    CHAN, DETACHED, FREED, Func, HAS_DROP, Locked, SHUTDOWN, State, TimerRef, WATCHED,
};
use super::timers::Timers;
use super::{ArgRef, Counter, Procs, cleantimers};
use crate::error::{Error, Result};
use crate::sync::Backoff;
use std::ffi::c_void;

/// What to arm a timer with.
#[derive(Clone, Copy)]
pub(crate) struct Arm {
    pub when: i64,
    pub period: i64,
    /// New f, arg and seq; none: they stay.
    pub set: Option<(Func, *mut c_void, usize)>,
    /// gt_addtimer: an armed timer is refused.
    pub add: bool,
}

impl Arm {
    /// For `when`; all else stays.
    pub(crate) fn at(when: i64, period: i64) -> Arm {
        Arm {
            when,
            period,
            set: None,
            add: false,
        }
    }
}

/// A change that has been made: what is still to do when all locks are gone.
struct Done {
    pending: bool,
    old_box: Option<ArgRef>,
}

/// Go's modtimer; addtimer and resettimer are cases of it. `id` is the generation that
/// the caller knows, if he came by id. `on` is the P that he names. True: an arming was
/// pending and has been replaced.
#[inline]
pub(crate) fn modtimer<S: Procs>(
    s: &S,
    t: TimerRef,
    id: Option<u32>,
    on: Option<&Timers>,
    arm: &Arm,
) -> Result<bool> {
    let mut wake = Wake::default();
    let pending = modtimer_quietly(s, t, id, on, arm, &mut wake)?;
    wake.call(s);
    Ok(pending)
}

/// The P whose wake time may have been lowered, and to what: noted, and its sleeper woken,
/// when no lock is held any more (golang/go#38070).
#[derive(Default)]
pub(crate) struct Wake<'a>(Option<(&'a Timers, i64)>);

impl Wake<'_> {
    #[inline(always)]
    pub(crate) fn call<S: Procs>(self, s: &S) {
        if let Some((tm, when)) = self.0 {
            tm.note_lowered(s, when);
        }
    }
}

/// modtimer for one who holds a lock that comes before the Ps': he calls `wake` when he
/// has let it go.
#[inline(always)]
pub(crate) fn modtimer_quietly<'a, S: Procs>(
    s: &'a S,
    t: TimerRef,
    id: Option<u32>,
    on: Option<&'a Timers>,
    arm: &Arm,
    wake: &mut Wake<'a>,
) -> Result<bool> {
    // The argument's box, if one turns out to be needed; made with no lock held.
    let mut spare = None;
    let result = loop {
        let step = if t.state() == State::Removed {
            insert(s, t, id, on, arm, &mut spare, wake)
        } else {
            change(s, t, id, arm, &mut spare, wake)
        };
        match step {
            Ok(Some(done)) => break Ok(done),
            Ok(None) => continue,
            Err(Retry::NeedBox(drop)) => {
                let arg = arm.set.map_or(std::ptr::null_mut(), |(_, arg, _)| arg);
                match ArgRef::new(s.host(), arg, drop) {
                    Some(b) => spare = Some(b),
                    None => break Err(Error::NoMem),
                }
            }
            Err(Retry::No(e)) => break Err(e),
        }
    };
    if let Some(b) = spare {
        b.discard(s.host());
    }
    let done = result?;
    if let Some(b) = done.old_box {
        b.release(s.host());
    }
    Ok(done.pending)
}

enum Retry {
    NeedBox(super::DropFn),
    No(Error),
}

impl From<Error> for Retry {
    fn from(e: Error) -> Self {
        Retry::No(e)
    }
}

/// May the locked timer be used by a caller who knows it by this generation?
#[inline(always)]
pub(super) fn check_alive<S: Procs>(
    s: &S,
    t: TimerRef,
    l: &Locked<'_>,
    id: Option<u32>,
) -> Result<()> {
    if l.has(FREED) {
        return Err(Error::Stale);
    }
    match id {
        Some(generation) if s.generation(t) != generation => Err(Error::Stale),
        None if l.has(DETACHED) => Err(Error::Stale),
        _ => Ok(()),
    }
}

/// All that may refuse an arming, before anything is changed.
#[inline(always)]
fn check_arm<S: Procs>(
    s: &S,
    t: TimerRef,
    l: &Locked<'_>,
    id: Option<u32>,
    arm: &Arm,
    spare: &Option<ArgRef>,
) -> std::result::Result<(), Retry> {
    check_alive(s, t, l, id)?;
    if arm.add && l.when != 0 {
        return Err(Error::Already.into());
    }
    // One look for both: neither is usual.
    if l.has(SHUTDOWN | WATCHED) {
        shut_down_or_watched(l)?;
    }
    if let Some((_, arg, _)) = arm.set
        && l.has(HAS_DROP)
        && spare.is_none()
    {
        // SAFETY: locked, and HAS_DROP says that arg is a box.
        let b = unsafe { ArgRef::from_field(l.arg) };
        if b.get().arg != arg {
            return Err(Retry::NeedBox(b.get().drop));
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn shut_down_or_watched(l: &Locked<'_>) -> Result<()> {
    if l.has(SHUTDOWN) {
        return Err(Error::Shutdown);
    }
    l.order_call();
    Ok(())
}

/// Would this f, arg and seq change anything?
#[inline(always)]
pub(super) fn changes(l: &Locked<'_>, (f, arg, seq): (Func, *mut c_void, usize)) -> bool {
    l.has(HAS_DROP)
        || l.arg != arg
        || l.seq != seq
        || !l.f.is_some_and(|was| std::ptr::fn_addr_eq(was, f))
}

/// Writes the new values, except the key. Returns whether an arming was pending, and the
/// box of the argument that was replaced.
#[inline(always)]
fn write<S: Procs>(s: &S, l: &mut Locked<'_>, arm: &Arm, spare: &mut Option<ArgRef>) -> Done {
    let pending = l.when != 0;
    let mut old_box = None;
    let block = s.block();
    if arm.period != l.period || arm.set.is_some_and(|set| changes(l, set)) {
        // More than one word changes.
        block.begin_write(s.host());
        l.period = arm.period;
        if let Some((f, arg, seq)) = arm.set {
            l.f = Some(f);
            l.seq = seq;
            if !l.has(HAS_DROP) {
                l.arg = arg;
            } else {
                // SAFETY: locked, and HAS_DROP says that arg is a box.
                let old = unsafe { ArgRef::from_field(l.arg) };
                if old.get().arg != arg
                    && let Some(new) = spare.take()
                {
                    l.arg = new.as_field();
                    old_box = Some(old);
                }
            }
        }
        l.when = arm.when;
        block.end_write();
    } else {
        l.when = arm.when;
    }
    if !l.has(CHAN) {
        block.add(Counter::Armed, 1);
        if pending {
            block.add(Counter::Replaced, 1);
        }
    }
    Done { pending, old_box }
}

/// Changes a timer that is in a heap. `None`: it no longer is; start again.
#[inline(always)]
fn change<'a, S: Procs>(
    s: &'a S,
    t: TimerRef,
    id: Option<u32>,
    arm: &Arm,
    spare: &mut Option<ArgRef>,
    wake: &mut Wake<'a>,
) -> std::result::Result<Option<Done>, Retry> {
    let l = t.lock(s.host());
    if l.state == State::Removed {
        l.put_back();
        return Ok(None);
    }
    if let Err(e) = check_arm(s, t, &l, id, arm, spare) {
        l.put_back();
        return Err(e);
    }
    let tm = l.home(s);
    Ok(Some(change_locked(s, l, tm, arm, spare, wake)))
}

/// The timer is locked, in the heap of `tm`, and may be armed: arms it in place.
#[inline(always)]
fn change_locked<'a, S: Procs>(
    s: &S,
    mut l: Locked<'_>,
    tm: &'a Timers,
    arm: &Arm,
    spare: &mut Option<ArgRef>,
    wake: &mut Wake<'a>,
) -> Done {
    let done = write(s, &mut l, arm, spare);
    if !done.pending {
        tm.sub_deleted();
    }
    unlock_modified(l, tm, wake);
    done
}

/// Unlocks a timer in the heap of `tm` whose time has changed.
#[inline(always)]
fn unlock_modified<'a>(mut l: Locked<'_>, tm: &'a Timers, wake: &mut Wake<'a>) {
    let due = l.due();
    l.set_stamp(tm.stamp_for(due));
    // Only an earlier time needs the owner's attention before the entry comes up. It is
    // noted while the timer is Locked: so a scan that could miss the note sees the timer.
    let lowered = due < l.key && tm.update_timer_modified_earliest(due);
    l.unlock(State::Modified);
    if lowered {
        wake.0 = Some((tm, due));
    }
}

/// Arms a timer that was seen in no heap: into the heap of the P that is named, of the
/// caller's own, or of one that is chosen. `None`: start again.
fn insert<'a, S: Procs>(
    s: &'a S,
    t: TimerRef,
    id: Option<u32>,
    on: Option<&'a Timers>,
    arm: &Arm,
    spare: &mut Option<ArgRef>,
    wake: &mut Wake<'a>,
) -> std::result::Result<Option<Done>, Retry> {
    let host = s.host();
    // Pinned from the choice to the insertion: else the green thread may move, and the
    // timer end up on a P that sleeps (golang/go#44868).
    host.acquirem();
    let result = insert_pinned(s, t, id, on, arm, spare, wake);
    host.releasem();
    result
}

fn insert_pinned<'a, S: Procs>(
    s: &'a S,
    t: TimerRef,
    id: Option<u32>,
    on: Option<&'a Timers>,
    arm: &Arm,
    spare: &mut Option<ArgRef>,
    wake: &mut Wake<'a>,
) -> std::result::Result<Option<Done>, Retry> {
    let mut tm = on.unwrap_or_else(|| s.pick(t.home().index));
    let mut h = tm.lock(s);
    let mut backoff = Backoff::new();
    while h.dead {
        // It was freed before we had its lock. Choose again.
        drop(h);
        backoff.snooze(s.host());
        tm = s.pick(0);
        h = tm.lock(s);
    }
    cleantimers(&mut h);
    clean_tail(&mut h);
    // Room first: then nothing can fail once the timer is changed.
    let room = h.heap.reserve(s.host(), 1);
    let mut l = t.lock(s.host());
    if let Err(e) = check_arm(s, t, &l, id, arm, spare) {
        l.put_back();
        return Err(e);
    }
    if l.state != State::Removed {
        // Somebody else armed it meanwhile: it is in a heap, so change it there.
        let home = l.home(s);
        return Ok(Some(change_locked(s, l, home, arm, spare, wake)));
    }
    if let Err(e) = room {
        l.unlock(State::Removed);
        return Err(e.into());
    }
    let done = write(s, &mut l, arm, spare);
    l.set_home(tm);
    let due = l.due();
    l.key = due;
    l.set_stamp(0);
    h.insert(due, t);
    l.unlock(State::Waiting);
    let first = tm.timer0_when();
    if first == 0 || due < first {
        wake.0 = Some((tm, due));
    }
    Ok(Some(done))
}

/// The locked timer's pending arming ends. The caller unlocks it with the same state, or
/// Modified. False: nothing was pending.
#[inline(always)]
pub(super) fn stop_locked<S: Procs>(s: &S, l: &mut Locked<'_>) -> bool {
    if l.when == 0 {
        return false;
    }
    l.when = 0;
    l.set_stamp(0);
    l.order_call();
    l.home(s).add_deleted();
    s.block().add(Counter::Stopped, !l.has(CHAN) as u64);
    true
}

/// The state to unlock with after stop_locked.
#[inline(always)]
pub(super) fn stopped_state(l: &Locked<'_>) -> State {
    if l.state == State::Removed {
        State::Removed
    } else {
        State::Modified
    }
}

/// Go's deltimer. True: it stopped a pending arming.
#[inline]
pub(crate) fn deltimer<S: Procs>(s: &S, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let mut l = t.lock(s.host());
    if let Err(e) = check_alive(s, t, &l, id) {
        l.put_back();
        return Err(e);
    }
    if l.when == 0 {
        l.put_back();
        return Ok(false);
    }
    if l.has(DETACHED) {
        return Ok(free_locked(s, t, l));
    }
    stop_locked(s, &mut l);
    let tm = l.home(s);
    l.unlock(State::Modified);
    if tm.owes_sweep() {
        sweep_over_bound(s, tm);
    }
    Ok(true)
}

/// gt_timer_set_slack: how much later than asked the timer may fire. Holds for a pending
/// arming too.
pub(crate) fn set_slack<S: Procs>(s: &S, t: TimerRef, id: Option<u32>, ns: i64) -> Result<()> {
    let mut l = t.lock(s.host());
    if let Err(e) = check_alive(s, t, &l, id) {
        l.put_back();
        return Err(e);
    }
    if l.has(SHUTDOWN) {
        l.put_back();
        return Err(Error::Shutdown);
    }
    l.set_slack(ns);
    if l.when == 0 {
        l.put_back();
        return Ok(());
    }
    let mut wake = Wake::default();
    let tm = l.home(s);
    unlock_modified(l, tm, &mut wake);
    wake.call(s);
    Ok(())
}
