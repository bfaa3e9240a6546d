/* ploop_order.c: order. Each P has one owner and no thieves, the clock is virtual, and while
 * timers are due nobody works on them: then the calls of one P must come exactly in order of
 * their deadlines, with the exact delay. Other threads re-arm and stop timers all the time, but
 * only such as are not due. */
#include "ploop.h"

enum { WINDOW = 100000, MAX_MUT = 8 };

enum kind { ONCE, TICKER };

struct item {
    struct order *w;
    gt_timer *t;
    enum kind kind;
    int64_t when, period;   /* plain: written before the arming */
    int armed;
    int near;               /* will be due in this round */
    atomic_int called;      /* in this round */
};

/* A P loop or a mutator. */
struct member {
    struct order *w;
    int index;
    pthread_t thread;
    _Atomic uint64_t passes;   /* a loop's, ended */
};

struct order {
    gt_sched *s;
    struct member loop[PL_MAX_LOOPS], mutator[MAX_MUT];
    int loops, mutators, n;
    gt_p *p[PL_MAX_LOOPS];
    struct item *items;
    pthread_barrier_t gate;
    int64_t now;            /* where the round starts */
    atomic_int round;       /* odd: the clock moves, calls are due; even: nothing is due */
    atomic_int stop, over;
    _Atomic uint64_t due, fired, ticks;
};

static _Thread_local int64_t last_at;
static _Thread_local int last_round;

static void ordered(void *arg, uintptr_t seq, int64_t delay)
{
    struct item *it = arg;
    struct order *w = it->w;
    int64_t at = pl_pass_now - delay;
    int round = atomic_load(&w->round);

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_EQ(round & 1, 1);
    if (round != last_round) {
        last_round = round;
        last_at = 0;
    }
    if (at < last_at)
        test_failed(__FILE__, __LINE__, "out of order: %lld is called after %lld",
                    (long long)(at - w->now), (long long)(last_at - w->now));
    last_at = at;
    if (it->kind == TICKER) {
        CHECK_GE(at, it->when);
        CHECK_EQ((at - it->when) % it->period, 0);
        pl_add(w->ticks, 1);
        return;
    }
    CHECK_EQ(at, it->when);
    CHECK(it->near);
    CHECK_EQ(atomic_fetch_add(&it->called, 1), 0);
    pl_add(w->fired, 1);
}

static void *order_loop(void *arg)
{
    struct member *m = arg;
    struct order *w = m->w;
    gt_p *p = w->p[m->index];
    int64_t rnow, until;

    CHECK_EQ(gt_acquirep(p), 0);
    while (!atomic_load(&w->over)) {
        pl_pass_now = gt_nanotime(w->s);
        if (gt_check_timers(p, pl_pass_now, &rnow, &until) == 0)
            sched_yield();
        CHECK_EQ(rnow, pl_pass_now);
        atomic_fetch_add(&m->passes, 1);
    }
    return NULL;   /* bound: the end of the thread releases the P */
}

/* Arms an item, in one of the ways that are legal now. */
static void order_arm(struct order *w, struct item *it, int64_t when)
{
    gt_p *p = w->p[pl_below((uint64_t)w->loops)];
    int r, was = it->armed;

    it->when = when;
    it->period = it->kind == TICKER ? 1 + (int64_t)pl_below(WINDOW) : 0;
    if (!was && pl_one_in(2)) {
        r = gt_addtimer_on(p, it->t, when, it->period);
    } else if (pl_one_in(2)) {
        r = gt_modtimer_on(p, it->t, when, it->period, ordered, it, 0);
    } else {
        r = gt_resettimer_on(p, it->t, when, it->period);
    }
    CHECK_EQ(r, was);
    it->armed = 1;
}

static void order_stop(struct item *it)
{
    CHECK_EQ(gt_deltimer(it->t), it->armed);
    it->armed = 0;
}

static int64_t far_when(struct order *w) { return w->now + 100 * WINDOW + (int64_t)pl_below(100 * WINDOW); }

