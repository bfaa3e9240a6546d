/* Traps of the heap and of its lazy repair. The comment above each test names the wrong
 * implementation that it catches; docs/traps.md has the table. */
#include "rules.h"

/* ---- adjusttimers and the earliest modified time ---- */

static gt_p *watch_p;
static int64_t watch_limit;
static long watch_looks;
static _Thread_local int watching;

static void watch_wake_time(int acquire)
{
    int64_t wake;

    (void)acquire;
    if (!watching)
        return;
    wake = gt_nobarrier_wake_time(watch_p);
    if (wake == 0 || wake > watch_limit)
        test_failed(__FILE__, __LINE__, "wake time T0+%lld in the middle of adjusttimers, a timer is for T0+%lld",
                    (long long)(wake == 0 ? -1 : wake - T0), (long long)(watch_limit - T0));
    watch_looks++;
}

/* Catches: the scan begins by clearing the earliest modified time. The owner asks for the wake
 * time whenever it takes or leaves a timer's lock, so in the middle of the scan; a library that
 * cleared first (and publishes the new head at the end) answers with the old head's time, after
 * which a sleeper would sleep too long. */
TEST(trap_adjust_clear_before_scan, 10)
{
    enum { N = 12 };

    for (int round = 0; round < N; round++)
        for (int by_pass = 0; by_pass <= 1; by_pass++) {
            struct hooks h;
            gt_sched *s;
            gt_p *p;
            struct counter c[N] = {{0}};
            gt_timer *t[N];

            hooks_init(&h, 0);
            s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
            watch_p = p = new_p(s);
            for (int i = 0; i < N; i++) {
                t[i] = new_timer(s, &c[i]);
                CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1000 + i, 0), 0);
            }
            CHECK_EQ(gt_resettimer(t[(round + 3) % N], T0 + 60, 0), 1);
            CHECK_EQ(gt_resettimer(t[round], T0 + 50, 0), 1);
            CHECK_EQ(gt_resettimer(t[(round + 5) % N], T0 + 70, 0), 1);
            watch_limit = T0 + 50;
            watch_looks = 0;
            h.on_pin = watch_wake_time;
            watching = 1;
            if (by_pass)
                CHECK_EQ(check_at(p, T0 + 49), 0);
            else
                CHECK_EQ(gt_adjusttimers(p, T0 + 50, 1), 0);
            watching = 0;
            if (!by_pass)
                CHECK_GT(watch_looks, 0);
            CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 50);
            CHECK_EQ(check_at(p, T0 + 50), 1);
            CHECK_EQ(c[round].runs, 1);
            CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 60);
            for (int i = 0; i < N; i++)
                CHECK_EQ(gt_timer_free(t[i]), i != round);
            free_p(p);
            close_sched(s);
        }
}

/* At the n-th hook of an adjust scan another thread shortens one timer. */
static struct errand helper;
static gt_timer *shorten;
static int shorten_at;

static void shorten_it(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_resettimer(shorten, T0 + 20, 0), 1);
}

static void shorten_in_scan(int acquire)
{
    (void)acquire;
    if (watching && shorten_at-- == 0)
        errand_run(&helper, shorten_it, NULL, 20);
}

/* Catches: the scan ends by clearing the earliest modified time. For each point of the scan and
 * each timer: another thread shortens that timer at that point; afterwards the wake time must
 * know of it and the timer must run in time. A library that clears after the scan forgets the
 * timers that the scan had passed already. */
TEST(trap_adjust_clear_after_scan, 60)
{
    enum { N = 6 };

    errand_start(&helper);
    for (int at = 0; at < 2 * N + 2; at++)
        for (int which = 0; which < N; which++) {
            struct hooks h;
            gt_sched *s;
            gt_p *p;
            struct counter c[N] = {{0}};
            gt_timer *t[N];

            hooks_init(&h, 0);
            s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
            p = new_p(s);
            for (int i = 0; i < N; i++) {
                t[i] = new_timer(s, &c[i]);
                CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1000 + i, 0), 0);
            }
            CHECK_EQ(gt_resettimer(t[2], T0 + 50, 0), 1);
            CHECK_EQ(gt_resettimer(t[4], T0 + 2000, 0), 1);
            CHECK_EQ(gt_resettimer(t[5], T0 + 900, 0), 1);
            shorten = t[which];
            shorten_at = at;
            h.on_pin = shorten_in_scan;
            watching = 1;
            CHECK_EQ(gt_adjusttimers(p, T0 + 50, 1), 0);
            watching = 0;
            h.on_pin = NULL;
            errand_settle(&helper);
            if (shorten_at >= 0)                      /* the scan has fewer hooks than that */
                shorten_it(NULL);
            CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 20);
            CHECK_EQ(check_at(p, T0 + 20), 1);
            for (int i = 0; i < N; i++)
                CHECK_EQ(c[i].runs, i == which);
            for (int i = 0; i < N; i++)
                CHECK_EQ(gt_timer_free(t[i]), i != which);
            check_conserved(s);
            free_p(p);
            close_sched(s);
        }
    errand_stop(&helper);
}

