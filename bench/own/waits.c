/* waits.c: the floor of W7: one thread that does nothing but wait for the next of n sorted deadlines, by a timerfd in an
 * epoll, and by epoll_pwait2 with the time that is left. */
#include "../core/common.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

const char *bench_program = "raw waits";

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static struct timespec spec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / SECOND, .tv_nsec = ns % SECOND};
}

/* Waits until `when`. 0: this kernel cannot. */
static int by_timerfd(int epoll, int timer, int64_t when) {
    struct itimerspec at = {.it_value = spec(when)};
    struct epoll_event e;
    uint64_t ticks;
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL) != 0) bench_die("timerfd_settime", strerror(errno));
    if (epoll_wait(epoll, &e, 1, -1) != 1 || read(timer, &ticks, sizeof ticks) != sizeof ticks) bench_die("timerfd", strerror(errno));
    return 1;
}

static int by_pwait2(int epoll, int64_t when) {
#ifdef SYS_epoll_pwait2
    struct epoll_event e;
    struct timespec left = spec(when - real_now());
    if (left.tv_sec < 0 || left.tv_nsec < 0) return 1;
    if (syscall(SYS_epoll_pwait2, epoll, &e, 1, &left, NULL, (size_t)0) == 0) return 1;
    if (errno != ENOSYS) bench_die("epoll_pwait2", strerror(errno));
#else
    (void)epoll, (void)when;
#endif
    return 0;
}

static void w7(const char *name, int with_timerfd) {
    uint64_t n = bench.n, seed = bench.seed;
    int64_t *plan = bench_alloc(n, sizeof *plan), *late = bench_alloc(n, sizeof *late);
    int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN};
    if (epoll < 0 || timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &e) != 0) bench_die("epoll", strerror(errno));
    bench_program = name;
    double cpu = bench_cpu();
    int64_t begin = real_now() + 50 * MILLISECOND;
    for (uint64_t i = 0; i < n; i++) plan[i] = begin + (int64_t)rng_below(&seed, (uint64_t)SECOND);
    qsort(plan, n, sizeof *plan, compare);
    for (uint64_t i = 0; i < n;) {
        int64_t now = real_now();
        if (now >= plan[i]) {
            late[i] = now - plan[i];
            i++;
        } else if (!(with_timerfd ? by_timerfd(epoll, timer, plan[i]) : by_pwait2(epoll, plan[i]))) {
            return;
        }
    }
    bench_emit_lateness(n, late, bench_cpu() - cpu);
    close(timer);
    close(epoll);
    free(plan);
    free(late);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        printf("{\"peer\": \"raw waits\", \"version\": \"\", \"order\": \"exact\", \"notes\": {}, \"workloads\": [\"W7\"]}\n");
        return 0;
    }
    bench_options(argc, argv);
    if (strcmp(bench.workload, "W7") != 0) bench_die(bench.workload, "no such workload here; see --list");
    w7("timerfd", 1);
    w7("epoll_pwait2", 0);
    return 0;
}
