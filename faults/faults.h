/* The fault tests: what they share. They are tests of ctests' harness (each in a process of its
 * own, with a time limit), run by faults/main.c, which also plants mistakes and looks that
 * they are found. */
#ifndef FAULTS_FAULTS_H
#define FAULTS_FAULTS_H

#include "support.h"
#include "../soak/load.h"

/* A mistake planted on purpose: with GT_PLANT=name_ in the environment, case_ must fail, and its
 * report must have must_say_ in it, which only the check has that is meant for that mistake. */
struct plant {
    const char *name, *test, *must_say;
    struct plant *next;
};

void plant_register(struct plant *p);

#define PLANT(name_, case_, must_say_)                                                   \
    __attribute__((constructor)) static void plant_##case_##_##name_(void)               \
    {                                                                                    \
        static struct plant p_ = {#name_, #case_, (must_say_), NULL};                    \
        plant_register(&p_);                                                             \
    }                                                                                    \
    struct fault_eats_semicolon

/* One firing of a load in a hundred is not booked (soak/load_mutate.c). */
#define PLANT_FORGET(case_) PLANT(forget, case_, "st.fired == s.fired is false")

/* GT_FAULTS_FULL=1 in the environment: many more rounds. Gives the number for this run. */
int rounds(int few, int full);

/* The loads' seed from the harness's. Call it before load_start. */
void seed_loads(void);

/* throws.cpp: leaves by a C++ exception; calls fn(arg) and says whether it left by one. */
void throw_boom(void);
int catch_boom(void (*fn)(void *), void *arg);

/* Until cond_ is true, for a minute (times GT_TEST_SLOW) at most. */
#define WAIT_UNTIL(cond_)                                                                \
    do {                                                                                 \
        int64_t limit_ = mono_now() + 60 * SEC * (int64_t)test_slow();                   \
        while (!(cond_)) {                                                               \
            if (mono_now() > limit_)                                                     \
                test_failed(__FILE__, __LINE__, "waited a minute for: %s", #cond_);      \
            sleep_ms(1);                                                                 \
        }                                                                                \
    } while (0)

#endif
