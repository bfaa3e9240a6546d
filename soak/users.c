/* See users.h. */
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct user {
    struct users *u;
    uint64_t rng;
    int fds[2];
    gt_netpoll *pd;
};

/* A fork child has the parent's sockets: it does not write to them. */
static int in_child;

static int64_t now(void) { return gt_nanotime(gt_runtime_sched()); }

/* What came at `at` was not to come before `when`, nor much after it. */
static void on_time(struct users *u, const char *what, int64_t at, int64_t when)
{
    int64_t late = at - when, worst = l_get(u->late_max);

    if (late < 0)
        test_failed(__FILE__, __LINE__, "users: %s came %lld ns early", what, (long long)-late);
    if (late > l_patience())
        test_failed(__FILE__, __LINE__, "users: %s came %lld ms late", what, (long long)(late / L_MS));
    while (late > worst && !atomic_compare_exchange_weak(&u->late_max, &worst, late)) {}
}

static int64_t some(struct user *me, int64_t most) { return (int64_t)rng_below(&me->rng, (uint64_t)most); }

static void sleeps(struct user *me)
{
    int64_t d = some(me, 2 * L_MS), begin = now();

    CHECK_EQ(gt_sleep(d), 0);
    on_time(me->u, "gt_sleep", now(), begin + d);
    l_add(me->u->sleeps, 1);
}

/* One value, at its time, and no other. */
static void receives(struct user *me)
{
    int64_t d = some(me, 2 * L_MS), begin = now(), sent = 0;
    int after = some(me, 4) == 0;
    gt_timer *t = after ? gt_after(d) : gt_new_timer(d);

    CHECK(t != NULL);
    if (some(me, 2)) {
        int r;

        while ((r = gt_timer_try_recv(t, &sent)) == 0)
            CHECK_EQ(gt_sleep(100 * L_US), 0);
        CHECK_EQ(r, 1);
    } else {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
    }
    CHECK_GE(sent, begin + d);
    on_time(me->u, "a timer's value", now(), sent);
    l_add(me->u->values, 1);
    if (after)
        return;
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_stop(t), 0);
    CHECK_EQ(gt_timer_reset(t, 3600 * L_SEC), 0);
    CHECK_EQ(gt_timer_reset(t, 0), 1);
    if (some(me, 2)) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        CHECK_EQ(gt_timer_free(t), 0);
    } else {
        CHECK_EQ(gt_timer_free(t), 1);       /* the value that nobody has received */
    }
}

static void ticks(struct user *me)
{
    int64_t d = 100 * L_US + some(me, L_MS), begin = now(), sent, last = 0, first = 0;
    gt_timer *t = some(me, 2) ? gt_new_ticker(d) : gt_tick(d);

    CHECK(t != NULL);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(gt_timer_recv(t, &sent), 0);
        on_time(me->u, "a tick", now(), sent);
        CHECK_GE(sent, begin + d);
        if (first == 0)
            first = sent;
        CHECK(i == 0 || sent > last);
        CHECK_EQ((sent - first) % d, 0);     /* phase is kept */
        last = sent;
        l_add(me->u->ticks, 1);
    }
    CHECK_EQ(gt_timer_reset(t, 0), GT_EINVAL);
    CHECK_EQ(gt_timer_reset(t, 2 * d), 1);
    CHECK_EQ(gt_timer_stop(t), 1);
    CHECK_EQ(gt_timer_try_recv(t, NULL), 0);
    CHECK_EQ(gt_timer_free(t), 0);
}

static int poll_one(struct pollfd *pf, int ms)
{
    int r;

    do {
        r = poll(pf, 1, ms);
    } while (r < 0 && errno == EINTR);
    return r;
}

