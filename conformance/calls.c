/* Calls of the library.
 *
 * The same operation can be asked for in several ways (by handle or by id, by package time or
 * by the engine's own calls), with one P or several or none, with a pollable fd on the timer or
 * not. Which, the seed decides; the trace must not depend on it. The planted mistakes are here
 * too, so far as they are about a call. */
#include "world.h"

#include <inttypes.h>
#include <poll.h>

const char *const plant_names[PLANTS] = {
    [PLANT_LATE] = "late",         /* a reset is one nanosecond late */
    [PLANT_STALE] = "stale",       /* stop leaves the value in the channel */
    [PLANT_DRAIN] = "drain",       /* stop of an unreceived value says 0 */
    [PLANT_OVERFLOW] = "overflow", /* a duration that overflows fires at once */
    [PLANT_PERIOD] = "period",     /* reset of a ticker keeps the old period */
    [PLANT_EARLIER] = "earlier",   /* a blocked receiver does not see a reset to earlier */
    [PLANT_ZERO] = "zero",         /* a duration <= 0 is taken for 1 */
    [PLANT_SELF] = "self",         /* a callback cannot reset its own timer */
    [PLANT_TICK] = "tick",         /* a tick says when it was received, not when it was due */
    [PLANT_TWICE] = "twice",       /* stop of a func timer says 1 again */
};
enum plant plant;

int64_t now_of(struct world *w)
{
    return gt_nanotime(w->sched) - GT_VIRTUAL_EPOCH;
}

int64_t when(struct world *w, int64_t d)
{
    int64_t now = gt_nanotime(w->sched);
    return d <= 0 ? now : d > GT_MAX_WHEN - now ? GT_MAX_WHEN : now + d;
}

void anomaly(struct world *w, const char *what, int64_t number)
{
    char text[72];
    snprintf(text, sizeof text, "%s %" PRId64, what, number);
    trace_add(&w->trace, now_of(w), ANOMALY, w->anomalies++, 0, text);
}

void expect(struct world *w, const char *what, int64_t got, int64_t want)
{
    if (got != want)
        anomaly(w, what, got);
}

static void drop(void *arg)
{
    ((struct arg *)arg)->dropped++;
}

static struct arg *new_arg(struct world *w, int slot)
{
    struct arg *a = calloc(1, sizeof *a);
    if (a == NULL)
        die("out of memory");
    *a = (struct arg){.w = w, .slot = slot, .serial = w->slots[slot].serial, .next = w->args};
    return w->args = a;
}

static int64_t planted_duration(struct slot *s, const struct op *o)
{
    int64_t d = o->d;
    if (plant == PLANT_LATE && o->kind == 'r' && d > 0 && d < 1000)
        return d + 1;
    if (plant == PLANT_ZERO && d <= 0 && s->kind != 'k')
        return 1;
    if (plant == PLANT_PERIOD && o->kind == 'r' && s->kind == 'k' && s->period > 0)
        return s->period;
    return d;
}

/* Arms a func timer by the engine's calls: 1 if it was pending, else 0. With an argument:
 * this is its argument from now on. */
static int lib_arm(struct world *w, struct slot *s, int64_t d, uint64_t c, struct arg *a)
{
    int64_t at = when(w, d), period = s->kind == 'p' && d > 0 ? d : 0;
    uint64_t id = gt_timer_id(s->timer);
    gt_p *p = w->np > 0 ? w->ps[c / 8 % (uint64_t)w->np] : NULL;
    if (a != NULL)
        s->arg = a;
    switch (a != NULL ? 4 + c % 4 : c % 10) {
    case 0:
        if (gt_timer_when(s->timer) == 0)
            return gt_addtimer(s->timer, at, period);
        expect(w, "gt_addtimer on an armed timer gave", gt_addtimer(s->timer, at, period), GT_EALREADY);
        /* fall through */
    case 1: return gt_resettimer(s->timer, at, period);
    case 2: return gt_resettimer_id(w->sched, id, at, period);
    case 3: if (p != NULL) return gt_resettimer_on(p, s->timer, at, period); /* fall through */
    case 4: if (p != NULL) return gt_modtimer_on(p, s->timer, at, period, fire, s->arg, ++s->seq); /* fall through */
    case 5: return gt_modtimer_id(w->sched, id, at, period, fire, s->arg, ++s->seq);
    default: return gt_modtimer(s->timer, at, period, fire, s->arg, ++s->seq);
    }
}

