/* The runtime under many threads, at rest, with one worker, and after a fork. */
#include "rtkit.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_long runs, drops;

static void count_one(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    CHECK_GE(delay, 0);
    runs++;
}

static void drop_one(void *arg)
{
    (void)arg;
    drops++;
}

/* ---- none lost ---- */

static void *arms_many(void *arg)
{
    uint64_t rng = test_seed() + (uintptr_t)arg;

    for (long n = 0; n < 250000 / (long)test_slow(); n++) {
        int64_t d = (int64_t)rng_below(&rng, 50 * (uint64_t)MS);

        CHECK_EQ(gt_timer_detach(must(gt_after_func(d, count_one, NULL, drop_one))), 0);
    }
    return NULL;
}

/* A million timers that fire once and free themselves. */
TEST(rt_a_million_none_lost, 240)
{
    long all = 4 * (250000 / (long)test_slow());
    pthread_t th[4];
    gt_stats st;

    rt_start(3);
    for (int i = 0; i < 4; i++)
        th[i] = thread_start(arms_many, (void *)(uintptr_t)i);
    for (int i = 0; i < 4; i++)
        thread_join(th[i]);
    wait_for_long(&drops, all);
    CHECK_EQ(runs, all);
    rt_stop_conserved();
    CHECK_EQ(drops, all);
    st = get_stats(gt_runtime_sched());
    CHECK_EQ(st.armed, all);
    CHECK_EQ(st.fired, all);
    CHECK_EQ(st.pending, 0);
    CHECK_EQ(st.timers, 0);
}

/* ---- everything at once from many threads ---- */

#define THREADS 8
#define EACH 20

static void *mixes(void *arg)
{
    uint64_t rng = test_seed() * 31 + (uintptr_t)arg;
    gt_timer *t[EACH] = {NULL};
    int chan[EACH];

    for (int n = 0; n < 20000 / (int)test_slow(); n++) {
        int i = (int)rng_below(&rng, EACH);
        int64_t d = (int64_t)rng_below(&rng, 3 * (uint64_t)MS) - MS / 2;

        if (t[i] == NULL) {
            chan[i] = (int)rng_below(&rng, 3);
            t[i] = must(chan[i] == 0   ? gt_after_func(d, count_one, NULL, drop_one)
                        : chan[i] == 1 ? gt_new_timer(d)
                                       : gt_new_ticker(d > 0 ? d : MS));
            continue;
        }
        switch (rng_below(&rng, 8)) {
        case 0:
            CHECK_GE(gt_timer_free(t[i]), 0);
            t[i] = NULL;
            break;
        case 1: CHECK_GE(gt_timer_stop(t[i]), 0); break;
        case 2:
            if (chan[i] == 0) {
                CHECK_EQ(gt_timer_detach(t[i]), 0);
                t[i] = NULL;
            } else if (gt_timer_stop(t[i]) >= 0 && gt_timer_reset(t[i], d > 0 ? d : 1) == 0) {
                int64_t when = gt_timer_when(t[i]), sent;

                CHECK_EQ(gt_timer_recv(t[i], &sent), 0);
                CHECK_GE(gt_nanotime(gt_runtime_sched()), sent);
                if (when > 0 && chan[i] == 1)
                    CHECK_EQ(sent, when);
                if (when > 0)
                    CHECK_LE(sent, when);
            }
            break;
        case 3:
            if (chan[i] != 0)
                CHECK_GE(gt_timer_try_recv(t[i], NULL), 0);
            break;
        case 4:
            if (n % 16 == 0)
                CHECK_EQ(gt_sleep(d), 0);
            break;
        default: CHECK_GE(gt_timer_reset(t[i], chan[i] == 2 && d <= 0 ? MS : d), 0); break;
        }
    }
    for (int i = 0; i < EACH; i++)
        if (t[i] != NULL)
            CHECK_GE(gt_timer_free(t[i]), 0);
    return NULL;
}

static void mix(uint32_t workers)
{
    pthread_t th[THREADS];
    gt_stats st;

    rt_start(workers);
    for (int i = 0; i < THREADS; i++)
        th[i] = thread_start(mixes, (void *)(uintptr_t)i);
    for (int i = 0; i < THREADS; i++)
        thread_join(th[i]);
    /* the detached ones are due within ms */
    for (int64_t limit = mono_now() + long_wait(); get_stats(gt_runtime_sched()).pending > 0; sleep_ms(1))
        CHECK_LT(mono_now(), limit);
    rt_stop_conserved();
    st = get_stats(gt_runtime_sched());
    CHECK_EQ(st.pending, 0);
    CHECK_GE(st.fired, runs);
}

TEST(rt_mix_one_worker, 120) { mix(1); }

TEST(rt_mix_three_workers, 120) { mix(3); }

