/* Slack: a timer may fire late by less than its slack, never early, so that timers of about the
 * same time share one wake-up. gt_timer_set_slack, and the default in gt_config. */
#include "rtkit.h"

static gt_sched *slack_sched(uint32_t clock, int64_t slack)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = clock;
    cfg.slack = slack;
    s = gt_sched_new(&cfg);
    CHECK(s != NULL);
    return s;
}

static int64_t power(int64_t ns)
{
    int64_t p = 1;

    while (ns > 1) {
        ns /= 2;
        p *= 2;
    }
    return p;
}

/* ---- many timers share few wake-ups ---- */

#define MANY 1000

static gt_sched *s;
static int64_t instants, last_instant;

struct one {
    gt_timer *t;
    int64_t when, slack;
    int runs;
};

static void note_instant(void *arg, uintptr_t seq, int64_t delay)
{
    struct one *o = arg;
    int64_t now = gt_nanotime(s);

    (void)seq;
    CHECK_EQ(delay, now - o->when);
    CHECK_GE(delay, 0);
    CHECK_LT(delay, o->slack > 0 ? o->slack : 1);
    o->runs++;
    if (now != last_instant) {
        CHECK_GT(now, last_instant);
        instants++;
        last_instant = now;
    }
}

/* Arms many within 16 ms and runs them; says how many instants had firings. */
static int64_t run_many(int64_t by_config, int64_t by_call)
{
    static struct one one[MANY];
    uint64_t rng = test_seed();
    gt_p *p;

    memset(one, 0, sizeof one);
    instants = last_instant = 0;
    s = slack_sched(GT_CLOCK_VIRTUAL, by_config);
    p = new_p(s);
    for (int i = 0; i < MANY; i++) {
        struct one *o = &one[i];

        o->t = gt_timer_new(s, note_instant, o, NULL);
        o->slack = by_call >= 0 ? by_call : by_config;
        if (by_call >= 0)
            CHECK_EQ(gt_timer_set_slack(o->t, by_call), 0);
        o->when = T0 + 1 + (int64_t)rng_below(&rng, 16 * (uint64_t)MS);
        CHECK_EQ(gt_timer_reset(o->t, o->when - T0), 0);
        CHECK_EQ(gt_timer_when(o->t), o->when);          /* what was asked for */
    }
    CHECK_EQ(gt_sched_advance(s, 64 * MS), 1);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(one[i].runs, 1);
        CHECK_EQ(gt_timer_free(one[i].t), 0);
    }
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
    return instants;
}

TEST(slack_shares_wake_ups, 20)
{
    const int64_t slacks[] = {1, 1000, 100 * US, MS, 1500 * US, 10 * MS};

    CHECK_GE(run_many(0, -1), MANY - 20);            /* two may fall together */
    for (size_t i = 0; i < sizeof slacks / sizeof slacks[0]; i++) {
        int64_t at_most = 16 * MS / power(slacks[i]) + 2;

        CHECK_LE(run_many(slacks[i], -1), at_most);
        CHECK_LE(run_many(0, slacks[i]), at_most);
        CHECK_LE(run_many(10 * MS, slacks[i]), at_most);
        CHECK_GE(run_many(slacks[i], 0), MANY - 20); /* precise again */
    }
}

/* All that is armed in one stretch of a power of two waits for its end. */
TEST(slack_rounds_to_a_power_of_two, 10)
{
    gt_sched *v = virtual_sched();
    gt_p *p = new_p(v);
    struct counter c = {0};
    gt_timer *t = new_timer(v, &c);
    int64_t at = T0 / 1024 * 1024 + 1024;

    CHECK_EQ(gt_timer_set_slack(t, 1500), 0);        /* 1024 */
    for (int64_t d = 1; d <= 1024; d += 341) {
        CHECK_EQ(gt_sched_set_time(v, at), 0);
        CHECK_EQ(gt_timer_reset(t, d), 0);
        CHECK_EQ(gt_timer_when(t), at + d);
        CHECK_EQ(gt_time_sleep_until(v), at + 1024);
        CHECK_EQ(gt_sched_advance(v, 1023), 0);
        CHECK_EQ(gt_sched_advance(v, 1), 1);
        CHECK_EQ(c.delay, 1024 - d);
        at += 2048;
    }
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(p);
    close_sched(v);
}

