package core_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// groupLaws watches a mesh with a shared subscription whose members come and
// go, and judges it at the end: each message that was acknowledged reached a
// member; a second one got it only when the first had left without finishing
// it, and at QoS 2 not even then.
type groupLaws struct {
	t     *testing.T
	seed  uint64
	e     *env
	next  int
	acked map[string]bool
	got   map[string]turn
	left  map[string]int // by client: how often its connection ended
	lives map[string]int // by node
	due   []func()       // what live members that are gone give back
	moved int
	ended uint64 // messages that ended with a session
	some  int    // members there are
	most  uint8  // hops of a message that was delivered
}

// turn is who got a message last.
type turn struct {
	client string
	left   int
	life   int // of the node
}

const groupFilter = "$share/crew/job/#"

// members by client, and the node of each. What they begin with tells what
// their sessions are.
var groupMembers = []struct{ client, node string }{
	{"kept1", "b"}, {"kept2", "d"}, {"kept3", "r"}, {"kept4", "a"}, {"live1", "b"}, {"live2", "d"},
}

const groupWorld = `
	node a region=earth window=%[1]d
	node r region=earth window=%[1]d
	node b region=earth/eu window=%[1]d
	node d region=luna window=%[1]d
	link a r delay=10ms window=300
	link r b delay=15ms window=300
	link a d delay=10ms window=300
	link d b delay=5ms window=300
	tick 1s`

func newGroupLaws(t *testing.T, seed uint64, window, some int) *groupLaws {
	l := &groupLaws{
		some: some, t: t, seed: seed, e: newEnv(), acked: map[string]bool{}, got: map[string]turn{}, left: map[string]int{}, lives: map[string]int{},
	}
	l.e.onReply = func(what string, r bundle.Reason) {
		if label, ok := strings.CutPrefix(what, "publish "); ok && r == bundle.OK {
			l.acked[label] = true
		}
	}
	l.e.onDeliver = l.delivered
	l.e.onLive = func(n *enode, live core.Live) { l.live(n, labelOf(live.Blob), live.Members) }
	l.e.script(fmt.Sprintf(groupWorld, window))
	for _, m := range groupMembers[:some] {
		l.connect(m.client)
	}
	for _, n := range l.e.nodes {
		n.device(core.ServiceLive).auto = true
	}
	l.e.do("tick 1s")
	return l
}

func (l *groupLaws) home(client string) string {
	for _, m := range groupMembers {
		if m.client == client {
			return m.node
		}
	}
	panic(client)
}

func (l *groupLaws) connect(client string) {
	l.leave(client)
	how := "expiry=100000000"
	if strings.HasPrefix(client, "live") {
		how = "clean expiry=0"
	}
	l.e.do("connect %s %s auto receive=2 %s", l.home(client), client, how)
	l.e.do("subscribe %s %s %s qos=2", l.home(client), client, groupFilter)
}

// leave notes that a client's connection ends, or a new one takes its place.
func (l *groupLaws) leave(client string) { l.left[client]++ }

func (l *groupLaws) delivered(client, label string, d core.Delivery) {
	if d.Service == core.ServiceLive {
		n := l.e.node(l.home(d.Members[0].Client))
		l.live(n, label, d.Members)
		return
	}
	l.most = max(l.most, d.Header.Hops)
	l.took(client, label)
}

func (l *groupLaws) took(client, label string) {
	had, again := l.got[label]
	switch {
	case again && had.client == client && strings.HasPrefix(client, "kept"): // its session may have it once more
	case again && strings.HasPrefix(had.client, "live") && l.lives[l.home(had.client)] > had.life:
		// Its node died before it noted that a member had it, which died with it.
	case again && qosOf(label) == 2:
		l.t.Errorf("seed %d: %s had %s, and %s got it", l.seed, had.client, label, client)
	case again && l.left[had.client] == had.left:
		l.t.Errorf("seed %d: %s has %s, and %s got it", l.seed, had.client, label, client)
	}
	l.got[label] = turn{client, l.left[client], l.lives[l.home(client)]}
}

