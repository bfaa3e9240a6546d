/* workloads.h: the workloads W1 to W4, W7 and W8, the same text for every peer in C and C++; W5 and W6 are in
 * threads.h, the pauses in pause.h. A peer's file defines the functions below, all static, so that the compiler can
 * inline them, then includes this file, which brings main().
 *
 *   struct peer *peer_new(n)          n timers, none armed, on the virtual clock at `vclock`
 *   void peer_free(p)                 may also look whether all was well
 *   struct fired *peer_fired(p)
 *   void peer_arm(p, i, when)         arms timer i, which is not armed, for the absolute time `when`
 *   void peer_rearm(p, i, when)       moves timer i, armed or not, in the way that its library likes best
 *   void peer_stop(p, i)
 *   void peer_check(p, now)           the time is now `now`: runs what is due
 *   void peer_fresh(p, when)          PEER_FRESH: new, arm, stop, free
 *   void peer_tick(p, i, when, d)     PEER_TICKERS: a periodic timer, first at `when`
 *   void peer_wait(p)                 PEER_REAL: one turn of the library's loop in real time
 *   shared_...                        PEER_SHARED: see threads.h
 *
 *   PEER_MORE()                       workloads of its own, PEER_MORE_LIST their names
 *
 * and PEER_NAME, PEER_VERSION, PEER_ORDER ("exact", or what it rounds to), PEER_NOTES: JSON, workload to remark. */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include "common.h"

const char *bench_program = PEER_NAME;

#define CHECK_EVERY 64     /* operations between two looks at the timers, where the clock moves */
#define BLOCK 4096         /* operations between two looks at the real clock */
#define STEP 1000          /* how far the virtual clock goes on at each operation: 1 us */
#define OPS (1u << 20)     /* operations of a repetition, unless its time is up before */
#define W7_SECONDS 1       /* the deadlines of W7 lie in so long a time */

#ifndef PEER_CLOCK /* how a peer is told the time; peers with a real clock of their own do more */
#define PEER_CLOCK(now) (vclock = (now))
#endif
#ifndef PEER_ALL_DUE /* called before the clock is moved past all deadlines of W3 */
#define PEER_ALL_DUE(p) ((void)(p))
#endif
#ifndef PEER_GROUP /* called before peers are made that belong together, and after the last is freed */
#define PEER_GROUP(on) ((void)(on))
#endif

static int is(const char *workload) {
    return strcmp(bench.workload, workload) == 0;
}

static void arm_all(struct peer *p, uint64_t n, uint64_t *seed, int64_t base) {
    for (uint64_t i = 0; i < n; i++) peer_arm(p, i, rng_when(seed, base));
}

/* ns per re-arm of a random timer; the clock moves by `step` at each, if at all, and then all clean-up is in it. */
static double rearm(struct peer *p, uint64_t n, uint64_t ops, double seconds, int64_t *now, int64_t step, uint64_t *seed) {
    uint64_t s = *seed, done = 0;
    int64_t t = *now;
    double begin = ns_now(), end;
    do {
        for (uint64_t i = 0; i < BLOCK; i++, t += step) {
            if (step != 0 && i % CHECK_EVERY == 0) {
                PEER_CLOCK(t);
                peer_check(p, t);
            }
            uint64_t k = rng_below(&s, n);
            peer_rearm(p, k, rng_when(&s, t));
        }
        done += BLOCK;
        end = ns_now();
    } while (done < ops && end - begin < seconds * 1e9);
    *now = t;
    *seed = s;
    return (end - begin) / (double)done;
}

/* W1: the clock stands still. W1roll: it moves, and the warm-up lasts more than 10 s of its time, so that what the
 * first armings left behind comes to the surface. */
static void w1(const char *name, int64_t step) {
    uint64_t n = bench.n, seed = bench.seed;
    int64_t now = BASE;
    double ns[99];
    PEER_CLOCK(now);
    struct peer *p = peer_new(n);
    arm_all(p, n, &seed, now);
    peer_check(p, now);
    if (step != 0) rearm(p, n, 11u << 20, bench.quick ? 1 : 4, &now, step, &seed);
    else rearm(p, n, n < OPS ? OPS : 2 * n, 2 * bench.seconds, &now, step, &seed);
    uint64_t ops = n > OPS ? 2 * OPS : OPS;
    for (int r = 0; r < bench.reps; r++) ns[r] = rearm(p, n, ops, bench.seconds, &now, step, &seed);
    bench_emit(name, n, 1, ns, bench.reps, NULL);
    peer_free(p);
}

