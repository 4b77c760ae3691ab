package sim

import (
	"testing"

	"github.com/farhop/farhop/sim/scenario"
)

// Small worlds in which stores fill, operators act and disks lie. Chaos draws
// the same at random; here each is met for certain, and soon.
const (
	tightWorld = `
name: tight
duration: 40m
drains: true
order_wait: 1m
nodes:
- {name: a, region: x, quotas: [{name: devices, each: client, count: 12}, {name: all, client: "*", bytes: 9000}]}
- {name: r, region: x}
- {name: b, region: x, quotas: [{name: peers, each: peer, count: 30}, {name: nodes, peer: "*", bytes: 6000}]}
links: [{between: [a, r], delay: 20ms}, {between: [r, b], delay: 20ms, cuts: [{at: 3m, for: 4m}]}]
subscribers: [{node: b, client: sub, filter: "#", qos: 1, offline: [{at: 5m, for: 8m}]}]
publishers:
- {node: a, client: one, topic: t/1, qos: 1, every: 5s, size: 200, bursts: [{at: 4m, n: 40}]}
- {node: a, client: two, topic: t/2, qos: 2, every: 7s, size: 400}
- {node: r, client: three, topic: t/3, qos: 1, every: 3s, size: 100}
crashes: [{node: a, at: 4m30s, for: 5s}, {node: b, at: 9m, for: 10s}]
`
	fullWorld = `
name: full
duration: 40m
drains: true
order_wait: 1m
nodes: [{name: a, region: x, bytes: 20000}, {name: r, region: x}, {name: b, region: x}]
links: [{between: [a, r], delay: 20ms, cuts: [{at: 3m, for: 6m}]}, {between: [r, b], delay: 20ms}]
routes: [{name: fresh, topic: "t/#", on_full: drop-oldest, class: telemetry}]
subscribers: [{node: b, client: sub, filter: "#", qos: 1}]
publishers:
- {node: a, client: one, topic: t/1, qos: 1, every: 5s, size: 600}
- {node: a, client: two, topic: s/2, qos: 1, every: 4s, size: 300, class: bulk}
- {node: a, client: three, topic: s/3, qos: 1, every: 40s, size: 300, class: alarm}
- {node: a, client: five, topic: s/5, qos: 1, every: 6s, size: 300, class: telemetry}
- {node: r, client: four, topic: s/4, qos: 1, every: 1s, size: 60, class: alarm, bursts: [{at: 9m, n: 120}]}
crashes: [{node: a, at: 8m, for: 5s}]
`
	operatedWorld = `
name: operated
duration: 40m
drains: true
order_wait: 1m
nodes: [{name: a, region: x, window: 8, quotas: [{name: devices, each: client, count: 5000}]}, {name: r, region: x, window: 8}, {name: b, region: x, window: 8}]
links: [{between: [a, r], delay: 20ms, cuts: [{at: 3m, for: 4m}]}, {between: [r, b], delay: 20ms, cuts: [{at: 8m, for: 3m}]}]
subscribers: [{node: b, client: sub, filter: "#", qos: 1, offline: [{at: 12m, for: 8m}]}]
publishers:
- {node: a, client: one, topic: t/1, qos: 1, every: 2s, size: 100}
- {node: a, client: two, topic: t/2, qos: 2, every: 9s, size: 100, class: alarm}
faults:
- {kind: damage, node: a, at: 4m, nth: 4}
- {kind: purge, node: a, at: 5m, queue: node, class: telemetry, by: 1m}
- {kind: retry, node: a, at: 5m}
- {kind: crash, node: r, at: 8m30s, for: 2s}
- {kind: damage, node: r, at: 9m, nth: 12}
- {kind: purge, node: r, at: 10m, queue: one}
- {kind: purge, node: b, at: 14m, queue: session, by: 20s}
- {kind: damage, node: b, at: 15m, nth: 5}
- {kind: purge, node: b, at: 18m, by: 30s}
`
	sharedWorld = `
name: shared
duration: 20m
drains: true
order_wait: 1m
batch: {max: 4096, wait: 20s}
nodes:
- {name: a, region: x, quotas: [{name: each, each: client, count: 500}, {name: all, client: "*", count: 20}]}
- {name: r, region: x}
- {name: b, region: x}
links: [{between: [a, r], delay: 20ms, cuts: [{at: 2m, for: 4m}]}, {between: [r, b], delay: 20ms}]
subscribers: [{node: b, client: sub, filter: "#", qos: 1, offline: [{at: 3m, for: 3m}]}]
publishers:
- {node: a, client: one, topic: t/1, qos: 1, every: 700ms, size: 60}
- {node: a, client: two, topic: t/2, qos: 1, every: 900ms, size: 60, class: alarm}
`
	handedWorld = `
name: handed
duration: 20m
drains: true
order_wait: 1m
batch: {max: 4096, wait: 20s}
nodes: [{name: a, region: x}, {name: r, region: x, quotas: [{name: p, each: peer, count: 40}]}, {name: b, region: x}]
links: [{between: [a, r], delay: 20ms, cuts: [{at: 2m, for: 4m}]}, {between: [r, b], delay: 20ms, cuts: [{at: 3m, for: 3m30s}]}]
subscribers: [{node: b, client: sub, filter: "#", qos: 1, offline: [{at: 3m, for: 3m}]}]
publishers:
- {node: a, client: one, topic: t/1, qos: 1, every: 700ms, size: 60}
- {node: a, client: two, topic: t/2, qos: 1, every: 900ms, size: 60, class: alarm}
`
	joinedWorld = `
name: joined
duration: 20m
drains: true
order_wait: 1m
batch: {max: 4096, wait: 3s}
nodes: [{name: a, region: x}, {name: r, region: x}, {name: b, region: x}]
links: [{between: [a, r], delay: 20ms}, {between: [r, b], delay: 20ms}]
subscribers: [{node: b, client: sub, filter: "#", qos: 1}]
publishers:
- {node: a, client: one, topic: t/1, qos: 1, every: 700ms, size: 60}
- {node: a, client: two, topic: t/2, qos: 1, every: 4s, size: 60, outside: true}
faults:
- {kind: crash, node: a, at: 2m, for: 3s}
- {kind: crash, node: a, at: 4m, on: stage, for: 3s, torn: true}
- {kind: crash, node: a, at: 5m, on: reply, nth: 2, for: 3s}
- {kind: crash, node: a, at: 6m, on: reply, nth: 3, for: 3s}
- {kind: crash, node: r, at: 7m, on: ack, for: 3s}
- {kind: crash, node: b, at: 8m, on: sync, for: 3s}
`
)

