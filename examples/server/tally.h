/* tally.h: what both sides write down: the server (conn.c, sleepers.c) in `tally`, the load generator (load.c)
 * in memory that it shares with the server's process. The report compares the two. */
#ifndef TALLY_H
#define TALLY_H

#include "hist.h"

/* Kinds of time-outs. */
enum { READ_TIMEOUT, IDLE_TIMEOUT, WRITE_TIMEOUT, TIMEOUTS };

/* The server's own record. */
struct tally {
    _Atomic uint64_t accepted, closed;
    _Atomic uint64_t served, refused;    /* answers 200; other answers */
    _Atomic uint64_t bytes;              /* of bodies sent back */
    _Atomic uint64_t fired[TIMEOUTS];    /* connections closed by a deadline */
    struct hist late[TIMEOUTS];          /* from the deadline to the green thread that acts on it */
    _Atomic uint64_t early;              /* a deadline or a sleep that ended before its time. Never */
    _Atomic uint64_t sleeps_begun, sleeps_ended, sleepers_begun, sleepers_ended;
    struct hist late_sleeps, late_alarms;
    _Atomic uint64_t duels, duels_lost;
    _Atomic uint64_t no_memory;          /* connections or sleepers for which there was no stack */
};
extern struct tally tally;

static inline void count_up(_Atomic uint64_t *n, uint64_t by) {
    atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

#endif
