//! Operations that run timers, or repair heaps, or move the clock.

use super::*;

/// Does this answer let the caller wait? MAX never comes, not even at MAX.
fn not_yet(until: i64, now: i64) -> bool {
    until == 0 || until > now || until == MAX
}

/// How far a call that moves the clock got.
pub(super) enum Done {
    No,
    Old,
    All,
}

pub(super) fn done_if(ok: bool, done: Done) -> Done {
    if ok { done } else { Done::No }
}

impl World {
    pub(super) fn too_deep(&self) -> bool {
        self.m().calls.len() >= DEPTH
    }

    fn begin(&self, now: i64, only: Option<usize>, skip: Option<usize>) {
        let mut m = self.m();
        m.calls.iter_mut().for_each(|c| c.loose = true);
        m.jumps += u64::from(now != 0);
        let (start, jumps) = (m.next(), m.jumps);
        let now = if now == 0 { m.clock } else { now };
        m.calls.push(Call {
            now,
            end: None,
            only,
            skip,
            start,
            ran: 0,
            at: only,
            at_start: start,
            visited: Vec::new(),
            loose: false,
            cut: false,
            stopped: None,
            jumps,
            driven: false,
        });
    }

    /// The call has returned: all that was due before it has run.
    fn finish(&self, all: bool) -> Call {
        let mut m = self.m();
        let Some(c) = m.calls.pop() else {
            unreachable!("begin was called")
        };
        let left = m.timers.iter().position(|t| {
            t.due(c.now)
                && t.armed.max(t.moved) < c.start
                && t.p
                    .is_some_and(|p| m.ps[p].alive && c.only.is_none_or(|o| o == p))
                && t.p != c.skip
        });
        let judged = all && !c.loose && !c.cut && !m.closed;
        drop(m);
        self.expect(!judged || left.is_none(), || {
            format!("timer {left:?} was due and has not run")
        });
        c
    }

    /// A call begins that moves the clock from deadline to deadline, up to `end`.
    /// `driven`: because all of the bubble wait, of which this thread is the only one.
    pub(super) fn begin_moving(&self, end: i64, driven: bool) {
        self.begin(0, None, None);
        let mut m = self.m();
        if let Some(c) = m.calls.last_mut() {
            (c.end, c.loose, c.driven) = (Some(end), true, driven);
        }
    }

    /// It has returned. `done`: it got to its end, and nothing is left that was due by then;
    /// nothing at all, or nothing that was armed before it began.
    pub(super) fn end_moving(&self, done: Done) -> Call {
        let mut c = self.finish(false);
        if self.m().closed {
            return c;
        }
        self.read_clock();
        let m = self.m();
        let (clock, all) = (m.clock, matches!(done, Done::All));
        self.expect(clock >= c.now, || format!("the clock went back to {clock}"));
        c.now = clock;
        let end = c.end.unwrap_or(clock);
        let left = m.timers.iter().position(|t| {
            t.due(end)
                && match done {
                    Done::No => false,
                    Done::All => true,
                    // At the last deadline a pass may have been cut short, and a sleeper
                    // woken for a time that a callback gave.
                    Done::Old => {
                        t.armed.max(t.moved) < c.start
                            && m.jumps == c.jumps
                            && !(c.cut && t.key() == end)
                    }
                }
        });
        // What an alarm has settled can be seen without asking.
        let silent = m.timers.iter().position(|t| {
            t.chan.is_some_and(|c| {
                let key = rounded(c.when, t.slack);
                let due = c.when != 0 && key <= end && key != MAX;
                c.fd >= 0 && due && !chans::readable(c.fd)
            })
        });
        let failed = self.alloc_failed.get();
        drop(m);
        self.expect(left.is_none(), || {
            format!("timer {left:?} was due and has not run")
        });
        self.m().jumps += 1; // for those around it
        c.jumps += 1;
        self.expect(!all || failed || silent.is_none(), || {
            format!("channel timer {silent:?} was due, and its fd is not readable")
        });
        c
    }

    fn read_clock(&self) {
        // SAFETY: the sched lives.
        self.m().clock = unsafe { gt_nanotime(self.s) };
    }

