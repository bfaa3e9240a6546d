/* Rule S16: a green thread that sleeps, or waits for a channel or a descriptor, is parked by the
 * host's hooks, and its timer is armed only after it has left its stack; ready may come before
 * commit has returned. Threads that are no green threads block instead. */
#include "green.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct greens host;
static gt_sched *s;
static gt_p *p;

static gt_sched *green_sched(uint32_t clock, void (*wake)(void *, gt_p *, int64_t))
{
    gt_config cfg;
    gt_host h;

    memset(&cfg, 0, sizeof cfg);
    memset(&h, 0, sizeof h);
    h.size = sizeof h;
    cfg.size = sizeof cfg;
    cfg.host = &h;
    cfg.clock = clock;
    greens_hooks(&host, &h);
    h.wake_netpoller = wake;
    s = gt_sched_new(&cfg);
    CHECK(s != NULL);
    p = new_p(s);
    return s;
}

static void down(void)
{
    greens_stop(&host);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 0);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    free_p(p);
    close_sched(s);
}

/* ---- armed only after parking ---- */

static uint64_t armed_at_park, armed_at_commit;

static void park_looks(struct green *g)
{
    (void)g;
    armed_at_park = get_stats(s).armed;
    CHECK_EQ(get_stats(s).pending, 0);
}

static void commit_looks(struct green *g)
{
    (void)g;
    armed_at_commit = get_stats(s).armed;
    CHECK_PTR_EQ(green_self(), NULL);
}

static void sleeps(struct green *g)
{
    int64_t d = *(int64_t *)g->arg, before = gt_nanotime(s);

    CHECK_EQ(gt_sched_sleep(s, d), 0);
    CHECK_GE(gt_nanotime(s), before + (d > 0 ? d : 0));
}

TEST(park_armed_after_parking, 30)
{
    struct green g = {.i = 0};
    int64_t d = 100;

    memset(&host, 0, sizeof host);
    host.on_park = park_looks;
    host.on_commit = commit_looks;
    green_sched(GT_CLOCK_VIRTUAL, NULL);
    greens_start(&host, 1);
    for (uint64_t i = 0; i < 20; i++) {
        green_start(&host, &g, sleeps, &d);
        CHECK_EQ(green_parked(&g), 1);
        CHECK_EQ(armed_at_park, i);
        CHECK_EQ(armed_at_commit, i);
        CHECK_EQ(get_stats(s).armed, i + 1);
        CHECK_EQ(gt_sched_advance(s, 99), 0);
        CHECK_EQ(green_parked(&g), 1);
        CHECK_EQ(host.readies, i);
        CHECK_EQ(gt_sched_advance(s, 1), 1);
        green_join(&g);
        CHECK_EQ(host.readies, i + 1);
    }
    CHECK_EQ(host.commits, 20);
    CHECK_EQ(host.refused, 0);
    down();
}

TEST(park_no_sleep_no_park, 30)
{
    struct green g = {.i = 0};
    int64_t d[] = {0, -1, INT64_MIN};

    memset(&host, 0, sizeof host);
    green_sched(GT_CLOCK_VIRTUAL, NULL);
    greens_start(&host, 1);
    for (int i = 0; i < 3; i++) {
        green_start(&host, &g, sleeps, &d[i]);
        green_join(&g);
    }
    CHECK_EQ(host.commits, 0);
    CHECK_EQ(get_stats(s).armed, 0);
    down();
}

/* ---- ready before commit returns ---- */

/* The wake hook, which arming calls from inside commit, runs the timer there and then. */
static int hook_nap_ms;

static void wake_runs_it(void *ctx, gt_p *q, int64_t when)
{
    int64_t until = when;

    (void)ctx;
    /* what the pass says of the next one holds, too: nobody calls the hook for that */
    for (int i = 0; until != 0; i++) {
        int r = gt_sched_set_time(s, until);

        CHECK(r == 0 || r == GT_EINVAL);         /* another one's hook may be ahead of us */
        CHECK_GE(gt_check_timers(q, 0, NULL, &until), 0);
        if (i == 0 && hook_nap_ms > 0)
            sleep_ms(hook_nap_ms);
    }
}

