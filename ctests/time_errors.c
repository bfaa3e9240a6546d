/* Every documented refusal of package time; after each, nothing may have changed. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct counter c;

#define NO_TIMER(call_, error_)                 \
    do {                                        \
        CHECK_PTR_EQ(call_, NULL);              \
        CHECK_EQ(gt_last_error(), error_);      \
    } while (0)

TEST(time_errors_nothing_given, 10)
{
    gt_sched *s = virtual_sched();
    gt_stats before = get_stats(s);

    c.runs = c.drops = 0;
    NO_TIMER(gt_sched_after_func(NULL, 1, count_run, &c, count_drop), GT_EINVAL);
    NO_TIMER(gt_sched_after_func(s, 1, NULL, &c, count_drop), GT_EINVAL);
    NO_TIMER(gt_after_func(1, NULL, &c, count_drop), GT_EINVAL);
    NO_TIMER(gt_sched_new_timer(NULL, 1), GT_EINVAL);
    NO_TIMER(gt_sched_new_ticker(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_sched_sleep(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_sched_sleep(NULL, 0), GT_EINVAL);
    CHECK_EQ(gt_timer_stop(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_reset(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_timer_recv(NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_try_recv(NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_fd(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_set_slack(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_timer_stop_id(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_timer_reset_id(NULL, 1, 1), GT_EINVAL);
    CHECK_EQ(gt_timer_recv_id(NULL, 1, NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_try_recv_id(NULL, 1, NULL), GT_EINVAL);
    CHECK_EQ(c.drops, 0);                /* a refused arg stays the caller's */
    check_same_counters(s, &before);
    close_sched(s);
}

TEST(time_errors_tickers_need_a_period, 10)
{
    const int64_t d[] = {0, -1, INT64_MIN};
    gt_sched *s = virtual_sched();
    gt_stats before = get_stats(s);

    for (int i = 0; i < 3; i++) {
        NO_TIMER(gt_sched_new_ticker(s, d[i]), GT_EINVAL);
        NO_TIMER(gt_new_ticker(d[i]), GT_EINVAL);
        NO_TIMER(gt_tick(d[i]), 0);      /* Go's Tick gives nil */
    }
    check_same_counters(s, &before);
    close_sched(s);
}

TEST(time_errors_ids_of_nobody, 10)
{
    const uint64_t ids[] = {0, 1, 77, UINT64_MAX, UINT64_MAX / 3};
    gt_sched *s = virtual_sched(), *other = virtual_sched();
    gt_timer *t = must(gt_sched_new_timer(other, 5));
    uint64_t id = gt_timer_id(t);

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        CHECK_EQ(gt_timer_stop_id(s, ids[i]), GT_ESTALE);
        CHECK_EQ(gt_timer_reset_id(s, ids[i], 1), GT_ESTALE);
        CHECK_EQ(gt_timer_recv_id(s, ids[i], NULL), GT_ESTALE);
        CHECK_EQ(gt_timer_try_recv_id(s, ids[i], NULL), GT_ESTALE);
    }
    CHECK_EQ(gt_timer_stop_id(s, id), GT_ESTALE);        /* of another sched */
    CHECK_EQ(gt_timer_recv_id(s, id, NULL), GT_ESTALE);
    CHECK_EQ(gt_timer_free(t), 1);
    close_sched(s);
    close_sched(other);
}

/* What is for channels only, on a function timer. */
TEST(time_errors_func_timer_has_no_channel, 10)
{
    gt_sched *s = virtual_sched();
    gt_timer *t = must(gt_sched_after_func(s, 100, count_run, &c, NULL)), *e = gt_timer_new(s, count_run, &c, NULL);
    gt_stats before = get_stats(s);
    int64_t sent = 5;

    CHECK_EQ(gt_timer_recv(t, &sent), GT_EINVAL);
    CHECK_EQ(gt_timer_try_recv(t, &sent), GT_EINVAL);
    CHECK_EQ(gt_timer_recv_id(s, gt_timer_id(t), &sent), GT_EINVAL);
    CHECK_EQ(gt_timer_try_recv_id(s, gt_timer_id(t), &sent), GT_EINVAL);
    CHECK_EQ(gt_timer_fd(t), GT_EINVAL);
    CHECK_EQ(gt_timer_recv(e, &sent), GT_EINVAL);
    CHECK_EQ(gt_timer_try_recv(e, &sent), GT_EINVAL);
    CHECK_EQ(gt_timer_fd(e), GT_EINVAL);
    CHECK_EQ(sent, 5);
    check_same_counters(s, &before);
    CHECK_EQ(gt_timer_when(t), T0 + 100);
    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(gt_timer_free(e), 0);
    close_sched(s);
}

