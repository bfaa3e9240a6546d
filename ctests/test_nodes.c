/* Where timers come from and go to: each thread keeps some free ones for itself, the others are the
 * slab's. None is given out twice, none is lost, whichever thread frees it, also when threads end
 * and in the child of a fork. */
#include "rtkit.h"
#include "support.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 1000, ROUNDS = 40, SLOTS = 1 << 16 };

static void nothing(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
}

static gt_timer *make(gt_sched *s)
{
    gt_timer *t = gt_timer_new(s, nothing, NULL, NULL);

    CHECK(t);
    return t;
}

struct batch {
    gt_sched *s;
    gt_timer *t[MANY];
};

static void *make_all(void *arg)
{
    struct batch *b = arg;

    for (int i = 0; i < MANY; i++)
        b->t[i] = make(b->s);
    return NULL;
}

static void *free_all(void *arg)
{
    struct batch *b = arg;

    for (int i = 0; i < MANY; i++)
        CHECK_EQ(gt_timer_free(b->t[i]), 0);
    return NULL;
}

static void in_a_thread(void *(*fn)(void *), void *arg)
{
    pthread_t th;

    CHECK_EQ(pthread_create(&th, NULL, fn, arg), 0);
    CHECK_EQ(pthread_join(th, NULL), 0);
}

/* Made by one thread and freed by another, which both end, or by one that stays. */
TEST(nodes_made_here_and_freed_there, 20)
{
    static struct batch b;
    uint64_t bytes = 0;

    b.s = virtual_sched();
    for (int round = 0; round < ROUNDS; round++) {
        if (round % 3)
            in_a_thread(make_all, &b);
        else
            make_all(&b);
        CHECK_EQ(get_stats(b.s).timers, MANY);
        if (round % 2)
            in_a_thread(free_all, &b);
        else
            free_all(&b);
        CHECK_EQ(get_stats(b.s).timers, 0);
        if (round == 6) /* each way was gone once */
            bytes = get_stats(b.s).bytes;
    }
    CHECK_EQ(get_stats(b.s).bytes, bytes);
    close_sched(b.s);
}

/* The sched goes with its last timer, whoever frees it. */
TEST(nodes_freed_after_their_sched, 20)
{
    static struct batch b;

    b.s = virtual_sched();
    make_all(&b);
    in_a_thread(free_all, &b);
    in_a_thread(make_all, &b);
    CHECK_EQ(gt_sched_free(b.s), 0);
    in_a_thread(free_all, &b);
}

/* Which slots are in use, by the callers' books. */
static atomic_int used[SLOTS];
static atomic_int stop;

static void note(gt_timer *t, int now)
{
    uint64_t slot = gt_timer_id(t) >> 32;

    CHECK_LT(slot, SLOTS);
    CHECK_EQ(atomic_exchange(&used[slot], now), 1 - now);
}

struct mixer {
    gt_sched *s;
    gt_p *p;
    _Atomic(gt_timer *) *shelf;
    uint64_t seed;
    int times;
};

enum { SHELF = 256 };

/* Makes timers, arms some, puts them on the shelf, and frees what stood there. */
static void *mix(void *arg)
{
    struct mixer *m = arg;

    if (m->p)
        CHECK_EQ(gt_acquirep(m->p), 0);
    for (int i = 0; m->times ? i < m->times : !atomic_load(&stop); i++) {
        gt_timer *t = rng_below(&m->seed, 3) ? make(m->s) : NULL;

        if (t) {
            note(t, 1);
            if (rng_below(&m->seed, 2))
                CHECK_EQ(gt_addtimer(t, T0 + 1000 + (int64_t)rng_below(&m->seed, 1000), 0), 0);
        }
        t = atomic_exchange(&m->shelf[rng_below(&m->seed, SHELF)], t);
        if (t) {
            note(t, 0);
            if (rng_below(&m->seed, 2))
                CHECK_GE(gt_deltimer(t), 0);
            CHECK_GE(gt_timer_free(t), 0);
        }
    }
    if (m->p)
        CHECK_PTR_EQ(gt_releasep(), m->p);
    return NULL;
}

static void empty(_Atomic(gt_timer *) *shelf)
{
    for (int i = 0; i < SHELF; i++) {
        gt_timer *t = atomic_exchange(&shelf[i], NULL);

        if (t) {
            note(t, 0);
            CHECK_GE(gt_timer_free(t), 0);
        }
    }
}

enum { MIXERS = 4 };

static struct mixer mixers[MIXERS];
static pthread_t threads[MIXERS];

static void mixers_start(gt_sched *s, _Atomic(gt_timer *) *shelf, gt_p **ps, int times)
{
    for (int i = 0; i < MIXERS; i++) {
        mixers[i] = (struct mixer){s, ps[i], shelf, test_seed() + (uint64_t)i, times};
        CHECK_EQ(pthread_create(&threads[i], NULL, mix, &mixers[i]), 0);
    }
}

