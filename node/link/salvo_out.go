package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/farhop/farhop/node/salvo"
	"github.com/farhop/farhop/node/salvo/packet"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Blocks carry whole frames, as many as come to blockTime of the link's rate:
// a block is delivered when all of it is there.
const (
	blockTime = 10 * time.Millisecond
	minBlock  = 1 << 10
	maxBlock  = 64 << 10
	// chargeEvery is how often what QUIC sent is taken off the rate.
	chargeEvery = 5 * time.Millisecond
)

// salvoOut sends the lanes of a session. run alone touches the engine.
type salvoOut struct {
	salvoLine
	eng       *salvo.Sender
	direction packet.Direction
	packets   chan *[]byte // reports
	block     int          // bytes of a block that may still grow
	schedule  bool

	mu     sync.Mutex
	offers []salvo.Block // for the engine, ids not yet given
	size   int64         // bytes offered and not released
	most   int64
	sizes  map[uint64]int64 // of blocks under way, by id
	stats  salvo.SenderStats
	wake   chan struct{} // there are offers; capacity 1
	room   chan struct{} // blocks were released; capacity 1

	nextID  uint64    // of run
	charged uint64    // bytes of QUIC that are off the rate already; of run
	charge  time.Time // when next
}

func newSalvoOut(line salvoLine, cfg salvo.Config, keys salvo.Keys) (*salvoOut, error) {
	eng, err := salvo.NewSender(time.Now(), cfg, keys, salvo.SenderState{})
	if err != nil {
		return nil, err
	}
	return &salvoOut{
		salvoLine: line, eng: eng, direction: keys.Direction, packets: make(chan *[]byte, queuedPackets),
		block:    int(min(max(cfg.Rate/8*int64(blockTime)/int64(time.Second), minBlock), maxBlock)),
		schedule: line.s.props.scheduled(),
		most:     max(line.s.props.pipe(), cfg.MaxBlock), sizes: map[uint64]int64{},
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), nextID: 1,
	}, nil
}

// laneClassOf is the class of salvo that carries a lane of frames. What has no
// custody goes as telemetry does.
func laneClassOf(lane int) uint8 {
	if lane == laneVolatile {
		return uint8(bundle.Telemetry)
	}
	return uint8(lane - laneClass)
}

// lane returns a writer of whole frames.
func (o *salvoOut) lane(ctx context.Context, lane int) *salvoLane {
	return &salvoLane{o: o, ctx: ctx, class: laneClassOf(lane)}
}

// salvoLane makes blocks of the frames of one lane.
type salvoLane struct {
	o     *salvoOut
	ctx   context.Context
	class uint8
}

// Write implements io.Writer. It blocks while too much is under way. data is
// whole frames.
func (l *salvoLane) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		n := frames(rest, l.o.block)
		if err := l.o.offer(l.ctx, l.class, bytes.Clone(rest[:n])); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(data), nil
}

// frames returns the length of the first frames of data: one, and more while
// they stay within most bytes.
func frames(data []byte, most int) int {
	n := 0
	for n < len(data) {
		length, w := binary.Uvarint(data[n:])
		if w <= 0 || length > uint64(len(data)-n-w) {
			return len(data) // not ours; the peer will say so
		}
		next := n + w + int(length)
		if n > 0 && next > most {
			break
		}
		n = next
	}
	return n
}

// offer hands a block to run, when there is room for it.
func (o *salvoOut) offer(ctx context.Context, class uint8, data []byte) error {
	n := int64(len(data))
	for !o.add(class, n, data) {
		select {
		case <-o.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	poke(o.wake)
	poke(o.room) // for other lanes
	return nil
}

// add notes an offer, when there is room for it. What the mesh itself says
// never waits behind data; the core bounds it.
func (o *salvoOut) add(class uint8, n int64, data []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size > 0 && (class > uint8(bundle.Control) && o.size+n > o.most || len(o.sizes)+len(o.offers) >= salvo.DefaultMaxBlocks) {
		return false
	}
	o.size += n
	o.offers = append(o.offers, salvo.Block{Class: class, Length: n, Data: bytes.NewReader(data)})
	return true
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run drives the engine until the session ends.
func (o *salvoOut) run(free func(*[]byte)) {
	t := time.NewTimer(0)
	defer t.Stop()
	buf := make([]byte, packetBytes)
	for {
		now := time.Now()
		o.take(now)
		open, change := true, time.Time{}
		if o.schedule {
			open, change = o.s.props.contact(now)
		}
		next := change
		if open {
			next = soonest(change, o.pump(now, buf))
		}
		if !next.IsZero() {
			t.Reset(time.Until(next))
		}
		select {
		case <-o.wake:
		case <-t.C:
		case p := <-o.packets:
			o.hear(p, free)
		case <-o.done:
			return
		}
	}
}

// soonest returns the earlier of two times, of which zero is never.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// take gives the engine what the lanes offered.
func (o *salvoOut) take(now time.Time) {
	o.mu.Lock()
	offers := o.offers
	o.offers = nil
	o.stats = o.eng.Stats()
	for i := range offers {
		offers[i].ID = o.nextID
		o.sizes[o.nextID] = offers[i].Length
		o.nextID++
	}
	o.mu.Unlock()
	for _, b := range offers {
		if err := o.eng.Offer(now, b); err != nil {
			o.s.end(down(Overflow, "offer a block of %d bytes to salvo: %w", b.Length, err))
			return
		}
	}
}

// pump sends what is due and returns when more will be.
func (o *salvoOut) pump(now time.Time, buf []byte) time.Time {
	if !now.Before(o.charge) {
		o.charge = now.Add(chargeEvery)
		if sent := o.s.conn.Stats().BytesSent; sent > o.charged {
			o.eng.Charge(now, int(sent-o.charged))
			o.charged = sent
		}
		if owlt, ok := o.measured(); ok {
			o.eng.SetOWLT(owlt)
		}
	}
	for p := o.eng.Next(now, buf); p != nil; p = o.eng.Next(now, buf) {
		o.send(p)
		now = time.Now()
	}
	o.settle()
	return o.eng.Wake()
}

// hear takes the reports that wait.
func (o *salvoOut) hear(p *[]byte, free func(*[]byte)) {
	for {
		_ = o.eng.Receive(time.Now(), *p) // a packet.Drop, which the engine counts
		free(p)
		select {
		case p = <-o.packets:
		default:
			o.settle()
			return
		}
	}
}

// settle forgets what the peer has.
func (o *salvoOut) settle() {
	eff := o.eng.Take()
	for _, f := range eff.Failed {
		o.s.end(down(Failed, "block %d of salvo: %w", f.ID, f.Err))
	}
	if len(eff.Released) == 0 {
		return
	}
	o.mu.Lock()
	for _, id := range eff.Released {
		o.size -= o.sizes[id]
		delete(o.sizes, id)
	}
	o.mu.Unlock()
	poke(o.room)
}

// waiting is how many bytes are offered and not released.
func (o *salvoOut) waiting() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size
}
