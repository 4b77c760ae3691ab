package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/vfs"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// outcomes makes many images of one moment and says what a file looks like in
// them.
func outcomes(t *testing.T, m *vfs.Mem, name string) []string {
	t.Helper()
	seen := map[string]bool{}
	for seed := range uint64(300) {
		seen[read(t, m.Image(rng(seed), m.Ops()), name)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func want(t *testing.T, m *vfs.Mem, name string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := outcomes(t, m, name); !slices.Equal(got, want) {
		t.Errorf("%s may be %.200q, want %.200q", name, got, want)
	}
}

func TestSyncKeepsBytes(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "one")
	must(t, m.SyncDir())
	want(t, m, "a", "", "one", "\x00\x00\x00") // the name, and perhaps the bytes or the size
	must(t, f.Sync())
	want(t, m, "a", "one")
	write(t, f, "ONE", 0)
	want(t, m, "a", "one", "ONE")
	must(t, f.Truncate(1))
	want(t, m, "a", "one", "ONE", "o", "O")
	must(t, f.Sync())
	want(t, m, "a", "O")
}

func TestSyncDirKeepsNames(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "new", "text")
	must(t, f.Sync())
	want(t, m, "new", "text", "missing")
	must(t, m.SyncDir())
	want(t, m, "new", "text")
	must(t, m.Rename("new", "old"))
	want(t, m, "new", "text", "missing")
	want(t, m, "old", "text", "missing")
	for seed := range uint64(100) {
		if img := m.Image(rng(seed), m.Ops()); read(t, img, "new") == read(t, img, "old") {
			t.Fatal("a rename is not whole")
		}
	}
	must(t, m.SyncDir(), m.Remove("old"))
	want(t, m, "old", "text", "missing")
	must(t, m.SyncDir())
	want(t, m, "old", "missing")
}

// A name without SyncDir may lead to a file that was never synced.
func TestReplaceWithoutSync(t *testing.T) {
	m := vfs.NewMem()
	must(t, create(t, m, "a", "old").Sync(), m.SyncDir())
	create(t, m, "b", "new!")
	must(t, m.Rename("b", "a"), m.SyncDir())
	want(t, m, "a", "", "new!", "\x00\x00\x00\x00")
}

func TestTornWrites(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", strings.Repeat("a", 2048))
	must(t, f.Sync(), m.SyncDir())
	write(t, f, strings.Repeat("b", 1000), 100)
	write(t, f, strings.Repeat("c", 1000), 1048)
	got := outcomes(t, m, "a")
	for _, s := range got {
		for at := 0; at < len(s); at += 512 {
			// A sector is of one moment: never half of one write.
			for _, cut := range []struct{ from, to int }{{100, 512}, {512, 1024}, {1048, 1100}, {1100, 1536}, {1536, 2048}} {
				if part := s[cut.from:cut.to]; strings.Trim(part, part[:1]) != "" {
					t.Fatalf("bytes %d to %d are of several writes", cut.from, cut.to)
				}
			}
		}
	}
	if len(got) < 20 {
		t.Errorf("only %d outcomes", len(got))
	}
}

// Images of a moment do not depend on how much of the history is folded, nor
// on what happened later, nor on what was done with other images.
func TestMoments(t *testing.T) {
	for seed := range uint64(25) {
		r := rng(seed)
		m := vfs.NewMem()
		steps(t, m, r, 60)
		moments := map[int][]string{}
		for range 20 {
			at := r.IntN(m.Ops() + 1)
			moments[at] = append(moments[at], describe(t, m.Image(rng(7), at)))
		}
		for range 10 {
			steps(t, m.Image(rng(9), m.Ops()), r, 20)
		}
		steps(t, m, r, 20)
		at := r.IntN(60)
		m.Forget(at)
		if m.Oldest() != at {
			t.Fatalf("the oldest moment is %d, want %d", m.Oldest(), at)
		}
		for then, texts := range moments {
			if then < at {
				continue
			}
			for _, text := range texts {
				if got := describe(t, m.Image(rng(7), then)); got != text {
					t.Fatalf("seed %d: the image of moment %d changed:\n%s\n%s", seed, then, text, got)
				}
			}
		}
		copied := m.Copy()
		if describe(t, copied) != describe(t, m) {
			t.Fatal("a copy differs")
		}
	}
}

func describe(t *testing.T, m *vfs.Mem) string {
	t.Helper()
	names, err := m.List()
	must(t, err)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s %x\n", name, read(t, m, name))
	}
	return b.String()
}

