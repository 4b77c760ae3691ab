package near

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/proc"
)

// region is that of all nodes, service what goes through them.
const (
	region  = "bench"
	service = "near"
)

// member is a node.
type member struct {
	name              string
	data              string // its folder
	mqtt, mesh, admin string
}

func (b *bench) member(layer, name string) (*member, error) {
	dir, err := b.folder(layer + "-" + name)
	if err != nil {
		return nil, err
	}
	m := &member{name: name, data: filepath.Join(dir, "data")}
	for _, at := range []*string{&m.mqtt, &m.mesh, &m.admin} {
		if *at, err = proc.FreeAddr(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *member) flags() []string {
	return []string{"--name", m.name, "--dir", m.data, "--mqtt", m.mqtt, "--mesh", m.mesh, "--admin", m.admin}
}

// nodes makes and starts two of ours: clients connect at one, which dials the
// other, behind which the server is.
func (b *bench) nodes(ctx context.Context, layer string) (*pair, error) {
	far, err := b.member(layer, leaveName)
	if err != nil {
		return nil, err
	}
	close, err := b.member(layer, enterName)
	if err != nil {
		return nil, err
	}
	p := &pair{name: layer}
	if p.at, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	props := config.LinkProps{Layer: layer}
	services := []config.Service{{
		Name:      service,
		Endpoints: []config.Endpoint{{Node: addr.MustNode(far.name), Address: config.HostPort(b.server)}},
		Listen:    []config.Endpoint{{Node: addr.MustNode(close.name), Address: config.HostPort(p.at)}},
	}}
	if _, err := call(ctx, append([]string{b.Farhop, "init", "--region", region}, far.flags()...)...); err != nil {
		return nil, err
	}
	err = far.configure(func(c *config.Config) {
		c.Services, c.Links = services, []config.Link{{Node: addr.MustNode(close.name), LinkProps: props}}
	})
	if err != nil {
		return nil, err
	}
	if err := b.run(ctx, p, far); err != nil {
		return nil, err
	}
	ticket, err := call(ctx, b.Farhop, "invite", "--region", region, "--advertise", far.mesh, "--dir", far.data)
	if err != nil {
		return nil, err
	}
	if _, err := call(ctx, append(append([]string{b.Farhop, "join"}, close.flags()...), ticket)...); err != nil {
		return nil, err
	}
	err = close.configure(func(c *config.Config) {
		c.Services = services
		c.Peers = []config.Peer{{Address: config.HostPort(far.mesh), Node: addr.MustNode(far.name), LinkProps: props}}
	})
	if err != nil {
		return nil, err
	}
	return p, b.run(ctx, p, close)
}

// configure edits a node's file.
func (m *member) configure(edit func(*config.Config)) error {
	path := filepath.Join(m.data, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	edit(&c)
	return config.Save(path, c)
}

// run starts a node and waits until it takes clients.
func (b *bench) run(ctx context.Context, p *pair, m *member) error {
	node, err := b.start(ctx, p.name+"-"+m.name, []string{b.Farhop}, "run", "--dir", m.data, "--log-format", "json")
	if err != nil {
		return err
	}
	p.parts = append(p.parts, node)
	return listens(ctx, node, m.mqtt)
}

// listens waits until a program takes TCP connections.
func listens(ctx context.Context, p *proc.Program, at string) error {
	var d net.Dialer
	for end := time.Now().Add(patience); ; {
		conn, err := d.DialContext(ctx, "tcp", at)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) || p.Gone() || !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s does not start: %w\n%s", p.Path, err, p.Tail())
		}
	}
}
