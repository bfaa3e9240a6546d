//! What the holder of a timer's status lock may do: read and write its fields and flags, and unlock
//! it. `unlock` of runtime/time.go.

use super::super::Procs;
use super::super::timers::Timers;
use super::{
    FREED, Fields, PRIOR, PRIOR_SHIFT, RETIRED, SLACK, SLACK_SHIFT, STAMP, STAMP_SHIFT, STATE,
    State, Timer, WATCHED, slack_flags,
};
use crate::host::{Host, tsan};
use crate::sync::{Ordering, rank};
use std::ops::{Deref, DerefMut};

/// A locked timer. Unlock it with the state that it shall have.
#[must_use = "unlock it"]
pub(crate) struct Locked<'a> {
    pub(super) t: &'a Timer,
    pub(super) host: &'a Host,
    /// The state that was found.
    pub(crate) state: State,
    /// Flags and stamp; stored back by `unlock`.
    pub(super) word: u32,
}

impl Locked<'_> {
    #[inline(always)]
    pub(crate) fn unlock(self, state: State) {
        debug_assert!(state != State::Locked);
        rank::leave(rank::TIMER);
        // Release: what was written to the fields is seen by the next holder.
        self.t
            .status
            .store(self.word | state as u32, Ordering::Release);
        self.host.releasem();
    }

    /// Unlocks it in the state in which it was found.
    #[inline(always)]
    pub(crate) fn put_back(self) {
        if self.word & FREED != 0 {
            return self.put_back_freed();
        }
        let state = self.state;
        self.unlock(state);
    }

    /// It is free, or soon will be, and may have a new owner by now: see Timer::init.
    #[cold]
    fn put_back_freed(self) {
        let state = self.state as u32;
        let locked = self.word | State::Locked as u32 | state << PRIOR_SHIFT;
        rank::leave(rank::TIMER);
        let _ = self.t.status.compare_exchange(
            locked,
            self.word | state,
            Ordering::Release,
            Ordering::Relaxed,
        );
        self.host.releasem();
    }

    #[inline(always)]
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.word & flag != 0
    }

    pub(crate) fn flags(&self) -> u32 {
        self.word
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.word & RETIRED == RETIRED
    }

    pub(crate) fn set(&mut self, flag: u32) {
        self.word |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u32) {
        self.word &= !flag;
    }

    /// For the embedder's ThreadSanitizer: an arming is made or ended by a call.
    #[inline(always)]
    pub(crate) fn order_call(&self) {
        if self.word & WATCHED != 0 {
            tsan::tell_both(self.name());
        }
    }

    /// For the embedder's ThreadSanitizer: an arming is taken for a callback.
    #[inline(always)]
    pub(crate) fn order_run(&self) {
        if self.word & WATCHED != 0 {
            tsan::tell_acquire(self.name());
        }
    }

    fn name(&self) -> *const u8 {
        std::ptr::from_ref(self.t).cast()
    }

    /// The P whose heap the timer is in, or was in last. Both are of this sched.
    #[inline(always)]
    pub(crate) fn home<'s, S: Procs>(&self, _: &'s S) -> &'s Timers {
        // SAFETY: as in Timer::home: it stays as long as the sched.
        unsafe { &*self.t.home.load(Ordering::Relaxed) }
    }

    /// The timer goes to another P's heap. The locks of both are held.
    #[inline(always)]
    pub(crate) fn set_home(&mut self, tm: &Timers) {
        self.t.set_home(tm);
    }

    /// Slack in ns, rounded down to a power of two. 0: none.
    pub(crate) fn set_slack(&mut self, ns: i64) {
        self.word = self.word & !SLACK | slack_flags(ns);
    }

    /// The key that the heap shall go by: `when`, or with slack the next multiple of it,
    /// so that timers of about the same time share one wake-up. 0: not armed.
    #[inline(always)]
    pub(crate) fn due(&self) -> i64 {
        match self.word >> SLACK_SHIFT & 0x3f {
            0 => self.when,
            log2 => round_up(self.when, (1 << log2) - 1),
        }
    }

    /// The pass in which the timer was re-armed for a time already due; 0: none.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u32 {
        self.word >> STAMP_SHIFT
    }

    #[inline(always)]
    pub(crate) fn set_stamp(&mut self, pass: u32) {
        self.word = self.word & !STAMP | pass << STAMP_SHIFT;
    }
}

impl Deref for Locked<'_> {
    type Target = Fields;
    #[inline(always)]
    fn deref(&self) -> &Fields {
        // SAFETY: this guard is the lock, and hands out no reference beyond its own borrow.
        unsafe { self.t.fields.get() }
    }
}

impl DerefMut for Locked<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Fields {
        // SAFETY: as above, and the guard is borrowed exclusively.
        unsafe { self.t.fields.get() }
    }
}

/// Past the end of time there is no later multiple.
fn round_up(when: i64, mask: i64) -> i64 {
    when.checked_add(mask).map_or(when, |w| w & !mask)
}

/// A timer locked by a short path.
#[must_use = "unlock it"]
pub(crate) struct Quick<'a> {
    pub(super) t: &'a Timer,
    /// The status word as it was found.
    pub(super) word: u32,
}

impl<'a> Quick<'a> {
    /// Unlocks it, with these flags or this stamp (shifted) too.
    #[inline(always)]
    pub(crate) fn unlock(self, state: State, also: u32) {
        let word = self.word & !(STATE | STAMP) | state as u32 | also;
        rank::leave(rank::TIMER);
        // Release: as in Locked::unlock.
        self.t.status.store(word, Ordering::Release);
    }

    /// Unlocks it, Modified, with neither flags nor a stamp; it had no flags.
    #[inline(always)]
    pub(crate) fn unlock_plain(self) {
        debug_assert!(self.word & !(STATE | PRIOR | STAMP) == 0);
        rank::leave(rank::TIMER);
        let word = State::Modified as u32;
        // Release: as in Locked::unlock.
        self.t.status.store(word, Ordering::Release);
    }

    /// Unlocks it as it was found.
    #[inline(always)]
    pub(crate) fn put_back(self) {
        rank::leave(rank::TIMER);
        self.t.status.store(self.word, Ordering::Release);
    }

    /// The P whose heap the timer is in, or was in last.
    #[inline(always)]
    pub(crate) fn home(&self) -> &'a Timers {
        // SAFETY: as in Timer::home. Relaxed: the lock orders it.
        unsafe { &*self.t.home.load(Ordering::Relaxed) }
    }

    /// The timer goes to a P's heap. Its lock is held.
    #[inline(always)]
    pub(crate) fn set_home(&mut self, tm: &Timers) {
        self.t.set_home(tm);
    }
}

impl Deref for Quick<'_> {
    type Target = Fields;
    #[inline(always)]
    fn deref(&self) -> &Fields {
        // SAFETY: this guard is the lock, and hands out no reference beyond its own borrow.
        unsafe { self.t.fields.get() }
    }
}

impl DerefMut for Quick<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Fields {
        // SAFETY: as above, and the guard is borrowed exclusively.
        unsafe { self.t.fields.get() }
    }
}