// steps does random things.
func steps(t *testing.T, m *vfs.Mem, r *rand.Rand, n int) {
	t.Helper()
	for range n {
		name, other := string(rune('a'+r.IntN(3))), string(rune('a'+r.IntN(3)))
		f, err := m.Open(name)
		if err != nil {
			_, err = m.Create(name)
			must(t, err)
			continue
		}
		switch r.IntN(10) {
		case 0:
			must(t, m.Remove(name))
		case 1:
			must(t, m.Rename(name, other))
		case 2, 3:
			must(t, m.SyncDir())
		case 4:
			must(t, f.Truncate(r.Int64N(3000)))
		case 5:
			must(t, f.Allocate(r.Int64N(3000)))
		case 6, 7:
			must(t, f.Sync())
		default:
			_, err := f.WriteAt(bytes.Repeat([]byte{byte(r.IntN(256))}, 1+r.IntN(1500)), r.Int64N(2000))
			must(t, err)
		}
	}
}

// What is folded by itself keeps memory bounded and images right.
func TestLongRun(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "")
	must(t, m.SyncDir())
	text := strings.Repeat("x", 1000)
	for i := range int64(20_000) {
		write(t, f, text, i%100*1000)
		if i%10 == 9 {
			must(t, f.Sync())
		}
	}
	if m.Oldest() == 0 || m.Ops() < 22_000 {
		t.Errorf("history from %d to %d", m.Oldest(), m.Ops())
	}
	want(t, m, "a", strings.Repeat("x", 100_000))
}

func TestLies(t *testing.T) {
	m := vfs.NewMem()
	m.Lie(2, 2)
	f := create(t, m, "a", "one")
	must(t, m.SyncDir(), f.Sync())
	want(t, m, "a", "one")
	write(t, f, "two", 0)
	must(t, f.Sync())
	want(t, m, "a", "one", "two")
	must(t, m.Rename("a", "b"), m.SyncDir())
	want(t, m, "a", "one", "two", "missing")
	if m.Lies() != 2 {
		t.Errorf("%d lies", m.Lies())
	}
}

// After a failed sync a good one is no comfort.
func TestFailedSync(t *testing.T) {
	for _, fold := range []bool{false, true} {
		m := vfs.NewMem()
		f := create(t, m, "a", "one")
		must(t, m.SyncDir(), f.Sync())
		write(t, f, "two", 0)
		if fold {
			m.Forget(m.Ops())
		}
		m.Fail("sync", 1)
		if err := f.Sync(); !errors.Is(err, vfs.ErrIO) {
			t.Fatal(err)
		}
		must(t, f.Sync())
		want(t, m, "a", "one")
		if got := read(t, m, "a"); got != "two" {
			t.Errorf("programs see %q", got)
		}
		write(t, f, "six", 0)
		must(t, f.Sync())
		want(t, m, "a", "six")
	}
}

func TestFlip(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "abc")
	must(t, m.SyncDir(), f.Sync(), m.Flip("a", 1, 0x20))
	want(t, m, "a", "aBc")
	m.Forget(m.Ops())
	want(t, m, "a", "aBc")
	write(t, f, "b", 1)
	must(t, f.Sync())
	want(t, m, "a", "abc")
	if m.Flip("a", 3, 1) == nil || m.Flip("b", 0, 1) == nil {
		t.Error("flipped what is not there")
	}
}

func TestHistory(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "abc")
	must(t, f.Sync(), m.Rename("a", "b"), f.Truncate(1))
	got := m.History(0, m.Ops())
	for _, line := range []string{"create a", "write a 3 bytes at 0", "sync a", "rename a to b", "truncate a 1"} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is not in\n%s", line, got)
		}
	}
}

// Images of a small store: one file that grows, some that lie about.
func BenchmarkImage(b *testing.B) {
	m := vfs.NewMem()
	for i := range 4 {
		f := create(b, m, fmt.Sprint(i), strings.Repeat("x", 64<<10))
		must(b, f.Sync(), m.SyncDir())
	}
	f, err := m.Open("3")
	must(b, err)
	for i := range int64(200) {
		write(b, f, strings.Repeat("y", 300), i*300)
		if i%3 == 2 {
			must(b, f.Sync())
		}
	}
	m.Forget(100)
	r := rng(1)
	at := m.Oldest()
	for b.Loop() {
		m.Image(r, at)
		if at++; at > m.Ops() {
			at = m.Oldest()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
}
