/* Package time, timers and tickers with a channel (rule S15), one thread, virtual clock: when a
 * value is there, which time it carries, what stop and reset report, and that a channel timer
 * which nobody waits on stays out of the heap. */
#include "rtkit.h"

static gt_sched *s;
static gt_p *p;

static void up(void)
{
    s = virtual_sched();
    p = new_p(s);
}

static void down(void)
{
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* The counters that the armings of channel timers end in. */
static void counted(uint64_t armed, uint64_t fired, uint64_t stopped, uint64_t replaced)
{
    gt_stats st = get_stats(s);

    CHECK_EQ(st.armed, armed);
    CHECK_EQ(st.fired, fired);
    CHECK_EQ(st.stopped, stopped);
    CHECK_EQ(st.replaced, replaced);
    CHECK_EQ(st.pending, armed - fired - stopped - replaced);
}

static void no_value(gt_timer *t)
{
    int64_t sent = -77;

    CHECK_EQ(gt_timer_try_recv(t, &sent), 0);
    CHECK_EQ(sent, -77);
}

static void value(gt_timer *t, int64_t want)
{
    int64_t sent = -77;

    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, want);
}

TEST(time_chan_value_at_its_time, 10)
{
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 100));
    CHECK_EQ(gt_timer_when(t), T0 + 100);
    no_value(t);
    CHECK_GE(gt_sched_advance(s, 99), 0);
    no_value(t);
    CHECK_GE(gt_sched_advance(s, 1), 0);
    value(t, T0 + 100);
    no_value(t);
    CHECK_EQ(gt_timer_when(t), 0);
    CHECK_GE(gt_sched_advance(s, 1000), 0);
    no_value(t);
    counted(1, 1, 0, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* Looked at late, the value still carries the time at which it should have fired. */
TEST(time_chan_value_carries_its_own_time, 10)
{
    gt_timer *t[4];

    up();
    for (int i = 0; i < 4; i++)
        t[i] = must(gt_sched_new_timer(s, 100 + i));
    CHECK_EQ(gt_sched_set_time(s, T0 + 1000000), 0);
    for (int i = 3; i >= 0; i--) {
        int64_t sent = 0;

        if (i % 2)
            value(t[i], T0 + 100 + i);
        else {
            CHECK_EQ(gt_timer_recv(t[i], &sent), 0);
            CHECK_EQ(sent, T0 + 100 + i);
        }
        no_value(t[i]);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    down();
}

TEST(time_chan_sent_may_be_null, 10)
{
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 0));
    CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_reset(t, 0), 0);
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    no_value(t);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

TEST(time_chan_nothing_to_wait_for, 10)
{
    const int64_t d[] = {0, -1, -5 * SEC, INT64_MIN};

    for (size_t i = 0; i < sizeof d / sizeof d[0]; i++) {
        int64_t sent = 0;
        gt_timer *t;

        up();
        CHECK_EQ(gt_sched_set_time(s, T0 + 5), 0);
        t = must(gt_sched_new_timer(s, d[i]));
        value(t, T0 + 5);
        CHECK_EQ(gt_timer_reset(t, d[i]), 0);
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_EQ(sent, T0 + 5);
        CHECK_EQ(gt_timer_reset(t, 100), 0);
        CHECK_EQ(gt_timer_reset(t, d[i]), 1);
        value(t, T0 + 5);
        counted(4, 3, 0, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        down();
    }
}

TEST(time_chan_overflow_is_never, 10)
{
    const int64_t d[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX - T0, INT64_MAX - T0 + 1};

    for (size_t i = 0; i < sizeof d / sizeof d[0]; i++) {
        gt_timer *t, *tick;

        up();
        t = must(gt_sched_new_timer(s, d[i]));
        tick = must(gt_sched_new_ticker(s, d[i]));
        CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
        CHECK_EQ(gt_timer_when(tick), GT_MAX_WHEN);
        CHECK_EQ(gt_sched_set_time(s, T0 + 3000000000 * SEC), 0);
        no_value(t);
        no_value(tick);
        CHECK_EQ(gt_timer_reset(t, d[i]), 1);
        CHECK_EQ(gt_timer_reset(tick, d[i]), 1);
        no_value(t);
        no_value(tick);
        CHECK_EQ(gt_timer_stop(t), 1);
        CHECK_EQ(gt_timer_stop(tick), 1);
        CHECK_EQ(gt_timer_reset(t, 10), 0);
        CHECK_EQ(gt_timer_reset(tick, 10), 0);
        CHECK_GE(gt_sched_advance(s, 10), 0);
        CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
        CHECK_EQ(gt_timer_try_recv(tick, NULL), 1);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(gt_timer_free(tick), 1);
        down();
    }
}

/* At GT_MAX_WHEN itself, the end of time, it still has not fired. */
TEST(time_chan_end_of_time, 10)
{
    gt_timer *t, *u;

    up();
    t = must(gt_sched_new_timer(s, INT64_MAX));
    u = must(gt_sched_new_timer(s, INT64_MAX - T0 - 1));
    CHECK_EQ(gt_sched_set_time(s, INT64_MAX), 0);
    value(u, INT64_MAX - 1);
    no_value(t);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 0);
    down();
}

