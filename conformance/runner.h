/* The C side of the conformance test: what its parts share.
 *
 *   script.c  reads scripts, keeps traces, prints both
 *   bed.c     where actors live: on green threads of one thread, or on threads of their own
 *   world.c   runs a script against libgotimer, by its rules
 *   calls.c   calls libgotimer, in several ways
 *   main.c    the program
 *
 * oracle/script.go describes scripts and traces, oracle/bubble.go how a script is run; both
 * sides follow the same rules. */
#ifndef CONFORMANCE_RUNNER_H
#define CONFORMANCE_RUNNER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "gotimer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- script.c ---- */

enum { MAX_SLOTS = 64, MAX_ACTORS = 8, MAX_OPS = 128, MAX_CALLS = 8 };

struct op {
    char kind; /* see oracle/script.go */
    int slot;
    int64_t d;
    int at_once; /* no quiet before it */
};

struct list {
    int n;
    struct op ops[MAX_OPS];
};

struct script {
    uint64_t seed;
    int64_t horizon;
    int actors, calls[MAX_SLOTS];
    struct list actor[MAX_ACTORS];
    struct list call[MAX_SLOTS][MAX_CALLS]; /* the callback of a slot's n-th firing */
};

void script_clear(struct script *s);
/* Adds a line of text to the script. 0: it is no line of a script. */
int script_line(struct script *s, const char *line);
void op_text(char *to, size_t len, const struct op *o);

enum { CALLBACK = 100, GIVEN_UP = 200, THE_END = 1000, ANOMALY = 2000 };

struct event {
    int64_t at;
    int who, n, sub;
    char what[72];
};

struct trace {
    struct event *events;
    size_t n, room;
};

/* Adds an event; threads must not do so at the same time. */
void trace_add(struct trace *t, int64_t at, int who, int n, int sub, const char *what);
/* The sorted trace as text, to be freed. */
char *trace_text(struct trace *t);
void trace_free(struct trace *t);

/* splitmix64's mixing step: a random number that depends on x alone. */
uint64_t mix(uint64_t x);
/* Says what is wrong with the machine or the program, and ends it. */
void die(const char *what) __attribute__((noreturn));

/* ---- bed.c ---- */

enum where { AWAY, AT_GATE, GONE };

/* The bed for n actors, each of which runs body(i). */
struct bed;
struct bed *bed_new(int threads, int n, void (*body)(void *arg, int i), void *arg);
/* The hooks that the sched must have; NULL: none. */
const gt_host *bed_host(struct bed *b);
/* Starts all actors; they run up to their first gate. ps: the sched's np Ps; choice: a random
 * number that says how the clock is moved. */
void bed_start(struct bed *b, gt_sched *s, gt_p **ps, int np, uint64_t choice);
/* An actor stops until bed_let. */
void bed_gate(struct bed *b, int i);
enum where bed_where(struct bed *b, int i);
/* The rest is for the conductor. Lets actor i go on; it runs in bed_quiet. */
void bed_let(struct bed *b, int i);
/* Returns when all actors are blocked, at their gates or gone, and no timer is due. */
void bed_quiet(struct bed *b);
/* Moves the clock on to the next deadline, but not past `limit`. 0: it is at `limit`. */
int bed_go_on(struct bed *b, int64_t limit);
/* All actors are gone. */
void bed_free(struct bed *b);
/* What the callbacks and the actors share is guarded by this lock. */
void bed_lock(struct bed *b);
void bed_unlock(struct bed *b);

/* ---- world.c and calls.c ---- */

/* How the script is run; all must give the same trace. */
enum mode { MODE_GREEN, MODE_THREADS, MODE_MIXED };

/* Deliberate mistakes, to see that they are found. */
enum plant { PLANT_NONE, PLANT_LATE, PLANT_STALE, PLANT_DRAIN, PLANT_OVERFLOW, PLANT_PERIOD,
             PLANT_EARLIER, PLANT_ZERO, PLANT_SELF, PLANT_TICK, PLANT_TWICE, PLANTS };
extern const char *const plant_names[PLANTS];
extern enum plant plant;

/* Runs the script; the trace, to be freed. salt: another choice of calls and Ps. */
char *world_run(const struct script *s, enum mode mode, uint64_t salt);

#endif
