/* ploop_wake.c: lost wake-ups. P loops sleep, for ever if nothing is to be done, and others arm,
 * shorten, adopt and hand over timers for them: each must fire soon, though only a wake can
 * bring its P to look. Soon is some seconds here; a lost wake is an hour or never.
 *
 * Ways to sleep: gt_notetsleep; poll() on the P's fd; a condition variable of the embedder's
 * own, with a wake hook that always signals; the same with one that signals only who sleeps
 * too long (publish "I sleep until X", look again, sleep). */
#include "ploop.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum way { NOTE, FD, COND, COND_UNTIL };

#define SOON (5 * PL_SEC)

struct sleeper {
    struct bed *bed;
    int index;
    pthread_t thread;
    pthread_mutex_t lock;     /* over woken, and over p where another thread wants it */
    pthread_cond_t cond;
    gt_p *p;
    int stop_fd;
    int woken;
    atomic_int done;
    _Atomic int64_t until;    /* COND_UNTIL: sleeps until then; 0: awake */
    _Atomic uint64_t sleeps;
};

/* A sched whose Ps sleep. */
struct bed {
    gt_sched *s;
    enum way way;
    int n, come_and_go;
    struct sleeper z[PL_MAX_LOOPS];
    atomic_int stop;
    _Atomic uint64_t hook_wakes, ps_freed;
};

static struct bed bed;

static void signal_sleeper(struct sleeper *z)
{
    pthread_mutex_lock(&z->lock);
    z->woken = 1;
    pthread_cond_signal(&z->cond);
    pthread_mutex_unlock(&z->lock);
}

static void wake_hook(void *ctx, gt_p *p, int64_t when)
{
    struct bed *b = ctx;
    struct sleeper *z = gt_p_userdata(p);

    pl_add(b->hook_wakes, 1);
    if (z == NULL)
        return;   /* a P so new that its thread has not looked at it yet */
    atomic_thread_fence(memory_order_seq_cst);
    if (b->way == COND || when < atomic_load(&z->until))
        signal_sleeper(z);
}

static void sleep_on_cond(struct sleeper *z, int64_t until)
{
    struct bed *b = z->bed;
    int64_t again;

    if (b->way == COND_UNTIL) {
        atomic_store(&z->until, until);
        atomic_thread_fence(memory_order_seq_cst);
        again = gt_nobarrier_wake_time(z->p);
        if (again != 0 && again < until) {
            atomic_store(&z->until, 0);
            return;
        }
    }
    pthread_mutex_lock(&z->lock);
    while (!z->woken && !atomic_load(&b->stop)) {
        int64_t now = gt_nanotime(b->s), at;
        struct timespec ts;

        if (now >= until)
            break;
        if (until - now > PL_HOUR * 24) {
            pthread_cond_wait(&z->cond, &z->lock);
            continue;
        }
        at = mono_now() + (until - now);
        ts.tv_sec = at / PL_SEC;
        ts.tv_nsec = at % PL_SEC;
        pthread_cond_timedwait(&z->cond, &z->lock, &ts);
    }
    z->woken = 0;
    pthread_mutex_unlock(&z->lock);
    atomic_store(&z->until, 0);
}

static void sleep_until(struct sleeper *z, int64_t until)
{
    struct bed *b = z->bed;
    int r;

    pl_add(z->sleeps, 1);
    if (b->way == NOTE) {
        r = gt_notetsleep(z->p, until);
        CHECK(r == 0 || r == 1);
        if (r == 0) {
            CHECK(until != 0);
            CHECK_GE(gt_nanotime(b->s), until);
        }
    } else if (b->way == FD) {
        struct pollfd fds[2] = {{gt_p_fd(z->p), POLLIN, 0}, {z->stop_fd, POLLIN, 0}};

        CHECK_GE(fds[0].fd, 0);
        while (poll(fds, 2, -1) < 0)
            CHECK_EQ(errno, EINTR);
    } else {
        sleep_on_cond(z, until != 0 ? until : GT_MAX_WHEN);
    }
}

static void new_p(struct sleeper *z)
{
    gt_p *p = gt_p_new(z->bed->s);

    CHECK(p != NULL);
    CHECK_EQ(gt_p_set_userdata(p, z), 0);
    pthread_mutex_lock(&z->lock);
    z->p = p;
    pthread_mutex_unlock(&z->lock);
}

