/* Every documented refusal, part 3: out of memory. The alloc hook refuses the n-th request of
 * a call, for n = 1, 2, ... until the call succeeds. Each refused call must say GT_ENOMEM,
 * change nothing, keep nothing, and work when it is tried again; in the end every byte must
 * have come back. */
#include "support.h"

enum { MANY = 3000 };

static struct alloc_hook a;

/* Tries call_ with the n-th request refused, for n = 1, 2, ..., until ok_. After each refusal
 * check_ runs. When the very first request is refused nothing may be taken or given back. */
#define UNTIL_OK(call_, ok_, check_)                                                     \
    do {                                                                                 \
        int64_t denied_ = a.denied, bytes_ = a.bytes;                                    \
        for (int n_ = 1;; n_++) {                                                        \
            CHECK_LT(n_, 1000);                                                          \
            alloc_hook_deny(&a, n_);                                                     \
            call_;                                                                       \
            alloc_hook_deny(&a, 0);                                                      \
            if (ok_)                                                                     \
                break;                                                                   \
            CHECK_EQ(a.denied, denied_ + n_);                                            \
            if (n_ == 1)                                                                 \
                CHECK_EQ(a.bytes, bytes_);                                               \
            check_;                                                                      \
        }                                                                                \
    } while (0)

static gt_sched *open_sched(void)
{
    gt_sched *s;

    memset(&a, 0, sizeof a);
    s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
    CHECK(s != NULL);
    CHECK_EQ(get_stats(s).bytes, a.bytes);
    return s;
}

TEST(nomem_sched_new, 10)
{
    gt_sched *s = NULL;

    UNTIL_OK(s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL), s != NULL, {
        CHECK_EQ(gt_last_error(), GT_ENOMEM);
        check_all_returned(&a);
    });
    CHECK_GE(a.denied, 1);
    CHECK_EQ(get_stats(s).bytes, a.bytes);
    close_sched(s);
    check_all_returned(&a);
}

TEST(nomem_p_new, 10)
{
    gt_sched *s = open_sched();
    gt_p *p[100];

    for (int i = 0; i < 100; i++) {
        p[i] = NULL;
        UNTIL_OK(p[i] = gt_p_new(s), p[i] != NULL, CHECK_EQ(gt_last_error(), GT_ENOMEM));
    }
    CHECK_GE(a.denied, 1);
    CHECK_EQ(get_stats(s).bytes, a.bytes);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_p_free(p[i]), 0);
    close_sched(s);
    check_all_returned(&a);
}

TEST(nomem_p_new_with_orphans, 20)
{
    gt_sched *s = open_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer **t = calloc(MANY, sizeof(gt_timer *));

    for (int i = 0; i < MANY; i++) {
        t[i] = gt_timer_new(s, count_run, &c, NULL);
        CHECK_EQ(gt_addtimer(t[i], T0 + 10 + i, 0), 0);
    }
    CHECK_EQ(gt_p_free(p), 0);
    p = NULL;
    UNTIL_OK(p = gt_p_new(s), p != NULL, {
        CHECK_EQ(gt_last_error(), GT_ENOMEM);
        CHECK_EQ(gt_time_sleep_until(s), T0 + 10);
        CHECK_EQ(get_stats(s).pending, MANY);
    });
    CHECK_EQ(gt_p_num_timers(p), MANY);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(gt_check_timers(p, T0 + MANY + 10, NULL, NULL), 1);
    CHECK_EQ(c.runs, MANY);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    check_all_returned(&a);
    free(t);
}

TEST(nomem_timer_new, 20)
{
    gt_sched *s = open_sched();
    struct counter c = {0};
    gt_timer **t = calloc(MANY, sizeof(gt_timer *));
    gt_stats before;

    for (int i = 0; i < MANY; i++) {
        before = get_stats(s);
        UNTIL_OK(t[i] = gt_timer_new(s, count_run, &c, count_drop), t[i] != NULL, {
            CHECK_EQ(gt_last_error(), GT_ENOMEM);
            check_same_counters(s, &before);
            CHECK_EQ(c.drops, 0);            /* the arg stays the caller's */
        });
        CHECK_EQ(get_stats(s).timers, i + 1);
    }
    CHECK_GE(a.denied, 1);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(c.drops, MANY);
    close_sched(s);
    check_all_returned(&a);
    free(t);
}

