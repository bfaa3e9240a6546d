/* The public functions around the timers: versions, error texts, scheds, Ps, counters,
 * lateness, fork. Each is called at least once and its meaning checked. The timers' own
 * functions are in test_api_timers.c, clocks and sleeping in test_clocks.c. */
#include "support.h"

#include <errno.h>
#include <sys/wait.h>

uint32_t header_alone(gt_stats *st);
int64_t header_twice(void);
int header_cpp(void);

static gt_sched *sched_with(uint32_t verify, uint32_t lateness)
{
    gt_config cfg;
    gt_sched *s;

    memset(&cfg, 0, sizeof cfg);
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    cfg.verify = verify;
    cfg.lateness = lateness;
    s = gt_sched_new(&cfg);
    CHECK(s != NULL);
    return s;
}

/* ---- versions, errors ---- */

TEST(api_version, 5)
{
    char text[32];
    gt_stats st;

    snprintf(text, sizeof text, "%d.%d.%d", GT_VERSION_MAJOR, GT_VERSION_MINOR, GT_VERSION_PATCH);
    CHECK_STR_EQ(GT_VERSION, text);
    CHECK_STR_EQ(gt_version_string(), text);
    CHECK_EQ(gt_version(), GT_VERSION_MAJOR << 16 | GT_VERSION_MINOR << 8 | GT_VERSION_PATCH);
    CHECK_EQ(header_alone(&st), gt_version());
    CHECK_EQ(header_twice(), INT64_MAX);
    CHECK_EQ(header_cpp(), 1);
}

TEST(api_constants, 5)
{
    CHECK_EQ(GT_MAX_WHEN, INT64_MAX);
    CHECK_EQ(GT_VIRTUAL_EPOCH, 946684800000000000);
    CHECK_EQ(GT_TIMER_REMOVED, 0);
    CHECK_EQ(GT_TIMER_WAITING, 1);
    CHECK_EQ(GT_TIMER_MODIFIED, 2);
    CHECK_EQ(GT_TIMER_LOCKED, 3);
    CHECK_EQ(GT_CLOCK_MONOTONIC, 0);
    CHECK_EQ(GT_CLOCK_VIRTUAL, 4);
    CHECK_EQ(offsetof(gt_host, size), 0);
    CHECK_EQ(offsetof(gt_config, size), 0);
    CHECK_EQ(offsetof(gt_stats, size), 0);
}

static const int errors[] = {
    GT_ENOMEM, GT_EFAULT, GT_EBUSY,      GT_EXDEV,     GT_EINVAL,   GT_EMFILE, GT_ENOSPC,
    GT_EDEADLK, GT_EOPNOTSUPP, GT_ESHUTDOWN, GT_EALREADY, GT_ESTALE, GT_EFORK,
};

TEST(api_errors_are_errno, 5)
{
    CHECK_EQ(GT_ENOMEM, -ENOMEM);
    CHECK_EQ(GT_EFAULT, -EFAULT);
    CHECK_EQ(GT_EBUSY, -EBUSY);
    CHECK_EQ(GT_EXDEV, -EXDEV);
    CHECK_EQ(GT_EINVAL, -EINVAL);
    CHECK_EQ(GT_EMFILE, -EMFILE);
    CHECK_EQ(GT_ENOSPC, -ENOSPC);
    CHECK_EQ(GT_EDEADLK, -EDEADLK);
    CHECK_EQ(GT_EOPNOTSUPP, -EOPNOTSUPP);
    CHECK_EQ(GT_ESHUTDOWN, -ESHUTDOWN);
    CHECK_EQ(GT_EALREADY, -EALREADY);
    CHECK_EQ(GT_ESTALE, -ESTALE);
    CHECK_EQ(GT_EFORK, -1024);
}

static const int rules[] = {
    GT_RULE_ORDER, GT_RULE_OWNER, GT_RULE_KEY, GT_RULE_STATE, GT_RULE_DELETED, GT_RULE_EARLY,
};

