package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/storetest"
)

// waiting is what waits in the store of a stopped node, as its export says. The
// bundles are left out: they tell how old they are.
func waiting(t *testing.T, dir string) string {
	t.Helper()
	return regexp.MustCompile(`,"bundle":"[0-9a-f]+"`).ReplaceAllString(must(t, "", "store", "export", "--dir", dir), "")
}

func setEngine(t *testing.T, dir, engine string) {
	t.Helper()
	path := filepath.Join(dir, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Store.Engine = engine
	if err := config.Save(path, c); err != nil {
		t.Fatal(err)
	}
}

// TestStoreMigrate moves the store of a node there and back: what waits is the
// same, and the node runs on it.
func TestStoreMigrate(t *testing.T) {
	dir := keeper(t)
	t.Run("fill", func(t *testing.T) {
		runDaemon(t, dir)
		for _, m := range []string{"one", "two", "three"} {
			must(t, "", "pub", "-t", "plant/1", "-m", m, "--dir", dir)
		}
		code, out, stderr := call(t.Context(), "", "store", "migrate", "--to", "bbolt", "--dir", dir)
		if code != exitFailed || out != "" || !strings.Contains(stderr, "a farhop runs in this data directory") {
			t.Errorf("beside a daemon: %d %q %q", code, out, stderr)
		}
	})
	want := waiting(t, dir)
	if out := must(t, "", "store", "migrate", "--to", "journal", "--dir", dir); out != "the store is of engine journal already; nothing was done\n" {
		t.Errorf("to the engine in use: %q", out)
	}
	m := fromJSON[node.Migration](t, must(t, "", "store", "migrate", "--to", "bbolt", "--json", "--dir", dir))
	if !m.Done || m.From != "journal" || m.To != "bbolt" || m.Messages == 0 || m.StateKeys == 0 || m.LostCount != 0 {
		t.Errorf("%+v", m)
	}
	if _, err := os.Stat(m.Kept); err != nil || filepath.Base(m.Kept) != journal.FolderName+".migrated-to-bbolt" {
		t.Errorf("kept %q: %v", m.Kept, err)
	}
	if got := waiting(t, dir); got != want {
		t.Errorf("what waits has changed:\n%s\nwas\n%s", got, want)
	}
	// farhop.yaml may name the engine of before: the node does not start, and
	// says what to write.
	setEngine(t, dir, "journal")
	if code, _, stderr := call(t.Context(), "", "run", "--dir", dir); code != exitFailed || !strings.Contains(stderr, "write bbolt there") || !strings.Contains(stderr, "farhop store migrate --to journal") {
		t.Errorf("run: %d %q", code, stderr)
	}
	setEngine(t, dir, "bbolt")
	t.Run("run", func(t *testing.T) {
		runDaemon(t, dir)
		must(t, "", "pub", "-t", "plant/1", "-m", "four", "--dir", dir)
	})
	code, out, stderr := call(t.Context(), "", "store", "migrate", "--to", "journal", "--dir", dir)
	if code != 0 || !strings.HasPrefix(out, "bbolt to journal: ") || !strings.Contains(out, boltstore.FileName+".migrated-to-journal; nothing reads it any more") {
		t.Errorf("back: %d %q %q", code, out, stderr)
	}
	if !strings.Contains(stderr, "says store.engine: bbolt; write journal there") {
		t.Errorf("no word about farhop.yaml: %q", stderr)
	}
	if got := waiting(t, dir); strings.Count(got, "\n") != strings.Count(want, "\n")+1 {
		t.Errorf("what waits:\n%s", got)
	}
	code, _, stderr = call(t.Context(), "", "store", "migrate", "--to", "bbolt", "--dir", dir)
	if code != exitFailed || !strings.Contains(stderr, "of an earlier migration") {
		t.Errorf("with the kept store of before: %d %q", code, stderr)
	}
}

func TestStoreMigrateRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, exitUsage, "--to"},
		{[]string{"--to", "paper"}, exitUsage, `no engine "paper"`},
		{[]string{"--to", "bbolt"}, exitNoNode, "there is no store"},
		{[]string{"--to", "bbolt", "now"}, exitUsage, "no arguments"},
	} {
		code, out, stderr := call(t.Context(), "", append([]string{"store", "migrate", "--dir", t.TempDir()}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("migrate %v: %d %q %q", c.args, code, out, stderr)
		}
	}
}

// TestStoreMigrateDamaged lists what is damaged, and loses it only when told.
func TestStoreMigrateDamaged(t *testing.T) {
	dir := keeper(t)
	large := "the message to spoil" + strings.Repeat(".", 32<<10)
	t.Run("fill", func(t *testing.T) {
		runDaemon(t, dir)
		must(t, "", "pub", "-t", "plant/1", "-m", "a sound message", "--dir", dir)
		must(t, "", "pub", "-t", "plant/2", "-m", large, "--dir", dir)
	})
	storetest.Spoil(t, filepath.Join(dir, "store"), "the message to spoil")
	code, out, stderr := call(t.Context(), "", "store", "migrate", "--to", "bbolt", "--dir", dir)
	if code != exitBroken || strings.Count(out, "\n") != 1 || !strings.Contains(out, " cannot be read (region earth): ") || !strings.Contains(stderr, "--skip-damaged") {
		t.Errorf("damaged: %d %q %q", code, out, stderr)
	}
	if s := fromJSON[node.StoreStats](t, must(t, "", "store", "stats", "--json", "--dir", dir)); s.Engine != "journal" || s.Messages != 2 {
		t.Errorf("the old store: %+v", s)
	}
	out = must(t, "", "store", "migrate", "--to", "bbolt", "--skip-damaged", "--dir", dir)
	if !strings.Contains(out, " is lost (region earth): ") || !strings.Contains(out, "1 damaged message or place was left behind") {
		t.Errorf("skipped: %q", out)
	}
	if got := waiting(t, dir); strings.Count(got, "\n") != 1 {
		t.Errorf("what waits: %s", got)
	}
}

// TestStoreOfHalfAMigration: what a migration left that did not end changes
// nothing for the node and the other commands.
func TestStoreOfHalfAMigration(t *testing.T) {
	dir := keeper(t)
	t.Run("fill", func(t *testing.T) {
		runDaemon(t, dir)
		must(t, "", "pub", "-t", "plant/1", "-m", "one", "--dir", dir)
	})
	want := waiting(t, dir)
	// The new store was placed, the switch did not happen.
	stores := filepath.Join(dir, "store")
	if err := os.Mkdir(filepath.Join(stores, "migrating-to-bbolt"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stores, boltstore.FileName), []byte("half of a store"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "stats", "compact", "export"} {
		must(t, "", "store", command, "--dir", dir)
	}
	t.Run("run", func(t *testing.T) { runDaemon(t, dir) })
	if got := waiting(t, dir); got != want {
		t.Errorf("what waits:\n%s\nwas\n%s", got, want)
	}
	must(t, "", "store", "migrate", "--to", "bbolt", "--dir", dir)
	if got := waiting(t, dir); got != want {
		t.Errorf("what waits after another migration:\n%s\nwas\n%s", got, want)
	}
	// With neither store in its place nothing is begun anew.
	if err := os.Rename(filepath.Join(stores, boltstore.FileName), filepath.Join(stores, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(stores, "migrating-to-bbolt"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call(t.Context(), "", "run", "--dir", dir); code != exitFailed || !strings.Contains(stderr, "put journal back") {
		t.Errorf("run: %d %q", code, stderr)
	}
}
