/* The clock jumps by hours, forth and back, in the middle of load: nothing fires early, nothing
 * is lost, nobody sleeps for the length of a step (rule S17). The host's clock stands for
 * the wall clock, which a test cannot set. */
#include "faults.h"

#include <time.h>

PLANT(stuck, clock_jumps_by_hours, "a sleep of 5 ms has not ended after 10 s");
PLANT_FORGET(clock_jumps_by_hours);

#define HOUR (3600 * SEC)

static _Atomic int64_t offset = 1000 * HOUR;
static atomic_int stop, stop_runs, slept;

static int64_t host_time(void *ctx)
{
    (void)ctx;
    if (planted("stuck"))
        return 1000 * HOUR + (mono_now() > 0);   /* the mistake: a clock that stands still */
    return mono_now() + offset;
}

/* Sleeps for a few ms on that clock, over and over. */
static void *sleeps(void *arg)
{
    gt_sched *s = arg;

    while (!stop) {
        int64_t begin = gt_nanotime(s), real = mono_now();

        CHECK_EQ(gt_sched_sleep(s, 5 * MS), 0);
        CHECK_GE(gt_nanotime(s), begin + 5 * MS);
        CHECK_LT(mono_now() - real, 10 * SEC * (int64_t)test_slow());
        slept++;
    }
    return NULL;
}

/* Receives from a ticker: the phase is kept over all jumps. */
static void *ticks(void *arg)
{
    gt_sched *s = arg;
    gt_timer *t = gt_sched_new_ticker(s, 3 * MS);
    int64_t first = 0, last = 0, sent;

    CHECK(t != NULL);
    while (!stop) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_GE(gt_nanotime(s), sent);
        if (first == 0)
            first = sent;
        CHECK(last == 0 || sent > last);
        CHECK_EQ((sent - first) % (3 * MS), 0);
        last = sent;
    }
    CHECK_EQ(gt_timer_free(t), 1);
    return NULL;
}

/* Runs the timers of a sched that nobody else works on. */
static void *runs(void *arg)
{
    gt_p *p = arg;
    int64_t now, until;

    while (!stop_runs) {
        CHECK_GE(gt_check_timers(p, 0, &now, &until), 0);
        if (until == 0 || until > now)
            CHECK_GE(gt_notetsleep(p, until), 0);
    }
    return NULL;
}

/* Somebody who sleeps for 5 ms on that clock gets up again and again. */
static void check_nobody_oversleeps(void)
{
    static int last = -1;
    static int64_t since;

    if (slept != last) {
        last = slept;
        since = mono_now();
    } else if (mono_now() - since > 10 * SEC * (int64_t)test_slow()) {
        test_failed(__FILE__, __LINE__, "a sleep of 5 ms has not ended after 10 s");
    }
}

static void wait_not_overdue(gt_sched *s)
{
    int64_t limit = mono_now() + 10 * SEC * (int64_t)test_slow();

    while (gt_overdue(s, 0) > SEC) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "lost: still overdue by %lld ms after a jump",
                        (long long)(gt_overdue(s, 0) / MS));
        sleep_ms(1);
    }
}

/* A virtual clock jumps forward only, as far as one likes. */
static void jump_virtual(gt_sched *s, int64_t by)
{
    int64_t now = gt_nanotime(s);

    CHECK_EQ(gt_sched_set_time(s, now + by), 0);
    CHECK_EQ(gt_sched_set_time(s, now - by), GT_EINVAL);
}

TEST(clock_jumps_by_hours, 120)
{
    static struct load l, v;
    gt_host host = {.size = sizeof host, .nanotime = host_time};
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_HOST, .host = &host};
    struct load_options o = {.name = "host clock", .clock = GT_CLOCK_HOST, .host = &host, .spinners = 1,
                             .sleepers = 3, .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 800,
                             .spread = 10 * MS, .ps_come_and_go = 1, .callbacks_act = 1,
                             .overdue_limit = 1000000 * SEC};
    struct load_options vo = o;
    uint64_t rng = test_seed();
    int64_t before, end;
    gt_sched *beside = gt_sched_new(&cfg);
    gt_p *p = gt_p_new(beside);
    pthread_t th[3];

    CHECK(p != NULL);
    seed_loads();
    vo.name = "virtual clock";
    vo.clock = GT_CLOCK_VIRTUAL;
    load_start(&l, &o);
    load_start(&v, &vo);
    th[0] = thread_start(runs, p);
    th[1] = thread_start(sleeps, beside);
    th[2] = thread_start(ticks, beside);
    end = mono_now() + rounds(6, 60) * SEC;
    for (int i = 0; mono_now() < end || slept < 20; i++) {
        int64_t jump = (int64_t)rng_below(&rng, (uint64_t)(10 * HOUR));

        sleep_ms((int)rng_below(&rng, 120));
        before = gt_nanotime(l.s);
        if (i % 2 == 0)
            offset += jump;
        else if (offset - jump > HOUR)
            offset -= jump;
        CHECK_GE(gt_nanotime(l.s), before);
        if (i % 3 == 0)
            jump_virtual(v.s, jump);
        wait_not_overdue(l.s);
        wait_not_overdue(beside);
        check_nobody_oversleeps();
        if (i % 4 == 3) {
            load_pause(&l);
            load_pause(&v);
            load_check(&l);
            load_check(&v);
            load_resume(&l);
            load_resume(&v);
        }
    }
    stop = 1;
    thread_join(th[1]);
    thread_join(th[2]);
    stop_runs = 1;
    CHECK_EQ(gt_notewakeup(p), 0);
    thread_join(th[0]);
    CHECK_EQ(gt_p_free(p), 0);
    check_conserved(beside);
    close_sched(beside);
    load_end(&l);
    load_end(&v);
}
