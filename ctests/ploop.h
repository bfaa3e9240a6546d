/* ploop.h: what the tests with P loops on several threads share.
 *
 * A world is a sched, some P loop threads that spin with sched_yield, some mutator threads,
 * and a table of slots, each with a timer in it. Every arming is booked by the test itself,
 * apart from the library's counters. The slots are of two classes:
 *
 * - own: a mutator takes the slot for itself while it works on the timer, so that it knows
 *   what the timer is. Each arming has its own seq and its own book entry, and is called
 *   exactly as often as it was armed and not stopped or replaced: once or never.
 * - shared: any number of mutators and the timer's own callback work on the timer at the same
 *   time, by id or (in the callback) by the handle. Only the sums are exact there.
 *
 * Environment: GT_PLOOP_SECONDS=n makes each test run n seconds (default 2; some take a part
 * of it); GT_TEST_SLOW=k divides the number of timers and multiplies all limits. */
#ifndef CTESTS_PLOOP_H
#define CTESTS_PLOOP_H

#include "harness.h"

#include <sched.h>

#define PL_US ((int64_t)1000)
#define PL_MS ((int64_t)1000000)
#define PL_SEC ((int64_t)1000000000)
#define PL_HOUR (3600 * PL_SEC)

/* As TEST; the limit grows with GT_PLOOP_SECONDS. */
#define PLOOP_TEST(name_)                                                                \
    static void test_fn_##name_(void);                                                   \
    __attribute__((constructor)) static void test_register_##name_(void)                 \
    {                                                                                    \
        static struct test t_ = {#name_, __FILE__, 0, test_fn_##name_, NULL, 0};          \
        t_.seconds = 90 + (int)(pl_run_ns() / PL_SEC);                                   \
        test_register(&t_);                                                              \
    }                                                                                    \
    static void test_fn_##name_(void)

int64_t pl_run_ns(void);              /* how long a test runs: GT_PLOOP_SECONDS */
int64_t pl_limit_ns(int64_t ns);      /* a generous limit, times GT_TEST_SLOW */
int pl_scaled(int n, int least);      /* n / GT_TEST_SLOW, not below least */
pthread_t pl_start(void *(*fn)(void *), void *arg);
void pl_join(pthread_t t);

/* The random numbers of the calling thread: each thread has its own stream, made from the
 * seed and the stream's number. */
void pl_rng_start(uint64_t stream);
uint64_t pl_below(uint64_t n);
int pl_one_in(uint64_t n);

/* The now that this thread gave to the pass it is in; 0: it gave none. With it a callback
 * knows its exact deadline: now - delay. */
extern _Thread_local int64_t pl_pass_now;

/* Tallies and flags are relaxed on purpose: they must not order what the library has to. */
#define pl_get(x_) atomic_load_explicit(&(x_), memory_order_relaxed)
#define pl_set(x_, v_) atomic_store_explicit(&(x_), (v_), memory_order_relaxed)
#define pl_add(x_, n_) atomic_fetch_add_explicit(&(x_), (n_), memory_order_relaxed)

enum {
    PL_MAX_LOOPS = 8, PL_MAX_FLOATING = 2, PL_MAX_PS = PL_MAX_LOOPS + PL_MAX_FLOATING,
    PL_MAX_MUTATORS = 8,
    PL_ARMS = 8,      /* armings booked in one record */
    PL_WHENS = 3,     /* deadlines of one book entry: the arming and two resets */
};

/* One book entry: the armings that share a seq. The counts of calls may only lag behind. */
struct pl_arm {
    atomic_uint armed;        /* raised before the call that arms */
    atomic_uint ended;        /* raised after a call that returned 1: stopped or replaced */
    atomic_uint calls;        /* of f */
    atomic_uint whens;
    _Atomic int64_t when[PL_WHENS];
    int64_t period;           /* plain: the library orders it before the callback */
    int single;               /* plain; no reset will share this entry, so at most one call */
    int ran;                  /* plain; set by the one call of a single entry */
};

/* A timer of class own, as its mutator and its callbacks see it. */
struct pl_timer {
    atomic_int refs;          /* the slot's and each record's */
    atomic_int running;       /* callbacks in progress */
    atomic_int quiet;         /* deltimer_sync said that none runs */
};

/* The book of one arg of class own: lives until the slot and the arg have let go. */
struct pl_book {
    atomic_int refs;
    struct pl_timer *timer;
    uint32_t used;            /* entries in use; the mutator's */
    struct pl_arm arm[PL_ARMS];
};

/* The arg of a timer. Its drop frees it. */
struct pl_rec {
    uint64_t magic;
    struct pl_world *w;
    struct pl_slot *slot;
    uint32_t stamp;           /* in the upper bits of seq; 0 in a timer's first arg */
    struct pl_book *book;     /* class own, else NULL */
    gt_timer *t;              /* class shared: the timer's own handle */
};

struct pl_slot {
    int shared;
    int periodic;             /* class shared: this slot's timers are tickers */
    /* class own: guarded by busy */
    atomic_int busy;
    gt_timer *t;
    uint64_t id;
    struct pl_timer *timer;
    struct pl_rec *rec;       /* the timer's current arg, its book, */
    struct pl_book *book;
    uint32_t stamp, entry;    /* and the two parts of its current seq */
    int armed;                /* not known to have ended */
    int64_t when;             /* of the last arming */
    /* class shared: read id, handle, id again */
    _Atomic uint64_t sid;     /* 0: just being replaced */
    _Atomic(gt_timer *) st;
};

/* A place for a P. Who uses p without being its owner holds lock for reading; who frees or
 * replaces it holds it for writing. */
struct pl_place {
    pthread_rwlock_t lock;
    gt_p *p;
};

struct pl_loop {
    struct pl_world *w;
    int index;                /* of its place */
    uint64_t threads;         /* how many it has been */
    pthread_t thread, before;
    int takes_over;
    atomic_int done;
};

struct pl_options {
    int loops, mutators;
    uint32_t clock;
    int verify;               /* 1: by gt_config, 2: by the environment */
    int sleepers;             /* every second loop sleeps in gt_notetsleep */
    int hooks;                /* own hooks in gt_host, which check and count */
    int lateness;
};

struct pl_world {
    gt_sched *s;
    struct pl_options o;
    int virt;
    int64_t t0;
    struct pl_place place[PL_MAX_PS];
    int places;
    struct pl_loop loop[PL_MAX_LOOPS];
    struct pl_slot *slots;
    int n_slots;
    atomic_int go, stop_mutators, stop_loops;
    _Atomic int64_t advancing;   /* since when the driver is in gt_sched_advance; 0: it is not */
    atomic_int calm;          /* callbacks do nothing but be counted */
    atomic_int acting;        /* callbacks and P loops that may be doing more */
    int64_t far_from;         /* deadlines from here on are not reached */
    _Atomic uint64_t armed, stopped, replaced, calls, ticks;   /* what calls returned */
    _Atomic uint64_t recs, dropped, books, timers, handles;
    _Atomic uint64_t ps_freed, adopted, ops, handovers;
};

/* ---- ploop_book.c ---- */
void pl_fire0(void *arg, uintptr_t seq, int64_t delay);
void pl_fire1(void *arg, uintptr_t seq, int64_t delay);
void pl_drop(void *arg);
uintptr_t pl_seq(uint32_t stamp, uint32_t entry, int periodic, int which);
struct pl_rec *pl_rec_new(struct pl_world *w, struct pl_slot *sl, struct pl_timer *timer, uint32_t stamp);
void pl_rec_cancel(struct pl_rec *r);                  /* a rec that the library did not take */
void pl_book_put(struct pl_world *w, struct pl_book *b);
void pl_timer_put(struct pl_world *w, struct pl_timer *m);
/* Books an arming that is about to be tried, and takes that back when it failed. */
void pl_book_arm(struct pl_book *b, uint32_t entry, int64_t when);
void pl_book_unarm(struct pl_book *b, uint32_t entry);
/* The result of a call that may have ended an arming: 1 or 0, or an error that is let pass. */
void pl_tally_armed(struct pl_world *w, int r);
void pl_tally_stopped(struct pl_world *w, int r);

/* ---- ploop_mutate.c ---- */
void pl_fill(struct pl_world *w);                      /* a timer for each slot */
void pl_mutate(struct pl_world *w);                    /* one random operation on a random slot */
void pl_act_in_callback(struct pl_rec *r);             /* what a shared timer's callback does */
void pl_stop_tickers(struct pl_world *w);
/* Leaves a part for gt_sched_free to end, and gives the earliest deadline of that. */
int64_t pl_free_some(struct pl_world *w);
void pl_free_rest(struct pl_world *w);                 /* what gt_sched_free left: the handles */
int64_t pl_some_when(struct pl_world *w, int far_too);
int pl_is_far(struct pl_world *w, int64_t when);

/* ---- ploop_world.c ---- */
void pl_random_test(struct pl_options o);
/* Locks some place for reading and gives its P, or NULL; never waits. */
gt_p *pl_place_get(struct pl_world *w, struct pl_place **at);
void pl_place_put(struct pl_place *at);
void pl_replace_p(struct pl_world *w, int index);      /* frees the P there, if nobody uses it */
void pl_replace_own_p(struct pl_world *w);             /* if the calling thread is a P loop */
extern _Thread_local int pl_pins;                      /* what the acquirem hook counts */

#endif
