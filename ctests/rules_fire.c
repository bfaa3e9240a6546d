/* Rules S6 (never early), S7 (order), S8 (periodic timers) and S9 (what runtimer returns). */
#include "rules.h"

/* ---- S6 ---- */

TEST(s6_never_before_when_virtual, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    CHECK_EQ(check_at(p, T0 + 99), 0);
    CHECK_EQ(gt_runtimer(p, T0 + 99), T0 + 100);
    CHECK_EQ(gt_check_others(s, NULL, T0 + 99, NULL, NULL), 0);
    CHECK_EQ(gt_sched_advance(s, 99), 0);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_sched_advance(s, 1), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(c.delay, 0);
    /* delay is now - when, now being what the caller gave */
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 200, 0), 0);
    CHECK_EQ(check_at(p, T0 + 1234), 1);
    CHECK_EQ(c.delay, 1034);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 2000, 0), 0);
    CHECK_EQ(gt_runtimer(p, T0 + 2001), 0);
    CHECK_EQ(c.delay, 1);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 3000, 0), 0);
    CHECK_EQ(gt_check_others(s, NULL, T0 + 3007, NULL, NULL), 1);
    CHECK_EQ(c.delay, 7);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* A re-arm to later wins over the old, earlier key in the heap, and one to earlier is not
 * taken for later. */
TEST(s6_stale_keys_do_not_fire, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    for (int how = 0; how < 3; how++) {
        c.runs = 0;
        CHECK_EQ(gt_resettimer_on(p, t, T0 + 10, 0), 0);
        CHECK_EQ(gt_resettimer(t, T0 + 1000, 0), 1);
        for (int64_t now = T0 + 9; now < T0 + 1000; now += 99) {
            if (how == 0)
                CHECK_EQ(check_at(p, now), 0);
            else if (how == 1)
                CHECK_EQ(gt_runtimer(p, now), T0 + 1000);
            else
                CHECK_EQ(gt_check_others(s, NULL, now, NULL, NULL), 0);
        }
        CHECK_EQ(c.runs, 0);
        CHECK_EQ(check_at(p, T0 + 1000), 1);
        CHECK_EQ(c.delay, 0);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

struct real {
    gt_sched *s;
    gt_timer *t;
    _Atomic int64_t when;    /* what it was armed for; changed only while it is not armed */
    atomic_int runs;
};

static void real_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct real *r = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(gt_nanotime(r->s), r->when);
    r->runs++;
}

struct real_world {
    gt_sched *s;
    atomic_int stop;
};

static void *real_worker(void *arg)
{
    struct real_world *w = arg;
    gt_p *p = new_p(w->s);

    CHECK_EQ(gt_acquirep(p), 0);
    while (!w->stop) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(p, 0, &now, &until), 0);
        if (until != 0 && until <= now)
            continue;
        if (until == 0 || until > now + 10 * MS)
            until = now + 10 * MS;
        CHECK_GE(gt_notetsleep(p, until), 0);
    }
    free_p(p);
    return NULL;
}

static void real_clock(uint32_t clock)
{
    enum { N = 200 };
    static struct real r[N];
    struct real_world w = {.s = new_sched(clock)};
    uint64_t rng = test_seed();
    pthread_t th[2];

    memset(r, 0, sizeof r);
    for (int i = 0; i < 2; i++)
        th[i] = thread_start(real_worker, &w);
    for (int i = 0; i < N; i++) {
        r[i].s = w.s;
        CHECK((r[i].t = gt_timer_new(w.s, real_run, &r[i], NULL)) != NULL);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            r[i].when = gt_nanotime(w.s) + (int64_t)rng_below(&rng, 40) * MS + (int64_t)rng_below(&rng, MS);
            CHECK_EQ(gt_addtimer(r[i].t, r[i].when, 0), 0);
        }
        for (int i = 0; i < N; i++)
            wait_for(&r[i].runs, round + 1);
    }
    w.stop = 1;
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(r[i].runs, 3);
        CHECK_EQ(gt_timer_free(r[i].t), 0);
    }
    check_conserved(w.s);
    close_sched(w.s);
}

TEST(s6_never_early_monotonic, 30) { real_clock(GT_CLOCK_MONOTONIC); }
TEST(s6_never_early_boottime, 30) { real_clock(GT_CLOCK_BOOTTIME); }
TEST(s6_never_early_wall, 30) { real_clock(GT_CLOCK_WALL); }

/* ---- S7 ---- */

enum { NO = 2000 };

struct ordered {
    int64_t when;
    gt_timer *t;
};

static int64_t order_now, order_last;
static int order_runs;

static void order_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct ordered *o = arg;

    (void)seq;
    CHECK_EQ(order_now - delay, o->when);
    CHECK_GE(o->when, order_last);
    order_last = o->when;
    order_runs++;
}

/* Random times, some equal, some only 1 ns apart; re-arms and stops on the way; taken in order
 * of when, whether by passes, by runtimer or by a thief. */
