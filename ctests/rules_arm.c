/* Rule S3: what arming, re-arming, stopping, shutting down and detaching do and return. */
#include "rules.h"

struct rig {
    gt_sched *s;
    gt_p *p;
    struct counter c;
    gt_timer *t;
};

static void rig_up(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->s = virtual_sched();
    r->p = new_p(r->s);
    r->t = new_timer(r->s, &r->c);
}

/* Frees all; the timer must have been stopped (1) or not (0) by its free. */
static void rig_down(struct rig *r, int stopped)
{
    CHECK_EQ(gt_timer_free(r->t), stopped);
    CHECK_EQ(r->c.drops, 1);
    check_conserved(r->s);
    free_p(r->p);
    close_sched(r->s);
}

TEST(s3_addtimer_of_armed_changes_nothing, 10)
{
    struct rig r;
    gt_stats before;

    rig_up(&r);
    CHECK_EQ(gt_modtimer_on(r.p, r.t, T0 + 100, 0, count_run, &r.c, 7), 0);
    before = get_stats(r.s);
    CHECK_EQ(gt_addtimer(r.t, T0 + 50, 3), GT_EALREADY);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 50, 3), GT_EALREADY);
    CHECK_EQ(gt_timer_when(r.t), T0 + 100);
    CHECK_EQ(gt_timer_status(r.t), GT_TIMER_WAITING);
    CHECK_EQ(gt_nobarrier_wake_time(r.p), T0 + 100);
    check_same_counters(r.s, &before);
    /* the same for an armed timer whose entry is stale */
    CHECK_EQ(gt_resettimer(r.t, T0 + 200, 0), 1);
    before = get_stats(r.s);
    CHECK_EQ(gt_addtimer(r.t, T0 + 50, 3), GT_EALREADY);
    CHECK_EQ(gt_timer_when(r.t), T0 + 200);
    check_same_counters(r.s, &before);
    CHECK_EQ(check_at(r.p, T0 + 199), 0);
    CHECK_EQ(check_at(r.p, T0 + 203), 1);
    CHECK_EQ(r.c.runs, 1);
    CHECK_EQ(r.c.delay, 3);
    CHECK_EQ(r.c.seq, 7);
    CHECK_EQ(check_at(r.p, T0 + 900), 0);   /* the period of 3 was not taken over */
    rig_down(&r, 0);
}

/* Bad times: an error, and the timer keeps f, arg, seq, when and period. */
static void try_bad_times(struct rig *r)
{
    static const struct {
        int64_t when, period;
    } bad[] = {{0, 0}, {-1, 0}, {INT64_MIN, 0}, {T0 + 5, -1}, {T0 + 5, INT64_MIN}, {0, -1}};
    struct counter other = {0};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gt_stats before = get_stats(r->s);
        int64_t when = gt_timer_when(r->t);
        int status = gt_timer_status(r->t);

        CHECK_EQ(gt_addtimer(r->t, bad[i].when, bad[i].period), GT_EINVAL);
        CHECK_EQ(gt_addtimer_on(r->p, r->t, bad[i].when, bad[i].period), GT_EINVAL);
        CHECK_EQ(gt_modtimer(r->t, bad[i].when, bad[i].period, count_run_other, &other, 99), GT_EINVAL);
        CHECK_EQ(gt_modtimer_on(r->p, r->t, bad[i].when, bad[i].period, count_run_other, &other, 99),
                 GT_EINVAL);
        CHECK_EQ(gt_resettimer(r->t, bad[i].when, bad[i].period), GT_EINVAL);
        CHECK_EQ(gt_resettimer_on(r->p, r->t, bad[i].when, bad[i].period), GT_EINVAL);
        CHECK_EQ(gt_timer_when(r->t), when);
        CHECK_EQ(gt_timer_status(r->t), status);
        check_same_counters(r->s, &before);
    }
    CHECK_EQ(gt_modtimer(r->t, T0 + 5, 0, NULL, NULL, 99), GT_EINVAL);
    CHECK_EQ(other.runs, 0);
    CHECK_EQ(other.drops, 0);
    CHECK_EQ(r->c.drops, 0);
}

