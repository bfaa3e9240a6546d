/* Callbacks that switch stacks and end on another thread: green threads (ucontext) run passes,
 * and are taken away from their thread in the middle of callbacks; whichever thread is free
 * takes them up again. */
#include "faults.h"

#include <ucontext.h>

PLANT(forget, fibers_callbacks_move, "get_stats(s).fired == booked is false");

enum { FIBERS = 12, WORKERS = 4, STACK = 128 * 1024, TIMERS = 400 };

struct fiber {
    ucontext_t here;
    char *stack;
    gt_p *p;
    uint64_t rng;
    struct fiber *next;
    int ended;
};

static struct fiber fibers[FIBERS];
static struct fiber *ready;           /* under m */
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static atomic_int stop, left;
static gt_sched *s;
static _Atomic int64_t calls, moves, booked;
static _Thread_local struct fiber *current;
static _Thread_local ucontext_t worker;

/* Never inlined: a thread-local's address may not be kept over a switch. */
static __attribute__((noinline)) struct fiber *me(void)
{
    __asm__ volatile("" ::: "memory");
    return current;
}

static __attribute__((noinline)) ucontext_t *my_worker(void)
{
    __asm__ volatile("" ::: "memory");
    return &worker;
}

static void switch_away(void)
{
    struct fiber *f = me();

    swapcontext(&f->here, my_worker());
}

static uintptr_t context(void *ctx)
{
    (void)ctx;
    return me() != NULL ? (uintptr_t)me() : (uintptr_t)my_worker();
}

static void run(void *arg, uintptr_t seq, int64_t delay)
{
    struct fiber *before = me();
    gt_timer **t = arg;

    CHECK_GE(delay, 0);
    l_add(calls, 1);
    if (!is_forgotten("forget"))
        l_add(booked, 1);
    if (before == NULL)
        return;                        /* the end: a pass of a thread */
    for (int i = (int)rng_below(&before->rng, 4); i > 0; i--) {
        switch_away();
        l_add(moves, 1);
        CHECK_PTR_EQ(me(), before);
    }
    /* On whatever thread it is now: its own timer, and its waiter's deadlock. */
    CHECK_EQ(gt_deltimer_sync(*t), GT_EDEADLK);
    if (!atomic_load(&stop))
        CHECK_GE(gt_modtimer(*t, gt_nanotime(s) + (int64_t)rng_below(&before->rng, MS), 0, run, arg, seq + 1), 0);
}

static void fiber_main(void)
{
    struct fiber *f = me();

    while (!atomic_load(&stop)) {
        int ran = rng_below(&f->rng, 4) ? gt_check_timers(f->p, 0, NULL, NULL)
                                        : gt_check_others(s, f->p, 0, NULL, NULL);

        CHECK(ran == 0 || ran == 1);
        CHECK_PTR_EQ(me(), f);
        if (!ran)
            switch_away();
    }
    f->ended = 1;
    switch_away();
}

static void *works(void *arg)
{
    (void)arg;
    while (atomic_load(&left) > 0) {
        struct fiber *f;

        pthread_mutex_lock(&m);
        f = ready;
        if (f != NULL)
            ready = f->next;
        pthread_mutex_unlock(&m);
        if (f == NULL) {
            sched_yield();
            continue;
        }
        current = f;
        swapcontext(my_worker(), &f->here);
        current = NULL;
        if (f->ended) {
            left--;
            continue;
        }
        pthread_mutex_lock(&m);
        /* To the end of the queue or to its front: both are fine. */
        if (f->rng % 2 || ready == NULL) {
            f->next = ready;
            ready = f;
        } else {
            struct fiber *last = ready;

            while (last->next != NULL)
                last = last->next;
            last->next = f;
            f->next = NULL;
        }
        pthread_mutex_unlock(&m);
        if (rng_below(&f->rng, 64) == 0)
            sleep_ms(1);
    }
    return NULL;
}

TEST(fibers_callbacks_move, 120)
{
    gt_host host = {.size = sizeof host, .current_context = context};
    gt_config cfg = {.size = sizeof cfg, .host = &host};
    static gt_timer *t[TIMERS];
    pthread_t th[WORKERS];
    uint64_t rng = test_seed();

    CHECK((s = gt_sched_new(&cfg)) != NULL);
    for (int i = 0; i < FIBERS; i++) {
        struct fiber *f = &fibers[i];

        CHECK((f->stack = malloc(STACK)) != NULL);
        CHECK((f->p = gt_p_new(s)) != NULL);
        f->rng = rng_next(&rng);
        CHECK_EQ(getcontext(&f->here), 0);
        f->here.uc_stack.ss_sp = f->stack;
        f->here.uc_stack.ss_size = STACK;
        makecontext(&f->here, fiber_main, 0);
        f->next = ready;
        ready = f;
    }
    left = FIBERS;
    for (int i = 0; i < TIMERS; i++) {
        CHECK((t[i] = gt_timer_new(s, run, &t[i], NULL)) != NULL);
        CHECK_EQ(gt_addtimer_on(fibers[i % FIBERS].p, t[i], gt_nanotime(s) + i * 1000, 0), 0);
    }
    for (int i = 0; i < WORKERS; i++)
        th[i] = thread_start(works, NULL);
    sleep_ms(rounds(4, 60) * 1000);
    WAIT_UNTIL(moves > 1000);
    stop = 1;
    for (int64_t limit = mono_now() + l_patience(); left > 0; sleep_ms(1))
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "%d green threads do not end: their callbacks wait for ever", left);
    for (int i = 0; i < WORKERS; i++)
        thread_join(th[i]);
    check_conserved(s);
    CHECK_EQ(get_stats(s).fired, booked);
    CHECK_EQ(calls, get_stats(s).fired);
    for (int i = 0; i < FIBERS; i++) {
        CHECK_EQ(gt_verify_timer_heap(fibers[i].p), 0);
        CHECK_EQ(gt_p_free(fibers[i].p), 0);
        free(fibers[i].stack);
    }
    for (int i = 0; i < TIMERS; i++) {
        CHECK_GE(gt_deltimer_sync(t[i]), 0);
        CHECK_EQ(gt_timer_free(t[i]), 0);
    }
    check_conserved(s);
    close_sched(s);
    printf("%lld callbacks, %lld switches in them\n", (long long)calls, (long long)moves);
}
