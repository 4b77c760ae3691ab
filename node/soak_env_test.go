package node

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/virtual"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/memstore"
	"github.com/farhop/farhop/storeforward/store"
)

const (
	soakService = "soak"
	soakSync    = 5 * time.Millisecond // the disk's
)

// ram is a store in memory that is slow as a disk is, and lost what it had not
// synced when it is killed.
type ram struct {
	mu     sync.Mutex
	mem    *memstore.Store
	done   store.Done
	asked  bool // a sync is due
	killed bool
}

// Append implements store.Store.
func (r *ram) Append(b *store.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		return
	}
	r.mem.Append(b)
	if !r.asked {
		r.asked = true
		time.AfterFunc(soakSync, r.sync)
	}
}

func (r *ram) sync() {
	r.mu.Lock()
	r.asked = false
	if r.killed {
		r.mu.Unlock()
		return
	}
	lsn, ok := r.mem.Sync()
	r.mu.Unlock()
	if ok {
		r.done(lsn, nil)
	}
}

// Read implements store.Store.
func (r *ram) Read(seq uint64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mem.Read(seq)
}

// Scan implements store.Store.
func (r *ram) Scan(q store.Queue, after uint64, n int) ([]store.Item, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mem.Scan(q, after, n)
}

// State implements store.Store.
func (r *ram) State(prefix string, f func(string, []byte) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mem.State(prefix, f)
}

// Summary implements store.Store.
func (r *ram) Summary() (store.Summary, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mem.Summary()
}

// Close implements store.Store.
func (r *ram) Close() error { return nil }

// end takes the memory out; killed, without what was only staged.
func (r *ram) end(killed bool) *memstore.Store {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if !killed {
		r.mem.Sync()
	}
	return r.mem.Crash()
}

// soakNode is a node as node.Run makes it, but for MQTT, doors, TCP services
// and the API: loop, core, links and sessions over a network in memory.
type soakNode struct {
	w     *soak
	index int
	name  addr.Node
	mat   *pki.Material
	peers []link.Peer
	props map[addr.Node]link.Properties
	mem   *memstore.Store // while it is down
	known soakTickets     // of its peers, on its disk
	tape  *tape           // records what it sends in its next life

	life    int
	boot    uint64
	socket  *virtual.Socket
	wire    net.PacketConn // the socket, or the tape around it
	store   *ram
	loop    *loop
	manager *link.Manager
	links   *links
	stop    func() // returns when all of it has ended
	halt    func() // makes the loop end without its store
}

func (n *soakNode) up() bool { return n.manager != nil }

func (n *soakNode) home() netip.AddrPort { return soakHome(n.index) }

func soakHome(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 7330)
}

// start boots the node on what its store holds.
func (n *soakNode) start() {
	t := n.w.t
	n.life++
	r := &ram{mem: n.mem}
	cl := newClock(time.Time{})
	region := addr.MustRegion(soakService)
	c := core.New(core.Config{Self: n.name, Region: region, Incarnation: 1, Clock: true, Limits: storeforward.Config{}})
	if err := c.Restore(cl.now(), r); err != nil {
		t.Fatalf("%s: restore: %v", n.name, err)
	}
	log := n.w.log.With("node", n.name, "life", n.life)
	l := newLoop(c, r, cl, log)
	r.done = l.done
	ls := &links{self: n.name, region: region, loop: l, store: r, log: log, sessions: map[uint64]*session{}}
	l.send, l.closeBy, l.renew, l.silent = ls.send, ls.close, ls.renew, ls.silent
	l.keep, l.word, l.region = func(core.Keep) {}, func(core.Word) {}, func(core.RegionState) {}
	l.sights, l.changed = func([]core.Sight) {}, func(*core.Snapshot) {}
	l.early = ls.early.answer
	l.wanted = func(*core.Snapshot, []string, []string) {}
	var err error
	n.socket, err = n.w.net.Listen(n.home())
	if err != nil {
		t.Fatal(err)
	}
	n.boot = c.Boot()
	n.wire = n.socket
	if n.tape != nil {
		n.tape.PacketConn, n.wire = n.socket, n.tape
	}
	m, err := link.New(n.config(n.boot, ls, log))
	if err != nil {
		t.Fatal(err)
	}
	n.store, n.loop, n.links, n.manager = r, l, ls, m
	n.run()
	l.in.put(func(now time.Time, c *core.Core) {
		c.Configure(now, core.Settings{TTL: 1000 * 24 * time.Hour}, nil)
		c.Serve(now)
	})
}

