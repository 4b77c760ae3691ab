package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// Errors of Open, for callers that branch.
var (
	ErrInUse   = errors.New("data directory is in use")
	ErrForeign = errors.New("not a farhop buffer")
	ErrNewer   = errors.New("written by a newer farhop")
)

// FolderName is the folder of the journal within the data directory.
const FolderName = "journal"

// Limits of Config.
const (
	minBytes           = 1 << 20
	minSegment         = 64 << 10
	maxSegment         = 1 << 30
	defaultSegment     = 16 << 20
	defaultCheckpoint  = 8 << 20
	checkpointRecords  = 64 << 10
	defaultCacheBytes  = 4 << 20
	defaultLockTimeout = time.Second
)

// Index is where checkpoints are kept: index.File, or a double in tests.
type Index interface {
	// Apply makes all changes in one transaction, sorted by key. last says
	// that nothing follows before Close.
	Apply(changes []index.Change, last bool) error
	// Each calls f for the keys with a prefix, in order. f keeps no value.
	Each(prefix string, f func(key string, value []byte) error) error
	// Reset empties it.
	Reset() error
	// MaybeCompact gives space back when much of it is free.
	MaybeCompact() error
	Size() int64
	Close() error
}

// Damage is a place where the disk returns other bytes than were written.
type Damage struct {
	Segment uint64
	Offset  int64
	Bytes   int64
	// Messages from FirstSeq to LastSeq may have been in it: any from FirstSeq
	// on when LastSeq is smaller, none when both are 0.
	FirstSeq, LastSeq uint64
	// Unknown: the index was lost as well, so nobody knows which of these
	// messages still waited; otherwise scans return those as damaged.
	Unknown bool
}

// Config says where the buffer is. Zero values mean the defaults.
type Config struct {
	// Dir is the data directory; the journal lives in the folder FolderName
	// within it, both are made when missing.
	Dir string
	// MaxBytes limits the segment files together, at least 1 MiB. Default: no
	// limit but the disk's.
	MaxBytes int64
	// SegmentBytes is the size of a segment, 64 KiB to 1 GiB. Default 16 MiB,
	// less where MaxBytes is small.
	SegmentBytes int64
	// CheckpointBytes is how much journal is written between two checkpoints
	// at least. Default 8 MiB.
	CheckpointBytes int64
	// LockTimeout is how long Open waits for another process to let go of
	// the directory. Default 1 s: enough for a restart, too short to hang.
	LockTimeout time.Duration
	// Done is told the fate of each batch, in LSN order, by the committer's
	// goroutine. It must not block for long: commits wait for it.
	Done store.Done
	// Incarnation is given to a buffer that is made: that of the one whose
	// place it takes. Default: drawn. One that is there keeps its own.
	Incarnation uint32
	// Strict refuses every batch after the first that was refused, until the
	// buffer is opened again: for a caller whose batches rest on each other.
	Strict bool
	// Bulk are prefixes of keys of the State of which there may be very many:
	// their values stay on the disk, where State reads them. Others are kept in
	// memory as well, up to 1 KiB each.
	Bulk []string
	// Room is told how far batches may go before the disk, or MaxBytes, is full:
	// for a caller that refuses work sooner than it breaks a promise.
	Room store.Room
	// Alarm is told of every damaged place once, by any goroutine. It must
	// not call the store. It is logged as well.
	Alarm func(Damage)
	// Log takes what an operator should know. Default: nothing is logged.
	Log *slog.Logger

	// FS replaces the folder by another one, in tests; Dir, and with it the
	// lock, is not used then. OpenIndex replaces the index, whose default is
	// index.Open, or with an FS none at all: then every Open reads the whole
	// journal. An error that wraps index.ErrDamaged comes with an empty Index.
	FS        vfs.FS
	OpenIndex func() (Index, error)
	// Manual leaves checkpoints and cleaning to calls of Checkpoint and Clean.
	Manual bool

	free func() int64 // replaces what the file system says of its free bytes, in tests
}

// Validate reports all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" && c.FS == nil {
		errs = append(errs, errors.New("dir: missing"))
	}
	if c.MaxBytes != 0 && c.MaxBytes < minBytes {
		errs = append(errs, fmt.Errorf("maxBytes: %d, want 0 or at least %d", c.MaxBytes, minBytes))
	}
	if c.SegmentBytes != 0 && (c.SegmentBytes < minSegment || c.SegmentBytes > maxSegment) {
		errs = append(errs, fmt.Errorf("segmentBytes: %d, want %d to %d", c.SegmentBytes, minSegment, maxSegment))
	}
	if c.CheckpointBytes < 0 {
		errs = append(errs, fmt.Errorf("checkpointBytes: %d is negative", c.CheckpointBytes))
	}
	if c.Incarnation > bundle.MaxIncarnation {
		errs = append(errs, fmt.Errorf("incarnation: %d, the most is %d", c.Incarnation, bundle.MaxIncarnation))
	}
	if c.LockTimeout < 0 {
		errs = append(errs, fmt.Errorf("lockTimeout: %v is negative", c.LockTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegment
		if c.MaxBytes != 0 {
			c.SegmentBytes = min(c.SegmentBytes, max(minSegment, c.MaxBytes/16))
		}
	}
	if c.CheckpointBytes == 0 {
		c.CheckpointBytes = defaultCheckpoint
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = defaultLockTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
