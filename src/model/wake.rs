//! adjusttimers against modtimer against who asks for the wake time: nobody sleeps past a
//! timer, nothing is forgotten.

use super::{Mini, model, model_bounded, model_fenced};
use crate::engine::{adjusttimers, check_timers, deltimer, trim};
use std::sync::Arc;

/// Somebody asks, and is told 100.
fn told_100() -> Arc<Mini> {
    let mini = Mini::new(2, false);
    mini.arm(0, 100).unwrap();
    assert_eq!(mini.p().wake_time(), 100);
    mini.forget_wakes();
    mini
}

/// Timer 0 was re-armed from 100 to 10, and the P's owner does not know yet.
fn modified_to_10() -> Arc<Mini> {
    let mini = told_100();
    mini.arm(0, 10).unwrap();
    mini
}

/// Timer 1 was re-armed from 100 to 5; timer 0 is at 100.
fn other_modified_to_5() -> Arc<Mini> {
    let mini = told_100();
    mini.arm(1, 100).unwrap();
    mini.arm(1, 5).unwrap();
    mini
}

/// Told 100, but by now the timer is at 200, and the owner knows.
fn told_100_then_later() -> Arc<Mini> {
    let mini = told_100();
    mini.arm(0, 200).unwrap();
    adjust(&mini);
    mini
}

fn arm_0_at_150(mini: &Mini) -> i64 {
    mini.arm(0, 150).unwrap() as i64
}

fn ask(mini: &Mini) -> i64 {
    mini.p().wake_time()
}

fn arm_0_at_10(mini: &Mini) -> i64 {
    mini.arm(0, 10).unwrap() as i64
}

fn adjust(mini: &Mini) -> i64 {
    let mut h = mini.p().lock(mini);
    adjusttimers(&mut h, 0, true);
    0
}

fn adjust_and_check_at_50(mini: &Mini) -> i64 {
    adjust(mini);
    check_timers(mini, mini.p(), 50).ran as i64
}

/// Who asks is told the earlier time, or is woken.
fn told_or_woken(mini: &Mini, told: i64) {
    let woken = mini.wakes() > 0;
    assert!(
        told != 0 && told <= 10 || woken,
        "sleeps until {told}, and nobody wakes him"
    );
}

#[test]
fn model_modtimer_against_a_wake_time_query() {
    model(told_100, [arm_0_at_10, ask], |mini, [_, told]| {
        told_or_woken(mini, told);
        assert_eq!(ask(mini), 10);
        assert_eq!(mini.check(), 1);
    });
}

#[test]
fn model_insert_against_a_wake_time_query() {
    model(
        told_100,
        [|mini| mini.arm(1, 10).unwrap() as i64, ask],
        |mini, [_, told]| {
            told_or_woken(mini, told);
            assert_eq!(ask(mini), 10);
            assert_eq!(mini.check(), 2);
        },
    );
}

/// Whoever asks while the heap is being scanned hears of the modified timer.
#[test]
fn model_adjust_against_a_wake_time_query() {
    model(modified_to_10, [adjust, ask], |mini, [_, told]| {
        assert_eq!(told, 10);
        assert_eq!(ask(mini), 10);
        assert_eq!(mini.check(), 1);
    });
}

/// A modification behind the scan's back is not forgotten.
#[test]
fn model_adjust_against_modtimer() {
    model(told_100, [adjust, arm_0_at_10], |mini, [_, replaced]| {
        assert_eq!(replaced, 1);
        assert_eq!(ask(mini), 10);
        assert_eq!(mini.check(), 1);
    });
}

/// The same, where the modification does not change timer_modified_earliest.
#[test]
fn model_adjust_against_modtimer_with_an_earlier_one_noted() {
    model_fenced(other_modified_to_5, [adjust, arm_0_at_10], |mini, _| {
        assert_eq!(ask(mini), 5);
        assert_eq!(mini.check(), 2);
        check_timers(mini, mini.p(), 5);
        assert_eq!(ask(mini), 10);
    });
}

#[test]
fn model_adjust_against_modtimer_against_a_wake_time_query() {
    model(
        told_100,
        [adjust, arm_0_at_10, ask],
        |mini, [_, _, told]| {
            told_or_woken(mini, told);
            assert_eq!(ask(mini), 10);
            assert_eq!(mini.check(), 1);
        },
    );
}

/// The wake time got later, and then earlier again while somebody asks.
#[test]
fn model_modtimer_against_the_first_query_of_a_later_wake_time() {
    model(
        told_100_then_later,
        [arm_0_at_150, ask],
        |mini, [_, told]| {
            let woken = mini.wakes() > 0;
            assert!(
                told == 150 || woken,
                "sleeps until {told}, and nobody wakes him"
            );
            assert_eq!(ask(mini), 150);
            assert_eq!(mini.check(), 1);
        },
    );
}

/// A pass that runs the timer leaves no wake time behind for a heap that is empty.
#[test]
fn model_check_timers_against_modtimer() {
    model(
        told_100,
        [adjust_and_check_at_50, arm_0_at_10],
        |mini, [ran, _]| {
            let left = mini.check();
            assert_eq!(left as i64, 1 - ran);
            assert_eq!(ask(mini), if left == 1 { 10 } else { 0 });
        },
    );
}

/// Timer 1 comes and goes and timer 0 comes, while somebody goes by the mask. The note of
/// timer 1 may be late: after the P was empty again. Whoever was told "never" before timer 0
/// came is woken for it.
#[test]
fn model_a_late_note_against_a_query_by_mask() {
    model_bounded(
        2,
        || Mini::new(2, false),
        [
            |mini| mini.arm(1, 50).unwrap() as i64,
            |mini| {
                let _ = deltimer(mini, mini.t(1), None);
                trim(mini, mini.p());
                mini.arm(0, 70).unwrap() as i64
            },
            |mini| {
                let before = mini.wakes();
                match mini.ask_by_mask(0) {
                    0 => before,
                    _ => -1,
                }
            },
        ],
        |mini, [_, _, told_never]| {
            let wakes = mini.wakes();
            assert!(told_never < wakes, "told never, and nobody wakes him");
            mini.check();
        },
    );
}

/// Two ask. The first, who is told the older time, raises what the second one goes by.
#[test]
fn model_modtimer_against_two_wake_time_queries() {
    model_bounded(
        2,
        told_100_then_later,
        [arm_0_at_10, ask, ask],
        |mini, [_, a, b]| {
            told_or_woken(mini, a);
            told_or_woken(mini, b);
            assert_eq!(ask(mini), 10);
        },
    );
}

/// Timers go from the second P to the first. Who looks at the source before he looks at the
/// destination sees them in one of the two.
#[test]
fn model_adopt_against_who_looks_at_the_source_first() {
    model(
        || {
            let mini = Mini::new(2, false);
            mini.arm(0, 100).unwrap();
            mini.adopt(1, false);
            mini
        },
        [
            |mini| {
                mini.adopt(0, false);
                0
            },
            |mini| mini.hears_of_something(1) as i64,
        ],
        |mini, [_, heard]| {
            assert_eq!(heard, 1, "the timer is in neither P");
            assert_eq!(mini.check(), 1);
        },
    );
}
