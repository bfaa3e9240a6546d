/* Rule S5: what a stop promises, and deltimer_sync, which waits for a run under way. */
#include "rules.h"

/* ---- each arming of a one-shot ends once: stopped, replaced or run ---- */

enum { ARMINGS = 300000 };

struct duel {
    gt_sched *s;
    gt_timer *t;
    atomic_uchar ran[ARMINGS];        /* f was called for arming k */
    unsigned char ended[ARMINGS];     /* 1: a stop or re-arm returned 1 for it, 0: it must have run */
    atomic_int stop;
    int armings;
};

static void duel_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct duel *d = arg;

    CHECK_GE(delay, 0);
    CHECK_EQ(d->ran[seq], 0);
    d->ran[seq] = 1;
}

static void *duel_worker(void *arg)
{
    struct duel *d = arg;
    gt_p *p = new_p(d->s);

    CHECK_EQ(gt_acquirep(p), 0);
    while (!atomic_load(&d->stop)) {
        gt_check_timers(p, 0, NULL, NULL);
        gt_check_others(d->s, p, 0, NULL, NULL);
    }
    CHECK_PTR_EQ(gt_releasep(), p);
    free_p(p);
    return NULL;
}

/* Two workers fire, this thread arms for a moment ahead and stops or re-arms about then. */
static void duel_fight(struct duel *d, int ms)
{
    pthread_t th[2];
    uint64_t rng = test_seed();
    int64_t end = mono_now() + ms * MS;
    int k = -1, stopped = 0;
    long ended = 0;

    d->s = new_sched(GT_CLOCK_MONOTONIC);
    d->t = gt_timer_new(d->s, duel_run, d, NULL);
    CHECK(d->t != NULL);
    for (int i = 0; i < 2; i++)
        th[i] = thread_start(duel_worker, d);
    /* Until each side has won, at least: on a machine that stands still that takes longer. */
    while (k + 1 < ARMINGS && (mono_now() < end || ended == 0)) {
        int64_t when = gt_nanotime(d->s) + (int64_t)rng_below(&rng, 5000);
        int was = gt_modtimer(d->t, when, 0, duel_run, d, (uintptr_t)(k + 1));

        CHECK(was == 0 || was == 1);
        ended += was;
        if (k >= 0 && !stopped)
            d->ended[k] = (unsigned char)was;
        else
            CHECK_EQ(was, 0);                 /* stopped (or not) before: nothing is pending now */
        k++;
        for (uint64_t spin = rng_below(&rng, 400); spin > 0; spin--)
            atomic_load(&d->stop);
        for (int naps = k == 0 ? -5000 : 0; k % 64 == 0 && d->ran[k] == 0 && naps < 20; naps++)
            sleep_ms(1);                      /* now and then it has the time to run, the first surely */
        stopped = (int)rng_below(&rng, 2);
        if (stopped)
            d->ended[k] = (unsigned char)(rng_below(&rng, 8) ? gt_deltimer(d->t) : gt_deltimer_sync(d->t));
        ended += stopped ? d->ended[k] : 0;
    }
    if (!stopped)
        d->ended[k] = (unsigned char)gt_deltimer_sync(d->t);
    d->armings = k + 1;
    d->stop = 1;
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
}

TEST(s5_one_shot_is_not_run_after_a_stop, 20)
{
    static struct duel d;
    long ran = 0, ended = 0;

    duel_fight(&d, 1500);
    for (int k = 0; k < d.armings; k++) {
        if (d.ran[k] == d.ended[k])
            test_failed(__FILE__, __LINE__, "arming %d of %d: f ran %d times, a stop or re-arm returned %d",
                        k, d.armings, d.ran[k], d.ended[k]);
        ran += d.ran[k];
        ended += d.ended[k];
    }
    CHECK_GT(ran, 0);
    CHECK_GT(ended, 0);
    check_conserved(d.s);
    CHECK_EQ(gt_timer_free(d.t), 0);
    close_sched(d.s);
}

/* ---- a callback that is held in the middle ---- */

