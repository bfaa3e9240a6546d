/* Traps of waking and sleeping. The comment above each test names the wrong implementation that
 * it catches; docs/traps.md has the table. */
#include "rules.h"

#include <poll.h>
#include <time.h>

/* ---- the wake hook ---- */

static gt_sched *reenter_s;
static gt_timer *reenter_t;
static int reentered;

static void reenter(gt_p *p, int64_t when)
{
    CHECK_EQ(pins(), 0);
    CHECK_NE(gt_timer_status(reenter_t), GT_TIMER_LOCKED);
    CHECK_EQ(check_at(p, when), 1);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_LE(gt_adjusttimers(p, when, 1), 0);
    CHECK_GE(gt_check_others(reenter_s, NULL, when, NULL, NULL), 0);
    reentered++;
}

/* Catches: the wake hook called while the timer (or the P) is still locked (golang/go#38070,
 * #38023): a hook that runs a pass over that P would spin on the lock that its own thread
 * holds, until the time limit. For each way to make a wake time earlier. */
TEST(trap_wake_hook_under_the_timers_lock, 20)
{
    for (int how = 0; how < 5; how++) {
        struct hooks h;
        struct counter c = {0};
        gt_p *p, *q;
        gt_timer *t;

        hooks_init(&h, 1);
        reenter_s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
        p = new_p(reenter_s);
        q = new_p(reenter_s);
        reenter_t = t = new_timer(reenter_s, &c);
        if (how != 0)
            CHECK_EQ(gt_addtimer_on(p, t, T0 + 1000, 0), 0);
        if (how == 2)
            CHECK_EQ(gt_deltimer(t), 1);
        h.on_wake = reenter;
        reentered = 0;
        if (how == 0)
            CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);           /* Removed */
        else if (how == 1)
            CHECK_EQ(gt_resettimer(t, T0 + 10, 0), 1);               /* Waiting */
        else if (how == 2)
            CHECK_EQ(gt_resettimer(t, T0 + 10, 0), 0);               /* Modified(deleted) */
        else if (how == 3)
            CHECK_EQ(gt_adopt_timers(q, p), 1);                      /* q's wake time */
        else
            CHECK_EQ(gt_p_free(p), 0);                               /* q's, too */
        h.on_wake = NULL;
        CHECK_EQ(reentered, 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(h.yields, 0);
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(reenter_s);
        if (how != 4)
            free_p(p);
        free_p(q);
        close_sched(reenter_s);
    }
}

/* ---- the missed wake ---- */

static struct {
    gt_p *p;
    gt_timer *t;
    int64_t when;
    atomic_int at;          /* the clock read at which the arming comes; counted down */
    atomic_int over;        /* the sleep has ended */
    int in_sleep, inside;
    struct errand helper, watchdog;
} missed;

static _Thread_local int going_to_sleep;

static void arm_meanwhile(void *arg)
{
    (void)arg;
    CHECK_GE(gt_resettimer_on(missed.p, missed.t, missed.when, 0), 0);
}

static void arm_at_clock_read(void)
{
    if (going_to_sleep && missed.at-- == 0) {
        missed.inside += missed.in_sleep;
        errand_run(&missed.helper, arm_meanwhile, NULL, 100);
    }
}

/* Arms after all when a sleep reads the clock fewer times than hoped for. */
static void arm_if_not_yet(void *arg)
{
    if (!wait_at_most(&missed.over, 1, 300) && missed.at >= 0)
        arm_meanwhile(arg);
}

/* Catches: a sleeper that decides to sleep, then lets an earlier timer arrive, then sleeps
 * without a second look. The arming happens on another thread at the n-th clock read of the
 * sleeper: in its pass, between pass and sleep (-1), inside the sleep call. The host's clock
 * stands still and the known deadline is an hour away, or there is none, so that only the wake
 * ends the sleep. */
TEST(trap_sleep_after_a_missed_wake, 60)
{
    errand_start(&missed.helper);
    errand_start(&missed.watchdog);
    for (int how = 0; how < 3; how++)                  /* new, shortened, no other timer */
        for (int at = -1; at < 6; at++) {
            struct hooks h;
            struct counter c = {0}, far = {0};
            gt_sched *s;
            gt_timer *f;
            int64_t now, until;

            hooks_init(&h, 0);
            h.wake_note = 1;
            s = hooked_sched(&h, GT_CLOCK_HOST);
            missed.p = new_p(s);
            missed.t = new_timer(s, &c);
            missed.when = HOST_T0 + 10;
            f = new_timer(s, &far);
            if (how != 2)
                CHECK_EQ(gt_addtimer_on(missed.p, f, HOST_T0 + 3600 * SEC, 0), 0);
            if (how == 1)
                CHECK_EQ(gt_addtimer_on(missed.p, missed.t, HOST_T0 + 7200 * SEC, 0), 0);
            while (gt_notetsleep(missed.p, HOST_T0) == 1) {}      /* use up these armings' wake */
            missed.at = at;
            missed.in_sleep = missed.over = 0;
            h.on_clock = arm_at_clock_read;
            going_to_sleep = 1;
            CHECK_EQ(gt_check_timers(missed.p, 0, &now, &until), 0);
            if (at == -1)
                arm_meanwhile(NULL);
            missed.in_sleep = 1;
            errand_run(&missed.watchdog, arm_if_not_yet, NULL, 0);
            CHECK_EQ(gt_notetsleep(missed.p, until), 1);
            going_to_sleep = 0;
            h.on_clock = NULL;
            missed.over = 1;
            errand_settle(&missed.helper);
            errand_settle(&missed.watchdog);
            CHECK_EQ(gt_nobarrier_wake_time(missed.p), HOST_T0 + 10);
            h.clock = HOST_T0 + 10;
            CHECK_EQ(gt_check_timers(missed.p, 0, NULL, NULL), 1);
            CHECK_EQ(c.runs, 1);
            CHECK_EQ(gt_timer_free(missed.t), 0);
            CHECK_EQ(gt_timer_free(f), how != 2);
            check_conserved(s);
            free_p(missed.p);
            close_sched(s);
        }
    CHECK_GT(missed.inside, 0);
    errand_stop(&missed.helper);
    errand_stop(&missed.watchdog);
}

