/* To stop the runtime while there is always something to run. */
#include "rtkit.h"

struct chain {
    gt_timer *t;
    atomic_int runs, ended;
};

/* Long, and due again at once: so is the next one, whoever runs it. */
static void runs_on(void *arg, uintptr_t seq, int64_t delay)
{
    struct chain *c = arg;

    (void)seq;
    (void)delay;
    c->runs++;
    CHECK_EQ(gt_timer_reset(c->t, 0), 0);
    sleep_ms(20);
    c->ended++;
}

/* Those that end a callback while others are in theirs go on running timers, for the others may wait for
 * these. But the stop comes to its end though there is never a lack of timers. */
TEST(rt_stop_while_all_workers_are_busy, 60)
{
    enum { WORKERS = 16 };
    struct chain c[WORKERS] = {{.runs = 0}};

    rt_start(WORKERS);
    for (int i = 0; i < WORKERS; i++)
        c[i].t = must(gt_after_func(3600 * SEC, runs_on, &c[i], NULL));
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(gt_timer_reset(c[i].t, 0), 1);
    for (int i = 0; i < WORKERS; i++)
        wait_for(&c[i].runs, 2);
    rt_stop();
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQ(c[i].ended, c[i].runs);
        CHECK_EQ(gt_timer_free(c[i].t), 1);
    }
    check_conserved(gt_runtime_sched());
}

enum { MANY = 40 };

struct backlog {
    atomic_int begun, stopping, ended;
};

static void waits_in_a_row(void *arg, uintptr_t seq, int64_t delay)
{
    struct backlog *b = arg;
    gt_timer *gate;

    (void)seq;
    (void)delay;
    if (b->begun++ == 0)
        wait_for(&b->stopping, 1);
    gate = must(gt_new_timer(50 * MS));
    CHECK_EQ(gt_timer_recv(gate, NULL), 0);
    CHECK_EQ(gt_timer_free(gate), 0);
    b->ended++;
}

/* Of two, one stops the runtime; the other one is told that it is being stopped. */
static void *stops(void *arg)
{
    struct backlog *b = arg;
    int r = gt_runtime_stop();

    CHECK(r == 0 || r == GT_EBUSY);
    b->stopping += r == GT_EBUSY;
    return NULL;
}

/* When the stop begins, many callbacks are due, each of which waits for a timer: turn for turn one of them
 * begins. They are not waited for twice as long each time. */
TEST(rt_stop_while_many_are_due_that_wait, 60)
{
    struct backlog b = {.begun = 0};
    gt_timer *t[MANY];
    pthread_t th[2];

    rt_start(1);
    for (int i = 0; i < MANY; i++) {
        t[i] = must(gt_after_func(0, waits_in_a_row, &b, NULL));
        wait_for(&b.begun, 1);
    }
    for (int i = 0; i < 2; i++)
        th[i] = thread_start(stops, &b);
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    CHECK_EQ(b.stopping, 1);
    CHECK_EQ(b.ended, b.begun);
    for (int i = 0; i < MANY; i++)
        CHECK_GE(gt_timer_free(t[i]), 0);
    check_conserved(gt_runtime_sched());
}