/* What is for function timers only, on a channel timer. */
TEST(time_errors_channel_timer_is_not_the_engines, 10)
{
    for (int kind = 0; kind < 2; kind++) {
        gt_sched *s = virtual_sched();
        gt_p *p = new_p(s);
        gt_timer *t = must(kind == 0 ? gt_sched_new_timer(s, 10) : gt_sched_new_ticker(s, 10));
        uint64_t id = gt_timer_id(t);

        for (int round = 0; round < 4; round++) {
            gt_stats before = get_stats(s);

            CHECK_EQ(gt_addtimer(t, T0 + 5, 0), GT_EINVAL);
            CHECK_EQ(gt_addtimer_on(p, t, T0 + 5, 0), GT_EINVAL);
            CHECK_EQ(gt_addtimer_id(s, id, T0 + 5, 0), GT_EINVAL);
            CHECK_EQ(gt_modtimer(t, T0 + 5, 0, count_run, &c, 0), GT_EINVAL);
            CHECK_EQ(gt_modtimer_on(p, t, T0 + 5, 0, count_run, &c, 0), GT_EINVAL);
            CHECK_EQ(gt_modtimer_id(s, id, T0 + 5, 0, count_run, &c, 0), GT_EINVAL);
            CHECK_EQ(gt_resettimer(t, T0 + 5, 0), GT_EINVAL);
            CHECK_EQ(gt_resettimer_on(p, t, T0 + 5, 0), GT_EINVAL);
            CHECK_EQ(gt_resettimer_id(s, id, T0 + 5, 0), GT_EINVAL);
            CHECK_EQ(gt_deltimer(t), GT_EINVAL);
            CHECK_EQ(gt_deltimer_id(s, id), GT_EINVAL);
            CHECK_EQ(gt_deltimer_sync(t), GT_EINVAL);
            CHECK_EQ(gt_deltimer_sync_id(s, id), GT_EINVAL);
            CHECK_EQ(gt_timer_detach(t), GT_EINVAL);
            CHECK_EQ(gt_timer_detach_id(s, id), GT_EINVAL);
            CHECK_GE(gt_timer_status(t), GT_TIMER_REMOVED);
            CHECK_LE(gt_timer_status(t), GT_TIMER_MODIFIED);
            CHECK_EQ(gt_timer_status_id(s, id), gt_timer_status(t));
            if (round == 0)
                CHECK_EQ(gt_timer_status(t), GT_TIMER_REMOVED);   /* nobody waits: in no heap */
            check_same_counters(s, &before);
            switch (round) {
            case 0:                                           /* with a fd it is in a heap */
                CHECK_EQ(gt_timer_when(t), T0 + 10);
                CHECK_GE(gt_timer_fd(t), 0);
                CHECK_EQ(gt_timer_when(t), T0 + 10);
                break;
            case 1:                                           /* with a value inside */
                CHECK_EQ(gt_sched_advance(s, 15), 1);
                break;
            case 2:
                CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
                CHECK_EQ(gt_timer_stop(t), kind == 1);
                break;
            default: break;
            }
        }
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

TEST(time_errors_after_sched_free, 10)
{
    gt_sched *s = virtual_sched();
    gt_timer *t[3];

    c.runs = c.drops = 0;
    t[0] = must(gt_sched_after_func(s, 10, count_run, &c, count_drop));
    t[1] = must(gt_sched_new_timer(s, 0));
    t[2] = must(gt_sched_new_ticker(s, 10));
    CHECK_GE(gt_timer_fd(t[2]), 0);
    close_sched(s);
    CHECK_EQ(c.drops, 1);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(gt_timer_stop(t[i]), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_reset(t[i], 5), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_set_slack(t[i], 5), GT_ESHUTDOWN);
        if (i > 0) {
            CHECK_EQ(gt_timer_recv(t[i], NULL), GT_ESHUTDOWN);
            CHECK_EQ(gt_timer_try_recv(t[i], NULL), GT_ESHUTDOWN);
            CHECK_LT(gt_timer_fd(t[1]), 0);
        }
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(c.runs, 0);
}

/* In a callback, after the timer was freed there. */
static void freed_inside(void *arg, uintptr_t seq, int64_t delay)
{
    gt_timer *t = *(gt_timer **)arg;

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_reset(t, 1), GT_ESTALE);
    CHECK_EQ(gt_timer_stop(t), GT_ESTALE);
    CHECK_EQ(gt_timer_set_slack(t, 1), GT_ESTALE);
    c.runs++;
}

TEST(time_errors_freed_in_its_callback, 10)
{
    gt_sched *s = virtual_sched();
    gt_timer *t;

    c.runs = 0;
    t = must(gt_sched_after_func(s, 10, freed_inside, &t, NULL));
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(c.runs, 1);
    close_sched(s);
}

/* ---- no more descriptors ---- */

TEST(time_errors_no_more_descriptors, 10)
{
    gt_sched *s = virtual_sched();
    gt_timer *t = must(gt_sched_new_timer(s, 10));
    struct rlimit old, low;
    int fd = dup(0);

    CHECK_GE(fd, 0);
    close(fd);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)fd;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    CHECK_EQ(gt_timer_fd(t), GT_EMFILE);
    CHECK_EQ(gt_timer_fd(t), GT_EMFILE);
    CHECK_GE(gt_sched_advance(s, 10), 0);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK_GE(gt_timer_fd(t), 0);
    CHECK_EQ(gt_timer_reset(t, 5), 0);
    CHECK_EQ(gt_sched_advance(s, 5), 1);
    CHECK_EQ(readable(gt_timer_fd(t)), 1);
    CHECK_EQ(gt_timer_free(t), 1);
    close_sched(s);
}

