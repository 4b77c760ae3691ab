package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// hdtn is a peer that nodes dial.
func hdtn(t testing.TB, address string, change func(*config.DTNPeer)) config.DTNPeer {
	p := config.DTNPeer{Name: "hdtn", Kind: "tcpcl", Address: config.HostPort(address), Serves: testPatterns(t, "ipn:2.*"), TLS: "none"}
	if change != nil {
		change(&p)
	}
	return p
}

// TestDoorPublishes: a bundle for a topic is a publication, once.
func TestDoorPublishes(t *testing.T) {
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) {
		d.Mappings = []config.DTNMapping{{EID: addr.IPN(17, 5), Topic: "plant/5"}}
	})
	n.subscribe("dev", "plant/#")
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	first := foreign(t, "ipn:9.1", "dtn://earth-1/mqtt/plant/1", 1, []byte("hello"), nil)
	s.mustSend(first, first, foreign(t, "ipn:9.1", "ipn:17.5", 2, []byte("five"), nil))
	got := n.publications("dev")
	if len(got) != 2 || got[0].Topic != "plant/1" || string(got[0].Payload) != "hello" || got[1].Topic != "plant/5" || string(got[1].Payload) != "five" {
		t.Fatalf("got %+v", got)
	}
	if !slices.ContainsFunc(got[0].Properties, func(p admin.Property) bool { return p.Key == dtn.PropSource && p.Value == "ipn:9.1" }) {
		t.Errorf("properties %v", got[0].Properties)
	}
	s.mustSend(foreign(t, "ipn:9.1", "dtn://earth-1/mqtt/nobody/wants", 3, []byte("x"), nil))
	for _, bad := range []string{"ipn:3.1", "dtn://earth-1/other", "dtn://earth-1/mqtt/a%23", "dtn://earth-1/"} {
		if err := s.send(foreign(t, "ipn:9.1", bad, 4, []byte("x"), nil)); !refusedBy(err) {
			t.Errorf("%s: %v, want a refusal", bad, err)
		}
	}
	n.stop()
	n.start()
	eventually(t, "the session after a restart", func() bool { return s.isUp("node") && s.send(first) == nil })
	if got := n.publications("dev"); len(got) != 2 {
		t.Errorf("%d publications after the same bundle came once more, want 2", len(got))
	}
}

// TestDoorForwards: a bundle waits for a peer that is away, also over a
// restart of the node, and leaves as it came.
func TestDoorForwards(t *testing.T) {
	peer := freeAddr(t)
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) { d.Peers = []config.DTNPeer{hdtn(t, peer, nil)} })
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	var sent [][]byte
	for i := range 20 {
		sent = append(sent, foreign(t, "ipn:9.1", "ipn:2.1", uint64(i), bytes.Repeat([]byte{byte(i)}, 100), func(_ *bundle.Primary, h *bundle.Hop) { h.HopLimit, h.HopCount = 30, 1 }))
	}
	s.mustSend(sent...)
	if q := n.queued("service dtn/hdtn"); q != len(sent) {
		t.Errorf("%d bundles wait, want %d", q, len(sent))
	}
	n.stop()
	n.start()
	far := newStack(t, "ipn:2.0", peer, "", dtn.Limits{})
	eventually(t, "all bundles at the peer", func() bool { return len(far.bundles()) == len(sent) })
	for i, raw := range far.bundles() {
		same(t, raw, sent[i], "dtn://earth-1/")
	}
	eventually(t, "an empty queue", func() bool { return n.queued("service dtn/hdtn") == 0 })
	if st := n.stats(); st.Delivered != uint64(len(sent)) {
		t.Errorf("%d delivered, want %d", st.Delivered, len(sent))
	}
	checkShown(t, n, len(sent))
}

