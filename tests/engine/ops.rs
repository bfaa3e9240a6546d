//! What can be done: the operations that tests/engine.rs makes at random, and fuzz/ from
//! bytes. They name timers and Ps by number, so that any sequence makes sense, and any part
//! of one too.

/// Which timer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sel {
    /// The one that is being called.
    Me,
    /// One of all that ever were, dead ones included.
    N(u8),
}

/// Which P, of those that live.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PSel {
    /// The one whose timer is being called.
    Mine,
    N(u8),
}

/// A time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// From the clock's time on; it may be in the past.
    In(i64),
    /// As it stands; 0 and below are refused.
    At(i64),
}

#[derive(Clone, Debug)]
pub(crate) enum How {
    Add,
    Reset,
    /// With another function, with a fresh argument, and what the callback does.
    Mod {
        f: bool,
        fresh: bool,
        act: Vec<Op>,
    },
    /// gt_modtimer with the f, arg, seq and period that the timer has, but for what is true here.
    Again {
        other_f: bool,
        fresh: bool,
        other_period: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stop {
    Del,
    Sync,
    Shutdown,
    Detach,
    Free,
    /// gt_timer_stop.
    Any,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    New {
        drop: bool,
    },
    /// gt_sched_after_func.
    AfterFunc {
        d: i64,
        drop: bool,
    },
    /// gt_sched_new_timer, gt_sched_new_ticker.
    NewChan {
        d: i64,
        ticker: bool,
    },
    Arm {
        t: Sel,
        how: How,
        when: When,
        period: i64,
        on: Option<PSel>,
        by_id: bool,
    },
    Stop {
        t: Sel,
        how: Stop,
        by_id: bool,
    },
    /// gt_timer_reset.
    Reset {
        t: Sel,
        d: i64,
        by_id: bool,
    },
    /// gt_timer_try_recv, or gt_timer_recv where that returns at once. In a bubble also
    /// where the clock must move first.
    Recv {
        t: Sel,
        by_id: bool,
        block: bool,
    },
    TimerFd {
        t: Sel,
    },
    Slack {
        t: Sel,
        ns: i64,
    },
    /// `now` is None: 0, which means the clock.
    Check {
        p: PSel,
        now: Option<When>,
    },
    RunTimer {
        p: PSel,
        now: Option<When>,
    },
    Others {
        me: Option<PSel>,
        now: Option<When>,
    },
    Adjust {
        p: PSel,
        now: Option<When>,
        force: bool,
    },
    Clean {
        p: PSel,
    },
    Trim {
        p: PSel,
    },
    Adopt {
        to: PSel,
        from: PSel,
    },
    PNew,
    PFree {
        p: PSel,
    },
    /// gt_p_fd: from now on it is looked at.
    PFd {
        p: PSel,
    },
    Bind {
        p: PSel,
    },
    Unbind,
    /// gt_notewakeup.
    Wakeup {
        p: PSel,
    },
    /// gt_notetsleep, which returns at once: its time has come.
    Nap {
        p: PSel,
    },
    /// gt_sched_set_time, from the clock's time on.
    SetTime(i64),
    /// gt_sched_advance.
    Advance(i64),
    /// gt_sched_run_until_idle.
    RunUntilIdle(i64),
    /// gt_synctest_join, _leave, _wait; gt_sched_sleep for those who have joined.
    Join,
    Leave,
    BubbleWait,
    Sleep(i64),
    /// A call that must be refused; see wrong.rs.
    Wrong(u8),
    /// The n-th allocation from now on fails, once.
    FailAlloc(u8),
    /// The preempt_stop hook ends the pass after the n-th callback from now on.
    StopPass(u8),
    /// gt_sched_free from a callback, with all Ps freed before. Nothing else comes after.
    Close,
}

/// What a sequence begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub ps: usize,
    pub timers: usize,
    /// Verify the heaps at each pass.
    pub verify: bool,
    /// Install the preempt_stop hook.
    pub preempt: bool,
    /// gt_config.slack.
    pub slack: i64,
}
