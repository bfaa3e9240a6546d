/* libevent.c: libevent in the workloads: its timer events embedded in an array, event_base_loop(EVLOOP_NONBLOCK) as
 * the check. W1 to W4, W6 and W8 run without locks, W5 with evthread and one base for each thread; W7 asks for
 * the precise timer. */
#include "../core/common.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>

#define PEER_NAME "libevent"
#define PEER_VERSION event_get_version()
#define PEER_ORDER "1 us"
#define PEER_NOTES "\"W7\": \"with EVENT_BASE_FLAG_PRECISE_TIMER\""
#define PEER_TICKERS
#define PEER_FRESH
#define PEER_SHARED
#define PEER_REAL
#define PEER_START() start()

struct peer {
    struct event_base *base;
    struct event *timers;
    uint64_t n;
    struct fired fired;
};

static void start(void) {
    if (strcmp(bench.workload, "W5") == 0 && evthread_use_pthreads() != 0) bench_die("evthread_use_pthreads", "failed");
}

static struct event_base *new_base(void) {
    struct event_config *config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    struct event_base *base = event_base_new_with_config(config);
    if (base == NULL) bench_die("event_base_new", "failed");
    event_config_free(config);
    return base;
}

/* Whose check runs on this thread: the callback has room for one pointer, its event. */
static __thread struct peer *mine;

static void on_fire(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    struct event *e = arg;
    struct peer *p = mine;
    fired_at(&p->fired, (uint64_t)(e - p->timers), e->ev_timeout.tv_sec * 1000000 + (e->ev_timeout.tv_usec & 0xfffff));
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = bench_alloc(1, sizeof *p);
    p->n = n;
    p->base = new_base();
    p->timers = bench_alloc(n, sizeof *p->timers);
    for (uint64_t i = 0; i < n; i++) evtimer_assign(&p->timers[i], p->base, on_fire, &p->timers[i]);
    mine = p;
    return p;
}

static void peer_free(struct peer *p) {
    for (uint64_t i = 0; i < p->n; i++) event_del(&p->timers[i]);
    event_base_free(p->base);
    free(p->timers), free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

static inline struct timeval ahead(int64_t when) {
    int64_t d = when - (vclock_on ? vclock : real_now());
    uint64_t us = d <= 0 ? 0 : ((uint64_t)d + 999) / 1000;
    return (struct timeval){.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    struct timeval tv = ahead(when);
    event_add(&p->timers[i], &tv);
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    peer_rearm(p, i, when);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    event_del(&p->timers[i]);
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    struct timeval tv = ahead(when);
    struct event *e = evtimer_new(p->base, on_fire, NULL);
    event_add(e, &tv);
    event_free(e);
}

/* A persistent event counts its period from the firing before, which is first made here at its `when`: libevent has
 * one duration for both. */
static inline void peer_tick(struct peer *p, uint64_t i, int64_t when, int64_t period) {
    (void)period;
    struct timeval tv = ahead(when);
    event_assign(&p->timers[i], p->base, -1, EV_PERSIST, on_fire, &p->timers[i]);
    event_add(&p->timers[i], &tv);
}

static inline void peer_check(struct peer *p, int64_t now) {
    (void)now;
    event_base_loop(p->base, EVLOOP_NONBLOCK);
}

static void peer_wait(struct peer *p) {
    event_base_loop(p->base, EVLOOP_ONCE);
}

/* ---- W5: a base for each thread, with locks ---- */

struct shared {
    struct event *timers;
    struct event_base **bases;
    uint64_t n;
    int threads;
};

static struct shared *shared_new(uint64_t n, int threads) {
    struct shared *s = bench_alloc(1, sizeof *s);
    s->n = n;
    s->threads = threads;
    s->timers = bench_alloc(n * (uint64_t)threads, sizeof *s->timers);
    s->bases = bench_alloc((uint64_t)threads, sizeof *s->bases);
    return s;
}

static void shared_enter(struct shared *s, int thread) {
    s->bases[thread] = new_base();
    for (uint64_t i = 0; i < s->n; i++) {
        struct event *e = &s->timers[(uint64_t)thread * s->n + i];
        evtimer_assign(e, s->bases[thread], on_fire, e);
    }
}

static inline void shared_rearm(struct shared *s, int thread, uint64_t i, int64_t when) {
    (void)thread;
    struct timeval tv = ahead(when);
    event_add(&s->timers[i], &tv);
}

static void shared_arm(struct shared *s, uint64_t i, int64_t when) {
    shared_rearm(s, 0, i, when);
}

static void shared_leave(struct shared *s, int thread) {
    (void)s, (void)thread;
}

static void shared_free(struct shared *s) {
    for (uint64_t i = 0; i < s->n * (uint64_t)s->threads; i++) event_del(&s->timers[i]);
    for (int t = 0; t < s->threads; t++) event_base_free(s->bases[t]);
    free(s->timers), free(s->bases), free(s);
}

#include "../core/workloads.h"
