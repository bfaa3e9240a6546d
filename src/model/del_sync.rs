//! gt_deltimer_sync by id, which others may free meanwhile (src/procs/runs.rs): when it returns, no
//! run is left that was committed before, and what these runs did is seen.

use super::ops::Op;
use super::{Mini, model, model_bounded};
use crate::engine::{Arm, Timers, check_timers, deltimer, modtimer, timer_free};
use crate::error::{Error, Result};
use crate::procs::runs::{Slots, is_over, stop_until_over};
use crate::sync::os_yield;
use std::sync::Arc;

impl Slots for Mini {
    fn for_each_timers(&self, mut f: impl FnMut(&Timers)) {
        (0..super::world::PS).for_each(|p| f(self.p_of(p)));
    }
}

fn armed() -> Arc<Mini> {
    let mini = Mini::new(1, false);
    mini.arm(0, 100).unwrap();
    mini
}

fn run(mini: &Mini) -> i64 {
    check_timers(mini, mini.p(), 100).ran as i64
}

/// As deltimer_sync, but it does not wait for ever: it judges twice, and what it says then must be
/// right. 1 stopped, 0 not, -1 it was freed before.
fn del_sync(mini: &Mini) -> i64 {
    let wait = |round| match round {
        0 => {
            os_yield();
            Ok(())
        }
        _ => Err(Error::Busy),
    };
    del_sync_for(mini, wait)
}

/// The same; it judges once.
fn del_sync_once(mini: &Mini) -> i64 {
    del_sync_for(mini, |_| Err(Error::Busy))
}

fn del_sync_for(mini: &Mini, mut wait: impl FnMut(u64) -> Result<()>) -> i64 {
    let over = |round| {
        let over = is_over(mini, mini.t(0), 1);
        if !over {
            wait(round)?;
        }
        Ok(over)
    };
    match stop_until_over(mini, mini.t(0), 1, over) {
        Ok(stopped) => {
            // Whoever is in a call of it reads what this writes.
            mini.use_argument(0);
            stopped as i64
        }
        Err(_) => -1,
    }
}

/// The first round alone, and others get on between the stop and the judgement. loom does not try
/// that for itself: a load of who runs the timer hides this one's load of the references.
fn stop_then_judge(mini: &Mini) -> i64 {
    let t = mini.t(0);
    let stopped = deltimer(mini, t, Some(1)).unwrap_or(false); // or it is freed
    os_yield();
    if !is_over(mini, t, 1) {
        return -1;
    }
    mini.use_argument(0);
    stopped as i64
}

fn free(mini: &Mini) -> i64 {
    timer_free(mini, mini.t(0), Some(1)).map_or(-1, |stopped| stopped as i64)
}

#[test]
fn model_del_sync_by_id_against_a_run() {
    model(armed, [run, del_sync], |mini, [ran, stopped]| {
        assert!(ran + stopped == 1 || stopped == -1);
        assert_eq!(mini.check(), 0);
    });
}

fn armed_to_free_itself() -> Arc<Mini> {
    let mini = armed();
    mini.act(0, Some(Op::Free(0)));
    mini
}

/// The call frees its own timer.
#[test]
fn model_del_sync_by_id_against_a_run_that_frees() {
    model(
        armed_to_free_itself,
        [run, del_sync],
        |mini, [ran, stopped]| {
            assert_eq!(ran + stopped.max(0), 1);
            assert_eq!(mini.check(), 0);
        },
    );
}

/// The same, and it is being freed when he judges.
#[test]
fn model_del_sync_by_id_against_a_run_that_is_freeing() {
    model(
        armed_to_free_itself,
        [run, stop_then_judge],
        |mini, [ran, stopped]| {
            assert_eq!(ran + stopped.max(0), 1);
            assert_eq!(mini.check(), 0);
        },
    );
}

/// Another thread frees it, while it runs or not.
#[test]
fn model_del_sync_by_id_against_a_run_and_free() {
    model_bounded(
        1,
        armed,
        [run, del_sync_once, free],
        |mini, [ran, stopped, freed]| {
            assert_eq!(ran + stopped.max(0) + freed.max(0), 1);
            assert_eq!(mini.check(), 0);
        },
    );
}

fn armed_to_arm_itself() -> Arc<Mini> {
    let mini = armed();
    mini.act(0, Some(Op::Mod(0, 50)));
    mini.slow(0);
    mini
}

/// The call arms it again: that is stopped.
#[test]
fn model_del_sync_by_id_against_a_run_that_arms() {
    model(
        armed_to_arm_itself,
        [run, stop_then_judge],
        |mini, [_, stopped]| assert!(stopped == -1 || mini.check() == 0, "left armed"),
    );
}

/// It is run again.
#[test]
fn model_del_sync_by_id_against_a_run_that_arms_and_the_next() {
    model(
        armed_to_arm_itself,
        [|mini| run(mini) + run(mini), stop_then_judge],
        |mini, _| assert_eq!(mini.check(), 0),
    );
}

/// The call frees it, and its P is freed meanwhile.
#[test]
fn model_del_sync_by_id_against_a_run_that_frees_on_a_dead_p() {
    model_bounded(
        1,
        armed_to_free_itself,
        [run, del_sync_once, |mini| {
            mini.adopt(1, true);
            0
        }],
        |mini, _| mini.check_swept(),
    );
}

/// The call frees it, and its node is another timer's, which is run: that is nobody's to wait for who
/// has the first one's id.
#[test]
fn model_del_sync_by_id_against_the_next_timer() {
    fn run_two(mini: &Mini) -> i64 {
        let first = run(mini);
        mini.init(0, false);
        mini.slow(0);
        modtimer(mini, mini.t(0), Some(2), None, &Arm::at(100, 0)).unwrap();
        first + run(mini)
    }
    fn judge(mini: &Mini) -> i64 {
        let has_ended = mini.given_back(0) > 0;
        let over = is_over(mini, mini.t(0), 1);
        assert!(over || !has_ended, "waits for another timer's run");
        over as i64
    }
    model_bounded(
        2,
        armed_to_free_itself,
        [run_two, judge],
        |mini, [ran, _]| {
            assert_eq!(ran, 2);
            assert_eq!(mini.check(), 0);
        },
    );
}
