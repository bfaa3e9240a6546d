/* Bugs of the built-in runtime's threads and of netpoll's numbers that there have been. Above each
 * test stands what broken library it catches. One more is a program of its own, with much
 * thread-local storage: programs/large_tls.c. */
#include "rtkit.h"
#include "steps.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a callback that ends its thread ---- */

static void ends_its_thread(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    pthread_exit(NULL);
}

static void has_such_a_callback(void *arg)
{
    struct rlimit none = {0, 0};

    (void)arg;
    CHECK_EQ(setrlimit(RLIMIT_CORE, &none), 0);
    CHECK_EQ(gt_after_fork(), 0);
    rt_start(1);
    must(gt_after_func(0, ends_its_thread, NULL, NULL));
    sleep_ms(60000 * (int)test_slow());   /* it ends before */
}

/* Catches a runtime that loses a worker in silence to a callback that calls pthread_exit: its
 * timers would not fire any more, and gt_runtime_stop would not return. */
TEST(again_callback_that_ends_its_thread, 240)
{
    char out[2000];
    int status;

    needs_own_threads();
    settle_for_fork();
    status = run_child(has_such_a_callback, NULL, out, sizeof out);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGABRT);
    CHECK(strstr(out, "a callback has ended its thread") != NULL);
}

/* ---- large numbers ---- */

#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)

static int64_t bytes_in_use(void)
{
    struct mallinfo2 m = mallinfo2();

    return (int64_t)(m.uordblks + m.hblkhd);
}

/* Catches a map of owners that has a place for each number up to the largest: 8 bytes for each,
 * which are never given back. */
TEST(again_netpoll_of_a_large_number, 20)
{
    struct rlimit most;
    int64_t before = 0;
    int end[2], large;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &most), 0);
    most.rlim_cur = most.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &most), 0);
    if (most.rlim_max < 10000)
        test_skip("numbers may not be so large");
    CHECK_EQ(pipe2(end, O_NONBLOCK | O_CLOEXEC), 0);
    large = most.rlim_max < 1000000 ? (int)most.rlim_max - 1 : 1000000;
    if ((large = fcntl(end[0], F_DUPFD_CLOEXEC, large)) < 0)
        test_skip("numbers may not be so large");
    rt_start(1);
    for (int i = 0; i < 2; i++) {                     /* the first is for what comes but once */
        gt_netpoll *pd;

        before = bytes_in_use();
        pd = gt_netpoll_open(i == 0 ? end[0] : large);
        CHECK(pd != NULL);
        CHECK_EQ(gt_netpoll_close(pd), 0);
    }
    CHECK_LT(bytes_in_use() - before, 4 * (int64_t)large);
    close(large);
    close(end[0]);
    close(end[1]);
    rt_stop_conserved();
}

#endif

/* ---- a number is opened again while the handle that had it before is closed ---- */

#if STEPS

#define MOST_STEPS 20000

static struct {
    int number;
    gt_netpoll *pd;
    atomic_int traps, round, stopped, closed, back;
} again;

static _Thread_local volatile int steps;

/* Stands still until the other thread has done its part; for a while only, for it cannot while
 * this one has a lock. */
static void on_step(int sig, siginfo_t *info, void *context)
{
    int64_t end;

    (void)sig;
    (void)info;
    again.traps++;
    if (--steps > 0)
        return;
    end_of_steps(context);
    again.stopped = again.round;
    end = mono_now() + MS;
    while (again.closed != again.round && mono_now() < end)
        sched_yield();
}

static void *opens_it_again(void *arg)
{
    (void)arg;
    steps = again.round;
    go_by_steps();
    again.pd = gt_netpoll_open(again.number);
    again.back = again.round;
    return NULL;
}

/* Catches a gt_netpoll_open that finds that its number had an owner, and tells him that he has
 * lost it when he was closed meanwhile and opened for another number. That one is -1 then:
 * GT_EBADF. The thread is stopped after 1, 2, 3 ... instructions, until that is all. */
TEST(again_netpoll_number_lost_by_another, 120)
{
    int b[2], c[2], stopped = 1;
    char ch;

#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
    test_skip("a sanitizer makes too many steps of it");
#endif
    rt_start(1);
    on_steps(on_step);
    steps = 1;
    go_by_steps();
    if (again.traps == 0)
        test_skip("the processor does not step");
    CHECK_EQ(pipe2(b, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(pipe2(c, O_NONBLOCK | O_CLOEXEC), 0);
    for (int round = 1; stopped; round++) {
        gt_netpoll *old, *other;
        pthread_t th;
        int a[2];

        CHECK_LT(round, MOST_STEPS);
        CHECK_EQ(pipe2(a, O_NONBLOCK | O_CLOEXEC), 0);
        again.number = a[0];
        old = gt_netpoll_open(again.number);
        CHECK(old != NULL);
        CHECK_EQ(dup3(b[0], again.number, O_CLOEXEC), again.number);
        again.round = round;
        th = thread_start(opens_it_again, NULL);
        while (again.stopped != round && again.back != round) {}
        stopped = again.stopped == round;
        CHECK_EQ(gt_netpoll_close(old), 0);
        other = gt_netpoll_open(c[0]);
        CHECK(other != NULL);
        again.closed = round;
        thread_join(th);

        CHECK_EQ(write(c[1], "x", 1), 1);
        CHECK_EQ(gt_netpoll_wait(other, GT_READ), 0);
        CHECK_EQ(read(c[0], &ch, 1), 1);
        CHECK(again.pd != NULL);
        CHECK_EQ(write(b[1], "x", 1), 1);
        CHECK_EQ(gt_netpoll_wait(again.pd, GT_READ), 0);
        CHECK_EQ(read(b[0], &ch, 1), 1);
        CHECK_EQ(gt_netpoll_close(other), 0);
        CHECK_EQ(gt_netpoll_close(again.pd), 0);
        close(a[0]);
        close(a[1]);
    }
    rt_stop_conserved();
}

#endif
