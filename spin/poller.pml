/*
 * The poller of the built-in runtime (src/rt/deadline.rs, poller.rs, worker.rs): idle
 * workers wait in epoll_wait on one timerfd that they share. It goes off once for each
 * setting, and wakes one of them.
 *
 * The fd is set under a lock of its own, from a wake time that is read inside the lock:
 *   arm        by who arms a timer earlier than anyone could have been told (the wake
 *              hook), and by a worker before it sleeps. Left alone if it stands there
 *              already and has not gone off.
 *   hand_over  by a worker before a callback, if the fd has gone off: perhaps it was this
 *              worker that it woke, it will not go off again by itself, and the callback
 *              may take long. If more is due, it is set for a little later.
 * Here the callback of timer 0 even waits for that of timer 1.
 *
 * Each of the two timers is on a P of its own, with its own `told`. Reading a P's wake time
 * and publishing it is one step here, and so is arming a timer and lowering `told`:
 * missed_wake.pml shows that they may be taken for that.
 *
 *   (nothing)             the library
 *   -DREAD_OUTSIDE        the wake time is read before the lock is taken: an older one
 *                         lands in the fd after a newer one
 *   -DNO_ARM_BEFORE_SLEEP a worker sleeps on what others have left in the fd
 *   -DNO_HAND_OVER        the fd stays as it was during a callback
 *
 * What must hold: each timer fires once its time has come. Else all workers sleep, the fd
 * is silent, the clock stands at its end, and spin reports that nobody can go on.
 */

#define TIMERS 2
#define WORKERS 2
#define END 3                   /* the clock's last time */
#define NEVER 9

byte now;
byte when[TIMERS] = NEVER;      /* NEVER: not armed; else its P's wake time */
byte told[TIMERS] = NEVER;
bool ran[TIMERS];               /* its callback has run to its end */

bool fd_locked;
byte fd_when = NEVER;           /* what the timerfd is set to */
bool fd_taken;                  /* it went off for this setting, and a waiter took it */

byte armers_left = 1;
byte callbacks;                 /* under way */

/* A P's wake time: publish it, look again; `e` becomes the earliest of those seen. */
inline wake_time(p, e) {
    atomic {
        if
        :: told[p] < when[p] -> told[p] = when[p]
        :: else
        fi;
        if
        :: when[p] < e -> e = when[p]
        :: else
        fi
    }
}

/* The earliest of all Ps, one after the other. */
inline time_sleep_until(e) {
    e = NEVER;
    wake_time(0, e);
    wake_time(1, e)
}

inline lock_fd() { atomic { !fd_locked -> fd_locked = true } }

/* The lock is held, and given back. */
inline set_and_unlock(until) {
    atomic {
        if
        :: until == fd_when && (until == NEVER || until > now)
        :: else -> fd_when = until; fd_taken = false    /* timerfd_settime */
        fi;
        fd_locked = false
    }
}

inline arm_fd() {
#ifdef READ_OUTSIDE
    time_sleep_until(e);
    lock_fd();
#else
    lock_fd();
    time_sleep_until(e);
#endif
    set_and_unlock(e)
}

/* `at` is the time of the pass; it may be old by now. */
inline hand_over(at) {
    if
    :: fd_when <= at ->
        lock_fd();
        if
        :: fd_when <= at ->
            time_sleep_until(e);
            if
            :: e <= at && at < END -> e = at + 1        /* a little later */
            :: e <= at && at == END -> e = END          /* the clock has no later */
            :: else
            fi;
            set_and_unlock(e)
        :: else -> fd_locked = false
        fi
    :: else
    fi
}

/* Arms, or re-arms, to a time that is earlier or later than before. */
inline arm_timer(t, at) {
    atomic {
        when[t] = at;
        if
        :: told[t] > at -> told[t] = at; wake = true
        :: else
        fi
    };
    if
    :: wake -> arm_fd(); wake = false           /* the wake hook */
    :: else
    fi
}

/* Timer 0 is armed already. */
proctype armer_of_1()
{
    byte e;
    bool wake;
    arm_timer(1, 2);
    arm_timer(1, 3);                    /* later: wakes nobody */
    if
    :: arm_timer(1, 1)
    :: skip
    fi;
    armers_left--
}

proctype clock()
{
    do
    :: now < END -> now++
    :: else -> break
    od
}

inline callback(t) {
    if
    :: t == 0 -> ran[1]                 /* waits for the other timer's callback */
    :: else
    fi;
    ran[t] = true
}

#define all_done (armers_left == 0 && callbacks == 0 && when[0] == NEVER && when[1] == NEVER)

proctype worker()
{
    byte e, t, at;
    do
    :: atomic { at = now; t = 0 };
        do                              /* a pass: is anything due? */
        :: t < TIMERS ->
            atomic {
                if
                :: when[t] <= at -> when[t] = NEVER; callbacks++; break
                :: else -> t++
                fi
            }
        :: else -> break
        od;
        if
        :: t < TIMERS ->
#ifndef NO_HAND_OVER
            hand_over(at);
#endif
            callback(t);
            callbacks--
        :: else ->
#ifndef NO_ARM_BEFORE_SLEEP
            arm_fd();
            if
            :: e > at ->
#endif
                atomic {                /* epoll_wait */
                    if
                    :: fd_when <= now && !fd_taken -> fd_taken = true
                    :: all_done -> break
                    fi
                }
#ifndef NO_ARM_BEFORE_SLEEP
            :: else                     /* due already: look again */
            fi
#endif
        fi;
        atomic { e = 0; at = 0; t = 0 }
    od
}

init
{
    byte n;
    atomic {
        when[0] = 1; told[0] = 1; fd_when = 1;
        run clock();
        run armer_of_1();
        for (n : 1 .. WORKERS) {
            run worker()
        }
    }
}
