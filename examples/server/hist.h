/* hist.h: histograms of durations: eight buckets for each power of two, and the exact least and most. Any
 * thread may add; all zero is an empty one. */
#ifndef HIST_H
#define HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define HIST_BUCKETS (62u * 8)

struct hist {
    _Atomic uint64_t n[HIST_BUCKETS];
    _Atomic int64_t max;
    _Atomic int64_t least; /* INT64_MAX - min, so that 0 means nothing yet */
};

static inline unsigned hist_bucket(int64_t ns) {
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    if (v < 8) return (unsigned)v;
    unsigned power = 63 - (unsigned)__builtin_clzll(v);
    return (power - 2) * 8 + (unsigned)(v >> (power - 3) & 7);
}

/* The smallest duration of a bucket. */
static inline int64_t hist_bound(unsigned bucket) {
    if (bucket < 8) return bucket;
    return (int64_t)(8 + bucket % 8) << (bucket / 8 - 1);
}

static inline void hist_raise(_Atomic int64_t *to, int64_t v) {
    int64_t old = atomic_load_explicit(to, memory_order_relaxed);
    while (old < v &&
           !atomic_compare_exchange_weak_explicit(to, &old, v, memory_order_relaxed, memory_order_relaxed)) {}
}

static inline void hist_add(struct hist *h, int64_t ns) {
    atomic_fetch_add_explicit(&h->n[hist_bucket(ns)], 1, memory_order_relaxed);
    hist_raise(&h->max, ns);
    hist_raise(&h->least, INT64_MAX - (ns > 0 ? ns : 0)); /* what is below 0 is counted by those who add */
}

static inline uint64_t hist_count(const struct hist *h) {
    uint64_t n = 0;
    for (unsigned b = 0; b < HIST_BUCKETS; b++) n += atomic_load_explicit(&h->n[b], memory_order_relaxed);
    return n;
}

static inline int64_t hist_min(const struct hist *h) {
    int64_t least = atomic_load(&h->least);
    return least == 0 ? 0 : INT64_MAX - least;
}

/* The lower bound of the bucket that the quantile falls into, but not below the least value. */
static inline int64_t hist_quantile(const struct hist *h, double q) {
    uint64_t rank = (uint64_t)(q * (double)hist_count(h)), seen = 0;
    for (unsigned b = 0; b < HIST_BUCKETS; b++) {
        seen += atomic_load_explicit(&h->n[b], memory_order_relaxed);
        if (seen > rank) return hist_bound(b) > hist_min(h) ? hist_bound(b) : hist_min(h);
    }
    return atomic_load(&h->max);
}

#endif
