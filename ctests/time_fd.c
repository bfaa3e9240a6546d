/* gt_timer_fd (rule S15): readable while a value is there; it counts as a waiter until the
 * timer is freed; stop, reset and recv make it unreadable before they return. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

static gt_sched *s;
static gt_p *p;

static void up(void)
{
    s = virtual_sched();
    p = new_p(s);
}

static void down(void)
{
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

TEST(time_fd_readable_while_a_value_is_there, 10)
{
    gt_timer *t;
    int64_t sent;
    int fd;

    up();
    t = must(gt_sched_new_timer(s, 100));
    fd = gt_timer_fd(t);
    CHECK_GE(fd, 0);
    CHECK_EQ(gt_timer_fd(t), fd);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_p_num_timers(p), 1);              /* it counts as a waiter */
    CHECK_EQ(gt_time_sleep_until(s), T0 + 100);
    CHECK_EQ(gt_sched_advance(s, 99), 0);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_sched_advance(s, 1), 1);
    CHECK_EQ(readable(fd), 1);
    CHECK_EQ(readable(fd), 1);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, T0 + 100);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_timer_reset(t, 50), 0);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_sched_advance(s, 50), 1);
    CHECK_EQ(readable(fd), 1);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, T0 + 150);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_timer_fd(t), fd);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

TEST(time_fd_stop_and_reset_make_it_unreadable, 10)
{
    gt_timer *t;
    int fd;

    up();
    t = must(gt_sched_new_timer(s, 10));
    fd = gt_timer_fd(t);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(gt_sched_advance(s, 10), 1);
        CHECK_EQ(readable(fd), 1);
        if (i % 2) {
            CHECK_EQ(gt_timer_stop(t), 1);
            CHECK_EQ(readable(fd), 0);
            CHECK_GE(gt_sched_advance(s, 1000), 0);
            CHECK_EQ(readable(fd), 0);
            CHECK_EQ(gt_timer_reset(t, 10), 0);
        } else
            CHECK_EQ(gt_timer_reset(t, 10), 1);
        CHECK_EQ(readable(fd), 0);
    }
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}

/* Asked for late: the value was due before there was a descriptor. */
TEST(time_fd_of_a_timer_that_is_due, 10)
{
    for (int how = 0; how < 3; how++) {
        int64_t sent = 0;
        gt_timer *t;
        int fd;

        up();
        t = must(how < 2 ? gt_sched_new_timer(s, 10) : gt_sched_new_ticker(s, 10));
        CHECK_GE(gt_sched_advance(s, 35), 0);
        if (how == 1) {
            CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
            CHECK_EQ(gt_timer_reset(t, 0), 0);
        }
        fd = gt_timer_fd(t);
        CHECK_GE(gt_sched_advance(s, 0), 0);
        CHECK_EQ(readable(fd), 1);
        CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
        CHECK_EQ(sent, how == 1 ? T0 + 35 : T0 + 10);
        CHECK_EQ(readable(fd), 0);
        if (how == 2) {
            CHECK_EQ(gt_sched_advance(s, 5), 1);
            CHECK_EQ(readable(fd), 1);
            CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
            CHECK_EQ(sent, T0 + 40);
        }
        CHECK_EQ(gt_timer_free(t), how == 2);
        down();
    }
}

/* A value that was sent before the descriptor was asked for. */
TEST(time_fd_of_a_stopped_timer, 10)
{
    gt_timer *t;
    int fd;

    up();
    t = must(gt_sched_new_timer(s, 10));
    CHECK_EQ(gt_timer_stop(t), 1);
    fd = gt_timer_fd(t);
    CHECK_GE(fd, 0);
    CHECK_EQ(gt_sched_advance(s, 100), 0);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_timer_reset(t, 10), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 110);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(readable(fd), 1);
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}

