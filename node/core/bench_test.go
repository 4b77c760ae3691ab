package core_test

import (
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/memstore"
)

// group is how many messages share a write, as a busy loop groups them.
const group = 256

const benchTopic = "plant/1/temp"

// benchNode is a core and a driver that only does what has to be done.
type benchNode struct {
	core    *core.Core
	store   *memstore.Store
	sends   []core.Frame
	deliver []core.Settlement
	replies int
}

func newBenchNode(b testing.TB, name string, now time.Time) *benchNode {
	n := &benchNode{store: memstore.New(memstore.Config{Incarnation: 7})}
	n.core = core.New(core.Config{Self: addr.MustNode(name), Region: addr.MustRegion("earth"), Incarnation: 7, Clock: true})
	if err := n.core.Restore(now, n.store); err != nil {
		b.Fatal(err)
	}
	n.core.Configure(now, core.Settings{}, nil)
	n.turn(now)
	return n
}

// turn takes effects and writes until there are none.
func (n *benchNode) turn(now time.Time) {
	for {
		for e := n.core.Take(); e != nil; e = n.core.Take() {
			if e.Write != nil {
				n.store.Append(e.Write)
			}
			for _, s := range e.Sends {
				n.sends = append(n.sends, s.Frame)
			}
			for _, d := range e.Deliver {
				n.deliver = append(n.deliver, core.Settlement{Session: d.Session, Service: d.Service, Conn: d.Conn, Seq: d.Header.Seq})
			}
			if e.Changed {
				n.core.Snapshot()
			}
			n.replies += len(e.Replies)
		}
		lsn, ok := n.store.Sync()
		if !ok {
			return
		}
		n.core.Persisted(now, lsn)
	}
}

func submissions(size int) []core.Submission {
	subs := make([]core.Submission, group)
	for i := range subs {
		subs[i] = core.Submission{
			Topic: benchTopic, Service: core.ServiceMQTT, Class: bundle.Telemetry, QoS: 1, Client: "plc",
			Blob: blob("m", benchTopic, size),
		}
	}
	return subs
}

// BenchmarkCycleOneCore is the gate: submit, persist, reply, send,
// acknowledge, release and persist that, on one core with a peer that does
// nothing but acknowledge.
func BenchmarkCycleOneCore(b *testing.B) {
	now := time.Unix(1_900_000_000, 0)
	n := newBenchNode(b, "a", now)
	peer := addr.MustNode("b")
	n.core.LinkUp(now, core.Link{ID: 1, Node: peer})
	n.core.Receive(now, 1, []core.Frame{&routing.Advert{
		Node: peer, Region: addr.MustRegion("earth"), Seq: 1 << 32, Interest: []string{"plant/#"},
		Neighbors: []routing.Neighbor{{Node: addr.MustNode("a"), Cost: 1, Up: true}},
	}})
	n.turn(now)
	n.replies, n.sends = 0, nil
	subs := submissions(60)
	var xid uint64
	cycles := 0
	b.ReportAllocs()
	for b.Loop() {
		n.core.Submit(now, subs)
		n.turn(now)
		xid += uint64(len(n.sends))
		n.sends = n.sends[:0]
		n.core.Receive(now, 1, []core.Frame{core.Ack{Class: bundle.Telemetry, XID: xid}})
		n.turn(now)
		cycles += group
	}
	if n.replies != cycles || xid != uint64(cycles) || n.core.View().Totals.Messages != 0 {
		b.Fatalf("%d cycles: %d replies, %d transfers, %d left", cycles, n.replies, xid, n.core.View().Totals.Messages)
	}
	b.ReportMetric(float64(cycles)/b.Elapsed().Seconds(), "cycles/s")
}

// BenchmarkCycle is the way of a message over two cores, to a durable session
// or to a service: submit, persist, reply, send, receive, persist,
// acknowledge, release, deliver, settle, persist.
func BenchmarkCycle(b *testing.B) {
	b.Run("session", func(b *testing.B) { benchCycle(b, false) })
	b.Run("service", func(b *testing.B) { benchCycle(b, true) })
}

func benchCycle(b *testing.B, service bool) {
	now := time.Unix(1_900_000_000, 0)
	from, to := newBenchNode(b, "a", now), newBenchNode(b, "b", now)
	to.core.OpenSession(now, core.SessionOpen{Client: "ops", Conn: 1, Expiry: core.NeverExpires, ReceiveMax: 1024})
	to.core.Subscribe(now, 0, "ops", []core.Subscription{{Filter: "plant/#", QoS: 1}})
	from.core.LinkUp(now, core.Link{ID: 1, Node: addr.MustNode("b")})
	to.core.LinkUp(now, core.Link{ID: 1, Node: addr.MustNode("a")})
	for range 10 {
		step(now, from, to)
	}
	from.replies = 0
	subs := submissions(60)
	if service {
		for i := range subs {
			subs[i].Topic, subs[i].To, subs[i].Service = "", addr.MustNode("b"), "fleet"
		}
	}
	before := to.core.Stats().Delivered
	cycles := 0
	b.ReportAllocs()
	for b.Loop() {
		from.core.Submit(now, subs)
		for step(now, from, to) {
		}
		cycles += group
	}
	delivered := int(to.core.Stats().Delivered - before)
	if from.replies != cycles || delivered != cycles || from.core.View().Totals.Messages+to.core.View().Totals.Messages != 0 {
		b.Fatalf("%d cycles: %d replies, %d delivered", cycles, from.replies, delivered)
	}
	b.ReportMetric(float64(cycles)/b.Elapsed().Seconds(), "cycles/s")
}

// step runs both nodes once and moves what they sent.
func step(now time.Time, from, to *benchNode) bool {
	from.turn(now)
	to.turn(now)
	did := len(from.sends)+len(to.sends)+len(to.deliver) > 0
	hand(now, from, to)
	hand(now, to, from)
	if len(to.deliver) > 0 {
		to.core.Settle(now, to.deliver)
		to.deliver = to.deliver[:0]
	}
	return did
}

func hand(now time.Time, from, to *benchNode) {
	frames := make([]core.Frame, 0, len(from.sends))
	for _, f := range from.sends {
		frames = append(frames, received(f))
	}
	from.sends = from.sends[:0]
	to.core.Receive(now, 1, frames)
}
