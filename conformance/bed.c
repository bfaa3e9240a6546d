/* Where actors live.
 *
 * Green threads: all actors run on one thread, each on a stack of its own (ucontext), and
 * block through the host's hooks park and ready. The conductor, on the thread's own stack,
 * moves the clock and so runs the callbacks. Nothing depends on the kernel, and it is fast.
 *
 * Threads: each actor is a thread of the sched's bubble (gt_synctest_join), and so is the
 * conductor; the last to block moves the clock. At its gate an actor is no member. */
#include "runner.h"

#include <pthread.h>
#include <ucontext.h>

enum { STACK = 128 * 1024, CONDUCTOR = 1000 };

struct actor {
    struct bed *bed;
    int i;
    enum where where;
    /* green */
    ucontext_t context;
    void *stack;
    int (*commit)(void *); /* to be called once the actor has left its stack */
    void *commit_arg;
    /* threads */
    pthread_t thread;
    int let, member;
};

struct bed {
    int threads, n;
    void (*body)(void *arg, int i);
    void *arg;
    gt_sched *sched;
    gt_p **ps;
    int np;
    uint64_t choice;
    gt_host host;
    struct actor actor[MAX_ACTORS];
    /* green: who runs, and who can */
    ucontext_t conductor;
    int running; /* -1: the conductor */
    int ready[MAX_ACTORS], readies;
    /* threads */
    pthread_mutex_t mu, shared;
    pthread_cond_t changed;
};

static struct bed *green; /* for the start of a context, which takes no pointer */

static void check(int ok, const char *what)
{
    if (!ok)
        die(what);
}

/* ---- green threads ---- */

static void *stack_of(int i)
{
    static void *stacks[MAX_ACTORS]; /* kept for the next script */
    if (stacks[i] == NULL)
        stacks[i] = malloc(STACK);
    check(stacks[i] != NULL, "out of memory");
    return stacks[i];
}

static void make_ready(struct bed *b, int i)
{
    check(b->readies < b->n, "ready of a green thread that is ready already");
    b->ready[b->readies++] = i;
}

static void leave_stack(struct bed *b)
{
    struct actor *a = &b->actor[b->running];
    swapcontext(&a->context, &b->conductor);
}

static void green_main(int i)
{
    struct bed *b = green;
    b->body(b->arg, i);
    b->actor[i].where = GONE;
}

static void run_ready(struct bed *b)
{
    while (b->readies > 0) {
        int i = b->ready[0];
        struct actor *a = &b->actor[i];
        memmove(b->ready, b->ready + 1, (size_t)--b->readies * sizeof b->ready[0]);
        b->running = i;
        swapcontext(&b->conductor, &a->context);
        b->running = -1;
        int (*commit)(void *) = a->commit;
        a->commit = NULL;
        if (commit != NULL && !commit(a->commit_arg))
            make_ready(b, i);
    }
}

static int hook_park(void *ctx, int (*commit)(void *), void *arg)
{
    struct bed *b = ctx;
    if (b->running < 0)
        return 0;
    struct actor *a = &b->actor[b->running];
    a->commit = commit;
    a->commit_arg = arg;
    leave_stack(b);
    return 1;
}

static void hook_ready(void *ctx, uintptr_t context)
{
    make_ready(ctx, (int)context - 1);
}

static uintptr_t hook_context(void *ctx)
{
    struct bed *b = ctx;
    return b->running < 0 ? CONDUCTOR : (uintptr_t)b->running + 1;
}

/* One pass over all Ps by the embedder's own calls, each P by itself and then all as a thief.
 * 1: something ran. */
static int pass(struct bed *b)
{
    int ran = 0, got;
    for (int i = 0; i < b->np; i++) {
        check((got = gt_check_timers(b->ps[i], 0, NULL, NULL)) >= 0, "gt_check_timers");
        ran |= got;
    }
    check((got = gt_check_others(b->sched, NULL, 0, NULL, NULL)) >= 0, "gt_check_others");
    return ran | got;
}

/* Moves the clock by d, in one of three ways, to a deadline or a place before the next. */
static void advance(struct bed *b, int64_t d)
{
    int64_t to = gt_nanotime(b->sched) + d;
    switch (b->choice % 3) {
    case 0:
        check(gt_sched_set_time(b->sched, to) == 0, "gt_sched_set_time");
        while (pass(b))
            ;
        return;
    case 1:
        check(gt_sched_run_until_idle(b->sched, d) >= 0, "gt_sched_run_until_idle");
        d = to - gt_nanotime(b->sched); /* nothing was due there: the clock stands where it was */
        break;
    }
    check(gt_sched_advance(b->sched, d) >= 0, "gt_sched_advance");
    check(gt_nanotime(b->sched) == to, "the clock is not where it was moved to");
}

/* ---- threads ---- */

static void *thread_main(void *arg)
{
    struct actor *a = arg;
    struct bed *b = a->bed;
    b->body(b->arg, a->i);
    pthread_mutex_lock(&b->mu);
    a->where = GONE;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
    if (a->member)
        check(gt_synctest_leave(b->sched) == 0, "gt_synctest_leave");
    return NULL;
}

