//! The naive model of the library, and the real thing beside it: each operation is made on
//! both, and then all that can be seen is compared. Callbacks come through here too: the
//! model says whether the call was due, and does what the callback does.
//!
//! | file | what |
//! |---|---|
//! | ops.rs, decode.rs | the operations, and how they are made from bytes (fuzz/) |
//! | world.rs | the model's state; how a sequence is played |
//! | timers.rs, chans.rs, passes.rs, ps.rs | the operations, on both |
//! | wrong.rs | calls that must be refused |
//! | check.rs | what is compared |
//! | hooks.rs | what the library calls |

mod chans;
mod check;
mod hooks;
pub(crate) mod ops;
mod passes;
mod ps;
mod timers;
mod wrong;

use gotimer::*;
use ops::*;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeSet;
use std::rc::Rc;

const MAX: i64 = GT_MAX_WHEN;
/// Timers and Ps that live, at most.
const TIMERS: usize = 150;
const PS: usize = 3;
/// Calls of callbacks within each other, at most.
const DEPTH: usize = 3;
/// After so many callbacks in one operation they do nothing any more: else those that arm
/// themselves for now could go on for ever.
const FUEL: u32 = 200;
/// The model's P 0: the timers that no P owns.
pub(super) const ORPHANS: usize = 0;

/// Go's channel timer, as it would be with nothing lazy about it but when it is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chan {
    /// When it fires next; 0: stopped, or fired.
    when: i64,
    /// 0: no ticker.
    period: i64,
    /// What can be received. 0: nothing.
    value: i64,
    /// -1: none was asked for. From then on its alarm is in a heap, and settles it whenever
    /// that P is looked at.
    fd: i32,
}

#[derive(Clone)]
pub(super) struct Timer {
    handle: *mut gt_timer,
    id: u64,
    /// Not freed.
    alive: bool,
    /// The handle may be used: neither freed nor detached.
    by_handle: bool,
    shut: bool,
    arg: usize,
    /// Which of the two functions.
    f: bool,
    seq: usize,
    /// 0: not armed. Always 0 for a channel timer.
    when: i64,
    period: i64,
    chan: Option<Chan>,
    slack: i64,
    /// The P it is on, or was on last; none at first.
    p: Option<usize>,
    /// The state it was seen in last.
    status: i32,
    /// Serial numbers of its last arming, and of its last move to another P.
    armed: u64,
    moved: u64,
    /// Calls under way.
    runs: u32,
}

/// `when` rounded up to a multiple of the greatest power of two in `slack`.
pub(super) fn rounded(when: i64, slack: i64) -> i64 {
    let unit = 1i64 << slack.max(1).ilog2();
    match when % unit {
        0 => when,
        rest => when.checked_add(unit - rest).unwrap_or(when),
    }
}

impl Timer {
    fn detached(&self) -> bool {
        self.alive && !self.by_handle
    }

    /// The time that it is fired by; 0: not armed.
    fn key(&self) -> i64 {
        rounded(self.when, self.slack)
    }

    fn due(&self, now: i64) -> bool {
        self.when != 0 && self.key() <= now && self.key() != MAX
    }
}

#[derive(Clone, Default)]
pub(super) struct Arg {
    /// The library was given it, with a drop function.
    pub(super) given: bool,
    /// A timer can still be called with it.
    held: bool,
    pub(super) runs: u32,
    pub(super) dropped: u32,
}

pub(super) struct P {
    pub(super) handle: *mut gt_p,
    pub(super) alive: bool,
    /// What somebody who asked for its wake time was told; MAX: never.
    told: i64,
    /// -1: not asked for.
    fd: i32,
    /// Somebody called gt_notewakeup.
    note: bool,
    userdata: usize,
}

