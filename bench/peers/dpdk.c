/* dpdk.c: DPDK's rte_timer in the workloads: a skip list for each lcore, rte_timer_manage as the check. Its clock is the
 * processor's time stamp counter, which it reads itself at each call and which cannot be set: so here time is real.
 * In W3 the deadlines are drawn as everywhere but squeezed, 60 s to 100 ns for each timer, and all are due when the
 * firing begins; W4 calls rte_timer_manage once in a real millisecond and counts the time inside. */
#include "../core/common.h"

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_timer.h>
#include <rte_version.h>

#define PEER_NAME "DPDK"
#define PEER_VERSION (rte_version() + strlen("DPDK "))
#define PEER_ORDER "exact"
#define PEER_NOTES "\"W7\": \"it has no wait: its loop polls\", \"W3\": \"reads the time stamp counter itself\""
#define PEER_FRESH
#define PEER_SHARED
#define PEER_NO_PAUSE
#define PEER_START() start()
#define PEER_ALL_DUE(p) all_due(p)
#define PEER_MORE_LIST ", \"W4\""
#define PEER_MORE() (is("W4") ? (w4_real(), 1) : 0)

struct peer {
    struct rte_timer *timers;
    uint64_t n;
    double scale;   /* stamps for each ns of the workload's time */
    uint64_t begin; /* the stamp at which the workload's time was `base` */
    int64_t base;
    unsigned lcore;
    struct fired fired;
};

static void start(void) {
    char *argv[] = {"bench", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-l", "0", "-m", "64", "--log-level", "1", NULL};
    if (rte_eal_init((int)(sizeof argv / sizeof *argv) - 1, argv) < 0) bench_die("rte_eal_init", rte_strerror(rte_errno));
    if (rte_timer_subsystem_init() != 0) bench_die("rte_timer_subsystem_init", "failed");
}

static __thread struct peer *mine; /* whose check runs on this thread */

static void on_fire(struct rte_timer *t, void *arg) {
    (void)arg;
    struct peer *p = mine;
    fired_at(&p->fired, (uint64_t)(t - p->timers), (int64_t)(t->expire - p->begin));
}

static void set_lcore(void) {
    if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0) bench_die("rte_thread_register", rte_strerror(rte_errno));
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = bench_alloc(1, sizeof *p);
    set_lcore();
    p->n = n;
    p->lcore = rte_lcore_id();
    p->scale = (double)rte_get_timer_hz() / 1e9;
    if (strcmp(bench.workload, "W3") == 0) p->scale *= (double)n * 100 / (60 * SECOND);
    p->begin = rte_get_timer_cycles();
    p->base = vclock;
    p->timers = bench_alloc(n, sizeof *p->timers);
    for (uint64_t i = 0; i < n; i++) rte_timer_init(&p->timers[i]);
    mine = p;
    return p;
}

static void peer_free(struct peer *p) {
    for (uint64_t i = 0; i < p->n; i++) rte_timer_stop_sync(&p->timers[i]);
    free(p->timers), free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

/* DPDK adds its own "now" to it: a deadline that has passed wraps around and comes out right. */
static inline uint64_t ahead(struct peer *p, int64_t when) {
    return p->begin + (uint64_t)((double)(when - p->base) * p->scale) - rte_get_timer_cycles();
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    if (rte_timer_reset(&p->timers[i], ahead(p, when), SINGLE, p->lcore, on_fire, NULL) != 0) bench_die("rte_timer_reset", "refused");
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    peer_arm(p, i, when);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    rte_timer_stop(&p->timers[i]);
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    struct rte_timer *t = malloc(sizeof *t);
    rte_timer_init(t);
    rte_timer_reset(t, ahead(p, when), SINGLE, p->lcore, on_fire, NULL);
    rte_timer_stop(t);
    free(t);
}

static inline void peer_check(struct peer *p, int64_t now) {
    (void)p, (void)now;
    rte_timer_manage();
}

/* W3: waits until the last deadline has passed; the next round begins then. */
static void all_due(struct peer *p) {
    uint64_t end = p->begin;
    for (uint64_t i = 0; i < p->n; i++) /* some were put off, where the thread lost its processor between two stamps */
        if ((int64_t)(p->timers[i].expire - end) > 0) end = p->timers[i].expire;
    while ((int64_t)(rte_get_timer_cycles() - end) < 0) rte_pause();
    p->base += 100 * SECOND;
    p->begin = rte_get_timer_cycles();
}

static void w4_real(void);

/* ---- W5: the lists of all lcores; a timer stays on the lcore of its thread ---- */

struct shared {
    struct rte_timer *timers;
    unsigned *lcores;
    uint64_t n;
    int threads;
    double scale;
};

static struct shared *shared_new(uint64_t n, int threads) {
    struct shared *s = bench_alloc(1, sizeof *s);
    s->n = n;
    s->threads = threads;
    s->scale = (double)rte_get_timer_hz() / 1e9;
    s->timers = bench_alloc(n * (uint64_t)threads, sizeof *s->timers);
    s->lcores = bench_alloc((uint64_t)threads, sizeof *s->lcores);
    for (uint64_t i = 0; i < n * (uint64_t)threads; i++) rte_timer_init(&s->timers[i]);
    return s;
}

static void shared_enter(struct shared *s, int thread) {
    set_lcore();
    s->lcores[thread] = rte_lcore_id();
}

/* Refused while another thread works on the same timer: then again. */
static inline void shared_rearm(struct shared *s, int thread, uint64_t i, int64_t when) {
    (void)thread;
    uint64_t ticks = (uint64_t)((double)(when - BASE) * s->scale);
    while (rte_timer_reset(&s->timers[i], ticks, SINGLE, s->lcores[i / s->n], on_fire, NULL) != 0) rte_pause();
}

static void shared_arm(struct shared *s, uint64_t i, int64_t when) {
    shared_rearm(s, 0, i, when);
}

static void shared_leave(struct shared *s, int thread) {
    (void)s, (void)thread;
}

static void shared_free(struct shared *s) {
    for (uint64_t i = 0; i < s->n * (uint64_t)s->threads; i++) rte_timer_stop_sync(&s->timers[i]);
    free(s->timers), free(s->lcores), free(s);
}

#include "../core/workloads.h"

/* W4 in real time. */
static void w4_real(void) {
    uint64_t n = bench.n, seed = bench.seed;
    double ns[99];
    struct peer *p = peer_new(n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t d = MILLISECOND + rng_below(&seed, 99 * MILLISECOND);
        rte_timer_reset(&p->timers[i], (uint64_t)((double)d * p->scale), PERIODICAL, p->lcore, on_fire, NULL);
    }
    int64_t next = real_now();
    for (int r = -1; r < bench.reps; r++) {
        uint64_t before = p->fired.count;
        double inside = 0;
        for (int ms = 0; ms < bench.seconds * 1000; ms++) {
            for (next += MILLISECOND; real_now() < next;) rte_pause();
            double begin = ns_now();
            rte_timer_manage();
            inside += ns_now() - begin;
        }
        if (r >= 0) ns[r] = inside / (double)(p->fired.count - before);
    }
    bench_emit("W4", n, 1, ns, bench.reps, NULL);
    peer_free(p);
}
