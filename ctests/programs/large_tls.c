/* A program with thread-local storage that is larger than a worker's stack: the C library takes
 * it out of the stack, so the runtime must ask for more. With a size between, a callback would
 * have too little left: it uses a megabyte here. */
#include "gotimer.h"

#include <stdatomic.h>
#include <stdio.h>

#define LOCAL ((4 << 20) + (1 << 20) + (1 << 19))

static __thread volatile char local[LOCAL];
static volatile int sum;
static atomic_int done;

static void uses_both(void *arg, uintptr_t seq, int64_t delay)
{
    volatile char stack[1 << 20];

    (void)arg;
    (void)seq;
    (void)delay;
    for (int i = 0; i < LOCAL; i += 1024)
        local[i] = 1;
    for (int i = 0; i < (1 << 20); i += 1024)
        stack[i] = 1;
    sum = local[LOCAL - 1024] + stack[0];
}

/* Waits in its callback, so that a spare worker has to be there for the other timer. */
static void sleeps(void *arg, uintptr_t seq, int64_t delay)
{
    uses_both(arg, seq, delay);
    sum += gt_sleep(1000000);
    done = 1;
}

static int failed(const char *what, int result)
{
    fprintf(stderr, "large_tls: %s: %s\n", what, gt_strerror(result));
    return 1;
}

int main(void)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = 1};
    gt_timer *t;
    int r;

    local[0] = 1;
    if ((r = gt_runtime_start(&cfg)) < 0)
        return failed("gt_runtime_start", r);
    if ((t = gt_after_func(1000000, sleeps, NULL, NULL)) == NULL)
        return failed("gt_after_func", gt_last_error());
    for (int ms = 0; !done && ms < 60000; ms++)
        if ((r = gt_sleep(1000000)) < 0)
            return failed("gt_sleep", r);
    if ((r = gt_runtime_stop()) < 0)
        return failed("gt_runtime_stop", r);
    if ((r = gt_timer_free(t)) != 0 || !done || sum != 2) {
        fprintf(stderr, "large_tls: the callback has not run\n");
        return 1;
    }
    return 0;
}
