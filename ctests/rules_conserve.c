/* Rule S4: every successful arming ends in exactly one way, and the counters say so. */
#include "rules.h"

static void check_stats(gt_sched *s, int armed, int fired, int stopped, int replaced, int pending, int ticks)
{
    gt_stats st = get_stats(s);

    CHECK_EQ(st.armed, armed);
    CHECK_EQ(st.fired, fired);
    CHECK_EQ(st.stopped, stopped);
    CHECK_EQ(st.replaced, replaced);
    CHECK_EQ(st.pending, pending);
    CHECK_EQ(st.ticks, ticks);
    check_conserved(s);
}

TEST(s4_each_ending_is_counted_once, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0}, d = {0};
    gt_timer *t = new_timer(s, &c), *u = new_timer(s, &d);

    check_stats(s, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    check_stats(s, 1, 0, 0, 0, 1, 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), GT_EALREADY);
    check_stats(s, 1, 0, 0, 0, 1, 0);
    CHECK_EQ(gt_resettimer(t, T0 + 20, 0), 1);
    check_stats(s, 2, 0, 0, 1, 1, 0);
    CHECK_EQ(gt_modtimer(t, T0 + 15, 0, count_run, &c, 1), 1);
    check_stats(s, 3, 0, 0, 2, 1, 0);
    CHECK_EQ(gt_deltimer(t), 1);
    check_stats(s, 3, 0, 1, 2, 0, 0);
    CHECK_EQ(gt_deltimer(t), 0);
    check_stats(s, 3, 0, 1, 2, 0, 0);
    CHECK_EQ(gt_resettimer(t, T0 + 30, 0), 0);
    check_stats(s, 4, 0, 1, 2, 1, 0);
    CHECK_EQ(check_at(p, T0 + 30), 1);
    check_stats(s, 4, 1, 1, 2, 0, 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 40, 0), 0);
    CHECK_EQ(gt_shutdown_timer(t), 1);
    check_stats(s, 5, 1, 2, 2, 0, 0);
    CHECK_EQ(gt_addtimer_on(p, u, T0 + 40, 0), 0);
    CHECK_EQ(gt_timer_free(u), 1);
    check_stats(s, 6, 1, 3, 2, 0, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_stats(s, 6, 1, 3, 2, 0, 0);
    free_p(p);
    close_sched(s);
}

TEST(s4_periodic_stays_one_pending_arming, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 10), 0);
    for (int i = 1; i <= 5; i++) {
        CHECK_EQ(check_at(p, T0 + 10 * i), 1);
        check_stats(s, 1, 0, 0, 0, 1, i);
    }
    CHECK_EQ(gt_resettimer(t, T0 + 100, 20), 1);           /* periodic, replaced by periodic */
    check_stats(s, 2, 0, 0, 1, 1, 5);
    CHECK_EQ(check_at(p, T0 + 100), 1);
    check_stats(s, 2, 0, 0, 1, 1, 6);
    CHECK_EQ(gt_resettimer(t, T0 + 105, 0), 1);            /* by a one-shot */
    check_stats(s, 3, 0, 0, 2, 1, 6);
    CHECK_EQ(check_at(p, T0 + 105), 1);
    check_stats(s, 3, 1, 0, 2, 0, 6);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 110, 1), 0);
    CHECK_EQ(check_at(p, T0 + 110), 1);
    CHECK_EQ(gt_deltimer(t), 1);
    check_stats(s, 4, 1, 1, 2, 0, 7);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.runs, 8);
    free_p(p);
    close_sched(s);
}

/* A P's end, an adopt and a sched's end keep the books; drop comes once per arg. */
TEST(s4_over_p_free_adopt_and_sched_free, 10)
{
    enum { N = 200 };
    static struct counter c[N];
    static gt_timer *t[N];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s), *q = new_p(s);

    for (int i = 0; i < N; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(i % 2 ? p : q, t[i], T0 + 10 + i, i % 5 == 0 ? 1000 : 0), 0);
    }
    for (int i = 0; i < N; i += 4)
        CHECK_EQ(gt_deltimer(t[i]), 1);
    check_stats(s, N, 0, N / 4, 0, N - N / 4, 0);
    free_p(p);
    check_stats(s, N, 0, N / 4, 0, N - N / 4, 0);
    free_p(q);
    check_stats(s, N, 0, N / 4, 0, N - N / 4, 0);
    p = new_p(s);
    q = new_p(s);
    CHECK_GE(gt_adopt_timers(q, p), 0);
    check_stats(s, N, 0, N / 4, 0, N - N / 4, 0);
    CHECK_EQ(gt_sched_free(s), GT_EBUSY);
    free_p(p);
    free_p(q);
    close_sched(s);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(c[i].runs, 0);
        if (i % 4 != 0)
            CHECK_EQ(c[i].drops, 1);
        CHECK_GE(gt_timer_free(t[i]), 0);
        CHECK_EQ(c[i].drops, 1);
    }
}

