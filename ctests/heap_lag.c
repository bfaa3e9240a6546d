/* In a large heap, what takes the minimum's place goes down bit by bit while others are fired. All
 * else that changes a heap comes in between, at random: insertions, stops, re-arms both ways, sweeps,
 * adoptions, single passes. Whatever is due fires in the pass in which it is, in order. (In the
 * checked build a heap of 8 is large.) */
#include "rtkit.h"
#include "rules.h"

#define SPAN (100 * SEC)

struct item {
    struct lag *l;
    gt_timer *t;
    int64_t due;              /* 0: not armed */
    int64_t period;
};

struct lag {
    gt_sched *s;
    gt_p *p;
    gt_p *other;
    struct item *item;
    int n, acting;
    uint64_t rng;
    int64_t now;              /* of the pass */
    int64_t last;             /* due time of the last run in it */
    long runs;
};

static uint64_t below(struct lag *l, uint64_t n) { return rng_below(&l->rng, n); }

static void fire(void *arg, uintptr_t seq, int64_t delay);

static void arm(struct lag *l, struct item *i)
{
    int64_t when = l->now + 1 + (int64_t)below(l, SPAN);
    int late = (int)below(l, 4) == 0;

    i->period = late ? SPAN / 2 : 0;
    if (i->due == 0 && below(l, 2))
        CHECK_EQ(gt_addtimer_on(l->p, i->t, when, i->period), 0);
    else if (below(l, 2))
        CHECK_EQ(gt_modtimer(i->t, when, i->period, fire, i, 0), i->due != 0);
    else
        CHECK_EQ(gt_resettimer(i->t, when, i->period), i->due != 0);
    i->due = when;
}

static void stop(struct item *i)
{
    CHECK_EQ(gt_deltimer(i->t), i->due != 0);
    i->due = 0;
}

static void make(struct lag *l, struct item *i)
{
    memset(i, 0, sizeof *i);
    i->l = l;
    i->t = must(gt_timer_new(l->s, fire, i, NULL));
}

static void act(struct lag *l)
{
    struct item *i = &l->item[below(l, (uint64_t)l->n)];

    switch (below(l, 8)) {
    case 0: stop(i); break;
    case 1:                                   /* its place may be the next one's */
        CHECK_EQ(gt_timer_free(i->t), i->due != 0);
        make(l, i);
        if (below(l, 2))
            arm(l, i);
        break;
    case 2:                                   /* another P's come in */
        for (int k = 0; k < 8; k++) {
            i = &l->item[below(l, (uint64_t)l->n)];
            if (i->due == 0) {
                i->due = l->now + 1 + (int64_t)below(l, SPAN);
                i->period = 0;
                CHECK_EQ(gt_addtimer_on(l->other, i->t, i->due, 0), 0);
            }
        }
        CHECK_GE(gt_adopt_timers(l->p, l->other), 0);
        break;
    case 3: CHECK_GE(gt_trim(l->p), 0); break;
    default: arm(l, i); break;
    }
}

static void fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct item *i = arg;
    struct lag *l = i->l;

    (void)seq;
    CHECK_EQ(l->now - delay, i->due);
    CHECK_GE(i->due, l->last);
    l->last = i->due;
    l->runs++;
    i->due = i->period ? i->due + i->period * (1 + delay / i->period) : 0;
    if (i->due == 0 && below(l, 4))
        arm(l, i);
    if (below(l, (uint64_t)l->acting) == 0)
        act(l);
}

