//! Random sequences of operations through the C functions, on one thread with the virtual
//! clock, against a naive model (engine/world.rs): up to 3 Ps, timers with functions and with
//! channels, callbacks that do operations themselves, allocations that fail. What a callback
//! does is decided by its seq.
//!
//! Every C function is called but these (LEFT_OUT; a test holds the list against the header):
//!
//! | left out | why |
//! |---|---|
//! | gt_runtime_*, and package time without a sched: gt_after_func, gt_new_timer, gt_new_ticker, gt_after, gt_tick, gt_sleep | they run on the threads of the built-in runtime; their twins for a sched are here |
//! | gt_netpoll_* | a wait is for another thread to end |
//! | gt_after_fork | it belongs in a child process: faults/forks.c |
//! | gt_strerror, gt_version, gt_version_string | they have no state |
//!
//! Calls that block are made where they return at once, and in a bubble (gt_synctest_join),
//! where the thread that blocks moves the clock itself. Clocks but the virtual one, and the
//! hooks for green threads, are left to the C tests.
//!
//! A failure prints the shortest sequence that was found, and the seed: GOTIMER_SEED=N
//! repeats the run, GOTIMER_CASES=N makes it longer, GOTIMER_SHRINK=0 takes the first sequence
//! that fails instead of looking for the shortest. That bugs are found is shown by `make
//! fuzz-planted`, which plants some.

#[path = "engine/world.rs"]
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use world::World;
use world::ops::*;

fn sel() -> BoxedStrategy<Sel> {
    any::<u8>().prop_map(Sel::N).boxed()
}

fn psel() -> BoxedStrategy<PSel> {
    (0u8..3).prop_map(PSel::N).boxed()
}

fn when() -> BoxedStrategy<When> {
    prop_oneof![
        30 => (0i64..120).prop_map(When::In),
        6 => (-40i64..1).prop_map(When::In),
        2 => Just(When::At(i64::MAX)),
        1 => Just(When::At(i64::MAX - 1)),
        1 => Just(When::At(1)),
        1 => (-1i64..1).prop_map(When::At),
    ]
    .boxed()
}

fn period() -> BoxedStrategy<i64> {
    prop_oneof![
        20 => Just(0i64),
        8 => 1i64..40,
        1 => Just(i64::MAX),
        1 => Just(i64::MAX / 3),
        1 => Just(-1i64),
    ]
    .boxed()
}

fn now() -> BoxedStrategy<Option<When>> {
    prop_oneof![
        12 => Just(None),
        4 => (-30i64..60).prop_map(|d| Some(When::In(d))),
        1 => Just(Some(When::At(-1))),
        1 => Just(Some(When::At(i64::MAX))),
    ]
    .boxed()
}

fn stop() -> BoxedStrategy<Stop> {
    prop_oneof![
        8 => Just(Stop::Del),
        2 => Just(Stop::Sync),
        1 => Just(Stop::Shutdown),
        2 => Just(Stop::Detach),
        3 => Just(Stop::Free),
        3 => Just(Stop::Any),
    ]
    .boxed()
}

/// How long; also with an overflow, and not at all.
fn duration() -> BoxedStrategy<i64> {
    prop_oneof![
        20 => 1i64..100,
        3 => -5i64..1,
        1 => Just(i64::MAX),
    ]
    .boxed()
}

