package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/addr"
)

// Sessions gives two parts, so that all are asked for.
func (f fakeNode) Sessions(_ context.Context, r admin.SessionsRequest) (admin.Sessions, error) {
	out := admin.Sessions{Now: noon()}
	hour, at := int64(3600), func(d time.Duration) time.Time { return noon().Add(d) }
	plc := admin.Session{
		Client: "plc-7", Connected: true, Since: at(-time.Hour), Remote: "192.0.2.7:50112", Listener: "tls", User: "plc", Names: []string{"plc-7.example"},
		Version: "5", KeepAliveS: 60, Persistent: true, ExpiryS: &hour, Subscriptions: 2, Queued: 3, Bytes: 4096, InFlight: 2, Window: 32,
		Oldest: at(-time.Minute), Inbound: 1,
	}
	switch {
	case f.empty, r.Client == "nobody":
	case r.Exact:
		plc.Filters = []admin.Subscription{{Filter: "cmd/7/#", QoS: 1}, {Filter: "$share/g/log/+", QoS: 2, NoLocal: true, RetainAsPublished: true, ID: 4}}
		out.Sessions = []admin.Session{plc}
	case r.After == "":
		out.More, out.Sessions = true, []admin.Session{
			{Client: "$dtn", Connected: true, Since: at(-time.Hour), Persistent: true, Subscriptions: 1, Node: true},
			{Client: "live", Connected: true, Since: at(-time.Second), Remote: "127.0.0.1:40000", Listener: "tcp", Version: "3.1.1"},
		}
	case r.After == "live":
		out.Sessions = []admin.Session{plc, {Client: "scada\x1b[31m", Since: at(-26 * time.Hour), Persistent: true, ExpiryS: &hour, Expires: at(10 * time.Minute), Queued: 1}}
	}
	return out, nil
}

func (f fakeNode) KickSession(_ context.Context, r admin.SessionRequest) (admin.Kicked, error) {
	return admin.Kicked{Connected: !f.empty && r.Client == "plc-7"}, nil
}

func (f fakeNode) EndSession(_ context.Context, r admin.SessionRequest) (admin.EndedSession, error) {
	if r.Client == "$dtn" {
		return admin.EndedSession{}, admin.NotHere("remove the exports", "it is the node's own")
	}
	if f.empty {
		return admin.EndedSession{}, nil
	}
	return admin.EndedSession{Found: true, Messages: 3, Bytes: 4096}, nil
}

func (f fakeNode) Retained(_ context.Context, r admin.RetainedRequest) (admin.Retained, error) {
	out := admin.Retained{Now: noon()}
	if f.empty {
		return out, nil
	}
	luna := addr.MustNode("luna-1")
	m := admin.RetainedMessage{Topic: "plant/1/state", State: "message", Stamp: "128", Published: noon().Add(-time.Minute), Node: luna, Expires: noon().Add(time.Hour), Size: 2}
	if r.Values {
		m.Content = &admin.Publication{
			Topic: m.Topic, QoS: 1, Retain: true, Client: "plc-7", ContentType: "text/plain", Response: "answers/7", Correlation: []byte{0xff},
			Properties: []admin.Property{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}, Payload: []byte("on"),
		}
	}
	long := admin.RetainedMessage{Topic: "plant/2/log", State: "message", Stamp: "64", Node: luna, Size: 99}
	if r.Values {
		long.Content = &admin.Publication{Payload: []byte(strings.Repeat("é", 50))}
	}
	switch {
	case r.Filter == m.Topic:
		out.Messages = []admin.RetainedMessage{m}
	case r.After == "":
		out.More, out.Messages = true, []admin.RetainedMessage{m}
	default:
		out.Messages = []admin.RetainedMessage{long}
		if r.Marks {
			out.Messages = append(out.Messages, admin.RetainedMessage{Topic: "plant/3", State: "deleted", Stamp: "65", Node: luna, Expires: noon().Add(time.Hour)})
		}
	}
	return out, nil
}

func (f fakeNode) RemoveRetained(_ context.Context, r admin.RetainedRequest) (admin.RemovedRetained, error) {
	switch {
	case f.empty:
		return admin.RemovedRetained{}, nil
	case r.Filter == "full/#":
		return admin.RemovedRetained{Removed: 1, Failed: map[string]int{"store-full": 2}}, nil
	case r.DryRun:
		return admin.RemovedRetained{Removed: 7, More: true}, nil
	}
	return admin.RemovedRetained{Removed: 1}, nil
}

