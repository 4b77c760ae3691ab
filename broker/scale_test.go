package broker

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestSessionMemory opens many sessions with a subscription each on
// connections in memory, reports what one costs, and checks that they work.
// FARHOP_SESSIONS sets how many; the default is few.
func TestSessionMemory(t *testing.T) {
	n := 2000
	if s := os.Getenv("FARHOP_SESSIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	w := start(t, func(c *Config) { c.MaxClients = n + 10 })
	heap := func() (uint64, uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	before, stack := heap()
	conns := make([]net.Conn, n)
	buf := make([]byte, 256)
	for i := range conns {
		c, err := w.b.Connect()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
		pk.Connect.ProtocolName, pk.Connect.Clean = []byte("MQTT"), true
		pk.Connect.ClientIdentifier = fmt.Sprint("client-", i)
		pk.Connect.Keepalive = 600
		sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1}
		sub.Filters = packets.Subscriptions{{Filter: fmt.Sprintf("plant/%d/cmd", i), Qos: 1}}
		if _, err := c.Write(append(encode(t, 4, pk), encode(t, 4, sub)...)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for got := 0; got < 9; { // CONNACK and SUBACK
			k, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += k
		}
		_ = c.SetReadDeadline(time.Time{})
	}
	after, stackAfter := heap()
	t.Logf("%d sessions, %d bytes of heap each, %d of stack", n, (int64(after)-int64(before))/int64(n), (int64(stackAfter)-int64(stack))/int64(n))
	runtime.KeepAlive(conns)
}
