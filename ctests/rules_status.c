/* Rules S1 (status and its transitions) and S2 (a timer's lock is held pinned). */
#include "rules.h"

#include <sched.h>
#include <time.h>

/* ---- S1: the table of transitions, one row per operation ---- */

enum from { REMOVED, WAITING, LATER, EARLIER, DELETED, N_FROM };

/* Brings a timer of its own into a state. Its key in the heap is T0+100, but for REMOVED. */
static gt_timer *timer_in(gt_sched *s, gt_p *p, struct counter *c, enum from from)
{
    gt_timer *t = new_timer(s, c);

    CHECK_EQ(gt_timer_status(t), GT_TIMER_REMOVED);
    if (from == REMOVED)
        return t;
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    CHECK_EQ(gt_timer_status(t), GT_TIMER_WAITING);
    CHECK_EQ(gt_timer_when(t), T0 + 100);
    switch (from) {
    case LATER:
        CHECK_EQ(gt_resettimer(t, T0 + 200, 0), 1);
        break;
    case EARLIER:
        CHECK_EQ(gt_resettimer(t, T0 + 50, 0), 1);
        break;
    case DELETED:
        CHECK_EQ(gt_deltimer(t), 1);
        CHECK_EQ(gt_timer_when(t), 0);
        break;
    default:
        return t;
    }
    CHECK_EQ(gt_timer_status(t), GT_TIMER_MODIFIED);
    return t;
}

static int64_t op_del(gt_p *p, gt_timer *t) { (void)p; return gt_deltimer(t); }
static int64_t op_count_deleted(gt_p *p, gt_timer *t) { (void)t; return gt_p_deleted_timers(p); }
static int64_t op_add(gt_p *p, gt_timer *t) { return gt_addtimer_on(p, t, T0 + 150, 0); }
static int64_t op_mod(gt_p *p, gt_timer *t) { return gt_resettimer_on(p, t, T0 + 150, 0); }
static int64_t op_run_early(gt_p *p, gt_timer *t) { (void)t; return gt_runtimer(p, T0 + 1); }
static int64_t op_run_due(gt_p *p, gt_timer *t) { (void)t; return gt_runtimer(p, T0 + 1000); }
static int64_t op_adjust(gt_p *p, gt_timer *t) { (void)t; return gt_adjusttimers(p, T0 + 1, 1); }
static int64_t op_clean(gt_p *p, gt_timer *t) { (void)t; return gt_cleantimers(p); }

struct row {
    const char *name;
    int64_t (*op)(gt_p *p, gt_timer *t);
    struct {
        int64_t result;
        int status;
    } want[N_FROM];
};

#define R GT_TIMER_REMOVED
#define W GT_TIMER_WAITING
#define M GT_TIMER_MODIFIED

static const struct row rows[] = {
    /*                          REMOVED  WAITING        LATER          EARLIER        DELETED */
    {"deltimer", op_del,        {{0, R}, {1, M},        {1, M},        {1, M},        {0, M}}},
    {"addtimer", op_add,        {{0, W}, {GT_EALREADY, W}, {GT_EALREADY, M}, {GT_EALREADY, M}, {0, M}}},
    {"modtimer", op_mod,        {{0, W}, {1, M},        {1, M},        {1, M},        {0, M}}},
    {"runtimer, not due", op_run_early,
                                {{-1, R}, {T0 + 100, W}, {T0 + 200, W}, {T0 + 50, W}, {-1, R}}},
    {"runtimer, due", op_run_due, {{-1, R}, {0, R},     {0, R},        {0, R},        {-1, R}}},
    {"adjusttimers", op_adjust, {{0, R}, {0, W},        {0, W},        {0, W},        {0, R}}},
    {"cleantimers", op_clean,   {{0, R}, {0, W},        {0, W},        {0, W},        {0, R}}},
    {"deleted_timers", op_count_deleted, {{0, R}, {0, W},      {0, M},        {0, M},        {1, M}}},
};