/* ---- what stop and reset report, and no stale value after them ---- */

/* The states in which stop and reset find a one-shot. In `buffered` the heap has sent the
 * value (somebody waits on the fd); in `due` nobody has looked yet. */
enum state { PENDING, DUE, BUFFERED, RECEIVED, STOPPED, STATES };

static gt_timer *in_state(enum state st)
{
    gt_timer *t = must(gt_sched_new_timer(s, 100));

    switch (st) {
    case PENDING: break;
    case DUE: CHECK_GE(gt_sched_advance(s, 150), 0); break;
    case BUFFERED:
        CHECK_GE(gt_timer_fd(t), 0);
        CHECK_EQ(gt_sched_advance(s, 150), 1);
        CHECK_EQ(readable(gt_timer_fd(t)), 1);
        break;
    case RECEIVED:
        CHECK_GE(gt_sched_advance(s, 150), 0);
        value(t, T0 + 100);
        break;
    default: CHECK_EQ(gt_timer_stop(t), 1); break;
    }
    return t;
}

TEST(time_chan_stop_results, 10)
{
    for (enum state st = 0; st < STATES; st++) {
        int was = st == PENDING || st == DUE || st == BUFFERED;
        gt_timer *t;

        up();
        t = in_state(st);
        CHECK_EQ(gt_timer_stop(t), was);
        no_value(t);
        CHECK_EQ(gt_timer_stop(t), 0);
        CHECK_EQ(gt_timer_when(t), 0);
        CHECK_GE(gt_sched_advance(s, 1000), 0);
        no_value(t);
        counted(1, st == RECEIVED, st != RECEIVED, 0);
        CHECK_EQ(gt_timer_free(t), 0);
        counted(1, st == RECEIVED, st != RECEIVED, 0);
        down();
    }
}

TEST(time_chan_reset_results, 10)
{
    for (enum state st = 0; st < STATES; st++)
        for (int64_t d = -1; d <= 200; d += 67) {
            int was = st == PENDING || st == DUE || st == BUFFERED;
            int64_t now, at;
            gt_timer *t;

            up();
            t = in_state(st);
            now = gt_nanotime(s);
            at = now + (d > 0 ? d : 0);
            CHECK_EQ(gt_timer_reset(t, d), was);
            if (d > 0) {
                CHECK_EQ(gt_timer_when(t), at);
                no_value(t);
                CHECK_GE(gt_sched_advance(s, d - 1), 0);
                no_value(t);
                CHECK_GE(gt_sched_advance(s, 1), 0);
            }
            if (st == BUFFERED)
                CHECK_GE(gt_sched_advance(s, 0), 0);   /* in the heap: it is run from there */
            value(t, at);
            no_value(t);
            CHECK_GE(gt_sched_advance(s, 1000), 0);
            no_value(t);
            counted(2, 1 + (st == RECEIVED), st == STOPPED, (uint64_t)was);
            CHECK_EQ(gt_timer_free(t), 0);
            down();
        }
}

TEST(time_chan_free_results, 10)
{
    for (enum state st = 0; st < STATES; st++)
        for (int how = 0; how < 3; how++) {
            int was = st == PENDING || st == DUE || st == BUFFERED;
            uint64_t id;
            gt_timer *t;

            up();
            t = in_state(st);
            id = gt_timer_id(t);
            if (how == 0)
                CHECK_EQ(gt_timer_free(t), was);
            else if (how == 1)
                CHECK_EQ(gt_timer_free_id(s, id), was);
            else {
                CHECK_EQ(gt_shutdown_timer(t), was);
                CHECK_EQ(gt_timer_reset(t, 1), GT_ESHUTDOWN);
                CHECK_LE(gt_timer_stop(t), 0);
                CHECK_EQ(gt_timer_try_recv(t, NULL), GT_ESHUTDOWN);
                CHECK_EQ(gt_timer_recv(t, NULL), GT_ESHUTDOWN);
                CHECK_EQ(gt_timer_free(t), 0);
            }
            counted(1, st == RECEIVED, st != RECEIVED, 0);
            CHECK_EQ(gt_timer_stop_id(s, id), GT_ESTALE);
            CHECK_EQ(gt_timer_reset_id(s, id, 1), GT_ESTALE);
            CHECK_EQ(gt_timer_try_recv_id(s, id, NULL), GT_ESTALE);
            CHECK_EQ(gt_timer_recv_id(s, id, NULL), GT_ESTALE);
            CHECK_GE(gt_sched_advance(s, 1000), 0);
            CHECK_GE(gt_trim(p), 0);
            CHECK_EQ(get_stats(s).timers, 0);
            down();
        }
}

