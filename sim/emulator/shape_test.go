package emulator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// t0 is where virtual time starts in the tests of this package.
func t0() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

const ms = time.Millisecond

// testShaper is an up shaper with defaults filled and ample memory.
func testShaper(p Profile) *shaper {
	return newShaper(p.Anchored(t0()), 7, up, 1<<30)
}

func sized(n int) *packet { return &packet{data: make([]byte, n)} }

// arrivals drains s and returns when each packet arrives, after t0, in order.
func arrivals(t *testing.T, s *shaper) (out []time.Duration) {
	t.Helper()
	for {
		at, ok := s.wake()
		if !ok {
			return out
		}
		if early := s.due(at.Add(-1), make([]*packet, 0, 1)); len(early) != 0 {
			t.Fatalf("packet handed out before %v", at)
		}
		for _, p := range s.due(at, make([]*packet, 0, 1)) {
			out = append(out, p.arrive.Sub(t0()))
			s.settle(p, true)
		}
	}
}

// TestShaperTimes offers packets at fixed instants and checks every arrival.
func TestShaperTimes(t *testing.T) {
	type sent struct {
		at   time.Duration
		size int
		want verdict
	}
	contacts := Schedule{Start: t0(), Every: 100 * ms, For: 10 * ms}
	cases := []struct {
		name string
		p    Profile
		in   []sent
		want []time.Duration
	}{
		{"perfect wire", Profile{}, []sent{{0, 1, 0}, {0, 9000, 0}, {5 * ms, 1, 0}}, []time.Duration{0, 0, 5 * ms}},
		{"delay", Profile{Delay: 1280 * ms}, []sent{{0, 100, 0}, {3 * ms, 100, 0}}, []time.Duration{1280 * ms, 1283 * ms}},
		{
			"rate spaces packets",
			Profile{Delay: 10 * ms, Rate: 1e6}, // 125 bytes = 1 ms
			[]sent{{0, 125, 0}, {0, 250, 0}, {20 * ms, 125, 0}},
			[]time.Duration{11 * ms, 13 * ms, 31 * ms},
		},
		{
			"full queue drops the newest",
			Profile{Rate: 1e6, Queue: 300},
			[]sent{{0, 125, 0}, {0, 125, 0}, {0, 125, verdictQueue}, {0, 50, 0}, {1 * ms, 125, 0}},
			[]time.Duration{1 * ms, 2 * ms, 2400 * time.Microsecond, 3400 * time.Microsecond},
		},
		{"idle bottleneck takes any size", Profile{Rate: 1e6, Queue: 10}, []sent{{0, 1250, 0}, {0, 1, verdictQueue}}, []time.Duration{10 * ms}},
		{
			"queue means nothing without rate",
			Profile{Queue: 1},
			[]sent{{0, 1000, 0}, {0, 1000, 0}},
			[]time.Duration{0, 0},
		},
		{
			"contacts",
			Profile{Delay: 50 * ms, Contacts: contacts},
			[]sent{{0, 1, 0}, {10*ms - 1, 1, 0}, {10 * ms, 1, verdictClosed}, {99 * ms, 1, verdictClosed}, {100 * ms, 1, 0}},
			[]time.Duration{50 * ms, 60*ms - 1, 150 * ms},
		},
		{
			"last bit must leave inside the contact",
			Profile{Rate: 1e6, Contacts: contacts},
			[]sent{{0, 1000, 0}, {0, 250, 0}, {0, 1, verdictClosed}, {9 * ms, 1, verdictClosed}},
			[]time.Duration{8 * ms, 10 * ms},
		},
		{"before the first contact", Profile{Contacts: Schedule{Start: t0().Add(ms), Every: 2 * ms, For: ms}}, []sent{{0, 1, verdictClosed}, {ms, 1, 0}}, []time.Duration{ms}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := testShaper(c.p)
			for i, in := range c.in {
				if v := s.offer(t0().Add(in.at), sized(in.size)); v != in.want {
					t.Errorf("packet %d: verdict %d, want %d", i, v, in.want)
				}
			}
			if got := arrivals(t, s); !slices.Equal(got, c.want) {
				t.Errorf("arrivals %v, want %v", got, c.want)
			}
			checkLaw(t, s)
		})
	}
}

// checkLaw asserts that every datagram is accounted for.
func checkLaw(t *testing.T, s *shaper) {
	t.Helper()
	st := s.stats
	if st.Offered+st.Duplicated != st.Packets+uint64(st.InFlight)+st.Dropped.Total() {
		t.Fatalf("datagrams unaccounted for: %+v", st)
	}
	if s.wire.len() != st.InFlight || (st.InFlight == 0) != (st.InFlightBytes == 0) {
		t.Fatalf("in flight %d, %d bytes, but %d on the wire", st.InFlight, st.InFlightBytes, s.wire.len())
	}
}

