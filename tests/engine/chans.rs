//! Operations on timers with a channel, and the bubble's blocking calls.

use super::passes::{Done, done_if};
use super::*;

/// When a timer fires next that is looked at when it was due already.
pub(super) fn next_tick(when: i64, period: i64, now: i64) -> i64 {
    let n = 1 + i128::from(now - when) / i128::from(period);
    let next = i128::from(when) + i128::from(period) * n;
    next.min(MAX.into()) as i64
}

impl Chan {
    /// Armed, or fired and not received.
    pub(super) fn pending(&self) -> bool {
        self.when != 0 || self.value != 0
    }

    /// Somebody looks at `now`: has the time come?
    pub(super) fn settle(&mut self, now: i64) {
        if self.when != 0 && self.when != MAX && self.when <= now {
            if self.value == 0 {
                self.value = self.when;
            }
            self.when = match self.period {
                0 => 0,
                period => next_tick(self.when, period, now),
            };
        }
    }
}

pub(super) fn readable(fd: i32) -> bool {
    let mut fds = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd that lives through the call.
    unsafe { libc::poll(&mut fds, 1, 0) == 1 && fds.revents & libc::POLLIN != 0 }
}

impl World {
    pub(super) fn new_chan(&self, d: i64, ticker: bool) {
        if self.full() {
            return;
        }
        // SAFETY: the sched lives.
        let t = unsafe {
            if ticker {
                gt_sched_new_ticker(self.s, d)
            } else {
                gt_sched_new_timer(self.s, d)
            }
        };
        if ticker && d <= 0 {
            self.expect(t.is_null(), || "a ticker with d <= 0".into());
            return self.same("its error", gt_last_error().into(), &[GT_EINVAL.into()]);
        }
        if !self.made("a channel timer", t.is_null()) {
            return;
        }
        let chan = Chan {
            when: self.m().clock.saturating_add(d.max(0)),
            period: if ticker { d } else { 0 },
            value: 0,
            fd: -1,
        };
        let arg = self.new_arg();
        self.push(t, arg, Some(chan));
        self.m().stats.armed += 1;
    }

    pub(super) fn reset_chan(&self, k: usize, d: i64, by_id: bool) {
        let t = self.t(k);
        let Some(c) = t.chan else { return };
        // SAFETY: a live handle; the id may be any.
        let got = unsafe {
            if by_id || !t.by_handle {
                gt_timer_reset_id(self.s, t.id, d)
            } else {
                gt_timer_reset(t.handle, d)
            }
        };
        let refusal = match () {
            _ if !t.alive => GT_ESTALE,
            _ if t.shut => GT_ESHUTDOWN,
            _ if c.period != 0 && d <= 0 => GT_EINVAL,
            _ => 0,
        };
        if refusal != 0 {
            return self.same("gt_timer_reset", got.into(), &[refusal.into()]);
        }
        if self.nomem(got.into()) {
            return;
        }
        self.same("gt_timer_reset", got.into(), &[c.pending().into()]);
        let mut m = self.m();
        m.stats.armed += 1;
        m.stats.replaced += u64::from(c.pending());
        m.timers[k].chan = Some(Chan {
            when: m.clock.saturating_add(d.max(0)),
            period: if c.period == 0 { 0 } else { d },
            value: 0,
            fd: c.fd,
        });
    }

    pub(super) fn timer_fd(&self, k: usize) {
        let t = self.t(k);
        if !t.by_handle {
            return; // there is no twin by id
        }
        // SAFETY: a live handle.
        let got = unsafe { gt_timer_fd(t.handle) };
        let c = match t.chan {
            None => return self.same("gt_timer_fd", got.into(), &[GT_EINVAL.into()]),
            Some(_) if t.shut => {
                return self.same("gt_timer_fd", got.into(), &[GT_ESHUTDOWN.into()]);
            }
            Some(c) => c,
        };
        if self.nomem(got.into()) {
            return;
        }
        self.expect(got >= 0 && (c.fd < 0 || c.fd == got), || {
            format!("gt_timer_fd: {got}, was {}", c.fd)
        });
        let mut m = self.m();
        let clock = m.clock;
        if c.fd < 0 {
            (m.hidden, m.ever_hidden) = (m.hidden + 1, true);
            if let Some(c) = &mut m.timers[k].chan {
                c.fd = got;
                c.settle(clock);
            }
        }
    }

