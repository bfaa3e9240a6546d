//! fork against who changes a timer's fields (src/engine/writer.rs): a fork child sees each timer
//! whole. And what a thread leaves at its end, which the next one has for itself
//! (src/procs/blocks.rs).

use super::{explore, side_by_side};
use crate::engine::{Block, Forking, Writer};
use crate::host::{Hooks, Host};
use crate::procs::blocks::Blocks;
use loom::cell::UnsafeCell;
use std::sync::Arc;

struct World {
    host: Host,
    forking: Forking,
    writer: Writer,
    /// Fields of a timer, which stand under its lock; fork does not take that.
    fields: UnsafeCell<[u32; 2]>,
    blocks: Blocks,
}

// SAFETY: the cells are there to be checked for races; all else is Sync.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

fn world() -> Arc<World> {
    Arc::new(World {
        host: Host::new(Hooks::default()),
        forking: Forking::new(),
        writer: Writer::new(),
        fields: UnsafeCell::new([0; 2]),
        blocks: Blocks::new(false),
    })
}

impl World {
    fn write(&self) {
        self.writer.begin(&self.forking, &self.host);
        // SAFETY: the checker looks whether somebody else uses them.
        self.fields.with_mut(|f| unsafe { *f = [1; 2] });
        self.writer.end();
    }

    /// As fork.rs; the child has what is seen between the two.
    fn fork(&self) {
        self.forking.begin();
        self.writer.wait(&self.host);
        // SAFETY: as above.
        self.fields
            .with(|f| unsafe { assert_eq!((*f)[0], (*f)[1]) });
        self.forking.end();
    }
}

fn model<const N: usize>(fenced: bool, preemptions: usize, threads: [fn(&World); N]) {
    explore(N, preemptions, fenced, move || {
        let w = world();
        side_by_side(&w, threads);
        // SAFETY: all threads have ended.
        unsafe { w.blocks.destroy(&w.host) };
    });
}

#[test]
fn model_fork_against_a_writer() {
    model(true, 3, [World::fork, World::write]);
}

/// After the fork he goes on, and another one may come.
#[test]
fn model_two_forks_against_a_writer() {
    model(
        true,
        2,
        [
            |w| {
                w.fork();
                w.fork();
            },
            World::write,
        ],
    );
}

/// A thread with this token ends, once it has used its block.
fn thread(w: &World, token: u64) -> *const Block {
    let at = w.blocks.of(&w.host, token);
    // SAFETY: blocks live as long as the World.
    let b = unsafe { &*at };
    // SAFETY: the thread's own, if all is well; else the checker says so.
    unsafe { b.cache.fill(|| Ok((None, 0))).unwrap() };
    assert!(std::ptr::eq(w.blocks.of(&w.host, token), at), "two blocks");
    w.blocks.leave(token);
    at
}

/// What one has left the other one has for itself.
#[test]
fn model_block_of_a_thread_that_ends() {
    model(
        false,
        3,
        [
            |w| {
                thread(w, 1);
            },
            |w| {
                thread(w, 2);
            },
        ],
    );
}

/// Two blocks are there, one of them left, when a thread asks again for its own.
#[test]
fn model_block_of_a_thread_that_has_one() {
    model(
        false,
        3,
        [
            |w| {
                let mine = w.blocks.of(&w.host, 1);
                loom::thread::yield_now();
                assert!(std::ptr::eq(w.blocks.of(&w.host, 1), mine));
            },
            |w| {
                w.blocks.of(&w.host, 2);
                w.blocks.leave(2);
            },
        ],
    );
}
