/* Every documented refusal, part 4: what only the checked build of the library sees. Foreign
 * and copied handles are GT_EFAULT, dead ones GT_ESTALE, in every function that takes one.
 * Built with -DGT_TEST_CHECKED=1 and linked with the checked library; else it is empty. */
#include "support.h"

#if defined(GT_TEST_CHECKED) && GT_TEST_CHECKED

static void timer_refused(gt_timer *t, gt_p *p, int error)
{
    struct counter other = {0};

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), error);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), error);
    CHECK_EQ(gt_modtimer(t, T0 + 10, 0, count_run, &other, 0), error);
    CHECK_EQ(gt_modtimer_on(p, t, T0 + 10, 0, count_run, &other, 0), error);
    CHECK_EQ(gt_resettimer(t, T0 + 10, 0), error);
    CHECK_EQ(gt_resettimer_on(p, t, T0 + 10, 0), error);
    CHECK_EQ(gt_deltimer(t), error);
    CHECK_EQ(gt_deltimer_sync(t), error);
    CHECK_EQ(gt_shutdown_timer(t), error);
    CHECK_EQ(gt_timer_detach(t), error);
    CHECK_EQ(gt_timer_status(t), error);
    CHECK_EQ(gt_timer_when(t), error);
    CHECK_EQ(gt_timer_id(t), 0);
    CHECK_EQ(gt_timer_free(t), error);
    CHECK_EQ(other.drops, 0);
}

static void p_refused(gt_p *p, gt_p *good, gt_timer *t, int error)
{
    int x;

    CHECK_EQ(gt_p_free(p), error);
    CHECK_EQ(gt_acquirep(p), error);
    CHECK_PTR_EQ(gt_current_p(), NULL);
    CHECK_EQ(gt_p_set_userdata(p, &x), error);
    CHECK(gt_p_userdata(p) == NULL);
    CHECK_EQ(gt_last_error(), error);
    CHECK_EQ(gt_p_num_timers(p), error);
    CHECK_EQ(gt_p_deleted_timers(p), error);
    CHECK_EQ(gt_adopt_timers(p, good), error);
    CHECK_EQ(gt_adopt_timers(good, p), error);
    CHECK_EQ(gt_nobarrier_wake_time(p), error);
    CHECK_EQ(gt_p_fd(p), error);
    CHECK_EQ(gt_notetsleep(p, 1), error);
    CHECK_EQ(gt_notewakeup(p), error);
    CHECK_EQ(gt_addtimer_on(p, t, T0 + 10, 0), error);
    CHECK_EQ(gt_modtimer_on(p, t, T0 + 10, 0, count_run, &x, 0), error);
    CHECK_EQ(gt_resettimer_on(p, t, T0 + 10, 0), error);
    CHECK_EQ(gt_runtimer(p, T0), error);
    CHECK_EQ(gt_check_timers(p, T0, NULL, NULL), error);
    CHECK_EQ(gt_adjusttimers(p, T0, 0), error);
    CHECK_EQ(gt_cleantimers(p), error);
    CHECK_EQ(gt_trim(p), error);
    CHECK_EQ(gt_verify_timer_heap(p), error);
}

static void sched_refused(gt_sched *s, uint64_t id, int error)
{
    gt_stats st;
    struct counter other = {0};

    memset(&st, 0, sizeof st);
    st.size = sizeof st;
    CHECK_EQ(gt_sched_free(s), error);
    CHECK_EQ(gt_nanotime(s), error);
    CHECK_EQ(gt_sched_set_time(s, T0 + 1), error);
    CHECK_EQ(gt_sched_advance(s, 1), error);
    CHECK_EQ(gt_time_sleep_until(s), error);
    CHECK_EQ(gt_overdue(s, T0), error);
    CHECK_EQ(gt_stats_get(s, &st), error);
    CHECK_EQ(gt_stats_json(s, NULL, 0), error);
    CHECK_EQ(gt_lateness_get(s, NULL, 0), error);
    CHECK(gt_p_new(s) == NULL);
    CHECK_EQ(gt_last_error(), error);
    CHECK(gt_timer_new(s, count_run, &other, count_drop) == NULL);
    CHECK_EQ(gt_last_error(), error);
    CHECK_EQ(other.drops, 0);
    CHECK_EQ(gt_check_others(s, NULL, T0, NULL, NULL), error);
    CHECK_EQ(gt_addtimer_id(s, id, T0 + 1, 0), error);
    CHECK_EQ(gt_deltimer_id(s, id), error);
    CHECK_EQ(gt_timer_free_id(s, id), error);
}

TEST(checked_dead_timer, 10)
{
    for (int how = 0; how < 4; how++) {
        gt_sched *s = virtual_sched();
        gt_p *p = gt_p_new(s);
        struct counter c = {0};
        gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
        uint64_t id = gt_timer_id(t);
        gt_stats before;

        if (how < 2)
            CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
        if (how == 2)
            CHECK_EQ(gt_timer_free_id(s, id), 0);
        else if (how == 3)
            CHECK_EQ(gt_timer_detach(t), 0);
        else
            CHECK_EQ(gt_timer_free(t), 1);
        if (how == 1)
            CHECK_GE(gt_trim(p), 0);
        before = get_stats(s);
        timer_refused(t, p, GT_ESTALE);
        check_same_counters(s, &before);
        CHECK_EQ(c.drops, 1);
        CHECK_EQ(gt_p_free(p), 0);
        close_sched(s);
        CHECK_EQ(c.drops, 1);
    }
}

