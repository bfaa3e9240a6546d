//! Calls that must be refused, and change nothing: NULL, numbers out of range, what belongs
//! to another sched, ids that were never given out.

use super::hooks::func;
use super::*;
use std::ptr::null_mut;

/// Another sched, whose parts are no good for the world's.
pub(super) struct Other {
    s: *mut gt_sched,
    p: *mut gt_p,
    t: *mut gt_timer,
}

impl Other {
    pub(super) fn new() -> Self {
        // SAFETY: zero and the size are a valid config.
        unsafe {
            let mut config: gt_config = std::mem::zeroed();
            config.size = size_of::<gt_config>();
            config.clock = GT_CLOCK_VIRTUAL;
            let s = gt_sched_new(&config);
            Other {
                s,
                p: gt_p_new(s),
                t: gt_timer_new(s, func(false), null_mut(), None),
            }
        }
    }

    pub(super) fn end(&self, w: &World) {
        // SAFETY: made by `new`, and not used any more.
        unsafe {
            w.same("gt_timer_free, other", gt_timer_free(self.t).into(), &[0]);
            w.same("gt_p_free, other", gt_p_free(self.p).into(), &[0]);
            w.same("gt_sched_free, other", gt_sched_free(self.s).into(), &[0]);
        }
    }

    /// The bucket of the histogram that this lateness falls into.
    pub(super) fn bucket(&self, delay: i64) -> usize {
        (0..)
            .take_while(|&b| (0..=delay).contains(&gt_lateness_bound(b)))
            .count()
            .max(1)
            - 1
    }
}

/// So many kinds.
const WRONG: u8 = 79;

/// The error of a sched that is not made.
fn refused(spoil: impl Fn(&mut gt_config)) -> i64 {
    // SAFETY: all zero is a valid config but for its size; gt_sched_new looks at nothing else.
    unsafe {
        let mut config: gt_config = std::mem::zeroed();
        config.size = size_of::<gt_config>();
        spoil(&mut config);
        match gt_sched_new(&config).is_null() {
            true => gt_last_error().into(),
            false => 0,
        }
    }
}

