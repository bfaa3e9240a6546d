/* Callbacks that wait for what only a worker can bring: stop waits for them and nothing hangs, also when
 * all workers wait. And descriptors that were closed behind netpoll's back. */
#include "rtkit.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

struct blocking {
    atomic_int begun, ended;
    int fd[2];
    int by_netpoll;
};

static void waits(void *arg, uintptr_t seq, int64_t delay)
{
    struct blocking *b = arg;

    (void)seq;
    (void)delay;
    b->begun++;
    if (b->by_netpoll) {
        gt_netpoll *pd = gt_netpoll_open(b->fd[0]);

        CHECK(pd != NULL);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, gt_nanotime(gt_runtime_sched()) + 20 * MS), 0);
        while (gt_netpoll_wait(pd, GT_READ) == 0) {}
        CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
        CHECK_EQ(gt_netpoll_close(pd), 0);
    } else {
        gt_timer *t = must(gt_new_timer(20 * MS));

        CHECK_EQ(gt_timer_recv(t, NULL), 0);
        CHECK_EQ(gt_timer_free(t), 0);
    }
    b->ended++;
}

static void stop_while_waiting(uint32_t workers, int by_netpoll, int callbacks)
{
    struct blocking b = {.by_netpoll = by_netpoll};
    gt_timer *t[8];

    rt_start(workers);
    CHECK_EQ(pipe2(b.fd, O_NONBLOCK | O_CLOEXEC), 0);
    for (int i = 0; i < callbacks; i++)
        t[i] = must(gt_after_func(0, waits, &b, NULL));
    wait_for(&b.begun, 1);
    CHECK_EQ(gt_runtime_stop(), 0);
    CHECK_EQ(b.ended, b.begun);                         /* it waited for those that had begun */
    rt_start(workers);
    wait_for(&b.ended, callbacks);                      /* the others come now */
    for (int i = 0; i < callbacks; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    close(b.fd[0]);
    close(b.fd[1]);
    rt_stop_conserved();
}

TEST(rt_stop_while_a_callback_receives, 120)
{
    for (uint32_t workers = 1; workers <= 4; workers++)
        stop_while_waiting(workers, 0, 1);
    stop_while_waiting(2, 0, 5);
}

TEST(rt_stop_while_a_callback_waits_for_a_descriptor, 120)
{
    for (uint32_t workers = 1; workers <= 4; workers++)
        stop_while_waiting(workers, 1, 1);
}

/* More callbacks wait than there are workers: each gets what it waits for. */
TEST(rt_all_workers_wait_in_callbacks, 120)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct blocking b = {.by_netpoll = 0};
        gt_timer *t[8];

        rt_start(workers);
        for (int i = 0; i < 8; i++)
            t[i] = must(gt_after_func(0, waits, &b, NULL));
        wait_for(&b.ended, 8);
        for (int i = 0; i < 8; i++)
            CHECK_EQ(gt_timer_free(t[i]), 0);
        rt_stop_conserved();
    }
}

static void sleeps(void *arg, uintptr_t seq, int64_t delay)
{
    struct blocking *b = arg;

    (void)seq;
    (void)delay;
    b->begun++;
    CHECK_EQ(gt_sleep(3600 * SEC), 0);
}

/* In a process of its own, which ends with the sleeper in it: the only worker sleeps for an hour, and
 * timers fire nevertheless. */
TEST(rt_the_only_worker_sleeps_in_a_callback, 60)
{
    struct blocking b = {.begun = 0};
    struct counter c = {0};

    rt_start(1);
    must(gt_after_func(0, sleeps, &b, NULL));
    wait_for(&b.begun, 1);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_timer_detach(must(gt_after_func(i * 10 * US, count_run, &c, NULL))), 0);
    wait_for(&c.runs, 100);
}

struct relay {
    gt_timer *gate;
    atomic_int begun, back;
};

static void waits_at_the_gate(void *arg, uintptr_t seq, int64_t delay)
{
    struct relay *r = arg;

    (void)seq;
    (void)delay;
    r->begun = 1;
    CHECK_EQ(gt_timer_recv(r->gate, NULL), GT_ESHUTDOWN);
    r->back = 1;
}

/* The only worker waits in a callback, so a spare comes. When the worker is back, both wait for the next
 * timer, the spare as the first one. If it is woken (that is the kernel's choice), it finds that it is
 * one too many, and leaves: the timer is the worker's then. */
TEST(rt_a_spare_that_leaves_hands_on_the_wake, 20)
{
    rt_start(1);
    for (int i = 0; i < 4; i++) {
        struct relay r = {.gate = must(gt_new_timer(3600 * SEC))};
        struct counter c = {0};
        gt_timer *t, *u;

        t = must(gt_after_func(0, waits_at_the_gate, &r, NULL));
        wait_for(&r.begun, 1);
        sleep_ms(5);
        CHECK_EQ(gt_shutdown_timer(r.gate), 1);
        wait_for(&r.back, 1);
        sleep_ms(5);
        u = must(gt_after_func(MS, count_run, &c, NULL));
        wait_for(&c.runs, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_timer_free(u), 0);
        CHECK_EQ(gt_timer_free(r.gate), 0);
    }
    rt_stop_conserved();
}

struct reused {
    gt_netpoll *pd;
    atomic_int result;
};

static void *waits_for_reading(void *arg)
{
    struct reused *r = arg;

    r->result = 1000 + gt_netpoll_wait(r->pd, GT_READ);
    return NULL;
}

/* A number is closed while its handle is open, comes back, and is opened again: the first handle has lost
 * it, and says so; to close that one does the second no harm. */
TEST(netpoll_number_closed_too_early, 60)
{
    struct reused old = {.result = 0}, now = {.result = 0};
    pthread_t th[2];
    int a[2], b[2], number;

    rt_start(2);
    CHECK_EQ(pipe2(a, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(pipe2(b, O_NONBLOCK | O_CLOEXEC), 0);
    number = a[0];
    old.pd = gt_netpoll_open(number);
    CHECK(old.pd != NULL);
    th[0] = thread_start(waits_for_reading, &old);
    sleep_ms(5);
    CHECK_EQ(dup3(b[0], number, O_CLOEXEC), number);    /* closes it, and it is another pipe's */
    now.pd = gt_netpoll_open(number);
    CHECK(now.pd != NULL);
    thread_join(th[0]);                                 /* whether it waited already or not */
    CHECK_EQ(old.result, 1000 + GT_EBADF);
    th[1] = thread_start(waits_for_reading, &now);
    CHECK_EQ(gt_netpoll_wait(old.pd, GT_READ), GT_EBADF);
    CHECK_EQ(gt_netpoll_close(old.pd), 0);
    sleep_ms(5);
    CHECK_EQ(write(b[1], "x", 1), 1);
    thread_join(th[1]);
    CHECK_EQ(now.result, 1000);
    CHECK_EQ(gt_netpoll_close(now.pd), 0);
    rt_stop_conserved();
}
