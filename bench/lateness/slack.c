/* slack.c: wake-ups of the built-in runtime while nothing is due, and how many wake-ups, and how much
 * CPU, slack saves. */
#include "lateness.h"

#include "gotimer.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TIMERS 1000

int64_t switches_of_others(void) {
    DIR *d = opendir("/proc/self/task");
    int64_t sum = 0;
    if (d == NULL) return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], line[256];
        long long n;
        if (e->d_name[0] == '.' || atol(e->d_name) == syscall(SYS_gettid)) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        FILE *f = fopen(path, "r");
        while (f != NULL && fgets(line, sizeof line, f) != NULL)
            if (sscanf(line, "voluntary_ctxt_switches: %lld", &n) == 1) sum += n;
        if (f != NULL) fclose(f);
    }
    closedir(d);
    return sum;
}

static void pause_ns(int64_t ns) {
    struct timespec t = {ns / SECOND, ns % SECOND};
    while (nanosleep(&t, &t) != 0) {}
}

static gt_stats stats(void) {
    gt_stats st = {.size = sizeof st};
    good("gt_stats_get", gt_stats_get(gt_runtime_sched(), &st));
    return st;
}

static void start(void) { good("gt_runtime_start", gt_runtime_start(NULL)); }

static void stop(void) { good("gt_runtime_stop", gt_runtime_stop()); }

/* ---- at rest ---- */

static void never(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
    die("a timer", "it was armed an hour ahead, and fired");
}

void at_rest(int64_t ns) {
    static gt_timer *t[TIMERS];
    start();
    for (int i = 0; i < TIMERS; i++)
        if ((t[i] = gt_after_func(3600 * SECOND + i * MS, never, NULL, NULL)) == NULL)
            die("gt_after_func", gt_strerror(gt_last_error()));
    pause_ns(300 * MS);
    int64_t switches = switches_of_others(), cpu = cpu_ns(), began = now_ns();
    gt_stats before = stats();
    pause_ns(ns);
    gt_stats after = stats();
    double s = (double)(now_ns() - began) / 1e9;
    int64_t cpu_used = cpu_ns() - cpu, slept = switches_of_others() - switches;
    printf("\nAt rest: %d timers armed an hour ahead, %d workers, %.1f s\n\n", TIMERS, gt_runtime_workers(), s);
    printf("  wake-ups of workers (voluntary context switches)  %8.1f /s\n", (double)slept / s);
    printf("  calls of the wake hook                            %8.1f /s\n", (double)(after.wakes - before.wakes) / s);
    printf("  CPU time                                          %8.1f us/s\n", (double)cpu_used / 1e3 / s);
    for (int i = 0; i < TIMERS; i++) good("gt_timer_free", gt_timer_free(t[i]));
    stop();
}

/* ---- slack ---- */

static const int64_t slacks[] = {0, 100 * US, MS, 10 * MS};
enum { SLACKS = sizeof slacks / sizeof slacks[0] };

static atomic_llong fired, late_sum, late_max;

static void on_tick(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq;
    if (delay < 0) die("a ticker", "it fired early");
    atomic_fetch_add_explicit(&fired, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&late_sum, delay, memory_order_relaxed);
    long long max = atomic_load_explicit(&late_max, memory_order_relaxed);
    while (delay > max && !atomic_compare_exchange_weak(&late_max, &max, delay)) {}
}

struct sums {
    double fired, late, late_max, cpu, wakes, seconds;
};

static void tick(uint64_t seed, int64_t slack, int64_t ns, struct sums *sum) {
    static gt_timer *t[TIMERS];
    fired = late_sum = late_max = 0;
    start();
    int64_t switches = switches_of_others(), cpu = cpu_ns(), began = now_ns();
    for (int i = 0; i < TIMERS; i++) {
        int64_t period = MS + (int64_t)(rng_next(&seed) % (99 * MS + 1));
        t[i] = gt_timer_new(gt_runtime_sched(), on_tick, NULL, NULL);
        if (t[i] == NULL) die("gt_timer_new", gt_strerror(gt_last_error()));
        good("gt_timer_set_slack", gt_timer_set_slack(t[i], slack));
        good("gt_addtimer", gt_addtimer(t[i], began + period, period));
    }
    pause_ns(ns);
    sum->seconds += (double)(now_ns() - began) / 1e9;
    sum->cpu += (double)(cpu_ns() - cpu);
    sum->wakes += (double)(switches_of_others() - switches);
    sum->fired += (double)fired;
    sum->late += (double)late_sum;
    sum->late_max = (double)late_max > sum->late_max ? (double)late_max : sum->late_max;
    for (int i = 0; i < TIMERS; i++) good("gt_timer_free", gt_timer_free(t[i]));
    stop();
}

void with_slack(uint64_t seed, int64_t ns, int rounds) {
    struct sums sums[SLACKS] = {{0}};
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < SLACKS; i++) tick(seed + (uint64_t)r, slacks[(i + r) % SLACKS], ns, &sums[(i + r) % SLACKS]);
    printf("\nSlack: %d tickers of 1 to 100 ms, %d rounds of %.1f s each. One whose period is shorter than its slack skips ticks.\n\n",
           TIMERS, rounds, (double)ns / 1e9);
    printf("  %-10s %10s %12s %12s %12s %12s %12s\n", "slack", "fired/s", "wake-ups/s", "CPU/firing", "CPU, 1 s", "late, mean",
           "late, max");
    for (int i = 0; i < SLACKS; i++) {
        struct sums *s = &sums[i];
        char name[32];
        if (slacks[i] == 0)
            snprintf(name, sizeof name, "none");
        else if (slacks[i] < MS)
            snprintf(name, sizeof name, "%lld us", (long long)(slacks[i] / US));
        else
            snprintf(name, sizeof name, "%lld ms", (long long)(slacks[i] / MS));
        double n = s->fired > 0 ? s->fired : 1;
        printf("  %-10s %10.0f %12.0f %9.2f us %9.1f ms %9.0f us %9.0f us\n", name, s->fired / s->seconds, s->wakes / s->seconds,
               s->cpu / n / 1e3, s->cpu / s->seconds / 1e6, s->late / n / 1e3, s->late_max / 1e3);
    }
    double base = sums[0].fired > 0 ? sums[0].cpu / sums[0].fired : 0, best = sums[SLACKS - 1].cpu / sums[SLACKS - 1].fired;
    if (base > 0 && best > 0) printf("\n  Precise costs %.1f times the CPU per firing that 10 ms of slack cost.\n", base / best);
}
