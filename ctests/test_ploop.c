/* test_ploop.c: P loops on several threads. Here: everything at once, in 2, 4 and 8 P loops
 * that spin with sched_yield and as many mutators (ploop.h says how it is booked), and the
 * tests of one matter each: stealing, Ps freed under thieves, threads that end while bound,
 * waiting stops that wait for each other. Order is in ploop_order.c, sleeping and waking in
 * ploop_wake.c. */
#include "ploop.h"

static void random_test(int loops, uint32_t clock, struct pl_options o)
{
    o.loops = o.mutators = loops;
    o.clock = clock;
    pl_random_test(o);
}

#define NONE (struct pl_options){0}

PLOOP_TEST(ploop_random_virtual_2p) { random_test(2, GT_CLOCK_VIRTUAL, NONE); }
PLOOP_TEST(ploop_random_virtual_4p) { random_test(4, GT_CLOCK_VIRTUAL, (struct pl_options){.lateness = 1}); }
PLOOP_TEST(ploop_random_virtual_8p) { random_test(8, GT_CLOCK_VIRTUAL, NONE); }
PLOOP_TEST(ploop_random_real_2p) { random_test(2, GT_CLOCK_MONOTONIC, NONE); }
PLOOP_TEST(ploop_random_real_4p) { random_test(4, GT_CLOCK_MONOTONIC, (struct pl_options){.lateness = 1}); }
PLOOP_TEST(ploop_random_real_8p) { random_test(8, GT_CLOCK_MONOTONIC, NONE); }
PLOOP_TEST(ploop_random_virtual_verify) { random_test(4, GT_CLOCK_VIRTUAL, (struct pl_options){.verify = 1}); }
PLOOP_TEST(ploop_random_real_verify_env) { random_test(4, GT_CLOCK_MONOTONIC, (struct pl_options){.verify = 2}); }
PLOOP_TEST(ploop_random_virtual_sleepers) { random_test(4, GT_CLOCK_VIRTUAL, (struct pl_options){.sleepers = 1}); }
PLOOP_TEST(ploop_random_real_sleepers) { random_test(4, GT_CLOCK_MONOTONIC, (struct pl_options){.sleepers = 1}); }
PLOOP_TEST(ploop_random_virtual_hooks) { random_test(4, GT_CLOCK_VIRTUAL, (struct pl_options){.hooks = 1}); }
PLOOP_TEST(ploop_random_real_hooks)
{
    random_test(4, GT_CLOCK_MONOTONIC, (struct pl_options){.hooks = 1, .sleepers = 1});
}

/* ---- stealing ---- */

/* A timer that is armed again and again, and how far that has come. */
struct unit {
    gt_timer *t;
    _Atomic int64_t when;
    atomic_int fired;
};

struct thieves {
    gt_sched *s;
    atomic_int stop;
    atomic_int with_p;      /* thieves have a P of their own */
    _Atomic uint64_t fired;
    pthread_mutex_t lock;   /* over p[]: who takes one out may free it */
    gt_p *p[4];
};

static struct thieves th;

static void steal_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct unit *u = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(gt_nanotime(th.s), atomic_load(&u->when));
    pl_add(th.fired, 1);
    CHECK_EQ(atomic_exchange(&u->fired, 1), 0);
}

static void *thief_thread(void *arg)
{
    gt_p *self = pl_get(th.with_p) ? gt_p_new(th.s) : NULL;
    int64_t now, until;

    pl_rng_start(5000 + (uint64_t)(uintptr_t)arg);
    if (self != NULL)
        CHECK_EQ(gt_acquirep(self), 0);
    while (!atomic_load(&th.stop)) {
        if (gt_check_others(th.s, self, 0, &now, &until) == 0)
            sched_yield();
        if (self != NULL && pl_one_in(4))
            gt_check_timers(self, 0, &now, &until);
    }
    if (self != NULL)
        CHECK_EQ(gt_p_free(self), 0);
    return NULL;
}

static void wait_fired(struct unit *u, int n)
{
    int64_t limit = mono_now() + pl_limit_ns(60 * PL_SEC);

    for (int i = 0; i < n; i++)
        while (!atomic_load(&u[i].fired)) {
            if (mono_now() > limit)
                test_failed(__FILE__, __LINE__, "lost: timer %d does not fire; overdue by %lld ns", i,
                            (long long)gt_overdue(th.s, 0));
            sched_yield();
        }
}

