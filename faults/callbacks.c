/* What callbacks may do (rule S11), in the middle of load: leave by a C++ exception, free their
 * own timer and their own P, free the sched. Stacks that are switched stand in fibers.c. */
#include "faults.h"

PLANT_FORGET(callbacks_throw_under_load);
PLANT_FORGET(callbacks_free_their_p_under_load);
PLANT_FORGET(callbacks_free_their_p_and_throw_under_load);
PLANT(swallow, callbacks_throw_in_a_line, "booms == N / 3 * 2 is false: 199, 200");
PLANT(kept, callbacks_free_the_sched, "a->blocks == 0 is false");

static _Atomic int64_t thrown, caught, freed;

/* ---- exceptions ---- */

static void throws_sometimes(struct load *l)
{
    (void)l;
    if (l_me == NULL || rng_below(&l_me->rng, 4) != 0)
        return;
    l_add(thrown, 1);
    throw_boom();
}

static void catches(void (*fn)(void *), void *arg)
{
    if (catch_boom(fn, arg))
        l_add(caught, 1);
}

/* For some seconds, and until *n is more than 100: on a machine that stands still, nothing is. */
static void run_loads(struct load_options o, _Atomic int64_t *n)
{
    static struct load l, v;
    struct load_options vo = o;

    seed_loads();
    vo.name = "callbacks, virtual clock";
    vo.clock = GT_CLOCK_VIRTUAL;
    load_start(&l, &o);
    load_start(&v, &vo);
    for (int i = 0; i < rounds(4, 60) || *n <= 100; i++) {
        sleep_ms(1000);
        load_pause(&l);
        load_pause(&v);
        load_check(&l);
        load_check(&v);
        load_resume(&l);
        load_resume(&v);
    }
    load_end(&l);
    load_end(&v);
}

static const struct load_options options = {
    .name = "callbacks", .clock = GT_CLOCK_MONOTONIC, .spinners = 1, .sleepers = 2, .pollers = 1,
    .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 500, .spread = 5 * MS, .ps_come_and_go = 1,
    .callbacks_act = 1};

TEST(callbacks_throw_under_load, 120)
{
    struct load_options o = options;

    o.in_callback = throws_sometimes;
    o.guard = catches;
    run_loads(o, &thrown);
    CHECK_EQ(thrown, caught);
    printf("%lld exceptions\n", (long long)thrown);
}

/* Each of many timers throws in its turn, in a pass of each kind; the others are not lost. */
struct thrower {
    gt_timer *t;
    int runs, drops;
};

static void throws(void *arg)
{
    (void)arg;
    throw_boom();
}

static void throw_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct thrower *w = arg;

    (void)delay;
    w->runs++;
    if (planted("swallow") && seq == 3)
        CHECK_EQ(catch_boom(throws, NULL), 1);   /* the mistake: this one comes to nobody */
    else if (seq % 3 == 0)
        throw_boom();
    if (seq % 3 == 1) {
        CHECK_EQ(gt_timer_free(w->t), 0);
        throw_boom();
    }
}

static void throw_drop(void *arg) { ((struct thrower *)arg)->drops++; }

struct line {
    gt_sched *s;
    gt_p *p;
    int kind;
    int64_t result;
};

static void one_pass(void *arg)
{
    struct line *a = arg;

    switch (a->kind) {
    case 0: a->result = gt_check_timers(a->p, T0 + 1000, NULL, NULL); break;
    case 1: a->result = gt_runtimer(a->p, T0 + 1000) == 0; break;
    case 2: a->result = gt_check_others(a->s, NULL, T0 + 1000, NULL, NULL); break;
    case 3: a->result = gt_sched_advance(a->s, 1000); break;
    default: a->result = gt_sched_run_until_idle(a->s, 1000); break;
    }
}

TEST(callbacks_throw_in_a_line, 60)
{
    enum { N = 300 };
    static struct thrower w[N];

    for (int kind = 0; kind < 5; kind++) {
        struct line a = {virtual_sched(), NULL, kind, 0};
        int booms = 0, calls = 0;

        memset(w, 0, sizeof w);
        CHECK((a.p = gt_p_new(a.s)) != NULL);
        for (int i = 0; i < N; i++) {
            CHECK((w[i].t = gt_timer_new(a.s, throw_run, &w[i], throw_drop)) != NULL);
            CHECK_EQ(gt_modtimer_on(a.p, w[i].t, T0 + 1 + i, 0, throw_run, &w[i], (uintptr_t)i), 0);
        }
        do {
            a.result = 1;
            booms += catch_boom(one_pass, &a);
            CHECK_EQ(gt_verify_timer_heap(a.p), 0);
            CHECK_LT(calls++, 2 * N);
        } while (a.result > 0);
        CHECK_EQ(booms, N / 3 * 2);
        for (int i = 0; i < N; i++) {
            CHECK_EQ(w[i].runs, 1);
            if (i % 3 != 1) {
                CHECK_EQ(gt_deltimer_sync(w[i].t), 0);
                CHECK_EQ(gt_timer_free(w[i].t), 0);
            }
            CHECK_EQ(w[i].drops, 1);
        }
        check_conserved(a.s);
        CHECK_EQ(get_stats(a.s).timers, 0);
        CHECK_EQ(gt_p_free(a.p), 0);
        close_sched(a.s);
    }
}

