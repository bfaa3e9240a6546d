/* green.h: the face of the green-thread runtime: M green threads on N worker threads.
 *
 *   switch.c    switches from one stack to another
 *   stack.c     where the stacks come from
 *   runq.h      a worker's run queue
 *   sched.c     the workers' loop: whose turn is it; park, ready
 *   idle.c      workers with nothing to do: who sleeps where, who wakes whom
 *   poll.c      epoll: how the worker that sleeps in it is woken by sockets, by time and by others
 *   hooks.c     what libgotimer is told about all this (gt_host)
 *   netfd.c     sockets for green threads: reads and writes that park, with deadlines
 *
 * Green threads are cooperative: one runs until it parks, yields or ends. The runtime is one per process. */
#ifndef GREEN_H
#define GREEN_H

#include "gotimer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define US 1000LL
#define MS 1000000LL
#define SECOND 1000000000LL

typedef struct green green;

/* Starts the workers, each with a P of a new sched. Ends the program if that fails. */
gt_sched *runtime_start(unsigned workers, uint64_t seed);

/* What the workers counted. */
struct runtime_counts {
    uint64_t switches, stolen, parked, wakes, polls, breaks, started, ended;
    uint64_t stack_bytes; /* address space of the stacks that were ever needed at once */
};

/* Ends the workers and frees their Ps. No green thread may live. */
void runtime_stop(void);
void runtime_free(void); /* its memory, when the sched has been freed */
struct runtime_counts runtime_counts(void); /* when the workers have stopped */

gt_sched *runtime_sched(void);
int64_t runtime_now(void);

/* Starts a green thread, from any thread, green or not. False: there is no memory for its stack. */
bool green_go(void (*f)(void *), void *arg);

uint64_t green_alive(void);

/* How many green threads the kernel lets us have stacks with guard pages for; SIZE_MAX: as many as memory. */
size_t stack_limit(void);

/* Who is running; NULL: the caller is not a green thread. */
green *green_self(void);

/* Parks the calling green thread. When it has been switched away from, and its stack is no longer in use,
 * commit(arg) is called: 1: it stays parked until green_ready; 0: it goes on at once. It may wake up on
 * another thread. So a function that parks, or calls one that does, must not use what belongs to a thread
 * (errno, thread-local variables) on both sides of it: compilers keep the address. */
void green_park(int (*commit)(void *arg), void *arg);

/* Makes a parked green thread runnable: once for each time that it parked. From any thread. */
void green_ready(green *g);

/* Lets the others go first. */
void green_yield(void);

/* Ends the program with a message; `error`: GT_E…, or 0. */
_Noreturn void die(const char *what, int error);

/* splitmix64 */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* below n, n < 2^32 */
static inline uint64_t rng_below(uint64_t *state, uint64_t n) { return (rng_next(state) >> 32) * n >> 32; }

#endif