/* One firing is told of once: after a stop that said 1, reset says 0 (golang/go#80760). */
TEST(time_chan_one_firing_one_answer, 10)
{
    for (int buffered = 0; buffered < 2; buffered++) {
        gt_timer *t;

        up();
        t = must(gt_sched_new_timer(s, 10));
        if (buffered)
            CHECK_GE(gt_timer_fd(t), 0);
        for (uint64_t i = 1; i <= 100; i++) {
            CHECK_GE(gt_sched_advance(s, 10), 0);
            CHECK_EQ(gt_timer_stop(t), 1);
            counted(i, 0, i, 0);
            CHECK_EQ(gt_timer_reset(t, 10), 0);
            counted(i + 1, 0, i, 0);
        }
        CHECK_GE(gt_sched_advance(s, 10), 0);
        for (uint64_t i = 1; i <= 100; i++) {
            CHECK_EQ(gt_timer_reset(t, 10), 1);
            counted(101 + i, 0, 100, i);
            CHECK_GE(gt_sched_advance(s, 10), 0);
        }
        CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
        CHECK_EQ(gt_timer_stop(t), 0);
        counted(201, 1, 100, 100);
        CHECK_EQ(gt_timer_free(t), 0);
        down();
    }
}

TEST(time_chan_by_id, 10)
{
    int64_t sent = 0;
    gt_timer *t;
    uint64_t id;

    up();
    t = must(gt_sched_new_timer(s, 10));
    id = gt_timer_id(t);
    CHECK_NE(id, 0);
    CHECK_EQ(gt_timer_when_id(s, id), T0 + 10);
    CHECK_EQ(gt_timer_try_recv_id(s, id, &sent), 0);
    CHECK_EQ(gt_timer_reset_id(s, id, 5), 1);
    CHECK_GE(gt_sched_advance(s, 7), 0);
    CHECK_EQ(gt_timer_try_recv_id(s, id, &sent), 1);
    CHECK_EQ(sent, T0 + 5);
    CHECK_EQ(gt_timer_reset_id(s, id, 5), 0);
    CHECK_EQ(gt_timer_stop_id(s, id), 1);
    CHECK_EQ(gt_timer_reset_id(s, id, 0), 0);
    CHECK_EQ(gt_timer_recv_id(s, id, &sent), 0);
    CHECK_EQ(sent, T0 + 7);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* ---- out of the heap while nobody waits ---- */

TEST(time_chan_lazy, 10)
{
    gt_timer *t[1000];
    gt_stats st;

    up();
    for (int i = 0; i < 1000; i++)
        t[i] = must(i % 2 ? gt_sched_new_timer(s, 100 + i) : gt_sched_new_ticker(s, 100 + i));
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(gt_p_num_timers(p), 0);
        CHECK_EQ(gt_nobarrier_wake_time(p), 0);
        CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
        CHECK_EQ(gt_overdue(s, T0 + SEC), 0);
        st = get_stats(s);
        CHECK_EQ(st.wakes, 0);
        CHECK_EQ(st.pending, 1000);
        CHECK_EQ(check_at(p, T0 + 10000), 0);
        for (int i = 0; i < 1000; i++)
            no_value(t[i]);
        for (int i = 0; i < 1000; i++)
            CHECK_EQ(gt_timer_reset(t[i], 100 + i), 1);
    }
    CHECK_EQ(gt_sched_set_time(s, T0 + 10000), 0);
    CHECK_EQ(gt_sched_advance(s, 0), 0);                /* nothing is in a heap */
    for (int i = 0; i < 1000; i++)
        value(t[i], T0 + 100 + i);
    CHECK_EQ(gt_p_num_timers(p), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(gt_timer_free(t[i]), i % 2 == 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    st = get_stats(s);
    CHECK_EQ(st.wakes, 0);
    CHECK_EQ(st.timers, 0);
    down();
}

/* ---- tickers ---- */

TEST(time_chan_ticker_ticks, 10)
{
    gt_timer *t;

    up();
    t = must(gt_sched_new_ticker(s, 10));
    for (int i = 1; i <= 100; i++) {
        CHECK_EQ(gt_timer_when(t), T0 + 10 * i);
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 9), 0);
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 1), 0);
        value(t, T0 + 10 * i);
        counted(1, 0, 0, 0);
    }
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}

