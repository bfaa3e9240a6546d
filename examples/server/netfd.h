/* netfd.h: sockets for green threads. See netfd.c. */
#ifndef NETFD_H
#define NETFD_H

#include "green.h"

#include <sys/types.h>
#include <sys/uio.h>

struct netfd;

enum { NETFD_READ, NETFD_WRITE };

/* Takes a non-blocking socket over. NULL: no memory, or it cannot be polled; then it is still the caller's. */
struct netfd *netfd_open(int fd);
int netfd_fd(const struct netfd *nf);

/* These park until something can be done. At least one byte, or 0 for the end of the stream; else -errno:
 * -ETIMEDOUT when the deadline of that side has passed, -ECANCELED after netfd_evict. */
ssize_t netfd_read(struct netfd *nf, void *buf, size_t n);
int netfd_accept(struct netfd *nf); /* a non-blocking socket */

/* All of it: 0, or -errno. Changes the vector. */
int netfd_write_all(struct netfd *nf, struct iovec *v, int n);

/* From `when` on (0: never), operations of that side fail, also one that waits now. Like Go's SetDeadline, it
 * holds until it is set anew. */
void netfd_deadline(struct netfd *nf, int side, int64_t when);

/* All operations fail from now on. From any thread. */
void netfd_evict(struct netfd *nf);

/* Closes the socket. Nobody uses it any more. */
void netfd_close(struct netfd *nf);

/* How often a deadline's timer fired after the deadline had been set anew, and was ignored. */
uint64_t netfd_stale(void);
uint64_t netfd_deadlines(void); /* how many were set */
void netfd_end(void); /* frees all that there ever were; none is open */

/* For poll.c: the socket may be ready. Puts who waited for that in front of the list. */
green *netfd_ready(struct netfd *nf, int side, green *list);

#endif
