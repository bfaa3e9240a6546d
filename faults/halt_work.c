/* What others do while a thread is stopped in the middle of the library (see halt.h). */
#include "halt.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

atomic_int forks_under_way, on_the_way;

static void work_same_timer(uint64_t *rng)
{
    int r;

    switch (rng_below(rng, 4)) {
    case 0: r = gt_deltimer(w.t); break;
    case 1: r = gt_timer_when(w.t) < 0; break;
    case 2: r = gt_deltimer_sync(w.t); break;
    default: r = gt_resettimer(w.t, FAR + (int64_t)rng_below(rng, 1000), 0); break;
    }
    CHECK(r == 0 || r == 1 || r == GT_ESHUTDOWN);
}

static void work_same_heap(uint64_t *rng)
{
    CHECK_GE(gt_resettimer(w.u, FAR + 500 + (int64_t)rng_below(rng, 400), 0), 0);
}

static void work_p(uint64_t *rng)
{
    (void)rng;
    CHECK_EQ(gt_verify_timer_heap(w.p), 0);
}

static void work_pass(uint64_t *rng)
{
    (void)rng;
    CHECK_GE(gt_check_timers(w.p, 0, NULL, NULL), 0);
}

static void work_other_p(uint64_t *rng)
{
    (void)rng;
    CHECK_GE(gt_deltimer(w.v), 0);
    CHECK_GE(gt_resettimer_on(w.q, w.v, FAR, 0), 0);
    CHECK_GE(gt_check_timers(w.q, 0, NULL, NULL), 0);
}

/* More than a thread keeps for itself. */
static void work_slab(uint64_t *rng)
{
    gt_timer *t[200];

    (void)rng;
    for (int i = 0; i < 200; i++)
        CHECK((t[i] = gt_timer_new(w.s, halt_run, &w.others, NULL)) != NULL);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
}

static void work_registry(uint64_t *rng)
{
    (void)rng;
    CHECK_EQ(gt_sched_free(w.s), GT_EBUSY);
}

static void work_ps(uint64_t *rng)
{
    gt_p *p = gt_p_new(w.s);

    (void)rng;
    CHECK(p != NULL);
    CHECK_EQ(gt_p_free(p), 0);
}

static void work_scheds(uint64_t *rng)
{
    (void)rng;
    close_sched(virtual_sched());
}

static void work_fd(uint64_t *rng)
{
    (void)rng;
    CHECK_GE(gt_p_fd(w.p), 0);
}

static void work_chan(uint64_t *rng)
{
    (void)rng;
    CHECK_GE(gt_timer_try_recv(w.chan, NULL), 0);
}

static void work_netpoll(uint64_t *rng)
{
    (void)rng;
    if (halt_pd != NULL)
        CHECK_EQ(gt_netpoll_set_deadline(halt_pd, GT_WRITE, 0), 0);
}

static void work_stats(uint64_t *rng)
{
    (void)rng;
    CHECK_EQ(get_stats(w.s).early, 0);
}

/* First the P's lock, so that what it waits for after that is not the P's lock. */
static void work_scans(uint64_t *rng)
{
    (void)rng;
    on_the_way = 1;
    CHECK_EQ(gt_verify_timer_heap(w.p), 0);
    on_the_way = 0;
    CHECK_EQ(gt_adjusttimers(w.p, 0, 1), 0);
}

static void work_waiters(uint64_t *rng)
{
    struct counter c = {0};
    gt_timer *t = gt_timer_new(w.s, halt_run, &c, NULL);
    gt_p *p = gt_p_new(w.s);

    (void)rng;
    CHECK(t != NULL && p != NULL);
    wait_for_itself(p, t, &c);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
}

static void work_bubble(uint64_t *rng)
{
    (void)rng;
    if (w.beside != NULL) {
        CHECK_EQ(gt_synctest_join(w.beside), 0);
        CHECK_EQ(gt_synctest_leave(w.beside), 0);
    }
}

static void work_runtime(uint64_t *rng)
{
    (void)rng;
    if (halt_pd != NULL)
        gt_runtime_start(NULL);  /* refused, unless it is being stopped and started */
}

static void work_deadline(uint64_t *rng)
{
    (void)rng;
    if (halt_pd != NULL)
        arm_ever_earlier();
}

static void work_steal(uint64_t *rng)
{
    (void)rng;
    CHECK_GE(gt_check_others(w.s, NULL, 0, NULL, NULL), 0);
}

static void fork_child(void (*child)(void))
{
    pid_t pid;
    int status;

    forks_under_way++;
    pid = fork();
    forks_under_way--;
    CHECK_GE(pid, 0);
    if (pid == 0) {
        alarm(60 * test_slow());
        CHECK_EQ(gt_after_fork(), 0);
        child();
        check_conserved(w.s);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    if (status != 0)
        test_failed(__FILE__, __LINE__, "a fork child ended with wait status %#x", (unsigned)status);
}

static void finds_whole_heaps(void)
{
    CHECK_EQ(gt_verify_timer_heap(w.p), 0);
    CHECK_GE(gt_resettimer(w.u, 1, 0), 0);
    gt_resettimer(w.t, 1, 0);                /* it may be shut down */
    CHECK_GE(gt_check_others(w.s, NULL, 0, NULL, NULL), 0);
    CHECK_GE(gt_timer_free(w.t), 0);
}

/* A fork while somebody is stopped: it waits for the locks, and the child finds whole heaps. */
static void work_fork(uint64_t *rng)
{
    if (rng_below(rng, 20) == 0)
        fork_child(finds_whole_heaps);
}

static void work_fork_whole(uint64_t *rng)
{
    (void)rng;
    fork_child(check_whole);
}

const struct probe probes[] = {
    {"the same timer", work_same_timer, S_TIMER, 0},
    {"another timer of that heap", work_same_heap, SECTIONS, 1},
    {"the same P", work_p, S_P, 0},
    {"a pass over it", work_pass, SECTIONS, 0},
    {"new Ps", work_ps, SECTIONS, 0},
    {"another P", work_other_p, SECTIONS, 1},
    {"the slab", work_slab, S_SLAB, 0},
    {"the registry", work_registry, S_REGISTRY, 0},
    {"the scheds", work_scheds, S_GLOBAL, 0},
    {"the fd", work_fd, S_FD, 0},
    {"a channel", work_chan, S_CHAN, 0},
    {"netpoll", work_netpoll, S_NETPOLL, 0},
    {"counters", work_stats, S_BLOCKS, 0},
    {"a scan", work_scans, S_SCANS, 0},
    {"del_sync in its callback", work_waiters, S_WAITERS, 0},
    {"the bubble", work_bubble, S_BUBBLE, 0},
    {"the runtime", work_runtime, S_RUNTIME, 0},
    {"the poller's deadline", work_deadline, S_DEADLINE, 0},
    {"steal", work_steal, SECTIONS, 0},
    {"fork", work_fork, SECTIONS, 0},
};
const struct probe probe_whole = {"fork, all of it", work_fork_whole, SECTIONS, 0};
const int n_probes = sizeof probes / sizeof *probes;
