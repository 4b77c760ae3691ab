package core_test

import (
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// A peer that breaks the rules of a session loses it, or is refused.
func TestReceiveGuards(t *testing.T) {
	other := addr.MustNode("elsewhere")
	tests := []struct {
		name string
		edit func(*core.Incoming)
		want string
	}{
		{"in order", func(*core.Incoming) {}, "b -> a ack telemetry/1"},
		{"transfer left out", func(in *core.Incoming) { in.XID = 2 }, "closes a link: transfer 2 of class telemetry where 1 was due"},
		{"transfer repeated", func(in *core.Incoming) { in.XID = 0 }, "closes a link: transfer 0 of class telemetry where 1 was due"},
		{"round and round", func(in *core.Incoming) { in.Hops, in.Node = core.MaxHops, other }, "b -> a refuse telemetry/1 hop-limit"},
		{"the last hop but one", func(in *core.Incoming) { in.Hops, in.Node = core.MaxHops-1, other }, "b -> a ack telemetry/1"},
		{"unreadable", func(in *core.Incoming) { in.Bad = bundle.Malformed }, "b -> a refuse telemetry/1 malformed"},
		{"no place in an order", func(in *core.Incoming) { in.DSeq = 0 }, "b -> a refuse telemetry/1 malformed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv()
			e.script(pair)
			b := e.node("b")
			in := &core.Incoming{
				XID: 1, Class: bundle.Telemetry, Origin: addr.MustNode("x"), Bundle: bundle.NewSequence(9, bundle.Telemetry, 1), DSeq: 1,
				Message: bundle.ID{Node: addr.MustNode("x"), Seq: bundle.NewSequence(9, bundle.Telemetry, 1)}, Node: b.name,
				Service: core.ServiceMQTT, QoS: 1, Topic: "plant/1", Life: 1000, Blob: blob("m", "plant/1", 0), Size: 10,
			}
			test.edit(in)
			e.out.Reset()
			b.core.Receive(e.now, 1, []core.Frame{in})
			b.pump()
			b.sync()
			if out := e.out.String(); !strings.Contains(out, test.want) {
				t.Errorf("want %q, got:\n%s", test.want, out)
			}
		})
	}
}
