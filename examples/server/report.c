/* report.c: what the program prints: the opening lines, the progress, the tables, the verdict. */
#define _GNU_SOURCE
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t get(const _Atomic uint64_t *n) { return atomic_load(n); }

/* 1234567 -> "1 234 567", in one of a few buffers that take turns. */
static const char *grouped(uint64_t v) {
    static char buffers[8][32];
    static unsigned turn;
    char *at = buffers[turn++ % 8] + 31;
    int digits = 0;
    *at = 0;
    do {
        if (digits > 0 && digits % 3 == 0) *--at = ' ';
        *--at = (char)('0' + v % 10);
        v /= 10;
        digits++;
    } while (v != 0);
    return at;
}

/* 1500 -> "1.50 us": three digits and a unit. */
static const char *duration(int64_t ns) {
    static char buffers[8][32];
    static unsigned turn;
    static const char *const units[] = {"ns", "us", "ms", "s"};
    char *b = buffers[turn++ % 8];
    double v = (double)ns;
    int u = 0;
    while (u < 3 && v >= 999.5) v /= 1000, u++;
    if (u == 0) snprintf(b, 32, "%.0f ns", v);
    else snprintf(b, 32, "%.*f %s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, units[u]);
    return b;
}

static const char *const kinds[TIMEOUTS] = {"read", "idle", "write"};

void report_start(const struct report *r) {
    printf("libgotimer %s: green threads on %u workers, an HTTP/1.1 echo server on them, and its clients.\n"
           "%s connections of which some stall; a request must come within %s, the next one begin within %s,\n"
           "an answer be taken within %s. Beside them %s green threads sleep, %u times each.\nseed %" PRIu64 "\n\n",
           gt_version_string(), r->workers, grouped(r->connections), duration(r->timeout[READ_TIMEOUT]),
           duration(r->timeout[IDLE_TIMEOUT]), duration(r->timeout[WRITE_TIMEOUT]), grouped(r->sleepers), r->times,
           r->seed);
    fflush(stdout);
}

void report_progress(double at) {
    static double printed = -10;
    if (at - printed < 1) return;
    printed = at;
    uint64_t fired = 0;
    for (int k = 0; k < TIMEOUTS; k++) fired += get(&tally.fired[k]);
    printf("%4.1f s  %s connections  %s answers  %s time-outs  %s sleeps  %s late\n", at,
           grouped(get(&tally.accepted) - get(&tally.closed)), grouped(get(&tally.served)), grouped(fired),
           grouped(get(&tally.sleeps_ended)), duration(gt_overdue(runtime_sched(), runtime_now())));
    fflush(stdout);
}

/* ---- tables ---- */

static void requests_table(const struct report *r) {
    const struct load_result *l = r->load;
    printf("\nRequests, in %.1f s\n", r->seconds);
    printf("  %-20s %14s  over %s connections, %s bytes\n", "sent by the clients", grouped(get(&l->requests)),
           grouped(get(&l->connects)), grouped(get(&l->bytes)));
    printf("  %-20s %14s  %s per second\n", "served", grouped(get(&tally.served)),
           grouped((uint64_t)((double)get(&tally.served) / r->seconds)));
    printf("  %-20s %14s  each body compared\n", "answers received", grouped(get(&l->answers)));
    printf("  %-20s %14s  refused, or odd but right, and answered so\n", "other requests", grouped(get(&l->cases)));
    printf("  %-20s p50 %s, p99 %s, max %s, as the clients saw it\n", "from send to answer",
           duration(hist_quantile(&l->latency, 0.5)), duration(hist_quantile(&l->latency, 0.99)),
           duration(atomic_load(&l->latency.max)));
}

static void late_row(const char *name, const char *n, const char *fired, const struct hist *h) {
    printf("  %-20s %14s %10s", name, n, fired);
    if (hist_count(h) == 0) printf("  %9s %9s %9s %9s\n", "-", "-", "-", "-");
    else
        printf("  %9s %9s %9s %9s\n", duration(hist_min(h)), duration(hist_quantile(h, 0.5)),
               duration(hist_quantile(h, 0.99)), duration(atomic_load(&h->max)));
}

static void timeouts_table(const struct report *r) {
    const struct load_result *l = r->load;
    printf("\nTime-outs: from the deadline to the green thread that acts on it\n");
    printf("  %-20s %14s %10s  %9s %9s %9s %9s\n", "", "expected", "fired", "min late", "p50", "p99", "max");
    for (int k = 0; k < TIMEOUTS; k++) {
        char name[40];
        snprintf(name, sizeof name, "%s, %s", kinds[k], duration(r->timeout[k]));
        late_row(name, grouped(get(&l->cut[k])), grouped(get(&tally.fired[k])), &tally.late[k]);
    }
    printf("  %-20s %14s             came too late with a request that they did send, and were closed for it\n",
           "others", grouped(get(&l->slow) + get(&l->slow_read)));
    printf("As the stalled ones saw it, from the promised time, counted from before their last step\n");
    for (int k = 0; k < TIMEOUTS; k++) late_row(kinds[k], "", "", &l->cut_late[k]);
    printf("\nSleeps: from the end of the time asked for to when the green thread runs; alarms: timers that another\n"
           "thread armed, one by one, when all else was over, to when they were called\n");
    printf("  %-20s %14s %10s  %9s %9s %9s %9s\n", "", "begun", "ended", "min late", "p50", "p99", "max");
    late_row("alarms", grouped(r->alarms), grouped(hist_count(&tally.late_alarms)), &tally.late_alarms);
    late_row("sleeps", grouped(get(&tally.sleeps_begun)), grouped(get(&tally.sleeps_ended)), &tally.late_sleeps);
    printf("  %-20s %14s %10s\n", "green threads", grouped(r->runtime.started), grouped(r->runtime.ended));
}

static void inside_table(const struct report *r) {
    const struct runtime_counts *c = &r->runtime;
    printf("\nInside\n");
    printf("  %-20s %14s  from green thread to green thread\n", "switches", grouped(c->switches));
    printf("  %-20s %14s  green threads taken from another worker's queue\n", "stolen", grouped(c->stolen));
    printf("  %-20s %14s  timers run for another worker\n", "stolen timers", grouped(r->stats.steals));
    printf("  %-20s %14s  times that a parked worker was woken\n", "woken", grouped(c->wakes));
    printf("  %-20s %14s  times that the poller slept or found something\n", "polls", grouped(c->polls));
    printf("  %-20s %14s  times that a P's wake time became earlier than a sleeper knew\n", "wake hook",
           grouped(r->stats.wakes));
    printf("  %-20s %14s  set; %s firings were stale and ignored, in %s duels that provoke it\n", "deadlines",
           grouped(r->deadlines), grouped(r->stale), grouped(get(&tally.duels)));
    printf("  %-20s %14s  context switches and %s of processor time in %s with nothing to do\n", "at rest",
           grouped(r->rest.switches > 0 ? (uint64_t)r->rest.switches : 0), duration(r->rest.processor),
           duration(r->rest.length));
    printf("  %-20s %14s  kilobytes of address space for stacks\n", "stacks", grouped(c->stack_bytes >> 10));
}

#define ROWS 16

/* The library's histogram, joined to a few rows. */
static void lateness_table(const struct report *r) {
    struct {
        int64_t from, to;
        uint64_t n;
    } rows[ROWS] = {{0}};
    uint64_t most = 1, total = 0;
    int n = 0, last = r->late_buckets - 1;
    while (last > 0 && r->late_counts[last] == 0) last--;
    for (int b = 0; b <= last; b++) {
        int64_t from = gt_lateness_bound((uint32_t)b);
        if (n == 0 || (n < ROWS && from >= 4 * (rows[n - 1].from > 1000 ? rows[n - 1].from : 1000)))
            rows[n++].from = from;
        rows[n - 1].to = b + 1 < r->late_buckets ? gt_lateness_bound((uint32_t)b + 1) : GT_MAX_WHEN;
        rows[n - 1].n += r->late_counts[b];
    }
    for (int i = 0; i < n; i++) {
        total += rows[i].n;
        if (rows[i].n > most) most = rows[i].n;
    }
    printf("\nLateness of all timers when the library judged them due, %s firings\n", grouped(total));
    for (int i = 0; i < n; i++) {
        int bar = (int)((double)rows[i].n / (double)most * 40 + 0.5);
        if (bar == 0 && rows[i].n > 0) bar = 1;
        printf("  %8s .. %-8s %14s %5.1f %%  %.*s\n", duration(rows[i].from), duration(rows[i].to), grouped(rows[i].n),
               total > 0 ? 100.0 * (double)rows[i].n / (double)total : 0.0, bar,
               "########################################");
    }
}

/* ---- the verdict ---- */

static int wrong;

static void check(bool good, const char *format, ...) {
    if (good) return;
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    wrong++;
}

static void check_load(const struct report *r) {
    const struct load_result *l = r->load;
    check(!r->hung, "nothing moved for a long time, with %s connections and %s sleepers left",
          grouped(get(&tally.accepted) - get(&tally.closed)),
          grouped(get(&tally.sleepers_begun) - get(&tally.sleepers_ended)));
    check(WIFEXITED(r->load_status) && WEXITSTATUS(r->load_status) == 0, "the load generator ended badly");
    check(get(&l->bad_answers) == 0, "%s answers were wrong", grouped(get(&l->bad_answers)));
    check(get(&l->failures) == 0, "%s connections could not be made", grouped(get(&l->failures)));
    check(get(&l->early) == 0, "the clients saw %s time-outs before their time", grouped(get(&l->early)));
    check(get(&l->stuck) == 0, "%s connections were never brought to an end", grouped(get(&l->stuck)));
    if (atomic_load(&l->has_first)) printf("        the first of these: %s\n", l->first_bad);
    check(get(&l->answers) > 0, "no request was answered");
    check(get(&l->answers) == get(&tally.served), "%s answers were received of %s that were sent",
          grouped(get(&l->answers)), grouped(get(&tally.served)));
}

static void check_timeouts(const struct report *r) {
    const struct load_result *l = r->load;
    uint64_t others = get(&l->slow) + get(&l->slow_read), expected = others, fired = 0;
    for (int k = 0; k < TIMEOUTS; k++) {
        expected += get(&l->cut[k]);
        fired += get(&tally.fired[k]);
        /* On a machine that is slow enough, all who mean to stall in one way are stopped by another deadline. */
        check(get(&l->cut[k]) > 0 || others > 0, "no time-out of a stalled peer, kind %s", kinds[k]);
        check(get(&tally.fired[k]) >= get(&l->cut[k]), "time-outs, kind %s: %s for %s stalled peers", kinds[k],
              grouped(get(&tally.fired[k])), grouped(get(&l->cut[k])));
    }
    check(expected == fired, "%s time-outs fired, %s peers saw one", grouped(fired), grouped(expected));
    check(r->alarms_rang, "of %s alarms only %s rang", grouped(r->alarms),
          grouped(hist_count(&tally.late_alarms)));
    check(r->rest.processor <= r->rest.length / 2, "%s of processor time in %s with nothing to do",
          duration(r->rest.processor), duration(r->rest.length));
    check(get(&tally.duels_lost) == 0, "%s deadlines had an effect after they were set anew",
          grouped(get(&tally.duels_lost)));
    check(get(&tally.early) == 0, "%s deadlines or sleeps ended before their time", grouped(get(&tally.early)));
}

static void check_ends(const struct report *r) {
    const gt_stats *s = &r->stats;
    check(get(&tally.accepted) == get(&tally.closed), "of %s connections %s were closed",
          grouped(get(&tally.accepted)), grouped(get(&tally.closed)));
    check(get(&tally.sleepers_begun) == r->sleepers && get(&tally.sleepers_ended) == r->sleepers &&
              get(&tally.sleeps_begun) == r->sleepers * r->times && get(&tally.sleeps_ended) == r->sleepers * r->times,
          "of %s sleeps %s ended", grouped(r->sleepers * r->times), grouped(get(&tally.sleeps_ended)));
    check(get(&tally.no_memory) == 0, "%s green threads got no stack", grouped(get(&tally.no_memory)));
    check(r->runtime.started == r->runtime.ended, "of %s green threads %s ended", grouped(r->runtime.started),
          grouped(r->runtime.ended));
    check(s->armed == s->fired + s->stopped + s->replaced + s->pending, "armings were lost");
    check(s->pending == 0, "%s timers are armed, and all is over", grouped(s->pending));
    check(s->early == 0, "the library counts %s early firings", grouped(s->early));
    check(r->timers_left == 0, "%s timers live, and all were freed", grouped(r->timers_left));
    check(r->sched_free_error == 0, "gt_sched_free: %s", gt_strerror(r->sched_free_error));
}

int report_result(const struct report *r) {
    const gt_stats *s = &r->stats;
    requests_table(r);
    inside_table(r);
    lateness_table(r);
    timeouts_table(r);
    printf("\nArmings of timers: %s = %s fired + %s stopped + %s replaced + %s pending\n", grouped(s->armed),
           grouped(s->fired), grouped(s->stopped), grouped(s->replaced), grouped(s->pending));
    check_load(r);
    if (r->hung) {
        printf("%s\n", r->stats_text);
    } else {
        check_timeouts(r);
        check_ends(r);
    }
    if (wrong == 0)
        printf("ok: every request was answered, every stalled peer met its time-out, every sleeper woke; nothing was "
               "lost, nothing was early\n");
    return wrong;
}