/* Nothing is due: anything may be done to any timer, with no deadline that has passed. */
static void shuffle(struct order *w, int me)
{
    for (int i = me; i < w->n; i += w->mutators) {
        struct item *it = &w->items[i];

        if (atomic_exchange(&it->called, 0)) {
            CHECK(it->near);
            it->armed = 0;
        }
        it->near = 0;
        for (uint64_t k = pl_below(4); k > 0; k--) {
            if (pl_one_in(4)) {
                order_stop(it);
            } else {
                order_arm(w, it, w->now + 1 + (int64_t)pl_below(2 * WINDOW));
            }
        }
        /* The last word: due in this round, far away, or stopped. */
        if (pl_one_in(2)) {
            it->near = it->kind == ONCE;
            order_arm(w, it, w->now + 1 + (int64_t)pl_below(WINDOW));
            pl_add(w->due, (uint64_t)it->near);
        } else if (pl_one_in(8)) {
            order_stop(it);
        } else {
            order_arm(w, it, far_when(w));
        }
    }
}

/* Others are due: works on what is not. */
static void disturb(struct order *w, int me)
{
    for (int i = me; i < w->n && !atomic_load(&w->stop); i += w->mutators) {
        struct item *it = &w->items[i];

        if (it->near || (it->kind == TICKER && it->armed))
            continue;
        if (pl_one_in(4) || it->kind == TICKER)
            order_stop(it);
        else
            order_arm(w, it, far_when(w));
    }
}

static void *order_mutator(void *arg)
{
    struct member *m = arg;
    struct order *w = m->w;

    pl_rng_start(2000 + (uint64_t)m->index);
    for (;;) {
        pthread_barrier_wait(&w->gate);   /* the round starts */
        if (atomic_load(&w->over))
            return NULL;
        shuffle(w, m->index);
        pthread_barrier_wait(&w->gate);   /* the clock starts to move */
        while (!atomic_load(&w->stop)) {
            disturb(w, m->index);
            sched_yield();
        }
        pthread_barrier_wait(&w->gate);   /* all that was due has fired */
    }
}

static void order_round(struct order *w)
{
    int64_t limit = mono_now() + pl_limit_ns(60 * PL_SEC), to = w->now + WINDOW, now = w->now;
    int steps = 1 + (int)pl_below(8);

    pl_set(w->due, 0);
    pl_set(w->fired, 0);
    atomic_store(&w->stop, 0);
    pthread_barrier_wait(&w->gate);
    pthread_barrier_wait(&w->gate);
    atomic_fetch_add(&w->round, 1);
    for (; steps > 0; steps--) {
        now += steps == 1 ? to - now : (int64_t)pl_below((uint64_t)(to - now));
        CHECK_EQ(gt_sched_set_time(w->s, now), 0);
        if (pl_one_in(2))
            sched_yield();
    }
    while (pl_get(w->fired) != pl_get(w->due)) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "lost: %llu timers were due, %llu have fired",
                        (unsigned long long)pl_get(w->due), (unsigned long long)pl_get(w->fired));
        sched_yield();
    }
    /* Two more ends of a pass on each P: then a whole pass has seen the last now, so that no
     * ticker is due either, and no call is under way. */
    for (int i = 0; i < w->loops; i++) {
        uint64_t from = atomic_load(&w->loop[i].passes);

        while (atomic_load(&w->loop[i].passes) < from + 2) {
            CHECK_LT(mono_now(), limit);
            sched_yield();
        }
    }
    CHECK_EQ(gt_overdue(w->s, 0), 0);
    atomic_fetch_add(&w->round, 1);
    atomic_store(&w->stop, 1);
    pthread_barrier_wait(&w->gate);
    w->now = to;
}

