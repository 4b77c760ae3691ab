package sim

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/sim/scenario"
)

// Epoch is when every world begins.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a running scenario.
type world struct {
	sc     *scenario.World
	seed   uint64
	now    time.Duration
	end    time.Duration
	rng    *rand.Rand
	events queue
	nodes  []*node
	byName map[string]*node
	links  []*link
	pubs   []*publisher
	subs   []*subscriber
	routes *policy.Table
	log    hash.Hash64
	trace  func(at time.Duration, line string)

	lastSession uint64
	handled     uint64
	report      Report
	ledger      ledger
}

// Option of Run.
type Option struct {
	// Trace, when set, is told every event in one line.
	Trace func(at time.Duration, line string)
}

// Run plays a world to its end.
func Run(sc *scenario.World, seed uint64, opt Option) (*Report, error) {
	began := time.Now() //nolint:forbidigo // wall_seconds is about the wall clock
	w := &world{
		sc: sc, seed: seed, end: time.Duration(sc.Duration), rng: rand.New(rand.NewPCG(seed, 0x6661726f70)),
		byName: map[string]*node{}, log: fnv.New64a(), trace: opt.Trace,
	}
	if err := w.build(); err != nil {
		return nil, err
	}
	for _, n := range w.nodes {
		if err := n.boot(); err != nil {
			return nil, err
		}
	}
	w.start()
	for w.events.len() > 0 {
		e := w.events.pop()
		if e.at > w.end {
			break
		}
		w.now = e.at
		w.handled++
		e.run()
	}
	w.now = w.end
	w.finish()
	w.report.WallSeconds = time.Since(began).Seconds() //nolint:forbidigo // as above
	return &w.report, w.report.err
}

func (w *world) clock() time.Time { return epoch.Add(w.now) }

func (w *world) after(d time.Duration, run func()) { w.events.push(w.now+max(d, 0), run) }

func (w *world) at(t time.Duration, run func()) { w.events.push(max(t, w.now), run) }

// note adds an event to the log whose hash tells two runs apart.
func (w *world) note(kind byte, who string, numbers ...uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(w.now))
	_, _ = w.log.Write(b[:])
	_, _ = w.log.Write([]byte{kind})
	_, _ = w.log.Write([]byte(who))
	for _, n := range numbers {
		binary.BigEndian.PutUint64(b[:], n)
		_, _ = w.log.Write(b[:])
	}
	if w.trace != nil {
		w.trace(w.now, fmt.Sprintf("%-9s %s %v", kinds[kind], who, numbers))
	}
}

// The kinds of events in the log.
var kinds = map[byte]string{
	'B': "boot", 'X': "crash", 'U': "up", 'D': "down", 'F': "frame", 'P': "publish", 'A': "acked", 'M': "message",
	'K': "cut", 'H': "heal", 'S': "sync",
}

// build makes nodes, links and devices.
func (w *world) build() error {
	routes, err := w.sc.Policy()
	if err != nil {
		return err
	}
	w.routes = routes
	for _, n := range w.sc.Nodes {
		w.addNode(n.Name, n.Region)
	}
	links := w.sc.Links
	if g := w.sc.Grid; g != nil {
		links = append(links, w.grid(g)...)
	}
	for i := range links {
		l := &link{w: w, index: i, spec: links[i], a: w.byName[links[i].Between[0]], b: w.byName[links[i].Between[1]]}
		l.schedule = links[i].Contacts.Schedule(epoch)
		l.a.links, l.b.links = append(l.a.links, l), append(l.b.links, l)
		w.links = append(w.links, l)
	}
	w.devices()
	return nil
}

func (w *world) addNode(name, region string) {
	n := &node{
		w: w, name: addr.MustNode(name), region: addr.MustRegion(region), sessions: map[uint64]*link{},
		incarnation: uint32(w.rng.Uint64() & 0xfffff),
	}
	w.nodes = append(w.nodes, n)
	w.byName[name] = n
}

// grid makes a ring, so that all is connected, and random chords.
func (w *world) grid(g *scenario.Grid) []scenario.Link {
	var links []scenario.Link
	join := func(a, b int) {
		links = append(links, scenario.Link{
			Between: [2]string{scenario.GridName(a), scenario.GridName(b)},
			Delay:   g.Delay + scenario.Duration(w.rng.Int64N(int64(g.Delay)+1)),
		})
	}
	for i := range g.Nodes {
		w.addNode(scenario.GridName(i), fmt.Sprintf("r%d", i*g.Regions/g.Nodes))
	}
	have := map[[2]int]bool{}
	for i := range g.Nodes {
		have[[2]int{i, (i + 1) % g.Nodes}] = true
		join(i, (i+1)%g.Nodes)
	}
	for range g.Nodes * (g.Degree - 1) / 2 {
		a, b := w.rng.IntN(g.Nodes), w.rng.IntN(g.Nodes)
		if a == b || have[[2]int{a, b}] || have[[2]int{b, a}] {
			continue
		}
		have[[2]int{a, b}] = true
		join(a, b)
	}
	return links
}

// start schedules traffic and faults.
func (w *world) start() {
	for _, l := range w.links {
		l.tryConnect()
		for _, c := range l.spec.Cuts {
			w.at(time.Duration(c.At), func() { l.cutFor(time.Duration(c.For)) })
		}
	}
	for _, c := range w.sc.Crashes {
		n := w.byName[c.Node]
		w.at(time.Duration(c.At), func() { n.crash(time.Duration(c.For)) })
	}
	traffic := w.end * 6 / 10
	for range w.sc.Random.Crashes {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		w.at(w.within(traffic), func() { n.crash(w.within(w.end / 50)) })
	}
	for range w.sc.Random.Cuts {
		l := w.links[w.rng.IntN(len(w.links))]
		w.at(w.within(traffic), func() { l.cutFor(w.within(w.end / 50)) })
	}
	for _, s := range w.subs {
		s.begin()
	}
	w.after(time.Second, w.beginTraffic)
}

func (w *world) within(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

// beginTraffic lets devices publish once every node knows who subscribed:
// before that, "nobody wants it" is a true answer.
func (w *world) beginTraffic() {
	for _, p := range w.pubs {
		snap := p.node.core.Snapshot()
		known := map[string]bool{}
		for _, a := range snap.Adverts {
			if len(a.Interest) > 0 {
				known[a.Node.String()] = true
			}
		}
		for _, s := range w.subs {
			if !known[s.node.name.String()] {
				w.after(time.Second, w.beginTraffic)
				return
			}
		}
	}
	for _, p := range w.pubs {
		p.begin()
	}
}

func (w *world) finish() {
	r := &w.report
	r.Seed, r.Name, r.Nodes, r.Links = w.seed, w.sc.Name, len(w.nodes), len(w.links)
	r.VirtualSeconds, r.Events = w.end.Seconds(), w.handled
	r.LogHash = hex.EncodeToString(w.log.Sum(nil))
	for _, n := range w.nodes {
		n.count(r)
	}
	w.ledger.judge(w, r)
}
