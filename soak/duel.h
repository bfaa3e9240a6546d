/* A duel: one thread sleeps for its P until it is told to look, another arms a single timer that
 * comes earlier than that, and waits for it. If the wake gets lost, nothing else is there to
 * make up for it. The timer comes onto the P in each way that there is. */
#ifndef SOAK_DUEL_H
#define SOAK_DUEL_H

#include "load.h"

enum { DUEL_WAYS = 7 };

struct duel {
    gt_sched *s;
    gt_p *p;
    int by_poll;                 /* the sleeper polls gt_p_fd instead of gt_notetsleep */
    struct l_gate *gate;         /* NULL: never paused */
    pthread_t sleeper, armer;
    int event;
    uint64_t rng;
    atomic_int stop, stop_sleeper, fired;
    _Atomic int64_t rounds, wakes, late_max;
};

/* gate, if any, must count one running thread for each duel. */
void duel_start(struct duel *d, int by_poll, uint64_t seed, struct l_gate *gate);
void duel_end(struct duel *d);

#endif
