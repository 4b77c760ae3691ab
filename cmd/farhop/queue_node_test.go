package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

const earthQueue = "region earth"

// keeper is a node whose route keeps what is published below plant/ for a
// region that is not there, in batches.
func keeper(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "luna")
	must(t, "", "init", "--region", "luna", "--name", "luna-1", "--dir", dir, "--mqtt", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mesh", "127.0.0.1:0")
	path := filepath.Join(dir, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Delivery.Batch.Wait.Telemetry = config.Duration(100 * time.Millisecond)
	c.Routes = []config.Route{{Name: "up", Match: config.Match{Topic: "plant/#"}, To: []addr.Region{addr.MustRegion("earth")}}}
	c.Quotas = []config.Quota{{Name: "all", MaxBytes: 1 << 20}}
	if err := config.Save(path, c); err != nil {
		t.Fatal(err)
	}
	return dir
}

// publishBatch publishes until some messages share a bundle, and returns what
// was said by id.
func publishBatch(t *testing.T, dir string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for round := 0; ; round++ {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				text := fmt.Sprintf("reading %d of round %d", i, round)
				code, out, stderr := call(t.Context(), "", "pub", "-t", fmt.Sprintf("plant/%d", i), "-m", text, "--dir", dir)
				if code != 0 {
					t.Errorf("pub: %d %s", code, stderr)
				}
				mu.Lock()
				defer mu.Unlock()
				said[strings.TrimSpace(out)] = text
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		if slices.ContainsFunc(peekAll(t, dir, earthQueue).Messages, func(m admin.Waiting) bool { return m.Count > 1 }) {
			return said
		}
	}
}

func fromJSON[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func peekAll(t *testing.T, dir, queue string) admin.Peek {
	t.Helper()
	code, out, stderr := call(t.Context(), "", "queue", "peek", queue, "-n", "1000", "--payload", "--json", "--dir", dir)
	if code != 0 && code != exitNothing {
		t.Fatalf("peek: %d %s", code, stderr)
	}
	return fromJSON[admin.Peek](t, out)
}

// texts are the payloads of a peek, sorted, those of batches one by one.
func texts(p admin.Peek) (out []string) {
	for _, m := range p.Messages {
		for _, c := range m.Content {
			out = append(out, string(c.Payload))
		}
	}
	slices.Sort(out)
	return out
}

func valuesOf(m map[string]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// An operator looks into the queue of a node with batches in it, finds every
// message, exports, purges and replays them.
func TestQueueOfANode(t *testing.T) {
	dir := keeper(t)
	saved, peeked := filepath.Join(t.TempDir(), "saved.jsonl"), filepath.Join(t.TempDir(), "peeked.json")
	var said map[string]string
	t.Run("look", func(t *testing.T) {
		runDaemon(t, dir)
		said = publishBatch(t, dir)
		if out := must(t, "", "queue", "peek", "region", "earth", "--payload", "--json", "-n", "1000", "--dir", dir); os.WriteFile(peeked, []byte(out), 0o600) != nil {
			t.Fatal("the peek was not kept")
		}
		looksInto(t, dir, said)
	})
	t.Run("at rest", func(t *testing.T) { atRest(t, dir, saved, said) })
	t.Run("purge and replay", func(t *testing.T) {
		runDaemon(t, dir)
		if code, _, stderr := call(t.Context(), "", "queue", "purge", earthQueue, "--dir", dir); code != exitUnconfirmed || !strings.Contains(stderr, count(len(said), "message", "messages")) {
			t.Errorf("purge without --yes: %d %s", code, stderr)
		}
		replays(t, dir, saved, peeked, said)
	})
	t.Run("to a session", func(t *testing.T) {
		runDaemon(t, dir)
		toSession(t, dir, saved, said)
	})
}

func looksInto(t *testing.T, dir string, said map[string]string) {
	p := peekAll(t, dir, earthQueue)
	if got := texts(p); !slices.Equal(got, valuesOf(said)) {
		t.Errorf("peek shows %q, want %q", got, valuesOf(said))
	}
	if p := fromJSON[admin.Peek](t, must(t, "", "queue", "peek", earthQueue, "-n", "1", "--after", fmt.Sprint(p.Messages[len(p.Messages)-1].Seq-1), "--json", "--dir", dir)); len(p.Messages) != 1 || p.More {
		t.Errorf("the last one: %+v", p)
	}
	inner := ""
	for id := range said {
		w := fromJSON[admin.Why](t, must(t, "", "why", id, "--json", "--dir", dir))
		if len(w.Places) != 1 || w.Places[0].Queue != earthQueue || w.Places[0].State != "held" {
			t.Fatalf("why %s: %+v", id, w)
		}
		if b := w.Places[0].Batch; b != "" && b != id {
			inner = id
		}
	}
	if inner == "" {
		t.Error("why finds no message inside a batch")
	}
	if code, _, _ := call(t.Context(), "", "why", "luna-1.00001.t1", "--dir", dir); code != exitNothing {
		t.Errorf("why of an unknown message: %d", code)
	}
	if code, _, stderr := call(t.Context(), "", "queue", "purge", "--all", "--message", inner, "--yes", "--dir", dir); code != exitFailed || !strings.Contains(stderr, "cannot end alone") {
		t.Errorf("purge of %s out of a batch: %d %s", inner, code, stderr)
	}
	q := fromJSON[admin.Queues](t, must(t, "", "queue", "--quotas", "--json", "--dir", dir))
	if len(q.Queues) != 1 || !strings.Contains(q.Queues[0].Waits, "a path to region earth") || len(q.Quotas) != 1 || q.Quotas[0].Quota != "all" || q.Quotas[0].MaxBytes != 1<<20 {
		t.Errorf("queue --quotas: %+v", q)
	}
	if out := must(t, "", "queue", "retry", "--dir", dir); out != "0 queues rested and go on\n" {
		t.Errorf("retry: %q", out)
	}
	if code, out, stderr := call(t.Context(), "", "store", "export", "--dir", dir); code != exitFailed || out != "" || !strings.Contains(stderr, "a farhop runs in this data directory") {
		t.Errorf("store export beside a daemon: %d %q %q", code, out, stderr)
	}
}

// atRest looks at the store without a daemon, and exports it.
func atRest(t *testing.T, dir, saved string, said map[string]string) {
	s := fromJSON[node.StoreStats](t, must(t, "", "store", "stats", "--json", "--dir", dir))
	if len(s.Queues) != 1 || s.Queues[0].Queue != earthQueue || s.Messages == 0 || s.Queues[0].Oldest.IsZero() {
		t.Errorf("stats: %+v", s)
	}
	c := fromJSON[node.StoreCheck](t, must(t, "", "store", "check", "--json", "--dir", dir))
	if c.Damaged != 0 || c.Messages != s.Messages || c.State != s.StateKeys || c.State == 0 {
		t.Errorf("check: %+v", c)
	}
	must(t, "", "store", "export", saved, "--dir", dir)
	if code, _, _ := call(t.Context(), "", "store", "export", saved, "--dir", dir); code != exitFailed {
		t.Errorf("export over a file: %d", code)
	}
	data, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	got, bundles := map[string]string{}, 0
	for line := range strings.Lines(string(data)) {
		m := fromJSON[admin.Stored](t, line)
		if got[m.Message] = string(m.Payload); m.Queue != earthQueue || m.State != "waiting" || m.Expires.IsZero() || !strings.HasPrefix(m.Topic, "plant/") {
			t.Errorf("exported: %+v", m)
		}
		if m.Bundle == "" {
			continue
		}
		bundles++
		raw, err := hex.DecodeString(m.Bundle)
		if v, perr := bundle.Parse(raw); err != nil || perr != nil || v.Mesh.Message.String() != m.Message {
			t.Errorf("the bundle of %s: %v, %v", m.Message, err, perr)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(said) || bundles != s.Messages {
		t.Errorf("exported %v and %d bundles, want %v and %d", got, bundles, said, s.Messages)
	}
}

// replays purges the queue and fills it again, twice.
func replays(t *testing.T, dir, saved, peeked string, said map[string]string) {
	purge := func() {
		t.Helper()
		must(t, "", "queue", "purge", earthQueue, "--yes", "--dir", dir)
		if p := peekAll(t, dir, earthQueue); len(p.Messages) != 0 {
			t.Errorf("left after a purge: %+v", p)
		}
	}
	n := len(said)
	purge()
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{saved}, fmt.Sprintf("%d ok\n", n)},
		{[]string{saved}, fmt.Sprintf("%d duplicate\n", n)},
		{[]string{peeked}, fmt.Sprintf("%d duplicate\n", n)},
	} {
		if out := must(t, "", append([]string{"queue", "replay", "--dir", dir}, step.args...)...); out != step.want {
			t.Errorf("replay %v: %q, want %q", step.args, out, step.want)
		}
		if got := texts(peekAll(t, dir, earthQueue)); !slices.Equal(got, valuesOf(said)) {
			t.Errorf("the queue has %q, want %q", got, valuesOf(said))
		}
	}
	purge()
	if out := must(t, "", "queue", "replay", peeked, "--again", "--dir", dir); out != fmt.Sprintf("%d ok\n", n) {
		t.Errorf("replay --again: %q", out)
	}
	s := fromJSON[admin.Status](t, must(t, "", "status", "--json", "--dir", dir))
	if s.Counters.Ended["purged"] != uint64(2*n) {
		t.Errorf("%d ended as purged, want %d", s.Counters.Ended["purged"], 2*n)
	}
}

// toSession replays to one device alone, which gets each message once.
func toSession(t *testing.T, dir, saved string, said map[string]string) {
	sub := []string{"sub", "-t", "other", "--client", "ops", "--payload", "--dir", dir, "-n"}
	got := make(chan string, 1)
	go func() {
		_, out, stderr := call(t.Context(), "", append(sub, "1")...)
		got <- out + stderr
	}()
	for {
		code, _, _ := call(t.Context(), "", "pub", "-t", "other", "-m", "hello", "--dir", dir)
		select {
		case <-got:
		default:
			if code == 0 {
				continue
			}
		}
		break
	}
	must(t, "", "queue", "purge", "--all", "--yes", "--dir", dir)
	for _, want := range []string{"ok", "duplicate"} {
		if out := must(t, "", "queue", "replay", saved, "--to-session", "ops", "--dir", dir); out != fmt.Sprintf("%d %s\n", len(said), want) {
			t.Errorf("replay to a session: %q, want %s", out, want)
		}
	}
	if out := must(t, "", "queue", "replay", saved, "--to-session", "nobody", "--dir", dir); out != fmt.Sprintf("%d no-subscriber\n", len(said)) {
		t.Errorf("replay to nobody: %q", out)
	}
	q := fromJSON[[]admin.Queue](t, must(t, "", "queue", "ls", "--json", "--dir", dir))
	if len(q) != 1 || q[0].Queue != "session ops" || !strings.Contains(q[0].Waits, "to connect") {
		t.Errorf("queues: %+v", q)
	}
	lines := strings.Split(strings.TrimSpace(must(t, "", append(sub, fmt.Sprint(len(said)))...)), "\n")
	slices.Sort(lines)
	if !slices.Equal(lines, valuesOf(said)) {
		t.Errorf("the device got %q, want %q", lines, valuesOf(said))
	}
}
