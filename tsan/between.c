/* Data that is handed over between threads with Ps: a wake that a sleeper takes, a P that
 * another thread binds, the pointer that is kept with a P. Then much of everything, with
 * whatever the library does with its own memory on the way. Nothing of this may be reported. */
#include "embed.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static struct parcel shared;

/* Two threads that wake each other in turn; who is woken has the parcel. */
static gt_p *pair[2];

static void *ping_pong(void *arg)
{
    int me = arg != NULL;

    for (int i = 0; i < 50; i++) {
        MUST(gt_notetsleep(pair[me], 0) == 1);
        writes(&shared, reads(&shared) + 1);
        MUST(gt_notewakeup(pair[!me]) == 0);
    }
    return NULL;
}

CLEAN(wake_then_sleeper)
{
    gt_sched *s = gt_sched_new(NULL);
    pthread_t th[2];

    pair[0] = gt_p_new(s);
    pair[1] = gt_p_new(s);
    for (int i = 0; i < 2; i++)
        th[i] = start(ping_pong, i == 0 ? NULL : &shared);
    writes(&shared, 1);
    MUST(gt_notewakeup(pair[0]) == 0);
    for (int i = 0; i < 2; i++)
        join(th[i]);
    MUST(reads(&shared) == 101);
    for (int i = 0; i < 2; i++)
        MUST(gt_p_free(pair[i]) == 0);
    MUST(gt_sched_free(s) == 0);
}

/* Each thread binds the P, works on what belongs to it, and lets it go: by gt_releasep, or
 * by its end. */
static void *turns(void *arg)
{
    for (int i = 0; i < 100;) {
        if (gt_acquirep(arg) != 0) {
            nap_ms(1);
            continue;
        }
        i++;
        writes(&shared, reads(&shared) + 1);
        if (i < 100)
            MUST(gt_releasep() == arg);
    }
    return NULL;
}

CLEAN(a_p_is_bound_in_turn)
{
    gt_sched *s = gt_sched_new(NULL);
    gt_p *p = gt_p_new(s);
    pthread_t th[3];

    for (int i = 0; i < 3; i++)
        th[i] = start(turns, p);
    for (int i = 0; i < 3; i++)
        join(th[i]);
    MUST(reads(&shared) == 300);
    MUST(gt_p_free(p) == 0);
    MUST(gt_sched_free(s) == 0);
}

static void *looks(void *arg)
{
    struct parcel *d;

    while ((d = gt_p_userdata(arg)) == NULL)
        nap_ms(1);
    MUST(reads(d) == 5);
    return NULL;
}

CLEAN(userdata_is_published)
{
    gt_sched *s = gt_sched_new(NULL);
    gt_p *p = gt_p_new(s);
    pthread_t th = start(looks, p);
    struct parcel *d = parcel_new(0);

    nap_ms(5);
    writes(d, 5);
    MUST(gt_p_set_userdata(p, d) == 0);
    join(th);
    free(d);
    MUST(gt_p_free(p) == 0);
    MUST(gt_sched_free(s) == 0);
}

/* ---- much of everything ---- */

enum { WORKERS = 3, TIMERS = 400 };

static struct bed storm_bed;

/* A thread with timers of its own: what it hands over, it takes back with gt_deltimer_sync. */
static void *storm(void *arg)
{
    uint64_t rng = (uint64_t)(uintptr_t)arg;
    gt_timer *t[TIMERS];
    struct parcel *d[TIMERS];
    int fd;

    for (int i = 0; i < TIMERS; i++) {
        d[i] = parcel_new(i);
        t[i] = gt_timer_new(storm_bed.s, writes_in_callback, d[i], reads_in_drop);
        MUST(t[i] != NULL);
    }
    for (int round = 0; round < 4; round++) {
        gt_p *mine = gt_p_new(storm_bed.s);

        MUST(mine != NULL);
        MUST(gt_acquirep(mine) == 0);
        fd = gt_p_fd(mine);
        MUST(fd >= 0);
        for (int i = 0; i < TIMERS; i++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            if (gt_deltimer_sync(t[i]) < 0)
                continue;
            writes(d[i], reads(d[i]) & 0xffff);
            switch (rng >> 60) {
            case 0: gt_addtimer_on(storm_bed.p[0], t[i], DUE, 0); break;
            case 1: gt_addtimer_on(storm_bed.p[1], t[i], DUE, 0); break;
            case 2: gt_resettimer(t[i], LATER, 0); break;
            case 3: gt_timer_free(t[i]);
                d[i] = parcel_new(i);
                t[i] = gt_timer_new(storm_bed.s, writes_in_callback, d[i], reads_in_drop);
                break;
            default: gt_addtimer(t[i], (rng & 3) != 0 ? LATER + i : DUE, 0); break;
            }
        }
        MUST(gt_check_timers(mine, 0, NULL, NULL) >= 0);
        MUST(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) >= 0);
        MUST(gt_adopt_timers(storm_bed.p[0], mine) >= 0);
        MUST(gt_trim(storm_bed.p[1]) >= 0);
        MUST(gt_p_free(mine) == 0);
        gt_releasep();
    }
    for (int i = 0; i < TIMERS; i++)
        MUST(gt_timer_free(t[i]) >= 0);
    return NULL;
}

CLEAN(much_of_everything)
{
    pthread_t th[WORKERS];

    bed_start(&storm_bed, 2, 1);
    for (int i = 0; i < WORKERS; i++)
        th[i] = start(storm, (void *)(uintptr_t)(i + 1));
    for (int i = 0; i < WORKERS; i++)
        join(th[i]);
    bed_end(&storm_bed);
}

/* Two scheds at once, made and freed over and over by several threads. */
static void *scheds(void *arg)
{
    (void)arg;
    for (int i = 0; i < 30; i++) {
        gt_sched *s = gt_sched_new(NULL);
        gt_p *p = gt_p_new(s), *q = gt_p_new(s);
        gt_timer *t = gt_timer_new(s, writes_in_callback, parcel_new(1), reads_in_drop);

        MUST(p != NULL && q != NULL && t != NULL);
        MUST(gt_addtimer_on(p, t, 1, 0) == 0);
        MUST(gt_check_others(s, q, 0, NULL, NULL) == 1);
        MUST(gt_timer_free(t) == 0);
        MUST(gt_p_free(p) == 0);
        MUST(gt_p_free(q) == 0);
        MUST(gt_sched_free(s) == 0);
    }
    return NULL;
}

CLEAN(scheds_come_and_go)
{
    pthread_t th[WORKERS];

    for (int i = 0; i < WORKERS; i++)
        th[i] = start(scheds, NULL);
    for (int i = 0; i < WORKERS; i++)
        join(th[i]);
}
