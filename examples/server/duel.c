/* duel.c: green threads that set a deadline for a moment away and set it anew just as it passes. Whoever wins,
 * after the second setting the first one must have no effect: a read then finds its byte and never a time-out.
 * This is what the number (seq) of a deadline is for, see netfd.c: without it, some duels are lost. */
#define _GNU_SOURCE
#include "conn.h"

#include <sys/socket.h>
#include <unistd.h>

static _Atomic int over;

static void fight(struct netfd *nf, int other, uint64_t *rng) {
    int64_t now = runtime_now();
    netfd_deadline(nf, NETFD_READ, now + 20 * US + (int64_t)rng_below(rng, 40 * US));
    int64_t until = now + 20 * US + (int64_t)rng_below(rng, 60 * US);
    while (runtime_now() < until) {}
    netfd_deadline(nf, NETFD_READ, rng_next(rng) & 1 ? 0 : now + 3600 * SECOND);
    char byte = 0;
    if (write(other, &byte, 1) != 1) die("a socket pair takes no byte", 0);
    count_up(&tally.duels, 1);
    if (netfd_read(nf, &byte, 1) != 1) count_up(&tally.duels_lost, 1);
}

static void duel(void *arg) {
    uint64_t rng = (uint64_t)(uintptr_t)arg;
    int pair[2];
    struct netfd *nf = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0 ||
        (nf = netfd_open(pair[0])) == NULL)
        die("no socket pair to be had", 0);
    while (!atomic_load(&over)) {
        fight(nf, pair[1], &rng);
        gt_sched_sleep(runtime_sched(), (int64_t)rng_below(&rng, 4 * MS));
    }
    netfd_close(nf);
    close(pair[1]);
}

void duels_start(unsigned n, uint64_t seed) {
    while (n-- > 0)
        if (!green_go(duel, (void *)(uintptr_t)rng_next(&seed))) die("no memory for a duel", 0);
}

void duels_end(void) { atomic_store(&over, 1); }
