/* ploop_bed.c: the P loops that sleep, and their ways to sleep and to be woken. */
#include "ploop_bed.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct bed bed;

static void signal_sleeper(struct sleeper *z)
{
    pthread_mutex_lock(&z->lock);
    z->woken = 1;
    pthread_cond_signal(&z->cond);
    pthread_mutex_unlock(&z->lock);
}

static void wake_hook(void *ctx, gt_p *p, int64_t when)
{
    struct bed *b = ctx;
    struct sleeper *z = gt_p_userdata(p);

    if (z == NULL)
        return;   /* a P so new that its thread has not looked at it yet */
    if (b->way == SPIN) {
        atomic_store(&z->flag, 1);
        return;
    }
    atomic_thread_fence(memory_order_seq_cst);
    if (b->way == COND || when < atomic_load(&z->until))
        signal_sleeper(z);
}

static void sleep_on_cond(struct sleeper *z, int64_t until)
{
    struct bed *b = z->bed;
    int64_t again;

    if (b->way == COND_UNTIL) {
        atomic_store(&z->until, until);
        atomic_thread_fence(memory_order_seq_cst);
        again = gt_nobarrier_wake_time(z->p);
        if (again != 0 && again < until) {
            atomic_store(&z->until, 0);
            return;
        }
    }
    pthread_mutex_lock(&z->lock);
    while (!z->woken && !atomic_load(&b->stop)) {
        int64_t now = gt_nanotime(b->s), at;
        struct timespec ts;

        if (now >= until)
            break;
        if (until - now > PL_HOUR * 24) {
            pthread_cond_wait(&z->cond, &z->lock);
            continue;
        }
        at = mono_now() + (until - now);
        ts.tv_sec = at / PL_SEC;
        ts.tv_nsec = at % PL_SEC;
        pthread_cond_timedwait(&z->cond, &z->lock, &ts);
    }
    z->woken = 0;
    pthread_mutex_unlock(&z->lock);
    atomic_store(&z->until, 0);
}

static void sleep_on_flag(struct sleeper *z, int64_t until)
{
    struct bed *b = z->bed;

    for (unsigned turns = 1; atomic_exchange(&z->flag, 0) == 0 && !atomic_load(&b->stop); turns++) {
        if (until != 0 && gt_nanotime(b->s) >= until)
            return;
        if (turns % 64 == 0)
            sched_yield();
    }
}

static void sleep_until(struct sleeper *z, int64_t until)
{
    struct bed *b = z->bed;
    int r;

    pl_add(z->sleeps, 1);
    if (b->way == NOTE) {
        r = gt_notetsleep(z->p, until);
        CHECK(r == 0 || r == 1);
        if (r == 0) {
            CHECK(until != 0);
            CHECK_GE(gt_nanotime(b->s), until);
        }
    } else if (b->way == FD) {
        struct pollfd fds[2] = {{gt_p_fd(z->p), POLLIN, 0}, {z->stop_fd, POLLIN, 0}};

        CHECK_GE(fds[0].fd, 0);
        while (poll(fds, 2, -1) < 0)
            CHECK_EQ(errno, EINTR);
    } else if (b->way == SPIN) {
        sleep_on_flag(z, until);
    } else {
        sleep_on_cond(z, until != 0 ? until : GT_MAX_WHEN);
    }
}

static void new_p(struct sleeper *z)
{
    gt_p *p = gt_p_new(z->bed->s);

    CHECK(p != NULL);
    CHECK_EQ(gt_p_set_userdata(p, z), 0);
    pthread_mutex_lock(&z->lock);
    z->p = p;
    pthread_mutex_unlock(&z->lock);
}

static void free_p(struct sleeper *z)
{
    gt_p *p = z->p;

    pthread_mutex_lock(&z->lock);
    z->p = NULL;
    pthread_mutex_unlock(&z->lock);   /* the hook takes it too */
    CHECK_EQ(gt_p_free(p), 0);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    pl_add(z->bed->ps_freed, 1);
}

