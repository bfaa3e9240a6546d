/* What the load's threads do that run timers: P loops that spin, sleep or poll, thieves, and
 * the driver of a virtual clock. See load.h. */
#include "load.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void nap_us(int us)
{
    struct timespec ts = {0, us * 1000};

    nanosleep(&ts, NULL);
}

gt_p *l_get_p(struct load *l, uint64_t *rng, struct l_place **at)
{
    struct l_place *pl = &l->place[rng_below(rng, (uint64_t)l->places)];

    *at = NULL;
    if (pthread_rwlock_tryrdlock(&pl->lock) != 0)
        return NULL;
    *at = pl;
    return pl->p;
}

void l_put_p(struct l_place *at)
{
    if (at != NULL)
        pthread_rwlock_unlock(&at->lock);
}

void l_wake_loops(struct load *l)
{
    uint64_t n = 1;

    for (int i = 0; i < l->places; i++) {
        pthread_rwlock_rdlock(&l->place[i].lock);
        CHECK_EQ(gt_notewakeup(l->place[i].p), 0);
        pthread_rwlock_unlock(&l->place[i].lock);
    }
    for (int i = 0; i < l->threads; i++)
        if (l->thread[i].event >= 0)
            CHECK_EQ(write(l->thread[i].event, &n, sizeof n), (ssize_t)sizeof n);
}

/* The P of a place is freed and a new one takes its place; its timers move on. */
static void replace_p(struct load *l, struct l_place *pl, int bound)
{
    int r;
    gt_p *p;

    if (pthread_rwlock_trywrlock(&pl->lock) != 0)
        return;
    r = gt_p_free(pl->p);
    if (r == GT_ENOMEM && l->o.enomem) {
        l_add(l->refused, 1);
    } else {
        CHECK_EQ(r, 0);
        while ((p = gt_p_new(l->s)) == NULL)
            CHECK(l->o.enomem && gt_last_error() == GT_ENOMEM);
        pl->p = p;
        l_add(l->ps_made, 1);
        if (bound)
            CHECK_EQ(gt_acquirep(p), 0);
    }
    pthread_rwlock_unlock(&pl->lock);
}

void l_replace_own_p(struct load *l)
{
    if (l_me != NULL && l_me->l == l && l_me->place != NULL)
        replace_p(l, l_me->place, 1);
}

static void adopt(struct load *l, uint64_t *rng)
{
    struct l_place *a, *b;
    gt_p *to = l_get_p(l, rng, &a), *from = l_get_p(l, rng, &b);

    if (to != NULL && from != NULL) {
        int r = gt_adopt_timers(to, from);

        if (to == from)
            CHECK_EQ(r, GT_EINVAL);
        else if (!(r == GT_ENOMEM && l->o.enomem))
            CHECK_GE(r, 0);
        if (r > 0)
            l_add(l->adopted, r);
    }
    l_put_p(b);
    l_put_p(a);
}

struct pass {
    struct load *l;
    gt_p *p;          /* NULL: steal only */
    int kind, ran;
    int64_t until;    /* -1: not known, look again */
};

static void run_pass(void *arg)
{
    struct pass *a = arg;
    struct load *l = a->l;
    int64_t now = -1, r;

    if (a->p == NULL) {
        a->ran = gt_check_others(l->s, NULL, 0, &now, NULL);
        CHECK(a->ran == 0 || a->ran == 1);
        return;
    }
    switch (a->kind) {
    case 0:
        r = gt_runtimer(a->p, 0);
        CHECK(r == 0 || r == -1 || r > 0);
        a->ran = r == 0;
        break;
    case 1: CHECK_EQ(gt_adjusttimers(a->p, 0, 1), 0); break;
    case 2: CHECK_EQ(gt_cleantimers(a->p), 0); break;
    case 3: CHECK_GE(gt_trim(a->p), 0); break;
    case 4: CHECK_EQ(gt_verify_timer_heap(a->p), 0); break;
    case 5:
        a->ran = gt_check_others(l->s, a->p, 0, &now, NULL);
        CHECK(a->ran == 0 || a->ran == 1);
        break;
    default:
        a->ran = gt_check_timers(a->p, 0, &now, &a->until);
        CHECK(a->ran == 0 || a->ran == 1);
        CHECK_GT(now, 0);
        CHECK_GE(a->until, 0);
        if (a->until != 0 && a->until <= now)
            a->until = -1;
    }
}