/* ---- their own P ---- */

static void frees_its_p(struct load *l)
{
    if (l_me == NULL || rng_below(&l_me->rng, 8) != 0)
        return;
    l_add(freed, 1);
    l_replace_own_p(l);
}

TEST(callbacks_free_their_p_under_load, 120)
{
    struct load_options o = options;

    o.in_callback = frees_its_p;
    run_loads(o, &freed);
    printf("%lld Ps freed by callbacks\n", (long long)freed);
}

static void frees_and_throws(struct load *l)
{
    frees_its_p(l);
    throws_sometimes(l);
}

TEST(callbacks_free_their_p_and_throw_under_load, 120)
{
    struct load_options o = options;

    o.in_callback = frees_and_throws;
    o.guard = catches;
    run_loads(o, &freed);
    CHECK_EQ(thrown, caught);
}

/* ---- the sched ---- */

enum { LEFT = 50 };

struct last {
    gt_sched *s;
    gt_p *p[3];
    gt_timer *own, *left[LEFT];
    int way, runs, drops;
    int throws;
};

static void last_drop(void *arg) { ((struct last *)arg)->drops++; }

static void end_of_the_world(void *arg, uintptr_t seq, int64_t delay)
{
    struct last *w = arg;

    (void)seq;
    (void)delay;
    if (w->runs++ > 0)
        return;
    if (w->way % 2) {
        CHECK_GE(gt_timer_free(w->own), 0);
        w->own = NULL;
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_p_free(w->p[i]), 0);
    CHECK_EQ(gt_sched_free(w->s), 0);
    /* Handles are good for gt_timer_free, and for nothing else. */
    CHECK_EQ(gt_resettimer(w->left[0], T0 + 1, 0), GT_ESHUTDOWN);
    for (int i = 0; i < LEFT; i += w->way % 3 + 1) {
        CHECK_EQ(gt_timer_free(w->left[i]), 0);
        w->left[i] = NULL;
    }
    if (w->throws)
        throw_boom();
}

static void last_pass(void *arg)
{
    struct last *w = arg;

    switch (w->way / 2 % 5) {
    case 0: CHECK_EQ(gt_check_timers(w->p[0], T0 + 100, NULL, NULL), 1); break;
    case 1: CHECK_EQ(gt_runtimer(w->p[0], T0 + 100), 0); break;
    case 2: CHECK_EQ(gt_check_others(w->s, w->p[1], T0 + 100, NULL, NULL), 1); break;
    case 3: CHECK_EQ(gt_sched_advance(w->s, 100), 1); break;
    default: CHECK_EQ(gt_sched_run_until_idle(w->s, 100), 1); break;
    }
}

TEST(callbacks_free_the_sched, 60)
{
    static struct alloc_hook memory;

    for (int way = 0; way < 40; way++) {
        struct last w = {.way = way, .throws = way >= 20};

        memset(&memory, 0, sizeof memory);
        CHECK((w.s = alloc_hook_sched(&memory, GT_CLOCK_VIRTUAL)) != NULL);
        for (int i = 0; i < 3; i++)
            CHECK((w.p[i] = gt_p_new(w.s)) != NULL);
        CHECK_EQ(gt_acquirep(w.p[2]), 0);
        CHECK((w.own = gt_timer_new(w.s, end_of_the_world, &w, last_drop)) != NULL);
        CHECK_EQ(gt_addtimer_on(w.p[0], w.own, T0 + 1, way % 4 == 2 ? 50 : 0), 0);
        for (int i = 0; i < LEFT; i++) {
            CHECK((w.left[i] = gt_timer_new(w.s, end_of_the_world, &w, last_drop)) != NULL);
            CHECK_EQ(gt_addtimer_on(w.p[i % 3], w.left[i], T0 + 2 + i * 10, i % 2 ? 7 : 0), 0);
        }
        CHECK_EQ(catch_boom(last_pass, &w), w.throws);
        CHECK_EQ(w.runs, 1);                   /* nothing runs after the end */
        CHECK_EQ(w.drops, LEFT + 1);
        for (int i = 0; i < LEFT; i++)
            if (w.left[i] != NULL && !(planted("kept") && i == 1))   /* the mistake: a handle is kept */
                CHECK_EQ(gt_timer_free(w.left[i]), 0);
        if (w.own != NULL)
            CHECK_EQ(gt_timer_free(w.own), 0);
        CHECK_PTR_EQ(gt_releasep(), NULL);
        check_all_returned(&memory);
    }
}
