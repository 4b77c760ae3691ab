package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func sampleHeader() *store.Header {
	return &store.Header{
		Seq: 7, Message: bundle.ID{Node: addr.MustNode("a"), Seq: 9}, Origin: addr.MustNode("b"), Class: bundle.Bulk,
		Hops: 3, QoS: 2, Retain: true, Topic: "x/y", Service: "mqtt", Received: -1, Expires: math.MaxInt64, Size: 1 << 31,
		Entries: []store.Entry{
			{Queue: store.Queue{Kind: store.ToNode, Name: "n", Class: bundle.Alarm}, Bundle: math.MaxUint64, Frozen: []byte{}},
			{Queue: store.Queue{Kind: store.ToOrder}, DSeq: 1 << 63, QoS: 1, State: store.Received, Frozen: []byte("frozen")},
		},
	}
}

// encode is appendHeader of a header all of whose entries are alive.
func encode(h *store.Header, payload bool) []byte {
	slots := make([]slot, len(h.Entries))
	for i, e := range h.Entries {
		slots[i].state = e.State
	}
	return appendHeader(nil, h, h.Entries, slots, payload)
}

func TestHeaderRoundTrip(t *testing.T) {
	for _, payload := range []bool{true, false} {
		h := sampleHeader()
		b := encode(h, payload)
		got, p, err := decodeHeader(7, b)
		if err != nil || p != payload || !reflect.DeepEqual(got, h) {
			t.Fatalf("got %+v, %v, %v\nwant %+v", got, p, err, h)
		}
		if room := headerRoom(h, h.Entries); len(b) > room {
			t.Errorf("%d bytes, estimated at most %d", len(b), room)
		}
		for n := range b {
			if _, _, err := decodeHeader(7, b[:n]); err == nil {
				t.Errorf("a header cut to %d of %d bytes was accepted", n, len(b))
			}
		}
		if _, _, err := decodeHeader(7, append(b, 0)); !errors.Is(err, errTrailing) {
			t.Errorf("a byte too many: %v", err)
		}
	}
}

// A decoder accepts only what the encoder writes: no panic, no huge
// allocation, one form per value.
func FuzzHeader(f *testing.F) {
	f.Add(encode(sampleHeader(), true))
	f.Add(encode(&store.Header{Entries: sampleHeader().Entries[:1]}, false))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := decodeHeader(1, b)
		if err != nil {
			return
		}
		if again := encode(h, payload); !bytes.Equal(again, b) {
			t.Errorf("%x decodes and encodes to %x", b, again)
		}
		if err := checkHeader(h); err != nil && !strings.Contains(err.Error(), "two entries") && !strings.Contains(err.Error(), "over") {
			t.Errorf("decoded what would be refused: %v", err)
		}
	})
}

func FuzzMarks(f *testing.F) {
	f.Add([]byte{5, 0b11100100, 1}, 5)
	f.Add([]byte{0}, 0)
	f.Add([]byte{1, 0xff}, 1)
	f.Fuzz(func(t *testing.T, b []byte, want int) {
		states, err := decodeMarks(b, want)
		if err != nil {
			return
		}
		slots := make([]slot, len(states))
		for i := range states {
			slots[i].state = states[i]
		}
		if again := appendMarks(nil, slots); len(states) != want || !bytes.Equal(again, b) {
			t.Errorf("%x decodes to %d states and encodes to %x", b, len(states), again)
		}
	})
}

func FuzzStateKey(f *testing.F) {
	f.Add("", "a")
	f.Add("a", "a\x00")
	f.Add("a\x00\x01", "a\x00\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		ka, kb := stateKey(a), stateKey(b)
		if got, err := parseStateKey(ka); err != nil || got != a {
			t.Errorf("key %q comes back as %q, %v", a, got, err)
		}
		if bytes.Compare(ka, kb) != strings.Compare(a, b) {
			t.Errorf("keys %q and %q change their order", a, b)
		}
		if a != b && bytes.HasPrefix(ka, kb) {
			t.Errorf("key %q starts with key %q", a, b)
		}
		if strings.HasPrefix(a, b) != bytes.HasPrefix(ka, statePrefix(b)) {
			t.Errorf("prefix %q of key %q", b, a)
		}
		if got, err := parseStateKey([]byte(a)); err == nil && !bytes.Equal(stateKey(got), []byte(a)) {
			t.Errorf("%x parses as %q", a, got)
		}
	})
}

