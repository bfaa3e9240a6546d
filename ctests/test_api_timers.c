/* The timers' own functions, the functions that run timers, and the twins by id: each is
 * called at least once and its meaning checked, on the virtual clock. */
#include "support.h"

/* A sched with one P and one timer, the usual ground. */
struct ground {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct counter c;
};

static void ground_open(struct ground *g)
{
    memset(g, 0, sizeof *g);
    g->s = virtual_sched();
    g->p = gt_p_new(g->s);
    CHECK(g->p != NULL);
    g->t = gt_timer_new(g->s, count_run, &g->c, count_drop);
    CHECK(g->t != NULL);
}

static void ground_close(struct ground *g)
{
    CHECK_EQ(gt_verify_timer_heap(g->p), 0);
    check_conserved(g->s);
    CHECK_EQ(gt_p_free(g->p), 0);
    close_sched(g->s);
    CHECK_EQ(g->c.drops, 1);
}

TEST(api_addtimer_fires, 5)
{
    struct ground g;
    int64_t now, until;

    ground_open(&g);
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_REMOVED);
    CHECK_EQ(gt_timer_when(g.t), 0);
    CHECK_EQ(gt_nobarrier_wake_time(g.p), 0);
    CHECK_EQ(gt_check_timers(g.p, 0, &now, &until), 0);
    CHECK_EQ(now, T0);
    CHECK_EQ(until, 0);

    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_WAITING);
    CHECK_EQ(gt_timer_when(g.t), T0 + 10);
    CHECK_EQ(gt_p_num_timers(g.p), 1);
    CHECK_EQ(gt_p_deleted_timers(g.p), 0);
    CHECK_EQ(gt_nobarrier_wake_time(g.p), T0 + 10);
    CHECK_EQ(gt_check_timers(g.p, T0 + 9, &now, &until), 0);
    CHECK_EQ(now, T0 + 9);
    CHECK_EQ(until, T0 + 10);
    CHECK_EQ(g.c.runs, 0);

    CHECK_EQ(gt_check_timers(g.p, T0 + 13, &now, &until), 1);
    CHECK_EQ(now, T0 + 13);
    CHECK_EQ(until, 0);
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(g.c.delay, 3);
    CHECK_EQ(g.c.seq, 0);
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_REMOVED);
    CHECK_EQ(gt_timer_when(g.t), 0);
    CHECK_EQ(gt_p_num_timers(g.p), 0);

    CHECK_EQ(gt_addtimer(g.t, T0 + 5, 0), 0);       /* again, already due */
    CHECK_EQ(gt_check_timers(g.p, T0 + 13, NULL, NULL), 1);
    CHECK_EQ(g.c.runs, 2);
    CHECK_EQ(g.c.delay, 8);
    CHECK_EQ(gt_timer_free(g.t), 0);
    ground_close(&g);
}

TEST(api_modtimer, 5)
{
    struct ground g;
    struct counter other = {0};

    ground_open(&g);
    CHECK_EQ(gt_modtimer(g.t, T0 + 10, 0, count_run, &g.c, 7), 0);      /* was not pending */
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_WAITING);
    CHECK_EQ(gt_modtimer(g.t, T0 + 20, 0, count_run_other, &g.c, 8), 1);
    CHECK_EQ(gt_timer_when(g.t), T0 + 20);
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_MODIFIED);
    CHECK_EQ(gt_check_timers(g.p, T0 + 19, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 20, NULL, NULL), 1);
    CHECK_EQ(g.c.seq, 1008);
    CHECK_EQ(gt_modtimer(g.t, T0 + 30, 0, count_run, &other, 9), 0);
    CHECK_EQ(g.c.drops, 1);                                             /* the arg was replaced */
    CHECK_EQ(gt_modtimer(g.t, T0 + 25, 0, count_run, &other, 10), 1);   /* to earlier */
    CHECK_EQ(gt_nobarrier_wake_time(g.p), T0 + 25);
    CHECK_EQ(gt_check_timers(g.p, T0 + 25, NULL, NULL), 1);
    CHECK_EQ(other.runs, 1);
    CHECK_EQ(other.seq, 10);
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(gt_timer_free(g.t), 0);
    CHECK_EQ(other.drops, 1);
    ground_close(&g);
}

