/* See support.h. */
#include "support.h"

#include <sched.h>
#include <unistd.h>

void count_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct counter *c = arg;

    CHECK_GE(delay, 0);
    CHECK_EQ(c->drops, 0);
    c->delay = delay;
    c->seq = seq;
    c->runs++;
}

void count_run_other(void *arg, uintptr_t seq, int64_t delay)
{
    count_run(arg, seq + 1000, delay);
}

void count_drop(void *arg)
{
    struct counter *c = arg;

    c->dropper = this_thread();
    c->drops++;
}

uintptr_t this_thread(void) { return (uintptr_t)pthread_self(); }

/* ---- the allocator ---- */

#define MAGIC 0x676f74696d657221u

struct head {
    uint64_t magic;
    size_t size, align;
    void *base;
};

static void *hook_alloc(void *ctx, size_t size, size_t align)
{
    struct alloc_hook *a = ctx;
    int64_t call = ++a->calls;
    size_t pad = align > sizeof(struct head) ? align : sizeof(struct head);
    char *base, *p;
    struct head *h;

    CHECK_GT(size, 0);
    CHECK(align != 0 && (align & (align - 1)) == 0);
    if (a->deny_all || call == a->deny_at) {
        a->denied++;
        return NULL;
    }
    pad = (pad + align - 1) / align * align;
    if (posix_memalign((void **)&base, align > sizeof(void *) ? align : sizeof(void *), pad + size) != 0)
        return NULL;
    p = base + pad;
    h = (struct head *)(void *)p - 1;
    h->magic = MAGIC;
    h->size = size;
    h->align = align;
    h->base = base;
    memset(p, 0xa5, size);
    a->bytes += (int64_t)size;
    a->blocks++;
    return p;
}

static void hook_free(void *ctx, void *ptr, size_t size, size_t align)
{
    struct alloc_hook *a = ctx;
    struct head *h = (struct head *)ptr - 1;
    void *base;

    CHECK(ptr != NULL);
    CHECK_EQ(h->magic, MAGIC);
    CHECK_EQ(size, h->size);
    CHECK_EQ(align, h->align);
    base = h->base;
    memset(ptr, 0xdd, size);
    h->magic = 0;
    free(base);
    a->bytes -= (int64_t)size;
    a->blocks--;
}

void alloc_hook_host(struct alloc_hook *a, gt_host *h)
{
    memset(h, 0, sizeof *h);
    h->size = sizeof *h;
    h->ctx = a;
    h->alloc = hook_alloc;
    h->free = hook_free;
}

gt_sched *alloc_hook_sched(struct alloc_hook *a, uint32_t clock)
{
    gt_host h;
    gt_config cfg;

    alloc_hook_host(a, &h);
    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.host = &h;
    cfg.clock = clock;
    return gt_sched_new(&cfg);
}

void alloc_hook_deny(struct alloc_hook *a, int64_t n)
{
    a->deny_at = n == 0 ? 0 : a->calls + n;
}

void check_all_returned(struct alloc_hook *a)
{
    CHECK_EQ(a->blocks, 0);
    CHECK_EQ(a->bytes, 0);
}

void check_same_counters(gt_sched *s, const gt_stats *before)
{
    gt_stats now = get_stats(s);

    CHECK_EQ(now.armed, before->armed);
    CHECK_EQ(now.fired, before->fired);
    CHECK_EQ(now.stopped, before->stopped);
    CHECK_EQ(now.replaced, before->replaced);
    CHECK_EQ(now.pending, before->pending);
    CHECK_EQ(now.ticks, before->ticks);
    CHECK_EQ(now.steals, before->steals);
    CHECK_EQ(now.wakes, before->wakes);
    CHECK_EQ(now.early, 0);
    CHECK_EQ(now.timers, before->timers);
}

/* ---- threads ---- */

pthread_t thread_start(void *(*fn)(void *), void *arg)
{
    pthread_t t;

    CHECK_EQ(pthread_create(&t, NULL, fn, arg), 0);
    return t;
}

void thread_join(pthread_t t) { CHECK_EQ(pthread_join(t, NULL), 0); }

void wait_for(atomic_int *flag, int n)
{
    int64_t limit = mono_now() + 60 * SEC * (int64_t)test_slow();

    while (atomic_load(flag) < n) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "waited a minute for %d, it is %d", n, atomic_load(flag));
        sleep_ms(1);
    }
}
