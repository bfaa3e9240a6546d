/* Package time, timers that call a function: gt_after_func and gt_sched_after_func, and what
 * gt_timer_stop and gt_timer_reset do to them (rule S15). On the virtual clock. */
#include "rtkit.h"

struct bed {
    gt_sched *s;
    gt_p *p[2];
    int n;
};

/* With 0, 1 or 2 Ps: without one the timers belong to nobody, and gt_sched_advance runs them. */
static void bed_up(struct bed *b, int n)
{
    memset(b, 0, sizeof *b);
    b->s = virtual_sched();
    b->n = n;
    for (int i = 0; i < n; i++)
        b->p[i] = new_p(b->s);
}

static void bed_down(struct bed *b)
{
    check_conserved(b->s);
    for (int i = 0; i < b->n; i++)
        free_p(b->p[i]);
    close_sched(b->s);
}

TEST(time_func_fires_when_asked, 10)
{
    for (int n = 0; n <= 2; n++) {
        struct counter c = {0};
        struct bed b;
        gt_timer *t;

        bed_up(&b, n);
        t = must(gt_sched_after_func(b.s, 100, count_run, &c, count_drop));
        CHECK_EQ(gt_timer_when(t), T0 + 100);
        CHECK_EQ(get_stats(b.s).pending, 1);
        CHECK_EQ(gt_sched_advance(b.s, 99), 0);
        CHECK_EQ(c.runs, 0);
        CHECK_EQ(gt_sched_advance(b.s, 1), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(c.delay, 0);
        CHECK_EQ(c.drops, 0);
        CHECK_EQ(gt_timer_when(t), 0);
        CHECK_EQ(gt_sched_advance(b.s, 1000), 0);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(c.drops, 1);
        bed_down(&b);
    }
}

TEST(time_func_delay_says_how_late, 10)
{
    struct counter c = {0};
    struct bed b;
    gt_timer *t;

    bed_up(&b, 1);
    t = must(gt_sched_after_func(b.s, 100, count_run, &c, NULL));
    CHECK_EQ(gt_sched_set_time(b.s, T0 + 175), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_check_timers(b.p[0], 0, NULL, NULL), 1);
    CHECK_EQ(c.delay, 75);
    CHECK_EQ(gt_timer_free(t), 0);
    bed_down(&b);
}

/* d <= 0: at once, but not inside the call. */
TEST(time_func_nothing_to_wait_for, 10)
{
    const int64_t d[] = {0, -1, -1000000000, INT64_MIN};

    for (int n = 0; n <= 2; n++)
        for (size_t i = 0; i < sizeof d / sizeof d[0]; i++) {
            struct counter c = {0};
            struct bed b;
            gt_timer *t;

            bed_up(&b, n);
            t = must(gt_sched_after_func(b.s, d[i], count_run, &c, NULL));
            CHECK_EQ(c.runs, 0);
            CHECK_EQ(gt_timer_when(t), T0);
            CHECK_EQ(gt_sched_advance(b.s, 0), 1);
            CHECK_EQ(c.runs, 1);
            CHECK_EQ(c.delay, 0);
            CHECK_EQ(gt_timer_reset(t, d[i]), 0);
            CHECK_EQ(c.runs, 1);
            CHECK_EQ(gt_timer_when(t), T0);
            CHECK_EQ(gt_sched_advance(b.s, 0), 1);
            CHECK_EQ(c.runs, 2);
            CHECK_EQ(gt_timer_free(t), 0);
            bed_down(&b);
        }
}

TEST(time_func_overflow_is_never, 10)
{
    const int64_t never[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX - T0, INT64_MAX - T0 + 1};

    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        struct counter c = {0};
        struct bed b;
        gt_timer *t;

        bed_up(&b, 1);
        t = must(gt_sched_after_func(b.s, never[i], count_run, &c, NULL));
        CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
        CHECK_EQ(gt_sched_advance(b.s, (int64_t)100 * 365 * 86400 * SEC), 0);
        CHECK_EQ(c.runs, 0);
        CHECK_EQ(get_stats(b.s).pending, 1);
        CHECK_EQ(gt_timer_reset(t, never[i]), 1);
        CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
        CHECK_EQ(gt_timer_stop(t), 1);
        CHECK_EQ(gt_timer_stop(t), 0);
        CHECK_EQ(gt_timer_reset(t, never[i]), 0);
        CHECK_EQ(gt_timer_free(t), 1);
        bed_down(&b);
    }
}

