//! `runtimer`, `unlockAndRunTimer` and `checkTimers` of runtime/time.go: taking due
//! timers off the heap and calling them with no lock held.

use super::adjust::{adjusttimers, repair_head};
use super::heap::Entry;
use super::timer::{DETACHED, FREED, Func, HAS_DROP, Locked, MAX_WHEN, State, TimerRef};
use super::timers::{Held, Timers};
use super::verify::{Rule, badtimer};
use super::{ArgRef, Counter, Procs, release_node, verify_timer_heap};
use crate::sync::Ordering;
use std::ffi::c_void;

/// A committed run: a callback that was taken from a P and has not ended. Lives on the
/// stack of who runs it, linked into the P's list; guarded by the P's lock.
pub(crate) struct Run {
    pub(crate) t: TimerRef,
    /// Who runs it, as current_context says.
    pub(crate) context: usize,
    boxed: Option<ArgRef>,
    prev: *mut Run,
    pub(crate) next: *mut Run,
}

/// What check_timers found.
pub(crate) struct Checked {
    pub(crate) now: i64,
    /// When the P must be looked at again; 0: never.
    pub(crate) poll_until: i64,
    pub(crate) ran: usize,
}

/// What one look at the head did.
enum Step {
    Ran,
    Empty,
    /// The head is due at this time, later than now.
    NotYet,
}

struct Call {
    f: Func,
    arg: *mut c_void,
    seq: usize,
    delay: i64,
}

/// A pass over a P. Its drop ends the pass, whether the pass ran to its end or a
/// callback left by an exception.
struct Pass<'a, S: Procs> {
    s: &'a S,
    tm: &'a Timers,
    held: Option<Held<'a, S>>,
    run: Option<Run>,
}

impl<'a, S: Procs> Pass<'a, S> {
    /// Starts a pass. The value must not move until it is dropped: the P's list of runs
    /// points into it.
    fn begin(s: &'a S, tm: &'a Timers, now: i64) -> Self {
        s.hold(tm);
        let mut h = tm.lock(s);
        // First: what was stamped in the last pass is not for a later one than this.
        h.begin_pass(now);
        adjusttimers(&mut h, now, false);
        if s.verifying()
            && let Some((rule, t)) = verify_timer_heap(&mut h)
        {
            badtimer(s, t, rule);
        }
        Pass {
            s,
            tm,
            held: Some(h),
            run: None,
        }
    }