/// What both a program and a callback do. `act` is what the callbacks of gt_modtimer do.
fn op_with(
    t: BoxedStrategy<Sel>,
    p: BoxedStrategy<PSel>,
    act: BoxedStrategy<Vec<Op>>,
) -> BoxedStrategy<Op> {
    let rarely = || proptest::bool::weighted(0.1);
    let how = prop_oneof![
        3 => Just(How::Add),
        3 => Just(How::Reset),
        4 => (rarely(), rarely(), rarely()).prop_map(|(other_f, fresh, other_period)| {
            How::Again { other_f, fresh, other_period }
        }),
        6 => (any::<bool>(), any::<bool>(), act)
            .prop_map(|(f, fresh, act)| How::Mod { f, fresh, act }),
    ];
    let on = proptest::option::weighted(0.3, p.clone());
    let id = proptest::bool::weighted(0.3);
    let timers = prop_oneof![
        8 => any::<bool>().prop_map(|drop| Op::New { drop }),
        2 => (duration(), any::<bool>()).prop_map(|(d, drop)| Op::AfterFunc { d, drop }),
        8 => (duration(), any::<bool>()).prop_map(|(d, ticker)| Op::NewChan { d, ticker }),
        36 => (t.clone(), how, when(), period(), on, id).prop_map(
            |(t, how, when, period, on, by_id)| Op::Arm { t, how, when, period, on, by_id }
        ),
        14 => (t.clone(), stop(), id)
            .prop_map(|(t, how, by_id)| Op::Stop { t, how, by_id }),
        8 => (t.clone(), duration(), id)
            .prop_map(|(t, d, by_id)| Op::Reset { t, d, by_id }),
        8 => (t.clone(), id, any::<bool>())
            .prop_map(|(t, by_id, block)| Op::Recv { t, by_id, block }),
        8 => t.clone().prop_map(|t| Op::TimerFd { t }),
        2 => (t, -1i64..40).prop_map(|(t, ns)| Op::Slack { t, ns }),
    ];
    let ps = prop_oneof![
        2 => (p.clone(), now()).prop_map(|(p, now)| Op::Check { p, now }),
        1 => (p.clone(), now()).prop_map(|(p, now)| Op::RunTimer { p, now }),
        1 => (proptest::option::of(p.clone()), now()).prop_map(|(me, now)| Op::Others { me, now }),
        1 => (p.clone(), now(), any::<bool>())
            .prop_map(|(p, now, force)| Op::Adjust { p, now, force }),
        1 => p.clone().prop_map(|p| Op::Clean { p }),
        1 => p.clone().prop_map(|p| Op::Trim { p }),
        1 => (p.clone(), p.clone()).prop_map(|(to, from)| Op::Adopt { to, from }),
        1 => Just(Op::PNew),
        1 => p.clone().prop_map(|p| Op::PFree { p }),
        1 => p.clone().prop_map(|p| Op::PFd { p }),
        1 => p.clone().prop_map(|p| Op::Bind { p }),
        1 => Just(Op::Unbind),
        1 => p.clone().prop_map(|p| Op::Wakeup { p }),
        1 => p.prop_map(|p| Op::Nap { p }),
        1 => any::<u8>().prop_map(Op::Wrong),
        2 => (1u8..6).prop_map(Op::FailAlloc),
        3 => (1u8..4).prop_map(Op::StopPass),
        1 => Just(Op::Join),
        1 => (0i64..30).prop_map(Op::SetTime),
        1 => (0i64..30).prop_map(Op::Advance),
    ];
    prop_oneof![
        78 => timers,
        14 => ps,
    ]
    .boxed()
}

/// What a callback does, most often to its own timer and P.
fn act() -> BoxedStrategy<Vec<Op>> {
    let t = prop_oneof![3 => Just(Sel::Me), 1 => sel()].boxed();
    let p = prop_oneof![1 => Just(PSel::Mine), 1 => psel()].boxed();
    let op = op_with(t, p, Just(Vec::new()).boxed());
    vec(prop_oneof![100 => op, 1 => Just(Op::Close)], 0..3).boxed()
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        30 => op_with(sel(), psel(), act()),
        6 => (psel(), now()).prop_map(|(p, now)| Op::Check { p, now }),
        2 => (psel(), now()).prop_map(|(p, now)| Op::RunTimer { p, now }),
        2 => (proptest::option::of(psel()), now()).prop_map(|(me, now)| Op::Others { me, now }),
        1 => psel().prop_map(|p| Op::Trim { p }),
        6 => (-2i64..60).prop_map(Op::SetTime),
        2 => (-2i64..60).prop_map(Op::Advance),
        1 => (-2i64..60).prop_map(Op::RunUntilIdle),
        1 => (-2i64..60).prop_map(Op::Sleep),
        1 => prop_oneof![Just(Op::Join), Just(Op::Leave), Just(Op::BubbleWait)],
    ]
    .boxed()
}

