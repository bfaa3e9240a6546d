//! The Ps of a sched: the table they stand in, which of them live, the
//! timerp_mask, and what looks at all of them: `timeSleepUntil`, and `checkTimers` over
//! other Ps as `stealWork` does it.
//!
//! The table only grows. Which of its Ps live is said by a bit for each (live.rs), so nothing is
//! allocated, by those who change it or by those who walk over it, and nothing is kept for the
//! latter: an index always names a P, which may be dead by the time it is looked at.
//!
//! P 0 is the orphan set. It takes the timers when no other P lives, and counts as dead
//! while one does. `gt_p_new` adopts it.

use super::live::{Live, Mask, WORD, WORDS};
use super::p::P;
use super::sched::Sched;
use super::slot::FreeSlots;
use super::tls;
use crate::engine::{Checked, Hold, MAX_WHEN, Procs, check_timers, move_timers};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sync::{RawLock, rank};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Ps of a segment: one word of the timerp_mask.
const SEGMENT: usize = WORD;
const SEGMENTS: usize = WORDS;
/// So many Ps a sched can have, without the orphan set.
pub(crate) const MAX_PS: usize = SEGMENT * SEGMENTS - 1;

#[repr(C, align(64))]
struct Segment {
    ps: [P; SEGMENT],
    timerp_mask: Mask,
}

pub(crate) struct Registry {
    /// Guards which Ps live; held over new, free and adopt.
    pub(crate) lock: RawLock,
    segments: [AtomicPtr<Segment>; SEGMENTS],
    live: Live,
    pub(crate) free: FreeSlots,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Registry {
            lock: RawLock::new(rank::REGISTRY),
            segments: [const { AtomicPtr::new(std::ptr::null_mut()) }; SEGMENTS],
            live: Live::new(),
            free: FreeSlots::new(),
        }
    }

    /// P 0.
    pub(crate) fn make_orphan(&self, s: &Sched) -> Result<()> {
        let orphan = self.slot(s)?;
        orphan.revive();
        orphan.set_dead(false);
        Ok(())
    }

    /// The P with this index, as a timer or a walk names it.
    #[inline(always)]
    pub(crate) fn p(&self, index: u32) -> &P {
        debug_assert!(index as usize <= MAX_PS);
        // SAFETY: indexes go up to MAX_PS; one is given out after its segment was set, and
        // segments stay.
        unsafe {
            let segment = self.segments.get_unchecked(index as usize / SEGMENT);
            &(*segment.load(Ordering::Acquire)).ps[index as usize % SEGMENT]
        }
    }

    pub(crate) fn orphan(&self) -> &P {
        self.p(0)
    }

    #[inline(always)]
    fn has_timers(&self, index: u32) -> bool {
        self.mask(index).has(index)
    }

    pub(crate) fn set_mask(&self, index: u32, on: bool) {
        self.mask(index).set(index, on);
    }

    #[inline(always)]
    fn mask(&self, index: u32) -> &Mask {
        let segment = self.segments[index as usize / SEGMENT].load(Ordering::Acquire);
        // SAFETY: as above.
        unsafe { &(*segment).timerp_mask }
    }

    /// Does a P live, the orphan set not counted?
    pub(crate) fn any_live(&self) -> bool {
        self.live.first_from(1).is_some()
    }

    /// A P for an arming from a thread that has none: each in turn.
    pub(crate) fn choose(&self) -> &P {
        self.p(self.live.choose())
    }

    /// The first live P whose index is `from` or above.
    fn live_from(&self, from: u32) -> Option<&P> {
        self.live.first_from(from).map(|index| self.p(index))
    }

    /// Each live P and the orphan set, one after the other.
    pub(crate) fn for_each_p(&self, f: impl FnMut(&P)) {
        self.live.each().map(|index| self.p(index)).for_each(f);
    }

    /// Each slot that was ever used, dead or alive.
    pub(crate) fn for_each_slot(&self, mut f: impl FnMut(&P)) {
        for i in 0..self.live.slots() {
            f(self.p(i));
        }
    }

    /// A free slot. Registry lock held (or nobody else knows the sched).
    fn slot(&self, s: &Sched) -> Result<&P> {
        if let Some(i) = self.free.take(|i| &self.p(i).slot) {
            return Ok(self.p(i));
        }
        let index = self.live.slots() as usize;
        if index > MAX_PS {
            return Err(Error::NoSpc);
        }
        if self.segments[index / SEGMENT]
            .load(Ordering::Relaxed)
            .is_null()
        {
            let p = s
                .host()
                .alloc(size_of::<Segment>(), align_of::<Segment>())
                .ok_or(Error::NoMem)?;
            let p = p.cast::<Segment>().as_ptr();
            let first = index as u32;
            // SAFETY: fresh memory of a segment's size and alignment, written in full.
            unsafe {
                (&raw mut (*p).timerp_mask).write(Mask::new());
                for i in 0..SEGMENT {
                    (&raw mut (*p).ps[i]).write(P::new(s, first + i as u32));
                }
            }
            self.segments[index / SEGMENT].store(p, Ordering::Release);
        }
        self.live.add_slot();
        Ok(self.p(index as u32))
    }

    /// gt_sched_free: takes what stop_for_good left in the orphans' heap.
    pub(crate) fn empty_orphans(&self, s: &Sched) {
        crate::engine::trim(s, self.orphan());
    }

    /// # Safety
    /// Nobody uses the sched any more.
    pub(crate) unsafe fn destroy(&mut self, host: &Host) {
        self.for_each_slot(|p| {
            p.release_heap(host);
            p.fd.close();
        });
        for segment in &mut self.segments {
            if let Some(p) = NonNull::new(*segment.get_mut()) {
                // SAFETY: from `slot`; Ps own nothing else.
                unsafe { host.free(p.cast(), size_of::<Segment>(), align_of::<Segment>()) };
            }
        }
    }
}

