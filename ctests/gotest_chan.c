/* The counterpart of TestChan of Go's src/time/tick_test.go: what a timer's channel gives, and
 * when, while the timer is stopped and reset; with nobody waiting (the timer stays out of the
 * heap), with threads blocked in gt_timer_recv, and with threads that poll its descriptor. Once
 * on a virtual clock, where all is exact, once on the runtime. See gotest.h.
 *
 * Go's test also looks at len and cap of the channel, which are 0: the channel looks unbuffered
 * since Go 1.23, and the old one with a buffer (asynctimerchan=1) is gone in Go 1.27. There is
 * no length to be asked for here. */
#include "gotest.h"

#include <sys/eventfd.h>
#include <unistd.h>

struct env {
    gt_sched *s;
    int is_virtual, ticker;
    gt_timer *t;
};

/* A while passes. On the virtual clock a short one: a ticker of a nanosecond that somebody waits
 * for does tick each nanosecond. */
static void nap(struct env *e)
{
    if (e->is_virtual)
        CHECK_GE(gt_sched_advance(e->s, 100), 0);
    else
        sleep_ms(10);
}

static void no_tick(struct env *e) { CHECK_EQ(gt_timer_try_recv(e->t, NULL), 0); }

/* On the runtime it may take a while, and a ticker's may come as many. */
static void assert_tick(struct env *e)
{
    int64_t end = mono_now() + LIMIT;
    int got;

    while ((got = gt_timer_try_recv(e->t, NULL)) == 0) {
        CHECK_EQ(e->is_virtual, 0);
        CHECK_LT(mono_now(), end);
        sleep_ms(1);
    }
    CHECK_EQ(got, 1);
}

static void stop(struct env *e, int want)
{
    CHECK_EQ(gt_timer_stop(e->t), want);
    no_tick(e);
}

static void reset(struct env *e, int64_t d, int want)
{
    CHECK_EQ(gt_timer_reset(e->t, d), want);
}

/* Nothing of this sched is in a heap (the runtime's own sleeps aside). */
static void check_lazy(struct env *e)
{
    if (e->is_virtual)
        CHECK_EQ(gt_time_sleep_until(e->s), GT_MAX_WHEN);
}

/* ---- one thread in gt_timer_recv ---- */

struct receiver {
    gt_timer *t;
    atomic_int waiting, done;
    int result;
};

static void *receives(void *arg)
{
    struct receiver *r = arg;

    r->waiting = 1;
    r->result = gt_timer_recv(r->t, NULL);
    r->done = 1;
    return NULL;
}

/* On the virtual clock it can be seen when the thread waits: its timer is in the heap then. */
static void until_blocked(struct env *e, struct receiver *r)
{
    int64_t end = mono_now() + LIMIT;

    wait_for(&r->waiting, 1);
    if (e->is_virtual)
        while (gt_time_sleep_until(e->s) == GT_MAX_WHEN) {
            CHECK_LT(mono_now(), end);
            sleep_ms(1);
        }
    else
        sleep_ms(10);
}

static void blocked_receiver(struct env *e)
{
    struct receiver r = {.t = e->t};
    pthread_t th = thread_start(receives, &r);

    until_blocked(e, &r);
    CHECK_EQ(r.done, 0);
    reset(e, 20000 * SEC, 1);                /* further away, with somebody waiting */
    nap(e);
    CHECK_EQ(r.done, 0);
    reset(e, 1, 1);                          /* at hand */
    nap(e);
    wait_for(&r.done, 1);
    thread_join(th);
    CHECK_EQ(r.result, 0);
    nap(e);
    if (e->ticker)
        assert_tick(e);                      /* the next one, a nanosecond later */
    else
        no_tick(e);
    stop(e, e->ticker);
    check_lazy(e);
}

/* ---- two threads that poll, and can be told to go ---- */

struct poller {
    struct env *e;
    int fd, stop_fd;
    atomic_int got, ended;
};

static void *polls(void *arg)
{
    struct poller *p = arg;

    for (;;) {
        unsigned ready = wait_readable((int[]){p->fd, p->stop_fd}, 2);

        if ((ready & 1) && gt_timer_try_recv(p->e->t, NULL) == 1) {
            p->got = 1;
            break;
        }
        if (ready & 2)
            break;
    }
    p->ended = 1;
    return NULL;
}

