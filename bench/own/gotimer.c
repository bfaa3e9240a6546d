/* gotimer.c: libgotimer in the workloads, through its C ABI. One thread, one P, bound; the time is given to
 * gt_check_timers, so no clock is read. Its W7 is a loop of the embedder's; that of the built-in runtime is in
 * runtime.c. */
#include "../core/common.h"

#include "gotimer.h"

#define PEER_NAME "libgotimer"
#define PEER_VERSION gt_version_string()
#define PEER_ORDER "exact"
#define PEER_NOTES ""
#define PEER_FRESH
#define PEER_TICKERS
#define PEER_SHARED
#define PEER_REAL
#define PEER_GROUP(on) group(on)
#define PEER_START() start()
#define PEER_BYTES(p) ((double)stats(p->sched).bytes)

struct peer {
    gt_sched *sched;
    gt_p *p;
    gt_timer **timers;
    uint64_t n;
    int own_sched;
    struct fired fired;
};

extern const char *bench_program;

/* W7 here is a loop of the embedder's: a row of its own. */
static void start(void) {
    if (strcmp(bench.workload, "W7") == 0) bench_program = "libgotimer, own loop";
}

static gt_sched *common_sched; /* W5 and W6: the threads' Ps belong to one sched */

static void must(const char *what, int64_t got) {
    if (got < 0) bench_die(what, gt_strerror((int)got));
}

static gt_sched *new_sched(void) {
    gt_config config = {.size = sizeof config, .clock = vclock_on ? GT_CLOCK_VIRTUAL : GT_CLOCK_MONOTONIC};
    gt_sched *s = gt_sched_new(&config);
    if (s == NULL) bench_die("gt_sched_new", gt_strerror(gt_last_error()));
    return s;
}

static gt_stats stats(gt_sched *s) {
    gt_stats st = {.size = sizeof st};
    must("gt_stats_get", gt_stats_get(s, &st));
    return st;
}

static void check_stats(gt_sched *s) {
    gt_stats st = stats(s);
    if (st.early != 0 || st.armed != st.fired + st.stopped + st.replaced + st.pending)
        bench_die("gt_stats", "the counters do not add up");
}

static void group(int on) {
    if (on) {
        common_sched = new_sched();
        return;
    }
    check_stats(common_sched);
    must("gt_sched_free", gt_sched_free(common_sched));
    common_sched = NULL;
}

static gt_p *new_p(gt_sched *s) {
    gt_p *p = gt_p_new(s);
    if (p == NULL) bench_die("gt_p_new", gt_strerror(gt_last_error()));
    must("gt_acquirep", gt_acquirep(p));
    return p;
}

static gt_timer *new_timer(gt_sched *s, gt_func f, void *arg) {
    gt_timer *t = gt_timer_new(s, f, arg, NULL);
    if (t == NULL) bench_die("gt_timer_new", gt_strerror(gt_last_error()));
    return t;
}

/* The delay says when the timer was due, but for a constant: what the order is judged by. The number of the timer is
 * its seq; only W7 gives it one. */
static void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    struct peer *p = arg;
    fired_at(&p->fired, seq, -delay);
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = calloc(1, sizeof *p);
    if (p == NULL) bench_die("memory", "out of it");
    p->n = n;
    p->own_sched = common_sched == NULL;
    p->sched = p->own_sched ? new_sched() : common_sched;
    p->p = new_p(p->sched);
    p->timers = bench_handles(n, sizeof *p->timers);
    for (uint64_t i = 0; i < n; i++) p->timers[i] = new_timer(p->sched, on_fire, p);
    return p;
}

static void peer_free(struct peer *p) {
    if (p->own_sched) check_stats(p->sched);
    for (uint64_t i = 0; i < p->n; i++) must("gt_timer_free", gt_timer_free(p->timers[i]));
    gt_releasep();
    must("gt_p_free", gt_p_free(p->p));
    if (p->own_sched) must("gt_sched_free", gt_sched_free(p->sched));
    free(p->timers);
    free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    int got = p->fired.plan == NULL ? gt_addtimer(p->timers[i], when, 0)
                                    : gt_modtimer(p->timers[i], when, 0, on_fire, p, i); /* W7: with its number */
    if (got < 0) must("gt_addtimer", got);
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    int got = gt_resettimer(p->timers[i], when, 0);
    if (got < 0) must("gt_resettimer", got);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    if (gt_deltimer(p->timers[i]) != 1) bench_die("gt_deltimer", "it was not armed");
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    gt_timer *t = gt_timer_new(p->sched, on_fire, p, NULL);
    gt_addtimer(t, when, 0);
    if (gt_deltimer(t) != 1) bench_die("gt_deltimer", "it was not armed");
    gt_timer_free(t);
}

static inline void peer_tick(struct peer *p, uint64_t i, int64_t when, int64_t period) {
    must("gt_addtimer", gt_addtimer(p->timers[i], when, period));
}

/* A pass is bounded by what the heap held; it says when it wants to be called again at once. */
static inline void peer_check(struct peer *p, int64_t now) {
    int64_t until;
    do gt_check_timers(p->p, now, NULL, &until);
    while (until != 0 && until <= now);
}

/* W7 with a loop of the embedder's: the thread checks, then sleeps until it is told to. */
static void peer_wait(struct peer *p) {
    int64_t now, until;
    if (gt_check_timers(p->p, 0, &now, &until) == 1) return;
    must("gt_notetsleep", gt_notetsleep(p->p, until));
}

/* ---- W5: one sched, each thread with a P; any thread re-arms any timer ---- */

struct shared {
    gt_timer **timers;
    gt_p **ps;
    uint64_t n;
    int threads;
};

static struct shared *shared_new(uint64_t n, int threads) {
    struct shared *s = calloc(1, sizeof *s);
    if (s == NULL) bench_die("memory", "out of it");
    s->n = n;
    s->threads = threads;
    s->timers = bench_handles(n * (uint64_t)threads, sizeof *s->timers);
    s->ps = bench_alloc((uint64_t)threads, sizeof *s->ps);
    return s;
}

static void on_shared(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
}

static void shared_enter(struct shared *s, int thread) {
    s->ps[thread] = new_p(common_sched);
    for (uint64_t i = 0; i < s->n; i++) s->timers[(uint64_t)thread * s->n + i] = new_timer(common_sched, on_shared, s);
}

static void shared_arm(struct shared *s, uint64_t i, int64_t when) {
    must("gt_addtimer", gt_addtimer(s->timers[i], when, 0));
}

static inline void shared_rearm(struct shared *s, int thread, uint64_t i, int64_t when) {
    (void)thread;
    if (gt_resettimer(s->timers[i], when, 0) != 1) bench_die("gt_resettimer", "it was not armed");
}

static void shared_leave(struct shared *s, int thread) {
    gt_releasep();
    must("gt_p_free", gt_p_free(s->ps[thread]));
}

static void shared_free(struct shared *s) {
    for (uint64_t i = 0; i < s->n * (uint64_t)s->threads; i++) must("gt_timer_free", gt_timer_free(s->timers[i]));
    free(s->timers);
    free(s->ps);
    free(s);
}

#include "../core/workloads.h"
