/* gt_notetsleep and gt_notewakeup: how a worker sleeps until its next deadline with the
 * default host, and how it is woken. */
#include "rules.h"

#include <sys/syscall.h>
#include <unistd.h>

struct sleeper {
    gt_p *p;
    int64_t until;
    atomic_int tid, started, result, done;
};

static void *sleeps(void *arg)
{
    struct sleeper *sl = arg;

    sl->tid = (int)syscall(SYS_gettid);
    sl->started = 1;
    sl->result = gt_notetsleep(sl->p, sl->until);
    sl->done = 1;
    return NULL;
}

TEST(sleep_until_the_time_comes, 60)
{
    for (uint32_t clock = GT_CLOCK_MONOTONIC; clock <= GT_CLOCK_WALL; clock++) {
        gt_sched *s = new_sched(clock);
        gt_p *p = gt_p_new(s);

        for (int i = 0; i < 10; i++) {
            int64_t until = gt_nanotime(s) + i * MS + 1;

            CHECK_EQ(gt_notetsleep(p, until), 0);
            CHECK_GE(gt_nanotime(s), until);        /* never early */
        }
        CHECK_EQ(gt_notetsleep(p, gt_nanotime(s)), 0);
        CHECK_EQ(gt_notetsleep(p, 1), 0);           /* long past */
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
    }
}

TEST(sleep_a_wake_before_it_returns_at_once, 60)
{
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    gt_p *p = gt_p_new(s);
    int64_t until;

    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notetsleep(p, 0), 1);               /* for ever, but for the wake */
    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notewakeup(p), 0);                  /* two are one */
    CHECK_EQ(gt_notetsleep(p, GT_MAX_WHEN), 1);
    until = gt_nanotime(s) + 10 * MS;
    CHECK_EQ(gt_notetsleep(p, until), 0);
    CHECK_GE(gt_nanotime(s), until);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(sleep_is_woken_from_another_thread, 60)
{
    static const int64_t untils[] = {0, GT_MAX_WHEN, GT_MAX_WHEN - 1};

    for (int i = 0; i < 6; i++) {
        gt_sched *s = new_sched(i < 3 ? GT_CLOCK_MONOTONIC : GT_CLOCK_VIRTUAL);
        struct sleeper sl = {.until = untils[i % 3]};
        pthread_t th;

        sl.p = gt_p_new(s);
        th = thread_start(sleeps, &sl);
        wait_for(&sl.started, 1);
        sleep_ms(20);
        CHECK_EQ(sl.done, 0);
        CHECK_EQ(gt_notewakeup(sl.p), 0);
        thread_join(th);
        CHECK_EQ(sl.result, 1);
        CHECK_EQ(gt_p_free(sl.p), 0);
        close_sched(s);
    }
}

TEST(sleep_wakes_only_its_own_p, 60)
{
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    struct sleeper sl = {.until = 0};
    gt_p *other = gt_p_new(s);
    pthread_t th;

    sl.p = gt_p_new(s);
    th = thread_start(sleeps, &sl);
    wait_for(&sl.started, 1);
    CHECK_EQ(gt_notewakeup(other), 0);
    sleep_ms(20);
    CHECK_EQ(sl.done, 0);
    CHECK_EQ(gt_notetsleep(other, 0), 1);
    CHECK_EQ(gt_notewakeup(sl.p), 0);
    thread_join(th);
    CHECK_EQ(sl.result, 1);
    CHECK_EQ(gt_p_free(sl.p), 0);
    CHECK_EQ(gt_p_free(other), 0);
    close_sched(s);
}

TEST(sleep_virtual_until_the_clock_is_moved, 60)
{
    for (int advance = 0; advance < 2; advance++) {
        gt_sched *s = virtual_sched();
        struct sleeper sl = {.until = T0 + 100};
        pthread_t th;

        sl.p = gt_p_new(s);
        th = thread_start(sleeps, &sl);
        wait_for(&sl.started, 1);
        sleep_ms(10);
        CHECK_EQ(sl.done, 0);
        if (advance)
            CHECK_EQ(gt_sched_advance(s, 100), 0);
        else
            CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
        thread_join(th);
        CHECK_GE(sl.result, 0);
        CHECK_EQ(gt_notetsleep(sl.p, T0 + 50), 0);
        CHECK_EQ(gt_p_free(sl.p), 0);
        close_sched(s);
    }
}

TEST(sleep_ends_when_its_p_is_freed, 60)
{
    for (int i = 0; i < 4; i++) {
        gt_sched *s = new_sched(i < 2 ? GT_CLOCK_MONOTONIC : GT_CLOCK_VIRTUAL);
        struct sleeper sl = {.until = i % 2 ? GT_MAX_WHEN : 0};
        pthread_t th;

        sl.p = gt_p_new(s);
        th = thread_start(sleeps, &sl);
        wait_for(&sl.started, 1);
        CHECK_EQ(wait_blocked(&sl.tid, NULL, 0, 60000), 1);
        CHECK_EQ(sl.done, 0);
        CHECK_EQ(gt_p_free(sl.p), 0);
        thread_join(th);
        CHECK_EQ(sl.result, GT_ESTALE);
        close_sched(s);
    }
}

/* ---- a worker as the header shows it ---- */

struct worker {
    gt_sched *s;
    gt_p *p;
    atomic_int stop;
};

static void *works(void *arg)
{
    struct worker *w = arg;

    CHECK_EQ(gt_acquirep(w->p), 0);
    while (!w->stop) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(w->p, 0, &now, &until), 0);
        if (until != 0 && until <= now)
            continue;
        CHECK_GE(gt_notetsleep(w->p, until), 0);
    }
    CHECK_PTR_EQ(gt_releasep(), w->p);
    return NULL;
}

TEST(sleep_worker_loop, 120)
{
    enum { N = 60 };
    struct worker w = {0};
    struct counter c[N] = {0};
    gt_timer *t[N];
    uint64_t rng = test_seed();
    pthread_t th;

    w.s = new_sched(GT_CLOCK_MONOTONIC);
    w.p = gt_p_new(w.s);
    th = thread_start(works, &w);
    for (int i = 0; i < N; i++)
        t[i] = gt_timer_new(w.s, count_run, &c[i], count_drop);
    for (int i = 0; i < N; i++) {
        /* each time earlier than what the worker sleeps for: by arming, or by a re-arm */
        int64_t when = gt_nanotime(w.s) + (int64_t)rng_below(&rng, 3000000);

        if (i % 2 == 0) {
            CHECK_EQ(gt_addtimer(t[i], when, 0), 0);
        } else {
            CHECK_EQ(gt_addtimer(t[i], when + 3600 * SEC, 0), 0);
            CHECK_EQ(gt_resettimer(t[i], when, 0), 1);
        }
        if (i % 3 == 0)
            wait_for(&c[i].runs, 1);
    }
    for (int i = 0; i < N; i++)
        wait_for(&c[i].runs, 1);
    w.stop = 1;
    CHECK_EQ(gt_notewakeup(w.p), 0);
    thread_join(th);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(c[i].runs, 1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    CHECK_EQ(get_stats(w.s).fired, N);
    check_conserved(w.s);
    CHECK_EQ(gt_p_free(w.p), 0);
    close_sched(w.s);
}
