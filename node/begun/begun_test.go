package begun

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

var (
	luna  = addr.MustNode("luna-1")
	earth = addr.MustNode("earth")
)

func open(t testing.TB, dir string, change func(*Config)) *Store {
	t.Helper()
	c := Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(n byte) wire.PartKey { return wire.PartKey{n, 15: n} }

// TestKeeps what is appended over a restart, each peer's for itself.
func TestKeeps(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	s.Append(luna, key(1), 0, []byte("hello "))
	s.Append(luna, key(2), 0, []byte("other"))
	s.Append(luna, key(1), 6, []byte("moon"))
	s.Append(luna, key(1), 4, []byte("o moon!")) // six of them are known
	s.Append(luna, key(1), 40, []byte("a hole"))
	s.Append(earth, key(1), 0, []byte("earth"))
	for round := range 2 {
		if got := string(s.Read(luna, key(1))); got != "hello moon!" {
			t.Errorf("round %d: %q", round, got)
		}
		want := []wire.Begun{{Key: key(1), Have: 11}, {Key: key(2), Have: 5}}
		got := s.Begun(luna)
		if round > 0 { // files of one moment: in any order
			slices.SortFunc(got, func(a, b wire.Begun) int { return bytes.Compare(a.Key[:], b.Key[:]) })
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d: begun %v, want %v", round, got, want)
		}
		s = open(t, dir, nil)
	}
	s.Drop(luna, key(1))
	if s.Read(luna, key(1)) != nil || len(s.Begun(luna)) != 1 || s.Stats().Files != 2 {
		t.Errorf("not dropped: %+v", s.Stats())
	}
	if got := open(t, dir, nil).Read(earth, key(1)); string(got) != "earth" {
		t.Errorf("%q", got)
	}
}

// TestDamage: of a file that is cut or changed the beginning before the damage
// is left, or nothing.
func TestDamage(t *testing.T) {
	whole := bytes.Repeat([]byte("0123456789"), 30)
	base := t.TempDir()
	s := open(t, base, nil)
	for i := range 3 {
		s.Append(luna, key(1), i*100, whole[i*100:(i+1)*100])
	}
	name := id{luna, key(1)}.name()
	raw, err := os.ReadFile(filepath.Join(base, name))
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(base, fmt.Sprint(runs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(raw)
		at := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			bad = bad[:at]
		} else {
			bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		want := at / 108 * 100
		got := s.Read(luna, key(1))
		if len(got) != want || !bytes.HasPrefix(whole, got) {
			t.Fatalf("%d bytes are left of a file damaged at %d, want %d", len(got), at, want)
		}
		s.Append(luna, key(1), want, whole[want:])
		if !bytes.Equal(s.Read(luna, key(1)), whole) {
			t.Fatal("it cannot be continued")
		}
	})
}

// TestLimits: the oldest make room.
func TestLimits(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(c *Config) { c.MaxBytes = 1000 })
	for n := range byte(10) {
		s.Append(luna, key(n), 0, make([]byte, 192)) // 200 with its head
	}
	if st := s.Stats(); st.Files != 5 || st.Bytes != 1000 || st.PushedOut != 5 || s.Begun(luna)[0].Key != key(9) {
		t.Errorf("%+v", st)
	}
	s.Append(luna, key(20), 0, make([]byte, 5000)) // larger than all the room: alone
	if st := s.Stats(); st.Files != 1 {
		t.Errorf("%+v", st)
	}
	few := open(t, t.TempDir(), func(c *Config) { c.MaxFiles = 2 })
	for n := range byte(5) {
		few.Append(luna, key(n), 0, []byte("x"))
	}
	if st := few.Stats(); st.Files != 2 {
		t.Errorf("%+v", st)
	}
}

// TestForeignFiles are left alone.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"README", "00-luna.part", "zz" + id{luna, key(1)}.name()[2:], "sub.part"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s := open(t, dir, nil); s.Stats().Files != 0 {
		t.Errorf("%+v", s.Stats())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 4 {
		t.Errorf("%d files left, %v", len(left), err)
	}
	if _, err := Open(Config{Dir: filepath.Join(dir, "README"), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a file is no folder")
	}
}

// TestDiskFails: what cannot be written is not kept, and costs nothing else.
func TestDiskFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "begun")
	var log bytes.Buffer
	s := open(t, dir, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	said := func(level string) int { return strings.Count(log.String(), "level="+level) }
	s.Append(luna, key(1), 0, []byte("kept"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Append(luna, key(1), 4, []byte("lost"))
	for n := range byte(20) {
		s.Append(luna, key(2+n), 0, []byte("lost"))
	}
	if s.Read(luna, key(1)) != nil || len(s.Begun(luna)) != 0 || s.Stats() != (Stats{Lost: 21}) {
		t.Errorf("%+v of %v", s.Stats(), s.Begun(luna))
	}
	if said("WARN") != 1 {
		t.Errorf("it was said %d times, want once:\n%s", said("WARN"), &log)
	}
	// When the disk takes them again that is said once, and so is the next fault.
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Append(luna, key(1), 0, []byte("kept"))
	s.Append(luna, key(1), 4, []byte(" too"))
	if string(s.Read(luna, key(1))) != "kept too" || said("INFO") != 1 {
		t.Errorf("%q is kept:\n%s", s.Read(luna, key(1)), &log)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Append(luna, key(3), 0, []byte("lost"))
	if said("WARN") != 2 {
		t.Errorf("a second fault was said %d times:\n%s", said("WARN")-1, &log)
	}
}
