package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

var (
	errNoCheckpoint = errors.New("there is none")
	errStale        = errors.New("it is older than the journal")
)

// values reads numbers off a value of the index.
type values struct {
	b   []byte
	bad bool
}

func (v *values) uint() uint64 {
	n, k := binary.Uvarint(v.b)
	if k <= 0 {
		v.bad, v.b = true, nil
		return 0
	}
	v.b = v.b[k:]
	return n
}

func (v *values) int() int64 {
	n := v.uint()
	v.bad = v.bad || n > math.MaxInt64
	return int64(n)
}

func (v *values) byte() byte {
	if len(v.b) == 0 {
		v.bad = true
		return 0
	}
	c := v.b[0]
	v.b = v.b[1:]
	return c
}

func (v *values) rest() []byte { return v.b }

// about is the record of a checkpoint as a whole.
type about struct {
	identity
	pos       position
	high      uint64
	messages  int
	bytes     int64
	nextQueue uint32
}

func parseAbout(value []byte) (a about, err error) {
	v := values{b: value}
	if version := v.byte(); version != checkpointVersion || len(v.b) < len(a.id) {
		return a, errStale
	}
	v.b = v.b[copy(a.id[:], v.b):]
	a.incarnation, a.created = uint32(v.uint()), v.int()
	a.pos = position{v.uint(), v.int(), v.uint()}
	a.high, a.messages, a.bytes, a.nextQueue = v.uint(), int(v.int()), v.int(), uint32(v.uint())
	if v.bad || a.incarnation > bundle.MaxIncarnation {
		return a, errStale
	}
	return a, nil
}

// loadIdentity is for a journal whose heads are all damaged.
func loadIdentity(ix Index) (id identity, ok bool) {
	err := ix.Each(keyAbout, func(_ string, value []byte) error {
		a, err := parseAbout(value)
		id, ok = a.identity, err == nil
		return err
	})
	return id, ok && err == nil
}

// loader reads a checkpoint into a book.
type loader struct {
	r     *recovery
	b     *book
	about *about
	byID  map[uint32]*queue
	byNum map[uint64]*segment
	files map[string]*listed
}

