/* lateness.h: what the files of this benchmark share.
 *
 *   lateness.c  options, rounds, the tables
 *   ways.c      the ways to wait: raw system calls, and libgotimer
 *   slack.c     wake-ups at rest, and what slack saves */
#ifndef LATENESS_H
#define LATENESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define US 1000LL
#define MS 1000000LL
#define SECOND 1000000000LL

/* splitmix64 */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static inline int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* CPU time of all threads of this process, those that have ended included. */
static inline int64_t cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

/* 1 to 5 ms */
static inline int64_t random_sleep(uint64_t *rng) { return MS + (int64_t)(rng_next(rng) % (4 * MS + 1)); }

/* A way to wait. run sleeps n times, one after the other, and writes down how late each one was. */
struct way {
    const char *name;
    int raw;                       /* one of those that the rest is compared with */
    const char *(*missing)(void);  /* NULL, or says why this kernel cannot do it, or NULL */
    void (*begin)(void);           /* before the time is taken; may be NULL */
    void (*run)(uint64_t seed, int n, int64_t *late);
    void (*end)(void);
};
extern const struct way ways[];
extern const int n_ways;

/* The second and third part. */
void at_rest(int64_t ns);
void with_slack(uint64_t seed, int64_t ns, int rounds);

/* Voluntary context switches of all threads but the calling one; -1 if the kernel does not tell. */
int64_t switches_of_others(void);

_Noreturn void die(const char *what, const char *why);

/* Dies with the library's word for it if r is an error. */
void good(const char *what, int r);

#endif
