/* Traps of arming, stopping and firing. The comment above each test names the wrong
 * implementation that it catches; docs/traps.md has the table. */
#include "rules.h"

/* ---- the wake time after callbacks ---- */

struct shortener {
    gt_timer *other;
    int64_t when;
    int once;
};

static void shorten_other(void *arg, uintptr_t seq, int64_t delay)
{
    struct shortener *a = arg;

    (void)seq;
    (void)delay;
    if (a->once++ == 0)
        CHECK_EQ(gt_resettimer(a->other, a->when, 0), 1);
}

/* Catches: poll_until taken when the heap was last looked at, before the callback ran. Adjust
 * has run in this very pass (a shortened timer was due), then a callback shortens a timer that
 * is not the head. The pass must answer with that time: its caller is awake, so no wake will
 * ever tell it. By a pass, by a thief's pass, and by the callback of a periodic timer. */
TEST(trap_poll_until_before_the_last_callback, 10)
{
    for (int how = 0; how < 3; how++) {
        gt_sched *s = virtual_sched();
        gt_p *p = new_p(s);
        struct shortener a = {.when = T0 + 60};
        struct counter c[3] = {{0}};
        gt_timer *first = gt_timer_new(s, shorten_other, &a, NULL);
        gt_timer *head = new_timer(s, &c[0]), *other = new_timer(s, &c[1]);
        int64_t until = -1;

        a.other = other;
        CHECK_EQ(gt_addtimer_on(p, head, T0 + 100, 0), 0);
        CHECK_EQ(gt_addtimer_on(p, other, T0 + 200, 0), 0);
        CHECK_EQ(gt_addtimer_on(p, first, T0 + 1000, how == 2 ? 500 : 0), 0);
        CHECK_EQ(gt_resettimer(first, T0 + 50, how == 2 ? 500 : 0), 1);   /* adjust is due at 50 */
        if (how == 1)
            CHECK_EQ(gt_check_others(s, NULL, T0 + 55, NULL, &until), 1);
        else
            CHECK_EQ(gt_check_timers(p, T0 + 55, NULL, &until), 1);
        CHECK_EQ(until, T0 + 60);
        CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 60);
        CHECK_EQ(check_at(p, T0 + 60), 1);
        CHECK_EQ(c[1].runs, 1);
        CHECK_EQ(gt_timer_free(first), how == 2);
        CHECK_EQ(gt_timer_free(head), 1);
        CHECK_EQ(gt_timer_free(other), 0);
        check_conserved(s);
        free_p(p);
        close_sched(s);
    }
}

/* ---- arming a timer that is in no heap ---- */

struct armer {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    uint64_t id;
    int64_t when;
    int result;
    int add;
    atomic_int done;
    pthread_t thread;
};

static void *arm_loop(void *arg)
{
    struct armer *a = arg;

    if (a->id != 0)
        a->result = gt_resettimer_id(a->s, a->id, a->when, 0);
    else if (a->add)
        a->result = gt_addtimer_on(a->p, a->t, a->when, 0);
    else
        a->result = gt_resettimer_on(a->p, a->t, a->when, 0);
    atomic_store(&a->done, 1);
    return NULL;
}

static void armer_start(struct armer *a) { a->thread = thread_start(arm_loop, a); }

/* Catches two wrong ways to insert. The seeds' old modtimer took the P's lock while it held the
 * timer: then the timer would read Locked here, and gt_deltimer would hang. The seeds' new one
 * publishes Waiting and then takes the lock: then the timer would read Waiting though it is in
 * no heap, and gt_deltimer would touch a P that it does not have. Here the P's lock is held by
 * a stopped thread while two threads arm one timer. */