TEST(api_resettimer, 5)
{
    struct ground g;

    ground_open(&g);
    CHECK_EQ(gt_modtimer(g.t, T0 + 10, 0, count_run, &g.c, 42), 0);
    CHECK_EQ(gt_resettimer(g.t, T0 + 30, 0), 1);        /* f, arg and seq stay */
    CHECK_EQ(gt_check_timers(g.p, T0 + 29, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 30, NULL, NULL), 1);
    CHECK_EQ(g.c.seq, 42);
    CHECK_EQ(gt_resettimer(g.t, T0 + 40, 0), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 40, NULL, NULL), 1);
    CHECK_EQ(g.c.seq, 42);
    CHECK_EQ(g.c.runs, 2);
    CHECK_EQ(gt_timer_free(g.t), 0);
    ground_close(&g);
}

TEST(api_deltimer, 5)
{
    struct ground g;

    ground_open(&g);
    CHECK_EQ(gt_deltimer(g.t), 0);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_deltimer(g.t), 1);
    CHECK_EQ(gt_deltimer(g.t), 0);
    CHECK_EQ(gt_timer_when(g.t), 0);
    CHECK_NE(gt_timer_status(g.t), GT_TIMER_WAITING);
    CHECK_EQ(gt_check_timers(g.p, T0 + 100, NULL, NULL), 0);
    CHECK_EQ(g.c.runs, 0);
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_REMOVED);
    CHECK_EQ(gt_addtimer(g.t, T0 + 110, 0), 0);
    CHECK_EQ(gt_deltimer_sync(g.t), 1);
    CHECK_EQ(gt_deltimer_sync(g.t), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 200, NULL, NULL), 0);
    CHECK_EQ(gt_addtimer(g.t, T0 + 210, 0), 0);         /* a stopped one may be armed again */
    CHECK_EQ(gt_timer_free(g.t), 1);
    CHECK_EQ(gt_check_timers(g.p, T0 + 300, NULL, NULL), 0);
    CHECK_EQ(g.c.runs, 0);
    ground_close(&g);
}

TEST(api_shutdown_timer, 5)
{
    struct ground g;

    ground_open(&g);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_shutdown_timer(g.t), 1);
    CHECK_EQ(gt_shutdown_timer(g.t), 0);
    CHECK_EQ(gt_deltimer(g.t), 0);
    CHECK_EQ(gt_deltimer_sync(g.t), 0);
    CHECK_EQ(gt_timer_when(g.t), 0);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_check_timers(g.p, T0 + 10, NULL, NULL), 0);
    CHECK_EQ(gt_addtimer(g.t, T0 + 20, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(g.t), 0);
    ground_close(&g);
    CHECK_EQ(g.c.runs, 0);
}

TEST(api_detach_fires_then_frees_itself, 5)
{
    struct ground g;

    ground_open(&g);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_timer_detach(g.t), 0);
    CHECK_EQ(g.c.drops, 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(g.c.drops, 1);
    CHECK_EQ(get_stats(g.s).timers, 0);
    ground_close(&g);
}

/* ---- periodic ---- */

TEST(api_periodic, 5)
{
    struct ground g;
    int64_t until;

    ground_open(&g);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 10), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 10, NULL, &until), 1);
    CHECK_EQ(until, T0 + 20);
    CHECK_EQ(g.c.delay, 0);
    CHECK_EQ(gt_timer_when(g.t), T0 + 20);
    CHECK_EQ(gt_timer_status(g.t), GT_TIMER_WAITING);
    CHECK_EQ(gt_check_timers(g.p, T0 + 45, NULL, &until), 1);   /* missed ticks are skipped */
    CHECK_EQ(g.c.runs, 2);
    CHECK_EQ(g.c.delay, 25);
    CHECK_EQ(until, T0 + 50);                                   /* the phase is kept */
    CHECK_EQ(gt_check_timers(g.p, T0 + 60, NULL, &until), 1);   /* exactly on a tick */
    CHECK_EQ(g.c.runs, 3);
    CHECK_EQ(until, T0 + 70);
    CHECK_EQ(get_stats(g.s).ticks, 3);
    CHECK_EQ(get_stats(g.s).fired, 0);
    CHECK_EQ(get_stats(g.s).pending, 1);
    CHECK_EQ(gt_resettimer(g.t, T0 + 75, 0), 1);                /* now a one-shot */
    CHECK_EQ(gt_check_timers(g.p, T0 + 74, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 80, NULL, &until), 1);
    CHECK_EQ(until, 0);
    CHECK_EQ(get_stats(g.s).fired, 1);
    CHECK_EQ(gt_timer_free(g.t), 0);
    ground_close(&g);
}

