package salvo

import (
	"bytes"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// inLane is what a receiver has of one class.
type inLane struct {
	open    map[uint64]*inTrain
	done    spans  // trains that are complete or of no interest
	edge    uint64 // trains below it have been sent in full
	judged  uint64 // below it, what is missing has been noticed
	floor   uint64 // blocks below it have been released or given up
	seen    bool
	partial map[uint64]*inBlock // blocks that are not complete
}

func (l *inLane) advance(edge uint64) { l.edge = max(l.edge, edge) }

// lacks reports whether a train that has been sent in full is not complete.
func (l *inLane) lacks() bool { return l.done.first() < l.edge }

// inTrain is a train at its receiver.
type inTrain struct {
	class  uint8
	number uint64
	k      int
	size   int
	data   []byte // the data symbols, one after the other
	have   [4]uint64
	count  int // data symbols there
	front  int // of them without a gap from the first on
	parity []fec.Parity
	low    int   // lowest row that was seen
	at     int   // content before it has been taken
	cost   int64 // of the buffer
}

func (t *inTrain) has(i int) bool { return t.have[i/64]>>(i%64)&1 != 0 }

// lacks is the number of symbols that are missing.
func (t *inTrain) lacks() int { return t.k - t.count - len(t.parity) }

// hasRow reports whether a parity symbol is there.
func (t *inTrain) hasRow(row uint8) bool {
	for i := range t.parity {
		if t.parity[i].Row == row {
			return true
		}
	}
	return false
}

// symbol takes one symbol.
func (r *Receiver) symbol(now time.Time, s *packet.Symbol) {
	l := &r.lanes[s.Class]
	l.seen = true
	l.advance(s.Train - uint64(s.Position))
	r.stats.Symbols++
	if l.done.has(s.Train) {
		r.stats.Duplicates++
		return
	}
	t := l.open[s.Train]
	if t == nil {
		if t = r.admit(l, s); t == nil {
			return
		}
	}
	if t.k != int(s.K) || t.size != len(s.Data) {
		r.stats.Nonsense++
		return
	}
	if !r.place(t, s) {
		r.stats.Duplicates++
		return
	}
	switch {
	case t.lacks() > 0:
		if t.front*t.size > t.at && !r.unload(t, t.front*t.size) {
			r.close(l, t)
		}
	case r.repair(t) && r.unload(t, len(t.data)):
		l.done.add(t.number, t.number+1)
		r.stats.Trains++
		r.close(l, t)
		r.roomy(now)
	default:
		r.close(l, t)
	}
}

// place puts a symbol where it belongs. It reports false when it was there.
func (r *Receiver) place(t *inTrain, s *packet.Symbol) bool {
	i := int(s.Index)
	if i >= t.k {
		if t.hasRow(s.Index) || !r.makeRoom(t.class, t.number, int64(t.size), 0) {
			return false
		}
		t.parity = append(t.parity, fec.Parity{Row: s.Index, Data: bytes.Clone(s.Data)})
		t.low = min(t.low, i)
		t.cost += int64(t.size)
		r.use(int64(t.size))
		return true
	}
	if t.has(i) {
		return false
	}
	copy(t.data[i*t.size:], s.Data)
	t.have[i/64] |= 1 << (i % 64)
	t.count++
	for t.front < t.k && t.has(t.front) {
		t.front++
	}
	return true
}

// repair makes the data symbols that are missing.
func (r *Receiver) repair(t *inTrain) bool {
	if t.count == t.k {
		return true
	}
	r.stats.Repaired++
	if err := r.coder.Repair(t.data, t.k, t.has, t.parity); err != nil {
		r.stats.Nonsense++
		return false
	}
	return true
}

// admit makes room for a train. The more urgent one, and of a class the older
// one, may take the place of another: so at any time the first train that is
// missing finds room, and what was dropped is sent again after it.
func (r *Receiver) admit(l *inLane, s *packet.Symbol) *inTrain {
	if len(l.done) >= maxRanges && s.Train != l.done.first() {
		r.stats.NoTrain++
		return nil
	}
	cost := int64(int(s.K)*len(s.Data) + trainCost)
	if !r.makeRoom(s.Class, s.Train, cost, 1) {
		return nil
	}
	t := &inTrain{class: s.Class, number: s.Train, k: int(s.K), size: len(s.Data), low: 256, cost: cost}
	t.data = r.buffer(t.k * t.size)
	l.open[t.number] = t
	r.trains++
	r.use(cost)
	return t
}

// makeRoom makes room for something of a train, and perhaps for one more train,
// at the cost of later ones.
func (r *Receiver) makeRoom(class uint8, number uint64, cost int64, more int) bool {
	for r.used+cost > r.cfg.Buffer || r.trains+more > maxOpen {
		worst := r.leastUrgent()
		if worst == nil || worst.class < class || worst.class == class && worst.number <= number {
			r.stats.NoRoom++
			return false
		}
		r.stats.Evicted++
		r.close(&r.lanes[worst.class], worst)
	}
	return true
}

// leastUrgent is the last train of the last class that has some.
func (r *Receiver) leastUrgent() *inTrain {
	for c := len(r.lanes) - 1; c >= 0; c-- {
		var worst *inTrain
		for _, t := range r.lanes[c].open {
			if worst == nil || t.number > worst.number {
				worst = t
			}
		}
		if worst != nil {
			return worst
		}
	}
	return nil
}

func (r *Receiver) use(n int64) {
	r.used += n
	r.stats.MaxUsed = max(r.stats.MaxUsed, r.used)
}

// close ends a train, complete or not.
func (r *Receiver) close(l *inLane, t *inTrain) {
	if l.open[t.number] != t {
		return
	}
	delete(l.open, t.number)
	r.trains--
	r.used -= t.cost
	r.spend(t.data)
	t.data, t.parity = nil, nil
}

// maxBuffers is how many buffers are kept to be used again, and minBuffer the
// least size of one.
const (
	maxBuffers = 8
	minBuffer  = 16 << 10
)

// buffer returns n zero bytes.
func (r *Receiver) buffer(n int) []byte {
	for i := len(r.buffers) - 1; i >= 0; i-- {
		if b := r.buffers[i]; cap(b) >= n && cap(b) <= n+n/4 {
			last := len(r.buffers) - 1
			r.buffers[i] = r.buffers[last]
			r.buffers = r.buffers[:last]
			b = b[:n]
			clear(b)
			return b
		}
	}
	return make([]byte, n)
}

// spend gives a buffer back, which effects may point into until the next call.
func (r *Receiver) spend(b []byte) {
	if cap(b) >= minBuffer && len(r.buffers)+len(r.spent) < maxBuffers {
		r.spent = append(r.spent, b)
	}
}
