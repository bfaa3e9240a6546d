/* Bugs of the engine that there have been, one test each: passes, callbacks that arm, stop and
 * free, the verifier, waits in gt_deltimer_sync. Above each test stands what broken library it
 * catches. Those of Ps, forks and threads are in again_ps.c, exceptions in again_throw.cpp. */
#include "rules.h"

#include <sys/mman.h>

static void nop_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
}

static gt_timer *plain_timer(gt_sched *s, gt_func f, void *arg)
{
    gt_timer *t = gt_timer_new(s, f, arg, NULL);

    CHECK(t != NULL);
    return t;
}

/* ---- stopped timers among the deferred ones ---- */

#define MANY 100

static struct {
    gt_sched *s;
    gt_timer *v[MANY];
} many;

static void arm_and_stop_all(void *arg, uintptr_t seq, int64_t delay)
{
    int64_t now = gt_nanotime(many.s);

    (void)arg;
    (void)seq;
    (void)delay;
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_addtimer(many.v[i], now, 0), 0);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_deltimer(many.v[i]), 1);
}

/* Catches a sweep that counts the stopped timers of the deferred part (armed in a callback for
 * now, so kept out of the heap until the pass ends) but does not look for them there: with
 * enough of them it finds its bound exceeded again and again, and gt_deltimer never returns. */
TEST(again_sweep_of_deferred_timers, 10)
{
    gt_p *p;
    gt_timer *t;

    many.s = virtual_sched();
    p = new_p(many.s);
    for (int i = 0; i < MANY; i++)
        many.v[i] = plain_timer(many.s, nop_run, NULL);
    t = plain_timer(many.s, arm_and_stop_all, NULL);
    CHECK_EQ(gt_addtimer_on(p, t, T0, 0), 0);
    CHECK_EQ(check_at(p, T0), 1);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(drain_at(p, T0), 0);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_EQ(gt_p_deleted_timers(p), 0);
    check_conserved(many.s);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_timer_free(many.v[i]), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    free_p(p);
    close_sched(many.s);
}

/* ---- a callback that frees everything ---- */

/* Memory that nobody can touch after it was given back. */
static void *guard_alloc(void *ctx, size_t size, size_t align)
{
    size_t whole = size + align + 4096;
    void *base = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(base != MAP_FAILED);
    if (align < 4096)
        align = 4096;
    *(int64_t *)ctx += (int64_t)size;
    return (void *)(((uintptr_t)base + align - 1) / align * align);
}

static void guard_free(void *ctx, void *ptr, size_t size, size_t align)
{
    (void)align;
    *(int64_t *)ctx -= (int64_t)size;
    CHECK_EQ(mprotect(ptr, (size + 4095) / 4096 * 4096, PROT_NONE), 0);
}

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    int64_t bytes;
    int runs;
} all;

static void free_all(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    all.runs++;
    if (all.p != NULL)
        free_p(all.p);
    CHECK_EQ(gt_timer_free(all.t), 0);
    close_sched(all.s);
}

enum pass { CHECK_TIMERS, CHECK_OTHERS, ADVANCE };

static void free_all_in(enum pass pass, int with_p)
{
    gt_host h = {.size = sizeof h, .ctx = &all.bytes, .alloc = guard_alloc, .free = guard_free};
    gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL};
    int64_t until = -7;

    memset(&all, 0, sizeof all);
    CHECK((all.s = gt_sched_new(&cfg)) != NULL);
    all.p = with_p ? new_p(all.s) : NULL;
    all.t = plain_timer(all.s, free_all, NULL);
    CHECK_EQ(gt_addtimer(all.t, T0, 0), 0);
    switch (pass) {
    case CHECK_TIMERS:
        CHECK_EQ(gt_check_timers(all.p, 0, NULL, &until), 1);
        break;
    case CHECK_OTHERS:
        CHECK_EQ(gt_check_others(all.s, NULL, 0, NULL, &until), 1);
        break;
    case ADVANCE:
        CHECK_EQ(gt_sched_advance(all.s, 10), 1);
        break;
    }
    CHECK_EQ(all.runs, 1);
    CHECK_EQ(all.bytes, 0);
}

