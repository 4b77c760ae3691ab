package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"github.com/farhop/farhop/node/config"
)

// The nodes: each in its own region, sender and receiver joined by the relay.
const (
	sender   = "sender"
	relay    = "relay"
	receiver = "receiver"
)

func names() []string { return []string{sender, relay, receiver} }

// mesh is the nodes, their disks and the links between them.
type mesh struct {
	nodes map[string]*process
	disks map[string]*disk
	wires []*wire
	why   error          // why the disks cannot be filled
	unown error          // why no link leaves by an address of its own
	ended sync.WaitGroup // goroutines of the links
}

// newMesh makes the nodes below dir. Close it even after an error.
func newMesh(ctx context.Context, program, dir string, l *ledger, w wiring, rng *rand.Rand) (*mesh, error) {
	m := &mesh{nodes: map[string]*process{}, disks: map[string]*disk{}}
	ports := &ports{taken: map[string]bool{}}
	for _, n := range names() {
		d, why, err := newDisk(ctx, filepath.Join(dir, n))
		if err != nil {
			return m, fmt.Errorf("disk of %s: %w", n, err)
		}
		if m.disks[n] = d; why != nil {
			m.why = why
		}
		if m.nodes[n], err = newProcess(n, program, dir, l, ports); err != nil {
			return m, err
		}
	}
	if err := w.open(m, rng); err != nil {
		return m, err
	}
	for _, w := range m.wires {
		m.ended.Go(func() { _ = w.Run(ctx) })
	}
	return m, m.provision(ctx)
}

// provision makes a mesh as its users do.
func (m *mesh) provision(ctx context.Context) error {
	listen := func(p *process) []string {
		return []string{"--name", p.name, "--mqtt", p.mqtt, "--mesh", p.mesh, "--admin", p.admin}
	}
	hub := m.nodes[relay]
	if _, err := hub.do(ctx, append([]string{"init", "--region", "leo"}, listen(hub)...)...); err != nil {
		return err
	}
	if err := m.configure(hub); err != nil {
		return err
	}
	if err := hub.start(ctx); err != nil {
		return err
	}
	for name, region := range map[string]string{sender: "earth", receiver: "luna"} {
		ticket, err := hub.do(ctx, "invite", "--region", region, "--advertise", m.uplink(name).Addr().String())
		if err != nil {
			return err
		}
		p := m.nodes[name]
		if _, err := p.do(ctx, append([]string{"join", strings.TrimSpace(ticket)}, listen(p)...)...); err != nil {
			return err
		}
		if err := m.configure(p); err != nil {
			return err
		}
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// configure writes into a node's file whom it dials, what the links with names
// are like at both ends, and what goes by the one for alarms.
func (m *mesh) configure(p *process) error {
	path := filepath.Join(p.dir, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	c.Peers = nil // of the ticket
	for _, w := range m.wires {
		peer := config.Peer{Address: config.HostPort(w.Addr().String()), Uplink: w.uplink, From: w.source}
		dialler := config.Link{Uplink: w.uplink}
		if err := errors.Join(peer.Node.UnmarshalText([]byte(w.to)), dialler.Node.UnmarshalText([]byte(w.from))); err != nil {
			return err
		}
		switch named := w.uplink.Name != ""; {
		case w.from == p.name:
			c.Peers = append(c.Peers, peer)
		case w.to == p.name && named:
			c.Links = append(c.Links, dialler)
		}
		if len(w.uplink.Classes) > 0 {
			c.Routes = []config.Route{{Name: "dear", Match: config.Match{Topic: dearTopics}, Class: w.uplink.Classes[0]}}
		}
	}
	return config.Save(path, c)
}

// close ends everything. keep leaves what is on the disks where it can be
// looked at.
func (m *mesh) close(keep bool) error {
	for _, p := range m.nodes {
		p.kill()
	}
	for _, w := range m.wires {
		_ = w.Close()
	}
	m.ended.Wait()
	var errs []error
	for _, d := range m.disks {
		errs = append(errs, d.close(keep))
	}
	return errors.Join(errs...)
}

// ports finds ports that are free for UDP and TCP, below those that systems
// give to outgoing connections, so that they still are after a restart.
// They do not depend on the seed: two campaigns may run side by side.
type ports struct{ taken map[string]bool }

func (p *ports) next() (string, error) {
	for range 200 {
		a := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if p.taken[a] {
			continue
		}
		p.taken[a] = true
		l, err := net.Listen("tcp", a)
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", a)
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = c.Close()
		return a, nil
	}
	return "", errors.New("find a port: none is free between 12000 and 32000")
}
