package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Telemetry of 60 bytes, from a few devices with topics of their own, costs at
// most 1.25 bytes on the link for each of its own.
func TestBatchedBytesOnTheWire(t *testing.T) {
	const count, size = 200, 60
	now := time.Unix(1_800_000_000, 0)
	c := core.New(core.Config{Self: addr.MustNode("luna-1"), Region: addr.MustRegion("luna"), Incarnation: 7, Clock: true})
	c.Configure(now, core.Settings{Batch: core.Batching{Max: 32 << 10}}, nil)
	c.LinkUp(now, core.Link{ID: 1, Node: addr.MustNode("earth-1")})
	c.Receive(now, 1, []core.Frame{&routing.Advert{
		Node: addr.MustNode("earth-1"), Region: addr.MustRegion("earth"), Seq: 1 << 32, Interest: []string{"plant/#"},
		Neighbors: []routing.Neighbor{{Node: addr.MustNode("luna-1"), Up: true}},
	}})
	c.Take()
	for i := range count {
		payload := make([]byte, size)
		for j := range payload {
			payload[j] = byte(i * (j + 1) * 7919 >> 3)
		}
		c.Submit(now, []core.Submission{submission(&broker.Message{
			Topic: fmt.Sprintf("plant/line-%d/temperature", i%6), Payload: payload, QoS: 1, Client: fmt.Sprintf("plc-%d", i%6),
		})})
	}
	bytes, bundles := 0, 0
	for eff := c.Take(); eff != nil; eff = c.Take() {
		for _, s := range eff.Sends {
			if f, ok := s.Frame.(*core.Transfer); ok {
				hop := bundle.Hop{Prev: addr.NodeEID(addr.MustNode("luna-1"), ""), Age: time.Second, HopLimit: core.MaxHops, HopCount: 1}
				bytes += len(wire.AppendTransfer(nil, f.Class, f.XID, f.Entry.Frozen, f.Blob.B, hop))
				bundles++
			}
		}
		if eff.Write != nil {
			c.Persisted(now, eff.Write.LSN)
		}
	}
	ratio := float64(bytes) / (count * size)
	t.Logf("%d messages in %d bundles: %.3f bytes for a byte of payload", count, bundles, ratio)
	if bundles == 0 || ratio > 1.25 {
		t.Errorf("%d bundles, %.3f bytes for a byte of payload", bundles, ratio)
	}
}
