/* ploop_wake.c: lost wake-ups. P loops sleep, for ever if nothing is to be done, and others arm,
 * shorten, adopt and hand over timers for them: each must fire soon, though only a wake can
 * bring its P to look. Soon is some seconds here; a lost wake is an hour or never. The ways to
 * sleep are in ploop_bed.h. */
#include "ploop_bed.h"

#include <time.h>

/* ---- a ring of tokens ---- */

enum { TOKENS = 2 };

static struct hop {
    gt_timer *t;
    int token, at;
    int64_t when;   /* plain: written by the one who holds the token */
} hops[TOKENS][PL_MAX_LOOPS];

static _Atomic uint64_t hopped[TOKENS];

/* Hands the token to the next P. The second token's timers lie an hour ahead in their heaps when
 * they do not have it, so that they are shortened, not added. */
static void hop_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct hop *h = arg, *next = &hops[h->token][(h->at + 1) % bed.n];
    int64_t now = gt_nanotime(bed.s);
    int r;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(now, h->when);
    if (h->token == 1)
        CHECK_EQ(gt_resettimer(h->t, now + PL_HOUR, 0), 0);
    pl_add(hopped[h->token], 1);
    if (atomic_load(&bed.stop))
        return;
    next->when = now + (pl_one_in(4) || bed.way == SPIN ? 0 : (int64_t)pl_below((uint64_t)(pl_one_in(16) ? PL_MS : 50 * PL_US)));
    r = gt_resettimer_on(bed.z[next->at].p, next->t, next->when, 0);
    CHECK_EQ(r, h->token);
}

/* Each token must move on. */
static void check_hops(void)
{
    int64_t limit = mono_now() + pl_limit_ns(SOON);

    for (int k = 0; k < TOKENS; k++) {
        uint64_t seen = pl_get(hopped[k]);

        while (pl_get(hopped[k]) == seen) {
            if (mono_now() > limit)
                test_failed(__FILE__, __LINE__, "lost wake: token %d stopped after %llu hops; overdue by %lld ns",
                            k, (unsigned long long)seen, (long long)gt_overdue(bed.s, 0));
            sleep_ms(1);
        }
    }
}

static void ring(enum way way, int n)
{
    int64_t end = mono_now() + pl_run_ns() / 4;

    pl_rng_start(999999);
    bed_start(way, GT_CLOCK_MONOTONIC, n, 0);
    for (int k = 0; k < TOKENS; k++)
        for (int i = 0; i < n; i++) {
            struct hop *h = &hops[k][i];

            h->token = k;
            h->at = i;
            CHECK((h->t = gt_timer_new(bed.s, hop_fire, h, NULL)) != NULL);
            if (k == 1)
                CHECK_EQ(gt_addtimer_on(bed.z[i].p, h->t, gt_nanotime(bed.s) + PL_HOUR, 0), 0);
        }
    sleep_ms(5);
    for (int k = 0; k < TOKENS; k++) {
        hops[k][0].when = gt_nanotime(bed.s);
        CHECK_EQ(gt_resettimer_on(bed.z[0].p, hops[k][0].t, hops[k][0].when, 0), k);
    }
    do
        check_hops();
    while (mono_now() < end);
    bed_stop();
    printf("%llu and %llu hops\n", (unsigned long long)pl_get(hopped[0]), (unsigned long long)pl_get(hopped[1]));
    for (int k = 0; k < TOKENS; k++)
        for (int i = 0; i < n; i++)
            CHECK_GE(gt_timer_free(hops[k][i].t), 0);
    close_sched(bed.s);
}

PLOOP_TEST(ploop_wake_ping_pong_note) { ring(NOTE, 2); }
PLOOP_TEST(ploop_wake_ping_pong_fd) { ring(FD, 2); }
PLOOP_TEST(ploop_wake_ping_pong_cond) { ring(COND, 2); }
PLOOP_TEST(ploop_wake_ping_pong_cond_until) { ring(COND_UNTIL, 2); }
PLOOP_TEST(ploop_wake_ping_pong_spin) { ring(SPIN, 2); }
PLOOP_TEST(ploop_wake_ring_note) { ring(NOTE, 4); }
PLOOP_TEST(ploop_wake_ring_fd) { ring(FD, 4); }
PLOOP_TEST(ploop_wake_ring_cond) { ring(COND, 4); }
PLOOP_TEST(ploop_wake_ring_cond_until) { ring(COND_UNTIL, 4); }

