/* Rule S11: what a callback may do. The timer's own fate, its P, other passes, the embedder's
 * locks, other stacks and threads. (A callback that throws: rules_throw.cpp.) */
#include "rules.h"

#include <ucontext.h>

struct act {
    gt_sched *s;
    gt_p *p, *q;
    gt_timer *t;
    int runs, drops;
    int64_t now;
};

static void act_up(struct act *a, gt_func f, void (*drop)(void *), int64_t period)
{
    memset(a, 0, sizeof *a);
    a->s = virtual_sched();
    a->p = new_p(a->s);
    a->q = new_p(a->s);
    CHECK((a->t = gt_timer_new(a->s, f, a, drop)) != NULL);
    CHECK_EQ(gt_addtimer_on(a->p, a->t, T0 + 10, period), 0);
}

static void act_down(struct act *a)
{
    check_conserved(a->s);
    free_p(a->p);
    free_p(a->q);
    close_sched(a->s);
}

static void act_drop(void *arg) { ((struct act *)arg)->drops++; }

/* ---- its own timer ---- */

static void reset_self(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    if (a->runs <= 3)
        CHECK_EQ(gt_resettimer_on(a->p, a->t, T0 + 10 + 10 * a->runs, 0), 0);
}

TEST(s11_callback_resets_itself, 10)
{
    struct act a;

    act_up(&a, reset_self, act_drop, 0);
    for (int i = 1; i <= 4; i++) {
        CHECK_EQ(check_at(a.p, T0 + 10 * i - 1), 0);
        CHECK_EQ(check_at(a.p, T0 + 10 * i), 1);
        CHECK_EQ(a.runs, i);
    }
    CHECK_EQ(check_at(a.p, T0 + 1000), 0);
    CHECK_EQ(gt_timer_free(a.t), 0);
    CHECK_EQ(a.drops, 1);
    act_down(&a);
}

static void stop_self(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    CHECK_EQ(gt_deltimer(a->t), 1);      /* periodic: the next firing */
    CHECK_EQ(gt_deltimer(a->t), 0);
}

TEST(s11_callback_stops_itself, 10)
{
    struct act a;

    act_up(&a, stop_self, act_drop, 5);
    CHECK_EQ(check_at(a.p, T0 + 10), 1);
    CHECK_EQ(check_at(a.p, T0 + 1000), 0);
    CHECK_EQ(a.runs, 1);
    CHECK_EQ(gt_timer_free(a.t), 0);
    CHECK_EQ(a.drops, 1);
    act_down(&a);
}

/* After its free the handle answers GT_ESTALE inside this callback; drop comes once, when f
 * has returned. */
static void free_self(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    CHECK_EQ(gt_timer_free(a->t), a->now == 5);      /* now: the period here */
    CHECK_EQ(a->drops, 0);
    CHECK_EQ(gt_resettimer(a->t, T0 + 500, 0), GT_ESTALE);
    CHECK_EQ(gt_addtimer_on(a->q, a->t, T0 + 500, 0), GT_ESTALE);
    CHECK_EQ(gt_deltimer(a->t), GT_ESTALE);
    CHECK_EQ(gt_timer_free(a->t), GT_ESTALE);
    CHECK_EQ(a->drops, 0);
}

TEST(s11_callback_frees_itself, 10)
{
    for (int period = 0; period <= 5; period += 5) {
        struct act a;
        uint64_t id;

        act_up(&a, free_self, act_drop, period);
        a.now = period;
        id = gt_timer_id(a.t);
        CHECK_EQ(check_at(a.p, T0 + 10), 1);
        CHECK_EQ(a.runs, 1);
        CHECK_EQ(a.drops, 1);
        CHECK_EQ(gt_deltimer_id(a.s, id), GT_ESTALE);
        CHECK_EQ(check_at(a.p, T0 + 1000), 0);
        CHECK_GE(gt_trim(a.p), 0);
        CHECK_EQ(get_stats(a.s).timers, 0);
        act_down(&a);
    }
}

static void modify_self(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)delay;
    a->runs++;
    CHECK_EQ(seq, a->runs - 1);
    if (a->runs < 4)
        CHECK_EQ(gt_modtimer_on(a->p, a->t, T0 + 10 + a->runs, 0, modify_self, a, seq + 1), 0);
}

TEST(s11_callback_modifies_itself, 10)
{
    struct act a;

    act_up(&a, modify_self, act_drop, 0);
    drain_at(a.p, T0 + 100);
    CHECK_EQ(a.runs, 4);
    CHECK_EQ(a.drops, 0);                  /* the same arg is no replacement */
    CHECK_EQ(gt_timer_free(a.t), 0);
    CHECK_EQ(a.drops, 1);
    act_down(&a);
}

