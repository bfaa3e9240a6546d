/* Readiness on the runtime's poller: gt_netpoll_open, _wait and _close on pipes and sockets. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct ends {
    int fd[2];
    gt_netpoll *pd[2];
};

static gt_netpoll *open_pd(int fd)
{
    gt_netpoll *pd = gt_netpoll_open(fd);

    if (pd == NULL)
        test_failed(__FILE__, __LINE__, "gt_netpoll_open: %s", gt_strerror(gt_last_error()));
    return pd;
}

static void pipe_open(struct ends *e)
{
    CHECK_EQ(pipe2(e->fd, O_NONBLOCK | O_CLOEXEC), 0);
    for (int i = 0; i < 2; i++)
        e->pd[i] = open_pd(e->fd[i]);
}

static void pair_open(struct ends *e)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, e->fd), 0);
    for (int i = 0; i < 2; i++)
        e->pd[i] = open_pd(e->fd[i]);
}

static void ends_close(struct ends *e)
{
    for (int i = 0; i < 2; i++) {
        if (e->pd[i] != NULL)
            CHECK_EQ(gt_netpoll_close(e->pd[i]), 0);
        if (e->fd[i] >= 0)
            close(e->fd[i]);
    }
}

/* Reads as one should: until EAGAIN, then wait. Returns what read gave, or the wait's error. */
static int64_t read_one(gt_netpoll *pd, int fd, void *buf, size_t len)
{
    for (;;) {
        ssize_t n = read(fd, buf, len);
        int r;

        if (n >= 0 || errno != EAGAIN)
            return n;
        r = gt_netpoll_wait(pd, GT_READ);
        if (r != 0)
            return r;
    }
}

static int64_t write_all(gt_netpoll *pd, int fd, const char *buf, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, buf + at, len - at);
        int r;

        if (n >= 0) {
            at += (size_t)n;
            continue;
        }
        CHECK_EQ(errno, EAGAIN);
        r = gt_netpoll_wait(pd, GT_WRITE);
        if (r != 0)
            return r;
    }
    return (int64_t)len;
}

/* Fills fd until it takes no more; returns how much that was. */
static size_t fill_up(int fd)
{
    static char zeros[4096];
    size_t n = 0;
    ssize_t k;

    while ((k = write(fd, zeros, sizeof zeros)) > 0)
        n += (size_t)k;
    while ((k = write(fd, zeros, 1)) > 0)
        n += (size_t)k;
    CHECK_EQ(errno, EAGAIN);
    return n;
}

static int wait_read(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_READ); }

static int wait_write(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_WRITE); }

static void wait_start(struct waiter *w, int (*call)(struct waiter *), gt_netpoll *pd)
{
    memset(w, 0, sizeof *w);
    w->arg = pd;
    waiter_start(w, call);
}

