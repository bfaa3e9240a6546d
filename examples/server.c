/* server.c: green threads that use libgotimer: an HTTP/1.1 echo server with read, write and idle deadlines for
 * each connection, loaded by thousands of clients of which some stall, and a great many sleepers beside it.
 *
 *   server [seconds [connections [sleepers [seed]]]]     9 seconds, 4000 connections, 100000 sleepers
 *
 * It takes fewer connections and sleepers where descriptors or memory are short, and says so. The clients run in
 * a process of their own that does not use the library (server/load.c). At the end the records of the two sides
 * are compared with each other and with the library's counters. Exit status 0: nothing was lost, nothing was
 * early.
 *
 * Who wants to see how a green-thread runtime uses the library reads server/sched.c (when timers are run),
 * server/idle.c (how a sleeping thread is woken in time), server/hooks.c (what the library is told), and
 * server/netfd.c (deadlines). */
#define _GNU_SOURCE
#include "server/report.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE (60 * SECOND)

static unsigned cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (unsigned)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* So many connections, if there are descriptors for them: each side needs one for each, and a few more. */
static uint64_t fit_descriptors(uint64_t connections) {
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0) return connections;
    if (l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &l) != 0) getrlimit(RLIMIT_NOFILE, &l);
    }
    uint64_t most = l.rlim_cur > 128 ? l.rlim_cur - 64 : l.rlim_cur / 2;
    if (connections <= most) return connections;
    printf("only %llu descriptors are allowed (ulimit -n): %llu connections instead of %llu\n",
           (unsigned long long)l.rlim_cur, (unsigned long long)most, (unsigned long long)connections);
    return most;
}

static uint64_t read_number(const char *path, const char *after) {
    char line[256];
    uint64_t value = UINT64_MAX;
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, after, strlen(after)) != 0) continue;
        char *end, *digits = line + strlen(after);
        uint64_t v = strtoull(digits, &end, 10);
        if (end != digits) value = v;
        break;
    }
    if (f != NULL) fclose(f);
    return value;
}

/* So many sleepers, if there is memory for their stacks: of each, two pages are used. */
static uint64_t fit_memory(uint64_t sleepers, uint64_t connections) {
    uint64_t available = read_number("/proc/meminfo", "MemAvailable:");
    uint64_t allowed = read_number("/sys/fs/cgroup/memory.max", "");
    if (available != UINT64_MAX) available *= 1024;
    if (allowed == UINT64_MAX) allowed = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", "");
    if (allowed < available) available = allowed;
    uint64_t most = available / 2 / 10000, stacks = stack_limit();
    if (stacks != SIZE_MAX && stacks - connections < most) most = stacks > connections ? stacks - connections : 0;
    if (sleepers <= most) return sleepers;
    printf("there is room for the stacks of %llu sleepers only, instead of %llu\n", (unsigned long long)most,
           (unsigned long long)sleepers);
    return most;
}

/* Who does what: most are calm, a few keep the server busy, a quarter stalls. */
static void share_out(struct load_plan *plan, unsigned n) {
    plan->peers[HASTY] = n / 16 < 16 ? n / 16 : 16;
    plan->peers[STALL_READ] = n / 10;
    plan->peers[STALL_IDLE] = n / 10;
    plan->peers[STALL_WRITE] = n / 20 < 100 ? n / 20 : 100;
    plan->peers[WRONG] = n / 20 < 32 ? n / 20 : 32;
    for (int k = 0; k < KINDS; k++)
        if (plan->peers[k] == 0) plan->peers[k] = 1;
    unsigned others = 0;
    for (int k = 0; k < KINDS; k++) others += k == CALM ? 0 : plan->peers[k];
    plan->peers[CALM] = n > others ? n - others : 1;
}

/* The clients' process: waits until the server listens. Before the first thread is made. */
static pid_t start_load(const struct load_plan *plan, struct load_result *result, int listener) {
    pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* does not outlive the server */
    close(listener);
    load_run(plan, result);
    fflush(NULL);
    _exit(0);
}

/* Until clients and sleepers have ended, or nothing has moved for a long time. */
static void wait_for_all(struct report *r, pid_t child, int64_t begin) {
    bool clients = true;
    uint64_t moved = 0;
    for (int64_t last = runtime_now();;) {
        int64_t now = runtime_now();
        report_progress((double)(now - begin) / 1e9);
        if (clients && waitpid(child, &r->load_status, WNOHANG) == child) {
            clients = false;
            r->seconds = (double)(now - begin) / 1e9;
            server_end();
            duels_end();
        }
        if (!clients && green_alive() == 0) return;
        uint64_t moves = atomic_load(&tally.served) + atomic_load(&tally.sleeps_ended) + atomic_load(&tally.closed);
        if (moves != moved) moved = moves, last = now;
        if (now - last > PATIENCE) {
            r->hung = true;
            kill(child, SIGKILL);
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5 * MS}, NULL);
    }
}

