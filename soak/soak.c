/* `make soak T=seconds`: everything at once. Several loads (P loops of all kinds, thieves, Ps and
 * threads that come and go, mutators; on the monotonic, the virtual and the host's clock),
 * duels for lost wakes, users of the built-in runtime, and a fork now and then.
 *
 *     soak [--seconds N] [--seed N] [--json FILE]
 *
 * Every second all of it is paused and every arming is accounted for. A line every 10 s, and at
 * the end a table, and the same figures as one JSON line. */
#include "duel.h"
#include "load.h"
#include "users.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int harness_main(int argc, char **argv);   /* of ctests/harness.c; not used here */

enum { LOADS = 4, DUELS = 3 };

static struct load loads[LOADS];
static struct duel duels[DUELS];
static struct users users;
static struct l_gate duel_gate = {.m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER};
static int64_t checks, forks;

/* ---- hooks of one of the loads ---- */

static _Thread_local int pins;

static int64_t host_time(void *ctx)
{
    (void)ctx;
    return mono_now();
}

static void acquirem(void *ctx)
{
    (void)ctx;
    pins++;
}

static void releasem(void *ctx)
{
    (void)ctx;
    CHECK_GT(pins--, 0);
}

static void osyield(void *ctx)
{
    (void)ctx;
    sched_yield();
}

static void hook_wake(void *ctx, gt_p *p, int64_t when)
{
    (void)ctx;
    CHECK_EQ(pins, 0);
    CHECK_GE(when, 0);
    CHECK_EQ(gt_notewakeup(p), 0);
}

static uintptr_t context(void *ctx)
{
    (void)ctx;
    return (uintptr_t)&pins;
}

static int preempt_stop(void *ctx)
{
    (void)ctx;
    return mono_now() % 8 == 0;
}

static const gt_host hooks = {.size = sizeof hooks, .nanotime = host_time, .wake_netpoller = hook_wake,
                              .osyield = osyield, .acquirem = acquirem, .releasem = releasem,
                              .current_context = context, .preempt_stop = preempt_stop};

static const struct load_options options[LOADS] = {
    {.name = "monotonic", .clock = GT_CLOCK_MONOTONIC, .spinners = 1, .sleepers = 2, .pollers = 1,
     .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 600, .spread = 20 * L_MS,
     .ps_come_and_go = 1, .threads_come_and_go = 1, .callbacks_act = 1},
    {.name = "virtual", .clock = GT_CLOCK_VIRTUAL, .spinners = 1, .sleepers = 2, .pollers = 1,
     .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 600, .spread = 20 * L_MS,
     .ps_come_and_go = 1, .threads_come_and_go = 1, .callbacks_act = 1},
    /* Nobody steals here: a timer whose P is not woken stays where it is. */
    {.name = "sleepers", .clock = GT_CLOCK_MONOTONIC, .sleepers = 3, .pollers = 2, .mutators = 2,
     .slots = 40, .spread = 5 * L_MS, .ps_come_and_go = 1, .callbacks_act = 1},
    {.name = "hooks", .clock = GT_CLOCK_HOST, .host = &hooks, .spinners = 1, .sleepers = 1, .nobodys = 1,
     .thieves = 1, .mutators = 1, .slots = 4000, .spread = 200 * L_MS, .ps_come_and_go = 1,
     .threads_come_and_go = 1, .callbacks_act = 1},
};

/* ---- a second of it ---- */

static void pause_all(void)
{
    for (int i = 0; i < LOADS; i++)
        load_pause(&loads[i]);
    l_gate_pause(&duel_gate, "duels");
    users_pause(&users);
}

static void resume_all(void)
{
    for (int i = 0; i < LOADS; i++)
        load_resume(&loads[i]);
    l_gate_resume(&duel_gate);
    users_resume(&users);
}

static void check_all(int64_t second)
{
    pause_all();
    for (int i = 0; i < LOADS; i++)
        load_check(&loads[i]);
    for (int i = 0; i < DUELS; i++)
        check_conserved(duels[i].s);
    users_check(&users, second % 3 == 2);
    checks++;
    resume_all();
}

