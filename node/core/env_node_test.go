package core_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/batch"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/memstore"
	"github.com/farhop/farhop/storeforward/store"
)

// enode is one node of an env: a core and its driver.
type enode struct {
	e        *env
	name     addr.Node
	region   addr.Region
	limits   storeforward.Config
	core     *core.Core
	store    *memstore.Store
	loads    []storeforward.Load
	tokens   map[uint64]string
	connects map[uint64]connecting
	token    uint64
	imports  map[uint64]func(bundle.Reason)
	devices  []*edevice

	cost  int64 // of all batches since boot
	puts  int64 // cost of the puts since room was told
	allow int64 // as it was told, 0: never

	sought core.Sought // what it was told that sessions want

	dropping bool // settlements say that nothing can be delivered

	broker  map[string]string // retained messages: labels by topic
	fetches []core.Fetch
	steps   []core.Delivery // of comparisons
	words   []core.Word     // to be told
	skew    time.Duration   // of its clock
}

// edevice is a client with the deliveries it has not answered.
type edevice struct {
	client string
	conn   uint64
	auto   bool
	todo   []core.Delivery
}

func (e *env) cmdNode() {
	n := &enode{
		e: e, name: addr.MustNode(e.arg(0)), region: addr.MustRegion(e.value("region", "earth")),
		limits: storeforward.Config{Window: e.number("window", 0), MaxCount: e.number("count", 0)},
	}
	n.store = memstore.New(memstore.Config{Incarnation: uint32(len(e.nodes) + 1)})
	e.nodes = append(e.nodes, n)
	n.boot()
	n.sync()
}

// now is the time by the clock of a node.
func (n *enode) now() time.Time { return n.e.now.Add(n.skew) }

func (n *enode) boot() {
	n.tokens, n.loads, n.cost, n.puts, n.allow = map[uint64]string{}, nil, 0, 0, 0
	n.fetches, n.steps, n.words, n.connects = nil, nil, nil, map[uint64]connecting{}
	n.loadBroker()
	n.sought = core.Sought{}
	n.core = core.New(core.Config{Self: n.name, Region: n.region, Incarnation: n.store.Incarnation(), Clock: true, Limits: n.limits, Stamped: stamped})
	if err := n.core.Restore(n.now(), n.store); err != nil {
		panic(err)
	}
	n.core.Configure(n.now(), n.e.settings, n.e.routes)
	n.core.Serve(n.now())
	n.pump()
}

// pump runs effects until there are none. Writes wait for sync, loads for
// load, frames for deliver.
func (n *enode) pump() {
	for eff := n.core.Take(); eff != nil; eff = n.core.Take() {
		n.run(eff)
	}
}

func (n *enode) run(eff *core.Effects) {
	e := n.e
	n.sought.Apply(eff.Came, eff.Gone)
	if eff.Write != nil {
		n.write(eff.Write)
	}
	for _, l := range eff.Loads {
		if e.show["load"] {
			e.printf("%s loads %d of %s after %d", n.name, l.N, core.QueueText(l.Queue), l.After)
		}
		n.loads = append(n.loads, l)
	}
	for _, s := range eff.Sends {
		if l := e.session(s.Link); l != nil {
			l.send(n, s.Frame)
		}
	}
	for _, r := range eff.Replies {
		if what := n.tokens[r.Token]; what != "" {
			if label, ok := strings.CutPrefix(what, "publish "); ok && !r.Message.IsZero() {
				e.labels[r.Message] = label // those that nobody wants are not written
			}
			e.printf("%s replies %s: %s%s", n.name, what, r.Reason, membersText(r.Members, false))
			if r.Session != nil {
				e.printf("%s session of %s after all present=%v inbound=%v", n.name, what, r.Session.Present, r.Session.Inbound)
			}
			n.answered(r)
			if f := n.imports[r.Token]; f != nil {
				delete(n.imports, r.Token)
				f(r.Reason)
			}
			if e.onReply != nil {
				e.onReply(what, r.Reason)
			}
		}
	}
	for _, d := range eff.Deliver {
		n.deliver(d)
	}
	n.echoed(eff.Echoes)
	for _, l := range eff.Live {
		e.printf("%s live %s %s%s", n.name, l.Topic, labelOf(l.Blob), membersText(l.Members, l.Only))
		if e.onLive != nil {
			e.onLive(n, l)
		}
	}
	n.runRetained(eff)
	for _, s := range eff.Sights {
		e.printf("%s sees %s", n.name, e.sightText(&s))
	}
	n.runWords(eff)
	for _, t := range eff.TakenOver {
		n.takenOver(t)
	}
	for _, r := range eff.Renew {
		e.printf("%s asks for another session: heard=%v over=%v", n.name, r.Heard, r.Over)
	}
	for _, c := range eff.Close {
		e.printf("%s closes a link: %s", n.name, c.Reason)
		if l := e.session(c.Link); l != nil {
			l.end(n)
		}
	}
}

