/* Package time, the rest: what a call leaves behind, also one that was refused, and windows between two threads. */
#include "rtkit.h"

#include <sys/prctl.h>
#include <unistd.h>

static void sleeps_with(unsigned long slack)
{
    CHECK_EQ(prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0), 0);
    CHECK_EQ(gt_sleep(MS), 0);
    CHECK_EQ(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), (int)slack);
}

/* A thread sleeps precisely in gt_sleep, and has its own slack again after it. */
TEST(sleep_leaves_the_threads_slack, 20)
{
    sleeps_with(50000);
    sleeps_with(7);
    sleeps_with(1);
}

static int64_t counted_clock(void *calls)
{
    ++*(atomic_int *)calls;
    return mono_now();
}

/* It sleeps in the kernel between its looks at a clock that the kernel does not know, every 20 ms. */
TEST(sleep_looks_at_the_clock_from_time_to_time, 20)
{
    atomic_int calls = 0;
    gt_host host = {.size = sizeof host, .ctx = &calls, .nanotime = counted_clock};
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_HOST, .host = &host};
    gt_sched *s = gt_sched_new(&cfg);

    CHECK(s != NULL);
    CHECK_EQ(gt_sched_sleep(s, 200 * MS), 0);
    CHECK_LT(calls, 100);
    CHECK_EQ(gt_sched_free(s), 0);
}

/* Whose sched is gone has nothing to leave any more. */
TEST(synctest_join_after_the_sched_is_gone, 20)
{
    gt_sched *s = virtual_sched(), *next;
    gt_timer *t = must(gt_sched_new_timer(s, SEC));

    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_sched_free(s), 0);
    next = virtual_sched();
    CHECK_EQ(gt_synctest_join(next), 0);
    CHECK_EQ(gt_synctest_join(next), GT_EBUSY);
    CHECK_EQ(gt_sched_sleep(next, SEC), 0);
    CHECK_EQ(gt_synctest_leave(next), 0);
    CHECK_GE(gt_timer_free(t), 0);
    CHECK_EQ(gt_synctest_join(next), 0);
    CHECK_EQ(gt_synctest_leave(next), 0);
    close_sched(next);
}

static _Thread_local int pins_left;
static atomic_int held_up, go_on;

static void holds_up(void *ctx)
{
    (void)ctx;
    if (pins_left > 0 && --pins_left == 0) {
        held_up = 1;
        wait_for(&go_on, 1);
    }
}

static void no_release(void *ctx) { (void)ctx; }

static int receives_in_the_bubble(struct waiter *w)
{
    int r;

    CHECK_EQ(gt_synctest_join(w->s), 0);
    r = gt_timer_recv(w->t, &w->sent);
    CHECK_EQ(gt_synctest_leave(w->s), 0);
    return r;
}

static void *frees_and_is_held_up(void *t)
{
    pins_left = 2;                                   /* the second time the receiver is off its queue */
    CHECK_EQ(gt_timer_free(t), 1);
    return NULL;
}

/* Somebody outside the bubble has taken the receiver off its queue, and not woken it yet, when the bubble finds
 * that nobody is left who could: the receiver waits for him, who would else wake one that is gone. */
TEST(synctest_receiver_that_is_about_to_be_woken, 20)
{
    gt_host host = {.size = sizeof host, .acquirem = holds_up, .releasem = no_release};
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL, .host = &host};
    gt_sched *s = gt_sched_new(&cfg);
    struct waiter w = {.s = s};
    pthread_t th;

    CHECK(s != NULL);
    CHECK_EQ(gt_synctest_join(s), 0);
    w.t = must(gt_sched_new_timer(s, SEC));
    waiter_start(&w, receives_in_the_bubble);
    CHECK_EQ(waiter_blocked(&w), 1);
    th = thread_start(frees_and_is_held_up, w.t);
    wait_for(&held_up, 1);
    CHECK_EQ(gt_synctest_leave(s), 0);
    CHECK_EQ(waiter_blocked(&w), 1);
    go_on = 1;
    thread_join(th);
    CHECK_EQ(waiter_join(&w), GT_ESTALE);
    CHECK_EQ(gt_sched_free(s), 0);
}

/* A program that has closed its standard input gets that number. */
TEST(time_fd_is_number_0, 20)
{
    gt_sched *s = virtual_sched();
    gt_timer *t = must(gt_sched_new_timer(s, 10));

    CHECK_EQ(close(0), 0);
    CHECK_EQ(gt_timer_fd(t), 0);
    CHECK_EQ(gt_timer_fd(t), 0);
    CHECK_EQ(readable(0), 0);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(readable(0), 1);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
    CHECK_EQ(readable(0), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    close_sched(s);
}

/* A descriptor that there was no memory for is no waiter: the timer stays out of the heap. */
TEST(time_fd_refused_is_no_waiter, 20)
{
    static struct alloc_hook a;
    gt_sched *s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
    gt_p *p = new_p(s);
    gt_timer *t = must(gt_sched_new_timer(s, 10));
    int fds = fd_count();

    alloc_hook_deny(&a, 1);
    CHECK_EQ(gt_timer_fd(t), GT_ENOMEM);
    CHECK_EQ(a.denied, 1);
    alloc_hook_deny(&a, 0);
    CHECK_EQ(fd_count(), fds);
    CHECK_EQ(gt_timer_reset(t, 20), 1);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_GE(gt_timer_fd(t), 0);
    CHECK_EQ(gt_p_num_timers(p), 1);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    CHECK_EQ(gt_sched_free(s), 0);
    check_all_returned(&a);
}

/* A receiver is handed its value by somebody who looks before the alarm goes off. Nobody waits then, and when the
 * timer is reset the alarm of before goes. */
TEST(chan_alarm_goes_with_its_receiver, 20)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer *t = must(gt_sched_new_timer(s, 10));
    struct waiter w;

    receiver_start(&w, t);
    CHECK_EQ(waiter_blocked(&w), 1);
    CHECK_EQ(gt_sched_set_time(s, T0 + 10), 0);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);         /* the first who waited gets it */
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 10);
    CHECK_EQ(gt_timer_reset(t, 20), 0);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* One who is given up leaves the queue, and the others keep their order, whether there is a descriptor or not. */
TEST(chan_order_after_one_is_given_up, 20)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer *t = must(gt_sched_new_timer(s, 10));
    struct waiter w[3];

    CHECK_GE(gt_timer_fd(t), 0);
    CHECK_EQ(gt_timer_stop(t), 1);
    for (int i = 0; i < 3; i++) {
        receiver_start(&w[i], t);
        CHECK_EQ(waiter_blocked(&w[i]), 1);
    }
    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_timer_recv(t, NULL), GT_EDEADLK);
    CHECK_EQ(gt_synctest_leave(s), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(gt_timer_reset(t, 10), 0);
        CHECK_EQ(gt_sched_advance(s, 10), 1);
        CHECK_EQ(waiter_join(&w[i]), 0);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}
