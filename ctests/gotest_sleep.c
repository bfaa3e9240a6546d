/* Counterparts of Go's src/time/sleep_test.go, first half: Sleep, After, AfterFunc, Reset, and
 * what is refused. The second half is in gotest_zero.c, the benchmarks are in gotest_bench.c.
 * See gotest.h. */
#include "gotest.h"

/* ---- Sleep ---- */

/* Signals in the middle do not make a sleep end early. */
TEST(gotest_sleep, 60)
{
    struct pest pest;
    int64_t start;

    rt_start(2);
    pest_start(&pest, 5 * MS);
    for (int64_t d = 1; d <= 100 * MS; d = d * 10) {
        start = rt_now();
        CHECK_EQ(gt_sleep(d), 0);
        CHECK_GE(rt_now() - start, d);
    }
    pest_stop(&pest);
    rt_stop_conserved();
}

static void sleep_virtual(gt_sched *s)
{
    int64_t start = gt_nanotime(s);

    CHECK_EQ(start, T0);
    CHECK_EQ(gt_sched_sleep(s, 100 * MS), 0);
    CHECK_EQ(gt_nanotime(s), start + 100 * MS);
    CHECK_EQ(gt_sched_sleep(s, HOUR * 24 * 365), 0);
    CHECK_EQ(gt_nanotime(s), start + 100 * MS + HOUR * 24 * 365);
}

/* The same, exactly. */
TEST(gotest_sleep_virtual, 60) { bubble_run(sleep_virtual); }

/* A sleep of nothing, or of less than nothing, returns at once and leaves nothing behind. */
TEST(gotest_sleep_zero_deadlock, 120)
{
    static const int64_t none[] = {0, -1, INT64_MIN};
    struct churn churn;
    gt_stats before, after;

    rt_start(4);
    before = get_stats(gt_runtime_sched());
    for (int i = 0; i < 99; i++)
        CHECK_EQ(gt_sleep(none[i % 3]), 0);
    after = get_stats(gt_runtime_sched());
    CHECK_EQ(after.pending, before.pending);
    churn_start(&churn);
    for (int i = 0; i < rounds(100); i++) {
        struct done d = DONE_INIT;

        CHECK_EQ(gt_sleep(none[i % 3]), 0);
        done_send(&d);
        done_recv(&d);
    }
    churn_stop(&churn);
    rt_stop_conserved();
}

/* ---- AfterFunc ---- */

struct chain {
    atomic_int left, running;
    int64_t nap;
    struct done done;
};

static void chain_step(void *arg, uintptr_t seq, int64_t delay)
{
    struct chain *c = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    c->running++;
    if (c->left-- > 0) {
        CHECK_EQ(gt_timer_detach(rt_after_func(0, chain_step, c)), 0);
        CHECK_EQ(gt_sleep(c->nap), 0);
    } else {
        done_send(&c->done);
    }
    c->running--;
}

static void chain_of(uint32_t workers, int64_t nap)
{
    struct chain c = {.left = 10, .nap = nap, .done = DONE_INIT};
    int64_t end;

    rt_start(workers);
    CHECK_EQ(gt_timer_detach(rt_after_func(0, chain_step, &c)), 0);
    done_recv(&c.done);
    for (end = mono_now() + LIMIT; c.running > 0; sleep_ms(1))
        CHECK_LT(mono_now(), end);
    CHECK_EQ(c.left, -1);
    CHECK_EQ(get_stats(gt_runtime_sched()).early, 0);
    rt_stop_conserved();
}

/* Each call arms the next one for now and then sleeps: the next does not wait for it to end.
 * In Go each call has a goroutine; here it holds a worker, and another one goes on. */
TEST(gotest_after_func, 120) { chain_of(4, 100 * MS); }

/* With one worker the chain is served in between, or afterwards, but it is served. */
TEST(gotest_after_func_one_worker, 120) { chain_of(1, 10 * MS); }

/* ---- AfterFuncStarvation ---- */

struct again {
    gt_timer *t;
    atomic_int stop, runs, ended;
};

