/* Traps of Ps that come and go, of stealing. The comment above each test names the
 * wrong implementation that it catches; docs/traps.md has the table. */
#include "rules.h"

#include <unistd.h>

/* ---- between choosing a P and inserting ---- */

static gt_p *migrate_to;
static _Thread_local int migrating;

static void migrate(int acquire)
{
    if (!migrating || !acquire)
        return;
    migrating = 0;
    CHECK(gt_releasep() != NULL);
    CHECK_EQ(gt_acquirep(migrate_to), 0);
}

static _Thread_local int arming;
static int unpinned_allocs;

static void *alloc_noting(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    if (arming && pins() == 0)
        unpinned_allocs++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void free_noting(void *ctx, void *ptr, size_t size, size_t align)
{
    (void)ctx;
    (void)size;
    (void)align;
    free(ptr);
}

/* Catches: a P chosen before the thread is pinned (golang/go#44868). The acquirem hook moves the
 * green thread to another P, as a preemption at that very moment would: the timer must go to
 * the new P, or the old one's sleeper must be woken. A library that chose before and only wakes
 * its own P would leave the timer on an idle P. */
TEST(trap_migrated_before_the_insert, 10)
{
    for (int mod = 0; mod <= 1; mod++) {
        struct hooks h;
        struct counter c = {0};
        gt_sched *s;
        gt_p *p, *q;
        gt_timer *t;

        hooks_init(&h, 0);
        s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
        p = new_p(s);
        q = new_p(s);
        t = new_timer(s, &c);
        CHECK_EQ(gt_acquirep(p), 0);
        migrate_to = q;
        h.on_pin = migrate;
        migrating = 1;
        CHECK_EQ(mod ? gt_resettimer(t, T0 + 10, 0) : gt_addtimer(t, T0 + 10, 0), 0);
        CHECK_EQ(migrating, 0);                         /* it was pinned */
        h.on_pin = NULL;
        CHECK_PTR_EQ(gt_current_p(), q);
        if (gt_p_num_timers(q) == 0) {
            CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 10);
            CHECK_GE(h.wakes, 1);
            CHECK_PTR_EQ(h.last_p, p);
        } else {
            CHECK_EQ(gt_nobarrier_wake_time(q), T0 + 10);
        }
        CHECK_PTR_EQ(gt_releasep(), q);
        CHECK_EQ(gt_timer_free(t), 1);
        free_p(p);
        free_p(q);
        close_sched(s);
    }
}

/* Catches: pinned only for the choice, not until the timer is in. Between the two the heap may
 * have to grow, and the alloc hook sees whether the thread is pinned. */
TEST(trap_not_pinned_until_inserted, 10)
{
    enum { N = 5000 };
    struct hooks h;
    static struct counter c[N];
    gt_timer *t[N];
    gt_sched *s;
    gt_p *p;

    hooks_init(&h, 0);
    h.host.alloc = alloc_noting;
    h.host.free = free_noting;
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    p = new_p(s);
    CHECK_EQ(gt_acquirep(p), 0);
    for (int i = 0; i < N; i++)
        t[i] = new_timer(s, &c[i]);
    arming = 1;
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_addtimer(t[i], T0 + 10 + i, 0), 0);
    arming = 0;
    CHECK_EQ(unpinned_allocs, 0);
    CHECK_PTR_EQ(gt_releasep(), p);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    free_p(p);
    close_sched(s);
}

/* ---- Ps that shrink ---- */

enum { PS = 8, TICKERS = 20, IDLE = PS - 2 };

static struct {
    gt_sched *s;
    atomic_int stop[PS];
    struct counter c[PS * TICKERS];
    gt_timer *t[PS * TICKERS];
} shrink;

