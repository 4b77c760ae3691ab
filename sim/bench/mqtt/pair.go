package mqtt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
)

// Names of the nodes.
const (
	earth = "earth"
	luna  = "luna"
)

// openNodes makes two nodes of one mesh: luna, with the publisher, dials earth
// through the link. They meet where light takes no time, and are told of the
// link before it becomes what it is.
func openNodes(ctx context.Context, c Config, _ byte) (_ *pair, err error) {
	p := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	mesh, err := proc.FreeAddr()
	if err != nil {
		return p, err
	}
	var hub string
	p.far, err = launch(ctx, broker{name: earth, program: c.Farhop, prepare: func(ctx context.Context, dir, at string) ([]string, error) {
		hub = filepath.Join(dir, "data")
		_, err := call(ctx, c.Farhop, "init", "--region", earth, "--name", earth, "--dir", hub, "--mqtt", at, "--mesh", mesh, "--admin", "127.0.0.1:0")
		return []string{"run", "--dir", hub}, err
	}}, c.Dir)
	if err != nil {
		return p, err
	}
	if err := p.open(ctx, "udp", mesh, emulator.Profile{}); err != nil {
		return p, err
	}
	p.near, err = prepare(ctx, broker{name: luna, program: c.Farhop, prepare: func(ctx context.Context, dir, at string) ([]string, error) {
		return p.join(ctx, c, hub, filepath.Join(dir, "data"), at)
	}}, c.Dir)
	if err != nil {
		return p, err
	}
	if err := p.far.Kill(); err != nil {
		return p, err
	}
	props := c.link()
	err = configure(hub, func(f *config.Config) {
		f.Links = []config.Link{{Node: addr.MustNode(luna), LinkProps: props}}
		f.MQTT.Limits.Window = hubWindow
	})
	if err == nil {
		err = p.link.SetProfile(c.profile(), c.profile())
	}
	if err == nil {
		err = p.far.start(ctx)
	}
	if err == nil {
		err = p.near.start(ctx)
	}
	return p, err
}

// join makes luna a node of the mesh whose first node is in the folder hub.
func (p *pair) join(ctx context.Context, c Config, hub, data, at string) ([]string, error) {
	ticket, err := call(ctx, c.Farhop, "invite", "--region", luna, "--advertise", p.link.Addr().String(), "--dir", hub)
	if err != nil {
		return nil, err
	}
	if _, err := call(ctx, c.Farhop, "join", "--name", luna, "--dir", data, "--mqtt", at, "--mesh", "127.0.0.1:0", "--admin", "127.0.0.1:0", ticket); err != nil {
		return nil, err
	}
	err = configure(data, func(f *config.Config) {
		f.Peers = []config.Peer{{Address: config.HostPort(p.link.Addr().String()), Node: addr.MustNode(earth), LinkProps: c.link()}}
	})
	return []string{"run", "--dir", data}, err
}

// link is what both nodes are told of the link.
func (c Config) link() config.LinkProps {
	return config.LinkProps{OWLT: config.Duration(c.light), Rate: config.Rate(MoonRate)}
}

// openBridge makes two Mosquittos, of which the one with the publisher has a
// bridge to the other, through the link.
func openBridge(ctx context.Context, c Config, qos byte, setting ...string) (_ *pair, err error) {
	p := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	// The subscriber acknowledges across no distance, and its broker must not be
	// what limits the bridge.
	if p.far, err = launch(ctx, mosquitto(c.Peer, fair()...), c.Dir); err != nil {
		return p, err
	}
	if err := p.open(ctx, "tcp", p.far.addr, c.profile()); err != nil {
		return p, err
	}
	lines := append([]string{"persistence false"}, setting...)
	lines = append(lines, "connection moon", "address "+p.link.Addr().String(), fmt.Sprintf("topic bench/# out %d", qos))
	p.near, err = launch(ctx, mosquitto(c.Peer, lines...), c.Dir)
	return p, err
}
