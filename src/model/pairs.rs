//! Each operation against each other, from each of a few beginnings, made from a table: all
//! interleavings with at most two preemptions, and the common end check.

use super::explore;
use super::ops::{Op, Out, end};
use super::world::Mini;

/// How a model begins: what has been done to its two timers.
pub(super) type Begin = &'static [Op];
pub(super) const REMOVED: Begin = &[];
pub(super) const ARMED: Begin = &[Op::Mod(0, 100), Op::Ask(0)];
pub(super) const EARLIER: Begin = &[Op::Mod(0, 100), Op::Ask(0), Op::Mod(0, 40)];
pub(super) const LATER: Begin = &[Op::Mod(0, 40), Op::Ask(0), Op::Mod(0, 100)];
pub(super) const DEAD: Begin = &[Op::Mod(0, 100), Op::Ask(0), Op::Del(0)];
pub(super) const TWO: Begin = &[Op::Mod(1, 60), Op::Mod(0, 100), Op::Ask(0), Op::Mod(1, 30)];
/// Timer 1 is freed, and its entry still there: the next insertion takes its place.
pub(super) const FREED: Begin = &[Op::Mod(1, 60), Op::Ask(0), Op::Free(1)];
/// Timer 0 is on the other P.
pub(super) const APART: Begin = &[
    Op::Mod(0, 100),
    Op::Adopt(1),
    Op::Mod(1, 60),
    Op::Ask(0),
    Op::Ask(1),
];
/// The runtime's workers wait for timer 1; timer 0 is later.
pub(super) const WAITED: Begin = &[Op::Mod(1, 50), Op::Mod(0, 70), Op::Poll];
/// The same with timer 1 alone.
pub(super) const WAITED_ONE: Begin = &[Op::Mod(1, 50), Op::Poll];
/// Timer 1 is due, and the timerfd has gone off: the worker whom it woke is at that still.
pub(super) const WOKEN: Begin = &[Op::Mod(1, 50), Op::Mod(0, 70), Op::Poll, Op::GoneOff(55)];
pub(super) const WOKEN_ONE: Begin = &[Op::Mod(1, 50), Op::Poll, Op::GoneOff(55)];

const ALL: &[Begin] = &[REMOVED, ARMED, EARLIER, LATER, DEAD, TWO];

/// May these run side by side? Who frees a timer must be the last one to use its handle.
fn allowed(ops: &[Op]) -> bool {
    let by_handle = ops.iter().filter(|o| o.by_handle()).count();
    let frees = ops.iter().filter(|o| o.frees()).count();
    match ops.iter().any(|o| matches!(o, Op::FreeFast(_))) {
        true => by_handle == 1 && frees == 1,
        false => by_handle == 0 || frees == 0,
    }
}

/// Runs the operations side by side, from these beginnings.
pub(super) fn side_by_side(preemptions: usize, ops: &'static [Op], from: &[Begin]) {
    assert!(
        allowed(ops),
        "{ops:?}: somebody uses a handle that another one frees"
    );
    for &begin in from {
        // Two rely on SeqCst accesses: who modifies a timer, and sees that an earlier time is
        // noted already; and who stops one timer too many while somebody has the P's lock.
        let count = |f: fn(Op) -> bool| ops.iter().filter(|&&o| f(o)).count();
        let noted = begin == EARLIER || begin == TWO;
        let modifying = count(Op::modifies) + noted as usize;
        let modified = count(Op::scans) > 0 && modifying > 1;
        let swept = count(Op::stops) > 1;
        explore(ops.len(), preemptions, modified || swept, move || {
            // The fast path leaves arguments with a drop function to the other one.
            let fast = ops.iter().any(|o| matches!(o, Op::FreeFast(_)));
            let with_drop = !fast && ops.iter().any(|o| o.frees());
            let poller = ops.iter().any(|o| o.polls());
            let m = Mini::build(2, with_drop, poller);
            let mut outs: Vec<Out> = begin.iter().map(|o| o.run(&m)).collect();
            let threads: Vec<_> = ops
                .iter()
                .map(|&op| {
                    let m = m.clone();
                    loom::thread::spawn(move || op.run(&m))
                })
                .collect();
            outs.extend(threads.into_iter().map(|t| t.join().unwrap()));
            end(&m, outs, with_drop);
            m.finish();
        });
    }
}