func TestLossIsSeededAndHonest(t *testing.T) {
	const n = 20000
	lost := func(seed uint64, d Direction, disturb bool) []int {
		s := newShaper(Profile{Loss: 0.1, Rate: 1e9}.Anchored(t0()), seed, d, 1<<30)
		var out []int
		for i := range n {
			now := t0().Add(time.Duration(i) * ms)
			if disturb && i%3 == 0 {
				s.setState(now, StateCut)
			}
			if s.offer(now, sized(10)) == verdictLoss {
				out = append(out, i)
			}
			s.setState(now, StateOpen)
			s.due(now.Add(ms), make([]*packet, 0, 1))
		}
		return out
	}
	a := lost(1, up, false)
	// 0.1 +- 5 standard deviations; the seed is fixed, so this cannot flake.
	if len(a) < 1788 || len(a) > 2212 {
		t.Errorf("%d of %d lost, want about 2000", len(a), n)
	}
	if !slices.Equal(a, lost(1, up, false)) {
		t.Error("same seed, other losses")
	}
	if slices.Equal(a, lost(2, up, false)) || slices.Equal(a, lost(1, down, false)) {
		t.Error("another seed or direction, same losses")
	}
	// A cut drops packets of its own but does not move the luck of the others.
	want := slices.DeleteFunc(slices.Clone(a), func(i int) bool { return i%3 == 0 })
	if !slices.Equal(lost(1, up, true), want) {
		t.Error("a cut changed the fate of packets it did not touch")
	}
}

func TestLossExtremes(t *testing.T) {
	all, none := testShaper(Profile{Loss: 1}), testShaper(Profile{})
	for range 1000 {
		if all.offer(t0(), sized(1)) != verdictLoss || none.offer(t0(), sized(1)) != verdictSent {
			t.Fatal("loss 1 must lose all, loss 0 none")
		}
	}
}

func TestLostPacketsUseTheBottleneck(t *testing.T) {
	s := testShaper(Profile{Loss: 1, Rate: 1e6})
	s.offer(t0(), sized(1250))
	if !s.neck.busy.Equal(t0().Add(10 * ms)) {
		t.Errorf("bottleneck busy until %v", s.neck.busy)
	}
}

func TestJitterStaysInRangeAndOrder(t *testing.T) {
	p := Profile{Delay: 20 * ms, Jitter: 5 * ms}
	s := testShaper(p)
	const gap = 10 * ms // wider than the jitter: each draw shows
	for i := range 1000 {
		s.offer(t0().Add(time.Duration(i)*gap), sized(1))
	}
	var least, most time.Duration = time.Hour, 0
	for i, at := range arrivals(t, s) {
		extra := at - time.Duration(i)*gap - p.Delay
		least, most = min(least, extra), max(most, extra)
	}
	if least < 0 || most >= p.Jitter || least > p.Jitter/10 || most < p.Jitter*9/10 {
		t.Errorf("jitter between %v and %v, want [0, %v) well used", least, most, p.Jitter)
	}

	s = testShaper(p) // denser than the jitter: order must hold
	for i := range 1000 {
		q := sized(1)
		s.offer(t0().Add(time.Duration(i)*ms/10), q)
	}
	for i, q := range s.due(t0().Add(time.Hour), make([]*packet, 0, 1000)) {
		if q.seq != uint64(i) {
			t.Fatalf("packet %d came %d-th", q.seq, i)
		}
		if sent := t0().Add(time.Duration(i) * ms / 10); q.arrive.Before(sent.Add(p.Delay)) {
			t.Fatalf("packet %d early", i)
		}
	}
}

func TestCutSparesWhatIsUnderWay(t *testing.T) {
	s := testShaper(Profile{Delay: 100 * ms, Rate: 1e6})
	for range 4 {
		s.offer(t0(), sized(1250)) // last bits leave at 10, 20, 30, 40 ms
	}
	if dropped := s.setState(t0().Add(20*ms), StateCut); len(dropped) != 2 {
		t.Errorf("%d dropped, want the 2 that had not left", len(dropped))
	}
	if v := s.offer(t0().Add(30*ms), sized(1)); v != verdictCut {
		t.Errorf("verdict while cut: %d", v)
	}
	s.setState(t0().Add(31*ms), StateOpen)
	if v := s.offer(t0().Add(31*ms), sized(125)); v != verdictSent {
		t.Errorf("verdict after healing: %d", v)
	}
	want := []time.Duration{110 * ms, 120 * ms, 132 * ms}
	if got := arrivals(t, s); !slices.Equal(got, want) {
		t.Errorf("arrivals %v, want %v", got, want)
	}
	if s.stats.Dropped != (Dropped{Cut: 3}) {
		t.Errorf("dropped %+v", s.stats.Dropped)
	}
	checkLaw(t, s)
}

func TestCutTwiceIsOnce(t *testing.T) {
	s := testShaper(Profile{Rate: 1e6})
	s.offer(t0(), sized(1250))
	if s.setState(t0(), StateOpen) != nil || len(s.setState(t0(), StateCut)) != 1 || s.setState(t0(), StateCut) != nil {
		t.Error("only the change may drop")
	}
}

