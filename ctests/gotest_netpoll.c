/* Counterparts of the tests of deadlines in Go's src/os/timeout_test.go and
 * src/net/timeout_test.go: waiting for readiness with a deadline, on the runtime's poller. Each
 * runs over a pipe and over a pair of sockets. See gotest.h. */
#include "gotest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIPE, SOCKETS, KINDS };

/* Both ends of a connection: r is read from, w is written to. */
struct conn {
    int rfd, wfd;
    gt_netpoll *r, *w;
};

static void conn_open(struct conn *c, int kind)
{
    int fd[2];

    if (kind == PIPE)
        CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    else
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    signal(SIGPIPE, SIG_IGN);
    c->rfd = fd[0];
    c->wfd = fd[1];
    c->r = gt_netpoll_open(c->rfd);
    c->w = gt_netpoll_open(c->wfd);
    CHECK(c->r != NULL && c->w != NULL);
}

static void close_end(gt_netpoll **pd, int fd)
{
    if (*pd == NULL)
        return;
    CHECK_EQ(gt_netpoll_close(*pd), 0);
    close(fd);
    *pd = NULL;
}

static void conn_close(struct conn *c)
{
    close_end(&c->r, c->rfd);
    close_end(&c->w, c->wfd);
}

/* As Go's Read and Write: what the system call says, or what the wait says. */
static int64_t conn_read(struct conn *c, void *buf, size_t len)
{
    for (;;) {
        ssize_t n = read(c->rfd, buf, len);
        int r;

        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        CHECK_EQ(errno, EAGAIN);
        r = gt_netpoll_wait(c->r, GT_READ);
        if (r < 0)
            return r;
    }
}

static int64_t conn_write(struct conn *c, const void *buf, size_t len)
{
    for (;;) {
        ssize_t n = write(c->wfd, buf, len);
        int r;

        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -1;                               /* the other end is gone */
        r = gt_netpoll_wait(c->w, GT_WRITE);
        if (r < 0)
            return r;
    }
}

/* Writes until there is no room and the wait for some fails. */
static int64_t write_until_error(struct conn *c)
{
    static const char buf[4096];
    int64_t n;

    while ((n = conn_write(c, buf, sizeof buf)) >= 0) {}
    return n;
}

static void each_kind(uint32_t workers, void (*fn)(struct conn *c))
{
    rt_start(workers);
    for (int kind = 0; kind < KINDS; kind++) {
        struct conn c;

        conn_open(&c, kind);
        fn(&c);
        conn_close(&c);
    }
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}

/* ---- what cannot be waited for ---- */

TEST(gotest_nonpollable_deadline, 60)
{
    FILE *f = tmpfile();

    CHECK(f != NULL);
    rt_start(1);
    CHECK_PTR_EQ(gt_netpoll_open(fileno(f)), NULL);
    CHECK_EQ(gt_last_error(), GT_EOPNOTSUPP);
    rt_stop_conserved();
    fclose(f);
}

/* ---- time-outs ---- */

/* A deadline in the past fails at once, data or no data; one ahead, when it has come. Both go on
 * failing until the deadline is changed. */
static void read_timeout(struct conn *c)
{
    char b[64];
    int64_t deadline;

    CHECK_EQ(conn_write(c, "READ TIMEOUT TEST", 17), 17);
    CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, 1), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_netpoll_wait(c->r, GT_READ), GT_ETIMEDOUT);
    deadline = rt_now() + 50 * MS;
    CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, deadline), 0);
    CHECK_EQ(conn_read(c, b, sizeof b), 17);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(conn_read(c, b, sizeof b), GT_ETIMEDOUT);
        CHECK_GE(rt_now(), deadline);
    }
    CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, 0), 0);
    CHECK_EQ(conn_write(c, "x", 1), 1);
    CHECK_EQ(conn_read(c, b, sizeof b), 1);
}
TEST(gotest_read_timeout, 60) { each_kind(2, read_timeout); }

static void write_timeout(struct conn *c)
{
    int64_t deadline;

    CHECK_EQ(gt_netpoll_set_deadline(c->w, GT_WRITE, 1), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_netpoll_wait(c->w, GT_WRITE), GT_ETIMEDOUT);
    deadline = rt_now() + 50 * MS;
    CHECK_EQ(gt_netpoll_set_deadline(c->w, GT_WRITE, deadline), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(write_until_error(c), GT_ETIMEDOUT);
        CHECK_GE(rt_now(), deadline);
    }
}
TEST(gotest_write_timeout, 60) { each_kind(2, write_timeout); }

