/* Counterparts of the tests of Go's package runtime that concern timers: time_test.go, the
 * fairness of timers (proc_test.go), the poller that sleeps for them (proc_test.go,
 * netpoll_os_test.go, crash_test.go), signals (semasleep_test.go), and what an idle process
 * costs (metrics_test.go, crash_test.go). See gotest.h. */
#include "gotest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- FakeTime ---- */

/* Time stands still while a program runs, and jumps when it sleeps. */
static void fake_time(gt_sched *s)
{
    static const int64_t naps[] = {SEC, 1, HOUR, 250 * MS};
    int64_t now = T0;

    for (int i = 0; i < 4; i++) {
        int64_t real = mono_now();

        for (int k = 0; k < 1000; k++)
            CHECK_EQ(gt_nanotime(s), now);
        CHECK_EQ(gt_sched_sleep(s, naps[i]), 0);
        now += naps[i];
        CHECK_EQ(gt_nanotime(s), now);
        if (naps[i] == HOUR)
            CHECK_LT(mono_now() - real, HOUR);
    }
}

TEST(gotest_fake_time, 60) { bubble_run(fake_time); }

/* ---- TimerFairness ---- */

/* Callbacks that arm themselves again for now: there is always something to run. */
struct busy {
    gt_timer *t;
    int in_kernel;
    atomic_int stop, runs, ended;
};

static void keeps_busy(void *arg, uintptr_t seq, int64_t delay)
{
    struct busy *b = arg;

    (void)seq;
    (void)delay;
    b->runs++;
    if (b->in_kernel) {
        char none[1];
        ssize_t n = read(STDIN_FILENO, none, 0);

        (void)n;
    }
    if (b->stop)
        b->ended = 1;
    else
        CHECK_EQ(gt_timer_reset(b->t, 0), 0);
}

static void fairness(uint32_t workers, int in_kernel)
{
    struct busy b[4];
    int64_t start;

    memset(b, 0, sizeof b);
    rt_start(workers);
    for (int i = 0; i < 4; i++) {
        b[i].in_kernel = in_kernel;
        b[i].t = gt_timer_new(gt_runtime_sched(), keeps_busy, &b[i], NULL);
        CHECK_EQ(gt_timer_reset(b[i].t, 0), 0);
    }
    for (int i = 0; i < 4; i++)
        wait_for(&b[i].runs, 10);
    start = rt_now();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_timer_recv(gt_after(20 * MS), NULL), 0);
    CHECK_GE(rt_now() - start, 60 * MS);
    CHECK_EQ(gt_sleep(1 * MS), 0);
    for (int i = 0; i < 4; i++) {
        int before = b[i].runs;

        wait_for(&b[i].runs, before + 1);            /* and nobody else is left out */
        b[i].stop = 1;
        wait_for(&b[i].ended, 1);
        CHECK_EQ(gt_timer_free(b[i].t), 0);
    }
    rt_stop_conserved();
}

/* A timer gets its turn though all workers have something to do all the time. */
TEST(gotest_timer_fairness, 120)
{
    fairness(1, 0);
    fairness(2, 0);
}

/* The same when they spend it in system calls. */
TEST(gotest_timer_fairness2, 120)
{
    fairness(1, 1);
    fairness(2, 1);
}

/* ---- NetpollBreak ---- */

/* The poller sleeps until a timer that is an hour ahead; an earlier one wakes it. */
TEST(gotest_netpoll_break, 120)
{
    struct counter c = {0};
    gt_timer *far, *t;

    rt_start(2);
    far = rt_after_func(HOUR, count_run, &c);
    for (int i = 0; i < 50; i++) {
        int runs = c.runs;
        int64_t start = rt_now(), d = i % 3 * MS;

        if (i % 5 == 0)
            sleep_ms(2);                             /* let it fall asleep */
        t = rt_after_func(d, count_run, &c);
        wait_for(&c.runs, runs + 1);
        CHECK_GE(rt_now() - start, d);
        CHECK_EQ(gt_timer_free(t), 0);
    }
    CHECK_EQ(gt_timer_reset(far, 1), 1);             /* the one it sleeps for itself */
    wait_for(&c.runs, 51);
    CHECK_EQ(gt_timer_free(far), 0);
    rt_stop_conserved();
}

