/* runtime.c: the built-in runtime: a callback after 30 ms, three ticks of a ticker, a sleep. */
#include "gotimer.h"
#include <stdio.h>
#define MS 1000000LL
static void hello(void *name, uintptr_t seq, int64_t late) { (void)seq, (void)late, printf("hello, %s\n", (char *)name); }
int main(void) {
    if (gt_runtime_start(NULL) != 0) return 1; /* NULL: a worker for each CPU */
    gt_timer *once = gt_after_func(30 * MS, hello, "world", NULL), *ticker = gt_new_ticker(50 * MS);
    for (int i = 1; i <= 3; i++) gt_timer_recv(ticker, NULL), printf("tick %d\n", i);
    gt_sleep(10 * MS), printf("slept\n");
    gt_timer_free(once), gt_timer_free(ticker);
    return gt_runtime_stop();
}
