package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

func isDamaged(err error) bool  { return errors.Is(err, store.ErrDamaged) }
func isPoisoned(err error) bool { return errors.Is(err, store.ErrPoisoned) }

func TestInUse(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t)})
	_, err := journal.Open(journal.Config{Dir: u.cfg.Dir, LockTimeout: time.Millisecond})
	if !errors.Is(err, journal.ErrInUse) {
		t.Fatalf("second open: %v, want ErrInUse", err)
	}
	for _, part := range []string{u.cfg.Dir, "another farhop", "--dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
	u.reopen()
}

// Segments that are not ours, of another buffer, or of a later version are
// refused by name and left as they are.
func TestForeign(t *testing.T) {
	other := use(t, journal.Config{Dir: fastDir(t)})
	other.puts(1, 3, 100)
	_ = other.s.Close()
	theirs, err := os.ReadFile(segments(t, other.cfg.Dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(theirs)
	newer[8] = 2
	binary.LittleEndian.PutUint32(newer[124:], crc32.Checksum(newer[:124], crc32.MakeTable(crc32.Castagnoli)))
	for name, c := range map[string]struct {
		file    string
		content []byte
		ours    bool // beside segments of our own
		want    error
	}{
		"text":           {"0000000000000001.seg", []byte("hello\n"), false, journal.ErrForeign},
		"long text":      {"0000000000000001.seg", bytes.Repeat([]byte("no segment\n"), 1000), false, journal.ErrForeign},
		"newer":          {"0000000000000001.seg", newer, false, journal.ErrNewer},
		"another buffer": {"0000000000000001.seg", theirs, true, journal.ErrForeign},
		"damaged head":   {"0000000000000001.seg", append([]byte("FHJOURN\n"), theirs[9:]...), false, journal.ErrHeads},
	} {
		t.Run(name, func(t *testing.T) {
			u := use(t, journal.Config{Dir: fastDir(t)})
			if c.ours {
				u.puts(1, 3, 100)
				u.reopen()
				u.puts(4, 5, 100)
			}
			_ = u.s.Close()
			if !c.ours {
				_ = os.RemoveAll(filepath.Join(u.cfg.Dir, journal.FolderName))
				_ = os.Mkdir(filepath.Join(u.cfg.Dir, journal.FolderName), 0o700)
			}
			path := filepath.Join(u.cfg.Dir, journal.FolderName, c.file)
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			before := segments(t, u.cfg.Dir)
			_, err := journal.Open(journal.Config{Dir: u.cfg.Dir})
			if !errors.Is(err, c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %v in one line", err, c.want)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.content) {
				t.Errorf("the file was changed (%v)", err)
			}
			if after := segments(t, u.cfg.Dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("files %v, were %v", after, before)
			}
		})
	}
}

func TestIncarnation(t *testing.T) {
	u := use(t, journal.Config{Dir: filepath.Join(fastDir(t), "deep", "data")})
	first, created := u.s.Incarnation(), u.s.Created()
	if first == 0 || first > 1<<20-1 || created.IsZero() {
		t.Errorf("incarnation %d, created %v", first, created)
	}
	u.puts(1, 2, 10)
	u.reopen()
	if u.s.Incarnation() != first || !u.s.Created().Equal(created) {
		t.Errorf("incarnation %d of %v after a reopen, was %d of %v", u.s.Incarnation(), u.s.Created(), first, created)
	}
	if other := use(t, journal.Config{Dir: fastDir(t)}); other.s.Incarnation() == first && other.s.Created().Equal(created) {
		t.Error("two buffers are the same")
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg journal.Config
		ok  bool
	}{
		"plain":         {journal.Config{Dir: "d"}, true},
		"no directory":  {journal.Config{}, false},
		"small limit":   {journal.Config{Dir: "d", MaxBytes: 1000}, false},
		"negative":      {journal.Config{Dir: "d", MaxBytes: -1}, false},
		"negative wait": {journal.Config{Dir: "d", LockTimeout: -1}, false},
		"tiny segment":  {journal.Config{Dir: "d", SegmentBytes: 100}, false},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStats(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true})
	u.must(&store.Batch{Puts: []store.Put{put(1, 1000), put(2, 500)}})
	u.must(&store.Batch{Drops: []store.Drop{{Queue: queueA, Seq: 1, Size: 1000}}})
	if err := u.write(&store.Batch{Puts: []store.Put{put(1, 1)}}); err == nil {
		t.Error("a used number was taken")
	}
	st := u.s.Stats()
	if st.Messages != 1 || st.Queues != 1 || st.Bytes != 500 || st.PeakBytes != 1500 ||
		st.Batches != 3 || st.Refused != 1 || st.Commits < 2 || st.Waiting != 0 || st.WaitingBytes != 0 || st.Poisoned {
		t.Errorf("stats %+v", st)
	}
	info, err := os.Stat(segments(t, u.cfg.Dir)[0])
	if err != nil || info.Size() != st.FileBytes-st.IndexBytes {
		t.Errorf("the segment has %d bytes, stats say %+v (%v)", info.Size(), st, err)
	}
}

func TestAppendAfterClose(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t)})
	if err := errors.Join(u.s.Close(), u.s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := u.write(&store.Batch{}); err == nil {
		t.Error("a closed store takes batches")
	}
	if _, err := u.s.Read(1); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a closed store answers: %v", err)
	}
}

func Example() {
	dir, _ := os.MkdirTemp("", "buffer")
	defer os.RemoveAll(dir)
	done := make(chan error, 1)
	s, err := journal.Open(journal.Config{Dir: dir, Done: func(_ store.LSN, err error) { done <- err }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1, 5)}})
	fmt.Println("durable:", <-done == nil)
	sum, _ := s.Summary()
	fmt.Println("next:", sum.NextSeq, "waiting:", sum.Queues[0].Count)
	// Output:
	// durable: true
	// next: 2 waiting: 1
}
