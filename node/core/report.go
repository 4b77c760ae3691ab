package core

import (
	"encoding/binary"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// ServiceReports is where a node hears what became of the messages that
// entered the mesh there and whose publishers asked. The payload is what
// encodeReports writes.
const ServiceReports = "reports"

// wholeShare is what one copy of a message amounts to at the node that consumes
// it. Recipients there share it, each reports its part when it is done, and the
// copy is done when the parts make up the whole. A share is stored with what
// waits and ends with it in one write, so parts are told once, also across
// crashes.
const wholeShare = 1 << 30

// reportKind says what a Report tells.
type reportKind uint8

const (
	// reportEnd: recipients are done, for Reason.
	reportEnd reportKind = iota
	// reportMoved: the copy, or its Share here, goes on to Nodes, which report
	// for themselves.
	reportMoved
	// reportEntered: a copy for Region is at a node of it, and is for Nodes,
	// whoever tells it again.
	reportEntered
	// reportHint: a node on the way to Nodes[0], or Region, ended a copy. If no
	// other is under way, that node will say so itself.
	reportHint
	numReports
)

// Report is one step of what became of a message.
type Report struct {
	seq    bundle.Sequence // of a message of the node that is told
	kind   reportKind
	reason bundle.Reason
	once   bool   // Moved: nodes that are told of twice count once
	share  uint64 // End, Moved
	count  uint64 // End: recipients
	region addr.Region
	nodes  []addr.Node
}

// Limits of reports.
const (
	maxReportNodes = 4096
	maxReportBytes = 32 << 10 // of one bundle, about
	maxReports     = 1 << 16  // that wait for a Take, for all nodes; more are lost
	reportsVersion = 1
)

// outbox is what other nodes are to be told with the present batch.
type outbox struct {
	nodes []addr.Node
	by    map[addr.Node][]Report
	n     int
}

// tellOf notes a report on a message for the node where it entered.
func (c *Core) tellOf(id bundle.ID, r Report) {
	r.seq = id.Seq
	if id.Node == c.cfg.Self {
		c.reported(c.cfg.Self, c.cfg.Region, &r)
		return
	}
	o := &c.outbox
	list := o.by[id.Node]
	if n := len(list); n > 0 && r.kind == reportEnd {
		if last := &list[n-1]; last.kind == reportEnd && last.seq == r.seq && last.reason == r.reason && last.share+r.share <= wholeShare {
			last.share += r.share
			last.count += r.count
			return
		}
	}
	if o.n >= maxReports {
		c.stats.ReportsLost++
		return
	}
	if len(list) == 0 {
		o.nodes = append(o.nodes, id.Node)
	}
	if o.by == nil {
		o.by = map[addr.Node][]Report{}
	}
	o.by[id.Node] = append(list, r)
	o.n++
}

// flushReports sends what was noted, in the batch that made it so.
func (c *Core) flushReports() {
	o := &c.outbox
	nodes := o.nodes
	o.nodes, o.n = nil, 0
	for _, n := range nodes {
		list := o.by[n]
		delete(o.by, n)
		for len(list) > 0 {
			var body []byte
			body, list = encodeReports(c.cfg.Region, list)
			if c.submit(&Submission{
				To: n, Service: ServiceReports, Class: bundle.Interactive, QoS: 1,
				Blob: &store.Blob{B: bundle.AppendPayload(nil, body)},
			}) != bundle.OK {
				c.stats.ReportsLost++ // no room: the word on it will be that nobody knows
			}
		}
	}
}

// encodeReports writes as many reports as one bundle takes, and returns the
// rest: version and region, then each report after its length.
func encodeReports(region addr.Region, list []Report) (body []byte, rest []Report) {
	body = binary.AppendUvarint(body, reportsVersion)
	body = appendText(body, region.String())
	for len(list) > 0 && len(body) < maxReportBytes {
		one := list[0].encode()
		body = append(binary.AppendUvarint(body, uint64(len(one))), one...)
		list = list[1:]
	}
	return body, list
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r *Report) encode() []byte {
	b := []byte{byte(r.kind), byte(r.reason)}
	once := uint64(0)
	if r.once {
		once = 1
	}
	for _, n := range []uint64{uint64(r.seq), once, r.share, r.count} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, r.region.String())
	b = binary.AppendUvarint(b, uint64(len(r.nodes)))
	for _, n := range r.nodes {
		b = appendText(b, n.String())
	}
	return b
}

// Reports are those of one bundle, from a node of Region.
type Reports struct {
	Region addr.Region
	list   []Report
}

// ParseReports reads the payload data of a bundle for ServiceReports. Reports
// of kinds that later versions know are left out.
func ParseReports(data []byte) (out Reports, err error) {
	r := dutyReader{b: data}
	if r.number() != reportsVersion {
		return Reports{}, errDamaged
	}
	out.Region, _ = addr.ParseRegion(r.text())
	for len(r.b) > 0 && !r.bad {
		one := r.text()
		if r.bad {
			break
		}
		if rep, ok := parseReport([]byte(one)); ok {
			out.list = append(out.list, rep)
		}
	}
	if r.bad || out.Region.IsZero() {
		return Reports{}, errDamaged
	}
	return out, nil
}

func parseReport(b []byte) (rep Report, ok bool) {
	if len(b) < 2 || b[0] >= byte(numReports) {
		return rep, false
	}
	rep.kind, rep.reason = reportKind(b[0]), bundle.Reason(b[1])
	r := dutyReader{b: b[2:]}
	rep.seq, rep.once = bundle.Sequence(r.number()), r.number() == 1
	rep.share, rep.count = min(r.number(), wholeShare), min(r.number(), wholeShare)
	if name := r.text(); name != "" {
		rep.region, _ = addr.ParseRegion(name)
	}
	for range r.count(maxReportNodes) {
		n, err := addr.ParseNode(r.text())
		if err != nil {
			return Report{}, false
		}
		rep.nodes = append(rep.nodes, n)
	}
	if rep.reason >= bundle.NumReasons {
		rep.reason = bundle.Expired
	}
	return rep, !r.bad && (rep.kind != reportHint || len(rep.nodes) > 0 || !rep.region.IsZero())
}

