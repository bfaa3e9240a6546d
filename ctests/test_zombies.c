/* Dead entries: stopped and freed timers stay in a heap until they are swept, but never more
 * than a quarter and a 64th of it and a constant, also when the P's owner never checks; what
 * was swept is used again; gt_trim sweeps all. */
#include "support.h"

enum { N = 100000, CONSTANT = 128 };

static int many(void) { return N / (int)test_slow() < 5000 ? 5000 : N / (int)test_slow(); }

static void check_bound(gt_p *p, int threads)
{
    int64_t num = gt_p_num_timers(p);

    CHECK_LE(gt_p_deleted_timers(p), num / 4 + num / 64 + CONSTANT + 64 * (threads - 1));
}

static void shuffle(gt_timer **t, int n, uint64_t *rng)
{
    for (int i = n - 1; i > 0; i--) {
        int k = (int)rng_below(rng, (uint64_t)i + 1);
        gt_timer *swap = t[i];

        t[i] = t[k];
        t[k] = swap;
    }
}

static gt_timer **arm_all(gt_sched *s, gt_p *p, int n, struct counter *c, uint64_t *rng)
{
    gt_timer **t = calloc((size_t)n, sizeof *t);

    for (int i = 0; i < n; i++) {
        t[i] = gt_timer_new(s, count_run, c, NULL);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1000 + (int64_t)rng_below(rng, 1000000), 0), 0);
    }
    return t;
}

/* Stops, or frees, all of a big heap, from the first to the last, from the last to the first
 * or at random, and looks at the bound after each. Nobody ever checks. */
TEST(zombie_bound_stop_all, 60)
{
    for (int order = 0; order < 3; order++)
        for (int by_free = 0; by_free < 2; by_free++) {
            struct alloc_hook a = {0};
            gt_sched *s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
            gt_p *p = gt_p_new(s);
            struct counter c = {0};
            uint64_t rng = test_seed();
            int n = many();
            gt_timer **t = arm_all(s, p, n, &c, &rng);
            int64_t bytes = a.bytes;

            if (order == 2)
                shuffle(t, n, &rng);
            for (int i = 0; i < n; i++) {
                gt_timer *x = t[order == 1 ? n - 1 - i : i];

                CHECK_EQ(by_free ? gt_timer_free(x) : gt_deltimer(x), 1);
                check_bound(p, 1);
            }
            CHECK_LE(gt_p_num_timers(p), 2 * CONSTANT);
            CHECK_EQ(get_stats(s).pending, 0);
            CHECK_EQ(get_stats(s).zombies, gt_p_deleted_timers(p));
            CHECK_GT(get_stats(s).sweeps, n / 2);
            CHECK_EQ(gt_verify_timer_heap(p), 0);
            CHECK_EQ(c.runs, 0);
            if (by_free)
                CHECK_LE(get_stats(s).timers, gt_p_num_timers(p));
            else
                for (int i = 0; i < n; i++)
                    CHECK_EQ(gt_timer_free(t[i]), 0);
            CHECK_LE(a.bytes, bytes + 65536);
            free(t);

            /* the memory is there for new ones */
            t = arm_all(s, p, n, &c, &rng);
            CHECK_LE(a.bytes, bytes + bytes / 4);
            CHECK_EQ(gt_verify_timer_heap(p), 0);
            for (int i = 0; i < n; i++)
                CHECK_EQ(gt_timer_free(t[i]), 1);
            CHECK_GE(gt_trim(p), 0);
            CHECK_EQ(get_stats(s).timers, 0);
            CHECK_EQ(gt_p_num_timers(p), 0);
            free(t);
            check_conserved(s);
            CHECK_EQ(gt_p_free(p), 0);
            close_sched(s);
            check_all_returned(&a);
        }
}

/* The other ways to stop one: those that take the longer way through the library. */
enum way { DEL_ID, DEL_SYNC, STOP, SHUTDOWN, FREE_ID, FREE_WITH_DROP, DEL_DETACHED, WAYS };

static int stop_by(enum way way, gt_sched *s, gt_timer *t, uint64_t id)
{
    switch (way) {
    case DEL_SYNC: return gt_deltimer_sync(t);
    case STOP: return gt_timer_stop(t);
    case SHUTDOWN: return gt_shutdown_timer(t);
    case FREE_ID: return gt_timer_free_id(s, id);
    case FREE_WITH_DROP: return gt_timer_free(t);
    default: return gt_deltimer_id(s, id);
    }
}

TEST(zombie_bound_each_way, 60)
{
    enum { FEW = 3000 };

    for (int way = 0; way < WAYS; way++) {
        int frees = way >= FREE_ID, drops = way == FREE_WITH_DROP;
        gt_sched *s = virtual_sched();
        gt_p *p = gt_p_new(s);
        struct counter c = {0};
        gt_timer *t[FEW];
        uint64_t id[FEW];

        for (int i = 0; i < FEW; i++) {
            t[i] = gt_timer_new(s, count_run, &c, drops ? count_drop : NULL);
            id[i] = gt_timer_id(t[i]);
            CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 1000 + i, 0), 0);
            if (way == DEL_DETACHED)
                CHECK_EQ(gt_timer_detach(t[i]), 0);
        }
        for (int i = 0; i < FEW; i++) {
            CHECK_EQ(stop_by((enum way)way, s, t[i], id[i]), 1);
            check_bound(p, 1);
        }
        CHECK_EQ(get_stats(s).pending, 0);
        CHECK_GT(get_stats(s).sweeps, FEW / 2);
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        for (int i = 0; i < FEW && !frees; i++)
            CHECK_EQ(gt_timer_free(t[i]), 0);
        CHECK_EQ(c.drops, drops ? FEW : 0);
        check_conserved(s);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
    }
}

