/* bench.c: the benchmark of the engine: W1, W1roll, W2, W3 and W8 of the design beside the floors F1 and F3 of
 * the same run. It reports and never fails for being slow.
 *
 *   bench [--quick] [--reps N] [--seed N] [--json FILE] */
#include "bench.h"
#include "gotimer.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPS_MIN 5
#define REPS_MAX 99
#define ROWS_MAX 16

struct series {
    double ns[REPS_MAX]; /* per operation, one for each repetition */
};

struct row {
    const char *name, *what, *floor_name, *must, *stretch;
    uint64_t n;
    struct series floor, library;
};

static struct row rows[ROWS_MAX];
static int nrows, reps = 7, quick;
static uint64_t seed = 1;

_Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static struct row *add_row(const char *name, const char *what, const char *floor_name, uint64_t n, const char *must,
                           const char *stretch) {
    struct row *r = &rows[nrows++];
    *r = (struct row){.name = name, .what = what, .floor_name = floor_name, .n = n, .must = must, .stretch = stretch};
    return r;
}

static void progress(const char *name, uint64_t n) {
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K%s, n = %" PRIu64 " ...", name, n);
}

/* ---- the repetitions: number 0 warms up and is not kept; floor and library take turns ---- */

static void run_w1(uint64_t n, uint64_t ops, int64_t step, struct row *r) {
    progress(r->name, n);
    struct floor *f = floor_new(n);
    struct library *l = library_new(n);
    int64_t floor_now = BASE, library_now = BASE;
    library_arm_all(l, seed);
    for (int i = 0; i <= reps; i++) {
        double a = floor_rearm(f, ops, &floor_now, step, seed + (uint64_t)i) / (double)ops;
        double b = library_rearm(l, ops, &library_now, step, seed + (uint64_t)i) / (double)ops;
        if (i > 0) r->floor.ns[i - 1] = a, r->library.ns[i - 1] = b;
    }
    library_free(l);
    floor_free(f);
}

static void run_w2(uint64_t n, uint64_t ops, struct row *reuse, struct row *fresh) {
    progress(reuse->name, n);
    struct floor *f = floor_new(n);
    struct library *l = library_new(n);
    int64_t floor_now = BASE, library_now = BASE;
    library_arm_all(l, seed);
    for (int i = 0; i <= reps; i++) {
        double a = floor_rearm(f, ops, &floor_now, 1000, seed + (uint64_t)i) / (double)ops;
        double b = library_start_stop(l, ops, &library_now, 0) / (double)ops;
        double c = library_start_stop(l, ops, &library_now, 1) / (double)ops;
        if (i == 0) continue;
        reuse->floor.ns[i - 1] = fresh->floor.ns[i - 1] = a;
        reuse->library.ns[i - 1] = b;
        fresh->library.ns[i - 1] = c;
    }
    library_free(l);
    floor_free(f);
}

static void run_w3(uint64_t n, uint64_t rounds, struct row *fire, struct row *both) {
    progress(fire->name, n);
    struct floor *f = floor_new(n);
    struct library *l = library_new(n);
    double ops = (double)(n * rounds);
    for (int i = 0; i <= reps; i++) {
        struct w3 a = floor_fire(f, rounds, seed + (uint64_t)i);
        struct w3 b = library_fire(l, rounds, seed + (uint64_t)i);
        if (i == 0) continue;
        fire->floor.ns[i - 1] = a.fire / ops;
        fire->library.ns[i - 1] = b.fire / ops;
        both->floor.ns[i - 1] = (a.arm + a.fire) / ops;
        both->library.ns[i - 1] = (b.arm + b.fire) / ops;
    }
    library_free(l);
    floor_free(f);
}

