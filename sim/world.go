package sim

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/sim/scenario"
)

// Epoch is when every world begins.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a running scenario.
type world struct {
	sc      *scenario.World
	seed    uint64
	now     time.Duration
	end     time.Duration
	quiet   time.Duration // traffic ends
	rng     *rand.Rand    // of what is built; what happens draws from streams of its own
	events  queue
	nodes   []*node
	byName  map[string]*node
	links   []*link
	pubs    []*publisher
	subs    []*subscriber
	routes  *policy.Table
	judge   *oracle.Oracle
	log     digest
	trace   func(at time.Duration, line string)
	started bool
	tamper  tamper

	lastFlight  uint64
	lastSession uint64
	handled     uint64
	report      Report
}

// Option of Run.
type Option struct {
	// Trace, when set, is told every event in one line.
	Trace func(at time.Duration, line string)

	tamper tamper
}

// Run plays a world to its end.
func Run(sc *scenario.World, seed uint64, opt Option) (*Report, error) {
	began := time.Now() //nolint:forbidigo // wall_seconds is about the wall clock
	if sc.Chaos {
		sc = scenario.Chaos(seed)
	}
	w := &world{
		sc: sc, seed: seed, end: time.Duration(sc.Duration), byName: map[string]*node{}, trace: opt.Trace, tamper: opt.tamper,
		log: newDigest(),
	}
	w.rng = w.stream("world", 0)
	w.quiet = w.end * 6 / 10
	if sc.Calm > 0 {
		w.quiet = w.end - time.Duration(sc.Calm)
	}
	w.judge = oracle.New(oracle.Config{Now: func() time.Duration { return w.now }, Identify: identify, Unfold: members, Broken: w.broken, Max: 64})
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

// fault notes an error of the world itself.
func (w *world) fault(err error) {
	if err != nil && w.report.err == nil {
		w.report.err = fmt.Errorf("at %s: %w", w.now, err)
	}
}

// stream returns randomness that nothing else draws from: so a fault taken
// away does not change what chance brings elsewhere.
func (w *world) stream(what string, index int) *rand.Rand {
	d := newDigest()
	d.text(what)
	d.number(uint64(index))
	return rand.New(rand.NewPCG(w.seed, uint64(d)))
}

// digest is FNV-1a.
type digest uint64

func newDigest() digest { return 0xcbf29ce484222325 }

func (d *digest) byte(b byte) { *d = (*d ^ digest(b)) * 0x100000001b3 }

func (d *digest) number(n uint64) {
	for range 8 {
		d.byte(byte(n))
		n >>= 8
	}
}

func (d *digest) text(s string) {
	for i := range len(s) {
		d.byte(s[i])
	}
}

func (d digest) String() string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(d)))
}

// note adds an event to the log whose hash tells two runs apart.
func (w *world) note(kind byte, who string, a, b, c uint64) {
	w.log.number(uint64(w.now))
	w.log.byte(kind)
	w.log.text(who)
	w.log.number(a)
	w.log.number(b)
	w.log.number(c)
	if w.trace != nil {
		w.trace(w.now, fmt.Sprintf("%-9s %s %d %d %d", kinds[kind], who, a, b, c))
	}
}

// tell adds a line to the trace alone.
func (w *world) tell(format string, args ...any) {
	if w.trace != nil {
		w.trace(w.now, fmt.Sprintf(format, args...))
	}
}

func (w *world) broken(v oracle.Violation) { w.tell("BROKEN    %s", v) }

// The kinds of events in the log.
var kinds = map[byte]string{
	'B': "boot", 'X': "crash", 'U': "up", 'D': "down", 'F': "frame", 'P': "publish", 'A': "acked", 'M': "message",
	'K': "cut", 'H': "heal", 'S': "sync", 'E': "fault", 'C': "connect", 'G': "gone",
}

// build makes nodes, links and devices.
func (w *world) build() error {
	routes, err := w.sc.Policy()
	if err != nil {
		return err
	}
	w.routes = routes
	for i := range w.sc.Nodes {
		w.addNode(w.sc.Nodes[i])
	}
	links := w.sc.Links
	if g := w.sc.Grid; g != nil {
		links = append(slices.Clip(links), w.grid(g)...)
	}
	for i := range links {
		w.addLink(links[i])
	}
	w.devices()
	return nil
}

