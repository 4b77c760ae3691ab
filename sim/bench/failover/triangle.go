package failover

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
)

// patience bounds every wait for programs of this machine.
const patience = 2 * time.Minute

// region is that of all nodes.
const region = "bench"

// member is a node.
type member struct {
	proc.Program
	name              string
	data              string // its folder
	mqtt, mesh, admin string
}

// triangle is three nodes with a wire between any two.
type triangle struct {
	program string
	dir     string
	from    *member // the stream begins here
	relay   *member
	to      *member // and ends here
	direct  *emulator.Link
	g       *errgroup.Group // runs the wires
	rate    int64           // bit/s of each; 0: none is the limit
}

// open makes and starts the nodes. Stop must follow, also after an error.
func (t *triangle) open(ctx context.Context) error {
	var err error
	if t.from, err = t.member("a"); err != nil {
		return err
	}
	if _, err := t.call(ctx, append([]string{"init", "--region", region}, t.from.flags()...)...); err != nil {
		return err
	}
	if err := t.start(ctx, t.from); err != nil {
		return err
	}
	ab, err := t.wire(ctx, t.from)
	if err != nil {
		return err
	}
	if t.direct, err = t.wire(ctx, t.from); err != nil {
		return err
	}
	// Each is made when it is started: until then its ports are anybody's.
	if t.relay, err = t.member("b"); err != nil {
		return err
	}
	if err := t.join(ctx, t.relay, peer(t.from, ab)); err != nil {
		return err
	}
	bc, err := t.wire(ctx, t.relay)
	if err != nil {
		return err
	}
	if t.to, err = t.member("c"); err != nil {
		return err
	}
	return t.join(ctx, t.to, peer(t.from, t.direct), peer(t.relay, bc))
}

func peer(n *member, wire *emulator.Link) config.Peer {
	return config.Peer{Address: config.HostPort(wire.Addr().String()), Node: addr.MustNode(n.name)}
}

// wire lays a wire in front of a node.
func (t *triangle) wire(ctx context.Context, to *member) (*emulator.Link, error) {
	p := emulator.Profile{Rate: t.rate}
	l, err := emulator.Open(emulator.Config{Network: "both", Listen: "127.0.0.1:0", To: to.mesh, Up: p, Down: p})
	if err == nil {
		t.g.Go(func() error { return l.Run(ctx) })
	}
	return l, err
}

func (t *triangle) member(name string) (_ *member, err error) {
	m := &member{name: name, Program: proc.Program{Path: t.program}}
	if m.Dir, err = os.MkdirTemp(t.dir, "failover-"+name+"-"); err != nil {
		return nil, err
	}
	m.data = filepath.Join(m.Dir, "data")
	m.Args = []string{"run", "--dir", m.data, "--log-format", "json"}
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

// join makes a node one of the mesh, with peers to dial, and starts it.
func (t *triangle) join(ctx context.Context, m *member, peers ...config.Peer) error {
	ticket, err := t.call(ctx, "invite", "--region", region, "--advertise", string(peers[0].Address), "--dir", t.from.data)
	if err != nil {
		return err
	}
	if _, err := t.call(ctx, append(append([]string{"join"}, m.flags()...), ticket)...); err != nil {
		return err
	}
	path := filepath.Join(m.data, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	c.Peers = peers
	if err := config.Save(path, c); err != nil {
		return err
	}
	return t.start(ctx, m)
}

// start runs a node and waits until it takes clients.
func (t *triangle) start(ctx context.Context, m *member) error {
	if err := m.Begin(ctx); err != nil {
		return err
	}
	var d net.Dialer
	for end := time.Now().Add(patience); ; {
		conn, err := d.DialContext(ctx, "tcp", m.mqtt)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) || m.Gone() || !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("node %s does not start: %w\n%s", m.name, err, m.Tail())
		}
	}
}

func (t *triangle) stop() error {
	var errs []error
	for _, m := range []*member{t.to, t.relay, t.from} {
		if m != nil {
			errs = append(errs, m.Stop())
		}
	}
	return errors.Join(errs...)
}

// call runs the program to its end and returns what it printed.
func (t *triangle) call(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, t.program, args...).Output()
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		return "", fmt.Errorf("%s %s: %w\n%s", t.program, args[0], err, x.Stderr)
	}
	return strings.TrimSpace(string(text)), err
}

// silence is a line of a node's log about a link.
type silence struct {
	Time time.Time `json:"time"`
	Msg  string    `json:"msg"`
	Peer string    `json:"peer"`
	at   string    // node that says it
}

// What nodes log.
const (
	fellSilent = "a link fell silent; what it would carry goes another way where there is one"
	isBack     = "a silent link carries again"
)

// silences returns what a node logged about silent links.
func (m *member) silences() (out []silence, err error) {
	data, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s := silence{at: m.name}
		if json.Unmarshal(lines.Bytes(), &s) == nil && (s.Msg == fellSilent || s.Msg == isBack) {
			out = append(out, s)
		}
	}
	return out, lines.Err()
}

// watched reads a figure of farhop_links_watched_total.
func (m *member) watched(ctx context.Context, what string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.admin+"/metrics", nil)
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
	_, line, ok := strings.Cut(string(text), `farhop_links_watched_total{what="`+what+`"} `)
	if !ok {
		return 0, fmt.Errorf("node %s has no count of %s", m.name, what)
	}
	line, _, _ = strings.Cut(line, "\n")
	return strconv.ParseFloat(line, 64)
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
