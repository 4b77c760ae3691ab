package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
	"github.com/farhop/farhop/storeforward/store"
)

// Services of this node that keep bundles of other stacks. Names of peers hold
// no slash, and no other service begins with dtn.
const (
	carryService  = dtn.CarryService // came through the mesh, to a door of ours
	doorService   = "dtn/"           // + PEER: waits for that peer
	gatherService = "dtn-fragments"  // waits for the rest of a bundle
)

// ReportTopic is where status reports of other stacks about our bundles are
// published, to the subscribers of this node.
const ReportTopic = "$mesh/reports/dtn"

// maxDoorBundle is the largest bundle that a door takes: one fits the payload
// of a bundle of ours. Peers are told, and send fragments of larger ones.
const maxDoorBundle = core.MaxPayload - 64<<10

// doorWindow is how many bundles a peer may be sent at the same time.
const doorWindow = 256

// retryPause is the first pause before what the store had no room for is
// tried again.
const retryPause = 5 * time.Second

// doors connects the doors to other stacks with the loop: what arrives becomes
// a submission and is acknowledged when that is durable; what waits for a peer
// is a delivery to a service, and settled when the peer acknowledged it.
type doors struct {
	self     addr.Node
	loop     *loop
	store    store.Store
	log      *slog.Logger
	dated    bool   // the clock is right
	stamp    uint64 // of bundles made without a clock: no other store has it
	snapshot *atomic.Pointer[core.Snapshot]
	lost     func(core.Delivery, error) // a payload that cannot be read

	door    *dtn.Door
	gateway *dtn.Gateway
	queues  map[string]*doorQueue // by peer
	carried *mailbox[core.Delivery]
	exports *mailbox[core.Delivery]
	gather  *gatherer
	cut     *cutter
	reports *reporter
	opened  atomic.Uint64 // openings of services
	counts  doorCounts

	mu      sync.Mutex // guards what follows
	arrived []arrival
	settled []core.Settlement
}

// arrival is work on its way to the loop.
type arrival struct {
	sub  core.Submission
	done func(core.Reply)
}

// doorCounts count what the Door itself does not.
type doorCounts struct {
	actions [dtn.Report + 1]atomic.Uint64
	refused [bundle.NumReasons]atomic.Uint64
	dropped [bundle.NumReasons]atomic.Uint64 // kept bundles that ended undelivered
	sent    atomic.Uint64                    // kept bundles that a peer acknowledged
	retries atomic.Uint64
	made    atomic.Uint64 // exported
}

// now is the time for judging dates, zero where it is not known.
func (d *doors) now() time.Time {
	if !d.dated {
		return time.Time{}
	}
	return d.loop.clock.now()
}

// Receive implements dtn.Sink.
func (d *doors) Receive(r dtn.Received, done func(bundle.Reason)) {
	now := d.now()
	a, why := d.gateway.In(r, now)
	if why != bundle.OK {
		d.counts.refused[why].Add(1)
		if why != bundle.Malformed {
			d.reports.make(r.Bundle, bpa.Deleted, bpa.CodeOf(why))
		}
		done(why)
		return
	}
	d.counts.actions[a.Kind].Add(1)
	if a.Kind == dtn.Forward && d.cut.pass(a, done) {
		return
	}
	d.act(a, done)
}

// act does what a Gateway said with a bundle, and tells when it is durable.
func (d *doors) act(a dtn.Action, done func(bundle.Reason)) {
	d.submit(d.submission(a), func(r core.Reply) {
		switch r.Reason {
		case bundle.NoSubscriber:
			r.Reason = bundle.OK // as for a device: published, and nobody wanted it
		case bundle.OK, bundle.Duplicate:
		default:
			d.counts.refused[r.Reason].Add(1)
		}
		if r.Reason == bundle.OK && d.reports.on() {
			d.reports.make(a.Raw, bpa.Received, bpa.NoInformation)
			if a.Kind == dtn.Publish {
				d.reports.make(a.Raw, bpa.Delivered, bpa.NoInformation)
			}
		}
		done(r.Reason)
	})
}

