/* The benchmarks of Go's src/time/sleep_test.go and tick_test.go, as tests: the same work a fixed
 * number of times, with Go's garbage (timers an hour ahead on every P) in the heaps, and a check
 * that each timer fired or was stopped as it should. What it costs is measured elsewhere:
 * docs/go-tests.md says where. The examples of package time stand at the end. See gotest.h. */
#include "gotest.h"

enum { GARBAGE = 4096, THREADS = 4 };

struct part {
    int i;
    int64_t n;
};

static gt_timer *garbage[GARBAGE];
static struct counter garbage_count;

/* Starts the runtime, fills its heaps, runs fn on some threads, and tidies up. */
static void bench(void *(*fn)(void *))
{
    int n = rounds(GARBAGE);
    struct part part[THREADS];

    rt_start(2);
    for (int i = 0; i < n; i++)
        garbage[i] = rt_after_func(HOUR + i, count_run, &garbage_count);
    for (int i = 0; i < THREADS; i++)
        part[i] = (struct part){.i = i};
    run_threads(THREADS, fn, part, sizeof *part);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(gt_timer_stop(garbage[i]), 1);
        CHECK_EQ(gt_timer_free(garbage[i]), 0);
    }
    CHECK_EQ(garbage_count.runs, 0);
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}

/* ---- AfterFunc1000: a chain of a thousand, each arms the next ---- */

struct chain {
    int left;
    struct done done;
};

static void link_of(void *arg, uintptr_t seq, int64_t delay)
{
    struct chain *c = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    if (--c->left >= 0)
        CHECK_EQ(gt_timer_detach(rt_after_func(0, link_of, c)), 0);
    else
        done_send(&c->done);
}

static void *after_func1000(void *arg)
{
    struct chain c = {.left = rounds(1000), .done = DONE_INIT};

    (void)arg;
    CHECK_EQ(gt_timer_detach(rt_after_func(0, link_of, &c)), 0);
    done_recv(&c.done);
    CHECK_EQ(c.left, -1);
    return NULL;
}

TEST(gotest_bench_after_func1000, 120) { bench(after_func1000); }

/* ---- After ---- */

static void *after(void *arg)
{
    (void)arg;
    for (int i = 0; i < rounds(2000); i++)
        CHECK_EQ(gt_timer_recv(gt_after(1), NULL), 0);
    return NULL;
}

TEST(gotest_bench_after, 120) { bench(after); }

/* ---- Stop ---- */

static void *stop(void *arg)
{
    (void)arg;
    for (int i = 0; i < rounds(20000); i++) {
        struct any a;

        any_new(&a, (enum impl)(i % IMPLS), NULL, HOUR);
        CHECK_EQ(any_stop(&a), 1);
        any_free(&a);
    }
    return NULL;
}

TEST(gotest_bench_stop, 120) { bench(stop); }

/* ---- SimultaneousAfterFunc1000 ---- */

