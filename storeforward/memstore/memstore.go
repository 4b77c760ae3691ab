// Package memstore is the buffer in RAM: a store.Store for virtual worlds and
// tests, with knobs for a crash, a full disk and a failing one. It owns
// nothing outside of memory, starts no goroutine, takes no lock and gives the
// same answers for the same calls. Package sim and the tests of the core use
// it; a real node never does.
//
//	s := memstore.New(memstore.Config{Incarnation: 1})
//	s.Append(batch)        // staged: a crash would lose it
//	lsn, ok := s.Sync()    // durable up to lsn
//	s = s.Crash()          // what recovery finds
//
// It keeps the pointers to headers and payloads it is given and copies
// neither; their owner must not change them.
package memstore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// ErrClosed is the answer of a store that was closed or has crashed.
var ErrClosed = errors.New("the buffer is closed")

// Config makes a Store. The zero value works.
type Config struct {
	// Incarnation is what Incarnation returns; its 20 bits come from the seed
	// of the world, so that one seed is one run.
	Incarnation uint32
	// Done is told the fate of each batch, from within Sync. nil: only the
	// result of Sync tells.
	Done store.Done
}

// Store is one buffer. It is for one goroutine.
type Store struct {
	cfg    Config
	staged []*store.Batch
	closed bool

	// What would survive a power cut.
	messages map[uint64]*message
	queues   map[store.Queue]*queue
	state    map[string]value
	high     uint64
	bytes    int64

	// Knobs.
	full     bool
	poisoned bool
	damaged  map[uint64]bool
	failIn   int // batches until failErr, 0 = never
	failErr  error
}

var _ store.Store = (*Store)(nil)

// message is a stored header with the entries that still wait. entries is the
// header's own slice until one of them changes.
type message struct {
	header  *store.Header
	blob    *store.Blob // nil once no entry needs it
	entries []store.Entry
	owned   bool // entries is our copy
	changed bool // entries differ from the header's
}

type value struct {
	b    []byte
	blob *store.Blob
}

// New returns an empty store.
func New(cfg Config) *Store {
	return &Store{
		cfg:      cfg,
		messages: map[uint64]*message{},
		queues:   map[store.Queue]*queue{},
		state:    map[string]value{},
	}
}

// Incarnation returns the configured incarnation.
func (s *Store) Incarnation() uint32 { return s.cfg.Incarnation }

// Append stages a batch. It must stay unchanged until it is synced.
func (s *Store) Append(b *store.Batch) { s.staged = append(s.staged, b) }

// Staged returns the number of batches that wait for Sync.
func (s *Store) Staged() int { return len(s.staged) }

// Sync makes the staged batches durable, in order, and reports each. It
// returns the highest LSN that became durable and whether any did; a batch
// that failed is told to Done alone.
func (s *Store) Sync() (lsn store.LSN, ok bool) {
	// Done may append: what it appends waits for the next Sync.
	staged := s.staged
	s.staged = nil
	for i, b := range staged {
		err := s.commit(b)
		if err == nil {
			lsn, ok = b.LSN, true
		}
		if s.cfg.Done != nil {
			s.cfg.Done(b.LSN, err)
		}
		staged[i] = nil
	}
	if s.staged == nil {
		s.staged = staged[:0]
	}
	return lsn, ok
}

// Crash ends the store as a power cut does and returns what recovery finds:
// a store with all that was synced and nothing that was only staged. Knobs
// start afresh, damage stays.
func (s *Store) Crash() *Store { return s.CrashAfter(0) }

// CrashAfter is Crash with the first n staged batches found all the same: they
// were on the disk, only nobody was told.
func (s *Store) CrashAfter(n int) *Store {
	for _, b := range s.staged[:min(n, len(s.staged))] {
		_ = s.commit(b)
	}
	next := &Store{
		cfg: s.cfg, messages: s.messages, queues: s.queues, state: s.state, high: s.high, bytes: s.bytes,
		damaged: s.damaged,
	}
	*s = *New(s.cfg)
	s.closed = true
	return next
}

// SetFull refuses every batch that stores a message with store.ErrFull, until
// it is called with false. Drops, marks and state pass.
func (s *Store) SetFull(full bool) { s.full = full }

// FailAt makes the n-th batch from now, 1 being the next to be synced, fail
// whole with err. An err that is store.ErrPoisoned fails all later ones too,
// as a failed fsync does.
func (s *Store) FailAt(n int, err error) { s.failIn, s.failErr = n, err }

// Damage makes the record of a message unreadable, as a disk does that changes
// bits: Read returns store.ErrDamaged and Scan an item that is Damaged.
func (s *Store) Damage(seq uint64) {
	if s.damaged == nil {
		s.damaged = map[uint64]bool{}
	}
	s.damaged[seq] = true
}

