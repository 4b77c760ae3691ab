package spool

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

// TestSpool keeps spans of random sizes, written in pieces in any order, and
// reads them back, with others freed in between.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	f := New(dir, 8<<20)
	defer f.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	src := rand.NewChaCha8([32]byte{1})
	type kept struct {
		span Span
		want []byte
	}
	var all []kept
	for range 2000 {
		if len(all) > 0 && (rnd.IntN(2) == 0 || len(all) > 20) {
			i := rnd.IntN(len(all))
			got := make([]byte, len(all[i].want))
			if err := f.Read(all[i].span, got); err != nil || !bytes.Equal(got, all[i].want) {
				t.Fatalf("read back: %v, the same: %v", err, bytes.Equal(got, all[i].want))
			}
			f.Free(all[i].span)
			all = append(all[:i], all[i+1:]...)
			continue
		}
		k := kept{want: make([]byte, 1+rnd.IntN(3*unit))}
		_, _ = src.Read(k.want)
		var err error
		if k.span, err = f.Take(len(k.want)); err != nil {
			t.Fatal(err)
		}
		cut := rnd.IntN(len(k.want))
		if err := errors.Join(f.Write(k.span, cut, k.want[cut:]), f.Write(k.span, 0, k.want[:cut])); err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	for _, k := range all {
		f.Free(k.span)
	}
	if f.Used() != 0 || f.Peak() == 0 || f.units != 0 {
		t.Errorf("%d bytes in use after all were freed, %d at most, %d units", f.Used(), f.Peak(), f.units)
	}
	if info, err := f.file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("the file has a name: %v, %v", names, err)
	}
}

func TestBounds(t *testing.T) {
	f := New(t.TempDir(), 2*unit)
	defer f.Close()
	s, err := f.Take(unit + 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Take(1); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := f.Write(s, unit, []byte{1, 2}); err == nil {
		t.Error("wrote beyond a span")
	}
	if err := f.Write(s, -1, []byte{1}); err == nil {
		t.Error("wrote before a span")
	}
	if _, err := New(t.TempDir()+"/none", unit).Take(1); err == nil {
		t.Error("a directory that is not there was found")
	}
}
