package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// buildDoors makes the doors that are configured. Before the loop runs, it
// closes the services whose peers are not there.
func (n *Node) buildDoors() error {
	c := n.cfg.DTN
	if c.IsZero() {
		n.closeDoorQueues()
		return nil
	}
	d := &doors{
		self: n.material.Self().Node, loop: n.loop, store: n.store, log: n.log, dated: n.clockOK,
		stamp: uint64(n.store.Incarnation()) << 32, snapshot: &n.mqtt.snapshot, lost: n.mqtt.lost,
		queues: map[string]*doorQueue{}, carried: newMailbox[core.Delivery](), exports: newMailbox[core.Delivery](),
	}
	d.cut = newCutter(d)
	err := d.build(n)
	if err != nil {
		return fmt.Errorf("%s: dtn: %w", filepath.Join(n.cfg.Dir, config.FileName), err)
	}
	now := n.loop.clock.now()
	for _, p := range c.Peers {
		q := &doorQueue{d: d, peer: p.Name, service: doorService + p.Name, cut: p.CutThrough, box: newMailbox[outgoing]()}
		d.queues[p.Name] = q
		n.loop.core.CloseService(now, q.service)
	}
	n.loop.core.OpenService(now, gatherService, d.opened.Add(1), gatherWindow)
	n.doors, n.mqtt.doors = d, d
	n.registry.MustRegister(newDoorMetrics(d))
	return nil
}

// build makes the parts of the doors.
func (d *doors) build(n *Node) (err error) {
	c := n.cfg.DTN
	self := c.Node
	if self.IsZero() {
		self = addr.NodeEID(d.self, "")
	}
	own, err := doorTLS(n.cfg)
	if err != nil {
		return err
	}
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	dc := dtn.Config{
		Node: self, TLS: own, Sink: d, Log: n.log, Seed: binary.NativeEndian.Uint64(seed[:]),
		Limits: dtn.Limits{TransferMRU: maxDoorBundle, InFlight: 2 * maxCut, Buffer: 16 * maxDoorBundle},
	}
	for _, l := range c.Listen {
		dc.Listeners = append(dc.Listeners, dtn.Listener{
			Kind: dtn.Kind(l.Kind), Address: string(l.Address), TLS: dtn.Policy(l.TLS), Auth: dtn.Auth(l.Auth),
			Peer: l.Peer, Strangers: l.Strangers, Insecure: l.Insecure,
		})
	}
	for _, p := range c.Peers {
		dc.Peers = append(dc.Peers, dtn.Peer{
			Name: p.Name, Kind: dtn.Kind(p.Kind), Address: string(p.Address), Node: p.Node, EIDs: p.Serves,
			TLS: dtn.Policy(p.TLS), Auth: dtn.Auth(p.Auth), ServerName: p.ServerName, OneSegment: p.OneSegment, Insecure: p.Insecure,
		})
	}
	if d.door, err = dtn.New(dc); err != nil {
		return err
	}
	if d.gateway, err = dtn.NewGateway(d.gatewayConfig(c, self)); err != nil {
		return err
	}
	if d.reports, err = newReporter(d, self, c.ReportsPerMinute); err != nil {
		return err
	}
	d.gather, err = newGatherer(d)
	return err
}

func (d *doors) gatewayConfig(c config.DTN, self addr.EID) dtn.GatewayConfig {
	g := dtn.GatewayConfig{
		Node: d.self, Self: self, Doors: d.door.Table(), MaxWhole: core.MaxPayload - 4096, Elsewhere: elsewhere(c.Routes),
		Ours: func(n addr.Node) bool { s := d.snapshot.Load(); return s != nil && s.Knows(n) },
	}
	for _, m := range c.Mappings {
		g.Mappings = append(g.Mappings, dtn.Mapping{EID: m.EID, Topic: m.Topic})
	}
	for _, e := range c.Exports {
		g.Exports = append(g.Exports, dtn.Export{
			Filter: e.Topic, To: e.To, Source: e.Source, ReportTo: e.ReportTo, Lifetime: time.Duration(e.Lifetime), HopLimit: uint8(e.HopLimit),
		})
	}
	return g
}

// elsewhere finds the node of the mesh that has the door to an endpoint.
func elsewhere(routes []config.DTNRoute) func(addr.EID) (addr.Node, bool) {
	var rows []dtn.Peer
	nodes := map[string]addr.Node{}
	for _, r := range routes {
		rows = append(rows, dtn.Peer{Name: r.Node.String(), EIDs: r.To})
		nodes[r.Node.String()] = r.Node
	}
	t := dtn.NewTable(rows)
	return func(e addr.EID) (addr.Node, bool) {
		name, ok := t.Peer(e)
		return nodes[name], ok
	}
}

// doorTLS reads the certificate of the doors and the roots of their peers'.
func doorTLS(c config.Config) (*tls.Config, error) {
	t := c.DTN.TLS
	if t == (config.DTNTLS{}) {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS13}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Path(t.Cert), c.Path(t.Key))
		if err != nil {
			return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	if t.Roots != "" {
		pem, err := os.ReadFile(c.Path(t.Roots))
		if err != nil {
			return nil, fmt.Errorf("tls.roots: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.roots: %s holds no certificate; want PEM", c.Path(t.Roots))
		}
	}
	return out, nil
}

// closeDoorQueues keeps what waits for doors that are configured no more, for
// as long as it lives: they may come back.
func (n *Node) closeDoorQueues() {
	now := n.loop.clock.now()
	for _, name := range []string{carryService, gatherService} {
		n.loop.core.CloseService(now, name)
	}
	for _, q := range n.loop.core.View().Queues {
		if q.Queue.Kind == store.ToService && strings.HasPrefix(q.Queue.Name, doorService) {
			n.loop.core.CloseService(now, q.Queue.Name)
		}
	}
}

// beginDoors opens the session of the exports, or ends the one there was.
func (n *Node) beginDoors(ctx context.Context) error {
	if n.doors != nil {
		return n.doors.subscribe(ctx)
	}
	return endExports(ctx, n.loop)
}
