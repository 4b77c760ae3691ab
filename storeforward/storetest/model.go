package storetest

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// modelQueues are few, so that batches meet.
func modelQueues() (out []store.Queue) {
	for _, kind := range []store.Kind{store.ToNode, store.ToSession} {
		for _, name := range []string{"a", "b"} {
			for _, class := range []bundle.Class{bundle.Alarm, bundle.Bulk} {
				out = append(out, store.Queue{Kind: kind, Name: name, Class: class})
			}
		}
	}
	return out
}

// runModel compares the engine with the model under random batches, reopens
// and crashes.
func runModel(t *testing.T, open func(TB) Harness) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &modelRun{rt: rt, driver: newDriver(rt, open(rt)), now: NewModel()}
		actions := map[string]func(*rapid.T){
			"append": func(rt *rapid.T) { m.rt = rt; m.append(m.draw()) },
			"reopen": func(rt *rapid.T) { m.rt = rt; m.sync(); m.reopen() },
			"sync":   func(rt *rapid.T) { m.rt = rt; m.sync() },
			"scan":   func(rt *rapid.T) { m.rt = rt; m.scan() },
		}
		for name, kill := range map[string]func(store.Store){
			"crash": m.h.Crash, "lose": m.h.LoseUnsynced, "tear": m.h.Tear,
		} {
			if kill != nil {
				actions[name] = func(rt *rapid.T) { m.rt = rt; m.afterCrash(kill) }
			}
		}
		rt.Repeat(actions)
		m.sync()
		m.reopen()
	})
}

type modelRun struct {
	*driver
	rt    *rapid.T
	now   *Model   // with every appended batch
	dirty bool     // appended to since the last comparison
	past  []*Model // before each batch since open; past[i] has i batches
}

func (m *modelRun) append(b *store.Batch) {
	m.past = append(m.past, m.now.Clone())
	m.now.Apply(b)
	m.driver.append(b)
	m.dirty = true
}

func (m *modelRun) sync() {
	if m.lazy {
		m.append(&store.Batch{})
	}
	for _, r := range m.driver.sync() {
		if r.err != nil {
			m.rt.Fatalf("batch %d: %v", r.lsn, r.err)
		}
	}
	if m.dirty {
		m.compare()
	}
}

func (m *modelRun) reopen() {
	m.driver.reopen()
	m.past = nil
	m.compare()
}

func (m *modelRun) compare() {
	m.dirty = false
	got, err := Contents(m.s, modelQueues(), m.now.next)
	if err != nil {
		m.rt.Fatalf("read back: %v", err)
	}
	if want := m.now.Contents(modelQueues()); got != want {
		m.rt.Fatalf("the store differs from the model:\n%s", Diff(got, want))
	}
}

// afterCrash accepts any whole prefix of the batches that has all
// acknowledged ones.
func (m *modelRun) afterCrash(kill func(store.Store)) {
	acked := m.crash(kill)
	got, err := Contents(m.s, modelQueues(), m.now.next)
	if err != nil {
		m.rt.Fatalf("read back: %v", err)
	}
	candidates := append(m.past, m.now)
	m.past = nil
	for _, c := range candidates[acked:] {
		if c.Contents(modelQueues()) == got {
			m.now, m.dirty = c, false
			return
		}
	}
	m.rt.Fatalf("after a crash with %d of %d batches acknowledged, the store is none of the states possible; against the last:\n%s",
		acked, len(candidates)-1, Diff(got, m.now.Contents(modelQueues())))
}

// scan walks a queue in small steps and expects the same as in one.
func (m *modelRun) scan() {
	q := rapid.SampledFrom(modelQueues()).Draw(m.rt, "queue")
	n := rapid.IntRange(1, 3).Draw(m.rt, "step")
	m.sync()
	all, err := m.s.Scan(q, 0, 1<<20)
	if err != nil {
		m.rt.Fatalf("scan: %v", err)
	}
	after, got := uint64(0), 0
	for {
		items, err := m.s.Scan(q, after, n)
		if err != nil || len(items) > n {
			m.rt.Fatalf("scan after %d: %d items, %v", after, len(items), err)
		}
		for _, it := range items {
			if got >= len(all) || it.Header.Seq != all[got].Header.Seq {
				m.rt.Fatalf("scan in steps of %d found message %d out of place", n, it.Header.Seq)
			}
			got, after = got+1, it.Header.Seq
		}
		if len(items) < n {
			break
		}
	}
	if got != len(all) {
		m.rt.Fatalf("scan in steps of %d found %d of %d", n, got, len(all))
	}
}

