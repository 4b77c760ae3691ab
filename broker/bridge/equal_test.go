package bridge

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestEqualMessages has a source use a packet id again for a message that
// equals the one before it. The message is lost with the connection and comes
// on the next one, which the bridge sees as DUP: it must not take it for a
// repeat of the old one.
func TestEqualMessages(t *testing.T) {
	for _, c := range []struct {
		name    string
		qos     byte
		between int // messages on other ids meanwhile
	}{
		{"QoS 1 at once", 1, 0},
		{"QoS 2 at once", 2, 0},
		{"QoS 1 later", 1, 300},
		{"QoS 2 later", 2, 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { equal(t, c.qos, c.between) })
		})
	}
}

func equal(t *testing.T, qos byte, between int) {
	w := newBetween(t, nil, []Rule{{Direction: Out, Filter: "#"}}, func(ctx context.Context, wg *sync.WaitGroup, there *peer) (net.Conn, time.Duration, error) {
		return dialPath(ctx, wg, there, time.Millisecond, 0)
	})
	here, there := w.here, w.there
	here.send("state", qos, "on")
	for i := range between {
		here.send(fmt.Sprint("other/", i), qos, "x")
	}
	w.start(t)
	again := func(lost bool) {
		time.Sleep(time.Second)
		if !here.settled() {
			t.Fatal("not all is acknowledged")
		}
		here.next(1, lost)
		(<-w.links).Close()
		time.Sleep(time.Second)
	}
	again(false) // the source shows what it is like
	again(true)
	n := 0
	for _, s := range there.got() {
		if s == "state on" {
			n++
		}
	}
	if n != 3 || !here.settled() {
		t.Errorf("%d of 3 equal messages arrived", n)
	}
	w.end()
}

// TestRecall tells a repeat from another use of the packet id.
func TestRecall(t *testing.T) {
	for _, c := range []struct {
		name   string
		dup    bool
		sum    uint64
		begun  uint64
		reuses bool
		want   bool
	}{
		{"a repeat", true, 7, 300, false, true},
		{"another message", true, 8, 300, false, false},
		{"a fresh use", false, 7, 300, false, false},
		{"when the ids came round", true, 7, 65535, false, false},
		{"of a source that takes ids again at once", true, 7, 300, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &flow{way: &way{memos: map[uint16]memo{5: {sum: 7, nth: 1}}, begun: c.begun, reuses: c.reuses}}
			if _, again := f.recall(&packets.Packet{FixedHeader: packets.FixedHeader{Qos: 1, Dup: c.dup}, PacketID: 5}, c.sum); again != c.want {
				t.Errorf("taken for a repeat: %t", again)
			}
		})
	}
}
