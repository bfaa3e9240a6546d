/* pause.h: the longest pauses with n timers armed: how long one call, or the time between two callbacks, may last.
 * Part of workloads.h.
 *
 *   cancel    stop all n, a check at every 64th stop; then 1000 checks, 1 ms apart
 *   shorten   re-arm half of them, drawn at random, to 1..10 s; then go on to 11 s in steps of 1 ms
 *   burst     all n are due within one second, and one check finds them all due
 *   churn     re-arm one at random to 10..70 s, 5 us for each, for 12 s: what was armed first comes to the surface
 *
 * A virtual machine takes the processor away for a millisecond now and then. So each run is repeated, exactly the same
 * each time; for each event the shortest of its times counts, and then the longest of all events. */
#ifndef BENCH_PAUSE_H
#define BENCH_PAUSE_H

#include "common.h"

struct pause {
    uint32_t *steps; /* for each event the shortest time so far, in stamps; 0: not seen */
    uint64_t room, at, last;
};
static struct pause pause_;

/* An event: the time since the last one is noted. */
static inline void pause_event(void) {
    uint64_t now = stamp_now(), d = now - pause_.last;
    if (pause_.at == pause_.room) bench_die("pause", "more events than room");
    uint32_t *s = &pause_.steps[pause_.at++], v = d > UINT32_MAX ? UINT32_MAX : d == 0 ? 1 : (uint32_t)d;
    if (*s == 0 || v < *s) *s = v;
    pause_.last = stamp_now();
}

/* Callbacks are events, too. */
static void pause_callback(struct fired *f, uint64_t i) {
    (void)f, (void)i;
    pause_event();
}

static inline void pause_check(struct peer *p, int64_t now) {
    PEER_CLOCK(now);
    peer_check(p, now);
    pause_event();
}

static void pause_run(struct peer *p, const char *what, uint64_t n, uint64_t seed, int64_t now) {
    pause_.at = 0;
    pause_.last = stamp_now();
    peer_fired(p)->each = pause_callback;
    if (strcmp(what, "cancel") == 0) {
        for (uint64_t i = 0; i < n; i++) {
            peer_stop(p, i);
            pause_event();
            if (i % CHECK_EVERY == 0) pause_check(p, now);
        }
        for (int i = 0; i < 1000; i++) pause_check(p, now += MILLISECOND);
    } else if (strcmp(what, "shorten") == 0) {
        for (uint64_t i = 0; i < n / 2; i++, now += STEP) {
            uint64_t k = rng_below(&seed, n);
            peer_rearm(p, k, now + SECOND + (int64_t)rng_below(&seed, 9 * (uint64_t)SECOND));
            pause_event();
            if (i % CHECK_EVERY == 0) pause_check(p, now);
        }
        for (int64_t end = now + 11 * SECOND; now < end;) pause_check(p, now += MILLISECOND);
    } else if (strcmp(what, "burst") == 0) {
        pause_check(p, now + 100 * SECOND);
    } else {
        for (int64_t end = now + 12 * SECOND, i = 0; now < end; now += 5000, i++) {
            uint64_t k = rng_below(&seed, n);
            peer_rearm(p, k, rng_when(&seed, now));
            pause_event();
            if (i % CHECK_EVERY == 0) pause_check(p, now);
        }
    }
    peer_fired(p)->each = NULL;
}

static void pauses(void) {
    static const char *const names[] = {"cancel", "shorten", "burst", "churn"};
    const uint64_t n = bench.n;
    double per_ns = stamps_per_ns();
    char extra[100];
    pause_.room = 3 * n + 4000000;
    pause_.steps = (uint32_t *)bench_alloc(pause_.room, sizeof *pause_.steps);
    for (unsigned w = 0; w < 4; w++) {
        memset(pause_.steps, 0, pause_.room * sizeof *pause_.steps);
        for (int r = 0; r < bench.reps; r++) {
            uint64_t seed = bench.seed;
            PEER_CLOCK(BASE);
            struct peer *p = peer_new(n);
            for (uint64_t i = 0; i < n; i++)
                peer_arm(p, i, w == 2 ? BASE + 10 * SECOND + (int64_t)rng_below(&seed, SECOND) : rng_when(&seed, BASE));
            peer_check(p, BASE);
            pause_run(p, names[w], n, seed, BASE);
            peer_free(p);
        }
        uint32_t longest = 0;
        for (uint64_t i = 0; i < pause_.at; i++) longest = pause_.steps[i] > longest ? pause_.steps[i] : longest;
        double us = (double)longest / per_ns / 1e3;
        snprintf(extra, sizeof extra, "\"unit\": \"us\", \"events\": %llu, \"runs\": %d", (unsigned long long)pause_.at, bench.reps);
        char name[40];
        snprintf(name, sizeof name, "pause-%s", names[w]);
        bench_emit(name, n, 1, &us, 1, extra);
    }
}
#endif
