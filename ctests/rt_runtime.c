/* The built-in runtime: start and stop, timers that outlive a stop, callbacks that run while it
 * stops, who runs what. */
#include "rtkit.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t since(int64_t t) { return mono_now() - t; }

/* A callback that notes when it ran, on CLOCK_MONOTONIC, and where. */
struct note {
    atomic_int runs, drops;
    int64_t not_before;
    _Atomic uintptr_t thread;
};

static void note_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct note *n = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(mono_now(), n->not_before);
    n->thread = this_thread();
    n->runs++;
}

static void note_drop(void *arg) { ((struct note *)arg)->drops++; }

static gt_timer *note_after(struct note *n, int64_t d)
{
    n->not_before = mono_now() + d;
    return must(gt_after_func(d, note_run, n, note_drop));
}

TEST(rt_start_and_stop, 30)
{
    cpu_set_t cpus;
    gt_sched *s;

    CHECK_EQ(gt_runtime_workers(), 0);
    CHECK_EQ(gt_runtime_stop(), GT_EINVAL);
    CHECK_EQ(gt_runtime_start(NULL), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    CHECK_EQ(gt_runtime_workers(), CPU_COUNT(&cpus));
    s = gt_runtime_sched();
    CHECK(s != NULL);
    CHECK_EQ(gt_runtime_start(NULL), GT_EBUSY);
    CHECK_EQ(gt_sched_free(s), GT_EBUSY);
    CHECK_EQ(gt_runtime_stop(), 0);
    CHECK_EQ(gt_runtime_workers(), 0);
    CHECK_EQ(gt_runtime_stop(), GT_EINVAL);
    CHECK_PTR_EQ(gt_runtime_sched(), s);
    CHECK_EQ(gt_sched_free(s), GT_EBUSY);
    for (uint32_t n = 1; n <= 9; n += 4) {
        CHECK_PTR_EQ(rt_start(n), s);
        CHECK_EQ(gt_runtime_start(NULL), GT_EBUSY);
        CHECK_EQ(gt_runtime_workers(), n);
        rt_stop();
    }
}

TEST(rt_fires_on_a_worker, 60)
{
    for (uint32_t workers = 1; workers <= 4; workers++) {
        struct note n = {0};
        gt_timer *t;

        rt_start(workers);
        t = note_after(&n, 2 * MS);
        wait_for(&n.runs, 1);
        CHECK_NE(n.thread, this_thread());
        CHECK_EQ(gt_timer_stop(t), 0);
        n.not_before = mono_now();
        CHECK_EQ(gt_timer_reset(t, 0), 0);
        wait_for(&n.runs, 2);
        CHECK_EQ(gt_timer_reset(t, 3600 * SEC), 0);
        CHECK_EQ(gt_timer_stop(t), 1);
        CHECK_EQ(gt_timer_free(t), 0);
        wait_for(&n.drops, 1);
        rt_stop_conserved();
    }
}

/* Armed before the first start, and while it is stopped: kept until the next start. */
static atomic_int makers_ready, made;

static void *makes_the_sched(void *arg)
{
    static struct counter never;
    gt_sched *s;

    /* Nothing is ordered by what is waited for here: that is left to the library. */
    atomic_fetch_add_explicit(&makers_ready, 1, memory_order_relaxed);
    while (atomic_load_explicit(&makers_ready, memory_order_relaxed) < 8)
        sched_yield();
    while (*(int *)arg && !atomic_load_explicit(&made, memory_order_relaxed))
        sched_yield();
    s = gt_runtime_sched();
    CHECK(s != NULL);
    CHECK_GT(gt_nanotime(s), 0);
    atomic_store_explicit(&made, 1, memory_order_relaxed);
    CHECK_EQ(gt_timer_detach(must(gt_after_func(3600 * SEC, count_run, &never, NULL))), 0);
    return s;
}

/* It is made at first use: by one of those who come first, and the others find it whole, also
 * those who come when it is there, and take no lock. */
TEST(rt_sched_made_by_many, 30)
{
    int late[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    pthread_t th[8];
    void *s[8];

    for (int i = 0; i < 8; i++)
        th[i] = thread_start(makes_the_sched, &late[i]);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(pthread_join(th[i], &s[i]), 0);
        CHECK_PTR_EQ(s[i], s[0]);
    }
    CHECK_EQ(get_stats(s[0]).pending, 8);
}

TEST(rt_armed_before_start, 60)
{
    struct note n[20] = {{0}};
    gt_timer *t[20];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++)
            t[i] = note_after(&n[i], i % 2 ? 0 : 20 * MS);
        sleep_ms(30);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(n[i].runs, round);
        CHECK_EQ(get_stats(gt_runtime_sched()).pending, 20);
        rt_start(1 + (uint32_t)round);
        for (int i = 0; i < 20; i++)
            wait_for(&n[i].runs, round + 1);
        rt_stop_conserved();
        for (int i = 0; i < 20; i++)
            CHECK_EQ(gt_timer_free(t[i]), 0);
    }
}