// Values of every length around the piece borders come back, overwrite each
// other in any order and leave nothing behind.
func TestPieces(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	b, err := tx.CreateBucket([]byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	size := pieceLen(db.Info().PageSize, 8)
	left, base, right := seqKey(1), seqKey(2), seqKey(3)
	a := &arena{}
	for _, key := range [][]byte{left, right} {
		if err := putValue(b, a, key, []byte("neighbour"), true); err != nil {
			t.Fatal(err)
		}
	}
	lengths := []int{0, 1, size - 1, size, size + 1, 2 * size, 2*size + 1, 10 * size, 1 << 20}
	for i, n := range append(slices.Clone(lengths), 5*size, 0, size+1, 1) {
		want := bytes.Repeat([]byte{byte(i + 1)}, n)
		if err := putValue(b, a, base, want, i == 0); err != nil {
			t.Fatal(err)
		}
		got, err := getValue(b, base)
		if err != nil || got == nil || !bytes.Equal(got, want) {
			t.Fatalf("length %d: %d bytes, %v", n, len(got), err)
		}
		if keys := pieceKeys(b, base); len(keys) != max(1, (n+size-1)/size) {
			t.Fatalf("length %d: %d pieces", n, len(keys))
		}
		w := walk(b, nil)
		for seq := uint64(1); seq <= 3; seq++ {
			key, body, err := w.next()
			if err != nil || !bytes.Equal(key, seqKey(seq)) || seq == 2 && !bytes.Equal(body, want) {
				t.Fatalf("length %d: walk finds %x, %d bytes, %v", n, key, len(body), err)
			}
		}
	}
	if err := putValue(b, a, base, make([]byte, 3*size), false); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(pieceKey(base, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := getValue(b, base); !errors.Is(err, errPieces) {
		t.Errorf("a missing piece: %v", err)
	}
	if err := deleteValue(b, base); err != nil {
		t.Fatal(err)
	}
	if n := len(pieceKeys(b, base)); n != 0 || b.Inspect().KeyN != 2 {
		t.Errorf("%d pieces left, %d keys in all", n, b.Inspect().KeyN)
	}
}

// seqSet against a sorted slice.
func TestSeqSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, spread := range []uint64{2000, 1 << 20, 1 << 40} {
		var s seqSet
		want := map[uint64]uint32{}
		for range 6000 {
			seq := 1 + rnd.Uint64N(spread)
			if rnd.IntN(3) > 0 {
				s.add(seq, uint32(seq))
				want[seq] = uint32(seq)
			} else {
				_, had := want[seq]
				if s.remove(seq) != had {
					t.Fatalf("remove %d", seq)
				}
				delete(want, seq)
			}
		}
		sorted := make([]uint64, 0, len(want))
		total := int64(0)
		for seq, size := range want {
			sorted = append(sorted, seq)
			total += int64(size)
		}
		slices.Sort(sorted)
		if s.count != len(sorted) || s.bytes != total || s.first() != sorted[0] {
			t.Fatalf("count %d, bytes %d, first %d; want %d, %d, %d", s.count, s.bytes, s.first(), len(sorted), total, sorted[0])
		}
		for range 300 {
			after, n := rnd.Uint64N(spread+2), rnd.IntN(700)
			i, found := slices.BinarySearch(sorted, after)
			if found {
				i++
			}
			if got := s.after(after, n); !slices.Equal(got, sorted[i:min(len(sorted), i+n)]) {
				t.Fatalf("after %d: %v", after, got)
			}
		}
		for i, seq := range sorted { // drain as a queue does
			if s.first() != seq || !s.remove(seq) || s.count != len(sorted)-i-1 {
				t.Fatalf("drain at %d", seq)
			}
		}
		if len(s.chunks) != 0 || s.bytes != 0 {
			t.Errorf("%d chunks, %d bytes left", len(s.chunks), s.bytes)
		}
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(s.Path(), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		body := binary.AppendUvarint(appendString(nil, fileMagic), schema+1)
		return putValue(tx.Bucket(bucketFile), &arena{}, keyFile, append(body, "what comes next"...), false)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), s.Path()) {
		t.Errorf("%v, want ErrNewer naming the file", err)
	}
}
