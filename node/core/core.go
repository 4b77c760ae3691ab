package core

import (
	"cmp"
	"math"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/contact"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Schedule is when a link can carry.
type Schedule = contact.Schedule

// Defaults and limits.
const (
	DefaultTTL       = 72 * time.Hour
	DefaultOrderWait = 10 * time.Minute
	DefaultWindow    = 4 << 20 // bytes in flight on one link
	MaxHops          = 255     // hops of a bundle; what wanders is slowed down long before
	freeHops         = 16      // hops of a bundle that nothing slows down
	MaxPayload       = 4 << 20 // bytes of an encoded payload block; every link's frame holds one
	maxRetained      = 3500    // bytes of the topic of a retained message, a key of the store
	maxInterest      = 256 << 10
	maxNodes         = 10_000 // known of the mesh
	maxAdvert        = 1 << 62
	maxFlights       = 4096 // bundles in flight per link and class; below storeforward.Span
	serviceWindow    = 256  // deliveries in flight to one service
)

// Config is what a node is for as long as it runs.
type Config struct {
	Self        addr.Node
	Region      addr.Region
	Incarnation uint32 // of the store
	Clock       bool   // wall time is trusted: bundles carry their creation time
	Limits      storeforward.Config

	// Stamped returns a copy of the payload block of a publication that says
	// its stamp, for wills that are retained. It must follow from its arguments.
	Stamped func(block *store.Blob, s Stamp) *store.Blob
}

// Core is the state of one node. It is not safe for concurrent use.
type Core struct {
	cfg      Config
	settings Settings
	routes   *policy.Table
	table    *routing.Table
	m        *storeforward.Machine
	now      int64 // ms, of the event being handled

	dests    map[store.Queue]*dest
	changed  []*dest // whose numbers are not in a batch yet
	drawn    bool    // bundles or msgs are not in a batch yet
	source   addr.EID
	arena    []byte // frozen parts of bundles are cut from it, many to an allocation
	bundles  [bundle.NumClasses]uint64
	msgs     [bundle.NumClasses]uint64
	dirty    dirtySet
	hops     map[hopKey]*storeforward.Window
	messages map[originKey]*storeforward.Window
	legs     map[originKey]*leg
	held     []*leg // legs that hold messages back, in the order they began to

	sessions map[string]*session
	away     awayHeap // offline sessions with an end
	subs     interest.Trie[*subscription]
	services map[string]*server

	shares      interest.Trie[*group] // by what they subscribe to
	groups      map[string]*group     // by "$share/GROUP/FILTER"
	groupBytes  int                   // of their names
	holding     map[string]bool       // groups that messages are held for
	moved       map[string]bool       // groups that may find a member they did not find before
	groupsDirty bool                  // what the mesh knows of the groups may differ
	sentOld     map[string]uint64     // of sessions that ended and left messages, by client: see session
	pace        pace

	early     []earlyAsk
	links     map[uint64]*link
	linkOrder []*link               // by ID
	byNode    map[addr.Node][]*link // the cheapest first
	edges     map[addr.Node]string  // which of them the mesh was told of, by name
	flaps     map[addr.Node]*flap
	told      *routing.Advert // of this node, as the mesh knows it; nil: of nothing yet
	outlets   map[addr.Node]*storeforward.Outlet
	hot       []*storeforward.Outlet

	advert      routing.Advert
	bootSeq     uint64    // messages up to this Seq are of an earlier boot
	bootLSN     store.LSN // adverts may leave once the boot number is durable
	advertDirty bool
	interest    interestWatch
	pathsDirty  bool
	converge    int64 // ms: paths are the cheapest again; 0: they are
	scout       int64 // ms: alternates are looked for; 0: they are known
	due         int64 // ms: the wake-up that was asked for; 0: there was an event since
	heldDirty   bool  // messages held for a region may have found a recipient

	seen       seen
	purges     map[store.Queue][]purge
	rests      []rest
	batches    map[store.Queue]*openBatch
	joined     map[string]storeforward.Usage // by account: what waits in open batches
	retained   retained
	wills      wills
	roam       roaming
	room       room
	outbox     outbox
	dockets    dockets
	echoes     echoes
	reach      reach
	openOrder  []*openBatch
	pool       []*openBatch
	regions    []addr.Region   // scratch of charges
	charging   []policy.Charge // scratch of charges
	gate       gate
	cur, spare *Effects
	halted     bool
	watched    bool // Sights are told
	stats      Stats
	watching   LinkStats
}

// New returns the core of a node. Call Restore before anything else.
func New(cfg Config) *Core {
	c := &Core{
		cfg: cfg, table: routing.NewTable(cfg.Self), routes: &policy.Table{},
		seen: seen{until: map[Key]int64{}}, purges: map[store.Queue][]purge{},
		batches: map[store.Queue]*openBatch{}, joined: map[string]storeforward.Usage{}, dests: map[store.Queue]*dest{}, source: addr.NodeEID(cfg.Self, ServiceMQTT), hops: map[hopKey]*storeforward.Window{},
		messages: map[originKey]*storeforward.Window{}, legs: map[originKey]*leg{},
		sessions: map[string]*session{}, services: map[string]*server{},
		links: map[uint64]*link{}, byNode: map[addr.Node][]*link{}, edges: map[addr.Node]string{}, flaps: map[addr.Node]*flap{}, outlets: map[addr.Node]*storeforward.Outlet{},
		settings: Settings{TTL: DefaultTTL, OrderWait: DefaultOrderWait, Quotas: &policy.Quotas{}},
		groups:   map[string]*group{}, holding: map[string]bool{}, moved: map[string]bool{}, sentOld: map[string]uint64{},
		cur: &Effects{}, spare: &Effects{}, advertDirty: true, interest: interestWatch{dirty: true},
	}
	c.dirty.set, c.room.limit = map[dirtyKey]bool{}, math.MaxInt64
	c.retained, c.roam = newRetained(), newRoaming()
	c.settings.Retained.defaults()
	c.settings.Wills.defaults()
	c.wills.of = map[string]*will{}
	c.m = storeforward.New(cfg.Limits, c.outletOf)
	c.advert = routing.Advert{Node: cfg.Self, Region: cfg.Region}
	return c
}

// Configure puts settings and routes in force.
func (c *Core) Configure(now time.Time, s Settings, routes *policy.Table) {
	c.at(now)
	s.TTL = cmp.Or(s.TTL, DefaultTTL)
	s.OrderWait = cmp.Or(s.OrderWait, DefaultOrderWait)
	s.Retained.defaults()
	s.Wills.defaults()
	if s.Quotas == nil {
		s.Quotas = &policy.Quotas{}
	}
	c.settings = s
	if routes != nil {
		c.routes = routes
	}
	c.advert.Services, c.advert.Fleet = s.Services, s.Fleet
	c.advertDirty, c.interest.dirty, c.heldDirty, c.cur.Changed = true, true, true, true
}

// SetState writes one key of the node's own durable state; the Reply comes
// when it is durable, or refused: a large one as StoreFull. A nil value deletes.
func (c *Core) SetState(now time.Time, token uint64, key string, value []byte) {
	c.at(now)
	set := store.Set{Key: StatePrefix + key, Value: value}
	if len(value) > smallState && !c.hasRoom(bundle.Control, set.Cost()) {
		c.reply(Reply{Token: token, Reason: bundle.StoreFull})
		return
	}
	c.setLarge(set)
	c.reply(Reply{Token: token})
}

// Persisted tells that every batch up to lsn would survive a power cut.
func (c *Core) Persisted(now time.Time, lsn store.LSN) {
	c.at(now)
	c.m.Persisted(lsn)
	c.gate.persisted = max(c.gate.persisted, lsn)
}

// Failed tells that a batch could not be written. What rested on it is
// refused, and the core stops: the driver closes the node, and recovery
// starts again from what is on disk, so that memory and disk cannot differ.
func (c *Core) Failed(now time.Time) {
	c.at(now)
	c.halted = true
	for _, g := range c.gate.replies {
		c.cur.Replies = append(c.cur.Replies, Reply{Token: g.reply.Token, Reason: bundle.DiskFailed})
	}
	c.gate.replies = nil
	for _, b := range c.openOrder {
		for _, r := range b.replies {
			c.cur.Replies = append(c.cur.Replies, Reply{Token: r.Token, Reason: bundle.DiskFailed})
		}
		b.replies = nil
	}
}

// Loaded answers a Load.
func (c *Core) Loaded(now time.Time, q store.Queue, items []store.Item) {
	c.at(now)
	if n := c.m.Loaded(q, items); n > 0 {
		c.stats.Ended[bundle.Damaged] += uint64(n)
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: recountKey, Value: []byte{1}})
	}
	if len(c.purges[q]) > 0 {
		c.purgeOn(c.m.Lookup(q))
	}
	switch q.Kind {
	case store.ToOrder:
		c.restoreHeld(q)
	case store.ToRegion:
		c.heldDirty = true
	case store.ToSession:
		c.purge(q)
		if s := c.sessions[q.Name]; s != nil && s.conn == 0 {
			c.groupsMoved(s)
		}
	case store.ToService:
		if isHeldFor(q) {
			c.moved[q.Name] = true
		}
	case store.ToNode:
	}
}

