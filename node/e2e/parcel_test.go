//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
)

// waits waits until so many bundles wait for another node.
func (d *daemon) waits(queue string, n int) {
	d.t.Helper()
	d.wait(fmt.Sprintf("%d bundles in queue %s", n, queue), func(s admin.Status) bool {
		sum := 0
		for _, q := range s.Queues {
			if q.Queue == queue {
				sum += q.Bundles
			}
		}
		return sum == n
	})
}

func doJSON[T any](d *daemon, args ...string) (v T) {
	d.t.Helper()
	if err := json.Unmarshal([]byte(d.do(append(args, "--json")...)), &v); err != nil {
		d.t.Fatal(err)
	}
	return v
}

// exported is what farhop bundle export says.
type exported struct{ Bundles, Released int }

// TestParcel carries messages by file from a node that is cut off, twice and
// with a receipt, and gives custody away with another file. Everything arrives
// once, though the far end is killed while it reads a file, and the near one
// after it gave custody away.
func TestParcel(t *testing.T) {
	m := newMesh(t)
	sub := subscribe(m.luna, "historian", "ship/#", 1)
	m.earth.knows(m.luna, "ship/#")
	m.toEarth.Cut(true)
	m.earth.reaches(m.luna, false)
	dir := t.TempDir()
	file, receipt := filepath.Join(dir, "ship.fhb"), filepath.Join(dir, "receipt.fhr")

	sent := numbered("m", 300)
	long := make([]string, len(sent)) // too large for batches
	for i, text := range sent {
		long[i] = text + strings.Repeat(".", 5000)
	}
	publish(m.earth, "ship/1/log", 1, long...)
	if x := doJSON[exported](m.earth, "bundle", "export", "--out", file, "--to", "luna-1"); x.Bundles != len(sent) || x.Released != 0 {
		t.Fatalf("%+v", x)
	}
	m.earth.waits("node luna-1", len(sent)) // custody stays

	badFiles(t, m.relay, file)

	// The far end dies while it reads the file, and reads it again.
	done := make(chan struct{})
	go func() { defer close(done); m.relay.try("", "bundle", "import", file) }()
	time.Sleep(15 * time.Millisecond)
	m.relay.kill()
	<-done
	m.relay.run()
	m.relay.linked(true, m.luna)
	in := doJSON[admin.Imported](m.relay, "bundle", "import", file, "--receipt", receipt)
	if in.Taken+in.Known != len(sent) || len(in.Refused) > 0 || in.Node.String() != "earth-1" {
		t.Errorf("%+v", in)
	}
	sub.once(long)
	if in := doJSON[admin.Imported](m.relay, "bundle", "import", file); in.Known != len(sent) || in.Taken != 0 {
		t.Errorf("a second time: %+v", in)
	}
	over := doJSON[admin.HandedOver](m.earth, "bundle", "import", receipt)
	if over.Released != len(sent) || over.Named != len(sent) || over.Node.String() != "relay" {
		t.Errorf("%+v", over)
	}
	m.earth.waits("node luna-1", 0)
	if _, stderr, code := m.luna.try("", "bundle", "import", receipt); code != 1 || !strings.Contains(stderr, "about bundles of earth-1") {
		t.Errorf("a receipt at another node: %d %q", code, stderr)
	}

	released(t, m, sub, long)
}

// badFiles: what is not as it was signed changes nothing.
func badFiles(t *testing.T, d *daemon, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.fhb")
	for what, changed := range map[string][]byte{
		"cut off": data[:len(data)*2/3], "damaged": bytes.Replace(data, []byte("m-00200"), []byte("m-OO200"), 1), "followed": append(bytes.Clone(data), 'x'),
	} {
		if err := os.WriteFile(bad, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := d.try("", "bundle", "import", bad); code != 1 || !strings.Contains(stderr, "at byte ") {
			t.Errorf("%s: exit code %d, %q", what, code, stderr)
		}
	}
	if n := d.status().Counters.Relayed; n != 0 {
		t.Errorf("%d bundles of bad files were taken in", n)
	}
}

// released: custody goes with a file, is taken at its destination, and the link
// goes on from there.
func released(t *testing.T, m *mesh, sub *client, before []string) {
	t.Helper()
	second := filepath.Join(t.TempDir(), "second.fhb")
	more := "the only copy"
	publish(m.earth, "ship/1/log", 1, more)
	if x := doJSON[exported](m.earth, "bundle", "export", "--out", second, "--release"); x.Bundles < 1 || x.Released != x.Bundles {
		t.Errorf("%+v", x)
	}
	m.earth.kill()
	m.earth.run()
	m.earth.waits("node luna-1", 0)
	if in := doJSON[admin.Imported](m.luna, "bundle", "import", second); in.Taken < 1 || len(in.Refused) > 0 {
		t.Errorf("at its destination: %+v", in)
	}
	m.toEarth.Cut(false)
	m.earth.reaches(m.luna, true)
	last := "over the link again"
	publish(m.earth, "ship/1/log", 1, last)
	sub.once(append(before, more, last))
	m.earth.empty()
}
