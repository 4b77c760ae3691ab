package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/broker"
)

// Every property that can be asked for reaches who subscribes.
func TestPubProperties(t *testing.T) {
	b := startBroker(t)
	done := b.subscriber(t, "-t", "plant/#", "-n", "1", "--json")
	args := []string{
		"pub", "-t", "plant/1", "-m", "{}", "--broker", b.url, "--ttl", "90s", "--content-type", "application/json", "--format", "text",
		"--response-topic", "answers/7", "--correlation", "77", "--user-property", "by=ops", "--user-property", "note=a=b",
	}
	if code, _, stderr := call(t.Context(), "", args...); code != 0 {
		t.Fatalf("%d %s", code, stderr)
	}
	e := <-done
	var got received
	if err := json.Unmarshal([]byte(e.out), &got); err != nil {
		t.Fatalf("%q: %v", e.out, err)
	}
	if got.ContentType != "application/json" || got.Format != "text" || got.Response != "answers/7" || string(got.Correlation) != "77" ||
		got.ExpiryS == nil || *got.ExpiryS > 90 || got.User["by"] != "ops" || got.User["note"] != "a=b" {
		t.Errorf("got %s", e.out)
	}
	b.await(t, func() bool { return len(b.published) == 1 })
	if p := b.published[0].Properties; p.User[len(p.User)-1].Key != broker.IDProperty {
		t.Errorf("user properties %+v: the id is not asked for", p.User)
	}
}

// At a rate all is published, and both ends sum up how long it took.
func TestPubRate(t *testing.T) {
	b := startBroker(t)
	done := b.subscriber(t, "-t", "plant/#", "-n", "201", "--latency")
	if code, out, stderr := call(t.Context(), "", "pub", "-t", "plant/1", "-m", "x", "--repeat", "200", "--rate", "5000", "--latency", "--broker", b.url); code != 0 ||
		!strings.HasPrefix(out, "latency of 200 acknowledgements: p50 ") || strings.Count(out, "\n") != 1 {
		t.Errorf("%d %q %s", code, out, stderr)
	}
	b.publish(t, "plant/1", "without a time")
	if e := <-done; e.code != 0 || !strings.HasPrefix(e.out, "latency of 200 messages: p50 ") || strings.Count(e.out, "\n") != 1 {
		t.Errorf("%d %q %s", e.code, e.out, e.err)
	}
	began := time.Now()
	if code, out, _ := call(t.Context(), "a\nb\nc", "pub", "-t", "plant/1", "-l", "--rate", "10", "--latency", "--json", "--broker", b.url); code != 0 ||
		!strings.Contains(out, `{"latency":{"count":3,`) || time.Since(began) < 200*time.Millisecond {
		t.Errorf("%d %q after %s", code, out, time.Since(began))
	}
}

// A percentile is never below what it stands for, and no more than a sixteenth
// above, and never beyond the longest.
func TestLatencies(t *testing.T) {
	for us := uint64(0); us < 1<<40; us += us/37 + 1 {
		end := bucketEnd(bucketOf(us))
		if end < us || end > us+us/16+1 {
			t.Fatalf("%d µs count as %d", us, end)
		}
		if us > 0 && bucketOf(us) < bucketOf(us-1) {
			t.Fatalf("%d µs come before %d", us, us-1)
		}
	}
	if n := bucketOf(1<<64 - 1); n != bucketCount-1 {
		t.Errorf("the longest span is in bucket %d of %d", n, bucketCount)
	}
	var l latencies
	if s := l.summary(); s != (latencySummary{}) {
		t.Errorf("nothing sums up to %+v", s)
	}
	l.add(-time.Second)
	for i := range 99 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	s := l.summary()
	for _, c := range []struct{ got, want float64 }{{s.P50, 49}, {s.P90, 89}, {s.P99, 98}} {
		if c.got < c.want || c.got > c.want*17/16 {
			t.Errorf("%v ms, want %v", c.got, c.want)
		}
	}
	if s.Count != 100 || s.Max != 99 {
		t.Errorf("%+v", s)
	}
}
