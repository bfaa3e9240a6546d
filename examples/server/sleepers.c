/* sleepers.c: green threads that do nothing but sleep, a great many of them. gt_sched_sleep parks the green
 * thread and arms its timer only then, so a short sleep cannot wake it before it is parked. */
#include "conn.h"

#include <stdlib.h>

static struct {
    uint64_t n, seed;
    unsigned times;
    int64_t most;
} sleepers;

static void sleep_well(void *arg) {
    uint64_t rng = sleepers.seed + (uint64_t)(uintptr_t)arg * 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < sleepers.times; i++) {
        int64_t d = (int64_t)(rng_next(&rng) % (uint64_t)sleepers.most) + 1;
        count_up(&tally.sleeps_begun, 1);
        int64_t until = runtime_now() + d;
        int e = gt_sched_sleep(runtime_sched(), d);
        if (e != 0) die("gt_sched_sleep", e);
        int64_t late = runtime_now() - until;
        if (late < 0) count_up(&tally.early, 1);
        hist_add(&tally.late_sleeps, late);
        count_up(&tally.sleeps_ended, 1);
    }
    count_up(&tally.sleepers_ended, 1);
}

static void start_all(void *arg) {
    (void)arg;
    for (uint64_t i = 0; i < sleepers.n; i++) {
        count_up(&tally.sleepers_begun, 1);
        if (!green_go(sleep_well, (void *)(uintptr_t)i)) {
            count_up(&tally.no_memory, 1);
            count_up(&tally.sleepers_ended, 1);
        }
        if (i % 64 == 63) green_yield(); /* others want their turn too */
    }
}

void sleepers_start(uint64_t n, unsigned times, int64_t most, uint64_t seed) {
    sleepers.n = n, sleepers.times = times, sleepers.most = most, sleepers.seed = seed;
    if (!green_go(start_all, NULL)) die("no memory for the sleepers", 0);
}
