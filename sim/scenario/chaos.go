package scenario

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Chaos makes a world of three to twelve nodes from a seed: any topology,
// links from a LAN to twenty light minutes, contact plans, devices of every
// kind, and faults of every kind. After the last fault it leaves as much calm
// as everything needs to arrive: the world Drains.
//
// A third of the worlds are hours of a busy mesh, a third a day, a third a
// week of contacts.
func Chaos(seed uint64) *World {
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 0x6368616f73)), w: &World{Name: fmt.Sprintf("chaos-%d", seed), Drains: true}}
	c.span = []time.Duration{c.between(time.Hour, 4*time.Hour), c.between(8*time.Hour, 24*time.Hour), c.between(48*time.Hour, 144*time.Hour)}[seed%3]
	c.long = seed % 3
	c.nodes()
	c.links()
	c.times()
	c.routes()
	c.publishers()
	c.subscribers()
	for range 16 + c.rng.IntN(60) {
		c.w.Faults = append(c.w.Faults, c.fault())
	}
	c.stores(seed)
	return c.w
}

// chaos is a world in the making.
type chaos struct {
	rng    *rand.Rand
	w      *World
	long   uint64        // 0: hours, 1: a day, 2: a week
	span   time.Duration // of traffic
	begin  time.Duration // until everyone knows of everyone
	steady bool          // no link has a contact plan: clocks may differ much
	topics []string
}

func (c *chaos) chance(percent int) bool { return c.rng.IntN(100) < percent }

func (c *chaos) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(c.rng.Int64N(int64(hi-lo)+1)).Round(time.Millisecond)
}

// spread draws a duration whose order of magnitude is even.
func (c *chaos) spread(lo, hi time.Duration) time.Duration {
	for hi > lo && c.chance(70) {
		hi = max(hi/4, lo)
	}
	return c.between(lo, hi)
}

func pick[T any](c *chaos, from ...T) T { return from[c.rng.IntN(len(from))] }

func (c *chaos) node() string { return c.w.Nodes[c.rng.IntN(len(c.w.Nodes))].Name }

func (c *chaos) nodes() {
	regions := []string{"earth/eu", "luna", "leo", "earth/us", "mars"}
	regions = regions[:1+c.rng.IntN(len(regions))]
	for i := range 3 + c.rng.IntN(pick(c, 3, 5, 10)) {
		c.w.Nodes = append(c.w.Nodes, Node{Name: fmt.Sprintf("n%d", i), Region: pick(c, regions...), Sync: Duration(c.spread(time.Millisecond, 50*time.Millisecond))})
	}
}

// links joins each node to an earlier one, and some more.
func (c *chaos) links() {
	have := map[[2]int]bool{}
	join := func(a, b int) {
		if a == b || have[[2]int{a, b}] || have[[2]int{b, a}] {
			return
		}
		have[[2]int{a, b}] = true
		l := c.link()
		l.Between = [2]string{c.w.Nodes[a].Name, c.w.Nodes[b].Name}
		c.w.Links = append(c.w.Links, l)
	}
	n := len(c.w.Nodes)
	chain := c.chance(30)
	for i := 1; i < n; i++ {
		if chain {
			join(i-1, i)
		} else {
			join(c.rng.IntN(i), i)
		}
	}
	for range c.rng.IntN(n) {
		join(c.rng.IntN(n), c.rng.IntN(n))
	}
	degree, slow := map[string]int{}, map[string]bool{}
	for _, l := range c.w.Links {
		degree[l.Between[0]]++
		degree[l.Between[1]]++
		if time.Duration(l.Delay) > 2*time.Second {
			slow[l.Between[0]], slow[l.Between[1]] = true, true
		}
	}
	// Only nodes that nothing passes through have small stores: two full
	// relays with bundles for each other would wait for each other. And no
	// small one is a long way off: it takes a store full per round trip.
	for i := range c.w.Nodes {
		node := &c.w.Nodes[i]
		if slow[node.Name] {
			continue
		}
		if c.chance(30) {
			node.Window = 4 + c.rng.IntN(60)
		}
		if degree[node.Name] == 1 && c.chance(40) {
			node.Bytes, node.Count = int64(20_000+c.rng.IntN(200_000)), 60+c.rng.IntN(400)
		}
	}
}

