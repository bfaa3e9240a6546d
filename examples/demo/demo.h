/* demo.h: what the files of the demo share: the counts, the record that is kept of each arming, the phases.
 *
 *   ../demo.c  threads, Ps, phases, the final audit
 *   load.c     the load: connections, tickers, messages, and their callbacks
 *   report.c   the progress line, the tables, the histogram
 *
 * The demo does not trust the library: every arming is written down here too, and at the end each must have
 * been called, stopped by a call that returned 1, or replaced by a call that returned 1, exactly once, or its
 * time has not come. */
#ifndef DEMO_H
#define DEMO_H

#define _GNU_SOURCE
#include "gotimer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define US 1000LL
#define MS 1000000LL
#define SECOND 1000000000LL

/* What is counted, per thread. */
enum count {
    /* calls of the library */
    N_NEW, N_ADD, N_MOD, N_DEL, N_FREE, N_DETACH, N_CHECK, N_OTHERS, N_SLEEP, N_P_NEW, N_ADOPT, N_P_FREE,
    CALLS, /* how many kinds of calls there are */
    /* what became of the armings, by our own record */
    C_ARMED = CALLS, C_CALLED, C_TICKS, C_STOPPED, C_REPLACED,
    /* args that have a drop function */
    D_MADE, D_DROPPED,
    /* what must never happen */
    E_EARLY,   /* called before its time */
    E_FATE,    /* an arming with two ends: called twice, called after a stop that returned 1, ... */
    E_DROP,    /* dropped twice, dropped too soon, or called after the drop */
    E_CALL,    /* a library call failed */
    COUNTS
};

/* Lateness as the callbacks measure it: 16 buckets for each power of two. */
#define LATE_SUB 16
#define LATE_BUCKETS (61 * LATE_SUB)

/* One per thread; only its thread writes, the report reads. */
struct tally {
    _Atomic uint64_t n[COUNTS];
    _Atomic uint64_t late[LATE_BUCKETS];
    _Atomic int64_t late_max;
    _Atomic int first_error; /* the code of the first library call that failed; 0 none */
    uint64_t rng;
    struct tally *next;
};
extern _Thread_local struct tally *me;

struct tally *tally_new(uint64_t seed); /* becomes this thread's `me`; kept until the program ends */
uint64_t tally_sum(enum count k);
int64_t tally_late_max(void);
int tally_first_error(void);
void tally_late_sum(uint64_t sum[LATE_BUCKETS]);
int64_t late_bound(unsigned bucket); /* the smallest lateness of the bucket, ns */

static inline void count_up(enum count k, uint64_t by) {
    _Atomic uint64_t *n = &me->n[k];
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by, memory_order_relaxed);
}

/* splitmix64 */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* below n, n < 2^32 */
static inline uint64_t rng_below(uint64_t *state, uint64_t n) { return (rng_next(state) >> 32) * n >> 32; }

/* The load; all calls but load_init and load_audit may be made from any thread that has a tally. */
struct load {
    gt_sched *sched;
    uint64_t conns, tickers;
    int64_t idle_ns; /* the time-outs are from idle_ns to twice that */
};
extern struct load load;

bool load_init(gt_sched *s, uint64_t conns, int64_t idle_ns); /* allocates the records */
void load_open(uint64_t from, uint64_t to);                  /* makes the timers of these connections and arms them */
void load_open_tickers(void);
void load_touch(int64_t now);                                /* something happens on a random connection */
void load_cut(uint64_t n, int64_t now);                      /* n random connections get a short time-out, as if memory ran low */
void load_odd_jobs(int64_t now);                             /* now and then a message is sent, a ticker changes its period */
void load_close(uint64_t from, uint64_t to);                 /* frees the timers of these connections */
void load_close_tickers(void);

/* What the record says about a moment. */
struct audit {
    uint64_t live;     /* timers that exist */
    uint64_t pending;  /* armed, their time has not come */
    uint64_t lost;     /* armed, their time was at or before `due`, and nothing came of them */
    int64_t due;
};
struct audit load_audit(int64_t due);

/* The report. */
struct shown {
    uint64_t seed, conns, workers;
    double seconds;      /* of the run and the drain, without set-up and tear-down */
    double setup_seconds;
};
struct result {
    struct shown shown;
    gt_stats stats;          /* at the quiet point after the drain */
    struct audit audit;      /* at the same moment */
    uint64_t own[COUNTS];    /* at the same moment; D_..., E_... at the very end */
    int64_t patience_ns;     /* how long the drain had to wait for the last overdue callback */
    int heap_rule;           /* 0, or the rule that gt_verify_timer_heap found broken */
    uint64_t heaps;          /* how many heaps were verified */
    int p_free_error, sched_free_error;
    uint64_t *late_counts;   /* the library's histogram */
    int late_buckets;
};

void report_start(const struct shown *);
void report_progress(gt_sched *, double at, double of); /* call it often; it decides when to print */
void report_progress_end(void);
int report_result(const struct result *); /* prints; returns the number of things that went wrong */

#endif
