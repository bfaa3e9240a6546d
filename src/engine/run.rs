//! `runtimer`, `unlockAndRunTimer` and `checkTimers` of runtime/time.go: taking due
//! timers off the heap and calling them with no lock held.

use super::adjust::{MOVES, adjusttimers, may_move, repair_head};
use super::heap::Entry;
use super::timer::{CHAN, DETACHED, FREED, Func, HAS_DROP, Locked, MAX_WHEN, State, TimerRef};
use super::timers::{Held, Timers};
use super::verify::{Rule, badtimer};
use super::{ArgRef, Counter, Procs, release_node, release_node_held, verify_timer_heap};
use crate::host::tsan;
use crate::sync::Ordering;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::compiler_fence;

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

/// Keeps a P, and with it the sched, until it is dropped; also when a callback throws.
pub(crate) struct Hold<'a, S: Procs> {
    s: &'a S,
    tm: &'a Timers,
}

impl<'a, S: Procs> Hold<'a, S> {
    pub(crate) fn new(s: &'a S, tm: &'a Timers) -> Self {
        s.hold(tm);
        Hold { s, tm }
    }

    /// For one who holds the P already: only gives it back.
    pub(crate) fn held(s: &'a S, tm: &'a Timers) -> Self {
        Hold { s, tm }
    }
}

impl<S: Procs> Drop for Hold<'_, S> {
    fn drop(&mut self) {
        self.s.unhold(self.tm);
    }
}

/// Stale heads that a pass repairs in one hold of the P's lock: each may lie far from the last.
const REPAIRS: usize = 32;

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

/// The call, with the embedder's ThreadSanitizer looking on.
///
/// # Safety
/// As for the call itself: f and arg belong together, and no lock of ours is held.
#[cold]
#[inline(never)]
unsafe fn call_watched(call: Call, t: TimerRef) {
    let _run = tsan::Callback::begin(t.runs());
    // SAFETY: the caller's promise.
    unsafe { (call.f)(call.arg, call.seq, call.delay) }
}

/// A pass over a P. Its drop ends the pass, whether the pass ran to its end or a
/// callback left by an exception. Who makes it holds the P.
struct Pass<'a, S: Procs> {
    s: &'a S,
    tm: &'a Timers,
    held: Option<Held<'a, S>>,
    /// The callback under way is linked into the P's list, from here.
    slot: &'a RunSlot,
    running: bool,
    /// Who runs the pass. Asked for with no lock held: it is a hook.
    context: usize,
}

/// Where a Run lies while the P's list points at it. Apart from the Pass, whose owner has
/// it exclusively; this is shared, under the P's lock.
struct RunSlot(UnsafeCell<MaybeUninit<Run>>);

