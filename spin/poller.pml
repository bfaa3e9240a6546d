/*
 * The poller of the built-in runtime (src/rt/deadline.rs, poller.rs, worker.rs): idle
 * workers wait in epoll_wait on one timerfd that they share. It goes off once for each
 * setting, and wakes one of them.
 *
 * The fd is set under a lock of its own, from a wake time that is read inside the lock:
 *   arm          by who arms a timer earlier than anyone could have been told (the wake
 *                hook), and by a worker before it sleeps. Left alone if it stands there
 *                already and has not gone off.
 *   hand_over    by a worker before a callback, if the fd has gone off: perhaps it was this
 *                worker that it woke, it will not go off again by itself, and the callback
 *                may take long. If more is due, it is set for a little later.
 *   arm_in_call  by a callback on a worker that arms a timer: the worker looks for itself
 *                when the callback ends, so nobody else is woken before a little later.
 * Who is woken by it forgets what it was set to (gone_off), without the lock.
 *
 * The callback of timer 0 waits for that of timer 1, which another worker must run. Timer 1
 * is armed, and re-armed to later and to earlier times, by another thread; or by the
 * callback of timer 0, and then by another thread to an earlier time.
 *
 * Each of the two timers is on a P of its own, with its own `told`. Reading a P's wake time
 * and publishing it is one step here, and so is arming a timer and lowering `told`:
 * missed_wake.pml shows that they may be taken for that.
 *
 *   (nothing)             the library
 *   -DREAD_OUTSIDE        the wake time is read before the lock is taken: an older one
 *                         lands in the fd after a newer one
 *   -DCALL_READS_OUTSIDE  the same, in arm_in_call only
 *   -DNO_ARM_BEFORE_SLEEP a worker sleeps on what others have left in the fd
 *   -DNO_HAND_OVER        the fd stays as it was before a callback
 *   -DDUE_IS_LEFT         hand_over leaves the fd alone if more is due
 *   -DNO_ARM_IN_CALL      a callback's own armings are left to the worker that it runs on
 *   -DCALL_NOT_EARLIER    arm_in_call sets the fd only if that has gone off
 *   -DNO_GONE_OFF         what the fd was set to is not forgotten. The kernel may be a moment
 *                         ahead of the clock that the worker then reads: "it stands there
 *                         already and has not gone off", and all sleep
 *   -DLEFT_THOUGH_PASSED  arm and arm_in_call leave the fd alone if it stands there, gone off
 *                         or not. Nothing is lost by that: who took its edge is awake, has
 *                         forgotten the time, and before it sleeps or calls back it looks
 *                         again
 *
 * What must hold: each timer fires once its time has come. Else all workers sleep, the fd
 * is silent, the clock stands at its end, and spin reports that nobody can go on.
 */

#define TIMERS 2
#define WORKERS 2
#define END 3                   /* the clock's last time; it begins at 1 */
#define LATER 5                 /* a time that never comes */
#define NEVER 9
#define AHEAD 1                 /* so far the kernel's clock may be ahead of the workers' */

byte now = 1;
byte when[TIMERS] = NEVER;      /* NEVER: not armed; else its P's wake time */
byte told[TIMERS] = NEVER;
bool ran[TIMERS];               /* its callback has run to its end */

bool fd_locked;
byte fd_when = NEVER;           /* what the timerfd is set to */
bool fd_taken;                  /* it went off for this setting, and a waiter took it */
byte armed = NEVER;             /* what it was set to, as far as is known; 0: forgotten */

bool by_callback;               /* timer 1 is armed by the callback of timer 0 first */
bool in_call;                   /* it has done that */

byte armers_left;
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

/* The lock is held, and given back. `at` is the time as far as the caller knows. */
inline set_and_unlock(until, at) {
    atomic {
        if
#ifdef LEFT_THOUGH_PASSED
        :: until == armed
#else
        :: until == armed && (armed == NEVER || armed > at)     /* it stands there already */
#endif
        :: else ->
            if
            :: until == NEVER && armed <= at    /* it has gone off: no need to stop it */
            :: else -> fd_when = until; fd_taken = false        /* timerfd_settime */
            fi;
            armed = until
        fi;
        fd_locked = false
    }
}

