package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/addr"
)

func (f fakeNode) Ping(ctx context.Context, r admin.PingRequest, tell func(admin.PingEvent) error) error {
	sat, there := addr.MustNode("sat-1"), 1290.0
	way := &admin.Way{Up: true, Hops: 2, NextHop: sat, Layer: "salvo", LinkRTTms: 2560, ExpectedMS: 2600, PatienceMS: 13400}
	all := []admin.PingEvent{
		{Event: admin.PingOpen, Class: r.Class, Path: way},
		{Event: admin.PingAnswer, Seq: 1, RTTms: 2611, ThereMS: &there, There: 2, Back: 2, Path: way},
		{Event: admin.PingPath, Class: r.Class, Path: &admin.Way{Hops: 2, NextHop: sat}},
		{Event: admin.PingPath, Class: r.Class, Path: &admin.Way{Up: true, Hops: 1, NextHop: r.Node, Layer: "quic", LinkRTTms: 0.51, PatienceMS: 2000}},
		{Event: admin.PingSilent, Seq: 2},
		{Event: admin.PingRefused, Seq: 3, Reason: "store-full"},
		{Event: admin.PingAnswer, Seq: 2, RTTms: 61000, There: 2, Back: 3, Late: true, Path: way},
	}
	if f.empty {
		all = []admin.PingEvent{{Event: admin.PingOpen, Class: r.Class, Path: &admin.Way{}}, {Event: admin.PingSilent, Seq: 1}}
	}
	if r.Node.String() == "nobody" {
		return admin.NotHere("farhop nodes", "no node %q is known here", r.Node)
	}
	for _, e := range all {
		e.At, e.Node = noon(), r.Node
		if err := tell(e); err != nil {
			return err
		}
	}
	if r.Count == 0 {
		<-ctx.Done()
	}
	return nil
}

// A ping without end is summed up when it is stopped, and that is no error.
func TestPingEnds(t *testing.T) {
	dir := serve(t, fakeNode{})
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, stop)
	if code, out, stderr := call(ctx, "", "ping", "mars-1", "--count", "0", "--dir", dir); code != 0 || !strings.Contains(out, "3 asked, 2 answered, 1 lost, 1 late; least 2.61 s") {
		t.Errorf("%d %q %q", code, out, stderr)
	}
}

// With --json every line is a value, and the last one sums up.
func TestPingJSON(t *testing.T) {
	code, out, stderr := call(t.Context(), "", "ping", "mars-1", "--json", "--dir", serve(t, fakeNode{}))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 8 {
		t.Fatalf("%d %q %q, want 8 lines", code, out, stderr)
	}
	if e := fromJSON[admin.PingEvent](t, lines[1]); e.RTTms != 2611 || e.ThereMS == nil || *e.ThereMS != 1290 || e.Path.Layer != "salvo" {
		t.Errorf("an answer: %q", lines[1])
	}
	if s := fromJSON[pingSummary](t, lines[7]); s.Event != "summary" || s.Sent != 3 || s.Answered != 2 || s.Lost != 1 || s.MinMS != 2611 || s.P99MS != 61000 {
		t.Errorf("the summary: %q", lines[7])
	}
}