TEST(rt_stop_keeps_timers, 60)
{
    struct note near[10] = {{0}}, far = {0}, gone = {0};
    gt_timer *t[10], *h, *g;

    rt_start(2);
    for (int i = 0; i < 10; i++)
        t[i] = note_after(&near[i], 300 * MS);
    h = note_after(&far, 3600 * SEC);
    g = note_after(&gone, 200 * MS);
    rt_stop();
    CHECK_EQ(get_stats(gt_runtime_sched()).pending + get_stats(gt_runtime_sched()).fired, 12);
    CHECK_GE(gt_timer_free(g), 0);                   /* while it is stopped */
    CHECK_EQ(gone.drops, 1);
    sleep_ms(320);
    for (int k = 0; k < 3; k++) {                    /* started and stopped again at once */
        rt_start(3);
        rt_stop();
    }
    rt_start(1);
    for (int i = 0; i < 10; i++) {
        wait_for(&near[i].runs, 1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    CHECK_EQ(far.runs, 0);
    CHECK_GT(gt_timer_when(h), 0);
    CHECK_EQ(gt_timer_free(h), 1);
    rt_stop_conserved();
}

/* The threads and descriptors of a runtime go when it stops. */
TEST(rt_stop_gives_all_back, 60)
{
    int tasks = task_count(), fds = 0;

    for (int i = 0; i < 30; i++) {
        struct note n = {0};
        gt_timer *t;

        rt_start(1 + (uint32_t)i % 5);
        t = note_after(&n, 0);
        wait_for(&n.runs, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        rt_stop();
        if (i == 0)
            fds = fd_count();
        CHECK_EQ(fd_count(), fds);
        if (!threads_are_ours())
            continue;
        /* the kernel lets go of a thread a little after pthread_join */
        for (int64_t limit = mono_now() + long_wait(); task_count() > tasks; sleep_ms(1))
            CHECK_LT(mono_now(), limit);
    }
}

/* ---- stop and callbacks ---- */

struct slow {
    atomic_int in, go, out, r;
};

static void slow_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct slow *sl = arg;

    (void)seq;
    (void)delay;
    sl->in = 1;
    wait_for(&sl->go, 1);
    sleep_ms(5);
    sl->out = 1;
}

static void *lets_go(void *arg)
{
    sleep_ms(50);
    ((struct slow *)arg)->go = 1;
    return NULL;
}

TEST(rt_stop_waits_for_callbacks, 60)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct slow sl = {0};
        pthread_t th;
        gt_timer *t;

        rt_start(workers);
        t = must(gt_after_func(0, slow_run, &sl, NULL));
        wait_for(&sl.in, 1);
        th = thread_start(lets_go, &sl);
        rt_stop_conserved();
        CHECK_EQ(sl.out, 1);
        thread_join(th);
        CHECK_EQ(gt_timer_free(t), 0);
    }
}

static void stops(void *arg, uintptr_t seq, int64_t delay)
{
    struct slow *sl = arg;

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_runtime_start(NULL), GT_EBUSY);
    CHECK_GE(gt_runtime_workers(), 1);
    sl->r = gt_runtime_stop();
    CHECK_EQ(gt_sched_free(gt_runtime_sched()), GT_EBUSY);
    sl->out = 1;
}

TEST(rt_stop_from_a_callback, 60)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct slow sl = {0};
        struct note n = {0};
        gt_timer *t, *u;

        rt_start(workers);
        t = must(gt_after_func(0, stops, &sl, NULL));
        wait_for(&sl.out, 1);
        CHECK_EQ(sl.r, GT_EDEADLK);
        CHECK_EQ(gt_runtime_workers(), workers);
        u = note_after(&n, MS);                      /* it runs on */
        wait_for(&n.runs, 1);
        rt_stop_conserved();
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_timer_free(u), 0);
    }
}

/* While one thread stops the runtime another one does, too: one of them is told. */
static void *stopper(void *arg)
{
    int r = gt_runtime_stop();

    CHECK(r == 0 || r == GT_EINVAL || r == GT_EBUSY);
    *(atomic_int *)arg += r == 0;
    return NULL;
}

static void *starter(void *arg)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2};
    int r = gt_runtime_start(&cfg);

    CHECK(r == 0 || r == GT_EBUSY);
    *(atomic_int *)arg += r == 0;
    return NULL;
}

TEST(rt_start_and_stop_at_once, 60)
{
    for (int i = 0; i < 20; i++) {
        pthread_t th[4];
        atomic_int started = 0, stopped = 0;

        for (int k = 0; k < 4; k++)
            th[k] = thread_start(starter, &started);
        for (int k = 0; k < 4; k++)
            thread_join(th[k]);
        CHECK_EQ(started, 1);
        CHECK_EQ(gt_runtime_workers(), 2);
        for (int k = 0; k < 4; k++)
            th[k] = thread_start(stopper, &stopped);
        for (int k = 0; k < 4; k++)
            thread_join(th[k]);
        CHECK_EQ(stopped, 1);
        CHECK_EQ(gt_runtime_workers(), 0);
    }
}

