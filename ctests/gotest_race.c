/* Counterparts of the tests of Go's race detector that concern timers (src/runtime/race:
 * timer_test.go, testdata/time_test.go, testdata/sync_test.go): what a timer does happens after
 * the arming, and before what comes after it. The variables here are plain ones on purpose:
 * `make tsan` runs these tests with a library and a program that ThreadSanitizer watches, and
 * no other synchronisation may help where the timer alone must do. See gotest.h. */
#include "gotest.h"

static int v;

static void sets(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    v++;
    done_send(arg);
}

/* What was written before the arming is seen in f. */
TEST(gotest_no_race_after_func, 60)
{
    struct done d = DONE_INIT;
    gt_timer *t;

    rt_start(2);
    for (int i = 0; i < 20; i++) {
        v = 2;
        t = rt_after_func(1, sets, &d);
        done_recv(&d);
        CHECK_EQ(v, 3);
        CHECK_EQ(gt_timer_free(t), 0);
    }
    rt_stop_conserved();
}

/* What was written before the reset, too. */
TEST(gotest_no_race_after_func_reset, 60)
{
    struct done d = DONE_INIT;
    gt_timer *t;

    rt_start(2);
    for (int i = 0; i < 20; i++) {
        t = rt_after_func(HOUR, sets, &d);
        CHECK_EQ(gt_timer_stop(t), 1);
        v = 2;
        CHECK_EQ(gt_timer_reset(t, 1), 0);
        done_recv(&d);
        CHECK_EQ(v, 3);
        CHECK_EQ(gt_timer_free(t), 0);
    }
    rt_stop_conserved();
}

struct taker {
    gt_timer *t;
    struct done done;
};

static void *takes(void *arg)
{
    struct taker *k = arg;

    CHECK_EQ(gt_timer_recv(k->t, NULL), 0);
    v++;
    done_send(&k->done);
    return NULL;
}

/* A thread receives, and sees what was written before the timer was made or, with `late`,
 * before it was reset, which is after the thread began. */
static void receive(int ticker, int late)
{
    int64_t d = late ? HOUR : 1;

    rt_start(2);
    for (int i = 0; i < 20; i++) {
        struct taker k = {.done = DONE_INIT};
        pthread_t th;

        v = 2;
        k.t = ticker ? gt_new_ticker(d) : gt_new_timer(d);
        CHECK(k.t != NULL);
        th = thread_start(takes, &k);
        if (late) {
            if (i % 2)
                sleep_ms(1);                         /* it is waiting by now, or not yet */
            CHECK_EQ(gt_timer_stop(k.t), 1);
            v = 4;
            CHECK_EQ(gt_timer_reset(k.t, 1), 0);
        }
        done_recv(&k.done);
        CHECK_EQ(v, late ? 5 : 3);
        thread_join(th);
        CHECK_GE(gt_timer_free(k.t), 0);
    }
    rt_stop_conserved();
}

TEST(gotest_no_race_timer, 60) { receive(0, 0); }
TEST(gotest_no_race_timer_reset, 60) { receive(0, 1); }
TEST(gotest_no_race_ticker, 60) { receive(1, 0); }
TEST(gotest_no_race_ticker_reset, 60) { receive(1, 1); }

/* A chain: each call sees what the one before wrote, on whichever worker it ran. */
struct links {
    int left;                                        /* not atomic */
    struct done done;
};

static void next_link(void *arg, uintptr_t seq, int64_t delay)
{
    struct links *l = arg;

    (void)seq;
    (void)delay;
    if (--l->left > 0)
        CHECK_EQ(gt_timer_detach(rt_after_func(0, next_link, l)), 0);
    else
        done_send(&l->done);
}

TEST(gotest_no_race_after_func1, 60)
{
    rt_start(2);
    for (int i = 0; i < 10; i++) {
        struct links l = {.left = 20, .done = DONE_INIT};

        CHECK_EQ(gt_timer_detach(rt_after_func(0, next_link, &l)), 0);
        done_recv(&l.done);
        CHECK_EQ(l.left, 0);
    }
    rt_stop_conserved();
}

static void sets_x(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    *(int *)arg = 1;
}

/* Stopped while its function may be about to run: after gt_deltimer_sync the variable is ours
 * (Go has no such call, and its test leaves the variable alone). */
TEST(gotest_no_race_after_func2, 60)
{
    rt_start(2);
    for (int i = 0; i < 200; i++) {
        int x = 0, pending;
        gt_timer *t = rt_after_func(10, sets_x, &x);

        pending = gt_deltimer_sync(t);
        CHECK_EQ(x, pending == 0);
        x = 2;
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(x, 2);
    }
    rt_stop_conserved();
}

/* One arming, one call, one wait. */
TEST(gotest_no_race_after_func3, 60)
{
    struct done d = DONE_INIT;
    gt_timer *t;

    rt_start(2);
    v = 0;
    t = rt_after_func(10 * MS, sets, &d);
    done_recv(&d);
    CHECK_EQ(v, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
}

/* Eight threads, each with a ticker of a nanosecond and a mutex that all share. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static int under_mu;

static void *ticks(void *arg)
{
    gt_timer *t = gt_new_ticker(1);

    (void)arg;
    CHECK(t != NULL);
    for (int i = 0; i < rounds(1000); i++) {
        CHECK_EQ(gt_timer_recv(t, NULL), 0);
        pthread_mutex_lock(&mu);
        under_mu++;
        pthread_mutex_unlock(&mu);
    }
    CHECK_EQ(gt_timer_free(t), 1);
    return NULL;
}

TEST(gotest_timers, 120)
{
    rt_start(2);
    run_threads(8, ticks, NULL, 0);
    CHECK_EQ(under_mu, 8 * rounds(1000));
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}
