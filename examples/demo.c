/* demo.c: a million connection time-outs on all cores against the real clock, and an audit of what became of
 * every one of them. The heart of `make demo`.
 *
 *   demo [seconds [connections [seed]]]      10 seconds, 1000000 connections, a seed from the clock
 *
 * Each worker thread has a P. It handles random connections (whoever armed their timers), runs the timers that
 * are due on its P, rests now and then (steals from busy Ps, then sleeps in gt_notetsleep) and now and then is
 * stuck in a long job, so that others must run its timers. One guest thread makes Ps, works with them and gives
 * them up with their timers still armed. At the end nobody touches anything more, the workers only sleep and
 * fire, and then the record is compared with the library's counters. Exit status 0: nothing was lost. */
#include "demo/demo.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum phase { RUN, DRAIN, QUIET };

struct worker {
    pthread_t thread;
    uint64_t index, seed;
    gt_p *p;
    int p_free_error;
};

static gt_sched *sched;
static struct worker *workers;
static uint64_t nworkers, nconns = 1000000;
static _Atomic int phase;
static pthread_barrier_t barrier; /* workers, guest and main: opened, quiet, audited, closed */
static _Atomic int guest_heap_rule;
static _Atomic uint64_t guest_heaps;

static int now_is(enum phase is) { return atomic_load_explicit(&phase, memory_order_relaxed) == (int)is; }

static void die(const char *what, int code) {
    fprintf(stderr, "demo: %s: %s\n", what, gt_strerror(code));
    exit(2);
}

/* Runs what is due on p; returns the time that the pass took for now. */
static int64_t check(gt_p *p, int64_t *until) {
    int64_t now;
    count_up(N_CHECK, 1);
    int ran = gt_check_timers(p, 0, &now, until);
    if (ran < 0) die("gt_check_timers", ran);
    return now;
}

static void sleep_until(gt_p *p, int64_t until) {
    count_up(N_SLEEP, 1);
    int woken = gt_notetsleep(p, until);
    if (woken < 0) die("gt_notetsleep", woken);
}

/* Handles connections until `end`; looks at the timers of p (NULL: has none) after every 32. */
static void handle_connections(gt_p *p, int64_t end) {
    for (int64_t now = 0; now < end && now_is(RUN);) {
        now = p != NULL ? check(p, NULL) : gt_nanotime(sched);
        for (int i = 0; i < 32; i++) load_touch(now);
        load_odd_jobs(now);
    }
}

/* Nothing to do until `end`: runs what is due on the other Ps, then sleeps until the next deadline of any P. */
static void rest(gt_p *p, int64_t end) {
    while (now_is(RUN)) {
        int64_t until, others;
        int64_t now = check(p, &until);
        if (now >= end) break;
        if (until != 0 && until <= now) continue;
        count_up(N_OTHERS, 1);
        int ran = gt_check_others(sched, p, 0, &now, &others);
        if (ran < 0) die("gt_check_others", ran);
        if (until == 0 || until > end) until = end;
        if (others != 0 && others < until) until = others;
        if (until > now) sleep_until(p, until);
    }
}

/* A long job: this thread looks at no timer until it is done. */
static void be_stuck(int64_t end) {
    while (gt_nanotime(sched) < end && now_is(RUN)) {}
}

static void *work(void *arg) {
    struct worker *w = arg;
    if (tally_new(w->seed) == NULL) abort();
    int e = gt_acquirep(w->p);
    if (e != 0) die("gt_acquirep", e);
    load_open(nconns * w->index / nworkers, nconns * (w->index + 1) / nworkers);
    pthread_barrier_wait(&barrier); /* opened */
    if (w->index == 0) load_open_tickers();

    while (now_is(RUN)) {
        handle_connections(w->p, gt_nanotime(sched) + 20 * MS + (int64_t)rng_below(&me->rng, 60 * MS));
        if (rng_next(&me->rng) % 32 == 0) be_stuck(gt_nanotime(sched) + 5 * MS);
        if (rng_next(&me->rng) % 16 == 0) load_cut(nconns / 1000, gt_nanotime(sched));
        rest(w->p, gt_nanotime(sched) + 1 * MS + (int64_t)rng_below(&me->rng, 3 * MS));
    }
    while (now_is(DRAIN)) {
        int64_t until, now = check(w->p, &until);
        if (until == 0 || until > now) sleep_until(w->p, until);
    }
    pthread_barrier_wait(&barrier); /* quiet */
    pthread_barrier_wait(&barrier); /* audited */
    load_close(nconns * w->index / nworkers, nconns * (w->index + 1) / nworkers);
    if (w->index == 0) load_close_tickers();
    if (gt_releasep() != w->p) die("gt_releasep", GT_EINVAL);
    pthread_barrier_wait(&barrier); /* closed */
    return NULL;
}

