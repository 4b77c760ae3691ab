package bpa

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func TestFragment(t *testing.T) {
	s := rich()
	s.payload = strings.Repeat("0123456789", 100)
	v := s.view(t)
	tr := Transit{Prev: self, Elapsed: time.Second}
	whole, _ := Forward(v, tr)
	if got, f, err := Fragment(v, tr, whole.Len()); err != nil || f != 0 || len(got) != 1 || !bytes.Equal(got[0].Join(), whole.Join()) {
		t.Errorf("what fits is divided: %d, %s, %v", len(got), f, err)
	}
	parts, f, err := Fragment(v, tr, 400)
	if err != nil || f != 0 || len(parts) < 3 {
		t.Fatalf("%d fragments, %s, %v", len(parts), f, err)
	}
	var data []byte
	for i, p := range parts {
		w := reparse(t, p)
		if p.Len() > 400 || w.Primary.FragOffset != uint64(len(data)) || w.Primary.TotalLen != 1000 || w.Primary.Flags != bundle.FlagFragment {
			t.Errorf("fragment %d: %d bytes, %+v", i, p.Len(), w.Primary)
		}
		if got := DefaultPolicy().Check(w, created); !got.OK() {
			t.Errorf("fragment %d: %s", i, got.Found)
		}
		if w.Prev != self || w.HopCount != 3 || w.Age != 2500*time.Millisecond {
			t.Errorf("fragment %d: hop %v %d %s", i, w.Prev, w.HopCount, w.Age)
		}
		var types []uint64
		for _, b := range w.Blocks {
			types = append(types, b.Type)
		}
		want := []uint64{200, 10, 6, 202, 7, 1}
		if i > 0 {
			want = want[1:] // block 200 does not ask for it
		}
		if !slices.Equal(types, want) {
			t.Errorf("fragment %d has blocks %d, want %d", i, types, want)
		}
		data = append(data, w.Payload.Data...)
	}
	if string(data) != s.payload {
		t.Error("the fragments hold another payload")
	}
}

// TestFragmentOfFragment divides a fragment again: offsets count from the start
// of the whole.
func TestFragmentOfFragment(t *testing.T) {
	s := good()
	s.payload = strings.Repeat("x", 500)
	s.fragment(250, 1000)
	parts, f, err := Fragment(s.view(t), Transit{}, 200)
	if err != nil || f != 0 {
		t.Fatal(f, err)
	}
	at := uint64(250)
	for _, p := range parts {
		w := reparse(t, p)
		if w.Primary.FragOffset != at || w.Primary.TotalLen != 1000 {
			t.Errorf("fragment at %d of %d, want %d", w.Primary.FragOffset, w.Primary.TotalLen, at)
		}
		at += uint64(len(w.Payload.Data))
	}
	if at != 750 {
		t.Errorf("the fragments end at %d", at)
	}
}

func TestNotDivided(t *testing.T) {
	tests := []struct {
		name   string
		most   int
		whole  bool
		change func(*sample)
	}{
		{"flag", 150, true, func(s *sample) { s.primary.Flags = bundle.FlagNoFragment }},
		{"no source", 150, true, func(s *sample) { s.primary.Source = addr.None }},
		{"no CRC", 150, true, func(s *sample) { s.primary.CRCType = bundle.CRCNone }},
		{"signed", 150, true, func(s *sample) { s.blocks = []bundle.Block{securityBlock(bundle.TypeIntegrity, 1)} }},
		{"encrypted", 150, true, func(s *sample) { s.blocks = []bundle.Block{securityBlock(bundle.TypeConfidentiality, 1)} }},
		{"no payload", 20, true, func(s *sample) { s.payload = "" }},
		{"one byte", 20, true, func(s *sample) { s.payload = "x" }},
		{"beyond the end", 150, true, func(s *sample) { s.fragment(900, 1000) }},
		{"no room for headers", 60, false, func(*sample) {}},
		{"negative limit", -1, false, func(*sample) {}},
	}
	for _, tt := range tests {
		s := good()
		s.payload = strings.Repeat("x", 500)
		tt.change(&s)
		parts, f, err := Fragment(s.view(t), Transit{}, tt.most)
		if parts != nil || f != TooLarge || errors.Is(err, ErrWhole) != tt.whole {
			t.Errorf("%s: %d fragments, %s, %v", tt.name, len(parts), f, err)
		}
	}
	s := good()
	s.payload = strings.Repeat("x", 16*MaxFragments)
	if _, f, err := Fragment(s.view(t), Transit{}, 71); f != TooLarge || err == nil {
		t.Errorf("too many fragments: %s, %v", f, err)
	}
	s.blocks = []bundle.Block{hopBlock(2, 2)}
	if _, f, err := Fragment(s.view(t), Transit{}, 100); f != HopLimit || err == nil {
		t.Errorf("hops used up: %s, %v", f, err)
	}
}

