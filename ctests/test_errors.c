/* Every documented refusal, part 1: bad arguments. After each refused call status, when,
 * counters and heap must be what they were. Part 2 (wrong state) is test_errors_state.c,
 * part 3 (out of memory) test_nomem.c, part 4 (checked build) test_checked.c. */
#include "support.h"

struct ground {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct counter c;
    uint64_t id;
};

struct view {
    gt_stats st;
    int status;
    int64_t when, num, wake, now;
};

static void ground_open(struct ground *g)
{
    memset(g, 0, sizeof *g);
    g->s = virtual_sched();
    g->p = gt_p_new(g->s);
    g->t = gt_timer_new(g->s, count_run, &g->c, count_drop);
    CHECK(g->p != NULL && g->t != NULL);
    g->id = gt_timer_id(g->t);
}

static void ground_close(struct ground *g)
{
    CHECK_EQ(g->c.drops, 0);
    CHECK_GE(gt_timer_free(g->t), 0);
    CHECK_EQ(g->c.drops, 1);
    check_conserved(g->s);
    CHECK_EQ(gt_p_free(g->p), 0);
    close_sched(g->s);
}

static struct view look(struct ground *g)
{
    struct view v;

    v.st = get_stats(g->s);
    v.status = gt_timer_status(g->t);
    v.when = gt_timer_when(g->t);
    v.num = gt_p_num_timers(g->p);
    v.wake = gt_nobarrier_wake_time(g->p);
    v.now = gt_nanotime(g->s);
    return v;
}

static void unchanged(struct ground *g, const struct view *v)
{
    check_same_counters(g->s, &v->st);
    CHECK_EQ(gt_timer_status(g->t), v->status);
    CHECK_EQ(gt_timer_when(g->t), v->when);
    CHECK_EQ(gt_p_num_timers(g->p), v->num);
    CHECK_EQ(gt_nobarrier_wake_time(g->p), v->wake);
    CHECK_EQ(gt_nanotime(g->s), v->now);
    CHECK_EQ(gt_verify_timer_heap(g->p), 0);
}

#define REFUSED(g_, call_, error_)                                                       \
    do {                                                                                 \
        struct view v_ = look(g_);                                                       \
        CHECK_EQ(call_, error_);                                                         \
        unchanged(g_, &v_);                                                              \
    } while (0)

#define REFUSED_PTR(g_, call_, error_)                                                   \
    do {                                                                                 \
        struct view v_ = look(g_);                                                       \
        CHECK((call_) == NULL);                                                          \
        CHECK_EQ(gt_last_error(), error_);                                               \
        unchanged(g_, &v_);                                                              \
    } while (0)

/* ---- NULL ---- */

