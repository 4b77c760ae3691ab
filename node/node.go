package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/begun"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/resume"
	"github.com/farhop/farhop/node/stream"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Options of Open.
type Options struct {
	Log     *slog.Logger
	Version string
	// Standalone makes the node a broker and nothing else, nil: as the
	// configuration has it.
	Standalone *Standalone
}

// Node is one running farhop.
type Node struct {
	cfg      config.Config
	opt      Options
	log      *slog.Logger
	material *pki.Material
	started  time.Time
	clockOK  bool
	registry *prometheus.Registry

	store     engine
	loop      *loop
	kept      *broker.Retained // for the broker, until it is made
	mqtt      *mqtt
	doors     *doors // nil without
	broker    *broker.Broker
	front     front
	links     *links
	manager   *link.Manager
	streams   *stream.Server
	agent     *agent
	admission *admission
	admin     *admin.Server
	taps      *taps
	pings     *pings
	parcels   parcels
	ready     chan struct{}
}

// floorKey holds the latest time this node was sure of, ms.
const floorKey = "floor"

// Open reads a data directory and builds the node in it. It takes the
// directory's lock; it binds no address.
func Open(dir string, opt Options) (*Node, error) {
	if err := opt.Standalone.prepare(dir); err != nil {
		return nil, err
	}
	cfg, err := config.Load(filepath.Join(dir, config.FileName), checkFront)
	if err != nil {
		return nil, err
	}
	if err := opt.Standalone.override(&cfg); err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	m, err := pki.LoadMaterial(filepath.Join(dir, identityDir))
	if err != nil {
		return nil, err
	}
	self := m.Self()
	if cfg.Node.Name != self.Node || cfg.Node.Region != self.Region {
		return nil, fmt.Errorf("%s: node is %s in %s, its certificate says %s in %s; put those back, or join again in a new directory",
			filepath.Join(dir, config.FileName), cfg.Node.Name, cfg.Node.Region, self.Node, self.Region)
	}
	n := &Node{
		cfg: cfg, opt: opt, log: opt.Log.With("node", self.Node), material: m, started: time.Now(),
		registry: prometheus.NewRegistry(), ready: make(chan struct{}),
	}
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := n.openStore(); err != nil {
		return nil, err
	}
	if err := n.build(); err != nil {
		return nil, errors.Join(opt.Standalone.named(err), n.store.Close())
	}
	return n, nil
}

// openStore opens the buffer and restores the core from it.
func (n *Node) openStore() error {
	// The store reports to the loop, which needs the store: the first batch
	// is appended only after both are there.
	var done func(store.LSN, error)
	var room early
	s, err := openEngine(filepath.Join(n.cfg.Dir, storeDir), n.cfg.Store.Engine, n.log,
		func(lsn store.LSN, err error) { done(lsn, err) }, room.room)
	if err != nil {
		return err
	}
	n.store = s
	floor, err := n.floor()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	cl := newClock(floor)
	if n.clockOK = !floor.After(time.Now()); !n.clockOK {
		n.log.Warn("the clock is behind the last time this node was sure of: bundles are aged instead of dated; set the clock",
			"after", floor.UTC().Format(time.RFC3339))
	}
	self := n.material.Self()
	c := core.New(core.Config{
		Self: self.Node, Region: self.Region, Incarnation: s.Incarnation(), Clock: n.clockOK, Stamped: stamped,
		Limits: storeforward.Config{MaxBytes: int64(n.cfg.Store.MaxBytes), MaxCount: n.cfg.Store.MaxMessages},
	})
	var lost *store.LostState
	now := cl.now()
	n.kept = new(broker.Retained)
	if err := c.Restore(now, &restoring{s, n.kept, now.UnixMilli(), n.log}); errors.As(err, &lost) {
		n.log.Error("the disk lost some of what this node remembered; it goes on without, so a client may have to subscribe again",
			"dir", s.Path(), "keys", lost.Keys, "err", err)
	} else if err != nil {
		return errors.Join(fmt.Errorf("store %s: %w", s.Path(), err), s.Close())
	}
	n.loop = newLoop(c, s, cl, n.log)
	done = n.loop.done
	room.hand(n.loop)
	return nil
}

