package core

import (
	"container/heap"
	"encoding/json"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Ask is what the publisher of a message wants to hear of it.
type Ask struct {
	Receipts    string // topic of a word for each region, "": none
	Answer      string // response topic of a request that is answered early when nobody has it, "": none
	Correlation []byte // of that answer
}

// IsZero reports whether nothing is asked.
func (a *Ask) IsZero() bool { return a.Receipts == "" && a.Answer == "" }

// WordState is the final word on a message in one region.
type WordState uint8

// The words. Delivered: a recipient there took it. Lapsed: its life ended
// first, everywhere. Rejected: it ended for another reason. Unknown: nobody
// said in time. Untracked: too much was asked for, this is not followed.
const (
	Delivered WordState = iota
	Lapsed
	Rejected
	Unknown
	Untracked
)

var wordNames = []string{"delivered", "expired", "refused", "unknown", "untracked"}

// String is the word as publishers read it.
func (w WordState) String() string { return wordNames[w] }

// Word is what a publisher hears. The driver answers with a Submission that
// has it: only then is it not told again after a restart.
type Word struct {
	Message   bundle.ID
	Client    string
	Topic     string
	Region    addr.Region // zero for an answer
	Node      addr.Node   // whose report was the last
	State     WordState
	Reason    bundle.Reason // of what was not delivered, the last; OK: all was
	Delivered int           // recipients
	Expired   int
	Refused   int
	Answer    bool // no responder: Topic is the response topic
	Last      bool // of a receipt: no other region has a word to come
	Correlate []byte
}

// Limits of what is followed.
const (
	maxDockets   = 1 << 16
	maxPerClient = 4096
	maxAskRate   = 2000 // a second
	maxAskBurst  = 8192
	maxAskText   = 4096 // bytes of each topic and the correlation data
	maxHolders   = 4096
	wordRetry    = 5000 // ms until a word is tried again that found no room
)

// docket follows one message whose publisher asked.
type docket struct {
	ID       bundle.ID       `json:"-"`
	Client   string          `json:"c"`
	Receipts string          `json:"t,omitempty"`
	Answer   string          `json:"a,omitempty"`
	Corr     []byte          `json:"k,omitempty"`
	Ends     int64           `json:"e"` // ms: what is not known by then is Unknown
	Holders  []*holder       `json:"h"`
	Told     []string        `json:"w,omitempty"` // regions whose word is durable at the publisher, or needless
	Over     bool            `json:"o,omitempty"` // Ends is past
	asked    map[string]bool // words that are with the driver, "" for the answer
	at       int             // in the heap
	dirty    bool
}

// holder is a node that has, or is to get, copies of a message; or, with a
// zero Node, a copy for a region that is not known to have arrived there.
type holder struct {
	Node      addr.Node     `json:"n,omitzero"`
	Region    addr.Region   `json:"r"`
	Due       uint64        `json:"d,omitempty"`
	Got       uint64        `json:"g,omitempty"`
	Sure      uint64        `json:"s,omitempty"` // ended here before they set out; their obituaries may still come
	Delivered int           `json:"ok,omitempty"`
	Expired   int           `json:"ex,omitempty"`
	Refused   int           `json:"no,omitempty"`
	Reason    bundle.Reason `json:"why,omitempty"`
	Hint      bundle.Reason `json:"hint,omitempty"` // OK: none
}

func (h *holder) done() bool { return h.Got+h.Sure >= h.Due }

func (h *holder) count(reason bundle.Reason, n int) {
	switch reason {
	case bundle.OK:
		h.Delivered += n
		return
	case bundle.Expired:
		h.Expired += n
		if h.Hint != bundle.OK && h.Hint != bundle.Expired {
			h.Expired, h.Refused, reason = h.Expired-n, h.Refused+n, h.Hint
		}
	default:
		h.Refused += n
	}
	h.Reason = reason
}

// dockets are all that are open.
type dockets struct {
	byID    map[bundle.ID]*docket
	clients map[string]int
	heap    docketHeap
	touched []*docket
	tokens  float64
	filled  int64 // ms
	retry   []*docket
	retryAt int64 // ms, 0: nothing to try again
}

type docketHeap []*docket

func (h docketHeap) Len() int           { return len(h) }
func (h docketHeap) Less(a, b int) bool { return h[a].Ends < h[b].Ends }
func (h docketHeap) Swap(a, b int)      { h[a], h[b] = h[b], h[a]; h[a].at, h[b].at = a, b }

// Push implements heap.Interface.
func (h *docketHeap) Push(x any) {
	d := x.(*docket)
	d.at = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *docketHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return d
}

// mayAsk reports whether one more message is followed.
func (c *Core) mayAsk(s *Submission) bool {
	k := &c.dockets
	k.tokens = min(k.tokens+float64(c.now-k.filled)*maxAskRate/1000, maxAskBurst)
	k.filled = c.now
	if k.tokens < 1 || len(k.byID) >= maxDockets || k.clients[s.Client] >= maxPerClient || s.Client == "" ||
		max(len(s.Ask.Receipts), len(s.Ask.Answer), len(s.Ask.Correlation)) > maxAskText || !c.hasRoom(s.Class, 4*maxAskText) {
		return false
	}
	k.tokens--
	return true
}

// openDocket begins to follow a message that was taken, with its recipients.
func (c *Core) openDocket(h *store.Header, s *Submission, r *recipients) {
	d := &docket{
		ID: h.Message, Client: s.Client, Receipts: s.Ask.Receipts, Answer: s.Ask.Answer, Corr: s.Ask.Correlation,
		Ends: h.Expires + c.settings.TTL.Milliseconds(),
	}
	here := r.live || len(r.members) > 0
	for _, e := range r.entries {
		switch {
		case !c.leaves(e.Queue):
			here = true
		case e.Queue.Kind == store.ToNode:
			d.expect(c.dest(e.Queue).node, c.regionOf(e.Queue), false)
		default:
			d.Holders = append(d.Holders, &holder{Region: c.dest(e.Queue).region, Due: wholeShare})
		}
	}
	if here {
		d.expect(c.cfg.Self, c.cfg.Region, false)
	} else if len(d.Holders) == 0 {
		g := d.expect(c.cfg.Self, c.cfg.Region, false)
		g.Got = g.Due
		g.count(bundle.NoSubscriber, 1)
	}
	c.keepDocket(d)
	if here {
		r.share, r.home = wholeShare, true
		c.divide(h, r)
	}
}

// keepDocket takes a docket in, new or restored.
func (c *Core) keepDocket(d *docket) {
	k := &c.dockets
	if k.byID == nil {
		k.byID, k.clients = map[bundle.ID]*docket{}, map[string]int{}
	}
	k.byID[d.ID] = d
	k.clients[d.Client]++
	d.asked = map[string]bool{}
	heap.Push(&k.heap, d)
	c.touch(d)
}

func (c *Core) touch(d *docket) {
	if !d.dirty {
		d.dirty = true
		c.dockets.touched = append(c.dockets.touched, d)
	}
}

// expect notes one more copy for a node; with once, only when none was known.
func (d *docket) expect(n addr.Node, region addr.Region, once bool) *holder {
	h := d.holder(n)
	if h == nil {
		h = &holder{Node: n, Region: region}
		d.Holders = append(d.Holders, h)
	} else if once && h.Due > 0 {
		return h
	}
	h.Due += wholeShare
	return h
}

func (d *docket) holder(n addr.Node) *holder {
	for _, h := range d.Holders {
		if h.Node == n && !n.IsZero() {
			return h
		}
	}
	return nil
}

// bound returns the copy for a region that did not arrive yet, as far as known.
func (d *docket) bound(r addr.Region) *holder {
	for _, h := range d.Holders {
		if h.Node.IsZero() && h.Region == r {
			return h
		}
	}
	return nil
}

// takeReports takes in what a node tells, with the bundle that tells it.
func (c *Core) takeReports(from addr.Node, r *Reports) {
	for k := range r.list {
		c.reported(from, r.Region, &r.list[k])
	}
}

// reported takes in one report of a node in a region.
func (c *Core) reported(from addr.Node, region addr.Region, r *Report) {
	d := c.dockets.byID[bundle.ID{Node: c.cfg.Self, Seq: r.seq}]
	if d == nil {
		c.stats.ReportsLate++
		return
	}
	switch r.kind {
	case reportEnd, reportMoved:
		h := d.holder(from)
		if h == nil { // its word overtook that of the node that handed it on
			h = &holder{Node: from, Region: region}
			d.Holders = append(d.Holders, h)
		}
		h.Region = region
		h.Got += r.share
		switch {
		case r.kind == reportMoved:
		case h.Sure >= wholeShare && r.share == wholeShare && r.reason == bundle.Expired:
			h.Sure -= wholeShare // its obituary: it counts already
		default:
			h.count(r.reason, int(r.count))
		}
		for _, n := range r.nodes {
			d.expect(n, c.homeOf(n, region), r.once)
		}
	case reportEntered:
		if h := d.bound(r.region); h != nil {
			h.Got = h.Due
		}
		for _, n := range r.nodes {
			d.expect(n, c.homeOf(n, region), true)
		}
	case reportHint:
		h := d.bound(r.region)
		if len(r.nodes) > 0 {
			h = d.holder(r.nodes[0])
		}
		if h == nil || h.done() {
			break
		}
		h.Hint = r.reason
		if r.once && from == c.cfg.Self {
			h.Sure += wholeShare
			h.count(r.reason, 1)
		}
	case numReports:
	}
	if len(d.Holders) > maxHolders {
		d.Holders = d.Holders[:maxHolders]
	}
	c.touch(d)
}

// homeOf is the region of a node, otherwise when it is not known.
func (c *Core) homeOf(n addr.Node, otherwise addr.Region) addr.Region {
	if n == c.cfg.Self {
		return c.cfg.Region
	}
	if a := c.table.Advert(n); a != nil {
		return a.Region
	}
	return otherwise
}

// settleDockets gives the words that are final now, and notes for the disk what
// changed.
func (c *Core) settleDockets() {
	k := &c.dockets
	touched := k.touched
	k.touched = nil
	for _, d := range touched {
		d.dirty = false
		if k.byID[d.ID] != d {
			continue
		}
		c.say(d)
		key, value := docketPrefix+d.ID.String(), []byte(nil)
		if d.finished() {
			c.dropDocket(d)
		} else if b, err := json.Marshal(d); err == nil {
			value = b
		}
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: key, Value: value})
	}
}