static void guarded(struct pass *a)
{
    if (a->l->o.guard != NULL)
        a->l->o.guard(run_pass, a);
    else
        run_pass(a);
}

static void sleep_by_poll(struct l_thread *me)
{
    int fd = gt_p_fd(me->place->p);
    struct pollfd pf[2] = {{.fd = fd, .events = POLLIN}, {.fd = me->event, .events = POLLIN}};

    if (fd == GT_EMFILE) {
        nap_us(500);
        return;
    }
    CHECK_GE(fd, 0);
    l_gate_sleep(&me->l->gate);
    poll(pf, 2, -1);
    l_gate_wake(&me->l->gate);
}

void l_turn_loop(struct l_thread *me)
{
    struct load *l = me->l;
    struct l_place *pl = me->place;
    struct pass a = {l, pl->p, (int)rng_below(&me->rng, 64), 0, -1};

    guarded(&a);
    l_gate_pass(&l->gate);
    if (rng_below(&me->rng, 256) == 0)
        adopt(l, &me->rng);
    if (l->o.ps_come_and_go && rng_below(&me->rng, 512) == 0)
        replace_p(l, pl, 1);
    if (a.ran || atomic_load(&l->stop))
        return;
    if (a.until < 0 || pl->p != a.p) {
        sched_yield();
    } else if (pl->kind == L_SLEEPER) {
        int r;

        l_gate_sleep(&l->gate);
        r = gt_notetsleep(pl->p, a.until);
        l_gate_wake(&l->gate);
        CHECK(r == 0 || r == 1);
        if (r == 0)
            CHECK_GE(gt_nanotime(l->s), a.until);
    } else if (pl->kind == L_POLLER) {
        sleep_by_poll(me);
    } else {
        nap_us(20);
    }
}

void l_turn_thief(struct l_thread *me)
{
    struct load *l = me->l;
    struct pass a = {l, NULL, 0, 0, -1};

    guarded(&a);
    if (rng_below(&me->rng, 64) == 0)
        adopt(l, &me->rng);
    if (l->o.ps_come_and_go && rng_below(&me->rng, 256) == 0)
        for (int i = 0; i < l->places; i++)
            if (l->place[i].kind == L_NOBODY)
                replace_p(l, &l->place[i], 0);
    if (!a.ran)
        nap_us(100 + (int)rng_below(&me->rng, 400));
}

/* Moves the virtual clock in steps of all sizes. It waits for loops that lag behind, but not
 * for ever. */
void l_turn_driver(struct l_thread *me)
{
    struct load *l = me->l;
    int64_t d = (int64_t)rng_below(&me->rng, (uint64_t)(l->o.spread / 40 + 2));
    int64_t overdue = gt_overdue(l->s, 0);

    CHECK_GE(overdue, 0);
    if (overdue <= 4 * l->o.spread) {
        me->stalled = 0;
    } else {
        if (me->stalled == 0)
            me->stalled = mono_now();
        if (mono_now() - me->stalled > l->o.overdue_limit)
            test_failed(__FILE__, __LINE__, "%s: lost: the clock waits for a timer that does not fire",
                        l->o.name);
        nap_us(200);
        return;
    }
    if (rng_below(&me->rng, 16) == 0 && l->o.guard == NULL) {
        int r = gt_sched_advance(l->s, d);

        CHECK(r == 0 || r == 1);
    } else {
        CHECK_EQ(gt_sched_set_time(l->s, gt_nanotime(l->s) + d), 0);
    }
    nap_us(100);
}
