/* Traps of adopting timers and of timerpMask. The comment above each test names the wrong
 * implementation that it catches; docs/traps.md has the table. */
#include "rules.h"

#include <sched.h>

/* ---- adopt ---- */

static struct {
    gt_sched *s;
    gt_p *p[2];
    atomic_int from, done, stop;
} move;

static void *move_loop(void *arg)
{
    (void)arg;
    for (int round = 1; !move.stop; round++) {
        wait_for(&move.from, round);
        if (move.stop)
            break;
        CHECK_EQ(gt_adopt_timers(move.p[round % 2], move.p[(round + 1) % 2]), 3);
        move.done = round;
    }
    return NULL;
}

/* Catches: an adopt that raises the source's wake time before it lowers the destination's. Who
 * reads the source first and then the destination must find the timers in one of them, at any
 * moment; and a reader of both in the other order is told by a wake, which is the next test. */
TEST(trap_adopt_seen_in_neither_p, 30)
{
    struct counter c[3] = {{0}};
    gt_timer *t[3];
    pthread_t th;
    int64_t end = mono_now() + SEC;
    int round;

    move.s = virtual_sched();
    for (int i = 0; i < 2; i++)
        move.p[i] = new_p(move.s);
    for (int i = 0; i < 3; i++) {
        t[i] = new_timer(move.s, &c[i]);
        CHECK_EQ(gt_addtimer_on(move.p[0], t[i], T0 + 100 + i, 0), 0);
    }
    CHECK_EQ(gt_resettimer(t[2], T0 + 90, 0), 1);          /* one that is modified */
    th = thread_start(move_loop, NULL);
    for (round = 1; mono_now() < end; round++) {
        gt_p *to = move.p[round % 2], *from = move.p[(round + 1) % 2];

        move.from = round;
        do {
            int64_t a = gt_nobarrier_wake_time(from), b = gt_nobarrier_wake_time(to);

            if ((a == 0 || a > T0 + 90) && (b == 0 || b > T0 + 90))
                test_failed(__FILE__, __LINE__, "round %d: source %lld, destination %lld", round,
                            (long long)a, (long long)b);
        } while (move.done < round);
    }
    move.stop = 1;
    move.from = round;
    thread_join(th);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    check_conserved(move.s);
    free_p(move.p[0]);
    free_p(move.p[1]);
    close_sched(move.s);
}

static gt_p *adopt_to, *adopt_from;
static int adopt_wakes;

static void adopt_woke(gt_p *p, int64_t when)
{
    CHECK_PTR_EQ(p, adopt_to);
    CHECK_EQ(when, T0 + 50);
    CHECK_EQ(gt_nobarrier_wake_time(adopt_to), T0 + 50);
    adopt_wakes++;
}

/* Catches: an adopt, or the end of a P, that wakes nobody: a sleeper that had looked at the
 * destination before and at the source after the move sleeps on. */
TEST(trap_adopt_wakes_the_destination, 10)
{
    for (int by_free = 0; by_free <= 1; by_free++) {
        struct hooks h;
        struct counter c[2] = {{0}};
        gt_sched *s;
        gt_timer *t[2];

        hooks_init(&h, 0);
        s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
        adopt_from = new_p(s);
        adopt_to = new_p(s);
        for (int i = 0; i < 2; i++)
            t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(adopt_to, t[0], T0 + 100, 0), 0);
        CHECK_EQ(gt_addtimer_on(adopt_from, t[1], T0 + 200, 0), 0);
        CHECK_EQ(gt_resettimer(t[1], T0 + 50, 0), 1);
        adopt_wakes = 0;
        h.on_wake = adopt_woke;
        if (by_free)
            free_p(adopt_from);
        else
            CHECK_EQ(gt_adopt_timers(adopt_to, adopt_from), 1);
        CHECK_EQ(adopt_wakes, 1);
        h.on_wake = NULL;
        CHECK_EQ(check_at(adopt_to, T0 + 50), 1);
        CHECK_EQ(c[1].runs, 1);
        CHECK_EQ(gt_timer_free(t[0]) + gt_timer_free(t[1]), 1);
        check_conserved(s);
        if (!by_free)
            free_p(adopt_from);
        free_p(adopt_to);
        close_sched(s);
    }
}