TEST(s1_status_transitions, 10)
{
    static const char *from_name[N_FROM] = {"Removed", "Waiting", "Modified(later)",
                                            "Modified(earlier)", "Modified(deleted)"};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int from = 0; from < N_FROM; from++) {
            gt_sched *s = virtual_sched();
            gt_p *p = new_p(s);
            struct counter c = {0};
            gt_timer *t = timer_in(s, p, &c, (enum from)from);
            int64_t got = rows[i].op(p, t);
            int status = gt_timer_status(t);

            if (got != rows[i].want[from].result || status != rows[i].want[from].status)
                test_failed(__FILE__, __LINE__, "%s on %s: result %lld, status %d; wanted %lld, %d",
                            rows[i].name, from_name[from], (long long)got, status,
                            (long long)rows[i].want[from].result, rows[i].want[from].status);
            CHECK_EQ(gt_verify_timer_heap(p), 0);
            check_conserved(s);
            CHECK_GE(gt_timer_free(t), 0);
            CHECK_EQ(c.drops, 1);
            free_p(p);
            close_sched(s);
        }
    }
}

/* A firing one-shot is Removed, a firing periodic one Waiting, while f runs. */
static int status_in_f;

static void note_status(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    status_in_f = gt_timer_status(*(gt_timer **)arg);
}

TEST(s1_status_while_f_runs, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer *t;

    t = gt_timer_new(s, note_status, &t, NULL);
    CHECK(t != NULL);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 5, 0), 0);
    CHECK_EQ(check_at(p, T0 + 5), 1);
    CHECK_EQ(status_in_f, GT_TIMER_REMOVED);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 7), 0);
    CHECK_EQ(check_at(p, T0 + 10), 1);
    CHECK_EQ(status_in_f, GT_TIMER_WAITING);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* ---- S1: the Locked column ---- */

struct blocked_call {
    gt_p *p;
    gt_timer *t;
    int64_t (*op)(gt_p *p, gt_timer *t);
    int64_t result;
    pthread_t thread;
    atomic_int done;
};

static void *blocked_loop(void *arg)
{
    struct blocked_call *b = arg;

    b->result = b->op(b->p, b->t);
    atomic_store(&b->done, 1);
    return NULL;
}

/* With the timer's lock held by a stopped thread, every operation on it calls osyield and
 * waits, and finishes when the lock is free. */