func (c *chaos) link() Link {
	l := Link{}
	switch c.rng.IntN(6) {
	case 0:
		l.Delay = Duration(c.between(time.Millisecond, 20*time.Millisecond))
	case 1:
		l.Delay, l.Jitter, l.Loss = Duration(c.between(20*time.Millisecond, 300*time.Millisecond)), Duration(c.between(0, 100*time.Millisecond)), Percent(c.rng.IntN(3))/100
	case 2:
		l.Delay, l.Rate = Duration(270*time.Millisecond), Rate(9600*(1+c.rng.IntN(100)))
	case 3:
		l.Delay, l.Loss = Duration(c.between(1200*time.Millisecond, 1400*time.Millisecond)), Percent(c.rng.IntN(6))/100
	case 4:
		l.Delay, l.Loss = Duration(c.between(5*time.Second, time.Minute)), Percent(c.rng.IntN(10))/100
	case 5:
		l.Delay = Duration(c.between(time.Millisecond, time.Second))
		if c.long == 2 {
			l.Delay = Duration(c.between(3*time.Minute, 20*time.Minute))
		}
	}
	if always := []int{60, 20, 5}[c.long]; c.chance(always) && time.Duration(l.Delay) < 2*time.Minute {
		return l
	}
	every := c.between(10*time.Minute, []time.Duration{30 * time.Minute, 2 * time.Hour, 6 * time.Hour}[c.long])
	open := max(every/time.Duration(2+c.rng.IntN(4)), 8*time.Duration(l.Delay)+time.Minute)
	every = max(every, open*4/3)
	l.Contacts = &Contacts{After: Duration(c.between(0, every)), Every: Duration(every), For: Duration(open)}
	return l
}

// times sets how long the world lasts.
func (c *chaos) times() {
	cycle := time.Minute
	c.steady = true
	for _, l := range c.w.Links {
		one := 8*time.Duration(l.Delay) + time.Minute
		if l.Contacts != nil {
			one += time.Duration(l.Contacts.Every)
			c.steady = false
		}
		cycle = max(cycle, one)
	}
	hops := time.Duration(c.diameter())
	c.begin = hops * cycle
	wait := pick(c, 0, 2*cycle, 3*hops*cycle)
	c.w.OrderWait = Duration(wait)
	calm := 3*hops*cycle + max(wait, 10*time.Minute) + 30*time.Minute
	c.w.Calm, c.w.Duration = Duration(calm), Duration(c.begin+c.span+calm)
	if c.chance(50) {
		c.w.Batch = &Batch{Max: 256 << c.rng.IntN(6), Wait: Duration(pick(c, 0, 50*time.Millisecond, 2*time.Second, time.Minute))}
	}
	for i := range c.w.Nodes {
		if c.chance(50) {
			c.w.Nodes[i].Drift = c.rng.IntN(401) - 200
			c.w.Nodes[i].Ahead = c.shift()
		}
	}
}

// shift is how far a clock may be off: little when contact plans need it.
func (c *chaos) shift() Shift {
	most := 3 * time.Second
	if c.steady {
		most = 6 * time.Hour
	}
	s := c.spread(0, most)
	if c.chance(50) {
		s = -s
	}
	return Shift(s)
}

// diameter returns the most hops between two nodes.
func (c *chaos) diameter() int {
	far := 1
	for _, from := range c.w.Nodes {
		hops := map[string]int{from.Name: 0}
		for range c.w.Nodes {
			for _, l := range c.w.Links {
				for i, a := range l.Between {
					d, ok := hops[a]
					b := l.Between[1-i]
					if old, known := hops[b]; ok && (!known || d+1 < old) {
						hops[b] = d + 1
						far = max(far, d+1)
					}
				}
			}
		}
	}
	return far
}

func (c *chaos) routes() {
	if c.chance(60) {
		return
	}
	r := Route{Name: "up", Topic: "up/#", To: []string{c.w.Nodes[0].Region}}
	if c.chance(30) {
		r.To = append(r.To, c.w.Nodes[len(c.w.Nodes)-1].Region)
		if r.To[0] == r.To[1] {
			r.To = r.To[:1]
		}
	}
	if c.chance(20) {
		r.Unreachable = "drop"
	}
	if c.chance(30) {
		r.Class = "alarm"
	}
	c.w.Routes = append(c.w.Routes, r)
	c.topics = append(c.topics, "up/1", "up/2")
}