/* ---- rounding ---- */

/* Catches: a wait that is cut down to milliseconds or microseconds (libuv#4773) and so ends
 * early: then the sleep says "the time came" before it did, or the pass after it runs nothing
 * and the loop spins. */
TEST(trap_wait_rounded_down, 30)
{
    static const uint32_t clocks[] = {GT_CLOCK_MONOTONIC, GT_CLOCK_BOOTTIME, GT_CLOCK_WALL};
    uint64_t rng = test_seed();

    for (int k = 0; k < 3; k++) {
        gt_sched *s = new_sched(clocks[k]);
        gt_p *p = new_p(s);
        struct counter c = {0};
        gt_timer *t = new_timer(s, &c);

        for (int i = 1; i <= 150; i++) {
            int64_t when = gt_nanotime(s) + (int64_t)rng_below(&rng, 3 * MS), now, until;

            CHECK_EQ(gt_addtimer_on(p, t, when, 0), 0);
            for (;;) {
                int ran = gt_check_timers(p, 0, &now, &until);

                CHECK_GE(ran, 0);
                if (ran == 1)
                    break;
                CHECK_EQ(until, when);
                if (gt_notetsleep(p, until) == 0)
                    CHECK_GE(gt_nanotime(s), when);
            }
            CHECK_EQ(c.runs, i);
        }
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* The same for the pollable fd: readable means due. */
TEST(trap_fd_readable_before_its_time, 30)
{
    static const uint32_t clocks[] = {GT_CLOCK_MONOTONIC, GT_CLOCK_BOOTTIME, GT_CLOCK_WALL};
    uint64_t rng = test_seed();

    for (int k = 0; k < 3; k++) {
        gt_sched *s = new_sched(clocks[k]);
        gt_p *p = new_p(s);
        struct counter c = {0};
        gt_timer *t = new_timer(s, &c);
        struct pollfd pf = {.fd = gt_p_fd(p), .events = POLLIN};

        CHECK_GE(pf.fd, 0);
        for (int i = 1; i <= 150; i++) {
            int64_t when = gt_nanotime(s) + (int64_t)rng_below(&rng, 3 * MS);

            CHECK_EQ(gt_addtimer_on(p, t, when, 0), 0);
            CHECK_EQ(poll(&pf, 1, 20000), 1);
            CHECK_GE(gt_nanotime(s), when);
            CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
            CHECK_EQ(c.runs, i);
            CHECK_EQ(poll(&pf, 1, 0), 0);                /* nothing is due any more */
        }
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* ---- two settings of one fd ---- */

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *soon, *late;
    pthread_barrier_t bar;
    atomic_int stop;
    int order;
    int64_t after;            /* the soon one is for this much ahead */
} two;

static void *set_late(void *arg)
{
    (void)arg;
    for (;;) {
        pthread_barrier_wait(&two.bar);
        if (two.stop)
            return NULL;
        CHECK_EQ(gt_addtimer_on(two.p, two.late, gt_nanotime(two.s) + 3600 * SEC, 0), 0);
        pthread_barrier_wait(&two.bar);
    }
}

/* Catches: two threads each read the P's wake time and then set the fd, outside of one lock; the
 * older reading may be set last. Here that leaves the fd set to an hour ahead, and poll runs
 * into its limit. */
TEST(trap_fd_settings_in_the_wrong_order, 60)
{
    struct counter c = {0}, d = {0};
    struct pollfd pf = {.events = POLLIN};
    uint64_t rng = test_seed();
    int64_t end = mono_now() + 2 * SEC;
    pthread_t th;

    two.s = new_sched(GT_CLOCK_MONOTONIC);
    two.p = new_p(two.s);
    two.soon = new_timer(two.s, &c);
    two.late = new_timer(two.s, &d);
    pf.fd = gt_p_fd(two.p);
    CHECK_GE(pf.fd, 0);
    CHECK_EQ(pthread_barrier_init(&two.bar, NULL, 2), 0);
    th = thread_start(set_late, NULL);
    for (int i = 1; mono_now() < end; i++) {
        pthread_barrier_wait(&two.bar);
        for (uint64_t spin = rng_below(&rng, 2000); spin > 0; spin--)
            atomic_load(&two.stop);
        CHECK_EQ(gt_addtimer_on(two.p, two.soon, gt_nanotime(two.s) + 100 * US, 0), 0);
        pthread_barrier_wait(&two.bar);
        CHECK_EQ(poll(&pf, 1, 30000), 1);
        CHECK_EQ(gt_check_timers(two.p, 0, NULL, NULL), 1);
        CHECK_EQ(c.runs, i);
        CHECK_EQ(gt_deltimer(two.late), 1);
        CHECK_GE(gt_trim(two.p), 0);
        CHECK_EQ(gt_nobarrier_wake_time(two.p), 0);
    }
    two.stop = 1;
    pthread_barrier_wait(&two.bar);
    thread_join(th);
    CHECK_EQ(gt_timer_free(two.soon) + gt_timer_free(two.late), 0);
    check_conserved(two.s);
    free_p(two.p);
    close_sched(two.s);
}

/* The same, on purpose: thread 1 arms the later timer and is held at the n-th clock read in that
 * call, which is where a wait is computed; meanwhile thread 2 arms the earlier one. The host's
 * clock then passes the earlier time, and the fd must be readable. */
static _Thread_local int setting_fd;
static int fd_at;

static void arm_soon(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_addtimer_on(two.p, two.soon, HOST_T0 + two.after, 0), 0);
}

static void arm_soon_at_clock_read(void)
{
    if (setting_fd && fd_at-- == 0)
        errand_run(&missed.helper, arm_soon, NULL, 100);
}

TEST(trap_fd_set_from_an_old_wake_time, 60)
{
    errand_start(&missed.helper);
    for (int at = 0; at < 5; at++) {
        struct hooks h;
        struct counter c = {0}, d = {0};
        struct pollfd pf = {.events = POLLIN};

        hooks_init(&h, 0);
        two.s = hooked_sched(&h, GT_CLOCK_HOST);
        two.p = new_p(two.s);
        two.soon = new_timer(two.s, &c);
        two.late = new_timer(two.s, &d);
        two.after = 20 * MS;
        pf.fd = gt_p_fd(two.p);
        CHECK_GE(pf.fd, 0);
        fd_at = at;
        h.on_clock = arm_soon_at_clock_read;
        setting_fd = 1;
        CHECK_EQ(gt_addtimer_on(two.p, two.late, HOST_T0 + 3600 * SEC, 0), 0);
        setting_fd = 0;
        h.on_clock = NULL;
        errand_settle(&missed.helper);
        if (fd_at >= 0)
            arm_soon(NULL);
        h.clock = HOST_T0 + 20 * MS;
        CHECK_EQ(poll(&pf, 1, 30000), 1);
        CHECK_EQ(gt_check_timers(two.p, 0, NULL, NULL), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_timer_free(two.soon), 0);
        CHECK_EQ(gt_timer_free(two.late), 1);
        check_conserved(two.s);
        free_p(two.p);
        close_sched(two.s);
    }
    errand_stop(&missed.helper);
}

/* Catches: an fd that went off by the kernel's clock while the host's has not got there, and is
 * not set again by the pass that finds nothing due: the loop around poll spins on it. The host's
 * clock stands still here, 5 ms before the deadline. */
TEST(trap_fd_readable_while_nothing_is_due, 30)
{
    struct hooks h;
    struct counter c = {0};
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct pollfd pf = {.events = POLLIN};
    int64_t end = mono_now() + 300 * MS;
    int rounds = 0;

    hooks_init(&h, 0);
    s = hooked_sched(&h, GT_CLOCK_HOST);
    p = new_p(s);
    t = new_timer(s, &c);
    pf.fd = gt_p_fd(p);
    CHECK_GE(pf.fd, 0);
    CHECK_EQ(gt_addtimer_on(p, t, HOST_T0 + 5 * MS, 0), 0);
    while (mono_now() < end) {
        if (poll(&pf, 1, 50) == 1) {
            CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
            rounds++;
        }
    }
    CHECK_LE(rounds, 1000);                                  /* some 60 are to be expected */
    h.clock = HOST_T0 + 5 * MS;
    CHECK_EQ(poll(&pf, 1, 20000), 1);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(p);
    close_sched(s);
}

/* Catches: a virtual clock's fd that is not looked at again when the clock is set. */
TEST(trap_fd_with_a_virtual_clock, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);
    struct pollfd pf = {.fd = gt_p_fd(p), .events = POLLIN};

    CHECK_GE(pf.fd, 0);
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 99), 0);
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
    CHECK_EQ(poll(&pf, 1, 20000), 1);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 50, 0), 0);           /* armed for the past */
    CHECK_EQ(poll(&pf, 1, 20000), 1);
    CHECK_EQ(gt_resettimer(t, T0 + 1000, 0), 1);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    close_sched(s);
}
