package salvo

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/farhop/farhop/node/salvo/packet"
)

func TestValidate(t *testing.T) {
	good := Config{Rate: 1000}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no rate":      func(c *Config) { c.Rate = 0 },
		"rate":         func(c *Config) { c.Rate = -1 },
		"return rate":  func(c *Config) { c.ReturnRate = -1 },
		"distance":     func(c *Config) { c.OWLT = -1 },
		"far":          func(c *Config) { c.OWLT = MaxOWLT + 1 },
		"loss":         func(c *Config) { c.Loss = 0.6 },
		"no number":    func(c *Config) { c.Loss = math.NaN() },
		"burst":        func(c *Config) { c.Burst = math.Inf(1) },
		"mtu":          func(c *Config) { c.MTU = 100 },
		"header":       func(c *Config) { c.IPHeader = -1 },
		"buffer":       func(c *Config) { c.Buffer = 1000 },
		"blocks":       func(c *Config) { c.MaxBlocks = -1 },
		"block length": func(c *Config) { c.MaxBlock = -1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: %+v is taken", name, c)
		}
		if _, err := NewSender(begin, c, Keys{Secret: make([]byte, 32)}, SenderState{}); err == nil {
			t.Errorf("%s: a sender begins", name)
		}
		if _, err := NewReceiver(begin, c, Keys{Secret: make([]byte, 32)}, ReceiverState{}); err == nil {
			t.Errorf("%s: a receiver begins", name)
		}
	}
	if _, err := NewSender(begin, good, Keys{Secret: make([]byte, 31)}, SenderState{}); err == nil {
		t.Error("a short secret is taken")
	}
}

// TestAnyRate: a packet takes no time that can be counted, or a year.
func TestAnyRate(t *testing.T) {
	for _, rate := range []int64{1, 1e13, math.MaxInt64} {
		keys := Keys{Secret: make([]byte, 32), Association: 1}
		s, err := NewSender(begin, Config{Rate: rate}, keys, SenderState{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Offer(begin, Block{ID: 1, Length: 1 << 20, Data: bytes.NewReader(make([]byte, 1<<20))}); err != nil {
			t.Fatal(err)
		}
		if p := s.Next(begin, make([]byte, DefaultMTU)); p == nil {
			t.Errorf("at %d bit/s nothing is sent", rate)
		}
	}
}

func TestOffer(t *testing.T) {
	s, err := NewSender(begin, Config{Rate: 1e6, MaxBlocks: 3, MaxBlock: 100}, Keys{Secret: make([]byte, 32)}, SenderState{})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.NewReader(make([]byte, 100))
	for _, c := range []struct {
		b    Block
		want error
	}{
		{Block{ID: 5, Length: 100, Data: data}, nil},
		{Block{ID: 5, Length: 100, Data: data}, ErrBlock},
		{Block{ID: 4, Length: 100, Data: data}, ErrBlock},
		{Block{ID: 6, Length: 101, Data: data}, ErrBlock},
		{Block{ID: 6, Length: 0, Data: data}, ErrBlock},
		{Block{ID: 6, Length: 9, Class: 5, Data: data}, ErrBlock},
		{Block{ID: 6, Length: 9}, ErrBlock},
		{Block{ID: 1 << 62, Length: 9, Data: data}, ErrBlock},
		{Block{ID: 9, Length: 9, Data: data}, nil},
		{Block{ID: 10, Length: 9, Data: data}, nil},
		{Block{ID: 11, Length: 9, Data: data}, ErrFull},
	} {
		if err := s.Offer(begin, c.b); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.b, err, c.want)
		}
	}
	if st := s.Stats(); st.Full != 1 || st.Blocks != 3 {
		t.Errorf("%+v", st)
	}
}

// liar seals whatever frames it likes.
type liar struct {
	t    testing.TB
	seal *packet.Sealer
	now  time.Time
}

func newLiar(t testing.TB, k Keys, kind packet.Kind) *liar {
	t.Helper()
	keys, err := k.derive(kind)
	if err != nil {
		t.Fatal(err)
	}
	s, err := packet.NewSealer(keys)
	if err != nil {
		t.Fatal(err)
	}
	return &liar{t, s, begin}
}

