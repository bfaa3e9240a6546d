/* The runner of ctests: each test in a forked process with a time limit, several at a time;
 * one line per test, the output of those that failed, and a closing count.
 *
 *     ctests [--list] [--jobs N] [--seed N] [--limit S] [--verbose] [pattern...]
 *
 * --limit: no test gets more than so many seconds, whatever it asks for.
 *
 * A pattern with one of * ? [ is matched as the shell does; one that is the exact name of a
 * test selects that test only; any other selects the tests whose name contains it. */
#include "harness.h"

#include <errno.h>
#include <fnmatch.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_JOBS 64
#define JOBS_PER_CPU 4       /* most tests wait more than they work */

static struct test *tests;
static int test_count;
static uint64_t seed;
static unsigned slow = 1;
static int64_t most_seconds = INT32_MAX;

#define SKIPPED 77           /* exit status of a test that is not to be had here */

/* ---- what tests use ---- */

void test_register(struct test *t)
{
    t->next = tests;
    tests = t;
    test_count++;
}

void test_failed(const char *file, int line, const char *fmt, ...)
{
    char buf[4096];
    va_list ap;
    int n;

    n = snprintf(buf, sizeof buf, "%s:%d: ", file, line);
    va_start(ap, fmt);
    vsnprintf(buf + n, sizeof buf - (size_t)n - 1, fmt, ap);
    va_end(ap);
    strcat(buf, "\n");
    if (write(STDERR_FILENO, buf, strlen(buf)) < 0)
        _exit(3);
    _exit(1);
}

void test_skip(const char *why)
{
    printf("not run: %s\n", why);
    exit(SKIPPED);
}

void test_check_str(const char *file, int line, const char *expr, const char *got,
                    const char *want, int whole)
{
    if (got != NULL && want != NULL && (whole ? strcmp(got, want) == 0 : strstr(got, want) != NULL))
        return;
    test_failed(file, line, "%s: got \"%.1500s\", wanted %s \"%.1500s\"", expr,
                got != NULL ? got : "(NULL)", whole ? "exactly" : "it to contain",
                want != NULL ? want : "(NULL)");
}

uint64_t test_seed(void) { return seed; }

unsigned test_slow(void) { return slow; }

uint64_t rng_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_below(uint64_t *state, uint64_t n)
{
    uint64_t x = rng_next(state);

    return n == 0 ? 0 : x % n;
}

int64_t mono_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void sleep_ms(int ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

    while (nanosleep(&ts, &ts) != 0 && errno == EINTR) {}
}

gt_sched *new_sched(uint32_t clock)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = clock;
    s = gt_sched_new(&cfg);
    if (s == NULL)
        test_failed(__FILE__, __LINE__, "gt_sched_new with clock %u: %s", clock,
                    gt_strerror(gt_last_error()));
    return s;
}

gt_sched *virtual_sched(void) { return new_sched(GT_CLOCK_VIRTUAL); }

gt_stats get_stats(gt_sched *s)
{
    gt_stats st;

    memset(&st, 0, sizeof st);
    st.size = sizeof st;
    CHECK_EQ(gt_stats_get(s, &st), 0);
    return st;
}

void check_conserved(gt_sched *s)
{
    gt_stats st = get_stats(s);

    if (st.armed != st.fired + st.stopped + st.replaced + st.pending)
        test_failed(__FILE__, __LINE__,
                    "not conserved: armed %llu, fired %llu + stopped %llu + replaced %llu + pending %llu",
                    (unsigned long long)st.armed, (unsigned long long)st.fired,
                    (unsigned long long)st.stopped, (unsigned long long)st.replaced,
                    (unsigned long long)st.pending);
    CHECK_EQ(st.early, 0);
}

void close_sched(gt_sched *s) { CHECK_EQ(gt_sched_free(s), 0); }

int run_child(void (*fn)(void *), void *arg, char *out, size_t len)
{
    int fds[2], status;
    size_t have = 0;
    char buf[1024];
    ssize_t n;
    pid_t pid;

    fflush(NULL);
    CHECK_EQ(pipe(fds), 0);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        dup2(fds[1], STDERR_FILENO);
        close(fds[1]);
        fn(arg);
        fflush(NULL);
        _exit(0);
    }
    close(fds[1]);
    for (;;) {
        n = read(fds[0], buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            if (out != NULL && have + 1 < len)
                out[have++] = buf[i];
    }
    close(fds[0]);
    if (out != NULL && len > 0)
        out[have] = '\0';
    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    return status;
}

