package oracle

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Oracle watches one world. It is for one goroutine.
type Oracle struct {
	Tally Tally

	cfg        Config
	nodes      []*Node
	byName     map[addr.Node]*Node
	messages   map[bundle.ID]*message
	pubs       [][]*publication // by publisher and number
	devices    []*Device
	violations []Violation
}

// publication is a message as its publisher and its devices know it. Published
// again after a crash it is several messages of the mesh.
type publication struct {
	key     Publication
	topic   string
	qos     uint8
	at      int64 // ns of virtual time
	due     []*Device
	got     []*Device
	retain  bool
	resent  bool
	acked   bool
	refused bool
	blamed  bool
	loose   bool // order is not promised
	keyed   bool // it has a Key: published again it is the same
	ids     []*message
}

// message is what one submission became.
type message struct {
	id     bundle.ID
	pub    *publication // nil: not of a publisher
	topic  string
	qos    uint8
	blamed bool
	acked  bool
	taken  []*Node // nodes that put it, durably
	copies []*custody
	ends   []ended
}

// custody is one copy that travels: from the node that made its bundle to a
// node or a region.
type custody struct {
	m       *message
	batch   []*message // all that are in it, m the first; nil: m alone
	origin  addr.Node
	dest    store.Queue
	holders int  // durable places of it
	arrived bool // taken in at its destination
	idle    bool // came to its destination when nobody there wanted it
	late    bool // after the gap it left was given up
	reason  bundle.Reason
}

// carried returns the messages that travel in the copy.
func (c *custody) carried() []*message {
	if c.batch != nil {
		return c.batch
	}
	return []*message{c.m}
}

func (c *custody) over() bool { return c.arrived || c.reason != bundle.OK }

// place is one entry of a message in a store: the oracle's own picture of the
// disk.
type place struct {
	m       *message
	c       *custody // nil: it is at its destination
	queue   store.Queue
	expires int64
	since   int64 // ms of the node's clock when it was put
	size    int64
	state   store.EntryState
	h       *store.Header
}

// bytes is what the place adds to the bytes of its node: an obituary nothing.
func (p *place) bytes() int64 {
	if p.state == store.Ended {
		return 0
	}
	return p.size
}

// New returns an Oracle that knows nobody.
func New(cfg Config) *Oracle {
	cfg.Max = cmp.Or(cfg.Max, 16)
	return &Oracle{cfg: cfg, byName: map[addr.Node]*Node{}, messages: map[bundle.ID]*message{}}
}

// Node is the oracle's view of one node.
type Node struct {
	o   *Oracle
	cfg NodeConfig

	places   map[uint64][]place // by Seq: what is durable
	counts   map[store.Queue]int
	holds    map[*custody]int
	took     map[hop]bool   // custody taken
	queued   map[visit]bool // sessions a message was queued for
	staged   []*store.Batch
	lastSeq  uint64 // highest Seq in a batch, durable or not
	bytes    int64  // of all places: a message in two queues counts twice
	orders   int    // durable places that wait for their order
	sessions map[string]*session
	tokens   map[uint64]*attempt
	ends     map[uint64]*end          // link sessions
	arriving map[*custody]arrivalInfo // came in over a link, not yet acknowledged
	released map[spot]bool            // the peer acknowledged custody
	denied   map[spot]bundle.Reason   // the peer refused it for good
	settled  map[spot]bool            // the device or service is done with it
	retained map[string]Publication   // durable, by topic
	gapsPast uint64                   // given up in earlier lives
	gapsSeen uint64
	lateSeen uint64
	books    books
	damaged  map[uint64]bool      // by Seq: the disk changed it
	bare     map[store.Queue]bool // a record of it was damaged
}

type hop struct {
	id   bundle.ID
	hops uint8
}

type visit struct {
	client string
	id     bundle.ID
}

type spot struct {
	queue store.Queue
	seq   uint64
}

type attempt struct {
	pub       *publication
	at        int64 // node's clock, ms
	displaced int   // older messages that made room for it
}

// Node adds a node.
func (o *Oracle) Node(cfg NodeConfig) *Node {
	n := &Node{
		o: o, cfg: cfg, places: map[uint64][]place{}, counts: map[store.Queue]int{}, holds: map[*custody]int{},
		took: map[hop]bool{}, queued: map[visit]bool{}, sessions: map[string]*session{}, retained: map[string]Publication{},
		damaged: map[uint64]bool{}, bare: map[store.Queue]bool{},
	}
	n.forget()
	o.nodes = append(o.nodes, n)
	o.byName[cfg.Name] = n
	return n
}

// forget drops what only a running node knows.
func (n *Node) forget() {
	n.staged = nil
	n.books = books{}
	n.tokens, n.ends = map[uint64]*attempt{}, map[uint64]*end{}
	n.arriving = map[*custody]arrivalInfo{}
	n.released, n.settled, n.denied = map[spot]bool{}, map[spot]bool{}, map[spot]bundle.Reason{}
}

