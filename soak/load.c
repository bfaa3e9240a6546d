/* The load's frame: start, pause, books, end. See load.h. */
#include "load.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

uint64_t load_seed;
_Thread_local struct l_thread *l_me;

int planted(const char *name)
{
    const char *env = getenv("GT_PLANT");

    return env != NULL && strcmp(env, name) == 0;
}

int64_t l_patience(void) { return (getenv("GT_PLANT") != NULL ? 10 : 60) * L_SEC * (int64_t)test_slow(); }

int is_forgotten(const char *name)
{
    static _Atomic int64_t firings;

    return planted(name) && l_add(firings, 1) % 100 == 99;
}

/* ---- the gate ---- */

void l_gate_sleep(struct l_gate *g)
{
    pthread_mutex_lock(&g->m);
    if (--g->running == 0)
        pthread_cond_broadcast(&g->c);
    pthread_mutex_unlock(&g->m);
}

void l_gate_wake(struct l_gate *g)
{
    pthread_mutex_lock(&g->m);
    while (atomic_load(&g->paused))
        pthread_cond_wait(&g->c, &g->m);
    g->running++;
    pthread_mutex_unlock(&g->m);
}

void l_gate_pass(struct l_gate *g)
{
    if (!atomic_load_explicit(&g->paused, memory_order_relaxed))
        return;
    l_gate_sleep(g);
    l_gate_wake(g);
}

void l_gate_pause(struct l_gate *g, const char *name)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += 120 * (int)test_slow();
    pthread_mutex_lock(&g->m);
    atomic_store(&g->paused, 1);
    while (g->running > 0)
        if (pthread_cond_timedwait(&g->c, &g->m, &ts) == ETIMEDOUT)
            test_failed(__FILE__, __LINE__, "%s: %d threads do not come to rest", name, g->running);
    pthread_mutex_unlock(&g->m);
}

void l_gate_resume(struct l_gate *g)
{
    pthread_mutex_lock(&g->m);
    atomic_store(&g->paused, 0);
    pthread_cond_broadcast(&g->c);
    pthread_mutex_unlock(&g->m);
}

void load_pause(struct load *l)
{
    l_add(l->pauses, 1);
    l_gate_pause(&l->gate, l->o.name);
}

void load_resume(struct load *l) { l_gate_resume(&l->gate); }

/* ---- threads ---- */

static void *thread_main(void *arg)
{
    struct l_thread *me = arg;
    struct load *l = me->l;

    l_me = me;
    if (me->takes_over)
        CHECK_EQ(pthread_join(me->before, NULL), 0);
    if (me->place != NULL)
        CHECK_EQ(gt_acquirep(me->place->p), 0);   /* the thread before us let it go by its end */
    while (!atomic_load(&l->stop)) {
        l_gate_pass(&l->gate);
        me->turn(me);
        if (l->o.threads_come_and_go && rng_below(&me->rng, 3000) == 0) {
            me->before = pthread_self();
            me->takes_over = 1;
            l_add(l->threads_made, 1);
            CHECK_EQ(pthread_create(&me->self, NULL, thread_main, me), 0);
            return NULL;
        }
    }
    l_gate_sleep(&l->gate);
    return NULL;
}

static struct l_thread *add_thread(struct load *l, void (*turn)(struct l_thread *), struct l_place *place)
{
    struct l_thread *t = &l->thread[l->threads];

    CHECK_LT(l->threads, L_THREADS);
    t->l = l;
    t->turn = turn;
    t->place = place;
    t->event = -1;
    t->stream = (uint64_t)l->threads++;
    t->rng = load_seed ^ ((t->stream + 1) * 0x9e3779b97f4a7c15u) ^ (uint64_t)(l->o.name[0] * 77 + l->o.name[1]);
    return t;
}

static void add_loops(struct load *l, int n, enum l_kind kind)
{
    for (int i = 0; i < n; i++) {
        struct l_place *pl = &l->place[l->places++];

        CHECK_LE(l->places, L_PLACES);
        CHECK_EQ(pthread_rwlock_init(&pl->lock, NULL), 0);
        pl->kind = kind;
        while ((pl->p = gt_p_new(l->s)) == NULL)
            CHECK(l->o.enomem && gt_last_error() == GT_ENOMEM);
        l_add(l->ps_made, 1);
        if (kind == L_NOBODY)
            continue;
        if (kind == L_POLLER) {
            struct l_thread *t = add_thread(l, l_turn_loop, pl);

            t->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
            CHECK_GE(t->event, 0);
        } else {
            add_thread(l, l_turn_loop, pl);
        }
    }
}