TEST(s7_order_of_when, 30)
{
    static struct ordered o[NO];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    uint64_t rng = test_seed();

    for (int i = 0; i < NO; i++)
        CHECK((o[i].t = gt_timer_new(s, order_run, &o[i], NULL)) != NULL);
    for (int round = 0; round < 12; round++) {
        int64_t base = T0 + round * SEC, range = round % 3 == 0 ? 50 : round % 3 == 1 ? 5000 : SEC / 2;
        int armed = 0;

        for (int i = 0; i < NO; i++) {
            o[i].when = base + 1 + (int64_t)rng_below(&rng, (uint64_t)range);
            CHECK_EQ(gt_addtimer_on(p, o[i].t, o[i].when, 0), 0);
        }
        for (int i = 0; i < NO; i++)
            switch (rng_below(&rng, 4)) {
            case 0:
                CHECK_EQ(gt_deltimer(o[i].t), 1);
                o[i].when = 0;
                break;
            case 1:
                o[i].when = base + 1 + (int64_t)rng_below(&rng, (uint64_t)range);
                CHECK_EQ(gt_resettimer(o[i].t, o[i].when, 0), 1);
                break;
            default:
                break;
            }
        if (round % 2)
            CHECK_GE(gt_trim(p), 0);                     /* takes entries out of the middle */
        for (int i = 0; i < NO; i++)
            armed += o[i].when != 0;
        order_runs = 0;
        order_last = 0;
        for (order_now = base; armed > order_runs; order_now += range / 3 + 1) {
            if (round % 4 == 0)
                while (gt_runtimer(p, order_now) == 0) {}
            else if (round % 4 == 1)
                while (gt_check_others(s, NULL, order_now, NULL, NULL) == 1) {}
            else
                drain_at(p, order_now);
            for (int i = 0; i < NO; i++)
                if (o[i].when != 0 && o[i].when <= order_now)
                    CHECK_EQ(gt_timer_when(o[i].t), 0);
        }
        CHECK_EQ(order_runs, armed);
    }
    for (int i = 0; i < NO; i++)
        CHECK_EQ(gt_timer_free(o[i].t), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* gt_sched_advance goes deadline by deadline over all Ps: one order for the whole sched, and
 * each callback sees the clock at its own deadline. */
static gt_sched *advance_s;

static void advance_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct ordered *o = arg;

    (void)seq;
    CHECK_EQ(delay, 0);
    CHECK_EQ(gt_nanotime(advance_s), o->when);
    CHECK_GE(o->when, order_last);
    order_last = o->when;
    order_runs++;
}

TEST(s7_advance_goes_deadline_by_deadline, 20)
{
    static struct ordered o[300];
    gt_p *p[3];
    uint64_t rng = test_seed();

    advance_s = virtual_sched();
    order_last = 0;
    for (int i = 0; i < 3; i++)
        p[i] = new_p(advance_s);
    for (int i = 0; i < 300; i++) {
        o[i].when = T0 + 1 + (int64_t)rng_below(&rng, 5000);
        CHECK((o[i].t = gt_timer_new(advance_s, advance_run, &o[i], NULL)) != NULL);
        CHECK_EQ(gt_addtimer_on(p[i % 3], o[i].t, o[i].when, 0), 0);
    }
    free_p(p[2]);
    CHECK_EQ(gt_sched_advance(advance_s, 5000), 1);
    CHECK_EQ(order_runs, 300);
    CHECK_EQ(gt_nanotime(advance_s), T0 + 5000);
    for (int i = 0; i < 300; i++)
        CHECK_EQ(gt_timer_free(o[i].t), 0);
    check_conserved(advance_s);
    free_p(p[0]);
    free_p(p[1]);
    close_sched(advance_s);
}

/* ---- S8 ---- */

TEST(s8_periodic_keeps_phase_and_skips, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);
    int64_t next = T0 + 10;
    uint64_t rng = test_seed();

    CHECK_EQ(gt_addtimer_on(p, t, next, 7), 0);
    CHECK_EQ(until_at(p, T0 + 9), next);
    for (int i = 1; i <= 500; i++) {
        int64_t now = next + (int64_t)rng_below(&rng, i % 5 == 0 ? 100 : 9);

        CHECK_EQ(check_at(p, now), 1);
        CHECK_EQ(c.runs, i);                     /* missed ticks are skipped */
        CHECK_EQ(c.delay, now - next);
        next += 7 * (1 + (now - next) / 7);
        CHECK_GT(next, now);
        CHECK_EQ((next - T0 - 10) % 7, 0);
        CHECK_EQ(gt_timer_when(t), next);
        CHECK_EQ(gt_nobarrier_wake_time(p), next);
        CHECK_EQ(check_at(p, next - 1), 0);
    }
    CHECK_EQ(get_stats(s).ticks, 500);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* Exactly on a multiple: the tick of that instant is the one that runs, the next is one later. */
TEST(s8_periodic_on_a_multiple, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 5), 0);
    CHECK_EQ(check_at(p, T0 + 25), 1);
    CHECK_EQ(gt_timer_when(t), T0 + 30);
    CHECK_EQ(check_at(p, T0 + 30), 1);
    CHECK_EQ(gt_timer_when(t), T0 + 35);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    close_sched(s);
}

