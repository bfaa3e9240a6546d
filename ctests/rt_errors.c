/* Every documented refusal of gt_runtime_start, and what its config does: workers, verify,
 * lateness, slack, hooks. */
#include "rtkit.h"

#include <sys/resource.h>
#include <unistd.h>

static struct counter c;

static gt_runtime_config config(uint32_t workers)
{
    gt_runtime_config cfg;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.workers = workers;
    return cfg;
}

static gt_host host(void)
{
    gt_host h;

    memset(&h, 0, sizeof h);
    h.size = sizeof h;
    return h;
}

static void refused(const gt_runtime_config *cfg, int error)
{
    CHECK_EQ(gt_runtime_start(cfg), error);
    CHECK_EQ(gt_runtime_workers(), 0);
    CHECK_EQ(gt_runtime_stop(), GT_EINVAL);
}

static int64_t some_clock(void *ctx)
{
    (void)ctx;
    return 1;
}

static void some_wake(void *ctx, gt_p *p, int64_t when)
{
    (void)ctx;
    (void)p;
    (void)when;
}

static void *some_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    (void)size;
    (void)align;
    return NULL;
}

static int some_park(void *ctx, int (*commit)(void *arg), void *arg)
{
    (void)ctx;
    (void)commit;
    (void)arg;
    return 0;
}

static void some_ready(void *ctx, uintptr_t context)
{
    (void)ctx;
    (void)context;
}

static uintptr_t some_context(void *ctx)
{
    (void)ctx;
    return 0;
}

static void some_pin(void *ctx) { (void)ctx; }

TEST(rt_errors_config, 20)
{
    gt_runtime_config cfg = config(1);
    gt_host h = host();

    cfg.size = 0;
    refused(&cfg, GT_EINVAL);
    cfg.size = 3;
    refused(&cfg, GT_EINVAL);
    cfg = config(1);
    cfg.reserved = 1;
    refused(&cfg, GT_EINVAL);
    cfg = config(1);
    cfg.slack = -1;
    refused(&cfg, GT_EINVAL);
    cfg = config(1);
    cfg.verify = 2;
    refused(&cfg, GT_EINVAL);
    cfg = config(1);
    cfg.lateness = 2;
    refused(&cfg, GT_EINVAL);
    cfg = config(1);
    cfg.host = &h;
    h.size = 5;
    refused(&cfg, GT_EINVAL);
    h = host();
    h.nanotime = some_clock;                         /* the poller waits on CLOCK_MONOTONIC */
    refused(&cfg, GT_EINVAL);
    h = host();
    h.wake_netpoller = some_wake;                    /* the runtime's own */
    refused(&cfg, GT_EINVAL);
    h = host();
    h.alloc = some_alloc;                            /* without free */
    refused(&cfg, GT_EINVAL);
    h = host();
    h.park = some_park;                              /* without ready */
    h.current_context = some_context;
    refused(&cfg, GT_EINVAL);
    h = host();
    h.ready = some_ready;                            /* without park */
    h.current_context = some_context;
    refused(&cfg, GT_EINVAL);
    h = host();
    h.park = some_park;
    h.ready = some_ready;                            /* without current_context */
    refused(&cfg, GT_EINVAL);
    h = host();
    h.acquirem = some_pin;                           /* without releasem */
    refused(&cfg, GT_EINVAL);
    CHECK_EQ(gt_runtime_start(NULL), 0);             /* after all that */
    rt_stop();
}

