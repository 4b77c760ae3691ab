package core_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
)

// checkSought compares what nodes told of the filters of sessions, one by one,
// with what their sessions have.
func (e *env) checkSought() {
	for _, n := range e.nodes {
		if got, want := n.sought.Filters(), n.core.Seeking(); !slices.Equal(got, want) {
			panic(fmt.Sprintf("%s told that sessions want %q, they want %q", n.name, got, want))
		}
	}
}

// soughtNode is a driver that keeps a Sought, and refuses replies that are
// ahead of it.
type soughtNode struct {
	*benchNode
	sought core.Sought
}

// answered runs effects until the request is answered, and reports whether the
// topic was wanted by then.
func (n *soughtNode) answered(t *testing.T, now time.Time, token uint64, topic string) bool {
	t.Helper()
	for {
		for e := n.core.Take(); e != nil; e = n.core.Take() {
			if e.Write != nil {
				n.store.Append(e.Write)
			}
			n.sought.Apply(e.Came, e.Gone)
			if slices.ContainsFunc(e.Replies, func(r core.Reply) bool { return r.Token == token }) {
				return n.sought.Wants(topic)
			}
		}
		lsn, ok := n.store.Sync()
		if !ok {
			t.Fatalf("request %d is not answered", token)
		}
		n.core.Persisted(now, lsn)
	}
}

// TestSoughtBeforeReply: by the time that a client hears of it, it is known
// what is to wait for its session, else a publish would pass the session by.
func TestSoughtBeforeReply(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	const client, topic = "dev", "plant/1/cmd"
	open := func(n *soughtNode, conn uint64, expiry uint32) {
		n.core.OpenSession(now, core.SessionOpen{Token: conn, Client: client, Conn: conn, Expiry: expiry, ReceiveMax: 16})
	}
	subscribe := func(n *soughtNode, filters ...string) {
		for _, f := range filters {
			n.core.Subscribe(now, 9, client, []core.Subscription{{Filter: f, QoS: 1}})
		}
	}
	for _, c := range []struct {
		name  string
		do    func(n *soughtNode)
		token uint64
		want  bool
	}{
		{"a filter of a session that stays", func(n *soughtNode) { open(n, 1, 60); subscribe(n, "plant/+/cmd") }, 9, true},
		{"a shared one", func(n *soughtNode) { open(n, 1, 60); subscribe(n, "$share/g/plant/+/cmd") }, 9, true},
		{"of a session that ends with its connection", func(n *soughtNode) { open(n, 1, 0); subscribe(n, "plant/+/cmd") }, 9, false},
		{"a session that is to stay from now on", func(n *soughtNode) { open(n, 1, 0); subscribe(n, topic); open(n, 2, 60) }, 2, true},
		{"two filters, and the same again", func(n *soughtNode) { open(n, 1, 60); subscribe(n, topic, "#", "#") }, 9, true},
		{"one of two that is removed", func(n *soughtNode) {
			open(n, 1, 60)
			subscribe(n, topic, "#")
			n.core.Unsubscribe(now, 8, client, []string{"#"})
		}, 8, true},
		{"the last one that is removed", func(n *soughtNode) {
			open(n, 1, 60)
			subscribe(n, topic, "other")
			n.core.Unsubscribe(now, 8, client, []string{topic})
		}, 8, false},
		{"a session that began anew", func(n *soughtNode) {
			open(n, 1, 60)
			subscribe(n, topic)
			n.core.OpenSession(now, core.SessionOpen{Token: 7, Client: client, Conn: 2, Clean: true, Expiry: 60, ReceiveMax: 16})
		}, 7, false},
		{"a session that ended, and another with the same filter", func(n *soughtNode) {
			open(n, 1, 60)
			subscribe(n, topic)
			n.core.OpenSession(now, core.SessionOpen{Client: "other", Conn: 3, Expiry: 60, ReceiveMax: 16})
			n.core.Subscribe(now, 0, "other", []core.Subscription{{Filter: topic, QoS: 1}})
			n.core.EndSession(now, 6, client)
		}, 6, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &soughtNode{benchNode: newBenchNode(t, "a", now)}
			c.do(n)
			if got := n.answered(t, now, c.token, topic); got != c.want {
				t.Errorf("%s is wanted when the answer leaves: %t, want %t", topic, got, c.want)
			}
		})
	}
}
