package salvo

import (
	"bytes"
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farhop/farhop/node/salvo/packet"
)

// begin is when virtual time begins.
var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// way is one direction of a virtual link.
type way struct {
	rate      float64 // bit/s of IP packets
	owlt      time.Duration
	loss      float64
	burst     float64 // mean, 0 and 1: independent
	jitter    time.Duration
	duplicate float64
	corrupt   float64

	rnd   *rand.Rand
	busy  time.Time
	bad   bool
	sent  int64 // IP bytes
	first time.Time
}

// lose draws Gilbert's channel.
func (w *way) lose() bool {
	if w.burst <= 1 {
		return w.rnd.Float64() < w.loss
	}
	leave := 1 / w.burst
	if w.bad {
		w.bad = w.rnd.Float64() >= leave
	} else {
		w.bad = w.rnd.Float64() < leave*w.loss/(1-w.loss)
	}
	return w.bad
}

// event is a packet that arrives, or a thing to do.
type event struct {
	at   time.Time
	seq  int
	to   int // 0: sender, 1: receiver
	b    []byte
	call func()
}

type events []event

func (e events) Len() int { return len(e) }

func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// world is a sender and a receiver with their owners in virtual time.
type world struct {
	t        testing.TB
	now      time.Time
	queue    events
	seq      int
	rnd      *rand.Rand
	cfg      Config
	contact  uint32
	send     *Sender
	recv     *Receiver
	forward  way
	backward way
	cut      bool // nothing arrives

	disk     time.Duration // until a block is accepted
	offered  map[uint64]Block
	source   map[uint64][]byte
	sink     map[uint64][]byte
	done     map[uint64]int // deliveries
	accepted map[uint64]bool
	released map[uint64]bool
	atDone   map[uint64]time.Time
	lastID   [packet.NumClasses]uint64
	ordered  bool
	wakes    [2]time.Time
	epoch    int // of associations: events of older ones are void
	pool     [][]byte
	maxUsed  int64
	seen     map[uint64]int // the association a block was delivered in last
}

func newWorld(t testing.TB, seed uint64, cfg Config, forward, backward way) *world {
	w := &world{
		t: t, now: begin, rnd: rand.New(rand.NewPCG(seed, 7)), cfg: cfg, forward: forward, backward: backward,
		offered: map[uint64]Block{}, source: map[uint64][]byte{}, sink: map[uint64][]byte{}, done: map[uint64]int{},
		accepted: map[uint64]bool{}, released: map[uint64]bool{}, atDone: map[uint64]time.Time{}, seen: map[uint64]int{}, ordered: !cfg.AnyOrder,
	}
	w.forward.rnd = rand.New(rand.NewPCG(seed, 1))
	w.backward.rnd = rand.New(rand.NewPCG(seed, 2))
	w.connect(SenderState{}, ReceiverState{})
	return w
}

func (w *world) keys() Keys {
	return Keys{Secret: bytes.Repeat([]byte{byte(w.contact)}, packet.SecretLen), Association: w.contact, Incarnation: 1}
}

