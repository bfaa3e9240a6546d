/* netfd.c: sockets for green threads: an operation that cannot go on parks until the poller says that it may,
 * or its deadline passes. What Go's internal/poll and runtime/netpoll.go do.
 *
 * Each side (read, write) of a socket has a word that tells who waits:
 *
 *   NOBODY   nobody waits, and nothing has happened
 *   READY    nobody waits, and the socket has become ready since the last wait
 *   WAIT     somebody is about to park
 *   other    the green thread that is parked
 *
 *   who waits            READY -> NOBODY, goes on;  NOBODY -> WAIT;  when switched away: WAIT -> itself
 *   the poller           any -> READY, wakes who was parked
 *   a deadline, evict    WAIT or parked -> NOBODY, wakes who was parked
 *
 * Who waits looks at the deadline after he has written WAIT, and a deadline that passes says so before it looks
 * at the word: so at least one of them sees the other.
 *
 * A deadline is a timer of the engine, one per side, made with the socket and used until the program ends: each
 * new deadline only re-arms it (gt_modtimer). That call cannot take back a firing that another thread has
 * begun. So each setting has a number, which goes with the timer as its seq; a callback that comes with an old
 * number is stale and does nothing. Callback and setter hold the same lock while they compare. Structs netfd
 * are used again and never freed while the runtime lives, so a stale callback, or a stale event of the poller,
 * finds a socket: perhaps a later one, which it cannot hurt. */
#define _GNU_SOURCE
#include "netfd.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define NOBODY ((uintptr_t)0)
#define READY ((uintptr_t)1)
#define WAIT ((uintptr_t)2)

struct side {
    _Atomic uintptr_t waiter;
    _Atomic int passed;  /* the deadline has; written under lock */
    uintptr_t seq;       /* lock. The number of the present deadline */
    gt_timer *timer;
    struct netfd *of;
};

struct netfd {
    pthread_mutex_t lock;
    int fd;
    _Atomic int evicted; /* written under lock */
    struct side side[2];
    struct netfd *next;     /* in the pool of those that are not in use */
    struct netfd *next_all; /* of all */
};

