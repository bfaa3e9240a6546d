/* scans.c: several threads check one P, and each time each has shortened one of its many timers, so that only a scan
 * of the whole heap finds it. How many checks a second, and the longest.
 *
 * scans [N]: N timers (100000). */
#include "../core/common.h"
#include "gotimer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

const char *bench_program = "scans";

enum { MOST = 8, AT_REST = 60 };

static gt_sched *sched;
static gt_p *p;
static gt_timer **timers;
static uint64_t n = 100000;
static atomic_int stop;

struct worker {
    pthread_t thread;
    uint64_t rng, checks;
    int64_t longest;
};

static void nothing(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
}

static int64_t at_rest(void) { return gt_nanotime(sched) + AT_REST * SECOND; }

static void *work(void *arg) {
    struct worker *w = arg;
    while (!atomic_load(&stop)) {
        gt_timer *t = timers[rng_below(&w->rng, n)];
        gt_resettimer(t, gt_nanotime(sched), 0);
        int64_t begin = real_now();
        gt_check_timers(p, 0, NULL, NULL);
        int64_t took = real_now() - begin;
        if (took > w->longest) w->longest = took;
        w->checks++;
        gt_resettimer(t, at_rest(), 0);
    }
    return NULL;
}

static uint64_t scans(void) {
    gt_stats st = {.size = sizeof st};
    if (gt_stats_get(sched, &st) != 0) bench_die("gt_stats_get", "failed");
    return st.scans;
}

static void run(int threads) {
    struct worker w[MOST] = {0};
    struct timespec two = {2, 0};
    uint64_t checks = 0, before = scans();
    int64_t longest = 0;
    atomic_store(&stop, 0);
    for (int i = 0; i < threads; i++) {
        w[i].rng = (uint64_t)i;
        if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0) bench_die("pthread_create", "failed");
    }
    nanosleep(&two, NULL);
    atomic_store(&stop, 1);
    for (int i = 0; i < threads; i++) {
        pthread_join(w[i].thread, NULL);
        checks += w[i].checks;
        if (w[i].longest > longest) longest = w[i].longest;
    }
    printf("%llu timers, %d threads: %llu checks/s, %llu scans/s, longest check %.2f ms\n", (unsigned long long)n, threads,
           (unsigned long long)checks / 2, (unsigned long long)(scans() - before) / 2, (double)longest / MILLISECOND);
}

int main(int argc, char **argv) {
    gt_config cfg = {.size = sizeof cfg};
    if (argc > 1) n = strtoull(argv[1], NULL, 10);
    timers = calloc(n, sizeof *timers);
    sched = gt_sched_new(&cfg);
    p = gt_p_new(sched);
    if (timers == NULL || n == 0 || sched == NULL || p == NULL) bench_die("setup", "failed");
    for (uint64_t i = 0; i < n; i++) {
        timers[i] = gt_timer_new(sched, nothing, NULL, NULL);
        if (timers[i] == NULL || gt_addtimer_on(p, timers[i], at_rest(), 0) != 0) bench_die("gt_addtimer_on", "failed");
    }
    for (int threads = 1; threads <= MOST; threads *= 2) run(threads);
    return 0;
}