static void order_test(int loops, int mutators)
{
    static struct order world;
    struct order *w = &world;
    int64_t end = mono_now() + pl_run_ns();
    uint64_t fired = 0;

    pl_rng_start(999999);
    w->s = virtual_sched();
    w->loops = loops;
    w->mutators = mutators;
    w->n = pl_scaled(3000, 100);
    w->now = gt_nanotime(w->s);
    w->items = calloc((size_t)w->n, sizeof *w->items);
    CHECK(w->items != NULL);
    CHECK_EQ(pthread_barrier_init(&w->gate, NULL, (unsigned)mutators + 1), 0);
    for (int i = 0; i < loops; i++)
        CHECK((w->p[i] = gt_p_new(w->s)) != NULL);
    for (int i = 0; i < w->n; i++) {
        w->items[i].w = w;
        w->items[i].kind = i % 16 == 5 ? TICKER : ONCE;
        CHECK((w->items[i].t = gt_timer_new(w->s, ordered, &w->items[i], NULL)) != NULL);
    }
    for (int i = 0; i < loops + mutators; i++) {
        struct member *m = i < loops ? &w->loop[i] : &w->mutator[i - loops];

        m->w = w;
        m->index = i < loops ? i : i - loops;
        m->thread = pl_start(i < loops ? order_loop : order_mutator, m);
    }
    while (mono_now() < end) {
        order_round(w);
        fired += pl_get(w->fired);
    }
    atomic_store(&w->over, 1);
    pthread_barrier_wait(&w->gate);
    for (int i = 0; i < loops; i++)
        pl_join(w->loop[i].thread);
    for (int i = 0; i < mutators; i++)
        pl_join(w->mutator[i].thread);
    check_conserved(w->s);
    CHECK_EQ(get_stats(w->s).fired, fired);
    CHECK_EQ(get_stats(w->s).ticks, pl_get(w->ticks));
    CHECK_EQ(get_stats(w->s).steals, 0);
    printf("%d rounds, %llu fired, %llu ticks\n", pl_get(w->round) / 2, (unsigned long long)fired,
           (unsigned long long)pl_get(w->ticks));
    for (int i = 0; i < w->n; i++)
        CHECK_GE(gt_timer_free(w->items[i].t), 0);
    for (int i = 0; i < loops; i++)
        CHECK_EQ(gt_p_free(w->p[i]), 0);
    close_sched(w->s);
    pthread_barrier_destroy(&w->gate);
    free(w->items);
}

PLOOP_TEST(ploop_order_2p) { order_test(2, 2); }
PLOOP_TEST(ploop_order_4p) { order_test(4, 4); }
PLOOP_TEST(ploop_order_8p) { order_test(8, 8); }

/* ---- armings made in a pass for a time that is past (S10) ---- */

enum { PLAIN = 200, SELFISH = 20, PAIRS = 20, ALL = PLAIN + SELFISH + 2 * PAIRS };

struct selfish {
    struct private *own;
    gt_timer *t;
    int64_t when;           /* of a plain one */
    uint64_t armed_in;      /* the pass that a selfish or a pushed one was armed in */
    int pending;
    struct selfish *other;  /* whom a pusher pushes */
};

/* A P loop and its timers, which only its own thread arms. */
struct private {
    gt_sched *s;
    pthread_t thread;
    int index;
    atomic_int *over;
    uint64_t pass, calls, total;
    int64_t last_at;        /* of the plain ones, in this pass */
    struct selfish all[ALL], *plain, *selfish, *pusher, *pushed;
};

static void plain_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct selfish *x = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_EQ(pl_pass_now - delay, x->when);
    CHECK_GE(x->when, x->own->last_at);
    CHECK(x->pending);
    x->pending = 0;
    x->own->last_at = x->when;
    x->own->calls++;
}

static void selfish_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct selfish *x = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_LT(x->armed_in, x->own->pass);   /* by a later pass */
    x->armed_in = x->own->pass;
    x->own->calls++;
    CHECK_EQ(gt_resettimer(x->t, pl_pass_now - (int64_t)pl_below(3), 0), 0);
}

/* Two that are due in the same pass, one just before the other: the first arms the second
 * again, for now. So that one waits for the next pass, though it stands in the heap and is due. */
static void push_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct selfish *x = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_EQ(pl_pass_now - delay, x->when);
    x->own->calls++;
    x->pending = 0;
    if (x->other == NULL) {
        CHECK_LT(x->armed_in, x->own->pass);
        return;
    }
    CHECK_EQ(x->other->pending, 1);
    x->other->when = pl_pass_now - (int64_t)pl_below(5);
    x->other->armed_in = x->own->pass;
    CHECK_EQ(gt_resettimer(x->other->t, x->other->when, 0), 1);
}

static void arm_pair(struct private *o, int i)
{
    struct selfish *a = &o->pusher[i], *b = &o->pushed[i];

    if (a->pending || b->pending)
        return;
    a->when = gt_nanotime(o->s) + (int64_t)pl_below(1000);
    b->when = a->when + 1 + (int64_t)pl_below(2);
    b->armed_in = 0;
    a->pending = b->pending = 1;
    CHECK_EQ(gt_resettimer(a->t, a->when, 0), 0);
    CHECK_EQ(gt_resettimer(b->t, b->when, 0), 0);
}

