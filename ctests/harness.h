/* The test harness of ctests: tests that register themselves, checks that print both
 * operands, and a few functions on scheds. harness.c holds the runner and main().
 *
 * A test is written like this:
 *
 *     #include "harness.h"
 *     TEST(area_what, 5) { CHECK_EQ(gt_version_string()[0], '0'); }
 *
 * Each test runs in a process of its own, with its own time limit in seconds; the limit is
 * multiplied by the environment's GT_TEST_SLOW. A check that fails prints where it stands
 * and what it saw, and ends the test, from whichever thread it is called. Checks do not
 * depend on NDEBUG. Include it first: it asks the system headers for all of Linux. */
#ifndef CTESTS_HARNESS_H
#define CTESTS_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "gotimer.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef __cplusplus
#include <stdatomic.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct test {
    const char *name;
    const char *file;
    int seconds;
    void (*fn)(void);
    struct test *next;
    int skipped;
};

void test_register(struct test *t);

#define TEST(name_, seconds_)                                                            \
    static void test_fn_##name_(void);                                                   \
    __attribute__((constructor)) static void test_register_##name_(void)                 \
    {                                                                                    \
        static struct test t_ = {#name_, __FILE__, (seconds_), test_fn_##name_, NULL, 0};   \
        test_register(&t_);                                                              \
    }                                                                                    \
    static void test_fn_##name_(void)

/* Prints "file:line: message" and ends the process with status 1, from any thread. */
void test_failed(const char *file, int line, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* Ends the process: what the test is about is not to be had here. It counts as neither passed nor
 * failed, and the closing line names it. */
void test_skip(const char *why) __attribute__((noreturn));

void test_check_str(const char *file, int line, const char *expr, const char *got,
                    const char *want, int whole);

#define CHECK(cond_)                                                                     \
    do {                                                                                 \
        if (!(cond_)) test_failed(__FILE__, __LINE__, "CHECK(%s) is false", #cond_);     \
    } while (0)

#define CHECK_OP_(a_, op_, b_)                                                           \
    do {                                                                                 \
        int64_t check_a_ = (int64_t)(a_), check_b_ = (int64_t)(b_);                      \
        if (!(check_a_ op_ check_b_))                                                    \
            test_failed(__FILE__, __LINE__, "%s %s %s is false: %lld, %lld", #a_, #op_,  \
                        #b_, (long long)check_a_, (long long)check_b_);                  \
    } while (0)

/* The operands are taken as int64_t; the first is what was got, the second what was wanted. */
#define CHECK_EQ(got_, want_) CHECK_OP_(got_, ==, want_)
#define CHECK_NE(got_, want_) CHECK_OP_(got_, !=, want_)
#define CHECK_LT(a_, b_) CHECK_OP_(a_, <, b_)
#define CHECK_LE(a_, b_) CHECK_OP_(a_, <=, b_)
#define CHECK_GT(a_, b_) CHECK_OP_(a_, >, b_)
#define CHECK_GE(a_, b_) CHECK_OP_(a_, >=, b_)

#define CHECK_PTR_EQ(got_, want_)                                                        \
    do {                                                                                 \
        const volatile void *check_a_ = (got_), *check_b_ = (want_);                     \
        if (check_a_ != check_b_)                                                        \
            test_failed(__FILE__, __LINE__, "%s == %s is false: %p, %p", #got_, #want_,  \
                        (void *)(uintptr_t)check_a_, (void *)(uintptr_t)check_b_);       \
    } while (0)

#define CHECK_STR_EQ(got_, want_) test_check_str(__FILE__, __LINE__, #got_, (got_), (want_), 1)
#define CHECK_HAS(str_, part_) test_check_str(__FILE__, __LINE__, #str_, (str_), (part_), 0)

/* The seed of this run: --seed N, else taken from the clock. A failure report says how to
 * replay with it. */
uint64_t test_seed(void);

/* GT_TEST_SLOW, at least 1: how many times slower than usual this run is (valgrind, a
 * sanitizer). Long loops may divide their work by it. */
unsigned test_slow(void);

/* splitmix64 */
uint64_t rng_next(uint64_t *state);
uint64_t rng_below(uint64_t *state, uint64_t n);   /* 0 .. n-1; n = 0 is taken as 1 */

/* The time of CLOCK_MONOTONIC in ns, and a sleep; neither goes through the library. */
int64_t mono_now(void);
void sleep_ms(int ms);

/* gt_sched_new with this clock and defaults for the rest; checked. */
gt_sched *new_sched(uint32_t clock);
gt_sched *virtual_sched(void);

gt_stats get_stats(gt_sched *s);

/* armed == fired + stopped + replaced + pending, and early == 0. To be called when nothing
 * is under way. */
void check_conserved(gt_sched *s);

/* gt_sched_free, which must return 0. */
void close_sched(gt_sched *s);

/* Runs fn(arg) in a forked child and puts what it writes to stderr into out (cut to len,
 * always ended by NUL; out may be NULL). Returns the child's wait status; a child whose fn
 * returns ends with exit status 0. */
int run_child(void (*fn)(void *), void *arg, char *out, size_t len);

/* As above; the child must end with exit status 0, else the test fails with what it wrote. */
void must_pass_in_child(void (*fn)(void *), void *arg);

#ifdef __cplusplus
}
#endif

#endif
