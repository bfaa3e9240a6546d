// The real Go's side: runs a script by package time inside a testing/synctest bubble.
//
// Actors are goroutines. Before each operation an actor stops at a gate. When all of the bubble
// is quiet, the conductor lets one actor through; so an instant's operations have an order that
// the script alone gives, and no outcome depends on how goroutines happen to be scheduled.
// Callbacks are not held up: they do their operations at once, and keep to the rule that
// mayTouch states.
//
// Tickers are stopped and reset by the runtime's own functions, as package time does, because
// package time drops what they return; periodic func timers are made by them.
package main

import (
	"math"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

//go:linkname resetTimer time.resetTimer
func resetTimer(t *time.Timer, when, period int64) bool

//go:linkname newTimer time.newTimer
func newTimer(when, period int64, f func(any, uintptr, int64), arg any, c unsafe.Pointer) *time.Timer

// goFunc is what time.AfterFunc has the runtime call.
func goFunc(arg any, _ uintptr, _ int64) { go arg.(func())() }

// A slot holds a timer, and the script's own idea of it: what was asked for, never how it is
// done. The C program keeps the same.
type slot struct {
	kind    byte // f, p, n, k; 0: empty
	timer   *time.Timer
	serial  int   // which of the slot's timers this is
	due     int64 // when the next value or firing is due; 0: not armed
	set     int64 // when it was armed
	period  int64
	fired   int64 // when its func was last called, or a blocked receiver last served; -1: never
	firings int
	blocked int // receivers
	// For the table of situations only: the last value was received; a stop or reset took it
	// away; stopped since it was armed; moved under a blocked receiver; looked at by one.
	received, taken, stopped, moved, watched bool
}

type gate int

const (
	away gate = iota // blocked in an operation, or in one now
	waiting
	gone
)

type bubble struct {
	s        *script
	reached  *reached
	mu       sync.Mutex // guards all below
	slots    [maxSlots]slot
	events   []event
	gates    []gate
	at       []int  // each actor's operation
	asleep   []bool // away, in a sleep
	aborting bool
	stray    []*time.Timer // given up
	calls    map[int64]int // callbacks at each instant
	wakes    map[int64]int // actors that came back from sleep
	serves   map[int64]int // receivers that came back
	let      []chan struct{}
	came     chan struct{}
	actors   sync.WaitGroup
}

// runGo gives the trace of s by the real Go.
func runGo(t *testing.T, s *script, r *reached) string {
	b := &bubble{s: s, reached: r, calls: map[int64]int{}, wakes: map[int64]int{}, serves: map[int64]int{}}
	synctest.Test(t, func(*testing.T) { b.conduct() })
	return traceText(b.events)
}

func (b *bubble) conduct() {
	n := len(b.s.actors)
	for i := range b.slots {
		b.slots[i].fired = -1
	}
	b.gates, b.at, b.asleep = make([]gate, n), make([]int, n), make([]bool, n)
	b.let, b.came = make([]chan struct{}, n), make(chan struct{}, 1)
	for i := range n {
		b.let[i] = make(chan struct{})
		b.actors.Go(func() { b.actor(i) })
	}
	end := time.NewTimer(time.Duration(b.s.horizon))
	for ended := false; ; {
		synctest.Wait()
		if i := b.next(); i >= 0 {
			b.let[i] <- struct{}{}
		} else if ended {
			break
		} else {
			select {
			case <-b.came:
			case <-end.C:
				ended = true
			}
		}
	}
	b.finish()
}

// next chooses among the actors at their gates the one that is least far in its list.
func (b *bubble) next() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	best := -1
	for i, g := range b.gates {
		if g == waiting && (best < 0 || b.at[i] < b.at[best]) {
			best = i
		}
	}
	if best >= 0 {
		b.gates[best] = away
	}
	return best
}

// finish looks at what is left, then brings all actors home.
func (b *bubble) finish() {
	now := b.now()
	b.aborting = true
	for i, g := range b.gates {
		if g != away {
			continue
		}
		what := "asleep"
		if !b.asleep[i] {
			what = "blocked " + b.s.actors[i][b.at[i]].String()
			b.reached[blockedForEver] = true
		}
		b.events = append(b.events, event{now, i, b.at[i], 0, what})
	}
	for i := range b.slots {
		s := &b.slots[i]
		if s.kind == 0 {
			continue
		}
		if !s.callsBack() && s.blocked == 0 {
			b.log(theEnd, i, 1, op{kind: 't', slot: i}, b.try(s))
		}
		b.log(theEnd, i, 2, op{kind: 'x', slot: i}, yes(s.timer.Stop()))
	}
	for _, t := range b.stray {
		t.Stop()
	}
	for i := range b.slots {
		for s := &b.slots[i]; s.blocked > 0; synctest.Wait() {
			resetTimer(s.timer, base+now, 0)
		}
	}
	b.actors.Wait()
}

