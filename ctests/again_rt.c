/* Bugs of the built-in runtime and of netpoll that there have been. Above each test stands what
 * broken library it catches. Those of package time are in again_time.c and again_bubble.c. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a thing may take that takes no time, where a wait for it has no end of its own. */
static int soon(void) { return 20000 * (int)test_slow(); }

/* ---- netpoll beside timers that keep the worker busy ---- */

struct pipe_end {
    int fd[2];
    gt_netpoll *pd;
    struct waiter w;
};

static int wait_read(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_READ); }

/* A pipe, and a thread that waits until it can be read. */
static void pipe_start(struct pipe_end *e)
{
    memset(e, 0, sizeof *e);
    CHECK_EQ(pipe2(e->fd, O_NONBLOCK | O_CLOEXEC), 0);
    e->pd = gt_netpoll_open(e->fd[0]);
    CHECK(e->pd != NULL);
    e->w.arg = e->pd;
    waiter_start(&e->w, wait_read);
    CHECK_EQ(waiter_blocked(&e->w), 1);
}

static void pipe_is_seen(struct pipe_end *e)
{
    CHECK_EQ(write(e->fd[1], "x", 1), 1);
    CHECK_EQ(wait_at_most(&e->w.done, 1, soon()), 1);
    CHECK_EQ(waiter_join(&e->w), 0);
}

static void pipe_end(struct pipe_end *e)
{
    CHECK_EQ(gt_netpoll_close(e->pd), 0);
    close(e->fd[0]);
    close(e->fd[1]);
}

static struct {
    gt_timer *t;
    atomic_int stop;
    atomic_long runs;
} chain;

static void arm_for_now(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    chain.runs++;
    if (!chain.stop)
        CHECK_EQ(gt_timer_reset(chain.t, 0), 0);
}

/* Catches a worker that asks for ready descriptors only when it has no timers to run: with a
 * timer that arms itself again for now, the only worker never does. */
TEST(again_netpoll_beside_a_chain, 60)
{
    struct pipe_end e;

    rt_start(1);
    pipe_start(&e);
    chain.t = must(gt_after_func(SEC * 3600, arm_for_now, NULL, NULL));
    CHECK_EQ(gt_timer_reset(chain.t, 0), 1);
    wait_for_long(&chain.runs, 100);
    pipe_is_seen(&e);
    chain.stop = 1;
    pipe_end(&e);
    rt_stop_conserved();
    CHECK_GE(gt_timer_free(chain.t), 0);
}

#define TICKERS 1000

static void take_2_us(void *arg, uintptr_t seq, int64_t delay)
{
    int64_t end = mono_now() + 2 * US;

    (void)arg;
    (void)seq;
    (void)delay;
    chain.runs++;
    while (mono_now() < end) {}
}

/* The same with nothing odd about it: tickers that are too many for one worker, so that when it
 * has run the last one the first is due again. */