static void arm_again(void *arg, uintptr_t seq, int64_t delay)
{
    struct again *a = arg;

    (void)seq;
    (void)delay;
    a->runs++;
    if (!a->stop)
        CHECK_EQ(gt_timer_reset(a->t, 0), 0);
    else
        a->ended = 1;
}

static void raise_flag(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    atomic_store((atomic_int *)arg, 1);
}

/* Two timers that arm themselves again for now keep the only worker busy for ever; one that is
 * due a little later gets its turn. */
TEST(gotest_after_func_starvation, 120)
{
    struct again a[2];
    atomic_int flag = 0;
    gt_timer *t;

    memset(a, 0, sizeof a);
    rt_start(1);
    for (int i = 0; i < 2; i++) {
        a[i].t = gt_timer_new(gt_runtime_sched(), arm_again, &a[i], NULL);
        CHECK(a[i].t != NULL);
        CHECK_EQ(gt_timer_reset(a[i].t, 0), 0);
    }
    for (int i = 0; i < 2; i++)
        wait_for(&a[i].runs, 10);
    t = rt_after_func(1 * US, raise_flag, &flag);
    wait_for(&flag, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    for (int i = 0; i < 2; i++) {
        a[i].stop = 1;
        wait_for(&a[i].ended, 1);
        CHECK_EQ(gt_timer_free(a[i].t), 0);
    }
    rt_stop_conserved();
}

/* ---- After ---- */

/* Neither the return nor the value is before its time. */
TEST(gotest_after, 60)
{
    rt_start(2);
    for (int i = 0; i < 4; i++) {
        const int64_t d = i == 0 ? 100 * MS : i * MS;
        int64_t before = rt_now(), sent, after;
        gt_timer *t = gt_after(d);

        CHECK(t != NULL);
        after = rt_now();
        CHECK_EQ(gt_timer_recv(t, &sent), 0);        /* t is gone now */
        CHECK_GE(rt_now(), before + d);
        CHECK_GE(sent, before + d);                  /* the time it was due, exactly */
        CHECK_LE(sent, after + d);
    }
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}

TEST(gotest_after_tick, 60)
{
    const int64_t delta = 10 * MS;
    int64_t start;

    rt_start(2);
    start = rt_now();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(gt_timer_recv(gt_after(delta), NULL), 0);
    CHECK_GE(rt_now() - start, 10 * delta);
    rt_stop_conserved();
}

static void after_tick_virtual(gt_sched *s)
{
    for (int i = 1; i <= 10; i++) {
        gt_timer *t = gt_sched_new_timer(s, 100 * MS);
        int64_t sent;

        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_EQ(sent, T0 + i * 100 * MS);
        CHECK_EQ(gt_nanotime(s), sent);
        CHECK_EQ(gt_timer_free(t), 0);
    }
}

/* Ten in a row take ten times as long, not a nanosecond more. */
TEST(gotest_after_tick_virtual, 60) { bubble_run(after_tick_virtual); }

/* ---- AfterStop ---- */

static void after_stop(enum impl impl, gt_sched *s, int64_t unit)
{
    struct counter c0 = {0}, c1 = {0};
    struct any t0, c2;
    gt_timer *noise, *t1;

    if (s != NULL) {
        noise = gt_sched_after_func(s, 100 * unit, count_run, &c0, NULL);
        t1 = gt_sched_after_func(s, 150 * unit, count_run, &c1, NULL);
    } else {
        noise = rt_after_func(10 * MS, count_run, &c0);
        t1 = rt_after_func(150 * unit, count_run, &c1);
    }
    any_new(&t0, impl, s, 50 * unit);
    any_new(&c2, impl, s, s != NULL ? 200 * unit : 20 * MS);
    CHECK_EQ(any_stop(&t0), 1);
    CHECK_EQ(gt_timer_stop(t1), 1);
    if (s != NULL) {
        CHECK_EQ(gt_sched_advance(s, 200 * unit - 1), 1);
        CHECK_EQ(any_try_recv(&c2, NULL), 0);
        CHECK_GE(gt_sched_advance(s, 1), 0);
        CHECK_EQ(any_try_recv(&c2, NULL), 1);
    } else {
        any_recv(&c2);
        wait_for(&c0.runs, 1);
    }
    CHECK_EQ(c0.runs, 1);
    CHECK_EQ(any_try_recv(&t0, NULL), 0);
    CHECK_EQ(c1.runs, 0);
    CHECK_EQ(any_stop(&t0), 0);
    CHECK_EQ(gt_timer_stop(t1), 0);
    CHECK_EQ(gt_timer_free(noise), 0);
    CHECK_EQ(gt_timer_free(t1), 0);
    any_free(&t0);
    any_free(&c2);
}

/* A stopped timer does not fire, not even when a later one has. What is stopped is hours ahead:
 * a slow machine cannot be too late with the stop. */
TEST(gotest_after_stop, 120)
{
    rt_start(2);
    for (int i = 0; i < 5; i++)
        for (int impl = 0; impl < IMPLS; impl++)
            after_stop((enum impl)impl, NULL, HOUR);
    rt_stop_conserved();
}

TEST(gotest_after_stop_virtual, 60)
{
    for (int impl = 0; impl < IMPLS; impl++) {
        gt_sched *s = virtual_sched();

        after_stop((enum impl)impl, s, MS);
        check_conserved(s);
        close_sched(s);
    }
}

/* ---- AfterQueuing ---- */

enum { SLOTS = 13 };

struct awaiting {
    struct any a;
    int64_t slot, before, after, sent, got;
};

static void *awaits(void *arg)
{
    struct awaiting *w = arg;

    w->sent = any_recv(&w->a);
    w->got = gt_nanotime(w->a.s);
    return NULL;
}

static void some_slots(struct awaiting *w, uint64_t *rng)
{
    for (int i = 0; i < SLOTS; i++)
        w[i].slot = (int64_t)rng_below(rng, 10);
    w[0].slot = w[1].slot = 6;       /* equal ones, and one for now, are always there */
    w[2].slot = 0;
}

/* Timers armed out of order: each value says when it was due, and nobody gets it before. */
TEST(gotest_after_queuing, 120)
{
    const int64_t delta = 10 * MS;
    uint64_t rng = test_seed();

    rt_start(2);
    for (int impl = 0; impl < IMPLS; impl++) {
        struct awaiting w[SLOTS];

        memset(w, 0, sizeof w);
        some_slots(w, &rng);
        for (int i = 0; i < SLOTS; i++) {
            w[i].before = rt_now();
            any_new(&w[i].a, (enum impl)impl, NULL, w[i].slot * delta);
            w[i].after = rt_now();
        }
        run_threads(SLOTS, awaits, w, sizeof *w);
        for (int i = 0; i < SLOTS; i++) {
            CHECK_GE(w[i].got, w[i].before + w[i].slot * delta);
            CHECK_GE(w[i].got, w[i].sent);
            CHECK_GE(w[i].sent, w[i].before + w[i].slot * delta);
            if (impl == IMPL_CHAN)
                CHECK_LE(w[i].sent, w[i].after + w[i].slot * delta);
            any_free(&w[i].a);
        }
    }
    rt_stop_conserved();
}

/* The same, exactly: at each step the values of this slot are there, and no others. */
TEST(gotest_after_queuing_virtual, 60)
{
    uint64_t rng = test_seed();

    for (int round = 0; round < 20; round++)
        for (int impl = 0; impl < IMPLS; impl++) {
            gt_sched *s = virtual_sched();
            struct awaiting w[SLOTS];

            memset(w, 0, sizeof w);
            some_slots(w, &rng);
            for (int i = 0; i < SLOTS; i++)
                any_new(&w[i].a, (enum impl)impl, s, w[i].slot * MS);
            for (int64_t slot = 0; slot < 10; slot++) {
                CHECK_GE(gt_sched_advance(s, slot == 0 ? 0 : MS), 0);
                for (int i = 0; i < SLOTS; i++) {
                    CHECK_EQ(any_try_recv(&w[i].a, &w[i].sent), w[i].slot == slot);
                    if (w[i].slot == slot)
                        CHECK_EQ(w[i].sent, T0 + slot * MS);
                }
            }
            for (int i = 0; i < SLOTS; i++)
                any_free(&w[i].a);
            check_conserved(s);
            close_sched(s);
        }
}

/* ---- TimerStopStress ---- */

enum { STRESS = 100 };

struct stress {
    gt_sched *s;
    struct counter c;
    int stopped;
};

static void arm_sleep_stop(void *arg)
{
    struct stress *st = arg;
    gt_timer *t = gt_sched_after_func(st->s, 2 * SEC, count_run, &st->c, NULL);

    CHECK(t != NULL);
    CHECK_EQ(gt_sched_sleep(st->s, 1 * SEC), 0);
    st->stopped = gt_timer_stop(t);
    CHECK_EQ(gt_timer_free(t), 0);
}

static struct stress stress[STRESS];

static void stop_stress(gt_sched *s)
{
    int n = rounds(STRESS);

    for (int i = 0; i < n; i++) {
        stress[i].s = s;
        bubble_spawn(s, arm_sleep_stop, &stress[i]);
    }
    CHECK_EQ(gt_sched_sleep(s, 3 * SEC), 0);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(stress[i].stopped, 1);
        CHECK_EQ(stress[i].c.runs, 0);
    }
    CHECK_EQ(gt_nanotime(s), T0 + 3 * SEC);
}