/* ---- random operations against a model ---- */

enum { NT = 60, NP = 3 };

struct model_timer {
    gt_timer *t;
    struct counter c;
    int64_t when, period;   /* when 0: not armed */
    int down;
    int runs;               /* that the model expects */
};

struct model {
    gt_sched *s;
    gt_p *ps[NP];
    struct model_timer m[NT];
    uint64_t rng;
    int64_t now;
    int64_t armed, fired, stopped, replaced, ticks;
};

static void model_arm(struct model *g, struct model_timer *m, int64_t when, int64_t period, int how)
{
    gt_p *p = g->ps[rng_below(&g->rng, NP)];
    int want = m->down ? GT_ESHUTDOWN : m->when != 0 ? 1 : 0;
    int got;

    if (how == 0 && want == 1)
        want = GT_EALREADY;
    got = how == 0   ? gt_addtimer_on(p, m->t, when, period)
          : how == 1 ? gt_modtimer_on(p, m->t, when, period, count_run, &m->c, 3)
                     : gt_resettimer_on(p, m->t, when, period);
    CHECK_EQ(got, want);
    if (got < 0)
        return;
    g->armed++;
    g->replaced += got;
    m->when = when;
    m->period = period;
    CHECK_EQ(gt_timer_when(m->t), when);
}

static void model_stop(struct model *g, struct model_timer *m, int how)
{
    int want = m->when != 0, got;

    got = how == 0   ? gt_deltimer(m->t)
          : how == 1 ? gt_deltimer_sync(m->t)
          : how == 2 ? gt_shutdown_timer(m->t)
                     : gt_timer_free(m->t);
    CHECK_EQ(got, want);
    g->stopped += got;
    m->when = 0;
    if (how == 2)
        m->down = 1;
    if (how == 3) {
        CHECK_EQ(m->c.drops, 1);
        CHECK_EQ(m->c.runs, m->runs);
        memset(m, 0, sizeof *m);
        m->t = new_timer(g->s, &m->c);
    }
}

static void model_advance(struct model *g)
{
    int64_t earliest = GT_MAX_WHEN;

    g->now += (int64_t)rng_below(&g->rng, 40);
    for (int i = 0; i < NT; i++) {
        struct model_timer *m = &g->m[i];

        if (m->when == 0 || m->when > g->now)
            continue;
        m->runs++;
        if (m->period > 0) {
            g->ticks++;
            m->when += m->period * (1 + (g->now - m->when) / m->period);
        } else {
            g->fired++;
            m->when = 0;
        }
    }
    for (int i = 0; i < NP; i++) {
        if (rng_below(&g->rng, 2))
            drain_at(g->ps[i], g->now);
        else
            while (gt_runtimer(g->ps[i], g->now) == 0) {}
    }
    for (int i = 0; i < NT; i++) {
        if (g->m[i].when != 0 && g->m[i].when < earliest)
            earliest = g->m[i].when;
        if (g->m[i].c.runs != g->m[i].runs || gt_timer_when(g->m[i].t) != g->m[i].when)
            test_failed(__FILE__, __LINE__, "timer %d at T0+%lld: %d runs, when T0+%lld; the model says %d, T0+%lld",
                        i, (long long)(g->now - T0), g->m[i].c.runs,
                        (long long)(gt_timer_when(g->m[i].t) - T0), g->m[i].runs,
                        (long long)(g->m[i].when - T0));
    }
    CHECK_LE(gt_time_sleep_until(g->s), earliest);
}

static void model_compare(struct model *g)
{
    gt_stats st = get_stats(g->s);
    int64_t pending = 0, entries = 0, in_heap = 0;

    for (int i = 0; i < NT; i++) {
        pending += g->m[i].when != 0;
        in_heap += gt_timer_status(g->m[i].t) != GT_TIMER_REMOVED;
    }
    for (int i = 0; i < NP; i++) {
        CHECK_EQ(gt_verify_timer_heap(g->ps[i]), 0);
        entries += gt_p_num_timers(g->ps[i]);
    }
    CHECK_GE(entries, in_heap);   /* freed timers' dead entries come on top */
    CHECK_EQ(st.armed, g->armed);
    CHECK_EQ(st.fired, g->fired);
    CHECK_EQ(st.stopped, g->stopped);
    CHECK_EQ(st.replaced, g->replaced);
    CHECK_EQ(st.ticks, g->ticks);
    CHECK_EQ(st.pending, pending);
    check_conserved(g->s);
}

