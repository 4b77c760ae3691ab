package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/vfs"
)

// garbage is n bytes that mean nothing.
func garbage(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// overwrite replaces the bytes of a file from at on, n of them or all, and
// returns what the file is then.
func overwrite(t testing.TB, path string, at, n int) (now []byte) {
	t.Helper()
	change(t, path, func(b []byte) []byte {
		if n == 0 {
			n = len(b) - at
		}
		copy(b[at:at+n], garbage(n))
		now = bytes.Clone(b)
		return b
	})
	return now
}

// files returns the content of the journal's folder, but for index and lock.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, journal.FolderName))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if e.Name() == index.FileName || !strings.Contains(e.Name(), "0") {
			continue
		}
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, journal.FolderName, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// watched is a user that gathers alarms.
type watched struct {
	*user
	alarms []journal.Damage
}

func watch(t *testing.T) *watched {
	w := &watched{}
	w.user = use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { w.alarms = append(w.alarms, d) }})
	return w
}

// told checks the alarms since the last call: their order of numbers, and
// those that say that something is unknown. One of a head tells of no message.
func (w *watched) told(heads int, unknown ...journal.Damage) {
	w.t.Helper()
	var got []journal.Damage
	for _, d := range w.alarms {
		switch {
		case d.FirstSeq > d.LastSeq+1 || d.Bytes <= 0:
			w.t.Errorf("alarm %+v makes no sense", d)
		case d.Unknown:
			got = append(got, journal.Damage{Segment: d.Segment, FirstSeq: d.FirstSeq, LastSeq: d.LastSeq})
		case d.Offset == 0 && d.Bytes == 128 && d.FirstSeq == 0 && d.LastSeq == 0:
			heads--
		}
	}
	if heads != 0 || !slices.Equal(got, unknown) {
		w.t.Errorf("alarms %+v: %d heads less than they should be, and unknown %+v, want %+v", w.alarms, heads, got, unknown)
	}
	w.alarms = nil
}

// has checks that a file is there with these bytes; nil: not there.
func (w *watched) has(name string, b []byte) {
	w.t.Helper()
	got, ok := files(w.t, w.cfg.Dir)[name]
	if ok != (b != nil) || !bytes.Equal(got, b) {
		w.t.Errorf("%s: there %v, with %d bytes; want it there %v, with %d, those that were left", name, ok, len(got), b != nil, len(b))
	}
}

const (
	seg1 = "0000000000000001.seg"
	seg2 = "0000000000000002.seg"
)

// path is the file of a segment.
func (w *watched) path(name string) string {
	return filepath.Join(w.cfg.Dir, journal.FolderName, name)
}