TEST(time_func_latest_time_but_one, 10)
{
    struct counter c = {0};
    struct bed b;
    gt_timer *t;

    bed_up(&b, 1);
    t = must(gt_sched_after_func(b.s, INT64_MAX - T0 - 1, count_run, &c, NULL));
    CHECK_EQ(gt_timer_when(t), INT64_MAX - 1);
    CHECK_EQ(gt_sched_advance(b.s, INT64_MAX - T0 - 2), 0);
    CHECK_EQ(gt_sched_advance(b.s, 1), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    bed_down(&b);
}

TEST(time_func_stop_results, 10)
{
    struct counter c = {0};
    struct bed b;
    gt_timer *t;

    bed_up(&b, 1);
    t = must(gt_sched_after_func(b.s, 100, count_run, &c, count_drop));
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_stop(t), 0);
    CHECK_EQ(gt_timer_when(t), 0);
    CHECK_EQ(gt_sched_advance(b.s, 1000), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_timer_reset(t, 100), 0);
    CHECK_EQ(gt_sched_advance(b.s, 100), 1);
    CHECK_EQ(gt_timer_stop(t), 0);               /* it has fired */
    CHECK_EQ(gt_timer_reset(t, 100), 0);
    CHECK_EQ(gt_sched_set_time(b.s, T0 + 5000), 0);
    CHECK_EQ(gt_timer_stop(t), 1);               /* due, but not yet run */
    CHECK_EQ(gt_sched_advance(b.s, 0), 0);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(c.drops, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    bed_down(&b);
}

TEST(time_func_reset_results, 10)
{
    struct counter c = {0};
    struct bed b;
    gt_timer *t;

    bed_up(&b, 1);
    t = must(gt_sched_after_func(b.s, 100, count_run, &c, NULL));
    CHECK_EQ(gt_timer_reset(t, 50), 1);          /* earlier */
    CHECK_EQ(gt_timer_when(t), T0 + 50);
    CHECK_EQ(gt_sched_advance(b.s, 50), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_sched_advance(b.s, 50), 0);      /* not at the old time */
    CHECK_EQ(gt_timer_reset(t, 100), 0);         /* T0 + 200 */
    CHECK_EQ(gt_timer_reset(t, 300), 1);         /* later: T0 + 400 */
    CHECK_EQ(gt_sched_advance(b.s, 299), 0);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_sched_advance(b.s, 1), 1);
    CHECK_EQ(c.runs, 2);
    CHECK_EQ(c.delay, 0);
    CHECK_EQ(gt_timer_reset(t, 10), 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_reset(t, 10), 0);          /* a stopped one */
    CHECK_EQ(gt_sched_set_time(b.s, T0 + 9000), 0);
    CHECK_EQ(gt_timer_reset(t, 10), 1);          /* due, not yet run: not run for the old time */
    CHECK_EQ(gt_sched_advance(b.s, 0), 0);
    CHECK_EQ(gt_sched_advance(b.s, 10), 1);
    CHECK_EQ(c.runs, 3);
    CHECK_EQ(c.delay, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    bed_down(&b);
}

/* A timer of the engine, made with gt_timer_new, obeys package time too. */
TEST(time_func_engine_timer, 10)
{
    struct counter c = {0};
    struct bed b;
    gt_timer *t;

    bed_up(&b, 1);
    t = new_timer(b.s, &c);
    CHECK_EQ(gt_timer_stop(t), 0);
    CHECK_EQ(gt_timer_reset(t, 100), 0);
    CHECK_EQ(gt_timer_when(t), T0 + 100);
    CHECK_EQ(gt_addtimer(t, T0 + 5, 0), GT_EALREADY);
    CHECK_EQ(gt_sched_advance(b.s, 100), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_addtimer(t, T0 + 200, 0), 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_modtimer(t, T0 + 300, 0, count_run_other, &c, 7), 0);
    CHECK_EQ(gt_timer_reset(t, 10), 1);          /* keeps f, arg and seq */
    CHECK_EQ(gt_sched_advance(b.s, 10), 1);
    CHECK_EQ(c.seq, 1007);
    CHECK_EQ(gt_timer_free(t), 0);
    bed_down(&b);
}

/* ---- from the timer's own callback ---- */

struct self {
    gt_timer *t;
    gt_sched *s;
    int what, runs, drops, in_f;
    int64_t d;
};

static void self_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct self *me = arg;

    (void)seq;
    CHECK_EQ(delay, 0);
    me->runs++;
    me->in_f = 1;
    switch (me->what) {
    case 0:
        CHECK_EQ(gt_timer_stop(me->t), 0);
        break;
    case 1:
        if (me->runs < 5)
            CHECK_EQ(gt_timer_reset(me->t, me->d), 0);
        break;
    case 2:
        CHECK_EQ(gt_timer_free(me->t), 0);
        CHECK_EQ(gt_timer_stop(me->t), GT_ESTALE);
        CHECK_EQ(gt_timer_reset(me->t, 1), GT_ESTALE);
        break;
    case 3:
        CHECK_EQ(gt_timer_reset(me->t, me->d), 0);
        CHECK_EQ(gt_timer_stop(me->t), 1);
        break;
    default:
        CHECK_EQ(gt_timer_reset(me->t, me->d), 0);
        CHECK_EQ(gt_timer_reset(me->t, 2 * me->d), 1);
        me->what = 0;
        break;
    }
    me->in_f = 0;
}

