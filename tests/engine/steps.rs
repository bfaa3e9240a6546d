//! The operations, each on the library and on the model.

use super::*;

/// Does this answer let the caller wait? MAX never comes, not even at MAX.
fn not_yet(until: i64, now: i64) -> bool {
    until == 0 || until > now || until == MAX
}

impl World {
    pub(super) fn new_timer(&self, drop: bool) {
        if self.m().timers.iter().filter(|t| t.alive).count() >= TIMERS {
            return;
        }
        let arg = self.new_arg();
        // SAFETY: f takes any arg; the timer lives.
        let (handle, id) = unsafe {
            let drop: gt_drop_func = if drop { Some(on_drop) } else { None };
            let t = gt_timer_new(self.s, func(false), arg as *mut c_void, drop);
            (t, gt_timer_id(t))
        };
        let mut m = self.m();
        let known = m.timers.iter().any(|t| t.id == id);
        (m.args[arg].given, m.args[arg].held) = (drop, drop);
        m.timers.push(Timer {
            handle,
            id,
            alive: true,
            by_handle: true,
            shut: false,
            arg,
            f: false,
            seq: 0,
            when: 0,
            period: 0,
            p: None,
            status: GT_TIMER_REMOVED,
            armed: 0,
            moved: 0,
            runs: 0,
        });
        self.expect(!handle.is_null() && id != 0 && !known, || {
            format!("gt_timer_new: {handle:p}, id {id:#x}")
        });
    }

    pub(super) fn arm(
        &self,
        k: usize,
        how: &How,
        when: i64,
        period: i64,
        on: Option<usize>,
        by_id: bool,
    ) {
        self.look(k);
        let t = self.t(k);
        let by_id = by_id || !t.by_handle;
        let on = on.filter(|_| !by_id);
        let mut refusals = Vec::new();
        for (bad, e) in [
            (when <= 0 || period < 0, GT_EINVAL),
            (!t.alive, GT_ESTALE),
            (t.alive && t.shut, GT_ESHUTDOWN),
            (t.when != 0 && matches!(how, How::Add), GT_EALREADY),
        ] {
            if bad {
                refusals.push(e.into());
            }
        }
        let (f, arg, seq) = match how {
            How::Mod { f, fresh, act } => {
                let seq = self.m().acts.len();
                self.m().acts.push(Rc::new(act.clone()));
                let arg = if *fresh { self.new_arg() } else { t.arg };
                (*f, arg, seq)
            }
            _ => (t.f, t.arg, t.seq),
        };
        let wakes = self.m().stats.wakes;
        let a = arg as *mut c_void;
        let (s, h, id) = (self.s, t.handle, t.id);
        // SAFETY: live handles; the id may be any.
        let got = unsafe {
            match (how, on.map(|p| self.handle(p))) {
                (How::Add, None) if by_id => gt_addtimer_id(s, id, when, period),
                (How::Add, None) => gt_addtimer(h, when, period),
                (How::Add, Some(p)) => gt_addtimer_on(p, h, when, period),
                (How::Reset, None) if by_id => gt_resettimer_id(s, id, when, period),
                (How::Reset, None) => gt_resettimer(h, when, period),
                (How::Reset, Some(p)) => gt_resettimer_on(p, h, when, period),
                (How::Mod { .. }, None) if by_id => {
                    gt_modtimer_id(s, id, when, period, func(f), a, seq)
                }
                (How::Mod { .. }, None) => gt_modtimer(h, when, period, func(f), a, seq),
                (How::Mod { .. }, Some(p)) => gt_modtimer_on(p, h, when, period, func(f), a, seq),
            }
        };
        if !refusals.is_empty() {
            return self.same("an arming that is refused", got.into(), &refusals);
        }
        let pending = t.when != 0;
        self.same(
            "an arming",
            got.into(),
            &[(pending && !matches!(how, How::Add)).into()],
        );
        if pending && when >= t.when {
            let more = self.m().stats.wakes - wakes;
            self.expect(more == 0, || {
                "a re-arm to later called the wake hook".into()
            });
        }
        let p = if t.status == GT_TIMER_REMOVED {
            self.place(on, &t)
        } else {
            t.p
        };
        let mut m = self.m();
        let armed = m.next();
        m.stats.armed += 1;
        m.stats.replaced += pending as u64;
        if arg != t.arg {
            let drop = m.args[t.arg].given;
            (m.args[arg].given, m.args[arg].held) = (drop, drop);
            m.args[t.arg].held = false;
        }
        let status = if t.status == GT_TIMER_REMOVED {
            GT_TIMER_WAITING
        } else {
            GT_TIMER_MODIFIED
        };
        m.timers[k] = Timer {
            arg,
            f,
            seq,
            when,
            period,
            p,
            status,
            armed,
            ..t
        };
    }