func (c *Core) dropDocket(d *docket) {
	k := &c.dockets
	delete(k.byID, d.ID)
	if k.clients[d.Client]--; k.clients[d.Client] <= 0 {
		delete(k.clients, d.Client)
	}
	heap.Remove(&k.heap, d.at)
}

// say hands the driver the words that are final.
func (c *Core) say(d *docket) {
	if d.Receipts == "" {
		d.tellRest()
	}
	for _, h := range d.Holders {
		r := h.Region
		if slices.Contains(d.Told, r.String()) || d.asked[r.String()] || !d.final(r) {
			continue
		}
		w := d.word(r)
		if w.empty() {
			continue // all of it went on to other regions; it may come back
		}
		d.asked[r.String()] = true
		w.Last = !d.owes(d.asked)
		c.word(w)
	}
	if d.Answer != "" && !d.asked[""] {
		switch delivered, lost, reason := d.chances(); {
		case delivered:
			d.Answer = ""
		case lost:
			d.asked[""] = true
			c.word(Word{Message: d.ID, Client: d.Client, Topic: d.Answer, Reason: reason, Answer: true, Correlate: d.Corr, State: Rejected})
		case d.Over:
			d.Answer = ""
		}
	}
}

// tellRest notes that no region needs a word.
func (d *docket) tellRest() {
	for _, h := range d.Holders {
		if r := h.Region.String(); !slices.Contains(d.Told, r) {
			d.Told = append(d.Told, r)
		}
	}
}

