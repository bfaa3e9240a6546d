//! Free nodes. Each thread keeps some for itself, so that most timers are made and given back
//! with nothing that threads share; whole batches of them go to the slab, under its lock, and
//! come from there.
//!
//! How many timers are in use is counted like everything else, each thread for itself, and
//! summed up when somebody asks. Once the sched is closed it must be exact, for who gives the
//! last one back then destroys it. So `Sched::close` shuts the short paths, and it is summed up
//! when the last pass over a P has ended too, since callbacks may make timers. A timer is taken
//! back here only by one who holds its lock or a P's, and sees inside that the short paths are
//! open. Each of these locks is taken once between the closing and the sum: who held it before
//! is counted in; who takes it later sees that they are shut, and goes to the slab.
//!
//! A fork child makes all lists anew from the nodes: one with no reference is free.

use super::pool::{BATCH, Pool};
use super::timer::{Func, RETIRED, TimerRef};
use super::timers::Timers;
use super::{Block, Procs};
use crate::error::Result;
use crate::sync::{AtomicU64, Guarded, Ordering};
use std::ffi::c_void;

/// A thread's free nodes of one sched: two batches at most.
pub(crate) struct Cache {
    /// Its thread's alone.
    lists: Guarded<Lists>,
    /// Timers that the thread has made, less those that it gave back; it wraps.
    live: AtomicU64,
}

struct Lists {
    /// Nodes are taken from here and put here; each links to the next one.
    first: Option<TimerRef>,
    /// How many these are.
    n: u32,
    /// A whole batch. So a thread that goes to and fro at the edge of one does not need the
    /// slab each time.
    full: Option<TimerRef>,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Cache {
            lists: Guarded::new(Lists {
                first: None,
                n: 0,
                full: None,
            }),
            live: AtomicU64::new(0),
        }
    }

    /// # Safety
    /// The calling thread's own, or that of a thread that is gone; no other reference lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn lists(&self) -> &mut Lists {
        // SAFETY: the caller's promise.
        unsafe { self.lists.get() }
    }

    #[inline(always)]
    fn count(&self, n: i64) {
        // Relaxed: who sums up does so after he has had the lock that we hold, or takes what
        // he sees. No read-modify-write: nobody else writes.
        let live = self.live.load(Ordering::Relaxed);
        self.live
            .store(live.wrapping_add_signed(n), Ordering::Relaxed);
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// The count is in the slab's now.
    pub(crate) fn forget_live(&self) {
        self.live.store(0, Ordering::Relaxed);
    }

    /// Takes all nodes out: those that link to each other, and a batch.
    ///
    /// # Safety
    /// The calling thread's own, or that of a thread that is gone.
    pub(crate) unsafe fn take_all(&self) -> (Option<TimerRef>, Option<TimerRef>) {
        // SAFETY: the caller's promise.
        let l = unsafe { self.lists() };
        l.n = 0;
        (l.first.take(), l.full.take())
    }

    /// If `make` would find none, it will: the batch, or what `more` gives.
    ///
    /// # Safety
    /// The calling thread's own, and `more` does not use it.
    pub(crate) unsafe fn fill(
        &self,
        more: impl FnOnce() -> Result<(Option<TimerRef>, u32)>,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        let l = unsafe { self.lists() };
        if l.first.is_none() {
            (l.first, l.n) = match l.full.take() {
                None => more()?,
                full => (full, BATCH),
            };
        }
        Ok(())
    }
}

/// gt_timer_new, from the thread's own nodes, with P 0 for its home. `None`: there is none, or something else is not
/// as usual.
#[inline(always)]
pub(crate) fn make<S: Procs>(
    s: &S,
    home: &Timers,
    f: Func,
    arg: *mut c_void,
    flags: u32,
) -> Option<TimerRef> {
    let cache = &s.quick_block_here()?.cache;
    // SAFETY: ours; nothing is called while the reference lives.
    let l = unsafe { cache.lists() };
    let t = l.first?;
    // SAFETY: free, and ours; what it links to is free too.
    l.first = unsafe { TimerRef::from_link(*t.link()) };
    l.n -= 1;
    cache.count(1);
    t.init(home, f, arg, flags);
    Some(t)
}

/// Takes a timer back, among the thread's own nodes. `block` is of quick_block, asked while the
/// timer's lock was held or a P's; or before, if under the P's lock another timer was locked since
/// that is not shut down: so whoever closes the sched has not come to that lock yet.
#[inline(always)]
pub(crate) fn take_back<X>(block: &Block, pool: &Pool<X>, t: TimerRef) {
    let cache = &block.cache;
    t.refs.store(0, Ordering::Relaxed);
    cache.count(-1);
    if t.flags() & RETIRED == RETIRED {
        return; // and is never used again
    }
    // SAFETY: ours; nothing is called while the reference lives.
    let l = unsafe { cache.lists() };
    if l.n == BATCH {
        l.n = 0;
        let full = std::mem::replace(&mut l.full, l.first.take());
        if let Some(full) = full {
            pool.give_batch(full);
        }
    }
    // SAFETY: nobody refers to it.
    unsafe { *t.link() = TimerRef::link_to(l.first) };
    l.first = Some(t);
    l.n += 1;
}
