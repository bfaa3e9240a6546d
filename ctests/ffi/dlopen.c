/* dlopen.c: a program that knows nothing of the library loads it late, as a language's FFI does, with threads running
 * already; timers are armed, moved and fired on each thread. The library has thread-locals of a fixed place
 * (src/procs/last.rs), for which the loader must find room in threads that are older than it.
 *
 *   dlopen PATH   loads the library PATH; exit 0 and one line if all is well */
#include "gotimer.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 4
#define TIMERS 100
#define MS 1000000LL

/* The functions, found by name. */
#define EACH(X) X(gt_sched_new) X(gt_sched_free) X(gt_p_new) X(gt_p_free) X(gt_acquirep) X(gt_releasep) X(gt_timer_new) \
    X(gt_timer_free) X(gt_addtimer) X(gt_resettimer) X(gt_deltimer) X(gt_check_timers) X(gt_nanotime)
#define DECLARE(name) static __typeof__(&name) p_##name;
EACH(DECLARE)

static pthread_barrier_t loaded;
static gt_sched *sched;

static void die(const char *what) {
    fprintf(stderr, "dlopen: %s\n", what);
    exit(1);
}

static void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    (void)seq, (void)delay;
    ++*(int *)arg;
}

static void *work(void *arg) {
    int fired = 0;
    gt_timer *t[TIMERS];
    (void)arg;
    pthread_barrier_wait(&loaded);
    gt_p *p = p_gt_p_new(sched);
    if (p == NULL || p_gt_acquirep(p) != 0) die("no P");
    int64_t now = p_gt_nanotime(sched);
    for (int i = 0; i < TIMERS; i++) {
        t[i] = p_gt_timer_new(sched, on_fire, &fired, NULL);
        if (t[i] == NULL || p_gt_addtimer(t[i], now + 3600000 * MS, 0) != 0) die("gt_addtimer");
        if (p_gt_resettimer(t[i], now + 1, 0) != 1) die("gt_resettimer");
        if (i % 2 == 0 && p_gt_deltimer(t[i]) != 1) die("gt_deltimer");
    }
    p_gt_check_timers(p, now + MS, NULL, NULL);
    if (fired != TIMERS / 2) die("not all have fired");
    for (int i = 0; i < TIMERS; i++)
        if (p_gt_timer_free(t[i]) != 0) die("gt_timer_free");
    p_gt_releasep();
    if (p_gt_p_free(p) != 0) die("gt_p_free");
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    if (argc != 2) die("usage: dlopen PATH");
    pthread_barrier_init(&loaded, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, NULL);
    void *lib = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) die(dlerror());
#define FIND(name) \
    if ((p_##name = (__typeof__(&name))dlsym(lib, #name)) == NULL) die(#name " is missing");
    EACH(FIND)
    sched = p_gt_sched_new(NULL);
    if (sched == NULL) die("gt_sched_new");
    pthread_barrier_wait(&loaded);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    if (p_gt_sched_free(sched) != 0) die("gt_sched_free");
    printf("dlopen: loaded late, %d threads, %d timers each\n", THREADS, TIMERS);
    return 0;
}
