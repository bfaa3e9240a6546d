//! Where timers live: chunks of 64 KiB, kept until the sched and all its handles are
//! gone. So a handle or id, however old, points at a timer and never at anything else.
//!
//! A chunk is aligned to its size: from a timer's address its chunk is found by masking,
//! and there the timer's generation. An id is (chunk, slot, generation).

use super::cache::Cache;
#[cfg(feature = "checked")]
use super::checked;
use super::pool::{self, Pool};
use super::tables::Tables;
use super::timer::{FREED, Func, Timer, TimerRef};
use super::timers::Timers;
use crate::error::{Error, Result};
use crate::host::{HUGE, Host};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const CHUNK_BYTES: usize = 1 << 16;
/// Timers of a chunk: 64 bytes each, and 4 for the generation.
pub(crate) const SLOTS: usize = 960;
const SLOT_BITS: u32 = 10;

#[repr(C, align(65536))]
struct Chunk {
    no: u32,
    /// Whose memory it is: see `Part`. Never changes.
    part: Part,
    _pad: [u32; 14],
    /// 0: never used. Then 1, and raised, under the timer's lock, when it is freed.
    generations: [AtomicU32; SLOTS],
    timers: [Timer; SLOTS],
}

/// Chunks are allocated one by one at first, then many at a time, in an arena that a huge
/// page can back: timers are touched at random, and each touch of a small page may miss the
/// TLB.
#[derive(Clone, Copy, PartialEq)]
#[repr(u32)]
enum Part {
    Alone = 0,
    /// The first one of an arena: with it, the last to go, goes the arena.
    First = 1,
    Other = 2,
}

/// So many chunks are allocated one by one.
const ALONE: u32 = 8;

#[cfg(not(gt_model))]
const _: () = assert!(size_of::<Chunk>() == CHUNK_BYTES);

pub(crate) struct Slab {
    /// What is free.
    pub(crate) pool: Pool<Chunks>,
    /// Written under the pool's lock.
    tables: Tables<Chunk>,
}

/// Where new nodes come from. Under the pool's lock.
pub(crate) struct Chunks {
    /// Chunks made, and slots of the last one that were ever used.
    chunks: u32,
    used: usize,
    /// What is left of the last arena.
    arena: Option<NonNull<u8>>,
    arena_left: usize,
}

// SAFETY: the arena is memory of the slab's own.
unsafe impl Send for Chunks {}

impl Slab {
    pub(crate) fn new() -> Self {
        Slab {
            pool: Pool::new(Chunks {
                chunks: 0,
                used: SLOTS,
                arena: None,
                arena_left: 0,
            }),
            tables: Tables::new(),
        }
    }

    /// A timer for a handle: Removed, with one reference, its home P 0. Counted in the pool.
    pub(crate) fn alloc(
        &self,
        host: &Host,
        home: &Timers,
        (f, arg, flags): (Func, *mut c_void, u32),
    ) -> Result<TimerRef> {
        let t = self.pool.take(|c| self.take_new(c, host, home))?;
        t.init(home, f, arg, flags);
        Ok(t)
    }

    /// Nodes for a thread's own, if it has none.
    ///
    /// # Safety
    /// The cache is the calling thread's.
    pub(crate) unsafe fn fill(&self, cache: &Cache, host: &Host, home: &Timers) -> Result<()> {
        let more = || self.pool.take_some(|c| self.take_new(c, host, home));
        // SAFETY: the caller's promise; the alloc hook may not call us.
        unsafe { cache.fill(more) }
    }

    #[cold]
    fn take_new(&self, inner: &mut Chunks, host: &Host, home: &Timers) -> Result<TimerRef> {
        if inner.used == SLOTS {
            self.new_chunk(inner, host)?;
            inner.used = 0;
        }
        let index = (inner.chunks - 1) << SLOT_BITS | inner.used as u32;
        inner.used += 1;
        let t = self.at(index).ok_or(Error::Fault)?;
        let (chunk, slot) = locate(t);
        t.set_free();
        t.set_first_home(home);
        // Release: whoever asks for it by a number that he made up finds it with a home.
        chunk.generations[slot].store(1, Ordering::Release);
        Ok(t)
    }

    fn new_chunk(&self, inner: &mut Chunks, host: &Host) -> Result<()> {
        let no = inner.chunks as usize;
        self.tables.reserve(no, host)?;
        let (p, part) = Self::chunk_memory(inner, host)?;
        // SAFETY: zeroed memory of a chunk's size, which is a valid chunk: its timers are
        // Removed with no references.
        unsafe {
            (*p.as_ptr()).no = inner.chunks;
            (*p.as_ptr()).part = part;
        }
        #[cfg(feature = "checked")]
        checked::add(p.as_ptr() as usize);
        self.tables.set(no, p);
        inner.chunks += 1;
        Ok(())
    }

