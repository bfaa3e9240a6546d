//! Two passes at once: one in a callback of the other. What a callback arms for a time that is due
//! waits for a later pass than the one that called it, whatever the other one does.

use super::{Op, World, with_world};

/// Timers 0 to 2 are armed, timer 3 is in no heap. Timer 0 runs a timer, at a time so much after
/// 1200; timer 2 arms timer 3 for so much after that. All in a pass at 1200.
fn nested(inner: i64, armed: i64, test: impl FnOnce(&World)) {
    with_world(4, |w| {
        w.apply(&Op::Del(3));
        w.apply(&Op::Trim);
        w.apply(&Op::Act(0, Box::new(Op::Runtimer(inner))));
        w.apply(&Op::Act(2, Box::new(Op::Arm(3, armed))));
        w.apply(&Op::Check(200));
        test(w);
    });
}

fn calls_and_time(w: &World) -> (u64, i64) {
    (w.calls.get(), w.when(3))
}

/// When the inner one has ended, the outer one is still under way.
#[test]
fn a_pass_ends_in_a_pass() {
    nested(0, -20, |w| {
        assert_eq!(calls_and_time(w), (3, 1180));
        w.apply(&Op::Check(0));
        assert_eq!(calls_and_time(w), (4, 0));
    });
}

/// The inner one is for an earlier time.
#[test]
fn a_pass_for_an_earlier_time_in_a_pass() {
    nested(-100, 50, |w| {
        assert_eq!(calls_and_time(w), (3, 1150));
        w.apply(&Op::Check(100));
        assert_eq!(calls_and_time(w), (4, 0));
    });
}
