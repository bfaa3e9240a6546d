/* Between finding a timer's channel and taking the channel's lock, others may free the timer or
 * shut it down. The hook releasem is called there, when the timer's own lock is let go, and has
 * another thread do it. And nobody is woken with the channel's lock held: a hook of the
 * program's is called then. */
#include "green.h"

static struct hooks h;
static struct errand other;
static gt_sched *s;
static gt_p *p;
static gt_timer *t;
static uint64_t id;
static atomic_int in_window;
static void (*what)(void *arg);

/* Freed memory is not what it was. */
static void *fresh_alloc(void *ctx, size_t size, size_t align)
{
    void *at = NULL;

    (void)ctx;
    return posix_memalign(&at, align > sizeof at ? align : sizeof at, size) == 0 ? at : NULL;
}

static void spoiling_free(void *ctx, void *at, size_t size, size_t align)
{
    (void)ctx;
    (void)align;
    memset(at, 0xdd, size);
    __asm__ volatile("" ::"r"(at) : "memory");   /* or the compiler leaves the memset out */
    free(at);
}

static void frees(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_timer_free(t), 1);
}

static void shuts_down(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_shutdown_timer(t), 1);
}

static void at_release(int acquire)
{
    if (!acquire && pins() == 0 && atomic_exchange(&in_window, 0))
        CHECK_EQ(errand_run(&other, what, NULL, 60 * 1000), 1);
}

enum call { RECV, TRY_RECV, STOP, RESET, WHEN, FREE, SHUTDOWN, CALLS };

static int64_t call_it(enum call c)
{
    switch (c) {
    case RECV: return gt_timer_recv_id(s, id, NULL);
    case TRY_RECV: return gt_timer_try_recv_id(s, id, NULL);
    case STOP: return gt_timer_stop_id(s, id);
    case RESET: return gt_timer_reset_id(s, id, 5);
    case WHEN: return gt_timer_when_id(s, id);
    case FREE: return gt_timer_free_id(s, id);
    case SHUTDOWN:
    default: return gt_shutdown_timer_id(s, id);
    }
}

/* What each call says of a timer that is gone when it has the lock. */
static void others_are_quicker(void (*f)(void *arg), const int64_t says[CALLS])
{
    what = f;
    errand_start(&other);
    for (int c = 0; c < CALLS; c++) {
        hooks_init(&h, 0);
        h.host.alloc = fresh_alloc;
        h.host.free = spoiling_free;
        CHECK((s = hooked_sched(&h, GT_CLOCK_VIRTUAL)) != NULL);
        p = new_p(s);
        t = must(gt_sched_new_timer(s, 1000));
        id = gt_timer_id(t);
        h.on_pin = at_release;
        in_window = 1;
        CHECK_EQ(call_it((enum call)c), says[c]);
        CHECK_EQ(in_window, 0);
        h.on_pin = NULL;
        if (f == shuts_down && c != FREE)
            CHECK_EQ(gt_timer_free(t), 0);
        CHECK_EQ(get_stats(s).stopped, 1);
        check_conserved(s);
        CHECK_GE(gt_trim(p), 0);
        CHECK_EQ(get_stats(s).timers, 0);
        free_p(p);
        close_sched(s);
    }
    errand_stop(&other);
}

TEST(chan_freed_before_it_is_locked, 30)
{
    static const int64_t says[CALLS] = {GT_ESTALE, GT_ESTALE, GT_ESTALE, GT_ESTALE, GT_ESTALE, GT_ESTALE, GT_ESTALE};

    others_are_quicker(frees, says);
}

/* Nothing is pending then: so it says what it says of a timer that was shut down long ago. */
TEST(chan_shut_down_before_it_is_locked, 30)
{
    static const int64_t says[CALLS] = {GT_ESHUTDOWN, GT_ESHUTDOWN, 0, GT_ESHUTDOWN, 0, 0, 0};

    others_are_quicker(shuts_down, says);
}

/* ---- who is woken, and with which locks ---- */

static struct greens host;
static atomic_int looked;

static void looks_at_it(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_timer_try_recv_id(s, id, NULL), 0);
    looked = 1;
}

static void (*greens_ready)(void *ctx, uintptr_t context);

static void ready_looks(void *ctx, uintptr_t context)
{
    CHECK_EQ(errand_run(&other, looks_at_it, NULL, 60 * 1000), 1);
    greens_ready(ctx, context);
}

static void receives(struct green *g)
{
    int64_t sent;

    (void)g;
    CHECK_EQ(gt_timer_recv_id(s, id, &sent), 0);
    CHECK_EQ(sent, T0 + 10);
}

TEST(chan_wakes_nobody_under_its_lock, 30)
{
    struct green g = {.i = 0};
    gt_config cfg;
    gt_host of_greens;

    memset(&cfg, 0, sizeof cfg);
    memset(&host, 0, sizeof host);
    memset(&of_greens, 0, sizeof of_greens);
    cfg.size = sizeof cfg;
    of_greens.size = sizeof of_greens;
    cfg.clock = GT_CLOCK_VIRTUAL;
    cfg.host = &of_greens;
    greens_hooks(&host, &of_greens);
    greens_ready = of_greens.ready;
    of_greens.ready = ready_looks;
    errand_start(&other);
    CHECK((s = gt_sched_new(&cfg)) != NULL);
    p = new_p(s);
    greens_start(&host, 1);
    t = must(gt_sched_new_timer(s, 10));
    id = gt_timer_id(t);
    green_start(&host, &g, receives, NULL);
    CHECK_EQ(green_parked(&g), 1);
    CHECK_EQ(gt_sched_advance(s, 10), 1);
    green_join(&g);
    CHECK_EQ(looked, 1);
    CHECK_EQ(gt_timer_free(t), 0);
    greens_stop(&host);
    check_conserved(s);
    free_p(p);
    close_sched(s);
    errand_stop(&other);
}