/* W2: arm timer n 30 s ahead and stop it, with n others armed. W2new: it is made and freed each time. */
static double start_stop(struct peer *p, uint64_t n, uint64_t ops, int64_t *now, int fresh) {
    uint64_t done = 0;
    int64_t t = *now;
    double begin = ns_now(), end;
    do {
        for (uint64_t i = 0; i < BLOCK; i++, t += STEP) {
            if (i % CHECK_EVERY == 0) {
                PEER_CLOCK(t);
                peer_check(p, t);
            }
#ifdef PEER_FRESH
            if (fresh) {
                peer_fresh(p, t + 30 * SECOND);
                continue;
            }
#endif
            peer_arm(p, n, t + 30 * SECOND);
            peer_stop(p, n);
        }
        done += BLOCK;
        end = ns_now();
    } while (done < ops && end - begin < bench.seconds * 1e9);
    *now = t;
    (void)fresh;
    return (end - begin) / (double)done;
}

static void w2(const char *name, int fresh) {
    uint64_t n = bench.n, seed = bench.seed;
    int64_t now = BASE;
    double ns[99];
    PEER_CLOCK(now);
    struct peer *p = peer_new(n + 1);
    arm_all(p, n, &seed, now);
    start_stop(p, n, OPS / 2, &now, fresh);
    for (int r = 0; r < bench.reps; r++) ns[r] = start_stop(p, n, OPS, &now, fresh);
    bench_emit(name, n, 1, ns, bench.reps, NULL);
    peer_free(p);
}

/* W3: arm n, then all are due: ns per firing, and for both together. */
static void w3(void) {
    uint64_t n = bench.n, seed = bench.seed, disorder = 0;
    int64_t base = BASE;
    double fire[99], both[99];
    PEER_CLOCK(base);
    struct peer *p = peer_new(n);
    struct fired *f = peer_fired(p);
    for (int r = -1; r < bench.reps; r++) { /* the first one warms up */
        double armed = 0, fired = 0;
        uint64_t rounds = 0;
        do {
            PEER_CLOCK(base);
            double t0 = ns_now();
            arm_all(p, n, &seed, base);
            double t1 = ns_now();
            PEER_ALL_DUE(p);
            base += 100 * SECOND;
            PEER_CLOCK(base);
            memset(f, 0, sizeof *f);
            f->last = INT64_MIN;
            double t2 = ns_now();
            peer_check(p, base);
            double t3 = ns_now();
            if (f->count != n) bench_die("W3", "not all timers have fired");
            disorder += f->disorder;
            armed += t1 - t0;
            fired += t3 - t2;
            rounds++;
        } while (rounds * n < OPS && armed + fired < bench.seconds * 1e9);
        if (r < 0) continue;
        fire[r] = fired / (double)(n * rounds);
        both[r] = (armed + fired) / (double)(n * rounds);
    }
    if (disorder != 0 && strcmp(PEER_ORDER, "exact") == 0) bench_die("W3", "timers have fired out of order");
    bench_emit("W3", n, 1, fire, bench.reps, NULL);
    bench_emit("W3both", n, 1, both, bench.reps, NULL);
    peer_free(p);
}

#ifdef PEER_TICKERS
/* W4: n tickers of 1 to 100 ms; the clock goes in steps of 1 ms; ns per firing. */
static void w4(void) {
    uint64_t n = bench.n, seed = bench.seed;
    int64_t now = BASE;
    double ns[99];
    PEER_CLOCK(now);
    struct peer *p = peer_new(n);
    struct fired *f = peer_fired(p);
    for (uint64_t i = 0; i < n; i++) {
        int64_t d = MILLISECOND + (int64_t)rng_below(&seed, 99 * MILLISECOND);
        peer_tick(p, i, now + d, d);
    }
    for (int r = -1; r < bench.reps; r++) {
        uint64_t before = f->count;
        double begin = ns_now(), end;
        do {
            for (int i = 0; i < 10; i++) {
                now += MILLISECOND;
                PEER_CLOCK(now);
                peer_check(p, now);
            }
            end = ns_now();
        } while (f->count - before < OPS / 2 && end - begin < bench.seconds * 1e9);
        if (r >= 0) ns[r] = (end - begin) / (double)(f->count - before);
    }
    bench_emit("W4", n, 1, ns, bench.reps, NULL);
    peer_free(p);
}
#endif

