/* Deadlines of waits for readiness: Go's SetDeadline. In the past, set and changed and taken
 * away while somebody waits, and firings that came too late to matter. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static int fd[2];
static gt_netpoll *pd;        /* of fd[0] */
static gt_sched *s;

static void up(uint32_t workers)
{
    s = rt_start(workers);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    pd = gt_netpoll_open(fd[0]);
    CHECK(pd != NULL);
}

static void down(void)
{
    CHECK_EQ(gt_netpoll_close(pd), 0);
    close(fd[0]);
    close(fd[1]);
    rt_stop_conserved();
    CHECK_EQ(get_stats(s).pending, 0);
}

static int64_t in(int64_t d) { return gt_nanotime(s) + d; }

/* Waits until it is something else than "ready": a wait may say so once too often. With
 * nothing to read it must end in a time-out or a cancel. */
static int wait_out(int mode)
{
    int r;

    do
        r = gt_netpoll_wait(pd, mode);
    while (r == 0);
    return r;
}

static int wait_out_read(struct waiter *w)
{
    int r = wait_out(GT_READ);

    w->sent = gt_nanotime(s);
    return r;
}

/* Waits until there is something to read: 0, or the wait's error. */
static int wait_data(struct waiter *w)
{
    char ch;

    for (;;) {
        int r;

        if (read(fd[0], &ch, 1) == 1)
            return 0;
        r = gt_netpoll_wait(pd, GT_READ);
        if (r != 0) {
            w->sent = gt_nanotime(s);
            return r;
        }
    }
}

static void start(struct waiter *w, int (*call)(struct waiter *))
{
    memset(w, 0, sizeof *w);
    waiter_start(w, call);
}

static void fill_up(void)
{
    static char zeros[4096];

    while (write(fd[0], zeros, sizeof zeros) > 0) {}
    while (write(fd[0], zeros, 1) > 0) {}
    while (gt_netpoll_wait(pd, GT_READ) == 0 && read(fd[0], zeros, 1) >= 0) {}
}

TEST(netpoll_deadline_never_early, 60)
{
    uint64_t rng = test_seed();

    for (uint32_t workers = 1; workers <= 3; workers++) {
        up(workers);
        for (int i = 0; i < 50; i++) {
            int64_t at = in((int64_t)rng_below(&rng, 3 * (uint64_t)MS));

            CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, at), 0);
            CHECK_EQ(wait_out(GT_READ), GT_ETIMEDOUT);
            CHECK_GE(gt_nanotime(s), at);
        }
        down();
    }
}

/* In the past: waits fail at once, also with data there, until a new deadline is set. */
TEST(netpoll_deadline_in_the_past, 60)
{
    const int64_t past[] = {1, 2, 1000};

    up(1);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, i < 3 ? past[i] : gt_nanotime(s) - i), 0);
        CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
        CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
    }
    CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), 0);                /* the other side has none */
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, 1), 0);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_WRITE, in(MS)), 0);
    CHECK_EQ(wait_out(GT_WRITE), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
    down();
}

/* A deadline that passes while nobody waits holds for the next wait. */
TEST(netpoll_deadline_passes_unseen, 60)
{
    up(2);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(MS)), 0);
    sleep_ms(20);
    CHECK_EQ(wait_out(GT_READ), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
    down();
}

TEST(netpoll_deadline_set_under_wait, 60)
{
    for (int i = 0; i < 10; i++) {
        struct waiter w;
        int64_t at;

        up(1 + (uint32_t)i % 2);
        start(&w, wait_out_read);
        CHECK_EQ(waiter_blocked(&w), 1);
        at = in(i < 5 ? 2 * MS : -1);
        CHECK_EQ(gt_netpoll_set_deadline(pd, i % 3 ? GT_READ : GT_READ | GT_WRITE, at), 0);
        CHECK_EQ(waiter_join(&w), GT_ETIMEDOUT);
        CHECK_GE(w.sent, at);
        down();
    }
}

TEST(netpoll_deadline_earlier_under_wait, 60)
{
    for (int i = 0; i < 10; i++) {
        struct waiter w;

        up(2);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(3600 * SEC)), 0);
        start(&w, wait_out_read);
        if (i % 2)
            CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(60 * SEC)), 0);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(MS)), 0);
        CHECK_EQ(waiter_join(&w), GT_ETIMEDOUT);
        down();
    }
}

