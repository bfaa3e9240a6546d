/* ways.c: the ways to wait, each one sleep after the other. */
#include "lateness.h"

#include "gotimer.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- raw: a timerfd, waited for with epoll_wait ---- */

static int epoll_fd = -1, timer_fd = -1;

static void epoll_begin(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN};
    if (epoll_fd < 0 || timer_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &ev) != 0)
        die("epoll and timerfd", strerror(errno));
}

static void epoll_end(void) {
    close(epoll_fd);
    close(timer_fd);
}

static void run_timerfd(uint64_t seed, int n, int64_t *late) {
    for (int i = 0; i < n; i++) {
        int64_t until = now_ns() + random_sleep(&seed);
        struct itimerspec its = {.it_value = {until / SECOND, until % SECOND}};
        struct epoll_event ev;
        uint64_t count;
        timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
        while (epoll_wait(epoll_fd, &ev, 1, -1) < 1) {}
        late[i] = now_ns() - until;
        if (read(timer_fd, &count, sizeof count) != sizeof count) die("timerfd", strerror(errno));
    }
}

/* ---- raw: epoll_pwait2 ---- */

#ifdef SYS_epoll_pwait2
static int pwait2(int64_t ns) {
    struct timespec t = {ns / SECOND, ns % SECOND};
    struct epoll_event ev;
    return (int)syscall(SYS_epoll_pwait2, epoll_fd, &ev, 1, &t, NULL, (size_t)8);
}

static const char *pwait2_missing(void) {
    epoll_begin();
    int r = pwait2(0), e = errno;
    epoll_end();
    return r == 0 ? NULL : e == ENOSYS ? "this kernel has no epoll_pwait2 (Linux 5.11)" : strerror(e);
}

static void run_pwait2(uint64_t seed, int n, int64_t *late) {
    for (int i = 0; i < n; i++) {
        int64_t until = now_ns() + random_sleep(&seed), left;
        while ((left = until - now_ns()) > 0) pwait2(left);
        late[i] = -left;
    }
}
#else
static const char *pwait2_missing(void) { return "these system headers do not know epoll_pwait2"; }

static void run_pwait2(uint64_t seed, int n, int64_t *late) {
    (void)seed;
    memset(late, 0, (size_t)n * sizeof *late);
}
#endif

/* ---- raw: clock_nanosleep ---- */

static void run_nanosleep(uint64_t seed, int n, int64_t *late) {
    for (int i = 0; i < n; i++) {
        int64_t until = now_ns() + random_sleep(&seed);
        struct timespec t = {until / SECOND, until % SECOND};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0) {}
        late[i] = now_ns() - until;
    }
}

/* ---- the library ---- */

static void start(uint32_t workers) {
    gt_runtime_config c = {.size = sizeof c, .workers = workers};
    good("gt_runtime_start", gt_runtime_start(&c));
}

static void start_one(void) { start(1); }

static void start_all(void) { start(0); }

static void stop(void) { good("gt_runtime_stop", gt_runtime_stop()); }

/* A chain: the callback notes how late it is and arms the next one. The main thread sleeps. */
static struct chain {
    uint64_t seed;
    int64_t *late, until;
    int i, n;
    sem_t done;
} chain;

static void link_run(void *arg, uintptr_t seq, int64_t delay);

static void link_arm(void) {
    int64_t d = random_sleep(&chain.seed);
    chain.until = now_ns() + d;
    gt_timer *t = gt_after_func(d, link_run, NULL, NULL);
    if (t == NULL) die("gt_after_func", gt_strerror(gt_last_error()));
    good("gt_timer_detach", gt_timer_detach(t));
}

static void link_run(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
    chain.late[chain.i++] = now_ns() - chain.until;
    if (chain.i == chain.n)
        sem_post(&chain.done);
    else
        link_arm();
}

static void run_after_func(uint64_t seed, int n, int64_t *late) {
    chain.seed = seed, chain.late = late, chain.i = 0, chain.n = n;
    if (sem_init(&chain.done, 0, 0) != 0) die("sem_init", strerror(errno));
    link_arm();
    while (sem_wait(&chain.done) != 0) {}
    sem_destroy(&chain.done);
}

static void run_sleep(uint64_t seed, int n, int64_t *late) {
    for (int i = 0; i < n; i++) {
        int64_t d = random_sleep(&seed), until = now_ns() + d;
        good("gt_sleep", gt_sleep(d));
        late[i] = now_ns() - until;
    }
}

static void run_recv(uint64_t seed, int n, int64_t *late) {
    gt_timer *t = gt_new_timer(3600 * SECOND);
    if (t == NULL) die("gt_new_timer", gt_strerror(gt_last_error()));
    for (int i = 0; i < n; i++) {
        int64_t d = random_sleep(&seed), until = now_ns() + d;
        good("gt_timer_reset", gt_timer_reset(t, d));
        good("gt_timer_recv", gt_timer_recv(t, NULL));
        late[i] = now_ns() - until;
    }
    good("gt_timer_free", gt_timer_free(t));
}

const struct way ways[] = {
    {"timerfd, epoll_wait", 1, NULL, epoll_begin, run_timerfd, epoll_end},
    {"epoll_pwait2", 1, pwait2_missing, epoll_begin, run_pwait2, epoll_end},
    {"clock_nanosleep", 0, NULL, NULL, run_nanosleep, NULL},
    {"gt_after_func, 1 worker", 0, NULL, start_one, run_after_func, stop},
    {"gt_after_func", 0, NULL, start_all, run_after_func, stop},
    {"gt_sleep", 0, NULL, start_all, run_sleep, stop},
    {"gt_timer_recv", 0, NULL, start_all, run_recv, stop},
};
const int n_ways = sizeof ways / sizeof ways[0];