// draw makes a batch that mostly concerns messages that exist.
func (m *modelRun) draw() *store.Batch {
	rt, b := m.rt, &store.Batch{Lazy: rapid.IntRange(0, 3).Draw(m.rt, "lazy") == 0}
	next := m.now.next
	for range rapid.IntRange(0, 4).Draw(rt, "puts") {
		next += uint64(rapid.IntRange(0, 2).Draw(rt, "gap"))
		p := newPut(next, rapid.SampledFrom([]int{0, 1, 30, 5000}).Draw(rt, "size"), m.drawEntries(3)...)
		if rapid.IntRange(0, 9).Draw(rt, "bare") == 0 {
			p.Blob = nil
		}
		b.Puts = append(b.Puts, p)
		next++
	}
	targets := m.targets(b.Puts)
	for range rapid.IntRange(0, 2).Draw(rt, "moves") {
		d := m.drawTarget(targets, next)
		p := newPut(next, 30, m.drawEntries(2)...)
		p.Blob, p.From = nil, d.Seq
		b.Puts = append(b.Puts, p)
		b.Drops = append(b.Drops, d)
		next++
	}
	for range rapid.IntRange(0, 2).Draw(rt, "marks") {
		d := m.drawTarget(targets, next)
		b.Marks = append(b.Marks, store.Mark{Queue: d.Queue, Seq: d.Seq, State: drawState(rt)})
	}
	for range rapid.IntRange(0, 5).Draw(rt, "drops") {
		b.Drops = append(b.Drops, m.drawTarget(targets, next))
	}
	for range rapid.IntRange(0, 2).Draw(rt, "sets") {
		s := store.Set{Key: rapid.SampledFrom([]string{"", "a", "a/b", "b"}).Draw(rt, "key")}
		s.Value = rapid.SampledFrom([][]byte{nil, {}, []byte("value")}).Draw(rt, "value")
		if rapid.Bool().Draw(rt, "blob") {
			s.Blob = &store.Blob{B: []byte("+blob")}
		}
		b.Sets = append(b.Sets, s)
	}
	return b
}

// targets are the entries that exist, in order, and those about to.
func (m *modelRun) targets(puts []store.Put) []store.Drop {
	out := m.now.Entries()
	for _, p := range puts {
		for _, e := range p.Header.Entries {
			out = append(out, store.Drop{Queue: e.Queue, Seq: p.Header.Seq})
		}
	}
	return out
}

// drawTarget mostly hits.
func (m *modelRun) drawTarget(targets []store.Drop, next uint64) store.Drop {
	if len(targets) > 0 && rapid.IntRange(0, 4).Draw(m.rt, "miss") > 0 {
		return rapid.SampledFrom(targets).Draw(m.rt, "target")
	}
	return store.Drop{
		Queue: rapid.SampledFrom(modelQueues()).Draw(m.rt, "queue"),
		Seq:   rapid.Uint64Range(1, next).Draw(m.rt, "seq"),
	}
}

func drawState(rt *rapid.T) store.EntryState {
	return store.EntryState(rapid.IntRange(int(store.Pending), int(store.Ended)).Draw(rt, "state"))
}

func (m *modelRun) drawEntries(most int) (out []store.Entry) {
	queues := rapid.SliceOfNDistinct(rapid.SampledFrom(modelQueues()), 0, most, rapid.ID).Draw(m.rt, "queues")
	for _, q := range queues {
		e := store.Entry{
			Queue:  q,
			Bundle: bundle.Sequence(rapid.Uint64().Draw(m.rt, "bundle")),
			DSeq:   rapid.Uint64().Draw(m.rt, "dseq"),
			QoS:    byte(rapid.IntRange(0, 2).Draw(m.rt, "qos")),
			Frozen: rapid.SampledFrom([][]byte{nil, {}, []byte("frozen")}).Draw(m.rt, "frozen"),
		}
		if rapid.IntRange(0, 3).Draw(m.rt, "odd") == 0 {
			e.State = drawState(m.rt)
		}
		out = append(out, e)
	}
	return out
}

// Diff shows the lines that only one of two texts has.
func Diff(got, want string) string {
	count := map[string]int{}
	for line := range strings.Lines(got) {
		count[line]++
	}
	var b strings.Builder
	for line := range strings.Lines(want) {
		if count[line]--; count[line] < 0 {
			fmt.Fprintf(&b, "missing: %s", line)
		}
	}
	for line := range strings.Lines(got) {
		if count[line] > 0 {
			fmt.Fprintf(&b, "extra:   %s", line)
			count[line]--
		}
	}
	if b.Len() == 0 {
		return "only the order differs\ngot:\n" + got + "want:\n" + want
	}
	return b.String()
}
