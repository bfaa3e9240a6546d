/* Counterparts of the tests of Go's internal/synctest and testing/synctest that concern timers
 * and Wait: threads in a bubble with a virtual clock that moves on when all of them are blocked.
 * Where Go's tests block goroutines on channels, ours block threads in gt_sched_sleep,
 * gt_timer_recv and gt_synctest_wait, which are what a bubble of ours knows. The second half is in
 * gotest_bubble.c. See gotest.h. */
#include "gotest.h"

/* ---- the clock ---- */

static void now_too(void *s) { CHECK_EQ(gt_nanotime(s), T0); }

static void now(gt_sched *s)
{
    struct bubble_thread b;

    CHECK_EQ(gt_nanotime(s), 946684800 * SEC);       /* midnight UTC 2000-01-01 */
    bubble_go(&b, s, now_too, s);
    bubble_end(&b);
    CHECK_EQ(gt_sched_sleep(s, 1 * SEC), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 1 * SEC);
}

TEST(gotest_now, 60) { bubble_run(now); }

/* A virtual clock that is set to the real one, and times of both that are compared. */
TEST(gotest_monotonic_clock, 60)
{
    gt_sched *wall = new_sched(GT_CLOCK_WALL), *s = virtual_sched();
    int64_t start = gt_nanotime(wall);

    CHECK_GT(start, T0);                             /* it is after 2000 */
    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_sched_sleep(s, start - T0), 0);
    CHECK_EQ(gt_nanotime(s), start);
    CHECK_EQ(gt_sched_sleep(s, 1 * SEC), 0);
    CHECK_EQ(gt_nanotime(s) - start, 1 * SEC);
    CHECK_EQ(gt_sched_set_time(s, start + 2 * SEC), 0);
    CHECK_EQ(gt_nanotime(s) - start, 2 * SEC);
    CHECK_EQ(gt_synctest_leave(s), 0);
    close_sched(s);
    close_sched(wall);
}

static void empty(gt_sched *s) { (void)s; }
TEST(gotest_run_empty, 60) { bubble_run(empty); }

/* ---- Wait ---- */

static void simple_wait(gt_sched *s)
{
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(gt_nanotime(s), T0);                    /* a wait does not move the clock */
}
TEST(gotest_simple_wait, 60) { bubble_run(simple_wait); }

static void returns(void *arg) { (void)arg; }

static void goroutine_wait(gt_sched *s)
{
    bubble_spawn(s, returns, NULL);
    CHECK_EQ(gt_synctest_wait(s), 0);
}
TEST(gotest_goroutine_wait, 60) { bubble_run(goroutine_wait); }

/* A chain of threads, each of which starts the next one: Wait returns when the last is gone. */
struct relay {
    gt_sched *s;
    int left, done;                                  /* not atomic: Wait orders */
};

static void relay(void *arg)
{
    struct relay *r = arg;

    if (--r->left > 0)
        bubble_spawn(r->s, relay, r);
    else
        r->done = 1;
}

static void wait_chain(gt_sched *s)
{
    struct relay r = {.s = s, .left = rounds(100)};

    bubble_spawn(s, relay, &r);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(r.done, 1);
    CHECK_EQ(gt_nanotime(s), T0);
}
TEST(gotest_wait, 120) { bubble_run(wait_chain); }

/* ---- timers in a bubble ---- */

static void read_before_deadline(gt_sched *s)
{
    gt_timer *t = gt_sched_new_timer(s, 5 * SEC);

    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 5 * SEC);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_timer_read_before_deadline, 60) { bubble_run(read_before_deadline); }

static void read_after_deadline(gt_sched *s)
{
    gt_timer *t = gt_sched_new_timer(s, 1 * SEC);
    int64_t sent;

    CHECK_EQ(gt_sched_sleep(s, 2 * SEC), 0);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, T0 + 1 * SEC);
    CHECK_EQ(gt_nanotime(s), T0 + 2 * SEC);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_timer_read_after_deadline, 60) { bubble_run(read_after_deadline); }

static void timer_reset(gt_sched *s)
{
    gt_timer *t = gt_sched_new_timer(s, 1 * SEC);
    int64_t sent;

    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, T0 + 1 * SEC);
    CHECK_EQ(gt_timer_reset(t, 2 * SEC), 0);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, T0 + 3 * SEC);
    CHECK_EQ(gt_timer_reset(t, 3 * SEC), 0);
    CHECK_EQ(gt_sched_sleep(s, 1 * SEC), 0);
    CHECK_EQ(gt_timer_reset(t, 3 * SEC), 1);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, T0 + 7 * SEC);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_timer_reset, 60) { bubble_run(timer_reset); }

/* A function that starts a thread of the bubble, which sleeps in it. */
struct after {
    gt_sched *s;
    int i;
};

static void one_more_later(void *arg)
{
    struct after *a = arg;

    CHECK_EQ(gt_sched_sleep(a->s, 1 * SEC), 0);
    a->i++;
}

static void one_more(void *arg, uintptr_t seq, int64_t delay)
{
    struct after *a = arg;

    (void)seq;
    CHECK_EQ(delay, 0);
    CHECK_EQ(gt_nanotime(a->s), T0 + 1 * SEC);
    a->i++;
    bubble_spawn(a->s, one_more_later, a);
}

