//go:build linux

package journal_test

import (
	"bytes"
	"flag"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

var (
	large       = flag.Bool("large", false, "run the test with ten million messages, which takes minutes and 3 GB of disk")
	largeQueues = flag.Int("queues", 100, "queues of -large")
)

// rssAnon is the memory of this process that is not a file's, in bytes.
func rssAnon(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "RssAnon:" {
			n, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return n << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// TestLarge prints what ten million waiting messages cost. It asserts nothing
// about time.
func TestLarge(t *testing.T) {
	if !*large {
		t.Skip("takes minutes and 3 GB of disk: run with go test -run TestLarge ./storeforward/journal -args -large")
	}
	const n, step = 10_000_000, 1_000_000
	u := use(t, journal.Config{Dir: t.TempDir()})
	for seq := uint64(1); seq <= n; seq += step {
		began := time.Now()
		fillFrom(u, seq, step, *largeQueues, 256)
		t.Logf("%d messages: %.0f puts/s, RssAnon %d MB", seq+step-1, step/time.Since(began).Seconds(), rssAnon(t)>>20)
	}
	st := u.s.Stats()
	t.Logf("disk %d MB, index %d MB, %d segments", st.FileBytes>>20, st.IndexBytes>>20, st.Segments)
	for _, how := range []string{"close", "kill"} {
		began := time.Now()
		if how == "kill" {
			u.s.Abandon()
		} else if err := u.s.Close(); err != nil {
			t.Fatal(err)
		}
		u.s = nil
		closed := time.Since(began)
		debug.FreeOSMemory()
		began = time.Now()
		u.open()
		took := time.Since(began)
		t.Logf("%s %v, open %v, RssAnon %d MB", how, closed, took, rssAnon(t)>>20)
		if sum := u.summary(); len(sum.Queues) != *largeQueues || sum.NextSeq != n+1 {
			t.Fatalf("%d queues, next %d", len(sum.Queues), sum.NextSeq)
		}
	}
	began := time.Now()
	for seq := uint64(1); seq <= n; {
		b := &store.Batch{}
		for range 2000 {
			b.Drops = append(b.Drops, store.Drop{Queue: queueOf(int(seq) % *largeQueues), Seq: seq, Size: 256})
			seq++
		}
		if at := u.append(b); at > 20 {
			_ = u.f.wait(at - 20)
		}
	}
	_ = u.f.wait(u.lsn)
	t.Logf("drained in %v", time.Since(began))
	began = time.Now()
	for u.s.Stats().FileBytes > st.FileBytes/100 && time.Since(began) < time.Minute {
		time.Sleep(100 * time.Millisecond)
	}
	left := u.s.Stats()
	t.Logf("%d MB left on the disk after %v, %d KB of them the index", left.FileBytes>>20, time.Since(began), left.IndexBytes>>10)
}

// fillFrom puts messages from first on, into queues in turn.
func fillFrom(u *user, first uint64, n, queues, size int) {
	blob := &store.Blob{B: payload(first, size)}
	for seq := first; seq < first+uint64(n); {
		b := &store.Batch{}
		for range 2000 {
			p := put(seq, 0)
			p.Blob, p.Header.Size = blob, uint32(size)
			p.Header.Entries[0].Queue = queueOf(int(seq) % queues)
			b.Puts = append(b.Puts, p)
			seq++
		}
		if at := u.append(b); at > 20 {
			if err := u.f.wait(at - 20); err != nil {
				u.t.Fatal(err)
			}
		}
	}
	if err := u.f.wait(u.lsn); err != nil {
		u.t.Fatal(err)
	}
}
