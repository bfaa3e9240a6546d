/* See rules.h. */
#include "rules.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

gt_p *new_p(gt_sched *s)
{
    gt_p *p = gt_p_new(s);

    if (p == NULL)
        test_failed(__FILE__, __LINE__, "gt_p_new: %s", gt_strerror(gt_last_error()));
    return p;
}

void free_p(gt_p *p) { CHECK_EQ(gt_p_free(p), 0); }

gt_timer *new_timer(gt_sched *s, struct counter *c)
{
    gt_timer *t = gt_timer_new(s, count_run, c, count_drop);

    if (t == NULL)
        test_failed(__FILE__, __LINE__, "gt_timer_new: %s", gt_strerror(gt_last_error()));
    return t;
}

int check_at(gt_p *p, int64_t now)
{
    int64_t rnow = -7, until = -7;
    int ran = gt_check_timers(p, now, &rnow, &until);

    CHECK(ran == 0 || ran == 1);
    CHECK_EQ(rnow, now);
    CHECK_GE(until, 0);
    return ran;
}

int64_t until_at(gt_p *p, int64_t now)
{
    int64_t until = -7;

    CHECK_GE(gt_check_timers(p, now, NULL, &until), 0);
    return until;
}

int drain_at(gt_p *p, int64_t now)
{
    int passes = 0;

    while (check_at(p, now))
        passes++;
    return passes;
}

gt_timer **fill_p(gt_p *p, gt_sched *s, int n, int64_t when)
{
    static struct counter none;
    gt_timer **fill = calloc((size_t)n, sizeof *fill);

    CHECK(fill != NULL);
    for (int i = 0; i < n; i++) {
        fill[i] = gt_timer_new(s, count_run, &none, NULL);
        CHECK(fill[i] != NULL);
        CHECK_EQ(gt_addtimer_on(p, fill[i], when + i, 0), 0);
    }
    return fill;
}

void unfill(gt_timer **fill, int n)
{
    for (int i = 0; i < n; i++)
        CHECK_GE(gt_timer_free(fill[i]), 0);
    free(fill);
}

static void nap_us(long us)
{
    struct timespec ts = {0, us * 1000};

    nanosleep(&ts, NULL);
}

int wait_at_most(atomic_int *flag, int n, int ms)
{
    int64_t limit = mono_now() + ms * MS;

    while (atomic_load(flag) < n) {
        if (mono_now() > limit)
            return 0;
        nap_us(20);
    }
    return 1;
}

/* 1: the thread is in futex(); 0: it is not; -1: cannot be told. */
static int in_futex(int tid)
{
    char path[64], text[32] = "";
    FILE *f;
    int ok;

    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    f = fopen(path, "r");
    if (f == NULL)
        return -1;
    ok = fgets(text, sizeof text, f) != NULL;
    fclose(f);
    if (!ok)
        return -1;
    return text[0] >= '0' && text[0] <= '9' && atol(text) == SYS_futex;
}

int wait_blocked(atomic_int *tid, atomic_int *done, int n, int ms)
{
    int64_t limit = mono_now() + ms * MS, blind = mono_now() + 50 * MS;
    int seen = 0;

    while (mono_now() < limit && (done == NULL || atomic_load(done) < n)) {
        int r = atomic_load(tid) == 0 ? 0 : in_futex(atomic_load(tid));

        if (r < 0 && mono_now() > blind)
            return 1;
        seen = r == 1 ? seen + 1 : 0;
        if (seen == 3)
            return 1;
        nap_us(seen > 0 ? 300 : 20);
    }
    return 0;
}

/* ---- host hooks ---- */

static _Thread_local int pin_depth;

int pins(void) { return pin_depth; }

static int64_t hook_nanotime(void *ctx)
{
    struct hooks *h = ctx;
    void (*fn)(void) = h->on_clock;

    if (fn != NULL)
        fn();
    return h->clock;
}

