/* Scripts and traces as text; see oracle/script.go, which does the same. */
#include "runner.h"

#include <errno.h>
#include <inttypes.h>

uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void die(const char *what)
{
    fprintf(stderr, "conformance runner: %s\n", what);
    exit(2);
}

static int takes_duration(char kind)
{
    return strchr("fpnkrz", kind) != NULL;
}

void op_text(char *to, size_t len, const struct op *o)
{
    char d[24] = "", slot[12] = "";
    if (takes_duration(o->kind))
        snprintf(d, sizeof d, "%s%" PRId64, o->kind == 'z' ? "" : ":", o->d);
    if (o->kind != 'z')
        snprintf(slot, sizeof slot, "%d", o->slot);
    snprintf(to, len, "%s%c%s%s", o->at_once ? "!" : "", o->kind, slot, d);
}

void script_clear(struct script *s)
{
    s->actors = 0;
    memset(s->calls, 0, sizeof s->calls);
}

static int parse_op(struct op *o, const char *w)
{
    char *end;
    memset(o, 0, sizeof *o);
    if (*w == '!') {
        o->at_once = 1;
        w++;
    }
    if (*w == '\0' || strchr("fpnkxrdgwtz", *w) == NULL)
        return 0;
    o->kind = *w++;
    if (o->kind != 'z') {
        long slot = strtol(w, &end, 10);
        if (end == w || slot < 0 || slot >= MAX_SLOTS)
            return 0;
        o->slot = (int)slot;
        w = end;
        if (takes_duration(o->kind) && *w++ != ':')
            return 0;
    }
    if (!takes_duration(o->kind))
        return *w == '\0';
    errno = 0;
    o->d = strtoll(w, &end, 10);
    return end != w && *end == '\0' && errno == 0;
}

static int parse_ops(struct list *l, char *text)
{
    char *save;
    l->n = 0;
    for (char *w = strtok_r(text, " \n", &save); w != NULL; w = strtok_r(NULL, " \n", &save)) {
        if (l->n == MAX_OPS || !parse_op(&l->ops[l->n], w))
            return 0;
        l->n++;
    }
    return 1;
}

int script_line(struct script *s, const char *line)
{
    char text[4096];
    if (strlen(line) >= sizeof text)
        return 0;
    strcpy(text, line);
    if (text[0] == 's')
        return sscanf(text, "s %" SCNu64 " %" SCNd64, &s->seed, &s->horizon) == 2;
    if (text[0] == 'a')
        return s->actors < MAX_ACTORS && parse_ops(&s->actor[s->actors++], text + 1);
    if (text[0] == 'c') {
        char *end;
        long slot = strtol(text + 1, &end, 10);
        return end != text + 1 && slot >= 0 && slot < MAX_SLOTS && s->calls[slot] < MAX_CALLS &&
               parse_ops(&s->call[slot][s->calls[slot]++], end);
    }
    return 0;
}

void trace_add(struct trace *t, int64_t at, int who, int n, int sub, const char *what)
{
    if (t->n == t->room) {
        t->room = t->room == 0 ? 64 : 2 * t->room;
        t->events = realloc(t->events, t->room * sizeof *t->events);
        if (t->events == NULL)
            die("out of memory");
    }
    struct event *e = &t->events[t->n++];
    *e = (struct event){.at = at, .who = who, .n = n, .sub = sub};
    snprintf(e->what, sizeof e->what, "%s", what);
}

static int compare(const void *x, const void *y)
{
    const struct event *a = x, *b = y;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    if (a->who != b->who)
        return a->who - b->who;
    return a->n != b->n ? a->n - b->n : a->sub - b->sub;
}

char *trace_text(struct trace *t)
{
    char *text = malloc(t->n * 128 + 1), *to = text;
    if (text == NULL)
        die("out of memory");
    *to = '\0';
    if (t->n > 0)
        qsort(t->events, t->n, sizeof *t->events, compare);
    for (struct event *e = t->events; e < t->events + t->n; e++) {
        to += sprintf(to, "%" PRId64, e->at);
        if (e->who >= ANOMALY)
            to += sprintf(to, " ! %s\n", e->what);
        else if (e->who >= THE_END)
            to += sprintf(to, " end %s\n", e->what);
        else if (e->who >= GIVEN_UP)
            to += sprintf(to, " g%d.%d\n", e->who - GIVEN_UP, e->n);
        else if (e->who >= CALLBACK && e->sub > 0)
            to += sprintf(to, " f%d.%d.%d %s\n", e->who - CALLBACK, e->n, e->sub - 1, e->what);
        else if (e->who >= CALLBACK)
            to += sprintf(to, " f%d.%d\n", e->who - CALLBACK, e->n);
        else
            to += sprintf(to, " a%d.%d %s\n", e->who, e->n, e->what);
    }
    return text;
}

void trace_free(struct trace *t)
{
    free(t->events);
    memset(t, 0, sizeof *t);
}
