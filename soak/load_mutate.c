/* What the load's mutators do to its timers, and what the timers call. See load.h. */
#include "load.h"

#include <time.h>

#define MAGIC 0x6c6f6164u

/* ---- slots and records ---- */

static int take(struct l_slot *sl)
{
    int free_ = 0;

    return atomic_compare_exchange_strong_explicit(&sl->busy, &free_, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void let_go(struct l_slot *sl) { atomic_store_explicit(&sl->busy, 0, memory_order_release); }

static void drop(void *arg)
{
    struct l_rec *r = arg;

    CHECK_EQ(r->magic, MAGIC);
    if (l_get(r->detached))
        l_add(r->slot->detached, -1);
    l_add(r->l->recs, -1);
    r->magic = 0;
    free(r);
}

static struct l_rec *new_rec(struct load *l, struct l_slot *sl)
{
    struct l_rec *r = malloc(sizeof *r);

    CHECK(r != NULL);
    r->magic = MAGIC;
    r->l = l;
    r->slot = sl;
    for (int i = 0; i < L_ENTRIES; i++)
        r->when[i] = GT_MAX_WHEN;
    r->detached = 0;
    r->generation = sl->generation;
    l_add(l->recs, 1);
    return r;
}

/* The library refused a call: that must be for want of memory, where there is such a want. */
static void must_be_refusal(struct load *l, int r)
{
    if (r != GT_ENOMEM || !l->o.enomem)
        test_failed(__FILE__, __LINE__, "%s: a call gave %s", l->o.name, gt_strerror(r));
    l_add(l->refused, 1);
}

void l_make(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    struct l_rec *r;

    sl->generation++;
    r = new_rec(l, sl);
    while ((sl->t = gt_timer_new(l->s, l_fire, r, drop)) == NULL)
        must_be_refusal(l, gt_last_error());
    sl->id = gt_timer_id(sl->t);
    CHECK_NE(sl->id, 0);
    sl->rec = r;
    sl->entry = 0;
    sl->used = 1;
    sl->periodic = rng_below(rng, 8) == 0;
    sl->when = 0;
}

/* ---- the callback ---- */

static void act(struct load *l, struct l_slot *sl, struct l_rec *r)
{
    if (!take(sl))
        return;
    if (sl->rec == r && sl->t != NULL) {
        int64_t now = gt_nanotime(l->s);
        int got;

        l_add(l->self_acts, 1);
        if ((now >> 4) % 4 == 0) {
            got = gt_timer_free(sl->t);
            CHECK(got == 0 || got == 1);
            sl->stopped += got;
            CHECK_EQ(gt_resettimer(sl->t, now, 0), GT_ESTALE);   /* in its own callback */
            sl->t = NULL;
            sl->rec = NULL;
        } else {
            if (now < atomic_load(&r->when[sl->entry]))
                atomic_store(&r->when[sl->entry], now);
            got = gt_resettimer(sl->t, now + l->o.spread / 2, sl->periodic ? l->o.spread : 0);
            if (got < 0) {
                must_be_refusal(l, got);
            } else {
                sl->armings++;
                sl->replaced += got;
                sl->when = now + l->o.spread / 2;
                sl->armed_at = now;
            }
        }
    }
    let_go(sl);
}

void l_fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct l_rec *r = arg;
    struct load *l = r->l;
    struct l_slot *sl = r->slot;
    unsigned entry = (unsigned)(seq & 0xff);
    atomic_int *running = &sl->running[r->generation % L_GENERATIONS];
    int periodic = (seq >> 8) & 1;
    int64_t now = gt_nanotime(l->s), when, worst = l_get(l->late_max);

    CHECK_EQ(r->magic, MAGIC);
    CHECK_LT(entry, L_ENTRIES);
    l_add(*running, 1);
    when = atomic_load(&r->when[entry]);
    CHECK_GE(delay, 0);
    if (now < when)
        test_failed(__FILE__, __LINE__, "%s: early by %lld ns", l->o.name, (long long)(when - now));
    if (l->o.clock != GT_CLOCK_VIRTUAL && now - delay > l->base)   /* not armed for the past */
        while (delay > worst && !atomic_compare_exchange_weak(&l->late_max, &worst, delay)) {}
    if (periodic)
        l_add(sl->ticks, 1);
    else if (!is_forgotten("forget"))
        l_add(sl->fired, 1);
    if (l->o.callbacks_act && atomic_load(&l->gate.paused) != 2 && (now >> 6) % 8 == 0)
        act(l, sl, r);
    l_add(*running, -1);
    if (l->o.in_callback != NULL && atomic_load(&l->gate.paused) != 2)
        l->o.in_callback(l);
}

/* ---- arming ---- */

/* A deadline: near, just past, long past, equal to others', far or never. */
static int64_t some_when(struct load *l, uint64_t *rng)
{
    int64_t now = gt_nanotime(l->s), w;

    switch (rng_below(rng, 16)) {
    case 0: w = rng_below(rng, 4) == 0 ? 1 : now - (int64_t)rng_below(rng, 1000); break;
    case 1: w = now / l->o.spread * l->o.spread + l->o.spread; break;
    case 2: w = now + 3600 * L_SEC + (int64_t)rng_below(rng, 1000); break;
    case 3: w = rng_below(rng, 8) == 0 ? GT_MAX_WHEN : now + 60 * L_SEC; break;
    default: w = now + (int64_t)rng_below(rng, (uint64_t)l->o.spread); break;
    }
    return w > 0 ? w : 1;
}

static int64_t some_period(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    return sl->periodic ? l->o.spread / 4 + (int64_t)rng_below(rng, (uint64_t)l->o.spread) : 0;
}

/* The callback may not come before the earliest time that its entry was armed for. */
static void note_when(struct l_rec *r, unsigned entry, int64_t when)
{
    int64_t was = atomic_load(&r->when[entry]);

    if (when < was)
        atomic_store(&r->when[entry], when);
}

static void book(struct load *l, struct l_slot *sl, int r, int64_t when)
{
    if (r < 0) {
        must_be_refusal(l, r);
        return;
    }
    CHECK(r == 0 || r == 1);
    sl->armings++;
    sl->replaced += r;
    sl->when = when;
    sl->armed_at = gt_nanotime(l->s);
}

static void modify(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    int64_t when = some_when(l, rng), period;
    struct l_rec *rec = sl->rec;
    unsigned entry = sl->used;
    struct l_place *at = NULL;
    gt_p *p;
    uintptr_t seq;
    int was_periodic = sl->periodic, r;

    if (entry == L_ENTRIES || rng_below(rng, 16) == 0) {
        rec = new_rec(l, sl);
        entry = 0;
    }
    if (rng_below(rng, 16) == 0)
        sl->periodic = !sl->periodic;
    period = some_period(l, sl, rng);
    seq = entry | (uintptr_t)sl->periodic << 8;
    note_when(rec, entry, when);
    switch (rng_below(rng, 3)) {
    case 0:
        r = gt_modtimer(sl->t, when, period, l_fire, rec, seq);
        break;
    case 1:
        r = gt_modtimer_id(l->s, sl->id, when, period, l_fire, rec, seq);
        break;
    default:
        p = l_get_p(l, rng, &at);
        r = p != NULL ? gt_modtimer_on(p, sl->t, when, period, l_fire, rec, seq)
                      : gt_modtimer(sl->t, when, period, l_fire, rec, seq);
        l_put_p(at);
    }
    book(l, sl, r, when);
    if (r < 0) {
        sl->periodic = was_periodic;
        if (rec != sl->rec)
            drop(rec);
        else
            sl->used++;
        return;
    }
    sl->rec = rec;
    sl->entry = entry;
    sl->used = entry + 1;
}

static void reset(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    int64_t when = some_when(l, rng), period = some_period(l, sl, rng);
    struct l_place *at = NULL;
    gt_p *p;
    int r;

    if (sl->when == 0) {   /* its seq has not said yet what kind it is */
        modify(l, sl, rng);
        return;
    }
    note_when(sl->rec, sl->entry, when);
    switch (rng_below(rng, 3)) {
    case 0: r = gt_resettimer(sl->t, when, period); break;
    case 1: r = gt_resettimer_id(l->s, sl->id, when, period); break;
    default:
        p = l_get_p(l, rng, &at);
        r = p != NULL ? gt_resettimer_on(p, sl->t, when, period) : gt_resettimer(sl->t, when, period);
        l_put_p(at);
    }
    book(l, sl, r, when);
}

static void add(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    int64_t when = some_when(l, rng), period = some_period(l, sl, rng);
    struct l_place *at = NULL;
    gt_p *p;
    int r;

    if (sl->when == 0) {
        modify(l, sl, rng);
        return;
    }
    note_when(sl->rec, sl->entry, when);
    switch (rng_below(rng, 3)) {
    case 0: r = gt_addtimer(sl->t, when, period); break;
    case 1: r = gt_addtimer_id(l->s, sl->id, when, period); break;
    default:
        p = l_get_p(l, rng, &at);
        r = p != NULL ? gt_addtimer_on(p, sl->t, when, period) : gt_addtimer(sl->t, when, period);
        l_put_p(at);
    }
    if (r != GT_EALREADY)
        book(l, sl, r, when);
}

/* ---- stopping ---- */

static void stop(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    int r;

    switch (rng_below(rng, 6)) {
    case 0: r = gt_deltimer_id(l->s, sl->id); break;
    case 1:
    case 2:
        r = rng_below(rng, 2) ? gt_deltimer_sync(sl->t) : gt_deltimer_sync_id(l->s, sl->id);
        CHECK_EQ(atomic_load(&sl->running[sl->generation % L_GENERATIONS]), 0);
        CHECK_EQ(gt_timer_when(sl->t), 0);
        break;
    default: r = gt_deltimer(sl->t); break;
    }
    CHECK(r == 0 || r == 1);
    sl->stopped += r;
}

static void give_up(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    int r;

    switch (rng_below(rng, 5)) {
    case 0:
        r = gt_shutdown_timer(sl->t);
        CHECK_EQ(gt_resettimer(sl->t, 1, 0), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_free(sl->t), 0);
        break;
    case 1: r = gt_timer_free_id(l->s, sl->id); break;
    case 2:
        if (!sl->periodic && sl->when < gt_nanotime(l->s) + 2 * l->o.spread) {
            atomic_store(&sl->rec->detached, 1);
            l_add(sl->detached, 1);
            CHECK_EQ(gt_timer_detach(sl->t), 0);
            r = 0;
            break;
        }
        /* fall through */
    default: r = gt_timer_free(sl->t); break;
    }
    CHECK(r == 0 || r == 1);
    sl->stopped += r;
    sl->t = NULL;
    sl->rec = NULL;
}

static void ask(struct load *l, struct l_slot *sl, uint64_t *rng)
{
    char json[64];

    switch (rng_below(rng, 6)) {
    case 0: CHECK_GE(gt_timer_status(sl->t), 0); break;
    case 1: CHECK_GE(gt_timer_when(sl->t), 0); break;
    case 2: CHECK_GT(gt_time_sleep_until(l->s), 0); break;
    case 3: CHECK_GT(gt_stats_json(l->s, json, sizeof json), 0); break;
    case 4: CHECK_EQ(gt_timer_set_slack(sl->t, (int64_t)rng_below(rng, 2) * 4000), 0); break;
    default: CHECK_EQ(get_stats(l->s).early, 0); break;
    }
}

void l_turn_mutator(struct l_thread *me)
{
    struct load *l = me->l;
    struct l_slot *sl = &l->slot[rng_below(&me->rng, (uint64_t)l->o.slots)];

    l_add(l->ops, 1);
    if (!take(sl))
        return;
    if (sl->t == NULL)
        l_make(l, sl, &me->rng);
    switch (rng_below(&me->rng, 32)) {
    case 0:
    case 1:
    case 2:
    case 3: add(l, sl, &me->rng); break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8: stop(l, sl, &me->rng); break;
    case 9: give_up(l, sl, &me->rng); break;
    case 10: ask(l, sl, &me->rng); break;
    case 11:
    case 12:
    case 13:
    case 14:
    case 15:
    case 16:
    case 17: modify(l, sl, &me->rng); break;
    default: reset(l, sl, &me->rng); break;
    }
    let_go(sl);
    if (rng_below(&me->rng, 32) == 0) {
        struct timespec ts = {0, (long)rng_below(&me->rng, 400000)};

        nanosleep(&ts, NULL);
    }
}
