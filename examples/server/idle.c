/* idle.c: workers with nothing to do. One of them sleeps in the poller, until a socket is ready or the earliest
 * timer of all Ps is due; the others sleep on their semaphores. Go's findRunnable, wakep and wakeNetPoller do
 * the same.
 *
 * Two promises are kept here.
 *
 * Nothing runnable is left lying while a worker sleeps. Who makes something runnable puts it into a queue, then
 * looks whether somebody sleeps. Who goes to sleep says so, then looks into all queues. Between the two steps
 * of each stands a full fence, so at least one of them sees the other. "Somebody looks for work already"
 * (R.spinning) counts as somebody awake: he who stops looking lowers it, and then looks into all queues too.
 *
 * While a worker sleeps on its semaphore, another one is in the poller or awake and looking (R.spinning); else
 * sockets and timers would wait for nobody. He who comes back from the poller is looking; when he finds work,
 * and nobody else is looking, stop_spinning wakes another one, who will find nothing and go to the poller.
 *
 * R.polling and the list of idle workers change together, under R.lock, and wakep lowers R.spinning, if it
 * finds nobody to wake, under the same lock: so whoever lies down after that sees, in his look into all queues,
 * what was put there by those whom R.spinning told that somebody was awake. */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>

static void sleep_on_semaphore(struct worker *w) {
    while (sem_wait(&w->wake) != 0) {
        if (errno != EINTR) die("sem_wait failed", 0);
    }
}

/* R.lock is held. The worker is awake from now on, and looks for work. */
static struct worker *pop_idle(void) {
    struct worker *w = R.idle;
    if (w == NULL) return NULL;
    R.idle = w->idle_next;
    atomic_fetch_sub(&R.nidle, 1);
    w->idle = false;
    w->spinning = true;
    return w;
}

void wakep(void) {
    atomic_thread_fence(memory_order_seq_cst); /* what there is to do now stands before the look for sleepers */
    if (atomic_load(&R.nidle) == 0 && !atomic_load(&R.polling)) return;
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong(&R.spinning, &nobody, 1)) return;
    pthread_mutex_lock(&R.lock);
    struct worker *w = pop_idle();
    int polling = atomic_load(&R.polling);
    if (w == NULL) atomic_fetch_sub(&R.spinning, 1);
    pthread_mutex_unlock(&R.lock);
    if (w != NULL) sem_post(&w->wake);
    else if (polling) poll_break();
}

/* The wake time of some P has become earlier: does the sleeper in the poller sleep too long? If nobody sleeps
 * there, then nobody sleeps at all, or somebody is on his way there; he has published poll_until, or will
 * before he looks at the Ps. */
void wake_netpoller(void *ctx, gt_p *p, int64_t when) {
    (void)ctx, (void)p;
    if (atomic_load(&R.polling)) {
        int64_t until = atomic_load(&R.poll_until);
        if (until == 0 || until > when) poll_break();
    } else {
        wakep();
    }
}

static bool is_work_anywhere(void) {
    if (atomic_load(&R.nglobal) != 0) return true;
    for (unsigned i = 0; i < R.nworkers; i++)
        if (runq_length(&R.workers[i].runq) != 0) return true;
    return atomic_load(&R.stopping);
}

/* The last one who looked has found work. There may be more, which nobody was woken for because of him; and
 * somebody must be in the poller. */
void stop_spinning(struct worker *w) {
    w->spinning = false;
    if (atomic_fetch_sub(&R.spinning, 1) != 1) return;
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load(&R.polling) || is_work_anywhere()) wakep();
}

/* What the poller found is runnable now, on w. */
static void take_ready(struct worker *w, green *found) {
    for (green *next; found != NULL; found = next) {
        next = found->next;
        set_runnable(found);
        worker_put(w, found);
    }
}

static void leave_poller(struct worker *w) {
    pthread_mutex_lock(&R.lock);
    atomic_store(&R.poll_until, 0);
    atomic_fetch_add(&R.spinning, 1); /* first: there is always one who looks */
    atomic_store(&R.polling, 0);
    pthread_mutex_unlock(&R.lock);
    w->spinning = true;
}

static void sleep_in_poller(struct worker *w) {
    int64_t until;
    do { /* publish "I sleep until then", look again, then sleep */
        until = gt_time_sleep_until(R.sched);
        atomic_store(&R.poll_until, until);
    } while (gt_time_sleep_until(R.sched) < until);
    green *found = poll_wait(until);
    w->counts.polls++;
    leave_poller(w);
    take_ready(w, found);
}

static void leave_list(struct worker *w) {
    pthread_mutex_lock(&R.lock);
    bool woken = !w->idle;
    if (!woken) {
        struct worker **at = &R.idle;
        while (*at != w) at = &(*at)->idle_next;
        *at = w->idle_next;
        atomic_fetch_sub(&R.nidle, 1);
        w->idle = false;
        atomic_fetch_add(&R.spinning, 1);
    }
    pthread_mutex_unlock(&R.lock);
    if (woken) sleep_on_semaphore(w); /* his post is there, or comes */
    else w->spinning = true;
}

void go_idle(struct worker *w) {
    pthread_mutex_lock(&R.lock);
    if (R.global.first != NULL || atomic_load(&R.stopping)) {
        pthread_mutex_unlock(&R.lock);
        return;
    }
    bool poller = !atomic_load(&R.polling);
    if (poller) {
        atomic_store(&R.polling, 1);
    } else {
        w->idle = true;
        w->idle_next = R.idle;
        R.idle = w;
        atomic_fetch_add(&R.nidle, 1);
    }
    bool was_spinning = w->spinning;
    w->spinning = false; /* under the lock: who takes us off the list sets it */
    pthread_mutex_unlock(&R.lock);
    if (was_spinning) atomic_fetch_sub(&R.spinning, 1);
    atomic_thread_fence(memory_order_seq_cst); /* that we sleep stands before the look into the queues */
    if (is_work_anywhere()) {
        if (poller) leave_poller(w);
        else leave_list(w);
    } else if (poller) {
        sleep_in_poller(w);
    } else {
        sleep_on_semaphore(w);
        w->counts.wakes++;
    }
}

void find_ready(struct worker *w) {
    if (atomic_load(&R.polling)) return; /* he who sleeps there will hear of it */
    green *found = poll_wait(0);
    if (found == NULL) return;
    w->counts.polls++;
    take_ready(w, found);
    wakep();
}

/* The end: everybody looks at R.stopping. */
void wake_all(void) {
    pthread_mutex_lock(&R.lock);
    atomic_store(&R.stopping, 1);
    for (struct worker *w; (w = pop_idle()) != NULL; sem_post(&w->wake)) atomic_fetch_add(&R.spinning, 1);
    pthread_mutex_unlock(&R.lock);
    poll_break();
}