// resume loads the checkpoint. An error says why the journal has to be read
// as a whole instead; nothing is changed then.
func (r *recovery) resume() error {
	if r.index == nil {
		return errNoCheckpoint
	}
	l := &loader{r: r, b: r.newBook(), byID: map[uint32]*queue{}, byNum: map[uint64]*segment{}, files: map[string]*listed{}}
	for i := range r.files {
		l.files[r.files[i].name] = &r.files[i]
	}
	for _, part := range []struct {
		prefix string
		load   func(key string, v *values) error
	}{
		{keyAbout, l.loadAbout},
		{keySegment, l.loadSegment},
		{keyLive, l.loadLive},
		{keyQueue, l.loadQueue},
		{keySet, l.loadSet},
		{keyStates, l.loadStates},
		{keySeverals, l.loadSeverals},
		{keyState, l.loadKey},
	} {
		err := r.index.Each(part.prefix, func(key string, value []byte) error {
			v := &values{b: value}
			if err := part.load(key[len(part.prefix):], v); err != nil {
				return err
			}
			if v.bad {
				return fmt.Errorf("record %q is malformed", key)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if l.about == nil {
			return errNoCheckpoint
		}
	}
	return l.fit()
}

func (l *loader) loadAbout(_ string, v *values) error {
	a, err := parseAbout(v.b)
	if err != nil {
		return err
	}
	if a.identity != l.r.id {
		return fmt.Errorf("it belongs to another buffer: %w", errStale)
	}
	l.about = &a
	l.b.high, l.b.messages, l.b.bytes, l.b.peak, l.b.nextQueue = a.high, a.messages, a.bytes, a.bytes, a.nextQueue
	return nil
}

func numOf(key string) (uint64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("key %x is malformed", key)
	}
	return binary.BigEndian.Uint64([]byte(key)), nil
}

func (l *loader) loadSegment(key string, v *values) error {
	s, err := parseSegment(key, v)
	if err != nil {
		return err
	}
	// A head that cannot be read was sound when the checkpoint was made: the
	// blocks are as good as they are. It is told.
	file := l.files[s.name]
	if file == nil || file.sound && file.head.nonce != s.nonce {
		return fmt.Errorf("segment %s is not as it was: %w", s.name, errStale)
	}
	s.identity, s.size, s.saved, s.headless = l.r.id, file.size, true, !file.sound
	l.b.segs = append(l.b.segs, s)
	l.byNum[s.num] = s
	return nil
}

// parseSegment reads what is fixed of a segment.
func parseSegment(key string, v *values) (*segment, error) {
	num, err := numOf(key)
	if err != nil {
		return nil, err
	}
	s := &segment{segHead: segHead{num: num}}
	s.kind, s.nonce, s.last, s.firstBlock, s.prevEnd = v.byte(), v.uint(), v.uint(), v.uint(), v.int()
	s.high, s.length, s.end, s.from, s.to = v.uint(), v.int(), v.int(), v.uint(), v.uint()
	s.puts, s.putBytes = int(v.int()), v.int()
	n := v.uint()
	if n > uint64(len(v.b)) {
		return nil, errValue
	}
	s.samples = make([]sample, n)
	var first, off uint64
	for i := range s.samples {
		first, off = first+v.uint(), off+v.uint()
		s.samples[i] = sample{first, uint32(off), uint32(v.uint())}
	}
	s.name = s.fileName()
	return s, nil
}

// knows reports whether the checkpoint has a segment of that name: it began
// then, whatever its head says now.
func (r *recovery) knows(name string) bool {
	if r.index == nil {
		return false
	}
	if id, ok := loadIdentity(r.index); !ok || id != r.id {
		return false
	}
	found := false
	err := r.index.Each(keySegment, func(key string, value []byte) error {
		s, err := parseSegment(key[len(keySegment):], &values{b: value})
		found = found || err == nil && s.name == name
		return err
	})
	return found && err == nil
}

func (l *loader) loadLive(key string, v *values) error {
	num, err := numOf(key)
	s := l.byNum[num]
	if err != nil || s == nil {
		return errors.Join(err, errStale)
	}
	s.live, s.stateBytes, s.keyTombs, s.fresh = int(v.int()), v.int(), v.int(), v.int()
	n := v.uint()
	for ; n > 0 && !v.bad; n-- {
		s.tombs = append(s.tombs, tombs{v.uint(), int(v.int())})
	}
	return nil
}

func (l *loader) loadQueue(key string, v *values) error {
	if len(key) != 4 {
		return errValue
	}
	q := &queue{id: binary.BigEndian.Uint32([]byte(key)), saved: true}
	q.name.Kind, q.name.Class = store.Kind(v.byte()), bundle.Class(v.byte())
	q.bytes = v.int()
	q.name.Name = string(v.rest())
	if l.b.queues[q.name] != nil || q.id > l.about.nextQueue {
		return errValue
	}
	l.b.queues[q.name], l.byID[q.id] = q, q
	return nil
}

// based splits a key of base and queue.
func (l *loader) based(key string) (base uint64, q *queue, err error) {
	if len(key) != 12 {
		return 0, nil, errValue
	}
	q = l.byID[binary.BigEndian.Uint32([]byte(key[8:]))]
	if q == nil {
		return 0, nil, errStale
	}
	return binary.BigEndian.Uint64([]byte(key)), q, nil
}

func (l *loader) loadSet(key string, v *values) error {
	base, q, err := l.based(key)
	if err != nil {
		return err
	}
	return q.set.LoadContainer(base, v.rest())
}

func (l *loader) loadStates(key string, v *values) error {
	base, q, err := l.based(key)
	if err != nil {
		return err
	}
	for len(v.b) > 0 {
		off := v.uint()
		q.states.set(base*chunk+off, store.EntryState(v.byte()))
	}
	clear(q.states.dirty)
	return nil
}

func (l *loader) loadSeverals(key string, v *values) error {
	base, err := numOf(key)
	if err != nil {
		return err
	}
	for len(v.b) > 0 {
		off := v.uint()
		l.b.severals.set(base*chunk+off, several{uint32(v.uint()), uint32(v.uint())})
	}
	clear(l.b.severals.dirty)
	return nil
}

func (l *loader) loadKey(key string, v *values) error {
	sv := stateValue{seg: l.byNum[v.uint()], at: v.int(), cost: v.int()}
	inside := v.byte() == 1
	if sv.inside = inside && l.b.keeps(key, len(v.b)); sv.inside {
		sv.value = append([]byte{}, v.rest()...)
	}
	if sv.seg == nil {
		return errStale
	}
	if sv.at > math.MaxUint32 || sv.cost > math.MaxUint32 {
		return errValue
	}
	l.b.keys.put(key, sv)
	return nil
}

// fit checks that the journal has all that the checkpoint builds on, and
// decides which files count.
func (l *loader) fit() error {
	r, pos := l.r, l.about.pos
	next := pos.num
	if s := l.byNum[pos.num]; s != nil {
		next = s.last + 1
	} else if pos.off > segHeadLen {
		return errStale
	}
	var stale []staleFile
	for i := range r.files {
		f := &r.files[i]
		switch s := l.byNum[f.head.num]; {
		case s != nil && s.name == f.name:
		case f.head.kind == hot && f.head.num == next:
			s := r.segmentOf(f)
			l.b.segs = append(l.b.segs, s)
			next++
		case f.head.last < next:
			// It was to be removed, or was being made.
			stale = append(stale, staleFile{f.name, !f.sound || l.replacesBadly(&f.head)})
		default:
			return errStale // something between was removed since
		}
	}
	if len(l.b.segs) == 0 {
		return errStale
	}
	r.book, r.pos, r.used = l.b, pos, true
	r.stale = append(r.stale, stale...)
	return nil
}

// replacesBadly reports whether a segment stands for another one whose own
// head is damaged: then the other may have more of it.
func (l *loader) replacesBadly(old *segHead) bool {
	return slices.ContainsFunc(l.b.segs, func(s *segment) bool {
		return s.headless && s.num <= old.num && old.last <= s.last
	})
}