TEST(api_strerror_of_rules, 5)
{
    int n = (int)(sizeof rules / sizeof rules[0]);

    for (int i = 0; i < n; i++) {
        const char *text = gt_strerror(rules[i]);

        CHECK_GT(rules[i], 0);
        CHECK(text != NULL && text[0] != '\0');
        CHECK(strcmp(text, gt_strerror(99999)) != 0);
        CHECK(strcmp(text, gt_strerror(0)) != 0);
        for (int k = 0; k < i; k++)
            CHECK(rules[i] != rules[k] && strcmp(text, gt_strerror(rules[k])) != 0);
    }
}

TEST(api_strerror, 5)
{
    const char *unknown = gt_strerror(-99999);
    int n = (int)(sizeof errors / sizeof errors[0]);

    CHECK(unknown != NULL && unknown[0] != '\0');
    CHECK(gt_strerror(0) != NULL && gt_strerror(0)[0] != '\0');
    for (int i = 0; i < n; i++) {
        const char *text = gt_strerror(errors[i]);

        CHECK(text != NULL && text[0] != '\0');
        CHECK(strcmp(text, unknown) != 0);
        CHECK(strcmp(text, gt_strerror(0)) != 0);
        CHECK_PTR_EQ(gt_strerror(errors[i]), text);   /* static */
        for (int k = 0; k < i; k++)
            CHECK(strcmp(text, gt_strerror(errors[k])) != 0);
    }
    for (int any = -2000; any < 2000; any++)
        CHECK(gt_strerror(any) != NULL);
    CHECK(gt_strerror(INT32_MIN) != NULL && gt_strerror(INT32_MAX) != NULL);
}

static void *fails_elsewhere(void *arg)
{
    (void)arg;
    CHECK(gt_p_new(NULL) == NULL);
    CHECK_EQ(gt_last_error(), GT_EINVAL);
    return NULL;
}

TEST(api_last_error_is_per_thread, 5)
{
    struct alloc_hook a = {0};

    CHECK_EQ(gt_last_error(), 0);
    a.deny_all = 1;
    CHECK(alloc_hook_sched(&a, GT_CLOCK_VIRTUAL) == NULL);
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
    thread_join(thread_start(fails_elsewhere, NULL));
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
}

/* ---- scheds ---- */

TEST(api_sched_defaults, 5)
{
    gt_sched *s = gt_sched_new(NULL);
    int64_t before, t, after;

    CHECK(s != NULL);
    before = mono_now();
    t = gt_nanotime(s);
    after = mono_now();
    CHECK_GT(t, 0);
    CHECK_LE(gt_nanotime(s) - t, after - before + 60 * SEC);
    CHECK_GE(gt_nanotime(s), t);
    CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
    CHECK_EQ(gt_overdue(s, 0), 0);
    close_sched(s);
}

TEST(api_sched_verify_on, 20)
{
    gt_sched *s = sched_with(1, 0);
    gt_p *p = gt_p_new(s);
    gt_timer *t[50];
    struct counter c = {0};
    uint64_t rng = test_seed();

    for (int i = 0; i < 50; i++) {
        t[i] = gt_timer_new(s, count_run, &c, NULL);
        CHECK_EQ(gt_addtimer(t[i], T0 + 1 + (int64_t)rng_below(&rng, 1000), 0), 0);
    }
    for (int i = 0; i < 50; i += 2)
        CHECK_EQ(gt_resettimer(t[i], T0 + 1 + (int64_t)rng_below(&rng, 1000), 0), 1);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    CHECK_EQ(gt_sched_advance(s, 1000), 1);
    CHECK_EQ(c.runs, 50);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(gt_timer_free(t[i]), 0);
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(api_sleep_until_and_overdue, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    gt_timer *u = gt_timer_new(s, count_run, &c, NULL);

    CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 50, 0), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 50);
    CHECK_EQ(gt_addtimer_on(q, u, T0 + 30, 0), 0);
    CHECK_EQ(gt_time_sleep_until(s), T0 + 30);
    CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 50);
    CHECK_EQ(gt_nobarrier_wake_time(q), T0 + 30);
    CHECK_EQ(gt_overdue(s, 0), 0);
    CHECK_EQ(gt_overdue(s, T0 + 29), 0);
    CHECK_EQ(gt_overdue(s, T0 + 30), 0);
    CHECK_EQ(gt_overdue(s, T0 + 37), 7);
    CHECK_EQ(gt_sched_set_time(s, T0 + 100), 0);
    CHECK_EQ(gt_overdue(s, 0), 70);
    CHECK_EQ(gt_check_timers(q, 0, NULL, NULL), 1);
    CHECK_EQ(gt_overdue(s, 0), 50);
    CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
    CHECK_EQ(gt_overdue(s, 0), 0);
    CHECK_EQ(gt_time_sleep_until(s), GT_MAX_WHEN);
    CHECK_EQ(gt_nobarrier_wake_time(p), 0);
    gt_timer_free(t);
    gt_timer_free(u);
    gt_p_free(p);
    gt_p_free(q);
    close_sched(s);
}