static void *shrink_worker(void *arg)
{
    int me = (int)(intptr_t)arg;
    gt_p *p = new_p(shrink.s);

    CHECK_EQ(gt_acquirep(p), 0);
    for (int i = 0; i < TICKERS && me != IDLE; i++)
        CHECK_EQ(gt_addtimer(shrink.t[me * TICKERS + i], gt_nanotime(shrink.s) + MS, MS), 0);
    while (!shrink.stop[me]) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(p, 0, &now, &until), 0);
        if (until != 0 && until <= now)
            continue;
        CHECK_GE(gt_notetsleep(p, until), 0);
    }
    free_p(p);
    return NULL;
}

/* Catches: tickers that stop when their P goes (golang/go#45716): left in the dead P's heap, or
 * moved to a P whose thread sleeps and is not woken. Ps end one by one under full load until
 * one is left that never had a timer and sleeps without a deadline; all tickers must go on
 * ticking there, and once more after this P was replaced by a new one. */
TEST(trap_ps_shrink_under_tickers, 60)
{
    enum { ALL = IDLE * TICKERS };
    pthread_t th[PS];
    int before[ALL];

    shrink.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < PS * TICKERS; i++)
        shrink.t[i] = new_timer(shrink.s, &shrink.c[i]);
    for (int k = 0; k <= IDLE; k++)
        th[k] = thread_start(shrink_worker, (void *)(intptr_t)k);
    for (int i = 0; i < ALL; i++)
        wait_for(&shrink.c[i].runs, 3);
    for (int k = 0; k < IDLE; k++) {
        shrink.stop[k] = 1;
        thread_join(th[k]);
        for (int i = 0; i < ALL; i++)
            before[i] = shrink.c[i].runs;
        for (int i = 0; i < ALL; i++)
            wait_for(&shrink.c[i].runs, before[i] + 2);
    }
    shrink.stop[IDLE] = 1;                                    /* none left for a while */
    thread_join(th[IDLE]);
    for (int i = 0; i < ALL; i++)
        before[i] = shrink.c[i].runs;
    th[PS - 1] = thread_start(shrink_worker, (void *)(intptr_t)(PS - 1));
    for (int i = 0; i < ALL; i++)
        wait_for(&shrink.c[i].runs, before[i] + 2);
    shrink.stop[PS - 1] = 1;
    thread_join(th[PS - 1]);
    for (int i = 0; i < PS * TICKERS; i++)
        CHECK_EQ(gt_timer_free(shrink.t[i]), i / TICKERS != IDLE);
    check_conserved(shrink.s);
    close_sched(shrink.s);
}

/* ---- the list of Ps ---- */

static struct {
    gt_sched *s;
    gt_p *stable;
    atomic_int stop;
} list;

static void *list_changes(void *arg)
{
    uint64_t rng = test_seed() + this_thread();
    gt_p *p[6] = {NULL};

    (void)arg;
    while (!list.stop) {
        int i = (int)rng_below(&rng, 6);

        if (p[i] == NULL) {
            p[i] = new_p(list.s);
        } else {
            free_p(p[i]);
            p[i] = NULL;
        }
    }
    for (int i = 0; i < 6; i++)
        if (p[i] != NULL)
            free_p(p[i]);
    return NULL;
}

static void *list_is_read(void *arg)
{
    (void)arg;
    while (!list.stop) {
        CHECK_LE(gt_time_sleep_until(list.s), T0 + 1000);      /* of the P that stays */
        CHECK_EQ(gt_overdue(list.s, T0 + 1), 0);
        CHECK_GE(gt_check_others(list.s, NULL, T0 + 50, NULL, NULL), 0);
        CHECK_GE(gt_check_others(list.s, list.stable, T0 + 50, NULL, NULL), 0);
    }
    return NULL;
}

