package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward/batch"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

const (
	lan        = time.Millisecond // a packet between a device and its node
	maxWaiting = 256              // messages a device keeps for a node that does not answer
	repeats    = 5                // each such message from outside the mesh comes twice
	keep       = 240 * time.Hour  // how long a Key is remembered, longer than any world lasts
)

// payload of a virtual message, as a block: publisher, number, topic, filling.
func payload(publisher int, number uint64, topic string, size int) *store.Blob {
	b := make([]byte, 0, max(size, 13+len(topic)))
	b = binary.BigEndian.AppendUint32(b, uint32(publisher))
	b = binary.BigEndian.AppendUint64(b, number)
	b = append(b, byte(len(topic)))
	b = append(b, topic...)
	b = append(b, make([]byte, max(size-len(b), 0))...)
	return &store.Blob{B: bundle.AppendPayload(make([]byte, 0, len(b)+bundle.PayloadOverhead), b)}
}

// parse reads a message.
func parse(data []byte) (k oracle.Publication, topic string, ok bool) {
	if len(data) < 13 || len(data) < 13+int(data[12]) {
		return k, "", false
	}
	k = oracle.Publication{Publisher: int(binary.BigEndian.Uint32(data)), Number: binary.BigEndian.Uint64(data[4:])}
	return k, string(data[13 : 13+int(data[12])]), true
}

func identify(block []byte) (oracle.Publication, bool) {
	data, err := bundle.PayloadData(block)
	if err != nil {
		return oracle.Publication{}, false
	}
	k, _, ok := parse(data)
	return k, ok
}

// unfold takes a batch apart, whose first message is given.
func unfold(first bundle.ID, block []byte, f func(id bundle.ID, message []byte)) error {
	data, err := bundle.PayloadData(block)
	if err != nil {
		return err
	}
	s := first.Seq
	return batch.Split(data, func(number uint64, message []byte) error {
		f(bundle.ID{Node: first.Node, Seq: bundle.NewSequence(s.Incarnation(), s.Class(), s.Count()+number-1)}, message)
		return nil
	})
}

func members(first bundle.ID, block []byte) (out []oracle.Member) {
	_ = unfold(first, block, func(id bundle.ID, message []byte) {
		k, _, _ := parse(message)
		out = append(out, oracle.Member{ID: id, Pub: k})
	})
	return out
}

// devices makes the clients of the scenario, and random ones for a grid.
func (w *world) devices() {
	for _, s := range w.sc.Subscribers {
		w.addSubscriber(s)
	}
	pubs := slices.Clip(w.sc.Publishers)
	for i := range w.sc.Random.Publishers {
		from, to := w.nodes[w.rng.IntN(len(w.nodes))], w.nodes[w.rng.IntN(len(w.nodes))]
		topic := fmt.Sprintf("site/%d/temp", i)
		w.addSubscriber(scenario.Subscriber{Node: to.name.String(), Client: fmt.Sprintf("sub-%d", i), Filter: topic, QoS: uint8(1 + i%2)})
		pubs = append(pubs, scenario.Publisher{
			Node: from.name.String(), Client: fmt.Sprintf("pub-%d", i), Topic: topic, QoS: uint8(1 + i%2),
			Every: scenario.Duration(time.Second + w.within(4*time.Second)), Size: 64,
		})
		if g := w.sc.Grid; g != nil && g.Choosy > 0 {
			pubs[len(pubs)-1].Class = []string{"alarm", "telemetry", "bulk"}[i%3]
		}
	}
	for i, p := range pubs {
		class := bundle.Telemetry
		if p.Class != "" {
			class, _ = bundle.ParseClass(p.Class)
		}
		pub := &publisher{w: w, index: i, spec: p, class: class, node: w.byName[p.Node]}
		route, ok := w.routes.ForTopic(p.Topic)
		pub.loose = ok && len(route.To) > 0
		w.pubs = append(w.pubs, pub)
	}
}

func (w *world) addSubscriber(s scenario.Subscriber) {
	d := &subscriber{w: w, spec: s, node: w.byName[s.Node], half: map[uint16]bool{}}
	if d.spec.Receive == 0 {
		d.spec.Receive = 20
	}
	d.node.devices[s.Client] = d
	d.fresh = slices.ContainsFunc(w.sc.Faults, func(f scenario.Fault) bool { return f.Kind == scenario.Clean && f.Client == s.Client })
	d.meet()
	w.subs = append(w.subs, d)
}

// publisher repeats what its node did not acknowledge when the node is back,
// as an MQTT client does.
type publisher struct {
	w       *world
	index   int
	spec    scenario.Publisher
	class   bundle.Class
	loose   bool // its messages go to regions
	node    *node
	next    uint64
	waiting []uint64 // published, not acknowledged; rising
	conn    uint64
}

func (p *publisher) tick() {
	if p.w.now > p.w.quiet {
		return
	}
	p.publishNext()
	p.w.after(time.Duration(p.spec.Every), p.tick)
}

