//! How long a P lives in its slot of the table. Apart from the P, so that a model can run it.
//!
//! | step | what follows |
//! |---|---|
//! | gt_p_free says that the P is dead | no wake hook is called for it any more; nobody inserts into it |
//! | it waits for the wake hooks under way | none of them uses the P, or names it to the embedder |
//! | it gives up the handle's reference; each pass gives up its own when it ends | |
//! | the last one puts the slot into the list of free ones | the next gt_p_new may take it |
//!
//! In a fork child the rest of what a lost thread was doing in gt_p_free is done by gt_after_fork, or,
//! if the fork was in a wake hook of that P, at the end of that hook.
//!
//! Who has seen that a P lives (registry.rs) tries to hold its slot: it may be free again.
//! It may be the next P's by then, which is as good; but never a free one.

use crate::host::Host;
use crate::sync::{AtomicBool, AtomicU32, Backoff, Guarded, Ordering, RawLock, rank, sc_fence};
use std::sync::atomic::AtomicUsize;

/// A wake hook counts itself before it looks whether the P is dead; gt_p_free says that it is
/// dead before it looks at the count. SeqCst, all four: one of the two sees the other.
const COUNT_HOOK: Ordering = Ordering::SeqCst;
const LOOK_DEAD: Ordering = Ordering::SeqCst;
const SAY_DEAD: Ordering = Ordering::SeqCst;
const LOOK_HOOKS: Ordering = Ordering::SeqCst;

pub(crate) struct Slot {
    /// The handle, and each pass. 0: the slot is free.
    refs: AtomicU32,
    /// Raised each time the slot gets a new owner.
    generation: AtomicU32,
    /// Wake hooks under way.
    hooks: AtomicU32,
    /// The thread that is in gt_p_free and has not given up the handle's reference yet (tls::here); 0:
    /// none, or a green thread.
    freer: AtomicUsize,
    /// The same as `Inner::dead` of the P's timers, for those who do not hold their lock.
    dead: AtomicBool,
    /// The next free slot. Guarded by the lock of FreeSlots.
    next: Guarded<Option<u32>>,
}

// SAFETY: `next` is guarded by the lock of FreeSlots; the rest is atomic.
unsafe impl Sync for Slot {}

/// In a fork child: the thread that was in gt_p_free is lost, and the end of a wake hook is to do the
/// rest of it.
const LEFT_TO_HOOK: usize = usize::MAX;

impl Slot {
    /// Free, and in no list yet.
    pub(crate) fn new() -> Self {
        Slot {
            refs: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            hooks: AtomicU32::new(0),
            freer: AtomicUsize::new(0),
            dead: AtomicBool::new(true),
            next: Guarded::new(None),
        }
    }

    /// It gets a new owner, who has the one reference. The P stays dead.
    pub(crate) fn begin(&self) {
        // Relaxed: who learns of the P by its handle, by its bit or by a timer learns of
        // this too. Who holds it since before uses nothing that is written here.
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.refs.store(1, Ordering::Relaxed);
    }