static void sleeps_often(struct green *g)
{
    for (int i = 0; i < 20; i++) {
        int64_t before = gt_nanotime(s);

        CHECK_EQ(gt_sched_sleep(s, 50), 0);
        CHECK_GE(gt_nanotime(s), before + 50);
    }
    ++*(atomic_int *)g->arg;
}

TEST(park_ready_before_commit_returns, 30)
{
    struct green g = {.i = 0};
    atomic_int ended = 0;

    memset(&host, 0, sizeof host);
    green_sched(GT_CLOCK_VIRTUAL, wake_runs_it);
    greens_start(&host, 1);
    green_start(&host, &g, sleeps_often, &ended);
    green_join(&g);
    CHECK_EQ(ended, 1);
    CHECK_EQ(host.commits, 20);
    CHECK_EQ(host.early, 20);
    down();
}

/* It even runs on, and its sleep is long gone, before commit returns on the other worker. */
static void sleeps_and_scribbles(struct green *g)
{
    for (int i = 0; i < 5; i++) {
        volatile char scribble[4096];

        CHECK_EQ(gt_sched_sleep(s, 50), 0);
        memset((void *)scribble, 0xee, sizeof scribble);
    }
    ++*(atomic_int *)g->arg;
}

TEST(park_gone_before_commit_returns, 60)
{
    struct green g = {.i = 0};
    atomic_int ended = 0;

    for (int i = 0; i < 10; i++) {
        memset(&host, 0, sizeof host);
        host.eager = 1;
        hook_nap_ms = 2;
        green_sched(GT_CLOCK_VIRTUAL, wake_runs_it);
        greens_start(&host, 2);
        green_start(&host, &g, sleeps_and_scribbles, &ended);
        green_join(&g);
        CHECK_EQ(ended, i + 1);
        CHECK_GE(host.early, 1);
        down();
    }
}

/* The same for receivers: the value comes while commit is under way. */
static gt_timer *chan;

static void receives_often(struct green *g)
{
    for (int i = 0; i < 5; i++) {
        int64_t at = gt_nanotime(s) + 50, sent = 0;
        volatile char scribble[4096];

        CHECK_GE(gt_timer_reset(chan, 50), 0);
        CHECK_EQ(gt_timer_recv(chan, &sent), 0);
        CHECK_EQ(sent, at);
        memset((void *)scribble, 0xee, sizeof scribble);
    }
    ++*(atomic_int *)g->arg;
}

TEST(park_received_before_commit_returns, 60)
{
    for (int eager = 0; eager < 2; eager++)
        for (int i = 0; i < 5; i++) {
            struct green g = {.i = 0};
            atomic_int ended = 0;

            memset(&host, 0, sizeof host);
            host.eager = eager;
            hook_nap_ms = eager * 2;
            green_sched(GT_CLOCK_VIRTUAL, wake_runs_it);
            chan = must(gt_sched_new_timer(s, 3600 * SEC));
            greens_start(&host, 2);
            green_start(&host, &g, receives_often, &ended);
            green_join(&g);
            CHECK_EQ(ended, 1);
            CHECK_GE(host.early, eager ? 1 : 5);
            CHECK_EQ(gt_timer_free(chan), 0);
            CHECK_EQ(get_stats(s).fired, 5);
            down();
        }
}

/* ---- receiving ---- */

static void receives_one(struct green *g)
{
    int64_t *sent = g->arg;

    *sent = gt_timer_recv(chan, sent) == 0 ? *sent : -1;
}

/* A value that is there: commit says that there is no need to park, or nobody asks. */
TEST(park_value_is_there, 30)
{
    struct green g = {.i = 0};
    int64_t sent = 0;

    memset(&host, 0, sizeof host);
    green_sched(GT_CLOCK_VIRTUAL, NULL);
    chan = must(gt_sched_new_timer(s, 10));
    CHECK_GE(gt_sched_advance(s, 10), 0);
    greens_start(&host, 1);
    green_start(&host, &g, receives_one, &sent);
    green_join(&g);
    CHECK_EQ(sent, T0 + 10);
    CHECK_EQ(host.readies, 0);
    CHECK_EQ(host.commits, host.refused);
    CHECK_EQ(gt_timer_free(chan), 0);
    down();
}

