//! What is judged: each call of a callback as it comes, and after each operation all that
//! can be seen.

use super::*;

impl World {
    /// A callback.
    pub(super) fn fire(&self, f: bool, arg: usize, seq: usize, delay: i64) {
        if self.failed.borrow().is_some() {
            return;
        }
        let Some((k, p)) = self.fire_in_model(f, arg, seq, delay) else {
            return;
        };
        self.check();
        let act = self.m().acts[seq].clone();
        for op in act.iter() {
            self.apply(op, Some((k, p)));
            self.check();
        }
        let mut m = self.m();
        m.args[arg].runs -= 1;
        m.timers[k].runs -= 1;
        if m.timers[k].detached() && m.timers[k].when == 0 {
            m.free(k);
        }
    }

    /// Was this call due? Makes it in the model: the timer, and the P it is run from.
    pub(super) fn fire_in_model(
        &self,
        f: bool,
        arg: usize,
        seq: usize,
        delay: i64,
    ) -> Option<(usize, usize)> {
        let mut m = self.m();
        let m = &mut *m;
        let k = m.timers.iter().position(|t| t.arg == arg);
        let (k, c) = match (k, m.calls.last_mut()) {
            (Some(k), Some(c)) => (k, c),
            _ => {
                self.expect(false, || format!("a call with arg {arg} out of nowhere"));
                return None;
            }
        };
        let t = &m.timers[k];
        self.expect(t.f == f && t.seq == seq, || {
            format!(
                "timer {k}: called with f {f}, seq {seq}, not {}, {}",
                t.f, t.seq
            )
        });
        self.expect(t.alive && t.due(c.now), || {
            format!("timer {k} called at {}, but its when is {}", c.now, t.when)
        });
        self.expect(c.now.wrapping_sub(t.when) == delay, || {
            format!(
                "timer {k} called at {}, when {}, delay {delay}",
                c.now, t.when
            )
        });
        let p = t.p?;
        if c.at != Some(p) {
            // The next P of gt_check_others.
            let ok = c.only.is_none() && c.skip != Some(p) && !c.visited.contains(&p);
            self.expect(ok, || format!("timer {k} of P {p} called from another P"));
            c.visited.push(p);
            (c.at, c.at_start) = (Some(p), m.serial + 1);
        }
        self.expect(c.loose || t.armed < c.at_start, || {
            format!("timer {k} was armed during the pass that runs it")
        });
        let first = m
            .timers
            .iter()
            .filter(|t| t.p == Some(p) && t.due(c.now) && t.armed.max(t.moved) < c.at_start)
            .map(|t| t.when)
            .min();
        let ok = c.loose || t.moved >= c.at_start || first == Some(t.when);
        self.expect(ok, || {
            format!("timer {k}, when {}, was called before {first:?}", t.when)
        });
        c.ran += 1;
        let now = c.now;
        let t = &mut m.timers[k];
        t.runs += 1;
        m.args[arg].runs += 1;
        if t.period > 0 {
            let n = 1 + i128::from(now - t.when) / i128::from(t.period);
            let next = i128::from(t.when) + i128::from(t.period) * n;
            t.when = next.min(MAX.into()) as i64;
            t.status = GT_TIMER_WAITING;
            m.stats.ticks += 1;
        } else {
            t.when = 0;
            t.status = GT_TIMER_REMOVED;
            m.stats.fired += 1;
        }
        Some((k, p))
    }

    /// Looks at one timer: `when` is the model's; the state may only have changed as the
    /// heap's owner changes it.
    pub(super) fn look(&self, k: usize) {
        let t = self.t(k);
        // SAFETY: a live handle; the id may be any.
        let (status, when) = unsafe {
            if t.by_handle {
                (gt_timer_status(t.handle), gt_timer_when(t.handle))
            } else {
                (
                    gt_timer_status_id(self.s, t.id),
                    gt_timer_when_id(self.s, t.id),
                )
            }
        };
        if !t.alive {
            self.same("the state of a dead id", status.into(), &[GT_ESTALE.into()]);
            return self.same("gt_timer_when of a dead id", when, &[GT_ESTALE.into()]);
        }
        self.expect(when == t.when, || {
            format!("timer {k}: gt_timer_when {when}, want {}", t.when)
        });
        let repaired = match (t.status, t.when) {
            (GT_TIMER_MODIFIED, 0) => GT_TIMER_REMOVED,
            (GT_TIMER_MODIFIED, _) => GT_TIMER_WAITING,
            (s, _) => s,
        };
        self.expect(status == t.status || status == repaired, || {
            format!("timer {k}: state {status}, was {}", t.status)
        });
        self.m().timers[k].status = status;
    }

