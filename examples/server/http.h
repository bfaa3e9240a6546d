/* http.h: reads the head of an HTTP/1.1 request. See http.c. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_HEAD_MAX 8192u        /* bytes of request line and header fields */
#define HTTP_TARGET_MAX 2048u      /* bytes of the request target */
#define HTTP_FIELDS_MAX 64         /* header fields */
#define HTTP_BODY_MAX (1024u << 10) /* bytes of a body */

enum { HTTP_MORE = 0, HTTP_OK = 200 };

struct http_request {
    size_t head;      /* bytes of the head, with the empty line */
    size_t body;      /* bytes of the body, which follow */
    bool keep_alive;  /* after the answer */
    bool is_head;     /* the answer has no body */
    bool expects_100; /* the client waits for "100 Continue" before it sends the body */
};

/* Reads a head from the first `n` bytes. `*seen`, 0 at first, is what was looked at in earlier calls.
 * HTTP_OK: *r is filled in. HTTP_MORE: the head is not complete. Else the status of the answer: an error,
 * after which the connection is of no more use. */
int http_parse(const char *text, size_t n, size_t *seen, struct http_request *r);

const char *http_reason(int status);

#endif