// config is that of the node's links. The keys outlive the process.
func (n *soakNode) config(boot uint64, sink *links, log *slog.Logger) link.Config {
	region := addr.MustRegion(soakService)
	c := link.Config{
		Socket: n.wire, Node: n.name, Region: region, Events: sink, Early: sink, Tickets: &n.known, Log: log, Peers: n.peers, Links: n.props,
		Hello:     wire.Hello{Version: wire.Version, Node: n.name, Region: region, Incarnation: 1, Boot: boot, MaxFrame: wire.MaxFrame, Software: "soak"},
		TLSServer: pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return n.mat }, Resume: [32]byte{3, byte(n.index)}, Now: time.Now, Log: log}),
		SpoolDir:  n.w.t.TempDir(),
		TLSClient: func(pin addr.Node) *tls.Config { return pki.ClientConfig(n.mat, time.Now, pin) },
		Identify: func(state tls.ConnectionState) (link.Identity, error) {
			p, err := pki.PeerOf(state)
			return link.Identity{Node: p.Node, Region: p.Region, Kex: pki.KexName(state)}, err
		},
		StatelessResetKey: [32]byte{1, byte(n.index)}, TokenKey: [32]byte{2, byte(n.index)},
	}
	binary.BigEndian.PutUint64(c.Seed[:], n.w.seed)
	binary.BigEndian.PutUint64(c.Seed[8:], boot)
	c.Seed[16] = byte(n.index)
	return c
}

// run starts the goroutines, the inner parts first, as node.Run does.
func (n *soakNode) run() {
	inner, stopInner := context.WithCancel(context.Background())
	outer, stopOuter := context.WithCancel(context.Background())
	n.links.ctx = inner
	var heart, links sync.WaitGroup
	l, m, ls, r, life := n.loop, n.manager, n.links, n.store, n.life
	heart.Go(func() {
		if err := l.run(inner); err != nil && !errors.Is(err, errSoakKilled) {
			n.w.t.Errorf("%s: %v", n.name, err)
		}
	})
	heart.Go(func() { l.load(inner) })
	heart.Go(func() {
		l.deliver.each(inner, func(v any) {
			if d, ok := v.(core.Delivery); ok {
				n.deliver(l, r, life, d)
			}
		})
	})
	links.Go(func() {
		if err := m.Run(outer); err != nil {
			n.w.t.Errorf("%s: %v", n.name, err)
		}
	})
	n.stop = func() {
		stopOuter()
		links.Wait()
		stopInner()
		ls.wg.Wait()
		heart.Wait()
	}
	n.halt = func() { l.done(0, errSoakKilled) }
}

var errSoakKilled = errors.New("killed")

// shut ends the node: in order, or at once, so that nobody is told of it and
// the store lacks what was not synced.
func (n *soakNode) shut(kill bool) {
	if kill {
		_ = n.socket.Close()
		n.mem = n.store.end(true)
		n.w.ledger.killed(n)
		n.halt()
		n.stop()
	} else {
		n.stop()
		n.mem = n.store.end(false)
	}
	n.manager = nil
}

// deliver is the service: it takes each bundle at once.
func (n *soakNode) deliver(l *loop, r *ram, life int, d core.Delivery) {
	block := []byte(nil)
	if d.Blob != nil {
		block = d.Blob.B
	} else {
		var err error
		if block, err = r.Read(d.Header.Seq); err != nil {
			n.w.t.Errorf("%s: read: %v", n.name, err)
			return
		}
	}
	body, err := bundle.PayloadData(block)
	if err != nil || len(body) < 8 {
		n.w.t.Errorf("%s: a payload of %d bytes: %v", n.name, len(body), err)
		return
	}
	s := core.Settlement{Service: d.Service, Conn: d.Conn, Seq: d.Header.Seq}
	if l.in.put(func(now time.Time, c *core.Core) { c.Settle(now, []core.Settlement{s}) }) {
		n.w.ledger.came(n, life, binary.BigEndian.Uint64(body))
	}
}

