package desc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Limits of a trace.
const (
	// TraceBytes is what one opportunity of a trace carries.
	TraceBytes = 1500
	// MaxTraceFile bounds the file, in bytes.
	MaxTraceFile = 64 << 20
	// MaxOpportunities bounds the lines: a quarter of an hour at 50 Mbit/s.
	MaxOpportunities = 4 << 20
	// maxTraceTime is the latest timestamp, in ms: a week.
	maxTraceTime = 7 * 24 * 3600 * 1000
)

// Trace is a bottleneck of varying speed in the form of the Mahimahi tools
// (Netravali et al., USENIX ATC 2015): a text file with one timestamp in
// milliseconds per line, not decreasing, each an opportunity to send
// TraceBytes. It begins again after its last timestamp. What an opportunity
// does not use is wasted; a datagram leaves with its last byte.
//
// A Trace is never changed once made and may be shared.
type Trace struct {
	name string
	at   []uint32 // ms
}

// ParseTrace reads a trace. An empty line or one that begins with # says
// nothing.
func ParseTrace(name string, data []byte) (*Trace, error) {
	if len(data) > MaxTraceFile {
		return nil, fmt.Errorf("trace %s: more than %d bytes", clip(name), MaxTraceFile)
	}
	t := &Trace{name: name}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		at, err := strconv.ParseUint(string(line), 10, 32)
		switch {
		case err != nil || at > maxTraceTime:
			return nil, fmt.Errorf("trace %s: line %d: not a time in milliseconds from 0 to %d", clip(name), n, maxTraceTime)
		case len(t.at) > 0 && uint32(at) < t.at[len(t.at)-1]:
			return nil, fmt.Errorf("trace %s: line %d: %d ms is before the line above it", clip(name), n, at)
		case len(t.at) == MaxOpportunities:
			return nil, fmt.Errorf("trace %s: line %d: more than %d opportunities", clip(name), n, MaxOpportunities)
		}
		t.at = append(t.at, uint32(at))
	}
	if len(t.at) == 0 || t.at[len(t.at)-1] == 0 {
		return nil, fmt.Errorf("trace %s: %w", clip(name), errors.New("it needs an opportunity later than 0 ms, with which it begins again"))
	}
	t.at = slices.Clip(t.at)
	return t, nil
}

// String is the name the trace was read under.
func (t *Trace) String() string {
	if t == nil {
		return "none"
	}
	return t.name
}

// Period is when the trace begins again.
func (t *Trace) Period() time.Duration {
	return time.Duration(t.at[len(t.at)-1]) * time.Millisecond
}

// Rate is the mean speed in bits per second.
func (t *Trace) Rate() int64 {
	return int64(float64(len(t.at)) * TraceBytes * 8 / t.Period().Seconds())
}

// Time is when the i-th opportunity comes, counted from 0, after the trace
// began.
func (t *Trace) Time(i int64) time.Duration {
	n := int64(len(t.at))
	return time.Duration(i/n)*t.Period() + time.Duration(t.at[i%n])*time.Millisecond
}

// From is the first opportunity at d or later.
func (t *Trace) From(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	loop, rest := int64(d/t.Period()), d%t.Period()
	if rest == 0 { // the last opportunities of a round come as the next begins
		loop, rest = loop-1, t.Period()
	}
	ms := uint32((rest + time.Millisecond - 1) / time.Millisecond)
	k, _ := slices.BinarySearch(t.at, ms)
	return loop*int64(len(t.at)) + int64(k)
}
