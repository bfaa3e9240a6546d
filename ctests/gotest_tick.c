/* Counterparts of Go's src/time/tick_test.go, but for TestChan (gotest_chan.c) and the
 * benchmarks (gotest_bench.c), and of the two tests of time_test.go that concern timers. See
 * gotest.h. */
#include "gotest.h"

/* ---- Ticker ---- */

/* Takes n ticks of one arming that was made between t0 and t1, and checks the times in them: each
 * is a whole number of periods after the arming, later than the one before, and not ahead. */
static void take_ticks(gt_timer *t, gt_sched *s, int n, int64_t t0, int64_t t1, int64_t period)
{
    int64_t first = 0, last = 0;

    for (int i = 1; i <= n; i++) {
        int64_t sent, now;

        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        now = gt_nanotime(s);
        CHECK_GE(now, sent);
        CHECK_GE(sent, t0 + i * period);
        if (i == 1) {
            first = sent;
            CHECK_LE((sent - t0) % period, t1 - t0);     /* the phase */
        }
        CHECK_GT(sent, last);
        CHECK_EQ((sent - first) % period, 0);
        last = sent;
    }
}

/* Five ticks, five of twice the time, then none. */
TEST(gotest_ticker, 120)
{
    const int64_t delta = 20 * MS;
    int64_t t0, t1;
    gt_sched *s;
    gt_timer *t;

    rt_start(2);
    s = gt_runtime_sched();
    t0 = rt_now();
    t = gt_new_ticker(delta);
    t1 = rt_now();
    CHECK(t != NULL);
    take_ticks(t, s, 5, t0, t1, delta);
    t0 = rt_now();
    CHECK_EQ(gt_timer_reset(t, 2 * delta), 1);
    t1 = rt_now();
    take_ticks(t, s, 5, t0, t1, 2 * delta);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_sleep(3 * delta), 0);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
}

static void ticker_virtual(gt_sched *s)
{
    const int64_t delta = 20 * MS;
    gt_timer *t = gt_sched_new_ticker(s, delta);
    int64_t sent;

    for (int i = 1; i <= 5; i++) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_EQ(sent, T0 + i * delta);
        CHECK_EQ(gt_nanotime(s), sent);
    }
    CHECK_EQ(gt_timer_reset(t, 2 * delta), 1);
    for (int i = 1; i <= 5; i++) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_EQ(sent, T0 + (5 + 2 * i) * delta);
        CHECK_EQ(gt_nanotime(s), sent);
    }
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_sched_sleep(s, 3 * delta), 0);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);

    /* One tick is kept, the rest is dropped, and the phase stays. */
    CHECK_EQ(gt_timer_reset(t, delta), 0);
    CHECK_EQ(gt_sched_sleep(s, 10 * delta + 3), 0);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, T0 + (18 + 1) * delta);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, T0 + (18 + 11) * delta);
    CHECK_EQ(gt_timer_free(t), 1);
}

/* The same, exactly. */
TEST(gotest_ticker_virtual, 60) { bubble_run(ticker_virtual); }

/* A ticker of a nanosecond goes on while others keep the runtime busy. */
TEST(gotest_ticker_stress, 120)
{
    struct churn churn;
    gt_timer *t;

    rt_start(2);
    churn_start(&churn);
    t = gt_new_ticker(1);
    CHECK(t != NULL);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    churn_stop(&churn);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
}

static void *takes_100(void *arg)
{
    gt_timer *t = *(gt_timer **)arg;

    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_timer_recv(t, NULL), 0);
    return NULL;
}

