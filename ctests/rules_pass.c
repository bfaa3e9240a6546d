/* Rule S10: what one pass of gt_check_timers runs, what it returns, and that it takes no lock
 * when nothing is to be done. */
#include "rules.h"

/* A callback that arms a timer for the now of its own pass, or a given time. */
struct chain {
    gt_p *p;
    gt_timer *own, *next;
    int64_t when;
    int runs;
};

static void chain_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct chain *c = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    c->runs++;
    if (c->next != NULL)
        CHECK_EQ(gt_resettimer_on(c->p, c->next, c->when, 0), 0);
}

static void chain_up(struct chain *c, gt_sched *s, gt_p *p)
{
    memset(c, 0, sizeof *c);
    c->p = p;
    CHECK((c->own = gt_timer_new(s, chain_run, c, NULL)) != NULL);
}

/* A callback that re-arms itself for now runs once per pass, and each pass says "call again". */
TEST(s10_rearm_for_now_is_for_a_later_pass, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct chain c;

    for (int64_t back = 0; back <= 5; back += 5) {
        chain_up(&c, s, p);
        c.next = c.own;
        c.when = T0 + 100 - back;                   /* for now, or even for before */
        CHECK_EQ(gt_addtimer_on(p, c.own, T0 + 100, 0), 0);
        for (int i = 1; i <= 50; i++) {
            int64_t until = until_at(p, T0 + 100);

            CHECK_EQ(c.runs, i);
            CHECK_GT(until, 0);
            CHECK_LE(until, T0 + 100);
        }
        CHECK_EQ(gt_timer_free(c.own), 1);
    }
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* A periodic timer with a period of 1 ns, far behind: one run per pass. */
TEST(s10_periodic_runs_once_per_pass, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 1, 1), 0);
    CHECK_EQ(check_at(p, T0 + 1000000), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(check_at(p, T0 + 1000000), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    free_p(p);
    close_sched(s);
}

/* What was due already goes before what callbacks arm for now, in the same pass. */
TEST(s10_self_rearming_timer_starves_nobody, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct chain hog;
    struct counter c[20] = {{0}};
    gt_timer *t[20];

    chain_up(&hog, s, p);
    hog.next = hog.own;
    hog.when = T0 + 1;                              /* earlier than all the others */
    CHECK_EQ(gt_addtimer_on(p, hog.own, T0 + 1, 0), 0);
    for (int i = 0; i < 20; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 10 + i, 0), 0);
    }
    CHECK_EQ(check_at(p, T0 + 100), 1);
    CHECK_GE(hog.runs, 1);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(c[i].runs, 1);
    CHECK_EQ(hog.runs, 1);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_timer_free(hog.own), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* A chain of 1000 timers, each armed for now by the one before: 1000 passes of one. */
TEST(s10_chain_of_a_thousand_for_now, 10)
{
    enum { N = 1000 };
    static struct chain c[N];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    struct counter far = {0};
    gt_timer *f = new_timer(s, &far);

    CHECK_EQ(gt_addtimer_on(p, f, T0 + 500, 0), 0);
    for (int i = 0; i < N; i++)
        chain_up(&c[i], s, p);
    for (int i = 0; i + 1 < N; i++) {
        c[i].next = c[i + 1].own;
        c[i].when = T0 + 100;
    }
    CHECK_EQ(gt_addtimer_on(p, c[0].own, T0 + 100, 0), 0);
    for (int i = 0; i < N; i++) {
        int64_t until = until_at(p, T0 + 100);

        CHECK_EQ(c[i].runs, 1);
        if (i + 1 < N) {
            CHECK_EQ(c[i + 1].runs, 0);
            CHECK_GT(until, 0);
            CHECK_LE(until, T0 + 100);
        } else {
            CHECK_EQ(until, T0 + 500);
        }
    }
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(c[i].own), 0);
    CHECK_EQ(gt_timer_free(f), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* Each of n due timers arms another one for now: the pass ends after n, and says so. */
TEST(s10_pass_runs_no_more_than_the_heap_held, 10)
{
    enum { N = 64 };
    static struct chain c[N], d[N];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    int ran = 0;

    for (int i = 0; i < N; i++) {
        chain_up(&c[i], s, p);
        chain_up(&d[i], s, p);
        c[i].next = d[i].own;
        c[i].when = T0 + 1;
        CHECK_EQ(gt_addtimer_on(p, c[i].own, T0 + 10, 0), 0);
    }
    CHECK_LE(until_at(p, T0 + 10), T0 + 10);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(c[i].runs, 1);
        ran += d[i].runs;
    }
    CHECK_EQ(ran, 0);
    CHECK_EQ(check_at(p, T0 + 10), 1);
    CHECK_EQ(until_at(p, T0 + 10), 0);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(d[i].runs, 1);
        CHECK_EQ(gt_timer_free(c[i].own) + gt_timer_free(d[i].own), 0);
    }
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

