/* Package time against a model that is written down plainly: random operations on function
 * timers, channel timers and tickers, on the virtual clock; after each, result, value and
 * counters must be the model's (rule S15, and conservation with channel timers). */
#include "rtkit.h"

#define TIMERS 24

struct model {
    enum { NONE, FUNC, CHAN, TICKER } kind;
    gt_timer *t;
    uint64_t id;
    int64_t when, period;    /* when: 0 not armed */
    int64_t value;           /* 0: the channel is empty */
    int runs, has_fd;
    struct counter c;
};

static struct model m[TIMERS];
static gt_sched *s;
static int64_t now;
static uint64_t rng, armed, fired, stopped, replaced;

static int64_t add(int64_t a, int64_t b) { return b > INT64_MAX - a ? INT64_MAX : a + b; }

/* What is due by now happens. Func timers run, channel timers send into an empty channel. */
static void model_run(void)
{
    for (int i = 0; i < TIMERS; i++) {
        struct model *x = &m[i];

        if (x->kind == NONE || x->when == 0 || x->when > now || x->when == INT64_MAX)
            continue;
        if (x->kind == FUNC) {
            x->runs++;
            fired++;
        } else if (x->value == 0)
            x->value = x->when;
        if (x->kind == TICKER) {
            int64_t k = (now - x->when) / x->period;

            x->when = k >= (INT64_MAX - x->when) / x->period ? INT64_MAX : x->when + x->period * (k + 1);
        } else
            x->when = 0;
    }
}

/* An arming ends here without having fired; says whether there was one. */
static int model_end(struct model *x, uint64_t *count)
{
    int was = x->when != 0 || (x->kind == CHAN && x->value != 0);

    x->when = 0;
    x->value = 0;
    *count += (uint64_t)was;
    return was;
}

static int64_t random_d(void)
{
    switch (rng_below(&rng, 12)) {
    case 0: return 0;
    case 1: return -(int64_t)rng_below(&rng, 1000);
    case 2: return INT64_MIN;
    case 3: return INT64_MAX - (int64_t)rng_below(&rng, 5);
    case 4: return INT64_MAX - now + (int64_t)rng_below(&rng, 3) - 1;
    case 5: return 1 + (int64_t)rng_below(&rng, 100000);
    default: return 1 + (int64_t)rng_below(&rng, 200);
    }
}

static void make(struct model *x)
{
    int64_t d = random_d();

    memset(x, 0, sizeof *x);
    x->kind = FUNC + (int)rng_below(&rng, 3);
    if (x->kind == TICKER && d <= 0) {
        CHECK_PTR_EQ(gt_sched_new_ticker(s, d), NULL);
        CHECK_EQ(gt_last_error(), GT_EINVAL);
        x->kind = NONE;
        return;
    }
    x->t = must(x->kind == FUNC   ? gt_sched_after_func(s, d, count_run, &x->c, count_drop)
                : x->kind == CHAN ? gt_sched_new_timer(s, d)
                                  : gt_sched_new_ticker(s, d));
    x->id = gt_timer_id(x->t);
    x->when = add(now, d > 0 ? d : 0);
    x->period = x->kind == TICKER ? d : 0;
    armed++;
}

static void stop(struct model *x)
{
    int r = rng_below(&rng, 4) ? gt_timer_stop(x->t) : gt_timer_stop_id(s, x->id);

    CHECK_EQ(r, model_end(x, &stopped));
}

static void reset(struct model *x)
{
    int64_t d = random_d();
    int r = rng_below(&rng, 4) ? gt_timer_reset(x->t, d) : gt_timer_reset_id(s, x->id, d);

    if (x->kind == TICKER && d <= 0) {
        CHECK_EQ(r, GT_EINVAL);
        return;
    }
    CHECK_EQ(r, model_end(x, &replaced));
    armed++;
    x->when = add(now, d > 0 ? d : 0);
    if (x->kind == TICKER)
        x->period = d;
}