/* Arms t in one of the ways there are. */
static int arm(gt_sched *s, gt_p *p, gt_timer *t, int way, int64_t when, struct counter *c)
{
    switch (way) {
    case 0: return gt_addtimer(t, when, 0);
    case 1: return gt_addtimer_on(p, t, when, 0);
    case 2: return gt_addtimer_id(s, gt_timer_id(t), when, 0);
    case 3: return gt_resettimer(t, when, 0);
    case 4: return gt_resettimer_on(p, t, when, 0);
    case 5: return gt_resettimer_id(s, gt_timer_id(t), when, 0);
    case 6: return gt_modtimer(t, when, 0, count_run, c, 1);
    case 7: return gt_modtimer_on(p, t, when, 0, count_run, c, 1);
    default: return gt_modtimer_id(s, gt_timer_id(t), when, 0, count_run, c, 1);
    }
}

TEST(nomem_arm, 60)
{
    for (int way = 0; way < 9; way++) {
        gt_sched *s = open_sched();
        gt_p *p = gt_p_new(s);
        struct counter c = {0};
        gt_timer **t = calloc(MANY, sizeof(gt_timer *));
        gt_stats before;
        int r = 0;

        for (int i = 0; i < MANY; i++)
            t[i] = gt_timer_new(s, count_run, &c, count_drop);
        for (int i = 0; i < MANY; i++) {
            before = get_stats(s);
            UNTIL_OK(r = arm(s, p, t[i], way, T0 + 1 + i, &c), r == 0, {
                CHECK_EQ(r, GT_ENOMEM);
                check_same_counters(s, &before);
                CHECK_EQ(gt_timer_status(t[i]), GT_TIMER_REMOVED);
                CHECK_EQ(gt_timer_when(t[i]), 0);
                CHECK_EQ(gt_p_num_timers(p), i);
            });
        }
        CHECK_GE(a.denied, 1);               /* the heap has grown through the hook */
        CHECK_EQ(get_stats(s).bytes, a.bytes);
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        CHECK_EQ(gt_check_timers(p, T0 + MANY, NULL, NULL), 1);
        CHECK_EQ(c.runs, MANY);
        for (int i = 0; i < MANY; i++)
            CHECK_EQ(gt_timer_free(t[i]), 0);
        CHECK_EQ(c.drops, MANY);
        check_conserved(s);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
        check_all_returned(&a);
        free(t);
    }
}

