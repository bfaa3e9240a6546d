/* library.c: the workloads, through the C ABI of libgotimer. One thread, one P, bound. Times are given to
 * gt_check_timers, so no clock is read in the timed loops (the sched has a virtual clock). */
#include "bench.h"
#include "gotimer.h"

#include <stdlib.h>

#define CHECK_EVERY 64 /* operations between two looks at the timers, in the workloads whose clock moves */

struct library {
    uint64_t n;
    gt_sched *sched;
    gt_p *p;
    gt_timer **timers;
    struct fired fired;
};

static void must(const char *what, int64_t got) {
    if (got < 0) die(what, gt_strerror((int)got));
}

void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    struct fired *f = arg;
    (void)seq;
    f->count++;
    f->disorder += delay > f->last_delay;
    f->last_delay = delay;
}

static gt_stats stats(struct library *l) {
    gt_stats st = {.size = sizeof st};
    must("gt_stats_get", gt_stats_get(l->sched, &st));
    return st;
}

static struct library *with_sched(uint64_t n) {
    struct library *l = calloc(1, sizeof *l);
    gt_config config = {.size = sizeof config, .clock = GT_CLOCK_VIRTUAL};
    if (l == NULL) die("memory", "out of it");
    l->n = n;
    l->timers = calloc(n, sizeof *l->timers);
    if (l->timers == NULL) die("memory", "out of it");
    l->sched = gt_sched_new(&config);
    if (l->sched == NULL) die("gt_sched_new", gt_strerror(gt_last_error()));
    l->p = gt_p_new(l->sched);
    if (l->p == NULL) die("gt_p_new", gt_strerror(gt_last_error()));
    must("gt_acquirep", gt_acquirep(l->p));
    return l;
}

static gt_timer *new_timer(struct library *l) {
    gt_timer *t = gt_timer_new(l->sched, on_fire, &l->fired, NULL);
    if (t == NULL) die("gt_timer_new", gt_strerror(gt_last_error()));
    return t;
}

struct library *library_new(uint64_t n) {
    struct library *l = with_sched(n);
    for (uint64_t i = 0; i < n; i++) l->timers[i] = new_timer(l);
    return l;
}

void library_arm_all(struct library *l, uint64_t seed) {
    for (uint64_t i = 0; i < l->n; i++) must("gt_addtimer", gt_addtimer(l->timers[i], rng_when(&seed, BASE), 0));
}

void library_free(struct library *l) {
    gt_stats st = stats(l);
    if (st.early != 0 || st.armed != st.fired + st.stopped + st.replaced + st.pending)
        die("gt_stats", "the counters do not add up");
    for (uint64_t i = 0; i < l->n; i++) must("gt_timer_free", gt_timer_free(l->timers[i]));
    gt_releasep();
    must("gt_p_free", gt_p_free(l->p));
    must("gt_sched_free", gt_sched_free(l->sched));
    free(l->timers), free(l);
}

/* W1, W1roll */
double library_rearm(struct library *l, uint64_t ops, int64_t *now, int64_t step, uint64_t seed) {
    uint64_t pending = 0;
    double begin = ns_now();
    int64_t t = *now;
    for (uint64_t i = 0; i < ops; i++, t += step) {
        gt_timer *timer = l->timers[rng_below(&seed, l->n)];
        pending += gt_resettimer(timer, rng_when(&seed, t), 0) == 1;
        if (step != 0 && i % CHECK_EVERY == 0) gt_check_timers(l->p, t, NULL, NULL);
    }
    *now = t;
    double end = ns_now();
    if (pending + l->fired.count < ops) die("W1", "a re-arm found a timer that was not pending");
    return end - begin;
}

/* W2: one operation is to arm 30 s ahead and to stop, with the others in the heap. */
double library_start_stop(struct library *l, uint64_t ops, int64_t *now, int fresh) {
    uint64_t stopped = 0;
    gt_timer *timer = fresh ? NULL : new_timer(l);
    double begin = ns_now();
    int64_t t = *now;
    for (uint64_t i = 0; i < ops; i++, t += 1000) {
        if (fresh) {
            timer = gt_timer_new(l->sched, on_fire, &l->fired, NULL);
            gt_addtimer(timer, t + 30 * SECOND, 0);
            stopped += gt_deltimer(timer) == 1;
            gt_timer_free(timer);
        } else {
            gt_resettimer(timer, t + 30 * SECOND, 0);
            stopped += gt_deltimer(timer) == 1;
        }
        if (i % CHECK_EVERY == 0) gt_check_timers(l->p, t, NULL, NULL);
    }
    *now = t;
    double end = ns_now();
    if (!fresh) must("gt_timer_free", gt_timer_free(timer));
    if (stopped != ops) die("W2", "a stop did not return 1");
    return end - begin;
}

/* W3 */
struct w3 library_fire(struct library *l, uint64_t rounds, uint64_t seed) {
    struct w3 sum = {0, 0};
    for (uint64_t r = 0; r < rounds; r++) {
        double t0 = ns_now();
        int failed = 0;
        for (uint64_t i = 0; i < l->n; i++) failed |= gt_addtimer(l->timers[i], rng_when(&seed, BASE), 0);
        double t1 = ns_now();
        const int64_t now = BASE + 100 * SECOND;
        int64_t until;
        l->fired = (struct fired){.last_delay = INT64_MAX};
        do gt_check_timers(l->p, now, NULL, &until);
        while (until != 0 && until <= now);
        double t2 = ns_now();
        if (failed != 0 || l->fired.count != l->n) die("W3", "not all timers were armed and fired");
        if (l->fired.disorder != 0) die("W3", "timers fired out of order");
        sum.arm += t1 - t0;
        sum.fire += t2 - t1;
    }
    return sum;
}

/* W8 */
struct memory library_memory(uint64_t n, uint64_t seed) {
    struct library *l = with_sched(n);
    double empty = (double)stats(l).bytes;
    for (uint64_t i = 0; i < n; i++) l->timers[i] = new_timer(l);
    double made = (double)stats(l).bytes;
    library_arm_all(l, seed);
    double armed = (double)stats(l).bytes;
    library_free(l);
    return (struct memory){(made - empty) / (double)n, (armed - empty) / (double)n};
}