/* ---- no memory ---- */

static struct alloc_hook a;

/* Each call with its n-th request refused, for n = 1, 2, ... until it succeeds. */
TEST(time_errors_no_memory, 30)
{
    gt_timer *t[300];
    gt_sched *s;
    gt_p *p;
    int n;

    memset(&a, 0, sizeof a);
    c.runs = c.drops = 0;
    s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
    p = new_p(s);
    for (int i = 0; i < 300; i++) {
        gt_stats before = get_stats(s);
        int64_t denied = a.denied;

        for (n = 1; n < 100; n++) {
            alloc_hook_deny(&a, n);
            t[i] = i % 3 == 0   ? gt_sched_new_timer(s, 10)
                   : i % 3 == 1 ? gt_sched_new_ticker(s, 10)
                                : gt_sched_after_func(s, 10, count_run, &c, count_drop);
            alloc_hook_deny(&a, 0);
            if (t[i] != NULL)
                break;
            CHECK_EQ(gt_last_error(), GT_ENOMEM);
            CHECK_EQ(a.denied, ++denied);
            CHECK_EQ(get_stats(s).armed, before.armed);
            CHECK_EQ(get_stats(s).timers, before.timers);
            CHECK_EQ(c.drops, 0);
        }
        CHECK_LT(n, 100);
    }
    CHECK_GE(a.denied, 1);
    /* getting into a heap may need room: refused or done, never half */
    for (int i = 0; i < 300; i++) {
        if (i % 3 == 2)
            continue;
        for (n = 1; n < 100; n++) {
            int fd;

            alloc_hook_deny(&a, n);
            fd = gt_timer_fd(t[i]);
            alloc_hook_deny(&a, 0);
            if (fd >= 0)
                break;
            CHECK_EQ(fd, GT_ENOMEM);
        }
        CHECK_LT(n, 100);
    }
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(get_stats(s).pending, 300);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(c.runs, 100);
    for (int i = 0; i < 300; i++) {
        if (i % 3 != 2)
            CHECK_EQ(gt_timer_try_recv(t[i], NULL), 1);
        CHECK_EQ(gt_timer_free(t[i]), i % 3 == 1);
    }
    CHECK_EQ(c.drops, 100);
    check_conserved(s);
    free_p(p);
    close_sched(s);
    check_all_returned(&a);
}

/* ---- in a fork child that has not called gt_after_fork ---- */

