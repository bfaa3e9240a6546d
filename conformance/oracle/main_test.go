// The conformance test's command line. It is a Go test, because bubbles need one.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	runnerPath = flag.String("runner", "", "the C program")
	runnerMode = flag.String("mode", "mixed", "where its actors live: green, threads, or mixed: most scripts green")
	count      = flag.Int("n", 20000, "how many scripts")
	seed       = flag.Uint64("seed", 0, "the seed of the first script; 0: from the clock")
	workers    = flag.Int("workers", 2, "scripts at the same time")
	scriptFile = flag.String("script", "", "run the script in this file instead")
	goldenFile = flag.String("golden", "", "choose scripts and write their traces by the real Go to this file")
	keepFile   = flag.String("keep", "", "write the closing line to this file too")
	planted    = flag.Bool("planted", false, "see that mistakes made on purpose are found")
)

// From here on a run must reach all situations.
const enoughForAll = 10000

const batchSize = 100

func TestConformance(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano()) / 1000 % 1e12
	}
	switch {
	case *goldenFile != "":
		writeGolden(t)
	case *planted:
		checkPlanted(t)
	case *scriptFile != "":
		runFile(t)
	default:
		compareAll(t)
	}
}

// A tally is what all workers have found.
type tally struct {
	mu       sync.Mutex
	next     int // scripts given out
	done     int
	ops      int
	coverage coverage
	failures int
}

const maxFailures = 3

func compareAll(t *testing.T) {
	began := time.Now()
	fmt.Printf("conformance: %d scripts from seed %d\n", *count, *seed)
	var ta tally
	var wg sync.WaitGroup
	stop := make(chan struct{})
	go ta.report(began, stop)
	for range *workers {
		wg.Go(func() {
			r := &runner{path: *runnerPath}
			defer r.close()
			for ta.batch(t, r) {
			}
		})
	}
	wg.Wait()
	close(stop)
	missing := ta.coverage.print(os.Stdout)
	closing := fmt.Sprintf("conformance: %d scripts, %d operations, %d differ, %.1f s\n", ta.done, ta.ops, ta.failures,
		time.Since(began).Seconds())
	fmt.Print(closing)
	if *keepFile != "" {
		if err := os.WriteFile(*keepFile, []byte(closing), 0o666); err != nil {
			t.Error(err)
		}
	}
	if ta.failures > 0 {
		t.Fail()
	} else if len(missing) > 0 && ta.done >= enoughForAll {
		t.Errorf("never reached: %s", strings.Join(missing, "; "))
	}
}

func (ta *tally) report(began time.Time, stop chan struct{}) {
	for tick := time.NewTicker(10 * time.Second); ; {
		select {
		case <-tick.C:
			ta.mu.Lock()
			fmt.Printf("conformance: %d of %d scripts, %.0f s\n", ta.done, *count, time.Since(began).Seconds())
			ta.mu.Unlock()
		case <-stop:
			return
		}
	}
}

// batch compares some scripts; false: there are no more.
func (ta *tally) batch(t *testing.T, r *runner) bool {
	ta.mu.Lock()
	from := ta.next
	n := min(batchSize, *count-from)
	if ta.failures >= maxFailures {
		n = 0
	}
	ta.next += n
	ta.mu.Unlock()
	if n <= 0 {
		return false
	}
	scripts := make([]*script, n)
	for i := range scripts {
		scripts[i] = generate(*seed + uint64(from+i))
	}
	ran := make(chan []string)
	go func() { ran <- r.run(scripts) }()
	wants := make([]string, n)
	reach := make([]reached, n)
	for i, s := range scripts {
		wants[i] = runGo(t, s, &reach[i])
	}
	gots := <-ran
	for i, got := range gots {
		if wants[i] != got {
			ta.differ(t, r, scripts[i], wants[i], got)
		}
	}
	ta.mu.Lock()
	defer ta.mu.Unlock()
	for i, s := range scripts {
		ta.coverage.add(&reach[i])
		ta.ops += s.size()
	}
	ta.done += n
	return true
}