    pub(super) fn recv(&self, k: usize, by_id: bool, block: bool, outside: bool) {
        self.look(k);
        let t = self.t(k);
        let by_id = by_id || !t.by_handle;
        let refusal = match t.chan {
            _ if !t.alive => GT_ESTALE,
            None => GT_EINVAL,
            Some(_) if t.shut => GT_ESHUTDOWN,
            Some(_) => 0,
        };
        let mut sent = -7;
        let clock = self.m().clock;
        let mut c = t.chan;
        if let Some(c) = &mut c {
            c.settle(clock);
        }
        let value = c.map_or(0, |c| c.value);
        let waits = value == 0 && refusal == 0;
        let (joined, driven) = self.see(|m| (m.joined, m.driven()));
        if block && waits && joined && (outside || driven) {
            return self.recv_in_bubble(k, by_id, driven);
        }
        let block = block && !waits;
        let (s, h, id) = (self.s, t.handle, t.id);
        // SAFETY: a live handle, `sent` is writable; the id may be any.
        let got = unsafe {
            match (block, by_id) {
                (true, true) => gt_timer_recv_id(s, id, &mut sent),
                (true, false) => gt_timer_recv(h, &mut sent),
                (false, true) => gt_timer_try_recv_id(s, id, &mut sent),
                (false, false) => gt_timer_try_recv(h, &mut sent),
            }
        };
        if refusal != 0 {
            return self.same("gt_timer_recv", got.into(), &[refusal.into()]);
        }
        let got_one = value != 0 && !block;
        self.same("gt_timer_recv", got.into(), &[got_one.into()]);
        let want = if value == 0 { -7 } else { value };
        self.same("what was sent", sent, &[want]);
        let mut m = self.m();
        if let Some(c) = &mut c {
            m.received(c);
        }
        m.timers[k].chan = c;
    }

    /// Blocks, and so moves the clock: this thread is the only one of its bubble. The
    /// callbacks that come meanwhile do nothing.
    ///
    /// `driven`: this is such a callback itself. Then nobody can move the clock.
    fn recv_in_bubble(&self, k: usize, by_id: bool, driven: bool) {
        let t = self.t(k);
        let Some(c) = t.chan else { return };
        let for_ever = driven || c.when == 0 || c.when == MAX;
        let end = rounded(c.when, t.slack);
        let (clock, idle) = {
            let m = self.m();
            let armed = m.timers.iter().any(|t| t.when != 0 && t.key() != MAX);
            (m.clock, m.hidden == 0 && !armed)
        };
        let ends = if for_ever { idle } else { end - clock < 1000 };
        if !driven && !ends {
            return;
        }
        self.see(|m| {
            (m.fuel, m.receiving) = (0, Some(k));
            m.alarms_left.remove(&k)
        });
        self.hide(1);
        self.begin_moving(if for_ever { clock } else { end }, true);
        let mut sent = -7;
        // SAFETY: a live handle, `sent` is writable; the id may be any.
        let got = unsafe {
            if by_id {
                gt_timer_recv_id(self.s, t.id, &mut sent)
            } else {
                gt_timer_recv(t.handle, &mut sent)
            }
        };
        let failed = self.nomem(got.into());
        let call = self.end_moving(done_if(!for_ever && !failed, Done::Old));
        self.m().receiving = None;
        if !self.m().alarms_left.contains(&k) {
            self.hide(-1);
        }
        if for_ever || failed {
            let want = if failed { GT_ENOMEM } else { GT_EDEADLK };
            return self.same("gt_timer_recv for ever", got.into(), &[want.into()]);
        }
        self.same("gt_timer_recv", got.into(), &[0]);
        self.same("what was sent", sent, &[c.when]);
        let mut m = self.m();
        let end = call.end.unwrap_or(end);
        self.same("the clock", m.clock, &[end]);
        let mut c = c;
        c.settle(end);
        m.received(&mut c);
        m.timers[k].chan = Some(c);
    }

