/* See halt.h. The victim makes one call; a controller sees it stopped, sends others to work,
 * notes who of them has to wait, and lets it go on. */
#include "halt.h"
#include "system.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

PLANT(no_stop, halt_at_each_hook, "sum.held[S_P] > 0 is false");
PLANT(no_stop, halt_with_each_lock, "nobody was stopped with the lock of");
PLANT(no_stop, halt_at_each_instruction, "nobody was stopped in: add");
PLANT(no_stop, halt_forks_find_whole_timers, "row.held[S_TIMER] > 0 is false");

enum { WORKERS = 6 };

static const char *const section_names[SECTIONS] = {"timer", "P", "slab", "registry", "scheds", "fd",
                                                    "channel", "netpoll", "counters", "scans", "waiters", "bubble",
                                                    "runtime", "deadline"};

/* ---- the victim ---- */

static atomic_int stopped, go;       /* futexes */
static atomic_int over;              /* the victim's call has returned */
static _Atomic int64_t steps, stops, next_stop;
static int stride;                   /* stop at each so many instructions of the library */
static atomic_int by_hook;
static _Thread_local int is_victim;

static void futex_wait(atomic_int *word, int seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL);
}

static void futex_wake(atomic_int *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1); }

/* Async-signal-safe. */
static void halt(void)
{
    int saved = errno;

    if (planted("no_stop"))
        return;                      /* the mistake: nobody is stopped anywhere */
    stops++;
    atomic_store(&go, 0);
    atomic_store(&stopped, 1);
    futex_wake(&stopped);
    while (atomic_load(&go) == 0)
        futex_wait(&go, 0);
    errno = saved;
}

void halt_at_hook(void)
{
    if (is_victim && atomic_load(&by_hook))
        halt();
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
#if defined(__x86_64__)
    uintptr_t ip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    uintptr_t ip = 0;
#endif

    (void)sig;
    (void)info;
#if defined(__x86_64__)
    if (next_stop == INT64_MAX)      /* no stop any more: the rest is not stepped through */
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100LL;
#else
    (void)context;
#endif
    if (ip < lib_begin || ip >= lib_end)
        return;
    if (++steps < next_stop)
        return;
    next_stop = steps + stride;
    halt();
}

static void trap_flag(int on)
{
#if defined(__x86_64__)
    if (on)
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    else
        __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
#else
    (void)on;
#endif
}

struct victim {
    const struct halt_op *op;
    int step, warm;              /* warm: it has worked before */
    atomic_int done;
};

static void *victim_main(void *arg)
{
    struct victim *v = arg;

    if (v->warm)
        work_before();
    is_victim = 1;
    if (v->step)
        trap_flag(1);
    v->op->op();
    if (v->step)
        trap_flag(0);
    is_victim = 0;
    atomic_store(&v->done, 1);
    atomic_store(&over, 1);
    atomic_store(&stopped, 1);
    futex_wake(&stopped);
    return NULL;
}

/* ---- those who work meanwhile ---- */

struct worker {
    pthread_t thread;
    int tid;
    const struct probe *probe;
    uint64_t rng;
    atomic_int wanted, done, stop;
};

static struct worker workers[WORKERS];

static void *worker_main(void *arg)
{
    struct worker *k = arg;

    k->tid = gettid();
    for (;;) {
        int n = atomic_load(&k->wanted);

        if (atomic_load(&k->stop))
            return NULL;
        if (n == atomic_load(&k->done)) {
            futex_wait(&k->wanted, n);
            continue;
        }
        k->probe->fn(&k->rng);
        atomic_store(&k->done, n);
    }
}

static int idle(struct worker *k) { return atomic_load(&k->wanted) == atomic_load(&k->done); }

static void send(struct worker *k, const struct probe *p)
{
    k->probe = p;
    atomic_fetch_add(&k->wanted, 1);
    futex_wake(&k->wanted);
}

/* Is the thread asleep over a lock? 1: in futex(), or in a sleep of a spin lock; 0: not; -1: the
 * kernel does not tell. */
static int asleep(int tid)
{
    char path[64], text[32] = "";
    FILE *f;
    int ok;

    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    f = fopen(path, "r");
    if (f == NULL)
        return -1;
    ok = fgets(text, sizeof text, f) != NULL;
    fclose(f);
    if (!ok)
        return -1;
    if (text[0] < '0' || text[0] > '9')
        return 0;
    return atol(text) == SYS_futex || atol(text) == SYS_clock_nanosleep;
}