static void self_drop(void *arg)
{
    struct self *me = arg;

    CHECK_EQ(me->in_f, 0);
    me->drops++;
}

TEST(time_func_from_its_own_callback, 10)
{
    const int runs[] = {1, 5, 1, 1, 2};

    for (int what = 0; what < 5; what++) {
        struct self me = {.what = what, .d = 10};
        struct bed b;

        bed_up(&b, 1);
        me.s = b.s;
        me.t = must(gt_sched_after_func(b.s, 100, self_run, &me, self_drop));
        CHECK_EQ(gt_sched_advance(b.s, 99), 0);
        for (int i = 0; i < 20; i++)
            CHECK_GE(gt_sched_advance(b.s, 10), 0);
        CHECK_EQ(me.runs, runs[what]);
        CHECK_EQ(me.drops, what == 2);
        if (what != 2)
            CHECK_EQ(gt_timer_free(me.t), 0);
        CHECK_EQ(me.drops, 1);
        bed_down(&b);
    }
}

/* A callback that arms itself for now again and again starves nobody: a pass ends (S10). */
TEST(time_func_reset_to_now_in_callback, 10)
{
    struct self me = {.what = 1, .d = 0};
    struct counter c = {0};
    struct bed b;
    gt_timer *t;

    bed_up(&b, 1);
    me.t = must(gt_sched_after_func(b.s, 0, self_run, &me, self_drop));
    t = must(gt_sched_after_func(b.s, 0, count_run, &c, NULL));
    CHECK_EQ(check_at(b.p[0], T0), 1);
    CHECK_EQ(me.runs, 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(drain_at(b.p[0], T0), 4);
    CHECK_EQ(me.runs, 5);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(me.t), 0);
    bed_down(&b);
}

/* ---- drop, detach, ids, shutdown ---- */

