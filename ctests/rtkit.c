/* See rtkit.h. */
#include "rtkit.h"

#include <dirent.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

gt_sched *rt_start(uint32_t workers)
{
    gt_runtime_config cfg = {.size = sizeof cfg, .workers = workers};
    int r = gt_runtime_start(&cfg);

    if (r != 0)
        test_failed(__FILE__, __LINE__, "gt_runtime_start: %s", gt_strerror(r));
    CHECK_EQ(gt_runtime_workers(), workers);
    CHECK(gt_runtime_sched() != NULL);
    return gt_runtime_sched();
}

void rt_stop(void)
{
    CHECK_EQ(gt_runtime_stop(), 0);
    CHECK_EQ(gt_runtime_workers(), 0);
}

void rt_stop_conserved(void)
{
    rt_stop();
    check_conserved(gt_runtime_sched());
}

gt_timer *must(gt_timer *t)
{
    if (t == NULL)
        test_failed(__FILE__, __LINE__, "no timer: %s", gt_strerror(gt_last_error()));
    return t;
}

int readable_within(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    CHECK_GE(fd, 0);
    CHECK_GE(poll(&p, 1, ms), 0);
    CHECK((p.revents & ~POLLIN) == 0);
    return p.revents != 0;
}

int readable(int fd) { return readable_within(fd, 0); }

int64_t long_wait(void) { return 60 * SEC * (int64_t)test_slow(); }

void wait_for_long(atomic_long *value, long n)
{
    int64_t limit = mono_now() + long_wait();

    while (atomic_load(value) < n) {
        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "waited a minute for %ld, it is %ld", n, atomic_load(value));
        sleep_ms(1);
    }
}

/* ---- a P's own loop ---- */

static void *p_loop_run(void *arg)
{
    struct p_loop *l = arg;

    CHECK_EQ(gt_acquirep(l->p), 0);
    while (!atomic_load(&l->stop)) {
        int64_t now, until;

        CHECK_GE(gt_check_timers(l->p, 0, &now, &until), 0);
        if (!atomic_load(&l->stop) && (until == 0 || until > now))
            CHECK_GE(gt_notetsleep(l->p, until), 0);
    }
    CHECK_PTR_EQ(gt_releasep(), l->p);
    return NULL;
}

void p_loop_start(struct p_loop *l, gt_p *p)
{
    memset(l, 0, sizeof *l);
    l->p = p;
    l->thread = thread_start(p_loop_run, l);
}

void p_loop_stop(struct p_loop *l)
{
    l->stop = 1;
    CHECK_EQ(gt_notewakeup(l->p), 0);
    thread_join(l->thread);
}

/* ---- threads that block ---- */

static atomic_long came_back;

static void *waiter_run(void *arg)
{
    struct waiter *w = arg;

    w->tid = (int)syscall(SYS_gettid);
    w->result = w->call(w);
    w->order = ++came_back;
    w->done = 1;
    return NULL;
}

void waiter_start(struct waiter *w, int (*call)(struct waiter *w))
{
    w->call = call;
    w->tid = 0;
    w->done = 0;
    w->thread = thread_start(waiter_run, w);
}

static int call_recv(struct waiter *w) { return gt_timer_recv(w->t, &w->sent); }

static int call_sleep(struct waiter *w) { return gt_sched_sleep(w->s, w->d); }

void receiver_start(struct waiter *w, gt_timer *t)
{
    memset(w, 0, sizeof *w);
    w->t = t;
    waiter_start(w, call_recv);
}

void sleeper_start(struct waiter *w, gt_sched *s, int64_t d)
{
    memset(w, 0, sizeof *w);
    w->s = s;
    w->d = d;
    waiter_start(w, call_sleep);
}

/* 'S' and 'D' while a thread sleeps, 'R' while it runs; 0 where the kernel does not tell. */
static char thread_state(int tid)
{
    char path[64], line[512], *end;
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    f = fopen(path, "r");
    if (f == NULL)
        return 0;
    n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = '\0';
    end = strrchr(line, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

int waiter_blocked(struct waiter *w)
{
    int64_t limit = mono_now() + long_wait();
    int seen = 0;

    while (!atomic_load(&w->done)) {
        char c = atomic_load(&w->tid) == 0 ? 'R' : thread_state(w->tid);

        if (mono_now() > limit)
            test_failed(__FILE__, __LINE__, "a thread neither blocks nor comes back");
        /* Thrice in a row: locks of the library are held for less than that. */
        seen = c == 'S' || c == 0 ? seen + 1 : 0;
        if (seen == 4)
            return 1;
        sleep_ms(1);
    }
    return 0;
}

int waiter_join(struct waiter *w)
{
    thread_join(w->thread);
    CHECK_EQ(w->done, 1);
    return w->result;
}

/* ---- tools that look over our shoulder ---- */

int threads_are_ours(void)
{
#if defined(__SANITIZE_THREAD__)
    return 0;
#else
    return 1;
#endif
}

void needs_own_threads(void)
{
    if (!threads_are_ours())
        test_skip("ThreadSanitizer has a thread of its own");
}

void settle_for_fork(void)
{
#if defined(__SANITIZE_ADDRESS__)
    sleep_ms(200);
#endif
}

void in_child(void (*fn)(void *), void *arg)
{
    settle_for_fork();
    must_pass_in_child(fn, arg);
}

void child_is_done(void)
{
    const char *preload = getenv("LD_PRELOAD");

    if (preload != NULL && strstr(preload, "valgrind") != NULL)
        execl("/bin/true", "true", (char *)NULL);
}

/* ---- what the process holds ---- */

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    if (d == NULL)
        return -1;
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

int task_count(void) { return entries("/proc/self/task"); }

int fd_count(void) { return entries("/proc/self/fd"); }

int64_t switch_count(void)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    int64_t sum = 0;

    if (d == NULL)
        return -1;
    while ((e = readdir(d)) != NULL) {
        char path[320], line[256];
        long long n = -1;
        FILE *f;

        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        f = fopen(path, "r");
        if (f == NULL)
            continue;
        while (fgets(line, sizeof line, f) != NULL)
            if (sscanf(line, "voluntary_ctxt_switches: %lld", &n) == 1)
                break;
        fclose(f);
        if (n < 0) {
            sum = -1;
            break;
        }
        sum += n;
    }
    closedir(d);
    return sum;
}
