// What a thread may still do at its end, and that its P and its counters are given back whenever
// in its end they were asked for: from the destructor of a thread_local variable, and of
// thread-specific keys that are older and younger than the library's own.
#include "harness.h"

#include <pthread.h>

#include <thread>

namespace {

constexpr int64_t T0 = GT_VIRTUAL_EPOCH;

struct world {
    gt_sched *s;
    gt_p *p;
    gt_timer *t;
    pthread_key_t key;
    int round;                // the round of destructors in which the key's calls the library
    int called;
} w;

// As the thread's first call, or after others: it is as any thread.
void bind_at_the_end()
{
    CHECK_EQ(gt_acquirep(w.p), 0);
    CHECK_PTR_EQ(gt_current_p(), w.p);
    CHECK_GE(gt_resettimer(w.t, T0 + 1000, 0), 0);
    w.called++;
}

void key_destructor(void *arg)
{
    int round = *static_cast<int *>(arg);

    if (round == w.round) {
        bind_at_the_end();
        return;
    }
    ++*static_cast<int *>(arg);
    CHECK_EQ(pthread_setspecific(w.key, arg), 0);
}

struct variable {
    int used = 0;
    ~variable()
    {
        if (used)
            bind_at_the_end();
    }
};

thread_local variable local;

void world_up()
{
    gt_config cfg = {};

    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    CHECK((w.s = gt_sched_new(&cfg)) != nullptr);
    CHECK((w.p = gt_p_new(w.s)) != nullptr);
    CHECK((w.t = gt_timer_new(w.s, [](void *, uintptr_t, int64_t) {}, nullptr, nullptr)) != nullptr);
}

uint64_t bytes()
{
    gt_stats st = {};

    st.size = sizeof st;
    CHECK_EQ(gt_stats_get(w.s, &st), 0);
    return st.bytes;
}

// Threads one after the other: each can bind the P, and no memory stays behind.
template <class F> void end_threads(F thread)
{
    uint64_t before = 0;

    for (int i = 0; i < 30; i++) {
        w.called = 0;
        std::thread(thread).join();
        CHECK_EQ(w.called, 1);
        CHECK_EQ(gt_acquirep(w.p), 0);
        CHECK_PTR_EQ(gt_releasep(), w.p);
        if (i == 5)
            before = bytes();
    }
    CHECK_EQ(bytes(), before);
}

void world_down()
{
    CHECK_EQ(gt_timer_free(w.t), 1);
    CHECK_EQ(gt_p_free(w.p), 0);
    CHECK_EQ(gt_sched_free(w.s), 0);
}

// In the last round but one the library's destructor may be left for the last, in which
// ThreadSanitizer ends its own part of the thread.
#if defined __SANITIZE_THREAD__
constexpr int ROUNDS = 2;
#else
constexpr int ROUNDS = 3;
#endif

// The thread has not used the library before its end. Keys' destructors run by their numbers in
// some C libraries, so: of an older key and of a younger one, in the first rounds.
void first_call_in_a_keys_destructor()
{
    for (w.round = 0; w.round < ROUNDS; w.round++)
        end_threads([] {
            static thread_local int round;

            CHECK_EQ(pthread_setspecific(w.key, &round), 0);
        });
}

}  // namespace

TEST(thread_ends_with_a_thread_local, 30)
{
    world_up();
    end_threads([] { local.used = 1; });
    end_threads([] {
        local.used = 1;                         // made before the first call: destroyed after what
        CHECK_EQ(gt_acquirep(w.p), 0);          // that call had the C++ runtime note
    });
    world_down();
}

TEST(thread_ends_with_an_older_key, 30)
{
    CHECK_EQ(pthread_key_create(&w.key, key_destructor), 0);
    world_up();
    first_call_in_a_keys_destructor();
    world_down();
}

TEST(thread_ends_with_a_younger_key, 30)
{
    world_up();
    CHECK_EQ(pthread_key_create(&w.key, key_destructor), 0);
    first_call_in_a_keys_destructor();
    world_down();
}

// A key's destructor that binds the P, and again a round later: the library's end of the thread was
// between, so no P any more.
TEST(thread_ends_once, 30)
{
    world_up();
    CHECK_EQ(pthread_key_create(&w.key, [](void *arg) {
        if (arg == &w.s) {
            CHECK_EQ(gt_acquirep(w.p), 0);
        } else {
            CHECK_EQ(gt_acquirep(w.p), GT_EINVAL);
            CHECK_GE(gt_resettimer(w.t, T0 + 1000, 0), 0);
            CHECK_PTR_EQ(gt_current_p(), nullptr);
            w.called++;
            return;
        }
        CHECK_EQ(pthread_setspecific(w.key, &w.p), 0);
    }), 0);
    end_threads([] { CHECK_EQ(pthread_setspecific(w.key, &w.s), 0); });
    world_down();
}
