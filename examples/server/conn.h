/* conn.h: what runs on the green threads: the HTTP echo server (conn.c), sleepers (sleepers.c), duels
 * (duel.c); and alarms (alarms.c). */
#ifndef CONN_H
#define CONN_H

#include "green.h"
#include "netfd.h"
#include "tally.h"

/* Durations, in nanoseconds. */
struct limits {
    int64_t timeout[TIMEOUTS];
};

/* A listening socket on a free port of 127.0.0.1, or the end of the program. */
int server_listen(uint16_t *port);

/* Accepts on it and serves, on green threads, until server_end; then accepts no more, and the connections end
 * when their peers or their deadlines end them. */
void server_start(int listener, struct limits limits);
void server_end(void);

/* `n` green threads that sleep `times` times each, for random times up to `most`, one after the other. */
void sleepers_start(uint64_t n, unsigned times, int64_t most, uint64_t seed);

/* `n` green threads that set deadlines anew just as they pass, until duels_end. */
void duels_start(unsigned n, uint64_t seed);
void duels_end(void);

/* What the process took in some time in which there was nothing to do. */
struct rest {
    int64_t length, processor;
    long switches;
};

/* Timers armed by the calling thread, which is no worker, one after the other. False: one did not fire. */
bool alarms_ring(unsigned n, uint64_t seed, struct rest *at_rest);

#endif
