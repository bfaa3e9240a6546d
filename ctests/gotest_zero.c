/* Counterparts of Go's src/time/sleep_test.go, second half: timers for now in great number,
 * timers that are moved about, and many threads at one timer. See gotest.h. */
#include "gotest.h"

#include <sched.h>

/* ---- ZeroTimer: none of a million timers for now is missed ---- */

#define MILLION 1000000

/* One that takes this long is taken for lost. */
static void check_took(int64_t start) { CHECK_LT(mono_now() - start, LIMIT); }

TEST(gotest_zero_timer_chan, 300)
{
    rt_start(2);
    for (int i = 0; i < rounds(MILLION); i++) {
        int64_t start = mono_now();
        gt_timer *t = gt_new_timer(0);

        CHECK_EQ(gt_timer_recv(t, NULL), 0);
        CHECK_EQ(gt_timer_free(t), 0);
        check_took(start);
    }
    rt_stop_conserved();
}

TEST(gotest_zero_timer_chan_after, 300)
{
    rt_start(2);
    for (int i = 0; i < rounds(MILLION); i++)
        CHECK_EQ(gt_timer_recv(gt_after(0), NULL), 0);
    CHECK_EQ(get_stats(gt_runtime_sched()).fired, rounds(MILLION));
    rt_stop_conserved();
}

/* From one thread to the runtime and back: each round is two switches of threads, some tens of
 * microseconds, so the number is what fits in a second. A million on other paths follows. */
static void zero_func_on_the_runtime(uint32_t workers, int cached)
{
    int64_t end = mono_now() + 1 * SEC;
    struct any a;
    int n = 0;

    rt_start(workers);
    any_new(&a, IMPL_FUNC, NULL, HOUR);
    if (cached)
        CHECK_EQ(any_stop(&a), 1);
    else
        any_free(&a);
    for (; n < MILLION && mono_now() < end; n++) {
        int64_t start = mono_now();

        if (cached)
            CHECK_EQ(any_reset(&a, 0), 0);
        else
            any_new(&a, IMPL_FUNC, NULL, 0);
        any_recv(&a);
        if (!cached)
            any_free(&a);
        check_took(start);
    }
    if (cached)
        any_free(&a);
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).fired, n);
    printf("%d timers\n", n);
}

TEST(gotest_zero_timer_func, 120) { zero_func_on_the_runtime(2, 0); }
TEST(gotest_zero_timer_func_one_worker, 120) { zero_func_on_the_runtime(1, 0); }
TEST(gotest_zero_timer_cache, 120) { zero_func_on_the_runtime(2, 1); }

/* A million on the runtime, in a chain: each call arms the next timer for now, the same one or a
 * new one. With more than one worker they may pass the chain to and fro, so there what fits in 2 s
 * must do. */
struct million {
    gt_timer *t;
    int left;
    int64_t end;                                     /* 0: until none is left */
    struct done done;
};

static void one_of_a_million(void *arg, uintptr_t seq, int64_t delay)
{
    struct million *m = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    if (--m->left == 0 || (m->end != 0 && mono_now() > m->end))
        done_send(&m->done);
    else if (m->t != NULL)
        CHECK_EQ(gt_timer_reset(m->t, 0), 0);
    else
        CHECK_EQ(gt_timer_detach(rt_after_func(0, one_of_a_million, m)), 0);
}

static void a_million_in_a_chain(uint32_t workers, int cached)
{
    struct million m = {.left = rounds(MILLION), .done = DONE_INIT};
    int n;

    if (workers > 1)
        m.end = mono_now() + 2 * SEC;
    rt_start(workers);
    if (cached) {
        m.t = gt_timer_new(gt_runtime_sched(), one_of_a_million, &m, NULL);
        CHECK_EQ(gt_timer_reset(m.t, 0), 0);
    } else {
        CHECK_EQ(gt_timer_detach(rt_after_func(0, one_of_a_million, &m)), 0);
    }
    done_recv(&m.done);
    n = rounds(MILLION) - m.left;
    if (cached)
        CHECK_EQ(gt_timer_free(m.t), 0);
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).armed, n);
    CHECK_EQ(get_stats(gt_runtime_sched()).fired, n);
    printf("%d timers\n", n);
}

TEST(gotest_zero_timer_func_chain, 300) { a_million_in_a_chain(1, 0); }

TEST(gotest_zero_timer_func_chain_workers, 120) { a_million_in_a_chain(2, 0); }

TEST(gotest_zero_timer_cache_chain, 300) { a_million_in_a_chain(1, 1); }

TEST(gotest_zero_timer_cache_chain_workers, 120) { a_million_in_a_chain(2, 1); }