/* ---- producers ---- */

struct product {
    gt_timer *t;
    _Atomic int64_t when;
    atomic_int fired;
};

static void product_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct product *x = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(gt_nanotime(bed.s), atomic_load(&x->when));
    CHECK_EQ(atomic_exchange(&x->fired, 1), 0);
}

static void product_new(struct product *x)
{
    CHECK((x->t = gt_timer_new(bed.s, product_fire, x, NULL)) != NULL);
}

static void product_wait(struct product *x)
{
    int64_t limit = mono_now() + pl_limit_ns(SOON);

    while (!atomic_load(&x->fired)) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "lost wake: not fired in time; overdue by %lld ns, wakes %llu",
                        (long long)gt_overdue(bed.s, 0), (unsigned long long)get_stats(bed.s).wakes);
        sched_yield();
    }
}

static int64_t soon(void) { return gt_nanotime(bed.s) + (pl_one_in(4) ? 0 : (int64_t)pl_below((uint64_t)(300 * PL_US))); }

/* Arms x for soon, in one of several ways; a P may be named if none comes or goes. */
static void produce(struct product *x)
{
    gt_p *p = bed.come_and_go || pl_one_in(3) ? NULL : bed.z[pl_below((uint64_t)bed.n)].p;
    int64_t when = soon(), far = gt_nanotime(bed.s) + PL_HOUR;

    atomic_store(&x->when, when);
    atomic_store(&x->fired, 0);
    switch (pl_below(5)) {
    case 0:   /* shortened, after its P has seen it an hour ahead */
        CHECK_EQ(p != NULL ? gt_addtimer_on(p, x->t, far, 0) : gt_addtimer(x->t, far, 0), 0);
        if (pl_one_in(2))
            sched_yield();
        CHECK_EQ(gt_resettimer(x->t, when, 0), 1);
        break;
    case 1:   /* stopped while it lies there, and armed again */
        CHECK_EQ(p != NULL ? gt_addtimer_on(p, x->t, far, 0) : gt_addtimer(x->t, far, 0), 0);
        CHECK_EQ(gt_deltimer(x->t), 1);
        CHECK_EQ(gt_addtimer(x->t, when, 0), 0);
        break;
    case 2:   /* for ever, then soon */
        CHECK_EQ(p != NULL ? gt_addtimer_on(p, x->t, GT_MAX_WHEN, 0) : gt_addtimer(x->t, GT_MAX_WHEN, 0), 0);
        CHECK_EQ(gt_modtimer(x->t, when, 0, product_fire, x, 1), 1);
        break;
    default:
        CHECK_EQ(p != NULL ? gt_addtimer_on(p, x->t, when, 0) : gt_addtimer(x->t, when, 0), 0);
    }
}

static void *producer_thread(void *arg)
{
    enum { K = 4 };
    int64_t end = mono_now() + pl_run_ns() / 4;
    struct product x[K];

    memset(x, 0, sizeof x);
    pl_rng_start(8000 + (uint64_t)(uintptr_t)arg);
    for (int i = 0; i < K; i++)
        product_new(&x[i]);
    while (mono_now() < end) {
        int k = 1 + (int)pl_below(K);
        struct timespec nap = {0, (long)pl_below(PL_MS)};

        for (int i = 0; i < k; i++)
            produce(&x[i]);
        for (int i = 0; i < k; i++)
            product_wait(&x[i]);
        if (pl_one_in(4))
            nanosleep(&nap, NULL);   /* lets the Ps fall asleep */
    }
    for (int i = 0; i < K; i++)
        CHECK_EQ(gt_timer_free(x[i].t), 0);
    return NULL;
}

static void producers(enum way way, int n, int come_and_go)
{
    enum { PRODUCERS = 3 };
    pthread_t thread[PRODUCERS];

    bed_start(way, GT_CLOCK_MONOTONIC, n, come_and_go);
    for (int i = 0; i < PRODUCERS; i++)
        thread[i] = pl_start(producer_thread, (void *)(uintptr_t)i);
    for (int i = 0; i < PRODUCERS; i++)
        pl_join(thread[i]);
    check_at_rest();
    bed_stop();
    close_sched(bed.s);
}

