//! The checked build: which addresses are timers of ours?
//!
//! Each call that is given a handle asks. So the chunks are in a list that is copied when there is
//! another one, and crossbeam-epoch keeps an old copy until nobody looks at it any more: who asks
//! takes no lock. What crossbeam-epoch keeps comes from Rust's allocator: with no memory left the
//! process ends, in this build.
//!
//! A fork may catch other threads in the middle of changing what crossbeam-epoch has of them. So a
//! child does without: who asks takes the lock there.

use super::slab::{CHUNK_BYTES, SLOTS, Slab};
use super::timer::Timer;
use crate::sync::{RawLock, rank};
use crossbeam_epoch::{Atomic, Guard, Owned, pin, unprotected};
use std::sync::atomic::{AtomicBool, Ordering};

struct Chunks {
    /// Held by who changes the list; in a fork child also by who reads it.
    lock: RawLock,
    /// The addresses of all chunks of all scheds, ascending. Null: none yet.
    list: Atomic<Vec<usize>>,
    is_child: AtomicBool,
}

static CHUNKS: Chunks = Chunks {
    lock: RawLock::new(rank::CHUNKS),
    list: Atomic::null(),
    is_child: AtomicBool::new(false),
};

/// Relaxed: it is set by the child's only thread.
fn is_child() -> bool {
    CHUNKS.is_child.load(Ordering::Relaxed)
}

fn change(f: impl FnOnce(&mut Vec<usize>)) {
    CHUNKS.lock.lock();
    if is_child() {
        // SAFETY: the lock is held, and in a child nobody looks at the list without it.
        replace(unsafe { unprotected() }, f);
    } else {
        replace(&pin(), f);
    }
    CHUNKS.lock.unlock();
}

/// The lock is held.
fn replace(guard: &Guard, f: impl FnOnce(&mut Vec<usize>)) {
    let old = CHUNKS.list.load(Ordering::Relaxed, guard);
    // SAFETY: null, or a list that only we could replace.
    let mut list = unsafe { old.as_ref() }.cloned().unwrap_or_default();
    f(&mut list);
    // Release: who finds the list sees what is in it.
    CHUNKS.list.store(Owned::new(list), Ordering::Release);
    if !old.is_null() {
        // SAFETY: nobody finds it any more; who looks at it has pinned the epoch, or there is nobody.
        unsafe { guard.defer_destroy(old) };
    }
}

pub(crate) fn fork_lock() {
    CHUNKS.lock.lock();
    rank::leave(rank::CHUNKS);
}

pub(crate) fn fork_unlock() {
    CHUNKS.lock.unlock();
}

/// This is a fork's child. The lock is held.
pub(crate) fn fork_child() {
    CHUNKS.is_child.store(true, Ordering::Relaxed);
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
    if !is_child() {
        return is_listed(&pin(), base);
    }
    CHUNKS.lock.lock();
    // SAFETY: in a child nobody changes the list without the lock.
    let found = is_listed(unsafe { unprotected() }, base);
    CHUNKS.lock.unlock();
    found
}

fn is_listed(guard: &Guard, base: usize) -> bool {
    // SAFETY: null, or a list that is kept while the epoch is pinned or the lock is held.
    let list = unsafe { CHUNKS.list.load(Ordering::Acquire, guard).as_ref() };
    list.is_some_and(|list| list.binary_search(&base).is_ok())
}
