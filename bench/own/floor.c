/* floor.c: the floors: what the same memory traffic costs without any timer logic. They draw the same random
 * numbers as the workloads.
 *
 *   F1  a re-arm: one lock-cmpxchg, two plain stores and one release store on a random one of n lines of 64 bytes.
 *       The floor of W1, W1roll, W2 and W2new.
 *   F3  a firing: a radix sort of (when, pointer), and a walk in that order with an indirect call through each line.
 *       The floor of W3; to arm is F1 on each line in turn and writing the pair: W3both.
 *   F5  F1 by several threads on each other's lines. F6: on lines of their own. */
#include "../core/common.h"

#include <stdatomic.h>

#define PEER_NAME "floor"
#define PEER_VERSION "1"
#define PEER_ORDER "exact"
#define PEER_NOTES ""
#define PEER_FRESH
#define PEER_SHARED
#define PEER_NO_PAUSE

enum { FREE = 1, HELD = 2 };

struct line {
    _Alignas(64) _Atomic uint64_t status;
    int64_t when, period;
    void (*f)(void *, uint64_t i, int64_t when);
    void *arg;
};

struct entry {
    int64_t when;
    struct line *line;
};

struct peer {
    struct line *lines;
    struct entry *a, *b; /* what is armed, by number, and room to sort */
    uint64_t n;
    uint32_t (*counts)[2048];
    struct fired fired;
};

static void on_fire(void *arg, uint64_t i, int64_t when) {
    struct peer *p = arg;
    fired_at(&p->fired, i, when);
}

static struct line *new_lines(uint64_t n, void *arg) {
    struct line *lines = bench_alloc(n, sizeof *lines);
    for (uint64_t i = 0; i < n; i++) {
        atomic_init(&lines[i].status, FREE);
        lines[i].f = on_fire;
        lines[i].arg = arg;
    }
    return lines;
}

static struct peer *peer_new(uint64_t n) {
    struct peer *p = bench_alloc(1, sizeof *p);
    p->n = n;
    p->lines = new_lines(n, p);
    p->a = bench_alloc(n, sizeof *p->a);
    p->b = bench_alloc(n, sizeof *p->b);
    p->counts = bench_alloc(8, sizeof *p->counts);
    return p;
}

static void peer_free(struct peer *p) {
    free(p->lines), free(p->a), free(p->b), free(p->counts), free(p);
}

static struct fired *peer_fired(struct peer *p) {
    return &p->fired;
}

static inline void f1(struct line *l, int64_t when) {
    uint64_t expected = FREE;
    while (!atomic_compare_exchange_weak_explicit(&l->status, &expected, HELD, memory_order_acquire, memory_order_relaxed))
        expected = FREE;
    l->when = when;
    l->period = 0;
    atomic_store_explicit(&l->status, FREE, memory_order_release);
}

static inline void peer_rearm(struct peer *p, uint64_t i, int64_t when) {
    f1(&p->lines[i], when);
}

static inline void peer_arm(struct peer *p, uint64_t i, int64_t when) {
    f1(&p->lines[i], when);
    p->a[i] = (struct entry){when, &p->lines[i]};
}

/* The floor of W2 is one F1, on a line that is there anyhow. */
static inline void peer_stop(struct peer *p, uint64_t i) {
    (void)p, (void)i;
}

static inline void peer_fresh(struct peer *p, int64_t when) {
    f1(&p->lines[p->n - 1], when);
}

/* Least significant digit first; the keys are below `base` by less than 2^37 ns. The result is in a or b. */
static struct entry *radix_sort(struct peer *p, int64_t base) {
    const unsigned bits = p->n > 100000 ? 11 : 8, passes = (37 + bits - 1) / bits;
    const uint64_t size = 1u << bits, mask = size - 1;
    struct entry *a = p->a, *b = p->b;
    memset(p->counts, 0, 8 * sizeof *p->counts);
    for (uint64_t i = 0; i < p->n; i++)
        for (unsigned d = 0; d < passes; d++) p->counts[d][(uint64_t)(a[i].when - base) >> d * bits & mask]++;
    for (unsigned d = 0; d < passes; d++) {
        uint32_t at = 0;
        for (uint64_t k = 0; k < size; k++) {
            uint32_t c = p->counts[d][k];
            p->counts[d][k] = at;
            at += c;
        }
        for (uint64_t i = 0; i < p->n; i++) b[p->counts[d][(uint64_t)(a[i].when - base) >> d * bits & mask]++] = a[i];
        struct entry *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

/* W3 has moved the clock on by 100 s: then all are due, else none is (they are 10 s ahead at least, and W1roll and W2
 * re-arm what they use). */
static inline void peer_check(struct peer *p, int64_t now) {
    if (now % (100 * SECOND) != 0 || now == BASE || p->a[0].line == NULL) return;
    struct entry *sorted = radix_sort(p, now - 100 * SECOND);
    for (uint64_t i = 0; i < p->n; i++) {
        struct line *l = sorted[i].line;
        l->f(l->arg, i, sorted[i].when);
    }
}

/* ---- F5 ---- */

struct shared {
    struct line *lines;
};

static struct shared *shared_new(uint64_t n, int threads) {
    struct shared *s = bench_alloc(1, sizeof *s);
    s->lines = new_lines(n * (uint64_t)threads, s);
    return s;
}

static void shared_enter(struct shared *s, int thread) {
    (void)s, (void)thread;
}

static void shared_leave(struct shared *s, int thread) {
    (void)s, (void)thread;
}

static void shared_arm(struct shared *s, uint64_t i, int64_t when) {
    f1(&s->lines[i], when);
}

static inline void shared_rearm(struct shared *s, int thread, uint64_t i, int64_t when) {
    (void)thread;
    f1(&s->lines[i], when);
}

static void shared_free(struct shared *s) {
    free(s->lines);
    free(s);
}

#include "../core/workloads.h"