// three leaves 30 messages in three segments, and ends the store.
func (w *watched) three() {
	w.puts(1, 10, 300)
	w.reopen()
	w.puts(11, 20, 300)
	w.reopen()
	w.puts(21, 30, 300)
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// Without the index, nobody knows what was in a middle segment but the heads
// around it. Once it is not needed it is set aside.
func TestQuarantineOfMiddle(t *testing.T) {
	u := watch(t)
	u.three()
	now := overwrite(t, u.path(seg2), 0, 0)
	dropIndex(t, u.cfg.Dir)
	u.open()
	u.told(1, journal.Damage{Segment: 2, FirstSeq: 11, LastSeq: 20})
	good := slices.Concat(upTo(10), upTo(30)[20:])
	want(t, u.user, good, nil)
	u.readAll(good, 300)
	u.has(seg2, now)
	u.reopen()
	want(t, u.user, good, nil)
	u.has(seg2, nil)
	u.has(seg2+".damaged", now)
	rep, err := journal.Check(fastDir(t))
	if err == nil {
		t.Errorf("check of nothing: %+v", rep)
	}
	_ = u.s.Close()
	rep, err = journal.Check(u.cfg.Dir)
	if err != nil || rep.OK() || len(rep.Damage) != 0 || len(rep.Kept) != 1 || rep.Kept[0] != (journal.KeptFile{Path: u.path(seg2 + ".damaged"), Bytes: int64(len(now))}) {
		t.Errorf("check: %+v, %v", rep, err)
	}
	if err := os.Remove(rep.Kept[0].Path); err != nil {
		t.Fatal(err)
	}
	if rep, err = journal.Check(u.cfg.Dir); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// A kill, and then the newest segment is overwritten.
func TestQuarantineOfNewest(t *testing.T) {
	u := watch(t)
	u.puts(1, 10, 300)
	if err := u.s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	u.puts(11, 20, 300) // the index does not know these
	u.s.Abandon()
	now := overwrite(t, u.path(seg1), 0, 0)
	u.open()
	u.told(1, journal.Damage{Segment: 1, FirstSeq: 11, LastSeq: 10})
	want(t, u.user, nil, upTo(10))
	u.puts(21, 23, 300)
	u.reopen()
	u.told(1) // of what is unknown it was told
	want(t, u.user, []uint64{21, 22, 23}, upTo(10))
	u.has(seg1, now)
	u.drop(upTo(10)...)
	u.reopen()
	want(t, u.user, []uint64{21, 22, 23}, nil)
	u.has(seg1, nil)
	u.has(seg1+".damaged", now) // although this life never read it
}

// A newest file in which nothing is readable and that no index knows is set
// aside at once; what was never written is just removed.
func TestQuarantineOfAlien(t *testing.T) {
	for name, c := range map[string]struct {
		content []byte
		kept    bool
	}{
		"garbage":   {garbage(5000), true},
		"text":      {[]byte("hello"), true},
		"bad head":  {append([]byte("FHJOURN\n"), garbage(500)...), true},
		"unwritten": {make([]byte, 5000), false},
		"empty":     {[]byte{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := watch(t)
			u.puts(1, 10, 300)
			_ = u.s.Close()
			if err := os.WriteFile(u.path(seg2), c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			before := files(t, u.cfg.Dir)
			rep, err := journal.Check(u.cfg.Dir)
			if err != nil || rep.OK() == c.kept {
				t.Errorf("check: %+v, %v", rep, err)
			}
			for name, b := range before {
				u.has(name, b)
			}
			for range 3 { // each time a new file takes its name
				u.open()
				if !c.kept {
					u.told(0)
				} else {
					u.told(0, journal.Damage{Segment: 2, FirstSeq: 11, LastSeq: 10})
				}
				want(t, u.user, upTo(10), nil)
				_ = u.s.Close()
				u.has(seg2, nil)
				if err := os.WriteFile(u.path(seg2), c.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, end := range []string{".damaged", ".2.damaged", ".3.damaged"} {
				if !c.kept {
					c.content = nil
				}
				u.has(seg2+end, c.content)
			}
		})
	}
}

// At most so many files are kept, the latest, and none of anybody else goes.
func TestQuarantineIsBounded(t *testing.T) {
	u := watch(t)
	u.puts(1, 10, 300)
	_ = u.s.Close()
	others := []string{"note0.damaged", "00.seg.damaged", seg1 + ".x.damaged"}
	for _, name := range others {
		if err := os.WriteFile(u.path(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 18 {
		if err := os.WriteFile(u.path(seg2), fmt.Append(nil, "alien ", i), 0o600); err != nil {
			t.Fatal(err)
		}
		u.open()
		_ = u.s.Close()
	}
	kept, err := journal.Kept(u.cfg.Dir)
	if err != nil || len(kept) != 16 {
		t.Fatalf("%d files are kept, %v; want 16", len(kept), err)
	}
	if b, err := os.ReadFile(kept[15].Path); err != nil || string(b) != "alien 17" {
		t.Errorf("the last is %s with %q, %v", kept[15].Path, b, err)
	}
	for _, name := range others {
		u.has(name, []byte(name))
	}
}

// Whenever the power is cut while a file is set aside, it is there under one
// name or the other.
func TestQuarantineSurvivesPowerCuts(t *testing.T) {
	disk := vfs.NewMem()
	u := use(t, journal.Config{FS: disk, Manual: true})
	u.puts(1, 3, 300)
	_ = u.s.Close()
	f, err := disk.Create(seg2)
	alien := garbage(3000)
	if err == nil {
		_, err = f.WriteAt(alien, 0)
	}
	if err = errors.Join(err, f.Sync(), f.Close(), disk.SyncDir()); err != nil {
		t.Fatal(err)
	}
	from := disk.Ops()
	u.open()
	u.puts(4, 5, 300)
	u.s.Abandon()
	rng := rand.New(rand.NewPCG(3, 4))
	for at := from; at <= disk.Ops(); at++ {
		for range 5 {
			image := disk.Image(rng, at)
			again := use(t, journal.Config{FS: image, Manual: true})
			again.readAll(upTo(3), 300)
			again.s.Abandon()
			f, err := image.Open(seg2 + ".damaged")
			if err != nil {
				t.Fatalf("cut at %d: %v", at, err)
			}
			b := make([]byte, len(alien))
			if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, alien) {
				t.Fatalf("cut at %d: other bytes, %v", at, err)
			}
			_ = f.Close()
		}
	}
}
