package seqset_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/storeforward/seqset"
)

// members reads a whole set in small steps.
func members(s *seqset.Set) (out []uint64) {
	if first, ok := s.First(); ok && first == 0 {
		out = append(out, 0) // After cannot name what is before it
	}
	last := uint64(0)
	for {
		n := len(out)
		if out = s.After(last, 1000, out); len(out) == n {
			return out
		}
		last = out[len(out)-1]
	}
}

// saved is what a checkpoint would hold.
type saved map[uint64][]byte

func (c saved) take(s *seqset.Set) {
	for _, base := range s.Vanished() {
		delete(c, base)
	}
	s.ClearVanished()
	s.Containers(func(base uint64, dirty bool) {
		if dirty {
			c[base] = s.AppendContainer(nil, base)
			s.Clean(base)
		}
	})
}

func (c saved) load() (*seqset.Set, error) {
	var s seqset.Set
	for base, data := range c {
		if err := s.LoadContainer(base, data); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

// model is a set that is right by reading.
type model struct {
	set   seqset.Set
	want  map[uint64]bool
	saved saved
}

func (m *model) sorted() []uint64 { return slices.Sorted(maps.Keys(m.want)) }

func (m *model) change(t *rapid.T, seq uint64, add bool) {
	had := m.want[seq]
	if m.set.Has(seq) != had {
		t.Fatalf("Has(%d) is %v", seq, !had)
	}
	if add {
		if m.set.Add(seq) == had {
			t.Fatalf("Add(%d) says %v", seq, had)
		}
		m.want[seq] = true
	} else {
		if m.set.Remove(seq) != had {
			t.Fatalf("Remove(%d) says %v", seq, !had)
		}
		delete(m.want, seq)
	}
}

// stretch changes many numbers in one of the shapes that queues have.
func (m *model) stretch(t *rapid.T, add bool) {
	start := rapid.SampledFrom([]uint64{0, 1, 5, 65_000, 65_536, 131_000, 1 << 40, math.MaxUint64 - 70_000}).Draw(t, "start")
	start += rapid.Uint64Range(0, 3000).Draw(t, "shift")
	step := rapid.SampledFrom([]uint64{1, 1, 2, 3, 100, 2500, 70_000}).Draw(t, "step")
	n := rapid.SampledFrom([]int{1, 3, 40, 600, 6000}).Draw(t, "n")
	down := rapid.Bool().Draw(t, "down")
	for i := range uint64(n) {
		if down {
			i = uint64(n) - 1 - i
		}
		if seq := start + i*step; seq >= start {
			m.change(t, seq, add)
		}
	}
}

func (m *model) check(t *rapid.T) {
	want := m.sorted()
	if got := members(&m.set); !slices.Equal(got, want) || m.set.Len() != len(want) {
		t.Fatalf("%d members, Len says %d, want %d", len(got), m.set.Len(), len(want))
	}
	first, ok := m.set.First()
	if ok != (len(want) > 0) || ok && first != want[0] {
		t.Fatalf("First is %d, %v", first, ok)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{want: map[uint64]bool{}, saved: saved{}}
		t.Repeat(map[string]func(*rapid.T){
			"add":    func(t *rapid.T) { m.stretch(t, true) },
			"remove": func(t *rapid.T) { m.stretch(t, false) },
			"drain": func(t *rapid.T) {
				for range rapid.IntRange(1, 2000).Draw(t, "n") {
					if first, ok := m.set.First(); ok {
						m.change(t, first, false)
					}
				}
			},
			"after": func(t *rapid.T) {
				want := m.sorted()
				seq := rapid.SampledFrom(append(want, 0, 70_000, math.MaxUint64)).Draw(t, "after")
				n := rapid.IntRange(-1, 3000).Draw(t, "n")
				i, found := slices.BinarySearch(want, seq)
				if found {
					i++
				}
				rest := want[i:]
				got := m.set.After(seq, n, []uint64{9})
				if !slices.Equal(got[1:], rest[:min(len(rest), max(n, 0))]) || got[0] != 9 {
					t.Fatalf("After(%d, %d): %d members", seq, n, len(got)-1)
				}
			},
			"save": func(t *rapid.T) { m.saved.take(&m.set) },
			"check": func(t *rapid.T) {
				m.check(t)
				m.saved.take(&m.set)
				again, err := m.saved.load()
				if err != nil {
					t.Fatal(err)
				}
				if got := members(again); !slices.Equal(got, m.sorted()) || again.Len() != len(got) {
					t.Fatalf("%d members from the checkpoint, want %d", len(got), len(m.want))
				}
			},
			"reload": func(t *rapid.T) {
				m.saved.take(&m.set)
				again, err := m.saved.load()
				if err != nil {
					t.Fatal(err)
				}
				m.set = *again
			},
		})
		m.check(t)
	})
}

// Only what changed is dirty, and what was never saved does not vanish.
func TestDirty(t *testing.T) {
	const far = 1 << 22 // numbers that never share a container
	var s seqset.Set
	for seq := range uint64(4) {
		s.Add(seq * far)
	}
	c := saved{}
	c.take(&s)
	s.Remove(far)
	s.Add(2*far + 1)
	s.Add(7 * far)
	s.Remove(7 * far)
	s.Remove(3 * far)
	s.Add(3*far + 5)
	var dirty []uint64
	s.Containers(func(base uint64, d bool) {
		if d {
			dirty = append(dirty, base/far)
		}
	})
	if !slices.Equal(dirty, []uint64{2, 3}) || !slices.Equal(s.Vanished(), []uint64{far}) {
		t.Errorf("dirty %v, vanished %v", dirty, s.Vanished())
	}
	if b := s.AppendContainer([]byte("x"), 99*far); string(b) != "x" {
		t.Errorf("a container from nowhere: %q", b)
	}
	s.Remove(3*far + 5)
	if !slices.Equal(s.Vanished(), []uint64{far, 3 * far}) {
		t.Errorf("vanished %v, though the container stands in the checkpoint", s.Vanished())
	}
}

// A bad container leaves the set as it was.
func TestLoadRefuses(t *testing.T) {
	var s seqset.Set
	s.Add(5)
	for name, data := range map[string][]byte{
		"empty": {}, "no members": {0}, "kind": {4, 1}, "cut number": {0, 0x80}, "far": {0, 0x80, 0x80, 0x04},
		"half a run": {1, 1}, "touching runs": {1, 0, 0, 0, 0}, "short bitmap": append([]byte{2}, make([]byte, 100)...),
		"far in a sparse one": {3, 0x80, 0x80, 0x80, 0x80, 1},
		"empty bitmap":        append([]byte{2}, make([]byte, 8192)...), "too many": make([]byte, 4200),
	} {
		if err := s.LoadContainer(0, data); !errors.Is(err, seqset.ErrContainer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.LoadContainer(1, []byte{0, 1}); !errors.Is(err, seqset.ErrContainer) {
		t.Errorf("a base in the middle: %v", err)
	}
	if err := s.LoadContainer(seqset.Width, []byte{3, 1}); !errors.Is(err, seqset.ErrContainer) {
		t.Errorf("a sparse container off its place: %v", err)
	}
	if err := s.LoadContainer(seqset.Width, []byte{0, 1}); !errors.Is(err, seqset.ErrContainer) {
		t.Errorf("a container within a sparse one: %v", err)
	}
	if !slices.Equal(members(&s), []uint64{5}) || s.Len() != 1 {
		t.Error("the set changed")
	}
}

func FuzzLoadContainer(f *testing.F) {
	for _, step := range []uint64{1, 2, 3, 100, 10_000} {
		var s seqset.Set
		for seq := uint64(7); seq < max(seqset.Width, 20*step); seq += step {
			s.Add(seq)
		}
		f.Add(s.AppendContainer(nil, 0))
		s.Remove(7 + step*3)
		f.Add(s.AppendContainer(nil, 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s, again seqset.Set
		if s.LoadContainer(1<<22, data) != nil {
			if s.Len() != 0 {
				t.Fatal("a refused container left members")
			}
			return
		}
		all := members(&s)
		if len(all) != s.Len() || len(all) == 0 || !slices.IsSorted(all) || len(slices.Compact(all)) != s.Len() {
			t.Fatalf("%d members, Len %d", len(all), s.Len())
		}
		if err := again.LoadContainer(1<<22, s.AppendContainer(nil, 1<<22)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(members(&again), all) {
			t.Fatal("the members changed on their way")
		}
		for i, seq := range all {
			if i%2 == 0 && !s.Remove(seq) || !again.Remove(seq) {
				t.Fatalf("member %d is not there", seq)
			}
		}
		if again.Len() != 0 || s.Len() != len(all)/2 {
			t.Fatalf("%d and %d left", again.Len(), s.Len())
		}
	})
}

// fill gives n numbers to the sets in the way that is asked for.
func fill(sets []seqset.Set, n int, pick func(i int) int) {
	for i := range n {
		sets[pick(i)].Add(uint64(i) + 1)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Ten million numbers stay within the memory that the engine has for them.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		sets int
		n    int // members
		pick func(*rand.Rand, int) int
		most float64 // bytes a member
	}{
		"one":              {1, 1e6, func(*rand.Rand, int) int { return 0 }, 0.1},
		"two in turn":      {2, 1e6, func(_ *rand.Rand, i int) int { return i % 2 }, 0.4},
		"100 in turn":      {100, 1e7, func(_ *rand.Rand, i int) int { return i % 100 }, 2.5},
		"100 at random":    {100, 1e6, func(r *rand.Rand, _ int) int { return r.IntN(100) }, 2.5},
		"100 in bursts":    {100, 1e6, func(_ *rand.Rand, i int) int { return i / 10 % 100 }, 1},
		"10,000 at random": {10_000, 2e6, func(r *rand.Rand, _ int) int { return r.IntN(10_000) }, 6},
		"10,000 in bursts": {10_000, 2e6, func(_ *rand.Rand, i int) int { return i / 100 % 10_000 }, 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			before := heap()
			sets := make([]seqset.Set, c.sets)
			fill(sets, c.n, func(i int) int { return c.pick(r, i) })
			used := float64(heap()-before) / float64(c.n)
			t.Logf("%.2f bytes a member", used)
			if used > c.most {
				t.Errorf("%.2f bytes a member, want at most %.2f", used, c.most)
			}
			runtime.KeepAlive(sets)
		})
	}
}

// What is drained is given back, also when a few members stay everywhere.
func TestMemoryAfterDrain(t *testing.T) {
	const n = 1_000_000
	before := heap()
	sets := make([]seqset.Set, 20)
	fill(sets, n, func(i int) int { return i % 20 })
	full := heap() - before
	for i := range n {
		if i%1000 != 999 {
			sets[i%20].Remove(uint64(i) + 1)
		}
	}
	left := heap() - before
	t.Logf("%d KiB, then %d KiB", full>>10, left>>10)
	if left > full/20 {
		t.Errorf("%d of %d bytes stay for a thousandth of the members", left, full)
	}
	runtime.KeepAlive(sets)
}

func BenchmarkAddRemove(b *testing.B) {
	for _, queues := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			sets := make([]seqset.Set, queues)
			const backlog = 1_000_000
			fill(sets, backlog, func(i int) int { return i % queues })
			i := backlog
			b.ReportAllocs()
			for b.Loop() {
				sets[i%queues].Add(uint64(i) + 1)
				old := i - backlog
				sets[old%queues].Remove(uint64(old) + 1)
				i++
			}
		})
	}
}

func BenchmarkAfter(b *testing.B) {
	for _, step := range []uint64{1, 3, 100} {
		b.Run(fmt.Sprintf("step=%d", step), func(b *testing.B) {
			var s seqset.Set
			for i := range uint64(1_000_000) {
				s.Add(i * step)
			}
			into := make([]uint64, 0, 256)
			at := uint64(0)
			for b.Loop() {
				if into = s.After(at, 256, into[:0]); len(into) == 0 {
					at = 0
				} else {
					at = into[len(into)-1]
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	var s seqset.Set
	for i := range uint64(10_000_000) {
		if i%100 == 0 {
			s.Add(i)
		}
	}
	c := saved{}
	c.take(&s)
	n := 0
	for _, data := range c {
		n += len(data)
	}
	b.ReportMetric(float64(n)/float64(s.Len()), "B/member")
	for b.Loop() {
		if _, err := c.load(); err != nil {
			b.Fatal(err)
		}
	}
}
