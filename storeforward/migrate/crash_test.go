//go:build unix

package migrate_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/farhop/farhop/storeforward/migrate"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// What makes the test binary the child of TestKill: "DIR ENGINE STEP".
const killVariable = "FARHOP_TEST_KILL_MIGRATION"

// killSteps are the places at which the child is killed, in their order; the
// new store is in use from switched on.
var killSteps = []string{
	"surveyed", "clean", "folder", "append 1", "append 2", "filled", "verified", "made", "placed", "switched", "cleaned",
}

// TestKillChild migrates and kills itself at a step. It only runs as the child
// of TestKill.
func TestKillChild(t *testing.T) {
	var dir, to, step string
	if _, err := fmt.Sscan(os.Getenv(killVariable), &dir, &to, &step); err != nil {
		t.Skip("runs as the child of TestKill")
	}
	at := func(name string) {
		if name == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	appended := 0
	_, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: migrate.Engine(to)}.WithStep(at).WithAppend(func(*store.Batch) {
		appended++
		at(fmt.Sprintf("append-%d", appended))
	}))
	t.Fatalf("not killed at %s: %v", step, err)
}

// TestKill kills a migration at every step. The old store is in use, or the
// new one, with all that was in it; a second migration ends what the first
// began.
func TestKill(t *testing.T) {
	for _, from := range engines {
		first := fastDir(t)
		fill(t, from, first, 150)
		want := contents(t, from, first)
		to := other(from)
		for i, step := range killSteps {
			t.Run(fmt.Sprintf("%s/%s", from, step), func(t *testing.T) {
				dir := fastDir(t) + "/store"
				if err := os.CopyFS(dir, os.DirFS(first)); err != nil {
					t.Fatal(err)
				}
				child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
				child.Env = append(os.Environ(), killVariable+"="+dir+" "+string(to)+" "+strings.ReplaceAll(step, " ", "-"))
				out, _ := child.CombinedOutput()
				if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("the child ended by itself: %s", out)
				}
				switched := i >= slices.Index(killSteps, "switched")
				in := inUse(t, dir)
				if (in == to) != switched {
					t.Fatalf("engine %s is in use", in)
				}
				same(t, "after the kill", contents(t, in, dir), want)
				r, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: to})
				if err != nil || r.Done == switched {
					t.Fatalf("again: %+v, %v", r, err)
				}
				same(t, "after another migration", contents(t, to, dir), want)
				names, err := os.ReadDir(dir)
				if err != nil || len(names) != 2 {
					t.Errorf("the folder holds %v, %v", names, err)
				}
			})
		}
	}
}

// flat is a folder in memory in which names may have a folder before them.
type flat struct{ *vfs.Mem }

func (f flat) Remove(name string) error {
	all, err := f.List()
	for _, n := range all {
		if n == name || strings.HasPrefix(n, name+"/") {
			err = errors.Join(err, f.Mem.Remove(n))
		}
	}
	return err
}

func (f flat) exists(name string) (bool, error) {
	all, err := f.List()
	return slices.ContainsFunc(all, func(n string) bool { return n == name || strings.HasPrefix(n, name+"/") }), err
}

func (f flat) make(t *testing.T, name string) {
	t.Helper()
	file, err := f.Create(name)
	if err == nil {
		_, err = file.WriteAt([]byte(name), 0)
	}
	if err = errors.Join(err, file.Sync(), file.Close(), f.SyncDir()); err != nil {
		t.Fatal(err)
	}
}

// content reads a file: which store it is, whatever its name.
func (f flat) content(name string) string {
	file, err := f.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	b := make([]byte, 100)
	n, _ := file.ReadAt(b, 0)
	return string(b[:n])
}

