/* Out of memory: an alloc hook that refuses chosen requests, and calls that are made again when
 * they are refused, having changed nothing. */
#ifndef FAULTS_NOMEM_H
#define FAULTS_NOMEM_H

#include "faults.h"

struct memory {
    _Atomic int64_t calls, denied, bytes, blocks;
    _Atomic int64_t deny[2];     /* the numbers of the requests that get NULL; 0: none */
    _Atomic int64_t one_in;      /* > 0: besides, one in so many, at random */
    _Atomic uint64_t rng;
    gt_host host;                /* with the alloc hook, unless by_system */
    int by_system;               /* the library asks the C library, which refuses (system.h) */
};

extern struct memory memory;

void memory_start(int64_t first, int64_t second);
void memory_start_system(int64_t first, int64_t second);
/* All that the library has got it has given back. */
void memory_is_back(void);
void memory_host(gt_host *h);

/* What may not change when a call is refused. s NULL: nothing is looked at. */
struct before {
    gt_sched *s;
    gt_p **ps;
    int n_ps;
    gt_stats stats;
    int64_t denied;
    int tries;
};

void before_call(struct before *b);
/* The call gave r (0 for a pointer that is not NULL). 1: it was refused, make it again. */
int refused(struct before *b, int r, const char *what);

extern struct before before;

/* Makes the call, again if it is refused; r_ becomes its result. */
#define INT(r_, call_)                                                                   \
    do {                                                                                 \
        before.tries = 0;                                                                \
        do {                                                                             \
            before_call(&before);                                                        \
            (r_) = (call_);                                                              \
        } while (refused(&before, (r_) < 0 ? (int)(r_) : 0, #call_));                    \
    } while (0)

/* The result must be this. */
#define IS(call_, want_)                                                                 \
    do {                                                                                 \
        int64_t is_;                                                                     \
        INT(is_, call_);                                                                 \
        if (is_ != (int64_t)(want_))                                                     \
            test_failed(__FILE__, __LINE__, "%s gave %lld, not %lld; requests %lld and %lld were refused", \
                        #call_, (long long)is_, (long long)(want_),                      \
                        (long long)memory.deny[0], (long long)memory.deny[1]);           \
    } while (0)

#define PTR(v_, call_)                                                                   \
    do {                                                                                 \
        before.tries = 0;                                                                \
        do {                                                                             \
            before_call(&before);                                                        \
            (v_) = (call_);                                                              \
        } while (refused(&before, (v_) == NULL ? gt_last_error() : 0, #call_));          \
        CHECK((v_) != NULL);                                                             \
    } while (0)

/* The workloads: each uses what it is about, and must come out the same whatever is refused.
 * They return how many requests for memory they made. */
int64_t work_engine(void);
int64_t work_time(void);
int64_t work_runtime(void);
int64_t work_large(void);        /* by_system: what only grows without an alloc hook */
int64_t work_spares(void);       /* the runtime with a spare thread */

#endif