func (f fakeNode) Tap(ctx context.Context, r admin.TapRequest, tell func(admin.TapEvent) error) error {
	earth := addr.MustNode("earth-1")
	id := "luna-1.9f3a2.t57"
	all := []admin.TapEvent{
		{Event: "open", Topic: r.Filter, Node: addr.MustNode("luna-1")},
		{Event: "accepted", Reason: "ok", Message: id, Topic: "plant/1", Client: "plc-7", QoS: 1, Retain: true, Size: 4, Class: "telemetry", To: []string{"node earth-1", "session hist"}, Live: 2},
		{Event: "refused", Reason: "store-full", Topic: "plant/1", Client: "plc\x1b7", QoS: 1, Size: 2048},
		{Event: "delivered", Message: id, Topic: "plant/1", Client: "hist", QoS: 1, Size: 4, Lost: 3},
		{Event: "acknowledged", Message: id, Topic: "plant/1", Client: "hist", QoS: 1, Size: 40, Queue: "session hist"},
		{Event: "dropped", Reason: "queue-full", Topic: "plant/1", Client: "slow", Size: 4},
		{Event: "forwarded", Message: id, Topic: "plant/1", Node: earth, QoS: 1, Size: 40, Queue: "node mars-1"},
		{Event: "arrived", Reason: "no-subscriber", Message: id, Topic: "plant/1", Node: earth, QoS: 1, Size: 4},
		{Event: "ended", Reason: "expired", Message: id, Topic: "plant/1", QoS: 1, Size: 40, Queue: "node mars-1"},
	}
	for i, e := range all {
		if e.At = noon(); r.Payload && e.Event == "accepted" {
			e.Payload = []byte("21.5")
		}
		if err := tell(e); err != nil || i == r.Count && r.Count > 0 {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// What the commands about clients and their messages say.
func TestDevices(t *testing.T) {
	calls := []string{
		"sessions", "sessions ls --client plc-*", "sessions show plc-7", "sessions show nobody", "sessions kick plc-7", "sessions kick nobody",
		"sessions end plc-7", "sessions end plc-7 --yes", "sessions end $dtn --yes", "sessions show", "sessions shwo",
		"retained ls", "retained ls plant/# --values --marks", "retained ls plant/#/x", "retained get plant/1/state", "retained get plant/1/state --raw",
		"retained get plant/#", "retained rm plant/1/state", "retained rm plant/#", "retained rm plant/# --yes", "retained rm full/# --yes",
		"tap plant/# --count 8", "tap plant/# --payload -n 1", "tap plant/# --count -1", "tap",
	}
	for name, f := range map[string]fakeNode{"full": {}, "empty": {empty: true}} {
		t.Run(name, func(t *testing.T) {
			golden(t, "devices-"+name+".txt", transcript(t, serve(t, f), "", calls))
		})
	}
}

func TestDevicesJSON(t *testing.T) {
	for _, f := range []fakeNode{{}, {empty: true}} {
		dir := serve(t, f)
		for _, line := range []string{"sessions", "sessions ls", "sessions kick plc-7", "sessions end plc-7 --yes", "retained ls", "retained rm a --yes", "tap a -n 1"} {
			_, out, _ := call(t.Context(), "", append(strings.Fields(line), "--json", "--dir", dir)...)
			if !json.Valid([]byte(out)) || strings.TrimSpace(out) == "null" {
				t.Errorf("farhop %s --json: %q", line, out)
			}
		}
	}
	dir := serve(t, fakeNode{})
	_, out, _ := call(t.Context(), "", "sessions", "--json", "--dir", dir)
	if all := fromJSON[admin.Sessions](t, out); len(all.Sessions) != 4 || all.More {
		t.Errorf("%d sessions, more: %t; want all 4 of both parts", len(all.Sessions), all.More)
	}
}

// A tap ends without an error when it is stopped, and with one when the node
// ends it.
func TestTapEnds(t *testing.T) {
	dir := serve(t, fakeNode{})
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, stop)
	if code, out, stderr := call(ctx, "", "tap", "plant/#", "--json", "--dir", dir); code != 0 || strings.Count(out, "\n") != 8 || !strings.Contains(stderr, "tap on plant/# at luna-1") {
		t.Errorf("%d %q %q", code, out, stderr)
	}
}
