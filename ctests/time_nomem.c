/* Package time, no memory for the alarm of a channel: it goes into the heap of the P that the
 * calling thread is bound to, and that of a P that was never used has no room yet. Each call says
 * GT_ENOMEM and changes nothing; who waits already is told. That who looks
 * next tries again is in again_time.c. */
#include "rtkit.h"

static struct alloc_hook a;
static gt_sched *s;
static gt_p *p, *fresh;

static void up(void)
{
    memset(&a, 0, sizeof a);
    CHECK((s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL)) != NULL);
    p = new_p(s);
    fresh = new_p(s);
}

static void down(void)
{
    check_conserved(s);
    free_p(p);
    free_p(fresh);
    close_sched(s);
    check_all_returned(&a);
}

/* From now on what the calling thread arms would go to the fresh P, for which there is no room. */
static void no_room(void)
{
    CHECK_EQ(gt_acquirep(fresh), 0);
    a.deny_all = 1;
}

static void room(void)
{
    CHECK_GE(a.denied, 1);
    a.deny_all = 0;
    a.denied = 0;
    CHECK_PTR_EQ(gt_releasep(), fresh);
}

/* A ticker that somebody waits for on p, which ticks while the alarm cannot be armed again. */
static void tick_without_room(void)
{
    CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
    no_room();
    CHECK_EQ(gt_check_others(s, fresh, 0, NULL, NULL), 1);
    room();
    CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
}

/* Receivers on a thread without a P: their alarm goes to the P where it was last, p. */
static gt_timer *ticker_on_p(void)
{
    gt_timer *t;

    CHECK_EQ(gt_acquirep(p), 0);
    t = must(gt_sched_new_ticker(s, 100));
    CHECK_PTR_EQ(gt_releasep(), p);
    return t;
}

TEST(time_nomem_receiver_is_refused, 30)
{
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 100));
    no_room();
    CHECK_EQ(gt_timer_recv(t, NULL), GT_ENOMEM);
    CHECK_EQ(gt_timer_recv(t, NULL), GT_ENOMEM);
    room();
    CHECK_EQ(gt_p_num_timers(p) + gt_p_num_timers(fresh), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 1);         /* it waits no more, so the value is not his */
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

TEST(time_nomem_reset_changes_nothing, 30)
{
    gt_timer *t;
    int64_t sent;
    int fd;

    up();
    CHECK_EQ(gt_acquirep(p), 0);
    t = must(gt_sched_new_timer(s, 100));
    fd = gt_timer_fd(t);
    CHECK_GE(fd, 0);
    CHECK_PTR_EQ(gt_releasep(), p);
    CHECK_EQ(gt_sched_advance(s, 100), 1);
    no_room();
    CHECK_EQ(gt_timer_reset(t, 50), GT_ENOMEM);
    room();
    CHECK_EQ(readable(fd), 1);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, T0 + 100);
    CHECK_EQ(gt_sched_advance(s, 100), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

TEST(time_nomem_who_waits_is_told, 10)
{
    struct waiter first, second;
    gt_timer *t;

    up();
    t = ticker_on_p();
    receiver_start(&first, t);
    CHECK_EQ(waiter_blocked(&first), 1);
    receiver_start(&second, t);
    CHECK_EQ(waiter_blocked(&second), 1);
    tick_without_room();
    CHECK_EQ(waiter_join(&first), 0);
    CHECK_EQ(first.sent, T0 + 100);
    CHECK_EQ(waiter_join(&second), GT_ENOMEM);
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}