/* Arm and stop, over and over, beside timers that stay. */
TEST(zombie_bound_arm_and_stop, 60)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    uint64_t rng = test_seed();
    int n = many() / 10;
    gt_timer **t = arm_all(s, p, n, &c, &rng), *reused = gt_timer_new(s, count_run, &c, NULL);

    for (int i = 0; i < many(); i++) {
        int64_t when = T0 + 1 + (int64_t)rng_below(&rng, 2000000);

        CHECK_EQ(gt_addtimer_on(p, reused, when, 0), 0);
        if (i % 3 == 0)
            CHECK_EQ(gt_resettimer(reused, when + 50, 0), 1);
        CHECK_EQ(gt_deltimer(reused), 1);
        if (i % 2 == 0) {
            gt_timer *brief = gt_timer_new(s, count_run, &c, NULL);

            CHECK_EQ(gt_addtimer_on(p, brief, when, 0), 0);
            CHECK_EQ(gt_timer_free(brief), 1);
        }
        check_bound(p, 1);
    }
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_LE(get_stats(s).timers, (int64_t)n + 1 + gt_p_deleted_timers(p));
    CHECK_EQ(get_stats(s).pending, n);
    for (int i = 0; i < n; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    gt_timer_free(reused);
    free(t);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* Re-arming to and fro must not pile up stale entries either. */
TEST(zombie_bound_rearm, 60)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    uint64_t rng = test_seed();
    int n = many() / 20;
    gt_timer **t = arm_all(s, p, n, &c, &rng);

    for (int i = 0; i < many(); i++) {
        int64_t when = T0 + 1 + (int64_t)rng_below(&rng, 2000000);

        CHECK_EQ(gt_resettimer(t[rng_below(&rng, (uint64_t)n)], when, 0), 1);
        check_bound(p, 1);
        CHECK_LE(gt_p_num_timers(p), n + n / 2 + 2 * CONSTANT);
    }
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(get_stats(s).pending, n);
    CHECK_EQ(gt_check_timers(p, T0 + 3000000, NULL, NULL), 1);
    while (gt_check_timers(p, T0 + 3000000, NULL, NULL) != 0) {}
    CHECK_EQ(c.runs, n);
    for (int i = 0; i < n; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    free(t);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

struct stopper {
    gt_timer **t;
    int n;
};

static void *stops(void *arg)
{
    struct stopper *st = arg;

    for (int i = 0; i < st->n; i++)
        CHECK_EQ(gt_timer_free(st->t[i]), 1);
    return NULL;
}

TEST(zombie_bound_stop_from_many_threads, 60)
{
    enum { THREADS = 4 };
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    uint64_t rng = test_seed();
    int n = many() / THREADS * THREADS;
    gt_timer **t = arm_all(s, p, n, &c, &rng);
    struct stopper st[THREADS];
    pthread_t th[THREADS];

    shuffle(t, n, &rng);
    for (int i = 0; i < THREADS; i++) {
        st[i].t = t + n / THREADS * i;
        st[i].n = n / THREADS;
        th[i] = thread_start(stops, &st[i]);
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(th[i]);
    check_bound(p, THREADS);
    CHECK_EQ(get_stats(s).pending, 0);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    free(t);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* Those that were never on a P: the orphan set has the same bound. */
TEST(zombie_bound_orphans, 60)
{
    struct alloc_hook a = {0};
    gt_sched *s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL);
    struct counter c = {0};
    int n = many() / 4;
    gt_timer **t = calloc((size_t)n, sizeof *t);
    gt_p *p;

    for (int i = 0; i < n; i++) {
        t[i] = gt_timer_new(s, count_run, &c, NULL);
        CHECK_EQ(gt_addtimer(t[i], T0 + 1000 + i, 0), 0);
    }
    for (int i = 0; i < n; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    CHECK_LE(get_stats(s).zombies, 2 * CONSTANT);
    CHECK_LE(get_stats(s).timers, 2 * CONSTANT);
    p = gt_p_new(s);
    check_bound(p, 1);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
    check_all_returned(&a);
    free(t);
}

TEST(zombie_trim_sweeps_all, 60)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    uint64_t rng = test_seed();
    int n = many() / 4, kept = 0;
    gt_timer **t = arm_all(s, p, n, &c, &rng);
    int64_t dead, swept = (int64_t)get_stats(s).sweeps;

    for (int i = 0; i < n; i++) {
        if (rng_below(&rng, 5) == 0)
            CHECK_EQ(gt_deltimer(t[i]), 1);
        else
            kept++;
    }
    dead = gt_p_deleted_timers(p);
    CHECK_EQ(gt_p_num_timers(p) - dead, kept);
    CHECK_EQ(gt_trim(p), dead);
    CHECK_EQ(gt_trim(p), 0);
    CHECK_EQ(gt_p_deleted_timers(p), 0);
    CHECK_EQ(gt_p_num_timers(p), kept);
    CHECK_EQ(get_stats(s).zombies, 0);
    CHECK_EQ((int64_t)get_stats(s).sweeps - swept, n - kept);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(get_stats(s).pending, kept);
    for (int i = 0; i < n; i++)
        CHECK_GE(gt_timer_free(t[i]), 0);
    free(t);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}
