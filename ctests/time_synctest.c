/* Threads that share a virtual clock, as in Go's testing/synctest: gt_synctest_join, _leave and
 * _wait; time passes when all of them are blocked, and not before. */
#include "rtkit.h"

#define YEAR ((int64_t)365 * 86400 * SEC)

static gt_sched *bubble;

struct member {
    pthread_t thread;
    int i, n;
    int64_t d, woke;
    gt_timer *t;
    int64_t got[100];
    int r;
};

static atomic_int joined, finished;

static void join(void) { CHECK_EQ(gt_synctest_join(bubble), 0); }

static void leave(void) { CHECK_EQ(gt_synctest_leave(bubble), 0); }

/* The first of the threads would see the clock move before the others have joined: so the
 * test itself is a member until all are there. */
static void all_joined(int n)
{
    wait_for(&joined, n);
    leave();
}

static void *sleeps(void *arg)
{
    struct member *m = arg;

    join();
    joined++;
    for (int i = 1; i <= m->n; i++) {
        int64_t before = gt_nanotime(bubble);

        CHECK_EQ(gt_sched_sleep(bubble, m->d), 0);
        CHECK_EQ(gt_nanotime(bubble), before + (m->d > 0 ? m->d : 0));
    }
    m->woke = gt_nanotime(bubble);
    leave();
    finished++;
    return NULL;
}

/* Years pass in no time, and each sleeper wakes exactly when it should. */
TEST(synctest_sleepers, 60)
{
    enum { N = 10 };
    struct member m[N] = {{0}};

    bubble = virtual_sched();
    join();
    for (int i = 0; i < N; i++) {
        m[i].d = YEAR / 20 + i * SEC;
        m[i].n = 20;
        m[i].thread = thread_start(sleeps, &m[i]);
    }
    CHECK_EQ(gt_nanotime(bubble), T0);
    all_joined(N);
    for (int i = 0; i < N; i++) {
        thread_join(m[i].thread);
        CHECK_EQ(m[i].woke, T0 + 20 * m[i].d);
    }
    CHECK_EQ(gt_nanotime(bubble), T0 + 20 * m[N - 1].d);
    check_conserved(bubble);
    close_sched(bubble);
}

/* A sleep of nothing does not move the clock. */
TEST(synctest_one_thread, 10)
{
    gt_p *p;

    bubble = virtual_sched();
    join();
    CHECK_EQ(gt_sched_sleep(bubble, 0), 0);
    CHECK_EQ(gt_sched_sleep(bubble, -1), 0);
    CHECK_EQ(gt_nanotime(bubble), T0);
    CHECK_EQ(gt_sched_sleep(bubble, YEAR), 0);
    CHECK_EQ(gt_nanotime(bubble), T0 + YEAR);
    p = new_p(bubble);
    CHECK_EQ(gt_sched_sleep(bubble, 5), 0);
    CHECK_EQ(gt_nanotime(bubble), T0 + YEAR + 5);
    leave();
    free_p(p);
    close_sched(bubble);
}

/* The clock stands while somebody runs. */
static void *works(void *arg)
{
    struct member *m = arg;

    join();
    joined++;
    wait_for(&joined, m->n);
    for (int i = 0; i < 20; i++) {
        int64_t now = gt_nanotime(bubble);

        sleep_ms(1);
        CHECK_EQ(gt_nanotime(bubble), now);
        CHECK_EQ(gt_sched_sleep(bubble, m->d), 0);
        CHECK_EQ(gt_nanotime(bubble), now + m->d);
    }
    leave();
    return NULL;
}

TEST(synctest_clock_stands_while_one_runs, 60)
{
    struct member m[2] = {{.d = 10, .n = 3}, {.d = 10, .n = 3}};

    bubble = virtual_sched();
    join();
    for (int i = 0; i < 2; i++)
        m[i].thread = thread_start(works, &m[i]);
    wait_for(&joined, 2);
    CHECK_EQ(gt_nanotime(bubble), T0);
    leave();
    joined++;
    for (int i = 0; i < 2; i++)
        thread_join(m[i].thread);
    CHECK_EQ(gt_nanotime(bubble), T0 + 200);
    close_sched(bubble);
}

/* Receivers count as blocked too, and what is due runs before anybody goes on. */
static void *receives(void *arg)
{
    struct member *m = arg;

    join();
    joined++;
    for (int i = 0; i < m->n; i++)
        CHECK_EQ(gt_timer_recv(m->t, &m->got[i]), 0);
    leave();
    finished++;
    return NULL;
}