// checkShown looks at the metrics and the view of the peers.
func checkShown(t *testing.T, n *doorNode, sent int) {
	t.Helper()
	all, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := -1.0
	for _, m := range all {
		if m.GetName() == "farhop_dtn_sent_total" {
			shown = m.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if int(shown) != sent {
		t.Errorf("farhop_dtn_sent_total is %v, want %d", shown, sent)
	}
	st, err := backend{n.Node}.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p := st.Peers; len(p) != 1 || p[0].Name != "hdtn" || p[0].Kind != "tcpcl" || p[0].State != admin.PeerUp || p[0].SentBytes == 0 {
		t.Errorf("peers %+v", p)
	}
}

// same wants a bundle that passed to differ from what was sent in nothing but
// the blocks of a hop.
func same(t *testing.T, got, sent []byte, prev string) {
	t.Helper()
	g, err := bundle.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	s, err := bundle.Parse(sent)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g.PrimaryRaw, s.PrimaryRaw) || !bytes.Equal(g.Payload.Raw, s.Payload.Raw) || g.HopLimit != s.HopLimit || s.HopLimit > 0 && g.HopCount != s.HopCount+1 {
		t.Errorf("sent %+v, got %+v", s.Primary, g.Primary)
	}
	if g.Prev.String() != prev {
		t.Errorf("the previous node is %s, want %s", g.Prev, prev)
	}
}

// TestDoorCarries: through the mesh and out of the door of another node.
func TestDoorCarries(t *testing.T) {
	peer := freeAddr(t)
	a := newDoorNode(t, "earth", nil, func(d *config.DTN) {
		d.Routes = []config.DTNRoute{{To: testPatterns(t, "ipn:2.*"), Node: addr.MustNode("luna-1")}}
	})
	b := newDoorNode(t, "luna", a, func(d *config.DTN) {
		d.Node = addr.IPN(17, 0)
		d.Peers = []config.DTNPeer{hdtn(t, peer, nil)}
	})
	s := newStack(t, "ipn:9.0", "", a.door, dtn.Limits{})
	plain := foreign(t, "ipn:9.1", "ipn:2.1", 1, []byte("through"), nil)
	aged := foreign(t, "ipn:9.1", "ipn:2.1", 2, []byte("through"), func(p *bundle.Primary, h *bundle.Hop) {
		p.Created.Time, h.NoAge, h.Age = 0, false, 1000*time.Millisecond
	})
	s.mustSend(plain, aged, plain)
	eventually(t, "the bundles at the other door", func() bool { return b.queued("service dtn/hdtn") == 2 })
	b.stop()
	b.start()
	far := newStack(t, "ipn:2.0", peer, "", dtn.Limits{})
	eventually(t, "the bundles at the peer", func() bool { return len(far.bundles()) == 2 })
	same(t, far.bundles()[0], plain, "ipn:17.0")
	same(t, far.bundles()[1], aged, "ipn:17.0")
	v, err := bundle.Parse(far.bundles()[1])
	if err != nil || v.Age < time.Second || v.Age > time.Minute {
		t.Errorf("an age of %v after %v here, %v", v.Age, "a few seconds", err)
	}
	eventually(t, "empty queues", func() bool { return b.queued("service dtn/hdtn")+b.queued("service dtn") == 0 })
}

// TestDoorGathers: fragments for a topic wait, also over a restart, until all
// are there; a peer that takes less gets fragments.
func TestDoorGathers(t *testing.T) {
	n := newDoorNode(t, "earth", nil, func(*config.DTN) {})
	n.subscribe("dev", "plant/#")
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	payload := make([]byte, 10_000)
	for i := range payload {
		payload[i] = byte(i * 7 >> 3)
	}
	v, err := bundle.Parse(foreign(t, "ipn:9.1", "dtn://earth-1/mqtt/plant/big", 1, payload, nil))
	if err != nil {
		t.Fatal(err)
	}
	parts, _, err := bpa.Fragment(&v, bpa.Transit{}, 3000)
	if err != nil || len(parts) < 4 {
		t.Fatal(len(parts), err)
	}
	last := len(parts) - 1
	for _, p := range parts[:last] {
		s.mustSend(p.Join())
	}
	s.mustSend(parts[0].Join())
	if got := n.queued("service dtn-fragments"); got != last {
		t.Errorf("%d fragments wait, want %d", got, last)
	}
	n.stop()
	n.start()
	eventually(t, "the session", func() bool { return s.isUp("node") && s.send(parts[last].Join()) == nil })
	eventually(t, "the publication", func() bool { return len(n.publications("dev")) == 1 })
	if got := n.publications("dev")[0]; got.Topic != "plant/big" || !bytes.Equal(got.Payload, payload) {
		t.Errorf("%d bytes to %s", len(got.Payload), got.Topic)
	}
	eventually(t, "no fragments", func() bool { return n.queued("service dtn-fragments") == 0 })
}

// TestDoorDivides: a peer that takes less gets fragments.
func TestDoorDivides(t *testing.T) {
	peer := freeAddr(t)
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) { d.Peers = []config.DTNPeer{hdtn(t, peer, nil)} })
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	far := newStack(t, "ipn:2.0", peer, "", dtn.Limits{TransferMRU: 4096})
	payload := bytes.Repeat([]byte("0123456789"), 1000)
	s.mustSend(foreign(t, "ipn:9.1", "ipn:2.1", 1, payload, nil))
	r, err := bpa.NewReassembler(bpa.ReassemblerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all fragments", func() bool { return len(far.bundles()) == 3 })
	var whole []byte
	for i, raw := range far.bundles() {
		v, err := bundle.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		whole, _, _ = r.Add(uint64(i), &v, time.Now())
	}
	if v, err := bundle.Parse(whole); err != nil || !bytes.Equal(v.Payload.Data, payload) {
		t.Errorf("the fragments make %d bytes, %v", len(v.Payload.Data), err)
	}
}

