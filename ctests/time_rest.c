/* Package time: what a call leaves behind in its thread. */
#include "rtkit.h"

#include <sys/prctl.h>
#include <time.h>

static void sleeps_with(unsigned long slack)
{
    CHECK_EQ(prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0), 0);
    CHECK_EQ(gt_sleep(MS), 0);
    CHECK_EQ(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), (int)slack);
}

/* A thread sleeps precisely in gt_sleep, and has its own slack again after it. */
TEST(sleep_leaves_the_threads_slack, 20)
{
    sleeps_with(50000);
    sleeps_with(7);
    sleeps_with(1);
}

static int64_t cpu_time(void)
{
    struct timespec ts;

    CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts), 0);
    return ts.tv_sec * SEC + ts.tv_nsec;
}

static int64_t real_clock(void *ctx)
{
    (void)ctx;
    return mono_now();
}

/* It sleeps for all of its time in the kernel, as far as that knows the clock. Twice, so that most of it is not
 * at the beginning of a second of the clock. */
static void sleeps_in_the_kernel(uint32_t clock)
{
    gt_host host = {.size = sizeof host, .nanotime = real_clock};
    gt_config cfg = {.size = sizeof cfg, .clock = clock, .host = &host};
    gt_sched *s = gt_sched_new(&cfg);
    int64_t before = cpu_time();

    CHECK(s != NULL);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(gt_sched_sleep(s, 250 * MS), 0);
    CHECK_LT(cpu_time() - before, 120 * MS);
    CHECK_EQ(gt_sched_free(s), 0);
}

TEST(sleep_in_the_kernel_monotonic, 20) { sleeps_in_the_kernel(GT_CLOCK_MONOTONIC); }

TEST(sleep_in_the_kernel_wall, 20) { sleeps_in_the_kernel(GT_CLOCK_WALL); }

TEST(sleep_in_the_kernel_host, 20) { sleeps_in_the_kernel(GT_CLOCK_HOST); }

/* Whose sched is gone has nothing to leave any more. */
TEST(synctest_join_after_the_sched_is_gone, 20)
{
    gt_sched *s = virtual_sched(), *next;
    gt_timer *t = must(gt_sched_new_timer(s, SEC));

    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_sched_free(s), 0);
    next = virtual_sched();
    CHECK_EQ(gt_synctest_join(next), 0);
    CHECK_EQ(gt_synctest_join(next), GT_EBUSY);
    CHECK_EQ(gt_sched_sleep(next, SEC), 0);
    CHECK_EQ(gt_synctest_leave(next), 0);
    CHECK_GE(gt_timer_free(t), 0);
    CHECK_EQ(gt_synctest_join(next), 0);
    CHECK_EQ(gt_synctest_leave(next), 0);
    close_sched(next);
}
