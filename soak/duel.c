/* See duel.h. */
#include "duel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* The wake hook does what the default does, and counts. */
static void wake(void *ctx, gt_p *p, int64_t when)
{
    struct duel *d = ctx;
    int64_t n = l_add(d->wakes, 1);

    CHECK_GE(when, 0);
    if (planted("wake") && n % 10 == 9)
        return;                  /* the mistake: this wake is lost */
    CHECK_EQ(gt_notewakeup(p), 0);
}

static void *sleeper(void *arg)
{
    struct duel *d = arg;
    int64_t now, until;
    struct pollfd pf[2] = {{.events = POLLIN}, {.events = POLLIN}};

    CHECK_EQ(gt_acquirep(d->p), 0);
    pf[0].fd = d->by_poll ? gt_p_fd(d->p) : -1;
    pf[1].fd = d->event;
    CHECK(!d->by_poll || pf[0].fd >= 0);
    while (!atomic_load(&d->stop_sleeper)) {
        CHECK_GE(gt_check_timers(d->p, 0, &now, &until), 0);
        if (until != 0 && until <= now)
            continue;
        if (d->by_poll)
            poll(pf, 2, -1);
        else
            CHECK_GE(gt_notetsleep(d->p, until), 0);
    }
    CHECK_PTR_EQ(gt_releasep(), d->p);
    return NULL;
}

struct shot {
    struct duel *d;
    int64_t when;
};

static void fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct shot *a = arg;
    int64_t now = gt_nanotime(a->d->s), worst = l_get(a->d->late_max);

    (void)seq;
    CHECK_GE(delay, 0);
    CHECK_GE(now, a->when);
    if (now - a->when > worst)
        atomic_store(&a->d->late_max, now - a->when);
    atomic_store(&a->d->fired, 1);
}

/* The timer is armed somewhere else, and comes to the sleeper's P with what is there. */
static void by_another_p(struct duel *d, gt_timer *t, int64_t when, int free_it)
{
    gt_p *q = gt_p_new(d->s);

    CHECK(q != NULL);
    CHECK_EQ(gt_addtimer_on(q, t, when, 0), 0);
    if (!free_it)
        CHECK_EQ(gt_adopt_timers(d->p, q), 1);
    CHECK_EQ(gt_p_free(q), 0);
}

static void arm(struct duel *d, gt_timer *t, struct shot *a)
{
    int64_t far = gt_nanotime(d->s) + 3600 * L_SEC;

    a->when = gt_nanotime(d->s) + (int64_t)rng_below(&d->rng, 200 * L_US);
    switch (rng_below(&d->rng, DUEL_WAYS)) {
    case 0: CHECK_EQ(gt_addtimer(t, a->when, 0), 0); break;
    case 1: CHECK_EQ(gt_addtimer_on(d->p, t, a->when, 0), 0); break;
    case 2: CHECK_EQ(gt_modtimer_id(d->s, gt_timer_id(t), a->when, 0, fire, a, 1), 0); break;
    case 3:   /* in the heap already: the earlier time is a note for the P */
        CHECK_EQ(gt_addtimer_on(d->p, t, far, 0), 0);
        if (rng_below(&d->rng, 2))
            sleep_ms(1);
        CHECK_EQ(gt_resettimer(t, a->when, 0), 1);
        break;
    case 4:   /* stopped, and still in the heap */
        CHECK_EQ(gt_addtimer_on(d->p, t, far, 0), 0);
        CHECK_EQ(gt_deltimer(t), 1);
        CHECK_EQ(gt_resettimer(t, a->when, 0), 0);
        break;
    case 5: by_another_p(d, t, a->when, 0); break;
    default: by_another_p(d, t, a->when, 1); break;
    }
}

static void *armer(void *arg)
{
    struct duel *d = arg;
    struct timespec nap = {0, 20000};

    while (!atomic_load(&d->stop)) {
        struct shot a = {.d = d};
        gt_timer *t = gt_timer_new(d->s, fire, &a, NULL);
        int64_t limit = mono_now() + l_patience();

        CHECK(t != NULL);
        if (d->gate != NULL)
            l_gate_pass(d->gate);
        atomic_store(&d->fired, 0);
        /* Sometimes the sleeper is fast asleep, sometimes he is about to be. */
        if (rng_below(&d->rng, 4) == 0)
            nanosleep(&nap, NULL);
        arm(d, t, &a);
        while (atomic_load(&d->fired) == 0) {
            if (mono_now() > limit)
                test_failed(__FILE__, __LINE__, "a lost wake: a timer that is due for %lld ms has not fired",
                            (long long)((gt_nanotime(d->s) - a.when) / L_MS));
            sched_yield();
        }
        CHECK_EQ(gt_deltimer_sync(t), 0);
        CHECK_EQ(gt_timer_free(t), 0);
        l_add(d->rounds, 1);
    }
    if (d->gate != NULL)
        l_gate_sleep(d->gate);
    return NULL;
}

void duel_start(struct duel *d, int by_poll, uint64_t seed, struct l_gate *gate)
{
    gt_host host = {.size = sizeof host, .ctx = d, .wake_netpoller = wake};
    gt_config cfg = {.size = sizeof cfg, .host = &host};

    memset(d, 0, sizeof *d);
    d->by_poll = by_poll;
    d->rng = seed;
    d->gate = gate;
    d->s = gt_sched_new(&cfg);
    CHECK(d->s != NULL);
    CHECK((d->p = gt_p_new(d->s)) != NULL);
    d->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK_GE(d->event, 0);
    CHECK_EQ(pthread_create(&d->sleeper, NULL, sleeper, d), 0);
    CHECK_EQ(pthread_create(&d->armer, NULL, armer, d), 0);
}

void duel_end(struct duel *d)
{
    uint64_t one = 1;

    atomic_store(&d->stop, 1);
    CHECK_EQ(pthread_join(d->armer, NULL), 0);
    atomic_store(&d->stop_sleeper, 1);
    CHECK_EQ(gt_notewakeup(d->p), 0);
    CHECK_EQ(write(d->event, &one, sizeof one), (ssize_t)sizeof one);
    CHECK_EQ(pthread_join(d->sleeper, NULL), 0);
    check_conserved(d->s);
    CHECK_EQ(get_stats(d->s).pending, 0);
    CHECK_EQ(gt_p_free(d->p), 0);
    close_sched(d->s);
    close(d->event);
}
