//! The status lock and the insert window: two modtimers, modtimer against deltimer,
//! deltimer against runtimer.

use super::{Mini, explore, model};
use crate::engine::{check_timers, deltimer};
use std::sync::Arc;

fn removed() -> Arc<Mini> {
    Mini::new(1, false)
}

fn armed() -> Arc<Mini> {
    let mini = Mini::new(1, false);
    mini.arm(0, 100).unwrap();
    mini
}

fn arm_20(mini: &Mini) -> i64 {
    mini.arm(0, 20).unwrap() as i64
}

fn arm_30(mini: &Mini) -> i64 {
    mini.arm(0, 30).unwrap() as i64
}

fn stop(mini: &Mini) -> i64 {
    deltimer(mini, mini.t(0), None).unwrap() as i64
}

fn run_at_100(mini: &Mini) -> i64 {
    check_timers(mini, mini.p(), 100).ran as i64
}

/// The seeds' window: a timer that reads Removed is armed by two threads at once.
/// One arming replaces the other, and there is one entry.
#[test]
fn model_two_modtimers_of_a_removed_timer() {
    model(removed, [arm_20, arm_30], |mini, [a, b]| {
        assert_eq!(a + b, 1, "exactly one replaced the other");
        assert_eq!(mini.p().num_timers(), 1);
        assert_eq!(mini.check(), 1);
    });
}

#[test]
fn model_two_modtimers_of_an_armed_timer() {
    model(armed, [arm_20, arm_30], |mini, [a, b]| {
        assert_eq!(a + b, 2);
        assert_eq!(mini.check(), 1);
    });
}

/// A stop in the window either comes too early (0, and the timer is armed) or stops it.
#[test]
fn model_modtimer_of_a_removed_timer_against_deltimer() {
    model(removed, [arm_20, stop], |mini, [replaced, stopped]| {
        assert_eq!(replaced, 0);
        assert_eq!(mini.check() as i64, 1 - stopped);
    });
}

#[test]
fn model_modtimer_of_an_armed_timer_against_deltimer() {
    model(armed, [arm_20, stop], |mini, [replaced, stopped]| {
        assert_eq!(stopped, 1, "it was armed all the time");
        assert_eq!(
            mini.check() as i64,
            replaced ^ 1,
            "stopped last, or armed after the stop"
        );
    });
}

/// Each arming ends once: fired or stopped.
#[test]
fn model_deltimer_against_runtimer() {
    model(armed, [run_at_100, stop], |mini, [ran, stopped]| {
        assert_eq!(ran + stopped, 1);
        assert_eq!(mini.calls(), ran);
        assert_eq!(mini.check(), 0);
    });
}

/// A re-arm while the timer fires: it replaced the arming, or it comes after the firing.
#[test]
fn model_modtimer_against_runtimer() {
    model(
        armed,
        [run_at_100, |mini| mini.arm(0, 200).unwrap() as i64],
        |mini, [ran, replaced]| {
            assert_eq!(ran + replaced, 1);
            assert_eq!(mini.check(), 1);
        },
    );
}

/// What a P is made of.
struct Made(loom::cell::UnsafeCell<u32>);

// SAFETY: it is there to be checked for races.
unsafe impl Sync for Made {}
// SAFETY: as above.
unsafe impl Send for Made {}

/// A P is made, and gets a timer that others know already: who asks the timer for its P, with no
/// lock, finds that whole.
#[test]
fn model_p_of_a_timer_against_adopt() {
    explore(2, 3, false, || {
        let mini = armed();
        let made = Arc::new(Made(loom::cell::UnsafeCell::new(0)));
        let adopts = {
            let (mini, made) = (mini.clone(), made.clone());
            loom::thread::spawn(move || {
                made.0.with_mut(|_| ());
                mini.adopt(1, false);
            })
        };
        if mini.t(0).home().index == 1 {
            made.0.with(|_| ());
        }
        adopts.join().unwrap();
        assert_eq!(mini.check(), 1);
        mini.finish();
    });
}
