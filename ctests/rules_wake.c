/* Rules S12 (the wake hook, and a wake before the sleep) and S13 (adjusttimers loses nothing). */
#include "rules.h"

/* ---- S12: when the hook is called, and when not ---- */

struct wake_rig {
    struct hooks h;
    gt_sched *s;
    gt_p *p, *q;
    struct counter c[4];
    gt_timer *t[4];
};

static void wake_up(struct wake_rig *r)
{
    memset(r, 0, sizeof *r);
    hooks_init(&r->h, 0);
    r->s = hooked_sched(&r->h, GT_CLOCK_VIRTUAL);
    r->p = new_p(r->s);
    for (int i = 0; i < 4; i++)
        r->t[i] = new_timer(r->s, &r->c[i]);
}

static void wake_down(struct wake_rig *r)
{
    for (int i = 0; i < 4; i++)
        if (r->t[i] != NULL)
            CHECK_GE(gt_timer_free(r->t[i]), 0);
    check_conserved(r->s);
    free_p(r->p);
    if (r->q != NULL)
        free_p(r->q);
    close_sched(r->s);
}

static void expect_wake(struct wake_rig *r, int64_t when)
{
    CHECK_GE(r->h.wakes, 1);
    CHECK_PTR_EQ(r->h.last_p, r->p);
    CHECK_EQ(r->h.last_wake, when);
    CHECK_EQ(get_stats(r->s).wakes >= 1, 1);
    r->h.wakes = 0;
}

TEST(s12_wakes_when_earlier, 10)
{
    struct wake_rig r;

    wake_up(&r);
    CHECK_EQ(gt_addtimer_on(r.p, r.t[0], T0 + 1000, 0), 0);      /* first timer */
    expect_wake(&r, T0 + 1000);
    CHECK_EQ(gt_addtimer_on(r.p, r.t[1], T0 + 900, 0), 0);       /* earlier than all */
    expect_wake(&r, T0 + 900);
    CHECK_EQ(gt_resettimer(r.t[0], T0 + 800, 0), 1);             /* shortened below all */
    expect_wake(&r, T0 + 800);
    CHECK_EQ(gt_modtimer(r.t[1], T0 + 700, 0, count_run, &r.c[1], 1), 1);
    expect_wake(&r, T0 + 700);
    CHECK_EQ(gt_deltimer(r.t[1]), 1);
    CHECK_EQ(gt_resettimer(r.t[1], T0 + 600, 0), 0);             /* revived, earlier */
    expect_wake(&r, T0 + 600);
    wake_down(&r);
}

TEST(s12_a_later_time_wakes_nobody, 10)
{
    struct wake_rig r;

    wake_up(&r);
    CHECK_EQ(gt_addtimer_on(r.p, r.t[0], T0 + 100, 0), 0);
    CHECK_EQ(gt_addtimer_on(r.p, r.t[1], T0 + 50, 0), 0);
    r.h.wakes = 0;
    CHECK_EQ(gt_addtimer_on(r.p, r.t[2], T0 + 200, 0), 0);       /* later than the first */
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_resettimer(r.t[2], T0 + 300 + i, 0), 1);     /* and on to later */
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_resettimer(r.t[1], T0 + 50 + i, 0), 1);      /* the first itself to later */
    CHECK_EQ(gt_deltimer(r.t[2]), 1);
    CHECK_EQ(gt_deltimer(r.t[3]), 0);
    CHECK_EQ(gt_timer_free(r.t[0]), 1);
    r.t[0] = NULL;
    CHECK_EQ(r.h.wakes, 0);
    wake_down(&r);
}

/* By the time of the call everybody can see the timer and the new wake time. */
static struct wake_rig *seen_rig;
static gt_timer *seen_timer;
static int seen_calls;

static void wake_sees(gt_p *p, int64_t when)
{
    CHECK_EQ(pins(), 0);
    CHECK_PTR_EQ(p, seen_rig->p);
    CHECK_EQ(gt_timer_when(seen_timer), when);
    CHECK_NE(gt_timer_status(seen_timer), GT_TIMER_LOCKED);
    CHECK_NE(gt_timer_status(seen_timer), GT_TIMER_REMOVED);
    CHECK_LE(gt_nobarrier_wake_time(p), when);
    CHECK_GT(gt_nobarrier_wake_time(p), 0);
    CHECK_LE(gt_time_sleep_until(seen_rig->s), when);
    seen_calls++;
}

