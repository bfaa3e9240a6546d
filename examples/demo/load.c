/* load.c: the load of the demo: a million connections with time-outs, some tickers, some messages that
 * are sent later, and the record that is kept of every arming.
 *
 * Each record has a lock, held over the library call that changes the timer and taken by the callback, so what
 * the record says and what the call returned always fit together. That is allowed because the library runs
 * callbacks with no lock of its own held. Drop functions take no lock: the library may call them in the very
 * call that we make with the lock held. */
#include "demo.h"

#include <sched.h>
#include <stdlib.h>

#define LIVE 0x11fe11feu
#define DEAD 0xdeaddeadu

/* An arming is open from the call that armed it until it is called, stopped or replaced. `behind` counts older
 * armings for which a call returned 0 (it had fired already) but whose callback has not come yet. */
struct record {
    _Atomic unsigned char lock;
    bool open;
    bool stalled;       /* connections: nothing more will happen on it, so its time-out must fire */
    uint16_t behind;
    uint32_t seq;       /* names the arming; the callback gets it back */
    int64_t when;       /* of the open arming */
    gt_timer *timer;
};

/* The arg of a connection with a drop function. The drop function frees it, as a server would. */
struct session {
    _Atomic uint32_t magic;
    struct conn *conn;
};

struct conn {
    struct record r;
    struct session *session; /* NULL: a connection whose arg is the connection itself */
    _Atomic int32_t undropped;
};

struct ticker {
    struct record r; /* r.when is the time of the next tick */
    int64_t period;
};

/* A one-shot that is armed and forgotten (gt_timer_detach). */
struct message {
    _Atomic uint32_t magic;
    _Atomic int32_t calls;
    int64_t when;
};

struct load load;
static struct conn *conns;
static struct ticker *tickers;
static _Atomic int64_t messages_open;

/* ---- tallies ---- */

_Thread_local struct tally *me;
static _Atomic(struct tally *) tallies;

struct tally *tally_new(uint64_t seed) {
    me = calloc(1, sizeof *me);
    if (me == NULL) return NULL;
    me->rng = seed;
    me->next = atomic_load(&tallies);
    while (!atomic_compare_exchange_weak(&tallies, &me->next, me)) {}
    return me;
}

uint64_t tally_sum(enum count k) {
    uint64_t sum = 0;
    for (struct tally *t = atomic_load(&tallies); t != NULL; t = t->next)
        sum += atomic_load_explicit(&t->n[k], memory_order_relaxed);
    return sum;
}

int64_t tally_late_max(void) {
    int64_t max = 0;
    for (struct tally *t = atomic_load(&tallies); t != NULL; t = t->next) {
        int64_t late = atomic_load_explicit(&t->late_max, memory_order_relaxed);
        if (late > max) max = late;
    }
    return max;
}

int tally_first_error(void) {
    for (struct tally *t = atomic_load(&tallies); t != NULL; t = t->next) {
        int e = atomic_load_explicit(&t->first_error, memory_order_relaxed);
        if (e != 0) return e;
    }
    return 0;
}

void tally_late_sum(uint64_t sum[LATE_BUCKETS]) {
    for (unsigned b = 0; b < LATE_BUCKETS; b++) sum[b] = 0;
    for (struct tally *t = atomic_load(&tallies); t != NULL; t = t->next)
        for (unsigned b = 0; b < LATE_BUCKETS; b++) sum[b] += atomic_load_explicit(&t->late[b], memory_order_relaxed);
}

static unsigned late_bucket(int64_t ns) {
    uint64_t v = (uint64_t)ns;
    if (v < LATE_SUB) return (unsigned)v;
    unsigned e = 63 - (unsigned)__builtin_clzll(v);
    return (e - 3) * LATE_SUB + (unsigned)(v >> (e - 4) & (LATE_SUB - 1));
}

int64_t late_bound(unsigned bucket) {
    if (bucket < LATE_SUB) return bucket;
    return (int64_t)(LATE_SUB + bucket % LATE_SUB) << (bucket / LATE_SUB - 1);
}

/* A callback for `when` runs at `now`, which we read ourselves; the library says it is `delay` late. */
static void called(int64_t when, int64_t now, int64_t delay) {
    if (now < when || delay < 0) count_up(E_EARLY, 1);
    int64_t late = now > when ? now - when : 0;
    _Atomic uint64_t *n = &me->late[late_bucket(late)];
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1, memory_order_relaxed);
    if (late > atomic_load_explicit(&me->late_max, memory_order_relaxed))
        atomic_store_explicit(&me->late_max, late, memory_order_relaxed);
}

