package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/migrate"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
)

// Everything is the same on the other side, and once more on the way back.
func TestThereAndBack(t *testing.T) {
	for _, from := range engines {
		for _, messages := range []int{0, 1200} {
			t.Run(fmt.Sprintf("%s/%d", from, messages), func(t *testing.T) {
				dir := fastDir(t)
				fill(t, from, dir, messages)
				want := contents(t, from, dir)
				for _, to := range []migrate.Engine{other(from), from} {
					r, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: to})
					if err != nil {
						t.Fatal(err)
					}
					if !r.Done || r.From != other(to) || r.To != to || r.LostCount != 0 || (r.Messages > 0) != (messages > 0) {
						t.Errorf("report %+v", r)
					}
					if got := inUse(t, dir); got != to {
						t.Fatalf("engine %s is in use, want %s", got, to)
					}
					if r.Kept != filepath.Join(dir, other(to).Kept(to)) {
						t.Errorf("kept %s", r.Kept)
					}
					same(t, string(to), contents(t, to, dir), want)
					left, err := filepath.Glob(filepath.Join(dir, "migrating-to-*"))
					if err != nil || len(left) > 0 {
						t.Errorf("left behind: %v, %v", left, err)
					}
				}
				// What was kept is a whole store.
				kept := filepath.Join(dir, from.Kept(other(from)))
				again := fastDir(t)
				if err := os.CopyFS(filepath.Join(again, "all"), os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(again, "all", filepath.Base(kept)), filepath.Join(again, from.Name())); err != nil {
					t.Fatal(err)
				}
				same(t, "kept", contents(t, from, again), want)
			})
		}
	}
}

// What is there already is not moved, and what cannot be is refused.
func TestRefused(t *testing.T) {
	ctx := t.Context()
	t.Run("no store", func(t *testing.T) {
		for _, dir := range []string{fastDir(t), filepath.Join(fastDir(t), "missing")} {
			_, err := migrate.Run(ctx, migrate.Config{Dir: dir, To: migrate.Bolt})
			oneLine(t, "no store", err)
			if !errors.Is(err, migrate.ErrNoStore) {
				t.Error(err)
			}
		}
	})
	t.Run("no engine", func(t *testing.T) {
		if _, err := migrate.Run(ctx, migrate.Config{Dir: fastDir(t), To: "paper"}); err == nil || !strings.Contains(err.Error(), "journal and bbolt") {
			t.Error(err)
		}
	})
	for _, from := range engines {
		dir := fastDir(t)
		fill(t, from, dir, 50)
		want := contents(t, from, dir)
		to := other(from)
		refused := func(t *testing.T, what string, want error, cfg migrate.Config) {
			t.Helper()
			_, err := migrate.Run(ctx, cfg)
			oneLine(t, what, err)
			if want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		t.Run(string(from), func(t *testing.T) {
			r, err := migrate.Run(ctx, migrate.Config{Dir: dir, To: from})
			if err != nil || r.Done {
				t.Errorf("to the engine in use: %+v, %v", r, err)
			}
			s := open(t, from, dir, nil)
			busy := boltstore.ErrInUse
			if from == migrate.Journal {
				busy = journal.ErrInUse
			}
			refused(t, "in use", busy, migrate.Config{Dir: dir, To: to})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			release, err := migrate.Hold(dir)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, "held", migrate.ErrBusy, migrate.Config{Dir: dir, To: to})
			release()
			refused(t, "no room", store.ErrFull, migrate.Config{Dir: dir, To: to}.WithFree(1<<20))
			kept := filepath.Join(dir, from.Kept(to))
			if err := os.Mkdir(kept, 0o700); err != nil {
				t.Fatal(err)
			}
			refused(t, "kept", nil, migrate.Config{Dir: dir, To: to})
			if err := os.Remove(kept); err != nil {
				t.Fatal(err)
			}
			same(t, "old", contents(t, from, dir), want)
		})
	}
}

// While a migration runs nobody else may choose a store.
func TestHold(t *testing.T) {
	dir := fastDir(t)
	fill(t, migrate.Journal, dir, 50)
	steps := 0
	_, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: migrate.Bolt}.WithStep(func(string) {
		steps++
		_, err := migrate.Hold(dir)
		oneLine(t, "hold", err)
		if !errors.Is(err, migrate.ErrBusy) {
			t.Error(err)
		}
	}))
	if err != nil || steps < 8 {
		t.Fatalf("%d steps, %v", steps, err)
	}
	release, err := migrate.Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// What ends a migration before the switch leaves the old store as it was, and