/* ---- scans that remove ---- */

enum { HEAP = 200 };

struct heap {
    gt_sched *s;
    gt_p *p;
    struct counter c[HEAP];
    gt_timer *t[HEAP];
    int64_t when[HEAP];   /* 0: stopped */
    int n;
};

static void heap_random(struct heap *h, uint64_t *rng)
{
    memset(h, 0, sizeof *h);
    h->s = virtual_sched();
    h->p = new_p(h->s);
    h->n = 1 + (int)rng_below(rng, HEAP);
    for (int i = 0; i < h->n; i++) {
        h->t[i] = new_timer(h->s, &h->c[i]);
        h->when[i] = T0 + 100 + (int64_t)rng_below(rng, 1000);
        CHECK_EQ(gt_addtimer_on(h->p, h->t[i], h->when[i], 0), 0);
    }
    for (int i = 0; i < h->n; i++) {
        uint64_t what = rng_below(rng, 4);

        if (what == 0) {
            CHECK_EQ(gt_deltimer(h->t[i]), 1);
            h->when[i] = 0;
        } else if (what == 1) {
            h->when[i] = T0 + 100 + (int64_t)rng_below(rng, 1000);
            CHECK_EQ(gt_resettimer(h->t[i], h->when[i], 0), 1);
        }
    }
}

/* All entries and the counts agree with the timers' own statuses; armed ones are armed. */
static void heap_count(struct heap *h)
{
    int entries = 0, dead = 0;

    CHECK_EQ(gt_verify_timer_heap(h->p), 0);
    for (int i = 0; i < h->n; i++) {
        int status = gt_timer_status(h->t[i]);

        entries += status != GT_TIMER_REMOVED;
        dead += status == GT_TIMER_MODIFIED && gt_timer_when(h->t[i]) == 0;
        CHECK_EQ(gt_timer_when(h->t[i]), h->when[i]);
    }
    CHECK_EQ(gt_p_num_timers(h->p), entries);
    CHECK_EQ(gt_p_deleted_timers(h->p), dead);
}

static void heap_run_in_order(struct heap *h)
{
    for (int64_t now = T0 + 99; now <= T0 + 1100; now += 7) {
        drain_at(h->p, now);
        for (int i = 0; i < h->n; i++) {
            CHECK_EQ(h->c[i].runs, h->when[i] != 0 && h->when[i] <= now);
            if (h->c[i].runs)
                CHECK_LE(h->c[i].delay, 6);
        }
    }
    drain_at(h->p, T0 + 2000);
    for (int i = 0; i < h->n; i++)
        h->when[i] = 0;
}

static void heap_down(struct heap *h)
{
    for (int i = 0; i < h->n; i++)
        CHECK_GE(gt_timer_free(h->t[i]), 0);
    check_conserved(h->s);
    free_p(h->p);
    close_sched(h->s);
}

/* Catches: a scan that removes or re-keys an entry and goes on with the next slot, though the
 * last entry has just been moved to this one or up beyond it (golang/go#43642, #47762). Some
 * timer would then stay unrepaired after a forced adjust: Modified, or in the wrong place, so
 * that it runs late or the heap's rule is broken. */
TEST(trap_scan_goes_on_after_a_removal, 60)
{
    static struct heap h;
    uint64_t rng = test_seed();

    for (unsigned round = 0; round < 400 / test_slow() + 10; round++) {
        heap_random(&h, &rng);
        CHECK_EQ(gt_adjusttimers(h.p, T0 + 1, 1), 0);
        for (int i = 0; i < h.n; i++)
            CHECK_EQ(gt_timer_status(h.t[i]), h.when[i] != 0 ? GT_TIMER_WAITING : GT_TIMER_REMOVED);
        heap_count(&h);
        heap_run_in_order(&h);
        heap_down(&h);

        heap_random(&h, &rng);
        CHECK_GE(gt_trim(h.p), 0);
        for (int i = 0; i < h.n; i++)
            CHECK_EQ(gt_timer_status(h.t[i]) == GT_TIMER_REMOVED, h.when[i] == 0);
        heap_count(&h);
        heap_run_in_order(&h);
        heap_down(&h);
    }
}