static void failed(int code) {
    count_up(E_CALL, 1);
    if (atomic_load_explicit(&me->first_error, memory_order_relaxed) == 0)
        atomic_store_explicit(&me->first_error, code, memory_order_relaxed);
}

/* ---- the record ---- */

static void lock(struct record *r) {
    for (int spins = 0; atomic_exchange_explicit(&r->lock, 1, memory_order_acquire) != 0; spins++)
        if (spins > 50) sched_yield();
}

static void unlock(struct record *r) { atomic_store_explicit(&r->lock, 0, memory_order_release); }

/* The open arming, if any, had fired when the library was asked to stop or replace it: its callback is due. */
static void leave_behind(struct record *r) {
    if (r->open) r->behind++;
    r->open = false;
}

/* gt_modtimer, written down. Every arming of a connection or ticker gets a new seq. */
static void arm(struct record *r, int64_t when, int64_t period, gt_func f, void *arg) {
    uint32_t seq = r->seq + 1;
    count_up(N_MOD, 1);
    int was = gt_modtimer(r->timer, when, period, f, arg, seq);
    if (was < 0) {
        failed(was);
        return;
    }
    count_up(C_ARMED, 1);
    if (was == 1) {
        count_up(C_REPLACED, 1);
        if (!r->open) count_up(E_FATE, 1);
    } else {
        leave_behind(r);
    }
    r->open = true;
    r->seq = seq;
    r->when = when;
}

/* A call that stops returned `was`. */
static void stopped(struct record *r, int was) {
    if (was < 0) {
        failed(was);
    } else if (was == 1) {
        count_up(C_STOPPED, 1);
        if (!r->open) count_up(E_FATE, 1);
        r->open = false;
    } else {
        leave_behind(r);
    }
}

static void stop(struct record *r) {
    count_up(N_DEL, 1);
    stopped(r, gt_deltimer(r->timer));
}

static void free_timer(struct record *r) {
    if (r->timer == NULL) return;
    count_up(N_FREE, 1);
    stopped(r, gt_timer_free(r->timer));
    r->timer = NULL;
}

/* A one-shot's callback has come for arming `seq`. True if it is the open one. */
static bool settle(struct record *r, uintptr_t seq, int64_t now, int64_t delay) {
    count_up(C_CALLED, 1);
    if (r->open && seq == r->seq) {
        called(r->when, now, delay);
        r->open = false;
        return true;
    }
    if (delay < 0) count_up(E_EARLY, 1);
    if (r->behind > 0 && seq <= r->seq) r->behind--;
    else count_up(E_FATE, 1);
    return false;
}

/* ---- connections ---- */

static void on_timeout(void *arg, uintptr_t seq, int64_t delay);

static void on_session(void *arg, uintptr_t seq, int64_t delay) {
    struct session *s = arg;
    if (atomic_load_explicit(&s->magic, memory_order_relaxed) != LIVE) {
        count_up(E_DROP, 1);
        return;
    }
    on_timeout(s->conn, seq, delay);
}

static void drop_session(void *arg) {
    struct session *s = arg;
    if (atomic_exchange_explicit(&s->magic, DEAD, memory_order_relaxed) != LIVE ||
        atomic_fetch_sub_explicit(&s->conn->undropped, 1, memory_order_relaxed) < 1) {
        count_up(E_DROP, 1);
        return;
    }
    count_up(D_DROPPED, 1);
    free(s);
}

static void new_session(struct conn *c) {
    c->session = malloc(sizeof *c->session);
    if (c->session == NULL) abort();
    c->session->magic = LIVE;
    c->session->conn = c;
    atomic_fetch_add_explicit(&c->undropped, 1, memory_order_relaxed);
    count_up(D_MADE, 1);
}

/* Every 8th connection has a session. */
static bool with_session(struct conn *c) { return (size_t)(c - conns) % 8 == 0; }

static void new_timer(struct conn *c) {
    count_up(N_NEW, 1);
    if (with_session(c)) {
        new_session(c);
        c->r.timer = gt_timer_new(load.sched, on_session, c->session, drop_session);
    } else {
        c->r.timer = gt_timer_new(load.sched, on_timeout, c, NULL);
    }
    if (c->r.timer == NULL) {
        failed(gt_last_error());
        abort(); /* nothing below can go on without it */
    }
}