/* With a P of its own the thread is its own worker: a million, and one pass must do for each. */
static void zero_func_on_a_p(int cached)
{
    gt_sched *s = new_sched(GT_CLOCK_MONOTONIC);
    gt_p *p = gt_p_new(s);
    struct any a;
    int n = rounds(MILLION);

    CHECK_EQ(gt_acquirep(p), 0);
    any_new(&a, IMPL_FUNC, s, HOUR);
    CHECK_EQ(any_stop(&a), 1);
    for (int i = 0; i < n; i++) {
        if (cached) {
            CHECK_EQ(any_reset(&a, 0), 0);
        } else {
            any_free(&a);
            any_new(&a, IMPL_FUNC, s, 0);
        }
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
        CHECK_EQ(any_try_recv(&a, NULL), 1);
    }
    any_free(&a);
    CHECK_EQ(get_stats(s).fired, n);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(gotest_zero_timer_func_own_p, 300) { zero_func_on_a_p(0); }
TEST(gotest_zero_timer_cache_own_p, 300) { zero_func_on_a_p(1); }

/* ---- TimerModifiedEarlier ---- */

/* A timer that is moved into the past, again and again, still fires. */
TEST(gotest_timer_modified_earlier, 120)
{
    const int64_t past = -rt_now() - 1700000000 * SEC;

    rt_start(2);
    for (int i = 0; i < rounds(1000); i++) {
        enum impl impl = i % 2 ? IMPL_FUNC : IMPL_CHAN;
        struct any t;
        int64_t start;

        any_new(&t, impl, NULL, HOUR);
        for (int j = 0; j < 10; j++) {
            int pending = any_stop(&t);

            if (impl == IMPL_CHAN || j == 0)
                CHECK_EQ(pending, 1);        /* nobody has received it */
            else if (!pending)
                any_recv(&t);                /* its function was quicker */
            CHECK_EQ(any_reset(&t, past), 0);
        }
        start = mono_now();
        any_recv(&t);
        check_took(start);
        any_free(&t);
    }
    rt_stop_conserved();
}

/* ---- AdjustTimers ---- */

enum { TIMERS = 100 };

/* Timers in random order through the same ten steps: fire, be armed far ahead and stopped three
 * times, and fire again at once. None of the short ones may be lost among the long ones. */
static void adjust_timers(enum impl impl, gt_sched *s, uint64_t *rng)
{
    static struct any t[TIMERS];
    int state[TIMERS] = {0}, index[TIMERS], left = TIMERS;

    for (int i = 0; i < TIMERS; i++)
        index[i] = i;
    while (left > 0) {
        int k = (int)rng_below(rng, (uint64_t)left), i = index[k];
        int64_t start = mono_now(), hours = 0;

        switch (state[i]++) {
        case 0:
            any_new(&t[i], impl, s, 0);
            break;
        case 2: hours = 1; break;
        case 4: hours = 3; break;
        case 6: hours = 2; break;
        case 3:
        case 5:
        case 7:
            CHECK_EQ(any_stop(&t[i]), 1);
            CHECK_EQ(any_try_recv(&t[i], NULL), 0);
            break;
        case 8:
            CHECK_EQ(any_reset(&t[i], 0), 0);
            break;
        case 1:
        case 9:
            if (s == NULL) {
                any_recv(&t[i]);
            } else {
                if (impl == IMPL_FUNC)
                    CHECK_GE(gt_sched_advance(s, 0), 0);
                CHECK_EQ(any_try_recv(&t[i], NULL), 1);
            }
            break;
        case 10:
            any_free(&t[i]);
            index[k] = index[--left];
            break;
        }
        if (hours > 0)
            CHECK_EQ(any_reset(&t[i], hours * HOUR), 0);
        check_took(start);
    }
}

TEST(gotest_adjust_timers, 120)
{
    uint64_t rng = test_seed();

    rt_start(2);
    for (int i = 0; i < 5; i++)
        for (int impl = 0; impl < IMPLS; impl++)
            adjust_timers((enum impl)impl, NULL, &rng);
    rt_stop_conserved();
}

TEST(gotest_adjust_timers_virtual, 120)
{
    uint64_t rng = test_seed();

    for (int i = 0; i < 50; i++)
        for (int impl = 0; impl < IMPLS; impl++) {
            gt_sched *s = virtual_sched();

            adjust_timers((enum impl)impl, s, &rng);
            check_conserved(s);
            close_sched(s);
        }
}

/* ---- StopResult and ResetResult ---- */

enum { RACERS = 32 };

struct racer { int reset; };

/* Two timers for the same time, a millisecond ahead; when one is there, the other is stopped or
 * reset. What that says must fit with what can be received. As nobody has received the other
 * one, it can only say 1. */
static void *races(void *arg)
{
    struct racer *r = arg;

    for (int i = 0; i < rounds(100); i++) {
        gt_timer *t[2] = {gt_new_timer(1 * MS), gt_new_timer(1 * MS)};
        int fd[2] = {gt_timer_fd(t[0]), gt_timer_fd(t[1])};
        unsigned ready = wait_readable(fd, 2);
        int first = ready & 1 ? 0 : 1, result;
        gt_timer *other = t[!first];

        CHECK_EQ(gt_timer_recv(t[first], NULL), 0);
        CHECK_EQ(readable(fd[first]), 0);
        result = r->reset ? gt_timer_reset(other, HOUR) : gt_timer_stop(other);
        CHECK_EQ(result, 1);
        CHECK_EQ(readable(fd[!first]), 0);
        CHECK_EQ(gt_timer_try_recv(other, NULL), 0);
        CHECK_EQ(gt_timer_free(t[first]), 0);
        CHECK_EQ(gt_timer_free(other), r->reset);
    }
    return NULL;
}

static void stop_or_reset_result(int reset)
{
    struct racer r[RACERS];

    rt_start(2);
    for (int i = 0; i < RACERS; i++)
        r[i].reset = reset;
    run_threads(RACERS, races, r, sizeof *r);
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    rt_stop_conserved();
}

TEST(gotest_stop_result, 120) { stop_or_reset_result(0); }
TEST(gotest_reset_result, 120) { stop_or_reset_result(1); }

/* Here somebody is receiving while the stop comes: one of the two gets it, never both, never
 * none. */
struct duel {
    gt_timer *t;
    atomic_int waiting;
    int got;
};

static void *receives(void *arg)
{
    struct duel *d = arg;

    d->waiting = 1;
    d->got = gt_timer_recv(d->t, NULL);
    return NULL;
}

TEST(gotest_stop_result_while_receiving, 120)
{
    int stopped = 0, received = 0;

    rt_start(2);
    for (int i = 0; i < rounds(500); i++) {
        struct duel d = {.t = gt_new_timer(i % 20 * 20 * US)};
        pthread_t th = thread_start(receives, &d);
        int64_t until = rt_now() + i % 20 * 20 * US;
        int result;

        wait_for(&d.waiting, 1);
        while (rt_now() < until)
            sched_yield();
        result = gt_timer_stop(d.t);
        if (result == 1) {
            CHECK_EQ(gt_timer_free(d.t), 0);         /* wakes who waits for nothing */
            thread_join(th);
            CHECK_EQ(d.got, GT_ESTALE);
            stopped++;
        } else {
            CHECK_EQ(result, 0);
            thread_join(th);
            CHECK_EQ(d.got, 0);
            CHECK_EQ(gt_timer_free(d.t), 0);
            received++;
        }
    }
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
    CHECK_EQ(get_stats(gt_runtime_sched()).stopped, stopped);
    CHECK_EQ(get_stats(gt_runtime_sched()).fired, received);
    rt_stop_conserved();
    printf("%d stopped, %d received\n", stopped, received);
}

/* ---- many threads at one timer ---- */

enum { CROWD = 4 };

struct crowd {
    gt_timer *t;
    int how, ticks, timeouts;
};

/* One tick, or a millisecond, whichever comes first; or just one tick. */
static void *wakes_up(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < rounds(10000); i++) {
        gt_timer *limit;
        unsigned ready;

        if (c->how == 1) {
            CHECK_EQ(gt_timer_recv(c->t, NULL), 0);
            c->ticks++;
            continue;
        }
        limit = gt_new_timer(1 * MS);
        ready = wait_readable((int[]){gt_timer_fd(c->t), gt_timer_fd(limit)}, 2);
        if (ready & 1)
            c->ticks += gt_timer_try_recv(c->t, NULL);   /* another thread may have been quicker */
        else
            c->timeouts += gt_timer_try_recv(limit, NULL);
        CHECK_GE(gt_timer_free(limit), 0);
    }
    return NULL;
}