/* ---- its P ---- */

/* Frees the P whose pass is under way. The pass ends; what was still due goes on elsewhere. */
static void free_p_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    if (a->p != NULL) {
        gt_p *n;

        CHECK_EQ(gt_p_free(a->p), 0);
        n = new_p(a->s);
        CHECK(n != a->p);                  /* the pass is still on that one */
        free_p(n);
        a->p = NULL;
    }
}

static void callback_frees_p(int bound, int other_lives)
{
    struct act a;
    struct counter c[10] = {{0}};
    gt_timer *t[10];
    int runs = 0;

    act_up(&a, free_p_run, act_drop, 0);
    for (int i = 0; i < 10; i++) {
        t[i] = new_timer(a.s, &c[i]);
        CHECK_EQ(gt_addtimer_on(a.p, t[i], T0 + 11 + i, 0), 0);
    }
    if (!other_lives) {
        free_p(a.q);
        a.q = NULL;
    }
    if (bound)
        CHECK_EQ(gt_acquirep(a.p), 0);
    CHECK_EQ(gt_check_timers(a.p, T0 + 100, NULL, NULL), 1);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_EQ(a.runs, 1);
    for (int i = 0; i < 10; i++)
        runs += c[i].runs;
    CHECK_EQ(runs, 0);
    CHECK_LE(gt_time_sleep_until(a.s), T0 + 11);
    if (!other_lives)
        a.q = new_p(a.s);
    drain_at(a.q, T0 + 100);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(c[i].runs, 1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    CHECK_EQ(gt_timer_free(a.t), 0);
    a.p = new_p(a.s);
    act_down(&a);
}

TEST(s11_callback_frees_its_p, 10)
{
    for (int i = 0; i < 4; i++)
        callback_frees_p(i & 1, i & 2);
}

/* Moves the rest of the pass's timers away, or moves more of them in. */
static void adopt_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    CHECK_EQ(gt_adopt_timers(a->q, a->p), 10);
}

static void adopt_in_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    CHECK_EQ(gt_adopt_timers(a->p, a->q), 10);
}

TEST(s11_callback_adopts, 10)
{
    for (int in = 0; in <= 1; in++) {
        struct act a;
        struct counter c[10] = {{0}};
        gt_timer *t[10];

        act_up(&a, in ? adopt_in_run : adopt_run, act_drop, 0);
        for (int i = 0; i < 10; i++) {
            t[i] = new_timer(a.s, &c[i]);
            CHECK_EQ(gt_addtimer_on(in ? a.q : a.p, t[i], T0 + 11 + i, 0), 0);
        }
        CHECK_EQ(check_at(a.p, T0 + 100), 1);
        CHECK_EQ(a.runs, 1);
        drain_at(in ? a.p : a.q, T0 + 100);
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(c[i].runs, 1);
            CHECK_EQ(gt_timer_free(t[i]), 0);
        }
        CHECK_EQ(gt_timer_free(a.t), 0);
        act_down(&a);
    }
}

/* ---- passes in passes ---- */

static void nested_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)delay;
    a->runs++;
    CHECK_GE(gt_check_timers(seq & 1 ? a->q : a->p, T0 + 100, NULL, NULL), 0);
    CHECK_GE(gt_check_others(a->s, a->p, T0 + 100, NULL, NULL), 0);
    CHECK_GE(gt_runtimer(a->p, T0 + 100), -1);
}

/* Every callback starts passes of its own over both Ps. Each timer runs once all the same. */
TEST(s11_callback_runs_nested_passes, 20)
{
    enum { N = 60 };
    struct act a;
    gt_timer *t[N];

    act_up(&a, nested_run, act_drop, 0);
    for (int i = 0; i < N; i++) {
        CHECK((t[i] = gt_timer_new(a.s, nested_run, &a, NULL)) != NULL);
        CHECK_EQ(gt_modtimer_on(i % 3 ? a.p : a.q, t[i], T0 + 10 + i, 0, nested_run, &a, (uintptr_t)i), 0);
    }
    drain_at(a.p, T0 + 100);
    drain_at(a.q, T0 + 100);
    CHECK_EQ(a.runs, N + 1);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_timer_free(a.t), 0);
    act_down(&a);
}