static void hook_wake(void *ctx, gt_p *p, int64_t when)
{
    struct hooks *h = ctx;
    void (*fn)(gt_p *, int64_t) = h->on_wake;

    CHECK_EQ(pin_depth, 0);
    h->last_wake = when;
    h->last_p = p;
    h->wakes++;
    if (fn != NULL)
        fn(p, when);
    if (h->wake_note)
        CHECK_GE(gt_notewakeup(p), 0);
}

static void hook_osyield(void *ctx)
{
    struct hooks *h = ctx;

    h->yields++;
    sched_yield();
}

static void hook_acquirem(void *ctx)
{
    struct hooks *h = ctx;
    void (*fn)(int) = h->on_pin;

    h->acquires++;
    pin_depth++;
    if (fn != NULL)
        fn(1);
}

static void hook_releasem(void *ctx)
{
    struct hooks *h = ctx;
    void (*fn)(int) = h->on_pin;

    CHECK_GT(pin_depth, 0);
    h->releases++;
    pin_depth--;
    if (fn != NULL)
        fn(0);
}

void hooks_init(struct hooks *h, int count_yields)
{
    memset(h, 0, sizeof *h);
    h->clock = HOST_T0;
    h->host.size = sizeof h->host;
    h->host.ctx = h;
    h->host.nanotime = hook_nanotime;
    h->host.wake_netpoller = hook_wake;
    h->host.acquirem = hook_acquirem;
    h->host.releasem = hook_releasem;
    if (count_yields)
        h->host.osyield = hook_osyield;
}

gt_sched *hooked_sched(struct hooks *h, uint32_t clock)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.host = &h->host;
    cfg.clock = clock;
    s = gt_sched_new(&cfg);
    if (s == NULL)
        test_failed(__FILE__, __LINE__, "gt_sched_new: %s", gt_strerror(gt_last_error()));
    return s;
}

/* ---- errands ---- */

static void *errand_loop(void *arg)
{
    struct errand *e = arg;

    e->tid = gettid();
    while (!e->stop) {
        if (e->wanted == e->done) {
            nap_us(20);
            continue;
        }
        e->fn(e->arg);
        e->done++;
    }
    return NULL;
}

void errand_start(struct errand *e)
{
    memset(e, 0, sizeof *e);
    e->thread = thread_start(errand_loop, e);
}

int errand_run(struct errand *e, void (*fn)(void *arg), void *arg, int ms)
{
    CHECK_EQ(e->wanted, e->done);
    e->fn = fn;
    e->arg = arg;
    e->wanted++;
    return wait_at_most(&e->done, e->wanted, ms);
}

void errand_settle(struct errand *e) { wait_for(&e->done, e->wanted); }

void errand_stop(struct errand *e)
{
    errand_settle(e);
    e->stop = 1;
    thread_join(e->thread);
}

/* ---- stopping a thread ---- */

static atomic_int frozen, freeze_wanted, pins_seen;

static void freeze_handler(int sig)
{
    int saved = errno;
    struct timespec ts = {0, 20000};

    (void)sig;
    atomic_store(&pins_seen, pin_depth);
    atomic_store(&frozen, 1);
    while (atomic_load(&freeze_wanted))
        nanosleep(&ts, NULL);
    atomic_store(&frozen, 0);
    errno = saved;
}

void needs_freeze(void)
{
#if defined(__SANITIZE_THREAD__)
    test_skip("ThreadSanitizer delivers signals late");
#elif defined(GT_TEST_CHECKED)
    test_skip("each call of the checked build takes a lock of the process");
#endif
}

static void wait_spinning(atomic_int *flag, int value)
{
    int64_t limit = mono_now() + 60 * SEC * (int64_t)test_slow();

    while (atomic_load(flag) != value) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "a thread did not take its signal");
        sched_yield();
    }
}

void thaw(void)
{
    atomic_store(&freeze_wanted, 0);
    wait_spinning(&frozen, 0);
}

int frozen_pins(void) { return atomic_load(&pins_seen); }

