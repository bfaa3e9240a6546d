//! Is a committed run of a timer left? What gt_deltimer_sync waits for; apart from who waits for
//! whom (wait.rs), so that a model can run it.

use crate::engine::{FREED, Procs, TimerRef, Timers, deltimer};
use crate::error::{Error, Result};

/// What a sched has beside Procs.
pub(crate) trait Slots: Procs {
    /// The timers of each P, dead ones too: their last passes may still be under way.
    fn for_each_timers(&self, f: impl FnMut(&Timers));
}

/// Contexts that run the timer now.
pub(crate) fn for_each_run<S: Slots>(
    s: &S,
    t: TimerRef,
    generation: u32,
    mut f: impl FnMut(usize),
) {
    s.for_each_timers(|tm| {
        let h = tm.lock(s);
        let mut at = h.runs;
        // SAFETY: runs are linked and unlinked under this P's lock, and live while linked.
        while let Some(run) = unsafe { at.as_ref() } {
            if run.t == t && is_its_run(s, t, generation) {
                f(run.context);
            }
            at = run.next;
        }
    });
}

/// Its node has a run: is that this timer's, and not that of the next one? A run keeps its node from
/// being given back. So it is this one's if the timer is alive, or was freed and the node has had no
/// other since. The lock of the run's P is held.
fn is_its_run<S: Slots>(s: &S, t: TimerRef, generation: u32) -> bool {
    // Under the timer's lock, for the two change one after the other.
    let l = t.lock(s.host());
    let now = s.generation(t);
    let its = now == generation || (now == generation + 1 && l.has(FREED));
    l.put_back();
    its
}

/// Is a committed run of the timer left?
fn is_running<S: Slots>(s: &S, t: TimerRef, generation: u32) -> bool {
    // The references first: if the timer is alive after that, they were its handle's and its
    // runs', and no run of it has been hidden by a free in between.
    let runs = t.has_runs();
    if s.generation(t) == generation && t.flags() & FREED == 0 {
        return runs;
    }
    // Freed meanwhile, by another thread or its own callback.
    let mut any = false;
    for_each_run(s, t, generation, |_| any = true);
    any
}

/// Is it armed again, or was it run again since? Under its lock.
fn is_armed<S: Slots>(s: &S, t: TimerRef, generation: u32) -> bool {
    let l = t.lock(s.host());
    let alive = s.generation(t) == generation && !l.has(FREED);
    let armed = alive && (l.when != 0 || t.has_runs());
    l.put_back();
    armed
}

/// Judged after a stop: then no later run can have been committed unless somebody armed the timer
/// after it, and then it is not over.
pub(crate) fn is_over<S: Slots>(s: &S, t: TimerRef, generation: u32) -> bool {
    !is_running(s, t, generation) && !is_armed(s, t, generation)
}

/// Stops the timer until no run of it is left that could arm it. After each stop `over` is called with
/// the number of the round: it says whether that is so (is_over). True: it stopped a pending arming.
pub(crate) fn stop_until_over<S: Slots>(
    s: &S,
    t: TimerRef,
    generation: u32,
    mut over: impl FnMut(u64) -> Result<bool>,
) -> Result<bool> {
    let mut stopped = false;
    for round in 0.. {
        match deltimer(s, t, Some(generation)) {
            Ok(more) => stopped |= more,
            Err(Error::Stale) => {} // freed meanwhile, which stopped it
            Err(e) => return Err(e),
        }
        if over(round)? {
            break;
        }
    }
    Ok(stopped)
}
