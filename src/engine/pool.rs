//! The free nodes of a slab that no thread has for itself (see cache.rs), in batches, and the
//! nodes that were never used.

use super::timer::TimerRef;
use crate::error::{Error, Result};
use crate::sync::{Guarded, SpinLock, rank};
use std::ptr::NonNull;

/// So many nodes go to and fro at once.
pub(crate) const BATCH: u32 = if cfg!(gt_model) { 2 } else { 32 };

/// `X`: where new nodes come from, and what else the lock guards.
pub(crate) struct Pool<X> {
    lock: SpinLock,
    /// Guarded by `lock`.
    inner: Guarded<Inner<X>>,
}

struct Inner<X> {
    /// The first nodes of whole batches; each links to the first one of the next batch.
    batches: Option<TimerRef>,
    /// Nodes that came one by one, and how many: less than a batch.
    loose: Option<TimerRef>,
    n: u32,
    /// Timers made here, less those given back here; threads count those that they make or
    /// take back from nodes of their own. All of them, once it is closed.
    in_use: i64,
    closed: bool,
    more: X,
}

// SAFETY: `inner` is guarded by `lock`.
unsafe impl<X: Send> Sync for Pool<X> {}
// SAFETY: as above.
unsafe impl<X: Send> Send for Pool<X> {}

impl<X> Pool<X> {
    pub(crate) fn new(more: X) -> Self {
        Pool {
            lock: SpinLock::new(rank::SLAB),
            inner: Guarded::new(Inner {
                batches: None,
                loose: None,
                n: 0,
                in_use: 0,
                closed: false,
                more,
            }),
        }
    }

    pub(crate) fn lock_for_fork(&self) {
        self.lock.lock();
    }

    pub(crate) fn unlock_for_fork(&self) {
        self.lock.unlock();
    }

    #[inline(always)]
    fn locked<R>(&self, f: impl FnOnce(&mut Inner<X>) -> R) -> R {
        self.lock.lock();
        // SAFETY: the lock is held; f gets the only reference.
        let r = f(unsafe { self.inner.get() });
        self.lock.unlock();
        r
    }

    /// Looks at what else the lock guards.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut X) -> R) -> R {
        self.locked(|i| f(&mut i.more))
    }

    /// What of the timers in use is counted here.
    pub(crate) fn in_use(&self) -> i64 {
        self.locked(|i| i.in_use)
    }

    /// A node for a timer, which is counted here.
    pub(crate) fn take(&self, new: impl FnMut(&mut X) -> Result<TimerRef>) -> Result<TimerRef> {
        self.locked(|i| {
            if i.closed {
                return Err(Error::Shutdown);
            }
            let t = i.one(new)?;
            i.in_use += 1;
            Ok(t)
        })
    }

    /// Nodes for a thread's own, which link to each other, and how many; as many as a batch
    /// has, or less if there is no memory, but not none.
    pub(crate) fn take_some(
        &self,
        mut new: impl FnMut(&mut X) -> Result<TimerRef>,
    ) -> Result<(Option<TimerRef>, u32)> {
        self.locked(|i| {
            if let Some(first) = i.batch() {
                return Ok((Some(first), BATCH));
            }
            if i.loose.is_some() {
                return Ok((i.loose.take(), std::mem::take(&mut i.n)));
            }
            let first = new(&mut i.more)?;
            let (mut last, mut n) = (first, 1);
            while n < BATCH
                && let Ok(t) = new(&mut i.more)
            {
                link(last, Some(t));
                last = t;
                n += 1;
            }
            link(last, None);
            Ok((Some(first), n))
        })
    }

    /// Takes a timer back that is counted here. Its node is never used again if it is
    /// `retired`. `gone` is called under the lock if the pool is closed and this was the last.
    pub(crate) fn give_back(&self, t: TimerRef, retired: bool, gone: impl FnOnce()) {
        self.locked(|i| {
            if !retired {
                i.put(t);
            }
            i.in_use -= 1;
            if i.closed && i.in_use == 0 {
                gone();
            }
        });
    }

    /// A thread has too many: takes a batch of them.
    #[cold]
    #[inline(never)]
    pub(crate) fn give_batch(&self, first: TimerRef) {
        self.locked(|i| i.put_batch(first));
    }

    /// A thread has ended: takes the nodes it had, see Cache::take_all.
    pub(crate) fn give_all(&self, (loose, full): (Option<TimerRef>, Option<TimerRef>)) {
        self.locked(|i| {
            if let Some(full) = full {
                i.put_batch(full);
            }
            i.put_list(loose);
        });
    }

    /// From now on all timers are counted here, `more` of them in addition; no new one is
    /// made. `left` is called under the lock if there are any.
    pub(crate) fn close(&self, more: u64, left: impl FnOnce()) {
        self.locked(|i| {
            i.in_use = i.in_use.wrapping_add_unsigned(more);
            i.closed = true;
            if i.in_use > 0 {
                left();
            }
        });
    }

    /// In a fork child, which has one thread: these are all that are free, and so many are
    /// in use.
    pub(crate) fn set(&self, free: Option<TimerRef>, in_use: i64) {
        self.locked(|i| {
            (i.batches, i.loose, i.n) = (None, None, 0);
            i.put_list(free);
            i.in_use = in_use;
        });
    }
}

impl<X> Inner<X> {
    fn one(&mut self, mut new: impl FnMut(&mut X) -> Result<TimerRef>) -> Result<TimerRef> {
        if self.loose.is_none()
            && let Some(first) = self.batch()
        {
            (self.loose, self.n) = (Some(first), BATCH);
        }
        let Some(t) = self.loose else {
            return new(&mut self.more);
        };
        self.loose = next(t);
        self.n -= 1;
        Ok(t)
    }

    fn batch(&mut self) -> Option<TimerRef> {
        let first = self.batches?;
        // SAFETY: free, and the lock is held; what it links to is free too.
        self.batches = unsafe { NonNull::new(first.batch_link().cast()).map(|t| TimerRef::new(t)) };
        Some(first)
    }

    fn put_batch(&mut self, first: TimerRef) {
        let next = self.batches.map_or(std::ptr::null_mut(), TimerRef::as_ptr);
        // SAFETY: free, and the lock is held.
        unsafe { *first.batch_link() = next.cast() };
        self.batches = Some(first);
    }

    fn put(&mut self, t: TimerRef) {
        if self.n == BATCH {
            let full = self.loose.take();
            self.n = 0;
            if let Some(full) = full {
                self.put_batch(full);
            }
        }
        link(t, self.loose);
        self.loose = Some(t);
        self.n += 1;
    }

    fn put_list(&mut self, mut list: Option<TimerRef>) {
        while let Some(t) = list {
            list = next(t);
            self.put(t);
        }
    }
}

/// The node that a free one of ours links to.
pub(super) fn next(t: TimerRef) -> Option<TimerRef> {
    // SAFETY: free, and the caller's; what it links to is free too.
    unsafe { TimerRef::from_link(*t.link()) }
}

/// Links a free node of ours to another.
pub(super) fn link(t: TimerRef, next: Option<TimerRef>) {
    // SAFETY: free, and the caller's.
    unsafe { *t.link() = TimerRef::link_to(next) };
}
