package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/farhop/farhop/storeforward/vfs"
)

// A segment in which something may never have been accounted for is kept for
// the operator when it is not needed any more: under its name and keptSuffix,
// as it is, and no part of the journal.
const (
	keptSuffix = ".damaged"
	keptMost   = 16 // beyond that the oldest goes
)

// unaccounted is a nonce that no segment has. Tombs of it say that damage was
// found in their segment under which there may be messages that nobody knows
// of. They go into checkpoints with the others: a later start does not read
// the segment again.
const unaccounted = 0

// doubt notes that something in the segment may never have been accounted for.
func (s *segment) doubt() {
	if !s.doubtful() {
		s.tomb(unaccounted)
		s.changed = true
	}
}

func (s *segment) doubtful() bool {
	return slices.ContainsFunc(s.tombs, func(t tombs) bool { return t.nonce == unaccounted })
}

// retire takes files at the end that never began out of the journal: made in
// advance, or torn before their first sync. A power cut leaves no other head
// there than none, or the one of the file's earlier life. So what has another
// one was damaged: it stays when a block of it can be read or the checkpoint
// knows it, and is kept in any case.
func (r *recovery) retire() error {
	for len(r.files) > 1 {
		l := &r.files[len(r.files)-1]
		if l.sound || l.head.kind != hot || r.knows(l.name) {
			return nil
		}
		some, began, err := r.lookInto(l)
		if err != nil {
			return fmt.Errorf("read %s: %w", l.name, err)
		}
		unbegun := l.blank || l.was.kind == hot && l.was.identity == r.id && l.was.num < l.head.num
		if began || some && !unbegun {
			return nil
		}
		if !unbegun {
			r.aside = append(r.aside, *l)
		}
		r.stale = append(r.stale, staleFile{l.name, !unbegun})
		r.files = r.files[:len(r.files)-1]
	}
	return nil
}

// lookInto reports whether a file without a sound head has valid blocks, and
// whether one of them knew another to be synced.
func (r *recovery) lookInto(l *listed) (some, began bool, err error) {
	f, err := r.fs.Open(l.name)
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	w, err := newWindow(f)
	if err != nil {
		return false, false, err
	}
	h := l.head
	h.identity = r.id
	lowest := uint64(0)
	for at := int64(0); ; {
		found, b, ok := w.find(at, w.size, h.seed())
		if !ok {
			return lowest > 0, false, w.err
		}
		if lowest == 0 {
			lowest = b.number
		}
		if b.synced >= lowest {
			return true, true, nil
		}
		at = found + b.size()
	}
}

// tellAside tells of a file that is set aside unread. It was the newest, so
// nobody knows how many messages were in it.
func (r *recovery) tellAside(l *listed) {
	seg := &segment{segHead: l.head, name: l.name}
	seg.nonce = newNonce() // it is told apart by it
	high := r.book.high
	r.damage(seg, Damage{Segment: seg.num, Bytes: l.size, FirstSeq: high + 1, LastSeq: high, Unknown: true})
}

// tell tells of damage in a segment of the table, which remembers what nobody
// can account for.
func (r *recovery) tell(seg *segment, d Damage) {
	if d.Unknown {
		seg.doubt()
	}
	r.damage(seg, d)
}

// setAside takes a file out of the journal and keeps it. The caller syncs the
// directory.
func (s *Store) setAside(name string) error {
	all, err := s.fs.List()
	if err != nil {
		return err
	}
	kept := keptOf(all)
	to := name + keptSuffix
	for _, k := range kept {
		if k.base == name {
			to = fmt.Sprintf("%s.%d%s", name, k.n+1, keptSuffix)
		}
	}
	for ; len(kept) >= keptMost; kept = kept[1:] {
		if err := s.fs.Remove(kept[0].name); err != nil {
			return err
		}
		s.cfg.Log.Error("the oldest segment that was set aside for damage is removed: there are too many; look after the disk",
			"dir", s.path, "file", kept[0].name, "most", keptMost)
	}
	if err := s.fs.Rename(name, to); err != nil {
		return err
	}
	s.cfg.Log.Warn("a damaged segment of which no more can be used was set aside: messages in it may never have been accounted for; "+
		"keep the file elsewhere, or remove it", "dir", s.path, "file", to)
	return nil
}

// keptName is a file that was set aside.
type keptName struct {
	name string
	base string  // the name it had
	head segHead // what that says
	n    uint64  // of those that had it
}

// keptOf returns those of files that were set aside, the oldest segment first.
func keptOf(files []string) (kept []keptName) {
	for _, name := range files {
		base, ok := strings.CutSuffix(name, keptSuffix)
		if !ok {
			continue
		}
		k := keptName{name: name, base: base, n: 1}
		if k.head, ok = parseName(base); !ok {
			dot := max(0, strings.LastIndexByte(base, '.'))
			var err error
			k.n, err = strconv.ParseUint(strings.TrimPrefix(base[dot:], "."), 10, 32)
			k.base = base[:dot]
			k.head, ok = parseName(k.base)
			ok = ok && err == nil
		}
		if ok {
			kept = append(kept, k)
		}
	}
	slices.SortFunc(kept, func(a, b keptName) int {
		return cmp.Or(cmp.Compare(a.head.num, b.head.num), cmp.Compare(a.head.last, b.head.last), cmp.Compare(a.n, b.n))
	})
	return kept
}

// KeptFile is a segment that was set aside for damage. The journal does not
// need it; it is there for the operator to look at, and to remove.
type KeptFile struct {
	Path  string
	Bytes int64
}

// Kept returns the segments that were set aside in a data directory, the
// oldest first; none when there is no journal. A daemon may run there.
func Kept(dir string) ([]KeptFile, error) {
	path := filepath.Join(dir, FolderName)
	folder, err := vfs.OS(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var files []string
	if err == nil {
		files, err = folder.List()
	}
	if err != nil {
		return nil, fmt.Errorf("list what was set aside: %w", err)
	}
	var out []KeptFile
	for _, k := range keptOf(files) {
		file := filepath.Join(path, k.name)
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list what was set aside: %w", err)
		}
		out = append(out, KeptFile{file, info.Size()})
	}
	return out, nil
}
