/* Large heaps: from some size on a heap grows in place, and gt_trim gives its memory back bit by
 * bit. Order, conservation and memory with 200,000 and 1,000,000 timers: one P, Ps that are freed
 * and adopted, threads, a fork child, an embedder's own allocator, too little memory. */
#include "rtkit.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAN (3600 * SEC)

/* Bytes of an entry, in all heaps there have been. */
#define ENTRY 16

/* How many timers in a slow run: still so many that the heap is a large one. */
static int so_many(int n) { return n / (int)test_slow() < 40000 ? 40000 : n / (int)test_slow(); }

/* Timers on one sched whose runs are counted, and checked to come in order. */
struct large {
    gt_sched *s;
    gt_timer **t;
    int n;
    uint64_t rng;
    int64_t last;             /* time of the last run */
    long runs;
};

/* In a pass of one `now`, the later ones are less late. */
static void run_in_order(void *arg, uintptr_t seq, int64_t delay)
{
    struct large *l = arg;
    int64_t when = gt_nanotime(l->s) - delay;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(when, l->last);
    l->last = when;
    l->runs++;
}

static int64_t some_time(struct large *l) { return T0 + 1 + (int64_t)rng_below(&l->rng, SPAN); }

static void large_new(struct large *l, gt_sched *s, int n)
{
    memset(l, 0, sizeof *l);
    l->s = s;
    l->n = n;
    l->rng = test_seed();
    CHECK((l->t = calloc((size_t)n, sizeof *l->t)) != NULL);
    for (int i = 0; i < n; i++)
        CHECK((l->t[i] = gt_timer_new(s, run_in_order, l, NULL)) != NULL);
}

/* Arms all that are not armed. */
static void large_arm(struct large *l, gt_p *p)
{
    for (int i = 0; i < l->n; i++)
        if (gt_timer_when(l->t[i]) == 0)
            CHECK_EQ(gt_addtimer_on(p, l->t[i], some_time(l), 0), 0);
}

/* Runs all that is armed on p and due until the clock has come to `end`; more than one pass. */
static void large_run(struct large *l, gt_p *p, int64_t end)
{
    int64_t now = gt_nanotime(l->s);

    for (int i = 1; i <= 4; i++) {
        CHECK_EQ(gt_sched_set_time(l->s, now + (end - now) / 4 * i), 0);
        CHECK_GE(gt_check_timers(p, 0, NULL, NULL), 0);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 0);
        CHECK_EQ(gt_verify_timer_heap(p), 0);
    }
}

/* All are over. */
static void large_free(struct large *l)
{
    for (int i = 0; i < l->n; i++)
        CHECK_EQ(gt_timer_free(l->t[i]), 0);
    free(l->t);
    check_conserved(l->s);
    CHECK_EQ(get_stats(l->s).pending, 0);
    CHECK_EQ(get_stats(l->s).timers, 0);
}

static int64_t bytes(gt_sched *s) { return (int64_t)get_stats(s).bytes; }

/* ---- order ---- */

static void order(gt_sched *s, int n)
{
    gt_p *p = new_p(s);
    struct large l;
    int64_t full, stopped = 0;

    large_new(&l, s, n);
    large_arm(&l, p);
    CHECK_EQ(gt_p_num_timers(p), n);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    full = bytes(s);
    for (int i = 0; i < n; i++)
        switch (rng_below(&l.rng, 10)) {
        case 0: stopped += gt_deltimer(l.t[i]); break;
        case 1: CHECK_EQ(gt_resettimer(l.t[i], some_time(&l), 0), 1); break;
        case 2: CHECK_EQ(gt_resettimer(l.t[i], gt_timer_when(l.t[i]) + SEC, 0), 1); break;
        default: break;
        }
    CHECK_EQ(get_stats(s).pending, n - stopped);
    large_run(&l, p, T0 + SPAN / 2);
    CHECK_GT(l.runs, 0);
    CHECK_LT(l.runs, n - stopped);
    check_conserved(s);
    large_run(&l, p, T0 + SPAN + 4 * SEC);
    CHECK_EQ(l.runs, n - stopped);
    CHECK_EQ(get_stats(s).stopped, stopped);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_LE(bytes(s), full - (int64_t)n * ENTRY / 2);   /* an empty heap needs no memory */
    large_free(&l);
    free_p(p);
    close_sched(s);
}

