//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// slow is a link that takes its time.
var slow = emulator.Profile{Delay: 400 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.01}

// batter strikes every node of a mesh so many times, in turn: by SIGKILL and by
// SIGTERM, and cuts the slow link now and then.
func (m *mesh) batter(t *testing.T, rounds int, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	pause := func(ms int) { time.Sleep(time.Duration(rng.IntN(ms)) * time.Millisecond) }
	for n := range rounds {
		for _, d := range []*daemon{m.relay, m.earth, m.luna} {
			cut := rng.IntN(3) == 0
			m.toLuna.Cut(cut)
			pause(700)
			if (n+rng.IntN(2))%2 == 0 {
				d.kill()
			} else {
				d.stop()
			}
			pause(500)
			d.run()
			pause(700)
			m.toLuna.Cut(false)
		}
	}
	m.earth.linked(true, m.relay)
	m.luna.linked(true, m.relay)
}

// sound fails the test for what a log may not say.
func (m *mesh) sound(t *testing.T) {
	t.Helper()
	for _, d := range []*daemon{m.relay, m.earth, m.luna} {
		for _, bad := range []string{"level=ERROR", "panic:", "DATA RACE"} {
			if d.logged(bad) {
				t.Errorf("%s: its log has %q:\n%s", d.name, bad, tail(d.logs, 60))
			}
		}
	}
}

// TestSharedUnderViolence: a group of QoS 2 whose members have sessions gets
// each message once, whichever node dies; one of QoS 1 with members that have
// none gets each at least once.
func TestSharedUnderViolence(t *testing.T) {
	full(t)
	m := newMesh(t)
	if err := m.toLuna.SetProfile(slow, slow); err != nil {
		t.Fatal(err)
	}
	exactly := []*listener{
		listen(m.earth, "exact-1", "$share/exact/jobs/2", 2), listen(m.luna, "exact-2", "$share/exact/jobs/2", 2),
		listen(m.earth, "exact-3", "$share/exact/jobs/2", 2),
	}
	once := []*listener{
		listen(m.luna, "kept", "$share/some/jobs/1", 1),
		listenAs(m.earth, "live-1", "$share/some/jobs/1", 1, true), listenAs(m.relay, "live-2", "$share/some/jobs/1", 1, true),
	}
	var pubs [3][]*talker
	for _, d := range []*daemon{m.luna, m.earth, m.relay} {
		for qos := 1; qos <= 2; qos++ {
			name := fmt.Sprintf("%s-%d", d.name, qos)
			pubs[qos] = append(pubs[qos], talk(d, name, fmt.Sprintf("jobs/%d", qos), qos, 10*time.Millisecond, numbered(name, 50_000)...))
		}
	}
	m.batter(t, 4, 1)
	for qos, members := range [][]*listener{1: once, 2: exactly} {
		var sent []string
		for _, p := range pubs[qos] {
			sent = append(sent, p.enough()...)
		}
		if r := worked(t, sent, members); len(r.foreign) > 0 || qos == 2 && r.repeats > 0 {
			t.Errorf("QoS %d: %d messages, %s", qos, len(sent), r)
		}
	}
	for _, d := range []*daemon{m.luna, m.relay, m.earth} {
		d.empty()
	}
	m.sound(t)
}

// worked waits until a group has all that was sent.
func worked(t *testing.T, sent []string, members []*listener) (r tally) {
	t.Helper()
	until(t, func() string { return fmt.Sprintf("%d messages: %s", len(sent), r) }, func() bool {
		var all []string
		for _, l := range members {
			all = append(all, l.lines()...)
		}
		r = compare(sent, all)
		return len(r.missing) == 0
	})
	for _, l := range members {
		l.check()
		t.Logf("%s: %d", l.id, len(l.lines()))
	}
	return r
}

// stated is one write of a retained message: "" deletes it.
type stated struct {
	topic, value string
	from, to     time.Time // sent first, and acknowledged
}

// painter writes retained messages through one node, one after the other.
type painter struct {
	exact
	rng *rand.Rand

	wrote []stated
	over  chan struct{} // closed
	halt  bool          // guarded by mu
}