/* Put off again and again: no time-out while the deadline is ahead; it comes with data. */
TEST(netpoll_deadline_later_under_wait, 60)
{
    struct waiter w;

    up(2);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(20 * SEC)), 0);
    start(&w, wait_data);
    CHECK_EQ(waiter_blocked(&w), 1);
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(600 * SEC + i)), 0);
        if (i % 20 == 0)
            sleep_ms(1);
    }
    CHECK_EQ(waiter_blocked(&w), 1);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    CHECK_EQ(waiter_join(&w), 0);
    down();
}

TEST(netpoll_deadline_taken_away_under_wait, 60)
{
    for (int i = 0; i < 5; i++) {
        struct waiter w;

        up(2);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(10 * SEC * (int64_t)test_slow())), 0);
        start(&w, wait_data);
        CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
        CHECK_EQ(get_stats(s).pending, 0);
        sleep_ms(5);
        CHECK_EQ(w.done, 0);
        CHECK_EQ(write(fd[1], "x", 1), 1);
        CHECK_EQ(waiter_join(&w), 0);
        down();
    }
}

/* Only the side it was set for. */
static int wait_out_write(struct waiter *w)
{
    (void)w;
    return wait_out(GT_WRITE);
}

TEST(netpoll_deadline_one_side_only, 60)
{
    for (int side = 0; side < 2; side++) {
        struct waiter r, w;

        up(2);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 1), 0);
        fill_up();
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
        start(&r, wait_out_read);
        start(&w, wait_out_write);
        CHECK_EQ(waiter_blocked(&r), 1);
        CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_EQ(gt_netpoll_set_deadline(pd, side ? GT_WRITE : GT_READ, in(MS)), 0);
        CHECK_EQ(waiter_join(side ? &w : &r), GT_ETIMEDOUT);
        CHECK_EQ(waiter_blocked(side ? &r : &w), 1);
        CHECK_EQ(gt_netpoll_set_deadline(pd, side ? GT_READ : GT_WRITE, 1), 0);
        CHECK_EQ(waiter_join(side ? &r : &w), GT_ETIMEDOUT);
        down();
    }
}

TEST(netpoll_deadline_for_both_at_once, 60)
{
    for (int i = 0; i < 5; i++) {
        struct waiter r, w;
        int64_t at;

        up(2);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 1), 0);
        fill_up();
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
        start(&r, wait_out_read);
        start(&w, wait_out_write);
        waiter_blocked(&r);
        waiter_blocked(&w);
        at = in(i % 2 ? 2 * MS : 0);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, at), 0);
        CHECK_EQ(waiter_join(&r), GT_ETIMEDOUT);
        CHECK_EQ(waiter_join(&w), GT_ETIMEDOUT);
        CHECK_GE(gt_nanotime(s), at);
        down();
    }
}

/* A firing of an old deadline does not count any more once set_deadline has returned, however
 * close it was: seq tells. */
TEST(netpoll_deadline_stale_is_squelched, 120)
{
    uint64_t rng = test_seed();
    int rounds = 4000 / (int)test_slow() + 200;

    up(2);
    for (int i = 0; i < rounds; i++) {
        int64_t until;
        char ch;

        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in((int64_t)rng_below(&rng, 60 * (uint64_t)US))), 0);
        until = mono_now() + (int64_t)rng_below(&rng, 80 * (uint64_t)US);
        while (mono_now() < until) {}
        CHECK_EQ(gt_netpoll_set_deadline(pd, i % 3 ? GT_READ : GT_READ | GT_WRITE, i % 2 ? 0 : in(3600 * SEC)), 0);
        CHECK_EQ(write(fd[1], "x", 1), 1);
        CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
        while (read(fd[0], &ch, 1) != 1)
            CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    }
    down();
}

static struct hooks h;
static _Thread_local int sets_deadlines;
static atomic_int worker, hold;
static int64_t due;
static int too_late;

/* A worker takes the deadline off its heap, and wants the descriptor's lock then. That has who sets the
 * deadline anew: he waits here, before he touches the timer. */
