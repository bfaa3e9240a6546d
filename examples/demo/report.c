/* report.c: what the demo prints: the opening lines, the progress, the table, the histogram, the verdict. */
#include "demo.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int columns(void) {
    struct winsize w;
    const char *env = getenv("COLUMNS");
    int n = 80;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) n = w.ws_col;
    else if (env != NULL && atoi(env) > 0) n = atoi(env);
    return n < 60 ? 60 : n > 160 ? 160 : n;
}

/* 1234567 -> "1 234 567", in one of a few buffers that take turns. */
static const char *grouped(uint64_t v) {
    static char buffers[8][32];
    static unsigned turn;
    char *end = buffers[turn++ % 8] + 31, *at = end;
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

/* 1500 -> "1.5 us": three digits and a unit. */
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

static const char *per_second(uint64_t n, double seconds) {
    double v = seconds > 0 ? (double)n / seconds : 0;
    return grouped((uint64_t)(v + 0.5));
}

static uint64_t all_calls(void) {
    uint64_t sum = 0;
    for (int k = 0; k < CALLS; k++) sum += tally_sum((enum count)k);
    return sum;
}

/* ---- opening and progress ---- */

void report_start(const struct shown *s) {
    printf("libgotimer %s: the time-outs of %s connections, kept by %" PRIu64 " threads against the real clock;\n"
           "every arming is written down outside the library too, and must come to exactly one end.\n"
           "seed %" PRIu64 "\n\n",
           gt_version_string(), grouped(s->conns), s->workers, s->seed);
    fflush(stdout);
}

static bool progress_open;

void report_progress(gt_sched *sched, double at, double of) {
    static double printed = -1, calls_at;
    static uint64_t calls_before;
    bool tty = isatty(STDOUT_FILENO);
    if (printed >= 0 && at - printed < (tty ? 0.2 : 1.0)) return;
    gt_stats st = {.size = sizeof st};
    if (gt_stats_get(sched, &st) != 0) return;
    uint64_t calls = all_calls();
    double rate = printed < 0 ? 0 : (double)(calls - calls_before) / (at - calls_at) / 1e6;
    printed = calls_at = at;
    calls_before = calls;
    char line[200];
    snprintf(line, sizeof line, "%4.1f/%.0f s  %s armed  %.2f M calls/s  %s fired  %s ticks  %s late", at, of,
             grouped(st.pending), rate, grouped(st.fired), grouped(st.ticks),
             duration(gt_overdue(sched, gt_nanotime(sched))));
    if (tty) {
        int width = columns() - 1;
        printf("\r%-*.*s", width, width, line);
        progress_open = true;
    } else {
        printf("%s\n", line);
    }
    fflush(stdout);
}

void report_progress_end(void) {
    if (progress_open) printf("\n");
    progress_open = false;
}

/* ---- tables ---- */

static void calls_table(const struct result *r) {
    static const char *const names[CALLS] = {
        "gt_timer_new", "gt_addtimer", "gt_modtimer", "gt_deltimer", "gt_timer_free", "gt_timer_detach",
        "gt_check_timers", "gt_check_others", "gt_notetsleep", "gt_p_new", "gt_adopt_timers", "gt_p_free"};
    double s = r->shown.seconds + r->shown.setup_seconds;
    uint64_t all = 0;
    printf("\nCalls of the library, in %.1f s of setting up and %.1f s of running\n", r->shown.setup_seconds,
           r->shown.seconds);
    printf("  %-18s %16s %14s\n", "", "calls", "per second");
    for (int k = 0; k < CALLS; k++) {
        all += r->own[k];
        printf("  %-18s %16s %14s\n", names[k], grouped(r->own[k]), per_second(r->own[k], s));
    }
    printf("  %-18s %16s %14s\n", "all", grouped(all), per_second(all, s));
}

static int fate_row(const char *name, uint64_t own, uint64_t library, const char *what) {
    printf("  %-18s %16s %16s  %s\n", name, grouped(own), grouped(library), own == library ? what : "THEY DIFFER");
    return own != library;
}

static const char *signed_count(int64_t v) {
    static char b[40];
    snprintf(b, sizeof b, "%s%s", v < 0 ? "-" : "", grouped(v < 0 ? -(uint64_t)v : (uint64_t)v));
    return b;
}

/* Returns how many rows are wrong. */
static int fate_table(const struct result *r) {
    const gt_stats *st = &r->stats;
    int64_t lost = (int64_t)(st->armed - st->fired - st->stopped - st->replaced - st->pending);
    int wrong = 0;
    printf("\nWhat became of the armings\n");
    printf("  %-18s %16s %16s\n", "", "our record", "the library");
    wrong += fate_row("armed", r->own[C_ARMED], st->armed, "gt_addtimer, gt_modtimer");
    wrong += fate_row("fired", r->own[C_CALLED], st->fired, "one-shots called");
    wrong += fate_row("stopped", r->own[C_STOPPED], st->stopped, "stop or free returned 1");
    wrong += fate_row("replaced", r->own[C_REPLACED], st->replaced, "a re-arm returned 1");
    wrong += fate_row("pending", r->audit.pending, st->pending, "their time has not come");
    printf("  %-18s %16s %16s  %s\n", "lost", grouped(r->audit.lost), signed_count(lost), "due, and nothing came");
    wrong += r->audit.lost != 0 || lost != 0;
    printf("  %-18s %16s %16s  %s\n", "early", grouped(r->own[E_EARLY]), grouped(st->early), "called before its time");
    wrong += r->own[E_EARLY] != 0 || st->early != 0;
    printf("  %-18s %16s %16s  %s\n", "two ends", grouped(r->own[E_FATE]), "", "called after a stop, twice, ...");
    wrong += r->own[E_FATE] != 0;
    wrong += fate_row("ticks", r->own[C_TICKS], st->ticks, "calls of periodic timers");
    printf("  %-18s %16s %16s  of %s args with a drop function\n", "dropped", grouped(r->own[D_DROPPED]), "",
           grouped(r->own[D_MADE]));
    printf("  %-18s %16s %16s  %s\n", "dropped wrongly", grouped(r->own[E_DROP]), "", "twice, or too soon");
    wrong += r->own[E_DROP] != 0 || r->own[D_DROPPED] != r->own[D_MADE];
    return wrong;
}

static void inside_table(const struct result *r) {
    const gt_stats *st = &r->stats;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("\nInside\n");
    printf("  %-18s %16s  timers run by gt_check_others for other Ps\n", "steals", grouped(st->steals));
    printf("  %-18s %16s  times a sleeping P was told to wake earlier\n", "wakes", grouped(st->wakes));
    printf("  %-18s %16s  times a heap was searched for modified timers\n", "scans", grouped(st->scans));
    printf("  %-18s %16s  dead entries in the heaps at the end\n", "zombies", grouped(st->zombies));
    printf("  %-18s %16s  dead entries swept because there were too many of them\n", "sweeps", grouped(st->sweeps));
    printf("  %-18s %16s  bytes held by the library (%.0f for each timer that lives)\n", "memory", grouped(st->bytes),
           r->audit.live > 0 ? (double)st->bytes / (double)r->audit.live : 0);
    printf("  %-18s %16s  kilobytes, the whole process at its peak\n", "process", grouped((uint64_t)u.ru_maxrss));
    printf("  %-18s %16s  heaps verified: %s\n", "verify", grouped(r->heaps),
           r->heap_rule == 0 ? "sound" : gt_strerror(r->heap_rule));
}

/* ---- lateness ---- */

#define ROWS_MAX 18

struct row {
    int64_t from, to; /* to: 0 for no limit */
    uint64_t count;
};

/* Joins the library's buckets to rows of at least this factor; returns how many rows it takes. */
static int join_buckets(const struct result *r, int factor, struct row rows[ROWS_MAX], uint64_t *total) {
    int first = 0, last = r->late_buckets - 1, n = 0;
    *total = 0;
    while (last > 0 && r->late_counts[last] == 0) last--;
    while (first < last && r->late_counts[first] == 0) first++;
    for (int b = first; b <= last; b++) {
        int64_t from = gt_lateness_bound((uint32_t)b);
        int64_t to = b + 1 < r->late_buckets ? gt_lateness_bound((uint32_t)b + 1) : 0;
        if (n == 0 || from >= factor * (rows[n - 1].from > 250 ? rows[n - 1].from : 250)) {
            if (n == ROWS_MAX) return n + 1;
            rows[n++] = (struct row){.from = from};
        }
        rows[n - 1].to = to;
        rows[n - 1].count += r->late_counts[b];
        *total += r->late_counts[b];
    }
    return n;
}

static int64_t quantile(const uint64_t sum[LATE_BUCKETS], uint64_t total, double q) {
    uint64_t rank = (uint64_t)(q * (double)total), seen = 0;
    for (unsigned b = 0; b < LATE_BUCKETS; b++) {
        seen += sum[b];
        if (seen > rank) return late_bound(b);
    }
    return 0;
}

static void lateness(const struct result *r) {
    struct row rows[ROWS_MAX];
    uint64_t total, most = 1, own_total = 0;
    int n = ROWS_MAX + 1, width = columns();
    for (int factor = 2; n > ROWS_MAX; factor *= 2) n = join_buckets(r, factor, rows, &total);
    printf("\nLateness: from the time asked for to the time at which the pass judged it due, %s firings\n",
           grouped(total));
    for (int i = 0; i < n; i++)
        if (rows[i].count > most) most = rows[i].count;
    int room = width - 47;
    char bar[161];
    memset(bar, '#', sizeof bar);
    for (int i = 0; i < n; i++) {
        int length = (int)((double)rows[i].count / (double)most * room + 0.5);
        if (length == 0 && rows[i].count > 0) length = 1;
        printf("  %8s .. %-8s %13s %5.1f %%  %.*s\n", duration(rows[i].from),
               rows[i].to > 0 ? duration(rows[i].to) : "", grouped(rows[i].count),
               total > 0 ? 100.0 * (double)rows[i].count / (double)total : 0.0, length, bar);
    }
    static uint64_t sum[LATE_BUCKETS];
    tally_late_sum(sum);
    for (unsigned b = 0; b < LATE_BUCKETS; b++) own_total += sum[b];
    printf("  At the call, by the callback's own look at the clock: p50 %s, p99 %s, max %s\n",
           duration(quantile(sum, own_total, 0.5)), duration(quantile(sum, own_total, 0.99)),
           duration(tally_late_max()));
    printf("  (workers sleep, are stuck in long jobs for 5 ms, and share the machine with others)\n");
}

/* ---- verdict ---- */

static int complain(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    return 1;
}

int report_result(const struct result *r) {
    calls_table(r);
    inside_table(r);
    lateness(r);
    int wrong = fate_table(r); /* last, where the eye falls */
    printf("\n");
    if (wrong != 0) complain("%d rows of the last table are not as they must be", wrong);
    if (r->heap_rule != 0) wrong += complain("a heap is not sound: %s", gt_strerror(r->heap_rule));
    if (r->own[E_CALL] != 0)
        wrong += complain("%s calls failed, the first with: %s", grouped(r->own[E_CALL]), gt_strerror(tally_first_error()));
    if (r->p_free_error != 0) wrong += complain("gt_p_free: %s", gt_strerror(r->p_free_error));
    if (r->sched_free_error != 0) wrong += complain("gt_sched_free: %s", gt_strerror(r->sched_free_error));
    if (wrong == 0)
        printf("ok: of %s armings none was lost, none fired early, each came to one end%s\n", grouped(r->own[C_ARMED]),
               r->patience_ns > 100 * MS ? " (the last ones late)" : "");
    return wrong;
}