    /// gt_sched_sleep in a bubble of this thread alone: moves the clock.
    pub(super) fn sleep(&self, d: i64) {
        let (clock, slack) = self.see(|m| (m.clock, m.slack));
        let (joined, driven) = self.see(|m| (m.joined, m.driven()));
        if d > 0 && (!joined || self.too_deep()) {
            return; // somebody else would have to move the clock
        }
        let end = rounded(clock + d.max(0), slack);
        self.hide(1);
        self.begin_moving(end, d > 0);
        // SAFETY: the sched lives.
        let got = unsafe { gt_sched_sleep(self.s, d) };
        let failed = self.nomem(got.into());
        let done = done_if(d > 0 && !failed && !driven, Done::Old);
        let c = self.end_moving(done);
        self.hide(-1);
        if failed || self.m().closed {
            return;
        }
        if driven && d > 0 {
            self.see(|m| {
                (m.stats.armed, m.stats.stopped) = (m.stats.armed + 1, m.stats.stopped + 1)
            });
            return self.same("gt_sched_sleep", got.into(), &[GT_EDEADLK.into()]);
        }
        self.same("gt_sched_sleep", got.into(), &[0]);
        if d > 0 {
            let mut m = self.m();
            self.expect(m.clock >= end || m.jumps > c.jumps, || {
                format!("slept until {}, not {end}", m.clock)
            });
            m.stats.armed += 1;
            m.stats.fired += 1;
        }
    }

    pub(super) fn join(&self) {
        let want = if self.m().joined { GT_EBUSY } else { 0 };
        // SAFETY: the sched lives.
        let got = unsafe { gt_synctest_join(self.s) };
        self.same("gt_synctest_join", got.into(), &[want.into()]);
        self.m().joined = true;
    }

    pub(super) fn leave(&self) {
        let want = if self.m().joined { 0 } else { GT_EINVAL };
        // SAFETY: the sched lives.
        let got = unsafe { gt_synctest_leave(self.s) };
        self.same("gt_synctest_leave", got.into(), &[want.into()]);
        self.m().joined = false;
    }

    pub(super) fn bubble_wait(&self) {
        let (joined, clock) = self.see(|m| (m.joined, m.clock));
        self.begin_moving(clock, joined);
        // SAFETY: the sched lives.
        let got = unsafe { gt_synctest_wait(self.s) };
        let c = self.end_moving(done_if(joined, Done::All));
        self.steals.set(self.steals.get() + c.ran);
        if self.m().closed {
            return;
        }
        let want = if joined { 0 } else { GT_EINVAL };
        self.same("gt_synctest_wait", got.into(), &[want.into()]);
    }

    /// The library has so many more timers of its own.
    fn hide(&self, n: i64) {
        let mut m = self.m();
        (m.hidden, m.ever_hidden) = (m.hidden + n, true);
    }
}

impl Model {
    /// In a callback of the bubble, which this thread runs itself while it waits?
    fn driven(&self) -> bool {
        self.calls.iter().any(|c| c.driven)
    }

    /// The channel's value, if there is one, has been received.
    fn received(&mut self, c: &mut Chan) {
        if std::mem::take(&mut c.value) != 0 {
            if c.period == 0 {
                self.stats.fired += 1;
            } else {
                self.stats.ticks += 1;
            }
        }
    }
}
