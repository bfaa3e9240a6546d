//! A timer: one cache line, guarded by the status lock in its first word.
//! Corresponds to `timer`, `lock` and `unlock` of runtime/time.go.
//!
//! | operation | Waiting | Modified | Removed | Locked |
//! |---|---|---|---|---|
//! | deltimer | → Locked → Modified(deleted) | → Locked → Modified(deleted) | nothing, 0 | spin, then osyield |
//! | modtimer | → Locked → Modified | → Locked → Modified | inserted under the P's lock → Waiting | spin, then osyield |
//! | adjusttimers, cleantimers, runtimer (P's lock held) | runtimer: → Locked → Waiting or Removed | → Locked → Waiting or Removed | corruption | spin, then osyield |
//!
//! Removed means that no heap entry points at the timer; Waiting, that one does and its
//! key is `when`; Modified, that one does and its key is stale (`when` 0: deleted).
//!
//! The timer's memory goes back to the slab when the last of its references is gone:
//! one for "a handle or a heap entry exists" (the anchor), one for each committed run.

mod locked;

pub(crate) use locked::{Locked, Quick};

use super::timers::Timers;
use crate::host::Host;
use crate::sync::{AtomicPtr, AtomicU32, Backoff, Guarded, Ordering, rank, store_over};
use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::NonNull;

/// What a timer calls: its argument, its sequence number, and how late it is in ns.
pub type Func = unsafe extern "C-unwind" fn(arg: *mut c_void, seq: usize, delay: i64);

/// INT64_MAX: a time that never comes.
pub(crate) const MAX_WHEN: i64 = i64::MAX;

/// The four states, as the seeds name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum State {
    Removed = 0,
    Waiting = 1,
    Modified = 2,
    Locked = 3,
}

impl State {
    #[inline(always)]
    pub(crate) fn of(word: u32) -> State {
        match word & STATE {
            0 => State::Removed,
            1 => State::Waiting,
            2 => State::Modified,
            _ => State::Locked,
        }
    }
}

// The status word: state, state before Locked, flags, slack, stamp of the pass (S10).
const STATE: u32 = 3;
const PRIOR_SHIFT: u32 = 2;
const PRIOR: u32 = STATE << PRIOR_SHIFT;
/// See try_lock_heaped.
const HEAPED: u32 = 2;
/// gt_timer_free was called: the handle is dead.
pub(crate) const FREED: u32 = 1 << 4;
/// gt_shutdown_timer was called, or the sched was freed.
pub(crate) const SHUTDOWN: u32 = 1 << 5;
/// `arg` is an ArgBox.
pub(crate) const HAS_DROP: u32 = 1 << 6;
/// gt_timer_detach was called: the timer frees itself when it is done.
pub(crate) const DETACHED: u32 = 1 << 7;
/// A channel timer's alarm: its armings are counted by the channel (src/time/chan.rs).
pub(crate) const CHAN: u32 = 1 << 8;
/// log2 of the slack: the key is `when` rounded up to a multiple of it.
const SLACK_SHIFT: u32 = 9;
pub(crate) const SLACK: u32 = 0x3f << SLACK_SHIFT;
/// Of one that is freed: its generation would wrap, so it is never used again. No slack is so
/// large.
pub(crate) const RETIRED: u32 = SLACK;
/// The embedder's ThreadSanitizer wants to know what is ordered by this timer. Not so if it
/// has a channel: then the timer itself is the library's own business.
pub(crate) const WATCHED: u32 = 1 << 15;
pub(crate) const STAMP_SHIFT: u32 = 16;
const STAMP: u32 = 0xffff << STAMP_SHIFT;

/// The ordering of `lock`. Acquire: pairs with the release in `unlock`, so the fields are seen
/// whole. SeqCst: what is locked here is seen by an adjuster, or he has cleared what
/// update_timer_modified_earliest looks at next (see there). On x86 it is the same instruction.
pub(crate) const LOCK: Ordering = Ordering::SeqCst;

/// The ordering of what adjusttimers reads of a timer: see update_timer_modified_earliest.
pub(crate) const SCAN: Ordering = Ordering::SeqCst;

/// What the status lock guards.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Fields {
    /// When the timer shall fire: what was asked for. 0: not armed.
    pub when: i64,
    /// The key of the timer's heap entry; 0 when there is none. Changed under the P's lock too.
    pub key: i64,
    /// 0 for a one-shot.
    pub period: i64,
    pub f: Option<Func>,
    /// The argument itself, or with HAS_DROP the box that counts its users.
    pub arg: *mut c_void,
    /// While the timer is free: the next free one; and `arg` may be the next batch, see pool.rs.
    pub seq: usize,
}

/// A timer. `status` is read without the lock (it is the lock); so is `refs`.
#[repr(C, align(64))]
pub(crate) struct Timer {
    status: AtomicU32,
    pub(crate) refs: AtomicU32,
    fields: Guarded<Fields>,
    /// The P whose heap points here, or did last; before that P 0. Set when the slot is used
    /// for the first time, and from then on always a P of the timer's sched. Changed under the
    /// locks of that P and of the timer; who reads it without them has only a hint.
    home: AtomicPtr<Timers>,
}

