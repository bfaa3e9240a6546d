/* poll.c: epoll. One worker at a time sleeps here; others may look in without waiting. An eventfd breaks the
 * sleep: it stays readable until it is read, so a break that comes before the sleep ends that sleep at once. */
#define _GNU_SOURCE
#include "netfd.h"
#include "worker.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 35)
#define HAVE_PWAIT2 1
#endif
#endif

#define EVENTS 128

static int epoll_fd, break_fd;
static _Atomic int breaking;      /* break_fd was written, and has not been read since */
#ifdef HAVE_PWAIT2
static _Atomic int no_nanoseconds; /* an old kernel, or one that does not let us: no epoll_pwait2 */
#endif

void poll_open(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    break_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}; /* NULL: the break, not a socket */
    if (epoll_fd < 0 || break_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, break_fd, &e) != 0)
        die("no epoll or eventfd to be had", 0);
}

void poll_close(void) {
    close(epoll_fd);
    close(break_fd);
}

/* Edge-triggered, both directions, once for the life of the socket: who reads or writes goes on until the
 * kernel says EAGAIN, and only then waits. */
int poll_add(int fd, struct netfd *nf) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = nf};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0 ? 0 : -errno;
}

void poll_break(void) {
    /* Our reason for the break was published before; see read_break. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_exchange(&breaking, 1)) return; /* it is broken already */
    uint64_t one = 1;
    if (write(break_fd, &one, sizeof one) != sizeof one) die("the eventfd cannot be written", 0);
}

/* The sleeper is awake. From the store on, breaks are written again; those that were not have published their
 * reasons before it, and the sleeper will look for reasons after the fence. */
static void read_break(void) {
    uint64_t n;
    ssize_t got = read(break_fd, &n, sizeof n);
    (void)got; /* EAGAIN: nothing was there */
    atomic_store(&breaking, 0);
    atomic_thread_fence(memory_order_seq_cst);
}

/* Rounds up: a wait that ends too early finds nothing due and waits again, and that for each deadline. */
static int wait_for_events(struct epoll_event *events, int64_t until) {
    int64_t left = -1; /* for ever */
    if (until != GT_MAX_WHEN) left = until == 0 ? 0 : until - runtime_now();
    if (until != GT_MAX_WHEN && left < 0) left = 0;
#ifdef HAVE_PWAIT2
    if (left > 0 && !atomic_load_explicit(&no_nanoseconds, memory_order_relaxed)) {
        struct timespec t = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
        int n = epoll_pwait2(epoll_fd, events, EVENTS, &t, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return n;
        atomic_store(&no_nanoseconds, 1);
    }
#endif
    int64_t ms = left <= 0 ? left : (left + MS - 1) / MS;
    return epoll_wait(epoll_fd, events, EVENTS, ms > 1000000 ? 1000000 : (int)ms);
}

green *poll_wait(int64_t until) {
    struct epoll_event events[EVENTS];
    int n = wait_for_events(events, until);
    green *found = NULL;
    if (n < 0 && errno != EINTR) die("epoll failed", 0);
    for (int i = 0; i < n; i++) {
        uint32_t e = events[i].events;
        struct netfd *nf = events[i].data.ptr;
        if (nf == NULL) {
            if (until != 0) read_break(); /* it is meant for the sleeper, not for those who look in */
            continue;
        }
        bool both = (e & (EPOLLERR | EPOLLHUP)) != 0;
        if (both || (e & (EPOLLIN | EPOLLRDHUP)) != 0) found = netfd_ready(nf, NETFD_READ, found);
        if (both || (e & EPOLLOUT) != 0) found = netfd_ready(nf, NETFD_WRITE, found);
    }
    return found;
}
