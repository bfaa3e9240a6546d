//! Where chunks are found (engine/tables.rs): who finds one, with no lock, finds it whole.

use super::explore;
use crate::engine::Tables;
use crate::host::{Hooks, Host};
use loom::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;

struct World {
    host: Host,
    tables: Tables<Chunk>,
    chunks: [Chunk; 2],
}

/// What a chunk is made of: loom looks for races.
struct Chunk(UnsafeCell<u32>);

// SAFETY: it is there to be checked for races.
unsafe impl Sync for Chunk {}
// SAFETY: as above.
unsafe impl Send for Chunk {}

impl World {
    /// As Slab::new_chunk, by one who holds the slab's lock.
    fn make(&self, no: usize) {
        self.tables.reserve(no, &self.host).unwrap();
        let chunk = &self.chunks[no];
        chunk.0.with_mut(|_| ());
        self.tables.set(no, NonNull::from(chunk));
    }

    fn look(&self, no: usize) {
        if let Some(chunk) = self.tables.get(no) {
            chunk.0.with(|_| ());
        }
    }
}

/// Two chunks are made, the first with its table, and two others look for them.
#[test]
fn model_find_against_new_chunks() {
    explore(3, 2, false, || {
        let mut w = Arc::new(World {
            host: Host::new(Hooks::default()),
            tables: Tables::new(),
            chunks: std::array::from_fn(|_| Chunk(UnsafeCell::new(0))),
        });
        let run = |f: fn(&World)| {
            let w = w.clone();
            loom::thread::spawn(move || f(&w))
        };
        let looks = |w: &World| {
            w.look(1);
            w.look(0);
        };
        let threads = [run(looks), run(looks)];
        w.make(0);
        w.make(1);
        for t in threads {
            t.join().unwrap();
        }
        let w = Arc::get_mut(&mut w).unwrap();
        let mut left = 0;
        // SAFETY: nobody else is left.
        unsafe { w.tables.take(&w.host, |_| left += 1) };
        assert_eq!(left, 2);
    });
}
