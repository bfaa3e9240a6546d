/* What helgrind and drd can and cannot see of a program that uses the release library. They follow
 * pthread's locks, and neither atomics nor futexes, of which this library's locks are made.
 *
 *     lockers guarded    data of the program's, under a mutex of the program's: nothing to report
 *     lockers racing     the same without the mutex in the callback: a true race
 *     lockers handed     data that an arming hands to the callback, and gt_deltimer_sync hands
 *                        back: right by the library's contract, but helgrind reports it */
#include "gotimer.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { TIMERS = 8, ROUNDS = 5 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int fired, sum;

__attribute__((noinline)) static void adds(int n) { sum += n; }

static void guarded(void *arg, uintptr_t seq, int64_t delay)
{
    (void)arg;
    (void)seq;
    (void)delay;
    pthread_mutex_lock(&lock);
    adds(1);
    fired++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void racing(void *arg, uintptr_t seq, int64_t delay)
{
    adds(1);
    guarded(arg, seq, delay);
}

static void handed(void *arg, uintptr_t seq, int64_t delay)
{
    (void)seq;
    (void)delay;
    ++*(int *)arg;
}

static int with_a_mutex(gt_func f)
{
    for (int round = 0; round < ROUNDS; round++) {
        gt_timer *t[TIMERS];

        for (int i = 0; i < TIMERS; i++) {
            if ((t[i] = gt_after_func(i * 100000, f, NULL, NULL)) == NULL)
                return 1;
            pthread_mutex_lock(&lock);
            adds(1);
            pthread_mutex_unlock(&lock);
        }
        pthread_mutex_lock(&lock);
        while (fired < TIMERS)
            pthread_cond_wait(&changed, &lock);
        fired = 0;
        pthread_mutex_unlock(&lock);
        for (int i = 0; i < TIMERS; i++)
            if (gt_timer_free(t[i]) < 0)
                return 1;
    }
    return 0;
}

static int by_arming(void)
{
    int data = 0;

    for (int round = 0; round < ROUNDS; round++) {
        gt_timer *t = gt_after_func(0, handed, &data, NULL);

        if (t == NULL)
            return 1;
        while (gt_timer_when(t) != 0)     /* until it is called, however slow the machine is */
            if (gt_sleep(1000000) != 0)
                return 1;
        if (gt_deltimer_sync(t) != 0)
            return 1;
        data++;
        gt_timer_free(t);
    }
    return data != 2 * ROUNDS;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int failed;

    if (gt_runtime_start(NULL) != 0)
        return 2;
    if (strcmp(what, "guarded") == 0)
        failed = with_a_mutex(guarded);
    else if (strcmp(what, "racing") == 0)
        failed = with_a_mutex(racing);
    else if (strcmp(what, "handed") == 0)
        failed = by_arming();
    else
        failed = 2;
    if (gt_runtime_stop() != 0)
        failed = 1;
    printf("lockers %s: %s\n", what, failed ? "failed" : "done");
    return failed;
}