TEST(s4_random_operations_against_a_model, 60)
{
    static struct model g;

    g.s = virtual_sched();
    g.rng = test_seed();
    g.now = T0;
    for (int i = 0; i < NP; i++)
        g.ps[i] = new_p(g.s);
    for (int i = 0; i < NT; i++)
        g.m[i].t = new_timer(g.s, &g.m[i].c);
    for (unsigned step = 0; step < 100000 / test_slow(); step++) {
        struct model_timer *m = &g.m[rng_below(&g.rng, NT)];
        int64_t when = g.now + 1 + (int64_t)rng_below(&g.rng, 100);
        int64_t period = rng_below(&g.rng, 4) ? 0 : 1 + (int64_t)rng_below(&g.rng, 50);
        uint64_t what = rng_below(&g.rng, 100);
        gt_p *p = g.ps[rng_below(&g.rng, NP)], *q = g.ps[rng_below(&g.rng, NP)];

        if (what < 60)
            model_arm(&g, m, when, period, (int)(what % 3));
        else if (what < 80)
            model_stop(&g, m, (int)(what % 2));
        else if (what < 82)
            model_stop(&g, m, 2);
        else if (what < 84 || m->down)
            model_stop(&g, m, 3);
        else if (what < 90)
            CHECK_EQ(gt_adjusttimers(p, g.now, (int)what & 1), 0);
        else if (what < 92)
            CHECK_GE(what == 91 ? gt_trim(p) : gt_cleantimers(p), 0);
        else if (what < 93)
            CHECK_GE(p == q ? 0 : gt_adopt_timers(p, q), 0);
        else
            model_advance(&g);
        if (step % 100 == 0)
            model_compare(&g);
    }
    model_compare(&g);
    for (int i = 0; i < NT; i++)
        model_stop(&g, &g.m[i], 3);
    for (int i = 0; i < NT; i++)
        CHECK_EQ(gt_timer_free(g.m[i].t), 0);
    for (int i = 0; i < NP; i++)
        free_p(g.ps[i]);
    CHECK_EQ(get_stats(g.s).pending, 0);
    close_sched(g.s);
}

/* ---- many threads ---- */

struct crowd {
    gt_sched *s;
    atomic_int stop;
    atomic_long runs;
};

static void crowd_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    ((struct crowd *)arg)->runs++;
}

static void *crowd_worker(void *arg)
{
    struct crowd *w = arg;
    gt_p *p = new_p(w->s);

    CHECK_EQ(gt_acquirep(p), 0);
    while (!atomic_load(&w->stop)) {
        int64_t now;

        gt_check_timers(p, 0, &now, NULL);
        gt_check_others(w->s, p, now, NULL, NULL);
        gt_notetsleep(p, now + 50 * US);
    }
    CHECK_PTR_EQ(gt_releasep(), p);
    free_p(p);
    return NULL;
}

static void *crowd_mutator(void *arg)
{
    struct crowd *w = arg;
    uint64_t rng = test_seed() ^ (uintptr_t)&rng;
    gt_timer *t[50];

    for (int i = 0; i < 50; i++)
        CHECK((t[i] = gt_timer_new(w->s, crowd_run, w, NULL)) != NULL);
    while (!atomic_load(&w->stop)) {
        int i = (int)rng_below(&rng, 50);
        int64_t when = gt_nanotime(w->s) + (int64_t)rng_below(&rng, 300) * US;
        int64_t period = rng_below(&rng, 3) ? 0 : 20 * US;

        switch (rng_below(&rng, 6)) {
        case 0:
            gt_addtimer(t[i], when, period);
            break;
        case 1:
            CHECK_GE(gt_modtimer(t[i], when, period, crowd_run, w, 1), 0);
            break;
        case 2:
            CHECK_GE(gt_resettimer(t[i], when, period), 0);
            break;
        case 3:
            CHECK_GE(gt_deltimer(t[i]), 0);
            break;
        case 4:
            CHECK_GE(gt_deltimer_sync(t[i]), 0);
            break;
        default:
            CHECK_GE(gt_timer_free(t[i]), 0);
            CHECK((t[i] = gt_timer_new(w->s, crowd_run, w, NULL)) != NULL);
            break;
        }
    }
    for (int i = 0; i < 50; i++)
        CHECK_GE(gt_timer_free(t[i]), 0);
    return NULL;
}

TEST(s4_conserved_with_threads, 30)
{
    static struct crowd w;
    pthread_t worker[2], mutator[3];
    gt_stats st;

    w.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < 2; i++)
        worker[i] = thread_start(crowd_worker, &w);
    for (int i = 0; i < 3; i++)
        mutator[i] = thread_start(crowd_mutator, &w);
    sleep_ms(1500);
    w.stop = 1;
    for (int i = 0; i < 3; i++)
        thread_join(mutator[i]);
    for (int i = 0; i < 2; i++)
        thread_join(worker[i]);
    st = get_stats(w.s);
    CHECK_EQ(st.pending, 0);
    CHECK_EQ(st.fired + st.ticks, w.runs);
    check_conserved(w.s);
    close_sched(w.s);
}
