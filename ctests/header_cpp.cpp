// The public header from C++: it must compile as it is, its functions must link, and a
// callback that throws must leave the library usable and conserved (rule S11).
#include "gotimer.h"

#include "harness.h"

#include <stdexcept>

extern "C" int header_cpp(void);

int header_cpp(void)
{
    gt_host host = {};
    gt_config config = {};
    gt_stats stats = {};

    host.size = sizeof host;
    config.size = sizeof config;
    config.host = &host;
    stats.size = sizeof stats;
    return gt_version() != 0 && GT_MAX_WHEN > 0 && GT_EINVAL < 0;
}

namespace {

constexpr int64_t T0 = GT_VIRTUAL_EPOCH;

struct thrower {
    int runs, drops;
};

void throws(void *arg, uintptr_t, int64_t delay)
{
    static_cast<thrower *>(arg)->runs++;
    throw std::runtime_error(delay >= 0 ? "late" : "early");
}

void calls(void *arg, uintptr_t, int64_t) { static_cast<thrower *>(arg)->runs++; }

void drops(void *arg) { static_cast<thrower *>(arg)->drops++; }

} // namespace

TEST(header_cpp_exception_through_check_timers, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    thrower bad = {}, good = {}, gone = {};
    gt_timer *t = gt_timer_new(s, throws, &bad, drops);
    gt_timer *u = gt_timer_new(s, calls, &good, drops);
    gt_timer *v = gt_timer_new(s, throws, &gone, drops);
    int caught = 0;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 5), 0);        // periodic: throws each time
    CHECK_EQ(gt_addtimer(u, T0 + 11, 0), 0);        // behind the one that throws
    CHECK_EQ(gt_addtimer(v, T0 + 12, 0), 0);
    CHECK_EQ(gt_timer_detach(v), 0);                // thrown through, then frees itself
    for (int i = 0; i < 10 && good.runs + gone.runs < 2; i++) {
        try {
            gt_check_timers(p, T0 + 12 + i, nullptr, nullptr);
        } catch (const std::runtime_error &e) {
            CHECK_STR_EQ(e.what(), "late");
            caught++;
        }
        CHECK_EQ(gt_verify_timer_heap(p), 0);
        check_conserved(s);
    }
    CHECK_EQ(good.runs, 1);
    CHECK_EQ(gone.runs, 1);
    CHECK_EQ(gone.drops, 1);
    CHECK_EQ(caught, bad.runs + 1);
    CHECK_EQ(get_stats(s).fired, 2);
    CHECK_EQ(get_stats(s).ticks, bad.runs);

    // Nobody is thought to be in f any more, and the timer goes on.
    CHECK_EQ(gt_deltimer_sync(t), 1);
    CHECK_EQ(gt_addtimer(t, T0 + 100, 0), 0);
    caught = 0;
    try {
        gt_sched_advance(s, 100);
    } catch (const std::runtime_error &) {
        caught = 1;
    }
    CHECK_EQ(caught, 1);
    CHECK_EQ(bad.drops, 0);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(bad.drops, 1);
    CHECK_EQ(gt_timer_free(u), 0);
    CHECK_EQ(good.drops, 1);
    CHECK_GE(gt_trim(p), 0);
    CHECK_EQ(get_stats(s).timers, 0);
    check_conserved(s);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}
