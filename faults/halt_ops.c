/* The operations in whose middle a thread is stopped (see halt.h), and the world that they work
 * on. */
#include "halt.h"

#include <fcntl.h>
#include <unistd.h>

struct world w;

/* ---- hooks: each is a place to stop at ---- */

static int64_t host_time(void *ctx)
{
    (void)ctx;
    halt_at_hook();
    return T0 + 100 * MS;
}

static void host_yield(void *ctx)
{
    (void)ctx;
    halt_at_hook();
    sched_yield();
}

static void host_pin(void *ctx)
{
    (void)ctx;
    halt_at_hook();
}

static void *host_alloc(void *ctx, size_t size, size_t align)
{
    void *p = NULL;

    (void)ctx;
    halt_at_hook();
    return posix_memalign(&p, align > sizeof p ? align : sizeof p, size) == 0 ? p : NULL;
}

static void host_free(void *ctx, void *p, size_t size, size_t align)
{
    (void)ctx;
    (void)size;
    (void)align;
    halt_at_hook();
    free(p);
}

static uintptr_t host_context(void *ctx)
{
    (void)ctx;
    halt_at_hook();
    return (uintptr_t)pthread_self();
}

static void host_wake(void *ctx, gt_p *p, int64_t when)
{
    (void)ctx;
    CHECK_GE(when, 0);
    halt_at_hook();
    CHECK_EQ(gt_notewakeup(p), 0);
}

/* ---- the world ---- */

gt_netpoll *halt_pd;
static int pipe_fds[2];

void halt_run(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    CHECK_GE(delay, 0);
    ((struct counter *)arg)->runs++;
}

static gt_timer *timer(gt_p *p, int64_t when, int64_t period, struct counter *c, gt_drop_func drop)
{
    gt_timer *t = gt_timer_new(w.s, halt_run, c, drop);

    CHECK(t != NULL);
    if (p != NULL)
        CHECK_EQ(gt_addtimer_on(p, t, when, period), 0);
    return t;
}

void world_start(int runtime)
{
    gt_host host = {.size = sizeof host, .nanotime = host_time, .osyield = host_yield, .acquirem = host_pin,
                    .releasem = host_pin, .alloc = host_alloc, .free = host_free,
                    .current_context = host_context, .wake_netpoller = host_wake};
    gt_config cfg = {.size = sizeof cfg, .clock = GT_CLOCK_HOST, .host = &host};

    memset(&w, 0, sizeof w);
    CHECK((w.s = gt_sched_new(&cfg)) != NULL);
    CHECK((w.p = gt_p_new(w.s)) != NULL);
    CHECK((w.q = gt_p_new(w.s)) != NULL);
    CHECK_GE(gt_p_fd(w.p), 0);
    w.t = timer(NULL, 0, 0, &w.c, count_drop);
    w.v = timer(w.q, FAR, 0, &w.others, NULL);
    for (int i = 0; i < 80; i++) {
        /* u stands in the middle of the heap: at its head and at its end an insertion cleans up. */
        if (i == 10)
            w.u = timer(w.p, FAR + 500, 0, &w.others, NULL);
        w.fill[i] = timer(w.p, FAR + (i < 10 ? i : 1000 + i), 0, &w.others, NULL);
    }
    CHECK((w.chan = gt_sched_new_timer(w.s, 3600 * SEC)) != NULL);
    if (runtime && halt_pd == NULL) {
        CHECK_EQ(pipe2(pipe_fds, O_NONBLOCK), 0);
        CHECK_EQ(gt_runtime_start(NULL), 0);
        CHECK((halt_pd = gt_netpoll_open(pipe_fds[0])) != NULL);
    }
}

static void free_timer(gt_timer **t)
{
    if (*t != NULL)
        CHECK_GE(gt_timer_free(*t), 0);
    *t = NULL;
}

void world_end(void)
{
    check_conserved(w.s);
    CHECK_EQ(gt_verify_timer_heap(w.p), 0);
    if (w.q != NULL)
        CHECK_EQ(gt_verify_timer_heap(w.q), 0);
    free_timer(&w.t);
    free_timer(&w.u);
    free_timer(&w.v);
    free_timer(&w.chan);
    for (int i = 0; i < 8; i++)
        free_timer(&w.due[i]);
    for (int i = 0; i < 80; i++)
        free_timer(&w.fill[i]);
    for (int i = 0; i < w.n_many; i++)
        free_timer(&w.many[i]);
    free(w.many);
    if (w.beside != NULL)
        close_sched(w.beside);
    check_conserved(w.s);
    CHECK_EQ(w.c.drops, 1);
    CHECK_EQ(gt_p_free(w.p), 0);
    if (w.q != NULL)
        CHECK_EQ(gt_p_free(w.q), 0);
    if (w.own != NULL)
        CHECK_EQ(gt_p_free(w.own), 0);
    close_sched(w.s);
}

