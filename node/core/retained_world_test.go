package core_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// keptWorld plays a mesh in which everything goes wrong that may, and knows
// by the simplest means what must be kept in the end: of every topic the
// publication with the latest stamp of those that were acknowledged.
type keptWorld struct {
	t     *testing.T
	seed  uint64
	e     *env
	rng   *rand.Rand
	nodes []string
	links [][2]string
	subs  map[string]map[string]bool // filters by node
	next  int
	all   map[string]*keptPub // by label
	acked map[string]bool
	shown map[string]core.Stamp // by node and topic, since its boot
}

// keptPub is one retained publication.
type keptPub struct {
	label, topic, node string
	stamp              core.Stamp
	empty, dies        bool
}

func (p *keptPub) later(o *keptPub) bool {
	return o == nil || p.stamp > o.stamp || p.stamp == o.stamp && p.node > o.node
}

func newKeptWorld(t *testing.T, seed uint64) *keptWorld {
	w := &keptWorld{
		t: t, seed: seed, e: newEnv(), rng: rand.New(rand.NewPCG(seed, 11)), subs: map[string]map[string]bool{},
		all: map[string]*keptPub{}, acked: map[string]bool{}, shown: map[string]core.Stamp{},
	}
	w.e.onStamp = func(n *enode, label string, s *core.Submission) {
		w.all[label] = &keptPub{label, s.Topic, n.name.String(), s.Stamp, s.Clear, s.TTL > 0}
	}
	w.e.onReply = func(what string, r bundle.Reason) {
		if label, ok := strings.CutPrefix(what, "publish "); ok && (r == bundle.OK || r == bundle.NoSubscriber) {
			w.acked[label] = true
		}
	}
	w.e.onKeep = w.keeps
	count := 3 + w.rng.IntN(3)
	for i := range count {
		w.nodes = append(w.nodes, string(rune('a'+i)))
		w.subs[w.nodes[i]] = map[string]bool{}
		w.e.do("node %s", w.nodes[i])
	}
	for i := 1; i < count; i++ { // a tree, and a link more
		w.link(w.nodes[w.rng.IntN(i)], w.nodes[i])
	}
	if a, b := w.rng.IntN(count), w.rng.IntN(count); a != b && !w.linked(w.nodes[a], w.nodes[b]) {
		w.link(w.nodes[a], w.nodes[b])
	}
	if w.rng.IntN(2) == 0 {
		w.e.do("settings batch=8192")
	}
	if w.rng.IntN(2) == 0 { // many bundles end on their way
		w.e.run(&datadriven.TestData{Cmd: "routes", Input: "# ttl=40s"})
	}
	w.e.do("tick 5s")
	return w
}

func (w *keptWorld) link(a, b string) {
	w.links = append(w.links, [2]string{a, b})
	w.e.do("link %s %s delay=%dms", a, b, 1+w.rng.IntN(400))
}

func (w *keptWorld) linked(a, b string) bool {
	return slices.Contains(w.links, [2]string{a, b}) || slices.Contains(w.links, [2]string{b, a})
}

// keeps checks that a broker never gets an older message after a newer one.
func (w *keptWorld) keeps(n *enode, k core.Keep) {
	key := n.name.String() + " " + k.Topic
	if k.Clear {
		return
	}
	p := w.all[labelOf(k.Blob)]
	if p == nil || p.topic != k.Topic || p.empty {
		w.t.Fatalf("seed %d: %s keeps what nobody published as %s: %s", w.seed, n.name, k.Topic, labelOf(k.Blob))
	}
	if p.stamp < w.shown[key] {
		w.t.Errorf("seed %d: %s keeps %s after a newer message of %s", w.seed, n.name, p.label, k.Topic)
	}
	w.shown[key] = p.stamp
}

var keptFilters = []string{"#", "a/#", "a/+", "b/#", "b/1", "+/1"}

// disturb does one random thing.
func (w *keptWorld) disturb() {
	node := w.nodes[w.rng.IntN(len(w.nodes))]
	l := w.links[w.rng.IntN(len(w.links))]
	switch w.rng.IntN(17) {
	case 16:
		w.e.do("tick 2m")
	case 0:
		w.crash(node)
	case 1:
		w.e.do("down %s %s", l[0], l[1])
	case 2:
		w.e.do("up %s %s", l[0], l[1])
	case 3:
		w.e.do("cut %s %s", l[0], l[1])
	case 4:
		w.e.do("heal %s %s", l[0], l[1])
	case 5, 6:
		w.subscribe(node)
	case 7, 8, 9:
		w.e.do("tick %dms", w.rng.IntN(20_000))
	case 10:
		w.e.do("sync %s", node)
	default:
		w.publish(node)
	}
}

func (w *keptWorld) crash(node string) {
	skew := ""
	if w.rng.IntN(3) == 0 { // its clock is another when it comes back
		skew = fmt.Sprintf(" skew=%ds", w.rng.IntN(2400)-1200)
	}
	w.e.do("crash %s%s", node, skew)
	for key := range w.shown {
		if strings.HasPrefix(key, node+" ") {
			delete(w.shown, key) // what was not durable was not acknowledged
		}
	}
	for filter := range w.subs[node] { // its subscriptions may be gone, too
		w.resubscribe(node, filter)
	}
}

