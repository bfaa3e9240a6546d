// Go's timers through package time, on the real clock: nobody else's clock can be moved. What the scheduler does with
// timers happens when the goroutine yields, every 64th operation. W3 has no row: the scheduler fires when it
// likes. W4 is processor time, of tickers each with a goroutine that receives.
package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gotimerbench/bench"
)

func nothing() {}

func ahead(r *bench.Rng) time.Duration { return time.Duration(r.When(0)) }

func newTimers(n uint64, r *bench.Rng) []*time.Timer {
	timers := make([]*time.Timer, n)
	for i := range timers {
		timers[i] = time.AfterFunc(ahead(r), nothing)
	}
	return timers
}

func measure(warm, ops int, block func()) {
	bench.Blocks(warm, 2*bench.Seconds, block)
	var values []float64
	for range bench.Reps {
		values = append(values, bench.Blocks(ops, bench.Seconds, block))
	}
	bench.Emit(bench.Workload, values)
}

func w1(yield bool) {
	rng := bench.Rng(bench.Seed)
	timers := newTimers(bench.N, &rng)
	measure(max(bench.Ops, 2*int(bench.N)), bench.Ops, func() {
		r := rng
		for i := range bench.Block {
			if yield && i%bench.CheckEvery == 0 {
				runtime.Gosched()
			}
			timers[r.Below(bench.N)].Reset(ahead(&r))
		}
		rng = r
	})
}

func w2(fresh bool) {
	rng := bench.Rng(bench.Seed)
	timers := newTimers(bench.N, &rng)
	t := time.AfterFunc(time.Hour, nothing)
	measure(bench.Ops/2, bench.Ops, func() {
		for i := range bench.Block {
			if i%bench.CheckEvery == 0 {
				runtime.Gosched()
			}
			if fresh {
				t = time.AfterFunc(30*time.Second, nothing)
			} else {
				t.Reset(30 * time.Second)
			}
			t.Stop()
		}
	})
	runtime.KeepAlive(timers)
}

func w4() {
	var fired atomic.Uint64
	rng := bench.Rng(bench.Seed)
	for range bench.N {
		d := time.Duration(bench.Millisecond + int64(rng.Below(uint64(99*bench.Millisecond))))
		go func() {
			for range time.NewTicker(d).C {
				fired.Add(1)
			}
		}()
	}
	time.Sleep(200 * time.Millisecond)
	var values []float64
	for range bench.Reps {
		before, cpu := fired.Load(), bench.CPU()
		time.Sleep(time.Duration(bench.Seconds * 1e9))
		values = append(values, (bench.CPU()-cpu)*1e9/float64(fired.Load()-before))
	}
	bench.Emit("W4", values)
}

func team(any bool) {
	n := bench.N
	all := make([]*time.Timer, n*uint64(bench.Threads))
	bench.Team(func(thread int) func(int) {
		rng := bench.Rng(bench.Seed + uint64(thread)*1000003)
		mine := all[uint64(thread)*n : uint64(thread+1)*n]
		copy(mine, newTimers(n, &rng))
		if any {
			mine = all
		}
		return func(ops int) {
			r, k := rng, uint64(len(mine))
			for range ops {
				mine[r.Below(k)].Reset(ahead(&r))
			}
			rng = r
		}
	})
}

func w7() {
	runtime.GOMAXPROCS(runtime.NumCPU())
	rng := bench.Rng(bench.Seed)
	late := make([]int64, bench.N)
	var done sync.WaitGroup
	done.Add(int(bench.N))
	begin := time.Now()
	cpu := bench.CPU()
	for i := range late {
		at := 50*bench.Millisecond + int64(rng.Below(uint64(bench.Second)))
		time.AfterFunc(time.Duration(at)-time.Since(begin), func() {
			late[i] = int64(time.Since(begin)) - at
			done.Done()
		})
	}
	done.Wait()
	bench.EmitLateness(late, bench.CPU()-cpu)
}

func w8() {
	rng := bench.Rng(bench.Seed)
	before := bench.HeapBytes()
	timers := make([]*time.Timer, bench.N)
	held := float64(bench.N * 8)
	for i := range timers {
		timers[i] = time.AfterFunc(ahead(&rng), nothing)
	}
	bytes := (bench.HeapBytes() - before - held) / float64(bench.N)
	runtime.KeepAlive(timers)
	bench.Emit("W8", []float64{bytes}, "unit", "bytes")
}

func main() {
	bench.Start("Go", "exact", map[string]string{"W1": "each Reset reads the clock", "W3": "cannot be told apart: the scheduler fires",
		"W4": "processor time, a goroutine for each ticker", "W7": "its wait rounds to 1 ms", "W8": "heap in use after a collection"},
		"W1", "W1roll", "W2", "W2new", "W4", "W5", "W6", "W7", "W8")
	switch bench.Workload {
	case "W1":
		w1(false)
	case "W1roll":
		w1(true)
	case "W2":
		w2(false)
	case "W2new":
		w2(true)
	case "W4":
		w4()
	case "W5":
		team(true)
	case "W6":
		team(false)
	case "W7":
		w7()
	case "W8":
		w8()
	}
}