inline lock_and_read() {
#ifdef READ_OUTSIDE
    time_sleep_until(e);
    lock_fd()
#else
    lock_fd();
    time_sleep_until(e)
#endif
}

inline arm_fd() {
    lock_and_read();
    set_and_unlock(e, now)
}

/* A little later than `at`; the clock has no later time than END. */
#define soon(at) (at < END -> at + 1 : END)

/* `at` is the time of the pass; it may be old by now. */
inline hand_over(at) {
    if
    :: armed <= at ->
        lock_fd();
        if
        :: armed <= at ->
            time_sleep_until(e);
            if
#ifdef DUE_IS_LEFT
            :: e <= at -> fd_locked = false
#else
            :: e <= at -> e = soon(at); set_and_unlock(e, at)
#endif
            :: else -> set_and_unlock(e, at)
            fi
        :: else -> fd_locked = false
        fi
    :: else
    fi
}

inline arm_in_call(at) {
    at = now;
#ifdef CALL_READS_OUTSIDE
    time_sleep_until(e); was = armed;
    lock_fd();
#else
    lock_and_read(); was = armed;
#endif
    if
    :: e < soon(at) -> e = soon(at)
    :: else
    fi;
    if
#ifndef CALL_NOT_EARLIER
    :: was > e -> set_and_unlock(e, at)
#endif
#ifndef LEFT_THOUGH_PASSED
    :: was <= at -> set_and_unlock(e, at)
#endif
    :: else -> fd_locked = false
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
    }
}

inline arm_and_wake(t, at) {
    arm_timer(t, at);
    if
    :: wake -> arm_fd(); wake = false   /* the wake hook */
    :: else
    fi
}

/* Another thread. */
proctype armer_of_1()
{
    byte e;
    bool wake;
    if
    :: by_callback -> in_call; arm_and_wake(1, 2)
    :: else ->
        arm_and_wake(1, 2);
        arm_and_wake(1, 3);             /* later: wakes nobody */
        if
        :: arm_and_wake(1, 1)
        :: skip
        fi
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

inline callback(t, at) {
    if
    :: t == 0 ->
        if
        :: by_callback ->
            if
            :: arm_timer(1, 1)
            :: arm_timer(1, LATER)
            fi;
            in_call = true;
            if
#ifndef NO_ARM_IN_CALL
            :: wake -> arm_in_call(at); wake = false
#endif
            :: else
            fi;
            armers_left--
        :: else
        fi;
        ran[1]                          /* waits for the other timer's callback */
    :: else
    fi;
    ran[t] = true
}

#define all_done (armers_left == 0 && callbacks == 0 && when[0] == NEVER && when[1] == NEVER)

proctype worker()
{
    byte e, t, at, was;
    bool wake;
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
            callback(t, at);
            callbacks--
        :: else ->
#ifndef NO_ARM_BEFORE_SLEEP
            arm_fd();
            if
            :: e > at ->
#endif
                atomic {                /* epoll_wait */
                    if
                    :: fd_when <= now + AHEAD && !fd_taken -> fd_taken = true
                    :: all_done -> break
                    fi
                };
#ifndef NO_GONE_OFF
                armed = 0               /* gone_off */
#else
                skip
#endif
#ifndef NO_ARM_BEFORE_SLEEP
            :: else                     /* due already: look again */
            fi
#endif
        fi;
        atomic { e = 0; at = 0; t = 0; was = 0 }
    od
}

init
{
    byte n;
    atomic {
        when[0] = 2; told[0] = 2; fd_when = 2; armed = 2;
        run clock();
        if
        :: by_callback = true; armers_left = 2
        :: armers_left = 1
        fi;
        run armer_of_1();
        for (n : 1 .. WORKERS) {
            run worker()
        }
    }
}