TEST(errors_null_sched, 5)
{
    struct ground g;
    gt_stats st;

    ground_open(&g);
    memset(&st, 0, sizeof st);
    st.size = sizeof st;
    CHECK_EQ(gt_sched_free(NULL), GT_EINVAL);
    CHECK_EQ(gt_nanotime(NULL), GT_EINVAL);
    CHECK_EQ(gt_sched_set_time(NULL, T0 + 1), GT_EINVAL);
    CHECK_EQ(gt_sched_advance(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_time_sleep_until(NULL), GT_EINVAL);
    CHECK_EQ(gt_overdue(NULL, 0), GT_EINVAL);
    CHECK_EQ(gt_stats_get(NULL, &st), GT_EINVAL);
    CHECK_EQ(gt_stats_json(NULL, NULL, 0), GT_EINVAL);
    CHECK_EQ(gt_lateness_get(NULL, NULL, 0), GT_EINVAL);
    REFUSED_PTR(&g, gt_p_new(NULL), GT_EINVAL);
    REFUSED_PTR(&g, gt_timer_new(NULL, count_run, &g.c, count_drop), GT_EINVAL);
    CHECK_EQ(gt_check_others(NULL, NULL, 0, NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_check_others(NULL, g.p, 0, NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_addtimer_id(NULL, g.id, T0 + 1, 0), GT_EINVAL);
    CHECK_EQ(gt_modtimer_id(NULL, g.id, T0 + 1, 0, count_run, &g.c, 0), GT_EINVAL);
    CHECK_EQ(gt_resettimer_id(NULL, g.id, T0 + 1, 0), GT_EINVAL);
    CHECK_EQ(gt_deltimer_id(NULL, g.id), GT_EINVAL);
    CHECK_EQ(gt_deltimer_sync_id(NULL, g.id), GT_EINVAL);
    CHECK_EQ(gt_shutdown_timer_id(NULL, g.id), GT_EINVAL);
    CHECK_EQ(gt_timer_free_id(NULL, g.id), GT_EINVAL);
    CHECK_EQ(gt_timer_detach_id(NULL, g.id), GT_EINVAL);
    CHECK_EQ(gt_timer_status_id(NULL, g.id), GT_EINVAL);
    CHECK_EQ(gt_timer_when_id(NULL, g.id), GT_EINVAL);
    ground_close(&g);
}

TEST(errors_null_p, 5)
{
    struct ground g;
    int x;

    ground_open(&g);
    CHECK_EQ(gt_p_free(NULL), GT_EINVAL);
    CHECK_EQ(gt_acquirep(NULL), GT_EINVAL);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_EQ(gt_p_set_userdata(NULL, &x), GT_EINVAL);
    REFUSED_PTR(&g, gt_p_userdata(NULL), GT_EINVAL);
    CHECK_EQ(gt_p_num_timers(NULL), GT_EINVAL);
    CHECK_EQ(gt_p_deleted_timers(NULL), GT_EINVAL);
    REFUSED(&g, gt_adopt_timers(g.p, NULL), GT_EINVAL);
    REFUSED(&g, gt_adopt_timers(NULL, g.p), GT_EINVAL);
    CHECK_EQ(gt_adopt_timers(NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_nobarrier_wake_time(NULL), GT_EINVAL);
    CHECK_EQ(gt_p_fd(NULL), GT_EINVAL);
    CHECK_EQ(gt_notetsleep(NULL, T0), GT_EINVAL);
    CHECK_EQ(gt_notewakeup(NULL), GT_EINVAL);
    REFUSED(&g, gt_addtimer_on(NULL, g.t, T0 + 1, 0), GT_EINVAL);
    REFUSED(&g, gt_modtimer_on(NULL, g.t, T0 + 1, 0, count_run, &g.c, 0), GT_EINVAL);
    REFUSED(&g, gt_resettimer_on(NULL, g.t, T0 + 1, 0), GT_EINVAL);
    CHECK_EQ(gt_runtimer(NULL, T0), GT_EINVAL);
    CHECK_EQ(gt_check_timers(NULL, T0, NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_adjusttimers(NULL, T0, 0), GT_EINVAL);
    CHECK_EQ(gt_cleantimers(NULL), GT_EINVAL);
    CHECK_EQ(gt_trim(NULL), GT_EINVAL);
    CHECK_EQ(gt_verify_timer_heap(NULL), GT_EINVAL);
    ground_close(&g);
}

TEST(errors_null_timer, 5)
{
    struct ground g;

    ground_open(&g);
    CHECK_EQ(gt_timer_free(NULL), GT_EINVAL);
    CHECK_EQ(gt_addtimer(NULL, T0 + 1, 0), GT_EINVAL);
    CHECK_EQ(gt_modtimer(NULL, T0 + 1, 0, count_run, &g.c, 0), GT_EINVAL);
    CHECK_EQ(gt_resettimer(NULL, T0 + 1, 0), GT_EINVAL);
    CHECK_EQ(gt_deltimer(NULL), GT_EINVAL);
    CHECK_EQ(gt_deltimer_sync(NULL), GT_EINVAL);
    CHECK_EQ(gt_shutdown_timer(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_detach(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_status(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_when(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_id(NULL), 0);
    REFUSED(&g, gt_addtimer_on(g.p, NULL, T0 + 1, 0), GT_EINVAL);
    REFUSED(&g, gt_modtimer_on(g.p, NULL, T0 + 1, 0, count_run, &g.c, 0), GT_EINVAL);
    REFUSED(&g, gt_resettimer_on(g.p, NULL, T0 + 1, 0), GT_EINVAL);
    ground_close(&g);
}

TEST(errors_null_f, 5)
{
    struct ground g;
    struct counter other = {0};

    ground_open(&g);
    REFUSED_PTR(&g, gt_timer_new(g.s, NULL, &g.c, count_drop), GT_EINVAL);
    for (int armed = 0; armed < 2; armed++) {
        REFUSED(&g, gt_modtimer(g.t, T0 + 1, 0, NULL, &other, 0), GT_EINVAL);
        REFUSED(&g, gt_modtimer_on(g.p, g.t, T0 + 1, 0, NULL, &other, 0), GT_EINVAL);
        REFUSED(&g, gt_modtimer_id(g.s, g.id, T0 + 1, 0, NULL, &other, 0), GT_EINVAL);
        CHECK_EQ(gt_resettimer(g.t, T0 + 100, 0), armed);
    }
    CHECK_EQ(gt_check_timers(g.p, T0 + 100, NULL, NULL), 1);
    CHECK_EQ(g.c.runs, 1);          /* f and arg are the old ones */
    CHECK_EQ(other.drops, 0);
    ground_close(&g);
}

/* ---- times ---- */

static void every_arming_refused(struct ground *g, int64_t when, int64_t period)
{
    struct counter other = {0};

    REFUSED(g, gt_addtimer(g->t, when, period), GT_EINVAL);
    REFUSED(g, gt_addtimer_on(g->p, g->t, when, period), GT_EINVAL);
    REFUSED(g, gt_addtimer_id(g->s, g->id, when, period), GT_EINVAL);
    REFUSED(g, gt_resettimer(g->t, when, period), GT_EINVAL);
    REFUSED(g, gt_resettimer_on(g->p, g->t, when, period), GT_EINVAL);
    REFUSED(g, gt_resettimer_id(g->s, g->id, when, period), GT_EINVAL);
    REFUSED(g, gt_modtimer(g->t, when, period, count_run_other, &other, 5), GT_EINVAL);
    REFUSED(g, gt_modtimer_on(g->p, g->t, when, period, count_run_other, &other, 5), GT_EINVAL);
    REFUSED(g, gt_modtimer_id(g->s, g->id, when, period, count_run_other, &other, 5), GT_EINVAL);
    CHECK_EQ(other.drops, 0);
}

TEST(errors_when_and_period, 5)
{
    static const int64_t bad_when[] = {0, -1, -T0, INT64_MIN};
    static const int64_t bad_period[] = {-1, -1000, INT64_MIN};
    struct ground g;

    ground_open(&g);
    for (int i = 0; i < 4; i++)
        every_arming_refused(&g, bad_when[i], 0);
    for (int i = 0; i < 3; i++)
        every_arming_refused(&g, T0 + 10, bad_period[i]);
    every_arming_refused(&g, 0, -1);
    CHECK_EQ(gt_check_timers(g.p, T0 + 10, NULL, NULL), 0);

    /* the smallest when is good */
    CHECK_EQ(gt_addtimer(g.t, 1, 0), 0);
    CHECK_EQ(gt_check_timers(g.p, T0, NULL, NULL), 1);
    CHECK_EQ(g.c.delay, T0 - 1);
    ground_close(&g);
}

TEST(errors_when_on_an_armed_timer, 5)
{
    struct ground g;
    struct counter other = {0};

    ground_open(&g);
    CHECK_EQ(gt_modtimer(g.t, T0 + 100, 0, count_run, &g.c, 4), 0);
    REFUSED(&g, gt_resettimer(g.t, 0, 0), GT_EINVAL);
    REFUSED(&g, gt_resettimer(g.t, T0 + 50, -1), GT_EINVAL);
    REFUSED(&g, gt_resettimer_on(g.p, g.t, -5, 0), GT_EINVAL);
    REFUSED(&g, gt_resettimer_id(g.s, g.id, T0, -5), GT_EINVAL);
    REFUSED(&g, gt_modtimer(g.t, 0, 0, count_run_other, &other, 5), GT_EINVAL);
    REFUSED(&g, gt_modtimer_on(g.p, g.t, T0, -1, count_run_other, &other, 5), GT_EINVAL);
    REFUSED(&g, gt_modtimer_id(g.s, g.id, -1, 0, count_run_other, &other, 5), GT_EINVAL);
    CHECK_EQ(other.drops, 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 99, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 100, NULL, NULL), 1);
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(g.c.seq, 4);
    CHECK_EQ(other.runs, 0);
    ground_close(&g);
}

TEST(errors_negative_now, 5)
{
    static const int64_t bad[] = {-1, -T0, INT64_MIN};
    struct ground g;
    int64_t now = 77, until = 78;

    ground_open(&g);
    CHECK_EQ(gt_addtimer(g.t, T0 + 1, 0), 0);
    CHECK_EQ(gt_sched_set_time(g.s, T0 + 2), 0);      /* due */
    for (int i = 0; i < 3; i++) {
        REFUSED(&g, gt_runtimer(g.p, bad[i]), GT_EINVAL);
        REFUSED(&g, gt_check_timers(g.p, bad[i], &now, &until), GT_EINVAL);
        REFUSED(&g, gt_check_others(g.s, NULL, bad[i], &now, &until), GT_EINVAL);
        REFUSED(&g, gt_adjusttimers(g.p, bad[i], 0), GT_EINVAL);
        REFUSED(&g, gt_adjusttimers(g.p, bad[i], 1), GT_EINVAL);
        REFUSED(&g, gt_overdue(g.s, bad[i]), GT_EINVAL);
        REFUSED(&g, gt_sched_set_time(g.s, bad[i]), GT_EINVAL);
        REFUSED(&g, gt_sched_advance(g.s, bad[i]), GT_EINVAL);
        REFUSED(&g, gt_notetsleep(g.p, bad[i]), GT_EINVAL);
    }
    CHECK_EQ(g.c.runs, 0);
    CHECK_EQ(now, 77);
    CHECK_EQ(until, 78);
    CHECK_EQ(gt_check_timers(g.p, 0, NULL, NULL), 1);
    ground_close(&g);
}

TEST(errors_set_time_back, 5)
{
    struct ground g;

    ground_open(&g);
    REFUSED(&g, gt_sched_set_time(g.s, T0 - 1), GT_EINVAL);
    REFUSED(&g, gt_sched_set_time(g.s, 1), GT_EINVAL);
    CHECK_EQ(gt_sched_set_time(g.s, T0), 0);           /* to where it is: nothing */
    CHECK_EQ(gt_sched_set_time(g.s, T0 + 5), 0);
    REFUSED(&g, gt_sched_set_time(g.s, T0 + 4), GT_EINVAL);
    CHECK_EQ(gt_nanotime(g.s), T0 + 5);
    ground_close(&g);
}

/* ---- configuration and buffers ---- */

static void pins(void *ctx) { (void)ctx; }

static void config_refused(const gt_config *cfg)
{
    CHECK(gt_sched_new(cfg) == NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
}

TEST(errors_config, 5)
{
    struct alloc_hook a = {0};
    gt_config cfg, good;
    gt_host h;
    gt_sched *s;

    memset(&good, 0, sizeof good);
    good.size = sizeof good;
    good.clock = GT_CLOCK_VIRTUAL;
    s = gt_sched_new(&good);
    CHECK(s != NULL);
    close_sched(s);

    cfg = good;
    cfg.size = 0;
    config_refused(&cfg);
    cfg.size = 3;
    config_refused(&cfg);
    cfg = good;
    cfg.clock = 5;
    config_refused(&cfg);
    cfg.clock = UINT32_MAX;
    config_refused(&cfg);
    cfg = good;
    cfg.reserved = 1;
    config_refused(&cfg);
    cfg = good;
    cfg.clock = GT_CLOCK_HOST;          /* and no host */
    config_refused(&cfg);
    memset(&h, 0, sizeof h);
    h.size = sizeof h;
    cfg.host = &h;                      /* and no nanotime */
    config_refused(&cfg);
    cfg = good;
    cfg.host = &h;
    h.size = 0;
    config_refused(&cfg);
    h.size = sizeof h;
    alloc_hook_host(&a, &h);
    h.free = NULL;                      /* one hook without its partner */
    config_refused(&cfg);
    alloc_hook_host(&a, &h);
    h.alloc = NULL;
    config_refused(&cfg);
    check_all_returned(&a);
    CHECK_EQ(a.calls, 0);
    for (int release = 0; release < 2; release++) {
        memset(&h, 0, sizeof h);
        h.size = sizeof h;
        if (release)
            h.releasem = pins;
        else
            h.acquirem = pins;
        config_refused(&cfg);
    }
}

TEST(errors_buffers, 5)
{
    struct ground g;
    gt_stats st;
    uint64_t count = 77;

    ground_open(&g);
    memset(&st, 0xee, sizeof st);
    st.size = 0;
    REFUSED(&g, gt_stats_get(g.s, &st), GT_EINVAL);
    CHECK_EQ(st.size, 0);
    CHECK_EQ(st.armed, (int64_t)0xeeeeeeeeeeeeeeee);
    REFUSED(&g, gt_stats_get(g.s, NULL), GT_EINVAL);
    REFUSED(&g, gt_stats_json(g.s, NULL, 10), GT_EINVAL);
    REFUSED(&g, gt_lateness_get(g.s, &count, 1), GT_EOPNOTSUPP);
    CHECK_EQ(count, 77);
    CHECK_EQ(gt_lateness_bound(UINT32_MAX), GT_EINVAL);
    ground_close(&g);
}

TEST(errors_lateness_null, 5)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    cfg.lateness = 1;
    s = gt_sched_new(&cfg);
    CHECK_EQ(gt_lateness_get(s, NULL, 4), GT_EINVAL);
    close_sched(s);
}

/* ---- another sched ---- */

TEST(errors_other_sched, 5)
{
    struct ground g;
    gt_sched *other = virtual_sched();
    gt_p *far = gt_p_new(other);

    ground_open(&g);
    for (int armed = 0; armed < 2; armed++) {
        if (!armed)
            REFUSED(&g, gt_addtimer_on(far, g.t, T0 + 10, 0), GT_EXDEV);
        REFUSED(&g, gt_modtimer_on(far, g.t, T0 + 10, 0, count_run, &g.c, 0), GT_EXDEV);
        REFUSED(&g, gt_resettimer_on(far, g.t, T0 + 10, 0), GT_EXDEV);
        REFUSED(&g, gt_adopt_timers(far, g.p), GT_EXDEV);
        REFUSED(&g, gt_adopt_timers(g.p, far), GT_EXDEV);
        REFUSED(&g, gt_check_others(g.s, far, T0 + 200, NULL, NULL), GT_EXDEV);
        CHECK_EQ(gt_resettimer(g.t, T0 + 100, 0), armed);
    }
    REFUSED(&g, gt_adopt_timers(g.p, g.p), GT_EINVAL);
    CHECK_EQ(gt_p_num_timers(far), 0);
    CHECK_EQ(g.c.runs, 0);
    CHECK_EQ(gt_p_free(far), 0);
    close_sched(other);
    ground_close(&g);
}

/* ---- not with this clock ---- */

static int64_t some_time(void *ctx)
{
    (void)ctx;
    return 1000;
}

TEST(errors_only_the_virtual_clock_is_moved, 5)
{
    for (uint32_t clock = 0; clock < GT_CLOCK_VIRTUAL; clock++) {
        gt_config cfg;
        gt_host h;
        gt_sched *s;

        memset(&h, 0, sizeof h);
        h.size = sizeof h;
        h.nanotime = some_time;
        memset(&cfg, 0, sizeof cfg);
        cfg.size = sizeof cfg;
        cfg.host = &h;
        cfg.clock = clock;
        s = gt_sched_new(&cfg);
        CHECK(s != NULL);
        CHECK_EQ(gt_sched_set_time(s, GT_MAX_WHEN - 1), GT_EOPNOTSUPP);
        CHECK_EQ(gt_sched_advance(s, 1), GT_EOPNOTSUPP);
        CHECK_EQ(gt_lateness_get(s, NULL, 0), GT_EOPNOTSUPP);
        close_sched(s);
    }
}
