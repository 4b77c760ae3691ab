package core_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// roamWorld plays clients that wander between the nodes of a mesh, in which
// everything goes wrong that may. Its oracle is what the clients themselves
// see: each message that was acknowledged to its publisher reaches each of
// them, at QoS 2 once as long as the client was not told to forget.
type roamWorld struct {
	t        *testing.T
	seed     uint64
	e        *env
	rng      *rand.Rand
	calm     bool // no cuts, no crashes
	restless bool // clients move on before they are known to have come
	next     int
	acked    map[string]bool
	clients  []*roamer
	present  [2]int // CONNECTs answered without, and with a session
}

// roamer is a client as it sees itself.
type roamer struct {
	name    string
	qos     int
	at      string   // node; "" for none
	in      bool     // CONNACK was had
	early   []func() // deliveries that follow it
	got     map[string]int
	open    map[uint16]string // QoS 2 packet ids that await PUBREL
	moved   bool              // in this round
	told    int               // how often it was told that its session is new
	last    map[string]int    // newest of each publisher
	sending map[string]int    // QoS 2 publishes without PUBREC, by label: packet id
	packet  int
}

var roamLinks = [][2]string{{"a", "b"}, {"b", "d"}, {"a", "d"}, {"d", "f"}}

var roamNodes = []string{"a", "b", "d", "f"}

func newRoamWorld(t *testing.T, seed uint64, calm bool) *roamWorld {
	w := &roamWorld{t: t, seed: seed, calm: calm, e: newEnv(), rng: rand.New(rand.NewPCG(seed, 14)), acked: map[string]bool{}}
	e := w.e
	e.answers = true
	e.onReply = w.replied
	e.onConnack = w.connack
	e.onOffer = w.offered
	e.onRelease = w.released
	e.onTaken = func(n *enode, client string) {
		if r := w.client(client); r != nil && r.at == n.name.String() {
			r.at, r.in, r.early = "", false, nil
		}
	}
	for _, n := range roamNodes {
		e.do("node %s window=%d", n, []int{4096, 8}[seed%2])
	}
	for i, l := range roamLinks {
		e.do("link %s %s delay=%dms window=%d", l[0], l[1], 2+7*i, 300+1000*w.rng.IntN(3))
	}
	if seed%3 == 0 {
		e.do("settings batch=8192")
	}
	e.script("tick 1s\nconnect d log auto\nsubscribe d log plant/# qos=1 auto\nconnect b hist auto\nsubscribe b hist plant/# qos=2")
	for i, name := range []string{"one", "two", "dup"} {
		w.clients = append(w.clients, &roamer{
			name: name, qos: []int{1, 2, 2}[i], got: map[string]int{}, open: map[uint16]string{}, last: map[string]int{}, sending: map[string]int{},
		})
		w.connect(w.clients[i], roamNodes[i])
		e.do("tick 1s")
		e.do("subscribe %s %s plant/# qos=%d auto", roamNodes[i], name, w.clients[i].qos)
	}
	e.do("tick 3s")
	return w
}

