package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
)

// What NATS is tuned to: the shortest pings that its documentation speaks of,
// two of which may stay without an answer.
const natsTuning = `ping_interval: "1s"
ping_max: 2
write_deadline: "2s"
logtime: true
`

// What its servers log.
const (
	leafUp   = "Leafnode connection created"
	leafDown = "Leafnode connection closed"
)

// natsRest is how long a leaf that is connected is left alone before it is cut.
const natsRest = 2 * time.Second

// leaf is a nats-server and a leaf of it behind a wire, as programs.
type leaf struct {
	hub, leaf         proc.Program
	client, hubClient string
	wire              *emulator.Link
	g                 errgroup.Group
}

// peer measures when leaf nodes notice the cuts that links of ours are measured
// with, while messages flow from them. Each cut has servers of its own.
func (c Config) peer(ctx context.Context) (*Peer, error) {
	if c.Busy {
		idle, err := spin(ctx)
		if err != nil {
			return nil, err
		}
		defer idle()
	}
	rnd := rand.New(rand.NewPCG(c.Seed, 2))
	var all []time.Duration
	for range natsCuts {
		d, err := c.leaf(ctx, natsRest+time.Duration(rnd.Int64N(int64(time.Second))))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return &Peer{Name: "nats-server, leaf node, pings of 1 s", Cuts: len(all), Detect: spread(all)}, nil
}

// leaf starts both servers, cuts the wire between them after a while, and
// returns how long it took until the leaf noticed.
func (c Config) leaf(ctx context.Context, after time.Duration) (_ time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &leaf{}
	defer func() { err = errors.Join(err, l.stop()); cancel(); err = errors.Join(err, l.g.Wait()) }()
	if err := l.open(ctx, c); err != nil {
		return 0, err
	}
	for _, at := range []struct{ addr, first string }{{l.hubClient, "SUB bench 1\r\n"}, {l.client, ""}} {
		conn, err := reach(ctx, at.addr)
		if err != nil {
			return 0, err
		}
		l.g.Go(func() error { return natsClient(ctx, conn, at.first, c.Every) })
	}
	if !pause(ctx, after) {
		return 0, context.Cause(ctx)
	}
	begun := time.Now()
	l.wire.Cut(true)
	err = l.await(ctx, leafDown)
	return time.Since(begun), err
}

// reach connects to a program that is about to listen.
func reach(ctx context.Context, at string) (net.Conn, error) {
	var d net.Dialer
	for end := time.Now().Add(patience); ; {
		conn, err := d.DialContext(ctx, "tcp", at)
		if err == nil || time.Now().After(end) || !pause(ctx, 20*time.Millisecond) {
			return conn, err
		}
	}
}

// natsClient subscribes, or publishes every so often, over the protocol of NATS
// until ctx ends.
func natsClient(ctx context.Context, conn net.Conn, subscribe string, every time.Duration) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends both directions
	defer stop()
	var g errgroup.Group
	g.Go(func() error { _, _ = io.Copy(io.Discard, conn); return nil }) // until it is closed
	line := "CONNECT {\"verbose\":false}\r\n" + subscribe
	for {
		if _, err := conn.Write([]byte(line)); err != nil || !pause(ctx, every) {
			break
		}
		if line = "PUB bench 4\r\ndata\r\n"; subscribe != "" {
			line = "PONG\r\n" // what it is asked for now and then
		}
	}
	_ = conn.Close()
	return g.Wait()
}

func (l *leaf) open(ctx context.Context, c Config) (err error) {
	var leafPort string
	for _, at := range []*string{&l.client, &l.hubClient, &leafPort} {
		if *at, err = proc.FreeAddr(); err != nil {
			return err
		}
	}
	if l.wire, err = emulator.Open(emulator.Config{Network: "tcp", Listen: "127.0.0.1:0", To: leafPort}); err != nil {
		return err
	}
	l.g.Go(func() error { return l.wire.Run(ctx) })
	hub := fmt.Sprintf("listen: %q\nserver_name: hub\n%sleafnodes { listen: %q }\n", l.hubClient, natsTuning, leafPort)
	far := fmt.Sprintf("listen: %q\nserver_name: leaf\n%sleafnodes { reconnect: \"1s\", remotes: [ { url: \"nats-leaf://%s\" } ] }\n", l.client, natsTuning, l.wire.Addr())
	for _, p := range []struct {
		*proc.Program
		conf string
	}{{&l.hub, hub}, {&l.leaf, far}} {
		if p.Dir, err = os.MkdirTemp(c.Dir, "failover-nats-"); err != nil {
			return err
		}
		file := filepath.Join(p.Dir, "nats.conf")
		if err := os.WriteFile(file, []byte(p.conf), 0o600); err != nil {
			return err
		}
		p.Path, p.Args = c.NATS, []string{"-c", file}
		if err := p.Begin(ctx); err != nil {
			return err
		}
	}
	return l.await(ctx, leafUp)
}

func (l *leaf) stop() error {
	var errs []error
	for _, p := range []*proc.Program{&l.leaf, &l.hub} {
		if p.Dir != "" {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(errs...)
}

// await waits until the leaf logged something.
func (l *leaf) await(ctx context.Context, what string) error {
	for end := time.Now().Add(patience); ; {
		log, err := os.ReadFile(filepath.Join(l.leaf.Dir, "log"))
		if err == nil && bytes.Contains(log, []byte(what)) {
			return nil
		}
		if time.Now().After(end) || !pause(ctx, 2*time.Millisecond) {
			return fmt.Errorf("nats-server does not say %q\n%s", what, strings.TrimSpace(l.leaf.Tail()))
		}
	}
}
