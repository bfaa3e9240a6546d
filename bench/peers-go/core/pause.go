package main

import (
	"runtime/debug"

	"gotimerbench/bench"
)

// The longest pauses, as in bench/core/pause.h: the shortest time of each event over identical runs, then the longest
// of all events.
type pauses_ struct {
	steps []uint32
	at    int
	last  int64
}

var pause pauses_

func event() {
	now := nanotime()
	d := now - pause.last
	if s := &pause.steps[pause.at]; *s == 0 || d < int64(*s) {
		*s = uint32(max(1, min(d, 1<<32-1)))
	}
	pause.at++
	pause.last = nanotime()
}

func (s *set) event(now int64) {
	s.check(now)
	event()
}

func pauseRun(s *set, what string, rng *bench.Rng) {
	n, now := uint64(len(s.timers)), s.now
	pause.at = 0
	pause.last = nanotime()
	eventEach = event
	switch what {
	case "cancel":
		for i, t := range s.timers {
			stop(t)
			event()
			if i%bench.CheckEvery == 0 {
				s.event(now)
			}
		}
		for range 1000 {
			now += bench.Millisecond
			s.event(now)
		}
	case "shorten":
		for i := range n / 2 {
			t := s.timers[rng.Below(n)]
			modify(t, now+bench.Second+int64(rng.Below(uint64(9*bench.Second))), 0, nil, nil, 0)
			event()
			if i%bench.CheckEvery == 0 {
				s.event(now)
			}
			now += 1000
		}
		for end := now + 11*bench.Second; now < end; {
			now += bench.Millisecond
			s.event(now)
		}
	case "burst":
		s.event(now + 100*bench.Second)
	case "churn":
		for i, end := 0, now+12*bench.Second; now < end; i++ {
			modify(s.timers[rng.Below(n)], rng.When(now), 0, nil, nil, 0)
			event()
			if i%bench.CheckEvery == 0 {
				s.event(now)
			}
			now += 5000
		}
	}
	eventEach = nil
	// What is left must not count in the next run.
	for _, t := range s.timers {
		stop(t)
	}
	for range 4 {
		s.check(now)
	}
}

func pauses() {
	debug.SetGCPercent(-1)
	base := hourAhead()
	pause.steps = make([]uint32, 3*bench.N+4000000)
	for _, what := range []string{"cancel", "shorten", "burst", "churn"} {
		clear(pause.steps)
		for range bench.Reps {
			rng := bench.Rng(bench.Seed)
			s := newSet(bench.N, base, &rng)
			if what == "burst" {
				for _, t := range s.timers {
					modify(t, base+10*bench.Second+int64(rng.Below(uint64(bench.Second))), 0, nil, nil, 0)
				}
			}
			s.check(base)
			s.check(base + 10*bench.Second)
			if what != "burst" {
				s.now = base
			}
			pauseRun(s, what, &rng)
			base += 200 * bench.Second
		}
		longest := uint32(0)
		for _, v := range pause.steps[:pause.at] {
			longest = max(longest, v)
		}
		bench.Emit("pause-"+what, []float64{float64(longest) / 1e3}, "unit", "us", "events", pause.at, "runs", bench.Reps)
	}
}
