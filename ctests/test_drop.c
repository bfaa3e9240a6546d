/* drop: called exactly once per arg, when f can never be called with it again, in the thread
 * that made it so, with no lock held. */
#include "support.h"

/* An arg whose f blocks until it is let go. */
struct slow {
    atomic_int entered, leave, left, drops;
    _Atomic uintptr_t runner, dropper;
};

static void slow_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct slow *a = arg;
    int mine;

    (void)seq;
    (void)delay;
    CHECK_EQ(a->drops, 0);
    a->runner = this_thread();
    mine = ++a->entered;
    wait_for(&a->leave, mine);      /* the first to enter is the first to leave */
    CHECK_EQ(a->drops, 0);
    a->left++;
}

static void slow_drop(void *arg)
{
    struct slow *a = arg;

    CHECK_EQ(a->left, a->entered);
    a->dropper = this_thread();
    a->drops++;
}

struct pass {
    gt_p *p;
    int64_t now;
};

static void *runs_a_pass(void *arg)
{
    struct pass *ps = arg;

    CHECK_EQ(gt_check_timers(ps->p, ps->now, NULL, NULL), 1);
    return NULL;
}

TEST(drop_not_by_fire_but_by_free, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);

    for (int i = 1; i <= 5; i++) {
        CHECK_EQ(gt_addtimer(t, T0 + i, 0), 0);
        CHECK_EQ(gt_check_timers(p, T0 + i, NULL, NULL), 1);
        CHECK_EQ(c.runs, i);
        CHECK_EQ(c.drops, 0);          /* the handle lives: it may be armed again */
    }
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_deltimer_sync(t), 0);
    CHECK_EQ(c.drops, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(c.dropper, this_thread());
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    CHECK_EQ(c.drops, 1);
}

TEST(drop_by_modtimer, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c[4] = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c[0], count_drop);

    CHECK_EQ(gt_modtimer(t, T0 + 10, 0, count_run, &c[0], 1), 0);    /* the same pointer */
    CHECK_EQ(gt_modtimer(t, T0 + 20, 0, count_run_other, &c[0], 2), 1);
    CHECK_EQ(gt_resettimer(t, T0 + 30, 0), 1);
    CHECK_EQ(c[0].drops, 0);
    CHECK_EQ(gt_modtimer(t, T0 + 40, 0, count_run, &c[1], 3), 1);    /* another, while armed */
    CHECK_EQ(c[0].drops, 1);
    CHECK_EQ(c[0].dropper, this_thread());
    CHECK_EQ(gt_modtimer(t, T0 + 40, 0, count_run, &c[1], 3), 1);
    CHECK_EQ(gt_deltimer(t), 1);
    CHECK_EQ(c[1].drops, 0);
    CHECK_EQ(gt_modtimer(t, T0 + 50, 0, count_run, &c[2], 4), 0);    /* another, while stopped */
    CHECK_EQ(c[1].drops, 1);
    CHECK_EQ(gt_check_timers(p, T0 + 50, NULL, NULL), 1);
    CHECK_EQ(gt_modtimer(t, T0 + 60, 0, count_run, &c[3], 5), 0);    /* another, after it fired */
    CHECK_EQ(c[2].drops, 1);
    CHECK_EQ(c[3].drops, 0);
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(c[3].drops, 1);
    CHECK_EQ(c[0].runs + c[1].runs + c[3].runs, 0);
    CHECK_EQ(c[2].runs, 1);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(c[i].drops, 1);
}

