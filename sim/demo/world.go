package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/sim/emulator/desc"
)

// world is the nodes, the links between them, and the TCP servers.
type world struct {
	nodes        map[string]*process
	of           links
	moon, ground *emulator.Link // luna-relay, relay-earth
	servers      map[string]*server
	client       string         // where luna listens for the TCP service
	links        sync.WaitGroup // the goroutines of the links
}

// names of the nodes, from the far end on.
func names() []string { return []string{luna, relay, earth} }

// newWorld prepares a world below dir. lost is told of nodes that end by
// themselves.
func newWorld(program, dir string, of links, lost context.CancelCauseFunc) *world {
	w := &world{of: of, nodes: map[string]*process{}, servers: map[string]*server{}}
	for _, n := range names() {
		w.nodes[n] = newProcess(n, program, dir, lost)
	}
	return w
}

// close ends everything, in order where it can.
func (w *world) close() {
	var ends sync.WaitGroup
	for _, p := range w.nodes {
		ends.Go(p.halt)
	}
	ends.Wait()
	for _, l := range []*emulator.Link{w.moon, w.ground} {
		if l != nil {
			_ = l.Close()
		}
	}
	w.links.Wait()
	for _, s := range w.servers {
		s.close()
	}
}

// provision makes the three nodes on the ground, where light takes no time:
// relay holds the authority, the others join it with tickets. It returns the
// address of the relay.
func (w *world) provision(ctx context.Context) (relayAddr string, err error) {
	if relayAddr, err = proc.FreeAddr(); err != nil {
		return "", err
	}
	p := w.nodes[relay]
	const any = "127.0.0.1:0"
	_, err = node.Init(ctx, node.InitOptions{Dir: p.dir, Region: relayRegion, Name: relay, MQTT: any, Mesh: relayAddr, Admin: any})
	if err != nil {
		return "", fmt.Errorf("make %s: %w", relay, err)
	}
	if err := p.start(); err != nil {
		return "", err
	}
	defer p.halt()
	if err := p.ready(ctx); err != nil {
		return "", err
	}
	c, err := p.client()
	if err != nil {
		return "", err
	}
	for name, region := range map[string]string{luna: lunaRegion, earth: earthRegion} {
		r, err := addr.ParseRegion(region)
		if err != nil {
			return "", err
		}
		ticket, err := c.Invite(ctx, admin.InviteRequest{Region: r, Advertise: []config.HostPort{config.HostPort(relayAddr)}})
		if err != nil {
			return "", fmt.Errorf("invite %s: %w", name, err)
		}
		_, err = node.Join(ctx, node.JoinOptions{Dir: w.nodes[name].dir, Ticket: ticket.Ticket, Name: name, MQTT: any, Mesh: any, Admin: any})
		if err != nil {
			return "", fmt.Errorf("join of %s: %w", name, err)
		}
	}
	return relayAddr, nil
}

// connect puts the links and the TCP servers in place and tells the nodes of
// them. start is the moment from which the plan counts.
func (w *world) connect(relayAddr string, p plan, start time.Time, seed uint64) (err error) {
	contacts := p.contacts(start)
	moon := anchored(w.of.moon, contacts)
	if w.moon, err = open(moon.Link, relayAddr, 2*seed+1); err != nil {
		return err
	}
	if w.ground, err = open(w.of.ground.Link, relayAddr, 2*seed); err != nil {
		return err
	}
	for _, n := range []string{relay, earth} {
		if w.servers[n], err = newServer(n); err != nil {
			return err
		}
	}
	if w.client, err = proc.FreeAddr(); err != nil {
		return err
	}
	plan := &config.Contacts{
		Start: config.Instant{Time: contacts.Start}, Every: config.Duration(contacts.Every), For: config.Duration(contacts.For),
	}
	peer := config.Peer{Node: addr.MustNode(relay)}
	return errors.Join(
		w.configure(luna, func(c *config.Config) {
			peer.Address, peer.LinkProps = hostPort(w.moon), props(&moon.Up, &moon.Down, plan)
			c.Peers = []config.Peer{peer}
		}),
		w.configure(relay, func(c *config.Config) {
			c.MQTT.Listen = ""
			c.Links = []config.Link{{Node: addr.MustNode(luna), LinkProps: props(&moon.Down, &moon.Up, plan)}}
		}),
		w.configure(earth, func(c *config.Config) {
			peer.Address, peer.LinkProps = hostPort(w.ground), config.LinkProps{}
			c.Peers = []config.Peer{peer}
		}),
	)
}

// open opens a link to the relay.
func open(l desc.Link, relayAddr string, seed uint64) (*emulator.Link, error) {
	c := emulator.ConfigOf(l)
	c.Network, c.Listen, c.To, c.Seed = "udp", "127.0.0.1:0", relayAddr, seed
	return emulator.Open(c)
}

func hostPort(l *emulator.Link) config.HostPort { return config.HostPort(l.Addr().String()) }

// configure edits the configuration of a node.
func (w *world) configure(name string, edit func(*config.Config)) error {
	path := filepath.Join(w.nodes[name].dir, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	edit(&c)
	c.Resources = w.resources()
	if err := config.Save(path, c); err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	return nil
}

// resources are what all nodes know from the start: where messages go, even
// before anybody subscribed, and a TCP service with endpoints in two regions.
func (w *world) resources() config.Resources {
	region := func(name string) []addr.Region { return []addr.Region{addr.MustRegion(name)} }
	at := func(n, address string) config.Endpoint {
		return config.Endpoint{Node: addr.MustNode(n), Address: config.HostPort(address)}
	}
	return config.Resources{
		Services: []config.Service{{
			Name: service, Listen: []config.Endpoint{at(luna, w.client)},
			Endpoints: []config.Endpoint{at(earth, w.servers[earth].address()), at(relay, w.servers[relay].address())},
		}},
		Routes: []config.Route{
			{Name: "telemetry-up", Match: config.Match{Topic: telemetryFilter}, To: region(earthRegion), Unreachable: policy.Store},
			{Name: "commands-down", Match: config.Match{Topic: commandFilter}, To: region(lunaRegion), Unreachable: policy.Store},
			{
				Name: "survey-to-earth-else-leo", Match: config.Match{Service: service},
				To: append(region(earthRegion), region(relayRegion)...), Unreachable: policy.Store,
			},
		},
	}
}

// revision is what is pushed while luna is cut off: the same, and a route more.
func (w *world) revision() []byte {
	r := w.resources()
	r.Routes = append(r.Routes, config.Route{
		Name: "alarms-first", Match: config.Match{Topic: "alarm/#"}, To: []addr.Region{addr.MustRegion(earthRegion)},
		Unreachable: policy.Store, Class: "alarm",
	})
	return config.RenderResources(r)
}

// start runs the links and the nodes until ctx ends or close, and returns
// once every node takes messages.
func (w *world) start(ctx context.Context, lost context.CancelCauseFunc) error {
	for _, l := range []*emulator.Link{w.moon, w.ground} {
		w.links.Go(func() {
			if err := l.Run(ctx); err != nil {
				lost(err)
			}
		})
	}
	var g errgroup.Group
	for _, n := range names() {
		g.Go(func() error {
			if err := w.nodes[n].start(); err != nil {
				return err
			}
			return w.nodes[n].ready(ctx)
		})
	}
	return g.Wait()
}