TEST(s8_saturates_at_max_when, 10)
{
    static const struct {
        int64_t when, period, now;
    } rows[] = {
        {GT_MAX_WHEN - 10, 100, GT_MAX_WHEN - 5},
        {GT_MAX_WHEN - 10, 10, GT_MAX_WHEN - 10},
        {T0 + 1, INT64_MAX, T0 + 1},
        {T0 + 1, INT64_MAX - 1, T0 + 5000},
        {1, INT64_MAX / 2 + 1, INT64_MAX - 1},
        {GT_MAX_WHEN - 1, 1, GT_MAX_WHEN - 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gt_sched *s = virtual_sched();
        gt_p *p = new_p(s);
        struct counter c = {0};
        gt_timer *t = new_timer(s, &c);
        int64_t k = 1 + (rows[i].now - rows[i].when) / rows[i].period;
        int64_t next = rows[i].period > (GT_MAX_WHEN - rows[i].when) / k ? GT_MAX_WHEN
                                                                       : rows[i].when + rows[i].period * k;

        CHECK_EQ(gt_addtimer_on(p, t, rows[i].when, rows[i].period), 0);
        CHECK_EQ(check_at(p, rows[i].now), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_timer_when(t), next);
        CHECK_EQ(next, GT_MAX_WHEN);
        CHECK_EQ(check_at(p, GT_MAX_WHEN), 0);     /* never */
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        CHECK_EQ(gt_timer_free(t), 1);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

TEST(s8_max_when_never_fires, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_addtimer_on(p, t, GT_MAX_WHEN, 0), 0);
    CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
    CHECK_EQ(check_at(p, GT_MAX_WHEN), 0);
    CHECK_NE(gt_runtimer(p, GT_MAX_WHEN), 0);
    CHECK_EQ(gt_check_others(s, NULL, GT_MAX_WHEN, NULL, NULL), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_overdue(s, GT_MAX_WHEN), 0);
    CHECK_EQ(gt_resettimer(t, T0 + 5, 0), 1);       /* it can still be brought back */
    CHECK_EQ(check_at(p, T0 + 5), 1);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    CHECK_EQ(gt_resettimer(t, GT_MAX_WHEN, 0), 1);  /* or put off for ever */
    CHECK_EQ(check_at(p, GT_MAX_WHEN), 0);
    CHECK_EQ(gt_sched_advance(s, INT64_MAX), 0);    /* saturates */
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* ---- S9 ---- */

TEST(s9_runtimer_results, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c[4] = {{0}};
    gt_timer *t[4];

    CHECK_EQ(gt_runtimer(p, T0 + 1), -1);
    for (int i = 0; i < 4; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 10 * (i + 1), 0), 0);
    }
    CHECK_EQ(gt_runtimer(p, T0 + 1), T0 + 10);
    CHECK_EQ(gt_runtimer(p, T0 + 10), 0);              /* one at a time */
    CHECK_EQ(gt_runtimer(p, T0 + 10), T0 + 20);
    CHECK_EQ(gt_deltimer(t[1]), 1);                    /* stale heads are repaired first: */
    CHECK_EQ(gt_resettimer(t[2], T0 + 50, 0), 1);      /* one deleted, one moved to later */
    CHECK_EQ(gt_runtimer(p, T0 + 35), T0 + 40);
    CHECK_EQ(gt_timer_status(t[1]), GT_TIMER_REMOVED);
    CHECK_EQ(gt_timer_status(t[2]), GT_TIMER_WAITING);
    CHECK_EQ(gt_runtimer(p, T0 + 100), 0);
    CHECK_EQ(c[3].runs, 1);
    CHECK_EQ(gt_runtimer(p, T0 + 100), 0);
    CHECK_EQ(c[2].runs, 1);
    CHECK_EQ(gt_runtimer(p, T0 + 100), -1);
    CHECK_EQ(gt_addtimer_on(p, t[0], T0 + 200, 0), 0);
    CHECK_EQ(gt_deltimer(t[0]), 1);
    CHECK_EQ(gt_runtimer(p, T0 + 300), -1);            /* empty after repair */
    CHECK_EQ(c[1].runs, 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* A Waiting head that is not due is answered without taking the timer's lock: nobody is pinned
 * on the way. */
TEST(s9_fast_path_does_not_lock_the_timer, 10)
{
    struct hooks h;
    gt_sched *s;
    gt_p *p;
    struct counter c = {0};
    gt_timer *t;
    long before;

    hooks_init(&h, 0);
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    p = new_p(s);
    t = new_timer(s, &c);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    before = h.acquires;
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_runtimer(p, T0 + 1), T0 + 100);
    CHECK_EQ(h.acquires, before);
    CHECK_EQ(gt_resettimer(t, T0 + 200, 0), 1);
    before = h.acquires;
    CHECK_EQ(gt_runtimer(p, T0 + 1), T0 + 200);          /* a Modified head must be locked */
    CHECK_GT(h.acquires, before);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    close_sched(s);
}
