/* runtime.c: W7 of libgotimer: its built-in runtime in real time, with gt_after_func. */
#include "../core/common.h"

#include "gotimer.h"

#include <pthread.h>
#include <stdatomic.h>

const char *bench_program = "libgotimer";

static int64_t *plan, *late;
static atomic_ullong fired;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_fired = PTHREAD_COND_INITIALIZER;

static void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    int64_t now = real_now();
    uint64_t i = (uint64_t)((int64_t *)arg - plan);
    (void)seq, (void)delay;
    late[i] = now - plan[i];
    if (atomic_fetch_add(&fired, 1) + 1 < bench.n) return;
    pthread_mutex_lock(&mutex);
    pthread_cond_signal(&all_fired);
    pthread_mutex_unlock(&mutex);
}

static void w7(void) {
    uint64_t n = bench.n, seed = bench.seed;
    plan = bench_alloc(n, sizeof *plan);
    late = bench_alloc(n, sizeof *late);
    int got = gt_runtime_start(NULL);
    if (got < 0) bench_die("gt_runtime_start", gt_strerror(got));
    double cpu = bench_cpu();
    int64_t begin = real_now() + 50 * MILLISECOND;
    for (uint64_t i = 0; i < n; i++) {
        plan[i] = begin + (int64_t)rng_below(&seed, (uint64_t)SECOND);
        gt_timer *t = gt_after_func(plan[i] - real_now(), on_fire, &plan[i], NULL);
        if (t == NULL) bench_die("gt_after_func", gt_strerror(gt_last_error()));
        gt_timer_detach(t);
    }
    pthread_mutex_lock(&mutex);
    while (atomic_load(&fired) < n) pthread_cond_wait(&all_fired, &mutex);
    pthread_mutex_unlock(&mutex);
    cpu = bench_cpu() - cpu;
    got = gt_runtime_stop();
    if (got < 0) bench_die("gt_runtime_stop", gt_strerror(got));
    bench_emit_lateness(n, late, cpu);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        printf("{\"peer\": \"libgotimer\", \"version\": \"%s\", \"order\": \"exact\", \"notes\": {\"W7\": \"the built-in runtime\"}, "
               "\"workloads\": [\"W7\"]}\n", gt_version_string());
        return 0;
    }
    bench_options(argc, argv);
    if (strcmp(bench.workload, "W7") != 0) bench_die(bench.workload, "no such workload here; see --list");
    w7();
    return 0;
}