/* Catches: adjusttimers (or clean, trim, a pass, an adopt) that removes entries and forgets the
 * count. */
TEST(trap_num_timers_is_the_heaps_length, 30)
{
    static struct heap h;
    uint64_t rng = test_seed();

    for (int how = 0; how < 8; how++)
        for (int round = 0; round < 20; round++) {
            gt_p *q;

            heap_random(&h, &rng);
            q = new_p(h.s);
            heap_count(&h);
            switch (how) {
            case 0:
                CHECK_EQ(gt_adjusttimers(h.p, T0 + 1, 1), 0);
                break;
            case 1:
                CHECK_EQ(gt_cleantimers(h.p), 0);
                break;
            case 2:
                CHECK_GE(gt_trim(h.p), 0);
                break;
            case 3:
                gt_runtimer(h.p, T0 + 1);
                break;
            case 4:
                check_at(h.p, T0 + 1);
                break;
            case 5:
                CHECK_GE(gt_adopt_timers(q, h.p), 0);
                CHECK_EQ(gt_p_num_timers(h.p), 0);
                CHECK_EQ(gt_p_deleted_timers(h.p), 0);
                CHECK_GE(gt_adopt_timers(h.p, q), 0);
                CHECK_EQ(gt_p_num_timers(q), 0);
                break;
            case 6:
                CHECK_EQ(gt_check_others(h.s, q, T0 + 1, NULL, NULL), 0);
                break;
            default:
                free_p(h.p);
                h.p = q;
                break;
            }
            heap_count(&h);
            heap_run_in_order(&h);
            heap_count(&h);
            CHECK_GE(gt_trim(h.p), 0);
            CHECK_EQ(gt_p_num_timers(h.p), 0);
            CHECK_EQ(gt_p_deleted_timers(h.p), 0);
            if (h.p != q)
                free_p(q);
            heap_down(&h);
        }
}

/* Catches: the earliest modified time survives the last timer (golang/go#51654): the wake time
 * of a P without timers says "now" or some old time, and the poller spins on it. */
TEST(trap_modified_earliest_on_an_empty_heap, 10)
{
    for (int how = 0; how < 9; how++) {
        gt_sched *s = virtual_sched();
        gt_p *p = new_p(s), *q = new_p(s);
        struct counter c[2] = {{0}};
        gt_timer *t[2] = {new_timer(s, &c[0]), new_timer(s, &c[1])};
        int64_t until;

        for (int i = 0; i < 2; i++) {
            CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1000 + i, 0), 0);
            CHECK_EQ(gt_resettimer(t[i], T0 + 50 + i, 0), 1);     /* sets it */
        }
        CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 50);
        for (int i = 0; i < 2 && how < 6; i++)
            CHECK_EQ(how == 5 ? gt_timer_free(t[i]) : gt_deltimer(t[i]), 1);
        switch (how) {
        case 0:
            CHECK_GE(gt_trim(p), 0);
            break;
        case 1:
            CHECK_EQ(gt_adjusttimers(p, T0 + 1, 1), 0);
            break;
        case 2:
            CHECK_EQ(gt_runtimer(p, T0 + 2000), -1);
            break;
        case 3:
            CHECK_EQ(check_at(p, T0 + 60), 0);
            CHECK_GE(gt_trim(p), 0);
            break;
        case 4:
        case 5:
            CHECK_EQ(gt_cleantimers(p), 0);
            break;
        case 6:
            while (gt_runtimer(p, T0 + 60) == 0) {}
            break;
        case 7:
            CHECK_EQ(gt_check_others(s, q, T0 + 60, NULL, NULL), 1);
            while (gt_check_others(s, q, T0 + 60, NULL, NULL) == 1) {}
            break;
        default:
            CHECK_EQ(gt_adopt_timers(q, p), 2);
            CHECK_EQ(gt_nobarrier_wake_time(q), T0 + 50);
            break;
        }
        CHECK_EQ(gt_p_num_timers(p), 0);
        CHECK_EQ(gt_nobarrier_wake_time(p), 0);
        for (int64_t now = T0 + 40; now <= T0 + 2000; now += 490) {
            until = until_at(p, now);
            CHECK_EQ(until, 0);
        }
        if (how != 8)
            CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
        if (how != 5)
            for (int i = 0; i < 2; i++)
                CHECK_EQ(gt_timer_free(t[i]), how == 8);
        check_conserved(s);
        free_p(p);
        free_p(q);
        close_sched(s);
    }
}

/* ---- counts that others read ---- */

