package bpa

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// rich is a bundle with every kind of block, in an order of its own.
func rich() sample {
	s := good()
	odd := hopBlock(9, 2)
	odd.Number, odd.Flags = 77, bundle.BlockReplicate|1<<5
	age := ageBlock(1500)
	age.Number = 5
	s.blocks = []bundle.Block{
		{Type: 200, Number: 2, Flags: bundle.BlockReport, CRCType: bundle.CRC16, Data: []byte("kept")},
		odd,
		{Type: 201, Number: 3, Flags: bundle.BlockDiscard, Data: []byte("dropped")},
		{Type: bundle.TypePrevNode, Number: 9, Flags: bundle.BlockReplicate, CRCType: bundle.CRC32C, Data: bundle.AppendEID(nil, addr.IPN(4, 0))},
		{Type: 202, Number: 4, Flags: bundle.BlockReplicate, CRCType: bundle.CRC32C, Data: []byte("in all")},
		age,
	}
	return s
}

func reparse(t testing.TB, p Parts) *bundle.View {
	t.Helper()
	v, err := bundle.Parse(p.Join())
	if err != nil {
		t.Fatalf("%v in %x", err, p.Join())
	}
	return &v
}

func TestForward(t *testing.T) {
	v := rich().view(t)
	parts, f := Forward(v, Transit{Prev: self, Elapsed: 2 * time.Second})
	if f != 0 {
		t.Fatalf("refused: %s", f)
	}
	want := rich()
	want.blocks = slices.Delete(want.blocks, 2, 3)
	want.blocks[1].Data = hopBlock(9, 3).Data
	want.blocks[2].Data = bundle.AppendEID(nil, self)
	want.blocks[4].Data = ageBlock(3500).Data
	if got := parts.Join(); !bytes.Equal(got, want.encode()) || parts.Len() != len(got) {
		t.Errorf("forwarded as\n%x, want\n%x", got, want.encode())
	}
	sharesPayload(t, v, parts)
	// What did not change is not copied: a piece with the primary block, what
	// lies between, and a piece with the payload.
	if len(parts) != 6 || &parts[0][0] != &v.Raw[0] {
		t.Errorf("%d pieces", len(parts))
	}
}

// sharesPayload checks that the payload of parts is the memory of v.
func sharesPayload(t *testing.T, v *bundle.View, parts Parts) {
	t.Helper()
	last := parts[len(parts)-1]
	if end := v.Raw[len(v.Raw)-1:]; &last[len(last)-1] != &end[0] || len(last) < len(v.Payload.Raw) {
		t.Errorf("the payload was copied, or lies in several pieces")
	}
}

func TestForwardBlocks(t *testing.T) {
	tests := []struct {
		name   string
		change func(*sample)
		t      Transit
		want   func(*bundle.View) bool
	}{
		{"nothing to change", func(*sample) {}, Transit{}, func(v *bundle.View) bool { return len(v.Blocks) == 1 }},
		{"previous node inserted", func(*sample) {}, Transit{Prev: self}, func(v *bundle.View) bool {
			return v.Prev == self && v.Blocks[0].Number == 2 && v.Blocks[0].CRCType == bundle.CRC32C
		}},
		{"previous node inserted beside others", func(s *sample) {
			s.blocks = []bundle.Block{{Type: 200, Number: 2}, {Type: 200, Number: 3}, {Type: 200, Number: 64}}
		}, Transit{Prev: self}, func(v *bundle.View) bool { return v.Prev == self && v.Blocks[0].Number == 4 }},
		{"previous node removed", func(s *sample) { s.blocks = []bundle.Block{prevBlock(self)} }, Transit{}, func(v *bundle.View) bool { return v.Prev.IsZero() }},
		{"repeats removed", func(s *sample) {
			s.blocks = []bundle.Block{ageBlock(5), prevBlock(addr.IPN(4, 0)), ageBlock(9), hopBlock(4, 1), hopBlock(4, 1), prevBlock(self)}
		}, Transit{Prev: self, Elapsed: time.Millisecond}, func(v *bundle.View) bool {
			return v.Repeats == 0 && len(v.Blocks) == 4 && v.Age == 6*time.Millisecond && v.HopCount == 2 && v.Prev == self
		}},
		{"age without a clock", func(s *sample) { s.blocks = []bundle.Block{ageBlock(5)} }, Transit{Elapsed: -time.Hour}, func(v *bundle.View) bool { return v.Age == 5*time.Millisecond }},
		{
			"age beyond counting", func(s *sample) {
				s.primary.Lifetime, s.blocks = math.MaxUint64, []bundle.Block{ageBlock(math.MaxUint64)}
			},
			Transit{Elapsed: time.Hour},
			func(v *bundle.View) bool { return v.Age > 292*365*24*time.Hour },
		},
		{
			"long name", func(*sample) {},
			Transit{Prev: addr.NodeEID(addr.MustNode(strings.Repeat("n", addr.MaxName)), "node")},
			func(v *bundle.View) bool { return v.Prev.Scheme() == addr.SchemeDTN },
		},
		{"the mesh block of others may ask to be discarded", func(s *sample) {
			s.blocks = []bundle.Block{{Type: bundle.TypeMesh, Flags: bundle.BlockDiscard, Data: []byte("x")}}
		}, Transit{}, func(v *bundle.View) bool { return len(v.Blocks) == 2 }},
	}
	for _, tt := range tests {
		s := good()
		tt.change(&s)
		v := s.view(t)
		parts, f := Forward(v, tt.t)
		if f != 0 {
			t.Errorf("%s: refused: %s", tt.name, f)
			continue
		}
		w := reparse(t, parts)
		if !tt.want(w) || w.Primary != v.Primary || !bytes.Equal(w.PrimaryRaw, v.PrimaryRaw) || !bytes.Equal(w.Payload.Raw, v.Payload.Raw) {
			t.Errorf("%s: %+v", tt.name, w)
		}
	}
}