func (s *Store) commit(b *store.Batch) error {
	if s.closed {
		return ErrClosed
	}
	if s.poisoned {
		return store.ErrPoisoned
	}
	if s.failIn > 0 {
		if s.failIn--; s.failIn == 0 {
			s.poisoned = errors.Is(s.failErr, store.ErrPoisoned)
			return s.failErr
		}
	}
	if s.full && len(b.Puts) > 0 {
		return fmt.Errorf("store batch %d: %w", b.LSN, store.ErrFull)
	}
	if err := s.check(b); err != nil {
		return fmt.Errorf("store batch %d: %w", b.LSN, err)
	}
	s.apply(b)
	return nil
}

// check refuses what boltstore would refuse, as far as a world can get wrong.
func (s *Store) check(b *store.Batch) error {
	high := s.high
	for i := range b.Puts {
		h := b.Puts[i].Header
		if h.Seq <= high {
			return fmt.Errorf("put of message %d: the number is used, the highest is %d", h.Seq, high)
		}
		high = h.Seq
		if err := checkEntries(h.Entries); err != nil {
			return fmt.Errorf("put of message %d: %w", h.Seq, err)
		}
	}

	for i := range b.Marks {
		if b.Marks[i].State > store.Ended {
			return fmt.Errorf("mark of message %d: no entry state %d", b.Marks[i].Seq, b.Marks[i].State)
		}
	}
	return nil
}

func checkEntries(entries []store.Entry) error {
	var seen map[store.Queue]bool
	if len(entries) > 1 {
		seen = make(map[store.Queue]bool, len(entries))
	}
	for i := range entries {
		e := &entries[i]
		if e.Queue.Kind < store.ToNode || e.Queue.Kind > store.ToOrder || e.Queue.Class >= bundle.NumClasses || e.State > store.Ended {
			return fmt.Errorf("entry %d: kind, class or state out of range", i)
		}
		if seen != nil {
			if seen[e.Queue] {
				return fmt.Errorf("two entries for one queue, %q", e.Queue.Name)
			}
			seen[e.Queue] = true
		}
	}
	return nil
}

// Read returns the payload block of a message. It is shared: read only.
func (s *Store) Read(seq uint64) ([]byte, error) {
	if s.closed {
		return nil, ErrClosed
	}
	m := s.messages[seq]
	if m == nil || m.blob == nil {
		return nil, fmt.Errorf("message %d: %w", seq, store.ErrNotFound)
	}
	if s.damaged[seq] {
		return nil, fmt.Errorf("message %d: %w", seq, store.ErrDamaged)
	}
	return m.blob.B, nil
}

// Scan returns up to n items of a queue with Seq > after, in Seq order. The
// entries of their headers are those that still wait.
func (s *Store) Scan(q store.Queue, after uint64, n int) ([]store.Item, error) {
	if s.closed {
		return nil, ErrClosed
	}
	qu := s.queues[q]
	if qu == nil || n <= 0 {
		return nil, nil
	}
	waiting := qu.after(after)
	items := make([]store.Item, 0, min(n, len(waiting)))
	for _, m := range waiting[:min(n, len(waiting))] {
		if seq := m.header.Seq; s.damaged[seq] {
			items = append(items, store.Item{Header: &store.Header{Seq: seq}, Entry: store.Entry{Queue: q}, Damaged: true})
			continue
		}
		items = append(items, store.Item{Header: m.view(), Entry: m.entries[m.find(q)]})
	}
	return items, nil
}

// State calls f for every key with the prefix, in key order.
func (s *Store) State(prefix string, f func(key string, value []byte) error) error {
	if s.closed {
		return ErrClosed
	}
	var keys []string
	for key := range s.state {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		v, ok := s.state[key]
		if !ok {
			continue // f changed the state
		}
		b := append(make([]byte, 0, v.len()), v.b...)
		if v.blob != nil {
			b = append(b, v.blob.B...)
		}
		if err := f(key, b); err != nil {
			return err
		}
	}
	return nil
}

func (v value) len() int {
	if v.blob == nil {
		return len(v.b)
	}
	return len(v.b) + len(v.blob.B)
}

// Summary describes the persisted queues, by kind, name and class.
func (s *Store) Summary() (store.Summary, error) {
	if s.closed {
		return store.Summary{}, ErrClosed
	}
	sum := store.Summary{NextSeq: s.high + 1}
	for name, q := range s.queues {
		sum.Queues = append(sum.Queues, store.QueueSummary{
			Queue: name, Count: len(q.waiting), Bytes: q.bytes, First: q.waiting[0].header.Seq,
		})
	}
	slices.SortFunc(sum.Queues, func(a, b store.QueueSummary) int {
		return cmp.Or(cmp.Compare(a.Queue.Kind, b.Queue.Kind),
			strings.Compare(a.Queue.Name, b.Queue.Name), cmp.Compare(a.Queue.Class, b.Queue.Class))
	})
	return sum, nil
}

// Messages returns the number of persisted messages.
func (s *Store) Messages() int { return len(s.messages) }

// Bytes returns the payload bytes that are held, each message once.
func (s *Store) Bytes() int64 { return s.bytes }

// Close makes durable what is staged and ends the store.
func (s *Store) Close() error {
	s.Sync()
	s.closed = true
	return nil
}