TEST(heap_large_order_200000, 120) { order(virtual_sched(), so_many(200000)); }
TEST(heap_large_order_1000000, 240) { order(virtual_sched(), so_many(1000000)); }

/* With an allocator of his own the embedder sees every byte; arrays are copied then. */
TEST(heap_large_order_own_allocator, 120)
{
    struct alloc_hook a = {0};

    order(alloc_hook_sched(&a, GT_CLOCK_VIRTUAL), so_many(200000));
    check_all_returned(&a);
}

/* ---- memory ---- */

/* Most are stopped, some here and there are not: gt_trim gives back what they do not need. Then
 * the heap grows again, where memory was given back. */
static void trim(gt_sched *s, int n)
{
    gt_p *p = new_p(s);
    struct large l;
    int64_t full[3], small[3];

    large_new(&l, s, n);
    for (int round = 0; round < 3; round++) {
        int kept = 0;

        large_arm(&l, p);
        full[round] = bytes(s);
        for (int i = 0; i < n; i++) {
            if (i % 100 == round || i == n - 1)
                kept++;
            else
                CHECK_EQ(gt_deltimer(l.t[i]), 1);
        }
        CHECK_GE(gt_trim(p), 0);
        small[round] = bytes(s);
        CHECK_LE(small[round], full[round] - (int64_t)n * ENTRY * 3 / 4);
        CHECK_EQ(gt_p_num_timers(p), kept);
        CHECK_EQ(gt_p_deleted_timers(p), 0);
        CHECK_EQ(get_stats(s).pending, kept);
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        CHECK_EQ(gt_trim(p), 0);
        CHECK_EQ(bytes(s), small[round]);                /* that was all */
        check_conserved(s);
    }
    CHECK_LE(full[2], full[0] + full[0] / 4);            /* what comes back is used again */
    CHECK_LE(small[2], small[0] + small[0] / 4);
    large_arm(&l, p);
    large_run(&l, p, T0 + SPAN + 4);
    CHECK_EQ(l.runs, n);
    large_free(&l);
    CHECK_GE(gt_trim(p), 0);
    free_p(p);
    close_sched(s);
}

TEST(heap_large_trim_200000, 120) { trim(virtual_sched(), so_many(200000)); }
TEST(heap_large_trim_1000000, 240) { trim(virtual_sched(), so_many(1000000)); }

TEST(heap_large_trim_own_allocator, 120)
{
    struct alloc_hook a = {0};

    trim(alloc_hook_sched(&a, GT_CLOCK_VIRTUAL), so_many(200000));
    check_all_returned(&a);
}

/* ---- Ps come and go ---- */

static void move(gt_sched *s)
{
    int n = so_many(200000);
    gt_p *a = new_p(s), *b = new_p(s);
    struct large l;
    int64_t full;

    large_new(&l, s, n);
    large_arm(&l, a);
    full = bytes(s);
    for (int i = 0; i < n; i += 5)                       /* some for another time */
        CHECK_EQ(gt_resettimer(l.t[i], some_time(&l), 0), 1);
    CHECK_EQ(gt_adopt_timers(b, a), n);
    CHECK_EQ(gt_p_num_timers(a), 0);
    CHECK_EQ(gt_p_num_timers(b), n);
    CHECK_EQ(gt_verify_timer_heap(b), 0);
    CHECK_EQ(gt_trim(a), 0);
    CHECK_LE(bytes(s), full + full / 4);                 /* a's part has come back */
    check_conserved(s);

    CHECK_EQ(gt_p_free(b), 0);                           /* they go to a again */
    CHECK_EQ(gt_p_num_timers(a), n);
    CHECK_EQ(gt_verify_timer_heap(a), 0);
    CHECK_LE(bytes(s), full + full / 4);
    large_run(&l, a, T0 + SPAN / 2);
    CHECK_EQ(gt_p_free(a), 0);                           /* and now to nobody */
    CHECK_EQ(get_stats(s).pending, n - l.runs);
    check_conserved(s);
    a = new_p(s);                                        /* who takes them */
    CHECK_EQ(gt_p_num_timers(a), n - l.runs);
    CHECK_EQ(gt_verify_timer_heap(a), 0);
    large_run(&l, a, T0 + SPAN + 4);
    CHECK_EQ(l.runs, n);
    large_free(&l);
    CHECK_GE(gt_trim(a), 0);
    CHECK_LE(bytes(s), full - (int64_t)n * ENTRY * 3 / 4);
    free_p(a);
    close_sched(s);
}