static void *list_is_armed(void *arg)
{
    struct counter c = {0};
    gt_timer *t = new_timer(list.s, &c);
    int stopped = 0, armed = 0;

    (void)arg;
    while (!list.stop) {
        CHECK_EQ(gt_addtimer(t, T0 + 20, 0), 0);
        armed++;
        if (armed % 2)
            stopped += gt_deltimer(t);
        while (c.runs + stopped < armed)
            CHECK_GE(gt_check_others(list.s, NULL, T0 + 50, NULL, NULL), 0);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    return NULL;
}

/* Catches: the list of Ps is walked while it changes (golang/go#35462): a P that is freed under
 * the reader's feet (best seen with a sanitizer), or one of those that stay left out. */
TEST(trap_list_of_ps_read_while_it_changes, 30)
{
    static void *(*const fn[])(void *) = {list_changes, list_changes, list_is_read, list_is_armed};
    pthread_t th[4];
    struct counter c = {0};
    gt_timer *t;

    list.s = virtual_sched();
    list.stable = new_p(list.s);
    t = new_timer(list.s, &c);
    CHECK_EQ(gt_addtimer_on(list.stable, t, T0 + 1000, 0), 0);
    for (int i = 0; i < 4; i++)
        th[i] = thread_start(fn[i], NULL);
    sleep_ms(1500);
    list.stop = 1;
    for (int i = 0; i < 4; i++)
        thread_join(th[i]);
    CHECK_EQ(c.runs, 0);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(list.s);
    free_p(list.stable);
    close_sched(list.s);
}

/* ---- a P that is freed under a callback ---- */

static struct {
    gt_sched *s;
    gt_p *p, *q, *made;
    int what;                /* 1: free the victim, 2: free the thief's own P, 3: both */
    int runs;
} victim;

static void free_ps(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    victim.runs++;
    if (victim.what & 1)
        free_p(victim.p);
    if (victim.what & 2)
        free_p(victim.q);
    if (victim.what != 0) {
        victim.made = new_p(victim.s);
        if (victim.what & 1)
            CHECK(victim.made != victim.p);      /* the pass still uses that one's memory */
    }
    victim.what = 0;
}

/* Catches: a thief that goes on with a P which the callback (or anybody) has freed meanwhile: its
 * heap, its lock, its counters. What was left goes to the live P or to the next one. */
TEST(trap_thiefs_p_freed_under_its_callback, 10)
{
    for (int what = 1; what <= 3; what++)
        for (int bound = 0; bound <= 1; bound++) {
            gt_sched *s = virtual_sched();
            gt_p *last;
            gt_timer *t[20];

            memset(&victim, 0, sizeof victim);
            victim.what = what;
            victim.s = s;
            victim.p = new_p(s);
            victim.q = new_p(s);
            for (int i = 0; i < 20; i++) {
                CHECK((t[i] = gt_timer_new(s, free_ps, NULL, NULL)) != NULL);
                CHECK_EQ(gt_addtimer_on(victim.p, t[i], T0 + 10 + i, 0), 0);
            }
            if (bound)
                CHECK_EQ(gt_acquirep(victim.q), 0);
            CHECK_EQ(gt_check_others(s, victim.q, T0 + 100, NULL, NULL), 1);
            CHECK_GE(victim.runs, 1);
            last = new_p(s);
            while (gt_check_others(s, last, T0 + 100, NULL, NULL) == 1) {}
            drain_at(last, T0 + 100);
            CHECK_EQ(victim.runs, 20);
            for (int i = 0; i < 20; i++)
                CHECK_EQ(gt_timer_free(t[i]), 0);
            check_conserved(s);
            free_p(last);
            free_p(victim.made);
            if (!(what & 1))
                free_p(victim.p);
            if (!(what & 2))
                free_p(victim.q);
            CHECK_PTR_EQ(gt_current_p(), NULL);
            close_sched(s);
        }
}

/* ---- inserting into a P that has died ---- */

struct inserter {
    gt_p *p;                 /* named in the call; NULL: the library chooses */
    gt_timer *t;
    pthread_t thread;
    int result;
    atomic_int tid;
};

static void *insert_loop(void *arg)
{
    struct inserter *a = arg;

    a->tid = gettid();
    a->result = a->p != NULL ? gt_addtimer_on(a->p, a->t, T0 + 10, 0) : gt_addtimer(a->t, T0 + 10, 0);
    return NULL;
}

static void *free_loop(void *arg)
{
    free_p(arg);
    return NULL;
}

/* Catches: an inserter that waits for a P's lock, gets it after the P has died, and puts its
 * timer into the dead heap. The lock is held by a stopped thread; some inserters wait for it,
 * then a thread that frees the P, then some more. Whoever gets it first, the arming succeeds,
 * and the timer runs on a live P in the end. */
TEST(trap_insert_into_a_p_that_died, 90)
{
    needs_freeze();
    for (int round = 0; round < 10; round++) {
        gt_sched *s = virtual_sched();
        struct inserter a[4];
        struct counter c[4] = {{0}};
        gt_p *p = new_p(s), *q;
        gt_timer **fill = fill_p(p, s, 600, T0 + SEC);
        struct p_holder h;
        pthread_t killer = 0;

        hold_p(&h, p);
        for (int i = 0; i < 4; i++) {
            int before = i < 2 - round % 3;

            if (i == 2 - round % 3) {
                killer = thread_start(free_loop, p);
                sleep_ms(20);
            }
            memset(&a[i], 0, sizeof a[i]);
            a[i].p = before && i % 2 == 0 ? p : NULL;      /* named only before it is freed */
            a[i].t = new_timer(s, &c[i]);
            a[i].thread = thread_start(insert_loop, &a[i]);
            if (before)
                CHECK_EQ(wait_blocked(&a[i].tid, NULL, 0, 60000), 1);
        }
        sleep_ms(20);
        let_p_go(&h);
        thread_join(killer);
        for (int i = 0; i < 4; i++)
            thread_join(a[i].thread);
        CHECK_LE(gt_time_sleep_until(s), T0 + 10);
        q = new_p(s);
        drain_at(q, T0 + 10);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(a[i].result, 0);
            CHECK_EQ(c[i].runs, 1);
            CHECK_EQ(gt_timer_free(a[i].t), 0);
        }
        unfill(fill, 600);
        check_conserved(s);
        free_p(q);
        close_sched(s);
    }
}