// write plays the disk, which has what it is told at once.
func (n *enode) write(b *store.Batch) {
	e := n.e
	for _, p := range b.Puts {
		switch {
		case p.Blob == nil:
		case p.Header.Service == core.ServiceSync:
			e.labels[p.Header.Message] = stepOf(p.Blob)
		case p.Header.Service == core.ServiceReports:
			e.labels[p.Header.Message] = "reports"
		case p.Header.Service == core.ServiceSessions:
			e.labels[p.Header.Message] = roamOf(p.Blob)
		default:
			e.labels[p.Header.Message] = labelOf(p.Blob)
		}
	}
	if e.show["write"] {
		e.printf("%s writes %d: %s", n.name, b.LSN, e.batchText(b))
	}
	n.cost += b.Cost()
	n.puts += b.Cost() - b.CostBesidePuts()
	if n.allow > 0 && n.puts > n.allow {
		e.printf("%s writes %d bytes, and has room for %d", n.name, n.puts, n.allow)
		e.overfull++
	}
	n.store.Append(b)
}

func (n *enode) deliver(d core.Delivery) {
	if d.Service == core.ServiceSync || d.Service == core.ServiceSessions {
		n.steps = append(n.steps, d)
		return
	}
	text := fmt.Sprintf("%s delivers %s to %s%s", n.name, n.e.label(d.Header.Message), d.Session, d.Service)
	if d.Release {
		text = fmt.Sprintf("%s releases %s to %s%s", n.name, n.e.label(d.Header.Message), d.Session, d.Service)
	} else if d.Blob == nil {
		if _, err := n.store.Read(d.Header.Seq); err != nil {
			text += " (" + err.Error() + ")"
		}
	}
	if d.Session != "" {
		text += fmt.Sprintf(" qos=%d packet=%d", d.Entry.QoS, d.PacketID)
	}
	text += membersText(d.Members, d.Only)
	if d.Dup {
		text += " dup"
	}
	if d.Retain {
		text += " retain"
	}
	if len(d.SubIDs) > 0 {
		text += fmt.Sprintf(" ids=%v", d.SubIDs)
	}
	n.e.printf("%s", text)
	dev := n.device(d.Session + d.Service)
	if d.Session != "" && dev.conn != d.Conn {
		n.e.printf("%s: that connection is gone", n.name)
		return
	}
	dev.todo = append(dev.todo, d)
	if e := n.e; e.onRelease != nil && d.Release {
		e.onRelease(n, dev.client, d)
	}
	if e := n.e; e.onOffer != nil && !d.Release {
		e.onOffer(n, dev.client, d)
	}
	if e := n.e; e.onDeliver != nil && !d.Release {
		e.onDeliver(dev.client, e.label(d.Header.Message), d)
	}
}

func (n *enode) device(client string) *edevice {
	for _, d := range n.devices {
		if d.client == client {
			return d
		}
	}
	d := &edevice{client: client}
	n.devices = append(n.devices, d)
	return d
}

// settle answers up to count deliveries of a device, oldest first.
func (n *enode) settle(d *edevice, count int, received bool) {
	for ; count > 0 && len(d.todo) > 0; count-- {
		t := d.todo[0]
		d.todo = d.todo[1:]
		if n.e.onSettle != nil && t.Session != "" {
			n.e.onSettle(t.Session, n.e.label(t.Header.Message))
		}
		s := core.Settlement{Session: t.Session, Service: t.Service, Conn: d.conn, Seq: t.Header.Seq}
		if received || t.Entry.QoS == 2 && !t.Release && d.auto {
			s.Outcome = core.Received
		}
		if n.dropping {
			s.Outcome, s.Reason = core.Dropped, bundle.NotAllowed
		}
		n.core.Settle(n.now(), []core.Settlement{s})
		n.pump()
	}
}

func (n *enode) sync() bool {
	if n.store.Staged() == 0 {
		return false
	}
	lsn, ok := n.store.Sync()
	if !ok {
		n.e.printf("%s fails to write", n.name)
		n.core.Failed(n.now())
	} else {
		if n.e.show["sync"] {
			n.e.printf("%s persisted %d", n.name, lsn)
		}
		n.core.Persisted(n.now(), lsn)
	}
	n.pump()
	return true
}