static void run_all(void) {
    /* the targets are for 10^4 and 10^6; --quick takes 10^5 for the large size and has none there */
    const uint64_t small = 10000, large = quick ? 100000 : 1000000, ops = quick ? 100000 : 2000000;
    const char *none = "-";
    const char *rearm = "re-arm one of n, 10..70 s ahead", *fire = "fire n, all due", *both = "arm n and fire them";
    run_w1(small, ops, 0, add_row("W1", rearm, "F1", small, "2.2 x", "1.6 x"));
    run_w1(large, ops, 0, add_row("W1", rearm, "F1", large, quick ? none : "2 x", quick ? none : "1.6 x"));
    run_w1(small, ops / 2, 1000,
           add_row("W1roll", "W1, the clock moves, clean-up", "F1", small, "2.4 x", "1.8 x"));
    struct row *reuse = add_row("W2", "arm 30 s ahead and stop", "F1", small, "5 x", "3 x");
    run_w2(small, ops / 8, reuse, add_row("W2new", "new, arm, stop, free", "F1", small, "7 x", "4 x"));
    struct row *r = add_row("W3", fire, "F3", small, "6 x", "3.5 x");
    run_w3(small, quick ? 10 : 100, r, add_row("W3both", both, "F3", small, "0.75 x libev", "0.5 x libev"));
    r = add_row("W3", fire, "F3", large, quick ? none : "3 x", quick ? none : "2 x");
    run_w3(large, 1, r,
           add_row("W3both", both, "F3", large, quick ? none : "0.4 x libev", quick ? none : "0.3 x libev"));
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
}

/* ---- the report ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double best(const struct series *s) {
    double min = s->ns[0];
    for (int i = 1; i < reps; i++)
        if (s->ns[i] < min) min = s->ns[i];
    return min;
}

static double median(const struct series *s) {
    double sorted[REPS_MAX];
    memcpy(sorted, s->ns, sizeof sorted);
    qsort(sorted, (size_t)reps, sizeof *sorted, compare);
    return reps % 2 ? sorted[reps / 2] : (sorted[reps / 2 - 1] + sorted[reps / 2]) / 2;
}

static void cpu_model(char *text, size_t size) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    snprintf(text, size, "unknown CPU");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(text, size, "%s", colon + 1 + (colon[1] == ' '));
        break;
    }
    if (f != NULL) fclose(f);
}

static int cpus_allowed(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
}

static void print_table(struct memory mem, uint64_t mem_n, const char *cpu) {
    printf("libgotimer %s, one thread, one P%s\n", gt_version_string(), quick ? ", QUICK: a smoke test, not a measurement" : "");
    printf("%s, %ld CPUs (%d for us); seed %" PRIu64 "; %d repetitions after a warm-up, floor and library in turn\n\n", cpu,
           sysconf(_SC_NPROCESSORS_ONLN), cpus_allowed(), seed, reps);
    printf("ns per operation, best and median; ratio to the floor; targets\n");
    printf("%-7s %-30s %8s  %-2s %7s %7s  %7s %7s  %6s %6s  %-12s %s\n", "", "", "n", "", "floor", "median", "library",
           "median", "ratio", "median", "must", "stretch");
    for (int i = 0; i < nrows; i++) {
        const struct row *r = &rows[i];
        double fb = best(&r->floor), fm = median(&r->floor), lb = best(&r->library), lm = median(&r->library);
        printf("%-7s %-30s %8" PRIu64 "  %-2s %7.1f %7.1f  %7.1f %7.1f  %6.2f %6.2f  %-12s %s\n", r->name, r->what, r->n,
               r->floor_name, fb, fm, lb, lm, lb / fb, lm / fm, r->must, r->stretch);
    }
    printf("\nW8      bytes per armed timer at %" PRIu64 ": %.1f (the timer alone: %.1f); must 112, stretch 96\n\n", mem_n,
           mem.armed, mem.node);
    printf("F1      one lock-cmpxchg, two plain stores, one release store on a random 64-byte line among n.\n"
           "F3      radix sort of (when, pointer), a walk in that order with an indirect call; W3both adds F1 per line.\n"
           "W1      is the re-arm alone: no clean-up is in it. W1roll has it: 1 us per operation, a check every 64.\n"
           "W2      has n other timers in the heap, 1 us per operation, a check every 64; its floor is one F1.\n"
           "        Random numbers and loop are in all figures; a floor knows its lines, the library goes by handles.\n");
}

/* Of a quoted string only the characters that need no escape are kept. */
static void print_string(FILE *f, const char *s) {
    fputc('"', f);
    for (; *s != 0; s++)
        if (*s != '"' && *s != '\\' && (unsigned char)*s >= ' ') fputc(*s, f);
    fputc('"', f);
}