static void free_p(struct sleeper *z)
{
    gt_p *p = z->p;

    pthread_mutex_lock(&z->lock);
    z->p = NULL;
    pthread_mutex_unlock(&z->lock);   /* the hook takes it too */
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    pl_add(z->bed->ps_freed, 1);
}

static void *sleeper_thread(void *arg)
{
    struct sleeper *z = arg;
    struct bed *b = z->bed;
    int64_t now, until;

    pl_rng_start(7000 + (uint64_t)z->index);
    CHECK_EQ(gt_acquirep(z->p), 0);
    while (!atomic_load(&b->stop)) {
        if (b->come_and_go && pl_one_in(8)) {
            free_p(z);
            if (pl_one_in(4))
                sched_yield();
            new_p(z);
            CHECK_EQ(gt_acquirep(z->p), 0);
        }
        gt_check_timers(z->p, 0, &now, &until);
        if (until != 0 && until <= now)
            continue;   /* the pass ended at its bound */
        sleep_until(z, until);
    }
    atomic_store(&z->done, 1);
    return NULL;
}

static void bed_start(enum way way, uint32_t clock, int n, int come_and_go)
{
    gt_config cfg;
    gt_host host;
    pthread_condattr_t attr;

    memset(&cfg, 0, sizeof cfg);
    memset(&host, 0, sizeof host);
    host.size = sizeof host;
    host.ctx = &bed;
    host.wake_netpoller = wake_hook;
    cfg.size = sizeof cfg;
    cfg.clock = clock;
    cfg.host = way == COND || way == COND_UNTIL ? &host : NULL;
    bed.way = way;
    bed.n = n;
    bed.come_and_go = come_and_go;
    CHECK((bed.s = gt_sched_new(&cfg)) != NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++) {
        struct sleeper *z = &bed.z[i];

        z->bed = &bed;
        z->index = i;
        CHECK_EQ(pthread_mutex_init(&z->lock, NULL), 0);
        CHECK_EQ(pthread_cond_init(&z->cond, &attr), 0);
        CHECK_GE(z->stop_fd = eventfd(0, EFD_CLOEXEC), 0);
        new_p(z);
    }
    for (int i = 0; i < n; i++)
        bed.z[i].thread = pl_start(sleeper_thread, &bed.z[i]);
    pthread_condattr_destroy(&attr);
}

static void bed_stop(void)
{
    uint64_t one = 1, sleeps = 0;

    atomic_store(&bed.stop, 1);
    for (int i = 0; i < bed.n; i++) {
        struct sleeper *z = &bed.z[i];

        CHECK_EQ(write(z->stop_fd, &one, sizeof one), sizeof one);
        signal_sleeper(z);
        /* More than once: it may just be between two Ps. */
        while (bed.way == NOTE && !atomic_load(&z->done)) {
            pthread_mutex_lock(&z->lock);
            if (z->p != NULL)
                CHECK_EQ(gt_notewakeup(z->p), 0);
            pthread_mutex_unlock(&z->lock);
            sleep_ms(1);
        }
        pl_join(z->thread);
    }
    check_conserved(bed.s);
    for (int i = 0; i < bed.n; i++) {
        struct sleeper *z = &bed.z[i];

        sleeps += pl_get(z->sleeps);
        CHECK_EQ(gt_p_free(z->p), 0);
        close(z->stop_fd);
        pthread_mutex_destroy(&z->lock);
        pthread_cond_destroy(&z->cond);
    }
    printf("slept %llu times, %llu wakes, %llu Ps freed\n", (unsigned long long)sleeps,
           (unsigned long long)get_stats(bed.s).wakes, (unsigned long long)pl_get(bed.ps_freed));
}

/* With nothing due, the Ps come to rest: no sleep that ends at once, again and again. */
static void check_at_rest(void)
{
    int64_t limit = mono_now() + pl_limit_ns(SOON);

    for (;;) {
        uint64_t before = 0, after = 0;

        for (int i = 0; i < bed.n; i++)
            before += pl_get(bed.z[i].sleeps);
        sleep_ms(50);
        for (int i = 0; i < bed.n; i++)
            after += pl_get(bed.z[i].sleeps);
        if (after - before < 20)
            return;
        CHECK_LT(mono_now(), limit);
    }
}

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
    next->when = now + (pl_one_in(4) ? 0 : (int64_t)pl_below((uint64_t)(pl_one_in(16) ? PL_MS : 50 * PL_US)));
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