void work_before(void)
{
    gt_timer *t = timer(NULL, 0, 0, &w.others, NULL);

    CHECK_EQ(gt_addtimer_on(w.q, t, FAR, 0), 0);
    CHECK_EQ(gt_timer_free(t), 1);
}

/* ---- operations ---- */

static void setup_armed(void) { CHECK_EQ(gt_addtimer_on(w.p, w.t, FAR, 0), 0); }

static void setup_stopped(void)
{
    setup_armed();
    CHECK_EQ(gt_deltimer(w.t), 1);
}

/* Due ones of all kinds: one-shot, periodic, made earlier, stopped, detached. */
static void setup_due(void)
{
    gt_timer *detached = timer(w.p, DUE_AT + 3, 0, &w.others, NULL);

    setup_armed();
    CHECK_EQ(gt_resettimer(w.t, DUE_AT, 0), 1);
    w.due[0] = timer(w.p, DUE_AT, 0, &w.others, NULL);
    w.due[1] = timer(w.p, DUE_AT + 1, 7 * MS, &w.others, NULL);
    w.due[2] = timer(w.p, FAR, 0, &w.others, NULL);
    CHECK_EQ(gt_resettimer(w.due[2], DUE_AT + 2, 0), 1);
    w.due[3] = timer(w.p, DUE_AT, 0, &w.others, NULL);
    CHECK_EQ(gt_deltimer(w.due[3]), 1);
    CHECK_EQ(gt_timer_detach(detached), 0);
}

static void setup_messy(void)
{
    setup_armed();
    for (int i = 0; i < 60; i++)
        CHECK_EQ(i % 3 ? gt_resettimer(w.fill[i], FAR - i - 100, 0) : gt_deltimer(w.fill[i]), 1);
}

enum { MANY = 20000 };

/* Makes timers until the library asks for memory, for a chunk of them. Returns how many. */
static int fill_chunk(void)
{
    uint64_t bytes = get_stats(w.s).bytes;
    int n = 0;

    do {
        CHECK_LT(w.n_many, MANY - 2);
        w.many[w.n_many++] = timer(NULL, 0, 0, &w.others, NULL);
        n++;
    } while (get_stats(w.s).bytes == bytes);
    return n;
}

/* The last chunk of timers is full. */
static void setup_many(void)
{
    static int in_a_chunk;

    w.many = calloc(MANY, sizeof *w.many);
    CHECK(w.many != NULL);
    fill_chunk();
    if (in_a_chunk == 0)
        in_a_chunk = fill_chunk();
    for (int i = 1; i < in_a_chunk; i++)
        w.many[w.n_many++] = timer(NULL, 0, 0, &w.others, NULL);
}

static int yes_or_no(int r)
{
    CHECK(r == 0 || r == 1);
    return r;
}

static void op_add(void)
{
    int r = gt_addtimer_on(w.p, w.t, FAR, 0);

    CHECK(r == 0 || r == GT_EALREADY);
}

static void op_grow(void)
{
    w.n_many = 30;
    w.many = calloc(30, sizeof *w.many);
    CHECK(w.many != NULL);
    for (int i = 0; i < 30; i++)
        w.many[i] = timer(w.p, FAR + i, 0, &w.others, NULL);
}

static void op_later(void) { yes_or_no(gt_resettimer(w.t, FAR + 50, 0)); }
static void op_earlier(void) { yes_or_no(gt_resettimer(w.t, FAR - 50 * MS, 0)); }
static void op_periodic(void) { yes_or_no(gt_resettimer(w.t, FAR - 50 * MS, 10)); }
static void op_by_id(void) { yes_or_no(gt_resettimer_id(w.s, gt_timer_id(w.t), FAR - 1, 0)); }

static void op_new_arg(void)
{
    yes_or_no(gt_modtimer(w.t, FAR - 7, 0, halt_run, &w.c2, 9));
    yes_or_no(gt_modtimer(w.t, FAR - 8, 0, halt_run, &w.c, 9));
    w.c.drops = 0;               /* the first one that it had; it has it again */
}

/* Two timers with two settings each, which differ in everything: no callback ever sees something of
 * both. The second one has a drop function: its argument stands elsewhere. */
