package links

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Run moves bytes from one node to another and measures how long it takes.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (r Report, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	defer func() {
		cancel()
		if e := g.Wait(); e != nil && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}()
	w := newWorld(g)
	far, err := w.node(ctx, "far", nil, c.back())
	if err != nil {
		return r, err
	}
	wire, at, err := c.wire(ctx, g, far.addr)
	if err != nil {
		return r, err
	}
	near, err := w.node(ctx, "near", []string{at}, c.properties())
	if err != nil {
		return r, err
	}
	s, err := near.up(ctx)
	if err != nil {
		return r, err
	}
	if note != nil {
		note("%s is up, round trip %v", s.Layer(), s.RTT().Round(time.Millisecond))
	}
	return c.measure(ctx, s, far, wire)
}

// wire opens the emulated link to a node and says where it begins; it is nil
// when there is nothing to emulate.
func (c Config) wire(ctx context.Context, g *errgroup.Group, to string) (*emulator.Link, string, error) {
	if c.direct() {
		return nil, to, nil
	}
	up, down := c.profiles()
	conf := emulator.Config{Listen: "127.0.0.1:0", To: to, Up: up, Down: down, Seed: c.Seed}
	if c.tcp() {
		conf.Network = "tcp"
	}
	l, err := emulator.Open(conf)
	if err != nil {
		return nil, "", err
	}
	g.Go(func() error { return l.Run(ctx) })
	return l, l.Addr().String(), nil
}

// profiles are the two directions of the emulated link.
func (c Config) profiles() (up, down emulator.Profile) {
	up = emulator.Profile{Delay: c.Delay, Loss: c.Loss, Burst: c.Burst, Rate: c.Rate, Overhead: headers}
	down = up
	if c.Return > 0 {
		down.Rate = c.Return
	}
	return up, down
}

// headers are those of IP and UDP, which the rate counts.
const headers = 28

// measure moves the bytes over a session that is up.
func (c Config) measure(ctx context.Context, s *link.Session, far *node, l *emulator.Link) (r Report, err error) {
	count := func() (st emulator.Stats, back uint64) {
		if l != nil {
			st = l.Stats()
		}
		if c.tcp() {
			return st, s.Stats().BytesReceived
		}
		return st, st.Down.Bytes + headers*st.Down.Packets
	}
	busy := proc.OwnCPU()
	before, back := count()
	done := make(chan arrival, 1)
	far.expect(c.Bytes, done)
	begun := time.Now()
	sent := sha256.New()
	if err := c.send(ctx, s, far, sent); err != nil {
		return r, err
	}
	var end arrival
	select {
	case end = <-done:
	case <-s.Done():
		return r, errors.New("the session ended before all had arrived")
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	after, now := count()
	took := end.at.Sub(begun)
	const mega = 1e6
	r = Report{
		Layer: s.Layer(), Delay: millis(c.Delay), Loss: c.Loss, Burst: c.Burst,
		Rate: float64(c.Rate) / mega, Return: float64(max(c.Return, 0)) / mega, Bytes: c.Bytes,
		Seconds: took.Seconds(), Goodput: float64(c.Bytes) * 8 / took.Seconds() / mega,
		Reverse: now - back, SHA256: bytes.Equal(end.sum, sent.Sum(nil)),
		CPU: (proc.OwnCPU() - busy).Seconds() / float64(c.Bytes) * (1 << 30),
		RTT: millis(s.RTT()), Packets: after.Up.Offered - before.Up.Offered,
		Lost: after.Up.Dropped.Loss - before.Up.Dropped.Loss, Queue: after.Up.Dropped.Queue - before.Up.Dropped.Queue,
		Unreal: after.Up.Dropped.Memory + after.Up.Dropped.Undelivered + after.Up.Overrun,
	}
	if c.Return == 0 {
		r.Return = r.Rate
	}
	if c.Rate > 0 {
		r.Share = float64(c.Bytes) * 8 / float64(c.Rate) / (took - c.Delay).Seconds()
	}
	if st, ok := s.Salvo(); ok {
		r.Memory, r.Again = st.MaxHeld, st.Reread
	}
	if !r.SHA256 {
		return r, errors.New("what arrived differs from what was sent")
	}
	return r, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// send gives the session bundles, as many as it takes without holding more than
// a part of its budget.
func (c Config) send(ctx context.Context, s *link.Session, far *node, sum hash.Hash) error {
	for xid, left := uint64(1), c.Bytes; left > 0; xid++ {
		if err := wait(ctx, s, far); err != nil {
			return err
		}
		n := int(min(left, maxFrame))
		frozen, data := c.message(xid, n)
		sum.Write(data)
		again := func() ([]byte, error) { // as a store would
			_, data := c.message(xid, n)
			return bundle.AppendPayload(nil, data), nil
		}
		if !s.SendTransfer(bundle.Bulk, xid, frozen, bundle.AppendPayload(nil, data), bundle.Hop{}, again) {
			return fmt.Errorf("the session took no more after %d bytes", c.Bytes-left)
		}
		left -= int64(n)
	}
	return nil
}

// wait waits until the session has room.
func wait(ctx context.Context, s *link.Session, far *node) error {
	if s.Layer() == link.LayerSalvo { // as nodes do
		if s.Await(ctx, bundle.Bulk) {
			return nil
		}
		return errors.New("the session ended")
	}
	for s.Stats().Queued > far.budget/4 {
		select {
		case <-time.After(time.Millisecond):
		case <-s.Done():
			return errors.New("the session ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// message makes what a transfer carries, the same each time.
func (c Config) message(xid uint64, n int) (frozen, data []byte) {
	p := bundle.Primary{
		Dest: addr.NodeEID(addr.MustNode("far"), service), Source: addr.NodeEID(addr.MustNode("near"), service), ReportTo: addr.None,
		Created: bundle.Timestamp{Seq: xid}, Lifetime: lifetime,
	}
	data = make([]byte, n)
	seed := [32]byte{byte(c.Seed), 1}
	binary.BigEndian.PutUint64(seed[8:], xid)
	_, _ = rand.NewChaCha8(seed).Read(data) // never fails
	return bundle.AppendFrozen(nil, &p, bundle.MeshInfo{}), data
}

// What the bundles of a run say of themselves.
const (
	service  = "bench"
	lifetime = 3600_000 // ms
)
