/* ploop_world.c: the threads of the P loop tests (P loops, mutators, the driver of the clock),
 * Ps that come and go under them, and the accounts at the end. */
#include "ploop.h"

#include <time.h>

static _Thread_local struct pl_loop *my_loop;

/* ---- Ps ---- */

gt_p *pl_place_get(struct pl_world *w, struct pl_place **at)
{
    struct pl_place *pl = &w->place[pl_below((uint64_t)w->places)];

    *at = NULL;
    if (pthread_rwlock_tryrdlock(&pl->lock) != 0)
        return NULL;
    *at = pl;
    return pl->p;
}

void pl_place_put(struct pl_place *at)
{
    if (at != NULL)
        pthread_rwlock_unlock(&at->lock);
}

void pl_replace_p(struct pl_world *w, int index)
{
    struct pl_place *pl = &w->place[index];
    int bound;

    if (pthread_rwlock_trywrlock(&pl->lock) != 0)
        return;
    bound = gt_current_p() == pl->p;
    CHECK_EQ(gt_p_free(pl->p), 0);
    if (bound)
        CHECK_PTR_EQ(gt_current_p(), NULL);
    pl->p = gt_p_new(w->s);
    CHECK(pl->p != NULL);
    if (bound)
        CHECK_EQ(gt_acquirep(pl->p), 0);
    pl_add(w->ps_freed, 1);
    pthread_rwlock_unlock(&pl->lock);
}

void pl_replace_own_p(struct pl_world *w)
{
    if (my_loop != NULL)
        pl_replace_p(w, my_loop->index);
}

static void adopt_some(struct pl_world *w)
{
    struct pl_place *a, *b;
    gt_p *to = pl_place_get(w, &a), *from = pl_place_get(w, &b);

    if (to != NULL && from != NULL) {
        int r = gt_adopt_timers(to, from);

        if (to == from) {
            CHECK_EQ(r, GT_EINVAL);
        } else {
            CHECK_GE(r, 0);
            pl_add(w->adopted, (uint64_t)r);
        }
    }
    pl_place_put(b);
    pl_place_put(a);
}

/* gt_sched_advance runs what is due while the clock stands still. Who arms for now faster than
 * all of them can run keeps it from ending: after a while we give it a rest. */
static int gives_rest(struct pl_world *w)
{
    int64_t since = atomic_load(&w->advancing);

    return since != 0 && mono_now() - since > 50 * PL_MS;
}

/* ---- P loops ---- */

/* One turn of a P loop. *until: when the P wants to be looked at again, 0: it does not know. */
static int one_pass(struct pl_world *w, struct pl_loop *lp, int64_t *until)
{
    gt_p *p = w->place[lp->index].p;
    int64_t now = pl_one_in(2) ? gt_nanotime(w->s) : 0, rnow = -1, next = -1, r;
    int ran = 0;

    *until = 0;
    pl_pass_now = now;
    switch (pl_below(64)) {
    case 0:
        for (int i = 0; i < 4; i++) {
            r = gt_runtimer(w->place[lp->index].p, now);
            CHECK(r == 0 || r == -1 || r > 0);
            if (r != 0)
                break;
            ran = 1;
        }
        break;
    case 1:
        CHECK_EQ(gt_adjusttimers(p, now, pl_one_in(2)), 0);
        break;
    case 2:
        CHECK_EQ(gt_cleantimers(p), 0);
        break;
    case 3:
        if (pl_one_in(8))
            CHECK_GE(gt_trim(p), 0);
        break;
    case 4:
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        break;
    case 5:
        if (pl_one_in(4))
            adopt_some(w);
        break;
    case 6:
        if (pl_one_in(8))
            pl_replace_p(w, lp->index);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
        ran = gt_check_others(w->s, pl_one_in(8) ? NULL : p, now, &rnow, &next);
        CHECK(ran == 0 || ran == 1);
        break;
    default:
        ran = gt_check_timers(p, now, &rnow, &next);
        CHECK(ran == 0 || ran == 1);
        CHECK(now == 0 ? rnow > 0 : rnow == now);
        CHECK_GE(next, 0);
        if (w->place[lp->index].p == p)   /* else a callback has replaced the P */
            *until = next != 0 ? next : GT_MAX_WHEN;
    }
    pl_pass_now = 0;
    return ran;
}

