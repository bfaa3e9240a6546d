/* Rule S18 for package time, the runtime and netpoll: what a fork child has after gt_after_fork,
 * whatever the threads that fork left behind were doing. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- channels: lost receivers, and descriptors that the parent has too ---- */

struct channels {
    gt_sched *s;
    gt_p *p;
    gt_timer *t, *tick, *other;
    int fd;
};

static void channels_in_child(void *arg)
{
    struct channels *ch = arg;
    int64_t sent;

    CHECK_EQ(gt_after_fork(), 0);
    check_conserved(ch->s);
    CHECK_EQ(get_stats(ch->s).pending, 3);
    CHECK_EQ(gt_sched_advance(ch->s, 100), 1);
    CHECK_EQ(gt_timer_try_recv(ch->t, &sent), 1);      /* the receiver is lost: the value is there */
    CHECK_EQ(sent, T0 + 100);
    CHECK_EQ(gt_timer_recv(ch->tick, &sent), 0);
    CHECK_EQ(sent, T0 + 50);
    CHECK_EQ(gt_timer_fd(ch->other), ch->fd);
    CHECK_EQ(readable(ch->fd), 1);
    CHECK_EQ(gt_timer_stop(ch->other), 1);
    CHECK_EQ(readable(ch->fd), 0);
    CHECK_EQ(gt_timer_reset(ch->other, 5), 0);
    CHECK_EQ(gt_sched_advance(ch->s, 5), 1);
    CHECK_EQ(readable(ch->fd), 1);
    CHECK_EQ(gt_timer_free(ch->t), 0);
    CHECK_EQ(gt_timer_free(ch->tick), 1);
    CHECK_EQ(gt_timer_free(ch->other), 1);
    check_conserved(ch->s);
    CHECK_EQ(gt_p_free(ch->p), 0);
    close_sched(ch->s);
    child_is_done();
}

TEST(fork_channels, 60)
{
    struct channels ch;
    struct waiter w[2];

    ch.s = virtual_sched();
    ch.p = new_p(ch.s);
    ch.t = must(gt_sched_new_timer(ch.s, 100));
    ch.tick = must(gt_sched_new_ticker(ch.s, 50));
    ch.other = must(gt_sched_new_timer(ch.s, 80));
    ch.fd = gt_timer_fd(ch.other);
    receiver_start(&w[0], ch.t);
    receiver_start(&w[1], ch.tick);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(waiter_blocked(&w[i]), 1);
    in_child(channels_in_child, &ch);
    CHECK_EQ(readable(ch.fd), 0);                       /* what the child did is not seen here */
    CHECK_EQ(gt_timer_try_recv(ch.other, NULL), 0);
    CHECK_EQ(gt_sched_advance(ch.s, 100), 1);
    CHECK_EQ(readable(ch.fd), 1);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(waiter_join(&w[i]), 0);
    CHECK_EQ(w[0].sent, T0 + 100);
    CHECK_EQ(w[1].sent, T0 + 50);
    CHECK_EQ(gt_timer_free(ch.t), 0);
    CHECK_EQ(gt_timer_free(ch.tick), 1);
    CHECK_EQ(gt_timer_free(ch.other), 1);
    check_conserved(ch.s);
    free_p(ch.p);
    close_sched(ch.s);
}

/* Sleepers that were threads are lost, and their stacks are used again by the child's threads:
 * nothing may be looked for there when their time comes. */
static void *scribbles(void *arg)
{
    volatile char stack[60000];

    memset((void *)stack, 0xee, sizeof stack);
    sleep_ms(5);
    return (void *)(uintptr_t)(stack[100] + (arg != NULL));
}

static void sleepers_in_child(void *arg)
{
    gt_sched *s = arg;
    pthread_t th[8];

    CHECK_EQ(gt_after_fork(), 0);
    for (int i = 0; i < 8; i++)
        th[i] = thread_start(scribbles, NULL);
    CHECK_GE(gt_sched_advance(s, 100), 0);
    for (int i = 0; i < 8; i++)
        thread_join(th[i]);
    CHECK_GE(gt_sched_advance(s, 100), 0);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 0);
    close_sched(s);
    child_is_done();
}

