/* Every documented refusal, part 2: a call that the state of the timer, the P, the sched or
 * the process does not allow. After each, nothing may have changed. */
#include "support.h"

#include <errno.h>
#include <sys/resource.h>

/* ---- GT_EALREADY ---- */

TEST(errors_armed_twice, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    gt_stats before;

    for (int64_t period = 0; period <= 10; period += 10) {
        CHECK_EQ(gt_addtimer_on(p, t, T0 + 20, period), 0);
        for (int modified = 0; modified < 2; modified++) {
            before = get_stats(s);
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), GT_EALREADY);
            CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), GT_EALREADY);
            CHECK_EQ(gt_addtimer_on(q, t, T0 + 10, 0), GT_EALREADY);
            CHECK_EQ(gt_addtimer_id(s, gt_timer_id(t), T0 + 10, 0), GT_EALREADY);
            check_same_counters(s, &before);
            CHECK_EQ(gt_timer_when(t), T0 + 20);
            CHECK_EQ(gt_timer_status(t), modified ? GT_TIMER_MODIFIED : GT_TIMER_WAITING);
            CHECK_EQ(gt_p_num_timers(q), 0);
            if (!modified)
                CHECK_EQ(gt_resettimer(t, T0 + 20, period), 1);
        }
        CHECK_EQ(gt_check_timers(p, T0 + 19, NULL, NULL), 0);
        CHECK_EQ(gt_check_timers(p, T0 + 20, NULL, NULL), 1);
        if (period != 0) {
            CHECK_EQ(gt_addtimer(t, T0 + 25, 0), GT_EALREADY);   /* a ticker stays armed */
            CHECK_EQ(gt_timer_when(t), T0 + 30);
            CHECK_EQ(gt_deltimer(t), 1);
            CHECK_EQ(gt_addtimer_on(p, t, T0 + 40, 0), 0);       /* stopped: not armed */
            CHECK_EQ(gt_addtimer(t, T0 + 40, 0), GT_EALREADY);
        }
    }
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    gt_p_free(p);
    gt_p_free(q);
    close_sched(s);
}

/* ---- GT_EBUSY ---- */

TEST(errors_sched_free_while_ps_live, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    gt_stats before;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_sched_free(s), GT_EBUSY);
    CHECK_EQ(gt_p_free(p), 0);
    before = get_stats(s);
    CHECK_EQ(gt_sched_free(s), GT_EBUSY);
    check_same_counters(s, &before);
    CHECK_EQ(c.drops, 0);
    CHECK_EQ(gt_check_timers(q, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_p_free(q), 0);
    close_sched(s);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
}

struct binder {
    gt_p *p;
    atomic_int bound, leave;
};

static void *binds(void *arg)
{
    struct binder *b = arg;

    CHECK_EQ(gt_acquirep(b->p), 0);
    b->bound = 1;
    wait_for(&b->leave, 1);
    CHECK_PTR_EQ(gt_current_p(), b->p);
    CHECK_PTR_EQ(gt_releasep(), b->p);
    return NULL;
}

TEST(errors_acquirep_busy, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct binder b = {.p = p};
    pthread_t th = thread_start(binds, &b);

    wait_for(&b.bound, 1);
    CHECK_EQ(gt_acquirep(p), GT_EBUSY);      /* bound elsewhere */
    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_EQ(gt_acquirep(q), 0);
    CHECK_EQ(gt_acquirep(p), GT_EBUSY);      /* both */
    CHECK_PTR_EQ(gt_current_p(), q);
    b.leave = 1;
    thread_join(th);
    CHECK_EQ(gt_acquirep(p), GT_EBUSY);      /* this thread has another P */
    CHECK_PTR_EQ(gt_current_p(), q);
    CHECK_PTR_EQ(gt_releasep(), q);
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_PTR_EQ(gt_releasep(), p);
    gt_p_free(p);
    gt_p_free(q);
    close_sched(s);
}

/* ---- GT_ESHUTDOWN ---- */

