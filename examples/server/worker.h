/* worker.h: what the files of the runtime share and its users do not see: workers, and the scheduler's state. */
#ifndef WORKER_H
#define WORKER_H

#include "green.h"
#include "runq.h"
#include "switch.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

/* Stands at the top of its own stack. */
struct green {
    struct context context;
    green *next; /* in one list at a time: global queue, free stacks, what a poll found */
    void *low;   /* its stack: from here up to this struct */
    void (*f)(void *);
    void *arg;
    _Atomic int state; /* for finding mistakes: GREEN_… */
};

enum { GREEN_RUNNABLE, GREEN_PARKED, GREEN_FREE };

/* Why a green thread has switched to its worker. */
enum after { AFTER_PARK, AFTER_YIELD, AFTER_END };

struct worker {
    struct runq runq;
    struct context loop;  /* the scheduling loop, on the thread's own stack */
    green *current;       /* who runs here; NULL: the loop */
    gt_p *p;              /* this worker's timers */
    enum after after;     /* what `current` wants of the loop, and for AFTER_PARK: */
    int (*commit)(void *);
    void *commit_arg;
    unsigned pins;        /* acquirem minus releasem */
    bool spinning;        /* looks for work; counted in R.spinning. The worker's own, or his who wakes it */
    uint32_t tick;
    unsigned index;
    uint64_t rng;
    green *free;          /* stacks for the next green threads */
    unsigned nfree;
    struct runtime_counts counts;
    sem_t wake;           /* posted once for each time that it is taken off the list of idle workers */
    bool idle;            /* R.lock: it is on that list */
    struct worker *idle_next; /* R.lock */
    pthread_t thread;
};

struct queue {
    green *first, *last;
};

/* The scheduler. */
struct runtime {
    gt_sched *sched;
    struct worker *workers;
    unsigned nworkers;
    pthread_mutex_t lock;
    struct queue global;        /* lock. For those who are no workers, and what does not fit elsewhere */
    _Atomic uint32_t nglobal;   /* its length; written under lock */
    struct worker *idle;        /* lock. Workers that sleep on their semaphore, or are about to */
    _Atomic uint32_t nidle;     /* how many; written under lock */
    _Atomic int polling;        /* written under lock: a worker sleeps in the poller, or is about to */
    _Atomic int64_t poll_until; /* until when; 0: not known yet, break it */
    _Atomic uint32_t spinning;  /* workers that are awake and look for work */
    _Atomic int stopping;
    _Atomic uint64_t started, ended; /* green threads */
};
extern struct runtime R;

/* sched.c */
struct worker *worker_self(void); /* NULL: not a worker. Ask again after whatever may have parked */
void set_runnable(green *g); /* it was parked; it goes into a queue next */
void worker_put(struct worker *w, green *g); /* at the end of w's queue; w is the caller's */
void global_put(struct queue list, uint32_t n);

/* idle.c */
void wakep(void);                  /* there is work: see that somebody looks for it */
void go_idle(struct worker *w);    /* sleeps until there may be some */
void stop_spinning(struct worker *w); /* it found work */
void wake_all(void);
void wake_netpoller(void *ctx, gt_p *p, int64_t when); /* gt_host */
void find_ready(struct worker *w); /* asks the poller, if nobody sleeps in it */

/* poll.c */
void poll_open(void);
void poll_close(void);
struct netfd;
int poll_add(int fd, struct netfd *nf); /* 0 or -errno */
green *poll_wait(int64_t until); /* 0: does not wait. Returns a list of green threads, not runnable yet */
void poll_break(void);           /* the wait that goes on, or the next one, ends at once */

/* hooks.c */
extern const gt_host runtime_host;

/* stack.c */
green *stack_get(struct worker *w); /* w: NULL if the caller is not a worker */
void stack_put(struct worker *w, green *g);
size_t stack_bytes(void);
void stack_end(void); /* unmaps all */

#endif
