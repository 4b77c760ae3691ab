package core_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// receiptsWorld is a random mesh of three regions whose publishers ask for
// receipts of everything, with every accident but the loss of a disk.
type receiptsWorld struct {
	t       *testing.T
	e       *env
	r       *rand.Rand
	calm    bool                            // no node crashes
	grouped map[string]bool                 // messages that a group may move to a region that had its word
	asked   map[string]bool                 // messages that were taken
	last    map[string]bool                 // messages of which the last word was said
	words   map[string]map[string]core.Word // by message and region, the last
	carried map[string]map[bundle.ID]bool   // deliveries of words, by label
	got     map[string]map[string]bool      // regions where a device was offered a message
	took    map[string]map[string]bool      // where one acknowledged it
	regions map[string]string               // by node
	online  map[string]bool                 // devices
}

const receiptsNodes = 5

func newReceiptsWorld(t *testing.T, seed uint64) *receiptsWorld {
	w := &receiptsWorld{
		t: t, e: newEnv(), r: rand.New(rand.NewPCG(seed, 11)), asked: map[string]bool{}, last: map[string]bool{}, words: map[string]map[string]core.Word{},
		carried: map[string]map[bundle.ID]bool{}, got: map[string]map[string]bool{},
		regions: map[string]string{}, took: map[string]map[string]bool{}, calm: seed%2 == 1, grouped: map[string]bool{}, online: map[string]bool{},
	}
	e := w.e
	e.settings.TTL, e.settings.OrderWait = 10*time.Minute, time.Minute
	for k := range receiptsNodes {
		w.regions[nodeName(k)] = []string{"luna", "earth/eu", "earth/us"}[k%3]
		e.do("node %s region=%s", nodeName(k), w.regions[nodeName(k)])
	}
	for k := 1; k < receiptsNodes; k++ {
		e.do("link %s %s delay=20ms", nodeName(w.r.IntN(k)), nodeName(k))
	}
	e.do("link n0 n4 delay=50ms")
	e.onReply = func(what string, r bundle.Reason) {
		if label, ok := strings.CutPrefix(what, "publish "); ok && (r == bundle.OK || r == bundle.NoSubscriber) {
			w.asked[label] = true
		}
	}
	e.onWord = func(n *enode, word core.Word) {
		label := e.label(word.Message)
		if _, known := w.words[label][word.Region.String()]; w.last[label] && !known {
			t.Errorf("seed %d: the word on %s in %s comes after the last one", seed, label, word.Region)
		}
		w.last[label] = w.last[label] || word.Last
		mark(w.words, label, word.Region.String(), word)
	}
	e.onDeliver = func(client, label string, d core.Delivery) {
		if strings.HasPrefix(label, "word:") {
			mark(w.carried, label, d.Header.Message, true)
			return
		}
		if d.Service != "" {
			client = "any" // of the live at some node
		}
		mark(w.got, label, w.home(client), true)
	}
	e.onLive = func(n *enode, l core.Live) { mark(w.got, labelOf(l.Blob), w.regions[n.name.String()], true) }
	e.onSettle = func(client, label string) { mark(w.took, label, w.home(client), true) }
	for k := range receiptsNodes {
		e.do("subscribe %s plc-%s rc/# auto", nodeName(k), nodeName(k))
		e.node(nodeName(k)).device("live").auto = true
		for d := range 2 {
			w.connect(k, d)
		}
	}
	e.stabilize()
	return w
}

func nodeName(k int) string { return fmt.Sprintf("n%d", k) }

func mark[A, B comparable, V any](m map[A]map[B]V, a A, b B, v V) {
	if m[a] == nil {
		m[a] = map[B]V{}
	}
	m[a][b] = v
}

// home is the region of a device.
func (w *receiptsWorld) home(client string) string {
	_, node, _ := strings.Cut(client, "-")
	node, _, _ = strings.Cut(node, "-")
	return w.regions[node]
}

func (w *receiptsWorld) connect(k, d int) {
	name := fmt.Sprintf("dev-%s-%d", nodeName(k), d)
	w.e.do("connect %s %s auto", nodeName(k), name)
	w.e.do("subscribe %s %s %s qos=%d", nodeName(k), name, w.filter(), w.r.IntN(3))
	w.online[name] = true
}

func (w *receiptsWorld) filter() string {
	return []string{"a/#", "a/1", "+/2", "b/1", "$share/g/a/#", "$share/h/b/+", "c/#"}[w.r.IntN(7)]
}

