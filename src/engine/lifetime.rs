//! What Go has no need of, because it has a garbage collector: shut down, detach, free, and
//! what else ends or only looks at a timer.

use super::modtimer::{check_alive, stop_locked, stopped_state};
use super::sweep::sweep_over_bound;
use super::timer::{DETACHED, FREED, Func, HAS_DROP, Locked, RETIRED, SHUTDOWN, State, TimerRef};
use super::{ArgRef, Block, Procs};
use crate::error::{Error, Result};
use crate::sync::Ordering;
use std::ffi::c_void;

/// Stops a timer for good: every later arming is refused, and since f can never be
/// called again, the argument is dropped now (or by the last run under way). A detached
/// timer, which nobody will free, is freed.
pub(crate) fn shutdown_timer<S: Procs>(s: &S, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let mut l = t.lock(s.host());
    if let Err(e) = check_alive(s, t, &l, id) {
        l.put_back();
        return Err(e);
    }
    if l.has(DETACHED) {
        return Ok(free_locked(s, t, l));
    }
    let stopped = stop_locked(s, &mut l);
    let boxed = take_box(&mut l);
    l.set(SHUTDOWN);
    finish_stop(s, l, boxed);
    Ok(stopped)
}

/// Unlocks a timer that stop_locked was called for, sweeps if it is due, drops the
/// argument.
fn finish_stop<S: Procs>(s: &S, l: Locked<'_>, boxed: Option<ArgRef>) {
    let in_heap = l.state != State::Removed;
    let tm = l.home(s);
    let state = stopped_state(&l);
    l.unlock(state);
    if in_heap && tm.owes_sweep() {
        sweep_over_bound(s, tm);
    }
    if let Some(b) = boxed {
        b.release(s.host());
    }
}

/// The locked timer will never again be called with its argument.
pub(crate) fn take_box(l: &mut Locked<'_>) -> Option<ArgRef> {
    if !l.has(HAS_DROP) {
        return None;
    }
    l.clear(HAS_DROP);
    // SAFETY: locked, and it had HAS_DROP until now.
    let b = unsafe { ArgRef::from_field(l.arg) };
    Some(b)
}

/// gt_timer_free: stops the timer and kills its handle and ids. The node goes back when
/// no heap entry and no run refers to it.
pub(crate) fn timer_free<S: Procs>(s: &S, t: TimerRef, id: Option<u32>) -> Result<bool> {
    let l = t.lock(s.host());
    if let Err(e) = check_alive(s, t, &l, id) {
        l.put_back();
        return Err(e);
    }
    Ok(free_locked(s, t, l))
}

pub(super) fn free_locked<S: Procs>(s: &S, t: TimerRef, mut l: Locked<'_>) -> bool {
    let stopped = stop_locked(s, &mut l);
    let boxed = take_box(&mut l);
    set_freed(s, t, &mut l);
    let in_heap = l.state != State::Removed;
    // Acquire, and why 1 stays 1: see release_node. The status word does not say RETIRED yet.
    let ours = !in_heap && t.refs.load(Ordering::Acquire) == 1 && !l.is_retired();
    let given = match s.quick_block_here() {
        Some(block) if ours => {
            s.give_back_to(block, t);
            true
        }
        _ => false,
    };
    finish_stop(s, l, boxed);
    if !in_heap && !given {
        release_node(s, t);
    }
    stopped
}

/// Kills the handle and the ids of a locked timer.
pub(super) fn set_freed<S: Procs>(s: &S, t: TimerRef, l: &mut Locked<'_>) {
    s.raise_generation(t);
    l.set(FREED);
    if s.generation(t) == u32::MAX {
        l.set(RETIRED);
    }
}

/// gt_timer_detach: gives up the handle. An armed timer fires (or is stopped by id), then
/// frees itself; one that is not armed is freed at once.
pub(crate) fn detach<S: Procs>(s: &S, t: TimerRef, id: Option<u32>) -> Result<()> {
    let mut l = t.lock(s.host());
    if let Err(e) = check_alive(s, t, &l, id) {
        l.put_back();
        return Err(e);
    }
    if l.when == 0 {
        free_locked(s, t, l);
        return Ok(());
    }
    l.set(DETACHED);
    l.put_back();
    Ok(())
}

