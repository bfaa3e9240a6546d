/* Who owns a timer: gt_timer_free from anywhere at any time, detach, ids and their
 * generations, what is left after gt_sched_free, and that all memory comes back. The rules of
 * drop are in test_drop.c, the bounds on dead entries in test_zombies.c. */
#include "support.h"

/* A callback that says that it runs and ends when it is told to. */
struct blocker {
    gt_p *p;
    int64_t now;
    atomic_int entered, leave, drops, left;
};

static void blocks(void *arg, uintptr_t seq, int64_t delay)
{
    struct blocker *b = arg;

    (void)seq;
    (void)delay;
    b->entered++;
    wait_for(&b->leave, 1);
    CHECK_EQ(b->drops, 0);
    b->left++;
}

static void blocker_drop(void *arg)
{
    struct blocker *b = arg;

    CHECK_EQ(b->left, b->entered);
    b->drops++;
}

static void *passes_once(void *arg)
{
    struct blocker *b = arg;

    CHECK_EQ(gt_check_timers(b->p, b->now, NULL, NULL), 1);
    return NULL;
}

/* ---- gt_timer_free ---- */

TEST(own_free_in_every_state, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);

    for (int state = 0; state < 8; state++) {
        struct counter c = {0};
        gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
        int pending = 0;

        if (state == 1)                                   /* waiting */
            pending = gt_addtimer(t, T0 + 10, 0) == 0;
        if (state == 2) {                                 /* modified */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
            pending = gt_resettimer(t, T0 + 20, 0);
        }
        if (state == 3) {                                 /* stopped, still in the heap */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
            CHECK_EQ(gt_deltimer(t), 1);
        }
        if (state == 4) {                                 /* stopped and swept */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
            CHECK_EQ(gt_deltimer(t), 1);
            CHECK_GE(gt_trim(p), 0);
        }
        if (state == 5) {                                 /* fired */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
            CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
        }
        if (state == 6) {                                 /* periodic, has fired */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 5), 0);
            pending = gt_check_timers(p, T0 + 10, NULL, NULL);
        }
        if (state == 7) {                                 /* shut down */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
            CHECK_EQ(gt_shutdown_timer(t), 1);
        }
        CHECK_EQ(gt_timer_free(t), pending);
        CHECK_EQ(c.drops, 1);                             /* at once, not when it is swept */
        CHECK_EQ(gt_check_timers(p, T0 + 100, NULL, NULL), 0);
        CHECK_EQ(c.runs, state == 5 || state == 6);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(get_stats(s).timers, 0);
        CHECK_EQ(gt_p_num_timers(p), 0);
        check_conserved(s);
    }
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(own_free_while_the_callback_runs_elsewhere, 30)
{
    for (int kind = 0; kind < 4; kind++) {
        gt_sched *s = virtual_sched();
        struct blocker b = {.now = T0 + 10};
        int64_t period = kind == 1 ? 100 : 0;
        gt_timer *t;
        uint64_t id;
        pthread_t th;

        b.p = gt_p_new(s);
        t = gt_timer_new(s, blocks, &b, blocker_drop);
        id = gt_timer_id(t);
        CHECK_EQ(gt_addtimer(t, T0 + 10, period), 0);
        th = thread_start(passes_once, &b);
        wait_for(&b.entered, 1);
        if (kind == 2)
            CHECK_EQ(gt_resettimer(t, T0 + 500, 0), 0);   /* pending again while it runs */
        CHECK_EQ(kind == 3 ? gt_timer_free_id(s, id) : gt_timer_free(t), kind == 1 || kind == 2);
        CHECK_EQ(gt_timer_status_id(s, id), GT_ESTALE);
        CHECK_EQ(b.drops, 0);                             /* f still has it */
        CHECK_EQ(b.left, 0);
        b.leave = 1;
        thread_join(th);
        CHECK_EQ(b.drops, 1);
        CHECK_EQ(gt_check_timers(b.p, T0 + 1000, NULL, NULL), 0);
        CHECK_GE(gt_trim(b.p), 0);
        CHECK_EQ(get_stats(s).timers, 0);
        check_conserved(s);
        CHECK_EQ(gt_p_free(b.p), 0);
        close_sched(s);
        CHECK_EQ(b.drops, 1);
    }
}