static void thread_gate(struct actor *a)
{
    struct bed *b = a->bed;
    pthread_mutex_lock(&b->mu);
    a->where = AT_GATE;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
    if (a->member)
        check(gt_synctest_leave(b->sched) == 0, "gt_synctest_leave");
    pthread_mutex_lock(&b->mu);
    while (!a->let)
        pthread_cond_wait(&b->changed, &b->mu);
    check(gt_synctest_join(b->sched) == 0, "gt_synctest_join");
    a->let = 0;
    a->member = 1;
    a->where = AWAY;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

/* ---- both ---- */

struct bed *bed_new(int threads, int n, void (*body)(void *arg, int i), void *arg)
{
    struct bed *b = calloc(1, sizeof *b);
    check(b != NULL, "out of memory");
    *b = (struct bed){.threads = threads, .n = n, .body = body, .arg = arg, .running = -1};
    b->host.size = sizeof b->host;
    b->host.ctx = b;
    b->host.park = hook_park;
    b->host.ready = hook_ready;
    b->host.current_context = hook_context;
    pthread_mutex_init(&b->mu, NULL);
    pthread_mutex_init(&b->shared, NULL);
    pthread_cond_init(&b->changed, NULL);
    for (int i = 0; i < n; i++) {
        b->actor[i].bed = b;
        b->actor[i].i = i;
    }
    return b;
}

const gt_host *bed_host(struct bed *b)
{
    return b->threads ? NULL : &b->host;
}

void bed_start(struct bed *b, gt_sched *s, gt_p **ps, int np, uint64_t choice)
{
    b->sched = s;
    b->ps = ps;
    b->np = np;
    b->choice = choice;
    if (b->threads)
        check(gt_synctest_join(s) == 0, "gt_synctest_join");
    else
        green = b;
    for (int i = 0; i < b->n; i++) {
        struct actor *a = &b->actor[i];
        if (b->threads) {
            check(pthread_create(&a->thread, NULL, thread_main, a) == 0, "pthread_create");
            pthread_mutex_lock(&b->mu);
            while (a->where == AWAY)
                pthread_cond_wait(&b->changed, &b->mu);
            pthread_mutex_unlock(&b->mu);
            continue;
        }
        getcontext(&a->context);
        a->context.uc_stack.ss_sp = stack_of(i);
        a->context.uc_stack.ss_size = STACK;
        a->context.uc_link = &b->conductor;
        makecontext(&a->context, (void (*)(void))green_main, 1, i);
        make_ready(b, i);
    }
}

void bed_gate(struct bed *b, int i)
{
    if (b->threads) {
        thread_gate(&b->actor[i]);
    } else {
        b->actor[i].where = AT_GATE;
        leave_stack(b);
    }
}

enum where bed_where(struct bed *b, int i)
{
    pthread_mutex_lock(&b->mu);
    enum where w = b->actor[i].where;
    pthread_mutex_unlock(&b->mu);
    return w;
}

void bed_let(struct bed *b, int i)
{
    struct actor *a = &b->actor[i];
    if (!b->threads) {
        a->where = AWAY;
        make_ready(b, i);
        return;
    }
    pthread_mutex_lock(&b->mu);
    a->let = 1;
    pthread_cond_broadcast(&b->changed);
    while (a->let)
        pthread_cond_wait(&b->changed, &b->mu);
    pthread_mutex_unlock(&b->mu);
}

void bed_quiet(struct bed *b)
{
    if (b->threads) {
        check(gt_synctest_wait(b->sched) == 0, "gt_synctest_wait");
        check(gt_time_sleep_until(b->sched) > gt_nanotime(b->sched), "gt_synctest_wait left a due timer");
        return;
    }
    run_ready(b);
    while (gt_time_sleep_until(b->sched) <= gt_nanotime(b->sched)) {
        advance(b, 0);
        run_ready(b);
    }
}

int bed_go_on(struct bed *b, int64_t limit)
{
    int64_t now = gt_nanotime(b->sched), next = gt_time_sleep_until(b->sched);
    if (next > limit)
        next = limit;
    if (b->threads)
        check(gt_sched_sleep(b->sched, next - now) == 0, "gt_sched_sleep");
    else
        advance(b, next - now);
    return next < limit;
}

void bed_free(struct bed *b)
{
    if (b->threads) {
        check(gt_synctest_leave(b->sched) == 0, "gt_synctest_leave");
        for (int i = 0; i < b->n; i++)
            pthread_join(b->actor[i].thread, NULL);
    }
    pthread_mutex_destroy(&b->mu);
    pthread_mutex_destroy(&b->shared);
    pthread_cond_destroy(&b->changed);
    free(b);
}

void bed_lock(struct bed *b)
{
    pthread_mutex_lock(&b->shared);
}

void bed_unlock(struct bed *b)
{
    pthread_mutex_unlock(&b->shared);
}
