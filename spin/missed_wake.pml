/*
 * The missed wake: somebody decides how long to sleep, an earlier timer arrives, and he
 * sleeps past it. And the library's way out, "publish, look again, then sleep", as
 * src/engine/timers.rs has it ("The wake protocol").
 *
 *   wake   the time of the P's first timer (here one word; adjust.pml has two)
 *   told   the latest time that anyone could have been told
 *   note   somebody has called the wake hook; the next sleep returns at once
 *
 * A sleeper reads `wake`; if that is later than `told` he raises `told` to it, and reads
 * `wake` again. Whoever lowers `wake` does so first, then lowers `told`, and calls the hook
 * if `told` stood above. Both change `told` by one indivisible step.
 *
 * There is no clock here: a sleep ends by the note, or because nobody has an earlier timer
 * than the one that it lasts until. Whoever sleeps past a timer therefore sleeps for ever,
 * and spin reports that nobody can go on.
 *
 *   (nothing)           the library
 *   -DNO_SECOND_LOOK    published, but not looked again
 *   -DNO_PUBLISH        looked again, but nobody is told: an armer wakes only for what was
 *                       told before
 *   -DNOTE_FIRST        the armer lowers `told` and calls the hook before the timer is there
 *   -DNOTE_IS_LOST      a wake that comes before the sleep does not end that sleep
 */

#define NEVER 9

byte wake = NEVER;
byte told = NEVER;              /* somebody may sleep for ever already */
bool note;
bool asleep;
byte armers_left = 4;
byte sleepers_left = 1;

/* Go's nobarrierWakeTime. */
inline wake_time(w) {
    do
    :: w = wake;
        if
        :: w <= told -> break
        :: else
        fi;
#ifdef NO_PUBLISH
        if
        :: w == wake -> break
        :: else
        fi
#else
        atomic {
            if
            :: told < w -> told = w
            :: else
            fi
        }
#ifdef NO_SECOND_LOOK
        break
#endif
#endif
    od
}

inline wake_hook() {
#ifdef NOTE_IS_LOST
    atomic {
        if
        :: asleep -> note = true
        :: else
        fi
    }
#else
    note = true
#endif
}

/* The timer is visible; now wake who was told a later time. */
inline note_lowered(when) {
    atomic {
        before = told;
        if
        :: when < told -> told = when
        :: else
        fi
    };
    if
    :: before > when -> wake_hook()
    :: else
    fi
}

/* The timer itself: under a lock that has nothing to do with the matter. */
inline lower(when) {
    atomic {
        if
        :: when < wake -> wake = when
        :: else
        fi
    }
}

/* Arms a timer. */
proctype armer(byte when)
{
    byte before;
#ifdef NOTE_FIRST
    note_lowered(when);
    lower(when);
#else
    lower(when);
    note_lowered(when);
#endif
    armers_left--
}

/* A P's thread: asks, sleeps, and runs what is due when it wakes. */
proctype sleeper()
{
    byte until;
    do
    :: wake_time(until);
        asleep = true;
        atomic {
            if
            :: note ->                                  /* woken: look again */
                note = false;
                asleep = false
            :: armers_left == 0 && until == NEVER && wake == NEVER ->
                break                                   /* all is done */
            :: armers_left == 0 && until != NEVER && until <= wake ->
                if                                      /* its time has come */
                :: until == wake -> wake = NEVER        /* the timer fires */
                :: else                                 /* it was put off: look again */
                fi;
                asleep = false
            fi
        }
    od;
    sleepers_left--
}

/* The owner finds the timer re-armed to a later time, or stopped. */
proctype later(byte when)
{
    atomic {
        if
        :: wake < when -> wake = when
        :: else
        fi
    }
    armers_left--
}

init
{
    atomic {
        run sleeper();
        run armer(5);
        run armer(3);
        run later(7);
        run armer(6)
    }
    sleepers_left == 0
}