/* ---- counters ---- */

TEST(api_stats, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    gt_timer *u = gt_timer_new(s, count_run, &c, NULL);
    gt_stats st = get_stats(s);

    CHECK_EQ(st.armed + st.fired + st.stopped + st.replaced + st.pending + st.ticks, 0);
    CHECK_EQ(st.timers, 2);
    CHECK_GT(st.bytes, 0);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    CHECK_EQ(gt_resettimer(t, T0 + 20, 0), 1);           /* replaced */
    CHECK_EQ(gt_addtimer_on(q, u, T0 + 10, 10), 0);
    st = get_stats(s);
    CHECK_EQ(st.armed, 3);
    CHECK_EQ(st.replaced, 1);
    CHECK_EQ(st.pending, 2);
    CHECK_EQ(gt_check_timers(p, T0 + 20, NULL, NULL), 1); /* t fires */
    CHECK_EQ(gt_check_others(s, p, T0 + 20, NULL, NULL), 1); /* u ticks, stolen */
    CHECK_EQ(gt_check_others(s, p, T0 + 30, NULL, NULL), 1);
    st = get_stats(s);
    CHECK_EQ(st.fired, 1);
    CHECK_EQ(st.ticks, 2);
    CHECK_EQ(st.steals, 2);
    CHECK_EQ(st.pending, 1);
    CHECK_EQ(gt_deltimer(u), 1);
    st = get_stats(s);
    CHECK_EQ(st.stopped, 1);
    CHECK_EQ(st.pending, 0);
    CHECK_LE(st.zombies, 1);
    CHECK_EQ(st.zombies, gt_p_deleted_timers(p) + gt_p_deleted_timers(q));
    CHECK_EQ(st.early, 0);
    check_conserved(s);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_timer_free(u), 0);
    CHECK_GE(gt_trim(q), 0);
    CHECK_EQ(get_stats(s).zombies, 0);
    CHECK_EQ(get_stats(s).timers, 0);
    gt_p_free(p);
    gt_p_free(q);
    close_sched(s);
}

TEST(api_stats_of_an_older_program, 5)
{
    /* A program built when the struct ended before `zombies`: nothing behind is written. */
    gt_sched *s = virtual_sched();
    gt_stats st;
    const unsigned char *raw = (const unsigned char *)&st;

    memset(&st, 0xee, sizeof st);
    st.size = offsetof(gt_stats, zombies);
    CHECK_EQ(gt_stats_get(s, &st), 0);
    CHECK_EQ(st.armed, 0);
    CHECK_EQ(st.ticks, 0);
    for (size_t i = offsetof(gt_stats, zombies); i < sizeof st; i++)
        CHECK_EQ(raw[i], 0xee);
    close_sched(s);
}

static uint64_t json_number(const char *json, const char *key)
{
    char quoted[40];
    const char *at;

    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    CHECK_HAS(json, quoted);
    at = strstr(json, quoted) + strlen(quoted);
    return strtoull(at, NULL, 10);
}

