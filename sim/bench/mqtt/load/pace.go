package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// PacedPayload is the least payload of a paced load: publisher, number and the
// time at which the message was due, 8 bytes each.
const PacedPayload = MinPayload + 8

// maxBehind bounds the messages of one paced publisher that are not
// acknowledged; what is due beyond them is sent later, and late.
const maxBehind = 1000

// PacedGroup is clients of one kind: publisher i sends to subscriber i alone,
// with QoS 1.
type PacedGroup struct {
	Name       string
	Pairs      int
	Rate       int // messages a second of all its publishers
	Persistent bool
}

// Paced is a load at a rate that is given, however fast a broker is: what is
// measured is whether it keeps up, and how late messages come. One goroutine
// uses it.
type Paced struct {
	loop   *Loop
	groups []*pacedGroup
	begun  time.Time
}

type pacedGroup struct {
	PacedGroup

	pubs    []*pacedPublisher
	due     uint64 // messages that were due since begun
	arrived uint64
	missing uint64
	wrong   uint64
	late    []time.Duration // of arrivals, since the message was due
}

// PacedResult is what a group saw in the measured time.
type PacedResult struct {
	Name         string
	Due, Arrived uint64
	Missing      uint64 // passed over, in this time
	Wrong        uint64 // came again, or after a later one
	P50, P99     time.Duration
	Time         time.Duration
}

