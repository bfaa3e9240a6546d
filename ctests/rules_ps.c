/* Rule S14: Ps come and go, and no timer is lost by it. */
#include "rules.h"

enum { N = 30 };

struct ps_rig {
    gt_sched *s;
    gt_p *p, *q;
    struct counter c[N];
    gt_timer *t[N];
};

/* N timers at T0+10 .. T0+10+N-1; every third is armed on p and re-armed since, every fifth is
 * stopped, the rest is as armed. */
static int ps_up(struct ps_rig *r)
{
    int armed = 0;

    memset(r, 0, sizeof *r);
    r->s = virtual_sched();
    r->p = new_p(r->s);
    r->q = new_p(r->s);
    for (int i = 0; i < N; i++) {
        r->t[i] = new_timer(r->s, &r->c[i]);
        CHECK_EQ(gt_addtimer_on(r->p, r->t[i], T0 + (i % 3 ? 10 : i % 2 ? 5 : 500) + i, 0), 0);
        if (i % 3 == 0)
            CHECK_EQ(gt_resettimer(r->t[i], T0 + 10 + i, 0), 1);
        if (i % 5 == 0)
            CHECK_EQ(gt_deltimer(r->t[i]), 1);
        armed += i % 5 != 0;
    }
    return armed;
}

/* All must run on p, at their times, not before. */
static void ps_run(struct ps_rig *r, gt_p *p)
{
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    for (int i = 0; i <= N; i++) {
        drain_at(p, T0 + 9 + i);
        for (int k = 0; k < N; k++)
            CHECK_EQ(r->c[k].runs, k % 5 != 0 && k < i);
    }
}

static void ps_down(struct ps_rig *r)
{
    for (int i = 0; i < N; i++) {
        CHECK_EQ(gt_timer_free(r->t[i]), 0);
        CHECK_EQ(r->c[i].drops, 1);
    }
    check_conserved(r->s);
    if (r->p != NULL)
        free_p(r->p);
    if (r->q != NULL)
        free_p(r->q);
    close_sched(r->s);
}

TEST(s14_p_free_moves_to_a_live_p, 10)
{
    struct ps_rig r;

    ps_up(&r);
    free_p(r.p);
    r.p = NULL;
    CHECK_EQ(gt_nobarrier_wake_time(r.q) != 0 && gt_nobarrier_wake_time(r.q) <= T0 + 11, 1);
    CHECK_LE(gt_time_sleep_until(r.s), T0 + 11);
    ps_run(&r, r.q);
    ps_down(&r);
}

TEST(s14_p_free_to_orphans_and_on_to_the_next_p, 10)
{
    struct ps_rig r;

    ps_up(&r);
    free_p(r.q);
    free_p(r.p);
    r.q = NULL;
    CHECK_LE(gt_time_sleep_until(r.s), T0 + 11);           /* orphans count */
    CHECK_GT(gt_time_sleep_until(r.s), T0);
    CHECK_EQ(gt_overdue(r.s, T0 + 5), 0);
    CHECK_EQ(gt_resettimer(r.t[1], T0 + 300, 0), 1);       /* and can be worked on */
    CHECK_EQ(gt_deltimer(r.t[2]), 1);
    CHECK_EQ(gt_addtimer(r.t[2], T0 + 12, 0), 0);
    CHECK_EQ(gt_resettimer(r.t[1], T0 + 11, 0), 1);
    r.p = new_p(r.s);
    CHECK_LE(gt_nobarrier_wake_time(r.p), T0 + 11);
    CHECK_EQ(gt_time_sleep_until(r.s), gt_nobarrier_wake_time(r.p));
    ps_run(&r, r.p);
    ps_down(&r);
}

/* Orphans that fell due while there was no P run on the first pass, and gt_sched_advance runs
 * them without any P. */
TEST(s14_orphans_fall_due, 10)
{
    struct ps_rig r;
    int armed = ps_up(&r), runs = 0;

    free_p(r.q);
    free_p(r.p);
    r.q = r.p = NULL;
    CHECK_EQ(gt_sched_advance(r.s, 24), 1);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(r.c[i].runs, i % 5 != 0 && i <= 14);
        CHECK_EQ(r.c[i].delay, 0);
    }
    CHECK_EQ(gt_sched_set_time(r.s, T0 + 1000), 0);
    CHECK_GT(gt_overdue(r.s, T0 + 1000), 0);
    r.p = new_p(r.s);
    while (gt_check_timers(r.p, 0, NULL, NULL) == 1) {}
    for (int i = 0; i < N; i++)
        runs += r.c[i].runs;
    CHECK_EQ(runs, armed);
    ps_down(&r);
}

