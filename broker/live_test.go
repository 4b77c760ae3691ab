package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/routing/policy"
)

// TestReceiveMaximum: a subscriber with Receive Maximum 5 never has more than
// five deliveries open, gets all of them in order per publisher, and four
// publishers at full speed neither stall nor freeze it.
func TestReceiveMaximum(t *testing.T) {
	t.Parallel()
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			const publishers, each = 4, 300
			w := start(t, nil)
			sub := w.connect("s", 5, func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 5 })
			sub.subscribe(qos, "a/#")
			var wg sync.WaitGroup
			for p := range publishers {
				c := w.connect(fmt.Sprint("p", p), 5, nil)
				wg.Go(func() {
					for i := range each {
						c.send(publish(fmt.Sprint("a/", p), fmt.Sprint(i), qos, uint16(i+1)))
					}
					for range each {
						id := c.next(packets.Puback + qos - 1).PacketID
						if qos == 2 {
							c.send(ack(packets.Pubrel, id))
						}
					}
				})
			}
			next := make([]int, publishers)
			var open []uint16
			for got := 0; got < publishers*each || len(open) > 0; {
				if len(open) == 5 || got == publishers*each {
					sub.finish(open[0], qos)
					open = open[1:]
					continue
				}
				pk := sub.next(packets.Publish)
				if slices.Contains(open, pk.PacketID) {
					t.Fatalf("packet id %d is open already", pk.PacketID)
				}
				p := pk.TopicName[len(pk.TopicName)-1] - '0'
				if string(pk.Payload) != fmt.Sprint(next[p]) {
					t.Fatalf("publisher %d: got %q, want %d", p, pk.Payload, next[p])
				}
				next[p]++
				got++
				open = append(open, pk.PacketID)
			}
			wg.Wait()
			sub.quiet()
		})
	}
}

// finish acknowledges one delivery when nothing else can be under way.
func (c *client) finish(id uint16, qos byte) {
	c.t.Helper()
	if qos == 1 {
		c.send(ack(packets.Puback, id))
		return
	}
	c.send(ack(packets.Pubrec, id))
	if pk := c.next(packets.Pubrel); pk.PacketID != id {
		c.t.Fatalf("PUBREL %d, want %d", pk.PacketID, id)
	}
	c.send(ack(packets.Pubcomp, id))
}

// TestWindowIsNotExceeded: with a full window not one delivery more comes.
func TestWindowIsNotExceeded(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("s", 5, func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 2 })
	sub.subscribe(1, "a")
	c := w.connect("p", 4, nil)
	for id := uint16(1); id <= 10; id++ {
		c.send(publish("a", "x", 1, id))
		c.next(packets.Puback)
	}
	first := sub.next(packets.Publish)
	sub.next(packets.Publish)
	sub.quiet()
	sub.send(ack(packets.Puback, first.PacketID))
	sub.next(packets.Publish)
	sub.quiet()
	sub.send(ack(packets.Puback, 999)) // an acknowledgement of nothing opens nothing
	sub.quiet()
}

// TestLiveWindow: a session that ends with its connection has a window of its
// own, one that outlives it has the other.
func TestLiveWindow(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.Window, c.LiveWindow = 2, 5 })
	sub := w.connect("s", 4, nil)
	sub.subscribe(1, "a")
	w.connect("d", 5, persistent)
	c := w.connect("p", 4, nil)
	for id := uint16(1); id <= 10; id++ {
		c.send(publish("a", "x", 1, id))
		c.next(packets.Puback)
	}
	for range 5 {
		sub.next(packets.Publish)
	}
	sub.quiet()
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if live, durable := w.b.sessions["s"].window, w.b.sessions["d"].window; live != 5 || durable != 2 {
		t.Errorf("windows of %d and %d", live, durable)
	}
}