TEST(s3_bad_times_change_nothing, 10)
{
    struct rig r;

    rig_up(&r);
    try_bad_times(&r);                                          /* Removed */
    CHECK_EQ(gt_modtimer_on(r.p, r.t, T0 + 100, 10, count_run, &r.c, 7), 0);
    try_bad_times(&r);                                          /* Waiting */
    CHECK_EQ(gt_resettimer(r.t, T0 + 90, 10), 1);
    try_bad_times(&r);                                          /* Modified */
    CHECK_EQ(check_at(r.p, T0 + 90), 1);
    CHECK_EQ(r.c.runs, 1);
    CHECK_EQ(r.c.seq, 7);
    CHECK_EQ(check_at(r.p, T0 + 100), 1);                       /* the period is still 10 */
    CHECK_EQ(gt_deltimer(r.t), 1);
    try_bad_times(&r);                                          /* Modified(deleted) */
    CHECK_EQ(check_at(r.p, T0 + 200), 0);
    rig_down(&r, 0);
}

TEST(s3_modtimer_says_whether_it_was_pending, 10)
{
    struct rig r;

    rig_up(&r);
    CHECK_EQ(gt_modtimer_on(r.p, r.t, T0 + 10, 0, count_run, &r.c, 1), 0);   /* never armed */
    CHECK_EQ(gt_modtimer(r.t, T0 + 20, 0, count_run, &r.c, 2), 1);           /* Waiting */
    CHECK_EQ(gt_modtimer(r.t, T0 + 15, 0, count_run, &r.c, 3), 1);           /* Modified */
    CHECK_EQ(gt_deltimer(r.t), 1);
    CHECK_EQ(gt_modtimer(r.t, T0 + 30, 0, count_run, &r.c, 4), 0);           /* stopped, in the heap */
    CHECK_EQ(check_at(r.p, T0 + 29), 0);
    CHECK_EQ(check_at(r.p, T0 + 30), 1);
    CHECK_EQ(r.c.seq, 4);
    CHECK_EQ(gt_modtimer_on(r.p, r.t, T0 + 40, 0, count_run, &r.c, 5), 0);   /* fired */
    CHECK_EQ(gt_deltimer(r.t), 1);
    CHECK_EQ(gt_trim(r.p), 1);
    CHECK_EQ(gt_timer_status(r.t), GT_TIMER_REMOVED);
    CHECK_EQ(gt_modtimer_on(r.p, r.t, T0 + 50, 6, count_run, &r.c, 6), 0);   /* stopped and swept */
    CHECK_EQ(check_at(r.p, T0 + 50), 1);
    CHECK_EQ(gt_modtimer(r.t, T0 + 60, 0, count_run, &r.c, 7), 1);           /* periodic: pending */
    CHECK_EQ(check_at(r.p, T0 + 60), 1);
    CHECK_EQ(r.c.runs, 3);
    CHECK_EQ(r.c.seq, 7);
    rig_down(&r, 0);
}

