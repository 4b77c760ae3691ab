package broker

import (
	"context"
	"net"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

// TestPersistentSessionGetsQoS0 covers what is never queued: a session that
// outlives its connection still gets QoS 0 while it is connected.
func TestPersistentSessionGetsQoS0(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := make(chan *paho.Publish, 8)
	sub := connect(ctx, t, w.b.Addr().String(), "keeper", 3600, func(p *paho.Publish) { got <- p })
	if _, err := sub.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "low/#", QoS: 0}, {Topic: "high/#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	pub := connect(ctx, t, w.b.Addr().String(), "sensor", 0, func(*paho.Publish) {})
	for _, c := range []struct {
		topic string
		qos   byte
	}{{"low/a", 0}, {"low/b", 1}, {"high/c", 0}} {
		if _, err := pub.Publish(ctx, &paho.Publish{Topic: c.topic, QoS: c.qos, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-got:
			if p.Topic != c.topic || p.QoS != 0 {
				t.Errorf("got %s at QoS %d, want %s at 0", p.Topic, p.QoS, c.topic)
			}
		case <-ctx.Done():
			t.Fatalf("%s at QoS %d never came", c.topic, c.qos)
		}
	}
}

// connect is an MQTT 5 client whose session outlives it for some seconds.
func connect(ctx context.Context, t *testing.T, address, id string, expiry uint32, message func(*paho.Publish)) *paho.Client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { message(p.Packet); return true, nil },
	}})
	if _, err := c.Connect(ctx, &paho.Connect{
		ClientID: id, CleanStart: true, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
	}); err != nil {
		t.Fatal(err)
	}
	return c
}
