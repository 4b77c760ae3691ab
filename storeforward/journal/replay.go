package journal

import (
	"bytes"
	"fmt"
	"hash/crc32"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// window reads a file forward in large steps.
type window struct {
	f    vfs.File
	size int64
	off  int64 // of buf
	buf  []byte
	err  error // of the last read, other than the end
}

const windowBytes = 256 << 10

func newWindow(f vfs.File) (*window, error) {
	size, err := f.Size()
	return &window{f: f, size: size}, err
}

// at returns n bytes at off, or fewer at the end of the file. They are good
// until the next call.
func (w *window) at(off int64, n int) []byte {
	if off >= w.size {
		return nil
	}
	n = int(min(int64(n), w.size-off))
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		want := int(min(int64(max(n, windowBytes)), w.size-off))
		if cap(w.buf) < want {
			w.buf = make([]byte, want)
		}
		w.buf, w.off = w.buf[:want], off
		got, err := w.f.ReadAt(w.buf, off)
		if got < want {
			w.err = err
		}
		w.buf = w.buf[:got]
	}
	b := w.buf[min(off-w.off, int64(len(w.buf))):]
	return b[:min(n, len(b))]
}

// block returns the block at off, its head and body checked.
func (w *window) block(off int64, seed uint32) (h blockHead, body []byte, ok bool) {
	h, err := parseBlockHead(w.at(off, blockHeadLen), w.size-off)
	if err != nil {
		return h, nil, false
	}
	b := w.at(off, blockHeadLen+h.body)
	if !bodySound(b, seed, &h) {
		return h, nil, false
	}
	return h, b[blockHeadLen:], true
}

// tailSound checks the tail of a block.
func (w *window) tailSound(off int64, h *blockHead) bool {
	sum, rest := uint32(0), h.tail
	for off += blockHeadLen + int64(h.body); rest > 0; {
		b := w.at(off, min(rest, windowBytes))
		if len(b) == 0 {
			return false
		}
		sum = crc32.Update(sum, castagnoli, b)
		off, rest = off+int64(len(b)), rest-len(b)
	}
	return sum == h.tailSum
}

// find returns the first valid block that begins in [off, end).
func (w *window) find(off, end int64, seed uint32) (at int64, h blockHead, ok bool) {
	end = min(end, w.size)
	for off < end {
		b := w.at(off, int(min(windowBytes, end-off)))
		i := indexMagic(b)
		switch {
		case i >= 0:
			off += int64(i)
			if h, _, ok := w.block(off, seed); ok {
				return off, h, true
			}
			off++
		case len(b) < len(blockMagic):
			return end, h, false
		default:
			off += int64(len(b) - len(blockMagic) + 1)
		}
	}
	return end, h, false
}

// written returns where the bytes from off on end that are not zero, or off.
func (w *window) written(off int64) (end int64) {
	for end = off; off < w.size; {
		b := w.at(off, windowBytes)
		if len(b) == 0 {
			break
		}
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			end = off + int64(n)
		}
		off += int64(len(b))
	}
	return end
}

func indexMagic(b []byte) int { return bytes.Index(b, []byte(blockMagic)) }

// survey finds where the newest segment ends: after the last group of which
// every block is there. A bad block is a torn tail, unless a later one knew
// that it had been synced: then it is damage, and what follows is kept. sure
// says that off is behind damage, where groups cannot be told.
func survey(w *window, seed uint32, off int64, next uint64, sure bool) (end int64, after uint64) {
	end, after = off, next
	inside := false // within a group
	for {
		h, _, ok := w.block(off, seed)
		if ok && (!sure && (h.number != next || inside != (h.flags&flagFirst == 0)) || !w.tailSound(off, &h)) {
			ok = false
		}
		if !ok {
			at, later := resume(w, seed, off, next)
			if !later {
				return end, after
			}
			off, sure = at, true
			continue
		}
		off, next, sure = off+h.size(), h.number+1, false
		if inside = h.flags&flagLast == 0; !inside {
			end, after = off, next
		}
	}
}

// resume returns the first valid block behind a bad one, if any block behind
// it says that number next was synced.
func resume(w *window, seed uint32, off int64, next uint64) (first int64, ok bool) {
	for at := off + 1; ; {
		found, h, more := w.find(at, w.size, seed)
		if !more {
			return 0, false
		}
		if h.number >= next {
			if first == 0 {
				first = found
			}
			if h.synced >= next {
				return first, true
			}
		}
		at = found + h.size()
	}
}

