/* Rule S17: when a host's clock steps back, the sched's time goes on at once. */
#include "rules.h"

static void check_time_goes_on(struct hooks *h, gt_sched *s, int64_t before, int64_t step)
{
    int64_t now;

    h->clock -= step;
    now = gt_nanotime(s);
    CHECK_GE(now, before);
    CHECK_LE(now, before);               /* the step is swallowed whole */
}

TEST(s17_host_clock_steps_back, 10)
{
    static const int64_t steps[] = {1, 1000, SEC, 100 * SEC, HOST_T0 - 1};

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct hooks h;
        gt_sched *s;
        gt_p *p;
        struct counter c = {0}, d = {0};
        gt_timer *t, *u;
        int64_t now, until;

        hooks_init(&h, 0);
        s = hooked_sched(&h, GT_CLOCK_HOST);
        p = new_p(s);
        t = new_timer(s, &c);
        u = new_timer(s, &d);
        now = gt_nanotime(s);
        CHECK_EQ(now, HOST_T0);
        CHECK_EQ(gt_addtimer_on(p, t, now + 50 * MS, 0), 0);
        CHECK_EQ(gt_addtimer_on(p, u, now + 20 * MS, 20 * MS), 0);

        h.clock += 20 * MS;
        CHECK_EQ(gt_check_timers(p, 0, &now, &until), 1);
        CHECK_EQ(d.runs, 1);
        check_time_goes_on(&h, s, HOST_T0 + 20 * MS, steps[i]);
        CHECK_EQ(gt_check_timers(p, 0, &now, &until), 0);       /* nothing fires twice */
        CHECK_EQ(d.runs, 1);
        CHECK_EQ(now, HOST_T0 + 20 * MS);
        CHECK_EQ(until, HOST_T0 + 40 * MS);                     /* nothing is put off */

        h.clock += 20 * MS;                                     /* by the host's new time */
        CHECK_EQ(gt_check_timers(p, 0, &now, &until), 1);
        CHECK_EQ(now, HOST_T0 + 40 * MS);
        CHECK_EQ(d.runs, 2);
        CHECK_EQ(c.runs, 0);
        h.clock += 10 * MS - 1;
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
        h.clock += 1;
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(c.delay, 0);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_timer_free(u), 1);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* Several steps add up; a step forward is time that has passed. */
TEST(s17_steps_add_up, 10)
{
    struct hooks h;
    gt_sched *s;
    int64_t want = HOST_T0;

    hooks_init(&h, 0);
    s = hooked_sched(&h, GT_CLOCK_HOST);
    CHECK_EQ(gt_nanotime(s), want);
    for (int i = 1; i <= 50; i++) {
        check_time_goes_on(&h, s, want, i * MS);
        h.clock += 3;
        want += 3;
        CHECK_EQ(gt_nanotime(s), want);
        if (i % 10 == 0) {
            h.clock += SEC;
            want += SEC;
            CHECK_EQ(gt_nanotime(s), want);
        }
    }
    close_sched(s);
}

/* Threads that read the clock while it is stepped: none sees time go back by more than the
 * others' reads allow, that is, never against what it read itself. */
struct reader {
    gt_sched *s;
    atomic_int stop;
};

static void *read_loop(void *arg)
{
    struct reader *r = arg;
    int64_t last = 0;

    while (!r->stop) {
        int64_t now = gt_nanotime(r->s);

        CHECK_GE(now, last);
        last = now;
    }
    return NULL;
}

TEST(s17_time_is_monotonic_for_every_reader, 20)
{
    struct hooks h;
    struct reader r = {0};
    pthread_t th[3];
    uint64_t rng = test_seed();
    int64_t end = mono_now() + 800 * MS;

    hooks_init(&h, 0);
    r.s = hooked_sched(&h, GT_CLOCK_HOST);
    h.clock = 1000 * HOST_T0;
    for (int i = 0; i < 3; i++)
        th[i] = thread_start(read_loop, &r);
    while (mono_now() < end) {
        h.clock += (int64_t)rng_below(&rng, 1000);
        if (rng_below(&rng, 8) == 0)
            h.clock -= (int64_t)rng_below(&rng, SEC);
    }
    r.stop = 1;
    for (int i = 0; i < 3; i++)
        thread_join(th[i]);
    close_sched(r.s);
}

/* A sleeper is not kept for the length of the step: the host's clock runs on CLOCK_MONOTONIC
 * and is set back by an hour while a thread sleeps for 50 ms. */
static struct hooks *stepped;
static _Atomic int64_t step_taken;

static void follow_monotonic(void) { stepped->clock = mono_now() + 7200 * SEC - step_taken; }

struct sleeper {
    gt_sched *s;
    gt_p *p;
    struct counter c;
    atomic_int asleep;
};

static void *sleep_loop(void *arg)
{
    struct sleeper *z = arg;

    while (z->c.runs == 0) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(z->p, 0, &now, &until), 0);
        z->asleep = 1;
        if (z->c.runs == 0 && until > now)
            CHECK_GE(gt_notetsleep(z->p, until), 0);
    }
    return NULL;
}

TEST(s17_sleepers_do_not_sleep_for_the_step, 60)
{
    struct hooks h;
    struct sleeper z = {0};
    gt_timer *t;
    pthread_t th;

    hooks_init(&h, 0);
    stepped = &h;
    follow_monotonic();
    h.on_clock = follow_monotonic;
    z.s = hooked_sched(&h, GT_CLOCK_HOST);
    z.p = new_p(z.s);
    t = new_timer(z.s, &z.c);
    CHECK_EQ(gt_addtimer_on(z.p, t, gt_nanotime(z.s) + 50 * MS, 0), 0);
    th = thread_start(sleep_loop, &z);
    wait_for(&z.asleep, 1);
    step_taken = 3600 * SEC;
    thread_join(th);                                 /* else the time limit ends the test */
    CHECK_EQ(z.c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(z.s);
    free_p(z.p);
    close_sched(z.s);
}