static void *loop_thread(void *arg)
{
    struct pl_loop *lp = arg;
    struct pl_world *w = lp->w;
    int sleeps = w->o.sleepers && (lp->index & 1);
    int64_t until;

    pl_rng_start(1000 * (uint64_t)lp->index + lp->threads++);
    while (!atomic_load(&w->go))
        sched_yield();
    if (lp->takes_over)
        pl_join(lp->before);
    /* The thread before us ended bound to this P, so it is free again. */
    CHECK_EQ(gt_acquirep(w->place[lp->index].p), 0);
    my_loop = lp;
    while (!atomic_load(&w->stop_loops)) {
        int ran = one_pass(w, lp, &until);

        if (pl_one_in(4)) {
            atomic_fetch_add(&w->acting, 1);
            if (!atomic_load(&w->stop_mutators) && !gives_rest(w))
                pl_mutate(w);
            atomic_fetch_sub(&w->acting, 1);
        }
        if (sleeps && until != 0)
            CHECK_GE(gt_notetsleep(w->place[lp->index].p, until), 0);
        else if (!ran)
            sched_yield();
        if (pl_one_in(300)) {
            lp->before = pthread_self();
            lp->takes_over = 1;
            pl_add(w->handovers, 1);
            lp->thread = pl_start(loop_thread, lp);
            return NULL;
        }
    }
    CHECK_PTR_EQ(gt_releasep(), w->place[lp->index].p);
    atomic_store(&lp->done, 1);
    return NULL;
}

static void wake_all(struct pl_world *w)
{
    for (int i = 0; i < w->o.loops; i++) {
        CHECK_EQ(pthread_rwlock_rdlock(&w->place[i].lock), 0);
        CHECK_EQ(gt_notewakeup(w->place[i].p), 0);
        pl_place_put(&w->place[i]);
    }
}

/* ---- mutators ---- */

struct mutator {
    struct pl_world *w;
    int index;
    pthread_t thread;
};

static void *mutator_thread(void *arg)
{
    struct mutator *m = arg;
    struct pl_world *w = m->w;

    pl_rng_start(100000 + (uint64_t)m->index);
    while (!atomic_load(&w->stop_mutators)) {
        if (gives_rest(w)) {
            sleep_ms(1);
            continue;
        }
        pl_mutate(w);
        if (pl_one_in(512))
            adopt_some(w);
        if (pl_one_in(512))
            pl_replace_p(w, w->o.loops + (int)pl_below((uint64_t)(w->places - w->o.loops)));
        if (pl_one_in(64))
            sched_yield();
    }
    return NULL;
}

/* ---- hooks ---- */

static void hook_wake(void *ctx, gt_p *p, int64_t when)
{
    CHECK(ctx != NULL);
    CHECK_EQ(pl_pins, 0);
    CHECK_GE(when, 0);
    CHECK_EQ(gt_notewakeup(p), 0);
}

static void hook_osyield(void *ctx)
{
    CHECK(ctx != NULL);
    sched_yield();
}

static void hook_acquirem(void *ctx)
{
    CHECK(ctx != NULL);
    pl_pins++;
}

static void hook_releasem(void *ctx)
{
    CHECK(ctx != NULL);
    CHECK_GT(pl_pins--, 0);
}

static uintptr_t hook_context(void *ctx)
{
    CHECK(ctx != NULL);
    return (uintptr_t)&pl_pins;
}

static void hook_throw(void *ctx, const char *msg)
{
    (void)ctx;
    test_failed(__FILE__, __LINE__, "throw hook: %s", msg);
}

static int hook_preempt_stop(void *ctx)
{
    CHECK(ctx != NULL);
    return pl_one_in(8);
}

/* ---- the test ---- */

