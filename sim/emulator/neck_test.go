package emulator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

func trace(t testing.TB, text string) *desc.Trace {
	t.Helper()
	tr, err := desc.ParseTrace("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestTraceTimes offers datagrams to a trace that gives 1500 bytes at 5 ms, and
// 3000 at 10 ms, and so on every 10 ms.
func TestTraceTimes(t *testing.T) {
	type sent struct {
		at   time.Duration
		size int
		want verdict
	}
	const v, q = verdictSent, verdictQueue
	cases := []struct {
		name  string
		queue int
		in    []sent
		want  []time.Duration
	}{
		{"one each", 0, []sent{{0, 1500, v}, {0, 1500, v}, {0, 1500, v}, {0, 1500, v}}, []time.Duration{5 * ms, 10 * ms, 10 * ms, 15 * ms}},
		{"small ones share", 0, []sent{{0, 500, v}, {0, 500, v}, {0, 500, v}, {0, 1, v}}, []time.Duration{5 * ms, 5 * ms, 5 * ms, 10 * ms}},
		{"a large one takes several", 0, []sent{{0, 4600, v}, {0, 1000, v}}, []time.Duration{15 * ms, 15 * ms}},
		{"an opportunity at this moment counts", 0, []sent{{5 * ms, 1500, v}, {10 * ms, 3000, v}}, []time.Duration{5 * ms, 10 * ms}},
		{"what nobody used is gone", 0, []sent{{11 * ms, 1500, v}, {21 * ms, 100, v}}, []time.Duration{15 * ms, 25 * ms}},
		{"rounds", 0, []sent{{95 * ms, 1500, v}, {1005*ms + 1, 1500, v}}, []time.Duration{95 * ms, 1010 * ms}},
		{"empty datagrams need one too", 0, []sent{{0, 0, v}}, []time.Duration{5 * ms}},
		{"queue", 2000, []sent{{0, 1500, v}, {0, 600, q}, {0, 500, v}, {0, 1, q}, {6 * ms, 1500, v}, {6 * ms, 1, q}}, []time.Duration{5 * ms, 10 * ms, 10 * ms}},
		{"idle takes any size", 10, []sent{{0, 9000, v}, {0, 1, q}}, []time.Duration{20 * ms}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := testShaper(Profile{Trace: trace(t, "5\n10\n10\n"), Queue: c.queue})
			for i, in := range c.in {
				if got := s.offer(t0().Add(in.at), sized(in.size)); got != in.want {
					t.Errorf("datagram %d: verdict %d, want %d", i, got, in.want)
				}
			}
			if got := arrivals(t, s); !slices.Equal(got, c.want) {
				t.Errorf("arrivals %v, want %v", got, c.want)
			}
			checkLaw(t, s)
		})
	}
}

// TestTraceCarriesNoMoreThanItsOpportunities floods random traces.
func TestTraceCarriesNoMoreThanItsOpportunities(t *testing.T) {
	full := uint64(0)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		text, at := "", 0
		for range 1 + r.IntN(40) {
			at += r.IntN(4) * r.IntN(4)
			text += fmt.Sprintln(at)
		}
		tr := trace(t, text+fmt.Sprintln(at+1))
		s := testShaper(Profile{Trace: tr, Queue: 20000})
		var now time.Duration
		for range 3000 {
			now += time.Duration(r.IntN(int(2 * ms)))
			s.offer(t0().Add(now), sized(r.IntN(1400)))
		}
		ends := map[time.Duration]int{}
		var sum int
		for _, p := range s.due(t0().Add(1000*time.Hour), make([]*packet, 0, 3000)) {
			ends[p.arrive.Sub(t0())] += len(p.data)
			sum += len(p.data)
		}
		have := 0
		for _, d := range slices.Sorted(maps.Keys(ends)) {
			have += ends[d]
			if room := tr.From(d+1) * desc.TraceBytes; int64(have) > room {
				t.Fatalf("seed %d: %d bytes by %v, but the trace carries %d", seed, have, d, room)
			}
		}
		if sum == 0 {
			t.Errorf("seed %d carried nothing", seed)
		}
		full += s.stats.Dropped.Queue
	}
	if full == 0 {
		t.Error("no queue was ever full")
	}
}

func TestOverheadCountsInRateQueueAndMTU(t *testing.T) {
	// 100 bytes of payload and 25 of headers: 1 ms at 1 Mbit/s.
	s := testShaper(Profile{Rate: 1e6, Overhead: 25, Queue: 250, MTU: 150})
	for i, c := range []struct {
		size int
		want verdict
	}{{100, verdictSent}, {126, verdictMTU}, {100, verdictSent}, {1, verdictQueue}} {
		if got := s.offer(t0(), sized(c.size)); got != c.want {
			t.Errorf("datagram %d: verdict %d, want %d", i, got, c.want)
		}
	}
	if v := s.offer(t0().Add(2*ms), sized(125)); v != verdictSent {
		t.Errorf("a datagram as large as the MTU: verdict %d", v)
	}
	if got, want := arrivals(t, s), []time.Duration{ms, 2 * ms, 3200 * time.Microsecond}; !slices.Equal(got, want) {
		t.Errorf("arrivals %v, want %v", got, want)
	}
	if s.stats.Dropped != (Dropped{MTU: 1, Queue: 1}) {
		t.Errorf("%+v", s.stats.Dropped)
	}
	checkLaw(t, s)
}

