/* The workloads that nomem.c runs again and again. Each expects the same results whatever is
 * refused, since a refused call is made again. */
#include "nomem.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum { TIMERS = 1100, EXTRA_PS = 70 };

static struct counter counters[TIMERS], others[40], again[40];

static gt_sched *new_virtual_sched(void)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    memset(counters, 0, sizeof counters);
    memset(others, 0, sizeof others);
    memset(again, 0, sizeof again);
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    cfg.lateness = 1;
    cfg.host = &memory.host;
    PTR(s, gt_sched_new(&cfg));
    before.s = s;
    return s;
}

static void end_sched(gt_sched *s)
{
    check_conserved(s);
    if (!memory.by_system)
        CHECK_EQ(get_stats(s).bytes, memory.bytes);
    before.s = NULL;
    before.n_ps = 0;
    CHECK_EQ(gt_sched_free(s), 0);
    memory_is_back();
}

static void ask_everything(gt_sched *s, gt_p *p, gt_timer *t)
{
    char json[1500];
    uint64_t counts[8];
    gt_stats st = {.size = sizeof st};

    IS(gt_stats_get(s, &st), 0);
    CHECK_GT(gt_stats_json(s, json, sizeof json), 0);
    CHECK_GT(gt_lateness_get(s, counts, 8), 8);
    CHECK_EQ(gt_lateness_bound(3), 3);
    CHECK_GT(gt_nanotime(s), 0);
    CHECK_GT(gt_time_sleep_until(s), 0);
    CHECK_GE(gt_overdue(s, 0), 0);
    CHECK_GE(gt_nobarrier_wake_time(p), 0);
    CHECK_GE(gt_p_num_timers(p), gt_p_deleted_timers(p));
    CHECK_EQ(gt_p_set_userdata(p, t), 0);
    CHECK_PTR_EQ(gt_p_userdata(p), t);
    CHECK_GE(gt_p_fd(p), 0);
    CHECK_GE(gt_timer_status(t), 0);
    CHECK_EQ(gt_timer_status_id(s, gt_timer_id(t)), gt_timer_status(t));
    CHECK_EQ(gt_timer_when_id(s, gt_timer_id(t)), gt_timer_when(t));
    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notetsleep(p, 0), 1);
    CHECK_STR_EQ(gt_version_string(), GT_VERSION);
    CHECK_GT(gt_version(), 0);
    CHECK_HAS(gt_strerror(GT_ENOMEM), "GT_ENOMEM");
}

/* Arms timer i in one of the ways there are. */
static void arm(gt_sched *s, gt_p *p, gt_timer *t, int i, int64_t when)
{
    uint64_t id = gt_timer_id(t);

    switch (i % 9) {
    case 0: IS(gt_addtimer(t, when, 0), 0); break;
    case 1: IS(gt_addtimer_on(p, t, when, 0), 0); break;
    case 2: IS(gt_addtimer_id(s, id, when, 0), 0); break;
    case 3: IS(gt_resettimer(t, when, 0), 0); break;
    case 4: IS(gt_resettimer_on(p, t, when, 0), 0); break;
    case 5: IS(gt_resettimer_id(s, id, when, 0), 0); break;
    case 6: IS(gt_modtimer(t, when, 0, count_run, &counters[i], 1), 0); break;
    case 7: IS(gt_modtimer_on(p, t, when, 0, count_run, &counters[i], 2), 0); break;
    default: IS(gt_modtimer_id(s, id, when, 0, count_run, &counters[i], 3), 0); break;
    }
}

/* Stops, frees and gives up the first forty, in every way, and makes others in their place. */
static void end_some(gt_sched *s, gt_p *p, gt_timer **t)
{
    for (int i = 0; i < 40; i++) {
        uint64_t id = gt_timer_id(t[i]);

        if (i % 2)   /* another argument: the old one is dropped when the new one is in */
            IS(gt_modtimer(t[i], T0 + 50 + i, 0, count_run_other, &others[i], 1), 1);
        switch (i % 10) {
        case 0: IS(gt_deltimer(t[i]), 1); break;
        case 1: IS(gt_deltimer_id(s, id), 1); break;
        case 2: IS(gt_deltimer_sync(t[i]), 1); break;
        case 3: IS(gt_deltimer_sync_id(s, id), 1); break;
        case 4: IS(gt_shutdown_timer(t[i]), 1); break;
        case 5: IS(gt_shutdown_timer_id(s, id), 1); break;
        case 6: IS(gt_timer_free_id(s, id), 1); t[i] = NULL; break;
        case 7: IS(gt_timer_free(t[i]), 1); t[i] = NULL; break;
        case 8: IS(gt_timer_detach(t[i]), 0); t[i] = NULL; break;
        default: IS(gt_timer_detach_id(s, id), 0); t[i] = NULL; break;
        }
        if (t[i] != NULL)
            IS(gt_timer_free(t[i]), 0);
        PTR(t[i], gt_timer_new(s, count_run, &again[i], NULL));
        IS(gt_addtimer_on(p, t[i], T0 + 1000 + i, 100 * (i % 2)), 0);
    }
}

