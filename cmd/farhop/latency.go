package main

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"sync"
	"time"
)

// sentProperty is the user property in which farhop pub --latency writes when
// it published: nanoseconds since 1970, by its clock.
const sentProperty = "farhop-sent"

// latencies counts spans in buckets whose width is a sixteenth of what they
// hold, so that a percentile is 6 % too high at most and any number of spans
// takes the same room.
type latencies struct {
	mu      sync.Mutex // guards what follows
	buckets [bucketCount]int
	n       int
	max     time.Duration
}

const (
	bucketBits  = 4
	bucketCount = (64 - bucketBits + 1) << bucketBits
)

// bucketOf is the bucket of a span, in microseconds.
func bucketOf(us uint64) int {
	if us < 1<<bucketBits {
		return int(us)
	}
	shift := bits.Len64(us) - 1 - bucketBits
	return shift<<bucketBits + int(us>>shift)
}

// bucketEnd is the longest span of a bucket, in microseconds.
func bucketEnd(b int) uint64 {
	if b < 1<<bucketBits {
		return uint64(b)
	}
	shift := b>>bucketBits - 1
	return (uint64(b&(1<<bucketBits-1)|1<<bucketBits)+1)<<shift - 1
}

// add counts a span. One below zero, between two clocks, counts as none.
func (l *latencies) add(d time.Duration) {
	d = max(d, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buckets[bucketOf(uint64(d/time.Microsecond))]++
	l.n++
	l.max = max(l.max, d)
}

// latencySummary is what --latency prints. Times are in ms.
type latencySummary struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (l *latencies) summary() latencySummary {
	l.mu.Lock()
	defer l.mu.Unlock()
	return latencySummary{Count: l.n, P50: l.share(0.5), P90: l.share(0.9), P99: l.share(0.99), Max: milliseconds(l.max)}
}

// share returns the span that a share of all do not exceed, in ms.
func (l *latencies) share(p float64) float64 {
	left := int(math.Ceil(p * float64(l.n)))
	for b, n := range l.buckets {
		if left -= n; left <= 0 && n > 0 {
			return min(milliseconds(time.Duration(bucketEnd(b))*time.Microsecond), milliseconds(l.max))
		}
	}
	return 0
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// print writes the summary; what names that which took so long.
func (l *latencies) print(a *app, asJSON bool, what string) error {
	s := l.summary()
	if asJSON {
		return printLine(a.out, struct {
			Latency latencySummary `json:"latency"`
		}{s})
	}
	ms := func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) + " ms" }
	_, err := fmt.Fprintf(a.out, "latency of %d %s: p50 %s, p90 %s, p99 %s, max %s\n", s.Count, what, ms(s.P50), ms(s.P90), ms(s.P99), ms(s.Max))
	return err
}

// sentAt reads when a message says that it was published.
func sentAt(text string) (time.Time, bool) {
	ns, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(0, ns), err == nil && ns > 0
}
