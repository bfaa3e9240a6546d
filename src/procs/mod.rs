//! Ps and what is shared by them: the runtime's `p`, `allp`, `procresize`, `timerpMask`,
//! `timeSleepUntil`, `moveTimers` and `stealWork`'s part in timers.

mod adopt;
mod at_end;
mod blocked;
mod blocks;
mod bound;
mod bubble;
mod del_sync;
mod fd;
mod fork;
mod last;
mod lifetime;
mod live;
mod new_timer;
mod note;
mod p;
mod park;
mod registry;
mod runs;
mod sched;
mod slot;
mod synctest;
mod timed_fd;
mod tls;
mod virtual_time;
mod wait;

pub(crate) use adopt::adopt_timers;
pub(crate) use blocked::Waited;
pub(crate) use del_sync::deltimer_sync;
pub(crate) use fork::{after_fork, forked, register as register_for_fork};
#[cfg(feature = "checked")]
pub(crate) use fork::{is_p, is_sched};
pub(crate) use p::P;
pub(crate) use park::{Waiter, copied};
pub(crate) use registry::{check_others, p_free, p_new, time_sleep_until};
pub(crate) use sched::{Config, Sched, Stats};
pub(crate) use tls::{acquirep, current_p, hot, releasep};
