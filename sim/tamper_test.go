package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/sim/scenario"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// line is a relay between a publisher's node and a subscriber's.
const line = `
name: line
duration: 10m
drains: true
order_wait: 1m
nodes: [{name: a, region: x}, {name: r, region: x}, {name: b, region: x}]
links: [{between: [a, r], delay: 20ms}, {between: [r, b], delay: 20ms}]
subscribers: [{node: b, client: sub, filter: "t/#", qos: 1}]
publishers: [{node: a, client: pub, topic: t/1, qos: 1, every: 5s, size: 100}]
`

// TestEachLawSpeaksAlone breaks one promise at a time in a world that keeps
// all others.
func TestEachLawSpeaksAlone(t *testing.T) {
	for _, c := range []struct {
		law    oracle.Law
		faults string
		tamper func() tamper
	}{
		{oracle.Reply, "", ackBeforeWrite},
		{oracle.Refusal, "", refuseWhatIsKept},
		{oracle.Custody, "", custodyBeforeSync},
		{oracle.Offer, "", offerUnwritten},
		{oracle.Release, "", releaseUnasked},
		{oracle.Holder, "", forgeAck},
		{oracle.Account, "", swallowSubmission},
		{oracle.OnceHop, "faults: [{kind: crash, node: r, at: 2m, on: ack, for: 5s}]", forgetHops},
		{oracle.OnceSession, "faults: [{kind: crash, node: b, at: 2m, on: ack, for: 5s}]", forgetLeg},
		{oracle.OnceDevice, "", deliverTwice},
		{oracle.Order, "", deliverLate},
		{oracle.Age, "", ageBack},
		{oracle.Bounded, "", hoard},
		{oracle.Recovery, "faults: [{kind: crash, node: r, at: 2m, on: sync, for: 5s}]", forgetStored},
		{oracle.Twice, twentyCrashes(), recoverOther},
		{oracle.Agreement, "", dropUnseen},
		{oracle.Wire, "", skipNumber},
		{oracle.Progress, "", neverAnswer},
		{oracle.Quota, "", chargeUnwritten},
		{oracle.Reasons, "faults: [{kind: crash, node: r, at: 2m, on: sync, for: 5s}]", damageUntold},
		{oracle.Purge, "faults: [{kind: purge, node: a, at: 3m}]", purgeMore},
	} {
		t.Run(c.law.String(), func(t *testing.T) {
			w, err := scenario.Parse("line.yaml", []byte(line+c.faults))
			if err != nil {
				t.Fatal(err)
			}
			if c.law == oracle.Bounded {
				w.Nodes[0].Bytes = 1000
				w.Faults = append(w.Faults, scenario.Fault{
					Kind: scenario.Cut, Link: w.Links[0].Between, At: scenario.Duration(time.Minute), For: scenario.Duration(2 * time.Minute),
				})
			}
			if c.law == oracle.Quota {
				w.Nodes[0].Quotas = []scenario.Quota{{Name: "pubs", Client: "pub*", Count: 100}}
			}
			r, err := Run(w, 1, Option{tamper: c.tamper()})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Broken) == 0 {
				t.Errorf("no law spoke: %+v", *r)
			}
			for _, v := range r.Broken {
				if v.Law != c.law {
					t.Errorf("another law spoke: %s", v)
				}
			}
			if clean, err := Run(w, 1, Option{}); err != nil || len(clean.Broken) > 0 || clean.Delivered == 0 {
				t.Errorf("untampered: %v, %v", clean.Violations(), err)
			}
		})
	}
}

func twentyCrashes() string {
	return "faults: [" + strings.Repeat("{kind: crash, node: r, at: 2m, on: receive, for: 1s}, ", 20) + "]"
}

// once lets a tamper act a single time, after the world has settled.
func once(w *world, done *bool) bool {
	if *done || w.now < 100*time.Second {
		return false
	}
	*done = true
	return true
}

// The node says OK as soon as it hears of a message.
func ackBeforeWrite() tamper {
	return tamper{onSubmit: func(n *node, token uint64, _ *core.Submission) bool {
		n.judge.Replied(core.Reply{Token: token})
		return false
	}}
}

func refuseWhatIsKept() tamper {
	done := false
	return tamper{onReply: func(n *node, r core.Reply) core.Reply {
		if once(n.w, &done) {
			r.Reason = bundle.StoreFull
		}
		return r
	}}
}

// The relay acknowledges custody of what it has in memory.
func custodyBeforeSync() tamper {
	return tamper{onReceived: func(n *node, id uint64, f core.Frame) {
		if in, ok := f.(*core.Incoming); ok && n.name.String() == "r" {
			n.send(core.Send{Link: id, Frame: core.Ack{Class: in.Class, XID: in.XID}})
		}
	}}
}

// The consumer offers what it has not written.
func offerUnwritten() tamper {
	return tamper{onStaged: func(n *node, b *store.Batch) {
		for _, p := range b.Puts {
			if e := p.Header.Entries[0]; e.Queue.Kind == store.ToSession {
				n.judge.Offered(core.Delivery{Session: e.Queue.Name, Header: p.Header, Entry: e, Life: 1000})
			}
		}
	}}
}