/* The same refusals for a sched's config. */
TEST(rt_errors_sched_config, 20)
{
    gt_config cfg;
    gt_host h = host();

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.host = &h;
    h.park = some_park;
    h.current_context = some_context;
    CHECK_PTR_EQ(gt_sched_new(&cfg), NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
    h.park = NULL;
    h.ready = some_ready;
    CHECK_PTR_EQ(gt_sched_new(&cfg), NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
    h.park = some_park;
    h.current_context = NULL;
    CHECK_PTR_EQ(gt_sched_new(&cfg), NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
    cfg.host = NULL;
    cfg.slack = -1;
    CHECK_PTR_EQ(gt_sched_new(&cfg), NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
}

/* Hooks come before the sched is first used, or not at all. */
TEST(rt_errors_host_comes_too_late, 20)
{
    gt_runtime_config cfg = config(1);
    gt_host h = host();

    CHECK(gt_runtime_sched() != NULL);
    cfg.host = &h;
    refused(&cfg, GT_EBUSY);
    cfg.host = NULL;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    CHECK_EQ(gt_runtime_start(&cfg), GT_EBUSY);
    rt_stop();
}

/* Structs of an older program are shorter: what is not there counts as 0. */
TEST(rt_errors_older_config, 20)
{
    gt_runtime_config cfg = config(2);
    struct counter n = {0};
    gt_timer *t;

    cfg.size = offsetof(gt_runtime_config, slack);
    cfg.slack = -5;                                  /* behind the end */
    cfg.host = (const gt_host *)(uintptr_t)8;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    CHECK_EQ(gt_runtime_workers(), 2);
    t = must(gt_after_func(0, count_run, &n, count_drop));
    wait_for(&n.runs, 1);
    rt_stop_conserved();
    CHECK_EQ(gt_timer_free(t), 0);
}

static struct alloc_hook a;

TEST(rt_config_alloc_hook, 30)
{
    gt_runtime_config cfg = config(2);
    gt_timer *t[100];
    gt_host h;

    memset(&a, 0, sizeof a);
    c.runs = c.drops = 0;
    alloc_hook_host(&a, &h);
    cfg.host = &h;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    CHECK_GT(a.bytes, 0);
    CHECK_EQ(get_stats(gt_runtime_sched()).bytes, a.bytes);
    for (int i = 0; i < 100; i++)
        t[i] = must(gt_after_func(i * 10 * US, count_run, &c, count_drop));
    wait_for(&c.runs, 100);
    rt_stop_conserved();
    for (int i = 0; i < 100; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(c.drops, 100);
    CHECK_EQ(gt_runtime_start(&cfg), 0);             /* as the sched was made */
    rt_stop();
    h.ctx = &c;
    CHECK_EQ(gt_runtime_start(&cfg), GT_EBUSY);      /* other hooks: too late */
    h.ctx = &a;
    cfg.slack = 5;
    CHECK_EQ(gt_runtime_start(&cfg), GT_EBUSY);
    cfg.slack = 0;
    cfg.verify = 1;
    CHECK_EQ(gt_runtime_start(&cfg), GT_EBUSY);
    cfg = config(1);                                 /* says nothing of the sched */
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    rt_stop();
    CHECK_EQ(gt_runtime_start(NULL), 0);
    rt_stop();
}

/* No memory: refused, nothing runs, and it works when tried again. */
TEST(rt_errors_no_memory, 30)
{
    gt_runtime_config cfg = config(3);
    gt_host h;
    int n, r = 0;

    memset(&a, 0, sizeof a);
    alloc_hook_host(&a, &h);
    cfg.host = &h;
    for (n = 1; n < 300; n++) {
        alloc_hook_deny(&a, n);
        r = gt_runtime_start(&cfg);
        alloc_hook_deny(&a, 0);
        if (r != GT_ENOMEM)
            break;
        CHECK_EQ(gt_runtime_workers(), 0);
        if (a.bytes > 0)
            cfg.host = NULL;                         /* the sched is there already, with the hooks */
    }
    CHECK_EQ(r, 0);
    CHECK_GE(n, 2);
    CHECK_EQ(gt_runtime_workers(), 3);
    c.runs = c.drops = 0;
    CHECK_EQ(gt_timer_detach(must(gt_after_func(0, count_run, &c, count_drop))), 0);
    wait_for(&c.drops, 1);
    rt_stop_conserved();
}

TEST(rt_errors_no_descriptors, 30)
{
    struct rlimit old, low;
    int fd = dup(0);

    CHECK_GE(fd, 0);
    close(fd);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    for (int room = 0; room < 2; room++) {
        low.rlim_cur = (rlim_t)(fd + room);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
        refused(NULL, GT_EMFILE);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
        CHECK_EQ(dup(0), fd);                        /* nothing was kept */
        close(fd);
    }
    CHECK_EQ(gt_runtime_start(NULL), 0);
    rt_stop();
}

TEST(rt_config_lateness_and_verify, 30)
{
    gt_runtime_config cfg = config(2);
    uint64_t counts[512] = {0}, sum = 0;
    int n;

    cfg.lateness = 1;
    cfg.verify = 1;
    c.runs = c.drops = 0;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    for (int i = 0; i < 300; i++)
        CHECK_EQ(gt_timer_detach(must(gt_after_func(i * 20 * US, count_run, &c, NULL))), 0);
    wait_for(&c.runs, 300);
    rt_stop_conserved();
    n = gt_lateness_get(gt_runtime_sched(), counts, 512);
    CHECK_GE(n, 2);
    CHECK_LE(n, 512);
    for (int i = 0; i < n; i++)
        sum += counts[i];
    CHECK_EQ(sum, 300);
}

/* The hooks that name the caller: gt_deltimer_sync knows its own callback by it. */
static atomic_long asked;

static uintptr_t my_context(void *ctx)
{
    (*(atomic_long *)ctx)++;
    return this_thread();
}

static gt_timer *own;
static atomic_int own_done;

static void syncs(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    CHECK_EQ(gt_deltimer_sync(own), GT_EDEADLK);
    own_done = 1;
}

TEST(rt_config_current_context, 30)
{
    gt_runtime_config cfg = config(1);
    gt_host h = host();

    h.ctx = &asked;
    h.current_context = my_context;
    cfg.host = &h;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    own = gt_timer_new(gt_runtime_sched(), syncs, NULL, NULL);
    CHECK_EQ(gt_timer_reset(own, 0), 0);
    wait_for(&own_done, 1);
    CHECK_GE(asked, 1);
    CHECK_GE(gt_deltimer_sync(own), 0);
    CHECK_EQ(gt_timer_free(own), 0);
    rt_stop_conserved();
}

/* The runtime's sched is a sched: its timers can be had by id, its counters read, its clock is
 * the monotonic one. */
TEST(rt_sched_is_a_sched, 30)
{
    gt_sched *s = rt_start(1);
    int64_t before = mono_now(), now = gt_nanotime(s), after = mono_now();
    gt_timer *t = must(gt_after_func(3600 * SEC, count_run, &c, NULL)), *u;
    char buf[2048];

    CHECK_LE(before, now);
    CHECK_LE(now, after);
    CHECK_EQ(gt_timer_stop_id(s, gt_timer_id(t)), 1);
    u = must(gt_sched_new_timer(s, 0));
    CHECK_EQ(gt_timer_recv(u, NULL), 0);
    CHECK_EQ(gt_sched_sleep(s, MS), 0);
    CHECK_GT(gt_stats_json(s, buf, sizeof buf), 0);
    CHECK_HAS(buf, "armed");
    CHECK_EQ(gt_sched_advance(s, 1), GT_EOPNOTSUPP);
    CHECK_EQ(gt_sched_run_until_idle(s, 1), GT_EOPNOTSUPP);
    CHECK_EQ(gt_synctest_join(s), GT_EOPNOTSUPP);
    CHECK_EQ(gt_sched_free(s), GT_EBUSY);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 0);
    rt_stop_conserved();
}
