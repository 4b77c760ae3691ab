package salvo

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// Keep is bytes of a block for its owner to keep. They are the owner's to read
// until the next call of Receive.
type Keep struct {
	ID     uint64
	Class  uint8
	Length int64 // of the block
	Offset int64
	Bytes  []byte
}

// Delivery is a block of which the owner has all bytes.
type Delivery struct {
	ID     uint64
	Class  uint8
	Length int64
}

// ReceiverEffects is what a receiver wants its owner to do, in this order.
type ReceiverEffects struct {
	Keep      []Keep
	Deliver   []Delivery
	Withdrawn []uint64 // blocks that the sender gave up: their bytes are of no use
}

// Receiver gets the blocks of one direction of a link for the time of one
// association. It is for one goroutine at a time.
type Receiver struct {
	cfg   Config
	keys  Keys
	open  *packet.Opener
	seal  *packet.Sealer
	coder fec.Coder
	pace  pace // of reports

	lanes   [packet.NumClasses]inLane
	used    int64
	trains  int // open
	buffers [][]byte
	spent   [][]byte // buffers that effects still point into

	blocks   map[uint64]*inBlock
	after    map[uint64][]uint64 // block -> complete blocks that wait for it
	accepted spans               // ids of blocks that are done with
	told     spans               // of them, not known to be confirmed

	held   [][]byte // Held frames that are not confirmed; nil: confirmed
	unheld int      // of them, not nil
	trips  timers
	sent   [64]sentReport
	cursor reportCursor

	frame   packet.DataFrame
	effects ReceiverEffects
	stats   ReceiverStats
}

// NewReceiver begins an association. st is what State gave at the end of the
// one before, less the bytes that the owner lost; the zero value when there is
// none. Take has the blocks that were complete but not accepted.
func NewReceiver(now time.Time, cfg Config, keys Keys, st ReceiverState) (*Receiver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	data, err1 := keys.derive(packet.Data)
	report, err2 := keys.derive(packet.Report)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	r := &Receiver{cfg: cfg, keys: keys, blocks: map[uint64]*inBlock{}, after: map[uint64][]uint64{}}
	r.open, err1 = packet.NewOpener(data)
	r.seal, err2 = packet.NewSealer(report)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	r.pace = pace{rate: float64(cfg.ReturnRate) / reportShare, header: cfg.IPHeader, free: now, late: cfg.late()}
	for c := range r.lanes {
		r.lanes[c] = inLane{open: map[uint64]*inTrain{}, partial: map[uint64]*inBlock{}}
	}
	if st.Incarnation == keys.Incarnation {
		r.restore(st)
	}
	r.describe()
	r.news(now)
	return r, nil
}

// restore takes what is left of an earlier association.
func (r *Receiver) restore(st ReceiverState) {
	for _, a := range st.Accepted {
		r.accepted.add(a.Lo, a.Hi)
		r.told.add(a.Lo, a.Hi) // once more: whether the sender knows is not known
	}
	var whole []*inBlock
	for _, s := range st.Blocks {
		ok := s.Class < packet.NumClasses && s.Length > 0 && s.Length <= r.cfg.MaxBlock && spans(s.Held).within(uint64(s.Length))
		if !ok || r.accepted.has(s.ID) || len(r.blocks) >= r.cfg.MaxBlocks {
			continue
		}
		b := &inBlock{id: s.ID, class: s.Class, length: uint64(s.Length), before: s.Before, held: append(spans(nil), s.Held...)}
		r.blocks[b.id] = b
		r.lanes[b.class].partial[b.id] = b
		if b.held.hasAll(0, b.length) {
			whole = append(whole, b)
		}
	}
	for _, b := range whole {
		r.complete(b)
	}
}

// Receive takes a packet of kind Data, which is overwritten. The error is a
// packet.Drop; it is counted. Effects are to be taken before the next call.
func (r *Receiver) Receive(now time.Time, b []byte) error {
	r.buffers = append(r.buffers, r.spent...)
	r.spent = r.spent[:0]
	plain, _, err := r.open.Open(b)
	if err != nil {
		return r.stats.Drops.count(err)
	}
	r.stats.Packets++
	r.stats.Bytes += int64(len(b))
	for len(plain) > 0 {
		rest, ok := packet.NextData(&r.frame, plain)
		if !ok {
			return r.stats.Drops.count(packet.Malformed)
		}
		plain = rest
		switch r.frame.Type {
		case packet.SymbolFrame:
			r.symbol(now, &r.frame.Symbol)
		case packet.EndFrame:
			r.end(now, r.frame.End)
		case packet.ConfirmFrame:
			r.confirmed(r.frame.Confirm)
		default:
			return r.stats.Drops.count(packet.Malformed)
		}
	}
	r.alive(now)
	return nil
}

// end takes what the sender says about a class.
func (r *Receiver) end(now time.Time, e packet.End) {
	l := &r.lanes[e.Class]
	l.seen = true
	l.done.add(0, e.Floor)
	for n, t := range l.open {
		if n < e.Floor {
			r.close(l, t)
		}
	}
	l.advance(e.Next)
	if e.Block > l.floor {
		l.floor = e.Block
		r.passed(l)
	}
	r.asked(now)
}

// confirmed notes which reports arrived.
func (r *Receiver) confirmed(c packet.Confirm) {
	r.accepted.add(0, c.Block)
	r.told.remove(0, c.Block)
	for i := range r.sent {
		s := &r.sent[i]
		back := c.Report - s.number // 0: the highest; too large: after it
		if !s.used || back > 64 || back > 0 && c.Recent>>(back-1)&1 == 0 {
			continue
		}
		s.used = false
		for _, a := range s.accepted {
			r.told.remove(a.Lo, a.Hi)
		}
		for _, h := range s.held {
			if r.held[h] != nil {
				r.held[h] = nil
				r.unheld--
			}
		}
		r.trips.confirmed = max(r.trips.confirmed, s.news)
	}
}

// Accepted says that the owner has taken a block for good: the sender may
// forget it. It reports whether the block had been delivered.
func (r *Receiver) Accepted(now time.Time, id uint64) bool {
	b := r.blocks[id]
	if b == nil || !b.delivered {
		return false
	}
	delete(r.blocks, id)
	r.accepted.add(id, id+1)
	r.told.add(id, id+1)
	r.stats.Accepted++
	r.news(now)
	return true
}

// Take returns the effects since the last call.
func (r *Receiver) Take() ReceiverEffects {
	e := r.effects
	r.effects = ReceiverEffects{}
	return e
}

// SetOWLT says how far the peer is now.
func (r *Receiver) SetOWLT(d time.Duration) { r.cfg.OWLT = min(max(d, 0), MaxOWLT) }

// State is what the next association goes on with. It may be asked for at any
// time; an owner that crashes may as well put one together of what it kept and
// accepted.
func (r *Receiver) State() ReceiverState {
	st := ReceiverState{Incarnation: r.keys.Incarnation, Accepted: append([]Range(nil), r.accepted...)}
	for _, id := range slices.Sorted(maps.Keys(r.blocks)) {
		b := r.blocks[id]
		st.Blocks = append(st.Blocks, BlockState{
			ID: id, Class: b.class, Length: int64(b.length), Before: b.before, Held: append([]Range(nil), b.held...),
		})
	}
	return st
}

// Stats counts what happened in this association.
func (r *Receiver) Stats() ReceiverStats {
	st := r.stats
	st.Blocks, st.Open, st.Used = len(r.blocks), r.trains, r.used
	return st
}
