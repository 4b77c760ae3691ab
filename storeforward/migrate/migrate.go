package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// Errors of Run, for callers that branch. One more is ErrBusy; those of the
// engines, such as boltstore.ErrInUse and store.ErrFull, come wrapped.
var (
	// ErrNoStore says that there is nothing to migrate.
	ErrNoStore = errors.New("there is no store")
	// ErrDamaged says that some of the old store cannot be read; the Report
	// lists it.
	ErrDamaged = fmt.Errorf("the store is damaged: %w", store.ErrDamaged)
)

// Config says what is to be moved.
type Config struct {
	// Dir is the folder of the stores; see the package comment for its names.
	Dir string
	// To is the engine that the store shall have.
	To Engine
	// SkipDamaged leaves behind, and loses, what cannot be read any more.
	// Without it a migration of such a store is refused.
	SkipDamaged bool
	// Log takes what an operator should know. Default: nothing is logged.
	Log *slog.Logger

	// For tests alone: what is called between the steps, what replaces
	// freeBytes, the limit of the new store, and what stands before it.
	step     func(name string)
	free     func(dir string) (int64, bool)
	maxBytes int64
	wrap     func(engine) engine
}

// Validate reports all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: missing"))
	}
	if err := c.To.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("to: %w", err))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.step == nil {
		c.step = func(string) {}
	}
	if c.free == nil {
		c.free = freeBytes
	}
	return c
}

// Report is what a migration moved.
type Report struct {
	From, To  Engine
	Done      bool   // false: nothing was done, the store is of that engine already
	Messages  int    // each once
	Entries   int    // their places in queues
	Bytes     int64  // of payloads
	Keys      int    // of the state
	Kept      string // path of the old store, which nothing reads any more
	SetAside  int    // files that the journal set aside for damage; they are in Kept
	Lost      []Lost // the first of what cannot be read
	LostCount int    // all of it
}

// engine is a store of one of the engines.
type engine interface {
	store.Store
	Incarnation() uint32
}

// run is one migration.
type run struct {
	Config
	from   Engine
	report Report
	source *source
	begun  bool // the folder was changed

	mu     sync.Mutex
	places count // damaged places that the journal told of
}

// Run moves the store of a folder to another engine. No daemon may run there.
// With an error the old store is in use and as it was. The old one is kept
// under another name.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, fmt.Errorf("migrate: %w", err)
	}
	r := &run{Config: cfg.withDefaults()}
	err := r.locked(ctx)
	if err != nil {
		err = fmt.Errorf("migrate: %w", err)
	}
	return r.report, err
}

func (r *run) locked(ctx context.Context) error {
	release, err := take(r.Dir, true, lockWait)
	if err != nil {
		return err
	}
	defer release()
	p, err := Look(r.Dir)
	if err != nil {
		return err
	}
	if p.Engine == "" {
		return fmt.Errorf("%w in %s", ErrNoStore, r.Dir)
	}
	r.from = p.Engine
	r.report.From, r.report.To = p.Engine, r.To
	if p.Engine == r.To {
		return clean(r.names(), p)
	}
	if _, err := os.Lstat(r.path(r.from.kept(r.To))); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s is there, of an earlier migration; remove it, or move it elsewhere",
			r.path(r.from.kept(r.To))))
	}
	return r.migrate(ctx, p)
}

func (r *run) path(name string) string { return filepath.Join(r.Dir, name) }

func (r *run) names() names { return folder(r.Dir) }

// migrate does it all, with the folder locked. What fails before the switch is
// taken back.
func (r *run) migrate(ctx context.Context, p Place) (err error) {
	if err := r.make(ctx, p); err != nil {
		return r.takeBack(err)
	}
	r.step("made")
	if err := place(r.names(), r.To); err != nil {
		return r.takeBack(err)
	}
	r.step("placed")
	if err := flip(r.names(), r.from, r.To); err != nil {
		return r.takeBack(err)
	}
	r.step("switched")
	r.report.Kept, r.report.Done = r.path(r.from.kept(r.To)), true
	if err := clean(r.names(), Place{Engine: r.To}); err != nil {
		r.Log.Warn("the store moved; the folder in which it was made stays behind until the next time",
			"folder", r.path(r.To.aside()), "err", err)
	}
	r.step("cleaned")
	return nil
}

// takeBack removes what was made, for a cause. The old store is in use.
func (r *run) takeBack(cause error) error {
	if !r.begun {
		return cause
	}
	p, err := Look(r.Dir)
	if err == nil {
		err = clean(r.names(), p)
	}
	if err != nil {
		return fmt.Errorf("%w; and what was made stays behind until the next migration: %w", cause, err)
	}
	return cause
}