/// gt_sched_free: whatever the timer is, it is stopped, shut down, and its argument
/// dropped; a detached one is freed. Its handle stays good for gt_timer_free.
pub(crate) fn stop_for_good<S: Procs>(s: &S, t: TimerRef) {
    let mut l = t.lock(s.host());
    if l.has(FREED) || t.refs.load(Ordering::Relaxed) == 0 {
        l.put_back();
    } else if l.has(DETACHED) {
        free_locked(s, t, l);
    } else {
        stop_locked(s, &mut l);
        let boxed = take_box(&mut l);
        l.set(SHUTDOWN);
        finish_stop(s, l, boxed);
    }
}

/// Gives one reference to the node back.
#[inline]
pub(crate) fn release_node<S: Procs>(s: &S, t: TimerRef) {
    if was_last(t) {
        s.give_back(t);
    }
}

/// The same; a P's lock is held.
#[inline]
pub(crate) fn release_node_held<S: Procs>(s: &S, t: TimerRef) {
    match s.quick_block_here() {
        Some(block) => release_node_quick(s, block, t),
        None => release_node(s, t),
    }
}

/// The same for one with a block of quick_block: see cache::take_back.
#[inline(always)]
pub(super) fn release_node_quick<S: Procs>(s: &S, block: &Block, t: TimerRef) {
    if was_last(t) {
        s.give_back_to(block, t);
    }
}

#[inline(always)]
fn was_last(t: TimerRef) -> bool {
    // If ours is the only one nobody can make another. Acquire and AcqRel: who returns the
    // node sees all that the others did with it.
    t.refs.load(Ordering::Acquire) == 1 || t.refs.fetch_sub(1, Ordering::AcqRel) == 1
}

/// The argument of a timer that could not be armed, and that nobody knows, stays its
/// owner's: it is not dropped.
pub(crate) fn disown_arg<S: Procs>(s: &S, t: TimerRef) {
    let mut l = t.lock(s.host());
    let boxed = take_box(&mut l);
    l.put_back();
    if let Some(b) = boxed {
        b.discard(s.host());
    }
}

/// The state of a timer at this moment, without its lock: Locked is a state too.
pub(crate) fn timer_status<S: Procs>(s: &S, t: TimerRef, id: Option<u32>) -> Result<State> {
    let word = t.flags();
    let dead = word & FREED != 0 || (id.is_none() && word & DETACHED != 0);
    if dead || id.is_some_and(|generation| s.generation(t) != generation) {
        return Err(Error::Stale);
    }
    Ok(State::of(word))
}

/// Looks at a timer's flags and argument (null if it has been dropped), under its lock.
pub(crate) fn with_arg<S: Procs, R>(
    s: &S,
    t: TimerRef,
    id: Option<u32>,
    f: impl FnOnce(u32, *mut c_void) -> Result<R>,
) -> Result<R> {
    let l = t.lock(s.host());
    let result = check_alive(s, t, &l, id).and_then(|()| {
        let arg = if l.has(HAS_DROP) {
            // SAFETY: locked, and HAS_DROP says that arg is a box.
            unsafe { ArgRef::from_field(l.arg) }.get().arg
        } else {
            std::ptr::null_mut()
        };
        f(l.flags(), arg)
    });
    l.put_back();
    result
}

/// The argument of a live timer whose f is this one, and which has no drop function.
pub(crate) fn arg_of_func<S: Procs>(s: &S, t: TimerRef, f: Func) -> Option<*mut c_void> {
    let l = t.lock(s.host());
    let mine = !l.has(FREED | HAS_DROP) && l.f.is_some_and(|g| std::ptr::fn_addr_eq(f, g));
    let arg = l.arg;
    l.put_back();
    mine.then_some(arg)
}

/// When a timer will fire; 0: it is not armed.
pub(crate) fn timer_when<S: Procs>(s: &S, t: TimerRef, id: Option<u32>) -> Result<i64> {
    let l = t.lock(s.host());
    let when = check_alive(s, t, &l, id).map(|()| l.when);
    l.put_back();
    when
}
