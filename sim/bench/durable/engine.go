package durable

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/memstore"
	"github.com/farhop/farhop/storeforward/store"
)

// Names of what Open opens. Floor is the measure, Memory keeps nothing.
const (
	Floor   = "floor"
	Journal = "journal"
	Bolt    = "bbolt"
	Memory  = "memory"
)

// DefaultEngine is the engine of a node that was not told otherwise.
const DefaultEngine = Journal

// Engines are the names of the buffer engines.
func Engines() []string { return []string{Journal, Bolt, Memory} }

// openStore opens an engine in a folder.
func openStore(name, dir string, done store.Done) (store.Store, error) {
	switch name {
	case Journal:
		return journal.Open(journal.Config{Dir: dir, Done: done, Strict: true})
	case Bolt:
		return boltstore.Open(boltstore.Config{Dir: dir, Done: done, Strict: true})
	case Memory:
		return openMemory(done), nil
	}
	return nil, unknown(name)
}

func unknown(name string) error {
	return fmt.Errorf("engine: %q, want %s", name, strings.Join(Engines(), ", "))
}

// Open opens an engine, or the floor, in a folder that it makes, for so many
// producers of l.
func Open(name, dir string, l *Load, producers int) (Sink, error) {
	if producers < 1 || producers > maxProducers {
		return nil, fmt.Errorf("producers: %d, want 1 to %d", producers, maxProducers)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if name == Floor {
		return newCustody(l, producers, func(done store.Done) (appender, error) { return openFloor(dir, done) })
	}
	if !slices.Contains(Engines(), name) {
		return nil, unknown(name)
	}
	return newCustody(l, producers, func(done store.Done) (appender, error) { return openStore(name, dir, done) })
}

// memory lets several goroutines use a memstore, which is for one.
type memory struct {
	mu     sync.Mutex // guards s
	s      *memstore.Store
	queue  []*store.Batch // guarded by wait
	wait   sync.Mutex
	work   *sync.Cond
	over   bool
	ending sync.WaitGroup
}

var _ store.Store = (*memory)(nil)

func openMemory(done store.Done) *memory {
	m := &memory{s: memstore.New(memstore.Config{Incarnation: 1, Done: done})}
	m.work = sync.NewCond(&m.wait)
	m.ending.Go(m.run)
	return m
}

func (m *memory) Append(b *store.Batch) {
	m.wait.Lock()
	defer m.wait.Unlock()
	m.queue = append(m.queue, b)
	m.work.Signal()
}

func (m *memory) run() {
	for {
		m.wait.Lock()
		for len(m.queue) == 0 && !m.over {
			m.work.Wait()
		}
		group := m.queue
		m.queue = nil
		m.wait.Unlock()
		if len(group) == 0 {
			return
		}
		m.mu.Lock()
		for _, b := range group {
			m.s.Append(b)
		}
		m.s.Sync()
		m.mu.Unlock()
	}
}

func (m *memory) Read(seq uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.Read(seq)
}

func (m *memory) Scan(q store.Queue, after uint64, n int) ([]store.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.Scan(q, after, n)
}

func (m *memory) State(prefix string, f func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.State(prefix, f)
}

func (m *memory) Summary() (store.Summary, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.Summary()
}

func (m *memory) Close() error {
	m.wait.Lock()
	m.over = true
	m.work.Signal()
	m.wait.Unlock()
	m.ending.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.Close()
}
