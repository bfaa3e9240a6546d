/* Bugs of Ps, wake-ups, forks and ending threads that there have been, one test each. Above each
 * test stands what broken library it catches. See again_engine.c for the others. */
#include "rules.h"

#include <sys/wait.h>
#include <unistd.h>

/* ---- a note that comes late ---- */

static struct {
    gt_p *p;
    gt_timer *t;
    atomic_int unpinned, go;
} late_note;

static _Thread_local int notes_late;

/* The arming is done and unlocked, but the P was not told of the earlier time yet. */
static void stop_before_the_note(int acquire)
{
    if (!acquire && pins() == 0 && notes_late) {
        notes_late = 0;
        late_note.unpinned = 1;
        wait_for(&late_note.go, 1);
    }
}

static void *arm_with_late_note(void *arg)
{
    (void)arg;
    notes_late = 1;
    CHECK_EQ(gt_addtimer_on(late_note.p, late_note.t, T0 + 50, 0), 0);
    return NULL;
}

/* Catches a note of an arming that is written after the timer was stopped and swept, onto the
 * empty P: it stays there, and says that somebody was told of +50. gt_time_sleep_until passes
 * that P by and says that there is nothing; then the next arming, for +70, wakes nobody, though
 * those who went by gt_time_sleep_until sleep for ever. */
TEST(again_wake_lost_to_a_late_note, 30)
{
    struct counter c = {0};
    struct hooks h;
    gt_sched *s;
    gt_timer *u;
    pthread_t th;
    long wakes;

    hooks_init(&h, 0);
    s = hooked_sched(&h, GT_CLOCK_VIRTUAL);
    late_note.p = new_p(s);
    late_note.t = new_timer(s, &c);
    u = new_timer(s, &c);
    h.on_pin = stop_before_the_note;
    th = thread_start(arm_with_late_note, NULL);
    wait_for(&late_note.unpinned, 1);
    CHECK_EQ(gt_deltimer(late_note.t), 1);
    CHECK_GE(gt_trim(late_note.p), 0);
    CHECK_EQ(gt_p_num_timers(late_note.p), 0);
    late_note.go = 1;
    thread_join(th);
    h.on_pin = NULL;

    CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
    wakes = h.wakes;
    CHECK_EQ(gt_addtimer_on(late_note.p, u, T0 + 70, 0), 0);
    CHECK_EQ(h.wakes, wakes + 1);
    CHECK_EQ(h.last_wake, T0 + 70);
    CHECK_PTR_EQ(h.last_p, late_note.p);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 70);
    CHECK_EQ(gt_timer_free(u), 1);
    CHECK_EQ(gt_timer_free(late_note.t), 0);
    free_p(late_note.p);
    close_sched(s);
}

/* ---- a P that was not to be ---- */

static _Thread_local int no_memory;

static struct {
    struct alloc_hook a;
    void *(*alloc)(void *ctx, size_t size, size_t align);
    gt_timer *t;
    atomic_int ready, go;
    uint64_t rng;
} unborn;

/* No memory for the thread that makes the P; the other one goes at that moment. */
static void *alloc_unless_denied(void *ctx, size_t size, size_t align)
{
    if (!no_memory)
        return unborn.alloc(ctx, size, align);
    unborn.go = 1;
    for (uint64_t i = rng_below(&unborn.rng, 10000); i > 0; i--)
        atomic_signal_fence(memory_order_seq_cst);
    return NULL;
}

static void *arm_unborn(void *arg)
{
    (void)arg;
    unborn.ready = 1;
    while (!unborn.go) {}
    CHECK_EQ(gt_addtimer(unborn.t, T0 + 1000 * SEC, 0), 0);
    return NULL;
}