PLOOP_TEST(ploop_wake_producers_note) { producers(NOTE, 4, 0); }
PLOOP_TEST(ploop_wake_producers_fd) { producers(FD, 4, 0); }
PLOOP_TEST(ploop_wake_producers_cond) { producers(COND, 4, 0); }
PLOOP_TEST(ploop_wake_producers_cond_until) { producers(COND_UNTIL, 4, 0); }
PLOOP_TEST(ploop_wake_ps_come_and_go_note) { producers(NOTE, 3, 1); }
PLOOP_TEST(ploop_wake_ps_come_and_go_fd) { producers(FD, 3, 1); }
PLOOP_TEST(ploop_wake_ps_come_and_go_cond) { producers(COND, 3, 1); }
PLOOP_TEST(ploop_wake_ps_come_and_go_cond_until) { producers(COND_UNTIL, 3, 1); }

/* ---- volleys ---- */

/* All the producers shorten timers of the same Ps at the same moment, while the Ps' scans for
 * shortened timers are under way over heaps that are not small. Then nobody does anything until
 * all have fired: so a timer that a scan forgot, or a wake that got lost, is not made good by
 * the next one. */
enum { GUNS = 3, SHOTS = 4, FILL = 200 };

static struct {
    pthread_barrier_t ready;
    atomic_int over;
    struct product shot[GUNS][SHOTS];
    _Atomic uint64_t rounds;
} volley_;

static void *gun_thread(void *arg)
{
    int me = (int)(uintptr_t)arg;
    int64_t end = mono_now() + pl_run_ns() / 4;

    pl_rng_start(8100 + (uint64_t)me);
    for (int i = 0; i < SHOTS; i++)
        product_new(&volley_.shot[me][i]);
    for (;;) {
        for (int i = 0; i < SHOTS; i++) {
            struct product *x = &volley_.shot[me][i];

            atomic_store(&x->fired, 0);
            CHECK_EQ(gt_addtimer_on(bed.z[pl_below((uint64_t)bed.n)].p, x->t, gt_nanotime(bed.s) + PL_HOUR, 0), 0);
        }
        if (me == 0)
            atomic_store(&volley_.over, mono_now() >= end);
        pthread_barrier_wait(&volley_.ready);
        if (atomic_load(&volley_.over))
            break;
        for (int i = 0; i < SHOTS; i++) {
            struct product *x = &volley_.shot[me][i];
            int64_t when = gt_nanotime(bed.s) + (pl_one_in(2) ? 0 : (int64_t)pl_below((uint64_t)(2 * PL_US)));

            atomic_store(&x->when, when);
            CHECK_EQ(gt_resettimer(x->t, when, 0), 1);
        }
        for (int i = 0; i < SHOTS; i++)
            product_wait(&volley_.shot[me][i]);
        pl_add(volley_.rounds, me == 0);
        pthread_barrier_wait(&volley_.ready);
    }
    for (int i = 0; i < SHOTS; i++)
        CHECK_EQ(gt_timer_free(volley_.shot[me][i].t), 1);
    return NULL;
}

static void volley(enum way way, int n)
{
    static struct product fill[FILL];
    pthread_t thread[GUNS];

    CHECK_EQ(pthread_barrier_init(&volley_.ready, NULL, GUNS), 0);
    bed_start(way, GT_CLOCK_MONOTONIC, n, 0);
    for (int i = 0; i < FILL; i++) {
        product_new(&fill[i]);
        CHECK_EQ(gt_addtimer_on(bed.z[i % n].p, fill[i].t, gt_nanotime(bed.s) + PL_HOUR, 0), 0);
    }
    for (int i = 0; i < GUNS; i++)
        thread[i] = pl_start(gun_thread, (void *)(uintptr_t)i);
    for (int i = 0; i < GUNS; i++)
        pl_join(thread[i]);
    check_at_rest();
    bed_stop();
    printf("%llu rounds\n", (unsigned long long)pl_get(volley_.rounds));
    for (int i = 0; i < FILL; i++)
        CHECK_EQ(gt_timer_free(fill[i].t), 1);
    close_sched(bed.s);
    pthread_barrier_destroy(&volley_.ready);
}

PLOOP_TEST(ploop_wake_volley_note) { volley(NOTE, 1); }
PLOOP_TEST(ploop_wake_volley_fd) { volley(FD, 2); }
PLOOP_TEST(ploop_wake_volley_spin) { volley(SPIN, 1); }