/* Makes a P, works with it, gives it up with its timers armed, works without one, and again. */
static void *be_guest(void *arg) {
    if (tally_new(*(uint64_t *)arg) == NULL) abort();
    pthread_barrier_wait(&barrier); /* opened */
    while (now_is(RUN)) {
        gt_p *p = gt_p_new(sched);
        if (p == NULL) die("gt_p_new", gt_last_error());
        count_up(N_P_NEW, 1);
        int e = gt_acquirep(p);
        if (e != 0) die("gt_acquirep", e);
        handle_connections(p, gt_nanotime(sched) + 10 * MS);
        int rule = gt_verify_timer_heap(p);
        if (rule != 0) atomic_store(&guest_heap_rule, rule);
        atomic_fetch_add(&guest_heaps, 1);
        if (rng_next(&me->rng) & 1) { /* hands its timers to a worker; else gt_p_free finds a place for them */
            count_up(N_ADOPT, 1);
            int moved = gt_adopt_timers(workers[rng_below(&me->rng, nworkers)].p, p);
            if (moved < 0) die("gt_adopt_timers", moved);
        }
        if (gt_releasep() != p) die("gt_releasep", GT_EINVAL);
        count_up(N_P_FREE, 1);
        e = gt_p_free(p);
        if (e != 0) die("gt_p_free", e);
        handle_connections(NULL, gt_nanotime(sched) + 2 * MS);
        nanosleep(&(struct timespec){.tv_nsec = 10 * MS}, NULL);
    }
    pthread_barrier_wait(&barrier); /* quiet */
    pthread_barrier_wait(&barrier); /* audited */
    pthread_barrier_wait(&barrier); /* closed */
    return NULL;
}

static void show_until(int64_t end, int64_t begin, int64_t whole) {
    for (int64_t now; (now = gt_nanotime(sched)) < end;) {
        report_progress(sched, (double)(now - begin) / 1e9, (double)whole / 1e9);
        int64_t left = end - now < 50 * MS ? end - now : 50 * MS;
        nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
    }
}

static void set_phase(enum phase to) {
    atomic_store(&phase, (int)to);
    for (uint64_t i = 0; i < nworkers; i++) {
        int e = gt_notewakeup(workers[i].p);
        if (e < 0) die("gt_notewakeup", e);
    }
}

/* Waits until everything that was due at `due` has been called; returns how long that took. A machine that is
 * busy with other things may need its time: only 20 s without a single call in them mean that the rest is lost. */
static int64_t wait_for_overdue(int64_t due, int64_t opened, int64_t whole) {
    int64_t begin = gt_nanotime(sched), better = begin;
    uint64_t least = UINT64_MAX;
    for (;;) {
        int64_t now = gt_nanotime(sched);
        uint64_t overdue = load_audit(due).lost;
        if (overdue < least) least = overdue, better = now;
        if (overdue == 0 || now - better > 20 * SECOND) return now - begin;
        show_until(now + 5 * MS, opened, whole);
    }
}

/* Nobody calls the library now: the counters must fit together, and fit our record. */
static void take_stock(struct result *r, int64_t due) {
    r->audit = load_audit(due);
    for (int k = 0; k < COUNTS; k++) r->own[k] = tally_sum((enum count)k);
    r->heap_rule = atomic_load(&guest_heap_rule);
    r->heaps = atomic_load(&guest_heaps);
    for (uint64_t i = 0; i < nworkers; i++, r->heaps++) {
        int rule = gt_verify_timer_heap(workers[i].p);
        if (rule != 0) r->heap_rule = rule;
    }
    r->stats.size = sizeof r->stats;
    int e = gt_stats_get(sched, &r->stats);
    if (e != 0) die("gt_stats_get", e);
    r->late_buckets = gt_lateness_get(sched, NULL, 0);
    if (r->late_buckets < 0) die("gt_lateness_get", r->late_buckets);
    r->late_counts = calloc((size_t)r->late_buckets + 1, sizeof *r->late_counts);
    if (r->late_counts == NULL) abort();
    gt_lateness_get(sched, r->late_counts, (size_t)r->late_buckets);
}