#[cfg(not(gt_model))]
const _: () = assert!(size_of::<Timer>() == 64);

// SAFETY: `fields` is guarded by `status`; the raw pointers in it are the embedder's, who
// promises that f may be called with arg on any thread.
unsafe impl Sync for Timer {}
// SAFETY: as above.
unsafe impl Send for Timer {}

impl Timer {
    /// A timer outside any slab, for the models and tests.
    #[cfg(any(gt_model, test))]
    pub(crate) fn new() -> Self {
        Timer {
            status: AtomicU32::new(State::Removed as u32),
            refs: AtomicU32::new(0),
            fields: Guarded::new(Fields {
                when: 0,
                key: 0,
                period: 0,
                f: None,
                arg: std::ptr::null_mut(),
                seq: 0,
            }),
            home: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The P that it was on last, or P 0. Through this the timer's sched is found, too.
    #[inline(always)]
    pub(crate) fn home(&self) -> &Timers {
        // Acquire: a P that was made later than the timer is seen whole.
        // SAFETY: see `home`; Ps stay as long as their sched, and that as long as its timers.
        unsafe { &*self.home.load(Ordering::Acquire) }
    }

    /// Of a slot that was never used: only now does anybody get to know it.
    pub(crate) fn set_first_home(&self, tm: &Timers) {
        self.set_home(tm);
    }

    #[inline(always)]
    fn set_home(&self, tm: &Timers) {
        let tm = std::ptr::from_ref(tm).cast_mut();
        self.home.store(tm, Ordering::Release);
    }

    /// The state at this moment; Locked while somebody works on the timer.
    /// Relaxed: whoever acts on it locks the timer, or holds the P's lock (see adjusttimers).
    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        State::of(self.status.load(Ordering::Relaxed))
    }

    /// The same for the scan of adjusttimers: see update_timer_modified_earliest.
    #[inline(always)]
    pub(crate) fn state_for_scan(&self) -> State {
        State::of(self.status.load(SCAN))
    }

    #[inline(always)]
    pub(crate) fn flags(&self) -> u32 {
        self.status.load(Ordering::Relaxed)
    }

    /// Is a committed run of it left? For one who knows that the timer lives.
    #[inline]
    pub(crate) fn has_runs(&self) -> bool {
        // Acquire: what the runs that have ended did is seen.
        self.refs.load(Ordering::Acquire) > 1
    }

    /// Locks the timer for a short path, if it is Modified and has neither flags nor a stamp: as
    /// a timer mostly is that is armed again and again. No look before the compare-and-swap.
    #[inline(always)]
    pub(crate) fn try_lock_plain(&self) -> Option<Quick<'_>> {
        self.try_lock_quick(State::Modified as u32, PRIOR)
    }

