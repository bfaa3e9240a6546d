/* The virtual clock for users' tests: gt_sched_run_until_idle, and sleep. */
#include "rtkit.h"

#define YEAR ((int64_t)365 * 86400 * SEC)

/* ---- run until idle ---- */

TEST(virtual_until_idle_nothing_armed, 10)
{
    gt_sched *s = virtual_sched();

    CHECK_EQ(gt_sched_run_until_idle(s, YEAR), 0);
    CHECK_EQ(gt_nanotime(s), T0);
    CHECK_EQ(gt_sched_run_until_idle(s, 0), 0);
    CHECK_EQ(gt_sched_run_until_idle(s, INT64_MAX), 0);
    CHECK_EQ(gt_nanotime(s), T0);
    close_sched(s);
}

TEST(virtual_until_idle_limit, 10)
{
    for (int n = 0; n <= 2; n++) {
        gt_sched *s = virtual_sched();
        gt_p *p[2];
        struct counter c = {0};
        gt_timer *t[3];

        for (int i = 0; i < n; i++)
            p[i] = new_p(s);
        for (int i = 0; i < 3; i++)
            t[i] = must(gt_sched_after_func(s, 100 * (i + 1), count_run, &c, NULL));
        CHECK_EQ(gt_sched_run_until_idle(s, 99), 0);
        CHECK_EQ(gt_nanotime(s), T0);
        CHECK_EQ(gt_sched_run_until_idle(s, 100), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(c.delay, 0);
        CHECK_EQ(gt_nanotime(s), T0 + 100);
        CHECK_EQ(gt_sched_run_until_idle(s, YEAR), 1);
        CHECK_EQ(c.runs, 3);
        CHECK_EQ(gt_nanotime(s), T0 + 300);
        CHECK_EQ(gt_timer_reset(t[0], 0), 0);
        CHECK_EQ(gt_sched_run_until_idle(s, 0), 1);
        CHECK_EQ(gt_nanotime(s), T0 + 300);
        CHECK_EQ(gt_timer_reset(t[0], INT64_MAX), 0);       /* never */
        CHECK_EQ(gt_sched_run_until_idle(s, INT64_MAX), 0);
        CHECK_EQ(gt_nanotime(s), T0 + 300);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(gt_timer_free(t[i]), i == 0);
        check_conserved(s);
        for (int i = 0; i < n; i++)
            free_p(p[i]);
        close_sched(s);
    }
}

struct chain {
    gt_timer *t;
    int left;
    int64_t step;
};

static void link_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct chain *ch = arg;

    (void)seq;
    CHECK_EQ(delay, 0);
    if (--ch->left > 0)
        CHECK_EQ(gt_timer_reset(ch->t, ch->step), 0);
}

/* Each callback arms the next: the limit counts from where the call began. */
TEST(virtual_until_idle_chain, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct chain ch = {.left = 1000, .step = YEAR / 1000};

    ch.t = must(gt_sched_after_func(s, ch.step, link_run, &ch, NULL));
    CHECK_EQ(gt_sched_run_until_idle(s, 10 * ch.step), 1);
    CHECK_EQ(ch.left, 990);
    CHECK_EQ(gt_nanotime(s), T0 + 10 * ch.step);
    CHECK_EQ(gt_sched_run_until_idle(s, 10 * YEAR), 1);
    CHECK_EQ(ch.left, 0);
    CHECK_EQ(gt_nanotime(s), T0 + 1000 * ch.step);
    CHECK_EQ(gt_timer_free(ch.t), 0);
    free_p(p);
    close_sched(s);
}

TEST(virtual_until_idle_periodic, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_addtimer(t, T0 + 10, 10), 0);
    CHECK_EQ(gt_sched_run_until_idle(s, 1005), 1);
    CHECK_EQ(c.runs, 100);
    CHECK_EQ(gt_nanotime(s), T0 + 1000);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

