/* load_peer.c: what one connection does, and what it expects of the server: right answers, and if it stalls, to
 * be closed: not before the time that the server promises, and for the right reason. A connection that does not
 * mean to stall may be too slow all the same, on a machine that is busy with other things; then it must be
 * closed, too, and by the clock that is seen. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void next_step(struct peer *p);

/* A step begins, from which the server may count. */
static void step(struct peer *p) {
    p->before = p->began;
    p->began = load_now();
}

static void finish(struct peer *p) {
    load_unpause(p);
    p->state = P_OUTSIDE;
    p->of->open--;
}

/* Closes; comes again after a while, unless the load is over. */
static void leave(struct peer *p, bool again) {
    close(p->fd);
    free(p->out);
    p->fd = -1, p->out = NULL;
    p->out_size = p->out_at = p->out_stop = 0;
    p->state = P_OUTSIDE;
    if (again && !load_is_over(p->of)) load_pause(p, (int64_t)rng_below(&p->rng, 60 * MS));
    else finish(p);
}

/* ---- the end of a connection ---- */

/* The server closed, though we did not mean to stall: right if we were too slow by ourselves. */
static void was_slow(struct peer *p, int64_t now) {
    const int64_t *timeout = p->of->plan->timeout;
    struct load_result *r = p->of->result;
    int64_t least = timeout[IDLE_TIMEOUT] < timeout[WRITE_TIMEOUT] ? timeout[IDLE_TIMEOUT] : timeout[WRITE_TIMEOUT];
    count_up(p->got_408 ? &r->slow_read : &r->slow, 1);
    int64_t took = now - (p->got_408 ? p->began : p->before);
    if (p->got_408) least = timeout[READ_TIMEOUT];
    if (took < least)
        load_bad(r, &r->early, "a connection (kind %d, state %d) was closed after %lld us", p->kind, p->state,
                 (long long)(took / US));
}

static void was_stalled(struct peer *p, int64_t now) {
    struct load_result *r = p->of->result;
    int kind = p->kind - STALL_READ;
    if (kind == WRITE_TIMEOUT) { /* the beginning of what it never read tells why it was closed */
        ssize_t n = recv(p->fd, p->head, sizeof p->head - 1, 0);
        p->head[n > 0 ? n : 0] = 0;
        p->got_408 = strncmp(p->head, "HTTP/1.1 408 ", 13) == 0;
        if (strncmp(p->head, "HTTP/1.1 200 ", 13) != 0) {
            was_slow(p, now);
            return;
        }
    } else if (p->got_408 != (kind == READ_TIMEOUT)) {
        was_slow(p, now);
        return;
    }
    int64_t late = now - p->began - p->of->plan->timeout[kind];
    if (late < 0) load_bad(r, &r->early, "time-out of kind %d: %lld us early", kind, (long long)(-late / US));
    count_up(&r->cut[kind], 1);
    hist_add(&r->cut_late[kind], late);
}

static void was_case(struct peer *p, int64_t now) {
    struct load_result *r = p->of->result;
    p->head[p->head_size] = 0;
    if (request_case_ok(p)) {
        count_up(&r->cases, 1);
        if (request_case_is_right(p)) count_up(&r->answers, 1);
        return;
    }
    /* It may have been told to go on, and have been too slow with the rest. */
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const char *last = p->head;
    if (strncmp(last, go_on, strlen(go_on)) == 0) last += strlen(go_on);
    p->got_408 = strncmp(last, "HTTP/1.1 408 ", 13) == 0;
    if (p->got_408 || p->head_size == 0)
        was_slow(p, now);
    else
        load_bad(r, &r->bad_answers, "case %d: expected \"%.20s\", got \"%.40s\"", p->variant, request_case_expected(p),
                 p->head);
}

static void closed_by_server(struct peer *p) {
    int64_t now = load_now();
    bool is_end = false;
    if (p->kind == WRONG) was_case(p, now);
    else if (p->is_last && p->batch_at == p->batch) is_end = true; /* as we asked for */
    else if (p->state == P_STALLED) was_stalled(p, now);
    else was_slow(p, now);
    leave(p, !is_end);
}

/* ---- sending ---- */

static void watch(struct peer *p) {
    uint32_t in = p->kind == STALL_WRITE ? 0 : EPOLLIN; /* does not read; an end is told all the same */
    load_watch(p, in | (p->wants_out ? EPOLLOUT : 0), false);
}

/* What had to be sent at once is sent. */
static void sent(struct peer *p) {
    bool all = p->out_at == p->out_size;
    if (p->kind == STALL_READ) {
        p->state = P_STALLED;
        if (!all) load_pause(p, 10 * MS); /* one byte now and then: it must not help */
    } else if (p->kind == STALL_WRITE) {
        p->state = P_STALLED;
    } else if (p->kind != WRONG && !all) {
        load_pause(p, (int64_t)rng_below(&p->rng, 5 * MS)); /* the second piece */
    }
}

/* An error is no matter here: epoll will tell, and what was received before it is read first. */
static void flush(struct peer *p) {
    while (p->out_at < p->out_stop) {
        ssize_t n = send(p->fd, p->out + p->out_at, p->out_stop - p->out_at, MSG_NOSIGNAL);
        if (n < 0) break;
        p->out_at += (size_t)n;
    }
    bool full = p->out_at < p->out_stop && (errno == EAGAIN || errno == EINTR);
    if (full != p->wants_out) {
        p->wants_out = full;
        watch(p);
    }
    if (p->out_at == p->out_stop) sent(p);
}

