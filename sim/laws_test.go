package sim

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/scenario"
)

var (
	lawHours = flag.Float64("node-hours", 0, "play seeded worlds of faults until their nodes lived so long; 0: a dozen of them")
	lawSeed  = flag.Int64("seed", -1, "play the seeded world of faults with this seed alone, and trace it when it fails")
	lawFirst = flag.Uint64("first", 0, "seed of the first of them")
)

// shrinkRuns bounds how many worlds are played to make a failure small.
const shrinkRuns = 60

// TestLaws plays worlds of faults and judges every event. CI plays 10,000
// node-hours: go test ./sim -run Laws -args -node-hours 10000.
func TestLaws(t *testing.T) {
	if *lawSeed >= 0 {
		replay(t, uint64(*lawSeed))
		return
	}
	worlds := &laws{t: t, next: *lawFirst}
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(worlds.play)
	}
	wg.Wait()
	s := &worlds.sum
	t.Logf("%d worlds, %.0f node-hours in %.1f s, %d events: %d messages acknowledged, %d deliveries due, %d crashes, "+
		"%d batches lost and %d torn, %d failed commits, %d cuts, %d copies dropped, %d held back, %d gaps given up",
		worlds.played, worlds.hours, time.Since(began).Seconds(), s.Events, s.Acknowledged, s.Expected, s.Crashes,
		s.LostBatches, s.TornBatches, s.FailedCommits, s.Cuts, s.WireDuplicates, s.HeldBack, s.GapsGivenUp)
	var counts strings.Builder
	met := features(s)
	for _, what := range slices.Sorted(maps.Keys(met)) {
		fmt.Fprintf(&counts, ", %d %s", met[what], what)
		if met[what] == 0 && *lawHours > 0 {
			t.Errorf("the worlds are too kind: nothing was %s", what)
		}
	}
	t.Logf("%d purges; messages%s; %d deliveries due ended so", s.Purges, counts.String()[1:], s.EndedElse)
	if s.Delivered < 1000 || s.LostBatches == 0 || s.TornBatches == 0 || s.FailedCommits == 0 || s.WireDuplicates == 0 || s.Early == 0 || s.HeldBack == 0 {
		t.Errorf("the worlds are too kind: %+v", *s)
	}
}

// laws shares the seeds among goroutines; each world is played by one.
type laws struct {
	t *testing.T

	mu     sync.Mutex
	next   uint64
	hours  float64
	played int
	sum    Report
}

func (l *laws) take() (seed uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next-*lawFirst >= 12 && l.hours >= *lawHours || l.t.Failed() {
		return 0, false
	}
	l.next++
	return l.next - 1, true
}

func (l *laws) play() {
	for seed, ok := l.take(); ok; seed, ok = l.take() {
		w := scenario.Chaos(seed)
		r, err := Run(w, seed, Option{})
		if err != nil {
			l.t.Errorf("seed %d: %v; %s", seed, err, again(seed))
			return
		}
		if seed%16 == 3 {
			if twin, _ := Run(w, seed, Option{}); twin.LogHash != r.LogHash {
				l.t.Errorf("seed %d played twice gave hashes %s and %s", seed, r.LogHash, twin.LogHash)
			}
		}
		l.add(r)
		if len(r.Broken) > 0 {
			l.t.Error(verdict(w, seed, r))
		}
	}
}

func (l *laws) add(r *Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.played++
	l.hours += r.NodeHours()
	s := &l.sum
	s.Events += r.Events
	s.Acknowledged += r.Acknowledged
	s.Expected += r.Expected
	s.Delivered += r.Delivered
	s.Crashes += r.Crashes
	s.Cuts += r.Cuts
	s.LostBatches += r.LostBatches
	s.TornBatches += r.TornBatches
	s.FailedCommits += r.FailedCommits
	s.WireDuplicates += r.WireDuplicates
	s.Early += r.Early
	s.HeldBack += r.HeldBack
	s.GapsGivenUp += r.GapsGivenUp
	s.Purges += r.Purges
	s.Retries += r.Retries
	s.OutOfTurn += r.OutOfTurn
	s.Purged += r.Purged
	s.Damaged += r.Damaged
	s.Displaced += r.Displaced
	s.OverQuota += r.OverQuota
	s.StoreFull += r.StoreFull
	s.Batches += r.Batches
	s.OpenAtCrash += r.OpenAtCrash
	s.KeysKnown += r.KeysKnown
	s.EndedElse += r.EndedElse
}

func again(seed uint64) string {
	return fmt.Sprintf("replay: go test ./sim -run Laws -args -seed %d", seed)
}

// verdict says what was broken, how to see it again, and with how little.
func verdict(w *scenario.World, seed uint64, r *Report) string {
	var b strings.Builder
	for _, v := range r.Violations() {
		fmt.Fprintf(&b, "seed %d: %s\n", seed, v)
	}
	fmt.Fprintf(&b, "%s\n", again(seed))
	small, runs := Shrink(w, seed, r.Broken[0].Law, shrinkRuns)
	fmt.Fprintf(&b, "after %d more runs, %d of %d faults and %d of %d publishers are enough:\n",
		runs, len(small.Faults), len(w.Faults), len(small.Publishers), len(w.Publishers))
	for _, f := range small.Faults {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	return b.String()
}

// replay plays one seed and prints what led to its first broken law.
func replay(t *testing.T, seed uint64) {
	w := scenario.Chaos(seed)
	var lines []string
	seen := false
	r, err := Run(w, seed, Option{Trace: func(at time.Duration, line string) {
		if !seen {
			lines = append(lines, fmt.Sprintf("%16s %s", at, line))
			if len(lines) > 4000 {
				lines = append(lines[:0], lines[2000:]...)
			}
		}
		seen = seen || strings.HasPrefix(line, "BROKEN")
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d nodes, %d links, %s, hash %s", seed, r.Nodes, r.Links, time.Duration(w.Duration), r.LogHash)
	if len(r.Broken) == 0 {
		return
	}
	text, _ := w.Text()
	t.Logf("the world:\n%s\nthe last events:\n%s", text, strings.Join(lines, "\n"))
	t.Error(verdict(w, seed, r))
}
