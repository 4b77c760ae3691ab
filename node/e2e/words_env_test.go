//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// talker5 is an MQTT 5 client that publishes and listens on one connection,
// which the mosquitto tools cannot.
type talker5 struct {
	t    *testing.T
	c    *paho.Client
	conn net.Conn

	mu  sync.Mutex
	got []*paho.Publish
}

// connect5 connects a device whose session outlives the connection.
func connect5(d *daemon, id string) *talker5 {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.mqtt)
	if err != nil {
		d.t.Fatal(err)
	}
	dev := &talker5{t: d.t, conn: conn}
	dev.c = paho.NewClient(paho.ClientConfig{
		Conn: conn, PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			dev.mu.Lock()
			defer dev.mu.Unlock()
			dev.got = append(dev.got, p.Packet)
			return true, nil
		}},
	})
	d.t.Cleanup(dev.leave)
	keep := uint32(3600)
	ack, err := dev.c.Connect(dev.ctx(), &paho.Connect{
		ClientID: id, KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &keep},
	})
	if err != nil || ack.ReasonCode != 0 {
		d.t.Fatalf("connect %s at %s: %v", id, d.name, err)
	}
	return dev
}

// leave cuts the connection.
func (v *talker5) leave() { v.conn.Close() }

func (v *talker5) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	v.t.Cleanup(cancel)
	return ctx
}

func (v *talker5) subscribe(filters ...string) {
	v.t.Helper()
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	if _, err := v.c.Subscribe(v.ctx(), s); err != nil {
		v.t.Fatalf("subscribe %v: %v", filters, err)
	}
}

// publish returns the reason code of the acknowledgement.
func (v *talker5) publish(qos byte, topic, payload string, p *paho.PublishProperties) byte {
	v.t.Helper()
	r, err := v.c.Publish(v.ctx(), &paho.Publish{QoS: qos, Topic: topic, Payload: []byte(payload), Properties: p})
	if r == nil {
		if err != nil {
			v.t.Fatalf("publish %s: %v", topic, err)
		}
		return 0
	}
	return r.ReasonCode
}

// arrived returns what came at topics.
func (v *talker5) arrived(topics ...string) (out []*paho.Publish) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.got {
		if slices.Contains(topics, p.Topic) {
			out = append(out, p)
		}
	}
	return out
}

// one waits until something came at a topic and returns the last.
func (v *talker5) one(topic string) *paho.Publish {
	v.t.Helper()
	until(v.t, text("a message at "+topic), func() bool { return len(v.arrived(topic)) > 0 })
	all := v.arrived(topic)
	return all[len(all)-1]
}

// told is a receipt, or the state of a region.
type told struct {
	Region, State, Reason, Node string
	Delivered, Expired, Refused int
	Since                       time.Time
	Nodes                       struct{ Up, Known int }
	Last                        bool
}

func read(t *testing.T, p *paho.Publish) (out told) {
	t.Helper()
	if err := json.Unmarshal(p.Payload, &out); err != nil {
		t.Fatalf("%s: %q: %v", p.Topic, p.Payload, err)
	}
	return out
}

// asking are the properties of a message whose publisher wants receipts.
func asking(topic string, expiry uint32) *paho.PublishProperties {
	p := &paho.PublishProperties{CorrelationData: []byte(topic)}
	p.User.Add("farhop-receipt", topic)
	if expiry > 0 {
		p.MessageExpiry = &expiry
	}
	return p
}

// request are the properties of a request that is to be answered early.
func request(topic string, expiry uint32) *paho.PublishProperties {
	p := &paho.PublishProperties{ResponseTopic: topic, CorrelationData: []byte(topic)}
	p.User.Add("farhop-no-responder", "1")
	if expiry > 0 {
		p.MessageExpiry = &expiry
	}
	return p
}