void lib_new(struct world *w, struct slot *s, const struct op *o, uint64_t c)
{
    int64_t d = planted_duration(s, o);
    if (plant == PLANT_OVERFLOW && d > GT_MAX_WHEN - gt_nanotime(w->sched) && o->kind != 'k')
        d = 0;
    s->seq = 0;
    if (o->kind == 'n') {
        s->timer = gt_sched_new_timer(w->sched, d);
    } else if (o->kind == 'k') {
        s->timer = gt_sched_new_ticker(w->sched, d);
    } else {
        s->arg = new_arg(w, o->slot);
        if (o->kind == 'f' && c & 1) {
            s->timer = gt_sched_after_func(w->sched, d, fire, s->arg, drop);
        } else {
            s->timer = gt_timer_new(w->sched, fire, s->arg, drop);
            expect(w, "arming gave", lib_arm(w, s, d, c, NULL), 0);
        }
    }
    if (s->timer == NULL)
        die("no timer");
    s->fd = -1;
    if ((o->kind == 'n' || o->kind == 'k') && c % 16 < 3)
        s->fd = gt_timer_fd(s->timer);
}

int lib_stop(struct world *w, struct slot *s, uint64_t c, int own)
{
    uint64_t id = gt_timer_id(s->timer);
    if (calls_back(s)) {
        switch (c % 6) {
        case 0: return gt_deltimer(s->timer);
        case 1: return gt_deltimer_id(w->sched, id);
        case 2: if (!own) return gt_deltimer_sync(s->timer); /* fall through */
        case 3: if (!own) return gt_deltimer_sync_id(w->sched, id);
        }
    }
    return c & 1 ? gt_timer_stop(s->timer) : gt_timer_stop_id(w->sched, id);
}

int lib_reset(struct world *w, struct slot *s, const struct op *o, uint64_t c)
{
    int64_t d = planted_duration(s, o);
    uint64_t id = gt_timer_id(s->timer);
    if (calls_back(s) && (s->kind == 'p' || c % 4 != 0))
        return lib_arm(w, s, d, c / 4, c / 64 % 4 == 0 ? new_arg(w, o->slot) : NULL);
    return c & 1 ? gt_timer_reset(s->timer, d) : gt_timer_reset_id(w->sched, id, d);
}

/* 1: got a value. */
int lib_try(struct world *w, struct slot *s, uint64_t c, int64_t *sent)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    int readable = s->fd >= 0 && s->blocked == 0 ? poll(&p, 1, 0) : -1;
    int got = c & 1 ? gt_timer_try_recv(s->timer, sent)
                    : gt_timer_try_recv_id(w->sched, gt_timer_id(s->timer), sent);
    if (readable >= 0)
        expect(w, got ? "unreadable fd, but a value; poll gave" : "readable fd, no value; poll gave",
               readable, got);
    return got;
}

/* Calls that may come at any time and change nothing that a script can see: of Ps, and those
 * that are refused. */
void lib_noise(struct world *w, uint64_t c)
{
    struct slot *s = w->slots;
    int from = w->np > 0 ? (int)(c / 512 % (uint64_t)w->np) : 0, to = w->np > 0 ? (from + 1) % w->np : 0;
    if (c % 4 != 0)
        return;
    for (uint64_t skip = c / 64 % 5; s < w->slots + MAX_SLOTS - 1 && (s->kind == 0 || skip > 0); s++)
        skip -= s->kind != 0 && skip > 0;
    if (s->kind != 0) {
        expect(w, "gt_modtimer to 0 gave", gt_modtimer(s->timer, 0, 0, fire, s->arg, 0), GT_EINVAL);
        expect(w, "gt_resettimer with a negative period gave", gt_resettimer(s->timer, 1, -1), GT_EINVAL);
        if (calls_back(s)) {
            expect(w, "receive from a func timer gave", gt_timer_try_recv(s->timer, NULL), GT_EINVAL);
            expect(w, "gt_timer_when is wrong by", gt_timer_when(s->timer) - s->due, 0);
        } else {
            expect(w, "gt_deltimer of a channel timer gave", gt_deltimer(s->timer), GT_EINVAL);
        }
    }
    if (w->np == 0)
        return;
    gt_p *p = w->ps[from], *q = w->ps[to];
    switch (c / 4 % 6) {
    case 0: gt_trim(p); break;
    case 1: gt_adjusttimers(p, 0, 1); break;
    case 2: gt_cleantimers(p); break;
    case 3: gt_nobarrier_wake_time(p); break;
    case 4:
        if (p != q)
            expect(w, "gt_adopt_timers gave", gt_adopt_timers(p, q) < 0, 0);
        break;
    case 5:
        if (from == 0)
            break; /* it may be bound */
        expect(w, "gt_p_free gave", gt_p_free(p), 0);
        w->ps[from] = gt_p_new(w->sched);
    }
    expect(w, "gt_verify_timer_heap gave", gt_verify_timer_heap(w->ps[from]), 0);
}
