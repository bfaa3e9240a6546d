//! adjusttimers lets others have the P's lock between two steps: what they do to the heap may
//! not carry a modified timer past the scan.

use super::ops::{Op, Out, end};
use super::world::Mini;
use super::{model_bounded, model_fenced};
use std::sync::Arc;

/// `n` timers, of which the last one in the array is modified from 120 to 40.
fn last_modified(n: usize) -> Arc<Mini> {
    let mini = Mini::new(n, false);
    for i in 0..n {
        mini.arm(i, if i + 1 < n { 100 } else { 120 }).unwrap();
    }
    mini.arm(n - 1, 40).unwrap();
    mini
}

fn adjust(mini: &Mini) -> i64 {
    Op::Adjust(0).run(mini);
    0
}

/// The books: `n` armed, one of them again, some stopped.
fn all_there(mini: &Mini, n: usize, stopped: usize) {
    let mut outs = vec![Out::Armed(false); n];
    outs.push(Out::Armed(true));
    outs.extend(vec![Out::Stopped(true); stopped]);
    end(mini, outs, false);
}

/// Two of three timers are stopped: that is beyond the bound, and who stops them sweeps.
#[test]
fn model_adjust_against_a_sweep() {
    let stop_two = |mini: &Mini| {
        Op::Del(0).run(mini);
        Op::Del(1).run(mini);
        0
    };
    model_fenced(
        || last_modified(3),
        [adjust, stop_two],
        |mini, _| {
            all_there(mini, 3, 2);
        },
    );
}

/// The first of three timers is stopped, and cleaned.
#[test]
fn model_adjust_against_cleantimers() {
    let stop_and_clean = |mini: &Mini| {
        Op::Del(0).run(mini);
        Op::Clean(0).run(mini);
        0
    };
    model_bounded(
        2,
        || last_modified(3),
        [adjust, stop_and_clean],
        |mini, _| {
            all_there(mini, 3, 1);
        },
    );
}

/// A pass goes on after a callback, which has modified a timer, and a scan has begun
/// meanwhile.
#[test]
fn model_adjust_against_a_pass() {
    let setup = || {
        let mini = Mini::new(5, false);
        for (i, when) in [10, 20, 30, 100, 100].into_iter().enumerate() {
            mini.arm(i, when).unwrap();
        }
        mini.act(0, Some(Op::Mod(3, 40)));
        mini
    };
    let check_at_25 = |mini: &Mini| {
        Op::Check(0, 25).run(mini);
        0
    };
    model_bounded(2, setup, [check_at_25, adjust], |mini, _| {
        end(mini, vec![Out::Armed(false); 5], false);
    });
}

/// The scan comes to a dead timer, whose place the last one takes, and from there goes up past
/// the scan: so that is looked at first.
#[test]
fn model_adjust_takes_a_dead_one_off() {
    let setup = || {
        let mini = Mini::new(10, false);
        let whens = [10, 200, 50, 100, 100, 210, 210, 210, 210, 60];
        for (i, when) in whens.into_iter().enumerate() {
            mini.arm(i, when).unwrap();
        }
        Op::Del(5).run(&mini);
        mini.arm(9, 40).unwrap();
        mini
    };
    model_bounded(1, setup, [adjust], |mini, _| all_there(mini, 10, 1));
}

/// The pass takes the head off. Its child goes up, which the scan has looked at, and a modified
/// one that it has not come to takes the place of that.
#[test]
fn model_adjust_against_a_child_that_moves_up() {
    let setup = || {
        let mini = Mini::new(7, false);
        let whens = [10, 20, 100, 100, 100, 30, 100];
        for (i, when) in whens.into_iter().enumerate() {
            mini.arm(i, when).unwrap();
        }
        mini.arm(5, 25).unwrap();
        mini
    };
    let check_at_12 = |mini: &Mini| {
        Op::Check(0, 12).run(mini);
        0
    };
    model_bounded(1, setup, [check_at_12, adjust], |mini, _| {
        all_there(mini, 7, 0);
    });
}

/// While another's scan is under way a pass goes on: it need not wait for its end.
#[test]
fn model_pass_goes_on_in_a_scan() {
    let setup = || {
        let mini = Mini::new(5, false);
        for (i, when) in [10, 20, 30, 100, 120].into_iter().enumerate() {
            mini.arm(i, when).unwrap();
        }
        mini.p().lock(&*mini).begin_scan();
        mini
    };
    let check_at_25 = |mini: &Mini| {
        Op::Check(0, 25).run(mini);
        mini.calls()
    };
    model_bounded(1, setup, [check_at_25], |mini, [calls]| {
        assert_eq!(calls, 2);
        assert!(mini.p().lock(mini).scan.is_some());
        end(mini, vec![Out::Armed(false); 5], false);
    });
}

/// The scan under way has passed by the timer that is modified now: the pass that begins then
/// does not rely on it.
#[test]
fn model_pass_behind_a_scan() {
    let setup = || {
        let mini = Mini::new(4, false);
        for (i, when) in [30, 100, 100, 100].into_iter().enumerate() {
            mini.arm(i, when).unwrap();
        }
        mini
    };
    let modify_and_check = |mini: &Mini| {
        Op::Mod(1, 20).run(mini);
        Op::Check(0, 25).run(mini);
        assert_eq!(mini.calls(), 1);
        0
    };
    model_bounded(2, setup, [adjust, modify_and_check], |mini, _| {
        let mut outs = vec![Out::Armed(false); 4];
        outs.push(Out::Armed(true));
        end(mini, outs, false);
    });
}

/// A second scan is begun while the pass waits for the end of the first.
#[test]
fn model_pass_against_two_scans() {
    let setup = || {
        let mini = Mini::new(5, false);
        for (i, when) in [10, 20, 30, 100, 120].into_iter().enumerate() {
            mini.arm(i, when).unwrap();
        }
        mini
    };
    let check_at_25 = |mini: &Mini| {
        Op::Check(0, 25).run(mini);
        0
    };
    let twice = |mini: &Mini| {
        Op::Adjust(0).run(mini);
        Op::Mod(3, 40).run(mini);
        Op::Adjust(0).run(mini);
        0
    };
    model_bounded(4, setup, [check_at_25, twice], |mini, _| {
        let mut outs = vec![Out::Armed(false); 5];
        outs.push(Out::Armed(true));
        end(mini, outs, false);
    });
}

/// Runs of one timer on two Ps, and one who waits for both.
#[test]
fn model_refs_over_two_ps() {
    let setup = || {
        let mini = Mini::new(1, false);
        Op::Tick(0, 10).run(&mini);
        mini
    };
    let first = |mini: &Mini| {
        Op::Check(0, 10).run(mini);
        0
    };
    let second = |mini: &Mini| {
        Op::Adopt(1).run(mini);
        Op::Check(1, 20).run(mini);
        0
    };
    let third = |mini: &Mini| {
        Op::DelSync(0).run(mini);
        mini.use_argument(0);
        0
    };
    model_bounded(2, setup, [first, second, third], |_, _| {});
}
