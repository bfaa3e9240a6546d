/* alarms.c: timers that a thread outside the runtime arms while all workers sleep, one after the other. Nothing
 * else happens then: if the wake hook did not break the poller's sleep, nobody would come to run them. This is
 * also the lateness of a machine that has nothing else to do. Then they are left in peace for a moment, with a
 * timer armed for an hour from now, and should take no processor time at all. */
#define _GNU_SOURCE
#include "conn.h"

#include <semaphore.h>
#include <sys/resource.h>
#include <time.h>

struct alarm {
    int64_t when;
    sem_t rang;
};

static void on_alarm(void *arg, uintptr_t seq, int64_t delay) {
    struct alarm *a = arg;
    int64_t late = runtime_now() - a->when;
    (void)seq;
    if (delay < 0 || late < 0) count_up(&tally.early, 1);
    hist_add(&tally.late_alarms, late);
    sem_post(&a->rang);
}

static int64_t processor_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static struct rest rest(gt_timer *t) {
    struct rusage before, after;
    struct rest r = {.length = 100 * MS};
    int e = gt_addtimer(t, runtime_now() + 3600 * SECOND, 0);
    if (e < 0) die("gt_addtimer", e);
    nanosleep(&(struct timespec){.tv_nsec = 10 * MS}, NULL); /* they fall asleep */
    getrusage(RUSAGE_SELF, &before);
    r.processor = processor_time();
    nanosleep(&(struct timespec){.tv_nsec = (long)r.length}, NULL);
    r.processor = processor_time() - r.processor;
    getrusage(RUSAGE_SELF, &after);
    r.switches = after.ru_nvcsw - before.ru_nvcsw - 1; /* one was ours */
    return r;
}

bool alarms_ring(unsigned n, uint64_t seed, struct rest *at_rest) {
    struct alarm a;
    sem_init(&a.rang, 0, 0);
    gt_timer *t = gt_timer_new(runtime_sched(), on_alarm, &a, NULL);
    if (t == NULL) die("gt_timer_new", gt_last_error());
    bool all = true;
    while (all && n-- > 0) {
        nanosleep(&(struct timespec){.tv_nsec = (long)rng_below(&seed, 2 * MS)}, NULL); /* they fall asleep */
        a.when = runtime_now() + 1 + (int64_t)rng_below(&seed, 2 * MS);
        int e = gt_addtimer(t, a.when, 0);
        if (e < 0) die("gt_addtimer", e);
        struct timespec limit;
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 30;
        all = sem_timedwait(&a.rang, &limit) == 0;
    }
    if (all) *at_rest = rest(t);
    gt_deltimer_sync(t); /* the last callback has posted, but may not have ended */
    gt_timer_free(t);
    sem_destroy(&a.rang);
    return all;
}