static void lag_run(int n, int steps, int acting)
{
    struct lag l = {0};

    l.s = virtual_sched();
    l.p = new_p(l.s);
    l.other = new_p(l.s);
    CHECK_EQ(gt_acquirep(l.p), 0);            /* what is armed again goes there */
    l.n = n;
    l.acting = acting;
    l.rng = test_seed();
    l.now = gt_nanotime(l.s);
    CHECK((l.item = calloc((size_t)n, sizeof *l.item)) != NULL);
    for (int k = 0; k < n; k++) {
        make(&l, &l.item[k]);
        arm(&l, &l.item[k]);
    }
    for (int step = 0; step < steps; step++) {
        /* 30 are due, more or less; once in a while many. */
        l.now += (int64_t)below(&l, SPAN / (uint64_t)n * (below(&l, 64) ? 60 : 3000));
        l.last = 0;
        CHECK_EQ(gt_sched_set_time(l.s, l.now), 0);
        while (below(&l, 4) && gt_runtimer(l.p, l.now) == 0)
            ;
        CHECK_GE(gt_check_timers(l.p, 0, NULL, NULL), 0);
        for (uint64_t k = below(&l, 4); k > 0; k--)
            act(&l);
        if (step % 64 == 0) {
            CHECK_EQ(gt_verify_timer_heap(l.p), 0);
            check_conserved(l.s);
            for (int k = 0; k < n; k++)
                CHECK(l.item[k].due == 0 || l.item[k].due > l.now);
        }
    }
    CHECK_GT(l.runs, 0);
    for (int k = 0; k < n; k++)
        CHECK_EQ(gt_timer_free(l.item[k].t), l.item[k].due != 0);
    free(l.item);
    CHECK_PTR_EQ(gt_releasep(), l.p);
    free_p(l.p);
    free_p(l.other);
    close_sched(l.s);
}

TEST(heap_lag_large, 120) { lag_run(120000, 500 / (int)test_slow(), 64); }

TEST(heap_lag_small, 60)
{
    for (int n = 8; n < 200; n = n * 3 / 2)
        lag_run(n, 6000 / (int)test_slow(), 8);
}

static gt_timer **fired;

static void note(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_EQ(delay, 0);
    fired = arg;
}

/* When the first one is due it fires, if it has not been freed. */
static int64_t fire_one(gt_sched *s, gt_p *p)
{
    int64_t when;

    do {
        when = gt_nobarrier_wake_time(p);
        CHECK_EQ(gt_sched_set_time(s, when), 0);
    } while (gt_runtimer(p, when) != 0);
    return when;
}

/* One fires, and is armed again for soon: that may go up past what comes down. */
TEST(heap_lag_insertions, 60)
{
    enum { N = 70000, ROUNDS = 200 };
    static gt_timer *t[N];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    uint64_t rng = test_seed();

    CHECK_EQ(gt_acquirep(p), 0);
    for (int k = 0; k < N; k++) {
        t[k] = must(gt_timer_new(s, note, &t[k], NULL));
        CHECK_EQ(gt_resettimer(t[k], T0 + SPAN + (int64_t)rng_below(&rng, SPAN), 0), 0);
    }
    for (int round = 0; round < ROUNDS / (int)test_slow(); round++) {
        for (int k = 0; k < 1000; k++) {
            int64_t when = fire_one(s, p);

            when += 1 + (int64_t)rng_below(&rng, SEC);
            if (rng_below(&rng, 2))
                CHECK_EQ(gt_resettimer(*fired, when, 0), 0);
            else
                CHECK_EQ(gt_modtimer(*fired, when, 0, note, fired, rng), 0);
            if (rng_below(&rng, 4) == 0) {    /* another one fires, and the next gets its place */
                gt_timer **freed = fired;

                when = fire_one(s, p);
                CHECK_EQ(gt_timer_free(*freed), freed != fired);
                *freed = must(gt_timer_new(s, note, freed, NULL));
                CHECK_EQ(gt_resettimer(*freed, when + 1 + (int64_t)rng_below(&rng, SPAN), 0), 0);
                if (freed != fired)
                    CHECK_EQ(gt_resettimer(*fired, when + SPAN, 0), 0);
            }
        }
        CHECK_EQ(gt_verify_timer_heap(p), 0);
    }
    for (int k = 0; k < N; k++)
        CHECK_EQ(gt_timer_free(t[k]), 1);
    CHECK_PTR_EQ(gt_releasep(), p);
    free_p(p);
    close_sched(s);
}
