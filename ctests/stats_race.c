/* Counters that are read while others use the sched: not exact, but never absurd. */
#include "rtkit.h"

static _Thread_local int reads;
static atomic_int reading, done;

static void lets_the_other_in(void *ctx)
{
    (void)ctx;
    if (reads && !reading) {
        reading = 1;
        wait_for(&done, 1);
    }
}

static void no_release(void *ctx) { (void)ctx; }

struct other {
    gt_sched *s;
    gt_timer *t;
};

static void *receives_before_the_alarm(void *arg)
{
    struct other *o = arg;

    wait_for(&reading, 1);
    CHECK_EQ(gt_timer_reset(o->t, 10), 0);
    CHECK_EQ(gt_sched_set_time(o->s, gt_nanotime(o->s) + 10), 0);
    CHECK_EQ(gt_timer_try_recv(o->t, NULL), 1);
    done = 1;
    return NULL;
}

/* Armed timers are counted first, and then what of them are only channels' alarms. In between a channel is
 * armed, and its value received before the alarm goes off. */
TEST(stats_pending_is_never_below_0, 20)
{
    gt_host host = {.size = sizeof host, .acquirem = lets_the_other_in, .releasem = no_release};
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL, .host = &host};
    struct other o = {.s = gt_sched_new(&cfg)};
    gt_p *p = new_p(o.s);
    gt_stats st = {.size = sizeof st};
    pthread_t th;

    o.t = must(gt_sched_new_timer(o.s, 10));
    CHECK_GE(gt_timer_fd(o.t), 0);                   /* counts as a waiter: it has an alarm */
    CHECK_EQ(gt_timer_stop(o.t), 1);
    th = thread_start(receives_before_the_alarm, &o);
    reads = 1;
    CHECK_EQ(gt_stats_get(o.s, &st), 0);
    reads = 0;
    CHECK_EQ(reading, 1);
    thread_join(th);
    CHECK(st.pending <= 1);                          /* and not 2^64 - 1 */
    CHECK_EQ(get_stats(o.s).pending, 0);
    CHECK_EQ(gt_timer_free(o.t), 0);
    check_conserved(o.s);
    free_p(p);
    close_sched(o.s);
}