struct held {
    gt_timer *t, *other;
    gt_p *p;
    int64_t rearm;              /* f re-arms itself for this time, once */
    atomic_int entered, go, left;
    atomic_int result;          /* of what f called */
    int calls_sync;             /* f calls deltimer_sync(other) */
    int runs;
};

static void held_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct held *h = arg;

    (void)seq;
    (void)delay;
    h->runs++;
    h->entered++;
    if (h->runs == 1) {
        wait_for(&h->go, 1);
        if (h->rearm != 0)
            CHECK_GE(gt_resettimer(h->t, h->rearm, 0), 0);
        if (h->calls_sync)
            h->result = gt_deltimer_sync(h->other);
    }
    h->left++;
}

static void *held_pass(void *arg)
{
    struct held *h = arg;

    CHECK_EQ(check_at(h->p, T0 + 10), 1);
    return NULL;
}

struct syncer {
    gt_timer *t;
    int result;
    atomic_int done;
    struct held *h;
    int left_seen;
};

static void *sync_loop(void *arg)
{
    struct syncer *y = arg;

    y->result = gt_deltimer_sync(y->t);
    y->left_seen = y->h->left;
    atomic_store(&y->done, 1);
    return NULL;
}

static void held_up(struct held *h, gt_sched *s, int64_t period)
{
    h->p = new_p(s);
    h->t = gt_timer_new(s, held_run, h, NULL);
    CHECK(h->t != NULL);
    CHECK_EQ(gt_addtimer_on(h->p, h->t, T0 + 10, period), 0);
}

/* deltimer_sync comes back after f did, and not before. */
TEST(s5_sync_waits_for_a_running_callback, 20)
{
    for (int64_t period = 0; period <= 5; period += 5) {
        gt_sched *s = virtual_sched();
        struct held h = {0};
        struct syncer y = {0};
        pthread_t pass, sync;

        held_up(&h, s, period);
        pass = thread_start(held_pass, &h);
        wait_for(&h.entered, 1);
        CHECK_EQ(gt_deltimer(h.t), period != 0);     /* the plain stop does not wait */
        if (period != 0)
            CHECK_EQ(gt_resettimer(h.t, T0 + 100, period), 0);
        y.t = h.t;
        y.h = &h;
        sync = thread_start(sync_loop, &y);
        sleep_ms(50);
        CHECK_EQ(y.done, 0);
        h.go = 1;
        thread_join(sync);
        thread_join(pass);
        CHECK_EQ(y.result, period != 0);             /* it stopped the next firing, or nothing */
        CHECK_EQ(y.left_seen, 1);
        CHECK_EQ(check_at(h.p, T0 + 1000), 0);
        CHECK_EQ(h.runs, 1);
        CHECK_EQ(gt_timer_free(h.t), 0);
        check_conserved(s);
        free_p(h.p);
        close_sched(s);
    }
}

/* A callback that arms its timer again while somebody waits: the wait begins anew, and in the
 * end the timer is stopped and not running. */
TEST(s5_sync_repeats_when_the_callback_rearmed, 20)
{
    gt_sched *s = virtual_sched();
    struct held h = {0};
    struct syncer y = {0};
    pthread_t pass, sync;

    h.rearm = T0 + 50;
    held_up(&h, s, 0);
    pass = thread_start(held_pass, &h);
    wait_for(&h.entered, 1);
    y.t = h.t;
    y.h = &h;
    sync = thread_start(sync_loop, &y);
    sleep_ms(20);
    CHECK_EQ(y.done, 0);
    h.go = 1;
    thread_join(sync);
    thread_join(pass);
    CHECK(y.result == 0 || y.result == 1);
    CHECK_EQ(y.left_seen, 1);
    CHECK_EQ(gt_timer_when(h.t), 0);
    CHECK_EQ(check_at(h.p, T0 + 1000), 0);
    CHECK_EQ(h.runs, 1);
    CHECK_EQ(gt_timer_free(h.t), 0);
    check_conserved(s);
    free_p(h.p);
    close_sched(s);
}