// TestSlowSubscriber: one that does not read costs neither the publisher nor
// the other subscriber anything, and is disconnected when its queue is full.
func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxQueue = 200 })
	slow := w.connect("slow", 5, nil)
	slow.subscribe(1, "a")
	fast := w.connect("fast", 4, nil)
	fast.subscribe(1, "a")
	c := w.connect("p", 4, nil)
	payload := strings.Repeat("x", 64<<10)
	for i := range 600 {
		c.send(publish("a", payload, 1, uint16(i+1)))
		c.next(packets.Puback)
		pk := fast.next(packets.Publish)
		fast.send(ack(packets.Puback, pk.PacketID))
	}
	eventually(t, "the slow subscriber is gone", func() bool {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		return w.b.sessions["slow"] == nil
	})
	fast.quiet()
}

// TestQueueFullQoS0: QoS 0 beyond the queue is dropped and the client stays.
func TestQueueFullQoS0(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *Config) { c.MaxQueue = 10 })
	slow := w.connect("slow", 4, nil)
	slow.subscribe(0, "a")
	c := w.connect("p", 4, nil)
	payload := strings.Repeat("x", 256<<10)
	for id := range uint16(100) {
		c.send(publish("a", payload, 1, id+1))
		c.next(packets.Puback)
	}
	c.send(publish("b", "", 0, 0))
	c.quiet()
	slow.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	for n := 0; ; n++ {
		pk, err := slow.read()
		if err != nil {
			t.Fatal(err)
		}
		if pk.FixedHeader.Type == packets.Pingresp {
			if n >= 100 {
				t.Errorf("%d deliveries before the answer, want fewer than were sent", n)
			}
			return
		}
	}
}

// TestOverlappingSubscriptions: one delivery with the highest QoS and all
// subscription identifiers; options of MQTT 5 are honoured.
func TestOverlappingSubscriptions(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.connect("s", 5, nil)
	for i, s := range []packets.Subscription{
		{Filter: "a/#", Qos: 0}, {Filter: "a/+", Qos: 2}, {Filter: "+/b", Qos: 1, NoLocal: true},
	} {
		pk := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
			Filters: packets.Subscriptions{s},
		}
		pk.Properties.SubscriptionIdentifier = []int{300 + i}
		c.send(pk)
		c.next(packets.Suback)
	}
	p := w.connect("p", 5, nil)
	p.send(publish("a/b", "x", 1, 1))
	p.next(packets.Puback)
	pk := c.next(packets.Publish)
	if pk.FixedHeader.Qos != 1 || !slices.Equal(pk.Properties.SubscriptionIdentifier, []int{300, 301, 302}) {
		t.Fatalf("got qos %d ids %v", pk.FixedHeader.Qos, pk.Properties.SubscriptionIdentifier)
	}
	c.send(ack(packets.Puback, pk.PacketID))
	c.quiet()
	c.send(publish("q/b", "own", 0, 0)) // no local
	c.quiet()
	unsub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3}
	for _, f := range []string{"a/#", "a/+", "nope"} {
		unsub.Filters = append(unsub.Filters, packets.Subscription{Filter: f})
	}
	c.send(unsub)
	if got := c.next(packets.Unsuback).ReasonCodes; !slices.Equal(got, []byte{0, 0, 0x11}) {
		t.Fatalf("UNSUBACK %x", got)
	}
	p.send(publish("a/c", "x", 0, 0))
	p.quiet()
	c.quiet()
}

func TestRetainAsPublished(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, rap := range []bool{false, true} {
		c := w.connect(fmt.Sprint("s", rap), 5, nil)
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
			Filters: packets.Subscriptions{{Filter: "r", RetainAsPublished: rap}},
		})
		c.next(packets.Suback)
		p := w.connect("p", 4, nil)
		m := publish("r", "", 1, 1)
		m.FixedHeader.Retain = true
		p.send(m)
		p.next(packets.Puback)
		if pk := c.next(packets.Publish); pk.FixedHeader.Retain != rap {
			t.Errorf("retain as published %v: retain flag %v", rap, pk.FixedHeader.Retain)
		}
	}
}