TEST(park_receivers_in_order, 60)
{
    enum { N = 10 };
    struct green g[N];
    int64_t sent[N] = {0};
    struct waiter w;

    memset(&host, 0, sizeof host);
    green_sched(GT_CLOCK_VIRTUAL, NULL);
    chan = must(gt_sched_new_ticker(s, 10));
    greens_start(&host, 2);
    for (int i = 0; i < N; i++) {
        green_start(&host, &g[i], receives_one, &sent[i]);
        CHECK_EQ(green_parked(&g[i]), 1);
    }
    receiver_start(&w, chan);                    /* a thread queues up with them */
    CHECK_EQ(waiter_blocked(&w), 1);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(gt_sched_advance(s, 10), 1);
        green_join(&g[i]);
        CHECK_EQ(sent[i], T0 + 10 * (i + 1));
    }
    CHECK_EQ(w.done, 0);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    CHECK_EQ(waiter_join(&w), 0);
    CHECK_EQ(w.sent, T0 + 10 * (N + 1));
    CHECK_EQ(host.readies, N);
    CHECK_EQ(gt_timer_free(chan), 1);
    down();
}

static void receives_error(struct green *g)
{
    *(atomic_int *)g->arg = gt_timer_recv(chan, NULL);
}

TEST(park_free_under_recv, 30)
{
    for (int how = 0; how < 2; how++) {
        struct green g[3];
        atomic_int r[3];

        memset(&host, 0, sizeof host);
        green_sched(GT_CLOCK_VIRTUAL, NULL);
        chan = must(gt_sched_new_timer(s, 10));
        greens_start(&host, 2);
        for (int i = 0; i < 3; i++) {
            green_start(&host, &g[i], receives_error, &r[i]);
            CHECK_EQ(green_parked(&g[i]), 1);
        }
        CHECK_EQ(how == 0 ? gt_timer_free(chan) : gt_shutdown_timer(chan), 1);
        for (int i = 0; i < 3; i++) {
            green_join(&g[i]);
            CHECK_EQ(r[i], how == 0 ? GT_ESTALE : GT_ESHUTDOWN);
        }
        if (how == 1)
            CHECK_EQ(gt_timer_free(chan), 0);
        down();
    }
}

/* ---- plain threads block, whatever current_context says of them ---- */

TEST(park_plain_threads_block, 30)
{
    for (int known = 0; known < 2; known++) {
        struct waiter r, w;

        memset(&host, 0, sizeof host);
        host.plain_contexts = known;
        green_sched(GT_CLOCK_VIRTUAL, NULL);
        greens_start(&host, 1);
        chan = must(gt_sched_new_timer(s, 100));
        receiver_start(&r, chan);
        sleeper_start(&w, s, 100);
        CHECK_EQ(waiter_blocked(&r), 1);
        CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_EQ(gt_sched_advance(s, 99), 0);
        CHECK_EQ(waiter_blocked(&r), 1);
        CHECK_EQ(waiter_blocked(&w), 1);
        CHECK_EQ(gt_sched_advance(s, 1), 1);
        CHECK_EQ(waiter_join(&r), 0);
        CHECK_EQ(waiter_join(&w), 0);
        CHECK_EQ(r.sent, T0 + 100);
        CHECK_EQ(host.commits, 0);
        CHECK_EQ(host.readies, 0);
        CHECK_EQ(gt_timer_free(chan), 0);
        down();
    }
}

/* ---- on the built-in runtime: sleepers, receivers and readers, all at once ---- */

enum { GREENS = 150, TURNS = 20 };
static int pipes[GREENS][2];
static gt_netpoll *pds[GREENS];
static atomic_long slept, received, timed_out, was_read;