/* ---- the controller ---- */

struct row {
    int64_t stops, probes, held[SECTIONS];
};

/* What the controller does at a stop. */
typedef void (*stop_func)(const struct halt_op *op, struct row *row, uint64_t *rng);

static int waits(struct worker *k)
{
    return !idle(k) && (k->probe->section == S_TIMER || asleep(k->tid) != 0);
}

static void before_probe(uint64_t *rng)
{
    (void)rng;
    work_before();
}

static int all_idle(void)
{
    for (int i = 0; i < WORKERS; i++)
        if (!idle(&workers[i]))
            return 0;
    return 1;
}

static void say_who_waits(const struct halt_op *op)
{
    for (int i = 0; i < WORKERS; i++)
        if (!idle(&workers[i]))
            fprintf(stderr, "%s: waits since somebody is stopped in %s\n", workers[i].probe->name, op->name);
    test_failed(__FILE__, __LINE__, "somebody waits who has nothing to do with it");
}

/* A thread's first use of a sched makes its counters, under a lock: done before. */
static void everybody_before(void)
{
    static const struct probe before = {"before", before_probe, SECTIONS, 0};

    for (int i = 0; i < WORKERS; i++)
        send(&workers[i], &before);
    while (!all_idle())
        sched_yield();
}

static const struct probe *probe_of(int section)
{
    int i = 0;

    while (probes[i].section != section)
        i++;
    return &probes[i];
}

/* Half of them are those that tell which lock somebody has. */
static const struct probe *some_probe(uint64_t *rng)
{
    const struct probe *p = &probes[rng_below(rng, (uint64_t)n_probes)];

    while (p->section == SECTIONS && rng_below(rng, 2))
        p = &probes[rng_below(rng, (uint64_t)n_probes)];
    return p;
}

/* The victim is stopped: others work. */
static void at_stop(const struct halt_op *op, struct row *row, uint64_t *rng)
{
    int64_t now = mono_now(), patience = now + (rng_below(rng, 64) == 0 ? 20 : 1) * MS / 3;
    int64_t limit = now + 60 * SEC * (int64_t)test_slow();
    int must = 0;

    row->stops++;
    /* These never wait, wherever the victim stands. */
    row->held[S_TIMER] += gt_timer_status(w.t) == GT_TIMER_LOCKED;
    CHECK_GE(gt_nobarrier_wake_time(w.p), 0);
    CHECK_GT(gt_time_sleep_until(w.s), 0);
    for (int i = 0; i < WORKERS; i++) {
        const struct probe *p = i == 0 && op->section != S_TIMER ? probe_of(op->section) : some_probe(rng);

        if (idle(&workers[i]) && (i == 0 || rng_below(rng, 2))) {
            send(&workers[i], p);
            row->probes++;
        }
    }
    while (!all_idle() && mono_now() < patience)
        sched_yield();
    /* The first one wants the operation's own lock: he has got through or sleeps over it before it is said
     * which, however busy the machine is. */
    while (op->section != S_TIMER && !idle(&workers[0]) && asleep(workers[0].tid) == 0 && mono_now() < limit)
        sched_yield();
    for (int i = 0; i < WORKERS; i++) {
        struct worker *k = &workers[i];

        if (waits(k) && k->probe->section < SECTIONS && k->probe->section != S_TIMER)
            row->held[k->probe->section]++;
        must |= op->alone && k->probe != NULL && k->probe->alone && !idle(k);
    }
    while (must && atomic_load(&forks_under_way) == 0) {   /* a fork waits for all locks, holding some */
        must = 0;
        for (int i = 0; i < WORKERS; i++)
            must |= workers[i].probe != NULL && workers[i].probe->alone && !idle(&workers[i]);
        if (mono_now() > limit)
            say_who_waits(op);
        sched_yield();
    }
}

/* The same, with one alone who works: he wants the operation's own lock. He has got through or
 * sleeps over the lock before it is said which, however busy the machine is. Once he has slept,
 * nobody is stopped any more. */
