/* A thread is stopped in the middle of the library while others work, and then goes on: at each
 * instruction (x86-64: the processor's trap flag, and a signal handler that waits), and at
 * each hook that the library calls (everywhere). halt.c stops, halt_ops.c has the operations
 * that are stopped, halt_work.c what others do meanwhile. */
#ifndef FAULTS_HALT_H
#define FAULTS_HALT_H

#include "faults.h"

/* The locks whose holders were stopped; seen from outside: somebody else waits for them. */
enum section { S_TIMER, S_P, S_SLAB, S_REGISTRY, S_GLOBAL, S_FD, S_CHAN, S_NETPOLL, S_BLOCKS, S_SCANS, S_WAITERS,
               S_BUBBLE, S_RUNTIME, S_DEADLINE, SECTIONS };

struct world {
    gt_sched *s, *beside;        /* beside: of the operation, or NULL */
    gt_p *p, *q;
    gt_p *own;                   /* of the operation, or NULL */
    gt_timer *t;                 /* what the operations are about */
    gt_timer *u, *v;             /* others, in p's and q's heap */
    gt_timer *due[8], *fill[80];
    gt_timer *chan;
    gt_timer **many;
    int n_many;
    struct counter c, c2, others;
};

extern struct world w;

struct halt_op {
    const char *name;
    void (*setup)(void);         /* NULL: none; the world is there */
    void (*op)(void);
    int alone;                   /* works on w.t alone: nobody who works on something else waits */
    int runtime;                 /* needs the built-in runtime */
    int no_step;                 /* blocks signals, and with them the traps */
    int section;                 /* somebody always tries this lock meanwhile; S_TIMER: none */
};

struct probe {
    const char *name;
    void (*fn)(uint64_t *rng);
    int section;                 /* that it waits for; SECTIONS: none in particular */
    int alone;                   /* touches nothing that an `alone` operation holds */
};

extern atomic_int forks_under_way;
extern atomic_int on_the_way;    /* a probe that is alone is still waiting for another lock than its own */
extern const struct halt_op halt_ops[];
extern const int n_halt_ops;
extern const struct probe probes[], probe_whole;
extern const int n_probes;

#define FAR (T0 + 3600 * SEC)
#define DUE_AT (T0 + 10 * MS)

void halt_run(void *arg, uintptr_t seq, int64_t delay);
extern gt_netpoll *halt_pd;      /* once the runtime is on */

/* A callback that waits for its own timer, and one that arms it so and runs it on the P. */
void wait_for_itself(gt_p *p, gt_timer *t, struct counter *c);
/* Arms a timer of the runtime for an earlier time than any before. */
void arm_ever_earlier(void);

/* In the middle of "mod, all of it", in a fork child: runs its timers, whose callbacks look whether
 * they are called as one of the settings says, in all of it. */
void check_whole(void);

void world_start(int runtime);
void world_end(void);
void work_before(void);          /* what a thread does before it is watched */

/* hooks.c calls it from hooks: the calling thread is stopped here if it is the victim. */
void halt_at_hook(void);

#endif