// OpenPaced connects all. Close must follow.
func OpenPaced(ctx context.Context, addr string, size int, groups []PacedGroup) (*Paced, error) {
	if size < PacedPayload {
		return nil, fmt.Errorf("load: size: %d, want %d or more", size, PacedPayload)
	}
	loop, err := NewLoop()
	if err != nil {
		return nil, err
	}
	p := &Paced{loop: loop, begun: time.Now()}
	for _, g := range groups {
		if g.Pairs < 1 || g.Rate < 0 {
			err = fmt.Errorf("load: %s: %d pairs at %d messages/s", g.Name, g.Pairs, g.Rate)
		}
		x := &pacedGroup{PacedGroup: g}
		for i := 0; i < g.Pairs && err == nil; i++ {
			err = p.connect(ctx, addr, size, x, i)
		}
		p.groups = append(p.groups, x)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.begun = time.Now()
	return p, nil
}

func (p *Paced) connect(ctx context.Context, addr string, size int, g *pacedGroup, i int) (err error) {
	name := fmt.Sprintf("%s-%04d", g.Name, i)
	s := &pacedSubscriber{g: g, begun: &p.begun}
	if s.Conn, err = p.loop.Dial(ctx, addr, Client{Name: name + "-sub", Filter: name + "/values", QoS: 1, Persistent: g.Persistent}, s); err != nil {
		return err
	}
	w := &pacedPublisher{states: make([]state, ids+1), packet: AppendPublish(nil, name+"/values", 1, 0, make([]byte, size))}
	w.body = len(w.packet) - size
	if w.Conn, err = p.loop.Dial(ctx, addr, Client{Name: name + "-pub"}, w); err != nil {
		return err
	}
	g.pubs = append(g.pubs, w)
	return nil
}

// Close ends the connections.
func (p *Paced) Close() error { return p.loop.Close() }

// Run goes on for warm and then d, and tells of the latter. An error is the end
// of a connection; the results go up to it.
func (p *Paced) Run(ctx context.Context, warm, d time.Duration) ([]PacedResult, error) {
	start := time.Now()
	err := p.drive(ctx, start, start.Add(warm))
	from := time.Now()
	before := make([]pacedGroup, len(p.groups))
	for i, g := range p.groups {
		g.late = g.late[:0]
		before[i] = *g
	}
	if err == nil {
		err = p.drive(ctx, from, from.Add(d))
	}
	out := make([]PacedResult, len(p.groups))
	for i, g := range p.groups {
		slices.Sort(g.late)
		b := &before[i]
		out[i] = PacedResult{
			Name: g.Name, Due: g.due - b.due, Arrived: g.arrived - b.arrived, Missing: g.missing - b.missing, Wrong: g.wrong - b.wrong,
			P50: quantile(g.late, 50), P99: quantile(g.late, 99), Time: time.Since(from),
		}
	}
	return out, err
}

// quantile is of sorted values, 0 of none.
func quantile(v []time.Duration, percent int) time.Duration {
	if len(v) == 0 {
		return 0
	}
	return v[min(len(v)-1, len(v)*percent/100)]
}

// drive sends what is due until end.
func (p *Paced) drive(ctx context.Context, from, end time.Time) error {
	sent := make([]uint64, len(p.groups))
	for {
		now := time.Now()
		if err := ctx.Err(); err != nil || !now.Before(end) {
			return err
		}
		for i, g := range p.groups {
			for due := uint64(now.Sub(from).Seconds() * float64(g.Rate)); sent[i] < due; sent[i]++ {
				w := g.pubs[g.due%uint64(len(g.pubs))]
				w.due = append(w.due, now.Sub(p.begun))
				g.due++
			}
			for _, w := range g.pubs {
				if err := w.fill(); err != nil {
					return err
				}
			}
		}
		if err := p.loop.Turn(time.Millisecond); err != nil {
			return err
		}
	}
}

// pacedPublisher sends what is due.
type pacedPublisher struct {
	*Conn

	packet []byte
	body   int
	due    []time.Duration // messages that are to be sent
	number uint64
	acked  uint64
	states []state
}

func (w *pacedPublisher) fill() error {
	if len(w.due) == 0 || w.Blocked() {
		return nil
	}
	out := w.Buffer()
	for len(w.due) > 0 && w.number-w.acked < maxBehind {
		id := uint16(1 + w.number%ids)
		if w.states[id] != free {
			return fmt.Errorf("packet id %d is never acknowledged", id)
		}
		w.states[id] = sent
		binary.BigEndian.PutUint16(w.packet[w.body-2:], id)
		binary.BigEndian.PutUint64(w.packet[w.body+8:], w.number)
		binary.BigEndian.PutUint64(w.packet[w.body+MinPayload:], uint64(w.due[0]))
		w.due = w.due[1:]
		w.number++
		out = append(out, w.packet...)
	}
	return w.Send(out)
}

// Packet implements Handler.
func (w *pacedPublisher) Packet(first byte, body []byte) error {
	id, err := packetID(body)
	if err == nil && (first != Puback || w.states[id] != sent) {
		err = fmt.Errorf("packet 0x%02x came for id %d, which does not wait for it", first, id)
	}
	if err == nil {
		w.states[id] = free
		w.acked++
	}
	return err
}

// Turned implements Handler.
func (*pacedPublisher) Turned() error { return nil }

// pacedSubscriber acknowledges what comes.
type pacedSubscriber struct {
	*Conn

	g     *pacedGroup
	begun *time.Time
	next  uint64
	acks  []byte
}

// Packet implements Handler.
func (s *pacedSubscriber) Packet(first byte, body []byte) error {
	if first&0xF0 != Publish {
		return fmt.Errorf("packet 0x%02x came that a subscriber does not get", first)
	}
	m, err := parseMessage(first, body)
	at := 2 + int(binary.BigEndian.Uint16(body)) + 2 + MinPayload
	if err == nil && (m.qos != 1 || len(body) < at+8) {
		err = errors.New("a message came that nobody sent")
	}
	if err != nil {
		return err
	}
	s.acks = appendAck(s.acks, Puback, m.id)
	s.g.arrived++
	switch {
	case m.no == s.next:
		s.next++
	case m.no > s.next:
		s.g.missing += m.no - s.next
		s.next = m.no + 1
	default:
		s.g.wrong++
	}
	s.g.late = append(s.g.late, time.Since(*s.begun)-time.Duration(binary.BigEndian.Uint64(body[at:])))
	return nil
}

// Turned implements Handler.
func (s *pacedSubscriber) Turned() error {
	if len(s.acks) == 0 {
		return nil
	}
	err := s.Send(append(s.Buffer(), s.acks...))
	s.acks = s.acks[:0]
	return err
}
