package salvo

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// Errors of Sender.Offer.
var (
	ErrFull  = errors.New("salvo: too many blocks under way")
	ErrBlock = errors.New("salvo: not a block that can be sent")
)

// Block is what is to be moved. Data is read at any time, several times, until
// the block is released, withdrawn or failed, and must not change.
type Block struct {
	ID     uint64 // above those offered before; not 0
	Class  uint8  // 0 to 4, a lower one is sent before a higher one
	Length int64  // at least 1
	Data   io.ReaderAt
}

// Failure is a block that could not be read. It is not sent any more.
type Failure struct {
	ID  uint64
	Err error
}

// SenderEffects is what a sender wants its owner to know.
type SenderEffects struct {
	Released []uint64 // blocks the receiver's owner has taken for good
	Failed   []Failure
}

// outBlock is a block at its sender.
type outBlock struct {
	Block
	now  spans // bytes that arrived, as trains of this association say
	have spans // those and what the receiver has from before
	gone bool  // released, withdrawn or failed: Data is not read any more

	before, after *outBlock // of its class, by id
}

// Sender moves the blocks of one direction of a link for the time of one
// association. It is for one goroutine at a time.
type Sender struct {
	cfg     Config
	keys    Keys
	seal    *packet.Sealer
	open    *packet.Opener
	coder   fec.Coder
	plans   plans
	pace    pace
	breaker breaker

	blocks  map[uint64]*outBlock
	order   []*outBlock // by id; those gone are removed now and then
	dead    int         // of order
	last    uint64      // highest id offered
	prior   map[uint64]BlockState
	lanes   [packet.NumClasses]lane
	turn    int
	room    int64 // bytes the receiver has; negative: not known yet
	confirm bool  // a report waits to be confirmed

	quiet   time.Time // since when nothing was sent or learned
	backoff time.Duration

	frame   packet.ReportFrame
	scratch []byte
	effects SenderEffects
	stats   SenderStats
}

// NewSender begins an association. st is what State gave at the end of the one
// before; the zero value when there is none, or it was lost. Keys must never be
// used for a second one: a new association has another number or secret.
func NewSender(now time.Time, cfg Config, keys Keys, st SenderState) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	data, err1 := keys.derive(packet.Data)
	report, err2 := keys.derive(packet.Report)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	s := &Sender{cfg: cfg, keys: keys, blocks: map[uint64]*outBlock{}, prior: map[uint64]BlockState{}, room: -1, backoff: 1, quiet: now}
	s.seal, err1 = packet.NewSealer(data)
	s.open, err2 = packet.NewOpener(report)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	s.pace = pace{rate: float64(cfg.Rate), header: cfg.IPHeader, free: now, late: cfg.late()}
	s.breaker = newBreaker(now, cfg.Loss, cfg.Burst)
	s.plans = newPlans(cfg)
	for c := range s.lanes {
		s.lanes[c].class = uint8(c)
	}
	if st.Incarnation == keys.Incarnation {
		for _, b := range st.Blocks {
			s.prior[b.ID] = b
		}
	}
	return s, nil
}

