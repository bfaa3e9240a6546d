/* The n-th request for memory is refused, for every n of workloads that use every function
 * (faults/covers.sh looks that they do): each call gives GT_ENOMEM, has changed nothing, and works
 * when it is made again; or it works. In the end all has been conserved and given back. Then
 * two refusals at once, and refusals at random under load. The cases named nomem_system have no
 * alloc hook: what the library asks of the C library is refused (system.h). */
#include "nomem.h"
#include "system.h"

#include <unistd.h>

PLANT(refused_is_done, nomem_engine_each_request, "CHECK((s) != NULL) is false");
PLANT(refused_is_done, nomem_time_each_request, "CHECK((s) != NULL) is false");
PLANT(refused_is_done, nomem_runtime_each_request, "gt_runtime_start(&cfg) gave -12, not 0");
PLANT(half_done, nomem_engine_pairs, "now.armed == before->armed is false");
PLANT(half_done, nomem_time_pairs, "now.armed == before->armed is false");
PLANT(refused_is_done, nomem_system_engine_each_request, "CHECK((s) != NULL) is false");
PLANT(refused_is_done, nomem_system_time_each_request, "CHECK((s) != NULL) is false");
PLANT(refused_is_done, nomem_system_first_each_request, "CHECK((s) != NULL) is false");
PLANT(kept, nomem_system_large_each_request, "system_blocks == 0 is false");
PLANT(refused_is_done, nomem_system_runtime_each_request, "gt_runtime_start(&cfg) gave -12, not 0");
PLANT(refused_is_done, nomem_system_spares_each_request, "gt_runtime_start(&cfg) gave -12, not 0");
PLANT_FORGET(nomem_under_load);

struct memory memory;
struct before before;

static int is_denied(int64_t call)
{
    uint64_t r;

    if (call == memory.deny[0] || call == memory.deny[1])
        return 1;
    if (memory.one_in == 0)
        return 0;
    r = atomic_fetch_add(&memory.rng, 0x9e3779b97f4a7c15u);
    return rng_next(&r) % (uint64_t)memory.one_in == 0;
}

static void *hook_alloc(void *ctx, size_t size, size_t align)
{
    void *p = NULL;

    (void)ctx;
    if (is_denied(++memory.calls)) {
        memory.denied++;
        return NULL;
    }
    CHECK_EQ(posix_memalign(&p, align > sizeof(void *) ? align : sizeof(void *), size), 0);
    memset(p, 0xa5, size);
    memory.bytes += (int64_t)size;
    memory.blocks++;
    return p;
}

static void hook_free(void *ctx, void *p, size_t size, size_t align)
{
    (void)ctx;
    (void)align;
    memset(p, 0xdd, size);
    free(p);
    memory.bytes -= (int64_t)size;
    memory.blocks--;
}

void memory_host(gt_host *h)
{
    memset(h, 0, sizeof *h);
    h->size = sizeof *h;
    h->alloc = hook_alloc;
    h->free = hook_free;
}

void memory_start(int64_t first, int64_t second)
{
    memset(&memory, 0, sizeof memory);
    memory.deny[0] = first;
    memory.deny[1] = second;
    memory.rng = test_seed();
    memory_host(&memory.host);
    memset(&before, 0, sizeof before);
}

/* The same without the hook: the library's own requests to the C library are what counts. */
static int count_request(void)
{
    if (!is_denied(++memory.calls))
        return 0;
    memory.denied++;
    return 1;
}

void memory_start_system(int64_t first, int64_t second)
{
    memory_start(first, second);
    memset(&memory.host, 0, sizeof memory.host);
    memory.host.size = sizeof memory.host;
    memory.by_system = 1;
    system_refuses = count_request;
}

void memory_is_back(void)
{
    CHECK_EQ(memory.blocks, 0);
    CHECK_EQ(memory.bytes, 0);
    CHECK_EQ(system_blocks, 0);
    CHECK_EQ(system_mapped, 0);
}

void before_call(struct before *b)
{
    b->denied = memory.denied;
    if (b->s != NULL)
        b->stats = get_stats(b->s);
}

/* The mistake: the refused call has armed something nevertheless. */
static void arm_another(gt_sched *s)
{
    gt_timer *t = NULL;

    for (int i = 0; i < 3 && t == NULL; i++)
        t = gt_timer_new(s, count_run, NULL, NULL);
    for (int i = 0; i < 3 && t != NULL && gt_addtimer(t, GT_MAX_WHEN, 0) != 0; i++) {}
}

int refused(struct before *b, int r, const char *what)
{
    if (r != GT_ENOMEM)
        return 0;
    if (memory.denied == b->denied)
        test_failed(__FILE__, __LINE__, "%s gave GT_ENOMEM though nothing was refused", what);
    CHECK_LT(b->tries++, 6);
    if (planted("refused_is_done"))
        return 0;
    if (b->s == NULL)
        return 1;
    if (planted("half_done"))
        arm_another(b->s);
    check_same_counters(b->s, &b->stats);
    for (int i = 0; i < b->n_ps; i++)
        if (b->ps[i] != NULL)
            CHECK_EQ(gt_verify_timer_heap(b->ps[i]), 0);
    return 1;
}

