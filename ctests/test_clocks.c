/* The five clocks, moving the virtual one, and a P's pollable fd on each kind of clock.
 * Sleeping (gt_notetsleep) is in test_sleep.c. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>

static const clockid_t system_clock[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};

static int64_t system_now(uint32_t clock)
{
    struct timespec ts;

    CHECK_EQ(clock_gettime(system_clock[clock], &ts), 0);
    return (int64_t)ts.tv_sec * SEC + ts.tv_nsec;
}

/* A host clock: a fixed time, or (running) that time and what the monotonic clock has moved. */
static struct host_clock {
    _Atomic int64_t base, started;
    atomic_int running;
} host_clock;

static int64_t host_nanotime(void *ctx)
{
    struct host_clock *c = ctx;

    return c->base + (c->running ? mono_now() - c->started : 0);
}

static gt_sched *host_sched(int64_t base, int running)
{
    gt_host h;
    gt_config cfg;
    gt_sched *s;

    host_clock.base = base;
    host_clock.running = running;
    host_clock.started = mono_now();
    memset(&h, 0, sizeof h);
    h.size = sizeof h;
    h.ctx = &host_clock;
    h.nanotime = host_nanotime;
    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.host = &h;
    cfg.clock = GT_CLOCK_HOST;
    s = gt_sched_new(&cfg);
    CHECK(s != NULL);
    return s;
}

/* ---- real clocks ---- */

TEST(clock_real_reads_the_system, 10)
{
    for (uint32_t clock = GT_CLOCK_MONOTONIC; clock <= GT_CLOCK_WALL; clock++) {
        gt_sched *s = new_sched(clock);
        int64_t before, t, after;
        int tries = 0;

        do {                       /* the wall clock may be set in between */
            before = system_now(clock);
            t = gt_nanotime(s);
            after = system_now(clock);
        } while ((t < before || t > after) && ++tries < 5);
        CHECK_GT(t, 0);
        CHECK_GE(t, before);
        CHECK_LE(t, after);
        for (int i = 0; i < 1000; i++) {
            int64_t next = gt_nanotime(s);

            CHECK_GE(next, t);
            t = next;
        }
        close_sched(s);
    }
}

TEST(clock_real_fires_never_early, 60)
{
    for (uint32_t clock = GT_CLOCK_MONOTONIC; clock <= GT_CLOCK_WALL; clock++) {
        gt_sched *s = new_sched(clock);
        gt_p *p = gt_p_new(s);
        struct counter c = {0};
        gt_timer *t = gt_timer_new(s, count_run, &c, NULL);

        for (int i = 0; i < 20; i++) {
            int64_t when = gt_nanotime(s) + i * MS / 4, now, until;

            CHECK_EQ(gt_addtimer(t, when, 0), 0);
            for (;;) {
                int ran = gt_check_timers(p, 0, &now, &until);

                CHECK_EQ(ran, now >= when);
                if (ran)
                    break;
                CHECK_EQ(until, when);
            }
            CHECK_EQ(c.runs, i + 1);
            CHECK_EQ(c.delay, now - when);
            CHECK_GE(gt_nanotime(s), now);
        }
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
    }
}

/* ---- the host's clock ---- */

