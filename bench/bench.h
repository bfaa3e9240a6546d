/* bench.h: what the files of the benchmark share.
 *
 *   bench.c    options, repetitions, the table, the JSON file
 *   floor.c    the floors: what the same memory traffic costs without any timer logic
 *   library.c  the same workloads through the C ABI of libgotimer
 *
 * A floor and its workload draw the same random numbers in the same order and are timed in turn. */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define SECOND 1000000000LL
#define BASE (1000 * SECOND) /* the time at which the workloads begin; nobody reads a clock in them */

/* splitmix64 */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* below n, by multiplication: no division in the timed loops */
static inline uint64_t rng_below(uint64_t *state, uint64_t n) {
    return (uint64_t)((unsigned __int128)rng_next(state) * n >> 64);
}

/* 10 to 70 s after now */
static inline int64_t rng_when(uint64_t *state, int64_t now) {
    return now + 10 * SECOND + (int64_t)rng_below(state, 60 * (uint64_t)SECOND);
}

static inline double ns_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The callback of W3, for floor and library alike: counts, and sees whether the order is that of `when`. */
struct fired {
    uint64_t count, disorder;
    int64_t last_delay;
};
void on_fire(void *fired, uintptr_t seq, int64_t delay);

/* Times of one repetition of W3, ns in all. */
struct w3 {
    double arm, fire;
};

/* Each *_new prepares; each call after it is one repetition and returns its ns in all; *_free gives back.
 * `step` is how far the clock moves for each operation (0: W1, 1 us: W1roll, which also checks). */
struct floor;
struct floor *floor_new(uint64_t n);
void floor_free(struct floor *);
double floor_rearm(struct floor *, uint64_t ops, int64_t *now, int64_t step, uint64_t seed);
struct w3 floor_fire(struct floor *, uint64_t rounds, uint64_t seed);

struct library;
struct library *library_new(uint64_t n);
void library_arm_all(struct library *, uint64_t seed);
void library_free(struct library *);
double library_rearm(struct library *, uint64_t ops, int64_t *now, int64_t step, uint64_t seed);
double library_start_stop(struct library *, uint64_t ops, int64_t *now, int fresh); /* fresh: new and free each time */
struct w3 library_fire(struct library *, uint64_t rounds, uint64_t seed);

struct memory {
    double node, armed; /* bytes for each timer: made; made and armed */
};
struct memory library_memory(uint64_t n, uint64_t seed);

_Noreturn void die(const char *what, const char *why);

#endif