static void build(struct pl_world *w)
{
    gt_config cfg;
    gt_host host;

    memset(&cfg, 0, sizeof cfg);
    memset(&host, 0, sizeof host);
    host.size = sizeof host;
    host.ctx = w;
    host.wake_netpoller = hook_wake;
    host.osyield = hook_osyield;
    host.acquirem = hook_acquirem;
    host.releasem = hook_releasem;
    host.current_context = hook_context;
    host.throw_ = hook_throw;
    host.preempt_stop = hook_preempt_stop;
    cfg.size = sizeof cfg;
    cfg.clock = w->o.clock;
    cfg.verify = w->o.verify == 1;
    cfg.lateness = w->o.lateness != 0;
    cfg.host = w->o.hooks ? &host : NULL;
    if (w->o.verify == 2)
        setenv("GOTIMER_VERIFY", "1", 1);
    w->s = gt_sched_new(&cfg);
    CHECK(w->s != NULL);
    w->virt = w->o.clock == GT_CLOCK_VIRTUAL;
    w->t0 = gt_nanotime(w->s);
    w->far_from = w->t0 + PL_HOUR;
    w->places = w->o.loops + PL_MAX_FLOATING;
    for (int i = 0; i < w->places; i++) {
        CHECK_EQ(pthread_rwlock_init(&w->place[i].lock, NULL), 0);
        w->place[i].p = gt_p_new(w->s);
        CHECK(w->place[i].p != NULL);
    }
    w->n_slots = pl_scaled(w->o.verify ? 600 : 4000, 200) & ~1;
    pl_fill(w);
}

/* The main thread while the others run: moves the virtual clock, asks things, sleeps. */
static void drive(struct pl_world *w)
{
    int64_t end = mono_now() + pl_run_ns(), now = gt_nanotime(w->s), earliest;
    struct timespec nap = {0, 20000};
    char json[64];

    while (mono_now() < end) {
        if (w->virt) {
            int64_t d = (int64_t)pl_below((uint64_t)(pl_one_in(8) ? 20 * PL_US : 2 * PL_US));

            now += d;
            if (pl_one_in(16)) {
                int r;

                atomic_store(&w->advancing, mono_now());
                r = gt_sched_advance(w->s, d);
                atomic_store(&w->advancing, 0);
                CHECK(r == 0 || r == 1);
            } else {
                CHECK_EQ(gt_sched_set_time(w->s, now), 0);
            }
            CHECK_EQ(gt_nanotime(w->s), now);
            if (pl_one_in(64))
                CHECK_EQ(gt_sched_set_time(w->s, now - 1), GT_EINVAL);
        }
        if (pl_one_in(16)) {
            earliest = gt_time_sleep_until(w->s);
            CHECK_GT(earliest, 0);
            CHECK_GE(gt_overdue(w->s, 0), 0);
            CHECK_EQ(get_stats(w->s).early, 0);
            CHECK_GT(gt_stats_json(w->s, json, sizeof json), 0);
        }
        if (!w->virt || pl_one_in(4))
            nanosleep(&nap, NULL);
        else
            sched_yield();
    }
}

static uint64_t pending(struct pl_world *w)
{
    return pl_get(w->armed) - pl_get(w->stopped) - pl_get(w->replaced) - pl_get(w->calls);
}

/* The mutators are gone, the P loops still run. Whatever has a deadline within reach fires. */
static void run_out(struct pl_world *w)
{
    int64_t limit = mono_now() + pl_limit_ns(60 * PL_SEC);
    uint64_t left = 0;

    atomic_store(&w->calm, 1);
    while (atomic_load(&w->acting) != 0) {
        CHECK_LT(mono_now(), limit);
        sleep_ms(1);
    }
    pl_stop_tickers(w);
    if (w->virt) {
        w->far_from = GT_MAX_WHEN;
        CHECK_EQ(gt_sched_set_time(w->s, gt_nanotime(w->s) + 2 * PL_HOUR), 0);
    }
    for (int i = 0; i < w->n_slots; i++)
        left += !w->slots[i].shared && w->slots[i].armed && w->slots[i].when >= w->far_from;
    while (pending(w) != left) {
        if (mono_now() >= limit)
            test_failed(__FILE__, __LINE__, "lost: %lld armings have not fired though their time is past "
                        "(%llu pending, %llu says the library, %llu far; overdue by %lld ns)",
                        (long long)(pending(w) - left), (unsigned long long)pending(w),
                        (unsigned long long)get_stats(w->s).pending, (unsigned long long)left,
                        (long long)gt_overdue(w->s, 0));
        sleep_ms(1);
    }
}

