/* Ten thousand threads at once (or as many as the machine has room for): each arms a timer, the
 * first ones bind Ps until GT_ENOSPC, and all end without giving anything back. */
#include "faults.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

PLANT(forget, threads_ten_thousand, "counter.runs == made is false");
PLANT(kept, threads_one_after_the_other, "get_stats(s).bytes == bytes is false");

enum { THREADS = 10000, MOST_PS = 4095 };

static gt_sched *s;
static gt_timer *timers[THREADS];
static gt_p *ps[THREADS];
static atomic_int bound, refused, alive;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int open_;
static struct counter counter;
static int made;

static void run(void *arg, uintptr_t seq, int64_t delay)
{
    if (planted("forget") && seq == 77)
        return;                        /* the mistake: one firing is not booked */
    count_run(arg, seq, delay);
}

static void *lives(void *arg)
{
    int i = (int)(intptr_t)arg;

    ps[i] = gt_p_new(s);
    if (ps[i] != NULL) {
        CHECK_EQ(gt_acquirep(ps[i]), 0);
        bound++;
    } else {
        CHECK_EQ(gt_last_error(), GT_ENOSPC);
        refused++;
    }
    CHECK((timers[i] = gt_timer_new(s, run, &counter, NULL)) != NULL);
    CHECK_EQ(gt_modtimer(timers[i], T0 + 1 + i % 100, 0, run, &counter, (uintptr_t)i), 0);
    if (ps[i] != NULL)
        CHECK_EQ(gt_p_num_timers(ps[i]) > 0, 1);
    alive++;
    pthread_mutex_lock(&gate);
    while (!open_)
        pthread_cond_wait(&opened, &gate);
    pthread_mutex_unlock(&gate);
    return NULL;                       /* with its P bound */
}

static void start_all(pthread_t *th)
{
    pthread_attr_t attr;
    size_t stack = 64 * 1024;

    CHECK_EQ(pthread_attr_init(&attr), 0);
    if (stack < (size_t)sysconf(_SC_THREAD_STACK_MIN))
        stack = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    CHECK_EQ(pthread_attr_setstacksize(&attr, stack), 0);
    for (made = 0; made < THREADS; made++) {
        int r = pthread_create(&th[made], &attr, lives, (void *)(intptr_t)made);

        if (r != 0) {
            CHECK(r == EAGAIN || r == ENOMEM);
            break;
        }
    }
    pthread_attr_destroy(&attr);
}

TEST(threads_ten_thousand, 300)
{
    static pthread_t th[THREADS];
    gt_p *extra;
    int most;

    s = virtual_sched();
    start_all(th);
    CHECK_GT(made, 100);
    for (int seconds = 0; alive < made; seconds++) {
        CHECK_LT(seconds, 150 * (int)test_slow());
        sleep_ms(1000);
    }
    most = made < MOST_PS ? made : MOST_PS;
    CHECK_EQ(bound, most);
    CHECK_EQ(refused, made - most);
    if (made > MOST_PS) {
        CHECK_PTR_EQ(gt_p_new(s), NULL);
        CHECK_EQ(gt_last_error(), GT_ENOSPC);
    }
    CHECK_EQ(get_stats(s).pending, made);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 1);
    pthread_mutex_lock(&gate);
    open_ = 1;
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < made; i++)
        thread_join(th[i]);
    check_conserved(s);

    /* Every P was let go by the end of its thread. */
    for (int i = 0; i < made; i++) {
        if (ps[i] == NULL)
            continue;
        CHECK_EQ(gt_acquirep(ps[i]), 0);
        CHECK_PTR_EQ(gt_releasep(), ps[i]);
    }
    CHECK_EQ(gt_check_others(s, NULL, T0 + 50, NULL, NULL), 1);
    for (int i = 0; i < made; i += 2) {
        if (ps[i] == NULL)
            continue;
        CHECK_EQ(gt_p_free(ps[i]), 0);     /* its timers move on */
        ps[i] = NULL;
    }
    CHECK((extra = gt_p_new(s)) != NULL);
    CHECK_EQ(gt_sched_advance(s, 1000), 1);
    CHECK_EQ(counter.runs, made);
    CHECK_EQ(get_stats(s).fired, made);
    check_conserved(s);
    for (int i = 0; i < made; i++) {
        CHECK_EQ(gt_timer_free(timers[i]), 0);
        if (ps[i] != NULL)
            CHECK_EQ(gt_p_free(ps[i]), 0);
    }
    CHECK_EQ(gt_p_free(extra), 0);
    close_sched(s);
    printf("%d threads at once, %d Ps\n", made, most);
    if (made < THREADS)
        test_skip("it passed, but ten thousand threads could not be had");
}

/* Threads one after the other: what a thread needed serves the next one. */
static void *arms_and_ends(void *arg)
{
    CHECK((timers[0] = gt_timer_new(arg, run, &counter, NULL)) != NULL);
    CHECK_EQ(gt_addtimer(timers[0], T0 + 1, 0), 0);
    return NULL;
}

TEST(threads_one_after_the_other, 60)
{
    int n = rounds(3000, 30000) / (int)test_slow() + 100;
    uint64_t bytes = 0;
    gt_p *p;

    s = virtual_sched();
    CHECK((p = gt_p_new(s)) != NULL);
    for (int i = 0; i < n; i++) {
        thread_join(thread_start(arms_and_ends, s));
        CHECK_EQ(gt_check_timers(p, T0 + 1, NULL, NULL), 1);
        if (!planted("kept"))          /* the mistake: no timer is given back */
            CHECK_EQ(gt_timer_free(timers[0]), 0);
        if (i == 50)
            bytes = get_stats(s).bytes;
    }
    CHECK_EQ(get_stats(s).bytes, bytes);
    CHECK_EQ(get_stats(s).fired, n);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}