TEST(fork_sleepers, 60)
{
    gt_sched *s = virtual_sched();
    struct waiter w[4];

    for (int i = 0; i < 4; i++)
        sleeper_start(&w[i], s, 100 + i);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(waiter_blocked(&w[i]), 1);
    if (threads_are_ours())
        in_child(sleepers_in_child, s);
    CHECK_EQ(gt_sched_advance(s, 103), 1);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(waiter_join(&w[i]), 0);
    check_conserved(s);
    close_sched(s);
}

/* Who has slept already is no sleeper any more, though his timer's node still says what it was for:
 * nobody may look for him on his stack. */
static void *sleeps(void *arg)
{
    CHECK_EQ(gt_sched_sleep(arg, 100), 0);
    return NULL;
}

static void slept_in_child(void *arg)
{
    CHECK_EQ(gt_after_fork(), 0);
    check_conserved(arg);
    CHECK_EQ(get_stats(arg).timers, 0);
    close_sched(arg);
    child_is_done();
}

TEST(fork_after_a_sleep, 60)
{
    enum { STACK = 1 << 20 };
    gt_sched *s = virtual_sched();
    void *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attr;
    pthread_t th;

    CHECK(stack != MAP_FAILED);
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setstack(&attr, stack, STACK), 0);
    CHECK_EQ(pthread_create(&th, &attr, sleeps, s), 0);
    while (get_stats(s).pending == 0)
        sleep_ms(1);
    CHECK_EQ(gt_sched_advance(s, 100), 1);
    thread_join(th);
    CHECK_EQ(munmap(stack, STACK), 0);
    if (threads_are_ours())
        in_child(slept_in_child, s);
    close_sched(s);
}

/* A bubble: in the child only the thread that forked is a member. */
struct bubble {
    gt_sched *s;
    atomic_int joined;
};

static void *member(void *arg)
{
    struct bubble *b = arg;

    CHECK_EQ(gt_synctest_join(b->s), 0);
    b->joined = 1;
    CHECK_EQ(gt_sched_sleep(b->s, 100), 0);
    CHECK_EQ(gt_synctest_leave(b->s), 0);
    return NULL;
}

static void bubble_in_child(void *arg)
{
    struct bubble *b = arg;

    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_sched_sleep(b->s, 1000), 0);
    CHECK_EQ(gt_nanotime(b->s), T0 + 1000);
    CHECK_EQ(gt_synctest_wait(b->s), 0);
    CHECK_EQ(gt_synctest_leave(b->s), 0);
    child_is_done();
}

TEST(fork_bubble, 60)
{
    struct bubble b = {.joined = 0};
    pthread_t th;

    b.s = virtual_sched();
    CHECK_EQ(gt_synctest_join(b.s), 0);
    th = thread_start(member, &b);
    wait_for(&b.joined, 1);
    CHECK_EQ(gt_synctest_wait(b.s), 0);
    in_child(bubble_in_child, &b);
    CHECK_EQ(gt_nanotime(b.s), T0);
    CHECK_EQ(gt_synctest_leave(b.s), 0);
    thread_join(th);
    CHECK_EQ(gt_nanotime(b.s), T0 + 100);
    check_conserved(b.s);
    close_sched(b.s);
}

/* The thread that moves the clock forks in a callback which it runs meanwhile: in the child it goes
 * on so, and its own wait ends in time. */
static struct {
    gt_sched *s;
    atomic_int joined, runs;
    int in_child;
} forked;

static void *other_member(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_synctest_join(forked.s), 0);
    forked.joined = 1;
    CHECK_EQ(gt_sched_sleep(forked.s, 20 * MS), 0);
    CHECK_EQ(gt_synctest_leave(forked.s), 0);
    return NULL;
}

static void forks(void *arg, uintptr_t seq, int64_t delay)
{
    int status;
    pid_t pid;

    (void)arg;
    (void)seq;
    (void)delay;
    if (forked.in_child)
        return;
    forked.runs++;
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        alarm(100);
        forked.in_child = 1;
        CHECK_EQ(gt_after_fork(), 0);
        CHECK_EQ(gt_sched_sleep(forked.s, MS), GT_EDEADLK);   /* it still drives */
        return;
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        test_failed(__FILE__, __LINE__, "the child ended with wait status 0x%x", status);
}

static void sleeps_meanwhile(gt_timer *chan)
{
    (void)chan;
    CHECK_EQ(gt_sched_sleep(forked.s, 3 * MS), 0);
    CHECK_EQ(gt_nanotime(forked.s), T0 + 3 * MS);
}

