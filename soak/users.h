/* Users of package time, of the built-in runtime and of its poller: threads that sleep, receive
 * from timers and tickers, poll their descriptors, let functions be called, and wait for
 * sockets with deadlines. Part of the soak test. */
#ifndef SOAK_USERS_H
#define SOAK_USERS_H

#include "load.h"

enum { USERS_MAX = 16 };

struct users {
    struct l_gate gate;
    int n;
    pthread_t thread[USERS_MAX];
    atomic_int stop;
    int workers;
    _Atomic int64_t sleeps, values, ticks, funcs_armed, funcs_ended, dropped, polls, waits, timeouts, dreams, late_max;
    _Atomic int64_t restarts;
};

void users_start(struct users *u, int n);
void users_pause(struct users *u);
/* In a pause. With `restart` the runtime is stopped meanwhile, so that nothing is under way. */
void users_check(struct users *u, int restart);
void users_resume(struct users *u);
/* In a fork child: the runtime can be started again there, and works. */
void users_check_child(struct users *u);
void users_end(struct users *u);

#endif