func (p *publisher) burst(n int) {
	for range n {
		if p.w.now <= p.w.quiet {
			p.publishNext()
		}
	}
}

func (p *publisher) publishNext() {
	if len(p.waiting) >= maxWaiting {
		return
	}
	p.next++
	if p.spec.QoS > 0 {
		p.waiting = append(p.waiting, p.next)
	}
	p.publish(p.next, false)
	if n := p.next; p.spec.Outside && n%repeats == 0 { // as one who did not hear the answer
		p.w.after(time.Duration(p.spec.Every)/2, func() { p.publish(n, true) })
	}
}

func (p *publisher) publish(n uint64, again bool) {
	if !p.node.up {
		return
	}
	p.w.note('P', p.spec.Client, n, uint64(p.spec.QoS), 0)
	p.w.report.Published++
	s := core.Submission{
		Topic: p.spec.Topic, Service: core.ServiceMQTT, Class: p.class, QoS: p.spec.QoS, Client: p.client(), Retain: p.spec.Retain,
		TTL: time.Duration(p.spec.TTL), Blob: payload(p.index, n, p.spec.Topic, p.spec.Size),
	}
	if p.spec.QoS == 2 {
		s.Packet = uint16(n%65535) + 1
	}
	if p.spec.Outside {
		s.Keep = keep
		binary.BigEndian.PutUint64(s.Key[:], uint64(p.index)+1)
		binary.BigEndian.PutUint64(s.Key[8:], n)
	}
	s.Token = p.node.newToken(func(r core.Reply) { p.acked(n, s.Packet, r) })
	p.node.judge.Submitted(s.Token, oracle.Publication{Publisher: p.index, Number: n}, &s, p.loose, again)
	if !p.w.tamper.submit(p.node, s.Token, &s) {
		p.node.core.Submit(p.node.clock(), []core.Submission{s})
		p.node.pump()
	}
	p.node.judge.Handled()
}

// client is the client id that a node knows, "" for one outside.
func (p *publisher) client() string {
	if p.spec.Outside {
		return ""
	}
	return p.spec.Client
}

func (p *publisher) acked(n uint64, packet uint16, r core.Reply) {
	switch r.Reason {
	case bundle.OK, bundle.Duplicate, bundle.NoSubscriber:
	case bundle.DiskFailed:
		return // no answer: the node stops
	default:
		p.w.report.RefusedPublishes++
		p.forget(n)
		return
	}
	if p.spec.QoS == 0 {
		return
	}
	p.w.after(lan, p.node.inLife(func() {
		if !p.forget(n) {
			return
		}
		p.w.note('A', p.spec.Client, n, 0, 0)
		p.w.report.Acknowledged++
		if p.spec.QoS == 2 { // PUBREL
			p.node.settle(core.Settlement{Session: p.spec.Client, Packet: packet, Outcome: core.Inbound})
		}
	}))
}

