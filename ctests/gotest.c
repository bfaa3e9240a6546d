/* See gotest.h. */
#include "gotest.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int rounds(int n)
{
    int r = n / (int)test_slow();

    return r > 0 ? r : 1;
}

/* ---- the built-in runtime ---- */

int64_t rt_now(void) { return gt_nanotime(gt_runtime_sched()); }

gt_timer *rt_after_func(int64_t d, gt_func f, void *arg)
{
    gt_timer *t = gt_after_func(d, f, arg, NULL);

    CHECK(t != NULL);
    return t;
}

/* ---- timers of both kinds ---- */

static void any_send(void *arg, uintptr_t seq, int64_t delay)
{
    struct any *a = arg;

    (void)seq;
    CHECK_GE(delay, 0);
    pthread_mutex_lock(&a->mu);
    CHECK_EQ(a->full, 0);           /* no test arms one again before it has taken the value */
    a->full = 1;
    a->when = gt_nanotime(a->s) - delay;
    pthread_cond_signal(&a->cv);
    pthread_mutex_unlock(&a->mu);
}

void any_new(struct any *a, enum impl impl, gt_sched *s, int64_t d)
{
    int own = s != NULL;

    memset(a, 0, sizeof *a);
    a->impl = impl;
    a->s = own ? s : gt_runtime_sched();
    pthread_mutex_init(&a->mu, NULL);
    pthread_cond_init(&a->cv, NULL);
    if (impl == IMPL_CHAN)
        a->t = own ? gt_sched_new_timer(s, d) : gt_new_timer(d);
    else
        a->t = own ? gt_sched_after_func(s, d, any_send, a, NULL) : gt_after_func(d, any_send, a, NULL);
    CHECK(a->t != NULL);
}

void any_free(struct any *a)
{
    if (a->impl == IMPL_FUNC)
        CHECK_GE(gt_deltimer_sync(a->t), 0);
    CHECK_GE(gt_timer_free(a->t), 0);
    a->t = NULL;
    pthread_cond_destroy(&a->cv);
    pthread_mutex_destroy(&a->mu);
}

int any_stop(struct any *a)
{
    int r = gt_timer_stop(a->t);

    CHECK_GE(r, 0);
    return r;
}

int any_reset(struct any *a, int64_t d)
{
    int r = gt_timer_reset(a->t, d);

    CHECK_GE(r, 0);
    return r;
}

int64_t any_recv(struct any *a)
{
    struct timespec limit;
    int64_t when = 0, end = mono_now() + LIMIT;

    if (a->impl == IMPL_CHAN) {
        CHECK_EQ(gt_timer_recv(a->t, &when), 0);
        return when;
    }
    pthread_mutex_lock(&a->mu);
    while (!a->full) {
        if (mono_now() > end)
            test_failed(__FILE__, __LINE__, "a timer's function was not called");
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec++;
        pthread_cond_timedwait(&a->cv, &a->mu, &limit);
    }
    a->full = 0;
    when = a->when;
    pthread_mutex_unlock(&a->mu);
    return when;
}

int any_try_recv(struct any *a, int64_t *when)
{
    int r;

    if (a->impl == IMPL_CHAN) {
        r = gt_timer_try_recv(a->t, when);
        CHECK_GE(r, 0);
        return r;
    }
    pthread_mutex_lock(&a->mu);
    r = a->full;
    a->full = 0;
    if (r && when != NULL)
        *when = a->when;
    pthread_mutex_unlock(&a->mu);
    return r;
}

/* ---- threads ---- */

void done_send(struct done *d)
{
    pthread_mutex_lock(&d->mu);
    d->n++;
    pthread_cond_signal(&d->cv);
    pthread_mutex_unlock(&d->mu);
}

void done_recv(struct done *d)
{
    int64_t end = mono_now() + LIMIT;
    struct timespec limit;

    pthread_mutex_lock(&d->mu);
    while (d->n == 0) {
        if (mono_now() > end)
            test_failed(__FILE__, __LINE__, "waited for something that did not happen");
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec++;
        pthread_cond_timedwait(&d->cv, &d->mu, &limit);
    }
    d->n--;
    pthread_mutex_unlock(&d->mu);
}

void run_threads(int n, void *(*fn)(void *), void *args, size_t size)
{
    pthread_t *th = calloc((size_t)n, sizeof *th);

    CHECK(th != NULL);
    for (int i = 0; i < n; i++)
        th[i] = thread_start(fn, (char *)args + (size_t)i * size);
    for (int i = 0; i < n; i++)
        thread_join(th[i]);
    free(th);
}

