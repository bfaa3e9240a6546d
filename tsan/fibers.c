/* A callback that switches stacks and ends on another thread, in a program that tells
 * ThreadSanitizer about its stacks, as it must. */
#include "embed.h"

#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);

enum { STACK = 256 * 1024 };

/* One green thread, which a thread runs until it switches away or ends. */
static struct green {
    ucontext_t here, back;
    void *fiber, *thread;      /* of ThreadSanitizer's: the green thread's, and who runs it */
    char *stack;
    int ended;
    gt_p *p;
} green;

static uintptr_t running;      /* current_context: 1 on the green thread */

static uintptr_t who(void *ctx)
{
    (void)ctx;
    return peek(running) != 0 ? 1 : (uintptr_t)&running;
}

static void switch_away(void)
{
    poke(running, 0);
    __tsan_switch_to_fiber(green.thread, 0);
    swapcontext(&green.here, &green.back);
}

static void run_green(void)
{
    green.thread = __tsan_get_current_fiber();
    poke(running, 1);
    __tsan_switch_to_fiber(green.fiber, 0);
    swapcontext(&green.back, &green.here);
}

static void switching(void *arg, uintptr_t seq, int64_t delay)
{
    struct parcel *d = arg;

    (void)seq;
    (void)delay;
    writes(d, reads(d) + 1);
    switch_away();
    writes(d, reads(d) + 1);
}

static void green_main(void)
{
    MUST(gt_check_timers(green.p, DUE, NULL, NULL) == 1);
    green.ended = 1;
    switch_away();
}

static void *runs_it(void *arg)
{
    (void)arg;
    run_green();
    return NULL;
}

CLEAN(callback_ends_on_another_thread)
{
    gt_host host = {.size = sizeof host, .current_context = who};
    gt_config cfg = {.size = sizeof cfg, .host = &host, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s = gt_sched_new(&cfg);
    struct parcel *d = parcel_new(0), *e = parcel_new(0);
    gt_timer *t, *u;

    green.p = gt_p_new(s);
    green.stack = malloc(STACK);
    t = gt_timer_new(s, switching, d, reads_in_drop);
    u = gt_timer_new(s, switching, e, reads_in_drop);
    MUST(green.p != NULL && green.stack != NULL && t != NULL && u != NULL);
    MUST(gt_addtimer(t, DUE, 0) == 0);
    MUST(gt_addtimer(u, DUE, 0) == 0);
    getcontext(&green.here);
    green.here.uc_stack.ss_sp = green.stack;
    green.here.uc_stack.ss_size = STACK;
    makecontext(&green.here, green_main, 0);
    green.fiber = __tsan_create_fiber(0);
    for (int i = 0; i < 3; i++)
        join(start(runs_it, NULL));     /* each part of it on another thread */
    MUST(green.ended);
    MUST(gt_deltimer_sync(t) == 0);
    MUST(reads(d) == 2 && reads(e) >= 0);
    MUST(gt_timer_free(t) == 0);
    MUST(gt_timer_free(u) == 0);
    __tsan_destroy_fiber(green.fiber);
    free(green.stack);
    MUST(gt_p_free(green.p) == 0);
    MUST(gt_sched_free(s) == 0);
}