static void mixers_join(void)
{
    for (int i = 0; i < MIXERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

TEST(nodes_are_given_out_once, 60)
{
    static _Atomic(gt_timer *) shelf[SHELF];
    gt_sched *s = virtual_sched();
    gt_p *ps[MIXERS] = {NULL};

    for (int i = 0; i < MIXERS - 1; i++) { /* one thread has none */
        ps[i] = gt_p_new(s);
        CHECK(ps[i]);
    }
    mixers_start(s, shelf, ps, 100000 / (int)test_slow());
    mixers_join();
    empty(shelf);
    for (int i = 0; i < MIXERS - 1; i++) {
        CHECK_GE(gt_trim(ps[i]), 0);
        CHECK_EQ(gt_verify_timer_heap(ps[i]), 0);
    }
    CHECK_EQ(get_stats(s).timers, 0);
    check_conserved(s);
    for (int i = 0; i < MIXERS - 1; i++)
        CHECK_EQ(gt_p_free(ps[i]), 0);
    close_sched(s);
}

static struct batch before;

/* Lost threads were making and freeing timers at this moment. */
static void child_makes_timers(void *arg)
{
    static struct batch b;
    gt_stats was;

    (void)arg;
    memset(used, 0, sizeof used);
    CHECK_EQ(gt_after_fork(), 0);
    for (int i = 0; i < MANY; i++)
        note(before.t[i], 1);
    was = get_stats(before.s);
    CHECK_GE(was.timers, MANY);
    b.s = before.s;
    make_all(&b);
    for (int i = 0; i < MANY; i++)
        note(b.t[i], 1);
    CHECK_EQ(get_stats(b.s).timers, was.timers + MANY);
    free_all(&b);
    free_all(&before);
    CHECK_EQ(get_stats(b.s).timers, was.timers - MANY);
    _exit(0);
}

TEST(nodes_in_a_fork_child, 60)
{
    static _Atomic(gt_timer *) shelf[SHELF];
    gt_p *ps[MIXERS] = {NULL};

    needs_own_threads();
    before.s = virtual_sched();
    ps[0] = gt_p_new(before.s);
    CHECK(ps[0]);
    make_all(&before);
    mixers_start(before.s, shelf, ps, 0);
    for (int i = 0; i < 30; i++)
        must_pass_in_child(child_makes_timers, NULL);
    atomic_store(&stop, 1);
    mixers_join();
    empty(shelf);
    free_all(&before);
    CHECK_GE(gt_trim(ps[0]), 0);
    CHECK_EQ(get_stats(before.s).timers, 0);
    CHECK_EQ(gt_p_free(ps[0]), 0);
    close_sched(before.s);
}

static _Atomic int slow, allocating, about_to_fork;

/* Memory for a chunk of timers takes its time, with the lock of the free nodes held. */
static void *slow_alloc(void *ctx, size_t size, size_t align)
{
    void *p = NULL;

    (void)ctx;
    if (slow && align == 1 << 16) {
        allocating = 1;
        while (!about_to_fork)
            usleep(100);
        usleep(200000);
        allocating = 0;
    }
    return posix_memalign(&p, align < sizeof p ? sizeof p : align, size) ? NULL : p;
}

static void give(void *ctx, void *p, size_t size, size_t align)
{
    (void)ctx;
    (void)size;
    (void)align;
    free(p);
}

static void *make_one(void *arg)
{
    struct batch *b = arg;

    b->t[0] = make(b->s);
    return NULL;
}

/* A fork waits until nobody is at the free nodes: the child could not go on with what they were doing. */
TEST(nodes_fork_waits_for_a_new_chunk, 20)
{
    static struct batch b;
    gt_host h = {.size = sizeof h, .alloc = slow_alloc, .free = give};
    gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL};
    pthread_t th;
    pid_t pid;
    int status;

    CHECK((b.s = gt_sched_new(&cfg)) != NULL);
    slow = 1;
    th = thread_start(make_one, &b);
    while (!allocating)
        usleep(100);
    about_to_fork = 1;
    pid = fork();
    if (pid == 0)
        _exit(allocating);
    CHECK(pid > 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    thread_join(th);
    CHECK_EQ(gt_timer_free(b.t[0]), 0);
    close_sched(b.s);
}

/* Any number may be asked for, also the one that the first timer of a sched is about to get. */
static struct {
    gt_sched *s;
    atomic_int asked;
} early;

static void *asks_too_early(void *arg)
{
    int status;

    (void)arg;
    while ((status = gt_timer_status_id(early.s, 1)) == GT_ESTALE)
        early.asked++;
    CHECK(status >= 0);
    return NULL;
}

/* While memory for the first chunk is asked for, its number is asked for twice. */
static void *asked_alloc(void *ctx, size_t size, size_t align)
{
    int asked = early.asked;

    while (align == 1 << 16 && early.asked < asked + 2)
        sched_yield();
    return slow_alloc(ctx, size, align);
}

TEST(nodes_asked_for_while_they_are_made, 20)
{
    gt_host h = {.size = sizeof h, .alloc = asked_alloc, .free = give};
    gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL};
    gt_timer *t;
    pthread_t th;

    CHECK((early.s = gt_sched_new(&cfg)) != NULL);
    th = thread_start(asks_too_early, NULL);
    t = make(early.s);
    CHECK_EQ(gt_timer_id(t), 1);
    thread_join(th);
    CHECK_EQ(gt_timer_free(t), 0);
    close_sched(early.s);
}