// nothing else.
func TestEndsEarly(t *testing.T) {
	for _, from := range engines {
		for name, c := range map[string]struct {
			change func(migrate.Config, context.CancelFunc) migrate.Config
			want   error
		}{
			"full": {func(c migrate.Config, _ context.CancelFunc) migrate.Config { return c.WithMaxBytes(1 << 20) }, store.ErrFull},
			"interrupted": {func(c migrate.Config, cancel context.CancelFunc) migrate.Config {
				return c.WithAppend(func(*store.Batch) { cancel() })
			}, context.Canceled},
			"interrupted late": {func(c migrate.Config, cancel context.CancelFunc) migrate.Config {
				return c.WithStep(func(name string) {
					if name == "filled" {
						cancel()
					}
				})
			}, context.Canceled},
			"another payload": {changed(func(b *store.Batch) {
				for i := range b.Puts {
					if blob := b.Puts[i].Blob; blob != nil && len(blob.B) > 0 {
						blob.B[0]++
						return
					}
				}
			}), migrate.ErrDiffers},
			"a message less": {changed(func(b *store.Batch) { b.Puts = b.Puts[min(1, len(b.Puts)):] }), migrate.ErrDiffers},
			"another state": {changed(func(b *store.Batch) {
				for i := range b.Puts {
					e := b.Puts[i].Header.Entries
					if len(e) > 0 && e[0].State == store.Pending {
						h := *b.Puts[i].Header
						h.Entries = append([]store.Entry{}, e...)
						h.Entries[0].State = store.Received
						b.Puts[i].Header = &h
						return
					}
				}
			}), migrate.ErrDiffers},
			"a key less": {changed(func(b *store.Batch) { b.Sets = b.Sets[min(1, len(b.Sets)):] }), migrate.ErrDiffers},
			"another value": {changed(func(b *store.Batch) {
				if len(b.Sets) > 0 {
					b.Sets[0].Value = []byte("other")
				}
			}), migrate.ErrDiffers},
			"another number": {changed(func(b *store.Batch) {
				if n := len(b.Puts); n > 0 && len(b.Puts[n-1].Header.Entries) == 0 {
					b.Puts[n-1].Header = &store.Header{Seq: b.Puts[n-1].Header.Seq + 1}
				}
			}), migrate.ErrDiffers},
		} {
			t.Run(string(from)+"/"+name, func(t *testing.T) {
				dir := fastDir(t)
				fill(t, from, dir, 400)
				want := contents(t, from, dir)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				_, err := migrate.Run(ctx, c.change(migrate.Config{Dir: dir, To: other(from)}, cancel))
				oneLine(t, name, err)
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				names, err := os.ReadDir(dir)
				if err != nil || len(names) != 1 || names[0].Name() != from.Name() {
					t.Errorf("the folder holds %v, %v", names, err)
				}
				same(t, name, contents(t, from, dir), want)
			})
		}
	}
}

func changed(f func(*store.Batch)) func(migrate.Config, context.CancelFunc) migrate.Config {
	return func(c migrate.Config, _ context.CancelFunc) migrate.Config { return c.WithAppend(f) }
}

// Damaged messages stop a migration, until it is told that they are lost. The
// others are as they were.
func TestDamaged(t *testing.T) {
	for _, from := range engines {
		t.Run(string(from), func(t *testing.T) {
			dir := fastDir(t)
			fates := make(chan error, 1)
			s := open(t, from, dir, func(_ store.LSN, err error) { fates <- err })
			q := queues()
			for seq := uint64(1); seq <= 9; seq++ {
				p := put(newRand(), seq, 20_000, q[0], q[1])
				s.Append(&store.Batch{LSN: store.LSN(seq), Puts: []store.Put{p}, Sets: []store.Set{{Key: "k", Value: []byte("v")}}})
				if err := <-fates; err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			storetest.Spoil(t, dir, "payload of 4")
			storetest.Spoil(t, dir, "payload of 7")
			to := other(from)
			if from == migrate.Journal { // a file that is no part of it any more
				if err := os.WriteFile(filepath.Join(dir, "journal", "00000000000000ff.seg.damaged"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: to})
			oneLine(t, "damaged", err)
			if !errors.Is(err, migrate.ErrDamaged) || r.Done || inUse(t, dir) != from {
				t.Fatalf("%+v, %v", r, err)
			}
			listed(t, r)
			if r, err = migrate.Run(t.Context(), migrate.Config{Dir: dir, To: to, SkipDamaged: true}); err != nil {
				t.Fatal(err)
			}
			listed(t, r)
			if r.Messages != 7 || r.Entries != 14 || (r.SetAside == 1) != (from == migrate.Journal) || inUse(t, dir) != to {
				t.Errorf("report %+v", r)
			}
			s = open(t, to, dir, nil)
			defer s.Close()
			items, err := s.Scan(q[1], 0, 99)
			if err != nil || len(items) != 7 {
				t.Fatalf("%d messages, %v", len(items), err)
			}
			for _, it := range items {
				if b, err := s.Read(it.Header.Seq); err != nil || !bytes.HasPrefix(b, fmt.Appendf(nil, "payload of %d", it.Header.Seq)) {
					t.Errorf("message %d: %.20q, %v", it.Header.Seq, b, err)
				}
			}
			if sum, err := s.Summary(); err != nil || sum.NextSeq != 10 {
				t.Errorf("summary %+v, %v", sum, err)
			}
		})
	}
}

func listed(t *testing.T, r migrate.Report) {
	t.Helper()
	if r.LostCount != 2 || len(r.Lost) != 2 || r.Lost[0].Seq != 4 || r.Lost[1].Seq != 7 {
		t.Fatalf("lost %+v, want messages 4 and 7", r.Lost)
	}
	for _, l := range r.Lost {
		if len(l.Queues) != 2 || l.Message.Node.IsZero() || l.Why == "" {
			t.Errorf("lost %+v", l)
		}
	}
}