void must_pass_in_child(void (*fn)(void *), void *arg)
{
    char out[4096];
    int status = run_child(fn, arg, out, sizeof out);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        test_failed(__FILE__, __LINE__, "the child ended with wait status 0x%x: %s", status, out);
}

/* ---- the runner ---- */

struct job {
    struct test *test;   /* NULL: free */
    pid_t pid;
    int fd;              /* its output, in memory */
    int64_t start, limit;
    int timed_out;
};

static struct job jobs[MAX_JOBS];
static const char *program;
static int verbose, passed, failed, n_skipped;

static void start(struct job *j, struct test *t, const sigset_t *old_mask)
{
    j->test = t;
    j->timed_out = 0;
    j->start = mono_now();
    j->limit = (int64_t)t->seconds * (int64_t)slow;
    j->limit = j->start + (j->limit < most_seconds ? j->limit : most_seconds) * 1000000000;
    j->fd = memfd_create("ctest", MFD_CLOEXEC);
    fflush(NULL);
    j->pid = fork();
    if (j->fd < 0 || j->pid < 0) {
        perror("ctests: cannot start a test");
        exit(2);
    }
    if (j->pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigprocmask(SIG_SETMASK, old_mask, NULL);
        dup2(j->fd, STDOUT_FILENO);
        dup2(j->fd, STDERR_FILENO);
        setvbuf(stdout, NULL, _IOLBF, 0);
        t->fn();
        exit(0);   /* not _exit: leak checkers report at exit */
    }
    setpgid(j->pid, j->pid);
}

static void print_output(int fd)
{
    char buf[4096];
    off_t at = 0;
    ssize_t n;
    int bol = 1;

    while ((n = pread(fd, buf, sizeof buf, at)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (bol)
                fputs("    ", stdout);
            putchar(buf[i]);
            bol = buf[i] == '\n';
        }
        at += n;
    }
    if (!bol)
        putchar('\n');
}

static void finish(struct job *j, int status)
{
    double took = (double)(mono_now() - j->start) / 1e9;
    int ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    int skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;

    kill(-j->pid, SIGKILL);   /* whatever the test left behind */
    printf("%s %s (%.2f s)\n", ok ? "ok  " : skipped ? "skip" : "FAIL", j->test->name, took);
    if (!ok || verbose)
        print_output(j->fd);
    if (!ok && !skipped) {
        if (j->timed_out)
            printf("    did not end within %lld s\n",
                   (long long)((j->limit - j->start) / 1000000000));
        else if (WIFSIGNALED(status))
            printf("    killed by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
        else
            printf("    exit status %d\n", WEXITSTATUS(status));
        printf("    replay: %s --seed %llu %s\n", program, (unsigned long long)seed, j->test->name);
    }
    fflush(stdout);
    j->test->skipped = skipped;
    if (skipped)
        n_skipped++;
    else if (ok)
        passed++;
    else
        failed++;
    close(j->fd);
    j->test = NULL;
}

/* Waits until a child ends or a time limit is reached, and deals with both. */
static void wait_some(int n_jobs, const sigset_t *chld)
{
    int64_t now = mono_now(), next = now + 60000000000;
    struct timespec ts;
    int status;
    pid_t pid;

    for (int i = 0; i < n_jobs; i++) {
        struct job *j = &jobs[i];

        if (j->test == NULL || j->timed_out)
            continue;
        if (j->limit <= now) {
            j->timed_out = 1;
            kill(-j->pid, SIGKILL);
        } else if (j->limit < next) {
            next = j->limit;
        }
    }
    ts.tv_sec = (next - now) / 1000000000;
    ts.tv_nsec = (next - now) % 1000000000;
    sigtimedwait(chld, NULL, &ts);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < n_jobs; i++)
            if (jobs[i].test != NULL && jobs[i].pid == pid)
                finish(&jobs[i], status);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct test *const *)a)->name, (*(struct test *const *)b)->name);
}

