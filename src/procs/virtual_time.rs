//! The virtual clock goes from deadline to deadline.

use super::sched::Sched;
use super::{check_others, time_sleep_until};
use crate::engine::{MAX_WHEN, Procs};
use crate::error::{Error, Result};
use crate::host::Kind;

impl Sched {
    /// gt_sched_set_time: moves the virtual clock on.
    pub(crate) fn set_time(&self, now: i64) -> Result<()> {
        if self.clock().kind() != Kind::Virtual {
            return Err(Error::OpNotSupp);
        }
        if !self.clock().set_virtual(now) {
            return Err(Error::Inval);
        }
        self.registry.for_each_p(|p| {
            p.note.look_again();
            p.update_fd_now();
        });
        Ok(())
    }

    /// gt_sched_advance: moves the virtual clock to now + d, stopping at each deadline to
    /// run what is due there.
    pub(crate) fn advance(&self, d: i64) -> Result<bool> {
        if self.clock().kind() != Kind::Virtual {
            return Err(Error::OpNotSupp);
        }
        if d < 0 {
            return Err(Error::Inval);
        }
        let _keep = self.keep();
        let end = self.now().saturating_add(d);
        let mut any = false;
        while let Some(ran) = self.advance_to_next(end) {
            any |= ran;
        }
        let _ = self.set_time(end.max(self.now()));
        Ok(any)
    }

    /// gt_sched_run_until_idle: as advance, but the clock stays at the last deadline.
    pub(crate) fn run_until_idle(&self, limit: i64) -> Result<bool> {
        if self.clock().kind() != Kind::Virtual {
            return Err(Error::OpNotSupp);
        }
        if limit < 0 {
            return Err(Error::Inval);
        }
        let _keep = self.keep();
        let end = self.now().saturating_add(limit);
        let mut any = false;
        while let Some(ran) = self.advance_to_next(end) {
            any |= ran;
        }
        Ok(any)
    }

    /// Moves the virtual clock to the next deadline, if that is not after `end`, and runs
    /// what is due there. Returns whether anything ran; `None`: there is no such deadline.
    fn advance_to_next(&self, end: i64) -> Option<bool> {
        let next = time_sleep_until(self);
        if next == MAX_WHEN || next > end {
            return None;
        }
        // Another thread may have moved it further meanwhile: so much the better.
        let _ = self.set_time(next.max(self.now()));
        Some(check_others(self, None, self.now()).ran > 0)
    }
}