    /// Where a timer that was in no heap has gone.
    pub(super) fn place(&self, on: Option<usize>, t: &Timer) -> Option<usize> {
        let candidates = {
            let m = self.m();
            let live = m.live_ps();
            let last = t.p.filter(|&p| p != ORPHANS && m.ps[p].alive);
            match on.or(m.bound).or(last) {
                Some(p) => vec![p],
                None if live.is_empty() => vec![ORPHANS],
                None => live,
            }
        };
        let found = candidates.iter().copied().find(|&p| {
            let want = self.m().pending_on(p).count() as i64 + 1;
            self.armed_on(p) == want
        });
        self.expect(found.is_some(), || {
            format!("the timer went to none of the Ps {candidates:?}")
        });
        found
    }

    pub(super) fn stop(&self, k: usize, how: Stop, by_id: bool) {
        let t = self.t(k);
        let by_id = by_id || !t.by_handle;
        let (s, h, id) = (self.s, t.handle, t.id);
        // SAFETY: a live handle; the id may be any.
        let got = unsafe {
            match how {
                Stop::Del if by_id => gt_deltimer_id(s, id),
                Stop::Del => gt_deltimer(h),
                Stop::Sync if by_id => gt_deltimer_sync_id(s, id),
                Stop::Sync => gt_deltimer_sync(h),
                Stop::Shutdown if by_id => gt_shutdown_timer_id(s, id),
                Stop::Shutdown => gt_shutdown_timer(h),
                Stop::Detach if by_id => gt_timer_detach_id(s, id),
                Stop::Detach => gt_timer_detach(h),
                Stop::Free if by_id => gt_timer_free_id(s, id),
                Stop::Free => gt_timer_free(h),
            }
        };
        let pending = t.when != 0;
        let want = match how {
            _ if !t.alive => GT_ESTALE,
            Stop::Sync if t.runs > 0 => GT_EDEADLK,
            Stop::Detach => 0,
            _ => pending.into(),
        };
        self.same("a stop", got.into(), &[want.into()]);
        if !t.alive {
            return;
        }
        let mut m = self.m();
        match how {
            Stop::Detach if pending => m.timers[k].by_handle = false,
            Stop::Free | Stop::Detach => m.free(k),
            Stop::Shutdown if t.detached() => m.free(k),
            _ if pending && t.detached() => m.free(k),
            _ => m.stop(k),
        }
        if how == Stop::Shutdown {
            m.timers[k].shut = true;
            m.args[t.arg].held = false;
        }
        drop(m);
        if t.by_handle && t.runs > 0 && !self.t(k).by_handle {
            // In its own callback a dead handle is found out.
            // SAFETY: the call under way keeps the node from being used again.
            let got = unsafe { [gt_timer_free(h), gt_resettimer(h, MAX, 0)] };
            got.into_iter()
                .for_each(|got| self.same("a dead handle", got.into(), &[GT_ESTALE.into()]));
        }
    }

    pub(super) fn begin(&self, now: i64, only: Option<usize>, skip: Option<usize>) {
        let mut m = self.m();
        m.calls.iter_mut().for_each(|c| c.loose = true);
        let start = m.next();
        let now = if now == 0 { m.clock } else { now };
        m.calls.push(Call {
            now,
            only,
            skip,
            start,
            ran: 0,
            at: only,
            at_start: start,
            visited: Vec::new(),
            loose: false,
        });
    }

    /// The call has returned: all that was due before it has run.
    pub(super) fn finish(&self, all: bool) -> Call {
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
        drop(m);
        self.expect(!all || c.loose || left.is_none(), || {
            format!("timer {left:?} was due and has not run")
        });
        c
    }

    /// Is `until`, which is 0 for never, right for a P with these deadlines?
    pub(super) fn check_until(&self, what: &str, until: i64, earliest: Option<i64>) {
        let ok = match earliest {
            None => until >= 0,
            Some(i64::MAX) => until >= 0, // it never fires
            Some(e) => until > 0 && until <= e,
        };
        self.expect(ok, || {
            format!("{what}: {until}, but the first is {earliest:?}")
        });
    }

