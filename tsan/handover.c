/* Data that is handed over through timers: what came before an arming is seen by the callback
 * that it leads to; what a callback did is seen after gt_deltimer_sync and in drop; who stops
 * or replaces an arming sees what came before it. Nothing of this may be reported. */
#include "embed.h"

#include <stdlib.h>

enum { ROUNDS = 50 };

static gt_timer *new_timer(struct bed *b, struct parcel *d, gt_drop_func drop)
{
    gt_timer *t = gt_timer_new(b->s, writes_in_callback, d, drop);

    MUST(t != NULL);
    return t;
}

static gt_timer *idle_timer(struct bed *b)
{
    static struct parcel nobodys;

    return new_timer(b, &nobodys, NULL);
}

CLEAN(arm_then_callback)
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = new_timer(&b, &d, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        poke(d.done, 0);
        writes(&d, i);
        MUST((i & 1 ? gt_resettimer(t, DUE, 0) : gt_addtimer_on(b.p[0], t, DUE, 0)) == 0);
        wait_until_set(&d.done);
        MUST(gt_deltimer_sync(t) == 0);
        MUST(reads(&d) == i + 1);
    }
    gt_timer_free(t);
    bed_end(&b);
}

/* An arming that waits in a heap is made earlier: it does not go through an insertion. */
CLEAN(rearm_then_callback)
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = new_timer(&b, &d, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        poke(d.done, 0);
        MUST(gt_addtimer_on(b.p[0], t, LATER, 0) == 0);
        writes(&d, i);
        MUST(gt_resettimer(t, DUE, 0) == 1);
        wait_until_set(&d.done);
        MUST(gt_deltimer_sync(t) == 0);
        MUST(reads(&d) == i + 1);
    }
    gt_timer_free(t);
    bed_end(&b);
}

/* The argument itself is handed over, by handle and by id. */
CLEAN(modtimer_hands_over_an_argument)
{
    struct bed b;
    gt_timer *t;
    uint64_t id;

    bed_start(&b, 2, 1);
    t = idle_timer(&b);
    id = gt_timer_id(t);
    for (int i = 0; i < ROUNDS; i++) {
        struct parcel *d = parcel_new(i);

        if (i & 1)
            MUST(gt_addtimer(t, LATER, 0) == 0);
        writes(d, i + 100);
        MUST((i & 2 ? gt_modtimer_id(b.s, id, DUE, 0, writes_in_callback, d, 7)
                    : gt_modtimer(t, DUE, 0, writes_in_callback, d, 7)) == (i & 1));
        wait_until_set(&d->done);
        MUST(gt_deltimer_sync(t) == 0);
        MUST(reads(d) == i + 101);
        free(d);
    }
    gt_timer_free(t);
    bed_end(&b);
}

/* The callback is under way when the owner stops and waits. */
static void slow_callback(void *arg, uintptr_t seq, int64_t delay)
{
    struct parcel *d = arg;

    (void)seq;
    (void)delay;
    poke(d->done, 1);
    nap_ms(3);
    writes(d, reads(d) + 1);
}

CLEAN(callback_then_sync)
{
    struct bed b;
    struct parcel d = {0};
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = gt_timer_new(b.s, slow_callback, &d, NULL);
    MUST(t != NULL);
    for (int i = 0; i < ROUNDS / 5; i++) {
        int before = reads(&d);

        poke(d.done, 0);
        MUST(gt_addtimer_on(b.p[0], t, DUE, i % 3 == 0 ? 1000 : 0) == 0);
        wait_until_set(&d.done);
        MUST((i & 1 ? gt_deltimer_sync_id(b.s, gt_timer_id(t)) : gt_deltimer_sync(t)) >= 0);
        MUST(reads(&d) > before);
        writes(&d, i);
    }
    gt_timer_free(t);
    bed_end(&b);
}

/* What the callback did is seen by drop, whoever calls it: the owner's free, or the pass. */
CLEAN(callback_then_drop)
{
    struct bed b;

    bed_start(&b, 1, 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct parcel *d = parcel_new(i);
        gt_timer *t = gt_timer_new(b.s, i & 1 ? slow_callback : writes_in_callback, d, reads_in_drop);

        MUST(t != NULL);
        MUST(gt_addtimer_on(b.p[0], t, i % 5 == 4 ? LATER : DUE, i % 3 == 0 ? 1000 : 0) == 0);
        if (i % 5 != 4)
            wait_until_set(&d->done);
        MUST((i & 2 ? gt_shutdown_timer(t) : gt_timer_free(t)) >= 0);
        if (i & 2)
            MUST(gt_timer_free(t) == 0);
    }
    bed_end(&b);
}

CLEAN(detached_then_drop)
{
    struct bed b;

    bed_start(&b, 2, 1);
    for (int i = 0; i < ROUNDS; i++) {
        struct parcel *d = parcel_new(i);
        gt_timer *t = new_timer(&b, d, reads_in_drop);

        writes(d, 2 * i);
        MUST(gt_addtimer(t, DUE, 0) == 0);
        /* A detached timer may be gone at once; one that has fired already is freed here. */
        MUST(gt_timer_detach(t) == 0);
    }
    while (gt_time_sleep_until(b.s) != GT_MAX_WHEN)
        nap_ms(1);
    bed_end(&b);
}

/* modtimer with another argument drops the old one, which the callback may just have used. */
CLEAN(modtimer_drops_the_old_argument)
{
    struct bed b;
    struct parcel *d = parcel_new(0);
    gt_timer *t;

    bed_start(&b, 1, 0);
    t = gt_timer_new(b.s, slow_callback, d, reads_in_drop);
    MUST(t != NULL);
    MUST(gt_addtimer_on(b.p[0], t, DUE, 0) == 0);
    for (int i = 0; i < ROUNDS / 2; i++) {
        struct parcel *next = parcel_new(i);

        wait_until_set(&d->done);
        MUST(gt_modtimer(t, DUE, 0, i & 1 ? slow_callback : writes_in_callback, next, 0) == 0);
        d = next;
    }
    MUST(gt_deltimer_sync(t) >= 0);
    MUST(gt_timer_free(t) == 0);
    bed_end(&b);
}

