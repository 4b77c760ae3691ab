package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/storeforward/bundle"
)

// doorWindow is how many bundles the sender has under way: what one session
// of a node takes before it is answered.
const doorWindow = 512

// The nodes of the other stack that send and receive, as ipn numbers.
const (
	doorFrom = 9001
	doorTo   = 9002
)

// doorChain is a relay with TCPCLv4 doors, between a sender and a receiver
// that are doors without a disk, within this process.
type doorChain struct {
	chain
	sender   *dtn.Door
	receiver *doorReceiver
	stopped  func() error
	sent     uint64
}

// doorReceiver acknowledges at once and counts.
type doorReceiver struct {
	size int
	up   atomic.Bool // of the sender's session
	n    atomic.Int64

	mu       sync.Mutex
	seen     []uint64 // bits by number
	repeated int64
}

// Receive implements dtn.Sink.
func (r *doorReceiver) Receive(in dtn.Received, done func(bundle.Reason)) {
	done(bundle.OK)
	if at := len(in.Bundle) - 1 - 5 - r.size; at > 0 { // before its CRC and the break
		n := binary.BigEndian.Uint64(in.Bundle[at:])
		r.mu.Lock()
		for int(n/64) >= len(r.seen) && n < 1<<32 {
			r.seen = append(r.seen, make([]uint64, 1+len(r.seen))...)
		}
		if n < 1<<32 && r.seen[n/64]>>(n%64)&1 == 1 {
			r.repeated++
		} else if n < 1<<32 {
			r.seen[n/64] |= 1 << (n % 64)
			r.n.Add(1)
		}
		r.mu.Unlock()
	}
}

// PeerUp implements dtn.Sink; the receiver has no peers, the sender one.
func (r *doorReceiver) PeerUp(string) { r.up.Store(true) }

// PeerDown implements dtn.Sink.
func (r *doorReceiver) PeerDown(string) { r.up.Store(false) }

// newDoorChain makes a relay and its two neighbours.
func newDoorChain(ctx context.Context, c RelayConfig, dir string) (ch *doorChain, err error) {
	ch = &doorChain{receiver: &doorReceiver{size: c.Size}, stopped: func() error { return nil }}
	in, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	out, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	if ch.relay, err = newDoorRelay(ctx, c, dir, in, out); err != nil {
		return nil, err
	}
	if err = ch.connect(ctx, in, out); err != nil {
		return nil, errors.Join(err, ch.stop())
	}
	return ch, nil
}

func newDoorRelay(ctx context.Context, c RelayConfig, dir, in, out string) (*member, error) {
	m := &member{}
	var err error
	if m.mesh, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	if m.admin, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`
dtn:
  listen: [{kind: tcpcl, address: %q, tls: none, strangers: true}]
  peers: [{name: receiver, kind: tcpcl, address: %q, serves: ["ipn:%d.*"], tls: none, cut_through: %t}]
`, in, out, doorTo, c.Volatile)
	m.process, err = launch(ctx, server{name: "relay", program: c.Farhop, prepare: func(ctx context.Context, dir, addr string) ([]string, error) {
		m.data = filepath.Join(dir, "data")
		_, err := call(ctx, c.Farhop, "init", "--region", "relay", "--name", "relay-1", "--dir", m.data, "--mqtt", addr, "--mesh", m.mesh, "--admin", m.admin)
		if err != nil {
			return nil, err
		}
		file, err := os.OpenFile(filepath.Join(m.data, "farhop.yaml"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		_, err = file.WriteString(text)
		return []string{"run", "--dir", m.data}, errors.Join(err, file.Close())
	}}, dir)
	return m, err
}

// connect starts the receiver at out and the sender towards in.
func (ch *doorChain) connect(ctx context.Context, in, out string) error {
	log := slog.New(slog.DiscardHandler)
	to, err := dtn.New(dtn.Config{
		Node: addr.IPN(doorTo, 0), Sink: ch.receiver, Log: log,
		Listeners: []dtn.Listener{{Kind: dtn.TCPCL, Address: out, TLS: dtn.TLSNone, Strangers: true}},
	})
	if err != nil {
		return err
	}
	if ch.sender, err = dtn.New(dtn.Config{
		Node: addr.IPN(doorFrom, 0), Sink: ch.receiver, Log: log, Limits: dtn.Limits{InFlight: doorWindow},
		Peers: []dtn.Peer{{Name: "relay", Kind: dtn.TCPCL, Address: in, TLS: dtn.TLSNone}},
	}); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { errs[0] = to.Run(run) })
	wg.Go(func() { errs[1] = ch.sender.Run(run) })
	ch.stopped = func() error { cancel(); wg.Wait(); return errors.Join(errs[:]...) }
	// The relay is to have both sessions: the receiver's shows in its metrics.
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if n, err := ch.relay.metric(`farhop_dtn_peer_up{peer="receiver"}`); ch.receiver.up.Load() && err == nil && n == 1 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the doors do not connect\nrelay:\n%s", ch.relay.Tail())
}

func (ch *doorChain) stop() error { return errors.Join(ch.stopped(), ch.chain.stop()) }

// round sends the bundles of one round.
func (ch *doorChain) round(ctx context.Context, c RelayConfig) (x RelayRound, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	base := ch.receiver.n.Load()
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	wg.Go(func() {
		for range c.Messages {
			ch.sent++
			raw := [][]byte{doorBundle(ch.sent, c.Size)}
			err := ch.sender.Begin(ctx, "relay", raw, func(err error) {
				if err != nil {
					failed.Store(&err)
				}
			})
			if err != nil {
				failed.Store(&err)
				return
			}
		}
	})
	marks, err := ch.watch(ctx, c.Messages, c.Limit, func() (int, error) {
		if e := failed.Load(); e != nil {
			return 0, *e
		}
		return int(ch.receiver.n.Load() - base), nil
	})
	wg.Wait()
	if err != nil {
		return x, err
	}
	if x, err = between(marks, c.Messages); err == nil && x.Lost > 0 {
		err = fmt.Errorf("%d of %d bundles arrived within %v", x.Bundles, c.Messages, c.Limit)
	}
	return x, err
}

// doorBundle makes a bundle with a payload of size bytes that begins with n.
func doorBundle(n uint64, size int) []byte {
	p := bundle.Primary{
		Dest: addr.IPN(doorTo, 1), Source: addr.IPN(doorFrom, 1), ReportTo: addr.None, Lifetime: uint64(24 * time.Hour / time.Millisecond),
		Created: bundle.Timestamp{Time: bundle.DTNTime(time.Now().UnixMilli()), Seq: n},
	}
	payload := make([]byte, size)
	binary.BigEndian.PutUint64(payload, n)
	raw := make([]byte, 0, size+128)
	return bundle.AppendBundle(raw, bundle.AppendPrimary(nil, &p), bundle.AppendPayload(nil, payload), bundle.Hop{NoAge: true})
}