/// A call of something that runs timers, under way.
pub(super) struct Call {
    now: i64,
    /// The clock may move: up to here.
    end: Option<i64>,
    /// The P; none for gt_check_others and what is made of it.
    only: Option<usize>,
    /// The P that gt_check_others passes over.
    skip: Option<usize>,
    start: u64,
    ran: u64,
    /// The P whose pass is under way, since when, and those that have been visited.
    pub(super) at: Option<usize>,
    at_start: u64,
    visited: Vec<usize>,
    /// Other passes began meanwhile: order and completeness are not judged.
    loose: bool,
    /// preempt_stop has ended a pass.
    pub(super) cut: bool,
    /// The P whose pass that was, if it is known.
    pub(super) stopped: Option<usize>,
    /// Model::jumps at its start.
    jumps: u64,
    /// The clock is moved because all of the bubble wait.
    driven: bool,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) timers: Vec<Timer>,
    pub(super) args: Vec<Arg>,
    acts: Vec<Rc<Vec<Op>>>,
    pub(super) ps: Vec<P>,
    bound: Option<usize>,
    pub(super) calls: Vec<Call>,
    clock: i64,
    serial: u64,
    pub(super) stats: gt_stats,
    /// Wake hooks since the last look: which P (none: one that is being made), how early.
    pub(super) woken: Vec<(Option<usize>, i64)>,
    pub(super) stop_pass: Option<u8>,
    /// gt_config.slack.
    slack: i64,
    /// Timers of the library's own that may be in heaps: alarms of channel timers, and that
    /// of a sleeper. What they do cannot be seen, so some things are judged less strictly.
    hidden: i64,
    /// There was one, ever.
    ever_hidden: bool,
    /// The channel timer that is being received from, blocked.
    receiving: Option<usize>,
    /// Channel timers that may have an alarm though nobody waits for them.
    alarms_left: BTreeSet<usize>,
    /// Joined the bubble.
    joined: bool,
    /// How often a callback moved the clock, or ran timers for a time that it gave.
    jumps: u64,
    fuel: u32,
    /// Counts of callbacks by lateness.
    lateness: Vec<u64>,
    /// gt_sched_free was called.
    closed: bool,
    /// How often all was compared.
    checks: usize,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn live_ps(&self) -> Vec<usize> {
        (1..self.ps.len()).filter(|&p| self.ps[p].alive).collect()
    }

    fn pending_on(&self, p: usize) -> impl Iterator<Item = &Timer> {
        self.timers
            .iter()
            .filter(move |t| t.when != 0 && t.p == Some(p))
    }

    fn earliest(&self, p: usize) -> Option<i64> {
        self.pending_on(p).map(Timer::key).min()
    }

    /// All timers that are armed on one P are on another one now.
    fn move_all(&mut self, from: usize, to: usize) {
        let serial = self.next();
        for t in &mut self.timers {
            if t.when != 0 && t.p == Some(from) {
                (t.p, t.moved) = (Some(to), serial);
            }
        }
    }

    /// The pending arming ends by a stop.
    fn stop(&mut self, k: usize) {
        let t = &mut self.timers[k];
        if t.when != 0 {
            self.stats.stopped += 1;
            t.when = 0;
            t.status = GT_TIMER_MODIFIED;
        }
        if let Some(c) = &mut t.chan {
            self.stats.stopped += u64::from(c.pending());
            (c.when, c.value) = (0, 0);
        }
    }

    fn free(&mut self, k: usize) {
        self.stop(k);
        self.close_fd(k);
        let t = &mut self.timers[k];
        (t.alive, t.by_handle) = (false, false);
        self.args[t.arg].held = false;
    }

    fn close_fd(&mut self, k: usize) {
        if let Some(c) = &mut self.timers[k].chan
            && c.fd >= 0
        {
            c.fd = -1;
            self.hidden -= 1;
        }
    }
}