/* It holds for a pending arming, too, in both directions. */
TEST(slack_of_a_pending_timer, 10)
{
    gt_sched *v = virtual_sched();
    gt_p *p = new_p(v);
    struct counter c = {0};
    gt_timer *t = new_timer(v, &c);
    int64_t at = (T0 / 4096 + 1) * 4096;

    CHECK_EQ(gt_sched_set_time(v, at), 0);
    CHECK_EQ(gt_timer_reset(t, 100), 0);
    CHECK_EQ(gt_timer_set_slack(t, 4096), 0);
    CHECK_EQ(gt_timer_when(t), at + 100);
    CHECK_EQ(gt_sched_advance(v, 4095), 0);
    CHECK_EQ(gt_sched_advance(v, 1), 1);
    CHECK_EQ(c.delay, 3996);
    CHECK_EQ(gt_timer_reset(t, 100), 0);
    CHECK_EQ(gt_timer_set_slack(t, 0), 0);           /* precise again: somebody must be told */
    CHECK_LE(gt_time_sleep_until(v), at + 4096 + 100);
    CHECK_EQ(gt_sched_advance(v, 99), 0);
    CHECK_EQ(gt_sched_advance(v, 1), 1);
    CHECK_EQ(c.delay, 0);
    CHECK_EQ(gt_timer_set_slack(t, 4096), 0);        /* not armed */
    CHECK_EQ(gt_timer_when(t), 0);
    CHECK_EQ(get_stats(v).pending, 0);
    CHECK_EQ(gt_timer_stop(t), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(v);
    free_p(p);
    close_sched(v);
}

/* The periods go by what was asked for: late ticks do not add up. */
static int64_t tick_when, tick_period, tick_slack;

static void on_tick(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_LT(delay, tick_slack);
    CHECK_EQ((gt_nanotime(s) - delay - tick_when) % tick_period, 0);
    ++*(int *)arg;
}

TEST(slack_periodic_keeps_its_phase, 10)
{
    gt_timer *t;
    int runs = 0;
    gt_p *p;

    s = slack_sched(GT_CLOCK_VIRTUAL, 1024);
    p = new_p(s);
    t = gt_timer_new(s, on_tick, &runs, NULL);
    tick_when = T0 + 777;
    tick_period = 3001;
    tick_slack = 1024;
    CHECK_EQ(gt_addtimer(t, tick_when, tick_period), 0);
    CHECK_EQ(gt_sched_advance(s, 3001000 + 2000), 1);
    CHECK_EQ(runs, 1001);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    close_sched(s);
}

/* The values of channel timers carry the time that was asked for. */
TEST(slack_channel_timers, 10)
{
    gt_timer *t, *k;
    int64_t sent, at = (T0 / 65536 + 1) * 65536;
    gt_p *p;

    s = virtual_sched();
    p = new_p(s);
    CHECK_EQ(gt_sched_set_time(s, at), 0);
    t = must(gt_sched_new_timer(s, 100));
    k = must(gt_sched_new_ticker(s, 40000));
    CHECK_EQ(gt_timer_set_slack(t, 65536), 0);
    CHECK_EQ(gt_timer_set_slack(k, 65536), 0);
    CHECK_GE(gt_timer_fd(t), 0);
    CHECK_GE(gt_timer_fd(k), 0);
    CHECK_GE(gt_sched_advance(s, 65535), 0);
    CHECK_EQ(gt_sched_advance(s, 1), 1);
    CHECK_EQ(readable(gt_timer_fd(t)), 1);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, at + 100);
    CHECK_EQ(gt_timer_try_recv(k, &sent), 1);
    CHECK_EQ(sent, at + 40000);
    CHECK_EQ(gt_sched_advance(s, 65536), 1);
    CHECK_EQ(gt_timer_try_recv(k, &sent), 1);
    CHECK_EQ(sent, at + 80000);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(k), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

TEST(slack_at_the_end_of_time, 10)
{
    const int64_t slacks[] = {1, 4096, SEC, INT64_MAX / 2, INT64_MAX};

    for (size_t i = 0; i < sizeof slacks / sizeof slacks[0]; i++) {
        gt_sched *v = virtual_sched();
        struct counter c = {0}, d = {0};
        gt_timer *t = new_timer(v, &c), *u = new_timer(v, &d);

        CHECK_EQ(gt_timer_set_slack(t, slacks[i]), 0);
        CHECK_EQ(gt_timer_set_slack(u, slacks[i]), 0);
        CHECK_EQ(gt_addtimer(t, INT64_MAX - 1, 0), 0);
        CHECK_EQ(gt_addtimer(u, INT64_MAX, 0), 0);       /* never */
        CHECK_EQ(gt_sched_advance(v, INT64_MAX - T0 - 2), 0);
        CHECK_GE(gt_sched_advance(v, 1), 0);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_sched_set_time(v, INT64_MAX), 0);
        CHECK_EQ(gt_sched_advance(v, 0), 0);
        CHECK_EQ(d.runs, 0);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_timer_free(u), 1);
        check_conserved(v);
        close_sched(v);
    }
}

TEST(slack_errors, 10)
{
    gt_sched *v = virtual_sched();
    struct counter c = {0};
    gt_timer *t = new_timer(v, &c);
    gt_stats before = get_stats(v);
    gt_config cfg;

    CHECK_EQ(gt_timer_set_slack(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_timer_set_slack(t, -1), GT_EINVAL);
    CHECK_EQ(gt_timer_set_slack(t, INT64_MIN), GT_EINVAL);
    check_same_counters(v, &before);
    CHECK_EQ(gt_shutdown_timer(t), 0);
    CHECK_LE(gt_timer_set_slack(t, 5), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.slack = -1;
    CHECK_PTR_EQ(gt_sched_new(&cfg), NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
    close_sched(v);
}

/* ---- on the runtime: never early, and tickers with slack share wake-ups ---- */

static atomic_long runs;

static void on_runtime(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(mono_now(), *(int64_t *)arg);
    runs++;
}

TEST(slack_on_the_runtime, 60)
{
    static int64_t when[500];
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2, .slack = 4 * MS};
    uint64_t rng = test_seed();

    CHECK_EQ(gt_runtime_start(&cfg), 0);
    for (int i = 0; i < 500; i++) {
        int64_t d = (int64_t)rng_below(&rng, 30 * (uint64_t)MS);
        gt_timer *t;

        when[i] = mono_now() + d;
        t = must(gt_after_func(d, on_runtime, &when[i], NULL));
        if (i % 5 == 0)
            CHECK_EQ(gt_timer_set_slack(t, i % 10 * MS), 0);
        CHECK_EQ(gt_timer_detach(t), 0);
    }
    wait_for_long(&runs, 500);
    rt_stop_conserved();
    CHECK_EQ(runs, 500);
    cfg.slack = -1;
    CHECK_EQ(gt_runtime_start(&cfg), GT_EINVAL);
}