// differ shrinks a script and shows it.
func (ta *tally) differ(t *testing.T, r *runner, s *script, want, got string) {
	ta.mu.Lock()
	defer ta.mu.Unlock()
	if ta.failures++; ta.failures > maxFailures {
		return
	}
	fmt.Printf("\nDIFFERENCE %d, seed %d. To see it again: make conformance SEED=%d N=1\n", ta.failures, s.seed, s.seed)
	for range 20 {
		if runGo(t, s, new(reached)) != want {
			fmt.Printf("The real Go does not agree with itself on this script: the generator is wrong.\n%s", s)
			return
		}
	}
	if !differs(t, r, s) {
		fmt.Printf("It is rare: it did not happen again.\n%s\n", s)
		sideBySide(os.Stdout, want, got)
		return
	}
	small := shrink(t, r, s)
	fmt.Printf("%d operations, shrunk to %d:\n%s\n", s.size(), small.size(), small)
	want, got = sides(t, r, small)
	sideBySide(os.Stdout, want, got)
	fmt.Println()
}

func runFile(t *testing.T) {
	text, err := os.ReadFile(*scriptFile)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseScript(string(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{path: *runnerPath}
	defer r.close()
	want, got := sides(t, r, s)
	sideBySide(os.Stdout, want, got)
	if want != got {
		t.Fail()
	}
}

// checkPlanted runs the C program with each of its mistakes, and asks that each is found soon
// and shrunk to a few operations.
func checkPlanted(t *testing.T) {
	names, err := exec.Command(*runnerPath, "plants").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(names)) {
		if !foundPlanted(t, name) {
			t.Errorf("planted mistake %q: not found", name)
		}
	}
}

func foundPlanted(t *testing.T, name string) bool {
	r := &runner{path: *runnerPath, planted: name}
	defer r.close()
	tries := 0
	for i := range *count {
		s := generate(*seed + uint64(i))
		if want, got := sides(t, r, s); want != got {
			small := shrink(t, r, s)
			fmt.Printf("planted mistake %-9s found by script %4d, shrunk from %2d operations to %d\n",
				name, i+1, s.size(), small.size())
			want, got = sides(t, r, small)
			if testing.Verbose() {
				fmt.Print(small)
				sideBySide(os.Stdout, want, got)
			}
			// What depends on how threads are scheduled is shrunk less well at times.
			if tries++; small.size() <= 6 || tries == 5 {
				return small.size() <= 6
			}
		}
	}
	return false
}

const (
	goldenScripts = 400
	goldenEach    = 12  // scripts that reach a situation, at least
	goldenLength  = 640 // bytes of a script and its trace, at most
)

// writeGolden chooses scripts so that all situations occur several times.
func writeGolden(t *testing.T) {
	var have coverage
	var b strings.Builder
	fmt.Fprintf(&b, "# Scripts and their traces by the real Go (%s). Made by `make conformance-golden`;\n", runtime.Version())
	fmt.Fprintf(&b, "# oracle/script.go says how to read them.\n\n")
	kept := 0
	for i := uint64(0); kept < goldenScripts; i++ {
		s := generate(*seed + i)
		var r reached
		trace := runGo(t, s, &r)
		text := s.String() + trace + "\n"
		wanted := i > 20000
		for k, yes := range r {
			wanted = wanted || yes && have[k] < goldenEach
		}
		if !wanted || len(text) > goldenLength {
			continue
		}
		for range 20 {
			if runGo(t, s, new(reached)) != trace {
				t.Fatalf("the real Go does not agree with itself on this script:\n%s", s)
			}
		}
		have.add(&r)
		b.WriteString(text)
		kept++
	}
	if missing := have.print(io.Discard); len(missing) > 0 {
		t.Fatalf("never reached: %s", strings.Join(missing, "; "))
	}
	if err := os.WriteFile(*goldenFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s: %d scripts, %d bytes\n", *goldenFile, kept, b.Len())
}