unsigned wait_readable(const int *fds, int n)
{
    int64_t end = mono_now() + LIMIT;
    struct pollfd p[8];
    unsigned mask = 0;
    int r;

    CHECK_LE(n, 8);
    for (int i = 0; i < n; i++) {
        CHECK_GE(fds[i], 0);
        p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    do {
        if (mono_now() > end)
            test_failed(__FILE__, __LINE__, "no descriptor became readable");
        r = poll(p, (nfds_t)n, 1000);
    } while (r == 0 || (r < 0 && errno == EINTR));
    CHECK_GT(r, 0);
    for (int i = 0; i < n; i++)
        if (p[i].revents & POLLIN)
            mask |= 1u << i;
    return mask;
}

static void *churns(void *arg)
{
    struct churn *c = arg;
    static struct counter count;

    while (!c->stop) {
        gt_timer *t[50];

        for (int i = 0; i < 50; i++) {
            t[i] = rt_after_func(i % 5 == 0 ? 0 : HOUR - i, count_run, &count);
            if (i % 3 == 0)
                CHECK_GE(gt_timer_stop(t[i]), 0);
        }
        CHECK_EQ(gt_sleep(1), 0);
        for (int i = 0; i < 50; i++) {
            CHECK_GE(gt_deltimer_sync(t[i]), 0);
            CHECK_GE(gt_timer_free(t[i]), 0);
        }
    }
    return NULL;
}

void churn_start(struct churn *c)
{
    c->stop = 0;
    c->thread = thread_start(churns, c);
}

void churn_stop(struct churn *c)
{
    c->stop = 1;
    thread_join(c->thread);
}

static void nothing(int sig) { (void)sig; }

/* Sends SIGIO to every other thread. */
static void send_sigio(struct pest *p)
{
    DIR *dir = opendir("/proc/self/task");
    int self = (int)syscall(SYS_gettid);
    struct dirent *e;

    CHECK(dir != NULL);
    while ((e = readdir(dir)) != NULL) {
        int tid = atoi(e->d_name);

        if (tid > 0 && tid != self && syscall(SYS_tgkill, getpid(), tid, SIGIO) == 0)
            p->sent++;
    }
    closedir(dir);
}

static int64_t pest_every;

static void *pesters(void *arg)
{
    struct pest *p = arg;
    struct timespec ts = {pest_every / SEC, (long)(pest_every % SEC)};

    while (!p->stop) {
        send_sigio(p);
        nanosleep(&ts, NULL);
    }
    return NULL;
}

void pest_start(struct pest *p, int64_t every)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = nothing;
    CHECK_EQ(sigaction(SIGIO, &sa, NULL), 0);
    p->stop = 0;
    p->sent = 0;
    pest_every = every;
    p->thread = thread_start(pesters, p);
}

void pest_stop(struct pest *p)
{
    p->stop = 1;
    thread_join(p->thread);
}

/* ---- bubbles ---- */

static void *bubble_main(void *arg)
{
    struct bubble_thread *b = arg;

    CHECK_EQ(gt_synctest_join(b->s), 0);
    b->joined = 1;
    b->fn(b->arg);
    CHECK_EQ(gt_synctest_leave(b->s), 0);
    b->ended = 1;
    return NULL;
}

void bubble_go(struct bubble_thread *b, gt_sched *s, void (*fn)(void *), void *arg)
{
    memset(b, 0, sizeof *b);
    b->s = s;
    b->fn = fn;
    b->arg = arg;
    b->thread = thread_start(bubble_main, b);
    wait_for(&b->joined, 1);
}

void bubble_end(struct bubble_thread *b) { thread_join(b->thread); }

#define MAX_SPAWN 4096
static struct bubble_thread *_Atomic spawned[MAX_SPAWN];
static atomic_int spawns;

struct bubble_thread *bubble_spawn(gt_sched *s, void (*fn)(void *), void *arg)
{
    struct bubble_thread *b = malloc(sizeof *b);
    int i = spawns++;

    CHECK(b != NULL);
    CHECK_LT(i, MAX_SPAWN);
    bubble_go(b, s, fn, arg);
    spawned[i] = b;
    return b;
}

void bubble_run(void (*fn)(gt_sched *s))
{
    gt_sched *s = virtual_sched();

    CHECK_EQ(gt_synctest_join(s), 0);
    fn(s);
    CHECK_EQ(gt_synctest_leave(s), 0);
    for (int i = 0; i < spawns; i++) {      /* those that they spawn meanwhile, too */
        struct bubble_thread *b;

        while ((b = spawned[i]) == NULL)
            sleep_ms(1);
        bubble_end(b);
        free(b);
        spawned[i] = NULL;
    }
    spawns = 0;
    check_conserved(s);
    close_sched(s);
}
