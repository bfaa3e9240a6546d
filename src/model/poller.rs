//! The runtime's poller: however workers go to wait, arm timers and hand over, the timerfd
//! is never left standing later than the earliest timer.

use super::ops::Op;
use super::{Mini, model};
use crate::engine::deltimer;
use crate::rt_deadline::HAND_OVER;
use std::sync::Arc;

fn one_at_100() -> Arc<Mini> {
    let mini = Mini::with_poller(2);
    mini.arm(1, 100).unwrap();
    mini
}

fn go_to_wait(mini: &Mini) -> i64 {
    mini.arm_poller()
}

fn arm_0_at_10(mini: &Mini) -> i64 {
    mini.arm(0, 10).unwrap() as i64
}

/// In a callback.
fn in_call(mini: &Mini, i: usize, when: i64) -> i64 {
    mini.as_worker(|| mini.arm(i, when).unwrap() as i64)
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
                Op::HandOver(0, 50).run(mini);
                mini.calls()
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
            let mini = Mini::with_poller(2);
            mini.arm(1, 10 * HAND_OVER).unwrap();
            mini
        },
        [go_to_wait, |mini| in_call(mini, 0, 10)],
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

/// The clock says 55. The timerfd was set to 50, where timer 1 still is, and has gone off:
/// who goes to wait sets it once more, for the timer is not served.
fn gone_off_at_50() -> Arc<Mini> {
    let mini = Mini::with_poller(2);
    mini.arm(1, 50).unwrap();
    mini.arm_poller();
    assert!(mini.comes_to(55));
    mini
}

#[test]
fn model_poller_two_going_to_wait_when_it_has_gone_off() {
    model(gone_off_at_50, [go_to_wait, go_to_wait], |mini, _| {
        assert!(mini.fd() <= 50, "the workers sleep until {}", mini.fd());
    });
}

/// One worker looks why it has been woken, while another one sets the timerfd anew.
#[test]
fn model_poller_gone_off_against_going_to_wait() {
    model(
        gone_off_at_50,
        [
            |mini| {
                let overdue = mini.gone_off() as i64;
                mini.arm_poller();
                overdue
            },
            |mini| mini.arm(0, 52).unwrap() as i64,
            go_to_wait,
        ],
        |mini, [overdue, _, _]| {
            assert_eq!(overdue, 0, "nobody had handed it over");
            assert!(mini.fd() <= 50, "the workers sleep until {}", mini.fd());
            assert_eq!(mini.check(), 2);
        },
    );
}

/// The kernel's clock is ahead of ours: it has gone off, though nothing is due yet. It is set once
/// more.
#[test]
fn model_poller_gone_off_too_early() {
    model(
        || {
            let mini = one_at_100();
            mini.arm_poller();
            mini.fire_early();
            mini
        },
        [
            |mini| {
                mini.gone_off();
                mini.arm_poller()
            },
            |mini| mini.arm(0, 110).unwrap() as i64,
            go_to_wait,
        ],
        |mini, _| {
            assert!(mini.fd() <= 100, "the workers sleep until {}", mini.fd());
            assert_eq!(mini.check(), 2);
        },
    );
}

/// In a callback timers are armed for soon, while a worker goes to wait: what he waits for is
/// not put off, and within a while (HAND_OVER) he serves the others too.
#[test]
fn model_poller_arming_in_a_callback_against_going_to_wait() {
    model(
        || {
            let mini = Mini::with_poller(3);
            mini.arm(2, 5 * HAND_OVER).unwrap();
            mini
        },
        [
            |mini| in_call(mini, 0, HAND_OVER / 2),
            |mini| in_call(mini, 1, 4 * HAND_OVER),
            go_to_wait,
        ],
        |mini, _| {
            assert!(
                mini.fd() <= 1 + HAND_OVER,
                "the workers sleep until {}",
                mini.fd()
            );
            assert_eq!(mini.check(), 3);
        },
    );
}

/// A worker waits for 20 when a callback arms a timer for 25.
#[test]
fn model_poller_arming_in_a_callback_puts_nothing_off() {
    model(
        || {
            let mini = Mini::with_poller(2);
            mini.arm(1, 20).unwrap();
            mini
        },
        [
            |mini| {
                mini.arm_poller();
                // On the other P: there is nobody yet who was told an earlier time of it.
                mini.as_worker(|| mini.arm_on(1, 0, 25).unwrap() as i64)
            },
            go_to_wait,
        ],
        |mini, _| {
            assert!(mini.fd() <= 20, "the workers sleep until {}", mini.fd());
            assert_eq!(mini.check(), 2);
        },
    );
}