static void one_unborn(gt_sched *s)
{
    struct counter c = {0};
    gt_p *p = new_p(s);
    gt_timer *u = new_timer(s, &c);
    pthread_t th;

    unborn.t = new_timer(s, &c);
    CHECK_EQ(gt_addtimer_on(p, unborn.t, T0, 0), 0);
    CHECK_EQ(check_at(p, T0), 1);                              /* t was on p last */
    CHECK_EQ(gt_addtimer_on(p, u, T0 + 1000 * SEC, 0), 0);
    free_p(p);                                                 /* u has no P now */
    unborn.ready = unborn.go = 0;
    th = thread_start(arm_unborn, NULL);
    wait_for(&unborn.ready, 1);
    no_memory = 1;
    CHECK_PTR_EQ(gt_p_new(s), NULL);
    no_memory = 0;
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
    thread_join(th);

    p = new_p(s);
    CHECK_EQ(gt_p_num_timers(p), 2);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 2);
    CHECK_EQ(gt_timer_free(unborn.t), 1);
    CHECK_EQ(gt_timer_free(u), 1);
    CHECK_EQ(c.drops, 2);
    free_p(p);
}

/* Catches a gt_p_new that shows its P before it has the memory for the timers that it adopts:
 * when there is none, the P is taken back, and with it a timer that another thread armed there
 * meanwhile. A stress test. */
TEST(again_armed_on_a_p_that_was_taken_back, 30)
{
    int64_t end = mono_now() + 700 * MS * (int64_t)test_slow();
    gt_host h;

    alloc_hook_host(&unborn.a, &h);
    unborn.alloc = h.alloc;
    unborn.rng = test_seed();
    h.alloc = alloc_unless_denied;
    for (int i = 0; i < 300 && mono_now() < end; i++) {
        gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL};
        gt_sched *s = gt_sched_new(&cfg);

        CHECK(s != NULL);
        one_unborn(s);
        close_sched(s);
        check_all_returned(&unborn.a);
    }
}

/* ---- forks ---- */

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct counter c;
    atomic_int stop, loops;
} busy;

static void arm_again(void *arg, uintptr_t seq, int64_t delay)
{
    count_run(arg, seq, delay);
    CHECK_EQ(gt_resettimer(busy.t, T0, 0), 0);
}

static void *pass_after_pass(void *arg)
{
    (void)arg;
    while (!busy.stop) {
        CHECK_GE(gt_check_timers(busy.p, 0, NULL, NULL), 0);
        busy.loops = 1;
    }
    return NULL;
}

static void *look_after_look(void *arg)
{
    (void)arg;
    while (!busy.stop) {
        CHECK_EQ(gt_timer_when(busy.t), T0);
        busy.loops = 1;
    }
    return NULL;
}

/* Forks for a while, with a thread that does not get over; each child runs fn. */
static void fork_often(gt_func f, void *(*loop)(void *), void (*fn)(void *))
{
    int64_t end = mono_now() + 1200 * MS * (int64_t)test_slow();
    pthread_t th;

    memset(&busy, 0, sizeof busy);
    busy.s = virtual_sched();
    busy.p = new_p(busy.s);
    CHECK((busy.t = gt_timer_new(busy.s, f, &busy.c, count_drop)) != NULL);
    CHECK_EQ(gt_addtimer_on(busy.p, busy.t, T0, 0), 0);
    th = thread_start(loop, NULL);
    wait_for(&busy.loops, 1);
    for (int i = 0; i < 300 && mono_now() < end; i++)
        must_pass_in_child(fn, NULL);
    busy.stop = 1;
    thread_join(th);
    CHECK_EQ(busy.c.drops, 0);
    CHECK_GE(gt_timer_free(busy.t), 0);
    CHECK_EQ(busy.c.drops, 1);
    check_conserved(busy.s);
    free_p(busy.p);
    close_sched(busy.s);
}

