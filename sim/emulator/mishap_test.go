package emulator

import (
	"bytes"
	"math"
	"math/bits"
	"slices"
	"testing"
	"time"
)

// TestBurstsFollowTheFormula holds a long run against Profile.Burst: the share
// lost is Loss, the mean of losses in a row is Burst, and the lengths are
// geometric. The seeds are fixed, so it cannot flake.
func TestBurstsFollowTheFormula(t *testing.T) {
	const n = 2_000_000
	for _, c := range []struct{ loss, burst float64 }{{0.01, 10}, {0.01, 1}, {0.2, 2.5}, {0.5, 3}, {0.001, 4}, {0.5, 1}} {
		p := Profile{Loss: c.loss, Burst: c.burst}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		rng, ch := newRand(7, up, datagrams), chain{}
		lost, runs, single, in := 0, 0, 0, 0
		for range n {
			if ch.loses(rng.Float64(), &p) {
				lost++
				in++
				continue
			}
			if in > 0 {
				runs++
			}
			if in == 1 {
				single++
			}
			in = 0
		}
		mean := float64(lost) / float64(runs)
		share := float64(lost) / n
		// The share of lost varies like n*loss/burst runs of a spread of burst.
		tolerance := 5 / math.Sqrt(float64(runs))
		if math.Abs(mean/c.burst-1) > tolerance || math.Abs(share/c.loss-1) > 2*tolerance {
			t.Errorf("loss %v, bursts of %v: share %v, mean %v; within %v", c.loss, c.burst, share, mean, tolerance)
		}
		// Of geometric lengths with this mean, 1/burst are of one.
		if got := float64(single) / float64(runs); math.Abs(got-1/c.burst) > tolerance {
			t.Errorf("bursts of %v: %v are of one datagram, want %v", c.burst, got, 1/c.burst)
		}
	}
}

func TestBurstExtremes(t *testing.T) {
	// Bursts of one with nothing but one datagram between them: every other one.
	p := Profile{Loss: 0.5, Burst: 1}
	ch := chain{begun: true}
	for i := range 100 {
		if got := ch.loses(float64(i)/100, &p); got != (i%2 == 0) {
			t.Fatalf("datagram %d: lost %v", i, got)
		}
	}
	for _, bad := range []Profile{{Loss: 0.6, Burst: 1}, {Loss: 1, Burst: 10}, {Loss: 0.1, Burst: 0.5}, {Burst: math.NaN()}, {Burst: 1e7}} {
		if bad.Validate() == nil {
			t.Errorf("accepted: %+v", bad)
		}
	}
}

// TestMishapsLeaveLossAlone: what else a profile does must not move the luck
// of datagrams, nor must one mishap move another.
func TestMishapsLeaveLossAlone(t *testing.T) {
	run := func(p Profile) (verdicts []verdict, fates []fate) {
		s := testShaper(p)
		for range 2000 {
			q := sized(100)
			verdicts = append(verdicts, s.offer(t0(), q))
			fates = append(fates, q.fate)
		}
		return verdicts, fates
	}
	plain, _ := run(Profile{Loss: 0.1, Jitter: ms})
	all, fates := run(Profile{Loss: 0.1, Jitter: ms, Reorder: 0.2, Duplicate: 0.3, Corrupt: 0.05})
	if !slices.Equal(plain, all) {
		t.Error("mishaps changed who is lost")
	}
	_, alone := run(Profile{Duplicate: 0.3})
	var held, twice, flipped int
	for i, f := range fates {
		if f.twice != alone[i].twice {
			t.Fatalf("datagram %d: reordering changed who is duplicated", i)
		}
		held += b2i(f.held)
		twice += b2i(f.twice)
		flipped += b2i(f.flip != 0)
	}
	// 5 standard deviations of 2000 draws.
	if held < 310 || held > 490 || twice < 500 || twice > 700 || flipped < 50 || flipped > 150 {
		t.Errorf("held %d, twice %d, flipped %d of 2000", held, twice, flipped)
	}
}

func TestReorderComesLaterAndHoldsNobodyUp(t *testing.T) {
	p := Profile{Delay: 20 * ms, Reorder: 0.1, ReorderBy: 7 * ms}
	s := testShaper(p)
	for i := range 1000 {
		s.offer(t0().Add(time.Duration(i)*ms), sized(1))
	}
	held, overtaken := 0, 0
	var most uint64
	for _, q := range s.due(t0().Add(time.Hour), make([]*packet, 0, 1000)) {
		want := t0().Add(time.Duration(q.seq) * ms).Add(p.Delay)
		if q.fate.held {
			want = want.Add(p.ReorderBy)
			held++
		}
		if !q.arrive.Equal(want) {
			t.Fatalf("datagram %d came at %v, want %v", q.seq, q.arrive, want)
		}
		overtaken += b2i(q.seq < most)
		most = max(most, q.seq)
		s.settle(q, true)
	}
	if held < 50 || held > 150 || overtaken < held/2 {
		t.Errorf("%d of 1000 held back, %d overtaken", held, overtaken)
	}
	if s.stats.Reordered != uint64(held) {
		t.Errorf("counted %d, want %d", s.stats.Reordered, held)
	}
	checkLaw(t, s)
}

func TestCorruptFlipsOneBit(t *testing.T) {
	s := testShaper(Profile{Corrupt: 1})
	clean := make([]byte, 100)
	places := map[int]bool{}
	for range 500 {
		q := sized(100)
		s.offer(t0(), q)
		n, at := 0, 0
		for i := range q.data {
			if b := q.data[i] ^ clean[i]; b != 0 {
				n += bits.OnesCount8(b)
				at = i*8 + bits.TrailingZeros8(b)
			}
		}
		if n != 1 {
			t.Fatalf("%d bits flipped", n)
		}
		places[at] = true
	}
	if len(places) < 300 { // of 800, 500 draws hit 372 on average
		t.Errorf("only %d places", len(places))
	}
	empty := sized(0)
	s.offer(t0(), empty)
	for _, q := range s.due(t0(), make([]*packet, 0, 1000)) {
		s.settle(q, true)
	}
	if s.stats.Corrupted != 500 || s.stats.Packets != 501 {
		t.Errorf("%+v", s.stats)
	}
	lost := testShaper(Profile{Corrupt: 1, Loss: 1})
	q := sized(10)
	if lost.offer(t0(), q); !bytes.Equal(q.data, make([]byte, 10)) {
		t.Error("a datagram that never left was changed")
	}
}

func TestDuplicatesAreCounted(t *testing.T) {
	s := testShaper(Profile{Duplicate: 1})
	for range 3 {
		s.offer(t0(), sized(10))
	}
	for i, q := range s.due(t0(), make([]*packet, 0, 3)) {
		s.settle(q, i > 0) // the first is refused by the receiver
	}
	if st := s.stats; st.Packets != 4 || st.Duplicated != 2 || st.Bytes != 40 || st.Dropped != (Dropped{Undelivered: 1}) {
		t.Errorf("%+v", st)
	}
	checkLaw(t, s)
}