static void at_stop_alone(const struct halt_op *op, struct row *row, uint64_t *rng)
{
    int64_t limit = mono_now() + 60 * SEC * (int64_t)test_slow();
    struct worker *k = &workers[0];

    (void)rng;
    row->stops++;
    if (op->section == S_TIMER) {
        row->held[S_TIMER] += gt_timer_status(w.t) == GT_TIMER_LOCKED;
    } else {
        if (idle(k)) {
            send(k, probe_of(op->section));
            row->probes++;
        }
        while (!idle(k) && asleep(k->tid) != 1) {
            if (mono_now() > limit)
                test_failed(__FILE__, __LINE__, "%s neither ends nor sleeps, in %s", k->probe->name, op->name);
            sched_yield();
        }
        row->held[op->section] += !idle(k) && !on_the_way;
    }
    if (row->held[op->section] > 0)
        next_stop = INT64_MAX;
}

/* ---- a fork at each instruction of a change ---- */

static atomic_int fork_held, at_gate;
static int stops_left;

/* Registered before the library's own handler, and so called after it: the fork is prepared, and
 * the process is about to be copied. */
static void gate(void)
{
    atomic_store(&at_gate, 1);
    while (atomic_load(&fork_held) && !atomic_load(&over))
        sched_yield();
    atomic_store(&at_gate, 0);
}

__attribute__((constructor)) static void register_gate(void) { pthread_atfork(gate, NULL, NULL); }

/* The victim is in the middle of a change of several words: a fork waits until they are all there. Or
 * it is about to begin with one: then it waits for the fork, however many instructions it is given
 * before the process is copied. */
static void at_stop_fork(const struct halt_op *op, struct row *row, uint64_t *rng)
{
    int64_t limit = mono_now() + 60 * SEC * (int64_t)test_slow();
    struct worker *k = &workers[0];

    row->stops++;
    if (idle(k)) {
        atomic_store(&fork_held, 1);
        stops_left = (int)rng_below(rng, 40);
        send(k, &probe_whole);
        row->probes++;
    }
    for (;;) {
        if (atomic_load(&at_gate)) {
            if (--stops_left >= 0)
                return;                      /* one instruction more */
            atomic_store(&fork_held, 0);
        }
        if (idle(k) || asleep(k->tid) == 1)
            break;
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "%s neither ends nor sleeps, in %s", k->probe->name, op->name);
        sched_yield();
    }
    row->held[S_TIMER] += !idle(k);
}

static void run_once(const struct halt_op *op, struct row *row, int step, int first, stop_func at, uint64_t *rng)
{
    /* What a thread does the first time takes locks of its own. */
    int warm = op->alone || (at == at_stop_alone && op->section != S_BLOCKS);
    struct victim v = {.op = op, .step = step, .warm = warm};
    pthread_t th;

    world_start(op->runtime);
    if (op->setup != NULL)
        op->setup();
    if (warm)
        everybody_before();
    steps = 0;
    next_stop = (int64_t)first + 1;
    atomic_store(&stopped, 0);
    atomic_store(&over, 0);
    atomic_store(&by_hook, !step);
    th = thread_start(victim_main, &v);
    for (;;) {
        while (atomic_load(&stopped) == 0)
            futex_wait(&stopped, 0);
        if (atomic_load(&v.done))
            break;
        atomic_store(&stopped, 0);
        at(op, row, rng);
        atomic_store(&go, 1);
        futex_wake(&go);
    }
    thread_join(th);
    for (int64_t limit = mono_now() + 60 * SEC * (int64_t)test_slow(); !all_idle(); sched_yield())
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "%s is over, and somebody still waits", op->name);
    world_end();
}

static volatile int traps;

static void count_trap(int sig)
{
    (void)sig;
    traps = traps + 1;
}

/* Does a trap after each instruction arrive? */
static int stepping_works(void)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = count_trap;
    CHECK_EQ(sigaction(SIGTRAP, &sa, NULL), 0);
    trap_flag(1);
    for (volatile int i = 0; i < 10; i++) {}
    trap_flag(0);
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = on_trap;
    sa.sa_flags = SA_SIGINFO;
    CHECK_EQ(sigaction(SIGTRAP, &sa, NULL), 0);
    return traps > 10 && lib_end > lib_begin;
}

static void print_row(const char *name, const struct row *r)
{
    printf("%-22s %7lld %7lld", name, (long long)r->stops, (long long)r->probes);
    for (int i = 0; i < SECTIONS; i++)
        printf(" %8lld", (long long)r->held[i]);
    printf("\n");
}

static void print_head(void)
{
    printf("%-22s %7s %7s", "stopped in", "stops", "work");
    for (int i = 0; i < SECTIONS; i++)
        printf(" %8s", section_names[i]);
    printf("\n");
}