// submission is the work that an action is.
func (d *doors) submission(a dtn.Action) core.Submission {
	s := core.Submission{Class: bundle.Telemetry, QoS: 1, TTL: a.TTL, Key: a.Key, Keep: a.Keep}
	switch a.Kind {
	case dtn.Publish:
		p := &a.Publication
		w := wire.Message{Topic: p.Topic, Payload: p.Payload, QoS: 1, Expiry: true}
		for _, x := range p.Props {
			w.UserProperties = append(w.UserProperties, wire.UserProperty{Key: x.Name, Value: x.Value})
		}
		s.Topic, s.Region, s.Service, s.TTL = p.Topic, p.Region, core.ServiceMQTT, min(a.TTL, policy.MaxTTL)
		s.Blob = &store.Blob{B: encode(&w, len(p.Payload)+len(p.Topic)+512)}
		return s
	case dtn.Report:
		body, _ := json.Marshal(reportOf(a.Report)) // plain fields cannot fail
		w := wire.Message{Topic: ReportTopic, Payload: body, QoS: 1, Expiry: true}
		s.Topic, s.To, s.Service, s.TTL = ReportTopic, d.self, core.ServiceMQTT, min(a.TTL, policy.MaxTTL)
		s.Blob = &store.Blob{B: encode(&w, len(body)+128)}
		return s
	case dtn.Carry:
		s.To, s.Service = a.Node, carryService
	case dtn.Forward:
		s.To, s.Service = d.self, doorService+a.Peer
	case dtn.Gather:
		s.To, s.Service = d.self, gatherService
	}
	s.Blob = &store.Blob{B: bundle.AppendPayload(make([]byte, 0, len(a.Raw)+bundle.PayloadOverhead), a.Raw)}
	return s
}

// submit leaves work for the loop; all that comes before the loop looks is
// taken together.
func (d *doors) submit(s core.Submission, done func(core.Reply)) {
	d.mu.Lock()
	d.arrived = append(d.arrived, arrival{s, done})
	first := len(d.arrived) == 1
	d.mu.Unlock()
	if first && !d.loop.in.put(d.takeArrived) {
		for _, a := range d.swapArrived() {
			a.done(core.Reply{Reason: bundle.ShuttingDown})
		}
	}
}

func (d *doors) swapArrived() []arrival {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.arrived
	d.arrived = make([]arrival, 0, len(all))
	return all
}

// takeArrived runs on the loop.
func (d *doors) takeArrived(now time.Time, c *core.Core) {
	all := d.swapArrived()
	subs := make([]core.Submission, len(all))
	for i, a := range all {
		subs[i] = a.sub
		subs[i].Token = d.loop.newToken(a.done)
	}
	c.Submit(now, subs)
}

// settle ends deliveries, as submit begins them.
func (d *doors) settle(t core.Settlement) {
	d.mu.Lock()
	d.settled = append(d.settled, t)
	first := len(d.settled) == 1
	d.mu.Unlock()
	if first {
		d.loop.in.put(d.takeSettled)
	}
}

func (d *doors) takeSettled(now time.Time, c *core.Core) {
	d.mu.Lock()
	all := d.settled
	d.settled = make([]core.Settlement, 0, len(all))
	d.mu.Unlock()
	c.Settle(now, all)
}

// settlement answers a delivery: it is done.
func settlement(dl core.Delivery) core.Settlement {
	return core.Settlement{Session: dl.Session, Service: dl.Service, Conn: dl.Conn, Seq: dl.Header.Seq}
}

// drop ends a bundle that can never be delivered.
func (d *doors) drop(dl core.Delivery, raw []byte, why bundle.Reason, err error) {
	d.counts.dropped[why].Add(1)
	d.log.Warn("a bundle of another DTN stack ends undelivered", "message", dl.Header.Message, "service", dl.Service, "reason", why, "error", err)
	if raw != nil {
		d.reports.make(raw, bpa.Deleted, bpa.CodeOf(why))
	}
	t := settlement(dl)
	t.Outcome, t.Reason = core.Dropped, why
	d.settle(t)
}