/* ---- a deadline that was taken back ---- */

struct reader {
    struct conn *c;
    atomic_int started, ended;
    int64_t result;
};

static void *reads_without_deadline(void *arg)
{
    struct reader *r = arg;
    gt_netpoll *pd = r->c->r;
    char b[1];

    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, 1), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_WRITE, 1), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
    r->started = 1;
    r->result = conn_read(r->c, b, 1);
    r->ended = 1;
    return NULL;
}

/* The deadline for writing has passed, that for reading was taken back: the read waits until
 * the other end is closed. */
static void read_must_not_return(struct conn *c)
{
    struct reader r = {.c = c};
    pthread_t th = thread_start(reads_without_deadline, &r);

    wait_for(&r.started, 1);
    sleep_ms(50);
    CHECK_EQ(r.ended, 0);
    close_end(&c->w, c->wfd);
    thread_join(th);
    CHECK_EQ(r.result, 0);                           /* the end of the data */
}
TEST(gotest_read_timeout_must_not_return, 60) { each_kind(2, read_must_not_return); }

static void *writes_without_deadline(void *arg)
{
    struct reader *r = arg;
    gt_netpoll *pd = r->c->w;

    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, 1), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 1), 0);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_WRITE, 0), 0);
    r->started = 1;
    r->result = write_until_error(r->c);
    r->ended = 1;
    return NULL;
}

static void write_must_not_return(struct conn *c)
{
    struct reader r = {.c = c};
    pthread_t th = thread_start(writes_without_deadline, &r);

    wait_for(&r.started, 1);
    sleep_ms(50);
    CHECK_EQ(r.ended, 0);
    close_end(&c->r, c->rfd);
    thread_join(th);
    CHECK_EQ(r.result, -1);                          /* nobody reads any more */
}
TEST(gotest_write_timeout_must_not_return, 60) { each_kind(2, write_must_not_return); }

/* ---- never early ---- */

static void read_fluctuation(struct conn *c)
{
    char b[256];

    for (int64_t d = 1; d <= 64 * MS; d *= 4) {
        int64_t deadline = rt_now() + d;

        CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, deadline), 0);
        CHECK_EQ(conn_read(c, b, sizeof b), GT_ETIMEDOUT);
        CHECK_GE(rt_now(), deadline);
    }
}
TEST(gotest_read_timeout_fluctuation, 60) { each_kind(2, read_fluctuation); }

static void write_fluctuation(struct conn *c)
{
    for (int64_t d = 1; d <= 64 * MS; d *= 4) {
        int64_t deadline = rt_now() + d;

        CHECK_EQ(gt_netpoll_set_deadline(c->w, GT_WRITE, deadline), 0);
        CHECK_EQ(write_until_error(c), GT_ETIMEDOUT);
        CHECK_GE(rt_now(), deadline);
    }
}
TEST(gotest_write_timeout_fluctuation, 60) { each_kind(2, write_fluctuation); }

/* ---- VariousDeadlines ---- */

static void *writes_for_ever(void *arg)
{
    struct reader *r = arg;

    r->result = write_until_error(r->c);
    return NULL;
}

/* One end writes as fast as it can, the other reads until its deadline has passed. */
static void various(int kind, int64_t d)
{
    struct reader w = {0};
    static char buf[65536];
    struct conn c;
    pthread_t th;
    int64_t deadline, r;

    conn_open(&c, kind);
    w.c = &c;
    th = thread_start(writes_for_ever, &w);
    deadline = rt_now() + d;
    CHECK_EQ(gt_netpoll_set_deadline(c.r, GT_READ | GT_WRITE, deadline), 0);
    do {
        r = conn_read(&c, buf, sizeof buf);
        CHECK_NE(r, 0);
        if (r > 0 && rt_now() >= deadline)
            r = gt_netpoll_wait(c.r, GT_READ);       /* may say ready once too often */
    } while (r >= 0);
    CHECK_EQ(r, GT_ETIMEDOUT);
    CHECK_GE(rt_now(), deadline);
    close_end(&c.r, c.rfd);
    thread_join(th);
    CHECK_EQ(w.result, -1);
    conn_close(&c);
}