static void in_fork_child(void *arg)
{
    gt_sched *s = arg;

    CHECK_EQ(gt_after_fork(), 0);
    CHECK_GE(gt_check_others(s, NULL, T0 + 2000, NULL, NULL), 0);
    check_conserved(s);
}

int64_t work_engine(void)
{
    static gt_timer *t[TIMERS];
    static gt_p *p[2 + EXTRA_PS];
    gt_sched *s = new_virtual_sched();
    struct counter last_counter = {0};
    gt_timer *last = NULL;
    int64_t now, until;
    int runs = 0;

    memset(p, 0, sizeof p);
    before.ps = p;
    before.n_ps = 2;
    for (int i = 0; i < 2 + EXTRA_PS; i++)
        PTR(p[i], gt_p_new(s));
    for (int i = 2; i < 2 + EXTRA_PS; i++) {
        IS(gt_p_free(p[i]), 0);
        p[i] = NULL;
    }
    IS(gt_acquirep(p[0]), 0);
    CHECK_PTR_EQ(gt_current_p(), p[0]);
    for (int i = 0; i < TIMERS; i++) {
        PTR(t[i], gt_timer_new(s, count_run, &counters[i], i < 60 ? count_drop : NULL));
        arm(s, p[i % 2], t[i], i, T0 + 100 + i * 7 % 900);
    }
    ask_everything(s, p[0], t[3]);
    end_some(s, p[1], t);
    IS(gt_timer_set_slack(t[5], 1000), 0);
    IS(gt_check_timers(p[0], T0 + 200, &now, &until), 1);
    IS(gt_runtimer(p[1], T0 + 200), 0);
    IS(gt_check_others(s, p[0], T0 + 300, NULL, NULL), 1);
    for (int i = 500; i < 700; i++) {
        int armed = gt_timer_when(t[i]) != 0;

        IS(gt_resettimer(t[i], T0 + 950, 0), armed);
    }
    for (int i = 700; i < 900; i++)
        CHECK_GE(gt_deltimer(t[i]), 0);
    IS(gt_adjusttimers(p[0], 0, 1), 0);
    IS(gt_cleantimers(p[0]), 0);
    CHECK_GE(gt_trim(p[0]), 0);
    CHECK_EQ(gt_verify_timer_heap(p[0]), 0);
    INT(now, gt_adopt_timers(p[0], p[1]));
    CHECK_GT(now, 0);
    CHECK_PTR_EQ(gt_releasep(), p[0]);
    IS(gt_p_free(p[1]), 0);
    p[1] = NULL;
    IS(gt_p_free(p[0]), 0);                    /* to nobody */
    p[0] = NULL;
    if ((p[0] = gt_p_new(s)) == NULL) {        /* and from there */
        CHECK_EQ(gt_last_error(), GT_ENOMEM);
        alarm(60 * test_slow());
        PTR(last, gt_timer_new(s, count_run, &last_counter, NULL));
        IS(gt_addtimer(last, T0 + 960, 0), 0);   /* nobody still takes timers */
        alarm(0);
        PTR(p[0], gt_p_new(s));
    }
    IS(gt_sched_set_time(s, T0 + 400), 0);
    must_pass_in_child(in_fork_child, s);
    CHECK_EQ(gt_sched_advance(s, 5000), 1);
    CHECK_EQ(gt_sched_run_until_idle(s, 200), 1);   /* the tickers */
    for (int i = 40; i < TIMERS; i++)
        runs += counters[i].runs;
    for (int i = 700; i < 900; i++)
        runs -= counters[i].runs;
    CHECK_GE(runs, TIMERS - 40 - 200);         /* each at least once; a reset gives a second time */
    for (int i = 0; i < 40; i++)
        CHECK_GE(again[i].runs, 1);
    if (last != NULL) {
        CHECK_EQ(last_counter.runs, 1);
        CHECK_EQ(gt_timer_free(last), 0);
    }
    for (int i = 0; i < TIMERS; i++)
        CHECK_EQ(gt_timer_free(t[i]), i < 40 && i % 2);
    for (int i = 0; i < 60; i++)
        CHECK_EQ(counters[i].drops, 1);
    for (int i = 1; i < 40; i += 2)
        CHECK_EQ(others[i].drops, 1);
    IS(gt_p_free(p[0]), 0);
    end_sched(s);
    return memory.calls;
}