TEST(netpoll_ready_at_once, 30)
{
    struct ends e;
    char ch;

    rt_start(2);
    pipe_open(&e);
    CHECK_EQ(gt_netpoll_wait(e.pd[1], GT_WRITE), 0);         /* there is room */
    CHECK_EQ(write(e.fd[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(e.pd[0], GT_READ), 0);          /* there is data */
    CHECK_EQ(read(e.fd[0], &ch, 1), 1);
    ends_close(&e);
    rt_stop_conserved();
}

TEST(netpoll_wait_until_data_comes, 60)
{
    for (uint32_t workers = 1; workers <= 3; workers++)
        for (int sock = 0; sock < 2; sock++) {
            struct ends e;

            rt_start(workers);
            if (sock)
                pair_open(&e);
            else
                pipe_open(&e);
            for (int i = 0; i < 20; i++) {
                struct waiter w;
                char ch = 0;

                CHECK_EQ(read(e.fd[0], &ch, 1), -1);
                wait_start(&w, wait_read, e.pd[0]);
                if (i % 2)
                    waiter_blocked(&w);                       /* comes back once too often, perhaps */
                CHECK_EQ(write(e.fd[1], "x", 1), 1);
                CHECK_EQ(waiter_join(&w), 0);
                CHECK_EQ(read_one(e.pd[0], e.fd[0], &ch, 1), 1);
                CHECK_EQ(ch, 'x');
            }
            ends_close(&e);
            rt_stop_conserved();
        }
}

static int write_more(struct waiter *w)
{
    struct ends *e = w->arg;
    char buf[10000];

    memset(buf, 1, sizeof buf);
    return write_all(e->pd[1], e->fd[1], buf, sizeof buf) == sizeof buf ? 0 : -1;
}

TEST(netpoll_wait_until_there_is_room, 60)
{
    for (int sock = 0; sock < 2; sock++) {
        static char buf[65536];
        size_t want, got = 0;
        struct waiter w;
        struct ends e;
        ssize_t n;

        rt_start(2);
        if (sock)
            pair_open(&e);
        else
            pipe_open(&e);
        want = fill_up(e.fd[1]) + 10000;
        memset(&w, 0, sizeof w);
        w.arg = &e;
        waiter_start(&w, write_more);
        waiter_blocked(&w);
        CHECK_EQ(w.done, 0);
        while (got < want) {
            n = read_one(e.pd[0], e.fd[0], buf, sizeof buf);
            CHECK_GT(n, 0);
            got += (size_t)n;
        }
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(got, want);
        ends_close(&e);
        rt_stop_conserved();
    }
}

/* One reads and one writes at the same descriptor; each gets what is his. */
TEST(netpoll_reader_and_writer, 60)
{
    struct waiter r, w;
    struct ends e;
    char buf[4096];

    rt_start(2);
    pair_open(&e);
    for (int i = 0; i < 10; i++) {
        /* edges from before, that nobody waited for, are used up */
        CHECK_EQ(gt_netpoll_set_deadline(e.pd[0], GT_READ | GT_WRITE, gt_nanotime(gt_runtime_sched()) + MS), 0);
        fill_up(e.fd[0]);
        while (gt_netpoll_wait(e.pd[0], GT_WRITE) == 0 || gt_netpoll_wait(e.pd[0], GT_READ) == 0) {}
        CHECK_EQ(gt_netpoll_set_deadline(e.pd[0], GT_READ | GT_WRITE, 0), 0);
        wait_start(&w, wait_write, e.pd[0]);
        wait_start(&r, wait_read, e.pd[0]);
        waiter_blocked(&w);
        waiter_blocked(&r);
        if (i % 2) {
            CHECK_EQ(write(e.fd[1], "x", 1), 1);
            CHECK_EQ(waiter_join(&r), 0);
            while (read(e.fd[1], buf, sizeof buf) > 0) {}
            CHECK_EQ(waiter_join(&w), 0);
        } else {
            while (read(e.fd[1], buf, sizeof buf) > 0) {}
            CHECK_EQ(waiter_join(&w), 0);
            CHECK_EQ(write(e.fd[1], "x", 1), 1);
            CHECK_EQ(waiter_join(&r), 0);
        }
        while (read(e.fd[0], buf, sizeof buf) > 0) {}
        while (read(e.fd[1], buf, sizeof buf) > 0) {}
    }
    ends_close(&e);
    rt_stop_conserved();
}

/* Whoever is left alone by the other end is told ready, and the call itself says the rest. */
TEST(netpoll_other_end_closes, 60)
{
    signal(SIGPIPE, SIG_IGN);
    for (int sock = 0; sock < 2; sock++)
        for (int writer = 0; writer < 2; writer++) {
            struct waiter w;
            struct ends e;
            char ch;
            int other = !writer;

            rt_start(2);
            if (sock)
                pair_open(&e);
            else
                pipe_open(&e);
            if (writer)
                fill_up(e.fd[1]);
            wait_start(&w, writer ? wait_write : wait_read, e.pd[writer]);
            waiter_blocked(&w);
            CHECK_EQ(gt_netpoll_close(e.pd[other]), 0);
            close(e.fd[other]);
            e.pd[other] = NULL;
            e.fd[other] = -1;
            CHECK_EQ(waiter_join(&w), 0);
            if (writer) {
                CHECK_EQ(write(e.fd[1], "x", 1), -1);
                CHECK_EQ(errno, EPIPE);
            } else
                CHECK_EQ(read_one(e.pd[0], e.fd[0], &ch, 1), 0);
            ends_close(&e);
            rt_stop_conserved();
        }
}

TEST(netpoll_close_while_waiting, 60)
{
    for (int i = 0; i < 30; i++) {
        struct waiter r, w;
        struct ends e;

        rt_start(1 + (uint32_t)i % 3);
        pair_open(&e);
        CHECK_EQ(gt_netpoll_wait(e.pd[0], GT_WRITE), 0);
        fill_up(e.fd[0]);
        if (i % 2)
            CHECK_EQ(gt_netpoll_set_deadline(e.pd[0], GT_READ | GT_WRITE, gt_nanotime(gt_runtime_sched()) + 3600 * SEC), 0);
        wait_start(&w, wait_write, e.pd[0]);
        wait_start(&r, wait_read, e.pd[0]);
        CHECK_EQ(waiter_blocked(&r), 1);
        CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_EQ(gt_netpoll_close(e.pd[0]), 0);
        e.pd[0] = NULL;
        CHECK_EQ(waiter_join(&r), GT_ECANCELED);
        CHECK_EQ(waiter_join(&w), GT_ECANCELED);
        CHECK_GE(fcntl(e.fd[0], F_GETFD), 0);                 /* fd stays open */
        e.pd[0] = open_pd(e.fd[0]);                           /* and can be watched again */
        CHECK_EQ(write(e.fd[1], "x", 1), 1);
        CHECK_EQ(gt_netpoll_wait(e.pd[0], GT_READ), 0);
        ends_close(&e);
        rt_stop_conserved();
        CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    }
}

/* The runtime stops while somebody waits: stop does not hang; after the next start the waiter
 * is served. */
TEST(netpoll_wait_over_a_restart, 60)
{
    for (int i = 0; i < 10; i++) {
        struct waiter w;
        struct ends e;
        char ch;

        rt_start(2);
        pipe_open(&e);
        wait_start(&w, wait_read, e.pd[0]);
        CHECK_EQ(waiter_blocked(&w), 1);
        rt_stop();
        if (i % 2)
            CHECK_EQ(write(e.fd[1], "x", 1), 1);
        sleep_ms(5);
        rt_start(1);
        if (i % 2 == 0)
            CHECK_EQ(write(e.fd[1], "x", 1), 1);
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(read_one(e.pd[0], e.fd[0], &ch, 1), 1);
        ends_close(&e);
        rt_stop_conserved();
    }
}

/* In a callback, on a worker: another worker polls. */
static struct ends in_callback;
static atomic_int callback_read;

static void reads_in_callback(void *arg, uintptr_t seq, int64_t delay)
{
    char ch;

    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(read_one(in_callback.pd[0], in_callback.fd[0], &ch, 1), 1);
    callback_read++;
}

TEST(netpoll_wait_in_a_callback, 60)
{
    rt_start(2);
    pipe_open(&in_callback);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(gt_timer_detach(must(gt_after_func(0, reads_in_callback, NULL, NULL))), 0);
        sleep_ms(i % 3);
        CHECK_EQ(write(in_callback.fd[1], "x", 1), 1);
        wait_for(&callback_read, i + 1);
    }
    ends_close(&in_callback);
    rt_stop_conserved();
}

/* ---- many descriptors, many threads ---- */

enum { PAIRS = 64, TALKERS = 8, ROUNDS = 60 };
static struct ends many[PAIRS];
static atomic_long bytes, timeouts;

/* Sends one byte, reads the answer; sometimes with a deadline that may or may not pass. */
static void *talks(void *arg)
{
    uint64_t rng = test_seed() + (uintptr_t)arg;

    for (int n = 0; n < ROUNDS; n++)
        for (size_t i = (uintptr_t)arg; i < PAIRS; i += TALKERS) {
            struct ends *e = &many[i];
            char out = (char)rng_next(&rng), in = 0;
            int64_t r;

            if (rng_below(&rng, 2)) {
                int64_t at = gt_nanotime(gt_runtime_sched()) + (int64_t)rng_below(&rng, 300 * (uint64_t)US);

                CHECK_EQ(gt_netpoll_set_deadline(e->pd[0], GT_READ, at), 0);
                if (read_one(e->pd[0], e->fd[0], &in, 1) == GT_ETIMEDOUT) {   /* nobody has written */
                    CHECK_GE(gt_nanotime(gt_runtime_sched()), at);
                    timeouts++;
                }
                CHECK_EQ(in, 0);
                CHECK_EQ(gt_netpoll_set_deadline(e->pd[0], GT_READ, 0), 0);
            }
            CHECK_EQ(write_all(e->pd[0], e->fd[0], &out, 1), 1);
            r = read_one(e->pd[0], e->fd[0], &in, 1);
            CHECK_EQ(r, 1);
            CHECK_EQ(in, (char)(out + 1));
            bytes++;
        }
    return NULL;
}

static void *answers(void *arg)
{
    struct ends *e = arg;
    gt_netpoll *pd = e->pd[1];           /* the test forgets it while this waits */
    char ch;
    int64_t n;

    while ((n = read_one(pd, e->fd[1], &ch, 1)) > 0) {
        ch++;
        CHECK_EQ(write_all(pd, e->fd[1], &ch, 1), 1);
    }
    CHECK(n == 0 || n == GT_ECANCELED);
    return NULL;
}

TEST(netpoll_many_talk, 240)
{
    pthread_t talk[TALKERS], answer[PAIRS];

    rt_start(3);
    for (int i = 0; i < PAIRS; i++) {
        pair_open(&many[i]);
        answer[i] = thread_start(answers, &many[i]);
    }
    for (int i = 0; i < TALKERS; i++)
        talk[i] = thread_start(talks, (void *)(uintptr_t)i);
    for (int i = 0; i < TALKERS; i++)
        thread_join(talk[i]);
    CHECK_EQ(bytes, PAIRS * ROUNDS);
    CHECK_GT(timeouts, 0);
    for (int i = 0; i < PAIRS; i++) {
        if (i % 2) {
            CHECK_EQ(gt_netpoll_close(many[i].pd[1]), 0);        /* while answers waits */
            many[i].pd[1] = NULL;
        } else {
            CHECK_EQ(gt_netpoll_close(many[i].pd[0]), 0);
            many[i].pd[0] = NULL;
            close(many[i].fd[0]);
            many[i].fd[0] = -1;
        }
        thread_join(answer[i]);
        ends_close(&many[i]);
    }
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
}