struct parent {
    gt_sched *s;
    gt_timer *func, *chan, *tick;
    gt_netpoll *pd;
    int pipe[2];
};

static void child_is_told(void *arg)
{
    struct parent *f = arg;
    uint64_t id = 1;

    CHECK_EQ(gt_timer_stop(f->func), GT_EFORK);
    CHECK_EQ(gt_timer_reset(f->func, 1), GT_EFORK);
    CHECK_EQ(gt_timer_stop(f->chan), GT_EFORK);
    CHECK_EQ(gt_timer_reset(f->tick, 1), GT_EFORK);
    CHECK_EQ(gt_timer_recv(f->chan, NULL), GT_EFORK);
    CHECK_EQ(gt_timer_try_recv(f->chan, NULL), GT_EFORK);
    CHECK_EQ(gt_timer_fd(f->chan), GT_EFORK);
    CHECK_EQ(gt_timer_set_slack(f->func, 1), GT_EFORK);
    CHECK_EQ(gt_timer_stop_id(f->s, id), GT_EFORK);
    CHECK_EQ(gt_timer_reset_id(f->s, id, 1), GT_EFORK);
    CHECK_EQ(gt_timer_recv_id(f->s, id, NULL), GT_EFORK);
    CHECK_EQ(gt_timer_try_recv_id(f->s, id, NULL), GT_EFORK);
    NO_TIMER(gt_sched_after_func(f->s, 1, count_run, &c, NULL), GT_EFORK);
    NO_TIMER(gt_sched_new_timer(f->s, 1), GT_EFORK);
    NO_TIMER(gt_sched_new_ticker(f->s, 1), GT_EFORK);
    CHECK_EQ(gt_sched_sleep(f->s, 1), GT_EFORK);
    NO_TIMER(gt_after_func(1, count_run, &c, NULL), GT_EFORK);
    NO_TIMER(gt_new_timer(1), GT_EFORK);
    NO_TIMER(gt_new_ticker(1), GT_EFORK);
    NO_TIMER(gt_after(1), GT_EFORK);
    NO_TIMER(gt_tick(1), GT_EFORK);
    CHECK_EQ(gt_sleep(1), GT_EFORK);
    CHECK_EQ(gt_sched_run_until_idle(f->s, 1), GT_EFORK);
    CHECK_EQ(gt_synctest_join(f->s), GT_EFORK);
    CHECK_EQ(gt_synctest_wait(f->s), GT_EFORK);
    CHECK_EQ(gt_synctest_leave(f->s), GT_EFORK);
    CHECK_EQ(gt_runtime_start(NULL), GT_EFORK);
    CHECK_EQ(gt_runtime_stop(), GT_EFORK);
    CHECK_PTR_EQ(gt_netpoll_open(f->pipe[0]), NULL);
    CHECK_EQ(gt_last_error(), GT_EFORK);
    CHECK_EQ(gt_netpoll_wait(f->pd, GT_READ), GT_EFORK);
    CHECK_EQ(gt_netpoll_set_deadline(f->pd, GT_READ, 1), GT_EFORK);
    CHECK_EQ(gt_netpoll_close(f->pd), GT_EFORK);
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_timer_free(f->func), 1);
    CHECK_EQ(gt_timer_free(f->chan), 1);
    CHECK_EQ(gt_timer_free(f->tick), 1);
    check_conserved(f->s);
    close_sched(f->s);
    child_is_done();
}

TEST(time_errors_fork_child_is_told, 30)
{
    struct parent f;

    f.s = virtual_sched();
    f.func = must(gt_sched_after_func(f.s, 10, count_run, &c, NULL));
    f.chan = must(gt_sched_new_timer(f.s, 10));
    f.tick = must(gt_sched_new_ticker(f.s, 10));
    CHECK_EQ(pipe2(f.pipe, O_NONBLOCK), 0);
    rt_start(2);
    f.pd = gt_netpoll_open(f.pipe[0]);
    CHECK(f.pd != NULL);
    in_child(child_is_told, &f);
    CHECK_EQ(gt_timer_free(f.func), 1);
    CHECK_EQ(gt_timer_free(f.chan), 1);
    CHECK_EQ(gt_timer_free(f.tick), 1);
    CHECK_EQ(gt_netpoll_close(f.pd), 0);
    close_sched(f.s);
    rt_stop();
}