// final reports whether all is known of a region.
func (d *docket) final(r addr.Region) bool {
	for _, h := range d.Holders {
		open := h.Region == r || h.Node.IsZero() && h.Region.Contains(r)
		if open && !h.done() && !d.Over {
			return false
		}
	}
	return true
}

// word sums a region up.
func (d *docket) word(r addr.Region) Word {
	w := Word{Message: d.ID, Client: d.Client, Topic: d.Receipts, Region: r, Correlate: d.Corr}
	unknown := false
	for _, h := range d.Holders {
		if h.Region != r {
			continue
		}
		if !h.done() && h.Hint != bundle.OK {
			h.Got = h.Due
			h.count(h.Hint, 1)
		}
		unknown = unknown || !h.done()
		w.Delivered, w.Expired, w.Refused = w.Delivered+h.Delivered, w.Expired+h.Expired, w.Refused+h.Refused
		if h.Reason != bundle.OK {
			w.Reason = h.Reason
		}
		if !h.Node.IsZero() && (w.Node.IsZero() || h.Delivered > 0) {
			w.Node = h.Node
		}
	}
	switch {
	case w.Delivered > 0:
		w.State = Delivered
	case unknown:
		w.State = Unknown
	case w.Refused > 0:
		w.State = Rejected
	default:
		w.State = Lapsed
	}
	return w
}

// chances tells whether somebody has the message, or whether nobody will.
func (d *docket) chances() (delivered, lost bool, reason bundle.Reason) {
	lost = true
	for _, h := range d.Holders {
		delivered = delivered || h.Delivered > 0
		lost = lost && (h.done() || h.Hint != bundle.OK)
		if h.Reason != bundle.OK {
			reason = h.Reason
		} else if h.Hint != bundle.OK {
			reason = h.Hint
		}
	}
	return delivered, lost && reason != bundle.OK, reason
}

// finished reports whether nothing is left to tell.
func (d *docket) finished() bool { return d.Answer == "" && !d.owes(nil) }

// owes reports whether a region needs a word that is neither told nor among
// those that are asked.
func (d *docket) owes(asked map[string]bool) bool {
	return slices.ContainsFunc(d.Holders, func(h *holder) bool {
		r := h.Region.String()
		if asked[r] || slices.Contains(d.Told, r) {
			return false
		}
		if !d.final(h.Region) {
			return true
		}
		w := d.word(h.Region)
		return !w.empty()
	})
}

// empty reports whether a word says nothing of anybody.
func (w *Word) empty() bool { return w.Delivered+w.Expired+w.Refused == 0 && w.State != Unknown }
