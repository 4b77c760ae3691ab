package journal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

func TestTools(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 256 << 10, Manual: true})
	u.puts(1, 500, 2000)
	for seq := uint64(1); seq <= 400; seq++ {
		if seq%4 != 0 {
			u.drop(seq)
		}
	}
	u.must(&store.Batch{Sets: []store.Set{{Key: "k", Value: []byte("v")}}})
	if _, err := journal.Check(u.cfg.Dir); !errors.Is(err, journal.ErrInUse) {
		t.Errorf("check of a directory in use: %v", err)
	}
	for _, how := range []string{"closed", "killed"} {
		if how == "closed" {
			_ = u.s.Close()
		} else {
			u.open()
			u.puts(501, 510, 10)
			u.s.Abandon()
		}
		rep, err := journal.Check(u.cfg.Dir)
		if err != nil || !rep.OK() || rep.Messages != 200+10*btoi(how == "killed") || rep.Entries != rep.Messages || rep.Keys != 1 || rep.Index != "" {
			t.Fatalf("%s: %+v, %v", how, rep, err)
		}
	}
	st, err := journal.StatsOf(u.cfg.Dir)
	if err != nil || st.Messages != 210 || len(st.Queues) != 1 || st.Queues[0].Count != 210 || st.Queues[0].First != 4 || len(st.Segments) < 3 || st.Keys != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	before, after, err := journal.Compact(u.cfg.Dir)
	if err != nil || after > before/2 || after < 200*2000 {
		t.Errorf("compacted from %d to %d bytes, %v", before, after, err)
	}
	seen := 0
	err = journal.Export(u.cfg.Dir, func(it store.Item, payload []byte, damaged bool) error {
		seen++
		size := 2000
		if it.Header.Seq > 500 {
			size = 10
		}
		if damaged || !bytes.Equal(payload, bytes.Repeat([]byte{byte(it.Header.Seq)}, size)) {
			t.Errorf("message %d: %d bytes, damaged %v", it.Header.Seq, len(payload), damaged)
		}
		return nil
	})
	if err != nil || seen != 210 {
		t.Errorf("%d messages, %v", seen, err)
	}
	rep, err := journal.Check(u.cfg.Dir)
	if err != nil || !rep.OK() || rep.Messages != 210 {
		t.Errorf("%+v, %v", rep, err)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestCheckFindsDamage(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true})
	u.puts(1, 50, 300)
	_ = u.s.Close()
	flip(t, segments(t, u.cfg.Dir)[0], payload(20, 300))
	rep, err := journal.Check(u.cfg.Dir)
	if err != nil || rep.OK() || len(rep.Damage) != 1 || rep.Damage[0].FirstSeq != 20 || rep.Messages != 50 || len(rep.Disagrees) != 0 || len(rep.Unread) != 1 || rep.Unread[0] != 20 {
		t.Errorf("%+v, %v", rep, err)
	}
	seen := map[uint64]bool{}
	err = journal.Export(u.cfg.Dir, func(it store.Item, _ []byte, damaged bool) error {
		seen[it.Header.Seq] = damaged
		return nil
	})
	if err != nil || len(seen) != 50 || !seen[20] || seen[21] {
		t.Errorf("%v, %v", seen, err)
	}
}

func TestToolsWithoutJournal(t *testing.T) {
	dir := fastDir(t)
	if journal.Exists(dir) {
		t.Error("an empty directory has a journal")
	}
	_, err := journal.Check(dir)
	_, err2 := journal.StatsOf(dir)
	_, _, err3 := journal.Compact(dir)
	for _, err := range []error{err, err2, err3, journal.Export(dir, nil)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, want ErrNotExist", err)
		}
	}
}