/* Started and stopped while other threads arm: nothing is lost. */
#define ARMERS 3
static atomic_long runs, drops;
static atomic_int armers_stop;

static void count_one(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    CHECK_GE(delay, 0);
    runs++;
}

static void drop_one(void *arg)
{
    (void)arg;
    drops++;
}

static void *arms(void *arg)
{
    uint64_t rng = test_seed() + (uintptr_t)arg;
    long n = 0;

    while (!armers_stop) {
        CHECK_EQ(gt_timer_detach(must(gt_after_func((int64_t)rng_below(&rng, (uint64_t)MS), count_one, NULL, drop_one))), 0);
        if (++n % 16 == 0)
            sleep_ms(1);
    }
    return (void *)n;
}

TEST(rt_restarted_while_others_arm, 120)
{
    pthread_t th[ARMERS];
    long made = 0;

    for (int i = 0; i < ARMERS; i++)
        th[i] = thread_start(arms, (void *)(uintptr_t)i);
    for (int i = 0; i < 40; i++) {
        rt_start(1 + (uint32_t)i % 4);
        sleep_ms(i % 7);
        rt_stop();
        sleep_ms(i % 3);
    }
    armers_stop = 1;
    for (int i = 0; i < ARMERS; i++) {
        void *n;

        CHECK_EQ(pthread_join(th[i], &n), 0);
        made += (long)n;
    }
    rt_start(2);
    wait_for_long(&drops, made);
    CHECK_EQ(runs, made);
    CHECK_EQ(drops, made);
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).fired, made);
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
}

/* ---- a long callback holds nobody up (golang/go#38860) ---- */

struct hog {
    struct note inner[3];
    gt_timer *t[3];
    atomic_int out;
};

/* What it arms is on its own P, whose worker it keeps; only another worker can run it. */
static void hog_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct hog *h = arg;
    int64_t begin = mono_now();

    (void)seq;
    (void)delay;
    for (int i = 0; i < 3; i++)
        h->t[i] = note_after(&h->inner[i], i * 2 * MS);
    for (int i = 0; i < 3; i++)
        wait_for(&h->inner[i].runs, 1);
    CHECK_LT(since(begin), long_wait());
    for (int i = 0; i < 3; i++)
        CHECK_NE(h->inner[i].thread, this_thread());
    h->out = 1;
}

TEST(rt_long_callback_delays_nobody, 120)
{
    for (uint32_t workers = 2; workers <= 4; workers++)
        for (int round = 0; round < 10; round++) {
            struct hog h = {.out = 0};
            gt_timer *t;

            rt_start(workers);
            t = must(gt_after_func(round % 2 ? MS : 0, hog_run, &h, NULL));
            wait_for(&h.out, 1);
            CHECK_GE(get_stats(gt_runtime_sched()).steals, 1);
            rt_stop_conserved();
            CHECK_EQ(gt_timer_free(t), 0);
            for (int i = 0; i < 3; i++)
                CHECK_EQ(gt_timer_free(h.t[i]), 0);
        }
}

/* All workers but one are busy: that one serves everybody's timers. */
TEST(rt_last_worker_serves_all, 120)
{
    enum { WORKERS = 4 };
    struct slow sl[WORKERS - 1] = {{0}};
    struct note n[100] = {{0}};
    gt_timer *t[100], *u[WORKERS - 1];

    rt_start(WORKERS);
    for (int i = 0; i < WORKERS - 1; i++) {
        u[i] = must(gt_after_func(0, slow_run, &sl[i], NULL));
        wait_for(&sl[i].in, 1);
    }
    for (int i = 0; i < 100; i++)
        t[i] = note_after(&n[i], i % 10 * MS);
    for (int i = 0; i < 100; i++)
        wait_for(&n[i].runs, 1);
    for (int i = 0; i < WORKERS - 1; i++) {
        CHECK_EQ(sl[i].out, 0);
        sl[i].go = 1;
    }
    rt_stop_conserved();
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    for (int i = 0; i < WORKERS - 1; i++)
        CHECK_EQ(gt_timer_free(u[i]), 0);
}

/* A process that ends while the runtime runs just ends. */
static void exits(void *arg)
{
    (void)arg;
    rt_start(3);
    must(gt_after_func(0, count_one, NULL, NULL));
    must(gt_new_ticker(MS));
    wait_for_long(&runs, 1);
    exit(7);
}

TEST(rt_process_ends_while_it_runs, 60)
{
    for (int i = 0; i < 5; i++) {
        int status = run_child(exits, NULL, NULL, 0);

        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 7);
    }
}
