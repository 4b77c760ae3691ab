package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestWalkGoesOn: a walk for a persistent session ends at any piece, as it does
// when the node is killed, and goes on from what the node noted. Each message
// comes once; of few that are large the first ones may come again.
func TestWalkGoesOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ count, size int }{{3, 10}, {100, 10}, {256, 10}, {1500, 10}, {700, 20_000}, {200, 20_000}} {
		t.Run(fmt.Sprintf("%d of %d bytes", tt.count, tt.size), func(t *testing.T) {
			b := &Broker{retained: &retainedStore{metrics: newStore(t).metrics, maxCount: 1 << 20, maxBytes: 1 << 30}}
			n := &cutNode{left: 1}
			b.node = n
			var want []string
			for i := range tt.count {
				m := &Message{Topic: fmt.Sprintf("w/%04d", i*7919%tt.count), Payload: make([]byte, tt.size), QoS: 1}
				b.SetRetained(m)
				want = append(want, m.Topic)
			}
			sub := Subscription{Filter: "w/#", QoS: 1}
			b.queueRetained(granted{b.retained.begin(sub, time.Now()), Walk{ID: 1, Client: "c", Sub: sub}})
			pieces := 1
			for ; !n.at.Ended; pieces++ {
				if n.left = 1; pieces > tt.count {
					t.Fatal("the walk does not end")
				}
				b.Resume(n.at)
				b.work.Wait()
			}
			slices.Sort(n.topics)
			slices.Sort(want)
			if tt.count <= inOrder && tt.count*tt.size > pieceBytes {
				n.topics = slices.Compact(n.topics)
			}
			if !slices.Equal(n.topics, want) {
				t.Errorf("%d messages came in %d pieces, want %d, each once", len(n.topics), pieces, len(want))
			}
		})
	}
}

// cutNode takes so many pieces, and then, as one that is dead, none.
type cutNode struct {
	Node

	left   int
	at     Walk
	topics []string
}

func (n *cutNode) SubmitTo(w Walk, all []*Message) {
	if n.left--; n.left < 0 {
		return
	}
	n.at = w
	for _, m := range all {
		n.topics = append(n.topics, m.Topic)
	}
}

// TestWalkIsNoted: the node knows of a walk before the SUBACK, and that it
// ended when all is queued.
func TestWalkIsNoted(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for i := range 600 {
		w.b.SetRetained(&Message{Topic: fmt.Sprint("n/", i), Payload: []byte("x"), QoS: 1})
	}
	c := w.connect("noted", 4, persistent)
	c.subscribe(1, "n/#")
	w.node.mu.Lock()
	walked := w.node.walked
	w.node.mu.Unlock()
	if walked != 1 {
		t.Fatalf("%d walks were noted when the SUBACK came, want 1", walked)
	}
	w.b.work.Wait()
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	if len(w.node.walks) != 0 {
		t.Errorf("walks %+v did not end", w.node.walks)
	}
}
