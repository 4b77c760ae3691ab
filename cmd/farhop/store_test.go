package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/storeforward/storetest"
)

func TestStoreOfNobody(t *testing.T) {
	for _, command := range []string{"check", "stats", "compact", "export"} {
		code, out, stderr := call(t.Context(), "", "store", command, "--dir", t.TempDir())
		if code != exitNoNode || out != "" || !strings.Contains(stderr, "there is no store") {
			t.Errorf("store %s: %d %q %q", command, code, out, stderr)
		}
	}
}

// What the commands say of a store with one sound and one damaged message, of
// each engine.
func TestStoreWithDamage(t *testing.T) {
	for _, engine := range []string{"journal", "bbolt"} {
		t.Run(engine, func(t *testing.T) {
			dir := keeper(t)
			path := filepath.Join(dir, config.FileName)
			c, err := config.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			c.Store.Engine = engine
			if err := config.Save(path, c); err != nil {
				t.Fatal(err)
			}
			large := "the message to spoil" + strings.Repeat(".", 32<<10) // with a checksum of its own
			t.Run("fill", func(t *testing.T) {
				runDaemon(t, dir)
				must(t, "", "pub", "-t", "plant/1", "-m", "a sound message", "--dir", dir)
				must(t, "", "pub", "-t", "plant/2", "-m", large, "--dir", dir)
			})
			if s := fromJSON[node.StoreStats](t, must(t, "", "store", "stats", "--json", "--dir", dir)); s.Engine != engine || s.Messages != 2 || s.FileBytes == 0 {
				t.Errorf("stats: %+v", s)
			}
			if out := must(t, "", "store", "stats", "--dir", dir); !strings.Contains(out, "\nregion earth  telemetry  2 ") {
				t.Errorf("stats: %s", out)
			}
			compacts(t, dir, engine)
			if out := must(t, "", "store", "check", "--dir", dir); !strings.HasPrefix(out, engine+": 2 messages and ") || !strings.HasSuffix(out, " were read, 0 faults\n") {
				t.Errorf("check: %s", out)
			}
			storetest.Spoil(t, filepath.Join(dir, "store"), "the message to spoil")
			if code, out, stderr := call(t.Context(), "", "store", "check", "--dir", dir); code != exitBroken || !strings.Contains(out, " number ") || !strings.Contains(stderr, "damaged in") {
				t.Errorf("check of a damaged store: %d %s %s", code, out, stderr)
			}
			exportsTheRest(t, dir)
		})
	}
}

func compacts(t *testing.T, dir, engine string) {
	t.Helper()
	code, out, stderr := call(t.Context(), "", "store", "compact", "--dir", dir)
	if engine == "bbolt" {
		if code != exitFailed || !strings.Contains(stderr, "not supported") {
			t.Errorf("compact: %d %q %q", code, out, stderr)
		}
		return
	}
	if code != 0 || !strings.HasSuffix(out, " now\n") {
		t.Errorf("compact: %d %q %q", code, out, stderr)
	}
}

func exportsTheRest(t *testing.T, dir string) {
	t.Helper()
	code, out, stderr := call(t.Context(), "", "store", "export", "--dir", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitBroken || len(lines) != 2 || !strings.Contains(stderr, "1 message could not be read") {
		t.Fatalf("export of a damaged store: %d %q %s", code, out, stderr)
	}
	if m := fromJSON[admin.Stored](t, lines[0]); string(m.Payload) != "a sound message" || m.Unread != "" {
		t.Errorf("the sound message: %+v", m)
	}
	if m := fromJSON[admin.Stored](t, lines[1]); m.Unread == "" || len(m.Payload) != 0 || m.Seq == 0 {
		t.Errorf("the damaged message: %+v", m)
	}
	file := filepath.Join(t.TempDir(), "saved.jsonl")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("replay", func(t *testing.T) {
		runDaemon(t, dir)
		if out := must(t, "", "queue", "replay", file, "--dir", dir); out != "1 ok, 1 skipped\n" {
			t.Errorf("replay: %q", out)
		}
	})
}
