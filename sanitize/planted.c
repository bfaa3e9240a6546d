/* Bugs, planted to see that each sanitizer watches: the program's own code in callbacks, and the
 * library's, which is given memory that it must not write to.
 *
 *     planted NAME       (none: lists the names)
 *
 * Each is a function of its own, so that a report names it. planted.sh says what must be reported
 * for it, by which tool. */
#define _POSIX_C_SOURCE 200809L   /* pthread_barrier_t */

#include "gotimer.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DUE ((int64_t)GT_VIRTUAL_EPOCH)

struct bed {
    gt_sched *s;
    gt_p *p;
};

static struct bed new_bed(void)
{
    gt_config cfg;
    struct bed b;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    b.s = gt_sched_new(&cfg);
    b.p = gt_p_new(b.s);
    if (b.p == NULL)
        abort();
    return b;
}

static void end_bed(struct bed b)
{
    if (gt_p_free(b.p) != 0 || gt_sched_free(b.s) != 0)
        abort();
}

/* Runs f(arg) from a timer. */
static void fire(gt_func f, void *arg)
{
    struct bed b = new_bed();
    gt_timer *t = gt_timer_new(b.s, f, arg, NULL);

    if (gt_addtimer_on(b.p, t, DUE, 0) != 0 || gt_check_timers(b.p, DUE, NULL, NULL) != 1)
        abort();
    gt_timer_free(t);
    end_bed(b);
}

static volatile int sink;

/* The compiler must not see what is planted: it would warn. */
static void *hidden(void *p)
{
    void *volatile v = p;

    return v;
}

/* The argument was freed before the timer fired. */
static void reads_freed(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    sink = *(volatile int *)arg;
}

static void freed_argument(void)
{
    int *arg = calloc(1, sizeof *arg);

    if (arg == NULL)
        abort();
    free(hidden(arg));
    fire(reads_freed, arg);
}

/* The library itself writes to freed memory: it is told to. */
static void freed_result(void)
{
    struct bed b = new_bed();
    int64_t *rnow = calloc(1, sizeof *rnow);

    if (rnow == NULL)
        abort();
    free(hidden(rnow));
    gt_check_timers(b.p, DUE, rnow, NULL);
    end_bed(b);
}

/* The library itself writes behind the end of an array. */
static void short_buffer(void)
{
    struct bed b = new_bed();
    char *json = hidden(malloc(8));

    if (json == NULL)
        abort();
    gt_stats_json(b.s, json, 4096);
    free(json);
    end_bed(b);
}

/* Nobody frees the argument: it has no drop function. */
static void does_nothing(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    memset(arg, 0, 40);
}

__attribute__((noinline)) static void leaks_argument(void) { fire(does_nothing, malloc(40)); }

static void leak(void)
{
    char wipe[4096];

    leaks_argument();
    memset(wipe, 0, sizeof wipe);       /* no copy of the pointer is left on the stack */
    sink = wipe[sizeof wipe / 2];
}

/* A branch on what nobody has written. */
static void branches(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    if (*(volatile int *)arg == 77)
        sink = 1;
}

static void unwritten(void)
{
    int *arg = malloc(sizeof *arg);

    fire(branches, arg);
    free(arg);
}

static void overflows(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    ++*(int *)arg;
}

static void overflow(void)
{
    int arg = INT_MAX;

    fire(overflows, &arg);
    sink = arg;
}

static void shifts(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    sink = 1 << *(int *)arg;
}

static void shift(void)
{
    int arg = 40;

    fire(shifts, &arg);
}

/* Two threads, each with a P and a sched of its own, and one thing that they share. They use it
 * first when both have come so far: else one could be done before the other has begun, and making a
 * sched takes a lock that all scheds share, by which the one would come after the other. */
static int shared;
static int64_t shared_now;
static pthread_barrier_t both;
static __thread int met;

static void meet(void)
{
    if (met++ == 0)
        pthread_barrier_wait(&both);
}

static void writes_shared(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    meet();
    shared++;
}

static void *fires_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++)
        fire(writes_shared, NULL);
    return NULL;
}

static void *checks_often(void *arg)
{
    struct bed b = new_bed();

    (void)arg;
    meet();
    for (int i = 0; i < 20000; i++)
        gt_check_timers(b.p, DUE, &shared_now, NULL);
    end_bed(b);
    return NULL;
}

static void on_two_threads(void *(*f)(void *))
{
    pthread_t t[2];

    if (pthread_barrier_init(&both, NULL, 2) != 0)
        abort();
    for (int i = 0; i < 2; i++)
        if (pthread_create(&t[i], NULL, f, NULL) != 0)
            abort();
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

static void race(void) { on_two_threads(fires_often); }

static void race_of_results(void) { on_two_threads(checks_often); }

static const struct {
    const char *name;
    void (*fn)(void);
} bugs[] = {
    {"freed_argument", freed_argument}, {"freed_result", freed_result},
    {"short_buffer", short_buffer},     {"leak", leak},
    {"unwritten", unwritten},           {"overflow", overflow},
    {"shift", shift},                   {"race", race},
    {"race_of_results", race_of_results},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        if (argc < 2) {
            puts(bugs[i].name);
        } else if (strcmp(argv[1], bugs[i].name) == 0) {
            bugs[i].fn();
            return 0;
        }
    }
    return argc < 2 ? 0 : 2;
}
