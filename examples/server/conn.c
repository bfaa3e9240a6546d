/* conn.c: the HTTP/1.1 echo server: a green thread for each connection, that reads a request, sends its body
 * back, and so on. It is written as if it could block; the deadlines of netfd.c see to it that no peer can hold
 * it for ever:
 *
 *   idle    from the answer (or the connect) to the first byte of the next request: closed without a word
 *   read    from the first byte of a request to its last: answered with 408, closed
 *   write   from the first byte of an answer to its last: the connection is reset
 *
 * Idle and read are both deadlines of the read side: each setting replaces the one before. A deadline that has
 * done its duty is not taken back: the next request sets it anew, which costs less, and when it passes
 * meanwhile nobody waits. */
#define _GNU_SOURCE
#include "conn.h"
#include "http.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct tally tally;

static struct {
    struct limits limits;
    struct netfd *listener;
} server;

struct conn {
    struct netfd *nf;
    char *buffer;
    size_t room, have;
    int64_t deadline; /* the one that counts now */
};

static void set_deadline(struct conn *c, int side, int kind) {
    c->deadline = runtime_now() + server.limits.timeout[kind];
    netfd_deadline(c->nf, side, c->deadline);
}

/* A deadline has passed: writes down how late we know. */
static void timed_out(struct conn *c, int kind) {
    int64_t late = runtime_now() - c->deadline;
    if (late < 0) count_up(&tally.early, 1);
    hist_add(&tally.late[kind], late);
    count_up(&tally.fired[kind], 1);
}

static bool grow(struct conn *c, size_t room) {
    if (room <= c->room) return true;
    char *more = realloc(c->buffer, room);
    if (more == NULL) return false;
    c->buffer = more, c->room = room;
    return true;
}

/* Reads some more into the buffer, which has room. Above 0, or the end (0), or -errno. */
static ssize_t fill(struct conn *c) {
    ssize_t n = netfd_read(c->nf, c->buffer + c->have, c->room - c->have);
    if (n > 0) c->have += (size_t)n;
    return n;
}

static int answer(struct conn *c, int status, const char *body, size_t n, bool keep_alive, bool is_head) {
    char head[160];
    int length = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n", status,
                          http_reason(status), n, keep_alive ? "keep-alive" : "close");
    struct iovec v[2] = {{head, (size_t)length}, {(char *)body, is_head ? 0 : n}};
    set_deadline(c, NETFD_WRITE, WRITE_TIMEOUT);
    int e = netfd_write_all(c->nf, v, 2);
    if (e == 0) count_up(status == HTTP_OK ? &tally.served : &tally.refused, 1);
    return e;
}

/* The peer must see our last answer: if we closed while something of his is unread, he might lose it. */
static void linger(struct conn *c) {
    char rest[1024];
    shutdown(netfd_fd(c->nf), SHUT_WR);
    set_deadline(c, NETFD_READ, READ_TIMEOUT);
    while (netfd_read(c->nf, rest, sizeof rest) > 0) {}
}

static void refuse(struct conn *c, int status) {
    if (answer(c, status, NULL, 0, false, false) == 0) linger(c);
}

/* Waits for the head of the next request. False: there is none, and the connection is finished with. */
static bool read_head(struct conn *c, struct http_request *r) {
    ssize_t n = 1;
    size_t seen = 0;
    if (c->have == 0) {
        set_deadline(c, NETFD_READ, IDLE_TIMEOUT);
        n = fill(c);
        if (n == -ETIMEDOUT) timed_out(c, IDLE_TIMEOUT);
        if (n <= 0) return false;
    }
    set_deadline(c, NETFD_READ, READ_TIMEOUT);
    for (;;) {
        int status = http_parse(c->buffer, c->have, &seen, r);
        if (status == HTTP_OK) return true;
        if (status == HTTP_MORE && !grow(c, c->have < c->room ? c->room : 2 * c->room)) status = 503;
        if (status != HTTP_MORE) {
            refuse(c, status);
            return false;
        }
        n = fill(c);
        if (n == -ETIMEDOUT) {
            timed_out(c, READ_TIMEOUT);
            answer(c, 408, NULL, 0, false, false);
        }
        if (n <= 0) return false;
    }
}

/* The deadline of read_head goes on. */
static bool read_body(struct conn *c, const struct http_request *r) {
    if (r->expects_100 && c->have < r->head + r->body) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        struct iovec v = {(char *)go_on, sizeof go_on - 1};
        netfd_deadline(c->nf, NETFD_WRITE, c->deadline);
        if (netfd_write_all(c->nf, &v, 1) != 0) return false;
    }
    if (!grow(c, r->head + r->body)) {
        refuse(c, 503);
        return false;
    }
    while (c->have < r->head + r->body) {
        ssize_t n = fill(c);
        if (n == -ETIMEDOUT) {
            timed_out(c, READ_TIMEOUT);
            answer(c, 408, NULL, 0, false, false);
        }
        if (n <= 0) return false;
    }
    return true;
}

/* One request and its answer. False: it was the last one. */
static bool serve_one(struct conn *c) {
    struct http_request r;
    if (!read_head(c, &r) || !read_body(c, &r)) return false;
    int e = answer(c, HTTP_OK, c->buffer + r.head, r.body, r.keep_alive, r.is_head);
    if (e == -ETIMEDOUT) {
        timed_out(c, WRITE_TIMEOUT);
        /* What he has not taken by now he need not get: without this, the kernel would go on trying. */
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(netfd_fd(c->nf), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    if (e != 0) return false;
    count_up(&tally.bytes, r.body);
    c->have -= r.head + r.body;
    memmove(c->buffer, c->buffer + r.head + r.body, c->have); /* the next request may have begun */
    return r.keep_alive;
}

static void serve(void *arg) {
    struct conn c = {.nf = arg};
    if (grow(&c, 2048))
        while (serve_one(&c)) {}
    free(c.buffer);
    netfd_close(c.nf);
    count_up(&tally.closed, 1);
}

static void accept_all(void *arg) {
    (void)arg;
    int fd;
    while ((fd = netfd_accept(server.listener)) != -ECANCELED) {
        if (fd < 0) { /* the peer was gone before we came to it; or there are no descriptors until some end */
            gt_sched_sleep(runtime_sched(), 5 * MS);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct netfd *nf = netfd_open(fd);
        count_up(&tally.accepted, 1);
        if (nf != NULL && green_go(serve, nf)) continue;
        count_up(&tally.no_memory, 1);
        count_up(&tally.closed, 1);
        if (nf != NULL) netfd_close(nf);
        else close(fd);
    }
    netfd_close(server.listener);
}

int server_listen(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int small = 32 << 10; /* so that a peer who does not read is noticed; connections inherit it */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0) {
        perror("server: cannot listen on 127.0.0.1");
        exit(2);
    }
    *port = ntohs(at.sin_port);
    return fd;
}

void server_start(int listener, struct limits limits) {
    server.limits = limits;
    server.listener = netfd_open(listener);
    if (server.listener == NULL || !green_go(accept_all, NULL)) die("no memory for the server", 0);
}

void server_end(void) { netfd_evict(server.listener); }