TEST(again_netpoll_beside_tickers, 60)
{
    static gt_timer *t[TICKERS];
    struct pipe_end e;
    gt_sched *s = rt_start(1);

    pipe_start(&e);
    for (int i = 0; i < TICKERS; i++) {
        CHECK((t[i] = gt_timer_new(s, take_2_us, NULL, NULL)) != NULL);
        CHECK_EQ(gt_addtimer(t[i], gt_nanotime(s) + i * 100, 100 * US), 0);
    }
    wait_for_long(&chain.runs, 10 * TICKERS);
    pipe_is_seen(&e);
    for (int i = 0; i < TICKERS; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    pipe_end(&e);
    rt_stop_conserved();
}

/* ---- a deadline that cannot be set ---- */

static struct alloc_hook memory;

/* Timers until there is no memory for one more. */
static gt_timer **fill_the_slab(gt_sched *s, int *n)
{
    gt_timer **t = calloc(100000, sizeof *t);

    CHECK(t != NULL);
    for (*n = 0;; ++*n) {
        CHECK_LT(*n, 100000);
        t[*n] = gt_timer_new(s, count_run, NULL, NULL);
        if (t[*n] == NULL)
            break;
    }
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
    return t;
}

/* Catches a gt_netpoll_set_deadline of both sides that arms the first one's timer anew, has no
 * memory for the second one's, says so, and leaves the first as it is: armed, but with a number
 * that is not the side's. Nothing has changed, it says; but the deadline that was set for
 * reading never comes. The other way round, none comes where there was none. */
TEST(again_deadlines_after_a_failed_one, 60)
{
    gt_host h;
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2, .host = &h};
    struct pipe_end e[3];
    int64_t at;
    gt_timer **fill;
    gt_sched *s;
    int n;

    alloc_hook_host(&memory, &h);
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    s = gt_runtime_sched();
    for (int i = 0; i < 3; i++)
        pipe_start(&e[i]);
    at = gt_nanotime(s) + 300 * MS;
    CHECK_EQ(gt_netpoll_set_deadline(e[0].pd, GT_READ, at), 0);
    CHECK_EQ(gt_netpoll_set_deadline(e[1].pd, GT_READ, at + 3600 * 1000 * MS), 0);
    CHECK_EQ(gt_netpoll_set_deadline(e[1].pd, GT_READ, 0), 0);    /* there is a timer now */
    memory.deny_all = 1;
    fill = fill_the_slab(s, &n);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_netpoll_set_deadline(e[i].pd, GT_READ | GT_WRITE, gt_nanotime(s) + 2 * MS), GT_ENOMEM);
    memory.deny_all = 0;

    CHECK_EQ(wait_at_most(&e[0].w.done, 1, soon()), 1);
    CHECK_EQ(waiter_join(&e[0].w), GT_ETIMEDOUT);
    CHECK_GE(gt_nanotime(s), at);
    for (int i = 1; i < 3; i++) {
        CHECK_EQ(e[i].w.done, 0);                     /* it is 300 ms later */
        pipe_is_seen(&e[i]);
    }
    for (int i = 0; i < 3; i++)
        pipe_end(&e[i]);
    for (int i = 0; i < n; i++)
        CHECK_EQ(gt_timer_free(fill[i]), 0);
    free(fill);
    rt_stop_conserved();
}

/* ---- fork in a callback ---- */

static struct {
    atomic_int pid, tell;
    int after_fork;
} forked;

static void forks(void *arg, uintptr_t seq, int64_t delay)
{
    pid_t pid;

    (void)arg;
    (void)seq;
    (void)delay;
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid > 0)
        forked.pid = pid;
    else if (forked.after_fork)
        CHECK_EQ(gt_after_fork(), 0);
}

static void fork_in_a_callback(int after_fork)
{
    int64_t limit = mono_now() + soon() * MS;
    struct counter c = {0};
    gt_timer *f, *later;
    int status = 0;
    pid_t got;

    forked.after_fork = after_fork;
    rt_start(2);
    later = must(gt_after_func(50 * MS, count_run, &c, count_drop));
    f = must(gt_after_func(MS, forks, NULL, NULL));
    wait_for(&forked.pid, 2);
    while ((got = waitpid(forked.pid, &status, WNOHANG)) == 0 && mono_now() < limit)
        sleep_ms(2);
    if (got == 0) {
        kill(forked.pid, SIGKILL);                    /* workers have all other signals blocked */
        test_failed(__FILE__, __LINE__, "the child goes on after its callback has returned");
    }
    CHECK_EQ(got, forked.pid);
#ifndef __SANITIZE_THREAD__                           /* which itself crashes when such a process ends */
    CHECK(WIFEXITED(status));
#endif
    wait_for(&c.runs, 1);                             /* the parent is none the worse for it */
    CHECK_EQ(gt_timer_free(f), 0);
    CHECK_EQ(gt_timer_free(later), 0);
    rt_stop_conserved();
}

/* Catches a worker that forks in a callback and goes on as a worker in the child: there it waits
 * for the parent's events, takes them away, and cannot be ended but by SIGKILL. */
TEST(again_fork_in_a_callback_goes_on, 60) { fork_in_a_callback(1); }
TEST(again_fork_in_a_callback_without_after_fork, 60) { fork_in_a_callback(0); }

static _Atomic int64_t came_at[2];

static void note_time(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    *(_Atomic int64_t *)arg = mono_now();
}

static void wait_until_noted(_Atomic int64_t *at)
{
    int64_t limit = mono_now() + soon() * MS;

    while (*at == 0) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "a timer has not fired");
        sleep_ms(1);
    }
}

