package salvo

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// segment is bytes of a block that wait to go into a train.
type segment struct {
	block  *outBlock
	lo, hi uint64
}

// lane is what a sender has of one class.
type lane struct {
	class       uint8
	first, last *outBlock // blocks by id
	queue       []segment
	pending     int64 // bytes in queue

	active []*train // whose first pass is not over, by number
	cursor int      // of active: whose turn it is
	fix    []*train // with symbols to be sent again, in turn
	base   uint64   // number of table[0]
	table  []*train // trains that are not known to be complete; nil: complete or given up

	endLeft int // End frames to be sent
	endAt   time.Time
	endSeen int // End frames sent in this series
}

// endings is how often the end of what there is to send is told.
const endings = 3

func (l *lane) link(b *outBlock) {
	b.before = l.last
	if l.last != nil {
		l.last.after = b
	} else {
		l.first = b
	}
	l.last = b
}

func (l *lane) unlink(b *outBlock) {
	if b.before != nil {
		b.before.after = b.after
	} else {
		l.first = b.after
	}
	if b.after != nil {
		b.after.before = b.before
	} else {
		l.last = b.before
	}
	b.before, b.after = nil, nil
}

func (l *lane) push(g segment) {
	l.queue = append(l.queue, g)
	l.pending += int64(g.hi - g.lo)
}

// again puts segments before all others.
func (l *lane) again(g ...segment) {
	l.queue = slices.Insert(l.queue, 0, g...)
	for _, g := range g {
		l.pending += int64(g.hi - g.lo)
	}
}

// head returns the first bytes of the queue that are to be sent, as a segment
// that begins there, and removes what is before them.
func (l *lane) head() (segment, bool) {
	for len(l.queue) > 0 {
		g := &l.queue[0]
		if !g.block.gone {
			if r := g.block.have.gap(g.lo, g.hi); r.Lo < r.Hi {
				l.pending -= int64(r.Lo - g.lo)
				g.lo = r.Lo
				return segment{g.block, r.Lo, r.Hi}, true
			}
		}
		l.pending -= int64(g.hi - g.lo)
		l.queue[0] = segment{}
		l.queue = l.queue[1:]
	}
	return segment{}, false
}

// took removes n bytes from the front of the queue.
func (l *lane) took(n uint64) {
	l.queue[0].lo += n
	l.pending -= int64(n)
}

// next is the number of the train that is made next.
func (l *lane) next() uint64 { return l.base + uint64(len(l.table)) }

// sent is the number below which all trains have been sent in full, where now
// counts as sent.
func (l *lane) sent(now *train) uint64 {
	for _, t := range l.active {
		if t != now || t.left() > 1 {
			return t.number
		}
	}
	return l.next()
}

// trim forgets the trains at the front that are complete.
func (l *lane) trim() {
	n := 0
	for n < len(l.table) && l.table[n] == nil {
		n++
	}
	l.table = l.table[n:]
	l.base += uint64(n)
}

// end begins a series of n End frames.
func (l *lane) end(n int) {
	l.endLeft, l.endSeen, l.endAt = max(n, l.endLeft), 0, time.Time{}
}

func (l *lane) endDue(now time.Time) bool { return l.endLeft > 0 && !now.Before(l.endAt) }

// endLen is at least the length of an End frame.
const endLen = 1 + 3*binary.MaxVarintLen64

// appendEnd appends an End frame and plans the next: a burst must not take all
// of them. last is the train whose last symbol is in the same packet.
func (s *Sender) appendEnd(b []byte, now time.Time, l *lane, last *train) []byte {
	l.trim()
	l.endLeft--
	l.endSeen++
	l.endAt = now.Add(s.plans.spread << min(l.endSeen, 8))
	e := packet.End{Class: l.class, Floor: l.base, Next: l.sent(last), Block: s.last + 1}
	if l.first != nil {
		e.Block = l.first.ID
	}
	return packet.AppendEnd(b, e)
}

// drains reports whether nothing is left to be sent after the next symbol of t.
func (l *lane) drains(t *train) bool {
	return len(l.queue) == 0 && len(l.fix) == 0 && len(l.active) == 1 && l.active[0] == t && t.left() == 1
}

// mayForm reports whether trains can be made of what waits in a lane.
func (s *Sender) mayForm(l *lane) bool {
	if len(l.queue) == 0 || len(l.table) >= maxTrains {
		return false
	}
	// Without room at the receiver only what is urgent goes on: there it takes
	// the place of something less urgent.
	return s.room < 0 || s.room >= int64(s.trainBytes()) || l.class <= urgent
}

// urgent is the highest class that does not wait for room.
const urgent = 1

// trainBytes is what the largest train takes of the receiver's buffer.
func (s *Sender) trainBytes() int { return s.plans.most*s.symbolSize(1<<21) + trainCost }

// symbolSize is the size of a symbol that fills a packet.
func (s *Sender) symbolSize(train uint64) int {
	return s.cfg.payload() - packet.SymbolHeader(train)
}

