// The core of Go's timers, package runtime's timer and timers, reached by linkname: without package time, without
// its clock reads, with the time given to check, as libgotimer is called. Written for Go 1.27; it looks whether the
// structure is what it expects. Build with -ldflags=-checklinkname=0.
//
// All times lie an hour ahead of the real clock, so that the scheduler itself never finds a timer due.
package main

import (
	"runtime"
	"time"
	"unsafe"

	"gotimerbench/bench"
)

type timer = unsafe.Pointer

// What package time holds; the runtime's timer stands inside it.
//
//go:linkname newTimer time.newTimer
func newTimer(when, period int64, f func(any, uintptr, int64), arg any, c unsafe.Pointer) unsafe.Pointer

//go:linkname modify runtime.(*timer).modify
func modify(t timer, when, period int64, f func(any, uintptr, int64), arg any, seq uintptr) bool

//go:linkname stop runtime.(*timer).stop
func stop(t timer) bool

//go:linkname check runtime.(*timers).check
func check(ts unsafe.Pointer, now int64, bubble unsafe.Pointer) (rnow, pollUntil int64, ran bool)

//go:linkname systemstack runtime.systemstack
func systemstack(f func())

//go:linkname nanotime runtime.nanotime
func nanotime() int64

const (
	timerAt = 16 // of runtime.timer in time.Timer
	whenAt  = 24 // of when and ts in runtime.timer
	tsAt    = 72
)

var (
	count, disorder uint64
	lastDelay       int64
	eventEach       func()
)

// Runs on the system stack.
func onFire(_ any, _ uintptr, delay int64) {
	if eventEach != nil {
		eventEach()
	}
	count++
	if delay > lastDelay {
		disorder++
	}
	lastDelay = delay
}

func create(when, period int64) timer {
	t := unsafe.Add(newTimer(when, period, onFire, nil, nil), timerAt)
	return t
}

// All timers of one thread, and the P's set of timers that they are in.
type set struct {
	timers []timer
	ts     unsafe.Pointer
	now    int64
	left   int64
	fired  bool
}

func (s *set) check(now int64) {
	ts := s.ts
	systemstack(func() { check(ts, now, nil) })
}

func newSet(n uint64, base int64, rng *bench.Rng) *set {
	s := &set{timers: make([]timer, n), now: base}
	for i := range s.timers {
		s.timers[i] = create(rng.When(base), 0)
	}
	s.find()
	return s
}

func (s *set) find() {
	t := s.timers[0]
	was := *(*int64)(unsafe.Add(t, whenAt))
	modify(t, was+1, 0, nil, nil, 0)
	if *(*int64)(unsafe.Add(t, whenAt)) != was+1 {
		bench.Die("runtime.timer", "is not laid out as in Go 1.27")
	}
	s.ts = *(*unsafe.Pointer)(unsafe.Add(t, tsAt))
}

func hourAhead() int64 { return nanotime() + 3600*bench.Second }

func rearm(s *set, step int64, rng *bench.Rng) {
	r, n, now := *rng, uint64(len(s.timers)), s.now
	for i := range bench.Block {
		if step != 0 && i%bench.CheckEvery == 0 {
			s.check(now)
		}
		modify(s.timers[r.Below(n)], r.When(now), 0, nil, nil, 0)
		now += step
	}
	*rng, s.now = r, now
}

func w1(step int64) {
	rng := bench.Rng(bench.Seed)
	s := newSet(bench.N, hourAhead(), &rng)
	warm, seconds, ops := max(bench.Ops, 2*int(bench.N)), 2*bench.Seconds, bench.Ops
	if step != 0 {
		warm, seconds = 11<<20, 4
	}
	if bench.N > bench.Ops {
		ops *= 2
	}
	block := func() { rearm(s, step, &rng) }
	bench.Blocks(warm, seconds, block)
	var values []float64
	for range bench.Reps {
		values = append(values, bench.Blocks(ops, bench.Seconds, block))
	}
	bench.Emit(bench.Workload, values)
}

