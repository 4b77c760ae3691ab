package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

func (f fakeNode) Queues(ctx context.Context) (admin.Queues, error) {
	s, err := f.Status(ctx)
	out := admin.Queues{Now: s.Now, Queues: s.Queues}
	if f.empty {
		return out, err
	}
	for i, waits := range []string{"its turn on the link to earth-1", "the link to ship, which is down", `client "plc-7" to connect`} {
		out.Queues[i].Waits = waits
	}
	out.Quotas = []admin.QuotaUse{
		{Quota: "per-device/plc-7", Bytes: 4096, Messages: 3, MaxBytes: 1 << 20}, {Quota: "all\x1b[31m", Bytes: 1, Messages: 1, MaxMessages: 1000},
	}
	return out, err
}

func (f fakeNode) Peek(_ context.Context, r admin.PeekRequest) (admin.Peek, error) {
	if !strings.Contains(r.Queue, " ") {
		return admin.Peek{}, admin.Invalid("farhop queue", "queue %q: want a kind and a name", r.Queue)
	}
	out := admin.Peek{Queue: r.Queue, Now: noon(), More: r.Limit < 20}
	if f.empty {
		return out, nil
	}
	luna, at := addr.MustNode("luna-1"), func(d time.Duration) time.Time { return noon().Add(d) }
	out.Messages = []admin.Waiting{
		{Seq: 12, Class: "telemetry", Message: "luna-1.9f3a2.t57", Service: "mqtt", Topic: "plant/1", Origin: luna, Hops: 0, QoS: 1, Size: 40, Received: at(-time.Minute), Expires: at(time.Hour), State: "in flight", Sent: 3},
		{Seq: 13, Class: "bulk", Message: "luna-1.9f3a2.b1", Count: 2, Service: "mqtt", Origin: luna, Previous: addr.MustNode("relay"), Hops: 2, Size: 900, Received: at(-30 * time.Hour), Expires: at(-time.Second), State: "waiting"},
		{Seq: 14, Class: "bulk", State: "damaged"},
	}
	if r.Payload {
		out.Messages[0].Content = []admin.Publication{{Message: "luna-1.9f3a2.t57", Topic: "plant/1", QoS: 1, Payload: []byte("21.5\n")}}
		out.Messages[1].Content = []admin.Publication{
			{Message: "luna-1.9f3a2.b1", Topic: "log/a", Payload: []byte{0xff, 0}}, {Message: "luna-1.9f3a2.b4", Topic: "log/b", Payload: []byte{}},
		}
		out.Messages[2].Unread = "the disk returns other bytes than were written"
	}
	return out, nil
}

func (f fakeNode) Retry(context.Context) (admin.Retried, error) {
	if f.empty {
		return admin.Retried{}, nil
	}
	return admin.Retried{Resting: 2, Probed: 1}, nil
}

func (f fakeNode) Purge(_ context.Context, r admin.PurgeRequest) (admin.Purged, error) {
	switch {
	case f.empty:
		return admin.Purged{}, nil
	case r.Message != "":
		return admin.Purged{}, admin.NotHere("name luna-1.9f3a2.t51 to end the whole batch", "%s travels in one bundle with 8 others and cannot end alone", r.Message)
	case r.DryRun:
		return admin.Purged{Ended: 3, Messages: 42, Bytes: 4096, AtLeast: r.All}, nil
	case r.Older != config.Duration(24*time.Hour) || r.Class != "bulk" || r.Origin.String() != "luna-1":
		return admin.Purged{Ended: 3}, nil
	}
	return admin.Purged{Ended: 1, Left: 7}, nil
}

// Replay refuses what says so, and takes the rest.
func (f fakeNode) Replay(_ context.Context, r admin.ReplayRequest) (admin.Replayed, error) {
	out, size := admin.Replayed{Verdicts: map[string]int{}}, 0
	for _, m := range r.Messages {
		size += len(m.Payload)
	}
	if len(r.Messages) > admin.MaxReplay || size > replayChunk {
		return out, admin.Invalid("", "%d messages of %d bytes at once", len(r.Messages), size)
	}
	for _, m := range r.Messages {
		switch {
		case f.empty || string(m.Payload) == "refuse me":
			out.Verdicts["quota-exceeded"]++
		case r.Session != "":
			out.Verdicts["duplicate"]++
		default:
			out.Verdicts["ok"]++
		}
	}
	return out, nil
}

