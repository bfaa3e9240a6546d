/* hooks.c: what libgotimer is told about this runtime: gt_host. Everything that is not named here (the clock,
 * memory, giving the processor away) is left to the defaults. */
#include "worker.h"

/* Pinned: the library holds a timer, or has chosen this worker's P and is about to use it. Green threads here
 * are never interrupted, and the library does not park while it has one pinned; so nothing is left to do but to
 * watch that nobody gives up his turn (sched.c). A runtime that preempts must not do so until releasem. */
static void acquirem(void *ctx) {
    (void)ctx;
    struct worker *w = worker_self();
    if (w != NULL) w->pins++;
}

static void releasem(void *ctx) {
    (void)ctx;
    struct worker *w = worker_self();
    if (w != NULL) w->pins--;
}

/* The green thread; in the workers' loops, where the callbacks run, the worker; elsewhere the thread. All are
 * addresses of things that live as long as the caller does, so they are not taken for each other. */
static uintptr_t current_context(void *ctx) {
    (void)ctx;
    static _Thread_local char thread;
    struct worker *w = worker_self();
    if (w == NULL) return (uintptr_t)&thread;
    return w->current != NULL ? (uintptr_t)w->current : (uintptr_t)w;
}

/* For gt_sched_sleep and its like. 0: not a green thread; then the library blocks the thread. */
static int park(void *ctx, int (*commit)(void *arg), void *arg) {
    (void)ctx;
    if (green_self() == NULL) return 0;
    green_park(commit, arg);
    return 1;
}

static void ready(void *ctx, uintptr_t context) {
    (void)ctx;
    green_ready((green *)context);
}

/* Asked between two callbacks of a pass. What they made runnable shall run before more is made runnable: when
 * the queue is half full the pass ends, and the next turn begins with another one. */
static int preempt_stop(void *ctx) {
    (void)ctx;
    struct worker *w = worker_self();
    return w != NULL && runq_length(&w->runq) >= RUNQ_SIZE / 2;
}

const gt_host runtime_host = {
    .size = sizeof(gt_host),
    .wake_netpoller = wake_netpoller,
    .acquirem = acquirem,
    .releasem = releasem,
    .current_context = current_context,
    .preempt_stop = preempt_stop,
    .park = park,
    .ready = ready,
};
