//! Operations on Ps.

use super::*;
use std::ffi::c_void;

impl World {
    pub(super) fn adopt(&self, to: usize, from: usize) {
        let want = self.armed_on(from);
        let before = self.armed_on(to);
        // SAFETY: live Ps.
        let got = unsafe { gt_adopt_timers(self.handle(to), self.handle(from)) };
        if to == from {
            return self.same("gt_adopt_timers", got.into(), &[GT_EINVAL.into()]);
        }
        if self.nomem(got.into()) {
            self.same("armed where they were", self.armed_on(from), &[want]);
            return;
        }
        self.same("gt_adopt_timers", got.into(), &[want]);
        self.same("armed where they are", self.armed_on(to), &[before + want]);
        self.m().move_all(from, to);
    }

    pub(super) fn p_new(&self) {
        if self.m().live_ps().len() >= PS {
            return;
        }
        // SAFETY: the sched lives.
        let handle = unsafe { gt_p_new(self.s) };
        if !self.made("gt_p_new", handle.is_null()) {
            return;
        }
        let mut m = self.m();
        let p = m.ps.len();
        m.ps.push(P {
            handle,
            alive: true,
            told: i64::MIN,
            fd: -1,
            note: false,
            userdata: 0,
        });
        m.move_all(ORPHANS, p);
        let (n, first) = (m.pending_on(p).count() as i64, m.earliest(p));
        let most = n + m.hidden;
        let woken = first.is_none_or(|e| e == MAX || m.woken.iter().any(|&(_, w)| w <= e));
        drop(m);
        let armed = self.armed_on(p);
        self.expect((n..=most).contains(&armed), || {
            format!("{armed} timers on the new P, not {n}..={most}")
        });
        self.expect(woken, || "the new P was not woken for its orphans".into());
    }

    pub(super) fn p_free(&self, p: usize) {
        let before = self.armed();
        let own = self.armed_on(p);
        // SAFETY: a live P, not used any more.
        let got = unsafe { gt_p_free(self.handle(p)) };
        if self.nomem(got.into()) {
            return self.same(
                "armed on the P that was not freed",
                self.armed_on(p),
                &[own],
            );
        }
        self.same("gt_p_free", got.into(), &[0]);
        let live = {
            let mut m = self.m();
            m.ps[p].alive = false;
            if m.bound == Some(p) {
                m.bound = None;
            }
            m.live_ps()
        };
        let to = before
            .iter()
            .find(|&&(to, n)| to != p && self.armed_on(to) == n + own);
        match to {
            _ if live.is_empty() => self.m().move_all(p, ORPHANS),
            Some(&(to, _)) => self.m().move_all(p, to),
            None => self.expect(false, || format!("where are the timers of P {p}?")),
        }
    }

    pub(super) fn p_fd(&self, p: usize) {
        // SAFETY: a live P.
        let got = unsafe { gt_p_fd(self.handle(p)) };
        let was = self.m().ps[p].fd;
        self.expect(got >= 0 && (was < 0 || was == got), || {
            format!("gt_p_fd: {got}, was {was}")
        });
        self.m().ps[p].fd = got;
        // Kept with the P, and not looked at.
        let mark = got as usize + 1;
        // SAFETY: a live P.
        let set = unsafe { gt_p_set_userdata(self.handle(p), mark as *mut c_void) };
        self.same("gt_p_set_userdata", set.into(), &[0]);
        self.m().ps[p].userdata = mark;
    }

    pub(super) fn bind(&self, p: usize) {
        let want = match self.m().bound {
            Some(b) if b != p => GT_EBUSY,
            _ => 0,
        };
        // SAFETY: a live P.
        let got = unsafe { gt_acquirep(self.handle(p)) };
        self.same("gt_acquirep", got.into(), &[want.into()]);
        if got == 0 {
            self.m().bound = Some(p);
        }
    }

    pub(super) fn unbind(&self) {
        let want = self.bound();
        let got = gt_releasep();
        self.expect(got == want, || {
            format!("gt_releasep: {got:p}, not {want:p}")
        });
        self.m().bound = None;
    }

    /// The P that this thread is bound to, or NULL.
    pub(super) fn bound(&self) -> *mut gt_p {
        let m = self.m();
        m.bound.map_or(std::ptr::null_mut(), |p| m.ps[p].handle)
    }

    pub(super) fn wakeup(&self, p: usize) {
        // SAFETY: a live P.
        let got = unsafe { gt_notewakeup(self.handle(p)) };
        self.same("gt_notewakeup", got.into(), &[0]);
        self.m().ps[p].note = true;
    }

    pub(super) fn nap(&self, p: usize) {
        let (clock, note) = self.see(|m| (m.clock, m.ps[p].note));
        // SAFETY: a live P.
        let got = unsafe { gt_notetsleep(self.handle(p), clock) };
        self.same("gt_notetsleep", got.into(), &[note.into()]);
        self.m().ps[p].note = false;
    }

    /// From a callback: frees all Ps, then the sched.
    pub(super) fn close(&self, me: Option<(usize, usize)>) {
        self.fail_alloc.set(0); // the Ps must go
        self.free_all_ps(me);
        if self.failed.borrow().is_some() {
            return;
        }
        // SAFETY: the sched lives, and is not used any more.
        self.same(
            "gt_sched_free",
            unsafe { gt_sched_free(self.s) }.into(),
            &[0],
        );
        let mut m = self.m();
        m.closed = true;
        for k in 0..m.timers.len() {
            m.stop(k);
            m.close_fd(k);
            let t = &mut m.timers[k];
            if t.detached() {
                t.alive = false;
            }
            let arg = t.arg;
            m.args[arg].held = false;
        }
    }
}
