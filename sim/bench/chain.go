package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// chain is a sender and a receiver, and the relay between them that both are
// linked to.
type chain struct {
	sender, relay, receiver *member
}

// member is a node of a chain.
type member struct {
	*process
	mesh, admin string
	data        string
}

// newMember makes a node and starts it: the first of its mesh, or one that
// joins through via.
func newMember(ctx context.Context, program, dir, region string, via *member) (*member, error) {
	m := &member{}
	var err error
	if m.mesh, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	if m.admin, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	m.process, err = launch(ctx, server{name: region, program: program, prepare: func(ctx context.Context, dir, addr string) ([]string, error) {
		m.data = filepath.Join(dir, "data")
		listen := []string{"--name", region + "-1", "--dir", m.data, "--mqtt", addr, "--mesh", m.mesh, "--admin", m.admin}
		run := []string{"run", "--dir", m.data}
		if via == nil {
			_, err := call(ctx, program, append([]string{"init", "--region", region}, listen...)...)
			return run, err
		}
		ticket, err := call(ctx, program, "invite", "--region", region, "--advertise", via.mesh, "--dir", via.data)
		if err != nil {
			return nil, err
		}
		_, err = call(ctx, program, append(append([]string{"join"}, listen...), strings.TrimSpace(ticket))...)
		return run, errors.Join(err, unbatched(m.data))
	}}, dir)
	return m, err
}

// unbatched has a node send every message in a bundle of its own: small ones
// share bundles otherwise, and a bundle would be of another size.
func unbatched(data string) error {
	path := filepath.Join(data, "farhop.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text = regexp.MustCompile(`(batch: \{max_bytes: )[^,]*`).ReplaceAll(text, []byte("${1}0B"))
	return os.WriteFile(path, text, 0o600)
}

// call runs the program to its end and returns what it printed.
func call(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, args[0], err, errs.Bytes())
	}
	return out.String(), nil
}

// metric reads one figure without labels of a node.
func (m *member) metric(name string) (int, error) {
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + m.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("%s/metrics has no %s", m.admin, name)
}

// newChain makes and links three nodes, with a session at the receiver that
// wants everything and is away.
func newChain(ctx context.Context, program, dir string) (*chain, error) {
	ch := &chain{}
	var err error
	if ch.relay, err = newMember(ctx, program, dir, "relay", nil); err == nil {
		ch.sender, err = newMember(ctx, program, dir, "sender", ch.relay)
	}
	if err == nil {
		ch.receiver, err = newMember(ctx, program, dir, "receiver", ch.relay)
	}
	if err == nil {
		err = prepareSession(ctx, ch.receiver.addr)
	}
	if err == nil {
		err = ch.linked(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, ch.stop())
	}
	return ch, nil
}

func (ch *chain) stop() error {
	var errs []error
	for _, m := range []*member{ch.sender, ch.relay, ch.receiver} {
		if m != nil && m.process != nil {
			errs = append(errs, m.Stop())
		}
	}
	return errors.Join(errs...)
}

// tails returns what the nodes logged last.
func (ch *chain) tails() string {
	if ch.sender == nil {
		return "\nrelay:\n" + ch.relay.Tail()
	}
	return fmt.Sprintf("\nsender:\n%s\nrelay:\n%s\nreceiver:\n%s", ch.sender.Tail(), ch.relay.Tail(), ch.receiver.Tail())
}

// linked publishes until something arrives: then the sender knows what the
// receiver's session wants.
func (ch *chain) linked(ctx context.Context) error {
	c, err := dial(ctx, ch.sender.addr, "bench-probe", true)
	if err != nil {
		return err
	}
	defer c.conn.Close() // nothing is left to say
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err := c.publish("bench/probe", []byte("probe")); err != nil {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		if n, err := ch.arrived(); err != nil || n > 0 {
			return err
		}
	}
	return fmt.Errorf("nothing came from the sender to the receiver%s", ch.tails())
}

// arrived counts the messages that reached the receiver, since it started.
func (ch *chain) arrived() (int, error) { return ch.receiver.metric("farhop_arrived_total") }

// settled waits until nothing arrives any more, and returns how many have.
func (ch *chain) settled(ctx context.Context) (int, error) {
	for before := -1; ; {
		n, err := ch.arrived()
		if err != nil || n == before {
			return n, err
		}
		before = n
		if err := pause(ctx, time.Second); err != nil {
			return n, err
		}
	}
}