/// gt_p_new: a P, which adopts the orphan set.
pub(crate) fn p_new(s: &Sched) -> Result<&P> {
    let r = &s.registry;
    r.lock.lock();
    // Under the lock: close looks there whether Ps are left.
    let made = match s.is_closed() {
        true => Err(Error::Shutdown),
        false => p_new_locked(s, r),
    };
    r.lock.unlock();
    if let Ok(p) = made {
        p.note_lowered_to_first(s);
    }
    made
}

fn p_new_locked<'a>(s: &'a Sched, r: &'a Registry) -> Result<&'a P> {
    let p = r.slot(s)?;
    s.life.add_open();
    p.revive();
    let orphan = r.orphan();
    let orphans_were_dead = orphan.is_dead();
    orphan.set_dead(true);
    let mut moved = p
        .lock(s)
        .heap
        .reserve(s.host(), orphan.num_timers() as usize);
    while moved.is_ok() && orphan.num_timers() > 0 {
        moved = move_timers(s, p, orphan).map(|_| ());
    }
    if let Err(e) = moved {
        // Back to how it was; what has moved moves back, for which there is room. Nobody
        // else inserts into p: it has not been alive yet.
        while p.num_timers() > 0 && move_timers(s, orphan, p).is_ok() {}
        orphan.set_dead(orphans_were_dead);
        p.release_heap(s.host());
        s.unhold(p); // and nothing more: who saw it alive before perhaps holds it too
        return Err(e);
    }
    orphan.release_heap(s.host());
    p.set_dead(false);
    r.live.set(p.index, true);
    Ok(p)
}

/// gt_p_free: the P's timers go to another live P, or to the orphan set.
pub(crate) fn p_free(p: &P) -> Result<()> {
    if tls::is_in_hook() {
        return Err(Error::Deadlk);
    }
    let s = p.sched();
    let r = &s.registry;
    // Whether a green thread is lost in a fork child only its owner knows.
    let green = s.host().has_own_contexts() && s.host().current_context() != 0;
    let freer = if green { 0 } else { tls::here() };
    r.lock.lock();
    let (freed, to) = p_free_locked(s, r, p);
    if freed.is_ok() {
        p.slot.begin_free(freer);
    }
    r.lock.unlock();
    // Timers may have moved even if it failed.
    to.note_lowered_to_first(s);
    if freed.is_err() {
        p.note_lowered_to_first(s);
        return freed;
    }
    to.update_fd();
    finish_free(s, p);
    Ok(())
}