static struct setting {
    int64_t when, period;
    uintptr_t seq;
    int runs;
} settings[2][2] = {{{FAR + 100 * MS, 7 * MS, 11, 0}, {FAR + 200 * MS, 9 * MS, 22, 0}},
                    {{FAR + 300 * MS, 11 * MS, 33, 0}, {FAR + 400 * MS, 13 * MS, 44, 0}}};

static void runs_as(struct setting *is, int i, uintptr_t seq)
{
    CHECK(is == &settings[0][i] || is == &settings[1][i]);
    CHECK_EQ(seq, is->seq);
    is->runs++;
}

static void runs_as_first(void *arg, uintptr_t seq, int64_t delay)
{
    (void)delay;
    runs_as(arg, 0, seq);
}

static void runs_as_second(void *arg, uintptr_t seq, int64_t delay)
{
    (void)delay;
    runs_as(arg, 1, seq);
}

static void set_all(int t, int i)
{
    struct setting *to = &settings[t][i];

    CHECK_EQ(gt_modtimer(w.due[t], to->when, to->period, i == 0 ? runs_as_first : runs_as_second, to, to->seq), 1);
}

static void no_drop(void *arg) { (void)arg; }

static void setup_all(void)
{
    for (int t = 0; t < 2; t++) {
        w.due[t] = timer(w.p, FAR, 0, &w.others, t == 0 ? NULL : no_drop);
        set_all(t, 0);
    }
}

static void op_all(void)
{
    for (int i = 1; i >= 0; i--) {
        set_all(0, i);
        set_all(1, i);
    }
}

void check_whole(void)
{
    CHECK_EQ(gt_check_timers(w.p, FAR + SEC, NULL, NULL), 1);
    for (int t = 0; t < 2; t++) {
        const struct setting *is = &settings[t][settings[t][1].runs];
        int64_t next = gt_timer_when(w.due[t]);

        CHECK_EQ(settings[t][0].runs + settings[t][1].runs, 1);
        CHECK_GT(next, FAR + SEC);
        CHECK_EQ((next - is->when) % is->period, 0);
    }
}

static void op_slack(void) { CHECK_EQ(gt_timer_set_slack(w.t, 4096), 0); }
static void op_del(void) { yes_or_no(gt_deltimer(w.t)); }

static void op_del_many(void)
{
    for (int i = 0; i < 70; i++)
        yes_or_no(gt_deltimer(w.fill[i]));
}

static void op_sync(void) { yes_or_no(gt_deltimer_sync(w.t)); }

/* A callback that is under way when somebody waits for its end. */
static atomic_int slow_entered;

static void slow_run(void *arg, uintptr_t seq, int64_t delay)
{
    halt_run(arg, seq, delay);
    slow_entered = 1;
    sleep_ms(2);
}

static void *slow_pass(void *arg)
{
    CHECK_GE(gt_check_timers(arg, 0, NULL, NULL), 0);
    return NULL;
}

static pthread_t slow_thread;

static void setup_running(void)
{
    slow_entered = 0;
    CHECK_EQ(gt_modtimer_on(w.q, w.t, DUE_AT, 0, slow_run, &w.c, 1), 0);
    slow_thread = thread_start(slow_pass, w.q);
    WAIT_UNTIL(slow_entered);
}

static void op_sync_running(void)
{
    yes_or_no(gt_deltimer_sync(w.t));
    thread_join(slow_thread);
}

static void sync_itself(void *arg, uintptr_t seq, int64_t delay)
{
    CHECK_GE(delay, 0);
    ((struct counter *)arg)->runs++;
    CHECK_EQ(gt_deltimer_sync((gt_timer *)seq), GT_EDEADLK);
}

/* A thief may have taken it: then it waits for itself there, and we for him. */
void wait_for_itself(gt_p *p, gt_timer *t, struct counter *c)
{
    CHECK_EQ(gt_modtimer_on(p, t, DUE_AT, 0, sync_itself, c, (uintptr_t)t), 0);
    CHECK_GE(gt_check_timers(p, 0, NULL, NULL), 0);
    CHECK_EQ(gt_deltimer_sync(t), 0);
    CHECK_EQ(c->runs, 1);
}

static void setup_own(void)
{
    CHECK((w.own = gt_p_new(w.s)) != NULL);
    w.due[0] = timer(NULL, 0, 0, &w.c2, NULL);
}

static void op_sync_itself(void) { wait_for_itself(w.own, w.due[0], &w.c2); }

static void op_shutdown(void) { yes_or_no(gt_shutdown_timer(w.t)); }

static void op_new_and_free(void)
{
    gt_timer *t = timer(w.p, FAR, 0, &w.others, NULL), *d = timer(w.p, FAR, 0, &w.others, NULL);
    uint64_t id = gt_timer_id(d);

    CHECK_EQ(gt_timer_free(t), 1);
    CHECK_EQ(gt_timer_detach(d), 0);
    CHECK_EQ(gt_deltimer_id(w.s, id), 1);
}