static void polls(struct user *me)
{
    int64_t d = some(me, 2 * L_MS), begin = now(), sent;
    gt_timer *t = gt_new_timer(d);
    struct pollfd pf = {.events = POLLIN};
    int r;

    CHECK(t != NULL);
    pf.fd = gt_timer_fd(t);
    CHECK_GE(pf.fd, 0);
    r = poll_one(&pf, (int)(l_patience() / L_MS));
    if (r != 1)
        test_failed(__FILE__, __LINE__, "users: a timer's descriptor did not get readable: %d", r);
    CHECK_EQ(gt_timer_try_recv(t, &sent), 1);
    CHECK_GE(sent, begin + d);
    on_time(me->u, "a descriptor", now(), sent);
    CHECK_EQ(poll_one(&pf, 0), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    l_add(me->u->polls, 1);
}

/* ---- functions ---- */

struct job {
    struct users *u;
    int64_t when;
    atomic_int runs;
    int fd;
};

static void job_run(void *arg, uintptr_t seq, int64_t delay)
{
    struct job *j = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    on_time(j->u, "a function", now(), j->when);
    CHECK_EQ(atomic_fetch_add(&j->runs, 1), 0);
    if (j->fd >= 0 && !in_child)
        CHECK_EQ(write(j->fd, "x", 1), 1);
    if (!is_forgotten("forget_function"))
        l_add(j->u->funcs_ended, 1);
}

static void job_drop(void *arg)
{
    struct job *j = arg;

    l_add(j->u->dropped, 1);
    free(j);
}

static gt_timer *new_job(struct user *me, int64_t d, int fd)
{
    struct job *j = malloc(sizeof *j);
    gt_timer *t;

    CHECK(j != NULL);
    j->u = me->u;
    j->when = now() + d;
    j->runs = 0;
    j->fd = fd;
    l_add(me->u->funcs_armed, 1);
    t = gt_after_func(d, job_run, j, job_drop);
    CHECK(t != NULL);
    return t;
}

/* A function is called once, or stopped, never both. */
static void lets_call(struct user *me)
{
    gt_timer *t = new_job(me, some(me, L_MS), -1);
    int r;

    switch (some(me, 4)) {
    case 0:
        CHECK_EQ(gt_timer_detach(t), 0);
        return;
    case 1:
        r = gt_timer_free(t);
        CHECK(r == 0 || r == 1);
        l_add(me->u->funcs_ended, r);
        return;
    case 2:
        CHECK_EQ(gt_sleep(some(me, L_MS)), 0);
        break;
    default:
        break;
    }
    r = gt_deltimer_sync(t);
    CHECK(r == 0 || r == 1);
    l_add(me->u->funcs_ended, r);
    CHECK_EQ(gt_timer_free(t), 0);
}

/* ---- sockets ---- */

static void drain(struct user *me)
{
    char c;

    while (read(me->fds[0], &c, 1) == 1) {}
}

static void waits(struct user *me)
{
    int64_t until = now() + some(me, 2 * L_MS) + 1;
    int byte = some(me, 2) != 0, r;
    gt_timer *t = byte ? new_job(me, some(me, 2 * L_MS), me->fds[1]) : NULL;

    CHECK_EQ(gt_netpoll_set_deadline(me->pd, GT_READ, until), 0);
    for (;;) {
        char c;

        r = gt_netpoll_wait(me->pd, GT_READ);
        if (r != 0)
            break;
        if (read(me->fds[0], &c, 1) == 1)
            break;
        CHECK_EQ(errno, EAGAIN);     /* "ready" once too often is allowed */
    }
    if (r == GT_ETIMEDOUT) {
        on_time(me->u, "a deadline", now(), until);
        l_add(me->u->timeouts, 1);
    } else {
        CHECK_EQ(r, 0);
        CHECK(byte);
    }
    CHECK_EQ(gt_netpoll_set_deadline(me->pd, GT_READ | GT_WRITE, 0), 0);
    CHECK_EQ(gt_netpoll_wait(me->pd, GT_WRITE), 0);
    if (t != NULL) {
        r = gt_deltimer_sync(t);
        l_add(me->u->funcs_ended, r == 1);
        CHECK_EQ(gt_timer_free(t), 0);
    }
    drain(me);
    l_add(me->u->waits, 1);
    /* The edge of the write side was taken above; a new watch gives the next one. */
    CHECK_EQ(gt_netpoll_close(me->pd), 0);
    CHECK((me->pd = gt_netpoll_open(me->fds[0])) != NULL);
}

/* ---- bubbles ---- */

static void dream_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_EQ(delay, 0);
    ++*(int *)arg;
}

/* A sched of one's own, in whose bubble hours are over at once, and to the nanosecond. */
static void dreams(struct user *me)
{
    int64_t d = some(me, 3600 * L_SEC) + 1, sent;
    gt_sched *s = virtual_sched();
    gt_timer *t = gt_sched_new_timer(s, d), *f;
    int runs = 0;

    CHECK(t != NULL);
    CHECK((f = gt_sched_after_func(s, 2 * d, dream_run, &runs, NULL)) != NULL);
    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_timer_recv(t, &sent), 0);
    CHECK_EQ(sent, gt_nanotime(s));
    CHECK_EQ(gt_timer_recv(t, NULL), GT_EDEADLK);
    CHECK_EQ(runs, 1);                 /* that came first: then there was nothing left to wait for */
    CHECK_EQ(gt_nanotime(s), sent + d);
    CHECK_EQ(gt_synctest_leave(s), 0);
    CHECK_EQ(gt_timer_free(f), 0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    close_sched(s);
    l_add(me->u->dreams, 1);
}

