package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// wiring says who dials whom, over what, in the order in which nodes join.
type wiring []struct {
	from, to string
	network  string
	way      emulator.Profile // there and back
}

const ms = time.Millisecond

// line joins sender and receiver by the relay alone.
func line() wiring {
	far := emulator.Profile{Delay: 15 * ms, Jitter: 5 * ms, Loss: 0.0002}
	return wiring{{sender, relay, "udp", far}, {receiver, relay, "udp", far}}
}

// triangle joins each to each: near, over some distance, and over more. TCP
// passes where UDP does. The two ends of the last link both dial.
func triangle() wiring {
	near := emulator.Profile{Delay: ms}
	wide := emulator.Profile{Delay: 15 * ms, Jitter: 5 * ms, Loss: 0.0002}
	far := emulator.Profile{Delay: 60 * ms, Jitter: 10 * ms, Loss: 0.001}
	return wiring{
		{sender, relay, "both", wide},
		{receiver, relay, "both", near},
		{sender, receiver, "both", far},
		{receiver, sender, "both", far},
	}
}

// wire is an emulated link through which one node dials another.
type wire struct {
	*emulator.Link
	from, to string

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
		m.wires = append(m.wires, &wire{Link: link, from: d.from, to: d.to})
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

// uplink is the wire by which sender or receiver dials the relay.
func (m *mesh) uplink(of string) *wire {
	for _, w := range m.wires {
		if w.from == of && w.to == relay {
			return w
		}
	}
	return nil
}

// keep is that of a way between two nodes, whoever of them dialled.
func (m *mesh) keep(from, to string, in emulator.State, by int) {
	for _, w := range m.wires {
		switch {
		case w.from == from && w.to == to:
			w.keep(0, in, by)
		case w.from == to && w.to == from:
			w.keep(1, in, by)
		}
	}
}

// rebind gives both ends of a link new addresses, as seen by the other.
func (m *mesh) rebind(a, b string) error {
	for _, w := range m.wires {
		if w.from == a && w.to == b || w.from == b && w.to == a {
			if _, err := w.Rebind(); err != nil {
				return err
			}
		}
	}
	return nil
}
