/* sched.c: the workers' loop: timers first, then whose turn it is, and what becomes of him who gives it up.
 *
 * This is where libgotimer meets a scheduler: find_runnable calls gt_check_timers before each turn, and
 * gt_check_others when this worker has nothing to do, so that timers of a worker that is stuck in a long turn
 * are run by another. The callbacks make green threads runnable. */
#define _GNU_SOURCE
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct runtime R = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct worker *this_worker;

_Noreturn void die(const char *what, int error) {
    fprintf(stderr, "%s%s%s\n", what, error != 0 ? ": " : "", error != 0 ? gt_strerror(error) : "");
    abort();
}

/* Not inlined, and the compiler must not think that it returns the same each time: a green thread that parks
 * wakes up on another thread, where the address of a thread-local variable is another one. */
__attribute__((noinline)) struct worker *worker_self(void) {
    __asm__ volatile("" ::: "memory");
    return this_worker;
}

gt_sched *runtime_sched(void) { return R.sched; }
int64_t runtime_now(void) { return gt_nanotime(R.sched); }

green *green_self(void) {
    struct worker *w = worker_self();
    return w != NULL ? w->current : NULL;
}

/* ---- queues ---- */

void global_put(struct queue list, uint32_t n) {
    pthread_mutex_lock(&R.lock);
    list.last->next = NULL;
    if (R.global.first == NULL) R.global = list;
    else R.global.last->next = list.first, R.global.last = list.last;
    atomic_fetch_add(&R.nglobal, n);
    pthread_mutex_unlock(&R.lock);
}

/* One from the global queue, and for w's own queue his share of the others. */
static green *global_take(struct worker *w) {
    if (atomic_load_explicit(&R.nglobal, memory_order_relaxed) == 0) return NULL;
    pthread_mutex_lock(&R.lock);
    uint32_t share = atomic_load(&R.nglobal) / R.nworkers + 1, n = 0;
    if (share > RUNQ_SIZE / 2) share = RUNQ_SIZE / 2;
    green *first = NULL;
    while (n < share && R.global.first != NULL) {
        green *g = R.global.first;
        if (first != NULL && !runq_push(&w->runq, g)) break;
        R.global.first = g->next;
        if (first == NULL) first = g;
        n++;
    }
    atomic_fetch_sub(&R.nglobal, n);
    pthread_mutex_unlock(&R.lock);
    return first;
}

void worker_put(struct worker *w, green *g) {
    if (runq_push(&w->runq, g)) return;
    /* Full: half of it becomes everybody's, and so does g. */
    green *half[RUNQ_SIZE / 2];
    uint32_t n = runq_steal(&w->runq, half);
    struct queue list = {g, g};
    for (uint32_t i = n; i > 0; i--) {
        half[i - 1]->next = list.first;
        list.first = half[i - 1];
    }
    global_put(list, n + 1);
}

static green *steal(struct worker *w) {
    green *loot[RUNQ_SIZE / 2];
    for (int round = 0; round < 4; round++) {
        unsigned first = (unsigned)rng_below(&w->rng, R.nworkers);
        for (unsigned i = 0; i < R.nworkers; i++) {
            struct worker *victim = &R.workers[(first + i) % R.nworkers];
            uint32_t n = victim == w ? 0 : runq_steal(&victim->runq, loot);
            if (n == 0) continue;
            w->counts.stolen += n;
            for (uint32_t k = 1; k < n; k++) worker_put(w, loot[k]);
            return loot[0];
        }
    }
    return NULL;
}

/* ---- the loop ---- */

/* Only half as many look for work as are at work: more would cost more than they find. */
static bool may_spin(struct worker *w) {
    if (w->spinning) return true;
    uint32_t spinning = atomic_load(&R.spinning);
    uint32_t resting = atomic_load(&R.nidle) + (uint32_t)atomic_load(&R.polling);
    if (2 * spinning >= R.nworkers - resting) return false;
    w->spinning = true;
    atomic_fetch_add(&R.spinning, 1);
    return true;
}

/* The next one to run on w. NULL: the runtime ends. */
static green *find_runnable(struct worker *w) {
    green *g = NULL;
    while (g == NULL && !atomic_load_explicit(&R.stopping, memory_order_relaxed)) {
        int ran = gt_check_timers(w->p, 0, NULL, NULL);
        if (ran < 0) die("gt_check_timers", ran);
        if (++w->tick % 61 == 0) { /* however much there is to do here: nobody else must starve */
            find_ready(w);
            if ((g = global_take(w)) != NULL) break;
        }
        if ((g = runq_pop(&w->runq)) != NULL) break;
        if ((g = global_take(w)) != NULL) break;
        find_ready(w);
        if ((g = runq_pop(&w->runq)) != NULL) break;
        if (may_spin(w) && (g = steal(w)) != NULL) break;
        ran = gt_check_others(R.sched, w->p, 0, NULL, NULL);
        if (ran < 0) die("gt_check_others", ran);
        if (ran == 0) go_idle(w);
    }
    if (g != NULL && w->spinning) stop_spinning(w);
    return g;
}