// Crashed tells that a node lost what was not durable. What of the staged
// batches survived was told to Persisted before.
func (n *Node) Crashed() {
	if n.cfg.Stats != nil {
		n.gapsPast += n.cfg.Stats().GapsGivenUp
	}
	for _, a := range n.tokens {
		if len(a.pub.ids) == 0 && a.pub.qos > 0 {
			n.o.Tally.OpenCrash++
		}
	}
	for _, b := range n.staged {
		for i := range b.Puts {
			n.undo(&b.Puts[i])
		}
	}
	n.forget()
	for _, s := range n.sessions {
		s.lost(n.cfg.Clock())
	}
}

// undo unbinds messages that never became durable: their numbers are drawn
// again.
func (n *Node) undo(p *store.Put) {
	if !p.Header.Prev.IsZero() {
		return
	}
	for _, one := range n.members(p) {
		m := n.o.messages[one.ID]
		if m == nil || len(m.taken) > 0 {
			continue
		}
		delete(n.o.messages, one.ID)
		if m.pub != nil {
			m.pub.ids = slices.DeleteFunc(m.pub.ids, func(o *message) bool { return o == m })
		}
	}
}

// Booted compares what a restarted node found with what was durable.
func (n *Node) Booted(sum store.Summary, scan func(store.Queue) []store.Item) {
	n.lastSeq = sum.NextSeq - 1
	for _, s := range n.sessions {
		s.away = n.cfg.Clock() // the time of an earlier disconnect is lost with a crash
	}
	found := map[store.Queue]bool{}
	for _, q := range sum.Queues {
		found[q.Queue] = true
		if n.counts[q.Queue] != q.Count {
			n.recount(q.Queue, scan(q.Queue))
		}
	}
	for _, q := range n.queues() {
		if !found[q] {
			n.recount(q, nil)
		}
	}
}

// queues returns the queues that are not empty, sorted.
func (n *Node) queues() []store.Queue {
	var out []store.Queue
	for q, count := range n.counts {
		if count > 0 {
			out = append(out, q)
		}
	}
	slices.SortFunc(out, func(a, b store.Queue) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class))
	})
	return out
}

// recount names the messages that a restart lost or made up.
func (n *Node) recount(q store.Queue, items []store.Item) {
	have := map[uint64]bool{}
	for _, i := range items {
		have[i.Header.Seq] = true
		if n.find(q, i.Header.Seq) == nil {
			n.o.broken(Recovery, n, i.Header.Message.String(), "%s holds a message that was never durable there", core.QueueText(q))
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(n.places)) {
		for _, p := range slices.Clone(n.places[seq]) {
			if p.queue == q && !have[seq] {
				n.o.blame(Recovery, n, p.m, "it was durable in %s, and the restart did not find it", core.QueueText(q))
				n.remove(q, seq, p.m)
			}
		}
	}
}

// remove takes an entry out of the picture, whatever the cause.
func (n *Node) remove(q store.Queue, seq uint64, m *message) {
	all := n.places[seq]
	for i := range all {
		if all[i].queue == q && all[i].m == m {
			p := all[i]
			n.unhold(&p)
			if n.counts[q]--; n.counts[q] == 0 {
				delete(n.counts, q)
			}
			all[i] = all[len(all)-1]
			n.places[seq] = all[:len(all)-1]
			break
		}
	}
	if len(n.places[seq]) == 0 {
		delete(n.places, seq)
	}
}

func (n *Node) find(q store.Queue, seq uint64) *place {
	all := n.places[seq]
	for i := range all {
		if all[i].queue == q {
			return &all[i]
		}
	}
	return nil
}

// message returns the record of an id, nil for the zero id.
func (o *Oracle) message(id bundle.ID) *message {
	if id.IsZero() {
		return nil
	}
	m := o.messages[id]
	if m == nil {
		m = &message{id: id}
		o.messages[id] = m
	}
	return m
}

// copyTo returns the copy of m that origin made for dest.
func (m *message) copyTo(origin addr.Node, dest store.Queue) *custody {
	for _, c := range m.copies {
		if c.origin == origin && c.dest == dest {
			return c
		}
	}
	c := &custody{m: m, origin: origin, dest: dest}
	m.copies = append(m.copies, c)
	return c
}

func (m *message) takenBy(n *Node) bool {
	return slices.Contains(m.taken, n)
}

// publication returns the record of a publication, making it when new.
func (o *Oracle) publication(k Publication) *publication {
	for len(o.pubs) <= k.Publisher {
		o.pubs = append(o.pubs, nil)
	}
	all := o.pubs[k.Publisher]
	for uint64(len(all)) < k.Number {
		all = append(all, nil)
	}
	o.pubs[k.Publisher] = all
	p := all[k.Number-1]
	if p == nil {
		p = &publication{key: k, at: int64(o.cfg.Now())}
		all[k.Number-1] = p
	}
	return p
}

// wanting reports whether a session of this node that outlives its connection
// has wanted a topic since before a time.
func (n *Node) wanting(m *message, before int64) bool {
	for _, s := range n.sessions {
		if !s.firm || s.gone(n.cfg.Clock()) {
			continue
		}
		for _, f := range s.filters {
			if f.qos > 0 && m.qos > 0 && f.since < before && interest.Match(f.filter, m.topic) {
				return true
			}
		}
	}
	return false
}
