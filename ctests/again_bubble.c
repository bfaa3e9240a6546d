/* Bugs of bubbles (threads that share a virtual clock) that there have been: who is told that
 * nothing will ever wake him, and when. Above each test stands what broken library it catches.
 * The other bugs of package time are in again_time.c. */
#include "gotest.h"
#include "rtkit.h"
#include "steps.h"

#include <time.h>

/* ---- a sleeper's timer is taken from outside of the bubble ---- */

#define NEAR 1000
#define MOST_NAPS 400

static struct {
    gt_sched *s;
    gt_p *p;
    atomic_int armed, taken, back, stop;   /* numbers of rounds; stop: 1 */
    atomic_int steps, traps;
} outer;

#if STEPS

static _Thread_local volatile int takes;

static void quarter_ms(void)
{
    struct timespec ts = {0, 250000};

    nanosleep(&ts, NULL);
}

/* The outsider has taken the timer off the heap and has not called its f yet, or just has: the
 * member gets a chance to be gone before that. */
static void nap_at_each_step(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    outer.traps++;
    if (++outer.steps > MOST_NAPS || outer.back >= outer.taken)
        end_of_steps(context);
    else
        quarter_ms();
}

/* The timer is unlocked, a Removed one now. */
static void when_taken(int acquire)
{
    if (acquire || !takes || pins() != 0)
        return;
    takes = 0;
    outer.steps = 0;
    outer.taken = outer.armed;
    go_by_steps();
}

static void *take_it(void *arg)
{
    (void)arg;
    for (int round = 1;; round++) {
        wait_for(&outer.armed, round);
        if (outer.stop)
            return NULL;
        takes = 1;
        CHECK_EQ(gt_check_timers(outer.p, T0 + round * NEAR, NULL, NULL), 1);
        CHECK_EQ(takes, 0);
    }
}

static void let_it_be_taken(gt_p *p, int64_t when)
{
    (void)p;
    (void)when;
    outer.armed++;
    wait_for(&outer.taken, outer.armed);
}

/* Catches a bubble that gives up when all are blocked and no timer is armed, though a thread
 * outside of it has a sleeper's timer in hand: the sleeper returns with GT_EDEADLK, and its
 * timer's f then writes into a stack frame that is gone. The outsider goes by single steps from
 * the timer's heap to the call, with a rest after each. */
TEST(again_bubble_sleeper_whose_timer_is_taken, 60)
{
    struct hooks h;
    pthread_t outsider;

    needs_freeze();
    on_steps(nap_at_each_step);
    outer.back = 1;
    go_by_steps();
    if (outer.traps == 0)
        test_skip("the processor does not step");
    outer.back = 0;
    hooks_init(&h, 0);
    h.on_pin = when_taken;
    outer.s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    outer.p = new_p(outer.s);
    outsider = thread_start(take_it, NULL);
    CHECK_EQ(gt_synctest_join(outer.s), 0);
    for (int round = 1; round <= 5; round++) {
        h.on_wake = let_it_be_taken;
        CHECK_EQ(gt_sched_sleep(outer.s, T0 + round * NEAR - gt_nanotime(outer.s)), 0);
        h.on_wake = NULL;
        outer.back = round;
        CHECK_EQ(gt_sched_set_time(outer.s, T0 + round * NEAR), 0);
    }
    CHECK_EQ(gt_synctest_leave(outer.s), 0);
    outer.stop = 1;
    outer.armed++;
    thread_join(outsider);
    check_conserved(outer.s);
    free_p(outer.p);
    close_sched(outer.s);
}

#endif

static void *advance_it(void *arg)
{
    (void)arg;
    while (!outer.stop)
        CHECK_GE(gt_sched_advance(outer.s, 100), 0);
    return NULL;
}

static __attribute__((noinline)) void use_the_stack_again(void)
{
    volatile unsigned char b[6000];

    for (size_t i = 0; i < sizeof b; i++)
        b[i] = 0x5a;
    for (size_t i = 0; i < sizeof b; i++)
        CHECK_EQ(b[i], 0x5a);
}

/* The same, where there are no single steps: a stress test. */
TEST(again_bubble_sleeper_against_outsiders, 60)
{
    int64_t end = mono_now() + 1500 * MS;
    pthread_t th[4];
    gt_p *p;

    outer.s = virtual_sched();
    p = new_p(outer.s);
    for (int i = 0; i < 4; i++)
        th[i] = thread_start(advance_it, NULL);
    CHECK_EQ(gt_synctest_join(outer.s), 0);
    while (mono_now() < end) {
        int64_t until = gt_nanotime(outer.s) + 1000;

        CHECK_EQ(gt_sched_sleep(outer.s, 1000), 0);
        CHECK_GE(gt_nanotime(outer.s), until);
        use_the_stack_again();
    }
    CHECK_EQ(gt_synctest_leave(outer.s), 0);
    outer.stop = 1;
    for (int i = 0; i < 4; i++)
        thread_join(th[i]);
    check_conserved(outer.s);
    free_p(p);
    close_sched(outer.s);
}