/* Any function at all, on the P and the sched of the pass. */
static void anything_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;
    struct counter c = {0};
    gt_timer *t = new_timer(a->s, &c);
    char json[2048];
    gt_p *n;

    (void)seq;
    (void)delay;
    a->runs++;
    CHECK_EQ(gt_addtimer_on(a->p, t, T0 + 400, 0), 0);
    CHECK_EQ(gt_resettimer(t, T0 + 300, 0), 1);
    CHECK_EQ(gt_deltimer_sync(t), 1);
    CHECK_EQ(gt_adjusttimers(a->p, T0 + 10, 1), 0);
    CHECK_EQ(gt_cleantimers(a->p), 0);
    CHECK_GE(gt_trim(a->p), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(gt_verify_timer_heap(a->p), 0);
    CHECK_GE(gt_p_num_timers(a->p), 0);
    CHECK_GE(gt_nobarrier_wake_time(a->p), 0);
    CHECK_GT(gt_time_sleep_until(a->s), 0);
    CHECK_EQ(gt_overdue(a->s, T0 + 10), 0);
    CHECK_GT(gt_stats_json(a->s, json, sizeof json), 2);
    get_stats(a->s);
    CHECK_PTR_EQ(gt_current_p(), a->p);
    CHECK_PTR_EQ(gt_releasep(), a->p);
    n = new_p(a->s);
    CHECK_EQ(gt_acquirep(n), 0);
    CHECK_PTR_EQ(gt_releasep(), n);
    free_p(n);
    CHECK_EQ(gt_acquirep(a->p), 0);
    CHECK_EQ(gt_notewakeup(a->p), 0);
    CHECK_EQ(gt_notetsleep(a->p, 0), 1);
    CHECK_EQ(gt_sched_free(a->s), GT_EBUSY);
}

TEST(s11_callback_calls_anything, 10)
{
    struct act a;

    act_up(&a, anything_run, act_drop, 0);
    CHECK_EQ(gt_acquirep(a.p), 0);
    CHECK_EQ(check_at(a.p, T0 + 10), 1);
    CHECK_EQ(a.runs, 1);
    CHECK_PTR_EQ(gt_releasep(), a.p);
    CHECK_EQ(gt_timer_free(a.t), 0);
    act_down(&a);
}

/* ---- the embedder's lock ---- */

static pthread_mutex_t embedder = PTHREAD_MUTEX_INITIALIZER;
static atomic_int at_lock;

static void lock_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct act *a = arg;

    (void)seq;
    (void)delay;
    at_lock = 1;
    pthread_mutex_lock(&embedder);
    a->runs++;
    pthread_mutex_unlock(&embedder);
}

static void *lock_pass(void *arg)
{
    struct act *a = arg;

    CHECK_EQ(check_at(a->p, T0 + 10), 1);
    return NULL;
}

/* The callback wants a lock whose holder is busy with this very timer, and with others of the
 * same P: none of these calls may wait for the callback. */
TEST(s11_callback_takes_a_lock_whose_holder_resets_it, 20)
{
    for (int period = 0; period <= 5; period += 5) {
        struct act a;
        struct counter c = {0};
        gt_timer *u;
        pthread_t th;

        act_up(&a, lock_run, act_drop, period);
        u = new_timer(a.s, &c);
        at_lock = 0;
        pthread_mutex_lock(&embedder);
        th = thread_start(lock_pass, &a);
        wait_for(&at_lock, 1);
        CHECK_EQ(gt_resettimer_on(a.p, a.t, T0 + 20, 0), period != 0);
        CHECK_EQ(gt_deltimer(a.t), 1);
        CHECK_EQ(gt_addtimer_on(a.p, a.t, T0 + 30, 0), 0);
        CHECK_EQ(gt_addtimer_on(a.p, u, T0 + 40, 0), 0);
        CHECK_EQ(gt_adjusttimers(a.p, T0 + 1, 1), 0);
        CHECK_EQ(gt_verify_timer_heap(a.p), 0);
        CHECK_EQ(gt_timer_free(u), 1);
        CHECK_EQ(gt_adopt_timers(a.q, a.p), 1);
        pthread_mutex_unlock(&embedder);
        thread_join(th);
        CHECK_EQ(a.runs, 1);
        CHECK_EQ(check_at(a.q, T0 + 30), 1);
        CHECK_EQ(a.runs, 2);
        CHECK_EQ(gt_timer_free(a.t), 0);
        CHECK_EQ(a.drops, 1);
        act_down(&a);
    }
}

/* Two passes at once over one P (its own and a thief's): while one is in a callback, the other
 * gets on. */
static void *second_pass(void *arg)
{
    struct act *a = arg;

    CHECK_GE(gt_check_others(a->s, a->q, T0 + 10, NULL, NULL), 0);
    drain_at(a->p, T0 + 10);
    at_lock = 2;
    return NULL;
}