TEST(s14_check_others_steals, 10)
{
    struct ps_rig r;
    int armed = ps_up(&r), ran = 0;
    gt_stats st;
    int64_t now = 0, until = 0;

    CHECK_EQ(gt_check_others(r.s, r.q, T0 + 5, &now, &until), 0);
    CHECK_EQ(now, T0 + 5);
    CHECK_GT(until, 0);
    CHECK_LE(until, T0 + 11);
    CHECK_EQ(gt_check_others(r.s, r.p, T0 + 100, NULL, NULL), 0);   /* not from itself */
    while (gt_check_others(r.s, r.q, T0 + 100, NULL, &until) == 1) {}
    CHECK_EQ(until, 0);
    for (int i = 0; i < N; i++)
        ran += r.c[i].runs;
    CHECK_EQ(ran, armed);
    st = get_stats(r.s);
    CHECK_EQ(st.steals, armed);
    CHECK_EQ(st.fired, armed);
    CHECK_EQ(check_at(r.p, T0 + 100), 0);
    ps_down(&r);
}

static uintptr_t ran_on;

static void note_thread(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    ran_on = this_thread();
    CHECK_PTR_EQ(gt_current_p(), arg);
}

/* What is stolen runs on the thief's thread, with the thief's P bound. */
TEST(s14_stolen_timers_run_on_the_thief, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s), *q = new_p(s);
    gt_timer *t = gt_timer_new(s, note_thread, q, NULL);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    CHECK_EQ(gt_acquirep(q), 0);
    CHECK_EQ(gt_check_others(s, q, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(ran_on, this_thread());
    CHECK_PTR_EQ(gt_releasep(), q);
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(p);
    free_p(q);
    close_sched(s);
}

TEST(s14_adopt, 10)
{
    struct ps_rig r;
    gt_sched *other = virtual_sched();
    gt_p *foreign = new_p(other);
    int armed = ps_up(&r);
    struct counter c = {0};
    gt_timer *t = new_timer(r.s, &c);
    int moved;

    CHECK_EQ(gt_addtimer_on(r.q, t, T0 + 1000, 0), 0);
    CHECK_EQ(gt_adopt_timers(r.p, r.p), GT_EINVAL);
    CHECK_EQ(gt_adopt_timers(foreign, r.p), GT_EXDEV);
    CHECK_EQ(gt_adopt_timers(r.p, foreign), GT_EXDEV);
    moved = gt_adopt_timers(r.q, r.p);
    CHECK_GE(moved, armed);                          /* dead entries may move as well */
    CHECK_LE(moved, N);
    CHECK_EQ(gt_p_num_timers(r.p), 0);
    CHECK_EQ(gt_nobarrier_wake_time(r.p), 0);
    CHECK_EQ(check_at(r.p, T0 + 900), 0);
    CHECK_EQ(gt_verify_timer_heap(r.p), 0);
    CHECK_LE(gt_nobarrier_wake_time(r.q), T0 + 11);
    ps_run(&r, r.q);
    CHECK_EQ(gt_adopt_timers(r.p, r.q), 1);
    CHECK_EQ(gt_adopt_timers(r.p, r.q), 0);
    CHECK_EQ(check_at(r.p, T0 + 1000), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    ps_down(&r);
    free_p(foreign);
    close_sched(other);
}

/* ---- binding ---- */

struct binder {
    gt_p *p, *q;
    atomic_int stage, next;
};

static void *bind_and_exit(void *arg)
{
    struct binder *b = arg;

    CHECK_EQ(gt_acquirep(b->p), 0);
    CHECK_EQ(gt_acquirep(b->p), 0);                 /* again: fine */
    CHECK_EQ(gt_acquirep(b->q), GT_EBUSY);          /* bound to another */
    CHECK_PTR_EQ(gt_current_p(), b->p);
    b->stage = 1;
    wait_for(&b->next, 1);
    return NULL;                                    /* without gt_releasep */
}

TEST(s14_a_thread_that_ends_releases_its_p, 20)
{
    gt_sched *s = virtual_sched();
    struct binder b = {.p = new_p(s), .q = new_p(s)};
    pthread_t th = thread_start(bind_and_exit, &b);

    wait_for(&b.stage, 1);
    CHECK_EQ(gt_acquirep(b.p), GT_EBUSY);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    b.next = 1;
    thread_join(th);
    CHECK_EQ(gt_acquirep(b.p), 0);
    CHECK_PTR_EQ(gt_current_p(), b.p);
    CHECK_PTR_EQ(gt_releasep(), b.p);
    CHECK_PTR_EQ(gt_releasep(), NULL);
    free_p(b.p);
    free_p(b.q);
    close_sched(s);
}

static void *bind_and_lose(void *arg)
{
    struct binder *b = arg;

    CHECK_EQ(gt_acquirep(b->p), 0);
    b->stage = 1;
    wait_for(&b->next, 1);
    CHECK_PTR_EQ(gt_current_p(), NULL);             /* freed by somebody else */
    CHECK_PTR_EQ(gt_releasep(), NULL);
    CHECK_EQ(gt_acquirep(b->q), 0);
    return NULL;
}

/* Freeing a P that another thread is bound to unbinds that thread. */
TEST(s14_p_free_unbinds, 20)
{
    gt_sched *s = virtual_sched();
    struct binder b = {.p = new_p(s), .q = new_p(s)};
    pthread_t th = thread_start(bind_and_lose, &b);

    wait_for(&b.stage, 1);
    free_p(b.p);
    b.next = 1;
    thread_join(th);
    CHECK_EQ(gt_acquirep(b.q), 0);
    free_p(b.q);                                    /* bound to this thread */
    CHECK_PTR_EQ(gt_current_p(), NULL);
    close_sched(s);
}

/* A bound thread's timers go to its own P; a thread's without one to a live P. */
TEST(s14_where_a_timer_goes, 10)
{
    struct ps_rig r;
    gt_timer *t;
    struct counter c = {0};

    ps_up(&r);
    t = new_timer(r.s, &c);
    CHECK_EQ(gt_acquirep(r.q), 0);
    CHECK_EQ(gt_addtimer(t, T0 + 700, 0), 0);
    CHECK_EQ(gt_p_num_timers(r.q), 1);
    CHECK_EQ(gt_nobarrier_wake_time(r.q), T0 + 700);
    CHECK_PTR_EQ(gt_releasep(), r.q);
    CHECK_EQ(gt_resettimer_on(r.p, t, T0 + 650, 0), 1);      /* in a heap: it stays there */
    CHECK_EQ(gt_p_num_timers(r.q), 1);
    CHECK_EQ(gt_timer_free(t), 1);
    ps_run(&r, r.p);
    ps_down(&r);
}

/* ---- the end of a sched ---- */

TEST(s14_sched_free_stops_and_drops, 10)
{
    struct ps_rig r;

    ps_up(&r);
    CHECK_EQ(gt_sched_free(r.s), GT_EBUSY);
    free_p(r.p);
    CHECK_EQ(gt_sched_free(r.s), GT_EBUSY);
    CHECK_EQ(gt_addtimer(r.t[0], T0 + 10, 0), 0);           /* nothing changed by the attempts */
    free_p(r.q);
    close_sched(r.s);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(r.c[i].runs, 0);
        CHECK_LE(r.c[i].drops, 1);
        if (i % 5 != 0)
            CHECK_EQ(r.c[i].drops, 1);
        CHECK_EQ(gt_addtimer(r.t[i], T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_resettimer(r.t[i], T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_deltimer(r.t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_free(r.t[i]), 0);
        CHECK_EQ(r.c[i].drops, 1);
    }
}

/* ---- everything at once ---- */

struct churn {
    gt_sched *s;
    atomic_int stop;
};

static void *churn_worker(void *arg)
{
    struct churn *w = arg;
    uint64_t rng = test_seed() + this_thread();

    while (!w->stop) {
        gt_p *p = new_p(w->s);

        CHECK_EQ(gt_acquirep(p), 0);
        for (uint64_t i = 1 + rng_below(&rng, 50); i > 0; i--) {
            CHECK_GE(gt_check_timers(p, 0, NULL, NULL), 0);
            CHECK_GE(gt_check_others(w->s, p, 0, NULL, NULL), 0);
        }
        CHECK_GT(gt_time_sleep_until(w->s), 0);
        if (rng_below(&rng, 2))
            CHECK_PTR_EQ(gt_releasep(), p);
        free_p(p);
    }
    return NULL;
}

/* Ps are made and freed all the time by two threads, sometimes there is none; timers armed by
 * two others all run in the end, periodic ones go on. */
TEST(s14_ps_come_and_go_under_load, 60)
{
    enum { M = 400 };
    static struct counter c[M], tick[4];
    struct churn w = {.s = new_sched(GT_CLOCK_MONOTONIC)};
    gt_timer *t[M], *ticker[4];
    pthread_t th[2];
    int64_t end = mono_now() + 1500 * MS;
    int rounds = 0;

    for (int i = 0; i < 4; i++) {
        ticker[i] = new_timer(w.s, &tick[i]);
        CHECK_EQ(gt_addtimer(ticker[i], gt_nanotime(w.s) + MS, MS), 0);
    }
    for (int i = 0; i < M; i++)
        t[i] = new_timer(w.s, &c[i]);
    for (int i = 0; i < 2; i++)
        th[i] = thread_start(churn_worker, &w);
    while (mono_now() < end) {
        for (int i = 0; i < M; i++)
            CHECK_EQ(gt_addtimer(t[i], gt_nanotime(w.s) + (i % 7) * 20 * US, 0), 0);
        rounds++;
        for (int i = 0; i < M; i++)
            wait_for(&c[i].runs, rounds);
    }
    for (int i = 0; i < 4; i++) {
        int before = tick[i].runs;

        wait_for(&tick[i].runs, before + 3);
    }
    w.stop = 1;
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    for (int i = 0; i < M; i++) {
        CHECK_EQ(c[i].runs, rounds);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK_EQ(gt_timer_free(ticker[i]), 1);
    check_conserved(w.s);
    close_sched(w.s);
}
