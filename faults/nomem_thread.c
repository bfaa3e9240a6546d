/* A thread's first call, while no memory is to be had: neither for the library nor for the C
 * library, which has to note that the thread's end is to be told. glibc needs memory for that if
 * the process had 32 keys (pthread_key_create) before the library made its own. */
#include "faults.h"
#include "system.h"

enum { FREE_OF_MEMORY = 32, MOST_KEYS = 5000 };

PLANT(refused_is_bound, nomem_thread_many_keys, "gt_current_p() == NULL is false");
PLANT(stays_bound, nomem_thread_first_call, "gt_acquirep(first.p) == 0 is false");
PLANT(sleeps_longer, nomem_thread_in_a_bubble, "gt_nanotime(first.s) == ");
PLANT(has_memory, nomem_thread_forks, "gt_acquirep(first.p) == (-12) is false");
PLANT(has_memory, nomem_thread_environment, "gt_sched_new(NULL) == NULL is false");
PLANT(has_memory, nomem_thread_counts_processors, "gt_runtime_start(((void *)0)) == (-12) is false");
PLANT(has_a_key, nomem_thread_no_key_left, "gt_sched_new(NULL) == NULL is false");

static struct {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    struct counter c;
    int keys_taken, bind;        /* bind: it ends with the P bound */
} first;

static pthread_key_t keys[MOST_KEYS];
static int n_keys;

static void take_keys(int n)
{
    while (n_keys < n && pthread_key_create(&keys[n_keys], NULL) == 0)
        n_keys++;
}

static void first_up(int keys_before)
{
    take_keys(keys_before);
    first.s = virtual_sched();
    CHECK((first.p = gt_p_new(first.s)) != NULL);
    CHECK((first.t = gt_timer_new(first.s, count_run, &first.c, NULL)) != NULL);
    /* So that the P's heap has room, and there is a node for whoever sleeps. */
    CHECK_EQ(gt_addtimer_on(first.p, first.t, T0 + 1, 0), 0);
    CHECK_EQ(gt_check_timers(first.p, T0 + 1, NULL, NULL), 1);
}

static void first_down(void)
{
    check_conserved(first.s);
    CHECK_EQ(gt_timer_free(first.t), 0);
    CHECK_EQ(gt_p_free(first.p), 0);
    close_sched(first.s);
}

/* What needs no memory itself, as the first call or after it. */
static void use_everything(void)
{
    int runs = first.c.runs;

    CHECK_EQ(gt_modtimer(first.t, T0 + 10, 0, count_run, &first.c, 1), 0);
    CHECK_EQ(gt_resettimer(first.t, T0 + 20, 0), 1);
    CHECK_EQ(gt_deltimer(first.t), 1);
    CHECK_EQ(gt_addtimer(first.t, T0 + 30, 0), 0);
    CHECK_EQ(gt_check_timers(first.p, T0 + 30, NULL, NULL), 1);
    CHECK_EQ(first.c.runs, runs + 1);
    CHECK_EQ(gt_addtimer(first.t, T0 + 40, 0), 0);
    CHECK_EQ(gt_check_others(first.s, NULL, T0 + 40, NULL, NULL), 1);
    CHECK_EQ(first.c.runs, runs + 2);
    CHECK_EQ(get_stats(first.s).pending, 0);
}

static void *comes_first_to_the_others(void *arg)
{
    (void)arg;
    system_refuses_all = 1;
    use_everything();
    CHECK_PTR_EQ(gt_releasep(), NULL);
    system_refuses_all = 0;
    return NULL;
}

static void *comes_first_to_acquirep(void *arg)
{
    (void)arg;
    system_refuses_all = 1;
    if (first.keys_taken) {
        CHECK_EQ(gt_acquirep(first.p), GT_ENOMEM);
        if (planted("refused_is_bound")) {   /* the mistake: it is tried again with memory */
            system_refuses_all = 0;
            CHECK_EQ(gt_acquirep(first.p), 0);
        }
        CHECK_PTR_EQ(gt_current_p(), NULL);
        CHECK_PTR_EQ(gt_releasep(), NULL);
        use_everything();
        CHECK_EQ(gt_acquirep(first.p), GT_ENOMEM);
        system_refuses_all = 0;
    }
    CHECK_EQ(gt_acquirep(first.p), 0);
    CHECK_PTR_EQ(gt_current_p(), first.p);
    use_everything();
    system_refuses_all = 0;
    if (!first.bind)
        CHECK_PTR_EQ(gt_releasep(), first.p);
    return NULL;
}

/* Nobody is bound: the thread's end has released the P. */
static void all_is_back(uint64_t bytes)
{
    CHECK_EQ(get_stats(first.s).bytes, bytes);
    CHECK_EQ(gt_acquirep(first.p), 0);
    CHECK_PTR_EQ(gt_releasep(), first.p);
}

