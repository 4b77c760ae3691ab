package main

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/emulator"
)

// wiring says who dials whom, over what, in the order in which nodes join.
type wiring []struct {
	from, to string
	network  string
	way      emulator.Profile // there and back
	uplink   config.Uplink    // zero where it is the only link of the two
	own      bool             // packets leave by an address of its own: peers, from
}

const ms = time.Millisecond

// line joins sender and receiver by the relay alone.
func line() wiring {
	far := emulator.Profile{Delay: 15 * ms, Jitter: 5 * ms, Loss: 0.0002}
	return wiring{{from: sender, to: relay, network: "udp", way: far}, {from: receiver, to: relay, network: "udp", way: far}}
}

// triangle joins each to each: near, over some distance, and over more. TCP
// passes where UDP does. Sender and relay have two links with names: one that
// carries all, and a dearer one for alarms alone, which leaves by an address of
// its own. The two ends of the last link both dial.
func triangle() wiring {
	near := emulator.Profile{Delay: ms}
	wide := emulator.Profile{Delay: 15 * ms, Jitter: 5 * ms, Loss: 0.0002}
	high := emulator.Profile{Delay: 35 * ms, Jitter: 5 * ms, Loss: 0.002}
	far := emulator.Profile{Delay: 60 * ms, Jitter: 10 * ms, Loss: 0.001}
	return wiring{
		{from: sender, to: relay, network: "both", way: wide, uplink: config.Uplink{Name: "lte", Cost: 1}},
		{from: sender, to: relay, network: "both", way: high, uplink: config.Uplink{Name: "sat", Cost: 10, Classes: []config.ClassName{"alarm"}}, own: true},
		{from: receiver, to: relay, network: "both", way: near},
		{from: sender, to: receiver, network: "both", way: far},
		{from: receiver, to: sender, network: "both", way: far},
	}
}

// wire is an emulated link through which one node dials another.
type wire struct {
	*emulator.Link
	from, to string
	uplink   config.Uplink
	source   string // the address that packets leave by, "" as the machine's routes say

	mu   sync.Mutex // guards held, and keeps states in its order
	held [2][3]int  // how many mishaps keep a direction in a state
}

func (w wiring) open(m *mesh, rng *rand.Rand) error {
	for _, d := range w {
		link, err := emulator.Open(emulator.Config{
			Network: d.network, Listen: "127.0.0.1:0", To: m.nodes[d.to].mesh, Up: d.way, Down: d.way, Seed: rng.Uint64(),
		})
		if err != nil {
			return fmt.Errorf("wire from %s to %s: %w", d.from, d.to, err)
		}
		made := &wire{Link: link, from: d.from, to: d.to, uplink: d.uplink}
		m.wires = append(m.wires, made)
		if d.own {
			made.source, m.unown = newSource()
		}
	}
	return nil
}

// keep has one mishap more (by is 1) or less (-1) keep a direction, 0 for up,
// in a state. The worst that is left holds.
func (w *wire) keep(direction int, in emulator.State, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[direction][in] += by
	var now [2]emulator.State
	for d := range w.held {
		for state, n := range w.held[d] {
			if n > 0 {
				now[d] = emulator.State(state)
			}
		}
	}
	w.SetState(now[0], now[1])
}

// uplink is the first wire by which sender or receiver dials the relay.
func (m *mesh) uplink(of string) *wire {
	for _, w := range m.wires {
		if w.from == of && w.to == relay {
			return w
		}
	}
	return nil
}

// way is what leads from one node to another, whoever of them dialled: by the
// link of that name, or by all that they have.
type way struct{ from, to, over string }

func (w way) back() way { return way{w.to, w.from, w.over} }

func (w way) String() string {
	if w.over == "" {
		return w.from + " to " + w.to
	}
	return w.from + " to " + w.to + " by " + w.over
}

// uplinks are the names of the links between two nodes; one that is the only
// one has none.
func (m *mesh) uplinks(a, b string) (names []string) {
	for _, w := range m.wires {
		if w.joins(a, b) && !slices.Contains(names, w.uplink.Name) {
			names = append(names, w.uplink.Name)
		}
	}
	return names
}

// links counts what uplinks has, of all nodes.
func (m *mesh) links() (n int) {
	for i, a := range names() {
		for _, b := range names()[:i] {
			n += len(m.uplinks(a, b))
		}
	}
	return n
}

func (w *wire) joins(a, b string) bool { return w.from == a && w.to == b || w.from == b && w.to == a }

// along are the wires of a way, and in which direction each has it.
func (m *mesh) along(of way) iter.Seq2[*wire, int] {
	return func(yield func(*wire, int) bool) {
		for _, w := range m.wires {
			if !w.joins(of.from, of.to) || of.over != "" && w.uplink.Name != of.over {
				continue
			}
			direction := 0
			if w.from == of.to {
				direction = 1
			}
			if !yield(w, direction) {
				return
			}
		}
	}
}

// carried is how many bytes were offered to each link with a name, both ways.
func (m *mesh) carried() map[string]uint64 {
	out := map[string]uint64{}
	for _, w := range m.wires {
		if s := w.Stats(); w.uplink.Name != "" {
			out[w.uplink.Name] += s.Up.OfferedBytes + s.Down.OfferedBytes + s.Up.StreamBytes + s.Down.StreamBytes
		}
	}
	return out
}

// keep is wire.keep for all wires of a way.
func (m *mesh) keep(of way, in emulator.State, by int) {
	for w, direction := range m.along(of) {
		w.keep(direction, in, by)
	}
}

// rebind gives both ends of a way new addresses, as seen by the other.
func (m *mesh) rebind(of way) error {
	for w := range m.along(of) {
		if _, err := w.Rebind(); err != nil {
			return err
		}
	}
	return nil
}