void freeze_where(pthread_t th, atomic_ulong *progress, int (*there)(void *arg), void *arg)
{
    struct sigaction sa;
    int64_t limit = mono_now() + 60 * SEC * (int64_t)test_slow();
    uint64_t rng = test_seed();

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = freeze_handler;
    sa.sa_flags = SA_RESTART;
    sigemptyset(&sa.sa_mask);
    CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
    while (mono_now() < limit) {
        unsigned long before = atomic_load(progress);

        /* Let it get on, by a random stretch: else it would be met at the same place again. */
        for (int64_t give_up = mono_now() + SEC; atomic_load(progress) == before && mono_now() < give_up;)
            sched_yield();
        for (uint64_t spin = rng_below(&rng, 300); spin > 0; spin--)
            atomic_load(progress);
        atomic_store(&freeze_wanted, 1);
        CHECK_EQ(pthread_kill(th, SIGUSR1), 0);
        wait_spinning(&frozen, 1);
        if (there(arg))
            return;
        thaw();
    }
    test_failed(__FILE__, __LINE__, "the thread was never met where it was wanted");
}

/* ---- a P's lock held ---- */

static void *hold_p_loop(void *arg)
{
    struct p_holder *h = arg;

    while (!atomic_load(&h->stop)) {
        CHECK_EQ(gt_adjusttimers(h->p, 1, 1), 0);   /* a long scan under the lock */
        h->progress++;
    }
    return NULL;
}

static void probe_lock(void *arg) { CHECK_GE(gt_runtimer(arg, 1), -1); }   /* runs nothing */

static void look_only(void *arg) { CHECK_GE(gt_nobarrier_wake_time(arg), 0); }

/* Is p's lock held? A thread that wants it sleeps over it then. And nothing else may be held: a
 * question that needs no lock of p's is answered (the checked build has a lock for its own). */
static int p_is_held(void *arg)
{
    struct p_holder *h = arg;

    /* Those of the last round may stand before the very lock that the stopped thread has now. */
    if (!wait_at_most(&h->probe.done, h->probe.wanted, 20) ||
        !wait_at_most(&h->look.done, h->look.wanted, 20))
        return 0;
    errand_run(&h->probe, probe_lock, h->p, 0);
    if (!wait_blocked(&h->probe.tid, &h->probe.done, h->probe.wanted, 60000))
        return 0;
    return errand_run(&h->look, look_only, h->p, 200);
}

void hold_p(struct p_holder *h, gt_p *p)
{
    memset(h, 0, sizeof *h);
    h->p = p;
    errand_start(&h->probe);
    errand_start(&h->look);
    h->thread = thread_start(hold_p_loop, h);
    freeze_where(h->thread, &h->progress, p_is_held, h);
}

void let_p_go(struct p_holder *h)
{
    atomic_store(&h->stop, 1);
    thaw();
    thread_join(h->thread);
    errand_stop(&h->probe);
    errand_stop(&h->look);
}

/* ---- a timer's lock held ---- */

static void *hold_timer_loop(void *arg)
{
    struct t_holder *h = arg;

    while (!atomic_load(&h->stop)) {
        CHECK_GE(gt_resettimer(h->t, h->when, 0), 0);
        h->when++;
        h->progress++;
    }
    return NULL;
}

static void look_status(void *arg)
{
    struct t_holder *h = arg;

    h->status = gt_timer_status(h->t);
}

/* Asked by another thread: should the stopped one hold some other lock, the answer stays away. */
static int is_locked(void *arg)
{
    struct t_holder *h = arg;

    errand_settle(&h->look);
    return errand_run(&h->look, look_status, h, 100) && h->status == GT_TIMER_LOCKED;
}

void hold_timer(struct t_holder *h, gt_timer *t, int64_t when)
{
    memset(h, 0, sizeof *h);
    h->t = t;
    h->when = when;
    errand_start(&h->look);
    h->thread = thread_start(hold_timer_loop, h);
    freeze_where(h->thread, &h->progress, is_locked, h);
}

void let_timer_go(struct t_holder *h)
{
    atomic_store(&h->stop, 1);
    thaw();
    thread_join(h->thread);
    errand_stop(&h->look);
}
