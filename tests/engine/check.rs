//! What is judged: each call of a callback as it comes, and after each operation all that
//! can be seen.

use super::*;

impl World {
    /// A callback.
    pub(super) fn fire(&self, f: bool, arg: usize, seq: usize, delay: i64) {
        if self.failed.borrow().is_some() {
            return;
        }
        self.follow_clock();
        let Some((k, p)) = self.fire_in_model(f, arg, seq, delay) else {
            return;
        };
        self.trace(|| format!("  timer {k} runs, {delay} late"));
        self.check();
        let act = self.m().acts[seq].clone();
        let fuel = self.m().fuel;
        self.m().fuel = fuel.saturating_sub(1);
        if fuel > 0 {
            for op in act.iter() {
                self.apply(op, Some((k, p)));
                self.check();
            }
        }
        let mut m = self.m();
        m.args[arg].runs -= 1;
        m.timers[k].runs -= 1;
        if m.timers[k].detached() && m.timers[k].when == 0 && m.timers[k].runs == 0 {
            m.free(k);
        }
    }

    /// Was this call due? Makes it in the model: the timer, and the P it is run from.
    fn fire_in_model(&self, f: bool, arg: usize, seq: usize, delay: i64) -> Option<(usize, usize)> {
        let mut m = self.m();
        let m = &mut *m;
        let k = m
            .timers
            .iter()
            .position(|t| t.arg == arg && t.chan.is_none());
        let (k, c) = match (k, m.calls.last_mut()) {
            (Some(k), Some(c)) => (k, c),
            _ => {
                self.expect(false, || format!("a call with arg {arg} out of nowhere"));
                return None;
            }
        };
        let t = &m.timers[k];
        let (key, when) = (t.key(), t.when);
        self.expect(t.f == f && t.seq == seq, || {
            format!(
                "timer {k}: called with f {f}, seq {seq}, not {}, {}",
                t.f, t.seq
            )
        });
        if c.end.is_some() {
            // The time of the pass, which is the clock's unless a callback has moved that.
            let now = when.wrapping_add(delay);
            let ok = now >= c.now && (now == m.clock || now < m.clock && m.jumps > c.jumps);
            self.expect(ok, || {
                format!("timer {k} called at {now}, but it is {}", m.clock)
            });
            c.now = now;
        }
        self.expect(t.alive && t.due(c.now), || {
            format!("timer {k} called at {}, but its time is {key}", c.now)
        });
        self.expect(c.now.wrapping_sub(when) == delay, || {
            format!("timer {k} called at {}, when {when}, delay {delay}", c.now)
        });
        self.expect(
            c.end.is_none_or(|end| c.now <= end || m.jumps > c.jumps),
            || format!("the clock was moved to {}, past {:?}", c.now, c.end),
        );
        let p = t.p?;
        if c.at != Some(p) {
            // The next P of gt_check_others.
            let again = c.end.is_none() && c.visited.contains(&p);
            self.expect(c.only.is_none() && c.skip != Some(p) && !again, || {
                format!("timer {k} of P {p} called from another P")
            });
            c.visited.push(p);
            (c.at, c.at_start) = (Some(p), m.serial + 1);
        }
        self.expect(c.end.is_some() || c.stopped != Some(p), || {
            format!("timer {k} called though preempt_stop had ended the pass")
        });
        self.expect(c.loose || t.armed < c.at_start, || {
            format!("timer {k} was armed during the pass that runs it")
        });
        let first = m
            .timers
            .iter()
            .filter(|t| t.p == Some(p) && t.due(c.now) && t.armed.max(t.moved) < c.at_start)
            .map(Timer::key)
            .min();
        let ok = c.loose || t.moved >= c.at_start || first == Some(key);
        self.expect(ok, || {
            format!("timer {k}, time {key}, was called before {first:?}")
        });
        c.ran += 1;
        let now = c.now;
        let t = &mut m.timers[k];
        t.runs += 1;
        m.args[arg].runs += 1;
        if t.period > 0 {
            t.when = chans::next_tick(when, t.period, now);
            t.status = GT_TIMER_WAITING;
            m.stats.ticks += 1;
        } else {
            t.when = 0;
            t.status = GT_TIMER_REMOVED;
            m.stats.fired += 1;
        }
        let bucket = self.other.bucket(delay);
        m.lateness.resize(m.lateness.len().max(bucket + 1), 0);
        m.lateness[bucket] += 1;
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
        if let Some(c) = t.chan {
            return self.look_at_chan(k, &t, c, status, when);
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

    fn look_at_chan(&self, k: usize, t: &Timer, mut c: Chan, status: i32, when: i64) {
        if t.shut {
            return self.same("gt_timer_when of a channel shut down", when, &[0]);
        }
        let (clock, receiving) = self.see(|m| (m.clock, m.receiving));
        if receiving == Some(k) {
            // This look has given the receiver his value, if its time has come: slack puts off
            // the alarm only. That stays until it goes off, and finds nothing to do.
            if c.when != 0 && c.when <= clock {
                let mut m = self.m();
                m.alarms_left.insert(k);
                if let Some(end) = m.calls.last_mut().and_then(|call| call.end.as_mut()) {
                    *end = clock.min(*end);
                }
            }
            return;
        }
        if c.fd < 0 {
            // In no heap, or with an entry that is dead.
            let mut want = vec![GT_TIMER_REMOVED.into(), GT_TIMER_MODIFIED.into()];
            if self.m().alarms_left.contains(&k) {
                want.push(GT_TIMER_WAITING.into());
            }
            self.same(
                "the state of a channel timer without an alarm",
                status.into(),
                &want,
            );
        }
        c.settle(clock);
        self.same(
            &format!("gt_timer_when of channel timer {k}"),
            when,
            &[c.when],
        );
        self.m().timers[k].chan = Some(c);
        self.look_at_fd(k, c, c);
    }

    /// A channel's descriptor is readable if there is a value, and only then: between what
    /// somebody has seen, and what is there to be seen.
    fn look_at_fd(&self, k: usize, seen: Chan, now: Chan) {
        if seen.fd >= 0 {
            let readable = chans::readable(seen.fd);
            let ok = if readable { now.value } else { -seen.value };
            self.expect(ok != 0 && readable || ok == 0 && !readable, || {
                format!("channel timer {k}: readable {readable}, {now:?}")
            });
        }
    }

    /// All timers; but who looks at a channel timer settles it, so that is done only now and
    /// then.
    fn look_at_all(&self) {
        let (n, checks, clock) = self.see(|m| {
            m.checks += 1;
            (m.timers.len(), m.checks, m.clock)
        });
        for k in 0..n {
            match self.t(k).chan {
                Some(c) if self.t(k).alive && (checks + k) % 4 != 0 => {
                    let mut now = c;
                    now.settle(clock);
                    self.look_at_fd(k, c, now);
                }
                _ => self.look(k),
            }
        }
    }

    /// Compares all that can be seen.
    pub(super) fn check(&self) {
        if self.failed.borrow().is_some() {
            return;
        }
        self.check_drops();
        if self.m().closed {
            return;
        }
        self.look_at_all();
        self.check_stats();
        let live = self.m().live_ps();
        for p in live {
            self.check_p(p);
        }
        self.m().woken.clear();
        // SAFETY: the sched lives.
        let (until, now, current) = unsafe {
            (
                gt_time_sleep_until(self.s),
                gt_nanotime(self.s),
                gt_current_p(),
            )
        };
        let (first, clock) = {
            let m = self.m();
            let funcs = m.timers.iter().filter(|t| t.when != 0).map(Timer::key);
            // What is handed to a receiver makes no fd readable, so his is not judged.
            let others = m.timers.iter().enumerate();
            let others = others.filter(|&(k, _)| m.receiving != Some(k));
            let chans = others.filter_map(|(_, t)| {
                let mut c = t.chan.filter(|c| c.fd >= 0)?;
                if chans::readable(c.fd) {
                    c.settle(m.clock); // the alarm has rung
                }
                Some(rounded(c.when, t.slack)).filter(|&w| w != 0)
            });
            let first = match self.alloc_failed.get() {
                false => funcs.chain(chans).min(),
                true => funcs.min(), // perhaps an alarm's
            };
            (first.unwrap_or(MAX), m.clock)
        };
        self.expect(until > 0 && until <= first, || {
            format!("gt_time_sleep_until {until}, but the first is {first}")
        });
        self.same("gt_nanotime", now, &[clock]);
        let bound = self.bound();
        self.expect(current == bound, || {
            format!("gt_current_p: {current:p}, not {bound:p}")
        });
        // SAFETY: the sched lives.
        let overdue = unsafe { gt_overdue(self.s, 0) };
        let late = if until == MAX {
            0
        } else {
            (clock - until).max(0)
        };
        self.same("gt_overdue", overdue, &[late]);
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

    fn check_stats(&self) {
        let got = self.stats();
        let m = self.m();
        let armed = |t: &&Timer| t.when != 0 || t.chan.is_some_and(|c| c.pending());
        let pending = m.timers.iter().filter(armed).count() as u64;
        let alive = m.timers.iter().filter(|t| t.alive).count() as u64;
        let runs = m.timers.iter().map(|t| u64::from(t.runs)).sum::<u64>();
        let want = &m.stats;
        // A sleeper's timer, and what is received in a bubble, count when they like.
        let asleep = m.calls.iter().filter(|c| c.driven).count() as u64;
        for (name, got, want) in [
            ("armed", got.armed, want.armed),
            ("fired", got.fired, want.fired),
            ("stopped", got.stopped, want.stopped),
            ("replaced", got.replaced, want.replaced),
            ("pending", got.pending, pending),
            ("ticks", got.ticks, want.ticks),
            ("wakes", got.wakes, want.wakes),
            ("early", got.early, 0),
            ("bytes", got.bytes, self.bytes.get()),
        ] {
            self.expect(got.abs_diff(want) <= asleep, || {
                format!("stats: {name} {got}, want {want}")
            });
        }
        let sum = got.fired + got.stopped + got.replaced + got.pending;
        self.same(
            "fired + stopped + replaced + pending",
            sum as i64,
            &[got.armed as i64],
        );
        let most = alive + got.zombies + runs + asleep;
        self.expect(got.timers >= alive && got.timers <= most, || {
            format!("stats: {} timers, want {alive}..={most}", got.timers)
        });
        let (nobody_runs, hidden) = (m.calls.is_empty(), m.ever_hidden);
        let lateness = m.lateness.clone();
        drop(m);
        if nobody_runs && !hidden {
            self.same("steals", got.steals as i64, &[self.steals.get() as i64]);
            let mut counts = vec![0; lateness.len()];
            // SAFETY: the sched lives; so many counts are writable.
            unsafe { gt_lateness_get(self.s, counts.as_mut_ptr(), counts.len()) };
            self.expect(counts == lateness, || {
                format!("lateness: {counts:?}, want {lateness:?}")
            });
        }
    }

    fn check_p(&self, p: usize) {
        let h = self.handle(p);
        // SAFETY: a live P.
        let (broken, wake, all, dead, userdata) = unsafe {
            (
                gt_verify_timer_heap(h),
                gt_nobarrier_wake_time(h),
                gt_p_num_timers(h),
                gt_p_deleted_timers(h),
                gt_p_userdata(h) as usize,
            )
        };
        self.same("gt_verify_timer_heap", broken.into(), &[0]);
        let (n, most, earliest, told, fd, marked, top, clock) = {
            let mut m = self.m();
            let told = std::mem::replace(&mut m.ps[p].told, if wake == 0 { MAX } else { wake });
            let n = m.pending_on(p).count() as i64;
            (
                n,
                n + m.hidden,
                m.earliest(p),
                told,
                m.ps[p].fd,
                m.ps[p].userdata,
                m.calls.is_empty(),
                m.clock,
            )
        };
        self.expect((n..=most).contains(&(all - dead)), || {
            format!("P {p} has {} armed timers, not {n}..={most}", all - dead)
        });
        self.expect(dead <= all / 4 + all / 64 + 16, || {
            format!("{dead} of {all} entries are dead")
        });
        self.check_until("gt_nobarrier_wake_time", wake, earliest);
        self.expect(userdata == marked, || format!("userdata of P {p}"));
        if fd >= 0 && top && earliest.is_some_and(|e| e <= clock && e != MAX) {
            self.expect(chans::readable(fd), || {
                format!("the fd of P {p} is not readable, though {earliest:?} is due")
            });
        }
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