static void watch_count(int acquire)
{
    (void)acquire;
    if (!watching)
        return;
    CHECK_EQ(gt_p_num_timers(watch_p), 1);
    CHECK_NE(gt_nobarrier_wake_time(watch_p), 0);
    watch_looks++;
}

struct looker {
    gt_sched *s;
    gt_p *p;
    atomic_int stop;
};

static void *look_loop(void *arg)
{
    struct looker *k = arg;

    while (!k->stop) {
        CHECK_EQ(gt_p_num_timers(k->p), 1);
        CHECK_NE(gt_nobarrier_wake_time(k->p), 0);
        CHECK_NE(gt_time_sleep_until(k->s), GT_MAX_WHEN);
    }
    return NULL;
}

/* Catches: the count or the wake time is published in the middle, when the only timer is out of
 * the heap to be put back at its new place: an idle P is taken for empty. The owner looks at
 * each hook, another thread looks all the time. */
TEST(trap_count_dips_to_zero_while_the_last_timer_moves, 30)
{
    struct hooks h;
    struct looker k = {0};
    struct counter c = {0};
    gt_timer *t;
    pthread_t th;
    int64_t end, now = T0 + 1;

    hooks_init(&h, 0);
    k.s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    watch_p = k.p = new_p(k.s);
    t = new_timer(k.s, &c);
    CHECK_EQ(gt_addtimer_on(k.p, t, now + 1000, 0), 0);
    th = thread_start(look_loop, &k);
    h.on_pin = watch_count;
    watching = 1;
    end = mono_now() + SEC;
    for (int i = 0; i < 4 || mono_now() < end; i++) {
        CHECK_EQ(gt_resettimer(t, now + (i % 2 ? 500 : 2000), i % 3 == 2), 1);
        switch (i % 4) {
        case 0:
            CHECK_EQ(gt_adjusttimers(k.p, now, 1), 0);
            break;
        case 1:
            CHECK_GT(gt_runtimer(k.p, now), 0);
            break;
        case 2:
            CHECK_EQ(check_at(k.p, now + 10), 0);
            break;
        default:                                             /* a periodic firing moves it too */
            CHECK_EQ(gt_resettimer(t, now + 20, 100), 1);
            CHECK_EQ(check_at(k.p, now + 30), 1);
            break;
        }
        now += 50;
    }
    watching = 0;
    CHECK_GT(watch_looks, 0);
    k.stop = 1;
    thread_join(th);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(k.s);
    free_p(k.p);
    close_sched(k.s);
}

/* Catches: every check scans the heap because some timer is Modified, or because the earliest
 * modified time is only compared with nothing (golang/go#41699). Time-outs pushed back and
 * forth, all of them far away: no scan at all, until the earliest is due. */
TEST(trap_resets_back_and_forth_make_every_check_scan, 30)
{
    enum { N = 1000 };
    static struct counter c[N];
    gt_timer *t[N];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    uint64_t scans;

    for (int i = 0; i < N; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 10 * SEC + i, 0), 0);
    }
    scans = get_stats(s).scans;
    for (int i = 0; i < 2000; i++) {
        CHECK_EQ(gt_resettimer(t[i % N], T0 + (i % 2 ? 20 : 5) * SEC + i, 0), 1);
        CHECK_EQ(check_at(p, T0 + 1 + i), 0);
    }
    CHECK_EQ(get_stats(s).scans, scans);
    CHECK_EQ(check_at(p, T0 + 5 * SEC + 1500), 1);
    CHECK_LE(get_stats(s).scans, scans + 4);
    for (int i = 0; i < N; i++)
        CHECK_GE(gt_timer_free(t[i]), 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* Catches: a time-out that is put off lowers the earliest modified time too, and so has the heap
 * scanned when the later time comes. Put off for ever before they are due, as time-outs are, all
 * of them together cost no scan: each entry is put right when it comes up. */
TEST(trap_resets_to_later_schedule_scans, 30)
{
    enum { N = 300 };
    static struct counter c[N];
    gt_timer *t[N];
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    uint64_t scans;

    for (int i = 0; i < N; i++) {
        t[i] = new_timer(s, &c[i]);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1000 + i, 0), 0);
    }
    scans = get_stats(s).scans;
    for (int64_t now = T0; now < T0 + 20000; now += 100) {
        for (int i = 0; i < N; i++)
            CHECK_EQ(gt_resettimer(t[i], now + 1000 + i, 0), 1);
        CHECK_EQ(check_at(p, now), 0);
    }
    CHECK_EQ(get_stats(s).scans, scans);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}
