package link

import (
	"crypto/rand"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestSalvoForged: packets that anybody can send, with the association of a
// session that is up, are dropped and counted, and the session goes on.
func TestSalvoForged(t *testing.T) {
	m := newMesh(t)
	props, profile := moonish()
	reg := prometheus.NewRegistry()
	b := m.start("b", func(c *Config) { c.Registerer = reg })
	_, at := via(t, b.addr, profile)
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: at, Link: props}} })
	s := a.next("up").s
	b.next("up")
	c, err := net.Dial("udp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := s.salvo.association
	head := []byte{0x08, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 0, 0, 0x13, 0x88}
	inject := func(b ...[]byte) {
		var all []byte
		for _, x := range b {
			all = append(all, x...)
		}
		if _, err := c.Write(all); err != nil {
			t.Fatal(err)
		}
	}
	junk := make([]byte, 1200)
	_, _ = rand.Read(junk)
	for range 50 {
		inject(head, junk)                             // forged
		inject(head)                                   // nothing in it
		inject([]byte{0x09}, head[1:], junk)           // a report for an end that sends nothing
		inject([]byte{0x08, 1, 2, 3, 4}, junk)         // of nobody's
		inject([]byte{0x3F}, junk)                     // no version of salvo
		inject([]byte{0x08, head[1]})                  // cut in the header
		inject([]byte{0})                              // nearly nothing
		_, _ = c.Write(nil)                            // nothing
		s.Send(wire.Ping{})                            // life goes on
		s.Send(wire.Volatile{Bundle: filled(1, 1000)}) // through salvo
	}
	pings, volatile := 0, 0
	for range 100 {
		switch (<-b.frames).(type) {
		case wire.Ping:
			pings++
		case wire.Volatile:
			volatile++
		}
	}
	if pings != 50 || volatile != 50 {
		t.Errorf("%d pings and %d volatile bundles arrived, want 50 each", pings, volatile)
	}
	for _, want := range []struct {
		name, label string
		n           float64
	}{
		{"farhop_link_salvo_drops_total", "forged", 50},
		{"farhop_link_strays_total", "unknown", 100},
		{"farhop_link_strays_total", "foreign", 150},
	} {
		if n := counted(t, reg, want.name, want.label); n < want.n {
			t.Errorf("%s of %s: %v, want %v", want.name, want.label, n, want.n)
		}
	}
}

// counted returns a counter by the value of its one label.
func counted(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestSalvoStalledReader: a peer that reads nothing costs the sender no more
// than the window, and the link goes on when it reads again.
func TestSalvoStalledReader(t *testing.T) {
	m := newMesh(t)
	props := Properties{OWLT: time.Millisecond, Rate: 400e6, Layer: LayerSalvo}
	hold := make(chan struct{})
	b := m.start("b", nil)
	b.hold = hold
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: b.addr, Link: props}} })
	s := a.next("up").s
	b.next("up")
	const size = 16 << 10
	xid := uint64(0)
	for s.Stats().Queued < 8<<20 { // until nothing moves any more
		xid++
		if !s.Send(wire.Transfer{Class: bundle.Bulk, XID: xid, Bundle: filled(xid, size)}) {
			t.Fatal("session over")
		}
	}
	if waits := s.salvo.out.waiting(); waits > props.pipe()+maxBlock+size {
		t.Errorf("%d bytes under way, the window is %d", waits, props.pipe())
	}
	close(hold)
	for want := uint64(1); want <= xid; want++ {
		if f, ok := (<-b.frames).(wire.Transfer); !ok || f.XID != want {
			t.Fatalf("got %T %d, want %d", f, f.XID, want)
		}
	}
}

// TestControlDoesNotWait: with as much data under way as may be, what the mesh
// itself says is taken all the same.
func TestControlDoesNotWait(t *testing.T) {
	o := &salvoOut{most: 1000, shelf: shelf{most: 1 << 20, ahead: 1 << 20}}
	class := func(c bundle.Class) uint8 { return laneClassOf(laneClass + int(c)) }
	if !o.add(class(bundle.Bulk), &block{length: 900}) || o.add(class(bundle.Alarm), &block{length: 200}) {
		t.Error("the window does not hold")
	}
	if !o.add(class(bundle.Control), &block{length: 200}) {
		t.Error("control waits behind data")
	}
}

// TestSalvoWaitsForContacts: in a gap of the schedule nothing is sent, and what
// was under way arrives in the next contact, in the same session.
func TestSalvoWaitsForContacts(t *testing.T) {
	m := newMesh(t)
	props, profile := moonish()
	start := time.Now()
	contacts := Window{Start: start, Every: 3 * time.Second, For: 1500 * time.Millisecond}
	props.Contacts = []Window{contacts}
	profile.Contacts = emulator.Schedule{Start: start, Every: contacts.Every, For: contacts.For}
	b := m.start("b", func(c *Config) { c.Links = linksTo("a", props) })
	l, at := via(t, b.addr, profile)
	a := m.start("a", func(c *Config) { c.Peers = []Peer{{Address: at, Link: props}} })
	s := a.next("up").s
	const n, size = 60, 100_000 // 2.4 s of the link
	for xid := uint64(1); xid <= n; xid++ {
		s.Send(wire.Transfer{Class: bundle.Bulk, XID: xid, Bundle: filled(xid, size)})
	}
	for xid := uint64(1); xid <= n; {
		f, ok := (<-b.frames).(wire.Transfer)
		if !ok {
			continue // the Ping that begins a contact
		}
		if f.XID != xid || string(f.Bundle) != string(filled(xid, size)) {
			t.Fatalf("transfer %d, want %d", f.XID, xid)
		}
		xid++
	}
	if a.Session(b.cfg.Node) != s {
		t.Error("another session is up")
	}
	// A light time of packets is lost when a contact ends while they are sent.
	if st := l.Stats().Up; st.Dropped.Closed > 400 {
		t.Errorf("%d of %d packets were sent outside the contacts", st.Dropped.Closed, st.Offered)
	}
}
