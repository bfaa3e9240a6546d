/* Rule S18: what lost threads had half done, or were about to do, when the process was forked, and what
 * the child makes of it. They are stopped there by hooks. */
#include "rules.h"
#include "rtkit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Forks in a hook. In the child it returns 1, and what called the hook goes on; the test ends with
 * child_ends(). The parent waits for that. */
static int forked;

static int fork_here(void)
{
    int status;
    pid_t pid;

    settle_for_fork();
    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        alarm(100);
        forked = 1;
        CHECK_EQ(gt_after_fork(), 0);
        return 1;
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        test_failed(__FILE__, __LINE__, "the child ended with wait status 0x%x", status);
    return 0;
}

static void child_ends(void)
{
    if (forked) {
        child_is_done();
        _exit(0);
    }
}

/* ---- gt_p_free and wake hooks ---- */

static struct {
    struct alloc_hook mem;
    void (*_Atomic on_wake)(void);
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    int fd;
    pthread_t freer;
    atomic_int in_hook, go, freed;
} f;

static void *frees_p(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_p_free(f.p), 0);
    f.freed = 1;
    return NULL;
}

static void *arms(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_addtimer_on(f.p, f.t, T0 + 10, 0), 0);
    return NULL;
}

/* Until gt_p_free has said that the P is dead; then it waits for the wake hook. */
static void wait_for_dead_p(void)
{
    int r;

    while ((r = gt_acquirep(f.p)) != GT_ESTALE) {
        if (r == 0)
            CHECK_PTR_EQ(gt_releasep(), f.p);
        sched_yield();
    }
}

static void wake_hook(void *ctx, gt_p *p, int64_t when)
{
    void (*on)(void) = f.on_wake;

    (void)ctx;
    (void)p;
    (void)when;
    f.on_wake = NULL;                       /* the first one only */
    if (on != NULL)
        on();
}

static void f_start(void (*on_wake)(void))
{
    gt_host host;
    gt_config cfg = {.size = sizeof cfg, .host = &host, .clock = GT_CLOCK_VIRTUAL};

    alloc_hook_host(&f.mem, &host);
    host.wake_netpoller = wake_hook;
    CHECK((f.s = gt_sched_new(&cfg)) != NULL);
    f.p = new_p(f.s);
    CHECK((f.t = gt_timer_new(f.s, count_run, NULL, NULL)) != NULL);
    CHECK_GE(f.fd = gt_p_fd(f.p), 0);
    CHECK_EQ(gt_check_timers(f.p, 0, NULL, NULL), 0);      /* told: no timer */
    f.on_wake = on_wake;
}

/* The P is free again: its descriptor is closed, another one takes its place, and with the sched all
 * memory comes back. */
static void f_end(void)
{
    gt_p *p;

    CHECK_EQ(fcntl(f.fd, F_GETFD), -1);
    CHECK_EQ(errno, EBADF);
    p = new_p(f.s);
    CHECK_EQ(gt_p_num_timers(p), 1);
    CHECK_EQ(check_at(p, T0 + 5), 0);
    free_p(p);
    CHECK_EQ(gt_timer_free(f.t), 1);
    check_conserved(f.s);
    close_sched(f.s);
    check_all_returned(&f.mem);
}

static void hook_waits(void)
{
    f.in_hook = 1;
    wait_for(&f.go, 1);
}

static void free_is_finished(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_after_fork(), 0);
    f_end();
    child_is_done();
}

/* One thread is in a wake hook, another one waits for that in gt_p_free, a third one forks. */
TEST(fork_of_a_thread_that_frees_a_p, 60)
{
    pthread_t armer;

    needs_own_threads();
    f_start(hook_waits);
    armer = thread_start(arms, NULL);
    wait_for(&f.in_hook, 1);
    f.freer = thread_start(frees_p, NULL);
    wait_for_dead_p();
    in_child(free_is_finished, NULL);
    CHECK_EQ(f.freed, 0);
    CHECK_GE(fcntl(f.fd, F_GETFD), 0);
    f.go = 1;
    thread_join(armer);
    thread_join(f.freer);
    f_end();
}

static void hook_forks_beside_free(void)
{
    f.freer = thread_start(frees_p, NULL);
    wait_for_dead_p();
    if (fork_here())
        CHECK_GE(fcntl(f.fd, F_GETFD), 0);      /* the P is still there: for this hook */
}

/* The hook that gt_p_free waits for forks: in the child the end of the hook is the end of the P. */
TEST(fork_in_the_wake_hook_that_a_free_waits_for, 60)
{
    needs_own_threads();
    f_start(hook_forks_beside_free);
    arms(NULL);
    if (!forked)
        thread_join(f.freer);
    f_end();
    child_ends();
}

static void hook_forks_before_free(void)
{
    if (!fork_here())
        return;
    f.freer = thread_start(frees_p, NULL);
    wait_for_dead_p();
    sleep_ms(20);
    CHECK_EQ(f.freed, 0);
    CHECK_GE(fcntl(f.fd, F_GETFD), 0);
}

/* A thread of the child frees the P of a hook that forked: it waits for the hook's end. */
TEST(fork_in_a_wake_hook_that_another_free_waits_for, 60)
{
    needs_own_threads();
    f_start(hook_forks_before_free);
    arms(NULL);
    if (!forked)
        f.freer = thread_start(frees_p, NULL);
    thread_join(f.freer);
    f_end();
    child_ends();
}