TEST(s12_visible_before_the_wake, 10)
{
    struct wake_rig r;

    wake_up(&r);
    seen_rig = &r;
    r.h.on_wake = wake_sees;
    seen_timer = r.t[0];
    CHECK_EQ(gt_addtimer_on(r.p, r.t[0], T0 + 1000, 0), 0);
    CHECK_EQ(gt_resettimer(r.t[0], T0 + 900, 0), 1);
    seen_timer = r.t[1];
    CHECK_EQ(gt_addtimer_on(r.p, r.t[1], T0 + 800, 0), 0);
    seen_timer = r.t[0];
    CHECK_EQ(gt_resettimer(r.t[0], T0 + 700, 0), 1);
    CHECK_EQ(seen_calls, 4);
    r.h.on_wake = NULL;
    wake_down(&r);
}

/* No lock is held: the hook may do anything with the timer and the P that it is called for. */
static int hook_what, hook_depth;

static void wake_acts(gt_p *p, int64_t when)
{
    struct wake_rig *r = seen_rig;

    if (hook_depth > 0)
        return;
    hook_depth++;
    switch (hook_what) {
    case 0:                                                      /* run it at once */
        CHECK_EQ(check_at(p, when), 1);
        CHECK_EQ(r->c[0].runs, 1);
        break;
    case 1:
        CHECK_EQ(gt_deltimer(r->t[0]), 1);
        break;
    case 2:                                                      /* nested wake */
        CHECK_EQ(gt_resettimer(r->t[0], when - 100, 0), 1);
        CHECK_EQ(gt_addtimer_on(p, r->t[1], when - 200, 0), 0);
        break;
    case 3:
        CHECK_EQ(gt_timer_free(r->t[0]), 1);
        r->t[0] = NULL;
        break;
    case 4:
        CHECK_EQ(gt_p_free(p), GT_EDEADLK);
        break;
    case 5:
        CHECK((r->q = gt_p_new(r->s)) != NULL);
        CHECK_EQ(gt_adopt_timers(r->q, p), 1);
        CHECK_EQ(gt_adopt_timers(p, r->q), 1);
        CHECK_EQ(gt_p_free(r->q), GT_EDEADLK);                   /* no P, not only this one */
        break;
    default:
        CHECK_EQ(gt_deltimer_sync(r->t[0]), 1);
        CHECK_EQ(gt_adjusttimers(p, when, 1), 0);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        break;
    }
    hook_depth--;
}

TEST(s12_hook_may_call_anything, 20)
{
    for (hook_what = 0; hook_what <= 6; hook_what++)
        for (int how = 0; how < 3; how++) {
            struct wake_rig r;

            wake_up(&r);
            seen_rig = &r;
            if (how == 1)
                CHECK_EQ(gt_addtimer_on(r.p, r.t[0], T0 + 2000, 0), 0);
            if (how == 2) {
                CHECK_EQ(gt_addtimer_on(r.p, r.t[0], T0 + 2000, 0), 0);
                CHECK_EQ(gt_deltimer(r.t[0]), 1);
            }
            r.h.on_wake = wake_acts;
            r.h.wakes = 0;
            CHECK_EQ(gt_resettimer_on(r.p, r.t[0], T0 + 1000, 0), how == 1);
            CHECK_GE(r.h.wakes, 1);
            r.h.on_wake = NULL;
            wake_down(&r);
        }
}

/* A wake hook that is under way on another thread keeps its P alive: gt_p_free waits for it. */
static atomic_int hook_entered, hook_go, hook_left;

static void wake_waits(gt_p *p, int64_t when)
{
    hook_entered = 1;
    wait_for(&hook_go, 1);
    CHECK_LE(gt_nobarrier_wake_time(p), when);     /* still a P */
    CHECK(gt_p_num_timers(p) >= 0 || gt_p_num_timers(p) == GT_ESTALE);   /* the checked build knows */
    hook_left = 1;
}

static void *wake_arms(void *arg)
{
    struct wake_rig *r = arg;

    CHECK_EQ(gt_addtimer_on(r->p, r->t[0], T0 + 100, 0), 0);
    return NULL;
}

static atomic_int freed;

static void *wake_frees_p(void *arg)
{
    struct wake_rig *r = arg;

    CHECK_EQ(gt_p_free(r->p), 0);
    CHECK_EQ(hook_left, 1);
    freed = 1;
    return NULL;
}

TEST(s12_p_free_waits_for_the_hook, 20)
{
    struct wake_rig r;
    pthread_t arms, frees;

    wake_up(&r);
    r.h.on_wake = wake_waits;
    arms = thread_start(wake_arms, &r);
    wait_for(&hook_entered, 1);
    frees = thread_start(wake_frees_p, &r);
    sleep_ms(50);
    CHECK_EQ(freed, 0);
    hook_go = 1;
    thread_join(frees);
    thread_join(arms);
    r.h.on_wake = NULL;
    r.p = new_p(r.s);
    CHECK_EQ(check_at(r.p, T0 + 100), 1);
    CHECK_EQ(r.c[0].runs, 1);
    wake_down(&r);
}

