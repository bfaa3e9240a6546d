/* epoll.c: timers in a foreign event loop. The loop is epoll's; gt_p_fd gives it one descriptor that is
 * readable when a timer of the P is due. A peer says something every 50 ms, five times; each message pushes
 * the connection's time-out 200 ms ahead; then the peer falls silent, the time-out fires, the loop ends. */
#define _GNU_SOURCE
#include "gotimer.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000LL

struct conn {
    gt_timer *speak, *timeout;
    int ours, theirs, said, heard, over;
};

static void on_speak(void *arg, uintptr_t seq, int64_t delay) {
    struct conn *c = arg;
    (void)seq, (void)delay;
    if (write(c->theirs, "hi", 2) != 2) c->over = -1;
    if (++c->said == 5) gt_deltimer(c->speak);
}

static void on_timeout(void *arg, uintptr_t seq, int64_t delay) {
    (void)seq;
    printf("silent for 200 ms: closed (%lld us late)\n", (long long)(delay / 1000));
    ((struct conn *)arg)->over = 1;
}

static int watch(int ep, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

int main(void) {
    struct conn c = {0};
    int pair[2], ep = epoll_create1(EPOLL_CLOEXEC);
    gt_sched *s = gt_sched_new(NULL);
    gt_p *p = gt_p_new(s);
    int timers_fd = p ? gt_p_fd(p) : -1;
    if (ep < 0 || timers_fd < 0 || gt_acquirep(p) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 1;
    c.ours = pair[0], c.theirs = pair[1];
    if (watch(ep, timers_fd) != 0 || watch(ep, c.ours) != 0) return 1;

    c.speak = gt_timer_new(s, on_speak, &c, NULL);
    c.timeout = gt_timer_new(s, on_timeout, &c, NULL);
    int64_t now = gt_nanotime(s);
    if (gt_addtimer(c.speak, now + 50 * MS, 50 * MS) != 0 || gt_addtimer(c.timeout, now + 200 * MS, 0) != 0) return 1;

    while (c.over == 0) {
        struct epoll_event e;
        if (epoll_wait(ep, &e, 1, -1) != 1) continue;
        if (e.data.fd == timers_fd) {
            gt_check_timers(p, 0, NULL, NULL); /* runs what is due and sets the descriptor anew: nothing to read */
        } else {
            char text[16];
            ssize_t n = read(c.ours, text, sizeof text);
            printf("message %d: %zd bytes, time-out pushed\n", ++c.heard, n);
            if (gt_resettimer(c.timeout, gt_nanotime(s) + 200 * MS, 0) < 0) return 1;
        }
    }
    gt_timer_free(c.speak), gt_timer_free(c.timeout), gt_releasep(), gt_p_free(p);
    close(c.ours), close(c.theirs), close(ep);
    return gt_sched_free(s) != 0 || c.over != 1;
}