TEST(time_fd_ticker, 10)
{
    gt_timer *t;
    int64_t sent;
    int fd;

    up();
    t = must(gt_sched_new_ticker(s, 10));
    fd = gt_timer_fd(t);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(gt_sched_advance(s, 10), 1);
        CHECK_EQ(readable(fd), 1);
        CHECK_EQ(gt_sched_advance(s, 20), 1);        /* two more are dropped */
        CHECK_EQ(readable(fd), 1);
        CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
        CHECK_EQ(sent, T0 + 30 * i + 10);
        CHECK_EQ(readable(fd), 0);
        CHECK_EQ(gt_timer_try_recv(t, &sent), 0);
    }
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(gt_timer_reset(t, 100), 1);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_sched_advance(s, 99), 0);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_sched_advance(s, 1), 1);
    CHECK_EQ(readable(fd), 1);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(readable(fd), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* It is the timer's: closed by free, by gt_shutdown_timer at the latest then too. */
TEST(time_fd_closed_by_free, 10)
{
    int before = fd_count();

    up();
    for (int i = 0; i < 200; i++) {
        gt_timer *t = must(i % 2 ? gt_sched_new_timer(s, 10) : gt_sched_new_ticker(s, 10));
        int fd = gt_timer_fd(t);

        CHECK_GE(fd, 0);
        CHECK_GE(fcntl(fd, F_GETFD), 0);
        CHECK_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
        if (i % 5 == 0)
            CHECK_EQ(gt_sched_advance(s, 10), 1);
        if (i % 7 == 0)
            CHECK_EQ(gt_shutdown_timer(t), 1);
        CHECK_EQ(gt_timer_free(t), i % 7 != 0);
        CHECK_EQ(fcntl(fd, F_GETFD), -1);
        CHECK_EQ(errno, EBADF);
    }
    down();
    CHECK_EQ(fd_count(), before);
}

/* What a free leaves in the heap is an entry of a stopped timer, which is swept. */
TEST(time_fd_waits_until_free, 10)
{
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 100));
    CHECK_GE(gt_timer_fd(t), 0);
    CHECK_EQ(gt_sched_advance(s, 100), 1);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
    CHECK_EQ(gt_timer_reset(t, 100), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 200);      /* still a waiter */
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    down();
}

/* ---- with epoll, on the runtime: readable in good time, and each value once ---- */

TEST(time_fd_in_epoll, 60)
{
    enum { N = 40, ROUNDS = 20 };
    gt_timer *t[N];
    int ep = epoll_create1(0), left = N * ROUNDS, round[N] = {0};
    uint64_t rng = test_seed();
    int64_t due[N];

    s = rt_start(2);
    for (int i = 0; i < N; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        int64_t d = (int64_t)rng_below(&rng, 5 * (uint64_t)MS);

        due[i] = gt_nanotime(s) + d;
        t[i] = must(gt_new_timer(d));
        CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, gt_timer_fd(t[i]), &ev), 0);
    }
    while (left > 0) {
        struct epoll_event ev[8];
        int n = epoll_wait(ep, ev, 8, (int)(long_wait() / MS));

        CHECK_GE(n, 1);
        for (int k = 0; k < n; k++) {
            uint32_t i = ev[k].data.u32;
            int64_t sent, d = (int64_t)rng_below(&rng, 5 * (uint64_t)MS) - MS;

            CHECK_EQ(gt_timer_try_recv(t[i], &sent), 1);
            CHECK_GE(sent, due[i]);
            CHECK_GE(gt_nanotime(s), sent);
            CHECK_EQ(readable(gt_timer_fd(t[i])), 0);
            left--;
            if (++round[i] < ROUNDS) {
                due[i] = gt_nanotime(s) + (d > 0 ? d : 0);
                CHECK_EQ(gt_timer_reset(t[i], d), 0);
            }
        }
    }
    CHECK_EQ(epoll_wait(ep, &(struct epoll_event){0}, 1, 20), 0);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(get_stats(s).fired, N * ROUNDS);
    rt_stop_conserved();
    close(ep);
}

/* The workers send all the time; stop and reset are obeyed all the same: after them there is
 * nothing to read and nothing to receive. */
TEST(time_fd_never_stale, 120)
{
    uint64_t rng = test_seed(), yes = 0, armed = 1, received = 0;
    gt_timer *t;
    int fd;

    s = rt_start(2);
    t = must(gt_new_timer(3600 * SEC));
    fd = gt_timer_fd(t);
    for (int i = 0; i < 20000 / (int)test_slow() + 500; i++) {
        int64_t until, sent, floor = gt_nanotime(s);
        int r;

        r = gt_timer_reset(t, (int64_t)rng_below(&rng, 50 * (uint64_t)US));
        CHECK_GE(r, 0);
        yes += (uint64_t)r;
        armed++;
        until = mono_now() + (int64_t)rng_below(&rng, 70 * (uint64_t)US);
        while (mono_now() < until) {}
        if (rng_below(&rng, 3) == 0 && gt_timer_try_recv(t, &sent) == 1) {
            received++;
            CHECK_GE(sent, floor);
        }
        if (rng_below(&rng, 2)) {
            r = gt_timer_stop(t);
        } else {
            r = gt_timer_reset(t, 3600 * SEC);
            armed++;
        }
        CHECK_GE(r, 0);
        yes += (uint64_t)r;
        CHECK_EQ(readable(fd), 0);
        CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    }
    yes += (uint64_t)gt_timer_stop(t);
    CHECK_EQ(armed, yes + received);
    CHECK_EQ(get_stats(s).armed, armed);
    CHECK_EQ(get_stats(s).fired, received);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
}