TEST(checked_dead_handle_of_a_reused_slot, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0}, d = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop), *u[2000];
    gt_stats before;
    int same = 0;

    CHECK_EQ(gt_timer_free(t), 0);
    for (int i = 0; i < 2000; i++) {
        u[i] = gt_timer_new(s, count_run, &d, count_drop);
        same += u[i] == t;
    }
    before = get_stats(s);
    if (!same)                      /* a handle may tell, or may be the new timer's own */
        timer_refused(t, p, GT_ESTALE);
    check_same_counters(s, &before);
    for (int i = 0; i < 2000; i++)
        CHECK_EQ(gt_timer_free(u[i]), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(checked_detached_handle, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    gt_stats before;

    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), 0);
    CHECK_EQ(gt_timer_detach(t), 0);
    before = get_stats(s);
    timer_refused(t, p, GT_ESTALE);
    check_same_counters(s, &before);
    CHECK_EQ(gt_check_timers(p, T0 + 10, NULL, NULL), 1);
    CHECK_EQ(c.runs, 1);
    CHECK_EQ(c.drops, 1);
    timer_refused(t, p, GT_ESTALE);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(checked_foreign_and_copied_timer, 10)
{
    static _Alignas(4096) unsigned char zero[8192], full[8192], copy[8192];
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    gt_stats before = get_stats(s);

    memset(full, 0xff, sizeof full);
    memcpy(copy, (const void *)t, 64);
    timer_refused((gt_timer *)(void *)zero, p, GT_EFAULT);
    timer_refused((gt_timer *)(void *)full, p, GT_EFAULT);
    timer_refused((gt_timer *)(void *)copy, p, GT_EFAULT);
    timer_refused((gt_timer *)(void *)p, p, GT_EFAULT);
    timer_refused((gt_timer *)(void *)s, p, GT_EFAULT);
    timer_refused((gt_timer *)(uintptr_t)8, p, GT_EFAULT);
    timer_refused((gt_timer *)UINTPTR_MAX, p, GT_EFAULT);
    check_same_counters(s, &before);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(checked_dead_p, 10)
{
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s), *good = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    gt_stats before;

    CHECK_EQ(gt_p_free(p), 0);
    before = get_stats(s);
    CHECK_EQ(gt_p_free(p), GT_ESTALE);     /* freed twice */
    p_refused(p, good, t, GT_ESTALE);
    check_same_counters(s, &before);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(good), 0);
    CHECK_EQ(gt_p_free(p), GT_ESTALE);
    close_sched(s);
}

TEST(checked_foreign_p, 10)
{
    static _Alignas(4096) unsigned char zero[8192], copy[8192];
    gt_sched *s = virtual_sched();
    gt_p *good = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    gt_stats before = get_stats(s);

    memcpy(copy, (const void *)good, 64);
    p_refused((gt_p *)(void *)zero, good, t, GT_EFAULT);
    p_refused((gt_p *)(void *)copy, good, t, GT_EFAULT);
    p_refused((gt_p *)(void *)t, good, t, GT_EFAULT);
    p_refused((gt_p *)(void *)s, good, t, GT_EFAULT);
    p_refused((gt_p *)(uintptr_t)64, good, t, GT_EFAULT);
    CHECK_EQ(gt_check_others(s, (gt_p *)(void *)zero, T0, NULL, NULL), GT_EFAULT);
    check_same_counters(s, &before);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(good), 0);
    close_sched(s);
}

TEST(checked_foreign_sched, 10)
{
    static _Alignas(4096) unsigned char zero[8192], copy[8192];
    gt_sched *s = virtual_sched();
    gt_p *p = gt_p_new(s);
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, NULL);
    uint64_t id = gt_timer_id(t);

    memcpy(copy, (const void *)s, 64);
    sched_refused((gt_sched *)(void *)zero, id, GT_EFAULT);
    sched_refused((gt_sched *)(void *)copy, id, GT_EFAULT);
    sched_refused((gt_sched *)(void *)p, id, GT_EFAULT);
    sched_refused((gt_sched *)(void *)t, id, GT_EFAULT);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_EQ(gt_p_free(p), 0);
    close_sched(s);
}

TEST(checked_dead_sched, 10)
{
    gt_sched *s = virtual_sched();
    struct counter c = {0};
    gt_timer *t = gt_timer_new(s, count_run, &c, count_drop);
    uint64_t id = gt_timer_id(t);

    close_sched(s);
    sched_refused(s, id, GT_ESHUTDOWN);     /* kept for as long as a handle lives */
    CHECK_EQ(gt_addtimer(t, T0 + 10, 0), GT_ESHUTDOWN);
    CHECK_EQ(gt_timer_free(t), 0);
    CHECK_LT(gt_timer_free(t), 0);          /* all is gone now, and still told by name */
    CHECK_LT(gt_sched_free(s), 0);
    CHECK_LT(gt_nanotime(s), 0);
    CHECK_EQ(c.drops, 1);
}

#endif