/* With nothing under way it is a plain stop. */
TEST(s5_sync_of_an_idle_timer, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_deltimer_sync(t), 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    CHECK_EQ(gt_deltimer_sync(t), 1);
    CHECK_EQ(gt_deltimer_sync(t), 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 20, 5), 0);
    CHECK_EQ(check_at(p, T0 + 20), 1);
    CHECK_EQ(gt_deltimer_sync(t), 1);
    CHECK_EQ(check_at(p, T0 + 99), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* ---- where waiting could never end ---- */

static int own_result;

static void sync_own(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    own_result = gt_deltimer_sync(*(gt_timer **)arg);
    CHECK_EQ(gt_timer_when(*(gt_timer **)arg), 0);
}

TEST(s5_sync_from_own_callback, 10)
{
    for (int64_t period = 0; period <= 5; period += 5) {
        gt_sched *s = virtual_sched();
        gt_p *p = new_p(s);
        gt_timer *t;

        t = gt_timer_new(s, sync_own, &t, NULL);
        CHECK(t != NULL);
        CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, period), 0);
        CHECK_EQ(check_at(p, T0 + 10), 1);
        CHECK_EQ(own_result, GT_EDEADLK);
        CHECK_EQ(check_at(p, T0 + 1000), 0);          /* the periodic one is stopped */
        CHECK_EQ(gt_deltimer_sync(t), 0);             /* and no run is left behind */
        CHECK_EQ(get_stats(s).stopped, period != 0);
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* The own callback further down the stack: f of one timer runs a pass, whose callback waits
 * for the first. */
struct nest {
    gt_p *p;
    gt_timer *outer, *inner;
    int result;
};

static void nest_outer(void *arg, uintptr_t seq, int64_t delay)
{
    struct nest *n = arg;

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_addtimer_on(n->p, n->inner, T0 + 20, 0), 0);
    CHECK_EQ(check_at(n->p, T0 + 20), 1);
    CHECK_EQ(gt_deltimer_sync(n->inner), 0);          /* its run is over: no deadlock seen */
}

static void nest_inner(void *arg, uintptr_t seq, int64_t delay)
{
    struct nest *n = arg;

    (void)seq;
    (void)delay;
    n->result = gt_deltimer_sync(n->outer);
}

TEST(s5_sync_from_a_nested_pass, 10)
{
    gt_sched *s = virtual_sched();
    struct nest n = {.p = new_p(s)};

    n.outer = gt_timer_new(s, nest_outer, &n, NULL);
    n.inner = gt_timer_new(s, nest_inner, &n, NULL);
    CHECK_EQ(gt_addtimer_on(n.p, n.outer, T0 + 10, 0), 0);
    CHECK_EQ(check_at(n.p, T0 + 10), 1);
    CHECK_EQ(n.result, GT_EDEADLK);
    CHECK_EQ(gt_deltimer_sync(n.outer), 0);
    CHECK_EQ(gt_timer_free(n.outer), 0);
    CHECK_EQ(gt_timer_free(n.inner), 0);
    check_conserved(s);
    free_p(n.p);
    close_sched(s);
}

/* n contexts in callbacks, each waits for the next one's timer: one is told, all end. */
static void sync_ring(int n)
{
    gt_sched *s = virtual_sched();
    struct held h[4];
    pthread_t th[4];
    int deadlk = 0;

    memset(h, 0, sizeof h);
    for (int i = 0; i < n; i++)
        held_up(&h[i], s, 0);
    for (int i = 0; i < n; i++) {
        h[i].other = h[(i + 1) % n].t;
        h[i].calls_sync = 1;
        th[i] = thread_start(held_pass, &h[i]);
    }
    for (int i = 0; i < n; i++)
        wait_for(&h[i].entered, 1);
    for (int i = 0; i < n; i++)
        h[i].go = 1;
    for (int i = 0; i < n; i++)
        thread_join(th[i]);
    for (int i = 0; i < n; i++) {
        CHECK(h[i].result == 0 || h[i].result == GT_EDEADLK);
        deadlk += h[i].result == GT_EDEADLK;
        CHECK_EQ(h[i].runs, 1);
    }
    CHECK_EQ(deadlk, 1);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(gt_timer_free(h[i].t), 0);
        free_p(h[i].p);
    }
    check_conserved(s);
    close_sched(s);
}

