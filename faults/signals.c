/* Signals arrive everywhere: a thread peppers all others with SIGUSR1, without SA_RESTART, so that
 * every wait in the kernel ends with EINTR again and again. Nothing may come early for it, be
 * taken for a wake, or get lost. */
#include "faults.h"
#include "../soak/duel.h"
#include "../soak/users.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

PLANT_FORGET(signals_and_load);
PLANT(wake, signals_and_duels, "a lost wake: a timer that is due");
PLANT(forget_function, signals_and_the_runtime, "users: lost");
PLANT(interrupted, signals_end_no_sleep, "gt_nanotime(s) >= until is false");

static _Atomic int64_t arrived, sent;
static atomic_int stop;

static void handler(int sig)
{
    int saved = errno;

    (void)sig;
    arrived++;
    errno = EINTR;
    for (volatile int i = 0; i < 50; i++) {}
    errno = saved;
}

/* All threads of the process but this one, over and over. */
static void *peppers(void *arg)
{
    pid_t pid = getpid(), me = gettid();

    (void)arg;
    while (!stop) {
        DIR *dir = opendir("/proc/self/task");
        struct dirent *e;

        CHECK(dir != NULL);
        while ((e = readdir(dir)) != NULL) {
            pid_t tid = atoi(e->d_name);

            if (tid > 0 && tid != me && syscall(SYS_tgkill, pid, tid, SIGUSR1) == 0)
                sent++;
        }
        closedir(dir);
        usleep(200);
    }
    return NULL;
}

static pthread_t pepper_start(void)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = handler;
    sigemptyset(&sa.sa_mask);
    CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
    return thread_start(peppers, NULL);
}

static void pepper_stop(pthread_t th)
{
    WAIT_UNTIL(arrived > 100);
    stop = 1;
    thread_join(th);
    printf("%lld signals\n", (long long)arrived);
}

TEST(signals_and_load, 120)
{
    static struct load l, v;
    struct load_options o = {.name = "signals", .clock = GT_CLOCK_MONOTONIC, .spinners = 1, .sleepers = 2,
                             .pollers = 1, .nobodys = 1, .thieves = 1, .mutators = 2, .slots = 500,
                             .spread = 5 * MS, .ps_come_and_go = 1, .callbacks_act = 1};
    struct load_options vo = o;
    pthread_t pepper;

    seed_loads();
    vo.name = "signals, virtual clock";
    vo.clock = GT_CLOCK_VIRTUAL;
    load_start(&l, &o);
    load_start(&v, &vo);
    pepper = pepper_start();
    for (int i = 0; i < rounds(5, 60); i++) {
        sleep_ms(1000);
        load_pause(&l);
        load_pause(&v);
        load_check(&l);
        load_check(&v);
        load_resume(&l);
        load_resume(&v);
    }
    pepper_stop(pepper);
    load_end(&l);
    load_end(&v);
}

TEST(signals_and_duels, 120)
{
    static struct duel d[2];
    pthread_t pepper;

    for (int i = 0; i < 2; i++)
        duel_start(&d[i], i, test_seed() + (uint64_t)i, NULL);
    pepper = pepper_start();
    sleep_ms(rounds(4, 60) * 1000);
    for (int i = 0; i < 2; i++) {
        WAIT_UNTIL(l_get(d[i].rounds) > 200);
        duel_end(&d[i]);               /* who waits for a lost wake says so */
    }
    pepper_stop(pepper);
}

TEST(signals_and_the_runtime, 120)
{
    static struct users u;
    pthread_t pepper;

    seed_loads();
    users_start(&u, 5);
    pepper = pepper_start();
    for (int i = 0; i < rounds(4, 60); i++) {
        sleep_ms(1000);
        users_pause(&u);
        users_check(&u, 1);
        users_resume(&u);
    }
    pepper_stop(pepper);
    users_end(&u);
}

/* ---- a sleep with nothing but signals in it ---- */

static void *sleeps_alone(void *arg)
{
    gt_p *p = arg;
    gt_sched *s = gt_p_userdata(p);

    for (int i = 0; i < 20 || arrived <= 100; i++) {
        int64_t until = gt_nanotime(s) + 20 * MS;

        CHECK_EQ(gt_notetsleep(p, until), 0);      /* not "woken" */
        CHECK_GE(gt_nanotime(s), until);
        until = gt_nanotime(s) + 20 * MS;
        if (planted("interrupted"))
            nanosleep(&(struct timespec){0, 20 * MS}, NULL);   /* the mistake: EINTR is not looked at */
        else
            CHECK_EQ(gt_sched_sleep(s, 20 * MS), 0);
        CHECK_GE(gt_nanotime(s), until);
    }
    return NULL;
}

TEST(signals_end_no_sleep, 120)
{
    static const uint32_t clocks[3] = {GT_CLOCK_MONOTONIC, GT_CLOCK_BOOTTIME, GT_CLOCK_WALL};
    gt_sched *s[3];
    gt_p *p[3];
    pthread_t th[3], pepper = pepper_start();

    for (int i = 0; i < 3; i++) {
        s[i] = new_sched(clocks[i]);
        CHECK((p[i] = gt_p_new(s[i])) != NULL);
        CHECK_EQ(gt_p_set_userdata(p[i], s[i]), 0);
        th[i] = thread_start(sleeps_alone, p[i]);
    }
    for (int i = 0; i < 3; i++) {
        thread_join(th[i]);
        CHECK_EQ(gt_p_free(p[i]), 0);
        close_sched(s[i]);
    }
    pepper_stop(pepper);
}
