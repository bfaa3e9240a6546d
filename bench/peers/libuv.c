/* libuv.c: libuv in the workloads: one loop, its timers in an array, uv_run(UV_RUN_NOWAIT) as the check. libuv counts
 * in whole milliseconds; deadlines are rounded up. */
#include "../core/common.h"

#include <uv.h>

#define PEER_NAME "libuv"
#define PEER_VERSION uv_version_string()
#define PEER_ORDER "1 ms ticks"
#define PEER_NOTES "\"W5\": \"not thread-safe\""
#define PEER_TICKERS
#define PEER_FRESH
#define PEER_REAL

struct peer {
    uv_loop_t loop;
    uv_timer_t *timers;
    struct fired fired;
};

/* uv_timer_t keeps its time to itself (uv_timer_get_due_in is not it once fired): the order is not looked at. */
static void on_fire(uv_timer_t *t) {
    struct peer *p = t->loop->data;
    fired_at(&p->fired, (uint64_t)(t - p->timers), 0);
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = bench_alloc(1, sizeof *p);
    if (uv_loop_init(&p->loop) != 0) bench_die("uv_loop_init", "failed");
    p->loop.data = p;
    p->timers = bench_alloc(n, sizeof *p->timers);
    for (uint64_t i = 0; i < n; i++) uv_timer_init(&p->loop, &p->timers[i]);
    uv_update_time(&p->loop);
    return p;
}

static void closed(uv_handle_t *h) {
    (void)h;
}

static void close_one(uv_handle_t *h, void *arg) {
    (void)arg;
    if (!uv_is_closing(h)) uv_close(h, closed);
}

static void peer_free(struct peer *p) {
    uv_walk(&p->loop, close_one, NULL);
    uv_run(&p->loop, UV_RUN_NOWAIT);
    if (uv_loop_close(&p->loop) != 0) bench_die("uv_loop_close", "failed");
    free(p->timers), free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

static inline uint64_t ahead(struct peer *p, int64_t when) {
    int64_t now = (int64_t)uv_now(&p->loop), at = (when + MILLISECOND - 1) / MILLISECOND;
    return at > now ? (uint64_t)(at - now) : 0;
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    uv_timer_start(&p->timers[i], on_fire, ahead(p, when), 0);
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    peer_rearm(p, i, when);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    uv_timer_stop(&p->timers[i]);
}

static void free_handle(uv_handle_t *h) {
    free(h);
}

/* Handles are closed by the loop: the memory goes back at the next check. */
static inline void peer_fresh(struct peer *p, int64_t when) {
    uv_timer_t *t = malloc(sizeof *t);
    uv_timer_init(&p->loop, t);
    uv_timer_start(t, on_fire, ahead(p, when), 0);
    uv_timer_stop(t);
    uv_close((uv_handle_t *)t, free_handle);
}

static inline void peer_tick(struct peer *p, uint64_t i, int64_t when, int64_t period) {
    uv_timer_start(&p->timers[i], on_fire, ahead(p, when), (uint64_t)((period + MILLISECOND - 1) / MILLISECOND));
}

static inline void peer_check(struct peer *p, int64_t now) {
    (void)now;
    uv_run(&p->loop, UV_RUN_NOWAIT);
}

static void peer_wait(struct peer *p) {
    uv_run(&p->loop, UV_RUN_ONCE);
}

#include "../core/workloads.h"
