//! Free nodes in the slab's pool and a thread's cache: each is in one place, none is lost.

use super::cache::{self, Cache};
use super::pool::{BATCH, Pool, next};
use super::timer::{Func, RETIRED, Timer, TimerRef};
use super::{Block, Procs, Timers};
use crate::error::{Error, Result};
use crate::host::{Hooks, Host};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::NonNull;

const B: usize = BATCH as usize;
const N: usize = 5 * B;

unsafe extern "C-unwind" fn nothing(_: *mut c_void, _: usize, _: i64) {}

/// Where the nodes come from.
struct Nodes {
    nodes: Vec<Timer>,
    made: Cell<usize>,
    pool: Pool<()>,
}

impl Nodes {
    fn new() -> Self {
        Nodes {
            nodes: (0..N).map(|_| Timer::new()).collect(),
            made: Cell::new(0),
            pool: Pool::new(()),
        }
    }

    /// The next node that was never used.
    fn new_node(&self) -> Result<TimerRef> {
        let i = self.made.get();
        let node = self.nodes.get(i).ok_or(Error::NoMem)?;
        self.made.set(i + 1);
        // SAFETY: it lives as long as `self`.
        Ok(unsafe { TimerRef::new(NonNull::from(node)) })
    }

    fn take(&self) -> TimerRef {
        self.pool.take(|()| self.new_node()).unwrap()
    }

    fn take_some(&self) -> Result<(Option<TimerRef>, u32)> {
        self.pool.take_some(|()| self.new_node())
    }

    fn give_back(&self, t: TimerRef) {
        self.pool.give_back(t, false, || panic!("it is not closed"));
    }

    /// Takes all that are free, from those that link to each other.
    fn list(&self, (first, n): (Option<TimerRef>, u32)) -> Vec<TimerRef> {
        let list: Vec<_> = std::iter::successors(first, |t| next(*t)).collect();
        assert_eq!(list.len(), n as usize);
        list
    }
}

fn sorted(mut list: Vec<TimerRef>) -> Vec<*mut Timer> {
    list.sort_by_key(|t| t.as_ptr());
    list.dedup();
    list.iter().map(|t| t.as_ptr()).collect()
}

#[test]
fn the_pool_gives_each_node_once() {
    let p = Nodes::new();
    let mut taken: Vec<_> = (0..2 * B + 3).map(|_| p.take()).collect();
    assert_eq!(
        (p.made.get(), p.pool.in_use()),
        (2 * B + 3, 2 * B as i64 + 3)
    );
    let all = sorted(taken.clone());
    assert_eq!(all.len(), 2 * B + 3);
    taken.iter().for_each(|t| p.give_back(*t));
    assert_eq!(p.pool.in_use(), 0);
    // One by one, whatever they were put into.
    taken = taken.iter().map(|_| p.take()).collect();
    assert_eq!(
        (sorted(taken.clone()), p.made.get()),
        (all.clone(), 2 * B + 3)
    );
    taken.iter().for_each(|t| p.give_back(*t));
    // Whole batches first, then those that came one by one, then new ones.
    let some = [0; 3].map(|_| p.list(p.take_some().unwrap()));
    assert_eq!(some.each_ref().map(Vec::len), [B, B, 3]);
    assert_eq!(sorted(some.concat()), all);
    let new = p.list(p.take_some().unwrap());
    assert_eq!((new.len(), p.made.get()), (B, 3 * B + 3));
    assert_eq!(sorted(new).len(), B);
    p.list(p.take_some().unwrap());
    let rest = p.list(p.take_some().unwrap());
    assert_eq!(rest.len(), B - 3, "there are no more");
    assert_eq!(p.take_some().err(), Some(Error::NoMem));
    assert_eq!(p.pool.in_use(), 0, "threads count these");
    // A thread's nodes come back.
    p.pool
        .give_all((some[2].first().copied(), some[0].first().copied()));
    p.pool.give_batch(some[1][0]);
    taken = (0..2 * B + 3).map(|_| p.take()).collect();
    assert_eq!(sorted(taken.clone()), all);
    assert_eq!(p.pool.take(|()| p.new_node()).err(), Some(Error::NoMem));
    // One that is retired does not.
    p.pool
        .give_back(taken[0], true, || panic!("it is not closed"));
    assert_eq!(p.pool.take(|()| p.new_node()).err(), Some(Error::NoMem));
    assert_eq!(p.pool.in_use(), 2 * B as i64 + 2);
    p.pool.set(None, 0);
}

