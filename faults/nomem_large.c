/* The workloads of nomem.c for those who have no alloc hook: what grows in place and lies in huge
 * pages, and the runtime's threads. */
#include "nomem.h"

#include <unistd.h>

/* More timers than are allocated in chunks of their own, and than one huge page holds. */
enum { MANY = 41000 };

static gt_timer *many[MANY];
static struct counter large, spare;

/* All timers onto one P; some fire, most are stopped, and the heap shrinks. */
static void grow_and_shrink(gt_sched *s, gt_p *p, int64_t from)
{
    int64_t dead;

    large.runs = 0;
    for (int i = 0; i < MANY; i++)
        IS(gt_addtimer_on(p, many[i], from + 1 + i % 1000, 0), 0);
    CHECK_EQ(get_stats(s).pending, MANY);
    IS(gt_check_timers(p, from + 10, NULL, NULL), 1);
    CHECK_EQ(large.runs, MANY / 1000 * 10);
    for (int i = 0; i < MANY; i++)
        if (i % 1000 >= 10)
            IS(gt_deltimer(many[i]), 1);
    INT(dead, gt_trim(p));
    CHECK_GE(dead, 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
}

int64_t work_large(void)
{
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL, .host = &memory.host};
    gt_sched *s;
    gt_p *p[2];

    PTR(s, gt_sched_new(&cfg));
    for (int i = 0; i < 2; i++)
        PTR(p[i], gt_p_new(s));
    before.ps = p;
    before.n_ps = 2;
    for (int i = 0; i < MANY; i++)
        PTR(many[i], gt_timer_new(s, count_run, &large, NULL));
    before.s = s;
    grow_and_shrink(s, p[0], T0);
    grow_and_shrink(s, p[0], T0 + 1000);
    /* A large heap moves: to another P, which has room for it or has changed nothing. */
    for (int i = 0; i < MANY; i++)
        IS(gt_addtimer_on(p[0], many[i], T0 + 3000 + i % 1000, 0), 0);
    IS(gt_p_free(p[0]), 0);
    p[0] = NULL;
    CHECK_EQ(gt_p_num_timers(p[1]), MANY);
    IS(gt_p_free(p[1]), 0);
    p[1] = NULL;
    PTR(p[0], gt_p_new(s));
    large.runs = 0;
    CHECK_EQ(gt_sched_advance(s, 10000), 1);
    CHECK_EQ(large.runs, MANY);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_timer_free(many[i]), 0);
    check_conserved(s);
    IS(gt_p_free(p[0]), 0);
    before.s = NULL;
    before.n_ps = 0;
    if (!planted("kept"))             /* the mistake: the sched is not given back */
        CHECK_EQ(gt_sched_free(s), 0);
    memory_is_back();
    return memory.calls;
}

/* ---- the runtime ---- */

static atomic_int woken;

static void naps(void *arg, uintptr_t seq, int64_t delay)
{
    while (!woken)
        CHECK_EQ(gt_sleep(MS), 0);
    count_run(arg, seq, delay);
}

static void wakes(void *arg, uintptr_t seq, int64_t delay)
{
    woken = 1;
    count_run(arg, seq, delay);
}

/* All workers sleep in callbacks, and what they wait for is the callback behind those: so another
 * thread is wanted, and when there is none it is tried again with the next sleep. */
int64_t work_spares(void)
{
    enum { WORKERS = 4, NAPS = WORKERS + 1 };   /* a list of four is full, and has to grow */
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = WORKERS, .host = &memory.host};
    gt_timer *t[NAPS];
    gt_sched *s;

    memset(&spare, 0, sizeof spare);
    woken = 0;
    alarm(60 * test_slow());
    IS(gt_runtime_start(&cfg), 0);
    CHECK_EQ(gt_runtime_workers(), WORKERS);
    PTR(s, gt_runtime_sched());
    for (int i = 0; i < NAPS; i++)
        PTR(t[i], gt_after_func(i * 5 * MS, i < NAPS - 1 ? naps : wakes, &spare, count_drop));
    WAIT_UNTIL(spare.runs == NAPS);
    for (int i = 0; i < NAPS; i++) {
        IS(gt_deltimer_sync(t[i]), 0);
        IS(gt_timer_free(t[i]), 0);
    }
    IS(gt_runtime_stop(), 0);
    CHECK_EQ(spare.drops, NAPS);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 0);
    return memory.calls;
}