TEST(trap_insert_window, 60)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer **fill = fill_p(p, s, 1000, T0 + SEC);
    struct p_holder h;

    needs_freeze();
    for (int add = 0; add <= 1; add++) {
        struct counter c = {0};
        gt_timer *t = new_timer(s, &c);
        struct armer a = {.p = p, .t = t, .when = T0 + 10, .add = add}, b = a;
        gt_stats before = get_stats(s), after;

        b.when = T0 + 20;
        hold_p(&h, p);
        armer_start(&a);
        armer_start(&b);
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(gt_timer_status(t), GT_TIMER_REMOVED);
            CHECK_EQ(gt_timer_when(t), 0);
            CHECK_EQ(gt_deltimer(t), 0);
            CHECK_EQ(gt_deltimer_sync(t), 0);
            sleep_ms(1);
        }
        CHECK_EQ(a.done + b.done, 0);
        let_p_go(&h);
        thread_join(a.thread);
        thread_join(b.thread);
        CHECK_EQ(a.result + b.result, add ? GT_EALREADY : 1);
        CHECK_EQ(a.result == 0 || b.result == 0, 1);
        after = get_stats(s);
        CHECK_EQ(after.armed - before.armed, add ? 1 : 2);
        CHECK_EQ(after.replaced - before.replaced, !add);
        CHECK_EQ(gt_timer_when(t), a.result == 0 ? (add ? T0 + 10 : T0 + 20) : (add ? T0 + 20 : T0 + 10));
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        drain_at(p, T0 + 20);
        CHECK_EQ(c.runs, 1);
        CHECK_EQ(gt_timer_free(t), 0);
        check_conserved(s);
    }
    unfill(fill, 1000);
    free_p(p);
    close_sched(s);
}

/* Catches: an insertion that goes on with a timer that was freed while it waited for the P's
 * lock. The free does not wait; the arming by id finds a dead id when it gets the lock. */
TEST(trap_insert_of_a_timer_freed_meanwhile, 60)
{
    gt_sched *s = virtual_sched();
    gt_p *p = new_p(s);
    gt_timer **fill = fill_p(p, s, 1000, T0 + SEC);
    struct counter c = {0};
    gt_timer *t = new_timer(s, &c);
    struct armer a = {.s = s, .id = gt_timer_id(t), .when = T0 + 10};
    struct p_holder h;

    needs_freeze();
    hold_p(&h, p);
    armer_start(&a);                              /* the only P: it must wait for its lock */
    sleep_ms(50);
    CHECK_EQ(a.done, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(c.drops, 1);
    let_p_go(&h);
    thread_join(a.thread);
    CHECK_EQ(a.result, GT_ESTALE);
    CHECK_EQ(check_at(p, T0 + 20), 0);
    CHECK_EQ(c.runs, 0);
    unfill(fill, 1000);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    check_conserved(s);
    free_p(p);
    close_sched(s);
}

/* ---- Stop true, then Reset true for one firing ---- */

enum { STOPS = 200000 };

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    atomic_uchar ran[STOPS];
    atomic_int stop;
} twice;

static void twice_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    CHECK_GE(delay, 0);
    twice.ran[seq]++;
}

static void *twice_fire(void *arg)
{
    (void)arg;
    while (!twice.stop)
        CHECK_GE(gt_check_timers(twice.p, 0, NULL, NULL), 0);
    return NULL;
}

/* Catches: one arming accounted for twice (golang/go#80760), as when a stop that finds the
 * timer half way to its callback says 1, and the re-arm after it says 1 again, or the callback
 * runs as well. Each arming here is for a moment ahead, so that stop and firing meet; after a
 * stop, whatever it said, a re-arm must find nothing pending. */
TEST(trap_stop_then_reset_count_one_firing_twice, 20)
{
    uint64_t rng = test_seed();
    int64_t end = mono_now() + 1500 * MS;
    pthread_t th;
    int k, stopped = 0, ran = 0;
    gt_stats st;

    twice.s = new_sched(GT_CLOCK_MONOTONIC);
    twice.p = new_p(twice.s);
    CHECK((twice.t = gt_timer_new(twice.s, twice_run, NULL, NULL)) != NULL);
    th = thread_start(twice_fire, NULL);
    for (k = 0; k < STOPS && mono_now() < end; k++) {
        int64_t when = gt_nanotime(twice.s) + (int64_t)rng_below(&rng, 3000);
        int r;

        CHECK_EQ(gt_modtimer_on(twice.p, twice.t, when, 0, twice_run, NULL, (uintptr_t)k), 0);
        for (uint64_t spin = rng_below(&rng, 300); spin > 0; spin--)
            atomic_load(&twice.stop);
        r = gt_deltimer(twice.t);
        CHECK(r == 0 || r == 1);
        stopped += r;
        if (r == 0) {
            CHECK_EQ(gt_deltimer_sync(twice.t), 0);
            CHECK_EQ(twice.ran[k], 1);
        } else {
            CHECK_EQ(twice.ran[k], 0);
        }
    }
    twice.stop = 1;
    thread_join(th);
    for (int i = 0; i < k; i++)
        ran += twice.ran[i];
    CHECK_EQ(ran + stopped, k);
    st = get_stats(twice.s);
    CHECK_EQ(st.armed, k);
    CHECK_EQ(st.fired, ran);
    CHECK_EQ(st.stopped, stopped);
    CHECK_EQ(st.replaced, 0);
    CHECK_EQ(gt_timer_free(twice.t), 0);
    free_p(twice.p);
    close_sched(twice.s);
}

