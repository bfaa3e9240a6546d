/* Package time, channels, several threads: somebody blocks in gt_timer_recv while others stop,
 * reset, free or shut the timer down, and many receive at once (rule S15). The clock is virtual,
 * so what is received when is exact, however slow the machine is. */
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

static void still_blocked(struct waiter *w) { CHECK_EQ(waiter_blocked(w), 1); }

TEST(chan_recv_waits, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 100));
    CHECK_EQ(gt_p_num_timers(p), 0);
    receiver_start(&w, t);
    still_blocked(&w);
    CHECK_EQ(gt_p_num_timers(p), 1);                 /* somebody waits: now it is in a heap */
    CHECK_EQ(gt_time_sleep_until(s), T0 + 100);
    CHECK_EQ(gt_sched_advance(s, 99), 0);
    still_blocked(&w);
    CHECK_EQ(gt_sched_advance(s, 1), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 100);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* When nobody waits any more the entry is dead, and goes. */
TEST(chan_leaves_the_heap_after_recv, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_ticker(s, 100));
    for (int i = 1; i <= 5; i++) {
        receiver_start(&w, t);
        still_blocked(&w);
        CHECK_EQ(gt_time_sleep_until(s), T0 + 100 * i);
        CHECK_EQ(gt_sched_advance(s, 100), 1);
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(w.sent, T0 + 100 * i);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(gt_p_num_timers(p), 0);
        CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
    }
    CHECK_EQ(gt_sched_advance(s, 1000), 0);
    CHECK_EQ(gt_timer_try_recv(t, &w.sent), 1);
    CHECK_EQ(w.sent, T0 + 600);
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}

TEST(chan_reset_earlier_under_recv, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 1000));
    receiver_start(&w, t);
    still_blocked(&w);
    CHECK_EQ(gt_timer_reset(t, 10), 1);
    CHECK_LE(gt_time_sleep_until(s), T0 + 10);
    still_blocked(&w);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 10);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

TEST(chan_reset_later_under_recv, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 10));
    receiver_start(&w, t);
    still_blocked(&w);
    CHECK_EQ(gt_timer_reset(t, 1000), 1);
    CHECK_EQ(gt_sched_advance(s, 999), 0);
    still_blocked(&w);
    CHECK_EQ(gt_sched_advance(s, 1), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 1000);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

TEST(chan_reset_to_now_under_recv, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 1000));
    for (int i = 0; i < 20; i++) {
        receiver_start(&w, t);
        if (i % 2 || !waiter_blocked(&w))
            sleep_ms(i % 3);
        CHECK_EQ(gt_timer_reset(t, -(i % 3)), i == 0);
        /* in a heap it waits for a pass, else the receiver finds it by itself */
        while (!w.done) {
            CHECK_GE(gt_sched_advance(s, 0), 0);
            sleep_ms(1);
        }
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(w.sent, gt_nanotime(s));
        CHECK_EQ(gt_sched_advance(s, 5), 0);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* A stopped timer's receiver goes on waiting, until somebody resets it. */
TEST(chan_stop_and_reset_under_recv, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 10));
    receiver_start(&w, t);
    still_blocked(&w);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_sched_advance(s, 100), 0);
    still_blocked(&w);
    CHECK_EQ(gt_timer_stop(t), 0);
    CHECK_EQ(gt_timer_reset(t, 5), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 105);
    CHECK_EQ(gt_sched_advance(s, 5), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 105);
    /* and one that starts to wait on a stopped timer */
    CHECK_EQ(gt_timer_stop(t), 0);
    receiver_start(&w, t);
    still_blocked(&w);
    CHECK_EQ(gt_sched_advance(s, 100), 0);
    CHECK_EQ(gt_timer_reset(t, 5), 0);
    CHECK_EQ(gt_sched_advance(s, 5), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 210);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

static int recv_by_id(struct waiter *w) { return gt_timer_recv_id(s, *(uint64_t *)w->arg, &w->sent); }

