/* stack.c: where the stacks come from. They are mapped 64 at a time and never given back: a green thread that
 * ends leaves its stack to the next one. At the top of each stands its struct green, so that a parked green
 * thread costs one or two pages; at the bottom lies a guard page, so that one that needs too much stack ends
 * with a signal and not in its neighbour's.
 *
 * A page that is protected by mprotect splits its mapping in two, and a process may have only 65530 of them
 * (vm.max_map_count). Since Linux 6.13 madvise can mark a page as a guard without that. */
#define _GNU_SOURCE
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#ifdef __SANITIZE_ADDRESS__
#define USABLE (60u << 10) /* frames are larger */
#else
#define USABLE (28u << 10)
#endif
#define CHUNK 64u
#define KEPT_BY_WORKER 64u /* stacks for the next ones, without the lock */

static struct {
    pthread_mutex_t lock;
    green *free;
    char *fresh; /* of the last chunk */
    unsigned nfresh;
    size_t page, stride; /* of the guard; of guard and stack */
    size_t nstacks; /* so many were ever mapped */
    char **chunks;
    size_t nchunks, room;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool guard(void *page, size_t size) {
    return madvise(page, size, MADV_GUARD_INSTALL) == 0 || mprotect(page, size, PROT_NONE) == 0;
}

static bool map_chunk(void) {
    if (pool.stride == 0) {
        pool.page = (size_t)sysconf(_SC_PAGESIZE);
        pool.stride = pool.page + (USABLE + pool.page - 1) / pool.page * pool.page;
    }
    if (pool.nchunks == pool.room) {
        size_t room = pool.room == 0 ? 64 : 2 * pool.room;
        char **more = realloc(pool.chunks, room * sizeof *more);
        if (more == NULL) return false;
        pool.chunks = more, pool.room = room;
    }
    /* Not reserved: few will ever need more than the first pages of it. */
    char *low = mmap(NULL, CHUNK * pool.stride, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED) return false;
    madvise(low, CHUNK * pool.stride, MADV_NOHUGEPAGE); /* one huge page would make all of them resident */
    for (unsigned i = 0; i < CHUNK; i++) {
        if (!guard(low + i * pool.stride, pool.page)) {
            munmap(low, CHUNK * pool.stride);
            return false;
        }
    }
    pool.chunks[pool.nchunks++] = low;
    pool.fresh = low, pool.nfresh = CHUNK;
    pool.nstacks += CHUNK;
    return true;
}

/* The struct green of a stack. Not at the same place of every page: caches have few places for one address. */
static green *dress(char *low, unsigned nth) {
    size_t room = (sizeof(green) + 63) / 64 * 64;
    green *g = (green *)(low + pool.stride - room - nth % 8 * 64);
    *g = (green){.low = low + pool.page, .state = GREEN_FREE};
    return g;
}

green *stack_get(struct worker *w) {
    green *g = NULL;
    if (w != NULL && w->free != NULL) {
        g = w->free;
        w->free = g->next, w->nfree--;
        return g;
    }
    pthread_mutex_lock(&pool.lock);
    if (pool.free != NULL) {
        g = pool.free;
        pool.free = g->next;
    } else if (pool.nfresh > 0 || map_chunk()) {
        pool.nfresh--;
        g = dress(pool.fresh, pool.nfresh);
        pool.fresh += pool.stride;
    }
    pthread_mutex_unlock(&pool.lock);
    return g;
}

void stack_put(struct worker *w, green *g) {
    if (w->nfree < KEPT_BY_WORKER) {
        g->next = w->free;
        w->free = g, w->nfree++;
        return;
    }
    pthread_mutex_lock(&pool.lock);
    g->next = pool.free;
    pool.free = g;
    pthread_mutex_unlock(&pool.lock);
}

size_t stack_bytes(void) { return pool.nstacks * pool.stride; }

void stack_end(void) {
    for (size_t i = 0; i < pool.nchunks; i++) munmap(pool.chunks[i], CHUNK * pool.stride);
    free(pool.chunks);
    pool.chunks = NULL, pool.nchunks = pool.room = 0, pool.free = NULL, pool.nfresh = 0;
}

size_t stack_limit(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), mappings = 65530;
    void *probe = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool cheap = probe != MAP_FAILED && madvise(probe, page, MADV_GUARD_INSTALL) == 0;
    if (probe != MAP_FAILED) munmap(probe, page);
    if (cheap) return SIZE_MAX;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
    if (f != NULL) {
        if (fscanf(f, "%zu", &mappings) != 1) mappings = 65530;
        fclose(f);
    }
    return mappings > 4096 ? (mappings - 4096) / 2 : 0;
}
