/* gt_verify_timer_heap and the throw hook: a heap that was broken on purpose is found, by the
 * rule that is broken, and a pass with gt_config.verify, or GOTIMER_VERIFY=1, ends in the hook.
 * The test writes into a timer as a stray pointer would; the offsets are those of `Timer` in
 * src/engine/timer.rs. */
#include "rules.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum breakage { KEY, STATE, OWNER, DELETED };

static unsigned char *node(gt_timer *t) { return (unsigned char *)((uintptr_t)t & ~(uintptr_t)63); }

static void break_it(gt_timer *t, enum breakage what)
{
    int64_t zero = 0, other = T0 + 77;
    uint32_t word, p;

    switch (what) {
    case KEY:
        memcpy(node(t) + 16, &other, sizeof other);
        break;
    case STATE:
        memcpy(&word, node(t), sizeof word);
        word &= ~3u;
        memcpy(node(t), &word, sizeof word);
        break;
    case OWNER:
        memcpy(&p, node(t) + 56, sizeof p);
        p ^= 1u << 12;                         /* still aligned: a build with assertions looks */
        memcpy(node(t) + 56, &p, sizeof p);
        break;
    case DELETED:                              /* stopped, and nobody counted it */
        memcpy(&word, node(t), sizeof word);
        word = (word & ~3u) | GT_TIMER_MODIFIED;
        memcpy(node(t), &word, sizeof word);
        memcpy(node(t) + 8, &zero, sizeof zero);
        break;
    }
}

static void hook(void *ctx, const char *msg)
{
    (void)ctx;
    fprintf(stderr, "hook: %s\n", msg);
    _exit(42);
}

static const int rule[] = {GT_RULE_KEY, GT_RULE_STATE, GT_RULE_OWNER, GT_RULE_DELETED};

struct broken { enum breakage what; int own_hook, by_config; };

static void broken_child(void *arg)
{
    struct broken *b = arg;
    gt_host h = {.size = sizeof h, .throw_ = b->own_hook ? hook : NULL};
    gt_config cfg = {.size = sizeof cfg, .host = &h, .clock = GT_CLOCK_VIRTUAL, .verify = (uint32_t)b->by_config};
    gt_sched *s;
    gt_p *p;
    gt_timer *t[20];
    struct counter c = {0};

    if (!b->by_config)
        setenv("GOTIMER_VERIFY", "1", 1);
    CHECK((s = gt_sched_new(&cfg)) != NULL);
    p = new_p(s);
    for (int i = 0; i < 20; i++) {
        CHECK((t[i] = gt_timer_new(s, count_run, &c, NULL)) != NULL);
        CHECK_EQ(gt_addtimer(t[i], T0 + 100 + i, 0), 0);
    }
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    break_it(t[11], b->what);
    CHECK_EQ(gt_verify_timer_heap(p), rule[b->what]);
    gt_check_timers(p, T0 + 100, NULL, NULL);
    test_failed(__FILE__, __LINE__, "the pass came back");
}

static void broken(enum breakage what, int own_hook, int by_config)
{
    struct broken b = {what, own_hook, by_config};
    char out[4000];
    int status = run_child(broken_child, &b, out, sizeof out);

    if (own_hook)
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    else
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK_HAS(out, own_hook ? "hook: gotimer: timer" : "fatal error: gotimer: timer");
    CHECK_HAS(out, gt_strerror(rule[what]));
}

TEST(verify_names_the_broken_rule_to_the_hook, 30)
{
    for (int i = KEY; i <= DELETED; i++)
        broken((enum breakage)i, 1, 1);
}

TEST(verify_by_default_prints_and_aborts, 30) { broken(KEY, 0, 1); }

TEST(verify_by_the_environment, 30) { broken(KEY, 1, 0); }
