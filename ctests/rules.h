/* Tools of the tests of the rules (rules_*.c) and of the traps (traps_*.c): Ps and passes in
 * one line, host hooks that count and can be turned into a stop, and a way to stop another
 * thread inside a critical section of the library, so that the rare interleavings are met on
 * purpose and not by luck. */
#ifndef CTESTS_RULES_H
#define CTESTS_RULES_H

#include "support.h"

#define US ((int64_t)1000)

gt_p *new_p(gt_sched *s);
void free_p(gt_p *p);

/* A timer with count_run and count_drop on c. */
gt_timer *new_timer(gt_sched *s, struct counter *c);

/* One pass over p at now; returns gt_check_timers' result (0 or 1). */
int check_at(gt_p *p, int64_t now);

/* The same; returns poll_until. */
int64_t until_at(gt_p *p, int64_t now);

/* Passes over p at now until one runs nothing; returns the number of passes that ran some. */
int drain_at(gt_p *p, int64_t now);

/* Arms n timers on p that nothing in a test reaches (a big heap), and frees them. */
gt_timer **fill_p(gt_p *p, gt_sched *s, int n, int64_t when);
void unfill(gt_timer **fill, int n);

/* Waits until *flag is at least n, for ms milliseconds at most; returns 1 if it was reached. */
int wait_at_most(atomic_int *flag, int n, int ms);

/* For a thread that has put its gettid() into *tid: waits until it is blocked in a futex, as one
 * that waits for a lock of the library. Gives up after ms milliseconds, or when *done is at
 * least n (NULL: never), and returns 0 then. Where the kernel does not tell, 50 ms must do. */
int wait_blocked(atomic_int *tid, atomic_int *done, int n, int ms);

/* ---- host hooks ---- */

/* Hooks that count. The on_ functions may be set, changed and cleared at any time. */
struct hooks {
    gt_host host;
    atomic_long acquires, releases, yields, wakes;
    _Atomic int64_t clock;                      /* GT_CLOCK_HOST reads this */
    _Atomic int64_t last_wake;                  /* when of the last wake */
    void *_Atomic last_p;                       /* P of the last wake */
    void (*_Atomic on_wake)(gt_p *p, int64_t when);
    void (*_Atomic on_pin)(int acquire);        /* in acquirem (1) and releasem (0) */
    void (*_Atomic on_clock)(void);             /* in nanotime */
    atomic_int wake_note;                       /* 1: the wake hook also calls gt_notewakeup */
};

/* Fills in the hooks: nanotime, wake_netpoller, acquirem, releasem, and osyield when yields
 * are to be counted. alloc and the rest may be added in h->host before hooked_sched. */
void hooks_init(struct hooks *h, int count_yields);
gt_sched *hooked_sched(struct hooks *h, uint32_t clock);

/* This thread's acquirem calls without their releasem. */
int pins(void);

/* A busy clock for GT_CLOCK_HOST tests starts here. */
#define HOST_T0 (1000 * SEC)

/* ---- another thread that does a thing at a chosen moment ---- */

/* A thread that runs functions on demand. errand_run waits for the end for ms milliseconds at
 * most (a hook that asks for it may itself stand in the way) and says whether it was reached;
 * errand_settle waits for it. */
struct errand {
    pthread_t thread;
    void (*fn)(void *arg);
    void *arg;
    atomic_int wanted, done, stop, tid;
};
void errand_start(struct errand *e);
int errand_run(struct errand *e, void (*fn)(void *arg), void *arg, int ms);
void errand_settle(struct errand *e);
void errand_stop(struct errand *e);

/* ---- stopping a thread where it hurts ---- */

/* 0 where signals do not interrupt a thread at any instruction (ThreadSanitizer), and in the
 * checked build: there every call looks its handle up under a lock of the process, and a thread
 * that is stopped with that lock would stop the test too. The tests that need it call this first,
 * and are not run then; the plain build runs them. */
void needs_freeze(void);

/* Stops th again and again (a signal handler that waits) until there(arg) says 1, and leaves
 * it stopped. *progress must be counted up by th now and then, so that it gets on between two
 * attempts. Fails the test when the place is not met in a minute. */
void freeze_where(pthread_t th, atomic_ulong *progress, int (*there)(void *arg), void *arg);
void thaw(void);

/* What pins() is in the stopped thread. */
int frozen_pins(void);

/* On return, a thread of ours is stopped while it holds p's timers lock. Needs some hundred
 * timers in p's heap (fill_p) and none that is due at time 1. */
struct p_holder {
    gt_p *p;
    pthread_t thread;
    struct errand probe, look;
    atomic_int stop;
    atomic_ulong progress;
};
void hold_p(struct p_holder *h, gt_p *p);
void let_p_go(struct p_holder *h);

/* A thread that re-arms t to later, over and over, stopped while it has t locked; it holds
 * no other lock. t must be armed, in a heap, at *when or before. */
struct t_holder {
    gt_timer *t;
    int64_t when;
    pthread_t thread;
    struct errand look;
    atomic_int stop, status;
    atomic_ulong progress;
};
void hold_timer(struct t_holder *h, gt_timer *t, int64_t when);
void let_timer_go(struct t_holder *h);

#endif