static void op_new_chunk(void)
{
    for (int i = 0; i < 2; i++)
        w.many[w.n_many++] = timer(NULL, 0, 0, &w.others, NULL);
}

static void op_check(void) { CHECK_GE(gt_check_timers(w.p, 0, NULL, NULL), 0); }
static void op_runtimer(void) { CHECK_GE(gt_runtimer(w.p, 0), -1); }
static void op_steal(void) { CHECK_GE(gt_check_others(w.s, w.q, 0, NULL, NULL), 0); }
static void op_adjust(void) { CHECK_EQ(gt_adjusttimers(w.p, 0, 1), 0); }
static void op_clean(void) { CHECK_EQ(gt_cleantimers(w.p), 0); }
static void op_trim(void) { CHECK_GE(gt_trim(w.p), 0); }
static void op_adopt(void) { CHECK_GE(gt_adopt_timers(w.q, w.p), 0); }

static void op_ps(void)
{
    gt_p *p = gt_p_new(w.s);

    CHECK(p != NULL);
    CHECK_EQ(gt_adopt_timers(p, w.p) >= 0, 1);
    CHECK_EQ(gt_p_free(p), 0);
}

static void op_fd(void)
{
    CHECK_GE(gt_p_fd(w.q), 0);
    CHECK_EQ(gt_cleantimers(w.p), 0);
    CHECK_EQ(gt_cleantimers(w.q), 0);
}

static void op_sched(void)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);

    CHECK(p != NULL);
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_PTR_EQ(gt_releasep(), p);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

static void op_bind(void)
{
    CHECK_EQ(gt_acquirep(w.p), 0);
    CHECK_PTR_EQ(gt_current_p(), w.p);
    CHECK_PTR_EQ(gt_releasep(), w.p);
}

static void op_note(void)
{
    while (gt_notetsleep(w.p, T0) == 1) {}
    CHECK_EQ(gt_notewakeup(w.p), 0);
}

static void op_chan(void)
{
    gt_timer *c = gt_sched_new_timer(w.s, 0), *k = gt_sched_new_ticker(w.s, SEC);
    int64_t sent;

    CHECK(c != NULL && k != NULL);
    CHECK_EQ(gt_timer_recv(c, &sent), 0);
    CHECK_GE(gt_timer_fd(c), 0);
    CHECK_EQ(gt_timer_reset(c, 0), 0);
    CHECK_EQ(gt_timer_try_recv(c, &sent), 1);
    CHECK_EQ(gt_timer_stop(k), 1);
    CHECK_EQ(gt_timer_free(c), 0);
    CHECK_EQ(gt_timer_free(k), 0);
    yes_or_no(gt_timer_reset(w.chan, 3600 * SEC));
}

static void op_one_channel(void)
{
    yes_or_no(gt_timer_reset(w.chan, 3600 * SEC));
    CHECK_EQ(gt_timer_try_recv(w.chan, NULL), 0);
    yes_or_no(gt_timer_stop(w.chan));
}

static void setup_bubble(void) { w.beside = virtual_sched(); }

static void op_bubble(void)
{
    gt_sched *s = w.beside;
    gt_timer *t = gt_sched_new_timer(s, 5);

    CHECK(t != NULL);
    CHECK_EQ(gt_synctest_join(s), 0);
    CHECK_EQ(gt_sched_sleep(s, 3), 0);
    CHECK_EQ(gt_timer_recv(t, NULL), 0);
    CHECK_EQ(gt_synctest_wait(s), 0);
    CHECK_EQ(gt_synctest_leave(s), 0);
    CHECK_EQ(gt_timer_free(t), 0);
}

static void op_stats(void)
{
    char json[100];

    CHECK_EQ(get_stats(w.s).early, 0);
    CHECK_GT(gt_stats_json(w.s, json, sizeof json), 0);
}

static void op_netpoll(void)
{
    int64_t now = gt_nanotime(gt_runtime_sched());

    CHECK_EQ(gt_netpoll_set_deadline(halt_pd, GT_READ, now + 3600 * SEC), 0);
    CHECK_EQ(gt_netpoll_set_deadline(halt_pd, GT_READ | GT_WRITE, now), 0);
    CHECK_EQ(gt_netpoll_wait(halt_pd, GT_READ), GT_ETIMEDOUT);
    CHECK_EQ(gt_netpoll_set_deadline(halt_pd, GT_READ | GT_WRITE, 0), 0);
}

