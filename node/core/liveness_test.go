package core

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// lifeRig is a node with one link, whose peer answers Pings as a test says.
type lifeRig struct {
	*hoardRig
	l       *link
	began   time.Time
	answer  func(sent time.Duration) (after time.Duration, ok bool) // after a Ping was sent
	pings   func(at time.Duration) bool                             // of the peer, every 100 ms
	heard   time.Duration                                           // an ack that often; 0: none
	nextAck time.Duration
	nextOne time.Duration
	coming  []arriving
	told    []Silence
	renew   []Renew
}

type arriving struct {
	at time.Duration
	f  Frame
}

func newLifeRig(rtt time.Duration) *lifeRig {
	r := &lifeRig{hoardRig: newHoardRig(1000, false)}
	r.began = r.now
	r.answer = func(time.Duration) (time.Duration, bool) { return rtt, true }
	r.c.LinkUp(r.now, Link{ID: 1, Node: addr.MustNode("peer"), Delay: rtt / 2})
	r.l = r.c.links[1]
	r.pump()
	return r
}

func (r *lifeRig) at() time.Duration { return r.now.Sub(r.began) }

func (r *lifeRig) pump() {
	for e := r.c.Take(); e != nil; e = r.c.Take() {
		r.told = append(r.told, e.Silences...)
		r.renew = append(r.renew, e.Renew...)
		for _, s := range e.Sends {
			if p, ok := s.Frame.(Ping); ok {
				if after, ok := r.answer(r.at()); ok {
					r.coming = append(r.coming, arriving{r.at() + after, Pong(p)})
				}
			}
		}
		if e.Write != nil {
			r.c.Persisted(r.now, e.Write.LSN)
		}
	}
}

// run lets time pass; busy has something volatile leave at every step.
func (r *lifeRig) run(d time.Duration, busy bool) {
	for end := r.at() + d; r.at() < end; {
		if busy {
			r.l.spoke = r.c.now
		}
		next := end
		if w := r.c.Wake(); !w.IsZero() {
			next = min(next, max(w.Sub(r.began), r.at()+time.Millisecond))
		}
		r.extra()
		for _, f := range r.coming {
			next = min(next, max(f.at, r.at()))
		}
		r.now = r.began.Add(next)
		r.hear()
		if w := r.c.Wake(); !w.IsZero() && !w.After(r.now) {
			r.c.Tick(r.now)
		}
		r.pump()
	}
}

// extra has the peer send what is no answer to a Ping.
func (r *lifeRig) extra() {
	if r.pings != nil && r.at() >= r.nextOne {
		if r.nextOne = r.at() + 100*time.Millisecond; r.pings(r.at()) {
			r.coming = append(r.coming, arriving{r.nextOne, Ping{1}})
		}
	}
	if r.heard > 0 && r.at() >= r.nextAck {
		r.nextAck = r.at() + r.heard
		r.coming = append(r.coming, arriving{r.nextAck, Ack{}})
	}
}

func (r *lifeRig) hear() {
	keep := r.coming[:0]
	for _, f := range r.coming {
		if f.at <= r.at() {
			r.c.Receive(r.now, 1, []Frame{f.f})
		} else {
			keep = append(keep, f)
		}
	}
	r.coming = keep
}

// TestBlackHoleIsNoticed: within some round trips and probes of a LAN, and
// within seven round trips of a far link.
func TestBlackHoleIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		rtt   time.Duration
		heard time.Duration
		most  time.Duration
	}{
		{"LAN, probed", time.Millisecond, 0, 130 * time.Millisecond},
		{"LAN, in use", time.Millisecond, 5 * time.Millisecond, 130 * time.Millisecond},
		{"WAN", 40 * time.Millisecond, 0, 340 * time.Millisecond},
		{"Moon", 2560 * time.Millisecond, 0, 18 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLifeRig(c.rtt)
			r.heard = c.heard
			r.run(time.Minute, true)
			if n := r.c.LinkStats().Silences; n > 0 {
				t.Fatalf("%d silences of a peer that answers", n)
			}
			r.answer = func(time.Duration) (time.Duration, bool) { return 0, false }
			r.heard, r.coming = 0, nil
			r.run(c.most, true)
			if !r.l.silent || len(r.told) != 1 || r.told[0].Over {
				t.Fatalf("after %v: silent %v, told %v", c.most, r.l.silent, r.told)
			}
			r.answer = func(time.Duration) (time.Duration, bool) { return c.rtt, true }
			r.run(5*time.Second+4*c.rtt, true)
			if r.l.silent || len(r.told) != 2 || !r.told[1].Over {
				t.Errorf("it answers again: silent %v, told %v", r.l.silent, r.told)
			}
			if got := time.Duration(r.l.rtt) * time.Millisecond; got > c.rtt+c.rtt/4+time.Millisecond {
				t.Errorf("the cut made a round trip of %v one of %v", c.rtt, got)
			}
		})
	}
}

// TestLateNodeJudgesNoOne: a node that was not woken for a while heard nothing
// for that reason. Afterwards it judges as always.
func TestLateNodeJudgesNoOne(t *testing.T) {
	r := newLifeRig(time.Millisecond)
	r.run(10*time.Second, true)
	for range 50 {
		r.run(7*time.Millisecond, true)
		r.now = r.now.Add(3 * time.Second) // the machine was away; its frames wait
		r.c.Tick(r.now)
		r.pump()
		r.now = r.now.Add(5 * time.Millisecond)
		r.hear()
		r.pump()
	}
	for range 50 { // a little late, again and again
		r.run(100*time.Millisecond, true)
		for range 3 {
			r.l.spoke = r.c.now
			r.now = r.c.Wake().Add(20 * time.Millisecond)
			r.c.Tick(r.now)
			r.pump()
		}
		r.hear()
	}
	if s := r.c.LinkStats(); s.Silences != 0 || s.LateWakes < 200 {
		t.Errorf("%+v: a late node judged others", s)
	}
	r.answer = func(time.Duration) (time.Duration, bool) { return 0, false }
	r.coming = nil
	r.c.Wake()
	r.now = r.now.Add(3 * time.Second)
	r.run(150*time.Millisecond+2*time.Duration(r.l.slowest(r.c.now))*time.Millisecond, true)
	if !r.l.silent {
		t.Error("a node that was late once never judges again")
	}
}