/* ---- S12: the default hook and the sleep ---- */

TEST(s12_wake_before_the_sleep, 10)
{
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    gt_p *p = new_p(s), *q = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);
    int64_t at;

    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notetsleep(p, 0), 1);                              /* at once, and used up */
    at = gt_nanotime(s) + 20 * MS;
    CHECK_EQ(gt_notetsleep(p, at), 0);
    CHECK_GE(gt_nanotime(s), at);
    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notewakeup(p), 0);                                 /* two wakes are one */
    CHECK_EQ(gt_notetsleep(p, GT_MAX_WHEN), 1);
    at = gt_nanotime(s) + 20 * MS;
    CHECK_EQ(gt_notetsleep(p, at), 0);
    CHECK_EQ(gt_notewakeup(q), 0);                                 /* another P's is not ours */
    CHECK_EQ(gt_notetsleep(p, gt_nanotime(s) + 20 * MS), 0);
    CHECK_EQ(gt_notetsleep(q, 0), 1);
    CHECK_EQ(gt_notetsleep(p, gt_nanotime(s) - 5), 0);             /* the time has come */
    /* an arming from elsewhere is such a wake */
    CHECK_EQ(gt_addtimer_on(p, t, gt_nanotime(s) + 3600 * SEC, 0), 0);
    CHECK_EQ(gt_notetsleep(p, 0), 1);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    free_p(q);
    close_sched(s);
}

struct napper {
    gt_sched *s;
    gt_p *p;
    atomic_int stop;
};

/* Sleeps until what the pass says, with a far timer always in the heap: a lost wake would make
 * it sleep for an hour. */
static void *nap_loop(void *arg)
{
    struct napper *n = arg;

    CHECK_EQ(gt_acquirep(n->p), 0);
    while (!n->stop) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(n->p, 0, &now, &until), 0);
        if (until != 0 && until <= now)
            continue;
        CHECK_GE(gt_notetsleep(n->p, until), 0);
    }
    CHECK_PTR_EQ(gt_releasep(), n->p);
    return NULL;
}

TEST(s12_no_wake_is_lost, 60)
{
    struct napper n = {.s = new_sched(GT_CLOCK_MONOTONIC)};
    struct counter c = {0}, far = {0};
    gt_timer *t = new_timer(n.s, &c), *f = new_timer(n.s, &far);
    uint64_t rng = test_seed();
    int64_t end = mono_now() + 2 * SEC;
    pthread_t th;

    n.p = new_p(n.s);
    CHECK_EQ(gt_addtimer_on(n.p, f, gt_nanotime(n.s) + 3600 * SEC, 0), 0);
    th = thread_start(nap_loop, &n);
    for (int i = 1; mono_now() < end; i++) {
        int64_t when = gt_nanotime(n.s) + (int64_t)rng_below(&rng, 60) * US;

        if (i % 3 == 0) {                          /* shortened, while in the heap */
            CHECK_EQ(gt_addtimer_on(n.p, t, when + 1000 * SEC, 0), 0);
            CHECK_EQ(gt_resettimer(t, when, 0), 1);
        } else {
            CHECK_EQ(gt_addtimer_on(n.p, t, when, 0), 0);
        }
        wait_for(&c.runs, i);                      /* fails after a minute */
    }
    n.stop = 1;
    CHECK_EQ(gt_notewakeup(n.p), 0);
    thread_join(th);
    CHECK_EQ(gt_timer_free(f), 1);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(n.s);
    free_p(n.p);
    close_sched(n.s);
}

