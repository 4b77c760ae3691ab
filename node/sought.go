package node

import (
	"sync"

	"github.com/farhop/farhop/node/core"
)

// sought is what the sessions of this node want that messages wait for. It is
// kept, and not made anew as a Snapshot is: each of very many sessions that
// come one after the other changes a little of it.
type sought struct {
	mu  sync.RWMutex // guards set, and what is stored as the snapshot
	set core.Sought
}

// learn takes in what changed of who wants what; s is nil when the snapshot is
// as before. Whoever asks in between sees all of it or nothing: a session that
// goes to another node is wanted for here, or there.
func (m *mqtt) learn(s *core.Snapshot, came, gone []string) {
	m.sought.mu.Lock()
	defer m.sought.mu.Unlock()
	m.sought.set.Apply(came, gone)
	if s != nil {
		m.snapshot.Store(s)
	}
}

// Wanted implements broker.Node. Before there is a snapshot the core is asked.
func (m *mqtt) Wanted(topic string) bool {
	m.sought.mu.RLock()
	s := m.snapshot.Load()
	wanted := s == nil || m.sought.set.Wants(topic) || s.Wanted(topic)
	m.sought.mu.RUnlock()
	return wanted || m.pins.wants(topic)
}
