package core_test

import (
	"math"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func (e *env) cmdQuotas() {
	var list []policy.Quota
	for line := range strings.SplitSeq(strings.TrimSpace(e.cmd.Input), "\n") {
		name, args, err := datadriven.ParseLine(line)
		if err != nil {
			panic(err)
		}
		q := policy.Quota{Name: name}
		for _, a := range args {
			n, _ := strconv.Atoi(a.Vals[0])
			switch v := a.Vals[0]; a.Key {
			case "client":
				q.Client = v
			case "topic":
				q.Topic = v
			case "region":
				q.Region = addr.MustRegion(v)
			case "class":
				q.Class, err = bundle.ParseClass(v)
				q.HasClass = err == nil
			case "peer":
				q.Peer = v
			case "each":
				q.Each = map[string]policy.Each{"client": policy.EachClient, "peer": policy.EachPeer}[v]
			case "bytes":
				q.Bytes = int64(n)
			case "count":
				q.Count = n
			}
		}
		list = append(list, q)
	}
	quotas, err := policy.NewQuotas(list)
	if err != nil {
		panic(err)
	}
	e.settings.Quotas = quotas
	e.configure()
}

func (e *env) cmdRoom() {
	n := e.node(e.arg(0))
	limit := int64(math.MaxInt64)
	n.puts, n.allow = 0, 0
	if left := e.number("left", -1); left >= 0 {
		n.allow = max(int64(left), 1)
		limit = n.cost + int64(left)
	}
	n.core.Room(n.now(), limit)
	n.pump()
}

func (e *env) cmdUsage() {
	for _, u := range e.node(e.arg(0)).core.View().Quotas {
		e.printf("%s: %d messages, %d bytes", u.Key, u.Count, u.Bytes)
	}
}

func (e *env) cmdRetry() {
	n := e.node(e.arg(0))
	n.core.Retry(n.now())
	n.pump()
}

func (e *env) cmdPurge() {
	n := e.node(e.arg(0))
	var p core.Purge
	if v := e.value("session", ""); v != "" {
		p.Queue = &store.Queue{Kind: store.ToSession, Name: v}
	}
	if v := e.value("to", ""); v != "" {
		p.Queue = &store.Queue{Kind: store.ToNode, Name: v}
	}
	if e.value("class", "") != "" {
		p.Classes = p.Classes.With(e.class())
	}
	if d := e.duration("older"); d > 0 {
		p.Before = n.now().Add(-d)
	}
	done := n.core.Purge(n.now(), n.newToken("purge"), p)
	e.printf("%s purged %d, %d behind the windows", n.name, done.Ended, done.Left)
	n.pump()
}

func (e *env) cmdUnreadable() {
	n := e.node(e.arg(0))
	for _, q := range n.core.View().Queues {
		items, _ := n.store.Scan(q.Queue, 0, 1<<20)
		for _, it := range items {
			if e.labels[it.Header.Message] == e.arg(1) {
				n.core.Unreadable(n.now(), it.Entry.Queue, it.Header.Seq)
			}
		}
	}
	n.pump()
}

func (e *env) cmdOpen() {
	n := e.node(e.arg(0))
	conn, _ := strconv.ParseUint(e.arg(2), 10, 64)
	d := n.device(e.arg(1))
	d.conn, d.todo = conn, nil
	n.core.OpenService(n.now(), d.client, conn, e.number("window", 0))
	n.pump()
}

func (e *env) cmdClose() {
	n := e.node(e.arg(0))
	n.core.CloseService(n.now(), e.arg(1))
	n.pump()
}

func (e *env) cmdReaddress() {
	n := e.node(e.arg(0))
	d := n.device(e.arg(1))
	for range min(e.number("n", 1), len(d.todo)) {
		t := d.todo[0]
		d.todo = d.todo[1:]
		n.core.Readdress(n.now(), t, e.arg(2))
		n.pump()
	}
}
