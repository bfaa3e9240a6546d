/* `make faults`: the runner, around that of ctests' harness, and what the cases share.
 *
 *     faults [--planted] [--list] [--jobs N] [--seed N] [--verbose] [pattern...]
 *
 * One line per case and a closing line. With --planted each planted mistake is switched on in
 * turn, and its case must fail. */
#include "faults.h"

#include <errno.h>
#include <sys/prctl.h>
#include <signal.h>
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

void must_pass_in_child(void (*fn)(void *), void *arg)
{
    char out[4000];
    int status = run_child(fn, arg, out, sizeof out);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        test_failed(__FILE__, __LINE__, "a child ended with wait status %#x:\n%s", (unsigned)status, out);
}

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

/* The first line that says what a failed case saw. */
static void keep_reason(const char *text, void *arg)
{
    char *why = arg;

    if (*why == '\0' && *text == ' ' &&
        (strstr(text, ".c:") != NULL || strstr(text, ".cpp:") != NULL || strstr(text, "did not end") != NULL)) {
        while (*text == ' ')
            text++;
        snprintf(why, 300, "%.290s", text);
    }
}

static int run_planted(char *program)
{
    int found = 0, missed = 0;

    for (struct plant *p = plants; p != NULL; p = p->next) {
        char why[300] = "";
        char *argv[] = {program, (char *)(uintptr_t)p->test, NULL};
        int status;

        setenv("GT_PLANT", p->name, 1);
        status = run_harness(argv, keep_reason, why);
        if (status == 1 && *why != '\0') {
            printf("ok   %s, planted in %s, was found: %s", p->name, p->test, why);
            found++;
        } else {
            printf("FAIL %s, planted in %s, was not found (status %d)\n", p->name, p->test, status);
            missed++;
        }
        fflush(stdout);
    }
    printf("faults-planted: %d found, %d missed\n", found, missed);
    return missed > 0 || found == 0;
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