static void receives_meanwhile(gt_timer *chan)
{
    int64_t sent;

    CHECK_EQ(gt_timer_recv(chan, &sent), 0);
    CHECK_EQ(sent, T0 + 5 * MS);
    CHECK_EQ(gt_nanotime(forked.s), T0 + 5 * MS);
}

static void waits_meanwhile(gt_timer *chan)
{
    (void)chan;
    CHECK_EQ(gt_synctest_wait(forked.s), 0);
    CHECK_EQ(gt_nanotime(forked.s), T0);
}

static void forks_meanwhile(void (*waits)(gt_timer *chan), int64_t d)
{
    gt_timer *t, *chan;
    pthread_t th;

    forked.joined = forked.runs = 0;
    forked.s = virtual_sched();
    chan = must(gt_sched_new_timer(forked.s, 5 * MS));
    CHECK_EQ(gt_synctest_join(forked.s), 0);
    th = thread_start(other_member, NULL);
    wait_for(&forked.joined, 1);
    CHECK_EQ(gt_synctest_wait(forked.s), 0);        /* so this thread is the last one to block */
    settle_for_fork();
    t = must(gt_sched_after_func(forked.s, d, forks, NULL, NULL));
    waits(chan);
    CHECK_EQ(forked.runs, 1);
    CHECK_EQ(gt_sched_sleep(forked.s, 10 * MS), 0);
    CHECK_EQ(gt_synctest_wait(forked.s), 0);
    CHECK_EQ(gt_synctest_leave(forked.s), 0);
    if (!forked.in_child)
        thread_join(th);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_GE(gt_timer_free(chan), 0);
    check_conserved(forked.s);
    CHECK_EQ(get_stats(forked.s).timers, 0);
    close_sched(forked.s);
    if (forked.in_child) {
        child_is_done();
        _exit(0);
    }
}

TEST(fork_in_a_callback_of_the_bubbles_driver, 60)
{
    needs_own_threads();
    forks_meanwhile(sleeps_meanwhile, MS);
    forks_meanwhile(receives_meanwhile, MS);
    forks_meanwhile(waits_meanwhile, 0);
}

/* ---- netpoll ---- */

struct polled {
    int fd[2];
    gt_netpoll *pd;
    struct waiter w;
};

static int wait_read(struct waiter *w) { return gt_netpoll_wait(w->arg, GT_READ); }

static void polled_in_child(void *arg)
{
    struct polled *n = arg;
    gt_sched *s;
    int64_t at;
    char ch;

    CHECK_EQ(gt_after_fork(), 0);
    s = rt_start(2);
    at = gt_nanotime(s) + MS;
    CHECK_EQ(gt_netpoll_set_deadline(n->pd, GT_READ, at), 0);
    while (gt_netpoll_wait(n->pd, GT_READ) == 0) {}      /* nobody else waits here any more */
    CHECK_EQ(gt_netpoll_wait(n->pd, GT_READ), GT_ETIMEDOUT);
    CHECK_GE(gt_nanotime(s), at);
    CHECK_EQ(gt_netpoll_set_deadline(n->pd, GT_READ, 0), 0);
    CHECK_EQ(write(n->fd[1], "c", 1), 1);
    CHECK_EQ(gt_netpoll_wait(n->pd, GT_READ), 0);
    while (read(n->fd[0], &ch, 1) != 1)
        CHECK_EQ(gt_netpoll_wait(n->pd, GT_READ), 0);
    CHECK_EQ(gt_netpoll_close(n->pd), 0);
    n->pd = gt_netpoll_open(n->fd[0]);
    CHECK(n->pd != NULL);
    CHECK_EQ(gt_netpoll_close(n->pd), 0);
    rt_stop_conserved();
    child_is_done();
}

