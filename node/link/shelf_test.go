package link

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
)

// shelved is a block of one transfer that can be made again, and how often its
// payload was read.
func shelved(xid uint64, n int) (b *block, want []byte, reads *int) {
	frozen, payload, hop := large(n)
	reads = new(int)
	t := &stored{class: bundle.Bulk, xid: xid, frozen: frozen, hop: hop, payload: func() ([]byte, error) { *reads++; return payload, nil }}
	want = t.append(nil, 0, payload)
	return &block{length: len(want), data: bytes.Clone(want), from: []origin{{len(want), t, 0}}}, want, reads
}

// readAll reads a block in symbols.
func readAll(b *block) ([]byte, error) {
	all := make([]byte, b.length)
	for at := 0; at < len(all); at += 1200 {
		if _, err := b.ReadAt(all[at:min(at+1200, len(all))], int64(at)); err != nil {
			return nil, fmt.Errorf("at byte %d: %w", at, err)
		}
	}
	return all, nil
}

// TestShelf: blocks that were sent make room for others and are made again; no
// more than the bound is in memory at any time, and nothing of it stays behind.
func TestShelf(t *testing.T) {
	const n, most = 20_000, 100_000
	s := &shelf{most: most, ahead: 45_000, spare: n}
	var all []*block
	var want [][]byte
	var reads []*int
	for xid := range uint64(20) {
		b, bytes, count := shelved(xid+1, n)
		if !s.fits(b.length, b.stays()) {
			t.Fatalf("no room for block %d after %d were sent", xid+1, len(all))
		}
		s.add(b)
		all, want, reads = append(all, b), append(want, bytes), append(reads, count)
		if _, err := readAll(b); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for i, b := range all {
			if got, err := readAll(b); err != nil || !bytes.Equal(got, want[i]) {
				t.Fatalf("block %d: %v, the same bytes: %v", i+1, err, bytes.Equal(got, want[i]))
			}
		}
	}
	if *reads[0] != 2 {
		t.Errorf("the payload of the first block was read %d times for two rounds of repair", *reads[0])
	}
	if used, peak, _ := s.stats(); peak > most || used > most {
		t.Errorf("%d bytes in memory, at most %d, the bound is %d", used, peak, most)
	}
	for _, b := range all {
		s.drop(b)
		s.drop(b)
	}
	if used, _, _ := s.stats(); used != 0 || s.kept != 0 || s.unsent != 0 || s.sent.Len() != 0 {
		t.Errorf("%d bytes in use after all were dropped, %d kept, %d unsent, %d sent", used, s.kept, s.unsent, s.sent.Len())
	}
}

// TestShelfBounds: what was not sent yet, and what nothing can make again, is
// never put away; what nobody has custody of is lost when room is short.
func TestShelfBounds(t *testing.T) {
	s := &shelf{most: 100, ahead: 40, spare: 10}
	kept, loose := &block{length: 30, data: make([]byte, 30)}, &block{length: 30, data: make([]byte, 30), loose: true}
	s.add(kept)
	s.add(loose)
	if s.fits(11, false) || !s.fits(10, false) || s.fits(31, true) || !s.fits(30, true) {
		t.Error("the bounds do not hold")
	}
	for _, b := range []*block{kept, loose} {
		if _, err := readAll(b); err != nil {
			t.Fatal(err)
		}
	}
	s.add(&block{length: 50, data: make([]byte, 50)})
	if _, err := readAll(kept); err != nil {
		t.Errorf("what cannot be made again: %v", err)
	}
	if _, err := readAll(loose); !errors.Is(err, errPutAway) {
		t.Errorf("what has no custody and was put away: %v", err)
	}
	gone, _, _ := shelved(1, 10)
	gone.data, gone.from[0].of.payload = nil, func() ([]byte, error) { return nil, ErrGone }
	s.add(gone)
	if _, err := readAll(gone); !errors.Is(err, ErrGone) {
		t.Errorf("after the end of custody: %v", err)
	}
	other, _, _ := shelved(2, 10)
	other.data, other.from[0].of.payload = nil, func() ([]byte, error) { return []byte("another length"), nil }
	s.add(other)
	if _, err := readAll(other); err == nil || !strings.Contains(err.Error(), "not as long as it was") {
		t.Errorf("a payload that is not what it was: %v", err)
	}
}