    /// Compares all that can be seen.
    pub(super) fn check(&self) {
        if self.failed.borrow().is_some() {
            return;
        }
        let n = self.m().timers.len();
        (0..n).for_each(|k| self.look(k));
        self.check_drops();
        self.check_stats();
        let live = self.m().live_ps();
        for p in live {
            self.check_p(p);
        }
        self.m().woken.clear();
        // SAFETY: the sched lives.
        let until = unsafe { gt_time_sleep_until(self.s) };
        let first = self
            .m()
            .timers
            .iter()
            .map(|t| t.when)
            .filter(|&w| w != 0)
            .min();
        self.expect(until > 0 && until <= first.unwrap_or(MAX), || {
            format!("gt_time_sleep_until {until}, but the first is {first:?}")
        });
    }

    pub(super) fn check_drops(&self) {
        let m = self.m();
        let wrong = m.args.iter().position(|a| {
            let want = a.given && !a.held && a.runs == 0;
            a.dropped != u32::from(want)
        });
        if let Some(a) = wrong {
            let n = m.args[a].dropped;
            drop(m);
            self.expect(false, || format!("arg {a} was dropped {n} times"));
        }
    }

    pub(super) fn check_stats(&self) {
        let got = self.stats();
        let m = self.m();
        let pending = m.timers.iter().filter(|t| t.when != 0).count() as u64;
        let alive = m.timers.iter().filter(|t| t.alive).count() as u64;
        let runs = m.timers.iter().map(|t| u64::from(t.runs)).sum::<u64>();
        let want = &m.stats;
        for (name, got, want) in [
            ("armed", got.armed, want.armed),
            ("fired", got.fired, want.fired),
            ("stopped", got.stopped, want.stopped),
            ("replaced", got.replaced, want.replaced),
            ("pending", got.pending, pending),
            ("ticks", got.ticks, want.ticks),
            ("wakes", got.wakes, want.wakes),
            ("early", got.early, 0),
        ] {
            self.expect(got == want, || format!("stats: {name} {got}, want {want}"));
        }
        let sum = got.fired + got.stopped + got.replaced + got.pending;
        self.same(
            "fired + stopped + replaced + pending",
            sum as i64,
            &[got.armed as i64],
        );
        let most = alive + got.zombies + runs;
        self.expect(got.timers >= alive && got.timers <= most, || {
            format!("stats: {} timers, want {alive}..={most}", got.timers)
        });
        let nobody_runs = m.calls.is_empty();
        drop(m);
        if nobody_runs {
            self.same("steals", got.steals as i64, &[self.steals.get() as i64]);
        }
    }

    pub(super) fn check_p(&self, p: usize) {
        let h = self.handle(p);
        // SAFETY: a live P.
        let (broken, wake, all, dead) = unsafe {
            (
                gt_verify_timer_heap(h),
                gt_nobarrier_wake_time(h),
                gt_p_num_timers(h),
                gt_p_deleted_timers(h),
            )
        };
        self.same("gt_verify_timer_heap", broken.into(), &[0]);
        let (n, earliest, told) = {
            let mut m = self.m();
            let told = std::mem::replace(&mut m.ps[p].told, if wake == 0 { MAX } else { wake });
            (m.pending_on(p).count() as i64, m.earliest(p), told)
        };
        self.same("armed timers of a P", all - dead, &[n]);
        self.expect(dead <= all / 4 + all / 64 + 16, || {
            format!("{dead} of {all} entries are dead")
        });
        self.check_until("gt_nobarrier_wake_time", wake, earliest);
        // Who was told a later time must have been woken (S12).
        let ok = wake == 0
            || wake >= told
            || self
                .m()
                .woken
                .iter()
                .any(|&(q, w)| q == Some(p) && w <= wake);
        self.expect(ok, || {
            format!("P {p}: told {told}, now {wake}, and the wake hook was not called")
        });
    }
}
