//! gt_timer_free without the short path: when a node goes back, and where to.

use super::super::lifetime::{release_node, timer_free};
use super::{Op, with_world};
use crate::sync::Ordering;

#[test]
fn a_node_goes_back_when_nothing_refers_to_it() {
    with_world(4, |w| {
        let free = |i| timer_free(w, w.t(i), None).unwrap();
        let given = || (w.given_here.get(), w.given.get());
        assert!(free(0));
        assert_eq!(given(), (0, 0), "its entry refers to it");
        w.apply(&Op::Trim);
        assert_eq!(given(), (1, 0));
        w.apply(&Op::Check(500));
        w.t(1).refs.store(2, Ordering::Relaxed);
        assert!(!free(1));
        assert_eq!(given(), (1, 0), "a run that has not ended refers to it");
        release_node(w, w.t(1));
        assert_eq!(given(), (1, 1));
        assert!(!free(2));
        assert_eq!(given(), (2, 1), "nothing did");
        // What takes it among the thread's own nodes cannot see yet that it is retired.
        w.generation.set(u32::MAX - 1);
        assert!(!free(3));
        assert_eq!(given(), (2, 2));
    });
}
