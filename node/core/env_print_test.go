package core_test

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// frameText is a frame in one line, "" for one that is not shown.
func (e *env) frameText(f core.Frame) string {
	switch f := f.(type) {
	case *core.Transfer:
		what := "transfer"
		if f.Entry.State == store.Ended {
			what = "obituary"
		}
		return fmt.Sprintf("%s %s/%d %s", what, f.Class, f.XID, e.label(f.Header.Message))
	case *core.Volatile:
		return "volatile " + labelOf(f.Blob)
	case core.Ack:
		return fmt.Sprintf("ack %s/%d", f.Class, f.XID)
	case core.Refuse:
		return fmt.Sprintf("refuse %s/%d %s", f.Class, f.XID, f.Reason)
	case *routing.Advert:
		if e.show["advert"] {
			return "advert " + advertText(f)
		}
	case core.Ping:
		if e.show["ping"] {
			return "ping"
		}
	case core.Pong:
		if e.show["ping"] {
			return "pong"
		}
	}
	return ""
}

func advertText(a *routing.Advert) string {
	text := fmt.Sprintf("of %s %d.%d", a.Node, a.Seq>>32, a.Seq&0xffffffff)
	for _, n := range a.Neighbors {
		state := "up"
		if !n.Up {
			state = "down"
		}
		for class := range bundle.Class(bundle.NumClasses) {
			if n.Barred.Has(class) {
				state += "-" + class.String()
			}
		}
		text += fmt.Sprintf(" %s=%s", n.Node, state)
	}
	if len(a.Interest) > 0 {
		text += " wants " + strings.Join(a.Interest, " ")
	}
	for _, g := range a.Groups {
		state := "online"
		if !g.Online {
			state = "away"
		}
		text += fmt.Sprintf(" %s=%s", g.Filter, state)
	}
	return text
}

// membersText is who gets a message for a shared subscription.
func membersText(all []core.Member, only bool) (text string) {
	for _, m := range all {
		text += fmt.Sprintf(" for %s of %s", m.Client, m.Filter)
	}
	if only {
		text += " only"
	}
	return text
}

// batchText is a batch in one line; of the state only what kinds of keys.
func (e *env) batchText(b *store.Batch) string {
	var parts []string
	for _, p := range b.Puts {
		var to []string
		for _, q := range p.Header.Entries {
			to = append(to, core.QueueText(q.Queue))
		}
		parts = append(parts, fmt.Sprintf("put %s for %s", e.label(p.Header.Message), strings.Join(to, ", ")))
	}
	for _, m := range b.Marks {
		state := map[store.EntryState]string{store.Received: "received", store.Ended: "ended"}[m.State]
		parts = append(parts, fmt.Sprintf("mark %d of %s %s", m.Seq, core.QueueText(m.Queue), state))
	}
	for _, d := range b.Drops {
		parts = append(parts, fmt.Sprintf("drop %d of %s", d.Seq, core.QueueText(d.Queue)))
	}
	var keys []string
	for _, s := range b.Sets {
		kind, _, _ := strings.Cut(s.Key, "/")
		if !slices.Contains(keys, kind) {
			keys = append(keys, kind)
		}
	}
	if len(keys) > 0 {
		slices.Sort(keys)
		parts = append(parts, "set "+strings.Join(keys, ""))
	}
	if b.Lazy {
		parts = append(parts, "lazy")
	}
	return strings.Join(parts, "; ")
}

func (e *env) cmdWhy() {
	n := e.node(e.arg(0))
	for id, l := range e.labels {
		if l != e.arg(1) {
			continue
		}
		for _, p := range n.core.Why(id) {
			e.printf("%s: %s, waits for %s; sent %d, expires in %v", p.Queue, p.State, p.Waits, p.Sent, p.Expires.Sub(e.now))
		}
	}
}

func (e *env) cmdView() {
	v := e.node(e.arg(0)).core.View()
	for _, q := range v.Queues {
		text := fmt.Sprintf("%s %s: %d messages, %d bytes, %d in flight", core.QueueText(q.Queue), q.Queue.Class, q.Count, q.Bytes, q.InFlight)
		if !q.Hop.IsZero() {
			text += fmt.Sprintf(", by %s up=%v", q.Hop, q.Up)
		}
		e.printf("%s", text)
	}
	for _, l := range v.Links {
		state := "open"
		switch {
		case l.Silent:
			state = "silent"
		case !l.Open:
			state = "closed"
		}
		if l.Uplink != "" {
			state = fmt.Sprintf("by %s at %d for %d classes, %s", l.Uplink, l.Cost, bits.OnesCount8(uint8(l.Uses)), state)
		}
		text := fmt.Sprintf("link %s %s, %d in flight, %d bytes", l.Node, state, l.Flights, l.Bytes)
		if l.Damped > 0 {
			text += fmt.Sprintf(", told of in %v", l.Damped)
		}
		if !l.NextEdge.IsZero() {
			text += ", next edge in " + l.NextEdge.Sub(e.now).Round(time.Second).String()
		}
		e.printf("%s", text)
	}
	e.printf("%d messages, %d bytes", v.Totals.Messages, v.Totals.Bytes)
}

// cmdStats prints every counter that is not zero.
func (e *env) cmdStats() {
	s := reflect.ValueOf(e.node(e.arg(0)).core.Stats())
	for i := range s.NumField() {
		f, name := s.Field(i), s.Type().Field(i).Name
		switch {
		case f.Kind() == reflect.Array:
			for r := range f.Len() {
				if n := f.Index(r).Uint(); n > 0 {
					e.printf("%s %s %d", name, bundle.Reason(r), n)
				}
			}
		case f.Uint() > 0:
			e.printf("%s %d", name, f.Uint())
		}
	}
}