func (n *enode) load() bool {
	loads := n.loads
	n.loads = nil
	for _, l := range loads {
		items, err := n.store.Scan(l.Queue, l.After, l.N)
		if err != nil {
			panic(err)
		}
		n.core.Loaded(n.now(), l.Queue, items)
		n.pump()
	}
	return len(loads) > 0
}

func (e *env) cmdSync() { e.node(e.arg(0)).sync() }
func (e *env) cmdLoad() { e.node(e.arg(0)).load() }
func (e *env) cmdFail() { e.node(e.arg(0)).store.FailAt(1, errors.New("no")) }

func (e *env) cmdCrash() {
	n := e.node(e.arg(0))
	for _, l := range e.links {
		if l.has(n) {
			l.end(n)
		}
	}
	n.store = n.store.CrashAfter(e.number("kept", 0))
	if e.flag("wipe") {
		n.store = memstore.New(memstore.Config{Incarnation: n.store.Incarnation() + 100})
	}
	for _, d := range n.devices {
		d.todo, d.conn = nil, 0
	}
	if e.value("skew", "") != "" {
		n.skew = e.duration("skew")
	}
	n.boot()
}

func (n *enode) newToken(format string, args ...any) uint64 {
	n.token++
	n.tokens[n.token] = fmt.Sprintf(format, args...)
	return n.token
}

func (e *env) cmdConnect() {
	n := e.node(e.arg(0))
	d := n.device(e.arg(1))
	d.conn++
	for _, other := range n.devices { // connection numbers are unique per node
		d.conn = max(d.conn, other.conn+1)
	}
	d.auto, d.todo = e.flag("auto"), nil
	expiry := uint32(core.NeverExpires)
	if v := e.number("expiry", -1); v >= 0 {
		expiry = uint32(v)
	}
	token := n.connectToken(d.client)
	st := n.core.OpenSession(n.now(), core.SessionOpen{
		Client: d.client, Conn: d.conn, Clean: e.flag("clean"), Expiry: expiry, ReceiveMax: uint16(e.number("receive", 20)),
		Token: token, Will: e.will(),
	})
	if c, ok := n.connects[token]; ok {
		c.present = st.Present
		n.connects[token] = c
	}
	e.printf("%s session of %s present=%v inbound=%v", n.name, d.client, st.Present, st.Inbound)
	n.pump()
}

func (e *env) cmdDisconnect() {
	n := e.node(e.arg(0))
	d := n.device(e.arg(1))
	expiry := uint32(core.NeverExpires)
	if v := e.number("expiry", -1); v >= 0 {
		expiry = uint32(v)
	}
	if e.flag("leaves") {
		n.core.ForgetWill(n.now(), d.client, d.conn)
	}
	n.core.CloseSession(n.now(), d.client, d.conn, expiry)
	d.conn, d.todo = 0, nil
	n.pump()
}

func (e *env) cmdSubscribe() {
	n := e.node(e.arg(0))
	if n.device(e.arg(1)).conn == 0 {
		n.device(e.arg(1)).conn = 1
		n.core.OpenSession(n.now(), core.SessionOpen{Client: e.arg(1), Conn: 1, Expiry: core.NeverExpires, ReceiveMax: 20, Assigned: true})
	}
	n.device(e.arg(1)).auto = n.device(e.arg(1)).auto || e.flag("auto")
	sub := core.Subscription{Filter: e.arg(2), QoS: uint8(e.number("qos", 1)), NoLocal: e.flag("no-local"), ID: e.number("id", 0)}
	n.core.Subscribe(n.now(), n.newToken("subscribe %s", e.arg(2)), e.arg(1), []core.Subscription{sub})
	n.pump()
}

func (e *env) cmdUnsubscribe() {
	n := e.node(e.arg(0))
	n.core.Unsubscribe(n.now(), n.newToken("unsubscribe %s", e.arg(2)), e.arg(1), []string{e.arg(2)})
	n.pump()
}

// blob is the payload of a message: its label, its topic, and filling.
func blob(label, topic string, size int) *store.Blob {
	text := label + " " + topic + " "
	return &store.Blob{B: []byte(text + strings.Repeat("x", max(size-len(text), 0)))}
}

func labelOf(b *store.Blob) string {
	if b == nil {
		return "?"
	}
	data := b.B
	if inner, err := bundle.PayloadData(data); err == nil {
		data = inner
	}
	if batch.Is(data) {
		var labels []string
		for _, p := range parts(bundle.ID{}, b) {
			labels = append(labels, labelOf(p.Blob))
		}
		return strings.Join(labels, "+")
	}
	label, _, _ := strings.Cut(string(data), " ")
	return cmp.Or(echoLabel(data), label)
}

