package core_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// A retained message says after label and topic "@STAMP", and what else the
// core is told of it: e for an expiry, c for no payload.

// stamp makes a submission a retained one, as the driver does it.
func (n *enode) stamp(s *core.Submission, label string, empty bool) {
	s.Stamp, s.Clear = n.core.Stamp(n.now(), s.Topic), empty
	text := fmt.Sprintf("%s %s @%d ", label, s.Topic, s.Stamp)
	if s.TTL > 0 {
		text += "e"
	}
	if empty {
		text += "c"
	}
	text += " " + strings.Repeat("x", max(n.e.number("size", 0)-len(text)-1, 0))
	s.Blob = &store.Blob{B: bundle.AppendPayload(nil, []byte(text))}
	if n.e.onStamp != nil {
		n.e.onStamp(n, label, s)
	}
}

// said reads that back.
func said(b *store.Blob) (retain bool, s core.Said) {
	if !bytes.Contains(b.B, []byte(" @")) {
		return false, s // most are not, and benchmarks come by here
	}
	data, err := bundle.PayloadData(b.B)
	if err != nil {
		return false, s
	}
	f := strings.Split(string(data), " ")
	if len(f) < 4 || !strings.HasPrefix(f[2], "@") {
		return false, s
	}
	stamp, err := strconv.ParseUint(f[2][1:], 10, 64)
	if err != nil {
		panic(err)
	}
	return true, core.Said{Stamp: core.Stamp(stamp), Expiry: strings.Contains(f[3], "e"), Empty: strings.Contains(f[3], "c")}
}

// runRetained plays the broker, and notes what is to be fetched.
func (n *enode) runRetained(eff *core.Effects) {
	for _, k := range eff.Keeps {
		if n.e.onKeep != nil {
			n.e.onKeep(n, k)
		}
		if k.Clear {
			n.e.printf("%s forgets %s", n.name, k.Topic)
			delete(n.broker, k.Topic)
			continue
		}
		text := fmt.Sprintf("%s keeps %s %s", n.name, k.Topic, labelOf(k.Blob))
		if k.Life > 0 {
			text += " for " + (time.Duration(k.Life) * time.Millisecond).String()
		}
		n.e.printf("%s", text)
		n.broker[k.Topic] = labelOf(k.Blob)
	}
	for _, f := range eff.Fetches {
		n.fetches = append(n.fetches, core.Fetch{To: f.To, Topics: slices.Clone(f.Topics), More: f.More})
	}
}

// loadBroker fills the broker from the disk, as a start does it.
func (n *enode) loadBroker() {
	n.broker = map[string]string{}
	err := n.store.State(core.RetainedPrefix, func(key string, value []byte) error {
		if r, err := core.ParseRetained(value); err != nil {
			panic(err)
		} else if r.State == core.KeptValue && (r.Ends == 0 || r.Old || r.Ends > n.now().UnixMilli()) {
			n.broker[strings.TrimPrefix(key, core.RetainedPrefix)] = labelOf(&store.Blob{B: r.Block})
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
}

var errFound = errors.New("found")

// compare reads what is fetched, and takes in the steps of comparisons.
func (n *enode) compare() bool {
	fetches, steps := n.fetches, n.steps
	n.fetches, n.steps = nil, nil
	for _, f := range fetches {
		var values []core.FetchedValue
		for _, topic := range f.Topics {
			err := n.store.State(core.RetainedPrefix+topic, func(key string, value []byte) error {
				if key == core.RetainedPrefix+topic {
					values = append(values, core.FetchedValue{Topic: topic, Value: slices.Clone(value)})
				}
				return errFound
			})
			if err != nil && !errors.Is(err, errFound) {
				panic(err)
			}
		}
		n.core.Fetched(n.now(), f, values)
		n.pump()
	}
	for _, d := range steps {
		n.step(d)
	}
	return len(fetches)+len(steps) > 0
}

// body is what another node says to a service of this one.
func (n *enode) body(d core.Delivery) []byte {
	block := d.Blob
	if block == nil {
		b, err := n.store.Read(d.Header.Seq)
		if err != nil {
			panic(err)
		}
		block = &store.Blob{B: b}
	}
	data, err := bundle.PayloadData(block.B)
	if err != nil {
		panic(err)
	}
	return data
}

func (n *enode) step(d core.Delivery) {
	if d.Service == core.ServiceSessions {
		n.roam(d)
		return
	}
	data := n.body(d)
	age := core.CompareTTL - time.Duration(d.Life)*time.Millisecond
	err := n.core.Compare(n.now(), d.Header.Origin, age, data, func(data []byte) (string, uint8, error) {
		return topicOf(&store.Blob{B: data}), 1, nil
	})
	if err != nil {
		panic(err)
	}
	n.core.Settle(n.now(), []core.Settlement{{Service: d.Service, Conn: d.Conn, Seq: d.Header.Seq}})
	n.pump()
}

func (e *env) cmdCompare() { e.node(e.arg(0)).compare() }

func (e *env) cmdRetained() {
	n := e.node(e.arg(0))
	for _, topic := range slices.Sorted(maps.Keys(n.broker)) {
		e.printf("%s %s", topic, n.broker[topic])
	}
	if !e.flag("state") {
		return
	}
	err := n.store.State(core.RetainedPrefix, func(key string, value []byte) error {
		r, err := core.ParseRetained(value)
		if err != nil {
			return err
		}
		what := map[core.KeptState]string{core.KeptValue: "value", core.KeptDeleted: "deleted", core.KeptExpired: "expired"}[r.State]
		text := fmt.Sprintf("disk: %s %s by %s", strings.TrimPrefix(key, core.RetainedPrefix), what, r.Node)
		if r.Old {
			text += " without a stamp"
		} else {
			text += fmt.Sprintf(" at %s+%d", r.Stamp.Time().Sub(epoch), r.Stamp&0xffff)
		}
		if r.Ends != 0 {
			text += " until " + time.UnixMilli(r.Ends).Sub(epoch).String()
		}
		e.printf("%s", text)
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// epoch is when every env begins.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func (e *env) cmdOldState() {
	n := e.node(e.arg(0))
	value := []byte{0, 0, 1, 0xb9, 0, 0, 0, 0} // 2030
	value = append(value, blob(e.arg(2), e.arg(1), 0).B...)
	n.store = n.store.Crash()
	n.store.Append(&store.Batch{LSN: 1, Sets: []store.Set{{Key: core.RetainedPrefix + e.arg(1), Value: value}}})
	n.store.Sync()
	e.cmdCrash()
}

// stepOf names a step of a comparison.
func stepOf(b *store.Blob) string {
	data, err := bundle.PayloadData(b.B)
	if err != nil || len(data) < 2 {
		panic(err)
	}
	return []string{"?", "root", "buckets", "lines", "want", "give", "same", "done"}[data[1]]
}
