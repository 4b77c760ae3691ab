package journal

// Abandon ends the store as a kill does, as far as a process can do that to
// itself: what waits is forgotten and nothing is tidied up.
func (s *Store) Abandon() {
	s.queueMu.Lock()
	s.queue, s.closing = nil, true
	s.abandoned.Store(true)
	s.queueMu.Unlock()
	s.kick()
	<-s.ended
	s.maint.stop()
	_ = s.release()
	close(s.closed)
}

// WithFree replaces what the file system says of its free bytes.
func (c Config) WithFree(f func() int64) Config {
	c.free = f
	return c
}