/* Ps that nobody runs: all their timers are run by thieves, and counted as steals. */
PLOOP_TEST(ploop_steal_only)
{
    enum { N = 64, THIEVES = 3 };
    static struct unit u[N];
    pthread_t thread[THIEVES];
    int64_t end = mono_now() + pl_run_ns() / 2;
    uint64_t armed = 0;

    pl_rng_start(999999);
    th.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < 4; i++)
        CHECK((th.p[i] = gt_p_new(th.s)) != NULL);
    for (int i = 0; i < N; i++)
        CHECK((u[i].t = gt_timer_new(th.s, steal_fire, &u[i], NULL)) != NULL);
    for (int i = 0; i < THIEVES; i++)
        thread[i] = pl_start(thief_thread, (void *)(uintptr_t)i);
    while (mono_now() < end) {
        for (int i = 0; i < N; i++) {
            int64_t when = gt_nanotime(th.s) + (int64_t)pl_below((uint64_t)(100 * PL_US));

            atomic_store(&u[i].fired, 0);
            atomic_store(&u[i].when, when);
            CHECK_EQ(gt_addtimer_on(th.p[i % 4], u[i].t, when, 0), 0);
            armed++;
        }
        wait_fired(u, N);
    }
    atomic_store(&th.stop, 1);
    for (int i = 0; i < THIEVES; i++)
        pl_join(thread[i]);
    check_conserved(th.s);
    CHECK_EQ(get_stats(th.s).fired, armed);
    CHECK_EQ(get_stats(th.s).steals, armed);
    CHECK_EQ(pl_get(th.fired), armed);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(gt_p_free(th.p[i]), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(u[i].t), 0);
    close_sched(th.s);
}

static gt_p *take_p(int i)
{
    gt_p *p;

    pthread_mutex_lock(&th.lock);
    p = th.p[i];
    th.p[i] = NULL;
    pthread_mutex_unlock(&th.lock);
    return p;
}

/* Sometimes frees a P in the callback: it may be the very one that is being robbed. */
static void steal_fire_and_free(void *arg, uintptr_t seq, int64_t delay)
{
    steal_fire(arg, seq, delay);
    if (pl_one_in(8)) {
        gt_p *p = take_p((int)pl_below(4));

        if (p != NULL)
            CHECK_EQ(gt_p_free(p), 0);
    }
}

/* Ps are freed with live timers while thieves are running these; nothing is lost, whether
 * another P is alive at that moment or the orphan set takes them. */
static void free_while_stealing(int with_p)
{
    enum { N = 200, THIEVES = 3 };
    static struct unit u[N];
    pthread_t thread[THIEVES];
    int64_t end = mono_now() + pl_run_ns() / 2;
    uint64_t armed = 0;

    pl_rng_start(999999);
    th.s = new_sched(GT_CLOCK_MONOTONIC);
    pthread_mutex_init(&th.lock, NULL);
    atomic_store(&th.with_p, with_p);
    for (int i = 0; i < N; i++)
        CHECK((u[i].t = gt_timer_new(th.s, steal_fire_and_free, &u[i], NULL)) != NULL);
    for (int i = 0; i < THIEVES; i++)
        thread[i] = pl_start(thief_thread, (void *)(uintptr_t)i);
    while (mono_now() < end) {
        for (int i = 0; i < N; i++) {
            int64_t when = gt_nanotime(th.s) + (int64_t)pl_below((uint64_t)(200 * PL_US));

            pthread_mutex_lock(&th.lock);
            if (th.p[i % 4] == NULL)
                CHECK((th.p[i % 4] = gt_p_new(th.s)) != NULL);
            atomic_store(&u[i].fired, 0);
            atomic_store(&u[i].when, when);
            CHECK_EQ(gt_addtimer_on(th.p[i % 4], u[i].t, when, 0), 0);
            pthread_mutex_unlock(&th.lock);
            armed++;
        }
        for (int i = 0; i < 4; i++) {
            gt_p *p = take_p(i);

            if (p != NULL)
                CHECK_EQ(gt_p_free(p), 0);
        }
        /* Perhaps no P is left; then the next one finds them all. */
        pthread_mutex_lock(&th.lock);
        CHECK((th.p[0] = gt_p_new(th.s)) != NULL);
        pthread_mutex_unlock(&th.lock);
        for (int i = 0; i < N; i++) {
            int64_t limit = mono_now() + pl_limit_ns(60 * PL_SEC);

            while (!atomic_load(&u[i].fired)) {
                /* A callback may have freed the last P. */
                pthread_mutex_lock(&th.lock);
                if (th.p[0] == NULL)
                    CHECK((th.p[0] = gt_p_new(th.s)) != NULL);
                pthread_mutex_unlock(&th.lock);
                CHECK_LT(mono_now(), limit);
                sched_yield();
            }
        }
    }
    atomic_store(&th.stop, 1);
    for (int i = 0; i < THIEVES; i++)
        pl_join(thread[i]);
    check_conserved(th.s);
    CHECK_EQ(get_stats(th.s).fired, armed);
    CHECK_EQ(pl_get(th.fired), armed);
    for (int i = 0; i < 4; i++)
        if (th.p[i] != NULL)
            CHECK_EQ(gt_p_free(th.p[i]), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(u[i].t), 0);
    close_sched(th.s);
    pthread_mutex_destroy(&th.lock);
}

