/* Rule S18: fork. Without gt_after_fork the child is told so; with it all timers go on, whatever
 * the threads that fork left behind were doing. */
#include "rules.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

struct fork_rig {
    gt_sched *s;
    gt_p *p, *q;
    struct counter c[20];
    gt_timer *t[20];
};

static struct fork_rig rig;

static void rig_up(uint32_t clock)
{
    rig.s = new_sched(clock);
    rig.p = new_p(rig.s);
    rig.q = new_p(rig.s);
    for (int i = 0; i < 20; i++) {
        rig.t[i] = new_timer(rig.s, &rig.c[i]);
        CHECK_EQ(gt_addtimer_on(i % 2 ? rig.p : rig.q, rig.t[i], T0 + 10 + i, i % 5 ? 0 : 1000), 0);
    }
}

/* What child and parent both do in the end: run all, stop all, free all. */
static void rig_down(void)
{
    CHECK_EQ(gt_verify_timer_heap(rig.p), 0);
    CHECK_EQ(gt_verify_timer_heap(rig.q), 0);
    drain_at(rig.p, T0 + 100);
    drain_at(rig.q, T0 + 100);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(rig.c[i].runs, 1);
        CHECK_EQ(gt_timer_free(rig.t[i]), i % 5 == 0);
        CHECK_EQ(rig.c[i].drops, 1);
    }
    check_conserved(rig.s);
    free_p(rig.p);
    free_p(rig.q);
    close_sched(rig.s);
}

/* ---- without gt_after_fork ---- */