/* ---- callbacks and the embedder's locks ---- */

enum { GUARDED = 8 };

static struct guarded {
    gt_sched *s;
    gt_p *p[2];
    pthread_mutex_t lock;          /* the embedder's: taken by callbacks, and around every call */
    gt_timer *t[GUARDED];
    long runs;
    atomic_int stop;
} guarded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void guarded_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct guarded *g = arg;

    (void)seq;
    (void)delay;
    pthread_mutex_lock(&g->lock);
    g->runs++;
    CHECK_GE(gt_resettimer(g->t[seq % GUARDED], gt_nanotime(g->s) + 5 * US, 0), 0);
    pthread_mutex_unlock(&g->lock);
}

static void *guarded_pass(void *arg)
{
    gt_p *p = arg;

    while (!guarded.stop) {
        CHECK_GE(gt_check_timers(p, 0, NULL, NULL), 0);
        CHECK_GE(gt_check_others(guarded.s, p, 0, NULL, NULL), 0);
    }
    return NULL;
}

static void *guarded_mutate(void *arg)
{
    uint64_t rng = test_seed() + this_thread();
    struct guarded *g = arg;

    while (!g->stop) {
        int i = (int)rng_below(&rng, GUARDED);
        gt_p *p = g->p[rng_below(&rng, 2)];

        pthread_mutex_lock(&g->lock);
        switch (rng_below(&rng, 4)) {
        case 0:
            CHECK_GE(gt_deltimer(g->t[i]), 0);
            break;
        case 1:
            CHECK_GE(gt_adopt_timers(p, g->p[p == g->p[0]]), 0);
            break;
        case 2:
            CHECK_EQ(gt_adjusttimers(p, 1, 1), 0);
            break;
        default:
            CHECK_GE(gt_modtimer_on(p, g->t[i], gt_nanotime(g->s) + 10 * US, 0, guarded_run, g,
                                    (uintptr_t)rng_below(&rng, 100)), 0);
            break;
        }
        pthread_mutex_unlock(&g->lock);
    }
    return NULL;
}

static long guarded_runs(void)
{
    long n;

    pthread_mutex_lock(&guarded.lock);
    n = guarded.runs;
    pthread_mutex_unlock(&guarded.lock);
    return n;
}

/* Catches: a callback run with the timer or the P locked (golang/go#35532). Callbacks take lock
 * L; the others work on the same timers and Ps while they hold L. Whatever the library held
 * across a callback would close a circle, and the test would not end. (The same, step by step:
 * s11_callback_takes_a_lock_whose_holder_resets_it.) */
TEST(trap_callback_takes_a_lock_that_a_resetter_holds, 30)
{
    pthread_t th[4];

    guarded.s = new_sched(GT_CLOCK_MONOTONIC);
    for (int i = 0; i < 2; i++)
        guarded.p[i] = new_p(guarded.s);
    for (int i = 0; i < GUARDED; i++)
        CHECK((guarded.t[i] = gt_timer_new(guarded.s, guarded_run, &guarded, NULL)) != NULL);
    for (int i = 0; i < 2; i++) {
        th[i] = thread_start(guarded_pass, guarded.p[i]);
        th[2 + i] = thread_start(guarded_mutate, &guarded);
    }
    sleep_ms(1200);
    while (guarded_runs() == 0)
        sleep_ms(1);
    guarded.stop = 1;
    for (int i = 0; i < 4; i++)
        thread_join(th[i]);
    for (int i = 0; i < GUARDED; i++)
        CHECK_GE(gt_timer_free(guarded.t[i]), 0);
    check_conserved(guarded.s);
    CHECK_EQ(get_stats(guarded.s).fired, guarded.runs);
    free_p(guarded.p[0]);
    free_p(guarded.p[1]);
    close_sched(guarded.s);
}

