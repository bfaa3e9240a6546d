/* fork in the middle of load, many times, from several threads at once and out of callbacks
 * (rule S18): the child calls gt_after_fork, finds whole heaps, runs what is due, and goes on
 * with threads of its own. */
#include "faults.h"
#include "../soak/users.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

PLANT(no_after_fork, forks_of_a_load, "gt_verify_timer_heap(l->place[i].p) == 0 is false: -1024");
PLANT(forget_function, forks_of_the_runtime, "users: lost");
PLANT_FORGET(forks_in_callbacks);

enum { LOADS = 2 };

static struct load loads[LOADS];
static struct users users;
static atomic_int forks;

/* ---- what a child does ---- */

static struct counter child_counter;
static atomic_int child_stop;

static void *child_steals(void *arg)
{
    while (!child_stop)
        if (gt_check_others(arg, NULL, 0, NULL, NULL) == 0)
            sched_yield();
    return NULL;
}

/* A life of its own: a P, timers, threads that run them. */
static void child_goes_on(struct load *l)
{
    enum { N = 60 };
    gt_timer *t[N];
    gt_p *p = gt_p_new(l->s);
    pthread_t th[2];
    int armed = 0;

    CHECK(p != NULL);
    CHECK_EQ(gt_acquirep(p), 0);
    for (int i = 0; i < 2; i++)
        th[i] = thread_start(child_steals, l->s);
    for (int i = 0; i < N; i++) {
        CHECK((t[i] = gt_timer_new(l->s, count_run, &child_counter, NULL)) != NULL);
        CHECK_EQ(gt_addtimer(t[i], gt_nanotime(l->s) + (i % 3 ? 0 : 3600 * SEC), 0), 0);
        armed += i % 3 != 0;
    }
    WAIT_UNTIL(child_counter.runs == armed);
    child_stop = 1;
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    for (int i = 0; i < N; i++)
        CHECK_EQ(gt_timer_free(t[i]), i % 3 == 0);
    CHECK_PTR_EQ(gt_releasep(), p);
    CHECK_EQ(gt_p_free(p), 0);
    check_conserved(l->s);
}

static void grandchild(void *arg)
{
    (void)arg;
    for (int i = 0; i < LOADS; i++)
        load_check_child(&loads[i]);
}

/* A callback that is under way over all forks: in a child it counts as ended. */
static gt_p *slow_p;
static gt_timer *slow_t;
static atomic_int slow_begun, slow_end;

static void slow(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    CHECK_GE(delay, 0);
    slow_begun = 1;
    while (!slow_end)
        sleep_ms(1);
}

static void *runs_slow(void *arg)
{
    CHECK_EQ(gt_check_timers(arg, 0, NULL, NULL), 1);
    return NULL;
}

static void child(int n)
{
    alarm(60 * test_slow());
    for (int i = 0; i < LOADS; i++)
        load_check_child(&loads[i]);
    if (slow_t != NULL)
        CHECK_EQ(gt_deltimer_sync(slow_t), 0);
    child_goes_on(&loads[n % LOADS]);
    if (n % 8 == 0)
        must_pass_in_child(grandchild, NULL);
    _exit(0);
}

static void wait_for_child(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    if (status != 0)
        test_failed(__FILE__, __LINE__, "a fork child ended with wait status %#x", (unsigned)status);
    forks++;
}

static void *forker(void *arg)
{
    for (int i = 0; i < rounds(20, 300); i++) {
        pid_t pid;

        sleep_ms(10 + i % 40);
        pid = fork();
        CHECK_GE(pid, 0);
        if (pid == 0)
            child(i + *(int *)arg);
        wait_for_child(pid);
    }
    return NULL;
}

static void start_loads(void)
{
    struct load_options o = {.name = "forks", .clock = GT_CLOCK_MONOTONIC, .spinners = 1, .sleepers = 1,
                             .pollers = 1, .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 300,
                             .spread = 10 * MS, .ps_come_and_go = 1, .threads_come_and_go = 1,
                             .callbacks_act = 1};

    seed_loads();
    load_start(&loads[0], &o);
    o.name = "forks, virtual clock";
    o.clock = GT_CLOCK_VIRTUAL;
    load_start(&loads[1], &o);
}

static void end_loads(void)
{
    for (int i = 0; i < LOADS; i++)
        load_end(&loads[i]);
    printf("%d forks\n", forks);
}

TEST(forks_of_a_load, 120)
{
    int one = 1, two = 2;
    pthread_t th[2], slow_th;
    gt_sched *s;

    start_loads();
    s = new_sched(GT_CLOCK_MONOTONIC);
    CHECK((slow_p = gt_p_new(s)) != NULL);
    CHECK((slow_t = gt_timer_new(s, slow, NULL, NULL)) != NULL);
    CHECK_EQ(gt_addtimer_on(slow_p, slow_t, 1, 0), 0);
    slow_th = thread_start(runs_slow, slow_p);
    WAIT_UNTIL(slow_begun);
    th[0] = thread_start(forker, &one);
    th[1] = thread_start(forker, &two);
    for (int i = 0; i < 2; i++)
        thread_join(th[i]);
    slow_end = 1;
    thread_join(slow_th);
    CHECK_EQ(gt_timer_free(slow_t), 0);
    CHECK_EQ(gt_p_free(slow_p), 0);
    close_sched(s);
    end_loads();
}

/* ---- the runtime ---- */

static void runtime_child(void *arg)
{
    (void)arg;
    alarm(60 * test_slow());
    users_check_child(&users);
}

TEST(forks_of_the_runtime, 120)
{
    seed_loads();
    users_start(&users, 4);
    for (int i = 0; i < rounds(30, 300) || l_get(users.funcs_ended) < 3000; i++) {
        sleep_ms(10);
        must_pass_in_child(runtime_child, NULL);
    }
    users_pause(&users);
    users_check(&users, 1);
    users_resume(&users);
    users_end(&users);
}

/* ---- out of a callback ---- */

static pid_t callbacks_child = -1;

static void forks_in_callback(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    CHECK_GE(delay, 0);
    callbacks_child = fork();
    CHECK_GE(callbacks_child, 0);
    if (callbacks_child == 0)
        CHECK_EQ(gt_after_fork(), 0);      /* and the pass goes on in the child too */
}

TEST(forks_in_callbacks, 120)
{
    gt_sched *s;
    gt_p *p;
    gt_timer *t, *u;
    struct counter c = {0};

    start_loads();
    s = new_sched(GT_CLOCK_MONOTONIC);
    CHECK((p = gt_p_new(s)) != NULL);
    CHECK((t = gt_timer_new(s, forks_in_callback, NULL, NULL)) != NULL);
    CHECK((u = gt_timer_new(s, count_run, &c, count_drop)) != NULL);
    for (int i = 0; i < rounds(20, 200); i++) {
        sleep_ms(20);
        CHECK_EQ(gt_addtimer_on(p, t, 1, i % 3 == 0 ? 3600 * SEC : 0), 0);
        CHECK_EQ(gt_addtimer_on(p, u, 2, 0), 0);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
        CHECK_EQ(c.runs, i + 1);           /* the one behind the one that forked */
        CHECK_EQ(gt_deltimer_sync(t), i % 3 == 0);
        if (callbacks_child == 0)
            child(i);
        wait_for_child(callbacks_child);
    }
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 0);
    CHECK_EQ(c.drops, 1);
    CHECK_EQ(gt_p_free(p), 0);
    check_conserved(s);
    close_sched(s);
    end_loads();
}