static void *sleeper_thread(void *arg)
{
    struct sleeper *z = arg;
    struct bed *b = z->bed;
    int64_t now, until;

    pl_rng_start(7000 + (uint64_t)z->index);
    CHECK_EQ(gt_acquirep(z->p), 0);
    while (!atomic_load(&b->stop)) {
        if (b->come_and_go && pl_one_in(8)) {
            free_p(z);
            if (pl_one_in(4))
                sched_yield();
            new_p(z);
            CHECK_EQ(gt_acquirep(z->p), 0);
        }
        gt_check_timers(z->p, 0, &now, &until);
        if (until != 0 && until <= now)
            continue;   /* the pass ended at its bound */
        sleep_until(z, until);
    }
    atomic_store(&z->done, 1);
    return NULL;
}

void bed_start(enum way way, uint32_t clock, int n, int come_and_go)
{
    gt_config cfg;
    gt_host host;
    pthread_condattr_t attr;

    memset(&cfg, 0, sizeof cfg);
    memset(&host, 0, sizeof host);
    host.size = sizeof host;
    host.ctx = &bed;
    host.wake_netpoller = wake_hook;
    cfg.size = sizeof cfg;
    cfg.clock = clock;
    cfg.host = way == NOTE || way == FD ? NULL : &host;
    bed.way = way;
    bed.n = n;
    bed.come_and_go = come_and_go;
    CHECK((bed.s = gt_sched_new(&cfg)) != NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++) {
        struct sleeper *z = &bed.z[i];

        z->bed = &bed;
        z->index = i;
        CHECK_EQ(pthread_mutex_init(&z->lock, NULL), 0);
        CHECK_EQ(pthread_cond_init(&z->cond, &attr), 0);
        CHECK_GE(z->stop_fd = eventfd(0, EFD_CLOEXEC), 0);
        new_p(z);
    }
    for (int i = 0; i < n; i++)
        bed.z[i].thread = pl_start(sleeper_thread, &bed.z[i]);
    pthread_condattr_destroy(&attr);
}

void bed_stop(void)
{
    uint64_t one = 1, sleeps = 0;

    atomic_store(&bed.stop, 1);
    for (int i = 0; i < bed.n; i++) {
        struct sleeper *z = &bed.z[i];

        CHECK_EQ(write(z->stop_fd, &one, sizeof one), sizeof one);
        signal_sleeper(z);
        /* More than once: it may just be between two Ps. */
        while (bed.way == NOTE && !atomic_load(&z->done)) {
            pthread_mutex_lock(&z->lock);
            if (z->p != NULL)
                CHECK_EQ(gt_notewakeup(z->p), 0);
            pthread_mutex_unlock(&z->lock);
            sleep_ms(1);
        }
        pl_join(z->thread);
    }
    check_conserved(bed.s);
    for (int i = 0; i < bed.n; i++) {
        struct sleeper *z = &bed.z[i];

        sleeps += pl_get(z->sleeps);
        CHECK_EQ(gt_p_free(z->p), 0);
        close(z->stop_fd);
        pthread_mutex_destroy(&z->lock);
        pthread_cond_destroy(&z->cond);
    }
    printf("slept %llu times, %llu wakes, %llu Ps freed\n", (unsigned long long)sleeps,
           (unsigned long long)get_stats(bed.s).wakes, (unsigned long long)pl_get(bed.ps_freed));
}

void check_at_rest(void)
{
    int64_t limit = mono_now() + pl_limit_ns(SOON);

    for (;;) {
        uint64_t before = 0, after = 0;

        for (int i = 0; i < bed.n; i++)
            before += pl_get(bed.z[i].sleeps);
        sleep_ms(50);
        for (int i = 0; i < bed.n; i++)
            after += pl_get(bed.z[i].sleeps);
        if (after - before < 20)
            return;
        CHECK_LT(mono_now(), limit);
    }
}
