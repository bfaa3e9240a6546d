/* Counterparts of the tests of Go's internal/synctest and testing/synctest, second half: what Wait
 * orders, order within one instant, and deadlocks. The first half is in gotest_synctest.c. See
 * gotest.h. */
#include "gotest.h"

struct after {
    gt_sched *s;
    int i;
};

/* ---- what Wait orders ---- */

/* Plain variables: ThreadSanitizer sees whether Wait, the timers and leaving the bubble order
 * what touches them. */
struct hb {
    int v[2];
    gt_timer *go;
};

static void adds_0(void *arg) { ((struct hb *)arg)->v[0]++; }
static void adds_1(void *arg) { ((struct hb *)arg)->v[1]++; }

static void adds_0_then_blocks(void *arg)
{
    struct hb *h = arg;

    h->v[0]++;
    CHECK_EQ(gt_timer_recv(h->go, NULL), 0);
}

static void f_adds_0(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    adds_0(arg);
}

static void f_adds_1(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    adds_1(arg);
}

static struct hb hb;

static void happens_before(gt_sched *s)
{
    gt_timer *t[2];

    hb.v[0]++;                                       /* 1 */
    hb.v[1]++;
    bubble_spawn(s, adds_0, &hb);                    /* 2: threads that end */
    bubble_spawn(s, adds_1, &hb);
    CHECK_EQ(gt_synctest_wait(s), 0);
    hb.v[0]++;                                       /* 3 */
    hb.v[1]++;
    hb.go = gt_sched_new_timer(s, HOUR);
    bubble_spawn(s, adds_0_then_blocks, &hb);        /* 4: a thread that blocks */
    CHECK_EQ(gt_synctest_wait(s), 0);
    hb.v[0]++;                                       /* 5 */
    hb.v[1]++;
    t[0] = gt_sched_after_func(s, 0, f_adds_0, &hb, NULL);   /* 6: timers */
    t[1] = gt_sched_after_func(s, 0, f_adds_1, &hb, NULL);
    CHECK_EQ(gt_synctest_wait(s), 0);
    hb.v[0]++;                                       /* 7 */
    hb.v[1]++;
    CHECK_EQ(gt_timer_reset(hb.go, 0), 1);
    bubble_spawn(s, adds_0, &hb);                    /* 8 */
    bubble_spawn(s, adds_1, &hb);
    CHECK_EQ(gt_synctest_wait(s), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_timer_free(hb.go), 0);
}

TEST(gotest_happens_before, 60)
{
    bubble_run(happens_before);
    CHECK_EQ(hb.v[0], 8);
    CHECK_EQ(hb.v[1], 7);
}

/* One thread is gone before the next one begins. */
static void exits_in_turn(gt_sched *s)
{
    memset(&hb, 0, sizeof hb);
    for (int i = 0; i < rounds(100); i++) {
        bubble_spawn(s, adds_0, &hb);
        CHECK_EQ(gt_synctest_wait(s), 0);
    }
    CHECK_EQ(hb.v[0], rounds(100));
}
TEST(gotest_no_race_synctest_goroutines_exit, 60) { bubble_run(exits_in_turn); }

/* ---- testing/synctest ---- */

static void one_of(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_EQ(delay, 0);
    ((struct after *)arg)->i++;
}

/* Timers of one instant that arm others for that instant. */
static void arms_another(void *arg, uintptr_t seq, int64_t delay)
{
    struct after *a = arg;
    gt_timer *t = gt_sched_after_func(a->s, 0, one_of, a, NULL);

    (void)seq;
    CHECK_EQ(delay, 0);
    CHECK_EQ(gt_timer_detach(t), 0);
}

static void timer_race(gt_sched *s)
{
    struct after a = {.s = s};

    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_timer_detach(gt_sched_after_func(s, 1 * SEC, arms_another, &a, NULL)), 0);
    CHECK_EQ(gt_sched_sleep(s, 2 * SEC), 0);
    CHECK_EQ(a.i, 100);
    CHECK_EQ(gt_nanotime(s), T0 + 2 * SEC);
}

TEST(gotest_synctest_timer_race_ctx_crash, 60)
{
    for (int i = 0; i < 20; i++)
        bubble_run(timer_race);
}

/* A shorter sleep of another thread is over before this one's returns. */
static void naps(void *arg)
{
    struct after *a = arg;

    CHECK_EQ(gt_sched_sleep(a->s, 1), 0);
    CHECK_EQ(gt_nanotime(a->s), T0 + 1);
    a->i++;
}

static void example_time(gt_sched *s)
{
    static struct after a;

    a.s = s;
    bubble_spawn(s, naps, &a);
    CHECK_EQ(gt_sched_sleep(s, 2), 0);
    CHECK_EQ(a.i, 1);
    CHECK_EQ(gt_nanotime(s), T0 + 2);
}
TEST(gotest_time, 60) { bubble_run(example_time); }

/* A time-out that has not come a nanosecond before its time, and has come at it. */
static void with_timeout(gt_sched *s)
{
    struct counter c = {0};
    gt_timer *t = gt_sched_after_func(s, 5 * SEC, count_run, &c, NULL);

    CHECK_EQ(gt_sched_sleep(s, 5 * SEC - 1), 0);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_sched_sleep(s, 1), 0);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_context_with_timeout, 60) { bubble_run(with_timeout); }