func (b *bubble) now() int64 { return time.Now().UnixNano() - base }

func (b *bubble) log(who, n, sub int, o op, result string) {
	b.events = append(b.events, event{b.now(), who, n, sub, o.String() + " " + result})
}

func (b *bubble) actor(who int) {
	run := 0
	for pc, o := range b.s.actors[who] {
		b.mu.Lock()
		b.at[who] = pc
		if o.atOnce && pc > 0 {
			b.reached[burst] = true
			run++
			b.reached[burstThree] = b.reached[burstThree] || run > 1
		} else {
			run = 0
			b.gates[who] = waiting
			b.mu.Unlock()
			select {
			case b.came <- struct{}{}:
			default:
			}
			<-b.let[who]
			b.mu.Lock()
		}
		var result string
		switch o.kind {
		case 'z':
			result = b.sleep(who, o)
		case 'w':
			result = b.receive(o)
		default:
			result = b.do(o, nil)
		}
		if result != "" && !b.aborting {
			b.log(who, pc, 0, o, result)
		}
		over := b.aborting
		b.mu.Unlock()
		if over {
			return
		}
	}
	b.mu.Lock()
	b.gates[who] = gone
	b.mu.Unlock()
}

func (s *slot) callsBack() bool { return s.kind == 'f' || s.kind == 'p' }

// fire is the callback of the slot's timer with that serial number.
func (b *bubble) fire(i, serial int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.aborting {
		return
	}
	if len(b.events) > 1<<20 {
		panic("this script does not end:\n" + b.s.String())
	}
	s, now := &b.slots[i], b.now()
	if s.kind == 0 || s.serial != serial {
		b.reached[givenUpFired] = true
		b.events = append(b.events, event{now, givenUp + i, serial, 0, ""})
		return
	}
	n := s.firings
	s.firings++
	b.reached[funcFiredTwice] = b.reached[funcFiredTwice] || s.fired == now
	b.reached[farFired] = b.reached[farFired] || now > 1e18
	s.fired, s.due = now, 0
	if s.period > 0 {
		s.due = when(s.period)
		b.reached[periodicAgain] = b.reached[periodicAgain] || now > s.set+s.period
	}
	b.calls[now]++
	b.reached[collideFires] = b.reached[collideFires] || b.calls[now] > 1
	b.meet(now)
	b.events = append(b.events, event{now, callback + i, n, 0, ""})
	if n >= len(b.s.calls[i]) {
		return
	}
	for sub, o := range b.s.calls[i][n] {
		if !b.mayTouch(i, o.slot) {
			continue
		}
		if result := b.do(o, s); result != "" {
			b.log(callback+i, n, sub+1, o, result)
		}
		// It fires again at this instant, perhaps before the next operation, perhaps after.
		if o.slot == i && takesDuration(o.kind) && o.d <= 0 {
			break
		}
	}
}

// mayTouch tells whether a callback of the func timer in slot by may touch the timer in slot i
// at this instant: not if that is due at this instant too, or has just fired, because then the
// outcome would depend on which of the two came first.
func (b *bubble) mayTouch(by, i int) bool {
	s, now := &b.slots[i], b.now()
	if s.kind == 'k' && s.due != 0 {
		return now == s.set || (now-s.set)%s.period != 0
	}
	return s.due != base+now && (by == i || s.fired != now)
}

func (b *bubble) meet(now int64) {
	b.reached[collideFireActor] = b.reached[collideFireActor] || b.calls[now] > 0 && b.wakes[now] > 0
	b.reached[collideFireReceive] = b.reached[collideFireReceive] || b.calls[now] > 0 && b.serves[now] > 0
	b.reached[collideActors] = b.reached[collideActors] || b.wakes[now]+b.serves[now] > 1
}