pub(super) mod table {
    #![allow(non_upper_case_globals)]
    use super::Op;
    pub(in super::super) const add: Op = Op::Add(0, 20);
    pub(in super::super) const add_fast: Op = Op::AddFast(0, 20);
    pub(in super::super) const earlier: Op = Op::Mod(0, 10);
    pub(in super::super) const earlier_fast: Op = Op::ModFast(0, 10);
    pub(in super::super) const later: Op = Op::Mod(0, 150);
    pub(in super::super) const later_fast: Op = Op::ModFast(0, 150);
    pub(in super::super) const another: Op = Op::Mod(1, 15);
    pub(in super::super) const del: Op = Op::Del(0);
    pub(in super::super) const del_another: Op = Op::Del(1);
    pub(in super::super) const del_fast: Op = Op::DelFast(0);
    pub(in super::super) const del_sync: Op = Op::DelSync(0);
    pub(in super::super) const shutdown: Op = Op::Shutdown(0);
    pub(in super::super) const detach: Op = Op::Detach(0);
    pub(in super::super) const free: Op = Op::Free(0);
    pub(in super::super) const free_fast: Op = Op::FreeFast(0);
    pub(in super::super) const slack: Op = Op::Slack(0);
    pub(in super::super) const look: Op = Op::Look(0);
    pub(in super::super) const runtimer: Op = Op::Runtimer(0, 100);
    pub(in super::super) const check: Op = Op::Check(0, 100);
    pub(in super::super) const check_early: Op = Op::Check(0, 50);
    pub(in super::super) const adjust: Op = Op::Adjust(0);
    pub(in super::super) const clean: Op = Op::Clean(0);
    pub(in super::super) const trim: Op = Op::Trim(0);
    pub(in super::super) const adopt: Op = Op::Adopt(1);
    pub(in super::super) const free_p: Op = Op::FreeOther(1);
    pub(in super::super) const ask: Op = Op::Ask(0);
    pub(in super::super) const ask_all: Op = Op::AskAll;
    pub(in super::super) const poll: Op = Op::Poll;
    // Of the runtime's workers.
    pub(in super::super) const woken: Op = Op::Woken(55);
    pub(in super::super) const hand_over: Op = Op::HandOver(0, 55);
    pub(in super::super) const arm_in_call: Op = Op::ArmInCall(0, 45);
    // Of the other P.
    pub(in super::super) const runtimer_1: Op = Op::Runtimer(1, 100);
    pub(in super::super) const check_1: Op = Op::Check(1, 100);
    pub(in super::super) const adjust_1: Op = Op::Adjust(1);
    pub(in super::super) const clean_1: Op = Op::Clean(1);
    pub(in super::super) const trim_1: Op = Op::Trim(1);
    pub(in super::super) const ask_1: Op = Op::Ask(1);
    pub(in super::super) const adopt_back: Op = Op::Adopt(0);
}

/// A module for the first operation, and in it a test for it and each of the others.
macro_rules! with {
    ($first:ident from $from:expr, with $($second:ident)*) => {
        mod $first {
            use super::*;
            $(#[test]
            fn $second() {
                side_by_side(2, &[table::$first, table::$second], $from);
            })*
        }
    };
}

/// Each operation with itself and each that follows.
macro_rules! pairs {
    () => {};
    ($first:ident $($rest:ident)*) => {
        with!($first from ALL, with $first $($rest)*);
        pairs!($($rest)*);
    };
}

