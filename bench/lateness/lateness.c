/* lateness.c: how late timers fire, beside the raw waits of the system, and what CPU they take; wake-ups at
 * rest; what slack saves. The ways take turns, so that all see the same weather. It reports and never fails
 * for being slow.
 *
 *   lateness [--quick] [--no-rest] [--no-slack] [--seed N] [--rounds N] [--sleeps N] */
#include "lateness.h"

#include "gotimer.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#define WAYS_MAX 16

struct result {
    const char *missing;
    int64_t *late;   /* sorted in the end */
    int n;
    double cpu;      /* ns in all */
    double switches; /* of all threads */
};

static struct result results[WAYS_MAX];

_Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "lateness: %s: %s\n", what, why);
    exit(1);
}

void good(const char *what, int r) {
    if (r < 0) die(what, gt_strerror(r));
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct result *r, double p) {
    int i = (int)(p / 100 * (double)(r->n - 1) + 0.5);
    return (double)r->late[i] / 1e3;
}

static void run_rounds(uint64_t seed, int rounds, int sleeps) {
    for (int w = 0; w < n_ways; w++) {
        results[w].missing = ways[w].missing != NULL ? ways[w].missing() : NULL;
        results[w].late = calloc((size_t)rounds * (size_t)sleeps, sizeof(int64_t));
        if (results[w].late == NULL) die("memory", strerror(errno));
    }
    /* round -1 warms up and is not kept; each round begins with another way */
    for (int round = -1; round < rounds; round++) {
        int n = round < 0 ? 5 : sleeps;
        for (int k = 0; k < n_ways; k++) {
            int w = (k + round + n_ways) % n_ways;
            struct result *r = &results[w];
            if (r->missing != NULL) continue;
            if (ways[w].begin != NULL) ways[w].begin();
            int64_t cpu = cpu_ns();
            ways[w].run(seed + (uint64_t)round, n, r->late + r->n);
            if (round >= 0) r->cpu += (double)(cpu_ns() - cpu);
            if (ways[w].end != NULL) ways[w].end();
            for (int i = 0; i < n; i++)
                if (r->late[r->n + i] < 0) die(ways[w].name, "it woke before its time");
            if (round >= 0) r->n += n;
        }
        if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[Kround %d of %d ...", round + 1, rounds);
    }
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
}

static void print_lateness(int rounds, int sleeps) {
    double raw = 0;
    const char *raw_name = "";
    for (int w = 0; w < n_ways; w++) {
        struct result *r = &results[w];
        if (r->missing != NULL) continue;
        qsort(r->late, (size_t)r->n, sizeof *r->late, by_value);
        double p50 = percentile_us(r, 50);
        if (ways[w].raw && (raw == 0 || p50 < raw)) raw = p50, raw_name = ways[w].name;
    }
    printf("Lateness in us: %d sleeps of 1 to 5 ms each, in %d rounds that take turns\n\n", rounds * sleeps, rounds);
    printf("  %-24s %8s %8s %8s %8s %8s %12s\n", "", "p50", "p90", "p99", "max", "ratio", "CPU/firing");
    for (int w = 0; w < n_ways; w++) {
        struct result *r = &results[w];
        if (r->missing != NULL) {
            printf("  %-24s skipped: %s\n", ways[w].name, r->missing);
            continue;
        }
        printf("  %-24s %8.1f %8.1f %8.1f %8.1f %8.2f %9.1f us\n", ways[w].name, percentile_us(r, 50), percentile_us(r, 90),
               percentile_us(r, 99), percentile_us(r, 100), percentile_us(r, 50) / raw, r->cpu / r->n / 1e3);
    }
    printf("\n  ratio: p50 to that of the better raw wait, %s\n", raw_name);
}

static uint64_t number(const char *option, const char *text) {
    char *end;
    errno = 0;
    uint64_t n = text != NULL ? strtoull(text, &end, 0) : 0;
    if (text == NULL || *text == '\0' || *end != '\0' || errno != 0) die(option, "a number must follow");
    return n;
}

static void usage(FILE *to) {
    fputs("usage: lateness [--quick] [--no-rest] [--no-slack] [--seed N] [--rounds N] [--sleeps N]\n"
          "  --quick     a short run: 2 rounds, 1 s at rest, 1 round of slack\n"
          "  --no-rest   without the wake-ups at rest\n"
          "  --no-slack  without the tickers with slack\n"
          "  --seed N    of the random sleeps and periods\n"
          "  --rounds N  how often each way has its turn (10)\n"
          "  --sleeps N  how many sleeps one turn has (45)\n",
          to);
}

int main(int argc, char **argv) {
    int rounds = 10, sleeps = 45, quick = 0, rest = 1, slack = 1;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            quick = 1, rounds = 2;
        else if (strcmp(argv[i], "--no-rest") == 0)
            rest = 0;
        else if (strcmp(argv[i], "--no-slack") == 0)
            slack = 0;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = number(argv[i], argv[i + 1]), i++;
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = (int)number(argv[i], argv[i + 1]), i++;
        else if (strcmp(argv[i], "--sleeps") == 0)
            sleeps = (int)number(argv[i], argv[i + 1]), i++;
        else {
            usage(strcmp(argv[i], "--help") == 0 ? stdout : stderr);
            return strcmp(argv[i], "--help") == 0 ? 0 : 2;
        }
    }
    if (rounds < 1 || rounds > 10000 || sleeps < 5 || sleeps > 10000) die("--rounds, --sleeps", "1 to 10000 rounds, 5 to 10000 sleeps");
    struct utsname u;
    cpu_set_t cpus;
    uname(&u);
    sched_getaffinity(0, sizeof cpus, &cpus);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("libgotimer %s, %s %s, %d CPUs, timer slack of threads %d us, seed %" PRIu64 "\n\n", gt_version_string(), u.sysname,
           u.release, CPU_COUNT(&cpus), prctl(PR_GET_TIMERSLACK) / 1000, seed);
    run_rounds(seed, rounds, sleeps);
    print_lateness(rounds, sleeps);
    if (rest) at_rest(quick ? SECOND : 5 * SECOND);
    if (slack) with_slack(seed, quick ? SECOND / 2 : SECOND, quick ? 1 : 2);
    return 0;
}
