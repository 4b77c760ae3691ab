package core_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestParcelWorld plays three nodes in a row whose links come and go, while
// files with what waits are made, carried to other nodes, read there once, twice
// or never before a crash, and brought back as receipts, or given away at once.
// In the end, when every file was read at the last node and the links are up,
// each message that was accepted has been delivered, once, and custody of it has
// ended everywhere.
func TestParcelWorld(t *testing.T) {
	seeds := 300
	if testing.Short() {
		seeds = 50
	}
	handed, crashes := 0, 0
	for seed := range uint64(seeds) {
		w := newParcelWorld(t, seed)
		for range 40 {
			w.step()
		}
		w.end()
		handed += w.handed
		crashes += w.crashes
	}
	if handed < seeds/3 || crashes < seeds/3 {
		t.Errorf("%d bundles were handed over and %d nodes crashed in %d worlds: they say little", handed, crashes, seeds)
	}
}

type parcelWorld struct {
	t         *testing.T
	e         *env
	seed      uint64
	rnd       *rand.Rand
	log       []string
	files     int
	published int
	accepted  map[string]bool
	delivered map[string]int
	handed    int
	crashes   int
}

func newParcelWorld(t *testing.T, seed uint64) *parcelWorld {
	w := &parcelWorld{
		t: t, e: newEnv(), seed: seed, rnd: rand.New(rand.NewPCG(seed, 11)), accepted: map[string]bool{}, delivered: map[string]int{},
	}
	w.e.onReply = func(what string, r bundle.Reason) {
		if label, ok := strings.CutPrefix(what, "publish "); ok && r == bundle.OK {
			w.accepted[label] = true
		}
	}
	w.e.onDeliver = func(_, label string, _ core.Delivery) { w.delivered[label]++ }
	window := []string{"", " window=3"}[w.rnd.IntN(2)]
	for _, line := range []string{
		"node a" + window, "node r" + window, "node b", "link a r delay=50ms", "link r b delay=50ms", "subscribe b ops plant/#", "stabilize",
	} {
		w.do("%s", line)
	}
	return w
}

func (w *parcelWorld) do(format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	w.log = append(w.log, line)
	out := w.e.do("%s", line)
	if n := 0; strings.HasPrefix(line, "hand") {
		_, rest, _ := strings.Cut(out, "handed over ")
		_, _ = fmt.Sscanf(rest, "%d", &n)
		w.handed += n
	}
	return out
}

// one returns one of some words.
func (w *parcelWorld) one(words ...string) string { return words[w.rnd.IntN(len(words))] }

func (w *parcelWorld) step() {
	pair := w.one("a r", "r b")
	switch w.rnd.IntN(11) {
	case 0, 1:
		w.published++
		w.do("publish a plant/1 m%d-", w.published)
	case 2:
		w.do("down %s", pair)
	case 3:
		if w.rnd.IntN(2) == 0 {
			w.do("up %s", pair)
		}
	case 4:
		w.files++
		w.do("export %s f%d", w.one("a", "r"), w.files)
	case 5, 6:
		if w.files > 0 {
			w.do("import %s f%d", w.one("r", "b"), 1+w.rnd.IntN(w.files))
		}
	case 7, 10:
		if w.files > 0 {
			w.do("hand f%d%s", 1+w.rnd.IntN(w.files), w.one("", "", " all"))
		}
	case 8:
		if w.rnd.IntN(3) == 0 {
			w.crashes++
			w.do("crash %s", w.one("a", "r"))
			return
		}
		w.do("sync %s", w.one("a", "r", "b"))
	default:
		w.do("%s", w.one("stabilize", "stabilize", "tick 10s", "deliver"))
	}
}

// end makes all whole and judges.
func (w *parcelWorld) end() {
	w.do("stabilize")
	for f := range w.files {
		w.do("import b f%d", f+1)
		w.do("stabilize")
	}
	for _, pair := range []string{"a r", "r b"} {
		w.do("up %s", pair)
	}
	w.do("stabilize")
	w.do("tick 15m")
	w.do("stabilize")
	for label := range w.accepted {
		if n := w.delivered[label]; n != 1 {
			w.t.Fatalf("seed %d: %s was delivered %d times:\n%s", w.seed, label, n, strings.Join(w.log, "\n"))
		}
	}
	for _, n := range []string{"a", "r"} {
		if out := w.e.do("view %s", n); !strings.Contains(out, "0 messages, 0 bytes\n") {
			w.t.Fatalf("seed %d: %s holds after all:\n%s%s", w.seed, n, out, strings.Join(w.log, "\n"))
		}
	}
}
