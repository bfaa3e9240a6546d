/* threads.h: W5 and W6, the workloads of several threads. Part of workloads.h.
 *
 * W6: each thread re-arms its own n timers, in a peer of its own. W5: n timers for each thread, all in one set; every
 * thread re-arms any of them. The clock stands still. The result is ns of wall time per operation of all threads
 * together, so it falls as threads are added.
 *
 * A peer with W5 (PEER_SHARED) also defines
 *   struct shared *shared_new(n, threads)        n timers for each thread, none armed
 *   void shared_enter(s, thread), shared_leave(s, thread)   in each thread; enter arms the thread's own timers by
 *                                                shared_arm, numbers thread * n and on
 *   void shared_arm(s, i, when), shared_rearm(s, thread, i, when)
 *   void shared_free(s) */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "common.h"

#include <pthread.h>

struct team {
    pthread_barrier_t barrier;
    int threads;
    void *shared;
    uint64_t ops; /* of each thread; written by thread 0 */
};

struct member {
    struct team *team;
    int number;
    double begin[99], end[99]; /* of each repetition, by this thread's own look at the clock */
};

static double meet(struct member *m) {
    pthread_barrier_wait(&m->team->barrier);
    return ns_now();
}

/* From the first thread's begin to the last one's end: a thread may be held up at either. */
static void emit_team(const char *name, const struct team *team, const struct member *members) {
    double ns[99];
    for (int r = 0; r < bench.reps; r++) {
        double begin = members[0].begin[r], end = members[0].end[r];
        for (int i = 1; i < team->threads; i++) {
            if (members[i].begin[r] < begin) begin = members[i].begin[r];
            if (members[i].end[r] > end) end = members[i].end[r];
        }
        ns[r] = (end - begin) / (double)team->ops / team->threads;
    }
    bench_emit(name, bench.n, team->threads, ns, bench.reps, NULL);
}

static void run_team(struct team *team, void *(*f)(void *), const char *name) {
    int n = team->threads;
    pthread_t *threads = (pthread_t *)calloc((size_t)n, sizeof *threads);
    struct member *members = (struct member *)calloc((size_t)n, sizeof *members);
    if (threads == NULL || members == NULL) bench_die("memory", "out of it");
    pthread_barrier_init(&team->barrier, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        members[i].team = team;
        members[i].number = i;
        if (pthread_create(&threads[i], NULL, f, &members[i]) != 0) bench_die("pthread_create", "failed");
    }
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    emit_team(name, team, members);
    pthread_barrier_destroy(&team->barrier);
    free(threads);
    free(members);
}

/* So many operations take about bench.seconds, if one of them takes `ns`. */
static uint64_t ops_for(double ns) {
    double ops = bench.seconds * 1e9 / ns;
    return ops > 2.0 * OPS ? 2 * OPS : ops < BLOCK ? BLOCK : (uint64_t)ops / BLOCK * BLOCK;
}

static void *w6_thread(void *arg) {
    struct member *m = (struct member *)arg;
    uint64_t n = bench.n, seed = bench.seed + (uint64_t)m->number * 1000003;
    int64_t now = BASE;
    struct peer *p = peer_new(n);
    arm_all(p, n, &seed, now);
    peer_check(p, now);
    double ns = rearm(p, n, OPS, bench.seconds, &now, 0, &seed);
    if (m->number == 0) m->team->ops = ops_for(ns);
    for (int r = 0; r < bench.reps; r++) {
        m->begin[r] = meet(m);
        rearm(p, n, m->team->ops, 1e9, &now, 0, &seed);
        m->end[r] = ns_now();
    }
    meet(m);
    peer_free(p);
    return NULL;
}

static void w6(void) {
    struct team team;
    memset(&team, 0, sizeof team);
    team.threads = bench.threads;
    PEER_CLOCK(BASE);
    PEER_GROUP(1);
    run_team(&team, w6_thread, "W6");
    PEER_GROUP(0);
}

#ifdef PEER_SHARED
static double rearm_any(struct shared *s, int thread, uint64_t total, uint64_t ops, uint64_t *seed) {
    uint64_t x = *seed;
    double begin = ns_now();
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t k = rng_below(&x, total);
        shared_rearm(s, thread, k, rng_when(&x, BASE));
    }
    *seed = x;
    return (ns_now() - begin) / (double)ops;
}

static void *w5_thread(void *arg) {
    struct member *m = (struct member *)arg;
    struct shared *s = (struct shared *)m->team->shared;
    uint64_t n = bench.n, total = n * (uint64_t)m->team->threads, first = n * (uint64_t)m->number;
    uint64_t seed = bench.seed + (uint64_t)m->number * 1000003;
    shared_enter(s, m->number);
    for (uint64_t i = 0; i < n; i++) shared_arm(s, first + i, rng_when(&seed, BASE));
    meet(m);
    double ns = rearm_any(s, m->number, total, OPS / 16, &seed);
    if (m->number == 0) m->team->ops = ops_for(ns);
    meet(m);
    rearm_any(s, m->number, total, m->team->ops, &seed);
    for (int r = 0; r < bench.reps; r++) {
        m->begin[r] = meet(m);
        rearm_any(s, m->number, total, m->team->ops, &seed);
        m->end[r] = ns_now();
    }
    meet(m);
    shared_leave(s, m->number);
    return NULL;
}

static void w5(void) {
    struct team team;
    memset(&team, 0, sizeof team);
    team.threads = bench.threads;
    PEER_CLOCK(BASE);
    PEER_GROUP(1);
    team.shared = shared_new(bench.n, bench.threads);
    run_team(&team, w5_thread, "W5");
    shared_free((struct shared *)team.shared);
    PEER_GROUP(0);
}
#endif
#endif
