/* floor.c: the floors. F1 is a re-arm with nothing but its memory traffic: one lock-cmpxchg, two plain stores and
 * one release store on one of n lines of 64 bytes. F3 is firing with nothing but sorting: a radix sort of (when,
 * pointer) and a walk in that order with an indirect call through each line; to arm is F1 on each line in turn
 * and writing the pair. */
#include "bench.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { FREE = 1, HELD = 2 };

struct line {
    _Alignas(64) _Atomic uint64_t status;
    int64_t when, period;
    void (*f)(void *, uintptr_t, int64_t);
    void *arg;
};

struct entry {
    int64_t when;
    struct line *line;
};

struct floor {
    uint64_t n;
    struct line *lines;
    struct entry *a, *b;
    struct fired fired;
};

struct floor *floor_new(uint64_t n) {
    struct floor *f = calloc(1, sizeof *f);
    if (f == NULL) die("memory", "out of it");
    f->n = n;
    f->lines = aligned_alloc(64, n * sizeof *f->lines);
    f->a = aligned_alloc(64, (n * sizeof *f->a + 63) & ~(size_t)63);
    f->b = aligned_alloc(64, (n * sizeof *f->b + 63) & ~(size_t)63);
    if (f->lines == NULL || f->a == NULL || f->b == NULL) die("memory", "out of it");
    for (uint64_t i = 0; i < n; i++) {
        f->lines[i] = (struct line){.status = FREE, .f = on_fire, .arg = &f->fired};
        f->a[i] = f->b[i] = (struct entry){0};
    }
    return f;
}

void floor_free(struct floor *f) {
    free(f->lines), free(f->a), free(f->b), free(f);
}

static inline void rearm(struct line *l, int64_t when) {
    uint64_t expected = FREE;
    if (!atomic_compare_exchange_strong_explicit(&l->status, &expected, HELD, memory_order_acquire, memory_order_relaxed))
        die("floor", "a line is held");
    l->when = when;
    l->period = 0;
    atomic_store_explicit(&l->status, FREE, memory_order_release);
}

double floor_rearm(struct floor *f, uint64_t ops, int64_t *now, int64_t step, uint64_t seed) {
    double begin = ns_now();
    int64_t t = *now;
    for (uint64_t i = 0; i < ops; i++, t += step) {
        struct line *l = &f->lines[rng_below(&seed, f->n)];
        rearm(l, rng_when(&seed, t));
    }
    *now = t;
    return ns_now() - begin;
}

/* Least significant digit first, by the digits in which the keys differ at all; the result is in a or b. */
static struct entry *radix_sort(struct entry *a, struct entry *b, uint64_t n, int64_t base) {
    const unsigned bits = n > 100000 ? 11 : 8;
    const uint64_t size = 1u << bits, mask = size - 1;
    static uint32_t counts[8][2048];
    unsigned passes = (37 + bits - 1) / bits; /* 70 s are less than 2^37 ns */
    memset(counts, 0, sizeof counts);
    for (uint64_t i = 0; i < n; i++)
        for (unsigned p = 0; p < passes; p++) counts[p][(uint64_t)(a[i].when - base) >> p * bits & mask]++;
    for (unsigned p = 0; p < passes; p++) {
        uint32_t at = 0;
        for (uint64_t d = 0; d < size; d++) {
            uint32_t c = counts[p][d];
            counts[p][d] = at;
            at += c;
        }
        for (uint64_t i = 0; i < n; i++) b[counts[p][(uint64_t)(a[i].when - base) >> p * bits & mask]++] = a[i];
        struct entry *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

struct w3 floor_fire(struct floor *f, uint64_t rounds, uint64_t seed) {
    struct w3 sum = {0, 0};
    for (uint64_t r = 0; r < rounds; r++) {
        double t0 = ns_now();
        for (uint64_t i = 0; i < f->n; i++) {
            int64_t when = rng_when(&seed, BASE);
            rearm(&f->lines[i], when);
            f->a[i] = (struct entry){when, &f->lines[i]};
        }
        double t1 = ns_now();
        const int64_t now = BASE + 100 * SECOND;
        f->fired = (struct fired){.last_delay = INT64_MAX};
        struct entry *sorted = radix_sort(f->a, f->b, f->n, BASE);
        for (uint64_t i = 0; i < f->n; i++) {
            struct line *l = sorted[i].line;
            l->f(l->arg, 0, now - sorted[i].when);
        }
        double t2 = ns_now();
        if (f->fired.count != f->n || f->fired.disorder != 0) die("floor", "the sort is wrong");
        sum.arm += t1 - t0;
        sum.fire += t2 - t1;
    }
    return sum;
}