static struct {
    pthread_mutex_t lock;
    struct netfd *free, *all;
    _Atomic uint64_t stale, deadlines;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- who waits ---- */

/* Takes the waiter off a side and returns him if he was parked; then he is the caller's to make runnable. */
static green *unblock(struct side *s, uintptr_t to) {
    uintptr_t old = atomic_load(&s->waiter);
    do {
        if (old == READY) return NULL;
        if (old == NOBODY && to == NOBODY) return NULL;
    } while (!atomic_compare_exchange_weak(&s->waiter, &old, to));
    return old == NOBODY || old == WAIT ? NULL : (green *)old;
}

green *netfd_ready(struct netfd *nf, int side, green *list) {
    green *g = unblock(&nf->side[side], READY);
    if (g == NULL) return list;
    g->next = list;
    return g;
}

static int failed(const struct netfd *nf, const struct side *s) {
    if (atomic_load(&nf->evicted)) return -ECANCELED;
    return atomic_load(&s->passed) ? -ETIMEDOUT : 0;
}

struct parking {
    struct side *side;
    green *self;
};

static int commit(void *arg) {
    struct parking *p = arg;
    uintptr_t expected = WAIT;
    return atomic_compare_exchange_strong(&p->side->waiter, &expected, (uintptr_t)p->self);
    /* From a success on, *p may be gone. */
}

/* Waits until the socket may be ready: 0, or why not. Now and then it returns 0 for nothing. */
static int wait_for(struct netfd *nf, int side) {
    struct side *s = &nf->side[side];
    uintptr_t old = NOBODY;
    while (!atomic_compare_exchange_strong(&s->waiter, &old, WAIT)) {
        if (old != READY) die("two green threads wait for one side of a socket", 0);
        if (atomic_compare_exchange_strong(&s->waiter, &old, NOBODY)) return 0;
        old = NOBODY;
    }
    if (failed(nf, s) == 0) {
        struct parking p = {.side = s, .self = green_self()};
        green_park(commit, &p);
    }
    return atomic_exchange(&s->waiter, NOBODY) == READY ? 0 : failed(nf, s);
}

/* ---- operations ---- */

/* Not inlined: errno belongs to the thread, and its address must not be kept over a park. */
static __attribute__((noinline)) ssize_t try_read(int fd, void *buf, size_t n) {
    ssize_t r = recv(fd, buf, n, 0);
    return r < 0 ? -errno : r;
}

static __attribute__((noinline)) ssize_t try_writev(int fd, struct iovec *v, int n) {
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
    ssize_t r = sendmsg(fd, &m, MSG_NOSIGNAL);
    return r < 0 ? -errno : r;
}

static __attribute__((noinline)) int try_accept(int fd) {
    int r = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return r < 0 ? -errno : r;
}

ssize_t netfd_read(struct netfd *nf, void *buf, size_t n) {
    for (;;) {
        ssize_t r = failed(nf, &nf->side[NETFD_READ]);
        if (r < 0) return r;
        r = try_read(nf->fd, buf, n);
        if (r == -EAGAIN) r = wait_for(nf, NETFD_READ);
        else if (r != -EINTR) return r;
        if (r < 0 && r != -EINTR) return r;
    }
}

static ssize_t write_some(struct netfd *nf, struct iovec *v, int n) {
    for (;;) {
        ssize_t r = failed(nf, &nf->side[NETFD_WRITE]);
        if (r < 0) return r;
        r = try_writev(nf->fd, v, n);
        if (r == -EAGAIN) r = wait_for(nf, NETFD_WRITE);
        else if (r != -EINTR) return r;
        if (r < 0 && r != -EINTR) return r;
    }
}

int netfd_write_all(struct netfd *nf, struct iovec *v, int n) {
    while (n > 0) {
        if (v->iov_len == 0) {
            v++, n--;
            continue;
        }
        ssize_t r = write_some(nf, v, n);
        if (r < 0) return (int)r;
        for (size_t done = (size_t)r; done > 0;) {
            size_t part = done < v->iov_len ? done : v->iov_len;
            v->iov_base = (char *)v->iov_base + part, v->iov_len -= part;
            done -= part;
            if (v->iov_len == 0 && done > 0) v++, n--;
        }
    }
    return 0;
}

int netfd_accept(struct netfd *nf) {
    for (;;) {
        int r = failed(nf, &nf->side[NETFD_READ]);
        if (r < 0) return r;
        r = try_accept(nf->fd);
        if (r == -EAGAIN) r = wait_for(nf, NETFD_READ);
        else if (r != -EINTR) return r;
        if (r < 0 && r != -EINTR) return r;
    }
}

/* ---- deadlines ---- */

static void on_deadline(void *arg, uintptr_t seq, int64_t delay) {
    struct side *s = arg;
    (void)delay;
    green *g = NULL;
    pthread_mutex_lock(&s->of->lock);
    if (seq == s->seq) {
        atomic_store(&s->passed, 1);
        g = unblock(s, NOBODY);
    } else {
        atomic_fetch_add(&pool.stale, 1); /* the deadline was set anew while this was on its way */
    }
    pthread_mutex_unlock(&s->of->lock);
    if (g != NULL) green_ready(g);
}

void netfd_deadline(struct netfd *nf, int side, int64_t when) {
    struct side *s = &nf->side[side];
    atomic_fetch_add_explicit(&pool.deadlines, 1, memory_order_relaxed);
    pthread_mutex_lock(&nf->lock);
    s->seq++;
    atomic_store(&s->passed, 0);
    /* A time that has passed already is due at once: no case of its own. */
    int e = when == 0 ? gt_deltimer(s->timer) : gt_modtimer(s->timer, when, 0, on_deadline, s, s->seq);
    if (e < 0) die("a deadline cannot be set", e);
    pthread_mutex_unlock(&nf->lock);
}

/* ---- life ---- */

static struct netfd *make(void) {
    struct netfd *nf = calloc(1, sizeof *nf);
    if (nf == NULL) return NULL;
    pthread_mutex_init(&nf->lock, NULL);
    for (int i = 0; i < 2; i++) {
        struct side *s = &nf->side[i];
        s->of = nf;
        s->timer = gt_timer_new(runtime_sched(), on_deadline, s, NULL);
        if (s->timer == NULL) die("gt_timer_new", gt_last_error());
    }
    pthread_mutex_lock(&pool.lock);
    nf->next_all = pool.all;
    pool.all = nf;
    pthread_mutex_unlock(&pool.lock);
    return nf;
}

struct netfd *netfd_open(int fd) {
    pthread_mutex_lock(&pool.lock);
    struct netfd *nf = pool.free;
    if (nf != NULL) pool.free = nf->next;
    pthread_mutex_unlock(&pool.lock);
    if (nf == NULL && (nf = make()) == NULL) return NULL;
    pthread_mutex_lock(&nf->lock); /* a stale callback may be looking at it */
    nf->fd = fd;
    for (int i = 0; i < 2; i++) {
        atomic_store(&nf->side[i].waiter, NOBODY);
        atomic_store(&nf->side[i].passed, 0);
    }
    atomic_store(&nf->evicted, 0);
    pthread_mutex_unlock(&nf->lock);
    if (poll_add(fd, nf) == 0) return nf;
    pthread_mutex_lock(&pool.lock);
    nf->next = pool.free;
    pool.free = nf;
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

int netfd_fd(const struct netfd *nf) { return nf->fd; }

void netfd_evict(struct netfd *nf) {
    green *woken[2];
    pthread_mutex_lock(&nf->lock);
    atomic_store(&nf->evicted, 1);
    for (int i = 0; i < 2; i++) {
        nf->side[i].seq++; /* a callback that is on its way is stale */
        int e = gt_deltimer(nf->side[i].timer);
        if (e < 0) die("gt_deltimer", e);
        woken[i] = unblock(&nf->side[i], NOBODY);
    }
    pthread_mutex_unlock(&nf->lock);
    for (int i = 0; i < 2; i++)
        if (woken[i] != NULL) green_ready(woken[i]);
}

void netfd_close(struct netfd *nf) {
    netfd_evict(nf);
    close(nf->fd); /* which takes it out of the poller */
    pthread_mutex_lock(&pool.lock);
    nf->next = pool.free;
    pool.free = nf;
    pthread_mutex_unlock(&pool.lock);
}

uint64_t netfd_stale(void) { return atomic_load(&pool.stale); }
uint64_t netfd_deadlines(void) { return atomic_load(&pool.deadlines); }

void netfd_end(void) {
    for (struct netfd *nf = pool.all, *next; nf != NULL; nf = next) {
        next = nf->next_all;
        for (int i = 0; i < 2; i++)
            if (gt_timer_free(nf->side[i].timer) != 0) die("a closed socket had a deadline", 0);
        pthread_mutex_destroy(&nf->lock);
        free(nf);
    }
    pool.all = pool.free = NULL;
}
