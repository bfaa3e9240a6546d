//! What a thread knows: the P it is bound to, its counters, the last error.
//!
//! Green threads move between threads during a callback, and compilers keep addresses of
//! thread-locals in registers. So they are reached through one function that is never
//! inlined, and nothing of it is kept over a callback.

use super::last::{Last, block_if_last, last};
use super::p::P;
use super::sched::Sched;
use super::slot::Slot;
use super::{at_end, fork};
use crate::engine::{Block, Procs, Timers};
use crate::error::{Error, Result};
use crate::host::{Inside, acquire, release};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

const CACHED: usize = 3;

pub(crate) struct Hot {
    /// Counter blocks of the scheds that this thread used before the one in `last`: uid and
    /// block.
    blocks: [Cell<(u64, *const Block)>; CACHED],
    next: Cell<usize>,
    /// The bound P and the uid of its sched. The P is looked at only after the sched is
    /// known to be alive.
    bound: Cell<(u64, *const P)>,
    pub(crate) last_error: Cell<i32>,
    /// The wake hook that this thread is in, and so on.
    hooks: Cell<*const InHook>,
    /// The uid of the sched whose bubble this thread has joined; 0: none.
    pub(super) bubble: Cell<u64>,
    /// The thread ends, and has given back what it had: it gets nothing more.
    over: Cell<bool>,
}

thread_local! {
    static HOT: Hot = const {
        Hot {
            blocks: [const { Cell::new((0, std::ptr::null())) }; CACHED],
            next: Cell::new(0),
            bound: Cell::new((0, std::ptr::null())),
            last_error: Cell::new(0),
            hooks: Cell::new(std::ptr::null()),
            bubble: Cell::new(0),
            over: Cell::new(false),
        }
    };
}

/// Releases the thread's P and blocks when the thread ends.
pub(super) fn end_thread() {
    let _in = Inside::enter();
    hot().over.set(true);
    let _ = releasep();
    let token = near().token.replace(0);
    for b in &hot().blocks {
        b.set((0, std::ptr::null()));
    }
    set_last(hot(), 0, std::ptr::null());
    fork::for_each_sched(|s| s.release_blocks(token));
}

/// This thread's values. Do not keep the reference over a callback.
#[inline(never)]
pub(crate) fn hot() -> &'static Hot {
    // SAFETY: HOT has no destructor, so it is there as long as the thread is; the
    // reference is used up by its own thread before any callback.
    HOT.with(|h| unsafe { &*std::ptr::from_ref(h) })
}

/// The calling thread: a number that no other living thread has, the same in a fork child.
pub(crate) fn here() -> usize {
    std::ptr::from_ref(hot()).addr()
}

/// A number that no other thread has or had; 0 when nobody would take back what it got: the
/// thread is as good as over, or there is no memory to note that it will be.
pub(crate) fn my_token() -> u64 {
    token().unwrap_or(0)
}

/// The same, or which of the two it is: `Inval`, `NoMem`.
fn token() -> Result<u64> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let token = &near().token;
    if token.get() == 0 {
        if hot().over.get() {
            return Err(Error::Inval);
        }
        at_end::note()?;
        token.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    Ok(token.get())
}

/// A wake hook under way, on the stack of who calls it.
struct InHook {
    slot: *const Slot,
    /// The one that this one was called in.
    outer: *const InHook,
}

/// Calls a wake hook for the P of this slot.
pub(crate) fn in_hook_of(slot: &Slot, hook: impl FnOnce()) {
    let outer = hot().hooks.get();
    let this = InHook { slot, outer };
    hot().hooks.set(&this);
    hook();
    hot().hooks.set(outer);
}

/// Is the calling thread in a wake hook?
pub(crate) fn is_in_hook() -> bool {
    !hot().hooks.get().is_null()
}

/// How many wake hooks for the P of this slot the calling thread is in.
pub(crate) fn hooks_of(slot: &Slot) -> u32 {
    let mut at = hot().hooks.get();
    let mut n = 0;
    // SAFETY: those in the list are under way, on this thread's stack.
    while let Some(hook) = unsafe { at.as_ref() } {
        n += std::ptr::eq(hook.slot, slot) as u32;
        at = hook.outer;
    }
    n
}

/// What stands beside the thread pointer. Used up before any callback.
#[inline(always)]
fn near() -> &'static Last {
    // SAFETY: this thread's own, as long as the thread is.
    unsafe { &*last() }
}

/// The sched of this uid is the one used last.
fn set_last(h: &Hot, uid: u64, block: *const Block) {
    let l = near();
    l.uid.set(uid);
    l.block.set(block);
    let (of, p) = h.bound.get();
    l.p.set(if of == uid { p } else { std::ptr::null() });
}

fn set_bound(uid: u64, p: *const P) {
    let (h, l) = (hot(), near());
    h.bound.set((uid, p));
    l.p.set(if l.uid.get() == uid {
        p
    } else {
        std::ptr::null()
    });
}