TEST(api_periodic_saturates, 5)
{
    struct ground g;

    ground_open(&g);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, INT64_MAX), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(gt_timer_when(g.t), GT_MAX_WHEN);
    CHECK_EQ(gt_check_timers(g.p, GT_MAX_WHEN, NULL, NULL), 0);
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(gt_deltimer(g.t), 1);                              /* still pending */
    CHECK_EQ(gt_addtimer(g.t, GT_MAX_WHEN, 0), 0);              /* never fires */
    CHECK_EQ(gt_check_timers(g.p, GT_MAX_WHEN, NULL, NULL), 0);
    CHECK_EQ(gt_time_sleep_until(g.s), GT_MAX_WHEN);
    CHECK_EQ(gt_timer_free(g.t), 1);
    ground_close(&g);
}

/* ---- running ---- */

TEST(api_runtimer, 5)
{
    struct ground g;
    gt_timer *u;

    ground_open(&g);
    u = gt_timer_new(g.s, count_run, &g.c, NULL);
    CHECK_EQ(gt_runtimer(g.p, T0), -1);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer(u, T0 + 20, 0), 0);
    CHECK_EQ(gt_runtimer(g.p, T0 + 9), T0 + 10);
    CHECK_EQ(gt_runtimer(g.p, T0 + 20), 0);              /* one at a time */
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(g.c.delay, 10);
    CHECK_EQ(gt_resettimer(u, T0 + 30, 0), 1);
    CHECK_EQ(gt_runtimer(g.p, T0 + 20), T0 + 30);        /* the stale head is repaired */
    CHECK_EQ(gt_timer_status(u), GT_TIMER_WAITING);
    CHECK_EQ(gt_sched_set_time(g.s, T0 + 30), 0);
    CHECK_EQ(gt_runtimer(g.p, 0), 0);                    /* 0: reads the clock */
    CHECK_EQ(g.c.runs, 2);
    CHECK_EQ(gt_runtimer(g.p, 0), -1);
    CHECK_EQ(gt_addtimer(g.t, T0 + 40, 0), 0);
    CHECK_EQ(gt_deltimer(g.t), 1);
    CHECK_EQ(gt_runtimer(g.p, T0 + 40), -1);             /* a deleted head is no timer */
    CHECK_EQ(g.c.runs, 2);
    gt_timer_free(g.t);
    gt_timer_free(u);
    ground_close(&g);
}

