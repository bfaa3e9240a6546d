//! Operations on timers with a function.

use super::hooks::{func, on_drop};
use super::*;
use std::ffi::c_void;

impl World {
    pub(super) fn full(&self) -> bool {
        self.m().timers.iter().filter(|t| t.alive).count() >= TIMERS
    }

    /// A timer that the library has just given out; not armed.
    pub(super) fn push(&self, handle: *mut gt_timer, arg: usize, chan: Option<Chan>) -> usize {
        // SAFETY: the timer lives.
        let id = unsafe { gt_timer_id(handle) };
        let mut m = self.m();
        let known = m.timers.iter().any(|t| t.id == id);
        let slack = m.slack;
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
            chan,
            slack,
            p: None,
            status: GT_TIMER_REMOVED,
            armed: 0,
            moved: 0,
            runs: 0,
        });
        self.expect(id != 0 && !known, || format!("id {id:#x} of {handle:p}"));
        m.timers.len() - 1
    }

    /// NULL, because an allocation was made to fail?
    pub(super) fn made(&self, what: &str, null: bool) -> bool {
        if null {
            let e = gt_last_error();
            self.expect(self.nomem(e.into()), || format!("{what} gave NULL, {e}"));
        }
        !null
    }

    pub(super) fn new_timer(&self, drop: bool) {
        if self.full() {
            return;
        }
        let arg = self.new_arg();
        // SAFETY: f takes any arg.
        let t = unsafe { gt_timer_new(self.s, func(false), arg as *mut c_void, on_drop(drop)) };
        if self.made("gt_timer_new", t.is_null()) {
            self.push(t, arg, None);
            let mut m = self.m();
            (m.args[arg].given, m.args[arg].held) = (drop, drop);
        }
    }

    pub(super) fn after_func(&self, d: i64, drop: bool) {
        if self.full() {
            return;
        }
        let arg = self.new_arg();
        let before = self.armed();
        // SAFETY: f takes any arg.
        let t = unsafe {
            gt_sched_after_func(self.s, d, func(false), arg as *mut c_void, on_drop(drop))
        };
        if !self.made("gt_sched_after_func", t.is_null()) {
            return;
        }
        let k = self.push(t, arg, None);
        let p = self.place(None, &self.t(k), &before);
        let mut m = self.m();
        (m.args[arg].given, m.args[arg].held) = (drop, drop);
        m.stats.armed += 1;
        let (armed, when) = (m.next(), m.clock.saturating_add(d.max(0)));
        let t = &mut m.timers[k];
        (t.armed, t.when, t.p, t.status) = (armed, when, p, GT_TIMER_WAITING);
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
        let period = match how {
            How::Again { other_period, .. } if !other_period => t.period,
            _ => period,
        };
        let mut refusals = Vec::new();
        for (bad, e) in [
            (when <= 0 || period < 0, GT_EINVAL),
            (t.alive && t.chan.is_some(), GT_EINVAL),
            (!t.alive, GT_ESTALE),
            (t.alive && t.shut && t.chan.is_none(), GT_ESHUTDOWN),
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
            How::Again { other_f, fresh, .. } => {
                let arg = if *fresh { self.new_arg() } else { t.arg };
                (t.f != *other_f, arg, t.seq)
            }
            _ => (t.f, t.arg, t.seq),
        };
        let wakes = self.m().stats.wakes;
        let before = self.armed();
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
                (_, None) if by_id => gt_modtimer_id(s, id, when, period, func(f), a, seq),
                (_, None) => gt_modtimer(h, when, period, func(f), a, seq),
                (_, Some(p)) => gt_modtimer_on(p, h, when, period, func(f), a, seq),
            }
        };
        if !refusals.is_empty() {
            return self.same("an arming that is refused", got.into(), &refusals);
        }
        if self.nomem(got.into()) {
            return;
        }
        let pending = t.when != 0;
        let replaces = pending && !matches!(how, How::Add);
        self.same("an arming", got.into(), &[replaces.into()]);
        if arg != t.arg {
            let mut m = self.m();
            let drop = m.args[t.arg].given;
            (m.args[arg].given, m.args[arg].held) = (drop, drop);
            m.args[t.arg].held = false;
        }
        self.see(|m| {
            let t = &mut m.timers[k];
            (t.arg, t.f, t.seq) = (arg, f, seq);
        });
        self.armed_for(k, &t, when, period, on, &before, wakes);
    }

    /// An arming of timer `k`, which was `t` before, has succeeded.
    #[expect(clippy::too_many_arguments)]
    fn armed_for(
        &self,
        k: usize,
        t: &Timer,
        when: i64,
        period: i64,
        on: Option<usize>,
        before: &[(usize, i64)],
        wakes: u64,
    ) {
        let pending = t.when != 0;
        if pending && rounded(when, t.slack) >= t.key() {
            let more = self.m().stats.wakes - wakes;
            self.expect(more == 0, || {
                "a re-arm to later called the wake hook".into()
            });
        }
        let (p, status) = if t.status == GT_TIMER_REMOVED {
            (self.place(on, t, before), GT_TIMER_WAITING)
        } else {
            (t.p, GT_TIMER_MODIFIED)
        };
        let mut m = self.m();
        let armed = m.next();
        m.stats.armed += 1;
        m.stats.replaced += u64::from(pending);
        let t = &mut m.timers[k];
        (t.when, t.period, t.p, t.status, t.armed) = (when, period, p, status, armed);
    }

    /// Where a timer that was in no heap has gone: the P that has one more than `before`.
    fn place(&self, on: Option<usize>, t: &Timer, before: &[(usize, i64)]) -> Option<usize> {
        let candidates = {
            let m = self.m();
            let live = m.live_ps();
            let last = t.p.filter(|&p| p != ORPHANS && m.ps[p].alive);
            match on.or(m.bound).or(last) {
                Some(p) => vec![p],
                None if live.is_empty() => return Some(ORPHANS),
                None => live,
            }
        };
        let found = before
            .iter()
            .find(|&&(p, n)| candidates.contains(&p) && self.armed_on(p) == n + 1);
        self.expect(found.is_some(), || {
            format!("the timer went to none of the Ps {candidates:?}")
        });
        found.map(|&(p, _)| p)
    }

    pub(super) fn reset(&self, k: usize, d: i64, by_id: bool) {
        self.look(k);
        let t = self.t(k);
        if t.chan.is_some() {
            return self.reset_chan(k, d, by_id);
        }
        let by_id = by_id || !t.by_handle;
        let wakes = self.m().stats.wakes;
        let before = self.armed();
        // SAFETY: a live handle; the id may be any.
        let got = unsafe {
            if by_id {
                gt_timer_reset_id(self.s, t.id, d)
            } else {
                gt_timer_reset(t.handle, d)
            }
        };
        match () {
            _ if !t.alive => self.same("gt_timer_reset", got.into(), &[GT_ESTALE.into()]),
            _ if t.shut => self.same("gt_timer_reset", got.into(), &[GT_ESHUTDOWN.into()]),
            _ if self.nomem(got.into()) => {}
            _ => {
                self.same("gt_timer_reset", got.into(), &[(t.when != 0).into()]);
                let when = self.m().clock.saturating_add(d.max(0));
                self.armed_for(k, &t, when, 0, None, &before, wakes);
            }
        }
    }

    pub(super) fn set_slack(&self, k: usize, ns: i64) {
        let t = self.t(k);
        if !t.by_handle {
            return; // there is no twin by id
        }
        self.look(k);
        // SAFETY: a live handle.
        let got = unsafe { gt_timer_set_slack(t.handle, ns) };
        if ns < 0 || t.shut {
            let want = if ns < 0 { GT_EINVAL } else { GT_ESHUTDOWN };
            return self.same("gt_timer_set_slack", got.into(), &[want.into()]);
        }
        self.same("gt_timer_set_slack", got.into(), &[0]);
        let mut m = self.m();
        let armed = m.next();
        let t = &mut m.timers[k];
        t.slack = ns;
        if t.when != 0 {
            // As if it had been armed anew: in a pass, it is for the next one.
            (t.status, t.armed) = (GT_TIMER_MODIFIED, armed);
        }
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
                Stop::Any if by_id => gt_timer_stop_id(s, id),
                Stop::Any => gt_timer_stop(h),
            }
        };
        let engine = matches!(how, Stop::Del | Stop::Sync | Stop::Detach);
        let pending = t.when != 0 || t.chan.is_some_and(|c| c.pending());
        let want = match how {
            _ if !t.alive => GT_ESTALE,
            _ if t.chan.is_some() && engine => GT_EINVAL,
            Stop::Sync if t.runs > 0 => GT_EDEADLK,
            Stop::Detach => 0,
            _ => pending.into(),
        };
        self.same("a stop", got.into(), &[want.into()]);
        if !t.alive || want == GT_EINVAL {
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
            m.close_fd(k);
        }
        drop(m);
        if t.by_handle && t.runs > 0 && !self.t(k).by_handle {
            // In its own callback a dead handle is found out.
            // SAFETY: the call under way keeps the node from being used again.
            let got = unsafe {
                [
                    gt_timer_free(h),
                    gt_resettimer(h, MAX, 0),
                    gt_timer_set_slack(h, 1),
                    gt_timer_stop(h),
                ]
            };
            got.into_iter()
                .for_each(|got| self.same("a dead handle", got.into(), &[GT_ESTALE.into()]));
        }
    }
}