    /// A callback comes while the clock is being moved: what time is it?
    pub(super) fn follow_clock(&self) {
        let moving = self.m().calls.last().is_some_and(|c| c.end.is_some());
        if moving {
            self.read_clock();
        }
    }

    /// What a call that runs timers returned: 1 if it ran any.
    fn ran_any(&self, what: &str, got: i64, c: &Call) {
        let hidden = self.m().ever_hidden;
        self.expect(got == i64::from(c.ran > 0) || got == 1 && hidden, || {
            format!("{what}: got {got}, but {} ran", c.ran)
        });
    }

    /// Is `until`, which is 0 for never, right for a P with these deadlines?
    pub(super) fn check_until(&self, what: &str, until: i64, earliest: Option<i64>) {
        let ok = match earliest {
            None | Some(MAX) => until >= 0,
            Some(e) => until > 0 && until <= e,
        };
        self.expect(ok, || {
            format!("{what}: {until}, but the first is {earliest:?}")
        });
    }

    pub(super) fn check_timers(&self, p: usize, now: i64) {
        if self.too_deep() {
            return;
        }
        let h = self.handle(p);
        self.begin(now, Some(p), None);
        let (mut rnow, mut until) = (-1, -1);
        // SAFETY: a live P; two writable variables.
        let (all, got) = unsafe {
            (
                gt_p_num_timers(h),
                gt_check_timers(h, now, &mut rnow, &mut until),
            )
        };
        let c = self.finish(now >= 0);
        if now < 0 {
            return self.same("gt_check_timers", got.into(), &[GT_EINVAL.into()]);
        }
        self.ran_any("gt_check_timers", got.into(), &c);
        self.expect(c.ran as i64 <= all, || {
            format!("a pass over {all} timers ran {}", c.ran)
        });
        self.same("rnow", rnow, &[c.now]);
        if self.see(|m| m.closed || !m.ps[p].alive) {
            return;
        }
        let earliest = self.m().earliest(p);
        self.check_until("poll_until", until, earliest);
        self.expect(got > 0 || not_yet(until, c.now), || {
            format!("poll_until {until} is not after {}, but nothing ran", c.now)
        });
        let (fd, top, clock) = self.see(|m| (m.ps[p].fd, m.calls.is_empty(), m.clock));
        if fd >= 0 && top && got == 0 && c.now >= clock {
            let readable = chans::readable(fd);
            self.expect(!readable, || {
                format!("the fd of P {p} stays readable after a pass that ran nothing")
            });
        }
    }

    pub(super) fn runtimer(&self, p: usize, now: i64) {
        if self.too_deep() {
            return;
        }
        let earliest = self.m().earliest(p);
        self.begin(now, Some(p), None);
        // SAFETY: a live P.
        let got = unsafe { gt_runtimer(self.handle(p), now) };
        let c = self.finish(false);
        if now < 0 {
            return self.same("gt_runtimer", got, &[GT_EINVAL.into()]);
        }
        let (nested, hidden) = self.see(|m| (!m.calls.is_empty(), m.ever_hidden));
        self.expect(c.ran == u64::from(got == 0) || hidden && c.ran == 0, || {
            format!("gt_runtimer: {got}, but {} ran", c.ran)
        });
        match earliest {
            _ if got == 0 && hidden => {}
            Some(e) if e <= c.now && e != MAX => self.same("gt_runtimer", got, &[0]),
            // Within a pass, stopped timers may wait behind the heap for the next one.
            None if (nested || hidden) && got > 0 => {}
            None => self.same("gt_runtimer", got, &[-1]),
            Some(e) => {
                self.check_until("gt_runtimer", got, Some(e));
                self.expect(got > c.now || got == MAX, || {
                    format!("gt_runtimer: {got} is not later")
                });
            }
        }
    }