    pub(super) fn check_timers(&self, p: usize, now: i64) {
        let too_deep = self.m().calls.len() >= DEPTH;
        if too_deep {
            return;
        }
        self.begin(now, Some(p), None);
        let (mut rnow, mut until) = (-1, -1);
        // SAFETY: a live P; two writable variables.
        let got = unsafe { gt_check_timers(self.handle(p), now, &mut rnow, &mut until) };
        let c = self.finish(now >= 0);
        if now < 0 {
            return self.same("gt_check_timers", got.into(), &[GT_EINVAL.into()]);
        }
        self.same("gt_check_timers", got.into(), &[(c.ran > 0).into()]);
        self.same("rnow", rnow, &[c.now]);
        if self.m().ps[p].alive {
            let earliest = self.m().earliest(p);
            self.check_until("poll_until", until, earliest);
            self.expect(c.ran > 0 || not_yet(until, c.now), || {
                format!("poll_until {until} is not after {}, but nothing ran", c.now)
            });
        }
    }

    pub(super) fn runtimer(&self, p: usize, now: i64) {
        let too_deep = self.m().calls.len() >= DEPTH;
        if too_deep {
            return;
        }
        let earliest = self.m().earliest(p);
        self.begin(now, Some(p), None);
        // SAFETY: a live P.
        let got = unsafe { gt_runtimer(self.handle(p), now) };
        let c = self.finish(false);
        let nested = !self.m().calls.is_empty();
        match earliest {
            _ if now < 0 => self.same("gt_runtimer", got, &[GT_EINVAL.into()]),
            Some(e) if e <= c.now && e != MAX => {
                self.same("gt_runtimer", got, &[0]);
                self.expect(c.ran == 1, || format!("gt_runtimer ran {}", c.ran));
            }
            // Within a pass, stopped timers may wait behind the heap for the next one.
            None if nested && got > 0 => {}
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
        let too_deep = self.m().calls.len() >= DEPTH;
        if too_deep {
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
        self.same("gt_check_others", got.into(), &[(c.ran > 0).into()]);
        self.same("rnow", rnow, &[c.now]);
        if c.ran == 0 {
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

    pub(super) fn trim(&self, p: usize) {
        let h = self.handle(p);
        // SAFETY: a live P.
        let (dead, got, left) =
            unsafe { (gt_p_deleted_timers(h), gt_trim(h), gt_p_deleted_timers(h)) };
        self.same("gt_trim", got.into(), &[dead]);
        self.same("dead entries after gt_trim", left, &[0]);
    }

    pub(super) fn adopt(&self, to: usize, from: usize) {
        // SAFETY: live Ps.
        let got = unsafe { gt_adopt_timers(self.handle(to), self.handle(from)) };
        if to == from {
            return self.same("gt_adopt_timers", got.into(), &[GT_EINVAL.into()]);
        }
        let want = self.m().pending_on(from).count() as i64;
        self.same("gt_adopt_timers", got.into(), &[want]);
        self.m().move_all(from, to);
    }

    pub(super) fn p_new(&self) {
        if self.m().live_ps().len() >= PS {
            return;
        }
        // SAFETY: the sched lives.
        let handle = unsafe { gt_p_new(self.s) };
        self.expect(!handle.is_null(), || "gt_p_new returned NULL".into());
        let mut m = self.m();
        let p = m.ps.len();
        m.ps.push(P {
            handle,
            alive: true,
            told: i64::MIN,
        });
        m.move_all(ORPHANS, p);
        let (n, first) = (m.pending_on(p).count() as i64, m.earliest(p));
        let woken = first.is_none_or(|e| e == MAX || m.woken.iter().any(|&(_, w)| w <= e));
        drop(m);
        self.same("timers of the new P", self.armed_on(p), &[n]);
        self.expect(woken, || "the new P was not woken for its orphans".into());
    }

    pub(super) fn p_free(&self, p: usize) {
        let before: Vec<_> = {
            let m = self.m();
            (0..m.ps.len())
                .map(|p| m.pending_on(p).count() as i64)
                .collect()
        };
        // SAFETY: a live P, not used any more.
        let got = unsafe { gt_p_free(self.handle(p)) };
        self.same("gt_p_free", got.into(), &[0]);
        let live = {
            let mut m = self.m();
            m.ps[p].alive = false;
            if m.bound == Some(p) {
                m.bound = None;
            }
            m.live_ps()
        };
        let live = if live.is_empty() { vec![ORPHANS] } else { live };
        let to = live
            .iter()
            .find(|&&to| self.armed_on(to) == before[to] + before[p]);
        match to {
            Some(&to) => self.m().move_all(p, to),
            None => self.expect(false, || format!("where are the timers of P {p}?")),
        }
    }
}