TEST(s10_results, 10)
{
    struct hooks h;
    gt_sched *s;
    gt_p *p;
    struct counter c = {0};
    gt_timer *t;
    int64_t now = -1, until = -1;

    hooks_init(&h, 0);
    s = hooked_sched(&h, GT_CLOCK_HOST);
    p = new_p(s);
    t = new_timer(s, &c);
    CHECK_EQ(gt_check_timers(p, 0, &now, &until), 0);
    CHECK_EQ(now, HOST_T0);
    CHECK_EQ(until, 0);                                   /* none */
    CHECK_EQ(gt_addtimer_on(p, t, HOST_T0 + 50, 0), 0);
    CHECK_EQ(gt_check_timers(p, 0, &now, &until), 0);
    CHECK_EQ(until, HOST_T0 + 50);
    CHECK_EQ(gt_check_timers(p, HOST_T0 + 7, &now, &until), 0);
    CHECK_EQ(now, HOST_T0 + 7);                           /* what the caller gave */
    h.clock = HOST_T0 + 60;
    CHECK_EQ(gt_check_timers(p, 0, &now, &until), 1);
    CHECK_EQ(now, HOST_T0 + 60);
    CHECK_EQ(until, 0);
    CHECK_EQ(c.delay, 10);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(p, -1, NULL, NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(p);
    close_sched(s);
}

/* The clock moves on while callbacks run; the pass goes by the one now that it began with. */
static struct hooks *moving;
static void move_clock(void *arg, uintptr_t seq, int64_t delay)
{
    count_run(arg, seq, delay);
    moving->clock += 100;
}

TEST(s10_one_now_for_the_whole_pass, 10)
{
    struct hooks h;
    gt_sched *s;
    gt_p *p;
    struct counter c[5] = {{0}};
    gt_timer *t[5];
    int64_t now, until;

    hooks_init(&h, 0);
    moving = &h;
    s = hooked_sched(&h, GT_CLOCK_HOST);
    p = new_p(s);
    for (int i = 0; i < 5; i++) {
        CHECK((t[i] = gt_timer_new(s, move_clock, &c[i], NULL)) != NULL);
        CHECK_EQ(gt_addtimer_on(p, t[i], HOST_T0 + 1 + 10 * i, 0), 0);
    }
    h.clock = HOST_T0 + 21;
    CHECK_EQ(gt_check_timers(p, 0, &now, &until), 1);
    CHECK_EQ(now, HOST_T0 + 21);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(c[i].runs, i < 3);
        if (i < 3)
            CHECK_EQ(c[i].delay, HOST_T0 + 21 - (HOST_T0 + 1 + 10 * i));
    }
    CHECK_EQ(until, HOST_T0 + 31);
    CHECK_EQ(gt_check_timers(p, 0, &now, NULL), 1);
    CHECK_EQ(c[3].runs + c[4].runs, 2);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* The last callback shortens, lengthens, stops or adds: poll_until knows. */
struct last_act {
    gt_p *p;
    gt_timer *other;
    int what;
};

static void last_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct last_act *a = arg;

    (void)seq;
    (void)delay;
    if (a->what == 0)
        CHECK_EQ(gt_resettimer(a->other, T0 + 20, 0), 1);
    else if (a->what == 1)
        CHECK_EQ(gt_deltimer(a->other), 1);
    else if (a->what == 2)
        CHECK_EQ(gt_resettimer(a->other, T0 + 900, 0), 1);
}

TEST(s10_poll_until_is_read_after_the_last_callback, 10)
{
    for (int what = 0; what < 3; what++) {
        gt_sched *s = virtual_sched();
        struct last_act a = {.p = new_p(s), .what = what};
        struct counter c[2] = {{0}};
        gt_timer *t = gt_timer_new(s, last_run, &a, NULL), *u = new_timer(s, &c[0]);
        int64_t until;

        a.other = new_timer(s, &c[1]);
        CHECK_EQ(gt_addtimer_on(a.p, t, T0 + 10, 0), 0);
        CHECK_EQ(gt_addtimer_on(a.p, u, T0 + 50, 0), 0);
        CHECK_EQ(gt_addtimer_on(a.p, a.other, T0 + 60, 0), 0);
        until = until_at(a.p, T0 + 10);
        if (what == 0)
            CHECK_EQ(until, T0 + 20);
        else
            CHECK_EQ(until, T0 + 50);
        CHECK_EQ(gt_nobarrier_wake_time(a.p), until);
        CHECK_EQ(check_at(a.p, T0 + 20), what == 0);
        CHECK_EQ(gt_timer_free(t) + gt_timer_free(u), 1);
        CHECK_EQ(gt_timer_free(a.other), what == 2);
        check_conserved(s);
        free_p(a.p);
        close_sched(s);
    }
}