TEST(rt_mix_many_workers, 120) { mix(17); }

/* ---- chains: each callback arms the next ---- */

struct chain {
    gt_timer *t;
    atomic_int left;
    atomic_int done;
    int64_t d;
};

static void link_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct chain *ch = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    if (--ch->left > 0)
        CHECK_EQ(gt_timer_reset(ch->t, ch->d), 0);
    else
        ch->done = 1;
}

TEST(rt_chains, 120)
{
    for (uint32_t workers = 1; workers <= 3; workers += 2) {
        struct chain ch[8] = {{0}};

        rt_start(workers);
        for (int i = 0; i < 8; i++) {
            ch[i].left = i < 4 ? 5000 / (int)test_slow() : 50;
            ch[i].d = i < 4 ? 0 : (i - 3) * 100 * US;
            /* made first: the callback wants to know its timer */
            ch[i].t = must(gt_timer_new(gt_runtime_sched(), link_run, &ch[i], NULL));
            CHECK_EQ(gt_timer_reset(ch[i].t, ch[i].d), 0);
        }
        for (int i = 0; i < 8; i++)
            wait_for(&ch[i].done, 1);
        rt_stop_conserved();
        for (int i = 0; i < 8; i++)
            CHECK_EQ(gt_timer_free(ch[i].t), 0);
    }
}

/* ---- no wake is missed: one timer at a time, from many threads, with all workers asleep ---- */

static void sets(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    *(atomic_int *)arg = 1;
}

static void *one_at_a_time(void *arg)
{
    uint64_t rng = test_seed() * 7 + (uintptr_t)arg;
    atomic_int flag = 0;
    gt_timer *t = must(gt_timer_new(gt_runtime_sched(), sets, &flag, NULL));

    for (int n = 0; n < 3000 / (int)test_slow() + 100; n++) {
        int64_t d = (int64_t)rng_below(&rng, 200 * (uint64_t)US), limit = mono_now() + long_wait();

        flag = 0;
        if (n % 3 == 0)
            CHECK_EQ(gt_timer_reset(t, 3600 * SEC), 0);
        CHECK_EQ(gt_timer_reset(t, d), n % 3 == 0);
        while (!flag) {
            struct timespec ts = {0, 20000};

            CHECK_LT(mono_now(), limit);
            nanosleep(&ts, NULL);
        }
    }
    CHECK_EQ(gt_timer_free(t), 0);
    return NULL;
}

TEST(rt_no_wake_is_missed, 240)
{
    for (uint32_t workers = 1; workers <= 4; workers += 3)
        for (int threads = 1; threads <= 3; threads += 2) {
            gt_timer *far = must(gt_after_func(3600 * SEC, count_one, NULL, NULL));
            pthread_t th[3];

            rt_start(workers);
            for (int i = 0; i < threads; i++)
                th[i] = thread_start(one_at_a_time, (void *)(uintptr_t)i);
            for (int i = 0; i < threads; i++)
                thread_join(th[i]);
            CHECK_EQ(gt_timer_free(far), 1);
            rt_stop_conserved();
        }
}

/* A callback that arms itself for now for ever starves nobody, not even with one worker, and
 * does not keep the runtime from stopping (S10). */
static gt_timer *forever;

static void again_at_once(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(gt_timer_reset(forever, 0), 0);
    runs++;
}

TEST(rt_arming_for_now_starves_nobody, 60)
{
    for (uint32_t workers = 1; workers <= 2; workers++) {
        atomic_int flag = 0;
        gt_timer *t;

        rt_start(workers);
        forever = must(gt_timer_new(gt_runtime_sched(), again_at_once, NULL, NULL));
        CHECK_EQ(gt_timer_reset(forever, 0), 0);
        for (int i = 0; i < 20; i++) {
            flag = 0;
            t = must(gt_after_func(i * 100 * US, sets, &flag, NULL));
            wait_for(&flag, 1);
            CHECK_EQ(gt_timer_free(t), 0);
        }
        rt_stop_conserved();
        CHECK_EQ(get_stats(gt_runtime_sched()).pending, 1);
        CHECK_EQ(gt_timer_free(forever), 1);
    }
}

/* Two due at once; the first one blocks until the second has run: another worker is woken to
 * take over, and that is counted. */
static atomic_int second_ran;

static void waits_for_second(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    wait_for(&second_ran, 1);
    runs++;
}

