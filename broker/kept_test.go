package broker

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/interest"
)

func newStore(t testing.TB) *retainedStore {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &retainedStore{metrics: m, maxCount: math.MaxInt, maxBytes: math.MaxInt}
}

// found walks to the end.
func (r *retainedStore) found(filter string) (out []string) {
	w := r.begin(Subscription{Filter: filter}, time.Now())
	for w != nil {
		switch m := r.next(w); {
		case m != nil:
			out = append(out, m.Topic)
		case w.ended:
			return out
		default:
			r.more(w, time.Now())
		}
	}
	return out
}

var (
	keptLevel  = rapid.SampledFrom([]string{"a", "b", "", "a!", "a0", "a ", "$x"})
	keptTopics = rapid.Custom(func(t *rapid.T) string {
		return "k" + strings.Join(rapid.SliceOfN(keptLevel, 1, 4).Draw(t, "levels"), "/")
	})
	dollars     = rapid.SampledFrom([]string{"$x", "$x/a", "$y/a/b", "a", "/", "/a"})
	keptFilters = rapid.Custom(func(t *rapid.T) string {
		l := rapid.SliceOfN(rapid.OneOf(keptLevel, rapid.Just("+")), 1, 4).Draw(t, "levels")
		if l[0] != "+" && l[0] != "$x" {
			l[0] = "k" + l[0]
		}
		switch rapid.IntRange(0, 3).Draw(t, "multi") {
		case 0:
			l = append(l, "#")
		case 1:
			return "#"
		}
		return strings.Join(l, "/")
	})
)

// TestWalk compares what walks find with interest.Match on every topic, while
// topics come and go.
func TestWalk(t *testing.T) {
	metrics := newStore(t).metrics
	rapid.Check(t, func(t *rapid.T) {
		r := retainedStore{metrics: metrics}
		model := map[string]string{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				topic := rapid.OneOf(keptTopics, dollars).Draw(t, "topic")
				payload := rapid.SampledFrom([]string{"x", "yy", "", strings.Repeat("large", packMax)}).Draw(t, "payload")
				m := &Message{Topic: topic, Payload: []byte(payload), QoS: 1}
				if rapid.Bool().Draw(t, "full") {
					m.ContentType = "text"
				}
				r.mu.Lock()
				r.put(m)
				r.mu.Unlock()
				if model[topic] = payload; payload == "" {
					delete(model, topic)
				}
			},
			"find": func(t *rapid.T) {
				filter := rapid.OneOf(keptFilters, dollars).Draw(t, "filter")
				var want []string
				for topic := range model {
					if interest.Match(filter, topic) {
						want = append(want, topic)
					}
				}
				got := r.found(filter)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%q: got %q, want %q", filter, got, want)
				}
			},
			"": func(t *rapid.T) {
				bytes := 0
				for topic, payload := range model {
					k := r.list.get(topic)
					if k == nil || string(r.message(k).Payload) != payload || r.message(k).QoS != 1 {
						t.Fatalf("%q is not kept as it was put", topic)
					}
					bytes += r.size(k)
				}
				if r.list.count != len(model) || r.bytes != bytes {
					t.Fatalf("%d messages of %d bytes, want %d of %d", r.list.count, r.bytes, len(model), bytes)
				}
			},
		})
	})
}

// TestKeptListBlocks: blocks split and join, whatever the order.
func TestKeptListBlocks(t *testing.T) {
	const n = 6 * blockSize
	for _, c := range []struct {
		name string
		step int
	}{{"ascending", 1}, {"descending", n - 1}, {"mixed", 7919}} {
		t.Run(c.name, func(t *testing.T) {
			var l keptList
			topic := func(i int) string { return fmt.Sprintf("%06d", i*c.step%n) }
			for i := range n {
				k, _ := newKept(&Message{Topic: topic(i), Payload: []byte("x")}, 1)
				if old := l.put(k); old != nil {
					t.Fatalf("%s replaced %s", topic(i), old.text)
				}
			}
			if c.step == 1 && len(l.blocks) != n/blockSize {
				t.Errorf("%d blocks, want %d full ones", len(l.blocks), n/blockSize)
			}
			for i := range n {
				if i%10 != 0 && l.remove(topic(i)) == nil || l.remove("none") != nil {
					t.Fatalf("%s is not there", topic(i))
				}
			}
			if len(l.blocks) > 4*(l.count/blockSize+1) {
				t.Errorf("%d blocks for %d messages", len(l.blocks), l.count)
			}
			last := ""
			for k, p := l.at(place{}); k != nil; k, p = l.at(place{p.block, p.at + 1}) {
				if k.name() <= last {
					t.Fatalf("%s comes after %s", k.name(), last)
				}
				last = k.name()
				l.count--
			}
			if l.count != 0 {
				t.Errorf("%d messages are counted that are not there", l.count)
			}
		})
	}
}

