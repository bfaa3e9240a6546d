/* `make tsan-embed`: the runner, and what the cases share. See embed.h.
 *
 *     embed [--list] [case...]
 *
 * Each case runs in a process of its own, by exec, and what ThreadSanitizer writes is
 * compared with what the case expects. One line per case, and a closing count. */
#include "embed.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A report ends nothing; a process that had one ends with this status. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "exitcode=66:halt_on_error=0"; }

static struct tsan_case *cases;

void tsan_case_register(struct tsan_case *c)
{
    c->next = cases;
    cases = c;
}

void tsan_failed(const char *file, int line, const char *what)
{
    char buf[512];
    int n = snprintf(buf, sizeof buf, "%s:%d: %s is false\n", file, line, what);

    if (write(STDERR_FILENO, buf, (size_t)n) < 0)
        _exit(3);
    _exit(1);
}

/* ---- what cases use ---- */

void nap_ms(int ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

    while (nanosleep(&ts, &ts) != 0 && errno == EINTR) {}
}

void wait_until_set(int *flag)
{
    for (int i = 0; peek(*flag) == 0; i++) {
        MUST(i < 60000);
        nap_ms(1);
    }
}

void wait_until_asleep(int *tid)
{
    int seen = 0;

    wait_until_set(tid);
    for (int i = 0; seen < 4; i++) {     /* in a row: locks are held for less than that */
        char path[64], line[512];
        const char *end = NULL;
        FILE *f;

        MUST(i < 60000);
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", peek(*tid));
        f = fopen(path, "r");
        MUST(f != NULL);
        if (fgets(line, sizeof line, f) != NULL)
            end = strrchr(line, ')');
        fclose(f);
        seen = end != NULL && end[1] == ' ' && end[2] == 'S' ? seen + 1 : 0;
        nap_ms(1);
    }
}

pthread_t start(void *(*fn)(void *), void *arg)
{
    pthread_t t;

    MUST(pthread_create(&t, NULL, fn, arg) == 0);
    return t;
}

void join(pthread_t t) { MUST(pthread_join(t, NULL) == 0); }

struct bed_thread {
    struct bed *b;
    gt_p *p;
};

static void *bed_loop(void *arg)
{
    struct bed_thread me = *(struct bed_thread *)arg;

    free(arg);
    MUST(gt_acquirep(me.p) == 0);
    while (!peek(me.b->stop)) {
        int ran = gt_check_timers(me.p, 0, NULL, NULL);

        if (ran == 0 && me.b->thieves)
            ran = gt_check_others(me.b->s, me.p, 0, NULL, NULL);
        MUST(ran >= 0);
        if (ran == 0)
            nap_ms(1);
    }
    return NULL;   /* bound: the end of the thread releases the P */
}

void bed_start(struct bed *b, int n, int thieves)
{
    gt_config cfg;

    memset(b, 0, sizeof *b);
    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    b->s = gt_sched_new(&cfg);
    MUST(b->s != NULL);
    b->n = n;
    b->thieves = thieves;
    for (int i = 0; i < n; i++) {
        b->p[i] = gt_p_new(b->s);
        MUST(b->p[i] != NULL);
    }
    for (int i = 0; i < n; i++) {
        struct bed_thread *me = malloc(sizeof *me);

        MUST(me != NULL);
        me->b = b;
        me->p = b->p[i];
        b->thread[i] = start(bed_loop, me);
    }
}

void bed_stop(struct bed *b)
{
    poke(b->stop, 1);
    for (int i = 0; i < b->n; i++)
        join(b->thread[i]);
}

void bed_end(struct bed *b)
{
    bed_stop(b);
    for (int i = 0; i < b->n; i++)
        MUST(gt_p_free(b->p[i]) == 0);
    MUST(gt_sched_free(b->s) == 0);
}

struct parcel *parcel_new(int value)
{
    struct parcel *d = calloc(1, sizeof *d);

    MUST(d != NULL);
    d->value = value;
    return d;
}

__attribute__((noinline)) void writes(struct parcel *d, int value) { d->value = value; }

__attribute__((noinline)) int reads(struct parcel *d) { return d->value; }

__attribute__((noinline)) void writes_in_callback(void *arg, uintptr_t seq, int64_t delay)
{
    struct parcel *d = arg;

    (void)seq;
    MUST(delay >= 0);
    d->value++;
    __atomic_fetch_add(&d->done, 1, __ATOMIC_RELAXED);
}

__attribute__((noinline)) void reads_in_drop(void *arg)
{
    struct parcel *d = arg;

    MUST(d->value >= 0);
    d->value = -1;
    free(d);
}

/* ---- the runner ---- */

static struct tsan_case *find(const char *name)
{
    for (struct tsan_case *c = cases; c != NULL; c = c->next)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

/* Runs the case and keeps what it writes to stderr. Returns its wait status. */
static int run(const char *program, struct tsan_case *c, char *out, size_t len)
{
    int fds[2], status;
    size_t have = 0;
    ssize_t n;
    pid_t pid;

    MUST(pipe(fds) == 0);
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(120);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        setenv("GT_TSAN_CASE", c->name, 1);
        execl("/proc/self/exe", program, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    for (;;) {
        char buf[4096];

        n = read(fds[0], buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n && have + 1 < len; i++)
            out[have++] = buf[i];
    }
    out[have] = '\0';
    close(fds[0]);
    while (waitpid(pid, &status, 0) < 0)
        MUST(errno == EINTR);
    return status;
}

static int judge(struct tsan_case *c, int status, const char *out)
{
    int reported = strstr(out, "WARNING: ThreadSanitizer") != NULL;

    if (!WIFEXITED(status))
        return 0;
    if (c->race == NULL)
        return WEXITSTATUS(status) == 0 && !reported;
    return WEXITSTATUS(status) == 66 && strstr(out, "ThreadSanitizer: data race") != NULL &&
           strstr(out, c->race) != NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct tsan_case *const *)a)->name, (*(struct tsan_case *const *)b)->name);
}

int main(int argc, char **argv)
{
    const char *name = getenv("GT_TSAN_CASE");
    static char out[1 << 20];
    struct tsan_case *all[256];
    int n = 0, passed = 0, failed = 0;

    if (name != NULL) {
        struct tsan_case *c = find(name);

        MUST(c != NULL);
        c->fn();
        return 0;
    }
    for (struct tsan_case *c = cases; c != NULL && n < 256; c = c->next)
        all[n++] = c;
    qsort(all, (size_t)n, sizeof *all, by_name);
    for (int i = 0; i < n; i++) {
        int wanted = argc < 2, ok, status;

        for (int k = 1; k < argc; k++)
            wanted |= strcmp(argv[k], "--list") == 0 || strstr(all[i]->name, argv[k]) != NULL;
        if (!wanted)
            continue;
        if (argc > 1 && strcmp(argv[1], "--list") == 0) {
            puts(all[i]->name);
            continue;
        }
        status = run(argv[0], all[i], out, sizeof out);
        ok = judge(all[i], status, out);
        printf("%s %s (%s)\n", ok ? "ok  " : "FAIL", all[i]->name,
               all[i]->race == NULL ? "nothing reported" : "race reported");
        if (!ok) {
            printf("    expected %s%s, got wait status %#x and this:\n%s\n",
                   all[i]->race == NULL ? "no report" : "a race in ",
                   all[i]->race == NULL ? "" : all[i]->race, (unsigned)status, out);
        }
        fflush(stdout);
        if (ok)
            passed++;
        else
            failed++;
    }
    if (argc > 1 && strcmp(argv[1], "--list") == 0)
        return 0;
    printf("tsan-embed: %d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
