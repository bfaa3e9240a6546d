/* Runs a script against libgotimer: the counterpart of oracle/bubble.go, rule by rule.
 *
 * Beside the trace this checks what needs no oracle: conservation, one drop per argument, the
 * delay and the sequence number of a callback, and (in calls.c) that a timer's fd is readable
 * just when there is something to receive. An anomaly is written into the trace, where it is a
 * difference. */
#include "world.h"

#include <inttypes.h>

static void record(struct world *w, int who, int n, int sub, const struct op *o, const char *result)
{
    char text[72];
    op_text(text, sizeof text, o);
    size_t len = strlen(text);
    snprintf(text + len, sizeof text - len, " %s", result);
    trace_add(&w->trace, now_of(w), who, n, sub, text);
}

/* The choices for an operation: random bits that stay the same when other operations of the
 * script go away. */
static uint64_t choices(struct world *w, const struct op *o)
{
    return mix(mix(w->s->seed + w->salt) ^ mix((uint64_t)o->d) ^ (uint64_t)(o->kind * MAX_SLOTS + o->slot));
}

/* ---- the script's rules, as in oracle/bubble.go ---- */

static int may_touch(struct world *w, int by, int i)
{
    struct slot *s = &w->slots[i];
    int64_t now = now_of(w);
    if (s->kind == 'k' && s->due != 0)
        return now == s->set || (now - s->set) % s->period != 0;
    return s->due != gt_nanotime(w->sched) && (by == i || s->fired != now);
}

static void arm(struct world *w, struct slot *s, int64_t d)
{
    s->set = now_of(w);
    s->due = when(w, d);
    s->period = (s->kind == 'k' || s->kind == 'p') && d > 0 ? d : 0;
}

static void value(struct world *w, struct slot *s, int64_t sent, char *result, size_t len)
{
    if (plant == PLANT_TICK && s->kind == 'k')
        sent = gt_nanotime(w->sched);
    if (s->kind == 'k') {
        int64_t ticks = 1 + (gt_nanotime(w->sched) - sent) / s->period;
        if (__builtin_mul_overflow(s->period, ticks, &s->due) ||
            __builtin_add_overflow(s->due, sent, &s->due))
            s->due = GT_MAX_WHEN;
    } else {
        s->due = 0;
    }
    snprintf(result, len, "%" PRId64, sent - GT_VIRTUAL_EPOCH);
}

static void yes(struct world *w, int got, char *result, size_t len)
{
    if (got != 0 && got != 1)
        anomaly(w, "a call gave", got);
    snprintf(result, len, "%d", got);
}

/* What stop does when it is to be wrong. */
static void plant_stop(struct world *w, struct slot *s, int *got, int due_before)
{
    if (plant == PLANT_TWICE && s->kind == 'f')
        *got = 1;
    if (plant == PLANT_DRAIN && due_before)
        *got = 0;
    (void)w;
}

/* An operation that does not block. self: the callback's slot, or -1. No result: not done. */
static void operate(struct world *w, const struct op *o, int self, char *result, size_t len)
{
    struct slot *s = &w->slots[o->slot];
    uint64_t c = choices(w, o);
    int64_t sent = 0;
    int due = s->kind == 'n' && s->due != 0 && s->due <= gt_nanotime(w->sched), got;
    *result = '\0';
    switch (o->kind) {
    case 'f':
    case 'p':
    case 'n':
    case 'k':
        if (s->kind != 0)
            return;
        if (o->kind == 'k' && o->d <= 0) {
            gt_timer *none = gt_sched_new_ticker(w->sched, o->d);
            snprintf(result, len, none == NULL && gt_last_error() == GT_EINVAL ? "refused" : "accepted");
            return;
        }
        s->kind = o->kind;
        s->serial++;
        arm(w, s, o->d);
        lib_new(w, s, o, c);
        snprintf(result, len, "new");
        return;
    case 'r':
        if (s->kind == 0)
            return;
        if (s->kind == 'k' && o->d <= 0) {
            snprintf(result, len, gt_timer_reset(s->timer, o->d) == GT_EINVAL ? "refused" : "accepted");
            return;
        }
        if ((plant == PLANT_EARLIER && s->blocked > 0 && when(w, o->d) < s->due) ||
            (plant == PLANT_SELF && self == o->slot && o->d > 0)) {
            snprintf(result, len, plant == PLANT_SELF ? "0" : "1");
            return;
        }
        got = lib_reset(w, s, o, c);
        s->stale = -1;
        arm(w, s, o->d);
        yes(w, got, result, len);
        return;
    case 'x':
    case 'd':
        if (s->kind == 0 || (o->kind == 'd' && s->blocked > 0))
            return;
        if (plant == PLANT_STALE && s->kind == 'n' && due)
            s->stale = s->due;
        if (o->kind == 'd') {
            got = c & 1 ? gt_timer_free(s->timer) : gt_timer_free_id(w->sched, gt_timer_id(s->timer));
            s->kind = 0;
        } else {
            got = lib_stop(w, s, c, self == o->slot);
            plant_stop(w, s, &got, due);
        }
        s->due = 0;
        yes(w, got, result, len);
        return;
    case 'g':
        if (!calls_back(s))
            return;
        s->arg->given_up = gt_timer_when(s->timer) != 0 ? gt_timer_id(s->timer) : 0;
        got = c & 1 ? gt_timer_detach(s->timer) : gt_timer_detach_id(w->sched, gt_timer_id(s->timer));
        expect(w, "gt_timer_detach gave", got, 0);
        s->kind = 0;
        s->due = 0;
        snprintf(result, len, "done");
        return;
    case 't':
        if (s->kind == 0 || calls_back(s))
            return;
        if (s->stale >= 0) {
            value(w, s, s->stale, result, len);
            s->stale = -1;
            return;
        }
        got = lib_try(w, s, c, &sent);
        if (got == 1)
            value(w, s, sent, result, len);
        else
            snprintf(result, len, got == 0 ? "-" : "error %d", got);
        return;
    }
}