TEST(s3_resettimer_keeps_f_arg_seq, 10)
{
    struct rig r;
    struct counter other = {0};

    rig_up(&r);
    CHECK_EQ(gt_resettimer_on(r.p, r.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_resettimer(r.t, T0 + 20, 0), 1);
    CHECK_EQ(check_at(r.p, T0 + 20), 1);
    CHECK_EQ(r.c.runs, 1);
    CHECK_EQ(r.c.seq, 0);                                    /* a new timer's seq */
    CHECK_EQ(gt_modtimer_on(r.p, r.t, T0 + 30, 0, count_run_other, &other, 7), 0);
    CHECK_EQ(r.c.drops, 1);                                  /* replaced by another arg */
    CHECK_EQ(gt_resettimer(r.t, T0 + 25, 4), 1);
    CHECK_EQ(check_at(r.p, T0 + 25), 1);
    CHECK_EQ(other.seq, 1007);
    CHECK_EQ(gt_resettimer(r.t, T0 + 31, 0), 1);
    CHECK_EQ(check_at(r.p, T0 + 40), 1);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 50, 0), 0);       /* keeps them as well */
    CHECK_EQ(check_at(r.p, T0 + 50), 1);
    CHECK_EQ(other.runs, 3);
    CHECK_EQ(other.seq, 1007);
    CHECK_EQ(r.c.runs, 1);
    CHECK_EQ(other.drops, 0);
    rig_down(&r, 0);
    CHECK_EQ(other.drops, 1);
}

TEST(s3_addtimer_after_fire_and_after_stop, 10)
{
    struct rig r;

    rig_up(&r);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 10, 0), 0);
    CHECK_EQ(check_at(r.p, T0 + 10), 1);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 20, 0), 0);       /* fired: not armed */
    CHECK_EQ(gt_deltimer(r.t), 1);
    CHECK_EQ(gt_p_deleted_timers(r.p), 1);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 15, 0), 0);       /* stopped, its dead entry revives */
    CHECK_EQ(gt_p_deleted_timers(r.p), 0);
    CHECK_EQ(gt_p_num_timers(r.p), 1);
    CHECK_EQ(gt_nobarrier_wake_time(r.p), T0 + 15);
    CHECK_EQ(check_at(r.p, T0 + 14), 0);
    CHECK_EQ(check_at(r.p, T0 + 15), 1);
    CHECK_EQ(check_at(r.p, T0 + 99), 0);
    CHECK_EQ(r.c.runs, 2);
    rig_down(&r, 0);
}

TEST(s3_deltimer_results, 10)
{
    struct rig r;

    rig_up(&r);
    CHECK_EQ(gt_deltimer(r.t), 0);                            /* never armed */
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_deltimer(r.t), 1);
    CHECK_EQ(gt_deltimer(r.t), 0);
    CHECK_EQ(gt_timer_when(r.t), 0);
    CHECK_EQ(gt_resettimer(r.t, T0 + 20, 0), 0);
    CHECK_EQ(check_at(r.p, T0 + 20), 1);
    CHECK_EQ(gt_timer_when(r.t), 0);
    CHECK_EQ(gt_deltimer(r.t), 0);                            /* fired */
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 30, 5), 0);
    CHECK_EQ(check_at(r.p, T0 + 30), 1);
    CHECK_EQ(gt_deltimer(r.t), 1);                            /* periodic: still pending */
    CHECK_EQ(check_at(r.p, T0 + 99), 0);
    rig_down(&r, 0);
}

/* A call by handle works while the timer's heap belongs to nobody at all. */
TEST(s3_arming_without_any_p, 10)
{
    gt_sched *s = virtual_sched();
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);
    gt_p *p;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 10);
    CHECK_EQ(gt_resettimer(t, T0 + 5, 0), 1);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 5);
    CHECK_EQ(gt_addtimer(t, T0 + 7, 0), GT_EALREADY);
    CHECK_EQ(gt_deltimer(t), 1);
    CHECK_EQ(gt_addtimer(t, T0 + 20, 0), 0);
    p = new_p(s);
    CHECK_EQ(check_at(p, T0 + 20), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

TEST(s3_shutdown_is_for_good, 10)
{
    struct rig r;
    gt_stats before;

    rig_up(&r);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_shutdown_timer(r.t), 1);
    CHECK_EQ(gt_shutdown_timer(r.t), 0);
    before = get_stats(r.s);
    CHECK_EQ(gt_addtimer(r.t, T0 + 20, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 20, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_modtimer(r.t, T0 + 20, 0, count_run, &r.c, 1), GT_ESHUTDOWN);
    CHECK_EQ(gt_resettimer(r.t, T0 + 20, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_resettimer_on(r.p, r.t, T0 + 20, 0), GT_ESHUTDOWN);
    check_same_counters(r.s, &before);
    CHECK_EQ(gt_deltimer(r.t), 0);
    CHECK_EQ(gt_deltimer_sync(r.t), 0);
    CHECK_EQ(check_at(r.p, T0 + 99), 0);
    CHECK_EQ(gt_trim(r.p) + gt_p_num_timers(r.p), 0);         /* swept by the pass */
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 20, 0), GT_ESHUTDOWN);   /* Removed: still for good */
    CHECK_EQ(r.c.runs, 0);
    rig_down(&r, 0);
}