func (l *liar) packet(frames []byte) []byte {
	l.t.Helper()
	b, err := l.seal.Seal(append(make([]byte, packet.HeaderLen), frames...))
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// TestLyingSender sends a receiver trains and blocks without end, which never
// become complete or contradict each other. Tables stay within their limits,
// and an honest train still finds room.
func TestLyingSender(t *testing.T) {
	cfg := Config{Rate: 50 * mbit, Buffer: MinBuffer, MaxBlocks: 100, MaxBlock: 1 << 20, AnyOrder: true}
	keys := Keys{Secret: make([]byte, 32), Association: 1}
	recv, err := NewReceiver(begin, cfg, keys, ReceiverState{})
	if err != nil {
		t.Fatal(err)
	}
	l := newLiar(t, keys, packet.Data)
	r := rand.New(rand.NewPCG(1, 1))
	var buf [MaxMTU]byte
	for i := range 40_000 {
		l.now = l.now.Add(time.Millisecond)
		s := packet.Symbol{Class: uint8(1 + r.IntN(4)), Train: r.Uint64() >> (2 + r.IntN(60)), K: uint8(1 + r.IntN(240)), Index: uint8(r.Uint32())}
		s.Position = uint8(min(r.Uint64N(256), s.Train))
		if i%3 == 0 {
			s.K, s.Index = 1, 0
		}
		p := packet.Piece{ID: 1 + r.Uint64N(1<<uint(1+r.IntN(50))), Length: 1 + r.Uint64N(1<<21)}
		p.Offset = r.Uint64N(p.Length)
		p.N = min(1+r.Uint64N(64), p.Length-p.Offset)
		content := packet.AppendPiece(nil, p)
		s.Data = append(content, make([]byte, 1+r.IntN(1000))...)
		frames := append(packet.AppendSymbolHeader(nil, s), s.Data...)
		if i%100 == 0 {
			frames = packet.AppendEnd(nil, packet.End{Class: s.Class, Floor: min(s.Train, uint64(i/100)), Next: s.Train, Block: uint64(i / 100)})
		}
		if err := recv.Receive(l.now, l.packet(frames)); err != nil {
			t.Fatal(err)
		}
		recv.Take()
		for b := recv.Next(l.now, buf[:]); b != nil; b = recv.Next(l.now, buf[:]) {
			continue
		}
		st := recv.Stats()
		if st.MaxUsed > cfg.Buffer || st.Open > maxOpen || st.Blocks > cfg.MaxBlocks {
			t.Fatalf("beyond the limits: %+v", st)
		}
		for c := range recv.lanes {
			if n := len(recv.lanes[c].done); n > maxRanges+1 {
				t.Fatalf("%d ranges of trains", n)
			}
		}
	}
	st := recv.Stats()
	t.Logf("%+v", st)
	if st.Evicted == 0 || st.Nonsense == 0 || st.NoBlock == 0 {
		t.Errorf("not all limits were reached: %+v", st)
	}
	honest := packet.AppendPiece(nil, packet.Piece{ID: 1, Length: 5, N: 5})
	delete(recv.blocks, 1)
	honest = append(honest, "hello"...)
	s := packet.Symbol{K: 1, Data: honest}
	recv.blocks = map[uint64]*inBlock{}
	if err := recv.Receive(l.now, l.packet(append(packet.AppendSymbolHeader(nil, s), s.Data...))); err != nil {
		t.Fatal(err)
	}
	if e := recv.Take(); len(e.Deliver) != 1 || string(e.Keep[0].Bytes) != "hello" {
		t.Errorf("an urgent block found no room: %+v", e)
	}
}

// TestLyingReceiver sends a sender reports of what it never sent. It may lose
// its own blocks by that, and nothing else.
func TestLyingReceiver(t *testing.T) {
	cfg := Config{Rate: 50 * mbit, OWLT: time.Millisecond, Loss: 0.01}
	keys := Keys{Secret: make([]byte, 32), Association: 1}
	s, err := NewSender(begin, cfg, keys, SenderState{})
	if err != nil {
		t.Fatal(err)
	}
	data := random(1, 1<<20)
	for id := range uint64(20) {
		if err := s.Offer(begin, Block{ID: 100 + id, Class: uint8(id % 5), Length: 1 << 20, Data: bytes.NewReader(data)}); err != nil {
			t.Fatal(err)
		}
	}
	l := newLiar(t, keys, packet.Report)
	r := rand.New(rand.NewPCG(1, 1))
	num := func() uint64 { return r.Uint64() >> (3 + r.IntN(61)) }
	var buf [MaxMTU]byte
	sent := 0
	for range 3000 {
		l.now = l.now.Add(time.Millisecond)
		frames := packet.AppendStatus(nil, packet.Status{Packets: num(), Count: num(), Room: num(), Confirm: true})
		f := packet.Trains{Class: uint8(r.IntN(5)), From: r.Uint64N(300)}
		at := f.From
		for range r.IntN(40) {
			g := packet.Gap{Train: at + num()%7, Deficit: uint8(1 + r.IntN(240))}
			switch r.IntN(3) {
			case 0:
				g.Run, g.Deficit = 1+num(), 0
			case 1:
				g.Missing = random(num(), 1+r.IntN(30))
			}
			if at = g.Train + max(g.Run, 1); at > 1<<61 {
				break
			}
			f.Gaps = append(f.Gaps, g)
		}
		f.To = max(at, f.From)
		frames = packet.AppendTrains(frames, f)
		frames = packet.AppendAccepted(frames, []Range{{Lo: 200, Hi: 200 + 1 + num()}})
		frames = packet.AppendHeld(frames, packet.Held{From: 0, To: 150, Blocks: []packet.HeldBlock{
			{ID: 100 + r.Uint64N(20), Length: 1 << 20, Held: []Range{{Lo: 5, Hi: 5 + 1 + r.Uint64N(1<<20-5)}}},
		}})
		_ = s.Receive(l.now, l.packet(frames)) // some are malformed
		for b := s.Next(l.now, buf[:]); b != nil; b = s.Next(l.now, buf[:]) {
			sent += len(b) + DefaultIPHeader
		}
		if e := s.Take(); len(e.Released) > 0 || len(e.Failed) > 0 {
			t.Fatalf("%+v", e)
		}
	}
	if limit := int(3100 * time.Millisecond.Seconds() * 50 * mbit / 8); sent > limit {
		t.Errorf("%d bytes sent, at most %d at this rate", sent, limit)
	}
	if st := s.Stats(); st.Blocks != 20 || st.Trains > 5*maxTrains {
		t.Errorf("%+v", st)
	}
}

func TestState(t *testing.T) {
	blocks := []BlockState{
		{ID: 3, Class: 2, Length: 100, Before: 1, Held: []Range{{Lo: 0, Hi: 10}, {Lo: 20, Hi: 100}}},
		{ID: 9, Class: 4, Length: 5, Held: []Range{}},
	}
	ss := SenderState{Incarnation: 1 << 63, Blocks: blocks}
	rs := ReceiverState{Incarnation: 5, Accepted: []Range{{Lo: 0, Hi: 3}, {Lo: 4, Hi: 7}}, Blocks: blocks}
	b := AppendSenderState(nil, ss)
	if got, err := ParseSenderState(b); err != nil || !reflect.DeepEqual(got, ss) {
		t.Errorf("%+v %v", got, err)
	}
	c := AppendReceiverState(nil, rs)
	if got, err := ParseReceiverState(c); err != nil || !reflect.DeepEqual(got, rs) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := ParseReceiverState(b); !errors.Is(err, ErrState) {
		t.Error("a sender's state is taken for a receiver's")
	}
	for i := range c {
		if _, err := ParseReceiverState(c[:i]); !errors.Is(err, ErrState) {
			t.Errorf("%d of %d bytes are taken", i, len(c))
		}
	}
}

// FuzzState reads stored states and begins with them.
func FuzzState(f *testing.F) {
	f.Add(AppendReceiverState(nil, ReceiverState{Accepted: []Range{{Lo: 1, Hi: 3}}, Blocks: []BlockState{{ID: 3, Class: 2, Length: 100, Before: 1, Held: []Range{{Lo: 0, Hi: 10}}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseSenderState(b)
		st, err := ParseReceiverState(b)
		if err != nil {
			return
		}
		again, err := ParseReceiverState(AppendReceiverState(nil, st))
		if err != nil || !reflect.DeepEqual(again, st) {
			t.Fatalf("%+v is read as %+v, %v", st, again, err)
		}
		r, err := NewReceiver(begin, Config{Rate: 1e6}, Keys{Secret: make([]byte, 32), Incarnation: st.Incarnation}, st)
		if err != nil {
			t.Fatal(err)
		}
		var buf [MaxMTU]byte
		for range 20 {
			r.Next(begin, buf[:])
		}
	})
}