impl RunSlot {
    fn new() -> Self {
        RunSlot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    fn as_ptr(&self) -> *mut Run {
        self.0.get().cast()
    }
}

impl<'a, S: Procs> Pass<'a, S> {
    fn begin(s: &'a S, tm: &'a Timers, now: i64, slot: &'a RunSlot) -> Self {
        let context = s.host().current_context();
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
            slot,
            running: false,
            context,
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
        let (mut repaired, mut moves) = (0, MOVES);
        let entries = self.h().heap.len();
        loop {
            let s = self.s;
            let h = self.h();
            if !may_move(h, 0, &mut moves) {
                h.let_others_in();
                moves = MOVES;
                continue;
            }
            if h.heap.len() == 0 {
                return Step::Empty;
            }
            let Entry { when, t } = h.heap.get(0);
            if t.state() == State::Waiting && (when > now || when == MAX_WHEN) {
                // Fast path: the key is guarded by the P's lock, though the timer is not.
                return Step::NotYet;
            }
            let l = t.lock(s.host());
            // Others may re-arm timers to later times as fast as we repair them. What is not
            // due by any of its times can wait for a later pass.
            let may_wait = when > now && (l.when == 0 || l.due() > now);
            match l.state {
                State::Modified if may_wait && repaired > entries => {
                    l.put_back();
                    return Step::NotYet;
                }
                State::Modified => {
                    repair_head(h, t, l);
                    repaired += 1;
                    if repaired % REPAIRS == 0 {
                        h.let_others_in();
                        moves = MOVES;
                    }
                }
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
        let early = now < l.key;
        if early || l.key != l.due() || !std::ptr::eq(l.home(s), h.tm) {
            s.block().add(Counter::Early, early as u64);
            badtimer(s, t, if early { Rule::Early } else { Rule::Key });
        }
        let delay = now - l.when;
        let counted = !l.has(CHAN) as u64;
        let block = s.block();
        let Some(f) = l.f else {
            badtimer(s, t, Rule::State)
        };
        let lag = h.scan.is_none();
        let next = if l.period > 0 {
            // Leave in the heap, at the next time of the same phase; missed ones are skipped.
            l.when = next_tick(l.when, l.period, delay);
            let key = l.due();
            l.key = key;
            h.heap.rekey0(key, lag);
            block.add(Counter::Ticks, counted);
            State::Waiting
        } else {
            h.heap.dodeltimer0(lag);
            l.when = 0;
            l.key = 0;
            block.add(Counter::Fired, counted);
            State::Removed
        };
        h.heap.prefetch_next();
        l.set_stamp(0);
        l.order_run();
        // While the anchor is the only reference nobody can change the count: it goes with the
        // entry, under our locks. Acquire: who waits for the runs reads the count that we store,
        // and must see what those did that have ended, on another P perhaps.
        if t.refs.load(Ordering::Acquire) == 1 {
            t.refs.store(2, Ordering::Relaxed);
        } else {
            t.refs.fetch_add(1, Ordering::Relaxed);
        }
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
        self.link(t, boxed);
        self.held = None; // unlocks the P
        call
    }

    fn unlock_and_run_timer(&mut self, t: TimerRef, l: Locked<'_>, now: i64) {
        let call = self.commit(t, l, now);
        self.s.host().assert_unlocked();
        self.s.host().before_call(now);
        // SAFETY: f and arg are the embedder's, given together; no lock of ours is held,
        // and if f throws, our drop ends the run and the pass.
        unsafe {
            if self.s.host().is_watched() {
                call_watched(call, t);
            } else {
                (call.f)(call.arg, call.seq, call.delay);
            }
        }
        self.end_run();
    }

    fn link(&mut self, t: TimerRef, boxed: Option<ArgRef>) {
        let run = self.slot.as_ptr();
        let context = self.context;
        let h = self.h();
        // SAFETY: the slot outlives the pass, which unlinks it before it ends; the list and
        // what is linked in it are ours while we hold the lock.
        unsafe {
            run.write(Run {
                t,
                context,
                boxed,
                prev: std::ptr::null_mut(),
                next: h.runs,
            });
            if !h.runs.is_null() {
                (*h.runs).prev = run;
            }
        }
        h.runs = run;
        self.running = true;
    }

    /// The callback has ended: drops its argument if it was the last to use it, takes the
    /// run off the P's list and locks the P again.
    fn end_run(&mut self) {
        if !self.running {
            return;
        }
        self.running = false;
        let s = self.s;
        let run = self.slot.as_ptr();
        // SAFETY: written by `link`. Others read t, context and the links only; the box is
        // ours, and taken before it is released, so that a fork child that loses us in
        // between does not release it too.
        let (t, boxed) = unsafe { ((*run).t, (*run).boxed.take()) };
        compiler_fence(Ordering::SeqCst);
        if let Some(b) = boxed {
            b.release(s.host());
        }
        self.context = s.host().current_context(); // a green thread may have moved
        let mut h = self.tm.lock(s);
        // SAFETY: linked by `link`, and still: only we unlink it (or a fork child, for
        // threads that it lost, which do not come here).
        unsafe {
            let (prev, next) = ((*run).prev, (*run).next);
            if !next.is_null() {
                (*next).prev = prev;
            }
            if !prev.is_null() {
                (*prev).next = next;
            } else if h.runs == run {
                h.runs = next;
            }
        }
        if t.flags() & DETACHED == 0 {
            self.held = Some(h);
            release_node_held(s, t);
        } else {
            drop(h); // the argument may be dropped, which is a callback
            end_detached(s, t);
            self.held = Some(self.tm.lock(s));
        }
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
    }
}

/// A detached timer's callback has ended, and gives its reference back. If it was the last
/// to run, and nobody armed the timer again, the timer frees itself.
#[cold]
fn end_detached<S: Procs>(s: &S, t: TimerRef) {
    let mut l = t.lock(s.host());
    // AcqRel: see release_node. With a handle or an entry, 1 is left.
    let left = t.refs.fetch_sub(1, Ordering::AcqRel) - 1;
    if l.has(FREED) {
        l.put_back();
        if left == 0 {
            s.give_back(t);
        }
        return;
    }
    if left > 1 || l.state != State::Removed {
        return l.put_back();
    }
    let boxed = super::lifetime::take_box(&mut l);
    super::lifetime::set_freed(s, t, &mut l);
    l.unlock(State::Removed);
    release_node(s, t);
    if let Some(b) = boxed {
        b.release(s.host());
    }
}

/// The next time of a periodic timer (S8): phase is kept, what was missed is skipped.
pub(crate) fn next_tick(when: i64, period: i64, delay: i64) -> i64 {
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
        if let Some(b) = run.boxed.take() {
            b.release(s.host());
        }
        if run.t.flags() & DETACHED != 0 {
            end_detached(s, run.t);
        } else {
            release_node(s, run.t);
        }
    }
}

/// Go's runtimer for those who call it themselves: a pass of one timer.
/// `Ok(true)`: ran one. `Ok(false)` and the time of the first, or 0 if the heap is empty.
pub(crate) fn runtimer<S: Procs>(s: &S, tm: &Timers, now: i64) -> (bool, i64) {
    let _hold = Hold::new(s, tm);
    let slot = RunSlot::new();
    let mut pass = Pass::begin(s, tm, now, &slot);
    if matches!(pass.runtimer(now), Step::Ran) {
        return (true, 0);
    }
    let empty = pass.h().heap.total() == 0;
    drop(pass);
    (false, if empty { 0 } else { tm.wake_time() })
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
            poll_until: never_is_0(next),
            ran: 0,
        };
    }
    let _hold = Hold::new(s, tm);
    let (ran, dead) = run_pass(s, tm, now);
    let poll_until = if dead { 0 } else { never_is_0(tm.wake_time()) };
    Checked {
        now,
        poll_until,
        ran,
    }
}

/// A P whose timers are all for the end of time need not be looked at again.
fn never_is_0(when: i64) -> i64 {
    if when == MAX_WHEN { 0 } else { when }
}

/// One pass: at most as many timers as the heap held at its start. Returns how many ran,
/// and whether the P died meanwhile.
fn run_pass<S: Procs>(s: &S, tm: &Timers, now: i64) -> (usize, bool) {
    let slot = RunSlot::new();
    let mut pass = Pass::begin(s, tm, now, &slot);
    let bound = pass.h().heap.len();
    let mut ran = 0;
    while ran < bound && !pass.h().dead && !s.host().is_over() {
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
