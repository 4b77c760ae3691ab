//go:build unix

package boltstore_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/store"
)

// killDir makes the test binary the child of TestKill.
const killDir = "FARHOP_TEST_KILL_DIR"

// killBatch is one batch of the child: two messages and one key, which must
// share their fate, and from time to time drops.
func killBatch(lsn store.LSN, seq uint64) *store.Batch {
	a, b := put(seq, 300), put(seq+1, 2000)
	b.Header.Entries = []store.Entry{{Queue: store.Queue{Kind: store.ToNode, Name: "second"}}}
	return &store.Batch{
		LSN: lsn, Puts: []store.Put{a, b},
		Sets: []store.Set{{Key: fmt.Sprintf("%012d", seq), Value: []byte("x")}},
	}
}

// TestKillChild appends without end and prints the number of every batch once
// it is durable. It only runs as the child of TestKill.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("runs as the child of TestKill")
	}
	inFlight := make(chan uint64, 64)
	s, err := boltstore.Open(boltstore.Config{Dir: dir, Done: func(_ store.LSN, err error) {
		seq := <-inFlight
		if err != nil {
			fmt.Println("failed", err)
		} else {
			fmt.Println("durable", seq) // not buffered: what the parent reads is so
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := s.Summary()
	if err != nil {
		t.Fatal(err)
	}
	for lsn, seq := store.LSN(1), sum.NextSeq; ; lsn, seq = lsn+1, seq+2 {
		inFlight <- seq
		s.Append(killBatch(lsn, seq))
	}
}

// TestKill kills a writing process again and again. Every batch it reported
// must be there, and of the others all or nothing.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	durable := map[uint64]bool{}
	for round := range 6 {
		runAndKill(t, dir, 20+round*35, durable)
		s := open(t, boltstore.Config{Dir: dir})
		checkKilled(t, s, durable)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runAndKill starts the child and kills it after it reported n batches.
func runAndKill(t *testing.T, dir string, n int, durable map[uint64]bool) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
	child.Env = append(os.Environ(), killDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	// The rest of the pipe counts too: it was durable when it was written.
	for lines := bufio.NewScanner(out); lines.Scan(); {
		number, ok := strings.CutPrefix(lines.Text(), "durable ")
		if seq, err := strconv.ParseUint(number, 10, 64); ok && err == nil {
			durable[seq] = true
			n--
		} else if !killed {
			t.Errorf("child: %s", lines.Text())
		}
		if n <= 0 && !killed {
			killed = true
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait()
	if !killed {
		t.Fatal("the child ended by itself")
	}
}

func checkKilled(t *testing.T, s *boltstore.Store, durable map[uint64]bool) {
	t.Helper()
	keys := map[uint64]bool{}
	err := s.State("", func(key string, _ []byte) error {
		seq, err := strconv.ParseUint(key, 10, 64)
		keys[seq] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for seq := range durable {
		if !keys[seq] {
			t.Errorf("batch of message %d was reported durable and is gone", seq)
		}
	}
	for i, name := range []string{"peer", "second"} {
		items, err := s.Scan(store.Queue{Kind: store.ToNode, Name: name}, 0, 1<<20)
		if err != nil || len(items) != len(keys) {
			t.Fatalf("queue %s has %d messages, %v; want %d: a batch is torn", name, len(items), err, len(keys))
		}
		for _, it := range items {
			if !keys[it.Header.Seq-uint64(i)] {
				t.Errorf("message %d without its key", it.Header.Seq)
			}
			if b, err := s.Read(it.Header.Seq); err != nil || len(b) != int(it.Header.Size) {
				t.Errorf("payload of %d: %d bytes, %v", it.Header.Seq, len(b), err)
			}
		}
	}
}