struct mates {
    gt_timer *t[3];
    gt_p *p;
    int runs, drops, doomed, result;
};

static void frees_a_mate(void *arg, uintptr_t seq, int64_t delay)
{
    struct mates *m = arg;

    (void)seq;
    (void)delay;
    if (m->runs++ == 0)
        m->result = gt_timer_free(m->t[m->doomed]);
}

static void mates_drop(void *arg) { ((struct mates *)arg)->drops++; }

TEST(own_free_in_a_callback, 5)
{
    /* the first of three timers due at once frees itself, or another that is due as well */
    for (int doomed = 0; doomed < 3; doomed++)
        for (int64_t period = 0; period <= 1000; period += 1000) {
            gt_sched *s = virtual_sched();
            struct mates m = {.doomed = doomed};

            m.p = gt_p_new(s);
            for (int i = 0; i < 3; i++) {
                m.t[i] = gt_timer_new(s, frees_a_mate, &m, mates_drop);
                CHECK_EQ(gt_addtimer(m.t[i], T0 + 10 + i, period), 0);
            }
            CHECK_EQ(gt_check_timers(m.p, T0 + 20, NULL, NULL), 1);
            CHECK_EQ(m.runs, doomed == 0 ? 3 : 2);
            CHECK_EQ(m.result, doomed != 0 || period != 0);
            CHECK_EQ(m.drops, 1);
            for (int i = 0; i < 3; i++)
                if (i != doomed)
                    CHECK_EQ(gt_timer_free(m.t[i]), period != 0);
            CHECK_EQ(m.drops, 3);
            CHECK_GE(gt_trim(m.p), 0);
            CHECK_EQ(get_stats(s).timers, 0);
            check_conserved(s);
            CHECK_EQ(gt_p_free(m.p), 0);
            close_sched(s);
        }
}

TEST(own_free_after_the_p_has_gone, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c[2] = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c[0], count_drop);
    gt_timer *u = gt_timer_new(s, count_run, &c[1], count_drop);

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer(u, T0 + 10, 0), 0);
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_EQ(gt_timer_free(t), 1);              /* in the orphan set */
    CHECK_EQ(c[0].drops, 1);
    p = gt_p_new(s);
    CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(c[0].runs, 0);
    CHECK_EQ(c[1].runs, 1);
    CHECK_EQ(gt_timer_free(u), 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

struct free_race {
    gt_sched *s;
    gt_p *p;
    atomic_int stop;
    atomic_long runs, drops, made;
    uint64_t seed;
};

static void race_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    ((struct free_race *)arg)->runs++;
}

static void race_drop(void *arg) { ((struct free_race *)arg)->drops++; }

static void *race_passes(void *arg)
{
    struct free_race *r = arg;

    while (!r->stop)
        CHECK_GE(gt_check_timers(r->p, 0, NULL, NULL), 0);
    return NULL;
}

static void *race_frees(void *arg)
{
    struct free_race *r = arg;
    uint64_t rng = r->seed ^ this_thread();

    for (int i = 0, n = 40000 / (int)test_slow(); i < n; i++) {
        gt_timer *t = gt_timer_new(r->s, race_run, r, race_drop);

        CHECK(t != NULL);
        r->made++;
        CHECK_EQ(gt_addtimer(t, gt_nanotime(r->s) + (int64_t)rng_below(&rng, 3000), 0), 0);
        for (uint64_t k = rng_below(&rng, 3000); k > 0; k--)
            __asm__ volatile("");
        CHECK_GE(gt_timer_free(t), 0);
    }
    return NULL;
}