// TestSharedSubscription: one live member per message, in turn; the group goes
// on without members that left; a persistent session may be a member, too.
func TestSharedSubscription(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	var members []*client
	for i := range 3 {
		c := w.connect(fmt.Sprint("m", i), 5, nil)
		c.subscribe(0, "$share/g/job/#")
		members = append(members, c)
	}
	other := w.connect("other", 4, nil)
	other.subscribe(0, "$share/h/job/#")
	p := w.connect("p", 4, nil)
	for i := range 6 {
		p.send(publish("job/1", fmt.Sprint(i), 1, uint16(i+1)))
		p.next(packets.Puback)
		other.next(packets.Publish)
	}
	for _, c := range members {
		c.next(packets.Publish)
		c.next(packets.Publish)
		c.quiet()
	}
	members[1].send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	members[1].ends()
	for i := range 4 {
		p.send(publish("job/1", fmt.Sprint(i), 1, uint16(i+1)))
		p.next(packets.Puback)
	}
	for _, c := range []*client{members[0], members[2]} {
		c.next(packets.Publish)
		c.next(packets.Publish)
		c.quiet()
	}
	if got := w.connect("five", 5, persistent).subscribe(1, "$share/g/x"); got[0] != 1 {
		t.Errorf("SUBACK %#x of a persistent session, want 1", got[0])
	}
}

// TestProperties: what a publisher says reaches the subscriber unaltered, less
// the time its expiry lost.
func TestProperties(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("s", 5, nil)
	sub.subscribe(2, "a")
	old := w.connect("old", 4, nil)
	old.subscribe(0, "a")
	pk := publish("a", "x", 1, 1)
	pk.Properties = packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 100,
		ContentType: "text/plain", ResponseTopic: "re/ply", CorrelationData: []byte{1, 2},
		User: []packets.UserProperty{{Key: "k", Val: "v"}, {Key: "k", Val: "w"}},
	}
	p := w.connect("p", 5, nil)
	p.send(pk)
	got := sub.next(packets.Publish).Properties
	if got.PayloadFormat != 1 || got.ContentType != "text/plain" || got.ResponseTopic != "re/ply" ||
		string(got.CorrelationData) != "\x01\x02" || !slices.Equal(got.User, pk.Properties.User) ||
		got.MessageExpiryInterval == 0 || got.MessageExpiryInterval > 100 {
		t.Errorf("got %+v", got)
	}
	if got := old.next(packets.Publish); string(got.Payload) != "x" {
		t.Errorf("v3.1.1 got %+v", got)
	}
	stale := &Message{Topic: "a", Payload: []byte("late"), QoS: 1, Expiry: 5, Received: time.Now().Add(-time.Minute)}
	w.b.DeliverLive(stale, nil, false)
	sub.send(ack(packets.Puback, 1))
	sub.quiet()
	old.quiet()
}

// TestMaximumPacketSize: what is too large for one client counts as delivered
// to it and does not fill its window.
func TestMaximumPacketSize(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("s", 5, func(pk *packets.Packet) {
		pk.Properties.MaximumPacketSize, pk.Properties.ReceiveMaximum = 100, 1
	})
	sub.subscribe(1, "a")
	p := w.connect("p", 4, nil)
	for id := range uint16(5) {
		p.send(publish("a", strings.Repeat("x", 200), 1, id+1))
	}
	p.send(publish("a", "small", 1, 9))
	if pk := sub.next(packets.Publish); string(pk.Payload) != "small" {
		t.Fatalf("got %+v", pk)
	}
}

// ruled starts a broker with access rules.
func ruled(t *testing.T, rules ...auth.Rule) *world {
	t.Helper()
	who, err := auth.New(auth.Config{Anonymous: true, Access: rules}, auth.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(c *Config) { c.MaxSubscriptions, c.Auth, c.Rules = 2, who.Chain, who.Rules })
}

func rule(action policy.Action, topics ...string) auth.Rule {
	return auth.Rule{Action: action, From: []string{"*"}, MQTT: auth.RuleMQTT{Publish: topics, Subscribe: topics}}
}