TEST(chan_free_under_recv, 60)
{
    for (int how = 0; how < 8; how++) {
        struct waiter w[3];
        gt_timer *t;
        uint64_t id;
        int armed = how % 2 == 0, shutdown = how >= 6;

        up();
        t = must(how < 2 ? gt_sched_new_timer(s, 100) : gt_sched_new_ticker(s, 100));
        id = gt_timer_id(t);
        if (!armed)
            CHECK_EQ(gt_timer_stop(t), 1);
        receiver_start(&w[0], t);
        receiver_start(&w[1], t);
        memset(&w[2], 0, sizeof w[2]);
        w[2].arg = &id;
        waiter_start(&w[2], recv_by_id);
        for (int i = 0; i < 3; i++)
            still_blocked(&w[i]);
        if (shutdown)
            CHECK_EQ(gt_shutdown_timer(t), armed);
        else
            CHECK_EQ(how < 4 ? gt_timer_free(t) : gt_timer_free_id(s, id), armed);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(waiter_join(&w[i]), shutdown ? GT_ESHUTDOWN : GT_ESTALE);
        if (shutdown)
            CHECK_EQ(gt_timer_free(t), 0);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(get_stats(s).timers, 0);
        down();
    }
}

/* gt_sched_free with a receiver: nobody may use the sched then, but nobody may hang either. */
TEST(chan_sched_free_under_recv, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 100));
    receiver_start(&w, t);
    still_blocked(&w);
    free_p(p);
    close_sched(s);
    CHECK_EQ(waiter_join(&w), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(t), 0);
}

/* ---- several receivers ---- */

#define RECEIVERS 8

TEST(chan_first_come_first_served, 60)
{
    struct waiter w[RECEIVERS];
    gt_timer *t;

    up();
    t = must(gt_sched_new_ticker(s, 10));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < RECEIVERS; i++) {
            receiver_start(&w[i], t);
            still_blocked(&w[i]);
        }
        CHECK_EQ(gt_p_num_timers(p), 1);
        for (int i = 0; i < RECEIVERS; i++) {
            int64_t at = gt_nanotime(s) + 10;

            CHECK_EQ(gt_sched_advance(s, 10), 1);
            CHECK_EQ(waiter_join(&w[i]), 0);
            CHECK_EQ(w[i].sent, at);
            for (int k = i + 1; k < RECEIVERS; k++)
                CHECK_EQ(w[k].done, 0);
        }
    }
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}

