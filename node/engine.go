package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// The engines of store.engine.
const (
	engineJournal = "journal"
	engineBolt    = "bbolt"
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
// are there, else the one asked for, else the journal.
func chooseEngine(dir, asked string) (string, error) {
	found := ""
	for _, e := range []struct{ name, path string }{{engineJournal, journal.FolderName}, {engineBolt, boltstore.FileName}} {
		_, err := os.Stat(filepath.Join(dir, e.path))
		switch {
		case err == nil && found != "":
			return "", fmt.Errorf("%s holds the stores of two engines, %s and %s; move the one that is not in use elsewhere", dir, found, e.name)
		case err == nil:
			found = e.name
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	switch {
	case found == "" && asked == "":
		return engineJournal, nil
	case found == "":
		return asked, nil
	case asked != "" && asked != found:
		return "", fmt.Errorf("%s holds a store of engine %s, and store.engine says %s; "+
			"write %s there, or empty the node first (farhop queue) and move %s elsewhere", dir, found, asked, found, dir)
	}
	return found, nil
}

// openEngine opens the store in dir. done is told the fate of every batch.
func openEngine(dir, asked string, log *slog.Logger, done store.Done) (engine, error) {
	name, err := chooseEngine(dir, asked)
	if err != nil {
		return nil, err
	}
	// The core numbers on while batches are under way: one that follows a
	// refused one would skip what that held. So both engines are strict.
	if name == engineBolt {
		s, err := boltstore.Open(boltstore.Config{Dir: dir, Log: log, Strict: true, Done: done})
		if err != nil {
			return nil, err
		}
		return boltEngine{s}, nil
	}
	s, err := journal.Open(journal.Config{Dir: dir, Log: log, Strict: true, Done: done})
	if err != nil {
		return nil, err
	}
	return journalEngine{s}, nil
}
