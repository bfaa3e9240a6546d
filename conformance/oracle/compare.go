// Both sides of one script, side by side: the C program that runs libgotimer, the comparison,
// and the search for the smallest script that still shows a difference.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A runner is the C program at work; it is started when needed, and again after it died.
type runner struct {
	path    string
	planted string // a mistake that it is to make on purpose
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  bytes.Buffer
}

func (r *runner) start() error {
	r.cmd = exec.Command(r.path, "--mode", *runnerMode, "serve")
	r.cmd.Env = append(os.Environ(), "CONFORMANCE_PLANT="+r.planted)
	r.errors.Reset()
	r.cmd.Stderr = &r.errors
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	r.out = bufio.NewReaderSize(out, 1<<16)
	return r.cmd.Start()
}

// run gives the traces of the scripts, up to one at which the program dies: that one's trace
// says so, and is the last.
func (r *runner) run(scripts []*script) []string {
	if r.cmd == nil {
		if err := r.start(); err != nil {
			panic(err)
		}
	}
	in := r.in
	go func() {
		w := bufio.NewWriterSize(in, 1<<16)
		for _, s := range scripts {
			w.WriteString(s.String())
			w.WriteString(".\n")
		}
		w.Flush()
	}()
	var traces []string
	for range scripts {
		trace, ok := r.read()
		if !ok {
			err := r.close()
			return append(traces, fmt.Sprintf("%sthe program ended: %v\n%s", trace, err, r.errors.String()))
		}
		traces = append(traces, trace)
	}
	return traces
}

func (r *runner) read() (trace string, whole bool) {
	var b strings.Builder
	for {
		line, err := r.out.ReadString('\n')
		if err != nil {
			return b.String(), false
		}
		if line == ".\n" {
			return b.String(), true
		}
		b.WriteString(line)
	}
}

func (r *runner) close() error {
	if r.cmd == nil {
		return nil
	}
	r.in.Close()
	err := r.cmd.Wait()
	r.cmd = nil
	return err
}

// sides runs a script twice: the traces of the real Go and of libgotimer.
func sides(t *testing.T, r *runner, s *script) (want, got string) {
	return runGo(t, s, new(reached)), r.run([]*script{s})[0]
}

// differs tells whether the two sides differ, and Go agrees with itself. What depends on how
// threads are scheduled may take several tries.
func differs(t *testing.T, r *runner, s *script) bool {
	for range 20 {
		if want, got := sides(t, r, s); want != got {
			return runGo(t, s, new(reached)) == want
		}
	}
	return false
}

// sideBySide prints two traces, and marks where they differ.
func sideBySide(w io.Writer, want, got string) {
	a, b := strings.Split(strings.TrimSuffix(want, "\n"), "\n"), strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	fmt.Fprintf(w, "  %-46s %s\n", "the real Go", "libgotimer")
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		mark := " "
		if x != y {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %-46s %s\n", mark, x, y)
	}
}

// shrink makes a script smaller as long as the two sides differ, and Go agrees with itself.
func shrink(t *testing.T, r *runner, s *script) *script {
	limit := time.Minute
	if r.planted != "" { // another script will do as well
		limit = 15 * time.Second
	}
	deadline := time.Now().Add(limit)
	try := func(change func(c *script)) bool {
		c := s.clone()
		change(c)
		c.normalize()
		if c.String() == s.String() || c.isEndless() || time.Now().After(deadline) {
			return false
		}
		if !differs(t, r, c) {
			return false
		}
		s = c
		return true
	}
	for again := true; again; {
		again = false
		for i := len(s.actors) - 1; i >= 0; i-- {
			again = try(func(c *script) { c.actors = append(c.actors[:i], c.actors[i+1:]...) }) || again
		}
		for slot := range s.calls {
			for len(s.calls[slot]) > 0 && try(func(c *script) { c.calls[slot] = c.calls[slot][:len(c.calls[slot])-1] }) {
				again = true
			}
		}
		for i := range s.lists() {
			list := func(c *script) *[]op { return c.lists()[i] }
			for size := len(*list(s)); size > 0; size /= 2 { // large parts first
				for to := len(*list(s)); to > 0; to -= size {
					again = try(func(c *script) { *list(c) = slices.Delete(*list(c), max(to-size, 0), to) }) || again
				}
			}
			for k := range *list(s) {
				for _, d := range []int64{0, 1, 2, 3, 5, 10, 20, 50, 100} {
					if old := (*list(s))[k]; takesDuration(old.kind) && (d < old.d || old.d < -1) &&
						try(func(c *script) { (*list(c))[k].d = d }) {
						again = true
						break
					}
				}
				again = try(func(c *script) { (*list(c))[k].atOnce = false }) || again
			}
		}
		for _, h := range []int64{1, 10, 100, 1000} {
			if h < s.horizon && try(func(c *script) { c.horizon = h }) {
				again = true
				break
			}
		}
	}
	return s
}

// isEndless tells whether something may fire again and again until an end that is far away.
func (s *script) isEndless() bool {
	var periodic [maxSlots]bool
	var shortest [maxSlots]int64 // of what the slot's timer is made and reset with
	for _, l := range s.lists() {
		for _, o := range *l {
			if strings.IndexByte("kpr", o.kind) < 0 {
				continue
			}
			periodic[o.slot] = periodic[o.slot] || o.kind != 'r'
			if d := &shortest[o.slot]; o.d > 0 && (*d == 0 || o.d < *d) {
				*d = o.d
			}
		}
	}
	for i, d := range shortest {
		if periodic[i] && d > 0 && s.horizon/d > 100000 {
			return true
		}
	}
	return false
}

// normalize keeps the rule for operations that follow at once.
func (s *script) normalize() {
	for _, l := range s.lists() {
		for i := range *l {
			o := &(*l)[i]
			o.atOnce = o.atOnce && i > 0 && mayFollowAtOnce((*l)[i-1], *o)
		}
	}
}
