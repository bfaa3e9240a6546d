/* `make faults`: the runner, around that of ctests' harness, and what the cases share.
 *
 *     faults [--planted] [--list] [--jobs N] [--seed N] [--verbose] [pattern...]
 *
 * One line per case and a closing line. With --planted each planted mistake is switched on in
 * turn, and its case must fail, with the words that the plant names. */
#include "faults.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int harness_main(int argc, char **argv);

static struct plant *plants;

void plant_register(struct plant *p)
{
    p->next = plants;
    plants = p;
}

int rounds(int few, int full)
{
    const char *env = getenv("GT_FAULTS_FULL");

    return env != NULL && *env == '1' ? full : few;
}

void seed_loads(void) { load_seed = test_seed(); }

/* Runs the harness in a child and gives what it prints to line, line by line. */
static int run_harness(char **argv, void (*line)(const char *text, void *arg), void *arg)
{
    char buf[8192];
    int fds[2], argc = 0, status;
    FILE *in;
    pid_t pid;

    while (argv[argc] != NULL)
        argc++;
    fflush(NULL);
    if (pipe(fds) != 0 || (pid = fork()) < 0) {
        perror("faults");
        exit(2);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        setvbuf(stdout, NULL, _IOLBF, 0);
        exit(harness_main(argc, argv));
    }
    close(fds[1]);
    in = fdopen(fds[0], "r");
    while (in != NULL && fgets(buf, sizeof buf, in) != NULL)
        line(buf, arg);
    if (in != NULL)
        fclose(in);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

static void relay(const char *text, void *arg)
{
    int a, b;

    (void)arg;
    if (sscanf(text, "%d passed, %d failed", &a, &b) == 2)
        printf("faults: ");
    fputs(text, stdout);
    fflush(stdout);
}

/* What a case printed, and what may be read off it. */
struct report {
    char text[16000];
    size_t len;
};

static void keep(const char *text, void *arg)
{
    struct report *r = arg;
    size_t n = strlen(text);

    if (n >= sizeof r->text - r->len)
        return;
    memcpy(r->text + r->len, text, n + 1);
    r->len += n;
}

/* Gives the line of the report that `at` points into. */
static const char *line_of(const struct report *r, const char *at, char *line, size_t len)
{
    const char *begin = at;

    while (begin > r->text && begin[-1] != '\n')
        begin--;
    begin += strspn(begin, " ");
    snprintf(line, len, "%.*s", (int)strcspn(begin, "\n"), begin);
    return line;
}

/* What the planted runs have come to; in memory that all processes have. */
struct planted_runs {
    atomic_int next, found, missed, skipped;
};

/* The case must fail, and with the words that say what was planted. */
static void run_plant(char *program, struct plant *p, struct planted_runs *runs)
{
    static struct report r;
    char *argv[] = {program, (char *)(uintptr_t)p->test, NULL};
    char line[300];
    const char *at;
    int status;

    r.len = 0;
    r.text[0] = '\0';
    setenv("GT_PLANT", p->name, 1);
    status = run_harness(argv, keep, &r);
    at = strstr(r.text, p->must_say);
    if (strncmp(r.text, "skip ", 5) == 0) {
        printf("skip %s, planted in %s: that is not to be had here\n", p->name, p->test);
        runs->skipped++;
    } else if (status == 1 && at != NULL && strncmp(r.text, "FAIL", 4) == 0) {
        printf("ok   %s, planted in %s, was found: %s\n", p->name, p->test, line_of(&r, at, line, sizeof line));
        runs->found++;
    } else if (status == 1 && strncmp(r.text, "FAIL", 4) == 0) {
        printf("FAIL %s, planted in %s, was found, but not by \"%s\":\n%s", p->name, p->test, p->must_say, r.text);
        runs->missed++;
    } else {
        printf("FAIL %s, planted in %s, was not found (status %d)\n", p->name, p->test, status);
        runs->missed++;
    }
}

/* Each case that there is has something planted in it. */
static void look_for_plants(const char *text, void *arg)
{
    int *without = arg;
    size_t n = strcspn(text, "\n");

    for (struct plant *p = plants; p != NULL; p = p->next)
        if (strlen(p->test) == n && strncmp(p->test, text, n) == 0)
            return;
    printf("FAIL nothing is planted in %.*s\n", (int)n, text);
    ++*without;
}

/* Three at a time: most of them wait for something that does not come. */
static int run_planted(char *program)
{
    enum { AT_ONCE = 3 };
    char list[] = "--list", *argv[] = {program, list, NULL};
    struct planted_runs *runs = mmap(NULL, sizeof *runs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int without = 0, n = 0;

    if (runs == MAP_FAILED)
        return 2;
    run_harness(argv, look_for_plants, &without);
    for (struct plant *p = plants; p != NULL; p = p->next)
        n++;
    fflush(NULL);
    for (int i = 0; i < AT_ONCE; i++) {
        int at = 0, mine;

        if (fork() != 0)
            continue;
        mine = runs->next++;
        for (struct plant *p = plants; p != NULL; p = p->next)
            if (at++ == mine) {
                run_plant(program, p, runs);
                mine = runs->next++;
            }
        exit(0);
    }
    while (wait(NULL) > 0) {}
    if (runs->found + runs->missed + runs->skipped != n)
        runs->missed += n - runs->found - runs->missed - runs->skipped;
    printf("faults-planted: %d found, %d missed", runs->found, runs->missed);
    if (runs->skipped > 0)
        printf(", %d not run here", runs->skipped);
    printf("\n");
    return without > 0 || runs->missed > 0 || runs->found == 0;
}

int main(int argc, char **argv)
{
    char **args = calloc((size_t)argc + 3, sizeof *args);
    int n = 0, jobs = 0, status;

    if (args == NULL)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "--planted") == 0)
        return run_planted(argv[0]);
    for (int i = 0; i < argc; i++) {
        args[n++] = argv[i];
        jobs |= strcmp(argv[i], "--jobs") == 0;
    }
    if (!jobs) {   /* the cases have many threads each: two at a time are enough */
        static char name[] = "--jobs", two[] = "2";

        args[n++] = name;
        args[n++] = two;
    }
    status = run_harness(args, relay, NULL);
    free(args);
    return status;
}