pub(crate) struct World {
    pub(super) s: *mut gt_sched,
    m: RefCell<Model>,
    failed: RefCell<Option<String>>,
    steals: Cell<u64>,
    /// What is played, for hooks that cannot return.
    pub(super) story: (String, Setup, Vec<Op>),
    /// For the alloc hook: which allocation fails (1: the next one), whether one ever has,
    /// and what has been given out.
    pub(super) fail_alloc: Cell<u8>,
    pub(super) alloc_failed: Cell<bool>,
    pub(super) bytes: Cell<u64>,
    other: wrong::Other,
    tracing: bool,
}

impl World {
    /// Plays a sequence. What is wrong, if anything. `replay` says how to do it again.
    pub(crate) fn run(setup: Setup, ops: &[Op], replay: &str) -> Result<(), String> {
        let host = hooks::hooks(setup.preempt);
        // SAFETY: zero is a valid value, and says "default" throughout.
        let mut config: gt_config = unsafe { std::mem::zeroed() };
        config.size = size_of::<gt_config>();
        config.host = &host;
        config.clock = GT_CLOCK_VIRTUAL;
        config.verify = setup.verify.into();
        config.lateness = 1;
        config.slack = setup.slack;
        let mut w = Box::new(World {
            s: std::ptr::null_mut(),
            m: RefCell::default(),
            failed: RefCell::default(),
            steals: Cell::new(0),
            story: (replay.into(), setup, ops.to_vec()),
            fail_alloc: Cell::new(0),
            alloc_failed: Cell::new(false),
            bytes: Cell::new(0),
            other: wrong::Other::new(),
            tracing: std::env::var_os("GOTIMER_TRACE").is_some(),
        });
        hooks::set_world(&raw const *w);
        // SAFETY: the structs live through the call.
        w.s = unsafe { gt_sched_new(&config) };
        let w: &World = &w;
        hooks::set_world(w);
        {
            let mut m = w.m();
            m.clock = GT_VIRTUAL_EPOCH;
            m.slack = setup.slack;
            m.acts.push(Rc::default());
            m.ps.push(P {
                handle: std::ptr::null_mut(),
                alive: true,
                told: i64::MIN,
                fd: -1,
                note: false,
                userdata: 0,
            });
        }
        (0..setup.ps).for_each(|_| w.apply(&Op::PNew, None));
        (0..setup.timers).for_each(|i| w.apply(&Op::New { drop: i % 2 == 0 }, None));
        for (i, op) in ops.iter().enumerate() {
            w.m().fuel = FUEL;
            w.apply(op, None);
            w.check();
            if let Some(why) = w.failed.borrow_mut().as_mut() {
                *why = format!("operation {i}, {op:?}:\n{why}");
                break;
            }
        }
        if w.failed.borrow().is_none() {
            w.end();
        }
        w.leave_thread();
        hooks::set_world(std::ptr::null());
        let failed = w.failed.borrow_mut().take();
        match failed {
            None => Ok(()),
            Some(why) => Err(why), // the sched is lost: it may be in any state
        }
    }

    /// Takes back what the thread keeps.
    fn leave_thread(&self) {
        gt_releasep();
        if self.see(|m| m.joined && !m.closed) {
            // SAFETY: the sched lives, or is lost with all that is in it.
            unsafe { gt_synctest_leave(self.s) };
        }
    }

    /// Frees all, and looks for what is left.
    fn end(&self) {
        self.fail_alloc.set(0);
        self.other.end(self);
        let closed = self.m().closed;
        if !closed {
            self.leave();
            self.free_all_ps(None);
            // SAFETY: the sched lives.
            self.same(
                "gt_sched_free",
                unsafe { gt_sched_free(self.s) }.into(),
                &[0],
            );
        }
        let n = self.m().timers.len();
        for k in 0..n {
            let t = self.t(k);
            if t.by_handle {
                // SAFETY: the handle stays valid for this.
                let (when, free) = unsafe { (gt_timer_when(t.handle), gt_timer_free(t.handle)) };
                self.same("gt_timer_when at the end", when, &[GT_ESHUTDOWN.into()]);
                self.same("gt_timer_free at the end", free.into(), &[0]);
            }
            self.m().free(k);
        }
        self.check_drops();
        self.same("bytes left at the end", self.bytes.get() as i64, &[0]);
    }