// connect begins an association with what both sides remember. The sender's
// owner offers again what was not released.
func (w *world) connect(ss SenderState, rs ReceiverState) {
	w.t.Helper()
	w.contact++
	w.epoch++
	w.lastID = [packet.NumClasses]uint64{}
	var err error
	if w.send, err = NewSender(w.now, w.cfg, w.keys(), ss); err != nil {
		w.t.Fatal(err)
	}
	if w.recv, err = NewReceiver(w.now, w.cfg, w.keys(), rs); err != nil {
		w.t.Fatal(err)
	}
	w.wakes = [2]time.Time{}
	for id := uint64(1); id <= uint64(len(w.offered)); id++ {
		if b, ok := w.offered[id]; ok && !w.released[id] {
			if err := w.send.Offer(w.now, b); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.collect()
	w.pump()
}

// offer gives the sender a new block.
func (w *world) offer(class uint8, data []byte) uint64 {
	w.t.Helper()
	b := Block{ID: uint64(len(w.offered)) + 1, Class: class, Length: int64(len(data)), Data: bytes.NewReader(data)}
	w.offered[b.ID], w.source[b.ID] = b, data
	if err := w.send.Offer(w.now, b); err != nil {
		w.t.Fatal(err)
	}
	w.pump()
	return b.ID
}

func (w *world) at(t time.Time, e event) {
	w.seq++
	e.at, e.seq = t, w.seq
	heap.Push(&w.queue, e)
}

func (w *world) after(d time.Duration, call func()) { w.at(w.now.Add(d), event{call: call}) }

// carry puts a packet on its way.
func (w *world) carry(l *way, to int, b []byte) {
	if l.busy.Before(w.now) {
		l.busy = w.now
	}
	if l.first.IsZero() {
		l.first = l.busy
	}
	l.sent += int64(len(b) + DefaultIPHeader)
	l.busy = l.busy.Add(airtime(len(b), DefaultIPHeader, l.rate))
	if l.lose() {
		return
	}
	for copies := 1; copies > 0; copies-- {
		at := l.busy.Add(l.owlt)
		if l.jitter > 0 {
			at = at.Add(time.Duration(l.rnd.Int64N(int64(l.jitter))))
		}
		var c []byte
		if n := len(w.pool); n > 0 {
			c, w.pool = w.pool[n-1][:0], w.pool[:n-1]
		}
		c = append(c, b...)
		if l.corrupt > 0 && l.rnd.Float64() < l.corrupt {
			c[l.rnd.IntN(len(c))] ^= byte(1 + l.rnd.IntN(255))
		}
		if l.duplicate > 0 && l.rnd.Float64() < l.duplicate {
			copies++
		}
		epoch := w.epoch
		w.at(at, event{to: to, b: c, call: func() { w.arrive(to, epoch, c) }})
	}
}

func (w *world) arrive(to, epoch int, b []byte) {
	if !w.cut && epoch == w.epoch {
		if to == 1 {
			_ = w.recv.Receive(w.now, b) // counted
			w.collect()
		} else {
			_ = w.send.Receive(w.now, b)
		}
	}
	w.pool = append(w.pool, b)
}

// collect plays the owners.
func (w *world) collect() {
	e := w.recv.Take()
	w.maxUsed = max(w.maxUsed, w.recv.Stats().MaxUsed)
	for _, k := range e.Keep {
		if w.sink[k.ID] == nil {
			w.sink[k.ID] = make([]byte, k.Length)
		}
		copy(w.sink[k.ID][k.Offset:], k.Bytes)
	}
	for _, d := range e.Deliver {
		w.delivered(d)
	}
	for _, id := range w.send.Take().Released {
		if !w.accepted[id] {
			w.t.Fatalf("block %d was released and not accepted", id)
		}
		if w.released[id] {
			w.t.Fatalf("block %d was released twice", id)
		}
		w.released[id] = true
	}
}

func (w *world) delivered(d Delivery) {
	if w.accepted[d.ID] {
		w.t.Fatalf("block %d was delivered after it was accepted", d.ID)
	}
	if !bytes.Equal(w.sink[d.ID], w.source[d.ID]) {
		w.t.Fatalf("block %d has other bytes", d.ID)
	}
	if w.seen[d.ID] == w.epoch {
		w.t.Fatalf("block %d was delivered twice", d.ID)
	}
	w.seen[d.ID] = w.epoch
	if w.ordered && d.ID < w.lastID[d.Class] {
		w.t.Fatalf("block %d of class %d was delivered after %d", d.ID, d.Class, w.lastID[d.Class])
	}
	w.lastID[d.Class] = d.ID
	w.done[d.ID]++
	w.atDone[d.ID] = w.now
	epoch := w.epoch
	w.after(w.disk, func() {
		if epoch == w.epoch && w.recv.Accepted(w.now, d.ID) {
			w.accepted[d.ID] = true
		}
	})
}

// pump lets both sides send, and sees to it that they are woken.
func (w *world) pump() {
	var buf [MaxMTU]byte
	for b := w.send.Next(w.now, buf[:]); b != nil; b = w.send.Next(w.now, buf[:]) {
		w.carry(&w.forward, 1, b)
	}
	for b := w.recv.Next(w.now, buf[:]); b != nil; b = w.recv.Next(w.now, buf[:]) {
		w.carry(&w.backward, 0, b)
	}
	for i, at := range []time.Time{w.send.Wake(), w.recv.Wake()} {
		if !at.IsZero() && !at.After(w.now) {
			w.t.Fatalf("side %d wants to be woken at %v, and is", i, at.Sub(begin))
		}
		if !at.IsZero() && (w.wakes[i].IsZero() || at.Before(w.wakes[i]) || !w.wakes[i].After(w.now)) {
			w.wakes[i] = at
			w.at(at, event{call: func() {}})
		}
	}
	w.collect()
}

// run lets time pass until done is true, or limit is over.
func (w *world) run(limit time.Duration, done func() bool) bool {
	end := w.now.Add(limit)
	for !done() {
		if w.queue.Len() == 0 || w.queue[0].at.After(end) {
			w.now = end
			return done()
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.call()
		w.pump()
	}
	return true
}

func (w *world) allReleased() bool { return len(w.released) == len(w.offered) }

// share is the part of the link that the bytes of the blocks had, from the
// first packet sent to the last block delivered.
func (w *world) share() float64 {
	var n int
	var last time.Time
	for id, at := range w.atDone {
		n += len(w.source[id])
		if at.After(last) {
			last = at
		}
	}
	return float64(n) * 8 / w.forward.rate / (last.Sub(w.forward.first) - w.forward.owlt).Seconds()
}

// random returns bytes that repeat with the seed.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n)})
	_, _ = r.Read(b)
	return b
}
