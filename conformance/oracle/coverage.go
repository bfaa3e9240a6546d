// Which situations the scripts reach. A generator that no longer gets to one of them is a test
// that no longer tests it, so a long run fails then.
package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

type situation int

const (
	funcStopPending situation = iota
	funcStopFired
	funcStopTwice
	funcResetEarlier
	funcResetLater
	funcResetSame
	funcResetFired
	funcResetStopped
	funcResetNow
	funcStopAtItsInstant
	funcFiredTwice
	periodicAgain
	periodicStopSelf
	periodicResetSelf
	periodicResetOnce
	periodicReset
	givenUpPending
	givenUpPeriodic
	givenUpFired
	givenUpSelf
	callResetSelf
	callResetSelfNow
	callStopSelf
	callFreeSelf
	callStopOther
	callResetOther
	callResetOtherNow
	callResetBlocked
	callStopBlocked
	callReceive
	callCreate
	callFreeOther
	chanStopUnreceived
	chanStopReceived
	chanStopPending
	chanResetUnreceived
	chanResetReceived
	chanResetPending
	chanResetNow
	chanAtItsInstant
	tryEmpty
	tryEmptyAfterReset
	tryValueNow
	tryValueLate
	tryWhileBlocked
	recvAtOnce
	recvBlocked
	recvBlockedOnStopped
	blockedResetEarlier
	blockedResetLater
	blockedResetNow
	blockedResetMoved
	blockedStopped
	blockedStoppedReset
	blockedTwo
	blockedTwoServed
	blockedForEver
	tickBlocked
	tickMissed
	tickStopBuffered
	tickResetBuffered
	tickResetBlocked
	tickAfterWatched
	tickRefused
	createNow
	createNegative
	createOverflow
	createHuge
	resetOverflow
	resetNegative
	farFired
	farOverflow
	collideFires
	collideFireActor
	collideActors
	collideFireReceive
	freePending
	freeUnreceived
	sleepZero
	sleepNegative
	sleepTiny
	burst
	burstThree
	situations
)

