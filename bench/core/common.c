/* common.c: options, memory and the JSON lines of the benchmark's programs in C and C++. */
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

struct bench bench = {.workload = "", .seed = 1, .threads = 1, .reps = 3, .seconds = 0.5};

extern const char *bench_program; /* the peer's name: each program defines it */
static uint64_t uncounted;        /* bytes of bench_handles */

void bench_die(const char *what, const char *why) {
    fflush(stdout);
    fprintf(stderr, "%s: %s: %s\n", bench_program, what, why);
    exit(1);
}

static uint64_t number(const char *text, const char *what) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (errno != 0 || *end != 0 || end == text) bench_die(what, "not a number");
    return v;
}

void bench_options(int argc, char **argv) {
    int place = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(a, "--seed") == 0) bench.seed = number(value, a), i++;
        else if (strcmp(a, "--reps") == 0) bench.reps = (int)number(value, a), i++;
        else if (strcmp(a, "--quick") == 0) bench.quick = 1;
        else if (place == 0) bench.workload = a, place++;
        else if (place == 1) bench.n = number(a, "N"), place++;
        else if (place == 2) bench.threads = (int)number(a, "THREADS"), place++;
        else bench_die(a, "not understood");
    }
    if (place < 2) bench_die("usage", "WORKLOAD N [THREADS] [--seed S] [--reps R] [--quick], or --list");
    if (bench.reps < 1 || bench.reps > 99) bench_die("--reps", "from 1 to 99");
    if (bench.threads < 1 || bench.threads > 1024) bench_die("THREADS", "from 1 to 1024");
    if (bench.n < 1 || bench.n > 1000000000) bench_die("N", "from 1 to 10^9");
    if (bench.quick) bench.seconds = 0.2;
}

void *bench_alloc(uint64_t n, size_t size) {
    size_t bytes = (size_t)n * size;
    void *p = aligned_alloc(64, (bytes + 127) & ~(size_t)63);
    if (p == NULL) bench_die("memory", "out of it");
    memset(p, 0, bytes);
    return p;
}

void *bench_handles(uint64_t n, size_t size) {
    uncounted += n * size;
    return bench_alloc(n, size);
}

double bench_resident(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    uint64_t size, resident;
    if (f == NULL || fscanf(f, "%" SCNu64 " %" SCNu64, &size, &resident) != 2) bench_die("/proc/self/statm", "cannot be read");
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) - (double)uncounted;
}

double bench_cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

void bench_emit(const char *workload, uint64_t n, int threads, const double *values, int count, const char *extra) {
    printf("{\"peer\": \"%s\", \"workload\": \"%s\", \"n\": %" PRIu64 ", \"threads\": %d, \"values\": [", bench_program, workload, n,
           threads);
    for (int i = 0; i < count; i++) printf("%s%.3f", i > 0 ? ", " : "", values[i]);
    printf("]%s%s}\n", extra != NULL ? ", " : "", extra != NULL ? extra : "");
    fflush(stdout);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void bench_emit_lateness(uint64_t n, int64_t *late, double cpu_seconds) {
    char extra[2048];
    qsort(late, n, sizeof *late, compare);
    if (late[0] < 0) bench_die("W7", "a timer fired early");
    int at = snprintf(extra, sizeof extra, "\"unit\": \"us\", \"cpu_us\": %.3f, \"p99\": %.3f, \"max\": %.3f, \"quantiles\": [",
                      cpu_seconds * 1e6 / (double)n, (double)late[(n - 1) * 99 / 100] / 1e3, (double)late[n - 1] / 1e3);
    for (uint64_t q = 0; q <= 100; q++)
        at += snprintf(extra + at, sizeof extra - (size_t)at, "%s%.1f", q > 0 ? ", " : "", (double)late[(n - 1) * q / 100] / 1e3);
    snprintf(extra + at, sizeof extra - (size_t)at, "]");
    double p50 = (double)late[(n - 1) / 2] / 1e3;
    bench_emit("W7", n, 1, &p50, 1, extra);
}

double stamps_per_ns(void) {
    static double found;
    if (found == 0) {
        int64_t t0 = real_now();
        uint64_t s0 = stamp_now();
        while (real_now() - t0 < 20 * MILLISECOND)
            ;
        found = (double)(stamp_now() - s0) / (double)(real_now() - t0);
    }
    return found;
}