func TestForwardRefused(t *testing.T) {
	tests := []struct {
		name    string
		block   bundle.Block
		elapsed time.Duration
		want    Faults
	}{
		{"hops used up", hopBlock(5, 5), 0, HopLimit},
		{"one hop left", hopBlock(5, 4), 0, 0},
		{"died here", ageBlock(3_599_000), 1001 * time.Millisecond, Expired},
		{"just alive", ageBlock(3_599_000), time.Second, 0},
		{"deadly block", bundle.Block{Type: 200, Flags: bundle.BlockDeleteBundle | bundle.BlockDiscard}, 0, Unsupported},
	}
	for _, tt := range tests {
		s := good()
		s.blocks = []bundle.Block{tt.block}
		parts, f := Forward(s.view(t), Transit{Prev: self, Elapsed: tt.elapsed})
		if f != tt.want || (parts == nil) != (f != 0) {
			t.Errorf("%s: %s, want %s", tt.name, f, tt.want)
		}
	}
}

// TestForwardFull forwards bundles with as many blocks as are accepted.
func TestForwardFull(t *testing.T) {
	s := good()
	for range bundle.MaxBlocks - 5 {
		s.blocks = append(s.blocks, bundle.Block{Type: 200})
	}
	parts, f := Forward(s.view(t), Transit{Prev: self})
	if f != 0 {
		t.Fatal(f)
	}
	if v := reparse(t, parts); v.Prev != self {
		t.Errorf("previous node %v", v.Prev)
	}
}

// FuzzForward decodes, forwards and decodes again.
func FuzzForward(f *testing.F) {
	for _, s := range []sample{good(), rich()} {
		f.Add(s.encode(), uint32(10), uint16(200))
	}
	frag := rich()
	frag.fragment(5, 20)
	f.Add(frag.encode(), uint32(1), uint16(190))
	f.Fuzz(func(t *testing.T, b []byte, elapsed uint32, most uint16) {
		v, err := bundle.Parse(b)
		if err != nil {
			return
		}
		DefaultPolicy().Check(&v, created)
		tr := Transit{Prev: self, Elapsed: time.Duration(elapsed) * time.Millisecond}
		parts, faults := Forward(&v, tr)
		if faults != 0 {
			return
		}
		w := reparse(t, parts)
		if w.Repeats != 0 || w.Prev != self || w.HasAge != v.HasAge || w.Age < v.Age || !bytes.Equal(w.Payload.Raw, v.Payload.Raw) || !bytes.Equal(w.PrimaryRaw, v.PrimaryRaw) {
			t.Fatalf("forwarded as %+v", w)
		}
		if v.HopLimit != 0 && (w.HopLimit != v.HopLimit || w.HopCount != v.HopCount+1) {
			t.Fatalf("hop %d of %d", w.HopCount, w.HopLimit)
		}
		pieces, faults, err := Fragment(&v, tr, int(most))
		if (err != nil) != (faults != 0) {
			t.Fatalf("%s, %v", faults, err)
		}
		for _, p := range pieces {
			if reparse(t, p); p.Len() > int(most) {
				t.Fatalf("a fragment of %d bytes, at most %d", p.Len(), most)
			}
		}
	})
}

func BenchmarkForward(b *testing.B) {
	s := rich()
	s.payload = string(make([]byte, 1<<10))
	v := s.view(b)
	tr := Transit{Prev: self, Elapsed: time.Second}
	b.ReportAllocs()
	for b.Loop() {
		if _, f := Forward(v, tr); f != 0 {
			b.Fatal(f)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	v, p := rich().view(b), DefaultPolicy()
	b.ReportAllocs()
	for b.Loop() {
		if got := p.Check(v, created); !got.OK() {
			b.Fatal(got.Found)
		}
	}
}
