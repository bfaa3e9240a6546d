/* http.c: reads the head of an HTTP/1.1 request (RFC 9112): request line, header fields, and of these the ones
 * that tell where the request ends and whether the connection goes on. Bodies have a Content-Length; transfer
 * codings are answered with 501. What is ambiguous is refused: two lengths, lines that do not end in CR LF,
 * space before a colon, folded fields, control characters. */
#include "http.h"

#include <string.h>
#include <strings.h>

struct span {
    const char *at;
    size_t n;
};

const char *http_reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Error";
    }
}

static bool is(struct span s, const char *word) { return s.n == strlen(word) && strncasecmp(s.at, word, s.n) == 0; }

/* RFC 9110's tchar: what names of methods and fields are made of. */
static bool is_token(struct span s) {
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL)) return false;
    }
    return s.n > 0;
}

static bool is_text(struct span s, unsigned char least) {
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c != '\t' && (c < least || c == 127)) return false;
        if (c == '\t' && least > ' ') return false;
    }
    return true;
}

static struct span trim(struct span s) {
    while (s.n > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) s.at++, s.n--;
    while (s.n > 0 && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t')) s.n--;
    return s;
}

/* Cuts what stands before `c` off the front of *s; all of it if there is no c. */
static struct span cut(struct span *s, char c) {
    const char *at = s->n > 0 ? memchr(s->at, c, s->n) : NULL;
    struct span first = {s->at, at != NULL ? (size_t)(at - s->at) : s->n};
    size_t used = first.n + (at != NULL);
    s->at += used, s->n -= used;
    return first;
}

/* The request line: method, target, version. */
static int parse_line(struct span line, struct http_request *r, bool *old) {
    struct span method = cut(&line, ' ');
    struct span target = cut(&line, ' ');
    if (!is_token(method) || target.n == 0 || !is_text(target, '!')) return 400;
    if (line.n != 8 || strncmp(line.at, "HTTP/", 5) != 0 || line.at[6] != '.') return 400;
    if (line.at[5] < '0' || line.at[5] > '9' || line.at[7] < '0' || line.at[7] > '9') return 400;
    if (line.at[5] != '1') return 505;
    if (target.n > HTTP_TARGET_MAX) return 414;
    *old = line.at[7] == '0';
    r->keep_alive = !*old;
    r->is_head = method.n == 4 && memcmp(method.at, "HEAD", 4) == 0;
    return HTTP_OK;
}

static int parse_length(struct span value, size_t *length) {
    if (value.n == 0) return 400;
    *length = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') return 400;
        if (*length <= HTTP_BODY_MAX) *length = *length * 10 + (size_t)(value.at[i] - '0');
    }
    return HTTP_OK;
}

/* What must be remembered from one header field to the next. */
struct fields {
    int n, hosts;
    bool length, coded, close, keep;
};

static int parse_field(struct span line, struct http_request *r, struct fields *f) {
    if (++f->n > HTTP_FIELDS_MAX) return 431;
    if (memchr(line.at, ':', line.n) == NULL) return 400;
    struct span name = cut(&line, ':'), value = trim(line);
    if (!is_token(name) || !is_text(value, ' ')) return 400; /* a folded line or "name :" is no token */
    if (is(name, "host")) f->hosts++;
    if (is(name, "transfer-encoding")) f->coded = true;
    if (is(name, "expect")) {
        if (!is(value, "100-continue")) return 417;
        r->expects_100 = true;
    }
    if (is(name, "content-length")) {
        size_t length;
        int e = parse_length(value, &length);
        if (e != HTTP_OK) return e;
        if (f->length && length != r->body) return 400;
        f->length = true;
        r->body = length;
    }
    if (is(name, "connection")) {
        while (value.n > 0) {
            struct span word = trim(cut(&value, ','));
            f->close |= is(word, "close");
            f->keep |= is(word, "keep-alive");
        }
    }
    return HTTP_OK;
}

/* The whole head, line by line. */
static int parse_head(struct span head, struct http_request *r) {
    struct fields f = {0};
    bool old = false;
    for (bool first = true;; first = false) {
        struct span line = cut(&head, '\n');
        line.n--; /* the CR, which http_parse has seen */
        if (line.n == 0) break;
        int e = first ? parse_line(line, r, &old) : parse_field(line, r, &f);
        if (e != HTTP_OK) return e;
    }
    if (f.hosts > 1 || (f.hosts == 0 && !old)) return 400;
    if (f.coded) return f.length ? 400 : 501;
    if (r->body > HTTP_BODY_MAX) return 413;
    if (old) r->expects_100 = false;
    if (f.close) r->keep_alive = false;
    else if (f.keep) r->keep_alive = true;
    return HTTP_OK;
}

int http_parse(const char *text, size_t n, size_t *seen, struct http_request *r) {
    /* An empty line before the request is a mistake of some clients that is passed over. */
    size_t begin = n >= 2 && text[0] == '\r' && text[1] == '\n' ? 2 : 0;
    if (*seen < begin) *seen = begin;
    while (*seen < n) { /* *seen is the start of a line */
        const char *end = memchr(text + *seen, '\n', n - *seen);
        if (end == NULL) break;
        size_t at = (size_t)(end - text);
        if (at == *seen || text[at - 1] != '\r') return 400;
        bool empty = at == *seen + 1;
        *seen = at + 1;
        if (empty && at == begin + 1) return 400; /* a second empty line, and no request */
        if (*seen > HTTP_HEAD_MAX) return 431;
        if (empty) {
            *r = (struct http_request){.head = *seen};
            return parse_head((struct span){text + begin, *seen - begin}, r);
        }
    }
    if (n >= HTTP_HEAD_MAX) return *seen == begin ? 414 : 431;
    return HTTP_MORE;
}
