/* ploop_mutate.c: the random operations of the P loop tests. Each checks what it can know
 * about the result, and books it. */
#include "ploop.h"

/* Deadlines: now and before, near, not so near, and (if asked) so far that nothing gets there
 * before the end of the test. On the virtual clock a step of the driver is a few us. */
int64_t pl_some_when(struct pl_world *w, int far_too)
{
    int64_t now = gt_nanotime(w->s), us = w->virt ? PL_US : 100 * PL_US;

    switch (pl_below(far_too ? 16 : 13)) {
    case 0:
        return now;
    case 1:
        return now - (int64_t)pl_below(100);
    case 2:
    case 3:
        return now + (int64_t)pl_below((uint64_t)(500 * us)) + 1;
    case 13:
    case 14:
        return now + PL_HOUR + (int64_t)pl_below(1000);
    case 15:
        return GT_MAX_WHEN;
    default:
        return now + (int64_t)pl_below((uint64_t)(20 * us)) + 1;
    }
}

static int is_far(struct pl_world *w, int64_t when) { return when >= w->far_from; }

/* ---- class own ---- */

enum verb { ADD, MOD, RESET };

struct arming {
    enum verb verb;
    int64_t when, period;
    gt_func f;
    void *arg;
    uintptr_t seq;
};

/* One arming by one of the ways: by handle, by id, or with a P named. */
static int arm(struct pl_world *w, gt_timer *t, uint64_t id, const struct arming *a)
{
    struct pl_place *at = NULL;
    gt_p *p = pl_one_in(4) ? pl_place_get(w, &at) : NULL;
    int r, by_id = pl_one_in(3);

    switch (a->verb) {
    case ADD:
        r = p != NULL ? gt_addtimer_on(p, t, a->when, a->period)
            : by_id   ? gt_addtimer_id(w->s, id, a->when, a->period)
                      : gt_addtimer(t, a->when, a->period);
        break;
    case MOD:
        r = p != NULL ? gt_modtimer_on(p, t, a->when, a->period, a->f, a->arg, a->seq)
            : by_id   ? gt_modtimer_id(w->s, id, a->when, a->period, a->f, a->arg, a->seq)
                      : gt_modtimer(t, a->when, a->period, a->f, a->arg, a->seq);
        break;
    default:
        r = p != NULL ? gt_resettimer_on(p, t, a->when, a->period)
            : by_id   ? gt_resettimer_id(w->s, id, a->when, a->period)
                      : gt_resettimer(t, a->when, a->period);
    }
    pl_place_put(at);
    return r;
}

/* The old arming's end, as an operation that arms or stops has told it. */
static void own_ended(struct pl_world *w, struct pl_slot *sl, struct pl_book *b, uint32_t entry, int r)
{
    struct pl_arm *a = &b->arm[entry];

    CHECK(r == 0 || r == 1);
    if (r == 1) {
        CHECK(sl->armed);
        atomic_fetch_add(&a->ended, 1);
    } else if (sl->armed) {
        /* It was not pending any more: so it has fired, which these two cannot have. */
        CHECK_EQ(a->period, 0);
        CHECK(!is_far(w, sl->when));
    }
    sl->armed = 0;
}

static void own_new(struct pl_world *w, struct pl_slot *sl)
{
    struct pl_timer *m = calloc(1, sizeof *m);
    struct pl_rec *r;
    int status;

    CHECK(m != NULL);
    atomic_init(&m->refs, 1);
    pl_add(w->timers, 1);
    r = pl_rec_new(w, sl, m, 0);
    sl->t = gt_timer_new(w->s, pl_fire0, r, pl_drop);
    CHECK(sl->t != NULL);
    pl_add(w->handles, 1);
    sl->id = gt_timer_id(sl->t);
    CHECK(sl->id != 0);
    sl->timer = m;
    sl->rec = r;
    sl->book = r->book;
    sl->stamp = sl->entry = 0;
    sl->armed = 0;
    CHECK_EQ(gt_timer_when(sl->t), 0);
    status = gt_timer_status(sl->t);
    /* Locked for a moment by somebody with an old id of the same memory. */
    CHECK(status == GT_TIMER_REMOVED || status == GT_TIMER_LOCKED);
}