func (p *publisher) forget(n uint64) bool {
	i, found := slices.BinarySearch(p.waiting, n)
	if found {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return found
}

// nodeUp connects and publishes again what was not acknowledged, in order.
func (p *publisher) nodeUp() {
	p.conn++
	if p.spec.Outside {
		p.again()
		return
	}
	p.node.core.OpenSession(p.node.clock(), core.SessionOpen{Client: p.spec.Client, Conn: p.conn, Expiry: core.NeverExpires, ReceiveMax: 20})
	p.again()
}

func (p *publisher) again() {
	life := p.node.life
	for _, n := range slices.Clone(p.waiting) {
		if p.publish(n, true); !p.node.up || p.node.life != life {
			return
		}
	}
	p.node.pump()
}

// subscriber is a device that listens.
type subscriber struct {
	w      *world
	spec   scenario.Subscriber
	node   *node
	judge  *oracle.Device
	fresh  bool // starts anew some time
	away   int  // absences in force
	open   bool // has a connection
	conn   uint64
	half   map[uint16]bool // QoS 2 packet ids received, not completed
	parked []func()        // deliveries that a test holds back
}

// static reports whether the session lasts for the whole world.
func (s *subscriber) static() bool { return s.spec.Expiry == 0 && !s.spec.Clean && !s.fresh }

// meet introduces the device, or its new session, to the oracle.
func (s *subscriber) meet() {
	s.judge = s.node.judge.Device(s.spec.Client, s.spec.Filter, s.spec.QoS, s.static(), func(topic string) bool {
		return s.w.reaches(topic, s.node)
	})
}

// begin schedules absences; the node's boot made the first connection.
func (s *subscriber) begin() {
	for _, off := range s.spec.Offline {
		s.w.at(time.Duration(off.At), func() { s.awayFor(time.Duration(off.For)) })
	}
}

func (s *subscriber) awayFor(d time.Duration) {
	s.away++
	s.disconnect()
	s.w.after(d, func() {
		s.away--
		s.connect(false)
	})
}

func (s *subscriber) expiry() uint32 {
	switch {
	case s.spec.Clean:
		return 0
	case s.spec.Expiry > 0:
		return uint32(time.Duration(s.spec.Expiry).Seconds())
	}
	return core.NeverExpires
}

func (s *subscriber) disconnect() {
	if !s.open || !s.node.up {
		return
	}
	s.open = false
	s.w.note('G', s.spec.Client, s.conn, 0, 0)
	if s.spec.Clean {
		s.node.judge.SessionEnded(s.spec.Client)
	}
	s.node.judge.SessionClosed(s.spec.Client)
	s.node.core.CloseSession(s.node.clock(), s.spec.Client, s.conn, s.expiry())
	s.node.pump()
}

// restart connects with a clean start.
func (s *subscriber) restart() {
	if s.node.up && s.away == 0 {
		s.disconnect()
		s.connect(true)
	}
}

func (s *subscriber) connect(clean bool) {
	if !s.node.up || s.away > 0 || s.open {
		return
	}
	s.open = true
	s.conn++
	s.w.note('C', s.spec.Client, s.conn, 0, 0)
	state := s.node.core.OpenSession(s.node.clock(), core.SessionOpen{
		Client: s.spec.Client, Conn: s.conn, Expiry: s.expiry(), ReceiveMax: s.spec.Receive, Clean: clean || s.spec.Clean,
	})
	s.node.judge.SessionOpened(s.spec.Client, state.Present, time.Duration(s.spec.Expiry))
	if !state.Present {
		s.subscribe()
	}
	s.node.pump()
}

// subscribe makes a new session what the device wants, and gets the retained
// messages for it as the broker does.
func (s *subscriber) subscribe() {
	clear(s.half)
	if s.conn > 1 && !s.static() {
		s.meet()
	}
	n := s.node
	token := n.newToken(func(r core.Reply) {
		if r.Reason == bundle.OK && s.expiry() > 0 {
			n.judge.SubscribedFirm(s.spec.Client)
		}
	})
	n.core.Subscribe(n.clock(), token, s.spec.Client, []core.Subscription{{Filter: s.spec.Filter, QoS: s.spec.QoS}})
	n.judge.Subscribed(s.spec.Client, s.spec.Filter, s.spec.QoS)
	if s.static() || s.spec.Clean {
		return
	}
	_ = n.store.State(core.RetainedPrefix, func(key string, value []byte) error {
		topic := key[len(core.RetainedPrefix):]
		r, err := core.ParseRetained(value)
		if n.w.fault(err); r.State == core.KeptValue && matches(s.spec.Filter, topic) && s.spec.QoS > 0 {
			n.core.Submit(n.clock(), []core.Submission{{
				Topic: topic, Service: core.ServiceRetained, Class: bundle.Telemetry, QoS: s.spec.QoS, Retain: true,
				Session: s.spec.Client, Blob: &store.Blob{B: r.Block}, TTL: time.Hour,
			}})
		}
		return nil
	})
}

func (s *subscriber) nodeUp() {
	s.open = false
	s.connect(false)
}

// live is a message for those who do not outlive their connection.
func (s *subscriber) live(l core.Live) {
	if s.open && (s.spec.Clean || s.spec.QoS == 0 || l.Message.IsZero()) && matches(s.spec.Filter, l.Topic) {
		s.w.report.Live++
	}
}

// deliver is a PUBLISH or PUBREL that reaches the device.
func (s *subscriber) deliver(d core.Delivery) {
	blob := d.Blob
	if blob == nil && !d.Release {
		b, err := s.node.store.Read(d.Header.Seq)
		if errors.Is(err, store.ErrDamaged) {
			s.node.unreadable(d.Entry.Queue, d.Header.Seq)
			return
		}
		if err != nil {
			s.w.fault(err)
			return
		}
		blob = &store.Blob{B: b}
	}
	s.w.after(lan, s.node.inLife(func() {
		if d.Conn != s.conn || !s.open {
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
				s.take(d, blob.B, false)
			}
		default:
			s.take(d, blob.B, d.Dup)
		}
		t := core.Settlement{Session: s.spec.Client, Conn: d.Conn, Seq: d.Header.Seq, Outcome: outcome}
		s.w.after(lan, s.node.inLife(func() { s.node.settle(t) }))
	}))
}

func (s *subscriber) take(d core.Delivery, b []byte, dup bool) {
	k, _ := identify(b)
	times, later := s.w.tamper.deliver(s, d, b)
	give := func() {
		for range times {
			s.w.note('M', s.spec.Client, uint64(k.Publisher), k.Number, 0)
			s.judge.Took(k, dup)
		}
	}
	if later {
		s.parked = append(s.parked, give)
		return
	}
	give()
	for _, f := range s.parked {
		f()
	}
	s.parked = nil
}
