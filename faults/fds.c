/* The process is out of file descriptors: what needs one says GT_EMFILE and has changed nothing,
 * what needs none goes on, and everything works when there are some again. */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

PLANT(no_limit, fds_p_fd, "gt_p_fd(p) == (-24) is false");
PLANT(no_limit, fds_runtime_start, "gt_runtime_start(((void *)0)) == (-24) is false");
PLANT(no_limit, fds_timer_fd, "gt_timer_fd(t) == (-24) is false");
PLANT(no_limit, fds_netpoll, "gt_netpoll_open(fds[0]) == NULL is false");
PLANT_FORGET(fds_under_load);

static int taken[4096], n_taken;

/* From now on no descriptor can be had. */
static void take_all(void)
{
    struct rlimit lim = {256, 256};
    struct rlimit old;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    lim.rlim_max = old.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lim), 0);
    if (planted("no_limit"))
        return;                     /* the mistake: there is no shortage at all */
    while (n_taken < 4096) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (fd < 0) {
            CHECK_EQ(errno, EMFILE);
            return;
        }
        taken[n_taken++] = fd;
    }
}

static void give_back(int n)
{
    while (n-- > 0 && n_taken > 0)
        close(taken[--n_taken]);
}

static void give_all_back(void) { give_back(n_taken); }

TEST(fds_p_fd, 30)
{
    static const uint32_t clocks[] = {GT_CLOCK_MONOTONIC, GT_CLOCK_BOOTTIME, GT_CLOCK_WALL, GT_CLOCK_VIRTUAL};

    for (int k = 0; k < 4; k++) {
        gt_sched *s = new_sched(clocks[k]);
        struct counter c = {0};
        gt_p *p = gt_p_new(s);
        gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
        struct pollfd pf = {.events = POLLIN};

        CHECK(p != NULL && t != NULL);
        CHECK_EQ(gt_addtimer_on(p, t, 1, 0), 0);
        take_all();
        for (int i = 0; i < 3; i++)
            CHECK_EQ(gt_p_fd(p), GT_EMFILE);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);      /* timers need none */
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_addtimer_on(p, t, 1, 0), 0);
        give_back(1);
        pf.fd = gt_p_fd(p);
        CHECK_GE(pf.fd, 0);
        CHECK_EQ(poll(&pf, 1, 10000), 1);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
        CHECK_EQ(poll(&pf, 1, 0), 0);
        give_all_back();
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
    }
}

/* A loop that polls does without its descriptor while there is none. */
TEST(fds_under_load, 60)
{
    static struct load l;
    struct load_options o = {.name = "no fds", .clock = GT_CLOCK_MONOTONIC, .pollers = 3, .sleepers = 1,
                             .mutators = 2, .slots = 300, .spread = 5 * MS, .ps_come_and_go = 1};

    seed_loads();
    load_start(&l, &o);
    for (int i = 0; i < rounds(10, 100); i++) {
        take_all();
        sleep_ms(100);
        load_pause(&l);
        load_check(&l);
        load_resume(&l);
        give_all_back();
        sleep_ms(50);
    }
    load_end(&l);
}

/* ---- the runtime ---- */

static void runtime_without_fds(void *arg)
{
    gt_timer *t;
    struct counter c = {0};
    int need = 0;

    (void)arg;
    take_all();
    CHECK_EQ(gt_runtime_start(NULL), GT_EMFILE);
    CHECK_EQ(gt_runtime_workers(), 0);
    CHECK_EQ(gt_sleep(MS), 0);
    t = gt_after_func(0, count_run, &c, count_drop);
    CHECK(t != NULL);
    while (gt_runtime_start(NULL) == GT_EMFILE) {
        CHECK_EQ(gt_runtime_workers(), 0);
        CHECK_EQ(c.runs, 0);
        give_back(1);
        CHECK_LT(need++, 20);
    }
    CHECK_GE(need, 1);
    CHECK_GT(gt_runtime_workers(), 0);
    WAIT_UNTIL(c.runs == 1);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(gt_runtime_stop(), 0);
    CHECK_EQ(gt_runtime_start(NULL), 0);                     /* it keeps what it has */
    CHECK_EQ(gt_runtime_stop(), 0);
    give_all_back();
    check_conserved(gt_runtime_sched());
}

TEST(fds_runtime_start, 60) { must_pass_in_child(runtime_without_fds, NULL); }

TEST(fds_timer_fd, 60)
{
    gt_timer *t = gt_new_timer(0), *u = gt_new_ticker(MS);
    struct pollfd pf = {.events = POLLIN};
    int64_t sent;

    CHECK(t != NULL && u != NULL);
    CHECK_EQ(gt_runtime_start(NULL), 0);
    take_all();
    CHECK_EQ(gt_timer_fd(t), GT_EMFILE);
    CHECK_EQ(gt_timer_fd(u), GT_EMFILE);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(gt_timer_reset(t, MS), 0);
    CHECK_EQ(gt_timer_fd(t), GT_EMFILE);
    CHECK_EQ(gt_timer_recv(u, &sent), 0);
    give_back(1);
    pf.fd = gt_timer_fd(t);
    CHECK_GE(pf.fd, 0);
    CHECK_EQ(poll(&pf, 1, 10000), 1);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(gt_timer_fd(u), GT_EMFILE);
    CHECK_EQ(gt_timer_free(t), 0);                           /* gives its descriptor back */
    CHECK_GE(gt_timer_fd(u), 0);
    CHECK_EQ(gt_timer_free(u), 1);
    give_all_back();
    CHECK_EQ(gt_runtime_stop(), 0);
    check_conserved(gt_runtime_sched());
}

static void netpoll_without_fds(void *arg)
{
    int fds[2];
    gt_netpoll *pd;

    (void)arg;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    take_all();
    CHECK_PTR_EQ(gt_netpoll_open(fds[0]), NULL);             /* the poller is not there yet */
    CHECK_EQ(gt_last_error(), GT_EMFILE);
    give_back(3);
    CHECK_EQ(gt_runtime_start(NULL), 0);
    CHECK((pd = gt_netpoll_open(fds[0])) != NULL);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, gt_nanotime(gt_runtime_sched()) + 5 * MS), 0);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, 0), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    CHECK_EQ(gt_runtime_stop(), 0);
    give_all_back();
    close(fds[0]);
    close(fds[1]);
}

TEST(fds_netpoll, 60) { must_pass_in_child(netpoll_without_fds, NULL); }