static void arm_conn(struct conn *c, int64_t when) {
    if (with_session(c)) arm(&c->r, when, 0, on_session, c->session);
    else arm(&c->r, when, 0, on_timeout, c);
}

/* Each connection has a time-out of its own that does not change, so a push is always to later. */
static int64_t timeout_of(struct conn *c, int64_t now) {
    uint64_t index = (uint64_t)(c - conns);
    return now + load.idle_ns + (int64_t)(rng_next(&index) % (uint64_t)load.idle_ns);
}

/* The peer is gone: free the timer (armed or not) and start a new connection in its place. */
static void reconnect(struct conn *c, int64_t now) {
    free_timer(&c->r);
    new_timer(c);
    c->r.stalled = false;
    arm_conn(c, timeout_of(c, now));
}

static void on_timeout(void *arg, uintptr_t seq, int64_t delay) {
    struct conn *c = arg;
    lock(&c->r);
    int64_t now = gt_nanotime(load.sched);
    if (settle(&c->r, seq, now, delay)) {
        c->r.stalled = false;
        switch (rng_next(&me->rng) & 3) {
        case 0: reconnect(c, now); break;                 /* frees its own timer inside its own callback */
        case 1: break;                                    /* stays quiet until some thread comes by */
        default: arm_conn(c, timeout_of(c, now)); break;   /* re-arms itself */
        }
    }
    unlock(&c->r);
}

void load_touch(int64_t now) {
    struct conn *c = &conns[rng_below(&me->rng, load.conns)];
    uint64_t dice = rng_next(&me->rng) & 1023;
    lock(&c->r);
    if (c->r.stalled) {
        /* its peer is silent: only the time-out ends this */
    } else if (dice < 16) { /* the peer closes the connection */
        reconnect(c, now);
    } else if (dice < 32) { /* the connection no longer wants a time-out, for now */
        stop(&c->r);
    } else if (dice < 40 && with_session(c)) { /* another user logs in: a new arg, the old one is dropped */
        new_session(c);
        arm_conn(c, timeout_of(c, now));
    } else { /* data came: push the time-out */
        arm_conn(c, timeout_of(c, now));
        c->r.stalled = dice < 48;
    }
    unlock(&c->r);
}

void load_cut(uint64_t n, int64_t now) {
    while (n-- > 0) {
        struct conn *c = &conns[rng_below(&me->rng, load.conns)];
        lock(&c->r);
        if (!c->r.stalled) arm_conn(c, now + 5 * MS + (int64_t)rng_below(&me->rng, 45 * MS));
        unlock(&c->r);
    }
}

/* ---- tickers ---- */

static void on_tick(void *arg, uintptr_t seq, int64_t delay) {
    struct ticker *k = arg;
    lock(&k->r);
    count_up(C_TICKS, 1);
    if (!k->r.open || seq > k->r.seq) {
        count_up(E_FATE, 1);
    } else if (seq == k->r.seq) { /* not a tick of an older arming that was on its way */
        /* Two threads may run two ticks of one ticker at the same time, in any order; the sum is the same. */
        called(k->r.when, gt_nanotime(load.sched), delay);
        k->r.when += k->period * (1 + (delay > 0 ? delay : 0) / k->period);
    }
    unlock(&k->r);
}

static int64_t some_period(void) { return 10 * MS + (int64_t)rng_below(&me->rng, 90 * MS); }

void load_open_tickers(void) {
    for (uint64_t i = 0; i < load.tickers; i++) {
        struct ticker *k = &tickers[i];
        lock(&k->r);
        k->period = some_period();
        k->r.timer = gt_timer_new(load.sched, on_tick, k, NULL);
        if (k->r.timer == NULL) abort();
        k->r.when = gt_nanotime(load.sched) + k->period;
        k->r.open = true;
        int e = gt_addtimer(k->r.timer, k->r.when, k->period);
        if (e != 0) failed(e);
        count_up(N_NEW, 1);
        count_up(N_ADD, 1);
        count_up(C_ARMED, 1);
        unlock(&k->r);
    }
}

