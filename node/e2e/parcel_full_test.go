//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/farhop/farhop/node/admin"
)

// TestParcelFullDisk imports a file at a node whose disk has no room for it, or
// none at all. That is said, with what to do, and nothing of the file counts or
// stays behind; custody stays where it was. With room again it is taken in whole.
func TestParcelFullDisk(t *testing.T) {
	full(t)
	relay, earth := newDaemon(t, "relay"), newDaemon(t, "earth-1")
	small(t, earth, 64<<20)
	relay.init("leo")
	relay.run()
	link := wire(t, relay, 1, far)
	earth.join(relay.invite("earth", link.Addr().String()))
	earth.run()
	earth.linked(true, relay)
	sub := subscribe(earth, "historian", "ship/#", 1)
	relay.knows(earth, "ship/#")
	link.Cut(true)
	relay.reaches(earth, false)
	long := make([]string, 1500)
	for i, text := range numbered("m", len(long)) {
		long[i] = text + strings.Repeat(".", 8000)
	}
	publish(relay, "ship/1/log", 1, long...)
	file := filepath.Join(t.TempDir(), "ship.fhb")
	if x := doJSON[exported](relay, "bundle", "export", "--out", file, "--to", "earth-1"); x.Bundles != len(long) {
		t.Fatalf("%+v", x)
	}
	foreign := takeDisk(t, filepath.Dir(earth.dir))
	for _, left := range []int64{0, 8 << 20} {
		info, err := foreign.Stat()
		if err == nil {
			err = foreign.Truncate(info.Size() - left)
		}
		if err != nil {
			t.Fatal(err)
		}
		before := earth.status()
		_, stderr, code := earth.try("", "bundle", "import", file)
		if code != 1 || !strings.Contains(stderr, "has no room for the file and what is in it; nothing was changed") || !strings.Contains(stderr, "free space on the disk") {
			t.Errorf("%d bytes left: exit code %d, %q", left, code, stderr)
		}
		if after := earth.status(); after.Counters.Relayed != before.Counters.Relayed || after.Store.Messages != before.Store.Messages {
			t.Errorf("%d bytes left: %+v and then %+v", left, before.Counters, after.Counters)
		}
		if names, _ := filepath.Glob(filepath.Join(earth.dir, "parcel", "*")); len(names) > 0 {
			t.Errorf("%d bytes left: %v stayed behind", left, names)
		}
	}
	relay.waits("node earth-1", len(long))
	if err := errors.Join(foreign.Close(), os.Remove(foreign.Name())); err != nil {
		t.Fatal(err)
	}
	var in admin.Imported
	until(t, text("room after the foreign file has gone"), func() bool {
		stdout, _, code := earth.try("", "bundle", "import", file, "--json")
		return code == 0 && json.Unmarshal([]byte(stdout), &in) == nil
	})
	if in.Taken != len(long) || len(in.Refused) > 0 {
		t.Errorf("%+v", in)
	}
	sub.once(long)
}

// takeDisk fills the disk of a directory to the last block.
func takeDisk(t *testing.T, dir string) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "foreign"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	return file
}