void fire(void *arg, uintptr_t seq, int64_t delay)
{
    struct arg *a = arg;
    struct world *w = a->w;
    int i = a->slot;
    struct slot *s = &w->slots[i];
    char result[32];
    bed_lock(w->bed);
    int64_t now = now_of(w);
    expect(w, "delay of a callback", delay, 0);
    if (s->kind == 0 || s->serial != a->serial) {
        trace_add(&w->trace, now, GIVEN_UP + i, a->serial, 0, "");
        if (a->given_up == 0 || a->dropped)
            anomaly(w, "callback of a timer that was freed", a->serial);
        if (gt_timer_when_id(w->sched, a->given_up) == 0)
            a->given_up = 0;
        bed_unlock(w->bed);
        return;
    }
    int n = s->firings++;
    s->fired = now;
    s->due = s->period > 0 ? when(w, s->period) : 0;
    expect(w, "seq of a callback", (int64_t)seq, (int64_t)s->seq);
    if (a != s->arg || a->dropped)
        anomaly(w, "callback with an argument that was replaced or dropped", a->dropped);
    trace_add(&w->trace, now, CALLBACK + i, n, 0, "");
    const struct list *l = n < w->s->calls[i] ? &w->s->call[i][n] : NULL;
    for (int k = 0; l != NULL && k < l->n && !w->aborting; k++) {
        const struct op *o = &l->ops[k];
        if (!may_touch(w, i, o->slot))
            continue;
        operate(w, o, i, result, sizeof result);
        if (*result != '\0')
            record(w, CALLBACK + i, n, k + 1, o, result);
        if (o->slot == i && strchr("fpnkr", o->kind) != NULL && o->d <= 0)
            break;
    }
    bed_unlock(w->bed);
}

static void sleep_op(struct world *w, int who, const struct op *o, char *result, size_t len)
{
    int64_t until = when(w, o->d);
    *result = '\0';
    if (until == GT_MAX_WHEN)
        return;
    w->asleep[who] = 1;
    if (until > w->sleeps_until)
        w->sleeps_until = until;
    bed_unlock(w->bed);
    int got = gt_sched_sleep(w->sched, o->d);
    bed_lock(w->bed);
    w->asleep[who] = 0;
    snprintf(result, len, got == 0 ? "done" : "error %d", got);
}

static void receive(struct world *w, const struct op *o, char *result, size_t len)
{
    struct slot *s = &w->slots[o->slot];
    uint64_t c = choices(w, o);
    int64_t sent = 0;
    *result = '\0';
    if (s->kind == 0 || calls_back(s))
        return;
    gt_timer *t = s->timer;
    uint64_t id = gt_timer_id(t);
    s->blocked++;
    bed_unlock(w->bed);
    int got = c & 1 ? gt_timer_recv(t, &sent) : gt_timer_recv_id(w->sched, id, &sent);
    bed_lock(w->bed);
    s->blocked--;
    if (w->aborting) {
        expect(w, "receive from a freed timer gave", got, GT_ESTALE);
        return;
    }
    s->fired = now_of(w);
    if (got == 0)
        value(w, s, sent, result, len);
    else
        snprintf(result, len, "error %d", got);
}

static void actor(void *arg, int who)
{
    struct world *w = arg;
    const struct list *l = &w->s->actor[who];
    char result[32];
    for (int pc = 0; pc < l->n && !w->aborting; pc++) {
        const struct op *o = &l->ops[pc];
        w->at[who] = pc;
        if (!o->at_once || pc == 0)
            bed_gate(w->bed, who);
        bed_lock(w->bed);
        if (o->kind == 'z')
            sleep_op(w, who, o, result, sizeof result);
        else if (o->kind == 'w')
            receive(w, o, result, sizeof result);
        else
            operate(w, o, -1, result, sizeof result);
        if (*result != '\0' && !w->aborting)
            record(w, who, pc, 0, o, result);
        bed_unlock(w->bed);
    }
}

