// A callback that leaves by a C++ exception: its data is handed over as after a return, and
// ThreadSanitizer finds nothing left switched off in the thread.
#include "embed.h"

namespace {

struct boom {};

int caught;

void throws(void *arg, uintptr_t, int64_t)
{
    auto *d = static_cast<parcel *>(arg);

    writes(d, reads(d) + 1);
    poke(d->done, 1);
    throw boom();
}

void *passes(void *arg)
{
    auto *b = static_cast<bed *>(arg);

    while (peek(b->stop) == 0) {
        try {
            if (gt_check_timers(b->p[0], 0, nullptr, nullptr) == 0)
                nap_ms(1);
        } catch (const boom &) {
            poke(caught, caught + 1);
        }
    }
    return nullptr;
}

void with_a_throwing_bed(void (*body)(bed *b))
{
    bed b{};
    gt_config cfg{};

    cfg.size = sizeof cfg;
    cfg.clock = GT_CLOCK_VIRTUAL;
    b.s = gt_sched_new(&cfg);
    b.p[0] = gt_p_new(b.s);
    b.n = 1;
    MUST(b.p[0] != nullptr);
    b.thread[0] = start(passes, &b);
    body(&b);
    MUST(peek(caught) > 0);
    bed_end(&b);
}

}   // namespace

CLEAN(throw_then_sync)
{
    with_a_throwing_bed([](bed *b) {
        parcel d{};
        gt_timer *t = gt_timer_new(b->s, throws, &d, nullptr);

        for (int i = 0; i < 30; i++) {
            poke(d.done, 0);
            writes(&d, i);
            MUST(gt_addtimer(t, DUE, 0) == 0);
            wait_until_set(&d.done);
            MUST(gt_deltimer_sync(t) == 0);
            MUST(reads(&d) == i + 1);
        }
        MUST(gt_timer_free(t) == 0);
    });
}

CLEAN(throw_then_drop)
{
    with_a_throwing_bed([](bed *b) {
        for (int i = 0; i < 30; i++) {
            parcel *d = parcel_new(i);
            gt_timer *t = gt_timer_new(b->s, throws, d, reads_in_drop);

            MUST(gt_addtimer(t, DUE, 0) == 0);
            wait_until_set(&d->done);
            MUST(gt_timer_free(t) == 0);
        }
    });
}

// After an exception races are still looked for on that thread.
RACE(race_after_a_throw, "writes_in_callback")
{
    with_a_throwing_bed([](bed *b) {
        parcel first{}, d{};
        gt_timer *t = gt_timer_new(b->s, throws, &first, nullptr);
        gt_timer *u = gt_timer_new(b->s, writes_in_callback, &d, nullptr);

        MUST(gt_addtimer(t, DUE, 0) == 0);
        wait_until_set(&first.done);
        MUST(gt_addtimer(u, DUE, 0) == 0);
        wait_until_set(&d.done);
        nap_ms(5);
        reads(&d);
        MUST(gt_timer_free(t) == 0);
        MUST(gt_timer_free(u) == 0);
    });
}