/* Catches a gt_check_others that keeps only the P of the pass over a callback, not the sched:
 * the callback frees P, timer and sched, and the thief goes on to the next P of a list that is
 * gone (a crash or a wait for ever, for that memory cannot be touched any more). */
TEST(again_sched_freed_in_a_steal, 10)
{
    free_all_in(CHECK_OTHERS, 0);
    free_all_in(CHECK_OTHERS, 1);
}

/* The same in gt_sched_advance, which also reads the clock of the sched again. */
TEST(again_sched_freed_in_an_advance, 10)
{
    free_all_in(ADVANCE, 0);
    free_all_in(ADVANCE, 1);
}

/* The same in the pass itself. */
TEST(again_sched_freed_in_a_pass, 10) { free_all_in(CHECK_TIMERS, 1); }

/* ---- ... with a timer among the deferred ones ---- */

static struct {
    gt_sched *s;
    gt_timer *u;
    int64_t later;
} deferred;

static void arm_and_free_sched(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(gt_addtimer(deferred.u, T0 + deferred.later, 0), 0);
    close_sched(deferred.s);
}

/* Catches a gt_sched_free that empties the heaps but not the deferred part of the pass that it
 * is called from: the entry keeps its timer, and the timer the whole sched's memory. */
TEST(again_deferred_entry_of_a_freed_sched, 10)
{
    struct alloc_hook a = {0};
    gt_timer *t;

    for (deferred.later = 0; deferred.later < 2; deferred.later++) {
        CHECK((deferred.s = alloc_hook_sched(&a, GT_CLOCK_VIRTUAL)) != NULL);
        t = plain_timer(deferred.s, arm_and_free_sched, NULL);
        deferred.u = plain_timer(deferred.s, nop_run, NULL);
        CHECK_EQ(gt_addtimer(t, T0, 0), 0);
        CHECK_EQ(gt_check_others(deferred.s, NULL, T0, NULL, NULL), 1);
        CHECK_EQ(gt_timer_free(deferred.u), 0);
        CHECK_EQ(gt_timer_free(t), 0);
        check_all_returned(&a);
    }
}

/* ---- the verifier and those who change timers ---- */

#define CHURNED 2000
#define FAR (1000 * SEC)

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *v[2][CHURNED], *tick;
    atomic_int stop;
} churn;

/* Re-arms and stops a few timers at the end of the heap. */
static void *churn_loop(void *arg)
{
    gt_timer **v = arg;
    uint64_t rng = test_seed() + (v == churn.v[1]);

    while (!churn.stop) {
        gt_timer *t = v[CHURNED - 1 - rng_below(&rng, 6)];

        if (rng_below(&rng, 2) == 0)
            CHECK_GE(gt_deltimer(t), 0);
        else
            CHECK_GE(gt_resettimer(t, T0 + FAR, 0), 0);
    }
    return NULL;
}

static void churn_against(uint32_t verify, void (*look)(void))
{
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL, .verify = verify};
    pthread_t th[2];
    int64_t end;

    CHECK((churn.s = gt_sched_new(&cfg)) != NULL);
    churn.p = new_p(churn.s);
    churn.tick = plain_timer(churn.s, nop_run, NULL);
    for (int i = 0; i < CHURNED; i++)
        for (int k = 0; k < 2; k++) {
            churn.v[k][i] = plain_timer(churn.s, nop_run, NULL);
            CHECK_EQ(gt_addtimer_on(churn.p, churn.v[k][i], T0 + FAR, 0), 0);
        }
    for (int k = 0; k < 2; k++)
        th[k] = thread_start(churn_loop, churn.v[k]);
    end = mono_now() + 700 * MS * (int64_t)test_slow();
    while (mono_now() < end)
        look();
    churn.stop = 1;
    for (int k = 0; k < 2; k++)
        thread_join(th[k]);
    CHECK_EQ(gt_verify_timer_heap(churn.p), 0);
    check_conserved(churn.s);
    for (int i = 0; i < CHURNED; i++)
        for (int k = 0; k < 2; k++)
            CHECK_GE(gt_timer_free(churn.v[k][i]), 0);
    CHECK_EQ(gt_timer_free(churn.tick), 0);
    free_p(churn.p);
    close_sched(churn.s);
}

