/*
 * modtimer of a Removed timer has to let the timer go before it takes a P's lock (see
 * lock_order.pml). In the seeds that leaves a window: the timer is unlocked as Waiting, and
 * enters the heap a moment later. Here others stop, re-arm and free the timer in it.
 *
 * The library's way: lock the P, then the timer, look at the status again, and arm and
 * insert in one hold. If the timer is in a heap by then, it is modified there.
 *
 * What must hold: nobody looks for the P of a timer that has none; the heap has an entry
 * for the timer if and only if it is not Removed, and never two; a freed timer's node goes
 * back once, when no entry is left, and nobody inserts it after that; each arming
 * ends once: stopped, replaced, or still pending.
 *
 *   (nothing)          the library
 *   -DSEED_WINDOW      Waiting is published first, the entry comes later
 *   -DNO_SECOND_LOOK   the P, then the timer, but the status is believed from before
 */

mtype = { Removed, Waiting, Modified };

bool p_locked, t_locked;
mtype status = Removed;
bool armed;                     /* when != 0 */
bool has_p;                     /* the timer's P is known */
bool freed;                     /* its handle is dead */
byte entries;                   /* of the timer in the heap; under the P's lock */
byte given_back;                /* how often the node went back to the slab */

byte armings, stopped, replaced;        /* counters, by whoever holds the timer */

inline lock_p() { atomic { !p_locked -> p_locked = true } }
inline unlock_p() { p_locked = false }
inline lock_timer() { atomic { !t_locked -> t_locked = true } }
inline unlock_timer(next) { atomic { status = next; t_locked = false } }

inline add_entry() {
    assert(given_back == 0);            /* else a dead node enters the heap */
    entries++;
    assert(entries == 1)
}

/* The timer is locked: it gets a new time. */
inline arm() {
    atomic {
        armings++;
        if
        :: armed -> replaced++
        :: else -> armed = true
        fi
    }
}

proctype modtimer()
{
again:
    if
    :: status == Removed ->
#ifdef SEED_WINDOW
        lock_timer();
        if
        :: freed ->
            unlock_timer(status)
        :: !freed && status == Removed ->
            arm();
            unlock_timer(Waiting);
            /* the window */
            lock_p();
            add_entry();
            has_p = true;
            unlock_p()
        :: else ->
            unlock_timer(status);
            goto again
        fi
#else
        lock_p();
        lock_timer();
        if
        :: freed ->
            unlock_timer(status)
#ifdef NO_SECOND_LOOK
        :: else ->
#else
        :: !freed && status == Removed ->
#endif
            arm();
            has_p = true;
            add_entry();
            unlock_timer(Waiting)
#ifndef NO_SECOND_LOOK
        :: else ->                      /* somebody armed it meanwhile */
            arm();
            unlock_timer(Modified)
#endif
        fi;
        unlock_p()
#endif
    :: else ->
        lock_timer();
        if
        :: freed ->
            unlock_timer(status)
        :: !freed && status == Removed ->
            unlock_timer(Removed);
            goto again
        :: else ->
            assert(has_p);              /* its modifiedEarliest is lowered */
            arm();
            unlock_timer(Modified)
        fi
    fi
}

/* The common part of deltimer and free; the timer is locked. */
inline stop() {
    if
    :: armed ->
        assert(has_p);                  /* its count of dead entries goes up */
        armed = false;
        stopped++
    :: else
    fi
}

proctype deltimer()
{
    lock_timer();
    if
    :: !freed && status != Removed ->
        stop();
        unlock_timer(Modified)
    :: else ->
        unlock_timer(status)
    fi
}

proctype timer_free()
{
    lock_timer();
    stop();
    freed = true;
    if
    :: status == Removed ->
        unlock_timer(Removed);
        given_back++                    /* no entry: its last reference */
    :: else ->
        unlock_timer(Modified)
    fi
}

/* cleantimers: takes off what is stopped. */
proctype clean()
{
    lock_p();
    if
    :: entries > 0 ->
        lock_timer();
        if
        :: !armed ->
            entries--;
            if
            :: freed -> given_back++
            :: else
            fi;
            unlock_timer(Removed)
        :: else ->
            unlock_timer(Waiting)
        fi
    :: else
    fi;
    unlock_p()
}

init
{
    atomic {
        run modtimer();
        run modtimer();
        run deltimer();
        run timer_free();
        run clean()
    }
    _nr_pr == 1;
    run clean();
    _nr_pr == 1;
    assert(entries == (status != Removed));
    assert(freed && given_back == 1);
    assert(armings == stopped + replaced + armed)
}