const (
	paintTopics = 12
	tick        = 5 * time.Millisecond // clocks of nodes differ, by little as they have the same here
)

// paint starts a painter.
func paint(d *daemon, id string, seed uint64) *painter {
	p := &painter{exact: exact{t: d.t, d: d, id: id}, rng: rand.New(rand.NewPCG(seed, 2)), over: make(chan struct{})}
	var now *stated // sent, and not acknowledged
	p.keep(func(c *line) bool {
		dup := byte(8)
		for {
			if now == nil {
				if p.halted() {
					close(p.over)
					return true
				}
				now, dup = p.next(), 0
			}
			if !now.say(c, dup) {
				return false
			}
			now.to = time.Now()
			p.wrote = append(p.wrote, *now)
			now = nil
			time.Sleep(time.Duration(5+p.rng.IntN(30)) * time.Millisecond)
		}
	})
	return p
}

func (p *painter) halted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halt
}

// next is a value, or a delete.
func (p *painter) next() *stated {
	s := &stated{topic: fmt.Sprintf("paint/%d", p.rng.IntN(paintTopics)), from: time.Now()}
	if p.rng.IntN(3) > 0 {
		s.value = fmt.Sprintf("%s-%d", p.id, len(p.wrote))
	}
	return s
}

// say publishes with QoS 1 and reports whether that was acknowledged.
func (s *stated) say(c *line, dup byte) bool {
	if c.send(0x33|dup, prefixed(s.topic), number(1), []byte(s.value)) != nil {
		return false
	}
	kind, body, err := c.read()
	return err == nil && kind == 0x40 && bytes.Equal(body, number(1))
}

// TestRetainedUnderViolence: retained messages are set and deleted at three
// nodes that die and come back. In the end all have the same, and of each topic
// one of the last writes.
func TestRetainedUnderViolence(t *testing.T) {
	full(t)
	m := newMesh(t)
	if err := m.toLuna.SetProfile(slow, slow); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*daemon{m.earth, m.luna} { // the relay has no interest of its own
		subscribe(d, "keeps-"+d.name, "paint/#", 1)
		m.relay.knows(d, "paint/#")
	}
	var painters []*painter
	for n, d := range []*daemon{m.earth, m.luna, m.relay} {
		painters = append(painters, paint(d, "painter-"+d.name, uint64(n)))
	}
	m.batter(t, 3, 2)
	var wrote []stated
	for _, p := range painters {
		p.mu.Lock()
		p.halt = true
		p.mu.Unlock()
	}
	for _, p := range painters {
		select {
		case <-p.over:
		case <-time.After(patience):
			t.Fatalf("%s has no acknowledgement after %s", p.id, patience)
		}
		p.check()
		wrote = append(wrote, p.wrote...) // it has ended
	}
	t.Logf("%d writes", len(wrote))
	last := lastWrites(wrote)
	var have [3][]string
	until(t, func() string { return fmt.Sprintf("one value of each topic: %q, of %v", have, last) }, func() bool {
		for n, d := range []*daemon{m.earth, m.luna, m.relay} {
			have[n] = retained(d, "paint/#")
		}
		return slices.Equal(have[0], have[1]) && slices.Equal(have[1], have[2]) && legal(have[0], last)
	})
	m.sound(t)
}

// lastWrites returns the values that each topic may have in the end: those of
// writes that no other one followed, from its acknowledgement on.
func lastWrites(wrote []stated) map[string][]string {
	last := map[string][]string{}
	for _, w := range wrote {
		if !slices.ContainsFunc(wrote, func(o stated) bool { return o.topic == w.topic && o.from.After(w.to.Add(tick)) }) {
			last[w.topic] = append(last[w.topic], w.value)
		}
	}
	return last
}

// legal reports whether what is retained, as "TOPIC=VALUE", is one of the last
// values of each topic.
func legal(have []string, last map[string][]string) bool {
	is := map[string]string{}
	for _, line := range have {
		at := bytes.IndexByte([]byte(line), '=')
		is[line[:at]] = line[at+1:]
	}
	for topic := range maps.Keys(last) {
		if !slices.Contains(last[topic], is[topic]) {
			return false
		}
		delete(is, topic)
	}
	return len(is) == 0
}