TEST(gotest_ticker_concurrent_stress, 120)
{
    struct churn churn;
    gt_timer *t;

    rt_start(2);
    churn_start(&churn);
    t = gt_new_ticker(1);
    CHECK(t != NULL);
    run_threads(10, takes_100, &t, 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    churn_stop(&churn);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
}

/* A ticker is stopped, and freed, right after a tick; nothing hangs. */
TEST(gotest_teardown, 60)
{
    rt_start(2);
    for (int i = 0; i < 6; i++) {
        gt_timer *t = gt_new_ticker(10 * MS);

        CHECK_EQ(gt_timer_recv(t, NULL), 0);
        if (i % 2)
            CHECK_EQ(gt_timer_stop(t), 1);
        CHECK_EQ(gt_timer_free(t), i % 2 ? 0 : 1);
    }
    rt_stop_conserved();
}

/* ---- periods that are none ---- */

TEST(gotest_tick, 60)
{
    static const int64_t none[] = {0, -1, INT64_MIN};
    gt_timer *t;

    CHECK_EQ(gt_timer_stop(NULL), GT_EINVAL);
    CHECK_PTR_EQ(gt_new_ticker(-1), NULL);           /* leaves an error behind */
    CHECK_EQ(gt_last_error(), GT_EINVAL);
    for (int i = 0; i < 3; i++) {
        CHECK_PTR_EQ(gt_tick(none[i]), NULL);
        CHECK_EQ(gt_last_error(), 0);                /* which this is not */
    }
    rt_start(1);
    t = gt_tick(1 * MS);
    CHECK(t != NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    rt_stop_conserved();
}

TEST(gotest_new_ticker_lt_zero_duration, 60)
{
    static const int64_t none[] = {0, -1, INT64_MIN};
    gt_sched *s = virtual_sched();

    for (int i = 0; i < 3; i++) {
        CHECK_PTR_EQ(gt_new_ticker(none[i]), NULL);
        CHECK_EQ(gt_last_error(), GT_EINVAL);
        CHECK_PTR_EQ(gt_sched_new_ticker(s, none[i]), NULL);
        CHECK_EQ(gt_last_error(), GT_EINVAL);
    }
    CHECK_EQ(get_stats(s).timers, 0);
    close_sched(s);
}

/* Refused, and the ticker goes on as before. */
TEST(gotest_ticker_reset_lt_zero_duration, 60)
{
    static const int64_t none[] = {0, -1, INT64_MIN};
    gt_sched *s = virtual_sched();
    gt_timer *t = gt_sched_new_ticker(s, SEC);
    int64_t sent;

    for (int i = 0; i < 3; i++) {
        CHECK_EQ(gt_timer_reset(t, none[i]), GT_EINVAL);
        CHECK_EQ(gt_timer_reset_id(s, gt_timer_id(t), none[i]), GT_EINVAL);
    }
    CHECK_GE(gt_sched_advance(s, SEC), 0);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, T0 + SEC);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    close_sched(s);
}

/* ---- LongAdjustTimers ---- */

enum { HEAP = 5000, MESSAGES = 50000, TRY = 20 };

/* Next to some thousand timers that fired, a million time-outs are set and given up, twenty at a
 * time: this must not scan a heap for each. Go gives itself a minute for what takes a second. */
TEST(gotest_long_adjust_timers, 300)
{
    static struct counter c;
    gt_timer **heap = calloc(HEAP, sizeof *heap);
    int64_t end;

    CHECK(heap != NULL);
    rt_start(2);
    for (int i = 0; i < HEAP; i++)
        heap[i] = rt_after_func(10 * US, count_run, &c);
    for (int i = 0; i < rounds(1000); i++)
        CHECK_EQ(gt_sleep(1 * US), 0);
    wait_for(&c.runs, HEAP);
    end = mono_now() + LIMIT;
    for (int i = 0; i < rounds(MESSAGES); i++) {
        gt_timer *t[TRY];

        for (int k = 0; k < TRY; k++)
            t[k] = k % 2 ? gt_new_timer(HOUR) : rt_after_func(HOUR, count_run, &c);
        for (int k = 0; k < TRY; k++)
            CHECK_EQ(gt_timer_free(t[k]), 1);
        if (i % 64 == 0)
            CHECK_LT(mono_now(), end);
    }
    CHECK_EQ(c.runs, HEAP);
    for (int i = 0; i < HEAP; i++)
        CHECK_EQ(gt_timer_free(heap[i]), 0);
    free(heap);
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}

/* ---- TimerGC ---- */

static gt_timer *make_after(gt_sched *s)
{
    return s == NULL ? gt_after(HOUR) : gt_sched_new_timer(s, HOUR);
}

static gt_timer *make_tick(gt_sched *s)
{
    return s == NULL ? gt_tick(HOUR) : gt_sched_new_ticker(s, HOUR);
}

static gt_timer *make_timer(gt_sched *s)
{
    return s == NULL ? gt_new_timer(HOUR) : gt_sched_new_timer(s, HOUR);
}

static gt_timer *make_ticker(gt_sched *s)
{
    return s == NULL ? gt_new_ticker(HOUR) : gt_sched_new_ticker(s, HOUR);
}

/* There is no collector here: gt_timer_free is what makes a timer unreachable. After it nothing is
 * left, stopped before or not, looked at or not; a second round needs no more memory. */
static void no_garbage(gt_sched *s, gt_timer *(*make)(gt_sched *), int stop, int look)
{
    gt_sched *sched = s != NULL ? s : gt_runtime_sched();
    int n = rounds(10000);
    uint64_t bytes = 0;

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < n; i++) {
            gt_timer *t = make(s);

            CHECK(t != NULL);
            if (look)
                CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
            if (stop)
                CHECK_EQ(gt_timer_stop(t), 1);
            CHECK_EQ(gt_timer_free(t), !stop);
        }
        CHECK_EQ(get_stats(sched).pending, 0);
        CHECK_LE(get_stats(sched).timers, 100);
        if (round == 1)
            bytes = get_stats(sched).bytes;
    }
    CHECK_LE(get_stats(sched).bytes, bytes);
}

