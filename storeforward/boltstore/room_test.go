package boltstore_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/store"
)

// Who keeps to the room that is told is never refused, and as messages end
// there is room again.
func TestRoomIsKept(t *testing.T) {
	for name, size := range map[string]int{"small": 20, "page": 4000, "large": 100_000} {
		t.Run(name, func(t *testing.T) { keepRoom(t, size) })
	}
}

func keepRoom(t *testing.T, size int) {
	var limit atomic.Int64
	f, rng := newFates(), rand.New(rand.NewPCG(1, 9))
	s := open(t, boltstore.Config{Dir: fastDir(t), MaxBytes: 8 << 20, Strict: true, Done: f.done, Room: limit.Store})
	if limit.Load() == 0 {
		t.Fatal("nothing was told when it opened")
	}
	var kept []store.Drop
	spent, seq, lsn := int64(0), uint64(0), 0
	send := func(b *store.Batch) {
		lsn++
		b.LSN = store.LSN(lsn)
		spent += b.Cost()
		s.Append(b)
	}
	for round := range 3 {
		stored := 0
		for {
			b := &store.Batch{Sets: []store.Set{{Key: "numbers", Value: make([]byte, 20)}}}
			for n := 1 + rng.IntN(10); len(b.Puts) < n; {
				b.Puts = append(b.Puts, put(seq+uint64(len(b.Puts))+1, 1+rng.IntN(size)))
			}
			if spent+b.Cost() > limit.Load() {
				break
			}
			seq += uint64(len(b.Puts))
			for _, p := range b.Puts {
				kept = append(kept, store.Drop{Queue: queue, Seq: p.Header.Seq, Size: p.Header.Size})
			}
			stored++
			send(b)
		}
		if stored == 0 {
			t.Errorf("round %d: there is no room", round)
		}
		send(&store.Batch{Drops: kept})
		kept = nil
		for i := range lsn {
			if err := f.wait(i + 1); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		// The room after the drops is told behind their fate.
		send(&store.Batch{Sets: []store.Set{{Key: "more", Value: []byte("1")}}})
		if err := f.wait(lsn); err != nil {
			t.Fatal(err)
		}
	}
}
