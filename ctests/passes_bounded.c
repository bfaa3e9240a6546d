/* passes_bounded.c: what a pass does beside running timers: it repairs, takes in what was put off to it, scans. None of
 * that may be forgotten because it is done bit by bit, and none is done for nothing. */
#include "harness.h"

#define N 1000

static gt_sched *s;
static gt_p *p;
static gt_timer *timers[N];
static int calls[N], again;
static int64_t base;

static void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    int i = (int)(intptr_t)arg;
    (void)seq;
    CHECK_GE(delay, 0);
    calls[i]++;
    if (again) CHECK_EQ(gt_resettimer(timers[i], base, 0), 0);
}

static void begin(void) {
    s = virtual_sched();
    p = gt_p_new(s);
    CHECK(p != NULL);
    CHECK_EQ(gt_acquirep(p), 0);
    base = gt_nanotime(s) + 1000;
    for (int i = 0; i < N; i++) {
        timers[i] = gt_timer_new(s, on_fire, (void *)(intptr_t)i, NULL);
        CHECK(timers[i] != NULL);
        CHECK_EQ(gt_addtimer(timers[i], base + i, 0), 0);
    }
}

static void end(void) {
    check_conserved(s);
    for (int i = 0; i < N; i++) CHECK_GE(gt_timer_free(timers[i]), 0);
    gt_releasep();
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

static void called(int times) {
    for (int i = 0; i < N; i++) CHECK_EQ(calls[i], times);
}

/* More stale heads than are repaired in one hold: all get their place, none runs early, none is lost. */
TEST(passes_many_stale_heads, 20) {
    int64_t until;
    begin();
    for (int i = 0; i < N; i++) CHECK_EQ(gt_resettimer(timers[i], base + 100000 + i, 0), 1);
    CHECK_EQ(gt_check_timers(p, base + 50000, NULL, &until), 0);
    CHECK_EQ(until, base + 100000);
    called(0);
    CHECK_EQ(gt_check_timers(p, base + 100000 + N, NULL, &until), 1);
    called(1);
    end();
}

/* Each callback re-arms its timer for a time that is due: it waits for the next pass, all of them do, and all come. */
TEST(passes_many_put_off, 20) {
    int64_t until;
    begin();
    again = 1;
    CHECK_EQ(gt_check_timers(p, base + N, NULL, &until), 1);
    called(1);
    CHECK_LE(until, base + N);
    again = 0;
    CHECK_EQ(gt_check_timers(p, base + N, NULL, &until), 1);
    called(2);
    CHECK_EQ(until, 0);
    end();
}

/* At the end of time nothing was made earlier either: no scan. */
TEST(passes_at_the_end_of_time_scan_nothing, 20) {
    int64_t until;
    gt_stats st = {.size = sizeof st};
    begin();
    for (int i = 0; i < N; i++) CHECK_EQ(gt_resettimer(timers[i], GT_MAX_WHEN, 0), 1);
    for (int i = 0; i < 5; i++) CHECK_EQ(gt_check_timers(p, GT_MAX_WHEN, NULL, &until), 0);
    CHECK_EQ(gt_stats_get(s, &st), 0);
    CHECK_EQ(st.scans, 0);
    called(0);
    end();
}

/* A scan gives every stale entry its place and takes every dead one off, wherever they stand in the heap and whatever
 * comes to stand where they were: afterwards each timer is where its state says. */
TEST(passes_scan_leaves_nothing, 60) {
    uint64_t rng = test_seed();
    int armed[N];
    begin();
    for (int i = 0; i < N; i++) armed[i] = 1;
    for (int round = 0; round < 200; round++) {
        int n = 2 + (int)rng_below(&rng, N - 2);
        for (int k = 0; k < n; k++) {
            int i = (int)rng_below(&rng, N);
            if (rng_below(&rng, 8) == 0) {
                CHECK_EQ(gt_deltimer(timers[i]), armed[i]);
                armed[i] = 0;
            } else {
                int64_t when = base + 1000 + (int64_t)rng_below(&rng, 1000000);
                CHECK_EQ(gt_resettimer(timers[i], when, 0), armed[i]);
                armed[i] = 1;
            }
        }
        gt_adjusttimers(p, 0, 1);
        for (int i = 0; i < N; i++)
            CHECK_EQ(gt_timer_status(timers[i]), armed[i] ? GT_TIMER_WAITING : GT_TIMER_REMOVED);
    }
    end();
}