// TestStores plays them under every law.
func TestStores(t *testing.T) {
	for _, c := range []struct {
		name, text string
		met        []string
	}{
		{"tight", tightWorld, []string{"refused by quota"}},
		{"full", fullWorld, []string{"refused by a full store", "displaced", "out of turn"}},
		{"operated", operatedWorld, []string{"purged", "damaged", "retried"}},
		{"shared", sharedWorld, []string{"refused by quota", "batched"}},
		{"handed", handedWorld, []string{"refused by quota", "batched"}},
		{"joined", joinedWorld, []string{"batched", "open at a crash", "known by key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := scenario.Parse(c.name+".yaml", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(2) {
				r, err := Run(w, seed, Option{})
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range r.Violations() {
					t.Errorf("seed %d: %s", seed, v)
				}
				if r.Delivered+r.EndedElse != r.Expected || r.Delivered < 100 {
					t.Errorf("seed %d: %d of %d delivered, %d ended otherwise", seed, r.Delivered, r.Expected, r.EndedElse)
				}
				met := features(r)
				for _, what := range c.met {
					if met[what] == 0 {
						t.Errorf("seed %d: nothing was %s: %+v", seed, what, *r)
					}
				}
			}
		})
	}
}

// features counts what worlds of faults have to meet beside crashes and cuts.
func features(r *Report) map[string]uint64 {
	return map[string]uint64{
		"refused by quota": r.OverQuota, "refused by a full store": r.StoreFull, "displaced": r.Displaced, "purged": r.Purged,
		"damaged": r.Damaged, "batched": r.Batches, "open at a crash": r.OpenAtCrash, "known by key": r.KeysKnown,
		"out of turn": r.OutOfTurn, "retried": r.Retries,
	}
}