func (w *keptWorld) subscribe(node string) {
	f := keptFilters[w.rng.IntN(len(keptFilters))]
	if w.subs[node][f] {
		delete(w.subs[node], f)
		w.e.do("unsubscribe %s dev-%s %s", node, node, f)
		return
	}
	w.subs[node][f] = true
	w.resubscribe(node, f)
}

func (w *keptWorld) resubscribe(node, filter string) {
	w.e.do("connect %s dev-%s auto", node, node)
	w.e.do("subscribe %s dev-%s %s qos=%d auto", node, node, filter, w.rng.IntN(3))
	w.e.do("sync %s", node)
}

func (w *keptWorld) publish(node string) {
	topic := []string{"a/1", "a/2", "a/b/3", "b/1", "b/2"}[w.rng.IntN(5)]
	w.next++
	more := fmt.Sprintf(" qos=%d", w.rng.IntN(3))
	switch w.rng.IntN(5) {
	case 0, 1:
		more += " clear"
	case 2:
		more += " ttl=90s"
	}
	if w.rng.IntN(4) == 0 {
		more += " size=300"
	}
	w.e.do("publish %s %s p%d retain%s", node, topic, w.next, more)
}

// calm repairs everything and gives it time.
func (w *keptWorld) calm() {
	for _, l := range w.links {
		w.e.do("heal %s %s", l[0], l[1])
		w.e.do("up %s %s", l[0], l[1])
	}
	w.e.do("tick 100m")
}

// onDisk is what a node keeps of a topic, nil for nothing.
func (w *keptWorld) onDisk(n *enode) map[string]core.Retained {
	out := map[string]core.Retained{}
	err := n.store.State(core.RetainedPrefix, func(key string, value []byte) error {
		r, err := core.ParseRetained(value)
		if r.Block != nil {
			r.Block = slices.Clone(r.Block)
		}
		out[strings.TrimPrefix(key, core.RetainedPrefix)] = r
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *keptWorld) wants(node, topic string) bool {
	for f := range w.subs[node] {
		if interest.Match(f, topic) {
			return true
		}
	}
	return false
}

// judge compares what every node keeps with what it must keep.
func (w *keptWorld) judge() {
	best := map[string]*keptPub{}
	for label, p := range w.all {
		if w.acked[label] && p.later(best[p.topic]) {
			best[p.topic] = p
		}
	}
	disks := map[string]map[string]core.Retained{}
	for _, n := range w.e.nodes {
		disks[n.name.String()] = w.onDisk(n)
	}
	// One that was on the disk or on its way when its node crashed before the
	// acknowledgement counts where it got through, and then everywhere.
	for label, p := range w.all {
		for _, name := range w.nodes {
			if r, ok := disks[name][p.topic]; ok && r.Stamp == p.stamp && r.Node.String() == p.node && p.later(best[p.topic]) {
				best[p.topic] = w.all[label]
			}
		}
	}
	for topic, p := range best {
		for _, n := range w.e.nodes {
			name := n.name.String()
			if w.wants(name, topic) {
				w.judgeOne(n, topic, p, disks[name])
			}
		}
	}
}

func (w *keptWorld) judgeOne(n *enode, topic string, p *keptPub, disk map[string]core.Retained) {
	want := p.label
	if p.empty || p.dies {
		want = ""
	}
	if got := n.broker[topic]; got != want {
		w.t.Errorf("seed %d: %s shows %q as %s, want %q of %s (%d)", w.seed, n.name, got, topic, want, p.node, p.stamp)
	}
	r, ok := disk[topic]
	if want == "" && !ok {
		return // over before it came this far
	}
	if label := labelOf(&store.Blob{B: r.Block}); r.Stamp != p.stamp || r.Node.String() != p.node || want != "" && label != want {
		w.t.Errorf("seed %d: %s has %s of %s (%d) as %s on disk, want %s of %s (%d)",
			w.seed, n.name, label, r.Node, r.Stamp, topic, p.label, p.node, p.stamp)
	}
}

// steps is how many steps of comparisons were sent so far.
func (w *keptWorld) steps() (n uint64) {
	for _, e := range w.e.nodes {
		n += e.core.Stats().Compared
	}
	return n
}

// TestRetainedWorlds: after every partition, crash and step of a clock, the
// nodes that want a topic agree on its newest message, or that it was deleted;
// then they have nothing more to say to each other.
func TestRetainedWorlds(t *testing.T) {
	var given, stale uint64
	for seed := range uint64(16) {
		w := newKeptWorld(t, seed)
		for range 150 {
			w.disturb()
		}
		w.calm()
		w.judge()
		steps := w.steps()
		w.e.do("tick 2h")
		if w.steps() != steps {
			t.Errorf("seed %d: %d steps more in peace", seed, w.steps()-steps)
		}
		for _, n := range w.e.nodes {
			given += n.core.Stats().Given
			stale += n.core.Stats().RetainedStale
		}
		if t.Failed() {
			for _, name := range w.nodes {
				t.Logf("%s wants %v\n%s", name, slices.Sorted(maps.Keys(w.subs[name])), w.e.do("retained %s state", name)+w.e.do("stats %s", name))
			}
			return
		}
	}
	if given == 0 || stale == 0 {
		t.Errorf("%d messages came by comparison, %d too late: this tests nothing", given, stale)
	}
}