/* A shutdown of an idle timer, and one from the timer's own callback. */
static void shut_self(void *arg, uintptr_t seq, int64_t delay)
{
    struct rig *r = arg;

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_shutdown_timer(r->t), 1);                     /* periodic: the next firing */
    CHECK_EQ(gt_resettimer(r->t, T0 + 500, 0), GT_ESHUTDOWN);
    r->c.runs++;
}

TEST(s3_shutdown_idle_and_from_callback, 10)
{
    struct rig r;
    gt_timer *u;

    rig_up(&r);
    CHECK_EQ(gt_shutdown_timer(r.t), 0);
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 1, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(r.t), 0);
    u = gt_timer_new(r.s, shut_self, &r, NULL);
    CHECK(u != NULL);
    r.t = u;
    CHECK_EQ(gt_addtimer_on(r.p, r.t, T0 + 10, 5), 0);
    CHECK_EQ(check_at(r.p, T0 + 10), 1);
    CHECK_EQ(check_at(r.p, T0 + 900), 0);
    CHECK_EQ(r.c.runs, 1);
    rig_down(&r, 0);
}

TEST(s3_detach_fires_then_frees_itself, 10)
{
    struct rig r;
    struct counter c[4] = {{0}};
    gt_timer *t[4];
    gt_stats st;
    uint64_t id[4];

    rig_up(&r);
    for (int i = 0; i < 4; i++) {
        t[i] = new_timer(r.s, &c[i]);
        id[i] = gt_timer_id(t[i]);
    }
    st = get_stats(r.s);
    CHECK_EQ(st.timers, 5);
    CHECK_EQ(gt_addtimer_on(r.p, t[0], T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer_on(r.p, t[1], T0 + 20, 0), 0);
    CHECK_EQ(gt_resettimer(t[1], T0 + 12, 0), 1);
    CHECK_EQ(gt_addtimer_on(r.p, t[2], T0 + 10, 0), 0);
    CHECK_EQ(gt_deltimer(t[2]), 1);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(gt_timer_detach(t[i]), 0);
    CHECK_EQ(c[0].drops + c[1].drops, 0);
    CHECK_EQ(c[2].drops, 1);                                   /* nothing left to fire */
    CHECK_EQ(c[3].drops, 1);
    CHECK_EQ(gt_deltimer_id(r.s, id[2]), GT_ESTALE);
    CHECK_EQ(gt_deltimer_id(r.s, id[3]), GT_ESTALE);
    drain_at(r.p, T0 + 12);
    CHECK_EQ(c[0].runs, 1);
    CHECK_EQ(c[1].runs, 1);
    CHECK_EQ(c[0].drops, 1);
    CHECK_EQ(c[1].drops, 1);
    CHECK_EQ(c[2].runs + c[3].runs, 0);
    CHECK_EQ(gt_deltimer_id(r.s, id[0]), GT_ESTALE);
    CHECK_EQ(gt_trim(r.p) + gt_p_num_timers(r.p), 0);
    CHECK_EQ(get_stats(r.s).timers, 1);
    rig_down(&r, 0);
}