/// The rest of gt_p_free: the P's timers have moved.
pub(super) fn finish_free(s: &Sched, p: &P) {
    p.slot.wait_for_hooks(s.host());
    p.bound.clear();
    p.note.look_again();
    p.fd.close();
    s.give_up(p);
}

/// Returns also the P that the timers went to.
fn p_free_locked<'a>(s: &'a Sched, r: &'a Registry, p: &'a P) -> (Result<()>, &'a P) {
    let first = r.live_from(1);
    let other = first.filter(|o| !std::ptr::eq(*o, p));
    let to = other.or_else(|| r.live_from(p.index + 1));
    let to = to.unwrap_or(r.orphan());
    if p.is_dead() {
        return (Err(Error::Stale), to);
    }
    // Room for all before the first one moves: out of memory changes nothing.
    let room = to.lock(s).heap.reserve(s.host(), p.num_timers() as usize);
    if room.is_err() {
        return (room, to);
    }
    // From here on nobody inserts into p; those who look for a P find another one.
    let last = to.index == 0;
    r.live.set(p.index, false);
    if last {
        to.set_dead(false);
    }
    p.set_dead(true);
    while p.num_timers() > 0 {
        if let Err(e) = move_timers(s, to, p) {
            // Others have filled the room meanwhile: p lives on.
            p.set_dead(false);
            r.live.set(p.index, true);
            if last {
                to.set_dead(true);
                while to.num_timers() > 0 && move_timers(s, p, to).is_ok() {}
            }
            return (Err(e), to);
        }
    }
    p.release_heap(s.host());
    (Ok(()), to)
}

/// Go's timeSleepUntil: the earliest wake time of all Ps and of the orphans.
pub(crate) fn time_sleep_until(s: &Sched) -> i64 {
    let mut until = MAX_WHEN;
    s.registry.for_each_p(|p| {
        // A P that has left the mask counts as told "never": see engine/timers.rs.
        if s.registry.has_timers(p.index) {
            match p.wake_time() {
                0 => {}
                w => until = until.min(w),
            }
        }
    });
    until
}

