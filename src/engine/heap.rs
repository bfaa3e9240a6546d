//! The 4-ary min-heap of a P: `siftup`, `siftdown`, `doaddtimer`, `dodeltimer`,
//! `dodeltimer0` of runtime/time.go. It always is a heap, but for what lags (lag.rs): adjusttimers
//! moves each entry to its place at once, so there is no `inittimerheap`.
//!
//! Entries are (when, timer), 16 bytes. The root stands at slot 3 of an array aligned
//! to 64 bytes, so the four children of a node share one cache line:
//! child(s) = 4(s-2), parent(s) = s/4 + 2. Outside this file positions count from 0.
//!
//! Behind the heap, in the same array, stand the deferred entries: armed during a pass
//! for a time already due, they enter the heap for the next pass (rule S10).
//! Everything here is guarded by the P's timers lock.

mod lag;

use super::timer::TimerRef;
use crate::error::{Error, Result};
use crate::host::Host;
use lag::{LAG, LAG_FROM};
use std::ptr::NonNull;

/// An entry: the key, and the timer it stands for.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Entry {
    pub when: i64,
    pub t: TimerRef,
}

const ROOT: usize = 3;
const ALIGN: usize = 64;
const FIRST: usize = 29;
/// From this size on, siftdown prefetches the grandchildren: below it they are in cache.
const PREFETCH_FROM: usize = 4096;

/// From this size on an array grows in place, in a region of so many bytes of addresses.
const REGION_FROM: usize = 32 << 10;
const REGION: usize = 8 << 30;
/// So many bytes are given back in one go.
const SHRINK: usize = 256 << 10;

/// Bytes of an array with room for so many entries, in whole pages.
fn pages(entries: usize) -> Result<usize> {
    const PAGE: usize = 64 << 10; // a multiple of every page size there is
    (entries + ROOT)
        .checked_mul(size_of::<Entry>())
        .filter(|b| *b <= REGION)
        .map(|b| b.next_multiple_of(PAGE))
        .ok_or(Error::NoMem)
}

#[inline(always)]
fn child(slot: usize) -> usize {
    4 * (slot - 2)
}

#[inline(always)]
fn parent(slot: usize) -> usize {
    slot / 4 + 2
}

