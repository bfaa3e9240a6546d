/* libev.c: libev in the workloads: one loop, its timers embedded in an array, ev_run(EVRUN_NOWAIT) as the check.
 * A moved timer goes by ev_timer_again, the cheapest way that libev has. */
#include "../core/common.h"

#include <ev.h>

#define PEER_NAME "libev"
#define PEER_VERSION version()
#define PEER_ORDER "exact"
#define PEER_NOTES "\"W5\": \"not thread-safe\", \"W7\": \"its wait rounds to 1 ms\""
#define PEER_TICKERS
#define PEER_FRESH
#define PEER_REAL

struct peer {
    struct ev_loop *loop;
    ev_timer *timers;
    struct fired fired;
};

static const char *version(void) {
    static char text[20];
    snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
    return text;
}

/* At this moment w->at is how long ago it was due, below 0; the whole pass has one "now". */
static void on_fire(struct ev_loop *loop, ev_timer *w, int revents) {
    (void)revents;
    struct peer *p = ev_userdata(loop);
    fired_at(&p->fired, (uint64_t)(w - p->timers), (int64_t)(w->at * 1e9));
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = bench_alloc(1, sizeof *p);
    p->loop = ev_loop_new(EVFLAG_AUTO);
    if (p->loop == NULL) bench_die("ev_loop_new", "failed");
    ev_set_userdata(p->loop, p);
    p->timers = bench_alloc(n, sizeof *p->timers);
    for (uint64_t i = 0; i < n; i++) ev_init(&p->timers[i], on_fire);
    ev_now_update(p->loop);
    return p;
}

static void peer_free(struct peer *p) {
    ev_loop_destroy(p->loop);
    free(p->timers), free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

/* libev counts from the "now" of its loop, which is the time of the last check. */
static inline double ahead(struct peer *p, int64_t when) {
    if (vclock_on) return (double)(when - vclock) * 1e-9;
    return (double)(when - real_now()) * 1e-9 + (ev_time() - ev_now(p->loop));
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    ev_timer_set(&p->timers[i], ahead(p, when), 0.);
    ev_timer_start(p->loop, &p->timers[i]);
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    p->timers[i].repeat = ahead(p, when);
    ev_timer_again(p->loop, &p->timers[i]);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    ev_timer_stop(p->loop, &p->timers[i]);
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    ev_timer *w = malloc(sizeof *w);
    ev_timer_init(w, on_fire, ahead(p, when), 0.);
    ev_timer_start(p->loop, w);
    ev_timer_stop(p->loop, w);
    free(w);
}

static inline void peer_tick(struct peer *p, uint64_t i, int64_t when, int64_t period) {
    ev_timer_set(&p->timers[i], ahead(p, when), (double)period * 1e-9);
    ev_timer_start(p->loop, &p->timers[i]);
}

static inline void peer_check(struct peer *p, int64_t now) {
    (void)now;
    ev_run(p->loop, EVRUN_NOWAIT);
}

static void peer_wait(struct peer *p) {
    ev_run(p->loop, EVRUN_ONCE);
}

#include "../core/workloads.h"
