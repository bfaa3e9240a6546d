//! Free against all the others: the memory goes back once, when nothing refers to it, and
//! the argument is dropped once, when f can never be called with it again.

use super::ops::{Op, Out};
use super::{Mini, model, model_bounded};
use crate::engine::{check_timers, deltimer, detach, fast, sweep, timer_free, trim};
use crate::error::Error;
use std::sync::Arc;

fn armed() -> Arc<Mini> {
    let mini = Mini::new(1, true);
    mini.arm(0, 100).unwrap();
    mini
}

fn removed() -> Arc<Mini> {
    Mini::new(1, true)
}

fn free(mini: &Mini) -> i64 {
    timer_free(mini, mini.t(0), Some(1)).unwrap() as i64
}

fn run_at_100(mini: &Mini) -> i64 {
    check_timers(mini, mini.p(), 100).ran as i64
}

/// 1 replaced, 0 armed, -1 the timer was freed before.
fn arm_20(mini: &Mini) -> i64 {
    match mini.arm(0, 20) {
        Ok(replaced) => replaced as i64,
        Err(e) => {
            assert_eq!(e, Error::Stale);
            -1
        }
    }
}

fn stop(mini: &Mini) -> i64 {
    match deltimer(mini, mini.t(0), Some(1)) {
        Ok(stopped) => stopped as i64,
        Err(e) => {
            assert_eq!(e, Error::Stale);
            -1
        }
    }
}

/// Once the heap is swept, the timer has gone back and its argument is dropped.
fn all_gone(mini: &Mini) {
    trim(mini, mini.p());
    assert_eq!(mini.check(), 0);
    assert_eq!(mini.given_back(0), 1);
    assert_eq!(mini.drops(0), 1);
}

#[test]
fn model_free_against_runtimer() {
    model(armed, [run_at_100, free], |mini, [ran, stopped]| {
        assert_eq!(ran + stopped, 1);
        all_gone(mini);
    });
}

#[test]
fn model_free_against_modtimer() {
    model(armed, [arm_20, free], |mini, [replaced, stopped]| {
        assert_eq!(stopped, 1);
        assert!(replaced != 0);
        all_gone(mini);
    });
}

#[test]
fn model_free_of_a_removed_timer_against_modtimer() {
    model(removed, [arm_20, free], |mini, [replaced, stopped]| {
        assert!((replaced, stopped) == (0, 1) || (replaced, stopped) == (-1, 0));
        all_gone(mini);
    });
}

#[test]
fn model_free_against_deltimer() {
    model(armed, [stop, free], |mini, [by_stop, by_free]| {
        assert!((by_stop, by_free) == (1, 0) || (by_stop, by_free) == (-1, 1));
        all_gone(mini);
    });
}

fn sweep_once(mini: &Mini) -> i64 {
    sweep(&mut mini.p().lock(mini)) as i64
}

/// Two preemptions: a sweep has many steps.
#[test]
fn model_free_against_a_sweep() {
    model_bounded(2, armed, [sweep_once, free], |mini, [_, stopped]| {
        assert_eq!(stopped, 1);
        all_gone(mini);
    });
}

fn armed_without_drop() -> Arc<Mini> {
    let mini = Mini::new(1, false);
    mini.arm(0, 100).unwrap();
    mini
}

/// Three threads: one preemption is as many as can be tried in a few seconds.
#[test]
fn model_free_against_runtimer_and_modtimer() {
    let end = |mini: &Mini, [ran, armed, stopped]: [i64; 3]| {
        // armed: 1 replaced the first arming, 0 came after it had fired, -1 after the free.
        let armings = 1 + (armed >= 0) as i64;
        assert_eq!(ran + (armed == 1) as i64 + stopped, armings);
        trim(mini, mini.p());
        assert_eq!(mini.check(), 0);
        assert_eq!(mini.given_back(0), 1);
    };
    model_bounded(1, armed_without_drop, [run_at_100, arm_20, free], end);
}