// floor is the latest signed or persisted time this node knows.
func (n *Node) floor() (time.Time, error) {
	floor := pki.IssuedAt(n.material.Leaf())
	saved, err := n.state(floorKey)
	if err != nil {
		return floor, err
	}
	var t time.Time
	if saved != nil && t.UnmarshalText(saved) == nil && t.After(floor) {
		floor = t
	}
	return floor, nil
}

// state reads one of the node's own keys, nil when it was never set, or lost.
func (n *Node) state(key string) (value []byte, err error) {
	err = n.store.State(core.StatePrefix+key, func(k string, v []byte) error {
		if k == core.StatePrefix+key {
			value = append([]byte{}, v...)
		}
		return nil
	})
	if errors.As(err, new(*store.LostState)) {
		err = nil // told when the core was restored
	}
	return value, err
}

// build makes the parts around the loop.
func (n *Node) build() error {
	self := n.material.Self()
	n.mqtt = &mqtt{
		self: self.Node, loop: n.loop, store: n.store, log: n.log, requests: newMailbox[request](),
		pins: newPins(self.Node),
	}
	if err := n.buildBroker(); err != nil {
		return err
	}
	if err := n.buildDoors(); err != nil {
		return err
	}
	n.links = &links{self: self.Node, region: self.Region, loop: n.loop, store: n.store, log: n.log, sessions: map[uint64]*session{}}
	st := &streams{mqtt: n.mqtt}
	n.agent = &agent{
		self: self.Node, local: n.cfg, trust: n.material.Trust.Fleet, loop: n.loop, log: n.log,
		health: map[string]bool{}, sent: map[addr.Node]uint64{}, seen: map[addr.Node]uint64{},
	}
	n.admission = &admission{self: self.Node, trust: n.material.Trust, loop: n.loop, log: n.log, waiting: map[string]chan joinAnswer{}}
	var err error
	if n.streams, err = stream.New(stream.Config{Node: self.Node, Mesh: st, Health: n.agent.healthChanged, Log: n.log, Registerer: n.registry}); err != nil {
		return err
	}
	n.agent.streams = n.streams
	if err := n.authority(); err != nil {
		return err
	}
	if err := n.buildLink(); err != nil {
		return err
	}
	st.links = n.manager
	n.loop.send, n.loop.closeBy, n.loop.renew, n.loop.silent = n.links.send, n.links.close, n.links.renew, n.links.silent
	n.loop.keep, n.loop.word, n.loop.region = n.mqtt.keep, n.mqtt.word, n.mqtt.region
	n.taps = newTaps(n.loop, n.broker)
	n.loop.early = n.links.early.answer
	n.loop.sights = n.taps.sights
	n.pings = newPings()
	n.loop.echoed = n.pings.heard
	n.loop.wanted = n.mqtt.learn
	n.loop.changed = func(s *core.Snapshot) {
		n.agent.spread(s)
		n.streams.PathsChanged()
	}
	n.registry.MustRegister(newCoreMetrics(n))
	if n.cfg.Admin.Listen == "" {
		return nil
	}
	n.admin, err = admin.New(admin.Config{
		Listen: string(n.cfg.Admin.Listen), Dir: n.cfg.Dir, Backend: backend{n}, Gatherer: n.registry, Log: n.log,
	})
	return err
}