TEST(s5_sync_of_contexts_that_wait_for_each_other, 60)
{
    for (unsigned round = 0; round < 20 / test_slow() + 1; round++)
        for (int n = 2; n <= 4; n++)
            sync_ring(n);
}

/* A chain is no ring: a waits for b, b waits for c, c just takes its time. Nobody is told
 * that it would wait for ever, and the order of the ends is right. */
TEST(s5_sync_chain_is_not_a_deadlock, 20)
{
    gt_sched *s = virtual_sched();
    struct held h[3];
    pthread_t th[3];

    memset(h, 0, sizeof h);
    for (int i = 0; i < 3; i++)
        held_up(&h[i], s, 0);
    for (int i = 2; i >= 0; i--) {                     /* each is in its callback when the next waits */
        h[i].other = i < 2 ? h[i + 1].t : NULL;
        h[i].calls_sync = i < 2;
        h[i].go = i < 2;
        th[i] = thread_start(held_pass, &h[i]);
        wait_for(&h[i].entered, 1);
    }
    sleep_ms(30);
    CHECK_EQ(h[0].left + h[1].left + h[2].left, 0);
    h[2].go = 1;
    for (int i = 0; i < 3; i++)
        thread_join(th[i]);
    CHECK_EQ(h[0].result, 0);
    CHECK_EQ(h[1].result, 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(gt_timer_free(h[i].t), 0);
        free_p(h[i].p);
    }
    check_conserved(s);
    close_sched(s);
}

/* ---- the caller is who the current_context hook says ---- */

static _Thread_local uintptr_t green = 1;   /* the green thread that this thread runs */

static uintptr_t green_now(void *ctx)
{
    (void)ctx;
    return green;
}

struct moved {
    gt_timer *t;
    gt_p *p;
    atomic_int entered, go, stranger_done;
    int stranger, go_seen;
};

static void moved_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct moved *m = arg;

    (void)seq;
    (void)delay;
    m->entered = 1;
    wait_for(&m->go, 1);
}

static void *moved_pass(void *arg)
{
    struct moved *m = arg;

    green = 77;
    CHECK_EQ(check_at(m->p, T0 + 10), 1);
    return NULL;
}

static void *moved_stranger(void *arg)
{
    struct moved *m = arg;

    green = 78;
    m->stranger = gt_deltimer_sync(m->t);
    m->go_seen = m->go;
    m->stranger_done = 1;
    return NULL;
}

/* The green thread that is in the callback has moved to another OS thread and stops its timer
 * there: it is its own callback all the same. Another green thread just waits. A library that
 * asks for the OS thread instead would wait for ever in the first call.
 * (s11_switches_stack_and_finishes_on_another_thread has another green thread of the same OS
 * thread wait.) */
TEST(s5_sync_asks_current_context, 20)
{
    struct hooks h;
    struct moved m = {0};
    gt_sched *s;
    pthread_t pass, stranger;

    hooks_init(&h, 0);
    h.host.current_context = green_now;
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    m.p = new_p(s);
    m.t = gt_timer_new(s, moved_run, &m, NULL);
    CHECK(m.t != NULL);
    CHECK_EQ(gt_addtimer_on(m.p, m.t, T0 + 10, 5), 0);
    pass = thread_start(moved_pass, &m);
    wait_for(&m.entered, 1);
    green = 77;
    CHECK_EQ(gt_deltimer_sync(m.t), GT_EDEADLK);
    CHECK_EQ(gt_timer_when(m.t), 0);                 /* stopped */
    stranger = thread_start(moved_stranger, &m);
    sleep_ms(50);
    CHECK_EQ(m.stranger_done, 0);
    m.go = 1;
    thread_join(stranger);
    thread_join(pass);
    CHECK_EQ(m.stranger, 0);
    CHECK_EQ(m.go_seen, 1);
    CHECK_EQ(check_at(m.p, T0 + 1000), 0);
    CHECK_EQ(gt_timer_free(m.t), 0);
    check_conserved(s);
    free_p(m.p);
    close_sched(s);
}