// A node lets go of what its peer has, before the peer says so.
func releaseUnasked() tamper {
	var in *core.Incoming
	var id uint64
	return tamper{
		onReceived: func(n *node, session uint64, f core.Frame) {
			if got, ok := f.(*core.Incoming); ok && n.name.String() == "r" {
				in, id = got, session
			}
		},
		onPersisted: func(n *node) {
			if n.name.String() == "r" && in != nil {
				a := n.w.byName["a"]
				a.core.Receive(a.clock(), id, []core.Frame{core.Ack{Class: in.Class, XID: in.XID}})
				in = nil
				a.pump()
			}
		},
	}
}

// A transfer is lost, and its acknowledgement comes.
func forgeAck() tamper {
	done := false
	return tamper{onLost: func(l *link, to *node, f core.Frame) bool {
		tr, ok := f.(*core.Transfer)
		if !ok || to.name.String() != "r" || !once(to.w, &done) {
			return false
		}
		l.ends[0].receive(l.session.id, core.Ack{Class: tr.Class, XID: tr.XID})
		l.session.down(0) // else the next number tells
		l.session.down(1)
		return true
	}}
}

// The node says OK and does nothing.
func swallowSubmission() tamper {
	done := false
	return tamper{onSubmit: func(n *node, token uint64, _ *core.Submission) bool {
		if !once(n.w, &done) {
			return false
		}
		n.reply(core.Reply{Token: token})
		return true
	}}
}

// The relay does not keep which bundles it had.
func forgetHops() tamper { return tamper{onStaged: without("r", "w/")} }

func without(name, prefix string) func(n *node, b *store.Batch) {
	return func(n *node, b *store.Batch) {
		if n.name.String() == name {
			b.Sets = slices.DeleteFunc(b.Sets, func(s store.Set) bool { return strings.HasPrefix(s.Key, prefix) })
		}
	}
}

// The consumer does not keep what it had last.
func forgetLeg() tamper {
	forget := without("b", "o/")
	return tamper{onStaged: func(n *node, b *store.Batch) {
		if n.w.now > 2*time.Minute && n.life == 1 {
			forget(n, b)
		}
	}}
}

func deliverTwice() tamper {
	done := false
	return tamper{onDeliver: func(s *subscriber, _ core.Delivery, _ []byte) (int, bool) {
		if once(s.w, &done) {
			return 2, false
		}
		return 1, false
	}}
}

func deliverLate() tamper {
	done := false
	return tamper{onDeliver: func(s *subscriber, _ core.Delivery, _ []byte) (int, bool) {
		return 1, once(s.w, &done)
	}}
}

// A hop gives a message a longer life than it has left.
func ageBack() tamper {
	return tamper{onSend: func(n *node, f core.Frame) core.Frame {
		if t, ok := f.(*core.Transfer); ok && n.name.String() == "r" {
			t.Life += time.Hour.Milliseconds()
		}
		return f
	}}
}

// A node takes more than its quota.
func hoard() tamper {
	return tamper{onLimits: func(c storeforward.Config) storeforward.Config {
		c.MaxBytes *= 10
		return c
	}}
}

// A restart finds less than was durable.
func forgetStored() tamper {
	return tamper{onCrashed: func(n *node) {
		sum, _ := n.store.Summary()
		items, _ := n.store.Scan(sum.Queues[0].Queue, 0, 1)
		dropBehind(n, sum.Queues[0].Queue, items[0].Header.Seq)
	}}
}

// dropBehind takes an entry out of a store without telling anyone.
func dropBehind(n *node, q store.Queue, seq uint64) {
	n.mute = true
	n.store.Append(&store.Batch{LSN: 1, Drops: []store.Drop{{Queue: q, Seq: seq}}})
	n.store.Sync()
	n.mute = false
}

// A second recovery finds another key than the first.
func recoverOther() tamper {
	return tamper{onRecovered: func(n *node) {
		n.mute = true
		n.store.Append(&store.Batch{LSN: 1, Sets: []store.Set{{Key: core.StatePrefix + "odd", Value: []byte{1}}}})
		n.store.Sync()
		n.mute = false
	}}
}

// The disk loses an entry that memory still counts.
func dropUnseen() tamper {
	done := false
	return tamper{onPersisted: func(n *node) {
		if n.name.String() == "b" && n.store.Staged() == 0 && once(n.w, &done) {
			v := n.core.View()
			v.Totals.Bytes++
			n.judge.Agrees(v)
		}
	}}
}

// A node does not keep what is on an account.
func chargeUnwritten() tamper { return tamper{onStaged: without("a", "u/")} }

// The disk changes what it holds, and the world does not say so.
func damageUntold() tamper {
	return tamper{onCrashed: func(n *node) {
		for _, it := range n.stored() {
			n.store.Damage(it.Header.Seq)
		}
	}}
}

// The operator is told of more than ended.
func purgeMore() tamper {
	return tamper{onPurged: func(done core.Purged) core.Purged {
		done.Ended++
		return done
	}}
}

func skipNumber() tamper {
	done := false
	return tamper{onSend: func(n *node, f core.Frame) core.Frame {
		t, ok := f.(*core.Transfer)
		if ok && once(n.w, &done) {
			twin := *t
			twin.XID++
			return &twin
		}
		return f
	}}
}

// The subscriber's node never hears a transfer again.
func neverAnswer() tamper {
	return tamper{onLost: func(_ *link, to *node, f core.Frame) bool {
		_, ok := f.(*core.Transfer)
		return ok && to.name.String() == "b" && to.w.now > 3*time.Minute
	}}
}
