/* ploop_book.c: the P loop tests' own bookkeeping: records (the args of timers), the book of
 * each arming, the callback that checks itself against it, and the drop.
 *
 * seq = stamp << 8 | entry << 2 | periodic << 1 | which. f, arg and seq belong together: the
 * callback checks that `which` is its own f and that the stamp is its arg's. */
#include "ploop.h"

#define REC_MAGIC 0x7265636f72643031u
#define REC_DEAD 0xdeaddeaddeaddeadu

_Thread_local int64_t pl_pass_now;
_Thread_local int pl_pins;
static _Thread_local uint64_t rng;

int64_t pl_run_ns(void)
{
    const char *env = getenv("GT_PLOOP_SECONDS");
    int64_t n = env != NULL ? atoll(env) : 0;

    return (n > 0 ? n : 2) * PL_SEC;
}

int64_t pl_limit_ns(int64_t ns) { return ns * (int64_t)test_slow(); }

int pl_scaled(int n, int least)
{
    int k = n / (int)test_slow();

    return k > least ? k : least;
}

pthread_t pl_start(void *(*fn)(void *), void *arg)
{
    pthread_t t;

    CHECK_EQ(pthread_create(&t, NULL, fn, arg), 0);
    return t;
}

void pl_join(pthread_t t) { CHECK_EQ(pthread_join(t, NULL), 0); }

void pl_rng_start(uint64_t stream)
{
    rng = test_seed() ^ (stream + 1) * 0xd1342543de82ef95u;
    rng_next(&rng);
}

uint64_t pl_below(uint64_t n) { return rng_below(&rng, n); }

int pl_one_in(uint64_t n) { return rng_below(&rng, n) == 0; }

/* ---- books ---- */

uintptr_t pl_seq(uint32_t stamp, uint32_t entry, int periodic, int which)
{
    return ((uintptr_t)stamp << 8) | (entry << 2) | ((unsigned)periodic << 1) | (unsigned)which;
}

struct pl_rec *pl_rec_new(struct pl_world *w, struct pl_slot *sl, struct pl_timer *timer, uint32_t stamp)
{
    struct pl_rec *r = calloc(1, sizeof *r);

    CHECK(r != NULL);
    r->magic = REC_MAGIC;
    r->w = w;
    r->slot = sl;
    r->stamp = stamp;
    if (timer != NULL) {
        r->book = calloc(1, sizeof *r->book);
        CHECK(r->book != NULL);
        atomic_init(&r->book->refs, 2);
        r->book->timer = timer;
        r->book->used = 1;
        atomic_fetch_add(&timer->refs, 1);
        pl_add(w->books, 1);
    }
    pl_add(w->recs, 1);
    return r;
}