static void take_stock(struct report *r, gt_sched *sched) {
    if (!r->hung) r->runtime = runtime_counts();
    r->deadlines = netfd_deadlines(), r->stale = netfd_stale();
    r->stats.size = sizeof r->stats;
    int e = gt_stats_get(sched, &r->stats);
    gt_stats_json(sched, r->stats_text, sizeof r->stats_text);
    r->late_buckets = gt_lateness_get(sched, NULL, 0);
    if (e != 0 || r->late_buckets < 0) die("no statistics to be had", e != 0 ? e : r->late_buckets);
    r->late_counts = calloc((size_t)r->late_buckets + 1, sizeof *r->late_counts);
    if (r->late_counts == NULL) abort();
    gt_lateness_get(sched, r->late_counts, (size_t)r->late_buckets);
}

static uint64_t number(const char *text, double min, double max, double unit) {
    char *end;
    double v = strtod(text, &end);
    if (*end != 0 || end == text || !(v >= min && v <= max)) {
        fprintf(stderr, "usage: server [seconds [connections [sleepers [seed]]]]\n");
        exit(2);
    }
    return (uint64_t)(v * unit);
}

static int64_t clamp(int64_t v, int64_t least, int64_t most) { return v < least ? least : v > most ? most : v; }

int main(int argc, char **argv) {
    struct timeval tv;
    gettimeofday(&tv, NULL);
    int64_t whole = argc > 1 ? (int64_t)number(argv[1], 1, 86400, 1e9) : 9 * SECOND;
    uint64_t clock = (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
    uint64_t seed = argc > 4 ? strtoull(argv[4], NULL, 0) : clock;
    struct report r = {.seed = seed};
    r.connections = fit_descriptors(argc > 2 ? number(argv[2], 8, 1e6, 1) : 4000);
    r.sleepers = (uint64_t)(whole / SECOND) * 12000;
    if (r.sleepers > 100000) r.sleepers = 100000;
    r.sleepers = fit_memory(argc > 3 ? number(argv[3], 0, 1e8, 1) : r.sleepers, r.connections);
    r.workers = cores() < 2 ? 2 : cores(); /* with one core two threads share it */
    r.times = 5;
    r.timeout[READ_TIMEOUT] = clamp(whole / 12, 150 * MS, SECOND);
    r.timeout[IDLE_TIMEOUT] = clamp(whole / 8, 250 * MS, 2 * SECOND);
    r.timeout[WRITE_TIMEOUT] = clamp(whole / 10, 200 * MS, SECOND);
    report_start(&r);

    struct load_result *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) die("no shared memory", 0);
    r.load = shared;
    struct load_plan plan = {.threads = cores() < 4 ? 1 : cores() / 2, .seed = rng_next(&seed)};
    memcpy(plan.timeout, r.timeout, sizeof plan.timeout);
    plan.duration = whole - r.timeout[IDLE_TIMEOUT] - 100 * MS;
    share_out(&plan, (unsigned)r.connections);
    int listener = server_listen(&plan.port);
    pid_t child = start_load(&plan, shared, listener);
    if (child < 0) die("fork failed", 0);

    gt_sched *sched = runtime_start(r.workers, rng_next(&seed));
    int64_t begin = runtime_now();
    struct limits limits;
    memcpy(limits.timeout, r.timeout, sizeof limits.timeout);
    server_start(listener, limits);
    duels_start(4, rng_next(&seed));
    sleepers_start(r.sleepers, r.times, plan.duration * 6 / 5 / (int64_t)r.times, rng_next(&seed));
    wait_for_all(&r, child, begin);
    r.alarms = 100;
    if (!r.hung) {
        r.alarms_rang = alarms_ring(r.alarms, rng_next(&seed), &r.rest);
        runtime_stop();
    }
    take_stock(&r, sched);
    if (!r.hung) {
        netfd_end();
        gt_stats after = {.size = sizeof after};
        gt_stats_get(sched, &after);
        r.timers_left = after.timers;
        r.sched_free_error = gt_sched_free(sched);
        runtime_free();
    }
    int wrong = report_result(&r);
    free(r.late_counts);
    munmap(shared, sizeof *shared);
    return wrong == 0 ? 0 : 1;
}