static void lives(struct green *g)
{
    uint64_t rng = test_seed() + (uint64_t)g->i;
    gt_timer *t = must(gt_new_timer(0));

    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    for (int n = 0; n < TURNS; n++) {
        int64_t d = (int64_t)rng_below(&rng, 3 * (uint64_t)MS), begin = mono_now(), sent;
        char ch = (char)n;
        int r;

        switch (rng_below(&rng, 4)) {
        case 0:
            CHECK_EQ(gt_sleep(d), 0);
            CHECK_GE(mono_now() - begin, d);
            slept++;
            break;
        case 1:
            CHECK_EQ(gt_timer_reset(t, d), 0);
            CHECK_EQ(gt_timer_recv(t, &sent), 0);
            CHECK_GE(mono_now() - begin, d);
            CHECK_GE(gt_nanotime(s), sent);
            received++;
            break;
        case 2:                                     /* nobody writes: until the deadline */
            CHECK_EQ(gt_netpoll_set_deadline(pds[g->i], GT_READ, gt_nanotime(s) + d), 0);
            do
                r = gt_netpoll_wait(pds[g->i], GT_READ);
            while (r == 0);
            CHECK_EQ(r, GT_ETIMEDOUT);
            CHECK_GE(mono_now() - begin, d);
            CHECK_EQ(gt_netpoll_set_deadline(pds[g->i], GT_READ, 0), 0);
            timed_out++;
            break;
        default:                                    /* the runtime writes, a little later */
            CHECK_EQ(write(pipes[g->i][1], &ch, 1), 1);
            while (read(pipes[g->i][0], &ch, 1) != 1)
                CHECK_EQ(gt_netpoll_wait(pds[g->i], GT_READ), 0);
            CHECK_EQ(ch, (char)n);
            was_read++;
            break;
        }
    }
    CHECK_EQ(gt_timer_free(t), 0);
}

TEST(park_on_the_runtime, 120)
{
    static struct green g[GREENS];
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2};
    gt_host h = {.size = sizeof h};

    memset(&host, 0, sizeof host);
    greens_hooks(&host, &h);
    cfg.host = &h;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    s = gt_runtime_sched();
    greens_start(&host, GREEN_WORKERS);
    for (int i = 0; i < GREENS; i++) {
        CHECK_EQ(pipe2(pipes[i], O_NONBLOCK | O_CLOEXEC), 0);
        pds[i] = gt_netpoll_open(pipes[i][0]);
        CHECK(pds[i] != NULL);
        g[i].i = i;
        green_start(&host, &g[i], lives, NULL);
    }
    for (int i = 0; i < GREENS; i++)
        green_join(&g[i]);
    CHECK_EQ(slept + received + timed_out + was_read, GREENS * TURNS);
    CHECK_GE(host.commits, host.readies);
    CHECK_EQ(host.commits, host.readies + host.refused);
    CHECK_GE(host.readies, slept);
    for (int i = 0; i < GREENS; i++) {
        CHECK_EQ(gt_netpoll_close(pds[i]), 0);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    greens_stop(&host);
    rt_stop_conserved();
    CHECK_EQ(get_stats(s).pending, 0);
    CHECK_EQ(get_stats(s).timers, 0);
}

/* More green threads sleep than there are threads of any kind that could: the workers go on
 * with others meanwhile. */
static void one_by_one(struct green *g)
{
    (void)g;
    CHECK_EQ(gt_sleep(20 * MS), 0);
    slept++;
}

TEST(park_frees_the_worker, 120)
{
    static struct green g[GREENS];
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 1};
    gt_host h = {.size = sizeof h};

    memset(&host, 0, sizeof host);
    greens_hooks(&host, &h);
    cfg.host = &h;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    greens_start(&host, 1);
    for (int i = 0; i < GREENS; i++)
        green_start(&host, &g[i], one_by_one, NULL);
    for (int i = 0; i < GREENS; i++)
        green_join(&g[i]);
    CHECK_EQ(slept, GREENS);
    CHECK_EQ(host.commits, GREENS);
    greens_stop(&host);
    rt_stop_conserved();
}

/* A plain thread on a runtime with such hooks sleeps and receives as ever. */
TEST(park_plain_threads_on_the_runtime, 60)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2};
    gt_host h = {.size = sizeof h};
    gt_timer *t;

    memset(&host, 0, sizeof host);
    greens_hooks(&host, &h);
    cfg.host = &h;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    t = must(gt_new_timer(MS));
    for (int i = 0; i < 20; i++) {
        int64_t begin = mono_now();

        CHECK_EQ(gt_timer_recv(t, NULL), 0);
        CHECK_EQ(gt_sleep(MS), 0);
        CHECK_GE(mono_now() - begin, MS);
        CHECK_EQ(gt_timer_reset(t, i * 100 * US), 0);
    }
    CHECK_EQ(gt_timer_free(t), 1);
    rt_stop_conserved();
}
