//! heap.rs against a sorted Vec, by random operations. The heap never looks into a
//! timer, so the timers here are addresses only.

use super::heap::{Entry, Heap};
use super::timer::Timer;
use super::timer::TimerRef;
use crate::host::{Hooks, Host};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::time::{SystemTime, UNIX_EPOCH};

/// Entries at most.
const MOST: usize = 200;

/// What the heap is asked to do. Positions are taken modulo the number of entries.
#[derive(Clone, Debug)]
enum Op {
    Add(i64),
    /// Many in one go, to make the heap deep.
    AddMany(i64, usize),
    Defer(i64),
    Undefer(usize),
    /// May the entry that takes the place lag?
    Dodeltimer0(bool),
    Dodeltimer(usize),
    /// The entry that was put in last gets another timer.
    Replace(i64),
    /// Gives the minimum a key that is later by this much.
    Rekey0(i64, bool),
    Rekey(usize, i64),
    /// A position of all entries, the deferred ones too.
    Remove(usize),
    PopLast(usize),
    Shrink,
    Release,
}

fn op() -> impl Strategy<Value = Op> {
    let when = || prop_oneof![8 => 1i64..60, 1 => Just(i64::MAX)];
    prop_oneof![
        8 => when().prop_map(Op::Add),
        2 => (when(), 2usize..40).prop_map(|(w, n)| Op::AddMany(w, n)),
        4 => when().prop_map(Op::Defer),
        2 => prop_oneof![Just(usize::MAX), 1usize..20].prop_map(Op::Undefer),
        8 => any::<bool>().prop_map(Op::Dodeltimer0),
        2 => Just(Op::Dodeltimer0(true)),
        6 => (0usize..MOST).prop_map(Op::Dodeltimer),
        4 => when().prop_map(Op::Replace),
        8 => (0i64..60, 0..4).prop_map(|(by, n)| Op::Rekey0(by, n > 0)),
        4 => (0usize..MOST, when()).prop_map(|(i, w)| Op::Rekey(i, w)),
        4 => (0usize..MOST).prop_map(Op::Remove),
        3 => prop_oneof![Just(1usize), 1..MOST].prop_map(Op::PopLast),
        1 => Just(Op::Shrink),
        1 => Just(Op::Release),
    ]
}

/// Addresses of timers that nobody looks at.
fn timers() -> Vec<TimerRef> {
    let all: &'static mut [MaybeUninit<Timer>] =
        Box::leak((0..MOST).map(|_| MaybeUninit::uninit()).collect());
    let address = |t: &mut MaybeUninit<Timer>| NonNull::from(t).cast();
    // SAFETY: leaked, so it outlives every use; and the heap never follows it.
    all.iter_mut()
        .map(|t| unsafe { TimerRef::new(address(t)) })
        .collect()
}

/// The heap, and the model: all entries, in any order, those of the heap and the
/// deferred ones apart.
struct Pair {
    host: Host,
    heap: Heap,
    sorted: Vec<(i64, usize)>,
    deferred: Vec<(i64, usize)>,
    free: Vec<TimerRef>,
}

fn key(e: Entry) -> (i64, usize) {
    (e.when, e.t.as_ptr() as usize)
}

fn take(model: &mut Vec<(i64, usize)>, e: (i64, usize)) -> Result<(), String> {
    let at = model.iter().position(|&m| m == e);
    model.remove(at.ok_or_else(|| format!("{e:?} is not in the model"))?);
    Ok(())
}

impl Pair {
    fn add(&mut self, when: i64, defer: bool) -> Result<(), String> {
        let Some(t) = self.free.pop() else {
            return Ok(());
        };
        self.heap
            .reserve(&self.host, 1)
            .map_err(|e| e.to_string())?;
        if defer {
            self.heap.defer(when, t);
            self.deferred.push(key(Entry { when, t }));
        } else {
            self.heap.doaddtimer(when, t);
            self.sorted.push(key(Entry { when, t }));
            self.check_last(t)?;
        }
        Ok(())
    }

    /// This one was put in last.
    fn check_last(&self, t: TimerRef) -> Result<(), String> {
        match self.heap.last_added() {
            Some((_, last)) if last == t => Ok(()),
            other => Err(format!("{other:?} is said to be the last, not {t:?}")),
        }
    }

    /// If nothing may lag, any position can be looked at; debug builds see to that.
    fn check_lag(&self, lag: bool) {
        if !lag && self.heap.len() > 0 {
            let _ = self.heap.get(self.heap.len() - 1);
        }
    }

    fn replace_last(&mut self, when: i64) -> Result<(), String> {
        self.heap.settle();
        let (Some((i, _)), Some(t)) = (self.heap.last_added(), self.free.pop()) else {
            return Ok(());
        };
        self.forget(i)?;
        self.heap.replace(i, when, t);
        self.sorted.push(key(Entry { when, t }));
        self.check_last(t)
    }