/// Those that come one by one become a batch when there are enough, not sooner.
#[test]
fn a_batch_is_whole() {
    let p = Nodes::new();
    let t: Vec<_> = (0..2 * B + 1).map(|_| p.take()).collect();
    t[..2 * B].iter().for_each(|t| p.give_back(*t));
    let two = [p.take(), p.take()];
    for t in [two[0], two[1], t[2 * B]] {
        p.give_back(t);
    }
    let some = [0; 3].map(|_| p.list(p.take_some().unwrap()));
    assert_eq!(some.each_ref().map(Vec::len), [B, B, 1]);
    assert_eq!(sorted(some.concat()), sorted(t));
}

#[test]
fn a_closed_pool_tells_of_the_last_one() {
    let gone = Cell::new(0);
    let tell = || gone.set(gone.get() + 1);
    let p = Nodes::new();
    let t = [0; 3].map(|_| p.take());
    p.give_back(t[0]);
    assert_eq!(gone.get(), 0);
    p.pool.close(1, tell);
    assert_eq!((gone.get(), p.pool.in_use()), (1, 3), "some are left");
    assert_eq!(p.pool.take(|()| p.new_node()).err(), Some(Error::Shutdown));
    gone.set(0);
    p.pool.give_back(t[1], false, tell);
    p.pool.give_back(t[2], true, tell);
    assert_eq!(gone.get(), 0);
    p.pool.give_back(p.new_node().unwrap(), false, tell);
    assert_eq!((gone.get(), p.pool.in_use()), (1, 0));
    // None is left.
    let p = Nodes::new();
    p.pool.close(0, || panic!("none is left"));
}

/// For cache::make.
struct Here {
    block: Block,
    host: Host,
}

// SAFETY: one thread only uses it.
unsafe impl Sync for Here {}

impl Procs for Here {
    fn host(&self) -> &Host {
        &self.host
    }
    fn now(&self) -> i64 {
        0
    }
    fn of(_: &Timers) -> &Here {
        unreachable!("no P is used")
    }
    fn pick(&self, _: u32) -> &Timers {
        unreachable!("nothing is armed")
    }
    fn wake(&self, _: &Timers, _: i64) {}
    fn set_mask(&self, _: u32, _: bool) {}
    fn hold(&self, _: &Timers) {}
    fn unhold(&self, _: &Timers) {}
    fn pass_done(&self, _: &Timers) {}
    fn block(&self) -> &Block {
        &self.block
    }
    fn verifying(&self) -> bool {
        false
    }
    fn generation(&self, _: TimerRef) -> u32 {
        1
    }
    fn raise_generation(&self, _: TimerRef) {}
    fn give_back(&self, _: TimerRef) {}
}

#[test]
fn a_thread_keeps_two_batches() {
    let p = Nodes::new();
    let home = Timers::new(std::ptr::null(), 0);
    let s = Here {
        block: Block::new(1, false, false),
        host: Host::new(Hooks::default()),
    };
    let cache: &Cache = &s.block.cache;
    let f: Func = nothing;
    let make = |flags| cache::make(&s, &home, f, std::ptr::null_mut(), flags);
    // SAFETY: ours.
    let fill = || unsafe { cache.fill(|| p.take_some()) };
    let more = |n: usize| -> Vec<_> {
        let one = |_| {
            make(0).or_else(|| {
                fill().unwrap();
                make(0)
            })
        };
        (0..n).map(|i| one(i).unwrap()).collect()
    };
    assert!(make(0).is_none());
    fill().unwrap();
    fill().unwrap();
    assert_eq!(p.made.get(), B, "there were some");
    let taken = more(3 * B + 1);
    assert_eq!((p.made.get(), cache.live()), (4 * B, 3 * B as u64 + 1));
    assert_eq!(sorted(taken.clone()).len(), 3 * B + 1);
    // To a cache that has B - 1: two batches and what is over stay here.
    taken
        .iter()
        .for_each(|t| cache::take_back(&s.block, &p.pool, *t));
    assert_eq!(cache.live(), 0);
    let of_pool = [
        p.list(p.take_some().unwrap()),
        p.list(p.take_some().unwrap()),
    ];
    assert_eq!(p.made.get(), 4 * B);
    // SAFETY: ours.
    let (first, full) = unsafe { cache.take_all() };
    let lists = [first, full].map(|l| std::iter::successors(l, |t| next(*t)).collect::<Vec<_>>());
    assert_eq!(lists.each_ref().map(Vec::len), [B, B]);
    let all = [of_pool.concat(), lists.concat()].concat();
    assert_eq!(sorted(all).len(), 4 * B);
    // One that is retired is not used again, but counted.
    let t = p.new_node().unwrap();
    t.init(&home, f, std::ptr::null_mut(), RETIRED);
    cache::take_back(&s.block, &p.pool, t);
    assert!(make(0).is_none());
    assert_eq!(cache.live(), u64::MAX);
    cache.forget_live();
    assert_eq!(cache.live(), 0);
}