void load_start(struct load *l, const struct load_options *o)
{
    gt_config cfg;
    uint64_t rng = load_seed;

    memset(l, 0, sizeof *l);
    memset(&cfg, 0, sizeof cfg);
    l->o = *o;
    if (l->o.overdue_limit == 0)
        l->o.overdue_limit = l_patience();
    cfg.size = sizeof cfg;
    cfg.clock = o->clock;
    cfg.host = o->host;
    while ((l->s = gt_sched_new(&cfg)) == NULL)
        CHECK(o->enomem && gt_last_error() == GT_ENOMEM);
    l->base = gt_nanotime(l->s);
    pthread_mutex_init(&l->gate.m, NULL);
    pthread_cond_init(&l->gate.c, NULL);
    add_loops(l, o->spinners, L_SPINNER);
    add_loops(l, o->sleepers, L_SLEEPER);
    add_loops(l, o->pollers, L_POLLER);
    add_loops(l, o->nobodys, L_NOBODY);
    CHECK(o->nobodys == 0 || o->thieves > 0);
    for (int i = 0; i < o->thieves; i++)
        add_thread(l, l_turn_thief, NULL);
    for (int i = 0; i < o->mutators; i++)
        add_thread(l, l_turn_mutator, NULL);
    if (o->clock == GT_CLOCK_VIRTUAL)
        add_thread(l, l_turn_driver, NULL);
    l->slot = calloc((size_t)o->slots, sizeof *l->slot);
    CHECK(l->slot != NULL);
    for (int i = 0; i < o->slots; i++)
        l_make(l, &l->slot[i], &rng);
    l->gate.running = l->threads;
    l_add(l->threads_made, l->threads);
    atomic_store(&l->gate.paused, 1);   /* a thread that hands over writes .self itself: not yet */
    for (int i = 0; i < l->threads; i++)
        CHECK_EQ(pthread_create(&l->thread[i].self, NULL, thread_main, &l->thread[i]), 0);
    load_resume(l);
}

/* ---- books ---- */

struct sums {
    int64_t armings, stopped, replaced, fired, ticks;
};

static struct sums sum_up(struct load *l)
{
    struct sums s = {0};

    for (int i = 0; i < l->o.slots; i++) {
        struct l_slot *sl = &l->slot[i];

        s.armings += sl->armings;
        s.stopped += sl->stopped;
        s.replaced += sl->replaced;
        s.fired += l_get(sl->fired);
        s.ticks += l_get(sl->ticks);
    }
    return s;
}

static void check_slot(struct load *l, struct l_slot *sl, int64_t now)
{
    int64_t pending = sl->armings - sl->stopped - sl->replaced - l_get(sl->fired), when;

    for (int i = 0; i < L_GENERATIONS; i++)
        CHECK_EQ(atomic_load(&sl->running[i]), 0);
    if (atomic_load(&sl->detached) > 0)
        return;
    if (sl->t == NULL) {
        CHECK_EQ(pending, 0);
        return;
    }
    when = gt_timer_when(sl->t);
    CHECK_GE(when, 0);
    if (pending != (when != 0))
        test_failed(__FILE__, __LINE__,
                    "%s: an arming went astray: armed %lld, stopped %lld, replaced %lld, fired %lld, but "
                    "gt_timer_when is %lld", l->o.name, (long long)sl->armings, (long long)sl->stopped,
                    (long long)sl->replaced, (long long)l_get(sl->fired), (long long)when);
    if (when == 0 || when == GT_MAX_WHEN)
        return;
    if (when < sl->armed_at)
        when = sl->armed_at;             /* armed for the past */
    if (now - when > l->o.overdue_limit)
        test_failed(__FILE__, __LINE__, "%s: lost: a timer is overdue by %lld ms and has not fired",
                    l->o.name, (long long)((now - when) / L_MS));
}

void load_check(struct load *l)
{
    struct sums s = sum_up(l);
    gt_stats st = get_stats(l->s);
    int64_t now = gt_nanotime(l->s), overdue = gt_overdue(l->s, now);

    CHECK_EQ(st.early, 0);
    check_conserved(l->s);
    CHECK_EQ(st.armed, s.armings);
    CHECK_EQ(st.stopped, s.stopped);
    CHECK_EQ(st.replaced, s.replaced);
    CHECK_EQ(st.fired, s.fired);
    CHECK_EQ(st.ticks, s.ticks);
    CHECK_EQ(st.pending, s.armings - s.stopped - s.replaced - s.fired);
    for (int i = 0; i < l->o.slots; i++)
        check_slot(l, &l->slot[i], now);
    for (int i = 0; i < l->places; i++) {
        gt_p *p = l->place[i].p;
        int64_t all = gt_p_num_timers(p), dead = gt_p_deleted_timers(p);

        CHECK_EQ(gt_verify_timer_heap(p), 0);
        CHECK(all >= dead);
        CHECK_LE(dead, all / 4 + all / 64 + 64);
    }
    if (overdue > l->o.overdue_limit && now - overdue > l->base)
        test_failed(__FILE__, __LINE__, "%s: lost: a deadline is overdue by %lld ms", l->o.name,
                    (long long)(overdue / L_MS));
}

