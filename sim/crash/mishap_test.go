package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// TestStanding: a link is up when a session between the two processes of today
// stands, and nothing else is.
func TestStanding(t *testing.T) {
	both := time.Unix(1000, 0)
	before, after := both.Add(-time.Second), both.Add(time.Second)
	all := []string{"alarm"}
	for _, c := range []struct {
		name, over string
		ends       []linkEnd
		up         bool
	}{
		{"up", "", []linkEnd{{Node: "relay", State: "down", Since: after}, {Node: "sender", State: "up", Since: after}}, true},
		{"none", "", nil, false},
		{"of another node", "", []linkEnd{{Node: "relay", State: "up", Since: after}}, false},
		{"down", "", []linkEnd{{Node: "sender", State: "down", Since: after}}, false},
		{"silent", "", []linkEnd{{Node: "sender", State: "silent", Since: after}}, false},
		{"with a process that is no more", "", []linkEnd{{Node: "sender", State: "up", Since: before}}, false},
		{"with a name", "", []linkEnd{{Node: "sender", Link: "sat", Classes: all, State: "up", Since: after}}, false},
		{"by its name", "sat", []linkEnd{{Node: "sender", Link: "lte", State: "down"}, {Node: "sender", Link: "sat", Classes: all, State: "up", Since: after}}, true},
		{"by another name", "sat", []linkEnd{{Node: "sender", Link: "lte", Classes: all, State: "up", Since: after}, {Node: "sender", Link: "sat", State: "down"}}, false},
		{"that carries nothing", "sat", []linkEnd{{Node: "sender", Link: "sat", State: "up", Since: after}}, false},
	} {
		if e, up := standing(c.ends, "sender", c.over, both); up != c.up || up && (e.Node != "sender" || e.Link != c.over) {
			t.Errorf("%s: up is %t, of %+v", c.name, up, e)
		}
	}
}

// wired is a mesh of links alone.
func wired(t *testing.T, w wiring) *mesh {
	t.Helper()
	m := &mesh{nodes: map[string]*process{}}
	for _, n := range names() {
		m.nodes[n] = &process{name: n, mesh: "127.0.0.1:9"}
	}
	err := w.open(m, rand.New(rand.NewPCG(1, 1)))
	t.Cleanup(func() {
		for _, w := range m.wires {
			_ = w.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestKeep: mishaps that overlap end one by one, and the worst of those left
// holds, by direction, on whichever wire joins the two.
func TestKeep(t *testing.T) {
	m := wired(t, wiring{{from: sender, to: receiver}, {from: receiver, to: sender}, {from: sender, to: relay}})
	const open, cut, hole = emulator.StateOpen, emulator.StateCut, emulator.StateBlackhole
	for i, step := range []struct {
		from, to    string
		in          emulator.State
		by          int
		there, back emulator.State // then, between sender and receiver
	}{
		{sender, receiver, cut, 1, cut, open},
		{sender, receiver, hole, 1, hole, open},
		{receiver, sender, cut, 1, hole, cut},
		{sender, receiver, cut, 1, hole, cut},
		{sender, receiver, hole, -1, cut, cut},
		{sender, receiver, cut, -1, cut, cut},
		{sender, receiver, cut, -1, open, cut},
		{receiver, sender, cut, -1, open, open},
	} {
		m.keep(way{from: step.from, to: step.to}, step.in, step.by)
		for n, want := range [][2]emulator.State{{step.there, step.back}, {step.back, step.there}, {open, open}} {
			m.wires[n].is(t, i, want[0], want[1])
		}
	}
}

func (w *wire) is(t *testing.T, step int, there, back emulator.State) {
	t.Helper()
	if s := w.Stats(); s.Up.State != there || s.Down.State != back {
		t.Errorf("step %d: wire %s from %s to %s is %v and %v, want %v and %v", step, w.uplink.Name, w.from, w.to, s.Up.State, s.Down.State, there, back)
	}
}

// TestKeepByName: links with names meet mishaps one by one and together.
func TestKeepByName(t *testing.T) {
	m := wired(t, triangle())
	if got := m.links(); got != 4 {
		t.Errorf("%d links, want 4", got)
	}
	if got := m.uplinks(relay, sender); !slices.Equal(got, []string{"lte", "sat"}) {
		t.Errorf("sender and relay have %q", got)
	}
	lte, sat := m.wires[0], m.wires[1]
	const open, cut, hole = emulator.StateOpen, emulator.StateCut, emulator.StateBlackhole
	for i, step := range []struct {
		of                             way
		in                             emulator.State
		by                             int
		lteUp, lteDown, satUp, satDown emulator.State // then
	}{
		{way{sender, relay, "sat"}, cut, 1, open, open, cut, open},
		{way{sender, relay, ""}.back(), hole, 1, open, hole, cut, hole},
		{way{relay, sender, "lte"}, cut, 1, open, hole, cut, hole},
		{way{relay, sender, ""}, hole, -1, open, cut, cut, open},
		{way{sender, relay, "sat"}, cut, -1, open, cut, open, open},
		{way{sender, relay, "lte"}.back(), cut, -1, open, open, open, open},
	} {
		m.keep(step.of, step.in, step.by)
		lte.is(t, i, step.lteUp, step.lteDown)
		sat.is(t, i, step.satUp, step.satDown)
		for _, w := range m.wires[2:] {
			w.is(t, i, open, open)
		}
	}
}

// TestPlan: a seed is a plan of mishaps, whatever the machine does.
func TestPlan(t *testing.T) {
	plan := func(seed uint64) (story []string) {
		c := &campaign{seed: seed, kinds: mishaps, counts: map[string]int{}, mesh: wired(t, triangle())}
		ended, cancel := context.WithCancel(t.Context())
		cancel() // nothing waits
		for n := range 60 {
			r := c.drawn(n)
			r.spread = time.Second
			if r.kind.name != "restart" && !strings.HasPrefix(r.kind.name, "kill -9") && r.kind.name != "cut at a dial" { // these need a process
				if err := r.kind.strike(r, ended); err != nil {
					t.Fatal(err)
				}
			}
			story = append(story, r.kind.name+" "+r.victim.name+" "+r.story.String())
		}
		return story
	}
	one, again, other := plan(7), plan(7), plan(8)
	same := 0
	for i := range one {
		if one[i] != again[i] {
			t.Errorf("mishap %d is %q, and then %q", i, one[i], again[i])
		}
		if one[i] == other[i] {
			same++
		}
	}
	if same > len(one)/4 {
		t.Errorf("%d of %d mishaps are alike with another seed", same, len(one))
	}
}