TEST(drop_there_and_back, 5)
{
    /* an arg that comes back after it was replaced is a new one, dropped once more */
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c[2] = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c[0], count_drop);

    CHECK_EQ(gt_modtimer(t, T0 + 10, 0, count_run, &c[1], 0), 0);
    CHECK_EQ(c[0].drops, 1);
    CHECK_EQ(gt_modtimer(t, T0 + 10, 0, count_run, &c[0], 0), 1);
    CHECK_EQ(c[1].drops, 1);
    CHECK_EQ(c[0].drops, 1);
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(c[0].drops, 2);
    CHECK_EQ(c[1].drops, 1);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(drop_not_by_a_failed_modtimer, 5)
{
    gt_sched *s = virtual_sched(), *far = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(far);
    struct counter c = {0}, other = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);

    for (int armed = 0; armed < 2; armed++) {
        CHECK_EQ(gt_modtimer(t, 0, 0, count_run, &other, 0), GT_EINVAL);
        CHECK_EQ(gt_modtimer(t, T0 + 1, -1, count_run, &other, 0), GT_EINVAL);
        CHECK_EQ(gt_modtimer(t, T0 + 1, 0, NULL, &other, 0), GT_EINVAL);
        CHECK_EQ(gt_modtimer_on(q, t, T0 + 1, 0, count_run, &other, 0), GT_EXDEV);
        CHECK_EQ(gt_modtimer_on(NULL, t, T0 + 1, 0, count_run, &other, 0), GT_EINVAL);
        CHECK_EQ(gt_resettimer(t, T0 + 10, 0), armed);
    }
    CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);                /* the old arg */
    CHECK_EQ(c.drops + other.drops, 0);
    CHECK_EQ(gt_shutdown_timer(t), 0);
    CHECK_EQ(gt_modtimer(t, T0 + 20, 0, count_run, &other, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(other.drops + other.runs, 0);
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_EQ(gt_p_free(q), 0);
    close_sched(s);
    close_sched(far);
}

/* A timer that was shut down can never call f again: its arg goes at once. */
TEST(drop_by_shutdown, 5)
{
    for (int state = 0; state < 4; state++) {
        gt_sched *s = virtual_sched();
        gt_p *p = gt_p_new(s);
        struct counter c = {0};
        gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);

        if (state > 0)                                  /* never armed, armed, */
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
        if (state == 2)                                 /* stopped, fired */
            CHECK_EQ(gt_deltimer(t), 1);
        if (state == 3)
            CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
        CHECK_EQ(c.drops, 0);
        CHECK_EQ(gt_shutdown_timer(t), state == 1);
        CHECK_EQ(c.drops, 1);
        CHECK_EQ(c.dropper, this_thread());
        CHECK_EQ(gt_shutdown_timer(t), 0);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(c.drops, 1);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
        CHECK_EQ(c.drops, 1);
    }
}

/* modtimer, free or shutdown while a run with the old arg is in progress: the run drops it. */
TEST(drop_by_the_run_that_ends, 20)
{
    for (int how = 0; how < 3; how++)
        for (int64_t period = 0; period <= 1000; period += 1000) {
            gt_sched *s = virtual_sched();
            struct slow old = {0}, fresh = {.leave = 100};
            struct pass ps = {.now = T0 + 10};
            gt_timer *t;
            pthread_t th;

            ps.p = gt_p_new(s);
            t = gt_timer_new(s, slow_run, &old, slow_drop);
            CHECK_EQ(gt_addtimer(t, T0 + 10, period), 0);
            th = thread_start(runs_a_pass, &ps);
            wait_for(&old.entered, 1);
            if (how == 1)
                CHECK_EQ(gt_timer_free(t), period != 0);
            else if (how == 2)
                CHECK_EQ(gt_shutdown_timer(t), period != 0);
            else
                CHECK_EQ(gt_modtimer(t, T0 + 20, 0, slow_run, &fresh, 0), period != 0);
            sleep_ms(5);
            CHECK_EQ(old.drops, 0);
            old.leave = 1;
            thread_join(th);
            CHECK_EQ(old.drops, 1);
            CHECK_EQ(old.dropper, old.runner);
            if (how == 2) {
                CHECK_EQ(gt_timer_free(t), 0);
                CHECK_EQ(old.drops, 1);
            }
            if (how == 0) {
                CHECK_EQ(gt_check_timers(ps.p, T0 + 20, NULL, NULL), 1);
                CHECK_EQ(fresh.left, 1);
                CHECK_EQ(gt_timer_free(t), 0);
                CHECK_EQ(fresh.drops, 1);
                CHECK_EQ(fresh.dropper, this_thread());
            }
            CHECK_EQ(old.entered, 1);
            check_conserved(s);
            CHECK_EQ(gt_p_free(ps.p), 0);
            close_sched(s);
        }
}

TEST(drop_by_the_last_of_two_runs, 20)
{
    for (int freed_when = 0; freed_when < 3; freed_when++) {
        gt_sched *s = virtual_sched();
        struct slow a = {0};
        struct pass one = {.now = T0 + 10}, two = {.now = T0 + 20};
        gt_timer *t;
        pthread_t th[2];

        one.p = gt_p_new(s);
        two.p = gt_p_new(s);
        t = gt_timer_new(s, slow_run, &a, slow_drop);
        CHECK_EQ(gt_addtimer_on(one.p, t, T0 + 10, 0), 0);
        th[0] = thread_start(runs_a_pass, &one);
        wait_for(&a.entered, 1);
        CHECK_EQ(gt_resettimer_on(two.p, t, T0 + 20, 0), 0);  /* again, while f runs */
        th[1] = thread_start(runs_a_pass, &two);
        wait_for(&a.entered, 2);
        if (freed_when == 0)
            CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(a.drops, 0);
        a.leave = 1;
        thread_join(th[0]);
        CHECK_EQ(a.left, 1);
        CHECK_EQ(a.drops, 0);
        if (freed_when == 1)
            CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(a.drops, 0);
        a.leave = 2;
        thread_join(th[1]);
        CHECK_EQ(a.drops, freed_when < 2);
        if (freed_when == 2)
            CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(a.drops, 1);
        CHECK_EQ(a.dropper, freed_when == 2 ? this_thread() : a.runner);
        check_conserved(s);
        CHECK_EQ(gt_p_free(one.p), 0);
        CHECK_EQ(gt_p_free(two.p), 0);
        close_sched(s);
    }
}