// TestPowerCut looks at every folder that a power cut could leave of the
// switch: of what happened to names since the last sync of the folder, all,
// nothing, or some. One store is in use, and what has its name is the whole of
// it; and a migration can begin there anew.
func TestPowerCut(t *testing.T) {
	for _, from := range engines {
		to := other(from)
		old, fresh := from.Name(), to.Aside()+"/"+to.Name()
		m := flat{vfs.NewMem()}
		m.make(t, old)
		m.make(t, to.Aside()+"/"+"marker") // a folder is there when something is in it
		m.make(t, fresh)
		begin := m.Ops()
		for _, err := range []error{
			migrate.PlaceNew(m, to), migrate.Flip(m, from, to), migrate.Clean(m, migrate.Place{Engine: to}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		rng := rand.New(rand.NewPCG(1, 2))
		seen := map[migrate.Engine]int{}
		for at := begin; at <= m.Ops(); at++ {
			for range 40 {
				cut := flat{m.Image(rng, at)}
				in := checkCut(t, cut, from, old, fresh)
				seen[in]++
				// What a power cut left, another one may interrupt the cleaning of.
				start := cut.Ops()
				p, err := migrate.LookAt("", cut.exists)
				if err = errors.Join(err, migrate.Clean(cut, p)); err != nil {
					t.Fatal(err)
				}
				for again := start; again <= cut.Ops(); again++ {
					if got := checkCut(t, flat{cut.Image(rng, again)}, from, old, fresh); got != in {
						t.Fatalf("%s in use while it is cleaned up, was %s", got, in)
					}
				}
			}
		}
		if seen[from] == 0 || seen[to] == 0 {
			t.Errorf("in use: %v", seen)
		}
	}
}

func checkCut(t *testing.T, cut flat, from migrate.Engine, old, fresh string) migrate.Engine {
	t.Helper()
	p, err := migrate.LookAt("", cut.exists)
	if err != nil || p.Engine == "" {
		all, _ := cut.List()
		t.Fatalf("%+v, %v of %v", p, err, all)
	}
	want := fresh
	if p.Engine == from {
		want = old
	}
	if got := cut.content(p.Engine.Name()); got != want {
		t.Fatalf("engine %s is in use with the store %q, want %q", p.Engine, got, want)
	}
	return p.Engine
}

// TestSyncFails: a disk that fails when the switch is made durable leaves the
// old store in use.
func TestSyncFails(t *testing.T) {
	m := flat{vfs.NewMem()}
	m.make(t, "journal")
	m.make(t, "buffer.db")
	m.Fail("syncdir", 1)
	if err := migrate.Flip(m, migrate.Journal, migrate.Bolt); !errors.Is(err, vfs.ErrIO) {
		t.Fatal(err)
	}
	if m.content("journal") != "journal" {
		t.Error("the old store has lost its name")
	}
}

// TestLook tells which store is in use, of all that may be there.
func TestLook(t *testing.T) {
	for _, c := range []struct {
		names  string
		engine migrate.Engine
		begun  migrate.Engine
		err    string
	}{
		{"", "", "", ""},
		{"journal", migrate.Journal, "", ""},
		{"buffer.db", migrate.Bolt, "", ""},
		{"journal buffer.db", "", "", "two engines"},
		{"journal migrating-to-bbolt", migrate.Journal, migrate.Bolt, ""},
		{"journal buffer.db migrating-to-bbolt", migrate.Journal, migrate.Bolt, ""},
		{"journal buffer.db migrating-to-journal", migrate.Bolt, migrate.Journal, ""},
		{"journal buffer.db migrating-to-journal migrating-to-bbolt", "", "", "two engines"},
		{"buffer.db migrating-to-bbolt journal.migrated-to-bbolt", migrate.Bolt, "", ""},
		{"buffer.db migrating-to-bbolt migrating-to-journal", migrate.Bolt, migrate.Journal, ""},
		{"migrating-to-bbolt", "", "", "put journal back"},
		{"journal.migrated-to-bbolt", "", "", ""},
	} {
		dir := fastDir(t)
		for name := range strings.FieldsSeq(c.names) {
			if err := os.Mkdir(dir+"/"+name, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		p, err := migrate.Look(dir)
		if p.Engine != c.engine || p.Unfinished != c.begun || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v", c.names, p, err)
		}
	}
	file := fastDir(t) + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := migrate.Look(file)
	oneLine(t, "a file in the place of the folder", err)
}
