/* The clock jumps by hours, forth and back, in the middle of load: nothing fires early, nothing
 * is lost, nobody sleeps for the length of a step, and a step back does not make time leap ahead
 * (rule S17). The host's clock, and the wall clock, for which system.c stands in. */
#include "system.h"

#include <poll.h>
#include <time.h>

PLANT(stuck, clock_jumps_by_hours, "a sleep of 5 ms does not end");
PLANT_FORGET(clock_jumps_by_hours);
PLANT(leap, clock_jumps_by_hours, "leapt ahead by");
PLANT_FORGET(clock_wall_jumps_under_load);
PLANT(untold, clock_wall_jumps, "the timer does not fire");

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
        CHECK_LT(mono_now() - real, l_patience());
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
    } else if (mono_now() - since > l_patience()) {
        test_failed(__FILE__, __LINE__, "a sleep of 5 ms does not end");
    }
}

/* A clock goes on as time does, and forward by what it is told to, and no further. Steps back are
 * taken up at once: perhaps a little is lost by them, but nothing is won. */
struct pace {
    gt_sched *s;
    int64_t begin, real, ahead;
};

static void pace_start(struct pace *p, gt_sched *s)
{
    p->s = s;
    p->ahead = 0;
    p->real = mono_now();
    p->begin = gt_nanotime(s);
}

static void pace_check(const struct pace *p)
{
    int64_t now = gt_nanotime(p->s), most = p->begin + (mono_now() - p->real) + p->ahead;

    if (now > most)
        test_failed(__FILE__, __LINE__, "the clock leapt ahead by %lld ms", (long long)((now - most) / MS));
}

static void wait_not_overdue(gt_sched *s)
{
    int64_t limit = mono_now() + l_patience();

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
                             .sleepers = 3, .pollers = 1, .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 800,
                             .spread = 10 * MS, .ps_come_and_go = 1, .callbacks_act = 1,
                             .overdue_limit = 1000000 * SEC};
    struct load_options vo = o;
    uint64_t rng = test_seed();
    int64_t before, end;
    int backs = 0;
    struct pace pace[2];
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
    pace_start(&pace[0], l.s);
    pace_start(&pace[1], beside);
    end = mono_now() + rounds(6, 60) * SEC;
    for (int i = 0; mono_now() < end || slept < 20 || backs < 3; i++) {
        int64_t jump = (int64_t)rng_below(&rng, (uint64_t)(10 * HOUR));

        sleep_ms((int)rng_below(&rng, 120));
        before = gt_nanotime(l.s);
        if (i % 2 == 0) {
            pace[0].ahead += jump;
            pace[1].ahead += jump;
            offset += jump;
        } else if (offset - jump > HOUR) {
            offset -= planted("leap") ? -jump : jump;      /* the mistake: it leaps ahead instead */
            backs++;
        }
        CHECK_GE(gt_nanotime(l.s), before);
        pace_check(&pace[0]);
        pace_check(&pace[1]);
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

/* ---- the wall clock ---- */

TEST(clock_wall_jumps_under_load, 120)
{
    static struct load l;
    struct load_options o = {.name = "wall clock", .clock = GT_CLOCK_WALL, .spinners = 1, .sleepers = 2, .pollers = 2,
                             .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 800, .spread = 10 * MS,
                             .ps_come_and_go = 1, .callbacks_act = 1, .overdue_limit = 1000000 * SEC};
    uint64_t rng = test_seed();
    struct pace pace;
    int64_t end;

    seed_loads();
    load_start(&l, &o);
    pace_start(&pace, l.s);
    end = mono_now() + rounds(3, 60) * SEC;
    for (int i = 0; mono_now() < end; i++) {
        int64_t jump = (int64_t)rng_below(&rng, (uint64_t)(10 * HOUR)), before = gt_nanotime(l.s);

        if (i % 2 == 0) {
            pace.ahead += jump;
            wall_jump(jump);
            CHECK_GE(gt_nanotime(l.s), before + jump);     /* it is this clock that the library reads */
        } else {
            wall_jump(-jump);
            CHECK_GE(gt_nanotime(l.s), before);
        }
        pace_check(&pace);
        wait_not_overdue(l.s);
        sleep_ms((int)rng_below(&rng, 120));
        if (i % 4 == 3) {
            load_pause(&l);
            load_check(&l);
            load_resume(&l);
        }
    }
    load_end(&l);
}

/* A P with nothing but one timer, so that nothing else makes its thread look at the clock. */
struct lonely {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    int by_poll;
    pthread_t thread;
    struct counter c;
};

static void *lives_alone(void *arg)
{
    struct lonely *o = arg;
    struct pollfd pf = {.events = POLLIN};

    pf.fd = gt_p_fd(o->p);
    CHECK_GE(pf.fd, 0);
    while (!stop_runs) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(o->p, 0, &now, &until), 0);
        if (until != 0 && until <= now)
            continue;
        if (o->by_poll)
            CHECK_EQ(poll(&pf, 1, -1), 1);
        else
            CHECK_GE(gt_notetsleep(o->p, until), 0);
    }
    return NULL;
}