/* The child repairs and looks at everything, whatever the threads that it lost were doing. */
static void fork_once(void)
{
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        alarm(120 * test_slow());
        for (int i = 0; i < LOADS; i++)
            load_check_child(&loads[i]);
        users_check_child(&users);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    if (status != 0)
        test_failed(__FILE__, __LINE__, "a fork child ended with wait status %#x", (unsigned)status);
    forks++;
}

/* ---- figures ---- */

static int64_t total(uint64_t (*of)(const gt_stats *))
{
    int64_t n = 0;
    gt_stats st;

    for (int i = 0; i < LOADS; i++) {
        st = get_stats(loads[i].s);
        n += (int64_t)of(&st);
    }
    for (int i = 0; i < DUELS; i++) {
        st = get_stats(duels[i].s);
        n += (int64_t)of(&st);
    }
    st = get_stats(gt_runtime_sched());
    return n + (int64_t)of(&st);
}

static uint64_t armed(const gt_stats *s) { return s->armed; }
static uint64_t fired(const gt_stats *s) { return s->fired; }
static uint64_t ticks(const gt_stats *s) { return s->ticks; }
static uint64_t stopped(const gt_stats *s) { return s->stopped; }
static uint64_t replaced(const gt_stats *s) { return s->replaced; }
static uint64_t steals(const gt_stats *s) { return s->steals; }
static uint64_t wakes(const gt_stats *s) { return s->wakes; }
static uint64_t early(const gt_stats *s) { return s->early; }

#define SUM_LOADS(field_) (l_get(loads[0].field_) + l_get(loads[1].field_) + l_get(loads[2].field_) + l_get(loads[3].field_))
#define SUM_DUELS(field_) (l_get(duels[0].field_) + l_get(duels[1].field_) + l_get(duels[2].field_))

static int64_t worst_lateness(void)
{
    int64_t late = l_get(users.late_max);

    for (int i = 0; i < LOADS; i++)
        if (l_get(loads[i].late_max) > late)
            late = l_get(loads[i].late_max);
    for (int i = 0; i < DUELS; i++)
        if (l_get(duels[i].late_max) > late)
            late = l_get(duels[i].late_max);
    return late;
}

struct figure {
    const char *name, *text;
    int64_t value;
};

enum { FIGURES = 25 };

static int collect(struct figure *f, int64_t seconds)
{
    const struct figure all[] = {
        {"seconds", "seconds", seconds},
        {"seed", "seed", (int64_t)load_seed},
        {"checks", "pauses in which every arming was accounted for", checks},
        {"armed", "armings", total(armed)},
        {"fired", "one-shots fired, values received", total(fired)},
        {"ticks", "ticks", total(ticks)},
        {"stopped", "armings stopped", total(stopped)},
        {"replaced", "armings replaced", total(replaced)},
        {"steals", "timers run by thieves", total(steals)},
        {"wakes", "wakes", total(wakes)},
        {"early", "fired early", total(early)},
        {"late_max_us", "worst lateness, us", worst_lateness() / L_US},
        {"duels", "duels: a single timer against a sleeper", SUM_DUELS(rounds)},
        {"ps", "Ps made", SUM_LOADS(ps_made)},
        {"threads", "threads made", SUM_LOADS(threads_made)},
        {"adopted", "timers adopted", SUM_LOADS(adopted)},
        {"self_acts", "callbacks that re-armed or freed their own timer", SUM_LOADS(self_acts)},
        {"forks", "forks, whose child ran what was due", forks},
        {"runtime_stops", "runtime stopped and started", l_get(users.restarts)},
        {"sleeps", "sleeps", l_get(users.sleeps)},
        {"values", "values received from timers and tickers", l_get(users.values) + l_get(users.ticks)},
        {"functions", "functions armed with gt_after_func", l_get(users.funcs_armed)},
        {"waits", "waits for sockets", l_get(users.waits)},
        {"timeouts", "of these, ended by a deadline", l_get(users.timeouts)},
        {"bubbles", "bubbles in which hours went by", l_get(users.dreams)},
    };

    CHECK_EQ(sizeof all / sizeof *all, FIGURES);
    memcpy(f, all, sizeof all);
    return FIGURES;
}