// authority loads the keys that only the node of farhop init has.
func (n *Node) authority() error {
	dir := filepath.Join(n.cfg.Dir, authorityDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	a, err := pki.LoadAuthority(dir)
	if err != nil {
		return err
	}
	ledger, err := pki.OpenLedger(a, filepath.Join(dir, ledgerFile))
	if err != nil {
		return err
	}
	n.admission.ledger, n.agent.signer = ledger, a.Fleet()
	return nil
}

func (n *Node) buildLink() error {
	self := n.material.Self()
	keys, err := quicKeys(filepath.Join(n.cfg.Dir, quicFile))
	if err != nil {
		return err
	}
	parts, err := begun.Open(begun.Config{Dir: filepath.Join(n.cfg.Dir, begunDir), Log: n.log})
	if err != nil {
		return err
	}
	spool := filepath.Join(n.cfg.Dir, spoolDir)
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return err
	}
	tickets, err := resume.Open(filepath.Join(n.cfg.Dir, ticketsDir))
	if err != nil {
		return err
	}
	now, back := n.loop.clock.forCertificates, sha256.Sum256(append([]byte("farhop resume"), keys...))
	c := link.Config{
		Listen: string(n.cfg.Mesh.Listen), Node: self.Node, Region: self.Region,
		Hello: wire.Hello{
			Version: wire.Version, Node: self.Node, Region: self.Region, Incarnation: n.store.Incarnation(),
			Boot: n.loop.core.Boot(), MaxFrame: wire.MaxFrame, Software: clip("farhop "+n.opt.Version, 64),
		},
		TLSServer: pki.ListenerConfig(pki.Serving{Material: func() *pki.Material { return n.material }, Joins: true, Resume: back, Now: now, Log: n.log}),
		TLSClient: func(pin addr.Node) *tls.Config { return pki.ClientConfig(n.material, now, pin) },
		Identify:  n.identify, Events: n.links, Parts: parts, SpoolDir: spool, Early: n.links, Tickets: tickets, Streams: serveStreams(n.streams), Join: n.admission.serve,
		Links: map[addr.Node]link.Properties{}, Log: n.log, Registerer: n.registry,
	}
	copy(c.StatelessResetKey[:], keys)
	copy(c.TokenKey[:], keys[32:])
	_, _ = rand.Read(c.Seed[:]) // never fails (crypto/rand)
	for _, p := range n.cfg.Peers {
		c.Peers = append(c.Peers, link.Peer{Address: string(p.Address), Node: p.Node, From: p.From, Link: linkOf(p.Uplink, p.LinkProps)})
	}
	for _, l := range n.cfg.Links {
		if l.Name == "" {
			c.Links[l.Node] = linkOf(l.Uplink, l.LinkProps)
			continue
		}
		c.More = append(c.More, link.Peer{Node: l.Node, Link: linkOf(l.Uplink, l.LinkProps)})
	}
	n.manager, err = link.New(c)
	return err
}

// identify judges a peer's certificate, and learns the time from it.
func (n *Node) identify(state tls.ConnectionState) (link.Identity, error) {
	p, err := pki.PeerOf(state)
	if err != nil {
		return link.Identity{}, err
	}
	n.loop.clock.raise(pki.IssuedAt(state.PeerCertificates[0]))
	return link.Identity{Node: p.Node, Region: p.Region, Kex: pki.KexName(state)}, nil
}

// linkOf is what a file says of a link.
func linkOf(u config.Uplink, p config.LinkProps) link.Properties {
	out := properties(p)
	out.Uplink, out.Cost = u.Name, uint32(u.Cost)
	for _, c := range u.Classes {
		if class, err := bundle.ParseClass(string(c)); err == nil { // the configuration was checked
			out.Classes = append(out.Classes, class)
		}
	}
	return out
}

func properties(p config.LinkProps) link.Properties {
	out := link.Properties{
		Profile: link.Profile(p.Profile), Layer: link.Layer(p.Layer), OWLT: time.Duration(p.OWLT),
		Rate: int64(p.Rate), ReturnRate: int64(p.ReturnRate),
		Loss: p.Loss.Float(), Burst: float64(p.Burst), MTU: p.MTU,
	}
	if c := p.Contacts; c != nil {
		out.Contacts = []link.Window{{Start: c.Start.Time, Every: time.Duration(c.Every), For: time.Duration(c.For)}}
	}
	return out
}

// quicKeys reads or makes the keys by which peers notice a restart at once.
func quicKeys(path string) ([]byte, error) {
	keys, err := identity.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		keys = make([]byte, 64)
		_, _ = rand.Read(keys)
		return keys, identity.WriteFile(path, keys)
	}
	if err == nil && len(keys) != 64 {
		err = fmt.Errorf("%s has %d bytes, want 64; remove it, and a new one is made", path, len(keys))
	}
	return keys, err
}