// TestDoorExports: publications leave as bundles, once, also over a restart;
// those that came in as bundles do not. Reports come back as publications.
func TestDoorExports(t *testing.T) {
	peer := freeAddr(t)
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) {
		d.Peers = []config.DTNPeer{hdtn(t, peer, nil)}
		d.Exports = []config.DTNExport{{Topic: "plant/#", To: "ipn:2.9", ReportTo: testEID(t, "dtn://earth-1/")}}
	})
	n.publish("plant/1", "away", 60)
	eventually(t, "the bundle in its queue", func() bool { return n.queued("service dtn/hdtn") == 1 })
	n.stop()
	n.start()
	far := newStack(t, "ipn:2.0", peer, n.door, dtn.Limits{})
	far.mustSend(foreign(t, "ipn:2.1", "dtn://earth-1/mqtt/plant/2", 1, []byte("foreign"), nil))
	n.publish("plant/3", "here", 0)
	eventually(t, "two bundles", func() bool { return len(far.bundles()) == 2 })
	for i, want := range []struct {
		payload  string
		lifetime uint64
	}{{"away", 60_000}, {"here", 24 * 3600_000}} {
		v, err := bundle.Parse(far.bundles()[i])
		if err != nil || string(v.Payload.Data) != want.payload || v.Primary.Lifetime != want.lifetime || v.Primary.Dest != addr.IPN(2, 9) {
			t.Errorf("bundle %d: %q to %s, lifetime %d, %v", i, v.Payload.Data, v.Primary.Dest, v.Primary.Lifetime, err)
		}
	}
	eventually(t, "an empty session", func() bool { return n.queued("session $dtn") == 0 })
	if _, err := n.mqtt.OpenSession(t.Context(), broker.SessionOpen{Client: exportClient, Conn: 1}); err == nil {
		t.Error("a device took the session of the exports")
	}
	checkReport(t, n, far)
	n.stop()
	n.configure(func(c *config.Config) { c.DTN.Exports = nil })
	n.start()
	n.publish2("plant/4")
	if q := n.queued("session $dtn"); q != 0 {
		t.Errorf("%d publications wait for exports that are configured no more", q)
	}
}

