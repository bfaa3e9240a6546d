/* load_request.c: requests, right and wrong ones, and the answers that they should get. Bodies are parts of one
 * long random pattern, so an answer can be compared as it comes in. */
#define _GNU_SOURCE
#include "http.h"
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char pattern[BIG_BODY + BODY_MAX];

void request_init(uint64_t seed) {
    for (size_t i = 0; i < sizeof pattern; i += 8) {
        uint64_t v = rng_next(&seed);
        memcpy(pattern + i, &v, 8);
    }
}

/* Makes room for n bytes to be sent. */
static char *room(struct peer *p, size_t n) {
    free(p->out);
    p->out = malloc(n);
    p->out_size = p->out_at = p->out_stop = 0;
    if (p->out == NULL) load_bad(p->of->result, &p->of->result->failures, "no memory for a request");
    return p->out;
}

static size_t put_request(struct peer *p, size_t at, size_t body, size_t from, bool is_last) {
    static const char *const methods[] = {"POST", "PUT"};
    at += (size_t)sprintf(p->out + at,
                          "%s /echo/%u HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n"
                          "Content-Length: %zu\r\n%s\r\n",
                          methods[rng_next(&p->rng) & 1], (unsigned)from, body, is_last ? "Connection: close\r\n" : "");
    memcpy(p->out + at, pattern + from, body);
    return at + body;
}

#define HEAD_ROOM 256

bool request_batch(struct peer *p, unsigned n, bool is_last) {
    size_t sizes[BATCH], whole = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t dice = rng_below(&p->rng, 100);
        sizes[i] = dice < 10 ? 0 : dice < 97 ? rng_below(&p->rng, 1024) : rng_below(&p->rng, BODY_MAX);
        whole += sizes[i] + HEAD_ROOM;
    }
    if (room(p, whole) == NULL) return false;
    for (unsigned i = 0; i < n; i++) {
        size_t from = rng_below(&p->rng, BIG_BODY);
        p->want[i].from = (uint32_t)from, p->want[i].size = (uint32_t)sizes[i];
        p->out_size = put_request(p, p->out_size, sizes[i], from, is_last && i + 1 == n);
    }
    p->out_stop = p->out_size;
    p->batch = n, p->batch_at = 0, p->is_last = is_last;
    /* Now and then in two pieces. */
    if (rng_below(&p->rng, 16) == 0) p->out_stop = 1 + rng_below(&p->rng, p->out_size - 1);
    return true;
}

bool request_half(struct peer *p) {
    if (room(p, 4096 + HEAD_ROOM) == NULL) return false;
    size_t whole = put_request(p, 0, 4096, rng_below(&p->rng, BIG_BODY), false);
    size_t head = (size_t)((char *)memmem(p->out, whole, "\r\n\r\n", 4) - p->out) + 4;
    switch (p->variant % 4) {
    case 0: p->out_size = 1 + rng_below(&p->rng, 10); break;              /* part of the request line */
    case 1: p->out_size = head - 1 - rng_below(&p->rng, head - 30); break; /* part of the head */
    case 2: p->out_size = head + rng_below(&p->rng, 4096); break;         /* part of the body */
    default: p->out_size = whole, p->out_stop = 1; return true;           /* one byte now and then */
    }
    p->out_stop = p->out_size;
    return true;
}

bool request_big(struct peer *p) {
    if (room(p, BIG_BODY + HEAD_ROOM) == NULL) return false;
    p->out_stop = p->out_size = put_request(p, 0, BIG_BODY, 0, false);
    return true;
}

/* ---- wrong and odd requests ---- */

/* What is sent, then so many times "x", and how what comes back begins. What stands behind a NUL is sent when
 * the server has said something. */