// parts unfolds a batch whose first message is named, as the reader of a link
// does it.
func parts(first bundle.ID, b *store.Blob) (out []core.Part) {
	data, err := bundle.PayloadData(b.B)
	if err != nil || !batch.Is(data) {
		return nil
	}
	err = batch.Split(data, func(n uint64, message []byte) error {
		p := core.Part{QoS: 1, Blob: &store.Blob{B: bundle.AppendPayload(nil, message)}}
		p.Message = bundle.ID{Node: first.Node, Seq: first.Seq + bundle.Sequence(n-1)}
		p.Topic = topicOf(p.Blob)
		p.Retain, p.Said = said(p.Blob)
		out = append(out, p)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return out
}

func topicOf(b *store.Blob) string {
	data := b.B
	if inner, err := bundle.PayloadData(data); err == nil {
		data = inner
	}
	f := strings.Fields(string(data))
	if len(f) < 2 {
		return ""
	}
	return f[1]
}

func (e *env) cmdPublish() {
	n := e.node(e.arg(0))
	var subs []core.Submission
	count := e.number("n", 1)
	for k := range count {
		label := e.arg(2)
		if count > 1 {
			label = fmt.Sprintf("%s%d", label, k+1)
		}
		s := core.Submission{
			Token: n.newToken("publish %s", label), Topic: e.arg(1), Service: core.ServiceMQTT, Class: e.class(),
			QoS: uint8(e.number("qos", 1)), Retain: e.flag("retain"), TTL: e.duration("ttl"), Client: e.value("client", ""),
			Packet: uint16(e.number("packet", 0)), Blob: blob(label, e.arg(1), e.number("size", 0)),
		}
		copy(s.Key[:], e.value("key", ""))
		s.Ask = core.Ask{Receipts: e.value("receipts", ""), Answer: e.value("answer", "")}
		if to := e.value("answers", ""); to != "" {
			s.Answers = addr.MustNode(to)
		}
		if group := e.value("group", ""); group != "" {
			s.Groups = []string{group}
		}
		if to := e.value("to", ""); to != "" {
			s.To = addr.MustNode(to)
		}
		if only := e.value("only", ""); only != "" {
			s.Region = addr.MustRegion(only)
		}
		if s.Retain {
			n.stamp(&s, label, e.flag("clear"))
		}
		if e.settings.Batch.Max > 0 && !s.Retain {
			s.Blob.B = bundle.AppendPayload(nil, s.Blob.B)
		}
		subs = append(subs, s)
	}
	n.core.Submit(n.now(), subs)
	n.pump()
}

func (e *env) cmdSend() {
	n := e.node(e.arg(0))
	s := core.Submission{
		Token: n.newToken("send %s", e.arg(3)), To: addr.MustNode(e.arg(1)), Service: e.arg(2), Class: bundle.Control, QoS: 1,
		TTL: e.duration("ttl"), Keep: e.duration("keep"), Blob: blob(e.arg(3), "", 0),
	}
	copy(s.Key[:], e.value("key", ""))
	n.core.Submit(n.now(), []core.Submission{s})
	n.pump()
}

func (e *env) cmdSettle() {
	n := e.node(e.arg(0))
	d := *n.device(e.arg(1))
	if e.flag("old") { // as the connection before this one
		d.conn--
		n.settle(&d, e.number("n", 1), false)
		return
	}
	if e.flag("dropped") {
		n.dropping = true
		defer func() { n.dropping = false }()
	}
	n.settle(n.device(d.client), e.number("n", 1), e.flag("received"))
}

func (e *env) cmdPubrel() {
	n := e.node(e.arg(0))
	n.core.Settle(n.now(), []core.Settlement{{Session: e.arg(1), Packet: uint16(e.number("packet", 0)), Outcome: core.Inbound}})
	n.pump()
}

// work does all that waits at a node but frames, once.
func (n *enode) work() bool {
	did := n.sync()
	did = n.load() || did
	did = n.compare() || did
	did = n.tellWords() || did
	for _, d := range n.devices {
		if d.auto && len(d.todo) > 0 {
			n.settle(d, len(d.todo), false)
			did = true
		}
	}
	return did
}

// due returns when the next node wants to be woken, not before now.
func (e *env) due() (time.Time, []*enode) {
	var first time.Time
	var who []*enode
	for _, n := range e.nodes {
		w := n.core.Wake()
		if w.IsZero() {
			continue
		}
		if w = w.Add(-n.skew); w.Before(e.now) {
			w = e.now
		}
		if first.IsZero() || w.Before(first) {
			first, who = w, nil
		}
		if w.Equal(first) {
			who = append(who, n)
		}
	}
	return first, slices.Clip(who)
}
