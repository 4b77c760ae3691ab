package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/journal/index"
)

// fastDir is a temporary directory in RAM where the system has one.
func fastDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "index") //nolint:usetesting // tb.TempDir is on disk
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open(tb testing.TB, dir string) *index.File {
	tb.Helper()
	f, err := index.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

func read(tb testing.TB, f *index.File, prefix string) map[string]string {
	tb.Helper()
	got := map[string]string{}
	err := f.Each(prefix, func(key string, value []byte) error {
		got[key] = string(value)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func apply(tb testing.TB, f *index.File, last bool, changes ...index.Change) {
	tb.Helper()
	if err := f.Apply(changes, last); err != nil {
		tb.Fatal(err)
	}
}

func TestChanges(t *testing.T) {
	dir := fastDir(t)
	f := open(t, dir)
	if !f.Fresh() {
		t.Error("a new file is not fresh")
	}
	long := strings.Repeat("x", 40_000)
	want := map[string]string{}
	r := rand.New(rand.NewPCG(3, 4))
	keys := []string{"", "a", "a/1", "a/10", "a/2", "b", "total", "k", "\xff\xff", long, long + "1", long + "2", long[:32_000], long[:32_001]}
	for round := range 30 {
		var changes []index.Change
		for range r.IntN(20) {
			c := index.Change{Key: keys[r.IntN(len(keys))]}
			if r.IntN(3) > 0 {
				c.Value = bytes.Repeat([]byte{byte(round)}, r.IntN(3)*r.IntN(9000))
				if c.Value == nil {
					c.Value = []byte{}
				}
			}
			changes = append(changes, c)
			if delete(want, c.Key); c.Value != nil {
				want[c.Key] = string(c.Value)
			}
		}
		apply(t, f, round%3 == 0, changes...)
		if round%4 == 0 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f = open(t, dir)
		}
		if got := read(t, f, ""); !maps.Equal(got, want) {
			t.Fatalf("round %d: %d records, want %d", round, len(got), len(want))
		}
	}
	for _, prefix := range []string{"a/", long[:100], long, long + "1", "nothing"} {
		got := read(t, f, prefix)
		for key := range want {
			if _, ok := got[key]; ok != strings.HasPrefix(key, prefix) {
				t.Errorf("prefix %.20q: key %.20q is there: %v", prefix, key, ok)
			}
		}
	}
}

func TestEachOrderAndStop(t *testing.T) {
	f := open(t, fastDir(t))
	for i := range 300 {
		apply(t, f, false, index.Change{Key: fmt.Sprintf("%d", i*7919%300), Value: []byte("v")})
	}
	var keys []string
	stop := errors.New("stop")
	err := f.Each("1", func(key string, _ []byte) error {
		if keys = append(keys, key); len(keys) == 50 {
			return stop
		}
		return nil
	})
	if err != stop || len(keys) != 50 || !slices.IsSorted(keys) {
		t.Errorf("%d keys, %v, sorted %v", len(keys), err, slices.IsSorted(keys))
	}
}

// sample makes a file with records of all sizes and free pages in between.
func sample(t *testing.T, clean bool) (file []byte, states []map[string]string) {
	t.Helper()
	dir := fastDir(t)
	f := open(t, dir)
	want := map[string]string{}
	for round := range 4 {
		var changes []index.Change
		for i := range 120 {
			c := index.Change{Key: fmt.Sprintf("key/%03d", i), Value: bytes.Repeat([]byte{byte(i)}, i*i/4+round)}
			if (i+round)%5 == 0 {
				c.Value = nil
			}
			changes = append(changes, c)
			if delete(want, c.Key); c.Value != nil {
				want[c.Key] = string(c.Value)
			}
		}
		apply(t, f, clean, changes...)
		states = append(states, maps.Clone(want))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, index.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return file, states
}

// reopen puts a file in place and opens it: it must be begun anew, or hold one
// of the states.
func reopen(t *testing.T, dir string, file []byte, states []map[string]string, what string) (damaged bool) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, index.FileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := index.Open(dir)
	if f == nil {
		t.Fatalf("%s: no file: %v", what, err)
	}
	defer f.Close()
	got := read(t, f, "")
	if err != nil {
		if !errors.Is(err, index.ErrDamaged) || len(got) != 0 || !f.Fresh() {
			t.Fatalf("%s: %v, with %d records", what, err, len(got))
		}
		apply(t, f, false, index.Change{Key: "new", Value: []byte("life")})
		return true
	}
	if !slices.ContainsFunc(states, func(s map[string]string) bool { return maps.Equal(s, got) }) {
		t.Fatalf("%s: accepted with %d records that nobody wrote so", what, len(got))
	}
	return false
}

// Whatever byte is changed: the file is begun anew, or holds what was written.
func TestFlips(t *testing.T) {
	for _, clean := range []bool{true, false} {
		file, states := sample(t, clean)
		last := states[len(states)-1:]
		dir := fastDir(t)
		if reopen(t, dir, file, last, "as it was") {
			t.Fatal("a good file was refused")
		}
		used := len(bytes.TrimRight(file, "\x00"))
		r := rand.New(rand.NewPCG(5, 6))
		refused, n := 0, 0
		for at := 0; at < used; at += 1 + r.IntN(max(1, min(at/8, 2*used/500))) {
			damaged := bytes.Clone(file)
			damaged[at] ^= byte(1 + r.IntN(255))
			what := fmt.Sprintf("clean %v, byte %#x", clean, at)
			accept := last
			if at < 8192 {
				accept = states // a damaged meta page falls back by one commit
			}
			n++
			if reopen(t, dir, damaged, accept, what) {
				refused++
			}
		}
		t.Logf("clean %v: %d of %d changes were noticed", clean, refused, n)
		if refused < n/10 {
			t.Error("suspiciously few")
		}
	}
}

func TestOtherFiles(t *testing.T) {
	file, states := sample(t, true)
	used := len(bytes.TrimRight(file, "\x00"))
	for name, other := range map[string][]byte{
		"empty": {}, "a byte": {1}, "text": bytes.Repeat([]byte("text "), 5000), "zeros": make([]byte, 65536),
		"one page": file[:4096], "half": file[:used/2], "a page short": file[:used-4096],
		"another version": bytes.ReplaceAll(file, []byte("farhop index 1"), []byte("farhop index 9")),
		"two files":       append(bytes.Clone(file[:len(file)/2]), file[:len(file)/2]...),
	} {
		if !reopen(t, fastDir(t), other, states, name) {
			t.Errorf("%s was accepted", name)
		}
	}
}

// A page that was exchanged for an older one of the same place is noticed.
func TestStalePages(t *testing.T) {
	file, states := sample(t, false)
	older := bytes.Clone(file)
	dir := fastDir(t)
	if err := os.WriteFile(filepath.Join(dir, index.FileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	want := maps.Clone(states[len(states)-1])
	for i := range 40 {
		key := fmt.Sprintf("key/%03d", i)
		apply(t, f, false, index.Change{Key: key, Value: []byte("newer")})
		want[key] = "newer"
	}
	_ = f.Close()
	newer, err := os.ReadFile(filepath.Join(dir, index.FileName))
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for at := 8192; at+4096 <= min(len(older), len(newer)); at += 4096 {
		mixed := bytes.Clone(newer)
		copy(mixed[at:at+4096], older[at:at+4096])
		if reopen(t, dir, mixed, []map[string]string{want}, fmt.Sprintf("page %d", at/4096)) {
			noticed++
		}
	}
	if noticed == 0 {
		t.Error("no page was missed")
	}
}

// A start that ended while it opened the file is followed by one that does
// not try again.
func TestSentinel(t *testing.T) {
	dir := fastDir(t)
	f := open(t, dir)
	apply(t, f, true, index.Change{Key: "a", Value: []byte("b")})
	_ = f.Close()
	if err := os.WriteFile(filepath.Join(dir, index.FileName+".opening"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := index.Open(dir)
	if !errors.Is(err, index.ErrDamaged) || f == nil || len(read(t, f, "")) != 0 {
		t.Fatalf("%v, want the file to be begun anew", err)
	}
	apply(t, f, true, index.Change{Key: "c", Value: []byte("d")})
	_ = f.Close()
	if got := read(t, open(t, dir), ""); len(got) != 1 || got["c"] != "d" {
		t.Errorf("after that: %v", got)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// A crash while the file is being made leaves nothing that matters.
func TestLeftover(t *testing.T) {
	dir := fastDir(t)
	if err := os.WriteFile(filepath.Join(dir, index.FileName+".new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	apply(t, f, false, index.Change{Key: "a", Value: []byte("b")})
	if got := read(t, f, ""); got["a"] != "b" {
		t.Errorf("%v", got)
	}
}

func TestCompact(t *testing.T) {
	dir := fastDir(t)
	f := open(t, dir)
	fill := func(n int) {
		t.Helper()
		var changes []index.Change
		for i := range 4000 {
			c := index.Change{Key: fmt.Sprintf("%06d", i)}
			if i < n {
				c.Value = bytes.Repeat([]byte{byte(i)}, 1000)
			}
			changes = append(changes, c)
		}
		apply(t, f, false, changes...)
	}
	fill(4000)
	if err := f.MaybeCompact(); err != nil {
		t.Fatal(err)
	}
	large := f.Size()
	fill(100)
	apply(t, f, false)
	if err := f.MaybeCompact(); err != nil {
		t.Fatal(err)
	}
	if small := f.Size(); small > large/10 || small == 0 {
		t.Errorf("%d bytes, then %d", large, small)
	}
	for range 2 {
		if got := read(t, f, ""); len(got) != 100 || len(got["000099"]) != 1000 {
			t.Fatalf("%d records", len(got))
		}
		_ = f.Close()
		f = open(t, dir)
	}
	apply(t, f, true, index.Change{Key: "more", Value: []byte("v")})
	if len(read(t, f, "")) != 101 {
		t.Error("the compacted file takes no more")
	}
}

func TestResetAndClose(t *testing.T) {
	f := open(t, fastDir(t))
	apply(t, f, false, index.Change{Key: "a", Value: []byte("b")})
	if err := f.Reset(); err != nil || !f.Fresh() || len(read(t, f, "")) != 0 {
		t.Fatalf("%v, fresh %v", err, f.Fresh())
	}
	apply(t, f, false, index.Change{Key: "c", Value: []byte("d")})
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := f.Apply(nil, false); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
	if err := f.Each("", nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Each after Close: %v", err)
	}
	if _, err := index.Open(filepath.Join(t.TempDir(), "missing")); err == nil || errors.Is(err, index.ErrDamaged) {
		t.Errorf("a missing directory: %v", err)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := fastDir(b)
	f := open(b, dir)
	var changes []index.Change
	for i := range 15_000 {
		changes = append(changes, index.Change{Key: fmt.Sprintf("%06d", i), Value: make([]byte, 1000)})
	}
	apply(b, f, true, changes...)
	_ = f.Close()
	for b.Loop() {
		f, err := index.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
