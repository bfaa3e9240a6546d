/* Tools of the counterparts of Go's own timer tests (gotest_*.c); docs/go-tests.md lists Go's
 * tests and ours. A test is named gotest_ and Go's name in snake_case; where Go runs one test
 * over several ways to make a timer, or where the virtual clock proves exactly what the real
 * one can only bound, a suffix is added.
 *
 * On the real clock these tests ask only for what holds on any machine at any load: nothing is
 * early, nothing is lost, order, and limits of a minute. */
#ifndef CTESTS_GOTEST_H
#define CTESTS_GOTEST_H

#include "rtkit.h"

#define HOUR (3600 * SEC)
#define BIG INT64_MAX                                     /* the longest duration */
#define LIMIT long_wait()                                 /* "for ever" of a test */

/* How often a loop of n rounds runs: less often where all is slower (valgrind, sanitizers). */
int rounds(int n);

/* ---- the built-in runtime ---- */

int64_t rt_now(void);

/* ---- timers of both kinds behind one interface ---- */

/* A channel timer, or what Go's tests make of AfterFunc: a timer whose function puts the time
 * into a channel of one place. One test then runs over both paths of the library. */
enum impl { IMPL_CHAN, IMPL_FUNC, IMPLS };

struct any {
    enum impl impl;
    gt_sched *s;
    gt_timer *t;
    /* IMPL_FUNC: the channel */
    pthread_mutex_t mu;
    pthread_cond_t cv;
    int full;
    int64_t when;
};

/* s: NULL for the runtime's. An any stays where it is until any_free. */
void any_new(struct any *a, enum impl impl, gt_sched *s, int64_t d);
void any_free(struct any *a);
int any_stop(struct any *a);
int any_reset(struct any *a, int64_t d);
/* Waits for the value (not on a virtual clock, which nobody moves meanwhile) and returns when
 * the timer should have fired. */
int64_t any_recv(struct any *a);
/* 1: there was a value, and *when says when it should have fired (may be NULL). */
int any_try_recv(struct any *a, int64_t *when);

/* A function timer on the runtime, without an argument to drop. */
gt_timer *rt_after_func(int64_t d, gt_func f, void *arg);

/* ---- threads ---- */

/* A channel of one place without a value, as Go's tests use for "done". */
struct done {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    int n;
};
#define DONE_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}
void done_send(struct done *d);
void done_recv(struct done *d);          /* fails the test after LIMIT */

/* n threads that run fn with &args[i * size]; all are waited for. */
void run_threads(int n, void *(*fn)(void *), void *args, size_t size);

/* Waits until one of n descriptors is readable; fails the test after LIMIT. Returns a mask of those
 * that are. */
unsigned wait_readable(const int *fds, int n);

/* A thread that makes life harder, as the garbage collector does in Go's tests: it makes, arms,
 * stops and frees timers of the runtime and sleeps for a nanosecond now and then. */
struct churn {
    pthread_t thread;
    atomic_int stop;
};
void churn_start(struct churn *c);
void churn_stop(struct churn *c);

/* A thread that sends SIGIO to every other thread of the process, again and again. The handler
 * does nothing and does not restart system calls. */
struct pest {
    pthread_t thread;
    atomic_int stop;
    atomic_long sent;
};
void pest_start(struct pest *p, int64_t every);
void pest_stop(struct pest *p);

/* ---- bubbles, as testing/synctest has them ---- */

/* A thread of the bubble of s. bubble_go returns when it has joined, so that it counts from the
 * caller's next step on. It leaves the bubble when fn returns. */
struct bubble_thread {
    gt_sched *s;
    void (*fn)(void *arg);
    void *arg;
    pthread_t thread;
    atomic_int joined, ended;
};
void bubble_go(struct bubble_thread *b, gt_sched *s, void (*fn)(void *), void *arg);
void bubble_end(struct bubble_thread *b);        /* waits for its end; not inside the bubble */

/* Runs fn(s) on this thread as the only one of the bubble of a new sched with a virtual clock,
 * then checks conservation and frees the sched. fn ends the threads it started with
 * bubble_end_later. */
void bubble_run(void (*fn)(gt_sched *s));
/* The thread is waited for when bubble_run's thread has left the bubble. b is malloc'ed. */
struct bubble_thread *bubble_spawn(gt_sched *s, void (*fn)(void *), void *arg);

#endif