// Tick lets time pass.
func (c *Core) Tick(now time.Time) {
	c.at(now)
	c.expire()
	c.tickLegs()
	c.tickLinks()
	c.tickSessions()
	c.tickGroups()
	c.tickRests()
	c.tickRetained()
	c.tickWills()
	c.tickDockets()
	c.tickRoaming()
}

// Wake returns when Tick is due at the latest; the zero Time when nothing is.
// The next event tells how late the driver was: call Wake after every Take.
func (c *Core) Wake() time.Time {
	var w wake
	if ms, ok := c.m.NextExpiry(); ok {
		w.min(ms)
	}
	c.wakeLegs(&w)
	c.wakeLinks(&w)
	c.wakeFlaps(&w)
	c.wakeSessions(&w)
	c.wakeGroups(&w)
	c.wakeRests(&w)
	c.wakeBatches(&w)
	c.wakeRetained(&w)
	c.wakeRoaming(&w)
	c.wakeInterest(&w)
	c.wakeWills(&w)
	c.wakeDockets(&w)
	c.wakeRegions(&w)
	if c.due = w.ms; w.ms == 0 {
		return time.Time{}
	}
	c.due = max(w.ms, c.now) // nobody wakes us in the past
	return time.UnixMilli(w.ms)
}

type wake struct{ ms int64 }

