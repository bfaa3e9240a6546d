/* ploop_bed.h: Ps that sleep, for the tests of lost wake-ups (ploop_wake.c). A bed is a sched
 * whose P loops check their timers, then sleep in one of several ways until they must look
 * again, for ever if nothing is to be done. */
#ifndef CTESTS_PLOOP_BED_H
#define CTESTS_PLOOP_BED_H

#include "ploop.h"

/* NOTE: gt_notetsleep. FD: poll() on the P's fd. COND: a condition variable of the embedder's
 * own, with a wake hook that always signals. COND_UNTIL: the same with one that signals only
 * who sleeps too long (publish "I sleep until X", look again, sleep). SPIN: a wake hook that
 * raises a flag, and a sleeper that spins on it: hardly a sleep, but a hundred times as many. */
enum way { NOTE, FD, COND, COND_UNTIL, SPIN };

#define SOON (60 * PL_SEC)

struct sleeper {
    struct bed *bed;
    int index;
    pthread_t thread;
    pthread_mutex_t lock;     /* over woken, and over p where another thread wants it */
    pthread_cond_t cond;
    gt_p *p;
    int stop_fd;
    int woken;
    atomic_int done;
    _Atomic int64_t until;    /* COND_UNTIL: sleeps until then; 0: awake */
    atomic_int flag;          /* SPIN: woken */
    _Atomic uint64_t sleeps;
};

/* A sched whose Ps sleep. */
struct bed {
    gt_sched *s;
    enum way way;
    int n, come_and_go;
    struct sleeper z[PL_MAX_LOOPS];
    atomic_int stop;
    _Atomic uint64_t ps_freed;
};

extern struct bed bed;

void bed_start(enum way way, uint32_t clock, int n, int come_and_go);
void bed_stop(void);
/* With nothing due, the Ps come to rest: no sleep that ends at once, again and again. */
void check_at_rest(void);

#endif