/* ---- from the timer's own callback ---- */

struct own {
    gt_timer *t;
    struct own *fresh;      /* an arg to change to */
    int what, runs, drops, drops_inside;
};

static void acts_on_itself(void *arg, uintptr_t seq, int64_t delay)
{
    struct own *o = arg;

    (void)seq;
    (void)delay;
    o->runs++;
    if (o->what == 0)
        CHECK_EQ(gt_timer_free(o->t), 0);
    if (o->what == 1)
        CHECK_EQ(gt_modtimer(o->t, T0 + 20, 0, acts_on_itself, o->fresh, 0), 0);
    if (o->what == 2)
        CHECK_EQ(gt_timer_detach(o->t), 0);
    if (o->what == 3 && o->runs == 1)
        CHECK_EQ(gt_modtimer(o->t, T0 + 20, 0, acts_on_itself, o, 0), 0);   /* the same arg */
    if (o->what == 4) {
        CHECK_EQ(gt_modtimer(o->t, T0 + 20, 0, acts_on_itself, o->fresh, 0), 0);
        CHECK_EQ(gt_timer_free(o->t), 1);
        CHECK_EQ(o->fresh->drops, 1);      /* nothing runs with this one */
    }
    o->drops_inside = o->drops;
}

static void own_drop(void *arg) { ((struct own *)arg)->drops++; }

TEST(drop_after_the_own_callback, 5)
{
    for (int what = 0; what < 5; what++) {
        gt_sched *s = virtual_sched();
        gt_p *p = gt_p_new(s);
        struct own fresh = {.what = -1}, o = {.what = what, .fresh = &fresh};
        int kept = what == 1 || what == 3;

        o.t = gt_timer_new(s, acts_on_itself, &o, own_drop);
        CHECK_EQ(gt_addtimer(o.t, T0 + 10, 0), 0);
        CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
        CHECK_EQ(o.drops_inside, 0);
        CHECK_EQ(o.drops, what != 3);
        if (kept) {
            CHECK_EQ(gt_check_timers(p, T0 + 20, NULL, NULL), 1);
            CHECK_EQ(what == 1 ? fresh.runs : o.runs, what == 1 ? 1 : 2);
            CHECK_EQ(gt_timer_free(o.t), 0);
        }
        CHECK_EQ(o.drops, 1);
        CHECK_EQ(fresh.drops, what == 1 || what == 4);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(get_stats(s).timers, 0);
        check_conserved(s);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
        CHECK_EQ(o.drops, 1);
    }
}

/* ---- by gt_sched_free ---- */

TEST(drop_by_sched_free, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c[6] = {0};
    gt_timer *t[6];

    for (int i = 0; i < 6; i++)
        t[i] = gt_timer_new(s, count_run, &c[i], count_drop);
    CHECK_EQ(gt_addtimer(t[1], T0 + 10, 0), 0);          /* 0: never armed; 1: waiting */
    CHECK_EQ(gt_addtimer(t[2], T0 + 10, 0), 0);
    CHECK_EQ(gt_resettimer(t[2], T0 + 20, 5), 1);        /* 2: modified */
    CHECK_EQ(gt_addtimer(t[3], T0 + 10, 0), 0);
    CHECK_EQ(gt_deltimer(t[3]), 1);                      /* 3: stopped */
    CHECK_EQ(gt_addtimer(t[4], T0 + 5, 0), 0);
    CHECK_EQ(gt_check_timers(p, T0 + 5, NULL, NULL), 1); /* 4: fired */
    CHECK_EQ(gt_addtimer(t[5], T0 + 10, 0), 0);
    CHECK_EQ(gt_timer_free(t[5]), 1);                    /* 5: freed before */
    CHECK_EQ(c[5].drops, 1);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(c[i].drops, 1);
        CHECK_EQ(c[i].runs, i == 4);
    }
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(gt_timer_free(t[i]), 0);
        CHECK_EQ(c[i].drops, 1);
    }
}

/* ---- with no lock held ---- */

struct chain {
    gt_sched *s;
    gt_p *p;
    gt_timer *t, *next;
    int drops;
    struct counter born;
};

static void chain_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
}

