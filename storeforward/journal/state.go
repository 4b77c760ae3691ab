package journal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// What State reads at once: little at first, for who wants one key, and then
// more and more, for who wants all. Keys that are neighbours may be anywhere in
// the journal, so in each round a block is read once for all that is in it.
const (
	stateFirst = 1
	stateMore  = 4        // times as many in the next round
	stateMost  = 1 << 17  // keys
	stateBytes = 16 << 20 // of records on the disk
	blockGuess = 20 << 10 // of a block, read at once
)

// State calls f for every key with the prefix, in key order. f gets copies
// and may call the store. Writes made meanwhile may or may not be seen. A
// value that cannot be read is passed over, and told at the end by an error.
func (s *Store) State(prefix string, f func(key string, value []byte) error) error {
	if s.isClosed() {
		return fmt.Errorf("read state: %w", errClosed)
	}
	var lost store.LostState
	r := stateReader{s: s, prefix: prefix, from: prefix}
	for n := stateFirst; r.next(n); n = min(stateMore*n, stateMost) {
		r.read()
		for i := range r.keys {
			k := &r.keys[i]
			switch {
			case errors.Is(k.err, store.ErrDamaged):
				lost.Keys, lost.Err = append(lost.Keys, k.key), cmp.Or(lost.Err, k.err)
			case k.err != nil:
				r.release()
				return k.err
			default:
				if err := f(k.key, k.value); err != nil {
					r.release()
					return err
				}
			}
		}
		r.release()
	}
	if lost.Err != nil {
		return &lost
	}
	return nil
}

// stateReader is one State.
type stateReader struct {
	s      *Store
	prefix string
	from   string // keys before it are done
	ended  bool
	keys   []stateKey
	places []statePlace          // of keys, those to be read, by where they are
	space  []byte                // for values that are read
	files  map[*segment]vfs.File // acquired
	wanted map[string]int        // of one block: in keys
	buf    []byte                // a block
	dec    decoder
	rec    record
}

// statePlace is where the value of a key of a round is.
type statePlace struct {
	num uint64 // of the segment
	at  uint32
	key int32
}

// stateKey is one key of a round.
type stateKey struct {
	stateValue
	key string
	err error
}

// next takes up to n keys, and the files that have their values. It reports
// whether there are any.
func (r *stateReader) next(n int) bool {
	r.keys, r.places = r.keys[:0], r.places[:0]
	if r.ended {
		return false
	}
	r.ended = true
	s, size, space := r.s, int64(0), int64(0)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.book.keys.each(r.from, func(e *keyEntry) bool {
		if !strings.HasPrefix(e.key, r.prefix) {
			return false
		}
		if len(r.keys) == n || size > stateBytes {
			r.from, r.ended = e.key, false
			return false
		}
		k := stateKey{stateValue: s.book.keys.value(e), key: e.key}
		if k.inside {
			k.value = append([]byte{}, k.value...)
		} else {
			if size += k.cost; k.cost <= inlineMax+maxKey { // else it is likely to stand behind its block
				space += k.cost
			}
			r.places = append(r.places, statePlace{k.seg.num, uint32(k.at), int32(len(r.keys))})
			k.err = r.acquire(k.seg)
		}
		r.keys = append(r.keys, k)
		return true
	})
	r.space = make([]byte, 0, space) // a record is longer than its value
	return len(r.keys) > 0
}

func (r *stateReader) acquire(seg *segment) error {
	if r.files[seg] != nil {
		return nil
	}
	f, err := r.s.pool.acquire(seg)
	if err != nil {
		return fmt.Errorf("read state in %s: %w", r.s.path, err)
	}
	if r.files == nil {
		r.files = map[*segment]vfs.File{}
	}
	r.files[seg] = f
	return nil
}

func (r *stateReader) release() {
	for seg := range r.files {
		r.s.pool.release(seg)
	}
	clear(r.files)
}

// read fills in the values that are not in RAM, block by block.
func (r *stateReader) read() {
	slices.SortFunc(r.places, func(a, b statePlace) int { return cmp.Or(cmp.Compare(a.num, b.num), cmp.Compare(a.at, b.at)) })
	for rest := r.places; len(rest) > 0; {
		n, seg := 1, r.keys[rest[0].key].seg
		for n < len(rest) && rest[n].at == rest[0].at && r.keys[rest[n].key].seg == seg {
			n++
		}
		r.block(rest[:n])
		rest = rest[n:]
	}
}

// block fills in the values of keys whose records are in one block.
func (r *stateReader) block(places []statePlace) {
	if r.wanted == nil {
		r.wanted = map[string]int{}
	}
	clear(r.wanted)
	for _, p := range places {
		r.wanted[r.keys[p.key].key] = int(p.key)
	}
	first := &r.keys[places[0].key]
	file := r.files[first.seg]
	if file == nil {
		return // its error is noted
	}
	h, err := r.load(file, first)
	if err == nil {
		err = r.decode(file, first, &h)
	}
	for _, p := range places {
		k := &r.keys[p.key]
		if k.err == nil && (err != nil || k.value == nil) {
			r.s.alarm(k.seg, badSpan{k.at, k.cost}, 0, 0)
			k.err = fmt.Errorf("read state %q in %s: %w", k.key, r.s.path, store.ErrDamaged)
		}
	}
}

// load reads a block and checks it.
func (r *stateReader) load(f vfs.File, k *stateKey) (h blockHead, err error) {
	if cap(r.buf) < blockGuess {
		r.buf = make([]byte, blockGuess)
	}
	n, _ := f.ReadAt(r.buf[:blockGuess], k.at) // it may be near the end of the file
	r.buf = r.buf[:n]
	if h, err = parseBlockHead(r.buf, 1<<62); err != nil || h.body > maxBatch {
		return h, errBlock
	}
	if want := blockHeadLen + h.body; want > n {
		r.buf = slices.Grow(r.buf, want-n)[:want]
		if err := readAt(f, r.buf, k.at); err != nil {
			return h, err
		}
	}
	if !bodySound(r.buf, k.seg.seed(), &h) {
		return h, errBlock
	}
	return h, nil
}

// decode takes the wanted values out of the block in the buffer. Of several of
// one key the last counts.
func (r *stateReader) decode(f vfs.File, k *stateKey, h *blockHead) error {
	r.dec.start(r.buf[blockHeadLen:blockHeadLen+h.body], h.tail)
	for r.dec.next(&r.rec) {
		if r.rec.kind != recSet || r.rec.del {
			continue
		}
		i, ok := r.wanted[string(r.rec.key)]
		if !ok {
			continue
		}
		from := len(r.space)
		r.space = append(r.space, r.rec.value...)
		r.keys[i].value = r.space[from:len(r.space):len(r.space)]
		if r.rec.tail {
			b, err := readTail(f, &tailRef{k.at + blockHeadLen + int64(h.body), h.tail, h.tailSum})
			if err != nil {
				return err
			}
			r.keys[i].value = b
		}
	}
	return r.dec.err
}