// durable is a round with bundles that every node stores.
func (ch *chain) durable(ctx context.Context, c RelayConfig) (x RelayRound, err error) {
	base, err := ch.settled(ctx)
	if err != nil {
		return x, err
	}
	if err := ch.relay.Kill(); err != nil {
		return x, err
	}
	l, err := connectLoad(ctx, Config{Clients: 8, Window: 64, Size: c.Size, Messages: c.Messages}, ch.sender.addr)
	if err != nil {
		return x, err
	}
	defer l.close()
	if err := l.run(ctx, patience, 0, nil); err != nil {
		return x, fmt.Errorf("fill the sender: %w", err)
	}
	want := int(l.acked.Load())
	if err := ch.relay.Begin(ctx); err != nil { // bundles flow before it takes clients
		return x, err
	}
	marks, err := ch.watch(ctx, want, c.Limit, func() (int, error) {
		n, err := ch.arrived()
		return n - base, err
	})
	if err != nil {
		return x, err
	}
	if x, err = between(marks, want); err == nil && x.Lost > 0 {
		err = fmt.Errorf("%d of %d bundles arrived within %v", x.Bundles, want, c.Limit)
	}
	if err != nil {
		return x, err
	}
	relayed, err := ch.relay.metric("farhop_relayed_total") // since it started, for this round
	if err == nil && relayed < want {
		err = fmt.Errorf("the relay took %d bundles for %d messages: they share bundles", relayed, want)
	}
	return x, err
}

// First bytes of what QoS 0 needs (MQTT 3.1.1, 3.3 and 3.8).
const firstVolatile = 0x30

// volatile is a round with bundles that no node stores.
func (ch *chain) volatile(ctx context.Context, c RelayConfig) (x RelayRound, err error) {
	sub, err := dial(ctx, ch.receiver.addr, "bench-volatile-sub", true)
	if err != nil {
		return x, err
	}
	defer sub.conn.Close() // ends count, too
	if err := sub.subscribe("bench/0000/#"); err != nil {
		return x, err
	}
	pub, err := dial(ctx, ch.sender.addr, "bench-volatile-pub", true)
	if err != nil {
		return x, err
	}
	defer pub.conn.Close()
	var got, sent atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { sub.count(&got) })
	if err := ch.flows(ctx, pub, c.Size, &got); err != nil {
		return x, errors.Join(err, sub.conn.Close())
	}
	got.Store(0)
	flood, stop := context.WithCancel(ctx)
	var failed error
	wg.Go(func() { failed = pub.flood(flood, c, &sent, &got) })
	marks, err := ch.watch(ctx, c.Messages, c.Limit, func() (int, error) { return int(got.Load()), nil })
	stop()
	err = errors.Join(err, sub.conn.Close())
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return x, err
	}
	return between(marks, min(int(sent.Load()), c.Messages))
}

// flows publishes until the subscriber gets something.
func (ch *chain) flows(ctx context.Context, pub *client, size int, got *atomic.Int64) error {
	for end := time.Now().Add(patience); got.Load() == 0; {
		if _, err := pub.conn.Write(volatilePacket(size)); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("no volatile message came through%s", ch.tails())
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return pause(ctx, 500*time.Millisecond) // the last probes arrive
}

func volatilePacket(size int) []byte {
	topic, payload := topicOf(0), make([]byte, size)
	for i := payloadHeader; i < size; i++ {
		payload[i] = byte(i * 167)
	}
	b := appendHead(nil, firstVolatile, 2+len(topic)+size)
	return append(appendString(b, topic), payload...)
}

// flood publishes with a window of messages under way. When nothing arrives for
// a while, what is under way is lost and the window opens again.
func (c *client) flood(ctx context.Context, cfg RelayConfig, sent, got *atomic.Int64) error {
	packet := volatilePacket(cfg.Size)
	body := len(packet) - cfg.Size
	lost, last, since := int64(0), int64(0), time.Now()
	for ctx.Err() == nil && sent.Load()-lost < int64(cfg.Messages) {
		have := got.Load()
		if have != last {
			last, since = have, time.Now()
		}
		room := volatileWindow - (sent.Load() - lost - have)
		if room <= volatileWindow/4 {
			if time.Since(since) > time.Second {
				lost, since = sent.Load()-have, time.Now()
			}
			time.Sleep(200 * time.Microsecond)
			continue
		}
		var out []byte
		for range room {
			binary.BigEndian.PutUint64(packet[body+8:], uint64(sent.Add(1)))
			out = append(out, packet...)
		}
		if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := c.conn.Write(out); err != nil {
			return err
		}
	}
	return nil
}

// count counts volatile messages until the connection ends.
func (c *client) count(n *atomic.Int64) {
	for {
		if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		p, err := c.in.next()
		if err != nil {
			return
		}
		if p.first&0xF6 == firstVolatile {
			n.Add(1)
		}
	}
}