/* Uses everything there is from inside drop, and frees the next timer of the chain. */
static void chain_drop(void *arg)
{
    struct chain *c = arg;
    gt_timer *t;

    c->drops++;
    t = gt_timer_new(c->s, count_run, &c->born, count_drop);
    CHECK(t != NULL);
    CHECK_EQ(gt_addtimer_on(c->p, t, T0 + 500, 0), 0);
    CHECK_EQ(gt_resettimer(t, T0 + 600, 0), 1);
    CHECK_EQ(gt_verify_timer_heap(c->p), 0);
    CHECK_GE(gt_trim(c->p), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(c->born.drops, 1);
    if (c->next != NULL)
        CHECK_EQ(gt_timer_free(c->next), 1);
}

TEST(drop_may_call_anything, 5)
{
    enum { N = 20 };
    struct chain c[N], spare;
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);

    for (int way = 0; way < 3; way++) {
        memset(c, 0, sizeof c);
        for (int i = N - 1; i >= 0; i--) {
            c[i].s = s;
            c[i].p = p;
            c[i].t = gt_timer_new(s, chain_run, &c[i], chain_drop);
            c[i].next = i + 1 < N ? c[i + 1].t : NULL;
            CHECK_EQ(gt_addtimer(c[i].t, T0 + (i == 0 ? 10 : 1000), 0), 0);
        }
        memset(&spare, 0, sizeof spare);
        spare.s = s;
        spare.p = p;
        if (way == 0) {                          /* by free */
            CHECK_EQ(gt_timer_free(c[0].t), 1);
        } else if (way == 1) {                   /* by modtimer */
            CHECK_EQ(gt_modtimer(c[0].t, T0 + 30, 0, chain_run, &spare, 0), 1);
            CHECK_EQ(c[0].drops, 1);
            CHECK_EQ(spare.drops, 0);
            CHECK_EQ(gt_timer_free(c[0].t), 1);
            CHECK_EQ(spare.drops, 1);
        } else {                                 /* by the end of its run */
            CHECK_EQ(gt_timer_detach(c[0].t), 0);
            CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
        }
        for (int i = 0; i < N; i++)
            CHECK_EQ(c[i].drops, 1);
    }
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- under load ---- */

struct load {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    atomic_int stop;
    atomic_long made, dropped, runs;
};

struct load_arg {
    struct load *l;
    atomic_int runs, drops;
};

static void load_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct load_arg *a = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_EQ(a->drops, 0);
    a->runs++;
    a->l->runs++;
    CHECK_EQ(a->drops, 0);
}

static void load_drop(void *arg)
{
    struct load_arg *a = arg;

    CHECK_EQ(a->drops++, 0);
    a->l->dropped++;
    free(a);
}

static struct load_arg *load_new(struct load *l)
{
    struct load_arg *a = calloc(1, sizeof *a);

    a->l = l;
    l->made++;
    return a;
}

static void *load_passes(void *arg)
{
    struct load *l = arg;

    while (!l->stop)
        CHECK_GE(gt_check_others(l->s, NULL, 0, NULL, NULL), 0);
    return NULL;
}

static void *load_modifies(void *arg)
{
    struct load *l = arg;
    uint64_t rng = test_seed() ^ this_thread();

    for (int i = 0, n = 30000 / (int)test_slow(); i < n; i++) {
        int64_t when = gt_nanotime(l->s) + (int64_t)rng_below(&rng, 2000);

        CHECK_GE(gt_modtimer(l->t, when, (int64_t)rng_below(&rng, 2) * 500, load_run, load_new(l), 0), 0);
        if (rng_below(&rng, 8) == 0)
            CHECK_GE(gt_deltimer(l->t), 0);
    }
    return NULL;
}

TEST(drop_once_while_threads_replace_and_fire, 60)
{
    struct load l = {0};
    pthread_t passes[2], modifies[2];

    l.s = new_sched(GT_CLOCK_MONOTONIC);
    l.p = gt_p_new(l.s);
    l.t = gt_timer_new(l.s, load_run, load_new(&l), load_drop);
    for (int i = 0; i < 2; i++)
        passes[i] = thread_start(load_passes, &l);
    for (int i = 0; i < 2; i++)
        modifies[i] = thread_start(load_modifies, &l);
    for (int i = 0; i < 2; i++)
        thread_join(modifies[i]);
    CHECK_GE(gt_deltimer_sync(l.t), 0);
    l.stop = 1;
    for (int i = 0; i < 2; i++)
        thread_join(passes[i]);
    CHECK_EQ(l.dropped, l.made - 1);       /* all but the one it has now */
    CHECK_EQ(gt_timer_free(l.t), 0);
    CHECK_EQ(l.dropped, l.made);
    check_conserved(l.s);
    CHECK_EQ(get_stats(l.s).fired + get_stats(l.s).ticks, l.runs);
    CHECK_EQ(gt_p_free(l.p), 0);
    close_sched(l.s);
}