TEST(gotest_multi_wakeup_ticker, 300)
{
    struct crowd c[CROWD];
    int ticks = 0, timeouts = 0;
    gt_timer *t;

    rt_start(2);
    t = gt_new_ticker(1 * US);
    CHECK(t != NULL);
    for (int i = 0; i < CROWD; i++)
        c[i] = (struct crowd){.t = t, .how = i % 2};
    run_threads(CROWD, wakes_up, c, sizeof *c);
    for (int i = 0; i < CROWD; i++) {
        ticks += c[i].ticks;
        timeouts += c[i].timeouts;
    }
    CHECK_GE(ticks, CROWD / 2 * rounds(10000));
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
    printf("%d ticks, %d time-outs\n", ticks, timeouts);
}

static void *takes_and_resets(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < rounds(10000); i++) {
        int got = gt_timer_try_recv(c->t, NULL), pending;

        CHECK_GE(got, 0);
        c->ticks += got;
        pending = gt_timer_reset(c->t, 1);
        CHECK_GE(pending, 0);
        c->timeouts += pending;
    }
    return NULL;
}

/* Each arming is received once or replaced once. */
TEST(gotest_multi_wakeup_timer, 120)
{
    struct crowd c[CROWD];
    int received = 0, replaced = 0;
    gt_timer *t;

    rt_start(2);
    t = gt_new_timer(1);
    CHECK(t != NULL);
    for (int i = 0; i < CROWD; i++)
        c[i] = (struct crowd){.t = t};
    run_threads(CROWD, takes_and_resets, c, sizeof *c);
    for (int i = 0; i < CROWD; i++) {
        received += c[i].ticks;
        replaced += c[i].timeouts;
    }
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(received + replaced + 1, CROWD * rounds(10000) + 1);
    CHECK_EQ(gt_timer_free(t), 0);
    rt_stop_conserved();
}