    /// Zeroed memory for a chunk.
    fn chunk_memory(inner: &mut Chunks, host: &Host) -> Result<(NonNull<Chunk>, Part)> {
        let mut part = Part::Other;
        if inner.arena.is_none()
            && inner.chunks >= ALONE
            && let Some(arena) = host.alloc_huge()
        {
            inner.arena = Some(arena);
            inner.arena_left = HUGE;
            part = Part::First;
        }
        if let Some(p) = inner.arena {
            inner.arena_left -= CHUNK_BYTES;
            // SAFETY: a chunk is left before the arena's end.
            let rest = unsafe { p.add(CHUNK_BYTES) };
            inner.arena = (inner.arena_left > 0).then_some(rest);
            return Ok((p.cast(), part));
        }
        let p = host.alloc(CHUNK_BYTES, CHUNK_BYTES).ok_or(Error::NoMem)?;
        if !(p.as_ptr() as usize).is_multiple_of(CHUNK_BYTES) {
            host.throw("gotimer: the alloc hook returned memory that is not aligned as asked");
        }
        // SAFETY: as large as was asked for.
        unsafe { p.write_bytes(0, CHUNK_BYTES) };
        Ok((p.cast(), Part::Alone))
    }

    /// Where the timers of a chunk begin.
    #[cfg(feature = "checked")]
    pub(super) const FIRST: usize = std::mem::offset_of!(Chunk, timers);

    fn at(&self, index: u32) -> Option<TimerRef> {
        let chunk = self.tables.get((index >> SLOT_BITS) as usize)?;
        let t = chunk.timers.get(index as usize & ((1 << SLOT_BITS) - 1))?;
        // SAFETY: a node of a slab.
        Some(unsafe { TimerRef::new(NonNull::from(t)) })
    }

    /// The timer of an id, and the generation that the id names. Any number may be asked for.
    pub(crate) fn find(&self, id: u64) -> Option<(TimerRef, u32)> {
        let asked = id as u32;
        let t = self.at((id >> 32) as u32)?;
        (asked != 0 && generation(t) != 0).then_some((t, asked))
    }

    /// Takes a timer back that is counted in the pool: see Pool::give_back. Its generation was
    /// raised when it was freed; one that would wrap is never used again.
    pub(crate) fn give_back(&self, t: TimerRef, gone: impl FnOnce()) {
        debug_assert!(t.flags() & FREED != 0);
        let retired = generation(t) == u32::MAX;
        t.refs.store(0, Ordering::Relaxed);
        self.pool.give_back(t, retired, gone);
    }

    /// In a fork child: what is free and what is in use is found out anew. Lost threads may
    /// have been at it, and the pages of a process are frozen one after the other, so no list
    /// can be trusted. But a node is on one page, and a free one has no reference. That it was
    /// freed may not be seen yet elsewhere: so its ids die here.
    pub(crate) fn find_free(&self) {
        let (mut free, mut in_use) = (None, 0);
        self.for_each(|t| {
            if t.refs.load(Ordering::Relaxed) != 0 {
                in_use += 1;
                return;
            }
            t.set_free();
            raise_generation(t);
            if generation(t) != u32::MAX {
                pool::link(t, free);
                free = Some(t);
            }
        });
        self.pool.set(free, in_use);
    }

    /// Calls `f` for each timer that was ever used.
    pub(crate) fn for_each(&self, mut f: impl FnMut(TimerRef)) {
        let (chunks, used) = self.pool.with(|c| (c.chunks, c.used));
        for no in 0..chunks {
            let n = if no + 1 == chunks { used } else { SLOTS };
            for slot in 0..n {
                if let Some(t) = self.at(no << SLOT_BITS | slot as u32) {
                    f(t);
                }
            }
        }
    }

    /// Gives all memory back.
    ///
    /// # Safety
    /// No handle, id or entry is used any more.
    pub(crate) unsafe fn destroy(&mut self, host: &Host) {
        let give_back = |p: NonNull<Chunk>| {
            #[cfg(feature = "checked")]
            checked::remove(p.as_ptr() as usize);
            // SAFETY: a chunk, of which nothing is used any more. From the last one to the first:
            // see Part.
            unsafe {
                match p.as_ref().part {
                    Part::Alone => host.free(p.cast(), CHUNK_BYTES, CHUNK_BYTES),
                    Part::First => host.unreserve(p.cast(), HUGE, HUGE),
                    Part::Other => {}
                }
            }
        };
        // SAFETY: the caller's promise.
        unsafe { self.tables.take(host, give_back) };
    }
}

