package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// A link that leaves by an address of its own has a socket of its own, made for
// each attempt to dial. Trouble comes at the moment it is made.
const (
	dialWatch = 15 * time.Second // for the next attempt: longer than a session is kept that is silent
	dialTakes = 250 * ms         // an attempt over the link with an own address, and then some
	socketsOf = "/proc/net/udp"
)

// newSource chooses a loopback address that nobody else uses; "" and why where
// the system has but one. It does not depend on the seed, see ports.
func newSource() (string, error) {
	a := netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(250)), byte(2 + rand.IntN(250))}).String()
	c, err := net.ListenPacket("udp", net.JoinHostPort(a, "0"))
	if err != nil {
		return "", fmt.Errorf("the links leave by the machine's routes: %w", err)
	}
	return a, c.Close()
}

// sockets are those for UDP at an address, by what the system calls them; none
// where it does not tell.
func sockets(at string) (map[string]bool, error) {
	ip, err := netip.ParseAddr(at)
	if err != nil {
		return nil, err
	}
	table, err := os.ReadFile(socketsOf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	b := ip.As4()
	local := fmt.Appendf(nil, "%08X:", binary.NativeEndian.Uint32(b[:]))
	open := map[string]bool{}
	for line := range bytes.Lines(table) {
		// sl, local address, remote, state, queues, timer, retransmissions, uid, timeout, inode
		if f := bytes.Fields(line); len(f) > 9 && bytes.HasPrefix(f[1], local) {
			open[string(f[9])] = true
		}
	}
	return open, err
}

// own is the wire that its node dials by an address of its own.
func (m *mesh) own() *wire {
	for _, w := range m.wires {
		if w.source != "" {
			return w
		}
	}
	return nil
}

func (c *campaign) needOwn() error {
	if c.mesh.unown != nil {
		return c.mesh.unown
	}
	if _, err := os.Stat(socketsOf); err != nil {
		return fmt.Errorf("the moment of a dial cannot be seen: %w", err)
	}
	return nil
}

// hoards says that a node keeps sockets of links that are no more.
func (m *mesh) hoards() string {
	w := m.own()
	if w == nil {
		return ""
	}
	switch open, err := sockets(w.source); {
	case err != nil:
		return err.Error()
	case len(open) > 1: // none while it goes by TCP
		return fmt.Sprintf("%s has %d sockets at %s for the link %s", w.from, len(open), w.source, w.uplink.Name)
	}
	return ""
}

// atDial kills one end of the link with an address of its own and starts it
// again, so that the link is dialled anew, and strikes as its socket is made, or
// a moment later.
func (r *round) atDial(ctx context.Context, strike func(near, far *process) error) error {
	w := r.mesh.own()
	near, far := r.mesh.nodes[w.from], r.mesh.nodes[w.to]
	end, after := near, time.Duration(0)
	if r.rng.IntN(2) == 0 {
		end = far
	}
	if r.rng.IntN(2) == 0 {
		after = r.within(dialTakes)
	}
	near.turn.Lock() // before the other's; all else takes one turn at a time
	defer near.turn.Unlock()
	far.turn.Lock()
	defer far.turn.Unlock()
	before, err := sockets(w.source)
	end.kill()
	began := time.Now()
	if err == nil {
		err = end.launch(false)
	}
	for made := false; err == nil && !made; sleep(ctx, ms) {
		var open map[string]bool
		open, err = sockets(w.source)
		for s := range open {
			made = made || !before[s]
		}
		if ctx.Err() != nil || time.Since(began) > dialWatch {
			r.say("%s killed, not dialled", end.name)
			return err
		}
	}
	r.say("%s killed, dialled after %s; %s later", end.name, short(time.Since(began)), short(after))
	sleep(ctx, after)
	return errors.Join(err, strike(near, far))
}

// cutAtDial takes what the new socket sends, or what it is answered, or both.
func (r *round) cutAtDial(ctx context.Context) error {
	d, w := r.length(), r.mesh.own()
	in := []emulator.State{emulator.StateCut, emulator.StateBlackhole}[r.rng.IntN(2)]
	ways := [][]int{{0}, {1}, {0, 1}}[r.rng.IntN(3)]
	struck := false
	err := r.atDial(ctx, func(*process, *process) error {
		for _, direction := range ways {
			w.keep(direction, in, 1)
		}
		struck = true
		return nil
	})
	if !struck {
		return err
	}
	r.say("%v %v", in, ways)
	sleep(ctx, d)
	for _, direction := range ways {
		w.keep(direction, in, -1)
	}
	return err
}

// killAtDial kills who dials, or who is dialled, and starts it again.
func (r *round) killAtDial(ctx context.Context) error {
	d, dialled := r.length(), r.rng.IntN(2) == 0
	return r.atDial(ctx, func(near, far *process) error {
		p := near
		if dialled {
			p = far
		}
		p.kill()
		r.say("%s killed", p.name)
		sleep(ctx, d)
		return p.launch(false)
	})
}
