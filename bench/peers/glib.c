/* glib.c: GLib in the workloads: a GSource with a ready time for each timer, g_main_context_iteration as the check,
 * which looks at every source. Times are in microseconds, rounded up. Each change writes to an eventfd, to wake the
 * loop, also from the thread that runs it. */
#include "../core/common.h"

#include <glib.h>

#define PEER_NAME "GLib"
#define PEER_VERSION version()
#define PEER_ORDER "not in order, 1 us"
#define PEER_NOTES "\"W7\": \"its wait rounds to 1 ms\", " \
                   "\"W1\": \"each change is a system call\", \"W1roll\": \"a check looks at every timer\", " \
                   "\"pause\": \"each check, as long as there are timers\""
#define PEER_NO_PAUSE /* each check is one: it looks at every timer */
#define PEER_TICKERS
#define PEER_FRESH
#define PEER_SHARED
#define PEER_REAL

struct timer {
    GSource source;
    struct peer *peer;
    uint64_t number;
    int64_t when_us, period_us;
};

struct peer {
    GMainContext *context;
    struct timer **timers;
    uint64_t n;
    struct fired fired;
};

static const char *version(void) {
    static char text[40];
    snprintf(text, sizeof text, "%u.%u.%u", glib_major_version, glib_minor_version, glib_micro_version);
    return text;
}

static gboolean dispatch(GSource *source, GSourceFunc f, gpointer arg) {
    (void)f, (void)arg;
    struct timer *t = (struct timer *)source;
    int64_t was = t->when_us;
    if (t->period_us == 0) {
        g_source_set_ready_time(source, -1);
    } else {
        t->when_us += t->period_us;
        g_source_set_ready_time(source, t->when_us);
    }
    fired_at(&t->peer->fired, t->number, was);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs funcs = {.dispatch = dispatch};

static struct timer *new_timer(struct peer *p, GMainContext *context, uint64_t number) {
    struct timer *t = (struct timer *)g_source_new(&funcs, sizeof *t);
    t->peer = p;
    t->number = number;
    g_source_attach(&t->source, context);
    return t;
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = bench_alloc(1, sizeof *p);
    p->n = n;
    p->context = g_main_context_new();
    p->timers = bench_handles(n, sizeof *p->timers);
    for (uint64_t i = 0; i < n; i++) p->timers[i] = new_timer(p, p->context, i);
    return p;
}

static void free_timer(struct timer *t) {
    g_source_destroy(&t->source);
    g_source_unref(&t->source);
}

static void peer_free(struct peer *p) {
    for (uint64_t i = 0; i < p->n; i++) free_timer(p->timers[i]);
    g_main_context_unref(p->context);
    free(p->timers), free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

static inline void set(struct timer *t, int64_t when) {
    t->when_us = (when + 999) / 1000;
    g_source_set_ready_time(&t->source, t->when_us);
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    set(p->timers[i], when);
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    set(p->timers[i], when);
}

static inline void peer_stop(struct peer *p, uint64_t i) {
    g_source_set_ready_time(&p->timers[i]->source, -1);
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    struct timer *t = new_timer(p, p->context, 0);
    set(t, when);
    free_timer(t);
}

static inline void peer_tick(struct peer *p, uint64_t i, int64_t when, int64_t period) {
    p->timers[i]->period_us = (period + 999) / 1000;
    set(p->timers[i], when);
}

static inline void peer_check(struct peer *p, int64_t now) {
    (void)now;
    g_main_context_iteration(p->context, FALSE);
}

static void peer_wait(struct peer *p) {
    g_main_context_iteration(p->context, TRUE);
}

/* ---- W5: a context for each thread ---- */

struct shared {
    struct timer **timers;
    GMainContext **contexts;
    uint64_t n;
    int threads;
};

static struct shared *shared_new(uint64_t n, int threads) {
    struct shared *s = bench_alloc(1, sizeof *s);
    s->n = n;
    s->threads = threads;
    s->timers = bench_handles(n * (uint64_t)threads, sizeof *s->timers);
    s->contexts = bench_alloc((uint64_t)threads, sizeof *s->contexts);
    return s;
}

static void shared_enter(struct shared *s, int thread) {
    s->contexts[thread] = g_main_context_new();
    for (uint64_t i = 0; i < s->n; i++) s->timers[(uint64_t)thread * s->n + i] = new_timer(NULL, s->contexts[thread], i);
}

static inline void shared_rearm(struct shared *s, int thread, uint64_t i, int64_t when) {
    (void)thread;
    g_source_set_ready_time(&s->timers[i]->source, (when + 999) / 1000);
}

static void shared_arm(struct shared *s, uint64_t i, int64_t when) {
    shared_rearm(s, 0, i, when);
}

static void shared_leave(struct shared *s, int thread) {
    (void)s, (void)thread;
}

static void shared_free(struct shared *s) {
    for (uint64_t i = 0; i < s->n * (uint64_t)s->threads; i++) free_timer(s->timers[i]);
    for (int t = 0; t < s->threads; t++) g_main_context_unref(s->contexts[t]);
    free(s->timers), free(s->contexts), free(s);
}

#include "../core/workloads.h"
