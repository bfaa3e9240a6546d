/* runq.h: a worker's run queue: a ring of 256. Its owner puts green threads in at the tail and takes them out
 * at the head; other workers steal half of it from the head. Go's runq has the same shape.
 *
 * `tail` is written by the owner alone. `head` moves by compare-and-swap, by whoever takes something out: who
 * loses has read slots that were not his and forgets them. A slot is overwritten only when head has passed it. */
#ifndef RUNQ_H
#define RUNQ_H

#include "green.h"

#include <stdatomic.h>

#define RUNQ_SIZE 256u

struct runq {
    _Alignas(64) _Atomic uint32_t head;
    _Alignas(64) _Atomic uint32_t tail;
    _Atomic(green *) slot[RUNQ_SIZE];
};

/* Anyone: how many there are, at some moment. */
static inline uint32_t runq_length(struct runq *q) {
    uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);
    uint32_t n = atomic_load_explicit(&q->tail, memory_order_acquire) - head;
    return n > RUNQ_SIZE ? RUNQ_SIZE : n; /* head was old by the time tail was read */
}

/* Owner. False: it is full. */
static inline bool runq_push(struct runq *q, green *g) {
    uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    /* Acquire: who moved head has read the slots that it passed. */
    if (tail - atomic_load_explicit(&q->head, memory_order_acquire) >= RUNQ_SIZE) return false;
    atomic_store_explicit(&q->slot[tail % RUNQ_SIZE], g, memory_order_relaxed);
    /* Release: who sees the new tail sees the slot, and what the green thread did before. */
    atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
    return true;
}

/* Owner. NULL: it is empty. */
static inline green *runq_pop(struct runq *q) {
    uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);
    while (head != tail) {
        green *g = atomic_load_explicit(&q->slot[head % RUNQ_SIZE], memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&q->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return g;
    }
    return NULL;
}

/* Anyone: takes half of what is there, at least one. Returns how many. */
static inline uint32_t runq_steal(struct runq *q, green *out[RUNQ_SIZE / 2]) {
    for (;;) {
        uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);
        uint32_t n = atomic_load_explicit(&q->tail, memory_order_acquire) - head;
        n -= n / 2;
        if (n == 0) return 0;
        if (n > RUNQ_SIZE / 2) continue; /* head and tail were not read at one moment */
        for (uint32_t i = 0; i < n; i++)
            out[i] = atomic_load_explicit(&q->slot[(head + i) % RUNQ_SIZE], memory_order_relaxed);
        if (atomic_compare_exchange_strong_explicit(&q->head, &head, head + n, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return n;
    }
}

#endif