/* A hundred threads stop a timer of 2 s after 1 s, in virtual time: none fires. */
TEST(gotest_timer_stop_stress, 120) { bubble_run(stop_stress); }

/* ---- Reset ---- */

static void reset_virtual(enum impl impl, int64_t d)
{
    gt_sched *s = virtual_sched();
    struct any t;
    int64_t when;

    any_new(&t, impl, s, 2 * d);
    CHECK_GE(gt_sched_advance(s, d), 0);
    CHECK_EQ(any_reset(&t, 3 * d), 1);
    CHECK_GE(gt_sched_advance(s, 3 * d - 1), 0);
    CHECK_EQ(any_try_recv(&t, NULL), 0);
    CHECK_GE(gt_sched_advance(s, 1), 0);
    CHECK_EQ(any_try_recv(&t, &when), 1);
    CHECK_EQ(when, T0 + 4 * d);
    CHECK_EQ(any_reset(&t, 50 * MS), 0);             /* it had expired */
    CHECK_EQ(any_reset(&t, 20 * MS), 1);
    CHECK_GE(gt_sched_advance(s, 20 * MS), 0);
    CHECK_EQ(any_try_recv(&t, &when), 1);
    CHECK_EQ(when, T0 + 4 * d + 20 * MS);
    any_free(&t);
    check_conserved(s);
    close_sched(s);
}