pairs! {
    add earlier earlier_fast later later_fast another del del_another del_fast del_sync shutdown slack look
    runtimer check check_early adjust clean trim adopt free_p ask ask_all poll
}

/// Those that end a handle: some with each other, and each with those that use none.
macro_rules! frees {
    ([$($first:ident: $($also:ident)*;)*] $by_id:tt) => {
        $(frees!(@with $first: $($also)* $by_id);)*
    };
    (@with $first:ident: $($also:ident)* [$($by_id:ident)*]) => {
        with!($first from ALL, with $($also)* $($by_id)*);
    };
}

frees! {
    [detach: detach free; free: free; free_fast: ;]
    [add earlier later another del del_another shutdown slack look
     runtimer check check_early adjust clean trim adopt free_p ask ask_all poll]
}

/// The short path of an insertion: into a heap with nothing in it, with an entry, or in the place
/// of one that is freed.
mod insertion {
    use super::*;
    const FROM: &[Begin] = &[REMOVED, DEAD, FREED];

    with! {
        add_fast from FROM, with
        add add_fast earlier earlier_fast another del del_fast shutdown look runtimer check adjust
        clean trim adopt free_p ask ask_all poll
    }
}

/// What the runtime's workers do, with all that changes or asks for a wake time.
mod workers {
    use super::*;

    macro_rules! workers {
        ($($first:ident from $armed:ident $not:ident, with $($also:ident)*;)*) => {
            $(workers!(@with $first $armed $not: $($also)*
                earlier later another del free runtimer check_early adjust clean trim adopt free_p
                ask ask_all poll);)*
        };
        (@with $first:ident $armed:ident $not:ident: $($second:ident)*) => {
            mod $first {
                use super::*;
                #[test]
                fn add() {
                    side_by_side(2, &[table::$first, table::add], $not);
                }
                $(#[test]
                fn $second() {
                    side_by_side(2, &[table::$first, table::$second], $armed);
                })*
            }
        };
    }

    const WAIT: &[Begin] = &[WAITED];
    const WAIT_ONE: &[Begin] = &[REMOVED, WAITED_ONE];
    // One of those two is the worker whom the timerfd has woken.
    const WAKE: &[Begin] = &[WAITED, WOKEN];
    const WAKE_ONE: &[Begin] = &[REMOVED, WAITED_ONE, WOKEN_ONE];

    workers! {
        woken from WAKE WAKE_ONE, with woken hand_over arm_in_call;
        hand_over from WAKE WAKE_ONE, with hand_over arm_in_call;
        arm_in_call from WAIT WAIT_ONE, with arm_in_call;
    }
}

/// What is done to the P that timers move to.
mod moves {
    use super::*;
    const MOVES: &[Begin] = &[ARMED, EARLIER, DEAD, APART];

    with!(runtimer_1 from MOVES, with adopt free_p);
    with!(check_1 from MOVES, with adopt free_p);
    with!(adjust_1 from MOVES, with adopt free_p);
    with!(clean_1 from MOVES, with adopt free_p);
    with!(trim_1 from MOVES, with adopt free_p);
    with!(ask_1 from MOVES, with adopt free_p);
}

/// Timer 0 is on the other P.
mod apart {
    use super::*;
    const FROM: &[Begin] = &[APART];

    with!(runtimer_1 from FROM, with earlier later del free);
    with!(check_1 from FROM, with earlier later del free);
    with!(adjust_1 from FROM, with earlier later del free);
    with!(clean_1 from FROM, with earlier later del free);
    with!(trim_1 from FROM, with earlier later del free);
    with!(ask_1 from FROM, with earlier later del free);
    with!(adopt from FROM, with earlier later another del free slack);
    with!(free_p from FROM, with earlier later another del free slack);
    with!(adopt_back from FROM, with earlier later another del free check check_1 adopt free_p ask_all);
}