TEST(time_func_drop_once, 10)
{
    for (int how = 0; how < 6; how++) {
        struct counter c = {0};
        struct bed b;
        gt_timer *t;
        uint64_t id;

        bed_up(&b, 1);
        t = must(gt_sched_after_func(b.s, 100, count_run, &c, count_drop));
        id = gt_timer_id(t);
        CHECK_NE(id, 0);
        switch (how) {
        case 0: CHECK_EQ(gt_timer_free(t), 1); break;
        case 1:
            CHECK_EQ(gt_timer_stop(t), 1);
            CHECK_EQ(c.drops, 0);
            CHECK_EQ(gt_timer_free(t), 0);
            break;
        case 2:                                     /* fire and forget */
            CHECK_EQ(gt_timer_detach(t), 0);
            CHECK_EQ(c.drops, 0);
            CHECK_EQ(gt_sched_advance(b.s, 100), 1);
            CHECK_EQ(c.runs, 1);
            break;
        case 3:
            CHECK_EQ(gt_shutdown_timer(t), 1);
            CHECK_EQ(c.drops, 1);
            CHECK_EQ(gt_timer_reset(t, 1), GT_ESHUTDOWN);
            CHECK_EQ(gt_timer_stop(t), 0);
            CHECK_EQ(gt_timer_free(t), 0);
            break;
        case 4: CHECK_EQ(gt_timer_free_id(b.s, id), 1); break;
        default:                                    /* detached, and stopped by id */
            CHECK_EQ(gt_timer_detach(t), 0);
            CHECK_EQ(gt_timer_stop_id(b.s, id), 1);
            break;
        }
        CHECK_EQ(c.drops, 1);
        if (how != 3)
            CHECK_EQ(gt_timer_when_id(b.s, id), GT_ESTALE);
        CHECK_EQ(gt_timer_stop_id(b.s, id), GT_ESTALE);
        CHECK_EQ(gt_timer_reset_id(b.s, id, 1), GT_ESTALE);
        CHECK_EQ(gt_sched_advance(b.s, 1000), 0);
        CHECK_EQ(c.drops, 1);
        CHECK_GE(gt_trim(b.p[0]), 0);
        CHECK_EQ(get_stats(b.s).timers, 0);
        bed_down(&b);
    }
}

TEST(time_func_by_id, 10)
{
    struct counter c = {0};
    struct bed b;
    gt_timer *t;
    uint64_t id;

    bed_up(&b, 1);
    t = must(gt_sched_after_func(b.s, 100, count_run, &c, count_drop));
    id = gt_timer_id(t);
    CHECK_EQ(gt_timer_reset_id(b.s, id, 50), 1);
    CHECK_EQ(gt_timer_when_id(b.s, id), T0 + 50);
    CHECK_EQ(gt_timer_stop_id(b.s, id), 1);
    CHECK_EQ(gt_timer_stop_id(b.s, id), 0);
    CHECK_EQ(gt_timer_reset_id(b.s, id, -5), 0);
    CHECK_EQ(gt_sched_advance(b.s, 0), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_reset_id(b.s, id, INT64_MAX), 0);
    CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(gt_timer_reset_id(b.s, id, 1), GT_ESTALE);
    bed_down(&b);
}

/* Many timers in random order: each fires at its own time, in order. */
#define MANY 2000
static int64_t last_when;

static void in_order(void *arg, uintptr_t seq, int64_t delay)
{
    int64_t *when = arg;

    (void)seq;
    CHECK_EQ(delay, 0);
    CHECK_GE(*when, last_when);
    last_when = *when;
    *when = -1;
}

TEST(time_func_many_in_order, 20)
{
    static int64_t when[MANY];
    static gt_timer *t[MANY];
    uint64_t rng = test_seed();
    struct bed b;

    bed_up(&b, 1);
    for (int i = 0; i < MANY; i++) {
        int64_t d = (int64_t)rng_below(&rng, 100000) - 10;

        when[i] = T0 + (d > 0 ? d : 0);
        t[i] = must(gt_sched_after_func(b.s, d, in_order, &when[i], NULL));
    }
    for (int64_t now = T0; now < T0 + 100000; now = gt_nanotime(b.s)) {
        CHECK_GE(gt_sched_advance(b.s, 1 + (int64_t)rng_below(&rng, 1000)), 0);
        for (int i = 0; i < MANY; i++)
            CHECK(when[i] == -1 || when[i] > gt_nanotime(b.s));
    }
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(when[i], -1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    bed_down(&b);
}