static void child_keeps_the_argument(void *arg)
{
    (void)arg;
    alarm(10 * test_slow());
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(busy.c.drops, 0);
    CHECK_GE(gt_resettimer(busy.t, T0 + 10, 0), 0);
    CHECK_EQ(gt_deltimer_sync(busy.t), 1);
    CHECK_EQ(gt_timer_free(busy.t), 0);
    CHECK_LE(busy.c.drops, 1);                                 /* 0: lost with its reference in hand */
}

/* Catches a gt_after_fork that ends a lost thread's run a second time. That thread had given
 * back its reference to the timer's argument already, and was waiting for the P's lock to take
 * its run off the list: the argument of a live timer is dropped. A stress test: about every
 * twentieth child. */
TEST(again_fork_drops_the_argument_twice, 30)
{
    fork_often(arm_again, pass_after_pass, child_keeps_the_argument);
}

static void child_looks(void *arg)
{
    (void)arg;
    alarm(5 * test_slow());
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_timer_when(busy.t), T0);
}

/* Catches a checked build that forks while another thread holds the lock of its set of handles:
 * the first call in the child waits for a thread that is not there. A stress test. Other builds
 * have no such lock. */
TEST(again_fork_with_the_set_of_handles_locked, 30)
{
    fork_often(count_run, look_after_look, child_looks);
}

/* ---- threads that are as good as over ---- */

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    pthread_key_t key;
    int bind;
    atomic_int called;
} ending;

/* A key's destructor, in the second round: the library's own end of that thread was in the first. */
static void call_at_the_end(void *arg)
{
    if (arg != &ending.key) {
        CHECK_EQ(pthread_setspecific(ending.key, &ending.key), 0);
        return;
    }
    CHECK_GE(gt_resettimer(ending.t, T0 + 1000 * SEC, 0), 0);
    CHECK_EQ(gt_timer_when(ending.t), T0 + 1000 * SEC);
    if (ending.bind) {
        CHECK_EQ(gt_acquirep(ending.p), GT_EINVAL);
        CHECK_PTR_EQ(gt_current_p(), NULL);
    }
    ending.called++;
}

static void *end_with_a_call(void *arg)
{
    (void)arg;
    CHECK_GE(gt_resettimer(ending.t, T0 + 1000 * SEC, 0), 0);
    CHECK_EQ(pthread_setspecific(ending.key, &ending), 0);
    return NULL;
}

static void end_threads(int n)
{
    int called = ending.called;

    for (int i = 0; i < n; i++)
        thread_join(thread_start(end_with_a_call, NULL));
    CHECK_EQ(ending.called, called + n);
}

static void ending_up(void)
{
    ending.s = virtual_sched();
    ending.p = new_p(ending.s);
    CHECK((ending.t = gt_timer_new(ending.s, count_run, NULL, NULL)) != NULL);
    CHECK_EQ(pthread_key_create(&ending.key, call_at_the_end), 0);
}

static void ending_down(void)
{
    CHECK_EQ(gt_timer_free(ending.t), 1);
    check_conserved(ending.s);
    CHECK_EQ(pthread_key_delete(ending.key), 0);
    free_p(ending.p);
    close_sched(ending.s);
}

/* Catches a library that gives a thread counters of its own once more after it has taken them
 * back at the thread's end: nobody takes these back, some 2000 bytes for each thread. */
TEST(again_calls_at_a_threads_end_keep_memory, 20)
{
    uint64_t bytes;

    ending_up();
    end_threads(10);
    bytes = get_stats(ending.s).bytes;
    end_threads(100);
    CHECK_EQ(get_stats(ending.s).bytes, bytes);
    ending_down();
}

/* Catches a gt_acquirep that binds a P to a thread that is as good as over: nobody unbinds it. */
TEST(again_p_bound_at_a_threads_end, 10)
{
    ending_up();
    ending.bind = 1;
    end_threads(1);
    CHECK_EQ(gt_acquirep(ending.p), 0);
    CHECK_PTR_EQ(gt_releasep(), ending.p);
    ending_down();
}