TEST(clock_host_is_read_from_the_hook, 5)
{
    gt_sched *s = host_sched(5000, 0);
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);

    CHECK_EQ(gt_nanotime(s), 5000);
    CHECK_EQ(gt_addtimer(t, 5100, 0), 0);
    host_clock.base = 5099;
    CHECK_EQ(gt_nanotime(s), 5099);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    host_clock.base = 5103;
    CHECK_EQ(gt_overdue(s, 0), 3);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(c.delay, 3);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(clock_host_steps_back, 5)
{
    gt_sched *s = host_sched(1000 * SEC, 0);
    gt_p *p = gt_p_new(s);
    struct counter once = {0}, tick = {0};
    gt_timer *t = gt_timer_new(s, count_run, &once, NULL);
    gt_timer *u = gt_timer_new(s, count_run, &tick, NULL);
    int64_t now, was;

    CHECK_EQ(gt_addtimer(t, 1010 * SEC, 0), 0);
    CHECK_EQ(gt_addtimer(u, 1001 * SEC, SEC), 0);
    host_clock.base = 1005 * SEC;
    CHECK_EQ(gt_check_timers(p, 0, &was, NULL), 1);
    CHECK_EQ(was, 1005 * SEC);
    CHECK_EQ(tick.runs, 1);                          /* for 1001 to 1005 */
    host_clock.base = 500 * SEC;                     /* back by 505 s */
    CHECK_EQ(gt_check_timers(p, 0, &now, NULL), 0);  /* nothing fires twice */
    CHECK_GE(now, was);
    CHECK_LE(now, was + 10);
    CHECK_EQ(tick.runs, 1);
    host_clock.base = 501 * SEC;                     /* and time goes on at once */
    CHECK_EQ(gt_check_timers(p, 0, &now, NULL), 1);
    CHECK_GE(now, 1006 * SEC);
    CHECK_LE(now, 1006 * SEC + 10);
    CHECK_EQ(tick.runs, 2);
    host_clock.base = 3 * SEC;                       /* once more */
    CHECK_GE(gt_nanotime(s), now);
    host_clock.base = 7 * SEC;
    CHECK_EQ(gt_check_timers(p, 0, &now, NULL), 1);
    CHECK_GE(now, 1010 * SEC);
    CHECK_LE(now, 1010 * SEC + 20);
    CHECK_EQ(once.runs, 1);
    CHECK_EQ(tick.runs, 3);
    CHECK_EQ(gt_timer_when(u), 1011 * SEC);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 1);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- the virtual clock ---- */

TEST(clock_virtual_starts_at_its_epoch, 5)
{
    gt_sched *s = virtual_sched();

    CHECK_EQ(gt_nanotime(s), GT_VIRTUAL_EPOCH);
    sleep_ms(2);
    CHECK_EQ(gt_nanotime(s), GT_VIRTUAL_EPOCH);    /* it stands still by itself */
    CHECK_EQ(gt_sched_set_time(s, T0 + 12345), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 12345);
    CHECK_EQ(gt_sched_advance(s, 0), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 12345);
    CHECK_EQ(gt_sched_advance(s, 5), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 12350);
    close_sched(s);
}

TEST(clock_virtual_set_time_runs_nothing, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_overdue(s, 0), 90);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(c.delay, 90);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* Each run is noted: which timer, at what time. */
struct trace {
    gt_sched *s;
    int n;
    struct { int who; int64_t at; } run[100];
};

struct tracer {
    struct trace *tr;
    gt_timer *t;
    int who;
    int64_t again;      /* re-arms itself so much later, while the trace is short */
};

static void traces(void *arg, uintptr_t seq, int64_t delay)
{
    struct tracer *me = arg;
    struct trace *tr = me->tr;

    (void)seq;
    CHECK_EQ(delay, 0);
    CHECK_LT(tr->n, 100);
    tr->run[tr->n].who = me->who;
    tr->run[tr->n].at = gt_nanotime(tr->s) - T0;
    tr->n++;
    if (me->again > 0)
        CHECK_EQ(gt_addtimer(me->t, gt_nanotime(tr->s) + me->again, 0), 0);
}