/* Runs g until it gives up its turn. */
static void execute(struct worker *w, green *g) {
    for (;;) {
        w->current = g;
        w->counts.switches++;
        context_switch(&w->loop, &g->context);
        w->current = NULL;
        if (w->after == AFTER_END) {
            context_end(&g->context);
            atomic_store(&g->state, GREEN_FREE);
            stack_put(w, g);
            atomic_fetch_add(&R.ended, 1);
            return;
        }
        if (w->after == AFTER_YIELD) {
            global_put((struct queue){g, g}, 1);
            return;
        }
        /* From here on somebody may make it runnable; if so, its stack is no longer in use. When commit says
         * yes, g may be running elsewhere, or have ended, before we hear of it: it is not ours any more. */
        w->counts.parked++;
        atomic_store(&g->state, GREEN_PARKED);
        if (w->commit(w->commit_arg)) return;
        int state = GREEN_PARKED;
        if (!atomic_compare_exchange_strong(&g->state, &state, GREEN_RUNNABLE))
            die("a green thread that did not park was made runnable", 0);
    }
}

static void *work(void *arg) {
    struct worker *w = arg;
    this_worker = w;
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0); /* or each wait in the poller ends 50 us later than it might */
    context_of_thread(&w->loop);
    int e = gt_acquirep(w->p);
    if (e != 0) die("gt_acquirep", e);
    for (green *g; (g = find_runnable(w)) != NULL;) execute(w, g);
    if (gt_releasep() != w->p) die("gt_releasep", GT_EINVAL);
    return NULL;
}

/* ---- green threads ---- */

static void give_up_turn(struct worker *w, enum after after) {
    if (w->pins != 0) die("a green thread gave up its turn between acquirem and releasem", 0);
    green *g = w->current;
    w->after = after;
    if (after == AFTER_END) context_leave(&g->context, &w->loop);
    context_switch(&g->context, &w->loop);
    /* w is not ours any more. */
}

static void green_main(void) {
    green *g = green_self();
    context_entered(&g->context);
    g->f(g->arg);
    give_up_turn(worker_self(), AFTER_END);
}

bool green_go(void (*f)(void *), void *arg) {
    struct worker *w = worker_self();
    green *g = stack_get(w);
    if (g == NULL) return false;
    g->f = f, g->arg = arg;
    context_init(&g->context, g->low, (size_t)((char *)g - (char *)g->low), green_main);
    atomic_store(&g->state, GREEN_PARKED);
    atomic_fetch_add(&R.started, 1);
    green_ready(g);
    return true;
}

void green_park(int (*commit)(void *arg), void *arg) {
    struct worker *w = worker_self();
    w->commit = commit, w->commit_arg = arg;
    give_up_turn(w, AFTER_PARK);
}

void green_yield(void) { give_up_turn(worker_self(), AFTER_YIELD); }

void set_runnable(green *g) {
    if (atomic_exchange(&g->state, GREEN_RUNNABLE) != GREEN_PARKED)
        die("a green thread that was not parked was made runnable", 0);
}

void green_ready(green *g) {
    set_runnable(g);
    struct worker *w = worker_self();
    if (w != NULL) worker_put(w, g);
    else global_put((struct queue){g, g}, 1);
    wakep();
}

uint64_t green_alive(void) {
    uint64_t ended = atomic_load(&R.ended); /* first: it must not be more than what is read next */
    return atomic_load(&R.started) - ended;
}

/* ---- start and stop ---- */

gt_sched *runtime_start(unsigned workers, uint64_t seed) {
    poll_open();
    gt_config config = {.size = sizeof config, .host = &runtime_host, .clock = GT_CLOCK_MONOTONIC, .lateness = 1};
    R.sched = gt_sched_new(&config);
    if (R.sched == NULL) die("gt_sched_new", gt_last_error());
    R.nworkers = workers;
    R.workers = aligned_alloc(_Alignof(struct worker), workers * sizeof *R.workers);
    if (R.workers == NULL) die("no memory for the workers", 0);
    memset(R.workers, 0, workers * sizeof *R.workers);
    for (unsigned i = 0; i < workers; i++) {
        struct worker *w = &R.workers[i];
        w->index = i, w->rng = rng_next(&seed);
        sem_init(&w->wake, 0, 0);
        w->p = gt_p_new(R.sched);
        if (w->p == NULL) die("gt_p_new", gt_last_error());
    }
    for (unsigned i = 0; i < workers; i++)
        if (pthread_create(&R.workers[i].thread, NULL, work, &R.workers[i]) != 0) die("pthread_create failed", 0);
    return R.sched;
}

void runtime_stop(void) {
    if (green_alive() != 0) die("runtime_stop: green threads live", 0);
    wake_all();
    for (unsigned i = 0; i < R.nworkers; i++) pthread_join(R.workers[i].thread, NULL);
    for (unsigned i = 0; i < R.nworkers; i++) {
        int e = gt_p_free(R.workers[i].p);
        if (e != 0) die("gt_p_free", e);
        sem_destroy(&R.workers[i].wake);
    }
    poll_close();
}

void runtime_free(void) {
    stack_end();
    free(R.workers);
}

struct runtime_counts runtime_counts(void) {
    struct runtime_counts sum = {.ended = atomic_load(&R.ended), .started = atomic_load(&R.started)};
    for (unsigned i = 0; i < R.nworkers; i++) {
        const struct runtime_counts *c = &R.workers[i].counts;
        sum.switches += c->switches, sum.stolen += c->stolen, sum.parked += c->parked;
        sum.wakes += c->wakes, sum.polls += c->polls, sum.breaks += c->breaks;
    }
    sum.stack_bytes = stack_bytes();
    return sum;
}