    #[inline(always)]
    fn h(&mut self) -> &mut Held<'a, S> {
        match &mut self.held {
            Some(h) => h,
            None => unreachable!("the pass holds the lock between callbacks"),
        }
    }

    /// Go's runtimer: looks at the first timer, repairing stale ones, and runs it if it
    /// is due. The P's lock is held before and after, not while the callback runs.
    #[inline]
    fn runtimer(&mut self, now: i64) -> Step {
        loop {
            let s = self.s;
            let h = self.h();
            if h.heap.len() == 0 {
                return Step::Empty;
            }
            let Entry { when, t } = h.heap.get(0);
            if t.state() == State::Waiting && (when > now || when == MAX_WHEN) {
                // Fast path: the key is guarded by the P's lock, though the timer is not.
                return Step::NotYet;
            }
            let l = t.lock(s.host());
            match l.state {
                State::Modified => repair_head(h, t, l),
                State::Waiting if when > now || when == MAX_WHEN => {
                    l.unlock(State::Waiting);
                    return Step::NotYet;
                }
                State::Waiting => {
                    self.unlock_and_run_timer(t, l, now);
                    return Step::Ran;
                }
                _ => badtimer(s, t, Rule::State),
            }
        }
    }

    /// Takes the locked timer, which is due and stands at the head, off the heap or
    /// moves it on by its period, and counts the run in. Then unlocks both.
    // Not inlined: whatever of this thread the compiler computes here (thread-locals)
    // must not be kept over the callback, which may end on another thread.
    #[inline(never)]
    fn commit(&mut self, t: TimerRef, mut l: Locked<'_>, now: i64) -> Call {
        let s = self.s;
        let h = self.h();
        let delay = now - l.key;
        if delay < 0 || l.key != l.when || l.p() != h.tm.index {
            s.block().add(Counter::Early, (delay < 0) as u64);
            badtimer(s, t, if delay < 0 { Rule::Early } else { Rule::Key });
        }
        let block = s.block();
        let Some(f) = l.f else {
            badtimer(s, t, Rule::State)
        };
        let next = if l.period > 0 {
            // Leave in the heap, at the next time of the same phase; missed ones are skipped.
            let next = next_tick(l.key, l.period, delay);
            l.when = next;
            l.key = next;
            h.heap.rekey0(next);
            block.add(Counter::Ticks, 1);
            State::Waiting
        } else {
            h.heap.dodeltimer0();
            l.when = 0;
            l.key = 0;
            block.add(Counter::Fired, 1);
            State::Removed
        };
        h.heap.prefetch_next();
        l.set_stamp(0);
        // Relaxed: the anchor keeps the node; the count is read by those who lock it.
        #[cfg(not(gt_mutant = "run_without_reference"))]
        t.refs.fetch_add(1, Ordering::Relaxed);
        let mut call = Call {
            f,
            arg: l.arg,
            seq: l.seq,
            delay,
        };
        let mut boxed = None;
        if l.has(HAS_DROP) {
            // SAFETY: the timer is locked and has HAS_DROP, so `arg` is its box.
            let b = unsafe { ArgRef::from_field(l.arg) }.retain();
            call.arg = b.get().arg;
            boxed = Some(b);
        }
        l.unlock(next);
        block.note_lateness(delay);
        let context = s.host().current_context();
        self.link(Run {
            t,
            context,
            boxed,
            prev: std::ptr::null_mut(),
            next: std::ptr::null_mut(),
        });
        self.held = None; // unlocks the P
        call
    }

    fn unlock_and_run_timer(&mut self, t: TimerRef, l: Locked<'_>, now: i64) {
        let call = self.commit(t, l, now);
        self.s.host().assert_unlocked();
        // SAFETY: f and arg are the embedder's, given together; no lock of ours is held,
        // and if f throws, our drop ends the run and the pass.
        unsafe { (call.f)(call.arg, call.seq, call.delay) };
        self.end_run();
    }

    fn link(&mut self, run: Run) {
        let run: *mut Run = self.run.insert(run);
        let h = self.h();
        // SAFETY: the run stays where it is until end_run unlinks it; the list is ours
        // while we hold the lock, and all in it are alive.
        unsafe {
            (*run).next = h.runs;
            if !h.runs.is_null() {
                (*h.runs).prev = run;
            }
        }
        h.runs = run;
    }

    /// The callback has ended: drops its argument if it was the last to use it, takes the
    /// run off the P's list and locks the P again.
    fn end_run(&mut self) {
        let s = self.s;
        let Some(run) = self.run.as_mut() else { return };
        let (t, boxed, me) = (run.t, run.boxed, std::ptr::from_mut(run));
        if let Some(b) = boxed {
            b.release(s.host());
        }
        if t.flags() & DETACHED != 0 {
            end_detached(s, t);
        }
        let mut h = self.tm.lock(s);
        // SAFETY: linked by `link`, and still: only we unlink it (or a fork child, which
        // starts with an empty list and does not come here for lost threads).
        unsafe {
            let (prev, next) = ((*me).prev, (*me).next);
            if !next.is_null() {
                (*next).prev = prev;
            }
            if !prev.is_null() {
                (*prev).next = next;
            } else if h.runs == me {
                h.runs = next;
            }
        }
        self.held = Some(h);
        self.run = None;
        release_node(s, t);
    }
}

impl<S: Procs> Drop for Pass<'_, S> {
    fn drop(&mut self) {
        self.end_run(); // only if a callback threw
        let held = self.held.take();
        let mut h = match held {
            Some(h) => h,
            None => self.tm.lock(self.s),
        };
        h.end_pass();
        drop(h);
        self.s.pass_done(self.tm);
        self.s.unhold(self.tm);
    }
}

/// A detached timer's callback has ended. If nobody armed it again, it frees itself.
#[cold]
fn end_detached<S: Procs>(s: &S, t: TimerRef) {
    let mut l = t.lock(s.host());
    if l.state != State::Removed || l.has(FREED) {
        return l.put_back();
    }
    let boxed = super::modtimer::take_box(&mut l);
    l.set(FREED);
    s.raise_generation(t);
    l.unlock(State::Removed);
    release_node(s, t);
    if let Some(b) = boxed {
        b.release(s.host());
    }
}

