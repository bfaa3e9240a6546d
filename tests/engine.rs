//! Random sequences of operations through the C functions, on one thread with the virtual
//! clock, against a naive model (engine/world.rs): 1 to 3 Ps, some 40 timers, callbacks
//! that do operations themselves. What a callback does is decided by its seq.
//!
//! A failure prints the shortest sequence that was found, and the seed: GOTIMER_SEED=N
//! repeats the run, GOTIMER_CASES=N makes it longer.

#[path = "engine/world.rs"]
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::time::{SystemTime, UNIX_EPOCH};
use world::World;

/// Which timer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sel {
    /// The one that is being called.
    Me,
    /// One of all that ever were, dead ones included.
    N(u8),
}

/// Which P, of those that live.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PSel {
    /// The one whose timer is being called.
    Mine,
    N(u8),
}

/// A time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// From the clock's time on; it may be in the past.
    In(i64),
    /// As it stands; 0 and below are refused.
    At(i64),
}

#[derive(Clone, Debug)]
pub(crate) enum How {
    Add,
    Reset,
    /// With another function, with a fresh argument, and what the callback does.
    Mod {
        f: bool,
        fresh: bool,
        act: Vec<Op>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stop {
    Del,
    Sync,
    Shutdown,
    Detach,
    Free,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    New {
        drop: bool,
    },
    Arm {
        t: Sel,
        how: How,
        when: When,
        period: i64,
        on: Option<PSel>,
        by_id: bool,
    },
    Stop {
        t: Sel,
        how: Stop,
        by_id: bool,
    },
    /// `now` is None: 0, which means the clock.
    Check {
        p: PSel,
        now: Option<When>,
    },
    RunTimer {
        p: PSel,
        now: Option<When>,
    },
    Others {
        me: Option<PSel>,
        now: Option<When>,
    },
    Adjust {
        p: PSel,
        now: Option<When>,
        force: bool,
    },
    Clean {
        p: PSel,
    },
    Trim {
        p: PSel,
    },
    Adopt {
        to: PSel,
        from: PSel,
    },
    PNew,
    PFree {
        p: PSel,
    },
    Bind {
        p: PSel,
    },
    Unbind,
    SetTime(i64),
}

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
    ]
    .boxed()
}

/// What both a program and a callback do. `act` is what the callbacks of gt_modtimer do.
fn op_with(
    t: BoxedStrategy<Sel>,
    p: BoxedStrategy<PSel>,
    act: BoxedStrategy<Vec<Op>>,
) -> BoxedStrategy<Op> {
    let how = prop_oneof![
        3 => Just(How::Add),
        3 => Just(How::Reset),
        6 => (any::<bool>(), any::<bool>(), act)
            .prop_map(|(f, fresh, act)| How::Mod { f, fresh, act }),
    ];
    let on = proptest::option::weighted(0.3, p.clone());
    let id = proptest::bool::weighted(0.3);
    prop_oneof![
        8 => any::<bool>().prop_map(|drop| Op::New { drop }),
        40 => (t.clone(), how, when(), period(), on, id).prop_map(
            |(t, how, when, period, on, by_id)| Op::Arm { t, how, when, period, on, by_id }
        ),
        14 => (t, stop(), id).prop_map(|(t, how, by_id)| Op::Stop { t, how, by_id }),
        2 => (p.clone(), now()).prop_map(|(p, now)| Op::Check { p, now }),
        1 => (p.clone(), now()).prop_map(|(p, now)| Op::RunTimer { p, now }),
        1 => (proptest::option::of(p.clone()), now()).prop_map(|(me, now)| Op::Others { me, now }),
        1 => (p.clone(), now(), any::<bool>())
            .prop_map(|(p, now, force)| Op::Adjust { p, now, force }),
        1 => p.clone().prop_map(|p| Op::Clean { p }),
        1 => (p.clone(), p.clone()).prop_map(|(to, from)| Op::Adopt { to, from }),
        1 => Just(Op::PNew),
        1 => p.clone().prop_map(|p| Op::PFree { p }),
        1 => p.prop_map(|p| Op::Bind { p }),
        1 => Just(Op::Unbind),
    ]
    .boxed()
}

/// What a callback does, most often to its own timer and P.
fn act() -> BoxedStrategy<Vec<Op>> {
    let t = prop_oneof![3 => Just(Sel::Me), 1 => sel()].boxed();
    let p = prop_oneof![1 => Just(PSel::Mine), 1 => psel()].boxed();
    vec(op_with(t, p, Just(Vec::new()).boxed()), 0..3).boxed()
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        30 => op_with(sel(), psel(), act()),
        6 => (psel(), now()).prop_map(|(p, now)| Op::Check { p, now }),
        2 => (psel(), now()).prop_map(|(p, now)| Op::RunTimer { p, now }),
        2 => (proptest::option::of(psel()), now()).prop_map(|(me, now)| Op::Others { me, now }),
        1 => psel().prop_map(|p| Op::Trim { p }),
        6 => (-2i64..60).prop_map(Op::SetTime),
    ]
    .boxed()
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn engine_does_as_the_model() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = from_env("GOTIMER_SEED").unwrap_or_else(|| clock.map_or(1, |d| d.as_nanos() as u64));
    let cases = from_env("GOTIMER_CASES").map_or(300, |n| n as u32);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let strategy = (1usize..4, 1usize..16, vec(op(), 1..120));
    let result = TestRunner::new(config).run(&strategy, |(ps, timers, ops)| {
        World::run(ps, timers, &ops, seed).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (ps, timers, ops))) => panic!(
            "replay: GOTIMER_SEED={seed}\n{ps} Ps, {timers} timers, then {ops:#?}\n{}",
            why.message()
        ),
        Err(e) => panic!("replay: GOTIMER_SEED={seed}\n{e}"),
    }
}