static void child_is_told(void *arg)
{
    gt_stats st = {.size = sizeof st};
    char buf[64];
    uint64_t id = *(uint64_t *)arg;

    CHECK_EQ(gt_check_timers(rig.p, T0 + 100, NULL, NULL), GT_EFORK);
    CHECK_EQ(gt_check_others(rig.s, NULL, T0 + 100, NULL, NULL), GT_EFORK);
    CHECK_EQ(gt_runtimer(rig.p, T0 + 100), GT_EFORK);
    CHECK_EQ(gt_addtimer(rig.t[1], T0 + 100, 0), GT_EFORK);
    CHECK_EQ(gt_addtimer_on(rig.p, rig.t[1], T0 + 100, 0), GT_EFORK);
    CHECK_EQ(gt_modtimer(rig.t[1], T0 + 100, 0, count_run, &rig.c[1], 0), GT_EFORK);
    CHECK_EQ(gt_resettimer(rig.t[1], T0 + 100, 0), GT_EFORK);
    CHECK_EQ(gt_deltimer(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_deltimer_sync(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_shutdown_timer(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_timer_detach(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_timer_free(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_adopt_timers(rig.p, rig.q), GT_EFORK);
    CHECK_EQ(gt_adjusttimers(rig.p, T0 + 1, 1), GT_EFORK);
    CHECK_EQ(gt_cleantimers(rig.p), GT_EFORK);
    CHECK_EQ(gt_trim(rig.p), GT_EFORK);
    CHECK_EQ(gt_acquirep(rig.p), GT_EFORK);
    CHECK_EQ(gt_p_free(rig.p), GT_EFORK);
    CHECK_EQ(gt_sched_free(rig.s), GT_EFORK);
    CHECK_EQ(gt_sched_advance(rig.s, 100), GT_EFORK);
    CHECK_EQ(gt_stats_get(rig.s, &st), GT_EFORK);
    CHECK_EQ(gt_notetsleep(rig.p, T0 + 1), GT_EFORK);
    CHECK_EQ(gt_notewakeup(rig.p), GT_EFORK);
    CHECK_EQ(gt_p_set_userdata(rig.p, buf), GT_EFORK);
    CHECK_PTR_EQ(gt_p_userdata(rig.p), NULL);
    CHECK_EQ(gt_p_num_timers(rig.p), GT_EFORK);
    CHECK_EQ(gt_p_deleted_timers(rig.p), GT_EFORK);
    CHECK_EQ(gt_nobarrier_wake_time(rig.p), GT_EFORK);
    CHECK_EQ(gt_p_fd(rig.p), GT_EFORK);
    CHECK_EQ(gt_verify_timer_heap(rig.p), GT_EFORK);
    CHECK_EQ(gt_nanotime(rig.s), GT_EFORK);
    CHECK_EQ(gt_sched_set_time(rig.s, T0 + 1), GT_EFORK);
    CHECK_EQ(gt_time_sleep_until(rig.s), GT_EFORK);
    CHECK_EQ(gt_overdue(rig.s, T0 + 1), GT_EFORK);
    CHECK_EQ(gt_stats_json(rig.s, buf, sizeof buf), GT_EFORK);
    CHECK_EQ(gt_lateness_get(rig.s, NULL, 0), GT_EFORK);
    CHECK_EQ(gt_timer_status(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_timer_when(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_modtimer_on(rig.p, rig.t[1], T0 + 100, 0, count_run, &rig.c[1], 0), GT_EFORK);
    CHECK_EQ(gt_resettimer_on(rig.p, rig.t[1], T0 + 100, 0), GT_EFORK);
    CHECK_EQ(gt_addtimer_id(rig.s, id, T0 + 100, 0), GT_EFORK);
    CHECK_EQ(gt_modtimer_id(rig.s, id, T0 + 100, 0, count_run, &rig.c[1], 0), GT_EFORK);
    CHECK_EQ(gt_resettimer_id(rig.s, id, T0 + 100, 0), GT_EFORK);
    CHECK_EQ(gt_deltimer_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_deltimer_sync_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_shutdown_timer_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_timer_free_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_timer_detach_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_timer_status_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_timer_when_id(rig.s, id), GT_EFORK);
    CHECK_EQ(gt_timer_id(rig.t[1]), 0);
    CHECK_EQ(gt_last_error(), GT_EFORK);
    CHECK_PTR_EQ(gt_sched_new(NULL), NULL);
    CHECK_EQ(gt_last_error(), GT_EFORK);
    CHECK_PTR_EQ(gt_p_new(rig.s), NULL);
    CHECK_EQ(gt_last_error(), GT_EFORK);
    CHECK_PTR_EQ(gt_timer_new(rig.s, count_run, NULL, NULL), NULL);
    CHECK_EQ(gt_last_error(), GT_EFORK);
    CHECK_HAS(gt_strerror(GT_EFORK), "fork");
    snprintf(buf, sizeof buf, "%s", gt_version_string());      /* needs no sched: still works */
    for (int i = 0; i < 20; i++)
        CHECK_EQ(rig.c[i].runs + rig.c[i].drops, 0);
    CHECK_EQ(gt_after_fork(), 0);                              /* and now it may all go on */
    rig_down();
}

TEST(s18_child_without_after_fork_is_told, 20)
{
    uint64_t id;

    rig_up(GT_CLOCK_VIRTUAL);
    id = gt_timer_id(rig.t[1]);
    must_pass_in_child(child_is_told, &id);
    rig_down();                                                /* the parent saw nothing of it */
}

/* ---- with it ---- */

struct bound {
    gt_p *p;
    atomic_int stage, go;
};

static void *stay_bound(void *arg)
{
    struct bound *b = arg;

    CHECK_EQ(gt_acquirep(b->p), 0);
    b->stage = 1;
    wait_for(&b->go, 1);
    CHECK_PTR_EQ(gt_releasep(), b->p);
    return NULL;
}

static void child_goes_on(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_PTR_EQ(gt_current_p(), rig.p);                       /* this thread's own binding stays */
    CHECK_EQ(gt_acquirep(rig.q), GT_EBUSY);
    CHECK_PTR_EQ(gt_releasep(), rig.p);
    CHECK_EQ(gt_acquirep(rig.q), 0);                           /* its owner is not in the child */
    CHECK_PTR_EQ(gt_releasep(), rig.q);
    CHECK_EQ(gt_time_sleep_until(rig.s), T0 + 10);
    rig_down();
}

TEST(s18_timers_go_on_and_lost_threads_are_unbound, 20)
{
    struct bound b = {0};
    pthread_t th;

    rig_up(GT_CLOCK_VIRTUAL);
    b.p = rig.q;
    th = thread_start(stay_bound, &b);
    wait_for(&b.stage, 1);
    CHECK_EQ(gt_acquirep(rig.p), 0);
    must_pass_in_child(child_goes_on, NULL);
    CHECK_PTR_EQ(gt_releasep(), rig.p);
    b.go = 1;
    thread_join(th);
    rig_down();
}

/* A child with threads of its own, and a grandchild. */
static void grandchild(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_deltimer(rig.t[1]), GT_EFORK);
    CHECK_EQ(gt_after_fork(), 0);
    rig_down();
}

static void *steal_all(void *arg)
{
    while (gt_check_others(rig.s, arg, T0 + 100, NULL, NULL) == 1) {}
    return NULL;
}

static void child_with_threads(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    must_pass_in_child(grandchild, NULL);
    thread_join(thread_start(steal_all, NULL));
    rig_down();
}

TEST(s18_child_of_a_child, 30)
{
    rig_up(GT_CLOCK_VIRTUAL);
    must_pass_in_child(child_with_threads, NULL);
    rig_down();
}

/* ---- a fork in a wake hook ---- */

struct hook_rig {
    gt_sched *s;
    gt_p *p, *q;
    struct counter c;
    gt_timer *t[3];
    int armed, in_child;
    int calls_p, calls_q;
};

/* The hook of p has q woken, whose hook forks. In the child both go on. */
static void wake_hook_that_forks(void *ctx, gt_p *p, int64_t when)
{
    struct hook_rig *h = ctx;
    int status;
    pid_t pid;

    (void)when;
    if (!h->armed)
        return;
    h->calls_p += p == h->p;
    h->calls_q += p == h->q;
    if (p == h->p && h->calls_p == 1)
        CHECK_EQ(gt_addtimer_on(h->q, h->t[1], T0 + 10, 0), 0);
    if (p != h->q || h->calls_q != 1)
        return;
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        alarm(100);
        h->in_child = 1;
        CHECK_EQ(gt_after_fork(), 0);
        return;
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        test_failed(__FILE__, __LINE__, "the child ended with wait status 0x%x", status);
}

TEST(s18_fork_in_a_wake_hook, 20)
{
    struct hook_rig h = {.armed = 0};
    gt_host host = {.size = sizeof host, .ctx = &h, .wake_netpoller = wake_hook_that_forks};
    gt_config cfg = {.size = sizeof cfg, .host = &host, .clock = GT_CLOCK_VIRTUAL};

    CHECK((h.s = gt_sched_new(&cfg)) != NULL);
    h.p = new_p(h.s);
    h.q = new_p(h.s);
    for (int i = 0; i < 3; i++)
        h.t[i] = new_timer(h.s, &h.c);
    CHECK_EQ(gt_check_timers(h.p, 0, NULL, NULL), 0);   /* told: no timer */
    CHECK_EQ(gt_check_timers(h.q, 0, NULL, NULL), 0);
    h.armed = 1;
    CHECK_EQ(gt_addtimer_on(h.p, h.t[0], T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer_on(h.p, h.t[2], T0 + 5, 0), 0);
    CHECK_EQ(h.calls_p, 2);
    CHECK_EQ(h.calls_q, 1);
    drain_at(h.p, T0 + 10);
    drain_at(h.q, T0 + 10);
    CHECK_EQ(h.c.runs, 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_timer_free(h.t[i]), 0);
    check_conserved(h.s);
    h.armed = 0;
    free_p(h.q);
    free_p(h.p);        /* waits for no hook: none is under way */
    h.p = new_p(h.s);
    free_p(h.p);
    close_sched(h.s);
    if (h.in_child)
        _exit(0);
}

/* ---- what lost threads were doing ---- */

static gt_timer *locked;

static void child_unlocks(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_NE(gt_timer_status(locked), GT_TIMER_LOCKED);
    CHECK_GE(gt_timer_when(locked), T0 + 500);                 /* done or not done, not half done */
    CHECK_EQ(gt_resettimer(locked, T0 + 200, 0), 1);
    CHECK_EQ(check_at(rig.p, T0 + 300), 1);
    CHECK_EQ(gt_timer_status(locked), GT_TIMER_REMOVED);
    CHECK_EQ(gt_addtimer_on(rig.q, locked, T0 + 400, 0), 0);
    CHECK_EQ(gt_deltimer_sync(locked), 1);
    CHECK_EQ(gt_timer_free(locked), 0);
    rig_down();
}

/* Another thread is stopped while it has a timer locked, and the process forks. */
TEST(s18_timers_locked_by_lost_threads_are_released, 60)
{
    struct counter c = {0};
    struct t_holder h;
    int64_t when = T0 + 501;

    needs_freeze();
    rig_up(GT_CLOCK_VIRTUAL);
    locked = new_timer(rig.s, &c);
    CHECK_EQ(gt_addtimer_on(rig.p, locked, T0 + 500, 0), 0);
    for (int i = 0; i < 10; i++) {
        hold_timer(&h, locked, when);
        must_pass_in_child(child_unlocks, NULL);
        let_timer_go(&h);
        when = h.when;
    }
    CHECK_EQ(gt_timer_free(locked), 1);
    CHECK_EQ(c.drops, 1);
    rig_down();
}

/* A lost thread was in the middle of a callback: nobody may wait for it. */
static struct {
    gt_timer *t;
    atomic_int entered, go, drops;
} lost;

static void lost_drop(void *arg)
{
    (void)arg;
    lost.drops++;
}

static void lost_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    lost.entered = 1;
    wait_for(&lost.go, 1);
}

static void *lost_pass(void *arg)
{
    (void)arg;
    CHECK_EQ(check_at(rig.p, T0 + 5), 1);
    return NULL;
}

static void child_does_not_wait(void *arg)
{
    int r;

    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    r = gt_deltimer_sync(lost.t);
    CHECK(r == 1 || r == GT_EDEADLK);
    CHECK_EQ(gt_timer_when(lost.t), 0);
    CHECK_EQ(lost.drops, 0);
    CHECK_EQ(gt_timer_free(lost.t), 0);
    CHECK_EQ(lost.drops, 1);                                   /* the lost call uses it no more */
    rig_down();                                                /* frees the P of the lost pass */
}

TEST(s18_a_lost_callback_blocks_nobody, 20)
{
    pthread_t th;

    rig_up(GT_CLOCK_VIRTUAL);
    CHECK((lost.t = gt_timer_new(rig.s, lost_run, NULL, lost_drop)) != NULL);
    CHECK_EQ(gt_addtimer_on(rig.p, lost.t, T0 + 5, 1000), 0);
    th = thread_start(lost_pass, NULL);
    wait_for(&lost.entered, 1);
    must_pass_in_child(child_does_not_wait, NULL);
    lost.go = 1;
    thread_join(th);
    CHECK_EQ(gt_timer_free(lost.t), 1);
    CHECK_EQ(lost.drops, 1);
    rig_down();
}

/* A lost thread was asleep on its P, and the parent's sleeper is not woken by the child. */
static void *sleeps(void *arg)
{
    struct bound *b = arg;

    b->stage = 1;
    CHECK_EQ(gt_notetsleep(b->p, 0), 1);
    b->stage = 2;
    return NULL;
}

static void child_of_sleeper(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_notewakeup(rig.p), 0);
    CHECK_EQ(gt_notetsleep(rig.p, 0), 1);
    rig_down();
}

TEST(s18_a_lost_sleeper, 20)
{
    struct bound b = {0};
    pthread_t th;

    rig_up(GT_CLOCK_VIRTUAL);
    while (gt_notetsleep(rig.p, T0) == 1) {}                   /* use up the armings' wake */
    b.p = rig.p;
    th = thread_start(sleeps, &b);
    wait_for(&b.stage, 1);
    sleep_ms(20);
    must_pass_in_child(child_of_sleeper, NULL);
    sleep_ms(20);
    CHECK_EQ(b.stage, 1);
    CHECK_EQ(gt_notewakeup(rig.p), 0);
    thread_join(th);
    rig_down();
}

/* A pollable fd is shared over fork by its nature; what the child does must not disarm the
 * parent's. */
static void child_stops_all(void *arg)
{
    struct pollfd pf = {.events = POLLIN};

    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_deltimer(arg), 1);
    CHECK_GE(gt_check_timers(rig.p, 0, NULL, NULL), 0);
    pf.fd = gt_p_fd(rig.p);
    CHECK_GE(pf.fd, 0);
    CHECK_EQ(gt_addtimer_on(rig.p, arg, gt_nanotime(rig.s) + 3600 * SEC, 0), 0);
    CHECK_EQ(poll(&pf, 1, 0), 0);
    CHECK_EQ(gt_resettimer(arg, gt_nanotime(rig.s) + 5 * MS, 0), 1);
    CHECK_EQ(poll(&pf, 1, 20000), 1);                          /* the child's own works */
    CHECK_EQ(gt_check_timers(rig.p, 0, NULL, NULL), 1);
}

TEST(s18_childs_fd_is_its_own, 60)
{
    struct counter c = {0};
    gt_timer *t;
    struct pollfd pf = {.events = POLLIN};

    rig.s = new_sched(GT_CLOCK_MONOTONIC);
    rig.p = new_p(rig.s);
    t = new_timer(rig.s, &c);
    pf.fd = gt_p_fd(rig.p);
    CHECK_GE(pf.fd, 0);
    CHECK_EQ(gt_addtimer_on(rig.p, t, gt_nanotime(rig.s) + 500 * MS, 0), 0);
    must_pass_in_child(child_stops_all, t);
    CHECK_EQ(poll(&pf, 1, 20000), 1);
    while (gt_check_timers(rig.p, 0, NULL, NULL) == 0) {}
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(rig.p);
    close_sched(rig.s);
}

/* ---- forks in the middle of everything ---- */

static struct {
    gt_sched *s;
    gt_p *p[2];
    gt_timer *t[3][40];
    atomic_int stop;
    struct counter c;
} load;

static void load_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    ((struct counter *)arg)->runs++;
}

static void *load_loop(void *arg)
{
    gt_timer **t = arg;
    uint64_t rng = test_seed() + this_thread();

    while (!load.stop) {
        int i = (int)rng_below(&rng, 40);
        int64_t when = T0 + 1 + (int64_t)rng_below(&rng, 5000), now = T0 + (int64_t)rng_below(&rng, 100);
        gt_p *p = load.p[rng_below(&rng, 2)];

        switch (rng_below(&rng, 8)) {
        case 0:
        case 1:
        case 2:
            CHECK_GE(gt_resettimer_on(p, t[i], when, 0), 0);
            break;
        case 3:
            CHECK_GE(gt_deltimer(t[i]), 0);
            break;
        case 4:
            CHECK_GE(gt_check_timers(p, now, NULL, NULL), 0);
            break;
        case 5:
            CHECK_EQ(gt_verify_timer_heap(p), 0);
            break;
        case 6:
            CHECK_EQ(gt_adjusttimers(p, now, 1), 0);
            break;
        default:
            CHECK_GE(gt_timer_free(t[i]), 0);
            CHECK((t[i] = gt_timer_new(load.s, load_run, &load.c, NULL)) != NULL);
            break;
        }
    }
    return NULL;
}

/* The child finds whole heaps, runs whatever is armed, and arms new ones. A timer that a lost
 * thread was about to free or had just made may have no handle here; so only those in t[0],
 * whose thread is the one that forks, are looked at one by one. */
static void child_of_load(void *arg)
{
    int armed = 0, before;
    gt_stats st;

    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_verify_timer_heap(load.p[0]), 0);
    CHECK_EQ(gt_verify_timer_heap(load.p[1]), 0);
    drain_at(load.p[0], T0 + 10000);
    drain_at(load.p[1], T0 + 10000);
    st = get_stats(load.s);
    CHECK_EQ(st.pending, 0);
    CHECK_EQ(st.early, 0);
    CHECK_EQ(gt_time_sleep_until(load.s), GT_MAX_WHEN);
    before = load.c.runs;
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(gt_timer_status(load.t[0][i]), GT_TIMER_REMOVED);
        CHECK_EQ(gt_addtimer_on(load.p[i % 2], load.t[0][i], T0 + 20000 + i, 0), 0);
        armed++;
    }
    drain_at(load.p[0], T0 + 30000);
    drain_at(load.p[1], T0 + 30000);
    CHECK_EQ(load.c.runs, before + armed);
    free_p(load.p[0]);
    free_p(load.p[1]);
    close_sched(load.s);
}

TEST(s18_fork_under_load, 60)
{
    pthread_t th[2];

    load.s = virtual_sched();
    load.p[0] = new_p(load.s);
    load.p[1] = new_p(load.s);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 40; i++)
            CHECK((load.t[k][i] = gt_timer_new(load.s, load_run, &load.c, NULL)) != NULL);
    for (int i = 0; i < 2; i++)
        th[i] = thread_start(load_loop, load.t[i + 1]);
    for (int i = 0; i < 30; i++) {
        for (int k = 0; k < 40; k++)
            CHECK_GE(gt_resettimer_on(load.p[k % 2], load.t[0][k], T0 + 200 + k * i, 0), 0);
        must_pass_in_child(child_of_load, NULL);
    }
    load.stop = 1;
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 40; i++)
            CHECK_GE(gt_timer_free(load.t[k][i]), 0);
    check_conserved(load.s);
    free_p(load.p[0]);
    free_p(load.p[1]);
    close_sched(load.s);
}