/* ---- a callback outside of the bubble is about to wake a member ---- */

static struct {
    gt_sched *s;
    gt_timer *chan;
    atomic_int runs, back;
} about;

static void reset_after_a_while(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    about.runs++;
    wait_at_most(&about.back, 1, 30);
    CHECK_EQ(gt_timer_reset(about.chan, MS), 0);
}

/* Catches a bubble that gives up while a callback runs on a P outside of it. It is just that
 * callback that resets the timer which the member receives from. */
TEST(again_bubble_outer_callback_wakes_a_member, 60)
{
    gt_timer *f;
    struct p_loop l;
    gt_p *p;
    int64_t sent;

    about.s = virtual_sched();
    p = new_p(about.s);
    about.chan = must(gt_sched_new_timer(about.s, MS));
    CHECK_EQ(gt_timer_stop(about.chan), 1);
    f = must(gt_sched_after_func(about.s, MS, reset_after_a_while, NULL, NULL));
    CHECK_EQ(gt_sched_set_time(about.s, T0 + MS), 0);
    p_loop_start(&l, p);
    wait_for(&about.runs, 1);
    CHECK_EQ(gt_synctest_join(about.s), 0);
    CHECK_EQ(gt_timer_recv(about.chan, &sent), 0);
    about.back = 1;
    CHECK_EQ(sent, T0 + 2 * MS);
    CHECK_EQ(gt_nanotime(about.s), T0 + 2 * MS);
    CHECK_EQ(gt_synctest_leave(about.s), 0);
    p_loop_stop(&l);
    CHECK_EQ(gt_timer_free(f), 0);
    CHECK_EQ(gt_timer_free(about.chan), 0);
    check_conserved(about.s);
    free_p(p);
    close_sched(about.s);
}

/* ---- a callback that the clock runs waits ---- */

static struct {
    gt_sched *s;
    gt_timer *chan;
    atomic_int runs;
} inner;

static void waits_itself(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(gt_sched_sleep(inner.s, MS), GT_EDEADLK);
    CHECK_EQ(gt_timer_recv(inner.chan, NULL), GT_EDEADLK);
    CHECK_EQ(gt_synctest_wait(inner.s), GT_EDEADLK);
    inner.runs++;
}

/* Catches a bubble in which a callback that the clock runs, on a member's own thread, waits for
 * ever: nobody moves the clock meanwhile. */
TEST(again_bubble_callback_of_the_clock_waits, 10)
{
    gt_timer *t;

    inner.s = virtual_sched();
    inner.chan = must(gt_sched_new_timer(inner.s, 5 * MS));
    CHECK_EQ(gt_synctest_join(inner.s), 0);
    t = must(gt_sched_after_func(inner.s, MS, waits_itself, NULL, NULL));
    CHECK_EQ(gt_sched_sleep(inner.s, 3 * MS), 0);
    CHECK_EQ(inner.runs, 1);
    CHECK_EQ(gt_nanotime(inner.s), T0 + 3 * MS);
    CHECK_EQ(gt_timer_recv(inner.chan, NULL), 0);
    CHECK_EQ(gt_nanotime(inner.s), T0 + 5 * MS);
    CHECK_EQ(gt_synctest_leave(inner.s), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(inner.chan), 0);
    check_conserved(inner.s);
    close_sched(inner.s);
}

static void waits_for_the_first_to_leave(void *s)
{
    CHECK_EQ(gt_sched_sleep(s, 3 * MS), 0);
    CHECK_EQ(gt_nanotime(s), T0 + 3 * MS);
}

static void sleeps_in_a_callback(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    CHECK_EQ(gt_sched_sleep(arg, MS), GT_EDEADLK);
    inner.runs++;
}

/* Catches the same in a callback of a thread that leaves the bubble, and moves the clock for the others
 * before it has left. */
TEST(again_bubble_callback_of_one_who_leaves_waits, 10)
{
    gt_sched *s = virtual_sched();
    struct bubble_thread other;
    gt_timer *t;

    inner.runs = 0;
    CHECK_EQ(gt_synctest_join(s), 0);
    bubble_go(&other, s, waits_for_the_first_to_leave, s);
    CHECK_EQ(gt_synctest_wait(s), 0);
    t = must(gt_sched_after_func(s, MS, sleeps_in_a_callback, s, NULL));
    CHECK_EQ(gt_synctest_leave(s), 0);
    bubble_end(&other);
    CHECK_EQ(inner.runs, 1);       /* by who left, or by the other one, who moved the clock before */
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    close_sched(s);
}

/* ---- the same, and somebody outside has its timer in hand ---- */