/* Wakes from many threads at once, a benchmark in Go: each sleeper comes back, and no wake
 * makes a later sleep short after its time. */
struct breaker {
    gt_p *p;
    atomic_int *awake;
    int n;
};

static void *breaks(void *arg)
{
    struct breaker *b = arg;

    for (int i = 0; i < b->n; i++)
        CHECK_EQ(gt_notewakeup(b->p), 0);
    return NULL;
}

static void *is_broken(void *arg)
{
    struct breaker *b = arg;

    while (gt_notetsleep(b->p, 0) == 1)
        if (++*b->awake >= b->n)
            break;
    return NULL;
}

TEST(gotest_bench_netpoll_break, 120)
{
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    gt_p *p = gt_p_new(s);
    atomic_int awake = 0;
    struct breaker b[11];
    pthread_t th[11];

    for (int i = 0; i < 11; i++)
        b[i] = (struct breaker){.p = p, .awake = &awake, .n = rounds(1000)};
    th[10] = thread_start(is_broken, &b[10]);
    for (int i = 0; i < 10; i++)
        th[i] = thread_start(breaks, &b[i]);
    for (int i = 0; i < 10; i++)
        thread_join(th[i]);
    for (int64_t end = mono_now() + LIMIT; awake < b[10].n;) {      /* several wakes are one */
        CHECK_LT(mono_now(), end);
        CHECK_EQ(gt_notewakeup(p), 0);
        sleep_ms(0);
    }
    thread_join(th[10]);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- NetpollWaiters ---- */

static int a_pipe(int fd[2]) { return pipe2(fd, O_NONBLOCK | O_CLOEXEC); }

struct sink {
    int fd;
    gt_netpoll *pd;
    atomic_int bytes;
};

static void *reads_all(void *arg)
{
    struct sink *k = arg;
    char buf[64];
    ssize_t n;

    for (;;) {
        n = read(k->fd, buf, sizeof buf);
        if (n == 0)
            return NULL;
        if (n > 0)
            k->bytes += (int)n;
        else if (errno == EAGAIN)
            CHECK_EQ(gt_netpoll_wait(k->pd, GT_READ), 0);
        else
            CHECK_EQ(errno, EINTR);
    }
}

/* One waits again and again for what another writes between sleeps. Afterwards nobody is taken
 * for a waiter: the runtime stops at once, and starts again. */
TEST(gotest_netpoll_waiters, 120)
{
    for (int round = 0; round < 3; round++) {
        struct sink k = {0};
        pthread_t th;
        int fd[2];

        rt_start(2);
        CHECK_EQ(a_pipe(fd), 0);
        k.fd = fd[0];
        k.pd = gt_netpoll_open(fd[0]);
        CHECK(k.pd != NULL);
        th = thread_start(reads_all, &k);
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(write(fd[1], "0\n", 2), 2);
            CHECK_EQ(gt_sleep(1 * MS), 0);
        }
        close(fd[1]);
        thread_join(th);
        CHECK_EQ(k.bytes, 20);
        CHECK_EQ(gt_netpoll_close(k.pd), 0);
        close(fd[0]);
        rt_stop_conserved();
    }
}

/* ---- SpuriousWakeupsNeverHangSemasleep ---- */

/* Signals that interrupt every wait of every thread make none of them wait anew for the whole
 * time, or for ever: a wait ends, and not before its time. */
TEST(gotest_spurious_wakeups_never_hang_semasleep, 120)
{
    struct counter c = {0};
    int64_t start, sent;
    struct pest pest;
    gt_timer *t;

    rt_start(2);
    pest_start(&pest, 2 * MS);
    start = rt_now();
    t = rt_after_func(300 * MS, count_run, &c);
    CHECK_EQ(gt_timer_recv(gt_after(300 * MS), &sent), 0);
    CHECK_GE(rt_now(), start + 300 * MS);
    wait_for(&c.runs, 1);
    CHECK_EQ(gt_sleep(50 * MS), 0);
    CHECK_GE(rt_now(), start + 350 * MS);
    for (int64_t end = mono_now() + LIMIT; pest.sent < 10; sleep_ms(1))
        CHECK_LT(mono_now(), end);
    CHECK_EQ(gt_timer_free(t), 0);
    pest_stop(&pest);
    rt_stop_conserved();
}