// checkReport sends a status report about the first bundle.
func checkReport(t *testing.T, n *doorNode, far *stack) {
	t.Helper()
	n.subscribe("ops", "$mesh/reports/#")
	v, err := bundle.Parse(far.bundles()[0])
	if err != nil {
		t.Fatal(err)
	}
	rep := bpa.Report{Source: v.Primary.Source, Created: v.Primary.Created}
	rep.Is[bpa.Delivered] = true
	far.mustSend(foreign(t, "ipn:2.9", v.Primary.ReportTo.String(), 7, rep.Append(nil), func(p *bundle.Primary, _ *bundle.Hop) { p.Flags = bundle.FlagAdminRecord }))
	got := n.publications("ops")
	if len(got) != 1 || got[0].Topic != ReportTopic {
		t.Fatalf("reports: %+v", got)
	}
	var r StatusReport
	want := fmt.Sprintf("%s %d %d", v.Primary.Source, v.Primary.Created.Time, v.Primary.Created.Seq)
	if err := json.Unmarshal(got[0].Payload, &r); err != nil || r.Status != "delivered" || r.Bundle != want {
		t.Errorf("report %+v, %v; want %s delivered", r, err, want)
	}
}

// publish2 publishes what nobody may want.
func (n *doorNode) publish2(topic string) {
	n.t.Helper()
	got := make(chan broker.Verdict, 1)
	n.mqtt.Publish(&broker.Message{Topic: topic, Payload: []byte("x"), QoS: 1, Client: "plc"}, func(v broker.Verdict) { got <- v })
	if v := <-got; v.Reason != bundle.NoSubscriber {
		n.t.Errorf("publish %s: %s", topic, v.Reason)
	}
}

// TestDoorRefusals: what a peer never wants ends and is counted; what it has
// no room for waits.
func TestDoorRefusals(t *testing.T) {
	peer := freeAddr(t)
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) {
		d.Peers = []config.DTNPeer{hdtn(t, peer, nil)}
		d.ReportsPerMinute = 600
	})
	far := newStack(t, "ipn:2.0", peer, "", dtn.Limits{})
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	far.answer(bundle.NotAllowed)
	s.mustSend(foreign(t, "ipn:9.1", "ipn:2.1", 1, []byte("never"), nil))
	eventually(t, "its end", func() bool { return n.stats().Ended[bundle.NotAllowed] == 1 })
	far.answer(bundle.StoreFull)
	s.mustSend(foreign(t, "ipn:9.1", "ipn:2.1", 2, []byte("later"), func(p *bundle.Primary, _ *bundle.Hop) {
		p.ReportTo, p.Flags = addr.IPN(2, 7), bundle.FlagReportForwarding
	}))
	eventually(t, "a refusal", func() bool { return n.doors.counts.retries.Load() > 0 })
	far.answer(bundle.OK)
	eventually(t, "the bundle and the report about it", func() bool { return len(far.bundles()) == 2 })
	v, err := bundle.Parse(far.bundles()[1])
	if err != nil {
		t.Fatal(err)
	}
	rec, err := bpa.ParseRecord(v.Payload.Data)
	if err != nil || !rec.Report.Is[bpa.Forwarded] || rec.Report.Created.Seq != 2 || v.Primary.Dest != addr.IPN(2, 7) {
		t.Errorf("report %+v to %s, %v", rec.Report, v.Primary.Dest, err)
	}
}

