package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/migrate"
	"github.com/farhop/farhop/storeforward/store"
)

// The engines of store.engine.
const (
	engineJournal = string(migrate.Journal)
	engineBolt    = string(migrate.Bolt)
)

// engine is a store as the node runs it.
type engine interface {
	store.Store
	Incarnation() uint32
	Path() string
	stats() engineStats
}

// engineStats is what an operator sees of an engine.
type engineStats struct {
	Engine                      string
	Messages                    int
	Bytes, PeakBytes, FileBytes int64
	Damaged                     int // places where the disk returned other bytes than were written
}

type boltEngine struct{ *boltstore.Store }

func (e boltEngine) stats() engineStats {
	s := e.Stats()
	return engineStats{Engine: engineBolt, Messages: s.Messages, Bytes: s.Bytes, PeakBytes: s.PeakBytes, FileBytes: s.FileBytes}
}

type journalEngine struct{ *journal.Store }

func (e journalEngine) stats() engineStats {
	s := e.Stats()
	return engineStats{
		Engine: engineJournal, Messages: s.Messages, Bytes: s.Bytes, PeakBytes: s.PeakBytes, FileBytes: s.FileBytes, Damaged: s.Damaged,
	}
}

// chooseEngine says which engine keeps the store in dir: the one whose files
// are there, else the one asked for, else the journal. ErrBusy of package
// migrate: that is about to change.
func chooseEngine(dir, asked string) (string, error) {
	release, err := migrate.Hold(dir)
	if err != nil {
		return "", err
	}
	defer release()
	p, err := migrate.Look(dir)
	if err != nil {
		return "", err
	}
	found := string(p.Engine)
	switch {
	case found == "" && asked == "":
		return engineJournal, nil
	case found == "":
		return asked, nil
	case asked != "" && asked != found:
		return "", fmt.Errorf("%s holds a store of engine %s, and store.engine says %s; "+
			"write %s there, or move all of it over: farhop store migrate --to %s", dir, found, asked, found, asked)
	}
	return found, nil
}

// openEngine opens the store in dir. done is told the fate of every batch, and
// room how far batches may go.
func openEngine(dir, asked string, log *slog.Logger, done store.Done, room store.Room) (engine, error) {
	// From the choice until the store has its own lock, none may take its place.
	release, err := migrate.Hold(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	name, err := chooseEngine(dir, asked)
	if err != nil {
		return nil, err
	}
	if p, err := migrate.Look(dir); err == nil && p.Unfinished != "" {
		log.Warn("a migration of the store did not end: what it made is not used, and farhop store migrate removes it or begins anew",
			"dir", dir, "to", p.Unfinished)
	}
	// The core numbers on while batches are under way: one that follows a
	// refused one would skip what that held. So both engines are strict.
	if name == engineBolt {
		s, err := boltstore.Open(boltstore.Config{Dir: dir, Log: log, Strict: true, Done: done, Room: room})
		if err != nil {
			return nil, err
		}
		return boltEngine{s}, nil
	}
	s, err := journal.Open(journal.Config{Dir: dir, Log: log, Strict: true, Done: done, Room: room, Bulk: []string{core.RetainedPrefix}})
	if err != nil {
		return nil, err
	}
	return journalEngine{s}, nil
}

// Migration is what MigrateStore moved.
type Migration struct {
	From      string      `json:"from"`
	To        string      `json:"to"`
	Done      bool        `json:"done"` // false: nothing was done, the store is of that engine already
	Messages  int         `json:"messages"`
	Entries   int         `json:"entries"` // a message in two queues counts twice
	Bytes     int64       `json:"bytes"`   // of payload blocks
	StateKeys int         `json:"state_keys"`
	Kept      string      `json:"kept,omitempty"` // path of the old store, which nothing reads any more
	SetAside  int         `json:"set_aside"`      // files that the journal set aside for damage; they are in Kept
	LostCount int         `json:"lost_count"`     // what cannot be read
	Lost      []LostStore `json:"lost"`           // the first of it
}

// LostStore is a message, or a place of the disk, that cannot be read.
type LostStore struct {
	First   uint64   `json:"first"`             // number
	Last    uint64   `json:"last"`              // of a place: of the last message that may have been there
	Message string   `json:"message,omitempty"` // where its header can be read
	Queues  []string `json:"queues,omitempty"`  // none of a place
	Why     string   `json:"why"`
}

// MigrateStore moves the store in the data directory of a node that does not
// run to another engine. With an error the old store is in use and as it was,
// and of the Migration only what is lost is filled in. The error wraps
// ErrRunning when a daemon has the store, ErrNoStore when there is none,
// migrate.ErrDamaged when skipDamaged is missing, and store.ErrFull.
func MigrateStore(ctx context.Context, dir, to string, skipDamaged bool, log *slog.Logger) (Migration, error) {
	path := filepath.Join(dir, storeDir)
	r, err := migrate.Run(ctx, migrate.Config{Dir: path, To: migrate.Engine(to), SkipDamaged: skipDamaged, Log: log})
	switch {
	case errors.Is(err, boltstore.ErrInUse), errors.Is(err, journal.ErrInUse), errors.Is(err, migrate.ErrBusy):
		err = fmt.Errorf("%w: %s", ErrRunning, dir)
	case errors.Is(err, migrate.ErrNoStore):
		err = fmt.Errorf("%w in %s", ErrNoStore, path)
	}
	m := Migration{
		From: string(r.From), To: to, Done: r.Done, Messages: r.Messages, Entries: r.Entries, Bytes: r.Bytes,
		StateKeys: r.Keys, Kept: r.Kept, SetAside: r.SetAside, LostCount: r.LostCount, Lost: []LostStore{},
	}
	for _, l := range r.Lost {
		lost := LostStore{First: l.Seq, Last: l.Last, Why: l.Why}
		if !l.Message.Node.IsZero() {
			lost.Message = l.Message.String()
		}
		for _, q := range l.Queues {
			lost.Queues = append(lost.Queues, core.QueueText(q))
		}
		m.Lost = append(m.Lost, lost)
	}
	return m, err
}