    /// Tells handles of one slot apart.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(LOOK_DEAD)
    }

    pub(crate) fn set_dead(&self, dead: bool) {
        self.dead.store(dead, SAY_DEAD);
    }

    /// Calls a wake hook, unless the P is dead. It is not freed meanwhile.
    pub(crate) fn call_hook(&self, hook: impl FnOnce()) {
        self.hooks.fetch_add(1, COUNT_HOOK);
        sc_fence(COUNT_HOOK, LOOK_DEAD);
        if !self.is_dead() {
            hook();
        }
        // Release: what the hook did comes before the end of gt_p_free.
        self.hooks.fetch_sub(1, Ordering::Release);
    }

    /// The P is dead: waits until no wake hook uses it.
    pub(crate) fn wait_for_hooks(&self, host: &Host) {
        sc_fence(SAY_DEAD, LOOK_HOOKS);
        let mut backoff = Backoff::new();
        while self.hooks.load(LOOK_HOOKS) > 0 {
            backoff.snooze(host);
        }
    }

    /// Is a wake hook under way?
    #[cfg(feature = "checked")]
    pub(crate) fn is_in_hook(&self) -> bool {
        self.hooks.load(Ordering::Relaxed) > 0
    }

    /// In a fork child: of those who were in a hook only the calling thread is left, which is in so
    /// many: the hook has forked, and goes on.
    pub(crate) fn forget_hooks_but(&self, mine: u32) {
        self.hooks.store(mine, Ordering::Relaxed);
    }

    /// gt_p_free has come so far that nobody else can free the P, and ends with FreeSlots::give_up.
    /// The registry's lock is held.
    pub(crate) fn begin_free(&self, freer: usize) {
        self.freer.store(freer, Ordering::Relaxed);
    }

    /// In a fork child: was somebody in gt_p_free who is lost?
    pub(crate) fn has_lost_freer(&self, here: usize) -> bool {
        ![0, here].contains(&self.freer.load(Ordering::Relaxed))
    }

    pub(crate) fn leave_free_to_hook(&self) {
        self.freer.store(LEFT_TO_HOOK, Ordering::Relaxed);
    }

    /// At the end of a hook: is it left to it to free the P?
    pub(crate) fn is_left_to_hook(&self) -> bool {
        // Relaxed: the thread that this is left to has said so itself; others leave it alone.
        self.freer.load(Ordering::Relaxed) == LEFT_TO_HOOK
    }

    /// In a fork child: is it nobody's?
    pub(crate) fn is_free(&self) -> bool {
        self.refs.load(Ordering::Relaxed) == 0
    }

    /// One more reference, for one who has the handle or another reference. False: he has not.
    #[must_use]
    pub(crate) fn hold(&self) -> bool {
        self.refs.fetch_add(1, Ordering::Relaxed) != 0
    }

    /// The same for one who has neither. False: the slot is free.
    pub(crate) fn try_hold(&self) -> bool {
        // Relaxed: all that he uses then is atomic, or he takes its lock.
        self.refs
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n > 0).then_some(n + 1)
            })
            .is_ok()
    }

    /// Gives a reference back. True: it was the last one, and the slot is free.
    pub(super) fn unhold(&self) -> bool {
        // AcqRel: the last one, who perhaps ends the sched, sees what all did with the P.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// The slots that were used and are free.
pub(crate) struct FreeSlots {
    /// A lock of its own, so that the end of a pass can give a slot back whatever the registry
    /// is doing.
    lock: RawLock,
    /// Guarded by `lock`.
    first: Guarded<Option<u32>>,
}

// SAFETY: `first` is guarded by `lock`.
unsafe impl Sync for FreeSlots {}

impl FreeSlots {
    pub(crate) fn new() -> Self {
        FreeSlots {
            lock: RawLock::new(rank::SLAB),
            first: Guarded::new(None),
        }
    }

    /// Takes one out, if there is one.
    pub(crate) fn take<'a>(&self, slot_of: impl FnOnce(u32) -> &'a Slot) -> Option<u32> {
        self.lock.lock();
        // SAFETY: the lock is held.
        let first = unsafe { self.first.get() };
        let index = *first;
        if let Some(i) = index {
            // SAFETY: it is in this list, and the lock is held.
            *first = unsafe { *slot_of(i).next.get() };
        }
        self.lock.unlock();
        index
    }

    /// Gives a reference to a slot back. True: it was the last one, and the slot is in the list.
    pub(crate) fn unhold(&self, index: u32, slot: &Slot) -> bool {
        let last = slot.unhold();
        if last {
            self.lock.lock();
            // SAFETY: the lock is held.
            unsafe { self.put(index, slot) };
            self.lock.unlock();
        }
        last
    }

    /// The same for the reference of the handle, at the end of gt_p_free. In one hold of the lock,
    /// which is held over fork too: a fork child sees all of it or nothing.
    pub(crate) fn give_up(&self, index: u32, slot: &Slot) -> bool {
        self.lock.lock();
        slot.freer.store(0, Ordering::Relaxed);
        let last = slot.unhold();
        if last {
            // SAFETY: the lock is held.
            unsafe { self.put(index, slot) };
        }
        self.lock.unlock();
        last
    }

    /// # Safety
    /// The lock is held.
    unsafe fn put(&self, index: u32, slot: &Slot) {
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.first.get();
            *slot.next.get() = *first;
            *first = Some(index);
        }
    }

    /// In a fork child, which has one thread: no slot is in the list any more.
    pub(crate) fn clear(&self) {
        // SAFETY: there is one thread.
        unsafe { *self.first.get() = None };
    }

    /// The same: this one, which is free, is.
    pub(crate) fn put_again(&self, index: u32, slot: &Slot) {
        // SAFETY: there is one thread.
        unsafe { self.put(index, slot) };
    }

    pub(crate) fn fork_lock(&self) {
        self.lock.lock();
        rank::leave(rank::SLAB);
    }

    pub(crate) fn fork_unlock(&self) {
        self.lock.unlock();
    }
}