TEST(rt_overdue_is_noticed, 120)
{
    gt_sched *s = gt_runtime_sched();

    for (int round = 0; round < 20; round++) {
        int64_t when;
        gt_timer *a, *b;

        second_ran = 0;
        runs = 0;
        rt_start(2);
        a = must(gt_timer_new(s, waits_for_second, NULL, NULL));
        b = must(gt_timer_new(s, sets, &second_ran, NULL));
        when = gt_nanotime(s) + 3 * MS;
        CHECK_EQ(gt_addtimer(a, when, 0), 0);
        CHECK_EQ(gt_addtimer(b, when + 1, 0), 0);
        wait_for_long(&runs, 1);
        rt_stop_conserved();
        CHECK_EQ(gt_timer_free(a), 0);
        CHECK_EQ(gt_timer_free(b), 0);
    }
    CHECK_GE(get_stats(s).overdue, 1);
}

/* A P of the embedder's on the runtime's sched, that nobody serves: the workers do. */
TEST(rt_serves_other_ps, 60)
{
    gt_sched *s = rt_start(2);
    gt_p *p = new_p(s);

    for (int i = 0; i < 30; i++) {
        atomic_int flag = 0;
        gt_timer *t = must(gt_timer_new(s, sets, &flag, NULL));

        CHECK_EQ(gt_addtimer_on(p, t, gt_nanotime(s) + i * 50 * US, 0), 0);
        if (i % 5 == 4) {
            CHECK_EQ(gt_p_free(p), 0);           /* its timers move on */
            p = new_p(s);
        }
        wait_for(&flag, 1);
        CHECK_EQ(gt_timer_free(t), 0);
    }
    rt_stop_conserved();
    free_p(p);
}

/* ---- at rest ---- */

/* The process sleeps, this thread too, whose own switches are counted as well. On a busy machine the
 * workers may take their time to find that there is nothing: so in one of ten whiles. */
static void nobody_stirs(int ms)
{
    int64_t least = INT64_MAX;

    for (int i = 0; i < 10 && least > 12; i++) {
        int64_t before = switch_count(), n;

        sleep_ms(ms);
        n = before < 0 ? 0 : switch_count() - before;
        least = n < least ? n : least;
    }
    CHECK_LE(least, 12);
}

/* Timers an hour ahead. */
TEST(rt_sleeps_when_nothing_is_due, 60)
{
    gt_timer *t[1000];

    needs_own_threads();
    rt_start(4);
    for (int i = 0; i < 1000; i++) {
        t[i] = must(i % 3 == 0 ? gt_new_ticker(3600 * SEC) : gt_after_func(3600 * SEC + i, count_one, NULL, NULL));
        if (i % 3 == 0 && i % 30 == 0)
            CHECK_GE(gt_timer_fd(t[i]), 0);
    }
    sleep_ms(300);                               /* let the workers find that there is nothing */
    nobody_stirs(3000);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(gt_timer_free(t[i]), 1);
    rt_stop_conserved();
}

/* The same without any timer, and after one has fired. */
TEST(rt_sleeps_when_nothing_is_armed, 60)
{
    needs_own_threads();
    rt_start(4);
    CHECK_EQ(gt_timer_detach(must(gt_after_func(MS, count_one, NULL, NULL))), 0);
    wait_for_long(&runs, 1);
    sleep_ms(300);
    nobody_stirs(2000);
    rt_stop_conserved();
}

/* ---- the other ways in ---- */

TEST(rt_sleep, 60)
{
    const int64_t none[] = {0, -1, INT64_MIN};
    uint64_t rng = test_seed();

    rt_start(2);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(gt_sleep(none[i]), 0);
    for (int i = 0; i < 100; i++) {
        int64_t d = (int64_t)rng_below(&rng, 3 * (uint64_t)MS), begin = mono_now();

        CHECK_EQ(gt_sleep(d), 0);
        CHECK_GE(mono_now() - begin, d);
    }
    rt_stop_conserved();
}

static void *sleeper(void *arg)
{
    uint64_t rng = test_seed() + (uintptr_t)arg;

    for (int i = 0; i < 30; i++) {
        int64_t d = (int64_t)rng_below(&rng, 5 * (uint64_t)MS), begin = mono_now();

        CHECK_EQ(gt_sleep(d), 0);
        CHECK_GE(mono_now() - begin, d);
    }
    return NULL;
}

TEST(rt_many_sleepers, 120)
{
    pthread_t th[64];

    rt_start(2);
    for (int i = 0; i < 64; i++)
        th[i] = thread_start(sleeper, (void *)(uintptr_t)i);
    for (int i = 0; i < 64; i++)
        thread_join(th[i]);
    rt_stop_conserved();
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
}

/* A callback may block: in a sleep, or for a value, while another worker is there. */
static void blocks(void *arg, uintptr_t seq, int64_t delay)
{
    int64_t begin = mono_now(), sent;
    gt_timer *t = must(gt_new_timer(2 * MS));

    (void)seq;
    (void)delay;
    CHECK_EQ(gt_sleep(3 * MS), 0);
    CHECK_GE(mono_now() - begin, 3 * MS);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(gt_timer_reset(t, 2 * MS), 0);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_GE(gt_nanotime(gt_runtime_sched()), sent);
    CHECK_EQ(gt_timer_free(t), 0);
    *(atomic_int *)arg = 1;
}