static struct {
    gt_sched *s;
    gt_p *p;
    atomic_int armed, taken, back;
} held;

static _Thread_local int arms, takes_it;

/* The sleeper waits when its timer is armed until somebody has it; and he, when it is off the
 * heap and its f was not called yet, for a while. */
static void when_unpinned(int acquire)
{
    if (acquire || pins() != 0)
        return;
    if (arms && gt_p_num_timers(held.p) == 2) {               /* the other one is the member's */
        arms = 0;
        held.armed = 1;
        wait_for(&held.taken, 1);
    } else if (takes_it) {
        takes_it = 0;
        held.taken = 1;
        sleep_ms(20);
        CHECK_EQ(held.back, 0);
    }
}

static void *hold_it(void *arg)
{
    (void)arg;
    wait_for(&held.armed, 1);
    takes_it = 1;
    CHECK_EQ(gt_check_timers(held.p, T0 + 100 * MS, NULL, NULL), 1);
    return NULL;
}

static struct hooks held_hooks;

static void sleeps_itself(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    arms = 1;
    CHECK_EQ(gt_sched_sleep(held.s, MS), 0);
    held.back = 1;
}

/* Catches a sleeper who is told at once that nothing will ever wake him, and goes, though
 * somebody outside of the bubble is about to: that one finds a stack frame that is gone. */
TEST(again_bubble_callback_whose_timer_is_taken, 30)
{
    pthread_t outsider;
    gt_timer *t;

    hooks_init(&held_hooks, 0);
    held_hooks.on_pin = when_unpinned;
    held.s = hooked_sched(&held_hooks, GT_CLOCK_VIRTUAL);
    held.p = new_p(held.s);
    outsider = thread_start(hold_it, NULL);
    CHECK_EQ(gt_synctest_join(held.s), 0);
    t = must(gt_sched_after_func(held.s, MS, sleeps_itself, NULL, NULL));
    CHECK_EQ(gt_sched_sleep(held.s, 200 * MS), 0);
    CHECK_EQ(gt_synctest_leave(held.s), 0);
    CHECK_EQ(held.back, 1);
    thread_join(outsider);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(held.s);
    free_p(held.p);
    close_sched(held.s);
}

/* ---- all are deadlocked: all are told ---- */

#define OTHERS 3

struct other {
    struct waiter w;
    atomic_int joined, told;
};

static int receive_as_a_member(struct waiter *w)
{
    struct other *o = (struct other *)(void *)w;
    int r;

    CHECK_EQ(gt_synctest_join(w->s), 0);
    o->joined = 1;
    r = gt_timer_recv(w->t, NULL);
    o->told = 1;
    CHECK_EQ(gt_synctest_leave(w->s), 0);
    return r;
}

/* Members that receive from a stopped timer, all of them blocked. The caller has joined. */
static void others_start(struct other *o, gt_sched *s, gt_timer *t)
{
    for (int i = 0; i < OTHERS; i++) {
        memset(&o[i], 0, sizeof o[i]);
        o[i].w.s = s;
        o[i].w.t = t;
        waiter_start(&o[i].w, receive_as_a_member);
        wait_for(&o[i].joined, 1);
    }
    CHECK_EQ(gt_synctest_wait(s), 0);
}

static void others_are_told(struct other *o)
{
    for (int i = 0; i < OTHERS; i++) {
        CHECK_EQ(wait_at_most(&o[i].told, 1, 20000 * (int)test_slow()), 1);
        CHECK_EQ(waiter_join(&o[i].w), GT_EDEADLK);
    }
}

static void all_wait_for_nothing(int leave)
{
    gt_sched *s = virtual_sched();
    gt_timer *t = must(gt_sched_new_timer(s, MS));
    struct other o[OTHERS];

    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_synctest_join(s), 0);
    others_start(o, s, t);
    CHECK_EQ(o[0].told + o[1].told + o[2].told, 0);
    if (leave)
        CHECK_EQ(gt_synctest_leave(s), 0);
    else
        CHECK_EQ(gt_timer_recv(t, NULL), GT_EDEADLK);
    others_are_told(o);
    CHECK_EQ(gt_nanotime(s), T0);

    /* nobody is left behind in the timer's queue, or in the bubble's */
    if (leave)
        CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_timer_reset(t, MS), 0);
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_nanotime(s), T0 + MS);
    CHECK_EQ(gt_synctest_leave(s), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    close_sched(s);
}

/* Catches a gt_synctest_leave that sees that the others wait for what will never come, and says
 * so to nobody. */
TEST(again_bubble_left_with_the_others_deadlocked, 60) { all_wait_for_nothing(1); }

/* Catches a bubble in which only the last one to block is told that it is a deadlock: the others
 * wait on, and when he goes on without leaving nothing comes of it for them. */
TEST(again_bubble_deadlock_told_to_one_only, 60) { all_wait_for_nothing(0); }