TEST(api_check_others, 5)
{
    struct ground g;
    gt_p *q;
    gt_timer *u;
    int64_t now, until;

    ground_open(&g);
    q = gt_p_new(g.s);
    u = gt_timer_new(g.s, count_run, &g.c, NULL);
    CHECK_EQ(gt_check_others(g.s, NULL, 0, &now, &until), 0);
    CHECK_EQ(now, T0);
    CHECK_EQ(until, 0);
    CHECK_EQ(gt_addtimer_on(g.p, g.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer_on(q, u, T0 + 20, 0), 0);
    CHECK_EQ(gt_check_others(g.s, g.p, T0 + 15, &now, &until), 0);    /* not its own */
    CHECK_EQ(now, T0 + 15);
    CHECK_EQ(until, T0 + 20);
    CHECK_EQ(gt_check_others(g.s, q, T0 + 15, NULL, NULL), 1);
    CHECK_EQ(g.c.runs, 1);
    CHECK_EQ(g.c.delay, 5);
    CHECK_EQ(gt_addtimer_on(g.p, g.t, T0 + 30, 0), 0);
    CHECK_EQ(gt_check_others(g.s, NULL, T0 + 31, &now, &until), 1);   /* all of them */
    CHECK_EQ(g.c.runs, 3);
    CHECK_EQ(until, 0);
    gt_timer_free(g.t);
    gt_timer_free(u);
    CHECK_EQ(gt_p_free(q), 0);
    ground_close(&g);
}

TEST(api_clean_adjust_trim, 20)
{
    enum { N = 200 };
    struct ground g;
    gt_timer *t[N];
    int64_t dead;

    ground_open(&g);
    CHECK_EQ(gt_cleantimers(g.p), 0);
    CHECK_EQ(gt_adjusttimers(g.p, T0, 1), 0);
    CHECK_EQ(gt_trim(g.p), 0);
    for (int i = 0; i < N; i++) {
        t[i] = gt_timer_new(g.s, count_run, &g.c, NULL);
        CHECK_EQ(gt_addtimer(t[i], T0 + 100 + i, 0), 0);
    }
    for (int i = 0; i < N; i += 4)
        CHECK_EQ(gt_resettimer(t[i], T0 + 50 + i, 0), 1);
    CHECK_EQ(gt_adjusttimers(g.p, T0 + 10, 0), 0);    /* nothing due yet */
    CHECK_EQ(gt_verify_timer_heap(g.p), 0);
    CHECK_EQ(gt_adjusttimers(g.p, T0 + 60, 0), 0);
    CHECK_EQ(gt_verify_timer_heap(g.p), 0);
    CHECK_EQ(gt_adjusttimers(g.p, T0 + 60, 1), 0);
    CHECK_EQ(gt_verify_timer_heap(g.p), 0);
    CHECK_EQ(gt_nobarrier_wake_time(g.p), T0 + 50);
    CHECK_EQ(gt_deltimer(t[0]), 1);                   /* the first of all */
    CHECK_EQ(gt_cleantimers(g.p), 0);
    CHECK_EQ(gt_p_deleted_timers(g.p), 0);
    CHECK_EQ(gt_nobarrier_wake_time(g.p), T0 + 54);
    for (int i = 1; i < N; i += 10)
        CHECK_EQ(gt_deltimer(t[i]), 1);
    dead = gt_p_deleted_timers(g.p);
    CHECK_EQ(gt_p_num_timers(g.p) - dead, N - 1 - N / 10);
    CHECK_EQ(gt_trim(g.p), dead);
    CHECK_EQ(gt_p_deleted_timers(g.p), 0);
    CHECK_EQ(gt_p_num_timers(g.p), N - 1 - N / 10);
    CHECK_EQ(gt_verify_timer_heap(g.p), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 1000, NULL, NULL), 1);
    CHECK_EQ(g.c.runs, N - 1 - N / 10);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    gt_timer_free(g.t);
    ground_close(&g);
}

TEST(api_named_p, 5)
{
    struct ground g;
    gt_p *q;

    ground_open(&g);
    q = gt_p_new(g.s);
    CHECK_EQ(gt_acquirep(g.p), 0);
    CHECK_EQ(gt_addtimer(g.t, T0 + 10, 0), 0);                        /* the bound P */
    CHECK_EQ(gt_p_num_timers(g.p), 1);
    CHECK_EQ(gt_resettimer_on(q, g.t, T0 + 20, 0), 1);                /* it stays where it is */
    CHECK_EQ(gt_p_num_timers(g.p), 1);
    CHECK_EQ(gt_p_num_timers(q), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 20, NULL, NULL), 1);
    CHECK_EQ(gt_addtimer_on(q, g.t, T0 + 30, 0), 0);                  /* in no heap: to q */
    CHECK_EQ(gt_p_num_timers(q), 1);
    CHECK_EQ(gt_check_timers(q, T0 + 30, NULL, NULL), 1);
    CHECK_EQ(gt_modtimer_on(g.p, g.t, T0 + 40, 0, count_run_other, &g.c, 5), 0);
    CHECK_EQ(gt_p_num_timers(g.p), 1);
    CHECK_EQ(gt_check_timers(g.p, T0 + 40, NULL, NULL), 1);
    CHECK_EQ(g.c.seq, 1005);
    CHECK_EQ(gt_resettimer_on(q, g.t, T0 + 50, 7), 0);
    CHECK_EQ(gt_p_num_timers(q), 1);
    CHECK_EQ(gt_check_timers(q, T0 + 50, NULL, NULL), 1);
    CHECK_EQ(gt_timer_when(g.t), T0 + 57);
    CHECK_EQ(g.c.runs, 4);
    CHECK_EQ(gt_timer_free(g.t), 1);
    CHECK_PTR_EQ(gt_releasep(), g.p);
    CHECK_EQ(gt_p_free(q), 0);
    ground_close(&g);
}

