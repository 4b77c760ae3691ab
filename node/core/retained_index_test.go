package core

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// The index finds what was added and not removed, through collisions, growth,
// and removals from the middle of a run of slots.
func TestTopicIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x := newTopicIndex()
	want := map[string]*holding{}
	for step := range 30_000 {
		topic := fmt.Sprint("t/", r.IntN(600))
		switch k := x.get(topic); {
		case k != want[topic]:
			t.Fatalf("step %d: %s is %v, want %v", step, topic, k, want[topic])
		case k == nil && (step/5000)%2 == 0 || k == nil && r.IntN(3) == 0:
			k = &holding{topic: topic}
			x.add(k)
			want[topic] = k
		case k != nil && ((step/5000)%2 == 1 || r.IntN(3) == 0):
			x.remove(k)
			delete(want, topic)
		}
	}
	for topic, k := range want {
		if x.get(topic) != k || x.list[k.at] != k {
			t.Errorf("%s is %v at %d", topic, x.get(topic), k.at)
		}
	}
	if len(x.list) != len(want) {
		t.Errorf("%d in the list, want %d", len(x.list), len(want))
	}
	for k := range maps.Values(want) {
		x.remove(k)
	}
	for s, at := range x.slots {
		if at != 0 {
			t.Errorf("slot %d is taken when all is gone", s)
		}
	}
}