PLOOP_TEST(ploop_p_free_while_stealing) { free_while_stealing(0); }
PLOOP_TEST(ploop_p_free_while_stealing_thieves_with_p) { free_while_stealing(1); }

/* ---- threads that end ---- */

static void *bound_thread(void *arg)
{
    gt_p *p = ((gt_p **)arg)[0];
    struct unit *u = (struct unit *)((void **)arg)[1];
    int64_t until, now;

    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_PTR_EQ(gt_current_p(), p);
    atomic_store(&u->when, gt_nanotime(th.s));
    CHECK_EQ(gt_addtimer(u->t, atomic_load(&u->when), 0), 0);
    CHECK_GE(gt_p_num_timers(p), 1);   /* the bound P got it */
    if (atomic_load(&th.with_p))
        gt_check_timers(p, 0, &now, &until);
    return NULL;   /* bound */
}

/* A thread that ends releases its P; its timers stay there and the next one fires them. */
PLOOP_TEST(ploop_thread_exit_releases_p)
{
    enum { PS = 4 };
    static struct unit u[PS];
    gt_p *p[PS];
    int64_t end = mono_now() + pl_run_ns() / 4;
    uint64_t rounds = 0;

    th.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < PS; i++) {
        CHECK((p[i] = gt_p_new(th.s)) != NULL);
        CHECK((u[i].t = gt_timer_new(th.s, steal_fire, &u[i], NULL)) != NULL);
    }
    for (; mono_now() < end; rounds++) {
        pthread_t thread[PS];
        void *args[PS][2];

        atomic_store(&th.with_p, rounds & 1);
        for (int i = 0; i < PS; i++) {
            args[i][0] = p[i];
            args[i][1] = &u[i];
            atomic_store(&u[i].fired, 0);
            thread[i] = pl_start(bound_thread, args[i]);
        }
        for (int i = 0; i < PS; i++) {
            pl_join(thread[i]);
            CHECK_EQ(gt_acquirep(p[i]), 0);
            if (i + 1 < PS)
                CHECK_EQ(gt_acquirep(p[(i + 1) % PS]), GT_EBUSY);   /* we have one */
            if (!atomic_load(&u[i].fired))
                CHECK_EQ(gt_check_timers(p[i], 0, NULL, NULL), 1);
            CHECK_EQ(atomic_load(&u[i].fired), 1);
            CHECK_PTR_EQ(gt_releasep(), p[i]);
        }
    }
    check_conserved(th.s);
    CHECK_EQ(get_stats(th.s).fired, rounds * PS);
    for (int i = 0; i < PS; i++) {
        CHECK_EQ(gt_p_free(p[i]), 0);
        CHECK_EQ(gt_timer_free(u[i].t), 0);
    }
    close_sched(th.s);
}

/* ---- waiting stops that may wait for each other ---- */

enum { RING = 24 };

static struct {
    gt_sched *s;
    gt_timer *t[RING];
    atomic_int running[RING];
    atomic_int stop;
    _Atomic uint64_t armed, ended, unknown, calls, deadlocks;
} cy;