// Run serves until ctx ends, drains, and closes the store.
func (n *Node) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, n.store.Close()) }()
	if n.cfg.Admin.Listen != "" {
		if _, err := n.admin.Listen(); err != nil {
			return n.opt.Standalone.named(err)
		}
	}
	// The inner parts outlive the outer ones, so that what drains is stored.
	inner, stopInner := context.WithCancel(context.WithoutCancel(ctx))
	defer stopInner()
	n.links.ctx = inner
	heart, inner := errgroup.WithContext(inner)
	outer, octx := errgroup.WithContext(ctx)
	heart.Go(func() error { return n.loop.run(inner) })
	heart.Go(func() error { n.loop.load(inner); return nil })
	heart.Go(func() error { n.loop.logSilences(inner); return nil })
	heart.Go(func() error { n.mqtt.deliver(inner); return nil })
	heart.Go(func() error { n.mqtt.serve(inner); return nil })
	heart.Go(func() error { n.mqtt.fetch(inner); return nil })
	if n.doors != nil {
		heart.Go(func() error { n.doors.serve(inner); return nil })
	}

	outer.Go(func() error { return firstOf(octx, inner) }) // a failed store ends the outer parts too
	if err := n.begin(octx); err != nil {
		stopInner()
		if errors.Is(err, context.Canceled) && ctx.Err() != nil { // told to stop while it started
			n.log.Info("stopped")
			err = nil
		}
		return errors.Join(err, n.closeAdmin(), heart.Wait())
	}
	if n.cfg.MQTT.Serves() {
		outer.Go(func() error { return n.runFront(octx) })
	}
	if n.doors != nil {
		outer.Go(func() error { return n.doors.door.Run(octx) })
	}
	if n.opt.Standalone == nil {
		outer.Go(func() error { return n.manager.Run(octx) })
		outer.Go(func() error { return n.streams.Run(octx) })
	}
	if n.cfg.Admin.Listen != "" {
		outer.Go(func() error { return n.admin.Run(octx) })
	}
	outer.Go(func() error { return n.announce(octx) })
	outer.Go(func() error { return n.keepTime(octx) })
	outer.Go(func() error { rest(octx, readHeap, giveBack); return nil })
	err = outer.Wait()
	stopInner()
	n.links.wg.Wait()
	if herr := heart.Wait(); herr != nil && !errors.Is(err, herr) {
		err = errors.Join(err, herr)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	n.log.Info("stopped")
	return err
}

func (n *Node) closeAdmin() error {
	if n.cfg.Admin.Listen == "" {
		return nil
	}
	return n.admin.Close()
}

// firstOf waits for the end of ctx, or for the inner parts to fail.
func firstOf(ctx, inner context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-inner.Done():
		return context.Cause(inner)
	}
}

// begin puts configuration in force, loads what the broker keeps in memory, and
// lets wills fire. It needs the loop and no listener.
func (n *Node) begin(ctx context.Context) error {
	n.mqtt.setServices(map[string]func([]byte){
		ServiceFleet:      func(b []byte) { n.agent.receive(ctx, b) },
		ServiceJoin:       n.admission.request,
		ServiceJoinAnswer: n.admission.answered,
	})
	saved, err := n.state(revisionKey)
	if err != nil {
		return err
	}
	if err := n.agent.start(ctx, saved); err != nil {
		return err
	}
	n.agent.configure()
	if err := n.beginDoors(ctx); err != nil {
		return err
	}
	// Wills of the last run may be retained: what they replace is there.
	if err := n.loop.call(ctx, func(now time.Time, c *core.Core) { c.Serve(now) }); err != nil {
		return err
	}
	return n.mqtt.resumeWalks()
}

// announce says where the node listens once it does.
func (n *Node) announce(ctx context.Context) error {
	var where []any
	if n.cfg.MQTT.Serves() {
		select {
		case <-n.broker.Listening():
		case <-ctx.Done():
			return nil
		}
		plain, urls := n.listening()
		where = append(where, "mqtt", strings.TrimSpace(plain+" "+strings.Join(urls, " ")))
	}
	if n.opt.Standalone == nil {
		mesh, err := n.manager.Addr(ctx)
		if err != nil {
			return nil //nolint:nilerr // the manager itself reports why it does not listen
		}
		where = append(where, "mesh", mesh)
	}
	if n.cfg.Admin.Listen != "" {
		where = append(where, "admin", n.cfg.Admin.Listen)
	}
	n.log.Info("ready", where...)
	close(n.ready)
	return nil
}

// keepTime persists the time, so that a node whose clock is lost with its
// battery does not start in 1970.
func (n *Node) keepTime(ctx context.Context) error {
	t := time.NewTicker(10 * time.Minute)
	defer t.Stop()
	for {
		text, err := n.loop.clock.forCertificates().UTC().MarshalText()
		if err == nil {
			n.loop.in.put(func(now time.Time, c *core.Core) { c.SetState(now, 0, floorKey, text) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