func (w *wake) min(ms int64) {
	if w.ms == 0 || ms < w.ms {
		w.ms = ms
	}
}

// Take returns what has to be done, nil when there is nothing. Call it until
// it returns nil. The Effects are valid until the next call.
func (c *Core) Take() *Effects {
	if !c.halted {
		if c.heldDirty {
			c.resolveHeld()
		}
		c.closeDue()
		c.refreshAdvert()
		c.workSync()
		c.workClaims()
		c.workFences()
		if c.pathsDirty {
			c.reroute()
		}
		c.tellRegions()
		c.moveGroups()
		c.dispatch()
		c.offerEarly()
		c.flushReports()
		c.answerEchoes()
		c.settleDockets()
		c.encodeDirty()
		c.cur.Loads = append(c.cur.Loads, c.m.Loads()...)
		if c.cur.Write = c.cut(); c.cur.Write != nil {
			c.cur.Write.Lazy = c.lazy(c.cur.Write)
		}
		c.release()
	}
	if c.cur.empty() {
		return nil
	}
	c.cur, c.spare = c.spare, c.cur
	c.cur.reset()
	return c.spare
}

// at sets the time of an event. One that comes later than the wake-up that was
// asked for says that this node was late itself.
func (c *Core) at(now time.Time) {
	c.now = max(c.now, now.UnixMilli())
	if by := c.now - c.due; c.due != 0 && by > wakeSlack {
		c.late(by)
	}
	c.due = 0
}

