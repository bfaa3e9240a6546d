/* A load: a sched with P loops, thieves and mutators that work on its timers in every way,
 * and books that say after each pause whether every arming went where it should. Used by the
 * soak test, which runs several at once for a long time, and by the fault tests, which do
 * something to one while it runs.
 *
 * A slot holds a timer. A mutator (or the timer's own callback) takes the slot while it works
 * on it, so that each call's result is known exactly; callbacks come at any time. An
 * argument (a record) is new every few armings and freed by its drop. */
#ifndef SOAK_LOAD_H
#define SOAK_LOAD_H

#include "harness.h"

#include <sched.h>

#define L_US ((int64_t)1000)
#define L_MS ((int64_t)1000000)
#define L_SEC ((int64_t)1000000000)

enum { L_PLACES = 24, L_THREADS = 40, L_ENTRIES = 12, L_GENERATIONS = 64 };

/* What kind of loop a place has. */
enum l_kind { L_SPINNER, L_SLEEPER, L_POLLER, L_NOBODY };

struct load;

struct load_options {
    const char *name;
    uint32_t clock;
    const gt_host *host;
    int spinners, sleepers, pollers;  /* P loops that spin, that sleep in gt_notetsleep, that poll gt_p_fd */
    int nobodys;                      /* Ps without a loop: for thieves and adoption only */
    int thieves;                      /* threads that only steal */
    int mutators, slots;
    int64_t spread;                   /* near deadlines are up to so far ahead */
    int ps_come_and_go, threads_come_and_go;
    int callbacks_act;                /* they re-arm and free their own timer */
    int enomem;                       /* calls may be refused for want of memory */
    int64_t overdue_limit;            /* a timer that is later than this is lost */
    void (*in_callback)(struct load *l);                   /* may leave by a C++ exception */
    void (*guard)(void (*fn)(void *arg), void *arg);       /* calls each pass; NULL: nothing does */
};

struct l_rec {
    uint64_t magic;
    struct load *l;
    struct l_slot *slot;
    _Atomic int64_t when[L_ENTRIES];  /* by seq: the earliest that it was armed for */
    atomic_int detached;
    unsigned generation;
};

struct l_slot {
    atomic_int busy;
    gt_timer *t;                      /* from here on: whoever is busy with the slot */
    uint64_t id;
    struct l_rec *rec;
    unsigned entry, used;             /* of rec: the timer's seq, and how many were used */
    unsigned generation;              /* how many timers the slot has had */
    int periodic;
    int64_t when, armed_at;
    int64_t armings, stopped, replaced;
    _Atomic int64_t fired, ticks;
    atomic_int running[L_GENERATIONS], detached;
};

struct l_place {
    pthread_rwlock_t lock;            /* held for writing by whoever frees the P */
    gt_p *p;
    enum l_kind kind;
};

struct l_thread {
    struct load *l;
    void (*turn)(struct l_thread *me);
    struct l_place *place;
    int event;                        /* a poller's: wakes it at the end */
    uint64_t stream;
    pthread_t self, before;
    int takes_over;
    uint64_t rng;
    int64_t stalled;                  /* the driver's: since when it waits for the loops */
};

/* Whoever works passes it between two pieces of work; a sleeper sleeps outside it. */
struct l_gate {
    pthread_mutex_t m;
    pthread_cond_t c;
    atomic_int paused;
    int running;
};

struct load {
    gt_sched *s;
    struct load_options o;
    struct l_gate gate;
    struct l_place place[L_PLACES];
    int places;
    struct l_thread thread[L_THREADS];
    int threads;
    struct l_slot *slot;
    atomic_int stop;
    int64_t base;                     /* the clock at the start */
    _Atomic int64_t ops, refused, recs, threads_made, ps_made, adopted, self_acts, late_max, pauses;
};

/* The calling thread, if it is one of a load's. */
extern _Thread_local struct l_thread *l_me;

/* Its P is freed, if nobody uses it, and it gets a new one. */
void l_replace_own_p(struct load *l);

/* What all random numbers come from. */
extern uint64_t load_seed;

/* A plant: a mistake on purpose, named by the environment's GT_PLANT, that must be found. */
int planted(const char *name);
/* How late something may be before it is taken for lost: a minute (times GT_TEST_SLOW), so that a machine
 * that stood still for a while is not taken for a bug; with a mistake on purpose, which is there to be
 * found, 10 s. */
int64_t l_patience(void);
/* The plant `name` with which a firing is not booked: whether that is this one. Each hundredth call
 * says yes, whatever other threads do, so that a run of a few hundred firings cannot miss it. */
int is_forgotten(const char *name);

void load_start(struct load *l, const struct load_options *o);
/* Nothing is under way between these two. load_pause fails the test after two minutes. */
void load_pause(struct load *l);
void load_resume(struct load *l);
/* In a pause: every arming is where it should be, nothing fired early, nothing is overdue. */
void load_check(struct load *l);
/* In a fork child of a thread outside the load: repairs, looks at everything, runs what is due. */
void load_check_child(struct load *l);
/* Waits until some hundred timers have fired, stops the threads, checks, gives everything back and checks that it came back. */
void load_end(struct load *l);

/* load_loops.c: what the threads do. */
void l_turn_loop(struct l_thread *me);
void l_turn_thief(struct l_thread *me);
void l_turn_driver(struct l_thread *me);
void l_wake_loops(struct load *l);
/* load_mutate.c */
void l_turn_mutator(struct l_thread *me);
void l_make(struct load *l, struct l_slot *sl, uint64_t *rng);
void l_fire(void *arg, uintptr_t seq, int64_t delay);

/* Locks a random place for reading; *at NULL: none was free. l_put unlocks. */
gt_p *l_get_p(struct load *l, uint64_t *rng, struct l_place **at);
void l_put_p(struct l_place *at);

void l_gate_pass(struct l_gate *g);
void l_gate_sleep(struct l_gate *g);
void l_gate_wake(struct l_gate *g);
void l_gate_pause(struct l_gate *g, const char *name);
void l_gate_resume(struct l_gate *g);

#define l_get(x_) atomic_load_explicit(&(x_), memory_order_relaxed)
#define l_add(x_, n_) atomic_fetch_add_explicit(&(x_), (n_), memory_order_relaxed)

#endif
