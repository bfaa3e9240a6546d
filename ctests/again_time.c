/* Bugs of package time that there have been: channels, their descriptors, deadlines that never
 * come. Above each test stands what broken library it catches. Those of bubbles are in
 * again_bubble.c, those of the runtime in again_rt.c; a fork that leaves sleepers behind is
 * fork_sleepers in time_fork.c. */
#include "rtkit.h"

/* ---- a channel's alarm cannot be armed again ---- */

static struct alloc_hook memory;

/* A pass of p over all Ps, as an idle worker makes it; out of memory or not. */
static void steal(gt_sched *s, gt_p *p, int no_memory)
{
    memory.deny_all = no_memory;
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(gt_check_others(s, p, 0, NULL, NULL), 1);
    memory.deny_all = 0;
}

static void fd_after_a_failed_alarm(int by_receiver)
{
    gt_sched *s;
    gt_p *home, *thief;
    gt_timer *t;
    struct waiter w;
    int64_t sent;
    int fd;

    memset(&memory, 0, sizeof memory);
    s = alloc_hook_sched(&memory, GT_CLOCK_VIRTUAL);
    CHECK(s != NULL);
    home = new_p(s);
    thief = new_p(s);
    t = must(gt_sched_new_ticker(s, MS));
    CHECK_EQ(gt_acquirep(home), 0);
    fd = gt_timer_fd(t);                              /* its alarm is in the heap of this P */
    CHECK_PTR_EQ(gt_releasep(), home);
    CHECK_EQ(gt_acquirep(thief), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + MS), 0);
    steal(s, thief, 1);                               /* the next one would be in the thief's */
    CHECK_GE(memory.denied, 1);
    CHECK_EQ(readable(fd), 1);
    if (by_receiver) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);         /* the value that is there: needs no alarm */
        CHECK_EQ(sent, T0 + MS);
        receiver_start(&w, t);
        CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_NE(gt_time_sleep_until(s), GT_MAX_WHEN);
        CHECK_EQ(gt_sched_advance(s, MS), 1);
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(w.sent, T0 + 2 * MS);
    } else {
        CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
        CHECK_EQ(sent, T0 + MS);
    }
    CHECK_EQ(readable(fd), 0);
    for (int i = 2 + by_receiver; i < 10; i++) {
        CHECK_EQ(gt_time_sleep_until(s), T0 + i * MS);
        CHECK_EQ(gt_sched_set_time(s, T0 + i * MS), 0);
        while (gt_check_timers(thief, 0, NULL, NULL) + gt_check_others(s, thief, 0, NULL, NULL) > 0) {}
        CHECK_EQ(readable(fd), 1);
        CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
        CHECK_EQ(sent, T0 + i * MS);
        CHECK_EQ(readable(fd), 0);
    }
    CHECK_PTR_EQ(gt_releasep(), thief);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    free_p(home);
    free_p(thief);
    close_sched(s);
    check_all_returned(&memory);
}

/* Catches a ticker whose descriptor is never readable again after its alarm could not be armed
 * for want of memory, just once: nobody tries again. Here who takes the value does. */
TEST(again_fd_dead_after_a_failed_alarm, 60) { fd_after_a_failed_alarm(0); }

/* The same with a receiver, for whom it stays silent too: he is not the first who waits, for the
 * descriptor does, and only the first one arms the alarm. */
TEST(again_receiver_after_a_failed_alarm, 20) { fd_after_a_failed_alarm(1); }

/* ---- what is read from a channel that nobody has looked at ---- */

/* Catches a gt_timer_when that does not see whether the time has come meanwhile. A channel timer
 * that nobody waits for is in no heap: who asks must find that out. */
TEST(again_when_of_a_channel_past_its_time, 10)
{
    gt_sched *s = virtual_sched();
    gt_timer *once = must(gt_sched_new_timer(s, MS)), *seen = must(gt_sched_new_timer(s, MS));
    gt_timer *tick = must(gt_sched_new_ticker(s, 3 * MS));
    int64_t sent;

    CHECK_GE(gt_timer_fd(seen), 0);
    CHECK_EQ(gt_timer_when(once), T0 + MS);
    CHECK_EQ(gt_timer_when(tick), T0 + 3 * MS);
    CHECK_EQ(gt_sched_advance(s, 10 * MS), 1);
    CHECK_EQ(gt_timer_when(seen), 0);                 /* looked at by its alarm */
    CHECK_EQ(gt_timer_when(once), 0);
    CHECK_EQ(gt_timer_when_id(s, gt_timer_id(once)), 0);
    CHECK_EQ(gt_timer_when(tick), T0 + 12 * MS);
    CHECK_EQ(gt_timer_when_id(s, gt_timer_id(tick)), T0 + 12 * MS);
    CHECK_EQ(gt_timer_try_recv(once, &sent), 1);      /* the question took nothing away */
    CHECK_EQ(sent, T0 + MS);
    CHECK_EQ(gt_timer_try_recv(tick, &sent), 1);
    CHECK_EQ(sent, T0 + 3 * MS);
    CHECK_EQ(gt_timer_try_recv(seen, &sent), 1);
    CHECK_EQ(gt_timer_free(once), 0);
    CHECK_EQ(gt_timer_free(seen), 0);
    CHECK_EQ(gt_timer_free(tick), 1);
    check_conserved(s);
    close_sched(s);
}

/* ---- timers for the end of time ---- */

/* Catches a gt_check_timers that gives the end of time as the time to sleep until: such timers
 * never fire, so it is 0, no need to look again. */
TEST(again_poll_until_the_end_of_time, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *never = new_timer(s, &c), *moved = new_timer(s, &c), *soon = new_timer(s, &c);

    CHECK_EQ(gt_addtimer_on(p, never, GT_MAX_WHEN, 0), 0);
    CHECK_EQ(until_at(p, T0), 0);                     /* nothing is due: no pass */
    CHECK_EQ(gt_addtimer_on(p, soon, T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer_on(p, moved, T0 + 20, 0), 0);
    CHECK_EQ(until_at(p, T0), T0 + 10);
    CHECK_EQ(gt_resettimer(moved, GT_MAX_WHEN, 0), 1);
    CHECK_EQ(until_at(p, T0 + 15), 0);                /* after a pass */
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_resettimer(soon, T0 + 30, 0), 0);
    CHECK_EQ(until_at(p, T0 + 15), T0 + 30);
    CHECK_EQ(gt_timer_free(soon), 1);
    CHECK_EQ(gt_timer_free(moved), 1);
    CHECK_EQ(gt_timer_free(never), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* Catches a gt_timer_set_slack that says "done" for a timer that was shut down. */
TEST(again_slack_of_a_timer_that_was_shut_down, 10)
{
    gt_sched *s = virtual_sched();
    gt_timer *t = gt_timer_new(s, count_run, NULL, NULL);

    CHECK(t != NULL);
    CHECK_EQ(gt_timer_set_slack(t, 5), 0);
    CHECK_EQ(gt_shutdown_timer(t), 0);
    CHECK_EQ(gt_timer_set_slack(t, 7), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(t), 0);
    close_sched(s);
}
