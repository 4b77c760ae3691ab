package bpa

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func newReassembler(t testing.TB, c ReassemblerConfig) *Reassembler {
	t.Helper()
	r, err := NewReassembler(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// frag is a fragment of bundle seq at offset of total.
func frag(t testing.TB, seq, offset, total uint64, data string) *bundle.View {
	t.Helper()
	s := good()
	s.primary.Created.Seq, s.payload = seq, data
	s.fragment(offset, total)
	return s.view(t)
}

func TestReassemblerSteps(t *testing.T) {
	r := newReassembler(t, ReassemblerConfig{})
	key, _ := bundle.KeyOf(frag(t, 1, 0, 10, "x"))
	steps := []struct {
		name    string
		v       *bundle.View
		why     bundle.Reason
		missing []Extent
	}{
		{"the middle", frag(t, 1, 4, 10, "456"), bundle.OK, []Extent{{0, 4}, {7, 10}}},
		{"the same again", frag(t, 1, 4, 10, "456"), bundle.Duplicate, []Extent{{0, 4}, {7, 10}}},
		{"part of it", frag(t, 1, 5, 10, "5"), bundle.Duplicate, []Extent{{0, 4}, {7, 10}}},
		{"other bytes there", frag(t, 1, 5, 10, "X"), bundle.Duplicate, []Extent{{0, 4}, {7, 10}}},
		{"another total", frag(t, 1, 7, 11, "789a"), bundle.Malformed, []Extent{{0, 4}, {7, 10}}},
		{"not a fragment", good().view(t), bundle.Malformed, []Extent{{0, 4}, {7, 10}}},
		{"overlapping on both sides", frag(t, 1, 3, 10, "3YYY7"), bundle.OK, []Extent{{0, 3}, {8, 10}}},
		{"the end", frag(t, 1, 8, 10, "89"), bundle.OK, []Extent{{0, 3}}},
		{"another bundle", frag(t, 2, 0, 10, "0"), bundle.OK, []Extent{{0, 3}}},
	}
	for i, s := range steps {
		whole, _, why := r.Add(uint64(i), s.v, created)
		if why != s.why || whole != nil || !slices.Equal(r.Missing(key), s.missing) {
			t.Errorf("%s: %s, missing %v, want %s, %v", s.name, why, r.Missing(key), s.why, s.missing)
		}
	}
	whole, ids, why := r.Add(99, frag(t, 1, 0, 10, "012"), created)
	v, err := bundle.Parse(whole)
	if why != bundle.OK || err != nil || string(v.Payload.Data) != "0123456789" || !slices.Equal(ids, []uint64{0, 6, 7, 99}) {
		t.Fatalf("%s, ids %d, %v, %q", why, ids, err, v.Payload.Data)
	}
	s := good()
	s.primary.Created.Seq = 1
	if string(whole) != string(s.encode()) || r.Missing(key) != nil {
		t.Errorf("reassembled as\n%x, want\n%x", whole, s.encode())
	}
	got, want := r.Stats(), ReassemblerStats{Completed: 1, Repeats: 3, Conflicts: 2, Refused: 2, Unfinished: 1}
	if want.Bytes = got.Bytes; got != want || got.Bytes == 0 {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestReassemblerLimits(t *testing.T) {
	r := newReassembler(t, ReassemblerConfig{Bytes: 2000, Whole: 1000, Bundles: 3, Pieces: 4})
	add := func(name string, v *bundle.View, want bundle.Reason) {
		t.Helper()
		if _, _, why := r.Add(1, v, created); why != want {
			t.Errorf("%s: %s, want %s", name, why, want)
		}
		if s := r.Stats(); s.Bytes > 2000 || s.Unfinished > 3 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	add("a lie about the total", frag(t, 1, 0, 1<<62, "x"), bundle.TooLarge)
	add("first", frag(t, 1, 0, 1000, "x"), bundle.OK)
	add("second", frag(t, 2, 0, 1000, "x"), bundle.OK)
	add("third", frag(t, 3, 0, 1000, "x"), bundle.OK)
	add("one too many", frag(t, 4, 0, 1000, "x"), bundle.StoreFull)
	for i := range uint64(3) {
		add("piece", frag(t, 1, 10+2*i, 1000, "x"), bundle.OK)
	}
	add("a piece too many", frag(t, 1, 100, 1000, "x"), bundle.StoreFull)
	add("bytes", frag(t, 2, 1, 1000, strings.Repeat("x", 990)), bundle.OK)
	add("too many bytes", frag(t, 3, 1, 1000, strings.Repeat("x", 990)), bundle.StoreFull)
	if got := r.Expire(created.Add(time.Hour)); len(got) != 3 || r.Stats().Bytes != 0 || r.Stats().Unfinished != 0 || r.Stats().Expired != 3 {
		t.Errorf("expired %v, then %+v", got, r.Stats())
	}
	for _, bad := range []ReassemblerConfig{{Bytes: -1}, {Whole: -1}, {Bundles: -1}, {Pieces: -1}, {Wait: -1}} {
		if _, err := NewReassembler(bad); err == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func TestReassemblerExpires(t *testing.T) {
	r := newReassembler(t, ReassemblerConfig{Wait: 10 * time.Minute})
	if _, ok := r.Wake(); ok || len(r.Expire(created)) > 0 {
		t.Error("an empty reassembler has something to do")
	}
	old := good() // with ten seconds to live
	old.primary.Created.Seq, old.blocks = 1, []bundle.Block{ageBlock(3_590_000)}
	old.fragment(0, 100)
	r.Add(11, old.view(t), created)
	r.Add(12, frag(t, 2, 0, 100, "x"), created) // waits for Wait
	r.Add(13, frag(t, 2, 50, 100, "x"), created.Add(9*time.Minute))
	dead := good()
	dead.primary.Created.Seq, dead.primary.Lifetime = 3, 0
	dead.fragment(0, 100)
	r.Add(14, dead.view(t), created)
	for _, want := range []struct {
		after time.Duration
		seq   uint64
		ids   []uint64
	}{{0, 3, []uint64{14}}, {10 * time.Second, 1, []uint64{11}}, {19 * time.Minute, 2, []uint64{12, 13}}} {
		at := created.Add(want.after)
		if wake, ok := r.Wake(); !ok || !wake.Equal(at) {
			t.Errorf("wakes at %s, want %s", wake.Sub(created), want.after)
		}
		if early := r.Expire(at.Add(-1)); len(early) != 0 {
			t.Errorf("expired early: %v", early)
		}
		got := r.Expire(at)
		if len(got) != 1 || got[0].Key.Created.Seq != want.seq || !slices.Equal(got[0].IDs, want.ids) {
			t.Errorf("after %s expired %+v, want bundle %d", want.after, got, want.seq)
		}
	}
	if s := r.Stats(); s.Expired != 3 || s.Bytes != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestReassemblerIdentity keeps bundles apart that only look alike, and joins
// those of one source written in two ways.
func TestReassemblerIdentity(t *testing.T) {
	r := newReassembler(t, ReassemblerConfig{})
	other := good()
	other.primary.Source = addr.IPN(9, 1)
	other.payload = "56789"
	other.fragment(5, 10)
	anonymous := other
	anonymous.primary.Source = addr.None
	if _, _, why := r.Add(1, frag(t, 7, 0, 10, "01234"), created); why != bundle.OK {
		t.Fatal(why)
	}
	if whole, _, _ := r.Add(2, other.view(t), created); whole != nil {
		t.Error("fragments of two sources were joined")
	}
	if _, _, why := r.Add(3, anonymous.view(t), created); why != bundle.Malformed {
		t.Errorf("a fragment of nobody: %s", why)
	}
	if whole, _, _ := r.Add(4, frag(t, 7, 5, 10, "56789"), created); whole == nil {
		t.Error("not joined")
	}
}

// FuzzReassembler adds fragments as bytes tell, and checks limits and content
// against a plain array.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 4, 12})
	f.Add([]byte{1, 8, 8, 1, 0, 9, 1, 4, 4})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const total = 16
		c := ReassemblerConfig{Bytes: 4000, Bundles: 4, Pieces: 8, Wait: time.Minute}
		r := newReassembler(t, c)
		now := created
		for id := uint64(0); len(ops) >= 3; id++ {
			seq, at, n := uint64(ops[0]%6), uint64(ops[1]%total), uint64(ops[2])
			if ops = ops[3:]; n > 200 {
				now = now.Add(time.Duration(n) * time.Second)
				r.Expire(now)
				continue
			}
			n = 1 + n%(total-at)
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(at) + byte(i) + byte(seq)
			}
			whole, ids, why := r.Add(id, frag(t, seq, at, total, string(data)), now)
			if s := r.Stats(); s.Bytes > c.Bytes || s.Bytes < 0 || s.Unfinished > c.Bundles || s.Conflicts != 0 || (s.Unfinished == 0) != (s.Bytes == 0) {
				t.Fatalf("%+v", s)
			}
			if whole == nil {
				continue
			}
			v, err := bundle.Parse(whole)
			if err != nil || why != bundle.OK || len(ids) > c.Pieces || !slices.Contains(ids, id) || len(v.Payload.Data) != total {
				t.Fatalf("%v, %s, %d", err, why, ids)
			}
			for i, b := range v.Payload.Data {
				if b != byte(i)+byte(seq) {
					t.Fatalf("byte %d of %x", i, v.Payload.Data)
				}
			}
		}
	})
}

func BenchmarkReassemble(b *testing.B) {
	const n = 64
	var all []*bundle.View
	for i := range uint64(n) {
		all = append(all, frag(b, 1, i*1024, n*1024, string(binary.AppendUvarint(make([]byte, 1023), 1))))
	}
	b.ReportAllocs()
	for b.Loop() {
		r := newReassembler(b, ReassemblerConfig{})
		for i, v := range all {
			if whole, _, _ := r.Add(uint64(i), v, created); (whole != nil) != (i == n-1) {
				b.Fatal(i)
			}
		}
	}
}
