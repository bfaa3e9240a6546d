/* Every documented refusal of the netpoll calls; after each the descriptor still works. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int fd[2];

static void no_pd(int of, int error)
{
    CHECK_PTR_EQ(gt_netpoll_open(of), NULL);
    CHECK_EQ(gt_last_error(), error);
}

static void still_works(gt_netpoll *pd)
{
    char ch;

    CHECK_EQ(write(fd[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    while (read(fd[0], &ch, 1) == 1) {}
}

static int wait_read(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_READ); }

static int wait_write(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_WRITE); }

TEST(netpoll_errors_what_cannot_be_watched, 30)
{
    FILE *f = tmpfile();
    int dead = dup(0);

    rt_start(1);
    CHECK(f != NULL);
    CHECK_GE(dead, 0);
    close(dead);
    for (int i = 0; i < 3; i++) {
        no_pd(fileno(f), GT_EOPNOTSUPP);             /* a regular file is always ready */
        no_pd(-1, GT_EBADF);
        no_pd(INT_MIN, GT_EBADF);
        no_pd(dead, GT_EBADF);
        no_pd(1000000, GT_EBADF);
    }
    CHECK_EQ(dup(0), dead);                          /* nothing was opened */
    rt_stop_conserved();
    fclose(f);
}

TEST(netpoll_errors_opened_twice, 30)
{
    gt_netpoll *pd;

    rt_start(1);
    CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
    pd = gt_netpoll_open(fd[0]);
    CHECK(pd != NULL);
    no_pd(fd[0], GT_EALREADY);
    still_works(pd);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    pd = gt_netpoll_open(fd[0]);                     /* closed: it may be opened again */
    CHECK(pd != NULL);
    still_works(pd);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    close(fd[0]);
    close(fd[1]);
    rt_stop_conserved();
}

TEST(netpoll_errors_arguments, 30)
{
    const int modes[] = {0, 3, 4, -1, 8, INT32_MAX, INT32_MIN};
    gt_netpoll *pd;
    gt_stats before;

    rt_start(1);
    CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
    pd = gt_netpoll_open(fd[0]);
    CHECK(pd != NULL);
    before = get_stats(gt_runtime_sched());
    CHECK_EQ(gt_netpoll_wait(NULL, GT_READ), GT_EINVAL);
    CHECK_EQ(gt_netpoll_set_deadline(NULL, GT_READ, 1), GT_EINVAL);
    CHECK_EQ(gt_netpoll_close(NULL), GT_EINVAL);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        CHECK_EQ(gt_netpoll_wait(pd, modes[i]), GT_EINVAL);
        if (modes[i] != (GT_READ | GT_WRITE))
            CHECK_EQ(gt_netpoll_set_deadline(pd, modes[i], 1), GT_EINVAL);
    }
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, -1), GT_EINVAL);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, INT64_MIN), GT_EINVAL);
    check_same_counters(gt_runtime_sched(), &before);
    still_works(pd);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    close(fd[0]);
    close(fd[1]);
    rt_stop_conserved();
}

/* Its handle is closed, its number is not. */
TEST(netpoll_errors_closed, 30)
{
    gt_netpoll *pd;

    rt_start(1);
    CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
    pd = gt_netpoll_open(fd[0]);
    CHECK(pd != NULL);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ESTALE);
    CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), GT_ESTALE);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 1), GT_ESTALE);
    CHECK_EQ(gt_netpoll_close(pd), GT_ESTALE);
    close(fd[0]);
    close(fd[1]);
    rt_stop_conserved();
}

TEST(netpoll_errors_second_waiter, 60)
{
    struct waiter r = {0}, w = {0};
    gt_netpoll *pd;

    rt_start(2);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    pd = gt_netpoll_open(fd[0]);
    CHECK(pd != NULL);
    CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), 0);
    while (write(fd[0], "0123456789", 10) > 0) {}
    r.arg = w.arg = pd;
    waiter_start(&r, wait_read);
    waiter_start(&w, wait_write);
    CHECK_EQ(waiter_blocked(&r), 1);
    CHECK_EQ(waiter_blocked(&w), 1);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_EBUSY);
        CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), GT_EBUSY);
    }
    CHECK_EQ(write(fd[1], "x", 1), 1);               /* the first ones are served all the same */
    CHECK_EQ(waiter_join(&r), 0);
    CHECK_EQ(gt_netpoll_wait(pd, GT_WRITE), GT_EBUSY);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_WRITE, 1), 0);
    CHECK_EQ(waiter_join(&w), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_WRITE, 0), 0);
    still_works(pd);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    close(fd[0]);
    close(fd[1]);
    rt_stop_conserved();
}

/* The descriptor was closed without gt_netpoll_close: told, not hung. */
TEST(netpoll_errors_wait_on_a_closed_fd, 30)
{
    gt_netpoll *pd;

    rt_start(1);
    CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
    pd = gt_netpoll_open(fd[0]);
    CHECK(pd != NULL);
    close(fd[0]);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_EBADF);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_EBADF);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 1), 0);
    CHECK_LT(gt_netpoll_wait(pd, GT_READ), 0);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    close(fd[1]);
    rt_stop_conserved();
}

/* The number is somebody else's now: the old handle's close leaves it alone. */
TEST(netpoll_errors_number_used_again, 30)
{
    gt_netpoll *old, *pd;
    int first;

    rt_start(2);
    CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
    first = fd[0];
    old = gt_netpoll_open(fd[0]);
    CHECK(old != NULL);
    CHECK_EQ(gt_netpoll_close(old), 0);
    close(fd[0]);
    close(fd[1]);
    CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
    CHECK_EQ(fd[0], first);
    for (int i = 0; i < 50; i++) {
        pd = gt_netpoll_open(fd[0]);
        CHECK(pd != NULL);
        still_works(pd);
        CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, gt_nanotime(gt_runtime_sched()) + 100 * US), 0);
        CHECK_EQ(gt_netpoll_close(pd), 0);
        pd = gt_netpoll_open(fd[0]);                 /* the old one's deadline is not its */
        CHECK(pd != NULL);
        if (i % 8 == 0)
            sleep_ms(1);
        still_works(pd);
        CHECK_EQ(gt_netpoll_close(pd), 0);
    }
    close(fd[0]);
    close(fd[1]);
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
}

/* Opened and closed by the thousand: nothing adds up. */
TEST(netpoll_errors_nothing_leaks, 60)
{
    int fds = 0;

    rt_start(2);
    for (int i = 0; i < 2000; i++) {
        gt_netpoll *pd;

        CHECK_EQ(pipe2(fd, O_NONBLOCK), 0);
        pd = gt_netpoll_open(fd[i % 2]);
        CHECK(pd != NULL);
        if (i % 3 == 0)
            CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, gt_nanotime(gt_runtime_sched()) + 3600 * SEC), 0);
        CHECK_EQ(gt_netpoll_close(pd), 0);
        close(fd[0]);
        close(fd[1]);
        if (i == 0)
            fds = fd_count();
    }
    CHECK_EQ(fd_count(), fds);
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
}