TEST(errors_after_shutdown, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0}, other = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    uint64_t id = gt_timer_id(t);
    gt_stats before;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_shutdown_timer(t), 1);
    for (int swept = 0; swept < 2; swept++) {
        before = get_stats(s);
        CHECK_EQ(gt_addtimer(t, T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_addtimer_id(s, id, T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_resettimer(t, T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_resettimer_on(p, t, T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_resettimer_id(s, id, T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_modtimer(t, T0 + 10, 0, count_run, &other, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_modtimer_on(p, t, T0 + 10, 0, count_run, &other, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_modtimer_id(s, id, T0 + 10, 0, count_run, &other, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_when(t), 0);
        check_same_counters(s, &before);
        CHECK_EQ(c.drops, 1);         /* f can never be called with it again */
        CHECK_EQ(other.drops, 0);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(gt_check_timers(p, T0 + 100, NULL, NULL), 0);
        CHECK_EQ(gt_timer_status(t), GT_TIMER_REMOVED);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(c.runs + other.runs, 0);
    gt_p_free(p);
    close_sched(s);
}

TEST(errors_after_sched_free, 5)
{
    gt_sched *s = virtual_sched(), *living = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(living);
    struct counter c[3] = {0}, other = {0};
    gt_timer *t[3];

    for (int i = 0; i < 3; i++) {
        t[i] = gt_timer_new(s, count_run, &c[i], count_drop);
        if (i > 0)
            CHECK_EQ(gt_addtimer(t[i], T0 + 10 * i, 5), 0);
    }
    CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(c[i].drops, 1);
        CHECK_EQ(gt_addtimer(t[i], T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_resettimer(t[i], T0 + 10, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_modtimer(t[i], T0 + 10, 0, count_run, &other, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_deltimer(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_deltimer_sync(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_shutdown_timer(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_detach(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_status(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_when(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_id(t[i]), 0);
        CHECK_LT(gt_addtimer_on(q, t[i], T0 + 10, 0), 0);
        CHECK_LT(gt_resettimer_on(q, t[i], T0 + 10, 0), 0);
        CHECK_LT(gt_modtimer_on(q, t[i], T0 + 10, 0, count_run, &other, 0), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(gt_timer_free(t[i]), 0);
        CHECK_EQ(c[i].drops, 1);
    }
    CHECK_EQ(other.runs + other.drops, 0);
    CHECK_EQ(gt_p_num_timers(q), 0);
    CHECK_EQ(gt_p_free(q), 0);
    close_sched(living);
}

/* ---- GT_ESTALE ---- */

static void id_is_dead(gt_sched *s, uint64_t id)
{
    struct counter other = {0};

    CHECK_EQ(gt_addtimer_id(s, id, T0 + 10, 0), GT_ESTALE);
    CHECK_EQ(gt_modtimer_id(s, id, T0 + 10, 0, count_run, &other, 0), GT_ESTALE);
    CHECK_EQ(gt_resettimer_id(s, id, T0 + 10, 0), GT_ESTALE);
    CHECK_EQ(gt_deltimer_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_deltimer_sync_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_shutdown_timer_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_timer_detach_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_timer_free_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_timer_status_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_timer_when_id(s, id), GT_ESTALE);
    CHECK_EQ(other.drops, 0);
}

TEST(errors_dead_id, 5)
{
    gt_sched *s = virtual_sched(), *empty = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    uint64_t id, newer, rng = test_seed();
    gt_timer *t;
    gt_stats before;

    id_is_dead(s, 0);
    id_is_dead(s, UINT64_MAX);
    t = gt_timer_new(s, count_run, &c, count_drop);
    id = gt_timer_id(t);
    id_is_dead(empty, id);                    /* of another sched that has none such */
    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    before = get_stats(s);
    for (int i = 0; i < 2000; i++) {
        uint64_t any = rng_next(&rng) >> rng_below(&rng, 64);

        if (any != id)
            id_is_dead(s, any);
    }
    for (int bit = 0; bit < 64; bit++)
        id_is_dead(s, id ^ (uint64_t)1 << bit);
    check_same_counters(s, &before);
    CHECK_EQ(gt_timer_when(t), T0 + 10);
    CHECK_EQ(gt_timer_free_id(s, id), 1);
    CHECK_EQ(c.drops, 1);
    for (int swept = 0; swept < 2; swept++) { /* its entry may still be in the heap */
        id_is_dead(s, id);
        id_is_dead(s, id + 1);                /* nor may the next one be guessed */
        id_is_dead(s, id + 2);
        CHECK_GE(gt_trim(p), 0);
    }
    c.drops = 0;
    t = gt_timer_new(s, count_run, &c, count_drop);
    newer = gt_timer_id(t);
    CHECK(newer != id);
    CHECK_EQ(gt_addtimer(t, T0 + 20, 0), 0);
    before = get_stats(s);
    id_is_dead(s, id);
    check_same_counters(s, &before);
    CHECK_EQ(gt_timer_free(t), 1);
    gt_p_free(p);
    close_sched(s);
    close_sched(empty);
}

struct self {
    gt_timer *t;
    gt_p *p;
    int runs, drops;
};

static void frees_itself(void *arg, uintptr_t seq, int64_t delay)
{
    struct self *me = arg;
    struct self other = {0};

    (void)seq;
    (void)delay;
    me->runs++;
    CHECK_EQ(gt_timer_free(me->t), 0);
    CHECK_EQ(gt_timer_free(me->t), GT_ESTALE);
    CHECK_EQ(gt_addtimer(me->t, T0 + 20, 0), GT_ESTALE);
    CHECK_EQ(gt_addtimer_on(me->p, me->t, T0 + 20, 0), GT_ESTALE);
    CHECK_EQ(gt_resettimer(me->t, T0 + 20, 0), GT_ESTALE);
    CHECK_EQ(gt_resettimer_on(me->p, me->t, T0 + 20, 0), GT_ESTALE);
    CHECK_EQ(gt_modtimer(me->t, T0 + 20, 0, frees_itself, &other, 0), GT_ESTALE);
    CHECK_EQ(gt_modtimer_on(me->p, me->t, T0 + 20, 0, frees_itself, &other, 0), GT_ESTALE);
    CHECK_EQ(gt_deltimer(me->t), GT_ESTALE);
    CHECK_EQ(gt_deltimer_sync(me->t), GT_ESTALE);
    CHECK_EQ(gt_shutdown_timer(me->t), GT_ESTALE);
    CHECK_EQ(gt_timer_detach(me->t), GT_ESTALE);
    CHECK_EQ(gt_timer_status(me->t), GT_ESTALE);
    CHECK_EQ(gt_timer_when(me->t), GT_ESTALE);
    CHECK_EQ(gt_timer_id(me->t), 0);
    CHECK_EQ(me->drops, 0);      /* while f may still use it */
}

static void drop_self(void *arg) { ((struct self *)arg)->drops++; }

TEST(errors_own_handle_after_free_in_callback, 5)
{
    gt_sched *s = virtual_sched();
    struct self me = {0};

    me.p = gt_p_new(s);
    me.t = gt_timer_new(s, frees_itself, &me, drop_self);
    CHECK_EQ(gt_addtimer(me.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_check_timers(me.p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(me.runs, 1);
    CHECK_EQ(me.drops, 1);
    CHECK_EQ(get_stats(s).timers, 0);
    check_conserved(s);
    gt_p_free(me.p);
    close_sched(s);
}

/* ---- GT_EDEADLK ---- */

struct waiter {
    gt_sched *s;
    gt_p *p;
    gt_timer *t, *of;            /* whose end to wait for */
    uint64_t id;
    int by_id, rearm;
    atomic_int runs, result;
    pthread_barrier_t *both;     /* NULL: alone */
};

static void waits_in_callback(void *arg, uintptr_t seq, int64_t delay)
{
    struct waiter *w = arg;

    (void)seq;
    (void)delay;
    w->runs++;
    if (w->rearm)
        CHECK_GE(gt_resettimer(w->t, T0 + 50, 0), 0);
    if (w->both != NULL)
        pthread_barrier_wait(w->both);
    w->result = w->by_id ? gt_deltimer_sync_id(w->s, w->id) : gt_deltimer_sync(w->of);
}

TEST(errors_deltimer_sync_in_own_callback, 5)
{
    for (int kind = 0; kind < 6; kind++) {
        struct waiter w = {.by_id = kind % 2, .rearm = kind / 2 == 1};
        int64_t period = kind / 2 == 2 ? 10 : 0;

        w.s = virtual_sched();
        w.p = gt_p_new(w.s);
        w.of = w.t = gt_timer_new(w.s, waits_in_callback, &w, NULL);
        w.id = gt_timer_id(w.t);
        CHECK_EQ(gt_addtimer(w.t, T0 + 10, period), 0);
        CHECK_EQ(gt_check_timers(w.p, T0 + 10, NULL, NULL), 1);
        CHECK_EQ(w.runs, 1);
        CHECK_EQ(w.result, GT_EDEADLK);
        CHECK_EQ(gt_timer_when(w.t), 0);         /* with the timer stopped */
        CHECK_EQ(get_stats(w.s).pending, 0);
        check_conserved(w.s);
        CHECK_EQ(gt_check_timers(w.p, T0 + 1000, NULL, NULL), 0);
        CHECK_EQ(w.runs, 1);
        CHECK_EQ(gt_deltimer_sync(w.t), 0);
        CHECK_EQ(gt_timer_free(w.t), 0);
        gt_p_free(w.p);
        close_sched(w.s);
    }
}

static void *runs_its_p(void *arg)
{
    struct waiter *w = arg;

    CHECK_EQ(gt_acquirep(w->p), 0);
    CHECK_EQ(gt_check_timers(w->p, T0 + 10, NULL, NULL), 1);
    CHECK_PTR_EQ(gt_releasep(), w->p);
    return NULL;
}

TEST(errors_deltimer_sync_in_a_cycle, 30)
{
    enum { N = 3 };

    for (int n = 2; n <= N; n++) {
        gt_sched *s = virtual_sched();
        struct waiter w[N];
        pthread_t th[N];
        pthread_barrier_t both;
        int refused = 0;

        memset(w, 0, sizeof w);
        CHECK_EQ(pthread_barrier_init(&both, NULL, (unsigned)n), 0);
        for (int i = 0; i < n; i++) {
            w[i].s = s;
            w[i].both = &both;
            w[i].p = gt_p_new(s);
            w[i].t = gt_timer_new(s, waits_in_callback, &w[i], NULL);
            CHECK_EQ(gt_addtimer_on(w[i].p, w[i].t, T0 + 10, 1000), 0);
        }
        for (int i = 0; i < n; i++)
            w[i].of = w[(i + 1) % n].t;
        for (int i = 0; i < n; i++)
            th[i] = thread_start(runs_its_p, &w[i]);
        for (int i = 0; i < n; i++)
            thread_join(th[i]);
        for (int i = 0; i < n; i++) {
            CHECK(w[i].result == GT_EDEADLK || w[i].result == 1);
            refused += w[i].result == GT_EDEADLK;
            CHECK_EQ(gt_timer_when(w[i].t), 0);
            CHECK_EQ(gt_timer_free(w[i].t), 0);
        }
        CHECK_GE(refused, 1);
        check_conserved(s);
        CHECK_EQ(get_stats(s).pending, 0);
        for (int i = 0; i < n; i++)
            CHECK_EQ(gt_p_free(w[i].p), 0);
        close_sched(s);
        pthread_barrier_destroy(&both);
    }
}

struct hook_free {
    gt_p *p;
    int calls, result;
};

static void frees_p_in_wake_hook(void *ctx, gt_p *p, int64_t when)
{
    struct hook_free *h = ctx;

    (void)when;
    CHECK_PTR_EQ(p, h->p);
    h->calls++;
    h->result = gt_p_free(p);
}

TEST(errors_p_free_in_a_wake_hook, 5)
{
    struct hook_free h = {0};
    struct counter c = {0};
    gt_host host = {.size = sizeof host, .ctx = &h, .wake_netpoller = frees_p_in_wake_hook};
    gt_config cfg = {.size = sizeof cfg, .host = &host, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s;
    gt_timer *t;

    s = gt_sched_new(&cfg);
    h.p = gt_p_new(s);
    t = gt_timer_new(s, count_run, &c, NULL);
    CHECK_EQ(gt_check_timers(h.p, 0, NULL, NULL), 0);   /* told: no timer */
    CHECK_EQ(gt_addtimer_on(h.p, t, T0 + 10, 0), 0);
    CHECK_EQ(h.calls, 1);
    CHECK_EQ(h.result, GT_EDEADLK);
    CHECK_EQ(gt_check_timers(h.p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    gt_timer_free(t);
    CHECK_EQ(gt_p_free(h.p), 0);
    close_sched(s);
}

struct hook_bind {
    gt_p *p;
    atomic_int in_hook, calls;
    int bound;
};

/* Stays until another thread's gt_p_free has said that the P is dead. */
static void binds_in_wake_hook(void *ctx, gt_p *p, int64_t when)
{
    struct hook_bind *h = ctx;
    int freed = 0;

    (void)when;
    if (h->calls++ > 0)
        return;
    h->in_hook = 1;
    while ((h->bound = gt_acquirep(p)) == 0) {
        CHECK(!freed);
        freed = gt_releasep() == NULL;      /* it died between the two */
    }
    CHECK_PTR_EQ(gt_current_p(), NULL);
}

static void *frees_when_in_hook(void *arg)
{
    struct hook_bind *h = arg;

    wait_for(&h->in_hook, 1);
    CHECK_EQ(gt_p_free(h->p), 0);
    return NULL;
}

/* Catches: it gave 0, and gt_current_p and gt_releasep gave NULL after it. */
TEST(errors_acquirep_while_the_p_is_freed, 10)
{
    struct hook_bind h = {0};
    struct counter c = {0};
    gt_host host = {.size = sizeof host, .ctx = &h, .wake_netpoller = binds_in_wake_hook};
    gt_config cfg = {.size = sizeof cfg, .host = &host, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s;
    gt_timer *t;
    pthread_t th;

    s = gt_sched_new(&cfg);
    h.p = gt_p_new(s);
    t = gt_timer_new(s, count_run, &c, NULL);
    CHECK_EQ(gt_check_timers(h.p, 0, NULL, NULL), 0);   /* told: no timer */
    th = thread_start(frees_when_in_hook, &h);
    CHECK_EQ(gt_addtimer_on(h.p, t, T0 + 10, 0), 0);
    thread_join(th);
    CHECK_EQ(h.bound, GT_ESTALE);
    CHECK_EQ(gt_timer_free(t), 1);
    close_sched(s);
}

/* ---- GT_EMFILE, GT_ENOSPC ---- */

TEST(errors_p_fd_out_of_files, 5)
{
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    gt_p *p = gt_p_new(s);
    struct rlimit none = {0, 0}, old;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    none.rlim_max = old.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(gt_p_fd(p), GT_EMFILE);
    CHECK_EQ(gt_p_fd(p), GT_EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK_GE(gt_p_fd(p), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(errors_too_many_ps, 120)
{
    enum { AT_MOST = 100000 };
    gt_sched *s = virtual_sched();
    gt_p **p = calloc(AT_MOST, sizeof(gt_p *));
    int n = 0;

    while (n < AT_MOST && (p[n] = gt_p_new(s)) != NULL)
        n++;
    CHECK_EQ(gt_last_error(), GT_ENOSPC);
    CHECK_GE(n, 1024);
    CHECK(gt_p_new(s) == NULL);
    CHECK_EQ(gt_p_free(p[n / 2]), 0);
    p[n / 2] = gt_p_new(s);           /* room again */
    CHECK(p[n / 2] != NULL);
    CHECK(gt_p_new(s) == NULL);
    CHECK_EQ(gt_last_error(), GT_ENOSPC);
    for (int i = 0; i < n; i++)
        CHECK_EQ(gt_p_free(p[i]), 0);
    close_sched(s);
    free(p);
}
