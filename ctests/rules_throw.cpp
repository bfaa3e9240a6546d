// Rule S11, the C++ side: a callback may leave by an exception. It passes through the library,
// whose guards clean up; the embedder catches it around its pass.
#include "harness.h"

#include <atomic>
#include <stdexcept>
#include <thread>

namespace {

constexpr int64_t T0 = GT_VIRTUAL_EPOCH;

struct boom : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct thrower {
    gt_timer *t = nullptr;
    int runs = 0, drops = 0;
    bool rearm = false, free_first = false;
};

void throw_run(void *arg, uintptr_t, int64_t)
{
    auto *w = static_cast<thrower *>(arg);

    w->runs++;
    if (w->rearm)
        CHECK_GE(gt_resettimer(w->t, T0 + 50, 0), 0);
    if (w->free_first)
        CHECK_GE(gt_timer_free(w->t), 0);
    throw boom("from a callback");
}

void throw_drop(void *arg) { static_cast<thrower *>(arg)->drops++; }

void count_run(void *arg, uintptr_t, int64_t) { ++*static_cast<int *>(arg); }

enum class how { check, run, others, advance };

// One pass of the kind; says whether the exception came out.
bool throws(gt_sched *s, gt_p *p, how h, int64_t now)
{
    try {
        switch (h) {
        case how::check: gt_check_timers(p, now, nullptr, nullptr); break;
        case how::run: gt_runtimer(p, now); break;
        case how::others: gt_check_others(s, nullptr, now, nullptr, nullptr); break;
        case how::advance: gt_sched_advance(s, now - gt_nanotime(s)); break;
        }
    } catch (const boom &b) {
        CHECK_STR_EQ(b.what(), "from a callback");
        return true;
    }
    return false;
}

void one_throw(how h, bool rearm, bool free_first, int64_t period)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    thrower w;
    int later = 0;
    gt_timer *u = gt_timer_new(s, count_run, &later, nullptr);

    w.t = gt_timer_new(s, throw_run, &w, throw_drop);
    w.rearm = rearm;
    w.free_first = free_first;
    CHECK_EQ(gt_addtimer_on(p, w.t, T0 + 10, period), 0);
    CHECK_EQ(gt_addtimer_on(p, u, T0 + 11, 0), 0);
    CHECK(throws(s, p, h, T0 + 20));
    CHECK_EQ(w.runs, 1);

    // No lock, no reference and no run was left behind: the heap can be looked at, the timer be
    // stopped and waited for, the other one goes on, everything can be freed.
    CHECK_EQ(gt_verify_timer_heap(p), 0);
    if (free_first) {
        CHECK_EQ(w.drops, 1);
    } else {
        CHECK_EQ(gt_deltimer_sync(w.t), rearm || period != 0);
        CHECK_EQ(w.drops, 0);
        CHECK_GE(gt_timer_free(w.t), 0);
        CHECK_EQ(w.drops, 1);
    }
    CHECK_GE(gt_check_timers(p, T0 + 20, nullptr, nullptr), 0);
    CHECK_EQ(later, 1);
    CHECK_EQ(gt_timer_free(u), 0);
    check_conserved(s);
    CHECK_EQ(get_stats(s).pending, 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

}   // namespace

TEST(s11_callback_throws, 20)
{
    for (how h : {how::check, how::run, how::others, how::advance})
        for (int i = 0; i < 8; i++)
            if (!((i & 1) != 0 && (i & 2) != 0))
                one_throw(h, i & 1, i & 2, (i & 4) != 0 ? 100 : 0);
}

// An exception out of a nested pass goes through two passes of the library.
namespace {

struct nest {
    gt_p *p;
    int runs = 0;
};

void nest_run(void *arg, uintptr_t, int64_t)
{
    auto *n = static_cast<nest *>(arg);

    n->runs++;
    gt_check_timers(n->p, T0 + 20, nullptr, nullptr);
    CHECK(!"the inner callback throws");
}

}   // namespace

TEST(s11_callback_throws_through_two_passes, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    nest n{p};
    thrower w;
    gt_timer *outer = gt_timer_new(s, nest_run, &n, nullptr);

    w.t = gt_timer_new(s, throw_run, &w, throw_drop);
    CHECK_EQ(gt_addtimer_on(p, outer, T0 + 10, 0), 0);
    CHECK_EQ(gt_addtimer_on(p, w.t, T0 + 11, 0), 0);
    CHECK(throws(s, p, how::check, T0 + 20));
    CHECK_EQ(n.runs + w.runs, 2);
    CHECK_EQ(gt_deltimer_sync(outer), 0);
    CHECK_EQ(gt_deltimer_sync(w.t), 0);
    CHECK_EQ(gt_timer_free(outer), 0);
    CHECK_EQ(gt_timer_free(w.t), 0);
    CHECK_EQ(w.drops, 1);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

// A thread that waits in gt_deltimer_sync is let go when the callback leaves by an exception.
namespace {

struct slow_thrower {
    std::atomic<int> entered{0}, go{0};
};

void slow_throw_run(void *arg, uintptr_t, int64_t)
{
    auto *w = static_cast<slow_thrower *>(arg);

    w->entered = 1;
    while (w->go == 0)
        sleep_ms(1);
    throw boom("from a callback");
}

}   // namespace

TEST(s11_throw_releases_those_who_wait, 20)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    slow_thrower w;
    gt_timer *t = gt_timer_new(s, slow_throw_run, &w, nullptr);
    int result = -1;

    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), 0);
    std::thread pass([&] { CHECK(throws(s, p, how::check, T0 + 20)); });
    while (w.entered == 0)
        sleep_ms(1);
    std::thread sync([&] { result = gt_deltimer_sync(t); });
    sleep_ms(20);
    w.go = 1;
    sync.join();
    pass.join();
    CHECK_EQ(result, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}
