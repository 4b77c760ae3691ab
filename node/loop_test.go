package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// A publish stays within the broker, acknowledged without the disk, when the
// snapshot knows of nobody beyond it. So no reply may be ahead of the snapshot:
// its client could tell another one, whose publish would miss a session.
func TestSnapshotBeforeReplies(t *testing.T) {
	l := bareLoop(nil)
	var order []string
	l.changed = func(*core.Snapshot) {}
	l.wanted = func(s *core.Snapshot, came, gone []string) {
		order = append(order, fmt.Sprint("wanted ", s != nil, came, gone))
	}
	token := l.newToken(func(core.Reply) { order = append(order, "reply") })
	l.perform(&core.Effects{Replies: []core.Reply{{Token: token}}, Changed: true, Came: []string{"a"}})
	token = l.newToken(func(core.Reply) { order = append(order, "reply") })
	l.perform(&core.Effects{Replies: []core.Reply{{Token: token}}, Came: []string{"b"}, Gone: []string{"c"}})
	if want := []string{"wanted true [a] []", "reply", "wanted false [b] [c]", "reply"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

func bareLoop(s store.Store) *loop {
	c := core.New(core.Config{Self: addr.MustNode("earth-1"), Region: addr.MustRegion("earth"), Incarnation: 1, Clock: true})
	return newLoop(c, s, newClock(time.Time{}), slog.New(slog.DiscardHandler))
}

// slowStore is a disk that takes its time: what it was given is durable when
// the test says so.
type slowStore struct {
	store.Store
	appended []store.LSN
}

func (s *slowStore) Append(b *store.Batch) { s.appended = append(s.appended, b.LSN) }

// A loop that is stopped while the disk writes answers what is written: what
// follows from the answer is served, too.
func TestStopAnswersWhatIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &slowStore{}
		l := bareLoop(disk)
		l.wanted = func(*core.Snapshot, []string, []string) {}
		l.changed, l.region, l.word = func(*core.Snapshot) {}, func(core.RegionState) {}, func(core.Word) {}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.run(ctx) }()
		answers := 0
		var say func(now time.Time, c *core.Core)
		say = func(now time.Time, c *core.Core) {
			c.SetState(now, l.newToken(func(core.Reply) {
				if answers++; answers == 1 {
					l.in.put(say)
				}
			}), "key", []byte{byte(answers)})
		}
		l.in.put(say)
		synctest.Wait()
		stop()
		for round := range 2 {
			synctest.Wait()
			if len(ended) > 0 || len(disk.appended) != round+1 || answers != round {
				t.Fatalf("ended: %t, %d batches written, %d answered; want a loop that waits for batch %d", len(ended) > 0, len(disk.appended), answers, round+1)
			}
			l.done(disk.appended[round], nil)
		}
		synctest.Wait()
		if len(ended) == 0 || answers != 2 {
			t.Errorf("ended: %t, %d answers; want an end and 2", len(ended) > 0, answers)
		}
	})
}

// Before there is a snapshot nobody knows who wants what: the core decides.
func TestWantedBeforeSnapshot(t *testing.T) {
	if !new(mqtt).Wanted("plant/1") {
		t.Error("a publish before the first snapshot stays within the broker")
	}
}