/* Stops others and itself, waiting for each, from inside a callback. */
static void cycle_fire(void *arg, uintptr_t seq, int64_t delay)
{
    int me = (int)(uintptr_t)arg, r;

    (void)seq;
    CHECK_GE(delay, 0);
    atomic_fetch_add(&cy.running[me], 1);
    pl_add(cy.calls, 1);
    for (int i = 0; i < 2; i++) {
        int other = (int)pl_below(RING);

        r = gt_deltimer_sync(cy.t[other]);
        if (r == GT_EDEADLK) {
            pl_add(cy.unknown, 1);   /* stopped, if it was armed: that is not told */
            if (other != me)
                pl_add(cy.deadlocks, 1);
        } else {
            CHECK(r == 0 || r == 1);
            CHECK_NE(other, me);
            pl_add(cy.ended, (uint64_t)r);
        }
    }
    atomic_fetch_sub(&cy.running[me], 1);
}

static void *cycle_loop(void *arg)
{
    gt_p *p = gt_p_new(cy.s);

    pl_rng_start(6000 + (uint64_t)(uintptr_t)arg);
    CHECK_EQ(gt_acquirep(p), 0);
    while (!atomic_load(&cy.stop)) {
        for (int i = 0; i < 2; i++) {
            int r = gt_resettimer(cy.t[pl_below(RING)], gt_nanotime(cy.s) + (int64_t)pl_below(20000), 0);

            CHECK(r == 0 || r == 1);
            pl_add(cy.armed, 1);
            pl_add(cy.ended, (uint64_t)r);
        }
        if (gt_check_timers(p, 0, NULL, NULL) == 0 && gt_check_others(cy.s, p, 0, NULL, NULL) == 0)
            sched_yield();
    }
    CHECK_EQ(gt_p_free(p), 0);
    return NULL;
}

/* No thread waits for ever, whoever waits for whom. Outside of callbacks nothing can wait for
 * the caller, so there no deadlock is ever reported. */
PLOOP_TEST(ploop_sync_cycles)
{
    enum { LOOPS = 4 };
    pthread_t thread[LOOPS];
    int64_t end = mono_now() + pl_run_ns() / 2;
    gt_stats st;

    pl_rng_start(999999);
    cy.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < RING; i++)
        CHECK((cy.t[i] = gt_timer_new(cy.s, cycle_fire, (void *)(uintptr_t)i, NULL)) != NULL);
    for (int i = 0; i < LOOPS; i++)
        thread[i] = pl_start(cycle_loop, (void *)(uintptr_t)i);
    while (mono_now() < end) {
        int i = (int)pl_below(RING), r = gt_deltimer_sync(cy.t[i]);

        CHECK(r == 0 || r == 1);
        pl_add(cy.ended, (uint64_t)r);
        sched_yield();
    }
    atomic_store(&cy.stop, 1);
    for (int i = 0; i < LOOPS; i++)
        pl_join(thread[i]);
    for (int i = 0; i < RING; i++) {
        int r = gt_deltimer_sync(cy.t[i]);

        CHECK(r == 0 || r == 1);
        pl_add(cy.ended, (uint64_t)r);
        CHECK_EQ(atomic_load(&cy.running[i]), 0);
    }
    check_conserved(cy.s);
    st = get_stats(cy.s);
    CHECK_EQ(st.armed, pl_get(cy.armed));
    CHECK_EQ(st.fired, pl_get(cy.calls));
    CHECK_EQ(st.pending, 0);
    CHECK_GE(st.stopped + st.replaced, pl_get(cy.ended));   /* more: what GT_EDEADLK does not tell */
    printf("armed %llu, fired %llu, deadlocks avoided %llu, of these not with itself %llu\n",
           (unsigned long long)st.armed, (unsigned long long)st.fired, (unsigned long long)pl_get(cy.unknown),
           (unsigned long long)pl_get(cy.deadlocks));
    for (int i = 0; i < RING; i++)
        CHECK_EQ(gt_timer_free(cy.t[i]), 0);
    close_sched(cy.s);
}

/* ---- waiting stops of timers that arm themselves again ---- */

enum { STUBBORN = 16 };

static struct stubborn {
    gt_timer *t;
    atomic_int busy;          /* a mutator's */
    atomic_int quiet, running;
    uint64_t runs;            /* plain: one run at a time, as it is armed by its run only */
} st_timer[STUBBORN];