static void various_deadlines(uint32_t workers)
{
    static const int64_t d[] = {1, 2, 5, 50, 100, 200, 500, 750, 1 * US, 5 * US, 25 * US, 250 * US,
                                500 * US, 1 * MS, 5 * MS, 100 * MS};

    rt_start(workers);
    for (size_t i = 0; i < sizeof d / sizeof d[0]; i++)
        for (int run = 0; run < 3; run++)
            various(run % KINDS, d[i]);
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}

TEST(gotest_various_deadlines, 120) { various_deadlines(2); }
TEST(gotest_various_deadlines1_proc, 120) { various_deadlines(1); }
TEST(gotest_various_deadlines4_proc, 120) { various_deadlines(4); }

/* ---- deadlines that are changed while others wait ---- */

struct racer {
    struct conn *c;
    int what;
    atomic_int *left;
};

static void *races(void *arg)
{
    struct racer *r = arg;
    int n = rounds(1000);
    char b[1] = {0};

    if (r->what == 0) {
        gt_timer *t = gt_new_ticker(2 * US);

        while (*r->left > 0) {                       /* as long as one of the others may wait */
            CHECK_EQ(gt_netpoll_set_deadline(r->c->r, GT_READ, rt_now() + 2 * US), 0);
            CHECK_EQ(gt_netpoll_set_deadline(r->c->w, GT_WRITE, rt_now() + 2 * US), 0);
            CHECK_EQ(gt_timer_recv(t, NULL), 0);
        }
        CHECK_EQ(gt_timer_free(t), 1);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        int64_t got = r->what == 1 ? conn_read(r->c, b, 1) : conn_write(r->c, b, 1);

        CHECK(got == 1 || got == GT_ETIMEDOUT);
    }
    --*r->left;
    return NULL;
}

static void deadline_race(struct conn *c)
{
    atomic_int left = 2;
    struct racer r[3];

    for (int i = 0; i < 3; i++)
        r[i] = (struct racer){.c = c, .what = i, .left = &left};
    run_threads(3, races, r, sizeof *r);
}
TEST(gotest_read_write_deadline_race, 120) { each_kind(2, deadline_race); }

/* Many threads set the deadline of one descriptor; the last setting holds. */
static void *sets_deadlines(void *arg)
{
    struct racer *r = arg;

    for (int i = 0; i < rounds(1000); i++)
        CHECK_EQ(gt_netpoll_set_deadline(r->c->r, GT_READ, rt_now() + (i % 10 + 1) * HOUR), 0);
    return NULL;
}

static void concurrent_set(struct conn *c)
{
    struct racer r[8];
    int64_t deadline;
    char b[1];

    for (int i = 0; i < 8; i++)
        r[i] = (struct racer){.c = c};
    run_threads(8, sets_deadlines, r, sizeof *r);
    CHECK_LE(get_stats(gt_runtime_sched()).pending, 1);
    deadline = rt_now() + 10 * MS;
    CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, deadline), 0);
    CHECK_EQ(conn_read(c, b, 1), GT_ETIMEDOUT);
    CHECK_GE(rt_now(), deadline);
}
TEST(gotest_concurrent_set_deadline, 120) { each_kind(2, concurrent_set); }

/* The deadline is moved on while a wait is under way, again and again: the wait lasts until the
 * last one. */
static void prolonged(struct conn *c)
{
    struct reader r = {.c = c};
    int64_t deadline;
    pthread_t th;

    th = thread_start(reads_without_deadline, &r);
    wait_for(&r.started, 1);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, rt_now() + HOUR - i), 0);
        CHECK_EQ(gt_sleep(1 * MS), 0);
        CHECK_EQ(r.ended, 0);
    }
    deadline = rt_now() + 20 * MS;
    CHECK_EQ(gt_netpoll_set_deadline(c->r, GT_READ, deadline), 0);
    thread_join(th);
    CHECK_EQ(r.result, GT_ETIMEDOUT);
    CHECK_GE(rt_now(), deadline);
}
TEST(gotest_read_write_prolonged_timeout, 60) { each_kind(2, prolonged); }