static void look_verify(void) { CHECK_EQ(gt_verify_timer_heap(churn.p), 0); }

static void look_pass(void)
{
    CHECK_EQ(gt_resettimer_on(churn.p, churn.tick, T0, 0), 0);
    CHECK_EQ(check_at(churn.p, T0), 1);                        /* one with nothing due verifies nothing */
}

/* Catches a verifier that counts the stopped timers one by one and compares that with the
 * count, while other threads stop and re-arm timers in between: it says GT_RULE_DELETED though
 * nothing is wrong. A stress test. */
TEST(again_verify_against_honest_churn, 30) { churn_against(0, look_verify); }

/* The same where each pass verifies by itself: there the false alarm is the end of the process. */
TEST(again_verify_at_each_pass_against_churn, 30)
{
    churn_against(1, look_pass);
}

/* ---- the current_context hook ---- */

static struct {
    gt_p *p;
    gt_timer *t;
    int calls;
} asked;

static uintptr_t context_looks_around(void *ctx)
{
    static int inside;

    (void)ctx;
    asked.calls++;
    if (asked.p != NULL && !inside) {
        inside = 1;
        CHECK_EQ(gt_cleantimers(asked.p), 0);
        CHECK_NE(gt_timer_status(asked.t), GT_TIMER_LOCKED);
        CHECK_EQ(gt_verify_timer_heap(asked.p), 0);
        inside = 0;
    }
    return 1;
}

/* Catches a pass that asks current_context with its P locked: a hook that looks at the P then
 * waits for its own thread, and the time limit ends the test. */
TEST(again_context_hook_under_the_ps_lock, 10)
{
    struct counter c = {0};
    gt_host h = {.size = sizeof h, .current_context = context_looks_around};
    gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL};
    gt_sched *s = gt_sched_new(&cfg);

    CHECK(s != NULL);
    asked.t = new_timer(s, &c);
    asked.p = new_p(s);
    CHECK_EQ(gt_addtimer_on(asked.p, asked.t, T0, 0), 0);
    CHECK_EQ(check_at(asked.p, T0), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_GT(asked.calls, 0);
    CHECK_EQ(gt_deltimer_sync(asked.t), 0);
    CHECK_EQ(gt_timer_free(asked.t), 0);
    free_p(asked.p);
    asked.p = NULL;
    close_sched(s);
}

/* ---- waits across scheds ---- */

static struct side {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    int result;
} side[2];

static atomic_int sides_in;

static void wait_for_the_other(void *arg, uintptr_t seq, int64_t delay)
{
    struct side *me = arg, *other = &side[me == &side[0]];

    (void)seq;
    (void)delay;
    sides_in++;
    wait_for(&sides_in, 2);
    me->result = gt_deltimer_sync(other->t);
}

static void *side_pass(void *arg)
{
    CHECK_EQ(check_at(((struct side *)arg)->p, T0), 1);
    return NULL;
}

/* Catches a search for deadlocks that knows only those who wait in the same sched: two
 * callbacks of two scheds that wait for each other do so until the time limit. */
TEST(again_two_callbacks_wait_across_scheds, 10)
{
    pthread_t th[2];

    for (int k = 0; k < 2; k++) {
        side[k].s = virtual_sched();
        side[k].p = new_p(side[k].s);
        side[k].t = plain_timer(side[k].s, wait_for_the_other, &side[k]);
        CHECK_EQ(gt_addtimer_on(side[k].p, side[k].t, T0, 0), 0);
    }
    for (int k = 0; k < 2; k++)
        th[k] = thread_start(side_pass, &side[k]);
    for (int k = 0; k < 2; k++)
        thread_join(th[k]);
    for (int k = 0; k < 2; k++)
        CHECK(side[k].result == 0 || side[k].result == GT_EDEADLK);
    CHECK_NE(side[0].result, side[1].result);                  /* one is told, and the other's wait ends */
    for (int k = 0; k < 2; k++) {
        CHECK_EQ(gt_timer_free(side[k].t), 0);
        check_conserved(side[k].s);
        free_p(side[k].p);
        close_sched(side[k].s);
    }
}