// TestWalkSkips: a filter with few matches does not pass a hundred thousand
// topics beside them.
func TestWalkSkips(t *testing.T) {
	r := newStore(t)
	for i := range 100_000 {
		r.put(&Message{Topic: fmt.Sprintf("plant/%d/%06d/temp", i%3, i), Payload: []byte("x")})
	}
	for i := range 3 {
		r.put(&Message{Topic: fmt.Sprintf("plant/%d/state", i), Payload: []byte("x")})
	}
	for _, filter := range []string{"plant/+/state", "plant/1/state", "plant/+", "+/+/state", "plant/+/state/#"} {
		w := &walk{filter: filter, upTo: r.changes}
		r.more(w, time.Now())
		if !w.ended {
			t.Errorf("%s: not over after %d topics", filter, walkSteps)
		}
	}
	if got := r.found("plant/+/state"); len(got) != 3 {
		t.Errorf("found %q", got)
	}
}

// TestWalkSeesNoLaterChange: what is set after the subscription comes as a live
// message, and not once more; few come in the order in which they were set.
func TestWalkSeesNoLaterChange(t *testing.T) {
	r := newStore(t)
	for _, topic := range []string{"c", "a", "b"} {
		r.put(&Message{Topic: topic, Payload: []byte("x")})
	}
	if got := r.found("+"); !slices.Equal(got, []string{"c", "a", "b"}) {
		t.Errorf("got %q, want them as they were set", got)
	}
	for i := range 2 * inOrder {
		r.put(&Message{Topic: fmt.Sprintf("m/%04d", i), Payload: []byte("x")})
	}
	w := r.begin(Subscription{Filter: "m/#"}, time.Now())
	r.put(&Message{Topic: "m/0001", Payload: []byte("new")})
	r.put(&Message{Topic: "m/0500", Payload: []byte("new")})
	r.put(&Message{Topic: "m/0501"})
	r.put(&Message{Topic: "m/9999", Payload: []byte("new")})
	n := 0
	for !w.ended || len(w.buf) > 0 {
		m := r.next(w)
		if m == nil {
			r.more(w, time.Now())
			continue
		}
		if n++; string(m.Payload) != "x" {
			t.Errorf("%s came, which was set later", m.Topic)
		}
	}
	if n != 2*inOrder-3 {
		t.Errorf("%d came, want %d", n, 2*inOrder-3)
	}
}

// TestSweep drops what expired, and that alone.
func TestSweep(t *testing.T) {
	r, now := newStore(t), time.Now()
	for i := range 3 * walkSteps {
		m := &Message{Topic: fmt.Sprint("t/", i), Payload: []byte("x"), Received: now}
		if i%2 == 0 {
			m.Expiry = 10
		}
		r.put(m)
	}
	r.sweep(now.Add(9 * time.Second))
	if r.list.count != 3*walkSteps {
		t.Fatalf("%d left before the time", r.list.count)
	}
	r.sweep(now.Add(time.Minute))
	if r.list.count != 3*walkSteps/2 || r.dying != 0 {
		t.Errorf("%d left, of which %d can expire", r.list.count, r.dying)
	}
}

// BenchmarkWalk sends a million retained messages, and asks for one.
func BenchmarkWalk(b *testing.B) {
	r := newStore(b)
	for i := range 1_000_000 {
		r.put(&Message{Topic: fmt.Sprintf("site/%02d/sensor/%06d/temp", i%50, i), Payload: make([]byte, 64)})
	}
	for _, filter := range []string{"#", "site/7/sensor/000007/temp", "site/+/sensor/000007/temp"} {
		b.Run(strings.ReplaceAll(filter, "/", "."), func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = len(r.found(filter))
			}
			b.ReportMetric(float64(n), "messages")
		})
	}
}
