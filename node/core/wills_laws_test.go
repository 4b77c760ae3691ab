package core_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
)

// willOracle says which wills have to be heard, in the plainest words. It knows
// nothing of disks: a crash takes it back to an earlier copy.
type willOracle struct {
	sessions map[string]willSession
	wills    map[string]oneWill
	heard    []string
}

type willSession struct {
	expiry time.Duration
	online bool
	ends   time.Time // offline
}

type oneWill struct {
	label string
	delay time.Duration
	lost  bool
	due   time.Time // lost
}

func (o *willOracle) clone() *willOracle {
	return &willOracle{maps.Clone(o.sessions), maps.Clone(o.wills), slices.Clone(o.heard)}
}

func (o *willOracle) fire(client string) {
	o.heard = append(o.heard, o.wills[client].label)
	delete(o.wills, client)
}

// lose begins the delay of a client's will.
func (o *willOracle) lose(now time.Time, client string) {
	w, ok := o.wills[client]
	if !ok || w.lost {
		return
	}
	w.lost, w.due = true, now.Add(min(w.delay, o.sessions[client].expiry))
	o.wills[client] = w
	o.pass(now)
}

// pass fires what is due.
func (o *willOracle) pass(now time.Time) {
	for client, s := range o.sessions {
		if s.online || s.ends.After(now) {
			continue
		}
		delete(o.sessions, client)
		if o.wills[client].lost {
			o.fire(client)
		}
	}
	for client, w := range o.wills {
		if w.lost && !w.due.After(now) {
			o.fire(client)
		}
	}
}

func (o *willOracle) connect(now time.Time, client string, clean bool, expiry time.Duration, w *oneWill) {
	o.lose(now, client)
	if clean {
		delete(o.sessions, client)
	}
	if old, ok := o.wills[client]; ok {
		if _, goesOn := o.sessions[client]; !goesOn || !old.due.After(now) {
			o.fire(client)
		}
		delete(o.wills, client)
	}
	o.sessions[client] = willSession{expiry: expiry, online: true}
	if w != nil {
		o.wills[client] = *w
	}
}

func (o *willOracle) disconnect(now time.Time, client string, leaves bool, expiry time.Duration) {
	if leaves {
		delete(o.wills, client)
	}
	o.sessions[client] = willSession{expiry: expiry, online: true}
	o.lose(now, client)
	o.sessions[client] = willSession{expiry: expiry, ends: now.Add(expiry)}
	o.pass(now)
}

// crash is the start after one: all connections are lost now.
func (o *willOracle) crash(now time.Time) {
	for client, s := range o.sessions {
		if s.expiry == 0 {
			delete(o.sessions, client) // so that its will is due
			continue
		}
		o.sessions[client] = willSession{expiry: s.expiry, ends: now.Add(s.expiry)}
	}
	for client := range o.wills {
		o.lose(now, client)
	}
	o.pass(now)
}

// willPlay plays one node and its oracle. copies are what the oracle was when so
// many batches had been staged.
type willPlay struct {
	t      *testing.T
	e      *env
	oracle *willOracle
	copies []willCopy
	heard  map[string]int
	labels int
}

type willCopy struct {
	after  int
	oracle *willOracle
}

func newWillPlay(t *testing.T) *willPlay {
	p := &willPlay{t: t, e: newEnv(), heard: map[string]int{}, oracle: &willOracle{sessions: map[string]willSession{}, wills: map[string]oneWill{}}}
	p.e.onDeliver = func(_, label string, d core.Delivery) {
		if p.heard[label]++; p.heard[label] > 1 && !d.Dup {
			t.Errorf("%s comes twice", label)
		}
	}
	p.e.script("node a\n node b region=luna\n link a b\n subscribe b far will/# qos=2 auto\n stabilize\n tick 10s")
	p.settled()
	return p
}

// settled tells that all is on disk.
func (p *willPlay) settled() { p.copies = []willCopy{{0, p.oracle.clone()}} }