/* ---- each request in turn, and pairs ---- */

typedef void start_fn(int64_t first, int64_t second);

static void each_request(int64_t (*work)(void), start_fn *start)
{
    int64_t n;

    start(0, 0);
    work();                                /* some things are asked for once in a process: see below */
    start(0, 0);
    n = work();
    CHECK_GT(n, 5);
    for (int64_t i = 1; i <= n; i++) {
        start(i, 0);
        work();
        CHECK_EQ(memory.denied, 1);
    }
    printf("%lld requests\n", (long long)n);
}

static void pairs(int64_t (*work)(void), int count)
{
    uint64_t rng = test_seed();
    int64_t n;

    memory_start(0, 0);
    n = work();
    for (int i = 0; i < count; i++) {
        int64_t first = 1 + (int64_t)rng_below(&rng, (uint64_t)n);
        /* Close together, so that the call that is made again is refused again, or anywhere. */
        int64_t second = first + 1 + (int64_t)rng_below(&rng, i % 2 ? 3 : (uint64_t)n);

        memory_start(first, second);
        work();
    }
}

TEST(nomem_engine_each_request, 120) { each_request(work_engine, memory_start); }
TEST(nomem_engine_pairs, 120) { pairs(work_engine, rounds(150, 5000)); }
TEST(nomem_time_each_request, 120) { each_request(work_time, memory_start); }
TEST(nomem_time_pairs, 120) { pairs(work_time, rounds(300, 10000)); }

TEST(nomem_system_engine_each_request, 120) { each_request(work_engine, memory_start_system); }
TEST(nomem_system_time_each_request, 120) { each_request(work_time, memory_start_system); }
TEST(nomem_system_large_each_request, 120) { each_request(work_large, memory_start_system); }

/* The runtime's sched is made once in a process: each round is a process. */
static int runtime_pipe[2];
static int64_t (*runtime_work)(void);

static void runtime_round(void *arg)
{
    int64_t n;

    (void)arg;
    n = runtime_work();
    CHECK_EQ(write(runtime_pipe[1], &n, sizeof n), (ssize_t)sizeof n);
}

static int64_t runtime_rounds(start_fn *start, int64_t first, int64_t second)
{
    int64_t n = 0;

    start(first, second);
    must_pass_in_child(runtime_round, NULL);
    CHECK_EQ(read(runtime_pipe[0], &n, sizeof n), (ssize_t)sizeof n);
    return n;
}

static void runtime_each_request(int64_t (*work)(void), start_fn *start)
{
    int64_t n;

    runtime_work = work;
    CHECK_EQ(pipe(runtime_pipe), 0);
    n = runtime_rounds(start, 0, 0);
    CHECK_GT(n, 5);
    for (int64_t i = 1; i <= n + 2; i++)   /* its threads come in any order */
        runtime_rounds(start, i, 0);
    for (int64_t i = 1; i <= n; i++)
        runtime_rounds(start, i, i + 1);
    printf("%lld requests\n", (long long)n);
}

TEST(nomem_runtime_each_request, 120) { runtime_each_request(work_runtime, memory_start); }
TEST(nomem_system_runtime_each_request, 120) { runtime_each_request(work_runtime, memory_start_system); }
/* In a process that has not used the library before. */
TEST(nomem_system_first_each_request, 120) { runtime_each_request(work_engine, memory_start_system); }

TEST(nomem_system_spares_each_request, 120) { runtime_each_request(work_spares, memory_start_system); }

/* ---- at random, under load ---- */

TEST(nomem_under_load, 120)
{
    static struct load l;
    struct load_options o = {.name = "no memory", .clock = GT_CLOCK_MONOTONIC, .host = &memory.host,
                             .spinners = 1, .sleepers = 1, .pollers = 1, .nobodys = 1, .thieves = 1,
                             .mutators = 3, .slots = 1500, .spread = 10 * MS, .ps_come_and_go = 1,
                             .threads_come_and_go = 1, .callbacks_act = 1, .enomem = 1};
    int64_t end;

    seed_loads();
    memory_start(0, 0);
    memory.one_in = 3;
    load_start(&l, &o);
    end = mono_now() + rounds(4, 60) * SEC;
    while (mono_now() < end || l_get(l.refused) == 0) {
        sleep_ms(250);
        load_pause(&l);
        load_check(&l);
        load_resume(&l);
    }
    load_end(&l);
    CHECK_EQ(memory.blocks, 0);
    CHECK_EQ(memory.bytes, 0);
    printf("%lld of %lld requests refused, %lld calls\n", (long long)memory.denied,
           (long long)memory.calls, (long long)l_get(l.refused));
}