/// The next time of a periodic timer (S8): phase is kept, what was missed is skipped.
fn next_tick(when: i64, period: i64, delay: i64) -> i64 {
    let periods = 1 + delay / period;
    period
        .checked_mul(periods)
        .and_then(|d| when.checked_add(d))
        .unwrap_or(MAX_WHEN)
}

/// In a fork child: takes the runs of lost threads off the P's list; `end_lost_runs`
/// finishes them when the lock is gone.
pub(crate) fn take_lost_runs<S: Procs>(
    h: &mut Held<'_, S>,
    mine: impl Fn(usize) -> bool,
) -> *mut Run {
    let (mut at, mut kept, mut lost) = (
        h.runs,
        std::ptr::null_mut::<Run>(),
        std::ptr::null_mut::<Run>(),
    );
    let mut passes = 0;
    // SAFETY: the list as it was at the fork; the lost threads' stacks are still mapped.
    while let Some(run) = unsafe { at.as_mut() } {
        let next = run.next;
        let list = if mine(run.context) {
            &mut kept
        } else {
            &mut lost
        };
        passes += mine(run.context) as u32;
        run.next = *list;
        run.prev = std::ptr::null_mut();
        // SAFETY: as above.
        if let Some(behind) = unsafe { run.next.as_mut() } {
            behind.prev = at;
        }
        *list = at;
        at = next;
    }
    h.runs = kept;
    h.set_passes_after_fork(passes);
    lost
}

/// The runs that take_lost_runs returned count as ended.
pub(crate) fn end_lost_runs<S: Procs>(s: &S, mut at: *mut Run) {
    // SAFETY: see take_lost_runs.
    while let Some(run) = unsafe { at.as_mut() } {
        at = run.next;
        if let Some(b) = run.boxed {
            b.release(s.host());
        }
        release_node(s, run.t);
    }
}

/// Go's runtimer for those who call it themselves: a pass of one timer.
/// `Ok(true)`: ran one. `Ok(false)` and the time of the first, or 0 if the heap is empty.
pub(crate) fn runtimer<S: Procs>(s: &S, tm: &Timers, now: i64) -> (bool, i64) {
    let mut pass = Pass::begin(s, tm, now);
    let step = pass.runtimer(now);
    let empty = matches!(step, Step::Empty) && pass.h().heap.total() == 0;
    if matches!(step, Step::Ran) {
        return (true, 0);
    }
    s.hold(tm);
    drop(pass);
    let first = if empty { 0 } else { tm.wake_time() };
    s.unhold(tm);
    (false, first)
}

/// Go's checkTimers: runs what is due on a P, judged against one `now` (0: the clock).
pub(crate) fn check_timers<S: Procs>(s: &S, tm: &Timers, now: i64) -> Checked {
    let now = if now == 0 { s.now() } else { now };
    let next = tm.wake_time();
    if (next == 0 || now < next) && !tm.owes_sweep() {
        // Nothing due and no clean-up owed: no lock is taken. (An fd that has gone off too
        // early is set again, or who polls it would spin.)
        s.pass_done(tm);
        return Checked {
            now,
            poll_until: next,
            ran: 0,
        };
    }
    s.hold(tm);
    let (ran, dead) = run_pass(s, tm, now);
    let poll_until = if dead { 0 } else { tm.wake_time() };
    s.unhold(tm);
    Checked {
        now,
        poll_until,
        ran,
    }
}

/// One pass: at most as many timers as the heap held at its start. Returns how many ran,
/// and whether the P died meanwhile.
fn run_pass<S: Procs>(s: &S, tm: &Timers, now: i64) -> (usize, bool) {
    let mut pass = Pass::begin(s, tm, now);
    let bound = pass.h().heap.len();
    let mut ran = 0;
    while ran < bound && !pass.h().dead {
        match pass.runtimer(now) {
            Step::Ran => ran += 1,
            Step::Empty | Step::NotYet => break,
        }
        if s.host().hooks().preempt_stop.is_some() {
            // The hook may call anything: not under the lock.
            pass.held = None;
            let stop = s.host().preempt_stop();
            pass.held = Some(tm.lock(s));
            if stop {
                break;
            }
        }
    }
    let dead = pass.h().dead;
    (ran, dead)
}