// dispatch serves every outlet that may have something to take.
func (c *Core) dispatch() {
	c.hot = c.m.TakeHot(c.hot)
	for _, o := range c.hot {
		storing := false
		switch owner := o.Owner.(type) {
		case addr.Node:
			storing = c.serveNode(o, owner)
		case *session:
			storing = c.serveSession(owner)
		case *server:
			storing = c.serveService(owner)
		}
		if storing {
			c.m.Hot(o)
		}
	}
}

// outletOf names who serves a queue.
func (c *Core) outletOf(q store.Queue) *storeforward.Outlet {
	switch q.Kind {
	case store.ToNode:
		if n, err := addr.ParseNode(q.Name); err == nil {
			return c.outlet(c.table.ClassPath(q.Class, n).Hop)
		}
	case store.ToRegion:
		if r, err := addr.ParseRegion(q.Name); err == nil && !r.Contains(c.cfg.Region) {
			_, p := c.table.RegionPath(q.Class, r)
			return c.outlet(p.Hop)
		}
	case store.ToSession:
		if s := c.sessions[q.Name]; s != nil {
			return s.served()
		}
	case store.ToService:
		if !isHeldFor(q) {
			return c.server(q.Name).outlet
		}
	case store.ToOrder:
	}
	return nil
}

func (c *Core) outlet(hop addr.Node) *storeforward.Outlet {
	if hop.IsZero() {
		return nil
	}
	o := c.outlets[hop]
	if o == nil {
		o = storeforward.NewOutlet(hop)
		c.outlets[hop] = o
	}
	return o
}

func (c *Core) reroute() {
	c.pathsDirty, c.reach.dirty = false, true
	if c.scout == 0 && !c.table.Prepared() {
		c.scout = c.now + scoutPace + int64(len(c.table.Nodes()))/scoutNodes
	}
	c.m.Reroute()
	c.moveFlights()
	c.spareOnlyWays()
	c.allGroupsMoved()
	c.reroutedAway()
	c.roamRerouted()
}

func (e *Effects) empty() bool {
	return e.Write == nil && len(e.Loads)+len(e.Sends)+len(e.Deliver)+len(e.Live)+len(e.Replies)+len(e.Close)+len(e.Keeps)+len(e.Fetches)+len(e.Words)+len(e.Echoes)+len(e.Regions)+len(e.Sights)+len(e.Silences)+len(e.Renew)+len(e.TakenOver)+len(e.Came)+len(e.Gone)+len(e.Early) == 0 && !e.Changed
}

func (e *Effects) reset() {
	clear(e.Sends)
	clear(e.Deliver)
	clear(e.Live)
	clear(e.Keeps)
	clear(e.Fetches)
	clear(e.Words)
	clear(e.Sights)
	clear(e.Early)
	*e = Effects{
		Loads: e.Loads[:0], Sends: e.Sends[:0], Deliver: e.Deliver[:0], Live: e.Live[:0],
		Replies: e.Replies[:0], Close: e.Close[:0], Keeps: e.Keeps[:0], Fetches: e.Fetches[:0], Words: e.Words[:0], Echoes: e.Echoes[:0],
		Regions: e.Regions[:0], Sights: e.Sights[:0], Silences: e.Silences[:0], Renew: e.Renew[:0], TakenOver: e.TakenOver[:0], Early: e.Early[:0],
		Came: emptied(e.Came), Gone: emptied(e.Gone),
	}
}