// live is a message for members that do not outlive their connection. One that
// is gone leaves it to the next.
func (l *groupLaws) live(n *enode, label string, members []core.Member) {
	if len(members) != 1 {
		l.t.Errorf("seed %d: %s is for %v, one group has one member", l.seed, label, members)
		return
	}
	m := members[0]
	if n.device(m.Client).conn != 0 {
		l.took(m.Client, label)
		return
	}
	l.due = append(l.due, func() {
		l.acked[label] = false // what is in memory dies with the node, until it is stored anew
		l.e.do("publish %s job/1 %s qos=%d group=%s", n.name, label, qosOf(label), m.Filter)
	})
}

// qosOf is 1 or 2, by the number of a message.
func qosOf(label string) int {
	n := 0
	_, _ = fmt.Sscanf(label, "m%d", &n)
	return 1 + n%2
}

// giveBack plays the brokers of members that are gone.
func (l *groupLaws) giveBack() {
	for len(l.due) > 0 {
		f := l.due[0]
		l.due = l.due[1:]
		f()
	}
}

func (l *groupLaws) disturb(rng *rand.Rand) {
	link := lawLinks[rng.IntN(len(lawLinks))]
	node := []string{"a", "r", "b", "d"}[rng.IntN(4)]
	m := groupMembers[rng.IntN(l.some)]
	switch rng.IntN(17) {
	case 0:
		for _, m := range groupMembers {
			if m.node == node {
				l.leave(m.client)
			}
		}
		l.lives[node]++
		l.ended += l.e.node(node).core.Stats().Ended[bundle.SessionEnded]
		l.e.do("crash %s", node)
		l.e.node(node).device(core.ServiceLive).auto = true
	case 1:
		l.e.do("down %s", link)
	case 2, 3:
		l.e.do("up %s", link)
	case 4:
		l.e.do("cut %s", link)
	case 5:
		l.e.do("heal %s", link)
	case 6, 7:
		l.leave(m.client)
		how := "expiry=100000000"
		if strings.HasPrefix(m.client, "live") {
			how = "expiry=0"
		}
		l.e.do("disconnect %s %s %s", m.node, m.client, how)
	case 8, 9:
		l.connect(m.client)
	case 10:
		l.e.do("sync %s", node)
	case 11: // its session ends
		if l.seed%2 == 0 {
			return
		}
		l.leave(m.client)
		l.e.do("connect %s %s clean expiry=0", m.node, m.client)
		l.e.do("disconnect %s %s expiry=0", m.node, m.client)
	case 12, 13:
		l.e.do("tick %dms", rng.IntN(3000))
	default:
		for range 1 + rng.IntN(6) {
			l.next++
			label := fmt.Sprintf("m%d", l.next)
			l.e.do("publish %s job/%d %s qos=%d", node, l.next%3, label, qosOf(label))
		}
	}
	l.giveBack()
}

func (l *groupLaws) calm() {
	for _, link := range lawLinks {
		l.e.do("heal %s", link)
		l.e.do("up %s", link)
	}
	for _, m := range groupMembers[:l.some] {
		l.connect(m.client)
	}
	for range 3 {
		l.e.do("tick 30s")
		l.giveBack()
	}
}

func (l *groupLaws) judge() {
	for _, n := range l.e.nodes {
		if s := n.core.View().Totals; s.Messages != 0 {
			l.t.Errorf("seed %d: %s still holds %+v\n%s", l.seed, n.name, s, l.e.do("view %s", n.name.String()))
		}
		l.moved += int(n.core.Stats().Regrouped)
		l.ended += n.core.Stats().Ended[bundle.SessionEnded]
	}
	for n := range l.next {
		label := fmt.Sprintf("m%d", n+1)
		if _, ok := l.got[label]; ok || !l.acked[label] {
			continue
		}
		// A session that was to get it at QoS 2, and may have, ended since.
		if qosOf(label) == 2 && l.ended > 0 {
			l.ended--
		} else {
			l.t.Errorf("seed %d: nobody got %s", l.seed, label)
		}
	}
}

func TestGroupLaws(t *testing.T) {
	moved := 0
	for seed := range uint64(90) {
		l := newGroupLaws(t, seed, []int{8, 64, 4096}[seed%3], 1+int(seed)%len(groupMembers))
		rng := rand.New(rand.NewPCG(seed, 6))
		for range 120 {
			l.disturb(rng)
		}
		l.calm()
		l.judge()
		if moved += l.moved; t.Failed() {
			return
		}
	}
	if moved == 0 {
		t.Error("no message ever went on to another member")
	}
}