/// This thread's counters in a sched. Not inlined, as `hot`: a callback may come before and
/// after.
#[inline(never)]
pub(crate) fn block(s: &Sched) -> &Block {
    let l = near();
    if l.uid.get() == s.uid {
        // SAFETY: a block lives as long as its sched, and `s` is that sched.
        return unsafe { &*l.block.get() };
    }
    find_block(s)
}

/// The same for the sched of a P, inlined: for code from which no callback is called, so that
/// nothing of the thread is kept over one. `None`: its short paths are closed to this thread.
#[inline(always)]
pub(crate) fn quick_block(tm: &Timers) -> Option<&Block> {
    block_of_quick(tm.quick())
}

/// The same for one who has the sched.
#[inline(always)]
pub(crate) fn quick_block_here(s: &Sched) -> Option<&Block> {
    block_of_quick(s.quick())
}

#[inline(always)]
fn block_of_quick<'a>(quick: u64) -> Option<&'a Block> {
    let block = block_if_last(quick)?;
    // SAFETY: as above: `quick` is the uid, or a number that no sched has; the callers have
    // the sched, or a P of it.
    unsafe {
        std::hint::assert_unchecked(!block.is_null());
        Some(&*block)
    }
}

/// The P that the calling thread is bound to, for one to whom quick_block has given a block.
#[inline(always)]
pub(crate) fn quick_p(_: &Timers) -> Option<&P> {
    let l = near();
    // SAFETY: null or a P of the sched that quick_block was asked for; Ps' slots stay.
    let p = unsafe { l.p.get().as_ref() }?;
    // Freed meanwhile, it may be somebody else's by now. That it is alive is seen under its lock.
    p.bound.is(l.token.get()).then_some(p)
}

#[cold]
fn find_block(s: &Sched) -> &Block {
    let h = hot();
    let at = h.blocks.iter().position(|b| b.get().0 == s.uid);
    let at = at.unwrap_or_else(|| {
        let at = h.next.get() % CACHED;
        h.next.set(at + 1);
        h.blocks[at].set((s.uid, s.blocks.of(s.host(), my_token())));
        at
    });
    let (uid, b) = h.blocks[at].replace((near().uid.get(), near().block.get()));
    // SAFETY: as above.
    let block = unsafe { &*b };
    if block.is_shared() {
        // Never the last: the short paths take a block for the thread's own.
        h.blocks[at].set((uid, b));
    } else {
        set_last(h, uid, b);
    }
    block
}

/// The P of this sched that the calling thread is bound to.
#[inline]
pub(crate) fn bound_p(s: &Sched) -> Option<&P> {
    let h = hot();
    let (uid, p) = h.bound.get();
    if uid != s.uid {
        return None;
    }
    // SAFETY: the P belongs to `s`, which lives, and Ps' slots stay.
    let p = unsafe { &*p };
    (p.bound.is(near().token.get()) && !p.is_dead()).then_some(p)
}

/// Binds the calling thread to a P.
pub(crate) fn acquirep(p: &P) -> Result<()> {
    let me = token()?;
    if let Some(mine) = current_p() {
        return if std::ptr::eq(mine, p) {
            Ok(())
        } else {
            Err(Error::Busy)
        };
    }
    // The one that it was bound to may be about to be freed, or not: there may be no memory for that.
    let _ = releasep();
    let bound = p.bound.bind(me);
    if p.is_dead() {
        p.bound.unbind(me);
        return Err(Error::Stale);
    }
    if !bound {
        return Err(Error::Busy);
    }
    acquire(&raw const p.bound);
    set_bound(p.sched().uid, std::ptr::from_ref(p));
    Ok(())
}

/// The P that the calling thread is bound to, if it still lives. Valid while the caller
/// keeps the P from being freed.
pub(crate) fn current_p() -> Option<&'static P> {
    with_bound(|p| (!p.is_dead()).then_some(p)).flatten()
}

/// Unbinds the calling thread. The P that it was bound to, unless that is gone.
pub(crate) fn releasep() -> Option<&'static P> {
    let me = near().token.get();
    // A dead one too: it lives on if it cannot be freed.
    let p = with_bound(|p| {
        release(&raw const p.bound);
        p.bound.unbind(me);
        (!p.is_dead()).then_some(p)
    });
    set_bound(0, std::ptr::null());
    p.flatten()
}

/// Calls f with the P that the calling thread is bound to, dead or alive.
fn with_bound<R>(f: impl FnOnce(&'static P) -> R) -> Option<R> {
    let h = hot();
    let (uid, p) = h.bound.get();
    if uid == 0 {
        return None;
    }
    let mut f = Some(f);
    let mut found = None;
    // The list of scheds is held meanwhile: this one is not destroyed under us.
    fork::for_each_sched(|s| {
        if s.uid == uid {
            // SAFETY: the P's sched is alive, and Ps' slots stay as long.
            let p = unsafe { &*p };
            if p.bound.is(near().token.get()) {
                found = f.take().map(|f| f(p));
            }
        }
    });
    found
}