static void *private_loop(void *arg)
{
    struct private *o = arg;
    gt_p *p = gt_p_new(o->s);
    int64_t now = gt_nanotime(o->s), rnow, until;

    pl_rng_start(3000 + (uint64_t)o->index);
    CHECK(p != NULL);
    CHECK_EQ(gt_acquirep(p), 0);
    o->plain = o->all;
    o->selfish = o->plain + PLAIN;
    o->pusher = o->selfish + SELFISH;
    o->pushed = o->pusher + PAIRS;
    for (int i = 0; i < ALL; i++) {
        struct selfish *x = &o->all[i];

        x->own = o;
        x->t = gt_timer_new(o->s, x < o->selfish ? plain_fire : x < o->pusher ? selfish_fire : push_fire, x, NULL);
        CHECK(x->t != NULL);
        if (x >= o->selfish && x < o->pusher)
            CHECK_EQ(gt_addtimer(x->t, now + 1, 0), 0);
        if (x >= o->pusher && x < o->pushed)
            x->other = x + PAIRS;
    }
    while (!atomic_load(o->over)) {
        int64_t held;
        int ran;

        for (int i = 0; i < PLAIN; i++) {
            struct selfish *x = &o->plain[i];

            if (x->pending ? pl_one_in(8) : pl_one_in(4)) {
                int64_t when = gt_nanotime(o->s) + (int64_t)pl_below(3000);

                x->when = when;
                CHECK_EQ(gt_resettimer(x->t, when, 0), x->pending);
                x->pending = 1;
            }
        }
        for (int i = 0; i < PAIRS; i++)
            arm_pair(o, i);
        o->pass++;
        o->calls = 0;
        o->last_at = 0;
        held = gt_p_num_timers(p);
        pl_pass_now = gt_nanotime(o->s);
        ran = gt_check_timers(p, pl_pass_now, &rnow, &until);
        CHECK_EQ(rnow, pl_pass_now);
        CHECK_EQ(ran, o->calls > 0);
        CHECK_LE(o->calls, held);
        /* Nobody is starved: one pass has run all that was due, the selfish ones too. */
        for (int i = 0; i < PLAIN; i++)
            CHECK(!o->plain[i].pending || o->plain[i].when > pl_pass_now);
        for (int i = 0; i < 2 * PAIRS; i++) {
            struct selfish *x = &o->pusher[i];

            CHECK(!x->pending || x->when > pl_pass_now || x->armed_in == o->pass);
        }
        for (int i = 0; i < SELFISH; i++)
            CHECK(o->selfish[i].armed_in == o->pass || pl_pass_now <= now);
        if (pl_pass_now > now)
            CHECK(until != 0 && until <= pl_pass_now);   /* the selfish ones want to go on */
        o->total += o->calls;
    }
    for (int i = 0; i < ALL; i++) {
        struct selfish *x = &o->all[i];

        CHECK_EQ(gt_timer_free(x->t), x->pending || (x >= o->selfish && x < o->pusher));
    }
    CHECK_EQ(gt_p_free(p), 0);
    return NULL;
}

PLOOP_TEST(ploop_order_rearm_for_now)
{
    static struct private own[4];
    int64_t end = mono_now() + pl_run_ns() / 2;
    gt_sched *s = virtual_sched();
    int64_t now = gt_nanotime(s);
    atomic_int over = 0;

    pl_rng_start(999999);
    for (int i = 0; i < 4; i++) {
        own[i].s = s;
        own[i].index = i;
        own[i].over = &over;
        own[i].thread = pl_start(private_loop, &own[i]);
    }
    while (mono_now() < end) {
        now += (int64_t)pl_below(500);
        CHECK_EQ(gt_sched_set_time(s, now), 0);
        sched_yield();
    }
    atomic_store(&over, 1);
    for (int i = 0; i < 4; i++) {
        pl_join(own[i].thread);
        printf("%llu passes, %llu calls\n", (unsigned long long)own[i].pass, (unsigned long long)own[i].total);
    }
    check_conserved(s);
    close_sched(s);
}