/* ---- timers of another P are moved to one that sleeps ---- */

static void hand_over_by_free(gt_p **p)
{
    CHECK_EQ(gt_p_free(*p), 0);
    *p = NULL;
}

static void handed_over(enum way way)
{
    enum { K = 8 };
    static struct product x[K];
    int64_t end = mono_now() + pl_run_ns() / 4;

    pl_rng_start(999999);
    bed_start(way, GT_CLOCK_MONOTONIC, 2, 0);
    for (int i = 0; i < K; i++)
        product_new(&x[i]);
    while (mono_now() < end) {
        gt_p *p = gt_p_new(bed.s);   /* nobody runs it */
        int k = 1 + (int)pl_below(K);

        CHECK(p != NULL);
        for (int i = 0; i < k; i++) {
            atomic_store(&x[i].fired, 0);
            atomic_store(&x[i].when, soon());
            CHECK_EQ(gt_addtimer_on(p, x[i].t, atomic_load(&x[i].when), 0), 0);
        }
        if (pl_one_in(2))
            CHECK_EQ(gt_adopt_timers(bed.z[pl_below(2)].p, p), k);
        else
            hand_over_by_free(&p);
        for (int i = 0; i < k; i++)
            product_wait(&x[i]);
        if (p != NULL)
            CHECK_EQ(gt_p_free(p), 0);
        if (pl_one_in(4))
            sleep_ms(1);
    }
    check_at_rest();
    bed_stop();
    for (int i = 0; i < K; i++)
        CHECK_EQ(gt_timer_free(x[i].t), 0);
    close_sched(bed.s);
}

PLOOP_TEST(ploop_wake_handed_over_note) { handed_over(NOTE); }
PLOOP_TEST(ploop_wake_handed_over_fd) { handed_over(FD); }
PLOOP_TEST(ploop_wake_handed_over_cond) { handed_over(COND); }
PLOOP_TEST(ploop_wake_handed_over_cond_until) { handed_over(COND_UNTIL); }

/* ---- the virtual clock wakes who sleeps by it ---- */

static void virtual_sleepers(enum way way)
{
    enum { K = 32 };
    static struct product x[K];
    int64_t end = mono_now() + pl_run_ns() / 4, now, next;
    uint64_t rounds = 0;

    pl_rng_start(999999);
    bed_start(way, GT_CLOCK_VIRTUAL, 4, 0);
    now = gt_nanotime(bed.s);
    for (int i = 0; i < K; i++)
        product_new(&x[i]);
    for (; mono_now() < end; rounds++) {
        int64_t earliest = INT64_MAX;

        for (int i = 0; i < K; i++) {
            int64_t when = now + 1 + (int64_t)pl_below((uint64_t)(10 * PL_SEC));

            if (when < earliest)
                earliest = when;
            atomic_store(&x[i].fired, 0);
            atomic_store(&x[i].when, when);
            CHECK_EQ(gt_addtimer_on(bed.z[pl_below(4)].p, x[i].t, when, 0), 0);
        }
        CHECK_LE(gt_time_sleep_until(bed.s), earliest);
        for (;;) {
            next = INT64_MAX;
            for (int i = 0; i < K; i++)
                if (!atomic_load(&x[i].fired) && atomic_load(&x[i].when) < next)
                    next = atomic_load(&x[i].when);
            if (next == INT64_MAX)
                break;
            CHECK_LE(gt_time_sleep_until(bed.s), next);
            if (pl_one_in(8))
                next += (int64_t)pl_below((uint64_t)PL_SEC);
            now = next > now ? next : now;
            CHECK_EQ(gt_sched_set_time(bed.s, now), 0);
            for (int i = 0; i < K; i++)
                if (atomic_load(&x[i].when) <= now)
                    product_wait(&x[i]);
        }
    }
    check_at_rest();
    bed_stop();
    CHECK_EQ(get_stats(bed.s).fired, rounds * K);
    for (int i = 0; i < K; i++)
        CHECK_EQ(gt_timer_free(x[i].t), 0);
    close_sched(bed.s);
}

PLOOP_TEST(ploop_wake_virtual_note) { virtual_sleepers(NOTE); }
PLOOP_TEST(ploop_wake_virtual_fd) { virtual_sleepers(FD); }
