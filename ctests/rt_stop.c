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