// take takes a delivery that is for a door or from an export, and reports
// whether it is one.
func (d *doors) take(dl core.Delivery) bool {
	if dl.Session == exportClient {
		d.exports.put(dl)
		return true
	}
	peer, isDoor := strings.CutPrefix(dl.Service, doorService)
	switch {
	case isDoor && d.queues[peer] != nil:
		d.queues[peer].box.put(outgoing{Delivery: dl})
	case isDoor, dl.Service == carryService:
		d.carried.put(dl)
	case dl.Service == gatherService:
		d.gather.box.put(gathering{delivery: dl, fresh: true})
	default:
		return false
	}
	return true
}

// raw reads the bundle that a delivery holds.
func (d *doors) raw(dl core.Delivery) ([]byte, error) {
	block, err := blockOf(d.store, dl)
	if err != nil {
		return nil, err
	}
	return bundle.PayloadData(block)
}

// left is what is left of the life of a delivery.
func (d *doors) left(dl core.Delivery) time.Duration {
	return time.Duration(dl.Header.Expires-d.loop.clock.now().UnixMilli()) * time.Millisecond
}

// carry sends a bundle that came through the mesh, or whose peer is no longer
// configured, to the queue of the door that serves its destination.
func (d *doors) carry(dl core.Delivery) {
	raw, err := d.raw(dl)
	if err != nil {
		d.lost(dl, err)
		return
	}
	peer, node, why := d.gateway.Onward(raw)
	switch {
	case d.left(dl) <= 0:
		d.drop(dl, raw, bundle.Expired, nil)
	case peer != "":
		d.loop.in.put(func(now time.Time, c *core.Core) { c.Readdress(now, dl, doorService+peer) })
	case why == bundle.OK && dl.Header.Origin.IsZero():
		// It came in here. What another node carried here is not sent on:
		// two nodes might each take the other for the way.
		a := dtn.Action{Kind: dtn.Carry, Node: node, TTL: d.left(dl), Raw: raw}
		d.act(a, func(why bundle.Reason) { d.carriedOn(dl, raw, why) })
	case why == bundle.Malformed:
		d.drop(dl, nil, why, nil)
	default:
		d.drop(dl, raw, bundle.NoRoute, nil)
	}
}

func (d *doors) carriedOn(dl core.Delivery, raw []byte, why bundle.Reason) {
	switch {
	case why == bundle.OK:
		d.settle(settlement(dl))
	case mayFit(why):
		time.AfterFunc(retryPause, func() { d.carried.put(dl) })
	default:
		d.drop(dl, raw, why, nil)
	}
}

// mayFit reports whether the same work may be taken later.
func mayFit(why bundle.Reason) bool {
	return why == bundle.StoreFull || why == bundle.QuotaExceeded || why == bundle.DiskFailed || why == bundle.ShuttingDown
}

// PeerUp implements dtn.Sink.
func (d *doors) PeerUp(peer string) {
	if q := d.queues[peer]; q != nil {
		q.open()
	}
}

// PeerDown implements dtn.Sink.
func (d *doors) PeerDown(peer string) {
	if q := d.queues[peer]; q != nil {
		q.close()
	}
}

// serve hands kept bundles to their peers until ctx ends.
func (d *doors) serve(ctx context.Context) {
	var wg sync.WaitGroup
	for _, q := range d.queues {
		wg.Go(func() { q.box.each(ctx, func(o outgoing) { q.send(ctx, o) }) })
	}
	wg.Go(func() { d.carried.each(ctx, d.carry) })
	wg.Go(func() { d.exports.each(ctx, d.export) })
	wg.Go(func() { d.gather.run(ctx) })
	wg.Go(func() { d.cut.run(ctx) })
	wg.Wait()
}