TEST(heap_large_free_and_adopt, 120) { move(virtual_sched()); }

TEST(heap_large_free_and_adopt_own_allocator, 120)
{
    struct alloc_hook a = {0};

    move(alloc_hook_sched(&a, GT_CLOCK_VIRTUAL));
    check_all_returned(&a);
}

/* ---- threads ---- */

#define THREADS 4

static struct {
    struct large l;
    gt_p *p;
    atomic_int stop, ended;
} shared;

/* Arms, re-arms and stops its part of the timers; all of it is armed in the end. */
static void *arm_a_part(void *arg)
{
    int part = (int)(uintptr_t)arg;
    uint64_t rng = test_seed() + (uint64_t)part;

    for (int i = part; i < shared.l.n; i += THREADS) {
        gt_timer *t = shared.l.t[i];

        CHECK_EQ(gt_addtimer_on(shared.p, t, T0 + 1 + (int64_t)rng_below(&rng, SPAN), 0), 0);
        if (i % 3 == 0)
            CHECK_EQ(gt_resettimer(t, T0 + 1 + (int64_t)rng_below(&rng, SPAN), 0), 1);
        if (i % 7 == 0) {
            CHECK_EQ(gt_deltimer(t), 1);
            CHECK_EQ(gt_resettimer_on(shared.p, t, T0 + 1 + (int64_t)rng_below(&rng, SPAN), 0), 0);
        }
    }
    shared.ended++;
    return NULL;
}

static void *trim_all_the_time(void *arg)
{
    (void)arg;
    while (!shared.stop) {
        CHECK_GE(gt_trim(shared.p), 0);
        CHECK_EQ(gt_check_timers(shared.p, 0, NULL, NULL), 0);
        CHECK_GE(gt_adjusttimers(shared.p, 0, 1), 0);
    }
    return NULL;
}

/* The heap grows and shrinks under everybody's hands. */
TEST(heap_large_grows_under_threads, 120)
{
    pthread_t th[THREADS], trimmer;

    large_new(&shared.l, virtual_sched(), so_many(200000));
    shared.p = new_p(shared.l.s);
    for (int round = 0; round < 2; round++) {
        shared.stop = shared.ended = 0;
        trimmer = thread_start(trim_all_the_time, NULL);
        for (int i = 0; i < THREADS; i++)
            th[i] = thread_start(arm_a_part, (void *)(uintptr_t)i);
        for (int i = 0; i < THREADS; i++)
            thread_join(th[i]);
        CHECK_EQ(gt_p_num_timers(shared.p) - gt_p_deleted_timers(shared.p), shared.l.n);
        if (round == 0)
            for (int i = 0; i < shared.l.n; i++)
                CHECK_EQ(gt_deltimer(shared.l.t[i]), 1);
        shared.stop = 1;
        thread_join(trimmer);
        CHECK_EQ(gt_verify_timer_heap(shared.p), 0);
        check_conserved(shared.l.s);
    }
    large_run(&shared.l, shared.p, T0 + SPAN + 4);
    CHECK_EQ(shared.l.runs, shared.l.n);
    large_free(&shared.l);
    free_p(shared.p);
    close_sched(shared.l.s);
}

/* ---- fork ---- */