TEST(synctest_receivers, 60)
{
    struct member m[3] = {{0}};
    struct counter c = {0};
    gt_timer *f;

    bubble = virtual_sched();
    join();
    f = must(gt_sched_after_func(bubble, 55, count_run, &c, NULL));
    for (int i = 0; i < 3; i++) {
        m[i].t = must(gt_sched_new_ticker(bubble, 10 * (i + 1)));
        m[i].n = 10;
        m[i].thread = thread_start(receives, &m[i]);
    }
    wait_for(&joined, 3);
    CHECK_EQ(gt_sched_sleep(bubble, 56), 0);
    CHECK_EQ(gt_nanotime(bubble), T0 + 56);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(c.delay, 0);
    leave();
    for (int i = 0; i < 3; i++) {
        thread_join(m[i].thread);
        for (int k = 0; k < 10; k++)
            CHECK_EQ(m[i].got[k], T0 + 10 * (i + 1) * (k + 1));
        CHECK_EQ(gt_timer_free(m[i].t), 1);
    }
    CHECK_EQ(gt_timer_free(f), 0);
    check_conserved(bubble);
    close_sched(bubble);
}

/* wait: returns when all others are blocked; no time passes. */
TEST(synctest_wait_for_the_others, 60)
{
    enum { N = 5 };
    struct member m[N] = {{0}};

    bubble = virtual_sched();
    join();
    CHECK_EQ(gt_synctest_wait(bubble), 0);             /* no others */
    for (int i = 0; i < N; i++) {
        m[i].d = 100 + i;
        m[i].n = 1;
        m[i].thread = thread_start(sleeps, &m[i]);
    }
    wait_for(&joined, N);
    CHECK_EQ(gt_synctest_wait(bubble), 0);
    CHECK_EQ(gt_nanotime(bubble), T0);
    CHECK_EQ(get_stats(bubble).pending, N);            /* they sleep, all of them */
    CHECK_EQ(gt_sched_sleep(bubble, 99), 0);
    CHECK_EQ(gt_synctest_wait(bubble), 0);
    CHECK_EQ(get_stats(bubble).pending, N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(gt_sched_sleep(bubble, 1), 0);        /* as late as the i-th: it gets on before wait returns */
        CHECK_EQ(gt_synctest_wait(bubble), 0);
        CHECK_EQ(gt_nanotime(bubble), T0 + 100 + i);
        CHECK_EQ(m[i].woke, T0 + 100 + i);
        CHECK_EQ(get_stats(bubble).pending, N - 1 - i);
    }
    leave();
    for (int i = 0; i < N; i++)
        thread_join(m[i].thread);
    close_sched(bubble);
}

/* A member that resets what another waits on: time stands still meanwhile. */
TEST(synctest_reset_for_another, 60)
{
    struct member m = {.n = 3};

    bubble = virtual_sched();
    join();
    m.t = must(gt_sched_new_timer(bubble, YEAR));
    m.thread = thread_start(receives, &m);
    wait_for(&joined, 1);
    CHECK_EQ(gt_synctest_wait(bubble), 0);
    CHECK_EQ(gt_timer_reset(m.t, 5), 1);
    CHECK_EQ(gt_sched_sleep(bubble, 10), 0);
    CHECK_EQ(gt_synctest_wait(bubble), 0);
    CHECK_EQ(m.got[0], T0 + 5);
    CHECK_EQ(gt_timer_reset(m.t, 0), 0);
    CHECK_EQ(gt_sched_sleep(bubble, 1), 0);
    CHECK_EQ(gt_synctest_wait(bubble), 0);
    CHECK_EQ(m.got[1], T0 + 10);
    CHECK_EQ(gt_timer_reset(m.t, YEAR), 0);
    leave();                                           /* the receiver alone is left: on to its deadline */
    thread_join(m.thread);
    CHECK_EQ(m.got[2], T0 + 11 + YEAR);
    CHECK_EQ(gt_timer_free(m.t), 0);
    check_conserved(bubble);
    close_sched(bubble);
}

/* Nothing would ever wake it: the thread is told instead, and can mend it. */
TEST(synctest_deadlock_is_told, 60)
{
    gt_timer *t;
    int64_t sent;

    bubble = virtual_sched();
    join();
    t = must(gt_sched_new_timer(bubble, 10));
    CHECK_EQ(gt_timer_stop(t), 1);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(gt_timer_recv(t, &sent), GT_EDEADLK);
        CHECK_EQ(gt_sched_sleep(bubble, INT64_MAX), GT_EDEADLK);
        CHECK_EQ(gt_nanotime(bubble), T0 + 10 * i);
        CHECK_EQ(gt_timer_reset(t, 10), 0);
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_EQ(sent, T0 + 10 * (i + 1));
    }
    leave();
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(bubble);
    CHECK_EQ(get_stats(bubble).pending, 0);
    close_sched(bubble);
}

/* Others that are blocked, until somebody resets their timer, hold nobody up. */
TEST(synctest_wait_while_one_is_stuck, 60)
{
    struct member m = {.n = 1};

    bubble = virtual_sched();
    join();
    m.t = must(gt_sched_new_timer(bubble, 10));
    CHECK_EQ(gt_timer_stop(m.t), 1);
    m.thread = thread_start(receives, &m);
    wait_for(&joined, 1);
    CHECK_EQ(gt_synctest_wait(bubble), 0);
    CHECK_EQ(gt_nanotime(bubble), T0);
    m.r = gt_timer_reset(m.t, 10);
    CHECK_EQ(m.r, 0);
    leave();
    thread_join(m.thread);
    CHECK_EQ(m.got[0], T0 + 10);
    CHECK_EQ(gt_timer_free(m.t), 0);
    close_sched(bubble);
}

