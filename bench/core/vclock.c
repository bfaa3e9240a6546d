/* vclock.c: the virtual clock of the benchmark. These definitions stand in the program and so come before those
 * of the C library, for the peers' shared libraries too. While vclock_on is 0 they pass everything on.
 *
 * While it is 1, the clock is what `vclock` says, and no wait enters the kernel: a peer's event loop finds no event
 * but its timers. timerfd_create fails, and Boost.Asio then goes by the clock alone. So peers are measured without
 * system calls and without the cost of reading a clock, as libgotimer is: it is told the time. */
#include "common.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

int64_t vclock = BASE;
int vclock_on;

typedef int clock_fn(clockid_t, struct timespec *);
static clock_fn *real_clock;

static void *next(const char *name) {
    void *f = dlsym(RTLD_NEXT, name);
    if (f == NULL) bench_die(name, "not in the C library");
    return f;
}

__attribute__((constructor)) static void find_clock(void) {
    if (real_clock == NULL) real_clock = (clock_fn *)next("clock_gettime");
}

int64_t real_now(void) {
    struct timespec t;
    real_clock(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    if (!vclock_on) {
        if (real_clock == NULL) find_clock(); /* somebody's constructor was first */
        return real_clock(id, t);
    }
    t->tv_sec = vclock / SECOND;
    t->tv_nsec = vclock % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec s;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &s);
    t->tv_sec = s.tv_sec;
    t->tv_usec = s.tv_nsec / 1000;
    return 0;
}

#define PASS_ON(name, ...)                                                      \
    static __typeof__(&name) real;                                              \
    if (real == NULL) real = (__typeof__(&name))next(#name);                    \
    return real(__VA_ARGS__)

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout) {
    if (vclock_on) return 0;
    PASS_ON(epoll_wait, fd, events, max, timeout);
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout, const sigset_t *set) {
    if (vclock_on) return 0;
    PASS_ON(epoll_pwait, fd, events, max, timeout, set);
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *set) {
    if (vclock_on) return 0;
    PASS_ON(epoll_pwait2, fd, events, max, timeout, set);
}

int poll(struct pollfd *fds, nfds_t n, int timeout) {
    if (vclock_on) return 0;
    PASS_ON(poll, fds, n, timeout);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *set) {
    if (vclock_on) return 0;
    PASS_ON(ppoll, fds, n, timeout, set);
}

int timerfd_create(int clock, int flags) {
    if (vclock_on) {
        errno = ENOSYS;
        return -1;
    }
    PASS_ON(timerfd_create, clock, flags);
}
