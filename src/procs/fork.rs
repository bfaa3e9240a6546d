//! fork (rule S18), and the list of live scheds that it needs.
//!
//! All locks of all scheds but the timers' own are held over fork, so heaps are whole in
//! the child. What threads that are lost there held locked is released by
//! gt_after_fork; until then, calls in the child give GT_EFORK.

use super::p::P;
use super::sched::Sched;
use super::{at_end, del_sync::WAITERS, registry, tls};
#[cfg(feature = "checked")]
use crate::engine::checked;
use crate::engine::{FORKING, Procs, adjusttimers, count_deleted, end_lost_runs, take_lost_runs};
use crate::error::{Error, Result};
use crate::host::unusual::{self, FORKED};
use crate::sync::{RawLock, rank};
use std::cell::UnsafeCell;
use std::sync::Once;

struct Scheds {
    lock: RawLock,
    /// Guarded by `lock`.
    list: UnsafeCell<Vec<*const Sched>>,
}

// SAFETY: `list` is guarded by `lock`.
unsafe impl Sync for Scheds {}

static SCHEDS: Scheds = Scheds {
    lock: RawLock::new(rank::GLOBAL),
    list: UnsafeCell::new(Vec::new()),
};

fn with_list<R>(f: impl FnOnce(&mut Vec<*const Sched>) -> R) -> R {
    SCHEDS.lock.lock();
    // SAFETY: the lock is held; f gets the only reference.
    let r = f(unsafe { &mut *SCHEDS.list.get() });
    SCHEDS.lock.unlock();
    r
}

pub(crate) fn add_sched(s: &Sched) -> Result<()> {
    with_list(|list| {
        at_end::register()?;
        list.try_reserve(1).map_err(|_| Error::NoMem)?;
        list.push(s);
        Ok(())
    })
}

pub(crate) fn remove_sched(s: &Sched) {
    with_list(|list| list.retain(|&x| !std::ptr::eq(x, s)));
}

/// Calls `f` for each live sched; none is destroyed meanwhile.
pub(crate) fn for_each_sched(mut f: impl FnMut(&Sched)) {
    with_list(|list| {
        for &s in list.iter() {
            // SAFETY: a sched takes itself off the list, under its lock, before it goes.
            f(unsafe { &*s });
        }
    });
}

/// Is this the address of a live sched? For the checked build.
#[cfg(feature = "checked")]
pub(crate) fn is_sched(addr: usize) -> bool {
    with_list(|list| list.iter().any(|&s| s as usize == addr))
}

/// Is this the address of a P's slot in a live sched? For the checked build.
#[cfg(feature = "checked")]
pub(crate) fn is_p(addr: usize) -> bool {
    let mut found = false;
    for_each_sched(|s| {
        s.registry
            .for_each_slot(|p| found |= std::ptr::from_ref(p).addr() == addr && p.index > 0)
    });
    found
}

/// In a fork child, before after_fork?
#[inline(always)]
pub(crate) fn forked() -> bool {
    unusual::is(FORKED)
}

/// Registers the handlers, once.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    // SAFETY: the handlers are functions of this library, which does not get unloaded
    // before fork is called (pthread_atfork's entries go with the library).
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(prepare), Some(parent), Some(child));
    });
}

extern "C" fn prepare() {
    SCHEDS.lock.lock();
    WAITERS.lock.lock();
    rank::leave(rank::WAITERS);
    // SAFETY: the lock is held, and the list's scheds are alive.
    let list = unsafe { &*SCHEDS.list.get() };
    for &s in list {
        // SAFETY: as above.
        unsafe { &*s }.fork_lock();
    }
    #[cfg(feature = "checked")]
    checked::fork_lock();
    FORKING.begin();
    for &s in list {
        // SAFETY: as above.
        unsafe { &*s }.fork_wait_for_writers();
    }
}

extern "C" fn parent() {
    FORKING.end();
    #[cfg(feature = "checked")]
    checked::fork_unlock();
    // SAFETY: the lock is held since `prepare`.
    for &s in unsafe { &*SCHEDS.list.get() } {
        // SAFETY: as above.
        unsafe { &*s }.fork_unlock();
    }
    WAITERS.lock.unlock();
    SCHEDS.lock.unlock();
}

extern "C" fn child() {
    unusual::set(FORKED);
    #[cfg(feature = "checked")]
    checked::fork_child();
    // SAFETY: the lock is held since `prepare`.
    for &s in unsafe { &*SCHEDS.list.get() } {
        // SAFETY: as in `prepare`.
        unsafe { &*s }.close_quick();
    }
    parent();
}

/// gt_after_fork: releases what lost threads held; all timers go on.
/// `above` repairs what the layer above has in a sched; it returns what to add to the
/// armings in the heaps, for those that are pending.
pub(crate) fn after_fork(above: impl Fn(&Sched) -> i64) -> Result<()> {
    if !forked() {
        return Ok(());
    }
    let me = tls::my_token();
    WAITERS.forget();
    for_each_sched_unlocked(|s| repair(s, me, &above));
    unusual::clear(FORKED);
    for_each_sched_unlocked(Sched::open_quick);
    Ok(())
}

/// The child has one thread: only `f` changes the list under us, when it ends its sched. So from
/// the last one to the first.
fn for_each_sched_unlocked(mut f: impl FnMut(&Sched)) {
    for i in (0..with_list(|list| list.len())).rev() {
        if let Some(s) = with_list(|list| list.get(i).copied()) {
            // SAFETY: as in for_each_sched; one thread.
            f(unsafe { &*s });
        }
    }
}

fn repair(s: &Sched, me: u64, above: impl Fn(&Sched) -> i64) {
    let _keep = s.keep();
    s.fork_repair(me);
    s.forget_other_members();
    s.registry.for_each_slot(|p| {
        if !p.bound.is(me) {
            p.bound.clear();
        }
        p.slot.forget_hooks_but(tls::hooks_of(&p.slot));
        p.note.forget_sleepers();
        let mut h = p.lock(s);
        p.set_deleted(count_deleted(&mut h));
        // Whose green threads are lost only their owner knows: then all runs stay.
        let here = s.host().current_context();
        let lost = take_lost_runs(&mut h, |context| {
            s.host().has_own_contexts() || context == here
        });
        adjusttimers(&mut h, 0, true);
        drop(h);
        end_lost_runs(s, lost);
        p.fd.renew(s);
        p.update_fd();
    });
    s.fork_find_free_slots();
    s.registry.for_each_slot(|p| finish_lost_free(s, p));
    s.fork_rebase(above(s));
}

/// If a lost thread was in gt_p_free: does the rest of it.
fn finish_lost_free(s: &Sched, p: &P) {
    if !p.slot.has_lost_freer(tls::here()) {
        return;
    }
    if tls::hooks_of(&p.slot) == 0 {
        registry::finish_free(s, p);
    } else {
        p.slot.leave_free_to_hook();
    }
}