static void print_series(FILE *f, const char *name, const struct series *s) {
    fprintf(f, "\"%s\": {\"best\": %.2f, \"median\": %.2f, \"all\": [", name, best(s), median(s));
    for (int i = 0; i < reps; i++) fprintf(f, "%s%.2f", i > 0 ? ", " : "", s->ns[i]);
    fprintf(f, "]}");
}

static void write_json(const char *path, struct memory mem, uint64_t mem_n, const char *cpu) {
    FILE *f = fopen(path, "w");
    if (f == NULL) die(path, "cannot be written");
    fprintf(f, "{\n  \"version\": \"%s\",\n  \"quick\": %s,\n  \"cpu\": ", gt_version_string(), quick ? "true" : "false");
    print_string(f, cpu);
    fprintf(f, ",\n  \"cpus\": %ld,\n  \"cpus_allowed\": %d,\n  \"seed\": %" PRIu64 ",\n  \"repetitions\": %d,\n",
            sysconf(_SC_NPROCESSORS_ONLN), cpus_allowed(), seed, reps);
    fprintf(f, "  \"unit\": \"ns per operation\",\n  \"rows\": [\n");
    for (int i = 0; i < nrows; i++) {
        const struct row *r = &rows[i];
        fprintf(f, "    {\"name\": \"%s\", \"what\": \"%s\", \"n\": %" PRIu64 ", \"floor_name\": \"%s\", ", r->name, r->what, r->n,
                r->floor_name);
        print_series(f, "floor", &r->floor);
        fprintf(f, ", ");
        print_series(f, "library", &r->library);
        fprintf(f, ", \"ratio_best\": %.3f, \"ratio_median\": %.3f, \"must\": \"%s\", \"stretch\": \"%s\"}%s\n",
                best(&r->library) / best(&r->floor), median(&r->library) / median(&r->floor), r->must, r->stretch,
                i + 1 < nrows ? "," : "");
    }
    fprintf(f, "  ],\n  \"bytes\": {\"n\": %" PRIu64 ", \"timer\": %.2f, \"armed_timer\": %.2f}\n}\n", mem_n, mem.node, mem.armed);
    if (fclose(f) != 0) die(path, "cannot be written");
}

int main(int argc, char **argv) {
    const char *json = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--quick") == 0) quick = 1;
        else if (strcmp(argv[i], "--json") == 0 && value != NULL) json = argv[++i];
        else if (strcmp(argv[i], "--reps") == 0 && value != NULL) reps = atoi(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0 && value != NULL) seed = strtoull(argv[++i], NULL, 0);
        else die("usage", "bench [--quick] [--reps 5..99] [--seed N] [--json FILE]");
    }
    if (reps < REPS_MIN || reps > REPS_MAX) die("--reps", "from 5 to 99");
    if (quick) reps = REPS_MIN;

    char cpu[200];
    cpu_model(cpu, sizeof cpu);
    uint64_t mem_n = quick ? 100000 : 1000000;
    run_all();
    struct memory mem = library_memory(mem_n, seed);
    print_table(mem, mem_n, cpu);
    if (json != NULL) write_json(json, mem, mem_n, cpu);
    return 0;
}