/* ---- timerpMask ---- */

static struct {
    gt_p *p;
    gt_timer *t2;
    int at;
    struct errand helper;
} mask;

static _Thread_local int emptying;

static void insert_t2(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_addtimer_on(mask.p, mask.t2, T0 + 20, 0), 0);
}

static void insert_at_hook(int acquire)
{
    (void)acquire;
    if (emptying && mask.at-- == 0)
        errand_run(&mask.helper, insert_t2, NULL, 20);
}

static void last_timer_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    insert_at_hook(0);
}

/* Catches: the owner reads that its heap is empty, another thread inserts and sets the P's bit
 * in timerpMask, the owner clears the bit. Thieves then pass this P by. The insertion comes at
 * the n-th hook (or in the callback) of the pass that empties the heap; a thief must find it. */
TEST(trap_mask_cleared_after_an_insert, 30)
{
    int placed = 0;

    errand_start(&mask.helper);
    for (int how = 0; how < 4; how++)
        for (int at = 0; at < 6; at++) {
            struct hooks h;
            struct counter c = {0};
            gt_sched *s;
            gt_timer *t;

            hooks_init(&h, 0);
            s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
            mask.p = new_p(s);
            mask.t2 = new_timer(s, &c);
            CHECK((t = gt_timer_new(s, last_timer_run, NULL, NULL)) != NULL);
            CHECK_EQ(gt_addtimer_on(mask.p, t, T0 + 10, 0), 0);
            if (how >= 2)
                CHECK_EQ(gt_deltimer(t), 1);
            mask.at = at;
            h.on_pin = insert_at_hook;
            emptying = 1;
            if (how == 0)
                CHECK_EQ(check_at(mask.p, T0 + 10), 1);
            else if (how == 1)
                CHECK_EQ(gt_check_others(s, NULL, T0 + 10, NULL, NULL), 1);
            else if (how == 2)
                CHECK_GE(gt_trim(mask.p), 0);
            else
                CHECK_GE(gt_adjusttimers(mask.p, T0 + 10, 1), 0);
            emptying = 0;
            h.on_pin = NULL;
            errand_settle(&mask.helper);
            placed += mask.at < 0;
            if (mask.at >= 0)
                insert_t2(NULL);
            CHECK_EQ(gt_time_sleep_until(s), T0 + 20);
            CHECK_EQ(gt_check_others(s, NULL, T0 + 20, NULL, NULL), 1);
            CHECK_EQ(c.runs, 1);
            CHECK_EQ(gt_timer_free(t) + gt_timer_free(mask.t2), 0);
            check_conserved(s);
            free_p(mask.p);
            close_sched(s);
        }
    CHECK_GT(placed, 0);
    errand_stop(&mask.helper);
}

/* The same by brute force: the owner fires its last timer while another thread inserts the next
 * one; the owner then stops looking, and a thief must find what is there. */
static void *empty_loop(void *arg)
{
    struct errand *e = arg;

    while (!e->stop)
        gt_check_timers(mask.p, T0 + 10, NULL, NULL);
    return NULL;
}

TEST(trap_mask_cleared_after_an_insert_stress, 30)
{
    gt_sched *s = virtual_sched();
    struct counter c = {0}, d = {0};
    gt_timer *due = new_timer(s, &d);
    int64_t end = mono_now() + SEC;

    mask.p = new_p(s);
    mask.t2 = new_timer(s, &c);
    for (int i = 1; mono_now() < end; i++) {
        struct errand owner = {0};

        owner.thread = thread_start(empty_loop, &owner);
        for (int k = 0; k < 20; k++) {
            CHECK_EQ(gt_addtimer_on(mask.p, due, T0 + 5, 0), 0);
            while (d.runs <= (i - 1) * 20 + k)
                sched_yield();
        }
        insert_t2(NULL);
        owner.stop = 1;
        thread_join(owner.thread);
        CHECK_EQ(gt_check_others(s, NULL, T0 + 20, NULL, NULL), 1);
        CHECK_EQ(c.runs, i);
    }
    CHECK_EQ(gt_timer_free(due) + gt_timer_free(mask.t2), 0);
    check_conserved(s);
    free_p(mask.p);
    close_sched(s);
}