static void after_a_while_in_the_child(void *arg)
{
    int *go = arg;
    char ch;

    CHECK_EQ(read(go[0], &ch, 1), 1);
    CHECK_EQ(gt_after_fork(), 0);
}

static void *in_a_child(void *arg)
{
    must_pass_in_child(after_a_while_in_the_child, arg);
    return NULL;
}

/* Catches a gt_after_fork that moves timers to other Ps, and so sets the poller's timerfd, while
 * that is still the one that the parent has too: it is set for a time of the child's, the
 * parent's workers find nothing due then, and believe that it stands where they have set it. */
TEST(again_fork_sets_the_parents_timerfd, 60)
{
    gt_timer *near[3], *far[3];
    pthread_t th;
    int go[2];

    rt_start(2);
    CHECK_EQ(pipe2(go, O_CLOEXEC), 0);
    for (int i = 0; i < 3; i++) {                     /* on both Ps: they are taken in turn */
        near[i] = must(gt_after_func(200 * MS, note_time, (void *)&came_at[0], NULL));
        far[i] = must(gt_after_func(900 * MS, note_time, (void *)&came_at[1], NULL));
    }
    th = thread_start(in_a_child, go);                /* sees the near ones pending, if it is in time */
    wait_until_noted(&came_at[0]);
    sleep_ms(50);
    CHECK_EQ(write(go[1], "x", 1), 1);
    thread_join(th);
    wait_until_noted(&came_at[1]);
    for (int i = 0; i < 3; i++) {
        CHECK_GE(gt_timer_free(near[i]), 0);
        CHECK_GE(gt_timer_free(far[i]), 0);
    }
    rt_stop_conserved();
    close(go[0]);
    close(go[1]);
}

/* ---- hand-over ---- */

/* Catches a hand-over that is done by any thread, and believes its "now": who looks after a P of
 * his own in the runtime's sched, with a time that is ahead of the clock, has the timerfd set for
 * that time, and the workers sleep until then. */
TEST(again_hand_over_believes_the_callers_now, 60)
{
    struct counter c = {0};
    gt_timer *soon_due, *mine;
    gt_sched *s = rt_start(2);
    gt_p *p = new_p(s);
    int64_t now;

    sleep_ms(20);                                     /* the workers are at rest now */
    now = gt_nanotime(s);
    soon_due = must(gt_after_func(200 * MS, note_time, (void *)&came_at[0], NULL));
    mine = new_timer(s, &c);
    CHECK_EQ(gt_addtimer_on(p, mine, now + 3000 * SEC, 0), 0);
    CHECK_EQ(gt_check_timers(p, now + 3600 * SEC, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    wait_until_noted(&came_at[0]);
    CHECK_EQ(gt_timer_free(soon_due), 0);
    CHECK_EQ(gt_timer_free(mine), 0);
    rt_stop_conserved();
    free_p(p);
}

/* ---- the runtime is started again ---- */

/* Catches a gt_runtime_start that takes every configuration with something set for another one
 * than that which the sched was made with. */
TEST(again_restart_with_the_same_config, 20)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2, .slack = MS, .lateness = 1}, other = cfg;
    gt_host h = {.size = sizeof h};

    cfg.host = &h;
    for (int i = 0; i < 3; i++) {
        cfg.workers = 1 + (uint32_t)i;                /* that may change */
        CHECK_EQ(gt_runtime_start(&cfg), 0);
        CHECK_EQ(gt_runtime_workers(), 1 + i);
        rt_stop();
    }
    CHECK_EQ(gt_runtime_start(NULL), 0);              /* as it is */
    rt_stop();
    CHECK_EQ(gt_runtime_start(&other), GT_EBUSY);     /* no host */
    other = cfg;
    other.slack = 2 * MS;
    CHECK_EQ(gt_runtime_start(&other), GT_EBUSY);
    other = cfg;
    other.lateness = 0;
    CHECK_EQ(gt_runtime_start(&other), GT_EBUSY);
    other = cfg;
    other.verify = 1;
    CHECK_EQ(gt_runtime_start(&other), GT_EBUSY);
    CHECK_EQ(gt_runtime_workers(), 0);
}