/* One value goes to one receiver; the others wait on. */
TEST(chan_one_value_one_receiver, 60)
{
    struct waiter w[RECEIVERS];
    gt_timer *t;
    int got = 0;

    up();
    t = must(gt_sched_new_timer(s, 10));
    for (int i = 0; i < RECEIVERS; i++)
        receiver_start(&w[i], t);
    for (int i = 0; i < RECEIVERS; i++)
        still_blocked(&w[i]);
    CHECK_EQ(gt_sched_advance(s, 1000), 1);
    sleep_ms(20);
    for (int i = 0; i < RECEIVERS; i++)
        got += w[i].done;
    CHECK_LE(got, 1);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    for (int i = 1; i < RECEIVERS; i++) {
        CHECK_EQ(gt_timer_reset(t, 10), 0);
        CHECK_EQ(gt_sched_advance(s, 10), 1);
    }
    for (int i = 0; i < RECEIVERS; i++)
        CHECK_EQ(waiter_join(&w[i]), 0);
    CHECK_EQ(get_stats(s).fired, RECEIVERS);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* A queue of receivers, of whom try_recv takes nothing away: who waits comes first. */
TEST(chan_try_recv_does_not_overtake, 30)
{
    struct waiter w;
    gt_timer *t;

    up();
    t = must(gt_sched_new_timer(s, 10));
    for (int i = 0; i < 50; i++) {
        receiver_start(&w, t);
        still_blocked(&w);
        CHECK_EQ(gt_sched_advance(s, 10), 1);
        CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
        CHECK_EQ(gt_timer_stop(t), 0);               /* it has been received, though w may sleep still */
        CHECK_EQ(gt_timer_reset(t, 10), 0);
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(w.sent, T0 + 10 * (i + 1));
    }
    CHECK_EQ(gt_timer_free(t), 1);
    down();
}

/* ---- the P that the alarm is on goes away ---- */

TEST(chan_p_freed_under_recv, 30)
{
    struct waiter w, z;
    gt_timer *t;
    gt_p *q;

    up();
    q = new_p(s);
    t = must(gt_sched_new_timer(s, 100));
    receiver_start(&w, t);
    sleeper_start(&z, s, 100);
    still_blocked(&w);
    still_blocked(&z);
    free_p(p);
    p = q;
    CHECK_EQ(gt_p_num_timers(p), 2);
    CHECK_EQ(gt_sched_advance(s, 100), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(waiter_join(&z), 0);
    CHECK_EQ(w.sent, T0 + 100);
    CHECK_EQ(gt_timer_free(t), 0);
    down();
}

/* ---- real clocks, and Ps that are worked off as the book says ---- */

static void own_ps(uint32_t clock)
{
    struct p_loop l[2];
    struct waiter w[8];
    gt_timer *t[4];
    gt_p *ps[2];
    int64_t begin;

    s = new_sched(clock);
    for (int i = 0; i < 2; i++) {
        ps[i] = new_p(s);
        p_loop_start(&l[i], ps[i]);
    }
    begin = gt_nanotime(s);
    for (int i = 0; i < 4; i++) {
        t[i] = must(i < 2 ? gt_sched_new_timer(s, (5 + i) * MS) : gt_sched_new_ticker(s, i * MS));
        receiver_start(&w[i], t[i]);
        sleeper_start(&w[4 + i], s, (3 + i) * MS);
    }
    for (int i = 0; i < 8; i++)
        CHECK_EQ(waiter_join(&w[i]), 0);
    for (int i = 0; i < 4; i++)
        CHECK_GE(w[i].sent, begin + (i < 2 ? 5 + i : i) * MS);
    for (int n = 0; n < 10; n++)
        for (int i = 0; i < 4; i++) {
            int64_t sent, now = gt_nanotime(s);

            if (i < 2)
                CHECK_EQ(gt_timer_reset(t[i], i * MS), 0);
            CHECK_EQ(gt_timer_recv(t[i], &sent), 0);
            CHECK_GE(gt_nanotime(s), sent);
            if (i < 2)
                CHECK_GE(sent, now + i * MS);
        }
    for (int i = 0; i < 4; i++)
        CHECK_EQ(gt_timer_free(t[i]), i >= 2);
    for (int i = 0; i < 2; i++) {
        p_loop_stop(&l[i]);
        free_p(ps[i]);
    }
    check_conserved(s);
    close_sched(s);
}

TEST(chan_own_ps_monotonic, 60) { own_ps(GT_CLOCK_MONOTONIC); }

TEST(chan_own_ps_boottime, 60) { own_ps(GT_CLOCK_BOOTTIME); }

TEST(chan_own_ps_wall, 60) { own_ps(GT_CLOCK_WALL); }

/* A host's clock that steps back: the step is taken out (S17), nothing comes twice. */
TEST(chan_clock_steps_back, 30)
{
    struct hooks h;
    gt_timer *t, *k;
    int64_t sent;

    hooks_init(&h, 0);
    h.clock = HOST_T0;
    s = hooked_sched(&h, GT_CLOCK_HOST);
    p = new_p(s);
    t = must(gt_sched_new_timer(s, 100));
    k = must(gt_sched_new_ticker(s, 40));
    h.clock = HOST_T0 + 90;
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_try_recv(k, &sent), 1);
    CHECK_EQ(sent, HOST_T0 + 40);
    h.clock = HOST_T0 - 1000;                    /* it goes on from 90 */
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_try_recv(k, NULL), 0);
    h.clock += 9;
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    h.clock += 1;
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_EQ(sent, HOST_T0 + 100);
    h.clock += 20;
    CHECK_EQ(gt_timer_try_recv(k, &sent), 1);
    CHECK_EQ(sent, HOST_T0 + 120);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(k), 1);
    down();
}