/* ---- no lock when nothing is due ---- */

/* Another thread is stopped while it holds the P's lock. Passes that have nothing to do, and
 * questions about the wake time, come back all the same; a library that takes the lock to look
 * would hang here until the time limit. */
TEST(s10_nothing_due_takes_no_lock, 60)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s), *q = new_p(s);
    gt_timer **fill = fill_p(p, s, 2000, T0 + SEC);
    struct p_holder h;
    int64_t now, until;

    needs_freeze();
    CHECK_EQ(until_at(p, T0 + 1), T0 + SEC);
    hold_p(&h, p);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(gt_check_timers(p, T0 + 1 + i, &now, &until), 0);
        CHECK_EQ(until, T0 + SEC);
        CHECK_EQ(now, T0 + 1 + i);
        CHECK_EQ(gt_check_others(s, q, T0 + 1, NULL, &until), 0);
        CHECK_EQ(gt_check_others(s, NULL, T0 + 1, NULL, NULL), 0);
    }
    CHECK_EQ(gt_nobarrier_wake_time(p), T0 + SEC);
    CHECK_EQ(gt_time_sleep_until(s), T0 + SEC);
    CHECK_EQ(gt_overdue(s, T0 + 1), 0);
    let_p_go(&h);
    unfill(fill, 2000);
    free_p(p);
    free_p(q);
    close_sched(s);
}

/* Holds p's lock by a thread that does not have a timer of the heap locked as well. */
static void hold_p_alone(struct p_holder *h, gt_p *p, gt_timer **fill, int n)
{
    for (int tries = 0; tries < 50; tries++) {
        int i = 0;

        hold_p(h, p);
        while (i < n && gt_timer_status(fill[i]) != GT_TIMER_LOCKED)
            i++;
        if (i == n)
            return;
        let_p_go(h);
    }
    test_failed(__FILE__, __LINE__, "the P's lock was never met without a timer's");
}

/* Nor do a stop, a re-arm and a free of a timer in that heap wait for it, thousands of them,
 * though they pass the bound for dead entries on the way. */
TEST(s10_stop_rearm_free_do_not_wait_for_the_heap, 60)
{
    enum { N = 3000 };
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer **fill = fill_p(p, s, N, T0 + SEC);
    struct p_holder h;

    needs_freeze();
    hold_p_alone(&h, p, fill, N);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(gt_resettimer(fill[i], T0 + 2 * SEC + i, 0), 1);       /* later */
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(gt_deltimer(fill[i]), 1);
    for (int i = 1000; i < 2000; i++)
        CHECK_EQ(gt_deltimer_sync(fill[i]), 1);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(gt_timer_free(fill[i]), 0);
    for (int i = 2000; i < 2500; i++)
        CHECK_EQ(gt_shutdown_timer(fill[i]), 1);
    for (int i = 1000; i < N; i++)
        CHECK_EQ(gt_timer_free(fill[i]), i >= 2500);
    CHECK_EQ(get_stats(s).pending, 0);
    let_p_go(&h);
    free(fill);
    check_conserved(s);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    free_p(p);
    close_sched(s);
}

/* ---- preempt_stop ---- */

static int preempt_wanted;

static int preempt_hook(void *ctx)
{
    (void)ctx;
    return preempt_wanted;
}

TEST(s10_preempt_stop_ends_the_pass, 10)
{
    struct hooks h;
    gt_sched *s;
    gt_p *p;
    struct counter c[10] = {{0}};
    gt_timer *t[10];
    int runs = 0;

    hooks_init(&h, 0);
    h.host.preempt_stop = preempt_hook;
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    p = new_p(s);
    for (int i = 0; i < 10; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1 + i, 0), 0);
    }
    preempt_wanted = 1;
    for (int i = 0; i < 3; i++) {
        int64_t until = until_at(p, T0 + 100);

        CHECK_GT(until, 0);
        CHECK_LE(until, T0 + 100);                 /* wants to be called again */
        runs = 0;
        for (int k = 0; k < 10; k++)
            runs += c[k].runs;
        CHECK_EQ(runs, i + 1);
    }
    preempt_wanted = 0;
    CHECK_EQ(until_at(p, T0 + 100), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(c[i].runs, 1);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    check_conserved(s);
    free_p(p);
    close_sched(s);
}