TEST(s1_locked_spins_then_osyield, 60)
{
    static int64_t (*const ops[])(gt_p *, gt_timer *) = {op_del, op_add, op_mod, op_run_due, op_adjust};

    needs_freeze();
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct hooks h;
        struct t_holder holder;
        struct counter c = {0};
        gt_sched *s;
        gt_p *p;
        gt_timer *t;
        struct blocked_call b = {0};
        int64_t limit;

        hooks_init(&h, 1);
        s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
        p = new_p(s);
        t = new_timer(s, &c);
        CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
        hold_timer(&holder, t, T0 + 101);
        CHECK_EQ(h.yields, 0);
        b.p = p;
        b.t = t;
        b.op = ops[i];
        b.thread = thread_start(blocked_loop, &b);
        for (limit = mono_now() + 30 * SEC; h.yields == 0 && mono_now() < limit;)
            sleep_ms(1);
        CHECK_GT(h.yields, 0);
        sleep_ms(20);
        CHECK_EQ(b.done, 0);
        CHECK_EQ(gt_timer_status(t), GT_TIMER_LOCKED);
        let_timer_go(&holder);
        thread_join(b.thread);
        CHECK_EQ(h.acquires, h.releases);
        CHECK_GE(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* Waiting for a stopped holder for long must not burn a whole CPU: under SCHED_FIFO that would
 * keep the holder away for ever. CPU time only gets smaller on a busy machine. */
TEST(s1_locked_waiter_sleeps, 60)
{
    struct t_holder holder;
    struct counter c = {0};
    struct blocked_call b = {0};
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer *t = new_timer(s, &c);
    clockid_t cpu;
    struct timespec ts;

    needs_freeze();
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    hold_timer(&holder, t, T0 + 101);
    b.t = t;
    b.op = op_del;
    b.thread = thread_start(blocked_loop, &b);
    sleep_ms(1000);
    CHECK_EQ(b.done, 0);
    CHECK_EQ(pthread_getcpuclockid(b.thread, &cpu), 0);
    CHECK_EQ(clock_gettime(cpu, &ts), 0);
    CHECK_LT((int64_t)ts.tv_sec * SEC + ts.tv_nsec, 500 * MS);
    let_timer_go(&holder);
    thread_join(b.thread);
    CHECK_GE(gt_timer_free(t), 0);
    free_p(p);
    close_sched(s);
}

/* ---- S2 ---- */

static atomic_int s2_calls;

static void s2_wake(gt_p *p, int64_t when)
{
    (void)p;
    (void)when;
    CHECK_EQ(pins(), 0);
    s2_calls++;
}

static void s2_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(pins(), 0);
    s2_calls++;
}

static void s2_drop(void *arg)
{
    (void)arg;
    CHECK_EQ(pins(), 0);
    s2_calls++;
}

/* One random operation; after each the thread must be unpinned again. */
static void s2_op(gt_sched *s, gt_p **ps, gt_timer **ts, int n, uint64_t *rng)
{
    int k = (int)rng_below(rng, (uint64_t)n);
    gt_p *p = ps[rng_below(rng, 2)];
    int64_t when = T0 + 1 + (int64_t)rng_below(rng, 1000);
    int64_t now = T0 + (int64_t)rng_below(rng, 1000);

    switch (rng_below(rng, 10)) {
    case 0:
        gt_addtimer_on(p, ts[k], when, 0);
        break;
    case 1:
        CHECK_GE(gt_modtimer_on(p, ts[k], when, 0, s2_run, NULL, 1), 0);
        break;
    case 2:
        CHECK_GE(gt_resettimer_on(p, ts[k], when, (int64_t)rng_below(rng, 2) * 50), 0);
        break;
    case 3:
        CHECK_GE(gt_deltimer(ts[k]), 0);
        break;
    case 4:
        CHECK_GE(gt_timer_free(ts[k]), 0);
        ts[k] = gt_timer_new(s, s2_run, &s2_calls, s2_drop);
        CHECK(ts[k] != NULL);
        break;
    case 5:
        CHECK_GE(gt_runtimer(p, now), -1);
        break;
    case 6:
        CHECK_EQ(gt_adjusttimers(p, now, 1), 0);
        break;
    case 7:
        CHECK_GE(gt_trim(p), 0);
        break;
    case 8:
        CHECK_GE(gt_adopt_timers(ps[0], ps[1]), 0);
        break;
    default:
        CHECK_GE(gt_check_timers(p, now, NULL, NULL), 0);
        break;
    }
    CHECK_EQ(pins(), 0);
}

struct s2_thread {
    gt_sched *s;
    gt_p *ps[2];
    gt_timer *ts[32];
    uint64_t rng;
};

static void *s2_loop(void *arg)
{
    struct s2_thread *a = arg;

    for (int i = 0; i < 32; i++) {
        a->ts[i] = gt_timer_new(a->s, s2_run, &s2_calls, s2_drop);
        CHECK(a->ts[i] != NULL);
    }
    for (unsigned i = 0; i < 40000 / test_slow(); i++)
        s2_op(a->s, a->ps, a->ts, 32, &a->rng);
    for (int i = 0; i < 32; i++)
        CHECK_GE(gt_timer_free(a->ts[i]), 0);
    CHECK_EQ(pins(), 0);
    return NULL;
}

/* acquirem and releasem come in pairs on each thread, and nothing of the embedder's (wake hook,
 * callback, drop) is called between them. */
TEST(s2_pinned_between_lock_and_unlock, 30)
{
    struct hooks h;
    gt_sched *s;
    struct s2_thread a[3];
    pthread_t th[3];

    hooks_init(&h, 0);
    h.on_wake = s2_wake;
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    for (int i = 0; i < 3; i++) {
        a[i].s = s;
        a[i].ps[0] = i == 0 ? new_p(s) : a[0].ps[0];
        a[i].ps[1] = i == 0 ? new_p(s) : a[0].ps[1];
        a[i].rng = test_seed() + (uint64_t)i;
    }
    for (int i = 0; i < 3; i++)
        th[i] = thread_start(s2_loop, &a[i]);
    for (int i = 0; i < 3; i++)
        thread_join(th[i]);
    CHECK_GT(s2_calls, 0);
    CHECK_GT(h.acquires, 0);
    CHECK_EQ(h.acquires, h.releases);
    check_conserved(s);
    free_p(a[0].ps[0]);
    free_p(a[0].ps[1]);
    close_sched(s);
    CHECK_EQ(h.acquires, h.releases);
}

/* A thread that is stopped anywhere while a timer reads Locked is pinned. */
TEST(s2_locked_means_pinned, 60)
{
    struct hooks h;
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct counter c = {0};
    int64_t when = T0 + 101;

    needs_freeze();
    hooks_init(&h, 0);
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    p = new_p(s);
    t = new_timer(s, &c);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 100, 0), 0);
    for (int i = 0; i < 20; i++) {
        struct t_holder holder;

        hold_timer(&holder, t, when);
        CHECK_GT(frozen_pins(), 0);
        let_timer_go(&holder);
        when = holder.when;
    }
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    close_sched(s);
}
