package demo

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// Sizes of what is sent through the TCP service, bytes each way.
const (
	blobMin = 4 << 10
	blobMax = 12 << 10
	blobCap = 1 << 20 // what a server takes
)

// server answers a connection with its own name and all it was sent.
type server struct {
	name string
	l    net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func newServer(name string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("TCP server of %s: %w", name, err)
	}
	s := &server{name: name, l: l, conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *server) address() string { return s.l.Addr().String() }

// retire takes no more connections; those that stand are served to their end.
func (s *server) retire() { _ = s.l.Close() }

// close ends everything.
func (s *server) close() {
	s.retire()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return // closed: nothing else ends a listener on loopback
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			_ = s.answer(c) // the client notices what is missing
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// answer serves one connection: length (8 bytes) and bytes in; name, newline
// and the same bytes out.
func (s *server) answer(c net.Conn) error {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err // a health check says nothing at all
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > blobCap {
		return fmt.Errorf("%d bytes announced", n)
	}
	blob := make([]byte, n)
	if _, err := io.ReadFull(c, blob); err != nil {
		return err
	}
	_, err := c.Write(append([]byte(s.name+"\n"), blob...))
	return err
}

// survey is the TCP client at luna. It sends blobs, one after the other.
type survey struct {
	addr  string
	light time.Duration
	rnd   *rand.Rand // of run alone

	mu sync.Mutex // guards what follows
	surveyed
}

// surveyed is what the client has seen.
type surveyed struct {
	bytes     int64          // carried, both ways, by exchanges that were completed
	done      map[string]int // completed, by the server that answered
	failovers int            // exchanges answered by another server than the one before
	broken    int            // connections that broke, and were tried again
	unequal   int            // exchanges whose bytes came back different
	last      string         // server of the last exchange
}

func newSurvey(addr string, seed uint64, light time.Duration) *survey {
	return &survey{addr: addr, light: light, rnd: rand.New(rand.NewPCG(seed, 2)), surveyed: surveyed{done: map[string]int{}}}
}

func (s *survey) seen() surveyed {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.surveyed
	out.done = maps.Clone(s.done)
	return out
}

func (s *survey) set(change func(*surveyed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.surveyed)
}

// add counts an exchange in which who sent back what came of blob.
func (s *surveyed) add(who string, blob, back []byte) {
	s.bytes += int64(len(blob)) + int64(len(back))
	if sha256.Sum256(back) != sha256.Sum256(blob) {
		s.unequal++
	}
	if s.last != "" && s.last != who {
		s.failovers++
	}
	s.last = who
	s.done[who]++
}

// complete reports whether both servers have answered.
func (s surveyed) complete() bool { return s.done[earth] > 0 && s.done[relay] > 0 }

// run exchanges blobs until over says that it is enough.
func (s *survey) run(ctx context.Context, pause time.Duration, over func(surveyed) bool, say func(string, ...any)) error {
	for !over(s.seen()) {
		blob := make([]byte, blobMin+s.rnd.IntN(blobMax-blobMin))
		for i := range blob {
			blob[i] = byte(s.rnd.Uint32())
		}
		from := time.Now()
		who, back, err := s.exchange(ctx, blob)
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			s.set(func(seen *surveyed) { seen.broken++ })
			say("TCP: a connection broke (%v); the client tries again", err)
		} else {
			before := s.seen().last
			s.set(func(seen *surveyed) { seen.add(who, blob, back) })
			if before != "" && before != who {
				say("TCP: the service has failed over from %s to %s", before, who)
			}
			say("TCP: %d bytes from luna to %s and back in %s", len(blob), who, seconds(time.Since(from)))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends a blob and returns who sent what back.
func (s *survey) exchange(ctx context.Context, blob []byte) (who string, back []byte, err error) {
	// An application's patience: a dozen round trips, and a long pause.
	ctx, cancel := context.WithTimeoutCause(ctx, 24*s.light+30*time.Second, errors.New("no answer for a minute"))
	defer cancel()
	defer func() { err = cause(ctx, err) }() // before cancel
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if _, err := c.Write(append(binary.BigEndian.AppendUint64(nil, uint64(len(blob))), blob...)); err != nil {
		return "", nil, err
	}
	r := bufio.NewReader(io.LimitReader(c, blobCap))
	if who, err = r.ReadString('\n'); err != nil {
		return "", nil, err
	}
	if back, err = io.ReadAll(r); err != nil {
		return "", nil, err
	}
	if len(back) < len(blob) {
		return "", nil, io.ErrUnexpectedEOF
	}
	return strings.TrimSpace(who), back, nil
}