/* An arming by a thread that has no P goes to some P and wakes its sleeper. */
TEST(s12_arming_without_a_p_wakes_one, 30)
{
    struct napper n[2];
    struct counter c = {0};
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    gt_timer *t = new_timer(s, &c);
    pthread_t th[2];

    for (int i = 0; i < 2; i++) {
        memset(&n[i], 0, sizeof n[i]);
        n[i].s = s;
        n[i].p = new_p(s);
        th[i] = thread_start(nap_loop, &n[i]);
    }
    for (int i = 1; i <= 50; i++) {
        if (i % 10 == 0)
            sleep_ms(5);                           /* let them fall asleep */
        CHECK_EQ(gt_addtimer(t, gt_nanotime(s) + 10 * US, 0), 0);
        wait_for(&c.runs, i);
    }
    for (int i = 0; i < 2; i++) {
        n[i].stop = 1;
        CHECK_EQ(gt_notewakeup(n[i].p), 0);
        thread_join(th[i]);
        free_p(n[i].p);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    close_sched(s);
}

/* ---- S13 ---- */

struct adjuster {
    gt_p *p;
    atomic_int stop;
};

static void *adjust_loop(void *arg)
{
    struct adjuster *a = arg;

    for (int i = 0; !a->stop; i++)
        switch (i % 4) {
        case 0:
            CHECK_EQ(gt_adjusttimers(a->p, T0 + 1, 1), 0);
            break;
        case 1:
            CHECK_EQ(gt_cleantimers(a->p), 0);
            break;
        case 2:
            CHECK_NE(gt_runtimer(a->p, T0 + 1), 0);
            break;
        default:
            CHECK_EQ(gt_adjusttimers(a->p, T0 + SEC, 0), 0);   /* as a pass does when one is due */
            break;
        }
    return NULL;
}

/* A timer is shortened below everything else, again and again, while the owner adjusts. From
 * the moment gt_resettimer returns, the P's wake time must be at or before it: neither hidden
 * for a moment (cleared before the scan) nor lost (cleared after it). Then it goes back to
 * later, and again. */
TEST(s13_adjust_never_hides_or_loses_a_modification, 30)
{
    enum { N = 50 };
    gt_sched *s = virtual_sched();
    struct adjuster a = {.p = new_p(s)};
    struct counter c[N] = {{0}};
    gt_timer *t[N];
    uint64_t rng = test_seed();
    int64_t end;
    pthread_t th;

    for (int i = 0; i < N; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(a.p, t[i], T0 + 10 * SEC + i, 0), 0);
    }
    th = thread_start(adjust_loop, &a);
    for (end = mono_now() + 1500 * MS; mono_now() < end;) {
        int i = (int)rng_below(&rng, N);
        int64_t when = T0 + 100 + (int64_t)rng_below(&rng, 2 * SEC);

        CHECK_EQ(gt_resettimer(t[i], when, 0), 1);
        for (uint64_t looks = 1 + rng_below(&rng, 40); looks > 0; looks--) {
            int64_t wake = gt_nobarrier_wake_time(a.p), sched_wake = gt_time_sleep_until(s);

            if (wake == 0 || wake > when)
                test_failed(__FILE__, __LINE__, "wake time T0+%lld, the timer is for T0+%lld",
                            (long long)(wake - T0), (long long)(when - T0));
            CHECK_LE(sched_wake, when);
        }
        CHECK_EQ(gt_resettimer(t[i], T0 + 10 * SEC + i, 0), 1);
    }
    a.stop = 1;
    thread_join(th);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(c[i].runs, 0);
        CHECK_EQ(gt_timer_free(t[i]), 1);
    }
    check_conserved(s);
    free_p(a.p);
    close_sched(s);
}

/* The same with stops and the firing itself: at the end a pass at the right time runs all that
 * were left armed, whatever adjust met on its way. */
TEST(s13_adjust_against_all_mutations, 30)
{
    enum { N = 64 };
    gt_sched *s = virtual_sched();
    struct adjuster a = {.p = new_p(s)};
    struct counter c[N] = {{0}};
    gt_timer *t[N];
    int64_t when[N] = {0}, end;
    uint64_t rng = test_seed();
    pthread_t th;
    int64_t step;

    for (int i = 0; i < N; i++)
        t[i] = new_timer(s, &c[i]);
    th = thread_start(adjust_loop, &a);
    for (end = mono_now() + 1500 * MS; mono_now() < end;) {
        int i = (int)rng_below(&rng, N);

        if (rng_below(&rng, 3) == 0) {
            CHECK_EQ(gt_deltimer(t[i]), when[i] != 0);
            when[i] = 0;
        } else {
            int64_t w = T0 + 2 * SEC + (int64_t)rng_below(&rng, 1000);

            CHECK_EQ(gt_resettimer_on(a.p, t[i], w, 0), when[i] != 0);
            when[i] = w;
        }
    }
    a.stop = 1;
    thread_join(th);
    for (step = T0 + 2 * SEC; step < T0 + 2 * SEC + 1000; step += 50) {
        drain_at(a.p, step);
        CHECK_EQ(gt_verify_timer_heap(a.p), 0);
        for (int i = 0; i < N; i++)
            CHECK_EQ(c[i].runs, when[i] != 0 && when[i] <= step);
    }
    drain_at(a.p, step);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(c[i].runs, when[i] != 0);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    check_conserved(s);
    free_p(a.p);
    close_sched(s);
}