TEST(gotest_reset_virtual, 60)
{
    for (int impl = 0; impl < IMPLS; impl++)
        for (int64_t d = 1; d < HOUR; d *= 7)
            reset_virtual((enum impl)impl, d);
}

TEST(gotest_reset, 60)
{
    rt_start(2);
    for (int impl = 0; impl < IMPLS; impl++)
        for (int64_t d = 1 * MS; d <= 32 * MS; d *= 2) {
            int64_t start;
            struct any t;

            any_new(&t, (enum impl)impl, NULL, HOUR);
            CHECK_EQ(any_reset(&t, 2 * HOUR), 1);    /* later */
            start = rt_now();
            CHECK_EQ(any_reset(&t, d), 1);           /* earlier */
            CHECK_GE(any_recv(&t), start + d);
            CHECK_GE(rt_now(), start + d);
            CHECK_EQ(any_reset(&t, 50 * MS), 0);
            any_free(&t);
        }
    rt_stop_conserved();
}

/* ---- durations that overflow ---- */

static void *sleeps_for_ever(void *arg)
{
    (void)arg;
    gt_sleep(BIG);
    test_failed(__FILE__, __LINE__, "the longest sleep returned");
}

/* The longest sleep and the longest timer do not come back short, and disturb no others; the
 * most negative are over at once. */