static void print_json(FILE *out, const struct figure *f, int n)
{
    for (int i = 0; i < n; i++)
        fprintf(out, "%s\"%s\": %lld", i == 0 ? "{" : ", ", f[i].name, (long long)f[i].value);
    fprintf(out, "}\n");
}

static void report(int64_t seconds, const char *json)
{
    struct figure f[FIGURES];
    int n = collect(f, seconds);

    printf("\n");
    for (int i = 0; i < n; i++)
        printf("%-52s %15lld\n", f[i].text, (long long)f[i].value);
    printf("\n");
    print_json(stdout, f, n);
    if (json != NULL) {
        FILE *out = fopen(json, "w");

        if (out == NULL) {
            perror(json);
            exit(2);
        }
        print_json(out, f, n);
        fclose(out);
    }
}

static int64_t number(const char *arg)
{
    char *end = NULL;
    long long n = arg != NULL ? strtoll(arg, &end, 0) : 0;

    if (arg == NULL || *arg == '\0' || *end != '\0') {
        fprintf(stderr, "soak: usage: soak [--seconds N] [--seed N] [--forks PER-SECOND] [--json FILE]\n");
        exit(2);
    }
    return n;
}

static void sleep_until(int64_t when)
{
    int64_t left = when - mono_now();

    if (left > 0)
        sleep_ms((int)(left / L_MS));
}

int main(int argc, char **argv)
{
    int64_t seconds = 60, forks_each = 1, begin;
    const char *json = NULL;
    uint64_t entropy = (uint64_t)mono_now() ^ ((uint64_t)getpid() << 40);

    load_seed = rng_next(&entropy) >> 16;
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = number(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            load_seed = (uint64_t)number(argv[i + 1]);
        else if (strcmp(argv[i], "--forks") == 0)
            forks_each = number(argv[i + 1]);
        else if (strcmp(argv[i], "--json") == 0 && argv[i + 1] != NULL)
            json = argv[i + 1];
        else
            number(NULL);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("soak: %lld s, seed %llu\n", (long long)seconds, (unsigned long long)load_seed);
    for (int i = 0; i < LOADS; i++)
        load_start(&loads[i], &options[i]);
    duel_gate.running = DUELS;
    for (int i = 0; i < DUELS; i++)
        duel_start(&duels[i], i == DUELS - 1, load_seed + (uint64_t)i, &duel_gate);
    users_start(&users, 6);
    begin = mono_now();
    for (int64_t s = 1; s <= seconds; s++) {
        for (int64_t i = 0; i < forks_each; i++) {
            sleep_until(begin + (s - 1) * L_SEC + (i + 1) * L_SEC / (forks_each + 1));
            fork_once();
        }
        sleep_until(begin + s * L_SEC);
        check_all(s);
        if (s % 10 == 0)
            printf("%5lld s: %lld armings, %lld fired, %lld ticks, %lld duels, %lld functions, %lld forks, "
                   "worst lateness %lld us\n", (long long)s, (long long)total(armed), (long long)total(fired),
                   (long long)total(ticks), (long long)SUM_DUELS(rounds), (long long)l_get(users.funcs_armed),
                   (long long)forks, (long long)(worst_lateness() / L_US));
    }
    users_end(&users);
    seconds = (mono_now() - begin) / L_SEC;
    report(seconds, json);
    for (int i = 0; i < DUELS; i++)
        duel_end(&duels[i]);
    for (int i = 0; i < LOADS; i++)
        load_end(&loads[i]);
    printf("soak: passed, %lld s\n", (long long)seconds);
    return 0;
}