static void receive(struct model *x)
{
    int64_t sent = -1;
    int how = (int)rng_below(&rng, 3);

    if (x->kind == FUNC) {
        CHECK_EQ(gt_timer_try_recv(x->t, &sent), GT_EINVAL);
        return;
    }
    if (how == 0 && x->value != 0)
        CHECK_EQ(gt_timer_recv(x->t, &sent), 0);
    else
        CHECK_EQ(how == 1 ? gt_timer_try_recv_id(s, x->id, &sent) : gt_timer_try_recv(x->t, &sent), x->value != 0);
    CHECK_EQ(sent, x->value != 0 ? x->value : -1);
    if (x->value != 0 && x->kind == CHAN)
        fired++;
    x->value = 0;
}

static void unmake(struct model *x)
{
    int was = model_end(x, &stopped);

    CHECK_EQ(rng_below(&rng, 4) ? gt_timer_free(x->t) : gt_timer_free_id(s, x->id), was);
    CHECK_EQ(gt_timer_stop_id(s, x->id), GT_ESTALE);
    if (x->kind == FUNC) {
        CHECK_EQ(x->c.runs, x->runs);
        CHECK_EQ(x->c.drops, 1);
    }
    x->kind = NONE;
}

static void step(void)
{
    struct model *x = &m[rng_below(&rng, TIMERS)];
    int64_t d;

    if (rng_below(&rng, 4) == 0) {
        d = (int64_t)rng_below(&rng, rng_below(&rng, 10) ? 60 : 3000);
        now += d;
        CHECK_GE(gt_sched_advance(s, d), 0);
        return;
    }
    if (x->kind == NONE) {
        make(x);
        return;
    }
    switch (rng_below(&rng, 10)) {
    case 0: unmake(x); break;
    case 1:
    case 2: stop(x); break;
    case 3:
    case 4:
    case 5: reset(x); break;
    case 6:
        if (x->kind != FUNC) {
            CHECK_GE(gt_timer_fd(x->t), 0);
            x->has_fd = 1;
        }
        break;
    default: receive(x); break;
    }
}

/* What everybody can see agrees with the model. Timers in a heap are run first: one that is
 * armed for now waits for a pass. */
static void compare(void)
{
    uint64_t pending = 0;
    gt_stats st;

    CHECK_GE(gt_sched_advance(s, 0), 0);
    model_run();
    for (int i = 0; i < TIMERS; i++) {
        struct model *x = &m[i];

        if (x->kind == NONE)
            continue;
        pending += x->when != 0 || (x->kind == CHAN && x->value != 0);
        if (x->kind == FUNC) {
            CHECK_EQ(x->c.runs, x->runs);
            CHECK_EQ(gt_timer_when(x->t), x->when);
        }
        if (x->has_fd)
            CHECK_EQ(readable(gt_timer_fd(x->t)), x->value != 0);
    }
    st = get_stats(s);
    CHECK_EQ(st.armed, armed);
    CHECK_EQ(st.fired, fired);
    CHECK_EQ(st.stopped, stopped);
    CHECK_EQ(st.replaced, replaced);
    CHECK_EQ(st.pending, pending);
    CHECK_EQ(st.early, 0);
}

static void run_model(int ps, int steps)
{
    gt_p *p[2];

    memset(m, 0, sizeof m);
    armed = fired = stopped = replaced = 0;
    s = virtual_sched();
    now = T0;
    for (int i = 0; i < ps; i++)
        p[i] = new_p(s);
    for (int i = 0; i < steps; i++) {
        step();
        compare();
        for (int k = 0; k < ps; k++)
            CHECK_EQ(gt_verify_timer_heap(p[k]), 0);
    }
    for (int i = 0; i < TIMERS; i++)
        if (m[i].kind != NONE)
            unmake(&m[i]);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 0);
    for (int k = 0; k < ps; k++)
        free_p(p[k]);
    close_sched(s);
}

TEST(time_model_without_a_p, 60)
{
    rng = test_seed();
    for (int round = 0; round < 20; round++)
        run_model(0, 1000 / (int)test_slow() + 50);
}

TEST(time_model_one_p, 60)
{
    rng = test_seed() + 1;
    for (int round = 0; round < 20; round++)
        run_model(1, 1000 / (int)test_slow() + 50);
}

TEST(time_model_two_ps, 60)
{
    rng = test_seed() + 2;
    for (int round = 0; round < 20; round++)
        run_model(2, 1000 / (int)test_slow() + 50);
}