TEST(virtual_until_idle_errors, 10)
{
    gt_sched *s = virtual_sched(), *real = new_sched(GT_CLOCK_MONOTONIC);

    CHECK_EQ(gt_sched_run_until_idle(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_sched_run_until_idle(s, -1), GT_EINVAL);
    CHECK_EQ(gt_sched_run_until_idle(s, INT64_MIN), GT_EINVAL);
    CHECK_EQ(gt_sched_run_until_idle(real, 1), GT_EOPNOTSUPP);
    close_sched(s);
    close_sched(real);
}

/* ---- the same seed gives the same trace ---- */

#define ACTORS 50

struct actor {
    gt_timer *t;
    int i;
};

static struct actor actors[ACTORS];
static uint64_t play_rng, trace_hash;
static gt_sched *play_s;
static int play_left;

static void act(void *arg, uintptr_t seq, int64_t delay)
{
    struct actor *me = arg, *other;
    int64_t now = gt_nanotime(play_s);

    (void)seq;
    CHECK_EQ(delay, 0);
    trace_hash = (trace_hash ^ ((uint64_t)(now - T0) * ACTORS + (uint64_t)me->i)) * 0x100000001b3u;
    if (--play_left <= 0)
        return;
    other = &actors[rng_below(&play_rng, ACTORS)];
    if (rng_below(&play_rng, 5) == 0)
        CHECK_GE(gt_timer_stop(other->t), 0);
    else
        CHECK_GE(gt_timer_reset(other->t, (int64_t)rng_below(&play_rng, 50)), 0);
    CHECK_GE(gt_timer_reset(me->t, (int64_t)rng_below(&play_rng, 100)), 0);
}

static uint64_t play(uint64_t seed, int how)
{
    gt_p *p[3];
    int64_t end;

    play_rng = seed;
    trace_hash = 1;
    play_left = 5000;
    play_s = virtual_sched();
    for (int i = 0; i < 3; i++)
        p[i] = new_p(play_s);
    for (int i = 0; i < ACTORS; i++) {
        actors[i].i = i;
        actors[i].t = must(gt_sched_after_func(play_s, (int64_t)rng_below(&play_rng, 100), act, &actors[i], NULL));
    }
    if (how == 0)
        CHECK_EQ(gt_sched_run_until_idle(play_s, YEAR), 1);
    else
        CHECK_EQ(gt_sched_advance(play_s, YEAR), 1);
    CHECK_EQ(get_stats(play_s).pending, 0);
    end = gt_nanotime(play_s);
    CHECK(how == 0 ? end < T0 + YEAR : end == T0 + YEAR);
    for (int i = 0; i < ACTORS; i++)
        CHECK_EQ(gt_timer_free(actors[i].t), 0);
    check_conserved(play_s);
    for (int i = 0; i < 3; i++)
        free_p(p[i]);
    close_sched(play_s);
    return trace_hash;
}

TEST(virtual_same_seed_same_trace, 20)
{
    uint64_t first = play(test_seed(), 0);

    for (int i = 0; i < 5; i++)
        CHECK_EQ(play(test_seed(), i % 2), first);
    CHECK_NE(play(test_seed() + 1, 0), first);
}

/* ---- without a bubble ---- */

/* Somebody else moves the clock, and the sleeper wakes. */
TEST(virtual_sleep_outside_a_bubble, 30)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct waiter w[3];

    for (int i = 0; i < 3; i++)
        sleeper_start(&w[i], s, 100 * (i + 1));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(waiter_blocked(&w[i]), 1);
    CHECK_EQ(gt_sched_advance(s, 99), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(waiter_blocked(&w[i]), 1);
        CHECK_EQ(gt_sched_advance(s, i == 0 ? 1 : 100), 1);
        CHECK_EQ(waiter_join(&w[i]), 0);
    }
    CHECK_EQ(gt_sched_sleep(s, 0), 0);
    CHECK_EQ(gt_sched_sleep(s, INT64_MIN), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}