func TestSubscribeRefused(t *testing.T) {
	t.Parallel()
	w := ruled(t, rule(policy.Allow, "#"), rule(policy.Deny, "secret/#"))
	for _, tt := range []struct {
		version byte
		want    []byte
	}{{5, []byte{0x8F, 0x87, 1, 1, 0x97}}, {4, []byte{0x80, 0x80, 1, 1, 0x80}}} {
		c := w.connect("c", tt.version, nil)
		if got := c.subscribe(1, "a/#/b", "secret/#", "x", "y", "z"); !slices.Equal(got, tt.want) {
			t.Errorf("v%d: SUBACK %x, want %x", tt.version, got, tt.want)
		}
	}
}

// TestPartlyAllowed: a filter that matches more than its client may see is
// granted, and the client gets what it may see.
func TestPartlyAllowed(t *testing.T) {
	t.Parallel()
	w := ruled(t, rule(policy.Allow, "#"),
		auth.Rule{Action: policy.Deny, From: []string{"client:reader*"}, MQTT: auth.RuleMQTT{Subscribe: []string{"secret/#"}}})
	live, away := w.connect("reader-1", 5, nil), w.connect("reader-2", 5, persistent)
	live.subscribe(1, "#")
	away.subscribe(1, "#")
	pub := w.connect("writer", 5, nil)
	for i, topic := range []string{"a", "secret/x", "b"} {
		pub.send(publish(topic, "x", 1, uint16(i+1)))
		pub.next(packets.Puback)
	}
	for _, c := range []*client{live, away} {
		for _, want := range []string{"a", "b"} {
			pk := c.next(packets.Publish)
			if pk.TopicName != want {
				t.Fatalf("got %s, want %s", pk.TopicName, want)
			}
			c.send(ack(packets.Puback, pk.PacketID))
		}
	}
}

// TestOutboundAliases: a client that takes topic aliases gets the first topics
// with one, and only the alias from the second message on.
func TestOutboundAliases(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := w.connect("sub", 5, func(pk *packets.Packet) {
		pk.Properties.TopicAliasMaximum = 2
		pk.Properties.MaximumPacketSize = 100
	})
	sub.subscribe(0, "alias/#")
	pub := w.connect("pub", 5, nil)
	for _, c := range []struct {
		topic, payload string
		wantTopic      string // what the PUBLISH says
		wantAlias      uint16
	}{
		{"alias/one", strings.Repeat("x", 200), "", 0}, // too large for the client: it never hears of the alias
		{"alias/one", "1", "alias/one", 1},
		{"alias/one", "2", "", 1},
		{"alias/two", "3", "alias/two", 2},
		{"alias/three", "4", "alias/three", 0},
		{"alias/two", "5", "", 2},
		{"alias/one", "6", "", 1},
	} {
		pub.send(publish(c.topic, c.payload, 0, 0))
		if len(c.payload) > 100 {
			continue
		}
		pk := sub.next(packets.Publish)
		if pk.TopicName != c.wantTopic || pk.Properties.TopicAlias != c.wantAlias || string(pk.Payload) != c.payload {
			t.Fatalf("%s %s: topic %q, alias %d, payload %q", c.topic, c.payload, pk.TopicName, pk.Properties.TopicAlias, pk.Payload)
		}
	}
}

// TestNoLocal: a client that asks for it does not get back what it published,
// others do (MQTT 5, 3.8.3.1).
func TestNoLocal(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	sub := func(c *client) {
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
			Filters: packets.Subscriptions{{Filter: "a", Qos: 2, NoLocal: true}},
		})
		c.next(packets.Suback)
	}
	a, b := w.connect("a", 5, nil), w.connect("b", 5, nil)
	sub(a)
	sub(b)
	for i := range 3 {
		a.send(publish("a", "x", 1, uint16(i+1)))
		a.next(packets.Puback)
		pk := b.next(packets.Publish)
		b.send(ack(packets.Puback, pk.PacketID))
		b.send(publish("a", "y", 1, uint16(i+1)))
		b.next(packets.Puback)
		pk = a.next(packets.Publish)
		if string(pk.Payload) != "y" {
			t.Fatalf("a got %q", pk.Payload)
		}
		a.send(ack(packets.Puback, pk.PacketID))
	}
}