static void when_pinned(int acquire)
{
    if (!sets_deadlines) {
        worker = gettid();
    } else if (acquire && hold) {
        hold = 0;
        too_late = mono_now() >= due;                /* then it may have fired before */
        if (!too_late)
            CHECK_GE(wait_blocked(&worker, NULL, 0, (int)(long_wait() / MS)), 1);
    }
}

/* The old deadline fires while a new one is being set: it leaves that alone. */
TEST(netpoll_deadline_is_set_while_the_old_one_fires, 60)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2, .host = &h.host};
    char ch;

    sets_deadlines = 1;
    hooks_init(&h, 0);
    h.host.nanotime = NULL;                          /* the clock and the poller are the runtime's */
    h.host.wake_netpoller = NULL;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    s = gt_runtime_sched();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    CHECK((pd = gt_netpoll_open(fd[0])) != NULL);
    h.on_pin = when_pinned;
    for (int64_t d = 300 * MS; d == 300 * MS || too_late; d *= 2) {
        due = in(d);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, due), 0);
        hold = 1;
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(3600 * SEC)), 0);
        CHECK_EQ(hold, 0);
    }
    rt_stop();                                       /* it waits for what is called */
    h.on_pin = NULL;
    rt_start(2);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    CHECK_EQ(read(fd[0], &ch, 1), 1);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
    down();
}

/* The same with somebody who waits: he wakes for data only. */
TEST(netpoll_deadline_stale_under_wait, 120)
{
    uint64_t rng = test_seed();

    up(2);
    for (int i = 0; i < 100; i++) {
        struct waiter w;

        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(3600 * SEC)), 0);
        start(&w, wait_data);
        if (i % 4 == 0)
            waiter_blocked(&w);
        /* the deadline is always put off before it passes, on a machine that is not too slow;
         * where it did pass the time-out was right */
        for (int k = 0; k < 20; k++) {
            CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(SEC + (int64_t)rng_below(&rng, (uint64_t)MS))), 0);
            CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, in(3600 * SEC)), 0);
        }
        CHECK_EQ(write(fd[1], "x", 1), 1);
        if (waiter_join(&w) != 0) {
            char ch;

            printf("round %d: this machine took a second between two calls\n", i);
            CHECK_EQ(w.result, GT_ETIMEDOUT);
            CHECK_EQ(read(fd[0], &ch, 1), 1);
        }
    }
    down();
}

/* Data and deadline at the same time: one of both, and nothing gets lost. */
TEST(netpoll_deadline_races_data, 120)
{
    uint64_t rng = test_seed();
    int rounds = 500 / (int)test_slow() + 50, in_time = 0;

    up(2);
    for (int i = 0; i < rounds; i++) {
        struct waiter w;
        int64_t until, at;
        char ch;

        at = in((int64_t)rng_below(&rng, 300 * (uint64_t)US));
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, at), 0);
        start(&w, wait_data);
        until = mono_now() + (int64_t)rng_below(&rng, 300 * (uint64_t)US);
        while (mono_now() < until) {}
        CHECK_EQ(write(fd[1], "x", 1), 1);
        waiter_join(&w);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
        if (w.result == 0)
            in_time++;
        else {
            CHECK_EQ(w.result, GT_ETIMEDOUT);
            CHECK_GE(w.sent, at);
            while (read(fd[0], &ch, 1) != 1)
                CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
        }
        CHECK_EQ(read(fd[0], &ch, 1), -1);
    }
    printf("%d of %d in time\n", in_time, rounds);
    down();
}

/* Deadlines outlive a stop: they fire after the next start. */
TEST(netpoll_deadline_over_a_restart, 60)
{
    struct waiter w;
    int64_t at;

    up(2);
    at = in(10 * MS);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, at), 0);
    start(&w, wait_out_read);
    rt_stop();
    sleep_ms(20);
    rt_start(1);
    CHECK_EQ(waiter_join(&w), GT_ETIMEDOUT);
    CHECK_GE(w.sent, at);
    down();
}

/* Far deadlines, and one at the end of time. */
TEST(netpoll_deadline_far, 60)
{
    up(1);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, INT64_MAX), 0);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, INT64_MAX - 1), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, INT64_MAX), 0);
    CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), 0);
    down();
}