func TestDelaysMoveArrivals(t *testing.T) {
	table := desc.Delays{Points: []desc.DelayPoint{{At: 10 * ms, Delay: 100 * ms}, {At: 20 * ms, Delay: 200 * ms}, {At: 30 * ms, Delay: 50 * ms}}}
	s := testShaper(Profile{Delays: table})
	for _, at := range []time.Duration{0, 10 * ms, 15 * ms, 20 * ms, 25 * ms, 40 * ms, 200 * ms} {
		s.offer(t0().Add(at), sized(1))
	}
	// At 25 ms the path is 125 ms, but nothing overtakes what left at 20 ms.
	want := []time.Duration{100 * ms, 110 * ms, 165 * ms, 220 * ms, 220 * ms, 220 * ms, 250 * ms}
	if got := arrivals(t, s); !slices.Equal(got, want) {
		t.Errorf("arrivals %v, want %v", got, want)
	}
}

func TestBlackholeSwallowsWhatIsUnderWay(t *testing.T) {
	s := testShaper(Profile{Delay: 100 * ms, Rate: 1e6})
	for range 3 {
		s.offer(t0(), sized(1250))
	}
	if dropped := s.setState(t0().Add(15*ms), StateBlackhole); len(dropped) != 3 {
		t.Errorf("%d dropped", len(dropped))
	}
	if v := s.offer(t0().Add(16*ms), sized(1)); v != verdictHole {
		t.Errorf("verdict %d", v)
	}
	s.setState(t0().Add(20*ms), StateOpen)
	s.offer(t0().Add(20*ms), sized(125))
	if got, want := arrivals(t, s), []time.Duration{121 * ms}; !slices.Equal(got, want) {
		t.Errorf("arrivals %v, want %v: the bottleneck is free again", got, want)
	}
	if s.stats.Dropped != (Dropped{Blackhole: 4}) {
		t.Errorf("%+v", s.stats.Dropped)
	}
	checkLaw(t, s)
}

func TestCarrierOnATrace(t *testing.T) {
	c := &carrier{p: Profile{Trace: trace(t, "10\n20\n")}.Anchored(t0()), rng: newRand(1, up, streams)}
	if n := c.chunk(); n != desc.TraceBytes {
		t.Errorf("chunk %d", n)
	}
	now, sent := t0(), []time.Duration{}
	for len(sent) < 4 {
		arrive, retry, ok := c.admit(now, 1500)
		if ok {
			sent = append(sent, arrive.Sub(t0()))
			continue
		}
		if !retry.After(now) {
			t.Fatalf("ask again at %v, but it is %v", retry, now)
		}
		now = retry
	}
	if want := []time.Duration{10 * ms, 20 * ms, 30 * ms, 40 * ms}; !slices.Equal(sent, want) {
		t.Errorf("chunks arrive at %v, want %v", sent, want)
	}
}

func TestCarrierChargesHeaders(t *testing.T) {
	c := &carrier{p: Profile{Overhead: 28}}
	if got := c.wireSize(1448 * 10); got != 15000 {
		t.Errorf("ten full segments take %d bytes", got)
	}
	c.p.MTU = 576
	if got := c.wireSize(524); got != 576 {
		t.Errorf("a segment of 576 takes %d bytes", got)
	}
	c.p.Overhead = 0
	if got := c.wireSize(1448); got != 1448 {
		t.Errorf("without overhead: %d bytes", got)
	}
}

func TestSendTime(t *testing.T) {
	cases := []struct {
		size int
		rate int64
		want time.Duration
	}{
		{1000, 0, 0},
		{0, 1, 0},
		{1, 8, time.Second},
		{1200, 50e6, 192 * time.Microsecond},
		{1, 3e9, 3}, // rounded up from 2.67 ns
		{desc.MaxQueue, 1, desc.MaxQueue * 8 * time.Second},
		{maxDatagram, desc.MaxRate, 525},
	}
	for _, c := range cases {
		if got := sendTime(c.size, c.rate); got != c.want {
			t.Errorf("sendTime(%d, %d) = %v, want %v", c.size, c.rate, got, c.want)
		}
	}
}

func BenchmarkShaper(b *testing.B) {
	s := testShaper(Profile{Delay: 100 * ms, Jitter: ms, Loss: 0.01, Rate: 1e9})
	now, ready := t0(), make([]*packet, 0, 64)
	var free []*packet
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Microsecond)
		var p *packet
		if n := len(free); n > 0 {
			p, free = free[n-1], free[:n-1]
		} else {
			p = sized(1200)
		}
		if s.offer(now, p) != verdictSent {
			free = append(free, p)
		}
		for _, q := range s.due(now, ready[:0]) {
			s.settle(q, true)
			free = append(free, q)
		}
	}
}