func w2(fresh bool) {
	rng := bench.Rng(bench.Seed)
	s := newSet(bench.N+1, hourAhead(), &rng)
	t := s.timers[bench.N]
	stop(t)
	block := func() {
		now := s.now
		for i := range bench.Block {
			if i%bench.CheckEvery == 0 {
				s.check(now)
			}
			if fresh {
				t = create(now+30*bench.Second, 0)
			} else {
				modify(t, now+30*bench.Second, 0, nil, nil, 0)
			}
			stop(t)
			now += 1000
		}
		s.now = now
	}
	bench.Blocks(bench.Ops/2, bench.Seconds, block)
	var values []float64
	for range bench.Reps {
		values = append(values, bench.Blocks(bench.Ops, bench.Seconds, block))
	}
	bench.Emit(bench.Workload, values)
}

func w3() {
	rng := bench.Rng(bench.Seed)
	base := hourAhead()
	s := newSet(bench.N, base, &rng)
	var fire, both []float64
	for r := -1; r < bench.Reps; r++ {
		var armed, fired time.Duration
		rounds := uint64(0)
		for rounds*bench.N < bench.Ops && (armed+fired).Seconds() < bench.Seconds || rounds == 0 {
			t0 := time.Now()
			for _, t := range s.timers {
				modify(t, rng.When(base), 0, nil, nil, 0)
			}
			t1 := time.Now()
			base += 100 * bench.Second
			count, lastDelay = 0, 1<<62
			s.check(base)
			t2 := time.Now()
			if count != bench.N || disorder != 0 {
				bench.Die("W3", "not all timers have fired in order")
			}
			armed += t1.Sub(t0)
			fired += t2.Sub(t1)
			rounds++
		}
		if r >= 0 {
			n := float64(bench.N * rounds)
			fire = append(fire, float64(fired)/n)
			both = append(both, float64(armed+fired)/n)
		}
	}
	bench.Emit("W3", fire)
	bench.Emit("W3both", both)
}

func w4() {
	rng := bench.Rng(bench.Seed)
	now := hourAhead()
	s := &set{}
	for range bench.N {
		d := bench.Millisecond + int64(rng.Below(uint64(99*bench.Millisecond)))
		s.timers = append(s.timers, create(now+d, d))
	}
	s.ts = *(*unsafe.Pointer)(unsafe.Add(s.timers[0], tsAt))
	var values []float64
	for r := -1; r < bench.Reps; r++ {
		before, begin := count, time.Now()
		for count-before < bench.Ops/2 && time.Since(begin).Seconds() < bench.Seconds {
			for range 10 {
				now += bench.Millisecond
				s.check(now)
			}
		}
		if r >= 0 {
			values = append(values, float64(time.Since(begin))/float64(count-before))
		}
	}
	bench.Emit("W4", values)
}

func team(any bool) {
	n := bench.N
	base := hourAhead()
	all := make([]timer, n*uint64(bench.Threads))
	bench.Team(func(thread int) func(int) {
		rng := bench.Rng(bench.Seed + uint64(thread)*1000003)
		mine := all[uint64(thread)*n : uint64(thread+1)*n]
		for i := range mine {
			mine[i] = create(rng.When(base), 0)
		}
		if any {
			mine = all
		}
		return func(ops int) {
			r, k := rng, uint64(len(mine))
			for range ops {
				modify(mine[r.Below(k)], r.When(base), 0, nil, nil, 0)
			}
			rng = r
		}
	})
}

func w8() {
	rng := bench.Rng(bench.Seed)
	timers := make([]timer, bench.N)
	before := bench.HeapBytes()
	base := hourAhead()
	for i := range timers {
		timers[i] = create(rng.When(base), 0)
	}
	bytes := (bench.HeapBytes() - before) / float64(bench.N)
	runtime.KeepAlive(timers)
	bench.Emit("W8", []float64{bytes}, "unit", "bytes")
}

func main() {
	bench.Start("Go core", "exact", map[string]string{"W7": "see Go", "W8": "heap in use after a collection"},
		"W1", "W1roll", "W2", "W2new", "W3", "W3both", "W4", "W5", "W6", "W8", "pause")
	switch bench.Workload {
	case "W1":
		w1(0)
	case "W1roll":
		w1(1000)
	case "W2":
		w2(false)
	case "W2new":
		w2(true)
	case "W3":
		w3()
	case "W4":
		w4()
	case "W5":
		team(true)
	case "W6":
		team(false)
	case "W8":
		w8()
	case "pause":
		pauses()
	}
}