func yes(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

// when is the instant d from now, as package time has it.
func when(d int64) int64 {
	now := time.Now().UnixNano()
	if d <= 0 {
		return now
	}
	if now+d < 0 {
		return math.MaxInt64
	}
	return now + d
}

func (b *bubble) sleep(who int, o op) string {
	if when(o.d) == math.MaxInt64 {
		return "" // it could not be brought home
	}
	b.reached[sleepZero] = b.reached[sleepZero] || o.d == 0
	b.reached[sleepNegative] = b.reached[sleepNegative] || o.d < 0
	b.reached[sleepTiny] = b.reached[sleepTiny] || o.d > 0 && o.d < 10
	b.asleep[who] = true
	b.mu.Unlock()
	time.Sleep(time.Duration(o.d))
	b.mu.Lock()
	b.asleep[who] = false
	if now := b.now(); o.d > 0 {
		b.wakes[now]++
		b.meet(now)
	}
	return "done"
}

func (b *bubble) value(s *slot, v time.Time) string {
	sent := v.UnixNano()
	now := time.Now().UnixNano()
	if s.kind == 'k' {
		b.reached[tickMissed] = b.reached[tickMissed] || !b.aborting && now-sent >= s.period
		s.due = sent + s.period*(1+(now-sent)/s.period)
		if s.due < 0 {
			s.due = math.MaxInt64
			b.reached[farOverflow] = b.reached[farOverflow] || !b.aborting
		}
	} else {
		s.due = 0
	}
	s.received, s.taken = true, false
	return strconv.FormatInt(sent-base, 10)
}

func (b *bubble) try(s *slot) string {
	select {
	case v := <-s.timer.C:
		return b.value(s, v)
	default:
		return "-"
	}
}

func (b *bubble) receive(o op) string {
	s := &b.slots[o.slot]
	if s.kind == 0 || s.callsBack() {
		return ""
	}
	began := b.now()
	b.reached[recvBlockedOnStopped] = b.reached[recvBlockedOnStopped] || s.due == 0
	s.blocked++
	many := s.blocked > 1
	b.reached[blockedTwo] = b.reached[blockedTwo] || many
	timer := s.timer
	s.moved = false
	b.mu.Unlock()
	v := <-timer.C
	b.mu.Lock()
	s.blocked--
	if b.aborting {
		return ""
	}
	result := b.value(s, v)
	s.fired = b.now()
	if now := b.now(); now > began {
		b.serves[now]++
		b.meet(now)
		b.reached[recvBlocked] = true
		b.reached[tickBlocked] = b.reached[tickBlocked] || s.kind == 'k'
		b.reached[blockedResetMoved] = b.reached[blockedResetMoved] || s.moved
		b.reached[blockedTwoServed] = b.reached[blockedTwoServed] || s.blocked > 0
		s.watched = true
	} else {
		b.reached[recvAtOnce] = true
	}
	return result
}

// do does an operation that does not block. self is the callback's slot, or nil.
func (b *bubble) do(o op, self *slot) string {
	s := &b.slots[o.slot]
	b.note(o, s, self)
	var result string
	switch o.kind {
	case 'f', 'p', 'n', 'k':
		if s.kind != 0 {
			return ""
		}
		if o.kind == 'k' && o.d <= 0 {
			return refused(func() { time.NewTicker(time.Duration(o.d)) })
		}
		*s = slot{kind: o.kind, serial: s.serial + 1, fired: s.fired, firings: s.firings}
		s.arm(o.d)
		serial := s.serial
		call := func() { b.fire(o.slot, serial) }
		switch o.kind {
		case 'f':
			s.timer = time.AfterFunc(time.Duration(o.d), call)
		case 'p':
			s.timer = newTimer(when(o.d), max(o.d, 0), goFunc, call, nil)
		case 'n':
			s.timer = time.NewTimer(time.Duration(o.d))
		case 'k':
			s.timer = (*time.Timer)(unsafe.Pointer(time.NewTicker(time.Duration(o.d))))
		}
		return "new"
	case 'r':
		switch {
		case s.kind == 0:
			return ""
		case s.kind == 'k' && o.d <= 0:
			return refused(func() { (*time.Ticker)(unsafe.Pointer(s.timer)).Reset(time.Duration(o.d)) })
		}
		s.arm(o.d) // before: a func timer for now may fire inside the call
		if s.kind == 'k' || s.kind == 'p' {
			result = yes(resetTimer(s.timer, when(o.d), max(o.d, 0)))
		} else {
			result = yes(s.timer.Reset(time.Duration(o.d)))
		}
	case 'x', 'd':
		if s.kind == 0 || o.kind == 'd' && s.blocked > 0 {
			return ""
		}
		result = yes(s.timer.Stop())
		s.due = 0
		if o.kind == 'd' {
			s.kind, s.timer = 0, nil
		}
	case 'g':
		if !s.callsBack() {
			return ""
		}
		result = "done"
		b.stray = append(b.stray, s.timer)
		s.kind, s.timer, s.due = 0, nil, 0
	case 't':
		if s.kind == 0 || s.callsBack() {
			return ""
		}
		result = b.try(s)
	}
	return result
}

func (s *slot) arm(d int64) {
	s.set = time.Now().UnixNano() - base
	s.due = when(d)
	s.period = 0
	if s.kind == 'k' || s.kind == 'p' {
		s.period = max(d, 0)
	}
}

// refused does what must panic.
func refused(f func()) (result string) {
	defer func() {
		if recover() != nil {
			result = "refused"
		}
	}()
	f()
	return "accepted"
}