func (w *world) addNode(spec scenario.Node) {
	n := &node{
		w: w, index: len(w.nodes), spec: spec, name: addr.MustNode(spec.Name), region: addr.MustRegion(spec.Region),
		sessions: map[uint64]*session{}, incarnation: uint32(w.rng.Uint64() & 0xfffff), ahead: time.Duration(spec.Ahead),
		devices: map[string]device{},
	}
	n.rng = w.stream("node", n.index)
	n.judged()
	quotas, err := spec.Limits()
	w.fault(err)
	n.quotas = quotas
	w.nodes = append(w.nodes, n)
	w.byName[spec.Name] = n
}

func (w *world) addLink(spec scenario.Link) {
	l := &link{w: w, index: len(w.links), spec: spec, ways: spec.Ways(), ends: [2]*node{w.byName[spec.Between[0]], w.byName[spec.Between[1]]}}
	l.schedule = spec.Contacts.Schedule(epoch)
	for i, n := range l.ends {
		n.links = append(n.links, l)
		l.rng[i] = w.stream("link", 2*l.index+i)
	}
	l.name = spec.Between[0] + "-" + spec.Between[1]
	w.links = append(w.links, l)
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
		w.addNode(scenario.Node{Name: scenario.GridName(i), Region: fmt.Sprintf("r%d", i*g.Regions/g.Nodes)})
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
	// Not those of the ring: what a class has no way for would wait for ever.
	for i := g.Nodes; i < min(g.Nodes+g.Choosy, len(links)); i++ {
		links[i].Classes = [][]string{{"alarm"}, {"alarm", "interactive", "telemetry"}, {"bulk"}}[i%3]
	}
	return links
}

// start schedules traffic and faults.
func (w *world) start() {
	for _, l := range w.links {
		l.tryConnect()
		for _, c := range l.spec.Cuts {
			w.at(time.Duration(c.At), func() { l.cutFor(time.Duration(c.For), scenario.Both) })
		}
	}
	for _, c := range w.sc.Crashes {
		n := w.byName[c.Node]
		w.at(time.Duration(c.At), func() { n.crash(time.Duration(c.For), false) })
	}
	for range w.sc.Random.Crashes {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		w.at(w.within(w.quiet), func() { n.crash(w.within(w.end/50), false) })
	}
	for range w.sc.Random.Cuts {
		l := w.links[w.rng.IntN(len(w.links))]
		w.at(w.within(w.quiet), func() { l.cutFor(w.within(w.end/50), scenario.Both) })
	}
	for i := range w.sc.Faults {
		w.arm(&w.sc.Faults[i])
	}
	w.at(w.quiet, func() {
		for _, n := range w.nodes {
			n.triggers = nil // those that did not fire
		}
	})
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
	for _, n := range w.nodes {
		if !n.knowsAll() {
			w.after(max(time.Second, w.end/1000), w.beginTraffic)
			return
		}
	}
	w.started = true
	for _, p := range w.pubs {
		w.after(time.Duration(w.rng.Int64N(int64(p.spec.Every))), p.tick)
		for _, b := range p.spec.Bursts {
			w.at(time.Duration(b.At), func() { p.burst(b.N) })
		}
	}
}

// reaches reports whether the routes let a message for a topic come to n for
// certain. One that may go to several regions goes to the first that is up.
func (w *world) reaches(topic string, n *node) bool {
	route, ok := w.routes.ForTopic(topic)
	if !ok || len(route.To) == 0 {
		return true
	}
	return len(route.To) == 1 && route.Unreachable == policy.Store && route.To[0].Contains(n.region)
}

// yields reports whether old messages of a topic make room for new ones.
func (w *world) yields(topic string) bool {
	route, ok := w.routes.ForTopic(topic)
	return ok && route.OnFull == policy.DropOldest
}

func (w *world) finish() {
	r := &w.report
	r.Seed, r.Name, r.Nodes, r.Links = w.seed, w.sc.Name, len(w.nodes), len(w.links)
	r.VirtualSeconds, r.Events = w.end.Seconds(), w.handled
	r.LogHash = w.log.String()
	for _, n := range w.nodes {
		n.count(r)
	}
	for _, l := range w.links {
		if l.down() {
			r.LinksDown++
		}
	}
	if w.sc.Drains && !w.started {
		w.fault(fmt.Errorf("the world ended before every node knew of every subscriber"))
	}
	w.tamper.end(w)
	for _, n := range w.nodes {
		n.unread()
	}
	w.judge.Finish(w.sc.Drains)
	r.fill(w.judge)
}

// matches reports whether a topic is for a filter.
func matches(filter, topic string) bool { return interest.Match(filter, topic) }