static void two_pollers(struct env *e, int armed)
{
    struct poller p[2];
    pthread_t th[2];
    uint64_t one = 1;
    int stop_fd = eventfd(0, 0), fd = gt_timer_fd(e->t);
    int64_t end = mono_now() + LIMIT;

    CHECK_GE(stop_fd, 0);
    CHECK_GE(fd, 0);
    CHECK_EQ(gt_timer_fd(e->t), fd);
    CHECK_EQ(readable(fd), 0);
    if (armed)
        reset(e, 10000 * SEC, 0);
    for (int i = 0; i < 2; i++) {
        p[i] = (struct poller){.e = e, .fd = fd, .stop_fd = stop_fd};
        th[i] = thread_start(polls, &p[i]);
    }
    nap(e);
    CHECK_EQ(p[0].got + p[1].got, 0);
    if (armed) {
        reset(e, e->is_virtual ? 50 : 5 * MS, 1);
        do {                                 /* a ticker may serve both, a timer one */
            nap(e);
            CHECK_LT(mono_now(), end);
        } while (p[0].got + p[1].got == 0);
        if (!e->ticker)
            CHECK_EQ(p[0].got + p[1].got, 1);
        stop(e, e->ticker);
    }
    CHECK_EQ(write(stop_fd, &one, sizeof one), sizeof one);
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    if (!armed)
        CHECK_EQ(p[0].got + p[1].got, 0);
    else if (!e->ticker)
        CHECK_EQ(p[0].got + p[1].got, 1);
    CHECK_EQ(readable(fd), 0);
    no_tick(e);
    close(stop_fd);
}

/* ---- the whole ---- */

static void chan(struct env *e)
{
    int fd;

    /* Nobody waits: never in a heap. */
    check_lazy(e);
    stop(e, 1);
    stop(e, 0);
    reset(e, 10000 * SEC, 0);
    no_tick(e);
    check_lazy(e);
    reset(e, 1, 1);
    nap(e);
    assert_tick(e);
    nap(e);
    reset(e, 10000 * SEC, e->ticker);        /* a ticker had a second tick by now: gone */
    no_tick(e);
    check_lazy(e);

    blocked_receiver(e);
    reset(e, 1, 0);                          /* still fine after it */
    nap(e);
    assert_tick(e);
    stop(e, e->ticker);

    /* Stop and Reset keep old values from being received, with nobody waiting ... */
    for (int looked_at = 0; looked_at < 2; looked_at++) {
        if (looked_at) {                     /* ... and with a descriptor that turns readable */
            two_pollers(e, 1);
            two_pollers(e, 0);
        }
        fd = looked_at ? gt_timer_fd(e->t) : -1;
        reset(e, 1, 0);
        nap(e);
        if (looked_at)
            wait_readable(&fd, 1);
        stop(e, 1);
        if (looked_at)
            CHECK_EQ(readable(fd), 0);
        reset(e, HOUR, 0);
        no_tick(e);
        reset(e, 1, 1);
        nap(e);
        if (looked_at)
            wait_readable(&fd, 1);
        assert_tick(e);
        nap(e);
        if (e->ticker) {
            assert_tick(e);
            nap(e);
        } else {
            no_tick(e);
        }
        reset(e, HOUR, e->ticker);
        no_tick(e);
        if (looked_at)
            CHECK_EQ(readable(fd), 0);
        stop(e, 1);
    }

    /* Who waits for a stopped timer waits until it is freed. */
    {
        struct receiver r = {.t = e->t};
        pthread_t th = thread_start(receives, &r);

        wait_for(&r.waiting, 1);
        sleep_ms(10);
        CHECK_EQ(r.done, 0);
        CHECK_EQ(gt_timer_free(e->t), 0);
        thread_join(th);
        CHECK_EQ(r.result, GT_ESTALE);
    }
}

static void chan_virtual(int ticker)
{
    struct env e = {.s = virtual_sched(), .is_virtual = 1, .ticker = ticker};

    e.t = ticker ? gt_sched_new_ticker(e.s, 10000 * SEC) : gt_sched_new_timer(e.s, 10000 * SEC);
    CHECK(e.t != NULL);
    chan(&e);
    check_conserved(e.s);
    CHECK_EQ(get_stats(e.s).pending, 0);
    CHECK_LE(get_stats(e.s).timers, 1);      /* a heap may still refer to it */
    close_sched(e.s);
}

static void chan_real(int ticker)
{
    struct env e = {.ticker = ticker};

    rt_start(2);
    e.s = gt_runtime_sched();
    e.t = ticker ? gt_new_ticker(10000 * SEC) : gt_new_timer(10000 * SEC);
    CHECK(e.t != NULL);
    chan(&e);
    CHECK_EQ(get_stats(e.s).pending, 0);
    rt_stop_conserved();
}

TEST(gotest_chan_timer, 120) { chan_real(0); }
TEST(gotest_chan_ticker, 120) { chan_real(1); }
TEST(gotest_chan_timer_virtual, 120) { chan_virtual(0); }
TEST(gotest_chan_ticker_virtual, 120) { chan_virtual(1); }
