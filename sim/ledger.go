package sim

import (
	"fmt"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/interest"
)

// Report is the verdict on a run.
type Report struct {
	Name           string  `json:"name"`
	Seed           uint64  `json:"seed"`
	LogHash        string  `json:"log_hash"`
	Nodes          int     `json:"nodes"`
	Links          int     `json:"links"`
	VirtualSeconds float64 `json:"virtual_seconds"`
	WallSeconds    float64 `json:"wall_seconds"`
	Events         uint64  `json:"events"`

	Published        uint64 `json:"published"`         // PUBLISH packets that reached a node
	Acknowledged     uint64 `json:"acknowledged"`      // messages whose PUBACK or PUBCOMP reached the device
	RefusedPublishes uint64 `json:"refused_publishes"` // refused before the acknowledgement
	Expected         uint64 `json:"expected"`          // deliveries due: acknowledged messages × matching subscribers
	Delivered        uint64 `json:"delivered"`         // of those, delivered
	Lost             uint64 `json:"lost"`              // of those, neither delivered, expired nor still stored
	Pending          uint64 `json:"pending"`           // of those, still in a store at the end
	Duplicates       uint64 `json:"duplicates"`        // delivered again without need
	Redelivered      uint64 `json:"redelivered"`       // delivered again as MQTT asks for: DUP set, or published again
	OutOfOrder       uint64 `json:"out_of_order"`
	Expired          uint64 `json:"expired"`

	Crashes        uint64  `json:"crashes"`
	Cuts           uint64  `json:"cuts"`
	Transfers      uint64  `json:"transfers"`
	WireDuplicates uint64  `json:"wire_duplicates"` // copies that nodes dropped
	HeldBack       uint64  `json:"held_back"`
	GapsGivenUp    uint64  `json:"gaps_given_up"`
	LinkBytes      uint64  `json:"link_bytes"`
	Stored         int     `json:"stored"` // entries in stores at the end
	MeanLatency    float64 `json:"mean_latency_seconds"`

	err error
}

// Violations says which laws the run broke; empty is good.
func (r *Report) Violations() []string {
	var out []string
	law := func(n uint64, what string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	law(r.Lost, "acknowledged messages were lost")
	law(r.Duplicates, "messages were delivered twice")
	law(r.OutOfOrder, "messages were delivered out of order")
	return out
}

// ledger knows what every device was promised and what it got.
type ledger struct {
	acked    map[msgKey]bool
	resent   map[msgKey]bool
	got      map[delKey]bool
	lastSeen map[pairKey]uint64
	dups     uint64
	redel    uint64
	disorder uint64
	sent     map[msgKey]time.Duration // first published
	latency  time.Duration            // sum over all first deliveries
}

type msgKey struct {
	publisher int
	n         uint64
}

type delKey struct {
	subscriber int
	msg        msgKey
}

type pairKey struct{ subscriber, publisher int }

func (l *ledger) init() {
	if l.acked == nil {
		l.acked, l.resent = map[msgKey]bool{}, map[msgKey]bool{}
		l.got, l.lastSeen, l.sent = map[delKey]bool{}, map[pairKey]uint64{}, map[msgKey]time.Duration{}
	}
}

func (l *ledger) published(publisher int, n uint64, at time.Duration) {
	l.init()
	l.sent[msgKey{publisher, n}] = at
}

func (l *ledger) repeated(publisher int, n uint64) {
	l.init()
	l.resent[msgKey{publisher, n}] = true
}

func (l *ledger) acknowledged(publisher int, n uint64) {
	l.init()
	l.acked[msgKey{publisher, n}] = true
}

func (l *ledger) delivered(subscriber, publisher int, n uint64, dup bool, at time.Duration) {
	l.init()
	msg := msgKey{publisher, n}
	key, pair := delKey{subscriber, msg}, pairKey{subscriber, publisher}
	if l.got[key] {
		if dup || l.resent[msg] {
			l.redel++
		} else {
			l.dups++
		}
		return
	}
	l.got[key] = true
	l.latency += at - l.sent[msg]
	if n < l.lastSeen[pair] {
		l.disorder++
	}
	l.lastSeen[pair] = max(l.lastSeen[pair], n)
}

// judge compares promises and deliveries.
func (l *ledger) judge(w *world, r *Report) {
	l.init()
	r.Acknowledged = uint64(len(l.acked))
	r.Duplicates, r.Redelivered, r.OutOfOrder = l.dups, l.redel, l.disorder
	if n := len(l.got); n > 0 {
		r.MeanLatency = (l.latency / time.Duration(n)).Seconds()
	}
	stored := map[msgKey]bool{}
	for _, n := range w.nodes {
		n.stored(stored)
	}
	expiring := uint64(0)
	for msg := range l.acked {
		p := w.pubs[msg.publisher]
		for _, s := range w.subs {
			if !interest.Match(s.spec.Filter, p.spec.Topic) || p.spec.QoS == 0 || s.spec.QoS == 0 || !w.reaches(p, s) {
				continue
			}
			r.Expected++
			switch {
			case l.got[delKey{s.index, msg}]:
				r.Delivered++
			case stored[msg]:
				r.Pending++
			case p.spec.TTL > 0:
				expiring++
			default:
				r.Lost++
			}
		}
	}
	if expiring > r.Expired {
		r.Lost += expiring - r.Expired
	}
}

// reaches reports whether the routes let a message of p go to s.
func (w *world) reaches(p *publisher, s *subscriber) bool {
	route, ok := w.routes.ForTopic(p.spec.Topic)
	if !ok || len(route.To) == 0 {
		return true
	}
	for _, to := range route.To {
		if to.Contains(s.node.region) {
			return true
		}
	}
	return false
}

func add(a, b core.Stats) core.Stats {
	for i := range a.Submitted {
		a.Submitted[i] += b.Submitted[i]
		a.Ended[i] += b.Ended[i]
		a.Refused[i] += b.Refused[i]
	}
	a.Arrived += b.Arrived
	a.Relayed += b.Relayed
	a.Transfers += b.Transfers
	a.HandedOn += b.HandedOn
	a.Delivered += b.Delivered
	a.Volatile += b.Volatile
	a.Duplicates += b.Duplicates
	a.OutOfOrder += b.OutOfOrder
	a.HeldBack += b.HeldBack
	a.GapsGivenUp += b.GapsGivenUp
	return a
}