// dutyOf is what an item says of groups and shares, wherever it waits.
func (c *Core) dutyOf(i *storeforward.Item) (d duty, leaves bool) {
	if len(i.Entry.Frozen) == 0 {
		return d, false
	}
	if !c.leaves(i.Entry.Queue) {
		d, _ = parseDuty(i.Entry.Frozen)
		return d, false
	}
	v, err := bundle.ParseFrozen(i.Entry.Frozen)
	if err != nil {
		return d, true
	}
	d, _ = parseDuty([]byte(v.Mesh.Groups))
	return d, true
}

// leaves reports whether a queue leads away from here.
func (c *Core) leaves(q store.Queue) bool {
	r, region := heldRegion(q)
	return q.Kind == store.ToNode || region && !r.Contains(c.cfg.Region)
}

// noteEnd tells of an item that ends here, if somebody wants to know.
func (c *Core) noteEnd(i *storeforward.Item, reason bundle.Reason) {
	if len(i.Entry.Frozen) == 0 || i.Entry.State == store.Ended || i.Header.Message.IsZero() {
		return
	}
	d, leaves := c.dutyOf(i)
	switch {
	case d.share == 0:
	case !leaves:
		if i.Entry.State == store.Received {
			reason = bundle.OK // the device has it, whatever ends the rest
		}
		c.tellOf(i.Header.Message, Report{kind: reportEnd, reason: reason, share: d.share, count: 1})
	default:
		r := Report{kind: reportHint, reason: reason}
		if q := i.Entry.Queue; q.Kind == store.ToNode {
			r.nodes = []addr.Node{c.dest(q).node}
		} else {
			r.region = c.dest(q).region
		}
		// What never set out from where it entered ends for good.
		r.once = i.Header.Message.Node == c.cfg.Self && i.Sent == 0 && i.Header.Seq > c.bootSeq
		c.tellOf(i.Header.Message, r)
	}
}

// noteGap tells of a message that ended before it came here.
func (c *Core) noteGap(in *Incoming) {
	if d, err := parseDuty([]byte(in.Groups)); err == nil && d.share > 0 {
		c.tellOf(in.Message, Report{kind: reportEnd, reason: bundle.Expired, share: d.share, count: 1})
	}
}

// AsksReport tells from the groups of a bundle whether its obituary is to say
// that somebody wants to know of its end.
func AsksReport(groups string) bool {
	d, err := parseDuty([]byte(groups))
	return err == nil && d.share > 0
}

// AskingGap is what such an obituary has in the place of groups.
func AskingGap() string { return string((&duty{share: wholeShare}).encode()) }

// sealOut makes bundles of what leaves, each of which asks for a report.
func (c *Core) sealOut(h *store.Header, r *recipients) {
	for _, q := range r.batched {
		d, _ := parseDuty([]byte(q.groups)) // made here
		d.share = wholeShare
		r.entries = append(r.entries, c.outbound(h, q.Queue, string(d.encode())))
		if q.Kind == store.ToNode {
			r.nodes = append(r.nodes, c.dest(q.Queue).node)
		}
	}
	r.batched = nil
}

// divide shares what is reported among the recipients here, and tells of those
// elsewhere. Live recipients have it at once.
func (c *Core) divide(h *store.Header, r *recipients) {
	var here []int
	for k, e := range r.entries {
		if !c.leaves(e.Queue) {
			here = append(here, k)
		}
	}
	live := len(r.members)
	if r.live && c.heardLive(h, r) {
		live++
	}
	n := uint64(len(here) + live)
	elsewhere := len(r.nodes) > 0
	if !r.gate.IsZero() {
		nodes := r.nodes
		if n > 0 || !elsewhere {
			nodes = append(slices.Clone(nodes), c.cfg.Self)
		}
		c.tellOf(h.Message, Report{kind: reportEntered, region: r.gate, nodes: nodes})
	}
	switch {
	case !r.gate.IsZero() && (n > 0 || elsewhere): // told
	case r.home && n > 0: // openDocket knows
	case !r.home && elsewhere:
		moved := Report{kind: reportMoved, nodes: r.nodes, once: r.again}
		if n == 0 {
			moved.share = r.share
		}
		c.tellOf(h.Message, moved)
	case n == 0 && r.had: // which is reported
		c.tellOf(h.Message, Report{kind: reportEnd, share: r.share})
	case n == 0:
		c.tellOf(h.Message, Report{kind: reportEnd, reason: bundle.NoSubscriber, share: r.share, count: 1})
	}
	if n == 0 {
		return
	}
	part, first := r.share/n, r.share%n
	take := func() uint64 { s := part + first; first = 0; return s }
	for _, k := range here {
		e := &r.entries[k]
		d, _ := parseDuty(e.Frozen)
		d.share = take()
		e.Frozen = d.encode()
	}
	for range live {
		c.tellOf(h.Message, Report{kind: reportEnd, share: take(), count: 1})
	}
}

// heardLive reports whether a live subscriber is connected: sessions that get
// nothing but QoS 0 may be away.
func (c *Core) heardLive(h *store.Header, r *recipients) bool {
	heard := r.own != ""
	c.subs.Match(h.Topic, func(s *subscription) {
		heard = heard || s.session.conn != 0 && (min(s.QoS, h.QoS) == 0 || !s.session.durable())
	})
	return heard
}
