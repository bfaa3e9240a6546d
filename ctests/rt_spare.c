/* Callbacks that wait, in the library, for what only another callback brings, but not in gt_sleep and its
 * kin of the runtime's own sched: a spare worker comes for these too. */
#include "rtkit.h"

struct outside {
    gt_sched *s;
    gt_timer *gate;
    atomic_int begun, back;
};

static void waits_for_another_sched(void *arg, uintptr_t seq, int64_t delay)
{
    struct outside *o = arg;

    (void)seq;
    (void)delay;
    o->begun = 1;
    CHECK_EQ(gt_timer_recv(o->gate, NULL), 0);
    o->back = 1;
}

static void advances_it(void *arg, uintptr_t seq, int64_t delay)
{
    struct outside *o = arg;

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_sched_advance(o->s, SEC), 1);
}

/* The only worker waits in a callback for a timer of another sched, whose time comes by a timer of the
 * runtime. */
TEST(rt_callback_waits_for_another_sched, 20)
{
    struct outside o = {.s = virtual_sched()};
    gt_timer *t, *u;

    o.gate = must(gt_sched_new_timer(o.s, SEC));
    rt_start(1);
    t = must(gt_after_func(0, waits_for_another_sched, &o, NULL));
    wait_for(&o.begun, 1);
    u = must(gt_after_func(MS, advances_it, &o, NULL));
    wait_for(&o.back, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 0);
    CHECK_EQ(gt_timer_free(o.gate), 0);
    rt_stop_conserved();
    close_sched(o.s);
}

struct syncs {
    gt_timer *b;
    atomic_int begun, back;
};

static void waits_a_little(void *arg, uintptr_t seq, int64_t delay)
{
    struct syncs *y = arg;
    gt_timer *gate = must(gt_new_timer(50 * MS));

    (void)seq;
    (void)delay;
    y->begun = 1;
    CHECK_EQ(gt_timer_recv(gate, NULL), 0);
    CHECK_EQ(gt_timer_free(gate), 0);
}

static void waits_for_the_other(void *arg, uintptr_t seq, int64_t delay)
{
    struct syncs *y = arg;

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_deltimer_sync(y->b), 0);
    y->back = 1;
}

/* One of two workers waits in a callback for a timer, the other one in gt_deltimer_sync for that callback. */
TEST(rt_callback_waits_for_a_callback, 20)
{
    struct syncs y = {.back = 0};
    gt_timer *a;

    rt_start(2);
    y.b = must(gt_after_func(0, waits_a_little, &y, NULL));
    wait_for(&y.begun, 1);
    a = must(gt_after_func(0, waits_for_the_other, &y, NULL));
    wait_for(&y.back, 1);
    CHECK_EQ(gt_timer_free(a), 0);
    CHECK_EQ(gt_timer_free(y.b), 0);
    rt_stop_conserved();
}

struct naps {
    gt_p *p;
    atomic_int begun, back;
};

static void naps_on_a_p(void *arg, uintptr_t seq, int64_t delay)
{
    struct naps *n = arg;

    (void)seq;
    (void)delay;
    n->begun = 1;
    CHECK_EQ(gt_notetsleep(n->p, 0), 1);
    n->back = 1;
}

static void wakes_it(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    CHECK_EQ(gt_notewakeup(((struct naps *)arg)->p), 0);
}

/* The only worker sleeps in gt_notetsleep, until a timer of the runtime wakes that. */
TEST(rt_callback_sleeps_on_a_p, 20)
{
    gt_sched *s = virtual_sched();
    struct naps n = {.p = new_p(s)};
    gt_timer *t, *u;

    rt_start(1);
    t = must(gt_after_func(0, naps_on_a_p, &n, NULL));
    wait_for(&n.begun, 1);
    u = must(gt_after_func(MS, wakes_it, &n, NULL));
    wait_for(&n.back, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 0);
    rt_stop_conserved();
    free_p(n.p);
    close_sched(s);
}