/* ---- what is idle costs nothing ---- */

static int64_t cpu_now(void)
{
    struct timespec ts;

    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts), 0);
    return (int64_t)ts.tv_sec * SEC + ts.tv_nsec;
}

/* A process that sleeps uses no processor: of ten sleeps at least one must be cheap. */
TEST(gotest_cpu_metrics_sleep, 120)
{
    int64_t best = INT64_MAX;
    struct counter c = {0};
    gt_timer *far;

    rt_start(4);
    far = rt_after_func(HOUR, count_run, &c);
    for (int i = 0; i < 10 && best > 20 * MS; i++) {
        int64_t cpu = cpu_now();

        CHECK_EQ(gt_sleep(200 * MS), 0);
        cpu = cpu_now() - cpu;
        if (cpu < best)
            best = cpu;
    }
    CHECK_LE(best, 20 * MS);
    CHECK_EQ(gt_timer_free(far), 1);
    rt_stop_conserved();
}

/* Timers have no threads of their own: what runs is the workers, however many timers there are. */
static void no_helpers(void *arg)
{
    enum { N = 300 };
    static struct counter c;
    gt_timer *t[N];
    int threads;

    (void)arg;
    rt_start(2);
    CHECK_EQ(gt_sleep(1), 0);
    CHECK_EQ(gt_timer_recv(gt_after(1), NULL), 0);
    threads = task_count();
    for (int i = 0; i < N; i++) {
        t[i] = i % 3 == 0 ? gt_new_timer(HOUR) : i % 3 == 1 ? gt_new_ticker(HOUR)
                                                            : rt_after_func(HOUR, count_run, &c);
        CHECK(t[i] != NULL);
        if (i % 30 == 0)
            CHECK_GE(gt_timer_fd(t[i]), 0);
    }
    CHECK_EQ(task_count(), threads);
    fprintf(stderr, "threads: %d\n", threads);
    fflush(stderr);
    abort();                                         /* with all of them armed */
}

/* A process that dies with timers armed dies at once. */
TEST(gotest_no_helper_goroutines, 60)
{
    char out[1000];
    int status = run_child(no_helpers, NULL, out, sizeof out);

    CHECK_HAS(out, "threads: ");
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
}

/* ---- TimeHistogram ---- */

static gt_sched *lateness_sched(void)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    cfg.lateness = 1;
    s = gt_sched_new(&cfg);
    CHECK(s != NULL);
    return s;
}

/* The bounds of the buckets rise from 0. */
TEST(gotest_time_histogram_metrics_buckets, 60)
{
    gt_sched *s = lateness_sched();
    int n = gt_lateness_get(s, NULL, 0);

    CHECK_GT(n, 10);
    CHECK_EQ(gt_lateness_bound(0), 0);
    for (int i = 1; i < n; i++)
        CHECK_GT(gt_lateness_bound((uint32_t)i), gt_lateness_bound((uint32_t)i - 1));
    CHECK_EQ(gt_lateness_bound((uint32_t)n), GT_EINVAL);
    close_sched(s);
}

/* Each bucket counts what falls into it: its first and its last nanosecond. */
TEST(gotest_time_histogram, 60)
{
    gt_sched *s = lateness_sched();
    gt_p *p = gt_p_new(s);
    int n = gt_lateness_get(s, NULL, 0);
    uint64_t *got = calloc((size_t)n, sizeof *got), *want = calloc((size_t)n, sizeof *want);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);

    for (int i = 0; i < n; i++) {
        int64_t late[2] = {gt_lateness_bound((uint32_t)i), 0};

        late[1] = i + 1 < n ? gt_lateness_bound((uint32_t)i + 1) - 1 : late[0];
        for (int k = 0; k < 2; k++) {
            if (late[k] >= T0)
                continue;                            /* before the clock's first nanosecond */
            CHECK_EQ(gt_addtimer(t, T0 - late[k], 0), 0);
            CHECK_EQ(gt_check_timers(p, T0, NULL, NULL), 1);
            CHECK_EQ(c.delay, late[k]);
            want[i]++;
        }
    }
    CHECK_EQ(gt_lateness_get(s, got, (size_t)n), n);
    for (int i = 0; i < n; i++)
        CHECK_EQ(got[i], want[i]);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    free(got);
    free(want);
}
