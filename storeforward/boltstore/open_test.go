package boltstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/store"
)

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, boltstore.Config{Dir: dir})
	_, err := boltstore.Open(boltstore.Config{Dir: dir, LockTimeout: time.Millisecond})
	if !errors.Is(err, boltstore.ErrInUse) {
		t.Fatalf("second open: %v, want ErrInUse", err)
	}
	for _, part := range []string{dir, filepath.Join(dir, boltstore.FileName), "another farhop", "--dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, boltstore.Config{Dir: dir})
}

// A file that is not ours is refused by name and left as it is.
func TestForeign(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("things"))
		if err != nil {
			return err
		}
		nested, err := b.CreateBucket([]byte("nested"))
		return errors.Join(err, nested.Put([]byte("k"), []byte("v")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	bbolt, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty":       {},
		"short text":  []byte("hello\n"),
		"long text":   bytes.Repeat([]byte("not a database\n"), 10_000),
		"zeros":       make([]byte, 1<<16),
		"other bbolt": bbolt,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, boltstore.FileName)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := boltstore.Open(boltstore.Config{Dir: dir})
			if !errors.Is(err, boltstore.ErrForeign) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want ErrForeign naming the file", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, boltstore.FileName), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := boltstore.Open(boltstore.Config{Dir: dir}); err == nil {
			t.Error("a directory was opened")
		}
	})
}

// Creation leaves one file; what an interrupted one left is removed.
func TestCreation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, boltstore.FileName+".123.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, boltstore.Config{Dir: dir})
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0].Name() != boltstore.FileName {
		t.Errorf("directory holds %v, %v", names, err)
	}
	if info, err := names[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

// sample fills a store with all kinds of records and returns its file and the
// payloads in it.
func sample(t *testing.T, clean bool) (file []byte, payloads map[uint64][]byte) {
	t.Helper()
	dir := fastDir(t)
	f := newFates()
	s := open(t, boltstore.Config{Dir: dir, Done: f.done})
	payloads = map[uint64][]byte{}
	lsn := 0
	for seq := uint64(1); seq <= 150; seq++ {
		p := put(seq, 0)
		p.Blob.B = bytes.Repeat([]byte(fmt.Sprint(seq)), int(seq))
		if seq%10 == 0 {
			p.Blob.B = bytes.Repeat([]byte{byte(seq)}, 5000)
		}
		p.Header.Size = uint32(len(p.Blob.B))
		p.Header.Entries = append(p.Header.Entries, store.Entry{Queue: store.Queue{Kind: store.ToSession, Name: "s"}})
		payloads[seq] = p.Blob.B
		b := &store.Batch{Puts: []store.Put{p}, Sets: []store.Set{{Key: fmt.Sprint("key/", seq), Value: p.Blob.B}}}
		if seq%4 == 0 {
			b.Drops = []store.Drop{{Queue: queue, Seq: seq - 2}}
		}
		if seq%30 == 0 {
			b.Drops = append(b.Drops, store.Drop{Queue: queue, Seq: seq - 5}, store.Drop{Queue: p.Header.Entries[1].Queue, Seq: seq - 5})
			delete(payloads, seq-5)
		}
		lsn++
		b.LSN = store.LSN(lsn)
		s.Append(b)
		if err := f.wait(lsn); err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		s.Abandon()
	}
	file, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	return file, payloads
}

// Whatever bit flips: an error that says so, or right data; never a crash,
// never wrong data.
func TestBitFlips(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			file, payloads := sample(t, clean)
			used := len(bytes.TrimRight(file, "\x00"))
			rnd := rand.New(rand.NewPCG(1, 2))
			refused := 0
			for range 100 {
				at := rnd.IntN(used)
				if rnd.IntN(2) == 0 { // half of them where the structure is
					at = at/os.Getpagesize()*os.Getpagesize() + rnd.IntN(80)
				}
				bit := byte(1) << rnd.IntN(8)
				damaged := bytes.Clone(file)
				damaged[at] ^= bit
				known := payloads
				if at < 2*os.Getpagesize() {
					known = nil // bbolt falls back to the commit before the last
				}
				if !survives(t, damaged, known, fmt.Sprintf("byte %d, bit %#x", at, bit)) {
					refused++
				}
			}
			if refused < 20 {
				t.Errorf("only %d of 100 flips were noticed", refused)
			}
		})
	}
}

// A damaged meta page is told to the operator: the other one is a commit older.
func TestDamagedMeta(t *testing.T) {
	file, _ := sample(t, false)
	for page := range 2 {
		damaged := bytes.Clone(file)
		damaged[page*os.Getpagesize()+40] ^= 1
		dir := fastDir(t)
		if err := os.WriteFile(filepath.Join(dir, boltstore.FileName), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		open(t, boltstore.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if !strings.Contains(log.String(), "meta pages is damaged") {
			t.Errorf("page %d: the log says %q", page, log.String())
		}
	}
}

// survives opens a damaged file, uses it, and reports whether all went well.
func survives(t *testing.T, file []byte, payloads map[uint64][]byte, what string) bool {
	t.Helper()
	dir := fastDir(t)
	path := filepath.Join(dir, boltstore.FileName)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFates()
	s, err := boltstore.Open(boltstore.Config{Dir: dir, Done: f.done})
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %q does not name the file", what, err)
		}
		return false
	}
	defer s.Close()
	good := true
	items, err := s.Scan(queue, 0, 1000)
	good = good && err == nil
	for _, it := range items {
		if it.Header.Topic != "t" || payloads != nil && payloads[it.Header.Seq] == nil {
			t.Errorf("%s: wrong header %+v", what, it.Header)
		}
	}
	for seq, want := range payloads {
		got, err := s.Read(seq)
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s: wrong payload of message %d", what, seq)
		}
		good = good && err == nil
	}
	err = s.State("", func(string, []byte) error { return nil })
	good = good && err == nil
	s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1000, 3000)}, Drops: []store.Drop{{Queue: queue, Seq: 10}}})
	err = f.wait(1)
	return good && err == nil
}

// Keys out of order make bbolt panic in a goroutine of its own, sometimes:
// the page check must see them every time.
func TestKeyOrder(t *testing.T) {
	file, _ := sample(t, false)
	key := []byte{0, 0, 0, 0, 0, 0, 0, 20, 1} // of message 20, and the version of its record
	seen := 0
	for at := 0; ; at++ {
		n := bytes.Index(file[at:], key)
		if n < 0 {
			break
		}
		at += n
		damaged := bytes.Clone(file)
		damaged[at+6] = 1 // beyond its neighbours
		dir := fastDir(t)
		if err := os.WriteFile(filepath.Join(dir, boltstore.FileName), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := boltstore.Open(boltstore.Config{Dir: dir})
		if err == nil { // a page that is free
			_ = s.Close()
			continue
		}
		if !errors.Is(err, boltstore.ErrDamaged) || !strings.Contains(err.Error(), "out of place") {
			t.Errorf("byte %d: %v, want the page check to refuse it", at, err)
		}
		seen++
	}
	if seen == 0 {
		t.Error("no key was found in use")
	}
}

func TestCutShort(t *testing.T) {
	file, payloads := sample(t, false)
	used := len(bytes.TrimRight(file, "\x00"))
	for _, n := range []int{1, 100, 4096, 8191, 8192, 12288, used / 2, used - 5000} {
		if survives(t, file[:n], payloads, fmt.Sprintf("cut to %d bytes", n)) {
			t.Errorf("a file cut to %d of %d bytes was accepted", n, used)
		}
	}
	if !survives(t, file, payloads, "whole") {
		t.Error("the whole file was refused")
	}
}
