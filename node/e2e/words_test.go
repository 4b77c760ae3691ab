//go:build linux

package e2e

import (
	"fmt"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

// TestReceipts: a publisher hears what became of its messages in each region,
// of every QoS, across restarts and a partition, once and alone.
func TestReceipts(t *testing.T) {
	m := newMesh(t)
	ops, spare := connect5(m.earth, "ops"), connect5(m.relay, "spare")
	ops.subscribe("plant/#")
	spare.subscribe("plant/1")
	plc, spy := connect5(m.luna, "plc"), connect5(m.luna, "spy")
	plc.subscribe("$mesh/receipts/#")
	spy.subscribe("$mesh/receipts/#")
	m.luna.knows(m.earth, "plant/#")
	m.luna.knows(m.relay, "plant/1")

	want := func(topic string, words ...string) {
		t.Helper()
		until(t, func() string {
			return fmt.Sprintf("the words %q at %s, has %d", words, topic, len(plc.arrived(topic)))
		}, func() bool { return len(plc.arrived(topic)) >= len(words) })
		got := map[string]bool{}
		for i, p := range plc.arrived(topic) {
			r := read(t, p)
			if r.Last != (i == len(words)-1) {
				t.Errorf("%s: word %d of %d says last: %t", topic, i+1, len(words), r.Last)
			}
			got[fmt.Sprintf("%s %s %s %d/%d/%d", r.Region, r.State, r.Reason, r.Delivered, r.Expired, r.Refused)] = true
			if string(p.Properties.CorrelationData) != topic {
				t.Errorf("%s: correlation data %q", topic, p.Properties.CorrelationData)
			}
		}
		for _, w := range words {
			if !got[w] {
				t.Errorf("%s: no word %q among %v", topic, w, got)
			}
		}
	}
	for qos := range byte(3) {
		topic := fmt.Sprintf("$mesh/receipts/qos%d", qos)
		plc.publish(qos, "plant/1", "m", asking(topic, 0))
		want(topic, "earth delivered ok 1/0/0", "leo delivered ok 1/0/0")
	}
	plc.publish(1, "nobody", "m", asking("$mesh/receipts/none", 0))
	want("$mesh/receipts/none", "luna refused no-subscriber 0/0/1")

	// It expires while its device is away.
	ops.leave()
	plc.publish(1, "plant/2", "m", asking("$mesh/receipts/late", 2))
	want("$mesh/receipts/late", "earth expired expired 0/1/0")

	// A partition, and a restart of the publisher's node meanwhile.
	m.toLuna.Cut(true)
	plc.publish(1, "plant/3", "m", asking("$mesh/receipts/kept", 0))
	m.luna.kill()
	m.luna.run()
	before := len(plc.got)
	again := connect5(m.luna, "plc")
	m.toLuna.Cut(false)
	connect5(m.earth, "ops")
	plc = again
	want("$mesh/receipts/kept", "earth delivered ok 1/0/0")
	if before != 8 || len(plc.arrived("$mesh/receipts/kept")) != 1 {
		t.Errorf("the publisher has %d words, then %d on the last message; want 8 and 1", before, len(plc.arrived("$mesh/receipts/kept")))
	}
	if n := len(spy.got); n != 0 {
		t.Errorf("another client got %d receipts that are not its own", n)
	}
}

// TestNoResponder: a request that reaches nobody is answered early.
func TestNoResponder(t *testing.T) {
	m := newMesh(t)
	plc := connect5(m.luna, "plc")
	plc.subscribe("answer/#")
	check := func(topic, reason string) {
		t.Helper()
		p := plc.one(topic)
		status, why := p.Properties.User.Get("farhop-status"), p.Properties.User.Get("farhop-reason")
		if status != "no-responder" || why != reason || string(p.Properties.CorrelationData) != topic || len(p.Payload) != 0 {
			t.Errorf("%s: status %q, reason %q, correlation %q, payload %q", topic, status, why, p.Properties.CorrelationData, p.Payload)
		}
	}
	if code := plc.publish(1, "do/it", "?", request("answer/1", 0)); code != 0x10 {
		t.Errorf("a request that nobody is known for is acknowledged with %#x, want 0x10", code)
	}
	check("answer/1", "no-subscriber")
	plc.publish(0, "do/it", "?", request("answer/2", 0))
	check("answer/2", "no-subscriber")

	worker := connect5(m.earth, "worker")
	worker.subscribe("do/#")
	m.luna.knows(m.earth, "do/#")
	worker.leave()
	if code := plc.publish(1, "do/it", "?", request("answer/3", 2)); code != 0 {
		t.Errorf("a request for a responder that is away is acknowledged with %#x", code)
	}
	check("answer/3", "expired")

	// On its way, while the last link is down.
	m.toEarth.Cut(true)
	m.relay.reaches(m.earth, false)
	plc.publish(1, "do/it", "?", request("answer/4", 2))
	check("answer/4", "expired")
	if n := len(plc.arrived("answer/1", "answer/2", "answer/3", "answer/4")); n != 4 {
		t.Errorf("%d early answers, want 4", n)
	}
}

// TestResponses: a response goes to the node of the request.
func TestResponses(t *testing.T) {
	m := newMesh(t)
	worker := connect5(m.earth, "worker")
	worker.subscribe("do/#")
	m.luna.knows(m.earth, "do/#")
	plc := connect5(m.luna, "plc")
	for k := range 3 {
		topic := fmt.Sprintf("answer/%d", k)
		plc.publish(byte(k), fmt.Sprintf("do/%d", k), "?", request(topic, 0))
		ask := worker.one(fmt.Sprintf("do/%d", k))
		if ask.Properties.ResponseTopic != topic {
			t.Fatalf("the request names %q", ask.Properties.ResponseTopic)
		}
		plc.subscribe(topic) // nobody else hears of it before the response
		worker.publish(byte(k), topic, "yes", &paho.PublishProperties{CorrelationData: ask.Properties.CorrelationData})
		if p := plc.one(topic); string(p.Payload) != "yes" || string(p.Properties.CorrelationData) != topic {
			t.Errorf("the response at %s says %q to %q", topic, p.Payload, p.Properties.CorrelationData)
		}
	}
}

// TestRegionState: every node says what it can reach, to its own clients.
func TestRegionState(t *testing.T) {
	m := newMesh(t)
	m.luna.reaches(m.earth, true)
	plc := connect5(m.luna, "plc")
	const earth = "$mesh/region/earth/state"
	sees := func(state string, up int) {
		t.Helper()
		until(t, text("earth to be "+state), func() bool {
			r := read(t, plc.one(earth))
			return r.State == state && r.Nodes.Up == up && r.Nodes.Known == 1 && !r.Since.IsZero()
		})
	}
	until(t, text("the state of earth to be retained"), func() bool { return len(retained(m.luna, earth)) == 1 })
	plc.subscribe("$mesh/region/#")
	sees("reachable", 1)
	if !plc.arrived(earth)[0].Retain {
		t.Error("what a new subscriber gets is not flagged as retained")
	}
	m.toEarth.Cut(true)
	sees("unreachable", 0)
	if last := plc.one(earth); last.Retain {
		t.Error("a change is flagged as retained")
	}
	m.toEarth.Cut(false)
	sees("reachable", 1)

	if code := plc.publish(1, earth, "lie", nil); code != 0x87 {
		t.Errorf("a client publishes the state of a region: reason code %#x, want 0x87", code)
	}
	var all []string // of a client that waits a second for them
	until(t, func() string { return fmt.Sprintf("luna to know of three regions, it says %v", all) }, func() bool {
		all = retained(m.luna, "$mesh/region/+/state")
		return len(all) == 3
	})
}
