package mqtt

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestQueued fills a session, kills the node, and gets everything in order.
func TestQueued(t *testing.T) {
	c := testConfig(t)
	c.Queued = 3000
	r, err := Queued(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if r.Queued != 3000 || !r.InOrder || r.Missing+r.Wrong != 0 || r.FillRate <= 0 || r.DrainRate <= 0 || r.Peak < max(r.Full, r.Resumed) {
		t.Errorf("got %+v", r)
	}
	hasKeys(t, r, "queued", "rss_anon_growth_mib", "in_order", "drain_msgs_s")
	nothingLeft(t, c.Dir)
}

// TestRetainedMany sets retained messages, and a subscriber that read nothing
// for a while gets all.
func TestRetainedMany(t *testing.T) {
	c := testConfig(t)
	c.Retained = 3000
	r, err := Retained(t.Context(), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if r.Missing+r.Wrong != 0 || r.AloneRate <= 0 || r.StalledRate <= 0 || r.DrainRate <= 0 || r.PointMS <= 0 || r.Narrow != sites {
		t.Errorf("got %+v", r)
	}
	hasKeys(t, r, "retained", "bytes_each_over_payload", "others_share", "missing")
	nothingLeft(t, c.Dir)
}

// TestScaleNeedsNumbers: nothing is measured of nothing.
func TestScaleNeedsNumbers(t *testing.T) {
	c := testConfig(t)
	_, queued := Queued(t.Context(), c, nil)
	_, retained := Retained(t.Context(), c, nil)
	for _, err := range []error{queued, retained} {
		if err == nil || !strings.Contains(err.Error(), "want the number of messages") {
			t.Errorf("error %v, want that a number is missing", err)
		}
	}
	c.Retained, c.Queued = -1, -1
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "queued: -1") || !strings.Contains(err.Error(), "retained: -1") {
		t.Errorf("error %v, want both named", errors.Join(err))
	}
}

// hasKeys looks for the keys of a report that others read.
func hasKeys(t *testing.T, report any, keys ...string) {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if !strings.Contains(string(text), `"`+key+`":`) {
			t.Errorf("no %s in %s", key, text)
		}
	}
}
