/* Package time and the built-in runtime: what a program hands over with gt_after_func, with the
 * channel of a timer, and between the threads of a bubble. Nothing of this may be reported,
 * but for the races at the end. */
#include "embed.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const int64_t MS = 1000000;

CLEAN(after_func_and_sync)
{
    MUST(gt_runtime_start(NULL) == 0);
    for (int i = 0; i < 40; i++) {
        struct parcel *d = parcel_new(i);
        gt_timer *t;

        writes(d, i + 5);
        t = gt_after_func((i & 3) * 100000, writes_in_callback, d, reads_in_drop);
        MUST(t != NULL);
        if (i & 4) {
            wait_until_set(&d->done);
            MUST(gt_deltimer_sync(t) == 0);
            MUST(reads(d) == i + 6);
        }
        MUST((i & 8 ? gt_timer_detach(t) : gt_timer_free(t)) >= 0);
    }
    MUST(gt_runtime_stop() == 0);
}

/* The end of the runtime waits for callbacks. */
CLEAN(runtime_stop_then_reading)
{
    for (int i = 0; i < 10; i++) {
        struct parcel d = {0};
        gt_timer *t = gt_after_func(0, writes_in_callback, &d, NULL);

        MUST(t != NULL);
        MUST(gt_runtime_start(NULL) == 0);
        wait_until_set(&d.done);
        MUST(gt_runtime_stop() == 0);
        MUST(reads(&d) == 1);
        MUST(gt_timer_free(t) == 0);
    }
}

/* Who resets a channel timer hands over to who receives from it. */
static gt_timer *chan;
static struct parcel through;

static void *receives(void *arg)
{
    int64_t sent;

    for (int i = 0; i < 40; i++) {
        if (i & 1) {
            MUST(gt_timer_recv(chan, &sent) == 0);
        } else {
            int r;

            while ((r = gt_timer_try_recv(chan, &sent)) == 0)
                nap_ms(1);
            MUST(r == 1);
        }
        MUST(sent > 0);
        MUST(reads(&through) == i + 1);
        writes(&through, -1);
        MUST(gt_notewakeup(arg) == 0);      /* the way back */
    }
    return NULL;
}

CLEAN(reset_then_receive)
{
    gt_p *p;
    pthread_t th;

    MUST(gt_runtime_start(NULL) == 0);
    p = gt_p_new(gt_runtime_sched());
    writes(&through, 1);
    chan = gt_new_timer(0);
    MUST(p != NULL && chan != NULL);
    th = start(receives, p);
    for (int i = 1; i <= 40; i++) {
        MUST(gt_notetsleep(p, 0) == 1);
        MUST(reads(&through) == -1);
        writes(&through, i + 1);
        if (i < 40)
            MUST(gt_timer_reset(chan, (i & 1) * MS) == 0);
    }
    join(th);
    MUST(gt_timer_free(chan) == 0);
    MUST(gt_p_free(p) == 0);
    MUST(gt_runtime_stop() == 0);
}

/* Free wakes who receives: as a close does. */
static void *receives_nothing(void *arg)
{
    poke(through.done, gettid());
    MUST(gt_timer_recv(arg, NULL) == GT_ESTALE);
    MUST(reads(&through) == 7);
    return NULL;
}

CLEAN(free_then_receiver)
{
    pthread_t th;

    MUST(gt_runtime_start(NULL) == 0);
    chan = gt_new_timer(GT_MAX_WHEN);
    MUST(chan != NULL);
    th = start(receives_nothing, chan);
    wait_until_asleep(&through.done);
    writes(&through, 7);
    MUST(gt_timer_free(chan) == 1);
    join(th);
    MUST(gt_runtime_stop() == 0);
}

/* Who sets a deadline or closes hands over to who waits. */
static gt_netpoll *pd;
static struct parcel at_close;

static void *waits_for_ready(void *arg)
{
    (void)arg;
    poke(at_close.done, gettid());
    MUST(gt_netpoll_wait(pd, GT_READ) == GT_ETIMEDOUT);
    MUST(reads(&through) == 1);
    poke(through.done, gettid());
    MUST(gt_netpoll_wait(pd, GT_WRITE) == GT_ECANCELED);
    MUST(reads(&at_close) == 2);
    return NULL;
}

CLEAN(netpoll_deadline_and_close)
{
    int fds[2];
    char full[4096] = {0};
    pthread_t th;

    MUST(pipe2(fds, O_NONBLOCK) == 0);
    while (write(fds[1], full, sizeof full) > 0) {}
    MUST(gt_runtime_start(NULL) == 0);
    pd = gt_netpoll_open(fds[1]);
    MUST(pd != NULL);
    th = start(waits_for_ready, NULL);
    wait_until_asleep(&at_close.done);
    writes(&through, 1);
    MUST(gt_netpoll_set_deadline(pd, GT_READ, 1) == 0);
    wait_until_asleep(&through.done);
    writes(&at_close, 2);
    MUST(gt_netpoll_close(pd) == 0);
    join(th);
    close(fds[0]);
    close(fds[1]);
    MUST(gt_runtime_stop() == 0);
}

/* In a bubble time passes when everybody waits, and who waits for that sees what they did. */
static struct bubble {
    gt_sched *s;
    struct parcel d[3];
    struct parcel all;
    int joined;
} bubble;

static void *member(void *arg)
{
    struct parcel *d = arg;

    MUST(gt_synctest_join(bubble.s) == 0);
    __atomic_fetch_add(&bubble.joined, 1, __ATOMIC_RELAXED);
    for (int i = 1; i <= 20; i++) {
        writes(d, i);
        MUST(gt_sched_sleep(bubble.s, 10 * MS) == 0);
    }
    MUST(gt_synctest_leave(bubble.s) == 0);
    return NULL;
}