static struct {
    gt_sched *s;
    atomic_int stop;
    _Atomic uint64_t armed, replaced, stopped, calls, syncs;
} sb;

static void stubborn_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct stubborn *x = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    if (pl_get(x->quiet))
        test_failed(__FILE__, __LINE__, "called after deltimer_sync had returned");
    atomic_fetch_add(&x->running, 1);
    pl_add(sb.calls, 1);
    x->runs++;
    if (pl_one_in(4))
        sched_yield();
    atomic_fetch_sub(&x->running, 1);
    if (!pl_one_in(8)) {   /* the last thing it does, so that runs do not overlap much */
        int r = gt_resettimer(x->t, gt_nanotime(sb.s) + (int64_t)pl_below(2000), 0);

        CHECK(r == 0 || r == 1);
        pl_add(sb.armed, 1);
        pl_add(sb.replaced, (uint64_t)r);
    }
}

static void *stubborn_loop(void *arg)
{
    gt_p *p = gt_p_new(sb.s);

    pl_rng_start(6100 + (uint64_t)(uintptr_t)arg);
    CHECK_EQ(gt_acquirep(p), 0);
    while (!atomic_load(&sb.stop))
        if (gt_check_timers(p, 0, NULL, NULL) == 0 && gt_check_others(sb.s, p, 0, NULL, NULL) == 0)
            sched_yield();
    CHECK_EQ(gt_p_free(p), 0);
    return NULL;
}

static void *stubborn_mutator(void *arg)
{
    pl_rng_start(6200 + (uint64_t)(uintptr_t)arg);
    while (!atomic_load(&sb.stop)) {
        struct stubborn *x = &st_timer[pl_below(STUBBORN)];
        int r;

        if (atomic_exchange(&x->busy, 1) != 0)
            continue;
        r = gt_deltimer_sync(x->t);
        CHECK(r == 0 || r == 1);
        pl_set(x->quiet, 1);
        pl_add(sb.stopped, (uint64_t)r);
        pl_add(sb.syncs, 1);
        CHECK_EQ(pl_get(x->running), 0);
        CHECK_EQ(gt_timer_when(x->t), 0);
        x->runs = 0;
        sched_yield();
        CHECK_EQ(gt_timer_when(x->t), 0);
        CHECK_EQ(x->runs, 0);
        pl_set(x->quiet, 0);
        CHECK_EQ(gt_addtimer(x->t, gt_nanotime(sb.s) + (int64_t)pl_below(2000), 0), 0);
        pl_add(sb.armed, 1);
        atomic_store(&x->busy, 0);
        if (pl_one_in(4))
            sched_yield();
    }
    return NULL;
}

/* Each callback arms its timer again: the stop that waits also stops that, and after it there
 * is neither a run nor an arming left. */
PLOOP_TEST(ploop_sync_rearm)
{
    enum { LOOPS = 3, MUTATORS = 2 };
    pthread_t thread[LOOPS + MUTATORS];
    gt_stats st;

    pl_rng_start(999999);
    sb.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < STUBBORN; i++)
        CHECK((st_timer[i].t = gt_timer_new(sb.s, stubborn_fire, &st_timer[i], NULL)) != NULL);
    for (int i = 0; i < LOOPS + MUTATORS; i++)
        thread[i] = pl_start(i < LOOPS ? stubborn_loop : stubborn_mutator, (void *)(uintptr_t)i);
    sleep_ms((int)(pl_run_ns() / 2 / PL_MS));
    atomic_store(&sb.stop, 1);
    for (int i = 0; i < LOOPS + MUTATORS; i++)
        pl_join(thread[i]);
    check_conserved(sb.s);
    st = get_stats(sb.s);
    CHECK_EQ(st.armed, pl_get(sb.armed));
    CHECK_EQ(st.fired, pl_get(sb.calls));
    CHECK_EQ(st.replaced, pl_get(sb.replaced));
    CHECK_GE(st.stopped, pl_get(sb.stopped));   /* a 1 may stand for two */
    printf("%llu waiting stops, fired %llu\n", (unsigned long long)pl_get(sb.syncs), (unsigned long long)st.fired);
    for (int i = 0; i < STUBBORN; i++)
        CHECK_GE(gt_timer_free(st_timer[i].t), 0);
    close_sched(sb.s);
}