// do runs a command whose facts are one write, the first that it makes.
func (p *willPlay) do(format string, args ...any) {
	before := p.e.node("a").store.Staged()
	p.e.do(format, args...)
	if p.e.node("a").store.Staged() > before {
		p.copies = append(p.copies, willCopy{before + 1, p.oracle.clone()})
	} else {
		p.copies[len(p.copies)-1].oracle = p.oracle.clone()
	}
}

func (p *willPlay) crash(kept int) {
	for _, c := range p.copies {
		if c.after <= kept {
			p.oracle = c.oracle.clone()
		}
	}
	p.copies = []willCopy{{0, p.oracle.clone()}}
	p.oracle.crash(p.e.now)
	p.e.do("crash a kept=%d", kept)
	p.copies = append(p.copies, willCopy{1, p.oracle.clone()})
}

func (p *willPlay) connect(rng *rand.Rand, client string) {
	clean, expiry := "", []int{0, 3, 20}[rng.IntN(3)]
	if rng.IntN(4) == 0 {
		clean = "clean"
	}
	var w *oneWill
	text := ""
	if rng.IntN(5) > 0 {
		p.labels++
		w = &oneWill{label: fmt.Sprintf("w%d", p.labels), delay: time.Duration([]int{0, 0, 2, 10}[rng.IntN(4)]) * time.Second}
		text = fmt.Sprintf("will=%s topic=will/%s delay=%d qos=%d", w.label, client, int(w.delay.Seconds()), 1+rng.IntN(2))
	}
	p.oracle.connect(p.e.now, client, clean != "", time.Duration(expiry)*time.Second, w)
	p.do("connect a %s expiry=%d %s %s", client, expiry, clean, text)
}

func (p *willPlay) disconnect(rng *rand.Rand, client string) {
	s, ok := p.oracle.sessions[client]
	if !ok || !s.online {
		return
	}
	leaves, expiry := "", s.expiry
	if rng.IntN(3) == 0 {
		leaves = "leaves"
	}
	if rng.IntN(5) == 0 {
		expiry = 0
	}
	p.oracle.disconnect(p.e.now, client, leaves != "", expiry)
	p.do("disconnect a %s expiry=%d %s", client, int(expiry.Seconds()), leaves)
}

// step does one random thing.
func (p *willPlay) step(rng *rand.Rand) {
	client := []string{"c1", "c2", "c3"}[rng.IntN(3)]
	switch rng.IntN(16) {
	case 0, 1, 2, 3, 4:
		p.connect(rng, client)
	case 5, 6, 7:
		p.disconnect(rng, client)
	case 8:
		delete(p.oracle.wills, client)
		p.do("elsewhere a %s", client)
	case 9, 10:
		p.do("sync a")
		p.settled()
	case 11, 12:
		d := time.Duration(rng.IntN(4000)) * time.Millisecond
		p.e.do("tick %s", d)
		p.oracle.pass(p.e.now)
		p.settled()
	case 13:
		p.do("%s a b", []string{"cut", "heal", "down", "up"}[rng.IntN(4)])
	default:
		p.crash(rng.IntN(p.e.node("a").store.Staged() + 2))
	}
}

// Whatever happens to a node and its devices, and whenever its power fails: a
// will is heard once when its device was lost, and never when it was not.
func TestWillsOnceOrNever(t *testing.T) {
	for seed := range uint64(150) {
		p := newWillPlay(t)
		rng := rand.New(rand.NewPCG(seed, 11))
		for range 60 {
			p.step(rng)
		}
		p.e.script("heal a b\n up a b\n tick 120s")
		p.oracle.pass(p.e.now)
		want := map[string]int{}
		for _, label := range p.oracle.heard {
			want[label]++
		}
		if !maps.Equal(want, p.heard) {
			t.Fatalf("seed %d: heard %v, want %v", seed, p.heard, want)
		}
	}
}