// TestDivideAndReassemble divides drawn bundles, some fragments a second time,
// adds them in a drawn order, some repeatedly, and wants the bundle back.
func TestDivideAndReassemble(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := good()
		if rapid.Bool().Draw(t, "rich") {
			s = rich()
			s.blocks = slices.Delete(s.blocks, 2, 3) // the one that Forward drops
		}
		s.primary.CRCType = rapid.SampledFrom([]bundle.CRCType{bundle.CRC16, bundle.CRC32C}).Draw(t, "crc")
		s.payload = string(rapid.SliceOfN(rapid.Byte(), 2, 2000).Draw(t, "payload"))
		s.plain = rapid.Bool().Draw(t, "plain")
		v, err := bundle.Parse(s.encode())
		if err != nil {
			t.Fatal(err)
		}
		tr := Transit{Prev: self}
		whole, _ := Forward(&v, tr)
		var all [][]byte
		divide := func(v *bundle.View, tr Transit, label string) {
			parts, f, err := Fragment(v, tr, rapid.IntRange(200, 1000).Draw(t, label))
			if err != nil {
				t.Fatal(f, err)
			}
			for _, p := range parts {
				all = append(all, p.Join())
			}
		}
		divide(&v, tr, "most")
		if len(all) == 1 {
			return
		}
		for _, b := range slices.Clone(all) {
			if rapid.Bool().Draw(t, "again") {
				w, _ := bundle.Parse(b)
				divide(&w, Transit{}, "most of again")
			}
		}
		got, at := addAll(t, rapid.Permutation(all).Draw(t, "order"))
		if got == nil {
			t.Fatalf("nothing whole of %d fragments", len(all))
		}
		w, err := bundle.Parse(got)
		if err != nil {
			t.Fatalf("%v in %x", err, got)
		}
		want, _ := bundle.Parse(whole.Join())
		if w.Primary != want.Primary || !bytes.Equal(w.PrimaryRaw, want.PrimaryRaw) || !bytes.Equal(w.Payload.Raw, want.Payload.Raw) {
			t.Fatalf("whole after %d: %+v, want %+v", at, w.Primary, want.Primary)
		}
	})
}

// addAll adds fragments until one completes the bundle.
func addAll(t *rapid.T, all [][]byte) (whole []byte, n int) {
	r, err := NewReassembler(ReassemblerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range all {
		v, err := bundle.Parse(slices.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		whole, ids, why := r.Add(uint64(i), &v, created)
		clear(v.Raw) // nothing of it may be needed
		if why != bundle.OK && why != bundle.Duplicate {
			t.Fatalf("fragment %d: %s", i, why)
		}
		if whole != nil {
			if s := r.Stats(); s.Bytes != 0 || s.Unfinished != 0 || s.Completed != 1 || len(ids) == 0 || s.Conflicts != 0 {
				t.Fatalf("whole of %d: %+v", ids, s)
			}
			return whole, i
		}
	}
	return nil, len(all)
}
