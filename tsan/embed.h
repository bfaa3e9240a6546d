/* The embedder's ThreadSanitizer: what the cases share. Each case is a function that runs in
 * a process of its own, built with -fsanitize=thread and linked with the release library,
 * which is not instrumented. embed.c is the runner.
 *
 * A case says what ThreadSanitizer must say: nothing, or a race in a function of this name. */
#ifndef TSAN_EMBED_H
#define TSAN_EMBED_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "gotimer.h"

#include <pthread.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#else
#include <stdatomic.h>
#endif

struct tsan_case {
    const char *name;
    const char *race;   /* NULL: no report; else a name that the report must contain */
    void (*fn)(void);
    struct tsan_case *next;
};

void tsan_case_register(struct tsan_case *c);

#define TSAN_CASE_(name_, race_)                                                         \
    static void tsan_case_##name_(void);                                                 \
    __attribute__((constructor)) static void tsan_register_##name_(void)                 \
    {                                                                                    \
        static struct tsan_case c_ = {#name_, race_, tsan_case_##name_, NULL};           \
        tsan_case_register(&c_);                                                         \
    }                                                                                    \
    static void tsan_case_##name_(void)

/* Nothing may be reported. */
#define CLEAN(name_) TSAN_CASE_(name_, NULL)
/* A race must be reported, with this function in it. */
#define RACE(name_, in_) TSAN_CASE_(name_, in_)

/* Ends the process with a line on stderr, from any thread. */
void tsan_failed(const char *file, int line, const char *what) __attribute__((noreturn));

#define MUST(cond_)                                                                      \
    do {                                                                                 \
        if (!(cond_))                                                                    \
            tsan_failed(__FILE__, __LINE__, #cond_);                                     \
    } while (0)

/* Flags that order nothing: what has to be ordered is ordered by the library, or it is a race. */
#define peek(x_) __atomic_load_n(&(x_), __ATOMIC_RELAXED)
#define poke(x_, v_) __atomic_store_n(&(x_), (v_), __ATOMIC_RELAXED)

void nap_ms(int ms);
void wait_until_set(int *flag);      /* with peek */
void wait_until_asleep(int *tid);    /* until the thread that has set it is blocked */
pthread_t start(void *(*fn)(void *), void *arg);
void join(pthread_t t);

/* A sched (virtual clock) with Ps, and a thread for each that runs its timers over and over
 * until bed_end, which frees all. A bed thread steals too if `thieves` is set. */
#define BED_MAX 4
struct bed {
    gt_sched *s;
    gt_p *p[BED_MAX];
    pthread_t thread[BED_MAX];
    int n, thieves;
    int stop;
};
void bed_start(struct bed *b, int n, int thieves);
void bed_stop(struct bed *b);        /* ends the threads */
void bed_end(struct bed *b);

#define DUE ((int64_t)GT_VIRTUAL_EPOCH)
#define LATER (DUE + 3600 * (int64_t)1000000000)

/* What is handed over: plain memory, guarded by nothing. Each access is in one of these
 * functions, so that a report names it. */
struct parcel {
    int value;
    int done;                        /* peek and poke only */
    struct bed *bed;
    gt_timer *t;
};
struct parcel *parcel_new(int value);
void writes(struct parcel *d, int value);
int reads(struct parcel *d);
void writes_in_callback(void *arg, uintptr_t seq, int64_t delay);   /* value++, done++ */
void reads_in_drop(void *arg);                                      /* reads, and frees */

#ifdef __cplusplus
}
#endif
#endif
