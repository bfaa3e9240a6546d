//! gt_synctest_join, _leave, _wait: threads and the bubble of their sched.

use super::blocked::Waited;
use super::bubble::Clockwork;
use super::park::Waiter;
use super::sched::Sched;
use super::{check_others, fork::for_each_sched, time_sleep_until, tls};
use crate::engine::Procs;
use crate::error::{Error, Result};
use crate::host::{Host, Kind, acquire};

impl Clockwork for Sched {
    fn host(&self) -> &Host {
        Procs::host(self)
    }

    fn me(&self) -> usize {
        tls::here()
    }

    fn now(&self) -> i64 {
        Procs::now(self)
    }

    fn next(&self) -> i64 {
        time_sleep_until(self)
    }

    fn set_time(&self, now: i64) {
        // Another thread may have moved it further meanwhile: so much the better.
        let _ = Sched::set_time(self, now);
    }

    fn run_due(&self) {
        check_others(self, None, Procs::now(self));
    }

    fn passes(&self) -> u32 {
        let mut sum = 0;
        self.registry.for_each_slot(|p| sum += p.lock(self).passes);
        sum
    }
}

impl Sched {
    /// gt_synctest_join.
    pub(crate) fn synctest_join(&self) -> Result<()> {
        if self.clock().kind() != Kind::Virtual {
            return Err(Error::OpNotSupp);
        }
        let mine = &tls::hot().bubble;
        let mut busy = false;
        // Gone with its sched: then nobody can leave it any more.
        for_each_sched(|s| busy |= s.uid == mine.get() && !s.is_closed());
        if busy {
            return Err(Error::Busy);
        }
        mine.set(self.uid);
        self.bubble.enter();
        Ok(())
    }

    /// gt_synctest_leave.
    pub(crate) fn synctest_leave(&self) -> Result<()> {
        let mine = &tls::hot().bubble;
        if mine.get() != self.uid {
            return Err(Error::Inval);
        }
        mine.set(0);
        self.bubble.exit(self);
        Ok(())
    }

    /// gt_synctest_wait.
    pub(crate) fn synctest_wait(&self) -> Result<()> {
        if tls::hot().bubble.get() != self.uid {
            return Err(Error::Inval);
        }
        let w = Waiter::new();
        let mut busy = false;
        // A green thread is no member: the thread blocks.
        let waited = w.block(self, &mut || {
            busy = !self.bubble.ask(self, &w.sleeper);
            !busy
        });
        acquire(&raw const self.bubble);
        match waited {
            _ if busy => Err(Error::Busy),
            Waited::Woken => Ok(()),
            Waited::Deadlock => Err(Error::Deadlk),
        }
    }

    /// Does the calling thread block as one of the bubble's? Who leaves it runs callbacks as the driver.
    pub(super) fn is_member(&self) -> bool {
        let mine = tls::hot().bubble.get() == self.uid;
        mine || (self.clock().kind() == Kind::Virtual && self.bubble.is_driver(tls::here()))
    }

    /// In a fork child: only the calling thread is left.
    pub(super) fn forget_other_members(&self) {
        let member = tls::hot().bubble.get() == self.uid;
        self.bubble.forget_others(tls::here(), member);
    }
}
