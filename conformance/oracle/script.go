// The script: what a test program does, as data and as text.
//
// A script has actors, which run at the same time, and slots, each of which holds at most one
// timer. An actor is a list of operations; so is what a func timer does in its n-th callback.
// As text a script is a few short lines; an operation is a letter, the slot and the duration in
// nanoseconds after a colon:
//
//	s 17 500                the seed (it names the script, and chooses how the C program makes its
//	                        calls) and the horizon: how long the script runs
//	a f0:10 z5 r0:20 x0     an actor
//	c0 r0:7                 what slot 0's func timer does when it fires for the first time
//	c0 x0                   and for the second
//
//	f func timer    p periodic func timer (the runtime has them, package time does not)
//	n channel timer    k ticker
//	x stop    r reset    d free: stop and forget    g give up: forget, it may still fire
//	w receive, blocking    t receive if there is something    z sleep
//
// An operation with ! before it follows the one before it without waiting for quiet.
package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type op struct {
	kind   byte
	slot   int
	d      int64
	atOnce bool // no quiet before it
}

type script struct {
	seed    uint64
	horizon int64
	actors  [][]op
	calls   [][][]op // calls[slot][n]: the callback of the n-th firing
}

// Slots are numbered below this.
const maxSlots = 64

func takesDuration(kind byte) bool { return strings.IndexByte("fpnkrz", kind) >= 0 }

func (o op) String() string {
	var b strings.Builder
	if o.atOnce {
		b.WriteByte('!')
	}
	b.WriteByte(o.kind)
	if o.kind != 'z' {
		b.WriteString(strconv.Itoa(o.slot))
		if takesDuration(o.kind) {
			b.WriteByte(':')
		}
	}
	if takesDuration(o.kind) {
		b.WriteString(strconv.FormatInt(o.d, 10))
	}
	return b.String()
}

func (s *script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "s %d %d\n", s.seed, s.horizon)
	line := func(head string, ops []op) {
		b.WriteString(head)
		for _, o := range ops {
			b.WriteByte(' ')
			b.WriteString(o.String())
		}
		b.WriteByte('\n')
	}
	for _, a := range s.actors {
		line("a", a)
	}
	for slot, calls := range s.calls {
		for _, c := range calls {
			line("c"+strconv.Itoa(slot), c)
		}
	}
	return b.String()
}

func parseOps(words []string) ([]op, error) {
	var ops []op
	for _, word := range words {
		w, atOnce := strings.CutPrefix(word, "!")
		if len(w) < 2 || strings.IndexByte("fpnkxrdgwtz", w[0]) < 0 {
			return nil, fmt.Errorf("%q is no operation", word)
		}
		o := op{kind: w[0], atOnce: atOnce}
		slot, d, timed := strings.Cut(w[1:], ":")
		if o.kind == 'z' {
			slot, d, timed = "0", w[1:], true
		}
		var err1, err2 error
		o.slot, err1 = strconv.Atoi(slot)
		if timed {
			o.d, err2 = strconv.ParseInt(d, 10, 64)
		}
		if err1 != nil || err2 != nil || o.slot < 0 || o.slot >= maxSlots || timed != takesDuration(o.kind) {
			return nil, fmt.Errorf("%q is no operation", word)
		}
		ops = append(ops, o)
	}
	return ops, nil
}

func parseScript(text string) (*script, error) {
	s := &script{calls: make([][][]op, maxSlots)}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		head := words[0]
		switch {
		case head == "s" && len(words) == 3:
			var err1, err2 error
			s.seed, err1 = strconv.ParseUint(words[1], 10, 64)
			s.horizon, err2 = strconv.ParseInt(words[2], 10, 64)
			if err1 != nil || err2 != nil {
				return nil, fmt.Errorf("%q is no head", line)
			}
		case head == "a" || head[0] == 'c':
			ops, err := parseOps(words[1:])
			if err != nil {
				return nil, err
			}
			if head == "a" {
				s.actors = append(s.actors, ops)
				continue
			}
			slot, err := strconv.Atoi(head[1:])
			if err != nil || slot < 0 || slot >= maxSlots {
				return nil, fmt.Errorf("%q is no line of a script", line)
			}
			s.calls[slot] = append(s.calls[slot], ops)
		default:
			return nil, fmt.Errorf("%q is no line of a script", line)
		}
	}
	return s, nil
}

func (s *script) clone() *script {
	c := *s
	c.actors = slices.Clone(s.actors)
	for i := range c.actors {
		c.actors[i] = slices.Clone(c.actors[i])
	}
	c.calls = slices.Clone(s.calls)
	for i := range c.calls {
		c.calls[i] = slices.Clone(c.calls[i])
		for j := range c.calls[i] {
			c.calls[i][j] = slices.Clone(c.calls[i][j])
		}
	}
	return &c
}

// lists gives all lists of operations, the actors' first.
func (s *script) lists() []*[]op {
	var all []*[]op
	for i := range s.actors {
		all = append(all, &s.actors[i])
	}
	for i := range s.calls {
		for j := range s.calls[i] {
			all = append(all, &s.calls[i][j])
		}
	}
	return all
}

func (s *script) size() int {
	n := 0
	for _, l := range s.lists() {
		n += len(*l)
	}
	return n
}

// An event is one line of a trace. No two have the same (at, who, n, sub), so traces sorted by
// it can be compared as text: within one instant the order does not count.
type event struct {
	at   int64  // since the script began
	who  int    // the actor; 100 + slot: a callback; 200 + slot: of one given up; 1000: the end
	n    int    // actor: which operation; callback: which firing; given up: which timer; end: the slot
	sub  int    // callback: 1 + which operation of it; end: 1 value, 2 stop
	what string // the operation and what came of it
}

const (
	callback = 100
	givenUp  = 200
	theEnd   = 1000
)

func traceText(events []event) string {
	slices.SortFunc(events, func(a, b event) int {
		for _, c := range [...][2]int64{{a.at, b.at}, {int64(a.who), int64(b.who)},
			{int64(a.n), int64(b.n)}, {int64(a.sub), int64(b.sub)}} {
			if c[0] != c[1] {
				if c[0] < c[1] {
					return -1
				}
				return 1
			}
		}
		return 0
	})
	var b strings.Builder
	for _, e := range events {
		b.WriteString(strconv.FormatInt(e.at, 10))
		switch {
		case e.who >= theEnd:
			fmt.Fprintf(&b, " end %s\n", e.what)
		case e.who >= givenUp:
			fmt.Fprintf(&b, " g%d.%d\n", e.who-givenUp, e.n)
		case e.who >= callback && e.sub > 0:
			fmt.Fprintf(&b, " f%d.%d.%d %s\n", e.who-callback, e.n, e.sub-1, e.what)
		case e.who >= callback:
			fmt.Fprintf(&b, " f%d.%d\n", e.who-callback, e.n)
		default:
			fmt.Fprintf(&b, " a%d.%d %s\n", e.who, e.n, e.what)
		}
	}
	return b.String()
}
