package link

import (
	"bytes"
	"context"
	"errors"
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
	// How much is ready to be sent, in bytes of memory.
	leastAhead = 4 << 20
	mostAhead  = 16 << 20
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

	shelf  shelf
	mu     sync.Mutex
	offers []salvo.Block // for the engine, ids not yet given
	size   int64         // bytes offered and not released
	most   int64
	blocks map[uint64]*block // under way, by id
	gone   uint64            // blocks given up because custody of what is in them had ended
	stats  salvo.SenderStats
	wake   chan struct{} // there are offers; capacity 1
	room   chan struct{} // blocks were sent or released; capacity 1

	nextID  uint64    // of run
	charged uint64    // bytes of QUIC that are off the rate already; of run
	charge  time.Time // when next
}

func newSalvoOut(line salvoLine, cfg salvo.Config, keys salvo.Keys) (*salvoOut, error) {
	eng, err := salvo.NewSender(time.Now(), cfg, keys, salvo.SenderState{})
	if err != nil {
		return nil, err
	}
	o := &salvoOut{
		salvoLine: line, eng: eng, direction: keys.Direction, packets: make(chan *[]byte, queuedPackets),
		block:    int(min(max(cfg.Rate/8*int64(blockTime)/int64(time.Second), minBlock), maxBlock)),
		schedule: line.s.props.scheduled(),
		most:     max(line.s.props.pipe(), cfg.MaxBlock), blocks: map[uint64]*block{},
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), nextID: 1,
	}
	// Two groups of trains: one is sent while the other fills up.
	o.shelf = shelf{most: salvoMemory, ahead: min(max(2*eng.Group(), leastAhead), mostAhead), spare: cfg.MaxBlock + maxBlock}
	return o, nil
}

// laneClassOf is the class of salvo that carries a lane of frames. What has no
// custody goes as telemetry does.
func laneClassOf(lane int) uint8 {
	if lane == laneVolatile {
		return uint8(bundle.Telemetry)
	}
	return uint8(lane - laneClass)
}

// lane returns the writer of a lane. It blocks while too much is under way.
func (o *salvoOut) lane(ctx context.Context, lane int) laneWriter {
	class, loose := laneClassOf(lane), lane == laneVolatile
	return func(data []byte, from []origin) error {
		for at := 0; len(from) > 0; {
			n := frames(from, at, o.block)
			b := &block{length: from[n-1].end - at, loose: loose, data: bytes.Clone(data[at:from[n-1].end])}
			if from[0].of != nil {
				b.from = make([]origin, n)
				copy(b.from, from)
			}
			if err := o.offer(ctx, class, b); err != nil {
				return err
			}
			at, from = from[n-1].end, from[n:]
		}
		return nil
	}
}

// frames returns how many frames make a block: one, and more of the same kind
// while they stay within most bytes. The first one begins at byte at.
func frames(from []origin, at, most int) int {
	n := 1
	for n < len(from) && from[n].end-at <= most && (from[n].of == nil) == (from[0].of == nil) {
		n++
	}
	return n
}

// offer hands a block to run, when there is room for it.
func (o *salvoOut) offer(ctx context.Context, class uint8, b *block) error {
	for !o.add(class, b) {
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
func (o *salvoOut) add(class uint8, b *block) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := int64(b.length)
	full := o.size+n > o.most || !o.shelf.fits(b.length, b.stays())
	if o.size > 0 && (class > uint8(bundle.Control) && full || len(o.blocks)+len(o.offers) >= salvo.DefaultMaxBlocks) {
		return false
	}
	o.size += n
	o.shelf.add(b)
	o.offers = append(o.offers, salvo.Block{Class: class, Length: n, Data: b})
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
		o.blocks[o.nextID], _ = offers[i].Data.(*block)
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

// settle forgets what the peer has, and what nobody has custody of any more:
// its peer has it from elsewhere, or will never have it, and then the order of
// what follows tells.
func (o *salvoOut) settle() {
	eff := o.eng.Take()
	poke(o.room) // at least for what was sent
	for _, f := range eff.Failed {
		if errors.Is(f.Err, ErrGone) || errors.Is(f.Err, errPutAway) {
			eff.Released = append(eff.Released, f.ID)
			continue
		}
		o.s.end(down(Failed, "block %d of salvo: %w", f.ID, f.Err))
	}
	if len(eff.Released) == 0 {
		return
	}
	o.mu.Lock()
	o.gone += uint64(len(eff.Failed))
	for _, id := range eff.Released {
		b := o.blocks[id]
		o.size -= int64(b.length)
		o.shelf.drop(b)
		delete(o.blocks, id)
	}
	o.mu.Unlock()
}

// waiting is how many bytes are offered and not released.
func (o *salvoOut) waiting() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size
}
