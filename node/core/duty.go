package core

import (
	"encoding/binary"
	"slices"

	"github.com/farhop/farhop/routing/addr"
)

// Member is one client of this node that gets a message for a shared
// subscription. Filter is what it subscribed to: "$share/GROUP/FILTER".
type Member struct{ Client, Filter string }

// duty says what a copy of a message has to do with shared subscriptions, and
// whether its publisher wants to hear of it (report.go). It travels in the mesh
// block of a bundle, and lies with what waits here: in the place of the frozen
// blocks, which local queues have none of.
//
//	of a bundle      for which groups its destination was chosen
//	of a session     for which groups it got the message
//	of ServiceLive   which clients get it
//	of a group held  the group, until there is a member
type duty struct {
	only    bool     // the groups' alone: whoever else wants the message had it
	all     bool     // every group of the destination, which the sender does not know
	filters []string // "$share/GROUP/FILTER"
	passed  []pass   // nodes where nobody was
	members []Member
	share   uint64 // how much of the message its publisher is to hear of by what becomes of this copy; 0: nothing
	visit   *visit // it is for one session, which was at another node
}

// visit is what a message of a session that moves says of itself. With what
// waits for a session it tells the packet id alone.
type visit struct {
	client   string
	epoch    Stamp  // of the claim that it follows
	packet   uint16 // under which the device may know it, 0: it was not sent; of a fence the classes
	qos      uint8
	received bool // PUBREC was had
	retained bool // it is what was kept of its topic
	fence    bool // it is none: see roam_fence.go
}

// pass is a node that handed a message of a group on for want of a member. It
// gets it back only when it has told, since then, of another one.
type pass struct {
	node addr.Node
	seq  uint64 // the advert it had told by then
}

// Limits of a duty.
const (
	maxDuty    = 4096      // filters, or members
	maxFilters = 128 << 10 // bytes of the filters in one bundle, whose frame leaves room for them
	maxPassed  = 16        // nodes; beyond that it waits where it is
)

const (
	dutyOnly = 1 << iota
	dutyAll
	dutyShare
	dutyVisit
)

// isVisit reports whether an encoded duty is of a session that moves.
func isVisit(groups string) bool { return len(groups) > 0 && groups[0]&dutyVisit != 0 }

// none reports whether shared subscriptions are no matter.
func (d *duty) none() bool { return !d.all && d.visit == nil && len(d.filters)+len(d.members) == 0 }

// The bits of a visit; the QoS lies above them.
const (
	visitReceived = 1 << iota
	visitRetained
	visitFence
	visitQoS = 3
)

// encode writes the flags, the filters, node and advert of those passed, and
// client and filter of the members, each list after its length; then the share
// when there is one; and of a visit its bits, client, epoch and packet id.
func (d *duty) encode() []byte {
	flags := byte(0)
	if d.only {
		flags |= dutyOnly
	}
	if d.all {
		flags |= dutyAll
	}
	if d.visit != nil {
		flags |= dutyVisit
	}
	b := []byte{flags}
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = binary.AppendUvarint(b, uint64(len(d.filters)))
	for _, f := range d.filters {
		text(f)
	}
	b = binary.AppendUvarint(b, uint64(len(d.passed)))
	for _, p := range d.passed {
		text(p.node.String())
		b = binary.AppendUvarint(b, p.seq)
	}
	b = binary.AppendUvarint(b, uint64(len(d.members)))
	for _, m := range d.members {
		text(m.Client)
		text(m.Filter)
	}
	if d.share > 0 {
		b[0] |= dutyShare
		b = binary.AppendUvarint(b, d.share)
	}
	if v := d.visit; v != nil {
		bits := uint64(v.qos) << visitQoS
		if v.received {
			bits |= visitReceived
		}
		if v.retained {
			bits |= visitRetained
		}
		if v.fence {
			bits |= visitFence
		}
		b = binary.AppendUvarint(b, bits)
		text(v.client)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(v.epoch)), uint64(v.packet))
	}
	return b
}

// parseDuty reads what encode wrote; nothing is the zero duty. What a later
// version adds at the end is ignored.
func parseDuty(b []byte) (d duty, err error) {
	if len(b) == 0 {
		return duty{}, nil
	}
	if len(b) > 2*maxFilters {
		return duty{}, errDamaged
	}
	r := dutyReader{b: b[1:]}
	d.only, d.all = b[0]&dutyOnly != 0, b[0]&dutyAll != 0
	for range r.count(maxDuty) {
		d.filters = append(d.filters, r.text())
	}
	for range r.count(maxPassed) {
		var p pass
		if p.node, err = addr.ParseNode(r.text()); err != nil {
			return duty{}, errDamaged
		}
		p.seq = r.number()
		d.passed = append(d.passed, p)
	}
	for range r.count(maxDuty) {
		m := Member{Client: r.text()}
		m.Filter = r.text()
		d.members = append(d.members, m)
	}
	if b[0]&dutyShare != 0 {
		d.share = r.number()
	}
	if b[0]&dutyVisit != 0 {
		d.visit = r.visit()
	}
	if r.bad || d.share > wholeShare {
		return duty{}, errDamaged
	}
	return d, nil
}

func (r *dutyReader) visit() *visit {
	bits := r.number()
	v := &visit{received: bits&visitReceived != 0, retained: bits&visitRetained != 0, qos: uint8(min(bits>>visitQoS&3, 2))}
	v.fence = bits&visitFence != 0
	v.client = r.text()
	epoch, packet := r.number(), r.number()
	if epoch > uint64(MaxStamp) || packet > maxPackets {
		r.bad = true
	}
	v.epoch, v.packet = Stamp(epoch), uint16(packet)
	return v
}

type dutyReader struct {
	b   []byte
	bad bool
}

func (r *dutyReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a length. No element is shorter than a byte.
func (r *dutyReader) count(most int) int {
	n := r.number()
	if n > uint64(min(most, len(r.b))) {
		r.b, r.bad = nil, true
		return 0
	}
	return int(n)
}

func (r *dutyReader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// withPass adds a node that hands the message on.
func (d duty) withPass(n addr.Node, seq uint64) duty {
	d.passed = slices.DeleteFunc(slices.Clone(d.passed), func(p pass) bool { return p.node == n })
	d.passed = append(d.passed, pass{n, seq})
	return d
}