fn locate(t: TimerRef) -> (&'static Chunk, usize) {
    let base = (t.as_ptr() as usize & !(CHUNK_BYTES - 1)) as *const Chunk;
    // SAFETY: a TimerRef is a node of a chunk, which is aligned to its size and outlives
    // every use of the result here.
    let chunk = unsafe { &*base };
    let slot = (t.as_ptr() as usize - chunk.timers.as_ptr() as usize) / size_of::<Timer>();
    (chunk, slot)
}

/// The sched that a timer belongs to. A P of it stands on the timer's own cache line; the chunk's
/// head would be another line on another page.
#[inline(always)]
pub(crate) fn owner(t: TimerRef) -> *const c_void {
    t.home().owner
}

/// 0: the slot was never used.
#[inline(always)]
pub(crate) fn generation(t: TimerRef) -> u32 {
    let (chunk, slot) = locate(t);
    // Acquire: see take_new.
    chunk.generations[slot].load(Ordering::Acquire)
}

/// For tests.
#[cfg(test)]
pub(crate) fn set_generation(t: TimerRef, to: u32) {
    let (chunk, slot) = locate(t);
    chunk.generations[slot].store(to, Ordering::Relaxed);
}

/// Makes ids and handles of the timer dead. Under its lock.
pub(crate) fn raise_generation(t: TimerRef) {
    let (chunk, slot) = locate(t);
    let g = &chunk.generations[slot];
    // Relaxed: who compares it holds the timer's lock, as we do.
    g.store(
        g.load(Ordering::Relaxed).saturating_add(1),
        Ordering::Relaxed,
    );
}

/// The id of a timer.
pub(crate) fn id(t: TimerRef) -> u64 {
    let (chunk, slot) = locate(t);
    (chunk.no as u64) << (SLOT_BITS + 32) | (slot as u64) << 32 | generation(t) as u64
}

#[cfg(all(test, not(gt_model)))]
mod tests {
    use super::super::tables::{L1, L2};
    use super::*;
    use crate::host::Hooks;

    unsafe extern "C-unwind" fn nothing(_: *mut c_void, _: usize, _: i64) {}

    fn free(slab: &Slab, host: &Host, t: TimerRef) {
        let mut l = t.lock(host);
        l.set(FREED);
        raise_generation(t);
        l.unlock(super::super::State::Removed);
        t.refs.store(0, Ordering::Relaxed);
        slab.give_back(t, || ());
    }

    #[test]
    fn a_slot_that_was_never_used_is_not_found() {
        let host = Host::new(Hooks::default());
        let mut slab = Slab::new();
        let home = Timers::new(std::ptr::null(), 0);
        let new: (Func, _, _) = (nothing, std::ptr::null_mut(), 0);
        let t = slab.alloc(&host, &home, new).unwrap();
        assert_eq!(slab.find(id(t)), Some((t, 1)));
        assert!(std::ptr::eq(t.home(), &home));
        for made_up in [1 << 32 | 1, 1 << 32, 0] {
            assert_eq!(slab.find(id(t) & !0xffff_ffff | made_up), None);
        }
        // SAFETY: nothing of it is used any more.
        unsafe { slab.destroy(&host) };
    }

    #[test]
    fn a_slot_whose_generation_would_wrap_is_retired() {
        let host = Host::new(Hooks::default());
        let mut slab = Slab::new();
        let home = Timers::new(std::ptr::null(), 0);
        let new = |slab: &Slab| {
            let new: (Func, _, _) = (nothing, std::ptr::null_mut(), 0);
            slab.alloc(&host, &home, new).unwrap()
        };
        let t = new(&slab);
        let (chunk, slot) = locate(t);
        free(&slab, &host, t);
        assert_eq!(new(&slab), t, "a freed slot is used again");
        chunk.generations[slot].store(u32::MAX - 1, Ordering::Relaxed);
        let last = id(t);
        free(&slab, &host, t);
        assert_ne!(new(&slab), t, "the slot is retired");
        let (found, generation_asked) = slab.find(last).unwrap();
        assert_ne!(
            generation(found),
            generation_asked,
            "its last id stays dead"
        );
        assert_eq!(slab.pool.in_use(), 1);
        // SAFETY: nothing of it is used any more.
        unsafe { slab.destroy(&host) };
        assert_eq!(host.bytes(), 0);
    }