static void counts_down(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void *simultaneous(void *arg)
{
    atomic_int ran = 0;

    (void)arg;
    for (int i = 0; i < rounds(1000); i++)
        CHECK_EQ(gt_timer_detach(rt_after_func(0, counts_down, &ran)), 0);
    wait_for(&ran, rounds(1000));
    CHECK_EQ(ran, rounds(1000));
    return NULL;
}

TEST(gotest_bench_simultaneous_after_func1000, 120) { bench(simultaneous); }

/* ---- StartStop1000 ---- */

static void *start_stop(void *arg)
{
    enum { N = 1000 };
    gt_timer *t[N];
    struct counter c = {0};

    (void)arg;
    for (int round = 0; round < rounds(20); round++) {
        for (int i = 0; i < N; i++)
            t[i] = rt_after_func(HOUR, count_run, &c);
        for (int i = 0; i < N; i++) {
            CHECK_EQ(gt_timer_stop(t[i]), 1);
            CHECK_EQ(gt_timer_free(t[i]), 0);
        }
    }
    CHECK_EQ(c.runs, 0);
    return NULL;
}

TEST(gotest_bench_start_stop1000, 120) { bench(start_stop); }

/* ---- Reset ---- */

static void *reset(void *arg)
{
    struct part *part = arg;
    struct any a;

    any_new(&a, (enum impl)(part->i % IMPLS), NULL, HOUR);
    for (int i = 0; i < rounds(100000); i++)
        CHECK_EQ(any_reset(&a, HOUR), 1);
    CHECK_EQ(any_stop(&a), 1);
    any_free(&a);
    return NULL;
}

TEST(gotest_bench_reset, 120) { bench(reset); }

/* ---- Sleep1000: many sleepers at once; here each is a thread, so fewer at a time ---- */

static void *sleeper(void *arg)
{
    atomic_int *woken = arg;

    for (int i = 0; i < rounds(50); i++) {
        CHECK_EQ(gt_sleep(1), 0);
        ++*woken;
    }
    return NULL;
}

static void *sleep1000(void *arg)
{
    atomic_int woken = 0;

    (void)arg;
    run_threads(20, sleeper, &woken, 0);
    CHECK_EQ(woken, 20 * rounds(50));
    return NULL;
}

TEST(gotest_bench_sleep1000, 120) { bench(sleep1000); }

/* ---- AdjustTimers10000: the last of ten thousand becomes the first ---- */

static void *adjust(void *arg)
{
    int n = rounds(10000);
    gt_timer **t = calloc((size_t)n, sizeof *t);
    struct counter c = {0}, last = {0};

    (void)arg;
    CHECK(t != NULL);
    for (int i = 0; i < n; i++)
        t[i] = rt_after_func(HOUR, count_run, i < n - 1 ? &c : &last);
    CHECK_EQ(gt_timer_reset(t[n - 1], 1), 1);
    wait_for(&last.runs, 1);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(gt_timer_stop(t[i]), i < n - 1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    CHECK_EQ(c.runs, 0);
    free(t);
    return NULL;
}

TEST(gotest_bench_adjust_timers10000, 120) { bench(adjust); }

/* ---- ParallelTimerLatency, StaggeredTickerLatency ---- */

/* Timers armed by a thread that is busy itself, a worker in a callback: others run them, and
 * none waits until it is free. Each call spins until all have begun, so that they must run on
 * as many workers. */
struct parallel {
    atomic_int begun, ended, release;
    int64_t armed;
};

enum { WORKERS = 3 };

static void all_at_once(void *arg, uintptr_t seq, int64_t delay)
{
    struct parallel *p = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(rt_now() - p->armed, 1 * MS);
    p->begun++;
    wait_for(&p->begun, WORKERS - 1);
    p->ended++;
}

static void arms_and_stays(void *arg, uintptr_t seq, int64_t delay)
{
    struct parallel *p = arg;

    (void)seq;
    (void)delay;
    p->armed = rt_now();
    for (int i = 0; i < WORKERS - 1; i++)
        CHECK_EQ(gt_timer_detach(rt_after_func(1 * MS, all_at_once, p)), 0);
    wait_for(&p->begun, WORKERS - 1);        /* this worker is not free before */
    wait_for(&p->ended, WORKERS - 1);
    p->release = 1;
}

TEST(gotest_bench_parallel_timer_latency, 120)
{
    rt_start(WORKERS);
    for (int i = 0; i < 20; i++) {
        struct parallel p = {0};

        CHECK_EQ(gt_timer_detach(rt_after_func(0, arms_and_stays, &p)), 0);
        wait_for(&p.release, 1);
        CHECK_EQ(p.begun, WORKERS - 1);
    }
    rt_stop_conserved();
}

/* Tickers at different phases, each with a thread that works for a part of the period: no tick
 * is early, and none is missed but those that a busy thread sleeps over. */
static void *staggered(void *arg)
{
    const int64_t period = 3 * MS;
    struct part *part = arg;
    int64_t first = 0, sent, armed;
    gt_timer *t;

    CHECK_EQ(gt_sleep(part->i * period / THREADS), 0);
    armed = rt_now();
    t = gt_new_ticker(period);
    CHECK(t != NULL);
    for (int i = 1; i <= 30; i++) {
        int64_t now, busy;

        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        now = rt_now();
        if (first == 0)
            first = sent;
        CHECK_GE(sent, armed + i * period);
        CHECK_GE(now, sent);
        CHECK_EQ((sent - first) % period, 0);
        for (busy = now + (part->i % 2 ? 300 * US : 2 * MS); rt_now() < busy;) {}
    }
    CHECK_EQ(gt_timer_free(t), 1);
    return NULL;
}

TEST(gotest_bench_staggered_ticker_latency, 120) { bench(staggered); }

/* ---- Ticker, TickerReset, TickerResetNaive ---- */

static void *ticker(void *arg)
{
    gt_timer *t = gt_new_ticker(1);
    int64_t sent, last = 0;

    (void)arg;
    for (int i = 0; i < rounds(5000); i++) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_GT(sent, last);
        last = sent;
    }
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_free(t), 0);
    return NULL;
}