TEST(clock_virtual_advances_deadline_by_deadline, 5)
{
    static const int want[][2] = {
        {0, 10}, {1, 15}, {0, 20}, {2, 25}, {0, 30}, {3, 33}, {0, 40}, {4, 45}, {2, 47}, {0, 50},
    };
    struct trace tr = {0};
    struct tracer w[6] = {0};
    gt_p *p, *q;

    tr.s = virtual_sched();
    q = gt_p_new(tr.s);
    for (int i = 0; i < 6; i++) {
        w[i].tr = &tr;
        w[i].who = i;
        w[i].t = gt_timer_new(tr.s, traces, &w[i], NULL);
    }
    CHECK_EQ(gt_addtimer(w[4].t, T0 + 45, 0), 0);
    CHECK_EQ(gt_p_free(q), 0);
    p = gt_p_new(tr.s);                                     /* adopts 4 */
    q = gt_p_new(tr.s);
    w[2].again = 22;                                        /* armed in the middle of it */
    CHECK_EQ(gt_addtimer_on(p, w[0].t, T0 + 10, 10), 0);    /* periodic */
    CHECK_EQ(gt_addtimer_on(q, w[1].t, T0 + 15, 0), 0);
    CHECK_EQ(gt_addtimer_on(q, w[2].t, T0 + 60, 0), 0);
    CHECK_EQ(gt_resettimer(w[2].t, T0 + 25, 0), 1);         /* to earlier */
    CHECK_EQ(gt_addtimer_on(p, w[3].t, T0 + 12, 0), 0);
    CHECK_EQ(gt_resettimer(w[3].t, T0 + 33, 0), 1);         /* to later */
    CHECK_EQ(gt_addtimer_on(q, w[5].t, T0 + 30, 0), 0);
    CHECK_EQ(gt_deltimer(w[5].t), 1);
    CHECK_EQ(gt_sched_advance(tr.s, 9), 0);
    CHECK_EQ(gt_nanotime(tr.s), T0 + 9);
    CHECK_EQ(gt_sched_advance(tr.s, 42), 1);
    CHECK_EQ(gt_nanotime(tr.s), T0 + 51);                   /* not the last deadline */
    CHECK_EQ(tr.n, 10);
    for (int i = 0; i < tr.n; i++) {
        CHECK_EQ(tr.run[i].who, want[i][0]);
        CHECK_EQ(tr.run[i].at, want[i][1]);
    }
    w[2].again = 0;
    for (int i = 0; i < 6; i++)
        CHECK_GE(gt_timer_free(w[i].t), 0);
    check_conserved(tr.s);
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_EQ(gt_p_free(q), 0);
    close_sched(tr.s);
}

TEST(clock_virtual_advance_runs_orphans, 5)
{
    gt_sched *s = virtual_sched();
    struct counter c[2] = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c[0], NULL);
    gt_timer *u = gt_timer_new(s, count_run, &c[1], NULL);
    gt_p *p;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);          /* there is no P */
    CHECK_EQ(gt_addtimer(u, T0 + 20, 10), 0);
    CHECK_EQ(gt_sched_advance(s, 15), 1);
    CHECK_EQ(c[0].runs, 1);
    CHECK_EQ(c[1].runs, 0);
    CHECK_EQ(gt_sched_advance(s, 25), 1);
    CHECK_EQ(c[1].runs, 3);
    p = gt_p_new(s);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(c[1].runs, 4);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 1);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(clock_virtual_advance_saturates, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0}, never = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    gt_timer *u = gt_timer_new(s, count_run, &never, NULL);

    CHECK_EQ(gt_addtimer(t, GT_MAX_WHEN - 1, 0), 0);
    CHECK_EQ(gt_addtimer(u, GT_MAX_WHEN, 0), 0);
    CHECK_EQ(gt_sched_advance(s, INT64_MAX), 1);
    CHECK_EQ(gt_nanotime(s), INT64_MAX);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(never.runs, 0);
    CHECK_EQ(gt_sched_advance(s, 1), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 1);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- the pollable fd ---- */

static int readable(int fd, int ms)
{
    struct pollfd pf = {.fd = fd, .events = POLLIN};
    int r;

    do
        r = poll(&pf, 1, ms);
    while (r < 0 && errno == EINTR);
    CHECK_GE(r, 0);
    if (r > 0)
        CHECK_EQ(pf.revents, POLLIN);
    return r;
}

