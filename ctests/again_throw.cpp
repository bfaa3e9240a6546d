// Bugs of the library with C++ exceptions that there have been, one test each; the rest of the
// kind is in again_engine.c and again_ps.c. What a callback throws goes through a pass, and the
// pass must give back all that it holds: locks, the run, and the P with its sched.
#include "harness.h"

#include <cstdlib>
#include <initializer_list>

namespace {

constexpr int64_t T0 = GT_VIRTUAL_EPOCH;

// Bytes that the library has and did not give back.
int64_t bytes;

void *count_alloc(void *, size_t size, size_t align)
{
    void *p = nullptr;

    if (align < sizeof(void *))
        align = sizeof(void *);
    if (posix_memalign(&p, align, size) != 0)
        return nullptr;
    bytes += static_cast<int64_t>(size);
    return p;
}

void count_free(void *, void *p, size_t size, size_t)
{
    bytes -= static_cast<int64_t>(size);
    free(p);
}

gt_sched *counted_sched()
{
    gt_host h = {};
    gt_config cfg = {};

    h.size = sizeof h;
    h.alloc = count_alloc;
    h.free = count_free;
    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    cfg.host = &h;
    return gt_sched_new(&cfg);
}

void throw_run(void *, uintptr_t, int64_t) { throw 1; }

enum class how { check, run, others, advance };

bool throws(gt_sched *s, gt_p *p, how h)
{
    try {
        switch (h) {
        case how::check: gt_check_timers(p, T0, nullptr, nullptr); break;
        case how::run: gt_runtimer(p, T0); break;
        case how::others: gt_check_others(s, nullptr, T0, nullptr, nullptr); break;
        case how::advance: gt_sched_advance(s, 0); break;
        }
    } catch (int) {
        return true;
    }
    return false;
}

// A P with a timer that throws, made and freed.
void one_round(gt_sched *s, how h)
{
    gt_p *p = gt_p_new(s);
    gt_timer *t = gt_timer_new(s, throw_run, nullptr, nullptr);

    if (p == nullptr)
        test_failed(__FILE__, __LINE__, "gt_p_new: %s", gt_strerror(gt_last_error()));
    CHECK(t != nullptr);
    CHECK_EQ(gt_addtimer_on(p, t, T0, 0), 0);
    CHECK(throws(s, p, h));
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
}

// More rounds than there are slots of Ps, if there is the time.
void many_rounds(how h)
{
    gt_sched *s = counted_sched();
    int64_t end = mono_now() + 1000000000;

    CHECK(s != nullptr);
    for (int i = 0; i < 4200 && mono_now() < end; i++)
        one_round(s, h);
    check_conserved(s);
    close_sched(s);
    CHECK_EQ(bytes, 0);
}

}   // namespace

// Catches a pass that takes its reference to the P away by hand behind the callback, and not by
// a guard: each throw leaves a slot of a P in use for ever. After 4095 of them gt_p_new says
// GT_ENOSPC; after one the memory of the sched does not come back.
TEST(again_throw_keeps_the_p, 20)
{
    many_rounds(how::check);
    many_rounds(how::run);
}

// The same for the references that gt_check_others and gt_sched_advance take besides.
TEST(again_throw_in_a_steal_keeps_the_p, 20)
{
    many_rounds(how::others);
    many_rounds(how::advance);
}

// The same when no P lives, so that the pass is one over the timers without a P.
TEST(again_throw_keeps_the_sched, 10)
{
    for (how h : {how::others, how::advance}) {
        gt_sched *s = counted_sched();
        gt_timer *t = gt_timer_new(s, throw_run, nullptr, nullptr);

        CHECK_EQ(gt_addtimer(t, T0, 0), 0);
        CHECK(throws(s, nullptr, h));
        CHECK_EQ(gt_timer_free(t), 0);
        close_sched(s);
        CHECK_EQ(bytes, 0);
    }
}