/* ---- the place of a timer is used again while somebody waits for it by its id ---- */

static struct {
    gt_sched *s;
    uint64_t id;
    atomic_int started, waits, goes_on, returned;
} place;

static _Thread_local int is_waiter;

/* The waiter stops between two looks, until the next timer is being called. */
static void stop_waiter(void *ctx)
{
    (void)ctx;
    if (!is_waiter)
        return;
    place.waits = 1;
    wait_for(&place.goes_on, 1);
}

static void first_frees_itself(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    place.started = 1;
    wait_for(&place.waits, 1);
    CHECK_EQ(gt_timer_free_id(place.s, place.id), 0);
}

static void next_lasts_until_the_waiter_returns(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    place.goes_on = 1;
    wait_for(&place.returned, 1);
}

static void *waits_by_id(void *arg)
{
    (void)arg;
    is_waiter = 1;
    wait_for(&place.started, 1);
    CHECK_EQ(gt_deltimer_sync_id(place.s, place.id), 0);
    place.returned = 1;
    return NULL;
}

/* In the checked build the low bits tell the timers of one place apart. */
static int is_same_place(gt_timer *a, gt_timer *b) { return (uintptr_t)a / 64 == (uintptr_t)b / 64; }

/* Catches a gt_deltimer_sync_id that waits for any run it finds of the timer's place, though the timer
 * is freed and the place is another timer's: it does so until the time limit. */
TEST(again_sync_by_id_waits_for_the_next_timer, 20)
{
    gt_host h = {.size = sizeof h, .osyield = stop_waiter};
    gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL};
    gt_timer *first, *next[100];
    gt_p *p;
    pthread_t th;
    int n = 0;

    CHECK((place.s = gt_sched_new(&cfg)) != NULL);
    p = new_p(place.s);
    first = plain_timer(place.s, first_frees_itself, NULL);
    place.id = gt_timer_id(first);
    CHECK_EQ(gt_addtimer_on(p, first, T0, 0), 0);
    th = thread_start(waits_by_id, NULL);
    CHECK_EQ(check_at(p, T0), 1);
    do {
        CHECK_LT(n, 100);
        next[n] = plain_timer(place.s, next_lasts_until_the_waiter_returns, NULL);
    } while (!is_same_place(next[n++], first));
    CHECK_EQ(gt_addtimer_on(p, next[n - 1], T0, 0), 0);
    CHECK_EQ(check_at(p, T0), 1);
    thread_join(th);
    while (n > 0)
        CHECK_EQ(gt_timer_free(next[--n]), 0);
    check_conserved(place.s);
    free_p(p);
    close_sched(place.s);
}

/* ---- dead entries at the head ---- */

/* Catches a pass that leaves dead entries which are not due at the head, when it has taken off more
 * than are left: it tells who asks to come back for a timer that is stopped. */
TEST(again_runtimer_of_dead_entries, 10)
{
    struct counter c = {0};
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer *t[40];

    for (int n = 1; n <= 40; n++)
        for (int later = 0; later <= n; later++) {
            for (int i = 0; i < n; i++) {
                t[i] = plain_timer(s, count_run, &c);
                CHECK_EQ(gt_addtimer_on(p, t[i], T0 + (i >= later), 0), 0);
            }
            for (int i = 0; i < n; i++)
                CHECK_EQ(gt_timer_free(t[i]), 1);
            CHECK_EQ(gt_runtimer(p, T0), -1);
            CHECK_EQ(gt_trim(p), 0);
        }
    CHECK_EQ(c.runs, 0);
    free_p(p);
    close_sched(s);
}
