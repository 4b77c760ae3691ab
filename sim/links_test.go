package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestFarLinkIsNeverSilent: a day at the Moon's distance, with lost packets,
// and traffic that comes and goes.
func TestFarLinkIsNeverSilent(t *testing.T) {
	for seed := range uint64(2) {
		r := run(t, []byte(`{name: moon, duration: 24h, drains: true,
nodes: [{name: luna, region: luna}, {name: earth, region: earth}],
links: [{between: [luna, earth], delay: 1.28s, jitter: 5ms, loss: 1%, rate: 1Mbit}],
subscribers: [{node: earth, client: ops, filter: "#", qos: 1}],
publishers: [{node: luna, client: fast, topic: fast, qos: 1, every: 7s, size: 20000}, {node: luna, client: slow, topic: slow, qos: 1, every: 10m, size: 64}]}`), seed)
		if r.Silences > 0 || r.LinksDown > 0 || r.Delivered != r.Expected || r.Delivered < 5000 {
			t.Errorf("seed %d: %d silences, %d links down, %d of %d delivered", seed, r.Silences, r.LinksDown, r.Delivered, r.Expected)
		}
	}
}

// halfDead is a ring of nodes whose links lose one direction or both again and
// again, for longer than sessions live at times, while nodes crash.
func halfDead(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 9))
	const nodes = 5
	var b strings.Builder
	b.WriteString("name: half\nduration: 3h\ncalm: 1h\ndrains: true\nnodes:\n")
	for i := range nodes {
		fmt.Fprintf(&b, "- {name: n%d, region: r%d}\n", i, i)
	}
	b.WriteString("links:\n")
	for i := range nodes {
		fmt.Fprintf(&b, "- {between: [n%d, n%d], delay: %dms, loss: 1%%}\n", i, (i+1)%nodes, 1+r.IntN(300))
	}
	b.WriteString("subscribers:\n- {node: n2, client: ops, filter: \"#\", qos: 1}\npublishers:\n")
	for i := range nodes {
		fmt.Fprintf(&b, "- {node: n%d, client: p%d, topic: t/%d, qos: 1, every: 5s, size: 100}\n", i, i, i)
	}
	b.WriteString("faults:\n")
	for range 60 {
		i, at, long := r.IntN(nodes), r.IntN(7000), 1+r.IntN(30)
		if r.IntN(5) == 0 {
			long *= 40
		}
		link := fmt.Sprintf("link: [n%d, n%d], at: %ds", i, (i+1)%nodes, at)
		switch way := r.IntN(8); {
		case way < 3:
			fmt.Fprintf(&b, "- {kind: cut, %s, for: %ds, way: there}\n", link, long)
		case way < 6:
			fmt.Fprintf(&b, "- {kind: cut, %s, for: %ds, way: back}\n", link, long)
		case way < 7:
			fmt.Fprintf(&b, "- {kind: reset, %s}\n", link)
		default:
			fmt.Fprintf(&b, "- {kind: crash, node: n%d, at: %ds, for: %ds}\n", i, at, long)
		}
	}
	return b.String()
}

// TestHalfDeadLinksHeal: no link needs a restart of a node to carry again, and
// nothing is lost on one that carries in one direction alone.
func TestHalfDeadLinksHeal(t *testing.T) {
	var silences uint64
	for seed := range uint64(4) {
		r := run(t, []byte(halfDead(seed)), seed)
		for _, v := range r.Violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
		if r.LinksDown > 0 || r.Pending > 0 || r.Delivered < 3000 {
			t.Errorf("seed %d: %d links stay down, %d messages do not arrive, %d did", seed, r.LinksDown, r.Pending, r.Delivered)
		}
		silences += r.Silences
	}
	if silences < 60 {
		t.Errorf("only %d silences: the worlds are too kind", silences)
	}
}