/// Asks for a cache line ahead of its use. Reads nothing, so any address will do.
#[inline(always)]
fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect that a program can see, and cannot fault.
        unsafe { _mm_prefetch(p.cast(), _MM_HINT_T0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

pub(crate) struct Heap {
    /// Slot 0 of the array; slots ROOT.. are used.
    base: *mut Entry,
    /// Slots in the array.
    slots: usize,
    /// The array is a region of addresses that is committed up to `slots`.
    in_region: bool,
    /// Entries in the heap.
    len: usize,
    /// Deferred entries behind them.
    deferred: usize,
    /// Not above any deferred key.
    deferred_min: i64,
    /// The slot in which the last insertion ended. What stands there now, if anything, is
    /// perhaps another entry.
    last: usize,
    /// Slots of entries that are on their way down, the lowest first; `lagging` of them count.
    /// See lag.rs.
    lag: [usize; LAG],
    lagging: usize,
}

impl Heap {
    pub(crate) const fn new() -> Self {
        Heap {
            base: std::ptr::null_mut(),
            slots: 0,
            in_region: false,
            len: 0,
            deferred: 0,
            deferred_min: i64::MAX,
            last: ROOT,
            lag: [0; LAG],
            lagging: 0,
        }
    }

    /// Entries in heap order; without the deferred ones.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All entries, deferred ones included.
    #[inline(always)]
    pub(crate) fn total(&self) -> usize {
        self.len + self.deferred
    }

    #[inline(always)]
    fn at(&self, slot: usize) -> Entry {
        debug_assert!(slot >= ROOT && slot < ROOT + self.total());
        // SAFETY: slots ROOT .. ROOT+total of the array are initialised, and in it.
        unsafe { *self.base.add(slot) }
    }

    #[inline(always)]
    fn put(&mut self, slot: usize, e: Entry) {
        debug_assert!(slot >= ROOT && slot < self.slots);
        // SAFETY: the slot is within the array.
        unsafe { *self.base.add(slot) = e }
    }

    /// The entry at a position; 0 is the minimum. For others nothing may lag: see settle.
    #[inline(always)]
    pub(crate) fn get(&self, i: usize) -> Entry {
        debug_assert!(i == 0 || self.lagging == 0);
        self.at(ROOT + i)
    }

    /// The entry that stands at a position now, though it may go further down, and others up.
    #[inline(always)]
    pub(crate) fn get_any(&self, i: usize) -> Entry {
        self.at(ROOT + i)
    }

    /// Is there room for one more?
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        ROOT + self.total() < self.slots
    }

    /// Makes room for `n` more entries, so that adding them cannot fail.
    #[inline]
    pub(crate) fn reserve(&mut self, host: &Host, n: usize) -> Result<()> {
        if n == 0 || ROOT + self.total() + n <= self.slots {
            Ok(())
        } else {
            self.grow(host, n)
        }
    }

    #[cold]
    fn grow(&mut self, host: &Host, n: usize) -> Result<()> {
        let need = self.total().checked_add(n).ok_or(Error::NoMem)?;
        let more = if self.in_region { 4 } else { 1 };
        let want = need.max(self.total() + self.total() / more).max(FIRST);
        // Entries are never copied in large numbers: that would hold the lock for long.
        if self.in_region {
            let bytes = pages(want)?.min(REGION);
            if bytes <= self.bytes() || bytes / size_of::<Entry>() < need + ROOT {
                return Err(Error::NoMem);
            }
            // SAFETY: the part of our region that is not committed.
            let good = NonNull::new(self.base.cast())
                .is_some_and(|p| unsafe { host.commit(p, self.bytes(), bytes) });
            if !good {
                return Err(Error::NoMem);
            }
            self.slots = bytes / size_of::<Entry>();
            return Ok(());
        }
        if want * size_of::<Entry>() >= REGION_FROM
            && let Ok(bytes) = pages(want)
            && let Some(p) = host.reserve(REGION)
        {
            // SAFETY: a fresh region.
            if unsafe { host.commit(p, 0, bytes) } {
                self.move_to(host, p.cast().as_ptr(), bytes / size_of::<Entry>());
                self.in_region = true;
                return Ok(());
            }
            // SAFETY: nobody has used it.
            unsafe { host.unreserve(p, REGION, 0) };
        }
        self.resize(host, want)
    }

    fn bytes(&self) -> usize {
        self.slots * size_of::<Entry>()
    }

    /// Moves to an array of the allocator with room for `want` entries, which is not less
    /// than `total`.
    fn resize(&mut self, host: &Host, want: usize) -> Result<()> {
        let slots = (want + ROOT).next_multiple_of(4);
        let bytes = slots
            .checked_mul(size_of::<Entry>())
            .filter(|b| *b < isize::MAX as usize)
            .ok_or(Error::NoMem)?;
        let base = host.alloc(bytes, ALIGN).ok_or(Error::NoMem)?;
        self.move_to(host, base.cast().as_ptr(), slots);
        Ok(())
    }

    /// Moves all entries to another array, and gives the old one back.
    fn move_to(&mut self, host: &Host, base: *mut Entry, slots: usize) {
        if self.total() > 0 {
            // SAFETY: both arrays hold ROOT+total slots and do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(self.base.add(ROOT), base.add(ROOT), self.total())
            };
        }
        let total = (self.len, self.deferred);
        self.release(host);
        (self.len, self.deferred) = total;
        self.base = base;
        self.slots = slots;
    }

    /// Gives the array back; the entries are gone.
    pub(crate) fn release(&mut self, host: &Host) {
        if let Some(p) = NonNull::new(self.base.cast::<u8>()) {
            // SAFETY: it came from `grow` or `resize` with this size and alignment.
            unsafe {
                if self.in_region {
                    host.unreserve(p, REGION, self.bytes());
                } else {
                    host.free(p, self.bytes(), ALIGN);
                }
            }
        }
        self.base = std::ptr::null_mut();
        self.in_region = false;
        (self.slots, self.len, self.deferred) = (0, 0, 0);
    }

    /// Gives memory back if far less is needed, so much as one hold of the lock allows. True:
    /// there is more.
    pub(crate) fn shrink(&mut self, host: &Host) -> bool {
        if self.total() == 0 {
            self.release(host);
        } else if self.slots > 4 * (self.total() + FIRST) {
            let Ok(wanted) = pages(2 * self.total()) else {
                return false;
            };
            if !self.in_region {
                let _ = self.resize(host, 2 * self.total());
            } else if let Some(p) = NonNull::new(self.base.cast::<u8>())
                && wanted < self.bytes()
            {
                let to = wanted.max(self.bytes().saturating_sub(SHRINK));
                // SAFETY: committed, and behind all entries.
                unsafe { host.decommit(p, to, self.bytes()) };
                self.slots = to / size_of::<Entry>();
                return to > wanted;
            }
        }
        false
    }

    /// Go's doaddtimer: adds an entry. Room was made by `reserve`.
    #[inline]
    pub(crate) fn doaddtimer(&mut self, when: i64, t: TimerRef) {
        if self.lagging > 0 && self.rises_past_lagging(ROOT + self.len, when) {
            self.settle();
        }
        if self.deferred > 0 {
            let first = self.at(ROOT + self.len);
            self.put(ROOT + self.total(), first);
        }
        self.len += 1;
        self.last = self.siftup(ROOT + self.len - 1, Entry { when, t });
    }

    /// Where the last insertion put its entry; if that was taken off or moved on since, another
    /// one, or none.
    #[inline(always)]
    pub(crate) fn last_added(&self) -> Option<(usize, TimerRef)> {
        let i = self.last - ROOT;
        (i < self.len).then(|| (i, self.get_any(i).t))
    }

    /// Puts an entry in the place of that one, and moves it to where it belongs.
    #[inline(always)]
    pub(crate) fn replace(&mut self, i: usize, when: i64, t: TimerRef) {
        debug_assert!(self.lagging == 0);
        let slot = ROOT + i;
        let e = Entry { when, t };
        if when < self.at(slot).when {
            self.last = self.siftup(slot, e);
        } else if child(slot) >= ROOT + self.len {
            self.put(slot, e);
        } else {
            self.last = self.siftdown(slot, e);
        }
    }

    /// Adds an entry for the next pass. Room was made by `reserve`.
    pub(crate) fn defer(&mut self, when: i64, t: TimerRef) {
        self.put(ROOT + self.total(), Entry { when, t });
        self.deferred += 1;
        self.deferred_min = self.deferred_min.min(when);
    }

    /// Moves so many deferred entries into the heap, the oldest first.
    pub(crate) fn undefer(&mut self, n: usize) {
        self.settle();
        for _ in 0..n.min(self.deferred) {
            let e = self.at(ROOT + self.len);
            self.deferred -= 1;
            self.len += 1;
            self.siftup(ROOT + self.len - 1, e);
        }
        if self.deferred == 0 {
            self.deferred_min = i64::MAX;
        }
    }

    pub(crate) fn deferred(&self) -> usize {
        self.deferred
    }

    /// The earliest key; 0 when there is no entry.
    #[inline]
    pub(crate) fn min_when(&self) -> i64 {
        if self.total() == 0 {
            return 0;
        }
        let root = if self.len > 0 {
            self.at(ROOT).when
        } else {
            i64::MAX
        };
        root.min(self.deferred_min)
    }

    /// Takes the last entry of the array off, deferred or not; the heap stays a heap.
    pub(crate) fn pop_last(&mut self) -> Option<Entry> {
        self.settle();
        let last = self.total().checked_sub(1)?;
        let e = self.at(ROOT + last);
        match self.deferred {
            0 => self.len -= 1,
            n => {
                self.deferred = n - 1;
                if n == 1 {
                    self.deferred_min = i64::MAX;
                }
            }
        }
        Some(e)
    }

    /// Go's dodeltimer0: removes the minimum. With `lag`, what takes its place may lag.
    #[inline]
    pub(crate) fn dodeltimer0(&mut self, lag: bool) {
        if lag && self.len >= LAG_FROM {
            return self.replace_root(None);
        }
        self.settle();
        let last = self.remove_end();
        if self.len > 0 {
            self.siftdown(ROOT, last);
        }
    }

    /// Go's dodeltimer: removes position i. The entry that takes its place may be smaller
    /// or larger than it, so it is sifted both ways.
    pub(crate) fn dodeltimer(&mut self, i: usize) {
        debug_assert!(self.lagging == 0);
        let last = self.remove_end();
        if i == self.len {
            return;
        }
        let slot = ROOT + i;
        if slot > ROOT && last.when < self.at(parent(slot)).when {
            self.siftup(slot, last);
        } else {
            self.siftdown(slot, last);
        }
    }

    /// Removes position i of all entries, deferred ones included.
    pub(crate) fn remove(&mut self, i: usize) {
        if i < self.len {
            self.dodeltimer(i);
        } else if let Some(last) = self.pop_last()
            && i < self.total()
        {
            self.put(ROOT + i, last);
        }
    }

    /// Takes the heap's last entry off; the last deferred one fills the gap.
    #[inline(always)]
    fn remove_end(&mut self) -> Entry {
        let e = self.at(ROOT + self.len - 1);
        if self.deferred > 0 {
            let last = self.at(ROOT + self.total() - 1);
            self.put(ROOT + self.len - 1, last);
        }
        self.len -= 1;
        e
    }

    /// Gives an entry of the heap another key and moves it to its place.
    pub(crate) fn rekey(&mut self, i: usize, when: i64) {
        debug_assert!(self.lagging == 0);
        let (slot, was) = (ROOT + i, self.get(i));
        let e = Entry { when, ..was };
        if when < was.when {
            self.siftup(slot, e);
        } else {
            self.siftdown(slot, e);
        }
    }

    /// Gives the minimum a later key and moves it to its place. With `lag`, it may lag.
    #[inline]
    pub(crate) fn rekey0(&mut self, when: i64, lag: bool) {
        if lag && self.len >= LAG_FROM {
            return self.replace_root(Some(when));
        }
        self.settle();
        let t = self.at(ROOT).t;
        self.siftdown(ROOT, Entry { when, t });
    }

    /// Moves `e`, which is to stand at `slot`, up to its place, which it returns.
    #[inline]
    fn siftup(&mut self, mut slot: usize, e: Entry) -> usize {
        while slot > ROOT {
            let up = parent(slot);
            let above = self.at(up);
            if e.when >= above.when {
                break;
            }
            self.put(slot, above);
            slot = up;
        }
        self.put(slot, e);
        slot
    }

    /// Moves `e`, which is to stand at `slot`, down to its place, which it returns.
    #[inline]
    fn siftdown(&mut self, slot: usize, e: Entry) -> usize {
        self.siftdown_by(slot, e, usize::MAX, true).0
    }

    /// The same, by so many levels at most. Its slot, and whether that is its place. `ahead`:
    /// what is compared with it next is fetched.
    #[inline(always)]
    fn siftdown_by(
        &mut self,
        mut slot: usize,
        e: Entry,
        levels: usize,
        ahead: bool,
    ) -> (usize, bool) {
        let end = ROOT + self.len;
        for _ in 0..levels {
            let first = child(slot);
            if first >= end {
                self.put(slot, e);
                return (slot, true);
            }
            if ahead {
                self.prefetch_children(first);
            }
            let (w, least) = self.least(first, end);
            if w >= e.when {
                self.put(slot, e);
                return (slot, true);
            }
            let up = self.at(least);
            self.put(slot, up);
            slot = least;
        }
        self.put(slot, e);
        (slot, child(slot) >= end)
    }

    /// The earliest of the siblings from slot `first` on, which ends at `end` or after four; of
    /// equal ones the first. Its key and slot.
    #[inline(always)]
    fn least(&self, first: usize, end: usize) -> (i64, usize) {
        let mut w = self.at(first).when;
        if first + 4 <= end {
            // All four: two pairs, then the winners, with no branch that is hard to guess.
            let (w1, w2, w3) = (
                self.at(first + 1).when,
                self.at(first + 2).when,
                self.at(first + 3).when,
            );
            let a = if w1 < w { (w1, first + 1) } else { (w, first) };
            let b = if w3 < w2 {
                (w3, first + 3)
            } else {
                (w2, first + 2)
            };
            return if b.0 < a.0 { b } else { a };
        }
        let mut least = first;
        for c in first + 1..end {
            let cw = self.at(c).when;
            if cw < w {
                w = cw;
                least = c;
            }
        }
        (w, least)
    }

    /// Where what moves up when position i is taken off, or gets a later key, crosses from
    /// `line` or behind it to before it; None: nothing does. The last entry does not count:
    /// it may be the one that goes to i.
    pub(crate) fn crossing(&self, i: usize, line: usize) -> Option<usize> {
        debug_assert!(self.lagging == 0);
        let (line, end) = (ROOT + line, ROOT + self.len.saturating_sub(1));
        let mut slot = ROOT + i;
        while slot < line {
            let first = child(slot);
            if first >= end {
                return None;
            }
            slot = self.least(first, end).1;
        }
        Some(slot - ROOT)
    }

    /// The sixteen grandchildren lie on four lines; fetch them while the children are compared.
    #[inline(always)]
    fn prefetch_children(&self, first: usize) {
        let grandchild = child(first);
        if self.len >= PREFETCH_FROM && grandchild < ROOT + self.len {
            for line in 0..4 {
                prefetch(self.base.wrapping_add(grandchild + 4 * line));
            }
        }
    }

    /// The timers that come up next are the new root and its children: fetch them while
    /// the callback runs.
    #[inline(always)]
    pub(crate) fn prefetch_next(&self) {
        for i in 0..self.len.min(5) {
            prefetch(self.at(ROOT + i).t.as_ptr());
        }
    }

    /// Fetches the timer of a position, which is looked at soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, i: usize) {
        prefetch(self.get(i).t.as_ptr());
    }

    /// The first position whose key is smaller than its parent's.
    pub(crate) fn first_disorder(&self) -> Option<usize> {
        debug_assert!(self.lagging == 0);
        (1..self.len).find(|i| self.at(ROOT + i).when < self.at(parent(ROOT + i)).when)
    }
}
