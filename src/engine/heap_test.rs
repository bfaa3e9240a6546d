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
    Dodeltimer0,
    Dodeltimer(usize),
    /// Gives the minimum a key that is later by this much.
    Rekey0(i64),
    Rekey(usize, i64),
    PopLast,
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
        4 => Just(Op::Dodeltimer0),
        6 => (0usize..MOST).prop_map(Op::Dodeltimer),
        4 => (0i64..60).prop_map(Op::Rekey0),
        4 => (0usize..MOST, when()).prop_map(|(i, w)| Op::Rekey(i, w)),
        3 => Just(Op::PopLast),
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
        }
        Ok(())
    }

    /// Takes position i out of the model, as it is about to be taken off the heap.
    fn forget(&mut self, i: usize) -> Result<(), String> {
        let e = self.heap.get(i);
        self.free.push(e.t);
        take(&mut self.sorted, key(e))
    }

    fn apply(&mut self, op: &Op) -> Result<(), String> {
        let len = self.heap.len();
        match op {
            Op::Add(when) => self.add(*when, false)?,
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
                    let e = key(self.heap.get(i));
                    take(&mut self.deferred, e)?;
                    self.sorted.push(e);
                }
                self.heap.undefer(n);
            }
            Op::Dodeltimer0 if len > 0 => {
                self.forget(0)?;
                self.heap.dodeltimer0();
            }
            Op::Dodeltimer(i) if len > 0 => {
                self.forget(i % len)?;
                self.heap.dodeltimer(i % len);
            }
            Op::Rekey0(by) if len > 0 => {
                let e = self.heap.get(0);
                let when = e.when.saturating_add(*by);
                take(&mut self.sorted, key(e))?;
                self.sorted.push(key(Entry { when, t: e.t }));
                self.heap.rekey0(when);
            }
            Op::Rekey(i, when) if len > 0 => {
                let e = self.heap.get(i % len);
                take(&mut self.sorted, key(e))?;
                self.sorted.push(key(Entry {
                    when: *when,
                    t: e.t,
                }));
                self.heap.rekey(i % len, *when);
            }
            Op::PopLast => match self.heap.pop_last() {
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
            },
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
        if let Some(i) = h.first_disorder() {
            return Err(format!("position {i} is smaller than its parent"));
        }
        self.sorted.sort_unstable();
        self.deferred.sort_unstable();
        let entries = |from: usize, to: usize| {
            let mut all: Vec<_> = (from..to).map(|i| key(h.get(i))).collect();
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
        pair.apply(&Op::Dodeltimer0)?;
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
