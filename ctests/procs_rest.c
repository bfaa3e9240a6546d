/* Ps and scheds, the rest: descriptor 0, what a slot's next P finds, many Ps. */
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A program that has closed its standard input gets that number for a P. */
TEST(p_fd_is_number_0, 20)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = must(gt_sched_after_func(s, 10, count_run, &c, NULL));

    CHECK_EQ(close(0), 0);
    CHECK_EQ(gt_p_fd(p), 0);
    CHECK_EQ(gt_p_fd(p), 0);
    CHECK_EQ(readable(0), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 10), 0);
    CHECK_EQ(readable(0), 1);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(readable(0), 0);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(p);
    CHECK_EQ(fcntl(0, F_GETFD), -1);
    CHECK_EQ(errno, EBADF);
    close_sched(s);
}

/* The clock stops where a timer stood that was made later: nothing runs there, and that is said. */
TEST(virtual_stops_where_nothing_runs, 10)
{
    for (int idle = 0; idle <= 1; idle++) {
        gt_sched *s = virtual_sched();
        gt_p *p = new_p(s);
        struct counter c = {0};
        gt_timer *t = must(gt_sched_after_func(s, 10, count_run, &c, NULL));

        CHECK_EQ(gt_timer_reset(t, 30), 1);
        CHECK_EQ(idle ? gt_sched_run_until_idle(s, 20) : gt_sched_advance(s, 20), 0);
        CHECK_EQ(c.runs, 0);
        CHECK_EQ(idle ? gt_sched_run_until_idle(s, 20) : gt_sched_advance(s, 20), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* A wake that nobody took was for the P that is gone, not for the next one in its slot. */
TEST(p_new_has_no_old_wake, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *old = new_p(s), *p;

    CHECK_EQ(gt_notewakeup(old), 0);
    free_p(old);
    p = new_p(s);
    CHECK_EQ(gt_notetsleep(p, T0), 0);
    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notetsleep(p, T0), 1);
    CHECK_EQ(gt_notetsleep(p, T0), 0);
    free_p(p);
    close_sched(s);
}

/* As many Ps as go into three words of the table: each is found by those who look for what is due. */
TEST(ps_of_several_words_are_all_found, 20)
{
    enum { N = 150 };
    gt_sched *s = virtual_sched();
    static gt_p *p[N];
    static gt_timer *t[N];
    static struct counter c[N];

    for (int i = 0; i < N; i++)
        p[i] = new_p(s);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(gt_acquirep(p[i]), 0);
        t[i] = must(gt_sched_after_func(s, 1 + i, count_run, &c[i], NULL));
        CHECK(gt_releasep() == p[i]);
        CHECK_EQ(gt_nobarrier_wake_time(p[i]), T0 + 1 + i);
    }
    for (int i = N - 1; i >= 0; i -= 2)                  /* half of them stand in others' Ps then */
        free_p(p[i]);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(gt_time_sleep_until(s), T0 + 1 + i);
        CHECK_EQ(gt_sched_advance(s, 1), 1);
        CHECK_EQ(c[i].runs, 1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    CHECK_EQ(gt_sched_advance(s, N), 0);
    check_conserved(s);
    for (int i = 0; i < N; i += 2)
        free_p(p[i]);
    close_sched(s);
}

/* Timers of threads without a P go to each P in turn. */
TEST(ps_take_turns, 20)
{
    enum { N = 70 };
    gt_sched *s = virtual_sched();
    static gt_p *p[N];
    static gt_timer *t[2 * N];
    struct counter c = {0};

    for (int i = 0; i < N; i++)
        p[i] = new_p(s);
    for (int i = 0; i < 2 * N; i++)
        t[i] = must(gt_sched_after_func(s, 1 + i, count_run, &c, NULL));
    for (int i = 0; i < N; i++) {
        int64_t first = gt_nobarrier_wake_time(p[i]) - T0;

        CHECK_GE(first, 1);
        CHECK_LE(first, N);
    }
    for (int i = 0; i < 2 * N; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    for (int i = 0; i < N; i++)
        free_p(p[i]);
    close_sched(s);
}