    /// Takes position i out of the model, as it is about to be taken off the heap.
    fn forget(&mut self, i: usize) -> Result<(), String> {
        let e = self.heap.get(i);
        self.free.push(e.t);
        let from = if i < self.heap.len() {
            &mut self.sorted
        } else {
            &mut self.deferred
        };
        take(from, key(e))
    }

    fn pop_last(&mut self) -> Result<(), String> {
        match self.heap.pop_last() {
            Some(e) => {
                self.free.push(e.t);
                let deferred = !self.deferred.is_empty();
                let from = if deferred {
                    &mut self.deferred
                } else {
                    &mut self.sorted
                };
                take(from, key(e))?;
            }
            None if self.sorted.is_empty() && self.deferred.is_empty() => {}
            None => return Err("pop_last found nothing".into()),
        }
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Result<(), String> {
        let len = self.heap.len();
        match op {
            Op::Add(when) => self.add(*when, false)?,
            Op::Replace(when) => self.replace_last(*when)?,
            Op::AddMany(when, n) => {
                for i in 0..*n {
                    // Some before and some after the first, some equal to it.
                    let when = 1 + when.saturating_add(7 * i as i64) % 61;
                    self.add(when, false)?;
                }
            }
            Op::Defer(when) => self.add(*when, true)?,
            Op::Undefer(n) => {
                let n = (*n).min(self.heap.deferred());
                for i in len..len + n {
                    let e = key(self.heap.get_any(i));
                    take(&mut self.deferred, e)?;
                    self.sorted.push(e);
                }
                self.heap.undefer(n);
            }
            Op::Dodeltimer0(lag) if len > 0 => {
                self.forget(0)?;
                self.heap.dodeltimer0(*lag);
                self.check_lag(*lag);
            }
            Op::Dodeltimer(i) if len > 0 => {
                self.heap.settle();
                self.forget(i % len)?;
                self.heap.dodeltimer(i % len);
            }
            Op::Rekey0(by, lag) if len > 0 => {
                let e = self.heap.get(0);
                let when = e.when.saturating_add(*by);
                take(&mut self.sorted, key(e))?;
                self.sorted.push(key(Entry { when, t: e.t }));
                self.heap.rekey0(when, *lag);
                self.check_lag(*lag);
            }
            Op::Rekey(i, when) if len > 0 => {
                self.heap.settle();
                let e = self.heap.get(i % len);
                take(&mut self.sorted, key(e))?;
                self.sorted.push(key(Entry {
                    when: *when,
                    t: e.t,
                }));
                self.heap.rekey(i % len, *when);
            }
            Op::Remove(i) if self.heap.total() > 0 => {
                let i = i % self.heap.total();
                self.heap.settle();
                self.forget(i)?;
                self.heap.remove(i);
            }
            Op::PopLast(n) => {
                for _ in 0..*n {
                    self.pop_last()?;
                }
            }
            Op::Shrink => while self.heap.shrink(&self.host) {},
            Op::Release if self.heap.total() == 0 => {
                self.heap.release(&self.host);
                if self.host.bytes() != 0 {
                    return Err("the array was not given back".into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let h = &self.heap;
        // What lags may be later than its children.
        if h.lagging() == 0
            && let Some(i) = h.first_disorder()
        {
            return Err(format!("position {i} is smaller than its parent"));
        }
        self.sorted.sort_unstable();
        self.deferred.sort_unstable();
        let entries = |from: usize, to: usize| {
            let mut all: Vec<_> = (from..to).map(|i| key(h.get_any(i))).collect();
            all.sort_unstable();
            all
        };
        if entries(0, h.len()) != self.sorted {
            return Err("the heap's entries are not the model's".into());
        }
        if entries(h.len(), h.total()) != self.deferred {
            return Err("the deferred entries are not the model's".into());
        }
        if h.deferred() != self.deferred.len() {
            return Err("deferred is wrong".into());
        }
        if h.len() > 0 && h.get(0).when != self.sorted[0].0 {
            return Err("the first entry is not the minimum".into());
        }
        // Never later than the first key. Earlier only if a deferred entry was taken off
        // while others stay.
        let first = self.sorted.first().map(|e| e.0);
        let deferred = self.deferred.first().map(|e| e.0);
        let want = first.into_iter().chain(deferred).min().unwrap_or(0);
        let got = h.min_when();
        let early = !self.deferred.is_empty() && got > 0 && got < want;
        if got != want && !early {
            return Err(format!("min_when is {got}, the minimum {want}"));
        }
        Ok(())
    }
}

fn play(timers: &[TimerRef], ops: &[Op]) -> Result<(), String> {
    let mut pair = Pair {
        host: Host::new(Hooks::default()),
        heap: Heap::new(),
        sorted: Vec::new(),
        deferred: Vec::new(),
        free: timers.to_vec(),
    };
    let mut result = Ok(());
    for (i, op) in ops.iter().enumerate() {
        result = pair.apply(op).and_then(|()| pair.check());
        if let Err(why) = result {
            result = Err(format!("operation {i}, {op:?}: {why}"));
            break;
        }
    }
    if result.is_ok() {
        result = drain(&mut pair);
    }
    pair.heap.release(&pair.host);
    result
}

/// Takes all off: they come in order.
fn drain(pair: &mut Pair) -> Result<(), String> {
    pair.apply(&Op::Undefer(usize::MAX))?;
    let mut last = 0;
    while pair.heap.len() > 0 {
        let when = pair.heap.get(0).when;
        if when < last {
            return Err(format!("{when} came after {last}"));
        }
        last = when;
        pair.apply(&Op::Dodeltimer0(true))?;
    }
    pair.check()
}

#[test]
fn heap_does_as_a_sorted_vec() {
    let env = std::env::var("GOTIMER_SEED").ok();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = env
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| clock.map_or(1, |d| d.as_nanos() as u64));
    let config = Config {
        cases: 500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let timers = timers();
    let result = TestRunner::new(config).run(&vec(op(), 1..150), |ops| {
        play(&timers, &ops).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, ops)) => {
            panic!("replay: GOTIMER_SEED={seed}\n{ops:?}\n{}", why.message())
        }
        Err(e) => panic!("replay: GOTIMER_SEED={seed}\n{e}"),
    }
}

/// A heap of entries that all stand for one timer, which nobody looks at.
struct Large {
    host: Host,
    heap: Heap,
    t: TimerRef,
}

const ENTRY: u64 = 16;
const PAGES: u64 = 64 << 10;

impl Large {
    fn new() -> Self {
        Large {
            host: Host::new(Hooks::default()),
            heap: Heap::new(),
            t: timers()[0],
        }
    }

    fn reserve(&mut self, n: usize) -> bool {
        self.heap.reserve(&self.host, n).is_ok()
    }

    /// Adds so many, all over the place; says how often the array grew.
    fn add(&mut self, n: usize) -> usize {
        let mut grown = 0;
        for i in 0..n {
            let (bytes, room) = (self.host.bytes(), self.heap.has_room());
            assert!(self.reserve(1));
            assert_eq!(room, self.host.bytes() == bytes);
            grown += usize::from(!room);
            self.heap
                .doaddtimer((i as i64 * 7919) % 100_003 + 1, self.t);
        }
        grown
    }

    /// Takes entries off until so many are left.
    fn leave(&mut self, n: usize) {
        while self.heap.len() > n {
            self.heap.pop_last();
        }
    }

    /// Takes all off; they come in order.
    fn drain(mut self) {
        let mut last = 0;
        while self.heap.len() > 0 {
            assert!(self.heap.get(0).when >= last);
            last = self.heap.get(0).when;
            self.heap.dodeltimer0(true);
        }
        self.heap.release(&self.host);
        assert_eq!(self.host.bytes(), 0);
    }
}

/// How much room is made: small heaps have small arrays, large ones whole pages of a region.
#[test]
fn heap_reserves_what_is_needed() {
    for (n, bytes) in [
        (1, 32 * ENTRY),
        (29, 32 * ENTRY),
        (30, 36 * ENTRY),
        (2047, 2052 * ENTRY),
        (2048, PAGES),
        (4093, PAGES),
        (4094, 2 * PAGES),
        (8189, 2 * PAGES),
    ] {
        let mut l = Large::new();
        assert!(l.reserve(0));
        assert_eq!(l.host.bytes(), 0);
        assert!(l.reserve(n));
        assert_eq!(l.host.bytes(), bytes, "for {n}");
        assert_eq!(l.add(n), 0, "for {n}");
        l.drain();
    }
    let mut l = Large::new();
    l.add(3000);
    assert_eq!(l.host.bytes(), PAGES);
    assert!(l.reserve(8189 - 3000), "to the last slot");
    assert_eq!(l.host.bytes(), 2 * PAGES);
    assert_eq!(l.add(8189 - 3000), 0);
    l.drain();
}

/// It grows by a quarter or more, and by not much more.
#[test]
fn heap_grows_seldom() {
    const N: usize = 150_000;
    let mut l = Large::new();
    assert!(l.add(2000) <= 7, "small ones double");
    assert!(l.host.bytes() < PAGES);
    assert!(l.add(N) <= 20);
    let needed = (N as u64 + 2000) * ENTRY;
    assert!(l.host.bytes() >= needed && l.host.bytes() < needed * 5 / 4 + 2 * PAGES);
    assert_eq!(l.host.bytes() % PAGES, 0);
    l.heap.release(&l.host);
    assert_eq!(l.host.bytes(), 0);
}

/// More than there can be is refused, and changes nothing.
#[test]
fn heap_refuses_what_cannot_be() {
    for entries in [0, 10, 5000] {
        let mut l = Large::new();
        l.add(entries);
        let bytes = l.host.bytes();
        assert!(!l.reserve(isize::MAX as usize / 32));
        assert_eq!((l.host.bytes(), l.heap.len()), (bytes, entries));
        if entries == 5000 {
            assert!(!l.reserve((8 << 30) / 16), "its region has an end");
        }
        l.add(entries);
        l.drain();
    }
}

/// Memory goes back when not a quarter of it is used, 256 KiB in one go.
#[test]
fn heap_shrinks_bit_by_bit() {
    // A small one.
    let mut l = Large::new();
    l.add(1000);
    let slots = l.host.bytes() / ENTRY;
    let enough = slots as usize / 4 - 29;
    l.leave(enough);
    assert!(!l.heap.shrink(&l.host));
    assert_eq!(l.host.bytes(), slots * ENTRY);
    l.leave(enough - 1);
    assert!(!l.heap.shrink(&l.host));
    let slots = (2 * (enough as u64 - 1) + 3).next_multiple_of(4);
    assert_eq!(l.host.bytes(), slots * ENTRY);
    l.drain();

    // A large one.
    let mut l = Large::new();
    l.add(100_000);
    let mut bytes = l.host.bytes();
    let enough = (bytes / ENTRY) as usize / 4 - 29;
    l.leave(enough);
    assert!(!l.heap.shrink(&l.host));
    assert_eq!(l.host.bytes(), bytes);
    l.leave(10_000);
    while l.heap.shrink(&l.host) {
        bytes -= 256 << 10;
        assert_eq!(l.host.bytes(), bytes);
    }
    let enough = 4 * (10_000 + 29) * ENTRY;
    assert!(bytes <= enough && bytes + (256 << 10) > enough);
    l.leave(3000);
    while l.heap.shrink(&l.host) {
        bytes -= 256 << 10;
        assert_eq!(l.host.bytes(), bytes);
    }
    assert!(bytes > 2 * PAGES);
    assert_eq!(
        l.host.bytes(),
        2 * PAGES,
        "room for 6000 after a smaller step"
    );
    // It can grow again.
    l.add(30_000);
    l.leave(1);
    while l.heap.shrink(&l.host) {}
    assert_eq!(l.host.bytes(), PAGES);
    l.leave(0);
    assert!(!l.heap.shrink(&l.host));
    assert_eq!(l.host.bytes(), 0);
    l.add(10);
    l.drain();
}

/// Who says where something crosses a line has looked at what moves.
#[test]
fn heap_knows_what_crosses_a_line() {
    let all = timers();
    let host = Host::new(Hooks::default());
    // Equal keys too.
    let build = |n: usize| {
        let mut heap = Heap::new();
        for (i, &t) in all[..n].iter().enumerate() {
            assert!(heap.reserve(&host, 1).is_ok());
            heap.doaddtimer((i as i64 * 7919) % 37 + 1, t);
        }
        heap
    };
    // Old positions of what stands before the line now and did not before.
    let crossed = |was: &[TimerRef], heap: &Heap, line: usize| -> Vec<usize> {
        let now = (0..line.min(heap.len())).map(|i| heap.get(i).t);
        let old = now.filter_map(|t| was.iter().position(|&w| w == t));
        old.filter(|&at| at >= line).collect()
    };
    let mut found = 0;
    for n in [1, 2, 5, 6, 7, 8, 21, 22, 23, 40, 62] {
        for line in 0..n + 2 {
            for i in 0..line.min(n) {
                let mut heap = build(n);
                let was: Vec<_> = (0..n).map(|i| heap.get(i).t).collect();
                let said: Vec<_> = heap.crossing(i, line).into_iter().collect();
                heap.rekey(i, i64::MAX - 1);
                let mut later = crossed(&was, &heap, line);
                later.retain(|&at| at != n - 1); // the last one does not count
                assert_eq!(said, later, "{i} of {n} gets a later key; line {line}");
                found += later.len();
                heap.release(&host);

                let mut heap = build(n);
                heap.dodeltimer(i);
                let mut gone = crossed(&was, &heap, line);
                gone.retain(|&at| at != n - 1);
                let known = gone.iter().all(|at| said.contains(at));
                assert!(
                    known,
                    "{i} of {n} is taken off, line {line}: {gone:?} crossed"
                );
                heap.release(&host);
            }
        }
    }
    assert!(found > 500, "{found}");
}