/* ---- the conductor ---- */

static int next_actor(struct world *w)
{
    int best = -1;
    for (int i = 0; i < w->s->actors; i++)
        if (bed_where(w->bed, i) == AT_GATE && (best < 0 || w->at[i] < w->at[best]))
            best = i;
    return best;
}

static void finish(struct world *w)
{
    char text[72], result[32];
    for (int i = 0; i < w->s->actors; i++) {
        if (bed_where(w->bed, i) != AWAY)
            continue;
        char op[48];
        op_text(op, sizeof op, &w->s->actor[i].ops[w->at[i]]);
        snprintf(text, sizeof text, w->asleep[i] ? "asleep" : "blocked %s", op);
        trace_add(&w->trace, now_of(w), i, w->at[i], 0, text);
    }
    for (int i = 0; i < MAX_SLOTS; i++) {
        struct slot *s = &w->slots[i];
        struct op look = {.kind = 't', .slot = i}, stop = {.kind = 'x', .slot = i};
        if (s->kind == 0)
            continue;
        if (!calls_back(s) && s->blocked == 0) {
            operate(w, &look, -1, result, sizeof result);
            record(w, THE_END, i, 1, &look, result);
        }
        operate(w, &stop, -1, result, sizeof result);
        record(w, THE_END, i, 2, &stop, result);
    }
    gt_stats st = {.size = sizeof st};
    gt_stats_get(w->sched, &st);
    expect(w, "early", (int64_t)st.early, 0);
    expect(w, "armed - fired - stopped - replaced - pending",
           (int64_t)(st.armed - st.fired - st.stopped - st.replaced - st.pending), 0);
    w->aborting = 1;
    for (struct arg *a = w->args; a != NULL; a = a->next)
        if (a->given_up != 0)
            expect(w, "stop of a timer that was given up gave", gt_deltimer_id(w->sched, a->given_up), 1);
    for (int i = 0; i < MAX_SLOTS; i++)
        if (w->slots[i].kind != 0)
            expect(w, "gt_timer_free of a stopped timer gave", gt_timer_free(w->slots[i].timer), 0);
    bed_quiet(w->bed);
    while (w->sleeps_until > gt_nanotime(w->sched)) {
        bed_go_on(w->bed, w->sleeps_until);
        bed_quiet(w->bed);
    }
    for (int i = 0; i < w->s->actors; i++)
        expect(w, "does not end: actor", bed_where(w->bed, i) == GONE ? -1 : i, -1);
}

static void conduct(struct world *w)
{
    int64_t end = GT_VIRTUAL_EPOCH + w->s->horizon;
    uint64_t c = mix(w->s->seed + w->salt);
    for (;;) {
        bed_quiet(w->bed);
        lib_noise(w, c = mix(c));
        int i = next_actor(w);
        if (i >= 0)
            bed_let(w->bed, i);
        else if (gt_nanotime(w->sched) >= end)
            break;
        else
            bed_go_on(w->bed, end);
    }
    finish(w);
}

char *world_run(const struct script *s, enum mode mode, uint64_t salt)
{
    struct world w = {.s = s, .salt = salt};
    uint64_t c = mix(mix(s->seed + salt) + 1);
    int threads = mode == MODE_THREADS || (mode == MODE_MIXED && c % 16 == 0);
    w.bed = bed_new(threads, s->actors, actor, &w);
    gt_config config = {.size = sizeof config, .clock = GT_CLOCK_VIRTUAL, .host = bed_host(w.bed),
                        .verify = c / 16 % 4 == 0};
    w.sched = gt_sched_new(&config);
    if (w.sched == NULL)
        die("gt_sched_new");
    w.np = (int)(c / 64 % 4);
    for (int i = 0; i < w.np; i++)
        w.ps[i] = gt_p_new(w.sched);
    int bound = w.np > 0 && c / 256 % 2 == 0;
    if (bound)
        gt_acquirep(w.ps[0]);
    for (int i = 0; i < MAX_SLOTS; i++)
        w.slots[i].fired = w.slots[i].stale = -1;
    bed_start(w.bed, w.sched, w.ps, w.np, c / 1024);
    conduct(&w);
    bed_free(w.bed);
    if (bound)
        gt_releasep();
    for (int i = 0; i < w.np; i++)
        gt_p_free(w.ps[i]);
    for (struct arg *a = w.args, *next; a != NULL; a = next) {
        next = a->next;
        expect(&w, "drops of an argument", a->dropped, 1);
    }
    char *text = trace_text(&w.trace);
    if (gt_sched_free(w.sched) != 0)
        die("gt_sched_free");
    for (struct arg *a = w.args, *next; a != NULL; a = next) {
        next = a->next;
        free(a);
    }
    trace_free(&w.trace);
    return text;
}