func TestSetProfile(t *testing.T) {
	t.Run("a faster bottleneck drains at once", func(t *testing.T) {
		s := testShaper(Profile{Rate: 1e3, Delay: 10 * ms})
		for range 3 {
			s.offer(t0(), sized(125)) // a second each
		}
		s.setProfile(t0().Add(1000*ms), Profile{Rate: 1e6, Delay: 10 * ms}.Anchored(t0()))
		want := []time.Duration{1010 * ms, 1011 * ms, 1012 * ms}
		if got := arrivals(t, s); !slices.Equal(got, want) {
			t.Errorf("arrivals %v, want %v", got, want)
		}
	})
	t.Run("a shorter path overtakes", func(t *testing.T) {
		s := testShaper(Profile{Delay: 1000 * ms})
		s.offer(t0(), sized(1))
		s.setProfile(t0(), Profile{Delay: 10 * ms}.Anchored(t0()))
		s.offer(t0(), sized(1))
		if got := arrivals(t, s); !slices.Equal(got, []time.Duration{10 * ms, 1000 * ms}) {
			t.Errorf("arrivals %v", got)
		}
	})
	t.Run("a smaller queue drops the newest", func(t *testing.T) {
		s := testShaper(Profile{Rate: 1e6})
		for range 5 {
			s.offer(t0(), sized(125))
		}
		dropped := s.setProfile(t0(), Profile{Rate: 1e6, Queue: 250})
		if len(dropped) != 3 || dropped[0].seq != 2 || s.stats.Dropped != (Dropped{Queue: 3}) {
			t.Errorf("%d dropped, %+v", len(dropped), s.stats.Dropped)
		}
		checkLaw(t, s)
	})
	t.Run("a cut survives it", func(t *testing.T) {
		s := testShaper(Profile{})
		s.setState(t0(), StateCut)
		s.setProfile(t0(), Profile{Delay: ms}.Anchored(t0()))
		if v := s.offer(t0(), sized(1)); v != verdictCut {
			t.Errorf("verdict %d", v)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	s := newShaper(Profile{Delay: time.Hour}.Anchored(t0()), 1, up, 10*bufferSize)
	for range 100 {
		s.offer(t0(), sized(1))
	}
	if s.stats.InFlight != 10 || s.stats.Dropped != (Dropped{Memory: 90}) {
		t.Errorf("%+v", s.stats)
	}
	s.setState(t0(), StateCut)
	if v := s.offer(t0(), sized(1)); v != verdictCut {
		t.Errorf("verdict %d: a cut link does not need memory to drop", v)
	}
	checkLaw(t, s)
}

// TestShaperLaws does random things and checks what must always hold.
func TestShaperLaws(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 99))
		random := func() Profile {
			p := Profile{Delay: time.Duration(r.IntN(50)) * ms, Jitter: time.Duration(r.IntN(20)) * ms, Loss: r.Float64() / 4, Queue: r.IntN(20000)}
			switch r.IntN(4) {
			case 0:
			case 1:
				p.Trace = trace(t, fmt.Sprintf("%d\n%d\n", r.IntN(9), 9+r.IntN(9)))
			default:
				p.Rate = 1 + r.Int64N(1e7)
			}
			if r.IntN(3) == 0 {
				p.Burst, p.Duplicate, p.Corrupt, p.MTU, p.Overhead = 1+r.Float64()*5, r.Float64(), r.Float64(), 500+r.IntN(3000), r.IntN(50)
			}
			if r.IntN(3) == 0 {
				p.Contacts = Schedule{Every: 50 * ms, For: 1 + time.Duration(r.IntN(int(50*ms)))}
			}
			return p.Anchored(t0())
		}
		s := newShaper(random(), seed, down, 1<<20)
		now := t0()
		lightTime := map[*packet]time.Time{} // the earliest lawful arrival
		var last uint64                      // seq of the last arrival under one profile
		for range 2000 {
			now = now.Add(time.Duration(r.IntN(int(3 * ms))))
			switch k := r.IntN(100); {
			case k == 0:
				s.setState(now, State(r.IntN(3)))
			case k == 1:
				for _, p := range s.due(now, make([]*packet, 0, 1<<16)) {
					s.settle(p, false)
				}
				s.setProfile(now, random())
				last = s.seq // what is under way may be overtaken
			case k < 60:
				p := sized(r.IntN(3000))
				if s.offer(now, p) == verdictSent {
					lightTime[p] = now.Add(s.p.Delay)
				}
			default:
				for _, p := range s.due(now, make([]*packet, 0, 8)) {
					if p.arrive.After(now) || (p.seq >= last && p.arrive.Before(lightTime[p])) {
						t.Fatalf("seed %d: packet %d early", seed, p.seq)
					}
					if p.seq >= last {
						last = p.seq + 1
					} else if p.seq+1 > last {
						t.Fatalf("seed %d: packet %d out of order", seed, p.seq)
					}
					s.settle(p, true)
				}
			}
			checkLaw(t, s)
		}
		if s.stats.Packets == 0 {
			t.Errorf("seed %d carried nothing: %+v", seed, s.stats)
		}
	}
}