var situationNames = [situations]string{
	funcStopPending:      "func: stop of a pending one",
	funcStopFired:        "func: stop of one that has fired",
	funcStopTwice:        "func: stop of a stopped one",
	funcResetEarlier:     "func: reset of a pending one to earlier",
	funcResetLater:       "func: reset of a pending one to later",
	funcResetSame:        "func: reset of a pending one to the same instant",
	funcResetFired:       "func: reset of one that has fired",
	funcResetStopped:     "func: reset of a stopped one",
	funcResetNow:         "func: reset to now or before",
	funcStopAtItsInstant: "func: stopped at the instant at which it fired",
	funcFiredTwice:       "func: fired twice at one instant",
	periodicAgain:        "periodic: fired more than once",
	periodicStopSelf:     "periodic: stopped in its callback",
	periodicResetSelf:    "periodic: reset in its callback",
	periodicResetOnce:    "periodic: made a one-shot for now",
	periodicReset:        "periodic: reset from outside, after it fired",
	givenUpPending:       "given up: a pending one",
	givenUpPeriodic:      "given up: a periodic one",
	givenUpFired:         "given up: fires afterwards",
	givenUpSelf:          "given up: in its own callback",
	callResetSelf:        "callback: resets itself",
	callResetSelfNow:     "callback: resets itself to now or before",
	callStopSelf:         "callback: stops itself",
	callFreeSelf:         "callback: frees itself",
	callStopOther:        "callback: stops another, pending",
	callResetOther:       "callback: resets another, pending",
	callResetOtherNow:    "callback: resets another to now or before",
	callResetBlocked:     "callback: resets one with a blocked receiver",
	callStopBlocked:      "callback: stops one with a blocked receiver",
	callReceive:          "callback: receives a value",
	callCreate:           "callback: creates a timer",
	callFreeOther:        "callback: frees another",
	chanStopUnreceived:   "channel: stop of an unreceived value",
	chanStopReceived:     "channel: stop after the value was received",
	chanStopPending:      "channel: stop of a pending one",
	chanResetUnreceived:  "channel: reset of an unreceived value",
	chanResetReceived:    "channel: reset after the value was received",
	chanResetPending:     "channel: reset of a pending one",
	chanResetNow:         "channel: reset to now or before, nobody blocked",
	chanAtItsInstant:     "channel: stopped or reset at the instant it was due",
	tryEmpty:             "try: nothing there",
	tryEmptyAfterReset:   "try: nothing there, since stop or reset took it",
	tryValueNow:          "try: a value of this instant",
	tryValueLate:         "try: a value of an earlier instant",
	tryWhileBlocked:      "try: while another is blocked",
	recvAtOnce:           "receive: a value was there",
	recvBlocked:          "receive: blocked, then served",
	recvBlockedOnStopped: "receive: blocked on one that was not armed",
	blockedResetEarlier:  "blocked receiver: reset to earlier",
	blockedResetLater:    "blocked receiver: reset to later",
	blockedResetNow:      "blocked receiver: reset to now or before",
	blockedResetMoved:    "blocked receiver: served after a reset",
	blockedStopped:       "blocked receiver: stopped",
	blockedStoppedReset:  "blocked receiver: stopped, then reset",
	blockedTwo:           "blocked receivers: two or more on one timer",
	blockedTwoServed:     "blocked receivers: the first of two is served",
	blockedForEver:       "blocked receiver: until the end",
	tickBlocked:          "ticker: blocked, then served",
	tickMissed:           "ticker: receive after missed ticks",
	tickStopBuffered:     "ticker: stop of an unreceived tick",
	tickResetBuffered:    "ticker: reset of an unreceived tick",
	tickResetBlocked:     "ticker: new period while a receiver is blocked",
	tickAfterWatched:     "ticker: looked at again after a blocked receive",
	tickRefused:          "ticker: period <= 0 refused",
	createNow:            "create: for 0",
	createNegative:       "create: for a negative duration",
	createOverflow:       "create: overflow",
	createHuge:           "create: huge, no overflow",
	resetOverflow:        "reset: overflow",
	resetNegative:        "reset: negative",
	farFired:             "end of time: fired more than 30 years ahead",
	farOverflow:          "end of time: a ticker's next tick overflows",
	collideFires:         "one instant: two callbacks",
	collideFireActor:     "one instant: a callback and a sleeper",
	collideActors:        "one instant: two actors",
	collideFireReceive:   "one instant: a callback and a blocked receiver",
	freePending:          "free: a pending one",
	freeUnreceived:       "free: an unreceived value",
	sleepZero:            "sleep: for 0",
	sleepNegative:        "sleep: for a negative duration",
	sleepTiny:            "sleep: for a few nanoseconds",
	burst:                "at once: two operations with no quiet between",
	burstThree:           "at once: three or more",
}

// coverage counts scripts for each situation.
type coverage [situations]int

type reached [situations]bool

func (c *coverage) add(r *reached) {
	for i, yes := range r {
		if yes {
			c[i]++
		}
	}
}