static void op_runtime(void)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 2};

    CHECK_EQ(gt_runtime_stop(), 0);
    CHECK_EQ(gt_runtime_start(&cfg), 0);
}

/* It is running: so it is refused, under the runtime's lock. */
static void op_start_again(void) { CHECK_EQ(gt_runtime_start(NULL), GT_EBUSY); }

void arm_ever_earlier(void)
{
    static _Atomic int64_t d = 1000 * 3600 * SEC;
    gt_timer *t = gt_after_func(d -= SEC, halt_run, &w.others, NULL);

    CHECK(t != NULL);
    CHECK_EQ(gt_timer_free(t), 1);
}

static void op_after_func(void)
{
    gt_timer *t = gt_after_func(MS, halt_run, &w.others, NULL);

    CHECK(t != NULL);
    yes_or_no(gt_deltimer_sync(t));
    CHECK_EQ(gt_timer_free(t), 0);
}

const struct halt_op halt_ops[] = {
    {"add", NULL, op_add, 1, 0, 0, S_TIMER},
    {"add, the heap grows", NULL, op_grow, 0, 0, 0, S_TIMER},
    {"add a stopped one", setup_stopped, op_add, 1, 0, 0, S_TIMER},
    {"reset to later", setup_armed, op_later, 1, 0, 0, S_TIMER},
    {"reset to earlier", setup_armed, op_earlier, 1, 0, 0, S_TIMER},
    {"reset, periodic", setup_armed, op_periodic, 1, 0, 0, S_TIMER},
    {"reset by id", setup_armed, op_by_id, 1, 0, 0, S_TIMER},
    {"mod, new argument", setup_armed, op_new_arg, 1, 0, 0, S_TIMER},
    {"mod, all of it", setup_all, op_all, 1, 0, 0, S_TIMER},
    {"slack", setup_armed, op_slack, 1, 0, 0, S_TIMER},
    {"del", setup_armed, op_del, 1, 0, 0, S_TIMER},
    {"del, sweeps", NULL, op_del_many, 0, 0, 0, S_TIMER},
    {"del_sync", setup_armed, op_sync, 1, 0, 0, S_TIMER},
    {"del_sync, running", setup_running, op_sync_running, 0, 0, 0, S_TIMER},
    {"del_sync of itself", setup_own, op_sync_itself, 0, 0, 0, S_WAITERS},
    {"shutdown", setup_armed, op_shutdown, 1, 0, 0, S_TIMER},
    {"new, free, detach", NULL, op_new_and_free, 0, 0, 0, S_TIMER},
    {"new, a new chunk", setup_many, op_new_chunk, 0, 0, 0, S_SLAB},
    {"check", setup_due, op_check, 0, 0, 0, S_TIMER},
    {"runtimer", setup_due, op_runtimer, 0, 0, 0, S_TIMER},
    {"check_others", setup_due, op_steal, 0, 0, 0, S_TIMER},
    {"adjust", setup_messy, op_adjust, 0, 0, 0, S_SCANS},
    {"clean", setup_messy, op_clean, 0, 0, 0, S_P},
    {"trim", setup_messy, op_trim, 0, 0, 0, S_TIMER},
    {"adopt", setup_messy, op_adopt, 0, 0, 0, S_TIMER},
    {"P new, adopt, P free", setup_armed, op_ps, 0, 0, 0, S_REGISTRY},
    {"fd", setup_armed, op_fd, 0, 0, 0, S_FD},
    {"sched new, free", NULL, op_sched, 0, 0, 0, S_TIMER},
    {"bind", NULL, op_bind, 0, 0, 0, S_GLOBAL},
    {"note", NULL, op_note, 0, 0, 0, S_TIMER},
    {"channels", NULL, op_chan, 0, 0, 0, S_CHAN},
    {"one channel", NULL, op_one_channel, 0, 0, 0, S_CHAN},
    {"bubble", setup_bubble, op_bubble, 0, 0, 0, S_BUBBLE},
    {"stats", setup_armed, op_stats, 0, 0, 0, S_BLOCKS},
    {"netpoll", NULL, op_netpoll, 0, 1, 0, S_NETPOLL},
    {"runtime stop, start", NULL, op_runtime, 0, 1, 1, S_TIMER},
    {"after_func", NULL, op_after_func, 0, 1, 0, S_TIMER},
    {"runtime start, refused", NULL, op_start_again, 0, 1, 0, S_RUNTIME},
    {"runtime, earlier", NULL, arm_ever_earlier, 0, 1, 0, S_DEADLINE},
};
const int n_halt_ops = sizeof halt_ops / sizeof *halt_ops;
