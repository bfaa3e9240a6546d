// Package bench is what the two programs in Go share with those in C (bench/core): options, random numbers,
// results as JSON lines. Called as  program WORKLOAD N [THREADS] [--seed S] [--reps R] [--quick]  or --list.
package bench

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	Second      = int64(time.Second)
	Millisecond = int64(time.Millisecond)
	CheckEvery  = 64
	Block       = 4096
	Ops         = 1 << 20
)

var (
	Peer     string
	Workload string
	N        uint64
	Threads  = 1
	Reps     = 3
	Seed     = uint64(1)
	Quick    bool
	Seconds  = 0.5
)

// Rng is splitmix64.
type Rng uint64

func (r *Rng) Next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *Rng) Below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.Next(), n)
	return hi
}

// When is 10 to 70 s after now.
func (r *Rng) When(now int64) int64 {
	return now + 10*Second + int64(r.Below(uint64(60*Second)))
}

func Die(what string, why any) {
	fmt.Fprintf(os.Stderr, "%s: %s: %v\n", Peer, what, why)
	os.Exit(1)
}

func number(s string) uint64 {
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		Die(s, "not a number")
	}
	return v
}

// Start reads the command line. With --list it prints what the program can do, and ends.
func Start(peer, order string, notes map[string]string, workloads ...string) {
	Peer = peer
	if len(os.Args) == 2 && os.Args[1] == "--list" {
		b, _ := json.Marshal(map[string]any{"peer": peer, "version": runtime.Version()[2:], "order": order,
			"notes": notes, "workloads": workloads})
		fmt.Println(string(b))
		os.Exit(0)
	}
	place := 0
	for i := 1; i < len(os.Args); i++ {
		switch a := os.Args[i]; {
		case a == "--quick":
			Quick = true
			Seconds = 0.2
		case (a == "--seed" || a == "--reps") && i+1 < len(os.Args):
			i++
			if a == "--seed" {
				Seed = number(os.Args[i])
			} else {
				Reps = int(number(os.Args[i]))
			}
		case place == 0:
			Workload = a
			place++
		case place == 1:
			N = number(a)
			place++
		case place == 2:
			Threads = int(number(a))
			place++
		default:
			Die(a, "not understood")
		}
	}
	if place < 2 {
		Die("usage", "WORKLOAD N [THREADS] [--seed S] [--reps R] [--quick], or --list")
	}
	if !slices.Contains(workloads, Workload) {
		Die(Workload, "no such workload here; see --list")
	}
	runtime.GOMAXPROCS(Threads)
}

// Emit prints a result; extra is more JSON, pair by pair.
func Emit(workload string, values []float64, extra ...any) {
	fmt.Printf(`{"peer": %q, "workload": %q, "n": %d, "threads": %d, "values": [`, Peer, workload, N, Threads)
	for i, v := range values {
		if i > 0 {
			fmt.Print(", ")
		}
		fmt.Printf("%.3f", v)
	}
	fmt.Print("]")
	for i := 0; i+1 < len(extra); i += 2 {
		b, _ := json.Marshal(extra[i+1])
		fmt.Printf(`, %q: %s`, extra[i], b)
	}
	fmt.Println("}")
}

// EmitLateness prints W7's result.
func EmitLateness(late []int64, cpuSeconds float64) {
	slices.Sort(late)
	n := len(late)
	us := func(i int) float64 { return float64(late[i]) / 1e3 }
	var q []float64
	for i := 0; i <= 100; i++ {
		q = append(q, us((n-1)*i/100))
	}
	if late[0] < 0 {
		Die("W7", "a timer fired early")
	}
	Emit("W7", []float64{us((n - 1) / 2)}, "unit", "us", "cpu_us", cpuSeconds*1e6/float64(n), "p99", us((n-1)*99/100),
		"max", us(n-1), "quantiles", q)
}

// CPU is the processor time of this process in seconds.
func CPU() float64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}

// HeapBytes is what is in use on the heap after a collection.
func HeapBytes() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// Blocks calls block, which does Block operations, until ops are done or the time is up: ns per operation.
func Blocks(ops int, seconds float64, block func()) float64 {
	done, begin := 0, time.Now()
	for {
		block()
		done += Block
		if d := time.Since(begin); done >= ops || d.Seconds() >= seconds {
			return float64(d) / float64(done)
		}
	}
}

// Team runs W5 or W6: each of Threads goroutines, on a thread of its own, calls enter once, and then the function that
// it returns, which does the operations asked for, in step with the others. A repetition lasts from the first one's
// begin to the last one's end.
func Team(enter func(thread int) func(ops int)) {
	var done sync.WaitGroup
	begins, ends := make([][]time.Time, Threads), make([][]time.Time, Threads)
	ops := 0
	meet := barrier(Threads)
	for t := range Threads {
		begins[t], ends[t] = make([]time.Time, Reps), make([]time.Time, Reps)
		done.Add(1)
		go func() {
			runtime.LockOSThread()
			defer done.Done()
			work := enter(t)
			meet()
			begin := time.Now()
			work(Ops / 16)
			if t == 0 {
				ns := float64(time.Since(begin)) / (Ops / 16)
				ops = max(Block, min(2*Ops, int(Seconds*1e9/ns)))
			}
			meet()
			for r := range Reps {
				meet()
				begins[t][r] = time.Now()
				work(ops)
				ends[t][r] = time.Now()
			}
		}()
	}
	done.Wait()
	var values []float64
	for r := range Reps {
		begin, end := begins[0][r], ends[0][r]
		for t := range Threads {
			if begins[t][r].Before(begin) {
				begin = begins[t][r]
			}
			if ends[t][r].After(end) {
				end = ends[t][r]
			}
		}
		values = append(values, float64(end.Sub(begin))/float64(ops)/float64(Threads))
	}
	Emit(Workload, values)
}

func barrier(n int) func() {
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	waiting, round := 0, 0
	return func() {
		mu.Lock()
		defer mu.Unlock()
		mine := round
		if waiting++; waiting == n {
			waiting = 0
			round++
			cond.Broadcast()
			return
		}
		for round == mine {
			cond.Wait()
		}
	}
}