func (c *coverage) print(w io.Writer) (missing []string) {
	fmt.Fprintln(w, "situations, and how many scripts reached them:")
	for i, n := range c {
		name := situationNames[i]
		fmt.Fprintf(w, "  %s %s %d\n", name, strings.Repeat(".", 60-len(name)), n)
		if n == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// note tells what situation the operation o finds the timer in slot s in. self is the slot of
// the callback that does it, or nil.
func (b *bubble) note(o op, s, self *slot) {
	r, now := b.reached, base+b.now()
	at := when(o.d)
	set := func(i situation, yes bool) { r[i] = r[i] || yes }
	if s.kind == 0 {
		if strings.IndexByte("fpnk", o.kind) >= 0 && !(o.kind == 'k' && o.d <= 0) {
			set(callCreate, self != nil)
			set(createNow, o.d == 0)
			set(createNegative, o.d < 0)
			set(createOverflow, o.d > 0 && o.d > math.MaxInt64-now)
			set(createHuge, o.d > 1<<40 && o.d <= math.MaxInt64-now)
		}
		set(tickRefused, o.kind == 'k' && o.d <= 0)
		return
	}
	pending, due := s.due > now, s.due != 0 && s.due <= now
	other := self != nil && self != s
	blocked := s.blocked > 0
	switch o.kind {
	case 'g':
		set(givenUpPending, s.callsBack() && pending && s.period == 0)
		set(givenUpPeriodic, s.callsBack() && pending && s.period > 0)
		set(givenUpSelf, s == self)
	case 'x', 'd':
		set(periodicStopSelf, self == s && s.period > 0 && o.kind == 'x')
		set(callStopSelf, self == s && o.kind == 'x')
		set(callStopOther, other && pending && o.kind == 'x')
		set(callStopBlocked, self != nil && blocked && pending && o.kind == 'x')
		if o.kind == 'd' {
			set(callFreeSelf, self == s)
			set(callFreeOther, other)
			set(freePending, pending && !blocked)
			set(freeUnreceived, !s.callsBack() && due && !blocked)
		} else if s.callsBack() {
			set(funcStopPending, pending)
			set(funcStopFired, s.due == 0 && s.firings > 0)
			set(funcStopAtItsInstant, s.due == 0 && base+s.fired == now)
			set(funcStopTwice, s.stopped)
		} else {
			set(chanStopUnreceived, due && s.kind == 'n')
			set(tickStopBuffered, due && s.kind == 'k')
			set(chanStopReceived, s.due == 0 && s.received && s.kind == 'n')
			set(chanStopPending, pending)
			set(chanAtItsInstant, s.due == now)
			set(blockedStopped, blocked && pending)
		}
		s.taken, s.stopped = due, true
	case 'r':
		if s.kind == 'k' && o.d <= 0 {
			r[tickRefused] = true
			return
		}
		set(resetOverflow, o.d > 0 && o.d > math.MaxInt64-now)
		set(resetNegative, o.d < 0)
		set(callResetSelf, self == s && o.d > 0)
		set(callResetSelfNow, self == s && o.d <= 0)
		set(callResetOther, other && pending)
		set(callResetOtherNow, other && o.d <= 0)
		set(callResetBlocked, other && blocked)
		if s.callsBack() {
			set(periodicResetSelf, self == s && s.period > 0 && o.d > 0)
			set(periodicResetOnce, s.period > 0 && pending && o.d <= 0)
			set(periodicReset, self == nil && s.period > 0 && pending && s.firings > 0 && o.d > 0)
			set(funcResetEarlier, pending && at < s.due && o.d > 0)
			set(funcResetLater, pending && at > s.due)
			set(funcResetSame, pending && at == s.due)
			set(funcResetFired, s.due == 0 && s.firings > 0 && !s.stopped)
			set(funcResetStopped, s.stopped)
			set(funcResetNow, o.d <= 0)
		} else {
			set(chanResetUnreceived, due && s.kind == 'n')
			set(tickResetBuffered, due && s.kind == 'k')
			set(chanResetReceived, s.due == 0 && s.received && s.kind == 'n')
			set(chanResetPending, pending)
			set(chanResetNow, o.d <= 0 && !blocked)
			set(chanAtItsInstant, s.due == now)
			set(blockedResetEarlier, blocked && pending && at < s.due)
			set(blockedResetLater, blocked && pending && at > s.due)
			set(blockedResetNow, blocked && at <= now)
			set(blockedStoppedReset, blocked && s.stopped)
			set(tickResetBlocked, blocked && s.kind == 'k' && o.d != s.period)
		}
		s.moved = s.moved || blocked
		s.taken, s.stopped, s.received = due, false, false
	case 't':
		if s.callsBack() {
			return
		}
		set(tryEmpty, !due)
		set(tryEmptyAfterReset, !due && s.taken)
		set(tryValueNow, s.due == now)
		set(tryValueLate, due && s.due < now)
		set(tryWhileBlocked, blocked)
		set(callReceive, self != nil && due)
		set(tickAfterWatched, s.kind == 'k' && s.watched && due)
	}
}