static void sums(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    for (int i = 0; i < 3; i++)
        writes(&bubble.all, reads(&bubble.all) + reads(&bubble.d[i]));
}

CLEAN(bubble_wait)
{
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL};
    gt_p *p;
    gt_timer *t;
    pthread_t th[3];

    bubble.s = gt_sched_new(&cfg);
    p = gt_p_new(bubble.s);
    t = gt_timer_new(bubble.s, sums, NULL, NULL);
    MUST(p != NULL && t != NULL);
    MUST(gt_synctest_join(bubble.s) == 0);
    for (int i = 0; i < 3; i++)
        th[i] = start(member, &bubble.d[i]);
    while (peek(bubble.joined) < 3)
        nap_ms(1);
    MUST(gt_addtimer(t, DUE + 5 * MS, 10 * MS) == 0);
    for (int i = 1; i <= 20; i++) {
        MUST(gt_synctest_wait(bubble.s) == 0);
        for (int k = 0; k < 3; k++)
            MUST(reads(&bubble.d[k]) == i);
        MUST(gt_sched_sleep(bubble.s, 10 * MS) == 0);
    }
    MUST(gt_synctest_leave(bubble.s) == 0);
    for (int i = 0; i < 3; i++)
        join(th[i]);
    MUST(reads(&bubble.all) >= 20 * 3);
    MUST(gt_timer_free(t) == 1);
    MUST(gt_p_free(p) == 0);
    MUST(gt_sched_free(bubble.s) == 0);
}

/* Much of it at once, with no data but the library's own. */
static void *uses_much(void *arg)
{
    int fds[2];
    char c = 0;
    gt_netpoll *mine;

    (void)arg;
    MUST(pipe2(fds, O_NONBLOCK) == 0);
    mine = gt_netpoll_open(fds[0]);
    MUST(mine != NULL);
    for (int i = 0; i < 50; i++) {
        gt_timer *t = gt_new_timer(MS / 4), *u = gt_new_ticker(MS / 8), *after = gt_after(MS / 8);

        MUST(t != NULL && u != NULL && after != NULL);
        MUST(gt_timer_fd(u) >= 0);
        MUST(gt_timer_recv(after, NULL) == 0);
        MUST(gt_timer_recv(t, NULL) == 0);
        MUST(gt_timer_recv(u, NULL) == 0);
        MUST(gt_timer_reset(t, MS) == 0);
        MUST(gt_timer_stop(u) >= 0);
        MUST(gt_sleep(MS / 10) == 0);
        MUST(gt_netpoll_set_deadline(mine, GT_READ, gt_nanotime(gt_runtime_sched()) + MS / 4) == 0);
        if (i & 1)
            MUST(write(fds[1], &c, 1) == 1);
        MUST(gt_netpoll_wait(mine, GT_READ) <= 0);
        MUST(gt_netpoll_set_deadline(mine, GT_READ, 0) == 0);
        while (read(fds[0], &c, 1) > 0) {}
        MUST(gt_timer_free(t) >= 0);
        MUST(gt_timer_free(u) >= 0);
    }
    MUST(gt_netpoll_close(mine) == 0);
    close(fds[0]);
    close(fds[1]);
    return NULL;
}

CLEAN(much_of_the_runtime)
{
    pthread_t th[3];

    MUST(gt_runtime_start(NULL) == 0);
    for (int i = 0; i < 3; i++)
        th[i] = start(uses_much, NULL);
    for (int i = 0; i < 3; i++)
        join(th[i]);
    MUST(gt_runtime_stop() == 0);
}

/* ---- races ---- */

RACE(race_with_a_worker, "writes_in_callback")
{
    struct parcel d = {0};
    gt_timer *t;

    MUST(gt_runtime_start(NULL) == 0);
    t = gt_after_func(0, writes_in_callback, &d, NULL);
    wait_until_set(&d.done);
    nap_ms(5);
    reads(&d);
    MUST(gt_timer_free(t) == 0);
    MUST(gt_runtime_stop() == 0);
}

/* What another timer's callback did is not handed over with a channel's value. */
RACE(race_beside_a_channel, "writes_in_callback")
{
    gt_runtime_config one = {.size = sizeof one, .workers = 1};
    struct parcel d = {0};
    gt_timer *t, *c;

    MUST(gt_runtime_start(&one) == 0);
    t = gt_after_func(0, writes_in_callback, &d, NULL);
    MUST(t != NULL);
    wait_until_set(&d.done);
    MUST((c = gt_new_timer(MS)) != NULL);
    MUST(gt_timer_recv(c, NULL) == 0);
    reads(&d);
    MUST(gt_timer_free(t) == 0);
    MUST(gt_timer_free(c) == 0);
    MUST(gt_runtime_stop() == 0);
}

RACE(race_in_a_bubble, "writes")
{
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_VIRTUAL};
    pthread_t th;

    bubble.s = gt_sched_new(&cfg);
    MUST(gt_synctest_join(bubble.s) == 0);
    th = start(member, &bubble.d[0]);
    while (peek(bubble.joined) < 1)
        nap_ms(1);
    reads(&bubble.d[0]);
    nap_ms(20);
    reads(&bubble.d[0]);
    MUST(gt_synctest_leave(bubble.s) == 0);
    join(th);
    MUST(gt_sched_free(bubble.s) == 0);
}