func (w *receiptsWorld) step(n int) {
	e, r := w.e, w.r
	k, d := r.IntN(receiptsNodes), r.IntN(2)
	node, dev := nodeName(k), fmt.Sprintf("dev-n%d-%d", k, d)
	switch r.IntN(12) {
	case 0:
		if l := e.links[r.IntN(len(e.links))]; l.id != 0 {
			l.end(nil)
		} else {
			l.up()
		}
	case 1:
		if w.online[dev] {
			e.do("disconnect %s %s", node, dev)
			w.online[dev] = false
		} else {
			w.connect(k, d)
		}
	case 2:
		if w.online[dev] {
			e.do("unsubscribe %s %s %s", node, dev, w.filter())
		}
	case 3:
		if r.IntN(3) == 0 {
			w.crash(k)
		}
	case 4:
		if w.online[dev] && r.IntN(2) == 0 {
			e.do("disconnect %s %s expiry=0", node, dev)
			w.online[dev] = false
		}
	case 5, 6:
		e.do("tick %dms", 1+r.IntN(20_000))
	default:
		topic := []string{"a/1", "a/2", "b/1", "c/1", "x/2", "none"}[r.IntN(6)]
		to := ""
		if r.IntN(6) == 0 {
			to = " only=" + []string{"luna", "earth", "earth/us"}[r.IntN(3)]
		}
		label := fmt.Sprintf("m%d", n)
		w.grouped[label] = topic[0] == 'a' || topic[0] == 'b'
		if w.online["dev-"+node+"-0"] || w.online["dev-"+node+"-1"] {
			mark(w.got, label, w.regions[node], true) // its broker hands it to the live, unseen
		}
		e.do("publish %s %s %s client=plc-%s receipts=rc/x qos=%d ttl=%ds%s", node, topic, label, node, r.IntN(3), 1+r.IntN(60), to)
	}
}

func (w *receiptsWorld) crash(k int) {
	if w.calm {
		return
	}
	w.e.do("crash %s", nodeName(k))
	for d := range 2 {
		w.online[fmt.Sprintf("dev-n%d-%d", k, d)] = false
	}
	w.e.do("connect %s plc-%s auto", nodeName(k), nodeName(k))
}

// settle heals everything and waits until all words are final.
func (w *receiptsWorld) settle() {
	for _, l := range w.e.links {
		if l.id == 0 {
			l.up()
		}
	}
	for k := range receiptsNodes {
		for d := range 2 {
			if !w.online[fmt.Sprintf("dev-n%d-%d", k, d)] {
				w.connect(k, d)
			}
		}
	}
	w.e.do("tick 45m")
}

func (w *receiptsWorld) judge(seed uint64) {
	t := w.t
	for label := range w.asked {
		if len(w.words[label]) == 0 {
			t.Errorf("seed %d: nobody said what became of %s", seed, label)
		}
	}
	for label, by := range w.words {
		for region, word := range by {
			switch {
			case word.State == core.Unknown || word.State == core.Untracked:
				t.Errorf("seed %d: %s in %s is %s", seed, label, region, word.State)
			case word.State == core.Delivered && !w.got[label][region] && !w.got[label][""]:
				t.Errorf("seed %d: %s is delivered in %s, where no device got it", seed, label, region)
			}
			if w.calm && !w.grouped[label] && w.took[label][region] && word.State != core.Delivered {
				t.Errorf("seed %d: %s is %s in %s, where a device has it", seed, label, word.State, region)
			}
			carrier := fmt.Sprintf("word:%s:%s", label, strings.ReplaceAll(region, "/", "."))
			if n := len(w.carried[carrier]); n != 1 {
				t.Errorf("seed %d: the word on %s in %s reached its publisher %d times", seed, label, region, n)
			}
		}
	}
}

// TestReceiptsLaws: whatever happens to nodes, links and devices, every message
// whose publisher asked gets exactly one word for each region, none says
// that it was delivered where it was not, and none follows the last.
func TestReceiptsLaws(t *testing.T) {
	for seed := range uint64(16) {
		w := newReceiptsWorld(t, seed)
		for n := range 120 {
			w.step(n)
		}
		w.settle()
		w.judge(seed)
		for _, n := range w.e.nodes {
			if s := n.core.Stats(); s.ReportsLost > 0 || s.Unfollowed > 0 {
				t.Errorf("seed %d: %s lost %d reports, did not follow %d", seed, n.name, s.ReportsLost, s.Unfollowed)
			}
			if left := followed(n); left > 0 {
				t.Errorf("seed %d: %s still follows %d messages", seed, n.name, left)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// followed is how many messages a node has on disk that it follows.
func followed(n *enode) (count int) {
	if err := n.store.State("p/", func(string, []byte) error { count++; return nil }); err != nil {
		panic(err)
	}
	return count
}