static void *user_main(void *arg)
{
    struct user me = *(struct user *)arg;

    free(arg);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, me.fds), 0);
    CHECK((me.pd = gt_netpoll_open(me.fds[0])) != NULL);
    while (!atomic_load(&me.u->stop)) {
        l_gate_pass(&me.u->gate);
        switch (some(&me, 9)) {
        case 0: sleeps(&me); break;
        case 1: receives(&me); break;
        case 2: ticks(&me); break;
        case 3: polls(&me); break;
        case 4:
        case 5: waits(&me); break;
        case 6: dreams(&me); break;
        default:
            for (int i = 0; i < 8; i++)
                lets_call(&me);
        }
    }
    CHECK_EQ(gt_netpoll_close(me.pd), 0);
    close(me.fds[0]);
    close(me.fds[1]);
    l_gate_sleep(&me.u->gate);
    return NULL;
}

/* ---- the frame ---- */

static void start_runtime(struct users *u)
{
    gt_runtime_config cfg = {.size = sizeof cfg};

    cfg.workers = (uint32_t)u->workers;
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    CHECK_EQ(gt_runtime_workers(), u->workers);
    u->workers = u->workers % 4 + 1;
}

void users_start(struct users *u, int n)
{
    memset(u, 0, sizeof *u);
    CHECK_LE(n, USERS_MAX);
    u->n = n;
    u->workers = 2;
    u->gate.running = n;
    pthread_mutex_init(&u->gate.m, NULL);
    pthread_cond_init(&u->gate.c, NULL);
    start_runtime(u);
    for (int i = 0; i < n; i++) {
        struct user *me = calloc(1, sizeof *me);

        CHECK(me != NULL);
        me->u = u;
        me->rng = load_seed + 1000 * (uint64_t)(i + 1);
        CHECK_EQ(pthread_create(&u->thread[i], NULL, user_main, me), 0);
    }
}

void users_pause(struct users *u) { l_gate_pause(&u->gate, "users"); }

void users_resume(struct users *u) { l_gate_resume(&u->gate); }

/* Nobody arms anything now: what was armed for a function is called, or was stopped, within a few
 * milliseconds; and then armed = fired + stopped + replaced + pending, by the library's own books. */
static void all_accounted_for(struct users *u)
{
    int64_t limit = mono_now() + l_patience();
    gt_sched *s = gt_runtime_sched();
    gt_stats st;

    while (l_get(u->funcs_armed) != l_get(u->funcs_ended) || l_get(u->dropped) != l_get(u->funcs_armed)) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "users: lost: %lld functions armed, %lld called or stopped, %lld dropped",
                        (long long)l_get(u->funcs_armed), (long long)l_get(u->funcs_ended),
                        (long long)l_get(u->dropped));
        sleep_ms(1);
    }
    do {
        st = get_stats(s);
        sleep_ms(1);                 /* a deadline fires just now, perhaps */
    } while (st.armed != st.fired + st.stopped + st.replaced + st.pending && mono_now() < limit);
    CHECK_EQ(st.armed, st.fired + st.stopped + st.replaced + st.pending);
    CHECK_EQ(st.early, 0);
}

void users_check(struct users *u, int restart)
{
    gt_sched *s = gt_runtime_sched();

    CHECK_LT(gt_overdue(s, 0), l_patience());
    all_accounted_for(u);
    if (!restart)
        return;
    CHECK_EQ(gt_runtime_stop(), 0);
    l_add(u->restarts, 1);
    check_conserved(s);
    start_runtime(u);
}

static void child_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    atomic_store((atomic_int *)arg, 1);
}

void users_check_child(struct users *u)
{
    atomic_int ran = 0;
    int64_t begin = mono_now();
    gt_timer *t;

    (void)u;
    in_child = 1;
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_runtime_workers(), 0);
    CHECK_EQ(gt_runtime_start(NULL), 0);
    t = gt_after_func(L_MS, child_run, &ran, NULL);
    CHECK(t != NULL);
    while (atomic_load(&ran) == 0) {
        CHECK_LT(mono_now() - begin, l_patience());
        CHECK_EQ(gt_sleep(L_MS), 0);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_runtime_stop(), 0);
    CHECK_EQ(get_stats(gt_runtime_sched()).early, 0);
    check_conserved(gt_runtime_sched());
}

void users_end(struct users *u)
{
    atomic_store(&u->stop, 1);
    for (int i = 0; i < u->n; i++)
        CHECK_EQ(pthread_join(u->thread[i], NULL), 0);
    all_accounted_for(u);
    CHECK_EQ(gt_runtime_stop(), 0);
    check_conserved(gt_runtime_sched());
    CHECK_EQ(get_stats(gt_runtime_sched()).pending, 0);
}