TEST(own_free_races_with_firing, 60)
{
    struct free_race r = {.seed = test_seed()};
    pthread_t passes, frees[2];

    r.s = new_sched(GT_CLOCK_MONOTONIC);
    r.p = gt_p_new(r.s);
    passes = thread_start(race_passes, &r);
    for (int i = 0; i < 2; i++)
        frees[i] = thread_start(race_frees, &r);
    for (int i = 0; i < 2; i++)
        thread_join(frees[i]);
    r.stop = 1;
    thread_join(passes);
    CHECK_EQ(r.drops, r.made);
    CHECK_EQ(get_stats(r.s).fired, r.runs);
    CHECK_EQ(get_stats(r.s).pending, 0);
    check_conserved(r.s);
    CHECK_GE(gt_trim(r.p), 0);
    CHECK_EQ(get_stats(r.s).timers, 0);
    CHECK_EQ(gt_p_free(r.p), 0);
    close_sched(r.s);
}

/* ---- detach ---- */

TEST(own_detach_unarmed, 5)
{
    gt_sched *s = virtual_sched();
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    uint64_t id = gt_timer_id(t);

    CHECK_EQ(gt_timer_detach(t), 0);
    CHECK_EQ(c.drops, 1);                       /* freed at once */
    CHECK_EQ(gt_timer_status_id(s, id), GT_ESTALE);
    CHECK_EQ(get_stats(s).timers, 0);
    close_sched(s);
    CHECK_EQ(c.drops, 1);
}