    pub(super) fn check_others(&self, skip: Option<usize>, now: i64) {
        if self.too_deep() {
            return;
        }
        self.begin(now, None, skip);
        let (mut rnow, mut until) = (-1, -1);
        let me = skip.map_or(std::ptr::null_mut(), |p| self.handle(p));
        // SAFETY: the sched lives, so does the P; two writable variables.
        let got = unsafe { gt_check_others(self.s, me, now, &mut rnow, &mut until) };
        let c = self.finish(now >= 0);
        if now < 0 {
            return self.same("gt_check_others", got.into(), &[GT_EINVAL.into()]);
        }
        self.steals.set(self.steals.get() + c.ran);
        self.ran_any("gt_check_others", got.into(), &c);
        self.same("rnow", rnow, &[c.now]);
        if got == 0 && !self.m().closed {
            let m = self.m();
            let others = (0..m.ps.len()).filter(|&p| m.ps[p].alive && Some(p) != skip);
            let earliest = others.filter_map(|p| m.earliest(p)).min();
            drop(m);
            self.check_until("poll_until of the others", until, earliest);
            self.expect(not_yet(until, c.now), || {
                format!("poll_until {until} is not after {}, but nothing ran", c.now)
            });
        }
    }

    pub(super) fn set_time(&self, d: i64) {
        let to = self.m().clock + d;
        let want = if d < 0 { GT_EINVAL } else { 0 };
        // SAFETY: the sched lives.
        let got = unsafe { gt_sched_set_time(self.s, to) };
        self.same("gt_sched_set_time", got.into(), &[want.into()]);
        let mut m = self.m();
        m.clock += d.max(0);
        m.jumps += 1;
    }

    pub(super) fn advance(&self, d: i64) {
        if self.too_deep() {
            return;
        }
        let end = self.m().clock.saturating_add(d.max(0));
        self.begin_moving(end, false);
        // SAFETY: the sched lives.
        let got = unsafe { gt_sched_advance(self.s, d) };
        let c = self.end_moving(done_if(d >= 0, Done::All));
        self.moved("gt_sched_advance", d, got.into(), &c);
        if !self.m().closed {
            let clock = self.m().clock;
            self.expect(clock >= end, || format!("advanced to {clock}, not {end}"));
        }
    }

    pub(super) fn run_until_idle(&self, limit: i64) {
        if self.too_deep() {
            return;
        }
        let end = self.m().clock.saturating_add(limit.max(0));
        self.begin_moving(end, false);
        // SAFETY: the sched lives.
        let got = unsafe { gt_sched_run_until_idle(self.s, limit) };
        let c = self.end_moving(done_if(limit >= 0, Done::All));
        self.moved("gt_sched_run_until_idle", limit, got.into(), &c);
        let m = self.m();
        let left = m.timers.iter().find(|t| t.due(end));
        self.expect(m.closed || limit < 0 || left.is_none(), || {
            "a timer is left within the limit".into()
        });
    }

    fn moved(&self, what: &str, d: i64, got: i64, c: &Call) {
        if d < 0 {
            return self.same(what, got, &[GT_EINVAL.into()]);
        }
        self.steals.set(self.steals.get() + c.ran);
        self.ran_any(what, got, c);
    }

    pub(super) fn adjust(&self, p: usize, now: i64, force: bool, whole: bool) {
        // SAFETY: a live P.
        let got = unsafe { gt_adjusttimers(self.handle(p), now, force.into()) };
        let want = if now < 0 { GT_EINVAL } else { 0 };
        self.same("gt_adjusttimers", got.into(), &[want.into()]);
        if got == 0 && force && whole {
            let n = self.m().timers.len();
            for k in (0..n).filter(|&k| self.t(k).p == Some(p)) {
                self.look(k);
                let status = self.t(k).status;
                self.expect(!self.t(k).alive || status != GT_TIMER_MODIFIED, || {
                    format!("timer {k} is Modified after gt_adjusttimers")
                });
            }
        }
    }

    pub(super) fn clean(&self, p: usize) {
        // SAFETY: a live P.
        let got = unsafe { gt_cleantimers(self.handle(p)) };
        self.same("gt_cleantimers", got.into(), &[0]);
    }

    pub(super) fn trim(&self, p: usize, whole: bool) {
        let h = self.handle(p);
        // SAFETY: a live P.
        let (dead, got, left) =
            unsafe { (gt_p_deleted_timers(h), gt_trim(h), gt_p_deleted_timers(h)) };
        if whole {
            self.same("gt_trim", got.into(), &[dead]);
            self.same("dead entries after gt_trim", left, &[0]);
        } else {
            // In a pass, some may be on their way to the next one.
            self.expect(i64::from(got) <= dead && got >= 0, || {
                format!("gt_trim: {got} of {dead}")
            });
        }
    }
}
