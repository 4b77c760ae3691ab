package journal_test

import (
	"os"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
	"github.com/farhop/farhop/storeforward/vfs"
)

// conformance runs the suite on stores of config; before every Open, and so
// after a crash as well, prepare may change things.
func conformance(t *testing.T, config func(storetest.TB) journal.Config, prepare func(journal.Config)) {
	storetest.Run(t, func(tb storetest.TB) storetest.Harness {
		cfg := config(tb)
		return storetest.Harness{
			Open: func(done store.Done) (store.Store, error) {
				cfg.Done = done
				if prepare != nil {
					prepare(cfg)
				}
				return journal.Open(cfg)
			},
			Crash: func(s store.Store) { s.(*journal.Store).Abandon() },
		}
	})
}

// fastDir is a temporary directory in RAM where the system has one: many
// small stores would otherwise mostly wait for the disk, which their tests
// are not about.
func fastDir(tb storetest.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "journal")
	if err != nil {
		dir, err = os.MkdirTemp("", "journal")
	}
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestConformance(t *testing.T) {
	conformance(t, func(tb storetest.TB) journal.Config {
		return journal.Config{Dir: fastDir(tb), SegmentBytes: 256 << 10}
	}, nil)
}

// All values are read from the disk.
func TestConformanceBulk(t *testing.T) {
	conformance(t, func(tb storetest.TB) journal.Config {
		return journal.Config{Dir: fastDir(tb), SegmentBytes: 256 << 10, Bulk: []string{""}}
	}, nil)
}

// In memory there is no index: every Open reads the whole journal.
func TestConformanceMem(t *testing.T) {
	conformance(t, func(storetest.TB) journal.Config {
		return journal.Config{FS: vfs.NewMem(), SegmentBytes: 64 << 10}
	}, nil)
}