TEST(api_arm_without_any_p, 5)
{
    struct counter c = {0};
    gt_sched *s = virtual_sched();
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    gt_p *p;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 10);
    CHECK_EQ(gt_resettimer(t, T0 + 20, 0), 1);
    CHECK_EQ(gt_deltimer(t), 1);
    CHECK_EQ(gt_addtimer(t, T0 + 30, 0), 0);
    p = gt_p_new(s);
    CHECK_EQ(gt_check_timers(p, T0 + 29, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(p, T0 + 30, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- by id ---- */

TEST(api_ids, 5)
{
    struct ground g;
    gt_timer *u;
    uint64_t id;

    ground_open(&g);
    id = gt_timer_id(g.t);
    CHECK(id != 0);
    CHECK_EQ(gt_timer_id(g.t), id);
    u = gt_timer_new(g.s, count_run, &g.c, NULL);
    CHECK(gt_timer_id(u) != 0 && gt_timer_id(u) != id);

    CHECK_EQ(gt_addtimer_id(g.s, id, T0 + 10, 0), 0);
    CHECK_EQ(gt_timer_status_id(g.s, id), GT_TIMER_WAITING);
    CHECK_EQ(gt_timer_when_id(g.s, id), T0 + 10);
    CHECK_EQ(gt_timer_when(g.t), T0 + 10);
    CHECK_EQ(gt_resettimer_id(g.s, id, T0 + 20, 0), 1);
    CHECK_EQ(gt_modtimer_id(g.s, id, T0 + 30, 0, count_run_other, &g.c, 3), 1);
    CHECK_EQ(gt_check_timers(g.p, T0 + 29, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(g.p, T0 + 30, NULL, NULL), 1);
    CHECK_EQ(g.c.seq, 1003);
    CHECK_EQ(gt_timer_id(g.t), id);                    /* one id for life */
    CHECK_EQ(gt_addtimer_id(g.s, id, T0 + 40, 0), 0);
    CHECK_EQ(gt_deltimer_id(g.s, id), 1);
    CHECK_EQ(gt_deltimer_id(g.s, id), 0);
    CHECK_EQ(gt_addtimer_id(g.s, id, T0 + 40, 0), 0);
    CHECK_EQ(gt_deltimer_sync_id(g.s, id), 1);
    CHECK_EQ(gt_addtimer_id(g.s, id, T0 + 40, 0), 0);
    CHECK_EQ(gt_shutdown_timer_id(g.s, id), 1);
    CHECK_EQ(gt_addtimer_id(g.s, id, T0 + 40, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free_id(g.s, id), 0);
    CHECK_EQ(g.c.drops, 1);
    CHECK_EQ(gt_timer_status_id(g.s, id), GT_ESTALE);

    g.c.drops = 0;
    CHECK_EQ(gt_addtimer(u, T0 + 50, 0), 0);
    id = gt_timer_id(u);
    CHECK_EQ(gt_timer_detach_id(g.s, id), 0);
    CHECK_EQ(gt_timer_when_id(g.s, id), T0 + 50);      /* the id outlives the handle */
    CHECK_EQ(gt_check_timers(g.p, T0 + 50, NULL, NULL), 1);
    CHECK_EQ(gt_timer_when_id(g.s, id), GT_ESTALE);
    CHECK_EQ(g.c.runs, 2);
    g.c.drops = 1;
    ground_close(&g);
}
