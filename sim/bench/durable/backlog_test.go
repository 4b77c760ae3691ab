package durable

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// asFiller makes the test binary act as the filler.
const asFiller = "FARHOP_BENCH_FILLER"

func TestMain(m *testing.M) {
	if os.Getenv(asFiller) == "" {
		os.Exit(m.Run())
	}
	if err := FillAndWait(context.Background(), os.Args[len(os.Args)-1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestBacklog fills, kills, opens, drains and compares, a little.
func TestBacklog(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, filler := range [][]string{nil, {self}} {
		for _, engine := range Engines() {
			if engine == Memory {
				continue
			}
			t.Run(fmt.Sprintf("%s %d", engine, len(filler)), func(t *testing.T) {
				if filler != nil {
					t.Setenv(asFiller, "1")
				}
				dir := t.TempDir()
				r, err := RunBacklog(t.Context(), Config{
					Dir: dir, Engine: engine, Size: 200, Producers: 8, Backlog: 3003, Messages: 500, Rounds: 2, Limit: time.Minute, Return: 100 * time.Millisecond, Filler: filler,
				}, t.Logf)
				if err != nil {
					t.Fatal(err)
				}
				if r.Queued != 3003+2*500 {
					t.Errorf("%d queued, want %d", r.Queued, 3003+2*500)
				}
				if r.Fill <= 0 || r.PutFull <= 0 || r.PutEmpty <= 0 || r.Reopen <= 0 || r.Cold <= 0 || r.Drain <= 0 ||
					r.Commit <= 0 || r.CommitFresh <= 0 || r.Disk <= 0 || r.RSSAnon <= 0 || (r.Killed > 0) != (filler != nil) {
					t.Errorf("a figure is missing: %+v", r)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v %v", left, err)
				}
			})
		}
	}
	r, err := RunBacklog(t.Context(), Config{
		Dir: t.TempDir(), Size: 100, Producers: 4, Backlog: 2000, Messages: 100, Rounds: 1, DrainLimit: 1,
	}, nil)
	if err != nil || r.Drained >= r.Queued || r.CommitFresh != 0 {
		t.Errorf("a drain that takes too long: %d of %d, %v", r.Drained, r.Queued, err)
	}
	if _, err := RunBacklog(t.Context(), Config{Dir: t.TempDir(), Engine: Memory}, nil); err == nil {
		t.Error("a backlog in memory is measured")
	}
}