TEST(api_stats_json, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    char buf[2000], small[16];
    int need, depth = 0;

    for (int i = 1; i <= 7; i++)
        CHECK_GE(gt_resettimer(t, T0 + i, 0), 0);
    need = gt_stats_json(s, NULL, 0);
    CHECK_GT(need, 50);
    CHECK_LT(need, sizeof buf);
    memset(buf, 'x', sizeof buf);
    CHECK_EQ(gt_stats_json(s, buf, sizeof buf), need);
    CHECK_EQ(strlen(buf), need);
    CHECK_EQ(buf[0], '{');
    CHECK_EQ(buf[need - 1], '}');
    CHECK_EQ(buf[need + 1], 'x');
    for (const char *at = buf; *at != '\0'; at++)
        depth += (*at == '{') - (*at == '}');
    CHECK_EQ(depth, 0);
    CHECK_EQ(json_number(buf, "armed"), 7);
    CHECK_EQ(json_number(buf, "replaced"), 6);
    CHECK_EQ(json_number(buf, "pending"), 1);
    CHECK_EQ(json_number(buf, "timers"), 1);
    CHECK_EQ(json_number(buf, "fired") + json_number(buf, "stopped") + json_number(buf, "ticks"), 0);
    CHECK_EQ(json_number(buf, "early"), 0);
    CHECK_EQ(json_number(buf, "bytes"), get_stats(s).bytes);
    CHECK_HAS(buf, "\"zombies\":");
    CHECK_HAS(buf, "\"steals\":");
    CHECK_HAS(buf, "\"wakes\":");
    CHECK_HAS(buf, "\"scans\":");
    CHECK_HAS(buf, "\"sweeps\":");
    CHECK_EQ(gt_stats_json(s, small, sizeof small), need);   /* cut, and ended by NUL */
    CHECK_EQ(strlen(small), sizeof small - 1);
    CHECK_EQ(strncmp(small, buf, sizeof small - 1), 0);
    CHECK_EQ(gt_timer_free(t), 1);
    gt_p_free(p);
    close_sched(s);
}

TEST(api_lateness, 5)
{
    static const int64_t late[] = {0, 1, 7, 999, 1000, 1001, 65536, 123456789, 10 * SEC, 3600 * SEC};
    gt_sched *s = sched_with(0, 1);
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    int n = gt_lateness_get(s, NULL, 0), k = (int)(sizeof late / sizeof late[0]);
    uint64_t *counts = calloc((size_t)n + 1, sizeof *counts), *want = calloc((size_t)n, sizeof *want);
    int64_t now = T0;

    CHECK_GT(n, 1);
    CHECK_EQ(gt_lateness_bound(0), 0);
    for (int b = 1; b < n; b++)
        CHECK_GT(gt_lateness_bound((uint32_t)b), gt_lateness_bound((uint32_t)b - 1));
    CHECK_EQ(gt_lateness_bound((uint32_t)n), GT_EINVAL);
    for (int i = 0; i < k; i++) {
        int b = n - 1;

        now += 1;
        CHECK_EQ(gt_addtimer_on(p, t, now, 0), 0);
        now += late[i];
        CHECK_EQ(gt_sched_set_time(s, now), 0);
        CHECK_EQ(gt_check_timers(p, 0, NULL, NULL), 1);
        CHECK_EQ(c.delay, late[i]);
        while (gt_lateness_bound((uint32_t)b) > late[i])
            b--;
        want[b]++;
    }
    counts[n] = 77;
    CHECK_EQ(gt_lateness_get(s, counts, (size_t)n + 1), n);
    for (int b = 0; b < n; b++)
        CHECK_EQ(counts[b], want[b]);
    CHECK_EQ(counts[n], 77);
    counts[1] = 77;
    CHECK_EQ(gt_lateness_get(s, counts, 1), n);   /* up to so many */
    CHECK_EQ(counts[1], 77);
    free(counts);
    free(want);
    gt_timer_free(t);
    gt_p_free(p);
    close_sched(s);
}

/* ---- Ps ---- */

TEST(api_p_userdata, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    int x;

    CHECK_PTR_EQ(gt_p_userdata(p), NULL);
    CHECK_EQ(gt_p_set_userdata(p, &x), 0);
    CHECK_PTR_EQ(gt_p_userdata(p), &x);
    CHECK_PTR_EQ(gt_p_userdata(q), NULL);
    CHECK_EQ(gt_p_set_userdata(p, NULL), 0);
    CHECK_PTR_EQ(gt_p_userdata(p), NULL);
    gt_p_free(p);
    gt_p_free(q);
    close_sched(s);
}

static void *looks_for_a_p(void *arg)
{
    (void)arg;
    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_PTR_EQ(gt_releasep(), NULL);
    return NULL;
}

static void *binds_and_ends(void *p)
{
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_PTR_EQ(gt_current_p(), p);
    return NULL;
}

