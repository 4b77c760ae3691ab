package links

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

const sendBudget = 32 << 20

// world is a mesh for the time of a run: its authority, and what runs.
type world struct {
	g    *errgroup.Group
	auth *pki.Authority
	err  error
}

func newWorld(g *errgroup.Group) *world {
	w := &world{g: g}
	w.auth, w.err = pki.NewAuthority(region(), time.Now())
	return w
}

func region() addr.Region { return addr.MustRegion("bench") }

// node is a link manager, and what it hears. It is its own Sink.
type node struct {
	m      *link.Manager
	addr   string
	budget int
	ups    chan *link.Session
	downs  chan link.Down

	// Of the session's reader, set before the first transfer is sent.
	left int64
	sum  hash.Hash
	view bundle.View
	done chan<- arrival
}

// arrival is the end of a transfer.
type arrival struct {
	at  time.Time
	sum []byte
}

// node starts a node that dials addresses.
func (w *world) node(ctx context.Context, name string, dials []string, p link.Properties) (*node, error) {
	if w.err != nil {
		return nil, w.err
	}
	id, self := identity.New(), addr.MustNode(name)
	der, err := w.auth.Issue(pki.IssueRequest{Name: self, Region: region(), Keys: id.Public(), Now: time.Now()})
	if err != nil {
		return nil, err
	}
	mat, err := pki.NewMaterial(id, der, w.auth.Trust())
	if err != nil {
		return nil, err
	}
	n := &node{budget: sendBudget, ups: make(chan *link.Session, 8), downs: make(chan link.Down, 8)}
	log := slog.New(slog.DiscardHandler)
	c := link.Config{
		Listen: "127.0.0.1:0", Node: self, Region: region(), Hello: hello(), SendBudget: n.budget,
		TLSServer: pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return mat }, Now: time.Now, Log: log}),
		TLSClient: func(pin addr.Node) *tls.Config { return pki.ClientConfig(mat, time.Now, pin) },
		Identify: func(state tls.ConnectionState) (link.Identity, error) {
			p, err := pki.PeerOf(state)
			return link.Identity{Node: p.Node, Region: p.Region, Kex: pki.KexName(state)}, err
		},
		Events: n, Log: log, SpoolDir: os.TempDir(),
		Links: map[addr.Node]link.Properties{addr.MustNode("near"): p},
	}
	c.Hello.Node, c.Hello.Region = self, region()
	_, _ = rand.Read(c.StatelessResetKey[:]) // never fails
	_, _ = rand.Read(c.TokenKey[:])
	for _, a := range dials {
		c.Peers, c.Links = append(c.Peers, link.Peer{Address: a, Link: p}), nil
	}
	if n.m, err = link.New(c); err != nil {
		return nil, err
	}
	w.g.Go(func() error { return n.m.Run(ctx) })
	a, err := n.m.Addr(ctx)
	if err != nil {
		return nil, err
	}
	n.addr = a.String()
	return n, nil
}

// up waits for the session.
func (n *node) up(ctx context.Context) (*link.Session, error) {
	select {
	case s := <-n.ups:
		return s, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no session came up: %w", context.Cause(ctx))
	}
}

// expect says how much will come; done gets the moment of the last byte.
func (n *node) expect(bytes int64, done chan<- arrival) {
	n.left, n.sum, n.done = bytes, sha256.New(), done
}

// LinkUp implements link.Sink.
func (n *node) LinkUp(s *link.Session) { n.ups <- s }

// LinkDown implements link.Sink.
func (n *node) LinkDown(_ *link.Session, why link.Down) {
	select {
	case n.downs <- why:
	default:
	}
}

// Frames implements link.Sink.
func (n *node) Frames(s *link.Session, frames []wire.Frame) {
	for _, f := range frames {
		t, ok := f.(wire.Transfer)
		if !ok {
			continue
		}
		if err := n.view.Parse(t.Bundle); err != nil {
			s.Close(err.Error())
			return
		}
		data := n.view.Payload.Data
		if n.left < int64(len(data)) {
			s.Close(errMore.Error())
			return
		}
		n.sum.Write(data)
		if n.left -= int64(len(data)); n.left == 0 {
			n.done <- arrival{time.Now(), n.sum.Sum(nil)}
		}
	}
}

var errMore = errors.New("more arrived than was sent")