static void send_batch(struct peer *p) {
    bool is_last = load_is_over(p->of);
    unsigned n = is_last || p->kind != HASTY ? 1 : 1 + (unsigned)rng_below(&p->rng, BATCH);
    if (p->kind == STALL_IDLE) is_last = false;
    if (!request_batch(p, n, is_last)) {
        leave(p, false);
        return;
    }
    count_up(&p->of->result->requests, n);
    p->state = P_TALKS;
    step(p);
    flush(p);
}

/* ---- receiving ---- */

/* True if the batch is answered. */
static bool take(struct peer *p, const char *data, size_t n, bool *good) {
    if (p->kind == WRONG) {
        size_t room = sizeof p->head - 1 - p->head_size;
        memcpy(p->head + p->head_size, data, n < room ? n : room);
        p->head_size += (uint32_t)(n < room ? n : room);
        if (p->out_stop < p->out_size) {
            p->out_stop = p->out_size;
            flush(p);
        }
        return false;
    }
    *good = answer_take(p, data, n);
    return *good && p->state == P_TALKS && p->batch > 0 && p->batch_at == p->batch && !p->is_last;
}

static void receive(struct peer *p) {
    for (;;) {
        ssize_t n = recv(p->fd, p->of->scratch, SCRATCH, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) {
            closed_by_server(p);
            return;
        }
        bool good = true, answered = take(p, p->of->scratch, (size_t)n, &good);
        if (!good) {
            leave(p, false);
            return;
        }
        if (answered) next_step(p); /* it may have closed, or begun something new */
        if (answered || (size_t)n < SCRATCH) return; /* if there is more, epoll tells again */
    }
}

/* ---- from step to step ---- */

/* Now and then until just about the time when the server closes: what wins is right, but it must be one of them. */
static void rest(struct peer *p) {
    int64_t idle = p->of->plan->timeout[IDLE_TIMEOUT];
    p->state = P_RESTS;
    if (p->variant % 4 == 3 && rng_below(&p->rng, 32) == 0)
        load_pause(p, p->began - load_now() + idle - 3 * MS + (int64_t)rng_below(&p->rng, 4 * MS));
    else
        load_pause(p, 5 * MS + (int64_t)rng_below(&p->rng, (uint64_t)idle / 2));
}

static void next_step(struct peer *p) {
    switch (p->kind) {
    case HASTY: send_batch(p); break;
    case CALM: rest(p); break;
    case STALL_IDLE: p->state = P_STALLED; break;
    }
}

static void connected(struct peer *p) {
    p->wants_out = false;
    p->state = P_TALKS;
    watch(p);
    bool ok = true;
    switch (p->kind) {
    case HASTY:
    case CALM: send_batch(p); return;
    case STALL_IDLE:
        if (p->variant++ % 2 == 0) p->state = P_STALLED;
        else send_batch(p);
        return;
    case STALL_READ: ok = request_half(p), p->variant++; break;
    case STALL_WRITE: ok = request_big(p); break;
    case WRONG:
        p->variant = (uint8_t)((p->variant + 1) % request_cases());
        request_case(p);
        count_up(&p->of->result->requests, request_case_is_right(p));
        break;
    }
    if (!ok || p->out == NULL) {
        leave(p, false);
        return;
    }
    step(p);
    flush(p);
}

static void connect_now(struct peer *p) {
    struct load_result *r = p->of->result;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(p->of->plan->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->batch = p->batch_at = p->head_size = 0;
    p->is_last = p->got_408 = p->in_body = p->wants_out = false;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0) {
        load_bad(r, &r->failures, "socket: %s", strerror(errno));
        finish(p);
        return;
    }
    int on = 1, small = 4096;
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (p->kind == STALL_WRITE) setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    p->began = p->before = load_now();
    count_up(&r->connects, 1);
    if (connect(p->fd, (struct sockaddr *)&to, sizeof to) == 0) {
        load_watch(p, 0, true);
        connected(p);
    } else if (errno == EINPROGRESS) {
        p->state = P_CONNECTS;
        load_watch(p, EPOLLOUT, true);
    } else if (errno == EADDRNOTAVAIL || errno == EAGAIN) { /* too many connections ended lately: no free port */
        leave(p, true);
    } else {
        load_bad(r, &r->failures, "connect: %s", strerror(errno));
        leave(p, false);
    }
}

void peer_wakes(struct peer *p) {
    switch (p->state) {
    case P_OUTSIDE: connect_now(p); break;
    case P_RESTS: send_batch(p); break;
    case P_TALKS: p->out_stop = p->out_size, flush(p); break;
    case P_STALLED:
        if (p->out_stop < p->out_size) p->out_stop++, flush(p);
        break;
    }
}

void peer_event(struct peer *p, uint32_t events) {
    if (p->state == P_CONNECTS) {
        int e = 0;
        socklen_t size = sizeof e;
        getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &e, &size);
        if (e == 0) {
            connected(p);
        } else {
            load_bad(p->of->result, &p->of->result->failures, "connect: %s", strerror(e));
            leave(p, false);
        }
        return;
    }
    if (p->kind == STALL_WRITE && (events & (EPOLLHUP | EPOLLERR)) != 0) closed_by_server(p);
    else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(p);
    else if ((events & EPOLLOUT) != 0) flush(p);
}
