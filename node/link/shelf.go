package link

import (
	"container/list"
	"errors"
	"io"
	"sync"
)

// shelf holds the bytes of blocks under way, within a bound: those that have
// not been sent yet, those that nothing can make again, and of the others the
// ones that were used last. What was put away is made again when it is needed.
type shelf struct {
	most  int64 // bytes in memory
	ahead int64 // of them, bytes that were not sent yet and can be made again
	spare int64 // of most, what making again takes

	mu      sync.Mutex // guards what follows, and data and the rest of blocks
	blocks  int
	used    int64
	peak    int64
	kept    int64     // of used, bytes that cannot be made again
	unsent  int64     // of used, bytes of others that were not sent yet
	sent    list.List // of *block, in memory and neither; last used first
	made    uint64    // payloads that were read again
	last    *stored   // whose payload was read last
	payload []byte    // of last
}

// block is some frames of a lane. It implements io.ReaderAt for the engine.
type block struct {
	shelf  *shelf
	length int
	from   []origin // nil: it cannot be made again; ends count from the beginning of the block
	loose  bool     // it need not be made again: nobody has custody of what is in it

	data []byte // nil: put away
	read int    // bytes that were read at first; length: sent
	at   *list.Element
	over bool
}

// errPutAway is the error of a block that is loose and not in memory any more.
var errPutAway = errors.New("a bundle without custody was put away before it was repaired")

// stays reports whether a block cannot be made again, and has to be kept.
func (b *block) stays() bool { return b.from == nil && !b.loose }

// fits reports whether there is room for a block, of so many bytes.
func (s *shelf) fits(n int, stays bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pinned := s.kept + s.unsent
	return pinned == 0 || pinned+int64(n) <= s.most-s.spare && (stays || s.unsent+int64(n) <= s.ahead)
}

// add takes a block.
func (s *shelf) add(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.shelf = s
	s.blocks++
	if b.stays() {
		s.kept += int64(b.length)
	} else {
		s.unsent += int64(b.length)
	}
	s.use(b.length)
}

// use counts bytes, and puts away what was not used for longest.
func (s *shelf) use(n int) {
	for s.used += int64(n); s.used > s.most && s.sent.Len() > 0; {
		b, _ := s.sent.Remove(s.sent.Back()).(*block)
		s.used -= int64(b.length)
		b.data, b.at = nil, nil
	}
	s.peak = max(s.peak, s.used)
}

// ReadAt implements io.ReaderAt. A block is read by one goroutine.
func (b *block) ReadAt(p []byte, off int64) (n int, err error) {
	s := b.shelf
	s.mu.Lock()
	data, over := b.data, b.over
	s.mu.Unlock()
	if data == nil {
		if data, err = b.again(over); err != nil {
			return 0, err
		}
	}
	if n = copy(p, data[min(int(off), len(data)):]); n < len(p) {
		err = io.EOF
	}
	s.touch(b, data, n)
	return n, err
}

// touch notes that a block was read.
func (s *shelf) touch(b *block, data []byte, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b.over || b.stays():
	case b.at != nil:
		s.sent.MoveToFront(b.at)
	case b.data == nil: // it was made again
		b.data = data
		s.use(b.length)
		b.at = s.sent.PushFront(b)
	default:
		if b.read += n; b.read >= b.length {
			s.unsent -= int64(b.length)
			b.at = s.sent.PushFront(b)
			s.use(0)
		}
	}
}

// again makes the bytes of a block once more.
func (b *block) again(over bool) ([]byte, error) {
	if over || b.from == nil {
		return nil, errPutAway
	}
	data := make([]byte, 0, b.length)
	for _, f := range b.from {
		payload, err := b.shelf.read(f.of)
		if err != nil {
			return nil, err
		}
		data = f.of.append(data, f.part, payload)
	}
	if len(data) != b.length {
		return nil, errors.New("a stored bundle is not as long as it was")
	}
	return data, nil
}

// read reads the payload of a transfer, or has it still. The last one is held:
// blocks of one bundle are mostly made one after the other.
func (s *shelf) read(t *stored) ([]byte, error) {
	s.mu.Lock()
	payload, found := s.payload, s.last == t
	s.mu.Unlock()
	if found {
		return payload, nil
	}
	payload, err := t.payload()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	s.used -= int64(len(s.payload))
	s.last, s.payload = t, payload
	s.use(len(payload))
	return payload, nil
}

// drop forgets a block.
func (s *shelf) drop(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b.over:
		return
	case b.stays():
		s.kept -= int64(b.length)
	case b.at != nil:
		s.sent.Remove(b.at)
	case b.data != nil:
		s.unsent -= int64(b.length)
	}
	if b.data != nil {
		s.used -= int64(b.length)
	}
	b.data, b.at, b.over = nil, nil, true
	if s.blocks--; s.blocks == 0 {
		s.used -= int64(len(s.payload))
		s.last, s.payload = nil, nil
	}
}

func (s *shelf) stats() (used, peak int64, made uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.peak, s.made
}
