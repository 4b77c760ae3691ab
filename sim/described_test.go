package sim_test

import (
	"os"
	"testing"

	"github.com/farhop/farhop/sim"
	"github.com/farhop/farhop/sim/emulator/desc"
	"github.com/farhop/farhop/sim/scenario"
)

const described = `name: described
duration: 20m
drains: true
nodes: [{name: luna, region: luna}, {name: relay, region: leo}]
links: [{between: [luna, relay], delay: 300ms}]
subscribers: [{node: relay, client: ops, filter: "#", qos: 1}]
publishers: [{node: luna, client: plc, topic: a/b, qos: 1, every: 1s, size: 10000}]
`

// TestDescribed plays a world with and without the link that all who read
// descriptions play in their tests: with it messages wait for contacts, for the
// rate and for what was lost, and all of them arrive.
func TestDescribed(t *testing.T) {
	data, err := os.ReadFile("emulator/desc/testdata/trouble.yaml")
	if err != nil {
		t.Fatal(err)
	}
	links, err := desc.ParseLinks("trouble.yaml", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	latency := func(change func(*desc.Named)) float64 {
		w, err := scenario.Parse("described", []byte(described))
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			n := links[0]
			change(&n)
			if err := w.Relink([]desc.Named{n}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := sim.Run(w, 1, sim.Option{})
		if err != nil {
			t.Fatal(err)
		}
		if bad := r.Violations(); len(bad) > 0 || r.Delivered == 0 {
			t.Errorf("%d delivered, broken: %v", r.Delivered, bad)
		}
		return r.MeanLatency
	}
	plain := latency(nil)
	for name, only := range map[string]func(*desc.Named){
		"all of it": func(*desc.Named) {},
		"loss":      func(n *desc.Named) { n.Up.Rate, n.Up.Contacts, n.Down.Contacts = 0, desc.Schedule{}, desc.Schedule{} },
		"rate": func(n *desc.Named) {
			n.Up.Loss, n.Up.Burst, n.Up.Contacts, n.Down.Contacts = 0, 0, desc.Schedule{}, desc.Schedule{}
		},
		"contacts": func(n *desc.Named) { n.Up.Loss, n.Up.Burst, n.Up.Rate = 0, 0, 0 },
	} {
		if got := latency(only); got < 1.05*plain {
			t.Errorf("%s: messages took %.3f s on average, and %.3f s without", name, got, plain)
		}
	}
}