TEST(own_detach_armed_by_id, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    uint64_t id = gt_timer_id(t);

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_timer_detach(t), 0);
    CHECK_EQ(gt_timer_when_id(s, id), T0 + 10); /* the id stays valid */
    CHECK_EQ(gt_resettimer_id(s, id, T0 + 20, 0), 1);
    CHECK_EQ(gt_check_timers(p, T0 + 19, NULL, NULL), 0);
    CHECK_EQ(c.drops, 0);
    CHECK_EQ(gt_check_timers(p, T0 + 20, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(gt_timer_status_id(s, id), GT_ESTALE);
    CHECK_EQ(get_stats(s).timers, 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(own_detach_periodic, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    uint64_t id = gt_timer_id(t);

    CHECK_EQ(gt_addtimer(t, T0 + 10, 10), 0);
    CHECK_EQ(gt_timer_detach(t), 0);
    for (int i = 1; i <= 5; i++)
        CHECK_EQ(gt_check_timers(p, T0 + 10 * i, NULL, NULL), 1);
    CHECK_EQ(c.runs, 5);
    CHECK_EQ(c.drops, 0);
    CHECK_EQ(gt_timer_when_id(s, id), T0 + 60);
    CHECK_EQ(gt_timer_free_id(s, id), 1);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(gt_timer_free_id(s, id), GT_ESTALE);
    CHECK_EQ(gt_check_timers(p, T0 + 1000, NULL, NULL), 0);
    CHECK_EQ(c.runs, 5);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(own_detach_while_the_callback_runs, 10)
{
    gt_sched *s = virtual_sched();
    struct blocker b = {.now = T0 + 10};
    gt_timer *t;
    pthread_t th;

    b.p = gt_p_new(s);
    t = gt_timer_new(s, blocks, &b, blocker_drop);
    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    th = thread_start(passes_once, &b);
    wait_for(&b.entered, 1);
    CHECK_EQ(gt_timer_detach(t), 0);
    CHECK_EQ(b.drops, 0);
    b.leave = 1;
    thread_join(th);
    CHECK_EQ(b.drops, 1);
    CHECK_EQ(get_stats(s).timers, 0);
    CHECK_EQ(gt_p_free(b.p), 0);
    close_sched(s);
}

TEST(own_detached_at_sched_free, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c[3] = {0};

    for (int i = 0; i < 3; i++) {
        gt_timer *t = gt_timer_new(s, count_run, &c[i], count_drop);
        uint64_t id = gt_timer_id(t);

        CHECK_EQ(gt_addtimer(t, T0 + 10, i == 1 ? 10 : 0), 0);
        CHECK_EQ(gt_timer_detach(t), 0);
        if (i == 2)
            CHECK_EQ(gt_deltimer_id(s, id), 1);   /* stopped, by id, after it was let go */
    }
    CHECK_EQ(gt_p_free(p), 0);
    check_conserved(s);
    close_sched(s);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(c[i].runs, 0);
        CHECK_EQ(c[i].drops, 1);
    }
}

/* ---- ids ---- */

TEST(own_id_generations, 20)
{
    enum { ROUNDS = 3000 };
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    uint64_t *id = calloc(ROUNDS, sizeof *id), rng = test_seed();
    int64_t bytes = 0;

    /* one timer at a time: the slot must be used again, under another id */
    for (int i = 0; i < ROUNDS; i++) {
        gt_timer *t = gt_timer_new(s, count_run, &c, NULL);

        id[i] = gt_timer_id(t);
        CHECK(id[i] != 0);
        for (int k = 0; k < i; k++)
            CHECK(id[k] != id[i]);
        if (i > 0)
            CHECK_EQ(gt_deltimer_id(s, id[rng_below(&rng, (uint64_t)i)]), GT_ESTALE);
        if (i % 3 == 1)
            CHECK_EQ(gt_addtimer(t, T0 + 1000, 0), 0);
        CHECK_EQ(gt_timer_when_id(s, id[i]), i % 3 == 1 ? T0 + 1000 : 0);
        CHECK_EQ(gt_timer_free(t), i % 3 == 1);
        CHECK_EQ(gt_timer_when_id(s, id[i]), GT_ESTALE);
        if (i == 500)
            bytes = (int64_t)get_stats(s).bytes;
    }
    CHECK_LE((int64_t)get_stats(s).bytes, bytes + 16384);
    free(id);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- the end of the sched ---- */

struct last_words {
    gt_sched *s;
    gt_p *p;
    gt_timer *t, *other;
    int runs, drops, drops_inside;
};

static void ends_it_all(void *arg, uintptr_t seq, int64_t delay)
{
    struct last_words *w = arg;

    (void)seq;
    (void)delay;
    w->runs++;
    CHECK_EQ(gt_sched_free(w->s), GT_EBUSY);
    CHECK_EQ(gt_p_free(w->p), 0);
    CHECK_EQ(gt_sched_free(w->s), 0);
    CHECK_EQ(w->drops, 1);                        /* the other's, not this one's */
    CHECK_EQ(gt_resettimer(w->t, T0 + 20, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_deltimer(w->other), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(w->other), 0);
    CHECK_EQ(gt_timer_free(w->t), 0);
    CHECK_EQ(w->drops, 1);
    w->drops_inside = w->drops;
}

static void last_drop(void *arg) { ((struct last_words *)arg)->drops++; }

TEST(own_sched_free_in_a_callback, 10)
{
    for (int64_t period = 0; period <= 10; period += 10) {
        struct alloc_hook a = {0};
        struct last_words w = {0};

        w.s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
        w.p = gt_p_new(w.s);
        w.t = gt_timer_new(w.s, ends_it_all, &w, last_drop);
        w.other = gt_timer_new(w.s, ends_it_all, &w, last_drop);
        CHECK_EQ(gt_addtimer(w.t, T0 + 10, period), 0);
        CHECK_EQ(gt_addtimer(w.other, T0 + 11, 0), 0);
        CHECK_EQ(gt_check_timers(w.p, T0 + 20, NULL, NULL), 1);
        CHECK_EQ(w.runs, 1);
        CHECK_EQ(w.drops_inside, 1);
        CHECK_EQ(w.drops, 2);
        check_all_returned(&a);
    }
}

/* ---- all memory comes back ---- */

TEST(own_memory_returned_by_sched_free, 20)
{
    for (int handles_first = 0; handles_first < 2; handles_first++) {
        enum { N = 2000 };
        struct alloc_hook a = {0};
        gt_sched *s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
        gt_p *p = gt_p_new(s), *q = gt_p_new(s);
        struct counter *c = calloc(N, sizeof *c);
        gt_timer **t = calloc(N, sizeof(gt_timer *));
        uint64_t rng = test_seed();

        for (int i = 0; i < N; i++) {
            t[i] = gt_timer_new(s, count_run, &c[i], count_drop);
            if (i % 5 != 0)
                CHECK_EQ(gt_addtimer_on(i % 2 ? p : q, t[i], T0 + (int64_t)rng_below(&rng, 1000), i % 3), 0);
            if (i % 7 == 0)
                CHECK_EQ(gt_deltimer(t[i]), i % 5 != 0);
            if (i % 11 == 0)
                CHECK_GE(gt_resettimer(t[i], T0 + 1 + (int64_t)rng_below(&rng, 2000), 0), 0);
        }
        CHECK_EQ(get_stats(s).bytes, a.bytes);
        CHECK_EQ(gt_check_timers(p, T0 + 500, NULL, NULL), 1);
        CHECK_EQ(get_stats(s).bytes, a.bytes);
        CHECK_EQ(get_stats(s).timers, N);
        if (handles_first)
            for (int i = 0; i < N; i++)
                CHECK_GE(gt_timer_free(t[i]), 0);
        CHECK_EQ(gt_p_free(q), 0);
        CHECK_EQ(gt_p_free(p), 0);
        check_conserved(s);
        close_sched(s);
        for (int i = 0; i < N; i++)
            CHECK_EQ(c[i].drops, 1);
        if (!handles_first)
            for (int i = 0; i < N; i++)
                CHECK_EQ(gt_timer_free(t[i]), 0);
        for (int i = 0; i < N; i++)
            CHECK_EQ(c[i].drops, 1);
        check_all_returned(&a);
        free(c);
        free(t);
    }
}

TEST(own_memory_of_ps_is_returned, 10)
{
    struct alloc_hook a = {0};
    gt_sched *s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    int64_t bytes = 0;

    CHECK_EQ(gt_addtimer(t, T0 + 1000, 0), 0);
    for (int i = 0; i < 2000; i++) {
        gt_p *p = gt_p_new(s);

        CHECK_GE(gt_p_fd(p), 0);
        CHECK_EQ(gt_resettimer(t, T0 + 1000 + i, 0), 1);
        CHECK_EQ(gt_p_free(p), 0);
        if (i == 500)
            bytes = a.bytes;
    }
    CHECK_EQ(a.bytes, bytes);
    CHECK_EQ(gt_timer_free(t), 1);
    close_sched(s);
    check_all_returned(&a);
}

/* Detached timers that have freed themselves are not freed again by gt_sched_free: what is left of
 * the sched lives as long as the last handle, and no longer. */
TEST(own_sched_free_after_detached_ones, 20)
{
    struct alloc_hook a = {0};
    gt_sched *s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
    gt_p *p = gt_p_new(s);
    struct counter c[40] = {0}, none = {0};
    gt_timer *kept[2];

    for (int i = 0; i < 2; i++)
        kept[i] = gt_timer_new(s, count_run, &none, NULL);
    for (int i = 0; i < 40; i++) {
        gt_timer *t = gt_timer_new(s, count_run, &c[i], i % 2 == 0 ? count_drop : NULL);

        CHECK_EQ(gt_addtimer_on(p, t, T0 + 1 + i, 0), 0);
        CHECK_EQ(gt_timer_detach(t), 0);
    }
    CHECK_EQ(gt_check_timers(p, T0 + 100, NULL, NULL), 1);
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(c[i].runs, 1);
        CHECK_EQ(c[i].drops, i % 2 == 0);
    }
    CHECK_EQ(get_stats(s).timers, 2);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    for (int i = 0; i < 2; i++) {
        CHECK_GT(a.bytes, 0);
        CHECK_EQ(gt_timer_free(kept[i]), 0);
    }
    check_all_returned(&a);
}
