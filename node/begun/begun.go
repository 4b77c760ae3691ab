// Package begun keeps the beginnings of bundles whose session ended before the
// rest had come, in a folder: one file for each, of pieces with a checksum.
// Nothing depends on them: what is missing, damaged or pushed out is sent
// again. So nothing is synced, and what does not end in a whole piece after a
// crash is cut off.
//
//	s, err := begun.Open(begun.Config{Dir: dir, Log: log})
//	...
//	link.Config{Parts: s}
package begun

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// Defaults of a Config.
const (
	DefaultMaxBytes = 64 << 20
	DefaultMaxFiles = 256
)

const (
	suffix    = ".part"
	headSize  = 8       // of a piece: length and CRC-32C, big-endian
	mostPiece = 8 << 20 // bytes; more in a file is damage
)

// Config says where, and how much.
type Config struct {
	Dir      string
	MaxBytes int64 // of all files; the oldest make room
	MaxFiles int
	Log      *slog.Logger // required
}

// Store keeps beginnings. It is safe for any number of goroutines.
type Store struct {
	cfg Config
	crc *crc32.Table

	mu    sync.Mutex
	files map[id]*file
	bytes int64
	ticks uint64
	out   uint64 // pushed out for want of room
	lost  uint64 // could not be written or read
	stuck bool   // nothing could be written the last time
}

type id struct {
	peer addr.Node
	key  wire.PartKey
}

type file struct {
	have int    // bytes of the bundle
	size int64  // of the file
	used uint64 // tick of the last change
}

// Open reads what is there. Files that are not its own it leaves alone.
func Open(c Config) (*Store, error) {
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.MaxFiles == 0 {
		c.MaxFiles = DefaultMaxFiles
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("beginnings of bundles: %w", err)
	}
	s := &Store{cfg: c, crc: crc32.MakeTable(crc32.Castagnoli), files: map[id]*file{}}
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("beginnings of bundles: %w", err)
	}
	type found struct {
		id
		at time.Time
	}
	var all []found
	for _, e := range entries {
		name, ok := parseName(e.Name())
		info, err := e.Info()
		if ok && err == nil && info.Mode().IsRegular() {
			all = append(all, found{name, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.at.Compare(b.at) })
	for _, f := range all {
		s.adopt(f.id)
	}
	return s, nil
}

// adopt takes a file of an earlier run, without what is damaged at its end.
func (s *Store) adopt(name id) {
	data, size, err := s.read(name)
	if err == nil && len(data) > 0 {
		err = os.Truncate(s.path(name), size)
	}
	if err != nil || len(data) == 0 {
		s.remove(name)
		return
	}
	s.files[name] = &file{have: len(data), size: size, used: s.tick()}
	s.bytes += size
	s.shrink(name)
}

func (s *Store) tick() uint64 { s.ticks++; return s.ticks }

// name is the file of a beginning: its key, and its peer.
func (n id) name() string { return hex.EncodeToString(n.key[:]) + "-" + n.peer.String() + suffix }

func parseName(text string) (n id, ok bool) {
	text, ok = strings.CutSuffix(text, suffix)
	key, peer, cut := strings.Cut(text, "-")
	b, err := hex.DecodeString(key)
	if !ok || !cut || err != nil || len(b) != len(n.key) {
		return n, false
	}
	copy(n.key[:], b)
	return n, n.peer.UnmarshalText([]byte(peer)) == nil && !n.peer.IsZero()
}

func (s *Store) path(n id) string { return filepath.Join(s.cfg.Dir, n.name()) }

// read returns the whole pieces of a file, and where they end.
func (s *Store) read(n id) (data []byte, end int64, err error) {
	raw, err := os.ReadFile(s.path(n))
	if err != nil {
		return nil, 0, err
	}
	for rest := raw; len(rest) >= headSize; {
		length, sum := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		rest = rest[headSize:]
		if length == 0 || length > mostPiece || uint64(length) > uint64(len(rest)) || crc32.Checksum(rest[:length], s.crc) != sum {
			break
		}
		data, rest = append(data, rest[:length]...), rest[length:]
		end = int64(len(raw) - len(rest))
	}
	return data, end, nil
}

// Begun returns what is kept of a peer, newest first.
func (s *Store) Begun(peer addr.Node) []wire.Begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []id
	for n := range s.files {
		if n.peer == peer {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b id) int { return int(int64(s.files[b].used) - int64(s.files[a].used)) })
	out := make([]wire.Begun, len(names))
	for i, n := range names {
		out[i] = wire.Begun{Key: n.key, Have: uint64(s.files[n].have)}
	}
	return out
}