/* Everything is freed: what could still change in the result are drops and errors. */
static void take_stock_at_the_end(struct result *r) {
    static const enum count late[] = {D_MADE, D_DROPPED, E_EARLY, E_FATE, E_DROP, E_CALL};
    for (size_t i = 0; i < sizeof late / sizeof *late; i++) r->own[late[i]] = tally_sum(late[i]);
}

static uint64_t cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint64_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint64_t)n : 1;
}

static double number(const char *text, double min, double max) {
    char *end;
    double v = strtod(text, &end);
    if (*end != 0 || end == text || !(v >= min && v <= max)) {
        fprintf(stderr, "usage: demo [seconds [connections [seed]]]\n");
        exit(2);
    }
    return v;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? number(argv[1], 0.2, 86400) : 10;
    if (argc > 2) nconns = (uint64_t)number(argv[2], 100, 1e8);
    struct timeval tv;
    gettimeofday(&tv, NULL);
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
    uint64_t rng = seed;
    nworkers = cores() < 2 ? 2 : cores(); /* with one core two threads share it: still two Ps */

    struct result result = {.shown = {.seed = seed, .conns = nconns, .workers = nworkers}};
    report_start(&result.shown);
    gt_config config = {.size = sizeof config, .clock = GT_CLOCK_MONOTONIC, .lateness = 1};
    sched = gt_sched_new(&config);
    if (sched == NULL) die("gt_sched_new", gt_last_error());
    int64_t whole = (int64_t)(seconds * 1e9), drain = whole / 8 < SECOND ? whole / 8 : SECOND;
    int64_t idle = whole / 4 < 3 * SECOND ? whole / 4 : 3 * SECOND;
    workers = calloc(nworkers, sizeof *workers);
    if (workers == NULL || tally_new(rng_next(&rng)) == NULL || !load_init(sched, nconns, idle)) abort();
    pthread_barrier_init(&barrier, NULL, (unsigned)nworkers + 2);

    int64_t begin = gt_nanotime(sched);
    for (uint64_t i = 0; i < nworkers; i++) {
        workers[i] = (struct worker){.index = i, .seed = rng_next(&rng), .p = gt_p_new(sched)};
        if (workers[i].p == NULL) die("gt_p_new", gt_last_error());
        count_up(N_P_NEW, 1);
    }
    for (uint64_t i = 0; i < nworkers; i++) /* all Ps exist before any thread looks at them */
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
    pthread_t guest;
    uint64_t guest_seed = rng_next(&rng);
    if (pthread_create(&guest, NULL, be_guest, &guest_seed) != 0) abort();
    pthread_barrier_wait(&barrier); /* opened */

    int64_t opened = gt_nanotime(sched);
    result.shown.setup_seconds = (double)(opened - begin) / 1e9;
    show_until(opened + whole - drain, opened, whole);
    set_phase(DRAIN);
    int64_t due = gt_nanotime(sched) + drain;
    show_until(due, opened, whole);
    result.patience_ns = wait_for_overdue(due, opened, whole);
    set_phase(QUIET);
    pthread_barrier_wait(&barrier); /* quiet */
    result.shown.seconds = (double)(gt_nanotime(sched) - opened) / 1e9;
    report_progress_end();
    take_stock(&result, due);
    pthread_barrier_wait(&barrier); /* audited */
    pthread_barrier_wait(&barrier); /* closed */

    for (uint64_t i = 0; i < nworkers; i++) {
        pthread_join(workers[i].thread, NULL);
        int e = gt_p_free(workers[i].p);
        if (e != 0) result.p_free_error = e;
    }
    pthread_join(guest, NULL);
    result.sched_free_error = gt_sched_free(sched);
    take_stock_at_the_end(&result);
    int wrong = report_result(&result);
    free(result.late_counts), free(workers);
    return wrong == 0 ? 0 : 1;
}