TEST(rt_callback_blocks, 60)
{
    for (int i = 0; i < 10; i++) {
        atomic_int done = 0;

        rt_start(2);
        CHECK_EQ(gt_timer_detach(must(gt_after_func(0, blocks, &done, NULL))), 0);
        wait_for(&done, 1);
        rt_stop_conserved();
    }
}

TEST(rt_after_frees_itself, 60)
{
    int64_t sent, begin;
    gt_timer *t;
    uint64_t id;
    gt_sched *s = rt_start(2);

    for (int i = 0; i < 50; i++) {
        begin = gt_nanotime(s);
        t = must(gt_after(i % 4 * MS / 2));
        id = gt_timer_id(t);
        if (i % 2) {
            CHECK_EQ(gt_timer_recv(t, &sent), 0);
        } else
            while (gt_timer_try_recv(t, &sent) == 0)
                sleep_ms(1);
        CHECK_GE(sent, begin + i % 4 * MS / 2);
        CHECK_GE(gt_nanotime(s), sent);
        CHECK_EQ(gt_timer_recv_id(s, id, NULL), GT_ESTALE);
        CHECK_EQ(gt_timer_try_recv_id(s, id, NULL), GT_ESTALE);
        CHECK_EQ(gt_timer_stop_id(s, id), GT_ESTALE);
    }
    t = must(gt_after(3600 * SEC));                /* or it is freed unreceived */
    CHECK_EQ(gt_timer_free(t), 1);
    t = must(gt_after(0));
    id = gt_timer_id(t);
    CHECK_EQ(gt_timer_recv_id(s, id, &sent), 0);
    CHECK_EQ(gt_timer_recv_id(s, id, &sent), GT_ESTALE);
    rt_stop_conserved();
    CHECK_EQ(get_stats(s).fired, 51);
    CHECK_EQ(get_stats(s).pending, 0);
}

TEST(rt_tick, 60)
{
    int64_t sent, first = 0;
    gt_timer *t;
    gt_sched *s = rt_start(2);

    t = must(gt_tick(MS));
    for (int64_t last = 0, i = 0; i < 50; i++, last = sent) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_GT(sent, last);
        first = i == 0 ? sent : first;
        CHECK_EQ((sent - first) % MS, 0);          /* the phase is kept, whatever was dropped */
        CHECK_GE(gt_nanotime(s), sent);
    }
    CHECK_EQ(gt_timer_free(t), 1);
    rt_stop_conserved();
}

/* ---- fork ---- */

struct family {
    struct counter near, far;
    gt_timer *n, *f, *chan;
    int rounds;
};

static void in_the_child(void *arg)
{
    struct family *fam = arg;
    int64_t sent;

    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_runtime_workers(), 0);             /* the threads stayed behind */
    rt_start(2);
    wait_for(&fam->near.runs, 1);
    CHECK_EQ(gt_timer_recv(fam->chan, &sent), 0);
    CHECK_EQ(gt_timer_reset(fam->n, MS), 0);
    wait_for(&fam->near.runs, 2);
    CHECK_EQ(gt_sleep(MS), 0);
    CHECK_EQ(fam->far.runs, 0);
    CHECK_EQ(gt_timer_free(fam->f), 1);
    CHECK_EQ(gt_timer_free(fam->n), 0);
    CHECK_EQ(gt_timer_free(fam->chan), 0);
    CHECK_EQ(fam->near.drops, 1);
    rt_stop_conserved();
    child_is_done();
}

TEST(rt_fork_child_goes_on, 120)
{
    needs_own_threads();
    for (int round = 0; round < 6; round++) {
        struct family fam = {.rounds = round};

        rt_start(1 + (uint32_t)round % 3);
        fam.n = must(gt_after_func(400 * MS, count_run, &fam.near, count_drop));
        fam.f = must(gt_after_func(3600 * SEC, count_run, &fam.far, count_drop));
        fam.chan = must(gt_new_timer(410 * MS));
        settle_for_fork();
        if (fam.near.runs == 0)
            must_pass_in_child(in_the_child, &fam);
        wait_for(&fam.near.runs, 1);               /* and the parent's runtime went on, too */
        CHECK_EQ(gt_timer_recv(fam.chan, NULL), 0);
        CHECK_EQ(gt_timer_free(fam.f), 1);
        CHECK_EQ(gt_timer_free(fam.n), 0);
        CHECK_EQ(gt_timer_free(fam.chan), 0);
        rt_stop_conserved();
    }
}