// TestHalfDeadLink: what the peer sends on its own does not show that it hears
// us, and does not end a silence; an answer does.
func TestHalfDeadLink(t *testing.T) {
	r := newLifeRig(time.Millisecond)
	r.pings = func(time.Duration) bool { return true }
	r.run(10*time.Second, true)
	if r.l.silent {
		t.Fatal("silent, and it answers")
	}
	r.answer = func(time.Duration) (time.Duration, bool) { return 0, false }
	r.run(150*time.Millisecond, true)
	if !r.l.silent {
		t.Fatal("the peer's Pings hid that it does not hear us")
	}
	r.run(10*time.Second, true)
	if !r.l.silent || len(r.told) != 1 {
		t.Fatalf("the peer's Pings ended a silence: %v", r.told)
	}
	r.answer = func(time.Duration) (time.Duration, bool) { return time.Millisecond, true }
	r.run(200*time.Millisecond, true)
	if r.l.silent {
		t.Error("it hears us again: its next Ping should have made us ask")
	}
}

// TestLongerWay: when a link becomes much longer, it falls silent once, until
// its new round trip is known.
func TestLongerWay(t *testing.T) {
	r := newLifeRig(time.Millisecond)
	r.run(10*time.Second, true)
	r.answer = func(time.Duration) (time.Duration, bool) { return 600 * time.Millisecond, true }
	r.run(20*time.Second, true)
	n := r.c.LinkStats().Silences
	r.run(time.Hour, true)
	if s := r.c.LinkStats(); n > 1 || s.Silences != n || r.l.silent {
		t.Errorf("%d silences in the first 20 s, %d in all", n, s.Silences)
	}
	if r.l.rtt < 550 || r.l.rtt > 650 {
		t.Errorf("its round trip is %d ms", r.l.rtt)
	}
}

// TestClumsyReturn: a link that carries again may do so haltingly. What waited
// for the transport to repeat what it lost is no round trip, and the next cut is
// noticed as soon as the first.
func TestClumsyReturn(t *testing.T) {
	r := newLifeRig(time.Millisecond)
	r.run(time.Minute, true)
	for i := range 20 {
		cut := r.at()
		until := cut + 1200*time.Millisecond
		last := time.Duration(0)
		r.answer = func(sent time.Duration) (time.Duration, bool) {
			switch {
			case sent < until: // all of it comes when the link is back, a part at a time
				last = max(last, until+(sent-cut)/10)
			case sent < until+200*time.Millisecond:
				last = max(last, sent+250*time.Millisecond)
			default:
				last = max(last, sent+time.Millisecond) // in order
			}
			return last - sent, true
		}
		r.coming = nil
		r.run(140*time.Millisecond, true)
		if !r.l.silent {
			t.Fatalf("cut %d is not noticed: round trip %d, slowest %d", i, r.l.rtt, r.l.slowest(r.c.now))
		}
		r.run(1800*time.Millisecond, true)
		if r.l.silent || r.l.rtt > 2 {
			t.Fatalf("after cut %d: silent %v, round trip %d", i, r.l.silent, r.l.rtt)
		}
	}
}

// TestNoFalseAlarms: busy ends answer late at times, in an hour of it and in a
// day at the Moon's distance with lost packets.
func TestNoFalseAlarms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	tail := func(most time.Duration) time.Duration { // mostly short
		x := rnd.Float64()
		return time.Duration(x * x * x * float64(most))
	}
	r := newLifeRig(time.Millisecond)
	last := time.Duration(0)
	r.answer = func(sent time.Duration) (time.Duration, bool) {
		last = max(last, sent+time.Millisecond+tail(60*time.Millisecond)) // in order
		return last - sent, true
	}
	r.run(time.Hour, true)
	if s := r.c.LinkStats(); s.Silences > 0 || s.Probes > 45*3600 {
		t.Errorf("on a busy LAN: %+v", s)
	}
	moon := 2560 * time.Millisecond
	r, last = newLifeRig(moon), 0
	r.answer = func(sent time.Duration) (time.Duration, bool) {
		d := moon
		for rnd.Float64() < 0.02 { // there or back: repeated a round trip later
			d += moon
		}
		last = max(last, sent+d)
		return last - sent, true
	}
	r.run(24*time.Hour, true)
	if s := r.c.LinkStats(); s.Silences > 0 {
		t.Errorf("at the Moon: %+v", s)
	}
}

// TestProbesAreFew: what a link costs, as docs/adr/0019 says.
func TestProbesAreFew(t *testing.T) {
	for _, c := range []struct {
		name  string
		busy  bool
		heard time.Duration
		most  uint64 // in a minute
	}{
		{"idle", false, 0, 31},
		{"in use, much is heard", true, 5 * time.Millisecond, 241},
		{"in use, nothing else is heard", true, 0, 60*39 + 1},
	} {
		r := newLifeRig(time.Millisecond)
		r.heard = c.heard
		r.run(time.Minute, c.busy)
		if s := r.c.LinkStats(); s.Probes > c.most || s.Silences > 0 {
			t.Errorf("%s: %+v in a minute, want at most %d", c.name, s, c.most)
		}
	}
}