TEST(nomem_modtimer_with_another_arg, 20)
{
    for (int armed = 0; armed < 2; armed++) {
        gt_sched *s = open_sched();
        gt_p *p = gt_p_new(s);
        struct counter old = {0}, fresh = {0};
        gt_timer *t = gt_timer_new(s, count_run, &old, count_drop);
        gt_stats before;
        int r = 0;

        if (armed)
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
        before = get_stats(s);
        UNTIL_OK(r = gt_modtimer(t, T0 + 20, 0, count_run_other, &fresh, 1), r >= 0, {
            CHECK_EQ(r, GT_ENOMEM);
            check_same_counters(s, &before);
            CHECK_EQ(old.drops + fresh.drops, 0);
            CHECK_EQ(gt_timer_when(t), armed ? T0 + 10 : 0);
            CHECK_EQ(gt_timer_status(t), armed ? GT_TIMER_WAITING : GT_TIMER_REMOVED);
        });
        CHECK_EQ(r, armed);
        CHECK_EQ(old.drops, 1);
        CHECK_EQ(fresh.drops, 0);
        CHECK_EQ(gt_check_timers(p, T0 + 20, NULL, NULL), 1);
        CHECK_EQ(fresh.runs, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(fresh.drops, 1);
        CHECK_EQ(old.drops, 1);
        CHECK_EQ(old.runs, 0);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
        check_all_returned(&a);
    }
}

struct inside {
    gt_sched *s;
    gt_timer *t;
    struct inside *fresh;     /* NULL in the fresh one itself */
    int drops, runs;
};

static void modifies_itself(void *arg, uintptr_t seq, int64_t delay)
{
    struct inside *in = arg;
    gt_stats before;
    int r = 0;

    (void)seq;
    (void)delay;
    in->runs++;
    if (in->fresh == NULL)
        return;
    before = get_stats(in->s);
    UNTIL_OK(r = gt_modtimer(in->t, T0 + 20, 0, modifies_itself, in->fresh, 1), r >= 0, {
        CHECK_EQ(r, GT_ENOMEM);
        check_same_counters(in->s, &before);
        CHECK_EQ(in->drops + in->fresh->drops, 0);
        CHECK_EQ(gt_timer_when(in->t), 0);
    });
    CHECK_EQ(r, 0);
    CHECK_EQ(in->drops, 0);       /* not while f runs with it */
}

static void inside_drop(void *arg) { ((struct inside *)arg)->drops++; }

TEST(nomem_modtimer_in_own_callback, 10)
{
    struct inside fresh = {0}, in = {.fresh = &fresh};
    gt_p *p;

    in.s = open_sched();
    p = gt_p_new(in.s);
    in.t = gt_timer_new(in.s, modifies_itself, &in, inside_drop);
    CHECK_EQ(gt_addtimer(in.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(in.runs, 1);
    CHECK_EQ(in.drops, 1);
    CHECK_EQ(gt_check_timers(p, T0 + 20, NULL, NULL), 1);
    CHECK_EQ(fresh.runs, 1);
    CHECK_EQ(gt_timer_free(in.t), 0);
    CHECK_EQ(fresh.drops, 1);
    CHECK_EQ(in.drops, 1);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(in.s);
    check_all_returned(&a);
}

/* adopt, or p_free: both move the timers of p to q. */
static void moving(int by_free)
{
    static const int sizes[][2] = {{1, 0}, {300, 0}, {300, 2000}, {2000, 300}, {MANY, 1}};

    for (int k = 0; k < 5; k++) {
        gt_sched *s = open_sched();
        gt_p *p = gt_p_new(s), *q = gt_p_new(s);
        struct counter c = {0};
        int n = sizes[k][0], m = sizes[k][1], r = 0;
        gt_timer **t = calloc((size_t)(n + m), sizeof *t);
        gt_stats before;

        for (int i = 0; i < n + m; i++) {
            t[i] = gt_timer_new(s, count_run, &c, NULL);
            CHECK_EQ(gt_addtimer_on(i < n ? p : q, t[i], T0 + 1 + (i * 37) % (n + m), 0), 0);
        }
        before = get_stats(s);
        UNTIL_OK(r = by_free ? gt_p_free(p) : gt_adopt_timers(q, p), r >= 0, {
            CHECK_EQ(r, GT_ENOMEM);
            check_same_counters(s, &before);
            CHECK_EQ(gt_p_num_timers(p), n);
            CHECK_EQ(gt_p_num_timers(q), m);
            CHECK_EQ(gt_verify_timer_heap(p), 0);
            CHECK_EQ(gt_verify_timer_heap(q), 0);
        });
        CHECK_EQ(r, by_free ? 0 : n);
        CHECK_EQ(gt_p_num_timers(q), n + m);
        CHECK_EQ(gt_verify_timer_heap(q), 0);
        CHECK_EQ(gt_check_timers(q, T0 + n + m, NULL, NULL), 1);
        CHECK_EQ(c.runs, n + m);
        for (int i = 0; i < n + m; i++)
            CHECK_EQ(gt_timer_free(t[i]), 0);
        check_conserved(s);
        if (!by_free)
            CHECK_EQ(gt_p_free(p), 0);
        CHECK_EQ(gt_p_free(q), 0);
        close_sched(s);
        check_all_returned(&a);
        free(t);
    }
}

TEST(nomem_adopt_timers, 30) { moving(0); }

TEST(nomem_p_free, 30) { moving(1); }

/* The last P: to the orphan set. */
TEST(nomem_p_free_to_orphans, 20)
{
    gt_sched *s = open_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t[300];
    gt_stats before;
    int r = 0;

    for (int i = 0; i < 300; i++) {
        t[i] = gt_timer_new(s, count_run, &c, count_drop);
        CHECK_EQ(gt_addtimer(t[i], T0 + 10 + i, 0), 0);
    }
    before = get_stats(s);
    UNTIL_OK(r = gt_p_free(p), r == 0, {
        CHECK_EQ(r, GT_ENOMEM);
        check_same_counters(s, &before);
        CHECK_EQ(gt_p_num_timers(p), 300);
    });
    CHECK_EQ(gt_time_sleep_until(s), T0 + 10);
    CHECK_EQ(get_stats(s).pending, 300);
    a.deny_all = 1;                           /* gt_sched_free needs no memory */
    close_sched(s);
    CHECK_EQ(c.drops, 300);
    for (int i = 0; i < 300; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    check_all_returned(&a);
}

/* What has no GT_ENOMEM in its list works when there is no memory at all. */
TEST(nomem_calls_that_need_none, 20)
{
    enum { N = 500 };
    gt_sched *s = open_sched();
    gt_p *p = gt_p_new(s);
    struct counter *c = calloc(N, sizeof *c), tick = {0};
    int runs = 0;
    gt_timer *t[N], *ticker = gt_timer_new(s, count_run, &tick, count_drop);
    int64_t now, until;
    char json[2000];

    for (int i = 0; i < N; i++) {
        t[i] = gt_timer_new(s, count_run, &c[i], count_drop);
        CHECK_EQ(gt_addtimer(t[i], T0 + 100 + i, 0), 0);
    }
    CHECK_EQ(gt_addtimer(ticker, T0 + 10, 10), 0);
    a.deny_all = 1;
    CHECK_EQ(gt_resettimer(t[0], T0 + 1000, 0), 1);       /* to later */
    CHECK_EQ(gt_modtimer(t[1], T0 + 1001, 0, count_run, &c[1], 1), 1);
    CHECK_EQ(gt_deltimer(t[2]), 1);
    CHECK_EQ(gt_deltimer_sync(t[3]), 1);
    CHECK_EQ(gt_shutdown_timer(t[4]), 1);
    CHECK_EQ(gt_resettimer(t[2], T0 + 1002, 0), 0);       /* its entry is still in the heap */
    CHECK_EQ(gt_timer_free(t[5]), 1);
    CHECK_EQ(gt_timer_detach(t[6]), 0);
    CHECK_EQ(c[5].drops, 1);
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_EQ(gt_check_timers(p, T0 + 50, &now, &until), 1);
    CHECK_EQ(tick.runs, 1);
    CHECK_EQ(gt_cleantimers(p), 0);
    CHECK_EQ(gt_adjusttimers(p, T0 + 50, 1), 0);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_GT(gt_stats_json(s, json, sizeof json), 0);
    CHECK_EQ(gt_notewakeup(p), 0);
    CHECK_EQ(gt_notetsleep(p, GT_MAX_WHEN), 1);
    CHECK_EQ(gt_sched_advance(s, 2000), 1);
    for (int i = 0; i < N; i++)
        runs += c[i].runs;
    CHECK_EQ(runs, N - 3);                                /* all but 3, 4 and 5 */
    CHECK_EQ(c[6].drops, 1);
    CHECK_EQ(gt_check_others(s, NULL, 0, NULL, NULL), 0);
    CHECK_PTR_EQ(gt_releasep(), p);
    for (int i = 0; i < N; i++)
        if (i != 5 && i != 6)
            CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_timer_free(ticker), 1);
    for (int i = 0; i < N; i++)
        CHECK_EQ(c[i].drops, 1);
    check_conserved(s);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    a.deny_all = 0;
    check_all_returned(&a);
    free(c);
}