    /// All Ps are freed, one after the other. `me` as for `apply`.
    pub(super) fn free_all_ps(&self, me: Option<(usize, usize)>) {
        loop {
            let first = self.m().live_ps().first().copied();
            let Some(p) = first.filter(|_| self.failed.borrow().is_none()) else {
                break;
            };
            self.p_free(p);
            self.expect(!self.m().ps[p].alive, || format!("P {p} lives on"));
            if me.is_none() {
                self.check();
            }
        }
    }

    /// GOTIMER_TRACE=1 in the environment: says what happens, as it happens.
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.tracing {
            eprintln!("{}", what());
        }
    }

    pub(super) fn m(&self) -> RefMut<'_, Model> {
        self.m.borrow_mut()
    }

    /// A look at the model. (With `m`, twice in one statement would be once too often.)
    pub(super) fn see<R>(&self, f: impl FnOnce(&mut Model) -> R) -> R {
        f(&mut self.m())
    }

    fn t(&self, k: usize) -> Timer {
        self.m().timers[k].clone()
    }

    /// Panics may not cross the library: the first thing that is wrong is kept.
    pub(super) fn expect(&self, ok: bool, why: impl FnOnce() -> String) {
        if !ok && self.failed.borrow().is_none() {
            *self.failed.borrow_mut() = Some(why());
        }
    }

    pub(super) fn same(&self, what: &str, got: i64, want: &[i64]) {
        self.expect(want.contains(&got), || {
            format!("{what}: got {got}, want one of {want:?}")
        });
    }

    /// Is this GT_ENOMEM, because an allocation was made to fail? Then nothing has changed.
    pub(super) fn nomem(&self, got: i64) -> bool {
        got == GT_ENOMEM.into() && self.alloc_failed.get()
    }

    fn p_of(&self, p: PSel, me: Option<(usize, usize)>) -> Option<usize> {
        let m = self.m();
        let live = m.live_ps();
        match (p, me) {
            _ if live.is_empty() => None,
            (PSel::Mine, Some((_, p))) if m.ps[p].alive && p != ORPHANS => Some(p),
            (PSel::Mine, _) => live.first().copied(),
            (PSel::N(n), _) => Some(live[n as usize % live.len()]),
        }
    }

    pub(super) fn handle(&self, p: usize) -> *mut gt_p {
        self.m().ps[p].handle
    }

    fn new_arg(&self) -> usize {
        let mut m = self.m();
        m.args.push(Arg::default());
        m.args.len() - 1
    }

    fn time(&self, when: When) -> i64 {
        match when {
            When::In(d) => self.m().clock.saturating_add(d),
            When::At(t) => t,
        }
    }

    fn stats(&self) -> gt_stats {
        let mut s = gt_stats {
            size: size_of::<gt_stats>(),
            ..gt_stats::default()
        };
        // SAFETY: the sched lives; s is writable.
        let got = unsafe { gt_stats_get(self.s, &mut s) };
        self.same("gt_stats_get", got.into(), &[0]);
        s
    }

    /// Armed timers on a P, as the library counts them.
    fn armed_on(&self, p: usize) -> i64 {
        let h = self.handle(p);
        // SAFETY: a live P.
        unsafe { gt_p_num_timers(h) - gt_p_deleted_timers(h) }
    }

    /// The same for all live Ps.
    fn armed(&self) -> Vec<(usize, i64)> {
        let live = self.m().live_ps();
        live.into_iter().map(|p| (p, self.armed_on(p))).collect()
    }

    /// Does an operation on both sides. `me`: the timer that is being called, and its P.
    fn apply(&self, op: &Op, me: Option<(usize, usize)>) {
        if self.failed.borrow().is_some() || self.m().closed {
            return;
        }
        self.trace(|| format!("{}{op:?}", if me.is_some() { "    " } else { "" }));
        let n = self.m().timers.len();
        let sel = |t: &Sel| match (t, me) {
            (Sel::Me, Some((k, _))) => k,
            (Sel::Me, None) => 0,
            (Sel::N(i), _) => *i as usize % n,
        };
        let p_of = |p: &PSel| self.p_of(*p, me);
        let now = |now: &Option<When>| now.map_or(0, |w| self.time(w));
        match op {
            Op::New { drop } => self.new_timer(*drop),
            Op::AfterFunc { d, drop } => self.after_func(*d, *drop),
            Op::NewChan { d, ticker } => self.new_chan(*d, *ticker),
            Op::Arm {
                t,
                how,
                when,
                period,
                on,
                by_id,
            } if n > 0 => {
                let on = on.as_ref().and_then(p_of);
                self.arm(sel(t), how, self.time(*when), *period, on, *by_id);
            }
            Op::Stop { t, how, by_id } if n > 0 => self.stop(sel(t), *how, *by_id),
            Op::Reset { t, d, by_id } if n > 0 => self.reset(sel(t), *d, *by_id),
            Op::Recv { t, by_id, block } if n > 0 => {
                self.recv(sel(t), *by_id, *block, me.is_none());
            }
            Op::TimerFd { t } if n > 0 => self.timer_fd(sel(t)),
            Op::Slack { t, ns } if n > 0 => self.set_slack(sel(t), *ns),
            Op::Arm { .. } | Op::Stop { .. } | Op::Reset { .. } => {}
            Op::Recv { .. } | Op::TimerFd { .. } | Op::Slack { .. } => {}
            Op::Others { me: p, now: n } => self.check_others(p.as_ref().and_then(p_of), now(n)),
            Op::PNew => self.p_new(),
            Op::Unbind => self.unbind(),
            Op::SetTime(d) => self.set_time(*d),
            Op::Advance(d) => self.advance(*d),
            Op::RunUntilIdle(d) => self.run_until_idle(*d),
            Op::Join => self.join(),
            Op::Leave if me.is_none() => self.leave(),
            Op::BubbleWait if me.is_none() => self.bubble_wait(),
            Op::Leave | Op::BubbleWait => {}
            Op::Sleep(d) => self.sleep(*d),
            Op::Wrong(n) => self.wrong(*n),
            Op::FailAlloc(n) => {
                self.fail_alloc.set(*n);
            }
            Op::StopPass(n) => self.m().stop_pass = Some((*n).max(1)),
            Op::Close if me.is_some() && !self.m().joined => self.close(me),
            Op::Close => {}
            Op::Adopt { to, from } => {
                if let (Some(to), Some(from)) = (p_of(to), p_of(from)) {
                    self.adopt(to, from);
                }
            }
            Op::Check { p, now: n } => self.with(p_of(p), |p| self.check_timers(p, now(n))),
            Op::RunTimer { p, now: n } => self.with(p_of(p), |p| self.runtimer(p, now(n))),
            Op::Adjust { p, now: n, force } => {
                self.with(p_of(p), |p| self.adjust(p, now(n), *force, me.is_none()));
            }
            Op::Clean { p } => self.with(p_of(p), |p| self.clean(p)),
            Op::Trim { p } => self.with(p_of(p), |p| self.trim(p, me.is_none())),
            Op::PFree { p } => self.with(p_of(p), |p| self.p_free(p)),
            Op::PFd { p } => self.with(p_of(p), |p| self.p_fd(p)),
            Op::Bind { p } => self.with(p_of(p), |p| self.bind(p)),
            Op::Wakeup { p } => self.with(p_of(p), |p| self.wakeup(p)),
            Op::Nap { p } => self.with(p_of(p), |p| self.nap(p)),
        }
    }

    fn with(&self, p: Option<usize>, f: impl FnOnce(usize)) {
        if let Some(p) = p {
            f(p);
        }
    }
}
