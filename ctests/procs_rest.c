/* Ps and scheds, the rest: descriptor 0, what a slot's next P finds, many Ps, a fork child's descriptors. */
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

/* Nor the old one's descriptor, which is closed. */
TEST(p_new_has_no_old_descriptor, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    int fd = gt_p_fd(p);

    CHECK_GE(fd, 0);
    free_p(p);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    p = new_p(s);
    CHECK_EQ(gt_p_fd(p), fd);                            /* the lowest number that is free */
    CHECK_GE(fcntl(fd, F_GETFD), 0);
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

struct forked {
    gt_sched *s;
    gt_p *p;
    gt_timer *zero, *bare;
};

static void numbers_in_child(void *arg)
{
    struct forked *f = arg;

    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_timer_reset(f->bare, 10), 1);
    CHECK_EQ(gt_p_num_timers(f->p), 1);                  /* nobody waits for this one, here neither */
    CHECK_EQ(gt_timer_fd(f->zero), 0);
    CHECK_EQ(gt_sched_advance(f->s, 10), 1);
    CHECK_EQ(readable(0), 1);
    CHECK_EQ(gt_timer_try_recv(f->bare, NULL), 1);
    child_is_done();
}

/* In a fork child a channel's descriptor is its own too if it is number 0, and a channel without one still has
 * none. */
TEST(fork_channels_with_number_0_and_with_none, 20)
{
    struct forked f = {.s = virtual_sched()};

    f.p = new_p(f.s);
    f.zero = must(gt_sched_new_timer(f.s, 10));
    f.bare = must(gt_sched_new_timer(f.s, 10));
    CHECK_EQ(close(0), 0);
    CHECK_EQ(gt_timer_fd(f.zero), 0);
    CHECK_EQ(gt_p_num_timers(f.p), 1);
    in_child(numbers_in_child, &f);
    CHECK_EQ(readable(0), 0);                            /* what the child did is not seen here */
    CHECK_EQ(gt_timer_free(f.zero), 1);
    CHECK_EQ(gt_timer_free(f.bare), 1);
    free_p(f.p);
    close_sched(f.s);
}