fn setup() -> BoxedStrategy<Setup> {
    let slack = prop_oneof![4 => Just(0i64), 1 => 1i64..20];
    (1usize..4, 1usize..16, any::<bool>(), any::<bool>(), slack)
        .prop_map(|(ps, timers, verify, preempt, slack)| Setup {
            ps,
            timers,
            verify,
            preempt,
            slack,
        })
        .boxed()
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The number of a sequence, and what it is.
type Sequence = (u64, Option<(Setup, Vec<Op>)>);

/// A sequence that does not end is no failure that proptest would see: aborts after a minute
/// of the processor's time, or ten by the clock, and says which one it was.
struct Watch(Arc<Mutex<Sequence>>);

impl Watch {
    fn new() -> Self {
        let running = Arc::new(Mutex::new((0, None)));
        let seen = Arc::downgrade(&running);
        std::thread::spawn(move || {
            let (mut last, mut cpu, mut since) = (0, 0, Instant::now());
            while let Some(running) = seen.upgrade() {
                if let Ok(running) = running.lock() {
                    if running.0 != last {
                        (last, cpu, since) = (running.0, cpu_seconds(), Instant::now());
                    } else if cpu_seconds() > cpu + 60 || since.elapsed().as_secs() > 600 {
                        eprintln!("this sequence does not end: {:#?}", running.1);
                        std::process::abort();
                    }
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Watch(running)
    }

    fn begin(&self, setup: Setup, ops: &[Op]) {
        if let Ok(mut running) = self.0.lock() {
            *running = (running.0 + 1, Some((setup, ops.to_vec())));
        }
    }
}

/// The processor's time that this process has used.
fn cpu_seconds() -> u64 {
    // SAFETY: zero is a valid timespec, which lives through the call.
    unsafe {
        let mut ts: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut ts);
        ts.tv_sec as u64
    }
}

#[test]
fn engine_does_as_the_model() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = from_env("GOTIMER_SEED").unwrap_or_else(|| clock.map_or(1, |d| d.as_nanos() as u64));
    let cases = from_env("GOTIMER_CASES").map_or(300, |n| n as u32);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: from_env("GOTIMER_SHRINK").map_or(20_000, |n| n as u32),
        max_shrink_time: 60_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let strategy = (setup(), vec(op(), 1..120));
    let replay = format!("GOTIMER_SEED={seed}");
    let watch = Watch::new();
    let result = TestRunner::new(config).run(&strategy, |(setup, ops)| {
        watch.begin(setup, &ops);
        World::run(setup, &ops, &replay).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (setup, ops))) => panic!(
            "replay: {replay}\n{setup:?}, then {ops:#?}\n{}",
            why.message()
        ),
        Err(e) => panic!("replay: {replay}\n{e}"),
    }
}

/// Not called here; why, is said at the top.
const LEFT_OUT: &[&str] = &[
    "gt_after",
    "gt_after_fork",
    "gt_after_func",
    "gt_netpoll_close",
    "gt_netpoll_open",
    "gt_netpoll_set_deadline",
    "gt_netpoll_wait",
    "gt_new_ticker",
    "gt_new_timer",
    "gt_runtime_sched",
    "gt_runtime_start",
    "gt_runtime_stop",
    "gt_runtime_workers",
    "gt_sleep",
    "gt_strerror",
    "gt_tick",
    "gt_version",
    "gt_version_string",
];

/// The names in a text that `(` follows.
fn called(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.match_indices("gt_").filter_map(|(at, _)| {
        let end = text[at..].find(|c| !word(c))? + at;
        let whole = !text[..at].ends_with(word) && text[end..].starts_with('(');
        whole.then_some(&text[at..end])
    });
    names.collect()
}

#[test]
fn every_function_is_called_or_left_out() {
    let calls = concat!(
        include_str!("engine/chans.rs"),
        include_str!("engine/check.rs"),
        include_str!("engine/hooks.rs"),
        include_str!("engine/passes.rs"),
        include_str!("engine/ps.rs"),
        include_str!("engine/timers.rs"),
        include_str!("engine/world.rs"),
        include_str!("engine/wrong.rs"),
    );
    let functions = called(include_str!("../include/gotimer.h"));
    let mut covered = called(calls);
    assert!(functions.len() > 90, "{} functions", functions.len());
    for f in LEFT_OUT {
        assert!(functions.contains(f), "{f} is left out, but there is none");
        assert!(covered.insert(f), "{f} is left out, and called");
    }
    let missing: Vec<_> = functions.difference(&covered).collect();
    assert!(
        missing.is_empty(),
        "neither called nor left out: {missing:?}"
    );
}
