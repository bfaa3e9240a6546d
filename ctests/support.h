/* What several test files share beyond the harness: a counting callback and drop, an
 * allocator for gt_host that counts and can be made to fail, and a comparison of counters
 * around a call that failed. */
#ifndef CTESTS_SUPPORT_H
#define CTESTS_SUPPORT_H

#include "harness.h"

#define MS ((int64_t)1000000)
#define SEC ((int64_t)1000000000)
#define T0 ((int64_t)GT_VIRTUAL_EPOCH)

/* An arg that counts what is done with it. */
struct counter {
    atomic_int runs, drops;
    _Atomic int64_t delay;       /* of the last run */
    _Atomic uintptr_t seq;       /* of the last run */
    _Atomic uintptr_t dropper;   /* the thread that dropped it last */
};

void count_run(void *arg, uintptr_t seq, int64_t delay);
void count_drop(void *arg);

/* Another f that also counts, for tests that replace f. */
void count_run_other(void *arg, uintptr_t seq, int64_t delay);

uintptr_t this_thread(void);

/* Memory given to the library through gt_host, counted. A block is filled with rubbish when
 * it is given out and again when it comes back; free with another size or alignment than
 * alloc's fails the test. */
struct alloc_hook {
    _Atomic int64_t bytes, blocks;   /* out now */
    _Atomic int64_t calls;           /* to alloc, so far */
    _Atomic int64_t denied;          /* of these got NULL */
    _Atomic int64_t deny_at;         /* the number of the call that gets NULL; 0: none */
    atomic_int deny_all;
};

void alloc_hook_host(struct alloc_hook *a, gt_host *h);
gt_sched *alloc_hook_sched(struct alloc_hook *a, uint32_t clock);

/* From now on the n-th call to alloc gets NULL; n = 0: none does. */
void alloc_hook_deny(struct alloc_hook *a, int64_t n);

/* Everything a failed call must leave alone in the counters. */
void check_same_counters(gt_sched *s, const gt_stats *before);

/* All memory of this hook must have come back. */
void check_all_returned(struct alloc_hook *a);

/* A running thread. thread_start checks; thread_join waits for its end. */
pthread_t thread_start(void *(*fn)(void *), void *arg);
void thread_join(pthread_t t);

/* Waits until *flag is at least n; fails the test after a minute (times GT_TEST_SLOW). */
void wait_for(atomic_int *flag, int n);

#endif
