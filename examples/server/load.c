/* load.c: the threads of the load generator: each has an epoll, its part of the connections, and a wheel of
 * milliseconds for their pauses. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 4096

int64_t load_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); /* the clock that the server's deadlines go by, too */
    return t.tv_sec * SECOND + t.tv_nsec;
}

bool load_is_over(const struct load_thread *t) { return load_now() >= t->end; }

void load_bad(struct load_result *r, _Atomic uint64_t *counter, const char *format, ...) {
    count_up(counter, 1);
    if (atomic_exchange(&r->has_first, 1)) return;
    va_list args;
    va_start(args, format);
    vsnprintf(r->first_bad, sizeof r->first_bad, format, args);
    va_end(args);
}

void load_watch(struct peer *p, uint32_t events, bool is_new) {
    struct epoll_event e = {.events = events, .data.ptr = p};
    if (epoll_ctl(p->of->epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, p->fd, &e) != 0)
        load_bad(p->of->result, &p->of->result->failures, "epoll_ctl: %s", strerror(errno));
}

/* ---- pauses ---- */

void load_unpause(struct peer *p) {
    if (p->prev == NULL) return;
    *p->prev = p->next;
    if (p->next != NULL) p->next->prev = p->prev;
    p->prev = NULL, p->next = NULL;
    p->of->in_wheel--;
}

void load_pause(struct peer *p, int64_t ns) {
    int64_t ms = ns / MS + 1;
    if (ms > SLOTS - 2) ms = SLOTS - 2;
    load_unpause(p);
    struct peer **slot = &p->of->wheel[(load_now() / MS + ms) % SLOTS];
    p->next = *slot;
    if (p->next != NULL) p->next->prev = &p->next;
    p->prev = slot;
    *slot = p;
    p->of->in_wheel++;
}

static void turn_wheel(struct load_thread *t) {
    int64_t now = load_now() / MS;
    if (now - t->wheel_at > SLOTS) t->wheel_at = now - SLOTS;
    while (t->wheel_at < now) {
        struct peer **slot = &t->wheel[++t->wheel_at % SLOTS];
        for (struct peer *p; (p = *slot) != NULL;) {
            load_unpause(p);
            peer_wakes(p); /* pauses again in another slot */
        }
    }
}

/* ---- threads ---- */

#define PATIENCE (30 * SECOND)

static void talk(struct load_thread *t, struct peer *peers, uint64_t n) {
    struct epoll_event events[256];
    int64_t spread = t->plan->duration / 10 < SECOND ? t->plan->duration / 10 : SECOND;
    for (uint64_t i = 0; i < n; i++) { /* not all at once */
        t->open++;
        load_pause(&peers[i], (int64_t)rng_below(&t->rng, (uint64_t)spread + 1));
    }
    for (int64_t last = load_now(); t->open > 0;) {
        int got = epoll_wait(t->epoll_fd, events, 256, t->in_wheel > 0 ? 1 : 100);
        if (got < 0 && errno != EINTR) break;
        int64_t now = load_now();
        if (got > 0 || now < t->end) last = now;
        if (now - last > PATIENCE) break;
        for (int i = 0; i < got; i++) {
            struct peer *p = events[i].data.ptr;
            if (p->fd < 0) continue; /* it has closed while this event waited here */
            peer_event(p, events[i].events);
        }
        turn_wheel(t);
    }
    count_up(&t->result->stuck, t->open);
}

static void *run_thread(void *arg) {
    struct load_thread *t = arg;
    uint64_t n = 0;
    for (int k = 0; k < KINDS; k++) n += t->peers[k];
    struct peer *peers = calloc(n + 1, sizeof *peers);
    t->scratch = malloc(SCRATCH);
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (peers == NULL || t->scratch == NULL || t->epoll_fd < 0) {
        load_bad(t->result, &t->result->failures, "a thread of the load generator has no memory or no epoll");
        return NULL;
    }
    uint64_t i = 0;
    for (int k = 0; k < KINDS; k++) {
        for (unsigned j = 0; j < t->peers[k]; j++, i++)
            peers[i] = (struct peer){.of = t, .fd = -1, .kind = (uint8_t)k, .state = P_OUTSIDE,
                                     .variant = (uint8_t)(j % (k == WRONG ? request_cases() : 4)),
                                     .rng = rng_next(&t->rng)};
    }
    talk(t, peers, n);
    free(peers), free(t->scratch), close(t->epoll_fd);
    return NULL;
}

void load_run(const struct load_plan *plan, struct load_result *result) {
    struct load_thread *threads = calloc(plan->threads, sizeof *threads);
    pthread_t *ids = calloc(plan->threads, sizeof *ids);
    uint64_t seed = plan->seed;
    if (threads == NULL || ids == NULL) abort();
    request_init(rng_next(&seed));
    int64_t begin = load_now();
    for (unsigned i = 0; i < plan->threads; i++) {
        threads[i] = (struct load_thread){.plan = plan, .result = result, .rng = rng_next(&seed),
                                          .end = begin + plan->duration, .wheel_at = begin / MS};
        for (int k = 0; k < KINDS; k++)
            threads[i].peers[k] = plan->peers[k] * (i + 1) / plan->threads - plan->peers[k] * i / plan->threads;
        if (pthread_create(&ids[i], NULL, run_thread, &threads[i]) != 0) abort();
    }
    for (unsigned i = 0; i < plan->threads; i++) pthread_join(ids[i], NULL);
    free(threads), free(ids);
}
