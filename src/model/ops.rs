//! The table of operations, what each says it did, and what must hold when all have ended,
//! whatever they were.

use super::world::Mini;
use crate::engine::{
    Arm, MAX_WHEN, Procs, adjusttimers, check_timers, cleantimers, deltimer, detach, fast,
    modtimer, runtimer, set_slack, shutdown_timer, timer_free, timer_when, trim,
};
use crate::error::{Error, Result};
use crate::sync::os_yield;

/// Which timer, by its number; which P.
type T = usize;
type P = usize;

/// An operation. Those with a time have it last.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(gt_loom, allow(dead_code))]
pub(super) enum Op {
    /// gt_addtimer: refused if it is armed.
    Add(T, i64),
    /// The same by handle, the commonest case first.
    AddFast(T, i64),
    /// gt_modtimer by id.
    Mod(T, i64),
    /// The same, with a period of 7.
    Tick(T, i64),
    /// gt_modtimer by handle, the commonest case first.
    ModFast(T, i64),
    /// gt_modtimer by id, in a callback of the runtime that may go on for ever after that.
    ArmInCall(T, i64),
    Del(T),
    DelFast(T),
    /// gt_deltimer_sync, as far as it is the engine's: procs/wait.rs waits for the same, but
    /// also knows who would wait for himself.
    DelSync(T),
    Shutdown(T),
    Detach(T),
    Free(T),
    /// gt_timer_free by handle, the commonest case first.
    FreeFast(T),
    /// Slack of 64 ns: a pending arming gets later.
    Slack(T),
    /// Asks for the time of a timer: takes its lock and changes nothing.
    Look(T),
    Runtimer(P, i64),
    Check(P, i64),
    /// A forced adjusttimers.
    Adjust(P),
    AdjustDue(P, i64),
    Clean(P),
    Trim(P),
    /// All timers of the other P go to this one.
    Adopt(P),
    /// The other P dies, and this one takes its timers.
    FreeOther(P),
    /// gt_nobarrier_wake_time.
    Ask(P),
    /// gt_time_sleep_until.
    AskAll,
    /// A worker goes to wait.
    Poll,
    /// The clock comes to this time, and the timerfd goes off: somebody else is being woken.
    GoneOff(i64),
    /// The clock comes to this time, and perhaps the timerfd goes off: a worker is woken, by that
    /// or by what it stood at before, finds nothing that is due, and goes to wait again.
    Woken(i64),
    /// The same, but he makes a pass over this P, handing over before each callback. The last one
    /// may go on for ever. If nothing was due, he goes to wait.
    HandOver(P, i64),
}

/// What an operation says it did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Out {
    /// True: a pending arming was replaced.
    Armed(bool),
    /// True: a pending arming was stopped.
    Stopped(bool),
    /// It was refused.
    No,
    /// Whoever asked about these Ps sleeps until then (0: for ever), unless woken once more.
    Told {
        ps: &'static [P],
        until: i64,
        wakes: u32,
    },
    Nothing,
}

fn armed(r: Result<bool>) -> Out {
    match r {
        Ok(replaced) => Out::Armed(replaced),
        Err(Error::Stale | Error::Shutdown | Error::Already) => Out::No,
        Err(e) => panic!("{e:?}"),
    }
}

fn stopped(r: Result<bool>) -> Out {
    match r {
        Ok(stopped) => Out::Stopped(stopped),
        Err(Error::Stale) => Out::No,
        Err(e) => panic!("{e:?}"),
    }
}

impl Op {
    /// Does a handle die by it, or could it?
    pub(super) fn frees(self) -> bool {
        matches!(self, Op::Free(_) | Op::FreeFast(_) | Op::Detach(_))
    }

    /// Does it use a timer by its handle, which must be alive then?
    pub(super) fn by_handle(self) -> bool {
        matches!(
            self,
            Op::AddFast(..) | Op::ModFast(..) | Op::DelFast(_) | Op::DelSync(_) | Op::FreeFast(_)
        )
    }

