/* A fork child that has no descriptors for the runtime's poller: it is told, and may try again. */
#include "rtkit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

struct watched {
    int fd[2];
    gt_netpoll *pd;
    struct waiter w;
};

static int waits_to_read(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_READ); }

static void tries_again(void *arg)
{
    struct watched *n = arg;
    struct rlimit old, none;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(gt_after_fork(), GT_EMFILE);
        CHECK_EQ(gt_netpoll_close(n->pd), GT_EFORK);     /* nothing has changed */
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK_EQ(gt_after_fork(), 0);
    rt_start(2);
    CHECK_EQ(write(n->fd[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(n->pd, GT_READ), 0);        /* the one who waited in the parent is gone */
    CHECK_EQ(gt_netpoll_close(n->pd), 0);
    rt_stop_conserved();
    child_is_done();
}

TEST(fork_without_descriptors, 30)
{
    struct watched n = {.pd = NULL};

    needs_own_threads();
    rt_start(2);
    CHECK_EQ(pipe(n.fd), 0);
    n.pd = gt_netpoll_open(n.fd[0]);
    CHECK(n.pd != NULL);
    n.w.arg = n.pd;
    waiter_start(&n.w, waits_to_read);
    CHECK_EQ(waiter_blocked(&n.w), 1);
    in_child(tries_again, &n);
    CHECK_EQ(waiter_join(&n.w), 0);                      /* the pipe is shared */
    CHECK_EQ(gt_netpoll_close(n.pd), 0);
    rt_stop_conserved();
}

struct shared {
    gt_sched *s;
    gt_p *p;
    gt_timer *t, *ch;
};

static void arms_for_now(void *arg)
{
    struct shared *sh = arg;
    struct rlimit none;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &none), 0);
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_resettimer(sh->t, gt_nanotime(sh->s), 0), 1);
    CHECK_EQ(gt_timer_reset(sh->ch, 0), 1);
    CHECK_EQ(gt_check_timers(sh->p, 0, NULL, NULL), 1);
    CHECK_EQ(gt_timer_try_recv(sh->ch, NULL), 1);
    CHECK_EQ(gt_timer_reset(sh->ch, 3600 * SEC), 0);
    CHECK_EQ(gt_p_num_timers(sh->p), 0);                 /* nobody waits for it any more */
    CHECK_EQ(gt_timer_stop(sh->ch), 1);
    CHECK_EQ(gt_resettimer(sh->t, gt_nanotime(sh->s), 0), 0);
    CHECK_EQ(gt_timer_reset(sh->ch, 0), 0);
    CHECK_GT(gt_timer_when(sh->ch) + 1, 0);
    CHECK_EQ(gt_p_fd(sh->p), GT_EMFILE);
    CHECK_EQ(gt_timer_fd(sh->ch), GT_EMFILE);
    CHECK_EQ(gt_timer_free(sh->t), 1);
    CHECK_EQ(gt_timer_free(sh->ch), 1);
    free_p(sh->p);
    CHECK_EQ(gt_sched_free(sh->s), 0);
    child_is_done();
}

/* The descriptors of Ps and channels for which the child cannot have others of its own are the parent's: it
 * lets go of them, and does not set them. */
TEST(fork_without_descriptors_of_its_own, 30)
{
    struct counter c = {0};
    struct shared sh = {.s = gt_sched_new(NULL)};

    sh.p = new_p(sh.s);
    sh.t = must(gt_timer_new(sh.s, count_run, &c, NULL));
    sh.ch = must(gt_sched_new_timer(sh.s, 3600 * SEC));
    CHECK_EQ(gt_addtimer(sh.t, gt_nanotime(sh.s) + 3600 * SEC, 0), 0);
    CHECK_EQ(readable(gt_p_fd(sh.p)), 0);
    CHECK_EQ(readable(gt_timer_fd(sh.ch)), 0);
    in_child(arms_for_now, &sh);
    CHECK_EQ(readable(gt_p_fd(sh.p)), 0);
    CHECK_EQ(readable(gt_timer_fd(sh.ch)), 0);
    CHECK_EQ(gt_timer_free(sh.t), 1);
    CHECK_EQ(gt_timer_free(sh.ch), 1);
    free_p(sh.p);
    close_sched(sh.s);
}

struct closed {
    gt_sched *s;
    gt_p *p;
    int fd, poller[3];
};

static void closes_all(void *arg)
{
    struct closed *c = arg;
    struct counter n = {0};
    gt_timer *t;
    gt_netpoll *pd;
    int pipes[2];

    CHECK_EQ(close(c->fd), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(close(c->poller[i]), 0);
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_GE(fcntl(c->fd, F_GETFD), 0);              /* it is there without being asked for */
    CHECK_EQ(gt_p_fd(c->p), c->fd);
    rt_start(1);
    CHECK_EQ(pipe(pipes), 0);
    CHECK((pd = gt_netpoll_open(pipes[0])) != NULL);
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    CHECK_EQ(gt_netpoll_wait(pd, GT_READ), 0);
    CHECK_EQ(gt_netpoll_close(pd), 0);
    t = must(gt_timer_new(c->s, count_run, &n, NULL));
    CHECK_EQ(gt_addtimer(t, gt_nanotime(c->s), 0), 0);
    CHECK_EQ(readable_within(c->fd, 10000), 1);
    CHECK_EQ(gt_timer_free(t), 1);
    rt_stop();
    child_is_done();
}

/* A child that has closed all that it inherited, as servers do: none of what the library opens then takes a
 * number that another part of it still keeps. */
TEST(fork_closes_all_descriptors, 30)
{
    struct closed c = {.s = gt_sched_new(NULL)};

    needs_own_threads();
    c.p = new_p(c.s);
    c.fd = gt_p_fd(c.p);
    for (int i = 0; i < 3; i++)
        CHECK_GE(c.poller[i] = dup(0), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(close(c.poller[i]), 0);
    rt_start(1);                                     /* the lowest numbers that are free */
    in_child(closes_all, &c);
    rt_stop();
    free_p(c.p);
    close_sched(c.s);
}
