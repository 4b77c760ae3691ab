package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestTally counts arrivals of two publishers with four messages each.
func TestTally(t *testing.T) {
	const all, none = "ackd", "    "
	for _, c := range []struct {
		name  string
		acked [2]string // a space is a message without PUBACK
		got   string    // publisher and message, two digits each
		want  Drain
	}{
		{"all, mixed", [2]string{all, all}, "00 10 01 02 11 03 12 13", Drain{Acked: 8, Arrived: 8}},
		{"one lost", [2]string{all, none}, "00 01 03", Drain{Acked: 4, Arrived: 3, Lost: 1}},
		{"one twice", [2]string{all, none}, "00 01 01 02 03", Drain{Acked: 4, Arrived: 4, Repeated: 1}},
		{"one late", [2]string{all, none}, "00 02 01 03", Drain{Acked: 4, Arrived: 4, OutOfOrder: 1}},
		{"a repeat is not out of order", [2]string{all, none}, "00 01 02 03 00", Drain{Acked: 4, Arrived: 4, Repeated: 1}},
		{"more than acknowledged", [2]string{"ac  ", none}, "00 01 02 10", Drain{Acked: 2, Arrived: 2, unasked: 2}},
		{"nothing", [2]string{all, all}, "", Drain{Acked: 8, Lost: 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &load{}
			for _, a := range c.acked {
				p := &publisher{total: len(a)}
				for _, r := range a {
					p.acked = append(p.acked, r != ' ')
				}
				l.publishers = append(l.publishers, p)
			}
			tl := newTally(l)
			for f := range strings.FieldsSeq(c.got) {
				payload := make([]byte, payloadHeader)
				binary.BigEndian.PutUint64(payload, uint64(f[0]-'0'))
				binary.BigEndian.PutUint64(payload[8:], uint64(f[1]-'0'))
				if err := tl.arrival(payload); err != nil {
					t.Fatal(err)
				}
			}
			tl.Lost = tl.Acked - tl.Arrived
			if tl.Drain != c.want {
				t.Errorf("got %+v, want %+v", tl.Drain, c.want)
			}
			if tl.arrival([]byte("x")) == nil || tl.arrival(bytes.Repeat([]byte{9}, 16)) == nil {
				t.Error("a message that nobody sent was counted")
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.in, func(v float64) float64 { return v }); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.want)
		}
	}
	v := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	if a, b, c := percentile(v, 0.5), percentile(v, 0.99), percentile(nil, 0.5); a != 6 || b != 10 || c != 0 {
		t.Errorf("percentiles %d %d %d, want 6 10 0", a, b, c)
	}
}

// TestReport checks the sums that decide whether a server kept its word.
func TestReport(t *testing.T) {
	round := Load{PerSecond: 50, Drain: Drain{Lost: 1, Repeated: 2, OutOfOrder: 3}}
	kill := Drain{Acked: 10, Arrived: 7, Lost: 3, Repeated: 5, OutOfOrder: 1}
	slow := round
	slow.PerSecond = 5
	r := Report{Floors: []Floor{{Natural: 100, Served: 80}, {Natural: 50, Served: 8}, {Natural: 10, Served: 8}}, Servers: []Server{
		{Name: "farhop", Rounds: []Load{round, slow, slow}, Kills: []Drain{kill, kill}},
		{Name: "mosquitto", Rounds: []Load{{PerSecond: 200}, round, round}, Kills: []Drain{kill}},
	}}
	r.finish()
	n, m := r.Servers[0], r.Servers[1]
	if n.OfNatural != 0.5 || n.OfServed != 0.625 || n.OfNode != 1 || n.Load.PerSecond != 5 || m.OfNode != 10 || m.Load.PerSecond != 50 {
		t.Errorf("ratios %v %v %v %v, medians %v %v", n.OfNatural, n.OfServed, n.OfNode, m.OfNode, n.Load.PerSecond, m.Load.PerSecond)
	}
	if acked, arrived := n.Kept(); acked != 20 || arrived != 14 {
		t.Errorf("kept %d of %d, want 14 of 20", arrived, acked)
	}
	if l, rep, o := n.Broken(); l != 9 || rep != 6 || o != 11 {
		t.Errorf("node: %d lost, %d repeated, %d out of order; want 9, 6, 11", l, rep, o)
	}
	if l, _, o := m.Broken(); l != 2 || o != 6 {
		t.Errorf("another: %d lost, %d out of order; want 2, 6: a kill is not held against it", l, o)
	}
}

// TestPackets reads back what is written.
func TestPackets(t *testing.T) {
	for _, size := range []int{payloadHeader, 100, 127, 128, 16_384, maxSize} {
		tmpl, id, body := template(7, size)
		binary.BigEndian.PutUint16(tmpl[id:], 0xABCD)
		in := newPackets(bytes.NewReader(append(appendPuback(nil, 9), tmpl...)))
		ack, err := in.next()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ack.puback(); got != 9 || err != nil {
			t.Errorf("PUBACK %d %v, want 9", got, err)
		}
		p, err := in.next()
		if err != nil {
			t.Fatal(err)
		}
		m, err := p.publish()
		if err != nil || string(m.topic) != topicOf(7) || m.id != 0xABCD || !bytes.Equal(m.payload, tmpl[body:]) {
			t.Errorf("size %d: topic %q, id %x, %d bytes, %v", size, m.topic, m.id, len(m.payload), err)
		}
		if _, err := in.next(); !errors.Is(err, io.EOF) || in.waiting() {
			t.Errorf("after the last packet: %v", err)
		}
	}
}

// FuzzPackets feeds what a server might send.
func FuzzPackets(f *testing.F) {
	tmpl, _, _ := template(1, 20)
	f.Add(tmpl)
	f.Add(appendPuback(nil, 1))
	f.Add(appendConnect(nil, "c", true))
	f.Add(appendSubscribe(nil, 1, "#"))
	f.Add([]byte{firstPublish, 0xFF, 0xFF, 0xFF, 0xFF, 1})
	f.Add([]byte{firstPublish, 0xFF, 0xFF, 0xFF, 0x7F})
	f.Add([]byte{firstPublish, 3, 0, 9, 'a'})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &packets{r: bufio.NewReader(bytes.NewReader(data))}
		for range 1000 {
			p, err := in.next()
			if err != nil {
				return
			}
			if len(p.body) > len(data) {
				t.Fatalf("%d bytes out of %d", len(p.body), len(data))
			}
			if m, err := p.publish(); err == nil && len(m.topic)+len(m.payload)+4 != len(p.body) {
				t.Fatalf("topic %q and payload of %d bytes out of %d", m.topic, len(m.payload), len(p.body))
			}
			_, _ = p.puback()
		}
	})
}