/* W8: bytes in memory for each armed timer, the caller's array of handles not counted. */
static void w8(void) {
    uint64_t n = bench.n, seed = bench.seed;
    PEER_CLOCK(BASE);
    double before = bench_resident();
    struct peer *p = peer_new(n);
    arm_all(p, n, &seed, BASE);
    double bytes = (bench_resident() - before) / (double)n;
#ifdef PEER_BYTES
    char extra[100];
    snprintf(extra, sizeof extra, "\"unit\": \"bytes\", \"counted\": %.2f", PEER_BYTES(p) / (double)n);
#else
    const char *extra = "\"unit\": \"bytes\"";
#endif
    bench_emit("W8", n, 1, &bytes, 1, extra);
    peer_free(p);
}

#ifdef PEER_REAL
static void w7_each(struct fired *f, uint64_t i) {
    f->late[f->count] = real_now() - f->plan[i];
}

/* W7: n one-shot timers in a second of real time; how late each callback begins. */
static void w7(void) {
    uint64_t n = bench.n, seed = bench.seed;
    int64_t *plan = (int64_t *)bench_alloc(n, sizeof *plan), *late = (int64_t *)bench_alloc(n, sizeof *late);
    vclock_on = 0;
    struct peer *p = peer_new(n);
    struct fired *f = peer_fired(p);
    f->plan = plan;
    f->late = late;
    f->each = w7_each;
    int64_t begin = real_now() + 50 * MILLISECOND;
    double cpu = bench_cpu();
    for (uint64_t i = 0; i < n; i++) {
        plan[i] = begin + (int64_t)rng_below(&seed, W7_SECONDS * (uint64_t)SECOND);
        peer_arm(p, i, plan[i]);
    }
    while (f->count < n) peer_wait(p);
    cpu = bench_cpu() - cpu;
    bench_emit_lateness(n, late, cpu);
    peer_free(p);
}
#endif

#ifndef PEER_ALONE /* no W5 and W6 */
#include "threads.h"
#endif
#ifndef PEER_NO_PAUSE
#include "pause.h"
#endif

static void list(void) {
    printf("{\"peer\": \"%s\", \"version\": \"%s\", \"order\": \"%s\", \"notes\": {%s}, \"workloads\": [\"W1\", \"W1roll\", \"W2\"",
           PEER_NAME, PEER_VERSION, PEER_ORDER, PEER_NOTES);
#ifdef PEER_FRESH
    printf(", \"W2new\"");
#endif
    printf(", \"W3\", \"W3both\"");
#ifdef PEER_TICKERS
    printf(", \"W4\"");
#endif
#ifdef PEER_SHARED
    printf(", \"W5\"");
#endif
#ifndef PEER_ALONE
    printf(", \"W6\"");
#endif
#ifdef PEER_REAL
    printf(", \"W7\"");
#endif
#ifndef PEER_NO_PAUSE
    printf(", \"pause\"");
#endif
#ifdef PEER_MORE_LIST
    printf(PEER_MORE_LIST);
#endif
    printf(", \"W8\"]}\n");
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        list();
        return 0;
    }
    bench_options(argc, argv);
#ifdef PEER_START
    PEER_START();
#endif
    vclock_on = 1;
    if (is("W1")) w1("W1", 0);
    else if (is("W1roll")) w1("W1roll", STEP);
    else if (is("W2")) w2("W2", 0);
#ifdef PEER_FRESH
    else if (is("W2new")) w2("W2new", 1);
#endif
    else if (is("W3")) w3();
#ifdef PEER_TICKERS
    else if (is("W4")) w4();
#endif
#ifdef PEER_SHARED
    else if (is("W5")) w5();
#endif
#ifndef PEER_ALONE
    else if (is("W6")) w6();
#endif
#ifdef PEER_REAL
    else if (is("W7")) w7();
#endif
#ifndef PEER_NO_PAUSE
    else if (is("pause")) pauses();
#endif
    else if (is("W8")) w8();
#ifdef PEER_MORE
    else if (PEER_MORE()) return 0;
#endif
    else bench_die(bench.workload, "no such workload here; see --list");
    return 0;
}
#endif
