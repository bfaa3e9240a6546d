/* hello.c: one P, a one-shot after 100 ms and a 50 ms ticker that stops itself after three ticks. */
#include "gotimer.h"
#include <stdio.h>
#define MS 1000000LL
static gt_timer *once, *ticker;
static void on_once(void *arg, uintptr_t seq, int64_t delay) {
    (void)seq;
    printf("%s (%lld us late)\n", (const char *)arg, (long long)(delay / 1000));
}
static void on_tick(void *arg, uintptr_t seq, int64_t delay) {
    (void)seq, (void)delay;
    printf("tick %d\n", ++*(int *)arg);
    if (*(int *)arg == 3) gt_deltimer(ticker);
}
int main(void) {
    int ticks = 0;
    gt_sched *s = gt_sched_new(NULL); /* NULL: the monotonic clock, the default hooks */
    gt_p *p = gt_p_new(s);
    if (!p || gt_acquirep(p) != 0) return 1;
    once = gt_timer_new(s, on_once, "100 ms are over", NULL);
    ticker = gt_timer_new(s, on_tick, &ticks, NULL);
    int64_t now = gt_nanotime(s), until = 0;
    if (gt_addtimer(once, now + 100 * MS, 0) || gt_addtimer(ticker, now + 50 * MS, 50 * MS)) return 1;
    while (gt_check_timers(p, 0, &now, &until) >= 0 && until != 0) /* 0: nothing is armed that will ever fire */
        if (until > now) gt_notetsleep(p, until);
    gt_timer_free(once), gt_timer_free(ticker), gt_releasep(), gt_p_free(p);
    return gt_sched_free(s) != 0 || ticks != 3;
}