func (c *chaos) publishers() {
	c.topics = append(c.topics, "t/1/a", "t/2/a", "t/3/b", "t/4/b")
	some, most := []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute}[c.long], []time.Duration{time.Minute, 5 * time.Minute, 40 * time.Minute}[c.long]
	for i := range 2 + c.rng.IntN(7) {
		p := Publisher{
			Node: c.node(), Client: fmt.Sprintf("pub-%d", i), Topic: pick(c, c.topics...), QoS: pick[uint8](c, 0, 1, 1, 1, 2, 2),
			Every: Duration(c.between(some, most)), Size: pick(c, 16, 60, 200, 2000), Retain: c.chance(15),
			Class: pick(c, "", "", "", "alarm", "bulk", "interactive"),
		}
		if c.chance(20) {
			p.TTL = Duration(c.spread(time.Minute, 12*time.Hour))
		}
		for range c.rng.IntN(3) {
			p.Bursts = append(p.Bursts, Burst{At: Duration(c.begin + c.between(0, c.span)), N: 10 + c.rng.IntN(150)})
		}
		c.w.Publishers = append(c.w.Publishers, p)
	}
}

func (c *chaos) subscribers() {
	for i := range 3 + c.rng.IntN(7) {
		s := Subscriber{
			Node: c.node(), Client: fmt.Sprintf("sub-%d", i), QoS: pick[uint8](c, 1, 1, 1, 2, 2, 0), Receive: pick[uint16](c, 0, 1, 5, 100),
			Filter: pick(c, append([]string{"#", "t/#", "t/+/a", "+/+/b"}, c.topics...)...),
		}
		switch {
		case i == 0:
			s.Filter, s.QoS = "#", uint8(1+c.rng.IntN(2)) // something is always due
		case c.chance(15):
			s.Expiry = Duration(c.spread(time.Minute, 6*time.Hour).Round(time.Second))
		case c.chance(10):
			s.Clean = true
		}
		c.w.Subscribers = append(c.w.Subscribers, s)
	}
}

// fault draws one. All end before the calm begins.
func (c *chaos) fault() Fault {
	last := c.begin + c.span
	f := Fault{At: Duration(c.between(c.begin/2, last-time.Minute))}
	left := last - time.Duration(f.At)
	f.For = Duration(c.spread(time.Second, max(left, 2*time.Second)))
	f.Kind = pick(c, Crash, Crash, Crash, Crash, Cut, Cut, Cut, Reset, Full, Fail, Slow, Clock, Duplicate, Reorder, Away, Away, Clean)
	switch f.Kind {
	case Crash:
		f.Node, f.Torn = c.node(), c.chance(50)
		if c.chance(65) {
			f.On, f.Nth = pick(c, triggers()...), 1+c.rng.IntN(12)
			f.For = Duration(c.spread(time.Second, 10*time.Minute))
		}
	case Cut:
		f.Way = pick(c, Both, Both, There, Back)
	case Slow:
		f.Node, f.By = c.node(), Shift(c.spread(100*time.Millisecond, 20*time.Second))
	case Clock:
		f.Node, f.By, f.For = c.node(), c.shift(), 0
	case Full:
		f.Node, f.For = c.node(), Duration(c.spread(time.Second, min(left, time.Hour)))
	case Fail:
		f.Node, f.For = c.node(), 0
	case Reset, Duplicate, Reorder:
		f.For = 0
	case Away, Clean:
		f.Client = c.w.Subscribers[c.rng.IntN(len(c.w.Subscribers))].Client
		if f.Kind == Clean { // never of the first, so that something is always due
			f.Client, f.For = c.w.Subscribers[1+c.rng.IntN(len(c.w.Subscribers)-1)].Client, 0
		}
	case Damage, Purge, Retry: // drawn by the stores' own chaos
	}
	switch f.Kind {
	case Cut, Reset, Duplicate, Reorder:
		f.Link = c.w.Links[c.rng.IntN(len(c.w.Links))].Between
	default:
	}
	return f
}