// make makes the new store in its folder aside, durably, with the old one
// open, and so locked, all the time.
func (r *run) make(ctx context.Context, p Place) (err error) {
	old, err := r.open(r.from, r.Dir, 0, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	r.source = &source{store: old, skipDamaged: r.SkipDamaged}
	c, err := r.source.survey(ctx)
	if err != nil {
		return err
	}
	if err := r.accept(&c); err != nil {
		return err
	}
	if r.from == Journal {
		files, err := journal.Kept(r.Dir)
		if err != nil {
			return err
		}
		r.report.SetAside = len(files)
	}
	r.step("surveyed")
	r.begun = true
	if err := clean(r.names(), p); err != nil {
		return err
	}
	if err := r.room(&c); err != nil {
		return err
	}
	r.step("clean")
	aside := r.path(r.To.aside())
	if err := errors.Join(os.Mkdir(aside, 0o700), r.names().SyncDir()); err != nil {
		return err
	}
	r.step("folder")
	if err := r.fill(ctx, aside, old.Incarnation()); err != nil {
		return err
	}
	r.step("filled")
	if err := r.verify(ctx, aside, &c); err != nil {
		return err
	}
	r.step("verified")
	return errors.Join(ownAs(r.path(r.from.name()), aside), syncTree(aside))
}

// accept tells what cannot be read, and refuses it unless told otherwise.
func (r *run) accept(c *count) error {
	r.mu.Lock()
	for _, l := range r.places.lost {
		c.lose(l)
	}
	c.lostAll += r.places.lostAll - len(r.places.lost)
	r.mu.Unlock()
	r.report.Lost, r.report.LostCount = c.lost, c.lostAll
	if c.lostAll > 0 && !r.SkipDamaged {
		return fmt.Errorf("%w: of %s %d messages or places cannot be read", ErrDamaged, r.path(r.from.name()), c.lostAll)
	}
	return nil
}

// Room that an engine takes besides what it holds: the space that it reserves.
const (
	journalRoom = 40 << 20 // two segments and an index
	boltRoom    = 18 << 20 // one step of growth and the reserve for drops
)

// room refuses to begin where the new store will not fit beside the old one.
// It is an estimate; a disk that is full all the same ends the migration.
func (r *run) room(c *count) error {
	free, known := r.free(r.Dir)
	need := c.size + c.size/4 + int64(c.messages)*64 + boltRoom
	if r.To == Journal {
		need += journalRoom - boltRoom
	}
	if known && free < need {
		return fmt.Errorf("%w: the new store needs about %d MiB beside the old one, the disk of %s has %d MiB; make room, or deliver first",
			store.ErrFull, need>>20+1, r.Dir, free>>20)
	}
	return nil
}

// fill writes the new store.
func (r *run) fill(ctx context.Context, aside string, incarnation uint32) (err error) {
	w := newWriter()
	now, err := r.open(r.To, aside, incarnation, w.report)
	if err != nil {
		return err
	}
	w.s = now
	if r.wrap != nil {
		w.s = r.wrap(now)
	}
	c, err := copyAll(ctx, r.source, w)
	if err = errors.Join(err, now.Close()); err != nil {
		return err
	}
	r.report.Messages, r.report.Entries, r.report.Bytes, r.report.Keys = c.messages, c.entries, c.bytes, c.keys
	return nil
}

// verify opens the new store as a daemon would and compares all of it.
func (r *run) verify(ctx context.Context, aside string, first *count) (err error) {
	now, err := r.open(r.To, aside, 0, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, now.Close()) }()
	c, err := compare(ctx, r.source, now)
	if err != nil {
		return err
	}
	if c.messages != r.report.Messages || c.entries != r.report.Entries || c.bytes != r.report.Bytes || c.keys != r.report.Keys ||
		c.messages != first.messages || c.keys != first.keys {
		return fmt.Errorf("%w: %d messages and %d values, %d and %d were written", errDiffers,
			c.messages, c.keys, r.report.Messages, r.report.Keys)
	}
	return nil
}

// open opens the store of an engine in a folder. What is not there is made,
// of the incarnation.
func (r *run) open(e Engine, dir string, incarnation uint32, done store.Done) (engine, error) {
	if e == Bolt {
		s, err := boltstore.Open(boltstore.Config{
			Dir: dir, Log: r.Log, Strict: true, Done: done, Incarnation: incarnation, MaxBytes: r.limit(dir),
		})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := journal.Open(journal.Config{
		Dir: dir, Log: r.Log, Strict: true, Done: done, Incarnation: incarnation, MaxBytes: r.limit(dir),
		Manual: done == nil, // what is only read is not cleaned
		Alarm:  func(d journal.Damage) { r.alarm(dir, d) },
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// alarm notes a damaged place of the old store of which nobody knows what was
// in it. Otherwise the messages are known, and the walk comes to them.
func (r *run) alarm(dir string, d journal.Damage) {
	if dir != r.Dir || !d.Unknown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.places.lose(Lost{
		Seq: d.FirstSeq, Last: d.LastSeq,
		Why: fmt.Sprintf("segment %d, bytes %d to %d: they are not what was written", d.Segment, d.Offset, d.Offset+d.Bytes),
	})
}

// limit bounds the new store, in tests.
func (r *run) limit(dir string) int64 {
	if dir == r.Dir {
		return 0
	}
	return r.maxBytes
}