static struct {
    gt_p *p;
    struct errand killer;
} dying;

static _Thread_local int inserting;

static void kill_p(void *arg) { free_p(arg); }

static void kill_before_the_lock(int acquire)
{
    if (!inserting || !acquire)
        return;
    inserting = 0;
    errand_run(&dying.killer, kill_p, dying.p, 200);
}

/* The same, on purpose: the inserter has entered its call and is pinned, but has not got the
 * P's lock, when another thread frees the P from beginning to end. */
TEST(trap_insert_after_the_p_has_died, 20)
{
    errand_start(&dying.killer);
    for (int how = 0; how < 6; how++) {
        struct hooks h;
        struct counter c = {0};
        gt_sched *s;
        gt_p *q;
        gt_timer *t;
        int r;

        hooks_init(&h, 0);
        s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
        dying.p = new_p(s);
        q = how % 2 ? new_p(s) : NULL;
        t = new_timer(s, &c);
        h.on_pin = kill_before_the_lock;
        inserting = 1;
        r = how / 2 == 0   ? gt_addtimer_on(dying.p, t, T0 + 10, 0)
            : how / 2 == 1 ? gt_resettimer_on(dying.p, t, T0 + 10, 0)
                           : gt_modtimer_on(dying.p, t, T0 + 10, 0, count_run, &c, 1);
        h.on_pin = NULL;
        CHECK_EQ(inserting, 0);
        errand_settle(&dying.killer);
        CHECK_EQ(r, 0);
        CHECK_EQ(gt_time_sleep_until(s), T0 + 10);
        if (q == NULL)
            q = new_p(s);
        CHECK_EQ(check_at(q, T0 + 10), 1);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
        free_p(q);
        close_sched(s);
    }
    errand_stop(&dying.killer);
}
