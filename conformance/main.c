/* The conformance runner.
 *
 *   runner serve              reads scripts from standard input, one after the other, each
 *                             closed by a line with a dot; writes their traces likewise
 *   runner golden FILE...     runs the scripts of the files in several ways, and compares
 *   runner plants             lists the mistakes that it can make on purpose
 *
 * Options before that: --mode green, threads or mixed; --runs N: in how many ways a golden
 * script is run. The environment's CONFORMANCE_PLANT names a mistake to make on purpose. */
#include "runner.h"

#include <unistd.h>

static enum mode mode = MODE_MIXED;
static int runs = 3;

static char *run(const struct script *s, uint64_t salt)
{
    /* A script that hangs ends the program. With some mistakes many do. Without, a minute: the machine
     * may stand still for some seconds. */
    alarm(plant != PLANT_NONE ? 2 : 60);
    char *text = world_run(s, mode, salt);
    alarm(0);
    return text;
}

static int serve(void)
{
    static struct script s;
    char line[4096];
    script_clear(&s);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(line, ".\n") == 0) {
            char *text = run(&s, 0);
            fputs(text, stdout);
            fputs(".\n", stdout);
            fflush(stdout);
            free(text);
            script_clear(&s);
        } else if (!script_line(&s, line)) {
            die("what was read is no script");
        }
    }
    return 0;
}

static void print_difference(const char *path, const char *script, const char *want, const char *got)
{
    printf("%s: a script's trace is not that of the real Go\n%s", path, script);
    while (*want != '\0' || *got != '\0') {
        size_t a = strcspn(want, "\n"), b = strcspn(got, "\n");
        int same = a == b && memcmp(want, got, a) == 0;
        printf("%s %-44.*s %.*s\n", same ? " " : "*", (int)a, want, (int)b, got);
        want += a + (want[a] == '\n');
        got += b + (got[b] == '\n');
    }
    printf("  (left: the real Go, right: libgotimer)\n\n");
}

/* One file. Scripts with their traces stand apart by empty lines; # begins a comment. */
static void golden(const char *path, int *scripts, int *failed)
{
    static struct script s;
    static char line[4096], script[16384], want[65536];
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    script_clear(&s);
    script[0] = want[0] = '\0';
    for (char *more = line; more != NULL;) {
        more = fgets(line, sizeof line, f);
        if (more != NULL && line[0] == '#')
            continue;
        if (more != NULL && line[0] != '\n') {
            int is_trace = line[0] >= '0' && line[0] <= '9';
            char *to = is_trace ? want : script;
            if (strlen(to) + strlen(line) >= (is_trace ? sizeof want : sizeof script) ||
                (!is_trace && !script_line(&s, line)))
                die("a golden file has a line that is no line of a script");
            strcat(to, line);
        } else if (script[0] != '\0') {
            ++*scripts;
            for (int i = 0; i < runs; i++) {
                char *got = run(&s, (uint64_t)i);
                int same = strcmp(got, want) == 0;
                if (!same)
                    print_difference(path, script, want, got);
                free(got);
                if (!same) {
                    ++*failed;
                    break;
                }
            }
            script_clear(&s);
            script[0] = want[0] = '\0';
        }
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    const char *planted = getenv("CONFORMANCE_PLANT");
    int i = 1;
    for (int p = 1; planted != NULL && p < PLANTS; p++)
        if (strcmp(planted, plant_names[p]) == 0)
            plant = (enum plant)p;
    if (planted != NULL && *planted != '\0' && plant == PLANT_NONE)
        die("CONFORMANCE_PLANT names no mistake that is known");
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--runs") == 0)
            runs = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--mode") == 0)
            mode = strcmp(argv[i + 1], "green") == 0     ? MODE_GREEN
                   : strcmp(argv[i + 1], "threads") == 0 ? MODE_THREADS
                                                         : MODE_MIXED;
    }
    if (i < argc && strcmp(argv[i], "serve") == 0)
        return serve();
    if (i < argc && strcmp(argv[i], "plants") == 0) {
        for (int p = 1; p < PLANTS; p++)
            puts(plant_names[p]);
        return 0;
    }
    if (i + 1 < argc && strcmp(argv[i], "golden") == 0) {
        int scripts = 0, failed = 0;
        for (i++; i < argc; i++)
            golden(argv[i], &scripts, &failed);
        printf("golden traces: %d scripts, each run in %d ways; %d differ\n", scripts, runs, failed);
        return failed > 0 || scripts == 0;
    }
    fprintf(stderr, "usage: runner [--mode green|threads|mixed] [--runs N] serve | golden FILE... | plants\n");
    return 2;
}
