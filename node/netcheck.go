package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/routing/addr"
)

// netcheck looks what passes from a node to its peers.
type netcheck struct {
	cfg      config.Config
	material *pki.Material
	now      func() time.Time // of certificates
	identify func(tls.ConnectionState) (link.Identity, error)
	check    func(context.Context, link.CheckRequest) (link.Check, error)
	known    func(address string) addr.Node // who was found there, zero: nobody
	running  bool
	note     string // on every result
}

// netchecks is how many peers are looked at at the same time.
const netchecks = 4

// Netcheck implements admin.Backend.
func (b backend) Netcheck(ctx context.Context, r admin.NetcheckRequest, f func(admin.Netcheck) error) error {
	if b.n.opt.Standalone != nil {
		return admin.NotHere("run it without --standalone", "a broker alone (--standalone) has no peers")
	}
	n := netcheck{
		cfg: b.n.cfg, material: b.n.material, now: b.n.loop.clock.forCertificates, identify: b.n.identify,
		check: b.n.manager.Check, running: true, known: func(address string) addr.Node {
			for _, p := range b.n.manager.Peers() {
				if p.Address == address {
					return p.Node
				}
			}
			return addr.Node{}
		},
	}
	return n.run(ctx, r, f)
}

// NetcheckAlone looks as a node that does not run would, from the socket it is
// to listen at, or from another one when that is taken.
func NetcheckAlone(ctx context.Context, dir string, r admin.NetcheckRequest, f func(admin.Netcheck) error) error {
	cfg, err := config.Load(filepath.Join(dir, config.FileName))
	if err != nil {
		return err
	}
	m, err := pki.LoadMaterial(filepath.Join(dir, identityDir))
	if err != nil {
		return err
	}
	n := netcheck{cfg: cfg, material: m, now: newClock(pki.IssuedAt(m.Leaf())).now, known: func(string) addr.Node { return addr.Node{} }}
	n.identify = func(state tls.ConnectionState) (link.Identity, error) {
		p, err := pki.PeerOf(state)
		return link.Identity{Node: p.Node, Region: p.Region, Kex: pki.KexName(state)}, err
	}
	ch, err := link.NewChecker(ctx, string(cfg.Mesh.Listen))
	if err != nil {
		n.note = "looked from another port than mesh.listen, which is taken: what is said of NAT is of that one"
		if ch, err = link.NewChecker(ctx, ":0"); err != nil {
			return err
		}
	}
	defer ch.Close()
	n.check = ch.Check
	return n.run(ctx, r, f)
}

// run looks at the peers that are meant, a few at the same time.
func (n netcheck) run(ctx context.Context, r admin.NetcheckRequest, f func(admin.Netcheck) error) error {
	peers, err := n.peers(r.Peers)
	if err != nil {
		return err
	}
	var mu sync.Mutex // one call of f at a time
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(netchecks)
	for _, p := range peers {
		g.Go(func() error {
			out, err := n.one(ctx, p, r.Quick)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			return f(out)
		})
	}
	return g.Wait()
}

// peers are those that are meant, with what is configured of their links.
func (n netcheck) peers(names []string) ([]link.Peer, error) {
	var all []link.Peer
	for _, p := range n.cfg.Peers {
		all = append(all, link.Peer{Address: string(p.Address), Node: p.Node, From: p.From, Link: properties(p.LinkProps)})
	}
	switch {
	case len(names) > admin.MaxNetcheck:
		return nil, admin.Invalid("ask for some at a time", "%d peers are too many, %d is the limit", len(names), admin.MaxNetcheck)
	case len(names) == 0 && len(all) == 0:
		return nil, admin.NotHere("name an address: farhop netcheck HOST:PORT", "no peer is configured here: others dial this node")
	case len(names) == 0:
		return all, nil
	}
	var out []link.Peer
	for _, name := range names {
		found := false
		for _, p := range all {
			if p.Address == name || p.Node.String() == name || n.known(p.Address).String() == name {
				out, found = append(out, p), true
			}
		}
		if found {
			continue
		}
		if _, port, err := net.SplitHostPort(name); err != nil || port == "" {
			return nil, admin.Invalid("farhop peers", "%q is neither a configured peer nor HOST:PORT", name)
		}
		out = append(out, link.Peer{Address: name})
	}
	return out, nil
}

// one looks at one peer.
func (n netcheck) one(ctx context.Context, p link.Peer, quick bool) (admin.Netcheck, error) {
	c, err := n.check(ctx, link.CheckRequest{
		Peer: p, TLS: pki.CheckConfig(n.material, n.now, p.Node), Identify: n.identify, Quick: quick,
	})
	if err != nil {
		return admin.Netcheck{}, err
	}
	out := admin.Netcheck{
		Node: c.Peer.Node, Region: c.Peer.Region, Address: p.Address, Software: c.Software, Running: n.running, Note: n.note,
		DNS: admin.NetcheckDNS{TookMS: ms(c.Resolved), Addresses: []string{}},
		UDP: admin.NetcheckUDP{
			OK: c.UDP, Address: c.To, HandshakeMS: ms(c.Handshake), RTTms: ms(c.RTT), Kex: c.Peer.Kex, Old: c.Old, Cause: c.Cause, Error: c.Error,
		},
		TCP:       admin.NetcheckTCP{State: c.TCP, TookMS: ms(c.TCPTook), Error: c.TCPError},
		MTU:       admin.NetcheckMTU{Payload: c.MTU, IP: packetSize(c.MTU, c.To), Done: c.MTUDone},
		ECN:       admin.NetcheckECN{Out: c.ECNOut, In: c.ECNIn, Congested: c.Congested},
		Clock:     admin.NetcheckClock{Known: c.Within > 0, OffsetMS: ms(c.Offset), WithinMS: ms(c.Within)},
		NAT:       admin.NetcheckNAT{State: c.NAT, Local: c.Local, Seen: c.Seen},
		Certified: admin.NetcheckCertified{Ours: n.material.Leaf().NotAfter.UTC(), Theirs: c.Expires.UTC()},
	}
	for _, a := range c.Addresses {
		out.DNS.Addresses = append(out.DNS.Addresses, a.String())
	}
	if out.Node.IsZero() {
		out.Node = p.Node
		if out.Node.IsZero() {
			out.Node = n.known(p.Address)
		}
	}
	if c.TCP == "" {
		out.TCP.State = "unknown"
	}
	if s := schedule(p.Link); !s.Always() && !s.Open(time.Now()) {
		out.Note = fmt.Sprintf("by its schedule this link is closed now, until %s", s.Next(time.Now()).UTC().Format(time.RFC3339))
	}
	return out, nil
}

// packetSize is the size of an IP packet with a UDP payload, 0 for none.
func packetSize(payload int, to string) int {
	ap, err := netip.ParseAddrPort(to)
	switch {
	case payload == 0 || err != nil:
		return 0
	case ap.Addr().Is4():
		return payload + 20 + 8
	}
	return payload + 40 + 8
}