static void goes_on_in_the_child(void *arg)
{
    struct large *l = arg;

    CHECK_EQ(gt_after_fork(), 0);
    large_arm(l, shared.p);                              /* it grows further, here only */
    CHECK_EQ(gt_p_num_timers(shared.p), l->n);
    for (int i = 0; i < l->n; i += 2)
        CHECK_EQ(gt_deltimer(l->t[i]), 1);
    CHECK_GE(gt_trim(shared.p), 0);
    large_run(l, shared.p, T0 + SPAN + 4);
    CHECK_EQ(l->runs, l->n / 2);
    large_free(l);
    free_p(shared.p);
    close_sched(l->s);
}

TEST(heap_large_in_a_fork_child, 120)
{
    int n = so_many(200000);
    struct large l;

    large_new(&l, virtual_sched(), n - n % 2);
    shared.p = new_p(l.s);
    for (int i = 0; i < n / 2; i++)
        CHECK_EQ(gt_addtimer_on(shared.p, l.t[i], some_time(&l), 0), 0);
    must_pass_in_child(goes_on_in_the_child, &l);
    CHECK_EQ(gt_p_num_timers(shared.p), n / 2);
    CHECK_EQ(gt_verify_timer_heap(shared.p), 0);
    large_arm(&l, shared.p);
    large_run(&l, shared.p, T0 + SPAN + 4);
    CHECK_EQ(l.runs, l.n);
    large_free(&l);
    free_p(shared.p);
    close_sched(l.s);
}

/* ---- too little memory ---- */

/* 0 where a limit cannot be set to what the process has now and a bit: the sanitizers and
 * valgrind take a lot for themselves. */
static int limits_work(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    return test_slow() == 1;
#endif
}

/* Field of /proc/self/statm in bytes: 0 all addresses, 5 data and stack. -1: not there. */
static int64_t statm(int field)
{
    long long v = -1;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f == NULL)
        return -1;
    for (int i = 0; i <= field; i++)
        if (fscanf(f, "%lld", &v) != 1)
            v = -1;
    fclose(f);
    return v < 0 ? -1 : v * sysconf(_SC_PAGESIZE);
}

static void limit(int what, int64_t to)
{
    struct rlimit r;

    CHECK_EQ(getrlimit(what, &r), 0);
    r.rlim_cur = to < 0 ? r.rlim_max : (rlim_t)to;
    CHECK_EQ(setrlimit(what, &r), 0);
}

/* A process that may not have so many addresses as a large heap takes for itself: it has to do
 * with less. */
TEST(heap_large_without_a_region, 120)
{
    if (!limits_work() || statm(0) < 0)
        test_skip("sanitizers and valgrind take memory of their own");
    limit(RLIMIT_AS, statm(0) + ((int64_t)1 << 30));
    trim(virtual_sched(), 200000);
    move(virtual_sched());
}

/* No memory for more entries: GT_ENOMEM, the heap stays as it is, and grows when there is some. */
TEST(heap_large_out_of_memory, 120)
{
    struct large l;
    gt_stats before;
    int refused = -1;
    gt_p *p;

    if (!limits_work() || statm(5) < 0)
        test_skip("sanitizers and valgrind take memory of their own");
    large_new(&l, virtual_sched(), 200000);
    p = new_p(l.s);
    for (int i = 0; i < 50000; i++)
        CHECK_EQ(gt_addtimer_on(p, l.t[i], some_time(&l), 0), 0);
    limit(RLIMIT_DATA, statm(5) + (1 << 20));
    for (int i = 50000; i < l.n && refused < 0; i++) {
        int r;

        before = get_stats(l.s);
        r = gt_addtimer_on(p, l.t[i], some_time(&l), 0);
        if (r != 0) {
            CHECK_EQ(r, GT_ENOMEM);
            refused = i;
        }
    }
    if (refused < 0)
        test_skip("limits of memory mean nothing here");
    check_same_counters(l.s, &before);
    CHECK_EQ(gt_p_num_timers(p), refused);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(gt_timer_when(l.t[refused]), 0);
    limit(RLIMIT_DATA, -1);
    large_arm(&l, p);
    large_run(&l, p, T0 + SPAN + 4);
    CHECK_EQ(l.runs, l.n);
    large_free(&l);
    free_p(p);
    close_sched(l.s);
}