static const struct {
    const char *sent;
    unsigned more;
    const char *expected;
} cases[] = {
#define CLOSE "Connection: close\r\n\r\n"
    {"GET / HTTP/1.1\r\nHost: a\r\n" CLOSE, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"},
    {"GET / HTTP/1.0\r\n\r\n", 0, "HTTP/1.1 200 "},
    {"\r\nGET / HTTP/1.0\r\n\r\n", 0, "HTTP/1.1 200 "},
    {"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" CLOSE "hi", 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"},
    {"POST / HTTP/1.1\r\nhost:a\r\nContent-Length:3\r\nExpect: 100-continue\r\n" CLOSE "abc", 0, "HTTP/1.1 200 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n" CLOSE "\0abc", 0,
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n" CLOSE "hi", 0, "HTTP/1.1 200 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nConnection: te , Close\r\nContent-Length: 02\r\n\r\nhi", 0, "HTTP/1.1 200 "},
    {"hello\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"\r\n\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"GET / HTTP/1.1\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"GET / HTTP/1.1\nHost: a\n\n", 0, "HTTP/1.1 400 "},
    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"GET / HTTP/1.1\r\nHost: a\001\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "HTTP/1.1 400 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "HTTP/1.1 501 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", 0, "HTTP/1.1 413 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\n", 0, "HTTP/1.1 413 "},
    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n", 0, "HTTP/1.1 417 "},
    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 0, "HTTP/1.1 505 "},
    {"GET /", HTTP_HEAD_MAX, "HTTP/1.1 414 "},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: ", HTTP_HEAD_MAX, "HTTP/1.1 431 "},
};

unsigned request_cases(void) { return sizeof cases / sizeof *cases; }

void request_case(struct peer *p) {
    const char *sent = cases[p->variant].sent;
    size_t first = strlen(sent), more = cases[p->variant].more;
    /* Is there something behind a NUL? Only where the server is to say 100 first. */
    size_t rest = strstr(cases[p->variant].expected, " 100 ") != NULL ? strlen(sent + first + 1) : 0;
    if (room(p, first + more + rest) == NULL) return;
    memcpy(p->out, sent, first);
    memset(p->out + first, 'x', more);
    memcpy(p->out + first + more, sent + first + 1, rest);
    p->out_stop = first + more;
    p->out_size = p->out_stop + rest;
}

bool request_case_ok(const struct peer *p) {
    const char *expected = cases[p->variant].expected;
    return p->head_size >= strlen(expected) && memcmp(p->head, expected, strlen(expected)) == 0;
}

bool request_case_is_right(const struct peer *p) { return strstr(cases[p->variant].expected, " 200 ") != NULL; }

const char *request_case_expected(const struct peer *p) { return cases[p->variant].expected; }

/* ---- answers ---- */

/* The head is complete: is it what this request should get? */
static bool check_head(struct peer *p) {
    char expected[64];
    p->head[p->head_size] = 0;
    if (strncmp(p->head, "HTTP/1.1 408 ", 13) == 0) {
        p->got_408 = true; /* we were too slow; the server closes */
        return true;
    }
    if (p->batch_at < p->batch) {
        int n = snprintf(expected, sizeof expected, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n",
                         p->want[p->batch_at].size);
        if (strncmp(p->head, expected, (size_t)n) == 0) return true;
    }
    load_bad(p->of->result, &p->of->result->bad_answers, "answer %u of %u begins with \"%.40s\"", p->batch_at + 1,
             p->batch, p->head);
    return false;
}

static void answer_done(struct peer *p) {
    struct load_result *r = p->of->result;
    count_up(&r->answers, 1);
    count_up(&r->bytes, p->want[p->batch_at].size);
    hist_add(&r->latency, load_now() - p->began);
    p->batch_at++;
    p->in_body = false;
    p->head_size = 0;
}

bool answer_take(struct peer *p, const char *data, size_t n) {
    while (n > 0) {
        if (!p->in_body) {
            if (p->got_408 || p->head_size == sizeof p->head - 1) {
                load_bad(p->of->result, &p->of->result->bad_answers, "an answer does not end");
                return false;
            }
            p->head[p->head_size++] = *data++, n--;
            if (p->head_size < 4 || memcmp(p->head + p->head_size - 4, "\r\n\r\n", 4) != 0) continue;
            if (!check_head(p)) return false;
            if (p->got_408) continue;
            p->in_body = true, p->body_at = 0;
        }
        uint32_t left = p->want[p->batch_at].size - p->body_at;
        uint32_t part = n < left ? (uint32_t)n : left;
        if (memcmp(data, pattern + p->want[p->batch_at].from + p->body_at, part) != 0) {
            load_bad(p->of->result, &p->of->result->bad_answers, "a body came back changed");
            return false;
        }
        data += part, n -= part, p->body_at += part;
        if (p->body_at == p->want[p->batch_at].size) answer_done(p);
    }
    return true;
}