TEST(api_acquirep, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);

    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_PTR_EQ(gt_releasep(), NULL);
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_PTR_EQ(gt_current_p(), p);
    thread_join(thread_start(looks_for_a_p, NULL));
    CHECK_PTR_EQ(gt_releasep(), p);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    thread_join(thread_start(binds_and_ends, p));   /* a thread that ends releases its P */
    CHECK_EQ(gt_acquirep(p), 0);
    CHECK_EQ(gt_p_free(p), 0);                      /* unbinds */
    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_EQ(gt_acquirep(q), 0);
    CHECK_PTR_EQ(gt_releasep(), q);
    CHECK_EQ(gt_p_free(q), 0);
    close_sched(s);
}

TEST(api_adopt_timers, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t[20];

    CHECK_EQ(gt_adopt_timers(q, p), 0);
    for (int i = 0; i < 20; i++) {
        t[i] = gt_timer_new(s, count_run, &c, NULL);
        CHECK_EQ(gt_addtimer_on(p, t[i], T0 + 100 - i, 0), 0);
    }
    CHECK_EQ(gt_adopt_timers(q, p), 20);
    CHECK_EQ(gt_p_num_timers(p), 0);
    CHECK_EQ(gt_p_num_timers(q), 20);
    CHECK_EQ(gt_nobarrier_wake_time(p), 0);
    CHECK_EQ(gt_nobarrier_wake_time(q), T0 + 81);
    CHECK_EQ(gt_verify_timer_heap(q), 0);
    CHECK_EQ(gt_check_timers(p, T0 + 100, NULL, NULL), 0);
    CHECK_EQ(gt_check_timers(q, T0 + 100, NULL, NULL), 1);
    CHECK_EQ(c.runs, 20);
    for (int i = 0; i < 20; i++)
        gt_timer_free(t[i]);
    check_conserved(s);
    gt_p_free(p);
    gt_p_free(q);
    close_sched(s);
}

TEST(api_p_free_hands_over, 5)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *q = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    CHECK_EQ(gt_p_free(p), 0);                      /* to the other P */
    CHECK_EQ(gt_p_num_timers(q), 1);
    CHECK_EQ(gt_nobarrier_wake_time(q), T0 + 10);
    CHECK_EQ(gt_p_free(q), 0);                      /* to the orphan set */
    CHECK_EQ(gt_time_sleep_until(s), T0 + 10);
    CHECK_EQ(gt_timer_when(t), T0 + 10);
    CHECK_EQ(gt_overdue(s, T0 + 15), 5);
    p = gt_p_new(s);                                /* which the next P adopts */
    CHECK_EQ(gt_p_num_timers(p), 1);
    CHECK_EQ(gt_nobarrier_wake_time(p), T0 + 10);
    CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    gt_timer_free(t);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

/* ---- fork ---- */

struct forked {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct counter c;
};

static void in_the_child(void *arg)
{
    struct forked *f = arg;

    CHECK_EQ(gt_resettimer(f->t, T0 + 20, 0), GT_EFORK);
    CHECK_EQ(gt_check_timers(f->p, T0 + 10, NULL, NULL), GT_EFORK);
    CHECK(gt_timer_new(f->s, count_run, &f->c, NULL) == NULL);
    CHECK_EQ(gt_last_error(), GT_EFORK);
    CHECK_EQ(f->c.runs, 0);
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_timer_when(f->t), T0 + 10);
    CHECK_EQ(gt_check_timers(f->p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(f->c.runs, 1);
    CHECK_EQ(gt_timer_free(f->t), 0);
    check_conserved(f->s);
    CHECK_EQ(gt_p_free(f->p), 0);
    close_sched(f->s);
}

TEST(api_after_fork, 20)
{
    struct forked f = {0};

    f.s = virtual_sched();
    f.p = gt_p_new(f.s);
    f.t = gt_timer_new(f.s, count_run, &f.c, NULL);
    CHECK_EQ(gt_addtimer(f.t, T0 + 10, 0), 0);
    must_pass_in_child(in_the_child, &f);
    CHECK_EQ(gt_timer_free(f.t), 1);   /* the parent is not touched */
    CHECK_EQ(f.c.runs, 0);
    check_conserved(f.s);
    CHECK_EQ(gt_p_free(f.p), 0);
    close_sched(f.s);
}
