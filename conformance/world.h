/* One run of a script: what world.c (the script's rules) and calls.c (the calls of the library)
 * share. */
#ifndef CONFORMANCE_WORLD_H
#define CONFORMANCE_WORLD_H

#include "runner.h"

struct world;

/* What a func timer's argument points to; each is dropped once. */
struct arg {
    struct world *w;
    int slot, serial, dropped;
    uint64_t given_up; /* the id of a timer that was given up and has not fired for good; 0 */
    struct arg *next;
};

struct slot {
    char kind; /* f, p, n, k; 0: empty */
    gt_timer *timer;
    int serial; /* which of the slot's timers this is */
    struct arg *arg;
    uintptr_t seq;
    /* The script's own idea of the timer, as in oracle/bubble.go. */
    int64_t due, set, period, fired;
    int firings, blocked;
    /* fd: -1: none. stale: for planted mistakes, a value kept; -1: none. */
    int fd;
    int64_t stale;
};

struct world {
    const struct script *s;
    struct bed *bed;
    gt_sched *sched;
    gt_p *ps[3];
    int np;
    uint64_t salt;
    struct slot slots[MAX_SLOTS];
    struct trace trace;
    struct arg *args;
    int at[MAX_ACTORS], asleep[MAX_ACTORS];
    int64_t sleeps_until; /* the last sleeper */
    int aborting, anomalies;
};

static inline int calls_back(const struct slot *s)
{
    return s->kind == 'f' || s->kind == 'p';
}

/* ---- calls.c ---- */

int64_t now_of(struct world *w);          /* since the script began */
int64_t when(struct world *w, int64_t d); /* the instant d from now, as package time has it */
/* Writes into the trace what is wrong. */
void anomaly(struct world *w, const char *what, int64_t number);
void expect(struct world *w, const char *what, int64_t got, int64_t want);

/* The library's calls, each in several ways: c chooses. */
void lib_new(struct world *w, struct slot *s, const struct op *o, uint64_t c);
int lib_stop(struct world *w, struct slot *s, uint64_t c, int own);
int lib_reset(struct world *w, struct slot *s, const struct op *o, uint64_t c);
int lib_try(struct world *w, struct slot *s, uint64_t c, int64_t *sent);
void lib_noise(struct world *w, uint64_t c);

/* ---- world.c ---- */

void fire(void *arg, uintptr_t seq, int64_t delay); /* the callback of all func timers */

#endif
