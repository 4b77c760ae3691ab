package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// lan is how long a packet between a device and its node takes.
const lan = time.Millisecond

// payload of a virtual message: publisher, number, topic, filling.
func payload(publisher int, number uint64, topic string, size int) *store.Blob {
	b := binary.BigEndian.AppendUint32(nil, uint32(publisher))
	b = binary.BigEndian.AppendUint64(b, number)
	b = append(b, byte(len(topic)))
	b = append(b, topic...)
	for len(b) < size {
		b = append(b, 0)
	}
	return &store.Blob{B: b}
}

func topicOf(b []byte) string {
	if len(b) < 13 || len(b) < 13+int(b[12]) {
		return ""
	}
	return string(b[13 : 13+int(b[12])])
}

func identity(b []byte) (publisher int, number uint64) {
	return int(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint64(b[4:])
}

// devices makes the clients of the scenario, and random ones for a grid.
func (w *world) devices() {
	for _, s := range w.sc.Subscribers {
		w.addSubscriber(s)
	}
	pubs := w.sc.Publishers
	for i := range w.sc.Random.Publishers {
		from, to := w.nodes[w.rng.IntN(len(w.nodes))], w.nodes[w.rng.IntN(len(w.nodes))]
		topic := fmt.Sprintf("site/%d/temp", i)
		w.addSubscriber(scenario.Subscriber{Node: to.name.String(), Client: fmt.Sprintf("sub-%d", i), Filter: topic, QoS: uint8(1 + i%2)})
		pubs = append(pubs, scenario.Publisher{
			Node: from.name.String(), Client: fmt.Sprintf("pub-%d", i), Topic: topic, QoS: uint8(1 + i%2),
			Every: scenario.Duration(time.Second + w.within(4*time.Second)), Size: 64,
		})
	}
	for i, p := range pubs {
		w.pubs = append(w.pubs, &publisher{w: w, index: i, spec: p, node: w.byName[p.Node], waiting: map[uint64]bool{}})
	}
}

func (w *world) addSubscriber(s scenario.Subscriber) {
	d := &subscriber{w: w, index: len(w.subs), spec: s, node: w.byName[s.Node], online: true, half: map[uint16]bool{}}
	if d.spec.Receive == 0 {
		d.spec.Receive = 20
	}
	if d.node.devices == nil {
		d.node.devices = map[string]device{}
	}
	d.node.devices[s.Client] = d
	w.subs = append(w.subs, d)
}

// publisher repeats what its node did not acknowledge when the node is back,
// as an MQTT client does.
type publisher struct {
	w       *world
	index   int
	spec    scenario.Publisher
	node    *node
	next    uint64
	waiting map[uint64]bool // published, not acknowledged
	conn    uint64
}

func (p *publisher) begin() {
	p.tick()
}

func (p *publisher) tick() {
	if p.w.now > p.w.end*6/10 {
		return
	}
	p.next++
	p.w.ledger.published(p.index, p.next, p.w.now)
	p.publish(p.next, false)
	p.w.after(time.Duration(p.spec.Every), p.tick)
}

func (p *publisher) publish(n uint64, again bool) {
	if p.spec.QoS > 0 {
		p.waiting[n] = true
	}
	if !p.node.up {
		return
	}
	p.w.note('P', p.spec.Client, n)
	p.w.report.Published++
	if again && p.spec.QoS == 1 {
		p.w.ledger.repeated(p.index, n)
	}
	s := core.Submission{
		Topic: p.spec.Topic, Service: core.ServiceMQTT, Class: bundle.Telemetry, QoS: p.spec.QoS, Client: p.spec.Client,
		TTL: time.Duration(p.spec.TTL), Blob: payload(p.index, n, p.spec.Topic, p.spec.Size),
	}
	if p.spec.QoS == 2 {
		s.Packet = uint16(n%65535) + 1
	}
	s.Token = p.node.newToken(func(r core.Reply) { p.acked(n, s.Packet, r) })
	p.node.core.Submit(p.w.clock(), []core.Submission{s})
	p.node.pump()
}

func (p *publisher) acked(n uint64, packet uint16, r core.Reply) {
	if p.spec.QoS == 0 {
		return
	}
	if r.Reason != bundle.OK && r.Reason != bundle.Duplicate {
		p.w.report.RefusedPublishes++
		delete(p.waiting, n)
		return
	}
	p.w.after(lan, p.node.inLife(func() {
		if !p.waiting[n] {
			return
		}
		delete(p.waiting, n)
		p.w.note('A', p.spec.Client, n)
		p.w.ledger.acknowledged(p.index, n)
		if p.spec.QoS == 2 { // PUBREL
			p.node.core.Settle(p.w.clock(), []core.Settlement{{Session: p.spec.Client, Packet: packet, Outcome: core.Inbound}})
			p.node.pump()
		}
	}))
}

// nodeUp connects and publishes again what was not acknowledged, in order.
func (p *publisher) nodeUp() {
	p.conn++
	p.node.core.OpenSession(p.w.clock(), core.SessionOpen{Client: p.spec.Client, Conn: p.conn, Expiry: core.NeverExpires, ReceiveMax: 20})
	for n := uint64(1); n <= p.next; n++ {
		if p.waiting[n] {
			p.publish(n, true)
		}
	}
	p.node.pump()
}

// subscriber has a persistent session.
type subscriber struct {
	w      *world
	index  int
	spec   scenario.Subscriber
	node   *node
	online bool
	conn   uint64
	half   map[uint16]bool // QoS 2 packet ids received, not completed
}

func (s *subscriber) begin() {
	s.connect()
	for _, off := range s.spec.Offline {
		s.w.at(time.Duration(off.At), s.disconnect)
		s.w.at(time.Duration(off.At+off.For), func() { s.online = true; s.connect() })
	}
}

func (s *subscriber) disconnect() {
	s.online = false
	if s.node.up {
		s.node.core.CloseSession(s.w.clock(), s.spec.Client, s.conn, core.NeverExpires)
		s.node.pump()
	}
}

func (s *subscriber) connect() {
	if !s.node.up || !s.online {
		return
	}
	s.conn++
	state := s.node.core.OpenSession(s.w.clock(), core.SessionOpen{
		Client: s.spec.Client, Conn: s.conn, Expiry: core.NeverExpires, ReceiveMax: s.spec.Receive,
	})
	if !state.Present {
		clear(s.half)
		s.node.core.Subscribe(s.w.clock(), 0, s.spec.Client, []core.Subscription{{Filter: s.spec.Filter, QoS: s.spec.QoS}})
	}
	s.node.pump()
}

func (s *subscriber) nodeUp() { s.connect() }

// deliver is a PUBLISH or PUBREL that reaches the device.
func (s *subscriber) deliver(d core.Delivery) {
	blob := d.Blob
	if blob == nil && !d.Release {
		b, err := s.node.store.Read(d.Header.Seq)
		if err != nil {
			if s.w.report.err == nil {
				s.w.report.err = err
			}
			return
		}
		blob = &store.Blob{B: b}
	}
	s.w.after(lan, s.node.inLife(func() {
		if d.Conn != s.conn || !s.online {
			return
		}
		outcome := core.Done
		switch {
		case d.Release:
			delete(s.half, d.PacketID)
		case d.Entry.QoS == 2:
			outcome = core.Received
			if !s.half[d.PacketID] {
				s.half[d.PacketID] = true
				s.take(blob.B, false)
			}
		default:
			s.take(blob.B, d.Dup)
		}
		t := core.Settlement{Session: s.spec.Client, Conn: d.Conn, Seq: d.Header.Seq, Outcome: outcome}
		s.w.after(lan, s.node.inLife(func() { s.node.settle(t) }))
	}))
}

func (s *subscriber) take(b []byte, dup bool) {
	publisher, n := identity(b)
	s.w.note('M', s.spec.Client, uint64(publisher), n)
	s.w.ledger.delivered(s.index, publisher, n, dup, s.w.now)
}