TEST(s11_other_passes_go_on_while_f_waits, 20)
{
    struct act a;
    struct counter c[5] = {{0}};
    gt_timer *t[5];
    pthread_t th, other;

    act_up(&a, lock_run, act_drop, 0);
    at_lock = 0;
    for (int i = 0; i < 5; i++) {
        t[i] = new_timer(a.s, &c[i]);
        CHECK_EQ(gt_addtimer_on(a.p, t[i], T0 + 10, 0), 0);
    }
    CHECK_EQ(gt_resettimer(a.t, T0 + 9, 0), 1);
    pthread_mutex_lock(&embedder);
    th = thread_start(lock_pass, &a);
    wait_for(&at_lock, 1);
    other = thread_start(second_pass, &a);
    wait_for(&at_lock, 2);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(c[i].runs, 1);
    pthread_mutex_unlock(&embedder);
    thread_join(th);
    thread_join(other);
    CHECK_EQ(a.runs, 1);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_timer_free(a.t), 0);
    act_down(&a);
}

/* ---- another stack, another thread ---- */

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)

/* A green thread runs a pass on thread 1; its callback switches away, and the green thread goes
 * on, callback and pass and all, on thread 2. Meanwhile another green thread on thread 1 waits
 * for the callback with deltimer_sync: it is not the caller of the callback, though it sits on
 * the thread where that began. The library must keep nothing of thread 1 across f. */
static struct {
    gt_p *p;
    gt_timer *t;
    gt_timer *second;
    struct counter c;
    ucontext_t scheduler, pass;
    atomic_int parked, finished, resumed;
    uintptr_t thread_of_pass_end;
    int ran, sync_result;
} sw;

static _Thread_local uintptr_t green = 1;

__attribute__((noinline)) static void set_green(uintptr_t g) { green = g; }

static uintptr_t green_now(void *ctx)
{
    (void)ctx;
    return green;
}

static void switch_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(swapcontext(&sw.pass, &sw.scheduler), 0);     /* off thread 1, to come back on 2 */
    sw.resumed = 1;
}

static void switch_pass(void)
{
    sw.ran = check_at(sw.p, T0 + 10);
    sw.thread_of_pass_end = this_thread();
    atomic_store(&sw.finished, 1);
    setcontext(&sw.scheduler);                             /* of thread 2 by now */
}

static void *switch_thread_2(void *arg)
{
    (void)arg;
    wait_for(&sw.parked, 1);
    sleep_ms(30);                                          /* thread 1 waits in deltimer_sync */
    CHECK_EQ(sw.resumed, 0);
    set_green(77);
    CHECK_EQ(getcontext(&sw.scheduler), 0);
    if (!atomic_load(&sw.finished))
        CHECK_EQ(setcontext(&sw.pass), 0);
    return NULL;
}

TEST(s11_switches_stack_and_finishes_on_another_thread, 30)
{
    struct hooks h;
    gt_sched *s;
    pthread_t th;
    size_t size = 256 * 1024;
    void *stack = malloc(size);

    hooks_init(&h, 0);
    h.host.current_context = green_now;
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    sw.p = new_p(s);
    CHECK((sw.t = gt_timer_new(s, switch_run, NULL, NULL)) != NULL);
    sw.second = new_timer(s, &sw.c);
    CHECK_EQ(gt_addtimer_on(sw.p, sw.t, T0 + 5, 0), 0);
    CHECK_EQ(gt_addtimer_on(sw.p, sw.second, T0 + 6, 0), 0);
    th = thread_start(switch_thread_2, NULL);

    CHECK_EQ(getcontext(&sw.pass), 0);
    sw.pass.uc_stack.ss_sp = stack;
    sw.pass.uc_stack.ss_size = size;
    sw.pass.uc_link = NULL;
    makecontext(&sw.pass, switch_pass, 0);
    set_green(77);
    CHECK_EQ(swapcontext(&sw.scheduler, &sw.pass), 0);
    /* back on this stack: green thread 77 is parked in its callback */
    set_green(78);
    atomic_store(&sw.parked, 1);
    CHECK_EQ(gt_deltimer_sync(sw.t), 0);
    CHECK_EQ(sw.resumed, 1);
    thread_join(th);
    CHECK_EQ(sw.finished, 1);
    CHECK_EQ(sw.ran, 1);
    CHECK_NE(sw.thread_of_pass_end, this_thread());
    CHECK_EQ(sw.c.runs, 1);                                /* the pass went on, on thread 2 */
    CHECK_EQ(h.acquires, h.releases);
    CHECK_EQ(gt_timer_free(sw.t), 0);
    CHECK_EQ(gt_timer_free(sw.second), 0);
    check_conserved(s);
    free_p(sw.p);
    close_sched(s);
    free(stack);
}

#endif