static int selected(struct test **all, const char *name, char **patterns, int n)
{
    if (n == 0)
        return 1;
    for (int i = 0; i < n; i++) {
        int exact = 0;

        for (int k = 0; k < test_count; k++)
            exact |= strcmp(all[k]->name, patterns[i]) == 0;
        if (exact ? strcmp(name, patterns[i]) == 0
            : strpbrk(patterns[i], "*?[") != NULL ? fnmatch(patterns[i], name, 0) == 0
                                                  : strstr(name, patterns[i]) != NULL)
            return 1;
    }
    return 0;
}

static uint64_t number(const char *arg)
{
    char *end;
    uint64_t n;

    errno = 0;
    n = arg != NULL ? strtoull(arg, &end, 0) : 0;
    if (arg == NULL || *arg == '\0' || *end != '\0' || errno != 0) {
        fprintf(stderr, "ctests: a number was expected, not \"%s\"\n", arg != NULL ? arg : "");
        exit(2);
    }
    return n;
}

/* Those that this process may use. */
static long processors(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
}

int main(int argc, char **argv)
{
    struct test **all = calloc((size_t)test_count + 1, sizeof *all);
    char **patterns = calloc((size_t)argc, sizeof *patterns);
    int list = 0, n_patterns = 0, n = 0;
    long n_jobs = JOBS_PER_CPU * processors();
    sigset_t chld, old_mask;
    const char *env = getenv("GT_TEST_SLOW");
    uint64_t from_clock = (uint64_t)mono_now() ^ ((uint64_t)getpid() << 40);

    program = argv[0];
    seed = rng_next(&from_clock) >> 16;   /* short enough to type */
    if (env != NULL && *env != '\0')
        slow = (unsigned)number(env) > 1 ? (unsigned)number(env) : 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0)
            list = 1;
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = 1;
        else if (strcmp(argv[i], "--jobs") == 0)
            n_jobs = (long)number(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = number(argv[++i]);
        else if (strcmp(argv[i], "--limit") == 0)
            most_seconds = (int64_t)number(argv[++i]);
        else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: %s [--list] [--jobs N] [--seed N] [--limit S] [--verbose] [pattern...]\n", program);
            return 2;
        } else
            patterns[n_patterns++] = argv[i];
    }
    if (n_jobs < 1)
        n_jobs = 1;
    if (n_jobs > MAX_JOBS)
        n_jobs = MAX_JOBS;

    for (struct test *t = tests; t != NULL; t = t->next)
        all[n++] = t;
    qsort(all, (size_t)n, sizeof *all, by_name);
    for (int i = 1; i < n; i++)
        if (strcmp(all[i]->name, all[i - 1]->name) == 0) {
            fprintf(stderr, "ctests: two tests are named %s (%s, %s)\n", all[i]->name,
                    all[i]->file, all[i - 1]->file);
            return 2;
        }

    signal(SIGCHLD, SIG_DFL);   /* whoever started us may have ignored it */
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &old_mask);
    for (int i = 0; i < n; i++) {
        struct job *slot = NULL;

        if (!selected(all, all[i]->name, patterns, n_patterns))
            continue;
        if (list) {
            puts(all[i]->name);
            continue;
        }
        while (slot == NULL) {
            for (int k = 0; k < n_jobs && slot == NULL; k++)
                if (jobs[k].test == NULL)
                    slot = &jobs[k];
            if (slot == NULL)
                wait_some((int)n_jobs, &chld);
        }
        start(slot, all[i], &old_mask);
    }
    if (list)
        return 0;
    for (int busy = 1; busy;) {
        busy = 0;
        for (int k = 0; k < n_jobs; k++)
            busy |= jobs[k].test != NULL;
        if (busy)
            wait_some((int)n_jobs, &chld);
    }
    printf("%d passed, %d failed", passed, failed);
    if (n_skipped > 0)
        printf(", %d not run here:", n_skipped);
    for (int i = 0; i < n; i++)
        if (all[i]->skipped)
            printf(" %s", all[i]->name);
    printf("\n");
    free(all);
    free(patterns);
    return failed > 0 || passed == 0;
}