func (w *roamWorld) client(name string) *roamer {
	for _, r := range w.clients {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (w *roamWorld) replied(what string, reason bundle.Reason) {
	label, ok := strings.CutPrefix(what, "publish ")
	if !ok {
		return
	}
	switch reason {
	case bundle.OK, bundle.Duplicate:
		w.acked[label] = true
	case bundle.SessionEnded:
	default:
		w.t.Errorf("seed %d: publish of %s: %s", w.seed, label, reason)
	}
	for _, r := range w.clients {
		if packet := r.sending[label]; packet != 0 && w.acked[label] && r.in {
			delete(r.sending, label)
			w.e.node(r.at).core.Settle(w.e.now, []core.Settlement{{Session: r.name, Packet: uint16(packet), Outcome: core.Inbound}})
		}
	}
}

func (w *roamWorld) connack(n *enode, client string, present bool) {
	r := w.client(client)
	if r == nil || r.at != n.name.String() {
		return
	}
	r.in = true
	defer func() {
		for _, f := range r.early {
			f()
		}
		r.early = nil
	}()
	if present {
		w.present[1]++
		for label, packet := range r.sending { // not acknowledged: again
			w.publishAs(r, label, packet)
			break
		}
		return
	}
	w.present[0]++
	r.told++
	clear(r.open)
	clear(r.sending)
}

func (w *roamWorld) offered(n *enode, client string, d core.Delivery) {
	r := w.client(client)
	if r == nil || r.at != n.name.String() {
		return // bytes into a connection that nobody reads
	}
	if !r.in {
		r.early = append(r.early, func() { w.offered(n, client, d) })
		return
	}
	label := w.e.label(d.Header.Message)
	if d.Entry.QoS == 2 {
		if had, again := r.open[d.PacketID]; again {
			if had != label {
				w.t.Errorf("seed %d: %s got %s under packet id %d, which %s has", w.seed, client, label, d.PacketID, had)
			}
			return
		}
		r.open[d.PacketID] = label
	}
	if r.got[label]++; r.got[label] > 1 {
		if !w.restless && r.told < 2 && (d.Entry.QoS == 2 || !d.Dup) {
			w.t.Errorf("seed %d: %s got %s %d times (QoS %d, dup %v) at %s", w.seed, client, label, r.got[label], d.Entry.QoS, d.Dup, n.name)
		}
		return
	}
	var number int
	if _, err := fmt.Sscanf(label[1:], "%d", &number); err != nil {
		w.t.Fatal(err)
	}
	byNode := slices.Contains(roamNodes, label[:1]) // clients wander, and their publishes take different ways
	if w.calm && byNode && number < r.last[label[:1]] {
		w.t.Errorf("seed %d: %s got %s after %s%d", w.seed, client, label, label[:1], r.last[label[:1]])
	}
	r.last[label[:1]] = max(r.last[label[:1]], number)
}

func (w *roamWorld) released(n *enode, client string, d core.Delivery) {
	r := w.client(client)
	if r == nil || r.at != n.name.String() {
		return
	}
	if !r.in {
		r.early = append(r.early, func() { w.released(n, client, d) })
		return
	}
	delete(r.open, d.PacketID)
}

// connect takes a client to a node. The one it was at may not notice.
func (w *roamWorld) connect(r *roamer, node string) {
	w.leave(r, w.rng.IntN(2) == 0)
	r.at = node
	w.e.do("connect %s %s auto receive=%d", node, r.name, 1+w.rng.IntN(8))
}

func (w *roamWorld) leave(r *roamer, polite bool) {
	if r.at == "" {
		return
	}
	n, at := w.e.node(r.at), r.at
	r.at, r.in, r.early = "", false, nil
	d := n.device(r.name)
	if d.auto, d.todo = false, nil; polite {
		w.e.do("disconnect %s %s", at, r.name)
	}
}

func (w *roamWorld) crash(node string) {
	for _, r := range w.clients {
		if r.at == node {
			r.at, r.in, r.early = "", false, nil
		}
	}
	w.e.do("crash %s", node)
	w.e.do("connect d log auto")
	w.e.do("connect b hist auto")
}

func (w *roamWorld) publish(node string) {
	for range 1 + w.rng.IntN(5) {
		w.next++
		w.e.do("publish %s plant/%d %s%d qos=%d", node, w.next%3, node, w.next, 1+w.rng.IntN(2))
	}
}

// publishAs has a client publish at QoS 2, under a packet id of its own.
func (w *roamWorld) publishAs(r *roamer, label string, packet int) {
	// Not from within an effect: the core is not called again there.
	w.e.later = append(w.e.later, func() {
		if r.in && r.sending[label] == packet {
			w.e.do("publish %s plant/0 %s qos=2 client=%s packet=%d", r.at, label, r.name, packet)
		}
	})
}

func (w *roamWorld) disturb() {
	l := roamLinks[w.rng.IntN(len(roamLinks))]
	node := roamNodes[w.rng.IntN(len(roamNodes))]
	r := w.clients[w.rng.IntN(len(w.clients))]
	n := w.rng.IntN(20)
	if w.calm && n < 7 {
		n += 7
	}
	switch n {
	case 0:
		w.crash(node)
	case 1:
		w.e.do("down %s %s", l[0], l[1])
	case 2, 3:
		w.e.do("up %s %s", l[0], l[1])
	case 4:
		w.e.do("cut %s %s", l[0], l[1])
	case 5, 6:
		w.e.do("heal %s %s", l[0], l[1])
	case 7, 8, 9:
		if w.calm || w.restless || !r.moved {
			r.moved = true
			w.connect(r, node)
		}
	case 10:
		w.leave(r, true)
	case 11:
		w.e.do("sync %s", node)
	case 12, 13, 14:
		w.e.do("tick %dms", w.rng.IntN(1500))
	case 15:
		if w.rng.IntN(6) == 0 {
			w.e.do("tick 41m")
		}
	case 16:
		if r.in {
			w.next++
			r.packet++
			label := fmt.Sprintf("%s%d", strings.ToUpper(r.name[:1]), w.next)
			r.sending[label] = r.packet
			w.publishAs(r, label, r.packet)
		}
	default:
		w.publish(node)
	}
	if w.calm {
		w.e.do("tick 200ms")
	}
	w.e.runLater()
}

// repair ends a round: everything is mended, and has time to come to rest.
func (w *roamWorld) repair() {
	for _, l := range roamLinks {
		w.e.do("heal %s %s", l[0], l[1])
		w.e.do("up %s %s", l[0], l[1])
	}
	w.e.do("tick 30s")
	w.e.runLater()
	for _, r := range w.clients {
		r.moved = false
	}
}

// end gives everything time.
func (w *roamWorld) end() {
	w.repair()
	for _, r := range w.clients {
		w.connect(r, roamNodes[w.rng.IntN(len(roamNodes))])
		w.e.do("tick 5s")
		w.e.runLater()
	}
	for range 4 { // one whose claim was late may have been cut off
		w.e.do("tick 15m")
		for _, r := range w.clients {
			if r.at == "" {
				w.connect(r, roamNodes[w.rng.IntN(len(roamNodes))])
			}
		}
	}
	w.e.do("tick 1m")
}

func (w *roamWorld) judge() {
	for _, n := range w.e.nodes {
		if s := n.core.View().Totals; s.Messages != 0 {
			w.t.Errorf("seed %d: %s still holds %+v\n%s", w.seed, n.name, s, w.e.do("view %s", n.name.String()))
		}
	}
	for label := range w.acked {
		for _, r := range w.clients {
			if r.got[label] == 0 {
				w.t.Errorf("seed %d: %s never got %s", w.seed, r.name, label)
			}
		}
	}
}

// playRoamWorlds plays a world for each seed.
func playRoamWorlds(t *testing.T, seeds iter.Seq[uint64], steps int, calm, restless bool) (present [2]int, moved uint64) {
	for seed := range seeds {
		w := newRoamWorld(t, seed, calm)
		w.restless = restless
		for range steps {
			w.disturb()
			if !calm && w.rng.IntN(40) == 0 {
				w.repair()
			}
		}
		w.end()
		w.judge()
		for _, n := range w.e.nodes {
			moved += n.core.Stats().Moved
		}
		present[0] += w.present[0]
		present[1] += w.present[1]
		if t.Failed() {
			for _, r := range w.clients {
				t.Logf("%s at %q", r.name, r.at)
			}
			break
		}
	}
	return present, moved
}

// upTo are the seeds below n.
func upTo(n uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for seed := range n {
			if !yield(seed) {
				return
			}
		}
	}
}

// TestRoamInPeace: while every node is in reach, a client that wanders finds
// its session wherever it comes, and gets every message once and in order.
func TestRoamInPeace(t *testing.T) {
	present, moved := playRoamWorlds(t, upTo(8), 80, true, false)
	if moved == 0 {
		t.Error("no message ever followed its session")
	}
	t.Logf("%d messages moved, %v CONNECTs without and with a session", moved, present)
}

// TestRoamLaws: through cuts and crashes, nothing is lost, and nothing comes
// twice at QoS 2 that the client was not told to forget.
func TestRoamLaws(t *testing.T) {
	present, moved := playRoamWorlds(t, upTo(24), 100, false, false)
	if moved == 0 || present[0] == 0 || present[1] == 0 {
		t.Errorf("%d messages moved, %v CONNECTs without and with a session: this tests nothing", moved, present)
	}
}

// TestRoamRestless: nothing is lost either when clients go on to a third node,
// and back, before the others know, through cuts and crashes. The seeds beyond
// the first ones are those that showed how it was:
//
//   - 112, 217, 311: deliveries from two nodes under one packet id
//   - 117, 599: a node that had not found a session within the wait for order
//     gave it away as one that has no filters
//   - 154, 367, 380: a node told that it had had messages that came to it
//     before the session did, and were on their way to where that had been
//   - 410: a fence overtook messages that took another way
func TestRoamRestless(t *testing.T) {
	seeds := slices.AppendSeq([]uint64{112, 117, 154, 217, 311, 367, 380, 410, 599}, upTo(8))
	present, moved := playRoamWorlds(t, slices.Values(seeds), 100, false, true)
	if moved == 0 || present[0] == 0 || present[1] == 0 {
		t.Errorf("%d messages moved, %v CONNECTs without and with a session: this tests nothing", moved, present)
	}
}