/* Nobody is bound to anything any more, and no callback is under way: whoever waits for one does
 * not wait. (Whose contexts are its own, may have green threads that go on: then callbacks stay under
 * way.) What a lost thread was working on is left alone. */
static void nothing_is_left_of_the_others(struct load *l)
{
    int own_contexts = l->o.host != NULL && l->o.host->current_context != NULL;

    for (int i = 0; i < l->places; i++) {
        if (l->place[i].p == NULL)
            continue;
        CHECK_EQ(gt_acquirep(l->place[i].p), 0);
        CHECK_PTR_EQ(gt_releasep(), l->place[i].p);
    }
    for (int i = 0; i < l->o.slots; i++) {
        struct l_slot *sl = &l->slot[i];

        if (atomic_load(&sl->busy) || sl->t == NULL)
            continue;
        CHECK_GE(own_contexts ? gt_deltimer(sl->t) : gt_deltimer_sync(sl->t), 0);
        CHECK_EQ(gt_timer_free(sl->t), 0);
        sl->t = NULL;
    }
}

/* Where a lost thread was replacing the P, it may have freed it already: that handle is no good any
 * more. Its timers are those of another P then, or of the new one that nobody here knows. */
static void forget_what_was_being_replaced(struct load *l)
{
    for (int i = 0; i < l->places; i++)
        if (pthread_rwlock_tryrdlock(&l->place[i].lock) != 0)
            l->place[i].p = NULL;
}

void load_check_child(struct load *l)
{
    gt_stats st;
    int64_t now;

    if (!planted("no_after_fork"))
        CHECK_EQ(gt_after_fork(), 0);
    forget_what_was_being_replaced(l);
    for (int i = 0; i < l->places; i++)
        if (l->place[i].p != NULL)
            CHECK_EQ(gt_verify_timer_heap(l->place[i].p), 0);
    now = gt_nanotime(l->s);
    if (l->o.clock == GT_CLOCK_VIRTUAL) {
        now += 2 * l->o.spread;
        CHECK_EQ(gt_sched_set_time(l->s, now), 0);
    }
    atomic_store(&l->gate.paused, 2);   /* callbacks only count */
    for (int i = 0; i < l->places; i++) {
        int64_t until = 1, rnow;

        if (l->place[i].p == NULL)
            continue;
        while (until != 0 && until <= now)
            CHECK_GE(gt_check_timers(l->place[i].p, now, &rnow, &until), 0);
        CHECK_EQ(gt_verify_timer_heap(l->place[i].p), 0);
    }
    while (gt_check_others(l->s, NULL, now, NULL, NULL) == 1) {}
    CHECK_GT(gt_time_sleep_until(l->s), now);
    nothing_is_left_of_the_others(l);
    st = get_stats(l->s);
    CHECK_EQ(st.early, 0);
    check_conserved(l->s);
}

/* ---- the end ---- */

static void join_all(struct load *l)
{
    for (int i = 0; i < l->threads; i++) {
        struct l_thread *t = &l->thread[i];

        CHECK_EQ(pthread_join(t->self, NULL), 0);
        if (t->event >= 0)
            close(t->event);
    }
}

/* A load that has hardly begun (the machine stood still) has shown nothing. */
static void wait_for_firings(struct load *l)
{
    int64_t limit = mono_now() + 2 * l_patience();

    while (get_stats(l->s).fired < 300) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "%s: %llu timers have fired, and no more do", l->o.name,
                        (unsigned long long)get_stats(l->s).fired);
        sleep_ms(1);
    }
}

void load_end(struct load *l)
{
    wait_for_firings(l);
    load_pause(l);
    load_check(l);
    atomic_store(&l->stop, 1);
    load_resume(l);
    /* Sleepers are outside the gate; whoever is inside leaves it now. */
    for (int rounds = 0;; rounds++) {
        int left;

        l_wake_loops(l);
        sleep_ms(1);
        pthread_mutex_lock(&l->gate.m);
        left = l->gate.running;
        pthread_mutex_unlock(&l->gate.m);
        if (left == 0)
            break;
        CHECK_LT(rounds, 60000 * (int)test_slow());
    }
    l_wake_loops(l);
    join_all(l);
    load_check(l);
    for (int i = 0; i < l->o.slots; i++) {
        struct l_slot *sl = &l->slot[i];

        if (sl->t == NULL)
            continue;
        if (i % 2 == 0)
            sl->stopped += gt_deltimer_sync(sl->t) == 1;
        sl->stopped += gt_timer_free(sl->t) == 1;
        sl->t = NULL;
    }
    load_check(l);
    for (int i = 0; i < l->places; i++) {
        int r;

        while ((r = gt_p_free(l->place[i].p)) == GT_ENOMEM && l->o.enomem) {}
        CHECK_EQ(r, 0);
        pthread_rwlock_destroy(&l->place[i].lock);
    }
    close_sched(l->s);
    CHECK_EQ(l_get(l->recs), 0);
    free(l->slot);
}