static void own_let_go(struct pl_world *w, struct pl_slot *sl)
{
    pl_book_put(w, sl->book);
    pl_timer_put(w, sl->timer);
    pl_add(w->handles, -1);
    sl->t = NULL;
}

static void own_free(struct pl_world *w, struct pl_slot *sl)
{
    int r = pl_one_in(3) ? gt_timer_free_id(w->s, sl->id) : gt_timer_free(sl->t);

    pl_tally_stopped(w, r);
    own_ended(w, sl, sl->book, sl->entry, r);
    CHECK_EQ(gt_deltimer_id(w->s, sl->id), GT_ESTALE);
    own_let_go(w, sl);
}

/* A new seq, in a new arg when the record is full and now and then. */
static void own_modtimer(struct pl_world *w, struct pl_slot *sl)
{
    struct pl_book *old = sl->book, *b = old;
    struct pl_rec *rec = sl->rec;
    uint32_t was = sl->entry, entry = old->used, stamp = sl->stamp;
    int periodic = pl_one_in(8), which = (int)pl_below(2), r;
    struct arming a;

    if (entry == PL_ARMS || pl_one_in(6)) {
        stamp = 1 + (uint32_t)pl_below(0xffffff);
        rec = pl_rec_new(w, sl, sl->timer, stamp);
        b = rec->book;
        entry = 0;
    } else {
        old->used++;
    }
    a.verb = MOD;
    a.when = pl_some_when(w, 1);
    a.period = periodic ? (int64_t)pl_below((uint64_t)(100 * PL_US)) + 5 * PL_US : 0;
    a.f = which ? pl_fire1 : pl_fire0;
    a.arg = rec;
    a.seq = pl_seq(stamp, entry, periodic, which);
    b->arm[entry].period = a.period;
    b->arm[entry].single = !periodic && pl_one_in(2);
    pl_book_arm(b, entry, a.when);
    r = arm(w, sl->t, sl->id, &a);
    pl_tally_armed(w, r);
    own_ended(w, sl, old, was, r);
    if (b != old)
        pl_book_put(w, old);
    sl->book = b;
    sl->rec = rec;
    sl->stamp = stamp;
    sl->entry = entry;
    sl->armed = 1;
    sl->when = a.when;
}

/* addtimer and resettimer keep f, arg and seq, so they share the book entry of the last
 * modtimer; when that has no room they give way to a modtimer. */
static void own_arm_again(struct pl_world *w, struct pl_slot *sl, enum verb verb)
{
    struct pl_arm *e = &sl->book->arm[sl->entry];
    struct arming a = {verb, pl_some_when(w, 1), e->period, NULL, NULL, 0};
    int r;

    if (e->single || pl_get(e->whens) == PL_WHENS) {
        own_modtimer(w, sl);
        return;
    }
    pl_book_arm(sl->book, sl->entry, a.when);
    r = arm(w, sl->t, sl->id, &a);
    if (r == GT_EALREADY) {
        CHECK(verb == ADD && sl->armed);
        pl_book_unarm(sl->book, sl->entry);
        return;
    }
    pl_tally_armed(w, r);
    CHECK(verb == RESET || r == 0);
    own_ended(w, sl, sl->book, sl->entry, r);
    sl->armed = 1;
    sl->when = a.when;
}

static void own_deltimer(struct pl_world *w, struct pl_slot *sl)
{
    int r = pl_one_in(3) ? gt_deltimer_id(w->s, sl->id) : gt_deltimer(sl->t);

    pl_tally_stopped(w, r);
    own_ended(w, sl, sl->book, sl->entry, r);
}

/* After it nothing of this timer runs, and nothing will until it is armed again; and what its
 * callbacks wrote can be read without further ado. */
static void own_deltimer_sync(struct pl_world *w, struct pl_slot *sl)
{
    int r = pl_one_in(3) ? gt_deltimer_sync_id(w->s, sl->id) : gt_deltimer_sync(sl->t);

    pl_tally_stopped(w, r);
    own_ended(w, sl, sl->book, sl->entry, r);
    pl_set(sl->timer->quiet, 1);
    CHECK_EQ(pl_get(sl->timer->running), 0);
    for (uint32_t i = 0; i < sl->book->used; i++) {
        struct pl_arm *a = &sl->book->arm[i];

        if (a->period != 0)
            continue;
        CHECK_EQ(pl_get(a->calls), pl_get(a->armed) - pl_get(a->ended));
        if (a->single)
            CHECK_EQ(a->ran, pl_get(a->calls));
    }
}

