package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// device is an MQTT 5 client that is not ours. Its session outlives
// connections, and it comes back after each.
type device struct {
	t    *testing.T
	addr string
	id   string
	sess *state.State

	witness bool

	mu  sync.Mutex
	cl  *paho.Client
	got []*paho.Publish
}

// newDevice connects, and subscribes where a filter is given.
func newDevice(t *testing.T, addr, id string, filter string, noLocal bool) *device {
	t.Helper()
	d := &device{t: t, addr: addr, id: id, sess: state.NewInMemory()}
	d.run(filter, noLocal)
	return d
}

// newWitness subscribes with QoS 1 and drops what its own session sends it
// again. The library forgets over a broken connection what of QoS 2 it has
// handed up, so this is the way to see what a broker that restarts has taken.
func newWitness(t *testing.T, addr, id string, filter string) *device {
	t.Helper()
	d := &device{t: t, addr: addr, id: id, sess: state.NewInMemory(), witness: true}
	d.run(filter, false)
	return d
}

// run keeps the device connected until the end of the test, and waits
// for its first connection.
func (d *device) run(filter string, noLocal bool) {
	d.t.Helper()
	up := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		first := sync.OnceFunc(func() { close(up) })
		again := false
		for ctx.Err() == nil {
			gone, err := d.connect(ctx, again, filter, noLocal)
			if err != nil {
				sleep(ctx, 20*time.Millisecond)
				continue
			}
			again = true
			first()
			select {
			case <-gone:
			case <-ctx.Done():
				_ = d.client().Disconnect(&paho.Disconnect{})
			}
		}
	})
	d.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	select {
	case <-up:
	case <-time.After(patience):
		d.t.Fatalf("device %s: no connection to %s", d.id, d.addr)
	}
}

// connect never asks for a clean start, which a new broker has anyway: the
// sessions that began with one are not among those Mosquitto 2.0.11 writes to
// disk (persist__client_save), and what reaches it before the device has
// subscribed anew is lost. A session that is gone is therefore a fault of the
// test.
func (d *device) connect(ctx context.Context, again bool, filter string, noLocal bool) (gone <-chan struct{}, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	c := paho.NewClient(paho.ClientConfig{
		ClientID: d.id, Conn: conn, Session: d.sess, PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){d.take},
	})
	most := byte(2)
	if d.witness {
		most = 1
	}
	rm, expiry := uint16(65535), uint32(0xFFFFFFFF)
	ca, err := c.Connect(ctx, &paho.Connect{
		ClientID: d.id, KeepAlive: 30,
		Properties: &paho.ConnectProperties{ReceiveMaximum: &rm, SessionExpiryInterval: &expiry},
	})
	if err != nil {
		return nil, err
	}
	if again && !ca.SessionPresent {
		d.t.Errorf("device %s: its broker has lost the session", d.id)
	}
	if filter != "" && !again {
		if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: most, RetainAsPublished: true, NoLocal: noLocal}}}); err != nil {
			_ = c.Disconnect(&paho.Disconnect{})
			return nil, err
		}
	}
	d.mu.Lock()
	d.cl = c
	d.mu.Unlock()
	return c.Done(), nil
}

func (d *device) client() *paho.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cl
}

func (d *device) take(p paho.PublishReceived) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := func(q *paho.Publish) bool { return bytes.Equal(q.Payload, p.Packet.Payload) }
	if !d.witness || !p.Packet.Duplicate() || !slices.ContainsFunc(d.got, again) {
		d.got = append(d.got, p.Packet)
	}
	return true, nil
}

func (d *device) received() []*paho.Publish {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func (d *device) payloads() []string {
	var out []string
	for _, p := range d.received() {
		out = append(out, string(p.Payload))
	}
	return out
}

// publish sends one message and waits for its acknowledgement. A connection
// that breaks meanwhile is no matter: the session sends the message again.
func (d *device) publish(p *paho.Publish) {
	d.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, err := d.client().Publish(context.Background(), p)
		if err == nil {
			return
		}
		if p.QoS > 0 && !errors.Is(err, context.DeadlineExceeded) && d.client().Done() != nil {
			d.t.Logf("device %s: publish: %v", d.id, err)
		}
		if p.QoS == 0 {
			break
		}
		d.t.Fatalf("device %s: publish %q: %v", d.id, p.Payload, err)
	}
	d.t.Fatalf("device %s: could not publish %q", d.id, p.Payload)
}

// flood sends n numbered messages, many at a time, in order.
func (d *device) flood(topic string, from, n int, qos byte) {
	d.t.Helper()
	c := d.client()
	for i := from; i < from+n; i++ {
		_, err := c.PublishWithOptions(context.Background(), &paho.Publish{Topic: topic, QoS: qos, Payload: fmt.Appendf(nil, "%d", i)}, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
		if err != nil {
			d.t.Fatalf("device %s: publish %d: %v", d.id, i, err)
		}
	}
}

// waitFor waits until as many messages came, and a little for more.
func (d *device) waitFor(n int) {
	d.t.Helper()
	defer func() {
		if d.t.Failed() {
			d.mustBe(sequence(n))
		}
	}()
	until(d.t, fmt.Sprintf("%d messages at %s", n, d.id), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.got) >= n
	})
}

// mustHold waits for what QoS 1 promises of n numbered messages over broken
// connections: none is lost and none comes before an earlier one, though what
// was not acknowledged may come again (MQTT 5, 4.3.2 and 4.6).
func (d *device) mustHold(n int) {
	d.t.Helper()
	firsts := func() (out []string) {
		seen := map[string]bool{}
		for _, p := range d.payloads() {
			if !seen[p] {
				seen[p], out = true, append(out, p)
			}
		}
		return out
	}
	until(d.t, fmt.Sprintf("%d messages at %s", n, d.id), func() bool { return len(firsts()) >= n })
	for i, p := range firsts() {
		if p != fmt.Sprint(i) {
			d.t.Errorf("device %s: %s came before %d", d.id, p, i)
			return
		}
	}
}

// sequence is "0", "1", ... of n.
func sequence(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	return out
}

// mustBe compares what a device got with what it must get, word for word.
func (d *device) mustBe(want []string) {
	d.t.Helper()
	got := d.payloads()
	if slices.Equal(got, want) {
		return
	}
	seen := map[string]int{}
	inverted := 0
	for i, p := range got {
		seen[p]++
		if i > 0 && len(got[i-1]) >= len(p) && got[i-1] > p {
			inverted++
		}
	}
	lost, twice := 0, 0
	for _, p := range want {
		if seen[p] == 0 {
			lost++
		}
	}
	for _, n := range seen {
		twice += n - 1
	}
	d.t.Errorf("device %s: got %d, want %d: %d lost, %d repeated, %d inverted", d.id, len(got), len(want), lost, twice, inverted)
}
