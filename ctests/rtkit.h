/* Tools of the tests of the runtime, of package time and of netpoll (time_*.c, rt_*.c,
 * netpoll_*.c, slack.c, sleep_park.c): the runtime in one line, a thread that receives or
 * sleeps and can be asked whether it is blocked, and counts of what the process holds. */
#ifndef CTESTS_RTKIT_H
#define CTESTS_RTKIT_H

#include "rules.h"

/* gt_runtime_start with this many workers and defaults for the rest, checked. Returns the
 * runtime's sched. */
gt_sched *rt_start(uint32_t workers);

/* gt_runtime_stop, checked. After it no callback is under way, so the counters are exact. */
void rt_stop(void);

/* rt_stop and check_conserved. */
void rt_stop_conserved(void);

/* Stops the test with what gt_last_error says when t is NULL. */
gt_timer *must(gt_timer *t);

/* 1 if fd is readable now; 1 if it gets readable within ms milliseconds. */
int readable(int fd);
int readable_within(int fd, int ms);

/* A limit for waits that must end, but may be slow: a minute times GT_TEST_SLOW. */
int64_t long_wait(void);

/* Waits until *value is at least n, as wait_for. */
void wait_for_long(atomic_long *value, long n);

/* Works off the P p on a thread of its own, as the book says: pass, sleep, pass. */
struct p_loop {
    gt_p *p;
    pthread_t thread;
    atomic_int stop;
};
void p_loop_start(struct p_loop *l, gt_p *p);
void p_loop_stop(struct p_loop *l);

/* A thread that calls something that blocks, once. */
struct waiter {
    int (*call)(struct waiter *w);
    gt_timer *t;              /* for receiver_start */
    gt_sched *s;              /* for sleeper_start */
    void *arg;
    int64_t d;
    pthread_t thread;
    atomic_int tid, done;
    int result;
    int64_t sent;             /* of gt_timer_recv */
    int64_t order;            /* the how-manieth of all waiters that came back, from 1 */
};
void waiter_start(struct waiter *w, int (*call)(struct waiter *w));
void receiver_start(struct waiter *w, gt_timer *t);
void sleeper_start(struct waiter *w, gt_sched *s, int64_t d);

/* Waits until the thread is blocked: 1. It came back: 0. */
int waiter_blocked(struct waiter *w);

/* Waits for the thread's end; returns its result. */
int waiter_join(struct waiter *w);

/* 0 under ThreadSanitizer, which has a thread of its own, and whose fork children may not start
 * threads. A test that depends on that altogether calls needs_own_threads first, and is not run
 * then; the other builds run it. */
int threads_are_ours(void);
void needs_own_threads(void);

/* Called before a fork whose child uses malloc: an allocator that does not take care of fork, as
 * that of AddressSanitizer, must be at rest. */
void settle_for_fork(void);

/* must_pass_in_child after that. */
void in_child(void (*fn)(void *), void *arg);

/* Called at the end of such a child. What the lost threads had in hand is lost there, as
 * gt_after_fork says: valgrind's search for leaks is spared it. */
void child_is_done(void);

/* Of this process, from /proc: threads, open descriptors, voluntary context switches of all
 * threads. -1 where /proc does not tell. */
int task_count(void);
int fd_count(void);
int64_t switch_count(void);

#endif
