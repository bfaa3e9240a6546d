/*
 * The order of a P's timers lock and a timer's status lock.
 *
 * Who runs or adjusts a heap holds the P's timers lock and locks the timers in it, one
 * after the other. modtimer of a Removed timer must insert it, and so needs both locks as
 * well. Before the seed commit it locked the timer first and then, still holding it, the
 * timers lock: the two orders are each other's inverse.
 *
 * The new order, which is the library's: look at the status without a lock; Removed: lock
 * the P, then the timer, and look again. Not Removed: lock only the timer; if it proves
 * Removed, unlock it and start again.
 *
 * What spin shows:
 *   (nothing)            the new order: no deadlock, no lock of a P taken below a timer's
 *   -DOLD_ORDER          the inversion: a P's lock is wanted by the holder of a timer
 *   -DOLD_ORDER -DMIXED  the deadlock: the old order beside one caller who, holding the P,
 *                        locks a timer that may be Removed. Closing the window between
 *                        unlock and doaddtimer (insert_window.pml) needs such a caller.
 *   -DOLD_ORDER -DALONE  the old order alone: no deadlock. As long as the holder of a P
 *                        locks nothing but timers of its heap, and a timer that somebody
 *                        found Removed is in no heap, the circle does not close. So the
 *                        commit calls it a potential deadlock, and only the rule of one
 *                        order, not luck, keeps it away.
 */

#define TIMERS 2

mtype = { Removed, Waiting, Modified };

bool p_locked;                  /* the P's timers lock */
bool t_locked[TIMERS];          /* a timer's status is Locked ... */
mtype status[TIMERS];           /* ... and this is what it was before, or is */
bool in_heap[TIMERS];           /* under the P's lock */

inline lock_timer(t) {
    atomic { !t_locked[t] -> t_locked[t] = true; held++ }
}

inline unlock_timer(t, next) {
    atomic { status[t] = next; t_locked[t] = false; held-- }
}

inline lock_p() {
    atomic {
#if !defined(MIXED) && !defined(ALONE)
        assert(held == 0);      /* the lock order */
#endif
        !p_locked -> p_locked = true
    }
}

inline unlock_p() { p_locked = false }

inline insert(t) {
    assert(!in_heap[t]);
    in_heap[t] = true
}

/* As it was: the timer, then the P. */
proctype modtimer_old(byte t)
{
    byte held = 0;              /* timers locked by this process */
    lock_timer(t);
    if
    :: status[t] == Removed ->
        lock_p();
        insert(t);
        unlock_p();
        unlock_timer(t, Waiting)
    :: else ->
        unlock_timer(t, Modified)
    fi
}

/* As it is: unlocked look, the P, then the timer, second look. */
proctype modtimer_new(byte t)
{
    byte held = 0;
again:
    if
    :: status[t] == Removed ->
        lock_p();
        lock_timer(t);
        if
        :: status[t] == Removed ->
            insert(t);
            unlock_timer(t, Waiting)
        :: else ->                              /* somebody was faster */
            unlock_timer(t, Modified)
        fi;
        unlock_p()
    :: else ->
        lock_timer(t);
        if
        :: status[t] == Removed ->              /* it has fired meanwhile */
            unlock_timer(t, Removed);
            goto again
        :: else ->
            unlock_timer(t, Modified)
        fi
    fi
}

/* runtimer and adjusttimers: each timer of the heap is put right, or fires. */
proctype owner()
{
    byte held = 0;
    byte t;
    byte round = 0;
    do
    :: round < 2 ->
        round++;
        lock_p();
        for (t : 0 .. TIMERS - 1) {
            if
            :: in_heap[t] ->
                lock_timer(t);
                assert(status[t] != Removed);   /* else badTimer */
                if
                :: status[t] == Modified ->
                    unlock_timer(t, Waiting)
                :: status[t] == Waiting ->      /* not due */
                    unlock_timer(t, Waiting)
                :: status[t] == Waiting ->      /* due: it fires */
                    in_heap[t] = false;
                    unlock_timer(t, Removed)
                fi
            :: else
            fi
        }
        unlock_p()
    :: else -> break
    od
}

init
{
    byte t;
    atomic {
        status[0] = Waiting;
        in_heap[0] = true;
        status[1] = Removed;
        run owner();
#ifdef OLD_ORDER
        run modtimer_old(0);
        run modtimer_old(1);
#else
        run modtimer_new(0);
        run modtimer_new(1);
#endif
#if defined(OLD_ORDER) && !defined(MIXED)
        run modtimer_old(1)
#else
        run modtimer_new(1)
#endif
    }
    _nr_pr == 1;
    for (t : 0 .. TIMERS - 1) {
        assert(in_heap[t] == (status[t] != Removed))
    }
}
