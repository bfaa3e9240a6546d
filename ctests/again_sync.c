/* A bug of gt_deltimer_sync_id that there has been: a window of a few instructions, which a thread
 * is brought into step by step. Only for processors of the x86-64 kind, which can be told to
 * raise a signal after each instruction. The other bugs are in again_engine.c and again_ps.c. */
#include "steps.h"

#if STEPS

#define MOST_STEPS 300

static struct {
    gt_sched *s;
    uint64_t id;
    atomic_int started, stopped, freed, returned, ended;   /* numbers of rounds */
    atomic_int traps;
} between;

/* Of the waiter: how many instructions it may go on after the next time it is unpinned. */
static _Thread_local volatile int steps;
static _Thread_local volatile int armed;

static void on_step(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    between.traps++;
    if (--steps > 0)
        return;
    end_of_steps(context);
    between.stopped = between.started;
    if (pins() == 0)                                           /* else it may have the timer locked */
        while (between.freed < between.started) {}
}

static void step_when_unpinned(int acquire)
{
    if (!acquire && pins() == 0 && armed) {
        armed = 0;
        go_by_steps();
    }
}

/* Looks for *flag for some 0.1 ms. */
static void look_for(atomic_int *flag, int n)
{
    for (int i = 0; i < 100000 && *flag < n; i++) {}
}

static void await(atomic_int *flag, int n)
{
    look_for(flag, n);
    wait_for(flag, n);
}

/* f frees its timer when the waiter has stopped, and goes on for a while. */
static void free_between(void *arg, uintptr_t seq, int64_t delay)
{
    int round = between.ended + 1;

    (void)arg;
    (void)seq;
    (void)delay;
    between.started = round;
    await(&between.stopped, round);
    CHECK_EQ(gt_timer_free_id(between.s, between.id), 0);
    between.freed = round;
    look_for(&between.returned, round);
    between.ended = round;
}

static void *wait_by_id(void *arg)
{
    (void)arg;
    for (int round = 1; round <= MOST_STEPS; round++) {
        await(&between.started, round);
        steps = round;
        armed = 1;
        CHECK_GE(gt_deltimer_sync_id(between.s, between.id), 0);
        CHECK_GE(between.ended, round);                        /* f is not running any more */
        between.returned = round;
    }
    return NULL;
}

/* Catches a gt_deltimer_sync_id that asks whether the timer is freed, and then how many
 * references it has: if f frees it in between, the one that is left is taken for the handle's,
 * and the call returns while f runs. The waiter is stopped after 1, 2, 3 ... instructions. */
TEST(again_sync_by_id_while_f_frees_its_timer, 30)
{
    struct hooks h;
    pthread_t waiter;
    gt_p *p;

    needs_freeze();
    on_steps(on_step);
    steps = 1;
    go_by_steps();
    if (between.traps == 0)
        test_skip("the processor does not step");
    hooks_init(&h, 0);
    h.on_pin = step_when_unpinned;
    between.s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    p = new_p(between.s);
    waiter = thread_start(wait_by_id, NULL);
    for (int i = 0; i < MOST_STEPS; i++) {
        gt_timer *t = gt_timer_new(between.s, free_between, NULL, NULL);

        CHECK(t != NULL);
        between.id = gt_timer_id(t);
        CHECK_EQ(gt_addtimer_on(p, t, T0, 0), 0);
        CHECK_EQ(check_at(p, T0), 1);
        await(&between.returned, between.ended);
    }
    thread_join(waiter);
    check_conserved(between.s);
    free_p(p);
    close_sched(between.s);
}

#endif
