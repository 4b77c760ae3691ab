package oracle

import (
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for l := range Law(NumLaws) {
		if name := l.String(); name == "" || strings.HasPrefix(name, "law-") || seen[name] {
			t.Errorf("law %d is called %q", l, name)
		}
		seen[l.String()] = true
	}
	if Law(NumLaws).String() != "law-21" {
		t.Errorf("an unknown law is called %s", Law(NumLaws))
	}
}

// world is one node that takes one message for one session.
func world(t *testing.T) (*Oracle, *Node, *store.Batch) {
	t.Helper()
	now := time.Duration(0)
	o := New(Config{
		Now:      func() time.Duration { return now },
		Identify: func(b []byte) (Publication, bool) { return Publication{Number: uint64(b[0])}, true },
		Max:      2,
	})
	n := o.Node(NodeConfig{Name: addr.MustNode("a"), Clock: func() int64 { return 1000 }})
	n.SessionOpened("sub", false, 0)
	n.Subscribed("sub", "#", 1)
	n.SubscribedFirm("sub")
	n.Device("sub", "#", 1, true, func(string) bool { return true })
	id := bundle.ID{Node: addr.MustNode("a"), Seq: 1}
	q := store.Queue{Kind: store.ToSession, Name: "sub"}
	n.Submitted(7, Publication{Number: 1}, &core.Submission{Topic: "t", QoS: 1}, false, false)
	b := &store.Batch{LSN: 1, Puts: []store.Put{{
		Header: &store.Header{Seq: 1, Message: id, Topic: "t", QoS: 1, Service: core.ServiceMQTT, Expires: 5000, Size: 1, Entries: []store.Entry{{Queue: q}}},
		Blob:   &store.Blob{B: []byte{1}},
	}}}
	n.Staged(b)
	return o, n, b
}

func TestAcknowledgedAndKept(t *testing.T) {
	o, n, b := world(t)
	n.Persisted()
	n.Replied(core.Reply{Token: 7, Message: b.Puts[0].Header.Message})
	o.Finish(false)
	if len(o.Violations()) > 0 || o.Tally.Expected != 1 || o.Tally.Pending != 1 {
		t.Errorf("%v, %+v", o.Violations(), o.Tally)
	}
}

func TestAcknowledgedAndLost(t *testing.T) {
	o, n, b := world(t)
	n.Replied(core.Reply{Token: 7, Message: b.Puts[0].Header.Message})
	n.Crashed()
	n.Booted(store.Summary{NextSeq: 1}, nil)
	o.Finish(true)
	// The message is blamed once: the end of the run adds nothing.
	if v := o.Violations(); len(v) != 1 || v[0].Law != Reply || o.Tally.Lost != 1 {
		t.Errorf("%v, %+v", v, o.Tally)
	}
}

func TestViolationsAreBounded(t *testing.T) {
	o, n, _ := world(t)
	for range 5 {
		n.Closed("transfer 3 where 2 was due", true, false)
	}
	if len(o.Violations()) != 2 || o.Tally.Violations != 5 {
		t.Errorf("%d kept of %d", len(o.Violations()), o.Tally.Violations)
	}
}