// replayer brings a book up to what segments say.
type replayer struct {
	b       *book
	dec     decoder
	rec     record
	damage  func(*segment, Damage)
	pending []Damage // of one segment: the last message they may have is not known yet
	pendSeg *segment
	last    uint64 // Seq of the last put
	number  uint64 // of the last block
	blocks  int
}

// segment applies the blocks of seg from off to end, which were all synced,
// or found complete by survey. The caller settles the damage in it.
func (r *replayer) segment(seg *segment, f vfs.File, off, end int64) error {
	w, err := newWindow(f)
	if err != nil {
		return err
	}
	seed := seg.seed()
	r.last = max(r.last, r.b.high)
	for off < end {
		h, body, ok := w.block(off, seed)
		if ok {
			ok = r.block(seg, off, &h, body)
		}
		if !ok {
			next, _, found := w.find(off+1, end, seed)
			if !found {
				next = end // which the file may not reach
			}
			r.bad(seg, off, next-off)
			off = next
			continue
		}
		if seg.kind == hot { // a cold segment numbers its own
			r.number = h.number
		}
		r.blocks++
		off += h.size()
	}
	seg.end = max(seg.end, end)
	if w.err != nil {
		return fmt.Errorf("read %s: %w", seg.name, w.err)
	}
	return nil
}

// behind notes what is behind the last block of a segment, as damage.
func (r *replayer) behind(seg *segment, f vfs.File, end int64) error {
	w, err := newWindow(f)
	if err != nil {
		return err
	}
	if n := w.written(end) - end; n > 0 {
		r.bad(seg, end, n)
	}
	if w.err != nil {
		return fmt.Errorf("read %s: %w", seg.name, w.err)
	}
	return nil
}

// bad notes damage; the messages in it lie between the puts around it.
func (r *replayer) bad(seg *segment, off, n int64) {
	r.pending = append(r.pending, Damage{Segment: seg.num, Offset: off, Bytes: n, FirstSeq: r.last + 1, Unknown: true})
	r.pendSeg = seg
}

// settle tells of damage whose last possible message is known now. When it is
// not, as at the end of the journal, LastSeq is one below FirstSeq; and no
// message can be where the numbers around leave none.
func (r *replayer) settle(last uint64, known bool) {
	pending := r.pending
	r.pending = nil
	for _, d := range pending {
		switch {
		case !known:
			d.LastSeq = d.FirstSeq - 1
		case last < d.FirstSeq:
			d.FirstSeq = 0
		default:
			d.LastSeq = last
		}
		r.damage(r.pendSeg, d)
	}
}

// block applies one block; false when its records make no sense.
func (r *replayer) block(seg *segment, off int64, h *blockHead, body []byte) bool {
	var first uint64
	entries := 0
	r.dec.start(body, h.tail)
	for before := len(body); r.dec.next(&r.rec); before = r.dec.left() {
		rec := &r.rec
		switch rec.kind {
		case recPut:
			if first == 0 {
				first = rec.seq
				r.settle(rec.seq-1, true)
			}
			r.last = rec.seq
			entries += len(rec.entries)
			r.put(seg, rec)
		case recDrop:
			r.b.drop(seg, r.b.rawQueue(&r.dec.queues[rec.queue]), rec.seq, rec.size)
		case recMark:
			r.b.mark(seg, r.b.rawQueue(&r.dec.queues[rec.queue]), rec.seq, rec.state, rec.size)
		case recSet:
			v := stateValue{seg: seg, at: off, cost: int64(before - r.dec.left())}
			if rec.tail {
				v.cost += int64(h.tail)
			}
			key := string(rec.key)
			if v.inside = !rec.tail && !rec.del && r.b.keeps(key, len(rec.value)); v.inside {
				v.value = append([]byte{}, rec.value...)
			}
			r.b.set(key, v, rec.del)
		case recHigh:
			r.b.high = max(r.b.high, rec.seq)
		}
	}
	seg.note(off, h, first, r.last, entries)
	return r.dec.err == nil
}

func (r *replayer) put(seg *segment, rec *record) {
	need := 0
	for i := range rec.entries {
		e := &rec.entries[i]
		if e.state != store.Ended {
			need++
		}
		r.b.place(r.b.rawQueue(&r.dec.queues[e.queue]), rec.seq, rec.size, e.state)
	}
	r.b.put(seg, rec.seq, rec.size, len(rec.entries), need)
}