    /// Locks the timer for a short path: if it is in a heap, nobody holds it, and it has
    /// nothing that is uncommon. The host does not want to be told: see Procs::quick_block.
    #[inline(always)]
    pub(crate) fn try_lock_heaped(&self, uncommon: u32) -> Option<Quick<'_>> {
        let word = self.status.load(Ordering::Relaxed);
        // Waiting and Modified, plus one, have bit 1; Removed and Locked do not.
        if word.wrapping_add(1) & (HEAPED | uncommon) != HEAPED {
            return None;
        }
        // PRIOR: nothing but "not Removed" is asked of it.
        self.try_lock_quick(word, PRIOR)
    }

    /// The same, if it is in no heap.
    #[inline(always)]
    pub(crate) fn try_lock_removed(&self, uncommon: u32) -> Option<Quick<'_>> {
        let word = self.status.load(Ordering::Relaxed);
        if word & (STATE | uncommon) != State::Removed as u32 {
            return None;
        }
        self.try_lock_quick(word, (State::Removed as u32) << PRIOR_SHIFT)
    }

    #[inline(always)]
    fn try_lock_quick(&self, word: u32, prior: u32) -> Option<Quick<'_>> {
        let locked = word | State::Locked as u32 | prior;
        self.status
            .compare_exchange(word, locked, LOCK, Ordering::Relaxed)
            .ok()?;
        rank::enter(rank::TIMER);
        Some(Quick { t: self, word })
    }

    /// Locks the timer, pinning the green thread first (S2; golang/go#38070: a holder that
    /// is preempted behind a spinner never gets to unlock).
    #[inline]
    pub(crate) fn lock<'a>(&'a self, host: &'a Host) -> Locked<'a> {
        host.acquirem();
        rank::enter(rank::TIMER);
        let word = match self.try_lock_word() {
            Some(word) => word,
            None => self.lock_slow(host),
        };
        Locked {
            t: self,
            host,
            state: State::of(word),
            word: word & !(STATE | PRIOR),
        }
    }

    /// One try; the word as it was found.
    #[inline(always)]
    fn try_lock_word(&self) -> Option<u32> {
        let word = self.status.load(Ordering::Relaxed);
        let state = word & STATE;
        if state == State::Locked as u32 {
            return None;
        }
        let locked = word & !(STATE | PRIOR) | State::Locked as u32 | state << PRIOR_SHIFT;
        self.status
            .compare_exchange(word, locked, LOCK, Ordering::Relaxed)
            .ok()
    }

    #[cold]
    fn lock_slow(&self, host: &Host) -> u32 {
        let mut backoff = Backoff::new();
        loop {
            backoff.snooze(host);
            if let Some(word) = self.try_lock_word() {
                return word;
            }
        }
    }

    /// After a fork: unlocks a timer that a lost thread held. It has an entry or not, as
    /// before, and is looked at again by the heap's owner. Returns whether it was locked.
    pub(crate) fn release_lost(&self) -> bool {
        let word = self.status.load(Ordering::Relaxed);
        if word & STATE != State::Locked as u32 {
            return false;
        }
        let state = if word >> PRIOR_SHIFT & STATE == State::Removed as u32 {
            State::Removed
        } else {
            State::Modified
        };
        self.status
            .store(word & !(STATE | PRIOR) | state as u32, Ordering::Release);
        true
    }

    /// A node that was never used, or one of a fork child: it is free, whatever a lost thread was
    /// doing to it.
    pub(crate) fn set_free(&self) {
        let word = State::Removed as u32 | FREED;
        self.status.store(word, Ordering::Release);
    }

    /// A free node gets a new owner. It is not locked: FREED says who may change it, here the one
    /// whose list it was in. A caller with a stale id may hold the lock at this moment, but sees
    /// FREED, looks at nothing else, and puts back only what he finds unchanged.
    #[inline(always)]
    pub(crate) fn init(&self, home: &Timers, f: Func, arg: *mut c_void, flags: u32) {
        // SAFETY: free, and the caller's.
        unsafe {
            *self.fields.get() = Fields {
                when: 0,
                key: 0,
                period: 0,
                f: Some(f),
                arg,
                seq: 0,
            };
        }
        self.set_home(home);
        self.refs.store(1, Ordering::Relaxed);
        // Release: who locks it sees the fields, and a caller with a stale id the generation.
        let word = flags | State::Removed as u32;
        store_over(&self.status, word, Ordering::Release);
    }

    /// The status word of a dead entry's timer, if it is freed and nobody holds it. Acquire: as if
    /// it were locked. The P's lock is held, so it stays so, but for callers with a stale id: see
    /// init.
    #[inline(always)]
    pub(crate) fn freed_in_heap(&self) -> Option<u32> {
        let word = self.status.load(Ordering::Acquire);
        (word & (STATE | FREED) == State::Modified as u32 | FREED).then_some(word)
    }

    /// The entry of such a timer has been taken off.
    #[inline(always)]
    pub(crate) fn set_taken_off(&self, word: u32) {
        let word = word & !(STATE | PRIOR | STAMP);
        store_over(&self.status, word, Ordering::Release);
    }

    /// What the embedder's ThreadSanitizer knows the ends of the callbacks by.
    pub(crate) fn runs(&self) -> *const u8 {
        (&raw const self.refs).cast()
    }

    /// The link of a list of free nodes.
    ///
    /// # Safety
    /// The node is free, and the caller's: it was in a list of his, or in the slab's, whose
    /// lock he holds.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn link(&self) -> &mut usize {
        // SAFETY: the caller's promise. Who holds the timer's lock by a stale id looks at the
        // status and the generation only.
        unsafe { &mut self.fields.get().seq }
    }

    /// The link of the first node of a batch to that of the next one.
    ///
    /// # Safety
    /// As for `link`.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn batch_link(&self) -> &mut *mut c_void {
        // SAFETY: as above.
        unsafe { &mut self.fields.get().arg }
    }
}

/// The flags of a new timer with this slack.
pub(crate) fn slack_flags(ns: i64) -> u32 {
    ns.max(1).ilog2() << SLACK_SHIFT
}

/// A pointer to a node of a slab. Nodes stay mapped until their sched and all its handles
/// are gone, so it always points at a node, never at something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct TimerRef(NonNull<Timer>);

// SAFETY: Timer is Sync.
unsafe impl Send for TimerRef {}

impl TimerRef {
    /// # Safety
    /// `t` is a node of a slab (or outlives every use of the result).
    #[inline(always)]
    pub(crate) unsafe fn new(t: NonNull<Timer>) -> Self {
        TimerRef(t)
    }

    /// What `Timer::link` says of the next free one, and back.
    #[inline(always)]
    pub(crate) fn link_to(next: Option<TimerRef>) -> usize {
        next.map_or(0, |t| t.as_ptr().expose_provenance())
    }

    /// # Safety
    /// `link` was made by link_to.
    #[inline(always)]
    pub(crate) unsafe fn from_link(link: usize) -> Option<TimerRef> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(link)).map(TimerRef)
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut Timer {
        self.0.as_ptr()
    }
}

impl Deref for TimerRef {
    type Target = Timer;
    #[inline(always)]
    fn deref(&self) -> &Timer {
        // SAFETY: the promise made at `new`: the node stays mapped.
        unsafe { self.0.as_ref() }
    }
}
