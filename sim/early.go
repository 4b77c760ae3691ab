package sim

import (
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/store"
)

// First flights in virtual worlds: while a handshake is under way, copies of
// what waits arrive one light time after it began, or are lost with it. Some are
// recorded and played again at any time later.
const (
	earlyBytes   = 16 << 10
	lostFlights  = 4 // one of so many does not arrive
	playedAgain  = 3 // one of so many is
	playedWithin = 2 * time.Hour
)

// flight is one question to a core, and where its answer goes.
type flight struct {
	l    *link
	from int
	life int // of the sender, which ends with the process
}

// flyEarly asks one end for what waits, as who dials does.
func (l *link) flyEarly(from int) {
	n := l.ends[from]
	l.w.lastFlight++
	if n.flights == nil {
		n.flights = map[uint64]flight{}
	}
	n.flights[l.w.lastFlight] = flight{l, from, n.life}
	n.core.Early(n.clock(), l.w.lastFlight, core.Link{Node: l.ends[1-from].name, Delay: l.delay(), Classes: l.spec.Carries()}, earlyBytes)
	n.pump()
}

// offered sends an answer on its way.
func (n *node) offered(o core.EarlyOffer) {
	f := n.flights[o.Token]
	delete(n.flights, o.Token)
	if len(o.Transfers) == 0 || f.life != n.life {
		return
	}
	l, to := f.l, f.l.ends[1-f.from]
	sent := make([]*core.Transfer, 0, len(o.Transfers))
	for _, t := range o.Transfers {
		if t, ok := n.payload(t).(*core.Transfer); ok && t.Entry.State != store.Ended {
			n.judge.SentEarly(t)
			sent = append(sent, t)
		}
	}
	rng := l.rng[f.from]
	if rng.IntN(lostFlights) == 0 {
		return
	}
	l.w.after(l.delay(), func() { to.receiveEarly(l, f.from, sent) })
	if rng.IntN(playedAgain) == 0 {
		// What is older than the newest session is refused before the core sees it.
		before := l.session
		l.w.after(l.delay()+time.Duration(rng.Int64N(int64(playedWithin))), func() {
			if l.session == before {
				to.receiveEarly(l, f.from, sent)
			}
		})
	}
}

// receiveEarly takes in what came before a session, from anybody who has it.
func (n *node) receiveEarly(l *link, from int, transfers []*core.Transfer) {
	if !n.up {
		return
	}
	in := make([]*core.Incoming, len(transfers))
	for i, t := range transfers {
		in[i] = n.incoming(t.Header, t.Entry, t.Blob, t.Life)
		in[i].Class = t.Class
	}
	n.w.report.Early += uint64(len(in))
	for _, f := range in {
		n.judge.ReceivedEarly(f)
	}
	n.core.ReceiveEarly(n.clock(), l.ends[from].name, 2*l.delay(), in)
	n.pump()
}