static void lonely_arm(struct lonely *o, int64_t ahead)
{
    CHECK_EQ(gt_addtimer_on(o->p, o->t, gt_nanotime(o->s) + ahead, 0), 0);
}

static void lonely_wait(struct lonely *o, int runs_, const char *what)
{
    int64_t limit = mono_now() + l_patience();

    while (o->c.runs < runs_) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "%s, %s: the timer does not fire",
                        o->by_poll ? "polling" : "sleeping", what);
        sleep_ms(1);
    }
    CHECK_EQ(o->c.runs, runs_);
}

static void jump(struct lonely *o, struct pace *pace, int64_t by)
{
    for (int i = 0; i < 2 && by > 0; i++)
        pace[i].ahead += by;
    if (planted("untold"))
        by = 0;                        /* the mistake: the clock stays where it is */
    wall_jump(by);
    for (int i = 0; i < 2; i++) {
        CHECK_GE(gt_nanotime(o[i].s), 1);
        pace_check(&pace[i]);
    }
}

TEST(clock_wall_jumps, 120)
{
    struct lonely o[2] = {{.by_poll = 0}, {.by_poll = 1}};
    struct pace pace[2];

    for (int i = 0; i < 2; i++) {
        o[i].s = new_sched(GT_CLOCK_WALL);
        CHECK((o[i].p = gt_p_new(o[i].s)) != NULL);
        CHECK((o[i].t = gt_timer_new(o[i].s, count_run, &o[i].c, NULL)) != NULL);
        o[i].thread = thread_start(lives_alone, &o[i]);
        pace_start(&pace[i], o[i].s);
    }
    for (int round = 0; round < rounds(2, 10); round++) {
        /* Asleep until an hour has passed: it has. */
        for (int i = 0; i < 2; i++)
            lonely_arm(&o[i], HOUR);
        sleep_ms(20);
        jump(o, pace, 2 * HOUR);
        for (int i = 0; i < 2; i++)
            lonely_wait(&o[i], 2 * round + 1, "after a step ahead");
        /* Asleep for a little while, and the clock goes back. */
        for (int i = 0; i < 2; i++)
            lonely_arm(&o[i], 300 * MS);
        sleep_ms(20);
        jump(o, pace, -3 * HOUR);
        for (int i = 0; i < 2; i++)
            lonely_wait(&o[i], 2 * round + 2, "after a step back");
        /* What is to come in an hour does not come for a step of half an hour. */
        for (int i = 0; i < 2; i++)
            lonely_arm(&o[i], HOUR);
        jump(o, pace, HOUR / 2);
        jump(o, pace, -2 * HOUR);
        jump(o, pace, HOUR / 4);
        sleep_ms(50);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(o[i].c.runs, 2 * round + 2);
            CHECK_EQ(gt_deltimer(o[i].t), 1);
        }
    }
    stop_runs = 1;
    for (int i = 0; i < 2; i++) {
        lonely_arm(&o[i], 0);
        thread_join(o[i].thread);
        check_conserved(o[i].s);
        CHECK_EQ(gt_deltimer(o[i].t) >= 0, 1);
        CHECK_EQ(gt_timer_free(o[i].t), 0);
        CHECK_EQ(gt_p_free(o[i].p), 0);
        close_sched(o[i].s);
    }
}