// exported is a file of farhop store export: two that can be replayed, one of
// another service, one that ended, one that could not be read.
const exported = `{"queue": "node earth-1", "class": "telemetry", "seq": 1, "state": "waiting", "message": "luna-1.9f3a2.t57", "topic": "a", "qos": 1, "payload": "MjEuNQ==", "expires": "2031-05-06T13:00:00Z"}
{"queue": "node earth-1", "class": "bulk", "seq": 2, "state": "waiting", "message": "luna-1.9f3a2.b1", "topic": "a", "qos": 1, "payload": "", "expires": "2031-05-06T13:00:00Z"}
{"queue": "service fleet", "class": "control", "seq": 3, "state": "waiting", "message": "luna-1.9f3a2.c1", "payload": "AA=="}
{"queue": "node earth-1", "class": "bulk", "seq": 4, "state": "ended", "message": "luna-1.9f3a2.b2", "topic": "a", "payload": ""}
{"queue": "node earth-1", "class": "bulk", "seq": 5, "state": "damaged", "message": "", "payload": null, "unread": "gone"}
`

func TestQueue(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("saved.jsonl", exported)
	write("refused.jsonl", strings.Replace(exported, "MjEuNQ==", "cmVmdXNlIG1l", 1))
	write("none.jsonl", strings.SplitAfter(exported, "\n")[2])
	write("broken.jsonl", strings.SplitAfter(exported, "\n")[0]+`{"a": 1}`)
	peeked, _ := fakeNode{}.Peek(t.Context(), admin.PeekRequest{Queue: "node earth-1", Payload: true})
	text, err := json.Marshal(peeked)
	if err != nil {
		t.Fatal(err)
	}
	write("peeked.json", string(text))
	calls := []string{
		"queue --quotas", "queue ls", "queue peek node earth-1", "queue peek node earth-1 -n 3 --payload", "queue peek earth-1",
		"queue retry", "queue purge node earth-1", "queue purge --all", "queue purge node earth-1 --yes",
		"queue purge node earth-1 --class bulk --older 24h --origin luna-1 --yes", "queue purge --all --message luna-1.9f3a2.t57 --yes",
		"queue replay saved.jsonl", "queue replay saved.jsonl --to-session plc-7", "queue replay peeked.json", "queue replay refused.jsonl",
		"queue replay none.jsonl", "queue replay broken.jsonl", "queue replay missing.jsonl",
		"queue nonsense", "queue peek", "queue peek node earth-1 -n 0", "queue purge", "queue purge node earth-1 --all",
		"queue purge --all --older -1h", "queue purge --all --origin Ü", "queue purge --all --message x", "queue replay saved.jsonl --to-session a --to-node b",
	}
	for name, f := range map[string]fakeNode{"full": {}, "empty": {empty: true}} {
		t.Run(name, func(t *testing.T) {
			golden(t, "queue-"+name+".txt", transcript(t, serve(t, f), dir, calls))
		})
	}
}

// --json prints one JSON value and nothing else.
func TestQueueJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "saved.jsonl")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []fakeNode{{}, {empty: true}} {
		dir := serve(t, f)
		for _, line := range []string{
			"queue", "queue ls", "queue --quotas", "queue peek node earth-1 --payload", "queue retry", "queue purge --all", "queue purge --all --yes", "queue replay " + file,
		} {
			_, out, _ := call(t.Context(), "", append(strings.Fields(line), "--json", "--dir", dir)...)
			if !json.Valid([]byte(out)) || strings.TrimSpace(out) == "null" {
				t.Errorf("farhop %s --json: %q", line, out)
			}
		}
	}
}

// A replay is sent in requests that the node takes, whatever the file holds.
func TestReplayInChunks(t *testing.T) {
	dir := serve(t, fakeNode{})
	line := strings.SplitAfter(exported, "\n")[0]
	many := strings.Repeat(line, 2*admin.MaxReplay+1)
	large := strings.Repeat(strings.Replace(line, "MjEuNQ==", strings.Repeat("AAAA", 1<<18), 1), 5)
	for text, want := range map[string]string{many: "513 ok\n", large: "5 ok\n"} {
		code, out, stderr := call(t.Context(), text, "queue", "replay", "-", "--dir", dir)
		if code != 0 || out != want {
			t.Errorf("%d %q %q, want %q", code, out, stderr, want)
		}
	}
}
