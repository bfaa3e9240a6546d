/* lines.c: for counting the cache lines that an operation touches. It is run under valgrind's lackey, which writes down
 * every access; bench/driver/lines.py reads that. Each operation is framed by a store to a place of its own. Two
 * threads, each with a P and timers of its own, do the same one after the other: a line that one writes and the other
 * touches, too, would go back and forth between their processors. */
#include "../core/common.h"

#include "gotimer.h"

#include <pthread.h>

const char *bench_program = "libgotimer";

#define OPS 64
#define KINDS 6
static const char *const kinds[KINDS] = {"re-arm to later", "re-arm to earlier", "arm and stop", "new, arm, stop and free",
                                         "arm and fire", "re-arm another P's timer"};

struct side {
    gt_p *p;
    gt_timer **timers;
    struct side *other;
    int number;
};

/* Each a line of its own. */
static struct {
    _Alignas(64) volatile int begin[KINDS][16];
    _Alignas(64) volatile int end;
} marks[2];

static gt_sched *sched;
static __thread int in_thread;

static void must(const char *what, int64_t got) {
    if (got < 0) bench_die(what, gt_strerror((int)got));
}

static void on_fire(void *arg, uintptr_t seq, int64_t delay) {
    (void)arg, (void)seq, (void)delay;
}

static void operate(struct side *s, int kind, uint64_t i, int64_t now) {
    gt_timer *t = s->timers[i];
    if (kind == 0) must("later", gt_resettimer(t, now + 100 * SECOND, 0));
    else if (kind == 1) must("earlier", gt_resettimer(t, now + 5 * SECOND, 0));
    else if (kind == 2) must("stop", gt_addtimer(t, now + 30 * SECOND, 0) == 0 ? gt_deltimer(t) : GT_EINVAL);
    else if (kind == 3) {
        gt_timer *fresh = gt_timer_new(sched, on_fire, NULL, NULL);
        must("new", gt_addtimer(fresh, now + 30 * SECOND, 0));
        must("stop", gt_deltimer(fresh));
        must("free", gt_timer_free(fresh));
    } else if (kind == 4) {
        must("arm", gt_addtimer(t, now, 0));
        must("fire", gt_check_timers(s->p, now, NULL, NULL));
    } else must("other", gt_resettimer(s->other->timers[i], now + 100 * SECOND, 0));
}

/* Binds the thread and arms its timers. */
static void begin(struct side *s) {
    uint64_t n = bench.n, seed = 7;
    int64_t now = BASE;
    must("gt_acquirep", gt_acquirep(s->p));
    printf("thread %d stack %p thread-local %p\n", s->number, (void *)&seed, (void *)&in_thread);
    fflush(stdout);
    for (uint64_t i = 0; i < n; i++) must("gt_addtimer", gt_addtimer(s->timers[i], rng_when(&seed, now), 0));
}

static void work(struct side *s) {
    uint64_t place = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < OPS; i++, place += 7) {
            uint64_t k = place % bench.n;
            if (kind == 2 || kind == 4) {
                gt_deltimer(s->timers[k]);
                gt_trim(s->p);
            }
            marks[s->number].begin[kind][0] = 1;
            operate(s, kind, k, BASE);
            marks[s->number].end = 1;
        }
}

static void *second(void *arg) {
    struct side *s = arg;
    begin(s);
    work(s);
    gt_releasep();
    return NULL;
}

int main(int argc, char **argv) {
    bench_options(argc, argv);
    gt_config config = {.size = sizeof config, .clock = GT_CLOCK_VIRTUAL};
    sched = gt_sched_new(&config);
    if (sched == NULL) bench_die("gt_sched_new", gt_strerror(gt_last_error()));
    struct side sides[2];
    for (int k = 0; k < 2; k++) {
        struct side *s = &sides[k];
        *s = (struct side){.p = gt_p_new(sched), .timers = bench_alloc(bench.n, sizeof *s->timers), .other = &sides[!k], .number = k};
        for (uint64_t i = 0; i < bench.n; i++) s->timers[i] = gt_timer_new(sched, on_fire, NULL, NULL);
        for (int kind = 0; kind < KINDS; kind++)
            printf("mark %d %d %p %s\n", k, kind, (void *)&marks[k].begin[kind][0], kinds[kind]);
        printf("mark %d %d %p end\n", k, -1, (void *)&marks[k].end);
    }
    fflush(stdout);
    begin(&sides[0]);
    pthread_t thread;
    if (pthread_create(&thread, NULL, second, &sides[1]) != 0) bench_die("pthread_create", "failed");
    pthread_join(thread, NULL);
    work(&sides[0]);
    return 0;
}
