//! The blocks of a sched: each thread that uses it has one, with its counters and its free nodes.
//! What a thread leaves at its end the next one gets. Apart from the sched, so that a model can
//! run it.

use crate::engine::{Block, TimerRef};
use crate::host::Host;
use crate::sync::{Guarded, Ordering, RawLock, rank};
use std::ptr::NonNull;

pub(crate) struct Blocks {
    /// Guards the list, and who owns which.
    lock: RawLock,
    first: Guarded<*mut Block>,
    /// For threads that get no block of their own.
    pub(crate) shared: Block,
    lateness: bool,
}

// SAFETY: `first` is guarded by `lock`; blocks are Sync.
unsafe impl Sync for Blocks {}
// SAFETY: as above.
unsafe impl Send for Blocks {}

impl Blocks {
    pub(crate) fn new(lateness: bool) -> Self {
        Blocks {
            lock: RawLock::new(rank::SLAB),
            first: Guarded::new(std::ptr::null_mut()),
            shared: Block::new(0, true, lateness),
            lateness,
        }
    }

    /// Each of them, the shared one too.
    pub(crate) fn for_each(&self, f: impl FnMut(&Block)) {
        self.lock.lock();
        // SAFETY: the lock is held.
        unsafe { self.for_each_held(f) };
        self.lock.unlock();
    }

    /// The same.
    ///
    /// # Safety
    /// The lock is held.
    pub(crate) unsafe fn for_each_held(&self, mut f: impl FnMut(&Block)) {
        // SAFETY: the caller's promise; blocks live as long as the sched.
        let mut b = unsafe { *self.first.get() };
        // SAFETY: as above.
        while let Some(block) = unsafe { b.as_ref() } {
            f(block);
            b = block.next;
        }
        f(&self.shared);
    }

    /// A block for the thread with this token (0: it is as good as over): one that a thread has
    /// left, or a new one, or if there is no memory the shared one.
    pub(crate) fn of(&self, host: &Host, token: u64) -> *const Block {
        if token == 0 {
            return &self.shared;
        }
        self.lock.lock();
        let mut found: *const Block = std::ptr::null();
        // Its own one first: it has used so many other scheds since that it has forgotten it.
        for wanted in [token, 0] {
            let wants = |b: &Block| !b.is_shared() && b.owner.load(Ordering::Relaxed) == wanted;
            // SAFETY: the lock is held.
            unsafe {
                self.for_each_held(|b| {
                    if found.is_null() && wants(b) {
                        b.owner.store(token, Ordering::Relaxed);
                        found = b;
                    }
                });
            }
        }
        if found.is_null() {
            found = self.add(host, token);
        }
        self.lock.unlock();
        found
    }

    /// The lock is held.
    fn add(&self, host: &Host, token: u64) -> *const Block {
        let Some(p) = host.alloc(size_of::<Block>(), align_of::<Block>()) else {
            return &self.shared;
        };
        let p = p.cast::<Block>().as_ptr();
        let mut block = Block::new(token, false, self.lateness);
        // SAFETY: the lock is held; fresh memory of a Block's size and alignment.
        unsafe {
            let first = self.first.get();
            block.next = *first;
            p.write(block);
            *first = p;
        }
        p
    }

    /// The calling thread ends, and this is its token: others may have its block. Returns the
    /// nodes that it had for itself, see Cache::take_all.
    pub(crate) fn leave(&self, token: u64) -> (Option<TimerRef>, Option<TimerRef>) {
        let mut nodes = (None, None);
        self.for_each(|b| {
            if token != 0 && b.owner.load(Ordering::Relaxed) == token {
                // SAFETY: the calling thread's. Of one sched it has one block.
                nodes = unsafe { b.cache.take_all() };
                b.owner.store(0, Ordering::Relaxed);
            }
        });
        nodes
    }

    pub(crate) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::SLAB);
    }

    pub(crate) fn fork_unlock(&self) {
        self.lock.unlock();
    }

    /// # Safety
    /// No thread looks at them any more.
    pub(crate) unsafe fn destroy(&self, host: &Host) {
        // SAFETY: the caller's promise; blocks come from `add`.
        unsafe {
            let mut b = std::mem::replace(self.first.get(), std::ptr::null_mut());
            while let Some(block) = NonNull::new(b) {
                b = block.as_ref().next;
                host.free(block.cast(), size_of::<Block>(), align_of::<Block>());
            }
        }
    }
}
