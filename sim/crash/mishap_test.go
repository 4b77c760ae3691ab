package main

import (
	"context"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// TestStanding: a link is up when a session between the two processes of today
// stands, and nothing else is.
func TestStanding(t *testing.T) {
	both := time.Unix(1000, 0)
	before, after := both.Add(-time.Second), both.Add(time.Second)
	for _, c := range []struct {
		name string
		ends []linkEnd
		up   bool
	}{
		{"up", []linkEnd{{Node: "relay", State: "down", Since: after}, {Node: "sender", State: "up", Since: after}}, true},
		{"none", nil, false},
		{"of another node", []linkEnd{{Node: "relay", State: "up", Since: after}}, false},
		{"down", []linkEnd{{Node: "sender", State: "down", Since: after}}, false},
		{"silent", []linkEnd{{Node: "sender", State: "silent", Since: after}}, false},
		{"with a process that is no more", []linkEnd{{Node: "sender", State: "up", Since: before}}, false},
	} {
		if e, up := standing(c.ends, "sender", both); up != c.up || up && e.Node != "sender" {
			t.Errorf("%s: up is %t, of %+v", c.name, up, e)
		}
	}
}

// TestKeep: mishaps that overlap end one by one, and the worst of those left
// holds, by direction, on whichever wire joins the two.
func TestKeep(t *testing.T) {
	m := &mesh{}
	for _, w := range []*wire{{from: sender, to: receiver}, {from: receiver, to: sender}, {from: sender, to: relay}} {
		link, err := emulator.Open(emulator.Config{Network: "both", Listen: "127.0.0.1:0", To: "127.0.0.1:9"})
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		w.Link = link
		m.wires = append(m.wires, w)
	}
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
		m.keep(step.from, step.to, step.in, step.by)
		for n, want := range [][2]emulator.State{{step.there, step.back}, {step.back, step.there}, {open, open}} {
			s := m.wires[n].Stats()
			if s.Up.State != want[0] || s.Down.State != want[1] {
				t.Errorf("step %d: wire %d is %v and %v, want %v and %v", i, n, s.Up.State, s.Down.State, want[0], want[1])
			}
		}
	}
}

// TestPlan: a seed is a plan of mishaps, whatever the machine does.
func TestPlan(t *testing.T) {
	plan := func(seed uint64) (story []string) {
		c := &campaign{seed: seed, kinds: mishaps, counts: map[string]int{}, mesh: &mesh{nodes: map[string]*process{}}}
		for _, n := range names() {
			c.mesh.nodes[n] = &process{name: n}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel() // nothing waits
		for n := range 60 {
			r := c.drawn(n)
			r.spread = time.Second
			if r.kind.name != "restart" && r.kind.name != "kill -9" { // these need a process
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
