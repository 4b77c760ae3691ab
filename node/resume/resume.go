// Package resume keeps the tickets by which a node comes back to a peer that
// it knows: with them a session begins in the first flight of its handshake,
// over restarts of both ends. A ticket is a secret, so the files are readable
// by their owner alone. Nothing depends on them: without its ticket a session
// takes a round trip more.
//
//	s, err := resume.Open(dir)
//	...
//	link.Config{Tickets: s}
package resume

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/farhop/farhop/crypto/identity"
)

// MaxTickets is how many peers are kept; the one seen longest ago makes room.
const MaxTickets = 1024

const suffix = ".ticket"

// Store keeps one ticket for each address. It is safe for any number of
// goroutines.
type Store struct {
	dir string
	mu  sync.Mutex
}

// Open makes the folder. What is in it is read when it is asked for.
func Open(dir string) (*Store, error) {
	if err := identity.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("tickets of peers: %w", err)
	}
	return &Store{dir: dir}, nil
}

// path names the file of an address, which may hold any character.
func (s *Store) path(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+suffix)
}

// Ticket returns what is kept for an address, nil when there is nothing.
func (s *Store) Ticket(address string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := identity.ReadSecret(s.path(address))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Keep puts a ticket in the place of what was kept; nil forgets it.
func (s *Store) Keep(address string, ticket []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.path(address)
	if ticket == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := s.makeRoom(path); err != nil {
		return err
	}
	return identity.WriteFile(path, ticket)
}

// makeRoom removes the oldest files until one more fits.
func (s *Store) makeRoom(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	type file struct {
		name string
		at   time.Time
	}
	var files []file
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), suffix) {
			files = append(files, file{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return a.at.Compare(b.at) })
	for over := len(files) - MaxTickets; over >= 0; over-- {
		if err := os.Remove(filepath.Join(s.dir, files[0].name)); err != nil {
			return err
		}
		files = files[1:]
	}
	return nil
}
