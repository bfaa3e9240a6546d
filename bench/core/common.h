/* common.h: what all programs of the benchmark in C and C++ share: random numbers, clocks, the virtual clock, and
 * how a result is printed.
 *
 * Every program is called as   program WORKLOAD N [THREADS] [--seed S] [--reps R] [--quick]   and prints one JSON
 * line for each result; `program --list` prints one JSON line that says what it can do. The driver
 * (bench/driver) calls them in turn and does the rest. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* so this header comes first */
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SECOND 1000000000LL
#define MILLISECOND 1000000LL
#define BASE (1000 * SECOND) /* the virtual time at which the workloads begin */

/* splitmix64: the same numbers for every peer */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* below n, by multiplication: no division in the timed loops */
static inline uint64_t rng_below(uint64_t *state, uint64_t n) {
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)rng_next(state) * n >> 64);
}

/* 10 to 70 s after now */
static inline int64_t rng_when(uint64_t *state, int64_t now) {
    return now + 10 * SECOND + (int64_t)rng_below(state, 60 * (uint64_t)SECOND);
}

/* How one run goes: set from the command line. */
struct bench {
    const char *workload;
    uint64_t n, seed;
    int threads, reps, quick;
    double seconds; /* a repetition ends after about this time, however far it came */
};
extern struct bench bench;

/* The clock of this machine, CLOCK_MONOTONIC, also while the virtual clock is on. */
int64_t real_now(void);
static inline double ns_now(void) {
    return (double)real_now();
}

/* A cheap stamp for many short steps, and how many of its units make a nanosecond. */
static inline uint64_t stamp_now(void) {
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
#else
    return (uint64_t)real_now();
#endif
}
double stamps_per_ns(void);

/* While the virtual clock is on, clock_gettime and gettimeofday give `vclock` to the whole program, peers included,
 * no wait blocks, and no timerfd can be made (vclock.c): peers pay neither for the clock nor for the kernel. */
extern int64_t vclock;
extern int vclock_on;

/* Counts firings. `when` is what the peer itself went by; for exact peers it must not go back. `each`, if it is not
 * NULL, is told the number of each timer that fires: W7 and the pauses look at every single one. */
struct fired {
    uint64_t count, disorder;
    int64_t last;
    void (*each)(struct fired *, uint64_t i);
    int64_t *plan, *late; /* W7: when timer i should fire; the lateness of each firing */
};
static inline void fired_at(struct fired *f, uint64_t i, int64_t when) {
    if (__builtin_expect(f->each != NULL, 0)) f->each(f, i);
    f->count++;
    f->disorder += when < f->last;
    f->last = when;
}

/* An array of zeros for the caller's handles; W8 does not count it. */
void *bench_handles(uint64_t n, size_t size);
/* Memory, or the program ends. Zeroed; what it returns is at least aligned to 64. */
void *bench_alloc(uint64_t n, size_t size);
/* Bytes that the process has in memory, without bench_handles. */
double bench_resident(void);
/* Seconds of processor time of this process, user and system. */
double bench_cpu(void);

void bench_options(int argc, char **argv);
__attribute__((noreturn)) void bench_die(const char *what, const char *why);

/* Prints a result: `values` are ns per operation, one for each repetition, unless `extra` says otherwise. `extra` is
 * more JSON, such as "\"cpu_us\": 2.5", or NULL. */
void bench_emit(const char *workload, uint64_t n, int threads, const double *values, int count, const char *extra);
/* Prints W7's result: sorts `late`. */
void bench_emit_lateness(uint64_t n, int64_t *late, double cpu_seconds);

#ifdef __cplusplus
}
#endif
#endif