TEST(gotest_bench_ticker, 120) { bench(ticker); }

static void *ticker_reset(void *arg)
{
    gt_timer *t = gt_new_ticker(1);

    (void)arg;
    for (int i = 0; i < rounds(50000); i++)
        CHECK_EQ(gt_timer_reset(t, 2), 1);
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_free(t), 0);
    return NULL;
}

TEST(gotest_bench_ticker_reset, 120) { bench(ticker_reset); }

static void *ticker_reset_naive(void *arg)
{
    gt_timer *t = gt_new_ticker(1);

    (void)arg;
    for (int i = 0; i < rounds(20000); i++) {
        CHECK_EQ(gt_timer_stop(t), 1);
        CHECK_EQ(gt_timer_free(t), 0);
        t = gt_new_ticker(2);
        CHECK(t != NULL);
    }
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    return NULL;
}

TEST(gotest_bench_ticker_reset_naive, 120) { bench(ticker_reset_naive); }

/* ---- the examples of package time, in virtual time ---- */

static void example_sleep(gt_sched *s)
{
    CHECK_EQ(gt_sched_sleep(s, 100 * MS), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 100 * MS);
}

TEST(gotest_example_sleep, 60) { bubble_run(example_sleep); }

/* A message, or ten seconds: here the message is a timer of its own that never comes. */
static void example_after(gt_sched *s)
{
    gt_timer *message = gt_sched_new_timer(s, HOUR), *limit = gt_sched_new_timer(s, 10 * SEC);

    CHECK_EQ(gt_timer_recv(limit, NULL), 0);
    CHECK_EQ(gt_timer_try_recv(message, NULL), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 10 * SEC);         /* timed out */
    CHECK_EQ(gt_timer_free(message), 1);
    CHECK_EQ(gt_timer_free(limit), 0);
}

TEST(gotest_example_after, 60) { bubble_run(example_after); }

/* A status every five seconds. */
static void example_tick(gt_sched *s)
{
    gt_timer *t = gt_sched_new_ticker(s, 5 * SEC);

    for (int i = 1; i <= 10; i++) {
        int64_t next;

        CHECK_EQ(gt_timer_recv(t, &next), 0);
        CHECK_EQ(next, T0 + i * 5 * SEC);
    }
    CHECK_EQ(gt_timer_free(t), 1);
}

TEST(gotest_example_tick, 60) { bubble_run(example_tick); }

/* A tick every second until somebody says, after ten seconds, that it is done. */
static void says_done(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    *(atomic_int *)arg = 1;
}

static void example_new_ticker(gt_sched *s)
{
    gt_timer *t = gt_sched_new_ticker(s, SEC);
    atomic_int done = 0;
    gt_timer *f = gt_sched_after_func(s, 10 * SEC + SEC / 2, says_done, &done, NULL);
    int ticks = 0;

    while (!done) {
        CHECK_EQ(gt_timer_recv(t, NULL), 0);
        ticks++;
    }
    CHECK_EQ(ticks, 11);                             /* the eleventh shows that it is over */
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(gt_timer_free(f), 0);
}

TEST(gotest_example_new_ticker, 60) { bubble_run(example_new_ticker); }
