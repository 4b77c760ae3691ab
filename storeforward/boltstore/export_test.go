package boltstore

import "os"

// Abandon ends the store as a kill does, as far as a process can do that to
// itself: what waits is forgotten and nothing is tidied up.
func (s *Store) Abandon() {
	s.mu.Lock()
	s.queue, s.closing = nil, true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	<-s.ended
	_ = s.db.Close()
}

// WithOpenFile replaces the opening of the file.
func (c Config) WithOpenFile(f func(string, int, os.FileMode) (*os.File, error)) Config {
	c.openFile = f
	return c
}