TEST(gotest_overflow_sleep, 60)
{
    gt_timer *big, *t;
    pthread_t th;

    rt_start(2);
    th = thread_start(sleeps_for_ever, NULL);
    CHECK_EQ(pthread_detach(th), 0);
    big = gt_after(BIG);
    t = gt_after(25 * MS);
    CHECK(big != NULL && t != NULL);
    CHECK_EQ(gt_timer_when(big), GT_MAX_WHEN);
    CHECK_EQ(wait_readable((int[]){gt_timer_fd(big), gt_timer_fd(t)}, 2), 2);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 1);
    CHECK_EQ(gt_timer_try_recv(big, NULL), 0);
    CHECK_EQ(gt_timer_free(big), 1);

    CHECK_EQ(gt_sleep(INT64_MIN), 0);
    CHECK_EQ(gt_timer_recv(gt_after(INT64_MIN), NULL), 0);
    CHECK_EQ(gt_timer_recv(gt_after(-1), NULL), 0);
    rt_stop_conserved();
}

/* A period so long that the next time overflows: it fires once and is then as far away as
 * possible, and other timers go on. */
TEST(gotest_overflow_period_runtime_timer, 60)
{
    struct counter c = {0};
    gt_sched *s, *v = virtual_sched();
    gt_timer *t;

    rt_start(2);
    s = gt_runtime_sched();
    t = gt_timer_new(s, count_run, &c, NULL);
    CHECK_EQ(gt_addtimer(t, gt_nanotime(s), INT64_MAX), 0);
    CHECK_EQ(gt_timer_recv(gt_after(25 * MS), NULL), 0);
    wait_for(&c.runs, 1);
    CHECK_EQ(gt_timer_recv(gt_after(1), NULL), 0);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
    CHECK_EQ(gt_timer_free(t), 1);
    rt_stop_conserved();

    memset(&c, 0, sizeof c);
    t = gt_timer_new(v, count_run, &c, NULL);
    CHECK_EQ(gt_addtimer(t, T0, INT64_MAX), 0);
    CHECK_EQ(gt_sched_advance(v, HOUR * 24 * 365 * 100), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(gt_timer_when(t), GT_MAX_WHEN);
    CHECK_EQ(gt_timer_free(t), 1);
    check_conserved(v);
    close_sched(v);
}

/* ---- what is no timer ---- */

/* A call on a timer that does not exist holds no lock afterwards. */
TEST(gotest_issue5745, 60)
{
    gt_timer *ticker;

    rt_start(1);
    ticker = gt_new_ticker(HOUR);
    CHECK(ticker != NULL);
    CHECK_EQ(gt_timer_stop(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_stop(ticker), 1);
    CHECK_EQ(gt_timer_free(ticker), 0);
    rt_stop_conserved();
}

/* Go's zero Timer is here NULL, the id 0, and memory that is no timer. */
TEST(gotest_zero_timer_reset_panics, 60)
{
    CHECK_EQ(gt_timer_reset(NULL, 1), GT_EINVAL);
    CHECK_EQ(gt_timer_reset_id(gt_runtime_sched(), 0, 1), GT_ESTALE);
#ifdef GT_TEST_CHECKED
    {
        static _Alignas(64) char zero[256];

        CHECK_EQ(gt_timer_reset((gt_timer *)(void *)zero, 1), GT_EFAULT);
    }
#endif
}

TEST(gotest_zero_timer_stop_panics, 60)
{
    CHECK_EQ(gt_timer_stop(NULL), GT_EINVAL);
    CHECK_EQ(gt_timer_stop_id(gt_runtime_sched(), 0), GT_ESTALE);
#ifdef GT_TEST_CHECKED
    {
        static _Alignas(64) char zero[256];

        CHECK_EQ(gt_timer_stop((gt_timer *)(void *)zero), GT_EFAULT);
    }
#endif
}
