package migrate_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/migrate"
)

func sum(parts ...[]byte) (c uint32) {
	for _, p := range parts {
		c = crc32.Update(c, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return c
}

// edit changes a bbolt file.
func edit(t *testing.T, path string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// later makes the store of an engine one of a later version, as that would
// write it: the version is in the record "file" of bbolt, and in the head of
// each segment of the journal.
func later(t *testing.T, e migrate.Engine, dir string, version byte) {
	t.Helper()
	if e == migrate.Bolt {
		edit(t, filepath.Join(dir, boltstore.FileName), func(tx *bolt.Tx) error {
			b, key := tx.Bucket([]byte("farhop")), []byte("file")
			rec := bytes.Clone(b.Get(key)) // version, CRC, length, magic with its length, schema
			at := bytes.Index(rec, []byte("farhop buffer")) + len("farhop buffer")
			if rec[at] != 1 {
				return fmt.Errorf("the schema is %d", rec[at])
			}
			rec[at] = version
			binary.LittleEndian.PutUint32(rec[1:], sum(key, rec[:1], rec[5:]))
			return b.Put(key, rec)
		})
		return
	}
	segments, err := filepath.Glob(filepath.Join(dir, journal.FolderName, "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[8] = version
		binary.LittleEndian.PutUint32(data[124:], sum(data[:124]))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// laterIndex makes the index of a journal one of a later version.
func laterIndex(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, journal.FolderName, index.FileName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("farhop index 2"))
		return errors.Join(err, b.Put([]byte("k"), []byte("v")))
	})
}

// opens tries a store as a daemon does, and closes it again.
func opens(e migrate.Engine, dir string, log *slog.Logger) error {
	if e == migrate.Bolt {
		s, err := boltstore.Open(boltstore.Config{Dir: dir, Log: log})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	s, err := journal.Open(journal.Config{Dir: dir, Log: log})
	if err == nil {
		err = s.Close()
	}
	return err
}

// TestLater: a store of a later version is refused in one line by the engine
// and by a migration, whatever stands beside it, and not a byte of it changes.
func TestLater(t *testing.T) {
	for _, e := range engines {
		to := other(e)
		for name, prepare := range map[string]func(t *testing.T, dir string){
			"alone": func(*testing.T, string) {},
			"with a later index": func(t *testing.T, dir string) {
				if e == migrate.Journal {
					laterIndex(t, dir)
				}
			},
			"with half a migration": func(t *testing.T, dir string) {
				aside := filepath.Join(dir, to.Aside())
				if err := os.Mkdir(aside, 0o700); err != nil {
					t.Fatal(err)
				}
				fill(t, to, dir, 40)
			},
		} {
			t.Run(string(e)+"/"+name, func(t *testing.T) {
				dir := fastDir(t)
				fill(t, e, dir, 100)
				later(t, e, dir, 2)
				prepare(t, dir)
				before := tree(t, dir)
				if got := inUse(t, dir); got != e {
					t.Fatalf("engine %s is in use", got)
				}
				err := opens(e, dir, nil)
				_, merr := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: to})
				for _, err := range []error{err, merr} {
					oneLine(t, name, err)
					if !errors.Is(err, boltstore.ErrNewer) && !errors.Is(err, journal.ErrNewer) {
						t.Errorf("%v, want ErrNewer", err)
					}
					for _, word := range []string{"format 2", "newer"} {
						if err != nil && !strings.Contains(err.Error(), word) {
							t.Errorf("%q does not say %q", err, word)
						}
					}
				}
				same(t, "the folder", tree(t, dir), before)
			})
		}
	}
}

// An index of a later version is not used and made anew: it is a cache, and
// nothing is in it that the segments have not.
func TestLaterIndex(t *testing.T) {
	dir := fastDir(t)
	fill(t, migrate.Journal, dir, 200)
	want := contents(t, migrate.Journal, dir)
	laterIndex(t, dir)
	var log bytes.Buffer
	if err := opens(migrate.Journal, dir, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "the index was damaged") {
		t.Errorf("log: %s", log.String())
	}
	same(t, "contents", contents(t, migrate.Journal, dir), want)
}

// TestStrangers puts something else in the place of each file. It is refused
// in one line and left alone; an index is replaced.
func TestStrangers(t *testing.T) {
	text := []byte("not a store\n")
	for _, c := range []struct {
		name string
		e    migrate.Engine
		make func(dir string) error
	}{
		{"a file for the folder", migrate.Journal, func(dir string) error { return os.WriteFile(dir+"/journal", text, 0o600) }},
		{"text for a segment", migrate.Journal, func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/journal", 0o700), os.WriteFile(dir+"/journal/0000000000000001.seg", text, 0o600))
		}},
		{"a folder for the lock", migrate.Journal, func(dir string) error { return os.MkdirAll(dir+"/journal/lock", 0o700) }},
		{"text for the file", migrate.Bolt, func(dir string) error { return os.WriteFile(dir+"/buffer.db", text, 0o600) }},
		{"nothing in the file", migrate.Bolt, func(dir string) error { return os.WriteFile(dir+"/buffer.db", nil, 0o600) }},
		{"a folder for the file", migrate.Bolt, func(dir string) error { return os.Mkdir(dir+"/buffer.db", 0o700) }},
		{"a folder for the index", migrate.Journal, func(dir string) error {
			ix := dir + "/journal/" + index.FileName
			return errors.Join(os.MkdirAll(ix, 0o700), os.WriteFile(ix+"/note", text, 0o600))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fastDir(t)
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			oneLine(t, "open", opens(c.e, dir, nil))
			_, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: other(c.e)})
			oneLine(t, "migrate", err)
			same(t, "the folder", tree(t, dir), before)
		})
	}
	t.Run("text for the index", func(t *testing.T) {
		dir := fastDir(t)
		fill(t, migrate.Journal, dir, 100)
		want := contents(t, migrate.Journal, dir)
		if err := os.WriteFile(filepath.Join(dir, "journal", index.FileName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		same(t, "contents", contents(t, migrate.Journal, dir), want)
	})
	t.Run("a file for the folder aside", func(t *testing.T) {
		dir := fastDir(t)
		fill(t, migrate.Journal, dir, 100)
		want := contents(t, migrate.Journal, dir)
		if err := os.WriteFile(filepath.Join(dir, migrate.Bolt.Aside()), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: migrate.Bolt}); err != nil {
			t.Fatal(err)
		}
		same(t, "contents", contents(t, migrate.Bolt, dir), want)
	})
}
