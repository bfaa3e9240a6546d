/* See green.h. */
#include "green.h"

#include <errno.h>

static _Thread_local struct green *self;

struct green *green_self(void) { return self; }

static void down(sem_t *s)
{
    while (sem_wait(s) != 0)
        CHECK_EQ(errno, EINTR);
}

/* The lock is held. */
static void enqueue(struct greens *host, struct green *g)
{
    g->state = GREEN_RUNNABLE;
    g->next = NULL;
    if (host->first == NULL)
        host->first = g;
    else
        host->last->next = g;
    host->last = g;
    pthread_cond_signal(&host->more);
}

/* ---- hooks ---- */

static int hook_park(void *ctx, int (*commit)(void *arg), void *arg)
{
    struct greens *host = ctx;
    struct green *g = self;

    if (g == NULL)
        return 0;
    CHECK_PTR_EQ(g->host, host);
    if (host->on_park != NULL)
        host->on_park(g);
    g->commit = commit;
    g->commit_arg = arg;
    sem_post(&g->worker->back);      /* switched away */
    down(&g->go);
    return 1;
}

static void hook_ready(void *ctx, uintptr_t context)
{
    struct greens *host = ctx;
    struct green *g = (struct green *)context;

    pthread_mutex_lock(&host->lock);
    host->readies++;
    CHECK_EQ(g->early, 0);           /* once for each park */
    if (g->state == GREEN_COMMITTING) {
        host->early++;
        g->early = 1;
        if (host->eager)
            enqueue(host, g);
    } else {
        CHECK_EQ(g->state, GREEN_PARKED);
        enqueue(host, g);
    }
    pthread_mutex_unlock(&host->lock);
}

static uintptr_t hook_context(void *ctx)
{
    struct greens *host = ctx;

    if (self != NULL)
        return (uintptr_t)self;
    return host->plain_contexts ? this_thread() : 0;
}

void greens_hooks(struct greens *host, gt_host *h)
{
    h->ctx = host;
    h->park = hook_park;
    h->ready = hook_ready;
    h->current_context = hook_context;
}

/* ---- workers ---- */

static void after_switch(struct greens *host, struct green *g)
{
    int (*commit)(void *arg) = g->commit;
    void *arg = g->commit_arg;
    uint64_t parks;
    int stays;

    g->commit = NULL;
    pthread_mutex_lock(&host->lock);
    g->state = GREEN_COMMITTING;
    g->early = 0;
    parks = ++g->parks;
    pthread_mutex_unlock(&host->lock);
    if (host->on_commit != NULL)
        host->on_commit(g);
    stays = commit(arg);
    CHECK(stays == 0 || stays == 1);
    host->commits++;
    host->refused += !stays;
    pthread_mutex_lock(&host->lock);
    if (host->eager && g->parks != parks) {
        /* it ran meanwhile, and parked again or ended: it is no longer ours */
        CHECK_EQ(stays, 1);
    } else if (g->state == GREEN_COMMITTING) {
        if (!stays || g->early) {
            CHECK(!(g->early && !stays));   /* who goes on at once is not readied */
            enqueue(host, g);
            g->early = 0;
        } else
            g->state = GREEN_PARKED;
    } else {
        CHECK_EQ(host->eager, 1);           /* it is in the queue, or runs */
        CHECK_EQ(stays, 1);
    }
    pthread_mutex_unlock(&host->lock);
}

static void *work(void *arg)
{
    struct green_worker *w = arg;
    struct greens *host = w->host;

    pthread_mutex_lock(&host->lock);
    for (;;) {
        struct green *g = host->first;

        if (g == NULL) {
            if (host->stop)
                break;
            pthread_cond_wait(&host->more, &host->lock);
            continue;
        }
        host->first = g->next;
        g->state = GREEN_RUNNING;
        g->early = 0;
        g->worker = w;
        pthread_mutex_unlock(&host->lock);
        sem_post(&g->go);
        down(&w->back);
        if (g->commit != NULL)
            after_switch(host, g);
        else
            host->done++;                   /* g may be gone */
        pthread_mutex_lock(&host->lock);
    }
    pthread_mutex_unlock(&host->lock);
    return NULL;
}

void greens_start(struct greens *host, int workers)
{
    CHECK_EQ(pthread_mutex_init(&host->lock, NULL), 0);
    CHECK_EQ(pthread_cond_init(&host->more, NULL), 0);
    host->n_workers = workers;
    for (int i = 0; i < workers; i++) {
        host->worker[i].host = host;
        CHECK_EQ(sem_init(&host->worker[i].back, 0, 0), 0);
        host->worker[i].thread = thread_start(work, &host->worker[i]);
    }
}

void greens_stop(struct greens *host)
{
    pthread_mutex_lock(&host->lock);
    host->stop = 1;
    pthread_cond_broadcast(&host->more);
    pthread_mutex_unlock(&host->lock);
    for (int i = 0; i < host->n_workers; i++) {
        thread_join(host->worker[i].thread);
        sem_destroy(&host->worker[i].back);
    }
    pthread_cond_destroy(&host->more);
    pthread_mutex_destroy(&host->lock);
}

/* ---- green threads ---- */

static void *green_run(void *arg)
{
    struct green *g = arg;

    down(&g->go);
    self = g;
    g->fn(g);
    pthread_mutex_lock(&g->host->lock);
    g->state = GREEN_DONE;
    pthread_mutex_unlock(&g->host->lock);
    sem_post(&g->worker->back);
    return NULL;
}

void green_start(struct greens *host, struct green *g, void (*fn)(struct green *g), void *arg)
{
    int i = g->i;
    pthread_attr_t attr;

    memset(g, 0, sizeof *g);
    g->i = i;
    g->host = host;
    g->fn = fn;
    g->arg = arg;
    CHECK_EQ(sem_init(&g->go, 0, 0), 0);
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
    CHECK_EQ(pthread_create(&g->thread, &attr, green_run, g), 0);
    pthread_attr_destroy(&attr);
    pthread_mutex_lock(&host->lock);
    enqueue(host, g);
    pthread_mutex_unlock(&host->lock);
}

void green_join(struct green *g)
{
    thread_join(g->thread);
    sem_destroy(&g->go);
}

int green_parked(struct green *g)
{
    int64_t limit = mono_now() + long_wait();
    int state;

    for (;;) {
        pthread_mutex_lock(&g->host->lock);
        state = g->state;
        pthread_mutex_unlock(&g->host->lock);
        if (state == GREEN_PARKED || state == GREEN_DONE)
            return state == GREEN_PARKED;
        CHECK_LT(mono_now(), limit);
        sleep_ms(1);
    }
}