static void start_workers(uint64_t *rng)
{
    for (int i = 0; i < WORKERS; i++) {
        workers[i].rng = rng_next(rng);
        workers[i].thread = thread_start(worker_main, &workers[i]);
    }
}

static void stop_workers(void)
{
    for (int i = 0; i < WORKERS; i++) {
        atomic_store(&workers[i].stop, 1);
        atomic_fetch_add(&workers[i].wanted, 1);
        futex_wake(&workers[i].wanted);
        thread_join(workers[i].thread);
    }
}

static struct row run_all(int step)
{
    struct row sum = {0};
    uint64_t rng = test_seed();

    start_workers(&rng);
    print_head();
    for (int i = 0; i < n_halt_ops; i++) {
        struct row row = {0};

        if (step && halt_ops[i].no_step)
            continue;
        if (step) {
            int n;

            stride = INT32_MAX;          /* first without a stop: how long is it? */
            run_once(&halt_ops[i], &row, 1, INT32_MAX, at_stop, &rng);
            stride = steps < 4 * 60 ? 4 : (int)(steps / 60);
            n = rounds(2, stride);       /* in the end, a stop at each instruction */
            for (int k = 0; k < n; k++)
                run_once(&halt_ops[i], &row, 1, n == stride ? k : (int)rng_below(&rng, (uint64_t)stride), at_stop,
                         &rng);
        } else {
            for (int k = 0; k < rounds(60, 300) && row.stops < rounds(300, 3000); k++)
                run_once(&halt_ops[i], &row, 0, 0, at_stop, &rng);
        }
        print_row(halt_ops[i].name, &row);
        if (step && row.stops == 0)
            test_failed(__FILE__, __LINE__, "nobody was stopped in: %s", halt_ops[i].name);
        sum.stops += row.stops;
        sum.probes += row.probes;
        for (int k = 0; k < SECTIONS; k++)
            sum.held[k] += row.held[k];
    }
    print_row("all", &sum);
    stop_workers();
    return sum;
}

TEST(halt_at_each_instruction, 400)
{
    struct row sum;

    if (!stepping_works())
        test_skip("this machine does not step through the library");
    sum = run_all(1);
    /* These are held for long; the others may have been missed: see the next test. */
    CHECK_GT(sum.held[S_TIMER], 0);
    CHECK_GT(sum.held[S_P], 0);
}

/* Each lock is held by somebody who stands still, and who wants it is seen to wait. It is not left
 * to luck: the operation that takes the lock is stopped at each sixteenth instruction, then at
 * each fourth, in the end at each, until it was stopped with the lock. */
TEST(halt_with_each_lock, 400)
{
    uint64_t rng = test_seed();

    if (!stepping_works())
        test_skip("this machine does not step through the library");
    start_workers(&rng);
    print_head();
    for (int i = 0; i < SECTIONS; i++) {
        const struct halt_op *op = halt_ops;
        struct row row = {0};

        while (op->section != i)
            op++;
        for (stride = 16; stride > 0 && row.held[i] == 0; stride /= 4)
            run_once(op, &row, 1, 0, at_stop_alone, &rng);
        print_row(op->name, &row);
        if (row.held[i] == 0)
            test_failed(__FILE__, __LINE__, "nobody was stopped with the lock of: %s", section_names[i]);
    }
    stop_workers();
}

TEST(halt_forks_find_whole_timers, 400)
{
    const struct halt_op *op = halt_ops;
    uint64_t rng = test_seed();
    struct row row = {0};

    if (!stepping_works())
        test_skip("this machine does not step through the library");
    start_workers(&rng);
    while (strcmp(op->name, "mod, all of it") != 0)
        op++;
    stride = 1;
    for (int i = 0; i < rounds(2, 20); i++)
        run_once(op, &row, 1, 0, at_stop_fork, &rng);
    print_head();
    print_row("forks", &row);
    CHECK_GT(row.held[S_TIMER], 0);          /* some forks had to wait */
    CHECK_GT(row.probes, 100);
    stop_workers();
}

TEST(halt_at_each_hook, 400)
{
    struct row sum = run_all(0);

    /* Hooks are called with these held; the timer's own lock is held over none. */
    CHECK_GT(sum.held[S_P], 0);
    CHECK_GT(sum.held[S_SLAB], 0);
    CHECK_GT(sum.held[S_REGISTRY], 0);
    CHECK_GT(sum.held[S_FD], 0);
}
