package boltcheck_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/boltcheck"
)

// sample returns a file of some depth, with free pages.
func sample(tb testing.TB, clean bool) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: 4096, NoFreelistSync: !clean, FreelistType: bolt.FreelistMapType})
	if err != nil {
		tb.Fatal(err)
	}
	for round := range 3 {
		err := db.Update(func(tx *bolt.Tx) error {
			own, err := tx.CreateBucketIfNotExists([]byte("own"))
			if err != nil {
				return err
			}
			for i := range 200 {
				if err := own.Put(fmt.Appendf(nil, "%05d", i), bytes.Repeat([]byte{byte(round)}, 5*i)); err != nil {
					return err
				}
			}
			_, err = tx.CreateBucketIfNotExists([]byte("small"))
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

func check(file []byte, own string) (boltcheck.Meta, error) {
	r := bytes.NewReader(file)
	meta, err := boltcheck.ReadMeta(r, int64(len(file)))
	if err == nil {
		err = meta.Check(r, own, nil)
	}
	return meta, err
}

func TestCheck(t *testing.T) {
	for _, clean := range []bool{true, false} {
		file := sample(t, clean)
		meta, err := check(file, "own")
		if err != nil || meta.Clean() != clean || meta.Alone || meta.PageSize != 4096 || int(meta.Pages)*4096 > len(file) {
			t.Errorf("clean %v: %+v, %v", clean, meta, err)
		}
		if _, err := check(file, "other"); !errors.Is(err, boltcheck.ErrForeign) {
			t.Errorf("a bucket that is not there: %v", err)
		}
		torn := bytes.Clone(file)
		torn[20] ^= 1
		if meta, err := check(torn, "own"); err != nil || !meta.Alone {
			t.Errorf("one bad meta page: %+v, %v", meta, err)
		}
		torn[4096+20] ^= 1
		if _, err := check(torn, "own"); !errors.Is(err, boltcheck.ErrDamaged) && !errors.Is(err, boltcheck.ErrNotBolt) {
			t.Errorf("two bad meta pages: %v", err)
		}
		if _, err := check(file[:len(file)/8], "own"); !errors.Is(err, boltcheck.ErrDamaged) {
			t.Errorf("a file cut short: %v", err)
		}
	}
	if _, err := check([]byte("something else, and long enough to be read as a page of some file"), "own"); !errors.Is(err, boltcheck.ErrNotBolt) {
		t.Errorf("no bbolt file: %v", err)
	}
}

// bbolt reads every file that the check passes, whichever byte was changed.
func TestFlips(t *testing.T) {
	file := sample(t, false)
	dir, refused := t.TempDir(), 0
	for at := 2 * 4096; at < len(file); at += 2003 {
		damaged := bytes.Clone(file)
		damaged[at] ^= 1 << (at % 8)
		if _, err := check(damaged, "own"); err != nil {
			refused++
			continue
		}
		path := filepath.Join(dir, "db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		err := boltcheck.Guard(func() error {
			db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
			if err != nil {
				return err
			}
			defer db.Close()
			return db.View(func(tx *bolt.Tx) error {
				return tx.Bucket([]byte("own")).ForEach(func(k, v []byte) error { return nil })
			})
		})
		if err != nil {
			t.Errorf("byte %d: passed the check, then %v", at, err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

func TestGuard(t *testing.T) {
	if err := boltcheck.Guard(func() error { panic("page 7") }); !errors.Is(err, boltcheck.ErrDamaged) {
		t.Errorf("%v", err)
	}
	want := errors.New("as it is")
	if err := boltcheck.Guard(func() error { return want }); err != want {
		t.Errorf("%v", err)
	}
}

// The check must survive any file.
func FuzzCheck(f *testing.F) {
	file := sample(f, true)[:32<<10]
	f.Add(file, uint32(0), byte(0))
	f.Add(file, uint32(3*4096+8), byte(3))
	f.Fuzz(func(t *testing.T, file []byte, at uint32, flip byte) {
		file = bytes.Clone(file)
		if len(file) > 0 {
			file[int(at)%len(file)] ^= flip
		}
		_, _ = check(file, "own")
	})
}
