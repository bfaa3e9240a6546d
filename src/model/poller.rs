//! The runtime's poller: however workers go to wait, arm timers and hand over, the timerfd
//! is never left standing later than the earliest timer.

use super::{Mini, model};
use crate::engine::{check_timers, deltimer};
use crate::rt_deadline::HAND_OVER;
use loom::sync::Arc;

fn one_at_100() -> Arc<Mini> {
    let mini = Mini::with_poller(2, false);
    mini.arm(1, 100).unwrap();
    mini
}

fn go_to_wait(mini: &Mini) -> i64 {
    mini.arm_poller()
}

fn arm_0_at_10(mini: &Mini) -> i64 {
    mini.arm(0, 10).unwrap() as i64
}

/// Nobody has set it before: the worker does, or the wake that his asking brought about.
#[test]
fn model_poller_going_to_wait_against_arming() {
    model(one_at_100, [go_to_wait, arm_0_at_10], |mini, _| {
        assert!(mini.fd() <= 10, "the workers sleep until {}", mini.fd());
        assert_eq!(mini.check(), 2);
    });
}

/// Two workers, one of whom was told before, against an arming.
#[test]
fn model_poller_two_going_to_wait_against_arming() {
    model(
        one_at_100,
        [go_to_wait, go_to_wait, arm_0_at_10],
        |mini, _| {
            assert!(mini.fd() <= 10, "the workers sleep until {}", mini.fd());
            assert_eq!(mini.check(), 2);
        },
    );
}

/// A timer in the heap gets earlier, and another one goes, while a worker goes to wait.
#[test]
fn model_poller_going_to_wait_against_modtimer_and_deltimer() {
    model(
        || {
            let mini = one_at_100();
            mini.arm(0, 50).unwrap();
            mini.arm_poller();
            mini
        },
        [
            |mini| mini.arm(1, 20).unwrap() as i64,
            |mini| deltimer(mini, mini.t(0), Some(1)).unwrap() as i64,
            go_to_wait,
        ],
        |mini, _| {
            assert!(mini.fd() <= 20, "the workers sleep until {}", mini.fd());
            assert_eq!(mini.check(), 1);
        },
    );
}

/// The timerfd has gone off at 50, and the worker whom it woke begins a callback, while
/// somebody arms a timer for later: who waits is woken for that.
#[test]
fn model_poller_hand_over_against_arming() {
    model(
        || {
            let mini = one_at_100();
            mini.arm(0, 50).unwrap();
            mini.arm_poller();
            mini
        },
        [
            |mini| {
                let ran = check_timers(mini, mini.p(), 50).ran as i64;
                mini.hand_over(50);
                ran
            },
            |mini| mini.arm(1, 60).unwrap() as i64,
        ],
        |mini, [ran, _]| {
            assert_eq!(ran, 1);
            assert!(mini.fd() <= 60, "the workers sleep until {}", mini.fd());
            assert!(mini.fd() > 50, "it has gone off, and nobody set it anew");
            assert_eq!(mini.check(), 1);
        },
    );
}

/// A worker arms a timer in a callback, which may go on for ever after that, while another
/// one goes to wait: he is woken a little later.
#[test]
fn model_poller_going_to_wait_against_arming_in_a_callback() {
    model(
        || {
            let mini = Mini::with_poller(2, true);
            mini.arm(1, 10 * HAND_OVER).unwrap();
            mini
        },
        [go_to_wait, arm_0_at_10],
        |mini, _| {
            assert!(
                mini.fd() <= 1 + HAND_OVER,
                "the workers sleep until {}",
                mini.fd()
            );
            assert_eq!(mini.check(), 2);
        },
    );
}