/* ---- everything at once: each arming ends exactly once ---- */

#define CROWD 4

static gt_timer *shared[3];
static atomic_long got, said_one, made, ticks;
static atomic_int closing;

static void *crowd_receives(void *arg)
{
    uint64_t rng = test_seed() + (uintptr_t)arg;

    for (;;) {
        int i = (int)rng_below(&rng, 3), r;
        int64_t sent = 0;

        r = rng_below(&rng, 2) ? gt_timer_try_recv(shared[i], &sent) - 1 : gt_timer_recv(shared[i], &sent);
        if (r == GT_ESHUTDOWN || r == GT_ESHUTDOWN - 1) {
            if (closing)
                return NULL;
            continue;
        }
        if (r == -1)
            continue;
        CHECK_EQ(r, 0);
        CHECK_GT(sent, T0);
        CHECK_LE(sent, gt_nanotime(s));
        if (i == 2)
            ticks++;
        else
            got++;
    }
}

static void *crowd_arms(void *arg)
{
    uint64_t rng = test_seed() + 100 + (uintptr_t)arg;

    for (int n = 0; n < 20000 / (int)test_slow() || n < 2000; n++) {
        int i = (int)rng_below(&rng, 3), r;

        if (rng_below(&rng, 4) == 0)
            r = gt_timer_stop(shared[i]);
        else {
            r = gt_timer_reset(shared[i], 1 + (int64_t)rng_below(&rng, 20));
            made++;
        }
        CHECK(r == 0 || r == 1);
        said_one += r;
    }
    return NULL;
}

static void *crowd_clock(void *arg)
{
    uint64_t rng = test_seed() + 200;

    while (!*(atomic_int *)arg)
        CHECK_GE(gt_sched_advance(s, (int64_t)rng_below(&rng, 10)), 0);
    return NULL;
}

static void crowd(int with_fd)
{
    pthread_t in[CROWD], out[CROWD], clock;
    atomic_int stop_clock = 0;

    up();
    for (int i = 0; i < 3; i++) {
        shared[i] = must(i < 2 ? gt_sched_new_timer(s, 10) : gt_sched_new_ticker(s, 10));
        if (with_fd)
            CHECK_GE(gt_timer_fd(shared[i]), 0);
        made++;
    }
    clock = thread_start(crowd_clock, &stop_clock);
    for (int i = 0; i < CROWD; i++) {
        out[i] = thread_start(crowd_receives, (void *)(uintptr_t)i);
        in[i] = thread_start(crowd_arms, (void *)(uintptr_t)i);
    }
    for (int i = 0; i < CROWD; i++)
        thread_join(in[i]);
    /* nobody arms any more: stop all, and each arming has ended */
    for (int i = 0; i < 3; i++)
        said_one += gt_timer_stop(shared[i]);
    stop_clock = 1;
    thread_join(clock);
    closing = 1;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_shutdown_timer(shared[i]), 0);
    for (int i = 0; i < CROWD; i++)
        thread_join(out[i]);
    CHECK_EQ(got + said_one, made);
    CHECK_EQ(get_stats(s).armed, made);
    CHECK_EQ(get_stats(s).fired, got);
    CHECK_EQ(get_stats(s).stopped + get_stats(s).replaced, said_one);
    CHECK_EQ(get_stats(s).pending, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_timer_free(shared[i]), 0);
    down();
}

TEST(chan_crowd_conserves, 120) { crowd(0); }

TEST(chan_crowd_with_fds_conserves, 120) { crowd(1); }