/// Go's stealWork, for timers: runs what is due on Ps other than `self_p`, beginning
/// behind it, so that thieves do not all come to the same one.
pub(crate) fn check_others(s: &Sched, self_p: Option<&P>, now: i64) -> Checked {
    let now = if now == 0 { s.now() } else { now };
    let _keep = s.keep();
    let start = self_p.map_or(0, |p| p.index);
    let mut all = Checked {
        now,
        poll_until: 0,
        ran: 0,
    };
    let mut visit = |p: &P| {
        if self_p.is_some_and(|me| std::ptr::eq(me, p)) || !s.registry.has_timers(p.index) {
            return;
        }
        let mut w = p.wake_time();
        if w != 0 && w <= now && p.slot.try_hold() {
            let _hold = Hold::held(s, p);
            let c = check_timers(s, p, now);
            if c.ran > 0 {
                s.block().add(crate::engine::Counter::Steals, c.ran as u64);
            }
            all.ran += c.ran;
            w = c.poll_until;
        }
        if w != 0 && w != MAX_WHEN && (all.poll_until == 0 || w < all.poll_until) {
            all.poll_until = w;
        }
    };
    let mut from = start + 1;
    let mut wrapped = false;
    loop {
        match s.registry.live_from(from) {
            Some(p) if !wrapped || p.index < start => {
                from = p.index + 1;
                visit(p);
            }
            _ if !wrapped => {
                visit(s.registry.orphan());
                wrapped = true;
                from = 1;
            }
            _ => break,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Arm, modtimer};
    use crate::host::Hooks;
    use crate::procs::Config;
    use std::ffi::c_void;
    use std::sync::atomic::AtomicU32;

    unsafe extern "C-unwind" fn nothing(_: *mut c_void, _: usize, _: i64) {}

    /// What the alloc hook does: the sched, and the P that it holds as a thief would, and
    /// refuses memory then.
    struct Thief {
        sched: AtomicPtr<Sched>,
        on: AtomicU32,
    }

    unsafe extern "C" fn alloc(ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
        // SAFETY: the test's Thief, which outlives the sched.
        let thief = unsafe { &*ctx.cast::<Thief>() };
        let p = thief.on.swap(0, Ordering::Relaxed);
        // SAFETY: the test's sched, once it is there.
        if let (1.., Some(s)) = (p, unsafe { thief.sched.load(Ordering::Relaxed).as_ref() }) {
            assert!(s.registry.p(p).slot.try_hold());
            return std::ptr::null_mut();
        }
        // SAFETY: a layout that the library asks for.
        unsafe {
            std::alloc::alloc(std::alloc::Layout::from_size_align(size, align).unwrap()).cast()
        }
    }

    unsafe extern "C" fn free(_: *mut c_void, p: *mut c_void, size: usize, align: usize) {
        // SAFETY: from `alloc`, with this layout.
        unsafe {
            let layout = std::alloc::Layout::from_size_align(size, align).unwrap();
            std::alloc::dealloc(p.cast(), layout);
        }
    }

    #[test]
    fn a_p_that_could_not_be_made_leaves_who_holds_its_slot_alone() {
        let thief = Thief {
            sched: AtomicPtr::new(std::ptr::null_mut()),
            on: AtomicU32::new(0),
        };
        let hooks = Hooks {
            ctx: std::ptr::from_ref(&thief).cast_mut().cast(),
            alloc: Some(alloc),
            free: Some(free),
            ..Hooks::default()
        };
        let made = Sched::new(Config {
            hooks,
            ..Config::default()
        });
        let s = made.unwrap();
        thief.sched.store(s.as_ptr(), Ordering::Relaxed);
        // SAFETY: it is alive until it is closed, at the end.
        let s = unsafe { s.as_ref() };
        // An orphan, for which the new P needs memory.
        let t = s.timer_new(nothing, std::ptr::null_mut(), None, 0).unwrap();
        modtimer(s, t, None, None, &Arm::at(1 << 62, 0)).unwrap();

        thief.on.store(1, Ordering::Relaxed);
        assert_eq!(p_new(s).map(|p| p.index), Err(Error::NoMem));
        assert_eq!(s.registry.orphan().num_timers(), 1);
        // The thief has slot 1 still, and gives it back.
        let second = p_new(s).unwrap();
        assert_eq!(second.index, 2);
        s.unhold(s.registry.p(1));
        let first = p_new(s).unwrap();
        assert_eq!(first.index, 1);
        for p in [first, second] {
            p_free(p).unwrap();
        }
        crate::engine::timer_free(s, t, None).unwrap();
        s.close(|_| ()).unwrap();
    }

    #[test]
    fn a_slot_that_a_lost_thread_was_giving_back_is_found() {
        let s = Sched::new(Config::default()).unwrap();
        // SAFETY: it is alive until it is closed, at the end.
        let s = unsafe { s.as_ref() };
        let [first, second, third] = [(); 3].map(|()| p_new(s).unwrap());
        p_free(third).unwrap();
        // As a pass does that ends after gt_p_free, up to where it is lost.
        first.hold();
        p_free(first).unwrap();
        assert!(first.slot.unhold());
        s.fork_find_free_slots();
        let mut again = [(); 2].map(|()| p_new(s).unwrap().index);
        again.sort();
        assert_eq!(again, [first.index, third.index]);
        for p in [first, second, third] {
            p_free(p).unwrap();
        }
        let uid = s.uid;
        s.close(|_| ()).unwrap();
        crate::procs::fork::for_each_sched(|other| assert_ne!(other.uid, uid, "destroyed"));
    }
}
