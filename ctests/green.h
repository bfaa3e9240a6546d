/* A host with green threads, for tests of the hooks park and ready. To keep it small, and so
 * that sanitizers follow it, each green thread has a thread of the system behind it, which
 * runs only while a worker lends it its turn: as with real green threads, a worker runs one
 * at a time, switches back to itself when that parks, and only then calls commit. */
#ifndef CTESTS_GREEN_H
#define CTESTS_GREEN_H

#include "rtkit.h"

#include <semaphore.h>

struct greens;

struct green {
    struct greens *host;
    void (*fn)(struct green *g);
    void *arg;
    int i;
    pthread_t thread;
    sem_t go;                       /* it may run */
    struct green_worker *worker;    /* on which it runs now */
    struct green *next;             /* in the queue */
    /* under the host's lock */
    enum { GREEN_RUNNABLE, GREEN_RUNNING, GREEN_COMMITTING, GREEN_PARKED, GREEN_DONE } state;
    uint64_t parks;                 /* counts its parks */
    int early;                      /* ready came before commit returned */
    /* of the park under way */
    int (*commit)(void *arg);
    void *commit_arg;
};

struct green_worker {
    struct greens *host;
    pthread_t thread;
    sem_t back;                     /* its green thread has switched away */
};

#define GREEN_WORKERS 3

struct greens {
    int eager;                      /* 1: one that is readied too early may run at once */
    int plain_contexts;             /* 1: plain threads have a context, too */
    void (*on_park)(struct green *g);      /* in the green thread, before it switches away */
    void (*on_commit)(struct green *g);    /* on the worker, before commit */
    atomic_long commits, refused, readies, early, done;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct green *first, *last;
    int stop, n_workers;
    struct green_worker worker[GREEN_WORKERS];
};

/* Fills in ctx, park, ready and current_context of h; starts the workers. */
void greens_start(struct greens *host, int workers);
void greens_hooks(struct greens *host, gt_host *h);
void greens_stop(struct greens *host);

/* A green thread that runs fn(g). green_join waits until it has ended. */
void green_start(struct greens *host, struct green *g, void (*fn)(struct green *g), void *arg);
void green_join(struct green *g);

/* Waits until g is parked: 1. It ended: 0. */
int green_parked(struct green *g);

/* The green thread that calls, or NULL. */
struct green *green_self(void);

#endif