void pl_timer_put(struct pl_world *w, struct pl_timer *m)
{
    if (atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    CHECK_EQ(pl_get(m->running), 0);
    pl_add(w->timers, -1);
    free(m);
}

/* The last one to let go closes the book: each arming in it must have ended exactly once. */
void pl_book_put(struct pl_world *w, struct pl_book *b)
{
    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    for (uint32_t i = 0; i < b->used; i++) {
        struct pl_arm *a = &b->arm[i];
        unsigned armed = pl_get(a->armed), ended = pl_get(a->ended), calls = pl_get(a->calls);

        if (a->period != 0) {
            CHECK_EQ(armed, ended);
        } else if (armed != ended + calls) {
            test_failed(__FILE__, __LINE__, "one seq was armed %u times, stopped or replaced %u times, "
                        "called %u times, and its arg was dropped or given up", armed, ended, calls);
        }
        if (a->single)
            CHECK_EQ(a->ran, calls);
    }
    pl_timer_put(w, b->timer);
    pl_add(w->books, -1);
    free(b);
}

void pl_drop(void *arg)
{
    struct pl_rec *r = arg;
    struct pl_world *w = r->w;

    if (r->magic != REC_MAGIC)
        test_failed(__FILE__, __LINE__, "drop of %s", r->magic == REC_DEAD ? "an arg dropped before"
                                                                           : "something that is no arg");
    r->magic = REC_DEAD;
    CHECK_EQ(pl_pins, 0);
    pl_add(w->dropped, 1);
    if (r->book != NULL)
        pl_book_put(w, r->book);
    free(r);
}

void pl_rec_cancel(struct pl_rec *r)
{
    struct pl_world *w = r->w;

    CHECK(r->magic == REC_MAGIC);
    if (r->book != NULL) {
        pl_timer_put(w, r->book->timer);
        pl_add(w->books, -1);
        free(r->book);
    }
    r->magic = REC_DEAD;
    pl_add(w->recs, -1);
    free(r);
}

void pl_book_arm(struct pl_book *b, uint32_t entry, int64_t when)
{
    struct pl_arm *a = &b->arm[entry];
    unsigned n = pl_get(a->whens);

    CHECK_LT(n, PL_WHENS);
    pl_set(a->when[n], when);
    atomic_store(&a->whens, n + 1);
    atomic_fetch_add(&a->armed, 1);
    pl_set(b->timer->quiet, 0);
}

void pl_book_unarm(struct pl_book *b, uint32_t entry)
{
    struct pl_arm *a = &b->arm[entry];

    atomic_fetch_sub(&a->armed, 1);
    atomic_fetch_sub(&a->whens, 1);
}

void pl_tally_armed(struct pl_world *w, int r)
{
    if (r == GT_ESTALE || r == GT_ESHUTDOWN || r == GT_EALREADY)
        return;
    CHECK(r == 0 || r == 1);
    pl_add(w->armed, 1);
    pl_add(w->replaced, (uint64_t)r);
}

void pl_tally_stopped(struct pl_world *w, int r)
{
    if (r == GT_ESTALE || r == GT_ESHUTDOWN)
        return;
    CHECK(r == 0 || r == 1);
    pl_add(w->stopped, (uint64_t)r);
}

/* ---- the callback ---- */

/* Never early, by the clock that the test reads itself; and, where the pass was given its
 * now, delay is exact: now - delay is a deadline that was asked for. */
static void check_deadline(struct pl_world *w, struct pl_arm *a, int64_t delay)
{
    unsigned n = atomic_load(&a->whens);
    int64_t now = gt_nanotime(w->s), earliest = INT64_MAX, at;
    int known = 0;

    CHECK_GE(n, 1);
    for (unsigned i = 0; i < n && i < PL_WHENS; i++) {
        int64_t when = pl_get(a->when[i]);

        if (when < earliest)
            earliest = when;
    }
    CHECK_GE(now, earliest);
    if (pl_pass_now == 0)
        return;
    CHECK_GE(now, pl_pass_now);
    at = pl_pass_now - delay;
    for (unsigned i = 0; i < n && i < PL_WHENS; i++) {
        int64_t when = pl_get(a->when[i]);

        known |= at == when || (a->period != 0 && at > when && (at - when) % a->period == 0);
    }
    if (!known)
        test_failed(__FILE__, __LINE__, "called with delay %lld at %lld: nothing was armed for then "
                    "(%u deadlines, the earliest %lld, period %lld)", (long long)delay,
                    (long long)pl_pass_now, n, (long long)earliest, (long long)a->period);
}

static void fire_own(struct pl_rec *r, uintptr_t seq, int64_t delay)
{
    struct pl_book *b = r->book;
    struct pl_world *w = r->w;
    uint32_t entry = (seq >> 2) & 63;
    struct pl_arm *a = &b->arm[entry];
    unsigned calls;

    atomic_fetch_add(&b->timer->running, 1);
    if (pl_get(b->timer->quiet))
        test_failed(__FILE__, __LINE__, "called after deltimer_sync had returned");
    CHECK_LT(entry, PL_ARMS);
    CHECK_EQ((seq >> 1) & 1, a->period != 0);
    calls = atomic_fetch_add(&a->calls, 1) + 1;
    if (a->period == 0) {
        unsigned ended = atomic_load(&a->ended), armed = atomic_load(&a->armed);

        if (calls + ended > armed)
            test_failed(__FILE__, __LINE__, "one-shot called after it was stopped or replaced, or called "
                        "twice: seq armed %u times, ended %u times, now called %u times", armed, ended, calls);
        pl_add(w->calls, 1);
        if (a->single) {
            CHECK_EQ(a->ran, 0);
            a->ran = 1;
        }
    } else {
        pl_add(w->ticks, 1);
    }
    check_deadline(w, a, delay);
    if (pl_one_in(64))
        sched_yield();
    atomic_fetch_sub(&b->timer->running, 1);
}

static void fire(struct pl_rec *r, uintptr_t seq, int64_t delay, unsigned which)
{
    struct pl_world *w = r->w;

    if (r->magic != REC_MAGIC)
        test_failed(__FILE__, __LINE__, "called with %s", r->magic == REC_DEAD ? "an arg that was dropped"
                                                                               : "something that is no arg");
    CHECK_EQ(pl_pins, 0);
    CHECK_GE(delay, 0);
    CHECK_EQ(seq & 1, which);
    CHECK_EQ(seq >> 8, r->stamp);
    if (r->book != NULL) {
        fire_own(r, seq, delay);
    } else {
        if (r->slot->periodic)
            pl_add(w->ticks, 1);
        else
            pl_add(w->calls, 1);
        atomic_fetch_add(&w->acting, 1);
        if (!atomic_load(&w->calm))
            pl_act_in_callback(r);
        atomic_fetch_sub(&w->acting, 1);
    }
    CHECK(r->magic == REC_MAGIC);   /* no drop before the end of the run */
}

void pl_fire0(void *arg, uintptr_t seq, int64_t delay) { fire(arg, seq, delay, 0); }
void pl_fire1(void *arg, uintptr_t seq, int64_t delay) { fire(arg, seq, delay, 1); }
