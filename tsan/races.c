/* True races of the embedder's, planted. The library orders what it promises to order and
 * nothing more, so that each of these is reported. */
#include "embed.h"

#include <stdlib.h>

static gt_timer *armed_timer(struct bed *b, struct parcel *d, int on, int64_t period)
{
    gt_timer *t = gt_timer_new(b->s, writes_in_callback, d, NULL);

    MUST(t != NULL);
    MUST(gt_addtimer_on(b->p[on], t, DUE, period) == 0);
    return t;
}

/* The owner sees that the callback has run, but nothing orders it. */
RACE(race_reading_after_a_flag, "writes_in_callback")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = armed_timer(&b, &d, 0, 0);
    wait_until_set(&d.done);
    nap_ms(5);
    reads(&d);
    gt_timer_free(t);
    bed_end(&b);
}

/* The owner writes after the arming. */
RACE(race_writing_after_the_arming, "writes_in_callback")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = armed_timer(&b, &d, 0, 0);
    writes(&d, 5);
    wait_until_set(&d.done);
    gt_timer_free(t);
    bed_end(&b);
}

/* gt_deltimer says 0: the callback may be under way. It does not wait, gt_deltimer_sync does. */
RACE(race_deltimer_is_no_sync, "writes_in_callback")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = armed_timer(&b, &d, 0, 0);
    wait_until_set(&d.done);
    nap_ms(5);
    MUST(gt_deltimer(t) == 0);
    reads(&d);
    gt_timer_free(t);
    bed_end(&b);
}

RACE(race_free_is_no_sync, "writes_in_callback")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = armed_timer(&b, &d, 0, 0);
    wait_until_set(&d.done);
    nap_ms(5);
    MUST(gt_timer_free(t) == 0);
    writes(&d, 3);
    bed_end(&b);
}

/* Arming it again does not wait either. */
RACE(race_reset_is_no_sync, "writes_in_callback")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = armed_timer(&b, &d, 0, 0);
    wait_until_set(&d.done);
    nap_ms(5);
    MUST(gt_resettimer(t, LATER, 0) == 0);
    reads(&d);
    gt_timer_free(t);
    bed_end(&b);
}

/* Two timers with the same data, on two Ps' threads. */
RACE(race_of_two_ps, "writes_in_callback")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t[2];

    bed_start(&b, 2, 0);
    for (int i = 0; i < 2; i++)
        t[i] = armed_timer(&b, &d, i, 0);
    while (peek(d.done) < 2)
        nap_ms(1);
    for (int i = 0; i < 2; i++)
        gt_timer_free(t[i]);
    bed_end(&b);
}

/* Two timers with the same data, on one P, which a thief helps with. */
static void *steals_once(void *arg)
{
    MUST(gt_check_others(arg, NULL, 0, NULL, NULL) == 1);
    return NULL;
}

RACE(race_with_a_thief, "writes_in_callback")
{
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s = gt_sched_new(&cfg);
    struct parcel d = {0};
    gt_timer *t[2];
    gt_p *p = gt_p_new(s);
    pthread_t th;

    for (int i = 0; i < 2; i++)
        MUST((t[i] = gt_timer_new(s, writes_in_callback, &d, NULL)) != NULL);
    for (int i = 0; i < 2; i++)
        MUST(gt_addtimer_on(p, t[i], i == 0 ? DUE : DUE + 5, 0) == 0);
    th = start(steals_once, s);
    wait_until_set(&d.done);             /* the first one is the thief's */
    MUST(gt_check_timers(p, DUE + 5, NULL, NULL) == 1);
    join(th);
    for (int i = 0; i < 2; i++)
        gt_timer_free(t[i]);
    MUST(gt_p_free(p) == 0);
    MUST(gt_sched_free(s) == 0);
}

/* drop has had the argument, and frees it; somebody reads it all the same. */
static __attribute__((noinline)) void only_writes(void *arg)
{
    struct parcel *d = arg;

    d->value = -1;
    poke(d->done, 1);
}

static void slow_callback(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    poke(((struct parcel *)arg)->done, 2);
    while (peek(((struct parcel *)arg)->done) == 2)
        nap_ms(1);
}

RACE(race_after_drop, "only_writes")
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = gt_timer_new(b.s, slow_callback, &d, only_writes);
    MUST(t != NULL);
    MUST(gt_addtimer_on(b.p[0], t, DUE, 0) == 0);
    wait_until_set(&d.done);
    MUST(gt_timer_free(t) == 0);      /* the pass drops it */
    poke(d.done, 3);
    while (peek(d.done) != 1)
        nap_ms(1);
    reads(&d);
    bed_end(&b);
}

/* What a hook of the embedder's does is looked at too. */
static struct parcel hooks_parcel;

static __attribute__((noinline)) void racing_wake(void *ctx, gt_p *p, int64_t when)
{
    (void)ctx;
    (void)p;
    (void)when;
    hooks_parcel.value++;
}

static void *arms_with_a_wake(void *arg)
{
    gt_timer **t = arg;

    MUST(gt_addtimer(t[0], DUE + 1000, 0) == 0);
    return NULL;
}

RACE(race_in_a_wake_hook, "racing_wake")
{
    gt_host host = {.size = sizeof host, .wake_netpoller = racing_wake};
    gt_config cfg = {.size = sizeof cfg, .host = &host, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s = gt_sched_new(&cfg);
    gt_p *p = gt_p_new(s);
    gt_timer *t = gt_timer_new(s, writes_in_callback, &hooks_parcel, NULL);
    pthread_t th = start(arms_with_a_wake, &t);

    nap_ms(50);
    reads(&hooks_parcel);
    join(th);
    MUST(gt_timer_free(t) == 1);
    MUST(gt_p_free(p) == 0);
    MUST(gt_sched_free(s) == 0);
}

/* The same data in two threads, nothing to do with timers: the tool itself works. */
static void *writes_it(void *arg)
{
    writes(arg, 1);
    return NULL;
}

RACE(race_of_two_threads, "writes")
{
    struct parcel d = {0};
    pthread_t th = start(writes_it, &d);

    nap_ms(20);
    writes(&d, 2);
    join(th);
}
