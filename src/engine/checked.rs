//! The checked build: which addresses are timers of ours?
//!
//! Each call that is given a handle asks. So the chunks are in a list that is copied when there is
//! another one, and crossbeam-epoch keeps an old copy until nobody looks at it any more: who asks
//! takes no lock.

use super::slab::{CHUNK_BYTES, SLOTS, Slab};
use super::timer::Timer;
use crate::sync::{RawLock, rank};
use crossbeam_epoch::{Atomic, Owned, pin};
use std::sync::atomic::Ordering;

struct Chunks {
    /// Held by who changes the list.
    lock: RawLock,
    /// The addresses of all chunks of all scheds, ascending. Null: none yet.
    list: Atomic<Vec<usize>>,
}

static CHUNKS: Chunks = Chunks {
    lock: RawLock::new(rank::CHUNKS),
    list: Atomic::null(),
};

fn change(f: impl FnOnce(&mut Vec<usize>)) {
    CHUNKS.lock.lock();
    let guard = pin();
    let old = CHUNKS.list.load(Ordering::Relaxed, &guard);
    // SAFETY: null, or a list that only we could replace.
    let mut list = unsafe { old.as_ref() }.cloned().unwrap_or_default();
    f(&mut list);
    // Release: who finds the list sees what is in it.
    CHUNKS.list.store(Owned::new(list), Ordering::Release);
    if !old.is_null() {
        // SAFETY: nobody finds it any more; who looks at it has pinned the epoch.
        unsafe { guard.defer_destroy(old) };
    }
    drop(guard);
    CHUNKS.lock.unlock();
}

pub(crate) fn fork_lock() {
    CHUNKS.lock.lock();
    rank::leave(rank::CHUNKS);
}

pub(crate) fn fork_unlock() {
    CHUNKS.lock.unlock();
}

pub(super) fn add(base: usize) {
    change(|list| {
        let at = list.partition_point(|&b| b < base);
        list.insert(at, base);
    });
}

pub(super) fn remove(base: usize) {
    change(|list| list.retain(|&b| b != base));
}

/// Is this the address of a timer of ours?
pub(crate) fn is_timer(addr: usize) -> bool {
    let base = addr & !(CHUNK_BYTES - 1);
    let at = addr - base;
    let timers = Slab::FIRST..Slab::FIRST + SLOTS * size_of::<Timer>();
    timers.contains(&at) && (at - Slab::FIRST).is_multiple_of(size_of::<Timer>()) && is_chunk(base)
}

fn is_chunk(base: usize) -> bool {
    let guard = pin();
    // SAFETY: null, or a list that is kept while the epoch is pinned.
    let list = unsafe { CHUNKS.list.load(Ordering::Acquire, &guard).as_ref() };
    list.is_some_and(|list| list.binary_search(&base).is_ok())
}