    /// Has it to do with the runtime's poller?
    pub(super) fn polls(self) -> bool {
        matches!(
            self,
            Op::Poll | Op::GoneOff(_) | Op::Woken(_) | Op::HandOver(..) | Op::ArmInCall(..)
        )
    }

    /// Does it scan a heap for modified timers?
    pub(super) fn scans(self) -> bool {
        matches!(
            self,
            Op::Adjust(_) | Op::AdjustDue(..) | Op::Check(..) | Op::Runtimer(..) | Op::HandOver(..)
        )
    }

    pub(super) fn stops(self) -> bool {
        matches!(
            self,
            Op::Del(_)
                | Op::DelFast(_)
                | Op::DelSync(_)
                | Op::Shutdown(_)
                | Op::Free(_)
                | Op::FreeFast(_)
        )
    }

    /// Does it change the time of a timer in a heap?
    pub(super) fn modifies(self) -> bool {
        matches!(
            self,
            Op::Mod(..) | Op::ModFast(..) | Op::ArmInCall(..) | Op::Slack(_)
        )
    }

    pub(super) fn run(self, m: &Mini) -> Out {
        match self {
            Op::Add(i, when) => {
                let arm = Arm {
                    add: true,
                    ..Arm::at(when, 0)
                };
                let out = armed(modtimer(m, m.t(i), Some(1), None, &arm));
                assert_ne!(out, Out::Armed(true), "gt_addtimer of an armed timer");
                out
            }
            Op::AddFast(i, when) => {
                let arm = Arm {
                    add: true,
                    ..Arm::at(when, 0)
                };
                let t = m.t(i);
                let out = match fast::rearm_any::<Mini>(t, &arm)
                    .or_else(|| fast::insert::<Mini>(t, &arm))
                    .or_else(|| fast::rearm_any::<Mini>(t, &arm))
                {
                    Some(replaced) => Out::Armed(replaced != 0),
                    None => armed(modtimer(m, t, None, None, &arm)),
                };
                assert_ne!(out, Out::Armed(true), "gt_addtimer of an armed timer");
                out
            }
            Op::Mod(i, when) => armed(m.arm(i, when)),
            Op::ArmInCall(i, when) => m.as_worker(|| armed(m.arm(i, when))),
            Op::Tick(i, when) => {
                let arm = Arm::at(when, 7);
                armed(modtimer(m, m.t(i), Some(1), None, &arm))
            }
            Op::ModFast(i, when) => {
                let arm = Arm::at(when, 0);
                let t = m.t(i);
                match fast::rearm::<Mini>(t, &arm)
                    .or_else(|| fast::insert::<Mini>(t, &arm))
                    .or_else(|| fast::rearm_any::<Mini>(t, &arm))
                {
                    Some(replaced) => Out::Armed(replaced != 0),
                    None => armed(modtimer(m, m.t(i), None, None, &arm)),
                }
            }
            Op::Del(i) => stopped(deltimer(m, m.t(i), Some(1))),
            Op::DelFast(i) => match fast::stop::<Mini>(m.t(i)) {
                Some(stopped) => Out::Stopped(stopped),
                None => stopped(deltimer(m, m.t(i), None)),
            },
            Op::DelSync(i) => {
                let out = stopped(deltimer(m, m.t(i), None));
                while m.t(i).has_runs() {
                    os_yield();
                }
                out
            }
            Op::Shutdown(i) => stopped(shutdown_timer(m, m.t(i), Some(1))),
            Op::Detach(i) => match detach(m, m.t(i), Some(1)) {
                Ok(()) => Out::Nothing,
                Err(_) => Out::No,
            },
            Op::Free(i) => stopped(timer_free(m, m.t(i), Some(1))),
            Op::FreeFast(i) => {
                match fast::free::<Mini>(m.t(i)).or_else(|| fast::free_removed::<Mini>(m.t(i))) {
                    Some(stopped) => Out::Stopped(stopped),
                    None => stopped(timer_free(m, m.t(i), None)),
                }
            }
            Op::Slack(i) => match set_slack(m, m.t(i), Some(1), 64) {
                Ok(()) => Out::Nothing,
                Err(_) => Out::No,
            },
            Op::Look(i) => {
                let _ = timer_when(m, m.t(i), Some(1));
                Out::Nothing
            }
            Op::Runtimer(p, now) => {
                m.note_pass(now);
                runtimer(m, m.p_of(p), now);
                Out::Nothing
            }
            Op::Check(p, now) => {
                m.note_pass(now);
                check_timers(m, m.p_of(p), now);
                Out::Nothing
            }
            Op::Adjust(p) => {
                adjusttimers(&mut m.p_of(p).lock(m), 0, true);
                Out::Nothing
            }
            Op::AdjustDue(p, now) => {
                adjusttimers(&mut m.p_of(p).lock(m), now, false);
                Out::Nothing
            }
            Op::Clean(p) => {
                cleantimers(&mut m.p_of(p).lock(m));
                Out::Nothing
            }
            Op::Trim(p) => {
                trim(m, m.p_of(p));
                Out::Nothing
            }
            Op::Adopt(to) => {
                m.adopt(to, false);
                Out::Nothing
            }
            Op::FreeOther(to) => {
                m.adopt(to, true);
                Out::Nothing
            }
            Op::Ask(p) => {
                let ps: &[P] = if p == 0 { &[0] } else { &[1] };
                let wakes = m.wakes_of(ps);
                let until = m.p_of(p).wake_time();
                Out::Told { ps, until, wakes }
            }
            Op::AskAll => {
                let wakes = m.wakes_of(&[0, 1]);
                let until = match m.sleep_until() {
                    MAX_WHEN => 0,
                    w => w,
                };
                Out::Told {
                    ps: &[0, 1],
                    until,
                    wakes,
                }
            }
            Op::Poll => {
                m.arm_poller();
                Out::Nothing
            }
            Op::GoneOff(now) => {
                assert!(m.comes_to(now));
                Out::Nothing
            }
            Op::Woken(now) => {
                m.comes_to(now);
                m.gone_off();
                m.arm_poller();
                Out::Nothing
            }
            Op::HandOver(p, now) => {
                if m.comes_to(now) {
                    m.gone_off();
                }
                m.note_pass(now);
                if m.as_worker(|| check_timers(m, m.p_of(p), now).ran) == 0 {
                    m.arm_poller();
                }
                Out::Nothing
            }
        }
    }
}