/* On a clock that runs by itself. */
static void fd_on_a_running_clock(gt_sched *s)
{
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    int fd = gt_p_fd(p), runs = 0;
    int64_t when;

    CHECK_GE(fd, 0);
    CHECK_EQ(gt_p_fd(p), fd);
    CHECK_EQ(readable(fd, 0), 0);
    for (int i = 0; i < 8; i++) {
        when = gt_nanotime(s) + 20 * MS;
        switch (i % 4) {
        case 0:                                             /* armed */
            CHECK_EQ(gt_addtimer(t, when, 0), 0);
            break;
        case 1:                                             /* to earlier */
            CHECK_EQ(gt_addtimer(t, when + 3600 * SEC, 0), 0);
            CHECK_EQ(readable(fd, 0), 0);
            CHECK_EQ(gt_resettimer(t, when, 0), 1);
            break;
        case 2:                                             /* due already */
            when -= 30 * MS;
            CHECK_EQ(gt_addtimer(t, when, 0), 0);
            break;
        case 3:                                             /* to later */
            CHECK_EQ(gt_addtimer(t, when - 15 * MS, 0), 0);
            CHECK_EQ(gt_resettimer(t, when, 0), 1);
            break;
        }
        for (int64_t now = 0; gt_check_timers(p, 0, &now, NULL) == 0;) {
            int woken = readable(fd, 60000);                /* at the old time, at worst */

            CHECK_EQ(woken, 1);
            if (i % 4 != 3)
                CHECK_GE(gt_nanotime(s), when);
        }
        CHECK_EQ(c.runs, ++runs);
        CHECK_EQ(readable(fd, 0), 0);                       /* the pass took it */
    }

    when = gt_nanotime(s) + 20 * MS;                        /* stopped */
    CHECK_EQ(gt_addtimer(t, when, 0), 0);
    if (gt_deltimer(t) == 1) {
        sleep_ms(30);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
        CHECK_EQ(readable(fd, 30), 0);
    }

    CHECK_EQ(gt_addtimer(t, gt_nanotime(s) + 5 * MS, 5 * MS), 0);   /* periodic */
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(readable(fd, 60000), 1);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    }
    CHECK_EQ(c.runs, runs + 4);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);                       /* the P owned it */
    CHECK_EQ(errno, EBADF);
    close_sched(s);
}

TEST(clock_fd_monotonic, 120) { fd_on_a_running_clock(new_sched(GT_CLOCK_MONOTONIC)); }

TEST(clock_fd_boottime, 120) { fd_on_a_running_clock(new_sched(GT_CLOCK_BOOTTIME)); }

TEST(clock_fd_wall, 120) { fd_on_a_running_clock(new_sched(GT_CLOCK_WALL)); }

TEST(clock_fd_host, 120) { fd_on_a_running_clock(host_sched(77 * SEC, 1)); }

TEST(clock_fd_virtual, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    int fd = gt_p_fd(p), other = gt_p_fd(q);

    CHECK_GE(fd, 0);
    CHECK_GE(other, 0);
    CHECK_NE(fd, other);
    CHECK_EQ(readable(fd, 0), 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    CHECK_EQ(readable(fd, 0), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 99), 0);
    CHECK_EQ(readable(fd, 5), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
    CHECK_EQ(readable(fd, 60000), 1);
    CHECK_EQ(readable(other, 0), 0);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(readable(fd, 0), 0);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 50, 0), 0);          /* due already */
    CHECK_EQ(readable(fd, 60000), 1);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(readable(fd, 0), 0);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 1000, 0), 0);        /* to earlier */
    CHECK_EQ(gt_resettimer(t, T0 + 200, 0), 1);
    CHECK_EQ(gt_sched_set_time(s, T0 + 200), 0);
    CHECK_EQ(readable(fd, 60000), 1);
    CHECK_EQ(gt_adopt_timers(q, p), 1);                     /* it moves with its timer */
    CHECK_EQ(readable(other, 60000), 1);
    CHECK_EQ(gt_check_timers(q, 0, NULL, NULL), 1);
    CHECK_EQ(readable(other, 0), 0);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(readable(fd, 0), 0);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 300, 0), 0);         /* stopped */
    CHECK_EQ(gt_deltimer(t), 1);
    CHECK_EQ(gt_sched_set_time(s, T0 + 400), 0);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(readable(fd, 0), 0);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 500, 0), 0);         /* run by advance */
    CHECK_EQ(gt_sched_advance(s, 200), 1);
    CHECK_EQ(readable(fd, 0), 0);
    CHECK_EQ(c.runs, 4);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_EQ(gt_p_free(q), 0);
    close_sched(s);
}