// form makes a group of trains of what waits in a lane.
func (s *Sender) form(l *lane) {
	size := s.symbolSize(l.next() + 255)
	room := s.cfg.Buffer
	if s.room >= 0 {
		room = min(room, s.room)
	}
	bytes := l.pending + int64(len(l.queue))*12
	waits := min((bytes+int64(size)-1)/int64(size), s.plans.group(s.cfg))
	n, k := s.plans.shape(int(waits), max(int(room/2)/s.trainBytes(), 1))
	var made []*train
	for range n {
		t := &train{class: l.class, number: l.next()}
		if !t.load(l, k*size) {
			break
		}
		t.k = (t.length + size - 1) / size
		t.size = size
		if len(made) == 0 && len(l.queue) == 0 { // alone: no need to fill packets
			t.size = (t.length + t.k - 1) / t.k
		}
		made = append(made, t)
		l.table = append(l.table, t)
	}
	for _, t := range made {
		t.m = s.plans.parity(t.k, len(made))
		t.gap = s.plans.gap(len(made), s.cfg)
		s.stats.TrainsMade++
	}
	l.active = append(l.active, made...)
}

// load fills a train with pieces of what waits, at most room bytes. It reports
// whether there are any.
func (t *train) load(l *lane, room int) bool {
	for {
		g, ok := l.head()
		if !ok || t.length >= room {
			break
		}
		p := packet.Piece{ID: g.block.ID, Length: uint64(g.block.Length), Offset: g.lo, N: g.hi - g.lo}
		if b := g.block.before; g.lo == 0 && b != nil {
			p.Back = g.block.ID - b.ID
		}
		head := packet.PieceLen(p)
		if t.length+head+int(min(p.N, 1<<40)) > room {
			if len(t.parts) > 0 && p.N <= uint64(room/8) {
				break // a small one is better off in the next train
			}
			for range 2 { // a shorter piece may have another header
				p.N = min(g.hi-g.lo, uint64(max(room-t.length-head, 0)))
				head = packet.PieceLen(p)
			}
			if t.length+head+int(p.N) > room || p.N == 0 {
				break
			}
		}
		t.parts = append(t.parts, part{block: g.block, piece: p, at: t.length, head: head})
		t.length += head + int(p.N)
		l.took(p.N)
	}
	return len(t.parts) > 0
}

// plans remembers how trains are shaped on a link.
type plans struct {
	channel fec.Channel
	turn    int
	most    int           // data symbols of a train that the buffer allows
	spread  time.Duration // between packets that one burst should not take
	cache   map[[2]int]int
}

func newPlans(c Config) plans {
	p := plans{channel: fec.Channel{Loss: c.Loss, Burst: c.Burst}, cache: map[[2]int]int{}}
	p.turn = p.channel.Turn()
	p.most = max(min(trainSymbols, int((c.Buffer/4-trainCost)/int64(c.payload()))), 1)
	p.spread = p.spreadAt(c)
	return p
}

func (p *plans) spreadAt(c Config) time.Duration {
	return time.Duration(p.turn) * airtime(c.MTU, 0, float64(c.Rate))
}

// group is how many data symbols the trains of a group have at most together:
// nothing of them is whole before nearly all are sent, so that is not to take
// longer than light does, or a quarter of a second, unless bursts ask for it.
func (p *plans) group(c Config) int64 {
	turns := 1
	if p.channel.Burst > 1 {
		turns = p.turn
	}
	return max(int64(max(c.OWLT, groupTime)/max(airtime(c.MTU, 0, float64(c.Rate)), 1)), int64(turns*groupSymbols))
}

// gap is how far parity symbols of one train are apart when there are too few
// trains to take turns.
func (p *plans) gap(trains int, c Config) time.Duration {
	if p.channel.Burst <= 1 || trains >= p.turn {
		return 0
	}
	return time.Duration(p.turn-trains) * airtime(c.MTU, 0, float64(c.Rate))
}

// parity is the number of parity symbols for one of so many trains.
func (p *plans) parity(k, trains int) int {
	turn := min(trains, p.turn)
	key := [2]int{k, turn}
	if m, ok := p.cache[key]; ok {
		return m
	}
	m, _ := p.channel.Parity(k, p.turn, fec.Spare(k))
	if turn < p.turn && k > 1 && p.channel.Burst > 1 { // a burst may take data symbols in a row
		m, _ = p.channel.Parity(k, turn, max(m, k/2+2))
	}
	if len(p.cache) > 4096 {
		clear(p.cache)
	}
	p.cache[key] = m
	return m
}

// shape says how many trains to make of so many symbols, and of how many
// symbols each.
func (p *plans) shape(symbols, most int) (trains, k int) {
	limit := p.symbols()
	most = min(p.turn, most)
	if symbols >= most*limit {
		return most, limit
	}
	least := max((symbols+limit-1)/limit, 1)
	best := 1 << 30
	for n := least; n <= min(most, symbols); n = max(n+1, min(2*n, min(most, symbols))) {
		each := (symbols + n - 1) / n
		if cost := n * (each + p.parity(each, n)); cost < best {
			best, trains, k = cost, n, each
		}
	}
	if trains == 0 {
		return 1, max(symbols, 1)
	}
	return trains, k
}

// symbols is how many data symbols a train has at most: fewer where so much is
// lost that rows of parity would run out.
func (p *plans) symbols() int {
	for k := p.most; ; k = (k + 1) / 2 {
		if k <= 25 || p.parity(k, p.turn) <= fec.Spare(k)*4/5 {
			return k
		}
	}
}