TEST(fork_netpoll, 60)
{
    needs_own_threads();
    for (int waiting = 0; waiting < 2; waiting++) {
        struct polled n = {.pd = NULL};
        char ch;
        int r;

        rt_start(2);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, n.fd), 0);
        n.pd = gt_netpoll_open(n.fd[0]);
        CHECK(n.pd != NULL);
        if (waiting) {
            n.w.arg = n.pd;
            waiter_start(&n.w, wait_read);
            CHECK_EQ(waiter_blocked(&n.w), 1);
        }
        in_child(polled_in_child, &n);
        if (waiting) {
            /* the socket is shared: the child's byte may have been seen here too */
            if (waiter_blocked(&n.w))
                CHECK_EQ(write(n.fd[1], "p", 1), 1);
            CHECK_EQ(waiter_join(&n.w), 0);
        }
        while (read(n.fd[0], &ch, 1) == 1) {}
        CHECK_EQ(gt_netpoll_set_deadline(n.pd, GT_READ, gt_nanotime(gt_runtime_sched()) + MS), 0);
        while ((r = gt_netpoll_wait(n.pd, GT_READ)) == 0) {}
        CHECK_EQ(r, GT_ETIMEDOUT);
        CHECK_EQ(gt_netpoll_close(n.pd), 0);
        close(n.fd[0]);
        close(n.fd[1]);
        rt_stop_conserved();
    }
}

/* ---- while everything is busy ---- */

static atomic_int busy_stop;
static atomic_long busy_runs;

static void busy_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    busy_runs++;
}

static gt_timer *shared;

static void *busy(void *arg)
{
    uint64_t rng = test_seed() + (uintptr_t)arg;
    gt_timer *t = must(gt_new_ticker(200 * US));
    gt_netpoll *pd;
    int fd[2];

    CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    while (!busy_stop) {
        switch (rng_below(&rng, 6)) {
        case 0: CHECK_EQ(gt_timer_recv(t, NULL), 0); break;
        case 1: CHECK_GE(gt_timer_reset(t, 100 * US), 0); break;
        case 2: CHECK_EQ(gt_timer_detach(must(gt_after_func((int64_t)rng_below(&rng, 500 * (uint64_t)US), busy_run, NULL, NULL))), 0); break;
        case 3:
            CHECK_GE(gt_timer_reset(shared, (int64_t)rng_below(&rng, 100 * (uint64_t)US)), 0);
            CHECK_GE(gt_timer_try_recv(shared, NULL), 0);
            break;
        case 4: CHECK_EQ(gt_sleep(50 * US), 0); break;
        default:
            pd = gt_netpoll_open(fd[0]);
            CHECK(pd != NULL);
            CHECK_EQ(gt_netpoll_set_deadline(pd, GT_READ, gt_nanotime(gt_runtime_sched()) + 100 * US), 0);
            while (gt_netpoll_wait(pd, GT_READ) == 0) {}
            CHECK_EQ(gt_netpoll_close(pd), 0);
            break;
        }
    }
    CHECK_EQ(gt_timer_free(t), 1);
    close(fd[0]);
    close(fd[1]);
    return NULL;
}

static void busy_in_child(void *arg)
{
    struct counter c = {0};
    gt_timer *t;
    int64_t limit;

    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_runtime_workers(), 0);
    rt_start(2);
    t = must(gt_after_func(MS, count_run, &c, count_drop));
    wait_for(&c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    t = must(gt_new_timer(MS));
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_GE(gt_timer_reset(shared, MS), 0);
    CHECK_EQ(gt_timer_recv(shared, NULL), 0);
    CHECK_EQ(gt_timer_free(shared), 0);
    /* what was armed fires, or stays as the tickers of the lost threads do: nothing hangs */
    limit = mono_now() + 20 * MS;
    while (mono_now() < limit)
        CHECK_EQ(gt_sleep(MS), 0);
    rt_stop_conserved();
    child_is_done();
}

TEST(fork_while_busy, 240)
{
    pthread_t th[4];

    needs_own_threads();
#if defined(__SANITIZE_ADDRESS__)
    test_skip("AddressSanitizer's allocator may be held over the fork");
#endif
    for (int round = 0; round < 3; round++) {
        busy_stop = 0;
        rt_start(1 + (uint32_t)round);
        shared = must(gt_new_timer(MS));
        for (int i = 0; i < 4; i++)
            th[i] = thread_start(busy, (void *)(uintptr_t)i);
        for (int i = 0; i < 15; i++) {
            sleep_ms(i % 4);
            in_child(busy_in_child, NULL);
        }
        busy_stop = 1;
        for (int i = 0; i < 4; i++)
            thread_join(th[i]);
        CHECK_GE(gt_timer_free(shared), 0);
        rt_stop_conserved();
    }
}