/// Who frees the timer makes a new one of it, if it has come back; who knows the old one by
/// its id cannot arm that.
#[test]
fn model_free_and_new_against_modtimer_by_the_old_id() {
    model(
        removed,
        [
            |mini| {
                let stopped = free(mini);
                if mini.given_back(0) == 1 {
                    mini.init(0, false);
                }
                stopped
            },
            arm_20,
        ],
        |mini, [stopped, replaced]| {
            assert!((replaced, stopped) == (0, 1) || (replaced, stopped) == (-1, 0));
            assert_eq!(mini.check(), 0, "the new one is armed");
        },
    );
}

fn del_sync(mini: &Mini) -> i64 {
    let out = Op::DelSync(0).run(mini);
    mini.use_argument(0);
    (out == Out::Stopped(true)) as i64
}

/// When deltimer_sync returns, the timer is not being called, and what its calls have done is
/// seen.
#[test]
fn model_del_sync_against_runtimer() {
    model(
        armed_without_drop,
        [run_at_100, del_sync],
        |mini, [ran, stopped]| {
            assert_eq!(ran + stopped, 1);
            assert_eq!(mini.check(), 0);
        },
    );
}

fn detached() -> Arc<Mini> {
    let mini = armed();
    detach(&*mini, mini.t(0), Some(1)).unwrap();
    mini
}

/// A detached timer frees itself once, whoever is the last to have to do with it.
#[test]
fn model_free_of_a_detached_timer_against_runtimer() {
    let free = |mini: &Mini| timer_free(mini, mini.t(0), Some(1)).map_or(-1, |x| x as i64);
    model(detached, [run_at_100, free], |mini, [ran, stopped]| {
        assert_eq!(ran + (stopped == 1) as i64, 1);
        all_gone(mini);
    });
}

/// Armed again during its last call, it is not freed, and is when that has been called.
#[test]
fn model_modtimer_of_a_detached_timer_against_two_runtimers() {
    model_bounded(
        1,
        detached,
        [run_at_100, run_at_100, arm_20],
        |mini, [a, b, replaced]| {
            let armings = 1 + (replaced == 0) as i64;
            assert_eq!(a + b + mini.check() as i64, armings);
            run_at_100(mini);
            all_gone(mini);
        },
    );
}

/// gt_timer_free by handle of a timer with no drop function: the short path.
fn quick_free(mini: &Mini) -> i64 {
    let quick = fast::free::<Mini>(mini.t(0));
    quick.unwrap_or_else(|| timer_free(mini, mini.t(0), None).unwrap()) as i64
}

fn armed_plain() -> Arc<Mini> {
    let mini = Mini::new(1, false);
    mini.arm(0, 100).unwrap();
    mini
}

/// Against all that may have it locked, or take its entry off.
#[test]
fn model_quick_free_against_the_others() {
    model(
        armed_plain,
        [run_at_100, quick_free],
        |mini, [ran, stopped]| {
            assert_eq!(ran + stopped, 1);
            trim(mini, mini.p());
            assert_eq!((mini.check(), mini.given_back(0)), (0, 1));
        },
    );
    model(
        armed_plain,
        [arm_20, quick_free],
        |mini, [replaced, stopped]| {
            assert!(replaced != 0 && stopped == 1);
            trim(mini, mini.p());
            assert_eq!((mini.check(), mini.given_back(0)), (0, 1));
        },
    );
    model(armed_plain, [stop, quick_free], |mini, [a, b]| {
        assert!(a == 1 && b == 0 || a == -1 && b == 1);
        trim(mini, mini.p());
        assert_eq!((mini.check(), mini.given_back(0)), (0, 1));
    });
    let swept = |mini: &Mini| trim(mini, mini.p()) as i64;
    model(armed_plain, [swept, quick_free], |mini, [_, stopped]| {
        assert_eq!(stopped, 1);
        trim(mini, mini.p());
        assert_eq!((mini.check(), mini.given_back(0)), (0, 1));
    });
}