// Offer takes a block to be sent. Blocks of earlier associations that were not
// released are offered again, in the order of their ids and before new ones.
func (s *Sender) Offer(now time.Time, b Block) error {
	switch {
	case b.ID <= s.last || b.ID >= packet.MaxNumber>>1:
		return fmt.Errorf("%w: id %d after %d; ids rise", ErrBlock, b.ID, s.last)
	case b.Class >= packet.NumClasses:
		return fmt.Errorf("%w: class %d, from 0 to %d", ErrBlock, b.Class, packet.NumClasses-1)
	case b.Length < 1 || b.Length > s.cfg.MaxBlock || b.Data == nil:
		return fmt.Errorf("%w: %d bytes, from 1 to %d", ErrBlock, b.Length, s.cfg.MaxBlock)
	case len(s.blocks) >= s.cfg.MaxBlocks:
		s.stats.Full++
		return fmt.Errorf("%w: %d; offer it when some are released", ErrFull, len(s.blocks))
	}
	if at := s.Wake(); at.IsZero() || at.After(now) {
		s.pace.idle(now)
	}
	s.last = b.ID
	o := &outBlock{Block: b}
	if p, ok := s.prior[b.ID]; ok {
		if p.Length == b.Length && spans(p.Held).within(uint64(b.Length)) {
			o.have = append(spans(nil), p.Held...)
		}
		delete(s.prior, b.ID)
	}
	s.blocks[b.ID] = o
	s.order = append(s.order, o)
	l := &s.lanes[b.Class]
	l.link(o)
	if len(s.blocks) == 1 {
		s.quiet = now
	}
	for lo := uint64(0); ; {
		r := o.have.gap(lo, uint64(b.Length))
		if r.Lo >= r.Hi {
			return nil
		}
		l.push(segment{o, r.Lo, r.Hi})
		lo = r.Hi
	}
}

// Withdraw gives a block up. What of it is under way may still arrive, but
// unless all of it does the receiver will forget it. It reports whether the
// block was there.
func (s *Sender) Withdraw(id uint64) bool {
	b := s.blocks[id]
	if b == nil {
		return false
	}
	s.drop(b)
	return true
}

// drop forgets a block. Trains that have parts of it cannot be made again: when
// they have to be, what else is in them goes into new ones.
func (s *Sender) drop(b *outBlock) {
	s.forget(b)
	s.tidy()
	s.lanes[b.Class].end(1)
}

// forget takes a block from the tables.
func (s *Sender) forget(b *outBlock) {
	b.gone = true
	b.Data, b.now, b.have = nil, nil, nil
	s.lanes[b.Class].unlink(b)
	delete(s.blocks, b.ID)
	s.dead++
}

// tidy removes blocks that are gone from order, once they are many.
func (s *Sender) tidy() {
	if s.dead > 64 && s.dead > len(s.order)/2 {
		live := make([]*outBlock, 0, len(s.order)-s.dead)
		for _, o := range s.order {
			if !o.gone {
				live = append(live, o)
			}
		}
		s.order, s.dead = live, 0
	}
}

// from returns the index in order of the first block whose id is at least id.
func (s *Sender) from(id uint64) int {
	return sort.Search(len(s.order), func(i int) bool { return s.order[i].ID >= id })
}

// floor is the id below which there is no block any more.
func (s *Sender) floor() uint64 {
	if s.last == 0 {
		return 0
	}
	f := s.last + 1
	for c := range s.lanes {
		if b := s.lanes[c].first; b != nil {
			f = min(f, b.ID)
		}
	}
	return f
}

// Receive takes a packet of kind Report. The error is a packet.Drop; it is
// counted.
func (s *Sender) Receive(now time.Time, b []byte) error {
	plain, _, err := s.open.Open(b)
	if err != nil {
		return s.stats.Drops.count(err)
	}
	s.stats.Reports++
	s.stats.ReportBytes += int64(len(b))
	if !s.report(now, plain) {
		return s.stats.Drops.count(packet.Malformed)
	}
	return nil
}

// Next returns the packet to send now, made in buf, which has room for an MTU;
// nil when there is nothing to send, or not yet.
func (s *Sender) Next(now time.Time, buf []byte) []byte {
	if !s.pace.ready(now) {
		return nil
	}
	s.ask(now)
	room := packet.HeaderLen + s.cfg.payload()
	b := s.control(now, buf[:packet.HeaderLen])
	var t *train
	for t = s.pick(now); t != nil; t = s.pick(now) {
		l := &s.lanes[t.class]
		need := packet.SymbolHeader(t.number) + t.size
		if len(b)+need > room { // it goes with the next packet
			t = nil
			break
		}
		if l.drains(t) {
			l.end(endings)
			if len(b)+need+endLen <= room {
				b = s.appendEnd(b, now, l, t)
			}
		}
		var err error
		if b, err = s.symbol(now, b, t); err == nil {
			break
		}
	}
	if t == nil { // looking for one may have ended a class
		b = s.control(now, b)
	}
	if len(b) == packet.HeaderLen {
		s.pace.idle(now)
		return nil
	}
	if t != nil {
		t.lastPacket = s.seal.Next()
		s.quiet = now
	}
	out, err := s.seal.Seal(b)
	if err != nil {
		return nil
	}
	s.pace.spend(now, len(out))
	s.stats.Packets++
	s.stats.Bytes += int64(len(out))
	return out
}

