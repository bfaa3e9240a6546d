/* hold.c: how long a P's lock is held at most, with n timers armed. It is linked with a library built with the feature
 * `holds`, which calls gt_bench_on_lock's function when a P's lock has been taken and before it is let go. With any other
 * library the figures are the times between two events at which no lock is held, the return of a call or the beginning
 * or end of a callback: no hold can be longer, but a call may hold the lock many times.
 *
 * A virtual machine takes the processor away for a millisecond now and then. So each run is repeated, exactly the same
 * each time; of each hold the shortest time counts, and then the longest of all holds. "call" is the same for the
 * events.
 *
 *   cancel   stop all, a check at every 64th           adopt   another P adopts all
 *   shorten  half of them to 1..10 s, with checks      free    the P is freed, another one gets all
 *   jump     the same without, then all are due        trim    stop half of them, then gt_trim
 *   burst    all due within one second, one check      churn   re-arm at random, 12 s of virtual time
 *   arm      arm all, the heap grows                     stale   re-arm all to later, then their old times pass */
#include "../core/common.h"

#include "gotimer.h"

const char *bench_program = "libgotimer";

/* Of the feature `holds`: f(1) when a P's lock has been taken, f(0) before it is let go. */
extern void gt_bench_on_lock(void (*f)(int taken)) __attribute__((weak));

/* Steps by number: the shortest time of each, in stamps, over the runs. */
struct steps {
    uint32_t *shortest;
    uint64_t room, at, last;
};
static struct steps events, holds;
static double per_ns;
static int running, held;

static void step(struct steps *s, uint64_t now) {
    uint64_t d = now - s->last;
    if (s->at == s->room) bench_die("hold", "more steps than room");
    uint32_t *v = &s->shortest[s->at++];
    if (d > UINT32_MAX) d = UINT32_MAX;
    if (*v == 0 || d < *v) *v = (uint32_t)d + (d == 0);
}

static void event(void) {
    step(&events, stamp_now());
    events.last = stamp_now();
}

/* Two Ps' locks may be held at a time; then the first one's hold is the longer. */
static void on_lock(int taken) {
    uint64_t now = stamp_now();
    if (!running) return;
    if (!taken && --held == 0) step(&holds, now);
    if (taken && held++ == 0) holds.last = stamp_now();
}

static double longest(const struct steps *s) {
    uint32_t most = 0;
    for (uint64_t i = 0; i < s->at; i++) most = s->shortest[i] > most ? s->shortest[i] : most;
    return (double)most / per_ns / 1e3;
}

/* ---- the runs ---- */

static void must(const char *what, int64_t got) {
    if (got < 0) bench_die(what, gt_strerror((int)got));
}

static void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
    event();
}

static void check(gt_p *p, int64_t now) {
    int64_t until;
    do {
        gt_check_timers(p, now, NULL, &until);
        event();
    } while (until != 0 && until <= now);
}

static void run(const char *what, gt_p *p, gt_p *q, gt_timer **timers, uint64_t n, uint64_t seed) {
    int64_t now = BASE, end;
    const int jump = strcmp(what, "jump") == 0;
    if (strcmp(what, "trim") == 0)
        for (uint64_t i = 0; i < n; i += 2) gt_deltimer(timers[i]);
    events.last = stamp_now();
    if (strcmp(what, "cancel") == 0) {
        for (uint64_t i = 0; i < n; i++) {
            gt_deltimer(timers[i]);
            event();
            if (i % 64 == 0) check(p, now);
        }
        for (int i = 0; i < 1000; i++) check(p, now += MILLISECOND);
    } else if (strcmp(what, "shorten") == 0 || jump) {
        for (uint64_t i = 0; i < n / 2; i++) {
            uint64_t k = rng_below(&seed, n);
            gt_resettimer(timers[k], now + SECOND + (int64_t)rng_below(&seed, 9 * (uint64_t)SECOND), 0);
            event();
            if (jump) continue;
            now += 1000;
            if (i % 64 == 0) check(p, now);
        }
        if (jump) check(p, now + 11 * SECOND);
        else
            for (end = now + 11 * SECOND; now < end;) check(p, now += MILLISECOND);
    } else if (strcmp(what, "stale") == 0) {
        for (uint64_t i = 0; i < n; i++) {
            gt_resettimer(timers[i], now + 100 * SECOND + (int64_t)rng_below(&seed, 60 * (uint64_t)SECOND), 0);
            event();
        }
        check(p, now + 90 * SECOND);
    } else if (strcmp(what, "burst") == 0) {
        check(p, now + 100 * SECOND);
    } else if (strcmp(what, "churn") == 0) {
        const int64_t step = bench.quick ? 20000 : 5000;
        uint64_t i = 0;
        for (end = now + 12 * SECOND; now < end; now += step, i++) {
            gt_resettimer(timers[rng_below(&seed, n)], rng_when(&seed, now), 0);
            event();
            if (i % 64 == 0) check(p, now);
        }
    } else if (strcmp(what, "adopt") == 0) {
        must("gt_adopt_timers", gt_adopt_timers(q, p));
        event();
    } else if (strcmp(what, "free") == 0) {
        must("gt_p_free", gt_p_free(p));
        event();
    } else if (strcmp(what, "arm") == 0) {
        for (uint64_t i = 0; i < n; i++) {
            gt_addtimer(timers[i], rng_when(&seed, now), 0);
            event();
        }
    } else if (strcmp(what, "trim") == 0) {
        must("gt_trim", gt_trim(p));
        event();
    }
}