// Read returns the bytes of a beginning, nil when it is not kept.
func (s *Store) Read(peer addr.Node, key wire.PartKey) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := id{peer, key}
	if s.files[n] == nil {
		return nil
	}
	data, _, err := s.read(n)
	if err != nil || len(data) < s.files[n].have { // damaged since
		s.fail(n, "read", err)
		return nil
	}
	return data
}

// Append keeps bytes that begin at an offset of the bundle.
func (s *Store) Append(peer addr.Node, key wire.PartKey, offset int, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := id{peer, key}
	have := 0
	if f := s.files[n]; f != nil {
		have = f.have
	}
	if offset > have || offset+len(data) <= have {
		return // a hole, which cannot be kept; or nothing new
	}
	data = data[have-offset:]
	written, err := s.write(n, data)
	if err != nil {
		s.unwritten(n, err)
		return
	}
	if s.stuck {
		s.stuck = false
		s.cfg.Log.Info("beginnings of bundles are kept again", "dir", s.cfg.Dir, "lost", s.lost)
	}
	if s.files[n] == nil {
		s.files[n] = &file{}
	}
	f := s.files[n]
	f.have, f.size, f.used = f.have+len(data), f.size+written, s.tick()
	s.bytes += written
	s.shrink(n)
}

// write appends pieces to a file.
func (s *Store) write(n id, data []byte) (written int64, err error) {
	f, err := os.OpenFile(s.path(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for piece := range slices.Chunk(data, mostPiece) {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(piece)))
		head = binary.BigEndian.AppendUint32(head, crc32.Checksum(piece, s.crc))
		w, err := f.Write(append(head, piece...))
		if written += int64(w); err != nil {
			return written, err
		}
	}
	return written, nil
}

// Drop forgets a beginning.
func (s *Store) Drop(peer addr.Node, key wire.PartKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(id{peer, key})
}

// Stats are for metrics.
type Stats struct {
	Files     int
	Bytes     int64
	PushedOut uint64 // beginnings that made room for others
	Lost      uint64 // beginnings that could not be written, or read again
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{len(s.files), s.bytes, s.out, s.lost}
}

// shrink makes room: the oldest go, but not the one that just grew.
func (s *Store) shrink(but id) {
	for len(s.files) > 1 && (s.bytes > s.cfg.MaxBytes || len(s.files) > s.cfg.MaxFiles) {
		var oldest id
		for n, f := range s.files {
			if n != but && (oldest == (id{}) || f.used < s.files[oldest].used) {
				oldest = n
			}
		}
		s.forget(oldest)
		s.out++
	}
}

func (s *Store) forget(n id) {
	if f := s.files[n]; f != nil {
		s.bytes -= f.size
		delete(s.files, n)
		s.remove(n)
	}
}

// fail gives a beginning up that cannot be read: it will be sent again.
func (s *Store) fail(n id, what string, err error) {
	s.cfg.Log.Warn("the beginning of a bundle is lost, and will be sent again", "peer", n.peer, "while", what, "err", err)
	s.giveUp(n)
}

// unwritten gives a beginning up that cannot be written. On a disk that is full
// none can, so that is said once, until one was written again.
func (s *Store) unwritten(n id, err error) {
	if !s.stuck {
		s.stuck = true
		s.cfg.Log.Warn("beginnings of bundles cannot be kept: what a link's end interrupts is sent again from its start, until there is room; free space on the disk",
			"dir", s.cfg.Dir, "peer", n.peer, "err", err)
	}
	s.giveUp(n)
}

func (s *Store) giveUp(n id) {
	s.lost++
	s.forget(n)
	s.remove(n)
}

func (s *Store) remove(n id) {
	if err := os.Remove(s.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Log.Warn("the beginning of a bundle cannot be removed", "file", s.path(n), "err", err)
	}
}
