package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sync/errgroup"
)

// Topics of the two directions.
const (
	telemetryFilter = "telemetry/#"
	commandFilter   = "command/#"
)

// Pace of the publishers. All of it together stays below what loss leaves of
// the Moon link for a congestion control made for the Internet: about 6 kB/s.
const (
	rovers       = 3
	roverPause   = 240 * time.Millisecond // mean, each
	missionPause = 450 * time.Millisecond
)

// mqttPatience is how long a client of this machine waits for an answer of its
// node, in which there is one write to the disk.
const mqttPatience = time.Minute

// sessionExpiry of the subscribers, seconds: their sessions outlive any pause.
const sessionExpiry = 3600

// traffic is the MQTT clients. They publish until until and receive until ctx
// ends.
type traffic struct {
	ledger *ledger
	seed   uint64
	addr   map[string]string // node -> where its broker listens
	until  time.Time
}

// subscribe connects the two subscribers. They stay until ctx ends.
func (t *traffic) subscribe(ctx context.Context, lost context.CancelCauseFunc) error {
	for _, s := range []struct{ client, at, filter string }{{"archive", earth, telemetryFilter}, {"lander", luna, commandFilter}} {
		c, err := t.connect(ctx, s.client, s.at, lost)
		if err != nil {
			return err
		}
		_, err = c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: s.filter, QoS: 1}}})
		if err != nil {
			return fmt.Errorf("%s subscribes at %s: %w", s.client, s.at, err)
		}
	}
	return nil
}

// connect makes a client with a session that persists. It is disconnected when
// ctx ends; when it loses its broker before, lost is told.
func (t *traffic) connect(ctx context.Context, client, at string, lost context.CancelCauseFunc) (*paho.Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.addr[at])
	if err != nil {
		return nil, fmt.Errorf("%s connects to %s: %w", client, at, err)
	}
	gone := func(why any) {
		if ctx.Err() == nil {
			lost(fmt.Errorf("%s lost its broker %s: %v", client, at, why))
		}
	}
	c := paho.NewClient(paho.ClientConfig{
		Conn: conn, ClientID: client, PacketTimeout: mqttPatience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			t.ledger.arrived(p.Packet.Topic, p.Packet.Payload, time.Now())
			return true, nil
		}},
		OnClientError:      func(err error) { gone(err) },
		OnServerDisconnect: func(p *paho.Disconnect) { gone(fmt.Sprintf("reason 0x%02x", p.ReasonCode)) },
	})
	expiry := uint32(sessionExpiry)
	_, err = c.Connect(ctx, &paho.Connect{
		ClientID: client, KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
	})
	if err != nil {
		return nil, fmt.Errorf("%s connects to %s: %w", client, at, err)
	}
	context.AfterFunc(ctx, func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c, nil
}

// publish runs all publishers to their end.
func (t *traffic) publish(ctx context.Context, lost context.CancelCauseFunc) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range rovers {
		name := fmt.Sprintf("rover-%d", i+1)
		f := t.ledger.add(name, luna, earth, "telemetry/"+name, t.seed+uint64(i))
		g.Go(func() error { return t.publisher(ctx, f, roverPause, lost) })
	}
	f := t.ledger.add("mission", earth, luna, "command/lander", t.seed+rovers)
	g.Go(func() error { return t.publisher(ctx, f, missionPause, lost) })
	return g.Wait()
}

// publisher publishes one message after the other with QoS 1, each once the
// one before was acknowledged.
func (t *traffic) publisher(ctx context.Context, f *flow, pause time.Duration, lost context.CancelCauseFunc) error {
	c, err := t.connect(ctx, f.name, f.from, lost)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(f.seed, 1))
	next := time.Now()
	for time.Now().Before(t.until) {
		n, payload := t.ledger.publish(f, time.Now())
		ack, err := c.Publish(ctx, &paho.Publish{Topic: f.topic, QoS: 1, Payload: []byte(payload)})
		switch {
		case err != nil && context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case err != nil && ack == nil:
			return fmt.Errorf("%s publishes at %s: %w", f.name, f.from, err)
		case err == nil && ack.ReasonCode < 0x80:
			t.ledger.acked(f, n) // what was refused was not promised
		}
		next = next.Add(time.Duration((0.5 + rnd.Float64()) * float64(pause)))
		if now := time.Now(); next.Before(now) {
			next = now // a slow disk is no reason to hurry later
		}
		if err := sleepUntil(ctx, next); err != nil {
			return err
		}
	}
	return nil
}