/* All are told: who blocked first, too, and those whom the last one leaves behind. */
static void *stuck(void *arg)
{
    struct member *m = arg;

    join();
    joined++;
    m->r = gt_timer_recv(m->t, NULL);
    leave();
    return NULL;
}

TEST(synctest_deadlock_of_many, 60)
{
    enum { N = 4 };

    for (int how = 0; how < 2; how++) {
        struct member m[N] = {{0}};
        gt_timer *t;

        bubble = virtual_sched();
        joined = 0;
        join();
        t = must(gt_sched_new_timer(bubble, 10));
        CHECK_EQ(gt_timer_stop(t), 1);
        for (int i = 0; i < N; i++) {
            m[i].t = t;
            m[i].thread = thread_start(stuck, &m[i]);
        }
        wait_for(&joined, N);
        CHECK_EQ(gt_synctest_wait(bubble), 0);
        if (how == 0)
            CHECK_EQ(gt_sched_sleep(bubble, INT64_MAX), GT_EDEADLK);
        leave();
        for (int i = 0; i < N; i++) {
            thread_join(m[i].thread);
            CHECK_EQ(m[i].r, GT_EDEADLK);
        }
        CHECK_EQ(gt_nanotime(bubble), T0);
        CHECK_EQ(gt_timer_reset(t, 5), 0);             /* no receiver is left in its queue */
        CHECK_GE(gt_sched_advance(bubble, 5), 0);
        CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(bubble);
        close_sched(bubble);
    }
}

/* A callback that the clock runs on a member's thread may not wait for the clock. */
static void waits_in_callback(void *arg, uintptr_t seq, int64_t delay)
{
    gt_timer *t = must(gt_sched_new_timer(bubble, 5));

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_sched_sleep(bubble, 5), GT_EDEADLK);
    CHECK_EQ(gt_timer_recv(t, NULL), GT_EDEADLK);
    CHECK_EQ(gt_synctest_wait(bubble), GT_EDEADLK);
    CHECK_EQ(gt_timer_free(t), 1);
    ++*(int *)arg;
}

TEST(synctest_callback_may_not_wait, 30)
{
    int runs = 0;
    gt_timer *t;

    bubble = virtual_sched();
    join();
    t = must(gt_sched_after_func(bubble, 10, waits_in_callback, &runs, NULL));
    CHECK_EQ(gt_sched_sleep(bubble, 100), 0);
    CHECK_EQ(runs, 1);
    CHECK_EQ(gt_nanotime(bubble), T0 + 100);
    leave();
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(bubble);
    CHECK_EQ(get_stats(bubble).pending, 0);
    close_sched(bubble);
}

static void *waits_twice(void *arg)
{
    struct member *m = arg;

    join();
    joined++;
    wait_for(&joined, 2);
    m->r = gt_synctest_wait(bubble);
    leave();
    return NULL;
}

/* Two wait for all others: one of them is told, or they take turns; none hangs. */
TEST(synctest_two_who_wait, 60)
{
    struct member m[2] = {{0}};

    bubble = virtual_sched();
    for (int i = 0; i < 2; i++)
        m[i].thread = thread_start(waits_twice, &m[i]);
    for (int i = 0; i < 2; i++)
        thread_join(m[i].thread);
    for (int i = 0; i < 2; i++)
        CHECK(m[i].r == 0 || m[i].r == GT_EBUSY);
    CHECK(m[0].r == 0 || m[1].r == 0);
    close_sched(bubble);
}

TEST(synctest_errors, 10)
{
    gt_sched *s = virtual_sched(), *other = virtual_sched(), *real = new_sched(GT_CLOCK_MONOTONIC);

    CHECK_EQ(gt_synctest_join(NULL), GT_EINVAL);
    CHECK_EQ(gt_synctest_leave(NULL), GT_EINVAL);
    CHECK_EQ(gt_synctest_wait(NULL), GT_EINVAL);
    CHECK_EQ(gt_synctest_join(real), GT_EOPNOTSUPP);
    CHECK_EQ(gt_synctest_leave(real), GT_EINVAL);
    CHECK_EQ(gt_synctest_wait(real), GT_EINVAL);
    CHECK_EQ(gt_synctest_leave(s), GT_EINVAL);         /* not a member */
    CHECK_EQ(gt_synctest_wait(s), GT_EINVAL);
    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_synctest_join(s), GT_EBUSY);           /* twice */
    CHECK_EQ(gt_synctest_join(other), GT_EBUSY);       /* or in two */
    CHECK_EQ(gt_synctest_leave(other), GT_EINVAL);
    CHECK_EQ(gt_synctest_leave(s), 0);
    CHECK_EQ(gt_synctest_leave(s), GT_EINVAL);
    CHECK_EQ(gt_synctest_join(s), 0);                  /* and again */
    CHECK_EQ(gt_sched_sleep(s, 7), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 7);
    CHECK_EQ(gt_synctest_leave(s), 0);
    close_sched(s);
    close_sched(other);
    close_sched(real);
}