/* ---- package time, on a virtual clock that its only thread moves by waiting ---- */

static void channels(gt_sched *s)
{
    gt_timer *t, *tick;
    int64_t sent;
    int fd;

    PTR(t, gt_sched_new_timer(s, 100));
    PTR(tick, gt_sched_new_ticker(s, 30));
    IS(gt_timer_try_recv(t, &sent), 0);
    IS(gt_timer_recv(tick, &sent), 0);
    CHECK_EQ(sent, gt_nanotime(s));
    IS(gt_timer_recv_id(s, gt_timer_id(tick), &sent), 0);
    INT(fd, gt_timer_fd(t));
    CHECK_GE(fd, 0);
    CHECK_EQ(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0), 0);
    IS(gt_timer_recv(t, &sent), 0);
    IS(gt_timer_stop(t), 0);
    IS(gt_timer_reset(t, 500), 0);
    IS(gt_timer_reset_id(s, gt_timer_id(t), 50), 1);
    IS(gt_sched_sleep(s, 60), 0);
    IS(gt_timer_try_recv_id(s, gt_timer_id(t), &sent), 1);
    IS(gt_timer_stop_id(s, gt_timer_id(tick)), 1);
    IS(gt_timer_free(tick), 0);
    IS(gt_timer_reset(t, 10), 0);
    IS(gt_timer_free(t), 1);
}

int64_t work_time(void)
{
    gt_sched *s = new_virtual_sched();
    gt_p *p;
    gt_timer *t;

    PTR(p, gt_p_new(s));
    before.ps = &p;
    before.n_ps = 1;
    IS(gt_synctest_join(s), 0);
    PTR(t, gt_sched_after_func(s, 25, count_run, &counters[0], count_drop));
    IS(gt_synctest_wait(s), 0);
    channels(s);
    IS(gt_sched_sleep(s, 1000), 0);
    CHECK_EQ(counters[0].runs, 1);
    IS(gt_timer_free(t), 0);
    CHECK_EQ(counters[0].drops, 1);
    IS(gt_synctest_leave(s), 0);
    IS(gt_p_free(p), 0);
    end_sched(s);
    return memory.calls;
}

/* ---- the built-in runtime ---- */

static void net(void)
{
    int fds[2];
    gt_netpoll *pd;
    gt_sched *s = gt_runtime_sched();

    CHECK_EQ(pipe2(fds, O_NONBLOCK), 0);
    PTR(pd, gt_netpoll_open(fds[0]));
    IS(gt_netpoll_set_deadline(pd, GT_READ, gt_nanotime(s) + MS), 0);
    IS(gt_netpoll_wait(pd, GT_READ), GT_ETIMEDOUT);
    IS(gt_netpoll_set_deadline(pd, GT_READ | GT_WRITE, 0), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    IS(gt_netpoll_wait(pd, GT_READ), 0);
    IS(gt_netpoll_close(pd), 0);
    close(fds[0]);
    close(fds[1]);
}

int64_t work_runtime(void)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2, .host = &memory.host};
    gt_timer *t, *c, *tick, *tick2, *after;
    gt_sched *s;

    memset(counters, 0, sizeof counters);
    IS(gt_runtime_start(&cfg), 0);
    CHECK_EQ(gt_runtime_workers(), 2);
    PTR(s, gt_runtime_sched());
    PTR(t, gt_after_func(MS / 2, count_run, &counters[0], count_drop));
    PTR(c, gt_new_timer(MS / 2));
    PTR(tick, gt_new_ticker(MS / 2));
    PTR(tick2, gt_tick(MS));
    PTR(after, gt_after(MS / 4));
    IS(gt_timer_recv(after, NULL), 0);
    IS(gt_timer_recv(c, NULL), 0);
    IS(gt_timer_recv(tick, NULL), 0);
    IS(gt_timer_recv(tick2, NULL), 0);
    IS(gt_sleep(MS), 0);
    net();
    WAIT_UNTIL(counters[0].runs == 1);
    IS(gt_timer_free(t), 0);
    IS(gt_timer_free(c), 0);
    IS(gt_timer_free(tick), 1);
    IS(gt_timer_free(tick2), 1);
    IS(gt_runtime_stop(), 0);
    CHECK_EQ(counters[0].drops, 1);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 0);
    if (!memory.by_system)
        CHECK_EQ(get_stats(s).bytes, memory.bytes);
    return memory.calls;
}