/* A callback arms its own timer again, and the next call is on whichever thread. */
static void rearming(void *arg, uintptr_t seq, int64_t delay)
{
    struct parcel *d = arg;

    (void)delay;
    writes(d, reads(d) + 1);
    if (seq < 200)
        MUST(gt_modtimer(d->t, DUE, 0, rearming, d, seq + 1) == 0);
    else
        poke(d->done, 1);
}

CLEAN(callback_rearms_itself)
{
    struct bed b;
    struct parcel d = {0};

    bed_start(&b, 3, 1);
    d.t = gt_timer_new(b.s, rearming, &d, NULL);
    MUST(d.t != NULL);
    MUST(gt_addtimer_on(b.p[0], d.t, DUE, 0) == 0);
    wait_until_set(&d.done);
    MUST(gt_deltimer_sync(d.t) == 0);
    MUST(reads(&d) == 201);
    gt_timer_free(d.t);
    bed_end(&b);
}

/* A chain: each callback hands the parcel on to another timer, on another P. */
static gt_timer *ring[3];
static struct bed *ring_bed;

static void hands_on(void *arg, uintptr_t seq, int64_t delay)
{
    struct parcel *d = arg;

    (void)delay;
    writes(d, reads(d) + 1);
    if (seq == 300)
        poke(d->done, 1);
    else
        MUST(gt_modtimer_on(ring_bed->p[(seq + 1) % 3], ring[(seq + 1) % 3], DUE, 0, hands_on, d, seq + 1) == 0);
}

CLEAN(callbacks_hand_on)
{
    struct bed b;
    struct parcel d = {0};

    bed_start(&b, 3, 0);
    ring_bed = &b;
    for (int i = 0; i < 3; i++)
        ring[i] = idle_timer(&b);
    MUST(gt_modtimer_on(b.p[0], ring[0], DUE, 0, hands_on, &d, 0) == 0);
    wait_until_set(&d.done);
    for (int i = 0; i < 3; i++)
        MUST(gt_deltimer_sync(ring[i]) == 0);
    MUST(reads(&d) == 301);
    for (int i = 0; i < 3; i++)
        MUST(gt_timer_free(ring[i]) == 0);
    bed_end(&b);
}

/* Who stops an arming has what came before it; so has who replaces it. */
struct taker {
    struct bed *b;
    struct parcel *d;
    int armed, how;
};

static void *takes(void *arg)
{
    struct taker *k = arg;

    wait_until_set(&k->armed);
    switch (k->how) {
    case 0: MUST(gt_deltimer(k->d->t) == 1); break;
    case 1: MUST(gt_timer_free(k->d->t) == 1); break;
    case 2: MUST(gt_shutdown_timer(k->d->t) == 1); break;
    case 3: MUST(gt_deltimer_id(k->b->s, gt_timer_id(k->d->t)) == 1); break;
    default: MUST(gt_modtimer(k->d->t, LATER, 0, writes_in_callback, NULL, 0) == 1); break;
    }
    MUST(reads(k->d) == 77);
    writes(k->d, 78);
    return NULL;
}

CLEAN(stopping_takes_over)
{
    struct bed b;

    bed_start(&b, 1, 0);
    for (int how = 0; how < 5; how++) {
        struct parcel d = {0};
        struct taker k = {&b, &d, 0, how};
        pthread_t th;

        d.t = new_timer(&b, &d, NULL);
        th = start(takes, &k);
        writes(&d, 77);
        MUST(gt_addtimer(d.t, LATER, 0) == 0);
        poke(k.armed, 1);
        join(th);
        if (how != 1)
            MUST(gt_timer_free(d.t) >= 0);
    }
    bed_end(&b);
}

/* An argument that another thread gave comes to drop, though no arming leads from the one to
 * the other. */
static void *frees_by_id(void *arg)
{
    struct taker *k = arg;
    uint64_t id = gt_timer_id(k->d->t);

    wait_until_set(&k->armed);
    MUST(gt_timer_free_id(k->b->s, id) == 0);
    return NULL;
}

CLEAN(drop_of_an_argument_that_another_gave)
{
    struct bed b;

    bed_start(&b, 1, 0);
    for (int i = 0; i < 10; i++) {
        struct parcel first = {0}, *d;
        struct taker k = {&b, &first, 0, 0};
        pthread_t th;

        first.t = new_timer(&b, parcel_new(0), reads_in_drop);
        th = start(frees_by_id, &k);
        d = parcel_new(i);
        MUST(gt_modtimer(first.t, LATER, 0, writes_in_callback, d, 0) == 0);
        MUST(gt_deltimer(first.t) == 1);
        poke(k.armed, 1);
        join(th);
    }
    bed_end(&b);
}

/* gt_sched_free drops what is left. */
CLEAN(sched_free_drops)
{
    struct bed b;
    gt_timer *t[20];

    bed_start(&b, 2, 1);
    for (int i = 0; i < 20; i++) {
        struct parcel *d = parcel_new(i);

        t[i] = new_timer(&b, d, reads_in_drop);
        writes(d, 2 * i);
        MUST(gt_addtimer(t[i], i & 1 ? DUE : LATER, 0) == 0);
    }
    nap_ms(5);
    bed_end(&b);
    for (int i = 0; i < 20; i++)
        MUST(gt_timer_free(t[i]) == 0);
}