    /// In chunks of their own, in those of an arena, and at the end of the first table.
    #[test]
    fn each_timer_is_found_by_its_id() {
        let host = Host::new(Hooks::default());
        let mut slab = Slab::new();
        let p = 7u32;
        let home = Timers::new((&raw const p).cast(), 0);
        let take = || {
            let new: (Func, _, _) = (nothing, std::ptr::null_mut(), 0);
            slab.alloc(&host, &home, new).unwrap()
        };
        let few = ALONE as usize * SLOTS;
        let mut timers: Vec<_> = (0..few).map(|_| take()).collect();
        assert!(host.bytes() < HUGE as u64);
        timers.extend((0..HUGE / CHUNK_BYTES * SLOTS).map(|_| take()));
        let bytes = host.bytes();
        assert!((HUGE as u64..2 * HUGE as u64).contains(&bytes));
        timers.push(take());
        assert_eq!(host.bytes(), bytes + HUGE as u64);
        let mut all = Vec::new();
        slab.for_each(|t| all.push(t));
        assert_eq!(all, timers);
        let made = slab.pool.with(|c| c.chunks);
        for no in [L2 - 1, L2, L1 * L2 - 1] {
            slab.pool.with(|c| (c.chunks, c.used) = (no as u32, SLOTS));
            timers.extend([take(), take()]);
            assert_eq!(slab.pool.with(|c| (c.chunks, c.used)), (no as u32 + 1, 2));
            let t = timers[timers.len() - 1];
            assert_eq!(id(t), (no as u64) << 42 | 1 << 32 | 1);
        }
        for (i, t) in timers.iter().enumerate() {
            assert_eq!((slab.find(id(*t)), owner(*t)), (Some((*t, 1)), home.owner));
            let (chunk, slot) = locate(*t);
            assert_eq!(
                std::ptr::from_ref(&chunk.timers[slot]),
                t.as_ptr().cast_const()
            );
            assert!(i >= all.len() || (chunk.no as usize, slot) == (i / SLOTS, i % SLOTS));
        }
        let after = (made as u64) << 42 | 1;
        assert_eq!(slab.find(after), None, "no such chunk");
        assert_eq!(slab.find((SLOTS as u64) << 32 | 1), None, "no such slot");
        // SAFETY: nothing of it is used any more.
        unsafe { slab.destroy(&host) };
        assert_eq!(host.bytes(), 0);
    }

    #[test]
    fn a_fork_child_finds_what_is_free() {
        let host = Host::new(Hooks::default());
        let mut slab = Slab::new();
        let home = Timers::new(std::ptr::null(), 0);
        let take = || {
            let new: (Func, _, _) = (nothing, std::ptr::null_mut(), 0);
            slab.alloc(&host, &home, new).unwrap()
        };
        let t = [0; 5].map(|_| take());
        set_generation(t[3], u32::MAX - 1);
        for i in [1, 3, 4] {
            t[i].refs.store(0, Ordering::Relaxed);
        }
        slab.find_free();
        assert_eq!(slab.pool.in_use(), 2);
        assert_eq!(t.map(generation), [1, 2, 1, u32::MAX, 2]);
        assert!(t.map(|t| t.flags() & FREED != 0) == [false, true, false, true, true]);
        assert_eq!([take(), take()], [t[1], t[4]]);
        assert!(!t.contains(&take()), "that one is retired");
        // SAFETY: nothing of it is used any more.
        unsafe { slab.destroy(&host) };
    }

    /// GT_ENOSPC, without the 256 GiB that it takes.
    #[test]
    fn a_full_slab_says_so() {
        let host = Host::new(Hooks::default());
        let mut slab = Slab::new();
        let home = Timers::new(std::ptr::null(), 0);
        let take = || {
            let new: (Func, _, _) = (nothing, std::ptr::null_mut(), 0);
            slab.alloc(&host, &home, new)
        };
        // The last chunk of all is half used.
        let (t, u) = (take().unwrap(), take().unwrap());
        let left = SLOTS / 2;
        slab.pool.with(|c| (c.chunks, c.used) = (1, SLOTS - left));
        for _ in 0..left {
            take().unwrap();
        }
        slab.pool.with(|c| c.chunks = (L1 * L2) as u32);
        let bytes = host.bytes();
        assert_eq!(take().err(), Some(Error::NoSpc));
        let cache = Cache::new();
        // SAFETY: ours.
        let filled = unsafe { slab.fill(&cache, &host, &home) };
        assert_eq!(filled, Err(Error::NoSpc));
        let in_use = left as i64 + 2;
        assert_eq!(slab.pool.in_use(), in_use, "who is refused is not counted");
        assert_eq!(host.bytes(), bytes, "and leaves nothing behind");
        // What was freed can be had.
        free(&slab, &host, t);
        free(&slab, &host, u);
        assert_eq!([take(), take()], [Ok(u), Ok(t)]);
        assert_eq!(take().err(), Some(Error::NoSpc));
        slab.pool.with(|c| c.chunks = 1);
        // SAFETY: nothing of it is used any more.
        unsafe { slab.destroy(&host) };
        assert_eq!(host.bytes(), 0);
    }
}