/// The common end: heaps in order, armings accounted for, everybody told or woken, and then,
/// when all is wound up, nothing lost, each timer given back and each argument dropped once.
pub(super) fn end(m: &Mini, mut outs: Vec<Out>, with_drop: bool) {
    outs.extend(m.acts());
    let outs = &outs;
    m.check_swept();
    let alive = m.check() as i64;
    let count = |x: Out| outs.iter().filter(|&&o| o == x).count() as i64;
    let replaced = count(Out::Armed(true));
    let armed = count(Out::Armed(false)) + replaced;
    m.check_counts(armed, count(Out::Stopped(true)), replaced, alive);
    let pending = m.pending();
    for out in outs {
        let &Out::Told { ps, until, wakes } = out else {
            continue;
        };
        // Until a time that is past already nobody sleeps.
        let past = until != 0 && until <= m.latest();
        let earlier =
            |&&(p, when): &&(P, i64)| ps.contains(&p) && (until == 0 || when < until) && !past;
        if let Some((p, when)) = pending.iter().find(earlier) {
            assert!(
                m.wakes_of(ps) > wakes,
                "sleeps until {until}, P {p} has a timer at {when}, and nobody wakes him"
            );
        }
    }
    if m.has_poller() {
        // A time that is past already wakes them at once; and what a callback has put off is for
        // him who runs it, if it does not take too long.
        let first = pending.iter().map(|x| x.1).min().unwrap_or(MAX_WHEN);
        let until = first.max(m.now()).max(m.put_off());
        assert!(
            m.fd() <= until,
            "workers sleep until {}, not {until}",
            m.fd()
        );
    }
    m.wind_up(with_drop);
}
