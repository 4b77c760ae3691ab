package core

import (
	"maps"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// A session that moves on before its way here is over takes along what came
// for it here: neither how far the messages of an origin had come tells that,
// since some of them are still on their way to where it was before, nor does
// its queue, since some were delivered.

// note is which messages of one origin came for a session.
type note struct {
	origin originKey
	seen   *storeforward.Window
}

// Limits of the notes of one head. What is beyond may come twice.
const (
	maxNoteBytes = 1 << 20
	noteBytes    = storeforward.Span/8 + 16 // of one on the wire, at most, beside its origin
)

// windows are messages of many origins.
type windows map[originKey]*storeforward.Window

func (all windows) of(key originKey) *storeforward.Window {
	w := all[key]
	if w == nil {
		w = &storeforward.Window{}
		all[key] = w
	}
	return w
}

func (all windows) has(id bundle.ID) bool {
	w := all[originKey{id.Node, id.Seq.Incarnation(), id.Seq.Class()}]
	return w != nil && w.Seen(id.Seq.Count())
}

func newOverlap() *overlap { return &overlap{notes: windows{}, before: windows{}} }

// had returns what came here and before in order, as much as a head may have.
func (o *overlap) had() (all []note, cut bool) {
	both := windows{}
	for _, of := range []windows{o.notes, o.before} {
		for k, w := range of {
			both.of(k).Join(w)
		}
	}
	keys := slices.SortedFunc(maps.Keys(both), originKey.compare)
	if most := maxNoteBytes / (noteBytes + addr.MaxName); len(keys) > most {
		keys, cut = keys[:most], true
	}
	for _, k := range keys {
		all = append(all, note{k, both[k]})
	}
	return all, cut
}

// hadBefore takes over what came for a session at another node. Of that, what
// waited there still comes.
func (c *Core) hadBefore(s *session, notes []note) {
	for _, n := range notes {
		s.trip.overlap.before.of(n.origin).Join(n.seen)
		c.dirty.add(dirtyKey{kind: dirtyBefore, name: s.id, origin: n.origin})
	}
}

func appendNotes(dst []byte, notes []note) []byte {
	dst = cbor.AppendArray(dst, len(notes))
	for _, n := range notes {
		dst = appendOrigin(cbor.AppendArray(dst, 4), n.origin)
		dst = cbor.AppendBytes(dst, n.seen.AppendBinary(nil))
	}
	return dst
}

func readNote(r *cbor.Reader) (n note) {
	more := r.ArrayMin(4) - 4
	n.origin = readOrigin(r)
	at := r.Offset()
	w, err := storeforward.ParseWindow(r.Bytes())
	if n.seen = w; r.Err() == nil && err != nil {
		r.Fail(at, err.Error())
	}
	r.SkipN(max(more, 0))
	return n
}