static void one(const char *what) {
    const uint64_t n = bench.n;
    uint64_t seed = bench.seed;
    gt_config config = {.size = sizeof config, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s = gt_sched_new(&config);
    gt_p *p = s == NULL ? NULL : gt_p_new(s), *q = p == NULL ? NULL : gt_p_new(s);
    if (q == NULL) bench_die("gt_p_new", gt_strerror(gt_last_error()));
    must("gt_acquirep", gt_acquirep(p));
    gt_timer **timers = bench_alloc(n, sizeof *timers);
    for (uint64_t i = 0; i < n; i++) {
        timers[i] = gt_timer_new(s, on_fire, NULL, NULL);
        if (timers[i] == NULL) bench_die("gt_timer_new", gt_strerror(gt_last_error()));
        int64_t soon = BASE + 10 * SECOND + (int64_t)rng_below(&seed, (uint64_t)SECOND);
        if (strcmp(what, "arm") == 0) continue;
        must("gt_addtimer", gt_addtimer(timers[i], strcmp(what, "burst") == 0 ? soon : rng_when(&seed, BASE), 0));
    }
    gt_check_timers(p, BASE, NULL, NULL);
    events.at = holds.at = 0;
    running = 1;
    run(what, p, q, timers, n, seed);
    running = 0;
    for (uint64_t i = 0; i < n; i++) must("gt_timer_free", gt_timer_free(timers[i]));
    gt_releasep();
    if (strcmp(what, "free") != 0) must("gt_p_free", gt_p_free(p));
    must("gt_p_free", gt_p_free(q));
    must("gt_sched_free", gt_sched_free(s));
    free(timers);
}

static void report(const char *what) {
    char name[40], extra[160];
    const int exact = gt_bench_on_lock != NULL;
    double call = longest(&events), hold = exact ? longest(&holds) : call;
    snprintf(name, sizeof name, "hold-%s", what);
    snprintf(extra, sizeof extra, "\"unit\": \"us\", \"call\": %.1f, \"holds\": %llu, \"events\": %llu, \"by\": \"%s\", \"runs\": %d", call,
             (unsigned long long)holds.at, (unsigned long long)events.at, exact ? "holds" : "calls", bench.reps);
    bench_emit(name, bench.n, 1, &hold, 1, extra);
}

int main(int argc, char **argv) {
    static const char *const all[] = {"cancel", "shorten", "jump", "burst", "churn", "adopt", "free", "trim", "stale", "arm"};
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        printf("{\"peer\": \"libgotimer\", \"version\": \"%s\", \"order\": \"exact\", \"notes\": {}, \"workloads\": [\"hold\"]}\n",
               gt_version_string());
        return 0;
    }
    bench_options(argc, argv);
    per_ns = stamps_per_ns();
    events.room = holds.room = 4 * bench.n + 8000000;
    events.shortest = bench_alloc(events.room, sizeof *events.shortest);
    holds.shortest = bench_alloc(holds.room, sizeof *holds.shortest);
    if (gt_bench_on_lock != NULL) gt_bench_on_lock(on_lock);
    int any = 0;
    for (unsigned w = 0; w < sizeof all / sizeof *all; w++) {
        /* "hold" is all of them, "hold-adopt" one */
        if (strcmp(bench.workload, "hold") != 0 && (strlen(bench.workload) < 6 || strcmp(bench.workload + 5, all[w]) != 0)) continue;
        any = 1;
        memset(events.shortest, 0, events.room * sizeof *events.shortest);
        memset(holds.shortest, 0, holds.room * sizeof *holds.shortest);
        for (int r = 0; r < bench.reps; r++) one(all[w]);
        report(all[w]);
    }
    if (!any) bench_die(bench.workload, "no such workload here; see --list");
    return 0;
}
