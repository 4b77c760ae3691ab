package journal

import "errors"

var errKilled = errors.New("killed")

// Kill ends the store as a kill does, as far as a process can do that to
// itself: what waits is not written, and nothing is synced or tidied up.
func (s *Store) Kill() {
	s.poison.CompareAndSwap(nil, &errKilled)
	_ = s.Close()
}