static void come(void)
{
    uint64_t bytes;

    if (planted("stays_bound"))          /* the mistake: another thread has the P */
        CHECK_EQ(gt_acquirep(first.p), 0);
    thread_join(thread_start(comes_first_to_the_others, NULL));
    thread_join(thread_start(comes_first_to_acquirep, NULL));
    bytes = get_stats(first.s).bytes;
    for (int i = 0; i < 20; i++) {
        first.bind = i % 2;
        thread_join(thread_start(comes_first_to_acquirep, NULL));
        thread_join(thread_start(comes_first_to_the_others, NULL));
        all_is_back(bytes);
    }
}

/* The library has one of the keys that need no memory. */
TEST(nomem_thread_first_call, 30)
{
    pthread_key_t next;

    first_up(0);
    CHECK_EQ(pthread_key_create(&next, NULL), 0);
    if (next > FREE_OF_MEMORY)
        test_skip("the process has many keys already");
    come();
    first_down();
}

TEST(nomem_thread_many_keys, 30)
{
    first.keys_taken = 1;
    first_up(FREE_OF_MEMORY + 8);
    come();
    first_down();
}

static void *sleeps_in_the_bubble(void *arg)
{
    (void)arg;
    CHECK_EQ(gt_synctest_join(first.s), 0);
    system_refuses_all = 1;
    CHECK_EQ(gt_sched_sleep(first.s, planted("sleeps_longer") ? 101 : 100), 0);
    CHECK_EQ(gt_synctest_wait(first.s), 0);
    system_refuses_all = 0;
    CHECK_EQ(gt_synctest_leave(first.s), 0);
    return NULL;
}

/* Catches a bubble that knows the thread that moves the clock by its token, of which there is none: who
 * blocks is taken for one who does so in his own callback, and told GT_EDEADLK. */
TEST(nomem_thread_in_a_bubble, 30)
{
    first_up(FREE_OF_MEMORY + 8);
    thread_join(thread_start(sleeps_in_the_bubble, NULL));
    CHECK_EQ(gt_nanotime(first.s), T0 + 100);
    first_down();
}

/* A child whose thread has no token is repaired as any. */
static void in_child(void *arg)
{
    (void)arg;
    system_refuses_all = 1;
    CHECK_EQ(gt_acquirep(first.p), GT_EFORK);
    CHECK_EQ(gt_after_fork(), 0);
    CHECK_EQ(gt_acquirep(first.p), GT_ENOMEM);
    use_everything();
    system_refuses_all = 0;
    CHECK_EQ(gt_acquirep(first.p), 0);     /* its thread is lost */
    use_everything();
}

static void *forks(void *arg)
{
    (void)arg;
    system_refuses_all = !planted("has_memory");
    CHECK_EQ(gt_acquirep(first.p), GT_ENOMEM);
    system_refuses_all = 0;
    must_pass_in_child(in_child, NULL);
    return NULL;
}

TEST(nomem_thread_forks, 30)
{
    first_up(FREE_OF_MEMORY + 8);
    CHECK_EQ(gt_acquirep(first.p), 0);
    thread_join(thread_start(forks, NULL));
    CHECK_PTR_EQ(gt_releasep(), first.p);
    first_down();
}

/* With what it looks for in the environment, too. */
TEST(nomem_thread_environment, 30)
{
    CHECK_EQ(setenv("GOTIMER_VERIFY", "1", 1), 0);
    CHECK_EQ(setenv("GOTIMER_TSAN", "0", 1), 0);
    system_refuses_all = !planted("has_memory");
    CHECK_PTR_EQ(gt_sched_new(NULL), NULL);
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
    system_refuses_all = 0;
    first_up(0);
    come();
    first_down();
}

/* Nothing can be had from the beginning: not even what it takes to count the processors. */
TEST(nomem_thread_counts_processors, 30)
{
    gt_runtime_config cfg = {.size = sizeof cfg};

    system_refuses_all = !planted("has_memory");
    CHECK_EQ(gt_runtime_start(NULL), GT_ENOMEM);
    CHECK_EQ(gt_runtime_start(&cfg), GT_ENOMEM);
    system_refuses_all = 0;
    CHECK_EQ(gt_runtime_start(NULL), 0);
    CHECK_GE(gt_runtime_workers(), 1);
    CHECK_EQ(gt_runtime_stop(), 0);
}

/* No key is left for the library: nothing can be made, until there is one. */
TEST(nomem_thread_no_key_left, 30)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 1};

    take_keys(MOST_KEYS);
    CHECK_LT(n_keys, MOST_KEYS);
    if (planted("has_a_key"))
        CHECK_EQ(pthread_key_delete(keys[--n_keys]), 0);
    CHECK_PTR_EQ(gt_sched_new(NULL), NULL);
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
    CHECK_EQ(gt_runtime_start(&cfg), GT_ENOMEM);
    CHECK_PTR_EQ(gt_after_func(0, count_run, &first.c, NULL), NULL);
    CHECK_EQ(gt_last_error(), GT_ENOMEM);
    CHECK_EQ(pthread_key_delete(keys[--n_keys]), 0);
    CHECK_EQ(gt_runtime_start(&cfg), 0);
    CHECK_EQ(gt_runtime_stop(), 0);
    first.keys_taken = 1;
    first_up(0);
    come();
    first_down();
}