/* ---- a million timers for now ---- */

static long million(void) { return 1000000 / (long)test_slow(); }

static struct {
    gt_p *p;
    gt_timer *t;
    long runs;
    int64_t now;
} zero;

static void zero_chain(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    CHECK_EQ(delay, 0);
    zero.runs++;
    CHECK_EQ(gt_resettimer(zero.t, zero.now, 0), 0);
}

static void zero_count(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    CHECK_EQ(delay, 0);
    zero.runs++;
}

/* Catches: a timer for now that is run in the call that arms it, or in the pass that arms it
 * without end (libuv#4245), or is taken for "in the past, later" and left; and whatever leaks
 * or grows by one per arming. Path 1: one callback chain, each link arms the next for now. */
TEST(trap_zero_timers_in_a_chain, 60)
{
    gt_sched *s = virtual_sched();
    uint64_t bytes = 0;

    zero.p = new_p(s);
    zero.now = T0 + 1;
    CHECK((zero.t = gt_timer_new(s, zero_chain, NULL, NULL)) != NULL);
    CHECK_EQ(gt_addtimer_on(zero.p, zero.t, zero.now, 0), 0);
    for (long i = 1; i <= million(); i++) {
        int64_t until;

        CHECK_EQ(gt_check_timers(zero.p, zero.now, NULL, &until), 1);
        CHECK_EQ(zero.runs, i);
        CHECK_EQ(until, zero.now);
        if (i == 1000)
            bytes = get_stats(s).bytes;
    }
    CHECK_EQ(get_stats(s).bytes, bytes);
    CHECK_EQ(gt_timer_free(zero.t), 1);
    check_conserved(s);
    free_p(zero.p);
    close_sched(s);
}

/* Path 2: a million timers, all armed for now, and one timer armed for now a million times. */
TEST(trap_zero_timers_many_at_once, 90)
{
    gt_sched *s = virtual_sched();
    long n = million();
    gt_timer **t = calloc((size_t)n, sizeof *t);

    CHECK(t != NULL);
    zero.p = new_p(s);
    zero.now = T0 + 1;
    for (long i = 0; i < n; i++) {
        CHECK((t[i] = gt_timer_new(s, zero_count, NULL, NULL)) != NULL);
        CHECK_EQ(gt_addtimer_on(zero.p, t[i], zero.now, 0), 0);
    }
    CHECK_EQ(zero.runs, 0);                                 /* not in the arming call */
    CHECK_GE(drain_at(zero.p, zero.now), 1);
    CHECK_EQ(zero.runs, n);
    for (long i = 0; i < n; i++) {
        CHECK_EQ(gt_addtimer_on(zero.p, t[0], zero.now, 0), 0);
        CHECK_EQ(gt_check_timers(zero.p, zero.now, NULL, NULL), 1);
    }
    CHECK_EQ(zero.runs, 2 * n);
    for (long i = 0; i < n; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(get_stats(s).fired, 2 * n);
    check_conserved(s);
    free_p(zero.p);
    close_sched(s);
    free(t);
}

/* Path 3: a periodic timer of 1 ns that is due at each of a million passes. */
TEST(trap_zero_timers_periodic, 60)
{
    gt_sched *s = virtual_sched();

    zero.p = new_p(s);
    CHECK((zero.t = gt_timer_new(s, zero_count, NULL, NULL)) != NULL);
    CHECK_EQ(gt_addtimer_on(zero.p, zero.t, T0 + 1, 1), 0);
    for (long i = 1; i <= million(); i++) {
        int64_t until;

        CHECK_EQ(gt_check_timers(zero.p, T0 + i, NULL, &until), 1);
        CHECK_EQ(until, T0 + i + 1);
    }
    CHECK_EQ(zero.runs, million());
    CHECK_EQ(get_stats(s).ticks, million());
    CHECK_EQ(get_stats(s).armed, 1);
    CHECK_EQ(gt_timer_free(zero.t), 1);
    check_conserved(s);
    free_p(zero.p);
    close_sched(s);
}
