package broker

import (
	"bufio"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// BenchmarkQoS1 is one publisher with a hundred publishes open and one live
// QoS 0 subscriber on loopback sockets, both in this process.
func BenchmarkQoS1(b *testing.B) {
	for _, wanted := range []bool{false, true} {
		name := "local"
		if wanted {
			name = "through the node"
		}
		b.Run(name, func(b *testing.B) {
			w := start(b, nil)
			w.node.wanted = wanted
			sub := w.connect("s", 4, nil)
			sub.subscribe(0, "plant/+/temp")
			go func() {
				for {
					if _, err := sub.r.Discard(1); err != nil {
						return
					}
				}
			}()
			p := w.connect("p", 4, nil)
			out := bufio.NewWriter(p.conn)
			open, id := 0, uint16(0)
			b.ReportAllocs()
			for b.Loop() {
				if id++; id == 0 {
					id = 1
				}
				_, _ = out.Write(encode(b, 4, publish("plant/7/temp", "21.5000000000000000000000000000000000000000000000", 1, id)))
				if open++; open < 100 {
					continue
				}
				_ = out.Flush()
				for ; open > 0; open-- {
					p.next(packets.Puback)
				}
			}
		})
	}
}