/* All is quiet: the library's counters against ours. */
static void compare(struct pl_world *w)
{
    gt_stats st;
    uint64_t heaped = 0, sum = 0, counts[512];
    int n;

    for (int i = 0; i < w->places; i++) {
        CHECK_GE(gt_trim(w->place[i].p), 0);
        CHECK_EQ(gt_verify_timer_heap(w->place[i].p), 0);
        CHECK_EQ(gt_p_deleted_timers(w->place[i].p), 0);
        heaped += (uint64_t)gt_p_num_timers(w->place[i].p);
    }
    check_conserved(w->s);
    st = get_stats(w->s);
    CHECK_EQ(st.armed, pl_get(w->armed));
    CHECK_EQ(st.fired, pl_get(w->calls));
    CHECK_EQ(st.ticks, pl_get(w->ticks));
    CHECK_EQ(st.stopped, pl_get(w->stopped));
    CHECK_EQ(st.replaced, pl_get(w->replaced));
    CHECK_EQ(st.pending, pending(w));
    CHECK_EQ(st.zombies, 0);
    CHECK_EQ(heaped, st.pending);
    CHECK_EQ(st.timers, pl_get(w->handles));
    if (w->o.lateness) {
        n = gt_lateness_get(w->s, counts, 512);
        CHECK(n > 0 && n <= 512);
        for (int i = 0; i < n; i++)
            sum += counts[i];
        CHECK_EQ(sum, st.fired + st.ticks);
    }
    printf("%llu operations: armed %llu, fired %llu, stopped %llu, replaced %llu, pending %llu; ticks %llu, "
           "steals %llu, wakes %llu, Ps freed %llu, adopted %llu, handovers %llu\n",
           (unsigned long long)pl_get(w->ops), (unsigned long long)st.armed, (unsigned long long)st.fired,
           (unsigned long long)st.stopped, (unsigned long long)st.replaced, (unsigned long long)st.pending,
           (unsigned long long)st.ticks, (unsigned long long)st.steals, (unsigned long long)st.wakes,
           (unsigned long long)pl_get(w->ps_freed), (unsigned long long)pl_get(w->adopted),
           (unsigned long long)pl_get(w->handovers));
    CHECK_GT(st.fired, 0);
}

void pl_random_test(struct pl_options o)
{
    static struct pl_world world;
    struct pl_world *w = &world;
    struct mutator mutators[PL_MAX_MUTATORS];
    int64_t earliest;

    pl_rng_start(999999);
    w->o = o;
    build(w);
    for (int i = 0; i < o.loops; i++) {
        w->loop[i].w = w;
        w->loop[i].index = i;
        w->loop[i].thread = pl_start(loop_thread, &w->loop[i]);
    }
    atomic_store(&w->go, 1);   /* now their own ends may write to .thread */
    for (int i = 0; i < o.mutators; i++) {
        mutators[i].w = w;
        mutators[i].index = i;
        mutators[i].thread = pl_start(mutator_thread, &mutators[i]);
    }
    drive(w);
    atomic_store(&w->stop_mutators, 1);
    for (int i = 0; i < o.mutators; i++)
        pl_join(mutators[i].thread);
    run_out(w);
    atomic_store(&w->stop_loops, 1);
    for (int i = 0; i < o.loops; i++) {
        while (!atomic_load(&w->loop[i].done)) {
            wake_all(w);
            sleep_ms(1);
        }
        pl_join(w->loop[i].thread);
    }
    compare(w);
    earliest = pl_free_some(w);
    check_conserved(w->s);
    CHECK_EQ(gt_sched_free(w->s), GT_EBUSY);
    for (int i = 0; i < w->places; i++) {
        CHECK_LE(gt_time_sleep_until(w->s), earliest);
        CHECK_EQ(gt_p_free(w->place[i].p), 0);
    }
    CHECK_LE(gt_time_sleep_until(w->s), earliest);   /* orphans count */
    check_conserved(w->s);
    close_sched(w->s);
    CHECK_EQ(pl_get(w->dropped), pl_get(w->recs));
    pl_free_rest(w);
    CHECK_EQ(pl_get(w->dropped), pl_get(w->recs));
    CHECK_EQ(pl_get(w->books), 0);
    CHECK_EQ(pl_get(w->timers), 0);
    CHECK_EQ(pl_get(w->handles), 0);
    free(w->slots);
    for (int i = 0; i < w->places; i++)
        pthread_rwlock_destroy(&w->place[i].lock);
}