/* ---- order within one instant ---- */

/* Go shuffles what is due at the same time so that nobody relies on an order. Here the order is
 * open too (S7), but the same steps give the same one: a run that failed can be run again. */
struct trace {
    char text[64];
    int n;
};

static struct trace *tracing;

static void traces(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_EQ(delay, 0);
    tracing->text[tracing->n++] = (char)('a' + (int)(intptr_t)arg);
}

static void instant(struct trace *tr, uint64_t seed)
{
    gt_sched *s = virtual_sched();
    gt_timer *t[20];

    tracing = tr;
    for (int i = 0; i < 20; i++)
        t[i] = gt_sched_after_func(s, 1 + (int64_t)rng_below(&seed, 3), traces,
                                   (void *)(intptr_t)i, NULL);
    for (int i = 0; i < 20; i += 3)
        CHECK_EQ(gt_timer_reset(t[i], 1 + (int64_t)rng_below(&seed, 3)), 1);
    CHECK_EQ(gt_sched_run_until_idle(s, GT_MAX_WHEN), 1);
    CHECK_EQ(tr->n, 20);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    check_conserved(s);
    close_sched(s);
}

TEST(gotest_timer_nondeterminism, 60)
{
    for (uint64_t i = 0; i < 100; i++) {
        struct trace a = {{0}, 0}, b = {{0}, 0};

        instant(&a, test_seed() + i);
        instant(&b, test_seed() + i);
        CHECK_STR_EQ(a.text, b.text);
        for (char c = 'a'; c < 'a' + 20; c++)        /* each once */
            CHECK(strchr(a.text, c) != NULL);
    }
}

/* Sleepers of one instant: both wake at it, neither sooner nor later, in any order. */
struct pair {
    gt_sched *s;
    atomic_int first;
    int64_t woke[2];
};

static void sleeps_first(void *arg)
{
    struct pair *p = arg;
    int none = 0;

    CHECK_EQ(gt_sched_sleep(p->s, 1), 0);
    p->woke[0] = gt_nanotime(p->s);
    atomic_compare_exchange_strong(&p->first, &none, 1);
}

static void sleeps_second(void *arg)
{
    struct pair *p = arg;
    int none = 0;

    CHECK_EQ(gt_sched_sleep(p->s, 1), 0);
    p->woke[1] = gt_nanotime(p->s);
    atomic_compare_exchange_strong(&p->first, &none, 2);
}

static void sleepers(gt_sched *s)
{
    int seen[3] = {0};

    for (int i = 0; i < rounds(200); i++) {
        struct bubble_thread b[2];
        struct pair p = {.s = s};
        int64_t start = gt_nanotime(s);

        bubble_go(&b[0], s, sleeps_first, &p);
        bubble_go(&b[1], s, sleeps_second, &p);
        CHECK_EQ(gt_sched_sleep(s, 1), 0);
        CHECK_EQ(gt_synctest_wait(s), 0);
        CHECK(p.first == 1 || p.first == 2);
        CHECK_EQ(p.woke[0], start + 1);
        CHECK_EQ(p.woke[1], start + 1);
        seen[p.first]++;
        bubble_end(&b[0]);
        bubble_end(&b[1]);
    }
    printf("%d times the first, %d times the second\n", seen[1], seen[2]);
}
TEST(gotest_sleep_nondeterminism, 120) { bubble_run(sleepers); }

/* ---- nothing that could ever go on ---- */

/* The only thread waits for a timer that is stopped. */
static void deadlock_root(gt_sched *s)
{
    gt_timer *t = gt_sched_new_timer(s, SEC);

    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_recv(t, NULL), GT_EDEADLK);
    CHECK_EQ(gt_sched_sleep(s, INT64_MAX), GT_EDEADLK);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_timer_reset(t, SEC), 0);             /* all is well afterwards */
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
}
TEST(gotest_deadlock_root, 60) { bubble_run(deadlock_root); }

/* The first thread has left, and the other one waits for what cannot come from the bubble. Go
 * panics; here the wait says so. */
static void receives_nothing(void *t) { CHECK_EQ(gt_timer_recv(t, NULL), GT_EDEADLK); }

TEST(gotest_deadlock_child, 60)
{
    gt_sched *s = virtual_sched();
    gt_timer *t = gt_sched_new_timer(s, SEC);
    struct bubble_thread b;

    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    bubble_go(&b, s, receives_nothing, t);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(gt_synctest_leave(s), 0);
    bubble_end(&b);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    close_sched(s);
}

/* Go ends a bubble with its first goroutine, and a ticker that another one waits for never
 * ticks again. Ours goes on as long as a thread is in it. */
struct inside {
    gt_timer *t;
    int64_t sent;
};

static void takes_three(void *arg)
{
    struct inside *in = arg;

    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(gt_timer_recv(in->t, &in->sent), 0);
        CHECK_EQ(in->sent, T0 + i * SEC);
    }
    CHECK_EQ(gt_timer_free(in->t), 1);
}

static void deadlock_ticker(gt_sched *s)
{
    static struct inside in;

    in.t = gt_sched_new_ticker(s, SEC);
    bubble_spawn(s, takes_three, &in);
}
TEST(gotest_deadlock_ticker, 60) { bubble_run(deadlock_ticker); }