/* One tick is kept, the first one, and the rest are dropped; the phase stays. Looked at late or
 * sent by the heap: no difference. */
TEST(time_chan_ticker_keeps_one, 10)
{
    for (int heaped = 0; heaped < 2; heaped++) {
        gt_timer *t;

        up();
        t = must(gt_sched_new_ticker(s, 10));
        if (heaped)
            CHECK_GE(gt_timer_fd(t), 0);
        CHECK_GE(gt_sched_advance(s, 57), 0);
        value(t, T0 + 10);
        no_value(t);
        CHECK_EQ(gt_timer_when(t), T0 + 60);
        CHECK_GE(gt_sched_advance(s, 2), 0);
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 1), 0);
        value(t, T0 + 60);
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 10), 0);
        CHECK_GE(gt_sched_advance(s, 10), 0);
        CHECK_GE(gt_sched_advance(s, 10), 0);
        value(t, T0 + 70);
        no_value(t);
        CHECK_EQ(gt_timer_free(t), 1);
        counted(1, 0, 1, 0);
        down();
    }
}

TEST(time_chan_ticker_stop_and_reset, 10)
{
    for (int heaped = 0; heaped < 2; heaped++) {
        gt_timer *t;

        up();
        t = must(gt_sched_new_ticker(s, 10));
        if (heaped)
            CHECK_GE(gt_timer_fd(t), 0);
        CHECK_GE(gt_sched_advance(s, 15), 0);
        CHECK_EQ(gt_timer_stop(t), 1);                  /* with a tick that nobody received */
        no_value(t);
        CHECK_EQ(gt_timer_stop(t), 0);
        CHECK_GE(gt_sched_advance(s, 100), 0);
        no_value(t);
        CHECK_EQ(gt_timer_reset(t, 7), 0);              /* T0 + 115: a new phase and period */
        CHECK_GE(gt_sched_advance(s, 6), 0);
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 1), 0);
        value(t, T0 + 122);
        CHECK_GE(gt_sched_advance(s, 7), 0);
        CHECK_EQ(gt_timer_reset(t, 20), 1);             /* T0 + 129: drops the tick of 129 */
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 19), 0);
        no_value(t);
        CHECK_GE(gt_sched_advance(s, 1), 0);
        value(t, T0 + 149);
        CHECK_EQ(gt_timer_reset(t, 5), 1);
        CHECK_GE(gt_sched_advance(s, 10), 0);
        value(t, T0 + 154);
        counted(4, 0, 1, 2);
        CHECK_EQ(gt_timer_stop(t), 1);
        counted(4, 0, 2, 2);
        CHECK_EQ(gt_timer_free(t), 0);
        down();
    }
}

/* Ticker.Reset with d <= 0 is an error and changes nothing; a timer's is none. */
TEST(time_chan_ticker_needs_a_period, 10)
{
    gt_timer *t;

    up();
    t = must(gt_sched_new_ticker(s, 10));
    CHECK_GE(gt_sched_advance(s, 12), 0);
    CHECK_EQ(gt_timer_reset(t, 0), GT_EINVAL);
    CHECK_EQ(gt_timer_reset(t, -1), GT_EINVAL);
    CHECK_EQ(gt_timer_reset(t, INT64_MIN), GT_EINVAL);
    CHECK_EQ(gt_timer_reset_id(s, gt_timer_id(t), 0), GT_EINVAL);
    value(t, T0 + 10);                                  /* the tick is still there */
    CHECK_GE(gt_sched_advance(s, 8), 0);
    value(t, T0 + 20);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_reset(t, 0), GT_EINVAL);
    CHECK_GE(gt_sched_advance(s, 100), 0);
    no_value(t);
    counted(1, 0, 1, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* A period so long that the next tick would be past the end of time. */
TEST(time_chan_ticker_saturates, 10)
{
    int64_t d = INT64_MAX / 2;
    gt_timer *t;

    up();
    t = must(gt_sched_new_ticker(s, d));
    CHECK_EQ(gt_sched_set_time(s, T0 + d), 0);
    value(t, T0 + d);
    CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
    CHECK_EQ(gt_sched_set_time(s, INT64_MAX), 0);
    no_value(t);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}