TEST(gotest_timer_gc, 120)
{
    static gt_timer *(*const make[])(gt_sched *) = {make_after, make_tick, make_timer, make_ticker};
    gt_sched *v = virtual_sched();

    rt_start(2);
    for (int i = 0; i < 4; i++)
        for (int stop = 0; stop < 2; stop++)
            for (int look = 0; look < 2; look++) {
                no_garbage(NULL, make[i], stop, look);
                no_garbage(v, make[i], stop, look);
            }
    rt_stop_conserved();
    check_conserved(v);
    close_sched(v);
}

/* ---- the time in the value ---- */

/* Received late, the value still says when the timer was due. */
static void late_value(gt_timer *(*make)(int64_t d))
{
    int64_t before = rt_now(), after, sent;
    gt_timer *t = make(10 * MS);

    CHECK(t != NULL);
    after = rt_now();
    CHECK_EQ(gt_sleep(200 * MS), 0);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_GE(sent, before + 10 * MS);
    CHECK_LE(sent, after + 10 * MS);
    if (make == gt_tick)
        CHECK_EQ(gt_timer_free(t), 1);
}

TEST(gotest_after_times, 60)
{
    rt_start(2);
    late_value(gt_after);
    rt_stop_conserved();
}

TEST(gotest_tick_times, 60)
{
    rt_start(2);
    late_value(gt_tick);
    rt_stop_conserved();
}

/* ---- time_test.go: one timer, many threads ---- */

struct resetter {
    gt_timer *t;
    int i, stop;
    int replaced, stopped;
};

static void *resets(void *arg)
{
    struct resetter *r = arg;

    if (r->stop) {
        r->stopped = gt_timer_stop(r->t);
        CHECK_GE(r->stopped, 0);
        return NULL;
    }
    for (int j = 0; j < 1000; j++) {
        int pending = gt_timer_reset(r->t, HOUR + r->i * j);

        CHECK_GE(pending, 0);
        r->replaced += pending;
    }
    return NULL;
}

static void concurrent_reset(int stops, gt_timer *t)
{
    enum { N = 8 };
    struct resetter r[2 * N];
    int n = stops ? 2 * N : N, replaced = 0, stopped = 0;

    CHECK(t != NULL);
    for (int i = 0; i < n; i++)
        r[i] = (struct resetter){.t = t, .i = i / (stops + 1), .stop = stops && i % 2};
    run_threads(n, resets, r, sizeof *r);
    for (int i = 0; i < n; i++) {
        replaced += r[i].replaced;
        stopped += r[i].stopped;
    }
    stopped += gt_timer_free(t);
    CHECK_EQ(replaced + stopped, N * 1000 + 1);      /* each arming ended once */
}

TEST(gotest_concurrent_timer_reset, 120)
{
    static struct counter c;

    rt_start(2);
    concurrent_reset(0, gt_new_timer(HOUR));
    concurrent_reset(0, gt_new_ticker(HOUR));
    concurrent_reset(0, rt_after_func(HOUR, count_run, &c));
    rt_stop_conserved();
    CHECK_EQ(c.runs, 0);
}

TEST(gotest_concurrent_timer_reset_stop, 120)
{
    static struct counter c;

    rt_start(2);
    for (int i = 0; i < rounds(10); i++) {
        concurrent_reset(1, gt_new_timer(HOUR));
        concurrent_reset(1, gt_new_ticker(HOUR));
        concurrent_reset(1, rt_after_func(HOUR, count_run, &c));
    }
    rt_stop_conserved();
    CHECK_EQ(c.runs, 0);
}