// TestDoorCutThrough: bundles pass unstored while the peer is there, and are
// stored while it is not.
func TestDoorCutThrough(t *testing.T) {
	peer := freeAddr(t)
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) {
		d.Peers = []config.DTNPeer{hdtn(t, peer, func(p *config.DTNPeer) { p.CutThrough = true })}
	})
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	stored := foreign(t, "ipn:9.1", "ipn:2.1", 1, []byte("stored"), nil)
	s.mustSend(stored)
	if q := n.queued("service dtn/hdtn"); q != 1 {
		t.Errorf("%d bundles wait for a peer that is away", q)
	}
	far := newStack(t, "ipn:2.0", peer, "", dtn.Limits{})
	eventually(t, "the stored one", func() bool { return len(far.bundles()) == 1 })
	before := n.stats().Submitted[bundle.OK]
	passing := foreign(t, "ipn:9.1", "ipn:2.1", 2, []byte("passing"), nil)
	s.mustSend(passing, passing)
	if got := far.bundles(); len(got) != 2 {
		t.Fatalf("%d bundles at the peer when the first had its answer, want 2", len(got))
	}
	same(t, far.bundles()[1], passing, "dtn://earth-1/")
	if after := n.stats().Submitted[bundle.OK]; after != before || n.doors.cut.passed.Load() != 1 {
		t.Errorf("%d stored, %d passed", after-before, n.doors.cut.passed.Load())
	}
	far.answer(bundle.StoreFull)
	s.mustSend(foreign(t, "ipn:9.1", "ipn:2.1", 3, []byte("refused"), nil))
	if n.doors.cut.fell.Load() != 1 || n.queued("service dtn/hdtn") != 1 {
		t.Errorf("%d fell back, %d wait; want 1", n.doors.cut.fell.Load(), n.queued("service dtn/hdtn"))
	}
	far.answer(bundle.OK)
	eventually(t, "the third", func() bool { return len(far.bundles()) == 3 })
}

// TestDoorMoved: what waits for a peer that is configured no more goes to the
// one that serves its destination now, and without doors it stays.
func TestDoorMoved(t *testing.T) {
	peer := freeAddr(t)
	n := newDoorNode(t, "earth", nil, func(d *config.DTN) { d.Peers = []config.DTNPeer{hdtn(t, peer, nil)} })
	s := newStack(t, "ipn:9.0", "", n.door, dtn.Limits{})
	sent := foreign(t, "ipn:9.1", "ipn:2.1", 1, []byte("x"), nil)
	s.mustSend(sent)
	n.stop()
	var doors config.DTN
	n.configure(func(c *config.Config) { doors, c.DTN = c.DTN, config.DTN{} })
	n.start()
	if q := n.queued("service dtn/hdtn"); q != 1 {
		t.Errorf("%d bundles wait without doors, want 1", q)
	}
	n.stop()
	doors.Peers[0].Name = "other"
	n.configure(func(c *config.Config) { c.DTN = doors })
	n.start()
	eventually(t, "the bundle in the other queue", func() bool { return n.queued("service dtn/other") == 1 })
	far := newStack(t, "ipn:2.0", peer, "", dtn.Limits{})
	eventually(t, "the bundle", func() bool { return len(far.bundles()) == 1 })
	same(t, far.bundles()[0], sent, "dtn://earth-1/")
}

// TestDoorConfiguration: faults name the file.
func TestDoorConfiguration(t *testing.T) {
	n := newDoorNode(t, "earth", nil, func(*config.DTN) {})
	n.stop()
	n.configure(func(c *config.Config) {
		c.DTN.TLS = config.DTNTLS{Cert: "none.pem", Key: "none.key", Roots: "none.pem"}
	})
	if _, err := Open(n.dir, Options{Log: testLog(t)}); err == nil || !bytes.Contains([]byte(err.Error()), []byte("farhop.yaml: dtn: tls.cert and tls.key: ")) {
		t.Errorf("got %v", err)
	}
	n.configure(func(c *config.Config) { c.DTN.TLS = config.DTNTLS{} })
	n.start()
	if n.queued("session "+exportClient) != 0 || core.MaxPayload < maxDoorBundle {
		t.Error("the node is not as it was")
	}
}
