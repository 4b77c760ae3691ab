package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// safeBuffer is a log that several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// begin publishes with QoS 2 and never releases.
func (c *client) begin(from, to uint16) {
	c.t.Helper()
	for id := from; id <= to; id++ {
		c.send(publish("a", "x", 2, id))
		c.next(packets.Pubrec)
	}
}

// free releases one of them.
func (c *client) free(id uint16) {
	c.t.Helper()
	c.send(ack(packets.Pubrel, id))
	c.next(packets.Pubcomp)
}

// TestUnreleased: a client that begins ever more QoS 2 publishes and releases
// none is cut, alone; one at the limit goes on as it releases.
func TestUnreleased(t *testing.T) {
	t.Parallel()
	const limit = 8
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			var log safeBuffer
			w := start(t, func(c *Config) {
				c.MaxUnreleased, c.Log = limit, slog.New(slog.NewTextHandler(&log, nil))
			})
			w.node.wanted = true
			good, bad := w.connect("good", version, nil), w.connect("bad", version, nil)
			good.begin(1, limit)
			bad.begin(1, limit)

			good.send(publish("a", "x", 1, 100))
			good.next(packets.Puback) // only QoS 2 is held to it
			again := publish("a", "x", 2, 1)
			again.FixedHeader.Dup = true
			good.send(again)
			good.next(packets.Pubrec)
			good.free(1)
			good.begin(limit+1, limit+1)

			bad.send(publish("a", "x", 2, limit+1))
			last := bad.ends()
			if told := last.FixedHeader.Type == packets.Disconnect && last.ReasonCode == codeReceiveMax; told != (version == 5) {
				t.Errorf("the last packet was %+v", last)
			}
			if n := limits(w, limitUnreleased); n != 1 {
				t.Errorf("counted %v, want 1", n)
			}
			if n := valueOf(w.b.metrics.disconnects.WithLabelValues(causeUnreleased)); n != 1 {
				t.Errorf("%d connections ended for it, want 1", n)
			}
			for _, want := range []string{"level=WARN", "client=bad", "mqtt.limits.unreleased", "limit=8"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log does not say %s:\n%s", want, log.String())
				}
			}
			good.free(2)
			if got := w.node.committed(); got != 2*limit+2 {
				t.Errorf("the node has %d publishes, want %d", got, 2*limit+2)
			}
		})
	}
}

// TestUnreleasedOfSession: what a session has open from earlier connections
// counts, and can be released on a new one.
func TestUnreleasedOfSession(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			w := start(t, func(c *Config) { c.MaxUnreleased, c.ReceiveMax = 4, 3 })
			w.node.wanted = true
			c := w.connect("p", version, persistent)
			c.begin(1, 3)
			_ = c.conn.Close()
			c = w.connect("p", version, persistent)
			c.begin(4, 4)
			c.send(publish("a", "x", 2, 5))
			c.ends()
			if n := limits(w, limitUnreleased); n != 1 {
				t.Fatalf("counted %v, want 1", n)
			}
			c = w.connect("p", version, persistent)
			c.free(1)
			c.begin(5, 5)
			if got := w.node.committed(); got != 5 {
				t.Errorf("the node has %d publishes, want 5", got)
			}
		})
	}
}

// TestNodesOwnRetained: what the node retains itself is not counted among what
// clients retain.
func TestNodesOwnRetained(t *testing.T) {
	t.Parallel()
	early := &Retained{}
	early.Set(&Message{Topic: "$mesh/region/earth/state", Payload: []byte("up"), Retain: true})
	early.Set(&Message{Topic: "kept", Payload: []byte("x"), Retain: true})
	w := start(t, func(c *Config) { c.Retained = early })
	p, some := w.connect("p", 5, nil), w.connect("some", 5, nil)
	check := func(count, bytes int) {
		t.Helper()
		got := map[string]string{}
		for _, v := range w.b.sysOwn(w.b.sys.began) {
			got[v.Topic] = v.Value
		}
		want := fmt.Sprint(count)
		if got["retained/count"] != want || got["retained messages/count"] != want || got["retained/bytes"] != fmt.Sprint(bytes) {
			t.Errorf("%s and %s retained with %s bytes, want %d with %d", got["retained/count"], got["retained messages/count"], got["retained/bytes"], count, bytes)
		}
	}
	one := (&Message{Topic: "kept", Payload: []byte("x")}).Size()
	check(1, one)
	p.send(retain("mine", "y", 1))
	p.next(packets.Puback)
	w.b.SetRetained(&Message{Topic: "$mesh/region/earth/state", Payload: []byte(strings.Repeat("down", packMax)), Retain: true})
	w.b.SetRetained(&Message{Topic: "$mesh/region/luna/state", Payload: []byte("up"), Retain: true})
	check(2, 2*one)
	some.subscribe(0, "$mesh/#")
	for range 2 {
		some.next(packets.Publish) // they are there all the same
	}
	w.b.SetRetained(&Message{Topic: "$mesh/region/earth/state"})
	p.send(retain("kept", "", 2))
	p.next(packets.Puback)
	check(1, one)
}