// send submits a bundle with a number.
func (n *soakNode) send(to addr.Node, class bundle.Class, size int) {
	number := n.w.ledger.begin(n, to)
	body := append(binary.BigEndian.AppendUint64(nil, number), make([]byte, size)...)
	l := n.loop
	l.in.put(func(now time.Time, c *core.Core) {
		token := l.newToken(func(r core.Reply) {
			switch r.Reason {
			case bundle.OK:
				n.w.ledger.accepted(number)
			case bundle.DiskFailed: // it is killed
			default:
				n.w.t.Errorf("%s: a bundle for %s is refused: %v", n.name, to, r.Reason)
			}
		})
		c.Submit(now, []core.Submission{{
			Token: token, To: to, Service: soakService, Class: class, QoS: 1, Blob: &store.Blob{B: bundle.AppendPayload(nil, body)},
		}})
	})
}

// soakLedger knows what was accepted and what came. Its times are those of the
// bubble.
type soakLedger struct {
	mu    sync.Mutex
	notes []soakNote // by number, from 1
	wrong []string
	again int // deliveries repeated after a kill
}

type soakNote struct {
	from, to addr.Node
	accepted bool
	came     int
	at       time.Time // it came last
	loose    bool      // the end of the delivery may not have reached the disk
}

func (g *soakLedger) begin(from *soakNode, to addr.Node) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notes = append(g.notes, soakNote{from: from.name, to: to})
	return uint64(len(g.notes))
}

func (g *soakLedger) accepted(number uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notes[number-1].accepted = true
}

func (g *soakLedger) came(n *soakNode, life int, number uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if number == 0 || number > uint64(len(g.notes)) {
		g.wrong = append(g.wrong, fmt.Sprintf("%s got number %d, which nobody sent", n.name, number))
		return
	}
	k := &g.notes[number-1]
	switch {
	case k.to != n.name:
		g.wrong = append(g.wrong, fmt.Sprintf("%s got number %d, which is for %s", n.name, number, k.to))
	case k.came > 0 && k.loose:
		g.again++
	case k.came > 0:
		g.wrong = append(g.wrong, fmt.Sprintf("%s got number %d of %s again, in life %d", n.name, number, k.from, life))
	default:
		k.came++
	}
	k.at, k.loose = time.Now(), false
}

// killed notes what the node may be given again: its disk does not know yet.
func (g *soakLedger) killed(n *soakNode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.notes {
		if k := &g.notes[i]; k.to == n.name && k.came > 0 && time.Since(k.at) < 2*soakSync {
			k.loose = true
		}
	}
}

// faults returns what must not have happened.
func (g *soakLedger) faults() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.wrong)
}

// missing returns how many were accepted and have not come.
func (g *soakLedger) missing() (n int, first uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.notes {
		if k := &g.notes[i]; k.accepted && k.came == 0 {
			if n++; first == 0 {
				first = uint64(i + 1)
			}
		}
	}
	return n, first
}

// newNode certifies a node.
func (w *soak) newNode(i int, name string) *soakNode {
	w.t.Helper()
	n := &soakNode{w: w, index: i, name: addr.MustNode(name), props: map[addr.Node]link.Properties{}, mem: memstore.New(memstore.Config{Incarnation: 1})}
	id := identity.New()
	der, err := w.auth.Issue(pki.IssueRequest{Name: n.name, Region: addr.MustRegion(soakService), Keys: id.Public(), Now: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	if n.mat, err = pki.NewMaterial(id, der, w.auth.Trust()); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// soakLog discards, unless a failure is being looked into.
func soakLog(t *testing.T) *slog.Logger {
	if os.Getenv("FARHOP_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// soakTickets keeps tickets as a disk does.
type soakTickets struct {
	mu sync.Mutex
	of map[string][]byte
}

// Ticket implements link.Tickets.
func (s *soakTickets) Ticket(address string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[address], nil
}

// Keep implements link.Tickets.
func (s *soakTickets) Keep(address string, ticket []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string][]byte{}
	}
	s.of[address] = ticket
	return nil
}
