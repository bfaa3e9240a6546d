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

/* gt_modtimer of a timer in a heap with one part changed and the others as they were: what is called is the new one. */
static void *got_arg;
static uintptr_t got_seq;
static int got_f;

static void first_f(void *arg, uintptr_t seq, int64_t delay) {
    (void)delay;
    got_f = 1, got_arg = arg, got_seq = seq;
}

static void second_f(void *arg, uintptr_t seq, int64_t delay) {
    (void)delay;
    got_f = 2, got_arg = arg, got_seq = seq;
}

TEST(passes_modtimer_each_part_counts, 20) {
    int a, b;
    int64_t until;
    begin();
    for (int part = 0; part < 5; part++) {
        gt_timer *t = gt_timer_new(s, first_f, &a, NULL);
        int64_t now = gt_nanotime(s);
        CHECK_EQ(gt_modtimer(t, now + 5000000, 0, first_f, &a, 7), 0);
        CHECK_EQ(gt_modtimer(t, now + 6000000, 0, first_f, &a, 7), 1); /* nothing but the time */
        CHECK_EQ(gt_modtimer(t, now + 4000000, part == 3 ? 9000000 : 0, part == 0 ? second_f : first_f, part == 1 ? &b : &a,
                             part == 2 ? 8 : 7), 1);
        got_f = 0;
        gt_check_timers(p, now + 3999999, NULL, &until);
        CHECK_EQ(got_f, 0);
        CHECK_EQ(gt_check_timers(p, now + 4000000, NULL, &until), 1);
        CHECK_EQ(got_f, part == 0 ? 2 : 1);
        CHECK_PTR_EQ(got_arg, part == 1 ? &b : &a);
        CHECK_EQ(got_seq, part == 2 ? 8 : 7);
        CHECK_EQ(gt_timer_when(t), part == 3 ? now + 13000000 : 0); /* it has a period by now, or not */
        CHECK_EQ(gt_timer_free(t), part == 3);
    }
    end();
}

/* A timer that is due in this pass is re-armed, by a callback, to another time that is due too: for the next pass. */
static gt_timer *other;
static int64_t to_time;

static void rearm_other(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
    CHECK_EQ(gt_resettimer(other, to_time, 0), 1);
}

TEST(passes_due_timer_rearmed_waits, 20) {
    int64_t until;
    begin();
    for (int later = 0; later < 2; later++) {
        gt_timer *t = gt_timer_new(s, rearm_other, NULL, NULL);
        other = gt_timer_new(s, second_f, NULL, NULL);
        int64_t now = gt_nanotime(s) + 5000000;
        to_time = later ? now + 300 : now + 50;
        CHECK_EQ(gt_addtimer(t, now, 0), 0);
        CHECK_EQ(gt_addtimer(other, now + 200, 0), 0);
        got_f = 0;
        CHECK_EQ(gt_check_timers(p, now + 1000, NULL, &until), 1);
        CHECK_EQ(got_f, 0);
        CHECK_LE(until, now + 1000);
        CHECK_NE(until, 0);
        CHECK_EQ(gt_check_timers(p, now + 1000, NULL, &until), 1);
        CHECK_EQ(got_f, 2);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_timer_free(other), 0);
    }
    end();
}
