package scenario

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// stores draws what meets messages that wait: quotas, routes that give up old
// messages for new ones, an operator, records that become unreadable, and work
// that comes from outside the mesh. It draws from a source of its own, so that
// all the rest of a world is the same with it and without.
func (c *chaos) stores(seed uint64) {
	c.rng = rand.New(rand.NewPCG(seed, 0x73746f726573))
	if c.chance(45) {
		c.quotas()
	}
	if c.chance(40) {
		c.fresh()
	}
	if c.chance(60) && c.steady { // a small store a few contacts a day away would take for ever
		c.flood()
	}
	for i := range c.w.Publishers {
		if p := &c.w.Publishers[i]; p.QoS == 1 && !p.Retain && c.chance(30) {
			p.Outside = true
		}
	}
	if c.chance(60) {
		for range 1 + c.rng.IntN(5) {
			c.operator()
		}
	}
	if c.chance(50) {
		for range 1 + c.rng.IntN(4) {
			f := Fault{Kind: Damage, Node: c.node(), At: c.during(), Nth: 1 + c.rng.IntN(6)}
			if c.chance(60) { // else it is read only when it does not fit into memory
				f.For = Duration(c.spread(time.Second, time.Minute))
			}
			c.w.Faults = append(c.w.Faults, f)
		}
	}
}

// during is a time at which there is traffic.
func (c *chaos) during() Duration { return Duration(c.begin + c.between(0, c.span-time.Minute)) }

// quotas limits clients at some nodes, and what neighbours hand over only at
// nodes that nothing passes through: two full relays with bundles for each
// other would wait for each other, whatever filled them.
func (c *chaos) quotas() {
	degree, slow := map[string]int{}, map[string]bool{}
	for _, l := range c.w.Links {
		for _, end := range l.Between {
			degree[end]++
			slow[end] = slow[end] || time.Duration(l.Delay) > 2*time.Second
		}
	}
	for i := range c.w.Nodes {
		n := &c.w.Nodes[i]
		if c.chance(40) {
			n.Quotas = append(n.Quotas, c.limited(pick(c,
				Quota{Name: "devices", Each: "client"}, Quota{Name: "pubs", Client: "pub-*"}, Quota{Name: "one", Client: "pub-1"},
				Quota{Name: "bulk", Client: "*", Class: "bulk"}, Quota{Name: "trees", Client: "*", Topic: "t/#"},
				Quota{Name: "home", Client: "*", Region: n.Region},
			), 5, 4000))
		}
		if degree[n.Name] == 1 && !slow[n.Name] && c.chance(50) {
			n.Quotas = append(n.Quotas, c.limited(pick(c,
				Quota{Name: "all"}, Quota{Name: "peers", Each: "peer"}, Quota{Name: "nodes", Peer: "n*"},
				Quota{Name: "telemetry", Class: "telemetry"}, Quota{Name: "here", Region: n.Region}, Quota{Name: "topics", Topic: "t/#"},
			), 40, 20_000))
		}
	}
}

// limited sets what a quota allows, at least.
func (c *chaos) limited(q Quota, count int, bytes int64) Quota {
	if c.chance(60) {
		q.Count = count + c.rng.IntN(4*count)
	}
	if q.Count == 0 || c.chance(30) {
		q.Bytes = bytes + c.rng.Int64N(4*bytes)
	}
	return q
}

// fresh adds a route on which old messages make room for new ones.
func (c *chaos) fresh() {
	r := Route{Name: "fresh", Topic: pick(c, "t/#", "t/+/a", "#"), OnFull: "drop-oldest"}
	if c.chance(50) {
		r.Class = "telemetry"
	}
	c.w.Routes = append(c.w.Routes, r)
}

// flood adds a device that says much in little time, which joins in batches.
func (c *chaos) flood() {
	if c.w.Batch == nil || c.w.Batch.Wait == 0 {
		c.w.Batch = &Batch{Max: 1024 << c.rng.IntN(4), Wait: Duration(pick(c, 20*time.Millisecond, time.Second, 20*time.Second))}
	}
	p := Publisher{
		Node: c.node(), Client: "flood", Topic: "b/1", QoS: 1, Every: Duration(c.between(time.Minute, 10*time.Minute)), Size: pick(c, 16, 60, 200),
		Class: pick(c, "", "", "bulk", "alarm"),
	}
	for range 1 + c.rng.IntN(4) {
		p.Bursts = append(p.Bursts, Burst{At: c.during(), N: 40 + c.rng.IntN(200)})
	}
	c.w.Publishers = append(c.w.Publishers, p)
}

// operator draws what somebody does at a node by hand.
func (c *chaos) operator() {
	f := Fault{Kind: pick(c, Purge, Purge, Purge, Retry), Node: c.node(), At: c.during()}
	if f.Kind == Purge {
		f.Queue = pick(c, append([]string{"", "node", "session"}, queues()...)...)
		if c.chance(30) {
			f.Class = pick(c, "telemetry", "telemetry", "alarm", "bulk")
		}
		if c.chance(30) {
			f.By = Shift(c.spread(time.Second, time.Hour))
		}
		if c.chance(15) {
			f.From = c.node()
		}
		if c.chance(25) { // and another one at once
			c.w.Faults = append(c.w.Faults, Fault{Kind: Purge, Node: f.Node, At: f.At, From: c.node()})
		}
	}
	c.w.Faults = append(c.w.Faults, f)
}

// queues are what a Purge may be for.
func queues() []string { return []string{"", "node", "region", "session", "order", OneMessage} }

func (v *validator) operator(at string, f *Fault) {
	if !slices.Contains(queues(), f.Queue) {
		v.bad("%s: queue %q: want one of %q", at, f.Queue, queues())
	}
	if f.From != "" {
		v.node(at, f.From)
	}
	if f.Class != "" {
		v.class(at, f.Class)
	}
	if f.Kind == Purge && f.By < 0 {
		v.bad("%s: by: want the age of the messages, such as by: 10m", at)
	}
}

// limits reports what is wrong with the quotas of the nodes.
func (v *validator) limits(w *World) {
	for i := range w.Nodes {
		if _, err := w.Nodes[i].Limits(); err != nil {
			v.errs = append(v.errs, fmt.Errorf("nodes: %s: %w", w.Nodes[i].Name, err))
		}
	}
}