static void change_ticker(int64_t now) {
    struct ticker *k = &tickers[rng_below(&me->rng, load.tickers)];
    lock(&k->r);
    if (k->r.timer == NULL) { /* not made yet */
        unlock(&k->r);
        return;
    }
    k->period = some_period();
    arm(&k->r, now + k->period, k->period, on_tick, k);
    if (k->r.behind != 0) { /* a periodic arming is pending until it is stopped: the call must return 1 */
        k->r.behind = 0;
        count_up(E_FATE, 1);
    }
    unlock(&k->r);
}

/* ---- messages ---- */

static void on_message(void *arg, uintptr_t seq, int64_t delay) {
    struct message *m = arg;
    (void)seq;
    count_up(C_CALLED, 1);
    if (atomic_load_explicit(&m->magic, memory_order_relaxed) != LIVE) {
        count_up(E_DROP, 1);
        return;
    }
    called(m->when, gt_nanotime(load.sched), delay);
    if (atomic_fetch_add_explicit(&m->calls, 1, memory_order_relaxed) != 0) count_up(E_FATE, 1);
    atomic_fetch_sub(&messages_open, 1);
}

static void drop_message(void *arg) {
    struct message *m = arg;
    if (atomic_exchange_explicit(&m->magic, DEAD, memory_order_relaxed) != LIVE ||
        atomic_load_explicit(&m->calls, memory_order_relaxed) != 1) {
        count_up(E_DROP, 1);
        return;
    }
    count_up(D_DROPPED, 1);
    free(m);
}

static void send_message(int64_t now) {
    struct message *m = malloc(sizeof *m);
    if (m == NULL) abort();
    m->magic = LIVE;
    m->calls = 0;
    m->when = now + 1 * MS + (int64_t)rng_below(&me->rng, 50 * MS);
    gt_timer *t = gt_timer_new(load.sched, on_message, m, drop_message);
    if (t == NULL) abort();
    atomic_fetch_add(&messages_open, 1);
    count_up(N_NEW, 1);
    count_up(D_MADE, 1);
    count_up(N_ADD, 1);
    int e = gt_addtimer(t, m->when, 0); /* from here it may fire at any time */
    if (e != 0) failed(e);
    else count_up(C_ARMED, 1);
    count_up(N_DETACH, 1);
    e = gt_timer_detach(t);
    if (e != 0) failed(e);
}

void load_odd_jobs(int64_t now) {
    uint64_t dice = rng_next(&me->rng) & 255;
    if (dice < 32) send_message(now);
    else if (dice < 34) change_ticker(now);
}

/* ---- beginning and end ---- */

bool load_init(gt_sched *s, uint64_t n, int64_t idle_ns) {
    load = (struct load){.sched = s, .conns = n, .tickers = n < 100000 ? 100 : 1000, .idle_ns = idle_ns};
    conns = calloc(load.conns, sizeof *conns);
    tickers = calloc(load.tickers, sizeof *tickers);
    return conns != NULL && tickers != NULL;
}

void load_open(uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; i++) {
        lock(&conns[i].r);
        new_timer(&conns[i]);
        arm_conn(&conns[i], timeout_of(&conns[i], gt_nanotime(load.sched)));
        unlock(&conns[i].r);
    }
}

void load_close(uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; i++) {
        lock(&conns[i].r);
        free_timer(&conns[i].r);
        if (conns[i].r.behind != 0) count_up(E_FATE, conns[i].r.behind); /* pending, but it could not be stopped */
        unlock(&conns[i].r);
    }
}

void load_close_tickers(void) {
    for (uint64_t i = 0; i < load.tickers; i++) {
        lock(&tickers[i].r);
        stop(&tickers[i].r);
        free_timer(&tickers[i].r);
        unlock(&tickers[i].r);
    }
}

static void audit_record(struct record *r, struct audit *a) {
    lock(r);
    a->live += r->timer != NULL;
    if (r->open && r->when > a->due) a->pending++;
    else if (r->open) a->lost++;
    a->lost += r->behind;
    unlock(r);
}

struct audit load_audit(int64_t due) {
    struct audit a = {.due = due};
    for (uint64_t i = 0; i < load.conns; i++) audit_record(&conns[i].r, &a);
    for (uint64_t i = 0; i < load.tickers; i++) audit_record(&tickers[i].r, &a);
    a.lost += (uint64_t)atomic_load(&messages_open); /* all of them were due in the drain */
    return a;
}
