// The generator: random scripts, made to hit corners. Few slots and few distinct durations, so
// that actors meet on the same timer at the same instant.
package main

import "math"

// splitmix64: one word of state, the same generator as in the C tests.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *rng) below(n int) int           { return int(r.next() % uint64(n)) }
func (r *rng) chance(percent int) bool   { return r.below(100) < percent }
func (r *rng) between(low, high int) int { return low + r.below(high-low+1) }

func pick[T any](r *rng, from []T) T { return from[r.below(len(from))] }

// Where a bubble's clock starts.
const base = 946684800000000000

// What is left between the start of the clock and the end of time.
const room = math.MaxInt64 - base

// Durations around which an end of time can be missed.
var huge = []int64{
	math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 / 2, math.MaxInt64/2 + 1, 1 << 62, 1<<62 + 1<<61,
	room, room + 1, room - 1, room - 7, room - 100, room + 100, room - 1000, room / 2, room/2 + 1, room / 3,
}

var negative = []int64{-1, -2, -10, -1 << 31, math.MinInt64, math.MinInt64 + 1, -base, -base - 1}

// Durations of scripts that run to the end of time.
var far = []int64{
	1, 2, 10, 1000, 1e15, 1e17, 5e17, 1e18, 2e18, 3e18, 4e18, 5e18, 7e18,
	room / 2, room/2 + 1, room / 3, room / 4, room - 10, room - 5, room - 1e18,
}

type generator struct {
	rng
	s     *script
	beat  int64 // most durations are small multiples of it
	far   bool  // runs to the end of time
	huge  int   // percent of durations that are huge
	kinds [maxSlots]byte
	owner [maxSlots]int // the slot whose callbacks may touch this one; -1: none
	slots int
}

func generate(seed uint64) *script {
	g := &generator{rng: rng(seed), s: &script{seed: seed, calls: make([][][]op, maxSlots)}}
	g.beat = pick(&g.rng, []int64{1, 3, 5, 10, 10, 16})
	switch {
	case g.chance(8):
		g.far = true
		g.s.horizon = room - 2 - int64(g.below(3))
	case g.chance(25):
		g.huge = 25
	default:
		g.huge = 2
	}
	if !g.far {
		g.s.horizon = g.beat * int64(g.between(20, 50))
	}
	g.slots = g.between(1, 5)
	actors, left := g.between(1, 4), g.between(3, 24)
	if g.chance(4) { // a crowd: a heap with some depth
		g.slots = g.between(12, 40)
		actors, left = g.between(2, 6), g.between(30, 60)
	}
	for i := range g.slots {
		g.kinds[i] = pick(&g.rng, []byte("ffffpnnnnkk"))
		g.owner[i] = -1
	}
	// The callbacks of a func timer touch the timer itself and those that it owns, nobody else's:
	// what two callbacks of one instant do must not depend on which comes first.
	for i := range g.slots {
		if o := g.below(g.slots); g.chance(60) && g.callsBack(o) && o != i {
			g.owner[i] = o
		}
	}
	for i := range actors {
		n := left / (actors - i)
		if i < actors-1 {
			n = g.between(0, n)
		}
		left -= n
		g.s.actors = append(g.s.actors, g.actor(i, n+1))
	}
	for i := range g.slots {
		if !g.callsBack(i) || g.chance(35) {
			continue
		}
		for range g.between(1, 4) {
			g.s.calls[i] = append(g.s.calls[i], g.callback(i))
		}
	}
	return g.s
}

func (g *generator) callsBack(slot int) bool { return g.kinds[slot] == 'f' || g.kinds[slot] == 'p' }

func (g *generator) duration() int64 {
	p := g.below(100)
	switch {
	case p < 8:
		return 0
	case p < 12:
		return pick(&g.rng, negative)
	case p < 12+g.huge:
		return pick(&g.rng, huge)
	case g.far:
		return pick(&g.rng, far)
	case p < 55:
		return int64(g.between(1, 4)) * g.beat
	case p < 75:
		return int64(g.between(1, 10)) * g.beat
	case p < 90:
		return int64(g.between(1, 5))
	default:
		return int64(g.between(1, 100))
	}
}

// period gives the duration of what fires again and again: in a script that runs to the end
// of time it must be so large that it does not go on for ever.
func (g *generator) period() int64 {
	d := g.duration()
	if g.far && d > 0 && d < 1e17 {
		return 1e17
	}
	return d
}

func (g *generator) create(slot int) op {
	o := op{kind: g.kinds[slot], slot: slot}
	if o.kind == 'k' || o.kind == 'p' {
		o.d = g.period()
	} else {
		o.d = g.duration()
	}
	return o
}

func (g *generator) touch(slot int) op {
	o := op{slot: slot}
	if g.callsBack(slot) {
		o.kind = pick(&g.rng, []byte("xxrrrrr"))
	} else {
		o.kind = pick(&g.rng, []byte("xxxrrrrwwwwttt"))
	}
	if g.chance(3) {
		o.kind = 'd'
	} else if g.callsBack(slot) && g.chance(3) {
		o.kind = 'g'
	}
	if o.kind == 'r' {
		o.d = g.create(slot).d
	}
	return o
}

func (g *generator) actor(who, n int) []op {
	var ops []op
	if who == 0 {
		for i := range g.slots {
			if g.chance(80) {
				ops = append(ops, g.create(i))
			}
		}
	}
	last := -1
	for range n {
		slot := g.below(g.slots)
		if last >= 0 && g.chance(50) {
			slot = last // the same again
		}
		switch {
		case g.chance(30):
			d := g.duration()
			if g.far && d > 0 {
				d = min(d, 1e18)
			}
			ops = append(ops, op{kind: 'z', d: d})
			continue
		case g.chance(6):
			ops = append(ops, g.create(slot))
		default:
			ops = append(ops, g.touch(slot))
		}
		last = slot
		k := len(ops) - 1
		ops[k].atOnce = k > 0 && mayFollowAtOnce(ops[k-1], ops[k]) && g.chance(40)
	}
	return ops
}

// mayFollowAtOnce tells whether b may be done right after a, without waiting for quiet: when a
// has left the timer of both with nothing due.
func mayFollowAtOnce(a, b op) bool {
	return a.slot == b.slot && b.kind != 'z' &&
		(a.kind == 'x' || a.d > 0 && (a.kind == 'r' || takesDuration(a.kind) && a.kind != 'z'))
}

func (g *generator) callback(slot int) []op {
	var owned []int
	for i := range g.slots {
		if g.owner[i] == slot {
			owned = append(owned, i)
		}
	}
	var ops []op
	for range g.between(0, 3) {
		target := slot
		if len(owned) > 0 && g.chance(70) {
			target = pick(&g.rng, owned)
		}
		o := g.touch(target)
		if target != slot && g.chance(20) {
			o = g.create(target)
		}
		if o.kind == 'w' {
			o.kind = 't' // a callback does not block
		}
		ops = append(ops, o)
	}
	return ops
}