// control appends the frames that are due and not symbols.
func (s *Sender) control(now time.Time, b []byte) []byte {
	if s.confirm {
		s.confirm = false
		if highest, _, ok := s.open.Seen(); ok {
			b = packet.AppendConfirm(b, packet.Confirm{Report: highest, Recent: s.open.Recent(), Block: s.floor()})
		}
	}
	for c := range s.lanes {
		if l := &s.lanes[c]; l.endDue(now) {
			b = s.appendEnd(b, now, l, nil)
		}
	}
	return b
}

// ask asks for a report when nothing was sent or learned for a while and there
// are blocks that are not released.
func (s *Sender) ask(now time.Time) {
	if at := s.askAt(); at.IsZero() || now.Before(at) {
		return
	}
	s.quiet = now
	s.backoff = min(2*s.backoff, maxBackoff)
	s.stats.Asks++
	for c := range s.lanes {
		if l := &s.lanes[c]; l.first != nil || len(l.table) > 0 {
			l.end(2)
		}
	}
}

// maxBackoff is how many times rarer a question that nobody answers may become.
const maxBackoff = 16

func (s *Sender) askAt() time.Time {
	if len(s.blocks) == 0 {
		return time.Time{}
	}
	for c := range s.lanes {
		if l := &s.lanes[c]; len(l.active) > 0 || len(l.fix) > 0 || s.mayForm(l) {
			return time.Time{}
		}
	}
	return s.quiet.Add(s.backoff * (s.cfg.tick() * 5 / 4))
}

// Wake is when to call Next again; zero: not before something else happens.
func (s *Sender) Wake() time.Time {
	at := s.askAt()
	sooner := func(t time.Time) {
		if t.Before(s.pace.free) {
			t = s.pace.free
		}
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for c := range s.lanes {
		l := &s.lanes[c]
		if len(l.fix) > 0 || s.mayForm(l) {
			sooner(s.pace.free)
		}
		if l.endLeft > 0 {
			sooner(l.endAt)
		}
		for _, t := range l.active {
			sooner(t.readyAt())
			if t.gap == 0 {
				break
			}
		}
	}
	if s.confirm {
		sooner(s.pace.free)
	}
	if !at.IsZero() && at.Before(s.pace.free) {
		return s.pace.free
	}
	return at
}

// Group is about how many bytes the trains hold that take turns, at most: so much
// should wait for loss in bursts to be spread well.
func (s *Sender) Group() int64 { return int64(s.plans.turn) * int64(s.trainBytes()) }

// Take returns the effects since the last call. The slices are the caller's.
func (s *Sender) Take() SenderEffects {
	e := s.effects
	s.effects = SenderEffects{}
	return e
}

// Charge books bytes that others sent on the same link, headers of IP and UDP
// not counted, so that all of it together keeps to the rate.
func (s *Sender) Charge(now time.Time, n int) { s.pace.spend(now, n) }

// SetOWLT says how far the peer is now.
func (s *Sender) SetOWLT(d time.Duration) { s.cfg.OWLT = min(max(d, 0), MaxOWLT) }

// SetRate says what the link carries now, in bit/s of IP packets.
func (s *Sender) SetRate(rate int64) error {
	if rate <= 0 {
		return fmt.Errorf("salvo: rate %d bit/s: set the rate of the link", rate)
	}
	s.cfg.Rate = rate
	s.pace.rate = float64(rate) * s.breaker.share
	s.plans.spread = s.plans.spreadAt(s.cfg)
	return nil
}
