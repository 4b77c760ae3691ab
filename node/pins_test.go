package node

import (
	"fmt"
	"testing"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/routing/addr"
)

// TestPins: the origin of a request is known by response topic and correlation
// data, for as long as it lives and there is room.
func TestPins(t *testing.T) {
	self, a, b := addr.MustNode("self"), addr.MustNode("a"), addr.MustNode("b")
	p := newPins(self)
	request := func(topic, correlation string) *broker.Message {
		return &broker.Message{Topic: "do", ResponseTopic: topic, CorrelationData: []byte(correlation)}
	}
	response := func(topic, correlation string) addr.Node {
		return p.origin(&broker.Message{Topic: topic, CorrelationData: []byte(correlation)})
	}
	p.note(request("r", "1"), a, 60_000)
	p.note(request("r", "2"), b, 60_000)
	p.note(request("own", "1"), self, 60_000)
	p.note(request("over", "1"), a, 0)
	p.note(request("", "1"), a, 60_000)
	for _, c := range []struct {
		topic, correlation string
		want               addr.Node
	}{
		{"r", "1", a},
		{"r", "2", b},
		{"r", "3", addr.Node{}},
		{"r", "", addr.Node{}},
		{"own", "1", addr.Node{}},
		{"over", "1", addr.Node{}},
	} {
		if got := response(c.topic, c.correlation); got != c.want {
			t.Errorf("a response at %q with %q goes to %q, want %q", c.topic, c.correlation, got, c.want)
		}
	}
	if !p.wants("r") || p.wants("own") || p.wants("x") {
		t.Error("topics with a request that waits: want r alone")
	}
	for k := range maxPins {
		p.note(request(fmt.Sprint("many/", k), ""), a, 60_000)
	}
	if p.wants("r") || len(p.of) != maxPins || len(p.topics) != maxPins || p.dropped.Load() != 2 {
		t.Errorf("%d requests of %d topics, %d forgotten; want %d, and the oldest two gone", len(p.of), len(p.topics), p.dropped.Load(), maxPins)
	}
}