impl World {
    /// The n-th of them. Timers and Ps are taken from the world where a live one is needed.
    pub(super) fn wrong(&self, n: u8) {
        let (s, o) = (self.s, &self.other);
        let (no_s, no_p, no_t) = (null_mut(), null_mut(), null_mut());
        let (f, clock, drop) = (func(true), self.m().clock, None);
        let live = self.m().live_ps().first().copied();
        let p = live.map_or(no_p, |p| self.handle(p));
        let t = {
            let m = self.m();
            m.timers
                .iter()
                .find(|t| t.by_handle)
                .map_or(o.t, |t| t.handle)
        };
        let unknown = |id: u64| self.m().timers.iter().all(|t| t.id != id);
        let id = (u64::from(n) << 32 | u64::from(n)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let id = if unknown(id) { id } else { 0 };
        let inval = GT_EINVAL;
        let null = |p: bool| if p { gt_last_error() } else { 0 };
        let mut x = 0i64;
        // SAFETY: each is allowed, and refused.
        let (got, want): (i64, i32) = unsafe {
            match n % WRONG {
                0 => (gt_addtimer(no_t, clock, 0).into(), inval),
                1 => (gt_modtimer(no_t, clock, 0, f, null_mut(), 0).into(), inval),
                2 => (gt_resettimer(no_t, clock, 0).into(), inval),
                3 => (gt_modtimer(t, clock, 0, None, null_mut(), 0).into(), inval),
                4 => (gt_deltimer(no_t).into(), inval),
                5 => (gt_deltimer_sync(no_t).into(), inval),
                6 => (gt_shutdown_timer(no_t).into(), inval),
                7 => (gt_timer_detach(no_t).into(), inval),
                8 => (gt_timer_free(no_t).into(), inval),
                9 => (gt_timer_status(no_t).into(), inval),
                10 => (gt_timer_when(no_t), inval),
                11 => (null(gt_timer_id(no_t) == 0).into(), inval),
                12 => (
                    null(gt_timer_new(no_s, f, null_mut(), drop).is_null()).into(),
                    inval,
                ),
                13 => (
                    null(gt_timer_new(s, None, null_mut(), drop).is_null()).into(),
                    inval,
                ),
                14 => (
                    gt_addtimer_on(o.p, self.mine(t), clock, 0).into(),
                    self.exdev(t),
                ),
                15 => (gt_resettimer_on(p, o.t, clock, 0).into(), self.exdev_p(p)),
                16 => (gt_addtimer_on(no_p, t, clock, 0).into(), inval),
                17 => (gt_adopt_timers(p, o.p).into(), self.exdev_p(p)),
                18 => (gt_adopt_timers(p, no_p).into(), inval),
                19 => (gt_adopt_timers(no_p, p).into(), inval),
                20 => (gt_check_others(s, o.p, 0, &mut x, &mut x).into(), GT_EXDEV),
                21 => (gt_check_others(no_s, no_p, 0, &mut x, &mut x).into(), inval),
                22 => (gt_check_timers(no_p, 0, &mut x, &mut x).into(), inval),
                23 => (gt_runtimer(no_p, 0), inval),
                24 => (gt_adjusttimers(no_p, 0, 1).into(), inval),
                25 => (gt_cleantimers(no_p).into(), inval),
                26 => (gt_trim(no_p).into(), inval),
                27 => (gt_verify_timer_heap(no_p).into(), inval),
                28 => (gt_p_free(no_p).into(), inval),
                29 => (null(gt_p_new(no_s).is_null()).into(), inval),
                30 => (gt_acquirep(no_p).into(), inval),
                31 => (gt_p_fd(no_p).into(), inval),
                32 => (gt_p_num_timers(no_p), inval),
                33 => (gt_p_deleted_timers(no_p), inval),
                34 => (gt_nobarrier_wake_time(no_p), inval),
                35 => (gt_notetsleep(no_p, 1).into(), inval),
                36 => (gt_notetsleep(p, -1).into(), inval),
                37 => (gt_notewakeup(no_p).into(), inval),
                38 => (gt_p_set_userdata(no_p, null_mut()).into(), inval),
                39 => (i64::from(!gt_p_userdata(no_p).is_null()), 0),
                40 => (gt_sched_free(no_s).into(), inval),
                41 if live.is_some() => (gt_sched_free(s).into(), GT_EBUSY),
                42 => (gt_sched_set_time(s, clock - 1).into(), inval),
                43 => (gt_sched_set_time(s, 0).into(), inval),
                44 => (gt_sched_advance(s, -1).into(), inval),
                45 => (gt_sched_run_until_idle(s, -1).into(), inval),
                46 => (gt_overdue(s, -1), inval),
                47 => (gt_time_sleep_until(no_s), inval),
                48 => (gt_nanotime(no_s), inval),
                49 => (gt_stats_get(s, null_mut()).into(), inval),
                50 => (gt_stats_json(s, null_mut(), 1).into(), inval),
                51 => (gt_lateness_get(s, null_mut(), 1).into(), inval),
                52 => (gt_lateness_bound(u32::MAX), inval),
                53 => (gt_timer_stop(no_t).into(), inval),
                54 => (gt_timer_reset(no_t, 1).into(), inval),
                55 => (gt_timer_recv(no_t, null_mut()).into(), inval),
                56 => (gt_timer_try_recv(no_t, null_mut()).into(), inval),
                57 => (gt_timer_fd(no_t).into(), inval),
                58 => (gt_timer_set_slack(no_t, 0).into(), inval),
                59 => (null(gt_sched_new_timer(no_s, 1).is_null()).into(), inval),
                60 => (
                    null(gt_sched_after_func(s, 1, None, null_mut(), drop).is_null()).into(),
                    inval,
                ),
                61 => (gt_synctest_join(no_s).into(), inval),
                62 => (
                    gt_modtimer_id(s, id, clock, 0, f, null_mut(), 0).into(),
                    GT_ESTALE,
                ),
                63 => (null(gt_sched_new_ticker(no_s, 1).is_null()).into(), inval),
                64 => (null(gt_sched_new_ticker(s, 0).is_null()).into(), inval),
                65 => (gt_sched_sleep(no_s, 1).into(), inval),
                66 => (gt_synctest_leave(no_s).into(), inval),
                67 => (gt_synctest_wait(no_s).into(), inval),
                68 => (gt_synctest_wait(o.s).into(), inval), // nobody has joined it
                69 => (gt_stats_get(no_s, &mut std::mem::zeroed()).into(), inval),
                70 => (gt_stats_json(no_s, null_mut(), 0).into(), inval),
                71 => (gt_lateness_get(no_s, &mut 0, 1).into(), inval),
                72 => (refused(|c| c.size = 0), inval),
                73 => (refused(|c| c.size = 3), inval),
                74 => (refused(|c| c.clock = 99), inval),
                75 => (refused(|c| c.clock = GT_CLOCK_HOST), inval), // which has no nanotime
                76 => (refused(|c| c.slack = -1), inval),
                77 => (refused(|c| c.reserved = 1), inval),
                _ => return self.wrong_id(id),
            }
        };
        self.same(&format!("wrong call {}", n % WRONG), got, &[want.into()]);
    }

    /// An id that was never given out.
    fn wrong_id(&self, id: u64) {
        let s = self.s;
        let mut x = 0i64;
        // SAFETY: the sched lives, the id may be any.
        let got: [i64; 15] = unsafe {
            [
                gt_addtimer_id(s, id, 1, 0).into(),
                gt_resettimer_id(s, id, 1, 0).into(),
                gt_deltimer_id(s, id).into(),
                gt_deltimer_sync_id(s, id).into(),
                gt_shutdown_timer_id(s, id).into(),
                gt_timer_free_id(s, id).into(),
                gt_timer_detach_id(s, id).into(),
                gt_timer_status_id(s, id).into(),
                gt_timer_when_id(s, id),
                gt_timer_stop_id(s, id).into(),
                gt_timer_reset_id(s, id, 1).into(),
                gt_timer_recv_id(s, id, &mut x).into(),
                gt_timer_try_recv_id(s, id, &mut x).into(),
                gt_timer_stop_id(s, 0).into(),
                gt_timer_stop_id(s, u64::MAX).into(),
            ]
        };
        for (i, got) in got.into_iter().enumerate() {
            let what = format!("call {i} with an id that was never given out, {id:#x}");
            self.same(&what, got, &[GT_ESTALE.into()]);
        }
    }

    /// Is this timer the world's? Else the call is made with NULL instead.
    fn mine(&self, t: *mut gt_timer) -> *mut gt_timer {
        if t == self.other.t { null_mut() } else { t }
    }

    /// What a P of the other sched gives with it: a channel timer is refused first.
    fn exdev(&self, t: *mut gt_timer) -> i32 {
        let m = self.m();
        let chan = m.timers.iter().find(|x| x.by_handle && x.handle == t);
        match chan {
            Some(x) if x.chan.is_none() => GT_EXDEV,
            _ => GT_EINVAL,
        }
    }

    /// The same with this P, of the world's or NULL, and what is the other sched's.
    fn exdev_p(&self, p: *mut gt_p) -> i32 {
        if p.is_null() { GT_EINVAL } else { GT_EXDEV }
    }
}
