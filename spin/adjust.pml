/*
 * adjusttimers against modtimer against a query of the wake time: when to clear
 * timerModifiedEarliest.
 *
 * modtimer to an earlier time leaves the heap alone. It marks the timer Modified and lowers
 * `modified_earliest`. The owner scans the heap when that time has come, or earlier.
 * A query reads both words, one after the other, with no lock.
 *
 * Cleared before the scan, a query finds neither the old word nor the new one. Cleared
 * after it, a modification behind the scan's back is forgotten. So the library folds the
 * word into `timer0_when`, clears it, scans, and computes `timer0_when` anew; a query
 * reads `modified_earliest` first.
 *
 *   (nothing)            the library
 *   -DCLEAR_BEFORE_SCAN  not folded
 *   -DCLEAR_AFTER_SCAN   folded and cleared, but after the scan
 *   -DFIRST_WORD_FIRST   a query reads timer0_when, then modified_earliest
 *
 * What must hold: a query that begins when modtimer has returned is told his time or an
 * earlier one, at any moment of the scan; and so it is when all is done.
 */

#define TIMERS 2
#define NONE 0

byte timer0_when;               /* published by the owner */
byte modified_earliest;         /* lowered by modtimer, cleared by the owner */

bool t_locked[TIMERS];
bool modified[TIMERS];          /* Modified; else Waiting */
byte when[TIMERS];              /* what was asked for */
byte key[TIMERS];               /* what the heap goes by; the owner's */

bool done[TIMERS];              /* the modtimer of this timer has returned */

/* Go's updateTimerModifiedEarliest: one indivisible step. */
inline lower(w) {
    atomic {
        if
        :: modified_earliest == NONE || w < modified_earliest -> modified_earliest = w
        :: else
        fi
    }
}

proctype modtimer(byte t; byte w)
{
    atomic { !t_locked[t] -> t_locked[t] = true };
    when[t] = w;
    lower(w);
    atomic { modified[t] = true; t_locked[t] = false };
    done[t] = true
}

inline fold_and_clear() {
    do
    :: m = modified_earliest;
        if
        :: m == NONE -> break
        :: else
        fi;
#ifndef CLEAR_BEFORE_SCAN
        if
        :: timer0_when == NONE || m < timer0_when -> timer0_when = m
        :: else
        fi;
#endif
        atomic {
            if
            :: modified_earliest == m -> modified_earliest = NONE; break
            :: else
            fi
        }
    od
}

/* The P's lock is held throughout: there is only one owner. */
proctype adjusttimers()
{
    byte m, t;
#ifndef CLEAR_AFTER_SCAN
    fold_and_clear();
#endif
    for (t : 0 .. TIMERS - 1) {
        if
        :: !modified[t] && !t_locked[t]         /* Waiting: read with no lock, passed over */
        :: else ->
            atomic { !t_locked[t] -> t_locked[t] = true };
            key[t] = when[t];
            atomic { modified[t] = false; t_locked[t] = false }
        fi
    }
#ifdef CLEAR_AFTER_SCAN
    fold_and_clear();
#endif
    if
    :: key[0] < key[1] -> timer0_when = key[0]
    :: else -> timer0_when = key[1]
    fi
}

inline ask(w) {
#ifdef FIRST_WORD_FIRST
    w = timer0_when;
    m = modified_earliest;
#else
    m = modified_earliest;
    w = timer0_when;
#endif
    if
    :: w == NONE || (m != NONE && m < w) -> w = m
    :: else
    fi
}

proctype query()
{
    byte bound = 20, told, m;
    atomic {
        if
        :: done[0] -> bound = when[0]
        :: else
        fi;
        if
        :: done[1] && when[1] < bound -> bound = when[1]
        :: else
        fi
    }
    ask(told);
    assert(told != NONE && told <= bound)
}

init
{
    byte told, m;
    atomic {
        when[0] = 10; key[0] = 10;
        when[1] = 20; key[1] = 20;
        timer0_when = 10;
        run modtimer(0, 5);
        run modtimer(1, 3);
        run adjusttimers();
        run query()
    }
    _nr_pr == 1;
    ask(told);
    assert(told == 3)
}
