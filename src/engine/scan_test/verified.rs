//! verify_timer_heap names the rule that is broken, and nothing where others only go on meanwhile.

use super::super::timer::State;
use super::super::verify::{Rule, count_deleted, verify_timer_heap};
use super::super::{TimerRef, Timers};
use super::{Op, World, with_hooks, with_world};
use crate::host::Hooks;
use std::cell::Cell;
use std::ffi::c_void;

fn broken(w: &World) -> Option<(Rule, TimerRef)> {
    verify_timer_heap(&mut w.p().lock(w))
}

fn set_home(t: TimerRef, tm: &Timers) {
    let state = t.state();
    let mut l = t.try_lock_heaped(0).unwrap();
    l.set_home(tm);
    l.unlock(state, 0);
}

#[test]
fn each_rule_is_named() {
    with_world(8, |w| {
        let t = w.t(5);
        assert_eq!(broken(w), None);
        let mut l = t.lock(&w.host);
        l.key += 1;
        l.put_back();
        assert_eq!(broken(w), Some((Rule::Key, t)));
        let mut l = t.lock(&w.host);
        l.key -= 1;
        l.when += 1;
        l.put_back();
        assert_eq!(broken(w), Some((Rule::Key, t)), "it is Waiting");
        let l = t.lock(&w.host);
        l.unlock(State::Modified);
        assert_eq!(broken(w), None, "now it is not");
        let l = t.lock(&w.host);
        l.unlock(State::Removed);
        assert_eq!(broken(w), Some((Rule::State, t)));
        let l = t.lock(&w.host);
        l.unlock(State::Modified);
        set_home(t, &w.ps[1]);
        assert_eq!(broken(w), Some((Rule::Owner, t)));
        set_home(t, w.p());
        assert_eq!(broken(w), None);
    });
}

#[test]
fn the_count_of_the_dead() {
    with_world(8, |w| {
        let count = || count_deleted(&mut w.p().lock(w));
        assert_eq!(count(), 0);
        (2..6).for_each(|i| w.del(i));
        assert_eq!((broken(w), count()), (None, 4));
        let first = Some((Rule::Deleted, w.t(0)));
        w.p().add_deleted();
        assert_eq!(broken(w), first);
        w.p().sub_deleted();
        w.p().sub_deleted();
        assert_eq!(broken(w), first);
        w.p().add_deleted();
        assert_eq!(broken(w), None);
        // An empty heap has nobody to name.
        w.apply(&Op::Check(500));
        w.p().add_deleted();
        assert_eq!(broken(w), None);
        w.p().sub_deleted();
    });
}

/// Stops a timer of this World, once.
unsafe extern "C" fn stops_one(ctx: *mut c_void) {
    // SAFETY: a cell that outlives the World.
    let at = unsafe { &*ctx.cast::<Cell<*const World>>() };
    // SAFETY: null or the World, which has this hook.
    if let Some(w) = unsafe { at.replace(std::ptr::null()).as_ref() } {
        w.del(7);
    }
}

/// Somebody stops a timer that has not been looked at yet: one dead entry more than was counted.
#[test]
fn the_count_is_not_judged_if_it_changes() {
    let at = Cell::new(std::ptr::null());
    let hooks = Hooks {
        ctx: std::ptr::from_ref(&at).cast_mut().cast(),
        acquirem: Some(stops_one),
        ..Hooks::default()
    };
    with_hooks(8, hooks, |w| {
        at.set(w);
        assert_eq!(broken(w), None);
        assert_eq!(w.when(7), 0);
    });
}
