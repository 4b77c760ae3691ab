package contact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
)

// patience bounds every wait for programs of this machine.
const patience = 2 * time.Minute

// every is the time from one contact to the next that the nodes are told: so
// long that a connection is not kept over the gap. Before it is over they are
// told of another contact.
const every = time.Hour

// node is one of the two.
type node struct {
	proc.Program
	name              string // of the node and of its region
	data              string // its folder
	mqtt, mesh, admin string
}

// pair is two nodes: near dials far through the link.
type pair struct {
	c         Config
	near, far *node
	link      *emulator.Link
	ended     chan struct{} // closed when the link has
}

// open makes the nodes members of one mesh. They meet where light takes no time,
// and do not run afterwards. Stop must follow, also after an error.
func (p *pair) open(ctx context.Context) (err error) {
	if p.far, err = p.node("earth"); err != nil {
		return err
	}
	if p.near, err = p.node("luna"); err != nil {
		return err
	}
	if _, err := p.call(ctx, append([]string{"init", "--region", p.far.name}, p.far.flags()...)...); err != nil {
		return err
	}
	if err := p.far.start(ctx); err != nil {
		return err
	}
	if p.link, err = emulator.Open(emulator.Config{Network: "udp", Listen: "127.0.0.1:0", To: p.far.mesh}); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func() { // ends with the link, in stop
		defer close(p.ended)
		_ = p.link.Run(ctx) // nothing arrives through a link that ended
	}()
	ticket, err := p.call(ctx, "invite", "--region", p.near.name, "--advertise", p.link.Addr().String(), "--dir", p.far.data)
	if err != nil {
		return err
	}
	if _, err := p.call(ctx, append(append([]string{"join"}, p.near.flags()...), ticket)...); err != nil {
		return err
	}
	return p.far.End()
}

func (p *pair) node(name string) (_ *node, err error) {
	n := &node{name: name, Program: proc.Program{Path: p.c.Farhop}}
	if n.Dir, err = os.MkdirTemp(p.c.Dir, "contact-"+name+"-"); err != nil {
		return nil, err
	}
	n.data = filepath.Join(n.Dir, "data")
	n.Args = []string{"run", "--dir", n.data}
	for _, at := range []*string{&n.mqtt, &n.mesh, &n.admin} {
		if *at, err = proc.FreeAddr(); err != nil {
			return nil, errors.Join(err, n.Stop())
		}
	}
	return n, nil
}

func (n *node) flags() []string {
	return []string{"--name", n.name, "--dir", n.data, "--mqtt", n.mqtt, "--mesh", n.mesh, "--admin", n.admin}
}

// plan tells both nodes, which do not run, and the link of the next contact.
func (p *pair) plan(start time.Time, length time.Duration) error {
	props := config.LinkProps{
		OWLT: config.Duration(p.c.Delay), Rate: config.Rate(p.c.Rate),
		Contacts: &config.Contacts{Start: config.Instant{Time: start.UTC()}, Every: config.Duration(every), For: config.Duration(length)},
	}
	err := p.far.configure(func(f *config.Config) {
		f.Links = []config.Link{{Node: addr.MustNode(p.near.name), LinkProps: props}}
	})
	if err == nil {
		err = p.near.configure(func(f *config.Config) {
			f.Peers = []config.Peer{{Address: config.HostPort(p.link.Addr().String()), Node: addr.MustNode(p.far.name), LinkProps: props}}
		})
	}
	if err == nil {
		wire := p.c.wire()
		wire.Contacts = emulator.Schedule{Start: start, Every: every, For: length}
		err = p.link.SetProfile(wire, wire)
	}
	return err
}

// wire is the link while it is there.
func (c Config) wire() emulator.Profile { return emulator.Profile{Delay: c.Delay, Rate: c.Rate} }

func (n *node) configure(edit func(*config.Config)) error {
	path := filepath.Join(n.data, config.FileName)
	c, err := config.Load(path)
	if err == nil {
		edit(&c)
		err = config.Save(path, c)
	}
	if err != nil {
		return fmt.Errorf("configure %s: %w", n.name, err)
	}
	return nil
}

// start runs a node and waits until it takes clients.
func (n *node) start(ctx context.Context) error {
	if err := n.Begin(ctx); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	for end := time.Now().Add(patience); ; {
		err := load.Probe(ctx, n.mqtt)
		if err == nil {
			return nil
		}
		if time.Now().After(end) || n.Gone() || !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("node %s does not start: %w\n%s", n.name, err, n.Tail())
		}
	}
}

// start runs both at once.
func (p *pair) start(ctx context.Context) error {
	far := make(chan error, 1)
	go func() { far <- p.far.start(ctx) }() // awaited below
	return errors.Join(p.near.start(ctx), <-far)
}

// halt ends both, in order or by SIGKILL.
func (p *pair) halt(kill bool) error {
	if kill {
		return errors.Join(p.near.Kill(), p.far.Kill())
	}
	return errors.Join(p.near.End(), p.far.End())
}

func (p *pair) stop() error {
	var errs []error
	for _, n := range []*node{p.near, p.far} {
		if n != nil {
			errs = append(errs, n.Stop())
		}
	}
	if p.link != nil {
		errs = append(errs, p.link.Close())
		<-p.ended
	}
	return errors.Join(errs...)
}

// call runs the program to its end and returns what it printed.
func (p *pair) call(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, p.c.Farhop, args...).Output()
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		return "", fmt.Errorf("%s %s: %w\n%s", p.c.Farhop, args[0], err, x.Stderr)
	}
	return strings.TrimSpace(string(text)), err
}

// peer is what a node says of the other.
func (n *node) peer(ctx context.Context) (admin.Peer, error) {
	client, err := admin.Dial(n.data)
	if err != nil {
		return admin.Peer{}, err
	}
	st, err := client.Status(ctx)
	if err != nil || len(st.Peers) == 0 {
		return admin.Peer{}, err
	}
	return st.Peers[0], nil
}

// turn waits until the link of a node is up, or is not, and returns since when.
func (n *node) turn(ctx context.Context, up bool, until time.Time) (time.Time, error) {
	for {
		p, err := n.peer(ctx)
		if err == nil && p.Address != "" && (p.State == admin.PeerUp) == up {
			return p.Since, nil
		}
		if time.Now().After(until) || !pause(ctx, 20*time.Millisecond) {
			return time.Time{}, errors.Join(fmt.Errorf("%s: the link is %q, want up: %t; its last error is %q", n.name, p.State, up, p.LastError), err, ctx.Err())
		}
	}
}

// early reads a count of first flights; none is 0.
func (n *node) early(ctx context.Context, result string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return 0, err
	}
	_, line, ok := strings.Cut(string(text), `farhop_link_early_total{result="`+result+`"} `)
	if !ok {
		return 0, nil // a count appears with its first event
	}
	line, _, _ = strings.Cut(line, "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

// pause sleeps and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