/* Gives the handle up; the pending one-shot fires all the same, then drops its arg. Not with a
 * ticker or a far deadline: nobody could stop that one any more. */
static void own_detach(struct pl_world *w, struct pl_slot *sl)
{
    if (sl->armed && (is_far(w, sl->when) || sl->book->arm[sl->entry].period != 0))
        own_deltimer(w, sl);
    CHECK_EQ(pl_one_in(3) ? gt_timer_detach_id(w->s, sl->id) : gt_timer_detach(sl->t), 0);
    own_let_go(w, sl);
}

static void own_shutdown(struct pl_world *w, struct pl_slot *sl)
{
    int64_t when = pl_some_when(w, 1);
    int r = pl_one_in(3) ? gt_shutdown_timer_id(w->s, sl->id) : gt_shutdown_timer(sl->t);

    pl_tally_stopped(w, r);
    own_ended(w, sl, sl->book, sl->entry, r);
    CHECK_EQ(gt_addtimer(sl->t, when, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_resettimer(sl->t, when, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_modtimer(sl->t, when, 0, pl_fire0, sl->rec, 0), GT_ESHUTDOWN);
    own_free(w, sl);
}

/* What must fail and change nothing, and what can be asked. */
static void own_look(struct pl_world *w, struct pl_slot *sl)
{
    int64_t when = gt_timer_when(sl->t), period = sl->book->arm[sl->entry].period;
    int status = gt_timer_status(sl->t);

    CHECK(status >= GT_TIMER_REMOVED && status <= GT_TIMER_LOCKED);
    CHECK_EQ(gt_timer_id(sl->t), sl->id);
    if (!sl->armed)
        CHECK_EQ(when, 0);
    else if (period == 0)
        CHECK(when == sl->when || (when == 0 && !is_far(w, sl->when)));
    else
        CHECK(when == GT_MAX_WHEN || (when >= sl->when && (when - sl->when) % period == 0));
    CHECK_EQ(gt_modtimer(sl->t, 0, 0, pl_fire0, sl->rec, 0), GT_EINVAL);
    CHECK_EQ(gt_resettimer(sl->t, gt_nanotime(w->s), -1), GT_EINVAL);
}

static void own_op(struct pl_world *w, struct pl_slot *sl)
{
    switch (pl_below(24)) {
    case 0:
    case 1:
        own_arm_again(w, sl, ADD);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        own_arm_again(w, sl, RESET);
        break;
    case 6:
    case 7:
    case 8:
        own_deltimer(w, sl);
        break;
    case 9:
        own_deltimer_sync(w, sl);
        break;
    case 10:
        own_free(w, sl);
        own_new(w, sl);
        break;
    case 11:
        own_detach(w, sl);
        own_new(w, sl);
        break;
    case 12:
        if (pl_one_in(2)) {
            own_shutdown(w, sl);
            own_new(w, sl);
        }
        break;
    case 13:
        own_look(w, sl);
        break;
    default:
        own_modtimer(w, sl);
    }
}

/* ---- class shared ---- */

static void shared_new(struct pl_world *w, struct pl_slot *sl)
{
    struct pl_rec *r = pl_rec_new(w, sl, NULL, 0);
    gt_timer *t = gt_timer_new(w->s, pl_fire0, r, pl_drop);

    CHECK(t != NULL);
    pl_add(w->handles, 1);
    r->t = t;
    atomic_store(&sl->st, t);
    atomic_store(&sl->sid, gt_timer_id(t));
}

/* Whoever takes the id out of the slot puts a new timer in. */
static void shared_renew(struct pl_world *w, struct pl_slot *sl, uint64_t id)
{
    if (!atomic_compare_exchange_strong(&sl->sid, &id, 0))
        return;
    pl_add(w->handles, -1);
    shared_new(w, sl);
}

static void shared_free(struct pl_world *w, struct pl_slot *sl, uint64_t id)
{
    int r = gt_timer_free_id(w->s, id);

    pl_tally_stopped(w, r);
    CHECK_EQ(gt_deltimer_id(w->s, id), GT_ESTALE);
    shared_renew(w, sl, id);
}

static void shared_op(struct pl_world *w, struct pl_slot *sl)
{
    uint64_t id = atomic_load(&sl->sid);
    gt_timer *t = atomic_load(&sl->st);
    int64_t when = pl_some_when(w, w->virt && !sl->periodic);   /* far, but not for ever */
    int64_t period = sl->periodic ? (int64_t)pl_below((uint64_t)(100 * PL_US)) + 5 * PL_US : 0;
    struct pl_rec *rec;
    int r, which = (int)pl_below(2);

    if (id == 0 || id != atomic_load(&sl->sid))
        return;
    if (when == GT_MAX_WHEN)
        when = gt_nanotime(w->s) + PL_HOUR;
    switch (pl_below(20)) {
    case 0:
    case 1:
        r = gt_addtimer_id(w->s, id, when, period);
        pl_tally_armed(w, r);
        CHECK(r != 1);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        r = gt_resettimer_id(w->s, id, when, period);
        pl_tally_armed(w, r);
        break;
    case 7:
    case 8:
    case 9:
        pl_tally_stopped(w, gt_deltimer_id(w->s, id));
        r = 0;
        break;
    case 10:   /* no deltimer_sync: one 1 may stand for two armings, if the callback armed again */
        r = gt_shutdown_timer_id(w->s, id);
        pl_tally_stopped(w, r);
        break;
    case 11:
        shared_free(w, sl, id);
        r = 0;
        break;
    case 12:
        r = sl->periodic ? GT_ESTALE : gt_timer_detach_id(w->s, id);
        CHECK(r == 0 || r == GT_ESTALE);
        if (r == 0)
            shared_renew(w, sl, id);
        break;
    case 13:
        r = gt_timer_status_id(w->s, id);
        CHECK(r == GT_ESTALE || (r >= GT_TIMER_REMOVED && r <= GT_TIMER_LOCKED));
        CHECK(gt_timer_when_id(w->s, id) >= 0 || gt_timer_when_id(w->s, id) == GT_ESTALE);
        r = 0;
        break;
    default:
        rec = pl_rec_new(w, sl, NULL, 1 + (uint32_t)pl_below(0xffffff));
        rec->t = t;
        r = gt_modtimer_id(w->s, id, when, period, which ? pl_fire1 : pl_fire0, rec,
                           pl_seq(rec->stamp, 0, sl->periodic, which));
        pl_tally_armed(w, r);
        if (r < 0)
            pl_rec_cancel(rec);
    }
    if (r == GT_ESHUTDOWN)
        shared_free(w, sl, id);
}

/* A shared timer's callback: works on its own timer by its handle, on others by id, on Ps. */
void pl_act_in_callback(struct pl_rec *r)
{
    struct pl_world *w = r->w;
    struct pl_slot *sl = r->slot;
    int64_t period = sl->periodic ? 20 * PL_US : 0, was = pl_pass_now;
    struct pl_place *at;
    struct pl_rec *rec;
    int res;
    uint64_t id;
    gt_p *p;

    switch (pl_below(64)) {
    case 0:
    case 1:
    case 2:
    case 3:
        pl_tally_armed(w, gt_resettimer(r->t, pl_some_when(w, 0), period));
        break;
    case 4:
        rec = pl_rec_new(w, sl, NULL, 1 + (uint32_t)pl_below(0xffffff));
        rec->t = r->t;
        res = gt_modtimer(r->t, pl_some_when(w, 0), period, pl_fire1, rec,
                          pl_seq(rec->stamp, 0, sl->periodic, 1));
        pl_tally_armed(w, res);
        if (res < 0)
            pl_rec_cancel(rec);
        break;
    case 5:
        /* Free in its own callback; there the dead handle says so. Another may have been first. */
        id = atomic_load(&sl->sid);
        if (id == 0 || atomic_load(&sl->st) != r->t || gt_timer_id(r->t) != id)
            break;
        pl_tally_stopped(w, gt_timer_free(r->t));
        CHECK_EQ(gt_resettimer(r->t, pl_some_when(w, 0), period), GT_ESTALE);
        CHECK_EQ(gt_deltimer(r->t), GT_ESTALE);
        shared_renew(w, sl, id);
        break;
    case 6:
        pl_tally_stopped(w, gt_deltimer(r->t));
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        shared_op(w, &w->slots[pl_below((uint64_t)w->n_slots) | 1]);
        break;
    case 11:
        p = pl_place_get(w, &at);
        if (p != NULL && pl_one_in(2)) {
            gt_trim(p);
            gt_cleantimers(p);
        }
        pl_place_put(at);
        break;
    case 12:
        if (pl_one_in(8)) {
            pl_pass_now = 0;
            gt_check_others(w->s, gt_current_p(), 0, NULL, NULL);
            pl_pass_now = was;
        }
        break;
    case 13:
        if (pl_one_in(8))
            pl_replace_own_p(w);
        break;
    default:
        break;
    }
}

/* ---- both ---- */

/* Slots with an odd number are shared ones. */
void pl_fill(struct pl_world *w)
{
    w->slots = calloc((size_t)w->n_slots, sizeof *w->slots);
    CHECK(w->slots != NULL);
    for (int i = 0; i < w->n_slots; i++) {
        struct pl_slot *sl = &w->slots[i];

        sl->shared = i & 1;
        sl->periodic = sl->shared && i % 16 == 1;
        if (sl->shared)
            shared_new(w, sl);
        else
            own_new(w, sl);
    }
}

void pl_mutate(struct pl_world *w)
{
    struct pl_slot *sl = &w->slots[pl_below((uint64_t)w->n_slots)];

    pl_add(w->ops, 1);
    if (sl->shared) {
        shared_op(w, sl);
    } else if (atomic_exchange(&sl->busy, 1) == 0) {
        own_op(w, sl);
        atomic_store(&sl->busy, 0);
    }
}

/* ---- the end, when the mutators are gone ---- */

void pl_stop_tickers(struct pl_world *w)
{
    for (int i = 0; i < w->n_slots; i++) {
        struct pl_slot *sl = &w->slots[i];

        if (sl->shared && sl->periodic)
            pl_tally_stopped(w, gt_deltimer_sync_id(w->s, atomic_load(&sl->sid)));
        else if (!sl->shared && sl->book->arm[sl->entry].period != 0)
            own_deltimer(w, sl);
    }
}

int64_t pl_free_some(struct pl_world *w)
{
    int64_t earliest = GT_MAX_WHEN;

    for (int i = 0; i < w->n_slots; i++) {
        struct pl_slot *sl = &w->slots[i];
        uint64_t way = pl_below(4);

        if (sl->shared) {
            if (way == 0)
                continue;
            pl_tally_stopped(w, gt_timer_free_id(w->s, atomic_load(&sl->sid)));
            pl_add(w->handles, -1);
            atomic_store(&sl->sid, 0);
            continue;
        }
        if (way == 0)
            own_deltimer(w, sl);   /* what is far must still be there: own_ended sees to that */
        if (way < 2) {
            own_free(w, sl);
            continue;
        }
        if (way == 2)
            own_modtimer(w, sl);
        if (!sl->armed)
            continue;
        if (gt_timer_when(sl->t) == 0) {   /* no: it has fired */
            sl->armed = 0;
            continue;
        }
        if (sl->when < earliest)
            earliest = sl->when;
        atomic_fetch_add(&sl->book->arm[sl->entry].ended, 1);   /* gt_sched_free will end it */
        sl->armed = 0;
    }
    return earliest;
}

void pl_free_rest(struct pl_world *w)
{
    for (int i = 0; i < w->n_slots; i++) {
        struct pl_slot *sl = &w->slots[i];

        if (sl->shared ? atomic_load(&sl->sid) == 0 : sl->t == NULL)
            continue;
        if (pl_one_in(2))
            CHECK_EQ(gt_deltimer(sl->shared ? atomic_load(&sl->st) : sl->t), GT_ESHUTDOWN);
        CHECK_EQ(gt_timer_free(sl->shared ? atomic_load(&sl->st) : sl->t), 0);
        if (!sl->shared)
            own_let_go(w, sl);
        else
            pl_add(w->handles, -1);
    }
}