static void time_after(gt_sched *s)
{
    static struct after a;
    gt_timer *t;

    a.s = s;
    t = gt_sched_after_func(s, 1 * SEC, one_more, &a, NULL);
    CHECK_EQ(gt_sched_sleep(s, 3 * SEC), 0);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(a.i, 2);
    CHECK_EQ(gt_nanotime(s), T0 + 3 * SEC);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_time_after, 60) { bubble_run(time_after); }

/* The last thread leaves: time stops, and what was armed does not fire. */
TEST(gotest_timer_after_bubble_exit, 60)
{
    struct counter c = {0};
    gt_sched *s = virtual_sched();
    gt_timer *t;

    CHECK_EQ(gt_synctest_join(s), 0);
    t = gt_sched_after_func(s, 1 * SEC, count_run, &c, NULL);
    CHECK_EQ(gt_synctest_leave(s), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    close_sched(s);
}

/* Waiting for a timer of another clock is no rest: the bubble's time stands still meanwhile. */
static void sleeps_too(void *s) { CHECK_EQ(gt_sched_sleep(s, HOUR), 0); }

static void from_outside(gt_sched *s)
{
    gt_timer *t = gt_new_timer(30 * MS);

    bubble_spawn(s, sleeps_too, s);
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_timer_stop(t), 0);
    CHECK_EQ(gt_timer_free(t), 0);
}

TEST(gotest_timer_from_outside_bubble, 60)
{
    rt_start(1);
    bubble_run(from_outside);
    rt_stop_conserved();
}

/* A thread outside the bubble may stop, reset and receive from a timer of it (Go throws): it
 * is not counted, and does not move the clock. */
struct inside {
    gt_timer *t;
    atomic_int waiting;
    int64_t sent;
};

static void *receives_outside(void *arg)
{
    struct inside *in = arg;

    in->waiting = 1;
    CHECK_EQ(gt_timer_recv(in->t, &in->sent), 0);
    return NULL;
}

static void *touches_outside(void *arg)
{
    struct inside *in = arg;

    CHECK_EQ(gt_timer_stop(in->t), 1);
    CHECK_EQ(gt_timer_reset(in->t, 2 * SEC), 0);
    return NULL;
}

static void from_inside(gt_sched *s)
{
    struct inside in = {.t = gt_sched_new_timer(s, 1 * SEC)};
    pthread_t th;

    run_threads(1, touches_outside, &in, 0);
    CHECK_EQ(gt_nanotime(s), T0);
    th = thread_start(receives_outside, &in);
    wait_for(&in.waiting, 1);
    sleep_ms(5);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_sched_sleep(s, 3 * SEC), 0);
    thread_join(th);
    CHECK_EQ(in.sent, T0 + 2 * SEC);
    CHECK_EQ(gt_timer_free(in.t), 0);
}
TEST(gotest_timer_from_inside_bubble, 60) { bubble_run(from_inside); }

/* ---- timers for now, and for the past ---- */

static void runs_immediately(gt_sched *s)
{
    gt_timer *t = gt_sched_new_timer(s, 0);
    int64_t sent;

    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);        /* without anybody blocking first */
    CHECK_EQ(sent, T0);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_timer_runs_immediately, 60) { bubble_run(runs_immediately); }

static void ran_in_past(gt_sched *s)
{
    gt_timer *t = gt_sched_new_timer(s, 1 * SEC);
    int64_t sent;

    CHECK_EQ(gt_sched_sleep(s, 2 * SEC), 0);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, T0 + 1 * SEC);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_timer_ran_in_past, 60) { bubble_run(ran_in_past); }

/* A function for now runs before Wait returns, and the clock stands. (In Go it runs even while
 * the caller is busy; a C function has no goroutine of its own to run in.) */
static void func_immediately(gt_sched *s)
{
    struct counter c = {0};
    gt_timer *t = gt_sched_after_func(s, 0, count_run, &c, NULL);

    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(c.delay, 0);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_after_func_runs_immediately, 60) { bubble_run(func_immediately); }

/* A thread takes each value of a timer until the timer is freed. */
struct taker {
    gt_timer *t;
    int taken;
};

static void takes_all(void *arg)
{
    struct taker *k = arg;
    int r;

    while ((r = gt_timer_recv(k->t, NULL)) == 0)
        k->taken++;
    CHECK_EQ(r, GT_ESTALE);
}

static void reset_zero(gt_sched *s)
{
    static struct taker k;

    k.t = gt_sched_new_timer(s, 0);
    bubble_spawn(s, takes_all, &k);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(k.taken, 1);
    for (int i = 2; i < 10; i++) {
        CHECK_EQ(gt_timer_reset(k.t, 0), 0);
        CHECK_EQ(gt_synctest_wait(s), 0);
        CHECK_EQ(k.taken, i);
    }
    CHECK_EQ(gt_timer_free(k.t), 0);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(gt_nanotime(s), T0);
}
TEST(gotest_timer_reset_zero_do_not_hang, 60) { bubble_run(reset_zero); }
